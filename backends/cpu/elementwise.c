/* SPDX-License-Identifier: MIT */
/* elementwise.c - element by element: adding, gating, GELU, copying, factors on products. Work is cut into pieces of a few thousand elements. */
#include "cpu.h"

#include <string.h>

enum { PIECE = 4096 };

/* Pieces of the rows of a tensor: of every row ceil(ne[0] / PIECE). */
typedef struct job { const sl_op_args *args; const void *kernel; int64_t per_row; } job;
typedef struct piece { int64_t row, first, n; } piece;

static piece piece_of(const job *j, size_t task)
{
    const int64_t first = (int64_t)task % j->per_row * PIECE, left = j->args->dst.ne[0] - first;
    return (piece) { (int64_t)task / j->per_row, first, left < PIECE ? left : PIECE };
}

static float *at(const sl_tensor *t, int64_t row, int64_t first) { return (float *)cpu_row(t, row) + first; }

static sl_status run_pieces(void *device, const sl_op_args *args, const void *kernel, cpu_task *task)
{
    job j = { args, kernel, (args->dst.ne[0] + PIECE - 1) / PIECE };
    return cpu_parallel(device, (size_t)(j.per_row * sl_tensor_rows(&args->dst)), task, &j);
}

int cpu_add_to_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }
int cpu_silu_mul_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }
int cpu_gelu_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }
int cpu_add_gated_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }

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

/* ---- image encoders ---- */

static sl_status gelu_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const piece p = piece_of(j, task);
    const sl_tensor *bias = &j->args->src[1];
    (void)thread;
    ((const cpu_gelu_kernel *)j->kernel)->gelu(p.n, at(&j->args->dst, p.row, p.first), sl_tensor_is(bias) ? (const float *)bias->data + p.first : NULL);
    return SL_OK;
}

sl_status cpu_gelu_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_pieces(device, args, self->kernel, gelu_piece); }

static sl_status add_gated_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const piece p = piece_of(j, task);
    const sl_op_args *a = j->args;
    const sl_tensor *y = &a->src[1];
    (void)thread;
    if (!sl_tensor_is(&a->src[3]) || ((const int32_t *)a->src[3].data)[p.row])
        ((const cpu_add_gated_kernel *)j->kernel)->add_gated(p.n, at(&a->dst, p.row, p.first), at(y, sl_tensor_rows(y) == 1 ? 0 : p.row, p.first),
                                                             ((const float *)a->src[2].data)[0]);
    return SL_OK;
}

sl_status cpu_add_gated_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_pieces(device, args, self->kernel, add_gated_piece); }

/* Elements of either side may lie apart. */
static sl_status copy_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const piece p = piece_of(j, task);
    const sl_tensor *to = &j->args->dst, *from = &j->args->src[0];
    char *t = cpu_row(to, p.row) + (size_t)p.first * to->stride[0];
    const char *f = cpu_row(from, sl_tensor_rows(from) == 1 ? 0 : p.row) + (size_t)p.first * from->stride[0];
    (void)thread;
    if (to->stride[0] == sizeof(float) && from->stride[0] == sizeof(float))
        memcpy(t, f, (size_t)p.n * sizeof(float));
    else
        for (int64_t i = 0; i < p.n; i++)
            memcpy(t + (size_t)i * to->stride[0], f + (size_t)i * from->stride[0], sizeof(float));
    return SL_OK;
}

sl_status cpu_copy_to_run(const sl_impl *self, void *device, const sl_op_args *args) { return (void)self, run_pieces(device, args, NULL, copy_piece); }
