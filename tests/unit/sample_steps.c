/* SPDX-License-Identifier: MIT */
/* sample_steps.c - the steps that look at likelihood alone: random chains of them, in any order, against plain definitions in libm's arithmetic; rows worked out by
 * hand where tokens are equally likely; and what a step may not do: disturb the state when a call fails or only looks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "sample_step.h"

struct given { const char *name; double params[4]; size_t n; };

static sl_sampler *make(uint32_t n_vocab, uint64_t seed, const struct given *steps, size_t n)
{
    sl_sampler *s;
    assert_int_equal(sl_sampler_create(&s, n_vocab, seed, NULL), SL_OK);
    for (size_t i = 0; i < n && steps[i].name; i++)
        assert_int_equal(sl_sampler_add(s, steps[i].name, steps[i].params, steps[i].n), SL_OK);
    return s;
}

/* ---- plain definitions ---- */

enum { N = 600 };

/* Candidates in order, with their logits after temperatures. */
struct plain { size_t n, width, n_vocab; sl_token ids[N]; double x[N], p[N]; };

static void softmax(struct plain *c)
{
    double sum = 0;
    for (size_t i = 0; i < c->n; i++)
        sum += c->p[i] = exp(c->x[i] - c->x[0]);
    for (size_t i = 0; i < c->n; i++)
        c->p[i] /= sum;
}

static double entropy(const struct plain *c)
{
    double sum = 0;
    for (size_t i = 0; i < c->n; i++)
        sum -= c->p[i] > 0 ? c->p[i] * log(c->p[i]) : 0;
    return sum;
}

static void keep(struct plain *c, size_t from, size_t to)
{
    if (from || to < c->n)
        c->width = to - from;
    memmove(c->ids, c->ids + from, (to - from) * sizeof *c->ids);
    memmove(c->x, c->x + from, (to - from) * sizeof *c->x);
    c->n = to - from;
}

static void divide(struct plain *c, double t)
{
    if (t <= 0)
        keep(c, 0, 1);
    for (size_t i = 0; i < c->n && t > 0; i++)
        c->x[i] /= t;
}

static void plain_temp(struct plain *c, const double *a) { divide(c, a[0]); }

static void plain_dynatemp(struct plain *c, const double *a)
{
    const double low = a[0] > a[1] ? a[0] - a[1] : 0, share = c->width > 1 ? entropy(c) / log((double)c->width) : 0;
    divide(c, a[1] > 0 && c->width > 1 ? low + (a[0] + a[1] - low) * pow(share, a[2]) : a[0]);
}

static void plain_top_k(struct plain *c, const double *a) { keep(c, 0, a[0] > 0 && a[0] < (double)c->n ? (size_t)a[0] : c->n); }

static void plain_top_p(struct plain *c, const double *a)
{
    size_t n = 0;
    for (double sum = 0; n < c->n && (n < 1 || n < a[1] || sum < a[0]); n++)
        sum += c->p[n];
    keep(c, 0, n);
}

static void plain_min_p(struct plain *c, const double *a)
{
    size_t n = 0;
    while (n < c->n && (n < 1 || n < a[1] || c->p[n] >= a[0] * c->p[0]))
        n++;
    keep(c, 0, n);
}

/* By the definition: sort all by the distance of their surprise from the entropy. */
static void plain_typical(struct plain *c, const double *a)
{
    const double h = entropy(c);
    size_t n = 0, from = c->n, to = 0;
    char taken[N] = { 0 };
    for (double sum = 0; n < c->n && (n < 1 || n < a[1] || sum <= a[0]); n++) {
        size_t best = c->n;
        for (size_t i = 0; i < c->n; i++)
            if (!taken[i] && (best == c->n || fabs(-log(c->p[i]) - h) < fabs(-log(c->p[best]) - h)))
                best = i;
        taken[best] = 1;
        sum += c->p[best];
        from = best < from ? best : from;
        to = best + 1 > to ? best + 1 : to;
    }
    assert_int_equal(to - from, n);
    keep(c, from, to);
}

static void plain_top_n_sigma(struct plain *c, const double *a)
{
    double mean = 0, square = 0;
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++)
        mean += c->x[i] / (double)c->n;
    for (size_t i = 0; i < c->n; i++)
        square += (c->x[i] - mean) * (c->x[i] - mean) / (double)c->n;
    while (n < c->n && c->x[n] >= c->x[0] - a[0] * sqrt(square))
        n++;
    if (a[0] > 0)
        keep(c, 0, n);
}

static void plain_xtc(struct plain *c, const double *a)
{
    size_t n = 0;
    while (n < c->n && c->p[n] >= a[1])
        n++;
    if (a[0] > 0 && a[1] <= 0.5 && n >= 2 && (double)(c->n - (n - 1)) >= a[2])
        keep(c, n - 1, c->n);
}

static void plain_mirostat(struct plain *c, const double *a)
{
    double tb = 0, tt = 0;
    if (c->n < 2)
        return;
    for (size_t i = 0; i + 1 < c->n && (double)i + 1 < a[2]; i++) {
        const double t = log((double)(i + 2) / (double)(i + 1));
        tb += t * log(c->p[i] / c->p[i + 1]);
        tt += t * t;
    }
    const double s = tb / tt, e = s - 1, k = pow(e * exp2(2 * a[0]) / (1 - pow((double)c->n_vocab, -e)), 1 / s);
    keep(c, 0, k < 1 ? 1 : k < (double)c->n ? (size_t)k : c->n);
}

static void plain_mirostat_v2(struct plain *c, const double *a)
{
    size_t n = 0;
    while (n < c->n && (n < 1 || -log2(c->p[n]) <= 2 * a[0]))
        n++;
    keep(c, 0, n);
}

static uint32_t lcg(uint32_t *x) { return *x = *x * 1664525u + 1013904223u; }
static double uniform(uint32_t *x) { return (double)(lcg(x) >> 8) * 0x1p-24; }

/* The i-th kind with some parameters. */
enum { KINDS = 10 };
static struct given any_step(uint32_t *x, uint32_t n_vocab, void (**plain)(struct plain *, const double *))
{
    const double u = uniform(x), v = uniform(x), least = (double)(lcg(x) >> 29);
    const struct { struct given step; void (*plain)(struct plain *, const double *); } rows[KINDS] = {
        { { "temp", { 0.3 + 1.5 * u }, 1 }, plain_temp },
        { { "dynatemp", { 0.3 + u, v, 0.3 + 2 * u * v }, 3 }, plain_dynatemp },
        { { "top-k", { floor(2 * u * n_vocab) }, 1 }, plain_top_k },
        { { "top-p", { 0.1 + 0.9 * u, least }, 2 }, plain_top_p },
        { { "min-p", { u * u * u * u, least }, 2 }, plain_min_p },
        { { "typical", { 0.1 + 0.9 * u, least }, 2 }, plain_typical },
        { { "top-n-sigma", { 3 * u - 0.3 }, 1 }, plain_top_n_sigma },
        { { "xtc", { (double)(lcg(x) >> 31), 0.6 * v * v, least }, 3 }, plain_xtc },
        { { "mirostat", { 0.5 + 4 * u, 0.1, 2 + floor(60 * v) }, 3 }, plain_mirostat },
        { { "mirostat-v2", { 0.5 + 5 * u, 0.1 }, 2 }, plain_mirostat_v2 },
    };
    const uint32_t i = (lcg(x) >> 16) % KINDS;
    *plain = rows[i].plain;
    return rows[i].step;
}

static void order(struct plain *c, const float *logits, uint32_t n_vocab)
{
    c->n = 0;
    c->width = c->n_vocab = n_vocab;
    for (uint32_t i = 0; i < n_vocab; i++) {
        size_t at = c->n;
        if (logits[i] == -INFINITY)
            continue;
        for (; at && c->x[at - 1] < (double)logits[i]; at--) {
            c->x[at] = c->x[at - 1];
            c->ids[at] = c->ids[at - 1];
        }
        c->x[at] = (double)logits[i];
        c->ids[at] = (sl_token)i;
        c->n++;
    }
}

static void chains_in_any_order_agree_with_the_definitions(void **state)
{
    (void)state;
    static struct plain plain;
    static float logits[N], probs[N];
    static sl_token ids[N];
    uint32_t x = 7;
    for (int round = 0; round < 1500; round++) {
        const uint32_t n_vocab = 1 + (lcg(&x) >> 8) % N, n_steps = 1 + (lcg(&x) >> 8) % 5;
        const double spread = 1 + 20 * uniform(&x);
        size_t n;
        char named[6] = "";
        sl_sampler *s = make(n_vocab, 0, NULL, 0);
        for (uint32_t i = 0; i < n_vocab; i++)
            logits[i] = i && lcg(&x) >> 29 == 0 ? -INFINITY : (float)(spread * (uniform(&x) + uniform(&x) * uniform(&x)) - 10);
        order(&plain, logits, n_vocab);
        for (uint32_t k = 0; k < n_steps; k++) {
            void (*run)(struct plain *, const double *);
            const struct given step = any_step(&x, n_vocab, &run);
            named[k] = *step.name;
            assert_int_equal(sl_sampler_add(s, step.name, step.params, step.n), SL_OK);
            softmax(&plain);
            run(&plain, step.params);
        }
        softmax(&plain);
        assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, N, &n), SL_OK);
        if (n != plain.n)
            fail_msg("round %d, steps %s: %zu instead of %zu", round, named, n, plain.n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ids[i], plain.ids[i]);
            assert_true(fabs((double)probs[i] - plain.p[i]) <= 2e-6);
        }
        sl_sampler_free(s);
    }
}

/* ---- by hand ---- */

#define X (-INFINITY)
static const struct by_hand { struct given steps[2]; float logits[8]; size_t n; sl_token ids[8]; } by_hand[] = {
    /* of equals the lower ids, on both sides of the entropy: p = 1/4, 1/4, 1/4, 1/12 x 3, surprise 1.39 and 2.48, entropy 1.66 */
    { { { "typical", { 0.3 }, 1 } }, { X, 1, 1, 1, -0.0986123f, -0.0986123f, -0.0986123f, X }, 2, { 1, 2 } },
    { { { "typical", { 0.1 }, 1 } }, { 0, 0, 0, 0, 0, 0, 0, 0 }, 1, { 0 } },
    { { { "typical", { 0.1, 3 }, 2 } }, { 0, 0, 0, 0, 0, 0, 0, 0 }, 3, { 0, 1, 2 } },
    /* one token far above four: entropy below their surprise, which is nearer to it once only they are left to take */
    { { { "typical", { 0.95 }, 1 } }, { 4, 0, 0, 0, 0, X, X, X }, 3, { 0, 1, 2 } },
    { { { "xtc", { 1, 0.1 }, 2 } }, { 0, 0, 0, 0, 0, 0, 0, 0 }, 1, { 7 } },
    { { { "xtc", { 1, 0.13 }, 2 } }, { 0, 0, 0, 0, 0, 0, 0, 0 }, 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },
    { { { "xtc", { 1, 0.1, 4 }, 3 } }, { 3, 3, 3, X, 0, 0, X, X }, 5, { 0, 1, 2, 4, 5 } },
    { { { "xtc", { 1, 0.1, 3 }, 3 } }, { 3, 3, 3, X, 0, 0, X, X }, 3, { 2, 4, 5 } },
    { { { "xtc", { 1, 0.1 }, 2 } }, { 3, X, X, X, X, X, X, X }, 1, { 0 } },
    { { { "xtc", { 0, 0.1 }, 2 } }, { 3, 3, 3, 3, X, X, X, X }, 4, { 0, 1, 2, 3 } },
    { { { "xtc", { 1, 0.1 }, 2 }, { "xtc", { 1, 0.1 }, 2 } }, { 3, 2, 1, 0, X, X, X, X }, 2, { 2, 3 } },       /* twice: the second among what the first left */
    /* deviation of 4, 2, 0, 2: the square root of 2 */
    { { { "top-n-sigma", { 1.5 }, 1 } }, { 4, 2, 0, 2, X, X, X, X }, 3, { 0, 1, 3 } },
    { { { "top-n-sigma", { 1.4 }, 1 } }, { 4, 2, 0, 2, X, X, X, X }, 1, { 0 } },
    { { { "top-n-sigma", { 2.9 }, 1 } }, { 4, 2, 0, 2, X, X, X, X }, 4, { 0, 1, 3, 2 } },
    { { { "top-n-sigma", { 1e-9 }, 1 } }, { 1, 1, X, 1, 1, X, X, X }, 4, { 0, 1, 3, 4 } },
    { { { "top-n-sigma", { -1 }, 1 } }, { 4, 2, 0, 2, X, X, X, X }, 4, { 0, 1, 3, 2 } },
    { { { "temp", { 1e-20 }, 1 }, { "top-n-sigma", { 1.5 }, 1 } }, { 4, 2, 0, 2, X, X, X, X }, 3, { 0, 1, 3 } },      /* whatever the temperature */
    { { { "top-n-sigma", { 1 }, 1 } }, { 3e38f, -3e38f, 0, 1, 2, X, X, X }, 1, { 0 } },
    { { { "mirostat-v2", { 1 }, 1 } }, { 0, 0, 0, 0, -9, X, X, X }, 1, { 0 } },         /* 2 bits and a little: mu is 2 */
    { { { "mirostat-v2", { 1.01 }, 1 } }, { 0, 0, 0, 0, -9, X, X, X }, 4, { 0, 1, 2, 3 } },
    { { { "mirostat", { 1.6 }, 1 } }, { 0, 0, 0, 0, 0, 0, 0, 0 }, 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },         /* exponent 0: 2^3.2 / 7 above 1, all */
    { { { "mirostat", { 1.3 }, 1 } }, { 0, 0, 0, 0, 0, 0, 0, 0 }, 1, { 0 } },
    { { { "mirostat", { 5 }, 1 } }, { 0, X, X, X, X, X, X, X }, 1, { 0 } },
    { { { "dynatemp", { 1, 1, 1 }, 3 }, { "top-k", { 2 }, 1 } }, { 0, 0, 0, 0, 0, 0, 0, 0 }, 2, { 0, 1 } },
    { { { "dynatemp", { 0.5, 0.5, 1 }, 3 } }, { 9, X, X, X, X, X, X, X }, 1, { 0 } },        /* no entropy: temperature 0 */
    { { { "dynatemp", { 0, 0, 1 }, 3 } }, { 1, 1, 0, X, X, X, X, X }, 1, { 0 } },
    { { { "dynatemp", { -1 }, 1 } }, { 1, 1, 0, X, X, X, X, X }, 1, { 0 } },
};

static void rows_by_hand(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(by_hand); i++) {
        sl_token ids[8];
        float probs[8];
        size_t n;
        sl_sampler *s = make(8, 0, by_hand[i].steps, COUNT(by_hand[i].steps));
        assert_int_equal(sl_sampler_candidates(s, by_hand[i].logits, ids, probs, 8, &n), SL_OK);
        if (n != by_hand[i].n || memcmp(ids, by_hand[i].ids, n * sizeof *ids))
            fail_msg("row %zu: %zu, first %d", i, n, (int)ids[0]);
        sl_sampler_free(s);
    }
}

/* ---- options ---- */

static void refuses_bad_parameters(void **state)
{
    (void)state;
    static const struct { const char *name; double params[5]; size_t n; sl_status status; } rows[] = {
        { "dynatemp", { NAN }, 1, SL_ERR_RANGE }, { "dynatemp", { 1, -0.1 }, 2, SL_ERR_RANGE }, { "dynatemp", { 1, 1, -1 }, 3, SL_ERR_RANGE }, { "dynatemp", { 1, INFINITY }, 2, SL_ERR_RANGE },
        { "dynatemp", { 1e30, 1e30, 1000 }, 3, SL_OK }, { "dynatemp", { 1, 1, 1, 1 }, 4, SL_ERR_ARGUMENT },
        { "typical", { -1e-9 }, 1, SL_ERR_RANGE }, { "typical", { NAN }, 1, SL_ERR_RANGE }, { "typical", { 0.5, 1.5 }, 2, SL_ERR_RANGE }, { "typical", { 0.5, -1 }, 2, SL_ERR_RANGE }, { "typical", { 0 }, 1, SL_OK },
        { "top-n-sigma", { NAN }, 1, SL_ERR_RANGE }, { "top-n-sigma", { -INFINITY }, 1, SL_ERR_RANGE }, { "top-n-sigma", { 1e30 }, 1, SL_OK }, { "top-n-sigma", { 1, 1 }, 2, SL_ERR_ARGUMENT },
        { "xtc", { 1.01 }, 1, SL_ERR_RANGE }, { "xtc", { -0.01 }, 1, SL_ERR_RANGE }, { "xtc", { 1, NAN }, 2, SL_ERR_RANGE }, { "xtc", { 1, 1.1 }, 2, SL_ERR_RANGE }, { "xtc", { 1, 0, 1e10 }, 3, SL_ERR_RANGE }, { "xtc", { 1, 0, 0 }, 3, SL_OK },
        { "mirostat", { -1 }, 1, SL_ERR_RANGE }, { "mirostat", { 1001 }, 1, SL_ERR_RANGE }, { "mirostat", { 5, NAN }, 2, SL_ERR_RANGE }, { "mirostat", { 5, 0.1, 1 }, 3, SL_ERR_RANGE }, { "mirostat", { 5, 0.1, 2.5 }, 3, SL_ERR_RANGE },
        { "mirostat", { 1000, 1000, 2 }, 3, SL_OK }, { "mirostat-v2", { 5, -1 }, 2, SL_ERR_RANGE }, { "mirostat-v2", { 5, 0.1, 100 }, 3, SL_ERR_ARGUMENT }, { "mirostat-v2", { 1000, 1000 }, 2, SL_OK },
        { "penalties", { -1 }, 1, SL_ERR_RANGE }, { "penalties", { 1.5 }, 1, SL_ERR_RANGE }, { "penalties", { SL_LIMIT_CONTEXT + 1.0 }, 1, SL_ERR_RANGE }, { "penalties", { 1e300 }, 1, SL_ERR_RANGE }, { "penalties", { 64, 0 }, 2, SL_ERR_RANGE },
        { "penalties", { 64, 1, NAN }, 3, SL_ERR_RANGE }, { "penalties", { 64, 1, 0, 1e7 }, 4, SL_ERR_RANGE }, { "penalties", { 64, 1e6, -1e6, 1e6 }, 4, SL_OK }, { "penalties", { 1, 1, 1, 1, 1 }, 5, SL_ERR_ARGUMENT }, { "penalties", { 0 }, 1, SL_OK },
        { "dry", { -1 }, 1, SL_ERR_RANGE }, { "dry", { 1, 0.99 }, 2, SL_ERR_RANGE }, { "dry", { 1, 2, 0 }, 3, SL_ERR_RANGE }, { "dry", { 1, 2, 1, 1e9 }, 4, SL_ERR_RANGE }, { "dry", { NAN }, 1, SL_ERR_RANGE }, { "dry", { 1e30, 1e30, 1, 0 }, 4, SL_OK },
        { "logit-bias", { 4, 1 }, 2, SL_ERR_RANGE }, { "logit-bias", { -1, 1 }, 2, SL_ERR_RANGE }, { "logit-bias", { 0.5, 1 }, 2, SL_ERR_RANGE }, { "logit-bias", { 0, NAN }, 2, SL_ERR_RANGE }, { "logit-bias", { 0, INFINITY }, 2, SL_ERR_RANGE },
        { "logit-bias", { 0 }, 1, SL_ERR_ARGUMENT }, { "logit-bias", { 0, 1, 2 }, 3, SL_ERR_ARGUMENT }, { "logit-bias", { 0, -INFINITY, 3, 1e30 }, 4, SL_OK }, { "logit-bias", { 0 }, 0, SL_OK },
        { "callback", { 0 }, 0, SL_ERR_UNSUPPORTED }, { "Dry", { 0 }, 0, SL_ERR_UNSUPPORTED }, { "mirostat-", { 0 }, 0, SL_ERR_UNSUPPORTED },
    };
    const float logits[4] = { 3, 2, 1, 0 };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_token id;
        sl_sampler *s = make(4, 0, NULL, 0);
        if (sl_sampler_add(s, rows[i].name, rows[i].params, rows[i].n) != rows[i].status)
            fail_msg("row %zu (%s): %s", i, rows[i].name, sl_last_error());
        for (int k = 0; k < 5; k++)
            assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
        if (rows[i].status != SL_OK)
            assert_int_equal(id, 0);        /* the chain stayed empty */
        sl_sampler_free(s);
    }
    static double many[2 * 5];
    sl_sampler *s = make(4, 0, NULL, 0);
    assert_int_equal(sl_sampler_add(s, "logit-bias", many, COUNT(many)), SL_ERR_LIMIT);      /* more entries than tokens */
    sl_sampler_free(s);
}

/* ---- state ---- */

static const struct given everything[] = {
    { "logit-bias", { 3, 2, 9, -1 }, 4 }, { "penalties", { 8, 1.2, 0.1, 0.1 }, 4 }, { "dry", { 0.5, 1.5, 1, 16 }, 4 }, { "top-k", { 30 }, 1 }, { "xtc", { 0.5, 0.05 }, 2 },
    { "dynatemp", { 1.5, 1, 1 }, 3 }, { "mirostat-v2", { 3, 0.5 }, 2 },
};
enum { VOCAB = 50, TOKENS = 60 };

static void row(float *logits, int k)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)((unsigned)(i * 7919 + (k % 3) * 104729) * 2654435761u >> 20) / 512.0f;
}

static void draw(sl_sampler *s, sl_token *ids, int from, int to)
{
    float logits[VOCAB];
    for (int k = from; k < to; k++) {
        row(logits, k);
        assert_int_equal(sl_sampler_sample(s, logits, &ids[k]), SL_OK);
    }
}

static int32_t refuse_when(float *logits, uint32_t n_vocab, void *user)
{
    (void)logits, (void)n_vocab;
    return *(int32_t *)user;
}

/* Looks, failures, and a chain that starts again: the tokens are those of one undisturbed run. */
static void only_a_choice_changes_the_state(void **state)
{
    (void)state;
    sl_token plain[TOKENS], other[TOKENS], seen[VOCAB];
    float probs[VOCAB], logits[VOCAB], broken[VOCAB] = { NAN };
    size_t n;
    int32_t verdict = 0;
    sl_sampler *s = make(VOCAB, 11, everything, COUNT(everything));
    draw(s, plain, 0, TOKENS);
    assert_int_equal(sl_sampler_reset(s, 12), SL_OK);
    draw(s, other, 0, TOKENS);
    assert_memory_not_equal(other, plain, sizeof plain);
    assert_int_equal(sl_sampler_reset(s, 11), SL_OK);
    draw(s, other, 0, TOKENS);
    assert_memory_equal(other, plain, sizeof plain);
    sl_sampler_free(s);

    s = make(VOCAB, 11, everything, COUNT(everything));
    assert_int_equal(sl_sampler_add_callback(s, refuse_when, &verdict), SL_OK);
    for (int k = 0; k < TOKENS; k++) {
        row(logits, k);
        assert_int_equal(sl_sampler_candidates(s, logits, seen, probs, VOCAB, &n), SL_OK);
        verdict = 5;
        assert_int_equal(sl_sampler_sample(s, logits, &other[k]), SL_ERR_CANCELLED);
        assert_int_equal(sl_sampler_candidates(s, logits, seen, probs, VOCAB, &n), SL_ERR_CANCELLED);
        verdict = 0;
        assert_int_equal(sl_sampler_sample(s, broken, &other[k]), SL_ERR_NONFINITE);
        assert_int_equal(sl_sampler_add(s, "no such step", NULL, 0), SL_ERR_UNSUPPORTED);
        draw(s, other, k, k + 1);
        size_t i = 0;
        while (i < n && seen[i] != other[k])
            i++;
        assert_true(i < n);         /* what was looked at is what was drawn from */
    }
    assert_memory_equal(other, plain, sizeof plain);
    sl_sampler_free(s);
}

static int32_t halve(float *logits, uint32_t n_vocab, void *user)
{
    (void)user;
    for (uint32_t i = 0; i < n_vocab; i += 2)
        logits[i] = -INFINITY;
    return 0;
}
static int32_t forbid(float *logits, uint32_t n_vocab, void *user)
{
    for (uint32_t i = 0; i < n_vocab; i++)
        logits[i] = *(float *)user;
    return 0;
}

static void a_step_of_the_program(void **state)
{
    (void)state;
    const float logits[6] = { 6, 5, 4, 3, 2, -INFINITY };
    static const float wrong[] = { NAN, INFINITY, -INFINITY };
    static const sl_status statuses[] = { SL_ERR_NONFINITE, SL_ERR_NONFINITE, SL_ERR_STATE };
    sl_token ids[6];
    float probs[6], value;
    size_t n;
    sl_sampler *s = make(6, 0, NULL, 0);
    assert_int_equal(sl_sampler_add_callback(s, NULL, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_add_callback(NULL, halve, NULL), SL_ERR_ARGUMENT);
    const double two = 2, three = 3;
    assert_int_equal(sl_sampler_add(s, "temp", &two, 1), SL_OK);
    assert_int_equal(sl_sampler_add_callback(s, halve, NULL), SL_OK);
    assert_int_equal(sl_sampler_add(s, "top-k", &three, 1), SL_OK);
    assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, 6, &n), SL_OK);
    assert_true(n == 2 && ids[0] == 1 && ids[1] == 3);
    assert_true(fabs((double)probs[0] - 1 / (1 + exp(-1))) < 1e-6);     /* logits 5 / 2 and 3 / 2 */
    sl_sampler_free(s);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        s = make(6, 0, NULL, 0);
        value = wrong[i];
        assert_int_equal(sl_sampler_add_callback(s, forbid, &value), SL_OK);
        assert_int_equal(sl_sampler_sample(s, logits, ids), statuses[i]);
        value = 1;
        assert_int_equal(sl_sampler_sample(s, logits, ids), SL_OK);
        assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, 6, &n), SL_OK);
        assert_int_equal(n, 6);         /* the step may bring one back */
        sl_sampler_free(s);
    }
}

/* Every allocation fails once: the chain is as before, and the step can be added after all. */
static void adding_survives_every_failure(void **state)
{
    (void)state;
    sl_token plain[TOKENS], other[TOKENS];
    sl_sampler *s = make(VOCAB, 11, everything, COUNT(everything));
    draw(s, plain, 0, TOKENS);
    sl_sampler_free(s);
    counting c = { 0 };
    const sl_allocator allocator = counting_allocator(&c);
    size_t failures = 0;
    assert_int_equal(sl_sampler_create(&s, VOCAB, 11, &allocator), SL_OK);
    for (size_t i = 0; i < COUNT(everything); i++)
        for (size_t at = 1;; at++) {
            c.fail_at = c.calls + at;
            c.fail_for = 1;
            const sl_status status = sl_sampler_add(s, everything[i].name, everything[i].params, everything[i].n);
            if (status == SL_OK)
                break;
            assert_int_equal(status, SL_ERR_NOMEM);
            assert_int_equal(s->n_steps, i);
            failures++;
        }
    assert_true(failures >= 5);
    draw(s, other, 0, TOKENS);
    assert_memory_equal(other, plain, sizeof plain);
    sl_sampler_free(s);
    counting_check_none(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_in_any_order_agree_with_the_definitions),
        cmocka_unit_test(rows_by_hand),
        cmocka_unit_test(refuses_bad_parameters),
        cmocka_unit_test(only_a_choice_changes_the_state),
        cmocka_unit_test(a_step_of_the_program),
        cmocka_unit_test(adding_survives_every_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
