/* SPDX-License-Identifier: MIT */
/* matmul_few.c - products of few rows of activations with packed matrices, where reading the matrix is the limit.
 *
 * Every thread has its own contiguous panels of each matrix, the same with every token, and walks them in `streams` streams, each through its own contiguous
 * part. The share is cut into pieces that continue each other in all streams, so that what a kernel asks for ahead is what the next piece reads, and whoever
 * is through first can take pieces of another.
 *
 * Several products are one job: a thread walks its share of one matrix after the other. Of a gate and what it opens it takes a piece of each in turn, so that the
 * outputs of the former are still in the first cache when they are needed. */
#include "matmul_cut.h"

enum {
    PIECES = 32,                /* of a thread's share of a matrix, if it has as many panels */
    GATED_ROUNDS = 4,           /* of the streams through a matrix before they turn to the other one: each turn begins all streams anew */
    PIECE_STEPS = 1 << 21,      /* products of a piece at most, a few panels apart: milliseconds in plain C */
};

/* One of the products. */
typedef struct part {
    const cpu_rows *rows;
    const cpu_matrix *matrix;
    const uint8_t *base;        /* of the matrix */
    size_t n_panel, pieces;     /* pieces of a thread's share */
} part;

typedef struct job {
    part parts[SL_OP_PARTS];
    size_t n_part, pieces;      /* pieces of a thread's shares, together */
    int gated;
    size_t n_thread, streams;
    uint8_t *scratch;
} job;

/* Panels that are one thread's, and the rounds in which its streams walk them: stream g has panels first + g * rounds and so on. */
typedef struct span { size_t first, n, rounds; } span;

static span span_of(const job *j, const part *p, size_t thread)
{
    const size_t first = quotient_up(p->n_panel * thread, j->n_thread), end = quotient_up(p->n_panel * (thread + 1), j->n_thread);
    return (span) { first, end - first, quotient_up(end - first, j->streams) };
}

static void run_piece(const job *j, const part *p, size_t owner, size_t piece, float (*acc)[CPU_MAX_M][CPU_PANEL])
{
    const span s = span_of(j, p, owner);
    const size_t m = p->rows->n_row, from = s.rounds * piece / p->pieces, to = s.rounds * (piece + 1) / p->pieces;
    const uint8_t *act[CPU_MAX_M];
    for (size_t t = 0; t < m; t++)
        act[t] = cpu_rows_act(p->rows, t);
    for (size_t i = from; i < to; i++) {
        const size_t n_stream = quotient_up(s.n - i, s.rounds);
        for (size_t g = 0; g < n_stream; g++)
            memset(acc[g], 0, m * sizeof acc[g][0]);
        p->rows->kernel->panel(p->matrix->n_in, p->base + (s.first + i) * p->matrix->stride, s.rounds * p->matrix->stride, (int)n_stream, act, (int)m, acc);
        for (size_t g = 0; g < n_stream; g++)
            for (size_t t = 0; t < m; t++)
                cpu_rows_store(p->rows, t, s.first + i + g * s.rounds, acc[g][t]);
    }
}

static sl_status run_task(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const size_t owner = task / j->pieces;
    size_t piece = task % j->pieces, i = 0;
    float (*acc)[CPU_MAX_M][CPU_PANEL] = (void *)(j->scratch + thread * CPU_FEW_SCRATCH);
    if (!j->gated)
        for (; piece >= j->parts[i].pieces; i++)
            piece -= j->parts[i].pieces;
    for (const size_t end = j->gated ? j->n_part : i + 1; i < end; i++)
        run_piece(j, &j->parts[i], owner, piece, acc);
    return SL_OK;
}

static part part_of(const cpu_device *device, const cpu_rows *rows, int gated)
{
    const cpu_matrix *matrix = rows->args->weight->handle;
    const size_t n_panel = quotient_up((size_t)matrix->n_out, CPU_PANEL), most = quotient_up(n_panel, device->n_threads), rounds = quotient_up(most, device->streams);
    const size_t steps = CPU_PANEL * (size_t)matrix->n_in * rows->n_row * most, pieces = gated ? min(PIECES, quotient_up(rounds, GATED_ROUNDS)) : PIECES;
    return (part) { rows, matrix, device->segments[matrix->segment].base, n_panel, min(rounds, max(pieces, quotient_up(steps, PIECE_STEPS))) };
}

sl_status cpu_few_run(cpu_device *device, const cpu_rows *products, size_t n, int gated, uint8_t *scratch)
{
    job j = { .n_part = n, .gated = gated, .n_thread = device->n_threads, .streams = device->streams, .scratch = scratch };
    for (size_t i = 0; i < n; i++) {
        j.parts[i] = part_of(device, &products[i], gated);
        j.pieces = gated ? j.parts[i].pieces : j.pieces + j.parts[i].pieces;
    }
    return cpu_parallel(device, j.n_thread * j.pieces, run_task, &j);
}
