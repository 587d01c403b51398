/* SPDX-License-Identifier: MIT */
/* ADD_TO, SILU_MUL, GELU, QUICK_GELU, ADD_GATED, COPY_TO, and SCALE as matrix products use it, against their definitions. */
#include "ops_harness.h"

#include <math.h>

/* Long rows are cut into pieces of 4096 elements. */
static const struct shape { int64_t n, before, after, n1, n2; } shapes[] = {
    { 1, 0, 0, 1, 1 }, { 7, 0, 0, 3, 1 }, { 24, 3, 1, 67, 1 }, { 40, 0, 0, 5, 7 }, { 768, 0, 0, 33, 1 }, { 4096, 0, 0, 2, 1 }, { 4097, 1, 0, 3, 1 }, { 9001, 0, 2, 2, 1 },
};

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

/* ---- image encoders ---- */

typedef struct gated { pair p; float gate; const int32_t *marks; const float *bias; int quick; } gated;

static void add_gated(sl_pass *pass, void *user, void *out)
{
    const gated *g = user;
    const struct shape *s = &g->p.s;
    const sl_tensor none = { .ne = { 0 } };
    sl_tensor whole = ops_input(pass, SL_TYPE_F32, s->before + s->n + s->after, s->n1, s->n2, 1, g->p.x), x = sl_view_rows(whole, s->before, s->n);
    sl_op_add_gated(pass, x, g->p.is_row ? ops_input(pass, SL_TYPE_F32, s->n, 1, 1, 1, g->p.y) : part(pass, s, g->p.y), sl_pass_input(pass, SL_TYPE_F32, 1, &g->gate),
                    g->marks ? sl_pass_input(pass, SL_TYPE_I32, s->n1 * s->n2, g->marks) : none);
    sl_pass_output(pass, whole, out);
}

/* Marked rows get fma(gate, y, x), exactly rounded; the others, and what lies beside, keep their bits, NaN in y or not. */
static void adds_gated(void **state)
{
    (void)state;
    uint64_t random = 4;
    int32_t marks[67];
    for (size_t i = 0; i < 4 * COUNT(shapes); i++) {
        gated g = { .p = { .s = shapes[i / 4], .is_row = i % 2 }, .gate = i % 3 ? 0.3f : -1.7f, .marks = i / 2 % 2 ? marks : NULL };
        const int64_t n_row = g.p.s.before + g.p.s.n + g.p.s.after;
        const size_t n = elements(&g.p.s);
        float *x = ops_random(n, 3, &random), *y = ops_random(n, 3, &random), *got = malloc(n * sizeof *got);
        for (int64_t r = 0; r < g.p.s.n1 * g.p.s.n2; r++)
            marks[r] = r % 3 == 1 ? 0 : r % 3 ? -5 : 1;
        for (size_t k = 0; k < n && g.marks && !g.p.is_row; k++)
            y[k] = marks[k / (size_t)n_row] ? y[k] : NAN;
        g.p.x = x, g.p.y = y;
        const ops_case c = { "add_gated", add_gated, &g, NULL, 0, n * sizeof *got };
        ops_run(&c, got);
        for (size_t k = 0; k < n; k++) {
            const int64_t at = (int64_t)k % n_row - g.p.s.before;
            const int inside = at >= 0 && at < g.p.s.n && (!g.marks || marks[k / (size_t)n_row]);
            const float sum = inside ? fmaf(g.gate, y[g.p.is_row ? (size_t)at : k], x[k]) : x[k];
            if (memcmp(&sum, &got[k], sizeof sum))
                fail_msg("add_gated: element %zu of %zu is %a, exactly %a", k, n, (double)got[k], (double)sum);
        }
        free(x), free(y), free(got);
    }
}

static void gelu(sl_pass *pass, void *user, void *out)
{
    const gated *g = user;
    const struct shape *s = &g->p.s;
    const sl_tensor none = { .ne = { 0 } };
    sl_tensor whole = ops_input(pass, SL_TYPE_F32, s->before + s->n + s->after, s->n1, s->n2, 1, g->p.x);
    (g->quick ? sl_op_quick_gelu : sl_op_gelu)(pass, sl_view_rows(whole, s->before, s->n), g->bias ? ops_input(pass, SL_TYPE_F32, s->n, 1, 1, 1, g->bias) : none);
    sl_pass_output(pass, whole, out);
}

static void gelus(void **state)
{
    (void)state;
    static const float edges[] = { 0, -0.0f, 1, -1, 1.41421356f, -1.41421356f, 5.6f, -5.6f, -5.7f, 20, -20, 1e4f, -1e4f, 1e-30f, -1e-30f, 3e37f, -3e37f };
    uint64_t random = 5;
    for (size_t i = 0; i < 4 * COUNT(shapes); i++) {
        gated g = { .p = { .s = shapes[i / 4] }, .quick = i / 2 % 2 };
        const int64_t n_row = g.p.s.before + g.p.s.n + g.p.s.after;
        const size_t n = elements(&g.p.s);
        float *x = ops_random(n, i % 3 ? 4 : 9, &random), *bias = ops_random((size_t)g.p.s.n, 1, &random), *got = malloc(n * sizeof *got);
        for (size_t k = 0; k < COUNT(edges) && k < n; k++)
            x[(k * 37 + 5) % n] = edges[k];
        g.p.x = x, g.bias = i % 2 ? bias : NULL;
        const ops_case c = { g.quick ? "quick_gelu" : "gelu", gelu, &g, NULL, 0, n * sizeof *got };
        ops_run(&c, got);
        for (size_t k = 0; k < n; k++) {
            const int64_t at = (int64_t)k % n_row - g.p.s.before;
            const int inside = at >= 0 && at < g.p.s.n;
            const double z = inside && g.bias ? (double)(float)(x[k] + bias[at]) : x[k], curve = g.quick ? z / (1 + exp(-1.702 * z)) : 0.5 * z * erfc(-z / sqrt(2)), exact = inside ? curve : z;
            if (!(fabs(got[k] - exact) <= 3e-7 * fmax(0, exact) + 1e-7) || (!inside && memcmp(&x[k], &got[k], sizeof *x)))
                fail_msg("gelu %d: element %zu of %zu is %a, exactly %a", g.quick, k, n, (double)got[k], exact);
        }
        free(x), free(bias), free(got);
    }
}

/* What is copied where: every `step`-th element of rows of `n` * step, from those that stand side by side, or the other way round, or from one row. */
typedef struct copying { const float *from, *to; int64_t n, n1, step; int way; } copying;
enum { TOGETHER, APART, FROM_ROW, TOKENS };

static void copy(sl_pass *pass, void *user, void *out)
{
    const copying *c = user;
    sl_tensor to = ops_input(pass, SL_TYPE_F32, c->n * c->step, c->n1, 1, 1, c->to), from = ops_input(pass, SL_TYPE_F32, c->n * c->step, c->n1, 1, 1, c->from);
    sl_tensor dense = sl_view_rows(from, c->n * (c->step - 1), c->n), apart = sl_view_every(from, c->step - 1, c->n, c->step);
    if (c->way == TOGETHER)
        sl_op_copy_to(pass, sl_view_rows(to, 0, c->n), apart);
    else if (c->way == APART)
        sl_op_copy_to(pass, sl_view_every(to, 1, c->n, c->step), dense);
    else if (c->way == FROM_ROW)
        sl_op_copy_to(pass, sl_view_every(to, 0, c->n, c->step), sl_view_tokens(dense, c->n1 - 1, 1));
    else
        sl_op_copy_to(pass, sl_view_tokens(to, c->n1 / 2, c->n1 - c->n1 / 2), sl_view_tokens(from, 0, c->n1 - c->n1 / 2));
    sl_pass_output(pass, to, out);
}

static void copies(void **state)
{
    (void)state;
    static const struct { int64_t n, n1, step; } sizes[] = { { 1, 1, 2 }, { 7, 5, 3 }, { 40, 67, 2 }, { 5000, 3, 2 }, { 16, 4, 5 } };
    uint64_t random = 6;
    for (size_t i = 0; i < 4 * COUNT(sizes); i++) {
        copying c = { .n = sizes[i / 4].n, .n1 = sizes[i / 4].n1, .step = sizes[i / 4].step, .way = i % 4 };
        const int64_t row = c.n * c.step, n = row * c.n1, moved = c.n1 / 2;
        float *from = ops_random((size_t)n, 3, &random), *to = ops_random((size_t)n, 3, &random), *got = malloc((size_t)n * sizeof *got), *want = malloc((size_t)n * sizeof *want);
        c.from = from, c.to = to;
        const ops_case run = { "copy_to", copy, &c, NULL, 0, (size_t)n * sizeof *got };
        ops_run(&run, got);
        memcpy(want, to, (size_t)n * sizeof *want);
        for (int64_t r = 0; r < c.n1; r++)
            for (int64_t k = 0; k < c.n; k++)
                if (c.way == TOGETHER)
                    want[r * row + k] = from[r * row + c.step * k + c.step - 1];
                else if (c.way == APART)
                    want[r * row + c.step * k + 1] = from[r * row + c.n * (c.step - 1) + k];
                else if (c.way == FROM_ROW)
                    want[r * row + c.step * k] = from[(c.n1 - 1) * row + c.n * (c.step - 1) + k];
        if (c.way == TOKENS)
            memcpy(want + moved * row, from, (size_t)((c.n1 - moved) * row) * sizeof *want);
        assert_memory_equal(got, want, (size_t)n * sizeof *got);
        free(from), free(to), free(got), free(want);
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
    const struct CMUnitTest tests[] = { cmocka_unit_test(adds), cmocka_unit_test(gates), cmocka_unit_test(scales), cmocka_unit_test(adds_gated), cmocka_unit_test(gelus), cmocka_unit_test(copies) };
    return cmocka_run_group_tests_name("elementwise", tests, ops_prepare, finish);
}
