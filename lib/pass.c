/* SPDX-License-Identifier: MIT */
/* pass.c - passes: arena and plan, and the way of a call to its implementation. */
#include "dispatch.h"

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

static sl_status no_implementation(const sl_pass *pass, const sl_op_args *args)
{
    const char *backend = pass->devices[pass->device].backend->name;
    return args->weight ? sl_fail(SL_ERR_UNSUPPORTED, "%s: %s has no %s on %s", args->weight->name, sl_type_name(args->weight->type), sl_op_name(args->op), backend)
                        : sl_fail(SL_ERR_UNSUPPORTED, "no %s on %s", sl_op_name(args->op), backend);
}

/* Puts it into the plan as step `step`, or finds it there. */
static sl_status record(sl_plan *plan, size_t step, const sl_impl *impl)
{
    if (step < plan->n_steps)
        return plan->steps[step] == impl ? SL_OK : sl_fail(SL_ERR_INTERNAL, "plan: step %zu changed its implementation", step);
    SL_TRY(sl_mem_grow(plan->mem, &plan->steps, plan->n_steps + 1, sizeof *plan->steps));
    SL_TRY(sl_mem_grow(plan->mem, &plan->ran, plan->n_steps + 1, sizeof *plan->ran));
    plan->steps[plan->n_steps++] = impl;
    return SL_OK;
}

/* Makes a call that is planned: n_steps steps of the plan from this one on, the first of which is its implementation. */
static void make(sl_pass *pass, sl_op_args *args, size_t n_steps)
{
    const sl_impl *impl = pass->plan->steps[pass->step];
    const sl_weight *weight = args->n_parts ? args->parts[0].weight : args->weight;
    void *device = pass->devices[pass->device].handle;
    size_t used = pass->arena[pass->device].used;
    if (impl->scratch && arena_take(pass, impl->scratch(impl, device, args), &args->scratch))
        return;
    if (!pass->planning) {
        pass->status = impl->run(impl, device, args);
        if (pass->status != SL_OK && pass->status != SL_ERR_CANCELLED && weight)
            sl_fail_in(pass->status, weight->name);
        for (size_t step = pass->step; step < pass->step + n_steps; step++)
            pass->plan->ran[step] += pass->plan->ran[step] != UINT32_MAX;
    }
    pass->arena[pass->device].used = used;
    pass->step += n_steps;
}

/* 1 if step `step` of the plan is such an operation. */
static int is_planned(const sl_pass *pass, size_t step, sl_op op) { return step < pass->plan->n_steps && pass->plan->steps[step]->op == op; }

void sl_dispatch(sl_pass *pass, sl_op_args *args)
{
    if (pass->status == SL_OK && pass->planning) {
        const sl_impl *impl = resolve(pass, args);
        pass->status = impl ? record(pass->plan, pass->step, impl) : no_implementation(pass, args);
    }
    if (pass->status == SL_OK && !is_planned(pass, pass->step, args->op))
        pass->status = sl_fail(SL_ERR_INTERNAL, "pass: step %zu (%s) was not planned", pass->step, sl_op_name(args->op));
    if (pass->status == SL_OK)
        make(pass, args, 1);
}

/* Plans a group, if the device has it: its own implementation, then those of its parts. Returns 1 if it has. */
static int plan_group(sl_pass *pass, const sl_op_args *group, sl_op_args *parts)
{
    for (int i = 0; i < group->n_parts; i++)
        if (!(parts[i].impl = resolve(pass, &parts[i])))
            return 0;           /* which is said when it is called alone */
    const sl_impl *impl = resolve(pass, group);
    if (!impl)
        return 0;
    pass->status = record(pass->plan, pass->step, impl);
    for (int i = 0; i < group->n_parts && pass->status == SL_OK; i++)
        pass->status = record(pass->plan, pass->step + 1 + (size_t)i, parts[i].impl);
    return 1;
}

int sl_dispatch_group(sl_pass *pass, sl_op op, sl_op_args *parts, int n_parts)
{
    sl_op_args group = { .op = op, .parts = parts, .n_parts = n_parts };
    if (pass->status != SL_OK)
        return 1;
    if (pass->planning ? !plan_group(pass, &group, parts) : !is_planned(pass, pass->step, op))
        return 0;
    for (int i = 0; i < n_parts && pass->status == SL_OK; i++) {
        const size_t step = pass->step + 1 + (size_t)i;
        if (!is_planned(pass, step, parts[i].op))
            pass->status = sl_fail(SL_ERR_INTERNAL, "pass: step %zu (%s of %s) was not planned", step, sl_op_name(parts[i].op), sl_op_name(op));
        else
            parts[i].impl = pass->plan->steps[step];
    }
    if (pass->status == SL_OK)
        make(pass, &group, 1 + (size_t)n_parts);
    return 1;
}
