/* SPDX-License-Identifier: MIT */
/* norm.c - RMS and layer normalisation, and RMS normalisation with quantizing, row by row; a task is as many rows as make a few thousand elements. */
#include "cpu.h"

typedef struct job { const sl_op_args *args; const void *kernel; int64_t rows_per_task; } job;

int cpu_rms_norm_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }
int cpu_layer_norm_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }

static int64_t first_row(const job *j, size_t task) { return (int64_t)task * j->rows_per_task; }

static int64_t end_row(const job *j, size_t task)
{
    const int64_t end = first_row(j, task) + j->rows_per_task, n = sl_tensor_rows(&j->args->dst);
    return end < n ? end : n;
}

static sl_status run_rows(void *device, const sl_op_args *args, const void *kernel, cpu_task *task)
{
    job j = { args, kernel, 8192 / args->dst.ne[0] + 1 };
    return cpu_parallel(device, (size_t)((sl_tensor_rows(&args->dst) + j.rows_per_task - 1) / j.rows_per_task), task, &j);
}

static sl_status rms_norm_rows(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    cpu_rms_norm_fn *fn = ((const cpu_rms_norm_kernel *)j->kernel)->rms_norm;
    (void)thread;
    for (int64_t r = first_row(j, task); r < end_row(j, task); r++)
        fn(a->dst.ne[0], (const float *)cpu_row(&a->src[0], r), a->src[1].data, a->value, (float *)cpu_row(&a->dst, r));
    return SL_OK;
}

sl_status cpu_rms_norm_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_rows(device, args, self->kernel, rms_norm_rows); }

/* RMS_NORM_QUANTIZE: each row by the kernels of both parts, while it is in the first cache. */
int cpu_rms_norm_quantize_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device;
    return args->parts[0].impl->run == cpu_rms_norm_run && args->parts[1].impl->run == cpu_quantize_run;
}

static sl_status rms_norm_quantize_rows(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *norm = j->args, *quantize = j->args + 1;
    cpu_quantize_fn *fn = ((const cpu_quantize_kernel *)quantize->impl->kernel)->quantize;
    SL_TRY(rms_norm_rows(arg, task, thread));
    for (int64_t r = first_row(j, task); r < end_row(j, task); r++)
        if (fn(norm->dst.ne[0], (const float *)cpu_row(&norm->dst, r), cpu_row(&quantize->dst, r)))
            return sl_fail(SL_ERR_NONFINITE, "quantize: an activation of row %lld is infinite or not a number", (long long)r);
    return SL_OK;
}

sl_status cpu_rms_norm_quantize_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    return (void)self, run_rows(device, args->parts, args->parts[0].impl->kernel, rms_norm_quantize_rows);
}

static sl_status layer_norm_rows(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    cpu_layer_norm_fn *fn = ((const cpu_layer_norm_kernel *)j->kernel)->layer_norm;
    (void)thread;
    for (int64_t r = first_row(j, task); r < end_row(j, task); r++)
        fn(a->dst.ne[0], (const float *)cpu_row(&a->src[0], r), a->src[1].data, a->src[2].data, a->value, (float *)cpu_row(&a->dst, r));
    return SL_OK;
}

sl_status cpu_layer_norm_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_rows(device, args, self->kernel, layer_norm_rows); }
