/* SPDX-License-Identifier: MIT */
/* kernels_neon.c - levels neon (AArch64) and, compiled again, dotprod and i8mm: four registers of four rows for the 16 of a panel. With those only the
 * products of quantized weights are in the level's array, with kernels for many rows; everything else comes from neon. Weights are signed here, offsets taken
 * off before. */
#include <arm_neon.h>
#include <stdint.h>

#define LANES 4
#define MAX_T 4
#define INLINE static inline __attribute__((always_inline))
typedef float32x4_t vf;
typedef int32x4_t vi;

INLINE vf f_load(const float *x) { return vld1q_f32(x); }
INLINE void f_store(float *x, vf a) { vst1q_f32(x, a); }
INLINE void f_stream(float *x, vf a) { vst1q_f32(x, a); }       /* no instruction for it that can be relied on */
INLINE void f_stream_end(void) { }
INLINE vf f_set(float x) { return vdupq_n_f32(x); }
INLINE vf f_add(vf a, vf b) { return vaddq_f32(a, b); }
INLINE vf f_sub(vf a, vf b) { return vsubq_f32(a, b); }
INLINE vf f_mul(vf a, vf b) { return vmulq_f32(a, b); }
INLINE vf f_div(vf a, vf b) { return vdivq_f32(a, b); }
INLINE vf f_max(vf a, vf b) { return vmaxq_f32(a, b); }
INLINE vf f_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
INLINE vf f_neg(vf a) { return vnegq_f32(a); }
INLINE vf f_power(vf t) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vreinterpretq_s32_f32(t), vdupq_n_s32(127)), 23)); }
INLINE vf f_where_less(vf a, vf b, vf x, vf y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
INLINE vf f_load_f16(const uint16_t *x) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x))); }
INLINE vf f_load_bf16(const uint16_t *x) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(x), 16)); }
INLINE void f_store_f16(uint16_t *to, vf x) { vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
INLINE void f_store_bf16(uint16_t *to, vf x) { vst1_u16(to, vshrn_n_u32(vreinterpretq_u32_f32(x), 16)); }
INLINE vf f_round(vf x)
{
    const uint32x4_t u = vreinterpretq_u32_f32(x), last = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    return vreinterpretq_f32_u32(vandq_u32(vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), last), vdupq_n_u32(0xffff0000)));
}
INLINE vf f_flush(vf x) { return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcaltq_f32(x, vdupq_n_f32(0x1p-40f)))); }
INLINE vf f_exponent(vf x) { return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7f800000))); }
INLINE vf f_rotate(vf x, vf angles)     /* even lanes: a cos - b sin, odd lanes: a sin + b cos */
{
    const uint32x4_t even = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000u));
    const vf product = vmulq_f32(vtrn2q_f32(x, x), vrev64q_f32(angles));
    return vfmaq_f32(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(product), even)), vtrn1q_f32(x, x), angles);
}
INLINE vf f_top(vf a, vf b)
{
    const uint32x4_t most = vdupq_n_u32(0x7fffffff);
    return vreinterpretq_f32_u32(vmaxq_u32(vandq_u32(vreinterpretq_u32_f32(a), most), vandq_u32(vreinterpretq_u32_f32(b), most)));
}
INLINE float f_most(vf a) { return vmaxvq_f32(a); }
INLINE float f_halve(const vf s[4])
{
    const vf a = vaddq_f32(vaddq_f32(s[0], s[2]), vaddq_f32(s[1], s[3]));
    const float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
INLINE uint32_t f_most_bits(vf a) { return vmaxvq_u32(vreinterpretq_u32_f32(a)); }
INLINE int i_sum16(const int8_t *q) { return vaddlvq_s8(vld1q_s8(q)); }
INLINE void f_store_int8(int8_t *to, vf x)
{
    const int16x4_t words = vmovn_s32(vcvtnq_s32_f32(x));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    __builtin_memcpy(to, &bytes, 4);
}

INLINE vf f_int(vi a) { return vcvtq_f32_s32(a); }

INLINE void f_load_pairs(const uint16_t *x, uint32_t mask, vf *even, vf *odd)
{
    uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(x));
    if (mask != UINT32_MAX)
        pairs = vandq_u32(pairs, vdupq_n_u32(mask));
    *even = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
    *odd = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000)));
}
INLINE vf f_load_int8(const int8_t *x)
{
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}

#define PIN(v) __asm__ volatile("" : "+w"(v))

/* Per row: sum plus four products of bytes with the four at x. */
INLINE int32x4_t i_dot(int32x4_t sum, int8x16_t w, const int8_t *x)
{
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    const int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(four));
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, w, xs);
#else       /* products of bytes fit words, also 128 * 127 */
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(xs)), high = vmull_high_s8(w, xs);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}
INLINE vi i_bytes(const uint8_t *x) { return vreinterpretq_s32_u8(vld1q_u8(x)); }
INLINE vi i_bytes_start(const int32_t *sum) { return (void)sum, vdupq_n_s32(0); }
INLINE vi i_bytes_dot(vi s, vi w, const int8_t *x) { return i_dot(s, vreinterpretq_s8_s32(w), x); }

#include "../kernels_lanes.h"

/* ---- products of quantized weights ---- */

INLINE int8x16_t i_low(uint8x16_t q) { return vreinterpretq_s8_u8(vandq_u8(q, vdupq_n_u8(15))); }
INLINE int8x16_t i_high(uint8x16_t q) { return vreinterpretq_s8_u8(vshrq_n_u8(q, 4)); }
/* Byte number g % 4 of every dword: as it is, and as a signed number. */
INLINE int32x4_t byte_of(uint8x16_t v, int g)
{
    return vreinterpretq_s32_u32(vandq_u32(vshlq_u32(vreinterpretq_u32_u8(v), vdupq_n_s32(-8 * (g % 4))), vdupq_n_u32(255)));
}
INLINE int32x4_t signed_byte_of(uint8x16_t v, int g) { return vshrq_n_s32(vshlq_s32(vreinterpretq_s32_u8(v), vdupq_n_s32(24 - 8 * (g % 4))), 24); }

INLINE void step_q4_0(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const int8x16_t eight = vdupq_n_s8(8);
    for (int b = 0; b < n / 32; b++)
        for (int half = 0; half < opaque(REGS); half++) {
            const uint8_t *w = panel + cpu_body_offset(at_q4_0, (size_t)k / 32 + (size_t)b) + half * LANE_BYTES;
            int32x4_t s[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                s[t] = vdupq_n_s32(0);
            UNROLL for (int i = 0; i < 4; i++) {
                const uint8x16_t q = vld1q_u8(w + CPU_LINE * i);
                const int8x16_t q0 = vsubq_s8(i_low(q), eight), q1 = vsubq_s8(i_high(q), eight);
                UNROLL for (int t = 0; t < m; t++) {
                    s[t] = i_dot(i_dot(s[t], q0, ACT32(x[t], b)->q + 4 * i), q1, ACT32(x[t], b)->q + 16 + 4 * i);
                    PIN(s[t]);
                }
            }
            const vf d = head(panel + cpu_head_offset(at_q4_0, (size_t)k / 32 + (size_t)b), half);
            UNROLL for (int t = 0; t < m; t++)
                finish(d, ACT32(x[t], b)->d, s[t], acc[t] + half * LANES);
        }
}

INLINE void step_q8_0(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    for (int b = 0; b < n / 32; b++)
        for (int half = 0; half < opaque(REGS); half++) {
            const uint8_t *w = panel + cpu_body_offset(at_q8_0, (size_t)k / 32 + (size_t)b) + half * LANE_BYTES;
            int32x4_t s[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                s[t] = vdupq_n_s32(0);
            UNROLL for (int i = 0; i < 8; i++) {
                const int8x16_t q = vreinterpretq_s8_u8(vld1q_u8(w + CPU_LINE * i));
                UNROLL for (int t = 0; t < m; t++) {
                    s[t] = i_dot(s[t], q, ACT32(x[t], b)->q + 4 * i);
                    PIN(s[t]);
                }
            }
            const vf d = head(panel + cpu_head_offset(at_q8_0, (size_t)k / 32 + (size_t)b), half);
            UNROLL for (int t = 0; t < m; t++)
                finish(d, ACT32(x[t], b)->d, s[t], acc[t] + half * LANES);
        }
}

/* The eight 6-bit scales and minima as bytes: group g is byte g % 4 of [g / 4]. */
INLINE void scales_q4_k(const uint8_t *w, uint8x16_t sc[2], uint8x16_t mn[2])
{
    const uint8x16_t m6 = vdupq_n_u8(63), m4 = vdupq_n_u8(15), m2 = vdupq_n_u8(48);
    const uint8x16_t p0 = vld1q_u8(w), p1 = vld1q_u8(w + CPU_LINE), p2 = vld1q_u8(w + 2 * CPU_LINE);
    sc[0] = vandq_u8(p0, m6);
    mn[0] = vandq_u8(p1, m6);
    sc[1] = vorrq_u8(vandq_u8(p2, m4), vandq_u8(vshrq_n_u8(p0, 2), m2));
    mn[1] = vorrq_u8(vshrq_n_u8(p2, 4), vandq_u8(vshrq_n_u8(p1, 2), m2));
}

INLINE void step_q4_k(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    (void)n;
    for (int half = 0; half < opaque(REGS); half++) {
        const uint8_t *w = panel + cpu_body_offset(at_q4_k, (size_t)k / 256) + half * LANE_BYTES, *at = panel + cpu_head_offset(at_q4_k, (size_t)k / 256);
        uint8x16_t sc[2], mn[2];
        int32x4_t s[MAX_T], mins[MAX_T];
        scales_q4_k(w, sc, mn);
        UNROLL for (int t = 0; t < m; t++)
            s[t] = mins[t] = vdupq_n_s32(0);
        for (int g = 0; g < opaque(8); g++) {       /* groups of 32 */
            int32x4_t sum[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                sum[t] = vdupq_n_s32(0);
            UNROLL for (int i = 0; i < 8; i++) {
                const uint8x16_t both = vld1q_u8(w + CPU_LINE * (3 + g / 2 * 8 + i));
                const int8x16_t q = i_low(g % 2 ? vshrq_n_u8(both, 4) : both);
                UNROLL for (int t = 0; t < m; t++) {
                    sum[t] = i_dot(sum[t], q, ACT256(x[t])->q + 32 * g + 4 * i);
                    PIN(sum[t]);
                }
            }
            const int32x4_t scale = byte_of(sc[g / 4], g), min = byte_of(mn[g / 4], g);
            UNROLL for (int t = 0; t < m; t++) {
                s[t] = vmlaq_s32(s[t], sum[t], scale);
                mins[t] = vmlaq_s32(mins[t], min, vdupq_n_s32(ACT256(x[t])->sum[2 * g] + ACT256(x[t])->sum[2 * g + 1]));
            }
        }
        const vf d = head(at, half), dmin = head(at + CPU_LINE / 2, half);
        UNROLL for (int t = 0; t < m; t++) {
            finish(d, ACT256(x[t])->d, s[t], acc[t] + half * LANES);
            finish(f_neg(dmin), ACT256(x[t])->d, mins[t], acc[t] + half * LANES);
        }
    }
}

/* Line i of group g of 16 elements of Q6_K, less 32: half a block is 16 lines of low bits, 8 of upper ones, 2 of scales. */
INLINE int8x16_t six_bits(const uint8_t *w, int g, int i)
{
    const int quarter = g % 8 / 2;
    const uint8_t *lows = w + CPU_LINE * (g / 8 * 16 + quarter % 2 * 8 + g % 2 * 4 + i), *ups = w + CPU_LINE * (32 + g / 8 * 8 + g % 2 * 4 + i);
    const uint8x16_t lo = vshlq_u8(vld1q_u8(lows), vdupq_n_s8(quarter < 2 ? 0 : -4)), hi = vshlq_u8(vld1q_u8(ups), vdupq_n_s8((int8_t)(4 - 2 * quarter)));
    const uint8x16_t six = vorrq_u8(vandq_u8(lo, vdupq_n_u8(15)), vandq_u8(hi, vdupq_n_u8(48)));
    return vsubq_s8(vreinterpretq_s8_u8(six), vdupq_n_s8(32));
}

INLINE void step_q6_k(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    (void)n;
    for (int half = 0; half < opaque(REGS); half++) {
        const uint8_t *w = panel + cpu_body_offset(at_q6_k, (size_t)k / 256) + half * LANE_BYTES;
        int32x4_t s[MAX_T];
        UNROLL for (int t = 0; t < m; t++)
            s[t] = vdupq_n_s32(0);
        for (int g = 0; g < opaque(16); g++) {      /* groups of 16 */
            int32x4_t sum[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                sum[t] = vdupq_n_s32(0);
            UNROLL for (int i = 0; i < 4; i++) {
                const int8x16_t q = six_bits(w, g, i);
                UNROLL for (int t = 0; t < m; t++) {
                    sum[t] = i_dot(sum[t], q, ACT256(x[t])->q + 16 * g + 4 * i);
                    PIN(sum[t]);
                }
            }
            const int32x4_t scale = signed_byte_of(vld1q_u8(w + CPU_LINE * (48 + g / 4)), g);
            UNROLL for (int t = 0; t < m; t++)
                s[t] = vmlaq_s32(s[t], sum[t], scale);
        }
        const vf d = head(panel + cpu_head_offset(at_q6_k, (size_t)k / 256), half);
        UNROLL for (int t = 0; t < m; t++)
            finish(d, ACT256(x[t])->d, s[t], acc[t] + half * LANES);
    }
}

/* ---- what the other types want ---- */

INLINE uint8x16_t u8(vi a) { return vreinterpretq_u8_s32(a); }
INLINE int16x8_t s16(vi a) { return vreinterpretq_s16_s32(a); }
INLINE vi of_u8(uint8x16_t a) { return vreinterpretq_s32_u8(a); }
INLINE vi i_load(const void *x) { return of_u8(vld1q_u8(x)); }
INLINE vi i_row(const void *x) { return i_load(x); }
INLINE vi i_splat(const void *x)
{
    int32_t v;
    __builtin_memcpy(&v, x, sizeof v);
    return vdupq_n_s32(v);
}
INLINE vi i_byte(int x) { return of_u8(vdupq_n_u8((uint8_t)x)); }
INLINE vi i_word(int16_t x) { return vreinterpretq_s32_s16(vdupq_n_s16(x)); }
INLINE vi i_and(vi a, vi b) { return vandq_s32(a, b); }
INLINE vi i_or(vi a, vi b) { return vorrq_s32(a, b); }
INLINE vi i_add8(vi a, vi b) { return of_u8(vaddq_u8(u8(a), u8(b))); }
INLINE vi i_add32(vi a, vi b) { return vaddq_s32(a, b); }
INLINE vi i_max32(vi a, vi b) { return vmaxq_s32(a, b); }
INLINE vi i_sub32(vi a, vi b) { return vsubq_s32(a, b); }
INLINE vi i_left(vi a, int n) { return vshlq_s32(a, vdupq_n_s32(n)); }
INLINE vi i_right(vi a, int n) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n))); }
INLINE vi i_table(vi row, vi index) { return of_u8(vqtbl1q_u8(u8(row), u8(index))); }
INLINE vf f_bits(vi a) { return vreinterpretq_f32_s32(a); }
INLINE vi i_load_words(const uint8_t *x)
{
    uint16x4_t v;
    __builtin_memcpy(&v, x, sizeof v);
    return vreinterpretq_s32_u32(vmovl_u16(v));
}
INLINE vi i_load_bytes(const uint8_t *x)
{
    uint32_t v;
    __builtin_memcpy(&v, x, sizeof v);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(v))))));
}
INLINE vi i_pick(vi v, int b)
{
    const uint32x4_t first = vmulq_n_u32((uint32x4_t) { 0, 1, 2, 3 }, 0x04040404);
    return i_table(v, vreinterpretq_s32_u32(vaddq_u32(first, vdupq_n_u32((uint32_t)b * 0x01010101))));
}
INLINE vi i_plus_where(vi q, vi h, vi bits, vi plus) { return of_u8(vorrq_u8(u8(q), vandq_u8(vtstq_u8(u8(h), u8(bits)), u8(plus)))); }
INLINE vi i_words(vi v, int lo, int hi)     /* into the upper bytes of the words, zeros below, then down with the sign */
{
    const uint32x4_t to = vmulq_n_u32((uint32x4_t) { 0, 1, 2, 3 }, 0x04000400), pick = vdupq_n_u32(0x00800080u | (uint32_t)lo << 8 | (uint32_t)hi << 24);
    return vreinterpretq_s32_s16(vshrq_n_s16(s16(i_table(v, vreinterpretq_s32_u32(vaddq_u32(pick, to)))), 8));
}
INLINE vi i_madd(vi sum, vi a, vi b)
{
    return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(s16(a)), vget_low_s16(s16(b))), vmull_high_s16(s16(a), s16(b))));
}

INLINE void i_store(void *to, vi a) { vst1q_s32(to, a); }
INLINE vi i_mul16(vi a, vi b) { return vreinterpretq_s32_s16(vmulq_s16(s16(a), s16(b))); }
INLINE vi i_more_above(vi q, vi v, vi bound) { return of_u8(vsubq_u8(u8(q), vcgtq_u8(u8(v), u8(bound)))); }
INLINE vi i_negate_where(vi q, vi h, vi bits)
{
    const uint8x16_t minus = vtstq_u8(u8(h), u8(bits));
    return of_u8(vsubq_u8(veorq_u8(u8(q), minus), minus));
}
INLINE vi i_entries4(const uint8_t *grid, const uint32_t *at)
{
    int32_t v[LANES];
    for (int i = 0; i < LANES; i++)
        __builtin_memcpy(v + i, grid + 4 * (size_t)at[i], 4);
    return (vi) { v[0], v[1], v[2], v[3] };
}
INLINE void i_entries8(const uint8_t *grid, const uint32_t *at, vi *lo, vi *hi)
{
    const vi a = of_u8(vcombine_u8(vld1_u8(grid + 8 * (size_t)at[0]), vld1_u8(grid + 8 * (size_t)at[1])));
    const vi b = of_u8(vcombine_u8(vld1_u8(grid + 8 * (size_t)at[2]), vld1_u8(grid + 8 * (size_t)at[3])));
    *lo = vuzp1q_s32(a, b);
    *hi = vuzp2q_s32(a, b);
}

#define BYTE_DOTS
enum { IQ4_OFFSET = 0 };
INLINE vi i_dots(vi sum, vi q, const int8_t *x) { return i_dot(sum, vreinterpretq_s8_s32(q), x); }
INLINE vi i_scale(vi s, vi e, vi w) { return vmlaq_s32(s, e, vshrq_n_s32(w, 16)); }
INLINE vi i_scale_two(vi s, vi a, vi b, vi w) { return vmlaq_s32(i_scale(s, b, w), a, vshrq_n_s32(vshlq_n_s32(w, 16), 16)); }

#include "../kernels_types.h"
#if defined(__ARM_FEATURE_DOTPROD)
#include "kernels_wide_arm.h"
#define WIDE(stem) &many_##stem
#else
#define WIDE(stem) NULL
#endif
#define WIDE_SMALL(stem) WIDE(stem)
#define WIDE_LEAST(stem) WIDE(stem)
#define WIDE_SUPER(stem) WIDE(stem)
#define WIDE_GRID(stem) WIDE(stem)
#define WIDE_GROUPS(stem) WIDE(stem)
TYPES_PANELS(TYPES_PANEL)
INTERLEAVED_PANELS(step_q4_0, step_q8_0, step_q4_k, step_q6_k)

#if defined(__ARM_FEATURE_MATMUL_INT8)
extern const sl_impl cpu_impls_i8mm[];
extern const size_t cpu_n_impls_i8mm;
const sl_impl cpu_impls_i8mm[] = {
    INTERLEAVED_IMPLS(CPU_I8MM, "i8mm")
    TYPES_IMPLS(CPU_I8MM, "i8mm")
    TYPES_IMPLS_GROUPS(CPU_I8MM, "i8mm")
    { .label = NULL }       /* no row: all others may be left out, and C knows no empty array */
};
const size_t cpu_n_impls_i8mm = sizeof cpu_impls_i8mm / sizeof *cpu_impls_i8mm - 1;
#elif defined(__ARM_FEATURE_DOTPROD)
extern const sl_impl cpu_impls_dotprod[];
extern const size_t cpu_n_impls_dotprod;
const sl_impl cpu_impls_dotprod[] = {
    INTERLEAVED_IMPLS(CPU_DOTPROD, "dotprod")
    TYPES_IMPLS(CPU_DOTPROD, "dotprod")
    TYPES_IMPLS_GROUPS(CPU_DOTPROD, "dotprod")
    CPU_ATTENTION_IMPLS(q8_0, CPU_DOTPROD, "dotprod", kernel_attention_q8_0)
    { .label = NULL }
};
const size_t cpu_n_impls_dotprod = sizeof cpu_impls_dotprod / sizeof *cpu_impls_dotprod - 1;
#else
extern const sl_impl cpu_impls_neon[];
extern const size_t cpu_n_impls_neon;
const sl_impl cpu_impls_neon[] = {
    INTERLEAVED_IMPLS(CPU_NEON, "neon")
    TYPES_IMPLS(CPU_NEON, "neon")
    TYPES_IMPLS_GROUPS(CPU_NEON, "neon")
    LANES_IMPLS(CPU_NEON, "neon")
};
const size_t cpu_n_impls_neon = sizeof cpu_impls_neon / sizeof *cpu_impls_neon;
#endif
