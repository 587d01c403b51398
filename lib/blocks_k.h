/* SPDX-License-Identifier: MIT */
/* blocks_k.h - super-blocks of 256 elements with sub-scales: Q2_K to Q6_K and Q8_K; the forms that blocks_iq.h shares. Included by blocks.h.
 *
 * Every type of 256 elements is integers q[j], integer sub-scales s[g] of groups of 16 (g = j div 16; types with groups of 32 repeat them) and
 * one float d, so that x[j] = (d s[g]) q[j], less (m k[g]) for Q2_K, Q4_K and Q5_K. Canonical step, all sums exact in int32:
 *   S = sum over g of s[g] sum over j of q[j] q_x[j];   acc = fma(d * d_x, (float)S, acc)
 *   M = sum over g of k[g] sum_x[g];                    acc = fma(-(m * d_x), (float)M, acc)      (Q2_K, Q4_K, Q5_K)
 * Bounds (|q_x| <= 127; 256 * max |s| * max |q| * 127 < 2^31 in every case):
 *   Q2_K 15 * 3, M: 15     Q3_K 32 * 4     Q4_K 63 * 15, M: 63     Q5_K 63 * 31, M: 63     Q6_K 128 * 32     IQ4_XS 32 * 127
 *   IQ2_XXS, IQ2_XS, IQ2_S 31 * 43     IQ3_XXS 31 * 62     IQ3_S 31 * 15     IQ1_S, IQ1_M 15 * 9     TQ1_0, TQ2_0 1 * 2
 * The largest is Q6_K: 256 * 128 * 32 * 127 = 133169152. */
#ifndef SL_BLOCKS_K_H
#define SL_BLOCKS_K_H

#include "blocks.h"

/* d and m are taken from the block times the type's factor (blocks_iq.h). m and k are set by the types with minima only. */
typedef struct { float d, m; int8_t s[16], k[16], q[256]; } sl_ints_256;

typedef struct { uint8_t s[16], q[64], d[2], m[2]; } sl_block_q2_k;
typedef struct { uint8_t h[32], q[64], s[12], d[2]; } sl_block_q3_k;
typedef struct { uint8_t d[2], m[2], s[12], q[128]; } sl_block_q4_k;
typedef struct { uint8_t d[2], m[2], s[12], h[32], q[128]; } sl_block_q5_k;
typedef struct { uint8_t q[128], h[64], s[16], d[2]; } sl_block_q6_k;
typedef struct { uint8_t d[4], q[256], sums[32]; } sl_block_q8_k;
SL_STATIC_ASSERT(sizeof(sl_block_q2_k) == 84 && sizeof(sl_block_q3_k) == 110 && sizeof(sl_block_q4_k) == 144, "Q2_K, Q3_K, Q4_K");
SL_STATIC_ASSERT(sizeof(sl_block_q5_k) == 176 && sizeof(sl_block_q6_k) == 210 && sizeof(sl_block_q8_k) == 292, "Q5_K, Q6_K, Q8_K");

static inline SL_FN void sl_decode_ints_256(const sl_ints_256 *w, float *x)
{
    for (int g = 0; g < 16; g++) {
        float d = w->d * (float)w->s[g];
        for (int j = 16 * g; j < 16 * g + 16; j++)
            x[j] = d * (float)w->q[j];
    }
}

static inline SL_FN void sl_decode_ints_256_m(const sl_ints_256 *w, float *x)
{
    for (int g = 0; g < 16; g++) {
        float d = w->d * (float)w->s[g], m = w->m * (float)w->k[g];
        for (int j = 16 * g; j < 16 * g + 16; j++)
            x[j] = d * (float)w->q[j] - m;
    }
}

static inline SL_FN float sl_dot_ints_256(const sl_ints_256 *w, const void *act, float acc)
{
    const sl_block_a256 *x = (const sl_block_a256 *)act;
    int32_t sum = 0;
    for (int g = 0; g < 16; g++)
        sum += w->s[g] * sl_sum_products(w->q + 16 * g, x->q + 16 * g, 16);
    return sl_fma(w->d * x->d, (float)sum, acc);
}

static inline SL_FN float sl_dot_ints_256_m(const sl_ints_256 *w, const void *act, float acc)
{
    const sl_block_a256 *x = (const sl_block_a256 *)act;
    int32_t sum = 0;
    for (int g = 0; g < 16; g++)
        sum += w->k[g] * x->sum[g];
    return sl_fma(-(w->m * x->d), (float)sum, sl_dot_ints_256(w, act, acc));
}

/* Two-bit plane (Q2_K, Q3_K, Q6_K, TQ2_0): 64 bytes, element j is bits 2k, 2k + 1 of byte 32 (j div 128) + j mod 32 with k = j mod 128 div 32. */
static inline SL_FN int sl_plane2(const uint8_t *plane, int j) { return plane[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3; }
/* One-bit plane (Q3_K, Q5_K): 32 bytes, element j is bit j div 32 of byte j mod 32. */
static inline SL_FN int sl_plane1(const uint8_t *plane, int j) { return plane[j % 32] >> j / 32 & 1; }
/* Nibble plane (Q4_K, Q5_K): 128 bytes, element j is a nibble of byte 32 (j div 64) + j mod 32, the low one if j mod 64 < 32. */
static inline SL_FN int sl_plane4(const uint8_t *plane, int j) { return plane[j / 64 * 32 + j % 32] >> j % 64 / 32 * 4 & 15; }

static inline SL_FN void sl_unpack_q2_k(const sl_block_q2_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    w->m = sl_load_half(b->m);
    for (int g = 0; g < 16; g++) {
        w->s[g] = (int8_t)sl_low(b->s[g]);
        w->k[g] = (int8_t)sl_high(b->s[g]);
    }
    for (int j = 0; j < 256; j++)
        w->q[j] = (int8_t)sl_plane2(b->q, j);
}

static inline SL_FN void sl_unpack_q3_k(const sl_block_q3_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    for (int g = 0; g < 16; g++)
        w->s[g] = (int8_t)((b->s[g % 8] >> g / 8 * 4 & 15) + (b->s[8 + g % 4] >> g / 4 * 2 & 3) * 16 - 32);
    for (int j = 0; j < 256; j++)
        w->q[j] = (int8_t)(sl_plane2(b->q, j) + sl_plane1(b->h, j) * 4 - 4);
}

/* Eight six-bit scales and eight six-bit minima in 12 bytes; each stands for 32 elements. */
static inline SL_FN void sl_unpack_six(const uint8_t *p, int8_t *s, int8_t *k)
{
    for (int g = 0; g < 8; g++) {
        int scale = g < 4 ? p[g] & 63 : sl_low(p[g + 4]) + (p[g - 4] >> 6) * 16;
        int minimum = g < 4 ? p[g + 4] & 63 : sl_high(p[g + 4]) + (p[g] >> 6) * 16;
        s[2 * g] = s[2 * g + 1] = (int8_t)scale;
        k[2 * g] = k[2 * g + 1] = (int8_t)minimum;
    }
}

static inline SL_FN void sl_unpack_q4_k(const sl_block_q4_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    w->m = sl_load_half(b->m);
    sl_unpack_six(b->s, w->s, w->k);
    for (int j = 0; j < 256; j++)
        w->q[j] = (int8_t)sl_plane4(b->q, j);
}

static inline SL_FN void sl_unpack_q5_k(const sl_block_q5_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    w->m = sl_load_half(b->m);
    sl_unpack_six(b->s, w->s, w->k);
    for (int j = 0; j < 256; j++)
        w->q[j] = (int8_t)(sl_plane4(b->q, j) + sl_plane1(b->h, j) * 16);
}

static inline SL_FN void sl_unpack_q6_k(const sl_block_q6_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    memcpy(w->s, b->s, 16);
    for (int j = 0; j < 256; j++) {
        int low = b->q[j / 128 * 64 + j % 64] >> j % 128 / 64 * 4 & 15;
        w->q[j] = (int8_t)(low + sl_plane2(b->h, j) * 16 - 32);
    }
}

static inline SL_FN void sl_decode_q2_k(const sl_block_q2_k *b, float *x) { sl_ints_256 w; sl_unpack_q2_k(b, &w); sl_decode_ints_256_m(&w, x); }
static inline SL_FN void sl_decode_q3_k(const sl_block_q3_k *b, float *x) { sl_ints_256 w; sl_unpack_q3_k(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_q4_k(const sl_block_q4_k *b, float *x) { sl_ints_256 w; sl_unpack_q4_k(b, &w); sl_decode_ints_256_m(&w, x); }
static inline SL_FN void sl_decode_q5_k(const sl_block_q5_k *b, float *x) { sl_ints_256 w; sl_unpack_q5_k(b, &w); sl_decode_ints_256_m(&w, x); }
static inline SL_FN void sl_decode_q6_k(const sl_block_q6_k *b, float *x) { sl_ints_256 w; sl_unpack_q6_k(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_q8_k(const sl_block_q8_k *b, float *x)
{
    for (int j = 0; j < 256; j++)
        x[j] = sl_load_float(b->d) * (float)(int8_t)b->q[j];
}

static inline SL_FN int sl_check_q2_k(const sl_block_q2_k *b) { return sl_bad_half(b->d) || sl_bad_half(b->m); }
static inline SL_FN int sl_check_q3_k(const sl_block_q3_k *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_q4_k(const sl_block_q4_k *b) { return sl_bad_half(b->d) || sl_bad_half(b->m); }
static inline SL_FN int sl_check_q5_k(const sl_block_q5_k *b) { return sl_bad_half(b->d) || sl_bad_half(b->m); }
static inline SL_FN int sl_check_q6_k(const sl_block_q6_k *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_q8_k(const sl_block_q8_k *b) { return !sl_is_finite(sl_load_float(b->d)); }

static inline SL_FN float sl_dot_q2_k(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_q2_k((const sl_block_q2_k *)w, &ints);
    return sl_dot_ints_256_m(&ints, act, acc);
}
static inline SL_FN float sl_dot_q3_k(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_q3_k((const sl_block_q3_k *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_q4_k(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_q4_k((const sl_block_q4_k *)w, &ints);
    return sl_dot_ints_256_m(&ints, act, acc);
}
static inline SL_FN float sl_dot_q5_k(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_q5_k((const sl_block_q5_k *)w, &ints);
    return sl_dot_ints_256_m(&ints, act, acc);
}
static inline SL_FN float sl_dot_q6_k(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_q6_k((const sl_block_q6_k *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}

#endif
