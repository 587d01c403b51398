/* SPDX-License-Identifier: MIT */
/* MATMUL, MATMUL_EXPERT and the QUANTIZE before them, with every matrix type, against sums in double precision over the decoded weights and over
 * activations that are quantized here by the written rule. */
#include "ops_harness.h"
#include "random_blocks.h"

#include <math.h>

typedef struct product { ops_matrix *matrix; const float *x; const int32_t *ids; int64_t n_tok, n_used, per_slot; } product;

static void matmul(sl_pass *pass, void *user, void *out)
{
    const product *p = user;
    sl_act x = sl_act_of(ops_input(pass, SL_TYPE_F32, p->matrix->weight.n_in, p->n_tok, 1, 1, p->x));
    sl_pass_output(pass, sl_op_matmul(pass, &p->matrix->weight, &x), out);
}

static void matmul_expert(sl_pass *pass, void *user, void *out)
{
    const product *p = user;
    sl_act x = sl_act_of(ops_input(pass, SL_TYPE_F32, p->matrix->weight.n_in, p->n_tok * (p->per_slot ? p->n_used : 1), 1, 1, p->x));
    sl_pass_output(pass, sl_op_matmul_expert(pass, &p->matrix->weight, &x, ops_input(pass, SL_TYPE_I32, p->n_used, p->n_tok, 1, 1, p->ids)), out);
}

/* ---- the definition ---- */

/* To 8 significant bits, ties to even; nothing below 2^-40. */
static double bf16_number(double x)
{
    int exponent;
    frexp(x, &exponent);
    x = ldexp(nearbyint(ldexp(x, 8 - exponent)), exponent - 8);
    return fabs(x) < 0x1p-40 ? 0 : x;
}

/* How the activations stand beside a weight: as they are, rounded one by one, or in blocks of `block` whose largest magnitude becomes 127. */
static void activations(sl_act_form form, const float *x, int64_t n, double *to)
{
    static const int blocks[SL_ACT_COUNT] = { [SL_ACT_A32] = 32, [SL_ACT_A256] = 256 };
    const int block = blocks[form];
    for (int64_t i = 0; !block && i < n; i++)
        to[i] = form == SL_ACT_B16 ? bf16_number(x[i]) : x[i];
    for (int64_t b = 0; block && b < n; b += block) {
        float top = 0;
        for (int i = 0; i < block; i++)
            top = fabsf(x[b + i]) > top ? fabsf(x[b + i]) : top;
        const float by = top < 0x1p-100f ? 0 : 127.0f / top, d = top < 0x1p-100f ? 0 : top / 127.0f;
        for (int i = 0; i < block; i++)
            to[b + i] = (double)d * (double)nearbyintf(x[b + i] * by);
    }
}

/* One row of W times one row of activations; *size: the sum of the magnitudes, which the error is measured against. */
static double dot(sl_act_form form, const float *w, const double *x, int64_t n, double *size)
{
    double sum = 0;
    *size = 0;
    for (int64_t i = 0; i < n; i++) {
        const double one = (form == SL_ACT_B16 ? bf16_number(w[i]) : w[i]) * x[i];
        sum += one;
        *size += fabs(one);
    }
    return sum;
}

/* y[n_out] of row t of the result, whose matrix is `mat`. */
static void check_row(const ops_matrix *m, const char *name, int64_t mat, const float *x, const float *got)
{
    const sl_weight *w = &m->weight;
    const sl_type_info *info = sl_type_get((uint32_t)w->type);
    double a[768], size;
    float row[768];
    activations(w->form, x, w->n_in, a);
    /* One rounding per step of the chain: an element, or twice a block (its scale, its minimum), whose parts may be larger than their difference. */
    const double steps = info->form == SL_ACT_F32 ? (double)w->n_in + 2 : 16.0 + 4.0 * (double)(w->n_in / info->block_values) * (info->block_values > 32 ? 8 : 1);
    for (int64_t o = 0; o < w->n_out; o++) {
        ops_matrix_row(m, mat * w->n_out + o, row);
        const double exact = dot(w->form, row, a, w->n_in, &size);
        ops_close(name, got + o, &exact, 1, 0, 6e-8 * steps * size + 1e-35);
    }
}

/* ---- MATMUL ---- */

static const struct { int64_t blocks, n_out, n_tok; } shapes[] = { { 1, 1, 1 }, { 3, 37, 1 }, { 2, 37, 7 }, { 1, 16, 8 }, { 3, 5, 9 }, { 2, 130, 67 } };

/* Matrices of one type with one form of activations. */
static void multiply(sl_type type, sl_act_form form, size_t shape, uint64_t *random)
{
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const int64_t n_in = shapes[shape].blocks * (info->block_values > 1 ? info->block_values : 45);
    char name[64];
    snprintf(name, sizeof name, "matmul/%s%s, %d x %d, %d tokens", info->name, form == SL_ACT_B16 ? " in bf16" : "", (int)n_in, (int)shapes[shape].n_out, (int)shapes[shape].n_tok);
    ops_matrix m = ops_matrix_random("w", type, n_in, shapes[shape].n_out, 1, random);
    m.weight.form = form;
    float *x = ops_random((size_t)(n_in * shapes[shape].n_tok), 3, random);
    for (int64_t k = 0; shape == 4 && k < n_in; k++)
        x[k] = k % 32 ? 0 : 0x1p-101f;          /* a row that counts as zeros when it is quantized */
    product p = { .matrix = &m, .x = x, .n_tok = shapes[shape].n_tok };
    const ops_case c = { name, matmul, &p, &m, 1, (size_t)(shapes[shape].n_out * p.n_tok) * sizeof(float) };
    float *got = malloc(c.out_bytes);
    ops_run(&c, got);
    for (int64_t t = 0; t < p.n_tok; t++)
        check_row(&m, name, 0, x + t * n_in, got + t * shapes[shape].n_out);
    /* The last row alone is the same bytes. */
    product single = { .matrix = &m, .x = x + (p.n_tok - 1) * n_in, .n_tok = 1 };
    const ops_case one = { name, matmul, &single, &m, 1, (size_t)shapes[shape].n_out * sizeof(float) };
    float *alone = malloc(one.out_bytes);
    ops_run(&one, alone);
    assert_memory_equal(alone, got + (p.n_tok - 1) * shapes[shape].n_out, one.out_bytes);
    free(m.data), free(x), free(got), free(alone);
}

static void multiplies(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (const int *type = random_block_types; *type >= 0; type++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            const sl_act_form form = sl_type_get((uint32_t)*type)->form;
            multiply((sl_type)*type, form, i, &random);
            if (form == SL_ACT_F32)
                multiply((sl_type)*type, SL_ACT_B16, i, &random);
        }
}

/* ---- MATMUL_EXPERT ---- */

static void multiply_by_experts(sl_type type, sl_act_form form, int per_slot, uint64_t *random)
{
    enum { N_EXPERT = 5, N_USED = 2, N_TOK = 23, N_OUT = 21 };
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const int64_t n_in = info->block_values > 1 ? 2 * info->block_values : 45;
    const int rows = per_slot ? N_TOK * N_USED : N_TOK;
    int32_t ids[N_USED * N_TOK];
    char name[64];
    snprintf(name, sizeof name, "matmul_expert/%s%s, a row per %s", info->name, form == SL_ACT_B16 ? " in bf16" : "", per_slot ? "slot" : "token");
    for (int t = 0; t < N_TOK; t++) {       /* expert 4 is for nobody */
        ids[2 * t] = (int32_t)random_below(random, 3);
        ids[2 * t + 1] = ids[2 * t] + 1;
    }
    ops_matrix m = ops_matrix_random("experts", type, n_in, N_OUT, N_EXPERT, random);
    m.weight.form = form;
    float *x = ops_random((size_t)n_in * (size_t)rows, 2, random);
    product p = { &m, x, ids, N_TOK, N_USED, per_slot };
    static float got[N_TOK * N_USED * N_OUT];
    const ops_case c = { name, matmul_expert, &p, &m, 1, sizeof got };
    ops_run(&c, got);
    for (int i = 0; i < N_TOK * N_USED; i++)
        check_row(&m, name, ids[i], x + (per_slot ? i : i / N_USED) * n_in, got + i * N_OUT);
    free(m.data), free(x);
}

static void multiplies_by_experts(void **state)
{
    (void)state;
    uint64_t random = 2;
    for (const int *type = random_block_types; *type >= 0; type++)
        for (int per_slot = 0; per_slot < 2; per_slot++) {
            const sl_act_form form = sl_type_get((uint32_t)*type)->form;
            multiply_by_experts((sl_type)*type, form, per_slot, &random);
            if (form == SL_ACT_F32)
                multiply_by_experts((sl_type)*type, SL_ACT_B16, per_slot, &random);
        }
}

static void experts_that_are_not_there(void **state)
{
    (void)state;
    static const int32_t wrong[] = { -1, 5, INT32_MAX };
    uint64_t random = 3;
    ops_matrix m = ops_matrix_random("blk.0.ffn_up_exps.weight", SL_TYPE_F32, 45, 21, 5, &random);
    float *x = ops_random(45, 1, &random);
    for (size_t i = 0; i < 3; i++) {
        const int32_t ids[] = { 0, wrong[i] };
        product p = { &m, x, ids, 1, 2, 0 };
        const ops_case c = { "matmul_expert", matmul_expert, &p, &m, 1, 2 * 21 * sizeof(float) };
        ops_run_fails(&c, 0, SL_ERR_RANGE, "blk.0.ffn_up_exps.weight");
    }
    free(m.data), free(x);
}

/* ---- QUANTIZE ---- */

static void refuses_what_is_no_number(void **state)
{
    (void)state;
    static const struct { sl_type type; sl_act_form form; } kinds[] = {
        SL_ROW(TYPE_Q8_0, { SL_TYPE_Q8_0, SL_ACT_A32 },) SL_ROW(TYPE_Q4_K, { SL_TYPE_Q4_K, SL_ACT_A256 },) SL_ROW(TYPE_F16, { SL_TYPE_F16, SL_ACT_B16 },)
    };
    static const float wrong[] = { NAN, INFINITY, -INFINITY };
    uint64_t random = 4;
    for (size_t i = 0; i < 3 * sizeof kinds / sizeof kinds[0]; i++) {
        ops_matrix m = ops_matrix_random("w", kinds[i / 3].type, 512, 17, 1, &random);
        m.weight.form = kinds[i / 3].form;
        float *x = ops_random(512 * 3, 1, &random);
        x[512 + 300] = wrong[i % 3];
        product p = { .matrix = &m, .x = x, .n_tok = 3 };
        const ops_case c = { "quantize", matmul, &p, &m, 1, 3 * 17 * sizeof(float) };
        ops_run_fails(&c, 0, SL_ERR_NONFINITE, "row 1");
        free(m.data), free(x);
    }
}

static int finish(void **state) { return (void)state, ops_finish("matmul"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiplies), cmocka_unit_test(multiplies_by_experts), cmocka_unit_test(experts_that_are_not_there), cmocka_unit_test(refuses_what_is_no_number),
    };
    return cmocka_run_group_tests_name("matmul", tests, ops_prepare, finish);
}
