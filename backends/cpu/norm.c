/* SPDX-License-Identifier: MIT */
/* norm.c - RMS normalisation, row by row; a task is as many rows as make a few thousand elements. */
#include "cpu.h"

typedef struct job { const sl_op_args *args; cpu_rms_norm_fn *fn; int64_t rows_per_task; } job;

int cpu_rms_norm_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }

/* Row `row` of a tensor, dimensions 1 to 3 counted through. */
static char *row_of(const sl_tensor *t, int64_t row)
{
    return (char *)t->data + (size_t)(row % t->ne[1]) * t->stride[1] + (size_t)(row / t->ne[1] % t->ne[2]) * t->stride[2] + (size_t)(row / t->ne[1] / t->ne[2]) * t->stride[3];
}

static sl_status norm_rows(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    const int64_t first = (int64_t)task * j->rows_per_task, n = sl_tensor_rows(&a->dst), end = first + j->rows_per_task < n ? first + j->rows_per_task : n;
    (void)thread;
    for (int64_t r = first; r < end; r++)
        j->fn(a->dst.ne[0], (const float *)row_of(&a->src[0], r), a->src[1].data, a->value, (float *)row_of(&a->dst, r));
    return SL_OK;
}

sl_status cpu_rms_norm_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    job j = { args, ((const cpu_rms_norm_kernel *)self->kernel)->rms_norm, 8192 / args->dst.ne[0] + 1 };
    return cpu_parallel(device, (size_t)((sl_tensor_rows(&args->dst) + j.rows_per_task - 1) / j.rows_per_task), norm_rows, &j);
}
