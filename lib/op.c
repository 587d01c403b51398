/* SPDX-License-Identifier: MIT */
/* op.c - the typed wrappers: each checks its shapes, makes its result and dispatches. */
#include "dispatch.h"

#include <string.h>

/* The shape rule of an operation does not hold: nothing is computed and the error sticks. Returns 1 if the call can go on. */
static int require(sl_pass *pass, int holds, sl_op op, const char *rule)
{
    if (pass->status == SL_OK && !holds)
        pass->status = sl_fail(SL_ERR_SHAPE, "%s: %s", sl_op_name(op), rule);
    return pass->status == SL_OK;
}

static int same_shape(const sl_tensor *a, const sl_tensor *b) { return !memcmp(a->ne, b->ne, sizeof a->ne); }
/* y fits x: the same shape, or one row for all. */
static int fits_rows(const sl_tensor *x, const sl_tensor *y) { return same_shape(x, y) || (y->ne[0] == x->ne[0] && sl_tensor_rows(y) == 1); }
static int is_f32(const sl_tensor *t) { return t->type == SL_TYPE_F32 && sl_tensor_is(t) && t->stride[0] == sizeof(float); }
static int is_i32(const sl_tensor *t) { return t->type == SL_TYPE_I32 && sl_tensor_is(t); }

/* ---- views ---- */

sl_tensor sl_view_rows(sl_tensor x, int64_t first, int64_t n)
{
    if (sl_tensor_is(&x)) {
        x.ne[0] = n;
        if (x.data)
            x.data = (char *)x.data + (size_t)first * x.stride[0];
    }
    return x;
}

sl_tensor sl_view_tokens(sl_tensor x, int64_t first, int64_t n)
{
    if (sl_tensor_is(&x)) {
        x.ne[1] = n;
        if (x.data)
            x.data = (char *)x.data + (size_t)first * x.stride[1];
    }
    return x;
}

sl_tensor sl_view_every(sl_tensor x, int64_t first, int64_t n, int64_t step)
{
    x = sl_view_rows(x, first, n);
    x.stride[0] *= (size_t)step;
    return x;
}

sl_tensor sl_view_heads(sl_tensor x, int64_t d_head)
{
    if (sl_tensor_is(&x)) {
        x.ne[2] = x.ne[1], x.stride[2] = x.stride[1];
        x.ne[1] = x.ne[0] / d_head, x.stride[1] = x.stride[0] * (size_t)d_head;
        x.ne[0] = d_head;
    }
    return x;
}

sl_tensor sl_view_flat(sl_tensor x)
{
    if (sl_tensor_is(&x)) {
        x.ne[0] *= x.ne[1];
        x.ne[1] = x.ne[2], x.stride[1] = x.stride[2];
        x.ne[2] = 1;
    }
    return x;
}

sl_tensor sl_view_groups(sl_tensor x, int64_t n)
{
    if (sl_tensor_is(&x)) {
        x.ne[2] = x.ne[1] / n, x.stride[2] = x.stride[1] * (size_t)n;
        x.ne[1] = n;
    }
    return x;
}

sl_tensor sl_view_slot(sl_tensor x, int64_t slot)
{
    if (sl_tensor_is(&x)) {
        if (x.data)
            x.data = (char *)x.data + (size_t)slot * x.stride[1];
        x.ne[1] = x.ne[2], x.stride[1] = x.stride[2];
        x.ne[2] = 1;
    }
    return x;
}

sl_tensor sl_view_slots(sl_tensor x)
{
    if (sl_tensor_is(&x))
        x.ne[1] *= x.ne[2], x.ne[2] = 1;
    return x;
}

sl_act sl_act_of(sl_tensor x)
{
    sl_act act;
    memset(&act, 0, sizeof act);
    act.form[SL_ACT_F32] = x;
    return act;
}

/* ---- products ---- */

/* The call that makes a form of rows [n, ...]; its result becomes *to. 1 if it is to be dispatched. */
static int quantizing(sl_pass *pass, sl_tensor x, sl_act_form form, sl_op_args *args, sl_tensor *to)
{
    const sl_act_info *info = sl_act_get(form);
    if (!require(pass, is_f32(&x) && (form == SL_ACT_B16 || x.ne[0] % info->block_values == 0), SL_OP_QUANTIZE, "rows must be whole blocks of f32"))
        return 0;
    *args = (sl_op_args) { .op = SL_OP_QUANTIZE, .form = form, .src = { x } };
    args->dst = *to = sl_pass_tensor(pass, SL_TYPE_I8, (int64_t)sl_act_row_bytes(info, (size_t)x.ne[0]), x.ne[1], x.ne[2], x.ne[3]);
    return 1;
}

/* The rows in the form that a weight wants, made now if this is the first product to want it. */
static sl_tensor act_form(sl_pass *pass, sl_act *act, sl_act_form form)
{
    sl_op_args args;
    if (!sl_tensor_is(&act->form[form]) && pass->status == SL_OK && quantizing(pass, act->form[SL_ACT_F32], form, &args, &act->form[form]))
        sl_dispatch(pass, &args);
    return act->form[form];
}

/* x *= scale, one factor or one per matrix chosen by ids. */
static void apply_scale(sl_pass *pass, sl_tensor x, sl_tensor scale, const sl_tensor *ids)
{
    if (!sl_tensor_is(&scale))
        return;
    sl_op_args args = { .op = SL_OP_SCALE, .dst = x, .src = { x, scale } };
    if (ids)
        args.src[2] = *ids;
    if (require(pass, is_f32(&x) && is_f32(&scale), SL_OP_SCALE, "factors must be f32"))
        sl_dispatch(pass, &args);
}

static void observe(sl_pass *pass, const sl_weight *weight, const sl_tensor *rows, const sl_tensor *ids)
{
    sl_observer *o = pass->plan->observer;
    if (o && !pass->planning && pass->status == SL_OK)
        pass->status = o->see(o, &pass->devices[pass->device], weight, rows, ids);
}

/* The call of a product, by expert if there are ids, for operation `op`: all but its result. 1 if it is to be dispatched. */
static int product(sl_pass *pass, sl_op op, const sl_weight *weight, sl_act *x, const sl_tensor *ids, sl_op_args *args)
{
    const sl_tensor rows = x->form[SL_ACT_F32];
    *args = (sl_op_args) { .op = ids ? SL_OP_MATMUL_EXPERT : SL_OP_MATMUL, .weight = weight, .form = weight->form };
    if (!require(pass, args->form != SL_ACT_NONE, op, "not a matrix type") ||
        !require(pass, is_f32(&rows) && rows.ne[0] == weight->n_in && (ids || (rows.ne[2] == 1 && rows.ne[3] == 1)), op, "rows do not fit the matrix") ||
        !require(pass, !ids || (is_i32(ids) && (rows.ne[1] == ids->ne[1] || rows.ne[1] == ids->ne[0] * ids->ne[1])), op, "rows do not fit the ids"))
        return 0;
    observe(pass, weight, &rows, ids);
    args->src[0] = act_form(pass, x, args->form);
    if (ids)
        args->src[1] = *ids;
    return pass->status == SL_OK;
}

/* Its result. */
static sl_tensor product_result(sl_pass *pass, const sl_weight *weight, const sl_act *x, const sl_tensor *ids)
{
    return sl_pass_tensor(pass, SL_TYPE_F32, weight->n_out, ids ? ids->ne[0] : x->form[SL_ACT_F32].ne[1], ids ? ids->ne[1] : 1, 1);
}

static sl_tensor multiply(sl_pass *pass, sl_op op, const sl_weight *weight, sl_act *x, const sl_tensor *ids)
{
    sl_op_args args;
    if (!product(pass, op, weight, x, ids, &args))
        return args.dst;
    args.dst = product_result(pass, weight, x, ids);
    sl_dispatch(pass, &args);
    apply_scale(pass, args.dst, weight->scale, ids);
    return args.dst;
}

sl_tensor sl_op_matmul(sl_pass *pass, const sl_weight *weight, sl_act *x) { return multiply(pass, SL_OP_MATMUL, weight, x, NULL); }

sl_tensor sl_op_matmul_expert(sl_pass *pass, const sl_weight *weight, sl_act *x, sl_tensor ids) { return multiply(pass, SL_OP_MATMUL_EXPERT, weight, x, &ids); }

static void one_by_one(sl_pass *pass, sl_op_args *calls, int n)
{
    for (int i = 0; i < n; i++)
        sl_dispatch(pass, &calls[i]);
}

void sl_op_matmul_many(sl_pass *pass, const sl_weight *const *weights, int n, sl_act *x, sl_tensor *dst)
{
    sl_op_args calls[SL_OP_PARTS];
    memset(dst, 0, (size_t)n * sizeof *dst);
    if (!require(pass, n > 0 && n <= SL_OP_PARTS, SL_OP_MATMUL_MANY, "too many products"))
        return;
    for (int i = 0; i < n; i++) {
        if (!product(pass, SL_OP_MATMUL_MANY, weights[i], x, NULL, &calls[i]))
            return;
        calls[i].dst = dst[i] = product_result(pass, weights[i], x, NULL);
    }
    if (!sl_dispatch_group(pass, SL_OP_MATMUL_MANY, calls, n))
        one_by_one(pass, calls, n);
    for (int i = 0; i < n; i++)
        apply_scale(pass, dst[i], weights[i]->scale, NULL);
}

/* to: NULL, or what is to hold the result. */
static sl_tensor swiglu(sl_pass *pass, const sl_weight *gate, const sl_weight *up, sl_act *x, const sl_tensor *ids, const sl_tensor *to)
{
    enum { GATE, UP, SILU, CALLS };
    sl_op_args calls[CALLS] = { 0 };
    if (!require(pass, gate->n_out == up->n_out && gate->n_mat == up->n_mat, SL_OP_SWIGLU, "the matrices differ in shape"))
        return calls[SILU].dst;
    if (sl_tensor_is(&gate->scale) || sl_tensor_is(&up->scale)) {
        sl_tensor g = multiply(pass, SL_OP_SWIGLU, gate, x, ids), u = multiply(pass, SL_OP_SWIGLU, up, x, ids);
        if (!to)
            return sl_op_silu_mul(pass, g, u);
        sl_op_silu_mul_to(pass, *to, g, u);
        return *to;
    }
    if (!product(pass, SL_OP_SWIGLU, gate, x, ids, &calls[GATE]) || !product(pass, SL_OP_SWIGLU, up, x, ids, &calls[UP]))
        return calls[SILU].dst;
    const sl_tensor dst = to ? *to : product_result(pass, up, x, ids);
    sl_tensor shape = dst;
    shape.data = NULL;
    calls[GATE].dst = calls[UP].dst = shape;
    calls[SILU] = (sl_op_args) { .op = SL_OP_SILU_MUL, .dst = dst, .src = { shape, shape } };
    if (!sl_dispatch_group(pass, SL_OP_SWIGLU, calls, CALLS)) {
        calls[SILU].src[0] = calls[GATE].dst = product_result(pass, gate, x, ids);
        calls[SILU].src[1] = calls[UP].dst = product_result(pass, up, x, ids);
        one_by_one(pass, calls, CALLS);
    }
    return dst;
}

sl_tensor sl_op_swiglu(sl_pass *pass, const sl_weight *gate, const sl_weight *up, sl_act *x) { return swiglu(pass, gate, up, x, NULL, NULL); }

void sl_op_swiglu_to(sl_pass *pass, sl_tensor to, const sl_weight *gate, const sl_weight *up, sl_act *x)
{
    const sl_tensor *rows = &x->form[SL_ACT_F32];
    if (require(pass, is_f32(&to) && to.ne[0] == up->n_out && to.ne[1] == rows->ne[1] && to.ne[2] == 1 && to.ne[3] == 1, SL_OP_SWIGLU, "the result has another shape"))
        swiglu(pass, gate, up, x, NULL, &to);
}

sl_tensor sl_op_swiglu_expert(sl_pass *pass, const sl_weight *gate, const sl_weight *up, sl_act *x, sl_tensor ids) { return swiglu(pass, gate, up, x, &ids, NULL); }

/* ---- rows ---- */

sl_tensor sl_op_get_rows(sl_pass *pass, const sl_weight *weight, sl_tensor ids)
{
    sl_op_args args = { .op = SL_OP_GET_ROWS, .weight = weight, .src = { ids } };
    if (!require(pass, is_i32(&ids) && sl_tensor_rows(&ids) == 1, SL_OP_GET_ROWS, "ids must be one row of i32"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, weight->n_in, ids.ne[0], 1, 1);
    sl_dispatch(pass, &args);
    return args.dst;
}

sl_tensor sl_op_take_rows(sl_pass *pass, sl_tensor x, sl_tensor rows)
{
    sl_op_args args = { .op = SL_OP_TAKE_ROWS, .src = { x, rows } };
    if (!require(pass, is_f32(&x) && is_i32(&rows) && sl_tensor_rows(&rows) == 1, SL_OP_TAKE_ROWS, "f32 rows by one row of i32"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], rows.ne[0], 1, 1);
    sl_dispatch(pass, &args);
    return args.dst;
}

void sl_op_put_rows(sl_pass *pass, sl_tensor x, sl_tensor from, sl_tensor marks)
{
    sl_op_args args = { .op = SL_OP_PUT_ROWS, .dst = x, .src = { from, marks } };
    if (require(pass, is_f32(&x) && is_f32(&from) && from.ne[0] == x.ne[0] && is_i32(&marks) && marks.ne[0] == x.ne[1] && sl_tensor_rows(&marks) == 1, SL_OP_PUT_ROWS,
                "f32 rows of one width, and one i32 mark per row"))
        sl_dispatch(pass, &args);
}

/* ---- row-wise and elementwise ---- */

/* The call of a normalisation, for operation `op`. 1 if it is to be dispatched. */
static int rms_norm(sl_pass *pass, sl_op op, sl_tensor x, sl_tensor weight, float epsilon, sl_op_args *args)
{
    *args = (sl_op_args) { .op = SL_OP_RMS_NORM, .src = { x, weight }, .value = epsilon };
    if (!require(pass, is_f32(&x) && is_f32(&weight) && weight.ne[0] == x.ne[0] && sl_tensor_rows(&weight) == 1, op, "one f32 factor per element"))
        return 0;
    args->dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], x.ne[1], x.ne[2], x.ne[3]);
    return 1;
}

sl_tensor sl_op_rms_norm(sl_pass *pass, sl_tensor x, sl_tensor weight, float epsilon)
{
    sl_op_args args;
    if (rms_norm(pass, SL_OP_RMS_NORM, x, weight, epsilon, &args))
        sl_dispatch(pass, &args);
    return args.dst;
}

sl_act sl_op_rms_norm_quantize(sl_pass *pass, sl_tensor x, sl_tensor weight, float epsilon, const sl_weight *next)
{
    sl_op_args calls[2];
    sl_act act = sl_act_of((sl_tensor) { .ne = { 0 } });
    if (!require(pass, next->form != SL_ACT_NONE && next->n_in == x.ne[0], SL_OP_RMS_NORM_QUANTIZE, "rows do not fit the matrix that comes next") ||
        !rms_norm(pass, SL_OP_RMS_NORM_QUANTIZE, x, weight, epsilon, &calls[0]))
        return act;
    act.form[SL_ACT_F32] = calls[0].dst;
    if (next->form == SL_ACT_F32)
        sl_dispatch(pass, &calls[0]);
    else if (quantizing(pass, calls[0].dst, next->form, &calls[1], &act.form[next->form]) && !sl_dispatch_group(pass, SL_OP_RMS_NORM_QUANTIZE, calls, 2))
        one_by_one(pass, calls, 2);
    return act;
}

void sl_op_add_to(sl_pass *pass, sl_tensor x, sl_tensor y)
{
    sl_op_args args = { .op = SL_OP_ADD_TO, .dst = x, .src = { x, y } };
    if (require(pass, is_f32(&x) && is_f32(&y) && fits_rows(&x, &y), SL_OP_ADD_TO, "shapes differ"))
        sl_dispatch(pass, &args);
}

sl_tensor sl_op_silu_mul(sl_pass *pass, sl_tensor gate, sl_tensor up)
{
    sl_tensor y = { .ne = { 0 } };
    if (!require(pass, is_f32(&gate) && is_f32(&up) && same_shape(&gate, &up), SL_OP_SILU_MUL, "shapes differ"))
        return y;
    y = sl_pass_tensor(pass, SL_TYPE_F32, gate.ne[0], gate.ne[1], gate.ne[2], gate.ne[3]);
    sl_op_silu_mul_to(pass, y, gate, up);
    return y;
}

void sl_op_silu_mul_to(sl_pass *pass, sl_tensor to, sl_tensor gate, sl_tensor up)
{
    sl_op_args args = { .op = SL_OP_SILU_MUL, .dst = to, .src = { gate, up } };
    if (require(pass, is_f32(&to) && is_f32(&gate) && is_f32(&up) && same_shape(&gate, &up) && same_shape(&to, &gate), SL_OP_SILU_MUL, "shapes differ"))
        sl_dispatch(pass, &args);
}

/* ---- positions, cache, attention ---- */

sl_tensor sl_op_rope_angles(sl_pass *pass, sl_tensor positions, sl_tensor freq, float magnitude)
{
    sl_op_args args = { .op = SL_OP_ROPE_ANGLES, .src = { positions, freq }, .value = magnitude };
    if (!require(pass, is_i32(&positions) && freq.type == SL_TYPE_F64 && sl_tensor_is(&freq), SL_OP_ROPE_ANGLES, "i32 positions and f64 frequencies"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, 2, freq.ne[0], positions.ne[0], 1);
    sl_dispatch(pass, &args);
    return args.dst;
}

void sl_op_rope(sl_pass *pass, sl_tensor x, sl_tensor angles)
{
    sl_op_args args = { .op = SL_OP_ROPE, .dst = x, .src = { x, angles } };
    if (require(pass, is_f32(&x) && is_f32(&angles) && x.ne[0] == 2 * angles.ne[1] && x.ne[2] == angles.ne[2], SL_OP_ROPE, "one pair of angles per pair and token"))
        sl_dispatch(pass, &args);
}

static int is_cache(const sl_tensor *k, const sl_tensor *v, int64_t d_head, int64_t n_head_kv)
{
    return k->type == v->type && k->ne[0] == SL_PAGE_KEYS && k->ne[1] == d_head && v->ne[0] == d_head && v->ne[1] == SL_PAGE_KEYS &&
           k->ne[2] == n_head_kv && v->ne[2] == n_head_kv && k->ne[3] == v->ne[3];
}

/* Where n_tok tokens stand: a position each, and a row of the page table, of which there may be one for all. */
static int are_places(const sl_tensor *positions, const sl_tensor *pages, const sl_tensor *seqs, int64_t n_tok)
{
    return is_i32(positions) && is_i32(pages) && positions->ne[0] == n_tok && pages->ne[2] == 1 && pages->ne[3] == 1 &&
           (sl_tensor_is(seqs) ? is_i32(seqs) && seqs->ne[0] == n_tok : pages->ne[1] == 1);
}

/* Keys and values on one side, a cache on the other. */
static void move_cache(sl_pass *pass, const sl_op_args *args)
{
    const sl_tensor *k = &args->src[0], *v = &args->src[1];
    if (require(pass, is_f32(k) && is_f32(v) && same_shape(k, v) && is_cache(&args->src[2], &args->src[3], k->ne[0], k->ne[1]), args->op,
                "keys, values and cache differ in shape") &&
        require(pass, are_places(&args->src[4], &args->src[5], &args->src[6], k->ne[2]), args->op, "a position and a sequence per token")) {
        sl_op_args call = *args;
        sl_dispatch(pass, &call);
    }
}

void sl_op_cache_write(sl_pass *pass, sl_tensor k, sl_tensor v, sl_tensor k_cache, sl_tensor v_cache, sl_tensor positions, sl_tensor pages, sl_tensor seqs)
{
    move_cache(pass, &(sl_op_args) { .op = SL_OP_CACHE_WRITE, .src = { k, v, k_cache, v_cache, positions, pages, seqs } });
}

void sl_op_cache_read(sl_pass *pass, sl_tensor k, sl_tensor v, sl_tensor k_cache, sl_tensor v_cache, sl_tensor positions, sl_tensor pages, sl_tensor seqs)
{
    move_cache(pass, &(sl_op_args) { .op = SL_OP_CACHE_READ, .src = { k, v, k_cache, v_cache, positions, pages, seqs } });
}

sl_tensor sl_op_attention(sl_pass *pass, sl_tensor q, sl_tensor k_cache, sl_tensor v_cache, sl_tensor positions, sl_tensor pages, sl_tensor seqs, int64_t chunk, float scale)
{
    sl_op_args args = { .op = SL_OP_ATTENTION, .src = { q, k_cache, v_cache, positions, pages, seqs }, .value = scale, .number = chunk };
    if (!require(pass, is_f32(&q) && k_cache.ne[2] > 0 && q.ne[1] % k_cache.ne[2] == 0 && is_cache(&k_cache, &v_cache, q.ne[0], k_cache.ne[2]), SL_OP_ATTENTION,
                 "queries and cache differ in shape") ||
        !require(pass, are_places(&positions, &pages, &seqs, q.ne[2]), SL_OP_ATTENTION, "a position and a sequence per token"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, q.ne[0], q.ne[1], q.ne[2], 1);
    sl_dispatch(pass, &args);
    return args.dst;
}

void sl_op_temper(sl_pass *pass, sl_tensor x, sl_tensor positions, sl_tensor tune)
{
    sl_op_args args = { .op = SL_OP_TEMPER, .dst = x, .src = { x, positions, tune } };
    if (require(pass, is_f32(&x) && is_i32(&positions) && positions.ne[0] == x.ne[2] && x.ne[3] == 1 && tune.type == SL_TYPE_F64 && tune.ne[0] == 2, SL_OP_TEMPER,
                "one i32 position per token and two f64 numbers"))
        sl_dispatch(pass, &args);
}

/* ---- experts ---- */

void sl_op_route(sl_pass *pass, sl_tensor logits, int64_t n_used, sl_gate gate, sl_tensor *ids, sl_tensor *weights)
{
    sl_op_args args = { .op = SL_OP_ROUTE, .src = { logits }, .number = gate };
    memset(ids, 0, sizeof *ids);
    memset(weights, 0, sizeof *weights);
    if (!require(pass, is_f32(&logits) && n_used > 0 && n_used <= logits.ne[0], SL_OP_ROUTE, "more experts used than there are"))
        return;
    *ids = args.dst = sl_pass_tensor(pass, SL_TYPE_I32, n_used, logits.ne[1], 1, 1);
    *weights = args.src[1] = sl_pass_tensor(pass, SL_TYPE_F32, n_used, logits.ne[1], 1, 1);
    sl_dispatch(pass, &args);
}

sl_tensor sl_op_expert_sum(sl_pass *pass, sl_tensor x, sl_tensor weights)
{
    sl_op_args args = { .op = SL_OP_EXPERT_SUM, .src = { x, weights } };
    if (!require(pass, is_f32(&x) && is_f32(&weights) && weights.ne[0] == x.ne[1] && weights.ne[1] == x.ne[2], SL_OP_EXPERT_SUM, "one weight per slot and token"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], x.ne[2], 1, 1);
    sl_dispatch(pass, &args);
    return args.dst;
}

sl_tensor sl_op_expert_scale(sl_pass *pass, sl_tensor x, sl_tensor weights)
{
    sl_op_args args = { .op = SL_OP_EXPERT_SCALE, .src = { x, weights } };
    if (!require(pass, is_f32(&x) && is_f32(&weights) && weights.ne[1] == x.ne[1] && x.ne[2] == 1, SL_OP_EXPERT_SCALE, "one row of weights per token"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], weights.ne[0], x.ne[1], 1);
    sl_dispatch(pass, &args);
    return args.dst;
}

/* ---- image encoders, and attention to what they made ---- */

sl_tensor sl_op_layer_norm(sl_pass *pass, sl_tensor x, sl_tensor weight, sl_tensor bias, float epsilon)
{
    sl_op_args args = { .op = SL_OP_LAYER_NORM, .src = { x, weight, bias }, .value = epsilon };
    if (!require(pass, is_f32(&x) && is_f32(&weight) && is_f32(&bias) && weight.ne[0] == x.ne[0] && sl_tensor_rows(&weight) == 1 && same_shape(&weight, &bias),
                 SL_OP_LAYER_NORM, "one f32 factor and one summand per element"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], x.ne[1], x.ne[2], x.ne[3]);
    sl_dispatch(pass, &args);
    return args.dst;
}

/* x = f(x + bias) */
static void activate(sl_pass *pass, sl_op op, sl_tensor x, sl_tensor bias)
{
    sl_op_args args = { .op = op, .dst = x, .src = { x, bias } };
    if (require(pass, is_f32(&x) && (!sl_tensor_is(&bias) || (is_f32(&bias) && bias.ne[0] == x.ne[0] && sl_tensor_rows(&bias) == 1)), op, "one f32 summand per element"))
        sl_dispatch(pass, &args);
}

void sl_op_gelu(sl_pass *pass, sl_tensor x, sl_tensor bias) { activate(pass, SL_OP_GELU, x, bias); }
void sl_op_quick_gelu(sl_pass *pass, sl_tensor x, sl_tensor bias) { activate(pass, SL_OP_QUICK_GELU, x, bias); }

void sl_op_add_gated(sl_pass *pass, sl_tensor x, sl_tensor y, sl_tensor gate, sl_tensor marks)
{
    sl_op_args args = { .op = SL_OP_ADD_GATED, .dst = x, .src = { x, y, gate, marks } };
    if (require(pass, is_f32(&x) && is_f32(&y) && fits_rows(&x, &y) && is_f32(&gate) && gate.ne[0] == 1 && sl_tensor_rows(&gate) == 1, SL_OP_ADD_GATED, "shapes differ") &&
        require(pass, !sl_tensor_is(&marks) || (is_i32(&marks) && marks.ne[0] == sl_tensor_rows(&x) && sl_tensor_rows(&marks) == 1), SL_OP_ADD_GATED, "one i32 mark per row"))
        sl_dispatch(pass, &args);
}

void sl_op_copy_to(sl_pass *pass, sl_tensor to, sl_tensor from)
{
    sl_op_args args = { .op = SL_OP_COPY_TO, .dst = to, .src = { from } };
    if (require(pass, to.type == SL_TYPE_F32 && from.type == SL_TYPE_F32 && sl_tensor_is(&to) && fits_rows(&to, &from), SL_OP_COPY_TO, "shapes differ"))
        sl_dispatch(pass, &args);
}

/* [2, n] of i32, pair after pair. */
static int is_pairs(const sl_tensor *t) { return is_i32(t) && t->ne[0] == 2 && t->ne[2] == 1 && t->ne[3] == 1 && t->stride[1] == 2 * sizeof(int32_t); }

sl_tensor sl_op_span_attention(sl_pass *pass, sl_tensor q, sl_tensor k_cache, sl_tensor v_cache, sl_tensor spans, sl_tensor ranges, float scale)
{
    sl_op_args args = { .op = SL_OP_SPAN_ATTENTION, .src = { q, k_cache, v_cache, spans, ranges }, .value = scale };
    if (!require(pass, is_f32(&q) && q.ne[3] == 1 && is_pairs(&spans) && is_pairs(&ranges) && ranges.ne[1] == q.ne[2], SL_OP_SPAN_ATTENTION, "a range of spans per token") ||
        !require(pass, k_cache.ne[2] > 0 && q.ne[1] % k_cache.ne[2] == 0 && is_cache(&k_cache, &v_cache, q.ne[0], k_cache.ne[2]), SL_OP_SPAN_ATTENTION,
                 "queries and cache differ in shape"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, q.ne[0], q.ne[1], q.ne[2], 1);
    sl_dispatch(pass, &args);
    return args.dst;
}
