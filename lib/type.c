/* SPDX-License-Identifier: MIT */
/* type.c - the table of tensor types: sizes, names, decode and check over runs of blocks. How a block is read: blocks.h. */
#include "type.h"
#include "blocks.h"

#define ROW_FUNCTIONS(NAME, stem, id, values, bytes, form)                                                              \
    SL_STATIC_ASSERT(sizeof(sl_block_##stem) == bytes && SL_TYPE_##NAME == id, #NAME);                                  \
    static void decode_##stem(const void *blocks, int64_t n_blocks, float *dst)                                         \
    {                                                                                                                   \
        const sl_block_##stem *b = (const sl_block_##stem *)blocks;                                                     \
        for (int64_t i = 0; i < n_blocks; i++)                                                                          \
            sl_decode_##stem(b + i, dst + i * (values));                                                                \
    }                                                                                                                   \
    static int64_t check_##stem(const void *blocks, int64_t n_blocks)                                                   \
    {                                                                                                                   \
        const sl_block_##stem *b = (const sl_block_##stem *)blocks;                                                     \
        for (int64_t i = 0; i < n_blocks; i++)                                                                          \
            if (sl_check_##stem(b + i))                                                                                 \
                return i;                                                                                               \
        return -1;                                                                                                      \
    }
SL_TYPES(ROW_FUNCTIONS)

#define ROW_INFO(NAME, stem, id, values, bytes, form) \
    [id] = { #NAME, #stem, values, bytes, SL_ACT_##form, decode_##stem, check_##stem },
static const sl_type_info types[SL_TYPE_COUNT] = { SL_TYPES(ROW_INFO) };

/* Names do not depend on what was left out: a message about such a type names it. */
#undef SL_ROW
#define SL_ROW(name, ...) __VA_ARGS__
#define ROW_NAME(NAME, stem, id, values, bytes, form) [id] = #NAME,
static const char *const names[SL_TYPE_COUNT] = { SL_TYPES(ROW_NAME) };

/* Q4_2, Q4_3, and the interleaved Q4_0_4_4, Q4_0_4_8, Q4_0_8_8, IQ4_NL_4_4, IQ4_NL_4_8, IQ4_NL_8_8. */
static const uint8_t removed[] = { 4, 5, 31, 32, 33, 36, 37, 38 };

/* ---- forms of activations ---- */

#define ACT_SIZE(NAME, stem, values, bytes) SL_STATIC_ASSERT(sizeof(act_##stem) == bytes, #NAME);
typedef float act_f32;
typedef sl_block_a32 act_a32;
typedef sl_block_a256 act_a256;
typedef sl_block_b16 act_b16;
SL_ACT_FORMS(ACT_SIZE)

#define ACT_INFO(NAME, stem, values, bytes) [SL_ACT_##NAME] = { values, bytes },
static const sl_act_info acts[SL_ACT_COUNT] = { SL_ACT_FORMS(ACT_INFO) };

const sl_act_info *sl_act_get(sl_act_form form) { return &acts[form]; }

const sl_type_info *sl_type_get(uint32_t id)
{
    return id < SL_TYPE_COUNT && types[id].name ? &types[id] : NULL;
}

int sl_type_known(uint32_t id)
{
    return id < SL_TYPE_COUNT && names[id];
}

int sl_type_removed(uint32_t id)
{
    for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++)
        if (removed[i] == id)
            return 1;
    return 0;
}

const char *sl_type_name(uint32_t id)
{
    return sl_type_known(id) ? names[id] : "unknown";
}
