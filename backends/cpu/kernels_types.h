/* SPDX-License-Identifier: MIT */
/* kernels_types.h - products of few activation rows with the types beside Q4_0, Q8_0, Q4_K and Q6_K, for every level of vectors. A weight becomes a byte,
 * unsigned after an offset where its type has one, and what the offset adds comes off by the sums of the activations. Included by one kernel file per level
 * after kernels_lanes.h; besides what kernels_bytes.h lists (there also: i_madd, i_words, PIN) the file has defined
 *
 *   i_add8 i_add32 i_max32            (the last of signed dwords)
 *   i_row(p)                           the 16 bytes at p, in every 16 bytes of the register
 *   i_table(row, index)                per byte: the byte number index (0 .. 15) of row
 *   i_pick(v, b)                       the byte number b of every dword, in all its bytes
 *   i_plus_where(q, h, bits, plus)     per byte: q plus `plus`, whose bits q lacks, where h has the one bit that `bits` has
 *   i_load_bytes i_load_words          LANES bytes or words from memory, zero-extended to dwords
 *   f_bits(a)                          dwords as the floats that they are
 * and either
 *   BYTE_DOTS, i_dots(sum, q, x)       per dword: sum plus four products of the bytes of q with the four at x, exact up to q = 127
 *   IQ4_OFFSET                         128 if q may be more, up to 255, else 0 and q is signed
 *   i_scale(s, e, w)                   s + e * (the upper word of w)
 *   i_scale_two(s, a, b, w)            s + a * (the lower word of w) + b * (the upper one), a and b in 16 bits
 * or i_maddubs, i_abs, i_sign and i_add16; bounds of their 16 bits: 4 pairs of 31 * 127 are 31496.
 *
 * `half` counts the registers of 16 rows, `g` groups of 32 elements of a super-block. */
#ifndef CPU_KERNELS_TYPES_H
#define CPU_KERNELS_TYPES_H

#include "kernels_lanes.h"

#if !defined(BYTE_DOTS)
enum { IQ4_OFFSET = 0 };
#endif

INLINE vi iq4_table(void) { return i_add8(i_row(sl_grid_iq4nl), i_byte((char)IQ4_OFFSET)); }

/* ---- a scale for 32 elements or more: nibbles of 4 lines, elements 4 i and 16 + 4 i onwards in line i; or a line of bits, two lines of pairs of bits ---- */

/* What a type has: a line of fifth bits in front, a minimum beside its scale, tables of numbers for its nibbles (doubled E2M1 with a power of two as scale);
 * bits, four times 32 to a block, or pairs of bits, twice 32. */
enum { FIFTH = 1, LEAST = 2, IQ4 = 4, FP4 = 8, BIT = 16, TWO = 32 };
enum { FP4_OFFSET = 12 };

INLINE int small_acts(int has) { return has & BIT ? 4 : has & TWO ? 2 : 1; }

/* q plus 16 in byte j of a dword where bit 4 n + j of the dword of h is set. */
INLINE vi small_fifth(vi q, vi h, int n)
{
    const uint32_t bits = 0x08040201u << n % 2 * 4;
    return i_plus_where(q, i_pick(h, n / 2), i_splat(&bits), i_byte(16));
}

INLINE vi small_table(int has) { return has & IQ4 ? iq4_table() : i_add8(i_row(sl_grid_fp4x2), i_byte(FP4_OFFSET)); }

/* Twice bit 4 n + j of the dword of h in byte j; pair j of byte b. */
INLINE vi small_bit(vi h, int n)
{
    const uint32_t bits = 0x08040201u << n % 2 * 4;
    return i_plus_where(i_word(0), i_pick(h, n / 2), i_splat(&bits), i_byte(2));
}
INLINE vi small_two(vi h, int b)
{
    static const uint32_t low = 0x40100401, high = 0x80200802;
    const vi pairs = i_pick(h, b);
    return i_plus_where(i_plus_where(i_word(0), pairs, i_splat(&low), i_byte(1)), pairs, i_splat(&high), i_byte(2));
}

/* Elements 4 i and 16 + 4 i to 3 more, with the type's offset. */
INLINE void small_line(int has, const uint8_t *w, vi table, int i, vi *q0, vi *q1)
{
    if (has & BIT) {
        *q0 = small_bit(i_load(w), i), *q1 = small_bit(i_load(w), 4 + i);
        return;
    }
    if (has & TWO) {
        *q0 = small_two(i_load(w), i), *q1 = small_two(i_load(w + CPU_LINE), i);
        return;
    }
    const vi both = i_load(w + CPU_LINE * (i + (has & FIFTH ? 1 : 0))), low = i_byte(15);
    *q0 = i_and(both, low);
    *q1 = i_and(i_right(both, 4), low);
    if (has & FIFTH)
        *q0 = small_fifth(*q0, i_load(w), i), *q1 = small_fifth(*q1, i_load(w), 4 + i);
    if (has & (IQ4 | FP4))
        *q0 = i_table(table, *q0), *q1 = i_table(table, *q1);
}

/* s plus two lines, low and high nibbles of each, times the activations at y. */
INLINE vi small_dots(int has, vi s, const vi q[4], const int8_t *y)
{
#if defined(BYTE_DOTS)
    (void)has;
    return i_dots(i_dots(i_dots(i_dots(s, q[0], y), q[1], y + 16), q[2], y + 4), q[3], y + 20);
#else
    const vi one = i_word(1);
    if (has & IQ4) {
        UNROLL for (int i = 0; i < 4; i++)
            s = i_madd(s, i_maddubs(i_abs(q[i]), i_sign(i_splat(y + i / 2 * 4 + i % 2 * 16), q[i])), one);
        return s;
    }
    const vi first = i_add16(i_maddubs(q[0], i_splat(y)), i_maddubs(q[1], i_splat(y + 16)));
    return i_madd(s, i_add16(first, i_add16(i_maddubs(q[2], i_splat(y + 4)), i_maddubs(q[3], i_splat(y + 20)))), one);
#endif
}

/* 2^(e - 128): as sl_mxfp4_scale. Its bits are (e - 1) << 23, or 0x200000 (e + 1) for e = 0 and 1: in either case the larger number of the two. */
INLINE vf fp4_scales(const uint8_t *at, int half)
{
    static const int32_t one = 1;
    const vi e = i_load_bytes(at + half * LANES), up = i_splat(&one);
    return f_bits(i_max32(i_left(i_sub32(e, up), 23), i_left(i_add32(e, up), 21)));
}

INLINE void step_small(cpu_interleave at, int has, int offset, const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vi table = small_table(has);
    const int halves = REGS > 1 ? opaque(REGS) : 1;
    const size_t acts = (size_t)small_acts(has);
    for (int b = 0; b < n / 32; b++)
        for (int half = 0; half < halves; half++) {
            const size_t block = ((size_t)k / 32 + (size_t)b) / acts, part = ((size_t)k / 32 + (size_t)b) % acts;
            const uint8_t *w = panel + cpu_body_offset(at, block) + part * (cpu_block_bytes(at) / acts) + half * LANE_BYTES, *heads = panel + cpu_head_offset(at, block);
            vi s[MAX_T];
            UNROLL for (int t = 0; t < m; t++) {
                const int32_t start = -offset * ACT32(x[t], b)->sum;
                s[t] = i_splat(&start);
            }
            UNROLL for (int i = 0; i < 4; i += 2) {
                vi q[4];
                small_line(has, w, table, i, &q[0], &q[1]);
                small_line(has, w, table, i + 1, &q[2], &q[3]);
                UNROLL for (int t = 0; t < m; t++) {
                    s[t] = small_dots(has, s[t], q, ACT32(x[t], b)->q + 4 * i);
                    PIN(s[t]);
                }
            }
            const vf d = has & FP4 ? fp4_scales(heads, half) : head(heads, half);
            UNROLL for (int t = 0; t < m; t++) {
                const sl_block_a32 *a = ACT32(x[t], b);
                float *to = acc[t] + half * LANES;
                finish(d, a->d, s[t], to);
                if (has & LEAST)
                    f_store(to, f_fma(f_mul(head(heads + CPU_LINE / 2, half), f_set(a->d)), f_set((float)a->sum), f_load(to)));
            }
        }
}

#define SMALL_STEP(stem, has, offset)                                                                                                              \
    INLINE void step_##stem(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])                      \
    {                                                                                                                                              \
        step_small(at_##stem, has, offset, panel, k, n, x, m, acc);                                                                                \
    }
/* X(stem, what it has, its offset): with minima, and without. */
#define TYPES_LEAST(X) X(q4_1, LEAST, 0) X(q5_1, FIFTH | LEAST, 0)
#define TYPES_SMALL(X) X(q5_0, FIFTH, 16) X(iq4_nl, IQ4, IQ4_OFFSET) X(mxfp4, FP4, FP4_OFFSET) X(q1_0, BIT, 1) X(q2_0, TWO, 1)
TYPES_LEAST(SMALL_STEP)
TYPES_SMALL(SMALL_STEP)

/* ---- NVFP4: four scales to 64 elements, each of 16 in two lines of nibbles: elements 4 j and 8 + 4 j onwards in line j ---- */

enum { NVFP4_OFFSET = IQ4_OFFSET ? FP4_OFFSET : 0 };

/* Half the E4M3 number of group g: its bits in their place, with e = 0 as if it were normal, which is 2^-8 and half the number. No NaN is among weights. */
INLINE vf nvfp4_scales(const uint8_t *heads, int half, int g)
{
    static const int32_t code = 0x7f, bias = 119 << 23;
    const vi two = i_load_words(heads + CPU_LINE / 2 * (g / 2) + half * LANE_HALVES);
    const vf x = f_bits(i_add32(i_left(i_and(g % 2 ? i_right(two, 8) : two, i_splat(&code)), 20), i_splat(&bias))), part = f_sub(x, f_set(0x1p-8f));
    return f_where_less(x, f_set(0x1p-7f), f_add(part, part), x);
}

INLINE void nvfp4_lines(const uint8_t *w, int g, vi q[4])
{
    const vi table = NVFP4_OFFSET ? small_table(FP4) : i_row(sl_grid_fp4x2), low = i_byte(15);
    UNROLL for (int j = 0; j < 2; j++) {
        const vi both = i_load(w + CPU_LINE * (2 * g + j));
        q[j] = i_table(table, i_and(both, low));
        q[2 + j] = i_table(table, i_and(i_right(both, 4), low));
    }
}

/* The sum of 16 products with the activations at y. */
INLINE vi nvfp4_sum(const vi q[4], const int8_t *y)
{
    vi s = i_word(0);
#if defined(BYTE_DOTS)      /* sums of 16 activations, which the offset wants, are not stored */
    vi off = i_word(0);
    UNROLL for (int j = 0; j < 4; j++) {
        s = i_dots(s, q[j], y + 4 * j);
        if (NVFP4_OFFSET)
            off = i_dots(off, i_byte(NVFP4_OFFSET), y + 4 * j);
    }
    return NVFP4_OFFSET ? i_sub32(s, off) : s;
#else
    UNROLL for (int j = 0; j < 4; j++)
        s = i_add16(s, i_maddubs(i_abs(q[j]), i_sign(i_splat(y + 4 * j), q[j])));
    return i_madd(i_word(0), s, i_word(1));
#endif
}

INLINE void step_nvfp4(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const int halves = REGS > 1 ? opaque(REGS) : 1;
    for (int b = 0; b < n / 64; b++)
        for (int half = 0; half < halves; half++) {
            const uint8_t *w = panel + cpu_body_offset(at_nvfp4, (size_t)k / 64 + (size_t)b) + half * LANE_BYTES;
            const uint8_t *heads = panel + cpu_head_offset(at_nvfp4, (size_t)k / 64 + (size_t)b);
            UNROLL for (int g = 0; g < 4; g++) {
                const vf d = nvfp4_scales(heads, half, g);
                vi q[4];
                nvfp4_lines(w, g, q);
                UNROLL for (int t = 0; t < m; t++) {
                    const sl_block_a32 *a = ACT32(x[t], 2 * b + g / 2);
                    vi s = nvfp4_sum(q, a->q + g % 2 * 16);
                    PIN(s);
                    finish(d, a->d, s, acc[t] + half * LANES);
                }
            }
        }
}

/* ---- super-blocks ---- */

/* Where the bits of a super-block's elements lie, in lines from the begin of its body: the first line with `width` bits, and with one more bit (or -1).
 * halves: elements 0 to 15 of a group in low nibbles, the others in high ones (IQ4_XS); else see "planes" in blocks_k.h. groups: 16 or 32 elements share a scale. */
typedef struct super { int width, first, up, halves, groups; } super;

/* Of group c * n + v, where n planes share lines: elements 16 h + 4 j to 3 more. */
INLINE vi super_line(super at, const uint8_t *w, int c, int v, int h, int j)
{
    if (at.halves) {
        const vi both = i_load(w + CPU_LINE * (at.first + 8 * c + 4 * v + j));
        return i_table(iq4_table(), i_and(h ? i_right(both, 4) : both, i_byte(15)));
    }
    const vi both = i_load(w + CPU_LINE * (at.first + 8 * c + 4 * h + j));
    const vi q = i_and(v ? i_right(both, v * at.width) : both, i_byte((char)((1 << at.width) - 1)));
    if (at.up < 0)
        return q;
    const uint32_t bits = 0x01010101u << (8 / at.width * c + v);
    return i_plus_where(q, i_load(w + CPU_LINE * (at.up + 4 * h + j)), i_splat(&bits), i_byte((char)(1 << at.width)));
}

/* s[t] = sum of scales times q times activations. scales[g]: those of the group's two halves, in words. */
INLINE void super_sums(super at, const uint8_t *w, const vi scales[8], const uint8_t *const *x, int m, vi s[MAX_T])
{
    UNROLL for (int t = 0; t < m; t++)
        s[t] = i_word(0);
    const int n = 8 / at.width;
    for (int c = 0; c < opaque(8 / n); c++)
        UNROLL for (int v = 0; v < n; v++) {
            const int g = n * c + v;
            const vi scale = scales[g];
            vi a[MAX_T], b[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                a[t] = b[t] = i_word(0);
            UNROLL for (int j = 0; j < 4; j++) {
                const vi q0 = super_line(at, w, c, v, 0, j), q1 = super_line(at, w, c, v, 1, j);
                UNROLL for (int t = 0; t < m; t++) {
                    const int8_t *y = ACT256(x[t])->q + 32 * g + 4 * j;
#if defined(BYTE_DOTS)
                    a[t] = i_dots(a[t], q0, y);
                    b[t] = i_dots(b[t], q1, y + 16);
                    PIN(a[t]);
                    PIN(b[t]);
#else
                    if (at.halves) {
                        s[t] = i_madd(s[t], i_maddubs(i_abs(q0), i_sign(i_splat(y), q0)), scale);
                        s[t] = i_madd(s[t], i_maddubs(i_abs(q1), i_sign(i_splat(y + 16), q1)), scale);
                        PIN(s[t]);
                    } else {
                        a[t] = i_add16(a[t], i_maddubs(q0, i_splat(y)));
                        b[t] = i_add16(b[t], i_maddubs(q1, i_splat(y + 16)));
                        PIN(a[t]);
                        PIN(b[t]);
                    }
#endif
                }
            }
            UNROLL for (int t = 0; t < m; t++) {
#if defined(BYTE_DOTS)
                s[t] = at.groups == 16 ? i_scale_two(s[t], a[t], b[t], scale) : i_scale(s[t], i_add32(a[t], b[t]), scale);
#else
                if (!at.halves)
                    s[t] = i_madd(i_madd(s[t], a[t], at.groups == 16 ? i_words(scale, 0, 0) : scale), b[t], at.groups == 16 ? i_words(scale, 2, 2) : scale);
#endif
                PIN(s[t]);
            }
        }
}

/* Sum of the words of all groups times the sums of 16 activations. */
INLINE void super_weigh(const vi words[8], const uint8_t *const *x, int m, vi sums[MAX_T])
{
    UNROLL for (int t = 0; t < m; t++)
        sums[t] = i_word(0);
    UNROLL for (int g = 0; g < 8; g++)
        UNROLL for (int t = 0; t < m; t++) {
            sums[t] = i_madd(sums[t], words[g], i_splat(ACT256(x[t])->sum + 2 * g));
            PIN(sums[t]);
        }
}

/* Less 2^shift for every q. */
INLINE void super_finish(const uint8_t *heads, int half, const vi scales[8], unsigned shift, const vi s[MAX_T], const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vf d = head(heads, half);
    vi off[MAX_T];
    if (shift)
        super_weigh(scales, x, m, off);
    UNROLL for (int t = 0; t < m; t++)
        finish(d, ACT256(x[t])->d, shift ? i_sub32(s[t], i_left(off[t], shift)) : s[t], acc[t] + half * LANES);
}

/* With minima. */
INLINE void super_finish_least(const uint8_t *heads, int half, const vi least[8], const vi s[MAX_T], const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vf d = head(heads, half), dmin = f_neg(head(heads + CPU_LINE / 2, half));
    vi sums[MAX_T];
    super_weigh(least, x, m, sums);
    UNROLL for (int t = 0; t < m; t++) {
        finish(d, ACT256(x[t])->d, s[t], acc[t] + half * LANES);
        finish(dmin, ACT256(x[t])->d, sums[t], acc[t] + half * LANES);
    }
}

/* The scales of a type's block, those of a group's two halves in words, and its minima: w and heads as of register `half`. */
INLINE void scales_q5_k(const uint8_t *w, const uint8_t *heads, int half, vi scales[8], vi least[8])
{
    const vi m6 = i_byte(63), m4 = i_byte(15), m2 = i_byte(48), p0 = i_load(w), p1 = i_load(w + CPU_LINE), p2 = i_load(w + 2 * CPU_LINE);
    const vi sc[2] = { i_and(p0, m6), i_or(i_and(p2, m4), i_and(i_right(p0, 2), m2)) };
    const vi mn[2] = { i_and(p1, m6), i_or(i_and(i_right(p2, 4), m4), i_and(i_right(p1, 2), m2)) };
    (void)heads, (void)half;
    UNROLL for (int g = 0; g < 8; g++) {
        scales[g] = i_words(sc[g / 4], g % 4, g % 4);
        least[g] = i_words(mn[g / 4], g % 4, g % 4);
    }
}

INLINE void scales_q2_k(const uint8_t *w, const uint8_t *heads, int half, vi scales[8], vi least[8])
{
    const vi low = i_byte(15);
    (void)heads, (void)half;
    UNROLL for (int g = 0; g < 8; g++) {
        const vi both = i_load(w + CPU_LINE * (g / 2));
        scales[g] = i_words(i_and(both, low), g % 2 * 2, g % 2 * 2 + 1);
        least[g] = i_words(i_and(i_right(both, 4), low), g % 2 * 2, g % 2 * 2 + 1);
    }
}

INLINE void scales_q3_k(const uint8_t *w, const uint8_t *heads, int half, vi scales[8], vi least[8])
{
    const vi low = i_byte(15), up = i_byte(48), off = i_byte(-32), p2 = i_load(w + 26 * CPU_LINE);
    (void)heads, (void)half, (void)least;
    UNROLL for (int g = 0; g < 8; g++) {
        const vi four = i_load(w + CPU_LINE * (24 + g / 2 % 2)), upper = g / 2 == 0 ? i_left(p2, 4) : g / 2 == 1 ? i_left(p2, 2) : g / 2 == 2 ? p2 : i_right(p2, 2);
        const vi six = i_or(i_and(g / 4 ? i_right(four, 4) : four, low), i_and(upper, up));
        scales[g] = i_words(i_add8(six, off), g % 2 * 2, g % 2 * 2 + 1);
    }
}

INLINE void scales_iq4_xs(const uint8_t *w, const uint8_t *heads, int half, vi scales[8], vi least[8])
{
    static const int32_t bytes = 0x00ff00ff;
    const vi low = i_byte(15), up = i_byte(48), off = i_byte(-32), lows = i_load(w);
    const vi ups = i_load_words(heads + CPU_LINE / 2 + half * LANE_HALVES);         /* four bits of every byte's two groups, to the bytes */
    const vi spread = i_and(i_or(ups, i_left(ups, 8)), i_splat(&bytes)), four = i_and(i_or(spread, i_left(spread, 4)), low);
    const vi sc[2] = { i_add8(i_or(i_and(lows, low), i_and(i_left(four, 4), up)), off), i_add8(i_or(i_and(i_right(lows, 4), low), i_and(i_left(four, 2), up)), off) };
    (void)least;
    UNROLL for (int g = 0; g < 8; g++)
        scales[g] = i_words(sc[g % 2], g / 2, g / 2);
}

/* X(stem, minima?, log2 of what the unsigned q is more by (0: nothing), what lies where). */
#define TYPES_SUPER(X) \
    X(q5_k, 1, 0, .width = 4, .first = 11, .up = 3, .groups = 32) \
    X(q2_k, 1, 0, .width = 2, .first = 4, .up = -1, .groups = 16) \
    X(q3_k, 0, 2, .width = 2, .first = 8, .up = 0, .groups = 16) \
    X(iq4_xs, 0, IQ4_OFFSET ? 7 : 0, .width = 4, .first = 1, .up = -1, .halves = 1, .groups = 32)
#define SUPER_STEP(stem, with_least, shift, ...)                                                                                                   \
    INLINE void step_##stem(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])                      \
    {                                                                                                                                              \
        const uint8_t *heads = panel + cpu_head_offset(at_##stem, (size_t)k / 256);                                                                \
        const int halves = REGS > 1 ? opaque(REGS) : 1;                                                                                            \
        (void)n;                                                                                                                                   \
        for (int half = 0; half < halves; half++) {                                                                                                \
            const uint8_t *w = panel + cpu_body_offset(at_##stem, (size_t)k / 256) + half * LANE_BYTES;                                            \
            vi scales[8], least[8], s[MAX_T];                                                                                                      \
            scales_##stem(w, heads, half, scales, least);                                                                                          \
            super_sums((super) { __VA_ARGS__ }, w, scales, x, m, s);                                                                               \
            if (with_least)                                                                                                                        \
                super_finish_least(heads, half, least, s, x, m, acc);                                                                              \
            else                                                                                                                                   \
                super_finish(heads, half, scales, shift, s, x, m, acc);                                                                            \
        }                                                                                                                                          \
    }
TYPES_SUPER(SUPER_STEP)

#include "kernels_grids.h"

/* ---- panels, and the rows of a level's array ---- */

/* The kernel file says TYPES_PANELS(TYPES_PANEL), after it has defined WIDE_SMALL(stem), WIDE_LEAST(stem), WIDE_SUPER(stem), WIDE_GRID(stem) and
 * WIDE_GROUPS(stem): the kernel for many rows of a type with small blocks, with minima beside them, with super-blocks, with those of kernels_grids.h, with
 * scales of 16 elements; or NULL.
 * X(NAME, stem, elements of a step; beside one block of activations: lines of the body, and so many of them share a head line; form, kind). */
#define TYPES_PANELS(X) \
    X(Q5_K, q5_k, 256, 43, 1, A256, SUPER) X(Q5_0, q5_0, STEP_32, 5, 2, A32, SMALL) X(Q4_1, q4_1, STEP_32, 4, 1, A32, LEAST) \
    X(Q3_K, q3_k, 256, 27, 2, A256, SUPER) X(Q2_K, q2_k, 256, 20, 1, A256, SUPER) X(IQ4_XS, iq4_xs, 256, 33, 1, A256, SUPER) \
    X(IQ4_NL, iq4_nl, STEP_32, 4, 2, A32, SMALL) X(Q5_1, q5_1, STEP_32, 5, 1, A32, LEAST) X(MXFP4, mxfp4, STEP_32, 4, 4, A32, SMALL) \
    X(IQ2_XXS, iq2_xxs, 256, 16, 2, A256, GRID) X(IQ2_XS, iq2_xs, 256, 18, 2, A256, GRID) X(IQ2_S, iq2_s, 256, 20, 2, A256, GRID) \
    X(IQ3_XXS, iq3_xxs, 256, 24, 2, A256, GRID) X(IQ3_S, iq3_s, 256, 27, 2, A256, GRID) X(IQ1_S, iq1_s, 256, 12, 2, A256, GRID) \
    X(IQ1_M, iq1_m, 256, 13, 1, A256, GRID) X(TQ1_0, tq1_0, 256, 13, 2, A256, GRID) X(TQ2_0, tq2_0, 256, 16, 2, A256, GRID) \
    X(NVFP4, nvfp4, STEP_32, 4, 2, A32, GROUPS) X(Q1_0, q1_0, STEP_32, 1, 8, A32, SMALL) X(Q2_0, q2_0, STEP_32, 2, 4, A32, SMALL)
enum { STEP_BLOCKS_A32 = STEP_32_BLOCKS, STEP_BLOCKS_A256 = 1, STEP_ACTS_A32 = STEP_32_BLOCKS * sizeof(sl_block_a32), STEP_ACTS_A256 = sizeof(sl_block_a256) };
#define TYPES_PANEL(NAME, stem, values, lines, unit, form, kind)                                                                                   \
    LANES_PANEL(panel_##stem, values, STEP_BLOCKS_##form * ((lines) * CPU_LINE + CPU_LINE / (unit)), STEP_ACTS_##form, step_##stem)                \
    CPU_KERNEL cpu_matmul_kernel kernel_##stem = { panel_##stem, SL_ACT_##form, WIDE_##kind(stem) };

#define TYPES_IMPLS(level, text)                                                                                                                   \
    SL_ROW(TYPE_Q5_K, CPU_MATMUL_IMPLS(Q5_K, q5_k, level, text, kernel_q5_k))                                                                      \
    SL_ROW(TYPE_Q5_0, CPU_MATMUL_IMPLS(Q5_0, q5_0, level, text, kernel_q5_0))                                                                      \
    SL_ROW(TYPE_Q4_1, CPU_MATMUL_IMPLS(Q4_1, q4_1, level, text, kernel_q4_1))                                                                      \
    SL_ROW(TYPE_Q3_K, CPU_MATMUL_IMPLS(Q3_K, q3_k, level, text, kernel_q3_k))                                                                      \
    SL_ROW(TYPE_Q2_K, CPU_MATMUL_IMPLS(Q2_K, q2_k, level, text, kernel_q2_k))                                                                      \
    SL_ROW(TYPE_IQ4_XS, CPU_MATMUL_IMPLS(IQ4_XS, iq4_xs, level, text, kernel_iq4_xs))                                                              \
    SL_ROW(TYPE_IQ4_NL, CPU_MATMUL_IMPLS(IQ4_NL, iq4_nl, level, text, kernel_iq4_nl))                                                              \
    SL_ROW(TYPE_Q5_1, CPU_MATMUL_IMPLS(Q5_1, q5_1, level, text, kernel_q5_1))                                                                      \
    SL_ROW(TYPE_MXFP4, CPU_MATMUL_IMPLS(MXFP4, mxfp4, level, text, kernel_mxfp4))                                                                  \
    SL_ROW(TYPE_IQ2_XXS, CPU_MATMUL_IMPLS(IQ2_XXS, iq2_xxs, level, text, kernel_iq2_xxs))                                                           \
    SL_ROW(TYPE_IQ2_XS, CPU_MATMUL_IMPLS(IQ2_XS, iq2_xs, level, text, kernel_iq2_xs))                                                               \
    SL_ROW(TYPE_IQ2_S, CPU_MATMUL_IMPLS(IQ2_S, iq2_s, level, text, kernel_iq2_s))                                                                   \
    SL_ROW(TYPE_IQ3_XXS, CPU_MATMUL_IMPLS(IQ3_XXS, iq3_xxs, level, text, kernel_iq3_xxs))                                                           \
    SL_ROW(TYPE_IQ3_S, CPU_MATMUL_IMPLS(IQ3_S, iq3_s, level, text, kernel_iq3_s))                                                                   \
    SL_ROW(TYPE_IQ1_S, CPU_MATMUL_IMPLS(IQ1_S, iq1_s, level, text, kernel_iq1_s))                                                                   \
    SL_ROW(TYPE_IQ1_M, CPU_MATMUL_IMPLS(IQ1_M, iq1_m, level, text, kernel_iq1_m))                                                                   \
    SL_ROW(TYPE_TQ1_0, CPU_MATMUL_IMPLS(TQ1_0, tq1_0, level, text, kernel_tq1_0))                                                                   \
    SL_ROW(TYPE_TQ2_0, CPU_MATMUL_IMPLS(TQ2_0, tq2_0, level, text, kernel_tq2_0))                                                                  \
    SL_ROW(TYPE_Q1_0, CPU_MATMUL_IMPLS(Q1_0, q1_0, level, text, kernel_q1_0))                                                                      \
    SL_ROW(TYPE_Q2_0, CPU_MATMUL_IMPLS(Q2_0, q2_0, level, text, kernel_q2_0))
/* That with scales of 16 elements, which makes poor tiles. */
#define TYPES_IMPLS_GROUPS(level, text) SL_ROW(TYPE_NVFP4, CPU_MATMUL_IMPLS(NVFP4, nvfp4, level, text, kernel_nvfp4))

#endif
