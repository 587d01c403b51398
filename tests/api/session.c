/* SPDX-License-Identifier: MIT */
/* session.c - sessions through the interface: the same numbers for every cut into batches and beside other sessions; calls that fail leave the
 * timeline as it was; cancelling in time; the host's floating-point state. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "fpenv.h"
#include "random.h"
#include "tiny.h"

enum { N_VOCAB = 24, N_IDS = 40, N_CTX = 64 };

static sl_model *model;
static sl_token ids[N_IDS];
static float expected[N_IDS][N_VOCAB];      /* logits after each of them */

static sl_model *load(const tiny_shape *shape, uint32_t n_threads)
{
    size_t size;
    unsigned char *file = tiny_file(shape, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *made = NULL;
    o.n_threads = n_threads;
    STATUS(sl_model_load_sources(&made, sources, 1, &o), SL_OK);
    free(file);
    return made;
}

static sl_session *open_session(sl_model *of, uint32_t n_ctx, uint32_t n_batch)
{
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    sl_session *session = NULL;
    o.n_ctx = n_ctx, o.n_batch = n_batch;
    STATUS(sl_session_create(&session, of, &o), SL_OK);
    return session;
}

static int prepare(void **state)
{
    (void)state;
    uint64_t seed = 1;
    model = load(NULL, 2);
    for (size_t i = 0; i < N_IDS; i++)
        ids[i] = (sl_token)random_below(&seed, N_VOCAB);
    sl_session *session = open_session(model, N_CTX, 0);
    for (size_t i = 0; i < N_IDS; i++)
        STATUS(sl_session_eval(session, ids + i, 1, expected[i], 1), SL_OK);
    sl_session_free(session);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    sl_model_free(model);
    return 0;
}

/* The session's next token gives the logits that it must at this length. */
static void goes_on(sl_session *session, size_t length)
{
    float logits[N_VOCAB];
    assert_int_equal(sl_session_length(session), length);
    if (length)
        assert_memory_equal(sl_session_tokens(session), ids, length * sizeof *ids);
    else
        assert_null(sl_session_tokens(session));
    STATUS(sl_session_eval(session, ids + length, 1, logits, 1), SL_OK);
    assert_memory_equal(logits, expected[length], sizeof logits);
    STATUS(sl_session_rewind(session, length), SL_OK);
}

/* ---- misuse ---- */

static void refused(void **state)
{
    (void)state;
    static const struct { sl_session_options o; sl_status status; } rows[] = {
#define O(...) { .size = sizeof(sl_session_options), __VA_ARGS__ }
        { { .size = 0 }, SL_ERR_ARGUMENT }, { { .size = 7 }, SL_ERR_ARGUMENT }, { { .size = SIZE_MAX }, SL_ERR_ARGUMENT },
        { O(.n_ctx = SL_LIMIT_CONTEXT + 1), SL_ERR_LIMIT }, { O(.n_ctx = UINT32_MAX), SL_ERR_LIMIT }, { O(.n_batch = SL_LIMIT_BATCH + 1), SL_ERR_LIMIT },
        { O(.cache_type = "q4_0"), SL_ERR_UNSUPPORTED }, { O(.cache_type = "F16"), SL_ERR_UNSUPPORTED }, { O(.cache_type = "bf16"), SL_OK }, { O(.cache_type = "q8_0"), SL_ERR_UNSUPPORTED },      /* heads of 8 */
        { O(.cache_type = ""), SL_OK }, { O(.n_ctx = 1, .n_batch = 9), SL_OK },
#undef O
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_session *session = (sl_session *)&rows;
        sl_status status = sl_session_create(&session, model, &rows[i].o);
        if (status != rows[i].status || !session != (status != SL_OK))
            fail_msg("row %zu: %s (%s)", i, sl_status_name(status), sl_last_error());
        sl_session_free(session);
    }
    sl_session *session = NULL;
    sl_session_options o;
    sl_session_stats stats = { .size = sizeof stats };
    float logits[N_VOCAB];
    STATUS(sl_session_create(NULL, model, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_session_create(&session, NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_session_options_default(NULL, sizeof o), SL_ERR_ARGUMENT);
    STATUS(sl_session_options_default(&o, 0), SL_ERR_ARGUMENT);
    STATUS(sl_session_options_default(&o, sizeof o), SL_OK);
    STATUS(sl_session_eval(NULL, ids, 1, logits, 1), SL_ERR_ARGUMENT);
    STATUS(sl_session_rewind(NULL, 0), SL_ERR_ARGUMENT);
    STATUS(sl_session_get_stats(NULL, &stats), SL_ERR_ARGUMENT);
    STATUS(sl_generate(NULL, ids, 1, NULL, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_session_length(NULL) + sl_session_capacity(NULL), 0);
    assert_null(sl_session_tokens(NULL));
    assert_null(sl_session_model(NULL));
    assert_null(sl_session_label(NULL, 0));
    sl_session_cancel(NULL);
    sl_session_free(NULL);
    session = open_session(model, N_CTX, 0);
    assert_ptr_equal(sl_session_model(session), model);
    STATUS(sl_session_get_stats(session, NULL), SL_ERR_ARGUMENT);
    stats.size = 1;
    STATUS(sl_session_get_stats(session, &stats), SL_ERR_ARGUMENT);
    assert_null(sl_session_label(session, SIZE_MAX));
    sl_session_free(session);
}

/* Calls that fail change nothing: on an empty session and in the middle. */
static void failing_calls(void **state)
{
    (void)state;
    float logits[N_VOCAB];
    sl_token many[N_CTX + 1] = { 0 };
    sl_session *session = open_session(model, N_CTX, 7);
    for (size_t length = 0; length <= 20; length += 20) {
        if (length)
            STATUS(sl_session_eval(session, ids, length, NULL, 0), SL_OK);
        STATUS(sl_session_eval(session, NULL, 1, logits, 1), SL_ERR_ARGUMENT);
        STATUS(sl_session_eval(session, ids, 1, NULL, 1), SL_ERR_ARGUMENT);
        STATUS(sl_session_eval(session, ids, 1, logits, 2), SL_ERR_ARGUMENT);
        STATUS(sl_session_eval(session, ids, 1, logits, SIZE_MAX), SL_ERR_ARGUMENT);
        STATUS(sl_session_eval(session, many, N_CTX + 1 - length, logits, 1), SL_ERR_FULL);
        STATUS(sl_session_eval(session, many, SIZE_MAX, logits, 1), SL_ERR_FULL);
        static const sl_token wrong[] = { -1, N_VOCAB, INT32_MAX, INT32_MIN };
        for (size_t i = 0; i < COUNT(wrong); i++)
            for (size_t at = 0; at < 10; at += 9) {     /* the second batch is checked before the first is computed */
                sl_token some[10] = { 0 };
                some[at] = wrong[i];
                STATUS(sl_session_eval(session, some, 10, logits, 1), SL_ERR_RANGE);
                goes_on(session, length);
            }
        STATUS(sl_session_rewind(session, length + 1), SL_ERR_RANGE);
        STATUS(sl_session_rewind(session, SIZE_MAX), SL_ERR_RANGE);
        STATUS(sl_session_eval(session, NULL, 0, NULL, 0), SL_OK);
        STATUS(sl_generate(session, many, N_CTX + 1 - length, NULL, NULL), SL_ERR_FULL);
        goes_on(session, length);
    }
    sl_session_free(session);
}

/* ---- the same numbers ---- */

static void batches_and_rows(void **state)
{
    (void)state;
    static const uint32_t n_batch[] = { 1, 2, 7, 16, 39, 40, 0, SL_LIMIT_BATCH };
    static const size_t n_rows[] = { 0, 1, 2, 13, 39, 40 }, rewind[] = { 0, 1, 39, 40 };
    float (*logits)[N_VOCAB] = malloc(sizeof expected);
    for (size_t b = 0; b < COUNT(n_batch); b++) {
        sl_session *session = open_session(model, N_CTX, n_batch[b]);
        for (size_t r = 0; r < COUNT(n_rows); r++)
            for (size_t w = 0; w < COUNT(rewind); w++) {
                const size_t start = rewind[w] < sl_session_length(session) ? rewind[w] : sl_session_length(session), n = N_IDS - start;
                const size_t rows = n_rows[r] < n ? n_rows[r] : n;
                STATUS(sl_session_rewind(session, start), SL_OK);
                memset(logits, 0xee, sizeof expected);
                STATUS(sl_session_eval(session, ids + start, n, rows ? logits[0] : NULL, rows), SL_OK);
                assert_memory_equal(logits, expected[N_IDS - rows], rows * sizeof *logits);
                for (size_t i = rows * sizeof *logits; i < sizeof expected; i++)
                    assert_int_equal(((unsigned char *)logits)[i], 0xee);       /* nothing behind them */
                assert_int_equal(sl_session_length(session), N_IDS);
            }
        sl_session_free(session);
    }
    free(logits);
}

static void rewinding(void **state)
{
    (void)state;
    sl_session *session = open_session(model, N_CTX, 0);
    STATUS(sl_session_eval(session, ids, N_IDS, NULL, 0), SL_OK);
    for (size_t length = N_IDS - 1; length < N_IDS; length--) {
        STATUS(sl_session_rewind(session, length), SL_OK);
        goes_on(session, length);
        if (length % 5 == 0) {      /* another text in between leaves no trace */
            STATUS(sl_session_eval(session, ids + 3, 20, NULL, 0), SL_OK);
            STATUS(sl_session_rewind(session, length), SL_OK);
            goes_on(session, length);
        }
    }
    sl_session_free(session);
}

static void full_context(void **state)
{
    (void)state;
    sl_session *session = open_session(model, N_IDS, 16);
    float logits[N_VOCAB];
    assert_int_equal(sl_session_capacity(session), N_IDS);
    STATUS(sl_session_eval(session, ids, N_IDS, logits, 1), SL_OK);
    assert_memory_equal(logits, expected[N_IDS - 1], sizeof logits);
    STATUS(sl_session_eval(session, ids, 1, logits, 1), SL_ERR_FULL);
    assert_int_equal(sl_session_length(session), N_IDS);
    STATUS(sl_session_rewind(session, N_IDS - 1), SL_OK);
    goes_on(session, N_IDS - 1);
    sl_session_free(session);
}

static void statistics(void **state)
{
    (void)state;
    sl_session *session = open_session(model, N_CTX, 16);
    sl_session_stats stats = { .size = sizeof stats };
    assert_null(sl_session_label(session, 0));
    STATUS(sl_session_eval(session, ids, N_IDS, NULL, 0), SL_OK);       /* 16 + 16 + 8 */
    STATUS(sl_session_get_stats(session, &stats), SL_OK);
    assert_int_equal(stats.n_passes, 3);
    assert_int_equal(stats.n_tokens, N_IDS);
    assert_true(stats.busy_ns > 0);
    assert_int_equal(stats.n_threads, 2);
    assert_int_equal(stats.cache_bytes, 2 * 2 * 16 * N_CTX * 2);        /* layers, k and v, heads x elements, positions, bytes */
    size_t n = 0;
    for (const char *label; (label = sl_session_label(session, n)) != NULL; n++) {
        assert_non_null(strchr(label, '/'));
        for (size_t i = 0; i < n; i++)
            assert_string_not_equal(label, sl_session_label(session, i));
    }
    assert_true(n >= 8);
    sl_session_free(session);
}

/* ---- two sessions at once ---- */

typedef struct timeline { sl_model *model; uint64_t seed; int wrong; } timeline;

static void *live(void *arg)
{
    timeline *t = arg;
    sl_session *session = NULL;
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    float logits[N_VOCAB];
    o.n_ctx = N_CTX, o.n_batch = 8;
    if (sl_session_create(&session, t->model, &o) != SL_OK)
        t->wrong = 1;
    for (int round = 0; round < 60 && !t->wrong; round++) {
        const size_t start = random_below(&t->seed, sl_session_length(session) + 1), end = start + 1 + random_below(&t->seed, N_IDS - start ? N_IDS - start : 1);
        if (start == N_IDS)
            continue;
        t->wrong = sl_session_rewind(session, start) != SL_OK || sl_session_eval(session, ids + start, end - start, logits, 1) != SL_OK ||
                   memcmp(logits, expected[end - 1], sizeof logits);
    }
    sl_session_free(session);
    return NULL;
}

static void two_threads(void **state)
{
    (void)state;
    pthread_t threads[3];
    timeline lives[3];
    for (size_t i = 0; i < COUNT(lives); i++) {
        lives[i] = (timeline) { model, i, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, live, &lives[i]), 0);
    }
    for (size_t i = 0; i < COUNT(lives); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(lives[i].wrong, 0);
    }
}

/* ---- cancelling ---- */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

enum { LONG_TEXT = 4096, MOST_MS = 500, BUSY_MS = 300 };       /* promised: 50 ms. The machine may be busy with other tests */

typedef struct runner { sl_session *session; const sl_token *text; sl_status status; uint64_t end_ns; } runner;

static void *run(void *arg)
{
    runner *r = arg;
    r->status = sl_session_eval(r->session, r->text, LONG_TEXT, NULL, 0);
    r->end_ns = now_ns();
    return NULL;
}

static void wait_ms(long ms) { nanosleep(&(struct timespec) { ms / 1000, ms % 1000 * 1000000 }, NULL); }

/* A call that takes seconds, cancelled in its middle; one that waits for its turn, cancelled while it waits. */
static void cancelling(void **state)
{
    (void)state;
    sl_model *big = load(&(tiny_shape) { .n_embd = 1024, .n_head = 8, .n_head_kv = 4, .n_ff = 4096, .n_layer = 3, .n_ctx = LONG_TEXT, .matrices = TINY_MATRIX_Q8_0 }, 2);
    sl_token *text = calloc(LONG_TEXT, sizeof *text);
    float alone[N_VOCAB], after[N_VOCAB];
    sl_session *sessions[2] = { open_session(big, LONG_TEXT, 512), open_session(big, LONG_TEXT, LONG_TEXT) };
    STATUS(sl_session_eval(sessions[0], text, 3, alone, 1), SL_OK);
    STATUS(sl_session_rewind(sessions[0], 0), SL_OK);
    pthread_t threads[2];
    runner r[2] = { { sessions[1], text, SL_OK, 0 }, { sessions[0], text, SL_OK, 0 } };
    assert_int_equal(pthread_create(&threads[0], NULL, run, &r[0]), 0);
    wait_ms(BUSY_MS);
    assert_int_equal(pthread_create(&threads[1], NULL, run, &r[1]), 0);        /* waits: one pass of the other is its whole text */
    wait_ms(BUSY_MS);
    for (int i = 1; i >= 0; i--) {
        const uint64_t asked = now_ns();
        sl_session_cancel(r[i].session);
        pthread_join(threads[i], NULL);
        const double ms = (double)(r[i].end_ns - asked) / 1e6;
        printf("%s: cancelled after %.1f ms\n", i ? "waiting" : "computing", ms);
        STATUS(r[i].status, SL_ERR_CANCELLED);
        assert_true(ms < MOST_MS);
        assert_true(sl_session_length(r[i].session) < LONG_TEXT);
    }
    for (int i = 0; i < 2; i++) {       /* both go on as if nothing had been */
        const size_t length = sl_session_length(sessions[i]);
        assert_int_equal(length % (i ? LONG_TEXT : 512), 0);
        STATUS(sl_session_rewind(sessions[i], 0), SL_OK);
        STATUS(sl_session_eval(sessions[i], text, 3, after, 1), SL_OK);
        assert_memory_equal(after, alone, sizeof alone);
        sl_session_free(sessions[i]);
    }
    free(text);
    sl_model_free(big);
}

/* A request that comes before its call waits for it; it is obeyed once, and rewinding clears it. */
static void cancelled_before(void **state)
{
    (void)state;
    sl_session *session = open_session(model, N_CTX, 0);
    float logits[N_VOCAB];
    STATUS(sl_session_eval(session, ids, 10, NULL, 0), SL_OK);
    sl_session_cancel(session);
    sl_session_cancel(session);
    STATUS(sl_session_eval(session, ids + 10, 5, logits, 1), SL_ERR_CANCELLED);
    goes_on(session, 10);
    sl_session_cancel(session);
    STATUS(sl_generate(session, ids + 10, 1, NULL, NULL), SL_ERR_CANCELLED);
    goes_on(session, 10);
    sl_session_cancel(session);
    STATUS(sl_session_rewind(session, 10), SL_OK);
    goes_on(session, 10);
    sl_session_free(session);
}

/* ---- the host's floating-point state ---- */

static int32_t collect(const char *text, size_t length, sl_token id, void *user)
{
    sl_token **to = user;
    (void)text, (void)length;
    if (id != SL_TOKEN_NONE)
        *(*to)++ = id;
    return 0;
}

/* Every call gives the same bytes under rounding towards zero, with subnormals flushed and exceptions trapping, and leaves that state as it was. */
static void host_state(void **state)
{
    (void)state;
#if defined(__x86_64__)
    static const uint64_t states[] = { 0x1f80, 0x1f80 | 0x8040, 0x1f80 | 0x6000, 0x1f80 | 0x8040 | 0x2000, 0x0000 };     /* flushing; towards zero; flushing, down; all traps on */
#else
    static const uint64_t states[] = { 0, 1u << 24, 3u << 22, 1u << 24 | 2u << 22 };
#endif
    const uint64_t own = sl_fp_get();
    const tiny_shape shape = { .n_vocab = 300, .seed = 7 };
    sl_token first[64] = { 0 }, again[64];
    for (size_t i = 0; i < COUNT(states); i++) {
        float logits[300];
        const double temperature = 1.5, p = 0.9;
        sl_token text[64], *end = again;
        size_t n = 0, length = 0;
        char back[128];
        sl_sampler *sampler = NULL;
        sl_generate_options o = SL_GENERATE_OPTIONS_INIT;
        size_t size;
        unsigned char *file = tiny_file(&shape, &size);
        const sl_source source = source_of(file, size), *const sources[] = { &source };
        sl_model_options mo = SL_MODEL_OPTIONS_INIT;
        sl_model *made = NULL;
        sl_session *session = NULL;
        mo.n_threads = 2;
        sl_fp_set(states[i]);
        /* No floating-point arithmetic of the test between here and the last call. */
        sl_status status = sl_model_load_sources(&made, sources, 1, &mo);
        const uint64_t loaded = sl_fp_get();
        status = status == SL_OK ? sl_session_create(&session, made, NULL) : status;
        status = status == SL_OK ? sl_encode(made, "the ship", 8, SL_ENCODE_ADD_SPECIAL, text, 64, &n) : status;
        status = status == SL_OK ? sl_decode(made, text, n, 0, back, sizeof back, &length) : status;
        status = status == SL_OK ? sl_sampler_create(&sampler, 300, 5, NULL) : status;
        status = status == SL_OK ? sl_sampler_add(sampler, "temp", &temperature, 1) : status;
        status = status == SL_OK ? sl_sampler_add(sampler, "top-p", &p, 1) : status;
        o.sampler = sampler, o.max_tokens = 24, o.on_text = collect, o.user = &end;
        status = status == SL_OK ? sl_generate(session, text, n, &o, NULL) : status;
        status = status == SL_OK ? sl_session_eval(session, text, n, logits, 1) : status;
        const uint64_t after = sl_fp_get();
        sl_session_free(session);
        sl_sampler_free(sampler);
        sl_model_free(made);
        const uint64_t freed = sl_fp_get();
        sl_fp_set(own);
        STATUS(status, SL_OK);
        assert_int_equal(loaded & ~0x3full, states[i] & ~0x3full);      /* sticky flags aside */
        assert_int_equal(after & ~0x3full, states[i] & ~0x3full);
        assert_int_equal(freed & ~0x3full, states[i] & ~0x3full);
        free(file);
        static float expected_logits[300];
        if (!i) {
            memcpy(first, again, sizeof first);
            memcpy(expected_logits, logits, sizeof logits);
        }
        assert_true(end > again);
        assert_memory_equal(first, again, (size_t)((char *)end - (char *)again));
        assert_memory_equal(expected_logits, logits, sizeof logits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused), cmocka_unit_test(failing_calls), cmocka_unit_test(batches_and_rows), cmocka_unit_test(rewinding), cmocka_unit_test(full_context),
        cmocka_unit_test(statistics), cmocka_unit_test(two_threads), cmocka_unit_test(cancelled_before), cmocka_unit_test(host_state), cmocka_unit_test(cancelling),
    };
    return cmocka_run_group_tests(tests, prepare, clean);
}
