/* SPDX-License-Identifier: MIT */
/* importance.c - making an importance matrix through the interface: the same bytes however a text is cut, beside whatever else; its life beside that of its session; what quantizing makes
 * of it; everything that can fail. That its sums are right is shown in tests/arch/llama.c, beside the definition of the pass. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "counting.h"
#include "eval.h"
#include "random.h"
#include "tiny.h"

enum { N_VOCAB = 40, N_IDS = 150 };
static const tiny_shape shape = { .n_embd = 64, .n_head = 2, .n_head_kv = 1, .n_ff = 96, .n_vocab = N_VOCAB, .n_expert = 4, .n_expert_used = 2 };
static unsigned char *file;
static size_t file_bytes;
static sl_token ids[N_IDS];

typedef struct bytes { unsigned char data[1 << 17]; size_t n, most; } bytes;

static int32_t gather(const void *data, uint64_t n, void *user)
{
    bytes *b = user;
    if (n > sizeof b->data - b->n || (b->most && b->n + n > b->most))
        return 1;
    memcpy(b->data + b->n, data, n);
    b->n += n;
    return 0;
}

static int prepare(void **state)
{
    (void)state;
    uint64_t seed = 9;
    file = tiny_file(&shape, &file_bytes);
    for (size_t i = 0; i < N_IDS; i++)
        ids[i] = (sl_token)random_below(&seed, N_VOCAB);
    return !file;
}

static int finish(void **state)
{
    (void)state;
    free(file);
    return 0;
}

static sl_model *load(const char *level, uint32_t n_threads)
{
    sl_model *model = NULL;
    const sl_status status = eval_load(&model, NULL, file, file_bytes, &(eval_how) { .cpu_level = level, .n_threads = n_threads });
    if (level && status == SL_ERR_UNSUPPORTED)
        return NULL;            /* a level that this machine lacks */
    STATUS(status, SL_OK);
    return model;
}

static sl_session *open_session(sl_model *model, uint32_t n_batch)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = 256, .n_batch = n_batch, .n_seq = 2 };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, model, &o), SL_OK);
    return session;
}

/* ---- the same bytes ---- */

static void made(const char *level, uint32_t n_threads, uint32_t n_batch, size_t first, bytes *b)
{
    static float logits[N_IDS][N_VOCAB];
    sl_importance *importance = NULL;
    b->n = 0;
    sl_model *model = load(level, n_threads);
    if (!model)
        return;
    sl_session *session = open_session(model, n_batch);
    STATUS(sl_session_eval(session, ids, 20, NULL, 0), SL_OK);         /* before: does not count */
    STATUS(sl_session_rewind(session, 0), SL_OK);
    STATUS(sl_importance_create(&importance, session, "a text"), SL_OK);
    STATUS(sl_session_eval(session, ids, first, logits[0], first), SL_OK);
    STATUS(sl_session_eval(session, ids + first, N_IDS - first, logits[first], N_IDS - first), SL_OK);
    STATUS(sl_importance_write(importance, gather, b), SL_OK);
    sl_importance_free(importance);
    sl_session_free(session);
    sl_model_free(model);
}

static void same_bytes(void **state)
{
    (void)state;
    static bytes expected, got;
    static const struct { uint32_t n_threads, n_batch; size_t first; } ways[] = { { 1, 1, 1 }, { 2, 7, 100 }, { 3, 64, 149 }, { 1, 512, 75 } };
    made("scalar", 1, 512, 60, &expected);
    assert_true(expected.n > 1000);
    for (const char *const *level = eval_levels; *level; level++)
        for (size_t w = 0; w < COUNT(ways); w++) {
            made(*level, ways[w].n_threads, ways[w].n_batch, ways[w].first, &got);
            if (got.n && (got.n != expected.n || memcmp(got.data, expected.data, got.n)))
                fail_msg("%s, way %zu: other bytes", *level, w);
        }
}

/* Two sequences in turn are as one text after the other would be: counts and, but for the order of their sums, squares. Logits that nobody wants leave the output matrix out. */
static void other_calls_count(void **state)
{
    (void)state;
    static bytes b;
    sl_model *model = load(NULL, 1);
    sl_session *session = open_session(model, 32);
    sl_importance *importance = NULL;
    STATUS(sl_importance_create(&importance, session, NULL), SL_OK);
    uint32_t seqs[N_IDS];
    for (size_t i = 0; i < N_IDS; i++)
        seqs[i] = i / 10 % 2;
    STATUS(sl_session_eval_batch(session, ids, seqs, NULL, N_IDS, NULL), SL_OK);
    STATUS(sl_importance_write(importance, gather, &b), SL_OK);
    assert_non_null(memmem(b.data, b.n, "blk.1.ffn_down_exps.weight.in_sum2", 34));
    assert_null(memmem(b.data, b.n, "\0output.weight.in_sum2", 22));
    float logits[N_VOCAB];
    STATUS(sl_session_eval(session, ids, 1, logits, 1), SL_OK);
    b.n = 0;
    STATUS(sl_importance_write(importance, gather, &b), SL_OK);
    assert_non_null(memmem(b.data, b.n, "\0output.weight.in_sum2", 22));
    sl_importance_free(importance);
    sl_session_free(session);
    sl_model_free(model);
}

/* ---- lives ---- */

static void lives(void **state)
{
    (void)state;
    static bytes one, two;
    sl_model *model = load(NULL, 1);
    sl_session *session = open_session(model, 32);
    sl_importance *importance = NULL, *second = NULL;
    STATUS(sl_importance_create(&importance, session, NULL), SL_OK);
    STATUS(sl_importance_create(&second, session, NULL), SL_ERR_STATE);
    assert_null(second);
    STATUS(sl_importance_write(importance, gather, &one), SL_ERR_STATE);        /* nothing yet */
    STATUS(sl_session_eval(session, ids, 10, NULL, 0), SL_OK);
    sl_importance_free(importance);
    STATUS(sl_session_eval(session, ids, 10, NULL, 0), SL_OK);
    STATUS(sl_session_rewind(session, 0), SL_OK);
    STATUS(sl_importance_create(&second, session, NULL), SL_OK);
    STATUS(sl_session_eval(session, ids, 10, NULL, 0), SL_OK);
    STATUS(sl_importance_write(second, gather, &one), SL_OK);
    /* The session goes first, and the program's model before that. */
    sl_model_free(model);
    sl_session_free(session);
    STATUS(sl_importance_write(second, gather, &two), SL_OK);
    assert_int_equal(one.n, two.n);
    assert_memory_equal(one.data, two.data, one.n);
    sl_importance_free(second);
    sl_importance_free(NULL);
}

/* ---- quantizing ---- */

static void quantizing_reads_it(void **state)
{
    (void)state;
    static bytes plain, weighted, read;
    static float logits[N_IDS][N_VOCAB];
    char path[] = "/tmp/spacellama-importance-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    sl_model *model = load(NULL, 1);
    sl_session *session = open_session(model, 32);
    sl_importance *importance = NULL;
    STATUS(sl_importance_create(&importance, session, "some \xc3\xa4 text"), SL_OK);
    STATUS(sl_session_eval(session, ids, N_IDS, logits[0], N_IDS), SL_OK);
    STATUS(sl_importance_save(importance, path), SL_OK);
    STATUS(sl_importance_write(importance, gather, &read), SL_OK);
    FILE *saved = fopen(path, "rb");
    assert_non_null(saved);
    static unsigned char content[1 << 17];
    assert_int_equal(fread(content, 1, sizeof content, saved), read.n);
    assert_memory_equal(content, read.data, read.n);
    fclose(saved);
    const sl_source source = source_of(file, file_bytes), *const sources[] = { &source };
    sl_quantize_result result = { .size = sizeof result };
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    o.n_threads = 1, o.flags = SL_QUANTIZE_PURE;
    STATUS(sl_quantize_sources(sources, 1, gather, &plain, "IQ4_NL", &o, &result), SL_OK);
    o.importance = path;
    STATUS(sl_quantize_sources(sources, 1, gather, &weighted, "IQ4_NL", &o, &result), SL_OK);
    assert_int_equal(result.n_weighted, result.n_changed - 1);      /* all but the rows of the embedding, which nothing is multiplied with */
    assert_int_equal(plain.n, weighted.n);
    assert_true(memcmp(plain.data, weighted.data, plain.n) != 0);
    sl_importance_free(importance);
    sl_session_free(session);
    sl_model_free(model);
    unlink(path);
}

/* ---- misuse and failure ---- */

static void refused(void **state)
{
    (void)state;
    static bytes b;
    sl_model *model = load(NULL, 1);
    sl_session *session = open_session(model, 32);
    sl_importance *importance = (sl_importance *)(void *)model;
    STATUS(sl_importance_create(NULL, session, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_importance_create(&importance, NULL, NULL), SL_ERR_ARGUMENT);
    assert_null(importance);
    STATUS(sl_importance_create(&importance, session, NULL), SL_OK);
    STATUS(sl_session_eval(session, ids, 10, NULL, 0), SL_OK);
    STATUS(sl_importance_write(NULL, gather, &b), SL_ERR_ARGUMENT);
    STATUS(sl_importance_write(importance, NULL, &b), SL_ERR_ARGUMENT);
    STATUS(sl_importance_save(NULL, "/tmp/none"), SL_ERR_ARGUMENT);
    STATUS(sl_importance_save(importance, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_importance_save(importance, "/nowhere/at/all"), SL_ERR_IO);
    for (b.most = 1; b.most < 4000; b.most += 401) {
        b.n = 0;
        STATUS(sl_importance_write(importance, gather, &b), SL_ERR_IO);
    }
    sl_importance_free(importance);
    STATUS(sl_importance_create(&importance, session, "\xff"), SL_OK);       /* bytes that are no text are only a name */
    sl_importance_free(importance);
    sl_session_free(session);
    sl_model_free(model);
}

static void not_finite(void **state)
{
    (void)state;
    static bytes b;
    static const tiny_shape plain = { .n_embd = 32, .n_vocab = N_VOCAB };
    const float huge = 3e30f;
    size_t size;
    tiny *t = tiny_create(&plain);
    for (size_t i = 0; i < 32; i++)
        memcpy(tiny_find(t, "blk.1.attn_norm.weight")->data + i * sizeof huge, &huge, sizeof huge);
    unsigned char *data = tiny_write(t, &size);
    tiny_free(t);
    sl_model *model = NULL;
    STATUS(eval_load(&model, NULL, data, size, &(eval_how) { .n_threads = 1 }), SL_OK);
    sl_session *session = open_session(model, 32);
    sl_importance *importance = NULL;
    STATUS(sl_importance_create(&importance, session, NULL), SL_OK);
    (void)sl_session_eval(session, ids, 10, NULL, 0);       /* whatever becomes of such numbers, their squares are no floats */
    STATUS(sl_importance_write(importance, gather, &b), SL_ERR_NONFINITE);
    assert_non_null(strstr(sl_last_error(), "blk.1.attn_"));
    sl_importance_free(importance);
    sl_session_free(session);
    sl_model_free(model);
    free(data);
}

static void memory_fails(void **state)
{
    (void)state;
    static bytes b;
    counting c = { 0 };
    const sl_allocator allocator = counting_allocator(&c);
    const sl_source source = source_of(file, file_bytes), *const sources[] = { &source };
    const sl_model_options mo = { .size = sizeof mo, .n_threads = 1, .allocator = &allocator };
    sl_model *model = NULL;
    STATUS(sl_model_load_sources(&model, sources, 1, &mo), SL_OK);
    sl_session *session = open_session(model, 64);
    const size_t blocks = c.live_blocks, held = c.live_bytes;
    size_t n = 1;
    for (sl_status status = SL_ERR_NOMEM; status != SL_OK; n++) {
        sl_importance *importance = NULL;
        b.n = 0;
        c.fail_at = c.calls + n, c.fail_for = 1;
        status = sl_importance_create(&importance, session, "text");
        if (status == SL_OK)
            status = sl_session_eval(session, ids, 20, NULL, 0);
        if (status == SL_OK)
            status = sl_importance_write(importance, gather, &b);
        c.fail_at = 0;
        if (status != SL_OK)
            STATUS(status, SL_ERR_NOMEM);
        sl_importance_free(importance);
        STATUS(sl_session_rewind(session, 0), SL_OK);
        assert_int_equal(c.live_blocks, blocks);
        assert_int_equal(c.live_bytes, held);
    }
    assert_true(n > 30);
    const size_t calls = c.calls;
    STATUS(sl_session_eval(session, ids, 20, NULL, 0), SL_OK);
    assert_int_equal(c.calls, calls);       /* without one, computing takes no memory */
    sl_session_free(session);
    sl_model_free(model);
    counting_check_none(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(same_bytes), cmocka_unit_test(other_calls_count), cmocka_unit_test(lives), cmocka_unit_test(quantizing_reads_it), cmocka_unit_test(refused),
                                        cmocka_unit_test(not_finite), cmocka_unit_test(memory_fails) };
    return cmocka_run_group_tests(tests, prepare, finish);
}
