/* SPDX-License-Identifier: MIT */
/* What planning refuses: shapes that break an operation's rule, what no implementation supports; and that a run never does more than was planned. */
#include "ops_harness.h"
#include "random_blocks.h"

/* ---- shapes ---- */

/* A tensor that only has a shape. */
static sl_tensor shaped(sl_pass *pass, sl_type type, int64_t n0, int64_t n1, int64_t n2, int64_t n3) { return sl_pass_tensor(pass, type, n0, n1, n2, n3); }
#define F(...) shaped(pass, SL_TYPE_F32, __VA_ARGS__)
#define I(...) shaped(pass, SL_TYPE_I32, __VA_ARGS__)
#define D(...) shaped(pass, SL_TYPE_F64, __VA_ARGS__)
static const sl_weight matrix = { .name = "w", .type = SL_TYPE_F32, .n_in = 32, .n_out = 7, .n_mat = 1 };
static const sl_weight stack = { .name = "ws", .type = SL_TYPE_F32, .n_in = 32, .n_out = 7, .n_mat = 5 };
static const sl_weight plain = { .name = "w", .type = SL_TYPE_I32, .form = SL_ACT_NONE, .n_in = 32, .n_out = 7, .n_mat = 1 };
static const sl_weight a256 = { .name = "w", .type = SL_TYPE_Q4_K, .form = SL_ACT_A256, .n_in = 320, .n_out = 7, .n_mat = 1 };

static void matmul(sl_pass *pass, const sl_weight *w, sl_tensor x)
{
    sl_act act = sl_act_of(x);
    sl_op_matmul(pass, w, &act);
}

static void expert(sl_pass *pass, const sl_weight *w, sl_tensor x, sl_tensor ids)
{
    sl_act act = sl_act_of(x);
    sl_op_matmul_expert(pass, w, &act, ids);
}

static void route(sl_pass *pass, sl_tensor logits, int64_t n_used)
{
    sl_tensor ids, weights;
    sl_op_route(pass, logits, n_used, SL_GATE_SOFTMAX, &ids, &weights);
}

static void many(sl_pass *pass, const sl_weight *first, const sl_weight *last, int n, sl_tensor x)
{
    const sl_weight *const weights[] = { first, last, first, last, first };
    sl_tensor out[5];
    sl_act act = sl_act_of(x);
    sl_op_matmul_many(pass, weights, n, &act, out);
}

static void swiglu(sl_pass *pass, const sl_weight *gate, const sl_weight *up, sl_tensor x, const sl_tensor *ids)
{
    sl_act act = sl_act_of(x);
    if (ids)
        sl_op_swiglu_expert(pass, gate, up, &act, *ids);
    else
        sl_op_swiglu(pass, gate, up, &act);
}

static void swiglu_to(sl_pass *pass, sl_tensor to, const sl_weight *gate, const sl_weight *up, sl_tensor x)
{
    sl_act act = sl_act_of(x);
    sl_op_swiglu_to(pass, to, gate, up, &act);
}

static const sl_weight taller = { .name = "w", .type = SL_TYPE_F32, .n_in = 32, .n_out = 8, .n_mat = 1 };

static const sl_tensor no_tensor;
/* Keys and values [24, 2, n_tok], caches of 3 pages; n_seq rows of them for tokens that say which. */
static void cache_write_of(sl_pass *pass, sl_tensor k, sl_tensor v, sl_tensor kc, sl_tensor vc, int64_t n_tok, int64_t n_seq, sl_tensor seqs)
{
    sl_op_cache_write(pass, k, v, kc, vc, I(n_tok, 1, 1, 1), I(3, n_seq, 1, 1), seqs);
}
static void attention_of(sl_pass *pass, sl_tensor q, sl_tensor kc, sl_tensor vc, int64_t n_tok, int64_t n_seq, sl_tensor seqs)
{
    sl_op_attention(pass, q, kc, vc, I(n_tok, 1, 1, 1), I(3, n_seq, 1, 1), seqs, 0, 1);
}
static void cache_write(sl_pass *pass, sl_tensor k, sl_tensor v, sl_tensor kc, sl_tensor vc, int64_t n_tok) { cache_write_of(pass, k, v, kc, vc, n_tok, 1, no_tensor); }
static void cache_read(sl_pass *pass, sl_tensor k, sl_tensor v, sl_tensor kc, sl_tensor vc, int64_t n_tok)
{
    sl_op_cache_read(pass, k, v, kc, vc, I(n_tok, 1, 1, 1), I(3, 1, 1, 1), no_tensor);
}
static void attention(sl_pass *pass, sl_tensor q, sl_tensor kc, sl_tensor vc, int64_t n_tok) { attention_of(pass, q, kc, vc, n_tok, 1, no_tensor); }

/* A cache of 2 heads as attention wants it, by spans [2, 3]. */
static void span_attention(sl_pass *pass, sl_tensor q, sl_tensor kc, sl_tensor vc, sl_tensor spans, sl_tensor ranges) { sl_op_span_attention(pass, q, kc, vc, spans, ranges, 1); }

/* X(operation, call): each breaks its rule in one place. */
#define WRONG(X) \
    X(GET_ROWS, sl_op_get_rows(pass, &matrix, F(3, 1, 1, 1))) \
    X(GET_ROWS, sl_op_get_rows(pass, &matrix, I(3, 2, 1, 1))) \
    X(TAKE_ROWS, sl_op_take_rows(pass, I(24, 5, 1, 1), I(3, 1, 1, 1))) \
    X(TAKE_ROWS, sl_op_take_rows(pass, F(24, 5, 1, 1), F(3, 1, 1, 1))) \
    X(TAKE_ROWS, sl_op_take_rows(pass, F(24, 5, 1, 1), I(3, 2, 1, 1))) \
    X(PUT_ROWS, sl_op_put_rows(pass, F(24, 5, 1, 1), F(23, 3, 1, 1), I(5, 1, 1, 1))) \
    X(PUT_ROWS, sl_op_put_rows(pass, F(24, 5, 1, 1), F(24, 3, 1, 1), I(4, 1, 1, 1))) \
    X(PUT_ROWS, sl_op_put_rows(pass, F(24, 5, 1, 1), F(24, 3, 1, 1), F(5, 1, 1, 1))) \
    X(RMS_NORM, sl_op_rms_norm(pass, F(24, 5, 1, 1), F(23, 1, 1, 1), 0)) \
    X(RMS_NORM, sl_op_rms_norm(pass, F(24, 5, 1, 1), F(24, 5, 1, 1), 0)) \
    X(RMS_NORM, sl_op_rms_norm(pass, I(24, 5, 1, 1), F(24, 1, 1, 1), 0)) \
    X(QUANTIZE, matmul(pass, &a256, F(320, 3, 1, 1))) \
    X(MATMUL, matmul(pass, &matrix, F(31, 3, 1, 1))) \
    X(MATMUL, matmul(pass, &matrix, F(32, 3, 2, 1))) \
    X(MATMUL, matmul(pass, &matrix, I(32, 3, 1, 1))) \
    X(MATMUL, matmul(pass, &plain, F(32, 3, 1, 1))) \
    X(MATMUL_MANY, many(pass, &matrix, &taller, 0, F(32, 3, 1, 1))) \
    X(MATMUL_MANY, many(pass, &matrix, &taller, 5, F(32, 3, 1, 1))) \
    X(MATMUL_MANY, many(pass, &matrix, &taller, 2, F(31, 3, 1, 1))) \
    X(MATMUL_MANY, many(pass, &matrix, &plain, 2, F(32, 3, 1, 1))) \
    X(MATMUL_MANY, many(pass, &matrix, &a256, 3, F(32, 3, 1, 1))) \
    X(SWIGLU, swiglu(pass, &matrix, &taller, F(32, 3, 1, 1), NULL)) \
    X(SWIGLU, swiglu(pass, &matrix, &stack, F(32, 3, 1, 1), NULL)) \
    X(SWIGLU, swiglu(pass, &matrix, &matrix, F(32, 3, 2, 1), NULL)) \
    X(SWIGLU, swiglu(pass, &matrix, &plain, F(32, 3, 1, 1), NULL)) \
    X(SWIGLU, swiglu_to(pass, F(8, 3, 1, 1), &matrix, &matrix, F(32, 3, 1, 1))) \
    X(SWIGLU, swiglu_to(pass, F(matrix.n_out, 2, 1, 1), &matrix, &matrix, F(32, 3, 1, 1))) \
    X(SWIGLU, swiglu(pass, &stack, &stack, F(32, 4, 1, 1), (sl_tensor[]) { I(2, 3, 1, 1) })) \
    X(RMS_NORM_QUANTIZE, sl_op_rms_norm_quantize(pass, F(32, 5, 1, 1), F(31, 1, 1, 1), 0, &matrix)) \
    X(RMS_NORM_QUANTIZE, sl_op_rms_norm_quantize(pass, F(24, 5, 1, 1), F(24, 1, 1, 1), 0, &matrix)) \
    X(RMS_NORM_QUANTIZE, sl_op_rms_norm_quantize(pass, F(32, 5, 1, 1), F(32, 1, 1, 1), 0, &plain)) \
    X(QUANTIZE, sl_op_rms_norm_quantize(pass, F(320, 5, 1, 1), F(320, 1, 1, 1), 0, &a256)) \
    X(MATMUL_EXPERT, expert(pass, &stack, F(31, 3, 1, 1), I(2, 3, 1, 1))) \
    X(MATMUL_EXPERT, expert(pass, &stack, F(32, 4, 1, 1), I(2, 3, 1, 1))) \
    X(MATMUL_EXPERT, expert(pass, &stack, F(32, 3, 1, 1), F(2, 3, 1, 1))) \
    X(MATMUL_EXPERT, expert(pass, &plain, F(32, 3, 1, 1), I(2, 3, 1, 1))) \
    X(SCALE, matmul(pass, &(sl_weight) { .name = "w", .type = SL_TYPE_F32, .n_in = 32, .n_out = 7, .n_mat = 1, .scale = I(1, 1, 1, 1) }, F(32, 3, 1, 1))) \
    X(ADD_TO, sl_op_add_to(pass, F(24, 5, 1, 1), F(24, 4, 1, 1))) \
    X(ADD_TO, sl_op_add_to(pass, F(24, 5, 1, 1), F(23, 1, 1, 1))) \
    X(ADD_TO, sl_op_add_to(pass, F(24, 5, 1, 1), I(24, 5, 1, 1))) \
    X(SILU_MUL, sl_op_silu_mul(pass, F(24, 5, 1, 1), F(24, 1, 1, 1))) \
    X(SILU_MUL, sl_op_silu_mul(pass, I(24, 5, 1, 1), F(24, 5, 1, 1))) \
    X(ROPE_ANGLES, sl_op_rope_angles(pass, F(3, 1, 1, 1), D(12, 1, 1, 1), 1)) \
    X(ROPE_ANGLES, sl_op_rope_angles(pass, I(3, 1, 1, 1), F(12, 1, 1, 1), 1)) \
    X(ROPE, sl_op_rope(pass, F(24, 2, 3, 1), F(2, 11, 3, 1))) \
    X(ROPE, sl_op_rope(pass, F(24, 2, 3, 1), F(2, 12, 4, 1))) \
    X(ROPE, sl_op_rope(pass, I(24, 2, 3, 1), F(2, 12, 3, 1))) \
    X(CACHE_READ, cache_read(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 4)) \
    X(CACHE_READ, cache_read(pass, F(24, 2, 5, 1), F(24, 1, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5)) \
    X(CACHE_READ, cache_read(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 1, 3), F(24, 64, 1, 3), 5)) \
    X(CACHE_READ, cache_read(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), shaped(pass, SL_TYPE_F16, 24, 64, 2, 3), 5)) \
    X(CACHE_WRITE, cache_write(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 4)) \
    X(CACHE_WRITE, cache_write(pass, F(24, 2, 5, 1), F(24, 1, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5)) \
    X(CACHE_WRITE, cache_write(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(32, 24, 2, 3), F(24, 64, 2, 3), 5)) \
    X(CACHE_WRITE, cache_write(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), F(64, 24, 2, 3), 5)) \
    X(CACHE_WRITE, cache_write(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 1, 3), F(24, 64, 1, 3), 5)) \
    X(CACHE_WRITE, cache_write(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 2), 5)) \
    X(CACHE_WRITE, cache_write(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), shaped(pass, SL_TYPE_F16, 24, 64, 2, 3), 5)) \
    X(CACHE_WRITE, cache_write_of(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5, 2, no_tensor)) \
    X(CACHE_WRITE, cache_write_of(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5, 2, I(4, 1, 1, 1))) \
    X(CACHE_WRITE, cache_write_of(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5, 2, F(5, 1, 1, 1))) \
    X(ATTENTION, attention_of(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5, 2, no_tensor)) \
    X(ATTENTION, attention_of(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5, 2, I(4, 1, 1, 1))) \
    X(ATTENTION, attention_of(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5, 2, F(5, 1, 1, 1))) \
    X(ATTENTION, attention(pass, F(24, 3, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5)) \
    X(ATTENTION, attention(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 4)) \
    X(ATTENTION, attention(pass, F(20, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5)) \
    X(ATTENTION, attention(pass, I(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), 5)) \
    X(ATTENTION, attention(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 1, 3), 5)) \
    X(ROUTE, route(pass, F(5, 3, 1, 1), 6)) \
    X(ROUTE, route(pass, F(5, 3, 1, 1), 0)) \
    X(ROUTE, route(pass, I(5, 3, 1, 1), 2)) \
    X(EXPERT_SUM, sl_op_expert_sum(pass, F(24, 2, 3, 1), F(3, 2, 1, 1))) \
    X(EXPERT_SCALE, sl_op_expert_scale(pass, F(24, 3, 1, 1), F(2, 2, 1, 1))) \
    X(EXPERT_SCALE, sl_op_expert_scale(pass, F(24, 3, 1, 1), I(2, 3, 1, 1))) \
    X(EXPERT_SCALE, sl_op_expert_scale(pass, F(24, 3, 2, 1), F(2, 3, 1, 1))) \
    X(TEMPER, sl_op_temper(pass, F(24, 2, 3, 1), I(2, 1, 1, 1), D(2, 1, 1, 1))) \
    X(TEMPER, sl_op_temper(pass, F(24, 2, 3, 1), I(3, 1, 1, 1), F(2, 1, 1, 1))) \
    X(TEMPER, sl_op_temper(pass, F(24, 2, 3, 1), I(3, 1, 1, 1), D(3, 1, 1, 1))) \
    X(EXPERT_SUM, sl_op_expert_sum(pass, F(24, 2, 3, 1), I(2, 3, 1, 1))) \
    X(LAYER_NORM, sl_op_layer_norm(pass, F(24, 5, 1, 1), F(23, 1, 1, 1), F(23, 1, 1, 1), 0)) \
    X(LAYER_NORM, sl_op_layer_norm(pass, F(24, 5, 1, 1), F(24, 1, 1, 1), F(24, 5, 1, 1), 0)) \
    X(LAYER_NORM, sl_op_layer_norm(pass, F(24, 5, 1, 1), F(24, 1, 1, 1), no_tensor, 0)) \
    X(LAYER_NORM, sl_op_layer_norm(pass, sl_view_every(F(48, 5, 1, 1), 0, 24, 2), F(24, 1, 1, 1), F(24, 1, 1, 1), 0)) \
    X(GELU, sl_op_gelu(pass, F(24, 5, 1, 1), F(23, 1, 1, 1))) \
    X(GELU, sl_op_gelu(pass, F(24, 5, 1, 1), F(24, 5, 1, 1))) \
    X(GELU, sl_op_gelu(pass, I(24, 5, 1, 1), no_tensor)) \
    X(GELU, sl_op_gelu(pass, sl_view_every(F(48, 5, 1, 1), 1, 24, 2), no_tensor)) \
    X(QUICK_GELU, sl_op_quick_gelu(pass, F(24, 5, 1, 1), F(23, 1, 1, 1))) \
    X(QUICK_GELU, sl_op_quick_gelu(pass, I(24, 5, 1, 1), no_tensor)) \
    X(ADD_GATED, sl_op_add_gated(pass, F(24, 5, 1, 1), F(24, 4, 1, 1), F(1, 1, 1, 1), no_tensor)) \
    X(ADD_GATED, sl_op_add_gated(pass, F(24, 5, 1, 1), F(24, 5, 1, 1), F(2, 1, 1, 1), no_tensor)) \
    X(ADD_GATED, sl_op_add_gated(pass, F(24, 5, 1, 1), F(24, 5, 1, 1), no_tensor, no_tensor)) \
    X(ADD_GATED, sl_op_add_gated(pass, F(24, 5, 1, 1), F(24, 5, 1, 1), F(1, 1, 1, 1), I(4, 1, 1, 1))) \
    X(ADD_GATED, sl_op_add_gated(pass, F(24, 5, 1, 1), F(24, 5, 1, 1), F(1, 1, 1, 1), F(5, 1, 1, 1))) \
    X(ADD_GATED, sl_op_add_gated(pass, sl_view_every(F(48, 5, 1, 1), 0, 24, 2), F(24, 5, 1, 1), F(1, 1, 1, 1), no_tensor)) \
    X(COPY_TO, sl_op_copy_to(pass, F(24, 5, 1, 1), F(24, 4, 1, 1))) \
    X(COPY_TO, sl_op_copy_to(pass, F(24, 5, 1, 1), F(23, 1, 1, 1))) \
    X(COPY_TO, sl_op_copy_to(pass, F(24, 5, 1, 1), I(24, 5, 1, 1))) \
    X(COPY_TO, sl_op_copy_to(pass, no_tensor, no_tensor)) \
    X(SPAN_ATTENTION, span_attention(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), I(2, 3, 1, 1), I(2, 4, 1, 1))) \
    X(SPAN_ATTENTION, span_attention(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), I(3, 2, 1, 1), I(2, 5, 1, 1))) \
    X(SPAN_ATTENTION, span_attention(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), I(2, 3, 1, 1), F(2, 5, 1, 1))) \
    X(SPAN_ATTENTION, span_attention(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), no_tensor, I(2, 5, 1, 1))) \
    X(SPAN_ATTENTION, span_attention(pass, F(24, 3, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), I(2, 3, 1, 1), I(2, 5, 1, 1))) \
    X(SPAN_ATTENTION, span_attention(pass, F(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 2), I(2, 3, 1, 1), I(2, 5, 1, 1))) \
    X(SPAN_ATTENTION, span_attention(pass, F(20, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), I(2, 3, 1, 1), I(2, 5, 1, 1))) \
    X(SPAN_ATTENTION, span_attention(pass, I(24, 4, 5, 1), F(64, 24, 2, 3), F(24, 64, 2, 3), I(2, 3, 1, 1), I(2, 5, 1, 1)))

enum {
#define EACH(op, call) +1
    N_WRONG = 0 WRONG(EACH)
#undef EACH
};
static const sl_op wrong_ops[N_WRONG] = {
#define OP(op, call) SL_OP_##op,
    WRONG(OP)
#undef OP
};

static void call_wrong(sl_pass *pass, void *user, void *out)
{
    int at = 0;
    (void)out;
#define CALL(op, call) if (at++ == *(const int *)user) { call; }
    WRONG(CALL)
#undef CALL
}

static void wrong_shapes_are_refused(void **state)
{
    (void)state;
    int seen[SL_OP_COUNT] = { 0 };
    for (int i = 0; i < N_WRONG; i++) {
        char name[48], part[48];
        snprintf(name, sizeof name, "wrong call %d, %s", i, sl_op_name(wrong_ops[i]));
        snprintf(part, sizeof part, "%s: ", sl_op_name(wrong_ops[i]));
        const ops_case c = { name, call_wrong, &i, NULL, 0, 0 };
        ops_run_fails(&c, 1, SL_ERR_SHAPE, part);
        seen[wrong_ops[i]] = 1;
    }
    for (int op = 0; op < SL_OP_COUNT; op++)
        if (!seen[op])
            fail_msg("no wrong call of %s", sl_op_name((sl_op)op));
}

/* The first error stays, whatever follows. */
static void many_errors(sl_pass *pass, void *user, void *out)
{
    (void)user;
    sl_tensor none = sl_op_silu_mul(pass, F(24, 5, 1, 1), F(24, 1, 1, 1));
    assert_false(sl_tensor_is(&none));
    sl_op_add_to(pass, none, none);
    none = sl_op_rms_norm(pass, none, none, 1);
    assert_false(sl_tensor_is(&none));
    none = sl_view_flat(sl_view_heads(sl_view_rows(none, 0, 24), 24));
    none = sl_pass_tensor(pass, SL_TYPE_F32, 4, 1, 1, 1);
    assert_false(sl_tensor_is(&none));
    sl_pass_output(pass, none, out);
}

static void the_first_error_stays(void **state)
{
    (void)state;
    const ops_case c = { "many errors", many_errors, NULL, NULL, 0, 16 };
    ops_run_fails(&c, 1, SL_ERR_SHAPE, "silu_mul: ");
}

/* ---- sizes ---- */

static void too_large(sl_pass *pass, void *user, void *out)
{
    const int64_t *n = user;
    (void)out;
    sl_pass_tensor(pass, SL_TYPE_F32, n[0], n[1], n[2], n[3]);
    sl_pass_tensor(pass, SL_TYPE_F32, n[0], n[1], n[2], n[3]);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static int64_t sizes[][4] = { { INT64_MAX, 1, 1, 1 }, { 1 << 30, 1 << 30, 16, 1 }, { 1, 1, 0, 1 }, { 5, -1, 1, 1 }, { INT64_MAX / 8, 4, 1, 1 }, { INT64_MAX / 2 - 4, 1, 1, 1 } };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const ops_case c = { "too large", too_large, sizes[i], NULL, 0, 0 };
        ops_run_fails(&c, 1, SL_ERR_OVERFLOW, "pass: ");
    }
}

/* ---- what nothing supports ---- */

static void odd_cache(sl_pass *pass, void *user, void *out)
{
    const int kind = *(const int *)user;
    sl_tensor k = shaped(pass, SL_TYPE_I8, 64, 24, 2, 3), v = shaped(pass, SL_TYPE_I8, 24, 64, 2, 3);
    (void)out;
    if (kind)
        attention(pass, F(24, 4, 5, 1), k, v, 5);
    else
        cache_write(pass, F(24, 2, 5, 1), F(24, 2, 5, 1), k, v, 5);
}

static void what_nothing_supports_is_refused(void **state)
{
    (void)state;
    int kind = 0;
    const ops_case c = { "cache of bytes", odd_cache, &kind, NULL, 0, 0 };
    ops_run_fails(&c, 1, SL_ERR_UNSUPPORTED, "no cache_write on cpu");
    kind = 1;
    ops_run_fails(&c, 1, SL_ERR_UNSUPPORTED, "no attention on cpu");
}

/* A backend that can quantize and nothing else: the sentence names weight, type, operation and backend. */
static int always(const sl_impl *self, void *device, const sl_op_args *args) { return (void)self, (void)device, (void)args, 1; }

static const sl_impl *only_quantize(void *device, size_t index)
{
    static const sl_impl impl = { SL_OP_QUANTIZE, "quantize/nothing", -1, 0, always, NULL, NULL, NULL };
    (void)device;
    return index == 0 ? &impl : NULL;
}

static void the_sentence_names_the_weight(void **state)
{
    (void)state;
    static const sl_backend nothing = { .contract = SL_BACKEND_CONTRACT, .name = "nothing", .impl = only_quantize };
    static const struct { sl_weight weight; int kind; const char *sentence; } cases[] = {
        { { .name = "blk.3.ffn_down.weight", .type = SL_TYPE_Q3_K, .form = SL_ACT_A256, .n_in = 256, .n_out = 7, .n_mat = 1 }, 0, "blk.3.ffn_down.weight: Q3_K has no matmul on nothing" },
        { { .name = "token_embd.weight", .type = SL_TYPE_F16, .n_in = 24, .n_out = 7, .n_mat = 1 }, 1, "token_embd.weight: F16 has no get_rows on nothing" },
        { { .name = "e", .type = SL_TYPE_Q8_0, .form = SL_ACT_A32, .n_in = 32, .n_out = 7, .n_mat = 4 }, 2, "e: Q8_0 has no matmul_expert on nothing" },
    };
    const sl_device device = { &nothing, NULL, NULL };
    sl_mem mem;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const sl_weight *w = &cases[i].weight;
        sl_plan plan = { .mem = &mem };
        sl_pass started, *pass = &started;
        sl_pass_begin(pass, &device, 1, &plan, 1, NULL);
        if (cases[i].kind == 0)
            matmul(pass, w, F(w->n_in, 3, 1, 1));
        else if (cases[i].kind == 1)
            sl_op_get_rows(pass, w, I(3, 1, 1, 1));
        else
            expert(pass, w, F(w->n_in, 3, 1, 1), I(2, 3, 1, 1));
        assert_int_equal(sl_pass_end(pass), SL_ERR_UNSUPPORTED);
        assert_string_equal(sl_last_error(), cases[i].sentence);
        sl_plan_free(&plan);
    }
}

/* ---- a run that does more than was planned ---- */

/* What differs between planning and running. */
typedef struct excess { int64_t n_tok; int n_ops, other; } excess;

static void grow(sl_pass *pass, void *user, void *out)
{
    const excess *e = user;
    static const float x[64 * 67];
    const int64_t n_tok = pass->planning ? 4 : e->n_tok;
    sl_tensor a = ops_input(pass, SL_TYPE_F32, 64, n_tok, 1, 1, x);
    for (int i = 0; i < (pass->planning ? 2 : e->n_ops); i++) {
        const sl_mark mark = sl_pass_mark(pass);
        sl_tensor y = !pass->planning && e->other == i ? sl_op_rms_norm(pass, a, ops_input(pass, SL_TYPE_F32, 64, 1, 1, 1, x), 1) : sl_op_silu_mul(pass, a, a);
        sl_pass_output(pass, y, out);
        sl_pass_release(pass, mark);
    }
}

static void running_past_the_plan_is_an_error(void **state)
{
    (void)state;
    static float out[64 * 67];
    excess e = { 4, 2, -1 };
    const ops_case c = { "a pass beside its plan", grow, &e, NULL, 0, sizeof out };
    ops_run(&c, out);                   /* as planned */
    e.n_tok = 1;
    ops_run(&c, out);                   /* less */
    e = (excess) { 5, 2, -1 };
    ops_run_fails(&c, 0, SL_ERR_INTERNAL, "needs more memory than was planned");
    e = (excess) { 67, 2, -1 };
    ops_run_fails(&c, 0, SL_ERR_INTERNAL, "needs more memory than was planned");
    e = (excess) { 4, 3, -1 };
    ops_run_fails(&c, 0, SL_ERR_INTERNAL, "step 2 (silu_mul) was not planned");
    e = (excess) { 2, 2, 1 };
    ops_run_fails(&c, 0, SL_ERR_INTERNAL, "step 1 (rms_norm) was not planned");
}

static int finish(void **state) { return (void)state, ops_finish("plan"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_shapes_are_refused), cmocka_unit_test(the_first_error_stays), cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(what_nothing_supports_is_refused), cmocka_unit_test(the_sentence_names_the_weight), cmocka_unit_test(running_past_the_plan_is_an_error),
    };
    return cmocka_run_group_tests_name("plan", tests, ops_prepare, finish);
}
