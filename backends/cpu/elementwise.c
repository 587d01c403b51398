/* SPDX-License-Identifier: MIT */
/* elementwise.c - element by element: adding, gating, factors on products. Work is cut into pieces of a few thousand elements. */
#include "cpu.h"

enum { PIECE = 4096 };

/* Pieces of the rows of a tensor: of every row ceil(ne[0] / PIECE). */
typedef struct job { const sl_op_args *args; const void *kernel; int64_t per_row; } job;
typedef struct piece { int64_t row, first, n; } piece;

static piece piece_of(const job *j, size_t task)
{
    const int64_t first = (int64_t)task % j->per_row * PIECE, left = j->args->dst.ne[0] - first;
    return (piece) { (int64_t)task / j->per_row, first, left < PIECE ? left : PIECE };
}

static float *at(const sl_tensor *t, int64_t row, int64_t first)
{
    return (float *)((char *)t->data + (size_t)(row % t->ne[1]) * t->stride[1] + (size_t)(row / t->ne[1]) * t->stride[2]) + first;
}

static sl_status run_pieces(void *device, const sl_op_args *args, const void *kernel, cpu_task *task)
{
    job j = { args, kernel, (args->dst.ne[0] + PIECE - 1) / PIECE };
    return cpu_parallel(device, (size_t)(j.per_row * args->dst.ne[1] * args->dst.ne[2]), task, &j);
}

int cpu_add_to_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device;
    return args->dst.ne[3] == 1;
}
int cpu_silu_mul_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_add_to_accepts(self, device, args); }

static sl_status add_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const piece p = piece_of(j, task);
    const sl_tensor *y = &j->args->src[1];
    (void)thread;
    ((const cpu_add_kernel *)j->kernel)->add(p.n, at(&j->args->dst, p.row, p.first), at(y, sl_tensor_rows(y) == 1 ? 0 : p.row, p.first));
    return SL_OK;
}

sl_status cpu_add_to_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_pieces(device, args, self->kernel, add_piece); }

static sl_status silu_mul_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const piece p = piece_of(j, task);
    const sl_op_args *a = j->args;
    (void)thread;
    ((const cpu_silu_mul_kernel *)j->kernel)->silu_mul(p.n, at(&a->src[0], p.row, p.first), at(&a->src[1], p.row, p.first), at(&a->dst, p.row, p.first));
    return SL_OK;
}

sl_status cpu_silu_mul_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_pieces(device, args, self->kernel, silu_mul_piece); }

/* x[n, slot, tok] *= scale[0], or scale[ids[slot, tok]]. */
static sl_status scale_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const piece p = piece_of(j, task);
    const sl_op_args *a = j->args;
    const int32_t *ids = a->src[2].data;
    const float s = ((const float *)a->src[1].data)[a->src[1].ne[0] > 1 ? ids[p.row] : 0];
    float *x = at(&a->dst, p.row, p.first);
    (void)thread;
    for (int64_t i = 0; i < p.n; i++)
        x[i] *= s;
    return SL_OK;
}

sl_status cpu_scale_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_pieces(device, args, self->kernel, scale_piece); }
