/* SPDX-License-Identifier: MIT */
/* bench.c - how fast products read their weights: every kernel of this machine that is the best of its type (or, with --all, every one), beside
 * reading the same bytes in several streams in the same round. GB/s of weight bytes, best of the rounds, and the median ratio of the two; packing by one thread.
 *
 * With --many: products of many rows, beside the register-only peaks of the multiplying units on all threads, each taken before and after (the better
 * one counts): 10^9 products per second, the median share of the peak, and the best rate over the best peak for machines that are shared.
 *
 *   bench [--all] [--threads n] [--mib n] [--rounds n] [--rows n] [label part]      rows of activations: 1 and 8, or n
 *   bench --many [--all] [--threads n] [--rounds n] [--rows n] [--n n] [--k n] [label part]      512 rows, 8192 outputs, 2048 elements of k    */
#define _GNU_SOURCE
#include "peaks.h"
#include "weights.h"

#include <stdio.h>
#include <time.h>

enum { MAX_ROUNDS = 64, READ_STEP = 4 * CPU_LINE, READ_AHEAD = 768, MAX_READ_STREAMS = 16 };

typedef uint64_t line __attribute__((vector_size(CPU_LINE), aligned(16)));
typedef struct reading { const uint8_t *at; size_t share, streams; line sums[256]; } reading;

/* Reads a thread's share in streams that begin evenly spaced, and nothing else. */
static sl_status read_share(void *arg, size_t task, unsigned thread)
{
    reading *r = arg;
    const size_t part = r->share / r->streams / READ_STEP * READ_STEP;
    line sum = { 0 };
    for (size_t i = 0; i < part; i += READ_STEP)
        for (size_t s = 0; s < r->streams; s++) {
            const uint8_t *from = r->at + task * r->share + s * part + i;
            for (size_t k = 0; k < READ_STEP; k += CPU_LINE) {
                __builtin_prefetch(from + k + READ_AHEAD, 0, 3);
                sum ^= *(const line *)(const void *)(from + k);
            }
        }
    r->sums[thread % 256] ^= sum;
    return SL_OK;
}

/* The best of 1, 2, 4, 8 and 16 streams per thread: which of them are slow differs among processors, and by half. */
static double read_gbs(cpu_device *device, const uint8_t *at, size_t bytes)
{
    reading r = { .at = at, .share = bytes / device->n_threads / CPU_LINE * CPU_LINE };
    double best = 0;
    for (r.streams = 1; r.streams <= MAX_READ_STREAMS; r.streams *= 2) {
        const uint64_t start = sl_clock_ns();
        cpu_parallel(device, device->n_threads, read_share, &r);
        const double rate = (double)(r.share * device->n_threads) / (double)(sl_clock_ns() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

static int compare(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b; }

/* A product of random weights in `memory` (n_panel panels, all alike) with m rows. */
typedef struct work {
    cpu_segment segment;
    cpu_matrix matrix;
    sl_weight weight;
    sl_op_args args;
    uint8_t *some, *acts;
    float *out;
    double pack_gbs;
} work;

static void make_work(work *w, const sl_impl *row, cpu_device *device, uint8_t *memory, int64_t n_in, size_t n_panel, int m)
{
    const sl_type type = (sl_type)row->type;
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const size_t panel_bytes = cpu_panel_bytes(type, n_in), act_bytes = act_bytes_of(row, n_in), row_bytes = sl_type_row_bytes(info, (size_t)n_in);
    const int64_t n_out = (int64_t)n_panel * CPU_PANEL;
    const size_t out_bytes = ((size_t)n_out * (size_t)m * sizeof *w->out + (2u << 20)) >> 21 << 21;
    uint64_t seed = 8;
    memset(w, 0, sizeof *w);
    w->some = malloc(CPU_PANEL * row_bytes);
    w->acts = malloc(act_bytes * (size_t)m);
    w->out = aligned_alloc(2u << 20, out_bytes);
    random_blocks(&seed, type, CPU_PANEL * ((size_t)n_in / info->block_values), w->some);
    for (size_t i = 0; i < CPU_PANEL * (size_t)n_in && info->block_values == 1; i++) {     /* ordinary numbers: subnormal ones take a hundred times longer */
        const float x = random_float(&seed);
        const uint16_t half = type == SL_TYPE_F16 ? sl_float_to_half(x) : sl_float_to_bf16(x);
        memcpy(w->some + i * info->block_bytes, type == SL_TYPE_F32 ? (const void *)&x : &half, info->block_bytes);
    }
    const uint64_t packing = sl_clock_ns();
    for (size_t p = 0; p < n_panel; p++)
        cpu_panel_pack(type, n_in, w->some, row_bytes, CPU_PANEL, memory + p * panel_bytes);
    w->pack_gbs = (double)(n_panel * panel_bytes) / (double)(sl_clock_ns() - packing);
    for (int t = 0; t < m; t++)
        random_act(&seed, form_of(row), n_in, w->acts + (size_t)t * act_bytes);
    for (size_t i = 0; i < (size_t)m * (size_t)n_in && form_of(row) == SL_ACT_F32; i++)
        ((float *)(void *)w->acts)[i] = random_float(&seed);
    w->segment = (cpu_segment) { .base = memory };
    device->segments = &w->segment;
    w->matrix = (cpu_matrix) { .type = type, .n_in = n_in, .n_out = n_out, .n_mat = 1, .packed = 1, .stride = panel_bytes };
    w->weight = (sl_weight) { .type = type, .n_in = n_in, .n_out = n_out, .n_mat = 1, .handle = &w->matrix };
    w->args = (sl_op_args) { .op = SL_OP_MATMUL, .form = form_of(row), .weight = &w->weight };
    w->args.src[0] = (sl_tensor) { .type = SL_TYPE_I8, .ne = { (int64_t)act_bytes, m, 1, 1 }, .stride = { 1, act_bytes, 0, 0 }, .data = w->acts };
    w->args.dst = (sl_tensor) { .type = SL_TYPE_F32, .ne = { n_out, m, 1, 1 }, .stride = { 4, 4 * (size_t)n_out, 0, 0 }, .data = w->out };
    w->args.scratch = sl_mem_alloc(&device->mem, 1, row->scratch(row, device, &w->args) + 64);
}

static void free_work(work *w, cpu_device *device)
{
    sl_mem_free(&device->mem, w->args.scratch);
    free(w->some);
    free(w->acts);
    free(w->out);
}

static void run_work(work *w, const sl_impl *row, cpu_device *device)
{
    if (row->run(row, device, &w->args) != SL_OK)
        abort();
}

static void bench_row(const sl_impl *row, cpu_device *device, uint8_t *memory, size_t bytes, int m, int rounds)
{
    enum { N_IN = 2048 };
    const size_t panel_bytes = cpu_panel_bytes((sl_type)row->type, N_IN), n_panel = bytes / panel_bytes;
    double ratios[MAX_ROUNDS], best = 0, best_read = 0;
    work w;
    make_work(&w, row, device, memory, N_IN, n_panel, m);
    for (int i = 0; i < rounds; i++) {
        const double read = read_gbs(device, memory, n_panel * panel_bytes);
        const uint64_t start = sl_clock_ns();
        run_work(&w, row, device);
        const double gbs = (double)(n_panel * panel_bytes) / (double)(sl_clock_ns() - start);
        ratios[i] = gbs / read;
        best = gbs > best ? gbs : best;
        best_read = read > best_read ? read : best_read;
    }
    qsort(ratios, (size_t)rounds, sizeof *ratios, compare);
    printf("%-28s m %d  %6.2f GB/s  read %6.2f  ratio %.2f  %7.2f G products/s  packing %.2f GB/s\n", row->label, m, best, best_read, ratios[rounds / 2],
           best / ((double)panel_bytes / (CPU_PANEL * N_IN)) * m, w.pack_gbs);
    fflush(stdout);
    free_work(&w, device);
}

/* Nanoseconds; of computing time with one thread, which other programs on the machine do not lengthen. */
static uint64_t now_of(const cpu_device *device)
{
    struct timespec t;
    if (device->n_threads > 1 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t))
        return sl_clock_ns();
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A product with many rows: shape n outputs, k elements. */
static void bench_many(const sl_impl *row, cpu_device *device, uint8_t *memory, size_t n, size_t k, int m, int rounds)
{
    static const int units[] = { PEAK_VNNI, PEAK_AMX_INT8 };
    enum { UNITS = sizeof units / sizeof *units };
    const uint32_t levels = cpu_permitted(cpu_features());
    const size_t n_panel = n / CPU_PANEL;
    double rates[MAX_ROUNDS], shares[UNITS][MAX_ROUNDS], best[UNITS] = { 0 };
    work w;
    make_work(&w, row, device, memory, (int64_t)k, n_panel, m);
    run_work(&w, row, device);
    for (int i = 0; i < rounds; i++) {
        double peak[UNITS];
        for (int u = 0; u < UNITS; u++)
            peak[u] = peak_gmacs(device, levels, units[u]);
        const uint64_t start = now_of(device);
        run_work(&w, row, device);
        rates[i] = (double)(n_panel * CPU_PANEL * k) * m / (double)(now_of(device) - start);
        for (int u = 0; u < UNITS; u++) {
            const double after = peak_gmacs(device, levels, units[u]);
            peak[u] = after > peak[u] ? after : peak[u];
            shares[u][i] = peak[u] > 0 ? rates[i] / peak[u] : 0;
            best[u] = peak[u] > best[u] ? peak[u] : best[u];
        }
    }
    qsort(rates, (size_t)rounds, sizeof *rates, compare);
    printf("%-28s m %d  %7.1f G products/s (best %7.1f)", row->label, m, rates[rounds / 2], rates[rounds - 1]);
    for (int u = 0; u < UNITS; u++) {
        qsort(shares[u], (size_t)rounds, sizeof *shares[u], compare);
        printf("  %s %7.1f share %.3f (best by best %.3f)", peak_names[units[u]], best[u], shares[u][rounds / 2], best[u] > 0 ? rates[rounds - 1] / best[u] : 0);
    }
    printf("\n");
    fflush(stdout);
    free_work(&w, device);
}

typedef struct options { unsigned n_threads; size_t mib, n, k; int all, rounds, many, m; const char *part; } options;

static options read_options(int argc, char **argv)
{
    options o = { .mib = 512, .n = 8192, .k = 2048, .rounds = 5, .part = "" };
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (!strcmp(argv[i], "--all"))
            o.all = 1;
        else if (!strcmp(argv[i], "--many"))
            o.many = 1;
        else if (argv[i][0] != '-')
            o.part = argv[i];
        else if (!strcmp(argv[i], "--threads"))
            o.n_threads = (unsigned)atoi(value), i++;
        else if (!strcmp(argv[i], "--mib"))
            o.mib = (size_t)atoi(value), i++;
        else if (!strcmp(argv[i], "--rounds"))
            o.rounds = atoi(value), i++;
        else if (!strcmp(argv[i], "--rows"))
            o.m = atoi(value), i++;
        else if (!strcmp(argv[i], "--n"))
            o.n = (size_t)atoi(value), i++;
        else if (!strcmp(argv[i], "--k"))
            o.k = (size_t)atoi(value), i++;
    }
    o.rounds = o.rounds < 1 ? 1 : o.rounds > MAX_ROUNDS ? MAX_ROUNDS : o.rounds;
    return o;
}

static void bench(const sl_impl *row, const options *o, cpu_device *device, uint8_t *memory)
{
    if (o->many && cpu_panel_bytes((sl_type)row->type, (int64_t)o->k) * (o->n / CPU_PANEL) <= o->mib << 20)
        bench_many(row, device, memory, o->n, o->k, o->m > 0 ? o->m : 512, o->rounds);
    if (!o->many)
        bench_row(row, device, memory, o->mib << 20, o->m > 0 ? o->m : 1, o->rounds);
    if (!o->many && o->m <= 0)
        bench_row(row, device, memory, o->mib << 20, 8, o->rounds);
}

int main(int argc, char **argv)
{
    const sl_impl *rows[1024];
    const size_t n_rows = rows_of_machine(rows, 1024);
    const options o = read_options(argc, argv);
    unsigned n_worked;
    sl_mem mem;
    cpu_device device = { 0 };
    if (sl_mem_init(&mem, NULL) != SL_OK || cpu_pool_create(&device.pool, &mem, o.n_threads) != SL_OK)
        return 1;
    device.mem = mem;
    device.streams = cpu_streams();
    device.n_threads = cpu_pool_threads(device.pool, &n_worked);
    uint8_t *memory = sl_mem_pages(&mem, o.mib << 20);
    if (!memory)
        return 1;
    printf("%u threads, best and median of %d rounds\n", device.n_threads, o.rounds);
    for (size_t i = 0; i < n_rows; i++) {
        int better = 0;
        for (size_t k = 0; k < i; k++)
            better |= rows[k]->op == rows[i]->op && rows[k]->type == rows[i]->type && rows[i]->op == SL_OP_MATMUL && form_of(rows[k]) == form_of(rows[i]);
        if (rows[i]->op != SL_OP_MATMUL || (better && !o.all) || !strstr(rows[i]->label, o.part))
            continue;
        if (!o.all && rows[i]->level <= CPU_SCALAR_FMA && !*o.part)
            continue;       /* types that have no kernel in lanes take minutes */
        bench(rows[i], &o, &device, memory);
    }
    sl_mem_pages_free(&mem, memory, o.mib << 20);
    cpu_pool_free(device.pool);
    return 0;
}
