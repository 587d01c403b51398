/* SPDX-License-Identifier: MIT */
/* answer.h - from tokens to text, as generate and describe do it: options of choosing, the text as it comes, and what is told about it. */
#ifndef ANSWER_H
#define ANSWER_H

#include "common.h"

/* Steps of sampling that take several numbers, in the order of the chain; the plain ones stand in between (answer.c). */
enum chain_step { CHAIN_PENALTIES, CHAIN_DRY, CHAIN_TOP_N_SIGMA, CHAIN_TYPICAL, CHAIN_XTC, CHAIN_DYNATEMP, CHAIN_MIROSTAT, CHAIN_MIROSTAT_V2, CHAIN_STEPS };

struct choosing {
    uint64_t n_tokens, top_k, seed, lookup;
    double temp, top_p, min_p;
    struct numbers steps[CHAIN_STEPS];
    struct list biases, breakers;
};
#define CHOOSING_DEFAULT { .n_tokens = 128, .top_p = 1.0 }
#define CHOOSING_OPTIONS(c)                                                                                                 \
    { "-n", "N", "tokens to make (128)", OPTION_WHOLE, &(c).n_tokens, 1, INT32_MAX },                                       \
    { "--temp", "T", "temperature (0: always the most likely token)", OPTION_REAL, &(c).temp, 0.0, 1e6 },                   \
    { "--top-k", "K", "choose among the K most likely tokens (0: all)", OPTION_WHOLE, &(c).top_k, 0, INT32_MAX },           \
    { "--top-p", "P", "choose among the most likely that sum to P (1: all)", OPTION_REAL, &(c).top_p, 0.0, 1.0 },           \
    { "--min-p", "P", "choose among those at least P times as likely as the first", OPTION_REAL, &(c).min_p, 0.0, 1.0 },    \
    { "--logit-bias", "ID,B", "add B to the logit of token ID (-inf: never); give it once for each", OPTION_LIST, &(c).biases }, \
    { "--penalties", "LIST", "on the last N tokens: N, repeat, frequency, presence (64,1.1,0,0)", OPTION_NUMBERS, &(c).steps[CHAIN_PENALTIES] }, \
    { "--dry", "LIST", "on repetitions: multiplier, base, allowed length, last tokens (0.8,1.75,2,1024)", OPTION_NUMBERS, &(c).steps[CHAIN_DRY] }, \
    { "--dry-breaker", "TEXT", "ends repetitions, instead of newline : \" *; once for each (\"\": none)", OPTION_LIST, &(c).breakers }, \
    { "--top-n-sigma", "N", "choose among logits within N deviations of the largest", OPTION_NUMBERS, &(c).steps[CHAIN_TOP_N_SIGMA] }, \
    { "--typical", "P", "choose among the most typical that sum to P (1: all)", OPTION_NUMBERS, &(c).steps[CHAIN_TYPICAL] }, \
    { "--xtc", "LIST", "leave out the most likely: probability, threshold (0.5,0.1)", OPTION_NUMBERS, &(c).steps[CHAIN_XTC] }, \
    { "--dynatemp", "LIST", "temperature from T - delta to T + delta, by the entropy: delta, exponent (0.5,1)", OPTION_NUMBERS, &(c).steps[CHAIN_DYNATEMP] }, \
    { "--mirostat", "LIST", "keep the surprise near tau bits: tau, eta, m (5,0.1,100)", OPTION_NUMBERS, &(c).steps[CHAIN_MIROSTAT] }, \
    { "--mirostat-v2", "LIST", "the same, second version: tau, eta (5,0.1)", OPTION_NUMBERS, &(c).steps[CHAIN_MIROSTAT_V2] }, \
    { "--lookup", "N", "expect up to N tokens that followed the same words before (0: off)", OPTION_WHOLE, &(c).lookup, 0, 64 }, \
    { "--seed", "S", "start of the random numbers (0)", OPTION_WHOLE, &(c).seed, 0, (double)UINT64_MAX }

/* The text goes to stdout as it comes (`show`), or is kept, to be printed at the end (`keep`), or both. */
struct answer {
    int show, keep;
    int cancelled;
    int error;              /* errno of what failed, or 0 */
    char *text;
    size_t length, room;
    sl_token *ids;          /* every token made but an ending one */
    size_t n_ids, id_room;
    sl_generate_result result;
};

/* The ids of a conversation of one message of the user, in the model's chat format or the one named: pictures (NULL: none), then the text. Free them. */
sl_token *encode_message(const sl_model *model, const char *format, const struct pictures *pictures, const char *text, size_t length, size_t *n);
/* A session with room for the prompt's n tokens and those to make, and for no less than 4096, as far as the model goes. */
sl_session *open_session_for(sl_model *model, const struct settings *s, size_t n, const struct choosing *c);
/* The chain of the steps that were asked for; NULL: greedy, which needs none. Wrong numbers end the program. Free it. */
sl_sampler *make_sampler(const sl_model *model, const struct choosing *c);
/* Appends the prompt and generates into *a, whose show and keep are set; a failure of the output ends the program. */
sl_status try_answer(sl_session *session, const sl_token *ids, size_t n, const struct choosing *c, sl_sampler *sampler, struct answer *a);
struct answer make_answer(sl_session *session, const sl_token *ids, size_t n, const struct choosing *c, int keep);     /* free it */
void print_json_answer(const struct answer *a);     /* members of an object */
void print_times(const struct answer *a, const sl_session *session);    /* to stderr */
void free_answer(struct answer *a);

#endif
