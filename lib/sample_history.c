/* SPDX-License-Identifier: MIT */
/* sample_history.c - what was accepted so far, and the steps that change the logits of single tokens: penalties, dry, logit bias.
 *
 * Such a step marks tokens with a number other than 0 and then visits the candidates once; marks are 0 again when it ends. */
#include "sample_step.h"

#include <string.h>

/* ---- history ---- */

static void push(struct sample_history *h, const sl_token *ids, size_t n)
{
    if (n > h->window) {
        ids += n - h->window;
        n = h->window;
    }
    if (n > 2 * (size_t)h->window - h->n) {     /* what stays in sight, and room for as many more */
        const uint32_t stay = h->window - (uint32_t)n < h->n ? h->window - (uint32_t)n : h->n;
        memmove(h->tokens, h->tokens + h->n - stay, stay * sizeof *h->tokens);
        h->n = stay;
    }
    if (n)
        memcpy(h->tokens + h->n, ids, n * sizeof *ids);
    h->n += (uint32_t)n;
}

sl_status sl_sampler_accept(sl_sampler *sampler, const sl_token *ids, size_t n_ids)
{
    if (!sampler || (n_ids && !ids))
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0)
            return sl_fail(SL_ERR_RANGE, "sampler: token %d", (int)ids[i]);
    push(&sampler->history, ids, n_ids);
    return SL_OK;
}

void sl_sampler_follow(sl_sampler *sampler, const sl_token *ids, size_t n)
{
    sampler->history.n = 0;
    push(&sampler->history, ids, n);
}

sl_status sl_sampler_look_back(sl_sampler *sampler, uint32_t window)
{
    struct sample_history *h = &sampler->history, wider = { .window = window };
    if (window <= h->window)
        return SL_OK;
    wider.tokens = sl_mem_alloc(&sampler->mem, 2 * (size_t)window, sizeof *wider.tokens);
    wider.matches = sl_mem_alloc(&sampler->mem, window, sizeof *wider.matches);
    if (!wider.tokens || !wider.matches) {
        sl_mem_free(&sampler->mem, wider.tokens);
        sl_mem_free(&sampler->mem, wider.matches);
        return SL_ERR_NOMEM;
    }
    push(&wider, h->tokens, h->n);
    sl_mem_free(&sampler->mem, h->tokens);
    sl_mem_free(&sampler->mem, h->matches);
    *h = wider;
    return SL_OK;
}

/* The last tokens, oldest first, at most `most`. */
static const sl_token *last(const sl_sampler *sampler, double most, uint32_t *n)
{
    const struct sample_history *h = &sampler->history;
    *n = most < (double)h->n ? (uint32_t)most : h->n;
    return *n ? h->tokens + (h->n - *n) : NULL;
}

/* Ids that the vocabulary lacks (those of pictures) only take their places. */
static int is_known(const sl_sampler *sampler, sl_token id) { return (uint32_t)id < sampler->n_vocab; }

/* ---- changing logits ---- */

typedef double (*change_fn)(const struct step *step, double logit, uint32_t mark);

/* A changed logit is stored as a float again, a finite one; with -infinity the candidate is removed. Candidates lose their order. */
static void change(sl_sampler *sampler, struct candidates *c, const struct step *step, change_fn fn)
{
    uint32_t n = 0;
    uint64_t best = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        uint64_t key = c->keys[i];
        const sl_token id = key_id(key);
        const uint32_t mark = sampler->marks[id];
        if (mark) {
            const double changed = fn(step, (double)key_logit(key) / c->divisor, mark);
            if (changed < -0x1.fffffffffffffp1023)
                continue;
            double x = changed * c->divisor;
            x = x < -0x1.fffffep127 ? -0x1.fffffep127 : x > 0x1.fffffep127 ? 0x1.fffffep127 : x;
            key = make_key((float)x, (uint32_t)id);
        }
        best = key > best ? key : best;
        c->keys[n++] = key;
    }
    c->n = n;
    c->sorted = 0;
    c->heap = 0;
    c->best = best;
}

/* ---- penalties: last_n, repeat, frequency, presence ---- */

static double penalize(const struct step *step, double logit, uint32_t count)
{
    const double repeat = step->params[1];
    return (logit > 0.0 ? logit / repeat : logit * repeat) - ((double)count * step->params[2] + step->params[3]);
}

sl_status sl_step_penalties(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    uint32_t n;
    const sl_token *ids = last(sampler, step->params[0], &n);
    if (!n || (step->params[1] == 1.0 && step->params[2] == 0.0 && step->params[3] == 0.0))
        return SL_OK;
    for (uint32_t i = 0; i < n; i++)
        if (is_known(sampler, ids[i]))
            sampler->marks[ids[i]]++;
    change(sampler, c, step, penalize);
    for (uint32_t i = 0; i < n; i++)
        if (is_known(sampler, ids[i]))
            sampler->marks[ids[i]] = 0;
    return SL_OK;
}

/* ---- dry: multiplier, base, allowed_length, last_n ---- */

/* By squaring: the same roundings everywhere. */
static double power(double base, uint32_t exponent)
{
    double result = 1.0;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}

static double dry_penalty(const struct step *step, double logit, uint32_t length)
{
    const double penalty = step->params[0] * power(step->params[1], length - (uint32_t)step->params[2]);
    return logit - (penalty < 1e300 ? penalty : 1e300);
}

static int is_breaker(const sl_sampler *sampler, sl_token id) { return sampler->breakers && is_known(sampler, id) && sampler->breakers[id]; }

/* matches[k]: how many tokens up to and including the k-th from the end are the last ones of all, for k from 1; the Z function of the tokens
 * read backwards. Linear: [left, right) is the match that reaches furthest, and what lies inside it was compared before. */
static void find_matches(const sl_token *ids, uint32_t n, uint32_t *matches)
{
    uint32_t left = 0, right = 0;
    for (uint32_t k = 1; k < n; k++) {
        uint32_t length = 0;
        if (k < right)
            length = matches[k - left] < right - k ? matches[k - left] : right - k;
        while (k + length < n && ids[n - 1 - length] == ids[n - 1 - k - length])
            length++;
        matches[k] = length;
        if (k + length > right) {
            left = k;
            right = k + length;
        }
    }
}

/* Marks what followed earlier matches with the length of the longest; only those from allowed_length on count. */
sl_status sl_step_dry(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    uint32_t n, unbroken = 0, found = 0, *matches = sampler->history.matches;
    const sl_token *ids = last(sampler, step->params[3], &n);
    while (unbroken < n && !is_breaker(sampler, ids[n - 1 - unbroken]))
        unbroken++;
    if (step->params[0] <= 0.0 || (double)unbroken < step->params[2])
        return SL_OK;
    find_matches(ids, n, matches);
    for (uint32_t k = 1; k < n; k++) {
        const uint32_t length = matches[k] < unbroken ? matches[k] : unbroken;
        const sl_token next = ids[n - k];
        if ((double)length < step->params[2] || !is_known(sampler, next) || is_breaker(sampler, next) || length <= sampler->marks[next])
            continue;
        sampler->marks[next] = length;
        found = 1;
    }
    if (found)
        change(sampler, c, step, dry_penalty);
    for (uint32_t i = 0; i < n; i++)
        if (is_known(sampler, ids[i]))
            sampler->marks[ids[i]] = 0;
    return SL_OK;
}

/* ---- logit bias: a list of id, bias ---- */

static double add_bias(const struct step *step, double logit, uint32_t mark) { return logit + step->list[2 * (size_t)mark - 1]; }

sl_status sl_step_logit_bias(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    for (size_t i = 0; i < step->n_list; i += 2)
        sampler->marks[(uint32_t)step->list[i]] = (uint32_t)(i / 2 + 1);      /* of several for one token the last counts */
    if (step->n_list)
        change(sampler, c, step, add_bias);
    for (size_t i = 0; i < step->n_list; i += 2)
        sampler->marks[(uint32_t)step->list[i]] = 0;
    return SL_OK;
}
