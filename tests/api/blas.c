/* SPDX-License-Identifier: MIT */
/* blas.c - the backend "blas" beside "cpu": close where OpenBLAS multiplies, the same bits where it does not, the same sentences where something fails; and modules that cannot work. */
#define _GNU_SOURCE
#include "check.h"
#include "eval.h"
#include "model_build.h"
#include "random.h"
#include "tiny.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More than two pieces of k and two slices of outputs, and no whole ones; two blocks of rows of a task. */
enum { N_TOK = 700, N_VOCAB = 333 };
static const model_spec shape = { .n_embd = 1100, .n_ff = 600, .n_layer = 1, .n_head = 6, .n_head_kv = 2, .d_head = 24, .n_vocab = N_VOCAB, .n_ctx = 1024, .seed = 4 };
static const sl_type types[] = { SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16 };
static const char *const labels[] = { " matmul/f32/openblas ", " matmul/f16/openblas ", " matmul/bf16/openblas " };
static const char *module;
static sl_token ids[N_TOK];

static void compute(const model_file *file, const eval_how *how, float *logits, eval_proof *proof)
{
    sl_model *model = NULL;
    STATUS(eval_load(&model, NULL, file->data, file->size, how), SL_OK);
    STATUS(eval_logits(model, how, ids, N_TOK, logits, N_TOK, proof), SL_OK);
    sl_model_free(model);
}

/* ---- products ---- */

static float ours[N_TOK][N_VOCAB], theirs[N_TOK][N_VOCAB];

static void close_to_cpu(void **state)
{
    (void)state;
    static const struct { uint32_t n_batch, n_threads; int many; } ways[] = { { 512, 1, 1 }, { 700, 2, 1 }, { 100, 3, 1 }, { 33, 2, 1 }, { 31, 2, 0 }, { 1, 1, 0 } };
    for (size_t i = 0; i < COUNT(types); i++) {
        const model_spec spec = model_spec_of(shape, types[i]);
        model_file *file = model_build(&spec);
        compute(file, &(eval_how) { .cache_type = "f32", .n_ctx = N_TOK, .n_threads = 2 }, ours[0], NULL);
        for (size_t w = 0; w < COUNT(ways); w++) {
            const eval_how how = { .backend = module, .cache_type = "f32", .n_ctx = N_TOK, .n_batch = ways[w].n_batch, .n_threads = ways[w].n_threads };
            eval_proof proof;
            compute(file, &how, theirs[0], &proof);
            const eval_distance d = eval_compare(ours[0], theirs[0], N_TOK, N_VOCAB);
            assert_non_null(strstr(proof.labels, labels[i]));
            if (!(d.max_abs <= (ways[w].many ? 1e-3 : 0)) || (ways[w].many && d.max_abs == 0))      /* the same bits would mean that it was not asked */
                fail_msg("%s, batches of %u: off by %g", labels[i], ways[w].n_batch, d.max_abs);
            if (w == 0)
                print_message("%s off by %.1e\n", labels[i], d.max_abs);
        }
        /* Weights that lie in the file are the CPU's. */
        compute(file, &(eval_how) { .backend = module, .cache_type = "f32", .n_ctx = N_TOK, .n_threads = 2, .in_place = 1 }, theirs[0], NULL);
        assert_memory_equal(theirs, ours, sizeof ours);
        model_build_free(file);
    }
}

/* Everything else is the CPU's: quantized weights, and layers that are given to it. */
static void all_else_is_the_same(void **state)
{
    (void)state;
    const model_spec spec = model_spec_of((model_spec) { .n_embd = 64, .n_ff = 96, .n_layer = 2, .n_head = 2, .n_head_kv = 1, .d_head = 32, .n_vocab = N_VOCAB, .n_ctx = 1024, .n_expert = 3, .n_expert_used = 2 }, SL_TYPE_Q8_0);
    model_file *file = model_build(&spec);
    eval_proof proof;
    compute(file, &(eval_how) { .cache_type = "f32", .n_ctx = N_TOK, .n_batch = 20 }, ours[0], NULL);
    compute(file, &(eval_how) { .backend = module, .cache_type = "f32", .n_ctx = N_TOK, .n_batch = 20 }, theirs[0], &proof);
    assert_memory_equal(theirs, ours, sizeof ours);
    assert_non_null(strstr(proof.labels, "matmul/q8_0/"));
    char backend[2048];
    snprintf(backend, sizeof backend, "%s@1-1,cpu", module);
    compute(file, &(eval_how) { .backend = backend, .cache_type = "f32", .n_ctx = N_TOK, .n_batch = 20 }, theirs[0], NULL);
    assert_memory_equal(theirs, ours, sizeof ours);
    model_build_free(file);
}

/* Two models compute at once: OpenBLAS is called by the threads of both. */
static void *compute_alone(void *arg)
{
    float *logits = arg;
    const model_spec spec = model_spec_of(shape, SL_TYPE_F16);
    model_file *file = model_build(&spec);
    for (int i = 0; i < 3; i++) {
        sl_model *model = NULL;
        const eval_how how = { .backend = module, .cache_type = "f32", .n_ctx = N_TOK, .n_batch = 100, .n_threads = 2 };
        if (eval_load(&model, NULL, file->data, file->size, &how) != SL_OK || eval_logits(model, &how, ids, N_TOK, logits, N_TOK, NULL) != SL_OK)
            logits[0] = NAN;
        sl_model_free(model);
    }
    model_build_free(file);
    return NULL;
}

static void two_at_once(void **state)
{
    (void)state;
    static float other[N_TOK][N_VOCAB];
    const model_spec spec = model_spec_of(shape, SL_TYPE_F16);
    model_file *file = model_build(&spec);
    compute(file, &(eval_how) { .cache_type = "f32", .n_ctx = N_TOK, .n_threads = 2 }, ours[0], NULL);
    model_build_free(file);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, compute_alone, other), 0);
    compute_alone(theirs);
    pthread_join(thread, NULL);
    assert_true(eval_compare(ours[0], theirs[0], N_TOK, N_VOCAB).max_abs <= 1e-3);
    assert_true(eval_compare(ours[0], other[0], N_TOK, N_VOCAB).max_abs <= 1e-3);
}

/* ---- what it says about itself ---- */

static void says_that_bits_differ(void **state)
{
    (void)state;
    static const tiny_shape small = { .n_embd = 32 };
    size_t bytes;
    unsigned char *data = tiny_file(&small, &bytes);
    const char *const backends[] = { NULL, module };
    uint64_t identities[2];
    char path[] = "/tmp/spacellama-blas-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int i = 0; i < 2; i++) {
        sl_model *model = NULL;
        sl_session *session = NULL;
        sl_model_info info = { .size = sizeof info };
        STATUS(eval_load(&model, NULL, data, bytes, &(eval_how) { .backend = backends[i], .n_threads = 1 }), SL_OK);
        STATUS(sl_model_get_info(model, &info), SL_OK);
        assert_int_equal(info.numerics, i ? 0 : sl_numerics_id());
        identities[i] = info.identity;
        STATUS(sl_session_create(&session, model, NULL), SL_OK);
        if (i)
            STATUS(sl_state_load(session, 0, path, NULL), SL_ERR_STATE);
        STATUS(sl_session_eval(session, ids, 3, NULL, 0), SL_OK);
        STATUS(sl_state_save(session, 0, path), SL_OK);
        STATUS(sl_state_load(session, 0, path, NULL), SL_OK);
        sl_session_free(session);
        sl_model_free(model);
    }
    assert_true(identities[0] != identities[1]);
    free(data);
    unlink(path);
    char old[64];
    snprintf(old, sizeof old, "%s.old", path);
    unlink(old);
}

/* ---- failures ---- */

typedef struct bytes { const unsigned char *data; size_t size, fail_from; } bytes;

static int64_t read_bytes(uint64_t offset, void *to, uint64_t n, void *user)
{
    const bytes *b = user;
    if (offset + n > b->fail_from)
        return -1;
    memcpy(to, b->data + offset, (size_t)n);
    return (int64_t)n;
}

static int32_t stop(uint64_t done, uint64_t total, void *user) { return (void)total, (void)user, done > 0; }

enum fault { GOOD, NOT_FINITE, READ_FAILS, CANCELLED, NO_LEVEL, NO_ARITH, OVERFLOWS };

/* Loads the model with that fault and computes; the sentence of what failed is copied. */
static sl_status with_fault(enum fault fault, const char *backend, char *sentence, size_t room)
{
    static const tiny_shape small = { .n_embd = 64, .n_ff = 96, .matrices = TINY_MATRIX_Q8_0 }, plain = { .n_embd = 64, .n_ff = 96 };
    tiny *t = tiny_create(fault == OVERFLOWS ? &small : &plain);
    const float infinite = INFINITY, huge = 3e38f;
    if (fault == NOT_FINITE)
        memcpy(tiny_find(t, "blk.1.ffn_up.weight")->data + 4 * 64 * 40, &infinite, sizeof infinite);
    for (size_t i = 0; fault == OVERFLOWS && i < 64; i++)
        memcpy(tiny_find(t, "blk.1.ffn_norm.weight")->data + i * sizeof huge, &huge, sizeof huge);
    bytes b = { .fail_from = SIZE_MAX };
    b.data = tiny_write(t, &b.size);
    tiny_free(t);
    if (fault == READ_FAILS)
        b.fail_from = b.size - 3000;
    const sl_source source = { .size = sizeof source, .length = b.size, .read = read_bytes, .user = &b }, *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.backend = backend, o.n_threads = 2;
    o.progress = fault == CANCELLED ? stop : NULL;
    o.cpu_level = fault == NO_LEVEL ? "nonsense" : NULL;
    o.arith = fault == NO_ARITH ? "bf32" : NULL;
    sl_model *model = NULL;
    sl_session *session = NULL;
    sl_status status = sl_model_load_sources(&model, sources, 1, &o);
    if (status == SL_OK)
        status = sl_session_create(&session, model, NULL);
    if (status == SL_OK)
        status = sl_session_eval(session, (const sl_token[]) { 1, 2, 3 }, 3, NULL, 0);
    snprintf(sentence, room, "%s", sl_last_error());
    sl_session_free(session);
    sl_model_free(model);
    free((void *)(uintptr_t)b.data);
    return status;
}

static void fails_as_cpu_does(void **state)
{
    (void)state;
    for (enum fault f = GOOD; f <= OVERFLOWS; f++) {
        char one[512], other[512];
        const sl_status cpu = with_fault(f, "cpu", one, sizeof one), blas = with_fault(f, module, other, sizeof other);
        const char *why = strstr(one, "memory: ");      /* the name of the source comes first, then perhaps that of the backend */
        if (cpu != blas || (f != GOOD && !strstr(other, why ? why + 8 : one)) || (f == GOOD) != (cpu == SL_OK))
            fail_msg("fault %d: cpu %s '%s', blas %s '%s'", (int)f, sl_status_name(cpu), one, sl_status_name(blas), other);
    }
}

/* A copy of the module that asks for a library which is not there. */
static void write_lame_copy(const char *path)
{
    static const char name[] = "libopenblas.so.";
    FILE *file = fopen(module, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    const size_t size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = malloc(size);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, size, file), size);
    fclose(file);
    int found = 0;
    for (size_t i = 0; i + sizeof name < size; i++)
        if (!memcmp(data + i, name, sizeof name - 1)) {
            data[i + 3] = 'X';
            found = 1;
        }
    assert_true(found);
    tiny_save(path, data, size);
    free(data);
}

static void cannot_work(void **state)
{
    (void)state;
    char threaded[2048], lame[] = "/tmp/spacellama-blas-XXXXXX";
    const int fd = mkstemp(lame);
    assert_true(fd >= 0);
    close(fd);
    write_lame_copy(lame);
    snprintf(threaded, sizeof threaded, "%s/module-blas-threaded.so", getenv("SL_MODULES"));
    const struct { const char *backend, *arith; sl_status status; const char *part; } rows[] = {
        { threaded, NULL, SL_ERR_UNSUPPORTED, "this OpenBLAS starts threads of its own (stand-in with threads)" },
        { lame, NULL, SL_ERR_BACKEND, "libXpenblas.so" },
        { module, "bf16", SL_ERR_UNSUPPORTED, "bf16 arithmetic" },
        { "/nowhere/libspacellama-blas.so", NULL, SL_ERR_BACKEND, "/nowhere/libspacellama-blas.so" },
    };
    static const tiny_shape small = { .n_embd = 32 };
    size_t size;
    unsigned char *data = tiny_file(&small, &size);
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_model *model = NULL;
        STATUS(eval_load(&model, NULL, data, size, &(eval_how) { .backend = rows[i].backend, .arith = rows[i].arith }), rows[i].status);
        if (!strstr(sl_last_error(), rows[i].part))
            fail_msg("row %zu: '%s'", i, sl_last_error());
    }
    free(data);
    unlink(lame);
}

/* Why there is nothing to test, or NULL. */
static const char *lacks(void)
{
    static const tiny_shape small = { .n_embd = 32 };
    size_t size;
    sl_model *model = NULL;
    module = getenv("SL_BLAS");
    if (!module || !module[0])
        return "built without OpenBLAS";
    unsigned char *data = tiny_file(&small, &size);
    const sl_status status = eval_load(&model, NULL, data, size, &(eval_how) { .backend = module });
    sl_model_free(model);
    free(data);
    return status == SL_ERR_UNSUPPORTED && strstr(sl_last_error(), "threads of its own") ? sl_last_error() : NULL;
}

int main(void)
{
    const char *why = lacks();
    if (why) {
        printf("%s: skipped\n", why);
        return 77;
    }
    for (int i = 0; i < N_TOK; i++)
        ids[i] = i * 31 % 20;
    const struct CMUnitTest tests[] = { cmocka_unit_test(close_to_cpu), cmocka_unit_test(all_else_is_the_same), cmocka_unit_test(two_at_once), cmocka_unit_test(says_that_bits_differ),
                                        cmocka_unit_test(fails_as_cpu_does), cmocka_unit_test(cannot_work) };
    return cmocka_run_group_tests_name("blas", tests, NULL, NULL);
}
