/* SPDX-License-Identifier: MIT */
/* kernels_grids.h - products of few activation rows with super-blocks whose elements are looked up in tables (IQ1, IQ2, IQ3) or are ternary (TQ1_0, TQ2_0), for
 * every level of vectors: a group of 32 elements becomes eight lines of signed bytes and a scale, which are multiplied as those of kernels_types.h are.
 * Included by it; besides what it lists, the kernel file has defined
 *
 *   i_store(p, v)                      to any address
 *   i_entries4(grid, at)               per dword: entry number at[lane] of a table of 4 bytes per entry, at[LANES] in memory
 *   i_entries8(grid, at, &lo, &hi)     the same of 8 bytes per entry: the first four, the others
 *   i_negate_where(q, h, bits)         per byte: -q where h has the one bit that `bits` has
 *   i_more_above(q, v, bound)          per byte: q plus 1 where v is more than bound, both unsigned
 *   i_mul16(a, b)                      per word: the lower half of the product
 *
 * Why entries come one by one out of memory, and not by the processor's own gathering: on some it is slower, and on those that were mended against
 * reading what others left in its buffers, slower by far.
 *
 * `g` is a group of 32 elements, `h` half a group, `half` a register of the 16 rows; w and heads are as of register `half`. */
#ifndef CPU_KERNELS_GRIDS_H
#define CPU_KERNELS_GRIDS_H

INLINE vi i_dword(uint32_t x) { return i_splat(&x); }
/* A scale of 32 elements, in both words; two scales of 16 are a word each. All are odd: 2 n + 1. */
INLINE vi twice(vi low) { return i_or(low, i_left(low, 16)); }
INLINE vi odd_words(vi n) { return i_add32(i_left(n, 1), i_dword(0x00010001)); }
/* Byte `b` of line `line`, in the lowest byte of every dword; what is above it stays. */
INLINE vi byte_at(const uint8_t *w, int line, int b) { return i_right(i_load(w + CPU_LINE * (line + b / 4)), b % 4 * 8); }

/* Elements 0 to 3 and 4 to 7 of the entries `index`. */
INLINE void grid_pair(const uint8_t *grid, vi index, vi q[2])
{
    uint32_t at[LANES];
    i_store(at, index);
    i_entries8(grid, at, &q[0], &q[1]);
}

INLINE vi grid_four(const uint8_t *grid, vi index)
{
    uint32_t at[LANES];
    i_store(at, index);
    return i_entries4(grid, at);
}

/* Signs in byte `b` of every dword: bit 4 upper + j is that of element j. */
INLINE vi grid_signed(vi q, vi signs, int b, int upper) { return i_negate_where(q, i_pick(signs, b), i_dword(upper ? 0x80402010u : 0x08040201u)); }

/* Seven signs in every byte, and the eighth so that their number is even. */
INLINE vi eighth_sign(vi seven)
{
    static const uint8_t bits[16] = { 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4 };
    const vi row = i_row(bits), low = i_byte(15), count = i_add8(i_table(row, i_and(seven, low)), i_table(row, i_and(i_right(seven, 4), low)));
    return i_or(seven, i_and(i_left(count, 7), i_byte(-128)));
}

/* The signs of four times eight elements out of a word with four times seven. */
INLINE vi four_signs(vi word)
{
    const vi lower = i_or(i_and(word, i_dword(0x7f)), i_and(i_left(word, 1), i_dword(0x7f00)));
    return eighth_sign(i_or(lower, i_or(i_and(i_left(word, 2), i_dword(0x7f0000)), i_and(i_left(word, 3), i_dword(0x7f000000)))));
}

/* ---- what a type has: lines_STEM, four lines of half a group; scale_STEM, those of its halves in words; and its d ---- */

INLINE void lines_iq2_xxs(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    const vi four = i_load(w + CPU_LINE * 2 * g), signs = four_signs(i_load(w + CPU_LINE * (2 * g + 1)));
    (void)heads, (void)half;
    UNROLL for (int i = 0; i < 2; i++) {
        grid_pair(sl_grid_iq2xxs, i_and(i_right(four, 8 * (2 * h + i)), i_dword(255)), q + 2 * i);
        q[2 * i] = grid_signed(q[2 * i], signs, 2 * h + i, 0);
        q[2 * i + 1] = grid_signed(q[2 * i + 1], signs, 2 * h + i, 1);
    }
}
INLINE vi scale_iq2_xxs(const uint8_t *w, const uint8_t *heads, int half, int g)
{
    (void)heads, (void)half;
    return odd_words(twice(i_right(i_load(w + CPU_LINE * (2 * g + 1)), 28)));
}

/* Two nibbles of byte g of the scales. */
INLINE vi two_nibbles(const uint8_t *w, int line, int g)
{
    const vi v = byte_at(w, line, g);
    return odd_words(i_or(i_and(v, i_dword(15)), i_and(i_left(v, 12), i_dword(15 << 16))));
}

INLINE void lines_iq2_xs(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    const vi two = i_load(w + CPU_LINE * (2 * g + h)), signs = eighth_sign(i_or(i_and(i_right(two, 9), i_dword(0x7f)), i_and(i_right(two, 17), i_dword(0x7f00))));
    (void)heads, (void)half;
    UNROLL for (int i = 0; i < 2; i++) {
        grid_pair(sl_grid_iq2xs, i_and(i_right(two, 16 * i), i_dword(511)), q + 2 * i);
        q[2 * i] = grid_signed(q[2 * i], signs, i, 0);
        q[2 * i + 1] = grid_signed(q[2 * i + 1], signs, i, 1);
    }
}
INLINE vi scale_iq2_xs(const uint8_t *w, const uint8_t *heads, int half, int g) { return (void)heads, (void)half, two_nibbles(w, 16, g); }

INLINE void lines_iq2_s(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    const vi four = i_load(w + CPU_LINE * g), signs = i_load(w + CPU_LINE * (8 + g)), upper = i_left(i_and(byte_at(w, 16, g), i_dword(255)), 8);
    (void)heads, (void)half;
    UNROLL for (int i = 0; i < 2; i++) {
        const int t = 2 * h + i;
        grid_pair(sl_grid_iq2s, i_or(i_and(i_right(four, 8 * t), i_dword(255)), i_and(i_right(upper, 2 * t), i_dword(0x300))), q + 2 * i);
        q[2 * i] = grid_signed(q[2 * i], signs, t, 0);
        q[2 * i + 1] = grid_signed(q[2 * i + 1], signs, t, 1);
    }
}
INLINE vi scale_iq2_s(const uint8_t *w, const uint8_t *heads, int half, int g) { return (void)heads, (void)half, two_nibbles(w, 18, g); }

INLINE void lines_iq3_xxs(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    const vi four = i_load(w + CPU_LINE * (2 * g + h)), signs = four_signs(i_load(w + CPU_LINE * (16 + g)));
    (void)heads, (void)half;
    UNROLL for (int j = 0; j < 4; j++)
        q[j] = grid_signed(grid_four(sl_grid_iq3xxs, i_and(i_right(four, 8 * j), i_dword(255))), signs, 2 * h + j / 2, j % 2);
}
INLINE vi scale_iq3_xxs(const uint8_t *w, const uint8_t *heads, int half, int g)
{
    (void)heads, (void)half;
    return odd_words(twice(i_right(i_load(w + CPU_LINE * (16 + g)), 28)));
}

INLINE void lines_iq3_s(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    const vi four = i_load(w + CPU_LINE * (2 * g + h)), signs = i_load(w + CPU_LINE * (18 + g)), upper = i_left(i_and(byte_at(w, 16, g), i_dword(255)), 8);
    (void)heads, (void)half;
    UNROLL for (int j = 0; j < 4; j++) {
        const vi index = i_or(i_and(i_right(four, 8 * j), i_dword(255)), i_and(i_right(upper, 4 * h + j), i_dword(256)));
        q[j] = grid_signed(grid_four(sl_grid_iq3s, index), signs, 2 * h + j / 2, j % 2);
    }
}
INLINE vi scale_iq3_s(const uint8_t *w, const uint8_t *heads, int half, int g)
{
    (void)heads, (void)half;
    return odd_words(twice(i_and(i_right(i_load(w + CPU_LINE * 26), 4 * g), i_dword(15))));
}

/* 8 v plus or minus 1; minus where `minus` has the bits of `bit`. */
INLINE vi eight_times(vi v, vi minus, int bit) { return i_add8(i_and(i_left(v, 3), i_byte(-8)), i_negate_where(i_byte(1), minus, i_byte((char)bit))); }

INLINE void lines_iq1_s(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    const vi four = i_load(w + CPU_LINE * g), word = i_right(i_load(w + CPU_LINE * (8 + g / 2)), g % 2 * 16), minus = i_pick(word, 1);
    (void)heads, (void)half;
    UNROLL for (int i = 0; i < 2; i++) {
        const int t = 2 * h + i;
        grid_pair((const uint8_t *)sl_grid_iq1s, i_or(i_and(i_right(four, 8 * t), i_dword(255)), i_and(i_left(i_right(word, 3 * t), 8), i_dword(0x700))), q + 2 * i);
        q[2 * i] = eight_times(q[2 * i], minus, 0x80);
        q[2 * i + 1] = eight_times(q[2 * i + 1], minus, 0x80);
    }
}
INLINE vi scale_iq1_s(const uint8_t *w, const uint8_t *heads, int half, int g)
{
    (void)heads, (void)half;
    return odd_words(twice(i_and(i_right(i_load(w + CPU_LINE * (8 + g / 2)), g % 2 * 16 + 12), i_dword(7))));
}

INLINE void lines_iq1_m(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    const vi four = i_load(w + CPU_LINE * g), nibbles = i_right(i_load(w + CPU_LINE * (8 + g / 2)), g % 2 * 16), minus = i_pick(nibbles, h);
    (void)heads, (void)half;
    UNROLL for (int i = 0; i < 2; i++) {
        const int t = 2 * h + i;
        grid_pair((const uint8_t *)sl_grid_iq1s, i_or(i_and(i_right(four, 8 * t), i_dword(255)), i_and(i_left(i_right(nibbles, 4 * t), 8), i_dword(0x700))), q + 2 * i);
        q[2 * i] = eight_times(q[2 * i], minus, i ? 0x80 : 0x08);
        q[2 * i + 1] = eight_times(q[2 * i + 1], minus, i ? 0x80 : 0x08);
    }
}
/* The four words of scales of a block of IQ1_M: two in its last line, two in the head line. */
INLINE vi words_iq1_m(const uint8_t *w, const uint8_t *heads, int half, int n)
{
    return n < 2 ? i_right(i_load(w + CPU_LINE * 12), 16 * n) : i_load_words(heads + CPU_LINE / 2 * (n - 2) + half * LANE_HALVES);
}
INLINE vi scale_iq1_m(const uint8_t *w, const uint8_t *heads, int half, int g)
{
    const vi v = i_right(words_iq1_m(w, heads, half, g / 2), g % 2 * 6);
    return odd_words(i_or(i_and(v, i_dword(7)), i_and(i_left(v, 13), i_dword(7 << 16))));
}
/* d / 8: the half that lies in the upper four bits of the words, lowest first. Its bits as those of a float are 2^-112 of it; the sign comes with the factor. */
INLINE vf d_iq1_m(const uint8_t *w, const uint8_t *heads, int half)
{
    vi bits = i_word(0);
    UNROLL for (int n = 0; n < 4; n++)
        bits = i_or(bits, i_left(i_and(i_right(words_iq1_m(w, heads, half, n), 12), i_dword(15)), 4 * n));
    const vi sign = i_and(i_left(bits, 16), i_dword(0x80000000u));
    return f_mul(f_bits(i_left(i_and(bits, i_dword(0x7fff)), 13)), f_bits(i_or(sign, i_dword((127 + 112 - 3) << 23))));
}

/* A byte holds five digits to the base 3 (blocks_iq.h): times 3^k mod 256 brings digit k up, and it counts how many thirds of 256 are below. */
INLINE void lines_tq1_0(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    static const uint32_t powers[5] = { 0x00010001, 0x00030003, 0x00090009, 0x001b001b, 0x00510051 };
    (void)heads, (void)half;
    UNROLL for (int j = 0; j < 4; j++) {
        const int e = 8 * g + 4 * h + j, line = e < 40 ? e % 8 : e < 60 ? 8 + j : 12, digit = e < 40 ? e / 8 : e < 60 ? (e - 40) / 4 : j;
        const vi five = i_load(w + CPU_LINE * line), power = i_splat(powers + digit), low = i_dword(0x00ff00ff), high = i_dword(0xff00ff00u);
        const vi v = i_or(i_and(i_mul16(five, power), low), i_mul16(i_and(five, high), power));
        q[j] = i_more_above(i_more_above(i_byte(-1), v, i_byte(85)), v, i_byte((char)170));
    }
}

INLINE void lines_tq2_0(const uint8_t *w, const uint8_t *heads, int half, int g, int h, vi q[4])
{
    (void)heads, (void)half;
    UNROLL for (int j = 0; j < 4; j++)
        q[j] = i_add8(i_and(i_right(i_load(w + CPU_LINE * (g / 4 * 8 + 4 * h + j)), g % 4 * 2), i_byte(3)), i_byte(-1));
}

INLINE vi scale_one(void) { return i_word(1); }
#define scale_tq1_0(w, heads, half, g) scale_one()
#define scale_tq2_0(w, heads, half, g) scale_one()

#define GRID_HEAD(stem, factor) \
    INLINE vf d_##stem(const uint8_t *w, const uint8_t *heads, int half) { return (void)w, f_mul(head(heads, half), f_set(factor)); }
GRID_HEAD(iq2_xxs, 0.125f) GRID_HEAD(iq2_xs, 0.125f) GRID_HEAD(iq2_s, 0.125f) GRID_HEAD(iq3_xxs, 0.25f) GRID_HEAD(iq3_s, 1.0f) GRID_HEAD(iq1_s, 0.125f)
GRID_HEAD(tq1_0, 1.0f) GRID_HEAD(tq2_0, 1.0f)

/* ---- products ---- */

/* a[t] plus half a group times the activations at byte `at` of the rows; without dots of bytes: s[t] plus that times the scale in both words. */
INLINE void grid_dots(const vi q[4], vi scale, int at, const uint8_t *const *x, int m, vi a[MAX_T], vi s[MAX_T])
{
#if defined(BYTE_DOTS)
    (void)scale, (void)s;
    UNROLL for (int j = 0; j < 4; j++) {
        const vi u = IQ4_OFFSET ? i_add8(q[j], i_byte((char)IQ4_OFFSET)) : q[j];
        UNROLL for (int t = 0; t < m; t++) {
            a[t] = i_dots(a[t], u, ACT256(x[t])->q + at + 4 * j);
            PIN(a[t]);
        }
    }
#else       /* 4 products of at most 62 * 127 fit a word */
    (void)a;
    UNROLL for (int j = 0; j < 4; j += 2)
        UNROLL for (int t = 0; t < m; t++) {
            const int8_t *y = ACT256(x[t])->q + at + 4 * j;
            s[t] = i_madd(s[t], i_add16(i_maddubs(i_abs(q[j]), i_sign(i_splat(y), q[j])), i_maddubs(i_abs(q[j + 1]), i_sign(i_splat(y + 4), q[j + 1]))), scale);
            PIN(s[t]);
        }
#endif
}

/* groups: elements that share a scale; 256: all are 1. */
#define GRID_STEP(stem, groups)                                                                                                                    \
    INLINE void step_##stem(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])                      \
    {                                                                                                                                              \
        const uint8_t *heads = panel + cpu_head_offset(at_##stem, (size_t)k / 256);                                                                \
        const int halves = REGS > 1 ? opaque(REGS) : 1;                                                                                            \
        (void)n;                                                                                                                                   \
        for (int half = 0; half < halves; half++) {                                                                                                \
            const uint8_t *w = panel + cpu_body_offset(at_##stem, (size_t)k / 256) + half * LANE_BYTES;                                            \
            vi a[MAX_T], s[MAX_T], off[MAX_T];                                                                                                     \
            UNROLL for (int t = 0; t < m; t++)                                                                                                     \
                a[t] = s[t] = off[t] = i_word(0);                                                                                                  \
            for (int g = 0; g < opaque(8); g++) {                                                                                                  \
                const vi scale = scale_##stem(w, heads, half, g);                                                                                  \
                UNROLL for (int h = 0; h < 2; h++) {                                                                                               \
                    vi q[4];                                                                                                                       \
                    lines_##stem(w, heads, half, g, h, q);                                                                                         \
                    grid_dots(q, (groups) == 16 ? i_words(scale, 2 * h, 2 * h) : scale, 32 * g + 16 * h, x, m, a, s);                              \
                    if ((groups) == 16 || ((groups) == 32 && h))                                                                                   \
                        grid_scale(a, (groups) == 16 && !h ? i_left(scale, 16) : scale, m, s);                                                     \
                }                                                                                                                                  \
                grid_off(off, scale, g, x, m);                                                                                                     \
            }                                                                                                                                      \
            const vf d = d_##stem(w, heads, half);                                                                                                 \
            UNROLL for (int t = 0; t < m; t++)                                                                                                     \
                finish(d, ACT256(x[t])->d, grid_sum(a[t], s[t], off[t]), acc[t] + half * LANES);                                                   \
        }                                                                                                                                          \
    }

/* Sums a go to s with their scale (the upper word), and begin anew. */
INLINE void grid_scale(vi a[MAX_T], vi scale, int m, vi s[MAX_T])
{
#if defined(BYTE_DOTS)
    UNROLL for (int t = 0; t < m; t++) {
        s[t] = i_scale(s[t], a[t], scale);
        PIN(s[t]);
        a[t] = i_word(0);
    }
#else
    (void)a, (void)scale, (void)m, (void)s;
#endif
}

/* What the offset of the bytes added, scales times sums of 16 activations, less that. */
INLINE void grid_off(vi off[MAX_T], vi scale, int g, const uint8_t *const *x, int m)
{
    if (IQ4_OFFSET)
        UNROLL for (int t = 0; t < m; t++) {
            off[t] = i_madd(off[t], scale, i_splat(ACT256(x[t])->sum + 2 * g));
            PIN(off[t]);
        }
}
INLINE vi grid_sum(vi a, vi s, vi off) { return IQ4_OFFSET ? i_sub32(i_add32(a, s), i_left(off, 7)) : i_add32(a, s); }

/* X(stem, elements that share a scale). */
#define TYPES_GRID(X) \
    X(iq2_xxs, 32) X(iq2_xs, 16) X(iq2_s, 16) X(iq3_xxs, 32) X(iq3_s, 32) X(iq1_s, 32) X(iq1_m, 16) X(tq1_0, 256) X(tq2_0, 256)
TYPES_GRID(GRID_STEP)

#endif
