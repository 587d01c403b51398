/* SPDX-License-Identifier: MIT */
/* queue_faults.c - what goes wrong with one request, or with what a program asks of a queue, is nobody else's affair. And pictures, which are a request's own. */
#include "requests.h"
#include "counting.h"
#include "mllama_build.h"
#include "tiny.h"

#include <math.h>

typedef struct meddler { sl_queue *queue; sl_session *session; size_t n_calls; int frees; } meddler;

/* A callback that tries everything. */
static int32_t meddle(const char *text, size_t length, sl_token id, void *user)
{
    meddler *m = user;
    const sl_token ids[] = { 5, 6 };
    const uint32_t seqs[] = { 0, 1 };
    sl_queue_result r = SL_QUEUE_RESULT_INIT;
    size_t kept;
    sl_queue *other = NULL;
    (void)text, (void)length, (void)id;
    m->n_calls++;
    STATUS(sl_queue_submit(m->queue, ids, 2, NULL, NULL, 0, NULL), SL_ERR_STATE);
    STATUS(sl_queue_cancel(m->queue, 1), SL_ERR_STATE);
    STATUS(sl_queue_step(m->queue), SL_ERR_STATE);
    STATUS(sl_queue_run(m->queue), SL_ERR_STATE);
    STATUS(sl_queue_take(m->queue, &r), SL_ERR_STATE);
    STATUS(sl_queue_create(&other, m->session, NULL), SL_ERR_STATE);
    STATUS(sl_session_eval(m->session, ids, 2, NULL, 0), SL_ERR_STATE);
    STATUS(sl_session_eval_batch(m->session, ids, seqs, NULL, 2, NULL), SL_ERR_STATE);
    STATUS(sl_generate(m->session, ids, 2, NULL, NULL), SL_ERR_STATE);
    STATUS(sl_generate(m->session, NULL, 0, NULL, NULL), sl_session_length(m->session) ? SL_ERR_STATE : SL_ERR_ARGUMENT);
    STATUS(sl_session_rewind(m->session, 0), SL_ERR_STATE);
    STATUS(sl_seq_keep_prefix(m->session, 1, ids, 2, &kept), SL_ERR_STATE);
    STATUS(sl_seq_copy(m->session, 0, 1, 0), SL_ERR_STATE);
    STATUS(sl_seq_keep(m->session, 0), SL_ERR_STATE);
    STATUS(sl_state_load(m->session, SL_SEQ_ALL, "/nowhere", NULL), SL_ERR_STATE);
    STATUS(sl_state_load(m->session, 1, "/nowhere", NULL), SL_ERR_STATE);
    if (m->frees) {
        sl_session_free(m->session);
        sl_queue_free(m->queue);
    }
    return 0;
}

static void callbacks_break_nothing(void **state)
{
    (void)state;
    const sl_token ids[] = { 5, 300, 400, 7 };
    for (int frees = 0; frees < 2; frees++) {
        meddler m = { .session = open_session(model, 2, 16, 0), .frees = frees };
        const sl_generate_options o = { .size = sizeof o, .max_tokens = 4, .on_text = meddle, .user = &m };
        m.queue = open_queue(m.session, 0, 0);
        for (int i = 0; i < 3; i++)
            STATUS(sl_queue_submit(m.queue, ids, 4, &o, NULL, 0, NULL), SL_OK);
        STATUS(sl_queue_run(m.queue), frees ? SL_ERR_STATE : SL_OK);
        assert_true(m.n_calls >= (frees ? 1 : 12));
        if (!frees) {
            sl_session_free(m.session);         /* before its queue */
            sl_queue_free(m.queue);
        }
    }
}

/* ---- one that fails ---- */

static int32_t refuse(float *logits, uint32_t n, void *user)
{
    size_t *left = user;
    (void)logits, (void)n;
    return !(*left)--;
}

/* A token that is too large for the arithmetic, and a sampler that fails: neither is the others' affair. */
static void a_fault_is_its_own(void **state)
{
    (void)state;
    enum { V = 300, BAD = 290 };
    size_t size, left = 3;
    tiny *t = tiny_create(&(tiny_shape) { .n_vocab = V });
    const float none = 0, one = 1, huge = 1e6f;         /* a direction that only this token has makes a key that a half cannot hold */
    for (size_t i = 0; i < V; i++)
        memcpy(tiny_find(t, "token_embd.weight")->data + i * 32 * 4, i == BAD ? &one : &none, 4);
    for (size_t i = 0; i < 16; i++)
        memcpy(tiny_find(t, "blk.0.attn_k.weight")->data + i * 32 * 4, &huge, 4);
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    sl_model *small = NULL;
    STATUS(sl_model_load_sources(&small, sources, 1, NULL), SL_OK);
    sl_session *session = open_session(small, 4, 64, 0), *alone = open_session(small, 1, 0, 0);
    sl_queue *queue = open_queue(session, 0, 0);
    sl_queue_result r = SL_QUEUE_RESULT_INIT;
    sl_sampler *sampler;
    static shown expected, got[4];
    const sl_token good[] = { 5, 6, 270 }, bad[] = { 5, BAD, 6 };
    STATUS(sl_sampler_create(&sampler, V, 1, NULL), SL_OK);
    const double t0 = 0;
    STATUS(sl_sampler_add_callback(sampler, refuse, &left), SL_OK);
    STATUS(sl_sampler_add(sampler, "temp", &t0, 1), SL_OK);
    sl_generate_options o = { .size = sizeof o, .max_tokens = 20, .on_text = on_text, .user = &expected };
    STATUS(sl_generate(alone, bad, 3, &o, NULL), SL_ERR_NONFINITE);
    STATUS(sl_session_rewind(alone, 0), SL_OK);
    STATUS(sl_generate(alone, good, 3, &o, NULL), SL_OK);
    for (int i = 0; i < 4; i++) {
        o.user = &got[i];
        o.sampler = i == 2 ? sampler : NULL;
        STATUS(sl_queue_submit(queue, i == 1 ? bad : good, 3, &o, NULL, 0, NULL), SL_OK);
    }
    STATUS(sl_queue_run(queue), SL_OK);
    for (int i = 0; i < 4; i++) {
        STATUS(sl_queue_take(queue, &r), SL_OK);
        STATUS(r.status, r.id == 2 ? SL_ERR_NONFINITE : r.id == 3 ? SL_ERR_CANCELLED : SL_OK);
        assert_int_equal(r.n_tokens, r.id == 2 ? 0 : r.id == 3 ? 3 : 20);
        assert_memory_equal(got[r.id - 1].ids, expected.ids, r.n_tokens * sizeof *expected.ids);
    }
    sl_queue_free(queue);
    sl_session_free(session);
    sl_session_free(alone);
    sl_sampler_free(sampler);
    sl_model_free(small);
    tiny_free(t);
    free(file);
}

/* ---- pictures ---- */

/* Greedy, but a text never ends by itself. */
static sl_sampler *endless(const sl_model *of, uint32_t n)
{
    double bias[2 * 64];
    size_t k = 0;
    const double zero = 0;
    sl_sampler *sampler = NULL;
    for (uint32_t i = 0; i < n; i++)
        if (sl_token_is_end(of, (sl_token)i) && k + 2 <= COUNT(bias))
            bias[k++] = i, bias[k++] = -HUGE_VAL;
    STATUS(sl_sampler_create(&sampler, n, 0, NULL), SL_OK);
    STATUS(sl_sampler_add(sampler, "logit-bias", bias, k), SL_OK);
    STATUS(sl_sampler_add(sampler, "temp", &zero, 1), SL_OK);
    return sampler;
}

static void pictures_too(void **state)
{
    (void)state;
    enum { V = 280, N = 6, MOST = 110 };
    size_t size;
    tiny *t = mllama_create(NULL);
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    sl_model *seeing = NULL;
    STATUS(sl_model_load_sources(&seeing, sources, 1, NULL), SL_OK);
    sl_image *images[3];
    for (uint32_t i = 0; i < 3; i++)
        images[i] = mllama_picture(8 * (1 + i % 2), 8 * (1 + i / 2), i);
    sl_sampler *samplers[N];
    sl_token ids[N][70];
    size_t n_ids[N], n_images[N];
    static shown expected[N], got[N];
    memset(expected, 0, sizeof expected);
    for (size_t i = 0; i < N; i++) {
        const size_t at[2] = { 2, 5 };
        n_ids[i] = i % 2 ? 70 : 20 + i;
        n_images[i] = i % 3;
        mllama_ids(ids[i], n_ids[i], V, at, n_images[i], i);
        sl_session *alone = open_session(seeing, 1, 0, 0);
        samplers[i] = endless(seeing, V);
        const sl_generate_options o = { .size = sizeof o, .max_tokens = MOST, .on_text = on_text, .user = &expected[i], .sampler = samplers[i] };
        for (size_t k = 0; k < n_images[i]; k++)
            STATUS(sl_session_add_image(alone, images[(i + k) % 3]), SL_OK);
        STATUS(sl_generate(alone, ids[i], n_ids[i], &o, NULL), SL_OK);
        STATUS(sl_seq_shift(alone, 0, 1, 1), n_images[i] ? SL_ERR_UNSUPPORTED : SL_OK);
        sl_session_free(alone);
    }
    for (uint32_t shared = 0; shared < 2; shared++) {
        uint32_t n_restarts = 0;
        sl_session *session = open_session(seeing, 4, 24, shared ? 5 * PAGE : 0);
        sl_queue *queue = open_queue(session, 0, 0);
        sl_queue_result r = SL_QUEUE_RESULT_INIT;
        uint64_t id;
        memset(got, 0, sizeof got);
        for (size_t i = 0; i < N; i++) {
            const sl_image *own[2] = { images[i % 3], images[(i + 1) % 3] };
            const sl_generate_options o = { .size = sizeof o, .max_tokens = MOST, .on_text = on_text, .user = &got[i], .reuse = 1, .sampler = samplers[i] };
            STATUS(sl_queue_submit(queue, ids[i], n_ids[i], &o, own, n_images[i], NULL), SL_OK);
        }
        /* One picture too few. */
        STATUS(sl_queue_submit(queue, ids[2], n_ids[2], NULL, (const sl_image *const *)images, 1, &id), SL_OK);
        STATUS(sl_queue_run(queue), SL_OK);
        for (size_t i = 0; i < N + 1; i++) {
            STATUS(sl_queue_take(queue, &r), SL_OK);
            STATUS(r.status, r.id == id ? SL_ERR_STATE : SL_OK);
            n_restarts += r.n_restarts;
        }
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(got[i].n, expected[i].n);
            assert_memory_equal(got[i].ids, expected[i].ids, expected[i].n * sizeof *expected[i].ids);
        }
        printf("%u restarts with pictures\n", n_restarts);
        assert_int_equal(n_restarts > 0, shared);
        for (uint32_t q = 0; q < 4; q++)
            assert_int_equal(sl_seq_images(session, q), 0);
        sl_queue_free(queue);
        sl_session_free(session);
    }
    for (int i = 0; i < N; i++)
        sl_sampler_free(samplers[i]);
    for (int i = 0; i < 3; i++)
        sl_image_free(images[i]);
    sl_model_free(seeing);
    tiny_free(t);
    free(file);
}

/* ---- misuse ---- */

static void refused(void **state)
{
    (void)state;
    static const char *const nothing[] = { "" };
    sl_session *session = open_session(model, 3, 8, 0);
    sl_queue *queue = NULL;
    sl_queue_options qo = { .size = sizeof qo, .first_seq = 3 };
    STATUS(sl_queue_create(&queue, session, &qo), SL_ERR_RANGE);
    qo.first_seq = 1, qo.n_seq = 3;
    STATUS(sl_queue_create(&queue, session, &qo), SL_ERR_RANGE);
    qo.n_seq = UINT32_MAX;
    STATUS(sl_queue_create(&queue, session, &qo), SL_ERR_RANGE);
    STATUS(sl_queue_create(&queue, NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_queue_create(NULL, session, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_queue_options_default(&qo, sizeof qo), SL_OK);
    queue = open_queue(session, 1, 1);
    const sl_token ids[] = { 5, 6, 7 }, wrong[] = { 5, (sl_token)n_vocab }, negative[] = { -1 };
    static sl_token many[N_CTX + 1];
    sl_sampler *other;
    STATUS(sl_sampler_create(&other, n_vocab + 1, 0, NULL), SL_OK);
    const sl_image *const hole[] = { NULL };
    const struct { const sl_token *ids; size_t n; sl_generate_options options; const sl_image *const *images; size_t n_images; sl_status status; } rows[] = {
        { NULL, 2, SL_GENERATE_OPTIONS_INIT, NULL, 0, SL_ERR_ARGUMENT },
        { ids, 0, SL_GENERATE_OPTIONS_INIT, NULL, 0, SL_ERR_ARGUMENT },
        { wrong, 2, SL_GENERATE_OPTIONS_INIT, NULL, 0, SL_ERR_RANGE },
        { negative, 1, SL_GENERATE_OPTIONS_INIT, NULL, 0, SL_ERR_RANGE },
        { many, N_CTX + 1, SL_GENERATE_OPTIONS_INIT, NULL, 0, SL_ERR_FULL },
        { ids, 3, { .size = 3 }, NULL, 0, SL_ERR_ARGUMENT },
        { ids, 3, { .size = sizeof(sl_generate_options), .sampler = other }, NULL, 0, SL_ERR_ARGUMENT },
        { ids, 3, { .size = sizeof(sl_generate_options), .lookup = 1 }, NULL, 0, SL_ERR_UNSUPPORTED },
        { ids, 3, { .size = sizeof(sl_generate_options), .shift = 1 }, NULL, 0, SL_ERR_UNSUPPORTED },
        { ids, 3, { .size = sizeof(sl_generate_options), .reuse = 2 }, NULL, 0, SL_ERR_ARGUMENT },
        { ids, 3, { .size = sizeof(sl_generate_options), .stop = nothing, .n_stop = 1 }, NULL, 0, SL_ERR_ARGUMENT },
        { ids, 3, { .size = sizeof(sl_generate_options), .n_stop = SIZE_MAX, .stop = nothing }, NULL, 0, SL_ERR_ARGUMENT },
        { ids, 3, SL_GENERATE_OPTIONS_INIT, NULL, 1, SL_ERR_ARGUMENT },
        { ids, 3, SL_GENERATE_OPTIONS_INIT, hole, 1, SL_ERR_ARGUMENT },
        { ids, 3, SL_GENERATE_OPTIONS_INIT, hole, SIZE_MAX, SL_ERR_NOMEM },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const sl_status status = sl_queue_submit(queue, rows[i].ids, rows[i].n, &rows[i].options, rows[i].images, rows[i].n_images, NULL);
        if (status != rows[i].status)
            fail_msg("row %zu: %s: %s", i, sl_status_name(status), sl_last_error());
    }
    STATUS(sl_queue_submit(NULL, ids, 3, NULL, NULL, 0, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_queue_length(queue), 0);
    sl_queue_free(queue);
    sl_session_free(session);
    sl_sampler_free(other);
}

/* Two queues in one session, each with its sequences; the first sequence is the program's own. */
static void whose_is_what(void **state)
{
    (void)state;
    sl_session *session = open_session(model, 3, 8, 0);
    sl_queue *queue = open_queue(session, 1, 1), *second = open_queue(session, 2, 1);
    const sl_token ids[] = { 5, 6, 7 };
    sl_sampler *sampler;
    STATUS(sl_sampler_create(&sampler, n_vocab, 0, NULL), SL_OK);
    sl_generate_options o = { .size = sizeof o, .sampler = sampler, .max_tokens = 2 };
    uint64_t id = 0;
    STATUS(sl_queue_submit(queue, ids, 3, &o, NULL, 0, &id), SL_OK);
    assert_int_equal(id, 1);
    STATUS(sl_queue_submit(queue, ids, 3, &o, NULL, 0, &id), SL_ERR_STATE);     /* the sampler is taken */
    STATUS(sl_queue_cancel(queue, 2), SL_ERR_MISSING);
    STATUS(sl_queue_cancel(NULL, 1), SL_ERR_ARGUMENT);
    STATUS(sl_queue_step(NULL), SL_ERR_ARGUMENT);
    STATUS(sl_queue_run(NULL), SL_ERR_ARGUMENT);
    sl_queue_result r = { 0 };
    STATUS(sl_queue_take(queue, &r), SL_ERR_ARGUMENT);
    STATUS(sl_queue_take(queue, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_queue_length(NULL), 0);
    assert_int_equal(sl_queue_length(queue), 1);
    STATUS(sl_queue_run(queue), SL_OK);
    STATUS(sl_queue_take(queue, &r), SL_ERR_ARGUMENT);      /* it is still there */
    r.size = offsetof(sl_queue_result, status);             /* of an older program */
    STATUS(sl_queue_take(queue, &r), SL_OK);
    assert_int_equal(r.id, 1);
    STATUS(sl_queue_submit(queue, ids, 3, &o, NULL, 0, &id), SL_OK);            /* one that has ended has it no more */
    STATUS(sl_session_eval(session, ids, 3, NULL, 0), SL_OK);
    STATUS(sl_seq_rewind(session, 1, 0), SL_ERR_STATE);
    STATUS(sl_seq_rewind(session, 2, 0), SL_ERR_STATE);
    STATUS(sl_queue_step(second), SL_OK);                   /* nothing to do */
    sl_queue_free(queue);
    STATUS(sl_seq_rewind(session, 1, 0), SL_OK);
    STATUS(sl_seq_rewind(session, 2, 0), SL_ERR_STATE);
    sl_queue_free(second);
    sl_queue_free(NULL);
    sl_session_free(session);
    sl_sampler_free(sampler);
}

/* Every allocation of making a queue and of submitting fails once; computing takes none. */
static void memory_fails(void **state)
{
    (void)state;
    enum { V = 300 };
    counting c = { 0 };
    size_t size;
    unsigned char *file = tiny_file(&(tiny_shape) { .n_vocab = V }, &size);
    const sl_allocator allocator = counting_allocator(&c);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    const sl_model_options mo = { .size = sizeof mo, .n_threads = 1, .allocator = &allocator };
    const char *const stops[] = { "never", "nowhere" };
    const sl_token ids[] = { 5, 6, 7 };
    sl_model *small = NULL;
    STATUS(sl_model_load_sources(&small, sources, 1, &mo), SL_OK);
    sl_session *session = open_session(small, 3, 16, 256);
    sl_queue *queue = NULL;
    static shown shows[6];
    for (size_t n = 1; !queue; n++) {
        const size_t blocks = c.live_blocks, bytes = c.live_bytes;
        c.fail_at = c.calls + n, c.fail_for = 1;
        const sl_status status = sl_queue_create(&queue, session, NULL);
        c.fail_at = 0;
        if (status == SL_OK)
            break;
        STATUS(status, SL_ERR_NOMEM);
        assert_true(!queue && c.live_blocks == blocks && c.live_bytes == bytes);
        STATUS(sl_seq_rewind(session, 0, 0), SL_OK);
    }
    for (int i = 0; i < 6; i++) {
        const sl_generate_options o = { .size = sizeof o, .max_tokens = i ? 50 : 0, .on_text = on_text, .user = &shows[i], .stop = stops, .n_stop = 2, .reuse = 1 };
        uint64_t id = 0;
        for (size_t n = 1; !id; n++) {
            const size_t blocks = c.live_blocks, bytes = c.live_bytes;
            c.fail_at = c.calls + n, c.fail_for = 1;
            const sl_status status = sl_queue_submit(queue, ids, 3, &o, NULL, 0, &id);
            c.fail_at = 0;
            if (status == SL_OK)
                break;
            STATUS(status, SL_ERR_NOMEM);
            assert_true(!id && c.live_blocks == blocks && c.live_bytes == bytes && sl_queue_length(queue) == (size_t)i);
        }
    }
    const size_t calls = c.calls;
    STATUS(sl_queue_run(queue), SL_OK);
    assert_int_equal(c.calls, calls);
    for (int i = 1; i < 6; i++)
        assert_memory_equal(shows[i].ids, shows[0].ids, 50 * sizeof *shows[0].ids);
    sl_queue_free(queue);           /* with results that nobody took */
    sl_session_free(session);
    sl_model_free(small);
    counting_check_none(&c);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_break_nothing), cmocka_unit_test(a_fault_is_its_own), cmocka_unit_test(pictures_too), cmocka_unit_test(refused), cmocka_unit_test(whose_is_what), cmocka_unit_test(memory_fails),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
