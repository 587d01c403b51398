/* SPDX-License-Identifier: MIT */
/* sequences.c - several timelines in one session through the interface: the same bytes as alone, whatever stands beside them, for every cache type and CPU level;
 * shared pages; calls that fail leave all of them as they were. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "eval.h"
#include "random.h"
#include "sanitized.h"
#include "tiny.h"

enum { N_STEPS = WHEN_SANITIZED(60, 400), THOROUGH = WHEN_SANITIZED(0, 1) };
enum { N_VOCAB = 40, N_SEQ = 8, N_CTX = 200 };
static const tiny_shape shape = { .n_embd = 128, .n_head = 4, .n_head_kv = 2, .n_vocab = N_VOCAB, .matrices = TINY_MATRIX_Q8_0 };      /* heads of 32 */
static const char *const caches[] = { "f16", "f32", "bf16", "q8_0" };
static unsigned char *file;
static size_t file_bytes;

static int make_file(void **state)
{
    (void)state;
    return !(file = tiny_file(&shape, &file_bytes));
}

static int drop_file(void **state)
{
    (void)state;
    free(file);
    return 0;
}

static sl_model *load(const char *level, uint32_t n_threads)
{
    sl_model *model = NULL;
    const eval_how how = { .cpu_level = level, .n_threads = n_threads };
    const sl_status status = eval_load(&model, NULL, file, file_bytes, &how);
    if (level && status == SL_ERR_UNSUPPORTED)
        return NULL;            /* a level that this machine lacks */
    STATUS(status, SL_OK);
    return model;
}

static sl_session *open_session(sl_model *model, const char *cache, uint32_t n_seq, uint32_t n_batch, uint32_t n_shared)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = n_batch, .cache_type = cache, .n_seq = n_seq, .n_ctx_shared = n_shared };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, model, &o), SL_OK);
    return session;
}

/* ---- eight together ---- */

typedef struct story { sl_token ids[N_SEQ][N_CTX]; size_t n[N_SEQ]; float rows[N_SEQ][N_CTX][N_VOCAB]; } story;
static story told;

/* Eight texts of different lengths, and what each of them gives alone. */
static void tell_alone(sl_model *model, const char *cache, uint64_t seed)
{
    sl_session *session = open_session(model, cache, 1, 64, 0);
    for (int q = 0; q < N_SEQ; q++) {
        told.n[q] = q == 3 ? N_CTX : 20 + random_below(&seed, 120);
        for (size_t i = 0; i < told.n[q]; i++)
            told.ids[q][i] = (sl_token)random_below(&seed, N_VOCAB);
        STATUS(sl_session_rewind(session, 0), SL_OK);
        STATUS(sl_session_eval(session, told.ids[q], told.n[q], told.rows[q][0], told.n[q]), SL_OK);
    }
    sl_session_free(session);
}

/* All of them in calls of up to `most` tokens that mix them at random; every row that is asked for must be the one that its text gives alone. */
static void tell_together(sl_model *model, const char *cache, uint32_t n_batch, size_t most, uint64_t seed)
{
    enum { MOST = 96 };
    sl_session *session = open_session(model, cache, N_SEQ, n_batch, 0);
    static float rows[MOST][N_VOCAB];
    size_t at[N_SEQ] = { 0 }, left = 0;
    for (int q = 0; q < N_SEQ; q++)
        left += told.n[q];
    while (left) {
        sl_token ids[MOST];
        uint32_t seqs[MOST];
        uint8_t wanted[MOST];
        const float *expected[MOST];
        size_t n = 0, n_wanted = 0;
        const size_t call = 1 + random_below(&seed, most);
        while (n < call && left) {
            const uint32_t q = (uint32_t)random_below(&seed, N_SEQ);
            size_t run = random_below(&seed, 3) ? 1 : 1 + random_below(&seed, 30);
            for (; run && n < call && at[q] < told.n[q]; run--, n++, left--) {
                ids[n] = told.ids[q][at[q]];
                seqs[n] = q;
                wanted[n] = (uint8_t)random_below(&seed, 2);
                if (wanted[n])
                    expected[n_wanted++] = told.rows[q][at[q]];
                at[q]++;
            }
        }
        STATUS(sl_session_eval_batch(session, ids, seqs, wanted, n, rows[0]), SL_OK);
        for (size_t i = 0; i < n_wanted; i++)
            assert_memory_equal(rows[i], expected[i], sizeof rows[i]);
    }
    for (uint32_t q = 0; q < N_SEQ; q++) {
        assert_int_equal(sl_seq_length(session, q), told.n[q]);
        assert_memory_equal(sl_seq_tokens(session, q), told.ids[q], told.n[q] * sizeof(sl_token));
    }
    sl_session_free(session);
}

static void eight_together(void **state)
{
    (void)state;
    for (const char *const *level = eval_levels; *level; level++) {
        sl_model *model = load(*level, 2);
        for (size_t c = 0; model && c < COUNT(caches); c++) {
            tell_alone(model, caches[c], 7);
            tell_together(model, caches[c], 64, 96, 11 + c);
            if (THOROUGH)
                tell_together(model, caches[c], 5, 16, 12 + c);
        }
        sl_model_free(model);
    }
}

/* ---- a random life, with a cache that is too small ---- */

static sl_model *model;
static sl_session *one;         /* a session of one sequence: says what a text gives */

static void says_the_same(sl_session *session, uint32_t seq, const float *row)
{
    float expected[N_VOCAB];
    STATUS(sl_session_rewind(one, 0), SL_OK);
    STATUS(sl_session_eval(one, sl_seq_tokens(session, seq), sl_seq_length(session, seq), expected, 1), SL_OK);
    assert_memory_equal(row, expected, sizeof expected);
}

typedef struct life { sl_token ids[N_SEQ][N_CTX]; size_t n[N_SEQ]; } life;

static void is_as_told(const sl_session *session, const life *l)
{
    for (uint32_t q = 0; q < N_SEQ; q++) {
        assert_int_equal(sl_seq_length(session, q), l->n[q]);
        if (l->n[q])
            assert_memory_equal(sl_seq_tokens(session, q), l->ids[q], l->n[q] * sizeof(sl_token));
    }
}

/* Appends to some sequences; the call must fail for want of room exactly if told so, and then nothing may have changed. Returns 1 if it succeeded. */
static int grow(sl_session *session, life *l, uint64_t *seed)
{
    sl_token ids[240];
    uint32_t seqs[240];
    uint8_t wanted[240] = { 0 };
    float rows[N_SEQ][N_VOCAB];
    size_t n = 0, n_part = 0;
    life after = *l;
    for (uint32_t q = 0; q < N_SEQ; q++) {
        const size_t add = random_below(seed, 2) ? 1 + random_below(seed, random_below(seed, 4) ? 4 : 79) : 0;
        for (size_t i = 0; i < add && n < COUNT(ids) && after.n[q] < N_CTX; i++, n++) {
            seqs[n] = q;
            ids[n] = after.ids[q][after.n[q]++] = (sl_token)random_below(seed, N_VOCAB);
        }
        if (n && seqs[n - 1] == q)
            wanted[n - 1] = 1, n_part++;
    }
    const size_t free_before = sl_session_free_positions(session);
    const sl_status status = sl_session_eval_batch(session, ids, seqs, wanted, n, rows[0]);
    if (status == SL_ERR_FULL) {
        assert_int_equal(sl_session_free_positions(session), free_before);
        is_as_told(session, l);
        return 0;
    }
    STATUS(status, SL_OK);
    *l = after;
    is_as_told(session, l);
    for (size_t i = 0, row = 0; i < n; i++)
        if (wanted[i])
            says_the_same(session, seqs[i], rows[row++]);
    return 1;
}

static void random_life(void **state)
{
    (void)state;
    uint64_t seed = 3;
    size_t n_full = 0, n_copies = 0;
    model = load(NULL, 2);
    one = open_session(model, "f16", 1, 64, 0);
    sl_session *session = open_session(model, "f16", N_SEQ, 40, 700);
    static life l;
    for (int step = 0; step < N_STEPS; step++) {
        const uint32_t q = (uint32_t)random_below(&seed, N_SEQ), other = (uint32_t)random_below(&seed, N_SEQ);
        const size_t length = l.n[q] ? random_below(&seed, l.n[q] + 1) : 0;
        switch (random_below(&seed, 8)) {
        case 0:
            STATUS(sl_seq_rewind(session, q, length), SL_OK);
            l.n[q] = length;
            break;
        case 1: case 2:
            STATUS(sl_seq_copy(session, q, other, length), q == other ? SL_ERR_ARGUMENT : SL_OK);
            if (q != other) {
                memcpy(l.ids[other], l.ids[q], sizeof l.ids[q]);
                l.n[other] = length;
                n_copies++;
            }
            break;
        case 3:
            if (random_below(&seed, 10) == 0) {
                STATUS(sl_seq_keep(session, q), SL_OK);
                for (uint32_t i = 0; i < N_SEQ; i++)
                    l.n[i] = i == q ? l.n[q] : 0;
            }
            break;
        case 4: {
            size_t kept;
            sl_token ids[N_CTX + 1];
            memcpy(ids, l.ids[q], length * sizeof *ids);
            ids[length] = l.n[q] > length ? (l.ids[q][length] + 1) % N_VOCAB : 0;
            STATUS(sl_seq_keep_prefix(session, q, ids, length + 1, &kept), SL_OK);
            assert_int_equal(kept, length);
            l.n[q] = length;
            break;
        }
        default:
            n_full += !grow(session, &l, &seed);
        }
        is_as_told(session, &l);
    }
    assert_true(n_copies > 5 && n_full > 2);
    for (uint32_t q = 0; q < N_SEQ; q++)
        STATUS(sl_seq_rewind(session, q, 0), SL_OK);
    assert_int_equal(sl_session_free_positions(session), (700 + 63) / 64 * 64);     /* no page was lost */
    sl_session_free(session);
    sl_session_free(one);
    sl_model_free(model);
}

/* ---- exactly full ---- */

/* Copies of an open page take one page less than there are holders. */
static void the_last_page(void **state)
{
    (void)state;
    sl_token ids[N_CTX];
    float rows[3][N_VOCAB];
    model = load(NULL, 1);
    one = open_session(model, "q8_0", 1, 64, 0);
    sl_session *session = open_session(model, "q8_0", 3, 64, N_CTX);        /* 4 pages of 64 */
    for (int i = 0; i < N_CTX; i++)
        ids[i] = i % N_VOCAB;
    assert_int_equal(sl_session_free_positions(session), 256);
    STATUS(sl_session_eval(session, ids, 70, NULL, 0), SL_OK);
    STATUS(sl_seq_copy(session, 0, 1, 70), SL_OK);
    STATUS(sl_seq_copy(session, 0, 2, 66), SL_OK);
    assert_int_equal(sl_session_free_positions(session), 128);
    /* All three go on: two copies, and the first holder keeps the page. */
    const uint32_t seqs[] = { 0, 1, 2 };
    const uint8_t wanted[] = { 1, 1, 1 };
    STATUS(sl_session_eval_batch(session, ids, seqs, wanted, 3, rows[0]), SL_OK);
    assert_int_equal(sl_session_free_positions(session), 0);
    for (uint32_t q = 0; q < 3; q++)
        says_the_same(session, q, rows[q]);
    /* Each has its own page to fill, and none may begin another. */
    STATUS(sl_session_eval(session, ids, 58, NULL, 0), SL_ERR_FULL);
    STATUS(sl_session_eval(session, ids, 57, rows[0], 1), SL_OK);
    says_the_same(session, 0, rows[0]);
    STATUS(sl_session_eval_batch(session, ids, (uint32_t[]) { 1, 0 }, wanted, 2, rows[0]), SL_ERR_FULL);
    assert_int_equal(sl_seq_length(session, 0), 128);
    assert_int_equal(sl_seq_length(session, 1), 71);
    STATUS(sl_seq_rewind(session, 2, 0), SL_OK);
    STATUS(sl_session_eval_batch(session, ids, (uint32_t[]) { 1, 0 }, wanted, 2, rows[0]), SL_OK);
    says_the_same(session, 1, rows[0]);
    says_the_same(session, 0, rows[1]);
    sl_session_free(session);
    sl_session_free(one);
    sl_model_free(model);
}

/* ---- shift ---- */

/* The same bits for any size of batches; copies keep what they had; values of every cache type move as they are. What it has to do with a definition: tests/arch/llama.c. */
static void shifted(void **state)
{
    (void)state;
    enum { LENGTH = 190, KEEP = 3, DISCARD = 70 };
    sl_token ids[LENGTH];
    uint64_t seed = 9;
    model = load(NULL, 2);
    for (int i = 0; i < LENGTH; i++)
        ids[i] = (sl_token)random_below(&seed, N_VOCAB);
    for (size_t c = 0; c < COUNT(caches); c++) {
        float rows[3][N_VOCAB], copy[N_VOCAB];
        one = open_session(model, caches[c], 1, 64, 0);
        for (uint32_t i = 0; i < 3; i++) {
            sl_session *session = open_session(model, caches[c], 3, i ? 64 : 7, 9 * 64);
            STATUS(sl_session_eval(session, ids, LENGTH, NULL, 0), SL_OK);
            STATUS(sl_seq_copy(session, 0, 1, LENGTH), SL_OK);
            if (i == 2)                         /* the original moves, or the copy: all pages but one are shared */
                STATUS(sl_seq_copy(session, 0, 2, LENGTH), SL_OK);
            STATUS(sl_seq_shift(session, i, KEEP, DISCARD), SL_OK);
            assert_int_equal(sl_seq_length(session, i), LENGTH - DISCARD);
            assert_memory_equal(sl_seq_tokens(session, i), ids, KEEP * sizeof *ids);
            assert_memory_equal(sl_seq_tokens(session, i) + KEEP, ids + KEEP + DISCARD, (LENGTH - KEEP - DISCARD) * sizeof *ids);
            STATUS(sl_session_eval_batch(session, ids, &i, (uint8_t[]) { 1 }, 1, rows[i]), SL_OK);
            assert_memory_equal(rows[i], rows[0], sizeof rows[i]);
            const uint32_t other = i ? 0 : 1;
            STATUS(sl_session_eval_batch(session, ids, &other, (uint8_t[]) { 1 }, 1, copy), SL_OK);
            says_the_same(session, other, copy);
            for (uint32_t q = 0; q < 3; q++)
                STATUS(sl_seq_rewind(session, q, 0), SL_OK);
            assert_int_equal(sl_session_free_positions(session), 9 * 64);
            sl_session_free(session);
        }
        sl_session_free(one);
    }
    sl_model_free(model);
}

static void shift_refused(void **state)
{
    (void)state;
    sl_token ids[N_CTX] = { 1 };
    float before[N_VOCAB], after[N_VOCAB];
    model = load(NULL, 1);
    one = open_session(model, NULL, 1, 64, 0);
    sl_session *session = open_session(model, NULL, 2, 64, N_CTX);      /* 4 pages */
    STATUS(sl_session_eval(session, ids, N_CTX, before, 1), SL_OK);
    STATUS(sl_seq_copy(session, 0, 1, 150), SL_OK);
    STATUS(sl_seq_shift(NULL, 0, 0, 1), SL_ERR_ARGUMENT);
    STATUS(sl_seq_shift(session, 2, 0, 1), SL_ERR_RANGE);
    STATUS(sl_seq_shift(session, 0, 0, N_CTX + 1), SL_ERR_RANGE);
    STATUS(sl_seq_shift(session, 0, N_CTX + 1, 0), SL_ERR_RANGE);
    STATUS(sl_seq_shift(session, 0, 1, SIZE_MAX), SL_ERR_RANGE);
    STATUS(sl_seq_shift(session, 0, 0, 1), SL_ERR_FULL);                /* it would have to copy what is shared */
    assert_int_equal(sl_seq_length(session, 0), N_CTX);
    STATUS(sl_seq_shift(session, 0, 1, 0), SL_OK);
    STATUS(sl_seq_rewind(session, 0, N_CTX - 1), SL_OK);
    STATUS(sl_session_eval(session, ids + N_CTX - 1, 1, after, 1), SL_OK);
    assert_memory_equal(before, after, sizeof before);
    STATUS(sl_seq_shift(session, 0, 70, N_CTX - 70), SL_OK);            /* nothing moves: it only becomes shorter */
    STATUS(sl_seq_rewind(session, 1, 0), SL_OK);
    STATUS(sl_session_eval(session, ids, 1, after, 1), SL_OK);
    says_the_same(session, 0, after);
    STATUS(sl_seq_shift(session, 0, 0, 71), SL_OK);                     /* everything goes */
    assert_int_equal(sl_session_free_positions(session), 256);
    sl_session_cancel(session);
    STATUS(sl_seq_shift(session, 0, 0, 0), SL_ERR_CANCELLED);
    sl_session_free(session);
    sl_session_free(one);
    sl_model_free(model);
}

/* ---- misuse ---- */

static void refused(void **state)
{
    (void)state;
    model = load(NULL, 1);
    sl_session *session = NULL;
    sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_seq = SL_LIMIT_SEQUENCES + 1 };
    STATUS(sl_session_create(&session, model, &o), SL_ERR_LIMIT);
    o.n_seq = 2, o.n_ctx_shared = N_CTX - 1;
    STATUS(sl_session_create(&session, model, &o), SL_ERR_RANGE);
    session = open_session(model, NULL, 3, 8, 0);
    float rows[4][N_VOCAB];
    const sl_token ids[] = { 1, 2, 3, 4 }, wrong[] = { 1, N_VOCAB, 3, 4 };
    const uint32_t seqs[] = { 0, 2, 2, 1 }, beyond[] = { 0, 1, 3, 0 };
    const uint8_t wanted[] = { 1, 0, 1, 1 };
    size_t kept;
    STATUS(sl_session_eval_batch(NULL, ids, seqs, wanted, 4, rows[0]), SL_ERR_ARGUMENT);
    STATUS(sl_session_eval_batch(session, NULL, seqs, wanted, 4, rows[0]), SL_ERR_ARGUMENT);
    STATUS(sl_session_eval_batch(session, ids, NULL, wanted, 4, rows[0]), SL_ERR_ARGUMENT);
    STATUS(sl_session_eval_batch(session, ids, seqs, wanted, 4, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_session_eval_batch(session, ids, beyond, wanted, 4, rows[0]), SL_ERR_RANGE);
    STATUS(sl_session_eval_batch(session, wrong, seqs, wanted, 4, rows[0]), SL_ERR_RANGE);
    STATUS(sl_session_eval_batch(session, ids, seqs, wanted, SIZE_MAX, rows[0]), SL_ERR_FULL);
    STATUS(sl_seq_rewind(session, 3, 0), SL_ERR_RANGE);
    STATUS(sl_seq_rewind(session, 0, 1), SL_ERR_RANGE);
    STATUS(sl_seq_rewind(NULL, 0, 0), SL_ERR_ARGUMENT);
    STATUS(sl_seq_copy(session, 0, 3, 0), SL_ERR_RANGE);
    STATUS(sl_seq_copy(session, 3, 0, 0), SL_ERR_RANGE);
    STATUS(sl_seq_copy(session, 0, 1, 1), SL_ERR_RANGE);
    STATUS(sl_seq_copy(session, 1, 1, 0), SL_ERR_ARGUMENT);
    STATUS(sl_seq_copy(NULL, 0, 1, 0), SL_ERR_ARGUMENT);
    STATUS(sl_seq_keep(session, 3), SL_ERR_RANGE);
    STATUS(sl_seq_keep(NULL, 0), SL_ERR_ARGUMENT);
    STATUS(sl_seq_keep_prefix(session, 3, ids, 4, &kept), SL_ERR_RANGE);
    STATUS(sl_seq_add_image(session, 0, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_session_sequences(session), 3);
    assert_int_equal(sl_session_sequences(NULL), 0);
    assert_int_equal(sl_session_free_positions(NULL), 0);
    assert_int_equal(sl_seq_length(session, 7), 0);
    assert_int_equal(sl_seq_images(session, 7), 0);
    assert_null(sl_seq_tokens(session, 7));
    for (uint32_t q = 0; q < 3; q++)
        assert_null(sl_seq_tokens(session, q));
    STATUS(sl_session_eval_batch(session, NULL, NULL, NULL, 0, NULL), SL_OK);
    STATUS(sl_session_eval_batch(session, ids, seqs, NULL, 4, NULL), SL_OK);
    assert_int_equal(sl_seq_length(session, 2), 2);
    sl_session_free(session);
    sl_model_free(model);
}

/* Every allocation of opening such a session fails once; a session that is open takes none. */
static void memory_fails(void **state)
{
    (void)state;
    counting c = { 0 };
    const sl_allocator allocator = counting_allocator(&c);
    const sl_source source = source_of(file, file_bytes), *const sources[] = { &source };
    const sl_model_options mo = { .size = sizeof mo, .n_threads = 1, .allocator = &allocator };
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = 16, .n_seq = 4 };
    sl_session *session = NULL;
    STATUS(sl_model_load_sources(&model, sources, 1, &mo), SL_OK);
    const size_t blocks = c.live_blocks, bytes = c.live_bytes;
    sl_status status = SL_ERR_NOMEM;
    for (size_t n = 1; status != SL_OK; n++) {
        c.fail_at = c.calls + n, c.fail_for = 1;
        status = sl_session_create(&session, model, &o);
        c.fail_at = 0;
        if (status == SL_OK)
            break;
        STATUS(status, SL_ERR_NOMEM);
        assert_null(session);
        assert_int_equal(c.live_blocks, blocks);
        assert_int_equal(c.live_bytes, bytes);
    }
    const size_t calls = c.calls;
    const sl_token ids[] = { 1, 2, 3, 4 };
    float rows[4][N_VOCAB];
    for (int i = 0; i < 40; i++) {
        STATUS(sl_session_eval_batch(session, ids, (uint32_t[]) { 0, 1, 2, 1 }, (uint8_t[]) { 1, 1, 1, 1 }, 4, rows[0]), SL_OK);
        STATUS(sl_seq_copy(session, 1, 3, 2 * (size_t)i), SL_OK);
        STATUS(sl_seq_rewind(session, 2, sl_seq_length(session, 2) / 2), SL_OK);
    }
    assert_int_equal(c.calls, calls);
    sl_session_free(session);
    sl_model_free(model);
    counting_check_none(&c);
}

/* Text that goes on from a shared page, with none for a copy: nothing has changed. */
static void no_page_to_go_on(void **state)
{
    (void)state;
    sl_model *m = load(NULL, 1);
    sl_session *session = open_session(m, NULL, 2, 64, N_CTX);
    sl_token ids[N_CTX];
    for (size_t n = N_CTX - 6; n <= N_CTX; n += 6) {        /* both in the last of the pages */
        for (size_t i = 0; i < n; i++)
            ids[i] = (sl_token)(i % N_VOCAB);
        STATUS(sl_seq_rewind(session, 0, 0), SL_OK);
        STATUS(sl_session_eval(session, ids, n, NULL, 0), SL_OK);
        STATUS(sl_seq_copy(session, 0, 1, n), SL_OK);
        STATUS(sl_generate(session, NULL, 0, &(sl_generate_options) { .size = sizeof(sl_generate_options), .max_tokens = 1 }, NULL), SL_ERR_FULL);
        assert_int_equal(sl_session_length(session), n);
        assert_memory_equal(sl_session_tokens(session), ids, n * sizeof *ids);
        STATUS(sl_seq_rewind(session, 1, 0), SL_OK);
        STATUS(sl_generate(session, NULL, 0, &(sl_generate_options) { .size = sizeof(sl_generate_options), .max_tokens = 1 }, NULL), SL_OK);
    }
    sl_session_free(session);
    sl_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(no_page_to_go_on), cmocka_unit_test(eight_together), cmocka_unit_test(random_life), cmocka_unit_test(the_last_page), cmocka_unit_test(shifted), cmocka_unit_test(shift_refused),
                                        cmocka_unit_test(refused), cmocka_unit_test(memory_fails) };
    return cmocka_run_group_tests(tests, make_file, drop_file);
}
