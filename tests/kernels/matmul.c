/* SPDX-License-Identifier: MIT */
/* matmul.c - every panel kernel that this machine can run, and the products around them, against the definition in blocks.h, bit by bit. */
#include "check.h"
#include "weights.h"

enum { CAPACITY = 1024 };
static const sl_impl *rows[CAPACITY];
static size_t n_rows;

/* One call of a kernel: n_panel panels, m rows of activations, sums that go on from what was there. Inputs end where their blocks end. */
static void run_kernel(uint64_t *seed, const sl_impl *row, int64_t n_in, int n_panel, int m, const uint8_t *weights, const uint8_t *acts)
{
    const sl_type type = (sl_type)row->type;
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const size_t row_bytes = sl_type_row_bytes(info, (size_t)n_in), panel_bytes = cpu_panel_bytes(type, n_in), stride = panel_bytes + 64 * random_below(seed, 3);
    const size_t act_bytes = act_bytes_of(row, n_in);
    uint8_t *panels = malloc(stride * (size_t)(n_panel - 1) + panel_bytes), *act_block[CPU_MAX_M];
    const uint8_t *act[CPU_MAX_M];
    _Alignas(64) float acc[CPU_STREAMS][CPU_MAX_M][CPU_PANEL], before[CPU_STREAMS][CPU_MAX_M][CPU_PANEL];
    for (int p = 0; p < n_panel; p++)
        cpu_panel_pack(type, n_in, weights + (size_t)p * 16 * row_bytes, row_bytes, 16, panels + (size_t)p * stride);
    for (int t = 0; t < m; t++) {
        act_block[t] = malloc(act_bytes + 4);       /* at an address that is a multiple of 4 and of nothing more */
        act[t] = memcpy(act_block[t] + 4, acts + (size_t)t * act_bytes, act_bytes);
    }
    for (size_t i = 0; i < sizeof acc / sizeof(float); i++)
        (&acc[0][0][0])[i] = (&before[0][0][0])[i] = random_below(seed, 4) ? random_float(seed) : 0.0f;
    ((const cpu_matmul_kernel *)row->kernel)->panel(n_in, panels, stride, n_panel, act, m, acc);
    for (int p = 0; p < CPU_STREAMS; p++)
        for (int t = 0; t < CPU_MAX_M; t++)
            for (int r = 0; r < CPU_PANEL; r++) {
                float want = before[p][t][r];
                if (p < n_panel && t < m)
                    want = dot_row(type, form_of(row), n_in, weights + (size_t)(16 * p + r) * row_bytes, acts + (size_t)t * act_bytes, want);
                if (!same(acc[p][t][r], want))
                    fail_msg("%s: n_in %lld, panel %d of %d, activations %d of %d, row %d: %a, must be %a", row->label, (long long)n_in, p, n_panel, t, m, r,
                             (double)acc[p][t][r], (double)want);
            }
    for (int t = 0; t < m; t++)
        free(act_block[t]);
    free(panels);
}

static void kernels_equal_the_definition(void **state)
{
    static const int blocks[] = { 1, 2, 3, 7, 8, 9, 17, 65, 32, 31, 64 };
    uint64_t seed = 3;
    size_t n_kernels = 0;
    (void)state;
    for (size_t i = 0; i < n_rows; i++) {
        if (rows[i]->op != SL_OP_MATMUL)
            continue;
        const sl_type type = (sl_type)rows[i]->type;
        const sl_type_info *info = sl_type_get((uint32_t)type);
        n_kernels++;
        for (size_t b = 0; b < sizeof blocks / sizeof *blocks - (info->block_values >= 256 ? 5 : info->block_values > 1 ? 3 : 0); b++) {
            const int64_t n_in = (int64_t)blocks[b] * info->block_values;
            const size_t act_bytes = act_bytes_of(rows[i], n_in);
            uint8_t *weights = malloc(CPU_STREAMS * 16 * (size_t)blocks[b] * info->block_bytes), *acts = malloc(CPU_MAX_M * act_bytes);
            random_blocks(&seed, type, CPU_STREAMS * 16 * (size_t)blocks[b], weights);
            for (int t = 0; t < CPU_MAX_M; t++)
                random_act(&seed, form_of(rows[i]), n_in, acts + (size_t)t * act_bytes);
            for (int m = 1; m <= CPU_MAX_M; m++)
                run_kernel(&seed, rows[i], n_in, m % CPU_STREAMS + 1, m, weights, acts);
            run_kernel(&seed, rows[i], n_in, CPU_STREAMS, 1, weights, acts);
            free(weights);
            free(acts);
        }
    }
    assert_true(n_kernels >= N_MATRIX_TYPES);
}

/* Where a type keeps its halves, for the types that have kernels in lanes. */
static const struct { sl_type type; cpu_interleave at; } interleaved[] = {
#define INTERLEAVED(NAME, stem, body, lines, half0, half1) { SL_TYPE_##NAME, { body, lines, { half0, half1 } } },
    CPU_INTERLEAVED(INTERLEAVED)
};

/* Activations at their ends: every q the same number, or changing sides. */
static void extreme_act(sl_type type, int64_t n_in, int first, int second, float d, uint8_t *to)
{
    const int super = sl_type_get((uint32_t)type)->form == SL_ACT_A256;
    for (int64_t b = 0; b < n_in / (super ? 256 : 32); b++) {
        sl_block_a32 a = { .d = d };
        sl_block_a256 s = { .d = d };
        for (int i = 0; i < 256; i++) {
            s.q[i] = (int8_t)(i % 2 ? second : first);
            s.sum[i / 16] = (int16_t)(s.sum[i / 16] + s.q[i]);
            if (i < 32)
                a.sum += a.q[i] = s.q[i];
        }
        if (super)
            memcpy(to + (size_t)b * sizeof s, &s, sizeof s);
        else
            memcpy(to + (size_t)b * sizeof a, &a, sizeof a);
    }
}

/* The largest sums, -128 as a weight and as a scale, subnormal and zero scales: rows of weights and rows of activations, of which each is to meet each. */
static const uint8_t end_bytes[] = { 0x00, 0x7f, 0x80, 0x81, 0xff, 0xf0, 0x0f };
static const uint16_t end_halves[] = { 0x3c00, 0x0001, 0x8001, 0x0000, 0x7bff, 0x8002 };     /* the low bytes of some are the smallest scales of MXFP4 */
static const struct { int first, second; float d; } end_acts[] = { { 127, 127, 1.0f }, { -127, -127, 1.0f }, { 127, -127, 0x1p-120f }, { -127, 127, 0x1p-140f }, { 0, 0, 0.0f } };
enum { N_END_ACTS = 2 * sizeof end_acts / sizeof *end_acts, N_END_WEIGHTS = sizeof end_bytes * sizeof end_bytes * (sizeof end_halves / 2) };

/* Blocks of an interleaved type, number n < N_END_WEIGHTS. */
static void end_blocks(size_t n, size_t t, size_t n_blocks, uint8_t *weights)
{
    const size_t bytes = sl_type_get((uint32_t)interleaved[t].type)->block_bytes, n_halves = sizeof end_halves / 2;
    const uint8_t first = end_bytes[n / n_halves % sizeof end_bytes], second = end_bytes[n / n_halves / sizeof end_bytes];
    const uint16_t half = end_halves[n % n_halves], other = end_halves[(n + 1) % n_halves];
    for (size_t k = 0; k < n_blocks * bytes; k++)
        weights[k] = k % bytes % 2 ? second : first;
    for (size_t b = 0; b < n_blocks; b++) {
        memcpy(weights + b * bytes + interleaved[t].at.half[0], &half, 2);
        if (interleaved[t].at.half[1] >= 0)
            memcpy(weights + b * bytes + interleaved[t].at.half[1], &other, 2);
    }
}

/* Rows of activations from number `first` on; after N_END_ACTS they begin again. */
static void end_rows(size_t first, size_t t, int64_t n_in, size_t n_acts, size_t act_bytes, uint8_t *acts)
{
    for (size_t r = 0; r < n_acts; r++) {
        const size_t a = (first + r) / 2 % (N_END_ACTS / 2);
        extreme_act(interleaved[t].type, n_in, (first + r) % 2 ? end_acts[a].second : end_acts[a].first, end_acts[a].second, end_acts[a].d, acts + r * act_bytes);
    }
}

static void kernels_hold_at_the_ends(void **state)
{
    enum { BLOCKS = 3, M = 3 };
    uint64_t seed = 4;
    (void)state;
    for (size_t i = 0; i < n_rows; i++)
        for (size_t t = 0; t < sizeof interleaved / sizeof *interleaved && rows[i]->op == SL_OP_MATMUL; t++) {
            const sl_type type = interleaved[t].type;
            const sl_type_info *info = sl_type_get((uint32_t)type);
            if (rows[i]->type != (int32_t)type)
                continue;
            const int64_t n_in = BLOCKS * (int64_t)info->block_values;
            const size_t act_bytes = act_bytes_of(rows[i], n_in);
            uint8_t *weights = malloc(16 * BLOCKS * info->block_bytes), *act = malloc(M * act_bytes);
            for (size_t n = 0; n < N_END_WEIGHTS * N_END_ACTS / 2; n++) {
                end_blocks(n % N_END_WEIGHTS, t, 16 * BLOCKS, weights);
                end_rows(n / N_END_WEIGHTS * 2, t, n_in, M, act_bytes, act);
                run_kernel(&seed, rows[i], n_in, 1, 1 + (int)(n % M), weights, act);
            }
            free(weights);
            free(act);
        }
}

/* bf16 arithmetic where numbers are rounded, vanish or run over: both signs of zero, subnormal, around 2^-40 (and what rounds up to it), ties, and sums
 * whose parts cancel or are infinite. Every number meets every other one, at even and at odd k. */
static const uint32_t bf16_ends[] = {
    0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0x2b7fffff, 0x2b7f8000, 0x2b7f7fff, 0xab7f8000, 0x2b800000, 0xab800000, 0x2b808000, 0x2b818000,
    0x2b808001, 0xab80ffff, 0x3f800000, 0xbf800000, 0x3f808000, 0x3f818000, 0xbf818000, 0x3f80ffff, 0x3fffffff, 0x477fe000, 0xc77fe000, 0x33800000, 0xb3800000,
    0x387fc000, 0x3f802000, 0x3f81e000, 0x3f81a000, 0x3f816000, 0x33c00000, 0x5f800000, 0xdf800000, 0x7f000000, 0x7f7f0000, 0xff7f7fff,
};
enum { N_BF16_ENDS = sizeof bf16_ends / sizeof *bf16_ends, N_BF16_LARGE = 5 };     /* the last of them are so large that most sums would be infinite */

/* n numbers of a float type out of the first `limit`, or all the same one. */
static void end_weights(uint64_t *seed, sl_type type, size_t n, size_t limit, const uint32_t *same_one, uint8_t *to)
{
    const size_t bytes = sl_type_get((uint32_t)type)->block_bytes;
    for (size_t k = 0; k < n; k++) {
        const float x = sl_float(same_one ? *same_one : bf16_ends[random_below(seed, limit)]);
        const uint16_t half = sl_float_to_half(x < 65504.0f && x > -65504.0f ? x : 65504.0f), upper = (uint16_t)(sl_bits(x) >> 16);
        memcpy(to + k * bytes, type == SL_TYPE_F32 ? (const void *)&x : type == SL_TYPE_F16 ? &half : &upper, bytes);
    }
}

/* A row of n activations out of the first `limit`. */
static void end_act(uint64_t *seed, int64_t n, size_t limit, sl_block_b16 *to)
{
    for (int64_t k = 0; k < n; k += 32, to++) {
        float x[32];
        for (int j = 0; j < 32; j++)
            x[j] = sl_float(bf16_ends[random_below(seed, limit)]);
        assert_int_equal(sl_quantize_b16(x, n - k < 32 ? (int)(n - k) : 32, to), 0);
    }
}

static void bf16_arithmetic_at_the_ends(void **state)
{
    enum { ROUNDS = 300 };
    uint64_t seed = 9;
    size_t n_kernels = 0;
    (void)state;
    for (size_t i = 0; i < n_rows; i++) {
        if (rows[i]->op != SL_OP_MATMUL || form_of(rows[i]) != SL_ACT_B16)
            continue;
        const sl_type type = (sl_type)rows[i]->type;
        n_kernels++;
        for (size_t round = 0; round < ROUNDS; round++) {
            const int64_t n_in = 1 + (int64_t)random_below(&seed, 100);
            const size_t limit = round % 3 ? N_BF16_ENDS - N_BF16_LARGE : N_BF16_ENDS;
            uint8_t *weights = malloc(sl_type_row_bytes(sl_type_get((uint32_t)type), 16 * (size_t)n_in));
            sl_block_b16 acts[4 * 2];
            end_weights(&seed, type, 16 * (size_t)n_in, limit, round < N_BF16_ENDS ? &bf16_ends[round] : NULL, weights);
            end_act(&seed, n_in, limit, acts);
            end_act(&seed, n_in, limit, acts + (n_in + 31) / 32);
            run_kernel(&seed, rows[i], n_in, 1, 2, weights, (const uint8_t *)acts);
            free(weights);
        }
    }
    assert_true(n_kernels > 0);
}

/* ---- the products around the kernels ---- */

/* A matrix (or several) in both layouts and everything else that a call of a product needs. */
typedef struct bench_of_work {
    cpu_device device;
    cpu_segment segments[2];
    cpu_matrix matrices[2];     /* unpacked, packed */
    sl_weight weight;
    uint8_t *file, *panels, *acts, *scratch;
    size_t row_bytes, act_bytes;
} bench_of_work;

static void pack(bench_of_work *w, sl_type type, int64_t n_in, int64_t n_out, int64_t n_mat)
{
    const size_t per_mat = (size_t)(n_out + 15) / 16, panel_bytes = cpu_panel_bytes(type, n_in);
    for (size_t p = 0; p < per_mat * (size_t)n_mat; p++) {
        const int64_t first = (int64_t)(p % per_mat) * 16;
        cpu_panel_pack(type, n_in, w->file + ((size_t)(p / per_mat) * (size_t)n_out + (size_t)first) * w->row_bytes, w->row_bytes,
                       n_out - first < 16 ? (int)(n_out - first) : 16, w->panels + p * panel_bytes);
    }
}

static void set_up(bench_of_work *w, uint64_t *seed, const sl_impl *row, int64_t n_in, int64_t n_out, int64_t n_mat, int64_t n_acts, unsigned n_threads)
{
    const sl_type type = (sl_type)row->type;
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const size_t per_mat = (size_t)(n_out + 15) / 16, panel_bytes = cpu_panel_bytes(type, n_in);
    sl_mem mem;
    memset(w, 0, sizeof *w);
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    w->row_bytes = sl_type_row_bytes(info, (size_t)n_in);
    w->act_bytes = act_bytes_of(row, n_in);
    w->file = malloc(w->row_bytes * (size_t)(n_out * n_mat));
    w->panels = malloc(panel_bytes * per_mat * (size_t)n_mat);
    w->acts = malloc((size_t)n_acts * w->act_bytes);
    random_blocks(seed, type, (size_t)(n_out * n_mat) * (w->row_bytes / info->block_bytes), w->file);
    for (size_t i = 0; i < (size_t)n_acts; i++)
        random_act(seed, form_of(row), n_in, w->acts + i * w->act_bytes);
    pack(w, type, n_in, n_out, n_mat);
    w->segments[0].base = w->file;
    w->segments[1].base = w->panels;
    for (int i = 0; i < 2; i++)
        w->matrices[i] = (cpu_matrix) { .type = type, .n_in = n_in, .n_out = n_out, .n_mat = n_mat, .packed = i, .segment = (size_t)i, .stride = i ? panel_bytes : w->row_bytes };
    w->weight = (sl_weight) { .name = "w", .type = type, .form = form_of(row), .n_in = n_in, .n_out = n_out, .n_mat = n_mat };
    w->device = (cpu_device) { .mem = mem, .n_threads = n_threads, .streams = 1 + (unsigned)random_below(seed, CPU_STREAMS), .segments = w->segments, .n_segments = 2 };
    assert_int_equal(cpu_pool_create(&w->device.pool, &mem, n_threads), SL_OK);
}

static void tear_down(bench_of_work *w)
{
    cpu_pool_free(w->device.pool);
    free(w->file);
    free(w->panels);
    free(w->acts);
}

static sl_tensor act_tensor(const bench_of_work *w, int64_t n)
{
    const int is_float = w->weight.form == SL_ACT_F32;
    sl_tensor x = { .type = is_float ? SL_TYPE_F32 : SL_TYPE_I8, .ne = { is_float ? w->weight.n_in : (int64_t)w->act_bytes, n, 1, 1 }, .data = w->acts };
    x.stride[0] = is_float ? 4 : 1;
    x.stride[1] = w->act_bytes;
    x.stride[2] = x.stride[3] = (size_t)n * w->act_bytes;
    return x;
}

/* Runs a product in exactly the scratch that it asks for. */
static sl_status run_row(const sl_impl *row, bench_of_work *w, sl_op_args *args)
{
    args->form = w->weight.form;
    args->weight = &w->weight;
    assert_true(row->accepts(row, &w->device, args));
    args->scratch = sl_mem_alloc(&w->device.mem, 1, row->scratch(row, &w->device, args));
    assert_non_null(args->scratch);
    sl_status status = row->run(row, &w->device, args);
    sl_mem_free(&w->device.mem, args->scratch);
    return status;
}

/* Output rows with a gap between them, which must stay as it was. */
enum { GAP = 3, MARK = 0x7fc0dead };

static void compare_matmul(bench_of_work *w, const sl_impl *row, int64_t n_in, int64_t n_out, int64_t n_tok)
{
    const size_t stride = (size_t)n_out + GAP;
    float *out = malloc(stride * (size_t)n_tok * sizeof *out), *want = malloc(stride * (size_t)n_tok * sizeof *want);
    for (size_t t = 0; t < (size_t)n_tok; t++)
        for (size_t o = 0; o < stride; o++)
            want[t * stride + o] = o < (size_t)n_out ? dot_row(w->weight.type, w->weight.form, n_in, w->file + o * w->row_bytes, w->acts + t * w->act_bytes, 0.0f) : sl_float(MARK);
    for (int packed = 0; packed < 2; packed++) {
        for (size_t i = 0; i < stride * (size_t)n_tok; i++)
            out[i] = sl_float(MARK);
        w->weight.handle = &w->matrices[packed];
        sl_op_args args = { .op = SL_OP_MATMUL, .src = { act_tensor(w, n_tok) } };
        args.dst = (sl_tensor) { .type = SL_TYPE_F32, .ne = { n_out, n_tok, 1, 1 }, .stride = { 4, 4 * stride, 4 * stride * (size_t)n_tok, 4 * stride * (size_t)n_tok }, .data = out };
        assert_int_equal(run_row(row, w, &args), SL_OK);
        for (size_t i = 0; i < stride * (size_t)n_tok; i++)
            if (!same(out[i], want[i]))
                fail_msg("%s packed %d: %lld x %lld, token %zu of %lld, output %zu: %a, must be %a", row->label, packed, (long long)n_in, (long long)n_out, i / stride,
                         (long long)n_tok, i % stride, (double)out[i], (double)want[i]);
    }
    free(out);
    free(want);
}

static void check_matmul(uint64_t *seed, const sl_impl *row, int64_t n_in, int64_t n_out, int64_t n_tok, unsigned n_threads)
{
    bench_of_work w;
    set_up(&w, seed, row, n_in, n_out, 1, n_tok, n_threads);
    compare_matmul(&w, row, n_in, n_out, n_tok);
    tear_down(&w);
}

static void products_equal_the_definition(void **state)
{
    static const int64_t outs[] = { 1, 15, 16, 17, 40, 100 }, tokens[] = { 1, 3, 9, 70 };
    uint64_t seed = 5;
    (void)state;
    for (size_t i = 0; i < n_rows; i++)
        if (rows[i]->op == SL_OP_MATMUL) {
            const int64_t values = sl_type_get((uint32_t)rows[i]->type)->block_values;
            for (size_t o = 0; o < sizeof outs / sizeof *outs; o++)
                check_matmul(&seed, rows[i], values < 32 ? 47 : 3 * values, outs[o], tokens[(o + i) % 4], 1 + (unsigned)o % 3);
            check_matmul(&seed, rows[i], values == 1 ? 1500 : values == 32 ? 2080 : values * (4096 / values + 1), 33, 2, 2);     /* several pieces of k when unpacked */
        }
}

static int is_wide(const sl_impl *row, sl_op op) { return row->op == op && ((const cpu_matmul_kernel *)row->kernel)->wide; }

/* Numbers of rows around the groups and blocks of the kernels for many; one step of k, a part of one, several. */
static void wide_products_equal_the_definition(void **state)
{
    static const int64_t tokens[] = { 16, 17, 18, 31, 64, 65, 512, 601, 1200 }, outs[] = { 40, 16, 33, 100, 1, 47, 31, 32, 17 }, blocks[] = { 65, 1, 9, 8, 15, 3, 7, 2, 5 };
    uint64_t seed = 8;
    (void)state;
    for (size_t i = 0; i < n_rows; i++)
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens && is_wide(rows[i], SL_OP_MATMUL); t++) {
            const int64_t values = sl_type_get((uint32_t)rows[i]->type)->block_values;
            check_matmul(&seed, rows[i], values == 1 ? 45 * blocks[t] - 1 : values * (values == 256 && blocks[t] > 9 ? 4 : blocks[t]), outs[t], tokens[t], 1 + (unsigned)t % 3);
        }
    for (size_t i = 0; i < n_rows; i++)     /* so many rows that they go in two rounds */
        if (is_wide(rows[i], SL_OP_MATMUL) && sl_type_get((uint32_t)rows[i]->type)->block_values == 1)
            check_matmul(&seed, rows[i], 2924, 3, 3000, 2);
}

static void wide_products_hold_at_the_ends(void **state)
{
    enum { BLOCKS = 3, N_TOK = 2 * N_END_ACTS };
    uint64_t seed = 9;
    (void)state;
    for (size_t i = 0; i < n_rows; i++)
        for (size_t t = 0; t < sizeof interleaved / sizeof *interleaved && is_wide(rows[i], SL_OP_MATMUL); t++) {
            const int64_t n_in = BLOCKS * (int64_t)sl_type_get((uint32_t)interleaved[t].type)->block_values;
            bench_of_work w;
            if (rows[i]->type != (int32_t)interleaved[t].type)
                continue;
            set_up(&w, &seed, rows[i], n_in, N_END_WEIGHTS, 1, N_TOK, 1);
            for (size_t n = 0; n < N_END_WEIGHTS; n++)
                end_blocks(n, t, BLOCKS, w.file + n * w.row_bytes);
            end_rows(0, t, n_in, N_TOK, w.act_bytes, w.acts);
            pack(&w, interleaved[t].type, n_in, N_END_WEIGHTS, 1);
            compare_matmul(&w, rows[i], n_in, N_END_WEIGHTS, N_TOK);
            tear_down(&w);
        }
}

static void wide_bf16_arithmetic_at_the_ends(void **state)
{
    enum { N_IN = 301, N_OUT = 17, N_TOK = 20, ROUNDS = 60 };
    uint64_t seed = 10;
    (void)state;
    for (size_t i = 0; i < n_rows; i++) {
        bench_of_work w;
        if (!is_wide(rows[i], SL_OP_MATMUL) || form_of(rows[i]) != SL_ACT_B16)
            continue;
        set_up(&w, &seed, rows[i], N_IN, N_OUT, 1, N_TOK, 1);
        for (size_t round = 0; round < ROUNDS; round++) {
            const size_t limit = round % 3 ? N_BF16_ENDS - N_BF16_LARGE : N_BF16_ENDS;
            end_weights(&seed, w.weight.type, N_IN * N_OUT, limit, round < N_BF16_ENDS ? &bf16_ends[round] : NULL, w.file);
            for (size_t t = 0; t < N_TOK; t++)
                end_act(&seed, N_IN, limit, (sl_block_b16 *)(void *)(w.acts + t * w.act_bytes));
            pack(&w, w.weight.type, N_IN, N_OUT, 1);
            compare_matmul(&w, rows[i], N_IN, N_OUT, N_TOK);
        }
        tear_down(&w);
    }
}

/* x has a row per token, or one per pair; some matrices are wanted by nobody, one by all. */
static void check_expert(uint64_t *seed, const sl_impl *row, int64_t n_used, int64_t n_tok, int per_pair, int all_the_same)
{
    enum { N_MAT = 6, N_OUT = 37 };
    const int64_t n_in = form_of(row) == SL_ACT_B16 ? 37 : 2 * (int64_t)sl_type_get((uint32_t)row->type)->block_values;
    bench_of_work w;
    set_up(&w, seed, row, n_in, N_OUT, N_MAT, n_used * n_tok, 2);
    float *out = malloc(sizeof *out * N_OUT * (size_t)(n_used * n_tok));
    int32_t *ids = malloc(sizeof *ids * (size_t)(n_used * n_tok));
    for (int64_t i = 0; i < n_used * n_tok; i++)
        ids[i] = all_the_same ? 4 : (int32_t)random_below(seed, N_MAT - 1);
    for (int packed = 0; packed < 2; packed++) {
        w.weight.handle = &w.matrices[packed];
        sl_op_args args = { .op = SL_OP_MATMUL_EXPERT, .src = { act_tensor(&w, per_pair ? n_used * n_tok : n_tok) } };
        args.src[1] = (sl_tensor) { .type = SL_TYPE_I32, .ne = { n_used, n_tok, 1, 1 }, .stride = { 4, 4 * (size_t)n_used, 4 * (size_t)(n_used * n_tok), 4 * (size_t)(n_used * n_tok) }, .data = ids };
        args.dst = (sl_tensor) { .type = SL_TYPE_F32, .ne = { N_OUT, n_used, n_tok, 1 },
                                 .stride = { 4, 4 * N_OUT, 4 * N_OUT * (size_t)n_used, 4 * N_OUT * (size_t)(n_used * n_tok) }, .data = out };
        assert_int_equal(run_row(row, &w, &args), SL_OK);
        for (size_t p = 0; p < (size_t)(n_used * n_tok); p++)
            for (size_t o = 0; o < N_OUT; o++) {
                const float want = dot_row(w.weight.type, w.weight.form, n_in, w.file + ((size_t)ids[p] * N_OUT + o) * w.row_bytes,
                                           w.acts + (per_pair ? p : p / (size_t)n_used) * w.act_bytes, 0.0f);
                if (!same(out[p * N_OUT + o], want))
                    fail_msg("%s packed %d per_pair %d: pair %zu, output %zu: %a, must be %a", row->label, packed, per_pair, p, o, (double)out[p * N_OUT + o], (double)want);
            }
        const int32_t id = ids[n_used * n_tok - 1];
        for (int bad = 0; bad < 2; bad++) {
            ids[n_used * n_tok - 1] = bad ? -1 : N_MAT;
            assert_int_equal(run_row(row, &w, &args), SL_ERR_RANGE);
        }
        ids[n_used * n_tok - 1] = id;
    }
    free(out);
    free(ids);
    tear_down(&w);
}

static void expert_products_equal_the_definition(void **state)
{
    uint64_t seed = 6;
    (void)state;
    for (size_t i = 0; i < n_rows; i++)
        if (rows[i]->op == SL_OP_MATMUL_EXPERT) {
            check_expert(&seed, rows[i], 2, 1, i % 2 == 0, 0);
            check_expert(&seed, rows[i], 3, 13, i % 2 == 1, 0);
            check_expert(&seed, rows[i], 1, 40, 0, 1);
            if (is_wide(rows[i], SL_OP_MATMUL_EXPERT))
                check_expert(&seed, rows[i], 2, 90, i % 2 == 0, 0);
        }
}

/* A type that would fall back to plain C on a machine with vectors: whatever this machine is, the lists of the build say so. Float types have no need of
 * the levels that only multiply bytes. */
static void every_type_has_kernels_in_vectors(void **state)
{
    static const struct { uint32_t level; int bytes_only; } levels[] = {
        { CPU_AVX2, 0 }, { CPU_AVX512, 0 }, { CPU_AVX512VNNI, 1 }, { CPU_NEON, 0 }, { CPU_DOTPROD, 1 }, { CPU_I8MM, 1 },
    };
    static const sl_op ops[] = { SL_OP_MATMUL, SL_OP_MATMUL_EXPERT };
    const cpu_list *lists;
    const size_t n_lists = cpu_lists(&lists);
    (void)state;
    for (size_t i = 0; i < n_lists; i++)
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
            for (size_t t = 0; t < N_MATRIX_TYPES * 2 && lists[i].level == levels[l].level; t++) {
                const sl_type_info *info = sl_type_get((uint32_t)matrix_types[t / 2]);
                size_t found = 0;
                for (size_t k = 0; k < *lists[i].n; k++)
                    found += lists[i].impls[k].op == ops[t % 2] && lists[i].impls[k].type == (int32_t)matrix_types[t / 2];
                if (!found && !(levels[l].bytes_only && info->form == SL_ACT_F32))
                    fail_msg("%s has no product of op %d in list %zu", info->name, (int)ops[t % 2], i);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_has_kernels_in_vectors),
        cmocka_unit_test(kernels_equal_the_definition),
        cmocka_unit_test(kernels_hold_at_the_ends),
        cmocka_unit_test(bf16_arithmetic_at_the_ends),
        cmocka_unit_test(products_equal_the_definition),
        cmocka_unit_test(wide_products_equal_the_definition),
        cmocka_unit_test(wide_products_hold_at_the_ends),
        cmocka_unit_test(wide_bf16_arithmetic_at_the_ends),
        cmocka_unit_test(expert_products_equal_the_definition),
    };
    n_rows = rows_of_machine(rows, CAPACITY);
    print_levels(rows, n_rows);
    return cmocka_run_group_tests_name("matmul", tests, NULL, NULL);
}
