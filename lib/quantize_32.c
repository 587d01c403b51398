/* SPDX-License-Identifier: MIT */
/* quantize_32.c - encoders of the plain types and of those with blocks of 32, and the table of all. Four blocks are searched at a time. */
#include "quantize_blocks.h"
#include "quantize_search.h"

enum { N = 32, UNIT = LANES * N, TURNS = 4 };

/* ---- plain numbers ---- */

#define PLAIN static __attribute__((unused)) void       /* unused where the type's row is left out of the build */

PLAIN encode_f32(const float *x, const float *weights, int64_t n, void *blocks)
{
    (void)weights;
    memcpy(blocks, x, (size_t)n * sizeof *x);
}

PLAIN encode_f16(const float *x, const float *weights, int64_t n, void *blocks)
{
    (void)weights;
    for (int64_t i = 0; i < n; i++)
        sl_store_half((uint8_t *)blocks + 2 * i, x[i]);
}

PLAIN encode_bf16(const float *x, const float *weights, int64_t n, void *blocks)
{
    (void)weights;
    for (int64_t i = 0; i < n; i++)
        sl_store16((uint8_t *)blocks + 2 * i, sl_float_to_bf16(x[i]));
}

/* Nothing to search: the largest magnitude becomes 127. These are the bytes that every writer of this type makes. */
void sl_encode_q8_0(const float *x, const float *weights, int64_t n, void *blocks)
{
    (void)weights;
    sl_block_q8_0 *b = blocks;
    for (int64_t i = 0; i < n / N; i++, b++, x += N) {
        float most = 0.0f;
        for (int k = 0; k < N; k++) {
            const float a = sl_float(sl_bits(x[k]) & 0x7fffffffu);
            most = a > most ? a : most;
        }
        const float d = most / 127.0f, inverse = d > 0x1p-128f ? 1.0f / d : 0.0f;      /* below: not finite, and what d becomes is 0 */
        sl_store_half(b->d, d);
        for (int k = 0; k < N; k++) {
            const float t = x[k] * inverse;     /* halves away from zero; the half added never rounds up to a whole number below 2^22 */
            b->q[k] = (uint8_t)(int8_t)(int32_t)(t < 0.0f ? t - 0.5f : t + 0.5f);
        }
    }
}

/* ---- what four blocks have in common ---- */

/* A unit of the input, filled up with zeros behind the last of n numbers. */
typedef struct unit { float x[UNIT], w[UNIT]; } unit;

static int unit_load(unit *u, const float *x, const float *weights, int64_t n)
{
    const int count = n < UNIT ? (int)n : UNIT;
    for (int k = 0; k < UNIT; k++) {
        u->x[k] = k < count ? x[k] : 0.0f;
        u->w[k] = weights && k < count ? weights[k] : 1.0f;
    }
    return count / N;
}

INLINED lanes half_next(lanes x)
{
    for (int l = 0; l < LANES; l++)
        x[l] = sl_half_next(x[l]);
    return x;
}

/* ---- scale alone ---- */

/* The integers of the four blocks of a unit. Every round takes the levels that the scale chooses, and then the scale that is best for the levels. */
INLINED void fit_signed(const unit *u, level_fn *level, float low, float high, const float *steps, int n_steps, sl_ints_32 *out)
{
    groups g;
    lanes numbers[2 * N];
    lanes scale, plain, chosen, best;
    groups_load(&g, numbers, u->x, u->w, N, 0);
    search_signed(&g, N, level, low, high, steps, n_steps, &scale, &plain);
    chosen = half_next(plain);
    best = sum_errors(&g, N, level, chosen, lanes_of(0.0f), lanes_of(low), lanes_of(high)).error;
    for (int i = 0; i < TURNS; i++) {
        const lanes half = half_next(scale);
        const sums s = sum_errors(&g, N, level, half, lanes_of(0.0f), lanes_of(low), lanes_of(high));
        const lane_marks better = s.error < best;
        best = choose(better, s.error, best);
        chosen = choose(better, half, chosen);
        scale = s.qx * inverse_of(s.qq);
    }
    for (int l = 0; l < LANES; l++)
        out[l].d = chosen[l];
    for (int k = 0; k < N; k++) {
        const lanes q = level(g.x[k] * inverse_of(chosen), lanes_of(low), lanes_of(high));
        for (int l = 0; l < LANES; l++)
            out[l].q[k] = (int8_t)q[l];
    }
}

static const float steps_4[] = { -8.0f, -7.1f, -7.4f, -7.7f, -8.3f, -8.6f, -8.9f, -9.4f, 7.0f, 6.7f, 7.2f, 7.4f, 7.7f, 8.0f, 8.4f };
static const float steps_5[] = { -16.0f, -15.2f, -15.6f, -16.4f, -16.8f, -17.2f, 15.0f, 14.7f, 15.3f, 15.6f, 16.0f };
static const float steps_table[] = { -127.0f, -120.0f, -112.0f, -105.0f, -135.0f,
                                     113.0f, 107.0f, 101.0f, 95.0f, 119.0f };
#define STEPS(s) s, (int)(sizeof s / sizeof *s)

/* Nibbles of element j and 16 + j in byte j; what is above them into the 32 bits at `h`, if there are any. */
static void store_nibbles(uint8_t *q, uint8_t *h, const int8_t *from, int offset)
{
    uint32_t fifth = 0;
    for (int j = 0; j < 16; j++) {
        const int low = from[j] + offset, high = from[16 + j] + offset;
        q[j] = (uint8_t)((low & 15) | (high & 15) << 4);
        fifth |= (uint32_t)(low >> 4 & 1) << j | (uint32_t)(high >> 4 & 1) << (16 + j);
    }
    for (int i = 0; h && i < 4; i++)
        h[i] = (uint8_t)(fifth >> 8 * i);
}

void sl_encode_q4_0(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q4_0 *b = blocks;
    for (int64_t at = 0; at < n; at += UNIT) {
        unit u;
        sl_ints_32 ints[LANES];
        const int count = unit_load(&u, x + at, weights ? weights + at : NULL, n - at);
        fit_signed(&u, level_whole, -8.0f, 7.0f, STEPS(steps_4), ints);
        for (int i = 0; i < count; i++, b++) {
            sl_store_half(b->d, ints[i].d);
            store_nibbles(b->q, NULL, ints[i].q, 8);
        }
    }
}

void sl_encode_q5_0(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q5_0 *b = blocks;
    for (int64_t at = 0; at < n; at += UNIT) {
        unit u;
        sl_ints_32 ints[LANES];
        const int count = unit_load(&u, x + at, weights ? weights + at : NULL, n - at);
        fit_signed(&u, level_whole, -16.0f, 15.0f, STEPS(steps_5), ints);
        for (int i = 0; i < count; i++, b++) {
            sl_store_half(b->d, ints[i].d);
            store_nibbles(b->q, b->h, ints[i].q, 16);
        }
    }
}

void sl_encode_iq4_nl(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_iq4_nl *b = blocks;
    for (int64_t at = 0; at < n; at += UNIT) {
        unit u;
        sl_ints_32 ints[LANES];
        const int count = unit_load(&u, x + at, weights ? weights + at : NULL, n - at);
        fit_signed(&u, level_table, -127.0f, 113.0f, STEPS(steps_table), ints);
        for (int i = 0; i < count; i++, b++) {
            sl_store_half(b->d, ints[i].d);
            for (int j = 0; j < 16; j++)
                b->q[j] = (uint8_t)(sl_iq4_code(ints[i].q[j]) | sl_iq4_code(ints[i].q[16 + j]) << 4);
        }
    }
}

/* ---- scale and minimum ---- */

static const float steps_minimum[] = { 0.0f, -0.9f, -0.6f, -0.3f, 0.3f, 0.6f, 0.9f, 1.3f };

/* The same for x about d q + m: both become halves, the minimum first, so that the scale can make up for it. */
INLINED void fit_minimum(const unit *u, float top, sl_ints_32 *out)
{
    groups g;
    lanes numbers[2 * N];
    lanes scale, offset, plain, chosen, chosen_offset, best;
    groups_load(&g, numbers, u->x, u->w, N, 1);
    const lanes anywhere = lanes_of(4.0f * SL_QUANTIZE_MAX), low = lanes_of(0.0f), high = lanes_of(top);
    search_minimum(&g, N, top, STEPS(steps_minimum), anywhere, &scale, &offset, &plain);
    chosen = half_next(plain), chosen_offset = half_next(g.least) - g.least;
    best = sum_errors(&g, N, level_whole, chosen, chosen_offset, low, high).error;
    for (int i = 0; i < TURNS; i++) {
        const lanes half = half_next(scale), half_offset = half_next(g.least + offset) - g.least;
        const sums s = sum_errors(&g, N, level_whole, half, half_offset, low, high);
        const lane_marks better = s.error < best;
        best = choose(better, s.error, best);
        chosen = choose(better, half, chosen);
        chosen_offset = choose(better, half_offset, chosen_offset);
        solve_minimum(&g, s, anywhere, &scale, &offset);
    }
    for (int l = 0; l < LANES; l++) {
        out[l].d = chosen[l];
        out[l].m = g.least[l] + chosen_offset[l];
    }
    for (int k = 0; k < N; k++) {
        const lanes q = level_whole((g.x[k] - chosen_offset) * inverse_of(chosen), lanes_of(0.0f), lanes_of(top));
        for (int l = 0; l < LANES; l++)
            out[l].q[k] = (int8_t)q[l];
    }
}

void sl_encode_q4_1(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q4_1 *b = blocks;
    for (int64_t at = 0; at < n; at += UNIT) {
        unit u;
        sl_ints_32 ints[LANES];
        const int count = unit_load(&u, x + at, weights ? weights + at : NULL, n - at);
        fit_minimum(&u, 15.0f, ints);
        for (int i = 0; i < count; i++, b++) {
            sl_store_half(b->d, ints[i].d);
            sl_store_half(b->m, ints[i].m);
            store_nibbles(b->q, NULL, ints[i].q, 0);
        }
    }
}

void sl_encode_q5_1(const float *x, const float *weights, int64_t n, void *blocks)
{
    sl_block_q5_1 *b = blocks;
    for (int64_t at = 0; at < n; at += UNIT) {
        unit u;
        sl_ints_32 ints[LANES];
        const int count = unit_load(&u, x + at, weights ? weights + at : NULL, n - at);
        fit_minimum(&u, 31.0f, ints);
        for (int i = 0; i < count; i++, b++) {
            sl_store_half(b->d, ints[i].d);
            sl_store_half(b->m, ints[i].m);
            store_nibbles(b->q, b->h, ints[i].q, 0);
        }
    }
}

/* ---- the table ---- */

static sl_encode_blocks *const encoders[SL_TYPE_COUNT] = {
    SL_ROW(TYPE_F32, [SL_TYPE_F32] = encode_f32, )
    SL_ROW(TYPE_F16, [SL_TYPE_F16] = encode_f16, )
    SL_ROW(TYPE_BF16, [SL_TYPE_BF16] = encode_bf16, )
    SL_ROW(TYPE_Q8_0, [SL_TYPE_Q8_0] = sl_encode_q8_0, )
    SL_ROW(TYPE_Q4_0, [SL_TYPE_Q4_0] = sl_encode_q4_0, )
    SL_ROW(TYPE_Q4_1, [SL_TYPE_Q4_1] = sl_encode_q4_1, )
    SL_ROW(TYPE_Q5_0, [SL_TYPE_Q5_0] = sl_encode_q5_0, )
    SL_ROW(TYPE_Q5_1, [SL_TYPE_Q5_1] = sl_encode_q5_1, )
    SL_ROW(TYPE_IQ4_NL, [SL_TYPE_IQ4_NL] = sl_encode_iq4_nl, )
    SL_ROW(TYPE_Q2_K, [SL_TYPE_Q2_K] = sl_encode_q2_k, )
    SL_ROW(TYPE_Q3_K, [SL_TYPE_Q3_K] = sl_encode_q3_k, )
    SL_ROW(TYPE_Q4_K, [SL_TYPE_Q4_K] = sl_encode_q4_k, )
    SL_ROW(TYPE_Q5_K, [SL_TYPE_Q5_K] = sl_encode_q5_k, )
    SL_ROW(TYPE_Q6_K, [SL_TYPE_Q6_K] = sl_encode_q6_k, )
    SL_ROW(TYPE_IQ4_XS, [SL_TYPE_IQ4_XS] = sl_encode_iq4_xs, )
};

sl_encode_blocks *sl_encoder_get(sl_type type) { return (unsigned)type < SL_TYPE_COUNT ? encoders[type] : NULL; }
