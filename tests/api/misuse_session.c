/* SPDX-License-Identifier: MIT */
/* misuse_session.c - the rows of misuse.c for what computes, chooses and remembers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "misuse.h"

static const sl_token ids[] = { 1, 270, 280, 290, 299 };
enum { N_IDS = COUNT(ids) };
static float logits[4 * N_VOCAB];
static size_t n;

/* ---- sessions ---- */

void misuse_sessions(void **state)
{
    (void)state;
    sl_session *session = (sl_session *)&s;
    sl_session_stats stats = { .size = sizeof stats };
    sl_session_options o;
    const uint32_t seqs[] = { 0, 0, 0, 0, 3 };
    const uint8_t wanted[] = { 0, 0, 0, 0, 1 };
    size_t kept;
    FINE(sl_session_options_default(&o, sizeof o));
    REFUSED(sl_session_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_session_options_default(&o, 0), ARGUMENT);
    REFUSED(sl_session_create(NULL, s.model, NULL), ARGUMENT);
    REFUSED(sl_session_create(&session, NULL, NULL), ARGUMENT);
    assert_null(session);
    REFUSED(sl_session_create(&session, s.words, NULL), STATE);
    REFUSED(sl_session_create(&session, s.list, NULL), STATE);
    const struct { sl_session_options o; sl_status status; } wrong[] = {
        { { .n_ctx = UINT32_MAX }, SL_ERR_LIMIT }, { { .n_batch = UINT32_MAX }, SL_ERR_LIMIT }, { { .n_seq = UINT32_MAX }, SL_ERR_LIMIT }, { { .cache_type = "none" }, SL_ERR_UNSUPPORTED },
        { { .cache_type = "q8_0" }, SL_ERR_UNSUPPORTED }, { { .n_ctx = 64, .n_ctx_shared = 63 }, SL_ERR_RANGE }, 
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o = wrong[i].o;
        o.size = sizeof o;
        misuse_check(sl_session_create(&session, s.model, &o), wrong[i].status, "sl_session_create with wrong options", (int)i);
        assert_null(session);
    }
    HARMLESS(sl_session_free(NULL));
    HARMLESS(sl_session_cancel(NULL));
    REFUSED(sl_session_eval(NULL, ids, N_IDS, logits, 1), ARGUMENT);
    REFUSED(sl_session_eval(s.session, NULL, 1, logits, 1), ARGUMENT);
    REFUSED(sl_session_eval(s.session, ids, N_IDS, NULL, 1), ARGUMENT);
    REFUSED(sl_session_eval(s.session, ids, 1, logits, 2), ARGUMENT);
    REFUSED(sl_session_eval(s.session, ids, SIZE_MAX, NULL, 0), FULL);
    REFUSED(sl_session_eval(s.session, ids, SIZE_MAX, logits, SIZE_MAX), FULL);
    REFUSED(sl_session_eval(s.session, &(sl_token) { N_VOCAB }, 1, NULL, 0), RANGE);
    REFUSED(sl_session_eval(s.session, &(sl_token) { -1 }, 1, NULL, 0), RANGE);
    FINE(sl_session_eval(s.session, NULL, 0, NULL, 0));
    REFUSED(sl_session_eval_batch(NULL, ids, seqs, NULL, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, NULL, seqs, NULL, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, ids, NULL, NULL, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, ids, seqs, wanted, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, ids, seqs, NULL, 5, NULL), RANGE);
    REFUSED(sl_session_eval_batch(s.session, ids, seqs, NULL, SIZE_MAX, NULL), FULL);
    FINE(sl_session_eval_batch(s.session, NULL, NULL, NULL, 0, NULL));
    NEUTRAL(sl_session_images(NULL), 0);
    NEUTRAL(sl_session_length(NULL), 0);
    NEUTRAL(sl_session_capacity(NULL), 0);
    NEUTRAL(sl_session_tokens(NULL), NULL);
    NEUTRAL(sl_session_tokens(s.session), NULL);
    NEUTRAL(sl_session_model(NULL), NULL);
    NEUTRAL(sl_session_label(NULL, 0), NULL);
    NEUTRAL(sl_session_label(s.session, SIZE_MAX), NULL);
    REFUSED(sl_session_rewind(NULL, 0), ARGUMENT);
    REFUSED(sl_session_rewind(s.session, 1), RANGE);
    REFUSED(sl_session_rewind(s.session, SIZE_MAX), RANGE);
    REFUSED(sl_session_keep_prefix(NULL, ids, N_IDS, &kept), ARGUMENT);
    REFUSED(sl_session_keep_prefix(s.session, NULL, 1, &kept), ARGUMENT);
    REFUSED(sl_session_keep_prefix(s.session, ids, N_IDS, NULL), ARGUMENT);
    FINE(sl_session_keep_prefix(s.session, NULL, 0, &kept));
    REFUSED(sl_session_get_stats(NULL, &stats), ARGUMENT);
    REFUSED(sl_session_get_stats(s.session, NULL), ARGUMENT);
    misuse_done();
}

void misuse_sequences(void **state)
{
    (void)state;
    size_t kept;
    NEUTRAL(sl_session_sequences(NULL), 0);
    NEUTRAL(sl_session_free_positions(NULL), 0);
    NEUTRAL(sl_seq_length(NULL, 0), 0);
    NEUTRAL(sl_seq_length(s.session, 3), 0);
    NEUTRAL(sl_seq_tokens(NULL, 0), NULL);
    NEUTRAL(sl_seq_tokens(s.session, SL_SEQ_ALL), NULL);
    NEUTRAL(sl_seq_images(NULL, 0), 0);
    NEUTRAL(sl_seq_images(s.session, 3), 0);
    REFUSED(sl_seq_rewind(NULL, 0, 0), ARGUMENT);
    REFUSED(sl_seq_rewind(s.session, 3, 0), RANGE);
    REFUSED(sl_seq_rewind(s.session, 0, 1), RANGE);
    REFUSED(sl_seq_keep_prefix(NULL, 0, ids, 1, &kept), ARGUMENT);
    REFUSED(sl_seq_keep_prefix(s.session, 3, ids, 1, &kept), RANGE);
    REFUSED(sl_seq_keep_prefix(s.session, 0, NULL, 1, &kept), ARGUMENT);
    REFUSED(sl_seq_keep_prefix(s.session, 0, ids, 1, NULL), ARGUMENT);
    REFUSED(sl_seq_copy(NULL, 0, 1, 0), ARGUMENT);
    REFUSED(sl_seq_copy(s.session, 0, 3, 0), RANGE);
    REFUSED(sl_seq_copy(s.session, 3, 0, 0), RANGE);
    REFUSED(sl_seq_copy(s.session, 0, 0, 0), ARGUMENT);
    REFUSED(sl_seq_copy(s.session, 0, 1, 1), RANGE);
    REFUSED(sl_seq_copy(s.session, 0, 1, SIZE_MAX), RANGE);
    REFUSED(sl_seq_keep(NULL, 0), ARGUMENT);
    REFUSED(sl_seq_keep(s.session, 3), RANGE);
    REFUSED(sl_seq_shift(NULL, 0, 0, 0), ARGUMENT);
    REFUSED(sl_seq_shift(s.session, 3, 0, 0), RANGE);
    REFUSED(sl_seq_shift(s.session, 0, 0, 1), RANGE);
    REFUSED(sl_seq_shift(s.session, 0, SIZE_MAX, SIZE_MAX), RANGE);
    misuse_done();
}

void misuse_embeddings(void **state)
{
    (void)state;
    static float out[4 * N_EMBD];
    const size_t lengths[] = { 3, 2 }, none[] = { 0 }, endless[] = { SIZE_MAX }, wrapping[] = { SIZE_MAX, 2 };
    sl_embed_options o;
    FINE(sl_embed_options_default(&o, sizeof o));
    REFUSED(sl_embed_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_embed_options_default(&o, 0), ARGUMENT);
    FINE(sl_session_embed(s.session, ids, lengths, 2, NULL, out, 2));
    REFUSED(sl_session_embed(NULL, ids, lengths, 2, NULL, out, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, NULL, lengths, 2, NULL, out, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, NULL, 2, NULL, out, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, NULL, NULL, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, NULL, out, 1), BUFFER);
    REFUSED(sl_session_embed(s.session, ids, none, 1, NULL, out, 4), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, endless, 1, NULL, out, 4), FULL);
    REFUSED(sl_session_embed(s.session, ids, wrapping, 2, NULL, out, 4), FULL);
    REFUSED(sl_session_embed(s.session, &(sl_token) { -1 }, &(size_t) { 1 }, 1, NULL, out, 4), RANGE);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, &(sl_embed_options) { .size = sizeof o, .pooling = "none at all" }, out, 4), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, &(sl_embed_options) { .size = sizeof o, .flags = 2 }, out, 4), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, &(sl_embed_options) { .size = sizeof o, .reserved = 1 }, out, 4), ARGUMENT);
    misuse_done();
}

/* ---- samplers ---- */

static int32_t refuse(float *row, uint32_t n_vocab, void *user) { return (void)row, (void)n_vocab, (void)user, 1; }

void misuse_samplers(void **state)
{
    (void)state;
    sl_sampler *sampler = (sl_sampler *)&s;
    sl_allocator odd = s.allocator;
    sl_token id, out[N_VOCAB];
    float probs[N_VOCAB];
    const double nan_value = NAN, many[64] = { 0 };
    odd.alloc = NULL;
    REFUSED(sl_sampler_create(NULL, N_VOCAB, 1, NULL), ARGUMENT);
    REFUSED(sl_sampler_create(&sampler, 0, 1, NULL), ARGUMENT);
    assert_null(sampler);
    REFUSED(sl_sampler_create(&sampler, UINT32_MAX, 1, NULL), LIMIT);
    REFUSED(sl_sampler_create(&sampler, N_VOCAB, 1, &odd), ARGUMENT);
    HARMLESS(sl_sampler_free(NULL));
    REFUSED(sl_sampler_add(NULL, "temp", NULL, 0), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, NULL, NULL, 0), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "temp", NULL, 1), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "none", NULL, 0), UNSUPPORTED);
    REFUSED(sl_sampler_add(s.sampler, "", NULL, 0), UNSUPPORTED);
    REFUSED(sl_sampler_add(s.sampler, "temp", &nan_value, 1), RANGE);
    for (size_t i = 0; sl_sampler_name(i); i++)
        if (strcmp(sl_sampler_name(i), "logit-bias"))
            REFUSED(sl_sampler_add(s.sampler, sl_sampler_name(i), many, COUNT(many)), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "logit-bias", many, 3), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "logit-bias", (const double[]) { N_VOCAB, 1 }, 2), RANGE);
    REFUSED(sl_sampler_add(s.sampler, "logit-bias", many, SIZE_MAX - 1), LIMIT);
    REFUSED(sl_sampler_add_callback(NULL, refuse, NULL), ARGUMENT);
    REFUSED(sl_sampler_add_callback(s.sampler, NULL, NULL), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(NULL, s.model, "a", 1), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(s.sampler, NULL, "a", 1), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(s.sampler, s.model, NULL, 1), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(s.sampler, s.model, "a", 0), ARGUMENT);
    FINE(sl_sampler_add_breaker(s.other, s.model, "a", 1));
    REFUSED(sl_sampler_add_breaker(s.sampler, s.list, "a", 1), STATE);
    REFUSED(sl_sampler_add_breaker(s.sampler, s.model, "no token is so long", 19), MISSING);
    REFUSED(sl_sampler_accept(NULL, ids, 1), ARGUMENT);
    REFUSED(sl_sampler_accept(s.sampler, NULL, 1), ARGUMENT);
    REFUSED(sl_sampler_accept(s.sampler, &(sl_token) { -1 }, 1), RANGE);
    FINE(sl_sampler_accept(s.sampler, NULL, 0));
    NEUTRAL(sl_sampler_name(SIZE_MAX), NULL);
    REFUSED(sl_sampler_sample(NULL, s.expected, &id), ARGUMENT);
    REFUSED(sl_sampler_sample(s.sampler, NULL, &id), ARGUMENT);
    REFUSED(sl_sampler_sample(s.sampler, s.expected, NULL), ARGUMENT);
    REFUSED(sl_sampler_candidates(NULL, s.expected, out, probs, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, NULL, out, probs, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, NULL, probs, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, out, NULL, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, out, probs, N_VOCAB, NULL), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, NULL, NULL, 0, &n), BUFFER);
    REFUSED(sl_sampler_reset(NULL, 1), ARGUMENT);
    misuse_done();
}

void misuse_rows_of_logits(void **state)
{
    (void)state;
    sl_token id, out[N_VOCAB];
    float row[N_VOCAB], probs[N_VOCAB];
    REFUSED(sl_logits_top(NULL, N_VOCAB, out, probs, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, 0, out, probs, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, NULL, probs, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, out, NULL, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, out, probs, N_VOCAB + 1), RANGE);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, out, probs, SIZE_MAX), RANGE);
    REFUSED(sl_logits_log_probs(NULL, N_VOCAB, ids, 1, probs), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, 0, ids, 1, probs), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, N_VOCAB, NULL, 1, probs), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, N_VOCAB, ids, 1, NULL), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, N_VOCAB, &(sl_token) { N_VOCAB }, 1, probs), RANGE);
    const float bad[] = { NAN, INFINITY };
    for (size_t i = 0; i < COUNT(bad); i++) {
        memcpy(row, s.expected, sizeof row);
        row[7] = bad[i];
        REFUSED(sl_sampler_sample(s.sampler, row, &id), NONFINITE);
        REFUSED(sl_sampler_candidates(s.sampler, row, out, probs, N_VOCAB, &n), NONFINITE);
        REFUSED(sl_logits_top(row, N_VOCAB, out, probs, 3), NONFINITE);
        REFUSED(sl_logits_log_probs(row, N_VOCAB, ids, 1, probs), NONFINITE);
    }
    for (size_t i = 0; i < N_VOCAB; i++)
        row[i] = -INFINITY;
    REFUSED(sl_sampler_sample(s.sampler, row, &id), STATE);
    REFUSED(sl_logits_top(row, N_VOCAB, out, probs, 3), STATE);
    FINE(sl_sampler_sample(s.sampler, s.expected, &id));
    misuse_done();
}

/* ---- generating ---- */

void misuse_generating(void **state)
{
    (void)state;
    sl_generate_options o;
    const char *const stops[] = { "a", "", NULL, "\xff" };
    FINE(sl_generate_options_default(&o, sizeof o));
    REFUSED(sl_generate_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_generate_options_default(&o, 0), ARGUMENT);
    REFUSED(sl_generate(NULL, ids, N_IDS, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, NULL, 1, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, NULL, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, ids, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, ids, SIZE_MAX, NULL, NULL), FULL);
    REFUSED(sl_generate(s.session, &(sl_token) { 1 }, SIZE_MAX, NULL, NULL), FULL);
    REFUSED(sl_generate(s.session, &(sl_token) { N_VOCAB }, 1, NULL, NULL), RANGE);
    REFUSED(sl_generate(s.session, &(sl_token) { -1 }, 1, NULL, NULL), RANGE);
    const struct { sl_generate_options o; sl_status status; } wrong[] = {
        { { .sampler = s.other }, SL_ERR_ARGUMENT }, { { .decode_flags = 8 }, SL_ERR_ARGUMENT }, { { .n_stop = 1 }, SL_ERR_ARGUMENT }, { { .stop = stops, .n_stop = 2 }, SL_ERR_ARGUMENT },
        { { .stop = stops, .n_stop = SIZE_MAX }, SL_ERR_ARGUMENT }, { { .stop = stops + 2, .n_stop = 1 }, SL_ERR_ARGUMENT }, { { .stop = stops + 3, .n_stop = 1 }, SL_ERR_UTF8 },
        { { .lookup = 65 }, SL_ERR_LIMIT }, { { .reuse = 2 }, SL_ERR_ARGUMENT },
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o = wrong[i].o;
        o.size = sizeof o;
        misuse_check(sl_generate(s.session, ids, N_IDS, &o, NULL), wrong[i].status, "sl_generate with wrong options", (int)i);
        assert_int_equal(sl_session_length(s.session), 0);
    }
    misuse_done();
}

/* ---- requests ---- */

void misuse_queues(void **state)
{
    (void)state;
    sl_queue *queue = (sl_queue *)&s, *second = (sl_queue *)&s;
    sl_queue_options o;
    sl_queue_result result = SL_QUEUE_RESULT_INIT;
    uint64_t id;
    FINE(sl_queue_options_default(&o, sizeof o));
    REFUSED(sl_queue_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_queue_options_default(&o, 0), ARGUMENT);
    REFUSED(sl_queue_create(NULL, s.session, NULL), ARGUMENT);
    REFUSED(sl_queue_create(&queue, NULL, NULL), ARGUMENT);
    assert_null(queue);
    o.first_seq = 3;
    REFUSED(sl_queue_create(&queue, s.session, &o), RANGE);
    o.first_seq = 1, o.n_seq = UINT32_MAX;
    REFUSED(sl_queue_create(&queue, s.session, &o), RANGE);
    FINE(sl_queue_create(&queue, s.session, NULL));
    REFUSED(sl_queue_create(&second, s.session, NULL), STATE);
    assert_null(second);
    REFUSED(sl_session_eval(s.session, ids, 1, NULL, 0), STATE);
    REFUSED(sl_seq_shift(s.session, 0, 0, 0), STATE);
    REFUSED(sl_queue_submit(NULL, ids, 1, NULL, NULL, 0, &id), ARGUMENT);
    REFUSED(sl_queue_submit(queue, NULL, 1, NULL, NULL, 0, &id), ARGUMENT);
    REFUSED(sl_queue_submit(queue, ids, 0, NULL, NULL, 0, &id), ARGUMENT);
    REFUSED(sl_queue_submit(queue, ids, SIZE_MAX, NULL, NULL, 0, &id), FULL);
    REFUSED(sl_queue_submit(queue, &(sl_token) { N_VOCAB }, 1, NULL, NULL, 0, &id), RANGE);
    REFUSED(sl_queue_submit(queue, ids, 1, NULL, NULL, 1, &id), ARGUMENT);
    REFUSED(sl_queue_submit(queue, ids, 1, &(sl_generate_options) { .size = sizeof(sl_generate_options), .lookup = 1 }, NULL, 0, &id), UNSUPPORTED);
    REFUSED(sl_queue_submit(queue, ids, 1, &(sl_generate_options) { .size = 3 }, NULL, 0, &id), ARGUMENT);
    REFUSED(sl_queue_cancel(NULL, 1), ARGUMENT);
    REFUSED(sl_queue_cancel(queue, 0), MISSING);
    REFUSED(sl_queue_cancel(queue, UINT64_MAX), MISSING);
    REFUSED(sl_queue_step(NULL), ARGUMENT);
    FINE(sl_queue_step(queue));
    REFUSED(sl_queue_run(NULL), ARGUMENT);
    FINE(sl_queue_run(queue));
    NEUTRAL(sl_queue_length(NULL), 0);
    NEUTRAL(sl_queue_length(queue), 0);
    REFUSED(sl_queue_take(NULL, &result), ARGUMENT);
    REFUSED(sl_queue_take(queue, NULL), ARGUMENT);
    REFUSED(sl_queue_take(queue, &(sl_queue_result) { .size = 0 }), ARGUMENT);
    FINE(sl_queue_take(queue, &result));
    assert_int_equal(result.id, 0);
    sl_queue_free(queue);
    HARMLESS(sl_queue_free(NULL));
    misuse_done();
}

/* ---- states ---- */

static int32_t put(const void *data, uint64_t bytes, void *user) { return (void)data, (void)bytes, (void)user, 0; }
static int64_t get_nothing(void *to, uint64_t bytes, void *user) { return (void)to, (void)bytes, (void)user, 0; }
static int64_t get_too_much(void *to, uint64_t bytes, void *user) { return (void)to, (void)user, (int64_t)bytes + 1; }
static int64_t get_zeros(void *to, uint64_t bytes, void *user) { return memset(to, 0, bytes), (void)user, (int64_t)bytes; }

void misuse_states(void **state)
{
    (void)state;
    REFUSED(sl_state_save(NULL, 0, s.nowhere), ARGUMENT);
    REFUSED(sl_state_save(s.session, 0, NULL), ARGUMENT);
    REFUSED(sl_state_save(s.session, 3, s.nowhere), RANGE);
    REFUSED(sl_state_save(s.session, 0, s.nowhere), IO);
    REFUSED(sl_state_save(s.session, 0, ""), IO);
    REFUSED(sl_state_save(s.session, 0, "/"), IO);
    REFUSED(sl_state_load(NULL, 0, s.path, NULL), ARGUMENT);
    REFUSED(sl_state_load(s.session, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_load(s.session, 3, s.path, NULL), RANGE);
    REFUSED(sl_state_load(s.session, 0, s.path, NULL), MAGIC);
    REFUSED(sl_state_load(s.session, 0, s.nowhere, NULL), IO);
    REFUSED(sl_state_load(s.session, 0, "", NULL), IO);
    REFUSED(sl_state_write(NULL, 0, put, NULL), ARGUMENT);
    REFUSED(sl_state_write(s.session, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_write(s.session, 3, put, NULL), RANGE);
    REFUSED(sl_state_read(NULL, 0, get_nothing, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_read(s.session, 0, NULL, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_read(s.session, 3, get_nothing, NULL, NULL), RANGE);
    REFUSED(sl_state_read(s.session, 0, get_nothing, NULL, NULL), TRUNCATED);
    REFUSED(sl_state_read(s.session, 0, get_too_much, NULL, NULL), STATE);
    REFUSED(sl_state_read(s.session, 0, get_zeros, NULL, NULL), MAGIC);
    misuse_done();
}

/* ---- importance ---- */

static int32_t put_bytes(const void *data, uint64_t bytes, void *user) { return (void)data, (void)bytes, (void)user, 0; }

void misuse_importance(void **state)
{
    (void)state;
    sl_importance *made = (sl_importance *)&s, *second = made;
    REFUSED(sl_importance_create(NULL, s.session, NULL), ARGUMENT);
    REFUSED(sl_importance_create(&made, NULL, NULL), ARGUMENT);
    assert_null(made);
    FINE(sl_importance_create(&made, s.session, NULL));
    REFUSED(sl_importance_create(&second, s.session, NULL), STATE);
    REFUSED(sl_importance_save(NULL, s.nowhere), ARGUMENT);
    REFUSED(sl_importance_save(made, NULL), ARGUMENT);
    REFUSED(sl_importance_save(made, s.nowhere), IO);
    REFUSED(sl_importance_write(NULL, put_bytes, NULL), ARGUMENT);
    REFUSED(sl_importance_write(made, NULL, NULL), ARGUMENT);
    REFUSED(sl_importance_write(made, put_bytes, NULL), STATE);
    HARMLESS(sl_importance_free(NULL));
    sl_importance_free(made);
    misuse_done();
}
