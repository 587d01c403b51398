/* SPDX-License-Identifier: MIT */
/* generate.c - sl_generate on a model of random weights (its path stands in SL_TINY): ends of every kind, stop strings anywhere in the text,
 * and what is left in the session. Its words are random, so each expectation is made from a run without the thing that is tested. */
#include "random_model.h"

enum { MOST_TEXT = 16384, MOST_TOKENS = 1024 };

static uint32_t lookup;         /* every test runs with several: nothing that can be seen depends on it */

static int load(void **state) { return (void)state, load_model("The rover follows the ridge", 1); }

/* ---- what a run shows ---- */

struct shown {
    char text[MOST_TEXT];
    size_t length;
    sl_token ids[MOST_TOKENS];
    size_t lengths[MOST_TOKENS];    /* of the text after each token */
    size_t n, n_calls;
    int flushed;
    size_t stop_at, cancel_at;      /* number of tokens after which to end it, 0: never */
    sl_session *session;
};

static int32_t on_text(const char *text, size_t length, sl_token id, void *user)
{
    struct shown *s = user;
    assert_true(s->length + length < sizeof s->text && s->n < MOST_TOKENS);
    assert_false(s->flushed);       /* what is flushed comes last, once */
    memcpy(s->text + s->length, text, length);
    s->length += length;
    s->text[s->length] = 0;
    s->n_calls++;
    if (id == SL_TOKEN_NONE) {
        s->flushed = 1;
        assert_true(length > 0);
        return 0;
    }
    s->lengths[s->n] = s->length;
    s->ids[s->n++] = id;
    if (s->n == s->cancel_at)
        sl_session_cancel(s->session);
    return s->n == s->stop_at;
}

static sl_session *open_session(uint32_t n_ctx)
{
    sl_session_options options = SL_SESSION_OPTIONS_INIT;
    options.n_ctx = n_ctx;
    sl_session *session;
    assert_int_equal(sl_session_create(&session, model, &options), SL_OK);
    return session;
}

/* A sampler so hot that bytes, broken sequences and control tokens come up. */
static sl_sampler *hot(uint64_t seed)
{
    sl_sampler *sampler;
    const double t = 30.0;
    assert_int_equal(sl_sampler_create(&sampler, n_vocab, seed, NULL), SL_OK);
    assert_int_equal(sl_sampler_add(sampler, "temp", &t, 1), SL_OK);
    return sampler;
}

static sl_generate_result run(sl_session *session, const sl_token *ids, size_t n, uint32_t max_tokens, sl_sampler *sampler, const char *const *stop, size_t n_stop,
                              struct shown *shown, sl_status wanted)
{
    sl_generate_options options = SL_GENERATE_OPTIONS_INIT;
    sl_generate_result result = { sizeof result };
    options.max_tokens = max_tokens;
    options.lookup = lookup;
    options.sampler = sampler;
    options.stop = stop;
    options.n_stop = n_stop;
    options.on_text = on_text;
    options.user = shown;
    shown->session = session;
    sl_status status = sl_generate(session, ids, n, &options, &result);
    if (status != wanted)
        fail_msg("%s: %s", sl_status_name(status), sl_last_error());
    return result;
}

/* ---- ends ---- */

static void ends_by_length_and_goes_on(void **state)
{
    (void)state;
    struct shown *whole = calloc(2, sizeof *whole), *parts = whole + 1;
    sl_session *session = open_session(256);
    sl_generate_result r = run(session, prompt, n_prompt, 40, NULL, NULL, 0, whole, SL_OK);
    assert_true(r.finish == SL_FINISH_LENGTH && r.n_prompt == n_prompt && r.n_tokens == 40 && whole->n == 40);
    assert_int_equal(sl_session_length(session), n_prompt + 40);
    assert_memory_equal(sl_session_tokens(session) + n_prompt, whole->ids, 40 * sizeof *whole->ids);

    assert_int_equal(sl_session_rewind(session, 0), SL_OK);
    r = run(session, prompt, n_prompt, 15, NULL, NULL, 0, parts, SL_OK);
    r = run(session, NULL, 0, 25, NULL, NULL, 0, parts, SL_OK);
    assert_true(r.finish == SL_FINISH_LENGTH && r.n_tokens == 25);
    assert_int_equal(sl_session_length(session), n_prompt + 40);
    assert_memory_equal(whole->ids, parts->ids, 40 * sizeof *whole->ids);
    sl_session_free(session);
    free(whole);
}

static void ends_when_the_callback_says_so(void **state)
{
    (void)state;
    struct shown *shown = calloc(1, sizeof *shown);
    shown->stop_at = 5;
    sl_session *session = open_session(256);
    sl_generate_result r = run(session, prompt, n_prompt, 0, NULL, NULL, 0, shown, SL_OK);
    assert_true(r.finish == SL_FINISH_CALLBACK && r.n_tokens == 5 && shown->n_calls == 5);
    assert_int_equal(sl_session_length(session), n_prompt + 5);
    sl_session_free(session);
    free(shown);
}

static void ends_when_the_context_is_full(void **state)
{
    (void)state;
    for (uint32_t room = 0; room < 4; room++)
        for (uint32_t max_tokens = 0; max_tokens < 6; max_tokens++) {
            struct shown *shown = calloc(1, sizeof *shown);
            sl_session *session = open_session((uint32_t)n_prompt + room);
            sl_generate_result r = run(session, prompt, n_prompt, max_tokens, NULL, NULL, 0, shown, SL_OK);
            int full = max_tokens == 0 || max_tokens > room + 1;    /* one more can be chosen than computed */
            assert_int_equal(r.finish, full ? SL_FINISH_FULL : SL_FINISH_LENGTH);
            assert_int_equal(r.n_tokens, full ? room + 1 : max_tokens);
            assert_int_equal(sl_session_length(session), n_prompt + (full || max_tokens > room ? room : max_tokens));
            sl_session_free(session);
            free(shown);
        }
}

/* Another sequence holds pages of the cache: the text ends where the last free page does, as it ends in a full context. */
static void ends_when_the_shared_cache_is_full(void **state)
{
    (void)state;
    enum { N_CTX = 256, PAGE = SL_PAGE_POSITIONS };
    const sl_session_options options = { .size = sizeof options, .n_ctx = N_CTX, .n_seq = 2, .n_ctx_shared = N_CTX };
    struct shown *whole = calloc(1, sizeof *whole);
    sl_session *alone = open_session(N_CTX);
    run(alone, prompt, n_prompt, 3 * PAGE, NULL, NULL, 0, whole, SL_OK);
    for (size_t n_pages = 1; n_pages < 4; n_pages++)
        for (uint32_t less = 0; less < 4; less++) {       /* of max_tokens than what fits and one */
            const size_t n_held = (4 - n_pages) * PAGE, room = n_pages * PAGE - n_prompt;
            const uint32_t max_tokens = less ? (uint32_t)room + 2 - less : 0;
            struct shown *shown = calloc(1, sizeof *shown);
            sl_token ids[N_CTX];
            uint32_t seqs[N_CTX];
            sl_session *session;
            assert_int_equal(sl_session_create(&session, model, &options), SL_OK);
            for (size_t i = 0; i < n_held; i++)
                ids[i] = prompt[i % n_prompt], seqs[i] = 1;
            assert_int_equal(sl_session_eval_batch(session, ids, seqs, NULL, n_held, NULL), SL_OK);
            sl_generate_result r = run(session, prompt, n_prompt, max_tokens, NULL, NULL, 0, shown, SL_OK);
            assert_int_equal(r.finish, less ? SL_FINISH_LENGTH : SL_FINISH_FULL);
            assert_int_equal(r.n_tokens, less ? max_tokens : room + 1);
            assert_int_equal(sl_session_length(session), n_prompt + (less > 1 ? max_tokens : room));
            assert_memory_equal(shown->ids, whole->ids, shown->n * sizeof *shown->ids);
            assert_int_equal(sl_seq_length(session, 1), n_held);
            /* When the other one is gone, it goes on. */
            assert_int_equal(sl_seq_rewind(session, 1, 0), SL_OK);
            const size_t before = shown->n;
            if (!less) {
                run(session, &shown->ids[before - 1], 1, 3, NULL, NULL, 0, shown, SL_OK);
                assert_memory_equal(shown->ids, whole->ids, (n_pages < 3 ? shown->n : before) * sizeof *shown->ids);
            }
            sl_session_free(session);
            free(shown);
        }
    sl_session_free(alone);
    free(whole);
}

/* Room is made whenever the context is full: the text goes on, as it is without until then. */
static void goes_on_when_the_context_is_full(void **state)
{
    (void)state;
    enum { N_CTX = 48, KEEP = 5, MADE = 400 };
    struct shown *shown = calloc(2, sizeof *shown), *whole = shown + 1;
    static sl_token first[MADE];
    sl_session *session = open_session(N_CTX), *large = open_session(256);
    sl_generate_options options = { .size = sizeof options, .max_tokens = MADE, .lookup = lookup, .on_text = on_text, .user = shown, .shift = KEEP };
    sl_generate_result r = { sizeof r };
    assert_int_equal(sl_generate(session, prompt, n_prompt, &options, &r), SL_OK);
    assert_true(r.finish == SL_FINISH_LENGTH && r.n_tokens == MADE && shown->n == MADE);
    assert_true(sl_session_length(session) <= N_CTX && sl_session_length(session) > N_CTX / 2);
    assert_memory_equal(sl_session_tokens(session), prompt, KEEP * sizeof *prompt);
    const size_t rest = sl_session_length(session) - KEEP;
    assert_memory_equal(sl_session_tokens(session) + KEEP, shown->ids + MADE - rest, rest * sizeof *prompt);
    run(large, prompt, n_prompt, N_CTX, NULL, NULL, 0, whole, SL_OK);
    assert_memory_equal(shown->ids, whole->ids, (N_CTX - n_prompt + 1) * sizeof *prompt);
    if (lookup)         /* with drafts as without */
        assert_memory_equal(shown->ids, first, sizeof first);
    memcpy(first, shown->ids, sizeof first);
    options.shift = N_CTX - 1;
    assert_int_equal(sl_generate(session, prompt, 1, &options, &r), SL_ERR_RANGE);
    options.shift = UINT32_MAX;
    assert_int_equal(sl_generate(session, prompt, 1, &options, &r), SL_ERR_RANGE);
    options.shift = 0, options.reserved = 1;
    assert_int_equal(sl_generate(session, prompt, 1, &options, &r), SL_ERR_ARGUMENT);
    sl_session_free(session);
    sl_session_free(large);
    free(shown);
}

static void refuses_a_prompt_that_does_not_fit(void **state)
{
    (void)state;
    struct shown *shown = calloc(1, sizeof *shown);
    sl_session *session = open_session((uint32_t)n_prompt - 1);
    run(session, prompt, n_prompt, 4, NULL, NULL, 0, shown, SL_ERR_FULL);
    assert_true(sl_session_length(session) == 0 && shown->n_calls == 0);
    sl_generate_result r = run(session, prompt, n_prompt - 2, 1, NULL, NULL, 0, shown, SL_OK);
    assert_true(r.n_tokens == 1 && sl_session_length(session) == n_prompt - 1);
    sl_session_free(session);
    free(shown);
}

static void ends_at_an_ending_token(void **state)
{
    (void)state;
    size_t ended = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct shown *shown = calloc(1, sizeof *shown);
        sl_sampler *sampler = hot(seed);
        sl_session *session = open_session(400);
        sl_generate_result r = run(session, prompt, n_prompt, 300, sampler, NULL, 0, shown, SL_OK);
        assert_true(r.finish == SL_FINISH_END || r.finish == SL_FINISH_LENGTH);
        if (r.finish == SL_FINISH_END) {
            ended++;
            assert_int_equal(r.n_tokens, shown->n + 1);
            assert_int_equal(sl_session_length(session), n_prompt + shown->n);
        }
        for (size_t i = 0; i < shown->n; i++)
            assert_false(sl_token_is_end(model, shown->ids[i]));
        sl_session_free(session);
        sl_sampler_free(sampler);
        free(shown);
    }
    assert_true(ended > 3);
}

static void stops_when_cancelled(void **state)
{
    (void)state;
    struct shown *shown = calloc(2, sizeof *shown), *whole = shown + 1;
    sl_session *session = open_session(256);
    run(session, prompt, n_prompt, 12, NULL, NULL, 0, whole, SL_OK);
    assert_int_equal(sl_session_rewind(session, 0), SL_OK);
    shown->cancel_at = 7;
    sl_generate_result r = run(session, prompt, n_prompt, 12, NULL, NULL, 0, shown, SL_ERR_CANCELLED);
    assert_true(r.n_tokens == 7 && shown->n == 7);
    assert_int_equal(sl_session_length(session), n_prompt + 6);     /* the seventh was chosen, not computed */
    shown->cancel_at = 0;
    run(session, &shown->ids[6], 1, 5, NULL, NULL, 0, shown, SL_OK);
    assert_memory_equal(shown->ids, whole->ids, 12 * sizeof *whole->ids);

    /* A request that comes before the call: nothing is computed. */
    assert_int_equal(sl_session_rewind(session, 0), SL_OK);
    sl_session_cancel(session);
    memset(shown, 0, sizeof *shown);
    run(session, prompt, n_prompt, 12, NULL, NULL, 0, shown, SL_ERR_CANCELLED);
    assert_true(sl_session_length(session) == 0 && shown->n_calls == 0);
    run(session, prompt, n_prompt, 12, NULL, NULL, 0, shown, SL_OK);
    assert_int_equal(shown->n, 12);
    sl_session_free(session);
    free(shown);
}

/* ---- stop strings ---- */

static int is_border(const struct shown *s, size_t at) { return at >= s->length || (s->text[at] & 0xc0) != 0x80; }

/* Bytes of `text` that may be shown: all but the longest end of it that is the beginning of a stop string. */
static size_t may_show(const char *text, size_t length, const char *const *stop, size_t n_stop)
{
    size_t hold = 0;
    for (size_t i = 0; i < n_stop; i++)
        for (size_t k = strlen(stop[i]) - 1; k > hold; k--)
            if (k <= length && memcmp(text + length - k, stop[i], k) == 0)
                hold = k;
    return length - hold;
}

/* Where the first stop string ends; of those that end there *start is the start of the longest. 0: there is none. */
static size_t find_stop(const char *text, size_t length, const char *const *stop, size_t n_stop, size_t *start)
{
    for (size_t end = 1; end <= length; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stop; i++) {
            size_t k = strlen(stop[i]);
            if (k <= end && k > longest && memcmp(text + end - k, stop[i], k) == 0)
                longest = k;
        }
        if (longest) {
            *start = end - longest;
            return end;
        }
    }
    return 0;
}

static void check_stops(const struct shown *free_run, uint64_t seed, uint32_t max_tokens, const char *const *stop, size_t n_stop)
{
    struct shown *shown = calloc(1, sizeof *shown);
    sl_sampler *sampler = hot(seed);
    sl_session *session = open_session(256);
    sl_generate_result r = run(session, prompt, n_prompt, max_tokens, sampler, stop, n_stop, shown, SL_OK);
    size_t start = 0, end = find_stop(free_run->text, free_run->length, stop, n_stop, &start);
    if (end && end <= free_run->lengths[free_run->n - 1]) {
        assert_int_equal(r.finish, SL_FINISH_STOP);
        assert_int_equal(shown->length, start);
        assert_int_equal(sl_session_length(session), n_prompt + shown->n - 1);      /* the token that completes it is not computed */
    } else if (!end) {
        assert_int_equal(shown->length, free_run->length);
        assert_int_equal(shown->n, free_run->n);
        assert_int_not_equal(r.finish, SL_FINISH_STOP);
    }
    assert_memory_equal(shown->text, free_run->text, shown->length);
    for (size_t i = 0; i < shown->n; i++) {
        assert_int_equal(shown->ids[i], free_run->ids[i]);
        if (!(r.finish == SL_FINISH_STOP && i + 1 == shown->n))
            assert_int_equal(shown->lengths[i], may_show(free_run->text, free_run->lengths[i], stop, n_stop));
    }
    sl_session_free(session);
    sl_sampler_free(sampler);
    free(shown);
}

/* Stop strings cut out of the text anywhere, alone and together with some that nearly occur. */
static void finds_stop_strings_anywhere(void **state)
{
    (void)state;
    uint32_t x = 1;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct shown *free_run = calloc(1, sizeof *free_run);
        sl_sampler *sampler = hot(seed);
        sl_session *session = open_session(256);
        run(session, prompt, n_prompt, 60, sampler, NULL, 0, free_run, SL_OK);
        sl_session_free(session);
        sl_sampler_free(sampler);
        for (int round = 0; round < 10 && free_run->length > 40 && !memchr(free_run->text, 0, free_run->length); round++) {
            char cut[3][64], almost[80];
            for (size_t i = 0; i < 3; i++) {
                x = x * 1664525u + 1013904223u;
                size_t from = (x >> 8) % (free_run->length - 30), to = from + 1 + (x >> 4) % 24;
                while (!is_border(free_run, from))
                    from--;
                while (!is_border(free_run, to))
                    to++;
                memcpy(cut[i], free_run->text + from, to - from);
                cut[i][to - from] = 0;
            }
            strcpy(almost, cut[0]);
            strcat(almost, "\xc3\xa9~");
            const char *const one[] = { cut[0] }, *const all[] = { almost, cut[1], "~none~", cut[2], cut[0] }, *const never[] = { almost, "~none~" };
            check_stops(free_run, seed, 60, one, COUNT(one));
            check_stops(free_run, seed, 60, all, COUNT(all));
            check_stops(free_run, seed, 60, never, COUNT(never));
        }
        free(free_run);
    }
}

/* ---- prompt lookup, and prompts that repeat what was said ---- */

/* Text that repeats itself is drafted, and stays what it was, however it is chosen. */
static void drafts_do_not_change_the_text(void **state)
{
    (void)state;
    const uint32_t before = lookup;
    uint32_t accepted = 0;
    for (int warm = 0; warm < 2; warm++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            struct shown *plain = calloc(2, sizeof *plain), *drafted = plain + 1;
            const double t = 0.7, k = 2;
            for (int with = 0; with < 2; with++) {
                sl_sampler *sampler;
                sl_session *session = open_session(400);
                assert_int_equal(sl_sampler_create(&sampler, n_vocab, seed, NULL), SL_OK);
                if (warm) {
                    assert_int_equal(sl_sampler_add(sampler, "top-k", &k, 1), SL_OK);
                    assert_int_equal(sl_sampler_add(sampler, "temp", &t, 1), SL_OK);
                }
                lookup = with ? 7 : 0;
                sl_generate_result r = run(session, prompt, n_prompt, 300, sampler, NULL, 0, with ? drafted : plain, SL_OK);
                accepted += r.n_accepted;
                assert_true(r.n_accepted <= r.n_drafts && (with || !r.n_drafts));
                assert_memory_equal(sl_session_tokens(session) + n_prompt, plain->ids, plain->n * sizeof *plain->ids);
                sl_session_free(session);
                sl_sampler_free(sampler);
            }
            assert_int_equal(plain->n, drafted->n);
            assert_memory_equal(plain->ids, drafted->ids, plain->n * sizeof *plain->ids);
            assert_string_equal(plain->text, drafted->text);
            free(plain);
        }
    assert_true(accepted > 20);
    lookup = before;
}

static void what_is_there_is_not_computed_again(void **state)
{
    (void)state;
    struct shown *once = calloc(2, sizeof *once), *again = once + 1;
    sl_generate_options options = SL_GENERATE_OPTIONS_INIT;
    sl_generate_result result = { sizeof result };
    sl_token ids[256];
    size_t n_kept;
    sl_session *session = open_session(256), *fresh = open_session(256);
    sl_generate_result r = run(session, prompt, n_prompt, 10, NULL, NULL, 0, once, SL_OK);
    memcpy(ids, sl_session_tokens(session), (n_prompt + 10) * sizeof *ids);
    ids[n_prompt + 4] = ids[n_prompt + 4] == 300 ? 301 : 300;      /* from there on another text */
    options.max_tokens = 12;
    options.reuse = 1;
    options.on_text = on_text;
    options.user = again;
    options.lookup = lookup;
    assert_int_equal(sl_generate(session, ids, n_prompt + 8, &options, &result), SL_OK);
    assert_int_equal(result.n_kept, n_prompt + 4);
    assert_int_equal(result.n_prompt, 4);
    memset(once, 0, sizeof *once);
    r = run(fresh, ids, n_prompt + 8, 12, NULL, NULL, 0, once, SL_OK);
    assert_int_equal(r.n_tokens, result.n_tokens);
    assert_memory_equal(once->ids, again->ids, once->n * sizeof *once->ids);
    /* The same prompt again: its last token is computed all the same. A shorter one goes back. */
    assert_int_equal(sl_session_keep_prefix(session, ids, n_prompt + 8, &n_kept), SL_OK);
    assert_int_equal(n_kept, n_prompt + 7);
    assert_int_equal(sl_session_keep_prefix(session, ids, 1, &n_kept), SL_OK);
    assert_int_equal(n_kept, 0);
    assert_int_equal(sl_session_length(session), 0);
    assert_int_equal(sl_session_keep_prefix(session, NULL, 0, &n_kept), SL_OK);
    assert_int_equal(sl_session_keep_prefix(NULL, ids, 1, &n_kept), SL_ERR_ARGUMENT);
    options.lookup = 65;
    assert_int_equal(sl_generate(session, ids, 4, &options, &result), SL_ERR_LIMIT);
    options.lookup = 0;
    options.reuse = 2;
    assert_int_equal(sl_generate(session, ids, 4, &options, &result), SL_ERR_ARGUMENT);
    sl_session_free(session);
    sl_session_free(fresh);
    free(once);
}

/* ---- misuse ---- */

static void refuses_bad_arguments(void **state)
{
    (void)state;
    static const char *const too_many[65] = { "a" }, *const hole[] = { "a", NULL }, *const nothing[] = { "" };
    static const char *const broken[] = { "a\xc3" }, *const middle[] = { "\xa9" }, *const over_long[] = { "\xc0\xaf" };
    const sl_token bad_ids[] = { 1, -1 }, far_ids[] = { 1, (sl_token)n_vocab };
    sl_sampler *other;
    assert_int_equal(sl_sampler_create(&other, n_vocab + 1, 0, NULL), SL_OK);
    const struct { const sl_token *ids; size_t n; sl_generate_options options; sl_status status; } rows[] = {
        { NULL, 2, SL_GENERATE_OPTIONS_INIT, SL_ERR_ARGUMENT },
        { prompt, 0, SL_GENERATE_OPTIONS_INIT, SL_ERR_ARGUMENT },
        { bad_ids, 2, SL_GENERATE_OPTIONS_INIT, SL_ERR_RANGE },
        { far_ids, 2, SL_GENERATE_OPTIONS_INIT, SL_ERR_RANGE },
        { prompt, 2, { .size = 3 }, SL_ERR_ARGUMENT },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = NULL, .n_stop = 1 }, SL_ERR_ARGUMENT },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = too_many, .n_stop = 65 }, SL_ERR_ARGUMENT },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = too_many, .n_stop = SIZE_MAX }, SL_ERR_ARGUMENT },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = hole, .n_stop = 2 }, SL_ERR_ARGUMENT },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = nothing, .n_stop = 1 }, SL_ERR_ARGUMENT },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = broken, .n_stop = 1 }, SL_ERR_UTF8 },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = middle, .n_stop = 1 }, SL_ERR_UTF8 },
        { prompt, 2, { .size = sizeof(sl_generate_options), .stop = over_long, .n_stop = 1 }, SL_ERR_UTF8 },
        { prompt, 2, { .size = sizeof(sl_generate_options), .sampler = other }, SL_ERR_ARGUMENT },
    };
    sl_session *session = open_session(64);
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_generate_result result = { sizeof result };
        sl_status status = sl_generate(session, rows[i].ids, rows[i].n, &rows[i].options, &result);
        if (status != rows[i].status)
            fail_msg("row %zu: %s: %s", i, sl_status_name(status), sl_last_error());
        assert_true(result.n_tokens == 0 && result.n_prompt == 0 && sl_session_length(session) == 0);
    }
    sl_generate_result no_size = { 0 };
    assert_int_equal(sl_generate(session, prompt, n_prompt, NULL, &no_size), SL_ERR_ARGUMENT);
    assert_int_equal(sl_session_length(session), 0);
    assert_int_equal(sl_generate(NULL, prompt, n_prompt, NULL, NULL), SL_ERR_ARGUMENT);

    /* A result of an older program: only its own bytes are written. */
    sl_generate_result old;
    memset(&old, 0xaa, sizeof old);
    old.size = offsetof(sl_generate_result, n_prompt);
    sl_generate_options options = SL_GENERATE_OPTIONS_INIT;
    options.max_tokens = 1;
    assert_int_equal(sl_generate(session, prompt, n_prompt, &options, &old), SL_OK);
    assert_true(old.finish == SL_FINISH_LENGTH && old.n_prompt == 0xaaaaaaaa && old.size == offsetof(sl_generate_result, n_prompt));
    sl_session_free(session);
    sl_sampler_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_by_length_and_goes_on),
        cmocka_unit_test(ends_when_the_callback_says_so),
        cmocka_unit_test(ends_when_the_context_is_full),
        cmocka_unit_test(ends_when_the_shared_cache_is_full),
        cmocka_unit_test(goes_on_when_the_context_is_full),
        cmocka_unit_test(refuses_a_prompt_that_does_not_fit),
        cmocka_unit_test(ends_at_an_ending_token),
        cmocka_unit_test(stops_when_cancelled),
        cmocka_unit_test(finds_stop_strings_anywhere),
        cmocka_unit_test(refuses_bad_arguments),
        cmocka_unit_test(drafts_do_not_change_the_text),
        cmocka_unit_test(what_is_there_is_not_computed_again),
    };
    static const uint32_t lookups[] = { 0, 5 };
    int failed = 0;
    for (size_t i = 0; i < COUNT(lookups); i++) {
        lookup = lookups[i];
        failed += cmocka_run_group_tests(tests, load, unload);
    }
    return failed;
}
