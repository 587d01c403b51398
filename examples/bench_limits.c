/* SPDX-License-Identifier: MIT */
/* bench_limits.c - what the machine can do: multiply-accumulates that touch nothing but registers, and reading memory, by all threads at once.
 * Works without compiler flags: functions carry their instruction set, and run only if the processor has it and --cpu-level allows it. */
#define _GNU_SOURCE     /* madvise, syscall */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

const struct peak_name peak_names[N_PEAKS] = {
    [PEAK_VNNI] = { "vnni_gmac_s", "VNNI" }, [PEAK_AMX_INT8] = { "amx_int8_gmac_s", "AMX int8" }, [PEAK_AMX_BF16] = { "amx_bf16_gmac_s", "AMX bf16" },
    [PEAK_FP32] = { "fp32_gmac_s", "FP32 FMA" }, [PEAK_DOTPROD] = { "dotprod_gmac_s", "dotprod" },
};

/* ---- all threads at once ---- */

struct crew { unsigned n; atomic_uint arrived, next; void (*work)(unsigned thread, void *arg); void *arg; double *begin, *end; };

static void *crew_member(void *arg)
{
    struct crew *c = arg;
    const unsigned thread = atomic_fetch_add(&c->next, 1);
    atomic_fetch_add(&c->arrived, 1);
    while (atomic_load(&c->arrived) < c->n)
        sched_yield();
    c->begin[thread] = seconds();
    c->work(thread, c->arg);
    c->end[thread] = seconds();
    return NULL;
}

/* Runs work(0 .. n - 1, arg), each on a thread of its own, and returns the seconds from the first beginning to the last end. */
static double run_crew(unsigned n, void (*work)(unsigned thread, void *arg), void *arg)
{
    struct crew c = { .n = n, .work = work, .arg = arg, .begin = take(n, sizeof(double)), .end = take(n, sizeof(double)) };
    pthread_t *threads = take(n, sizeof *threads);
    for (unsigned i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, crew_member, &c) != 0)
            fail("threads: no more than %u", i);
    crew_member(&c);
    for (unsigned i = 1; i < n; i++)
        pthread_join(threads[i], NULL);
    double begin = c.begin[0], end = c.end[0];
    for (unsigned i = 1; i < n; i++) {
        begin = c.begin[i] < begin ? c.begin[i] : begin;
        end = c.end[i] > end ? c.end[i] : end;
    }
    free(threads);
    free(c.begin);
    free(c.end);
    return end - begin;
}

/* ---- levels ---- */

/* 1 if a ceiling (NULL: none) allows a level. In ascending order, by family. */
static int allowed(const char *ceiling, const char *level)
{
    static const char *const levels[] = { "scalar", "avx2", "avx512", "avx512vnni", "amx", "scalar", "neon", "dotprod", "i8mm" };
    if (!ceiling)
        return 1;
    int found = 0;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strcmp(levels[i], "scalar") == 0)
            found = 0;
        found |= strcmp(levels[i], level) == 0;
        if (found && strcmp(levels[i], ceiling) == 0)
            return 1;
    }
    return 0;
}

/* ---- registers only ---- */

/* Data that are not zero: zeros would run faster on some machines. */
static struct operands { _Alignas(64) uint8_t bytes[1024]; _Alignas(64) uint16_t bf16[512]; _Alignas(64) float floats[16]; } operands;

static void fill_operands(void)
{
    uint32_t r = 1;
    for (size_t i = 0; i < sizeof operands.bytes; i++)
        operands.bytes[i] = (uint8_t)((r = r * 1664525u + 1013904223u) >> 24);
    for (size_t i = 0; i < 512; i++)    /* about 1, of both signs */
        operands.bf16[i] = (uint16_t)(((r = r * 1664525u + 1013904223u) >> 16 & 0x807f) | 0x3f00);
    for (size_t i = 0; i < 16; i++)
        operands.floats[i] = (float)((r = r * 1664525u + 1013904223u) >> 16) * 0x1p-16f - 0.5f;
}

/* A turn is one instruction on each of twelve sums, so that each may wait for its last addition. In one piece of assembly, from loading on: compilers would
 * spill the sums, or see that they are all the same. */
enum { CHAINS = 12 };
#define TWELVE(a, b) a "0" b a "1" b a "2" b a "3" b a "4" b a "5" b a "6" b a "7" b a "8" b a "9" b a "10" b a "11" b

#if defined(__x86_64__)

#define VECTORS "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13"
#define RUN_CHAINS(instruction, width, turns, from)                                                                         \
    __asm__ volatile(TWELVE("vmovups (%[at]), %%" width, "\n\t")                                                            \
                     "vmovups (%[at]), %%" width "12\n\tvmovups (%[at]), %%" width "13\n"                                   \
                     "1:\n\t" TWELVE(instruction " %%" width "12, %%" width "13, %%" width, "\n\t")                         \
                     "dec %[n]\n\tjnz 1b\n\tvzeroupper"                                                                    \
                     : [n] "+r"(turns) : [at] "r"(from) : "memory", "cc", VECTORS)

__attribute__((target("avx512f,avx512vnni"))) static void run_vnni(uint64_t turns) { RUN_CHAINS("vpdpbusd", "zmm", turns, operands.bytes); }
__attribute__((target("avx512f"))) static void run_fma512(uint64_t turns) { RUN_CHAINS("vfmadd231ps", "zmm", turns, operands.floats); }
__attribute__((target("avx2,fma"))) static void run_fma256(uint64_t turns) { RUN_CHAINS("vfmadd231ps", "ymm", turns, operands.floats); }

/* Palette 1; eight tiles of 16 rows of 64 bytes. */
static const struct tile_config { uint8_t palette, start, pad[14]; uint16_t row_bytes[16]; uint8_t rows[16]; } tile_config = {
    .palette = 1, .row_bytes = { 64, 64, 64, 64, 64, 64, 64, 64 }, .rows = { 16, 16, 16, 16, 16, 16, 16, 16 },
};

/* Four products a turn, of two tiles with two others. */
#define TILE_PRODUCTS(instruction, turns, from)                                                                             \
    __asm__ volatile("ldtilecfg %[config]\n\t"                                                                              \
                     "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"                         \
                     "tileloadd (%[at],%[stride]), %%tmm4\n\ttileloadd (%[at],%[stride]), %%tmm5\n\t"                       \
                     "tileloadd (%[at],%[stride]), %%tmm6\n\ttileloadd (%[at],%[stride]), %%tmm7\n"                         \
                     "1:\n\t" instruction " %%tmm6, %%tmm4, %%tmm0\n\t" instruction " %%tmm7, %%tmm4, %%tmm1\n\t"           \
                     instruction " %%tmm6, %%tmm5, %%tmm2\n\t" instruction " %%tmm7, %%tmm5, %%tmm3\n\t"                    \
                     "dec %[n]\n\tjnz 1b\n\ttilerelease"                                                                    \
                     : [n] "+r"(turns) : [config] "m"(tile_config), [at] "r"(from), [stride] "r"((size_t)64) : "memory", "cc")

__attribute__((target("amx-tile,amx-int8"))) static void run_amx_int8(uint64_t turns) { TILE_PRODUCTS("tdpbssd", turns, operands.bytes); }
__attribute__((target("amx-tile,amx-bf16"))) static void run_amx_bf16(uint64_t turns) { TILE_PRODUCTS("tdpbf16ps", turns, operands.bf16); }

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void) { return __builtin_cpu_supports("avx512f"); }
static int has_vnni(void) { return __builtin_cpu_supports("avx512vnni"); }

/* The processor has tiles of both kinds, and Linux lets this process use them: it must have been asked, before there are threads. */
static int has_amx(void)
{
#if defined(__linux__)
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    uint32_t a, b, c, d;
    return has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1) && (d >> 25 & 1) && syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return 0;
#endif
}

#elif defined(__aarch64__)

#if defined(__clang__)
#define DOTPROD "dotprod"
#else
#define DOTPROD "arch=armv8.2-a+dotprod"
#endif
#define VECTORS "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13"
#define RUN_CHAINS(instruction, lanes, turns, from)                                                                         \
    __asm__ volatile(TWELVE("ld1 {v", ".4s}, [%[at]]\n\t") "ld1 {v12.4s}, [%[at]]\n\tld1 {v13.4s}, [%[at]]\n"              \
                     "1:\n\t" TWELVE(instruction " v", ".4s, v12." lanes ", v13." lanes "\n\t")                            \
                     "subs %[n], %[n], #1\n\tb.ne 1b"                                                                       \
                     : [n] "+r"(turns) : [at] "r"(from) : "memory", "cc", VECTORS)

__attribute__((target(DOTPROD))) static void run_dotprod(uint64_t turns) { RUN_CHAINS("sdot", "16b", turns, operands.bytes); }
static void run_fma128(uint64_t turns) { RUN_CHAINS("fmla", "4s", turns, operands.floats); }

static int has_neon(void) { return 1; }
static int has_dotprod(void) { return (int)(getauxval(AT_HWCAP) >> 20 & 1); }

#endif

/* Best first where several serve one peak. `macs`: multiply-accumulates of a turn. */
static const struct row { enum peak peak; const char *level; int (*has)(void); void (*run)(uint64_t turns); double macs; } rows[] = {
#if defined(__x86_64__)
    { PEAK_VNNI, "avx512vnni", has_vnni, run_vnni, CHAINS * 64 },
    { PEAK_AMX_INT8, "amx", has_amx, run_amx_int8, 4 * 16 * 16 * 64 },
    { PEAK_AMX_BF16, "amx", has_amx, run_amx_bf16, 4 * 16 * 16 * 32 },
    { PEAK_FP32, "avx512", has_avx512, run_fma512, CHAINS * 16 },
    { PEAK_FP32, "avx2", has_avx2, run_fma256, CHAINS * 8 },
#elif defined(__aarch64__)
    { PEAK_DOTPROD, "dotprod", has_dotprod, run_dotprod, CHAINS * 16 },
    { PEAK_FP32, "neon", has_neon, run_fma128, CHAINS * 4 },
#endif
    { N_PEAKS, NULL, NULL, NULL, 0 },
};

struct turns { const struct row *row; uint64_t n; };

static void run_turns(unsigned thread, void *arg)
{
    const struct turns *t = arg;
    (void)thread;
    t->row->run(t->n);
}

/* Best of some tries of about 20 ms each, in GMAC/s. */
static double measure_row(const struct row *row, unsigned n_threads)
{
    struct turns t = { row, 1000 };
    while (run_crew(n_threads, run_turns, &t) < 0.01)
        t.n *= 2;
    double best = 0;
    for (int i = 0; i < 5; i++) {
        const double rate = (double)n_threads * (double)t.n * row->macs * 1e-9 / run_crew(n_threads, run_turns, &t);
        best = rate > best ? rate : best;
    }
    return best;
}

void measure_peaks(double best[N_PEAKS], unsigned n_threads, const char *cpu_level)
{
    int done[N_PEAKS] = { 0 };
    fill_operands();
    for (const struct row *row = rows; row->peak != N_PEAKS; row++)
        if (!done[row->peak] && allowed(cpu_level, row->level) && row->has()) {
            const double rate = measure_row(row, n_threads);
            best[row->peak] = rate > best[row->peak] ? rate : best[row->peak];
            done[row->peak] = 1;
        }
}

/* ---- reading ---- */

enum { LINE = 64, STEP = 4 * LINE, AHEAD = 768, MAX_STREAMS = 16 };
enum { READ_BYTES = 1 << 30, HUGE_PAGE = 1 << 21 };

typedef uint64_t line __attribute__((vector_size(64)));
static atomic_uint sink;    /* what was read goes somewhere, or the compiler would leave the reading out */

/* Reads `bytes` bytes in `streams` streams that begin evenly spaced, and nothing else. */
__attribute__((always_inline)) static inline void read_streams(const uint8_t *at, size_t bytes, size_t streams)
{
    const size_t share = bytes / streams / STEP * STEP;
    line sum = { 0 };
    for (size_t i = 0; i < share; i += STEP)
        for (size_t s = 0; s < streams; s++) {
            const uint8_t *from = at + s * share + i;
#pragma GCC unroll 4
            for (size_t k = 0; k < STEP; k += LINE) {
                __builtin_prefetch(from + k + AHEAD, 0, 3);
                sum ^= *(const line *)(const void *)(from + k);
            }
        }
    atomic_fetch_add(&sink, (unsigned)(sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7]));
}

static void read_plain(const uint8_t *at, size_t bytes, size_t streams) { read_streams(at, bytes, streams); }
#if defined(__x86_64__)
__attribute__((target("avx2"))) static void read_avx2(const uint8_t *at, size_t bytes, size_t streams) { read_streams(at, bytes, streams); }
__attribute__((target("avx512f"))) static void read_avx512(const uint8_t *at, size_t bytes, size_t streams) { read_streams(at, bytes, streams); }
#endif

struct reading { unsigned n_threads; uint8_t *memory; size_t room, share; size_t streams; void (*read)(const uint8_t *at, size_t bytes, size_t streams); };

static void fill_share(unsigned thread, void *arg)      /* by its reader: the pages come from the memory that is near it */
{
    const struct reading *r = arg;
    memset(r->memory + thread * r->share, 0x5a, r->share);
}

static void read_share(unsigned thread, void *arg)
{
    const struct reading *r = arg;
    r->read(r->memory + thread * r->share, r->share, r->streams);
}

struct reading *open_reading(unsigned n_threads, const char *cpu_level)
{
    struct reading *r = take(1, sizeof *r);
    const size_t least = (size_t)MAX_STREAMS * STEP;
    r->n_threads = n_threads;
    r->share = (READ_BYTES + n_threads - 1) / n_threads;
    r->share = (r->share + least - 1) / least * least;
    r->room = (r->share * n_threads + AHEAD + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    r->memory = aligned_alloc(HUGE_PAGE, r->room);
    if (!r->memory)
        fail("memory: no %zu bytes to read", r->room);
#if defined(MADV_HUGEPAGE)
    madvise(r->memory, r->room, MADV_HUGEPAGE);
#endif
    r->read = read_plain;
#if defined(__x86_64__)
    if (allowed(cpu_level, "avx512") && has_avx512())
        r->read = read_avx512;
    else if (allowed(cpu_level, "avx2") && has_avx2())
        r->read = read_avx2;
#endif
    (void)cpu_level;
    run_crew(n_threads, fill_share, r);
    return r;
}

double measure_reading(struct reading *r)
{
    double best = 0;
    for (r->streams = 1; r->streams <= MAX_STREAMS; r->streams *= 2) {
        const double rate = (double)r->share * r->n_threads * 1e-9 / run_crew(r->n_threads, read_share, r);
        best = rate > best ? rate : best;
    }
    return best;
}

void close_reading(struct reading *r)
{
    free(r->memory);
    free(r);
}

const char *machine_name(void)
{
    static char name[256];
    char text[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !*name && fgets(text, sizeof text, file))
        if (strncmp(text, "model name", 10) == 0 && strchr(text, ':'))
            snprintf(name, sizeof name, "%.*s", (int)strcspn(strchr(text, ':') + 2, "\n"), strchr(text, ':') + 2);
    if (file)
        fclose(file);
    struct utsname system;
    if (!*name && uname(&system) == 0)
        snprintf(name, sizeof name, "%.200s", system.machine);
    return name;
}
