/* SPDX-License-Identifier: MIT */
/* bench_float.c - products of float matrices with many rows, by the CPU backend and by a module (OpenBLAS), beside the peak of FP32 fused multiply-adds in the same round.
 * 10^9 floating-point operations per second (two for each product), medians of the rounds; with one thread by processor time.
 *
 *   bench-float [--threads n] [--rounds n] [--rows n] [--n n --k n] [MODULE]      32, 128 and 512 rows of the matrices of a 1B model */
#define _GNU_SOURCE
#include "peaks.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROUNDS = 32, BACKENDS = 2 };
static const sl_type types[] = { SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16 };

typedef struct options { unsigned n_threads; int rounds, m; int64_t n, k; const char *module; } options;

typedef struct side { sl_device device; const sl_impl *impl; sl_weight weight; sl_op_args args; double rates[MAX_ROUNDS]; } side;

/* Numbers between -1 and 1 of the type, whatever the place. */
static sl_status read_some(uint64_t offset, void *to, size_t bytes, void *user)
{
    const sl_type type = *(const sl_type *)user;
    const size_t size = sl_type_get((uint32_t)type)->block_bytes;
    uint64_t seed = offset + 1;
    for (size_t i = 0; i < bytes / size; i++) {
        const float x = random_float(&seed);
        const uint16_t half = type == SL_TYPE_F16 ? sl_float_to_half(x) : sl_float_to_bf16(x);
        memcpy((char *)to + i * size, type == SL_TYPE_F32 ? (const void *)&x : &half, size);
    }
    return SL_OK;
}

static sl_status go_on(uint64_t done, void *user) { return (void)done, (void)user, SL_OK; }

static void must(sl_status status)
{
    if (status != SL_OK) {
        printf("%s\n", sl_last_error());
        exit(1);
    }
}

static float *memory(size_t bytes)
{
    void *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return p ? memset(p, 0, bytes) : (exit(1), NULL);
}

static void prepare(side *s, sl_type type, int64_t n, int64_t k, int m, float *x, float *y)
{
    s->weight = (sl_weight) { .name = "w", .type = type, .form = SL_ACT_F32, .n_in = k, .n_out = n, .n_mat = 1 };
    const sl_weight_source source = { .weight = &s->weight, .read = read_some, .progress = go_on, .user = &type };
    must(s->device.backend->place(s->device.handle, &source, &s->weight.handle));
    s->args = (sl_op_args) { .op = SL_OP_MATMUL, .form = SL_ACT_F32, .weight = &s->weight };
    s->args.src[0] = (sl_tensor) { .type = SL_TYPE_F32, .ne = { k, m, 1, 1 }, .stride = { 4, 4 * (size_t)k, 4 * (size_t)(k * m), 4 * (size_t)(k * m) }, .data = x };
    s->args.dst = (sl_tensor) { .type = SL_TYPE_F32, .ne = { n, m, 1, 1 }, .stride = { 4, 4 * (size_t)n, 4 * (size_t)(n * m), 4 * (size_t)(n * m) }, .data = y };
    for (size_t i = 0; (s->impl = s->device.backend->impl(s->device.handle, i)) != NULL; i++)
        if (s->impl->op == SL_OP_MATMUL && s->impl->accepts(s->impl, s->device.handle, &s->args))
            break;
    if (!s->impl)
        exit(1);
    s->args.scratch = memory(s->impl->scratch(s->impl, s->device.handle, &s->args) + 64);
}

/* Nanoseconds; of computing time with one thread, which other programs on the machine do not lengthen. */
static uint64_t now(unsigned n_threads)
{
    struct timespec t;
    if (n_threads > 1 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t))
        return sl_clock_ns();
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b; }

static void bench(side *sides, int n_sides, sl_type type, int64_t n, int64_t k, int m, const options *o)
{
    cpu_device *cpu = sides[0].device.handle;
    const uint32_t levels = cpu_permitted(cpu_features());
    double peaks[MAX_ROUNDS];
    float *x = memory((size_t)(k * m) * sizeof *x), *y = memory((size_t)(n * m) * sizeof *y);
    uint64_t seed = 3;
    for (int64_t i = 0; i < k * m; i++)
        x[i] = random_float(&seed);
    for (int s = 0; s < n_sides; s++)
        prepare(&sides[s], type, n, k, m, x, y);
    for (int r = 0; r < o->rounds; r++) {
        peaks[r] = 2 * peak_gmacs(cpu, levels, PEAK_FMA);
        for (int s = 0; s < n_sides; s++) {
            const uint64_t start = now(cpu->n_threads);
            must(sides[s].impl->run(sides[s].impl, sides[s].device.handle, &sides[s].args));
            sides[s].rates[r] = 2.0 * (double)(n * k * m) / (double)(now(cpu->n_threads) - start);
        }
        const double after = 2 * peak_gmacs(cpu, levels, PEAK_FMA);
        peaks[r] = after > peaks[r] ? after : peaks[r];
    }
    qsort(peaks, (size_t)o->rounds, sizeof *peaks, compare);
    printf("%-4s %5lld x %5lld  m %4d  peak %6.1f", sl_type_name(type), (long long)k, (long long)n, m, peaks[o->rounds / 2]);
    for (int s = 0; s < n_sides; s++) {
        qsort(sides[s].rates, (size_t)o->rounds, sizeof(double), compare);
        printf("  %s %6.1f (%.2f)", sides[s].impl->label, sides[s].rates[o->rounds / 2], sides[s].rates[o->rounds / 2] / peaks[o->rounds / 2]);
        sides[s].device.backend->unplace(sides[s].device.handle, sides[s].weight.handle);
        free(sides[s].args.scratch);
    }
    printf("\n");
    fflush(stdout);
    free(x);
    free(y);
}

static options read_options(int argc, char **argv)
{
    options o = { .n_threads = 1, .rounds = 5 };
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (argv[i][0] != '-') {
            o.module = argv[i];
            continue;
        }
        const long long number = atoll(value);
        if (!strcmp(argv[i], "--threads"))
            o.n_threads = (unsigned)number;
        else if (!strcmp(argv[i], "--rounds"))
            o.rounds = number < 1 ? 1 : number > MAX_ROUNDS ? MAX_ROUNDS : (int)number;
        else if (!strcmp(argv[i], "--rows"))
            o.m = (int)number;
        else if (!strcmp(argv[i], "--n"))
            o.n = number;
        else if (!strcmp(argv[i], "--k"))
            o.k = number;
        i++;
    }
    return o;
}

int main(int argc, char **argv)
{
    static const struct { int64_t k, n; } shapes[] = { { 2048, 2048 }, { 2048, 8192 }, { 8192, 2048 } };
    static const int rows[] = { 32, 128, 512 };
    const options o = read_options(argc, argv);
    sl_mem mem;
    side sides[BACKENDS] = { 0 };
    must(sl_mem_init(&mem, NULL));
    const sl_backend_options how = { .mem = &mem, .n_threads = o.n_threads, .fail = sl_fail, .last_error = sl_last_error };
    const int n_sides = o.module ? 2 : 1;
    must(sl_device_open(&sides[0].device, "cpu", 3, &how));
    if (o.module)
        must(sl_device_open(&sides[1].device, o.module, strlen(o.module), &how));
    printf("%u threads, medians of %d rounds, GFLOP/s\n", o.n_threads, o.rounds);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t s = 0; s < (o.n ? 1 : sizeof shapes / sizeof *shapes); s++)
            for (size_t m = 0; m < (o.m ? 1 : sizeof rows / sizeof *rows); m++)
                bench(sides, n_sides, types[t], o.n ? o.n : shapes[s].n, o.n ? o.k : shapes[s].k, o.m ? o.m : rows[m], &o);
    for (int s = 0; s < n_sides; s++)
        sl_device_close(&sides[s].device, &mem);
    return 0;
}
