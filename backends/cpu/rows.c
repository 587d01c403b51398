/* SPDX-License-Identifier: MIT */
/* rows.c - choosing rows: of a matrix by token id (decoded), of activations by index, and putting some in the place of others. One task per row, or part of a
 * long one. */
#include "cpu.h"

#include <string.h>

typedef struct job { cpu_device *device; const sl_op_args *args; int64_t per_row; } job;

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
    job j = { device, args, 1 };
    return cpu_parallel(device, (size_t)args->dst.ne[1], get_row, &j);
}

/* A row may be a table of its own: 8 million numbers. */
enum { PIECE = 1 << 18 };

static sl_status take_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_tensor *x = &j->args->src[0], *to = &j->args->dst;
    const int64_t i = (int64_t)task / j->per_row, first = (int64_t)task % j->per_row * PIECE, left = x->ne[0] - first, row = ((const int32_t *)j->args->src[1].data)[i];
    (void)thread;
    if (row < 0 || row >= x->ne[1])
        return sl_fail(SL_ERR_RANGE, "take_rows: row %lld of %lld", (long long)row, (long long)x->ne[1]);
    memcpy(cpu_row(to, i) + (size_t)first * sizeof(float), cpu_row(x, row) + (size_t)first * sizeof(float), (size_t)(left < PIECE ? left : PIECE) * sizeof(float));
    return SL_OK;
}

sl_status cpu_take_rows_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    job j = { device, args, (args->src[0].ne[0] + PIECE - 1) / PIECE };
    return cpu_parallel(device, (size_t)(j.per_row * args->dst.ne[1]), take_piece, &j);
}

static sl_status put_row(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_tensor *from = &j->args->src[0];
    const int64_t mark = ((const int32_t *)j->args->src[1].data)[task];
    (void)thread;
    if (mark < 0 || mark > from->ne[1])
        return sl_fail(SL_ERR_RANGE, "put_rows: row %lld of %lld", (long long)mark - 1, (long long)from->ne[1]);
    if (mark)
        memcpy(cpu_row(&j->args->dst, (int64_t)task), cpu_row(from, mark - 1), (size_t)from->ne[0] * sizeof(float));
    return SL_OK;
}

sl_status cpu_put_rows_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    job j = { device, args, 1 };
    return cpu_parallel(device, (size_t)args->dst.ne[1], put_row, &j);
}
