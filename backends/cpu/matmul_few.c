/* SPDX-License-Identifier: MIT */
/* matmul_few.c - products of few rows of activations with packed matrices, where reading the matrix is the limit.
 *
 * Every thread has its own contiguous panels of each matrix, the same with every token, and walks them in `streams` streams, each through its own contiguous
 * part. The share is cut into pieces that continue each other in all streams, so that what a kernel asks for ahead is what the next piece reads, and whoever
 * is through first can take pieces of another. */
#include "matmul_cut.h"

enum {
    PIECES = 32,                /* of a thread's share of a matrix, if it has as many panels */
    PIECE_STEPS = 1 << 21,      /* products of a piece at most, a few panels apart: milliseconds in plain C */
};

typedef struct job {
    const cpu_rows *rows;
    const cpu_matrix *matrix;
    cpu_panel_fn *panel;
    const uint8_t *base;        /* of the matrix */
    size_t n_panel, n_thread, streams;
    size_t pieces;              /* of a thread's share */
    uint8_t *scratch;
} job;

/* Panels that are one thread's, and the rounds in which its streams walk them: stream g has panels first + g * rounds and so on. */
typedef struct span { size_t first, n, rounds; } span;

static span span_of(const job *j, size_t thread)
{
    const size_t first = quotient_up(j->n_panel * thread, j->n_thread), end = quotient_up(j->n_panel * (thread + 1), j->n_thread);
    return (span) { first, end - first, quotient_up(end - first, j->streams) };
}

static sl_status run_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const span s = span_of(j, task / j->pieces);
    const size_t m = j->rows->n_row, piece = task % j->pieces, from = s.rounds * piece / j->pieces, to = s.rounds * (piece + 1) / j->pieces;
    float (*acc)[CPU_MAX_M][CPU_PANEL] = (void *)(j->scratch + thread * CPU_FEW_SCRATCH);
    const uint8_t *act[CPU_MAX_M];
    for (size_t t = 0; t < m; t++)
        act[t] = cpu_rows_act(j->rows, t);
    for (size_t i = from; i < to; i++) {
        const size_t n_stream = quotient_up(s.n - i, s.rounds);
        for (size_t g = 0; g < n_stream; g++)
            memset(acc[g], 0, m * sizeof acc[g][0]);
        j->panel(j->matrix->n_in, j->base + (s.first + i) * j->matrix->stride, s.rounds * j->matrix->stride, (int)n_stream, act, (int)m, acc);
        for (size_t g = 0; g < n_stream; g++)
            for (size_t t = 0; t < m; t++)
                cpu_rows_store(j->rows, t, s.first + i + g * s.rounds, acc[g][t]);
    }
    return SL_OK;
}

sl_status cpu_few_run(const cpu_matmul_kernel *kernel, cpu_device *device, const cpu_rows *rows, uint8_t *scratch)
{
    const cpu_matrix *matrix = rows->args->weight->handle;
    job j = { .rows = rows, .matrix = matrix, .panel = kernel->panel, .base = device->segments[matrix->segment].base, .n_panel = quotient_up((size_t)matrix->n_out, CPU_PANEL),
              .n_thread = device->n_threads, .streams = device->streams, .scratch = scratch };
    const size_t most = quotient_up(j.n_panel, j.n_thread), steps = CPU_PANEL * (size_t)matrix->n_in * rows->n_row * most;
    j.pieces = min(quotient_up(most, j.streams), max(PIECES, quotient_up(steps, PIECE_STEPS)));
    return cpu_parallel(device, j.n_thread * j.pieces, run_piece, &j);
}
