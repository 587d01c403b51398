/* SPDX-License-Identifier: MIT */
/* same_bits_shapes.c - the promise of docs/numerics.md for odd shapes: widths that are no multiple of 16 or 64, rows that are not whole blocks, one to eight queries for a key, experts,
 * several types in one model, every type of cache, both arithmetics; in all the ways of tests/support/ways.h. */
#include "check.h"
#include "eval.h"
#include "model_build.h"
#include "random.h"
#include "sanitized.h"
#include "ways.h"

#include <string.h>

enum { N = WHEN_SANITIZED(70, 137), N_RANDOM = WHEN_SANITIZED(3, 24) };       /* 137: three pages of the cache, the last of 9 positions; three passes of 64 */
#define VOCAB .n_vocab = 103, .n_ctx = 512, .words = 1

static const struct { const char *name; model_spec spec; const char *arith, *cache; int every_level; } shapes[] = {
    { "super-blocks among others", { VOCAB, .n_embd = 256, .n_ff = 768, .n_layer = 2, .n_head = 3, .n_head_kv = 3, .d_head = 96, .seed = 21, .types = {
        [ROLE_TOKEN_EMBD] = SL_TYPE_F16, [ROLE_OUTPUT] = SL_TYPE_Q6_K, [ROLE_ATTN_Q] = SL_TYPE_Q8_0, [ROLE_ATTN_K] = SL_TYPE_F32, [ROLE_ATTN_V] = SL_TYPE_IQ4_XS,
        [ROLE_ATTN_OUTPUT] = SL_TYPE_BF16, [ROLE_FFN_GATE] = SL_TYPE_Q4_0, [ROLE_FFN_UP] = SL_TYPE_Q8_0, [ROLE_FFN_DOWN] = SL_TYPE_Q4_K } }, "f32", "q8_0", 1 },
    { "the same", { VOCAB, .n_embd = 256, .n_ff = 768, .n_layer = 2, .n_head = 3, .n_head_kv = 1, .d_head = 96, .seed = 22, .fused = 1, .types = {
        [ROLE_TOKEN_EMBD] = SL_TYPE_Q4_K, [ROLE_OUTPUT] = SL_TYPE_F16, [ROLE_ATTN_Q] = SL_TYPE_Q5_K, [ROLE_ATTN_OUTPUT] = SL_TYPE_Q4_1, [ROLE_FFN_GATE] = SL_TYPE_Q3_K,
        [ROLE_FFN_UP] = SL_TYPE_Q3_K, [ROLE_FFN_DOWN] = SL_TYPE_BF16 } }, "bf16", "bf16", 1 },
    /* Rows that are not whole blocks of 32, of all float types; heads of 12, 24, 40. */
    { "floats, heads of 24", { VOCAB, .n_embd = 120, .n_ff = 200, .n_layer = 2, .n_head = 5, .n_head_kv = 5, .d_head = 24, .seed = 24, .biases = 1, .types = {
        [ROLE_TOKEN_EMBD] = SL_TYPE_F32, [ROLE_OUTPUT] = SL_TYPE_F16, [ROLE_ATTN_Q] = SL_TYPE_BF16, [ROLE_ATTN_K] = SL_TYPE_F32, [ROLE_ATTN_V] = SL_TYPE_F16,
        [ROLE_ATTN_OUTPUT] = SL_TYPE_F32, [ROLE_FFN_GATE] = SL_TYPE_F16, [ROLE_FFN_UP] = SL_TYPE_BF16, [ROLE_FFN_DOWN] = SL_TYPE_F16 } }, "bf16", "f16", 0 },
    { "floats, heads of 12", { VOCAB, .n_embd = 44, .n_ff = 50, .n_layer = 3, .n_head = 7, .n_head_kv = 1, .d_head = 12, .seed = 25, .tied = 1, .types = { SL_TYPE_BF16, SL_TYPE_BF16, SL_TYPE_F32,
        SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_F16, SL_TYPE_F32, SL_TYPE_F32, SL_TYPE_BF16 } }, "f32", "f32", 0 },
    { "floats, heads of 40", { VOCAB, .n_embd = 90, .n_ff = 34, .n_layer = 2, .n_head = 6, .n_head_kv = 2, .d_head = 40, .seed = 26, .types = { SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_F16,
        SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_F16 } }, "bf16", "bf16", 0 },
    { "odd numbers of blocks", { VOCAB, .n_embd = 96, .n_ff = 160, .n_layer = 2, .n_head = 8, .n_head_kv = 1, .d_head = 32, .seed = 27, .types = { SL_TYPE_Q8_0, SL_TYPE_Q4_0, SL_TYPE_Q8_0,
        SL_TYPE_Q5_0, SL_TYPE_Q4_1, SL_TYPE_Q8_0, SL_TYPE_IQ4_NL, SL_TYPE_MXFP4, SL_TYPE_Q5_1 } }, "f32", "q8_0", 0 },
    { "one block, heads of 8", { VOCAB, .n_embd = 32, .n_ff = 32, .n_layer = 2, .n_head = 4, .n_head_kv = 2, .d_head = 8, .seed = 28, .rope_factors = 1, .types = { SL_TYPE_Q4_0, SL_TYPE_Q8_0, SL_TYPE_Q4_0,
        SL_TYPE_Q4_0, SL_TYPE_Q8_0, SL_TYPE_Q8_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q8_0 } }, "f32", "f16", 0 },
    { "experts", { VOCAB, .n_embd = 96, .n_ff = 96, .n_layer = 2, .n_head = 6, .n_head_kv = 2, .d_head = 32, .n_expert = 7, .n_expert_used = 3, .seed = 29, .types = { SL_TYPE_F16, SL_TYPE_Q8_0, SL_TYPE_Q8_0,
        SL_TYPE_Q8_0, SL_TYPE_F32, SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q5_0, SL_TYPE_Q8_0 } }, "f32", "q8_0", 0 },
#define LLAMA4 { VOCAB, .n_embd = 128, .n_ff = 160, .n_layer = 4, .n_head = 4, .n_head_kv = 2, .d_head = 32, .n_expert = 5, .n_expert_used = 1, .n_ff_expert = 96, .expert_step = 2, .chunk = 24, .qk_norm = 1, \
        .seed = 30, .types = { SL_TYPE_F16, SL_TYPE_Q8_0, SL_TYPE_Q8_0, SL_TYPE_Q4_0, SL_TYPE_F32, SL_TYPE_BF16, SL_TYPE_Q8_0, SL_TYPE_Q4_0, SL_TYPE_Q5_1 } }
    { "llama4", LLAMA4, "f32", "f16", 0 },
    { "llama4", LLAMA4, "bf16", "bf16", 0 },
};

static void prove(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        model_file *file = model_build(&shapes[i].spec);
        const ways_subject s = { .name = shapes[i].name, .arith = shapes[i].arith, .cache = shapes[i].cache, .data = file->data, .size = file->size, .n = N, .every_level = shapes[i].every_level, .seed = i };
        ways_prove(&s, N_RANDOM);
        model_build_free(file);
    }
}

static void quantized(void **state) { (void)state, prove(0, 2), prove(5, 7); }
static void floats(void **state) { (void)state, prove(2, 5); }
static void experts(void **state) { (void)state, prove(7, COUNT(shapes)); }

/* Going back and computing again, in other pieces, is as if nothing had been. */
static void rewound_is_the_same(void **state)
{
    (void)state;
    static const size_t pieces[] = { 300, 0, 131, 64, 63, 1, 299 };        /* length to go back to, each time filled up again */
    const model_spec spec = { .n_embd = 96, .n_ff = 160, .n_layer = 2, .n_head = 4, .n_head_kv = 2, .d_head = 24, .n_vocab = 101, .n_ctx = 300, .seed = 23 };
    model_file *file = model_build(&spec);
    const eval_how how = { .n_threads = 2, .n_batch = 50, .n_ctx = 300 };
    const sl_session_options options = { .size = sizeof options, .n_ctx = 300, .n_batch = 50 };
    static float expected[300][101], got[300][101];
    sl_token ids[300];
    uint64_t random = 5;
    for (int i = 0; i < 300; i++)
        ids[i] = (sl_token)random_below(&random, 101);
    sl_model *model;
    sl_session *session;
    assert_int_equal(eval_load(&model, NULL, file->data, file->size, &how), SL_OK);
    assert_int_equal(eval_logits(model, &how, ids, 300, expected[0], 300, NULL), SL_OK);
    assert_int_equal(sl_session_create(&session, model, &options), SL_OK);
    for (size_t i = 0; i < COUNT(pieces); i++) {
        const size_t from = i ? pieces[i] : 0;
        /* What is forgotten was something else. */
        for (size_t t = sl_session_length(session); i % 2 && t > from; t = sl_session_length(session)) {
            const sl_token other = (ids[t - 1] + 1) % 101;
            assert_int_equal(sl_session_rewind(session, t - 1), SL_OK);
            if (t - 1 > from)
                continue;
            assert_int_equal(sl_session_eval(session, &other, 1, NULL, 0), SL_OK);
            break;
        }
        assert_int_equal(sl_session_rewind(session, from), SL_OK);
        assert_int_equal(sl_session_length(session), from);
        memset(got, 0xff, sizeof got);
        for (size_t t = from, n = 1; t < 300; t += n, n = n * 3 % 71) {
            n = n > 300 - t ? 300 - t : n;
            assert_int_equal(sl_session_eval(session, ids + t, n, got[t], n), SL_OK);
        }
        assert_memory_equal(got[from], expected[from], (300 - from) * sizeof got[0]);
    }
    sl_session_free(session);
    sl_model_free(model);
    model_build_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(quantized), cmocka_unit_test(floats), cmocka_unit_test(experts), cmocka_unit_test(rewound_is_the_same) };
    return cmocka_run_group_tests_name("same_bits_shapes", tests, NULL, NULL);
}
