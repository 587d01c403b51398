/* SPDX-License-Identifier: MIT */
/* Groups: RMS_NORM_QUANTIZE, MATMUL_MANY and SWIGLU give the bytes of the operations that they stand for, made one by one; on a device that does not have them, too. */
#include "counting.h"
#include "ops_harness.h"
#include "random_blocks.h"

#include <math.h>

enum { N_IN = 512, MOST_TOK = 67, N_EXPERT = 5, N_USED = 2 };

typedef struct group {
    ops_matrix *m;
    int n, apart;                   /* matrices; 1: the operations one by one */
    const float *x, *norm, *scale;  /* norm [N_IN]: NULL: rows as they are. scale: NULL, or of the last matrix */
    const int32_t *ids;             /* by expert: [N_USED, n_tok] */
    int64_t n_tok;
} group;

static sl_act activations(sl_pass *pass, const group *g)
{
    sl_tensor x = ops_input(pass, SL_TYPE_F32, N_IN, g->n_tok, 1, 1, g->x);
    if (!g->norm)
        return sl_act_of(x);
    sl_tensor norm = ops_input(pass, SL_TYPE_F32, N_IN, 1, 1, 1, g->norm);
    return g->apart ? sl_act_of(sl_op_rms_norm(pass, x, norm, 1e-5f)) : sl_op_rms_norm_quantize(pass, x, norm, 1e-5f, &g->m[0].weight);
}

/* Copies; the last with its factor. */
static void weights_of(sl_pass *pass, const group *g, sl_weight *to)
{
    for (int i = 0; i < g->n; i++)
        to[i] = g->m[i].weight;
    if (g->scale)
        to[g->n - 1].scale = ops_input(pass, SL_TYPE_F32, to[0].n_mat, 1, 1, 1, g->scale);
}

static void many(sl_pass *pass, void *user, void *out)
{
    const group *g = user;
    sl_weight w[SL_OP_PARTS];
    sl_tensor y[SL_OP_PARTS];
    weights_of(pass, g, w);
    const sl_weight *const weights[] = { &w[0], &w[1], &w[2], &w[3] };
    sl_act a = activations(pass, g);
    if (!g->apart)
        sl_op_matmul_many(pass, weights, g->n, &a, y);
    for (int i = 0; i < g->n; i++) {
        if (g->apart)
            y[i] = sl_op_matmul(pass, weights[i], &a);
        sl_pass_output(pass, y[i], out);
        out = (float *)out + w[i].n_out * g->n_tok;
    }
}

static void swiglu(sl_pass *pass, void *user, void *out)
{
    const group *g = user;
    sl_weight w[2];
    weights_of(pass, g, w);
    sl_act a = activations(pass, g);
    sl_tensor ids = { .ne = { 0 } }, y;
    if (g->ids)
        ids = ops_input(pass, SL_TYPE_I32, N_USED, g->n_tok, 1, 1, g->ids);
    if (!g->apart && !g->ids && g->n_tok % 2) {     /* into memory that was there before */
        y = sl_pass_tensor(pass, SL_TYPE_F32, w[1].n_out, g->n_tok, 1, 1);
        sl_op_swiglu_to(pass, y, &w[0], &w[1], &a);
    } else if (!g->apart)
        y = g->ids ? sl_op_swiglu_expert(pass, &w[0], &w[1], &a, ids) : sl_op_swiglu(pass, &w[0], &w[1], &a);
    else if (g->ids)
        y = sl_op_silu_mul(pass, sl_op_matmul_expert(pass, &w[0], &a, ids), sl_op_matmul_expert(pass, &w[1], &a, ids));
    else
        y = sl_op_silu_mul(pass, sl_op_matmul(pass, &w[0], &a), sl_op_matmul(pass, &w[1], &a));
    sl_pass_output(pass, y, out);
}

/* The rows themselves and the product with them. */
static void norm(sl_pass *pass, void *user, void *out)
{
    const group *g = user;
    sl_act a = activations(pass, g);
    sl_pass_output(pass, a.form[SL_ACT_F32], out);
    sl_pass_output(pass, sl_op_matmul(pass, &g->m[0].weight, &a), (float *)out + N_IN * g->n_tok);
}

/* The group and the operations one by one, everywhere. */
static void compare(const char *name, ops_body *body, group *g, size_t n_out)
{
    ops_case c = { name, body, g, g->m, (size_t)g->n, n_out * sizeof(float) };
    float *together = malloc(c.out_bytes), *apart = malloc(c.out_bytes);
    g->apart = 0;
    ops_run(&c, together);
    g->apart = 1;
    ops_run(&c, apart);
    for (size_t i = 0; i < n_out; i++)
        if (memcmp(&together[i], &apart[i], sizeof(float)))
            fail_msg("%s: number %zu is %a, one by one %a", name, i, (double)together[i], (double)apart[i]);
    free(together), free(apart);
}

static const int64_t tokens[] = { 1, 2, 7, 16, 17, MOST_TOK };
enum { N_TOKENS = sizeof tokens / sizeof tokens[0] };

static ops_matrix matrix(sl_type type, sl_act_form float_form, int64_t n_out, int64_t n_mat, uint64_t *random)
{
    ops_matrix m = ops_matrix_random("w", type, N_IN, n_out, n_mat, random);
    m.weight.form = m.weight.form == SL_ACT_F32 ? float_form : m.weight.form;
    return m;
}

static size_t count_types(void)
{
    size_t n = 0;
    while (random_block_types[n] >= 0)
        n++;
    return n;
}

/* Every type, twice and beside another: kernels that prepare rows alike and such that do not, packed or not, from one row to many. */
static void products_of_all_types(void **state)
{
    (void)state;
    static const int64_t n_out[] = { 37, 150, 16 };
    const size_t n_types = count_types();
    uint64_t random = 1;
    float *x = ops_random(N_IN * MOST_TOK, 2, &random), *weight = ops_random(N_IN, 2, &random);
    for (size_t t = 0; t < n_types; t++) {
        ops_matrix m[3];
        const size_t types[] = { t, t, (t + 1 + random_below(&random, (unsigned)n_types - 1)) % n_types };
        for (int i = 0; i < 3; i++)
            m[i] = matrix((sl_type)random_block_types[types[i]], t % 2 ? SL_ACT_F32 : SL_ACT_B16, n_out[i], 1, &random);
        for (size_t k = t % 3; k < N_TOKENS; k += 3) {
            char name[80];
            snprintf(name, sizeof name, "matmul_many of %s, %s, %s, %d tokens", sl_type_name((uint32_t)m[0].weight.type), sl_type_name((uint32_t)m[1].weight.type),
                     sl_type_name((uint32_t)m[2].weight.type), (int)tokens[k]);
            const float factor = 0.37f;
            group g = { .m = m, .n = 3, .x = x, .norm = k % 2 ? weight : NULL, .scale = k % 2 ? &factor : NULL, .n_tok = tokens[k] };
            compare(name, many, &g, (size_t)((37 + 150 + 16) * tokens[k]));
        }
        for (int i = 0; i < 3; i++)
            free(m[i].data);
    }
    free(x), free(weight);
}

/* A gate and what it opens, of one type and of two, plain and by expert. */
static void gates_of_all_types(void **state)
{
    (void)state;
    const size_t n_types = count_types();
    uint64_t random = 2;
    float *x = ops_random(N_IN * MOST_TOK, 2, &random);
    int32_t ids[N_USED * MOST_TOK];
    for (int t = 0; t < MOST_TOK; t++) {    /* expert 4 is for nobody */
        ids[2 * t] = (int32_t)random_below(&random, 3);
        ids[2 * t + 1] = ids[2 * t] + 1;
    }
    for (size_t t = 0; t < 2 * n_types; t++) {
        const size_t one = t / 2, other = t % 2 ? (one + 1 + random_below(&random, (unsigned)n_types - 1)) % n_types : one;
        for (size_t k = t % 3; k < N_TOKENS; k += 3) {
            const int expert = k == 1 || k == 5;
            ops_matrix m[2];
            for (int i = 0; i < 2; i++)
                m[i] = matrix((sl_type)random_block_types[i ? other : one], one % 2 ? SL_ACT_F32 : SL_ACT_B16, 150, expert ? N_EXPERT : 1, &random);
            char name[80];
            snprintf(name, sizeof name, "swiglu of %s, %s%s, %d tokens", sl_type_name((uint32_t)m[0].weight.type), sl_type_name((uint32_t)m[1].weight.type), expert ? " by expert" : "",
                     (int)tokens[k]);
            group g = { .m = m, .n = 2, .x = x, .ids = expert ? ids : NULL, .n_tok = tokens[k] };
            compare(name, swiglu, &g, (size_t)(150 * (expert ? N_USED : 1) * tokens[k]));
            free(m[0].data), free(m[1].data);
        }
    }
    free(x);
}

/* A factor stands between product and SiLU. */
static void a_scale_comes_before_the_gate(void **state)
{
    (void)state;
    static const float factor = 0.37f;
    uint64_t random = 3;
    float *x = ops_random(N_IN * 7, 2, &random);
    ops_matrix m[2] = { matrix(SL_TYPE_F32, SL_ACT_F32, 33, 1, &random), matrix(SL_TYPE_F32, SL_ACT_F32, 33, 1, &random) };
    group g = { .m = m, .n = 2, .x = x, .scale = &factor, .n_tok = 7 };
    compare("swiglu with a scale", swiglu, &g, 33 * 7);
    free(m[0].data), free(m[1].data), free(x);
}

static void rows_and_their_forms(void **state)
{
    (void)state;
    uint64_t random = 4;
    float *x = ops_random(N_IN * MOST_TOK, 2, &random), *weight = ops_random(N_IN, 2, &random);
    for (const int *type = random_block_types; *type >= 0; type++)
        for (size_t k = 0; k < N_TOKENS; k += 5) {
            ops_matrix m = matrix((sl_type)*type, k ? SL_ACT_B16 : SL_ACT_F32, 16, 1, &random);
            group g = { .m = &m, .n = 1, .x = x, .norm = weight, .n_tok = tokens[k] };
            char name[64];
            snprintf(name, sizeof name, "rms_norm_quantize before %s, %d tokens", sl_type_name((uint32_t)*type), (int)tokens[k]);
            compare(name, norm, &g, (size_t)((N_IN + 16) * tokens[k]));
            free(m.data);
        }
    free(x), free(weight);
}

static void refuses_what_is_no_number(void **state)
{
    (void)state;
    static const struct { sl_type type; sl_act_form form; } kinds[] = {
        SL_ROW(TYPE_Q8_0, { SL_TYPE_Q8_0, SL_ACT_A32 },) SL_ROW(TYPE_Q4_K, { SL_TYPE_Q4_K, SL_ACT_A256 },) { SL_TYPE_F32, SL_ACT_B16 },
    };
    uint64_t random = 5;
    float *x = ops_random(N_IN * 3, 1, &random), *weight = ops_random(N_IN, 1, &random);
    x[N_IN + 300] = NAN;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        ops_matrix m = matrix(kinds[i].type, kinds[i].form, 16, 1, &random);
        group g = { .m = &m, .n = 1, .x = x, .norm = weight, .n_tok = 3 };
        const ops_case c = { "rms_norm_quantize", norm, &g, &m, 1, (N_IN + 16) * 3 * sizeof(float) };
        ops_run_fails(&c, 0, SL_ERR_NONFINITE, "row 1");
        free(m.data);
    }
    free(x), free(weight);
}

static void experts_that_are_not_there(void **state)
{
    (void)state;
    static const int32_t ids[] = { 0, N_EXPERT };
    uint64_t random = 6;
    float *x = ops_random(N_IN, 1, &random);
    ops_matrix m[2] = { matrix(SL_TYPE_F32, SL_ACT_F32, 33, N_EXPERT, &random), matrix(SL_TYPE_F32, SL_ACT_F32, 33, N_EXPERT, &random) };
    m[0].weight.name = "blk.0.ffn_gate_exps.weight";
    group g = { .m = m, .n = 2, .x = x, .ids = ids, .n_tok = 1 };
    const ops_case c = { "swiglu", swiglu, &g, m, 2, N_USED * 33 * sizeof(float) };
    ops_run_fails(&c, 0, SL_ERR_RANGE, "blk.0.ffn_gate_exps.weight");
    free(m[0].data), free(m[1].data), free(x);
}

/* ---- devices that have none of them, and plans that find no memory ---- */

static const sl_backend *real;

/* The list of the CPU without its groups. */
static const sl_impl *without_groups(void *device, size_t index)
{
    for (size_t i = 0;; i++) {
        const sl_impl *impl = real->impl(device, i);
        if (!impl || (impl->op != SL_OP_RMS_NORM_QUANTIZE && impl->op != SL_OP_MATMUL_MANY && impl->op != SL_OP_SWIGLU && index-- == 0))
            return impl;
    }
}

enum { LAYER_OUT = 33, LAYER_TOK = 3 };

/* Normalisation and three products; the same before a gate. */
static void layer(sl_pass *pass, void *user, void *out)
{
    group g = *(const group *)user;
    g.n = 3;
    many(pass, &g, out);
    g.n = 2;
    swiglu(pass, &g, (float *)out + 3 * LAYER_OUT * LAYER_TOK);
}

static sl_status no_progress(uint64_t done, void *user) { return (void)done, (void)user, SL_OK; }

static void devices_without_them_make_the_calls_one_by_one(void **state)
{
    (void)state;
    uint64_t random = 7;
    static float nothing[4 * LAYER_OUT * LAYER_TOK];
    float *x = ops_random(N_IN * LAYER_TOK, 1, &random), *weight = ops_random(N_IN, 1, &random);
    ops_matrix m[3];
    for (int i = 0; i < 3; i++)
        m[i] = matrix(SL_TYPE_F32, SL_ACT_B16, LAYER_OUT, 1, &random);
    sl_device device = { 0 };
    counting memory = { 0 };
    const sl_mem mem = counting_mem(&memory);
    const sl_backend_options options = { .mem = &mem, .n_threads = 1, .plan_only = 1 };
    assert_int_equal(sl_device_open(&device, "cpu", 3, &options), SL_OK);
    real = device.backend;
    sl_backend poor = *real;
    poor.impl = without_groups;
    const sl_backend *backends[] = { real, &poor };
    static const sl_op together[] = { SL_OP_RMS_NORM_QUANTIZE, SL_OP_RMS_NORM, SL_OP_QUANTIZE, SL_OP_MATMUL_MANY, SL_OP_MATMUL, SL_OP_MATMUL, SL_OP_MATMUL,
                                     SL_OP_RMS_NORM_QUANTIZE, SL_OP_RMS_NORM, SL_OP_QUANTIZE, SL_OP_SWIGLU, SL_OP_MATMUL, SL_OP_MATMUL, SL_OP_SILU_MUL };
    static const sl_op apart[] = { SL_OP_RMS_NORM, SL_OP_QUANTIZE, SL_OP_MATMUL, SL_OP_MATMUL, SL_OP_MATMUL, SL_OP_RMS_NORM, SL_OP_QUANTIZE, SL_OP_MATMUL, SL_OP_MATMUL, SL_OP_SILU_MUL };
    const struct { const sl_op *ops; size_t n; } wanted[] = { { together, sizeof together / sizeof *together }, { apart, sizeof apart / sizeof *apart } };
    group g = { .m = m, .x = x, .norm = weight, .n_tok = LAYER_TOK };
    size_t arena[2];
    for (int b = 0; b < 2; b++) {
        device.backend = backends[b];
        for (size_t fail_at = 1;; fail_at++) {      /* the memory of the plan ends at every call that asks for some */
            const size_t blocks = memory.live_blocks;
            sl_plan plan = { .mem = &mem };
            sl_pass pass;
            memory.fail_at = memory.calls + fail_at;
            sl_pass_begin(&pass, &device, 1, &plan, 1, NULL);
            layer(&pass, &g, nothing);
            const sl_status status = sl_pass_end(&pass);
            const int failed = memory.calls >= memory.fail_at;
            memory.fail_at = 0;
            assert_int_equal(status, failed ? SL_ERR_NOMEM : SL_OK);
            if (!failed) {
                assert_true(fail_at > 1);
                assert_int_equal(plan.n_steps, wanted[b].n);
                for (size_t i = 0; i < plan.n_steps; i++)
                    assert_int_equal(plan.steps[i]->op, wanted[b].ops[i]);
                arena[b] = plan.arena[0];
            }
            sl_plan_free(&plan);
            assert_int_equal(memory.live_blocks, blocks);
            if (!failed)
                break;
        }
    }
    assert_true(arena[0] < arena[1]);       /* gate and up need no memory of their own */
    device.backend = real;
    sl_device_close(&device, &mem);
    for (int i = 0; i < 3; i++)
        free(m[i].data);
    free(x), free(weight);
}

/* A run on such a device is that of the operations. */
static void devices_without_them_give_the_same_bytes(void **state)
{
    (void)state;
    static float got[2][4 * LAYER_OUT * LAYER_TOK];
    uint64_t random = 8;
    float *x = ops_random(N_IN * LAYER_TOK, 1, &random), *weight = ops_random(N_IN, 1, &random);
    ops_matrix m[3];
    counting memory = { 0 };
    const sl_mem mem = counting_mem(&memory);
    const sl_backend_options options = { .mem = &mem, .n_threads = 1 };
    sl_device device = { 0 };
    assert_int_equal(sl_device_open(&device, "cpu", 3, &options), SL_OK);
    real = device.backend;
    sl_backend poor = *real;
    poor.impl = without_groups;
    for (int i = 0; i < 3; i++) {
        m[i] = matrix(SL_TYPE_F32, SL_ACT_B16, LAYER_OUT, 1, &random);
        const sl_weight_source source = { .weight = &m[i].weight, .in_place = m[i].data, .writable = 1, .progress = no_progress };
        assert_int_equal(real->place(device.handle, &source, &m[i].weight.handle), SL_OK);
    }
    group g = { .m = m, .x = x, .norm = weight, .n_tok = LAYER_TOK };
    for (int b = 0; b < 2; b++) {
        static const atomic_int never = 0;
        sl_plan plan = { .mem = &mem };
        sl_pass pass;
        void *arena;
        device.backend = b ? &poor : real;
        sl_pass_begin(&pass, &device, 1, &plan, 1, NULL);
        layer(&pass, &g, got[b]);
        assert_int_equal(sl_pass_end(&pass), SL_OK);
        assert_int_equal(real->alloc(device.handle, plan.arena[0], &arena), SL_OK);
        assert_int_equal(real->begin(device.handle, &never), SL_OK);
        sl_pass_begin(&pass, &device, 1, &plan, 0, &arena);
        layer(&pass, &g, got[b]);
        assert_int_equal(sl_pass_end(&pass), SL_OK);
        assert_int_equal(real->end(device.handle), SL_OK);
        real->free(device.handle, arena, plan.arena[0]);
        sl_plan_free(&plan);
    }
    assert_memory_equal(got[0], got[1], sizeof got[0]);
    for (int i = 0; i < 3; i++) {
        real->unplace(device.handle, m[i].weight.handle);
        free(m[i].data);
    }
    device.backend = real;
    sl_device_close(&device, &mem);
    assert_int_equal(memory.live_blocks, 0);
    free(x), free(weight);
}

static int finish(void **state) { return (void)state, ops_finish("groups"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_all_types), cmocka_unit_test(gates_of_all_types), cmocka_unit_test(a_scale_comes_before_the_gate), cmocka_unit_test(rows_and_their_forms),
        cmocka_unit_test(refuses_what_is_no_number), cmocka_unit_test(experts_that_are_not_there), cmocka_unit_test(devices_without_them_make_the_calls_one_by_one),
        cmocka_unit_test(devices_without_them_give_the_same_bytes),
    };
    return cmocka_run_group_tests_name("groups", tests, ops_prepare, finish);
}
