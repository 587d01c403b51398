/* SPDX-License-Identifier: MIT */
/* matmul.c - products of matrices with activations, and the quantized forms of activations: how the work is cut into tasks.
 *
 * A task is a range of panels times a block of activation rows. Inside it up to CPU_STREAMS panels are walked side by side, each stream through
 * its own contiguous share of the range. Every output is one chain over k, so no cut changes a bit. Matrices that are used where they lie in the
 * file are packed piece by piece into scratch and go through the same kernels.
 *
 * With few rows of a packed matrix the work is cut as in matmul_few.c; with many, and a kernel for them, as in matmul_wide.c.
 *
 * By expert: the pairs (slot, token) are sorted by the matrix that they want, and each wanted matrix is a plain product with its pairs. */
#include "matmul_cut.h"

enum {
    ROW_BLOCK = 32,             /* activation rows of a task: they share what the task reads of the matrix */
    PIECE_BYTES = 16384,        /* of an unpacked matrix that are packed at a time: a quarter of a first-level cache */
    TASK_STEPS = 1 << 21,       /* products of a task: microseconds with vectors, some milliseconds in plain C */
    TASKS_PER_THREAD = 4,
    WIDE_ROWS = 17,             /* from so many rows on, the kernel for many is faster */
};

/* ---- cutting ---- */

typedef struct product {
    const cpu_rows *rows;
    const cpu_matrix *matrix;
    cpu_panel_fn *panel;
    const uint8_t *base;        /* of the matrix */
    size_t n_panel, per_task;   /* panels of one matrix, panels of a task */
    size_t streams;
    size_t n_group, n_block;    /* tasks are numbered: block of rows fastest, then group of panels, then wanted matrix */
    uint8_t *scratch;           /* per thread: a packed piece, then sums of ROW_BLOCK rows */
} product;

/* What one task works on. */
typedef struct share {
    const product *p;
    size_t matrix, panel, n_panel, row, n_row;
    uint8_t *scratch;
} share;

/* Elements of a piece: whole blocks of weights and of activations, as many as fit. */
static int64_t piece_values(sl_type type)
{
    const sl_type_info *info = sl_type_get(type);
    const size_t blocks = (PIECE_BYTES - CPU_LINE) / (CPU_PANEL * (size_t)info->block_bytes);
    return (int64_t)(info->block_values == 1 ? blocks / 32 * 32 : max(1, blocks)) * info->block_values;
}

static size_t scratch_of_thread(void) { return PIECE_BYTES + ROW_BLOCK * CPU_PANEL * sizeof(float); }

/* Activations of the number-th row or pair of the task. */
static const uint8_t *act_of(const share *s, size_t number) { return cpu_rows_act(s->p->rows, s->row + number); }

/* ---- tasks ---- */

/* Packed: `n_stream` panels at a time, `stride` panels apart, over all of k. */
static void run_packed(const share *s)
{
    const cpu_matrix *matrix = s->p->matrix;
    const size_t stride = quotient_up(s->n_panel, s->p->streams);
    const uint8_t *base = s->p->base + (s->matrix * s->p->n_panel + s->panel) * matrix->stride;
    float (*acc)[CPU_MAX_M][CPU_PANEL] = (void *)s->scratch;
    for (size_t i = 0; i < stride; i++) {
        const size_t n_stream = quotient_up(s->n_panel - i, stride);
        for (size_t row = 0; row < s->n_row; row += CPU_MAX_M) {
            const size_t m = min(s->n_row - row, CPU_MAX_M);
            const uint8_t *act[CPU_MAX_M];
            for (size_t t = 0; t < m; t++)
                act[t] = act_of(s, row + t);
            memset(acc, 0, CPU_FEW_SCRATCH);
            s->p->panel(matrix->n_in, base + i * matrix->stride, stride * matrix->stride, (int)n_stream, act, (int)m, acc);
            for (size_t g = 0; g < n_stream; g++)
                for (size_t t = 0; t < m; t++)
                    cpu_rows_store(s->p->rows, s->row + row + t, s->panel + i + g * stride, acc[g][t]);
        }
    }
}

/* Unpacked: panel by panel, piece by piece of k; the sums of all rows of the task wait in scratch. */
static void run_unpacked(const share *s)
{
    const cpu_matrix *matrix = s->p->matrix;
    const sl_type_info *info = sl_type_get(matrix->type);
    const int64_t piece = piece_values(matrix->type);
    const sl_act_info *form = sl_act_get(s->p->rows->args->form);
    float (*acc)[CPU_MAX_M][CPU_PANEL] = (void *)(s->scratch + PIECE_BYTES);
    for (size_t i = s->panel; i < s->panel + s->n_panel; i++) {
        const size_t n_rows = min((size_t)matrix->n_out - CPU_PANEL * i, CPU_PANEL);
        const uint8_t *rows = s->p->base + (s->matrix * (size_t)matrix->n_out + CPU_PANEL * i) * matrix->stride;
        memset(acc, 0, ROW_BLOCK * CPU_PANEL * sizeof(float));
        for (int64_t k = 0; k < matrix->n_in; k += piece) {
            const int64_t n = matrix->n_in - k < piece ? matrix->n_in - k : piece;
            cpu_panel_pack(matrix->type, n, rows + sl_type_row_bytes(info, (size_t)k), matrix->stride, (int)n_rows, s->scratch);
            for (size_t row = 0; row < s->n_row; row += CPU_MAX_M) {
                const size_t m = min(s->n_row - row, CPU_MAX_M);
                const uint8_t *act[CPU_MAX_M];
                for (size_t t = 0; t < m; t++)
                    act[t] = act_of(s, row + t) + sl_act_row_bytes(form, (size_t)k);
                s->p->panel(n, s->scratch, 0, 1, act, (int)m, acc + row / CPU_MAX_M);
            }
        }
        for (size_t row = 0; row < s->n_row; row++)
            cpu_rows_store(s->p->rows, s->row + row, i, acc[row / CPU_MAX_M][row % CPU_MAX_M]);
    }
}

static sl_status run_task(void *arg, size_t task, unsigned thread)
{
    const product *p = arg;
    const size_t block = task % p->n_block, group = task / p->n_block % p->n_group, want = task / p->n_block / p->n_group;
    share s = { .p = p, .panel = group * p->per_task, .row = block * ROW_BLOCK, .scratch = p->scratch + thread * scratch_of_thread() };
    size_t end = p->rows->n_row;
    if (p->rows->pairs) {
        s.matrix = (size_t)p->rows->wanted[want];
        s.row += (size_t)p->rows->first[s.matrix];
        end = (size_t)p->rows->first[s.matrix + 1];
    }
    if (s.row >= end)
        return SL_OK;       /* this matrix has fewer pairs than another */
    s.n_row = min(end - s.row, ROW_BLOCK);
    s.n_panel = min(p->n_panel - s.panel, p->per_task);
    if (p->matrix->packed)
        run_packed(&s);
    else
        run_unpacked(&s);
    return SL_OK;
}

/* Cuts the work by the matrix with the most rows, and runs it. */
static sl_status run_product(cpu_device *device, const cpu_rows *rows, uint8_t *scratch)
{
    const cpu_matrix *matrix = rows->args->weight->handle;
    product p = { .rows = rows, .matrix = matrix, .panel = rows->kernel->panel, .base = device->segments[matrix->segment].base,
                  .n_panel = quotient_up((size_t)matrix->n_out, CPU_PANEL), .streams = device->streams, .scratch = scratch };
    const size_t steps = CPU_PANEL * (size_t)matrix->n_in * min(rows->most, ROW_BLOCK);
    const size_t by_steps = TASK_STEPS / steps, by_threads = p.n_panel / (TASKS_PER_THREAD * (size_t)device->n_threads);
    size_t per_task = max(1, min(by_steps, by_threads));
    if (rows->most < CPU_MAX_M)
        per_task = quotient_up(per_task, device->streams) * device->streams;    /* few rows: memory is the limit, and wants streams */
    p.per_task = min(per_task, p.n_panel);
    p.n_group = quotient_up(p.n_panel, p.per_task);
    p.n_block = quotient_up(rows->most, ROW_BLOCK);
    return cpu_parallel(device, rows->n_wanted * p.n_group * p.n_block, run_task, &p);
}

static int is_wide(const cpu_rows *r) { return r->kernel->wide && r->most >= WIDE_ROWS; }
static int is_few(const cpu_rows *r) { return !is_wide(r) && !r->pairs && r->n_row <= CPU_MAX_M && ((const cpu_matrix *)r->args->weight->handle)->packed; }

/* Products with the same rows: those that follow each other and are cut alike as one job. */
static sl_status run_products(cpu_device *device, const cpu_rows *products, size_t n, int gated, uint8_t *scratch)
{
    sl_status status = SL_OK;
    for (size_t i = 0, end; i < n && status == SL_OK; i = end) {
        const int few = is_few(&products[i]), wide = is_wide(&products[i]);
        for (end = i + 1; end < n && (few ? is_few(&products[end]) : wide && is_wide(&products[end]) && cpu_wide_alike(&products[i], &products[end])); end++) {}
        if (few)
            status = cpu_few_run(device, products + i, end - i, gated && end - i == n, scratch);
        else if (wide)
            status = cpu_wide_run(device, products + i, end - i, gated && end - i == n, scratch);
        else
            status = run_product(device, &products[i], scratch);
    }
    return status;
}

/* ---- rows and memory of one or more products ---- */

static size_t count_pairs(const sl_op_args *args) { return (size_t)args->src[1].ne[0] * (size_t)args->src[1].ne[1]; }
static size_t count_rows(const sl_op_args *args) { return args->op == SL_OP_MATMUL_EXPERT ? count_pairs(args) : (size_t)args->src[0].ne[1]; }

/* For all ways of cutting a product of n_row rows: it does not shrink as rows are added. */
static void need(cpu_wide_room *room, const sl_impl *impl, const sl_op_args *args)
{
    const cpu_wide *wide = ((const cpu_matmul_kernel *)impl->kernel)->wide;
    if (wide && count_rows(args) >= WIDE_ROWS)
        cpu_wide_need(room, wide, args, count_rows(args));
}

static size_t scratch_bytes(const cpu_wide_room *room, const cpu_device *device)
{
    return sl_round_up(max(scratch_of_thread() * device->n_threads, cpu_wide_scratch(room, device)), CPU_LINE);
}

/* Behind that: which pairs want which matrix. */
static size_t sorting_bytes(const sl_op_args *args)
{
    return args->op == SL_OP_MATMUL_EXPERT ? (count_pairs(args) + 2 * (size_t)args->weight->n_mat + 1) * sizeof(int32_t) : 0;
}

/* Sorts the pairs by matrix, keeping their order; how many matrices are wanted, and the most pairs that one of them has. */
static sl_status sort_pairs(const sl_op_args *args, int32_t *first, int32_t *pairs, int32_t *wanted, size_t *n_wanted, size_t *most)
{
    const sl_tensor *ids = &args->src[1];
    const size_t n_mat = (size_t)args->weight->n_mat, n_used = (size_t)ids->ne[0], n_pair = n_used * (size_t)ids->ne[1];
#define ID(pair) (*(const int32_t *)((const char *)ids->data + (pair) % n_used * ids->stride[0] + (pair) / n_used * ids->stride[1]))
    memset(first, 0, (n_mat + 1) * sizeof *first);
    for (size_t i = 0; i < n_pair; i++) {
        if (ID(i) < 0 || (size_t)ID(i) >= n_mat)
            return sl_fail(SL_ERR_RANGE, "matmul_expert: id %d of %zu matrices", (int)ID(i), n_mat);
        first[ID(i) + 1]++;
    }
    *n_wanted = *most = 0;
    for (size_t e = 0; e < n_mat; e++) {
        const int32_t count = first[e + 1];
        if (count > 0)
            wanted[(*n_wanted)++] = (int32_t)e;
        *most = max(*most, (size_t)count);
        first[e + 1] = first[e] + count;
    }
    for (size_t i = 0; i < n_pair; i++)     /* first[e] runs to where the next matrix begins ... */
        pairs[first[ID(i)]++] = (int32_t)i;
    memmove(first + 1, first, n_mat * sizeof *first);       /* ... so all move up by one */
    first[0] = 0;
#undef ID
    return SL_OK;
}

static sl_status find_rows(const sl_op_args *args, int32_t *sorting, cpu_rows *rows)
{
    const size_t n_row = count_rows(args);
    *rows = (cpu_rows) { .n_row = n_row, .n_wanted = 1, .most = n_row };
    if (args->op != SL_OP_MATMUL_EXPERT)
        return SL_OK;
    int32_t *first = sorting, *wanted = first + args->weight->n_mat + 1, *pairs = wanted + args->weight->n_mat;
    rows->first = first;
    rows->wanted = wanted;
    rows->pairs = pairs;
    return sort_pairs(args, first, pairs, wanted, &rows->n_wanted, &rows->most);
}

/* n products with the same activations and, by expert, the same ids. */
static sl_status run_calls(cpu_device *device, const sl_impl *const *impls, const sl_op_args *calls, size_t n, cpu_silu_mul_fn *silu, uint8_t *scratch)
{
    cpu_rows products[SL_OP_PARTS];
    cpu_wide_room room = { 0 };
    for (size_t i = 0; i < n; i++)
        need(&room, impls[i], &calls[i]);
    SL_TRY(find_rows(calls, (int32_t *)(void *)(scratch + scratch_bytes(&room, device)), &products[0]));
    for (size_t i = 0; i < n; i++) {
        products[i] = products[0];
        products[i].args = &calls[i];
        products[i].kernel = impls[i]->kernel;
        products[i].silu = i > 0 ? silu : NULL;
    }
    return products[0].n_row == 0 ? SL_OK : run_products(device, products, n, silu != NULL, scratch);
}

/* ---- MATMUL, MATMUL_EXPERT ---- */

int cpu_matmul_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)device;
    return args->weight->type == (sl_type)self->type && args->form == ((const cpu_matmul_kernel *)self->kernel)->form && args->dst.type == SL_TYPE_F32;
}

size_t cpu_matmul_scratch(const sl_impl *self, void *device, const sl_op_args *args)
{
    cpu_wide_room room = { 0 };
    need(&room, self, args);
    return scratch_bytes(&room, device) + sorting_bytes(args);
}

sl_status cpu_matmul_run(const sl_impl *self, void *device, const sl_op_args *args) { return run_calls(device, &self, args, 1, NULL, args->scratch); }

int cpu_matmul_expert_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_matmul_accepts(self, device, args); }
size_t cpu_matmul_expert_scratch(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_matmul_scratch(self, device, args); }
sl_status cpu_matmul_expert_run(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_matmul_run(self, device, args); }

/* ---- groups: MATMUL_MANY; SWIGLU, whose last call is the product with the SiLU. The kernels are those of the parts. ---- */

static int are_products(const sl_op_args *calls, int n)
{
    for (int i = 0; i < n; i++)
        if (calls[i].impl->run != calls[0].impl->run || (calls[i].impl->run != cpu_matmul_run && calls[i].impl->run != cpu_matmul_expert_run))
            return 0;
    return 1;
}

static size_t group_scratch(const cpu_device *device, const sl_op_args *calls, int n)
{
    cpu_wide_room room = { 0 };
    for (int i = 0; i < n; i++)
        need(&room, calls[i].impl, &calls[i]);
    return scratch_bytes(&room, device) + sorting_bytes(calls);
}

int cpu_matmul_many_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return (void)self, (void)device, are_products(args->parts, args->n_parts); }

size_t cpu_matmul_many_scratch(const sl_impl *self, void *device, const sl_op_args *args) { return (void)self, group_scratch(device, args->parts, args->n_parts); }

sl_status cpu_matmul_many_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    const sl_impl *impls[SL_OP_PARTS];
    (void)self;
    for (int i = 0; i < args->n_parts; i++)
        impls[i] = args->parts[i].impl;
    return run_calls(device, impls, args->parts, (size_t)args->n_parts, NULL, args->scratch);
}

int cpu_swiglu_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device;
    return are_products(args->parts, 2) && args->parts[2].impl->run == cpu_silu_mul_run;
}

size_t cpu_swiglu_scratch(const sl_impl *self, void *device, const sl_op_args *args) { return (void)self, group_scratch(device, args->parts, 2); }

sl_status cpu_swiglu_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    const sl_impl *impls[] = { args->parts[0].impl, args->parts[1].impl };
    sl_op_args calls[] = { args->parts[0], args->parts[1] };
    (void)self;
    calls[0].dst = calls[1].dst = args->parts[2].dst;
    return run_calls(device, impls, calls, 2, ((const cpu_silu_mul_kernel *)args->parts[2].impl->kernel)->silu_mul, args->scratch);
}

/* ---- QUANTIZE ---- */

typedef struct quantizing {
    const sl_op_args *args;
    cpu_quantize_fn *quantize;
    int64_t n_row, per_task;    /* rows, rows of a task */
} quantizing;

int cpu_quantize_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)device;
    return args->form == ((const cpu_quantize_kernel *)self->kernel)->form && args->src[0].type == SL_TYPE_F32;
}

static sl_status quantize_rows(void *arg, size_t task, unsigned thread)
{
    const quantizing *q = arg;
    const int64_t first = (int64_t)task * q->per_task, end = first + q->per_task < q->n_row ? first + q->per_task : q->n_row;
    (void)thread;
    for (int64_t row = first; row < end; row++)
        if (q->quantize(q->args->src[0].ne[0], (const float *)cpu_row(&q->args->src[0], row), cpu_row(&q->args->dst, row)))
            return sl_fail(SL_ERR_NONFINITE, "quantize: an activation of row %lld is infinite or not a number", (long long)row);
    return SL_OK;
}

sl_status cpu_quantize_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    quantizing q = { args, ((const cpu_quantize_kernel *)self->kernel)->quantize, sl_tensor_rows(&args->src[0]), 8192 / args->src[0].ne[0] + 1 };
    return cpu_parallel(device, quotient_up((size_t)q.n_row, (size_t)q.per_task), quantize_rows, &q);
}
