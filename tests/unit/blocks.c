/* SPDX-License-Identifier: MIT */
/* blocks.c - the canonical product step of every matrix type against oracles that know only the decoded values and the definition in
 * docs/numerics.md; the quantizer of activations at its edges. Decoding: type.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blocks.h"
#include "check.h"
#include "type.h"

typedef float dot_function(const void *w, const void *act, float acc);
#undef SL_PLAIN_TYPES
#define SL_PLAIN_TYPES(X)
#define ROW_DOT(NAME, stem, id, values, bytes, form) [id] = sl_dot_##stem,
static dot_function *const dots[SL_TYPE_COUNT] = { SL_TYPES(ROW_DOT) };

/* Where a block keeps its scale d and minimum m, and `one`: the bytes that make d 1. The integers of x[j] = d (...) are whole multiples of `unit`.
 * sign: of the term with the minimum. group: elements per fma. */
static const struct layout { sl_type type; int d, m; const char *one; int n_one; float unit; int sign, group; } layouts[] = {
    { SL_TYPE_Q4_0, 0, -1, "\x00\x3c", 2, 1, 0, 32 }, { SL_TYPE_Q4_1, 0, 2, "\x00\x3c", 2, 1, 1, 32 }, { SL_TYPE_Q5_0, 0, -1, "\x00\x3c", 2, 1, 0, 32 },
    { SL_TYPE_Q5_1, 0, 2, "\x00\x3c", 2, 1, 1, 32 }, { SL_TYPE_Q8_0, 0, -1, "\x00\x3c", 2, 1, 0, 32 }, { SL_TYPE_IQ4_NL, 0, -1, "\x00\x3c", 2, 1, 0, 32 },
    { SL_TYPE_MXFP4, 0, -1, "\x80", 1, 1, 0, 32 }, { SL_TYPE_NVFP4, 0, -1, "\x40\x40\x40\x40", 4, 1, 0, 16 },
    { SL_TYPE_Q1_0, 0, -1, "\x00\x3c", 2, 1, 0, 32 }, { SL_TYPE_Q2_0, 0, -1, "\x00\x3c", 2, 1, 0, 32 },
    { SL_TYPE_Q2_K, 80, 82, "\x00\x3c", 2, 1, -1, 256 }, { SL_TYPE_Q3_K, 108, -1, "\x00\x3c", 2, 1, 0, 256 }, { SL_TYPE_Q4_K, 0, 2, "\x00\x3c", 2, 1, -1, 256 },
    { SL_TYPE_Q5_K, 0, 2, "\x00\x3c", 2, 1, -1, 256 }, { SL_TYPE_Q6_K, 208, -1, "\x00\x3c", 2, 1, 0, 256 }, { SL_TYPE_IQ2_XXS, 0, -1, "\x00\x3c", 2, 0.125f, 0, 256 },
    { SL_TYPE_IQ2_XS, 0, -1, "\x00\x3c", 2, 0.125f, 0, 256 }, { SL_TYPE_IQ2_S, 0, -1, "\x00\x3c", 2, 0.125f, 0, 256 },
    { SL_TYPE_IQ3_XXS, 0, -1, "\x00\x3c", 2, 0.25f, 0, 256 }, { SL_TYPE_IQ3_S, 0, -1, "\x00\x3c", 2, 1, 0, 256 }, { SL_TYPE_IQ1_S, 0, -1, "\x00\x3c", 2, 0.125f, 0, 256 },
    { SL_TYPE_IQ1_M, 48, -1, NULL, 8, 0.125f, 0, 256 }, { SL_TYPE_IQ4_XS, 0, -1, "\x00\x3c", 2, 1, 0, 256 },
    { SL_TYPE_TQ1_0, 52, -1, "\x00\x3c", 2, 1, 0, 256 }, { SL_TYPE_TQ2_0, 64, -1, "\x00\x3c", 2, 1, 0, 256 },
};
enum { N_LAYOUTS = sizeof layouts / sizeof layouts[0] };

static uint64_t random_state;

static uint64_t random_bits(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* About normal, times 2^exponent. */
static float random_float(int exponent)
{
    double sum = -6.0;
    for (int i = 0; i < 12; i++)
        sum += (double)(random_bits() >> 11) * 0x1p-53;
    return (float)ldexp(sum, exponent);
}

/* IQ1_M: a half in the top nibbles of four words. */
static void put_spread(uint8_t *s, unsigned half)
{
    for (int i = 0; i < 4; i++)
        s[2 * i + 1] = (uint8_t)((s[2 * i + 1] & 15) | (half >> 4 * i & 15) << 4);
}

static void put_half(uint8_t *p, unsigned half)
{
    p[0] = (uint8_t)half;
    p[1] = (uint8_t)(half >> 8);
}

static void put_scale_one(const struct layout *l, uint8_t *block)
{
    if (l->one)
        memcpy(block + l->d, l->one, (size_t)l->n_one);
    else
        put_spread(block + l->d, 0x3c00);
    if (l->m >= 0)
        put_half(block + l->m, 0);
}

/* Weights with d = 1, m = 0 give S / unit by decoding, exactly; the minimum alone, with m = 1 and d = 0, gives M. */
static void exact_sums(const struct layout *l, const sl_type_info *info, const uint8_t *block, const int8_t *q, int32_t *s, int32_t *m)
{
    uint8_t copy[292];
    float x[256];
    memcpy(copy, block, info->block_bytes);
    put_scale_one(l, copy);
    info->decode(copy, 1, x);
    for (int g = 0; g < info->block_values / l->group; g++) {
        double sum = 0;
        for (int j = g * l->group; j < (g + 1) * l->group; j++)
            sum += (double)x[j] / l->unit * q[j];
        assert_true(fabs(sum) < 0x1p31 && sum == floor(sum));
        s[g] = (int32_t)sum;
    }
    *m = 0;
    if (l->m >= 0) {
        double sum = 0;
        put_half(copy + l->d, 0);
        put_half(copy + l->m, 0x3c00);
        info->decode(copy, 1, x);
        for (int j = 0; j < info->block_values; j++)
            sum += (double)x[j] * l->sign * q[j];
        assert_true(sum == floor(sum));
        *m = (int32_t)sum;
    }
}

/* Scale of group g as float, times unit: all of it from the bytes. */
static float scale_of(const struct layout *l, const uint8_t *block, int g)
{
    if (l->type == SL_TYPE_MXFP4)
        return (float)ldexp(1.0, block[0] - 128);
    if (l->type == SL_TYPE_NVFP4) {
        int e = block[g] >> 3, m = block[g] & 7;
        return (float)(e ? ldexp(8 + m, e - 11) : ldexp(m, -10));
    }
    if (l->type == SL_TYPE_IQ1_M)
        return sl_half_to_float((uint16_t)(block[49] >> 4 | block[51] >> 4 << 4 | block[53] >> 4 << 8 | block[55] >> 4 << 12)) * l->unit;
    return sl_half_to_float((uint16_t)(block[l->d] | block[l->d + 1] << 8)) * l->unit;
}

typedef struct { sl_block_a32 a32[8]; sl_block_a256 a256; int8_t q[256]; float d[8]; } activations;

/* 256 activations in both forms; d[i] and q are what the type with this form sees. */
static void make_activations(activations *a, sl_act_form form, const float *x)
{
    for (int i = 0; i < 8; i++)
        assert_int_equal(sl_quantize_a32(x + 32 * i, &a->a32[i]), 0);
    assert_int_equal(sl_quantize_a256(x, &a->a256), 0);
    for (int i = 0; i < 8; i++) {
        a->d[i] = form == SL_ACT_A32 ? a->a32[i].d : a->a256.d;
        memcpy(a->q + 32 * i, form == SL_ACT_A32 ? a->a32[i].q : a->a256.q + 32 * i, 32);
    }
}

/* The definition once more: sums from decoded values, fma from libm. */
static float canonical(const struct layout *l, const sl_type_info *info, const uint8_t *block, const activations *a, float acc)
{
    int32_t s[8], m;
    exact_sums(l, info, block, a->q, s, &m);
    for (int g = 0; g < info->block_values / l->group; g++) {
        float d = scale_of(l, block, g) * a->d[g * l->group / 32];
        acc = fmaf(d, (float)s[g], acc);
    }
    if (l->m >= 0) {
        float d = sl_half_to_float((uint16_t)(block[l->m] | block[l->m + 1] << 8)) * a->d[0];
        acc = fmaf(l->sign < 0 ? -d : d, (float)m, acc);
    }
    return acc;
}

/* Blocks: random bytes with finite scales; `fill` >= 0: that byte everywhere instead. */
static void make_block(const struct layout *l, const sl_type_info *info, int fill, uint8_t *block)
{
    for (int i = 0; i < info->block_bytes; i++)
        block[i] = fill >= 0 ? (uint8_t)fill : (uint8_t)random_bits();
    unsigned half = (unsigned)(random_bits() & 0xbfff), minimum = (unsigned)(random_bits() & 0xbfff);   /* below 2 in magnitude, subnormals too */
    if (l->type == SL_TYPE_MXFP4)
        block[0] = (uint8_t)(fill >= 0 ? 252 : 100 + block[0] % 56);
    else if (l->type == SL_TYPE_NVFP4)
        for (int g = 0; g < 4; g++)
            block[g] = (uint8_t)(fill >= 0 ? 0x7e : block[g] % 0x7f);
    else if (l->type == SL_TYPE_IQ1_M)
        put_spread(block + l->d, half);
    else
        put_half(block + l->d, half);
    if (l->m >= 0)
        put_half(block + l->m, minimum);
    assert_int_equal(info->check(block, 1), -1);
}

static void products_follow_the_definition(void **state)
{
    (void)state;
    random_state = 1;
    for (int i = 0; i < N_LAYOUTS; i++) {
        const struct layout *l = &layouts[i];
        const sl_type_info *info = sl_type_get((uint32_t)l->type);
        if (!info)
            continue;
        float acc = 0.0f;
        for (int n = 0; n < 400; n++) {
            uint8_t block[292 + 1];
            float x[256];
            activations a;
            for (int k = 0; k < 256; k++)
                x[k] = random_float(n % 40 - 20);
            make_activations(&a, info->form, x);
            make_block(l, info, -1, block + 1);
            float want = canonical(l, info, block + 1, &a, acc);
            float got = dots[l->type](block + 1, info->form == SL_ACT_A32 ? (const void *)a.a32 : (const void *)&a.a256, acc);
            if (sl_bits(got) != sl_bits(want))
                fail_msg("%s, block %d: %08x, must be %08x", info->name, n, sl_bits(got), sl_bits(want));
            acc = n % 7 ? got : 0.0f;
        }
    }
}

/* Bytes all alike make the largest sums; activations all 127 or all -127. UBSan watches the integers. */
static void extreme_sums_are_exact(void **state)
{
    (void)state;
    static const int fills[] = { 0x00, 0xff, 0x7f, 0x80, 0xf0, 0x0f, 0xaa, 0x55 };
    double largest = 0;
    random_state = 2;
    for (int i = 0; i < N_LAYOUTS; i++)
        for (int f = 0; f < 16; f++) {
            const struct layout *l = &layouts[i];
            const sl_type_info *info = sl_type_get((uint32_t)l->type);
            if (!info)
                continue;
            uint8_t block[292];
            float x[256];
            activations a;
            int32_t s[8], m;
            for (int k = 0; k < 256; k++)
                x[k] = f < 8 ? 127.0f : -127.0f;
            make_activations(&a, info->form, x);
            assert_true(a.d[0] == 1.0f && abs(a.q[0]) == 127);
            make_block(l, info, fills[f % 8], block);
            exact_sums(l, info, block, a.q, s, &m);
            for (int g = 0; g < info->block_values / l->group; g++)
                if (fabs((double)s[g]) > largest)       /* not fmax: vectorizing that, gcc 12 for aarch64 fails */
                    largest = fabs((double)s[g]);
            float want = canonical(l, info, block, &a, 0.0f);
            float got = dots[l->type](block, info->form == SL_ACT_A32 ? (const void *)a.a32 : (const void *)&a.a256, 0.0f);
            if (sl_bits(got) != sl_bits(want))
                fail_msg("%s, fill %02x: %08x, must be %08x", info->name, fills[f % 8], sl_bits(got), sl_bits(want));
        }
    assert_true(largest < 0x1p31);
    if (sl_type_get(SL_TYPE_Q6_K))      /* scales of -128 with quants of -32 are among the fills */
        assert_true(largest > 1e8);
}

/* Rows of blocks against the product in binary64 of what the two sides stand for: a bound on the rounding of the chain, not bits. */
static void products_are_close_to_exact(void **state)
{
    (void)state;
    random_state = 3;
    for (int i = 0; i < N_LAYOUTS; i++) {
        const struct layout *l = &layouts[i];
        const sl_type_info *info = sl_type_get((uint32_t)l->type);
        if (!info)
            continue;
        double exact = 0, size = 0;
        float acc = 0.0f;
        for (int n = 0; n < 64; n++) {
            uint8_t block[292];
            float x[256], w[256];
            activations a;
            for (int k = 0; k < 256; k++)
                x[k] = random_float(0);
            make_activations(&a, info->form, x);
            make_block(l, info, -1, block);
            info->decode(block, 1, w);
            for (int j = 0; j < info->block_values; j++) {
                exact += (double)w[j] * a.q[j] * a.d[j / 32];
                size += fabs((double)w[j] * a.q[j] * a.d[j / 32]);
            }
            acc = dots[l->type](block, info->form == SL_ACT_A32 ? (const void *)a.a32 : (const void *)&a.a256, acc);
        }
        if (!(fabs(acc - exact) <= size * 0x1p-22))
            fail_msg("%s: %.9g, exact %.9g", info->name, (double)acc, exact);
    }
}

static void float_types_chain_by_fma(void **state)
{
    (void)state;
    random_state = 4;
    float acc[3] = { 0, 0, 0 }, want[3] = { 0, 0, 0 };
    for (int n = 0; n < 20000; n++) {
        float x = random_float(n % 60 - 30);
        uint32_t bits = (uint32_t)random_bits() & 0xbfffffffu;
        uint16_t half = (uint16_t)(bits >> 7 & 0xbfff), brain = (uint16_t)(bits >> 16);
        float w = sl_float(bits);
        acc[0] = sl_dot_f32(&w, &x, acc[0]);
        acc[1] = sl_dot_f16(&half, &x, acc[1]);
        acc[2] = sl_dot_bf16(&brain, &x, acc[2]);
        want[0] = fmaf(w, x, want[0]);
        want[1] = fmaf(sl_half_to_float(half), x, want[1]);
        want[2] = fmaf(sl_float((uint32_t)brain << 16), x, want[2]);
        for (int i = 0; i < 3; i++)
            assert_int_equal(sl_bits(acc[i]), sl_bits(want[i]));
    }
}

/* Bits of all of it on fixed data: no compiler and no machine may change them. A change of canonical steps raises sl_numerics_id(). */
static void bits_are_pinned(void **state)
{
    (void)state;
    uint64_t hash = 0;
    for (int i = 0; i < N_LAYOUTS; i++) {
        const struct layout *l = &layouts[i];
        const sl_type_info *info = sl_type_get((uint32_t)l->type);
        if (!info) {
            print_message("%s was left out of this build: the pinned bits cover all types\n", sl_type_name((uint32_t)l->type));
            skip();
        }
        float acc = 0.0f;
        random_state = 100 + (uint64_t)i;
        for (int n = 0; n < 50; n++) {
            uint8_t block[292];
            float x[256];
            activations a;
            for (int k = 0; k < 256; k++)
                x[k] = random_float(n % 8);
            make_activations(&a, info->form, x);
            make_block(l, info, -1, block);
            acc = dots[l->type](block, info->form == SL_ACT_A32 ? (const void *)a.a32 : (const void *)&a.a256, acc);
        }
        hash = (hash ^ sl_bits(acc)) * 0x100000001b3u + (hash >> 29);
    }
    if (hash != 0x7c148cd2fb736b5du)
        fail_msg("0x%016llx", (unsigned long long)hash);
}

/* ---- activations ---- */

static void quantizes_by_the_definition(void **state)
{
    (void)state;
    random_state = 5;
    for (int n = 0; n < 20000; n++) {
        float x[256], amax = 0;
        int exponent = n % 220 - 110;
        for (int k = 0; k < 256; k++) {
            x[k] = random_float(exponent);
            if (n % 3 == 0)     /* ties: multiples of half a step when amax is 127 times a power of two */
                x[k] = (float)ldexp((double)(random_bits() % 255) - 127, exponent - 1);
            if (n % 3 == 0 && k == 17)
                x[k] = (float)ldexp(-127, exponent);
        }
        sl_block_a256 a;
        sl_block_a32 b;
        assert_int_equal(sl_quantize_a256(x, &a), 0);
        for (int k = 0; k < 256; k++)
            amax = fmaxf(amax, fabsf(x[k]));
        int zero = amax < 0x1p-100f;
        assert_true(a.d == (zero ? 0.0f : amax / 127.0f));
        float id = 127.0f / amax;
        for (int i = 0; i < 16; i++) {
            int sum = 0;
            for (int k = 16 * i; k < 16 * i + 16; k++) {
                assert_int_equal(a.q[k], zero ? 0 : (int)nearbyintf(x[k] * id));
                sum += a.q[k];
            }
            assert_int_equal(a.sum[i], sum);
        }
        assert_int_equal(sl_quantize_a32(x, &b), 0);
        int sum = 0, largest = 0;
        for (int k = 0; k < 32; k++) {
            sum += b.q[k];
            largest = abs(b.q[k]) > largest ? abs(b.q[k]) : largest;
        }
        assert_int_equal(b.sum, sum);
        assert_int_equal(largest, b.d == 0.0f ? 0 : 127);
    }
}

static void quantizes_edges(void **state)
{
    (void)state;
    static const struct { float value; float d; int q; } cases[] = {
        { 0.0f, 0.0f, 0 }, { -0.0f, 0.0f, 0 }, { 0x1p-149f, 0.0f, 0 }, { 0x1.fffffep-101f, 0.0f, 0 },
        { 0x1p-100f, 0x1p-100f / 127.0f, 127 }, { -0x1p-100f, 0x1p-100f / 127.0f, -127 },
        { 127.0f, 1.0f, 127 }, { 0x1.fffffep127f, 0x1.fffffep127f / 127.0f, 127 }, { -0x1.fffffep127f, 0x1.fffffep127f / 127.0f, -127 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int at = 0; at < 256; at += 51) {
            float x[256] = { 0 };
            sl_block_a256 a;
            memset(&a, 0x55, sizeof a);
            x[at] = cases[i].value;
            assert_int_equal(sl_quantize_a256(x, &a), 0);
            assert_true(a.d == cases[i].d);
            for (int k = 0; k < 256; k++)
                assert_int_equal(a.q[k], k == at ? cases[i].q : 0);
            for (int k = 0; k < 16; k++)
                assert_int_equal(a.sum[k], k == at / 16 ? cases[i].q : 0);
            assert_int_equal(a.pad[0] | a.pad[1] | a.pad[2], 0);
        }
}

static void refuses_what_is_not_finite(void **state)
{
    (void)state;
    static const uint32_t bad[] = { 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int at = 0; at < 256; at++) {
            float x[256];
            sl_block_a256 a;
            sl_block_a32 b;
            for (int k = 0; k < 256; k++)
                x[k] = 3.0f;
            x[at] = sl_float(bad[i]);
            assert_int_equal(sl_quantize_a256(x, &a), 1);
            assert_int_equal(sl_quantize_a32(x, &b), at < 32);
            assert_true(a.d == 0.0f && (at >= 32 || b.d == 0.0f));
            for (int k = 0; k < 256; k++)
                assert_int_equal(a.q[k], 0);
            for (int k = 0; k < 16; k++)
                assert_int_equal(a.sum[k], 0);
            assert_int_equal(b.sum, at < 32 ? 0 : 32 * 127);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_follow_the_definition),
        cmocka_unit_test(extreme_sums_are_exact),
        cmocka_unit_test(products_are_close_to_exact),
        cmocka_unit_test(float_types_chain_by_fma),
        cmocka_unit_test(bits_are_pinned),
        cmocka_unit_test(quantizes_by_the_definition),
        cmocka_unit_test(quantizes_edges),
        cmocka_unit_test(refuses_what_is_not_finite),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
