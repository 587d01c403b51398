/* SPDX-License-Identifier: MIT */
/* Whole models at level amx give the bytes of the level below it, on one thread and on several; also on machines without AMX (tests/support/tiles.h). Tiles are given
 * back after every pass. */
#include "check.h"
#include "cpu.h"
#include "eval.h"
#include "mllama_build.h"
#include "model_build.h"
#include "random.h"
#include "tiles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_IDS = 70, N_VOCAB = 280 };         /* two pages of the cache, groups of rows that are not full */
static const size_t picture_at = 3;

/* Types of super-blocks, with minima and without, of blocks of 32, with and without, of tables, and floats: each has its kernel or conversion. */
static const model_spec text = { .n_embd = 256, .n_ff = 512, .n_layer = 2, .n_head = 4, .n_head_kv = 2, .d_head = 64, .n_vocab = N_VOCAB, .n_ctx = 128, .seed = 31, .types = {
    [ROLE_TOKEN_EMBD] = SL_TYPE_F16, [ROLE_OUTPUT] = SL_TYPE_Q6_K, [ROLE_ATTN_Q] = SL_TYPE_Q8_0, [ROLE_ATTN_K] = SL_TYPE_F32, [ROLE_ATTN_V] = SL_TYPE_IQ4_XS,
    [ROLE_ATTN_OUTPUT] = SL_TYPE_BF16, [ROLE_FFN_GATE] = SL_TYPE_Q4_0, [ROLE_FFN_UP] = SL_TYPE_Q5_1, [ROLE_FFN_DOWN] = SL_TYPE_Q4_K } };
/* Experts, chunks, heads of 24 and rows that are not whole tiles. */
static const model_spec experts = { .n_embd = 96, .n_ff = 160, .n_layer = 4, .n_head = 4, .n_head_kv = 2, .d_head = 24, .n_vocab = N_VOCAB, .n_ctx = 128, .n_expert = 3, .n_expert_used = 1,
    .n_ff_expert = 96, .expert_step = 2, .chunk = 40, .qk_norm = 1, .seed = 32, .types = {
    [ROLE_TOKEN_EMBD] = SL_TYPE_F16, [ROLE_OUTPUT] = SL_TYPE_Q8_0, [ROLE_ATTN_Q] = SL_TYPE_F16, [ROLE_ATTN_K] = SL_TYPE_Q4_0, [ROLE_ATTN_V] = SL_TYPE_F32,
    [ROLE_ATTN_OUTPUT] = SL_TYPE_BF16, [ROLE_FFN_GATE] = SL_TYPE_Q8_0, [ROLE_FFN_UP] = SL_TYPE_Q4_0, [ROLE_FFN_DOWN] = SL_TYPE_F16 } };
static const mllama_spec seeing = {
    .n_embd = 256, .n_ff = 288, .n_layer = 4, .cross = 0xa, .v_embd = 160, .v_ff = 320, .v_head = 2, .v_layer = 2, .kept = 0x3, .tile_side = 28, .patch_side = 14, .seed = 33,
    .types = { { ".attn_v.", SL_TYPE_Q8_0 }, { "v.", SL_TYPE_F16 }, { "mm.0", SL_TYPE_F16 }, { "cross_attn", SL_TYPE_Q6_K }, { "token_embd", SL_TYPE_BF16 }, { "ffn_", SL_TYPE_Q4_0 } },
};

/* level: its name; NULL: the best there is. With a cache that tiles do not serve the first way is enough. */
typedef struct way { const char *level; uint32_t n_threads, n_batch; } way;
static const way base = { "avx512vnni", 1, 512 };
static const way ways[] = { { "amx", 1, 512 }, { "amx", 3, 33 }, { NULL, 2, 512 } };

typedef struct subject { const char *name; const void *data; size_t size; int sees; } subject;

/* 1 if this thread holds tiles: the palette that sttilecfg tells is not 0. */
static int holds_tiles(void)
{
#if defined(__x86_64__)
    unsigned char config[64];
    __asm__ volatile(".byte 0xc4, 0xe2, 0x79, 0x49, 0x07" : : "D"(config) : "memory");      /* sttilecfg (%rdi) */
    return config[0] != 0;
#else
    return 0;
#endif
}

static void compute(const subject *x, const way *w, const char *arith, const char *cache, float *logits, eval_proof *proof)
{
    const eval_how how = { .cpu_level = w->level, .arith = arith, .n_threads = w->n_threads };
    const sl_session_options o = { .size = sizeof o, .cache_type = cache, .n_ctx = 128, .n_batch = w->n_batch };
    sl_token ids[N_IDS];
    sl_image *picture = NULL;
    sl_model *model;
    sl_session *session = NULL;
    mllama_ids(ids, N_IDS, N_VOCAB, &picture_at, x->sees ? 1 : 0, 9);
    sl_status status = eval_load(&model, NULL, x->data, x->size, &how);
    if (status == SL_OK)
        status = sl_session_create(&session, model, &o);
    if (status == SL_OK && x->sees)
        status = sl_session_add_image(session, picture = mllama_picture(60, 50, 1));
    if (status == SL_OK)
        status = sl_session_eval(session, ids, N_IDS, logits, N_IDS);
    if (status != SL_OK)
        fail_msg("%s, level %s: %s", x->name, w->level ? w->level : "best", sl_last_error());
    eval_prove(session, proof);
    sl_image_free(picture);
    sl_session_free(session);
    sl_model_free(model);
}

static void expect(const subject *x, const eval_proof *proof, const char *label)
{
    if (!strstr(proof->labels, label))
        fail_msg("%s: no%s ran:%s", x->name, label, proof->labels);
}

static void prove(const subject *x)
{
    static const char *const ariths[] = { "f32", "bf16" }, *const caches[] = { "bf16", "f16" };
    static float expected[N_IDS][N_VOCAB], got[N_IDS][N_VOCAB];
    for (size_t a = 0; a < COUNT(ariths); a++)
        for (size_t c = 0; c < COUNT(caches); c++) {
            eval_proof proof;
            compute(x, &base, ariths[a], caches[c], expected[0], &proof);
            assert_null(strstr(proof.labels, "/amx "));
            for (size_t i = 0; i < (c == 0 ? COUNT(ways) : 1); i++) {
                memset(got, 0xff, sizeof got);
                compute(x, &ways[i], ariths[a], caches[c], got[0], &proof);
                if (memcmp(got, expected, sizeof got))
                    fail_msg("%s, arithmetic %s, cache %s, %u threads, batches of %u: other bytes than at level %s", x->name, ariths[a], caches[c], ways[i].n_threads, ways[i].n_batch, base.level);
                expect(x, &proof, "/amx ");
                if (a == 1)
                    expect(x, &proof, "/b16/amx ");
                if (c == 0)
                    expect(x, &proof, " attention/bf16/amx ");
                if (a == 1 && x->sees)
                    expect(x, &proof, " span_attention/bf16/amx ");
                assert_false(holds_tiles());
            }
        }
}

static void prove_text(const char *name, const model_spec *spec)
{
    model_file *file = model_build(spec);
    prove(&(subject) { name, file->data, file->size, 0 });
    model_build_free(file);
}

static void llama(void **state) { (void)state, prove_text("llama", &text); }
static void llama4(void **state) { (void)state, prove_text("llama4", &experts); }

static void mllama(void **state)
{
    (void)state;
    size_t size;
    tiny *t = mllama_create(&seeing);
    unsigned char *data = tiny_write(t, &size);
    prove(&(subject) { "mllama", data, size, 1 });
    free(data);
    tiny_free(t);
}

/* Every thread that took tiles gave them back, and each kind of product ran. */
static void tiles_were_used(void **state)
{
    (void)state;
    if (!tiles_are_emulated())
        skip();
    static const enum tiles_kind kinds[] = { TILES_CONFIG, TILES_ZERO, TILES_LOAD, TILES_STORE, TILES_SSD, TILES_BF16 };
    for (size_t i = 0; i < COUNT(kinds); i++)
        assert_true(tiles_done(kinds[i]) > 0);
    assert_int_equal(tiles_done(TILES_CONFIG), tiles_done(TILES_RELEASE));
    print_message("%llu products of bytes, %llu of bfloats; the handler was entered %llu times\n", (unsigned long long)tiles_done(TILES_SSD), (unsigned long long)tiles_done(TILES_BF16),
                  (unsigned long long)tiles_traps());
}

int main(void)
{
    if (!(cpu_permitted(cpu_features()) & CPU_AMX)) {
        printf("level amx includes AVX-512 with VNNI, which this processor does not show, or the system refuses tiles\n");
        return 77;
    }
    printf("tiles are %s\n", tiles_are_emulated() ? "those of tests/support/tiles.c" : "the processor's");
    const struct CMUnitTest tests[] = { cmocka_unit_test(llama), cmocka_unit_test(llama4), cmocka_unit_test(mllama), cmocka_unit_test(tiles_were_used) };
    return cmocka_run_group_tests_name("tiles", tests, NULL, NULL);
}
