/* SPDX-License-Identifier: MIT */
/* Prompts with pictures give the same bytes however they are computed: threads, passes, calls, levels of the processor, placement, packed or in place; in every kind of
 * cache and arithmetic. The text path alone: tests/api/same_bits.c. */
#include "check.h"
#include "eval.h"
#include "mllama_build.h"
#include "random.h"
#include "sanitized.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As people's files are: one kind of matrix in the encoder is quantized, its neighbours are F16; the text is of several types. Width 256 is one super-block. */
static const mllama_spec spec = {
    .n_embd = 256, .n_ff = 288, .n_layer = 4, .cross = 0xa, .v_embd = 256, .v_ff = 320, .v_head = 4, .v_layer = 3, .kept = 0x5, .tile_side = 28, .patch_side = 14, .seed = 3,
    .types = { { ".attn_v.", SL_TYPE_Q4_K }, { "v.", SL_TYPE_F16 }, { "mm.0", SL_TYPE_F16 }, { "cross_attn", SL_TYPE_Q6_K }, { "token_embd", SL_TYPE_BF16 }, { "ffn_", SL_TYPE_Q8_0 } },
};
enum { N_VOCAB = 280, MOST_IMAGES = 3 };
#ifdef SANITIZED
enum { N_IDS = 80 };            /* two pages of the cache and two passes of 64 */
#else
enum { N_IDS = 150 };
#endif

static const struct story { const char *name; size_t n, at[MOST_IMAGES]; uint32_t size[MOST_IMAGES][2]; } stories[] = {
    { "one picture", 1, { 3 }, { { 60, 50 } } },
    { "three pictures, two side by side, one in a later pass", 3, { 10, 11, 70 }, { { 60, 50 }, { 20, 20 }, { 30, 90 } } },
};
static const char *const caches[] = { "f32", "f16", "bf16", "q8_0" }, *const ariths[] = { "f32", "bf16" };

/* One way of computing. level: index into eval_levels, -1: what the machine has. call: ids per call of sl_session_eval, 0: all, with the pictures before the first; else each
 * picture is added before the call that has its token. */
typedef struct way { int level; uint32_t n_threads, n_batch, in_place, call; const char *backend; } way;
static const way base = { -1, 1, 512, 0, 0, "cpu" };

static unsigned char *file;
static size_t file_size;

/* What is told: ids and pictures. */
typedef struct told { const struct story *story; sl_token ids[N_IDS]; sl_image *images[MOST_IMAGES]; } told;

static void tell(told *t, const struct story *story)
{
    t->story = story;
    mllama_ids(t->ids, N_IDS, N_VOCAB, story->at, story->n, 9);
    for (size_t i = 0; i < story->n; i++)
        t->images[i] = mllama_picture(story->size[i][0], story->size[i][1], i);
}

static void forget(told *t)
{
    for (size_t i = 0; i < t->story->n; i++)
        sl_image_free(t->images[i]);
}

static const char *text_of(const told *t, const way *w, const char *cache, const char *arith)
{
    static char text[320];
    snprintf(text, sizeof text, "%s: level %s, %u threads, batches of %u, calls of %u, %s, %s, cache %s, arithmetic %s", t->story->name, w->level < 0 ? "best" : eval_levels[w->level],
             w->n_threads, w->n_batch, w->call, w->in_place ? "in place" : "packed", w->backend, cache, arith);
    return text;
}

static sl_status run(const told *t, const way *w, sl_session *session, float *logits)
{
    const size_t call = w->call ? w->call : N_IDS;
    sl_status status = SL_OK;
    size_t added = 0;
    for (size_t at = 0; at < N_IDS && status == SL_OK; at += call) {
        const size_t n = N_IDS - at < call ? N_IDS - at : call;
        for (; added < t->story->n && t->story->at[added] < at + n && status == SL_OK; added++)
            status = sl_session_add_image(session, t->images[added]);
        if (status == SL_OK)
            status = sl_session_eval(session, t->ids + at, n, logits + at * N_VOCAB, n);
    }
    return status;
}

/* 0 if the machine lacks the level. */
static int compute(const told *t, const way *w, const char *cache, const char *arith, float *logits, eval_proof *proof)
{
    const eval_how how = { .backend = w->backend, .cpu_level = w->level < 0 ? NULL : eval_levels[w->level], .arith = arith, .n_threads = w->n_threads, .in_place = w->in_place };
    const sl_session_options o = { .size = sizeof o, .cache_type = cache, .n_ctx = 256, .n_batch = w->n_batch };
    sl_session_stats stats = { .size = sizeof stats };
    sl_model *model;
    sl_session *session = NULL;
    sl_status status = eval_load(&model, NULL, file, file_size, &how);
    if (status == SL_ERR_UNSUPPORTED && w->level > 0)
        return 0;
    memset(logits, 0xff, (size_t)N_IDS * N_VOCAB * sizeof *logits);
    if (status == SL_OK)
        status = sl_session_create(&session, model, &o);
    if (status == SL_OK)
        status = run(t, w, session, logits);
    if (status != SL_OK)
        fail_msg("%s: %s", text_of(t, w, cache, arith), sl_last_error());
    eval_prove(session, proof);
    assert_int_equal(sl_session_get_stats(session, &stats), SL_OK);
    assert_int_equal(stats.n_images, t->story->n);
    if (proof->n_threads != w->n_threads)
        fail_msg("%s: %llu threads worked", text_of(t, w, cache, arith), (unsigned long long)proof->n_threads);
    sl_session_free(session);
    sl_model_free(model);
    return 1;
}

/* What must have run, whatever the level; and nothing of a better level than the one asked for. */
static void check_proof(const told *t, const way *w, const char *cache, const char *arith, const eval_proof *proof)
{
    static const char *const operations[] = { " span_attention/", " layer_norm/", " gelu/", " add_gated/", " copy_to/", " matmul/q4_k/", " matmul/f16" };
    for (size_t i = 0; i < COUNT(operations); i++)
        if (!strstr(proof->labels, operations[i]))
            fail_msg("%s: no%s ran:%s", text_of(t, w, cache, arith), operations[i], proof->labels);
    for (int i = w->level + 1; w->level >= 0 && eval_levels[i]; i++) {
        char end[32];
        snprintf(end, sizeof end, "/%s ", eval_levels[i]);
        if (strstr(proof->labels, end))
            fail_msg("%s: %s ran", text_of(t, w, cache, arith), eval_levels[i]);
    }
}

static int same(const told *t, const way *w, const char *cache, const char *arith, const float *expected, float *buffer)
{
    eval_proof proof;
    if (!compute(t, w, cache, arith, buffer, &proof)) {
        print_message("%s: not on this machine\n", text_of(t, w, cache, arith));
        return 0;
    }
    check_proof(t, w, cache, arith, &proof);
    for (size_t i = 0; i < (size_t)N_IDS * N_VOCAB; i++)
        if (memcmp(expected + i, buffer + i, sizeof *buffer))
            fail_msg("%s: position %zu, token %zu: %a, base %a", text_of(t, w, cache, arith), i / N_VOCAB, i % N_VOCAB, (double)buffer[i], (double)expected[i]);
    return 1;
}

/* The base with one thing changed: all of them. */
static size_t each_alone(way *ways)
{
    static const uint32_t threads[] = { 2, 3, 5 }, batches[] = { 1, 2, 7, 64 }, calls[] = { 1, 7, 64 };
    size_t n = 0;
    for (size_t i = 0; i < COUNT(threads); i++)
        ways[n] = base, ways[n++].n_threads = threads[i];
    for (size_t i = 0; i < COUNT(batches); i++)
        ways[n] = base, ways[n++].n_batch = batches[i];
    for (size_t i = 0; i < COUNT(calls); i++)
        ways[n] = base, ways[n++].call = calls[i];
    for (int i = 0; eval_levels[i]; i++)
        ways[n] = base, ways[n++].level = i;
    ways[n] = base, ways[n++].in_place = 1;
    ways[n] = base, ways[n++].backend = "cpu@0-1,cpu";
    ways[n] = base, ways[n++].backend = "cpu@1-3,cpu";
    ways[n++] = (way) { 1, 3, 7, 1, 20, "cpu@3-3,cpu" };
    return n;
}

/* Another picture is another answer: the hashes of the base runs differ from story to story and with the cache and the arithmetic. */
static uint64_t seen[64];
static size_t n_seen;

static void remember(uint64_t hash)
{
    for (size_t i = 0; i < n_seen; i++)
        assert_true(seen[i] != hash);
    seen[n_seen++] = hash;
}

static void prove(const told *t, const char *cache, const char *arith)
{
    const size_t bytes = (size_t)N_IDS * N_VOCAB * sizeof(float);
    float *expected = malloc(bytes), *buffer = malloc(bytes);
    eval_proof proof;
    way ways[32];
    size_t n_same = 0;
    compute(t, &base, cache, arith, expected, &proof);
    const uint64_t hash = eval_hash(expected, bytes);
    remember(hash);
    const size_t n = each_alone(ways);
    for (size_t i = 0; i < n; i++)
        n_same += (size_t)same(t, &ways[i], cache, arith, expected, buffer);
    print_message("%s, cache %s, arithmetic %s: %zu ways, the same %zu bytes, hash %016llx\n", t->story->name, cache, arith, n_same, bytes, (unsigned long long)hash);
    free(expected);
    free(buffer);
}

static void the_same_bytes(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(stories); s++) {
        told t;
        tell(&t, &stories[s]);
        for (size_t a = 0; a < COUNT(ariths); a++)
            for (size_t c = 0; c < COUNT(caches); c++)
                prove(&t, caches[c], ariths[a]);
        forget(&t);
    }
}

/* The same weights in two files, and with the names of both kinds in one, give the same bytes. */
static void one_file_or_two(void **state)
{
    (void)state;
    static float expected[N_IDS][N_VOCAB], got[N_IDS][N_VOCAB];
    /* The feed-forward part of the encoder is square, so that shapes cannot tell its matrices apart. */
    static const mllama_spec shapes[] = { { .seed = 4 }, { .seed = 5, .v_ff = 16 }, { .seed = 6, .v_ff = 16, .max_tiles = 2, .v_global = 2 } };
    for (size_t i = 0; i < COUNT(shapes); i++) {
        told t;
        size_t size[4];
        tiny *whole = mllama_create(&shapes[i]), *renamed = mllama_rename(whole), *text, *projector;
        tell(&t, &stories[1]);
        mllama_split(whole, &text, &projector);
        unsigned char *data[] = { tiny_write(whole, &size[0]), tiny_write(renamed, &size[1]), tiny_write(text, &size[2]), tiny_write(projector, &size[3]) };
        for (int layout = 0; layout < 3; layout++) {
            const sl_source first = { .size = sizeof first, .data = data[layout], .length = size[layout] }, second = { .size = sizeof second, .data = data[3], .length = size[3] };
            const sl_source *const sources[] = { &first };
            sl_model_options o = SL_MODEL_OPTIONS_INIT;
            sl_model_info info = { .size = sizeof info };
            sl_model *model;
            sl_session *session;
            o.projector_source = layout == 2 ? &second : NULL, o.n_threads = 1, o.in_place = (uint32_t)layout % 2;
            if (sl_model_load_sources(&model, sources, 1, &o) != SL_OK)
                fail_msg("%s", sl_last_error());
            assert_int_equal(sl_model_get_info(model, &info), SL_OK);
            assert_non_null(strstr(info.vision, layout == 2 ? "two files (layout L0), old" : layout ? "one file (layout L1), old" : "one file (layout L1), new"));
            assert_int_equal(info.n_parts, layout == 2 ? 2 : 1);
            assert_int_equal(sl_session_create(&session, model, NULL), SL_OK);
            assert_int_equal(run(&t, &base, session, layout ? got[0] : expected[0]), SL_OK);
            if (layout)
                assert_memory_equal(got, expected, sizeof got);
            sl_session_free(session);
            sl_model_free(model);
        }
        for (int k = 0; k < 4; k++)
            free(data[k]);
        tiny_free(whole), tiny_free(renamed), tiny_free(text), tiny_free(projector);
        forget(&t);
    }
}

static int prepare(void **state)
{
    (void)state;
    tiny *t = mllama_create(&spec);
    file = tiny_write(t, &file_size);
    tiny_free(t);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    free(file);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_same_bytes), cmocka_unit_test(one_file_or_two) };
    return cmocka_run_group_tests_name("mllama_same_bits", tests, prepare, clean);
}
