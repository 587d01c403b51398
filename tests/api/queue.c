/* SPDX-License-Identifier: MIT */
/* queue.c - requests that come and go: each text is what sl_generate makes of it alone, whatever stands beside it, in whatever order they come, however few pages there are. */
#include "requests.h"
#include "random.h"

enum { N_REQUESTS = 24 };

/* ---- requests, and what they give alone ---- */

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

/* A cache of the usual size keeps nobody waiting: texts of the same length are made in as many passes as one. */
static void all_at_once(void **state)
{
    (void)state;
    enum { N = 8, MADE = 30 };
    const sl_session_options o = { .size = sizeof o, .n_ctx = 40, .n_seq = N };
    const sl_token ids[] = { 5, 6, 7, 8 };
    sl_session *session = NULL;
    sl_session_stats stats = { sizeof stats };
    STATUS(sl_session_create(&session, model, &o), SL_OK);
    sl_queue *queue = open_queue(session, 0, 0);
    for (uint32_t max_tokens = MADE; max_tokens <= 37; max_tokens += 7) {       /* 37: to the end of the context */
        for (int i = 0; i < N; i++) {
            const sl_generate_options options = { .size = sizeof options, .max_tokens = max_tokens == MADE ? MADE : 0 };
            STATUS(sl_queue_submit(queue, ids, 4, &options, NULL, 0, NULL), SL_OK);
        }
        const uint64_t before = stats.n_passes;
        STATUS(sl_queue_run(queue), SL_OK);
        STATUS(sl_session_get_stats(session, &stats), SL_OK);
        assert_int_equal(stats.n_passes - before, max_tokens);
    }
    sl_queue_free(queue);
    sl_session_free(session);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_alone), cmocka_unit_test(gives_way), cmocka_unit_test(all_at_once), cmocka_unit_test(beginnings_are_shared), cmocka_unit_test(pages_of_others),
        cmocka_unit_test(goes_on_after_a_cancel),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
