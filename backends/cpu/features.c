/* SPDX-License-Identifier: MIT */
/* features.c - which levels this processor and operating system have. */
#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Register state that the operating system saves: XCR0. */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

uint32_t cpu_features(void)
{
    uint32_t a, b, c, d, levels = CPU_SCALAR;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1))      /* OSXSAVE */
        return levels;
    const uint64_t state = saved_state();
    const int avx = (state & 6) == 6 && (c >> 28 & 1), fma = c >> 12 & 1, f16c = c >> 29 & 1;
    if (!avx || !fma)
        return levels;
    levels |= CPU_SCALAR_FMA;
    if (!f16c || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 5 & 1))
        return levels;
    levels |= CPU_AVX2;
    const uint32_t f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    if ((state & 0xe6) != 0xe6 || (b & f_dq_bw_vl) != f_dq_bw_vl)
        return levels;
    levels |= CPU_AVX512;
    if (!(c >> 11 & 1))
        return levels;
    levels |= CPU_AVX512VNNI;
    if ((state >> 17 & 3) == 3 && (d >> 22 & 1) && (d >> 24 & 1) && (d >> 25 & 1))      /* amx-bf16, amx-tile, amx-int8 */
        levels |= CPU_AMX;
    return levels;
}

/* Measured where a kernel of Q4_K walks matrices, as a share of plain reading: Zen 5 with one thread 1 stream 0.90, 2 0.93, 3 0.82, 4 0.81; Sapphire Rapids 1
 * stream 0.6, 4 0.86. AMD's processors read one or two streams at full speed, and lose track of more where they lie unluckily. */
unsigned cpu_streams(void)
{
    uint32_t a, b, c, d;
    const int amd = __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
    return amd ? 2 : CPU_STREAMS;
}

#if defined(__linux__)
/* arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA): Linux gives the 8 KiB of tile registers only to processes that ask. As an instruction, because the C library
 * has no function for it. */
uint32_t cpu_permitted(uint32_t levels)
{
    enum { ARCH_PRCTL = 158, REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    long result = ARCH_PRCTL;
    if (levels & CPU_AMX) {
        __asm__ volatile("syscall" : "+a"(result) : "D"((long)REQ_XCOMP_PERM), "S"((long)XTILEDATA) : "rcx", "r11", "memory");
        if (result != 0)
            levels &= ~(uint32_t)CPU_AMX;
    }
    return levels;
}
#else
uint32_t cpu_permitted(uint32_t levels) { return levels & ~(uint32_t)CPU_AMX; }
#endif

#elif defined(__aarch64__)
#include <sys/auxv.h>

uint32_t cpu_features(void)
{
    const unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
    uint32_t levels = CPU_SCALAR | CPU_SCALAR_FMA | CPU_NEON;
    if (caps >> 20 & 1)         /* HWCAP_ASIMDDP */
        levels |= CPU_DOTPROD;
    if (caps2 >> 13 & 1)        /* HWCAP2_I8MM */
        levels |= CPU_I8MM;
    return levels;
}

uint32_t cpu_permitted(uint32_t levels) { return levels; }
unsigned cpu_streams(void) { return CPU_STREAMS; }

#else
unsigned cpu_streams(void) { return CPU_STREAMS; }
uint32_t cpu_features(void) { return CPU_SCALAR; }
uint32_t cpu_permitted(uint32_t levels) { return levels; }
#endif
