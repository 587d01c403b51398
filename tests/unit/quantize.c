/* SPDX-License-Identifier: MIT */
/* Encoders: error on random numbers of several kinds against what the grid of the type allows, weights, ends, cuts; and which tensor takes which type in which mix. */
#include "check.h"
#include "quantize_blocks.h"
#include "quantize_mix.h"
#include "random.h"

#include <stdio.h>
#include <string.h>
#include <math.h>

enum { N = 64 * 256 };
static float x[N], y[N], w[N];
static unsigned char blocks[4 * N];

/* Largest error, as a part of the numbers' deviation, for sums of four even numbers: what a search that ends at the best scale reaches, and 2 % of it. */
static const struct { sl_type type; double most; } cases[] = {
    { SL_TYPE_F32, 0.0 }, { SL_TYPE_F16, 2.2e-4 }, { SL_TYPE_BF16, 1.75e-3 }, { SL_TYPE_Q8_0, 5.2e-3 }, { SL_TYPE_Q4_0, 0.0783 }, { SL_TYPE_Q4_1, 0.0688 }, { SL_TYPE_Q5_0, 0.0388 },
    { SL_TYPE_Q5_1, 0.0333 }, { SL_TYPE_IQ4_NL, 0.0727 }, { SL_TYPE_Q2_K, 0.264 }, { SL_TYPE_Q3_K, 0.1417 }, { SL_TYPE_Q4_K, 0.0693 }, { SL_TYPE_Q5_K, 0.0346 }, { SL_TYPE_Q6_K, 0.0169 },
    { SL_TYPE_IQ4_XS, 0.0733 },
};
enum { N_CASES = sizeof cases / sizeof *cases };

static float bell(uint64_t *state) { return (random_float(state) + random_float(state) + random_float(state) + random_float(state)) * 0.5f; }

/* Encodes all of x, decodes to y. */
static void there_and_back(sl_type type, const float *weights)
{
    const sl_type_info *t = sl_type_get((uint32_t)type);
    memset(blocks, 0xa5, sizeof blocks);
    sl_encoder_get(type)(x, weights, N, blocks);
    assert_int_equal(t->check(blocks, N / t->block_values), -1);
    const size_t end = sl_type_row_bytes(t, N);
    assert_true(end == sizeof blocks || blocks[end] == 0xa5);
    t->decode(blocks, N / t->block_values, y);
}

static double error(const float *weights)
{
    double sum = 0.0;
    for (int i = 0; i < N; i++)
        sum += (weights ? (double)weights[i] : 1.0) * ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    return sqrt(sum / N);
}

static int here(sl_type type) { return sl_type_get((uint32_t)type) && sl_encoder_get(type); }

static void error_is_small(void **state)
{
    (void)state;
    static const double scales[] = { 1.0, 0.02, 300.0 };
    for (size_t i = 0; i < N_CASES; i++)
        for (size_t k = 0; k < sizeof scales / sizeof *scales && here(cases[i].type); k++) {
            uint64_t seed = 7;
            double square = 0.0;
            for (int j = 0; j < N; j++) {
                x[j] = bell(&seed) * (float)scales[k];
                square += (double)x[j] * x[j];
            }
            there_and_back(cases[i].type, NULL);
            if (error(NULL) > cases[i].most * sqrt(square / N))
                fail_msg("%s, scale %g: error %g of the deviation, at most %g", sl_type_name((uint32_t)cases[i].type), scales[k], error(NULL) / sqrt(square / N), cases[i].most);
        }
}

/* Columns with weights come closer, in the weighted sense, than without. */
static void weights_count(void **state)
{
    (void)state;
    for (size_t i = 4; i < N_CASES; i++) {
        if (!here(cases[i].type))
            continue;
        uint64_t seed = 9;
        for (int j = 0; j < N; j++) {
            x[j] = bell(&seed);
            w[j] = (float)exp(3.0 * (double)bell(&seed));
        }
        there_and_back(cases[i].type, NULL);
        const double plain = error(w);
        there_and_back(cases[i].type, w);
        if (!(error(w) < 0.97 * plain))
            fail_msg("%s: weighted error %g, without weights %g", sl_type_name((uint32_t)cases[i].type), error(w), plain);
        for (int j = 0; j < N; j++)
            w[j] = 1.0f;
        unsigned char *before = test_malloc(sizeof blocks);
        there_and_back(cases[i].type, NULL);
        memcpy(before, blocks, sizeof blocks);
        there_and_back(cases[i].type, w);
        assert_memory_equal(before, blocks, sizeof blocks);
        test_free(before);
    }
}

/* A block depends on its own numbers only: runs of any length that is whole blocks give the same bytes. */
static void cuts_change_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        if (!here(cases[i].type))
            continue;
        const sl_type_info *t = sl_type_get((uint32_t)cases[i].type);
        const int step = t->block_values == 256 ? 256 : 32;
        uint64_t seed = 3;
        for (int j = 0; j < N; j++) {
            x[j] = bell(&seed) * (j % 1000 ? 1.0f : 50.0f);
            w[j] = 0.1f + random_float(&seed) * random_float(&seed);
        }
        there_and_back(cases[i].type, w);
        for (int at = 0, n; at < N; at += n) {
            unsigned char part[4 * 2048];
            n = step * (int)(1 + random_below(&seed, 7));
            n = N - at < n ? N - at : n;
            sl_encoder_get(cases[i].type)(x + at, w + at, n, part);
            assert_memory_equal(part, blocks + sl_type_row_bytes(t, (size_t)at), sl_type_row_bytes(t, (size_t)n));
        }
    }
}

/* Ends of the range: zeros, constants, one spike, subnormal halves, the largest numbers, one of each sign. Nothing may become infinite, and zeros stay zeros. */
static void ends_hold(void **state)
{
    (void)state;
    static const struct { const char *name; float common, spike; double most; } ends[] = {
        { "zeros", 0.0f, 0.0f, 0.0 }, { "constant", 0.75f, 0.0f, 2e-3 }, { "negative constant", -0.75f, 0.0f, 2e-3 }, { "spike", 0.0f, 1000.0f, 0.12 }, { "negative spike", 0.0f, -1000.0f, 0.12 },
        { "largest", SL_QUANTIZE_MAX, 0.0f, 240.0 }, { "largest and its negative", SL_QUANTIZE_MAX, -SL_QUANTIZE_MAX, 12000.0 }, { "too small", 1e-12f, 0.0f, 1e-12 },
        { "subnormal halves", 3e-7f, 0.0f, 3.01e-7 },
    };
    for (size_t i = 0; i < N_CASES; i++)
        for (size_t k = 0; k < sizeof ends / sizeof *ends && here(cases[i].type); k++) {
            for (int j = 0; j < N; j++)
                x[j] = ends[k].spike != 0.0f && j % 256 == 37 ? ends[k].spike : ends[k].common;
            there_and_back(cases[i].type, NULL);
            const int no_zero = cases[i].type == SL_TYPE_IQ4_NL || cases[i].type == SL_TYPE_IQ4_XS;      /* beside a spike the level 1 stands for it */
            if (!(error(NULL) <= (no_zero && ends[k].spike != 0.0f && ends[k].common == 0.0f ? 8.0 : ends[k].most) * (1.0 + 1e-6)))
                fail_msg("%s, %s: error %g, at most %g", sl_type_name((uint32_t)cases[i].type), ends[k].name, error(NULL), ends[k].most);
        }
}

/* ---- mixes ---- */

static const struct {
    const char *mix, *tensor;
    uint32_t n_layer, n_group, n_expert, index, count;
    int tied, weighted;
    sl_type type;
} mixed[] = {
    { "F16", "output.weight", 32, 4, 0, 0, 1, 0, 0, SL_TYPE_F16 },
    { "Q8_0", "output.weight", 32, 4, 0, 0, 1, 0, 0, SL_TYPE_Q8_0 },
    { "Q4_0", "output.weight", 32, 4, 0, 0, 1, 0, 0, SL_TYPE_Q6_K },
    { "q4_k_m", "token_embd.weight", 32, 4, 0, 0, 1, 0, 0, SL_TYPE_Q4_K },
    { "Q4_K_M", "token_embd.weight", 32, 4, 0, 0, 1, 1, 0, SL_TYPE_Q6_K },
    { "Q4_K_M", "blk.0.attn_q.weight", 32, 4, 0, 0, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q4_K_M", "blk.3.ffn_down.weight", 32, 4, 0, 3, 32, 0, 0, SL_TYPE_Q6_K },
    { "Q4_K_M", "blk.4.ffn_down.weight", 32, 4, 0, 4, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q4_K_M", "blk.6.ffn_down.weight", 32, 4, 0, 6, 32, 0, 0, SL_TYPE_Q6_K },
    { "Q4_K_M", "blk.28.attn_v.weight", 32, 4, 0, 28, 32, 0, 0, SL_TYPE_Q6_K },
    { "Q4_K_M", "blk.27.attn_v.weight", 32, 4, 0, 27, 32, 0, 0, SL_TYPE_Q6_K },
    { "Q4_K_M", "blk.26.attn_v.weight", 32, 4, 0, 26, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q4_K_M", "blk.40.attn_v.weight", 80, 8, 0, 40, 80, 0, 0, SL_TYPE_Q5_K },
    { "Q4_K_M", "blk.1.attn_v.weight", 32, 4, 8, 5, 32, 0, 0, SL_TYPE_Q8_0 },
    { "Q4_K_M", "blk.1.attn_output.weight", 32, 4, 8, 5, 32, 0, 0, SL_TYPE_Q5_K },
    { "Q4_K_M", "blk.0.ffn_down_exps.weight", 32, 4, 8, 0, 32, 0, 0, SL_TYPE_Q6_K },
    { "Q4_K_S", "blk.3.attn_v.weight", 32, 4, 0, 3, 32, 0, 0, SL_TYPE_Q5_K },
    { "Q4_K_S", "blk.4.attn_v.weight", 32, 4, 0, 4, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q4_K_S", "blk.4.ffn_down.weight", 32, 4, 0, 4, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q3_K_M", "blk.1.attn_v.weight", 32, 4, 0, 1, 32, 0, 0, SL_TYPE_Q5_K },
    { "Q3_K_M", "blk.2.attn_v.weight", 32, 4, 0, 2, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q3_K_M", "blk.2.attn_output.weight", 32, 4, 0, 2, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q3_K", "blk.2.ffn_down.weight", 32, 4, 0, 2, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q3_K_L", "blk.2.ffn_down.weight", 32, 4, 0, 2, 32, 0, 0, SL_TYPE_Q5_K },
    { "Q2_K", "blk.2.attn_v.weight", 32, 1, 0, 2, 32, 0, 0, SL_TYPE_Q3_K },
    { "Q2_K", "blk.2.attn_v.weight", 32, 4, 0, 2, 32, 0, 0, SL_TYPE_Q4_K },
    { "Q2_K", "blk.2.ffn_up.weight", 32, 4, 0, 2, 32, 0, 0, SL_TYPE_Q2_K },
    { "IQ4_XS", "blk.2.ffn_down.weight", 32, 4, 0, 2, 32, 0, 0, SL_TYPE_Q5_K },
    { "IQ4_XS", "blk.2.ffn_down.weight", 32, 4, 0, 2, 32, 0, 1, SL_TYPE_IQ4_XS },
    { "Q4_0", "blk.2.ffn_down.weight", 32, 4, 0, 2, 32, 0, 1, SL_TYPE_Q4_1 },
    { "Q4_K_M", "v.blk.0.attn_v.weight", 32, 4, 0, 0, 1, 0, 0, SL_TYPE_F16 },
    { "Q8_0", "mm.0.weight", 32, 4, 0, 0, 1, 0, 0, SL_TYPE_Q8_0 },
};

static void mixes_name_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++) {
        const sl_mix *mix = sl_mix_find(mixed[i].mix);
        if (!mix || !here(mixed[i].type))
            continue;
        const sl_mix_model model = { mixed[i].n_layer, mixed[i].n_group, mixed[i].n_expert, mixed[i].tied, 0, mixed[i].weighted };
        sl_mix_place place;
        sl_mix_place_of(&place, &model, mixed[i].tensor);
        place.index = mixed[i].index, place.count = mixed[i].count;
        const sl_type type = sl_mix_type(mix, 0, &model, &place, SL_TYPE_F32);
        if (type != mixed[i].type)
            fail_msg("%s, %s: %s", mixed[i].mix, mixed[i].tensor, sl_type_name((uint32_t)type));
        if (place.role != SL_MIX_IMAGE)
            assert_int_equal(sl_mix_type(mix, 1, &model, &place, SL_TYPE_F32), mix->type);
    }
}

static void names_are_found(void **state)
{
    (void)state;
    static const struct { const char *name; int layer; } names[] = {
        { "blk.0.attn_v.weight", 0 }, { "blk.1023.attn_v.weight", 1023 }, { "blk.1024.attn_v.weight", -1 }, { "blk.99999999999999999999.x", -1 }, { "blk..x", 0 }, { "blk.7", -1 }, { "output.weight", -1 },
    };
    const sl_mix_model model = { 0 };
    sl_mix_place place;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sl_mix_place_of(&place, &model, names[i].name);
        assert_int_equal(place.layer, names[i].layer);
    }
    size_t n = 0;
    for (; sl_mix_at(n); n++)
        assert_non_null(sl_mix_find(sl_mix_at(n)->name));
    assert_true(n >= 1 && !sl_mix_at(n + 1000));
    assert_null(sl_mix_find(""));
    assert_null(sl_mix_find("Q4_K_"));
    assert_null(sl_mix_find("Q8_K"));
    assert_int_equal(sl_quantize_type_find("Q8_K"), -1);
}

static void rows_take_what_fits(void **state)
{
    (void)state;
    static const struct { sl_type from; uint64_t n; sl_type now, to; } rows[] = {
        { SL_TYPE_Q4_K, 512, SL_TYPE_F32, SL_TYPE_Q4_K }, { SL_TYPE_Q4_K, 96, SL_TYPE_F32, SL_TYPE_Q5_0 }, { SL_TYPE_Q5_K, 96, SL_TYPE_F32, SL_TYPE_Q5_1 }, { SL_TYPE_Q6_K, 96, SL_TYPE_F32, SL_TYPE_Q8_0 },
        { SL_TYPE_Q3_K, 96, SL_TYPE_F32, SL_TYPE_IQ4_NL }, { SL_TYPE_Q2_K, 96, SL_TYPE_F32, SL_TYPE_IQ4_NL }, { SL_TYPE_IQ4_XS, 96, SL_TYPE_F32, SL_TYPE_IQ4_NL }, { SL_TYPE_Q4_K, 172, SL_TYPE_F32, SL_TYPE_F16 },
        { SL_TYPE_Q8_0, 172, SL_TYPE_F32, SL_TYPE_F16 }, { SL_TYPE_Q8_0, 172, SL_TYPE_BF16, SL_TYPE_BF16 }, { SL_TYPE_F16, 3, SL_TYPE_F32, SL_TYPE_F16 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (here(rows[i].from) && here(rows[i].to))
            assert_int_equal(sl_mix_fit(rows[i].from, rows[i].n, rows[i].now), rows[i].to);
}

static void some_stay_as_they_are(void **state)
{
    (void)state;
    static const struct { const char *name; uint32_t n_dims; uint64_t ne[4]; int changes; } tensors[] = {
        { "blk.0.attn_q.weight", 2, { 64, 64, 1, 1 }, 1 }, { "blk.0.ffn_up_exps.weight", 3, { 64, 64, 4, 1 }, 1 }, { "token_embd.weight", 2, { 64, 64, 1, 1 }, 1 },
        { "blk.0.attn_q.bias", 1, { 64, 1, 1, 1 }, 0 }, { "blk.0.attn_norm.weight", 2, { 64, 64, 1, 1 }, 0 }, { "blk.0.ffn_gate_inp.weight", 2, { 64, 8, 1, 1 }, 0 },
        { "rope_freqs.weight", 1, { 64, 1, 1, 1 }, 0 }, { "x.weight", 2, { 64, 1, 1, 1 }, 0 }, { "v.patch_embd.weight", 4, { 14, 14, 3, 64 }, 0 }, { "v.position_embd.weight", 2, { 64, 17, 1, 1 }, 0 },
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        sl_gguf_tensor t = { .name = tensors[i].name, .type = SL_TYPE_F32, .n_dims = tensors[i].n_dims };
        memcpy(t.ne, tensors[i].ne, sizeof t.ne);
        if (sl_mix_changes(&t) != tensors[i].changes)
            fail_msg("%s", tensors[i].name);
    }
}

static void patterns_fit(void **state)
{
    (void)state;
    static const struct { const char *pattern, *text; int fits; } pairs[] = {
        { "", "", 1 }, { "", "a", 0 }, { "*", "", 1 }, { "*", "abc", 1 }, { "a*c", "abc", 1 }, { "a*c", "ac", 1 }, { "a*c", "abcd", 0 }, { "a?c", "abc", 1 }, { "a?c", "ac", 0 },
        { "*.ffn_*.weight", "blk.3.ffn_up.weight", 1 }, { "*a*b", "aaaaab", 1 }, { "*a*b", "aaaaaba", 0 }, { "abc", "abc", 1 }, { "abc", "ab", 0 }, { "**b", "aab", 1 },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(sl_pattern_fits(pairs[i].pattern, pairs[i].text), pairs[i].fits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_is_small), cmocka_unit_test(weights_count), cmocka_unit_test(cuts_change_nothing), cmocka_unit_test(ends_hold), cmocka_unit_test(mixes_name_types),
        cmocka_unit_test(names_are_found), cmocka_unit_test(rows_take_what_fits), cmocka_unit_test(some_stay_as_they_are), cmocka_unit_test(patterns_fit),
    };
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}
