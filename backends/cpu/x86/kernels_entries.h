/* SPDX-License-Identifier: MIT */
/* kernels_entries.h - entries of tables, one by one out of memory, brought together eight rows at a time: every load fills a register, and blending, unlike
 * inserting, has many ports. Included by the kernel files; `at` holds the numbers of the entries. */
#ifndef CPU_KERNELS_ENTRIES_H
#define CPU_KERNELS_ENTRIES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static inline __attribute__((always_inline)) __m256i entry4(const uint8_t *grid, uint32_t at)
{
    int32_t v;
    memcpy(&v, grid + 4 * (size_t)at, sizeof v);
    return _mm256_set1_epi32(v);
}

static inline __attribute__((always_inline)) __m256i entry8(const uint8_t *grid, uint32_t at)
{
    long long v;
    memcpy(&v, grid + 8 * (size_t)at, sizeof v);
    return _mm256_set1_epi64x(v);
}

/* Eight entries of 4 bytes. */
static inline __attribute__((always_inline)) __m256i entries4(const uint8_t *grid, const uint32_t *at)
{
    const __m256i a = _mm256_blend_epi32(entry4(grid, at[0]), entry4(grid, at[1]), 0x02), b = _mm256_blend_epi32(entry4(grid, at[2]), entry4(grid, at[3]), 0x08);
    const __m256i c = _mm256_blend_epi32(entry4(grid, at[4]), entry4(grid, at[5]), 0x20), d = _mm256_blend_epi32(entry4(grid, at[6]), entry4(grid, at[7]), 0x80);
    return _mm256_blend_epi32(_mm256_blend_epi32(a, b, 0x0c), _mm256_blend_epi32(c, d, 0xc0), 0xf0);
}

/* Entries of 8 bytes of rows r, r + 1, r + 4 and r + 5: what is left to do to those of r = 0 and r = 2 stays within 16 bytes. */
static inline __attribute__((always_inline)) __m256i entries8(const uint8_t *grid, const uint32_t *at)
{
    const __m256i a = _mm256_blend_epi32(entry8(grid, at[0]), entry8(grid, at[1]), 0x0c), b = _mm256_blend_epi32(entry8(grid, at[4]), entry8(grid, at[5]), 0xc0);
    return _mm256_blend_epi32(a, b, 0xf0);
}

#endif
