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

/* Elements 32 p to 32 p + 31 (p = 0..7) of the planes that the types share, in order:
 * two-bit plane of 64 bytes (Q2_K, Q3_K, Q6_K, TQ2_0): bits 2 (p mod 4) and the next of bytes 32 (p div 4) onwards;
 * one-bit plane of 32 bytes (Q3_K, Q5_K): bit p of each byte;
 * nibble plane of 128 bytes (Q4_K, Q5_K): the low nibbles of bytes 32 (p div 2) onwards for even p, the high ones for odd p. */

static inline SL_FN void sl_unpack_q2_k(const sl_block_q2_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    w->m = sl_load_half(b->m);
    for (int g = 0; g < 16; g++) {
        w->s[g] = (int8_t)sl_low(b->s[g]);
        w->k[g] = (int8_t)sl_high(b->s[g]);
    }
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < 32; i++)
            w->q[32 * p + i] = (int8_t)(b->q[p / 4 * 32 + i] >> p % 4 * 2 & 3);
}

static inline SL_FN void sl_unpack_q3_k(const sl_block_q3_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    for (int g = 0; g < 16; g++)
        w->s[g] = (int8_t)((b->s[g % 8] >> g / 8 * 4 & 15) + (b->s[8 + g % 4] >> g / 4 * 2 & 3) * 16 - 32);
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < 32; i++)
            w->q[32 * p + i] = (int8_t)((b->q[p / 4 * 32 + i] >> p % 4 * 2 & 3) + (b->h[i] >> p & 1) * 4 - 4);
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
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < 32; i++)
            w->q[32 * p + i] = (int8_t)(b->q[p / 2 * 32 + i] >> p % 2 * 4 & 15);
}

static inline SL_FN void sl_unpack_q5_k(const sl_block_q5_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    w->m = sl_load_half(b->m);
    sl_unpack_six(b->s, w->s, w->k);
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < 32; i++)
            w->q[32 * p + i] = (int8_t)((b->q[p / 2 * 32 + i] >> p % 2 * 4 & 15) + (b->h[i] >> p & 1) * 16);
}

static inline SL_FN void sl_unpack_q6_k(const sl_block_q6_k *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    memcpy(w->s, b->s, 16);
    /* low nibbles: 64 bytes per 128 elements, the first 64 of them in the low halves */
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < 32; i++) {
            int low = b->q[p / 4 * 64 + p % 2 * 32 + i] >> p % 4 / 2 * 4 & 15;
            w->q[32 * p + i] = (int8_t)(low + (b->h[p / 4 * 32 + i] >> p % 4 * 2 & 3) * 16 - 32);
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
