/* SPDX-License-Identifier: MIT */
/* kernels.h - what kernel files share: where the bytes of a block lie in a panel (the layouts are described in panel.c), and the rows of a level's array. */
#ifndef CPU_KERNELS_H
#define CPU_KERNELS_H

#include "cpu.h"

/* The interleaved types: X(NAME, stem, first byte of the body in the block, lines of the body, byte of the half in the first half of a head
 * line, byte of the half in its second half). A last number below 0: a head line serves so many blocks; two of them have a half each in it, four a byte each.
 * Layouts are there whatever types are left out of a build. */
#define CPU_INTERLEAVED(X) \
    X(Q4_0, q4_0, 2, 4, 0, -2) \
    X(Q8_0, q8_0, 2, 8, 0, -2) \
    X(Q4_K, q4_k, 4, 35, 0, 2) \
    X(Q6_K, q6_k, 0, 52, 208, -2) \
    X(Q5_K, q5_k, 4, 43, 0, 2) \
    X(Q5_0, q5_0, 2, 5, 0, -2) \
    X(Q4_1, q4_1, 4, 4, 0, 2) \
    X(Q3_K, q3_k, 0, 27, 108, -2) \
    X(Q2_K, q2_k, 0, 20, 80, 82) \
    X(IQ4_XS, iq4_xs, 4, 33, 0, 2) \
    X(IQ4_NL, iq4_nl, 2, 4, 0, -2) \
    X(Q5_1, q5_1, 4, 5, 0, 2) \
    X(MXFP4, mxfp4, 1, 4, 0, -4) \
    X(IQ2_XXS, iq2_xxs, 2, 16, 0, -2) \
    X(IQ2_XS, iq2_xs, 2, 18, 0, -2) \
    X(IQ2_S, iq2_s, 2, 20, 0, -2) \
    X(IQ3_XXS, iq3_xxs, 2, 24, 0, -2) \
    X(IQ3_S, iq3_s, 2, 27, 0, -2) \
    X(IQ1_S, iq1_s, 2, 12, 0, -2) \
    X(IQ1_M, iq1_m, 0, 13, 52, 54) \
    X(TQ1_0, tq1_0, 0, 13, 52, -2) \
    X(TQ2_0, tq2_0, 0, 16, 64, -2) \
    X(NVFP4, nvfp4, 4, 8, 0, 2) \
    X(Q1_0, q1_0, 2, 4, 0, -2) \
    X(Q2_0, q2_0, 2, 4, 0, -2)

enum { CPU_LINE = 64 };     /* bytes: one dword of each of 16 rows */

typedef struct cpu_interleave {
    int16_t body, lines, half[2];
} cpu_interleave;

/* Blocks that share a head line, whose bytes are divided among them; the bytes that a row has there per block, beside what is in the body. */
static inline size_t cpu_unit_blocks(cpu_interleave at) { return at.half[1] < 0 ? (size_t)-at.half[1] : 1; }
static inline size_t cpu_head_bytes(cpu_interleave at) { return at.half[1] == -4 ? 1 : 2; }
static inline size_t cpu_block_bytes(cpu_interleave at) { return (size_t)at.lines * CPU_LINE; }
static inline size_t cpu_head_offset(cpu_interleave at, size_t block)
{
    const size_t n = cpu_unit_blocks(at);
    return block / n * (CPU_LINE + n * cpu_block_bytes(at)) + block % n * (CPU_LINE / n);
}
static inline size_t cpu_body_offset(cpu_interleave at, size_t block)
{
    const size_t n = cpu_unit_blocks(at);
    return block / n * (CPU_LINE + n * cpu_block_bytes(at)) + CPU_LINE + block % n * cpu_block_bytes(at);
}

/* Block `block` of row `row` as it lay in the file: a pointer into the panel, or to `buffer` (block_bytes of the type) if its bytes are scattered. */
const void *cpu_panel_at(sl_type type, int64_t n_in, const uint8_t *panel, int row, int64_t block, void *buffer);

/* 16 partial sums to one: halves are added, 16 to 8 to 4 to 2 to 1. */
static inline float cpu_halve(float s[16])
{
    for (int h = 8; h > 0; h /= 2)
        for (int i = 0; i < h; i++)
            s[i] += s[i + h];
    return s[0];
}

/* ---- rows of a level's array ---- */

/* In front of a kernel: types and operations that are left out of a build leave theirs unused. */
#define CPU_KERNEL __attribute__((unused)) static const

/* The products with one type. */
#define CPU_MATMUL_IMPLS(NAME, stem, level, text, kernel)                                                                                          \
    { SL_OP_MATMUL, "matmul/" #stem "/" text, SL_TYPE_##NAME, level, cpu_matmul_accepts, cpu_matmul_scratch, cpu_matmul_run, &kernel },            \
    { SL_OP_MATMUL_EXPERT, "matmul_expert/" #stem "/" text, SL_TYPE_##NAME, level, cpu_matmul_expert_accepts, cpu_matmul_expert_scratch,           \
      cpu_matmul_expert_run, &kernel },
/* Those with a float type in both arithmetics: kernel and kernel_b16. */
#define CPU_FLOAT_IMPLS(NAME, stem, level, text, kernel)                                                                                           \
    CPU_MATMUL_IMPLS(NAME, stem, level, text, kernel)                                                                                              \
    CPU_MATMUL_IMPLS(NAME, stem, level, "b16/" text, kernel##_b16)
/* Everything else that has kernels; the file has to define these under the names used here. */
#define CPU_VECTOR_IMPLS(level, text)                                                                                                              \
    { SL_OP_QUANTIZE, "quantize/a32/" text, -1, level, cpu_quantize_accepts, NULL, cpu_quantize_run, &kernel_a32 },                                \
    { SL_OP_QUANTIZE, "quantize/a256/" text, -1, level, cpu_quantize_accepts, NULL, cpu_quantize_run, &kernel_a256 },                              \
    { SL_OP_QUANTIZE, "quantize/b16/" text, -1, level, cpu_quantize_accepts, NULL, cpu_quantize_run, &kernel_b16 },                                \
    SL_ROW(OP_RMS_NORM, { SL_OP_RMS_NORM, "rms_norm/" text, -1, level, cpu_rms_norm_accepts, NULL, cpu_rms_norm_run, &kernel_rms_norm },)          \
    SL_ROW(OP_ADD_TO, { SL_OP_ADD_TO, "add_to/" text, -1, level, cpu_add_to_accepts, NULL, cpu_add_to_run, &kernel_add },)                         \
    SL_ROW(OP_SILU_MUL, { SL_OP_SILU_MUL, "silu_mul/" text, -1, level, cpu_silu_mul_accepts, NULL, cpu_silu_mul_run, &kernel_silu_mul },)          \
    SL_ROW(OP_ROPE, { SL_OP_ROPE, "rope/" text, -1, level, cpu_rope_accepts, NULL, cpu_rope_run, &kernel_rope },)                                  \
    SL_ROW(OP_LAYER_NORM, { SL_OP_LAYER_NORM, "layer_norm/" text, -1, level, cpu_layer_norm_accepts, NULL, cpu_layer_norm_run, &kernel_layer_norm },) \
    SL_ROW(OP_GELU, { SL_OP_GELU, "gelu/" text, -1, level, cpu_gelu_accepts, NULL, cpu_gelu_run, &kernel_gelu },)                                  \
    SL_ROW(OP_QUICK_GELU, { SL_OP_QUICK_GELU, "quick_gelu/" text, -1, level, cpu_gelu_accepts, NULL, cpu_gelu_run, &kernel_quick_gelu },)          \
    SL_ROW(OP_ADD_GATED, { SL_OP_ADD_GATED, "add_gated/" text, -1, level, cpu_add_gated_accepts, NULL, cpu_add_gated_run, &kernel_add_gated },)    \
    CPU_CACHE_WRITE_IMPL(f16, level, text)                                                                                                         \
    CPU_CACHE_WRITE_IMPL(bf16, level, text)                                                                                                        \
    CPU_CACHE_WRITE_IMPL(q8_0, level, text)                                                                                                        \
    CPU_ATTENTION_IMPLS(f32, level, text, kernel_attention_f32)                                                                                    \
    CPU_ATTENTION_IMPLS(f16, level, text, kernel_attention_f16)                                                                                    \
    CPU_ATTENTION_IMPLS(bf16, level, text, kernel_attention_bf16)                                                                                  \
    CPU_ATTENTION_IMPLS(q8_0, level, text, kernel_attention_q8_0)
#define CPU_CACHE_WRITE_IMPL(stem, level, text)                                                                                                    \
    SL_ROW(OP_CACHE_WRITE, { SL_OP_CACHE_WRITE, "cache_write/" #stem "/" text, -1, level, cpu_cache_write_accepts, NULL, cpu_cache_write_run,      \
                             &kernel_cache_##stem },)
/* Both kinds of attention to a cache of one type. */
#define CPU_ATTENTION_IMPLS(stem, level, text, kernel)                                                                                             \
    SL_ROW(OP_ATTENTION, { SL_OP_ATTENTION, "attention/" #stem "/" text, -1, level, cpu_attention_accepts, cpu_attention_scratch, cpu_attention_run, \
                           &kernel },)                                                                                                             \
    SL_ROW(OP_SPAN_ATTENTION, { SL_OP_SPAN_ATTENTION, "span_attention/" #stem "/" text, -1, level, cpu_span_attention_accepts,                     \
                                cpu_span_attention_scratch, cpu_span_attention_run, &kernel },)

#endif
