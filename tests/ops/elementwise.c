/* SPDX-License-Identifier: MIT */
/* ADD_TO, SILU_MUL, and SCALE as matrix products use it, against their definitions. */
#include "ops_harness.h"

#include <math.h>

/* Long rows are cut into pieces of 4096 elements. */
static const struct shape { int64_t n, before, after, n1, n2; } shapes[] = {
    { 1, 0, 0, 1, 1 }, { 7, 0, 0, 3, 1 }, { 24, 3, 1, 67, 1 }, { 40, 0, 0, 5, 7 }, { 768, 0, 0, 33, 1 }, { 4096, 0, 0, 2, 1 }, { 4097, 1, 0, 3, 1 }, { 9001, 0, 2, 2, 1 },
};
#define COUNT(a) (sizeof(a) / sizeof(a)[0])

typedef struct pair { struct shape s; const float *x, *y; int is_row; } pair;

static size_t elements(const struct shape *s) { return (size_t)((s->before + s->n + s->after) * s->n1 * s->n2); }

static sl_tensor part(sl_pass *pass, const struct shape *s, const float *host)
{
    return sl_view_rows(ops_input(pass, SL_TYPE_F32, s->before + s->n + s->after, s->n1, s->n2, 1, host), s->before, s->n);
}

/* All of x comes back: what lies beside the view must not change. */
static void add(sl_pass *pass, void *user, void *out)
{
    const pair *p = user;
    const struct shape *s = &p->s;
    sl_tensor whole = ops_input(pass, SL_TYPE_F32, s->before + s->n + s->after, s->n1, s->n2, 1, p->x), x = sl_view_rows(whole, s->before, s->n);
    sl_op_add_to(pass, x, p->is_row ? ops_input(pass, SL_TYPE_F32, s->n, 1, 1, 1, p->y) : part(pass, s, p->y));
    sl_pass_output(pass, whole, out);
}

static void silu_mul(sl_pass *pass, void *user, void *out)
{
    const pair *p = user;
    sl_pass_output(pass, sl_op_silu_mul(pass, part(pass, &p->s, p->x), part(pass, &p->s, p->y)), out);
}

static void adds(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (size_t i = 0; i < 2 * COUNT(shapes); i++) {
        pair p = { .s = shapes[i / 2], .is_row = i % 2 };
        const int64_t n_row = p.s.before + p.s.n + p.s.after;
        const size_t n = elements(&p.s);
        float *x = ops_random(n, 3, &random), *y = ops_random(n, 3, &random), *got = malloc(n * sizeof *got);
        p.x = x, p.y = y;
        const ops_case c = { "add_to", add, &p, NULL, 0, n * sizeof *got };
        ops_run(&c, got);
        for (size_t k = 0; k < n; k++) {
            const int64_t at = (int64_t)k % n_row - p.s.before;
            const int inside = at >= 0 && at < p.s.n;
            const float sum = inside ? x[k] + y[p.is_row ? (size_t)at : k] : x[k];     /* one rounding: exact */
            if (memcmp(&sum, &got[k], sizeof sum))
                fail_msg("add_to: element %zu of %zu is %a, exactly %a", k, n, (double)got[k], (double)sum);
        }
        free(x), free(y), free(got);
    }
}

static void gates(void **state)
{
    (void)state;
    static const float edges[] = { 0, -0.0f, 1, -1, 20, -20, 79.9f, -79.9f, 80.1f, -80.1f, 88, -88, 89, -89, 104, -104, 1e4f, -1e4f, 1e-30f, -1e-30f, 3e37f, -3e37f };
    uint64_t random = 2;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        pair p = { .s = shapes[i] };
        const int64_t n_row = p.s.before + p.s.n + p.s.after;
        const size_t n = elements(&p.s), n_out = (size_t)(p.s.n * p.s.n1 * p.s.n2);
        float *x = ops_random(n, i % 2 ? 4 : 40, &random), *y = ops_random(n, 2, &random), *got = malloc(n_out * sizeof *got);
        for (size_t k = 0; k < COUNT(edges) && k < n; k++)
            x[(k * 37 + 5) % n] = edges[k];
        p.x = x, p.y = y;
        const ops_case c = { "silu_mul", silu_mul, &p, NULL, 0, n_out * sizeof *got };
        double *exact = malloc(n_out * sizeof *exact);
        ops_run(&c, got);
        for (size_t k = 0; k < n_out; k++) {
            const size_t at = k / (size_t)p.s.n * (size_t)n_row + (size_t)p.s.before + k % (size_t)p.s.n;
            exact[k] = x[at] / (1 + exp(-(double)x[at])) * y[at];
        }
        /* exp, one sum, one quotient, one product; below -88 the exact result is next to nothing. */
        ops_close("silu_mul", got, exact, n_out, 8e-7, 2e-36);
        free(x), free(y), free(got), free(exact);
    }
}

/* ---- factors on products ---- */

typedef struct scaling { ops_matrix *matrix; const float *x, *scale; const int32_t *ids; int64_t n_used, n_tok; } scaling;

static void scale(sl_pass *pass, void *user, void *out)
{
    const scaling *s = user;
    sl_weight w = s->matrix->weight;
    w.scale = ops_input(pass, SL_TYPE_F32, w.n_mat, 1, 1, 1, s->scale);
    sl_act x = sl_act_of(ops_input(pass, SL_TYPE_F32, w.n_in, s->n_tok, 1, 1, s->x));
    sl_tensor y = w.n_mat == 1 ? sl_op_matmul(pass, &w, &x) : sl_op_matmul_expert(pass, &w, &x, ops_input(pass, SL_TYPE_I32, s->n_used, s->n_tok, 1, 1, s->ids));
    sl_pass_output(pass, y, out);
}

/* Matrices of one column that holds 1, so that the product is x, and then x times the factor, rounded once. */
static void scales(void **state)
{
    (void)state;
    enum { N_OUT = 5003, N_TOK = 13, N_MAT = 5 };
    uint64_t random = 3;
    float *ones = malloc(N_OUT * N_MAT * sizeof *ones), *x = ops_random(N_TOK, 1, &random), *factors = ops_random(N_MAT, 2, &random);
    float *got = malloc(2 * N_TOK * N_OUT * sizeof *got);
    int32_t ids[2 * N_TOK];
    for (int i = 0; i < N_OUT * N_MAT; i++)
        ones[i] = 1;
    for (int t = 0; t < N_TOK; t++)
        ids[2 * t] = t % 3, ids[2 * t + 1] = 3 + t % 2;
    for (int n_mat = 1; n_mat <= N_MAT; n_mat += N_MAT - 1) {
        const int n_used = n_mat == 1 ? 1 : 2;
        ops_matrix m = { { .name = "ones", .type = SL_TYPE_F32, .n_in = 1, .n_out = N_OUT, .n_mat = n_mat }, (unsigned char *)ones, sizeof *ones };
        scaling s = { &m, x, factors, ids, n_used, N_TOK };
        const ops_case c = { n_mat == 1 ? "scale" : "scale of experts", scale, &s, &m, 1, (size_t)(n_used * N_TOK * N_OUT) * sizeof *got };
        ops_run(&c, got);
        for (int i = 0; i < n_used * N_TOK * N_OUT; i++) {
            const int row = i / N_OUT;
            const float exact = x[row / n_used] * factors[n_mat == 1 ? 0 : ids[row]];
            if (memcmp(&exact, &got[i], sizeof exact))
                fail_msg("%s: element %d is %a, exactly %a", c.name, i, (double)got[i], (double)exact);
        }
    }
    free(ones), free(x), free(factors), free(got);
}

static int finish(void **state) { return (void)state, ops_finish("elementwise"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(adds), cmocka_unit_test(gates), cmocka_unit_test(scales) };
    return cmocka_run_group_tests_name("elementwise", tests, ops_prepare, finish);
}
