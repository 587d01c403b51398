/* SPDX-License-Identifier: MIT */
/* blocks_iq.h - super-blocks of 256 elements with code tables (IQ1, IQ2, IQ3, IQ4_XS) and the ternary ones (TQ1_0, TQ2_0). Included by blocks.h.
 *
 * All are (d s[g]) q[j] as in blocks_k.h. The fractions of the format go into d, exactly (d is a half, so at least 2^-24 or zero):
 *   IQ2_XXS, IQ2_XS, IQ2_S   d (0.5 + n) 0.25 v  =  (d/8) (2n + 1) v       s = 2n + 1, q = +-v
 *   IQ3_XXS                  d (0.5 + n) 0.5 v   =  (d/4) (2n + 1) v
 *   IQ3_S                    d (1 + 2c) v                                  s = 2c + 1
 *   IQ1_S, IQ1_M             d (2c + 1) (v +- 1/8)  =  (d/8) (2c + 1) (8v +- 1)
 *   IQ4_XS                   d (S - 32) v                                  s = S - 32
 *   TQ1_0, TQ2_0             (digit - 1) d                                 s = 1
 * Both sides have the same bits: they differ by powers of two, and nothing gets near the subnormals of float. */
#ifndef SL_BLOCKS_IQ_H
#define SL_BLOCKS_IQ_H

#include "blocks_k.h"
#include "grids.h"

typedef struct { uint8_t d[2], q[64]; } sl_block_iq2_xxs;
typedef struct { uint8_t d[2], q[64], s[8]; } sl_block_iq2_xs;
typedef struct { uint8_t d[2], q[32], signs[32], h[8], s[8]; } sl_block_iq2_s;
typedef struct { uint8_t d[2], q[64], b[32]; } sl_block_iq3_xxs;
typedef struct { uint8_t d[2], q[64], h[8], signs[32], s[4]; } sl_block_iq3_s;
typedef struct { uint8_t d[2], q[32], h[16]; } sl_block_iq1_s;
typedef struct { uint8_t q[32], h[16], s[8]; } sl_block_iq1_m;
typedef struct { uint8_t d[2], sh[2], sl[4], q[128]; } sl_block_iq4_xs;
typedef struct { uint8_t q[48], r[4], d[2]; } sl_block_tq1_0;
typedef struct { uint8_t q[64], d[2]; } sl_block_tq2_0;
SL_STATIC_ASSERT(sizeof(sl_block_iq2_xxs) == 66 && sizeof(sl_block_iq2_xs) == 74 && sizeof(sl_block_iq2_s) == 82, "IQ2");
SL_STATIC_ASSERT(sizeof(sl_block_iq3_xxs) == 98 && sizeof(sl_block_iq3_s) == 110, "IQ3");
SL_STATIC_ASSERT(sizeof(sl_block_iq1_s) == 50 && sizeof(sl_block_iq1_m) == 56 && sizeof(sl_block_iq4_xs) == 136, "IQ1, IQ4_XS");
SL_STATIC_ASSERT(sizeof(sl_block_tq1_0) == 54 && sizeof(sl_block_tq2_0) == 66, "TQ");

/* n entries of a table, element i negative where bit i of signs is set. */
static inline SL_FN void sl_unpack_signed(const uint8_t *entry, int n, uint32_t signs, int8_t *q)
{
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)(signs >> i & 1 ? -entry[i] : entry[i]);
}

/* The eight signs of group t (0..3) of a word that holds four times seven of them. */
static inline SL_FN uint32_t sl_signs7(uint32_t word, int t) { return sl_grid_signs7[word >> 7 * t & 127]; }

/* Below, g is a group of eight elements (0..31), b a sub-block of 32 (0..7). */

static inline SL_FN void sl_unpack_iq2_xxs(const sl_block_iq2_xxs *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d) * 0.125f;
    for (int g = 0; g < 32; g++) {
        uint32_t word = sl_load32(b->q + g / 4 * 8 + 4);
        w->s[g / 2] = (int8_t)(2 * (word >> 28) + 1);
        sl_unpack_signed(sl_grid_iq2xxs + 8 * b->q[g / 4 * 8 + g % 4], 8, sl_signs7(word, g % 4), w->q + 8 * g);
    }
}

static inline SL_FN void sl_unpack_iq2_xs(const sl_block_iq2_xs *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d) * 0.125f;
    for (int i = 0; i < 16; i++)
        w->s[i] = (int8_t)(2 * (b->s[i / 2] >> i % 2 * 4 & 15) + 1);
    for (int g = 0; g < 32; g++) {
        uint32_t word = sl_load16(b->q + 2 * g);
        sl_unpack_signed(sl_grid_iq2xs + 8 * (word & 511), 8, sl_grid_signs7[word >> 9], w->q + 8 * g);
    }
}

static inline SL_FN void sl_unpack_iq2_s(const sl_block_iq2_s *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d) * 0.125f;
    for (int i = 0; i < 16; i++)
        w->s[i] = (int8_t)(2 * (b->s[i / 2] >> i % 2 * 4 & 15) + 1);
    for (int g = 0; g < 32; g++) {
        int index = b->q[g] + (b->h[g / 4] >> g % 4 * 2 & 3) * 256;
        sl_unpack_signed(sl_grid_iq2s + 8 * index, 8, b->signs[g], w->q + 8 * g);
    }
}

static inline SL_FN void sl_unpack_iq3_xxs(const sl_block_iq3_xxs *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d) * 0.25f;
    for (int g = 0; g < 32; g++) {
        uint32_t word = sl_load32(b->b + g / 4 * 4), signs = sl_signs7(word, g % 4);
        w->s[g / 2] = (int8_t)(2 * (word >> 28) + 1);
        sl_unpack_signed(sl_grid_iq3xxs + 4 * b->q[2 * g], 4, signs, w->q + 8 * g);
        sl_unpack_signed(sl_grid_iq3xxs + 4 * b->q[2 * g + 1], 4, signs >> 4, w->q + 8 * g + 4);
    }
}

static inline SL_FN void sl_unpack_iq3_s(const sl_block_iq3_s *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    for (int i = 0; i < 16; i++)
        w->s[i] = (int8_t)(2 * (b->s[i / 4] >> i / 2 % 2 * 4 & 15) + 1);
    for (int n = 0; n < 64; n++) {
        int index = b->q[n] + (b->h[n / 8] >> n % 8 & 1) * 256;
        sl_unpack_signed(sl_grid_iq3s + 4 * index, 4, (uint32_t)b->signs[n / 2] >> n % 2 * 4, w->q + 4 * n);
    }
}

/* Eight values 8 v + delta of entry `index`, delta = -1 or 1. */
static inline SL_FN void sl_unpack_iq1(int index, int delta, int8_t *q)
{
    for (int i = 0; i < 8; i++)
        q[i] = (int8_t)(8 * sl_grid_iq1s[8 * index + i] + delta);
}

static inline SL_FN void sl_unpack_iq1_s(const sl_block_iq1_s *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d) * 0.125f;
    for (int g = 0; g < 32; g++) {
        int word = sl_load16(b->h + g / 4 * 2);
        w->s[g / 2] = (int8_t)(2 * (word >> 12 & 7) + 1);
        sl_unpack_iq1(b->q[g] + (word >> g % 4 * 3 & 7) * 256, word >> 15 ? -1 : 1, w->q + 8 * g);
    }
}

/* The half d lies in the top four bits of the four words, lowest nibble first. */
static inline SL_FN uint16_t sl_iq1_m_scale(const sl_block_iq1_m *b)
{
    return (uint16_t)(b->s[1] >> 4 | (b->s[3] >> 4) << 4 | (b->s[5] >> 4) << 8 | (b->s[7] >> 4) << 12);
}

static inline SL_FN void sl_unpack_iq1_m(const sl_block_iq1_m *b, sl_ints_256 *w)
{
    w->d = sl_half_to_float(sl_iq1_m_scale(b)) * 0.125f;
    for (int i = 0; i < 16; i++)
        w->s[i] = (int8_t)(2 * (sl_load16(b->s + i / 4 * 2) >> i % 4 * 3 & 7) + 1);
    for (int g = 0; g < 32; g++) {
        int n = b->h[g / 2] >> g % 2 * 4 & 15;
        sl_unpack_iq1(b->q[g] + (n & 7) * 256, n >> 3 ? -1 : 1, w->q + 8 * g);
    }
}

static inline SL_FN void sl_unpack_iq4_xs(const sl_block_iq4_xs *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    for (int i = 0; i < 8; i++) {
        int scale = (b->sl[i / 2] >> i % 2 * 4 & 15) + (sl_load16(b->sh) >> 2 * i & 3) * 16 - 32;
        w->s[2 * i] = w->s[2 * i + 1] = (int8_t)scale;
        for (int j = 0; j < 16; j++) {
            w->q[32 * i + j] = sl_grid_iq4nl[sl_low(b->q[16 * i + j])];
            w->q[32 * i + 16 + j] = sl_grid_iq4nl[sl_high(b->q[16 * i + j])];
        }
    }
}

/* Digit k of n bytes of five base-3 digits, most significant first, less 1. A byte holds ceil(256 N / 243): times 3^k, mod 256, its product
 * with 3 carries the digit over 256. */
static inline SL_FN void sl_unpack_ternary(const uint8_t *bytes, int n, int k, int8_t *q)
{
    int power = 1;
    for (int i = 0; i < k; i++)
        power *= 3;
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)((bytes[i] * power & 255) * 3 / 256 - 1);
}

static inline SL_FN void sl_unpack_tq1_0(const sl_block_tq1_0 *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    memset(w->s, 1, 16);
    for (int k = 0; k < 5; k++) {
        sl_unpack_ternary(b->q, 32, k, w->q + 32 * k);
        sl_unpack_ternary(b->q + 32, 16, k, w->q + 160 + 16 * k);
    }
    for (int k = 0; k < 4; k++)
        sl_unpack_ternary(b->r, 4, k, w->q + 240 + 4 * k);
}

static inline SL_FN void sl_unpack_tq2_0(const sl_block_tq2_0 *b, sl_ints_256 *w)
{
    w->d = sl_load_half(b->d);
    memset(w->s, 1, 16);
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < 32; i++)
            w->q[32 * p + i] = (int8_t)((b->q[p / 4 * 32 + i] >> p % 4 * 2 & 3) - 1);
}

static inline SL_FN void sl_decode_iq2_xxs(const sl_block_iq2_xxs *b, float *x) { sl_ints_256 w; sl_unpack_iq2_xxs(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_iq2_xs(const sl_block_iq2_xs *b, float *x) { sl_ints_256 w; sl_unpack_iq2_xs(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_iq2_s(const sl_block_iq2_s *b, float *x) { sl_ints_256 w; sl_unpack_iq2_s(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_iq3_xxs(const sl_block_iq3_xxs *b, float *x) { sl_ints_256 w; sl_unpack_iq3_xxs(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_iq3_s(const sl_block_iq3_s *b, float *x) { sl_ints_256 w; sl_unpack_iq3_s(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_iq1_s(const sl_block_iq1_s *b, float *x) { sl_ints_256 w; sl_unpack_iq1_s(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_iq1_m(const sl_block_iq1_m *b, float *x) { sl_ints_256 w; sl_unpack_iq1_m(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_iq4_xs(const sl_block_iq4_xs *b, float *x) { sl_ints_256 w; sl_unpack_iq4_xs(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_tq1_0(const sl_block_tq1_0 *b, float *x) { sl_ints_256 w; sl_unpack_tq1_0(b, &w); sl_decode_ints_256(&w, x); }
static inline SL_FN void sl_decode_tq2_0(const sl_block_tq2_0 *b, float *x) { sl_ints_256 w; sl_unpack_tq2_0(b, &w); sl_decode_ints_256(&w, x); }

static inline SL_FN int sl_check_iq2_xxs(const sl_block_iq2_xxs *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_iq2_xs(const sl_block_iq2_xs *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_iq2_s(const sl_block_iq2_s *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_iq3_xxs(const sl_block_iq3_xxs *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_iq3_s(const sl_block_iq3_s *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_iq1_s(const sl_block_iq1_s *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_iq1_m(const sl_block_iq1_m *b) { return (sl_iq1_m_scale(b) & 0x7c00) == 0x7c00; }
static inline SL_FN int sl_check_iq4_xs(const sl_block_iq4_xs *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_tq1_0(const sl_block_tq1_0 *b) { return sl_bad_half(b->d); }
static inline SL_FN int sl_check_tq2_0(const sl_block_tq2_0 *b) { return sl_bad_half(b->d); }

static inline SL_FN float sl_dot_iq2_xxs(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq2_xxs((const sl_block_iq2_xxs *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_iq2_xs(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq2_xs((const sl_block_iq2_xs *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_iq2_s(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq2_s((const sl_block_iq2_s *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_iq3_xxs(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq3_xxs((const sl_block_iq3_xxs *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_iq3_s(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq3_s((const sl_block_iq3_s *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_iq1_s(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq1_s((const sl_block_iq1_s *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_iq1_m(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq1_m((const sl_block_iq1_m *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_iq4_xs(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_iq4_xs((const sl_block_iq4_xs *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_tq1_0(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_tq1_0((const sl_block_tq1_0 *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}
static inline SL_FN float sl_dot_tq2_0(const void *w, const void *act, float acc)
{
    sl_ints_256 ints;
    sl_unpack_tq2_0((const sl_block_tq2_0 *)w, &ints);
    return sl_dot_ints_256(&ints, act, acc);
}

#endif
