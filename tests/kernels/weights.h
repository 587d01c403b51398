/* SPDX-License-Identifier: MIT */
/* weights.h - for tests of kernels: valid blocks of any type, activations, the product as blocks.h defines it, and the kernels of this machine. */
#ifndef SL_TESTS_WEIGHTS_H
#define SL_TESTS_WEIGHTS_H

#include "kernels.h"
#include "random.h"

#include <stdlib.h>
#include <string.h>

/* All rows of the backend's lists whose level this machine has; returns how many, at most `capacity`. */
static inline size_t rows_of_machine(const sl_impl **rows, size_t capacity)
{
    const cpu_list *lists;
    const size_t n_lists = cpu_lists(&lists);
    size_t n = 0;
    for (size_t i = 0; i < n_lists; i++)
        for (size_t k = 0; k < *lists[i].n && lists[i].level & cpu_features(); k++)
            if (n < capacity)
                rows[n++] = &lists[i].impls[k];
    return n;
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

static inline size_t act_block_bytes(sl_type type)
{
    const sl_type_info *info = sl_type_get((uint32_t)type);
    return info->form == SL_ACT_F32 ? sizeof(float) * info->block_values
         : info->form == SL_ACT_A32 ? sizeof(sl_block_a32) * (info->block_values / 32u) : sizeof(sl_block_a256) * (info->block_values / 256u);
}

/* One whole output: the chain over a row of the file. */
static inline float dot_row(sl_type type, int64_t n_in, const uint8_t *row, const uint8_t *act, float acc)
{
    const sl_type_info *info = sl_type_get((uint32_t)type);
    for (int64_t b = 0; b < n_in / info->block_values; b++)
        acc = dot_block(type, row + (size_t)b * info->block_bytes, act + (size_t)b * act_block_bytes(type), acc);
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

/* Random activations in the form of `type`, n_in elements. */
static inline void random_act(uint64_t *seed, sl_type type, int64_t n_in, uint8_t *to)
{
    const sl_act_form form = sl_type_get((uint32_t)type)->form;
    float x[256];
    const int64_t step = form == SL_ACT_F32 ? 1 : form == SL_ACT_A32 ? 32 : 256;
    for (int64_t k = 0; k < n_in; k += step) {
        const float scale = random_number(seed);
        for (int64_t i = 0; i < step; i++)
            x[i] = random_float(seed) * scale;
        if (form == SL_ACT_F32)
            memcpy(to + (size_t)k * 4, x, 4);
        else if (form == SL_ACT_A32) {
            sl_block_a32 a;
            sl_quantize_a32(x, &a);
            memcpy(to + (size_t)k / 32 * sizeof a, &a, sizeof a);
        } else {
            sl_block_a256 a;
            sl_quantize_a256(x, &a);
            memcpy(to + (size_t)k / 256 * sizeof a, &a, sizeof a);
        }
    }
}

/* The same bits; of NaN it is only promised that it is one. */
static inline int same(float a, float b) { return sl_bits(a) == sl_bits(b) || (a != a && b != b); }

#endif
