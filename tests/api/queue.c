/* SPDX-License-Identifier: MIT */
/* queue.c - requests that come and go: each text is what sl_generate makes of it alone, whatever stands beside it, in whatever order they come, however few pages there are;
 * what goes wrong with one is nobody else's affair. The model is that of the demo (its path stands in SL_TINY). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <spacellama/spacellama.h>
#include "counting.h"
#include "mllama_build.h"
#include "random.h"
#include "sanitized.h"
#include "tiny.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
enum { N_CTX = 200, N_REQUESTS = 24, MOST_TEXT = 4096, PAGE = SL_PAGE_POSITIONS };

static sl_model *model;
static uint32_t n_vocab;

#define STATUS(call, status) check_status(call, status, #call, __LINE__)
static void check_status(sl_status got, sl_status wanted, const char *call, int line)
{
    if (got != wanted)
        fail_msg("line %d: %s: %s (%s), expected %s", line, call, sl_status_name(got), sl_last_error(), sl_status_name(wanted));
}

static int load(void **state)
{
    (void)state;
    sl_model_options options = SL_MODEL_OPTIONS_INIT;
    options.n_threads = 2;
    sl_model_info info = { sizeof info };
    if (!getenv("SL_TINY") || sl_model_load(&model, getenv("SL_TINY"), &options) != SL_OK || sl_model_get_info(model, &info) != SL_OK) {
        print_error("SL_TINY: %s\n", sl_last_error());
        return 1;
    }
    n_vocab = info.n_vocab;
    return 0;
}

static int unload(void **state)
{
    (void)state;
    sl_model_free(model);
    return 0;
}

static sl_session *open_session(sl_model *of, uint32_t n_seq, uint32_t n_batch, uint32_t n_shared)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = n_batch, .n_seq = n_seq, .n_ctx_shared = n_shared };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, of, &o), SL_OK);
    return session;
}

static sl_queue *open_queue(sl_session *session, uint32_t first, uint32_t n)
{
    const sl_queue_options o = { .size = sizeof o, .first_seq = first, .n_seq = n };
    sl_queue *queue = NULL;
    STATUS(sl_queue_create(&queue, session, &o), SL_OK);
    return queue;
}

/* ---- requests, and what they give alone ---- */

typedef struct shown {
    char text[MOST_TEXT];
    size_t length;
    sl_token ids[N_CTX];
    size_t n, stop_at;          /* stop_at: tokens after which the callback ends it; 0: never */
    int flushed;
} shown;

static int32_t on_text(const char *text, size_t length, sl_token id, void *user)
{
    shown *s = user;
    assert_true(s->length + length < sizeof s->text && s->n < N_CTX);
    assert_false(s->flushed);
    memcpy(s->text + s->length, text, length);
    s->length += length;
    s->text[s->length] = 0;
    if (id == SL_TOKEN_NONE) {
        s->flushed = 1;
        return 0;
    }
    s->ids[s->n++] = id;
    return s->n == s->stop_at;
}

typedef struct asked {
    sl_token ids[N_CTX];
    size_t n;
    int warm;                   /* 0: greedy; 1: hot, so that bytes and broken characters come up; 2: looks back at the text */
    uint64_t seed;
    char stops[2][64];
    const char *stop[2];
    sl_generate_options options;
    sl_sampler *sampler;
    shown alone, got;
    sl_generate_result result;
    uint64_t id;                /* in the queue; 0: not submitted */
    int cancelled, taken;
} asked;

static sl_sampler *make_sampler(const asked *a)
{
    sl_sampler *sampler = NULL;
    const double hot = 30.0, mild = 0.8, penalties[] = { 32, 1.3, 0.2, 0.1 };
    if (!a->warm)
        return NULL;
    STATUS(sl_sampler_create(&sampler, n_vocab, a->seed, NULL), SL_OK);
    if (a->warm == 2)
        STATUS(sl_sampler_add(sampler, "penalties", penalties, COUNT(penalties)), SL_OK);
    STATUS(sl_sampler_add(sampler, "temp", a->warm == 1 ? &hot : &mild, 1), SL_OK);
    return sampler;
}

static void run_alone(asked *a)
{
    sl_session *session = open_session(model, 1, 0, 0);
    memset(&a->alone, 0, sizeof a->alone);
    a->alone.stop_at = a->got.stop_at;
    a->options.sampler = make_sampler(a);
    a->options.user = &a->alone;
    a->result = (sl_generate_result) { .size = sizeof a->result };
    const uint32_t reuse = a->options.reuse;
    a->options.reuse = 0;
    STATUS(sl_generate(session, a->ids, a->n, &a->options, &a->result), SL_OK);
    a->options.reuse = reuse;
    sl_sampler_free(a->options.sampler);
    sl_session_free(session);
}

/* A piece of what it gives, from a character to a character: a stop string that comes up, most often in the middle of tokens. */
static void cut_stop(asked *a, size_t i, uint64_t *seed)
{
    const shown *s = &a->alone;
    size_t from = random_below(seed, s->length), to = from + 1 + random_below(seed, 12);
    while (from && (s->text[from] & 0xc0) == 0x80)
        from--;
    while (to < s->length && (s->text[to] & 0xc0) == 0x80)
        to++;
    to = to < s->length ? to : s->length;
    memcpy(a->stops[i], s->text + from, to - from);
    a->stops[i][to - from] = 0;
    a->stop[i] = a->stops[i];
}

/* Prompts of many lengths; some begin alike. */
static asked *ask(size_t n, uint64_t seed)
{
    asked *all = calloc(n, sizeof *all);
    size_t n_stopped = 0;
    for (size_t i = 0; i < n; i++) {
        asked *a = &all[i];
        a->n = 1 + random_below(&seed, i % 4 ? 60 : 150);
        for (size_t t = 0; t < a->n; t++)
            a->ids[t] = (sl_token)(3 + random_below(&seed, n_vocab - 3));
        if (i % 3 == 2) {
            const asked *like = &all[random_below(&seed, i)];
            const size_t n_alike = like->n < a->n ? like->n : a->n;
            memcpy(a->ids, like->ids, n_alike * sizeof *a->ids);
        }
        a->warm = (int)(i % 3);
        a->seed = seed;
        a->options = (sl_generate_options) { .size = sizeof a->options, .on_text = on_text, .reuse = i % 2 };
        a->options.max_tokens = random_below(&seed, 3) ? 1 + (uint32_t)random_below(&seed, 70) : 0;
        a->got.stop_at = random_below(&seed, 8) ? 0 : 1 + random_below(&seed, 20);
        run_alone(a);
        if (i % 2 && a->alone.length > 20 && !memchr(a->alone.text, 0, a->alone.length)) {
            cut_stop(a, 0, &seed);
            cut_stop(a, 1, &seed);
            a->options.stop = a->stop;
            a->options.n_stop = 2;
            run_alone(a);
            n_stopped += a->result.finish == SL_FINISH_STOP;
        }
    }
    assert_true(n_stopped > n / 8);
    return all;
}

static void submit(sl_queue *queue, asked *a)
{
    const size_t stop_at = a->got.stop_at;
    memset(&a->got, 0, sizeof a->got);
    a->got.stop_at = stop_at;
    a->options.sampler = a->sampler = make_sampler(a);
    a->options.user = &a->got;
    a->cancelled = a->taken = 0;
    char stops[2][64];                  /* the queue has its own copies */
    const char *const stop[2] = { stops[0], stops[1] };
    sl_generate_options o = a->options;
    memcpy(stops, a->stops, sizeof stops);
    o.stop = stop;
    STATUS(sl_queue_submit(queue, a->ids, a->n, &o, NULL, 0, &a->id), SL_OK);
    memset(stops, 'x', sizeof stops);
}

static void is_as_alone(const asked *a)
{
    assert_int_equal(a->got.length, a->alone.length);
    assert_memory_equal(a->got.text, a->alone.text, a->alone.length);
    assert_int_equal(a->got.n, a->alone.n);
    assert_memory_equal(a->got.ids, a->alone.ids, a->alone.n * sizeof *a->alone.ids);
}

/* Takes what has ended; returns how many, and adds up what it cost. */
static size_t take(sl_queue *queue, asked *all, size_t n, uint32_t *n_kept, uint32_t *n_restarts)
{
    size_t n_taken = 0;
    for (sl_queue_result r = SL_QUEUE_RESULT_INIT;; n_taken++) {
        STATUS(sl_queue_take(queue, &r), SL_OK);
        if (!r.id)
            return n_taken;
        asked *a = all;
        while (a < all + n && a->id != r.id)
            a++;
        assert_true(a < all + n && !a->taken && r.user == &a->got);
        a->taken = 1;
        sl_sampler_free(a->sampler);
        *n_kept += r.n_kept;
        *n_restarts += r.n_restarts;
        if (a->cancelled) {
            assert_int_equal(r.status, SL_ERR_CANCELLED);
            assert_non_null(strstr(sl_last_error(), "cancelled"));
            assert_true(a->got.n <= a->alone.n && a->got.length <= a->alone.length);
            assert_memory_equal(a->got.text, a->alone.text, a->got.length);
            assert_memory_equal(a->got.ids, a->alone.ids, a->got.n * sizeof *a->got.ids);
            continue;
        }
        STATUS(r.status, SL_OK);
        is_as_alone(a);
        assert_true(r.finish == a->result.finish && r.n_tokens == a->result.n_tokens);
        assert_int_equal(r.n_prompt + r.n_kept, a->n);
        assert_true(a->options.reuse || !r.n_kept);
    }
}

/* All of them, coming at random times, some cancelled; every page is free in the end. */
static void serve(sl_session *session, asked *all, size_t n, uint32_t first, uint64_t seed, int cancels, uint32_t *n_kept, uint32_t *n_restarts)
{
    const size_t n_free = sl_session_free_positions(session);
    sl_queue *queue = open_queue(session, first, 0);
    size_t n_come = 0, n_gone = 0, n_steps = 0;
    *n_kept = *n_restarts = 0;
    for (size_t i = 0; i < n; i++)
        all[i].id = 0;
    while (n_gone < n) {
        while (n_come < n && !random_below(&seed, 3))
            submit(queue, &all[n_come++]);
        if (cancels && n_come && !random_below(&seed, 10)) {
            asked *a = &all[random_below(&seed, n_come)];
            const sl_status status = sl_queue_cancel(queue, a->id);
            STATUS(status, a->taken || a->cancelled ? SL_ERR_MISSING : SL_OK);
            a->cancelled = 1;
        }
        STATUS(sl_queue_step(queue), SL_OK);
        n_gone += take(queue, all, n, n_kept, n_restarts);
        assert_int_equal(sl_queue_length(queue), n_come - n_gone);
        assert_true(++n_steps < 100000);
    }
    sl_queue_free(queue);
    assert_int_equal(sl_session_free_positions(session), n_free);
    for (uint32_t q = first; q < sl_session_sequences(session); q++)
        assert_int_equal(sl_seq_length(session, q), 0);
}

static void as_alone(void **state)
{
    (void)state;
    static const struct { uint32_t n_seq, n_batch, n_shared; int cancels; } rows[] = {
        { 8, 64, 0, 0 }, { 8, 7, 0, 1 }, { 3, 3, 0, 0 }, { 1, 16, 0, 1 }, { 8, 32, 5 * PAGE, 0 }, { 8, 512, 2 * N_CTX, 1 }, { 5, 4, N_CTX, 1 },
    };
    asked *all = ask(N_REQUESTS, 5);
    uint32_t kept = 0;
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint32_t n_kept, n_restarts;
        sl_session *session = open_session(model, rows[i].n_seq, rows[i].n_batch, rows[i].n_shared);
        serve(session, all, N_REQUESTS, 0, 17 + i, rows[i].cancels, &n_kept, &n_restarts);
        printf("%u sequences, batch %u, %u positions: %u tokens shared, %u restarts\n", rows[i].n_seq, rows[i].n_batch, rows[i].n_shared, n_kept, n_restarts);
        kept += n_kept;
        assert_true(rows[i].n_shared || !n_restarts);
        sl_session_free(session);
    }
    assert_true(kept > 0);
    free(all);
}

/* Long texts that outgrow the cache together: some give way, and go on later as if nothing had been. */
static void gives_way(void **state)
{
    (void)state;
    enum { N = 6 };
    asked *all = calloc(N, sizeof *all);
    uint64_t seed = 3;
    for (size_t i = 0; i < N; i++) {
        asked *a = &all[i];
        a->n = 10 + i;
        for (size_t t = 0; t < a->n; t++)
            a->ids[t] = (sl_token)(3 + random_below(&seed, n_vocab - 3));
        a->warm = 2 * (i % 2);          /* some look back at the text, and have a generator */
        a->seed = i;
        a->options = (sl_generate_options) { .size = sizeof a->options, .on_text = on_text };
        run_alone(a);
        assert_true(a->alone.n > 2 * PAGE);
    }
    for (uint32_t n_pages = 4; n_pages < 12; n_pages++) {
        uint32_t n_kept, n_restarts;
        sl_session *session = open_session(model, 4, n_pages % 2 ? 5 : 64, n_pages * PAGE);
        serve(session, all, N, 0, n_pages, 0, &n_kept, &n_restarts);
        printf("%u pages for 4 texts of 4: %u restarts\n", n_pages, n_restarts);
        assert_true(n_restarts || n_pages == 4 || n_pages > 9);
        sl_session_free(session);
    }
    free(all);
}

/* ---- what is shared ---- */

/* Eight questions with one beginning: it is computed once, though all come at the same time; and not at all for those that come later, or if the program has it. */
static void beginnings_are_shared(void **state)
{
    (void)state;
    enum { BEGINNING = 133, N = 8 };
    asked *all = calloc(N, sizeof *all);
    uint64_t seed = 8;
    for (size_t i = 0; i < N; i++) {
        asked *a = &all[i];
        for (size_t t = 0; t < BEGINNING; t++)
            a->ids[t] = i ? all[0].ids[t] : (sl_token)(3 + random_below(&seed, n_vocab - 3));
        a->n = BEGINNING + 1 + i;
        for (size_t t = BEGINNING; t < a->n; t++)
            a->ids[t] = (sl_token)(3 + i);
        a->options = (sl_generate_options) { .size = sizeof a->options, .on_text = on_text, .max_tokens = 10, .reuse = 1 };
        run_alone(a);
    }
    for (uint32_t own = 0; own < 2; own++) {        /* 1: sequence 0 is the program's, and holds the beginning */
        sl_session *session = open_session(model, 4 + own, 32, 0);
        sl_queue *queue = open_queue(session, own, 0);
        sl_session_stats stats = { sizeof stats };
        uint32_t n_kept = 0, n_restarts = 0, most = own ? N * BEGINNING : (N - 1) * BEGINNING;
        if (own)
            STATUS(sl_session_eval(session, all[0].ids, BEGINNING, NULL, 0), SL_OK);
        for (size_t i = 0; i < N; i++)
            submit(queue, &all[i]);
        STATUS(sl_queue_run(queue), SL_OK);
        assert_int_equal(take(queue, all, N, &n_kept, &n_restarts), N);
        assert_true(n_kept <= most && n_kept + 3 * 16 > most);      /* a few tokens are not worth a wait */
        STATUS(sl_session_get_stats(session, &stats), SL_OK);
        size_t n = own * BEGINNING;
        for (size_t i = 0; i < N; i++)
            n += all[i].n + 9;          /* the tenth token is chosen, and not computed */
        n -= n_kept;
        assert_int_equal(stats.n_tokens, n);
        /* The same one once more: all but its last token is there. */
        n_kept = 0;
        submit(queue, &all[N - 1]);
        STATUS(sl_queue_run(queue), SL_OK);
        assert_int_equal(take(queue, all, N, &n_kept, &n_restarts), 1);
        assert_int_equal(n_kept, all[N - 1].n - 1);
        assert_int_equal(sl_seq_length(session, 0) > 0, 1);
        sl_queue_free(queue);
        sl_session_free(session);
    }
    free(all);
}

/* ---- no room ---- */

static void pages_of_others(void **state)
{
    (void)state;
    asked *a = ask(8, 77);
    sl_session *session = open_session(model, 3, 64, 256);
    sl_token ids[N_CTX] = { 0 };
    sl_queue *queue = open_queue(session, 1, 0);
    sl_queue_result r = SL_QUEUE_RESULT_INIT;
    a->n = 30;
    a->warm = 0;
    a->got.stop_at = 0;
    a->options.max_tokens = 0;
    a->options.n_stop = 0;
    a->options.reuse = 0;
    run_alone(a);
    STATUS(sl_session_eval(session, ids, 2 * PAGE + 1, NULL, 0), SL_OK);       /* one page is left */
    submit(queue, a);
    STATUS(sl_queue_run(queue), SL_OK);
    STATUS(sl_queue_take(queue, &r), SL_OK);
    assert_true(r.status == SL_OK && r.finish == SL_FINISH_FULL && r.n_tokens == PAGE - a->n + 1);
    assert_memory_equal(a->got.ids, a->alone.ids, r.n_tokens * sizeof *a->got.ids);
    /* Two at a time: the first goes on as far as it could alone, the second waits. */
    const uint64_t id = a->id;
    submit(queue, a);
    asked *b = a + 1;
    *b = *a;
    submit(queue, b);
    assert_true(a->id == id + 1 && b->id == id + 2);
    STATUS(sl_queue_run(queue), SL_OK);
    for (int i = 0; i < 2; i++) {
        STATUS(sl_queue_take(queue, &r), SL_OK);
        assert_true(r.id == id + 1 + (uint64_t)i && r.status == SL_OK && r.finish == SL_FINISH_FULL && r.n_tokens == PAGE - a->n + 1);
    }
    /* A prompt that does not fit is an error of its own; the one behind it is served. */
    a->n = PAGE + 1;
    submit(queue, a);
    b->options.max_tokens = 3;
    submit(queue, b);
    STATUS(sl_queue_run(queue), SL_OK);
    STATUS(sl_queue_take(queue, &r), SL_OK);
    assert_true(r.id == a->id && r.status == SL_ERR_FULL && !r.n_tokens && strstr(sl_last_error(), "65 tokens"));
    STATUS(sl_queue_take(queue, &r), SL_OK);
    assert_true(r.id == b->id && r.status == SL_OK && r.n_tokens == 3 && r.finish == SL_FINISH_LENGTH);
    STATUS(sl_session_rewind(session, 0), SL_OK);
    submit(queue, a);
    STATUS(sl_queue_run(queue), SL_OK);
    STATUS(sl_queue_take(queue, &r), SL_OK);
    assert_true(r.status == SL_OK && r.n_tokens > 1);
    STATUS(sl_queue_take(queue, &r), SL_OK);
    assert_int_equal(r.id, 0);
    sl_queue_free(queue);
    sl_session_free(session);
    free(a);
}

/* ---- interruptions ---- */

static void goes_on_after_a_cancel(void **state)
{
    (void)state;
    asked *all = ask(8, 21);
    sl_session *session = open_session(model, 4, 16, 0);
    sl_queue *queue = open_queue(session, 0, 0);
    uint32_t n_kept = 0, n_restarts = 0;
    size_t n_cancelled = 0;
    for (size_t i = 0; i < 8; i++)
        submit(queue, &all[i]);
    for (size_t step = 0; sl_queue_length(queue); step++) {
        if (step % 3 == 0)
            sl_session_cancel(session);
        const sl_status status = sl_queue_step(queue);
        STATUS(status, step % 3 ? SL_OK : SL_ERR_CANCELLED);
        n_cancelled += status != SL_OK;
    }
    assert_int_equal(take(queue, all, 8, &n_kept, &n_restarts), 8);
    assert_true(n_cancelled > 5);
    sl_queue_free(queue);
    sl_session_free(session);
    free(all);
}

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
    const sl_source source = { .size = sizeof source, .data = file, .length = size }, *const sources[] = { &source };
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
    const sl_source source = { .size = sizeof source, .data = file, .length = size }, *const sources[] = { &source };
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
    sl_queue *second = open_queue(session, 2, 1);       /* two in one session, each with its sequences */
    const sl_token ids[] = { 5, 6, 7 }, wrong[] = { 5, (sl_token)n_vocab }, negative[] = { -1 };
    static sl_token many[N_CTX + 1];
    sl_sampler *other, *sampler;
    STATUS(sl_sampler_create(&other, n_vocab + 1, 0, NULL), SL_OK);
    STATUS(sl_sampler_create(&sampler, n_vocab, 0, NULL), SL_OK);
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
    /* The program's own sequence is its own. */
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
    sl_sampler_free(other);
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
    const sl_source source = { .size = sizeof source, .data = file, .length = size }, *const sources[] = { &source };
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
    assert_int_equal(c.live_blocks, 0);
    assert_int_equal(c.wrong, 0);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_alone), cmocka_unit_test(gives_way), cmocka_unit_test(beginnings_are_shared), cmocka_unit_test(pages_of_others), cmocka_unit_test(goes_on_after_a_cancel),
        cmocka_unit_test(callbacks_break_nothing), cmocka_unit_test(a_fault_is_its_own), cmocka_unit_test(pictures_too), cmocka_unit_test(refused), cmocka_unit_test(memory_fails),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
