/* SPDX-License-Identifier: MIT */
/* random_blocks.c - see random_blocks.h. */
#include "random_blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { sl_type type; const char *name; unsigned values, bytes; } sizes[] = {
#define SIZE(NAME, stem, id, values, bytes, form) { SL_TYPE_##NAME, #NAME, values, bytes },
    SL_TYPES(SIZE)
#undef SIZE
};

#define KEEP_F32(type) type,
#define KEEP_A32(type) type,
#define KEEP_A256(type) type,
#define KEEP_NONE(type)
const int random_block_types[] = {
#define MATRIX(NAME, stem, id, values, bytes, form) KEEP_##form(SL_TYPE_##NAME)
    SL_TYPES(MATRIX)
#undef MATRIX
    -1
};

/* ---- scales ---- */

uint16_t random_half(double x)
{
    uint16_t sign = x < 0 ? 0x8000 : 0;
    int e;
    double m = frexp(fabs(x), &e);      /* [0.5, 1) */
    if (e < -13 || m == 0)                        /* subnormal: multiples of 2^-24 */
        return (uint16_t)(sign | (unsigned)ldexp(fabs(x), 24));
    return (uint16_t)(sign | (unsigned)(e + 14) << 10 | ((unsigned)ldexp(m, 11) & 0x3ff));
}

static void put_half(unsigned char *to, double x)
{
    const uint16_t h = random_half(x);
    to[0] = (unsigned char)h, to[1] = (unsigned char)(h >> 8);
}

/* A number within an eighth of 1. */
static double about_one(uint64_t *state) { return 1.0 + ((double)random_below(state, 257) - 128.0) / 1024.0; }

/* Types whose blocks hold a half `d` that all values are proportional to: at which byte, and the values' root mean square with d = 1. Where there
 * is a minimum too, its half stands at byte m and is m_over_d times d, so that the values lie about zero. */
static const struct scaled { sl_type type; int d; double rms; int m; double m_over_d; } scaled[] = {
    { SL_TYPE_Q4_0, 0, 4.6, -1, 0 }, { SL_TYPE_Q4_1, 0, 4.6, 2, -7.5 }, { SL_TYPE_Q5_0, 0, 9.2, -1, 0 }, { SL_TYPE_Q5_1, 0, 9.2, 2, -15.5 },
    { SL_TYPE_Q8_0, 0, 74, -1, 0 }, { SL_TYPE_Q2_K, 80, 15, 82, 1.5 }, { SL_TYPE_Q3_K, 108, 43, -1, 0 }, { SL_TYPE_Q4_K, 0, 260, 2, 7.5 },
    { SL_TYPE_Q5_K, 0, 530, 2, 15.5 }, { SL_TYPE_Q6_K, 208, 1365, -1, 0 }, { SL_TYPE_IQ2_XXS, 0, 62, -1, 0 }, { SL_TYPE_IQ2_XS, 0, 62, -1, 0 },
    { SL_TYPE_IQ3_XXS, 0, 160, -1, 0 }, { SL_TYPE_IQ1_S, 0, 7.4, -1, 0 }, { SL_TYPE_IQ4_NL, 0, 70, -1, 0 }, { SL_TYPE_IQ3_S, 0, 165, -1, 0 },
    { SL_TYPE_IQ2_S, 0, 62, -1, 0 }, { SL_TYPE_IQ4_XS, 0, 1300, -1, 0 }, { SL_TYPE_TQ1_0, 52, 0.8, -1, 0 }, { SL_TYPE_TQ2_0, 64, 1.2, -1, 0 },
    { SL_TYPE_Q1_0, 0, 1, -1, 0 }, { SL_TYPE_Q2_0, 0, 1.2, -1, 0 },
};

static int fix_scaled(sl_type type, double rms, uint64_t *state, unsigned char *block)
{
    for (size_t i = 0; i < sizeof scaled / sizeof scaled[0]; i++)
        if (scaled[i].type == type) {
            const double d = rms / scaled[i].rms * about_one(state);
            put_half(block + scaled[i].d, d);
            if (scaled[i].m >= 0)
                put_half(block + scaled[i].m, d * scaled[i].m_over_d);
            return 1;
        }
    return 0;
}

/* ---- types with a rule of their own ---- */

/* Evenly spread over an interval about zero. */
static double spread(double rms, uint64_t *state) { return rms * 1.7320508 * random_float(state); }

static void fill_f32(double rms, uint64_t *state, unsigned char *block)
{
    const float x = (float)spread(rms, state);
    memcpy(block, &x, 4);
}

static void fill_f16(double rms, uint64_t *state, unsigned char *block) { put_half(block, spread(rms, state)); }

static void fill_bf16(double rms, uint64_t *state, unsigned char *block)
{
    const float x = (float)spread(rms, state);
    memcpy(block, (const unsigned char *)&x + 2, 2);
}

/* The half lies in the top nibbles of four words, lowest first. */
static void fix_iq1_m(double rms, uint64_t *state, unsigned char *block)
{
    const uint16_t h = random_half(rms / 7.4 * about_one(state));
    for (int i = 0; i < 4; i++)
        block[49 + 2 * i] = (unsigned char)((block[49 + 2 * i] & 15) | (h >> 4 * i & 15) << 4);
}

/* A power of two with bias 128; the code table has a mean square of 34. */
static void fix_mxfp4(double rms, uint64_t *state, unsigned char *block)
{
    int e;
    frexp(rms / 5.8, &e);
    block[0] = (unsigned char)(127 + e + (int)random_below(state, 2));
}

/* Four scales with 4 bits of exponent, bias 7, and 3 of mantissa; half of each multiplies the same table. */
static void fix_nvfp4(double rms, uint64_t *state, unsigned char *block)
{
    int e;
    frexp(rms / 2.9, &e);
    e += 6;
    for (int g = 0; g < 4; g++)
        block[g] = (unsigned char)((e < 0 ? 0 : e > 14 ? 14 : e) << 3 | (int)random_below(state, 8));
}

static const struct special { sl_type type; void (*fix)(double rms, uint64_t *state, unsigned char *block); } specials[] = {
    { SL_TYPE_F32, fill_f32 }, { SL_TYPE_F16, fill_f16 }, { SL_TYPE_BF16, fill_bf16 },
    { SL_TYPE_IQ1_M, fix_iq1_m }, { SL_TYPE_MXFP4, fix_mxfp4 }, { SL_TYPE_NVFP4, fix_nvfp4 },
};

static int fix_special(sl_type type, double rms, uint64_t *state, unsigned char *block)
{
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++)
        if (specials[i].type == type) {
            specials[i].fix(rms, state, block);
            return 1;
        }
    return 0;
}

/* ---- all of them ---- */

static size_t row_of(sl_type type)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].type == type)
            return i;
    fprintf(stderr, "random blocks: type %d is not in this build\n", (int)type);
    exit(1);
}

const char *random_block_name(sl_type type) { return sizes[row_of(type)].name; }

size_t random_blocks_bytes(sl_type type, uint64_t n)
{
    const size_t i = row_of(type);
    if (n % sizes[i].values) {
        fprintf(stderr, "random blocks: %llu elements are not whole blocks of type %d\n", (unsigned long long)n, (int)type);
        exit(1);
    }
    return (size_t)(n / sizes[i].values) * sizes[i].bytes;
}

void random_blocks(sl_type type, uint64_t n, double rms, uint64_t *state, void *to)
{
    const size_t bytes = random_blocks_bytes(type, n), block = sizes[row_of(type)].bytes;
    unsigned char *at = to;
    for (unsigned char *end = at + bytes; at < end; at += block) {
        for (size_t i = 0; i < block; i++)
            at[i] = (unsigned char)(random_next(state) >> 56);
        if (!fix_scaled(type, rms, state, at) && !fix_special(type, rms, state, at)) {
            fprintf(stderr, "random blocks: no rule for type %d\n", (int)type);
            exit(1);
        }
    }
}
