/* SPDX-License-Identifier: MIT */
/* kernels_amx_bf16.h - bf16 arithmetic of many activation rows on tiles: 32 rows of activations by two panels at a time. Included by kernels_avx512.c, after
 * kernels_amx.h, whose eight whole tiles it shares.
 *
 * A tile has 16 rows of 64 bytes. Activations: 32 elements of k of 16 rows. Weights: 16 pairs (k, k + 1) of the 16 rows of a panel. Sums: 16 rows by 16
 * outputs. TDPBF16PS on the three is the canonical step of 32 k (docs/numerics.md), so every sum stays one chain: four tiles of sums, two of activations
 * and two of weights fill the eight that there are. */
#ifndef CPU_KERNELS_AMX_BF16_H
#define CPU_KERNELS_AMX_BF16_H

enum { TILE_ROWS = 16, TILE_K = 32, TILE_BYTES = 1024, TILE_STEPS = CPU_WIDE_K / TILE_K, TILE_STRIDE = 64 };

/* Rows to tiles: those of the first 16 and of the second 16 for each step of 32 elements. */
static void tiles_prepare(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    for (int b = 0; b < n_block; b++)
        for (size_t t = 0; t < 2 * TILE_ROWS; t++, to += TILE_STRIDE)
            _mm512_store_si512((void *)to, t < n ? _mm512_loadu_si512(act[t] + b * (int)sizeof(sl_block_b16)) : _mm512_setzero_si512());
}

/* n elements of a panel to pairs, and zeros up to whole tiles. */
#define TILES_CONVERT(stem, bytes)                                                                                                                 \
    static void tiles_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n, uint8_t *to)                                         \
    {                                                                                                                                              \
        const uint8_t *w = panel + first * CPU_PANEL * (bytes);                                                                                    \
        int k = 0;                                                                                                                                 \
        (void)n_in;                                                                                                                                \
        for (; k < n; k += 2, to += TILE_STRIDE) {                                                                                                 \
            const __m512i even = _mm512_castps_si512(b16_load_##stem((const void *)(w + CPU_PANEL * k * (bytes))));                                \
            const __m512i odd = k + 1 < n ? _mm512_castps_si512(b16_load_##stem((const void *)(w + CPU_PANEL * (k + 1) * (bytes)))) : _mm512_setzero_si512(); \
            _mm512_store_si512((void *)to, _mm512_or_si512(_mm512_srli_epi32(even, 16), odd));                                                     \
        }                                                                                                                                          \
        for (; k % TILE_K != 0; k += 2, to += TILE_STRIDE)                                                                                         \
            _mm512_store_si512((void *)to, _mm512_setzero_si512());                                                                                \
    }
TILES_CONVERT(f32, 4)
TILES_CONVERT(f16, 2)
TILES_CONVERT(bf16, 2)

static void tiles_multiply(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)
{
    const size_t stride = CPU_WIDE_OUT * sizeof *acc;
    (void)work;
    for (size_t g = 0; g < n_group; g++, act += 2 * TILE_STEPS * TILE_BYTES, acc += 2 * TILE_ROWS * CPU_WIDE_OUT) {
        float *second = acc + TILE_ROWS * CPU_WIDE_OUT;
        TILE_LOAD(0, acc, stride);
        TILE_LOAD(1, acc + CPU_PANEL, stride);
        TILE_LOAD(2, second, stride);
        TILE_LOAD(3, second + CPU_PANEL, stride);
        for (int b = 0; b < n_block; b++) {
            TILE_LOAD(4, act + 2 * TILE_BYTES * b, TILE_STRIDE);
            TILE_LOAD(6, weights + TILE_BYTES * b, TILE_STRIDE);
            TILE_LOAD(7, weights + TILE_BYTES * (TILE_STEPS + b), TILE_STRIDE);
            TILE_PRODUCT(0, 4, 6);
            TILE_LOAD(5, act + 2 * TILE_BYTES * b + TILE_BYTES, TILE_STRIDE);
            TILE_PRODUCT(1, 4, 7);
            TILE_PRODUCT(2, 5, 6);
            TILE_PRODUCT(3, 5, 7);
        }
        TILE_STORE(0, acc, stride);
        TILE_STORE(1, acc + CPU_PANEL, stride);
        TILE_STORE(2, second, stride);
        TILE_STORE(3, second + CPU_PANEL, stride);
    }
}

#define TILES_KERNEL(stem)                                                                                                                         \
    CPU_KERNEL cpu_wide tiles_##stem = { 2 * TILE_ROWS, 2 * TILE_STEPS * TILE_BYTES, TILE_STEPS * TILE_BYTES, 0, tiles_prepare, tiles_convert_##stem, \
                                         tiles_multiply, wide_store, amx_begin, amx_end };                                                         \
    CPU_KERNEL cpu_matmul_kernel kernel_##stem##_tiles = { panel_##stem##_b16, SL_ACT_B16, &tiles_##stem };
TILES_KERNEL(f32)
TILES_KERNEL(f16)
TILES_KERNEL(bf16)

#endif
