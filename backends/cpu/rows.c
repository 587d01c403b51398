/* SPDX-License-Identifier: MIT */
/* rows.c - choosing rows: of a matrix by token id (decoded), of activations by index. One task per row. */
#include "cpu.h"

#include <string.h>

typedef struct job { cpu_device *device; const sl_op_args *args; } job;

static sl_status get_row(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    const int64_t id = ((const int32_t *)a->src[0].data)[task], n = a->weight->n_out * a->weight->n_mat;
    (void)thread;
    if (id < 0 || id >= n)
        return sl_fail(SL_ERR_RANGE, "get_rows: row %lld of %lld", (long long)id, (long long)n);
    cpu_matrix_row(j->device, a->weight->handle, id, (float *)((char *)a->dst.data + task * a->dst.stride[1]));
    return SL_OK;
}

sl_status cpu_get_rows_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    job j = { device, args };
    return cpu_parallel(device, (size_t)args->dst.ne[1], get_row, &j);
}

sl_status cpu_take_rows_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device;
    const sl_tensor *x = &args->src[0];
    for (int64_t i = 0; i < args->dst.ne[1]; i++) {
        const int64_t row = ((const int32_t *)args->src[1].data)[i];
        if (row < 0 || row >= x->ne[1])
            return sl_fail(SL_ERR_RANGE, "take_rows: row %lld of %lld", (long long)row, (long long)x->ne[1]);
        memcpy((char *)args->dst.data + (size_t)i * args->dst.stride[1], (const char *)x->data + (size_t)row * x->stride[1], (size_t)x->ne[0] * sizeof(float));
    }
    return SL_OK;
}
