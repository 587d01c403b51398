/* SPDX-License-Identifier: MIT */
/* panel.c - the one layout of packed weights on the CPU, per type: packing, and getting back what was packed.
 *
 * A panel is 16 rows of a matrix. No bit is changed, only moved, so that the same k of 16 rows lies side by side and a vector register holds
 * one step of 16 outputs. Every panel is a multiple of 64 bytes and starts on such a border. Three kinds:
 *
 * Float types:   n_in groups of 16 numbers: number k of row r at (16 k + r) * bytes.
 *
 * Interleaved types (kernels.h): the halves that scale a block are its head; the rest of it, whole dwords, is its body. A body of L dwords
 *                becomes L lines of 64 bytes; line i holds dword i of the 16 rows. A head line of 32 halves stands in front: the first 16 are
 *                those of rows 0..15, the second 16 the same of the next block (Q8_0, Q4_0, Q6_K) or the second half of the block (Q4_K).
 *                MXFP4 has bytes instead of halves, and a head line for four blocks.
 *     Q8_0       per  64 k: d[16] of block 0, d[16] of block 1;  8 lines of bytes of block 0;  8 of block 1
 *     Q4_0       per  64 k: d[16] of block 0, d[16] of block 1;  4 lines of nibbles of block 0;  4 of block 1
 *     Q6_K       per 512 k: d[16] of block 0, d[16] of block 1;  per block 32 lines of low nibbles, 16 of upper bits, 4 of scales
 *     Q4_K       per 256 k: d[16], dmin[16];  3 lines of packed scales, 32 lines of nibbles
 *     Q5_K       per 256 k: d[16], dmin[16];  3 lines of packed scales, 8 of fifth bits, 32 of nibbles
 *     Q2_K       per 256 k: d[16], dmin[16];  4 lines of scales and minima, 16 of pairs of bits
 *     Q3_K       per 512 k: d[16] of block 0, d[16] of block 1;  per block 8 lines of third bits, 16 of pairs of bits, 3 of scales
 *     IQ4_XS     per 256 k: d[16], upper bits of scales[16];  1 line of lower bits of scales, 32 of nibbles
 *     IQ4_NL     as Q4_0;  Q5_0 as Q4_0 with a line of fifth bits in front of each block's nibbles
 *     Q4_1       per  32 k: d[16], m[16];  4 lines of nibbles;  Q5_1 with a line of fifth bits in front of them
 *     MXFP4      per 128 k: e[16] of blocks 0 to 3;  4 lines of nibbles of each
 *     NVFP4      per  64 k: scales of groups 0 and 1 of the 16 rows, those of groups 2 and 3;  8 lines of nibbles
 *     Q1_0       per 256 k: d[16] of block 0, d[16] of block 1;  4 lines of bits of each
 *     Q2_0       per 128 k: d[16] of block 0, d[16] of block 1;  4 lines of pairs of bits of each
 *     IQ1_M      per 256 k: the last two words of scales of 16 rows;  13 lines of the rest
 *     IQ1_S, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0
 *                per 512 k: d[16] of block 0, d[16] of block 1;  12, 16, 18, 20, 24, 27, 13, 16 lines of each, in the order of the file
 *                Where the last blocks of a row do not fill a head line, its rest is zeros, and only their bodies follow.
 *
 * Every other type, which is one that has plain C only: 16 rows one after the other as in the file. A type joins kernels.h with its first vector kernel.
 *
 * Rows past the end of the matrix are bytes of zero. */
#include "kernels.h"

#include <string.h>

#define INTERLEAVE(NAME, stem, body, lines, half0, half1) [SL_TYPE_##NAME] = { body, lines, { half0, half1 } },
static const cpu_interleave interleaves[SL_TYPE_COUNT] = { CPU_INTERLEAVED(INTERLEAVE) };

static size_t row_blocks(const sl_type_info *info, int64_t n_in) { return (size_t)n_in / info->block_values; }

size_t cpu_panel_bytes(sl_type type, int64_t n_in)
{
    const sl_type_info *info = sl_type_get(type);
    const cpu_interleave at = interleaves[type];
    const size_t n = row_blocks(info, n_in);
    if (at.lines > 0)
        return (n + cpu_unit_blocks(at) - 1) / cpu_unit_blocks(at) * CPU_LINE + n * cpu_block_bytes(at);
    return sl_round_up(CPU_PANEL * n * info->block_bytes, CPU_LINE);
}

/* Moves n numbers of `size` bytes of one row to every 16th place. */
static void scatter(uint8_t *to, const uint8_t *from, size_t n, size_t size)
{
    if (size == 4)
        for (size_t i = 0; i < n; i++)
            memcpy(to + CPU_PANEL * 4 * i, from + 4 * i, 4);
    else
        for (size_t i = 0; i < n; i++)
            memcpy(to + CPU_PANEL * 2 * i, from + 2 * i, 2);
}

static void gather(uint8_t *to, const uint8_t *from, size_t n, size_t size)
{
    if (size == 4)
        for (size_t i = 0; i < n; i++)
            memcpy(to + 4 * i, from + CPU_PANEL * 4 * i, 4);
    else
        for (size_t i = 0; i < n; i++)
            memcpy(to + 2 * i, from + CPU_PANEL * 2 * i, 2);
}

static void pack_interleaved(cpu_interleave at, size_t n_blocks, size_t block_bytes, const uint8_t *rows, size_t row_stride, int n_rows, uint8_t *panel)
{
    const size_t head_bytes = cpu_head_bytes(at);
    for (size_t b = 0; b < n_blocks; b++) {
        uint8_t *head = panel + cpu_head_offset(at, b), *body = panel + cpu_body_offset(at, b);
        for (int r = 0; r < n_rows; r++) {
            const uint8_t *block = rows + (size_t)r * row_stride + b * block_bytes;
            memcpy(head + head_bytes * (size_t)r, block + at.half[0], head_bytes);
            if (at.half[1] >= 0)
                memcpy(head + CPU_LINE / 2 + 2 * r, block + at.half[1], 2);
            scatter(body + 4 * r, block + at.body, (size_t)at.lines, 4);
        }
    }
}

void cpu_panel_pack(sl_type type, int64_t n_in, const uint8_t *rows, size_t row_stride, int n_rows, uint8_t *panel)
{
    enum { TILE = 64 };     /* numbers: a tile of 16 rows stays in the first cache */
    const sl_type_info *info = sl_type_get(type);
    const cpu_interleave at = interleaves[type];
    const size_t n = row_blocks(info, n_in), size = info->block_bytes, bytes = cpu_panel_bytes(type, n_in);
    if (at.lines > 0) {
        if (n_rows < CPU_PANEL || n % cpu_unit_blocks(at) != 0)
            memset(panel, 0, bytes);
        pack_interleaved(at, n, size, rows, row_stride, n_rows, panel);
        return;
    }
    if (n_rows < CPU_PANEL || bytes != CPU_PANEL * n * size)
        memset(panel, 0, bytes);
    if (info->block_values > 1) {
        for (int r = 0; r < n_rows; r++)
            memcpy(panel + (size_t)r * n * size, rows + (size_t)r * row_stride, n * size);
        return;
    }
    for (size_t k = 0; k < n; k += TILE)
        for (int r = 0; r < n_rows; r++)
            scatter(panel + (CPU_PANEL * k + (size_t)r) * size, rows + (size_t)r * row_stride + k * size, n - k < TILE ? n - k : TILE, size);
}

const void *cpu_panel_at(sl_type type, int64_t n_in, const uint8_t *panel, int row, int64_t block, void *buffer)
{
    const sl_type_info *info = sl_type_get(type);
    const cpu_interleave at = interleaves[type];
    const size_t b = (size_t)block, r = (size_t)row;
    uint8_t *to = buffer;
    if (info->block_values == 1)
        return panel + (CPU_PANEL * b + r) * info->block_bytes;
    if (at.lines == 0)
        return panel + (r * row_blocks(info, n_in) + b) * info->block_bytes;
    const uint8_t *head = panel + cpu_head_offset(at, b) + cpu_head_bytes(at) * r;
    memcpy(to + at.half[0], head, cpu_head_bytes(at));
    if (at.half[1] >= 0)
        memcpy(to + at.half[1], head + CPU_LINE / 2, 2);
    gather(to + at.body, panel + cpu_body_offset(at, b) + 4 * r, (size_t)at.lines, 4);
    return to;
}

void cpu_panel_block(sl_type type, int64_t n_in, const uint8_t *panel, int row, int64_t block, void *to)
{
    const void *at = cpu_panel_at(type, n_in, panel, row, block, to);
    if (at != to)
        memcpy(to, at, sl_type_get(type)->block_bytes);
}

void cpu_matrix_row(const cpu_device *device, const cpu_matrix *matrix, int64_t row, float *to)
{
    enum { CHUNK = 1024 };      /* bytes of blocks that are brought together before they are decoded */
    const sl_type_info *info = sl_type_get(matrix->type);
    const uint8_t *base = device->segments[matrix->segment].base;
    const size_t n = row_blocks(info, matrix->n_in);
    if (!matrix->packed) {
        info->decode(base + (size_t)row * matrix->stride, (int64_t)n, to);
        return;
    }
    const size_t panels = ((size_t)matrix->n_out + CPU_PANEL - 1) / CPU_PANEL, in_mat = (size_t)(row % matrix->n_out);
    const uint8_t *panel = base + ((size_t)(row / matrix->n_out) * panels + in_mat / CPU_PANEL) * matrix->stride;
    const int r = (int)(in_mat % CPU_PANEL);
    if (info->block_values > 1 && interleaves[matrix->type].lines == 0) {
        info->decode(cpu_panel_at(matrix->type, matrix->n_in, panel, r, 0, NULL), (int64_t)n, to);
        return;
    }
    uint8_t chunk[CHUNK];
    const size_t step = CHUNK / info->block_bytes;
    for (size_t b = 0; b < n; b += step) {
        const size_t count = n - b < step ? n - b : step;
        if (info->block_values == 1)
            gather(chunk, panel + (CPU_PANEL * b + (size_t)r) * info->block_bytes, count, info->block_bytes);
        else
            for (size_t i = 0; i < count; i++)
                cpu_panel_block(matrix->type, matrix->n_in, panel, r, (int64_t)(b + i), chunk + i * info->block_bytes);
        info->decode(chunk, (int64_t)count, to + b * info->block_values);
    }
}
