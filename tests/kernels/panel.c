/* SPDX-License-Identifier: MIT */
/* panel.c - the layout of packed weights: whatever was packed comes back byte by byte, for every type, width and number of rows. */
#include "check.h"
#include "checksum.h"
#include "counting.h"
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

/* CRC-32C of one packed panel of 9 blocks (or 300 numbers) of 13 rows, whose bytes come from the type's number. A row for every type. */
static const struct { sl_type type; uint32_t sum; } layouts[] = {
    { SL_TYPE_F32, 0x9980315au }, { SL_TYPE_F16, 0xdf61d9deu }, { SL_TYPE_Q4_0, 0xd861be84u }, { SL_TYPE_Q4_1, 0xc7e98ed3u },
    { SL_TYPE_Q5_0, 0x8fd76c9du }, { SL_TYPE_Q5_1, 0xbedeff70u }, { SL_TYPE_Q8_0, 0xae4604eeu }, { SL_TYPE_Q2_K, 0x512cfe7bu },
    { SL_TYPE_Q3_K, 0xe457210fu }, { SL_TYPE_Q4_K, 0x7bc42ebdu }, { SL_TYPE_Q5_K, 0xb6d2e773u }, { SL_TYPE_Q6_K, 0x8a92445eu },
    { SL_TYPE_IQ2_XXS, 0xfcef03ddu }, { SL_TYPE_IQ2_XS, 0xa9855121u }, { SL_TYPE_IQ3_XXS, 0x693b742eu }, { SL_TYPE_IQ1_S, 0x97d3d65bu },
    { SL_TYPE_IQ4_NL, 0xb97614c4u }, { SL_TYPE_IQ3_S, 0x5db9481au }, { SL_TYPE_IQ2_S, 0x9d7a7246u }, { SL_TYPE_IQ4_XS, 0xecc208f2u },
    { SL_TYPE_IQ1_M, 0xd48085ffu }, { SL_TYPE_BF16, 0xc8272f8du }, { SL_TYPE_TQ1_0, 0xa52ff3ecu }, { SL_TYPE_TQ2_0, 0x07a32dafu },
    { SL_TYPE_MXFP4, 0x29b8505fu }, { SL_TYPE_NVFP4, 0xd8d7d993u }, { SL_TYPE_Q1_0, 0x45e080e2u }, { SL_TYPE_Q2_0, 0xf24b61cbu },
};
enum { PINNED_LAYOUT = 1 };      /* the CPU_LAYOUT of these sums */

/* Files of packed weights outlive the library that wrote them: a layout that changes has to say so. */
static void layouts_do_not_change_unsaid(void **state)
{
    (void)state;
    assert_int_equal(CPU_LAYOUT, PINNED_LAYOUT);
    for (size_t t = 0; t < N_MATRIX_TYPES; t++) {
        enum { N_ROWS = 13 };
        const sl_type type = matrix_types[t];
        const sl_type_info *info = sl_type_get((uint32_t)type);
        const int64_t n_in = info->block_values == 1 ? 300 : 9 * info->block_values;
        const size_t row_bytes = sl_type_row_bytes(info, (size_t)n_in), panel_bytes = cpu_panel_bytes(type, n_in);
        uint8_t *rows = malloc(row_bytes * N_ROWS), *panel = malloc(panel_bytes);
        uint64_t seed = 100 + (uint64_t)type;
        uint32_t wanted = 0;
        random_bytes(&seed, rows, row_bytes * N_ROWS);
        cpu_panel_pack(type, n_in, rows, row_bytes, N_ROWS, panel);
        const uint32_t sum = sl_crc32c(0, panel, panel_bytes);
        for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
            wanted = layouts[i].type == type ? layouts[i].sum : wanted;
        if (sum != wanted)
            fail_msg("%s is packed in another way than before (0x%08x): raise CPU_LAYOUT, and write the new sums here", info->name, (unsigned)sum);
        free(rows);
        free(panel);
    }
}

/* ---- where a device puts weights ---- */

enum { ROWS = 35, ROW = 300, BAD = 1 };     /* of F32; the matrix that comes with a number that is none */

static sl_status read_matrix(uint64_t offset, void *to, size_t bytes, void *user)
{
    float *x = to;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        x[i] = (float)(*(const int *)user * 1000000 + (int)(offset / sizeof *x + i));
    if (*(const int *)user == BAD)
        x[0] = sl_float(0x7f800000u);
    return SL_OK;
}

static sl_status go_on(uint64_t done, void *user) { return (void)done, (void)user, SL_OK; }

/* Room for two matrices is reserved (or none). The second fails and leaves its place to the one after it; the fourth needs memory of its own. Whatever was reserved, they are packed alike. */
static void weights_share_memory(void **state)
{
    (void)state;
    const size_t bytes = 3 * cpu_panel_bytes(SL_TYPE_F32, ROW);
    uint32_t sums[2][4] = { { 0 } };
    for (size_t n_reserved = 0; n_reserved <= 2; n_reserved += 2) {
        counting c = { 0 };
        const sl_mem mem = counting_mem(&c);
        const sl_backend_options options = { .mem = &mem, .n_threads = 3 };
        sl_device d;
        void *handles[4] = { NULL };
        const uint8_t *at[4] = { NULL };
        assert_int_equal(sl_device_open(&d, "cpu", 3, &options), SL_OK);
        assert_int_equal(d.backend->reserve(d.handle, n_reserved * bytes), SL_OK);
        for (int i = 0; i < 4; i++) {
            const sl_weight w = { .name = "w", .type = SL_TYPE_F32, .form = SL_ACT_F32, .n_in = ROW, .n_out = ROWS, .n_mat = 1 };
            const sl_weight_source source = { .weight = &w, .read = read_matrix, .progress = go_on, .user = &i };
            size_t got;
            assert_int_equal(d.backend->place(d.handle, &source, &handles[i]), i == BAD ? SL_ERR_NONFINITE : SL_OK);
            if (i == BAD)
                continue;
            at[i] = d.backend->packed(d.handle, handles[i], &got);
            assert_int_equal(got, bytes);
            sums[n_reserved != 0][i] = sl_crc32c(0, at[i], bytes);
        }
        for (int i = 0; i < 4 && n_reserved; i++)       /* later ones did not touch it */
            assert_int_equal(i == BAD ? 0 : sl_crc32c(0, at[i], bytes), sums[0][i]);
        if (n_reserved) {
            assert_int_equal(c.largest_bytes, n_reserved * bytes);
            assert_ptr_equal(at[2], at[0] + bytes);
        }
        for (int i = 0; i < 4; i++)
            d.backend->unplace(d.handle, handles[i]);
        sl_device_close(&d, &mem);
        assert_int_equal(c.live_blocks, 0);
        assert_int_equal(c.wrong, 0);
    }
}

static void what_cannot_be_reserved(void **state)
{
    (void)state;
    counting c = { .most_bytes = 1 << 20 };
    const sl_mem mem = counting_mem(&c);
    const sl_backend_options options = { .mem = &mem, .n_threads = 1 };
    sl_device d;
    assert_int_equal(sl_device_open(&d, "cpu", 3, &options), SL_OK);
    assert_int_equal(d.backend->reserve(d.handle, 1 << 20), SL_ERR_NOMEM);
    assert_int_equal(d.backend->reserve(d.handle, UINT64_MAX), SL_ERR_OVERFLOW);
    assert_int_equal(d.backend->reserve(d.handle, 0), SL_OK);
    sl_device_close(&d, &mem);
    assert_int_equal(c.live_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_every_type),
        cmocka_unit_test(decodes_rows),
        cmocka_unit_test(layouts_do_not_change_unsaid),
        cmocka_unit_test(weights_share_memory),
        cmocka_unit_test(what_cannot_be_reserved),
    };
    return cmocka_run_group_tests_name("panel", tests, NULL, NULL);
}
