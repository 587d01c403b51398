/* SPDX-License-Identifier: MIT */
/* logits.c - the best n of a row and logarithms of probabilities, against a full sort and libm. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "sample.h"

enum { N = 700 };
static float logits[N];

static uint32_t lcg(uint32_t *x) { return *x = *x * 1664525u + 1013904223u; }

static int by_likelihood(const void *a, const void *b)
{
    const sl_token i = *(const sl_token *)a, k = *(const sl_token *)b;
    return logits[i] > logits[k] ? -1 : logits[i] < logits[k] ? 1 : i - k;
}

static void agrees_with_a_full_sort(void **state)
{
    (void)state;
    uint32_t x = 5;
    for (int round = 0; round < 400; round++) {
        const uint32_t n_vocab = 1 + (lcg(&x) >> 8) % N;
        const size_t n = round % 3 ? (lcg(&x) >> 8) % (n_vocab + 1) : n_vocab;
        static sl_token sorted[N], top[N + 1];
        static float log_probs[N + 1], again[N];
        double sum = 0, largest = -INFINITY;
        for (uint32_t i = 0; i < n_vocab; i++) {
            const float u = (float)(lcg(&x) >> 8) * 0x1p-24f;
            logits[i] = i && lcg(&x) >> 29 == 0 ? -INFINITY : round % 2 ? (float)(int)(u * 8) - 4 : 30 * u - 20;
            sorted[i] = (sl_token)i;
            largest = (double)logits[i] > largest ? (double)logits[i] : largest;
        }
        for (uint32_t i = 0; i < n_vocab; i++)
            sum += exp((double)logits[i] - largest);
        qsort(sorted, n_vocab, sizeof *sorted, by_likelihood);
        top[n] = 77;
        log_probs[n] = 77;
        assert_int_equal(sl_logits_top(logits, n_vocab, top, log_probs, n), SL_OK);
        assert_memory_equal(top, sorted, n * sizeof *top);
        assert_true(top[n] == 77 && log_probs[n] == 77);
        for (size_t i = 0; i < n; i++) {
            const double wanted = (double)logits[top[i]] - largest - log(sum);
            assert_true(isinf(wanted) ? (double)log_probs[i] == wanted : fabs((double)log_probs[i] - wanted) <= 1e-6 * (1 + fabs(wanted)));
        }
        assert_int_equal(fesetround(FE_DOWNWARD), 0);       /* whatever the host has set */
        assert_int_equal(sl_logits_log_probs(logits, n_vocab, top, n, again), SL_OK);
        assert_int_equal(fegetround(), FE_DOWNWARD);
        fesetround(FE_TONEAREST);
        assert_memory_equal(again, log_probs, n * sizeof *again);
    }
}

static void extremes(void **state)
{
    (void)state;
    const float row[] = { -FLT_MAX, FLT_MAX, -0.0f, 0, -INFINITY };
    static const sl_token order[] = { 1, 2, 3, 0, 4 };
    sl_token ids[5];
    float log_probs[5];
    assert_int_equal(sl_logits_top(row, 5, ids, log_probs, 5), SL_OK);
    assert_memory_equal(ids, order, sizeof order);
    assert_true(log_probs[0] == 0 && log_probs[1] == -FLT_MAX && log_probs[3] == -FLT_MAX && isinf(log_probs[4]));
}

static void refuses_misuse(void **state)
{
    (void)state;
    static const float nothing[3] = { -INFINITY, -INFINITY, -INFINITY }, wrong[3] = { 0, 0, NAN }, good[3] = { 1, 2, 3 };
    sl_token ids[4] = { 9, 9, 9, 9 };
    static const sl_token outside[][1] = { { -1 }, { 3 }, { INT32_MAX } };
    float p[4] = { 9, 9, 9, 9 };
    assert_int_equal(sl_logits_top(NULL, 3, ids, p, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_logits_top(good, 3, NULL, p, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_logits_top(good, 3, ids, NULL, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_logits_top(good, 0, ids, p, 0), SL_ERR_ARGUMENT);
    assert_int_equal(sl_logits_top(good, SL_LIMIT_VOCABULARY + 1, ids, p, 1), SL_ERR_LIMIT);
    assert_int_equal(sl_logits_top(good, 3, ids, p, 4), SL_ERR_RANGE);
    assert_int_equal(sl_logits_top(good, 3, ids, p, SIZE_MAX), SL_ERR_RANGE);
    assert_int_equal(sl_logits_top(wrong, 3, ids, p, 2), SL_ERR_NONFINITE);
    assert_int_equal(sl_logits_top(nothing, 3, ids, p, 2), SL_ERR_STATE);
    assert_int_equal(sl_logits_log_probs(NULL, 3, ids, 1, p), SL_ERR_ARGUMENT);
    assert_int_equal(sl_logits_log_probs(good, 3, NULL, 1, p), SL_ERR_ARGUMENT);
    assert_int_equal(sl_logits_log_probs(good, 3, ids, 1, NULL), SL_ERR_ARGUMENT);
    for (size_t i = 0; i < COUNT(outside); i++)
        assert_int_equal(sl_logits_log_probs(good, 3, outside[i], 1, p), SL_ERR_RANGE);
    ids[0] = 0;
    assert_int_equal(sl_logits_log_probs(wrong, 3, ids, 1, p), SL_ERR_NONFINITE);
    assert_int_equal(sl_logits_log_probs(nothing, 3, ids, 1, p), SL_ERR_STATE);
    assert_true(ids[1] == 9 && p[0] == 9 && p[1] == 9);     /* nothing was written */
    assert_int_equal(sl_logits_top(good, 3, NULL, NULL, 0), SL_OK);
    assert_int_equal(sl_logits_log_probs(good, 3, NULL, 0, NULL), SL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_full_sort),
        cmocka_unit_test(extremes),
        cmocka_unit_test(refuses_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
