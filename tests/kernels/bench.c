/* SPDX-License-Identifier: MIT */
/* bench.c - how fast products read their weights: every kernel of this machine that is the best of its type (or, with --all, every one), beside
 * reading the same bytes in several streams in the same round. GB/s of weight bytes, best of the rounds, and the median ratio of the two; packing by one thread.
 *
 *   bench [--all] [--threads n] [--mib n] [--rounds n] [--rows n] [label part]      rows of activations: 1 and 8, or n    */
#define _GNU_SOURCE
#include "weights.h"

#include <stdio.h>

typedef struct reading { const uint8_t *at; size_t bytes; uint64_t sums[64][8]; } reading;

enum { READ_STREAMS = 8, READ_PIECE = 1 << 21, AHEAD = 768 };

/* Reads a piece in READ_STREAMS streams and nothing else. */
static sl_status read_piece(void *arg, size_t task, unsigned thread)
{
    reading *r = arg;
    const size_t share = READ_PIECE / READ_STREAMS;
    const uint8_t *at = r->at + task * READ_PIECE;
    uint64_t sum[8] = { 0 };
    for (size_t i = 0; i < share; i += 256)
        for (size_t s = 0; s < READ_STREAMS; s++)
            for (size_t k = 0; k < 256; k += 64) {
                uint64_t line[8];
                __builtin_prefetch(at + s * share + i + k + AHEAD, 0, 3);
                memcpy(line, at + s * share + i + k, 64);
                for (int j = 0; j < 8; j++)
                    sum[j] ^= line[j];
            }
    for (int j = 0; j < 8; j++)
        r->sums[thread % 64][j] ^= sum[j];
    return SL_OK;
}

static double read_gbs(cpu_device *device, const uint8_t *at, size_t bytes)
{
    reading r = { .at = at, .bytes = bytes };
    const uint64_t start = sl_clock_ns();
    cpu_parallel(device, bytes / READ_PIECE, read_piece, &r);
    return (double)bytes / (double)(sl_clock_ns() - start);
}

static int compare(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b; }

static void bench_row(const sl_impl *row, cpu_device *device, uint8_t *memory, size_t bytes, int m, int rounds)
{
    enum { N_IN = 2048 };
    const sl_type type = (sl_type)row->type;
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const size_t panel_bytes = cpu_panel_bytes(type, N_IN), act_bytes = act_bytes_of(row, N_IN), n_panel = bytes / panel_bytes;
    const int64_t n_out = (int64_t)n_panel * CPU_PANEL;
    uint64_t seed = 8;
    uint8_t *some = malloc(CPU_PANEL * sl_type_row_bytes(info, N_IN)), *acts = malloc(act_bytes * (size_t)m);
    float *out = malloc((size_t)(n_out * m) * sizeof *out);
    double ratios[64], best = 0, best_read = 0;
    random_blocks(&seed, type, CPU_PANEL * (N_IN / info->block_values), some);
    for (size_t i = 0; i < CPU_PANEL * N_IN && info->block_values == 1; i++) {     /* ordinary numbers: subnormal ones take a hundred times longer */
        const float x = random_float(&seed);
        const uint16_t half = type == SL_TYPE_F16 ? sl_float_to_half(x) : sl_float_to_bf16(x);
        memcpy(some + i * info->block_bytes, type == SL_TYPE_F32 ? (const void *)&x : &half, info->block_bytes);
    }
    const uint64_t packing = sl_clock_ns();
    for (size_t p = 0; p < n_panel; p++)
        cpu_panel_pack(type, N_IN, some, sl_type_row_bytes(info, N_IN), CPU_PANEL, memory + p * panel_bytes);
    const double pack_gbs = (double)(n_panel * panel_bytes) / (double)(sl_clock_ns() - packing);
    for (int t = 0; t < m; t++)
        random_act(&seed, form_of(row), N_IN, acts + (size_t)t * act_bytes);
    for (size_t i = 0; i < (size_t)m * N_IN && form_of(row) == SL_ACT_F32; i++)
        ((float *)(void *)acts)[i] = random_float(&seed);
    cpu_segment segment = { .base = memory };
    device->segments = &segment;
    cpu_matrix matrix = { .type = type, .n_in = N_IN, .n_out = n_out, .n_mat = 1, .packed = 1, .stride = panel_bytes };
    sl_weight weight = { .type = type, .n_in = N_IN, .n_out = n_out, .n_mat = 1, .handle = &matrix };
    sl_op_args args = { .op = SL_OP_MATMUL, .form = form_of(row), .weight = &weight };
    args.src[0] = (sl_tensor) { .type = SL_TYPE_I8, .ne = { (int64_t)act_bytes, m, 1, 1 }, .stride = { 1, act_bytes, 0, 0 }, .data = acts };
    args.dst = (sl_tensor) { .type = SL_TYPE_F32, .ne = { n_out, m, 1, 1 }, .stride = { 4, 4 * (size_t)n_out, 0, 0 }, .data = out };
    args.scratch = malloc(row->scratch(row, device, &args) + 64);
    for (int i = 0; i < rounds; i++) {
        const double read = read_gbs(device, memory, n_panel * panel_bytes);
        const uint64_t start = sl_clock_ns();
        if (row->run(row, device, &args) != SL_OK)
            abort();
        const double gbs = (double)(n_panel * panel_bytes) / (double)(sl_clock_ns() - start);
        ratios[i] = gbs / read;
        best = gbs > best ? gbs : best;
        best_read = read > best_read ? read : best_read;
    }
    qsort(ratios, (size_t)rounds, sizeof *ratios, compare);
    printf("%-28s m %d  %6.2f GB/s  read %6.2f  ratio %.2f  %7.2f G products/s  packing %.2f GB/s\n", row->label, m, best, best_read, ratios[rounds / 2],
           best / ((double)panel_bytes / (CPU_PANEL * N_IN)) * m, pack_gbs);
    fflush(stdout);
    free(args.scratch);
    free(some);
    free(acts);
    free(out);
}

int main(int argc, char **argv)
{
    const sl_impl *rows[1024];
    const size_t n_rows = rows_of_machine(rows, 1024);
    unsigned n_threads = 0;
    size_t mib = 512;
    int all = 0, rounds = 5, m = 0;
    const char *part = "";
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--all"))
            all = 1;
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            n_threads = (unsigned)atoi(argv[++i]);
        else if (!strcmp(argv[i], "--mib") && i + 1 < argc)
            mib = (size_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
            rounds = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--rows") && i + 1 < argc)
            m = atoi(argv[++i]);
        else
            part = argv[i];
    }
    rounds = rounds < 1 ? 1 : rounds > 64 ? 64 : rounds;
    sl_mem mem;
    cpu_device device = { 0 };
    if (sl_mem_init(&mem, NULL) != SL_OK || cpu_pool_create(&device.pool, &mem, n_threads) != SL_OK)
        return 1;
    device.mem = mem;
    device.n_threads = cpu_pool_threads(device.pool, &n_threads);
    uint8_t *memory = sl_mem_pages(&mem, mib << 20);
    if (!memory)
        return 1;
    printf("%u threads, %zu MiB, best and median of %d rounds\n", device.n_threads, mib, rounds);
    for (size_t i = 0; i < n_rows; i++) {
        int better = 0;
        for (size_t k = 0; k < i; k++)
            better |= rows[k]->op == rows[i]->op && rows[k]->type == rows[i]->type && rows[i]->op == SL_OP_MATMUL && form_of(rows[k]) == form_of(rows[i]);
        if (rows[i]->op != SL_OP_MATMUL || (better && !all) || !strstr(rows[i]->label, part))
            continue;
        if (!all && rows[i]->level <= CPU_SCALAR_FMA && !*part)
            continue;       /* types that have no kernel in lanes take minutes */
        bench_row(rows[i], &device, memory, mib << 20, m > 0 ? m : 1, rounds);
        if (m <= 0)
            bench_row(rows[i], &device, memory, mib << 20, 8, rounds);
    }
    sl_mem_pages_free(&mem, memory, mib << 20);
    cpu_pool_free(device.pool);
    return 0;
}
