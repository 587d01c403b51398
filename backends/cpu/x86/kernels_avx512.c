/* SPDX-License-Identifier: MIT */
/* kernels_avx512.c - levels avx512 (F, BW, DQ, VL) and, compiled again, avx512vnni and amx: one register for the 16 rows of a panel. With VNNI only the
 * products of quantized weights are in the level's array; everything else comes from avx512. AMX has kernels of its own for many rows, also of float weights
 * in bf16 arithmetic. */
#include "kernels_entries.h"

#define LANES 16
#define MAX_T 8
#if defined(__AMX_INT8__) || defined(__AMXINT8__)      /* gcc, clang 14 */
#define CPU_WITH_AMX
#endif
#define INLINE static inline __attribute__((always_inline))
typedef __m512 vf;
typedef __m512i vi;
#define PIN(x) __asm__ volatile("" : "+v"(x))

INLINE vf f_load(const float *x) { return _mm512_loadu_ps(x); }
INLINE void f_store(float *x, vf a) { _mm512_storeu_ps(x, a); }
INLINE void f_stream(float *x, vf a) { _mm512_stream_ps(x, a); }
INLINE void f_stream_end(void) { _mm_sfence(); }
INLINE vf f_set(float x) { return _mm512_set1_ps(x); }
INLINE vf f_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf f_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf f_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf f_div(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf f_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf f_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf f_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
INLINE vf f_power(vf t) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127)), 23)); }
INLINE vf f_where_less(vf a, vf b, vf x, vf y) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x); }
INLINE vf f_load_f16(const uint16_t *x) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)x)); }
INLINE vf f_load_bf16(const uint16_t *x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16)); }
INLINE void f_store_f16(uint16_t *to, vf x) { _mm256_storeu_si256((void *)to, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }
INLINE void f_store_bf16(uint16_t *to, vf x) { _mm256_storeu_si256((void *)to, _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16))); }
INLINE vf f_round(vf x)
{
    const __m512i u = _mm512_castps_si512(x), last = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), last);
    return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32((int)0xffff0000)));
}
INLINE vf f_flush(vf x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(0x1p-40f), _CMP_NLT_UQ), x); }
INLINE vf f_exponent(vf x) { return _mm512_and_ps(x, _mm512_castsi512_ps(_mm512_set1_epi32(0x7f800000))); }
INLINE vf f_rotate(vf x, vf angles)     /* even lanes: a cos - b sin, odd lanes: a sin + b cos */
{
    return _mm512_fmaddsub_ps(_mm512_moveldup_ps(x), angles, _mm512_mul_ps(_mm512_movehdup_ps(x), _mm512_permute_ps(angles, 0xb1)));
}
INLINE vf f_top(vf a, vf b)
{
    const __m512i most = _mm512_set1_epi32(0x7fffffff);
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), most), _mm512_and_si512(_mm512_castps_si512(b), most)));
}
INLINE float f_most(vf a) { return _mm512_reduce_max_ps(a); }
INLINE float f_halve(const vf s[1])
{
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(s[0]), _mm512_extractf32x8_ps(s[0], 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)), c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INLINE uint32_t f_most_bits(vf a) { return _mm512_reduce_max_epu32(_mm512_castps_si512(a)); }
INLINE int i_sum16(const int8_t *q)     /* bytes plus 128 are unsigned */
{
    const __m128i s = _mm_sad_epu8(_mm_xor_si128(_mm_loadu_si128((const void *)q), _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(s) + _mm_extract_epi32(s, 2) - 16 * 128;
}
INLINE void f_store_int8(int8_t *to, vf x) { _mm_storeu_si128((void *)to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))); }

INLINE vi i_load(const void *x) { return _mm512_loadu_si512(x); }
INLINE vi i_splat(const void *x)
{
    int32_t v;
    __builtin_memcpy(&v, x, sizeof v);
    return _mm512_set1_epi32(v);
}
INLINE vi i_byte(char x) { return _mm512_set1_epi8(x); }
INLINE vi i_word(short x) { return _mm512_set1_epi16(x); }
INLINE vi i_and(vi a, vi b) { return _mm512_and_si512(a, b); }
INLINE vi i_or(vi a, vi b) { return _mm512_or_si512(a, b); }
INLINE vf f_bits(vi a) { return _mm512_castsi512_ps(a); }
INLINE vi i_add8(vi a, vi b) { return _mm512_add_epi8(a, b); }
INLINE vi i_add32(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE vi i_max32(vi a, vi b) { return _mm512_max_epi32(a, b); }
INLINE vi i_row(const void *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(p)); }
INLINE vi i_table(vi row, vi index) { return _mm512_shuffle_epi8(row, index); }
INLINE vi i_load_bytes(const void *x) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(x)); }
INLINE vi i_load_words(const void *x) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(x)); }
INLINE vi i_pick(vi v, int b)
{
    const int pick = b * 0x01010101, lane = 0x04040404;
    return _mm512_shuffle_epi8(v, _mm512_set4_epi32(pick + 3 * lane, pick + 2 * lane, pick + lane, pick));
}
INLINE vi i_plus_where(vi q, vi h, vi bits, vi plus) { return _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(h, bits), q, plus); }
INLINE vi i_add16(vi a, vi b) { return _mm512_add_epi16(a, b); }
INLINE vi i_sub32(vi a, vi b) { return _mm512_sub_epi32(a, b); }
INLINE vi i_left(vi a, unsigned n) { return _mm512_slli_epi32(a, n); }
INLINE vi i_right(vi a, unsigned n) { return _mm512_srli_epi32(a, n); }
INLINE vi i_maddubs(vi u, vi s) { return _mm512_maddubs_epi16(u, s); }
INLINE vi i_abs(vi w) { return _mm512_abs_epi8(w); }
INLINE vi i_sign(vi x, vi w) { return _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x); }   /* where w is 0, |w| is as well */
INLINE vi i_words(vi v, int lo, int hi)     /* into the upper bytes of the words, then down with the sign */
{
    const int pick = (int)(0x00800080u | (uint32_t)lo << 8 | (uint32_t)hi << 24), lane = (int)0x04000400;
    return _mm512_srai_epi16(_mm512_shuffle_epi8(v, _mm512_set4_epi32(pick + 3 * lane, pick + 2 * lane, pick + lane, pick)), 8);
}
INLINE vf f_int(vi a) { return _mm512_cvtepi32_ps(a); }

#if defined(__AVX512VNNI__)
INLINE vi i_madd(vi sum, vi a, vi b) { return _mm512_dpwssd_epi32(sum, a, b); }
#else
INLINE vi i_madd(vi sum, vi a, vi b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
#endif

INLINE void f_load_pairs(const uint16_t *x, uint32_t mask, vf *even, vf *odd)
{
    vi pairs = i_load(x);
    if (mask != UINT32_MAX)
        pairs = i_and(pairs, _mm512_set1_epi32((int)mask));
    *even = _mm512_castsi512_ps(i_left(pairs, 16));
    *odd = _mm512_castsi512_ps(i_and(pairs, _mm512_set1_epi32((int)0xffff0000)));
}
INLINE vf f_load_int8(const int8_t *x) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)x))); }
#if defined(__AVX512VNNI__)     /* bytes plus 128 are unsigned; sums start at -128 times the sum of x */
INLINE vi i_bytes(const uint8_t *x) { return _mm512_xor_si512(i_load(x), i_byte((char)-128)); }
INLINE vi i_bytes_start(const int32_t *sum) { return i_sub32(i_word(0), i_left(i_splat(sum), 7)); }
INLINE vi i_bytes_dot(vi s, vi w, const int8_t *x) { return _mm512_dpbusd_epi32(s, w, i_splat(x)); }
#else       /* 2 * 127 * 127 fits a word */
INLINE vi i_bytes(const uint8_t *x) { return i_load(x); }
INLINE vi i_bytes_start(const int32_t *sum) { return (void)sum, i_word(0); }
INLINE vi i_bytes_dot(vi s, vi w, const int8_t *x) { return i_madd(s, i_maddubs(i_abs(w), i_sign(i_splat(x), w)), i_word(1)); }
#endif

/* What table look-ups and ternary digits want. */
INLINE void i_store(void *to, vi a) { _mm512_storeu_si512(to, a); }
INLINE vi i_mul16(vi a, vi b) { return _mm512_mullo_epi16(a, b); }
INLINE vi i_more_above(vi q, vi v, vi bound) { return _mm512_mask_add_epi8(q, _mm512_cmpgt_epu8_mask(v, bound), q, i_byte(1)); }
INLINE vi i_negate_where(vi q, vi h, vi bits) { return _mm512_mask_sub_epi8(q, _mm512_test_epi8_mask(h, bits), _mm512_setzero_si512(), q); }
INLINE vi i_both(__m256i lower, __m256i upper) { return _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1); }
INLINE vi i_entries4(const uint8_t *grid, const uint32_t *at) { return i_both(entries4(grid, at), entries4(grid, at + 8)); }
INLINE void i_entries8(const uint8_t *grid, const uint32_t *at, vi *lo, vi *hi)
{
    const __m512 a = _mm512_castsi512_ps(i_both(entries8(grid, at), entries8(grid, at + 8)));
    const __m512 b = _mm512_castsi512_ps(i_both(entries8(grid, at + 2), entries8(grid, at + 10)));
    *lo = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88));
    *hi = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xdd));
}

#include "kernels_bytes.h"

#if defined(__AVX512VNNI__)

/* vpdpbusd adds four products of unsigned weights and signed activations to a dword at once. */
INLINE vi i_dot(vi sum, vi u, const int8_t *x) { return _mm512_dpbusd_epi32(sum, u, i_splat(x)); }

/* The low words of two sums side by side, ready for vpdpwssd. One instruction. */
INLINE vi i_pair(vi a, vi b) { return _mm512_mask_shuffle_epi8(a, 0xccccccccccccccccu, b, _mm512_set4_epi32(0x0d0c0000, 0x09080000, 0x05040000, 0x01000000)); }

/* Sums start at -8 times the sum of x, which makes nibbles of them that are centred. */
INLINE void step_q4_0_vnni(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vi low = i_byte(15);
    for (int b = 0; b < n / 32; b++) {
        const uint8_t *w = panel + cpu_body_offset(at_q4_0, (size_t)k / 32 + (size_t)b);
        vi s[MAX_T];
        UNROLL for (int t = 0; t < m; t++)
            s[t] = i_sub32(i_word(0), i_left(i_splat(&ACT32(x[t], b)->sum), 3));
        UNROLL for (int i = 0; i < 4; i++) {
            const vi q = i_load(w + CPU_LINE * i), q0 = i_and(q, low), q1 = i_and(i_right(q, 4), low);
            UNROLL for (int t = 0; t < m; t++)
                s[t] = i_dot(i_dot(s[t], q0, ACT32(x[t], b)->q + 4 * i), q1, ACT32(x[t], b)->q + 16 + 4 * i);
        }
        const vf d = head(panel + cpu_head_offset(at_q4_0, (size_t)k / 32 + (size_t)b), 0);
        UNROLL for (int t = 0; t < m; t++)
            finish(d, ACT32(x[t], b)->d, s[t], acc[t]);
    }
}

/* Weights plus 128 are unsigned; sums start at -128 times the sum of x. */
INLINE void step_q8_0_vnni(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vi flip = i_byte((char)-128);
    for (int b = 0; b < n / 32; b++) {
        const uint8_t *w = panel + cpu_body_offset(at_q8_0, (size_t)k / 32 + (size_t)b);
        vi s[MAX_T];
        UNROLL for (int t = 0; t < m; t++)
            s[t] = i_sub32(i_word(0), i_left(i_splat(&ACT32(x[t], b)->sum), 7));
        UNROLL for (int i = 0; i < 8; i++) {
            const vi q = _mm512_xor_si512(i_load(w + CPU_LINE * i), flip);
            UNROLL for (int t = 0; t < m; t++)
                s[t] = i_dot(s[t], q, ACT32(x[t], b)->q + 4 * i);
        }
        const vf d = head(panel + cpu_head_offset(at_q8_0, (size_t)k / 32 + (size_t)b), 0);
        UNROLL for (int t = 0; t < m; t++)
            finish(d, ACT32(x[t], b)->d, s[t], acc[t]);
    }
}

/* Half a group of 32 sums up to at most 16 * 15 * 127 = 30480, a word: two halves and the scale make one vpdpwssd. */
INLINE void step_q4_k_vnni(const uint8_t *panel, int64_t k, int n, const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const vi low = i_byte(15);
    const uint8_t *w = panel + cpu_body_offset(at_q4_k, (size_t)k / 256);
    vi sc[2], mn[2], s[MAX_T];
    (void)n;
    scales_q4_k(w, sc, mn);
    UNROLL for (int t = 0; t < m; t++)
        s[t] = i_word(0);
    for (int c = 0; c < opaque(4); c++) {       /* groups 2c and 2c + 1: low and high nibbles of 8 lines */
        const vi scales = i_right(sc[c / 2], (unsigned)c % 2 * 16);
        UNROLL for (int high = 0; high < 2; high++) {
            vi a[MAX_T], b[MAX_T];
            UNROLL for (int t = 0; t < m; t++)
                a[t] = b[t] = i_word(0);
            UNROLL for (int i = 0; i < 4; i++) {
                const uint8_t *at = w + CPU_LINE * (3 + 8 * c + i);
                vi q0 = i_load(at), q1 = i_load(at + 4 * CPU_LINE);
                q0 = i_and(high ? i_right(q0, 4) : q0, low);
                q1 = i_and(high ? i_right(q1, 4) : q1, low);
                UNROLL for (int t = 0; t < m; t++) {
                    const int8_t *y = ACT256(x[t])->q + 64 * c + 32 * high + 4 * i;
                    a[t] = i_dot(a[t], q0, y);
                    b[t] = i_dot(b[t], q1, y + 16);
                    PIN(a[t]);
                    PIN(b[t]);
                }
            }
            UNROLL for (int t = 0; t < m; t++) {
                s[t] = i_madd(s[t], i_pair(a[t], b[t]), i_words(scales, high, high));
                PIN(s[t]);
            }
        }
    }
    finish_q4_k(panel + cpu_head_offset(at_q4_k, (size_t)k / 256), 0, mn, s, x, m, acc);
}

#include "kernels_pairs.h"

/* Two words' products in one instruction, or dwords' in two. */
#define BYTE_DOTS
enum { IQ4_OFFSET = 128 };
INLINE vi i_dots(vi sum, vi q, const int8_t *x) { return i_dot(sum, q, x); }
INLINE vi i_scale(vi s, vi e, vi w) { return _mm512_add_epi32(s, _mm512_mullo_epi32(e, _mm512_srai_epi32(w, 16))); }
INLINE vi i_scale_two(vi s, vi a, vi b, vi w) { return i_madd(s, i_pair(a, b), w); }

#if defined(CPU_WITH_AMX)
#include "kernels_amx.h"
#include "kernels_amx_32.h"
#include "kernels_amx_bf16.h"
#include "kernels_amx_attention.h"
#define WIDE(stem) &amx_##stem
#else
#include "kernels_wide.h"
#define WIDE(stem) &wide_##stem
#endif
#include "../kernels_types.h"
#include "kernels_types_wide.h"
TYPES_PANELS(TYPES_PANEL)
INTERLEAVED_PAIRED(step_q4_0_vnni, PAIR(q4_0), step_q8_0_vnni, PAIR(q8_0), step_q4_k_vnni, PAIR_FEW(q4_k), step_q6_k, PAIR(q6_k))

/* The last is no row: all others may be left out, and C knows no empty array. */
#if defined(CPU_WITH_AMX)
extern const sl_impl cpu_impls_amx[];
extern const size_t cpu_n_impls_amx;
const sl_impl cpu_impls_amx[] = {
    INTERLEAVED_IMPLS(CPU_AMX, "amx")
    TYPES_IMPLS(CPU_AMX, "amx")
    SL_ROW(TYPE_F32, CPU_MATMUL_IMPLS(F32, f32, CPU_AMX, "b16/amx", kernel_f32_tiles))
    SL_ROW(TYPE_F16, CPU_MATMUL_IMPLS(F16, f16, CPU_AMX, "b16/amx", kernel_f16_tiles))
    SL_ROW(TYPE_BF16, CPU_MATMUL_IMPLS(BF16, bf16, CPU_AMX, "b16/amx", kernel_bf16_tiles))
    CPU_ATTENTION_IMPLS(bf16, CPU_AMX, "amx", kernel_attention_tiles)
    { .label = NULL }
};
const size_t cpu_n_impls_amx = sizeof cpu_impls_amx / sizeof *cpu_impls_amx - 1;
#else
extern const sl_impl cpu_impls_avx512vnni[];
extern const size_t cpu_n_impls_avx512vnni;
const sl_impl cpu_impls_avx512vnni[] = {
    INTERLEAVED_IMPLS(CPU_AVX512VNNI, "avx512vnni")
    TYPES_IMPLS(CPU_AVX512VNNI, "avx512vnni")
    TYPES_IMPLS_GROUPS(CPU_AVX512VNNI, "avx512vnni")
    CPU_ATTENTION_IMPLS(q8_0, CPU_AVX512VNNI, "avx512vnni", kernel_attention_q8_0)
    { .label = NULL }
};
const size_t cpu_n_impls_avx512vnni = sizeof cpu_impls_avx512vnni / sizeof *cpu_impls_avx512vnni - 1;
#endif

#else

#define WIDE(stem) NULL
#include "../kernels_types.h"
#define WIDE_SMALL(stem) NULL
#define WIDE_LEAST(stem) NULL
#define WIDE_SUPER(stem) NULL
#define WIDE_GRID(stem) NULL
#define WIDE_GROUPS(stem) NULL
TYPES_PANELS(TYPES_PANEL)
INTERLEAVED_PANELS(step_q4_0, step_q8_0, step_q4_k, step_q6_k)

extern const sl_impl cpu_impls_avx512[];
extern const size_t cpu_n_impls_avx512;
const sl_impl cpu_impls_avx512[] = {
    INTERLEAVED_IMPLS(CPU_AVX512, "avx512")
    TYPES_IMPLS(CPU_AVX512, "avx512")
    TYPES_IMPLS_GROUPS(CPU_AVX512, "avx512")
    LANES_IMPLS(CPU_AVX512, "avx512")
};
const size_t cpu_n_impls_avx512 = sizeof cpu_impls_avx512 / sizeof *cpu_impls_avx512;

#endif
