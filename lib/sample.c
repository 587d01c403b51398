/* SPDX-License-Identifier: MIT */
/* sample.c - chains of sampling steps, and the generator behind them.
 *
 * The same seed must give the same tokens everywhere, so nothing here depends on the order in which floats are added:
 * - A candidate is one 64-bit key: the logit as an integer that sorts like it, then the complement of the id. Keys are distinct and sort
 *   "most likely first, lower id first among equals" by plain integer comparison.
 * - A candidate's weight is exp((logit - largest logit) / temperature), in binary64 by the polynomial below, cut to a multiple of 2^-43.
 *   As integers the weights of 2^20 tokens add up exactly, in any order, within 63 bits.
 * - A draw is the high half of total x one number of the generator, walked down from the most likely candidate.
 * Every step keeps a prefix of that order, so a vocabulary is never sorted further than a step or a draw looks: a heap yields the
 * candidates one by one, n + k log n comparisons for the first k of n. */
#include "sample.h"
#include "arith.h"
#include "fpenv.h"
#include "mem.h"
#include "rows.h"

enum { MAX_STEPS = 32, MAX_PARAMS = 2, WEIGHT_BITS = 43 };

/* ---- generator: xoshiro256** of Blackman and Vigna, its state filled by SplitMix64 from the seed ---- */

static void seed_generator(uint64_t state[4], uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        state[i] = z ^ z >> 31;
    }
}

static uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static uint64_t next_random(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* High 64 bits of a * b. */
static uint64_t multiply_high(uint64_t a, uint64_t b)
{
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t middle = ah * bl + ((al * bl) >> 32);
    return ah * bh + (middle >> 32) + ((al * bh + (uint32_t)middle) >> 32);
}

/* ---- candidates ---- */

struct candidates {
    uint64_t *keys;     /* [0, sorted) in order; [sorted, n) behind them, a heap once `heap` is set */
    uint32_t n, sorted;
    int heap;
    uint64_t best;      /* the largest key: every step keeps it */
    double divisor;     /* product of the temperatures */
};

static uint64_t make_key(float logit, uint32_t id)
{
    uint32_t u = sl_bits(logit);
    if (u == 0x80000000u)
        u = 0;                                  /* -0 equals +0 */
    u ^= (0u - (u >> 31)) | 0x80000000u;        /* without a branch: signs of logits cannot be predicted */
    return (uint64_t)u << 32 | (uint32_t)~id;
}

static float key_logit(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    return sl_float(u ^ (((u >> 31) - 1u) | 0x80000000u));
}

static sl_token key_id(uint64_t key) { return (sl_token)~(uint32_t)key; }

/* exp for x <= 0, relative error below 2^-46; +0 below -700. 2^k times the Taylor polynomial of degree 11 on |r| <= ln(2) / 2, with ln(2) in two
 * parts so that k times the first is exact. Only +, -, *, each rounded once; in pairs, which halves the time of a chain. */
static double exp_negative(double x)
{
    if (!(x > -700.0))
        return 0.0;
    int k = (int)(x * 0x1.71547652b82fep+0 - 0.5);
    double r = x - k * 0x1.62e42fee00000p-1;
    r = r - k * 0x1.a39ef35793c76p-33;
    double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    double p0 = (1.0 + r) + (0.5 + r * (1.0 / 6.0)) * r2;
    double p4 = (1.0 / 24.0 + r * (1.0 / 120.0)) + (1.0 / 720.0 + r * (1.0 / 5040.0)) * r2;
    double p8 = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + (1.0 / 3628800.0 + r * (1.0 / 39916800.0)) * r2;
    uint64_t bits = (uint64_t)(1023 + k) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return (p0 + p4 * r4 + p8 * r8) * scale;
}

/* Likelihood relative to the best candidate, 0 to 1. */
static double ratio(const struct candidates *c, uint64_t key)
{
    return exp_negative(((double)key_logit(key) - (double)key_logit(c->best)) / c->divisor);
}

static uint64_t weight(const struct candidates *c, uint64_t key)
{
    return (uint64_t)(ratio(c, key) * (double)(UINT64_C(1) << WEIGHT_BITS));
}

static uint64_t total_weight(const struct candidates *c)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < c->n; i++)
        total += weight(c, c->keys[i]);
    return total;
}

/* The heap lies mirrored: node i at root[-i], so that its root is at the end and its last leaf is where the sorted part grows. */
static void sift_down(uint64_t *root, size_t node, size_t count)
{
    uint64_t key = root[-(ptrdiff_t)node];
    for (size_t child; (child = 2 * node + 1) < count; node = child) {
        child += child + 1 < count && root[-(ptrdiff_t)child - 1] > root[-(ptrdiff_t)child];
        if (root[-(ptrdiff_t)child] <= key)
            break;
        root[-(ptrdiff_t)node] = root[-(ptrdiff_t)child];
    }
    root[-(ptrdiff_t)node] = key;
}

/* Key of the i-th best candidate, i < n. */
static uint64_t nth_best(struct candidates *c, uint32_t i)
{
    uint64_t *root = c->keys + c->n - 1;
    if (i >= c->sorted && !c->heap) {
        size_t count = c->n - c->sorted;
        for (size_t node = count / 2; node-- > 0;)
            sift_down(root, node, count);
        c->heap = 1;
    }
    while (i >= c->sorted) {
        uint64_t key = *root;
        *root = c->keys[c->sorted];
        c->keys[c->sorted++] = key;
        sift_down(root, 0, c->n - c->sorted);
    }
    return c->keys[i];
}

/* Forgets all but the n best. */
static void keep(struct candidates *c, uint32_t n)
{
    if (n >= c->n)
        return;
    if (n == 1)
        c->keys[0] = c->best;
    else
        nth_best(c, n - 1);
    c->n = c->sorted = n;
}

static sl_status nonfinite(uint32_t id) { return sl_fail(SL_ERR_NONFINITE, "sampler: the logit of token %u is not a number or infinite", (unsigned)id); }
static sl_status impossible(void) { return sl_fail(SL_ERR_STATE, "sampler: every token is impossible"); }

/* NaN and +inf are refused, -inf is passed over: 1 if the logit takes part, 0 if not, -1 if it is none. */
static int takes_part(float logit)
{
    uint32_t u = sl_bits(logit);
    return (u & 0x7f800000u) != 0x7f800000u ? 1 : u == 0xff800000u ? 0 : -1;
}

static sl_status collect(struct candidates *c, uint64_t *keys, const float *logits, uint32_t n_vocab)
{
    *c = (struct candidates) { .keys = keys, .divisor = 1.0 };
    for (uint32_t id = 0; id < n_vocab; id++) {
        int part = takes_part(logits[id]);
        if (part < 0)
            return nonfinite(id);
        uint64_t key = make_key(logits[id], id);
        keys[c->n] = key;                       /* c->n <= id; overwritten by the next one if this one takes no part */
        c->n += (uint32_t)part;
        c->best = part && key > c->best ? key : c->best;
    }
    return c->n ? SL_OK : impossible();
}

sl_status sl_sample_greedy(const float *logits, uint32_t n_vocab, sl_token *id)
{
    uint64_t best = 0;                          /* below every key of a finite logit */
    for (uint32_t i = 0; i < n_vocab; i++) {
        int part = takes_part(logits[i]);
        if (part < 0)
            return nonfinite(i);
        uint64_t key = make_key(logits[i], i);
        best = part && key > best ? key : best;
    }
    if (!best)
        return impossible();
    *id = key_id(best);
    return SL_OK;
}

/* ---- steps ---- */

#define STEP static __attribute__((unused)) void    /* unused where its row is left out of the build */

STEP step_temp(struct candidates *c, const double *params)
{
    c->divisor *= params[0];
    if (!(c->divisor > 1e-30))                  /* 0, negative, or so small that only the best has any weight */
        keep(c, 1), c->divisor = 1.0;
}

STEP step_top_k(struct candidates *c, const double *params)
{
    if (params[0] > 0.0)
        keep(c, params[0] < (double)c->n ? (uint32_t)params[0] : c->n);
}

/* At least this many stay: min_keep is a whole number below 2^31. */
static uint32_t at_least(const struct candidates *c, double min_keep)
{
    uint32_t n = min_keep > 1.0 ? (uint32_t)min_keep : 1;
    return n < c->n ? n : c->n;
}

STEP step_top_p(struct candidates *c, const double *params)
{
    if (params[0] >= 1.0)
        return;
    uint32_t n = 0, least = at_least(c, params[1]);
    double wanted = params[0] * (double)total_weight(c);
    for (uint64_t sum = 0; n < c->n && (n < least || (double)sum < wanted); n++)
        sum += weight(c, nth_best(c, n));
    keep(c, n);
}

STEP step_min_p(struct candidates *c, const double *params)
{
    if (params[0] <= 0.0)
        return;
    uint32_t n = at_least(c, params[1]);
    while (n < c->n && ratio(c, nth_best(c, n)) >= params[0])
        n++;
    keep(c, n);
}

struct parameter { const char *name; double usual, low, high; int whole; };
struct kind {
    const char *name;
    void (*run)(struct candidates *c, const double *params);
    struct parameter params[MAX_PARAMS];        /* name NULL: the step has fewer */
};

#define MIN_KEEP { "min_keep", 1.0, 0.0, 0x7fffffff, 1 }
static const struct kind kinds[] = {
    SL_ROW(SAMPLER_TEMP, { "temp", step_temp, { { "t", 1.0, -1e30, 1e30, 0 } } }, )
    SL_ROW(SAMPLER_TOP_K, { "top-k", step_top_k, { { "k", 0.0, 0.0, 0x7fffffff, 1 } } }, )
    SL_ROW(SAMPLER_TOP_P, { "top-p", step_top_p, { { "p", 1.0, 0.0, 1e30, 0 }, MIN_KEEP } }, )
    SL_ROW(SAMPLER_MIN_P, { "min-p", step_min_p, { { "p", 0.0, 0.0, 1.0, 0 }, MIN_KEEP } }, )
    { NULL, NULL, { { 0 } } },
};

const char *sl_sampler_name(size_t index)
{
    return index < sizeof kinds / sizeof *kinds ? kinds[index].name : NULL;
}

/* ---- the handle ---- */

struct sl_sampler {
    sl_mem mem;
    uint32_t n_vocab;
    uint32_t n_steps;
    uint64_t generator[4];
    uint64_t *keys;                             /* n_vocab */
    struct step { const struct kind *kind; double params[MAX_PARAMS]; } steps[MAX_STEPS];
};

uint32_t sl_sampler_vocab(const sl_sampler *sampler) { return sampler->n_vocab; }

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
    SL_TRY(sl_mem_init(&mem, allocator));
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
    seed_generator(sampler->generator, seed);
    *out = sampler;
    return SL_OK;
}

void sl_sampler_free(sl_sampler *sampler)
{
    if (!sampler)
        return;
    sl_mem mem = sampler->mem;
    sl_mem_free(&mem, sampler->keys);
    sl_mem_free(&mem, sampler);
}

static sl_status read_parameter(const struct kind *kind, size_t index, double value, double *to)
{
    const struct parameter *p = &kind->params[index];
    if (!(value >= p->low && value <= p->high))     /* NaN fails both */
        return sl_fail(SL_ERR_RANGE, "sampler: %s: %s is out of range", kind->name, p->name);
    if (p->whole && value != (double)(int64_t)value)
        return sl_fail(SL_ERR_RANGE, "sampler: %s: %s is not a whole number", kind->name, p->name);
    *to = value;
    return SL_OK;
}

sl_status sl_sampler_add(sl_sampler *sampler, const char *name, const double *params, size_t n_params)
{
    if (!sampler || !name || (n_params && !params))
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    const struct kind *kind = kinds;
    while (kind->name && strcmp(kind->name, name) != 0)
        kind++;
    if (!kind->name) {
        char quoted[SL_QUOTE_BYTES];
        return sl_fail(SL_ERR_UNSUPPORTED, "sampler: no step is called \"%s\"", sl_quote(quoted, name, strlen(name)));
    }
    if (sampler->n_steps == MAX_STEPS)
        return sl_fail(SL_ERR_LIMIT, "sampler: more than %d steps", MAX_STEPS);
    struct step step = { .kind = kind };
    size_t known = 0;
    for (; known < MAX_PARAMS && kind->params[known].name; known++) {
        double value = known < n_params ? params[known] : kind->params[known].usual;
        SL_TRY(read_parameter(kind, known, value, &step.params[known]));
    }
    if (n_params > known)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: %s takes %zu parameters, not %zu", name, known, n_params);
    sampler->steps[sampler->n_steps++] = step;
    return SL_OK;
}

/* Candidates after the whole chain; an empty one keeps the best only. */
static sl_status run_chain(sl_sampler *sampler, const float *logits, struct candidates *c)
{
    SL_TRY(collect(c, sampler->keys, logits, sampler->n_vocab));
    for (uint32_t i = 0; i < sampler->n_steps; i++)
        sampler->steps[i].kind->run(c, sampler->steps[i].params);
    if (!sampler->n_steps)
        keep(c, 1);
    return SL_OK;
}

static sl_status draw(sl_sampler *sampler, const float *logits, sl_token *id)
{
    struct candidates c;
    SL_TRY(run_chain(sampler, logits, &c));
    /* One number per token, also when there is no choice: what was drawn before never shifts what comes after. */
    uint64_t left = multiply_high(total_weight(&c), next_random(sampler->generator));
    uint32_t i = 0;
    for (uint64_t w; i + 1 < c.n && left >= (w = weight(&c, nth_best(&c, i))); i++)
        left -= w;
    *id = key_id(nth_best(&c, i));
    return SL_OK;
}

sl_status sl_sampler_sample(sl_sampler *sampler, const float *logits, sl_token *id)
{
    if (!sampler || !logits || !id)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    if (!sampler->n_steps)
        return sl_sample_greedy(logits, sampler->n_vocab, id);
    uint64_t state = sl_fp_enter();
    sl_status status = draw(sampler, logits, id);
    sl_fp_set(state);
    return status;
}

static sl_status list(sl_sampler *sampler, const float *logits, sl_token *ids, float *probs, size_t capacity, size_t *n)
{
    struct candidates c;
    SL_TRY(run_chain(sampler, logits, &c));
    double total = (double)total_weight(&c) / (double)(UINT64_C(1) << WEIGHT_BITS);
    for (uint32_t i = 0; i < c.n && i < capacity; i++) {
        uint64_t key = nth_best(&c, i);
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
    uint64_t state = sl_fp_enter();
    sl_status status = list(sampler, logits, ids, probs, capacity, n);
    sl_fp_set(state);
    return status;
}

sl_status sl_sampler_reset(sl_sampler *sampler, uint64_t seed)
{
    if (!sampler)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: NULL");
    seed_generator(sampler->generator, seed);
    return SL_OK;
}
