/* SPDX-License-Identifier: MIT */
/* kernels_avx2.c - level avx2 (AVX2, FMA and F16C): registers of 8 lanes, two for the 16 rows of a panel. */
#include <immintrin.h>

#define LANES 8
#define MAX_T 4
#define INLINE static inline __attribute__((always_inline))
typedef __m256 vf;
typedef __m256i vi;
#define PIN(v) __asm__ volatile("" : "+x"(v))
#include "kernels_entries.h"

INLINE vf f_load(const float *x) { return _mm256_loadu_ps(x); }
INLINE void f_store(float *x, vf a) { _mm256_storeu_ps(x, a); }
INLINE void f_stream(float *x, vf a) { _mm256_stream_ps(x, a); }
INLINE void f_stream_end(void) { _mm_sfence(); }
INLINE vf f_set(float x) { return _mm256_set1_ps(x); }
INLINE vf f_add(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf f_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf f_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
INLINE vf f_div(vf a, vf b) { return _mm256_div_ps(a, b); }
INLINE vf f_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf f_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf f_neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
INLINE vf f_power(vf t) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127)), 23)); }
INLINE vf f_where_less(vf a, vf b, vf x, vf y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
INLINE vf f_load_f16(const uint16_t *x) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)x)); }
INLINE vf f_load_bf16(const uint16_t *x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)x)), 16)); }
INLINE void f_store_f16(uint16_t *to, vf x) { _mm_storeu_si128((void *)to, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }
INLINE void f_store_bf16(uint16_t *to, vf x)
{
    const __m256i dwords = _mm256_srli_epi32(_mm256_castps_si256(x), 16);
    _mm_storeu_si128((void *)to, _mm_packus_epi32(_mm256_castsi256_si128(dwords), _mm256_extracti128_si256(dwords, 1)));
}
INLINE vf f_round(vf x)
{
    const __m256i u = _mm256_castps_si256(x), last = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), last);
    return _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32((int)0xffff0000)));
}
INLINE vf f_flush(vf x)
{
    const vf size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    return _mm256_and_ps(x, _mm256_cmp_ps(size, _mm256_set1_ps(0x1p-40f), _CMP_NLT_UQ));
}
INLINE vf f_exponent(vf x) { return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000))); }
INLINE vf f_rotate(vf x, vf angles)     /* even lanes: a cos - b sin, odd lanes: a sin + b cos */
{
    return _mm256_fmaddsub_ps(_mm256_moveldup_ps(x), angles, _mm256_mul_ps(_mm256_movehdup_ps(x), _mm256_permute_ps(angles, 0xb1)));
}
INLINE vf f_top(vf a, vf b)
{
    const __m256i most = _mm256_set1_epi32(0x7fffffff);
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(a), most), _mm256_and_si256(_mm256_castps_si256(b), most)));
}
INLINE float f_most(vf a)
{
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)), c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
INLINE float f_halve(const vf s[2])
{
    const __m256 a = _mm256_add_ps(s[0], s[1]);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)), c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INLINE uint32_t f_most_bits(vf a)
{
    __m128i m = _mm_max_epu32(_mm_castps_si128(_mm256_castps256_ps128(a)), _mm_castps_si128(_mm256_extractf128_ps(a, 1)));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1)));
}
INLINE int i_sum16(const int8_t *q)     /* bytes plus 128 are unsigned */
{
    const __m128i s = _mm_sad_epu8(_mm_xor_si128(_mm_loadu_si128((const void *)q), _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(s) + _mm_extract_epi32(s, 2) - 16 * 128;
}
INLINE void f_store_int8(int8_t *to, vf x)
{
    const __m256i dwords = _mm256_cvtps_epi32(x);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(dwords), _mm256_extracti128_si256(dwords, 1));
    _mm_storel_epi64((void *)to, _mm_packs_epi16(words, words));
}

INLINE vi i_load(const void *x) { return _mm256_loadu_si256(x); }
INLINE vi i_splat(const void *x)
{
    int32_t v;
    __builtin_memcpy(&v, x, sizeof v);
    return _mm256_set1_epi32(v);
}
INLINE vi i_byte(char x) { return _mm256_set1_epi8(x); }
INLINE vi i_word(short x) { return _mm256_set1_epi16(x); }
INLINE vi i_and(vi a, vi b) { return _mm256_and_si256(a, b); }
INLINE vi i_or(vi a, vi b) { return _mm256_or_si256(a, b); }
INLINE vf f_bits(vi a) { return _mm256_castsi256_ps(a); }
INLINE vi i_add8(vi a, vi b) { return _mm256_add_epi8(a, b); }
INLINE vi i_add32(vi a, vi b) { return _mm256_add_epi32(a, b); }
INLINE vi i_max32(vi a, vi b) { return _mm256_max_epi32(a, b); }
INLINE vi i_row(const void *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128(p)); }
INLINE vi i_table(vi row, vi index) { return _mm256_shuffle_epi8(row, index); }
INLINE vi i_load_bytes(const void *x) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(x)); }
INLINE vi i_load_words(const void *x) { return _mm256_cvtepu16_epi32(_mm_loadu_si128(x)); }
INLINE vi i_pick(vi v, int b)
{
    const int pick = b * 0x01010101, lane = 0x04040404;
    return _mm256_shuffle_epi8(v, _mm256_setr_epi32(pick, pick + lane, pick + 2 * lane, pick + 3 * lane, pick, pick + lane, pick + 2 * lane, pick + 3 * lane));
}
INLINE vi i_plus_where(vi q, vi h, vi bits, vi plus) { return i_or(q, i_and(_mm256_cmpeq_epi8(i_and(h, bits), bits), plus)); }
INLINE vi i_add16(vi a, vi b) { return _mm256_add_epi16(a, b); }
INLINE vi i_sub32(vi a, vi b) { return _mm256_sub_epi32(a, b); }
INLINE vi i_left(vi a, int n) { return _mm256_slli_epi32(a, n); }
INLINE vi i_right(vi a, int n) { return _mm256_srli_epi32(a, n); }
INLINE vi i_maddubs(vi u, vi s) { return _mm256_maddubs_epi16(u, s); }
INLINE vi i_madd(vi sum, vi a, vi b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
INLINE vi i_abs(vi w) { return _mm256_abs_epi8(w); }
INLINE vi i_sign(vi x, vi w) { return _mm256_sign_epi8(x, w); }
INLINE vi i_words(vi v, int lo, int hi)     /* into the upper bytes of the words, then down with the sign */
{
    const int pick = (int)(0x00800080u | (uint32_t)lo << 8 | (uint32_t)hi << 24), lane = (int)0x04000400;
    const vi order = _mm256_setr_epi32(pick, pick + lane, pick + 2 * lane, pick + 3 * lane, pick, pick + lane, pick + 2 * lane, pick + 3 * lane);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(v, order), 8);
}
INLINE vf f_int(vi a) { return _mm256_cvtepi32_ps(a); }

INLINE void f_load_pairs(const uint16_t *x, uint32_t mask, vf *even, vf *odd)
{
    vi pairs = i_load(x);
    if (mask != UINT32_MAX)
        pairs = i_and(pairs, _mm256_set1_epi32((int)mask));
    *even = _mm256_castsi256_ps(i_left(pairs, 16));
    *odd = _mm256_castsi256_ps(i_and(pairs, _mm256_set1_epi32((int)0xffff0000)));
}
INLINE vf f_load_int8(const int8_t *x) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)x))); }
INLINE vi i_bytes(const uint8_t *x) { return i_load(x); }
INLINE vi i_bytes_start(const int32_t *sum) { return (void)sum, i_word(0); }
/* 2 * 127 * 127 fits a word. */
INLINE vi i_bytes_dot(vi s, vi w, const int8_t *x) { return i_madd(s, i_maddubs(i_abs(w), i_sign(i_splat(x), w)), i_word(1)); }

/* What table look-ups and ternary digits want. */
INLINE void i_store(void *to, vi a) { _mm256_storeu_si256(to, a); }
INLINE vi i_mul16(vi a, vi b) { return _mm256_mullo_epi16(a, b); }
INLINE vi i_more_above(vi q, vi v, vi bound) { return _mm256_add_epi8(_mm256_sub_epi8(q, i_byte(-1)), _mm256_cmpeq_epi8(_mm256_min_epu8(v, bound), v)); }
INLINE vi i_negate_where(vi q, vi h, vi bits)
{
    const vi minus = _mm256_cmpeq_epi8(i_and(h, bits), bits);
    return _mm256_sub_epi8(_mm256_xor_si256(q, minus), minus);
}
INLINE vi i_entries4(const uint8_t *grid, const uint32_t *at) { return entries4(grid, at); }
INLINE void i_entries8(const uint8_t *grid, const uint32_t *at, vi *lo, vi *hi)
{
    const __m256 a = _mm256_castsi256_ps(entries8(grid, at)), b = _mm256_castsi256_ps(entries8(grid, at + 2));
    *lo = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
    *hi = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd));
}

#include "kernels_bytes.h"

#define WIDE(stem) NULL
#include "../kernels_types.h"
#define WIDE_SMALL(stem) NULL
#define WIDE_LEAST(stem) NULL
#define WIDE_SUPER(stem) NULL
#define WIDE_GRID(stem) NULL
#define WIDE_GROUPS(stem) NULL
TYPES_PANELS(TYPES_PANEL)
INTERLEAVED_PANELS(step_q4_0, step_q8_0, step_q4_k, step_q6_k)

extern const sl_impl cpu_impls_avx2[];
extern const size_t cpu_n_impls_avx2;
const sl_impl cpu_impls_avx2[] = {
    INTERLEAVED_IMPLS(CPU_AVX2, "avx2")
    TYPES_IMPLS(CPU_AVX2, "avx2")
    TYPES_IMPLS_GROUPS(CPU_AVX2, "avx2")
    LANES_IMPLS(CPU_AVX2, "avx2")
};
const size_t cpu_n_impls_avx2 = sizeof cpu_impls_avx2 / sizeof *cpu_impls_avx2;
