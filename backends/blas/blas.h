/* SPDX-License-Identifier: MIT */
/* blas.h - the backend "blas": the CPU backend, except that products of float matrices with many rows of activations are OpenBLAS's.
 *
 * It lives in a module of its own, libspacellama-blas.so, in which the whole CPU backend stands once more: the library proper needs no OpenBLAS. Weights are packed, and cached, as
 * by "cpu". Threads are the pool's: each expands weights and has OpenBLAS multiply slices of its own, one at a time (turn.c), so an
 * OpenBLAS that starts threads is refused.
 *
 * What the module fails with is said by the module's own sl_fail; every entry hands the sentence to the host. */
#ifndef SL_BLAS_H
#define SL_BLAS_H

#include "cpu/cpu.h"

/* A row of the device's list: what runs, and the row of the CPU backend that it stands for or falls back to. */
typedef struct blas_row {
    sl_impl impl;               /* first: the core hands it back */
    const sl_impl *cpu;
} blas_row;

typedef struct blas_device {
    cpu_device *cpu;
    sl_mem mem;
    sl_status (*fail)(sl_status status, const char *format, ...) SL_PRINTF(2, 3);
    const char *(*last_error)(void);
    blas_row *rows;
    size_t n_rows;
} blas_device;

/* The host's sentence becomes the module's; returns `status`. */
static inline sl_status blas_tell(const blas_device *device, sl_status status)
{
    return status == SL_OK ? SL_OK : device->fail(status, "%s", sl_last_error());
}

/* ---- matmul.c ---- */

/* 1 if products by this row of the CPU backend may go to OpenBLAS, if they are of many rows. */
int blas_takes(const sl_impl *cpu);
/* Its label then: "matmul/f16/openblas". */
const char *blas_label(const sl_impl *cpu);
size_t blas_matmul_scratch(const sl_impl *self, void *device, const sl_op_args *args);
sl_status blas_matmul_run(const sl_impl *self, void *device, const sl_op_args *args);

/* ---- turn.c ---- */

/* Around every call of OpenBLAS that computes. */
void blas_turn_take(void);
void blas_turn_give(void);

#endif
