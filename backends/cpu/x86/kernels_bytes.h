/* SPDX-License-Identifier: MIT */
/* kernels_bytes.h - products of quantized weights with vpmaddubsw: unsigned by signed bytes, pairs added in 16 bits with saturation. Every sum below is
 * proved to fit, so the integers are exact. Brings kernels_lanes.h; besides what that wants, the kernel file has defined
 *
 *   i_load i_splat                     from memory at any address; the dword at an address in all lanes
 *   i_byte i_word                      one number in all bytes, in all words
 *   i_and i_or i_add16 i_sub32
 *   i_left i_right(a, n)               dwords shifted, zeros move in
 *   i_maddubs(u, s)                    per word: u[0] * s[0] + u[1] * s[1]
 *   i_madd(sum, a, b)                  per dword: sum + a[0] * b[0] + a[1] * b[1], words, exact
 *   i_abs i_sign(x, w)                 |w| of bytes (128 for -128); x with the sign of w, 0 where w is 0
 *   i_words(v, lo, hi)                 per dword: the bytes number lo and hi of v, sign-extended to words
 *
 * A step serves the rows of one register at a time; `half` counts the registers of 16 rows. */
#ifndef CPU_KERNELS_BYTES_H
#define CPU_KERNELS_BYTES_H

#include "../kernels_lanes.h"

/* ---- 32 elements to a block ---- */

/* Nibbles are unsigned; 8 times the sum of x comes off afterwards. 8 pairs of 15 * 127 stay below 2^15. */
INLINE void step_q4_0(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vi low = i_byte(15), one = i_word(1);
    const int halves = REGS > 1 ? opaque(REGS) : 1;
    for (int b = 0; b < n / 32; b++)
        for (int half = 0; half < halves; half++) {
            const uint8_t *w = panel + cpu_body_offset(at_q4_0, (size_t)k / 32 + (size_t)b) + half * LANE_BYTES;
            vi s[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                s[t] = i_word(0);
            UNROLL for (int i = 0; i < 4; i++) {
                const vi q = i_load(w + CPU_LINE * i), q0 = i_and(q, low), q1 = i_and(i_right(q, 4), low);
                UNROLL for (int t = 0; t < m; t++) {
                    const int8_t *a = ACT32(x[t], b)->q + 4 * i;
                    s[t] = i_add16(s[t], i_add16(i_maddubs(q0, i_splat(a)), i_maddubs(q1, i_splat(a + 16))));
                    PIN(s[t]);
                }
            }
            const vf d = head(panel + cpu_head_offset(at_q4_0, (size_t)k / 32 + (size_t)b), half);
            UNROLL for (int t = 0; t < m; t++) {
                const sl_block_a32 *a = ACT32(x[t], b);
                const vi start = i_sub32(i_word(0), i_left(i_splat(&a->sum), 3));
                finish(d, a->d, i_madd(start, s[t], one), acc[t] + half * LANES);
            }
        }
}

/* |w| is unsigned and at most 128, x takes the sign: 2 * 128 * 127 = 32512 fits, -128 included. */
INLINE void step_q8_0(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vi one = i_word(1);
    const int halves = REGS > 1 ? opaque(REGS) : 1;
    for (int b = 0; b < n / 32; b++)
        for (int half = 0; half < halves; half++) {
            const uint8_t *w = panel + cpu_body_offset(at_q8_0, (size_t)k / 32 + (size_t)b) + half * LANE_BYTES;
            vi s[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                s[t] = i_word(0);
            UNROLL for (int i = 0; i < 8; i++) {
                const vi q = i_load(w + CPU_LINE * i), u = i_abs(q);
                UNROLL for (int t = 0; t < m; t++) {
                    s[t] = i_madd(s[t], i_maddubs(u, i_sign(i_splat(ACT32(x[t], b)->q + 4 * i), q)), one);
                    PIN(s[t]);
                }
            }
            const vf d = head(panel + cpu_head_offset(at_q8_0, (size_t)k / 32 + (size_t)b), half);
            UNROLL for (int t = 0; t < m; t++)
                finish(d, ACT32(x[t], b)->d, s[t], acc[t] + half * LANES);
        }
}

/* ---- super-blocks ---- */

/* The eight 6-bit scales and minima of Q4_K as bytes: group g is byte g % 4 of [g / 4]. */
INLINE void scales_q4_k(const uint8_t *w, vi sc[2], vi mn[2])
{
    const vi m6 = i_byte(63), m4 = i_byte(15), m2 = i_byte(48);
    const vi p0 = i_load(w), p1 = i_load(w + CPU_LINE), p2 = i_load(w + 2 * CPU_LINE);
    sc[0] = i_and(p0, m6);
    mn[0] = i_and(p1, m6);
    sc[1] = i_or(i_and(p2, m4), i_and(i_right(p0, 2), m2));
    mn[1] = i_or(i_and(i_right(p2, 4), m4), i_and(i_right(p1, 2), m2));
}

/* The minima's part: each stands beside two sums of 16. */
INLINE void finish_q4_k(const uint8_t *at, int half, const vi mn[2], const vi *s, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vf d = head(at, half), dmin = head(at + CPU_LINE / 2, half);
    vi sums[MAX_T];
    UNROLL for (int t = 0; t < m; t++)
        sums[t] = i_word(0);
    UNROLL for (int g = 0; g < 8; g++) {
        const vi w = i_words(mn[g / 4], g % 4, g % 4);
        UNROLL for (int t = 0; t < m; t++) {
            sums[t] = i_madd(sums[t], w, i_splat(ACT256(x[t])->sum + 2 * g));
            PIN(sums[t]);
        }
    }
    UNROLL for (int t = 0; t < m; t++) {
        const vf dx = f_set(ACT256(x[t])->d), y = f_fma(f_mul(d, dx), f_int(s[t]), f_load(acc[t] + half * LANES));
        f_store(acc[t] + half * LANES, f_fma(f_neg(f_mul(dmin, dx)), f_int(sums[t]), y));
    }
}

/* A group of 32 is 8 pairs per word: 8 * 2 * 15 * 127 = 30480 fits, and the scale is applied to words. */
INLINE void step_q4_k(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vi low = i_byte(15);
    (void)n;
    const int halves = REGS > 1 ? opaque(REGS) : 1;
    for (int half = 0; half < halves; half++) {
        const uint8_t *w = panel + cpu_body_offset(at_q4_k, (size_t)k / 256) + half * LANE_BYTES;
        vi sc[2], mn[2], s[MAX_T];
        scales_q4_k(w, sc, mn);
        UNROLL for (int t = 0; t < m; t++)
            s[t] = i_word(0);
        for (int c = 0; c < opaque(4); c++) {        /* groups 2c and 2c + 1: low and high nibbles of 8 lines */
            const vi scales = i_right(sc[c / 2], c % 2 * 16);
            vi a[MAX_T], b[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                a[t] = b[t] = i_word(0);
            UNROLL for (int i = 0; i < 8; i++) {
                const vi q = i_load(w + CPU_LINE * (3 + 8 * c + i)), q0 = i_and(q, low), q1 = i_and(i_right(q, 4), low);
                UNROLL for (int t = 0; t < m; t++) {
                    const int8_t *y = ACT256(x[t])->q + 64 * c + 4 * i;
                    a[t] = i_add16(a[t], i_maddubs(q0, i_splat(y)));
                    b[t] = i_add16(b[t], i_maddubs(q1, i_splat(y + 32)));
                    PIN(a[t]);
                    PIN(b[t]);
                }
            }
            UNROLL for (int t = 0; t < m; t++)
                s[t] = i_madd(i_madd(s[t], a[t], i_words(scales, 0, 0)), b[t], i_words(scales, 1, 1));
        }
        finish_q4_k(panel + cpu_head_offset(at_q4_k, (size_t)k / 256), half, mn, s, x, m, acc);
    }
}

/* Half a block of Q6_K, 128 elements: its lines are 16 of low bits, 8 of upper ones and 2 of scales. Six unsigned bits of line i of group g < 8. */
INLINE vi six_bits(const uint8_t *lows, const uint8_t *ups, int g, int i)
{
    const int quarter = g / 2;
    const vi lo = i_load(lows + CPU_LINE * (quarter % 2 * 8 + g % 2 * 4 + i)), hi = i_load(ups + CPU_LINE * (g % 2 * 4 + i));
    const vi up = quarter == 0 ? i_left(hi, 4) : quarter == 1 ? i_left(hi, 2) : quarter == 2 ? hi : i_right(hi, 2);
    return i_or(i_and(quarter < 2 ? lo : i_right(lo, 4), i_byte(15)), i_and(up, i_byte(48)));
}

/* Two pairs of 63 * 127 per word are 32004 and fit; 32 times the scaled sums of x comes off afterwards. */
INLINE void step_q6_k(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    (void)n;
    const int halves = REGS > 1 ? opaque(REGS) : 1;
    for (int half = 0; half < halves; half++) {
        const uint8_t *w = panel + cpu_body_offset(at_q6_k, (size_t)k / 256) + half * LANE_BYTES;
        vi s[MAX_T], off[MAX_T];
        UNROLL for (int t = 0; t < m; t++)
            s[t] = off[t] = i_word(0);
        for (int h = 0; h < opaque(2); h++)
            UNROLL for (int g = 0; g < 8; g++) {        /* groups of 16 */
                const vi scales = i_load(w + CPU_LINE * (48 + 2 * h + g / 4)), sc = i_words(scales, g % 4, g % 4);
                UNROLL for (int i = 0; i < 4; i += 2) {
                    const vi q0 = six_bits(w + CPU_LINE * 16 * h, w + CPU_LINE * (32 + 8 * h), g, i);
                    const vi q1 = six_bits(w + CPU_LINE * 16 * h, w + CPU_LINE * (32 + 8 * h), g, i + 1);
                    UNROLL for (int t = 0; t < m; t++) {
                        const int8_t *y = ACT256(x[t])->q + 128 * h + 16 * g + 4 * i;
                        s[t] = i_madd(s[t], i_add16(i_maddubs(q0, i_splat(y)), i_maddubs(q1, i_splat(y + 4))), sc);
                        PIN(s[t]);
                    }
                    }
                if (g % 2 == 0) {
                    const vi both = i_words(scales, g % 4, g % 4 + 1);
                    UNROLL for (int t = 0; t < m; t++) {
                        off[t] = i_madd(off[t], both, i_splat(ACT256(x[t])->sum + 8 * h + g));
                        PIN(off[t]);
                    }
                }
            }
        const vf d = head(panel + cpu_head_offset(at_q6_k, (size_t)k / 256), half);
        UNROLL for (int t = 0; t < m; t++)
            finish(d, ACT256(x[t])->d, i_sub32(s[t], i_left(off[t], 5)), acc[t] + half * LANES);
    }
}

#endif
