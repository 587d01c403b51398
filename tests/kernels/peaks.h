/* SPDX-License-Identifier: MIT */
/* peaks.h - what the multiplying units of this processor can do when nothing else limits them: products in registers only, on data that are not zeros
 * (which run faster). In 10^9 products of one thread per second; 0 if the processor lacks the unit or the operating system refuses it. */
#ifndef SL_TESTS_PEAKS_H
#define SL_TESTS_PEAKS_H

#include "cpu.h"
#include "platform.h"

/* Which peak: X(NAME, "name", level). */
#define PEAKS(X) X(VNNI, "VNNI", CPU_AVX512VNNI) X(AMX_INT8, "AMX int8", CPU_AMX) X(AMX_BF16, "AMX bf16", CPU_AMX) X(FMA, "FP32 FMA", CPU_AVX512) \
    X(FMA_AVX2, "FP32 FMA of avx2", CPU_AVX2)
enum {
#define PEAK_ENUM(name, text, level) PEAK_##name,
    PEAKS(PEAK_ENUM)
#undef PEAK_ENUM
    PEAK_COUNT
};

#if defined(__x86_64__)
#include <immintrin.h>

enum { PEAK_STEPS = 60000, PEAK_CHAINS = 12 };

__attribute__((target("avx512f,avx512vnni"))) static double peak_vnni(void)
{
    __m512i s[PEAK_CHAINS], v = _mm512_set1_epi32(0x5a3c7719);
    for (int i = 0; i < PEAK_CHAINS; i++)
        s[i] = v;
    const uint64_t start = sl_clock_ns();
    for (int k = 0; k < PEAK_STEPS; k++) {
        _Pragma("GCC unroll 12") for (int i = 0; i < PEAK_CHAINS; i++)
            s[i] = _mm512_dpbusd_epi32(s[i], v, v);
        __asm__ volatile("" : "+v"(v));
    }
    for (int i = 0; i < PEAK_CHAINS; i++)
        __asm__ volatile("" : : "v"(s[i]));
    return PEAK_STEPS * PEAK_CHAINS * 64.0 / (double)(sl_clock_ns() - start);
}

#define PEAK_FMA_OF(name, isa, type, set, product, macs)                                                                                            \
    __attribute__((target(isa))) static double name(void)                                                                                          \
    {                                                                                                                                              \
        type s[PEAK_CHAINS], v = set(0.5f);                                                                                                        \
        for (int i = 0; i < PEAK_CHAINS; i++)                                                                                                      \
            s[i] = v;                                                                                                                              \
        const uint64_t start = sl_clock_ns();                                                                                                      \
        for (int k = 0; k < PEAK_STEPS; k++) {                                                                                                     \
            _Pragma("GCC unroll 12") for (int i = 0; i < PEAK_CHAINS; i++)                                                                         \
                s[i] = product(s[i], v, v);                                                                                                        \
            __asm__ volatile("" : "+v"(v));                                                                                                        \
        }                                                                                                                                          \
        for (int i = 0; i < PEAK_CHAINS; i++)                                                                                                      \
            __asm__ volatile("" : : "v"(s[i]));                                                                                                    \
        return PEAK_STEPS * PEAK_CHAINS * (macs) / (double)(sl_clock_ns() - start);                                                                \
    }
PEAK_FMA_OF(peak_fma, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, 16.0)
PEAK_FMA_OF(peak_fma_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, 8.0)

/* Four tiles of 16 lines of 64 bytes, and four sums. */
#define PEAK_TILES(name, product, macs)                                                                                                            \
    __attribute__((target("amx-tile,amx-int8,amx-bf16"))) static double name(void)                                                                 \
    {                                                                                                                                              \
        struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = { .palette = 1 };                              \
        _Alignas(64) uint32_t tile[256];                                                                                                           \
        for (int i = 0; i < 8; i++)                                                                                                                \
            config.bytes[i] = 64, config.rows[i] = 16;                                                                                             \
        for (uint32_t i = 0; i < 256; i++)                                                                                                         \
            tile[i] = (i * 2654435761u & 0x3f7f3f7fu) | 0x30003000u;                                                                               \
        __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");                                                                               \
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);                                                                                \
        __asm__ volatile("" : : "r"(tile) : "memory");                                                                                             \
        _tile_loadd(4, tile, 64); _tile_loadd(5, tile, 64); _tile_loadd(6, tile, 64); _tile_loadd(7, tile, 64);                                    \
        const uint64_t start = sl_clock_ns();                                                                                                      \
        for (int k = 0; k < PEAK_STEPS / 4; k++) {                                                                                                 \
            product(0, 4, 6); product(1, 4, 7); product(2, 5, 6); product(3, 5, 7);                                                                \
        }                                                                                                                                          \
        const double rate = PEAK_STEPS * (double)(macs) / (double)(sl_clock_ns() - start);                                                         \
        _tile_release();                                                                                                                           \
        return rate;                                                                                                                               \
    }
PEAK_TILES(peak_amx_int8, _tile_dpbssd, 16384)
PEAK_TILES(peak_amx_bf16, _tile_dpbf16ps, 8192)

static double peak_of(int which)
{
    static double (*const peaks[PEAK_COUNT])(void) = { [PEAK_VNNI] = peak_vnni, [PEAK_AMX_INT8] = peak_amx_int8, [PEAK_AMX_BF16] = peak_amx_bf16, [PEAK_FMA] = peak_fma,
                                                             [PEAK_FMA_AVX2] = peak_fma_avx2 };
    return peaks[which]();
}
#else
static double peak_of(int which) { return (void)which, 0; }
#endif

static const char *const peak_names[] = {
#define PEAK_NAME(name, text, level) text,
    PEAKS(PEAK_NAME)
#undef PEAK_NAME
};
static const uint32_t peak_levels[] = {
#define PEAK_LEVEL(name, text, level) level,
    PEAKS(PEAK_LEVEL)
#undef PEAK_LEVEL
};

typedef struct peak_job { int which; double rates[256]; } peak_job;

static sl_status peak_task(void *arg, size_t task, unsigned thread)
{
    peak_job *job = arg;
    (void)thread;
    job->rates[task] = peak_of(job->which);
    return SL_OK;
}

/* Of all threads of the pool together; `levels` as cpu_permitted() gives them. */
static double peak_gmacs(cpu_device *device, uint32_t levels, int which)
{
    peak_job job = { .which = which };
    double sum = 0;
    if (!(levels & peak_levels[which]))
        return 0;
    const size_t n = device->n_threads < 256 ? device->n_threads : 256;
    cpu_parallel(device, n, peak_task, &job);
    for (size_t i = 0; i < n; i++)
        sum += job.rates[i];
    return sum;
}

#endif
