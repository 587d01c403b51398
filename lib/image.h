/* SPDX-License-Identifier: MIT */
/* image.h - a decoded picture, and the tiles that a vision encoder sees of it. */
#ifndef SL_IMAGE_H
#define SL_IMAGE_H

#include "mem.h"
#include <spacellama/image.h>

struct sl_image {
    sl_mem mem;
    uint32_t width, height;     /* at least 1 */
    uint8_t *rgb;               /* [height][width][3], from sl_mem_pages */
};

/* An empty picture of that size, its pixels not set: what is beyond the limits is SL_ERR_LIMIT, before memory is taken. */
sl_status sl_image_create(sl_image **out, const sl_mem *mem, uint32_t width, uint32_t height);

enum { SL_TILING_TILES = 64 };      /* max_tiles may be this much */

/* How a picture is cut. Tiles are counted row by row. */
typedef struct sl_tiling {
    int32_t tiles_high, tiles_wide;
    int32_t id;                 /* of the arrangement: 1 + its place among all of at most max_tiles tiles, by tiles_high, then by tiles_wide; 0 is no picture */
    int32_t width, height;      /* of the resized picture, which lies at the top left of the tiles; the rest is black */
} sl_tiling;

/* For tiles of side x side pixels. SL_ERR_ARGUMENT if a number is 0 or over its limit. */
sl_status sl_tiling_choose(sl_tiling *out, uint32_t width, uint32_t height, uint32_t side, uint32_t max_tiles);

/* Resizes, pads, normalises ((p / 255 - mean) / deviation) and cuts. out: F32 [side (column), side (row), 3 (R, G, B), tiles_high * tiles_wide].
 * Memory comes from image->mem: tiling->width x image->height x 3 bytes, and a few rows. The floating-point state is the caller's affair. Any thread. */
sl_status sl_image_tiles(const sl_image *image, const sl_tiling *tiling, uint32_t side, const float mean[3], const float deviation[3], float *out);

/* The picture in the middle of a square of that colour, resized (bicubic) to side x side pixels, normalised as above. out: F32 [side (column), side (row), 3 (R, G, B)].
 * Memory: the picture's height x side x 3 bytes, and a few rows; the square is not stored. */
sl_status sl_image_square(const sl_image *image, uint32_t side, const uint8_t colour[3], const float mean[3], const float deviation[3], float *out);

#endif
