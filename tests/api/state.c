/* SPDX-License-Identifier: MIT */
/* state.c - states through the interface: what is loaded goes on as if it had never stopped, byte for byte; every flipped bit and every missing byte is refused;
 * what does not fit leaves the session as it was; no memory is lost. Files, full disks and power cuts: tests/unit/state_file.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "eval.h"
#include "mllama_build.h"
#include "random.h"
#include "sanitized.h"
#include "tiny.h"

enum { N_CTX = 200, MOST_VOCAB = 280 };

static sl_model *load_model(tiny *t, const sl_allocator *allocator, uint32_t n_threads)
{
    size_t size;
    unsigned char *file = tiny_write(t, &size);
    tiny_free(t);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    const sl_model_options o = { .size = sizeof o, .n_threads = n_threads, .allocator = allocator };
    sl_model *model = NULL;
    STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
    free(file);
    return model;
}

static sl_session *open_session(sl_model *model, const char *cache, uint32_t n_ctx, uint32_t n_seq, uint32_t n_batch)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = n_ctx, .n_batch = n_batch, .cache_type = cache, .n_seq = n_seq };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, model, &o), SL_OK);
    return session;
}

/* ---- a state in memory ---- */

typedef struct tape { unsigned char *bytes; size_t n, at, most, piece, fail_at; } tape;

static int32_t record(const void *data, uint64_t bytes, void *user)
{
    tape *t = user;
    if (t->fail_at && t->n + bytes > t->fail_at)
        return 1;
    if (t->n + bytes > t->most)
        t->bytes = realloc(t->bytes, t->most = 2 * (t->n + bytes));
    memcpy(t->bytes + t->n, data, bytes);
    t->n += bytes;
    return 0;
}

static int64_t play(void *to, uint64_t bytes, void *user)
{
    tape *t = user;
    size_t n = t->n - t->at < bytes ? t->n - t->at : bytes;
    n = t->piece && n > t->piece ? t->piece : n;
    if (t->fail_at && t->at + n > t->fail_at)
        return -1;
    memcpy(to, t->bytes + t->at, n);
    t->at += n;
    return (int64_t)n;
}

static tape write_state(const sl_session *session, uint32_t seq)
{
    tape t = { 0 };
    STATUS(sl_state_write(session, seq, record, &t), SL_OK);
    return t;
}

static sl_status read_state(sl_session *session, uint32_t seq, tape *t)
{
    t->at = 0;
    return sl_state_read(session, seq, play, t, NULL);
}

/* ---- going on ---- */

static void append(sl_session *session, uint32_t seq, size_t n, uint32_t n_vocab, uint64_t *seed)
{
    sl_token ids[N_CTX];
    uint32_t seqs[N_CTX];
    for (size_t i = 0; i < n; i++)
        ids[i] = (sl_token)random_below(seed, n_vocab), seqs[i] = seq;
    STATUS(sl_session_eval_batch(session, ids, seqs, NULL, n, NULL), SL_OK);
}

/* Both sequences say the same, now and for some tokens more. */
static void go_on_alike(sl_session *a, uint32_t q, sl_session *b, uint32_t r, uint32_t n_vocab)
{
    static float rows[2][4][MOST_VOCAB];
    const sl_token ids[] = { 3, 1, 4, 1 };
    const size_t n = sl_seq_length(a, q);
    assert_int_equal(sl_seq_length(b, r), n);
    assert_int_equal(sl_seq_images(a, q), sl_seq_images(b, r));
    if (n)
        assert_memory_equal(sl_seq_tokens(a, q), sl_seq_tokens(b, r), n * sizeof(sl_token));
    STATUS(sl_session_eval_batch(a, ids, (uint32_t[]) { q, q, q, q }, (uint8_t[]) { 1, 1, 1, 1 }, 4, rows[0][0]), SL_OK);
    STATUS(sl_session_eval_batch(b, ids, (uint32_t[]) { r, r, r, r }, (uint8_t[]) { 1, 1, 1, 1 }, 4, rows[1][0]), SL_OK);
    assert_memory_equal(rows[0][0], rows[1][0], 4 * n_vocab * sizeof(float));
}

static void goes_on(void **state)
{
    (void)state;
    static const char *const caches[] = { "f16", "f32", "bf16", "q8_0" };
    enum { N_VOCAB = 40 };
    static const tiny_shape shape = { .n_embd = 128, .n_head = 4, .n_head_kv = 2, .n_vocab = N_VOCAB };        /* heads of 32 */
    sl_model *model = load_model(tiny_create(&shape), NULL, 2), *other = load_model(tiny_create(&shape), NULL, 1);
    for (size_t c = 0; c < COUNT(caches); c++) {
        uint64_t seed = 3;
        sl_session *a = open_session(model, caches[c], N_CTX, 5, 32), *b = open_session(other, caches[c], N_CTX - 20, 7, 7);
        append(a, 1, 150, N_VOCAB, &seed);
        STATUS(sl_seq_copy(a, 1, 2, 140), SL_OK);
        STATUS(sl_seq_copy(a, 1, 4, 64), SL_OK);
        append(a, 2, 10, N_VOCAB, &seed);
        append(b, 1, 9, N_VOCAB, &seed);
        append(b, 6, 9, N_VOCAB, &seed);
        /* One sequence to another number; the others stay. */
        tape one = write_state(a, 2);
        one.piece = 3;
        STATUS(read_state(b, 5, &one), SL_OK);
        assert_int_equal(sl_seq_length(b, 6), 9);
        go_on_alike(a, 2, b, 5, N_VOCAB);
        /* All of them; shared pages stay shared. */
        tape all = write_state(a, SL_SEQ_ALL);
        sl_state_info info = { .size = sizeof info };
        STATUS(sl_state_read(b, SL_SEQ_ALL, play, &all, &info), SL_OK);
        assert_int_equal(info.n_seq, 3);
        assert_int_equal(info.bytes, all.n);
        assert_int_equal(info.generation, 0);
        const size_t pages = sl_session_free_positions(a) - sl_session_free_positions(b);
        assert_int_equal(pages, (5 * 4 - 7 * 3) * 64);      /* of 200 and 180 positions each */
        for (uint32_t q = 0; q < 5; q++)
            go_on_alike(a, q, b, q, N_VOCAB);
        assert_int_equal(sl_seq_length(b, 6), 0);
        /* An empty session. */
        for (uint32_t q = 0; q < 5; q++)
            STATUS(sl_seq_rewind(a, q, 0), SL_OK);
        tape none = write_state(a, SL_SEQ_ALL);
        STATUS(read_state(b, SL_SEQ_ALL, &none), SL_OK);
        assert_int_equal(sl_session_free_positions(b), 7 * 3 * 64);
        free(one.bytes), free(all.bytes), free(none.bytes);
        sl_session_free(a);
        sl_session_free(b);
    }
    sl_model_free(model);
    sl_model_free(other);
}

static void pictures_too(void **state)
{
    (void)state;
    enum { N_VOCAB = 280, IMAGE = N_VOCAB };
    sl_model *model = load_model(mllama_create(NULL), NULL, 1);
    sl_image *images[] = { mllama_picture(8, 8, 1), mllama_picture(16, 16, 2), mllama_picture(16, 8, 3) };
    sl_session *a = open_session(model, NULL, N_CTX, 3, 0), *b = open_session(model, NULL, N_CTX, 3, 0);
    uint64_t seed = 5;
    const sl_token image = IMAGE;
    for (int i = 0; i < 3; i++)
        STATUS(sl_seq_add_image(a, 1, images[i]), SL_OK);
    append(a, 1, 70, N_VOCAB, &seed);
    STATUS(sl_session_eval_batch(a, &image, (uint32_t[]) { 1 }, NULL, 1, NULL), SL_OK);
    append(a, 1, 7, N_VOCAB, &seed);
    STATUS(sl_session_eval_batch(a, &image, (uint32_t[]) { 1 }, NULL, 1, NULL), SL_OK);
    STATUS(sl_seq_copy(a, 1, 2, 75), SL_OK);
    STATUS(sl_seq_add_image(a, 2, images[0]), SL_OK);
    STATUS(sl_seq_add_image(b, 2, images[2]), SL_OK);       /* makes a hole, and is gone afterwards */
    STATUS(sl_seq_add_image(b, 0, images[1]), SL_OK);
    STATUS(sl_seq_rewind(b, 2, 0), SL_OK);
    tape one = write_state(a, 1), all = write_state(a, SL_SEQ_ALL);
    STATUS(read_state(b, 1, &one), SL_OK);
    assert_int_equal(sl_seq_images(b, 0), 1);
    go_on_alike(a, 1, b, 1, N_VOCAB);
    STATUS(sl_seq_rewind(b, 0, 0), SL_OK);
    STATUS(read_state(b, SL_SEQ_ALL, &all), SL_OK);
    STATUS(read_state(a, SL_SEQ_ALL, &all), SL_OK);         /* over itself */
    go_on_alike(a, 1, b, 1, N_VOCAB);
    go_on_alike(a, 2, b, 2, N_VOCAB);
    /* Pictures that wait still do. */
    for (uint32_t q = 1; q < 3; q++) {
        STATUS(sl_session_eval_batch(a, &image, &q, NULL, 1, NULL), SL_OK);
        STATUS(sl_session_eval_batch(b, &image, &q, NULL, 1, NULL), SL_OK);
        go_on_alike(a, q, b, q, N_VOCAB);
        STATUS(sl_session_eval_batch(b, &image, &q, NULL, 1, NULL), SL_ERR_STATE);
    }
    free(one.bytes), free(all.bytes);
    sl_session_free(a);
    sl_session_free(b);
    sl_model_free(model);
    for (int i = 0; i < 3; i++)
        sl_image_free(images[i]);
}

/* ---- what a shift leaves behind ---- */

enum { SHIFTED_KEEP = 20, SHIFTED_LENGTH = 100, N_SHIFTED_VOCAB = 40 };

/* The timeline of a sequence and one token more as a prompt: what is kept of it, and that all of it then says what it says in a session of its own. */
static void reused_up_to(sl_session *session, uint32_t seq, size_t wanted, sl_session *fresh)
{
    static float rows[2][N_SHIFTED_VOCAB];
    sl_token ids[N_CTX];
    uint32_t seqs[N_CTX];
    uint8_t last[N_CTX] = { 0 };
    const size_t n = sl_seq_length(session, seq) + 1;
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++)
        ids[i] = i + 1 < n ? sl_seq_tokens(session, seq)[i] : 7, seqs[i] = seq;
    last[n - 1] = 1;
    STATUS(sl_seq_keep_prefix(session, seq, ids, n, &n_kept), SL_OK);
    assert_int_equal(n_kept, wanted);
    assert_int_equal(sl_seq_length(session, seq), wanted);
    STATUS(sl_session_eval_batch(session, ids + n_kept, seqs, last + n_kept, n - n_kept, rows[0]), SL_OK);
    STATUS(sl_session_rewind(fresh, 0), SL_OK);
    STATUS(sl_session_eval(fresh, ids, n, rows[1], 1), SL_OK);
    assert_memory_equal(rows[0], rows[1], sizeof rows[0]);
    STATUS(sl_seq_keep_prefix(session, seq, ids, n, &n_kept), SL_OK);
    assert_int_equal(n_kept, n - 1);            /* nothing is left of the shift */
}

/* The same through sl_generate(), and through a queue that shares what sequence 0 holds. */
static void generated_up_to(sl_session *session, sl_session *fresh)
{
    sl_token ids[SHIFTED_LENGTH + 1], *said;
    sl_generate_options g = SL_GENERATE_OPTIONS_INIT;
    sl_generate_result r = { .size = sizeof r };
    sl_queue_options qo = { .size = sizeof qo, .first_seq = 3 };
    sl_queue_result qr = SL_QUEUE_RESULT_INIT;
    sl_queue *queue;
    memcpy(ids, sl_session_tokens(session), SHIFTED_LENGTH * sizeof *ids);
    ids[SHIFTED_LENGTH] = 7;
    g.max_tokens = 12, g.reuse = 1;
    STATUS(sl_session_rewind(fresh, 0), SL_OK);
    STATUS(sl_generate(fresh, ids, COUNT(ids), &g, &r), SL_OK);
    said = malloc((SHIFTED_LENGTH + 13) * sizeof *said);
    const size_t n = sl_session_length(fresh);
    memcpy(said, sl_session_tokens(fresh), n * sizeof *said);
    STATUS(sl_queue_create(&queue, session, &qo), SL_OK);
    STATUS(sl_queue_submit(queue, ids, COUNT(ids), &g, NULL, 0, NULL), SL_OK);
    STATUS(sl_queue_run(queue), SL_OK);
    STATUS(sl_queue_take(queue, &qr), SL_OK);
    assert_true(qr.status == SL_OK && qr.n_kept == SHIFTED_KEEP);
    assert_memory_equal(sl_seq_tokens(session, 3), said, sl_seq_length(session, 3) * sizeof *said);
    sl_queue_free(queue);
    STATUS(sl_generate(session, ids, COUNT(ids), &g, &r), SL_OK);
    assert_int_equal(r.n_kept, SHIFTED_KEEP);
    assert_int_equal(sl_session_length(session), n);
    assert_memory_equal(sl_session_tokens(session), said, n * sizeof *said);
    free(said);
}

static void reuse_ends_at_a_shift(void **state)
{
    (void)state;
    sl_model *model = load_model(tiny_create(&(tiny_shape) { .n_vocab = N_SHIFTED_VOCAB }), NULL, 1);
    sl_session *a = open_session(model, NULL, N_CTX, 4, 32), *b = open_session(model, NULL, N_CTX, 4, 32), *fresh = open_session(model, NULL, N_CTX, 1, 64);
    uint64_t seed = 8;
    append(a, 0, SHIFTED_LENGTH + 50, N_SHIFTED_VOCAB, &seed);
    STATUS(sl_seq_copy(a, 0, 3, SHIFTED_LENGTH + 50), SL_OK);
    STATUS(sl_seq_shift(a, 0, SHIFTED_KEEP, 30), SL_OK);
    STATUS(sl_seq_shift(a, 0, SHIFTED_KEEP + 40, 20), SL_OK);       /* again, further behind */
    STATUS(sl_seq_copy(a, 0, 1, SHIFTED_KEEP + 1), SL_OK);
    STATUS(sl_seq_copy(a, 0, 2, SHIFTED_KEEP), SL_OK);              /* what was before it */
    tape one = write_state(a, 0), all = write_state(a, SL_SEQ_ALL);
    STATUS(read_state(b, SL_SEQ_ALL, &all), SL_OK);
    generated_up_to(b, fresh);
    STATUS(read_state(b, SL_SEQ_ALL, &all), SL_OK);
    static const size_t wanted[] = { SHIFTED_KEEP, SHIFTED_KEEP, SHIFTED_KEEP, SHIFTED_LENGTH + 50 };
    for (uint32_t q = 0; q < 4; q++)
        reused_up_to(b, q, wanted[q], fresh);
    STATUS(read_state(b, 3, &one), SL_OK);
    reused_up_to(b, 3, SHIFTED_KEEP, fresh);
    for (uint32_t q = 3; q > 0; q--)
        reused_up_to(a, q, wanted[q], fresh);
    STATUS(sl_seq_rewind(a, 3, 0), SL_OK);
    STATUS(sl_seq_rewind(a, 1, 0), SL_OK);
    generated_up_to(a, fresh);
    free(one.bytes), free(all.bytes);
    sl_session_free(a), sl_session_free(b), sl_session_free(fresh);
    sl_model_free(model);
}

/* ---- damage ---- */

/* A model whose states are small. */
static tiny *small(uint64_t seed) { return tiny_create(&(tiny_shape) { .n_layer = 1, .n_head = 4, .n_head_kv = 1, .seed = seed }); }

static int is_damage(sl_status status) { return status == SL_ERR_MAGIC || status == SL_ERR_TRUNCATED || status == SL_ERR_CHECKSUM || status == SL_ERR_VERSION; }

static void every_bit_counts(void **state)
{
    (void)state;
    const size_t step = WHEN_SANITIZED(7, 1);
    uint64_t seed = 1;
    sl_model *model = load_model(small(0), NULL, 1);
    sl_session *a = open_session(model, NULL, 64, 2, 0), *b = open_session(model, NULL, 64, 2, 0);
    append(a, 0, 20, 24, &seed);
    STATUS(sl_seq_copy(a, 0, 1, 5), SL_OK);
    tape t = write_state(a, SL_SEQ_ALL);
    for (size_t bit = 0; bit < 8 * t.n; bit += step) {
        t.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        const sl_status status = read_state(b, SL_SEQ_ALL, &t);
        if (!is_damage(status) || sl_seq_length(b, 0) || sl_seq_length(b, 1))
            fail_msg("bit %zu of %zu: %s (%s)", bit, 8 * t.n, sl_status_name(status), sl_last_error());
        t.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    const size_t n = t.n;
    for (t.n = 0; t.n < n; t.n++)
        STATUS(read_state(b, SL_SEQ_ALL, &t), SL_ERR_TRUNCATED);
    STATUS(read_state(b, SL_SEQ_ALL, &t), SL_OK);
    go_on_alike(a, 0, b, 0, 24);
    assert_int_equal(sl_session_free_positions(b), sl_session_free_positions(a));
    /* Failures of whoever keeps it. */
    for (t.fail_at = 1; t.fail_at < n; t.fail_at += 97) {
        STATUS(read_state(b, SL_SEQ_ALL, &t), SL_ERR_IO);
        tape w = { .fail_at = t.fail_at };
        STATUS(sl_state_write(a, SL_SEQ_ALL, record, &w), SL_ERR_IO);
        free(w.bytes);
    }
    t.fail_at = 0;
    free(t.bytes);
    sl_session_free(a);
    sl_session_free(b);
    sl_model_free(model);
}

/* ---- what does not fit ---- */

static void does_not_fit(void **state)
{
    (void)state;
    uint64_t seed = 1;
    sl_model *model = load_model(small(0), NULL, 1), *other = load_model(small(9), NULL, 1);
    sl_model_info info = { .size = sizeof info }, info_other = { .size = sizeof info_other };
    STATUS(sl_model_get_info(model, &info), SL_OK);
    STATUS(sl_model_get_info(other, &info_other), SL_OK);
    assert_true(info.identity && info_other.identity && info.identity != info_other.identity);
    sl_session *a = open_session(model, NULL, 192, 3, 0), *b = open_session(model, NULL, 192, 3, 0);
    append(a, 0, 100, 24, &seed);
    append(a, 2, 70, 24, &seed);
    append(b, 1, 150, 24, &seed);
    tape one = write_state(a, 0), all = write_state(a, SL_SEQ_ALL);
    const struct { sl_session *session; uint32_t seq; tape *t; sl_status status; } rows[] = {
        { open_session(other, NULL, 192, 3, 0), 0, &one, SL_ERR_STATE }, { open_session(model, "f32", 192, 3, 0), 0, &one, SL_ERR_TYPE },
        { open_session(model, NULL, 192, 3, 0), SL_SEQ_ALL, &one, SL_ERR_STATE }, { open_session(model, NULL, 192, 3, 0), 1, &all, SL_ERR_STATE },
        { open_session(model, NULL, 99, 3, 0), 1, &one, SL_ERR_FULL }, { open_session(model, NULL, 192, 2, 0), SL_SEQ_ALL, &all, SL_ERR_RANGE },
        { open_session(model, NULL, 192, 1, 0), SL_SEQ_ALL, &all, SL_ERR_RANGE }, { open_session(model, NULL, 192, 3, 0), 3, &one, SL_ERR_RANGE },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_session *s = rows[i].session;
        append(s, 0, 60, 24, &seed);
        const size_t room = sl_session_free_positions(s);
        const sl_status status = read_state(s, rows[i].seq, rows[i].t);
        if (status != rows[i].status)
            fail_msg("row %zu: %s (%s)", i, sl_status_name(status), sl_last_error());
        assert_int_equal(sl_seq_length(s, 0), 60);
        assert_int_equal(sl_session_free_positions(s), room);
        sl_session_free(s);
    }
    /* As many pages as there are, those of the sequence itself included. */
    const sl_session_options o = { .size = sizeof o, .n_ctx = 192, .n_seq = 3, .n_ctx_shared = 192 };
    sl_session *narrow = NULL;
    STATUS(sl_session_create(&narrow, model, &o), SL_OK);
    append(narrow, 1, 65, 24, &seed);
    STATUS(read_state(narrow, 0, &one), SL_ERR_FULL);
    STATUS(read_state(narrow, 1, &one), SL_OK);
    go_on_alike(a, 0, narrow, 1, 24);
    STATUS(read_state(narrow, SL_SEQ_ALL, &all), SL_ERR_FULL);
    sl_session_free(narrow);
    tape none = { 0 };
    STATUS(sl_state_write(NULL, 0, record, &none), SL_ERR_ARGUMENT);
    STATUS(sl_state_write(a, 0, NULL, &none), SL_ERR_ARGUMENT);
    STATUS(sl_state_write(a, 3, record, &none), SL_ERR_RANGE);
    STATUS(sl_state_read(NULL, 0, play, &none, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_state_read(a, 0, NULL, &none, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_state_save(a, 0, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_state_save(a, 3, "/"), SL_ERR_RANGE);
    STATUS(sl_state_load(a, 0, NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_state_load(a, 0, "/nowhere/state", NULL), SL_ERR_IO);
    STATUS(sl_state_save(a, 0, "/nowhere/state"), SL_ERR_IO);
    free(one.bytes), free(all.bytes);
    sl_session_free(a);
    sl_session_free(b);
    sl_model_free(model);
    sl_model_free(other);
}

/* ---- memory ---- */

static void memory_fails(void **state)
{
    (void)state;
    uint64_t seed = 1;
    counting c = { 0 };
    const sl_allocator allocator = counting_allocator(&c);
    sl_model *model = load_model(mllama_create(NULL), &allocator, 1);
    sl_image *image = mllama_picture(8, 8, 1);
    const sl_token image_token = 280;
    sl_session *a = open_session(model, NULL, N_CTX, 2, 16), *b = open_session(model, NULL, N_CTX, 2, 16);
    STATUS(sl_seq_add_image(a, 1, image), SL_OK);
    STATUS(sl_session_eval_batch(a, &image_token, (uint32_t[]) { 1 }, NULL, 1, NULL), SL_OK);
    append(a, 0, 30, 280, &seed);
    tape t = write_state(a, SL_SEQ_ALL);
    for (size_t n = 1;; n++) {
        tape w = { 0 };
        c.fail_at = c.calls + n, c.fail_for = 1;
        const sl_status status = sl_state_write(a, SL_SEQ_ALL, record, &w);
        c.fail_at = 0;
        if (status == SL_OK)
            assert_memory_equal(w.bytes, t.bytes, t.n);
        else
            STATUS(status, SL_ERR_NOMEM);
        free(w.bytes);
        if (status == SL_OK)
            break;
    }
    for (size_t n = 1;; n++) {
        c.fail_at = c.calls + n, c.fail_for = 1;
        const sl_status status = read_state(b, SL_SEQ_ALL, &t);
        c.fail_at = 0;
        if (status == SL_OK)
            break;
        STATUS(status, SL_ERR_NOMEM);
        assert_int_equal(sl_seq_length(b, 0), 0);
        assert_int_equal(sl_seq_images(b, 1), 0);
    }
    for (uint32_t q = 0; q < 2; q++)
        go_on_alike(a, q, b, q, 280);
    free(t.bytes);
    sl_session_free(a);
    sl_session_free(b);
    sl_model_free(model);
    sl_image_free(image);
    counting_check_none(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(goes_on), cmocka_unit_test(pictures_too), cmocka_unit_test(reuse_ends_at_a_shift), cmocka_unit_test(every_bit_counts), cmocka_unit_test(does_not_fit), cmocka_unit_test(memory_fails) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
