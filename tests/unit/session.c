/* SPDX-License-Identifier: MIT */
/* session.c - a text that goes on without a prompt computes its last token once more: whatever fails then, at whichever product of the pass, the timeline is as it was, and goes on
 * with the same bits. Behind a shift it is one token shorter. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "mllama_build.h"
#include "session.h"
#include "tiny.h"
#include <spacellama/generate.h>

enum { N_VOCAB = 24, N_CTX = 128, IMAGE = N_VOCAB };

/* Ends the pass at the n-th product. */
typedef struct breaker { sl_observer observer; size_t left; } breaker;

static sl_status see(sl_observer *self, const sl_device *device, const sl_weight *weight, const sl_tensor *rows, const sl_tensor *ids)
{
    (void)device, (void)weight, (void)rows, (void)ids;
    breaker *b = (breaker *)(void *)self;
    return b->left-- > 0 ? SL_OK : sl_fail(SL_ERR_CANCELLED, "in the middle");
}

static void gone(sl_observer *self) { (void)self; }

static sl_model *load_model(int pictures)
{
    size_t size;
    tiny *t = pictures ? mllama_create(&(mllama_spec) { .n_layer = 2, .cross = 2, .n_vocab = N_VOCAB }) : tiny_create(&(tiny_shape) { .n_vocab = N_VOCAB });
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    const sl_model_options o = { .size = sizeof o, .n_threads = 1 };
    sl_model *model;
    OK(sl_model_load_sources(&model, sources, 1, &o));
    tiny_free(t);
    free(file);
    return model;
}

/* `length` tokens, of which the last is an image token if there are pictures; another picture waits then. */
static sl_session *tell(sl_model *model, int pictures, size_t length, uint32_t n_pages)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = 32, .n_seq = 3, .n_ctx_shared = 64 * n_pages };
    sl_session *session;
    sl_token ids[N_CTX];
    OK(sl_session_create(&session, model, &o));
    for (size_t i = 0; i < length; i++)
        ids[i] = (sl_token)(i * 7 % N_VOCAB);
    if (pictures) {
        sl_image *image = mllama_picture(8, 8, 1);
        OK(sl_session_add_image(session, image)), OK(sl_session_add_image(session, image));
        sl_image_free(image);
        ids[length - 1] = IMAGE;
    }
    OK(sl_session_eval(session, ids, length, NULL, 0));
    return session;
}

static void last_token_again(void **state)
{
    (void)state;
    /* What is held besides: copies of the sequence, and pages of the cache. */
    static const struct { int pictures; size_t length; uint32_t n_copies, n_pages; sl_status broken; } rows[] = {
        { 0, 10, 0, 2, SL_ERR_CANCELLED }, { 0, 64, 0, 2, SL_ERR_CANCELLED }, { 0, 65, 0, 2, SL_ERR_CANCELLED }, { 0, 65, 2, 6, SL_ERR_CANCELLED }, { 0, 64, 1, 2, SL_ERR_CANCELLED }, { 0, 128, 0, 2, SL_ERR_CANCELLED },
        { 0, 128, 1, 4, SL_ERR_CANCELLED }, { 0, 128, 1, 2, SL_ERR_FULL }, { 0, 65, 1, 2, SL_ERR_FULL }, { 0, 1, 0, 2, SL_ERR_CANCELLED },
        { 1, 10, 0, 2, SL_ERR_CANCELLED }, { 1, 65, 0, 2, SL_ERR_CANCELLED }, { 1, 65, 1, 4, SL_ERR_CANCELLED }, { 1, 65, 1, 2, SL_ERR_FULL }, { 1, 1, 0, 2, SL_ERR_CANCELLED },
    };
    sl_model *models[] = { load_model(0), load_model(1) };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const size_t length = rows[i].length;
        sl_generate_options g = SL_GENERATE_OPTIONS_INIT;
        g.max_tokens = 3;
        sl_session *whole = tell(models[rows[i].pictures], rows[i].pictures, length, rows[i].n_pages), *broken = tell(models[rows[i].pictures], rows[i].pictures, length, rows[i].n_pages);
        for (uint32_t c = 0; c < rows[i].n_copies; c++)
            OK(sl_seq_copy(whole, 0, 1 + c, length)), OK(sl_seq_copy(broken, 0, 1 + c, length));
        breaker b = { { see, gone }, 0 };
        size_t n = 0;
        for (;; n++) {
            const size_t images = sl_session_images(broken), waiting = sl_pictures_waiting(&broken->pictures, 0);
            b.left = n;
            OK(sl_session_observe(broken, &b.observer));
            const sl_status status = sl_session_again(broken, 0, (float[N_VOCAB + 1]) { 0 });
            OK(sl_session_observe(broken, NULL));
            if (status == SL_OK)
                break;
            assert_int_equal(status, rows[i].broken);
            assert_int_equal(sl_session_length(broken), length);
            assert_int_equal(sl_session_images(broken), images);
            assert_int_equal(sl_pictures_waiting(&broken->pictures, 0), waiting);
            if (status == SL_ERR_FULL && n == 3)
                break;
        }
        assert_true(n == 3 || n > 10);
        assert_memory_equal(sl_session_tokens(broken), sl_session_tokens(whole), length * sizeof(sl_token));
        g.max_tokens = 3;
        const sl_status status = sl_generate(broken, NULL, 0, &g, NULL);
        assert_int_equal(sl_generate(whole, NULL, 0, &g, NULL), status);
        assert_int_equal(sl_session_length(broken), sl_session_length(whole));
        assert_memory_equal(sl_session_tokens(broken), sl_session_tokens(whole), sl_session_length(whole) * sizeof(sl_token));
        for (uint32_t q = 0; q < 3; q++)
            OK(sl_seq_rewind(broken, q, 0));
        assert_int_equal(sl_session_free_positions(broken), 64 * rows[i].n_pages);
        sl_session_free(whole), sl_session_free(broken);
    }
    sl_model_free(models[0]), sl_model_free(models[1]);
}

static void behind_a_shift(void **state)
{
    (void)state;
    sl_model *model = load_model(0);
    float logits[N_VOCAB];
    sl_session *session = tell(model, 0, 100, 4);
    OK(sl_seq_shift(session, 0, 5, 30));
    sl_session_cancel(session);
    assert_int_equal(sl_session_again(session, 0, logits), SL_ERR_CANCELLED);       /* before anything is written */
    assert_int_equal(sl_session_length(session), 70);
    OK(sl_session_again(session, 0, logits));
    breaker b = { { see, gone }, 3 };
    OK(sl_session_observe(session, &b.observer));
    assert_int_equal(sl_session_again(session, 0, logits), SL_ERR_CANCELLED);
    assert_int_equal(sl_session_length(session), 69);
    OK(sl_session_observe(session, NULL));
    sl_session_free(session);
    sl_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(last_token_again), cmocka_unit_test(behind_a_shift) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
