/* SPDX-License-Identifier: MIT */
/* bench_attention.c - how fast attention of many tokens is: every implementation of this machine that is the best of its cache type (or, with --all, every
 * one) as an operation on all threads, beside the register-only peak of FP32 fused multiply-adds, which is taken before and after each try (the better one
 * counts). 10^9 multiply-accumulates per second of queries with keys and of weights with values, and 10^9 bytes of cache per second (what counts with --tokens 1 behind
 * so many that they fit no cache of the processor), by computing time with one thread; medians.
 *
 *   bench-attention [--all] [--threads n] [--rounds n] [--d n] [--heads n] [--kv n] [--tokens n] [--past n] [label part]
 *
 * Heads of --d 64, --heads 32 of them for --kv 8 key/value heads, --tokens 512 behind --past 4096; "span_attention" sees all keys, the others those before. */
#define _GNU_SOURCE
#include "peaks.h"
#include "weights.h"

#include "kv.h"

#include <math.h>
#include <time.h>

enum { MAX_ROUNDS = 64 };

typedef struct options { unsigned n_threads; int rounds, all; int64_t d, heads, kv, tokens, past; const char *part; } options;

static int compare(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b; }

static uint64_t now_of(const cpu_device *device)
{
    struct timespec t;
    if (device->n_threads > 1 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t))
        return sl_clock_ns();
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static sl_tensor tensor(sl_type type, size_t bytes, int64_t n0, int64_t n1, int64_t n2, void *data)
{
    return (sl_tensor) { .type = type, .ne = { n0, n1, n2, 1 }, .stride = { bytes, bytes * (size_t)n0, bytes * (size_t)(n0 * n1), bytes * (size_t)(n0 * n1 * n2) }, .data = data };
}

static float *random_rows(uint64_t *seed, size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(seed);
    return x;
}

/* A cache of that type, all keys written, and the arguments of an operation. */
typedef struct call { sl_kv_layer cache; float *q, *out; int32_t *at, *pages, spans[2], *ranges; sl_op_args args; } call;

static void make_call(call *c, cpu_device *device, const sl_impl *row, const options *o)
{
    const sl_type type = ((const cpu_attention_kernel *)row->kernel)->cache_type;
    const int64_t n_key = o->past + o->tokens, n_page = (n_key + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS;
    uint64_t bytes = 0, seed = 1;
    if (sl_kv_shape(&c->cache, type, o->d, o->kv, n_page, &bytes) != SL_OK)
        abort();
    c->cache.k.data = sl_mem_pages(&device->mem, c->cache.k.stride[3] * (size_t)n_page);
    c->cache.v.data = sl_mem_pages(&device->mem, c->cache.v.stride[3] * (size_t)n_page);
    c->at = malloc((size_t)n_key * sizeof *c->at), c->pages = malloc((size_t)n_page * sizeof *c->pages), c->ranges = malloc(2 * (size_t)o->tokens * sizeof *c->ranges);
    for (int64_t i = 0; i < n_key; i++)
        c->at[i] = (int32_t)i;
    for (int64_t i = 0; i < n_page; i++)
        c->pages[i] = (int32_t)i;
    for (int64_t i = 0; i < o->tokens; i++)
        c->ranges[2 * i] = 0, c->ranges[2 * i + 1] = 1;
    c->spans[0] = 0, c->spans[1] = (int32_t)n_key;
    float *kv = random_rows(&seed, (size_t)(n_key * o->kv * o->d));
    const sl_tensor rows = tensor(SL_TYPE_F32, 4, o->d, o->kv, n_key, kv), pages = tensor(SL_TYPE_I32, 4, n_page, 1, 1, c->pages);
    const sl_op_args write = { .op = SL_OP_CACHE_WRITE, .src = { rows, rows, c->cache.k, c->cache.v, tensor(SL_TYPE_I32, 4, n_key, 1, 1, c->at), pages } };
    if (write_cache(device, &write) != SL_OK)
        abort();
    free(kv);
    c->q = random_rows(&seed, (size_t)(o->tokens * o->heads * o->d)), c->out = random_rows(&seed, (size_t)(o->tokens * o->heads * o->d));
    c->args = (sl_op_args) { .op = row->op, .src = { tensor(SL_TYPE_F32, 4, o->d, o->heads, o->tokens, c->q), c->cache.k, c->cache.v }, .value = 1.0f / sqrtf((float)o->d),
                             .dst = tensor(SL_TYPE_F32, 4, o->d, o->heads, o->tokens, c->out) };
    c->args.src[3] = row->op == SL_OP_ATTENTION ? tensor(SL_TYPE_I32, 4, o->tokens, 1, 1, c->at + o->past) : tensor(SL_TYPE_I32, 4, 2, 1, 1, c->spans);
    c->args.src[4] = row->op == SL_OP_ATTENTION ? pages : tensor(SL_TYPE_I32, 4, 2, o->tokens, 1, c->ranges);
    c->args.scratch = sl_mem_alloc(&device->mem, 1, row->scratch(row, device, &c->args) + 64);
}

static void free_call(call *c, cpu_device *device)
{
    sl_mem_free(&device->mem, c->args.scratch);
    sl_mem_pages_free(&device->mem, c->cache.k.data, c->cache.k.stride[3] * (size_t)c->cache.k.ne[3]);
    sl_mem_pages_free(&device->mem, c->cache.v.data, c->cache.v.stride[3] * (size_t)c->cache.v.ne[3]);
    free(c->q), free(c->out), free(c->at), free(c->pages), free(c->ranges);
}

static void bench(const sl_impl *row, cpu_device *device, const options *o)
{
    const uint32_t levels = cpu_permitted(cpu_features());
    const int peak = levels & CPU_AVX512 ? PEAK_FMA : PEAK_FMA_AVX2;
    double rates[MAX_ROUNDS], shares[MAX_ROUNDS], best = 0;
    const double keys = row->op == SL_OP_ATTENTION ? (double)o->past + (double)(o->tokens + 1) / 2 : (double)(o->past + o->tokens);
    const double macs = 2 * keys * (double)(o->tokens * o->heads * o->d);
    call c;
    make_call(&c, device, row, o);
    for (int i = 0; i < o->rounds; i++) {
        const double before = peak_gmacs(device, levels, peak);
        const uint64_t start = now_of(device);
        if (row->run(row, device, &c.args) != SL_OK)
            abort();
        rates[i] = macs / (double)(now_of(device) - start);
        const double after = peak_gmacs(device, levels, peak);
        shares[i] = rates[i] / (before > after ? before : after);
        best = before > best ? before : after > best ? after : best;
    }
    qsort(rates, (size_t)o->rounds, sizeof *rates, compare);
    qsort(shares, (size_t)o->rounds, sizeof *shares, compare);
    const double bytes = keys * (double)(c.cache.k.stride[3] + c.cache.v.stride[3]) / SL_PAGE_KEYS;
    printf("%-32s %7.1f GMAC/s (best %7.1f)  %s %7.1f  share %.3f  %6.1f GB/s\n", row->label, rates[o->rounds / 2], rates[o->rounds - 1], peak_names[peak], best, shares[o->rounds / 2],
           rates[o->rounds / 2] * bytes / macs);
    fflush(stdout);
    free_call(&c, device);
}

static options read_options(int argc, char **argv)
{
    options o = { .n_threads = 1, .rounds = 5, .d = 64, .heads = 32, .kv = 8, .tokens = 512, .past = 4096, .part = "" };
    const struct { const char *name; int64_t *to; } numbers[] = { { "--d", &o.d }, { "--heads", &o.heads }, { "--kv", &o.kv }, { "--tokens", &o.tokens }, { "--past", &o.past } };
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (!strcmp(argv[i], "--all"))
            o.all = 1;
        else if (argv[i][0] != '-')
            o.part = argv[i];
        else if (!strcmp(argv[i], "--threads"))
            o.n_threads = (unsigned)atoi(value), i++;
        else if (!strcmp(argv[i], "--rounds"))
            o.rounds = atoi(value), i++;
        else
            for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
                if (!strcmp(argv[i], numbers[k].name))
                    *numbers[k].to = atoll(value), i++, k = sizeof numbers / sizeof *numbers;
    }
    o.rounds = o.rounds < 1 ? 1 : o.rounds > MAX_ROUNDS ? MAX_ROUNDS : o.rounds;
    return o;
}

static int has_better(const sl_impl *const *rows, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (rows[k]->op == rows[i]->op && ((const cpu_attention_kernel *)rows[k]->kernel)->cache_type == ((const cpu_attention_kernel *)rows[i]->kernel)->cache_type)
            return 1;
    return 0;
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
    device.n_threads = cpu_pool_threads(device.pool, &n_worked);
    printf("%u threads, %d rounds; heads of %d, %d:%d, %d tokens behind %d\n", device.n_threads, o.rounds, (int)o.d, (int)o.heads, (int)o.kv, (int)o.tokens, (int)o.past);
    for (size_t i = 0; i < n_rows; i++)
        if ((rows[i]->op == SL_OP_ATTENTION || rows[i]->op == SL_OP_SPAN_ATTENTION) && strstr(rows[i]->label, o.part) && (o.all || !has_better(rows, i)) &&
            (o.all || rows[i]->level > CPU_SCALAR_FMA) && !(((const cpu_attention_kernel *)rows[i]->kernel)->cache_type == SL_TYPE_Q8_0 && o.d % 32))
            bench(rows[i], &device, &o);
    cpu_pool_free(device.pool);
    return 0;
}
