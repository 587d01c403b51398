/* SPDX-License-Identifier: MIT */
/* sample.c - chains of the plain steps against their definitions in libm's arithmetic, the generator against pinned tokens, and everything that
 * must be refused. The other steps: sample_steps.c, sample_history.c; reference cases: sample_reference.c. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "sample.h"

struct step { const char *name; double params[2]; size_t n; };

static sl_sampler *make(uint32_t n_vocab, uint64_t seed, const struct step *steps, size_t n)
{
    sl_sampler *s;
    assert_int_equal(sl_sampler_create(&s, n_vocab, seed, NULL), SL_OK);
    for (size_t i = 0; i < n && steps[i].name; i++)
        assert_int_equal(sl_sampler_add(s, steps[i].name, steps[i].params, steps[i].n), SL_OK);
    return s;
}

/* ---- against plain definitions ---- */

static uint32_t lcg(uint32_t *x) { return *x = *x * 1664525u + 1013904223u; }

static const float *plain_logits;

static int plain_order(const void *a, const void *b)
{
    sl_token i = *(const sl_token *)a, k = *(const sl_token *)b;
    float x = plain_logits[i], y = plain_logits[k];
    return x > y ? -1 : x < y ? 1 : i - k;
}

/* Candidates by the definitions: sort everything, then cut. */
static size_t plain_chain(const float *logits, uint32_t n_vocab, const struct step *steps, size_t n_steps, sl_token *ids, double *probs)
{
    size_t n = 0;
    double t = 1.0;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (logits[i] > -INFINITY)
            ids[n++] = (sl_token)i;
    plain_logits = logits;
    qsort(ids, n, sizeof *ids, plain_order);
    for (size_t k = 0; k <= n_steps; k++) {
        double sum = 0.0, part = 0.0, p = k < n_steps ? steps[k].params[0] : 0.0;
        for (size_t i = 0; i < n; i++)
            sum += probs[i] = exp(((double)logits[ids[i]] - (double)logits[ids[0]]) / t);
        for (size_t i = 0; i < n; i++)
            probs[i] /= sum;
        if (k == n_steps)
            break;
        size_t least = steps[k].params[1] > 1.0 ? (size_t)steps[k].params[1] : 1, keep = 0;
        if (strcmp(steps[k].name, "temp") == 0)
            t *= p, keep = n;
        else if (strcmp(steps[k].name, "top-k") == 0)
            keep = p > 0.0 ? (size_t)p : n;
        else if (strcmp(steps[k].name, "top-p") == 0)
            for (; keep < n && (keep < least || part < p || p >= 1.0); keep++)
                part += probs[keep];
        else
            while (keep < n && (keep < least || probs[keep] >= p * probs[0]))
                keep++;
        n = keep < n ? keep : n;
    }
    return n;
}

static void agrees_with_the_definitions(void **state)
{
    (void)state;
    enum { N = 3000 };
    static float logits[N], probs[N];
    static double plain_probs[N];
    static sl_token ids[N], plain_ids[N];
    uint32_t x = 1;
    for (int round = 0; round < 300; round++) {
        uint32_t n_vocab = 1 + lcg(&x) % N, coarse = lcg(&x) >> 8 & 1;
        for (uint32_t i = 0; i < n_vocab; i++) {
            float u = (float)(lcg(&x) >> 8) * 0x1p-24f;
            logits[i] = coarse ? (float)(int)(u * 20.0f) * 0.5f - 5.0f : 20.0f * u - 15.0f;
            if (i && lcg(&x) >> 28 == 0)
                logits[i] = -INFINITY;
        }
        struct step steps[6];
        size_t n_steps = 1 + lcg(&x) % 6, n, plain_n;
        for (size_t k = 0; k < n_steps; k++) {
            double u = (double)(lcg(&x) >> 8) * 0x1p-24, least = (double)(lcg(&x) >> 30);
            const struct step kinds[] = {
                { "temp", { 0.3 + 2.0 * u }, 1 }, { "top-k", { floor(1.5 * u * n_vocab) }, 1 }, { "top-p", { 1.02 * u, least }, 2 }, { "min-p", { u * u * u, least }, 2 },
            };
            steps[k] = kinds[lcg(&x) >> 30];
        }
        sl_sampler *s = make(n_vocab, 0, steps, n_steps);
        assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, N, &n), SL_OK);
        plain_n = plain_chain(logits, n_vocab, steps, n_steps, plain_ids, plain_probs);
        assert_int_equal(n, plain_n);
        assert_memory_equal(ids, plain_ids, n * sizeof *ids);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(probs[i] - plain_probs[i]) <= 1e-6);
        for (int draws = 0; draws < 20; draws++) {
            sl_token id;
            size_t i = 0;
            assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
            while (i < n && ids[i] != id)
                i++;
            assert_true(i < n);
        }
        sl_sampler_free(s);
    }
}

/* ---- the generator ---- */

enum { GOLDEN_VOCAB = 100, GOLDEN_TOKENS = 16 };

static void golden_logits(float *logits)
{
    for (uint32_t i = 0; i < GOLDEN_VOCAB; i++)
        logits[i] = (float)(i * 2654435761u >> 16 & 0xff) / 32.0f - 4.0f;
}

/* Computed once by a Python program written from the comments of lib/sample.c, with libm's exp. */
static const struct golden { uint64_t seed; struct step steps[4]; int tokens[GOLDEN_TOKENS]; } golden[] = {
    { 0, { { "temp", { 1.0 }, 1 } }, { 64, 13, 23, 92, 13, 88, 92, 18, 45, 77, 23, 83, 23, 4, 78, 69 } },
    { 1, { { "temp", { 1.0 }, 1 } }, { 27, 78, 41, 92, 27, 23, 83, 32, 68, 18, 3, 12, 3, 87, 64, 91 } },
    { UINT64_MAX, { { "temp", { 1.0 }, 1 } }, { 18, 73, 78, 13, 41, 13, 32, 73, 4, 64, 9, 83, 55, 55, 46, 36 } },
    { 42, { { "top-k", { 20 }, 1 }, { "temp", { 0.8 }, 1 } }, { 83, 9, 78, 13, 96, 41, 18, 87, 41, 92, 78, 46, 64, 9, 18, 27 } },
    { 7, { { "top-k", { 50 }, 1 }, { "top-p", { 0.9 }, 1 }, { "min-p", { 0.02 }, 1 }, { "temp", { 1.5 }, 1 } }, { 27, 69, 96, 8, 91, 59, 83, 23, 92, 46, 18, 50, 45, 59, 55, 41 } },
    { 7, { { "temp", { 1.5 }, 1 }, { "min-p", { 0.1 }, 1 }, { "top-p", { 0.7 }, 1 } }, { 41, 9, 27, 36, 36, 50, 83, 23, 32, 23, 55, 64, 73, 50, 92, 78 } },
};

static void check_golden(const struct golden *g, sl_sampler *s)
{
    float logits[GOLDEN_VOCAB];
    golden_logits(logits);
    for (int i = 0; i < GOLDEN_TOKENS; i++) {
        sl_token id;
        assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
        assert_int_equal(id, g->tokens[i]);
    }
}

static void gives_the_same_tokens_for_a_seed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(golden); i++) {
        sl_sampler *s = make(GOLDEN_VOCAB, golden[i].seed, golden[i].steps, COUNT(golden[i].steps));
        check_golden(&golden[i], s);
        assert_int_equal(sl_sampler_reset(s, golden[i].seed), SL_OK);
        check_golden(&golden[i], s);
        sl_sampler_free(s);
    }
}

/* A host may round upwards: the tokens stay, and so does its setting. */
static void does_not_care_how_the_host_rounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(golden); i++) {
        sl_sampler *s = make(GOLDEN_VOCAB, golden[i].seed, golden[i].steps, COUNT(golden[i].steps));
        assert_int_equal(fesetround(FE_UPWARD), 0);
        check_golden(&golden[i], s);
        assert_int_equal(fegetround(), FE_UPWARD);
        fesetround(FE_TONEAREST);
        sl_sampler_free(s);
    }
}

/* 40000 draws of 8 tokens: chi-square with 7 degrees of freedom, above 40 in one of a million seeds; and the sequence has no short period. */
static void draws_in_proportion(void **state)
{
    (void)state;
    static const double p[8] = { 0.4, 0.2, 0.15, 0.1, 0.08, 0.05, 0.015, 0.005 };
    for (uint64_t seed = 0; seed < 5; seed++) {
        float logits[8];
        unsigned seen[8] = { 0 }, n = 40000;
        for (int i = 0; i < 8; i++)
            logits[(i * 3) % 8] = (float)log(p[i]);
        const struct step temp = { "temp", { 1.0 }, 1 };
        sl_sampler *s = make(8, seed, &temp, 1);
        double chi = 0.0;
        for (unsigned i = 0; i < n; i++) {
            sl_token id;
            assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
            seen[id]++;
        }
        for (int i = 0; i < 8; i++) {
            double d = seen[(i * 3) % 8] - n * p[i];
            chi += d * d / (n * p[i]);
        }
        assert_true(chi < 40.0 && chi > 0.1);
        sl_sampler_free(s);
    }
}

/* An allocator that gives `left` blocks. */
struct budget { int left, live; };

static void *budget_alloc(size_t bytes, size_t alignment, void *user)
{
    struct budget *b = user;
    if (b->left-- <= 0)
        return NULL;
    b->live++;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void budget_free(void *block, size_t bytes, void *user)
{
    (void)bytes;
    ((struct budget *)user)->live--;
    free(block);
}

/* ---- hostile input ---- */

static void refuses_bad_logits(void **state)
{
    (void)state;
    static const struct { float logits[4]; sl_status status; } rows[] = {
        { { 0, NAN, 0, 0 }, SL_ERR_NONFINITE }, { { 0, 0, 0, -NAN }, SL_ERR_NONFINITE }, { { INFINITY, 0, 0, 0 }, SL_ERR_NONFINITE },
        { { -INFINITY, -INFINITY, -INFINITY, INFINITY }, SL_ERR_NONFINITE }, { { -INFINITY, -INFINITY, -INFINITY, -INFINITY }, SL_ERR_STATE },
    };
    const struct step chains[][2] = { { { NULL } }, { { "temp", { 0.7 }, 1 } }, { { "top-k", { 2 }, 1 }, { "temp", { 0.0 }, 1 } } };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t k = 0; k < COUNT(chains); k++) {
            sl_token id = 77;
            size_t n;
            sl_sampler *s = make(4, 0, chains[k], COUNT(chains[k]));
            assert_int_equal(sl_sampler_sample(s, rows[i].logits, &id), rows[i].status);
            assert_int_equal(sl_sampler_candidates(s, rows[i].logits, NULL, NULL, 0, &n), rows[i].status);
            assert_int_equal(id, 77);
            const float good[4] = { 0, 1, 0, 0 };       /* and it can still be used */
            assert_int_equal(sl_sampler_sample(s, good, &id), SL_OK);
            sl_sampler_free(s);
        }
}

static void bears_extreme_logits(void **state)
{
    (void)state;
    const float logits[] = { -FLT_MAX, FLT_MAX, -FLT_MAX, 1e-45f, FLT_MAX, 0.0f, -0.0f, -INFINITY };
    static const sl_token sorted[] = { 1, 4, 3, 5, 6, 0, 2 };
    const double temps[] = { 1e-300, 5e-324, 1e-20, 1e20, 1e30, -3.0, 0.0 };
    sl_token ids[8], id;
    float probs[8];
    size_t n;
    for (size_t i = 0; i < COUNT(temps); i++) {
        const struct step chain[] = { { "temp", { temps[i] }, 1 }, { "temp", { temps[i] }, 1 }, { "top-p", { 0.999 }, 1 } };
        sl_sampler *s = make(8, 0, chain, 1);
        assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, 8, &n), SL_OK);
        assert_true(n == 7 || n == 1);
        assert_memory_equal(ids, sorted, n * sizeof *ids);
        for (size_t k = 0; k < n; k++)
            assert_true(probs[k] >= 0.0f && probs[k] <= 1.0f);
        sl_sampler_free(s);
        s = make(8, 0, chain, 3);
        assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
        assert_true(temps[i] > 1.0 || id == 1 || id == 4);
        sl_sampler_free(s);
    }
}

static void takes_the_lowest_of_equals(void **state)
{
    (void)state;
    const float logits[] = { -1.0f, -0.0f, 0.0f, -0.0f };
    const struct step chains[][2] = { { { NULL } }, { { "temp", { 0.0 }, 1 } }, { { "top-k", { 1 }, 1 } }, { { "top-p", { 0.0 }, 1 } } };
    for (size_t k = 0; k < COUNT(chains); k++) {
        sl_token id, ids[4];
        float probs[4];
        size_t n;
        sl_sampler *s = make(4, k, chains[k], COUNT(chains[k]));
        assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
        assert_int_equal(id, 1);
        assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, 4, &n), SL_OK);
        assert_true(n == 1 && ids[0] == 1 && probs[0] == 1.0f);
        sl_sampler_free(s);
    }
}

static void refuses_bad_steps(void **state)
{
    (void)state;
    static const struct { const char *name; double params[3]; size_t n; sl_status status; } rows[] = {
        { "temp", { NAN }, 1, SL_ERR_RANGE }, { "temp", { INFINITY }, 1, SL_ERR_RANGE }, { "temp", { -INFINITY }, 1, SL_ERR_RANGE },
        { "temp", { -1.0 }, 1, SL_OK }, { "temp", { 1.0, 1.0 }, 2, SL_ERR_ARGUMENT }, { "temp", { 0 }, 0, SL_OK },
        { "top-k", { -1.0 }, 1, SL_ERR_RANGE }, { "top-k", { 1.5 }, 1, SL_ERR_RANGE }, { "top-k", { 1e300 }, 1, SL_ERR_RANGE },
        { "top-k", { 2147483647.0 }, 1, SL_OK }, { "top-k", { 2147483648.0 }, 1, SL_ERR_RANGE }, { "top-k", { NAN }, 1, SL_ERR_RANGE },
        { "top-p", { -0.1 }, 1, SL_ERR_RANGE }, { "top-p", { NAN }, 1, SL_ERR_RANGE }, { "top-p", { 7.0 }, 1, SL_OK },
        { "top-p", { 0.5, -1.0 }, 2, SL_ERR_RANGE }, { "top-p", { 0.5, 2147483647.0 }, 2, SL_OK }, { "top-p", { 0.5, 1.0, 1.0 }, 3, SL_ERR_ARGUMENT },
        { "min-p", { 1.1 }, 1, SL_ERR_RANGE }, { "min-p", { -1.0 }, 1, SL_ERR_RANGE }, { "min-p", { 0.5, 1e9 }, 2, SL_OK }, { "min-p", { 0.5, 0.5 }, 2, SL_ERR_RANGE },
        { "top_k", { 1.0 }, 1, SL_ERR_UNSUPPORTED }, { "", { 1.0 }, 1, SL_ERR_UNSUPPORTED }, { "t\xffmp\n", { 1.0 }, 1, SL_ERR_UNSUPPORTED },
    };
    const float logits[4] = { 3, 2, 1, 0 };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_token id;
        sl_sampler *s = make(4, 0, NULL, 0);
        if (sl_sampler_add(s, rows[i].name, rows[i].params, rows[i].n) != rows[i].status)
            fail_msg("row %zu: %s", i, sl_last_error());
        assert_int_equal(sl_sampler_sample(s, logits, &id), SL_OK);
        if (rows[i].status != SL_OK)
            assert_int_equal(id, 0);    /* the chain stayed empty */
        sl_sampler_free(s);
    }
}

static void refuses_misuse(void **state)
{
    (void)state;
    sl_sampler *s = (sl_sampler *)&s;
    const sl_allocator half = { .size = sizeof half, .free = budget_free };
    const float logits[2] = { 0, 0 };
    const double one = 1.0;
    sl_token id, ids[2];
    float probs[2];
    size_t n;
    assert_int_equal(sl_sampler_create(NULL, 4, 0, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_create(&s, 0, 0, NULL), SL_ERR_ARGUMENT);
    assert_null(s);
    assert_int_equal(sl_sampler_create(&s, SL_LIMIT_VOCABULARY + 1, 0, NULL), SL_ERR_LIMIT);
    assert_int_equal(sl_sampler_create(&s, 4, 0, &half), SL_ERR_ARGUMENT);
    assert_null(s);
    sl_sampler_free(NULL);
    s = make(2, 0, NULL, 0);
    assert_int_equal(sl_sampler_add(NULL, "temp", &one, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_add(s, NULL, &one, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_add(s, "temp", NULL, 1), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_sample(NULL, logits, &id), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_sample(s, NULL, &id), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_sample(s, logits, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_candidates(s, logits, ids, NULL, 2, &n), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, 2, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_sampler_reset(NULL, 0), SL_ERR_ARGUMENT);
    for (int i = 0; i < 32; i++)
        assert_int_equal(sl_sampler_add(s, "temp", &one, 1), SL_OK);
    assert_int_equal(sl_sampler_add(s, "temp", &one, 1), SL_ERR_LIMIT);
    ids[1] = 55;
    assert_int_equal(sl_sampler_candidates(s, logits, ids, probs, 1, &n), SL_ERR_BUFFER);
    assert_true(n == 2 && ids[0] == 0 && ids[1] == 55);
    sl_sampler_free(s);
}

/* ---- memory ---- */

static void takes_memory_only_when_created(void **state)
{
    (void)state;
    sl_status status = SL_ERR_NOMEM;
    for (int allowed = 0; status != SL_OK; allowed++) {
        struct budget budget = { allowed, 0 };
        const sl_allocator allocator = { sizeof allocator, budget_alloc, budget_free, &budget };
        sl_sampler *s;
        status = sl_sampler_create(&s, GOLDEN_VOCAB, 42, &allocator);
        if (status == SL_OK) {
            budget.left = 0;
            for (size_t k = 0; golden[3].steps[k].name; k++)
                assert_int_equal(sl_sampler_add(s, golden[3].steps[k].name, golden[3].steps[k].params, golden[3].steps[k].n), SL_OK);
            check_golden(&golden[3], s);
        } else {
            assert_int_equal(status, SL_ERR_NOMEM);
            assert_null(s);
        }
        sl_sampler_free(s);
        assert_int_equal(budget.live, 0);
        assert_true(allowed < 10);
    }
}

static void lists_its_steps(void **state)
{
    (void)state;
    const double nothing = 0.0;
    size_t n = 0;
    for (const char *name; (name = sl_sampler_name(n)) != NULL; n++) {
        sl_sampler *s = make(4, 0, NULL, 0);
        assert_int_equal(sl_sampler_add(s, name, &nothing, 0), SL_OK);
        sl_sampler_free(s);
    }
    assert_int_equal(n, 13);
    assert_null(sl_sampler_name(n + 1));
    assert_null(sl_sampler_name(SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_definitions),
        cmocka_unit_test(gives_the_same_tokens_for_a_seed),
        cmocka_unit_test(does_not_care_how_the_host_rounds),
        cmocka_unit_test(draws_in_proportion),
        cmocka_unit_test(refuses_bad_logits),
        cmocka_unit_test(bears_extreme_logits),
        cmocka_unit_test(takes_the_lowest_of_equals),
        cmocka_unit_test(refuses_bad_steps),
        cmocka_unit_test(refuses_misuse),
        cmocka_unit_test(takes_memory_only_when_created),
        cmocka_unit_test(lists_its_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
