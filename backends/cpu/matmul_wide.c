/* SPDX-License-Identifier: MIT */
/* matmul_wide.c - products of many activation rows (prompts): how the work is cut.
 *
 * First all rows are prepared, CPU_WIDE_K elements of a group of rows beside each other, once for all panels. Then a task takes two panels and a block of
 * rows: for each step of CPU_WIDE_K elements it converts its part of the panels, which then lies in the first-level cache while all prepared rows of the
 * step pass by; the sums of the block wait in the second-level cache. A chain over k is one chain, whatever is done in between. */
#include "matmul.h"

#include <string.h>

enum {
    BLOCK_ROWS = 576,           /* activation rows of a task: their prepared step and sums fill less than half of a second-level cache of 1 MiB */
    STREAM_BYTES = 1 << 20,     /* so many bytes of outputs are stored past the caches */
};

typedef struct wide_product {
    const cpu_wide *wide;
    const cpu_rows *rows;
    const cpu_matrix *matrix;
    const uint8_t *base;        /* of the matrix */
    size_t n_panel;             /* of one matrix */
    size_t n_step, n_group;     /* prepared activations: [n_step][n_group][act_bytes] */
    size_t n_block;             /* blocks of rows of a matrix; tasks are numbered: block fastest, then two panels, then wanted matrix */
    size_t block_groups;        /* groups of a block */
    int32_t *group;             /* by expert: number of the first group of a matrix, and one past its last; n_mat + 1 numbers */
    uint8_t *prepared, *scratch;
    size_t thread_bytes, acc_bytes;
    int stream;                 /* outputs do not fit a cache that is near */
} wide_product;

static size_t min(size_t a, size_t b) { return a < b ? a : b; }
static size_t quotient_up(size_t a, size_t b) { return (a + b - 1) / b; }

/* ---- memory ---- */

static size_t count_steps(const sl_op_args *args) { return quotient_up((size_t)args->weight->n_in, CPU_WIDE_K); }

/* Groups of n_row rows: every matrix that is wanted may leave one that is not full. */
static size_t count_groups(const cpu_wide *wide, const sl_op_args *args, size_t n_row)
{
    return n_row / wide->rows + (args->op == SL_OP_MATMUL_EXPERT ? min(n_row, (size_t)args->weight->n_mat) : 1);
}

/* Per thread: sums of a block, two converted panels, the step of a panel that had to be packed, what the kernel scribbles on. */
static size_t count_acc(const cpu_wide *wide, size_t n_row) { return min(BLOCK_ROWS, quotient_up(n_row, wide->rows) * wide->rows) * CPU_WIDE_OUT * sizeof(float); }

static size_t count_thread(const cpu_wide *wide, const sl_op_args *args, size_t n_row)
{
    return count_acc(wide, n_row) + CPU_WIDE_PANELS * wide->weight_bytes + sl_round_up(cpu_panel_bytes(args->weight->type, CPU_WIDE_K), CPU_LINE) + wide->work_bytes;
}

size_t cpu_wide_scratch(const cpu_wide *wide, const cpu_device *device, const sl_op_args *args, size_t n_row)
{
    const size_t group_numbers = sl_round_up(((size_t)args->weight->n_mat + 1) * sizeof(int32_t), CPU_LINE);
    return count_groups(wide, args, n_row) * count_steps(args) * wide->act_bytes + device->n_threads * count_thread(wide, args, n_row) + group_numbers;
}

/* ---- activations ---- */

/* Rows of group `group`: their indices [*row, *row + n). Groups of a wanted matrix follow each other. */
static size_t rows_of_group(const wide_product *p, size_t group, size_t *row)
{
    size_t first = 0, end = p->rows->n_row, in_matrix = group;
    if (p->rows->pairs) {
        size_t low = 0, high = p->rows->n_wanted;       /* the last wanted matrix whose groups begin at or before this one */
        while (high - low > 1) {
            const size_t middle = (low + high) / 2;
            if ((size_t)p->group[p->rows->wanted[middle]] <= group)
                low = middle;
            else
                high = middle;
        }
        const size_t matrix = (size_t)p->rows->wanted[low];
        first = (size_t)p->rows->first[matrix];
        end = (size_t)p->rows->first[matrix + 1];
        in_matrix -= (size_t)p->group[matrix];
    }
    *row = first + in_matrix * p->wide->rows;
    return min(end - *row, p->wide->rows);
}

static sl_status prepare_group(void *arg, size_t group, unsigned thread)
{
    enum { MOST_ROWS = 64 };
    const wide_product *p = arg;
    const sl_act_info *form = sl_act_get(p->rows->args->form);
    const uint8_t *act[MOST_ROWS];
    size_t row;
    const size_t n = rows_of_group(p, group, &row), n_in = (size_t)p->matrix->n_in;
    (void)thread;
    for (size_t step = 0; step < p->n_step; step++) {
        const size_t k = step * CPU_WIDE_K;
        for (size_t t = 0; t < n; t++)
            act[t] = cpu_rows_act(p->rows, row + t) + sl_act_row_bytes(form, k);
        p->wide->prepare((int)quotient_up(min(n_in - k, CPU_WIDE_K), form->block_values), act, n, p->prepared + (step * p->n_group + group) * p->wide->act_bytes);
    }
    return SL_OK;
}

/* ---- products ---- */

/* Elements [k, k + CPU_WIDE_K) of a panel, converted. */
static void convert(const wide_product *p, size_t matrix, size_t panel, size_t k, uint8_t *piece, uint8_t *to)
{
    const cpu_matrix *m = p->matrix;
    const sl_type_info *info = sl_type_get(m->type);
    const size_t n = min((size_t)m->n_in - k, CPU_WIDE_K), block = k / info->block_values;
    const int n_block = (int)(n / info->block_values);
    if (m->packed) {
        p->wide->convert(m->n_in, p->base + (matrix * p->n_panel + panel) * m->stride, block, n_block, to);
        return;
    }
    const uint8_t *rows = p->base + (matrix * (size_t)m->n_out + CPU_PANEL * panel) * m->stride + block * info->block_bytes;
    cpu_panel_pack(m->type, (int64_t)n, rows, m->stride, (int)min((size_t)m->n_out - CPU_PANEL * panel, CPU_PANEL), piece);
    p->wide->convert((int64_t)n, piece, 0, n_block, to);
}

static sl_status run_task(void *arg, size_t task, unsigned thread)
{
    const wide_product *p = arg;
    const cpu_wide *wide = p->wide;
    const size_t n_twos = quotient_up(p->n_panel, CPU_WIDE_PANELS), block = task % p->n_block, panel = task / p->n_block % n_twos * CPU_WIDE_PANELS;
    const size_t want = task / p->n_block / n_twos, matrix = p->rows->pairs ? (size_t)p->rows->wanted[want] : 0;
    const size_t group0 = p->rows->pairs ? (size_t)p->group[matrix] : 0, group_end = p->rows->pairs ? (size_t)p->group[matrix + 1] : p->n_group;
    const size_t group = group0 + block * p->block_groups;
    if (group >= group_end)
        return SL_OK;       /* this matrix has fewer rows than another */
    const size_t n_group = min(group_end - group, p->block_groups), last = min(panel + 1, p->n_panel - 1);
    uint8_t *scratch = p->scratch + thread * p->thread_bytes, *weights = scratch + p->acc_bytes, *piece = weights + CPU_WIDE_PANELS * wide->weight_bytes;
    uint8_t *work = piece + sl_round_up(cpu_panel_bytes(p->matrix->type, CPU_WIDE_K), CPU_LINE);
    float *acc = (float *)(void *)scratch;
    memset(acc, 0, n_group * wide->rows * CPU_WIDE_OUT * sizeof *acc);
    if (wide->begin)
        wide->begin();
    for (size_t step = 0; step < p->n_step; step++) {
        const size_t k = step * CPU_WIDE_K;
        convert(p, matrix, panel, k, piece, weights);
        convert(p, matrix, last, k, piece, weights + wide->weight_bytes);
        wide->multiply((int)quotient_up(min((size_t)p->matrix->n_in - k, CPU_WIDE_K), sl_act_get(p->rows->args->form)->block_values), weights,
                       p->prepared + (step * p->n_group + group) * wide->act_bytes, n_group, acc, work);
    }
    const size_t outputs = min((size_t)p->matrix->n_out - CPU_PANEL * panel, CPU_WIDE_OUT);
    for (size_t g = 0; g < n_group; g++) {
        size_t row;
        const size_t n = rows_of_group(p, group + g, &row);
        for (size_t t = 0; t < n; t++)
            wide->store(acc + (g * wide->rows + t) * CPU_WIDE_OUT, outputs, cpu_rows_output(p->rows, row + t) + CPU_PANEL * panel, p->stream);
    }
    wide->end();
    return SL_OK;
}

sl_status cpu_wide_run(const cpu_wide *wide, cpu_device *device, const cpu_rows *rows, uint8_t *scratch)
{
    const sl_op_args *args = rows->args;
    const cpu_matrix *matrix = args->weight->handle;
    const size_t n_mat = (size_t)args->weight->n_mat;
    wide_product p = { .wide = wide, .rows = rows, .matrix = matrix, .base = device->segments[matrix->segment].base, .n_step = count_steps(args),
                       .n_panel = quotient_up((size_t)matrix->n_out, CPU_PANEL), .acc_bytes = count_acc(wide, rows->n_row),
                       .thread_bytes = count_thread(wide, args, rows->n_row), .prepared = scratch };
    p.stream = rows->n_row * (size_t)matrix->n_out * sizeof(float) >= STREAM_BYTES;
    p.n_group = quotient_up(rows->n_row, wide->rows);
    p.scratch = scratch + count_groups(wide, args, rows->n_row) * p.n_step * wide->act_bytes;
    p.group = (int32_t *)(void *)(p.scratch + device->n_threads * p.thread_bytes);
    if (rows->pairs) {
        p.group[0] = 0;
        for (size_t e = 0; e < n_mat; e++)
            p.group[e + 1] = p.group[e] + (int32_t)quotient_up((size_t)(rows->first[e + 1] - rows->first[e]), wide->rows);
        p.n_group = (size_t)p.group[n_mat];
    }
    const size_t groups = quotient_up(rows->pairs ? rows->most : rows->n_row, wide->rows);
    p.n_block = quotient_up(groups, BLOCK_ROWS / wide->rows);
    p.block_groups = quotient_up(groups, p.n_block);
    SL_TRY(cpu_parallel(device, p.n_group, prepare_group, &p));
    return cpu_parallel(device, (rows->pairs ? rows->n_wanted : 1) * quotient_up(p.n_panel, CPU_WIDE_PANELS) * p.n_block, run_task, &p);
}
