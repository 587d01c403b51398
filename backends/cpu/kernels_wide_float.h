/* SPDX-License-Identifier: MIT */
/* kernels_wide_float.h - products of many activation rows with float weights, in both arithmetics, in registers of any width. Included by kernels_lanes.h.
 *
 * Both factors are widened to f32 once: a step of two panels, and the rows of a group beside each other. Then the sums of a tile, some rows by one or two
 * panels, stay in registers over the step: per element of k one load for each row, splatted, and one for each register of outputs. Lanes are outputs,
 * so a chain of fma over k is the canonical one; in bf16 arithmetic a tile of half as many rows has its even and its odd chains in registers.
 *
 * Rows by registers of a tile: 12 x 2 of 16 lanes (24 sums of 32 registers), 6 x 2 of 8 lanes (12 of 16), 6 x 4 of 4 lanes (24 of 32). */
#ifndef CPU_KERNELS_WIDE_FLOAT_H
#define CPU_KERNELS_WIDE_FLOAT_H

enum {
    WIDE_ROWS = LANES == 16 ? 12 : 6,
    WIDE_B16_ROWS = WIDE_ROWS / 2,
    WIDE_TILE_PANELS = LANES == 16 ? CPU_WIDE_PANELS : 1,
    WIDE_REGS = WIDE_TILE_PANELS * REGS,
};

typedef struct { float w[CPU_WIDE_K][CPU_PANEL]; } wide_wf;                                     /* a converted panel */
typedef struct { float x[WIDE_ROWS][CPU_WIDE_K + CPU_LINE / sizeof(float)]; } wide_xf;          /* a prepared group; rows are no power of two apart */

/* ---- preparing ---- */

static void wide_prepare_f32(int n, const uint8_t *const *act, size_t n_row, uint8_t *to)
{
    wide_xf *x = (void *)to;
    for (size_t t = 0; t < WIDE_ROWS; t++)
        if (t < n_row)
            memcpy(x->x[t], act[t], (size_t)n * sizeof(float));
        else
            memset(x->x[t], 0, (size_t)n * sizeof(float));
}

static void wide_prepare_b16(int n_block, const uint8_t *const *act, size_t n_row, uint8_t *to)
{
    wide_xf *x = (void *)to;
    for (size_t t = 0; t < WIDE_ROWS; t++)
        for (int k = 0; k < FLOAT_STEP * n_block; k += LANES)
            f_store(x->x[t] + k, t < n_row ? f_load_bf16((const uint16_t *)(const void *)act[t] + k) : f_set(0.0f));
}

/* ---- converting ---- */

/* n elements of a panel, and zeros up to whole steps of bf16 arithmetic. */
#define WIDE_CONVERT(name, load, bytes)                                                                                                            \
    static void wide_convert_##name(int64_t n_in, const uint8_t *panel, size_t first, int n, uint8_t *to)                                         \
    {                                                                                                                                              \
        wide_wf *w = (void *)to;                                                                                                                   \
        const uint8_t *from = panel + first * CPU_PANEL * (bytes);                                                                                 \
        int k = 0;                                                                                                                                 \
        (void)n_in;                                                                                                                                \
        for (; k < n; k++)                                                                                                                         \
            UNROLL for (int r = 0; r < CPU_PANEL; r += LANES)                                                                                      \
                f_store(w->w[k] + r, load((const void *)(from + (CPU_PANEL * k + r) * (bytes))));                                                  \
        for (; k % FLOAT_STEP != 0; k++)                                                                                                           \
            UNROLL for (int r = 0; r < CPU_PANEL; r += LANES)                                                                                      \
                f_store(w->w[k] + r, f_set(0.0f));                                                                                                 \
    }
#define WIDE_CONVERT_BOTH(stem, bytes) WIDE_CONVERT(stem, f_load_##stem, bytes) WIDE_CONVERT(stem##_b16, b16_load_##stem, bytes)
WIDE_CONVERT_BOTH(f32, 4)
WIDE_CONVERT_BOTH(f16, 2)
WIDE_CONVERT_BOTH(bf16, 2)

/* ---- multiplying ---- */

/* Register c of the outputs of a tile. */
INLINE vf wide_weights(const wide_wf *w, int k, int c) { return f_load(w[c / REGS].w[k] + c % REGS * LANES); }

INLINE void wide_tile_f32(const wide_wf *w, const wide_xf *x, int n, float *acc)
{
    vf s[WIDE_ROWS][WIDE_REGS];
    UNROLL for (int t = 0; t < WIDE_ROWS; t++)
        UNROLL for (int c = 0; c < WIDE_REGS; c++)
            s[t][c] = f_load(acc + CPU_WIDE_OUT * t + LANES * c);
    for (int k = 0; k < n; k++) {
        vf row[WIDE_REGS];
        UNROLL for (int c = 0; c < WIDE_REGS; c++)
            row[c] = wide_weights(w, k, c);
        UNROLL for (int t = 0; t < WIDE_ROWS; t++) {
            const vf y = f_set(x->x[t][k]);
            UNROLL for (int c = 0; c < WIDE_REGS; c++)
                s[t][c] = f_fma(row[c], y, s[t][c]);
        }
    }
    UNROLL for (int t = 0; t < WIDE_ROWS; t++)
        UNROLL for (int c = 0; c < WIDE_REGS; c++)
            f_store(acc + CPU_WIDE_OUT * t + LANES * c, s[t][c]);
}

/* Rows `row` to row + WIDE_B16_ROWS of the group. */
INLINE void wide_tile_b16(const wide_wf *w, const wide_xf *x, int row, int n_block, float *acc)
{
    for (int b = 0; b < n_block; b++) {
        vf s[2][WIDE_B16_ROWS][WIDE_REGS];      /* even, odd */
        UNROLL for (int t = 0; t < WIDE_B16_ROWS; t++)
            UNROLL for (int c = 0; c < WIDE_REGS; c++)
                s[0][t][c] = s[1][t][c] = f_set(0.0f);
        for (int k = FLOAT_STEP * b; k < FLOAT_STEP * (b + 1); k += 2)
            UNROLL for (int odd = 0; odd < 2; odd++) {
                vf weights[WIDE_REGS];
                UNROLL for (int c = 0; c < WIDE_REGS; c++)
                    weights[c] = wide_weights(w, k + odd, c);
                UNROLL for (int t = 0; t < WIDE_B16_ROWS; t++) {
                    const vf y = f_set(x->x[row + t][k + odd]);
                    UNROLL for (int c = 0; c < WIDE_REGS; c++)
                        s[odd][t][c] = f_fma(weights[c], y, s[odd][t][c]);
                }
            }
        UNROLL for (int t = 0; t < WIDE_B16_ROWS; t++)
            UNROLL for (int c = 0; c < WIDE_REGS; c++) {
                float *to = acc + CPU_WIDE_OUT * (row + t) + LANES * c;
                f_store(to, f_add(f_load(to), f_add(s[0][t][c], s[1][t][c])));
            }
    }
}

static void wide_multiply_f32(int n, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)
{
    const wide_wf *w = (const void *)weights;
    const wide_xf *x = (const void *)act;
    (void)work;
    for (size_t g = 0; g < n_group; g++, x++, acc += WIDE_ROWS * CPU_WIDE_OUT)
        for (int p = 0; p < CPU_WIDE_PANELS; p += WIDE_TILE_PANELS)
            wide_tile_f32(w + p, x, n, acc + CPU_PANEL * p);
}

static void wide_multiply_b16(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)
{
    const wide_wf *w = (const void *)weights;
    const wide_xf *x = (const void *)act;
    (void)work;
    for (size_t g = 0; g < n_group; g++, x++, acc += WIDE_ROWS * CPU_WIDE_OUT)
        for (int p = 0; p < CPU_WIDE_PANELS; p += WIDE_TILE_PANELS)
            for (int row = 0; row < opaque(WIDE_ROWS); row += WIDE_B16_ROWS)
                wide_tile_b16(w + p, x, row, n_block, acc + CPU_PANEL * p);
}

/* ---- kernels ---- */

#define WIDE_FLOAT(stem) \
    CPU_KERNEL cpu_wide wide_##stem = { WIDE_ROWS, sizeof(wide_xf), sizeof(wide_wf), 0, wide_prepare_f32, wide_convert_##stem, wide_multiply_f32, wide_store, NULL, wide_end }; \
    CPU_KERNEL cpu_wide wide_##stem##_b16 = { WIDE_ROWS, sizeof(wide_xf), sizeof(wide_wf), 0, wide_prepare_b16, wide_convert_##stem##_b16, wide_multiply_b16, wide_store, NULL, wide_end };
WIDE_FLOAT(f32)
WIDE_FLOAT(f16)
WIDE_FLOAT(bf16)

#endif
