/* SPDX-License-Identifier: MIT */
/* emulated_tiles.h - AMX in software, so that kernels for tiles are tested on machines that have none. It is put in front of a kernel file by the compiler's
 * -include, for a library that only tests link, and takes the place of every name that such a file uses for tiles: the compiler's functions (_tile_loadd, ...)
 * and the macros of backends/cpu/x86/tiles.h.
 *
 * What is emulated is what the kernels may rely on: palette 1 (eight tiles of up to 16 rows of up to 64 bytes), bytes beyond a row and rows beyond a tile are
 * zero, and shapes that do not belong together end the program, as the processor does; so does a tile that is used before ldtilecfg or after tilerelease.
 * TDPBF16PS adds as docs/numerics.md says, "bf16 arithmetic"; like the processor's, it takes subnormal numbers for zeros and returns none: a kernel that lets
 * one arise gives other bits here, too. */
#ifndef SL_TESTS_EMULATED_TILES_H
#define SL_TESTS_EMULATED_TILES_H

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPU_TILES_EMULATED

enum { TILE_COUNT = 8, TILE_MAX_ROWS = 16, TILE_MAX_BYTES = 64 };
/* What ldtilecfg reads. */
typedef struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } tile_config;
typedef struct { uint8_t row[TILE_MAX_ROWS][TILE_MAX_BYTES]; } tile_data;
static _Thread_local struct { tile_config config; tile_data tile[TILE_COUNT]; } tile_state;

static void tile_fault(const char *what, int tile)
{
    fprintf(stderr, "tile %d: %s\n", tile, what);
    abort();
}

static inline void tile_configure(const void *from)
{
    memset(&tile_state, 0, sizeof tile_state);
    memcpy(&tile_state.config, from, sizeof tile_state.config);
    for (int t = 0; t < 16; t++)
        if (tile_state.config.rows[t] > TILE_MAX_ROWS || tile_state.config.bytes[t] > TILE_MAX_BYTES || (t >= TILE_COUNT && (tile_state.config.rows[t] || tile_state.config.bytes[t])))
            tile_fault("no such shape", t);
    if (tile_state.config.palette != 1 || tile_state.config.start)
        tile_fault("no such palette", 0);
}

static inline void tile_release(void) { memset(&tile_state, 0, sizeof tile_state); }

/* The tile, with its shape. */
static inline tile_data *tile_at(int t, int *rows, int *bytes)
{
    if (tile_state.config.palette != 1 || !tile_state.config.rows[t] || !tile_state.config.bytes[t])
        tile_fault("used without a shape", t);
    *rows = tile_state.config.rows[t];
    *bytes = tile_state.config.bytes[t];
    return &tile_state.tile[t];
}

static inline void tile_zero(int t)
{
    int rows, bytes;
    memset(tile_at(t, &rows, &bytes), 0, sizeof(tile_data));
}

static inline void tile_load(int t, const void *from, size_t stride)
{
    int rows, bytes;
    tile_data *to = tile_at(t, &rows, &bytes);
    memset(to, 0, sizeof *to);
    for (int i = 0; i < rows; i++)
        memcpy(to->row[i], (const char *)from + (size_t)i * stride, (size_t)bytes);
}

static inline void tile_store(int t, void *to, size_t stride)
{
    int rows, bytes;
    const tile_data *from = tile_at(t, &rows, &bytes);
    for (int i = 0; i < rows; i++)
        memcpy((char *)to + (size_t)i * stride, from->row[i], (size_t)bytes);
}

/* The three tiles of a product c[m][n] += a[m][k] b[k][n], k and n in dwords; returns k. */
static inline int tiles_of_product(int c, int a, int b, int *m, int *n)
{
    int a_rows, a_bytes, b_rows, b_bytes, bytes;
    tile_at(c, m, &bytes);
    tile_at(a, &a_rows, &a_bytes);
    tile_at(b, &b_rows, &b_bytes);
    *n = bytes / 4;
    if (c == a || c == b || a == b)
        tile_fault("twice in a product", c);
    if (bytes % 4 || a_bytes % 4 || a_rows != *m || b_bytes != bytes || b_rows != a_bytes / 4)
        tile_fault("shapes of a product do not belong together", c);
    return a_bytes / 4;
}

/* Four products of bytes per dword; the factors' types say whether they have signs. Sums wrap around. */
#define TILE_BYTES_PRODUCT(name, a_type, b_type)                                                                                                   \
    static inline void name(int c, int a, int b)                                                                                                   \
    {                                                                                                                                              \
        int m, n;                                                                                                                                  \
        const int depth = tiles_of_product(c, a, b, &m, &n);                                                                                       \
        for (int i = 0; i < m; i++)                                                                                                                \
            for (int k = 0; k < depth; k++)                                                                                                        \
                for (int j = 0; j < n; j++) {                                                                                                      \
                    const a_type *x = (const a_type *)tile_state.tile[a].row[i] + 4 * k;                                                           \
                    const b_type *y = (const b_type *)tile_state.tile[b].row[k] + 4 * j;                                                           \
                    uint32_t sum;                                                                                                                  \
                    memcpy(&sum, tile_state.tile[c].row[i] + 4 * j, 4);                                                                            \
                    sum += (uint32_t)(x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3]);                                                      \
                    memcpy(tile_state.tile[c].row[i] + 4 * j, &sum, 4);                                                                            \
                }                                                                                                                                  \
    }
TILE_BYTES_PRODUCT(tile_dpbssd, int8_t, int8_t)
TILE_BYTES_PRODUCT(tile_dpbsud, int8_t, uint8_t)
TILE_BYTES_PRODUCT(tile_dpbusd, uint8_t, int8_t)
TILE_BYTES_PRODUCT(tile_dpbuud, uint8_t, uint8_t)

/* Where a number is subnormal, +0 or -0. */
static inline float tile_flushed(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = bits & 0x7f800000u ? bits : bits & 0x80000000u;
    memcpy(&x, &bits, 4);
    return x;
}

static inline float tile_bf16(const uint8_t *from)
{
    uint16_t half;
    float x;
    memcpy(&half, from, 2);
    const uint32_t bits = (uint32_t)half << 16;
    memcpy(&x, &bits, 4);
    return tile_flushed(x);
}

/* Two chains over k, even and odd, each from zero; c + (even + odd). */
static inline void tile_dpbf16ps(int c, int a, int b)
{
    int m, n;
    const int depth = tiles_of_product(c, a, b, &m, &n);
    for (int i = 0; i < m; i++) {
        float even[TILE_MAX_BYTES / 4] = { 0 }, odd[TILE_MAX_BYTES / 4] = { 0 };
        for (int k = 0; k < depth; k++) {
            const float x0 = tile_bf16(tile_state.tile[a].row[i] + 4 * k), x1 = tile_bf16(tile_state.tile[a].row[i] + 4 * k + 2);
            for (int j = 0; j < n; j++) {
                const uint8_t *y = tile_state.tile[b].row[k] + 4 * j;
                even[j] = tile_flushed(__builtin_fmaf(x0, tile_bf16(y), even[j]));
                odd[j] = tile_flushed(__builtin_fmaf(x1, tile_bf16(y + 2), odd[j]));
            }
        }
        for (int j = 0; j < n; j++) {
            float sum;
            memcpy(&sum, tile_state.tile[c].row[i] + 4 * j, 4);
            sum = tile_flushed(tile_flushed(sum) + tile_flushed(even[j] + odd[j]));
            memcpy(tile_state.tile[c].row[i] + 4 * j, &sum, 4);
        }
    }
}

/* ---- the names of the compiler ---- */

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbusd
#undef _tile_dpbuud
#undef _tile_dpbf16ps
#define _tile_zero(t) tile_zero(t)
#define _tile_loadd(t, from, stride) tile_load(t, from, (size_t)(stride))
#define _tile_stored(t, to, stride) tile_store(t, to, (size_t)(stride))
#define _tile_dpbssd(c, a, b) tile_dpbssd(c, a, b)
#define _tile_dpbsud(c, a, b) tile_dpbsud(c, a, b)
#define _tile_dpbusd(c, a, b) tile_dpbusd(c, a, b)
#define _tile_dpbuud(c, a, b) tile_dpbuud(c, a, b)
#define _tile_dpbf16ps(c, a, b) tile_dpbf16ps(c, a, b)

/* ---- the names of tiles.h ---- */

#define TILE_CONFIGURE(config) tile_configure(config)
#define TILE_RELEASE() tile_release()
#define TILE_LOAD(t, from, stride) tile_load(t, from, (size_t)(stride))
#define TILE_STORE(t, to, stride) tile_store(t, to, (size_t)(stride))
#define TILE_PRODUCT(sums, rows, weights) tile_dpbf16ps(sums, rows, weights)

#endif
