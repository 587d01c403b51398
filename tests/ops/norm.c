/* SPDX-License-Identifier: MIT */
/* RMS_NORM and LAYER_NORM against their definitions in double precision. */
#include "ops_harness.h"

#include <math.h>

typedef struct norm { const float *x, *weight, *bias; int64_t n, n_row, first, n_head, n_tok; float epsilon; } norm;

/* x is cut out of wider rows, or seen as heads. */
static void body(sl_pass *pass, void *user, void *out)
{
    const norm *c = user;
    sl_tensor weight = ops_input(pass, SL_TYPE_F32, c->n, 1, 1, 1, c->weight), x = ops_input(pass, SL_TYPE_F32, c->n_row, c->n_tok, 1, 1, c->x);
    x = sl_view_rows(x, c->first, c->n * c->n_head);
    sl_pass_output(pass, sl_op_rms_norm(pass, c->n_head > 1 ? sl_view_heads(x, c->n) : x, weight, c->epsilon), out);
}

static void layer_norm(sl_pass *pass, void *user, void *out)
{
    const norm *c = user;
    sl_tensor weight = ops_input(pass, SL_TYPE_F32, c->n, 1, 1, 1, c->weight), bias = ops_input(pass, SL_TYPE_F32, c->n, 1, 1, 1, c->bias);
    sl_tensor x = sl_view_rows(ops_input(pass, SL_TYPE_F32, c->n_row, c->n_tok, 1, 1, c->x), c->first, c->n * c->n_head);
    sl_pass_output(pass, sl_op_layer_norm(pass, c->n_head > 1 ? sl_view_heads(x, c->n) : x, weight, bias, c->epsilon), out);
}

static const struct { int64_t n, before, after, n_head, n_tok; float size, epsilon; } cases[] = {
    { 1, 0, 0, 1, 1, 1, 1e-5f }, { 5, 0, 0, 1, 3, 1, 1e-5f }, { 16, 0, 0, 1, 67, 1, 1e-6f }, { 24, 3, 2, 1, 7, 1, 1e-5f }, { 40, 1, 0, 1, 67, 100, 1e-5f },
    { 768, 0, 0, 1, 33, 1, 1e-5f }, { 1000, 5, 9, 1, 67, 1, 1e-5f }, { 4099, 0, 0, 1, 5, 1, 1e-5f }, { 24, 0, 0, 8, 67, 1, 1e-5f }, { 24, 7, 1, 5, 3, 1, 1e-5f },
    { 31, 0, 0, 1, 2, 1e-12f, 1e-5f }, { 31, 0, 0, 1, 2, 1e12f, 1e-5f }, { 64, 0, 0, 1, 1, 1, 0 },
};

static void follows_the_definition(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int64_t n = cases[i].n, n_row = cases[i].before + n * cases[i].n_head + cases[i].after, n_out = n * cases[i].n_head * cases[i].n_tok;
        float *x = ops_random((size_t)(n_row * cases[i].n_tok), cases[i].size, &random), *weight = ops_random((size_t)n, 2, &random);
        norm c = { x, weight, NULL, n, n_row, cases[i].before, cases[i].n_head, cases[i].n_tok, cases[i].epsilon };
        char name[64];
        snprintf(name, sizeof name, "rms_norm of %d elements, %d heads, %d tokens", (int)n, (int)c.n_head, (int)c.n_tok);
        const ops_case run = { name, body, &c, NULL, 0, (size_t)n_out * sizeof(float) };
        float *got = malloc(run.out_bytes);
        double *exact = malloc((size_t)n_out * sizeof *exact), *to = exact;
        ops_run(&run, got);
        for (int64_t t = 0; t < c.n_tok; t++)
            for (int64_t h = 0; h < c.n_head; h++, to += n) {
                const float *row = x + t * n_row + c.first + h * n;
                double ss = 0;
                for (int64_t k = 0; k < n; k++)
                    ss += (double)row[k] * row[k];
                for (int64_t k = 0; k < n; k++)
                    to[k] = row[k] / sqrt(ss / (double)n + (double)c.epsilon) * weight[k];
            }
        /* The chain of a sixteenth of the elements, halved by the root, and some roundings more. */
        ops_close(name, got, exact, (size_t)n_out, 6e-8 * ((double)n / 32 + 6), 1e-37);
        free(x), free(weight), free(got), free(exact);
    }
}

/* Rows around 0 and far from it, where the mean takes most of their digits. */
static void layer_norm_follows_the_definition(void **state)
{
    (void)state;
    uint64_t random = 2;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        const int64_t n = cases[i / 2].n, n_row = cases[i / 2].before + n * cases[i / 2].n_head + cases[i / 2].after, n_out = n * cases[i / 2].n_head * cases[i / 2].n_tok;
        float *x = ops_random((size_t)(n_row * cases[i / 2].n_tok), cases[i / 2].size, &random), *weight = ops_random((size_t)n, 2, &random), *bias = ops_random((size_t)n, 1, &random);
        for (int64_t k = 0; k < n_row * cases[i / 2].n_tok && i % 2; k++)
            x[k] += 10 * cases[i / 2].size;
        norm c = { x, weight, bias, n, n_row, cases[i / 2].before, cases[i / 2].n_head, cases[i / 2].n_tok, cases[i / 2].epsilon };
        char name[64];
        snprintf(name, sizeof name, "layer_norm of %d elements, %d heads, %d tokens", (int)n, (int)c.n_head, (int)c.n_tok);
        const ops_case run = { name, layer_norm, &c, NULL, 0, (size_t)n_out * sizeof(float) };
        float *got = malloc(run.out_bytes);
        double *exact = malloc((size_t)n_out * sizeof *exact), *to = exact;
        ops_run(&run, got);
        for (int64_t t = 0; t < c.n_tok; t++)
            for (int64_t h = 0; h < c.n_head; h++, to += n) {
                const float *row = x + t * n_row + c.first + h * n;
                double sum = 0, ss = 0;
                for (int64_t k = 0; k < n; k++)
                    sum += row[k];
                for (int64_t k = 0; k < n; k++)
                    ss += (row[k] - sum / (double)n) * (row[k] - sum / (double)n);
                for (int64_t k = 0; k < n; k++)
                    to[k] = (row[k] - sum / (double)n) / sqrt(ss / (double)n + (double)c.epsilon) * weight[k] + bias[k];
            }
        /* The mean is off by the chain of a sixteenth of the elements; against a spread of about half of `size`, 20 times as much if they lie far off.
         * The factor has the error of a root mean square besides. Results are a few units large. */
        ops_close(name, got, exact, (size_t)n_out, 6e-8 * ((double)n / 32 + 6), 6e-8 * (i % 2 ? 100 : 6) * ((double)n / 64 + 6));
        free(x), free(weight), free(bias), free(got), free(exact);
    }
}

/* A row of zeros is zeros, and no division by zero; equal elements become the summand. */
static void zeros_stay(void **state)
{
    (void)state;
    float x[48] = { 0 }, got[48], weight[48];
    for (int i = 0; i < 48; i++)
        weight[i] = 1;
    norm c = { x, weight, weight, 48, 48, 0, 1, 1, 1e-5f };
    const ops_case run = { "zeros", body, &c, NULL, 0, sizeof got };
    ops_run(&run, got);
    for (int i = 0; i < 48; i++)
        assert_true(got[i] == 0.0f);
    for (int i = 0; i < 48; i++)
        x[i] = 3;
    const ops_case equal = { "equal elements", layer_norm, &c, NULL, 0, sizeof got };
    ops_run(&equal, got);
    for (int i = 0; i < 48; i++)
        assert_true(got[i] == 1.0f);
}

static int finish(void **state) { return (void)state, ops_finish("norm"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(follows_the_definition), cmocka_unit_test(layer_norm_follows_the_definition), cmocka_unit_test(zeros_stay) };
    return cmocka_run_group_tests_name("norm", tests, ops_prepare, finish);
}
