/* SPDX-License-Identifier: MIT */
/* type.h - the tensor types: one row each. Bytes and values: blocks.h and docs/numerics.md. */
#ifndef SL_TYPE_H
#define SL_TYPE_H

#include "rows.h"
#include <stddef.h>
#include <stdint.h>

/* X(NAME, stem, GGUF id, elements per block, bytes per block, form of the activations beside it in f32 arithmetic).
 * Types that only hold indices or activations have no row kernels: SL_ACT_NONE. */
#define SL_TYPES(X) \
    SL_ROW(TYPE_F32, X(F32, f32, 0, 1, 4, F32)) \
    SL_ROW(TYPE_F16, X(F16, f16, 1, 1, 2, F32)) \
    SL_ROW(TYPE_Q4_0, X(Q4_0, q4_0, 2, 32, 18, A32)) \
    SL_ROW(TYPE_Q4_1, X(Q4_1, q4_1, 3, 32, 20, A32)) \
    SL_ROW(TYPE_Q5_0, X(Q5_0, q5_0, 6, 32, 22, A32)) \
    SL_ROW(TYPE_Q5_1, X(Q5_1, q5_1, 7, 32, 24, A32)) \
    SL_ROW(TYPE_Q8_0, X(Q8_0, q8_0, 8, 32, 34, A32)) \
    SL_ROW(TYPE_Q2_K, X(Q2_K, q2_k, 10, 256, 84, A256)) \
    SL_ROW(TYPE_Q3_K, X(Q3_K, q3_k, 11, 256, 110, A256)) \
    SL_ROW(TYPE_Q4_K, X(Q4_K, q4_k, 12, 256, 144, A256)) \
    SL_ROW(TYPE_Q5_K, X(Q5_K, q5_k, 13, 256, 176, A256)) \
    SL_ROW(TYPE_Q6_K, X(Q6_K, q6_k, 14, 256, 210, A256)) \
    SL_ROW(TYPE_IQ2_XXS, X(IQ2_XXS, iq2_xxs, 16, 256, 66, A256)) \
    SL_ROW(TYPE_IQ2_XS, X(IQ2_XS, iq2_xs, 17, 256, 74, A256)) \
    SL_ROW(TYPE_IQ3_XXS, X(IQ3_XXS, iq3_xxs, 18, 256, 98, A256)) \
    SL_ROW(TYPE_IQ1_S, X(IQ1_S, iq1_s, 19, 256, 50, A256)) \
    SL_ROW(TYPE_IQ4_NL, X(IQ4_NL, iq4_nl, 20, 32, 18, A32)) \
    SL_ROW(TYPE_IQ3_S, X(IQ3_S, iq3_s, 21, 256, 110, A256)) \
    SL_ROW(TYPE_IQ2_S, X(IQ2_S, iq2_s, 22, 256, 82, A256)) \
    SL_ROW(TYPE_IQ4_XS, X(IQ4_XS, iq4_xs, 23, 256, 136, A256)) \
    SL_ROW(TYPE_IQ1_M, X(IQ1_M, iq1_m, 29, 256, 56, A256)) \
    SL_ROW(TYPE_BF16, X(BF16, bf16, 30, 1, 2, F32)) \
    SL_ROW(TYPE_TQ1_0, X(TQ1_0, tq1_0, 34, 256, 54, A256)) \
    SL_ROW(TYPE_TQ2_0, X(TQ2_0, tq2_0, 35, 256, 66, A256)) \
    SL_ROW(TYPE_MXFP4, X(MXFP4, mxfp4, 39, 32, 17, A32)) \
    SL_ROW(TYPE_NVFP4, X(NVFP4, nvfp4, 40, 64, 36, A32)) \
    SL_ROW(TYPE_Q1_0, X(Q1_0, q1_0, 41, 128, 18, A32)) \
    SL_ROW(TYPE_Q2_0, X(Q2_0, q2_0, 42, 64, 18, A32)) \
    SL_PLAIN_TYPES(X)

/* Read and decoded, never multiplied with. Always there: tensors of the library itself have them. */
#define SL_PLAIN_TYPES(X) \
    X(Q8_1, q8_1, 9, 32, 36, NONE) \
    X(Q8_K, q8_k, 15, 256, 292, NONE) \
    X(I8, i8, 24, 1, 1, NONE) \
    X(I16, i16, 25, 1, 2, NONE) \
    X(I32, i32, 26, 1, 4, NONE) \
    X(I64, i64, 27, 1, 8, NONE) \
    X(F64, f64, 28, 1, 8, NONE)

/* Numbers are those of GGUF, whatever rows are switched off. */
typedef enum sl_type {
    SL_TYPE_F32 = 0, SL_TYPE_F16 = 1, SL_TYPE_Q4_0 = 2, SL_TYPE_Q4_1 = 3, SL_TYPE_Q5_0 = 6, SL_TYPE_Q5_1 = 7, SL_TYPE_Q8_0 = 8, SL_TYPE_Q8_1 = 9,
    SL_TYPE_Q2_K = 10, SL_TYPE_Q3_K = 11, SL_TYPE_Q4_K = 12, SL_TYPE_Q5_K = 13, SL_TYPE_Q6_K = 14, SL_TYPE_Q8_K = 15,
    SL_TYPE_IQ2_XXS = 16, SL_TYPE_IQ2_XS = 17, SL_TYPE_IQ3_XXS = 18, SL_TYPE_IQ1_S = 19, SL_TYPE_IQ4_NL = 20, SL_TYPE_IQ3_S = 21,
    SL_TYPE_IQ2_S = 22, SL_TYPE_IQ4_XS = 23, SL_TYPE_I8 = 24, SL_TYPE_I16 = 25, SL_TYPE_I32 = 26, SL_TYPE_I64 = 27, SL_TYPE_F64 = 28,
    SL_TYPE_IQ1_M = 29, SL_TYPE_BF16 = 30, SL_TYPE_TQ1_0 = 34, SL_TYPE_TQ2_0 = 35, SL_TYPE_MXFP4 = 39, SL_TYPE_NVFP4 = 40, SL_TYPE_Q1_0 = 41, SL_TYPE_Q2_0 = 42,
    SL_TYPE_COUNT = 43
} sl_type;

/* How activations stand beside a weight (docs/numerics.md): X(NAME, stem, elements per block, bytes per block). A row whose last block is not full
 * is filled up with zeros. Float types take F32, or B16 in bf16 arithmetic (sl_device_form, backend.h). */
#define SL_ACT_FORMS(X) X(F32, f32, 1, 4) X(A32, a32, 32, 40) X(A256, a256, 256, 304) X(B16, b16, 32, 64)
typedef enum sl_act_form {
    SL_ACT_NONE = -1,
#define SL_ACT_ENUM_(NAME, stem, values, bytes) SL_ACT_##NAME,
    SL_ACT_FORMS(SL_ACT_ENUM_)
#undef SL_ACT_ENUM_
    SL_ACT_COUNT
} sl_act_form;

typedef struct sl_act_info { uint16_t block_values, block_bytes; } sl_act_info;
/* The row of a form; not of SL_ACT_NONE. */
const sl_act_info *sl_act_get(sl_act_form form);
/* Bytes of a row of n activations. */
static inline size_t sl_act_row_bytes(const sl_act_info *form, size_t n) { return (n + form->block_values - 1) / form->block_values * form->block_bytes; }

typedef struct sl_type_info {
    const char *name;       /* "Q4_K"; NULL: no such type in this build */
    const char *stem;       /* "q4_k" */
    uint16_t block_values;  /* elements per block */
    uint16_t block_bytes;   /* bytes per block */
    sl_act_form form;       /* of the activations in f32 arithmetic, SL_ACT_NONE: not a matrix type */
    /* Values of n_blocks blocks: dst holds n_blocks * block_values floats. */
    void (*decode)(const void *blocks, int64_t n_blocks, float *dst);
    /* Index of the first of n_blocks blocks that holds a number no weight may be (NaN, infinity, NaN codes), or -1. */
    int64_t (*check)(const void *blocks, int64_t n_blocks);
} sl_type_info;

/* The row of a type number from a file; NULL for numbers that are not (or no longer) a type, and for types left out of this build. */
const sl_type_info *sl_type_get(uint32_t id);
/* 1 if the format has this type, in this build or not: known without sl_type_get means left out. */
int sl_type_known(uint32_t id);
/* 1 if the format once had this type and gave it up; neither known nor removed means never heard of. */
int sl_type_removed(uint32_t id);
/* Name of any number: "Q4_K" (also when it was left out of the build), else "unknown". */
const char *sl_type_name(uint32_t id);
/* Bytes of a row of n elements; n is a multiple of block_values. */
static inline size_t sl_type_row_bytes(const sl_type_info *type, size_t n) { return n / type->block_values * type->block_bytes; }

#endif
