/* SPDX-License-Identifier: MIT */
/* matmul_few.c - products of few rows of activations with packed matrices, where reading the matrix is the limit.
 *
 * Every thread has its own contiguous panels of each matrix, the same with every token, and walks them in `streams` streams, each through its own contiguous
 * part. The share is cut into pieces that continue each other in all streams, so that what a kernel asks for ahead is what the next piece reads, and whoever
 * is through first can take pieces of another. Several matrices that meet the same rows are one job: one start, one wait. */
#include "matmul.h"

#include <string.h>

enum {
    PIECES = 32,                /* of a thread's share of a matrix, if it has as many panels */
    PIECE_STEPS = 1 << 21,      /* products of a piece at most, a few panels apart: milliseconds in plain C */
};

typedef struct job {
    const cpu_few *few;
    size_t n_thread, streams;
    size_t pieces[CPU_FEW_PARTS];       /* of a thread's share of each part */
    size_t per_thread;                  /* tasks: pieces of all parts, or of the first if they are walked in pairs */
} job;

/* Panels of a part that are one thread's, and the rounds in which its streams walk them: stream g has panels first + g * rounds and so on. */
typedef struct span { size_t first, n, rounds; } span;

static size_t min(size_t a, size_t b) { return a < b ? a : b; }
static size_t max(size_t a, size_t b) { return a > b ? a : b; }
static size_t quotient_up(size_t a, size_t b) { return (a + b - 1) / b; }
static size_t n_panels(const cpu_matrix *m) { return quotient_up((size_t)m->n_out, CPU_PANEL); }

static span span_of(const job *j, const cpu_part *part, size_t thread)
{
    const size_t n = n_panels(part->matrix), first = n * thread / j->n_thread, end = n * (thread + 1) / j->n_thread;
    return (span) { first, end - first, quotient_up(end - first, j->streams) };
}

static float *output(const cpu_part *part, size_t row, size_t panel) { return (float *)(void *)((char *)part->out + row * part->out_stride) + CPU_PANEL * panel; }

/* Outputs of `n` panels from `panel` on: the last panel may be filled up. */
static size_t outputs(const cpu_part *part, size_t panel, size_t n) { return min((size_t)part->matrix->n_out - CPU_PANEL * panel, CPU_PANEL * n); }

/* Rounds [from, to) of a span. */
static void walk(const job *j, const cpu_part *part, span s, size_t from, size_t to, float (*acc)[CPU_MAX_M][CPU_PANEL])
{
    const cpu_matrix *matrix = part->matrix;
    const size_t m = j->few->n_row;
    const uint8_t *act[CPU_MAX_M];
    for (size_t t = 0; t < m; t++)
        act[t] = (const uint8_t *)part->act->data + t * part->act->stride[1];
    for (size_t i = from; i < to; i++) {
        const size_t n_stream = quotient_up(s.n - i, s.rounds);
        for (size_t g = 0; g < n_stream; g++)
            memset(acc[g], 0, m * sizeof acc[g][0]);
        part->kernel->panel(matrix->n_in, part->base + (s.first + i) * matrix->stride, s.rounds * matrix->stride, (int)n_stream, act, (int)m, acc);
        for (size_t g = 0; g < n_stream; g++)
            for (size_t t = 0; t < m; t++)
                memcpy(output(part, t, s.first + i + g * s.rounds), acc[g][t], outputs(part, s.first + i + g * s.rounds, 1) * sizeof(float));
    }
}

/* first = silu(first) * second, over the same rounds of both. */
static void join_pair(const job *j, span s, size_t from, size_t to)
{
    const cpu_part *gate = &j->few->parts[0], *up = &j->few->parts[1];
    for (size_t g = 0; g < j->streams && g * s.rounds + from < s.n; g++) {
        const size_t panel = s.first + g * s.rounds + from, n = outputs(gate, panel, min(to, s.n - g * s.rounds) - from);
        for (size_t t = 0; t < j->few->n_row; t++)
            j->few->silu_mul((int64_t)n, output(gate, t, panel), output(up, t, panel), output(gate, t, panel));
    }
}

static sl_status run_piece(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const size_t owner = task / j->per_thread;
    size_t piece = task % j->per_thread, p = 0;
    while (piece >= j->pieces[p])
        piece -= j->pieces[p++];
    const span s = span_of(j, &j->few->parts[p], owner);
    const size_t from = s.rounds * piece / j->pieces[p], to = s.rounds * (piece + 1) / j->pieces[p];
    float (*acc)[CPU_MAX_M][CPU_PANEL] = (void *)(j->few->scratch + thread * CPU_FEW_SCRATCH);
    if (from == to)
        return SL_OK;
    walk(j, &j->few->parts[p], s, from, to, acc);
    if (j->few->silu_mul) {
        walk(j, &j->few->parts[1], s, from, to, acc);
        join_pair(j, s, from, to);
    }
    return SL_OK;
}

sl_status cpu_few_run(cpu_device *device, const cpu_few *few)
{
    job j = { .few = few, .n_thread = device->n_threads, .streams = device->streams };
    const size_t n_part = few->silu_mul ? 1 : few->n_part;
    for (size_t p = 0; p < n_part; p++) {
        const cpu_matrix *matrix = few->parts[p].matrix;
        const size_t most = quotient_up(n_panels(matrix), j.n_thread), rounds = quotient_up(most, j.streams);
        const size_t steps = CPU_PANEL * (size_t)matrix->n_in * few->n_row * most;
        j.pieces[p] = min(rounds, max(PIECES, quotient_up(steps, PIECE_STEPS)));
        j.per_thread += j.pieces[p];
    }
    return cpu_parallel(device, j.n_thread * j.per_thread, run_piece, &j);
}
