/* SPDX-License-Identifier: MIT */
/* Pictures in several sequences of one session: each sees its own, copies share them, and whatever happened before and beside it, its logits are those of a new session
 * that is told the same, bit for bit. */
#include "check.h"
#include "mllama_build.h"
#include "random.h"
#include "sanitized.h"
#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_VOCAB = 280, IMAGE = N_VOCAB, N_CTX = 160, N_SEQ = 4, N_IMAGES = 4, MOST = 40 };

static sl_model *model;
static sl_image *images[N_IMAGES];

static int prepare(void **state)
{
    (void)state;
    size_t size;
    tiny *t = mllama_create(NULL);
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 2;
    STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
    free(file);
    tiny_free(t);
    for (uint32_t i = 0; i < N_IMAGES; i++)
        images[i] = mllama_picture(8 * (1 + i % 2), 8 * (1 + i / 2), i);      /* 1, 2, 2 and 4 tiles */
    return 0;
}

static int finish(void **state)
{
    (void)state;
    for (int i = 0; i < N_IMAGES; i++)
        sl_image_free(images[i]);
    sl_model_free(model);
    return 0;
}

static sl_session *open_session(uint32_t n_seq, uint32_t n_batch)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = n_batch, .n_seq = n_seq };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, model, &o), SL_OK);
    return session;
}

/* A sequence: ids, pictures of its image tokens, and behind them those that wait. */
typedef struct timeline { sl_token ids[N_CTX]; size_t n, n_placed, n_images; unsigned shown[N_CTX]; } timeline;

static void cut(timeline *t, size_t n)
{
    while (t->n > n)
        t->n_placed -= t->ids[--t->n] == IMAGE;
}

static void check_row(const timeline *t, const float *row)
{
    float expected[N_VOCAB];
    sl_session *session = open_session(1, 33);
    for (size_t i = 0; i < t->n_placed; i++)
        STATUS(sl_session_add_image(session, images[t->shown[i]]), SL_OK);
    STATUS(sl_session_eval(session, t->ids, t->n, expected, 1), SL_OK);
    sl_session_free(session);
    assert_memory_equal(row, expected, sizeof expected);
}

/* A call that mixes tokens of all sequences. */
static void mix(sl_session *session, timeline *all, uint64_t *seed, int check)
{
    sl_token ids[MOST];
    uint32_t seqs[MOST];
    uint8_t wanted[MOST] = { 0 };
    float rows[N_SEQ][N_VOCAB];
    size_t n = 0, last[N_SEQ], most = 1 + random_below(seed, MOST);
    for (int q = 0; q < N_SEQ; q++)
        last[q] = MOST;
    for (; n < most; n++) {
        const uint32_t q = (uint32_t)random_below(seed, N_SEQ);
        timeline *t = &all[q];
        if (t->n == N_CTX)
            break;
        const int image = t->n_placed < t->n_images && random_below(seed, 3) == 0;
        t->n_placed += (size_t)image;
        ids[n] = t->ids[t->n++] = image ? IMAGE : (sl_token)random_below(seed, N_VOCAB);
        seqs[n] = q;
        last[q] = n;
    }
    for (int q = 0; q < N_SEQ; q++)
        if (last[q] < n)
            wanted[last[q]] = 1;
    STATUS(sl_session_eval_batch(session, ids, seqs, wanted, n, rows[0]), SL_OK);
    for (size_t i = 0, row = 0; i < n; i++)
        if (wanted[i] && check)
            check_row(&all[seqs[i]], rows[row++]);
}

static void random_life(uint64_t seed, unsigned n_steps)
{
    static timeline all[N_SEQ];
    memset(all, 0, sizeof all);
    sl_session *session = open_session(N_SEQ, 1 + (uint32_t)random_below(&seed, 40));
    for (unsigned step = 0; step < n_steps; step++) {
        const uint32_t q = (uint32_t)random_below(&seed, N_SEQ), other = (q + 1 + (uint32_t)random_below(&seed, N_SEQ - 1)) % N_SEQ;
        timeline *t = &all[q];
        const size_t length = random_below(&seed, t->n + 1), what = random_below(&seed, 12);
        if (what < 3 && t->n_images - t->n_placed < 3) {
            t->shown[t->n_images++] = (unsigned)random_below(&seed, N_IMAGES);
            STATUS(sl_seq_add_image(session, q, images[t->shown[t->n_images - 1]]), SL_OK);
        } else if (what < 8)
            mix(session, all, &seed, step % 6 == 0);
        else if (what < 9) {
            STATUS(sl_seq_rewind(session, q, length), SL_OK);
            cut(t, length);
            t->n_images = t->n_placed;
        } else if (what < 11) {
            STATUS(sl_seq_copy(session, q, other, length), SL_OK);
            all[other] = *t;
            cut(&all[other], length);
            all[other].n_images = all[other].n_placed;
        } else if (random_below(&seed, 4) == 0) {
            STATUS(sl_seq_keep(session, q), SL_OK);
            for (uint32_t i = 0; i < N_SEQ; i++)
                if (i != q)
                    memset(&all[i], 0, sizeof all[i]);
        }
        for (uint32_t i = 0; i < N_SEQ; i++) {
            assert_int_equal(sl_seq_length(session, i), all[i].n);
            assert_int_equal(sl_seq_images(session, i), all[i].n_images);
        }
    }
    for (uint32_t i = 0; i < N_SEQ; i++)
        STATUS(sl_seq_rewind(session, i, 0), SL_OK);
    assert_int_equal(session->pictures.n, 0);       /* none was lost */
    sl_session_free(session);
}

static void any_order(void **state)
{
    (void)state;
    const unsigned n_steps = WHEN_SLOW(60, 200);
    for (uint64_t seed = 1; seed <= 5; seed++)
        random_life(seed, n_steps);
}

/* A picture is encoded once, held once, and gone with the last sequence that holds it. */
static void copies_share(void **state)
{
    (void)state;
    sl_session_stats stats = { .size = sizeof stats };
    sl_session *session = open_session(N_SEQ, 0);
    const sl_token ids[] = { 1, IMAGE, 2, 3 };
    STATUS(sl_seq_add_image(session, 2, images[3]), SL_OK);
    STATUS(sl_session_eval_batch(session, ids, (uint32_t[]) { 2, 2, 2, 2 }, NULL, 4, NULL), SL_OK);
    STATUS(sl_session_get_stats(session, &stats), SL_OK);
    const uint64_t bytes = stats.image_bytes;
    STATUS(sl_seq_copy(session, 2, 0, 4), SL_OK);
    STATUS(sl_seq_copy(session, 2, 1, 1), SL_OK);
    assert_int_equal(sl_seq_images(session, 0), 1);
    assert_int_equal(sl_seq_images(session, 1), 0);
    STATUS(sl_session_eval(session, ids + 1, 1, NULL, 0), SL_ERR_STATE);
    STATUS(sl_seq_rewind(session, 2, 0), SL_OK);
    assert_int_equal(session->pictures.n, 1);
    STATUS(sl_session_get_stats(session, &stats), SL_OK);
    assert_int_equal(stats.n_images, 1);
    assert_int_equal(stats.image_bytes, bytes);
    STATUS(sl_seq_rewind(session, 0, 1), SL_OK);
    assert_int_equal(session->pictures.n, 0);
    sl_session_free(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(any_order), cmocka_unit_test(copies_share) };
    return cmocka_run_group_tests(tests, prepare, finish);
}
