/* SPDX-License-Identifier: MIT */
/* matmul_wide.c - products of many activation rows (prompts): how the work is cut.
 *
 * First all rows are prepared, CPU_WIDE_K elements of a group of rows beside each other, once for all panels. Then a task takes some pairs of panels and a
 * block of rows: for each step of CPU_WIDE_K elements and each pair it converts its part of the panels, which then lies in the first-level cache while all
 * prepared rows of the step pass by; the step of the block and its sums wait in the second-level cache. Meanwhile the weights that come next are fetched
 * from memory, a slice after every few groups. A chain over k is one chain, whatever is done in between.
 *
 * So many rows that their prepared form would need much memory go in several rounds. */
#include "matmul_cut.h"

enum {
    BLOCK_BYTES = 480 << 10,    /* of a task's rows, their prepared step and sums: less than half of a second-level cache of 1 MiB */
    MOST_PAIRS = 4,             /* pairs of panels of a task: with one, every step of the rows would come from beyond that cache for each pair */
    TASKS_PER_THREAD = 4,
    SLICES = 8,                 /* in so many slices the next weights are fetched */
    ROUND_BYTES = 32 << 20,     /* of prepared rows */
    STREAM_BYTES = 1 << 20,     /* so many bytes of outputs are stored past the caches */
};

typedef struct wide_product {
    const cpu_wide *wide;
    const cpu_rows *rows;
    const cpu_matrix *matrix;
    const uint8_t *base;        /* of the matrix */
    size_t n_panel;             /* of one matrix */
    size_t first_row;           /* of the round */
    size_t n_step, n_group;     /* prepared activations: [n_step][n_group][act_bytes] */
    size_t n_block;             /* blocks of rows of a matrix; tasks are numbered: block fastest, then share of the panels, then wanted matrix */
    size_t block_groups;        /* groups of a block */
    size_t n_share, per_share;  /* shares of the panels, pairs of panels of a share */
    int32_t *group;             /* by expert: number of the first group of a matrix, and one past its last; n_mat + 1 numbers */
    uint8_t *prepared, *scratch;
    size_t thread_bytes, acc_bytes;
    int stream;                 /* outputs do not fit a cache that is near */
} wide_product;

/* ---- memory ---- */

static size_t count_steps(const sl_op_args *args) { return quotient_up((size_t)args->weight->n_in, CPU_WIDE_K); }

/* Bytes of the sums of a group and one pair of panels. */
static size_t count_sums(const cpu_wide *wide) { return wide->rows * CPU_WIDE_OUT * sizeof(float); }
static size_t most_groups_of_block(const cpu_wide *wide) { return BLOCK_BYTES / (wide->act_bytes + MOST_PAIRS * count_sums(wide)); }
/* Whole blocks. */
static size_t most_groups_of_round(const cpu_wide *wide, const sl_op_args *args)
{
    const size_t block = most_groups_of_block(wide);
    return max(1, ROUND_BYTES / (block * count_steps(args) * wide->act_bytes)) * block;
}

/* Groups of n_row rows: every matrix that is wanted may leave one that is not full. By expert there is one round. */
static size_t count_groups(const cpu_wide *wide, const sl_op_args *args, size_t n_row)
{
    if (args->op == SL_OP_MATMUL_EXPERT)
        return n_row / wide->rows + min(n_row, (size_t)args->weight->n_mat);
    return min(quotient_up(n_row, wide->rows), most_groups_of_round(wide, args));
}

/* Per thread: sums of a block, two converted panels, the step of a panel that had to be packed, what the kernel scribbles on. */
static size_t count_acc(const cpu_wide *wide, size_t n_row) { return min(most_groups_of_block(wide), quotient_up(n_row, wide->rows)) * MOST_PAIRS * count_sums(wide); }

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
    size_t first = p->first_row, end = p->rows->n_row, in_matrix = group;
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

/* What a task works on. */
typedef struct share {
    const wide_product *p;
    size_t matrix;
    size_t group, n_group, pair, n_pair;
    float *acc;                     /* [n_pair][n_group][rows][CPU_WIDE_OUT] */
    uint8_t *weights, *piece, *work;
} share;

/* Elements [k, k + CPU_WIDE_K) of a panel, converted. */
static void convert(const share *s, size_t panel, size_t k, uint8_t *to)
{
    const wide_product *p = s->p;
    const cpu_matrix *m = p->matrix;
    const sl_type_info *info = sl_type_get(m->type);
    const size_t n = min((size_t)m->n_in - k, CPU_WIDE_K), block = k / info->block_values;
    const int n_block = (int)(n / info->block_values);
    if (m->packed) {
        p->wide->convert(m->n_in, p->base + (s->matrix * p->n_panel + panel) * m->stride, block, n_block, to);
        return;
    }
    const uint8_t *rows = p->base + (s->matrix * (size_t)m->n_out + CPU_PANEL * panel) * m->stride + block * info->block_bytes;
    cpu_panel_pack(m->type, (int64_t)n, rows, m->stride, (int)min((size_t)m->n_out - CPU_PANEL * panel, CPU_PANEL), s->piece);
    p->wide->convert((int64_t)n, s->piece, 0, n_block, to);
}

/* Fetches slice `slice` of the part of the panels that comes after this step of this pair. About: a step is CPU_WIDE_K / n_in of a panel.
 * Always inlined: gcc takes a function that does nothing but this for one without effect and drops its calls. */
static inline __attribute__((always_inline)) void fetch(const share *s, size_t step, size_t pair, size_t slice)
{
    const wide_product *p = s->p;
    const size_t bytes = p->matrix->stride * CPU_WIDE_K / (size_t)p->matrix->n_in, part = bytes / SLICES;
    if (++pair == s->n_pair) {
        pair = 0;
        step++;
    }
    if (!p->matrix->packed || step >= p->n_step)
        return;
    for (size_t i = 0; i < CPU_WIDE_PANELS; i++) {
        const size_t panel = min((s->pair + pair) * CPU_WIDE_PANELS + i, p->n_panel - 1);
        const uint8_t *from = p->base + (s->matrix * p->n_panel + panel) * p->matrix->stride + step * bytes + slice * part;
        for (size_t line = 0; line < part + CPU_LINE; line += CPU_LINE)
            __builtin_prefetch(from + line, 0, 3);
    }
}

static void multiply_step(const share *s, size_t step, size_t pair)
{
    const wide_product *p = s->p;
    const cpu_wide *wide = p->wide;
    const size_t k = step * CPU_WIDE_K, panel = (s->pair + pair) * CPU_WIDE_PANELS, slice = quotient_up(s->n_group, SLICES);
    const int n_block = (int)quotient_up(min((size_t)p->matrix->n_in - k, CPU_WIDE_K), sl_act_get(p->rows->args->form)->block_values);
    const uint8_t *act = p->prepared + (step * p->n_group + s->group) * wide->act_bytes;
    float *acc = s->acc + pair * s->n_group * wide->rows * CPU_WIDE_OUT;
    convert(s, panel, k, s->weights);
    convert(s, min(panel + 1, p->n_panel - 1), k, s->weights + wide->weight_bytes);
    for (size_t g = 0; g < s->n_group; g += slice) {
        wide->multiply(n_block, s->weights, act + g * wide->act_bytes, min(s->n_group - g, slice), acc + g * wide->rows * CPU_WIDE_OUT, s->work);
        fetch(s, step, pair, g / slice);
    }
}

static void store_sums(const share *s)
{
    const wide_product *p = s->p;
    const size_t n_rows = s->n_group * p->wide->rows, first = s->pair * CPU_WIDE_OUT;
    for (size_t g = 0; g < s->n_group; g++) {
        size_t row;
        const size_t n = rows_of_group(p, s->group + g, &row);
        for (size_t t = 0; t < n; t++) {
            const float *sums = s->acc + (g * p->wide->rows + t) * CPU_WIDE_OUT;
            float *to = cpu_rows_output(p->rows, row + t) + first;
            for (size_t pair = 0; pair < s->n_pair; pair++)
                p->wide->store(sums + pair * n_rows * CPU_WIDE_OUT, min((size_t)p->matrix->n_out - first - pair * CPU_WIDE_OUT, CPU_WIDE_OUT), to + pair * CPU_WIDE_OUT, p->stream);
        }
    }
}

static sl_status run_task(void *arg, size_t task, unsigned thread)
{
    const wide_product *p = arg;
    const cpu_wide *wide = p->wide;
    const size_t block = task % p->n_block, want = task / p->n_block / p->n_share;
    share s = { .p = p, .matrix = p->rows->pairs ? (size_t)p->rows->wanted[want] : 0, .pair = task / p->n_block % p->n_share * p->per_share };
    const size_t group0 = p->rows->pairs ? (size_t)p->group[s.matrix] : 0, group_end = p->rows->pairs ? (size_t)p->group[s.matrix + 1] : p->n_group;
    s.group = group0 + block * p->block_groups;
    if (s.group >= group_end)
        return SL_OK;       /* this matrix has fewer rows than another */
    s.n_group = min(group_end - s.group, p->block_groups);
    s.n_pair = min(quotient_up(p->n_panel, CPU_WIDE_PANELS) - s.pair, p->per_share);
    uint8_t *scratch = p->scratch + thread * p->thread_bytes;
    s.acc = (float *)(void *)scratch;
    s.weights = scratch + p->acc_bytes;
    s.piece = s.weights + CPU_WIDE_PANELS * wide->weight_bytes;
    s.work = s.piece + sl_round_up(cpu_panel_bytes(p->matrix->type, CPU_WIDE_K), CPU_LINE);
    memset(s.acc, 0, s.n_pair * s.n_group * count_sums(wide));
    if (wide->begin)
        wide->begin();
    for (size_t step = 0; step < p->n_step; step++)
        for (size_t pair = 0; pair < s.n_pair; pair++)
            multiply_step(&s, step, pair);
    store_sums(&s);
    wide->end();
    return SL_OK;
}

/* Prepares and multiplies the groups of a round, of which a matrix has at most `most`. */
static sl_status run_round(wide_product *p, cpu_device *device, size_t most)
{
    const size_t n_pair = quotient_up(p->n_panel, CPU_WIDE_PANELS), n_mat = p->rows->pairs ? p->rows->n_wanted : 1;
    p->n_block = quotient_up(most, most_groups_of_block(p->wide));
    p->block_groups = quotient_up(most, p->n_block);
    p->per_share = max(1, min(MOST_PAIRS, n_mat * p->n_block * n_pair / (TASKS_PER_THREAD * (size_t)device->n_threads)));
    p->n_share = quotient_up(n_pair, p->per_share);
    SL_TRY(cpu_parallel(device, p->n_group, prepare_group, p));
    return cpu_parallel(device, n_mat * p->n_share * p->n_block, run_task, p);
}

sl_status cpu_wide_run(const cpu_wide *wide, cpu_device *device, const cpu_rows *rows, uint8_t *scratch)
{
    const sl_op_args *args = rows->args;
    const cpu_matrix *matrix = args->weight->handle;
    const size_t n_mat = (size_t)args->weight->n_mat, n_group = quotient_up(rows->n_row, wide->rows), round = most_groups_of_round(wide, args);
    wide_product p = { .wide = wide, .rows = rows, .matrix = matrix, .base = device->segments[matrix->segment].base, .n_step = count_steps(args),
                       .n_panel = quotient_up((size_t)matrix->n_out, CPU_PANEL), .acc_bytes = count_acc(wide, rows->n_row),
                       .thread_bytes = count_thread(wide, args, rows->n_row), .prepared = scratch };
    p.stream = rows->n_row * (size_t)matrix->n_out * sizeof(float) >= STREAM_BYTES;
    p.scratch = scratch + count_groups(wide, args, rows->n_row) * p.n_step * wide->act_bytes;
    p.group = (int32_t *)(void *)(p.scratch + device->n_threads * p.thread_bytes);
    if (rows->pairs) {
        p.group[0] = 0;
        for (size_t e = 0; e < n_mat; e++)
            p.group[e + 1] = p.group[e] + (int32_t)quotient_up((size_t)(rows->first[e + 1] - rows->first[e]), wide->rows);
        p.n_group = (size_t)p.group[n_mat];
        return run_round(&p, device, quotient_up(rows->most, wide->rows));
    }
    for (size_t first = 0; first < n_group; first += round) {
        p.first_row = first * wide->rows;
        p.n_group = min(n_group - first, round);
        SL_TRY(run_round(&p, device, p.n_group));
    }
    return SL_OK;
}
