/* SPDX-License-Identifier: MIT */
/* kernels_lanes.h - the float kernels in lanes, for registers of any width: kernels_scalar.c step by step, LANES outputs at a time. Included
 * by one kernel file per level, which defines before:
 *
 *   LANES, MAX_T                       floats of a register; rows of activations that one pass over a block serves at once (4 or 8)
 *   vf, vi                             a register of floats, of integers
 *   f_load f_store f_set               from and to memory at any address; one number in all lanes
 *   f_add f_sub f_mul f_div f_max f_fma(a, b, c) f_neg      lane by lane; a * b + c in one rounding
 *   f_power(t)                         the bits (bits(t) + 127) << 23
 *   f_where_less(a, b, x, y)           a < b ? x : y
 *   f_load_f16 f_load_bf16             LANES halves or bfloats, exact
 *   f_store_bf16(to, x)                the upper halves of LANES floats
 *   f_store_f16(to, x)                 the nearest halves, ties to even
 *   f_stream(to, x) f_stream_end()     a store past the caches to an address that is a multiple of 64; what orders such stores before a task ends
 *   f_round(x)                         to the nearest bfloat, ties to even; x is finite
 *   f_flush(x)                         +0 where |x| < 2^-40
 *   f_exponent(x)                      2^e of 2^e <= |x| < 2^(e+1); 0 for 0
 *   f_rotate(x, angles)                ROPE of LANES / 2 pairs
 *   f_top(a, b)                        the larger of |a| and |b| by their bits, so that NaN and infinity win
 *   f_most_bits(a)                     the largest lane by its bits, as those
 *   f_store_int8(to, x)                LANES integers to the nearest of x, ties to even
 *   f_most(a)                          the largest of all lanes; if one is NaN, that or any other
 *   f_halve(s)                         the registers of 16 sums to one: halves are added, 16 to 8 to 4 to 2 to 1 (cpu_halve)
 *   i_sum16(q)                         sum of the 16 bytes at q
 *   f_int(a)                           dwords to float
 *   PIN(v)                             an empty asm that v goes through, in order: compilers reassociate sums until they run out of registers
 * and what kernels_cache.h names.
 *
 * Tails shorter than a register take the scalar steps, which are the definition. */
#ifndef CPU_KERNELS_LANES_H
#define CPU_KERNELS_LANES_H

#include "kernels.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#if !defined(INLINE)
#define INLINE static inline __attribute__((always_inline))
#endif
/* UNROLL: early, so that small arrays become registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define ALONE __attribute__((noinline))
#else
#define UNROLL _Pragma("GCC unroll 16")
#define ALONE __attribute__((noipa))
#endif
/* A number that compilers know nothing of: a loop to it stays a loop, where unrolling would only make the code larger. */
INLINE int opaque(int n)
{
    __asm__("" : "+r"(n));
    return n;
}
enum { REGS = CPU_PANEL / LANES };          /* registers of 16 lanes */

#include "kernels_walk.h"

/* ---- products ---- */

enum { FLOAT_STEP = 32, FLOAT_PORTION = FLOAT_STEP / PAIR_CALLS };

#if LANES == 16     /* with 32 registers for 16 sums; shorter ones hold no more than a panel's */
#define FLOAT_PAIRED PAIR
#define FLOAT_PAIR(stem, bytes)                                                                                                                    \
    INLINE void pair_##stem(const uint8_t *panel, size_t apart, int64_t k, int n, pair_rows x, int m, float (*acc)[CPU_PANEL], ahead *a) \
    {                                                                                                                                              \
        const uint8_t *w = panel + (size_t)k * CPU_PANEL * (bytes);                                                                                \
        vf s[PAIR_MOST][2];                                                                                                                        \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int r = 0; r < 2; r++)                                                                                                     \
                s[t][r] = f_load(acc[CPU_MAX_M * r + t]);                                                                                          \
        for (int from = 0; from < n; from += FLOAT_PORTION) {                                                                                      \
            fetch_some(a);                                                                                                                         \
            for (int i = from; i < n && i < from + FLOAT_PORTION; i++) {                                                                           \
                const uint8_t *at = w + CPU_PANEL * i * (bytes);                                                                                   \
                const vf row[2] = { f_load_##stem((const void *)at), f_load_##stem((const void *)(at + apart)) };                                  \
                UNROLL for (int t = 0; t < m; t++) {                                                                                               \
                    const vf y = f_set(((const float *)(const void *)pair_row(x, t))[i]);                                                          \
                    UNROLL for (int r = 0; r < 2; r++)                                                                                             \
                        s[t][r] = f_fma(row[r], y, s[t][r]);                                                                                       \
                }                                                                                                                                  \
            }                                                                                                                                      \
        }                                                                                                                                          \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int r = 0; r < 2; r++)                                                                                                     \
                f_store(acc[CPU_MAX_M * r + t], s[t][r]);                                                                                          \
    }                                                                                                                                              \
    PAIRS(stem)
#else
#define FLOAT_PAIRED(stem) NO_PAIR
#define FLOAT_PAIR(stem, bytes)
#endif

#define FLOAT_STEP_FN(stem, bytes)                                                                                                                 \
    INLINE void step_##stem(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])                      \
    {                                                                                                                                              \
        const uint8_t *w = panel + (size_t)k * CPU_PANEL * (bytes);                                                                                \
        vf s[MAX_T][REGS];                                                                                                                         \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int r = 0; r < REGS; r++)                                                                                                  \
                s[t][r] = f_load(acc[t] + r * LANES);                                                                                              \
        for (int i = 0; i < n; i++) {                                                                                                              \
            vf row[REGS];                                                                                                                          \
            UNROLL for (int r = 0; r < REGS; r++)                                                                                                  \
                row[r] = f_load_##stem((const void *)(w + (CPU_PANEL * i + LANES * r) * (bytes)));                                                 \
            UNROLL for (int t = 0; t < m; t++) {                                                                                                   \
                const vf y = f_set(((const float *)(const void *)x[t])[i]);                                                                        \
                UNROLL for (int r = 0; r < REGS; r++)                                                                                              \
                    s[t][r] = f_fma(row[r], y, s[t][r]);                                                                                           \
            }                                                                                                                                      \
        }                                                                                                                                          \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int r = 0; r < REGS; r++)                                                                                                  \
                f_store(acc[t] + r * LANES, s[t][r]);                                                                                              \
    }                                                                                                                                              \
    FLOAT_PAIR(stem, bytes)\
    LANES_PANELS(panel_##stem, FLOAT_STEP, FLOAT_STEP * CPU_PANEL * (bytes), FLOAT_STEP * sizeof(float), step_##stem, FLOAT_PAIRED(stem))

INLINE vf f_load_f32(const float *x) { return f_load(x); }
FLOAT_STEP_FN(f32, 4)
FLOAT_STEP_FN(f16, 2)
FLOAT_STEP_FN(bf16, 2)

/* bf16 arithmetic: weights are rounded on the way in, and 32 numbers of a row of activations are widened once for all of the panel. Halves have 11 bits
 * in the range of normal floats: adding 1.5 * 2^16 times the power of two rounds to 8 of them. */
INLINE vf b16_load_f32(const float *w) { return f_flush(f_round(f_load(w))); }
INLINE vf b16_load_bf16(const uint16_t *w) { return f_flush(f_load_bf16(w)); }
INLINE vf b16_load_f16(const uint16_t *w)
{
    const vf x = f_load_f16(w), power = f_exponent(x);
    return f_fma(power, f_set(-0x1.8p16f), f_fma(power, f_set(0x1.8p16f), x));
}

#define B16_STEP_FN(stem, bytes)                                                                                                                   \
    INLINE void step_##stem##_b16(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])                \
    {                                                                                                                                              \
        const uint8_t *from = panel + (size_t)k * CPU_PANEL * (bytes);                                                                             \
        float y[MAX_T][FLOAT_STEP];                                                                                                                \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int i = 0; i < FLOAT_STEP; i += LANES)                                                                                     \
                f_store(y[t] + i, f_load_bf16((const uint16_t *)(const void *)x[t] + i));                                                          \
        for (int r = 0; r < (REGS > 1 ? opaque(REGS) : 1); r++) {                                                                                  \
            const uint8_t *w = from + LANES * r * (bytes);                                                                                         \
            vf even[MAX_T], odd[MAX_T];                                                                                                            \
            int i = 0;                                                                                                                             \
            UNROLL for (int t = 0; t < m; t++)                                                                                                     \
                even[t] = odd[t] = f_set(0.0f);                                                                                                    \
            for (; i + 1 < n; i += 2) {                                                                                                            \
                const vf w0 = b16_load_##stem((const void *)(w + CPU_PANEL * i * (bytes)));                                                        \
                const vf w1 = b16_load_##stem((const void *)(w + CPU_PANEL * (i + 1) * (bytes)));                                                  \
                UNROLL for (int t = 0; t < m; t++) {                                                                                               \
                    even[t] = f_fma(w0, f_set(y[t][i]), even[t]);                                                                                  \
                    odd[t] = f_fma(w1, f_set(y[t][i + 1]), odd[t]);                                                                                \
                }                                                                                                                                  \
            }                                                                                                                                      \
            if (i < n) {                                                                                                                           \
                const vf w0 = b16_load_##stem((const void *)(w + CPU_PANEL * i * (bytes)));                                                        \
                UNROLL for (int t = 0; t < m; t++)                                                                                                 \
                    even[t] = f_fma(w0, f_set(y[t][i]), even[t]);                                                                                  \
            }                                                                                                                                      \
            UNROLL for (int t = 0; t < m; t++)                                                                                                     \
                f_store(acc[t] + r * LANES, f_add(f_load(acc[t] + r * LANES), f_add(even[t], odd[t])));                                            \
        }                                                                                                                                          \
    }                                                                                                                                              \
    LANES_PANEL(panel_##stem##_b16, FLOAT_STEP, FLOAT_STEP * CPU_PANEL * (bytes), sizeof(sl_block_b16), step_##stem##_b16)

B16_STEP_FN(f32, 4)
B16_STEP_FN(f16, 2)
B16_STEP_FN(bf16, 2)

/* Many rows, for all types: the sums of one row to its first n outputs, past the caches if `stream`; what a thread does after it stored. */
static __attribute__((unused)) void wide_store(const float *acc, size_t n, float *to, int stream)
{
    if (n == CPU_WIDE_OUT && stream && (uintptr_t)to % 64 == 0)
        for (int i = 0; i < CPU_WIDE_OUT; i += LANES)
            f_stream(to + i, f_load(acc + i));
    else
        memcpy(to, acc, n * sizeof *to);
}

static __attribute__((unused)) void wide_end(void) { f_stream_end(); }

#include "kernels_wide_float.h"

/* The interleaved types: where their blocks lie, the activations beside them, and the panel kernels out of the steps of the level. */
enum { LANE_BYTES = 4 * LANES, LANE_HALVES = 2 * LANES };      /* of one register, in a line and in half a head line */
#define INTERLEAVE(NAME, stem, body, lines, half0, half1) static const cpu_interleave at_##stem __attribute__((unused)) = { body, lines, { half0, half1 } };
CPU_INTERLEAVED(INTERLEAVE)
#define ACT32(x, b) ((const sl_block_a32 *)(const void *)(x) + (b))
#define ACT256(x) ((const sl_block_a256 *)(const void *)(x))

/* Scales of the rows of register `half`. */
INLINE vf head(const uint8_t *at, int half) { return f_load_f16((const uint16_t *)(const void *)(at + half * LANE_HALVES)); }

/* acc = fma(d * d_x, sum, acc): the one canonical step. */
INLINE void finish(vf d, float dx, vi sum, float *acc) { f_store(acc, f_fma(f_mul(d, f_set(dx)), f_int(sum), f_load(acc))); }

/* Eight blocks of 32 are a step, or one of 256. */
enum { STEP_32 = 256, STEP_32_BLOCKS = STEP_32 / 32 };
#define STEP_32_BYTES(lines) (STEP_32_BLOCKS * (lines) * CPU_LINE + STEP_32_BLOCKS / 2 * CPU_LINE)
/* WIDE(stem), from the kernel file: the kernel of the type for many rows, or NULL. */
#define INTERLEAVED_KERNEL(stem, form) CPU_KERNEL cpu_matmul_kernel kernel_##stem = { panel_##stem, SL_ACT_##form, WIDE(stem) };
#define INTERLEAVED_PANELS(first, second, third, fourth) INTERLEAVED_PAIRED(first, NO_PAIR, second, NO_PAIR, third, NO_PAIR, fourth, NO_PAIR)
#define INTERLEAVED_PAIRED(first, pair1, second, pair2, third, pair3, fourth, pair4)                                                               \
    LANES_PANELS(panel_q4_0, STEP_32, STEP_32_BYTES(4), STEP_32_BLOCKS * sizeof(sl_block_a32), first, pair1)                                       \
    LANES_PANELS(panel_q8_0, STEP_32, STEP_32_BYTES(8), STEP_32_BLOCKS * sizeof(sl_block_a32), second, pair2)                                      \
    LANES_PANELS(panel_q4_k, 256, 36 * CPU_LINE, sizeof(sl_block_a256), third, pair3)                                                              \
    LANES_PANELS(panel_q6_k, 256, 52 * CPU_LINE + CPU_LINE / 2, sizeof(sl_block_a256), fourth, pair4)                                              \
    INTERLEAVED_KERNEL(q4_0, A32)                                                                                                                  \
    INTERLEAVED_KERNEL(q8_0, A32)                                                                                                                  \
    INTERLEAVED_KERNEL(q4_k, A256)                                                                                                                 \
    INTERLEAVED_KERNEL(q6_k, A256)
#define INTERLEAVED_IMPLS(level, text)                                                                                                             \
    SL_ROW(TYPE_Q4_0, CPU_MATMUL_IMPLS(Q4_0, q4_0, level, text, kernel_q4_0))                                                                      \
    SL_ROW(TYPE_Q8_0, CPU_MATMUL_IMPLS(Q8_0, q8_0, level, text, kernel_q8_0))                                                                      \
    SL_ROW(TYPE_Q4_K, CPU_MATMUL_IMPLS(Q4_K, q4_k, level, text, kernel_q4_k))                                                                      \
    SL_ROW(TYPE_Q6_K, CPU_MATMUL_IMPLS(Q6_K, q6_k, level, text, kernel_q6_k))

/* ---- activations ---- */

INLINE int quantize_block(const float *x, int n, int8_t *q, float *d)
{
    vf top = f_set(0.0f);
    for (int k = 0; k < n; k += LANES)
        top = f_top(top, f_load(x + k));
    const uint32_t amax = f_most_bits(top);
    const int bad = amax >= 0x7f800000u;
    if (bad || sl_float(amax) < 0x1p-100f) {
        memset(q, 0, (size_t)n);
        *d = 0.0f;
        return bad;
    }
    const vf id = f_set(127.0f / sl_float(amax));
    *d = sl_float(amax) / 127.0f;
    for (int k = 0; k < n; k += LANES)
        f_store_int8(q + k, f_mul(f_load(x + k), id));
    return 0;
}

static int quantize_a32(int64_t n, const float *x, void *blocks)
{
    sl_block_a32 *to = blocks;
    int bad = 0;
    for (int64_t b = 0; b < n / 32; b++) {
        bad |= quantize_block(x + 32 * b, 32, to[b].q, &to[b].d);
        to[b].sum = i_sum16(to[b].q) + i_sum16(to[b].q + 16);
    }
    return bad;
}

static int quantize_a256(int64_t n, const float *x, void *blocks)
{
    sl_block_a256 *to = blocks;
    int bad = 0;
    for (int64_t b = 0; b < n / 256; b++) {
        bad |= quantize_block(x + 256 * b, 256, to[b].q, &to[b].d);
        for (int i = 0; i < 16; i++)
            to[b].sum[i] = (int16_t)i_sum16(to[b].q + 16 * i);
        memset(to[b].pad, 0, sizeof to[b].pad);
    }
    return bad;
}

static int quantize_b16(int64_t n, const float *x, void *blocks)
{
    sl_block_b16 *to = blocks;
    int bad = 0;
    for (; n >= 32; n -= 32, x += 32, to++) {
        vf top = f_set(0.0f);
        for (int k = 0; k < 32; k += LANES) {
            const vf v = f_load(x + k);
            top = f_top(top, v);
            f_store_bf16(to->v + k, f_flush(f_round(v)));
        }
        if (f_most_bits(top) >= 0x7f7f8000u) {      /* rounds to infinity, is infinite or not a number */
            memset(to, 0, sizeof *to);
            bad = 1;
        }
    }
    return n ? bad | sl_quantize_b16(x, (int)n, to) : bad;
}

static int convert_f16(int64_t n, const float *x, void *halves)
{
    uint16_t *to = halves;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        f_store_f16(to + i, f_load(x + i));
    for (; i < n; i++)
        to[i] = sl_float_to_half(x[i]);
    return 0;
}

/* ---- rows ---- */

static void rms_norm(int64_t n, const float *x, const float *weight, float epsilon, float *y)
{
    float s[16];
    vf sums[REGS];
    int64_t i = 0;
    UNROLL for (int r = 0; r < REGS; r++)
        sums[r] = f_set(0.0f);
    for (; i + 16 <= n; i += 16)
        UNROLL for (int r = 0; r < REGS; r++) {
            const vf v = f_load(x + i + r * LANES);
            sums[r] = f_fma(v, v, sums[r]);
        }
    UNROLL for (int r = 0; r < REGS; r++)
        f_store(s + r * LANES, sums[r]);
    for (; i < n; i++)
        s[i % 16] = sl_fma(x[i], x[i], s[i % 16]);
    const float scale = 1.0f / sl_sqrt(cpu_halve(s) / (float)n + epsilon);
    const vf scales = f_set(scale);
    for (i = 0; i + LANES <= n; i += LANES)
        f_store(y + i, f_mul(f_mul(f_load(x + i), scales), f_load(weight + i)));
    for (; i < n; i++)
        y[i] = x[i] * scale * weight[i];
}

static void layer_norm(int64_t n, const float *x, const float *weight, const float *bias, float epsilon, float *y)
{
    float s[16], ss[16];
    vf sums[REGS], squares[REGS];
    int64_t i = 0;
    UNROLL for (int r = 0; r < REGS; r++)
        sums[r] = squares[r] = f_set(0.0f);
    for (; i + 16 <= n; i += 16)
        UNROLL for (int r = 0; r < REGS; r++)
            sums[r] = f_add(sums[r], f_load(x + i + r * LANES));
    UNROLL for (int r = 0; r < REGS; r++)
        f_store(s + r * LANES, sums[r]);
    for (; i < n; i++)
        s[i % 16] += x[i];
    const float mean = cpu_halve(s) / (float)n;
    const vf means = f_set(mean);
    for (i = 0; i + 16 <= n; i += 16)
        UNROLL for (int r = 0; r < REGS; r++) {
            const vf v = f_sub(f_load(x + i + r * LANES), means);
            squares[r] = f_fma(v, v, squares[r]);
        }
    UNROLL for (int r = 0; r < REGS; r++)
        f_store(ss + r * LANES, squares[r]);
    for (; i < n; i++)
        ss[i % 16] = sl_fma(x[i] - mean, x[i] - mean, ss[i % 16]);
    const float scale = 1.0f / sl_sqrt(cpu_halve(ss) / (float)n + epsilon);
    const vf scales = f_set(scale);
    for (i = 0; i + LANES <= n; i += LANES)
        f_store(y + i, f_fma(f_mul(f_sub(f_load(x + i), means), scales), f_load(weight + i), f_load(bias + i)));
    for (; i < n; i++)
        y[i] = sl_fma((x[i] - mean) * scale, weight[i], bias[i]);
}

static void add_gated(int64_t n, float *x, const float *y, float gate)
{
    const vf gates = f_set(gate);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        f_store(x + i, f_fma(f_load(y + i), gates, f_load(x + i)));
    for (; i < n; i++)
        x[i] = sl_fma(y[i], gate, x[i]);
}

static void add(int64_t n, float *x, const float *y)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        f_store(x + i, f_add(f_load(x + i), f_load(y + i)));
    for (; i < n; i++)
        x[i] += y[i];
}

/* exp(x) without its power of two, which *t has: exp(x) = p * f_power(t). */
INLINE vf f_exp_parts(vf x, vf *t)
{
    const vf magic = f_set(SL_EXP_MAGIC), one = f_set(1.0f);
    *t = f_fma(x, f_set(SL_EXP_LOG2E), magic);
    const vf n = f_sub(*t, magic);
    vf r = f_fma(n, f_set(-SL_EXP_LN2_HI), x), p = f_set(SL_EXP_C6);
    r = f_fma(n, f_set(-SL_EXP_LN2_LO), r);
    p = f_fma(p, r, f_set(SL_EXP_C5));
    p = f_fma(p, r, f_set(SL_EXP_C4));
    p = f_fma(p, r, f_set(SL_EXP_C3));
    p = f_fma(p, r, f_set(SL_EXP_C2));
    p = f_fma(p, r, one);
    p = f_fma(p, r, one);
    return p;
}

INLINE vf f_exp(vf x)
{
    vf t;
    const vf p = f_exp_parts(x, &t);
    vf y = f_mul(p, f_power(t));
    y = f_where_less(x, f_set(SL_EXP_MIN), f_set(0.0f), y);
    return f_where_less(f_set(SL_EXP_MAX), x, f_set(sl_float(0x7f800000u)), y);
}

INLINE vf f_erf(vf x)
{
    const vf zero = f_set(0.0f), one = f_set(1.0f), most = f_set(SL_ERF_FAR), a = f_top(x, zero), b = f_where_less(most, a, most, a), z = f_mul(x, x);
    vf p = f_set(SL_ERF_S6), g = f_set(SL_ERF_G6);
    p = f_fma(p, z, f_set(SL_ERF_S5));
    p = f_fma(p, z, f_set(SL_ERF_S4));
    p = f_fma(p, z, f_set(SL_ERF_S3));
    p = f_fma(p, z, f_set(SL_ERF_S2));
    p = f_fma(p, z, f_set(SL_ERF_S1));
    p = f_fma(p, z, f_set(SL_ERF_S0));
    g = f_fma(g, b, f_set(SL_ERF_G5));
    g = f_fma(g, b, f_set(SL_ERF_G4));
    g = f_fma(g, b, f_set(SL_ERF_G3));
    g = f_fma(g, b, f_set(SL_ERF_G2));
    g = f_fma(g, b, f_set(SL_ERF_G1));
    g = f_fma(g, b, f_set(SL_ERF_G0));
    const vf far = f_sub(one, f_exp(g));
    return f_where_less(a, one, f_fma(p, x, x), f_where_less(x, zero, f_neg(far), far));
}

INLINE vf f_gelu(vf x)
{
    const vf half = f_mul(f_set(0.5f), x);
    return f_fma(half, f_erf(f_mul(x, f_set(SL_SQRT_HALF))), half);
}

static void gelu(int64_t n, float *x, const float *bias)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        f_store(x + i, f_gelu(bias ? f_add(f_load(x + i), f_load(bias + i)) : f_load(x + i)));
    for (; i < n; i++)
        x[i] = sl_gelu(bias ? x[i] + bias[i] : x[i]);
}

static void quick_gelu(int64_t n, float *x, const float *bias)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vf z = bias ? f_add(f_load(x + i), f_load(bias + i)) : f_load(x + i);
        f_store(x + i, f_div(z, f_add(f_set(1.0f), f_exp(f_neg(f_mul(z, f_set(SL_QUICK_GELU)))))));
    }
    for (; i < n; i++)
        x[i] = sl_quick_gelu(bias ? x[i] + bias[i] : x[i]);
}

static void silu_mul(int64_t n, const float *gate, const float *up, float *y)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vf z = f_load(gate + i), silu = f_div(z, f_add(f_set(1.0f), f_exp(f_neg(z))));
        f_store(y + i, f_mul(silu, f_load(up + i)));
    }
    for (; i < n; i++)
        y[i] = sl_silu(gate[i]) * up[i];
}

static void rope(int64_t n, float *x, const float *angles)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        f_store(x + i, f_rotate(f_load(x + i), f_load(angles + i)));
    for (; i + 1 < n; i += 2) {
        const float a = x[i], b = x[i + 1], c = angles[i], s = angles[i + 1];
        x[i] = sl_fma(a, c, -(b * s));
        x[i + 1] = sl_fma(a, s, b * c);
    }
}

#include "kernels_attention.h"
#include "kernels_cache.h"

/* ---- what the rows of the level point to ---- */

#define FLOAT_KERNEL(stem, form) CPU_KERNEL cpu_matmul_kernel kernel_##stem = { panel_##stem, SL_ACT_##form, &wide_##stem };
FLOAT_KERNEL(f32, F32)
FLOAT_KERNEL(f16, F32)
FLOAT_KERNEL(bf16, F32)
FLOAT_KERNEL(f32_b16, B16)
FLOAT_KERNEL(f16_b16, B16)
FLOAT_KERNEL(bf16_b16, B16)
CPU_KERNEL cpu_quantize_kernel kernel_a32 = { SL_ACT_A32, quantize_a32 }, kernel_a256 = { SL_ACT_A256, quantize_a256 }, kernel_b16 = { SL_ACT_B16, quantize_b16 };
CPU_KERNEL cpu_cache_write_kernel kernel_cache_f16 = { SL_TYPE_F16, convert_f16 }, kernel_cache_bf16 = { SL_TYPE_BF16, quantize_b16 }, kernel_cache_q8_0 = { SL_TYPE_Q8_0, quantize_a32 };
CPU_KERNEL cpu_rms_norm_kernel kernel_rms_norm = { rms_norm };
CPU_KERNEL cpu_layer_norm_kernel kernel_layer_norm = { layer_norm };
CPU_KERNEL cpu_gelu_kernel kernel_gelu = { gelu }, kernel_quick_gelu = { quick_gelu };
CPU_KERNEL cpu_add_gated_kernel kernel_add_gated = { add_gated };
CPU_KERNEL cpu_add_kernel kernel_add = { add };
CPU_KERNEL cpu_silu_mul_kernel kernel_silu_mul = { silu_mul };
CPU_KERNEL cpu_rope_kernel kernel_rope = { rope };
CPU_KERNEL cpu_attention_kernel kernel_attention_f32 = { SL_TYPE_F32, GROUP, NULL, attention_work, attention_f32, NULL, NULL };
CPU_KERNEL cpu_attention_kernel kernel_attention_f16 = { SL_TYPE_F16, GROUP, NULL, attention_work, attention_f16, NULL, NULL };
CPU_KERNEL cpu_attention_kernel kernel_attention_bf16 = { SL_TYPE_BF16, GROUP, prepare_bf16, attention_work, attention_bf16, NULL, NULL };
CPU_KERNEL cpu_attention_kernel kernel_attention_q8_0 = { SL_TYPE_Q8_0, GROUP, quantize_a32, attention_work, attention_q8_0, NULL, NULL };

#define LANES_IMPLS(level, text)                                                                                                                   \
    SL_ROW(TYPE_F32, CPU_FLOAT_IMPLS(F32, f32, level, text, kernel_f32))                                                                           \
    SL_ROW(TYPE_F16, CPU_FLOAT_IMPLS(F16, f16, level, text, kernel_f16))                                                                           \
    SL_ROW(TYPE_BF16, CPU_FLOAT_IMPLS(BF16, bf16, level, text, kernel_bf16))                                                                       \
    CPU_VECTOR_IMPLS(level, text)

#endif
