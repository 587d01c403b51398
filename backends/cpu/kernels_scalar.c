/* SPDX-License-Identifier: MIT */
/* kernels_scalar.c - the reference: every inner loop in plain C, one step after the other as docs/numerics.md defines them. Compiled twice, with
 * the processor's fma (CPU_WITH_FMA) and with the one made of binary64 additions; both give the same bits. */
#include "kernels.h"

#if defined(CPU_WITH_FMA)
#define LEVEL CPU_SCALAR_FMA
#define LEVEL_TEXT "scalar-fma"
#define IMPLS cpu_impls_scalar_fma
#define N_IMPLS cpu_n_impls_scalar_fma
#else
#define LEVEL CPU_SCALAR
#define LEVEL_TEXT "scalar"
#define IMPLS cpu_impls_scalar
#define N_IMPLS cpu_n_impls_scalar
#endif
extern const sl_impl IMPLS[];
extern const size_t N_IMPLS;

/* ---- products: one panel kernel per type ---- */

/* Bytes of activations beside one block of `values` elements. */
#define ACT_BYTES_A32(values) ((values) / 32 * sizeof(sl_block_a32))
#define ACT_BYTES_A256(values) ((values) / 256 * sizeof(sl_block_a256))

/* Numbers of float types lie in the panel as they are; a block of the others may have to be brought together. */
#define PANEL_F32(NAME, stem, values, bytes, form)                                                                                                 \
    static void panel_##stem(int64_t n_in, const uint8_t *panel, size_t panel_stride, int n_panel, const uint8_t *const *act, int m,               \
                             float (*acc)[CPU_MAX_M][CPU_PANEL])                                                                                   \
    {                                                                                                                                              \
        for (int p = 0; p < n_panel; p++)                                                                                                          \
            for (int t = 0; t < m; t++)                                                                                                            \
                for (int64_t k = 0; k < n_in; k++)                                                                                                 \
                    for (int r = 0; r < CPU_PANEL; r++)                                                                                            \
                        acc[p][t][r] = sl_dot_##stem(panel + (size_t)p * panel_stride + (size_t)(CPU_PANEL * k + r) * (bytes),                     \
                                                     act[t] + (size_t)k * sizeof(float), acc[p][t][r]);                                            \
    }                                                                                                                                              \
    PANEL_F32_B16(stem, bytes)
/* In bf16 arithmetic 32 weights of a row are brought together and rounded. */
#define PANEL_F32_B16(stem, bytes)                                                                                                                 \
    static void panel_##stem##_b16(int64_t n_in, const uint8_t *panel, size_t panel_stride, int n_panel, const uint8_t *const *act, int m,         \
                                   float (*acc)[CPU_MAX_M][CPU_PANEL])                                                                             \
    {                                                                                                                                              \
        for (int p = 0; p < n_panel; p++)                                                                                                          \
            for (int64_t k = 0; k < n_in; k += 32)                                                                                                 \
                for (int r = 0; r < CPU_PANEL; r++) {                                                                                              \
                    const uint8_t *from = panel + (size_t)p * panel_stride + (size_t)(CPU_PANEL * k + r) * (bytes);                                \
                    const int n = n_in - k < 32 ? (int)(n_in - k) : 32;                                                                            \
                    uint16_t w[32];                                                                                                                \
                    for (int i = 0; i < n; i++)                                                                                                    \
                        w[i] = sl_b16_##stem(from + CPU_PANEL * i * (bytes));                                                                      \
                    for (int t = 0; t < m; t++)                                                                                                    \
                        acc[p][t][r] = sl_dot_b16(w, ((const sl_block_b16 *)(const void *)act[t])[k / 32].v, n, acc[p][t][r]);                     \
                }                                                                                                                                  \
    }
#define PANEL_BLOCKS(NAME, stem, values, bytes, form)                                                                                              \
    static void panel_##stem(int64_t n_in, const uint8_t *panel, size_t panel_stride, int n_panel, const uint8_t *const *act, int m,               \
                             float (*acc)[CPU_MAX_M][CPU_PANEL])                                                                                   \
    {                                                                                                                                              \
        uint8_t buffer[bytes];                                                                                                                     \
        for (int p = 0; p < n_panel; p++)                                                                                                          \
            for (int64_t b = 0; b < n_in / (values); b++)                                                                                          \
                for (int r = 0; r < CPU_PANEL; r++) {                                                                                              \
                    const void *w = cpu_panel_at(SL_TYPE_##NAME, n_in, panel + (size_t)p * panel_stride, r, b, buffer);                            \
                    for (int t = 0; t < m; t++)                                                                                                    \
                        acc[p][t][r] = sl_dot_##stem(w, act[t] + (size_t)b * ACT_BYTES_##form(values), acc[p][t][r]);                              \
                }                                                                                                                                  \
    }
#define PANEL_A32 PANEL_BLOCKS
#define PANEL_A256 PANEL_BLOCKS
#define PANEL_NONE(NAME, stem, values, bytes, form)
#define PANEL(NAME, stem, id, values, bytes, form) PANEL_##form(NAME, stem, values, bytes, form)
SL_TYPES(PANEL)

/* ---- activations ---- */

static int quantize_a32(int64_t n, const float *x, void *blocks)
{
    sl_block_a32 *to = blocks;
    int bad = 0;
    for (int64_t b = 0; b < n / 32; b++)
        bad |= sl_quantize_a32(x + 32 * b, to + b);
    return bad;
}

static int quantize_a256(int64_t n, const float *x, void *blocks)
{
    sl_block_a256 *to = blocks;
    int bad = 0;
    for (int64_t b = 0; b < n / 256; b++)
        bad |= sl_quantize_a256(x + 256 * b, to + b);
    return bad;
}

static int quantize_b16(int64_t n, const float *x, void *blocks)
{
    sl_block_b16 *to = blocks;
    int bad = 0;
    for (int64_t k = 0; k < n; k += 32)
        bad |= sl_quantize_b16(x + k, n - k < 32 ? (int)(n - k) : 32, to + k / 32);
    return bad;
}

/* Halves of numbers that need not be finite. */
static int convert_f16(int64_t n, const float *x, void *halves)
{
    uint16_t *to = halves;
    for (int64_t i = 0; i < n; i++)
        to[i] = sl_float_to_half(x[i]);
    return 0;
}

/* ---- rows ---- */

static void rms_norm(int64_t n, const float *x, const float *weight, float epsilon, float *y)
{
    float s[16] = { 0 };
    for (int64_t i = 0; i < n; i++)
        s[i % 16] = sl_fma(x[i], x[i], s[i % 16]);
    const float r = 1.0f / sl_sqrt(cpu_halve(s) / (float)n + epsilon);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * r * weight[i];
}

static void layer_norm(int64_t n, const float *x, const float *weight, const float *bias, float epsilon, float *y)
{
    float s[16] = { 0 }, ss[16] = { 0 };
    for (int64_t i = 0; i < n; i++)
        s[i % 16] += x[i];
    const float mean = cpu_halve(s) / (float)n;
    for (int64_t i = 0; i < n; i++)
        ss[i % 16] = sl_fma(x[i] - mean, x[i] - mean, ss[i % 16]);
    const float r = 1.0f / sl_sqrt(cpu_halve(ss) / (float)n + epsilon);
    for (int64_t i = 0; i < n; i++)
        y[i] = sl_fma((x[i] - mean) * r, weight[i], bias[i]);
}

static void gelu(int64_t n, float *x, const float *bias)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = sl_gelu(bias ? x[i] + bias[i] : x[i]);
}

static void quick_gelu(int64_t n, float *x, const float *bias)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = sl_quick_gelu(bias ? x[i] + bias[i] : x[i]);
}

static void add_gated(int64_t n, float *x, const float *y, float gate)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = sl_fma(y[i], gate, x[i]);
}

static void add(int64_t n, float *x, const float *y)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void silu_mul(int64_t n, const float *gate, const float *up, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = sl_silu(gate[i]) * up[i];
}

static void rope(int64_t n, float *x, const float *angles)
{
    for (int64_t i = 0; i + 1 < n; i += 2) {
        const float a = x[i], b = x[i + 1], c = angles[i], s = angles[i + 1];
        x[i] = sl_fma(a, c, -(b * s));
        x[i + 1] = sl_fma(a, s, b * c);
    }
}

/* ---- attention ---- */

static float load_f32(const void *x, int64_t i) { return ((const float *)x)[i]; }
static float load_f16(const void *x, int64_t i) { return sl_half_to_float(((const uint16_t *)x)[i]); }

static int is_visible(uint64_t visible, int j) { return (int)(visible >> j & 1); }

/* Scores of the visible keys to p, their maximum and sum; the others stay out of both. b16: p is rounded for bf16 arithmetic. */
static void softmax(uint64_t visible, float scale, int b16, float p[SL_PAGE_KEYS], float *m, float *l)
{
    float top = sl_float(0xff800000u), s[16] = { 0 };
    for (int j = 0; j < SL_PAGE_KEYS; j++)
        if (is_visible(visible, j)) {
            p[j] *= scale;
            top = p[j] > top ? p[j] : top;
        }
    *m = top + 0.0f;
    for (int j = 0; j < SL_PAGE_KEYS; j++)
        if (is_visible(visible, j)) {
            p[j] = sl_exp(p[j] - *m);
            p[j] = b16 ? sl_bf16_to_float(sl_float_to_b16(p[j])) : p[j];
            s[j % 16] += p[j];
        }
    *l = cpu_halve(s);
}

/* Scores to p, all other keys 0; the query's maximum and sum joined. *a, *c: the factors of its o and of the block's. */
static void join_weights(cpu_query *t, float scale, int b16, float p[SL_PAGE_KEYS], float *a, float *c)
{
    float m, l;
    softmax(t->visible, scale, b16, p, &m, &l);
    const float most = t->max > m ? t->max : m;
    *a = sl_exp(t->max - most);
    *c = sl_exp(m - most);
    t->max = most;
    t->sum = sl_fma(l, *c, t->sum * *a);
}

#define ATTENTION(stem)                                                                                                                            \
    static void attention_##stem(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)                 \
    {                                                                                                                                              \
        (void)next, (void)work;                                                                                                                    \
        for (cpu_query *t = queries; t < queries + n; t++) {                                                                                       \
            const uint64_t visible = t->visible;                                                                                                   \
            float p[SL_PAGE_KEYS] = { 0 }, a, c;                                                                                                   \
            for (int64_t d = 0; d < d_head; d++)                                                                                                   \
                for (int j = 0; j < SL_PAGE_KEYS; j++)                                                                                             \
                    if (is_visible(visible, j))                                                                                                    \
                        p[j] = sl_fma(((const float *)t->q)[d], load_##stem(page.k, SL_PAGE_KEYS * d + j), p[j]);                                  \
            join_weights(t, scale, 0, p, &a, &c);                                                                                         \
            for (int64_t d = 0; d < d_head; d++) {                                                                                                 \
                float o = 0.0f;                                                                                                                    \
                for (int j = 0; j < SL_PAGE_KEYS; j++)                                                                                             \
                    if (is_visible(visible, j))                                                                                                    \
                        o = sl_fma(p[j], load_##stem(page.v, d_head * j + d), o);                                                                  \
                t->o[d] = sl_fma(o, c, t->o[d] * a);                                                                                               \
            }                                                                                                                                      \
        }                                                                                                                                          \
    }
ATTENTION(f32)
ATTENTION(f16)

/* ---- pages of bf16: chains over even and odd d, over even and odd keys ---- */

static int prepare_bf16(int64_t n, const float *x, void *to) { return quantize_b16(n, x, to); }

static float bf16_score(int64_t d_head, const sl_block_b16 *q, const uint16_t *k, int j)
{
    float s = 0.0f;
    for (int64_t d = 0; d < d_head; d += 32) {
        const int n = d_head - d < 32 ? (int)(d_head - d) : 32;
        uint16_t w[32];
        for (int i = 0; i < n; i++)
            w[i] = k[((d + i) / 2 * SL_PAGE_KEYS + j) * 2 + i % 2];
        s = sl_dot_b16(w, q[d / 32].v, n, s);
    }
    return s;
}

/* Keys that are not visible count as zeros, which is to leave them out. */
static float bf16_value(int64_t d_head, const float p[SL_PAGE_KEYS], const uint16_t *v, int64_t d, uint64_t visible)
{
    float o = 0.0f;
    for (int first = 0; first < SL_PAGE_KEYS; first += 32) {
        uint16_t w[32], x[32];
        for (int i = 0; i < 32; i++) {
            const int j = first + i, seen = is_visible(visible, j);
            w[i] = seen ? v[(d_head * (j / 2) + d) * 2 + j % 2] : 0;
            x[i] = seen ? sl_float_to_b16(p[j]) : 0;
        }
        o = sl_dot_b16(w, x, 32, o);
    }
    return o;
}

static void attention_bf16(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)
{
    (void)next, (void)work;
    for (cpu_query *t = queries; t < queries + n; t++) {
        const uint64_t visible = t->visible;
        float p[SL_PAGE_KEYS] = { 0 }, a, c;
        for (int j = 0; j < SL_PAGE_KEYS; j++)
            if (is_visible(visible, j))
                p[j] = bf16_score(d_head, t->q, page.k, j);
        join_weights(t, scale, 1, p, &a, &c);
        for (int64_t d = 0; d < d_head; d++)
            t->o[d] = sl_fma(bf16_value(d_head, p, page.v, d, visible), c, t->o[d] * a);
    }
}

/* ---- pages of q8_0: integers and scales per 32 of d ---- */

static float q8_0_scale(const uint8_t *block, int j) { return sl_load_half(block + CPU_Q8_SCALES + 2 * j); }

static float q8_0_score(int64_t d_head, const sl_block_a32 *q, const uint8_t *k, int j)
{
    float s = 0.0f;
    for (int64_t b = 0; b < d_head / 32; b++, k += CPU_Q8_BYTES) {
        int32_t sum = 0;
        for (int i = 0; i < 32; i++)
            sum += (int8_t)k[i / 4 * 4 * SL_PAGE_KEYS + 4 * j + i % 4] * q[b].q[i];
        s = sl_fma(q8_0_scale(k, j) * q[b].d, (float)sum, s);
    }
    return s;
}

static void attention_q8_0(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)
{
    (void)next, (void)work;
    for (cpu_query *t = queries; t < queries + n; t++) {
        const uint64_t visible = t->visible;
        float p[SL_PAGE_KEYS] = { 0 }, a, c;
        for (int j = 0; j < SL_PAGE_KEYS; j++)
            if (is_visible(visible, j))
                p[j] = q8_0_score(d_head, t->q, page.k, j);
        join_weights(t, scale, 0, p, &a, &c);
        for (int64_t d = 0; d < d_head; d++) {
            const uint8_t *v = (const uint8_t *)page.v + d / 32 * CPU_Q8_BYTES;
            float o = 0.0f;
            for (int j = 0; j < SL_PAGE_KEYS; j++)
                if (is_visible(visible, j))
                    o = sl_fma(p[j], q8_0_scale(v, j) * (float)(int8_t)v[32 * j + d % 32], o);
            t->o[d] = sl_fma(o, c, t->o[d] * a);
        }
    }
}

/* ---- the rows of this level ---- */

#define KERNEL_NONE(stem)
#define KERNEL_F32(stem) CPU_KERNEL cpu_matmul_kernel kernel_##stem = { panel_##stem, SL_ACT_F32 }, kernel_##stem##_b16 = { panel_##stem##_b16, SL_ACT_B16 };
#define KERNEL_A32(stem) CPU_KERNEL cpu_matmul_kernel kernel_##stem = { panel_##stem, SL_ACT_A32 };
#define KERNEL_A256(stem) CPU_KERNEL cpu_matmul_kernel kernel_##stem = { panel_##stem, SL_ACT_A256 };
#define KERNEL(NAME, stem, id, values, bytes, form) KERNEL_##form(stem)
SL_TYPES(KERNEL)

CPU_KERNEL cpu_quantize_kernel kernel_a32 = { SL_ACT_A32, quantize_a32 }, kernel_a256 = { SL_ACT_A256, quantize_a256 }, kernel_b16 = { SL_ACT_B16, quantize_b16 };
CPU_KERNEL cpu_cache_write_kernel kernel_cache_f16 = { SL_TYPE_F16, convert_f16 }, kernel_cache_bf16 = { SL_TYPE_BF16, quantize_b16 }, kernel_cache_q8_0 = { SL_TYPE_Q8_0, quantize_a32 };
CPU_KERNEL cpu_rms_norm_kernel kernel_rms_norm = { rms_norm };
CPU_KERNEL cpu_layer_norm_kernel kernel_layer_norm = { layer_norm };
CPU_KERNEL cpu_gelu_kernel kernel_gelu = { gelu }, kernel_quick_gelu = { quick_gelu };
CPU_KERNEL cpu_add_gated_kernel kernel_add_gated = { add_gated };
CPU_KERNEL cpu_add_kernel kernel_add = { add };
CPU_KERNEL cpu_silu_mul_kernel kernel_silu_mul = { silu_mul };
CPU_KERNEL cpu_rope_kernel kernel_rope = { rope };
CPU_KERNEL cpu_attention_kernel kernel_attention_f32 = { SL_TYPE_F32, 1, NULL, NULL, attention_f32, NULL, NULL }, kernel_attention_f16 = { SL_TYPE_F16, 1, NULL, NULL, attention_f16, NULL, NULL };
CPU_KERNEL cpu_attention_kernel kernel_attention_bf16 = { SL_TYPE_BF16, 1, prepare_bf16, NULL, attention_bf16, NULL, NULL };
CPU_KERNEL cpu_attention_kernel kernel_attention_q8_0 = { SL_TYPE_Q8_0, 1, quantize_a32, NULL, attention_q8_0, NULL, NULL };

#define ROWS_NONE(NAME, stem)
#define ROWS_F32(NAME, stem) CPU_FLOAT_IMPLS(NAME, stem, LEVEL, LEVEL_TEXT, kernel_##stem)
#define ROWS_A32(NAME, stem) CPU_MATMUL_IMPLS(NAME, stem, LEVEL, LEVEL_TEXT, kernel_##stem)
#define ROWS_A256 ROWS_A32
#define ROWS(NAME, stem, id, values, bytes, form) ROWS_##form(NAME, stem)

const sl_impl IMPLS[] = {
    SL_TYPES(ROWS)
    CPU_VECTOR_IMPLS(LEVEL, LEVEL_TEXT)
};
const size_t N_IMPLS = sizeof IMPLS / sizeof *IMPLS;
