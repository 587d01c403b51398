/* SPDX-License-Identifier: MIT */
/* arith.h - the float steps that every CPU does alike: fused multiply-add, exp, SiLU, erf, GELU in both forms, tanh, halves; sine, cosine, log2 and exp2 for the positions of
 * a pass. The definition of each is the scalar code here; vector kernels repeat the same steps in lanes. Never libm. Error bounds: docs/numerics.md.
 *
 * Rounding is to nearest, ties to even, and subnormals count (threads set that up, see backend.h); translation units are compiled without
 * contraction (-ffp-contract=off; nvcc: -fmad=false), so an fma stands only where it is written. Valid C11 and CUDA. */
#ifndef SL_ARITH_H
#define SL_ARITH_H

#include <stdint.h>
#include <string.h>

/* In front of every inline function that a CUDA kernel may call as well. */
#if defined(__CUDACC__)
#define SL_FN __host__ __device__
#else
#define SL_FN
#endif

static inline SL_FN uint32_t sl_bits(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
static inline SL_FN float sl_float(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }
static inline SL_FN uint64_t sl_bits64(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
static inline SL_FN double sl_double(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }

/* By the exponent bits: comparisons and maxima lose NaN. */
static inline SL_FN int sl_is_finite(float x) { return (sl_bits(x) & 0x7f800000u) != 0x7f800000u; }

/* To the nearest integer, ties to even, for |x| <= 2^22: above 1.5 * 2^23 the spacing of floats is 1, so the addition itself rounds. -0 gives +0. */
static inline SL_FN float sl_rint(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

/* ---- fused multiply-add ---- */

/* a * b + c in one rounding, from binary64 additions. The product of two binary32 numbers is exact in binary64. The sum s rounds once; TwoSum
 * gives what it lost, exactly. If something was lost and the last bit of s is even, s moves one step towards it: "round to odd". A value with
 * 53 >= 24 + 2 bits that was rounded to odd rounds to binary32 (subnormals too, they keep fewer bits) as the exact one would.
 * Infinities and NaN make the error term NaN, which leaves s alone. A zero sum has no error term, and its sign is that of the exact rule. */
static inline SL_FN float sl_fma_soft(float a, float b, float c)
{
    double p = (double)a * b, s = p + c, t = s - p;
    double error = (p - (s - t)) + (c - t);
    if (error > 0.0 || error < 0.0) {
        uint64_t bits = sl_bits64(s);
        if (!(bits & 1))
            s = sl_double(bits + ((error > 0.0) == (s > 0.0) ? 1u : (uint64_t)-1));
    }
    return (float)s;
}

/* a * b + c in one rounding. Hardware where the translation unit is compiled for it, else sl_fma_soft: the same bits (a NaN may carry others). */
static inline SL_FN float sl_fma(float a, float b, float c)
{
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return sl_fma_soft(a, b, c);
#endif
}

/* Correctly rounded, by the instruction (-fno-math-errno keeps libm out). */
static inline SL_FN float sl_sqrt(float x)
{
#if defined(__CUDA_ARCH__)
    return __fsqrt_rn(x);
#else
    return __builtin_sqrtf(x);
#endif
}

/* ---- exp ---- */

/* The steps of sl_exp, for vector kernels to repeat:
 *   t = fma(x, LOG2E, MAGIC), n = t - MAGIC           n = x log2(e) to the nearest integer; the low bits of t hold n as an integer
 *   r = fma(n, -LN2_HI, x), r = fma(n, -LN2_LO, r)    |r| <= 0.3467; the first step is exact
 *   p = C6; p = fma(p, r, C5) ... C2; p = fma(p, r, 1) twice
 *   y = p * 2^n, with 2^n made as the bits (bits(t) + 127) << 23
 *   x < -80: +0;  x > 88: +infinity;  NaN stays NaN (both comparisons are false)
 * C2..C6: minimax for the relative error of 1 + r + r^2 q(r), rounded to binary32 one after the other: 2^-28.2. Measured over all floats: docs/numerics.md. */
#define SL_EXP_MIN (-80.0f)
#define SL_EXP_B16_MIN (-0x1.bba53cp+4f)     /* below it b16(exp(x)) of bf16 arithmetic is 0, from it on it is not */
#define SL_EXP_MAX 88.0f
#define SL_EXP_LOG2E 0x1.715476p0f
#define SL_EXP_MAGIC 0x1.8p23f
#define SL_EXP_LN2_HI 0x1.62e430p-1f
#define SL_EXP_LN2_LO (-0x1.05c610p-29f)
#define SL_EXP_C2 0x1.fffffcp-2f
#define SL_EXP_C3 0x1.555492p-3f
#define SL_EXP_C4 0x1.5558b0p-5f
#define SL_EXP_C5 0x1.123986p-7f
#define SL_EXP_C6 0x1.6a4cb4p-10f

static inline SL_FN float sl_exp(float x)
{
    float t = sl_fma(x, SL_EXP_LOG2E, SL_EXP_MAGIC), n = t - SL_EXP_MAGIC;
    float r = sl_fma(n, -SL_EXP_LN2_HI, x), p = SL_EXP_C6;
    r = sl_fma(n, -SL_EXP_LN2_LO, r);
    p = sl_fma(p, r, SL_EXP_C5);
    p = sl_fma(p, r, SL_EXP_C4);
    p = sl_fma(p, r, SL_EXP_C3);
    p = sl_fma(p, r, SL_EXP_C2);
    p = sl_fma(p, r, 1.0f);
    p = sl_fma(p, r, 1.0f);
    float y = p * sl_float((sl_bits(t) + 127u) << 23);
    if (x < SL_EXP_MIN)
        y = 0.0f;
    if (x > SL_EXP_MAX)
        y = sl_float(0x7f800000u);
    return y;
}

/* z / (1 + exp(-z)): one exp, one addition, one division. Below -88 the result is -0. */
static inline SL_FN float sl_silu(float z) { return z / (1.0f + sl_exp(-z)); }

/* ---- erf, GELU, tanh ---- */

/* The steps of sl_erf, for vector kernels to repeat:
 *   a = |x|, b = a or, where 4 < a, 4
 *   z = x * x; p = S6; p = fma(p, z, S5) ... S0; near = fma(p, x, x)           used where a < 1
 *   g = G6; g = fma(g, b, G5) ... G0; far = 1 - exp(g), with the sign of x     used elsewhere: g = log(1 - erf b)
 * From 4 on (and from a little before) far is 1. NaN stays NaN, -0 stays -0. S: minimax of erf(x) / x - 1 on [0, 1] in z; G: of log(erfc a) on [1, 4],
 * weighted by erfc a; rounded to binary32 one after the other: 2^-29.4 and 2^-29.6. Measured over all floats: docs/numerics.md. */
#define SL_ERF_FAR 4.0f
#define SL_ERF_S0 0x1.06eba8p-3f
#define SL_ERF_S1 (-0x1.81273ep-2f)
#define SL_ERF_S2 0x1.ce2ce6p-4f
#define SL_ERF_S3 (-0x1.b7f71ap-6f)
#define SL_ERF_S4 0x1.53f224p-8f
#define SL_ERF_S5 (-0x1.a3515ep-11f)
#define SL_ERF_S6 0x1.4771fcp-14f
#define SL_ERF_G0 (-0x1.6622f4p-12f)
#define SL_ERF_G1 (-0x1.2088eap+0f)
#define SL_ERF_G2 (-0x1.46baecp-1f)
#define SL_ERF_G3 (-0x1.a65348p-4f)
#define SL_ERF_G4 0x1.65cb84p-6f
#define SL_ERF_G5 (-0x1.825b14p-9f)
#define SL_ERF_G6 0x1.86ddb2p-13f

static inline SL_FN float sl_erf(float x)
{
    float a = sl_float(sl_bits(x) & 0x7fffffffu), b = SL_ERF_FAR < a ? SL_ERF_FAR : a, z = x * x, p = SL_ERF_S6, g = SL_ERF_G6;
    p = sl_fma(p, z, SL_ERF_S5);
    p = sl_fma(p, z, SL_ERF_S4);
    p = sl_fma(p, z, SL_ERF_S3);
    p = sl_fma(p, z, SL_ERF_S2);
    p = sl_fma(p, z, SL_ERF_S1);
    p = sl_fma(p, z, SL_ERF_S0);
    g = sl_fma(g, b, SL_ERF_G5);
    g = sl_fma(g, b, SL_ERF_G4);
    g = sl_fma(g, b, SL_ERF_G3);
    g = sl_fma(g, b, SL_ERF_G2);
    g = sl_fma(g, b, SL_ERF_G1);
    g = sl_fma(g, b, SL_ERF_G0);
    const float far = 1.0f - sl_exp(g);
    return a < 1.0f ? sl_fma(p, x, x) : x < 0.0f ? -far : far;
}

/* x / 2 (1 + erf(x / sqrt 2)), the sum in one rounding with its product: h = x / 2, fma(h, erf(x * 0x1.6a09e6p-1), h). From -5.5434 on down it is +0, and never above 0 for x < 0;
 * of -infinity it is NaN. */
#define SL_SQRT_HALF 0x1.6a09e6p-1f
static inline SL_FN float sl_gelu(float x)
{
    const float half = 0.5f * x;
    return sl_fma(half, sl_erf(x * SL_SQRT_HALF), half);
}

/* x / (1 + exp(-1.702 x)), which some encoders were trained with instead: one product, one exp, one addition, one division. Below -52 it is -0. */
#define SL_QUICK_GELU 0x1.b3b646p+0f
static inline SL_FN float sl_quick_gelu(float x) { return x / (1.0f + sl_exp(-(x * SL_QUICK_GELU))); }

/* Hyperbolic tangent, for factors that are made when a model is loaded. Below 0.6 in magnitude x + x z q(z) with z = x^2, q a minimax polynomial for the
 * relative error (2^-28.4); above it 1 - 2 / (1 + exp(2 |x|)), which is 1 from 10 on. Odd; NaN stays NaN. */
static inline SL_FN float sl_tanh(float x)
{
    const float a = sl_float(sl_bits(x) & 0x7fffffffu), z = a * a;
    float y;
    if (a < 0.6f) {
        float p = -0x1.828776p-8f;
        p = sl_fma(p, z, 0x1.54c3c2p-6f);
        p = sl_fma(p, z, -0x1.b89abap-5f);
        p = sl_fma(p, z, 0x1.1109bep-3f);
        p = sl_fma(p, z, -0x1.55553ep-2f);
        y = sl_fma(p * z, a, a);
    } else
        y = 1.0f - 2.0f / (1.0f + sl_exp(2.0f * (10.0f < a ? 10.0f : a)));
    return sl_float(sl_bits(y) | (sl_bits(x) & 0x80000000u));
}

/* ---- halves ---- */

/* IEEE half to float, exact; a NaN becomes quiet and keeps its payload (what vcvtph2ps does). */
static inline SL_FN float sl_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    if (rest >= 0x7c00u << 13)
        return sl_float(sign | 0x7f800000u | rest | (rest & 0x7fe000u ? 0x400000u : 0u));
    if (rest < 0x400u << 13)    /* zero and subnormals: 2^-14 stands above the mantissa, then goes away */
        return sl_float(sign | sl_bits(sl_float(rest + (113u << 23)) - 0x1p-14f));
    return sl_float(sign | (rest + (112u << 23)));
}

/* Float to IEEE half, to nearest, ties to even; from 65520 on infinity; a NaN becomes quiet and keeps the top of its payload (vcvtps2ph). */
static inline SL_FN uint16_t sl_float_to_half(float x)
{
    uint32_t u = sl_bits(x), sign = (u >> 16) & 0x8000u, rest = u & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    if (rest >= 0x477ff000u)    /* 65520 */
        return (uint16_t)(sign | 0x7c00u);
    if (rest < 0x38800000u)     /* below 2^-14: at 0.5 the spacing of floats is 2^-24, the unit of half's subnormals */
        return (uint16_t)(sign | (sl_bits(sl_float(rest) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | ((rest - (112u << 23) + 0xfffu + (rest >> 13 & 1u)) >> 13));
}

static inline SL_FN float sl_bf16_to_float(uint16_t b) { return sl_float((uint32_t)b << 16); }

/* To nearest, ties to even; a NaN keeps its upper half with the quiet bit set. */
static inline SL_FN uint16_t sl_float_to_bf16(float x)
{
    uint32_t u = sl_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* The numbers of bf16 arithmetic: to nearest, ties to even, and what is below 2^-40 in magnitude then becomes +0. Products of two such numbers and
 * their sums are multiples of 2^-94: no subnormal arises, whatever a processor does with them. NaN stays NaN. */
static inline SL_FN uint16_t sl_float_to_b16(float x)
{
    uint16_t b = sl_float_to_bf16(x);
    return (b & 0x7fffu) < 87u << 7 ? 0 : b;
}

/* ---- binary64, for the angles of a pass (arith.c) ---- */

#if defined(__cplusplus)
extern "C" {
#endif
/* Base-2 logarithm; relative error below 1e-15. Of 0: -infinity; of a negative number or NaN: NaN; of +infinity: +infinity. Subnormals count. */
double sl_log2(double x);
/* 2^x; relative error below 1e-15. x < -1022: +0; x >= 1024: +infinity; NaN stays NaN. */
double sl_exp2(double x);
/* Sine and cosine of an angle in radians, |angle| <= SL_ANGLE_MAX, each within 1 unit in the last place of the float result or 2^-50 absolute.
 * Anything else, NaN and infinities included, gives NaN for both: whoever makes angles from a file's numbers checks them first. */
#define SL_ANGLE_MAX 0x1p31
void sl_sincos(double angle, float *s, float *c);
#if defined(__cplusplus)
}
#endif

#endif
