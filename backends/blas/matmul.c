/* SPDX-License-Identifier: MIT */
/* matmul.c - products of float matrices with many rows of activations, by OpenBLAS.
 *
 * A task is a slice of outputs times a block of rows. Its weights are expanded to f32, some elements of k at a time, into memory of the thread, where they stand as a matrix with its
 * columns one behind the other; OpenBLAS adds its product with the same elements of the rows to the outputs. With few rows, or weights that are used where they lie in the file, the CPU's
 * own kernel computes. */
#include "blas.h"

#include <cblas.h>
#include <string.h>

enum {
    LEAST_ROWS = 32,            /* below, expanding weights costs too much: docs/performance.md */
    SLICE_OUT = 256,            /* outputs of a slice: whole panels */
    SLICE_K = 2 * CPU_WIDE_K,   /* elements of k at a time: SLICE_OUT * SLICE_K floats stay in a second-level cache */
    MOST_ROWS = 512,            /* of a task */
    TASK_MACS = 1 << 28,        /* of a task: some milliseconds, since a task cannot be cancelled */
};

static const struct { sl_type type; const char *label; } labels[] = {
    { SL_TYPE_F32, "matmul/f32/openblas" }, { SL_TYPE_F16, "matmul/f16/openblas" }, { SL_TYPE_BF16, "matmul/bf16/openblas" },
};

const char *blas_label(const sl_impl *cpu)
{
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        if (labels[i].type == (sl_type)cpu->type)
            return labels[i].label;
    return NULL;
}

/* Its kernel for many rows expands weights. */
int blas_takes(const sl_impl *cpu)
{
    const cpu_matmul_kernel *kernel = cpu->kernel;
    return cpu->op == SL_OP_MATMUL && blas_label(cpu) && kernel->form == SL_ACT_F32 && kernel->wide;
}

typedef struct product {
    const cpu_matrix *matrix;
    const cpu_wide *wide;
    const uint8_t *base;        /* of the matrix */
    const float *x;             /* rows of activations, x_stride floats apart */
    float *y;                   /* rows of outputs, y_stride floats apart */
    size_t x_stride, y_stride;
    size_t n_row, block_rows, n_block;
    uint8_t *scratch;           /* per thread: a slice, then a converted panel */
} product;

static size_t min(size_t a, size_t b) { return a < b ? a : b; }
static size_t quotient_up(size_t a, size_t b) { return (a + b - 1) / b; }
static size_t slice_bytes(void) { return (size_t)SLICE_OUT * SLICE_K * sizeof(float); }
static size_t thread_bytes(const cpu_wide *wide) { return slice_bytes() + wide->weight_bytes; }

/* Elements [k, k + n) of the panels of the slice, n <= SLICE_K: element i of output o at slice[SLICE_OUT * i + o]. */
static void expand(const product *p, size_t panel, size_t n_panel, size_t k, size_t n, uint8_t *scratch)
{
    float *slice = (float *)(void *)scratch;
    uint8_t *converted = scratch + slice_bytes();
    for (size_t i = 0; i < n_panel; i++)
        for (size_t at = 0; at < n; at += CPU_WIDE_K) {
            const size_t n_k = min(n - at, CPU_WIDE_K);
            p->wide->convert(p->matrix->n_in, p->base + (panel + i) * p->matrix->stride, k + at, (int)n_k, converted);
            for (size_t e = 0; e < n_k; e++)
                memcpy(slice + (at + e) * SLICE_OUT + i * CPU_PANEL, converted + e * CPU_PANEL * sizeof(float), CPU_PANEL * sizeof(float));
        }
}

static sl_status run_task(void *arg, size_t task, unsigned thread)
{
    const product *p = arg;
    const size_t n_in = (size_t)p->matrix->n_in, out = task / p->n_block * SLICE_OUT, n_out = min((size_t)p->matrix->n_out - out, SLICE_OUT);
    const size_t row = task % p->n_block * p->block_rows, n_row = min(p->n_row - row, p->block_rows);
    uint8_t *scratch = p->scratch + thread * thread_bytes(p->wide);
    for (size_t k = 0; k < n_in; k += SLICE_K) {
        const size_t n = min(n_in - k, SLICE_K);
        expand(p, out / CPU_PANEL, quotient_up(n_out, CPU_PANEL), k, n, scratch);
        blas_turn_take();
        cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)n_out, (int)n_row, (int)n, 1.0f, (const float *)(const void *)scratch, SLICE_OUT,
                    p->x + row * p->x_stride + k, (int)p->x_stride, k ? 1.0f : 0.0f, p->y + row * p->y_stride + out, (int)p->y_stride);
        blas_turn_give();
    }
    return SL_OK;
}

size_t blas_matmul_scratch(const sl_impl *self, void *device, const sl_op_args *args)
{
    const blas_device *dev = device;
    const sl_impl *cpu = ((const blas_row *)(const void *)self)->cpu;
    const size_t theirs = cpu->scratch(cpu, dev->cpu, args), ours = dev->cpu->n_threads * thread_bytes(((const cpu_matmul_kernel *)cpu->kernel)->wide);
    return ours > theirs ? ours : theirs;
}

sl_status blas_matmul_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    const blas_device *dev = device;
    const sl_impl *cpu = ((const blas_row *)(const void *)self)->cpu;
    const cpu_matrix *matrix = args->weight->handle;
    const sl_tensor *x = &args->src[0], *y = &args->dst;
    if (x->ne[1] < LEAST_ROWS || !matrix->packed)
        return blas_tell(dev, cpu->run(cpu, dev->cpu, args));
    product p = { .matrix = matrix, .wide = ((const cpu_matmul_kernel *)cpu->kernel)->wide, .base = dev->cpu->segments[matrix->segment].base, .x = x->data, .y = y->data,
                  .x_stride = x->stride[1] / sizeof(float), .y_stride = y->stride[1] / sizeof(float), .n_row = (size_t)x->ne[1], .scratch = args->scratch };
    const size_t most = min(MOST_ROWS, TASK_MACS / ((size_t)SLICE_OUT * (size_t)matrix->n_in));
    p.n_block = quotient_up(p.n_row, most > LEAST_ROWS ? most : LEAST_ROWS);
    p.block_rows = quotient_up(p.n_row, p.n_block);
    return blas_tell(dev, cpu_parallel(dev->cpu, p.n_block * quotient_up((size_t)matrix->n_out, SLICE_OUT), run_task, &p));
}
