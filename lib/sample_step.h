/* SPDX-License-Identifier: MIT */
/* sample_step.h - the inside of a sampler: the kinds of steps and what they see. */
#ifndef SL_SAMPLE_STEP_H
#define SL_SAMPLE_STEP_H

#include "candidates.h"
#include "mem.h"
#include "sample.h"

enum { SL_MAX_STEPS = 32, SL_MAX_PARAMS = 4 };

struct step {
    const struct sample_kind *kind;
    double params[SL_MAX_PARAMS];
    double *list;               /* n_list numbers of a kind that takes a list, else NULL */
    size_t n_list;
    double state;               /* mirostat: mu */
    sl_logits_fn callback;
    void *user;
};

enum parameter_kind { PARAM_REAL, PARAM_WHOLE, PARAM_TOKEN /* an id of the vocabulary */ };
struct parameter { const char *name; double usual, low, high; enum parameter_kind kind; };

#define SL_NEEDS_MARKS 1        /* the sampler's marks */
#define SL_NEEDS_ROW 2          /* the sampler's row */

/* One kind of step. `run` finds at least one candidate and may leave none. */
struct sample_kind {
    const char *name;
    sl_status (*run)(sl_sampler *sampler, struct candidates *c, struct step *step);
    struct parameter params[SL_MAX_PARAMS];     /* name NULL: the step has fewer. A list repeats them */
    int needs, window, is_list;                 /* SL_NEEDS_...; 1 + index of the parameter that says how far back it looks, or 0 */
    /* The state at the start, and after a choice that had `surprise` bits among what the chain left. NULL: there is none. */
    double (*begin)(const struct step *step);
    double (*next)(const struct step *step, double surprise);
};

/* Kinds by index, in the order of the table; NULL past the end. */
const struct sample_kind *sl_sample_kind(size_t index);
extern const struct sample_kind sl_sample_callback;

/* Tokens that were accepted, as far back as a step looks. */
struct sample_history {
    sl_token *tokens;           /* [2 * window], the last n of all: moved to the front when the room ends */
    uint32_t *matches;          /* [window], for dry */
    uint32_t n, window;
};

struct sl_sampler {
    sl_mem mem;
    uint32_t n_vocab;
    uint32_t n_steps;
    uint64_t generator[4];      /* generator.h */
    uint64_t *keys;             /* n_vocab */
    uint32_t *marks;            /* n_vocab, all 0 between steps; NULL while no step needs it */
    float *row;                 /* n_vocab; NULL while no step needs it */
    uint8_t *breakers;          /* n_vocab, 1: no repetition is looked for beyond this token; NULL: there is none */
    struct sample_history history;
    uint64_t host_fp;           /* floating-point state of the caller, for callbacks */
    struct step steps[SL_MAX_STEPS];
};

/* Makes the history reach back so far, with what is known of it. On failure nothing changes. */
sl_status sl_sampler_look_back(sl_sampler *sampler, uint32_t window);

/* Steps that look at tokens by id (sample_history.c). */
sl_status sl_step_penalties(sl_sampler *sampler, struct candidates *c, struct step *step);
sl_status sl_step_dry(sl_sampler *sampler, struct candidates *c, struct step *step);
sl_status sl_step_logit_bias(sl_sampler *sampler, struct candidates *c, struct step *step);

#endif
