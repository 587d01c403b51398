/* SPDX-License-Identifier: MIT */
/* op.c - passes (arena, plan, dispatch) and the typed wrappers: each checks its shapes, makes its result and dispatches. */
#include "op.h"

#include <string.h>

/* ---- passes ---- */

void sl_plan_free(sl_plan *plan)
{
    sl_mem_free(plan->mem, (void *)plan->steps);
    sl_mem_free(plan->mem, plan->ran);
    plan->steps = NULL;
    plan->ran = NULL;
    plan->n_steps = 0;
}

void sl_pass_begin(sl_pass *pass, const sl_device *devices, int n_devices, sl_plan *plan, int planning, void *const *memory)
{
    *pass = (sl_pass) { .planning = planning, .devices = devices, .n_devices = n_devices, .plan = plan };
    for (int d = 0; d < n_devices; d++) {
        pass->arena[d].base = planning ? NULL : memory[d];
        pass->arena[d].size = planning ? SIZE_MAX : plan->arena[d];
    }
}

sl_status sl_pass_end(sl_pass *pass) { return pass->status; }

sl_mark sl_pass_mark(const sl_pass *pass)
{
    sl_mark mark = { .step = pass->step };
    for (int d = 0; d < pass->n_devices; d++)
        mark.used[d] = pass->arena[d].used;
    return mark;
}

void sl_pass_release(sl_pass *pass, sl_mark mark)
{
    for (int d = 0; d < pass->n_devices; d++)
        pass->arena[d].used = mark.used[d];
}

void sl_pass_repeat(sl_pass *pass, sl_mark mark)
{
    sl_pass_release(pass, mark);
    pass->step = mark.step;
}

/* Takes bytes from the current arena; the address is NULL while planning. Sets the status and returns 1 if there is no room. */
static int arena_take(sl_pass *pass, size_t bytes, void **address)
{
    size_t used = pass->arena[pass->device].used, end;
    *address = NULL;
    if (sl_add(used, bytes, &end) || sl_add(end, 63, &end) || (end &= ~(size_t)63) > pass->arena[pass->device].size) {
        pass->status = pass->planning ? sl_fail(SL_ERR_OVERFLOW, "pass: intermediate results do not fit the address space")
                                      : sl_fail(SL_ERR_INTERNAL, "pass: step %zu needs more memory than was planned", pass->step);
        return 1;
    }
    if (pass->planning && end > pass->plan->arena[pass->device])
        pass->plan->arena[pass->device] = end;
    if (!pass->planning)
        *address = pass->arena[pass->device].base + used;
    pass->arena[pass->device].used = end;
    return 0;
}

sl_tensor sl_pass_tensor(sl_pass *pass, sl_type type, int64_t n0, int64_t n1, int64_t n2, int64_t n3)
{
    const sl_tensor none = { .ne = { 0 } };
    sl_tensor t = { .type = type, .ne = { n0, n1, n2, n3 } };
    if (pass->status != SL_OK)
        return none;
    size_t bytes = sl_type_get(type)->block_bytes;
    for (int i = 0; i < 4; i++) {
        t.stride[i] = bytes;
        if (t.ne[i] <= 0 || sl_mul(bytes, (size_t)t.ne[i], &bytes)) {
            pass->status = sl_fail(SL_ERR_OVERFLOW, "pass: a result of %lld x %lld x %lld x %lld elements", (long long)n0, (long long)n1, (long long)n2, (long long)n3);
            return none;
        }
    }
    return arena_take(pass, bytes, &t.data) ? none : t;
}

sl_tensor sl_pass_input(sl_pass *pass, sl_type type, int64_t n, const void *host)
{
    sl_tensor t = sl_pass_tensor(pass, type, n, 1, 1, 1);
    const sl_device *d = &pass->devices[pass->device];
    if (pass->status == SL_OK && !pass->planning)
        pass->status = d->backend->upload(d->handle, t.data, host, (size_t)n * t.stride[0]);
    return t;
}

static size_t tensor_bytes(const sl_tensor *t) { return t->stride[0] * (size_t)t->ne[0] * (size_t)sl_tensor_rows(t); }

void sl_pass_output(sl_pass *pass, sl_tensor x, void *host)
{
    const sl_device *d = &pass->devices[pass->device];
    if (pass->status == SL_OK && !pass->planning)
        pass->status = d->backend->download(d->handle, host, x.data, tensor_bytes(&x));
}

sl_tensor sl_pass_move(sl_pass *pass, sl_tensor x, int device)
{
    if (device == pass->device || pass->status != SL_OK)
        return x;
    /* Through host memory in small pieces: borders are few, and this works between any two backends. */
    const sl_device *from = &pass->devices[pass->device], *to = &pass->devices[device];
    pass->device = device;
    sl_tensor y = sl_pass_tensor(pass, x.type, x.ne[0], x.ne[1], x.ne[2], x.ne[3]);
    if (pass->status != SL_OK || pass->planning)
        return y;
    char staging[2048];
    size_t bytes = tensor_bytes(&x);
    for (size_t at = 0; at < bytes && pass->status == SL_OK; at += sizeof staging) {
        size_t n = bytes - at < sizeof staging ? bytes - at : sizeof staging;
        pass->status = from->backend->download(from->handle, staging, (const char *)x.data + at, n);
        if (pass->status == SL_OK)
            pass->status = to->backend->upload(to->handle, (char *)y.data + at, staging, n);
    }
    return y;
}

/* ---- dispatch ---- */

static const sl_impl *resolve(sl_pass *pass, const sl_op_args *args)
{
    const sl_device *d = &pass->devices[pass->device];
    for (size_t i = 0;; i++) {
        const sl_impl *impl = d->backend->impl(d->handle, i);
        if (!impl)
            return NULL;
        if (impl->op == args->op && impl->accepts(impl, d->handle, args))
            return impl;
    }
}

static sl_status record(sl_pass *pass, const sl_op_args *args)
{
    sl_plan *plan = pass->plan;
    const sl_impl *impl = resolve(pass, args);
    if (!impl)
        return args->weight ? sl_fail(SL_ERR_UNSUPPORTED, "%s: %s has no %s on %s", args->weight->name, sl_type_name(args->weight->type),
                                      sl_op_name(args->op), pass->devices[pass->device].backend->name)
                            : sl_fail(SL_ERR_UNSUPPORTED, "no %s on %s", sl_op_name(args->op), pass->devices[pass->device].backend->name);
    if (pass->step < plan->n_steps)
        return plan->steps[pass->step] == impl ? SL_OK : sl_fail(SL_ERR_INTERNAL, "plan: step %zu changed its implementation", pass->step);
    SL_TRY(sl_mem_grow(plan->mem, &plan->steps, plan->n_steps + 1, sizeof *plan->steps));
    SL_TRY(sl_mem_grow(plan->mem, &plan->ran, plan->n_steps + 1, sizeof *plan->ran));
    plan->steps[plan->n_steps++] = impl;
    return SL_OK;
}

static void dispatch(sl_pass *pass, sl_op_args *args)
{
    if (pass->status == SL_OK && pass->planning)
        pass->status = record(pass, args);
    if (pass->status != SL_OK)
        return;
    if (pass->step >= pass->plan->n_steps || pass->plan->steps[pass->step]->op != args->op) {
        pass->status = sl_fail(SL_ERR_INTERNAL, "pass: step %zu (%s) was not planned", pass->step, sl_op_name(args->op));
        return;
    }
    const sl_impl *impl = pass->plan->steps[pass->step];
    void *device = pass->devices[pass->device].handle;
    size_t used = pass->arena[pass->device].used;
    if (impl->scratch && arena_take(pass, impl->scratch(impl, device, args), &args->scratch))
        return;
    if (!pass->planning) {
        pass->status = impl->run(impl, device, args);
        if (pass->status != SL_OK && pass->status != SL_ERR_CANCELLED && args->weight)
            sl_fail_in(pass->status, args->weight->name);
        if (pass->plan->ran[pass->step] != UINT32_MAX)
            pass->plan->ran[pass->step]++;
    }
    pass->arena[pass->device].used = used;
    pass->step++;
}

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

/* The rows in the form that a weight wants, made now if this is the first product to want it. */
static sl_tensor act_form(sl_pass *pass, sl_act *act, sl_act_form form)
{
    const sl_tensor x = act->form[SL_ACT_F32];
    sl_tensor *made = &act->form[form];
    if (sl_tensor_is(made) || pass->status != SL_OK)
        return *made;
    const sl_act_info *info = sl_act_get(form);
    if (!require(pass, is_f32(&x) && (form == SL_ACT_B16 || x.ne[0] % info->block_values == 0), SL_OP_QUANTIZE, "rows must be whole blocks of f32"))
        return *made;
    sl_op_args args = { .op = SL_OP_QUANTIZE, .form = form, .src = { x } };
    args.dst = *made = sl_pass_tensor(pass, SL_TYPE_I8, (int64_t)sl_act_row_bytes(info, (size_t)x.ne[0]), x.ne[1], x.ne[2], x.ne[3]);
    dispatch(pass, &args);
    return *made;
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
        dispatch(pass, &args);
}

static void observe(sl_pass *pass, const sl_weight *weight, const sl_tensor *rows, const sl_tensor *ids)
{
    sl_observer *o = pass->plan->observer;
    if (o && !pass->planning && pass->status == SL_OK)
        pass->status = o->see(o, &pass->devices[pass->device], weight, rows, ids);
}

sl_tensor sl_op_matmul(sl_pass *pass, const sl_weight *weight, sl_act *x)
{
    sl_op_args args = { .op = SL_OP_MATMUL, .weight = weight, .form = weight->form };
    const sl_tensor rows = x->form[SL_ACT_F32];
    if (!require(pass, args.form != SL_ACT_NONE, SL_OP_MATMUL, "not a matrix type") ||
        !require(pass, is_f32(&rows) && rows.ne[0] == weight->n_in && rows.ne[2] == 1 && rows.ne[3] == 1, SL_OP_MATMUL, "rows do not fit the matrix"))
        return args.dst;
    observe(pass, weight, &rows, NULL);
    args.src[0] = act_form(pass, x, args.form);
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, weight->n_out, rows.ne[1], 1, 1);
    dispatch(pass, &args);
    apply_scale(pass, args.dst, weight->scale, NULL);
    return args.dst;
}

sl_tensor sl_op_matmul_expert(sl_pass *pass, const sl_weight *weight, sl_act *x, sl_tensor ids)
{
    sl_op_args args = { .op = SL_OP_MATMUL_EXPERT, .weight = weight, .form = weight->form };
    const sl_tensor rows = x->form[SL_ACT_F32];
    if (!require(pass, args.form != SL_ACT_NONE, SL_OP_MATMUL_EXPERT, "not a matrix type") ||
        !require(pass, is_f32(&rows) && is_i32(&ids) && rows.ne[0] == weight->n_in && (rows.ne[1] == ids.ne[1] || rows.ne[1] == ids.ne[0] * ids.ne[1]),
                 SL_OP_MATMUL_EXPERT, "rows do not fit the matrices or their ids"))
        return args.dst;
    observe(pass, weight, &rows, &ids);
    args.src[0] = act_form(pass, x, args.form);
    args.src[1] = ids;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, weight->n_out, ids.ne[0], ids.ne[1], 1);
    dispatch(pass, &args);
    apply_scale(pass, args.dst, weight->scale, &ids);
    return args.dst;
}

/* ---- rows ---- */

sl_tensor sl_op_get_rows(sl_pass *pass, const sl_weight *weight, sl_tensor ids)
{
    sl_op_args args = { .op = SL_OP_GET_ROWS, .weight = weight, .src = { ids } };
    if (!require(pass, is_i32(&ids) && sl_tensor_rows(&ids) == 1, SL_OP_GET_ROWS, "ids must be one row of i32"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, weight->n_in, ids.ne[0], 1, 1);
    dispatch(pass, &args);
    return args.dst;
}

sl_tensor sl_op_take_rows(sl_pass *pass, sl_tensor x, sl_tensor rows)
{
    sl_op_args args = { .op = SL_OP_TAKE_ROWS, .src = { x, rows } };
    if (!require(pass, is_f32(&x) && is_i32(&rows) && sl_tensor_rows(&rows) == 1, SL_OP_TAKE_ROWS, "f32 rows by one row of i32"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], rows.ne[0], 1, 1);
    dispatch(pass, &args);
    return args.dst;
}

void sl_op_put_rows(sl_pass *pass, sl_tensor x, sl_tensor from, sl_tensor marks)
{
    sl_op_args args = { .op = SL_OP_PUT_ROWS, .dst = x, .src = { from, marks } };
    if (require(pass, is_f32(&x) && is_f32(&from) && from.ne[0] == x.ne[0] && is_i32(&marks) && marks.ne[0] == x.ne[1] && sl_tensor_rows(&marks) == 1, SL_OP_PUT_ROWS,
                "f32 rows of one width, and one i32 mark per row"))
        dispatch(pass, &args);
}

/* ---- row-wise and elementwise ---- */

sl_tensor sl_op_rms_norm(sl_pass *pass, sl_tensor x, sl_tensor weight, float epsilon)
{
    sl_op_args args = { .op = SL_OP_RMS_NORM, .src = { x, weight }, .value = epsilon };
    if (!require(pass, is_f32(&x) && is_f32(&weight) && weight.ne[0] == x.ne[0] && sl_tensor_rows(&weight) == 1, SL_OP_RMS_NORM, "one f32 factor per element"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], x.ne[1], x.ne[2], x.ne[3]);
    dispatch(pass, &args);
    return args.dst;
}

void sl_op_add_to(sl_pass *pass, sl_tensor x, sl_tensor y)
{
    sl_op_args args = { .op = SL_OP_ADD_TO, .dst = x, .src = { x, y } };
    if (require(pass, is_f32(&x) && is_f32(&y) && fits_rows(&x, &y), SL_OP_ADD_TO, "shapes differ"))
        dispatch(pass, &args);
}

sl_tensor sl_op_silu_mul(sl_pass *pass, sl_tensor gate, sl_tensor up)
{
    sl_op_args args = { .op = SL_OP_SILU_MUL, .src = { gate, up } };
    if (!require(pass, is_f32(&gate) && is_f32(&up) && same_shape(&gate, &up), SL_OP_SILU_MUL, "shapes differ"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, gate.ne[0], gate.ne[1], gate.ne[2], gate.ne[3]);
    dispatch(pass, &args);
    return args.dst;
}

/* ---- positions, cache, attention ---- */

sl_tensor sl_op_rope_angles(sl_pass *pass, sl_tensor positions, sl_tensor freq, float magnitude)
{
    sl_op_args args = { .op = SL_OP_ROPE_ANGLES, .src = { positions, freq }, .value = magnitude };
    if (!require(pass, is_i32(&positions) && freq.type == SL_TYPE_F64 && sl_tensor_is(&freq), SL_OP_ROPE_ANGLES, "i32 positions and f64 frequencies"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, 2, freq.ne[0], positions.ne[0], 1);
    dispatch(pass, &args);
    return args.dst;
}

void sl_op_rope(sl_pass *pass, sl_tensor x, sl_tensor angles)
{
    sl_op_args args = { .op = SL_OP_ROPE, .dst = x, .src = { x, angles } };
    if (require(pass, is_f32(&x) && is_f32(&angles) && x.ne[0] == 2 * angles.ne[1] && x.ne[2] == angles.ne[2], SL_OP_ROPE, "one pair of angles per pair and token"))
        dispatch(pass, &args);
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
        dispatch(pass, &call);
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
    dispatch(pass, &args);
    return args.dst;
}

void sl_op_temper(sl_pass *pass, sl_tensor x, sl_tensor positions, sl_tensor tune)
{
    sl_op_args args = { .op = SL_OP_TEMPER, .dst = x, .src = { x, positions, tune } };
    if (require(pass, is_f32(&x) && is_i32(&positions) && positions.ne[0] == x.ne[2] && x.ne[3] == 1 && tune.type == SL_TYPE_F64 && tune.ne[0] == 2, SL_OP_TEMPER,
                "one i32 position per token and two f64 numbers"))
        dispatch(pass, &args);
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
    dispatch(pass, &args);
}

sl_tensor sl_op_expert_sum(sl_pass *pass, sl_tensor x, sl_tensor weights)
{
    sl_op_args args = { .op = SL_OP_EXPERT_SUM, .src = { x, weights } };
    if (!require(pass, is_f32(&x) && is_f32(&weights) && weights.ne[0] == x.ne[1] && weights.ne[1] == x.ne[2], SL_OP_EXPERT_SUM, "one weight per slot and token"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], x.ne[2], 1, 1);
    dispatch(pass, &args);
    return args.dst;
}

sl_tensor sl_op_expert_scale(sl_pass *pass, sl_tensor x, sl_tensor weights)
{
    sl_op_args args = { .op = SL_OP_EXPERT_SCALE, .src = { x, weights } };
    if (!require(pass, is_f32(&x) && is_f32(&weights) && weights.ne[1] == x.ne[1] && x.ne[2] == 1, SL_OP_EXPERT_SCALE, "one row of weights per token"))
        return args.dst;
    args.dst = sl_pass_tensor(pass, SL_TYPE_F32, x.ne[0], weights.ne[0], x.ne[1], 1);
    dispatch(pass, &args);
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
    dispatch(pass, &args);
    return args.dst;
}

/* x = f(x + bias) */
static void activate(sl_pass *pass, sl_op op, sl_tensor x, sl_tensor bias)
{
    sl_op_args args = { .op = op, .dst = x, .src = { x, bias } };
    if (require(pass, is_f32(&x) && (!sl_tensor_is(&bias) || (is_f32(&bias) && bias.ne[0] == x.ne[0] && sl_tensor_rows(&bias) == 1)), op, "one f32 summand per element"))
        dispatch(pass, &args);
}

void sl_op_gelu(sl_pass *pass, sl_tensor x, sl_tensor bias) { activate(pass, SL_OP_GELU, x, bias); }
void sl_op_quick_gelu(sl_pass *pass, sl_tensor x, sl_tensor bias) { activate(pass, SL_OP_QUICK_GELU, x, bias); }

void sl_op_add_gated(sl_pass *pass, sl_tensor x, sl_tensor y, sl_tensor gate, sl_tensor marks)
{
    sl_op_args args = { .op = SL_OP_ADD_GATED, .dst = x, .src = { x, y, gate, marks } };
    if (require(pass, is_f32(&x) && is_f32(&y) && fits_rows(&x, &y) && is_f32(&gate) && gate.ne[0] == 1 && sl_tensor_rows(&gate) == 1, SL_OP_ADD_GATED, "shapes differ") &&
        require(pass, !sl_tensor_is(&marks) || (is_i32(&marks) && marks.ne[0] == sl_tensor_rows(&x) && sl_tensor_rows(&marks) == 1), SL_OP_ADD_GATED, "one i32 mark per row"))
        dispatch(pass, &args);
}

void sl_op_copy_to(sl_pass *pass, sl_tensor to, sl_tensor from)
{
    sl_op_args args = { .op = SL_OP_COPY_TO, .dst = to, .src = { from } };
    if (require(pass, to.type == SL_TYPE_F32 && from.type == SL_TYPE_F32 && sl_tensor_is(&to) && fits_rows(&to, &from), SL_OP_COPY_TO, "shapes differ"))
        dispatch(pass, &args);
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
    dispatch(pass, &args);
    return args.dst;
}
