/* SPDX-License-Identifier: MIT */
/* sample_history.c - penalties, dry and logit bias against plain definitions, over histories that are longer than what a step looks at, come in
 * pieces of any size, and hold tokens that the vocabulary lacks. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "sample_step.h"

enum { VOCAB = 12, MOST = 400 };

static uint32_t lcg(uint32_t *x) { return *x = *x * 1664525u + 1013904223u; }
static double uniform(uint32_t *x) { return (double)(lcg(x) >> 8) * 0x1p-24; }

static int32_t copy_row(float *logits, uint32_t n_vocab, void *user)
{
    memcpy(user, logits, n_vocab * sizeof *logits);
    return 0;
}

static sl_sampler *make(uint32_t n_vocab)
{
    sl_sampler *s;
    assert_int_equal(sl_sampler_create(&s, n_vocab, 0, NULL), SL_OK);
    return s;
}

static void look(sl_sampler *s, const float *logits)
{
    size_t n;
    const sl_status status = sl_sampler_candidates(s, logits, NULL, NULL, 0, &n);
    assert_true(status == SL_ERR_BUFFER);
}

/* ---- plain definitions ---- */

static void plain_penalties(double *x, const sl_token *ids, int n, const double *a)
{
    const int from = a[0] < n ? n - (int)a[0] : 0;
    for (int t = 0; t < VOCAB; t++) {
        int count = 0;
        for (int i = from; i < n; i++)
            count += ids[i] == t;
        if (count)
            x[t] = (x[t] > 0 ? x[t] / a[1] : x[t] * a[1]) - count * a[2] - a[3];
    }
}

/* For each token: the longest stretch in front of one of its places that the text also ends with, and that holds no breaker. */
static void plain_dry(double *x, const sl_token *ids, int n, const double *a, unsigned breakers)
{
    const int from = a[3] < n ? n - (int)a[3] : 0;
    for (int t = 0; t < VOCAB; t++) {
        int longest = 0;
        for (int at = from + 1; at < n; at++) {
            int k = 0;
            while (ids[at] == t && at - 1 - k >= from && ids[at - 1 - k] == ids[n - 1 - k] && !(ids[n - 1 - k] < VOCAB && breakers >> ids[n - 1 - k] & 1))
                k++;
            longest = k > longest ? k : longest;
        }
        if (longest >= a[2] && a[0] > 0 && !(breakers >> t & 1))
            x[t] -= a[0] * pow(a[1], longest - a[2]);
    }
}

static void plain_bias(double *x, const double *list, size_t n)
{
    for (int t = 0; t < VOCAB; t++)
        for (size_t i = n; i >= 2; i -= 2)
            if (list[i - 2] == t) {
                x[t] += list[i - 1];
                break;
            }
}

static void set_breakers(sl_sampler *s, unsigned bits)
{
    if (!bits)
        return;
    s->breakers = sl_mem_alloc(&s->mem, s->n_vocab, 1);
    assert_non_null(s->breakers);
    for (uint32_t i = 0; i < s->n_vocab; i++)
        s->breakers[i] = bits >> i & 1;
}

static void agrees_with_the_definitions(void **state)
{
    (void)state;
    uint32_t x = 3;
    for (int round = 0; round < 4000; round++) {
        const int n = (int)((lcg(&x) >> 8) % (round % 4 ? 40 : MOST)), letters = 1 + (int)((lcg(&x) >> 8) % (VOCAB + 2));
        const double last_n = floor(uniform(&x) * (round % 3 ? 30 : 500)), t = round % 5 ? 1 : 0.25 + uniform(&x);
        const double penalties[] = { last_n, 0.5 + uniform(&x), uniform(&x) - 0.5, uniform(&x) - 0.5 };
        const double dry[] = { uniform(&x) < 0.1 ? 0 : uniform(&x), 1 + uniform(&x), 1 + floor(3 * uniform(&x)), floor(uniform(&x) * 80) };
        const double bias[] = { 3, 2, 5, -1, 3, 0.5, 7, -INFINITY };
        const unsigned breakers = round % 2 ? lcg(&x) >> 20 & lcg(&x) >> 20 : 0;
        float logits[VOCAB], after[VOCAB];
        double wanted[VOCAB];
        sl_token ids[MOST];
        sl_sampler *s = make(VOCAB);
        if (t != 1)
            assert_int_equal(sl_sampler_add(s, "temp", &t, 1), SL_OK);
        assert_int_equal(sl_sampler_add(s, "penalties", penalties, 4), SL_OK);
        assert_int_equal(sl_sampler_add(s, "dry", dry, 4), SL_OK);
        assert_int_equal(sl_sampler_add(s, "logit-bias", bias, COUNT(bias)), SL_OK);
        assert_int_equal(sl_sampler_add_callback(s, copy_row, after), SL_OK);
        set_breakers(s, breakers);
        for (int i = 0; i < n; i++)
            ids[i] = (sl_token)((lcg(&x) >> 16) % (unsigned)letters);
        for (int done = 0, piece; done < n; done += piece) {
            piece = 1 + (int)((lcg(&x) >> 8) % (round % 7 ? 4 : MOST));
            piece = piece < n - done ? piece : n - done;
            assert_int_equal(sl_sampler_accept(s, ids + done, (size_t)piece), SL_OK);
        }
        for (int i = 0; i < VOCAB; i++) {
            logits[i] = (float)(8 * uniform(&x) - 4);
            wanted[i] = (double)logits[i] / t;
        }
        plain_penalties(wanted, ids, n, penalties);
        plain_dry(wanted, ids, n, dry, breakers);
        plain_bias(wanted, bias, COUNT(bias));
        look(s, logits);
        for (int i = 0; i < VOCAB; i++)
            if (!(fabs((double)after[i] - wanted[i]) <= 1e-6 * (1 + fabs(wanted[i]))) && !(isinf(wanted[i]) && (double)after[i] == wanted[i]))
                fail_msg("round %d, token %d: %.9g instead of %.9g", round, i, (double)after[i], wanted[i]);
        for (int i = 0; i < VOCAB; i++)
            assert_int_equal(s->marks[i], 0);
        sl_sampler_free(s);
    }
}

/* ---- history ---- */

/* What a sampler chooses it accepts: after each choice it sees what one sees that is told the whole text. */
static void accepts_its_own_choices(void **state)
{
    (void)state;
    const double penalties[] = { 5, 1.5, 0.3, 0.2 }, t = 1.5;
    float logits[VOCAB], after[VOCAB], told[VOCAB];
    sl_token text[60];
    uint32_t x = 1;
    sl_sampler *s = make(VOCAB);
    assert_int_equal(sl_sampler_add(s, "penalties", penalties, 4), SL_OK);
    assert_int_equal(sl_sampler_add_callback(s, copy_row, after), SL_OK);
    assert_int_equal(sl_sampler_add(s, "temp", &t, 1), SL_OK);
    for (int k = 0; k < 60; k++) {
        for (int i = 0; i < VOCAB; i++)
            logits[i] = (float)uniform(&x);
        if (k % 10 == 0) {          /* some come from elsewhere */
            text[k] = k % VOCAB;
            assert_int_equal(sl_sampler_accept(s, &text[k], 1), SL_OK);
        } else
            assert_int_equal(sl_sampler_sample(s, logits, &text[k]), SL_OK);
        sl_sampler *other = make(VOCAB);
        assert_int_equal(sl_sampler_add(other, "penalties", penalties, 4), SL_OK);
        assert_int_equal(sl_sampler_add_callback(other, copy_row, told), SL_OK);
        sl_sampler_follow(other, text, 3);
        sl_sampler_follow(other, text, (size_t)k + 1);
        look(other, logits);
        look(s, logits);
        assert_memory_equal(after, told, sizeof told);
        sl_sampler_free(other);
    }
    assert_int_equal(sl_sampler_reset(s, 0), SL_OK);
    look(s, logits);
    assert_memory_equal(after, logits, sizeof logits);          /* forgotten */
    sl_sampler_free(s);
}

/* A step added later looks further back, as far as the history was kept. */
static void keeps_history_when_it_grows(void **state)
{
    (void)state;
    const double few[] = { 3, 2 }, many[] = { 100, 2 };
    const float logits[VOCAB] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    float after[VOCAB];
    sl_token ids[VOCAB] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
    sl_sampler *s = make(VOCAB);
    assert_int_equal(sl_sampler_accept(s, ids, VOCAB), SL_OK);      /* no step looks back yet */
    assert_int_equal(sl_sampler_add(s, "penalties", few, 2), SL_OK);
    assert_int_equal(sl_sampler_accept(s, ids + 4, 5), SL_OK);
    assert_int_equal(sl_sampler_add(s, "penalties", many, 2), SL_OK);
    assert_int_equal(sl_sampler_accept(s, ids, 1), SL_OK);
    assert_int_equal(sl_sampler_add_callback(s, copy_row, after), SL_OK);
    look(s, logits);
    /* few sees 7 8 0, many sees what few had kept and that */
    for (int i = 1; i < 6; i++)
        assert_true(after[i] >= 0.5f);
    assert_true(after[0] == 0.25f && after[7] == 0.25f && after[8] == 0.25f && after[6] == 0.5f && after[9] == 1.0f);
    sl_sampler_free(s);
}

static void refuses_misuse(void **state)
{
    (void)state;
    const sl_token bad[] = { 1, -1 }, large[] = { INT32_MAX, 3, INT32_MAX };
    const double penalties[] = { 4, 2 };
    const float logits[VOCAB] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    float after[VOCAB];
    sl_sampler *s = make(VOCAB);
    assert_int_equal(sl_sampler_add(s, "penalties", penalties, 2), SL_OK);
    assert_int_equal(sl_sampler_add_callback(s, copy_row, after), SL_OK);
    assert_int_equal(sl_sampler_accept(NULL, bad, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_accept(s, NULL, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_accept(s, NULL, 0), SL_OK);
    assert_int_equal(sl_sampler_accept(s, bad, 2), SL_ERR_RANGE);
    look(s, logits);
    assert_memory_equal(after, logits, sizeof logits);      /* nothing of a call that fails */
    assert_int_equal(sl_sampler_accept(s, large, 3), SL_OK);
    look(s, logits);
    assert_true(after[3] == 0.5f && after[2] == 1.0f);
    sl_sampler_free(s);
}

/* ---- extremes ---- */

static void bears_extremes(void **state)
{
    (void)state;
    static const struct { const char *name; double params[4]; size_t n; double t; int removed; } rows[] = {
        { "dry", { 1e30, 1e30, 1, 100 }, 4, 1, 0 }, { "dry", { 1e30, 1e30, 1, 100 }, 4, 1e30, 0 }, { "dry", { 1, 1e6, 1, 100 }, 4, 1e-29, 0 },
        { "penalties", { 100, 1e6, 1e6, 1e6 }, 4, 1, 0 }, { "penalties", { 100, 1e-6, -1e6, -1e6 }, 4, 1, 0 }, { "penalties", { 100, 1e6, 0, 0 }, 4, 1e-29, 0 },
        { "logit-bias", { 0, -1e300, 1, 1e30 }, 4, 1, 0 }, { "logit-bias", { 0, -1e300, 1, 1e30 }, 4, 1e30, 0 }, { "logit-bias", { 0, -INFINITY }, 2, 1, 1 },
    };
    const float logits[VOCAB] = { FLT_MAX, -FLT_MAX, 0, -0.0f, 1e-45f, -1e-45f, 5, -5, FLT_MAX, -FLT_MAX, 1, -INFINITY };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_token ids[VOCAB], text[50], id;
        float probs[VOCAB];
        size_t n;
        sl_sampler *s = make(VOCAB);
        assert_int_equal(sl_sampler_add(s, "temp", &rows[i].t, 1), SL_OK);
        assert_int_equal(sl_sampler_add(s, "temp", &rows[i].t, 1), SL_OK);
        assert_int_equal(sl_sampler_add(s, rows[i].name, rows[i].params, rows[i].n), SL_OK);
        for (int k = 0; k < 50; k++)
            text[k] = k % 3 % 2;
        assert_int_equal(sl_sampler_accept(s, text, 50), SL_OK);
        assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, VOCAB, &n), SL_OK);
        assert_true(rows[i].t < 1 ? n == 1 || n == 11 : (int)n == 11 - rows[i].removed);
        for (size_t k = 0; k < n; k++)
            assert_true(probs[k] >= 0 && probs[k] <= 1);
        for (int k = 0; k < 20; k++)
            assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
        sl_sampler_free(s);
    }
    const double never[] = { 0, -INFINITY, 1, -INFINITY };
    sl_token id = 9;
    sl_sampler *s = make(2);
    assert_int_equal(sl_sampler_add(s, "logit-bias", never, 4), SL_OK);
    assert_int_equal(sl_sampler_sample(s, logits, &id), SL_ERR_STATE);      /* every token is forbidden */
    assert_int_equal(id, 9);
    sl_sampler_free(s);
}

/* The longest text of one letter: dry takes time in proportion to its length, not to the square. */
static void long_repetitions_are_cheap(void **state)
{
    (void)state;
    enum { LONG = 1 << 20 };
    const double dry[] = { 1, 1.0001, 2, LONG };
    const float logits[VOCAB] = { 1 };
    float after[VOCAB];
    sl_token *text = calloc(LONG, sizeof *text);
    sl_sampler *s = make(VOCAB);
    assert_int_equal(sl_sampler_add(s, "dry", dry, 4), SL_OK);
    assert_int_equal(sl_sampler_add_callback(s, copy_row, after), SL_OK);
    assert_int_equal(sl_sampler_accept(s, text, LONG), SL_OK);
    look(s, logits);
    assert_true(after[0] < -1e38f && after[1] == 0);        /* 1.0001^1048573 is above 10^45 */
    assert_int_equal(s->history.matches[1], LONG - 1);
    sl_sampler_free(s);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_definitions),
        cmocka_unit_test(accepts_its_own_choices),
        cmocka_unit_test(keeps_history_when_it_grows),
        cmocka_unit_test(refuses_misuse),
        cmocka_unit_test(bears_extremes),
        cmocka_unit_test(long_repetitions_are_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
