/* SPDX-License-Identifier: MIT */
/* weights.h - for tests of kernels: valid blocks of any type, activations, the product as blocks.h defines it, and the kernels of this machine. */
#ifndef SL_TESTS_WEIGHTS_H
#define SL_TESTS_WEIGHTS_H

#include "kernels.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All rows of the backend's lists whose level this machine has (amx perhaps with tiles in software: tests/support/tiles.h); returns how many, at most `capacity`. */
static inline size_t rows_of_machine(const sl_impl **rows, size_t capacity)
{
    const cpu_list *lists;
    const size_t n_lists = cpu_lists(&lists);
    const uint32_t levels = cpu_permitted(cpu_features());
    size_t n = 0;
    for (size_t i = 0; i < n_lists; i++)
        for (size_t k = 0; lists[i].level & levels && k < *lists[i].n; k++)
            if (n < capacity)
                rows[n++] = &lists[i].impls[k];
    return n;
}

/* Fills a cache of any type, in plain C. */
static inline sl_status write_cache(cpu_device *device, const sl_op_args *args)
{
    const sl_impl *rows[1024];
    const size_t n = rows_of_machine(rows, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < n; i++)
        if (rows[i]->op == SL_OP_CACHE_WRITE && rows[i]->level == CPU_SCALAR && rows[i]->accepts(rows[i], device, args))
            return rows[i]->run(rows[i], device, args);
    return SL_ERR_UNSUPPORTED;
}

/* Says which levels those rows are of. */
static inline void print_levels(const sl_impl *const *rows, size_t n)
{
    const char *last = "";
    printf("levels:");
    for (size_t i = 0; i < n; i++) {
        const char *level = strrchr(rows[i]->label, '/') + 1;
        if (rows[i]->kernel && strcmp(level, last))
            printf(" %s;", last = level);
    }
    printf("\n");
}

/* The matrix types of this build. */
static const sl_type matrix_types[] = {
#define MATRIX_NONE(NAME)
#define MATRIX_F32(NAME) SL_TYPE_##NAME,
#define MATRIX_A32 MATRIX_F32
#define MATRIX_A256 MATRIX_F32
#define MATRIX(NAME, stem, id, values, bytes, form) MATRIX_##form(NAME)
    SL_TYPES(MATRIX)
};
enum { N_MATRIX_TYPES = sizeof matrix_types / sizeof *matrix_types };

/* The definition: acc plus one block times the activations beside it. */
static inline float dot_block(sl_type type, const void *block, const void *act, float acc)
{
    switch (type) {
#define DOT_NONE(NAME, stem)
#define DOT_F32(NAME, stem) case SL_TYPE_##NAME: return sl_dot_##stem(block, act, acc);
#define DOT_A32 DOT_F32
#define DOT_A256 DOT_F32
#define DOT(NAME, stem, id, values, bytes, form) DOT_##form(NAME, stem)
    SL_TYPES(DOT)
    default: abort();
    }
}

/* The same in bf16 arithmetic: n <= 32 weights of a row. */
static inline float dot_b16(sl_type type, const uint8_t *row, int n, const void *act, float acc)
{
    uint16_t w[32];
    for (int i = 0; i < n; i++)
        switch (type) {
#define B16_NONE(NAME, stem, bytes)
#define B16_F32(NAME, stem, bytes) case SL_TYPE_##NAME: w[i] = sl_b16_##stem(row + (size_t)i * (bytes)); break;
#define B16_A32 B16_NONE
#define B16_A256 B16_NONE
#define B16(NAME, stem, id, values, bytes, form) B16_##form(NAME, stem, bytes)
        SL_TYPES(B16)
        default: abort();
        }
    return sl_dot_b16(w, ((const sl_block_b16 *)act)->v, n, acc);
}

/* What stands beside the weights of a product's kernel, and its bytes for a row of n. */
static inline sl_act_form form_of(const sl_impl *row) { return ((const cpu_matmul_kernel *)row->kernel)->form; }
static inline size_t act_bytes_of(const sl_impl *row, int64_t n) { return sl_act_row_bytes(sl_act_get(form_of(row)), (size_t)n); }

/* One whole output: the chain over a row of the file. */
static inline float dot_row(sl_type type, sl_act_form form, int64_t n_in, const uint8_t *row, const uint8_t *act, float acc)
{
    const sl_type_info *info = sl_type_get((uint32_t)type);
    const int64_t values = form == SL_ACT_B16 ? 32 : info->block_values;
    for (int64_t k = 0; k < n_in; k += values) {
        const uint8_t *w = row + sl_type_row_bytes(info, (size_t)k), *x = act + sl_act_row_bytes(sl_act_get(form), (size_t)k);
        acc = form == SL_ACT_B16 ? dot_b16(type, w, n_in - k < 32 ? (int)(n_in - k) : 32, x, acc) : dot_block(type, w, x, acc);
    }
    return acc;
}

/* A float of any magnitude from 2^-20 to 2^10, sometimes zero, sometimes subnormal. */
static inline float random_number(uint64_t *seed)
{
    const uint64_t kind = random_below(seed, 16);
    if (kind == 0)
        return 0.0f;
    if (kind == 1)
        return random_float(seed) * 0x1p-130f;
    return random_float(seed) * sl_float((uint32_t)(127 - 20 + random_below(seed, 31)) << 23);
}

/* Random valid blocks. */
static inline void random_blocks(uint64_t *seed, sl_type type, size_t n, uint8_t *to)
{
    const sl_type_info *info = sl_type_get((uint32_t)type);
    for (size_t b = 0; b < n; b++, to += info->block_bytes)
        do {
            const float number = random_number(seed);
            const uint16_t half = sl_float_to_half(number), bf = sl_float_to_bf16(number);
            for (size_t i = 0; i < info->block_bytes; i++)
                to[i] = (uint8_t)random_next(seed);
            if (type == SL_TYPE_F32)
                memcpy(to, &number, 4);
            else if (type == SL_TYPE_F16)
                memcpy(to, &half, 2);
            else if (type == SL_TYPE_BF16)
                memcpy(to, &bf, 2);
            else if (type == SL_TYPE_MXFP4)
                to[0] = (uint8_t)(100 + to[0] % 40);    /* powers of two whose products stay finite */
        } while (info->check(to, 1) >= 0);
}

/* n_in random activations in a form. */
static inline void random_act(uint64_t *seed, sl_act_form form, int64_t n_in, uint8_t *to)
{
    const sl_act_info *info = sl_act_get(form);
    union { float f32; sl_block_a32 a32; sl_block_a256 a256; sl_block_b16 b16; } block;
    float x[256];
    for (int64_t k = 0; k < n_in; k += info->block_values) {
        const float scale = random_number(seed);
        for (int64_t i = 0; i < info->block_values; i++)
            x[i] = random_float(seed) * scale;
        block.f32 = x[0];
        if (form == SL_ACT_A32)
            sl_quantize_a32(x, &block.a32);
        else if (form == SL_ACT_A256)
            sl_quantize_a256(x, &block.a256);
        else if (form == SL_ACT_B16)
            sl_quantize_b16(x, n_in - k < 32 ? (int)(n_in - k) : 32, &block.b16);
        memcpy(to + sl_act_row_bytes(info, (size_t)k), &block, info->block_bytes);
    }
}

/* The same bits; of NaN it is only promised that it is one. */
static inline int same(float a, float b) { return sl_bits(a) == sl_bits(b) || (a != a && b != b); }

#endif
