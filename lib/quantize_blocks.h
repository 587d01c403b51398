/* SPDX-License-Identifier: MIT */
/* quantize_blocks.h - from numbers to blocks of a tensor type: the table of encoders. How scales are found: quantize_search.h. */
#ifndef SL_QUANTIZE_BLOCKS_H
#define SL_QUANTIZE_BLOCKS_H

#include "blocks.h"
#include "type.h"

/* What every encoder but that of F32 and BF16 takes: finite halves. */
#define SL_QUANTIZE_MAX 65504.0f

/* n numbers, whole blocks, none above SL_QUANTIZE_MAX in magnitude. weights: what an error of each counts, n positive numbers, or NULL: all alike. */
typedef void sl_encode_blocks(const float *x, const float *weights, int64_t n, void *blocks);

/* The encoder of a type; NULL: nothing is quantized into it (or it was left out of this build). */
sl_encode_blocks *sl_encoder_get(sl_type type);

/* Rows of the table of quantize_32.c and quantize_256.c. */
sl_encode_blocks sl_encode_q4_0, sl_encode_q4_1, sl_encode_q5_0, sl_encode_q5_1, sl_encode_q8_0, sl_encode_iq4_nl;
sl_encode_blocks sl_encode_q2_k, sl_encode_q3_k, sl_encode_q4_k, sl_encode_q5_k, sl_encode_q6_k, sl_encode_iq4_xs;

static inline void sl_store16(uint8_t *to, uint16_t n) { to[0] = (uint8_t)n, to[1] = (uint8_t)(n >> 8); }
static inline void sl_store_half(uint8_t *to, float x) { sl_store16(to, sl_float_to_half(x)); }
/* The half next to x. */
static inline float sl_half_next(float x) { return sl_half_to_float(sl_float_to_half(x)); }
/* The number of a level of IQ4_NL. */
static inline uint8_t sl_iq4_code(int level)
{
    uint8_t code = 0;
    while (code < 15 && sl_grid_iq4nl[code] != level)
        code++;
    return code;
}

#endif
