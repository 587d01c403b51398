/* SPDX-License-Identifier: MIT */
/* matmul_cut.h - what the ways of cutting a product share: which rows of activations meet which matrix, and where their outputs go. matmul.c chooses among the
 * ways, matmul_few.c and matmul_wide.c are two of them. */
#ifndef CPU_MATMUL_CUT_H
#define CPU_MATMUL_CUT_H

#include "kernels.h"

#include <string.h>

static inline size_t min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t max(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t quotient_up(size_t a, size_t b) { return (a + b - 1) / b; }

/* A product and its rows. By expert they are pairs (slot, token), sorted by the matrix that they want. Products of one group have the same rows. */
typedef struct cpu_rows {
    const sl_op_args *args;
    const cpu_matmul_kernel *kernel;
    cpu_silu_mul_fn *silu;      /* NULL: sums become outputs. Else the outputs hold a gate, and become its SiLU times the sums */
    size_t n_row;               /* activation rows, or pairs */
    const int32_t *pairs;       /* NULL: a plain product, one matrix for all rows */
    const int32_t *first;       /* where the pairs of a matrix begin in `pairs`; n_mat + 1 numbers */
    const int32_t *wanted;      /* matrices that have pairs */
    size_t n_wanted, most;      /* how many, and the most rows that one of them has */
} cpu_rows;

/* The activations of the index-th row or pair. */
static inline const uint8_t *cpu_rows_act(const cpu_rows *r, size_t index)
{
    const sl_tensor *x = &r->args->src[0];
    size_t row = r->pairs ? (size_t)r->pairs[index] : index;
    if (r->pairs && x->ne[1] == r->args->dst.ne[2])     /* one row per token, not per pair */
        row /= (size_t)r->args->dst.ne[1];
    return (const uint8_t *)x->data + row * x->stride[1];
}

/* Its outputs. */
static inline float *cpu_rows_output(const cpu_rows *r, size_t index)
{
    const sl_tensor *y = &r->args->dst;
    const size_t row = r->pairs ? (size_t)r->pairs[index] : index, n = (size_t)y->ne[1];
    return (float *)((char *)y->data + row % n * y->stride[1] + row / n * y->stride[2]);
}

/* Its 16 sums with a panel to the outputs; the last panel may be filled up. */
static inline void cpu_rows_store(const cpu_rows *r, size_t index, size_t panel, const float *sums)
{
    const size_t n = min((size_t)r->args->weight->n_out - CPU_PANEL * panel, CPU_PANEL);
    float *to = cpu_rows_output(r, index) + CPU_PANEL * panel;
    if (r->silu)
        r->silu((int64_t)n, to, sums, to);
    else
        memcpy(to, sums, n * sizeof *sums);
}

/* Both ways take n <= SL_OP_PARTS products with the same rows at once. `gated`: of two matrices of one shape, where the second product has `silu` and needs the outputs of the first. */

/* matmul_few.c: products of at most CPU_MAX_M rows with packed matrices, whatever their types. Scratch: CPU_FEW_SCRATCH bytes for each thread of the device. */
enum { CPU_FEW_SCRATCH = CPU_STREAMS * CPU_MAX_M * CPU_PANEL * sizeof(float) };
sl_status cpu_few_run(cpu_device *device, const cpu_rows *products, size_t n, int gated, uint8_t *scratch);

/* matmul_wide.c: products by kernels for many rows, all alike: they prepare rows in the same way. */
int cpu_wide_alike(const cpu_rows *a, const cpu_rows *b);
/* Bytes of the parts of its scratch; those that all threads share, and those of each thread. */
typedef struct cpu_wide_room { size_t prepared, groups, acc, weights, piece, work; } cpu_wide_room;
/* Enlarges them to what n_row rows or pairs of a product need. */
void cpu_wide_need(cpu_wide_room *room, const cpu_wide *wide, const sl_op_args *args, size_t n_row);
size_t cpu_wide_scratch(const cpu_wide_room *room, const cpu_device *device);
sl_status cpu_wide_run(cpu_device *device, const cpu_rows *products, size_t n, int gated, uint8_t *scratch);

#endif
