/* SPDX-License-Identifier: MIT */
/* embed.c - vectors of texts through the interface: they are what logits are made of, pooled as the definition says; the same bits whatever stands beside a text; sequences that are
 * in use are not touched; calls that fail leave the session as it was. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "eval.h"
#include "random.h"
#include "sanitized.h"
#include "tiny.h"

enum { N_VOCAB = 40, N_EMBD = 64, N_CTX = 200, N_TEXTS = 12, N_IDS = 700 };
static const tiny_shape shape = { .n_embd = N_EMBD, .n_head = 2, .n_head_kv = 1, .n_vocab = N_VOCAB };
static unsigned char *file;
static size_t file_bytes;
static float *output;           /* [N_EMBD, N_VOCAB] output.weight of that file */

static sl_token ids[N_IDS];
static size_t lengths[N_TEXTS], n_ids;
static float tokens[N_IDS][N_EMBD];             /* of every token, not normalised: each text alone */

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

static sl_session *open_session(sl_model *model, uint32_t n_seq, uint32_t n_batch, uint32_t n_shared)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = n_batch, .n_seq = n_seq, .n_ctx_shared = n_shared };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, model, &o), SL_OK);
    return session;
}

static const sl_embed_options none = { .size = sizeof none, .pooling = "none", .flags = SL_EMBED_RAW };

/* Twelve texts of 1 to N_CTX tokens, and what each token of each of them gives alone. */
static int prepare(void **state)
{
    (void)state;
    uint64_t seed = 5;
    tiny *t = tiny_create(&shape);
    const tiny_tensor *w = tiny_find(t, "output.weight");
    output = malloc(w->bytes);
    file = tiny_write(t, &file_bytes);
    if (!output || !file)
        return 1;
    memcpy(output, w->data, w->bytes);
    tiny_free(t);
    for (size_t i = 0; i < N_TEXTS; i++) {
        lengths[i] = i == 2 ? 1 : i == 5 ? N_CTX : 1 + random_below(&seed, 80);
        n_ids += lengths[i];
    }
    if (n_ids > N_IDS)
        return 1;
    for (size_t i = 0; i < n_ids; i++)
        ids[i] = (sl_token)random_below(&seed, N_VOCAB);
    sl_model *model = load("scalar", 1);
    sl_session *session = open_session(model, 1, 512, 0);
    for (size_t i = 0, at = 0; i < N_TEXTS; at += lengths[i++])
        STATUS(sl_session_embed(session, ids + at, &lengths[i], 1, &none, tokens[at], lengths[i]), SL_OK);
    sl_session_free(session);
    sl_model_free(model);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    free(file);
    free(output);
    return 0;
}

/* ---- what they are ---- */

/* The output matrix times a token's vector gives its logits. */
static void what_logits_are_made_of(void **state)
{
    (void)state;
    static float logits[N_CTX][N_VOCAB];
    sl_model *model = load(NULL, 2);
    sl_session *session = open_session(model, 1, 64, 0);
    double worst = 0;
    for (size_t i = 0, at = 0; i < N_TEXTS; at += lengths[i++]) {
        STATUS(sl_session_rewind(session, 0), SL_OK);
        STATUS(sl_session_eval(session, ids + at, lengths[i], logits[0], lengths[i]), SL_OK);
        for (size_t t = 0; t < lengths[i]; t++)
            for (size_t v = 0; v < N_VOCAB; v++) {
                double y = 0;
                for (size_t k = 0; k < N_EMBD; k++)
                    y += (double)output[v * N_EMBD + k] * (double)tokens[at + t][k];
                worst = fmax(worst, fabs(y - (double)logits[t][v]));
            }
    }
    print_message("logits from vectors: off by %.1e\n", worst);
    assert_true(worst < 1e-5);
    sl_session_free(session);
    sl_model_free(model);
}

static double length_of(const float *x)
{
    double ss = 0;
    for (size_t i = 0; i < N_EMBD; i++)
        ss += (double)x[i] * (double)x[i];
    return sqrt(ss);
}

/* `got` is `raw`, divided by its length. */
static void is_normalised(const float *got, const float *raw)
{
    for (size_t i = 0; i < N_EMBD; i++)
        assert_true(fabs((double)got[i] - (double)raw[i] / length_of(raw)) < 2e-7);
    assert_true(fabs(length_of(got) - 1) < 2e-7);
}

static void pooled(void **state)
{
    (void)state;
    static float raw[N_IDS][N_EMBD], unit[N_IDS][N_EMBD];
    static const char *const names[] = { "mean", "last", "none" };
    sl_model *model = load(NULL, 1);
    sl_session *session = open_session(model, 4, 100, 0);
    for (size_t p = 0; p < COUNT(names); p++) {
        const sl_embed_options plain = { .size = sizeof plain, .pooling = names[p] }, as_it_is = { .size = sizeof plain, .pooling = names[p], .flags = SL_EMBED_RAW };
        const int apart = !strcmp(names[p], "none");
        const size_t n = apart ? n_ids : N_TEXTS;
        STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &plain, unit[0], n), SL_OK);
        STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &as_it_is, raw[0], n), SL_OK);
        for (size_t i = 0; i < n; i++)
            is_normalised(unit[i], raw[i]);
        if (apart)
            assert_memory_equal(raw, tokens, n_ids * sizeof tokens[0]);
        for (size_t i = 0, at = 0; !apart && i < N_TEXTS; at += lengths[i++])
            for (size_t k = 0; k < N_EMBD; k++) {
                double sum = 0;
                for (size_t t = 0; t < lengths[i]; t++)
                    sum += (double)tokens[at + t][k];
                const float mean = (float)(sum / (double)lengths[i]), wanted = p ? tokens[at + lengths[i] - 1][k] : mean;
                assert_memory_equal(&raw[i][k], &wanted, sizeof wanted);
            }
    }
    STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, NULL, raw[0], N_TEXTS), SL_OK);         /* the default is the mean, normalised */
    STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &(sl_embed_options) { .size = sizeof none, .pooling = "mean" }, unit[0], N_TEXTS), SL_OK);
    assert_memory_equal(raw, unit, N_TEXTS * sizeof raw[0]);
    sl_session_free(session);
    sl_model_free(model);
}

/* A vector whose squares are no floats any more still gets its length; one of zeros stays. */
static void of_any_size(void **state)
{
    (void)state;
    static const float factors[] = { 1e-30f, 1e25f, 0 };
    static float raw[N_TEXTS][N_EMBD], unit[N_TEXTS][N_EMBD];
    for (size_t f = 0; f < COUNT(factors); f++) {
        size_t bytes;
        tiny *t = tiny_create(&shape);
        tiny_tensor *norm = tiny_find(t, "output_norm.weight");
        for (size_t i = 0; i < N_EMBD; i++) {
            float x;
            memcpy(&x, norm->data + i * sizeof x, sizeof x);
            x *= factors[f];
            memcpy(norm->data + i * sizeof x, &x, sizeof x);
        }
        unsigned char *data = tiny_write(t, &bytes);
        tiny_free(t);
        sl_model *model = NULL;
        STATUS(eval_load(&model, NULL, data, bytes, &(eval_how) { .n_threads = 1 }), SL_OK);
        sl_session *session = open_session(model, 4, 64, 0);
        STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &(sl_embed_options) { .size = sizeof none, .flags = SL_EMBED_RAW }, raw[0], N_TEXTS), SL_OK);
        STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, NULL, unit[0], N_TEXTS), SL_OK);
        for (size_t i = 0; i < N_TEXTS; i++)
            if (factors[f] > 0)
                is_normalised(unit[i], raw[i]);
            else
                assert_true(length_of(unit[i]) == 0 && length_of(raw[i]) == 0);
        sl_session_free(session);
        sl_model_free(model);
        free(data);
    }
}

/* ---- the same bits ---- */

static void same_bits(void **state)
{
    (void)state;
    static const struct { uint32_t n_threads, n_seq, n_batch, n_shared; } ways[] = { { 1, 1, 1, 0 }, { 2, 1, 7, 0 }, { 1, 3, 64, 0 }, { 3, 8, 512, 0 }, { 2, 12, 33, 0 }, { 2, 8, 300, N_CTX + 60 } };
    static float got[N_IDS][N_EMBD], mean[N_TEXTS][N_EMBD], expected[N_TEXTS][N_EMBD];
    int have_expected = 0;
    for (const char *const *level = eval_levels; *level; level++)
        for (size_t w = 0; w < COUNT(ways); w++) {
            sl_model *model = load(*level, ways[w].n_threads);
            if (!model)
                break;
            sl_session *session = open_session(model, ways[w].n_seq, ways[w].n_batch, ways[w].n_shared);
            STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &none, got[0], n_ids), SL_OK);
            assert_memory_equal(got, tokens, n_ids * sizeof got[0]);
            STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, NULL, mean[0], N_TEXTS), SL_OK);
            if (!have_expected++)
                memcpy(expected, mean, sizeof expected);
            assert_memory_equal(mean, expected, sizeof mean);
            for (uint32_t q = 0; q < ways[w].n_seq; q++)
                assert_int_equal(sl_seq_length(session, q), 0);
            assert_int_equal(sl_session_free_positions(session), ways[w].n_shared ? (ways[w].n_shared + 63) / 64 * 64 : (N_CTX + 63) / 64 * 64 * ways[w].n_seq);
            sl_session_free(session);
            sl_model_free(model);
        }
}

/* Several short texts are computed in one pass. */
static void side_by_side(void **state)
{
    (void)state;
    static float got[N_TEXTS][N_EMBD];
    const size_t four[] = { 1, 1, 1, 1 };
    sl_model *model = load(NULL, 1);
    for (uint32_t n_seq = 1; n_seq <= 4; n_seq *= 2) {
        sl_session *session = open_session(model, n_seq, 64, 0);
        sl_session_stats stats = { .size = sizeof stats };
        STATUS(sl_session_embed(session, ids, four, 4, NULL, got[0], 4), SL_OK);
        STATUS(sl_session_get_stats(session, &stats), SL_OK);
        assert_int_equal(stats.n_passes, 4 / n_seq);
        assert_int_equal(stats.n_tokens, 4);
        sl_session_free(session);
    }
    sl_model_free(model);
}

/* Sequences with a text of their own go on as if nothing had been. */
static void others_stay(void **state)
{
    (void)state;
    static float got[N_IDS][N_EMBD];
    float alone[2][N_VOCAB], beside[2][N_VOCAB];
    sl_model *model = load(NULL, 2);
    sl_session *session = open_session(model, 4, 50, 0);
    const uint32_t seqs[] = { 0, 2 };
    const uint8_t wanted[] = { 1, 1 };
    for (int with = 0; with < 2; with++) {
        for (uint32_t q = 0; q < 4; q++)
            STATUS(sl_seq_rewind(session, q, 0), SL_OK);
        for (size_t i = 0; i < 70; i++)
            STATUS(sl_session_eval_batch(session, ids + i, seqs + i % 2, NULL, 1, NULL), SL_OK);
        if (with) {
            STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &none, got[0], n_ids), SL_OK);
            assert_memory_equal(got, tokens, n_ids * sizeof got[0]);
            STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &none, got[0], n_ids - 1), SL_ERR_BUFFER);
        }
        assert_int_equal(sl_seq_length(session, 0), 35);
        assert_int_equal(sl_seq_length(session, 2), 35);
        STATUS(sl_session_eval_batch(session, ids, seqs, wanted, 2, with ? beside[0] : alone[0]), SL_OK);
    }
    assert_memory_equal(alone, beside, sizeof alone);
    /* No sequence is left. */
    STATUS(sl_session_eval_batch(session, ids, (uint32_t[]) { 1, 3 }, NULL, 2, NULL), SL_OK);
    STATUS(sl_session_embed(session, ids, lengths, 1, NULL, got[0], 1), SL_ERR_STATE);
    sl_session_free(session);
    sl_model_free(model);
}

/* ---- what the file says ---- */

static void what_the_file_says(void **state)
{
    (void)state;
    static const struct { uint32_t number; const char *as; } rows[] = { { 0, "mean" }, { 1, "mean" }, { 3, "last" }, { 2, NULL }, { 4, NULL }, { UINT32_MAX, "mean" } };
    static float got[N_TEXTS][N_EMBD], expected[N_TEXTS][N_EMBD];
    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t bytes;
        tiny *t = tiny_create(&shape);
        if (rows[i].number != UINT32_MAX)
            tiny_put_u32(t, "llama.pooling_type", rows[i].number);
        unsigned char *data = tiny_write(t, &bytes);
        tiny_free(t);
        sl_model *model = NULL;
        STATUS(eval_load(&model, NULL, data, bytes, &(eval_how) { .n_threads = 1 }), SL_OK);
        sl_session *session = open_session(model, 2, 64, 0);
        STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, NULL, got[0], N_TEXTS), rows[i].as ? SL_OK : SL_ERR_UNSUPPORTED);
        STATUS(sl_session_embed(session, ids, lengths, N_TEXTS, &(sl_embed_options) { .size = sizeof none, .pooling = rows[i].as ? rows[i].as : "last" }, expected[0], N_TEXTS), SL_OK);
        if (rows[i].as)
            assert_memory_equal(got, expected, sizeof got);
        sl_session_free(session);
        sl_model_free(model);
        free(data);
    }
}

/* ---- misuse and failure ---- */

static void refused(void **state)
{
    (void)state;
    static float got[N_IDS][N_EMBD];
    sl_model *model = load(NULL, 1);
    sl_session *session = open_session(model, 2, 64, N_CTX);
    sl_token wrong[] = { 1, 2, N_VOCAB, 3 };
    const size_t two[] = { 2, 2 }, empty[] = { 2, 0 }, long_text[] = { N_CTX + 1 }, huge[] = { 2, SIZE_MAX };
    sl_embed_options o = SL_EMBED_OPTIONS_INIT;
    STATUS(sl_embed_options_default(&o, sizeof o), SL_OK);
    STATUS(sl_embed_options_default(NULL, sizeof o), SL_ERR_ARGUMENT);
    STATUS(sl_session_embed(NULL, ids, two, 2, NULL, got[0], 2), SL_ERR_ARGUMENT);
    STATUS(sl_session_embed(session, NULL, two, 2, NULL, got[0], 2), SL_ERR_ARGUMENT);
    STATUS(sl_session_embed(session, ids, NULL, 2, NULL, got[0], 2), SL_ERR_ARGUMENT);
    STATUS(sl_session_embed(session, ids, two, 2, NULL, NULL, 2), SL_ERR_ARGUMENT);
    STATUS(sl_session_embed(session, ids, two, 2, NULL, got[0], 1), SL_ERR_BUFFER);
    STATUS(sl_session_embed(session, ids, empty, 2, NULL, got[0], 2), SL_ERR_ARGUMENT);
    STATUS(sl_session_embed(session, ids, long_text, 1, NULL, got[0], 1), SL_ERR_FULL);
    STATUS(sl_session_embed(session, ids, huge, 2, NULL, got[0], 2), SL_ERR_FULL);
    STATUS(sl_session_embed(session, wrong, two, 2, NULL, got[0], 2), SL_ERR_RANGE);
    o.pooling = "cls";
    STATUS(sl_session_embed(session, ids, two, 2, &o, got[0], 2), SL_ERR_ARGUMENT);
    o = (sl_embed_options) { .size = sizeof o, .flags = 2 };
    STATUS(sl_session_embed(session, ids, two, 2, &o, got[0], 2), SL_ERR_ARGUMENT);
    o = (sl_embed_options) { .size = sizeof o, .reserved = 1 };
    STATUS(sl_session_embed(session, ids, two, 2, &o, got[0], 2), SL_ERR_ARGUMENT);
    o = (sl_embed_options) { .size = 3 };
    STATUS(sl_session_embed(session, ids, two, 2, &o, got[0], 2), SL_ERR_ARGUMENT);
    STATUS(sl_session_embed(session, NULL, NULL, 0, NULL, NULL, 0), SL_OK);
    /* Sequence 1 has all pages but one. */
    static uint32_t ones[130];
    for (size_t i = 0; i < COUNT(ones); i++)
        ones[i] = 1;
    STATUS(sl_session_eval_batch(session, ids, ones, NULL, COUNT(ones), NULL), SL_OK);
    STATUS(sl_session_embed(session, ids, (size_t[]) { 65 }, 1, NULL, got[0], 1), SL_ERR_FULL);
    STATUS(sl_session_embed(session, ids, (size_t[]) { 64 }, 1, NULL, got[0], 1), SL_OK);
    /* Whoever cancelled before is heard first; the call after it is whole. */
    sl_session_cancel(session);
    STATUS(sl_session_embed(session, ids, two, 2, NULL, got[0], 2), SL_ERR_CANCELLED);
    assert_int_equal(sl_seq_length(session, 0), 0);
    STATUS(sl_session_embed(session, ids, two, 2, NULL, got[0], 2), SL_OK);
    sl_session_free(session);
    sl_model_free(model);
}

static void memory_fails(void **state)
{
    (void)state;
    static float got[N_IDS][N_EMBD];
    counting c = { 0 };
    const sl_allocator allocator = counting_allocator(&c);
    const sl_source source = source_of(file, file_bytes), *const sources[] = { &source };
    const sl_model_options mo = { .size = sizeof mo, .n_threads = 1, .allocator = &allocator };
    sl_model *model = NULL;
    STATUS(sl_model_load_sources(&model, sources, 1, &mo), SL_OK);
    sl_session *session = open_session(model, 3, 64, 0);
    const size_t blocks = c.live_blocks, bytes = c.live_bytes;
    size_t n = 1;
    for (sl_status status = SL_ERR_NOMEM; status != SL_OK; n++) {
        c.fail_at = c.calls + n, c.fail_for = 1;
        status = sl_session_embed(session, ids, lengths, N_TEXTS, &none, got[0], n_ids);
        c.fail_at = 0;
        if (status != SL_OK)
            STATUS(status, SL_ERR_NOMEM);
        assert_int_equal(c.live_blocks, blocks);
        assert_int_equal(c.live_bytes, bytes);
    }
    assert_true(n > 2);
    assert_memory_equal(got, tokens, n_ids * sizeof got[0]);
    sl_session_free(session);
    sl_model_free(model);
    counting_check_none(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_logits_are_made_of), cmocka_unit_test(pooled), cmocka_unit_test(of_any_size), cmocka_unit_test(same_bits), cmocka_unit_test(side_by_side),
                                        cmocka_unit_test(others_stay), cmocka_unit_test(what_the_file_says), cmocka_unit_test(refused), cmocka_unit_test(memory_fails) };
    return cmocka_run_group_tests(tests, prepare, finish);
}
