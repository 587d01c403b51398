/* SPDX-License-Identifier: MIT */
/* fpenv.h - the floating-point control state: nearest, subnormals kept, exceptions masked, whatever the host has set (a host linked with
 * -ffast-math flushes subnormals). Every thread that computes enters on the way in and restores on the way out. */
#ifndef SL_FPENV_H
#define SL_FPENV_H

#include <stdint.h>

static inline uint64_t sl_fp_get(void)
{
#if defined(__x86_64__) || defined(__SSE2__)
    return __builtin_ia32_stmxcsr();
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
#else
    return 0;
#endif
}

static inline void sl_fp_set(uint64_t state)
{
#if defined(__x86_64__) || defined(__SSE2__)
    __builtin_ia32_ldmxcsr((uint32_t)state);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(state));
#else
    (void)state;
#endif
}

/* Sets the state of the library and returns what to hand to sl_fp_set afterwards. */
static inline uint64_t sl_fp_enter(void)
{
    uint64_t before = sl_fp_get();
#if defined(__aarch64__)
    sl_fp_set(0);
#else
    sl_fp_set(0x1f80);
#endif
    return before;
}

#endif
