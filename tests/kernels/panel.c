/* SPDX-License-Identifier: MIT */
/* panel.c - the layout of packed weights: whatever was packed comes back byte by byte, for every type, width and number of rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "weights.h"

enum { CANARY = 0xa5, GUARD = 64 };

static void random_bytes(uint64_t *seed, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)random_next(seed);
}

/* Rows at odd addresses with gaps between them; n_rows of the 16 exist. */
static void round_trip(uint64_t *seed, sl_type type, int64_t n_in, int n_rows)
{
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const size_t row_bytes = sl_type_row_bytes(info, (size_t)n_in), stride = row_bytes + random_below(seed, 7), panel_bytes = cpu_panel_bytes(type, n_in);
    uint8_t *rows = malloc(stride * (size_t)n_rows + 1), *panel = malloc(panel_bytes + 2 * GUARD), block[512], zero[512] = { 0 };
    assert_true(panel_bytes % 64 == 0 && panel_bytes >= 16 * row_bytes && info->block_bytes <= sizeof block);
    assert_true(panel_bytes < 16 * row_bytes + 128);
    random_bytes(seed, rows, stride * (size_t)n_rows + 1);
    memset(panel, CANARY, panel_bytes + 2 * GUARD);
    cpu_panel_pack(type, n_in, rows + 1, stride, n_rows, panel + GUARD);
    for (size_t i = 0; i < GUARD; i++)
        assert_true(panel[i] == CANARY && panel[GUARD + panel_bytes + i] == CANARY);
    for (int r = 0; r < 16; r++)
        for (int64_t b = 0; b < n_in / info->block_values; b++) {
            memset(block, CANARY, sizeof block);
            cpu_panel_block(type, n_in, panel + GUARD, r, b, block);
            assert_int_equal(block[info->block_bytes], CANARY);
            assert_memory_equal(block, r < n_rows ? rows + 1 + (size_t)r * stride + (size_t)b * info->block_bytes : zero, info->block_bytes);
        }
    free(rows);
    free(panel);
}

static void packs_every_type(void **state)
{
    static const int blocks[] = { 1, 2, 3, 7, 8, 65 };
    uint64_t seed = 1;
    (void)state;
    for (size_t t = 0; t < N_MATRIX_TYPES; t++)
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
            for (int n_rows = 1; n_rows <= 16; n_rows += n_rows == 1 || n_rows == 15 ? 1 : 7)
                round_trip(&seed, matrix_types[t], (int64_t)blocks[i] * sl_type_get((uint32_t)matrix_types[t])->block_values, n_rows);
}

/* Rows of packed and of unpacked matrices decode to the same numbers; the last panel of every matrix is incomplete. */
static void decodes_rows(void **state)
{
    enum { N_OUT = 19, N_MAT = 2 };
    uint64_t seed = 2;
    (void)state;
    for (size_t t = 0; t < N_MATRIX_TYPES; t++) {
        const sl_type type = matrix_types[t];
        const sl_type_info *info = sl_type_get((uint32_t)type);
        const int64_t n_blocks = info->block_values == 1 ? 700 : 9, n_in = n_blocks * info->block_values;
        const size_t row_bytes = sl_type_row_bytes(info, (size_t)n_in), panel_bytes = cpu_panel_bytes(type, n_in);
        uint8_t *rows = malloc(row_bytes * N_OUT * N_MAT), *panels = malloc(panel_bytes * 2 * N_MAT);
        float *a = malloc((size_t)n_in * sizeof *a), *b = malloc((size_t)n_in * sizeof *b);
        random_blocks(&seed, type, (size_t)n_blocks * N_OUT * N_MAT, rows);
        for (size_t i = 0; i < N_MAT; i++) {
            cpu_panel_pack(type, n_in, rows + i * N_OUT * row_bytes, row_bytes, 16, panels + 2 * i * panel_bytes);
            cpu_panel_pack(type, n_in, rows + (i * N_OUT + 16) * row_bytes, row_bytes, N_OUT - 16, panels + (2 * i + 1) * panel_bytes);
        }
        cpu_segment segments[2] = { { .base = rows }, { .base = panels } };
        cpu_device device = { .segments = segments, .n_segments = 2 };
        const cpu_matrix unpacked = { .type = type, .n_in = n_in, .n_out = N_OUT, .n_mat = N_MAT, .segment = 0, .stride = row_bytes };
        const cpu_matrix packed = { .type = type, .n_in = n_in, .n_out = N_OUT, .n_mat = N_MAT, .packed = 1, .segment = 1, .stride = panel_bytes };
        for (int64_t r = 0; r < N_OUT * N_MAT; r++) {
            info->decode(rows + (size_t)r * row_bytes, n_blocks, a);
            cpu_matrix_row(&device, &packed, r, b);
            assert_memory_equal(a, b, (size_t)n_in * sizeof *a);
            cpu_matrix_row(&device, &unpacked, r, b);
            assert_memory_equal(a, b, (size_t)n_in * sizeof *a);
        }
        free(rows);
        free(panels);
        free(a);
        free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_every_type),
        cmocka_unit_test(decodes_rows),
    };
    return cmocka_run_group_tests_name("panel", tests, NULL, NULL);
}
