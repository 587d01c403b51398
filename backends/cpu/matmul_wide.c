/* SPDX-License-Identifier: MIT */
/* matmul_wide.c - products of many activation rows (prompts): how the work is cut.
 *
 * First all rows are prepared, CPU_WIDE_K elements of a group of rows beside each other, once for all panels. Then a task takes some pairs of panels and a
 * block of rows: for each step of CPU_WIDE_K elements and each pair it converts its part of the panels, which then lies in the first-level cache while all
 * prepared rows of the step pass by; the step of the block and its sums wait in the second-level cache. Meanwhile the weights that come next are fetched
 * from memory, a slice after every few groups. A chain over k is one chain, whatever is done in between.
 *
 * So many rows that their prepared form would need much memory go in several rounds.
 *
 * Several products are one job, and rows are prepared once for all of them. Of a gate and what it opens a task takes the same outputs, so that both sums of an
 * output are there when it is stored, and nothing else is. */
#include "matmul_cut.h"

enum {
    BLOCK_BYTES = 480 << 10,    /* of a task's rows, their prepared step and sums: less than half of a second-level cache of 1 MiB */
    MOST_PAIRS = 4,             /* pairs of panels of a task: with one, every step of the rows would come from beyond that cache for each pair */
    TASKS_PER_THREAD = 4,
    SLICES = 8,                 /* in so many slices the next weights are fetched */
    ROUND_BYTES = 32 << 20,     /* of prepared rows */
    STREAM_BYTES = 1 << 20,     /* so many bytes of outputs are stored past the caches */
};

/* One of the products. */
typedef struct wide_part {
    const cpu_rows *rows;
    const cpu_wide *wide;
    const cpu_matrix *matrix;
    const uint8_t *base;        /* of the matrix */
    size_t n_panel;             /* of one matrix */
    size_t n_share;             /* shares of the panels */
    int stream;                 /* outputs do not fit a cache that is near */
} wide_part;

typedef struct wide_job {
    wide_part parts[SL_OP_PARTS];
    size_t n_part, at_once;     /* parts of a task: all of gated products, else one */
    const cpu_rows *rows;       /* what follows is the same of all parts: their rows */
    const cpu_wide *wide;       /* and how they are prepared */
    size_t first_row;           /* of the round */
    size_t n_step, n_group;     /* prepared activations: [n_step][n_group][act_bytes] */
    size_t n_block;             /* blocks of rows of a matrix; tasks are numbered: block fastest, then share of the panels, part by part, then wanted matrix */
    size_t block_groups;        /* groups of a block */
    size_t n_share, per_share;  /* shares of the panels of all parts that are apart, pairs of panels of a share */
    int32_t *group;             /* by expert: number of the first group of a matrix, and one past its last; n_mat + 1 numbers */
    uint8_t *prepared, *scratch;
    cpu_wide_room room;
} wide_job;

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

void cpu_wide_need(cpu_wide_room *room, const cpu_wide *wide, const sl_op_args *args, size_t n_row)
{
    room->prepared = max(room->prepared, count_groups(wide, args, n_row) * count_steps(args) * wide->act_bytes);
    room->groups = max(room->groups, sl_round_up(((size_t)args->weight->n_mat + 1) * sizeof(int32_t), CPU_LINE));
    room->acc = max(room->acc, min(most_groups_of_block(wide), quotient_up(n_row, wide->rows)) * MOST_PAIRS * count_sums(wide));
    room->weights = max(room->weights, CPU_WIDE_PANELS * wide->weight_bytes);
    room->piece = max(room->piece, sl_round_up(cpu_panel_bytes(args->weight->type, CPU_WIDE_K), CPU_LINE));    /* of a panel that has to be packed */
    room->work = max(room->work, wide->work_bytes);
}

static size_t bytes_of_thread(const cpu_wide_room *room) { return room->acc + room->weights + room->piece + room->work; }

size_t cpu_wide_scratch(const cpu_wide_room *room, const cpu_device *device) { return room->prepared + room->groups + device->n_threads * bytes_of_thread(room); }

int cpu_wide_alike(const cpu_rows *a, const cpu_rows *b)
{
    const cpu_wide *p = a->kernel->wide, *q = b->kernel->wide;
    return a->args->form == b->args->form && p->prepare == q->prepare && p->rows == q->rows && p->act_bytes == q->act_bytes && p->begin == q->begin && p->end == q->end;
}

/* ---- activations ---- */

/* Rows of group `group`: their indices [*row, *row + n). Groups of a wanted matrix follow each other. */
static size_t rows_of_group(const wide_job *p, size_t group, size_t *row)
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
    const wide_job *p = arg;
    const sl_act_info *form = sl_act_get(p->rows->args->form);
    const uint8_t *act[MOST_ROWS];
    size_t row;
    const size_t n = rows_of_group(p, group, &row), n_in = (size_t)p->rows->args->weight->n_in;
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
    const wide_job *job;
    const wide_part *part;          /* the first of them */
    size_t matrix;
    size_t group, n_group;
    size_t pair, n_pair;            /* of each part; those of the first come first, and so in acc */
    float *acc;                     /* [all pairs][n_group][rows][CPU_WIDE_OUT] */
    uint8_t *weights, *piece, *work;
} share;

/* The number-th pair of panels of a share: of this part, from this panel on. */
static const wide_part *pair_of(const share *s, size_t number, size_t *panel)
{
    *panel = (s->pair + number % s->n_pair) * CPU_WIDE_PANELS;
    return s->part + number / s->n_pair;
}

static size_t count_pairs(const share *s) { return s->n_pair * s->job->at_once; }
static float *acc_of(const share *s, size_t number) { return s->acc + number * s->n_group * s->job->wide->rows * CPU_WIDE_OUT; }

/* Elements [k, k + CPU_WIDE_K) of a panel, converted. */
static void convert(const share *s, const wide_part *p, size_t panel, size_t k, uint8_t *to)
{
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
static inline __attribute__((always_inline)) void fetch(const share *s, size_t step, size_t number, size_t slice)
{
    if (++number == count_pairs(s)) {
        number = 0;
        step++;
    }
    size_t panel;
    const wide_part *p = pair_of(s, number, &panel);
    const cpu_matrix *m = p->matrix;
    const size_t bytes = m->stride * CPU_WIDE_K / (size_t)m->n_in, part = bytes / SLICES;
    if (!m->packed || step >= s->job->n_step)
        return;
    for (size_t i = 0; i < CPU_WIDE_PANELS; i++) {
        const uint8_t *from = p->base + (s->matrix * p->n_panel + min(panel + i, p->n_panel - 1)) * m->stride + step * bytes + slice * part;
        for (size_t line = 0; line < part + CPU_LINE; line += CPU_LINE)
            __builtin_prefetch(from + line, 0, 3);
    }
}

static void multiply_step(const share *s, size_t step, size_t number)
{
    const wide_job *j = s->job;
    size_t panel;
    const wide_part *p = pair_of(s, number, &panel);
    const cpu_wide *wide = p->wide;
    const size_t k = step * CPU_WIDE_K, slice = quotient_up(s->n_group, SLICES);
    const int n_block = (int)quotient_up(min((size_t)p->matrix->n_in - k, CPU_WIDE_K), sl_act_get(p->rows->args->form)->block_values);
    const uint8_t *act = j->prepared + (step * j->n_group + s->group) * wide->act_bytes;
    float *acc = acc_of(s, number);
    convert(s, p, panel, k, s->weights);
    convert(s, p, min(panel + 1, p->n_panel - 1), k, s->weights + wide->weight_bytes);
    for (size_t g = 0; g < s->n_group; g += slice) {
        wide->multiply(n_block, s->weights, act + g * wide->act_bytes, min(s->n_group - g, slice), acc + g * wide->rows * CPU_WIDE_OUT, s->work);
        fetch(s, step, number, g / slice);
    }
}

/* The sums of a row with a pair of panels to its outputs from `first` on. */
static void store_row(const share *s, size_t pair, size_t at, float *to, size_t first)
{
    const wide_part *p = s->part + s->job->at_once - 1;
    const size_t n = min((size_t)p->matrix->n_out - first, CPU_WIDE_OUT);
    float *sums = acc_of(s, (s->job->at_once - 1) * s->n_pair + pair) + at;
    if (p->rows->silu)
        p->rows->silu((int64_t)n, s->job->at_once > 1 ? acc_of(s, pair) + at : to + first, sums, sums);
    p->wide->store(sums, n, to + first, p->stream);
}

static void store_sums(const share *s)
{
    const wide_job *j = s->job;
    const wide_part *p = s->part + j->at_once - 1;
    for (size_t g = 0; g < s->n_group; g++) {
        size_t row;
        const size_t n = rows_of_group(j, s->group + g, &row);
        for (size_t t = 0; t < n; t++)
            for (size_t pair = 0; pair < s->n_pair; pair++)
                store_row(s, pair, (g * j->wide->rows + t) * CPU_WIDE_OUT, cpu_rows_output(p->rows, row + t), (s->pair + pair) * CPU_WIDE_OUT);
    }
}

/* What task `task` works on; 0 if that is nothing. */
static int find_share(const wide_job *j, size_t task, share *s)
{
    const size_t block = task % j->n_block, want = task / j->n_block / j->n_share;
    size_t number = task / j->n_block % j->n_share;
    *s = (share) { .job = j, .part = j->parts, .matrix = j->rows->pairs ? (size_t)j->rows->wanted[want] : 0 };
    for (; number >= s->part->n_share; s->part++)
        number -= s->part->n_share;
    const size_t group0 = j->rows->pairs ? (size_t)j->group[s->matrix] : 0, group_end = j->rows->pairs ? (size_t)j->group[s->matrix + 1] : j->n_group;
    s->group = group0 + block * j->block_groups;
    if (s->group >= group_end)
        return 0;       /* this matrix has fewer rows than another */
    s->n_group = min(group_end - s->group, j->block_groups);
    s->pair = number * j->per_share;
    s->n_pair = min(quotient_up(s->part->n_panel, CPU_WIDE_PANELS) - s->pair, j->per_share);
    return 1;
}

static sl_status run_task(void *arg, size_t task, unsigned thread)
{
    const wide_job *j = arg;
    share s;
    if (!find_share(j, task, &s))
        return SL_OK;
    uint8_t *scratch = j->scratch + thread * bytes_of_thread(&j->room);
    s.acc = (float *)(void *)scratch;
    s.weights = scratch + j->room.acc;
    s.piece = s.weights + j->room.weights;
    s.work = s.piece + j->room.piece;
    memset(s.acc, 0, count_pairs(&s) * s.n_group * count_sums(j->wide));
    if (j->wide->begin)
        j->wide->begin();
    for (size_t step = 0; step < j->n_step; step++)
        for (size_t number = 0; number < count_pairs(&s); number++)
            multiply_step(&s, step, number);
    store_sums(&s);
    j->wide->end();
    return SL_OK;
}

/* Prepares and multiplies the groups of a round, of which a matrix has at most `most`. */
static sl_status run_round(wide_job *j, cpu_device *device, size_t most)
{
    const size_t n_mat = j->rows->pairs ? j->rows->n_wanted : 1, n_apart = j->n_part / j->at_once;
    size_t n_pair = 0;
    for (size_t i = 0; i < n_apart; i++)
        n_pair += quotient_up(j->parts[i].n_panel, CPU_WIDE_PANELS);
    j->n_block = quotient_up(most, most_groups_of_block(j->wide));
    j->block_groups = quotient_up(most, j->n_block);
    j->per_share = max(1, min(MOST_PAIRS / j->at_once, n_mat * j->n_block * n_pair / (TASKS_PER_THREAD * (size_t)device->n_threads)));
    j->n_share = 0;
    for (size_t i = 0; i < n_apart; i++)
        j->n_share += j->parts[i].n_share = quotient_up(quotient_up(j->parts[i].n_panel, CPU_WIDE_PANELS), j->per_share);
    SL_TRY(cpu_parallel(device, j->n_group, prepare_group, j));
    return cpu_parallel(device, n_mat * j->n_share * j->n_block, run_task, j);
}

static wide_part part_of(const cpu_device *device, const cpu_rows *rows)
{
    const cpu_matrix *matrix = rows->args->weight->handle;
    return (wide_part) { .rows = rows, .wide = rows->kernel->wide, .matrix = matrix, .base = device->segments[matrix->segment].base, .n_panel = quotient_up((size_t)matrix->n_out, CPU_PANEL),
                         .stream = rows->n_row * (size_t)matrix->n_out * sizeof(float) >= STREAM_BYTES };
}

sl_status cpu_wide_run(cpu_device *device, const cpu_rows *products, size_t n, int gated, uint8_t *scratch)
{
    const sl_op_args *args = products->args;
    const cpu_wide *wide = products->kernel->wide;
    const size_t n_mat = (size_t)args->weight->n_mat, n_group = quotient_up(products->n_row, wide->rows), round = most_groups_of_round(wide, args);
    wide_job j = { .n_part = n, .at_once = gated ? n : 1, .rows = products, .wide = wide, .n_step = count_steps(args), .prepared = scratch };
    for (size_t i = 0; i < n; i++) {
        j.parts[i] = part_of(device, &products[i]);
        cpu_wide_need(&j.room, products[i].kernel->wide, products[i].args, products->n_row);
    }
    j.group = (int32_t *)(void *)(scratch + j.room.prepared);
    j.scratch = scratch + j.room.prepared + j.room.groups;
    if (products->pairs) {
        j.group[0] = 0;
        for (size_t e = 0; e < n_mat; e++)
            j.group[e + 1] = j.group[e] + (int32_t)quotient_up((size_t)(products->first[e + 1] - products->first[e]), wide->rows);
        j.n_group = (size_t)j.group[n_mat];
        return run_round(&j, device, quotient_up(products->most, wide->rows));
    }
    for (size_t first = 0; first < n_group; first += round) {
        j.first_row = first * wide->rows;
        j.n_group = min(n_group - first, round);
        SL_TRY(run_round(&j, device, j.n_group));
    }
    return SL_OK;
}
