/* SPDX-License-Identifier: MIT */
/* GET_ROWS of every matrix type, TAKE_ROWS, PUT_ROWS: exact, so byte by byte. */
#include "ops_harness.h"
#include "random_blocks.h"

typedef struct pick { ops_matrix *matrix; const float *x; int64_t n_in, n_rows, n; int32_t ids[67]; } pick;

static void get(sl_pass *pass, void *user, void *out)
{
    const pick *p = user;
    sl_pass_output(pass, sl_op_get_rows(pass, &p->matrix->weight, sl_pass_input(pass, SL_TYPE_I32, p->n, p->ids)), out);
}

static void take(sl_pass *pass, void *user, void *out)
{
    const pick *p = user;
    sl_tensor x = ops_input(pass, SL_TYPE_F32, p->n_in + 5, p->n_rows, 1, 1, p->x);
    sl_pass_output(pass, sl_op_take_rows(pass, sl_view_rows(x, 3, p->n_in), sl_pass_input(pass, SL_TYPE_I32, p->n, p->ids)), out);
}

static const int64_t counts[] = { 1, 2, 16, 67 };

static void gets_rows(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (const int *type = random_block_types; *type >= 0; type++)
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            /* 37 rows: two panels and a part; a row in the last one must be found. Three matrices count through. */
            const int64_t n_mat = i == 3 ? 3 : 1, n_in = 512;
            ops_matrix m = ops_matrix_random("embd", (sl_type)*type, n_in, 37, n_mat, &random);
            pick p = { .matrix = &m, .n = counts[i] };
            for (int64_t k = 0; k < p.n; k++)
                p.ids[k] = (int32_t)random_below(&random, (uint64_t)(37 * n_mat));
            p.ids[p.n - 1] = (int32_t)(37 * n_mat - 1);
            const ops_case c = { random_block_name((sl_type)*type), get, &p, &m, 1, (size_t)(p.n * n_in) * sizeof(float) };
            float *got = malloc(c.out_bytes), row[512];
            ops_run(&c, got);
            for (int64_t k = 0; k < p.n; k++) {
                ops_matrix_row(&m, p.ids[k], row);
                assert_memory_equal(got + k * n_in, row, sizeof row);
            }
            free(got);
            free(m.data);
        }
}

static void takes_rows(void **state)
{
    (void)state;
    uint64_t random = 2;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        pick p = { .n_in = 19, .n_rows = 23, .n = counts[i] };
        float *x = ops_random((size_t)((p.n_in + 5) * p.n_rows), 1, &random), got[67 * 19];
        p.x = x;
        for (int64_t k = 0; k < p.n; k++)
            p.ids[k] = (int32_t)random_below(&random, 23);
        p.ids[0] = 22;
        const ops_case c = { "take_rows", take, &p, NULL, 0, (size_t)(p.n * p.n_in) * sizeof(float) };
        ops_run(&c, got);
        for (int64_t k = 0; k < p.n; k++)
            assert_memory_equal(got + k * p.n_in, x + p.ids[k] * (p.n_in + 5) + 3, (size_t)p.n_in * sizeof(float));
        free(x);
    }
}

/* Rows of x, n of them, in whose place some of the n_rows others stand. */
static void put(sl_pass *pass, void *user, void *out)
{
    const pick *p = user;
    sl_tensor x = ops_input(pass, SL_TYPE_F32, p->n_in, p->n, 1, 1, p->x), others = ops_input(pass, SL_TYPE_F32, p->n_in, p->n_rows, 1, 1, p->x + p->n * p->n_in);
    sl_op_put_rows(pass, x, others, sl_pass_input(pass, SL_TYPE_I32, p->n, p->ids));
    sl_pass_output(pass, x, out);
}

static void puts_rows(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        pick p = { .n_in = 19, .n_rows = 23, .n = counts[i] };
        float *x = ops_random((size_t)(p.n_in * (p.n + p.n_rows)), 1, &random), got[67 * 19];
        p.x = x;
        for (int64_t k = 0; k < p.n; k++)
            p.ids[k] = k % 3 ? (int32_t)random_below(&random, 24) : 0;
        p.ids[p.n - 1] = 23;
        const ops_case c = { "put_rows", put, &p, NULL, 0, (size_t)(p.n * p.n_in) * sizeof(float) };
        ops_run(&c, got);
        for (int64_t k = 0; k < p.n; k++)
            assert_memory_equal(got + k * p.n_in, x + (p.ids[k] ? p.n + p.ids[k] - 1 : k) * p.n_in, (size_t)p.n_in * sizeof(float));
        p.ids[0] = i % 2 ? 24 : -1;
        ops_run_fails(&c, 0, SL_ERR_RANGE, "put_rows: row");
        free(x);
    }
}

/* Rows that are tables of their own. */
static void takes_long_rows(void **state)
{
    (void)state;
    enum { LONG = 600001 };
    uint64_t random = 4;
    pick p = { .n_in = LONG, .n_rows = 3, .n = 2, .ids = { 2, 0 } };
    float *x = ops_random((size_t)((LONG + 5) * p.n_rows), 1, &random), *got = malloc(2 * LONG * sizeof *got);
    p.x = x;
    const ops_case c = { "take_rows of long ones", take, &p, NULL, 0, 2 * LONG * sizeof *got };
    ops_run(&c, got);
    for (int64_t k = 0; k < p.n; k++)
        assert_memory_equal(got + k * LONG, x + p.ids[k] * (LONG + 5) + 3, LONG * sizeof *got);
    free(x), free(got);
}

static void rows_that_are_not_there(void **state)
{
    (void)state;
    static const int32_t wrong[] = { -1, 37, INT32_MAX, INT32_MIN };
    uint64_t random = 3;
    ops_matrix m = ops_matrix_random("embd", SL_TYPE_F32, 19, 37, 1, &random);
    float *x = ops_random(24 * 37, 1, &random);
    for (size_t i = 0; i < 4; i++) {
        pick p = { .matrix = &m, .x = x, .n_in = 19, .n_rows = 37, .n = 3, .ids = { 0, wrong[i], 36 } };
        const ops_case g = { "get_rows", get, &p, &m, 1, 3 * 19 * sizeof(float) }, t = { "take_rows", take, &p, NULL, 0, 3 * 19 * sizeof(float) };
        ops_run_fails(&g, 0, SL_ERR_RANGE, "get_rows");
        ops_run_fails(&t, 0, SL_ERR_RANGE, "take_rows");
    }
    free(x);
    free(m.data);
}

static int finish(void **state) { return (void)state, ops_finish("rows"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(gets_rows), cmocka_unit_test(takes_rows), cmocka_unit_test(puts_rows), cmocka_unit_test(takes_long_rows), cmocka_unit_test(rows_that_are_not_there) };
    return cmocka_run_group_tests_name("rows", tests, ops_prepare, finish);
}
