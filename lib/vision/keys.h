/* SPDX-License-Identifier: MIT */
/* vision/keys.h - the numbers of an image encoder, read from "<prefix>.vision.*" and checked. */
#ifndef SL_VISION_KEYS_H
#define SL_VISION_KEYS_H

#include "arch.h"

/* Where a whole number goes, and which are legal: 1 to `most`. fallback 0: the key is needed. */
typedef struct sl_vision_row {
    const char *suffix;
    size_t offset;                  /* in sl_vision */
    uint32_t most, fallback;
} sl_vision_row;

sl_status sl_vision_numbers(sl_vision *vision, const sl_gguf *gguf, const char *prefix, const sl_vision_row *rows, size_t n_rows);
/* A real number within [least, most]; *value stays if the key is not there. */
sl_status sl_vision_real(const sl_gguf *gguf, const char *prefix, const char *suffix, float least, float most, float *value);
/* image_mean and image_std, where they are there. */
sl_status sl_vision_colours(sl_vision *vision, const sl_gguf *gguf, const char *prefix);

#endif
