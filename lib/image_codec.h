/* SPDX-License-Identifier: MIT */
/* image_codec.h - what image.c knows of a picture format, and what formats share.
 *
 * A decoder is called when the first bytes are those of its format. It reads the size, checks it, makes *out with sl_image_create and fills every pixel. On failure image.c
 * frees what stands in *out. It never prints, exits or aborts; if its library reports errors by longjmp, that stays inside its file. Damaged data are an error, also where
 * the library would go on with grey pixels. */
#ifndef SL_IMAGE_CODEC_H
#define SL_IMAGE_CODEC_H

#include "image.h"

typedef struct sl_encoded {
    const sl_mem *mem;
    const uint8_t *data;
    size_t length;          /* 1 .. SL_LIMIT_IMAGE_BYTES */
} sl_encoded;

/* *orientation: 1 .. 8 as EXIF numbers it, 1 on entry. */
typedef sl_status sl_image_decoder(sl_image **out, const sl_encoded *in, uint32_t *orientation);

sl_image_decoder sl_jpeg_decode, sl_png_decode, sl_webp_decode, sl_bmp_decode, sl_ppm_decode;

/* Limits of image.h, held against a header before memory is taken; sl_image_create asks too. */
sl_status sl_image_check(uint32_t width, uint32_t height);

/* The orientation that the EXIF block at `data` notes; 1 if there is none, or the block is damaged. */
uint32_t sl_exif_orientation(const uint8_t *data, size_t length);

/* Lays n pixels R, G, B, A over white. `rgb` and `rgba` do not overlap. */
void sl_rgba_over_white(uint8_t *rgb, const uint8_t *rgba, size_t n);

static inline uint32_t sl_get_le16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static inline uint32_t sl_get_be16(const uint8_t *p) { return (uint32_t)p[0] << 8 | (uint32_t)p[1]; }
static inline uint32_t sl_get_le32(const uint8_t *p) { return sl_get_le16(p) | sl_get_le16(p + 2) << 16; }
static inline uint32_t sl_get_be32(const uint8_t *p) { return sl_get_be16(p) << 16 | sl_get_be16(p + 2); }

#endif
