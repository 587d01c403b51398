/* SPDX-License-Identifier: MIT */
/* sample.c - chains of sampling steps.
 *
 * A draw is the high half of total weight x one number of the generator, walked down from the most likely candidate (candidates.h). Whatever
 * a call changes it changes at its end: a call that fails leaves generator, history and steps as they were. */
#include "fpenv.h"
#include "generator.h"
#include "params.h"
#include "sample_step.h"

/* ---- the handle ---- */

uint32_t sl_sampler_vocab(const sl_sampler *sampler) { return sampler->n_vocab; }

const char *sl_sampler_name(size_t index)
{
    const struct sample_kind *kind = sl_sample_kind(index);
    return kind ? kind->name : NULL;
}

sl_status sl_sampler_create(sl_sampler **out, uint32_t n_vocab, uint64_t seed, const sl_allocator *allocator)
{
    if (!out)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    *out = NULL;
    if (!n_vocab)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: a vocabulary of no tokens");
    if (n_vocab > SL_LIMIT_VOCABULARY)
        return sl_fail(SL_ERR_LIMIT, "sampler: %u tokens, at most %d", (unsigned)n_vocab, SL_LIMIT_VOCABULARY);
    sl_mem mem;
    SL_TRY(sl_allocator_read(&mem, allocator));
    sl_sampler *sampler = sl_mem_alloc(&mem, 1, sizeof *sampler);
    if (!sampler)
        return SL_ERR_NOMEM;
    sampler->mem = mem;
    sampler->n_vocab = n_vocab;
    sampler->keys = sl_mem_alloc(&mem, n_vocab, sizeof *sampler->keys);
    if (!sampler->keys) {
        sl_mem_free(&mem, sampler);
        return SL_ERR_NOMEM;
    }
    sl_random_seed(sampler->generator, seed);
    *out = sampler;
    return SL_OK;
}

void sl_sampler_free(sl_sampler *sampler)
{
    if (!sampler)
        return;
    sl_mem mem = sampler->mem;
    for (uint32_t i = 0; i < sampler->n_steps; i++)
        sl_mem_free(&mem, sampler->steps[i].list);
    sl_mem_free(&mem, sampler->history.matches);
    sl_mem_free(&mem, sampler->history.tokens);
    sl_mem_free(&mem, sampler->breakers);
    sl_mem_free(&mem, sampler->row);
    sl_mem_free(&mem, sampler->marks);
    sl_mem_free(&mem, sampler->keys);
    sl_mem_free(&mem, sampler);
}

/* ---- adding steps ---- */

static sl_status read_parameter(const sl_sampler *sampler, const struct sample_kind *kind, size_t index, double value, double *to)
{
    const struct parameter *p = &kind->params[index];
    if (!(value >= p->low && value <= p->high) || (p->kind == PARAM_TOKEN && value >= (double)sampler->n_vocab))     /* NaN fails both */
        return sl_fail(SL_ERR_RANGE, "sampler: %s: %s is out of range", kind->name, p->name);
    if (p->kind != PARAM_REAL && value != (double)(int64_t)value)
        return sl_fail(SL_ERR_RANGE, "sampler: %s: %s is not a whole number", kind->name, p->name);
    *to = value;
    return SL_OK;
}

static sl_status read_list(const sl_sampler *sampler, struct step *step, const double *params, size_t n_params, size_t group)
{
    if (n_params % group)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: %s takes its parameters by %zu, not %zu", step->kind->name, group, n_params);
    if (n_params / group > sampler->n_vocab)
        return sl_fail(SL_ERR_LIMIT, "sampler: %s: %zu entries for %u tokens", step->kind->name, n_params / group, (unsigned)sampler->n_vocab);
    step->list = sl_mem_alloc(&sampler->mem, n_params, sizeof *step->list);
    if (!step->list)
        return SL_ERR_NOMEM;
    step->n_list = n_params;
    for (size_t i = 0; i < n_params; i++)
        SL_TRY(read_parameter(sampler, step->kind, i % group, params[i], &step->list[i]));
    return SL_OK;
}

static sl_status read_parameters(const sl_sampler *sampler, struct step *step, const double *params, size_t n_params)
{
    const struct sample_kind *kind = step->kind;
    size_t known = 0;
    while (known < SL_MAX_PARAMS && kind->params[known].name)
        known++;
    if (kind->is_list)
        return read_list(sampler, step, params, n_params, known);
    if (n_params > known)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: %s takes %zu parameters, not %zu", kind->name, known, n_params);
    for (size_t i = 0; i < known; i++)
        SL_TRY(read_parameter(sampler, kind, i, i < n_params ? params[i] : kind->params[i].usual, &step->params[i]));
    return SL_OK;
}

/* The room that steps of this kind share. What was taken stays when the rest fails: the next step uses it. */
static sl_status take_room(sl_sampler *sampler, const struct step *step)
{
    const struct sample_kind *kind = step->kind;
    if (kind->needs & SL_NEEDS_MARKS && !sampler->marks && !(sampler->marks = sl_mem_alloc(&sampler->mem, sampler->n_vocab, sizeof *sampler->marks)))
        return SL_ERR_NOMEM;
    if (kind->needs & SL_NEEDS_ROW && !sampler->row && !(sampler->row = sl_mem_alloc(&sampler->mem, sampler->n_vocab, sizeof *sampler->row)))
        return SL_ERR_NOMEM;
    return kind->window ? sl_sampler_look_back(sampler, (uint32_t)step->params[kind->window - 1]) : SL_OK;
}

static sl_status append(sl_sampler *sampler, struct step *step, const double *params, size_t n_params)
{
    if (sampler->n_steps == SL_MAX_STEPS)
        return sl_fail(SL_ERR_LIMIT, "sampler: more than %d steps", SL_MAX_STEPS);
    sl_status status = read_parameters(sampler, step, params, n_params);
    if (status == SL_OK)
        status = take_room(sampler, step);
    if (status != SL_OK) {
        sl_mem_free(&sampler->mem, step->list);
        return status;
    }
    step->state = step->kind->begin ? step->kind->begin(step) : 0.0;
    sampler->steps[sampler->n_steps++] = *step;
    return SL_OK;
}

sl_status sl_sampler_add(sl_sampler *sampler, const char *name, const double *params, size_t n_params)
{
    if (!sampler || !name || (n_params && !params))
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    struct step step = { .kind = NULL };
    for (size_t i = 0; (step.kind = sl_sample_kind(i)) != NULL && strcmp(step.kind->name, name) != 0; i++)
        continue;
    if (!step.kind) {
        char quoted[SL_QUOTE_BYTES];
        return sl_fail(SL_ERR_UNSUPPORTED, "sampler: no step is called \"%s\"", sl_quote(quoted, name, strlen(name)));
    }
    return append(sampler, &step, params, n_params);
}

sl_status sl_sampler_add_callback(sl_sampler *sampler, sl_logits_fn callback, void *user)
{
    if (!sampler || !callback)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    struct step step = { .kind = &sl_sample_callback, .callback = callback, .user = user };
    return append(sampler, &step, NULL, 0);
}

/* ---- choosing ---- */

/* Candidates after the whole chain; an empty one keeps the best only. */
static sl_status run_chain(sl_sampler *sampler, const float *logits, struct candidates *c)
{
    SL_TRY(sl_candidates_collect(c, sampler->keys, logits, sampler->n_vocab));
    for (uint32_t i = 0; i < sampler->n_steps; i++) {
        struct step *step = &sampler->steps[i];
        SL_TRY(step->kind->run(sampler, c, step));
        if (!c->n)
            return sl_candidates_none();
    }
    if (!sampler->n_steps)
        sl_candidates_keep(c, 1);
    return SL_OK;
}

/* Tells the steps that keep a state, and the history, what was chosen. */
static void learn(sl_sampler *sampler, const struct candidates *c, uint64_t key, uint64_t total)
{
    const double bits = sl_log2((double)total) - SL_WEIGHT_BITS;
    const double surprise = bits + deficit(c, key) * 0x1.71547652b82fep+0;
    const sl_token id = key_id(key);
    for (uint32_t i = 0; i < sampler->n_steps; i++) {
        struct step *step = &sampler->steps[i];
        if (step->kind->next)
            step->state = step->kind->next(step, surprise);
    }
    sl_sampler_accept(sampler, &id, 1);
}

/* High 64 bits of a * b. */
static uint64_t multiply_high(uint64_t a, uint64_t b)
{
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t middle = ah * bl + ((al * bl) >> 32);
    return ah * bh + (middle >> 32) + ((al * bh + (uint32_t)middle) >> 32);
}

static sl_status draw(sl_sampler *sampler, const float *logits, sl_token *id)
{
    struct candidates c;
    SL_TRY(run_chain(sampler, logits, &c));
    /* One number per token, also when there is no choice: what was drawn before never shifts what comes after. */
    const uint64_t total = sl_candidates_total(&c);
    uint64_t left = multiply_high(total, sl_random_next(sampler->generator));
    uint32_t i = 0;
    for (uint64_t w; i + 1 < c.n && left >= (w = weight(&c, sl_candidates_nth(&c, i))); i++)
        left -= w;
    const uint64_t key = sl_candidates_nth(&c, i);
    learn(sampler, &c, key, total);
    *id = key_id(key);
    return SL_OK;
}

sl_status sl_sampler_sample(sl_sampler *sampler, const float *logits, sl_token *id)
{
    if (!sampler || !logits || !id)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    if (!sampler->n_steps)
        return sl_sample_greedy(logits, sampler->n_vocab, id);
    uint64_t before[4];
    memcpy(before, sampler->generator, sizeof before);
    sampler->host_fp = sl_fp_enter();
    sl_status status = draw(sampler, logits, id);
    sl_fp_set(sampler->host_fp);
    if (status != SL_OK)
        memcpy(sampler->generator, before, sizeof before);
    return status;
}

sl_status sl_sample_next(sl_sampler *sampler, float *logits, uint32_t n_vocab, sl_token image, sl_token *id)
{
    if (image >= 0 && (uint32_t)image < n_vocab)
        logits[image] = sl_float(0xff800000u);      /* -inf */
    return sampler ? sl_sampler_sample(sampler, logits, id) : sl_sample_greedy(logits, n_vocab, id);
}

static sl_status list(sl_sampler *sampler, const float *logits, sl_token *ids, float *probs, size_t capacity, size_t *n)
{
    struct candidates c;
    SL_TRY(run_chain(sampler, logits, &c));
    double total = (double)sl_candidates_total(&c) / (double)(UINT64_C(1) << SL_WEIGHT_BITS);
    for (uint32_t i = 0; i < c.n && i < capacity; i++) {
        uint64_t key = sl_candidates_nth(&c, i);
        ids[i] = key_id(key);
        probs[i] = (float)(ratio(&c, key) / total);
    }
    *n = c.n;
    return c.n <= capacity ? SL_OK : sl_fail(SL_ERR_BUFFER, "sampler: %u candidates, room for %zu", (unsigned)c.n, capacity);
}

sl_status sl_sampler_candidates(sl_sampler *sampler, const float *logits, sl_token *ids, float *probs, size_t capacity, size_t *n)
{
    if (!sampler || !logits || !n || (capacity && (!ids || !probs)))
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    uint64_t before[4];
    memcpy(before, sampler->generator, sizeof before);      /* a look takes nothing from it */
    sampler->host_fp = sl_fp_enter();
    sl_status status = list(sampler, logits, ids, probs, capacity, n);
    sl_fp_set(sampler->host_fp);
    memcpy(sampler->generator, before, sizeof before);
    return status;
}

sl_status sl_sampler_reset(sl_sampler *sampler, uint64_t seed)
{
    if (!sampler)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    sl_random_seed(sampler->generator, seed);
    sampler->history.n = 0;
    for (uint32_t i = 0; i < sampler->n_steps; i++)
        if (sampler->steps[i].kind->begin)
            sampler->steps[i].state = sampler->steps[i].kind->begin(&sampler->steps[i]);
    return SL_OK;
}
