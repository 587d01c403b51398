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

/* The rows of a product. By expert they are pairs (slot, token), sorted by the matrix that they want. */
typedef struct cpu_rows {
    const sl_op_args *args;
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
    const size_t left = (size_t)r->args->weight->n_out - CPU_PANEL * panel;
    memcpy(cpu_rows_output(r, index) + CPU_PANEL * panel, sums, min(left, CPU_PANEL) * sizeof *sums);
}

/* matmul_few.c: the product of at most CPU_MAX_M rows with a packed matrix. Its scratch: CPU_FEW_SCRATCH bytes for each thread of the device. */
enum { CPU_FEW_SCRATCH = CPU_STREAMS * CPU_MAX_M * CPU_PANEL * sizeof(float) };
sl_status cpu_few_run(const cpu_matmul_kernel *kernel, cpu_device *device, const cpu_rows *rows, uint8_t *scratch);

/* matmul_wide.c: products with a kernel for many rows. Scratch for n_row rows or pairs of a product, and n_mat matrices that may be wanted. */
size_t cpu_wide_scratch(const cpu_wide *wide, const cpu_device *device, const sl_op_args *args, size_t n_row);
sl_status cpu_wide_run(const cpu_wide *wide, cpu_device *device, const cpu_rows *rows, uint8_t *scratch);

#endif
