/* SPDX-License-Identifier: MIT */
/* blocks_32.h - types whose scales cover at most 128 elements and whose activations lie in blocks of 32. Included by blocks.h.
 *
 * x[j] = q[j] d (+ m). Canonical step per 32 elements, S = sum of q[j] times the activation's q, an exact int32 (|S| <= 32 * 128 * 127 < 2^20):
 *   acc = fma(d * d_x, (float)S, acc), and for Q4_1 and Q5_1 then acc = fma(m * d_x, (float)sum_x, acc).
 * NVFP4 has a scale, and so an fma, per 16 elements. */
#ifndef SL_BLOCKS_32_H
#define SL_BLOCKS_32_H

#include "blocks.h"
#include "grids.h"

/* The integers of one block of 32; m is 0 for types without a minimum. */
typedef struct { float d, m; int8_t q[32]; } sl_ints_32;
/* The integers of a block of 64 or 128 (the first 64 or 128), d[i]: of the elements 16 i to 16 i + 15 (NVFP4, Q2_0: i < 4, Q1_0: i < 8). */
typedef struct { float d[8]; int8_t q[128]; } sl_ints_128;

typedef struct { uint8_t d[2], q[16]; } sl_block_q4_0;
typedef struct { uint8_t d[2], m[2], q[16]; } sl_block_q4_1;
typedef struct { uint8_t d[2], h[4], q[16]; } sl_block_q5_0;
typedef struct { uint8_t d[2], m[2], h[4], q[16]; } sl_block_q5_1;
typedef struct { uint8_t d[2], q[32]; } sl_block_q8_0;
typedef struct { uint8_t d[2], s[2], q[32]; } sl_block_q8_1;
typedef struct { uint8_t d[2], q[16]; } sl_block_iq4_nl;
typedef struct { uint8_t e, q[16]; } sl_block_mxfp4;
typedef struct { uint8_t u[4], q[32]; } sl_block_nvfp4;
typedef struct { uint8_t d[2], q[16]; } sl_block_q1_0;
typedef struct { uint8_t d[2], q[16]; } sl_block_q2_0;
SL_STATIC_ASSERT(sizeof(sl_block_q4_0) == 18 && sizeof(sl_block_q4_1) == 20 && sizeof(sl_block_q5_0) == 22 && sizeof(sl_block_q5_1) == 24, "Q4, Q5");
SL_STATIC_ASSERT(sizeof(sl_block_q8_0) == 34 && sizeof(sl_block_q8_1) == 36 && sizeof(sl_block_iq4_nl) == 18, "Q8, IQ4_NL");
SL_STATIC_ASSERT(sizeof(sl_block_mxfp4) == 17 && sizeof(sl_block_nvfp4) == 36, "MXFP4, NVFP4");
SL_STATIC_ASSERT(sizeof(sl_block_q1_0) == 18 && sizeof(sl_block_q2_0) == 18, "Q1_0, Q2_0");

static inline SL_FN void sl_decode_ints_32(const sl_ints_32 *w, float *x)
{
    for (int j = 0; j < 32; j++)
        x[j] = (float)w->q[j] * w->d;
}

static inline SL_FN void sl_decode_ints_32_m(const sl_ints_32 *w, float *x)
{
    for (int j = 0; j < 32; j++)
        x[j] = (float)w->q[j] * w->d + w->m;
}

static inline SL_FN float sl_dot_ints_32(const sl_ints_32 *w, const void *act, float acc)
{
    const sl_block_a32 *x = (const sl_block_a32 *)act;
    return sl_fma(w->d * x->d, (float)sl_sum_products(w->q, x->q, 32), acc);
}

static inline SL_FN float sl_dot_ints_32_m(const sl_ints_32 *w, const void *act, float acc)
{
    const sl_block_a32 *x = (const sl_block_a32 *)act;
    return sl_fma(w->m * x->d, (float)x->sum, sl_dot_ints_32(w, act, acc));
}

/* ---- nibbles with an offset, a minimum, a fifth bit ---- */

static inline SL_FN void sl_unpack_q4_0(const sl_block_q4_0 *b, sl_ints_32 *w)
{
    w->d = sl_load_half(b->d);
    w->m = 0.0f;
    for (int j = 0; j < 16; j++) {
        w->q[j] = (int8_t)(sl_low(b->q[j]) - 8);
        w->q[16 + j] = (int8_t)(sl_high(b->q[j]) - 8);
    }
}

static inline SL_FN void sl_unpack_q4_1(const sl_block_q4_1 *b, sl_ints_32 *w)
{
    w->d = sl_load_half(b->d);
    w->m = sl_load_half(b->m);
    for (int j = 0; j < 16; j++) {
        w->q[j] = (int8_t)sl_low(b->q[j]);
        w->q[16 + j] = (int8_t)sl_high(b->q[j]);
    }
}

/* Nibbles q and fifth bits h, less `offset`. */
static inline SL_FN void sl_unpack_five(const uint8_t *q, const uint8_t *h, int offset, int8_t *out)
{
    uint32_t bits = sl_load32(h);
    for (int j = 0; j < 16; j++) {
        out[j] = (int8_t)(sl_low(q[j]) + (int)(bits >> j & 1) * 16 - offset);
        out[16 + j] = (int8_t)(sl_high(q[j]) + (int)(bits >> (16 + j) & 1) * 16 - offset);
    }
}

static inline SL_FN void sl_unpack_q5_0(const sl_block_q5_0 *b, sl_ints_32 *w)
{
    w->d = sl_load_half(b->d);
    w->m = 0.0f;
    sl_unpack_five(b->q, b->h, 16, w->q);
}

static inline SL_FN void sl_unpack_q5_1(const sl_block_q5_1 *b, sl_ints_32 *w)
{
    w->d = sl_load_half(b->d);
    w->m = sl_load_half(b->m);
    sl_unpack_five(b->q, b->h, 0, w->q);
}

static inline SL_FN void sl_unpack_q8_0(const sl_block_q8_0 *b, sl_ints_32 *w)
{
    w->d = sl_load_half(b->d);
    w->m = 0.0f;
    memcpy(w->q, b->q, 32);
}

static inline SL_FN void sl_unpack_q8_1(const sl_block_q8_1 *b, sl_ints_32 *w)
{
    w->d = sl_load_half(b->d);
    w->m = 0.0f;
    memcpy(w->q, b->q, 32);
}

static inline SL_FN void sl_unpack_iq4_nl(const sl_block_iq4_nl *b, sl_ints_32 *w)
{
    w->d = sl_load_half(b->d);
    w->m = 0.0f;
    for (int j = 0; j < 16; j++) {
        w->q[j] = sl_grid_iq4nl[sl_low(b->q[j])];
        w->q[16 + j] = sl_grid_iq4nl[sl_high(b->q[j])];
    }
}

/* 2^(e - 128), exact: the table holds twice the values, hence not 127. e = 0 and 1 give subnormals. */
static inline SL_FN float sl_mxfp4_scale(uint8_t e) { return sl_float(e > 1 ? (uint32_t)(e - 1) << 23 : 0x200000u << e); }

static inline SL_FN void sl_unpack_mxfp4(const sl_block_mxfp4 *b, sl_ints_32 *w)
{
    w->d = sl_mxfp4_scale(b->e);
    w->m = 0.0f;
    for (int j = 0; j < 16; j++) {
        w->q[j] = sl_grid_fp4x2[sl_low(b->q[j])];
        w->q[16 + j] = sl_grid_fp4x2[sl_high(b->q[j])];
    }
}

static inline SL_FN void sl_decode_q4_0(const sl_block_q4_0 *b, float *x) { sl_ints_32 w; sl_unpack_q4_0(b, &w); sl_decode_ints_32(&w, x); }
static inline SL_FN void sl_decode_q4_1(const sl_block_q4_1 *b, float *x) { sl_ints_32 w; sl_unpack_q4_1(b, &w); sl_decode_ints_32_m(&w, x); }
static inline SL_FN void sl_decode_q5_0(const sl_block_q5_0 *b, float *x) { sl_ints_32 w; sl_unpack_q5_0(b, &w); sl_decode_ints_32(&w, x); }
static inline SL_FN void sl_decode_q5_1(const sl_block_q5_1 *b, float *x) { sl_ints_32 w; sl_unpack_q5_1(b, &w); sl_decode_ints_32_m(&w, x); }
static inline SL_FN void sl_decode_q8_0(const sl_block_q8_0 *b, float *x) { sl_ints_32 w; sl_unpack_q8_0(b, &w); sl_decode_ints_32(&w, x); }
static inline SL_FN void sl_decode_q8_1(const sl_block_q8_1 *b, float *x) { sl_ints_32 w; sl_unpack_q8_1(b, &w); sl_decode_ints_32(&w, x); }
static inline SL_FN void sl_decode_iq4_nl(const sl_block_iq4_nl *b, float *x) { sl_ints_32 w; sl_unpack_iq4_nl(b, &w); sl_decode_ints_32(&w, x); }
static inline SL_FN void sl_decode_mxfp4(const sl_block_mxfp4 *b, float *x) { sl_ints_32 w; sl_unpack_mxfp4(b, &w); sl_decode_ints_32(&w, x); }

static inline SL_FN int sl_check_q4_0(const sl_block_q4_0 *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_q4_1(const sl_block_q4_1 *b) { return sl_bad_half(b->d) || sl_bad_half(b->m); }
static inline SL_FN int sl_check_q5_0(const sl_block_q5_0 *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_q5_1(const sl_block_q5_1 *b) { return sl_bad_half(b->d) || sl_bad_half(b->m); }
static inline SL_FN int sl_check_q8_0(const sl_block_q8_0 *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_q8_1(const sl_block_q8_1 *b) { return sl_bad_half(b->d) || sl_bad_half(b->s); }
static inline SL_FN int sl_check_iq4_nl(const sl_block_iq4_nl *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_mxfp4(const sl_block_mxfp4 *b) { return b->e > 252; }    /* 12 * 2^(253 - 128) is no float32; 255 is NaN */

static inline SL_FN float sl_dot_q4_0(const void *w, const void *act, float acc)
{
    sl_ints_32 ints;
    sl_unpack_q4_0((const sl_block_q4_0 *)w, &ints);
    return sl_dot_ints_32(&ints, act, acc);
}
static inline SL_FN float sl_dot_q4_1(const void *w, const void *act, float acc)
{
    sl_ints_32 ints;
    sl_unpack_q4_1((const sl_block_q4_1 *)w, &ints);
    return sl_dot_ints_32_m(&ints, act, acc);
}
static inline SL_FN float sl_dot_q5_0(const void *w, const void *act, float acc)
{
    sl_ints_32 ints;
    sl_unpack_q5_0((const sl_block_q5_0 *)w, &ints);
    return sl_dot_ints_32(&ints, act, acc);
}
static inline SL_FN float sl_dot_q5_1(const void *w, const void *act, float acc)
{
    sl_ints_32 ints;
    sl_unpack_q5_1((const sl_block_q5_1 *)w, &ints);
    return sl_dot_ints_32_m(&ints, act, acc);
}
static inline SL_FN float sl_dot_q8_0(const void *w, const void *act, float acc)
{
    const sl_block_q8_0 *b = (const sl_block_q8_0 *)w;
    const sl_block_a32 *x = (const sl_block_a32 *)act;
    return sl_fma(sl_load_half(b->d) * x->d, (float)sl_sum_products((const int8_t *)b->q, x->q, 32), acc);
}
static inline SL_FN float sl_dot_iq4_nl(const void *w, const void *act, float acc)
{
    sl_ints_32 ints;
    sl_unpack_iq4_nl((const sl_block_iq4_nl *)w, &ints);
    return sl_dot_ints_32(&ints, act, acc);
}
static inline SL_FN float sl_dot_mxfp4(const void *w, const void *act, float acc)
{
    sl_ints_32 ints;
    sl_unpack_mxfp4((const sl_block_mxfp4 *)w, &ints);
    return sl_dot_ints_32(&ints, act, acc);
}

/* ---- NVFP4, Q1_0, Q2_0: several blocks of activations beside one block of weights ---- */

static inline SL_FN void sl_decode_ints_128(const sl_ints_128 *w, int n, float *x)
{
    for (int j = 0; j < n; j++)
        x[j] = (float)w->q[j] * w->d[j / 16];
}

/* One scale for 32 elements: one fma per 32. */
static inline SL_FN float sl_dot_ints_128(const sl_ints_128 *w, int n, const void *act, float acc)
{
    const sl_block_a32 *x = (const sl_block_a32 *)act;
    for (int i = 0; i < n / 32; i++)
        acc = sl_fma(w->d[2 * i] * x[i].d, (float)sl_sum_products(w->q + 32 * i, x[i].q, 32), acc);
    return acc;
}

/* Half the unsigned E4M3 number of `code` (the table holds twice the values); the NaN code counts as 0. */
static inline SL_FN float sl_nvfp4_scale(uint8_t code)
{
    uint32_t e = code >> 3 & 15, m = code & 7;
    if (code == 0x7f)
        return 0.0f;
    return e ? sl_float((e + 119) << 23 | m << 20) : (float)m * 0x1p-10f;
}

static inline SL_FN void sl_unpack_nvfp4(const sl_block_nvfp4 *b, sl_ints_128 *w)
{
    for (int g = 0; g < 4; g++) {
        w->d[g] = sl_nvfp4_scale(b->u[g]);
        for (int j = 0; j < 8; j++) {
            w->q[16 * g + j] = sl_grid_fp4x2[sl_low(b->q[8 * g + j])];
            w->q[16 * g + 8 + j] = sl_grid_fp4x2[sl_high(b->q[8 * g + j])];
        }
    }
}

static inline SL_FN void sl_unpack_q1_0(const sl_block_q1_0 *b, sl_ints_128 *w)
{
    for (int i = 0; i < 8; i++)
        w->d[i] = sl_load_half(b->d);
    for (int j = 0; j < 128; j++)
        w->q[j] = (int8_t)((b->q[j / 8] >> j % 8 & 1) * 2 - 1);
}

static inline SL_FN void sl_unpack_q2_0(const sl_block_q2_0 *b, sl_ints_128 *w)
{
    for (int i = 0; i < 4; i++)
        w->d[i] = sl_load_half(b->d);
    for (int j = 0; j < 64; j++)
        w->q[j] = (int8_t)((b->q[j / 4] >> j % 4 * 2 & 3) - 1);
}

static inline SL_FN void sl_decode_nvfp4(const sl_block_nvfp4 *b, float *x) { sl_ints_128 w; sl_unpack_nvfp4(b, &w); sl_decode_ints_128(&w, 64, x); }
static inline SL_FN void sl_decode_q1_0(const sl_block_q1_0 *b, float *x) { sl_ints_128 w; sl_unpack_q1_0(b, &w); sl_decode_ints_128(&w, 128, x); }
static inline SL_FN void sl_decode_q2_0(const sl_block_q2_0 *b, float *x) { sl_ints_128 w; sl_unpack_q2_0(b, &w); sl_decode_ints_128(&w, 64, x); }

static inline SL_FN int sl_check_nvfp4(const sl_block_nvfp4 *b) { return b->u[0] >= 0x7f || b->u[1] >= 0x7f || b->u[2] >= 0x7f || b->u[3] >= 0x7f; }
static inline SL_FN int sl_check_q1_0(const sl_block_q1_0 *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_q2_0(const sl_block_q2_0 *b) { return sl_bad_half(b->d); }

static inline SL_FN float sl_dot_nvfp4(const void *w, const void *act, float acc)
{
    const sl_block_a32 *x = (const sl_block_a32 *)act;
    sl_ints_128 ints;
    sl_unpack_nvfp4((const sl_block_nvfp4 *)w, &ints);
    for (int g = 0; g < 4; g++)
        acc = sl_fma(ints.d[g] * x[g / 2].d, (float)sl_sum_products(ints.q + 16 * g, x[g / 2].q + g % 2 * 16, 16), acc);
    return acc;
}
static inline SL_FN float sl_dot_q1_0(const void *w, const void *act, float acc)
{
    sl_ints_128 ints;
    sl_unpack_q1_0((const sl_block_q1_0 *)w, &ints);
    return sl_dot_ints_128(&ints, 128, act, acc);
}
static inline SL_FN float sl_dot_q2_0(const void *w, const void *act, float acc)
{
    sl_ints_128 ints;
    sl_unpack_q2_0((const sl_block_q2_0 *)w, &ints);
    return sl_dot_ints_128(&ints, 64, act, acc);
}

#endif
