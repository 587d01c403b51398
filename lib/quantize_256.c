/* SPDX-License-Identifier: MIT */
/* quantize_256.c - encoders of the types with super-blocks of 256: groups of 16 or 32 with integer scales (and minima) under one half (or two).
 *
 * First each group finds its scale by itself. Then the whole block is improved round by round: integers that the scales choose, scales (and minima) that
 * are best for these integers, halves that are best for all of them; the best state is kept. */
#include "quantize_blocks.h"
#include "quantize_search.h"

enum { VALUES = 256, VECTORS_MAX = 4 };

/* How a type is searched; x is about (d s) q - m k or (d s) q. */
typedef struct search {
    int n;                  /* numbers per group */
    float low, high;        /* levels of q */
    float limit;            /* s and k are 0 .. limit; without minima s is -limit .. limit - 1 */
    const float *steps;     /* of the search in a group */
    int n_steps, turns;     /* rounds that improve the whole block */
} search;
#define VECTORS(p) (VALUES / (LANES * (p)->n))

/* A super-block while it is searched: group 4 v + l is lane l of vector v. */
typedef struct super {
    lanes numbers[2 * VALUES / LANES];
    groups g[VECTORS_MAX];
    sums s[VECTORS_MAX];                                /* for the integers below */
    lanes scale[VECTORS_MAX], minimum[VECTORS_MAX];     /* integers; the minimum is taken off */
    float d, m;                                         /* halves */
} super;

typedef struct state { lanes scale[VECTORS_MAX], minimum[VECTORS_MAX]; float d, m; double error; } state;

INLINED void super_load(super *b, const search *p, const float *x, const float *w, int minimum)
{
    for (int v = 0; v < VECTORS(p); v++) {
        groups_load(&b->g[v], b->numbers + 2 * p->n * v, x + LANES * p->n * v, w ? w + LANES * p->n * v : NULL, p->n, minimum);
        b->minimum[v] = lanes_of(0.0f);
    }
    b->m = 0.0f;
}

INLINED void keep_best(const super *b, const search *p, state *best)
{
    double error = 0.0;
    for (int v = 0; v < VECTORS(p); v++)
        error += lanes_sum(b->s[v].error);
    if (!(error < best->error))
        return;
    memcpy(best->scale, b->scale, sizeof best->scale);
    memcpy(best->minimum, b->minimum, sizeof best->minimum);
    best->d = b->d, best->m = b->m, best->error = error;
}

INLINED lanes whole(lanes t, float low, float high) { return level_whole(t, lanes_of(low), lanes_of(high)); }

/* The half for a largest scale that becomes the integer `limit`; never 0 for what could be stored. */
static float half_for(float most, float limit)
{
    const float d = sl_half_next(most / limit);
    return d != 0.0f || most == 0.0f ? d : most / limit > 0.0f ? 0x1p-24f : -0x1p-24f;
}

/* The same, but with the integer above limit / 2 that a half comes closest to: what matters where one number is far above all others. */
static float half_exact(float most, float limit)
{
    float best = half_for(most, limit), least = 0x1p100f;
    for (float l = limit, end = limit / 2.0f; l * l > end * end; l += limit < 0.0f ? 1.0f : -1.0f) {
        const float d = half_for(most, l), off = (d * l - most) * (d * l - most);
        if (off < least)
            least = off, best = d;
    }
    return best;
}

/* 1 if rounding the half of the largest scale alone leaves a good part of the error: q times that, squared. */
static int half_matters(float most, float d, float limit, float q, double error)
{
    const double off = ((double)d * limit - most) * q;
    return off * off > 0.001 * error;
}

/* ---- scales and minima ---- */

/* Group v with other integers. */
INLINED sums sums_of(const super *b, const search *p, int v, lanes scale, lanes minimum)
{
    return sum_errors(&b->g[v], p->n, level_whole, b->d * scale, -(b->m * minimum) - b->g[v].least, lanes_of(p->low), lanes_of(p->high));
}

/* The halves that are best for all integers: the sum of squares has its least where these equations hold. */
INLINED void solve_halves(super *b, const search *p)
{
    double aa = 0.0, ab = 0.0, bb = 0.0, ax = 0.0, bx = 0.0;
    for (int v = 0; v < VECTORS(p); v++) {
        const groups *g = &b->g[v];
        const sums *s = &b->s[v];
        const lanes sc = b->scale[v], k = b->minimum[v];
        aa += lanes_sum(sc * sc * s->qq);
        ab -= lanes_sum(sc * k * s->q);
        bb += lanes_sum(k * k * g->sum_w);
        ax += lanes_sum(sc * (s->qx + g->least * s->q));
        bx -= lanes_sum(k * (g->sum_x + g->least * g->sum_w));
    }
    const double det = aa * bb - ab * ab;
    if (det > 1e-6 * aa * bb) {
        b->d = sl_half_next((float)((bb * ax - ab * bx) / det));
        b->m = sl_half_next((float)((aa * bx - ab * ax) / det));
    } else if (aa > 0.0)
        b->d = sl_half_next((float)((ax - ab * (double)b->m) / aa));
    else if (bb > 0.0)
        b->m = sl_half_next((float)(bx / bb));
    for (int v = 0; v < VECTORS(p); v++)
        b->s[v] = sums_of(b, p, v, b->scale[v], b->minimum[v]);
}

/* Each group tries the scales beside its own, with the minimum that is best for the integers that it has, and takes what leaves less. */
INLINED void improve_minimum(super *b, const search *p)
{
    const lanes by_m = inverse_of(lanes_of(b->m));
    for (int v = 0; v < VECTORS(p); v++) {
        const groups *g = &b->g[v];
        sums *s = &b->s[v];
        const lanes middle = b->scale[v], q = s->q;
        for (int step = -1; step <= 1; step++) {
            const lanes scale = whole(middle + (float)step, 0.0f, p->limit);
            const lanes minimum = whole(((b->d * scale * q - g->sum_x) / g->sum_w - g->least) * by_m, 0.0f, p->limit);
            const sums t = sums_of(b, p, v, scale, minimum);
            const lane_marks better = t.error < s->error;
            b->scale[v] = choose(better, scale, b->scale[v]);
            b->minimum[v] = choose(better, minimum, b->minimum[v]);
            sums_choose(s, better, &t);
        }
    }
}

/* From these halves, and scales and minima that are not whole yet, to the best state. */
INLINED void refine_minimum(super *b, const search *p, const lanes *scale, const lanes *minimum, state *best)
{
    for (int v = 0; v < VECTORS(p); v++) {
        b->scale[v] = whole(scale[v] * inverse_of(lanes_of(b->d)), 0.0f, p->limit);
        b->minimum[v] = whole(minimum[v] * inverse_of(lanes_of(b->m)), 0.0f, p->limit);
        b->s[v] = sums_of(b, p, v, b->scale[v], b->minimum[v]);
    }
    keep_best(b, p, best);
    for (int i = 0; i < p->turns; i++) {
        improve_minimum(b, p);
        keep_best(b, p, best);
        solve_halves(b, p);
        keep_best(b, p, best);
    }
}

/* The integers of the best state. */
INLINED void finish(const super *b, const search *p, level_fn *level, const state *best, sl_ints_256 *out)
{
    out->d = best->d, out->m = best->m;
    for (int v = 0; v < VECTORS(p); v++) {
        const lanes inverse = inverse_of(best->d * best->scale[v]), offset = -(best->m * best->minimum[v]) - b->g[v].least;
        for (int k = 0; k < p->n; k++) {
            const lanes q = level((b->g[v].x[k] - offset) * inverse, lanes_of(p->low), lanes_of(p->high));
            for (int l = 0; l < LANES; l++)
                out->q[(LANES * v + l) * p->n + k] = (int8_t)q[l];
        }
        for (int l = 0; l < LANES; l++) {
            out->s[LANES * v + l] = (int8_t)best->scale[v][l];
            out->k[LANES * v + l] = (int8_t)best->minimum[v][l];
        }
    }
}

INLINED void fit_minimum(const float *x, const float *w, const search *p, sl_ints_256 *out)
{
    super b;
    lanes scale[VECTORS_MAX], minimum[VECTORS_MAX];
    state best = { .error = 0x1p1000 };
    float most = 0.0f, most_minimum = 0.0f;
    super_load(&b, p, x, w, 2);
    for (int v = 0; v < VECTORS(p); v++) {
        lanes plain;
        search_minimum(&b.g[v], p->n, p->high, p->steps, p->n_steps, -b.g[v].least, &scale[v], &minimum[v], &plain);
        minimum[v] = -(b.g[v].least + minimum[v]);
        for (int l = 0; l < LANES; l++) {
            most = scale[v][l] > most ? scale[v][l] : most;
            most_minimum = minimum[v][l] > most_minimum ? minimum[v][l] : most_minimum;
        }
    }
    b.d = half_for(most, p->limit), b.m = half_for(most_minimum, p->limit);
    const float d = b.d, m = b.m;
    refine_minimum(&b, p, scale, minimum, &best);
    if (half_matters(most, d, p->limit, p->high, best.error) || half_matters(most_minimum, m, p->limit, 1.0f, best.error)) {
        b.d = half_exact(most, p->limit), b.m = half_exact(most_minimum, p->limit);
        refine_minimum(&b, p, scale, minimum, &best);
    }
    finish(&b, p, level_whole, &best, out);
}

/* ---- scales alone ---- */

INLINED sums signed_sums_of(const super *b, const search *p, level_fn *level, int v, lanes scale)
{
    return sum_errors(&b->g[v], p->n, level, b->d * scale, lanes_of(0.0f), lanes_of(p->low), lanes_of(p->high));
}

/* Each group tries the scales beside its own. */
INLINED void improve_signed(super *b, const search *p, level_fn *level)
{
    for (int v = 0; v < VECTORS(p); v++) {
        const lanes middle = b->scale[v];
        for (int step = -1; step <= 1; step += 2) {
            const lanes scale = whole(middle + (float)step, -p->limit, p->limit - 1.0f);
            const sums t = signed_sums_of(b, p, level, v, scale);
            const lane_marks better = t.error < b->s[v].error;
            b->scale[v] = choose(better, scale, b->scale[v]);
            sums_choose(&b->s[v], better, &t);
        }
    }
}

/* The half that is best for all integers. */
INLINED void solve_half(super *b, const search *p, level_fn *level)
{
    double aa = 0.0, ax = 0.0;
    for (int v = 0; v < VECTORS(p); v++) {
        aa += lanes_sum(b->scale[v] * b->scale[v] * b->s[v].qq);
        ax += lanes_sum(b->scale[v] * b->s[v].qx);
    }
    if (aa > 0.0)
        b->d = sl_half_next((float)(ax / aa));
    for (int v = 0; v < VECTORS(p); v++)
        b->s[v] = signed_sums_of(b, p, level, v, b->scale[v]);
}

INLINED void refine_signed(super *b, const search *p, level_fn *level, const lanes *scale, state *best)
{
    for (int v = 0; v < VECTORS(p); v++) {
        b->scale[v] = whole(scale[v] * inverse_of(lanes_of(b->d)), -p->limit, p->limit - 1.0f);
        b->s[v] = signed_sums_of(b, p, level, v, b->scale[v]);
    }
    keep_best(b, p, best);
    for (int i = 0; i < p->turns; i++) {
        improve_signed(b, p, level);
        keep_best(b, p, best);
        solve_half(b, p, level);
        keep_best(b, p, best);
    }
}

INLINED void fit_signed(const float *x, const float *w, const search *p, level_fn *level, sl_ints_256 *out)
{
    super b;
    lanes scale[VECTORS_MAX];
    state best = { .error = 0x1p1000 };
    float peak = 0.0f;
    super_load(&b, p, x, w, 0);
    for (int v = 0; v < VECTORS(p); v++) {
        lanes plain;
        search_signed(&b.g[v], p->n, level, p->low, p->high, p->steps, p->n_steps, &scale[v], &plain);
        for (int l = 0; l < LANES; l++)
            peak = scale[v][l] * scale[v][l] > peak * peak ? scale[v][l] : peak;
    }
    const float d = b.d = half_for(peak, -p->limit);
    refine_signed(&b, p, level, scale, &best);
    if (half_matters(peak, d, -p->limit, p->low, best.error)) {
        b.d = half_exact(peak, -p->limit);
        refine_signed(&b, p, level, scale, &best);
    }
    finish(&b, p, level, &best, out);
}

/* ---- bytes: the planes of blocks_k.h ---- */

static void store_two_bits(uint8_t *to, const uint8_t *q)
{
    for (int i = 0; i < 64; i++) {
        const uint8_t *from = q + i / 32 * 128 + i % 32;
        to[i] = (uint8_t)((from[0] & 3) | (from[32] & 3) << 2 | (from[64] & 3) << 4 | (from[96] & 3) << 6);
    }
}

/* Bit `bit` of every element. */
static void store_one_bit(uint8_t *to, const uint8_t *q, int bit)
{
    for (int i = 0; i < 32; i++) {
        unsigned byte = 0;
        for (int p = 0; p < 8; p++)
            byte |= (unsigned)(q[32 * p + i] >> bit & 1) << p;
        to[i] = (uint8_t)byte;
    }
}

static void store_nibbles(uint8_t *to, const uint8_t *q)
{
    for (int i = 0; i < 128; i++)
        to[i] = (uint8_t)((q[i / 32 * 64 + i % 32] & 15) | (q[i / 32 * 64 + 32 + i % 32] & 15) << 4);
}

/* Eight scales and eight minima of six bits. */
static void store_six(uint8_t *to, const int8_t *s, const int8_t *k)
{
    for (int g = 0; g < 4; g++) {
        to[g] = (uint8_t)(s[g] | s[g + 4] >> 4 << 6);
        to[g + 4] = (uint8_t)(k[g] | k[g + 4] >> 4 << 6);
        to[g + 8] = (uint8_t)((s[g + 4] & 15) | (k[g + 4] & 15) << 4);
    }
}

/* ---- types ---- */

static const float steps_two[] = { 0.0f, -0.5f, -0.35f, -0.2f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f };
static const float steps_four[] = { 0.0f, -0.9f, -0.6f, -0.3f, 0.3f, 0.6f, 0.9f, 1.3f };
static const float steps_five[] = { 0.0f, -0.8f, -0.4f, 0.4f, 0.8f };
static const float steps_three[] = { -4.0f, -3.4f, -3.7f, -4.3f, -4.6f, -5.0f, 3.0f, 2.8f, 3.2f, 3.5f, 3.8f, 4.2f };
static const float steps_six[] = { -32.0f, -31.5f, 31.0f };
static const float steps_table[] = { -127.0f, -120.0f, -112.0f, -105.0f, -135.0f,
                                     113.0f, 107.0f, 101.0f, 95.0f, 119.0f };
#define STEPS(s) s, (int)(sizeof s / sizeof *s)

static const search search_q2_k = { 16, 0.0f, 3.0f, 15.0f, STEPS(steps_two), 2 };
static const search search_q3_k = { 16, -4.0f, 3.0f, 32.0f, STEPS(steps_three), 2 };
static const search search_q4_k = { 32, 0.0f, 15.0f, 63.0f, STEPS(steps_four), 2 };
static const search search_q5_k = { 32, 0.0f, 31.0f, 63.0f, STEPS(steps_five), 2 };
static const search search_q6_k = { 16, -32.0f, 31.0f, 128.0f, STEPS(steps_six), 1 };
static const search search_iq4_xs = { 32, -127.0f, 113.0f, 32.0f, STEPS(steps_table), 1 };

void sl_encode_q2_k(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q2_k *b = blocks;
    for (int64_t at = 0; at < n; at += VALUES, b++) {
        sl_ints_256 w;
        fit_minimum(x + at, weights ? weights + at : NULL, &search_q2_k, &w);
        sl_store_half(b->d, w.d);
        sl_store_half(b->m, w.m);
        for (int g = 0; g < 16; g++)
            b->s[g] = (uint8_t)(w.s[g] | w.k[g] << 4);
        store_two_bits(b->q, (const uint8_t *)w.q);
    }
}

void sl_encode_q3_k(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q3_k *b = blocks;
    for (int64_t at = 0; at < n; at += VALUES, b++) {
        sl_ints_256 w;
        fit_signed(x + at, weights ? weights + at : NULL, &search_q3_k, level_whole, &w);
        sl_store_half(b->d, w.d);
        memset(b->s, 0, sizeof b->s);
        for (int g = 0; g < 16; g++) {
            const int s = w.s[g] + 32;
            b->s[g % 8] |= (uint8_t)((s & 15) << g / 8 * 4);
            b->s[8 + g % 4] |= (uint8_t)(s >> 4 << g / 4 * 2);
        }
        for (int j = 0; j < VALUES; j++)
            w.q[j] = (int8_t)(w.q[j] + 4);
        store_two_bits(b->q, (const uint8_t *)w.q);
        store_one_bit(b->h, (const uint8_t *)w.q, 2);
    }
}

void sl_encode_q4_k(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q4_k *b = blocks;
    for (int64_t at = 0; at < n; at += VALUES, b++) {
        sl_ints_256 w;
        fit_minimum(x + at, weights ? weights + at : NULL, &search_q4_k, &w);
        sl_store_half(b->d, w.d);
        sl_store_half(b->m, w.m);
        store_six(b->s, w.s, w.k);
        store_nibbles(b->q, (const uint8_t *)w.q);
    }
}

void sl_encode_q5_k(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q5_k *b = blocks;
    for (int64_t at = 0; at < n; at += VALUES, b++) {
        sl_ints_256 w;
        fit_minimum(x + at, weights ? weights + at : NULL, &search_q5_k, &w);
        sl_store_half(b->d, w.d);
        sl_store_half(b->m, w.m);
        store_six(b->s, w.s, w.k);
        store_nibbles(b->q, (const uint8_t *)w.q);
        store_one_bit(b->h, (const uint8_t *)w.q, 4);
    }
}

/* Apart from the search, whose frame is large enough without it. */
static __attribute__((noinline)) void store_six_bits(sl_block_q6_k *b, const int8_t *q)
{
    uint8_t high[VALUES];
    for (int j = 0; j < VALUES; j++) {
        const int raised = q[j] + 32, at = j / 128 * 64 + j % 64;
        b->q[at] = (uint8_t)(j % 128 < 64 ? raised & 15 : b->q[at] | (raised & 15) << 4);
        high[j] = (uint8_t)(raised >> 4);
    }
    store_two_bits(b->h, high);
}

void sl_encode_q6_k(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q6_k *b = blocks;
    for (int64_t at = 0; at < n; at += VALUES, b++) {
        sl_ints_256 w;
        fit_signed(x + at, weights ? weights + at : NULL, &search_q6_k, level_whole, &w);
        sl_store_half(b->d, w.d);
        memcpy(b->s, w.s, 16);
        store_six_bits(b, w.q);
    }
}

void sl_encode_iq4_xs(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_iq4_xs *b = blocks;
    for (int64_t at = 0; at < n; at += VALUES, b++) {
        sl_ints_256 w;
        unsigned high = 0;
        fit_signed(x + at, weights ? weights + at : NULL, &search_iq4_xs, level_table, &w);
        sl_store_half(b->d, w.d);
        memset(b->sl, 0, sizeof b->sl);
        for (int g = 0; g < 8; g++) {
            const int s = w.s[g] + 32;
            b->sl[g / 2] |= (uint8_t)((s & 15) << g % 2 * 4);
            high |= (unsigned)(s >> 4) << 2 * g;
        }
        sl_store16(b->sh, (uint16_t)high);
        for (int i = 0; i < 128; i++)
            b->q[i] = (uint8_t)(sl_iq4_code(w.q[i / 16 * 32 + i % 16]) | sl_iq4_code(w.q[i / 16 * 32 + 16 + i % 16]) << 4);
    }
}
