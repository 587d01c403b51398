/* SPDX-License-Identifier: MIT */
/* kernels_types_wide.h - products of many activation rows with the types of kernels_types.h: a panel is converted into what those of Q8_0, Q4_K and Q6_K
 * are converted into, exactly, and multiplied as those are. Included by kernels_avx512.c after kernels_types.h.
 *
 * Products of super-blocks' integers and their scales, |v| < 2^14: Q5_K 31 * 63, Q2_K 3 * 15, Q3_K 4 * 32, IQ4_XS 127 * 32, IQ3_XXS 62 * 31. */
#ifndef CPU_KERNELS_TYPES_WIDE_H
#define CPU_KERNELS_TYPES_WIDE_H

#if defined(CPU_WITH_AMX)
typedef amx_w32 types_w32;
enum { TYPES_BIAS = 0 };
#define WIDE_SMALL(stem) &amx_##stem
#define WIDE_GROUPS(stem) NULL
#define TYPES_LINE(w, b, i) (w)->q[b][i]
#else
typedef wide_w32 types_w32;
enum { TYPES_BIAS = 128 };
#define WIDE_SMALL(stem) &wide_##stem
#define WIDE_GROUPS(stem) &wide_##stem
#define TYPES_LINE(w, b, i) (w)->q[8 * (b) + (i)]
#endif
#define WIDE_LEAST(stem) WIDE_SMALL(stem)
#define WIDE_SUPER(stem) WIDE_SMALL(stem)
#define WIDE_GRID(stem) WIDE_SMALL(stem)

INLINE void types_convert_small(cpu_interleave at, int has, int offset, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    types_w32 *w = (void *)to;
    const vi table = small_table(has), add = i_byte((char)(TYPES_BIAS - offset));
    const int acts = small_acts(has);
    for (int b = 0; b < n_block * acts; b++) {
        const size_t block = first + (size_t)(b / acts);
        const uint8_t *from = panel + cpu_body_offset(at, block) + (size_t)(b % acts) * (cpu_block_bytes(at) / (size_t)acts), *heads = panel + cpu_head_offset(at, block);
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

/* Four lines of signed bytes. */
INLINE void types_grid(const vi q[4], vi scale, uint8_t (*lo)[64], uint8_t (*hi)[64])
{
    UNROLL for (int j = 0; j < 4; j++)
        amx_planes(_mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(q[j], 8), 8), scale), _mm512_mullo_epi16(_mm512_srai_epi16(q[j], 8), scale), lo[j], hi[j]);
}

#define TYPES_WIDE_GRID(stem, groups)                                                                                                              \
    static void types_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                  \
    {                                                                                                                                              \
        amx_w256 *w = (void *)to;                                                                                                                  \
        const uint8_t *from = panel + cpu_body_offset(at_##stem, first), *heads = panel + cpu_head_offset(at_##stem, first);                       \
        (void)n_in, (void)n_block;                                                                                                                 \
        f_store(w->d, d_##stem(from, heads, 0));                                                                                                   \
        for (int g = 0; g < opaque(8); g++) {                                                                                                      \
            const vi scale = scale_##stem(from, heads, 0, g);                                                                                      \
            UNROLL for (int h = 0; h < 2; h++) {                                                                                                   \
                vi q[4];                                                                                                                           \
                lines_##stem(from, heads, 0, g, h, q);                                                                                             \
                types_grid(q, (groups) == 16 ? i_words(scale, 2 * h, 2 * h) : scale, w->lo + 8 * g + 4 * h, w->hi + 8 * g + 4 * h);                \
            }                                                                                                                                      \
        }                                                                                                                                          \
    }                                                                                                                                              \
    CPU_KERNEL cpu_wide amx_##stem = { AMX_T, offsetof(amx_x256, sum), sizeof(amx_w256), sizeof(amx_work), amx_prepare_plain,                      \
                                       types_convert_##stem, amx_multiply_plain, wide_store, amx_begin, amx_end };
TYPES_GRID(TYPES_WIDE_GRID)

#else

#define TYPES_WIDE_SMALL(stem, has, offset) WIDE_KERNEL_32(stem, types_convert_##stem)
#define TYPES_WIDE_LEAST(stem, has, offset) WIDE_KERNEL_32_LEAST(stem, types_convert_##stem)

/* Bytes as they are: what they are more by is in the sums that the prepared rows begin with. */
INLINE void types_bytes(super at, const uint8_t *from, const vi scales[8], const vi *least, wide_w256 *w)
{
    const int n = 8 / at.width;
    UNROLL for (int g = 0; g < 8; g++) {
        _mm512_store_si512(w->scale[2 * g], at.groups == 16 ? i_and(scales[g], _mm512_set1_epi32(0xffff)) : scales[g]);
        _mm512_store_si512(w->scale[2 * g + 1], at.groups == 16 ? i_right(scales[g], 16) : scales[g]);
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

/* Groups of 32 are multiplied as those of IQ4_XS, scales of 1 among them. */
#define TYPES_WIDE_GRID(stem, groups)                                                                                                              \
    static void types_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                  \
    {                                                                                                                                              \
        wide_w256 *w = (void *)to;                                                                                                                 \
        const uint8_t *from = panel + cpu_body_offset(at_##stem, first), *heads = panel + cpu_head_offset(at_##stem, first);                       \
        (void)n_in, (void)n_block;                                                                                                                 \
        f_store(w->d, d_##stem(from, heads, 0));                                                                                                   \
        for (int g = 0; g < opaque(8); g++) {                                                                                                      \
            const vi scale = scale_##stem(from, heads, 0, g);                                                                                      \
            _mm512_store_si512(w->scale[2 * g], i_and(scale, i_dword(0xffff)));                                                                    \
            _mm512_store_si512(w->scale[2 * g + 1], i_right(scale, 16));                                                                           \
            UNROLL for (int h = 0; h < 2; h++) {                                                                                                   \
                vi q[4];                                                                                                                           \
                lines_##stem(from, heads, 0, g, h, q);                                                                                             \
                UNROLL for (int j = 0; j < 4; j++)                                                                                                 \
                    _mm512_store_si512(w->q[8 * g + 4 * h + j], i_add8(q[j], i_byte((char)TYPES_BIAS)));                                           \
            }                                                                                                                                      \
        }                                                                                                                                          \
    }                                                                                                                                              \
    CPU_KERNEL cpu_wide wide_##stem = { WIDE_T, sizeof(wide_x256), sizeof(wide_w256), 0, (groups) == 16 ? wide_prepare_bytes_16 : wide_prepare_iq4_xs, \
                                        types_convert_##stem, (groups) == 16 ? wide_multiply_bytes_16 : wide_multiply_iq4_xs, wide_store, NULL, wide_end };
TYPES_GRID(TYPES_WIDE_GRID)

/* ---- NVFP4: as the types with blocks of 32, by halves of them ---- */

typedef struct { uint8_t q[64][64]; float d[16][16]; } types_w16;                      /* plus NVFP4_OFFSET */
typedef struct { int8_t q[WIDE_T][256]; int32_t start[WIDE_T][16]; float d[WIDE_T][8]; } types_x16;
SL_STATIC_ASSERT(sizeof(types_x16) % 64 == 0, "prepared groups are whole lines");

static void types_prepare_nvfp4(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    types_x16 *x = (void *)to;
    for (size_t t = 0; t < WIDE_T; t++)
        for (int b = 0; b < n_block; b++) {
            const sl_block_a32 *a = t < n ? ACT32(act[t], b) : NULL;
            int32_t sum = 0;
            _mm256_storeu_si256((void *)(x->q[t] + 32 * b), a ? _mm256_loadu_si256((const void *)a->q) : _mm256_setzero_si256());
            for (int i = 0; i < 16 && a; i++)
                sum += a->q[i];
            x->start[t][2 * b] = -NVFP4_OFFSET * sum;
            x->start[t][2 * b + 1] = a ? -NVFP4_OFFSET * (a->sum - sum) : 0;
            x->d[t][b] = a ? a->d : 0.0f;
        }
}

static void types_convert_nvfp4(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    types_w16 *w = (void *)to;
    (void)n_in;
    for (int b = 0; b < n_block; b++) {
        const uint8_t *from = panel + cpu_body_offset(at_nvfp4, first + (size_t)b), *heads = panel + cpu_head_offset(at_nvfp4, first + (size_t)b);
        UNROLL for (int g = 0; g < 4; g++) {
            vi q[4];
            nvfp4_lines(from, g, q);
            UNROLL for (int j = 0; j < 4; j++)
                _mm512_store_si512(w->q[16 * b + 4 * g + j], q[j]);
            f_store(w->d[4 * b + g], nvfp4_scales(heads, 0, g));
        }
    }
}

static void types_multiply_nvfp4(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)
{
    const types_w16 *w = (const void *)weights;
    const types_x16 *x = (const void *)act;
    (void)work;
    for (size_t i = 0; i < n_group; i++, x++, acc += WIDE_T * CPU_WIDE_OUT)
        for (int g = 0; g < 2 * n_block; g++) {
            vi s[WIDE_T][2];
            UNROLL for (int t = 0; t < WIDE_T; t++)
                s[t][0] = s[t][1] = i_splat(&x->start[t][g]);
            wide_lines(w[0].q[4 * g], w[1].q[4 * g], x->q, 16 * g, 4, s);
            UNROLL for (int t = 0; t < WIDE_T; t++)
                UNROLL for (int r = 0; r < 2; r++)
                    finish(f_load(w[r].d[g]), x->d[t][g / 2], s[t][r], acc + CPU_WIDE_OUT * t + CPU_PANEL * r);
        }
}

CPU_KERNEL cpu_wide wide_nvfp4 = { WIDE_T, sizeof(types_x16), sizeof(types_w16), 0, types_prepare_nvfp4, types_convert_nvfp4, types_multiply_nvfp4, wide_store, NULL, wide_end };

#endif
TYPES_SMALL(TYPES_WIDE_SMALL)
TYPES_LEAST(TYPES_WIDE_LEAST)

#endif
