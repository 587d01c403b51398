/* SPDX-License-Identifier: MIT */
/* kernels_wide_arm.h - products of many activation rows with sdot, or with smmla where there is i8mm. Included by kernels_neon.c.
 *
 * A panel is converted to signed bytes once and serves all rows, so what is left inside is loading and multiplying. A register of sums is a unit of activation
 * rows by a unit of weight rows: 1 by 4 with sdot, 2 by 2 with smmla. A tile is 4 by 4 units, sixteen registers. A span is what one register of activations
 * holds of k: 16 elements of a row, or 8 of two.
 *     sdot     span: 4 lines of the 16 rows, as they lie in panels       tile: 4 rows of activations by 16 rows of weights
 *     smmla    span: 8 elements of rows 0 and 1, of 2 and 3, ...         tile: 8 rows of activations by 8 rows of weights
 * Sums of a group of elements with a scale of its own are multiplied with it as integers, or finished as floats where blocks are of 32. Minima are products of
 * bytes too: the sum of 16 activations is 128 h + l, both in a signed byte. */
#ifndef CPU_KERNELS_WIDE_ARM_H
#define CPU_KERNELS_WIDE_ARM_H

#if defined(__ARM_FEATURE_MATMUL_INT8)
enum { UNIT_ACTS = 2, UNIT_ROWS = 2, SPAN_K = 8 };
#else
enum { UNIT_ACTS = 1, UNIT_ROWS = 4, SPAN_K = 16 };
#endif
enum { UNITS = 4, MANY_T = UNITS * UNIT_ACTS, MANY_TILES = CPU_PANEL / UNIT_ROWS / UNITS, SPANS = CPU_WIDE_K / SPAN_K, SPANS_16 = 16 / SPAN_K };

/* A converted panel and a prepared group of rows, 256 elements; `lanes` are those of a register of sums, alike for all rows of weights. What a type lacks is not touched. */
typedef struct { int8_t q[SPANS][CPU_PANEL * SPAN_K], least[SPANS_16][CPU_PANEL * SPAN_K]; int32_t scale[16][16]; float d[16][16], m[8][16]; } many_w;
typedef struct { int8_t q[SPANS][UNITS][16], high[SPANS_16][UNITS][16], low[SPANS_16][UNITS][16]; float d[8][UNITS][LANES], sum[8][UNITS][LANES]; } many_x;
SL_STATIC_ASSERT(sizeof(many_w) % 64 == 0 && sizeof(many_x) % 64 == 0, "whole lines");

/* ---- units ---- */

/* The numbers of a unit of weight rows, for all rows of activations. */
#if defined(__ARM_FEATURE_MATMUL_INT8)
INLINE int32x4_t unit_of(const int32_t *rows, int unit) { return vreinterpretq_s32_s64(vld1q_dup_s64((const void *)(rows + 2 * unit))); }
INLINE vf unit_of_floats(const float *rows, int unit) { return vreinterpretq_f32_f64(vld1q_dup_f64((const void *)(rows + 2 * unit))); }
INLINE void span(const int8_t *w, const int8_t (*x)[16], int32x4_t s[UNITS][UNITS])
{
    const int8x16_t x0 = vld1q_s8(x[0]), x1 = vld1q_s8(x[1]), x2 = vld1q_s8(x[2]), x3 = vld1q_s8(x[3]);
    UNROLL for (int b = 0; b < UNITS; b++) {
        const int8x16_t v = vld1q_s8(w + 16 * b);
        s[0][b] = vmmlaq_s32(s[0][b], x0, v);
        s[1][b] = vmmlaq_s32(s[1][b], x1, v);
        s[2][b] = vmmlaq_s32(s[2][b], x2, v);
        s[3][b] = vmmlaq_s32(s[3][b], x3, v);
    }
}
INLINE void sums_load(const float *acc, vf f[UNITS][UNITS])
{
    UNROLL for (int a = 0; a < UNITS; a++)
        UNROLL for (int b = 0; b < UNITS; b++)
            f[a][b] = vcombine_f32(vld1_f32(acc + 2 * a * CPU_WIDE_OUT + 2 * b), vld1_f32(acc + (2 * a + 1) * CPU_WIDE_OUT + 2 * b));
}
INLINE void sums_store(float *acc, vf f[UNITS][UNITS])
{
    UNROLL for (int a = 0; a < UNITS; a++)
        UNROLL for (int b = 0; b < UNITS; b++) {
            vst1_f32(acc + 2 * a * CPU_WIDE_OUT + 2 * b, vget_low_f32(f[a][b]));
            vst1_f32(acc + (2 * a + 1) * CPU_WIDE_OUT + 2 * b, vget_high_f32(f[a][b]));
        }
}
/* Four lines of four rows to their places. */
INLINE void put_lines(int8_t (*q)[CPU_PANEL * SPAN_K], int line, int half, const vi v[4])
{
    UNROLL for (int i = 0; i < 4; i += 2) {
        int8_t *to = q[(line + i) / 2] + 32 * half;
        vst1q_s8(to, vreinterpretq_s8_s32(vzip1q_s32(v[i], v[i + 1])));
        vst1q_s8(to + 16, vreinterpretq_s8_s32(vzip2q_s32(v[i], v[i + 1])));
    }
}
#else
INLINE int32x4_t unit_of(const int32_t *rows, int unit) { return vld1q_s32(rows + 4 * unit); }
INLINE vf unit_of_floats(const float *rows, int unit) { return vld1q_f32(rows + 4 * unit); }
#define SPAN_LINE(line)                                                                                                                            \
    UNROLL for (int b = 0; b < UNITS; b++) {                                                                                                       \
        const int8x16_t v = vld1q_s8(w + CPU_LINE * (line) + 16 * b);                                                                              \
        s[0][b] = vdotq_laneq_s32(s[0][b], v, x0, line);                                                                                           \
        s[1][b] = vdotq_laneq_s32(s[1][b], v, x1, line);                                                                                           \
        s[2][b] = vdotq_laneq_s32(s[2][b], v, x2, line);                                                                                           \
        s[3][b] = vdotq_laneq_s32(s[3][b], v, x3, line);                                                                                           \
    }
INLINE void span(const int8_t *w, const int8_t (*x)[16], int32x4_t s[UNITS][UNITS])
{
    const int8x16_t x0 = vld1q_s8(x[0]), x1 = vld1q_s8(x[1]), x2 = vld1q_s8(x[2]), x3 = vld1q_s8(x[3]);
    SPAN_LINE(0) SPAN_LINE(1) SPAN_LINE(2) SPAN_LINE(3)
}
INLINE void sums_load(const float *acc, vf f[UNITS][UNITS])
{
    UNROLL for (int a = 0; a < UNITS; a++)
        UNROLL for (int b = 0; b < UNITS; b++)
            f[a][b] = f_load(acc + a * CPU_WIDE_OUT + 4 * b);
}
INLINE void sums_store(float *acc, vf f[UNITS][UNITS])
{
    UNROLL for (int a = 0; a < UNITS; a++)
        UNROLL for (int b = 0; b < UNITS; b++)
            f_store(acc + a * CPU_WIDE_OUT + 4 * b, f[a][b]);
}
INLINE void put_lines(int8_t (*q)[CPU_PANEL * SPAN_K], int line, int half, const vi v[4])
{
    UNROLL for (int i = 0; i < 4; i++)
        vst1q_s8(q[line / 4] + CPU_LINE * i + LANE_BYTES * half, vreinterpretq_s8_s32(v[i]));
}
#endif

INLINE void sums_zero(int32x4_t s[UNITS][UNITS])
{
    UNROLL for (int a = 0; a < UNITS; a++)
        UNROLL for (int b = 0; b < UNITS; b++)
            s[a][b] = vdupq_n_s32(0);
}

/* n spans; q: of the panel's tile. */
INLINE void spans(const int8_t *w, const int8_t (*x)[UNITS][16], int n, int32x4_t s[UNITS][UNITS])
{
    UNROLL for (int i = 0; i < n; i++)
        span(w + (size_t)i * CPU_PANEL * SPAN_K, x[i], s);
}

/* ---- preparing ---- */

/* Row t of a group: its element k in a span; its lanes. */
INLINE int8_t *x_place(int8_t (*q)[UNITS][16], size_t t, size_t k) { return q[k / SPAN_K][t / UNIT_ACTS] + t % UNIT_ACTS * SPAN_K + k % SPAN_K; }
INLINE void x_lanes(float lanes[UNITS][LANES], size_t t, float v)
{
    for (int i = 0; i < LANES / UNIT_ACTS; i++)
        lanes[t / UNIT_ACTS][t % UNIT_ACTS * (LANES / UNIT_ACTS) + (size_t)i] = v;
}

static void many_prepare_32(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    many_x *x = (void *)to;
    for (size_t t = 0; t < MANY_T; t++)
        for (int b = 0; b < n_block; b++) {
            static const sl_block_a32 zero;
            const sl_block_a32 *a = t < n ? ACT32(act[t], b) : &zero;
            for (size_t k = 0; k < 32; k += SPAN_K)
                memcpy(x_place(x->q, t, 32 * (size_t)b + k), a->q + k, SPAN_K);
            x_lanes(x->d[b], t, a->d);
            x_lanes(x->sum[b], t, (float)a->sum);
        }
}

static void many_prepare_256(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    many_x *x = (void *)to;
    (void)n_block;
    for (size_t t = 0; t < MANY_T; t++) {
        static const sl_block_a256 zero;
        const sl_block_a256 *a = t < n ? ACT256(act[t]) : &zero;
        for (size_t k = 0; k < 256; k += SPAN_K)
            memcpy(x_place(x->q, t, k), a->q + k, SPAN_K);
        for (size_t i = 0; i < 16; i++) {       /* 128 h + l, l from 0 to 127; h from -16 to 15 */
            const int low = a->sum[i] & 127;
            *x_place(x->low, t, i) = (int8_t)low;
            *x_place(x->high, t, i) = (int8_t)((a->sum[i] - low) / 128);
        }
        x_lanes(x->d[0], t, a->d);
    }
}

/* ---- multiplying ---- */

/* per: elements with a scale of their own, 32 or 16. */
INLINE void many_multiply_small(int per, int with_least, int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc)
{
    const many_x *x = (const void *)act;
    for (size_t i = 0; i < n_group * CPU_WIDE_PANELS * MANY_TILES; i++) {
        const size_t tile = i % MANY_TILES, p = i / MANY_TILES % CPU_WIDE_PANELS, g = i / MANY_TILES / CPU_WIDE_PANELS;
        const many_w *w = (const many_w *)(const void *)weights + p;
        float *to = acc + g * MANY_T * CPU_WIDE_OUT + CPU_PANEL * p + CPU_PANEL / MANY_TILES * tile;
        const size_t row = CPU_PANEL / MANY_TILES * tile;
        vf f[UNITS][UNITS];
        sums_load(to, f);
        for (int part = 0; part < n_block * 32 / per; part++) {
            const int b = part * per / 32;
            int32x4_t s[UNITS][UNITS];
            sums_zero(s);
            spans(w->q[part * (per / SPAN_K)] + 64 * tile, x[g].q + part * (per / SPAN_K), per / SPAN_K, s);
            UNROLL for (int j = 0; j < UNITS; j++) {
                const vf d = unit_of_floats(w->d[part] + row, j);
                UNROLL for (int a = 0; a < UNITS; a++) {
                    const vf dx = f_load(x[g].d[b][a]);
                    f[a][j] = f_fma(f_mul(d, dx), f_int(s[a][j]), f[a][j]);
                    if (with_least)
                        f[a][j] = f_fma(f_mul(unit_of_floats(w->m[b] + row, j), dx), f_load(x[g].sum[b][a]), f[a][j]);
                }
            }
        }
        sums_store(to, f);
    }
}

/* groups: elements with a scale of their own, 16 or 32, or 256: all are 1. */
INLINE void many_multiply_super(int groups, int with_least, int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc)
{
    const many_x *x = (const void *)act;
    const int size = groups == 16 ? 16 : 32;
    (void)n_block;
    for (size_t i = 0; i < n_group * CPU_WIDE_PANELS * MANY_TILES; i++) {
        const size_t tile = i % MANY_TILES, p = i / MANY_TILES % CPU_WIDE_PANELS, g = i / MANY_TILES / CPU_WIDE_PANELS;
        const many_w *w = (const many_w *)(const void *)weights + p;
        float *to = acc + g * MANY_T * CPU_WIDE_OUT + CPU_PANEL * p + CPU_PANEL / MANY_TILES * tile;
        const size_t row = CPU_PANEL / MANY_TILES * tile;
        vf f[UNITS][UNITS];
        int32x4_t s[UNITS][UNITS], e[UNITS][UNITS];
        sums_zero(s);
        for (int part = 0; part < opaque(256 / size); part++) {
            const int first = part * (size / SPAN_K);
            if (groups == 256) {
                spans(w->q[first] + 64 * tile, x[g].q + first, size / SPAN_K, s);
                continue;
            }
            sums_zero(e);
            spans(w->q[first] + 64 * tile, x[g].q + first, size / SPAN_K, e);
            UNROLL for (int j = 0; j < UNITS; j++) {
                const int32x4_t scale = unit_of(w->scale[part * (size / 16)] + row, j);
                UNROLL for (int a = 0; a < UNITS; a++)
                    s[a][j] = vmlaq_s32(s[a][j], e[a][j], scale);
            }
        }
        sums_load(to, f);
        UNROLL for (int j = 0; j < UNITS; j++)
            UNROLL for (int a = 0; a < UNITS; a++)
                f[a][j] = f_fma(f_mul(unit_of_floats(w->d[0] + row, j), f_load(x[g].d[0][a])), f_int(s[a][j]), f[a][j]);
        if (with_least) {
            sums_zero(s);
            sums_zero(e);
            spans(w->least[0] + 64 * tile, x[g].low, SPANS_16, s);
            spans(w->least[0] + 64 * tile, x[g].high, SPANS_16, e);
            UNROLL for (int j = 0; j < UNITS; j++)
                UNROLL for (int a = 0; a < UNITS; a++) {
                    const vf m = f_neg(f_mul(unit_of_floats(w->m[0] + row, j), f_load(x[g].d[0][a])));
                    f[a][j] = f_fma(m, f_int(vaddq_s32(s[a][j], vshlq_n_s32(e[a][j], 7))), f[a][j]);
                }
        }
        sums_store(to, f);
    }
}

#define MANY_MULTIPLY(name, of, per, with_least)                                                                                                   \
    static __attribute__((unused)) void many_multiply_##name(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc,  \
                                                             uint8_t *work)                                                                        \
    {                                                                                                                                              \
        (void)work;                                                                                                                                \
        many_multiply_##of(per, with_least, n_block, weights, act, n_group, acc);                                                                  \
    }
MANY_MULTIPLY(32, small, 32, 0)
MANY_MULTIPLY(32_least, small, 32, 1)
MANY_MULTIPLY(nvfp4, small, 16, 0)
MANY_MULTIPLY(groups_16, super, 16, 0)
MANY_MULTIPLY(groups_16_least, super, 16, 1)
MANY_MULTIPLY(groups_32, super, 32, 0)
MANY_MULTIPLY(groups_32_least, super, 32, 1)
MANY_MULTIPLY(groups_256, super, 256, 0)

/* ---- converting ---- */

INLINE void many_convert_small(cpu_interleave at, int has, int offset, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    many_w *w = (void *)to;
    const vi table = small_table(has), off = i_byte(-offset);
    const int acts = small_acts(has);
    for (int b = 0; b < n_block * acts; b++)
        for (int half = 0; half < opaque(REGS); half++) {
            const size_t block = first + (size_t)(b / acts);
            const uint8_t *from = panel + cpu_body_offset(at, block) + (size_t)(b % acts) * (cpu_block_bytes(at) / (size_t)acts) + half * LANE_BYTES;
            const uint8_t *heads = panel + cpu_head_offset(at, block);
            vi low[4], high[4];
            UNROLL for (int i = 0; i < 4; i++) {
                small_line(has, from, table, i, &low[i], &high[i]);
                low[i] = i_add8(low[i], off);
                high[i] = i_add8(high[i], off);
            }
            put_lines(w->q, 8 * b, half, low);
            put_lines(w->q, 8 * b + 4, half, high);
            f_store(w->d[b] + LANES * half, has & FP4 ? fp4_scales(heads, half) : head(heads, half));
            if (has & LEAST)
                f_store(w->m[b] + LANES * half, head(heads + CPU_LINE / 2, half));
        }
}

/* Scales in words, and minima, of the two halves of group g, for the rows of register `half`. */
INLINE void many_scale(many_w *w, int half, int g, vi words)
{
    vst1q_s32(w->scale[2 * g] + LANES * half, vshrq_n_s32(vshlq_n_s32(words, 16), 16));
    vst1q_s32(w->scale[2 * g + 1] + LANES * half, vshrq_n_s32(words, 16));
}
INLINE void many_least(many_w *w, int half, const vi least[8])
{
    vi lines[4];
    UNROLL for (int i = 0; i < 4; i++) {
        const vi a = least[2 * i], b = least[2 * i + 1];
        lines[i] = i_or(i_or(i_and(a, i_dword(0xff)), i_and(i_right(a, 8), i_dword(0xff00))), i_or(i_left(i_and(b, i_dword(0xff)), 16), i_and(i_left(b, 8), i_dword(0xff000000u))));
    }
    put_lines(w->least, 0, half, lines);
}

INLINE void many_convert_super(super at, int with_least, int offset, const uint8_t *from, const uint8_t *heads, int half, const vi scales[8], const vi least[8], many_w *w)
{
    const int n = 8 / at.width;
    f_store(w->d[0] + LANES * half, head(heads, half));
    if (with_least) {
        f_store(w->m[0] + LANES * half, head(heads + CPU_LINE / 2, half));
        many_least(w, half, least);
    }
    for (int c = 0; c < opaque(8 / n); c++)
        UNROLL for (int v = 0; v < n; v++) {
            many_scale(w, half, n * c + v, scales[n * c + v]);
            UNROLL for (int h = 0; h < 2; h++) {
                vi q[4];
                UNROLL for (int j = 0; j < 4; j++)
                    q[j] = i_add8(super_line(at, from, c, v, h, j), i_byte(-offset));
                put_lines(w->q, 8 * (n * c + v) + 4 * h, half, q);
            }
        }
}

static void many_convert_q4_0(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    (void)n_in;
    many_convert_small(at_q4_0, 0, 8, panel, first, n_block, to);
}

static void many_convert_q8_0(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    many_w *w = (void *)to;
    (void)n_in;
    for (int b = 0; b < n_block; b++)
        for (int half = 0; half < opaque(REGS); half++) {
            const uint8_t *from = panel + cpu_body_offset(at_q8_0, first + (size_t)b) + half * LANE_BYTES;
            UNROLL for (int h = 0; h < 2; h++) {
                vi q[4];
                UNROLL for (int i = 0; i < 4; i++)
                    q[i] = i_load(from + CPU_LINE * (4 * h + i));
                put_lines(w->q, 8 * b + 4 * h, half, q);
            }
            f_store(w->d[b] + LANES * half, head(panel + cpu_head_offset(at_q8_0, first + (size_t)b), half));
        }
}

/* As Q5_K, but for the fifth bits. */
static void many_convert_q4_k(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    (void)n_in, (void)n_block;
    for (int half = 0; half < opaque(REGS); half++) {
        const uint8_t *from = panel + cpu_body_offset(at_q4_k, first) + half * LANE_BYTES, *heads = panel + cpu_head_offset(at_q4_k, first);
        vi scales[8], least[8];
        scales_q5_k(from, heads, half, scales, least);
        many_convert_super((super) { .width = 4, .first = 3, .up = -1, .groups = 32 }, 1, 0, from, heads, half, scales, least, (void *)to);
    }
}

static void many_convert_q6_k(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    many_w *w = (void *)to;
    (void)n_in, (void)n_block;
    for (int half = 0; half < opaque(REGS); half++) {
        const uint8_t *from = panel + cpu_body_offset(at_q6_k, first) + half * LANE_BYTES;
        f_store(w->d[0] + LANES * half, head(panel + cpu_head_offset(at_q6_k, first), half));
        for (int g = 0; g < opaque(16); g++) {
            vi q[4];
            UNROLL for (int i = 0; i < 4; i++)
                q[i] = vreinterpretq_s32_s8(six_bits(from, g, i));
            put_lines(w->q, 4 * g, half, q);
            vst1q_s32(w->scale[g] + LANES * half, signed_byte_of(vld1q_u8(from + CPU_LINE * (48 + g / 4)), g));
        }
    }
}

static void many_convert_nvfp4(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    many_w *w = (void *)to;
    (void)n_in;
    for (int b = 0; b < n_block; b++)
        for (int half = 0; half < opaque(REGS); half++) {
            const uint8_t *from = panel + cpu_body_offset(at_nvfp4, first + (size_t)b) + half * LANE_BYTES, *heads = panel + cpu_head_offset(at_nvfp4, first + (size_t)b);
            UNROLL for (int g = 0; g < 4; g++) {
                vi q[4];
                nvfp4_lines(from, g, q);
                put_lines(w->q, 16 * b + 4 * g, half, q);
                f_store(w->d[4 * b + g] + LANES * half, nvfp4_scales(heads, half, g));
            }
        }
}

/* ---- kernels ---- */

static void many_store(const float *acc, size_t n, float *to, int stream) { (void)stream, memcpy(to, acc, n * sizeof *to); }
static void many_end(void) { }

#define MANY_KERNEL(stem, prepare, multiply) \
    CPU_KERNEL cpu_wide many_##stem = { MANY_T, sizeof(many_x), sizeof(many_w), 0, prepare, many_convert_##stem, multiply, many_store, NULL, many_end };
#define MANY_SMALL(stem, has, offset)                                                                                                              \
    static void many_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                    \
    {                                                                                                                                              \
        (void)n_in;                                                                                                                                \
        many_convert_small(at_##stem, has, offset, panel, first, n_block, to);                                                                     \
    }                                                                                                                                              \
    MANY_KERNEL(stem, many_prepare_32, ((has) & LEAST ? many_multiply_32_least : many_multiply_32))
#define MANY_SUPER(stem, with_least, shift, ...)                                                                                                   \
    static void many_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                    \
    {                                                                                                                                              \
        (void)n_in, (void)n_block;                                                                                                                 \
        for (int half = 0; half < opaque(REGS); half++) {                                                                                          \
            const uint8_t *from = panel + cpu_body_offset(at_##stem, first) + half * LANE_BYTES, *heads = panel + cpu_head_offset(at_##stem, first); \
            vi scales[8], least[8];                                                                                                                \
            scales_##stem(from, heads, half, scales, least);                                                                                       \
            many_convert_super((super) { __VA_ARGS__ }, with_least, (shift) ? 1 << (shift) : 0, from, heads, half, scales, least, (void *)to);     \
        }                                                                                                                                          \
    }
#define MANY_GRID(stem, groups)                                                                                                                    \
    static void many_convert_##stem(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)                                    \
    {                                                                                                                                              \
        many_w *w = (void *)to;                                                                                                                    \
        (void)n_in, (void)n_block;                                                                                                                 \
        for (int half = 0; half < opaque(REGS); half++) {                                                                                          \
            const uint8_t *from = panel + cpu_body_offset(at_##stem, first) + half * LANE_BYTES, *heads = panel + cpu_head_offset(at_##stem, first); \
            f_store(w->d[0] + LANES * half, d_##stem(from, heads, half));                                                                          \
            for (int g = 0; g < opaque(8); g++) {                                                                                                  \
                many_scale(w, half, g, scale_##stem(from, heads, half, g));                                                                        \
                UNROLL for (int h = 0; h < 2; h++) {                                                                                               \
                    vi q[4];                                                                                                                       \
                    lines_##stem(from, heads, half, g, h, q);                                                                                      \
                    put_lines(w->q, 8 * g + 4 * h, half, q);                                                                                       \
                }                                                                                                                                  \
            }                                                                                                                                      \
        }                                                                                                                                          \
    }                                                                                                                                              \
    MANY_KERNEL(stem, many_prepare_256, many_multiply_groups_##groups)

MANY_KERNEL(q4_0, many_prepare_32, many_multiply_32)
MANY_KERNEL(q8_0, many_prepare_32, many_multiply_32)
MANY_KERNEL(nvfp4, many_prepare_32, many_multiply_nvfp4)
MANY_KERNEL(q4_k, many_prepare_256, many_multiply_groups_32_least)
MANY_KERNEL(q6_k, many_prepare_256, many_multiply_groups_16)
TYPES_SMALL(MANY_SMALL)
TYPES_LEAST(MANY_SMALL)
TYPES_SUPER(MANY_SUPER)
TYPES_GRID(MANY_GRID)
MANY_KERNEL(q5_k, many_prepare_256, many_multiply_groups_32_least)
MANY_KERNEL(q2_k, many_prepare_256, many_multiply_groups_16_least)
MANY_KERNEL(q3_k, many_prepare_256, many_multiply_groups_16)
MANY_KERNEL(iq4_xs, many_prepare_256, many_multiply_groups_32)

#endif
