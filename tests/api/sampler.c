/* SPDX-License-Identifier: MIT */
/* sampler.c - samplers on a model of random weights (its path stands in SL_TINY), as a program uses them: breakers by text, a history that is the session's
 * timeline, drafts that change nothing, and log-probabilities through a step of the program. */
#include <math.h>
#include "random_model.h"

enum { MOST = 256 };

static int load(void **state) { return (void)state, load_model("The rover follows the ridge, and the rover follows the", 1); }

static const struct given { const char *name; double params[4]; size_t n; } steps[] = {
    { "logit-bias", { 20, 1.5, 40, -INFINITY }, 4 }, { "penalties", { 12, 1.3, 0.2, 0.1 }, 4 }, { "dry", { 0.7, 1.6, 1, 60 }, 4 }, { "top-n-sigma", { 3 }, 1 },
    { "typical", { 0.97 }, 1 }, { "xtc", { 0.4, 0.05 }, 2 }, { "dynatemp", { 0.9, 0.6, 1 }, 3 }, { "mirostat-v2", { 2.5, 0.2 }, 2 },
};

static sl_sampler *make(uint64_t seed)
{
    sl_sampler *s;
    assert_int_equal(sl_sampler_create(&s, n_vocab, seed, NULL), SL_OK);
    for (size_t i = 0; i < COUNT(steps); i++)
        assert_int_equal(sl_sampler_add(s, steps[i].name, steps[i].params, steps[i].n), SL_OK);
    assert_int_equal(sl_sampler_add_breaker(s, model, "n", 1), SL_OK);
    return s;
}

static sl_session *open_session(void)
{
    sl_session_options options = SL_SESSION_OPTIONS_INIT;
    options.n_ctx = MOST;
    sl_session *session;
    assert_int_equal(sl_session_create(&session, model, &options), SL_OK);
    return session;
}

/* The loop of a program that does everything itself: text[*n] goes on by `most` tokens or to an end. */
static void by_hand(sl_sampler *s, sl_token *text, size_t *n, size_t most)
{
    float *row = calloc(n_vocab, sizeof *row);
    sl_session *session = open_session();
    assert_int_equal(sl_session_eval(session, text, *n, row, 1), SL_OK);
    for (size_t k = 0; k < most; k++) {
        sl_token id;
        assert_int_equal(sl_sampler_sample(s, row, &id), SL_OK);
        if (sl_token_is_end(model, id))
            break;
        text[(*n)++] = id;
        assert_int_equal(sl_session_eval(session, &id, 1, row, 1), SL_OK);
    }
    sl_session_free(session);
    free(row);
}

static void generating_is_sampling_with_the_whole_timeline(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        sl_token text[MOST];
        size_t n = n_prompt, n_first;
        sl_sampler *s = make(seed);
        memcpy(text, prompt, n * sizeof *text);
        assert_int_equal(sl_sampler_accept(s, text, n), SL_OK);
        by_hand(s, text, &n, 50);
        n_first = n;
        /* A second turn: more of a prompt, which a program tells the sampler by itself. */
        memcpy(text + n, prompt + 1, 5 * sizeof *text);
        assert_int_equal(sl_sampler_accept(s, prompt + 1, 5), SL_OK);
        n += 5;
        by_hand(s, text, &n, 40);
        sl_sampler_free(s);
        for (uint32_t way = 0; way < 4; way++) {        /* without and with drafts, appended and as a whole */
            sl_generate_options options = SL_GENERATE_OPTIONS_INIT;
            sl_session *session = open_session();
            s = make(seed);
            assert_int_equal(sl_sampler_accept(s, prompt, 3), SL_OK);       /* the timeline takes its place */
            options.sampler = s;
            options.lookup = way & 1 ? 8 : 0;
            options.max_tokens = 50;
            assert_int_equal(sl_generate(session, prompt, n_prompt, &options, NULL), SL_OK);
            assert_int_equal(sl_session_length(session), n_first);
            options.max_tokens = 40;
            options.reuse = way >> 1;
            assert_int_equal(options.reuse ? sl_generate(session, text, n_first + 5, &options, NULL) : sl_generate(session, prompt + 1, 5, &options, NULL), SL_OK);
            assert_int_equal(sl_session_length(session), n);
            assert_memory_equal(sl_session_tokens(session), text, n * sizeof *text);
            sl_sampler_free(s);
            sl_session_free(session);
        }
    }
}

/* ---- breakers ---- */

static int32_t copy_row(float *logits, uint32_t n, void *user)
{
    memcpy(user, logits, n * sizeof *logits);
    return 0;
}

static int holds(sl_token id, const char *text)
{
    char piece[256];
    size_t length, n = strlen(text);
    assert_int_equal(sl_decode(model, &id, 1, SL_DECODE_SPECIAL | SL_DECODE_KEEP_SPACE, piece, sizeof piece, &length), SL_OK);
    for (size_t i = 0; i + n <= length; i++)
        if (memcmp(piece + i, text, n) == 0)
            return 1;
    return 0;
}

/* In the text "a b a", b is penalised unless it breaks off or a does. */
static void breakers_are_found_by_text(void **state)
{
    (void)state;
    static const char *const texts[] = { "ro", "\n", "</s>", " " };
    const double dry[] = { 1, 2, 1, 8 };
    float *zero = calloc(n_vocab, sizeof *zero), *after = calloc(n_vocab, sizeof *after);
    for (size_t t = 0; t < COUNT(texts); t++) {
        sl_token a = 0, other;
        size_t n_found = 0, n;
        sl_sampler *s;
        assert_int_equal(sl_sampler_create(&s, n_vocab, 0, NULL), SL_OK);
        assert_int_equal(sl_sampler_add(s, "dry", dry, 4), SL_OK);
        assert_int_equal(sl_sampler_add_callback(s, copy_row, after), SL_OK);
        assert_int_equal(sl_sampler_add_breaker(s, model, texts[t], strlen(texts[t])), SL_OK);
        while (holds(a, texts[t]))
            a++;
        for (sl_token b = 0; b < (sl_token)n_vocab; b++) {
            const sl_token text[] = { a, b, a }, turned[] = { b, a, b };
            const int broken = holds(b, texts[t]);
            if (a == b)
                continue;
            n_found += (size_t)broken;
            for (int way = 0; way < 2; way++) {
                assert_int_equal(sl_sampler_reset(s, 0), SL_OK);
                assert_int_equal(sl_sampler_accept(s, way ? turned : text, 3), SL_OK);
                assert_int_equal(sl_sampler_candidates(s, zero, &other, after, 0, &n), SL_ERR_BUFFER);
                assert_true(after[way ? a : b] == (broken ? 0.0f : -1.0f));
            }
        }
        assert_true(n_found > 0);
        sl_sampler_free(s);
    }
    free(zero);
    free(after);
}

static void refuses_bad_breakers(void **state)
{
    (void)state;
    sl_model_options options = SL_MODEL_OPTIONS_INIT;
    sl_model *bare;
    sl_sampler *s;
    options.parts = SL_PARTS_METADATA;
    assert_int_equal(sl_model_load(&bare, getenv("SL_TINY"), &options), SL_OK);
    assert_int_equal(sl_sampler_create(&s, 3, 0, NULL), SL_OK);         /* fewer than the vocabulary has: the others are passed over */
    assert_int_equal(sl_sampler_add_breaker(NULL, model, "a", 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_add_breaker(s, NULL, "a", 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_add_breaker(s, model, NULL, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_add_breaker(s, model, "", 0), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_add_breaker(s, model, "\xff\0zz", 4), SL_ERR_MISSING);
    assert_int_equal(sl_sampler_add_breaker(s, bare, "a", 1), SL_ERR_STATE);
    assert_int_equal(sl_sampler_add_breaker(s, model, "</s>", 4), SL_OK);
    assert_int_equal(sl_sampler_add_breaker(s, model, "rover", 5), SL_ERR_MISSING);
    sl_sampler_free(s);
    sl_model_free(bare);
}

/* ---- log-probabilities of what is generated ---- */

struct seen { float *row; sl_token best; float log_probs[3]; size_t n; };

static int32_t watch(float *logits, uint32_t n, void *user)
{
    struct seen *seen = user;
    sl_token ids[3];
    if (sl_logits_top(logits, n, ids, seen->log_probs, 3) != SL_OK)
        return 1;
    seen->best = ids[0];
    seen->n++;
    memcpy(seen->row, logits, n * sizeof *logits);
    return 0;
}

static int32_t compare(const char *text, size_t length, sl_token id, void *user)
{
    const struct seen *seen = user;
    float log_prob;
    (void)text, (void)length;
    if (id == SL_TOKEN_NONE)
        return 0;
    assert_int_equal(id, seen->best);       /* temperature 0 */
    assert_int_equal(sl_logits_log_probs(seen->row, n_vocab, &id, 1, &log_prob), SL_OK);
    assert_true(log_prob == seen->log_probs[0] && log_prob < 0 && seen->log_probs[1] <= log_prob && seen->log_probs[2] <= seen->log_probs[1]);
    return 0;
}

static void a_step_sees_what_the_model_gave(void **state)
{
    (void)state;
    struct seen seen = { .row = calloc(n_vocab, sizeof *seen.row) };
    sl_generate_options options = SL_GENERATE_OPTIONS_INIT;
    sl_generate_result result = { sizeof result };
    sl_session *session = open_session();
    const double t = 0;
    assert_int_equal(sl_sampler_create(&options.sampler, n_vocab, 0, NULL), SL_OK);
    assert_int_equal(sl_sampler_add_callback(options.sampler, watch, &seen), SL_OK);
    assert_int_equal(sl_sampler_add(options.sampler, "temp", &t, 1), SL_OK);
    options.on_text = compare;
    options.user = &seen;
    options.max_tokens = 30;
    options.lookup = 6;
    assert_int_equal(sl_generate(session, prompt, n_prompt, &options, &result), SL_OK);
    assert_int_equal(seen.n, result.n_tokens);
    sl_session_free(session);
    sl_sampler_free(options.sampler);
    free(seen.row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generating_is_sampling_with_the_whole_timeline),
        cmocka_unit_test(breakers_are_found_by_text),
        cmocka_unit_test(refuses_bad_breakers),
        cmocka_unit_test(a_step_sees_what_the_model_gave),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
