/* SPDX-License-Identifier: MIT */
/* ROUTE, EXPERT_SCALE and EXPERT_SUM against their definitions. */
#include "ops_harness.h"
#include "random.h"

#include <math.h>

typedef struct mixture { const float *x, *weights; int64_t n, n_expert, n_used, n_tok; sl_gate gate; } mixture;

/* Ids, then weights. */
static void route(sl_pass *pass, void *user, void *out)
{
    const mixture *m = user;
    sl_tensor ids, weights;
    sl_op_route(pass, ops_input(pass, SL_TYPE_F32, m->n_expert, m->n_tok, 1, 1, m->x), m->n_used, m->gate, &ids, &weights);
    sl_pass_output(pass, ids, out);
    sl_pass_output(pass, weights, (int32_t *)out + m->n_used * m->n_tok);
}

/* The n_used best, one after the other, of equals the first; then in ascending order. */
static void choose(const float *logits, int64_t n_expert, int64_t n_used, sl_gate gate, int32_t *ids, double *shares)
{
    int taken[512] = { 0 };
    double top = -INFINITY, sum = 0;
    for (int64_t u = 0; u < n_used; u++) {
        int64_t best = -1;
        for (int64_t e = 0; e < n_expert; e++)
            if (!taken[e] && (best < 0 || logits[e] > logits[best]))
                best = e;
        taken[best] = 1;
        top = fmax(top, logits[best]);
    }
    for (int64_t e = 0, u = 0; e < n_expert; e++)
        if (taken[e]) {
            ids[u] = (int32_t)e;
            sum += shares[u++] = gate == SL_GATE_SIGMOID ? 1 / (1 + exp(-logits[e])) : exp(logits[e] - top);
        }
    for (int64_t u = 0; gate == SL_GATE_SOFTMAX && u < n_used; u++)
        shares[u] /= sum;
}

static const struct { int64_t n_expert, n_used, n_tok; int levels; float size; } routes[] = {
    { 5, 2, 67, 0, 3 }, { 8, 2, 33, 0, 1 }, { 5, 5, 7, 0, 3 }, { 1, 1, 3, 0, 1 }, { 128, 19, 16, 0, 10 }, { 512, 8, 5, 0, 100 },
    { 5, 2, 67, 3, 1 }, { 16, 4, 33, 2, 1 }, { 7, 3, 9, 1, 1 },        /* few different logits: ties */
};

static void routes_tokens(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (size_t both = 0; both < 2 * sizeof routes / sizeof routes[0]; both++) {
        const size_t i = both / 2;
        mixture m = { .n_expert = routes[i].n_expert, .n_used = routes[i].n_used, .n_tok = routes[i].n_tok, .gate = both % 2 ? SL_GATE_SIGMOID : SL_GATE_SOFTMAX };
        const size_t n = (size_t)(m.n_used * m.n_tok);
        float *x = ops_random((size_t)(m.n_expert * m.n_tok), routes[i].size, &random);
        for (int64_t k = 0; routes[i].levels && k < m.n_expert * m.n_tok; k++)
            x[k] = (float)random_below(&random, (uint64_t)routes[i].levels);
        m.x = x;
        const ops_case c = { "route", route, &m, NULL, 0, 2 * n * sizeof(float) };
        int32_t *got = malloc(c.out_bytes), *ids = malloc(n * sizeof *ids);
        double *shares = malloc(n * sizeof *shares);
        ops_run(&c, got);
        for (int64_t t = 0; t < m.n_tok; t++)
            choose(x + t * m.n_expert, m.n_expert, m.n_used, m.gate, ids + t * m.n_used, shares + t * m.n_used);
        assert_memory_equal(got, ids, n * sizeof *ids);
        ops_close("route", (const float *)(got + n), shares, n, 1e-6, 1e-34);
        free(x), free(got), free(ids), free(shares);
    }
}

static void refuses_what_is_no_number(void **state)
{
    (void)state;
    static const float wrong[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < 3; i++) {
        float x[15] = { 1, 2, 3, 4, 5, 1, 2, 3, wrong[i], 5, 1, 2, 3, 4, 5 };
        mixture m = { x, NULL, 0, 5, 2, 3, i % 2 ? SL_GATE_SIGMOID : SL_GATE_SOFTMAX };
        const ops_case c = { "route", route, &m, NULL, 0, 12 * sizeof(float) };
        ops_run_fails(&c, 0, SL_ERR_NONFINITE, "route");
    }
}

static void sum(sl_pass *pass, void *user, void *out)
{
    const mixture *m = user;
    sl_tensor x = ops_input(pass, SL_TYPE_F32, m->n, m->n_used, m->n_tok, 1, m->x), weights = ops_input(pass, SL_TYPE_F32, m->n_used, m->n_tok, 1, 1, m->weights);
    sl_pass_output(pass, sl_op_expert_sum(pass, x, weights), out);
}

static void sums_experts(void **state)
{
    (void)state;
    static const struct { int64_t n, n_used, n_tok; } shapes[] = { { 24, 2, 67 }, { 1, 1, 1 }, { 97, 3, 7 }, { 768, 2, 33 }, { 5, 8, 16 } };
    uint64_t random = 2;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        mixture m = { .n = shapes[i].n, .n_used = shapes[i].n_used, .n_tok = shapes[i].n_tok };
        const size_t n = (size_t)(m.n * m.n_tok);
        float *x = ops_random(n * (size_t)m.n_used, 2, &random), *weights = ops_random((size_t)(m.n_used * m.n_tok), 1, &random), *got = malloc(n * sizeof *got);
        double *exact = calloc(n, sizeof *exact);
        m.x = x, m.weights = weights;
        const ops_case c = { "expert_sum", sum, &m, NULL, 0, n * sizeof *got };
        ops_run(&c, got);
        for (int64_t t = 0; t < m.n_tok; t++)
            for (int64_t u = 0; u < m.n_used; u++)
                for (int64_t k = 0; k < m.n; k++)
                    exact[t * m.n + k] += (double)weights[t * m.n_used + u] * x[(t * m.n_used + u) * m.n + k];
        ops_close("expert_sum", got, exact, n, 0, 1.2e-7 * (double)(m.n_used * m.n_used));
        free(x), free(weights), free(got), free(exact);
    }
}

static void scale(sl_pass *pass, void *user, void *out)
{
    const mixture *m = user;
    sl_tensor x = ops_input(pass, SL_TYPE_F32, m->n, m->n_tok, 1, 1, m->x), weights = ops_input(pass, SL_TYPE_F32, m->n_used, m->n_tok, 1, 1, m->weights);
    sl_pass_output(pass, sl_op_expert_scale(pass, x, weights), out);
}

/* One product, rounded once. */
static void scales_for_experts(void **state)
{
    (void)state;
    static const struct { int64_t n, n_used, n_tok; } shapes[] = { { 24, 1, 67 }, { 1, 1, 1 }, { 97, 3, 7 }, { 768, 2, 33 } };
    uint64_t random = 3;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        mixture m = { .n = shapes[i].n, .n_used = shapes[i].n_used, .n_tok = shapes[i].n_tok };
        const size_t n = (size_t)(m.n * m.n_used * m.n_tok);
        float *x = ops_random((size_t)(m.n * m.n_tok), 2, &random), *weights = ops_random((size_t)(m.n_used * m.n_tok), 1, &random);
        float *got = malloc(n * sizeof *got), *want = malloc(n * sizeof *want);
        m.x = x, m.weights = weights;
        const ops_case c = { "expert_scale", scale, &m, NULL, 0, n * sizeof *got };
        ops_run(&c, got);
        for (size_t k = 0; k < n; k++)
            want[k] = weights[k / (size_t)m.n] * x[k / (size_t)(m.n * m.n_used) * (size_t)m.n + k % (size_t)m.n];
        assert_memory_equal(got, want, n * sizeof *got);
        free(x), free(weights), free(got), free(want);
    }
}

static int finish(void **state) { return (void)state, ops_finish("moe"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(routes_tokens), cmocka_unit_test(refuses_what_is_no_number), cmocka_unit_test(sums_experts), cmocka_unit_test(scales_for_experts) };
    return cmocka_run_group_tests_name("moe", tests, ops_prepare, finish);
}
