/* SPDX-License-Identifier: MIT */
/* arith.h - the float steps that every CPU does alike: fused multiply-add, exp, sine and cosine, halves. The definition of each is the
 * scalar code here; vector kernels repeat the same steps in lanes. Never libm. Exact error bounds: docs/numerics.md. */
#ifndef SL_ARITH_H
#define SL_ARITH_H

#include <stdint.h>
#include <string.h>

static inline uint32_t sl_bits(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
static inline float sl_float(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

/* a * b + c in one rounding. Hardware where the translation unit is compiled for it, else sl_fma_soft: the same bits. */
float sl_fma_soft(float a, float b, float c);
static inline float sl_fma(float a, float b, float c)
{
#if defined(__FMA__) || defined(__aarch64__) || defined(__CUDA_ARCH__)
    return __builtin_fmaf(a, b, c);
#else
    return sl_fma_soft(a, b, c);
#endif
}

#endif
