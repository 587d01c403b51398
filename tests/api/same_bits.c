/* SPDX-License-Identifier: MIT */
/* The promise of docs/numerics.md: the same logits, byte for byte, however they are computed; of every type of tensors. One base run, then each way of computing changed
 * alone, then at random together. What a run says about itself proves that it was computed that way. */
#define _GNU_SOURCE     /* mkstemp */
#include "check.h"
#include "eval.h"
#include "model_build.h"
#include "random_blocks.h"
#include "random.h"
#include "sanitized.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_SAID = 12, N_BESIDE = 3, N_LOOKUP = 5 };

/* A model in memory or in a file, fed `n` random ids. */
typedef struct subject {
    const char *name, *path;        /* path: of a file, else data */
    const char *arith;
    const void *data;
    size_t size, n, n_vocab;
    int all_levels;                 /* its types are such that every level has a product of its own to do */
    sl_token *ids;
    uint64_t base_bytes;            /* of the arena of the base run */
    char kept[64], packed[80];      /* a file of the model's bytes, and one of its packed weights; "" where `path` is none of ours */
    sl_token said[N_SAID];          /* what the base run would say */
} subject;

/* One way of computing. level: index into eval_levels, -1: what the machine has; beside: so many other sequences; cached: packed weights come from a file; lookup: tokens
 * that are proposed while text is made. */
typedef struct way { int level; uint32_t n_threads, n_batch, in_place; const char *backend; uint32_t beside, cached, lookup; } way;
static const way base = { -1, 1, 512, 0, "cpu", 0, 0, 0 };

static const uint32_t threads[] = { 1, 2, 3, 5 }, batches[] = { 1, 2, 7, 64, 512 };
static const char *const placements[] = { "cpu", "cpu@0-0,cpu" };

static const char *text_of(const subject *s, const way *w, const char *cache)
{
    static char text[256];
    snprintf(text, sizeof text, "%s, %s: level %s, %u threads, batches of %u, %s, %s, cache %s, beside %u others, lookup %u", s->name, s->arith,
             w->level < 0 ? "best" : eval_levels[w->level], w->n_threads, w->n_batch, w->cached ? "cached" : w->in_place ? "in place" : "packed", w->backend, cache, w->beside, w->lookup);
    return text;
}

/* 1 if the label of an implementation that ran ends in "/<level>". */
static int ran(const eval_proof *proof, const char *level)
{
    char end[32];
    snprintf(end, sizeof end, "/%s ", level);
    return strstr(proof->labels, end) != NULL;
}

static void check_proof(subject *s, const way *w, const char *cache, const eval_proof *proof)
{
    const size_t n_tokens = s->n * (1 + w->beside), n_passes = (n_tokens + w->n_batch - 1) / w->n_batch;
    if (proof->n_passes != n_passes || proof->n_tokens != n_tokens)
        fail_msg("%s: %llu passes", text_of(s, w, cache), (unsigned long long)proof->n_passes);
    if (proof->n_threads != w->n_threads)
        fail_msg("%s: %llu threads worked", text_of(s, w, cache), (unsigned long long)proof->n_threads);
    if (!s->base_bytes)
        s->base_bytes = proof->compute_bytes;
    /* Levels want scratch of their own. */
    if (strchr(w->backend, ',') && w->n_batch == base.n_batch && w->level == base.level && proof->compute_bytes <= s->base_bytes)
        fail_msg("%s: two devices took no more memory than one", text_of(s, w, cache));
    if (!strcmp(s->arith, "bf16") != (strstr(proof->labels, "/b16/") != NULL))
        fail_msg("%s: products of another arithmetic ran:%s", text_of(s, w, cache), proof->labels);
    char attention[32];
    snprintf(attention, sizeof attention, " attention/%s/", cache);
    if (!strstr(proof->labels, attention))
        fail_msg("%s: no%s ran:%s", text_of(s, w, cache), attention, proof->labels);
    if (w->level < 0)
        return;
    if (s->all_levels && !ran(proof, eval_levels[w->level]) && !(w->level == 0 && ran(proof, "scalar-fma")))
        fail_msg("%s: nothing of that level ran:%s", text_of(s, w, cache), proof->labels);
    for (int i = w->level + 1; eval_levels[i]; i++)
        if (ran(proof, eval_levels[i]))
            fail_msg("%s: %s ran", text_of(s, w, cache), eval_levels[i]);
}

/* Other sequences beside and text that is looked up cost several times as much: short prompts and the reference files have them, for every type. */
static int is_long(const subject *s) { return s->n > 150; }

/* Greedy text behind half of the ids, said twice so that there is something to look up. */
static void say(const subject *s, sl_model *model, const way *w, const char *cache, sl_token said[N_SAID])
{
    const sl_session_options o = { .size = sizeof o, .cache_type = cache, .n_ctx = 512, .n_batch = w->n_batch };
    sl_generate_options g = SL_GENERATE_OPTIONS_INIT;
    sl_generate_result result = { .size = sizeof result };
    sl_session *session;
    const size_t half = s->n / 4;
    g.max_tokens = N_SAID, g.lookup = w->lookup;
    sl_status status = sl_session_create(&session, model, &o);
    if (status == SL_OK)
        status = sl_session_eval(session, s->ids, half, NULL, 0);
    if (status == SL_OK)
        status = sl_generate(session, s->ids, half, &g, &result);
    if (status != SL_OK)
        fail_msg("%s: %s", text_of(s, w, cache), sl_last_error());
    for (size_t i = 0; i < N_SAID; i++)
        said[i] = 2 * half + i < sl_session_length(session) ? sl_session_tokens(session)[2 * half + i] : SL_TOKEN_NONE;
    sl_session_free(session);
}

/* Loads it; packed weights from the file are there from the second time on. */
static sl_status load(const subject *s, const way *w, const eval_how *how, sl_model **model, sl_model_info *info)
{
    sl_status status = SL_OK;
    for (int times = 0; times < 2; times++) {
        status = eval_load(model, s->path ? s->path : w->cached ? s->kept : NULL, s->data, s->size, how);
        if (status == SL_OK)
            status = sl_model_get_info(*model, info);
        if (status != SL_OK || !w->cached || info->cached_bytes)
            break;
        if (times == 0)
            sl_model_free(*model);
    }
    return status;
}

/* Rows of all positions. 0 if the machine lacks the level. */
static int compute(subject *s, const way *w, const char *cache, float *logits)
{
    const eval_how how = { .backend = w->backend, .cpu_level = w->level < 0 ? NULL : eval_levels[w->level], .cache_type = cache, .arith = s->arith, .n_threads = w->n_threads,
                           .n_batch = w->n_batch, .n_ctx = 512, .in_place = w->in_place, .beside = w->beside, .weight_cache = w->cached ? s->packed : NULL };
    eval_proof proof;
    sl_model *model;
    sl_model_info info = { .size = sizeof info };
    sl_status status = load(s, w, &how, &model, &info);
    if (status == SL_ERR_UNSUPPORTED && w->level > 0)
        return 0;
    memset(logits, 0xff, s->n * s->n_vocab * sizeof *logits);
    if (status == SL_OK)
        status = eval_logits(model, &how, s->ids, s->n, logits, s->n, &proof);
    if (status != SL_OK)
        fail_msg("%s: %s", text_of(s, w, cache), sl_last_error());
    assert_int_equal(info.n_vocab, s->n_vocab);
    if ((info.cached_bytes > 0) != (w->cached > 0))
        fail_msg("%s: %llu bytes of weights came from a file", text_of(s, w, cache), (unsigned long long)info.cached_bytes);
    if (w == &base && !is_long(s))
        say(s, model, w, cache, s->said);
    if (w->lookup) {
        sl_token said[N_SAID];
        say(s, model, w, cache, said);
        if (memcmp(said, s->said, sizeof said))
            fail_msg("%s: other text", text_of(s, w, cache));
    }
    assert_true(w->in_place ? info.in_place_bytes > 0 : info.in_place_bytes == 0 && info.weight_bytes > 0);
    sl_model_free(model);
    check_proof(s, w, cache, &proof);
    return 1;
}

static void compare(const subject *s, const way *w, const char *cache, const float *expected, const float *got)
{
    if (memcmp(expected, got, s->n * s->n_vocab * sizeof *got) == 0)
        return;
    for (size_t i = 0; i < s->n * s->n_vocab; i++)
        if (memcmp(expected + i, got + i, sizeof *got))
            fail_msg("%s: position %zu, token %zu: %a, base %a", text_of(s, w, cache), i / s->n_vocab, i % s->n_vocab, (double)got[i], (double)expected[i]);
}

static int same(subject *s, const way *w, const char *cache, const float *expected, float *buffer)
{
    if (!compute(s, w, cache, buffer)) {
        print_message("%s: not on this machine\n", text_of(s, w, cache));
        return 0;
    }
    compare(s, w, cache, expected, buffer);
    return 1;
}

/* The base with one thing changed: all of `ways` of them. */
static size_t each_alone(const subject *s, way *ways)
{
    size_t n = 0;
    for (size_t i = 0; i < COUNT(threads); i++)
        ways[n] = base, ways[n++].n_threads = threads[i];
    for (size_t i = 0; i < COUNT(batches); i++)
        ways[n] = base, ways[n++].n_batch = batches[i];
    for (int i = 0; eval_levels[i]; i++)
        ways[n] = base, ways[n++].level = i;
    ways[n] = base, ways[n++].in_place = 1;
    ways[n] = base, ways[n++].backend = placements[1];
    ways[n] = base, ways[n++].cached = 1;
    if (!is_long(s)) {
        ways[n] = base, ways[n++].beside = N_BESIDE;
        ways[n] = base, ways[n++].lookup = N_LOOKUP;
    }
    return n;
}

static size_t n_levels(void)
{
    size_t n = 0;
    while (eval_levels[n])
        n++;
    return n;
}

static way at_random(uint64_t *state)
{
    way w = { .level = (int)random_below(state, n_levels()) };
    w.n_threads = threads[random_below(state, COUNT(threads))];
    w.n_batch = batches[random_below(state, COUNT(batches))];
    w.in_place = (uint32_t)random_below(state, 2);
    w.cached = !w.in_place && random_below(state, 2);
    w.beside = random_below(state, 4) ? 0 : N_BESIDE;
    w.lookup = random_below(state, 2) ? N_LOOKUP : 0;
    w.backend = placements[random_below(state, COUNT(placements))];
    return w;
}

/* Files for the way `cached`, in the folder of temporary ones. */
static void keep(subject *s)
{
    snprintf(s->kept, sizeof s->kept, "/tmp/spacellama-same-bits-XXXXXX");
    const int fd = mkstemp(s->kept);
    assert_true(fd >= 0);
    for (size_t at = 0; !s->path && at < s->size;) {
        const ssize_t n = write(fd, (const char *)s->data + at, s->size - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    close(fd);
    snprintf(s->packed, sizeof s->packed, "%s.packed", s->kept);
}

static void prove(subject *s, const char *cache, size_t n_random)
{
    keep(s);
    const size_t bytes = s->n * s->n_vocab * sizeof(float);
    float *expected = malloc(bytes), *buffer = malloc(bytes);
    way ways[32];
    uint64_t state = 7, id = 11;
    s->ids = malloc(s->n * sizeof *s->ids);
    for (size_t i = 0; i < s->n; i++)
        s->ids[i] = (sl_token)random_below(&id, s->n_vocab);
    compute(s, &base, cache, expected);
    const size_t n = each_alone(s, ways);
    size_t n_same = 0;
    for (size_t i = 0; i < n; i++)
        n_same += (size_t)same(s, &ways[i], cache, expected, buffer);
    for (size_t i = 0; i < n_random;) {
        way w = at_random(&state);
        if (is_long(s))
            w.beside = w.lookup = w.cached = 0, w.n_batch += w.n_batch == 2 ? 5 : 0;
        if (same(s, &w, cache, expected, buffer))
            i++, n_same++;
    }
    remove(s->packed), remove(s->kept);
    print_message("%s, %s, cache %s: %zu ways, the same %zu bytes, hash %016llx\n", s->name, s->arith, cache, n_same, bytes, (unsigned long long)eval_hash(expected, bytes));
    free(expected);
    free(buffer);
    free(s->ids);
}

/* ---- models that the project makes ---- */

#ifdef SANITIZED
enum { N_TOK = 90 };     /* two cache pages and two passes of 64 */
#else
enum { N_TOK = 300 };
#endif
#define ODD .n_embd = 768, .n_layer = 2, .n_head = 12, .n_head_kv = 4, .d_head = 64, .n_vocab = 1003, .n_ctx = 512
static const model_spec mixed = { ODD, .n_ff = 2304, .seed = 21, .types = {
    [ROLE_TOKEN_EMBD] = SL_TYPE_F16, [ROLE_OUTPUT] = SL_TYPE_Q6_K, [ROLE_ATTN_Q] = SL_TYPE_Q8_0, [ROLE_ATTN_K] = SL_TYPE_F32, [ROLE_ATTN_V] = SL_TYPE_IQ4_XS,
    [ROLE_ATTN_OUTPUT] = SL_TYPE_BF16, [ROLE_FFN_GATE] = SL_TYPE_Q4_0, [ROLE_FFN_UP] = SL_TYPE_Q8_0, [ROLE_FFN_DOWN] = SL_TYPE_Q4_K } };
static const model_spec plain = { ODD, .n_ff = 2080, .seed = 22 };
/* Rows that are not whole blocks of 32, of all float types. */
static const model_spec floats = { .n_embd = 120, .n_ff = 200, .n_layer = 2, .n_head = 5, .n_head_kv = 5, .d_head = 24, .n_vocab = 1003, .n_ctx = 512, .seed = 24, .types = {
    [ROLE_TOKEN_EMBD] = SL_TYPE_F32, [ROLE_OUTPUT] = SL_TYPE_F16, [ROLE_ATTN_Q] = SL_TYPE_BF16, [ROLE_ATTN_K] = SL_TYPE_F32, [ROLE_ATTN_V] = SL_TYPE_F16,
    [ROLE_ATTN_OUTPUT] = SL_TYPE_F32, [ROLE_FFN_GATE] = SL_TYPE_F16, [ROLE_FFN_UP] = SL_TYPE_BF16, [ROLE_FFN_DOWN] = SL_TYPE_F16 } };

static void prove_made(const char *name, model_spec spec, const char *arith, const char *cache, size_t n_random)
{
    spec.words = 1;
    model_file *file = model_build(&spec);
    subject s = { .name = name, .arith = arith, .data = file->data, .size = file->size, .n = N_TOK, .n_vocab = spec.n_vocab, .all_levels = spec.n_embd % 256 == 0 };
    prove(&s, cache, n_random);
    model_build_free(file);
}

static void mixed_types_f32_cache(void **state) { (void)state, prove_made("mixed types", mixed, "f32", "f32", 24); }
static void mixed_types_f16_cache(void **state) { (void)state, prove_made("mixed types", mixed, "f32", "f16", 0); }
static void mixed_types_bf16(void **state) { (void)state, prove_made("mixed types", mixed, "bf16", "f32", 0); }
static void float_types_bf16(void **state) { (void)state, prove_made("float types", floats, "bf16", "f16", 24); }
static void q8_0_f32_cache(void **state) { (void)state, prove_made("Q8_0, n_ff 2080", model_spec_of(plain, SL_TYPE_Q8_0), "f32", "f32", 0); }
static void q8_0_f16_cache(void **state) { (void)state, prove_made("Q8_0, n_ff 2080", model_spec_of(plain, SL_TYPE_Q8_0), "f32", "f16", 0); }

static void mixed_types_bf16_cache(void **state) { (void)state, prove_made("mixed types", mixed, "f32", "bf16", 8); }
static void mixed_types_q8_0_cache(void **state) { (void)state, prove_made("mixed types", mixed, "f32", "q8_0", 8); }
static void float_types_bf16_cache(void **state) { (void)state, prove_made("float types", floats, "bf16", "bf16", 8); }

/* Every type of this build: two layers of whole super-blocks, an odd vocabulary; and experts of Llama 4 in chunks, of several types. */
#ifdef SANITIZED
enum { N_SMALL = 20, N_ALL_RANDOM = 2 };
#else
enum { N_SMALL = 33, N_ALL_RANDOM = 24 };
#endif
static const model_spec small = { .n_embd = 256, .n_ff = 256, .n_layer = 2, .n_head = 4, .n_head_kv = 1, .d_head = 64, .n_vocab = 101, .n_ctx = 512 };
static const model_spec chunked = { .n_embd = 128, .n_ff = 160, .n_layer = 4, .n_head = 4, .n_head_kv = 2, .d_head = 32, .n_vocab = 101, .n_ctx = 512, .n_expert = 5, .n_expert_used = 1,
    .n_ff_expert = 96, .expert_step = 2, .chunk = 24, .qk_norm = 1, .seed = 25, .types = {
    [ROLE_TOKEN_EMBD] = SL_TYPE_F16, [ROLE_OUTPUT] = SL_TYPE_Q8_0, [ROLE_ATTN_Q] = SL_TYPE_Q8_0, [ROLE_ATTN_K] = SL_TYPE_Q4_0, [ROLE_ATTN_V] = SL_TYPE_F32,
    [ROLE_ATTN_OUTPUT] = SL_TYPE_BF16, [ROLE_FFN_GATE] = SL_TYPE_Q8_0, [ROLE_FFN_UP] = SL_TYPE_Q4_0, [ROLE_FFN_DOWN] = SL_TYPE_Q5_1 } };

static void prove_small(const char *name, model_spec spec, const char *arith, const char *cache)
{
    spec.words = 1;
    model_file *file = model_build(&spec);
    subject s = { .name = name, .arith = arith, .data = file->data, .size = file->size, .n = N_SMALL, .n_vocab = spec.n_vocab };
    prove(&s, cache, N_ALL_RANDOM);
    model_build_free(file);
}

static void every_type(void **state)
{
    (void)state;
    static const char *const caches[] = { "f16", "f32", "q8_0", "bf16" };
    for (int i = 0; random_block_types[i] >= 0; i++) {
        model_spec spec = model_spec_of(small, (sl_type)random_block_types[i]);
        spec.seed = 100 + (uint64_t)i;
        prove_small(random_block_name((sl_type)random_block_types[i]), spec, "f32", caches[i % 4]);
    }
}

static void llama4(void **state)
{
    (void)state;
    prove_small("llama4", chunked, "f32", "f16");
    prove_small("llama4", chunked, "bf16", "bf16");
}

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

/* ---- reference files ---- */

static void reference_files(void **state)
{
    (void)state;
    static const struct { const char *file, *arith; size_t n_vocab; } files[] = {
        { "text/base-mix.gguf", "f32", 512 }, { "text/base-mix2.gguf", "f32", 512 }, { "text/moe.gguf", "f32", 512 }, { "llama3-tiny/model-f32.gguf", "f32", 512 },
        { "stories260K/stories260K-q4_0.gguf", "f32", 512 }, { "text/moe.gguf", "bf16", 512 }, { "llama3-tiny/model-f16.gguf", "bf16", 512 },
    };
    const char *folder = getenv("SL_FIXTURES");
    if (!folder || !folder[0])
        skip();
    for (size_t i = 0; i < COUNT(files); i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, files[i].file);
        subject s = { .name = files[i].file, .path = path, .arith = files[i].arith, .n = 150, .n_vocab = files[i].n_vocab };
        prove(&s, i % 2 ? "f16" : "f32", 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type), cmocka_unit_test(llama4), cmocka_unit_test(mixed_types_f32_cache), cmocka_unit_test(mixed_types_f16_cache), cmocka_unit_test(q8_0_f32_cache),
        cmocka_unit_test(mixed_types_bf16), cmocka_unit_test(float_types_bf16),
        cmocka_unit_test(mixed_types_bf16_cache), cmocka_unit_test(mixed_types_q8_0_cache), cmocka_unit_test(float_types_bf16_cache),
        cmocka_unit_test(q8_0_f16_cache), cmocka_unit_test(rewound_is_the_same), cmocka_unit_test(reference_files),
    };
    return cmocka_run_group_tests_name("same_bits", tests, NULL, NULL);
}
