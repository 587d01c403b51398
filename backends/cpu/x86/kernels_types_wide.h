/* SPDX-License-Identifier: MIT */
/* kernels_types_wide.h - products of many activation rows with the types of kernels_types.h: a panel is converted into what those of Q8_0, Q4_K and Q6_K
 * are converted into, exactly, and multiplied as those are. Included by kernels_avx512.c after kernels_types.h.
 *
 * Products of super-blocks' integers and their scales, |v| < 2^14: Q5_K 31 * 63, Q2_K 3 * 15, Q3_K 4 * 32, IQ4_XS 127 * 32. */
#ifndef CPU_KERNELS_TYPES_WIDE_H
#define CPU_KERNELS_TYPES_WIDE_H

#if defined(CPU_WITH_AMX)
typedef amx_w32 types_w32;
enum { TYPES_BIAS = 0 };
#define WIDE_SMALL(stem) &amx_##stem
#define TYPES_LINE(w, b, i) (w)->q[b][i]
#else
typedef wide_w32 types_w32;
enum { TYPES_BIAS = 128 };
#define WIDE_SMALL(stem) &wide_##stem
#define TYPES_LINE(w, b, i) (w)->q[8 * (b) + (i)]
#endif
#define WIDE_LEAST(stem) WIDE_SMALL(stem)
#define WIDE_SUPER(stem) WIDE_SMALL(stem)

INLINE void types_convert_small(cpu_interleave at, int has, int offset, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    types_w32 *w = (void *)to;
    const vi table = small_table(has), add = i_byte((char)(TYPES_BIAS - offset));
    for (int b = 0; b < n_block; b++) {
        const uint8_t *from = panel + cpu_body_offset(at, first + (size_t)b), *heads = panel + cpu_head_offset(at, first + (size_t)b);
        UNROLL for (int i = 0; i < 4; i++) {
            vi q0, q1;
            small_line(has, from, table, i, &q0, &q1);
            _mm512_store_si512(TYPES_LINE(w, b, i), i_add8(q0, add));
            _mm512_store_si512(TYPES_LINE(w, b, 4 + i), i_add8(q1, add));
        }
        f_store(w->d[b], has & FP4 ? fp4_scales(heads, 0) : head(heads, 0));
        if (has & LEAST)
            f_store(w->m[b], head(heads + CPU_LINE / 2, 0));
    }
}

#define TYPES_CONVERT_SMALL(stem, has, offset)                                                                                                     \
    static void types_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                  \
    {                                                                                                                                              \
        (void)n_in;                                                                                                                                \
        types_convert_small(at_##stem, has, offset, panel, first, n_block, to);                                                                    \
    }
TYPES_SMALL(TYPES_CONVERT_SMALL)
TYPES_LEAST(TYPES_CONVERT_SMALL)

#if defined(CPU_WITH_AMX)

#define TYPES_WIDE_SMALL(stem, has, offset) AMX_KERNEL_32(stem, types_convert_##stem)
#define TYPES_WIDE_LEAST(stem, has, offset) AMX_KERNEL_32_LEAST(stem, types_convert_##stem)

/* Products of the integers less `offset` and their scales, in two planes. */
INLINE void types_planes(super at, int offset, const uint8_t *from, const vi scales[8], amx_w256 *w)
{
    const vi low = i_word(0xff), off = i_word((short)offset);
    const int n = 8 / at.width;
    for (int c = 0; c < opaque(8 / n); c++)
        UNROLL for (int v = 0; v < n; v++)
            UNROLL for (int h = 0; h < 2; h++) {
                const int g = n * c + v;
                const vi scale = at.groups == 16 ? i_words(scales[g], 2 * h, 2 * h) : scales[g];
                UNROLL for (int j = 0; j < 4; j++) {
                    const vi q = super_line(at, from, c, v, h, j);
                    const vi even = _mm512_sub_epi16(i_and(q, low), off), odd = _mm512_sub_epi16(_mm512_srli_epi16(q, 8), off);
                    amx_planes(_mm512_mullo_epi16(even, scale), _mm512_mullo_epi16(odd, scale), w->lo[8 * g + 4 * h + j], w->hi[8 * g + 4 * h + j]);
                }
            }
}

/* A minimum, the lower word of every dword of v, in bf16 and twice. */
INLINE void types_least(vi v, uint16_t *to)
{
    const vi least = _mm512_castps_si512(f_int(v));
    _mm512_store_si512(to, i_or(least, i_right(least, 16)));
}

#define TYPES_WIDE_SUPER(stem, with_least, shift, ...)                                                                                             \
    static void types_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                  \
    {                                                                                                                                              \
        amx_w256 *w = (void *)to;                                                                                                                  \
        const uint8_t *from = panel + cpu_body_offset(at_##stem, first), *heads = panel + cpu_head_offset(at_##stem, first);                       \
        vi scales[8], least[8];                                                                                                                    \
        (void)n_in, (void)n_block;                                                                                                                 \
        scales_##stem(from, heads, 0, scales, least);                                                                                              \
        f_store(w->d, head(heads, 0));                                                                                                             \
        types_planes((super) { __VA_ARGS__ }, (shift) ? 1 << (shift) : 0, from, scales, w);                                                        \
        if (with_least) {                                                                                                                          \
            f_store(w->m, head(heads + CPU_LINE / 2, 0));                                                                                          \
            UNROLL for (int g = 0; g < 8; g++) {                                                                                                   \
                types_least(i_and(least[g], _mm512_set1_epi32(0xffff)), w->least[2 * g]);                                                          \
                types_least(i_right(least[g], 16), w->least[2 * g + 1]);                                                                           \
            }                                                                                                                                      \
        }                                                                                                                                          \
    }                                                                                                                                              \
    CPU_KERNEL cpu_wide amx_##stem = { AMX_T, (with_least) ? sizeof(amx_x256) : offsetof(amx_x256, sum), sizeof(amx_w256), sizeof(amx_work),       \
                                       (with_least) ? amx_prepare_least : amx_prepare_plain, types_convert_##stem,                                 \
                                       (with_least) ? amx_multiply_least : amx_multiply_plain, wide_store, amx_begin, amx_end };
TYPES_SUPER(TYPES_WIDE_SUPER)

#else

#define TYPES_WIDE_SMALL(stem, has, offset) WIDE_KERNEL_32(stem, types_convert_##stem)
#define TYPES_WIDE_LEAST(stem, has, offset) WIDE_KERNEL_32_LEAST(stem, types_convert_##stem)

/* Bytes as they are: what they are more by is in the sums that the prepared rows begin with. */
INLINE void types_bytes(super at, const uint8_t *from, const vi scales[8], const vi *least, wide_w256 *w)
{
    const int n = 8 / at.width;
    UNROLL for (int g = 0; g < 8; g++) {
        _mm512_store_si512(w->scale[2 * g], i_and(scales[g], _mm512_set1_epi32(0xffff)));
        _mm512_store_si512(w->scale[2 * g + 1], i_right(scales[g], 16));
        if (least)
            _mm512_store_si512(w->least[g], least[g]);
    }
    for (int c = 0; c < opaque(8 / n); c++)
        UNROLL for (int v = 0; v < n; v++)
            UNROLL for (int i = 0; i < 8; i++)
                _mm512_store_si512(w->q[8 * (n * c + v) + i], super_line(at, from, c, v, i / 4, i % 4));
}

#define TYPES_WIDE_SUPER(stem, with_least, shift, ...)                                                                                             \
    static void types_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                  \
    {                                                                                                                                              \
        wide_w256 *w = (void *)to;                                                                                                                 \
        const uint8_t *from = panel + cpu_body_offset(at_##stem, first), *heads = panel + cpu_head_offset(at_##stem, first);                       \
        vi scales[8], least[8];                                                                                                                    \
        (void)n_in, (void)n_block;                                                                                                                 \
        scales_##stem(from, heads, 0, scales, least);                                                                                              \
        f_store(w->d, head(heads, 0));                                                                                                             \
        if (with_least)                                                                                                                            \
            f_store(w->m, head(heads + CPU_LINE / 2, 0));                                                                                          \
        types_bytes((super) { __VA_ARGS__ }, from, scales, (with_least) ? least : NULL, w);                                                        \
    }                                                                                                                                              \
    WIDE_KERNEL_256(stem, types_convert_##stem, wide_x256, wide_w256)
TYPES_SUPER(TYPES_WIDE_SUPER)

#endif
TYPES_SMALL(TYPES_WIDE_SMALL)
TYPES_LEAST(TYPES_WIDE_LEAST)

#endif
