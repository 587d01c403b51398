/* SPDX-License-Identifier: MIT */
/* image.c - fuzz target: any bytes as a picture. What is read must keep its limits, come out the same twice, leave nothing behind, and be cut into tiles whole.
 *
 * The checksums of PNG chunks are made right first, or nothing that was changed would be read. Memory for one picture is bounded: a few bytes may honestly stand for millions of pixels, and a fuzzer would do nothing else. */
#include "counting.h"
#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BYTES = 24 << 20, SIDE = 28, MOST_TILES = 4 };

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

/* All that a damaged or hostile file may be told; lack of memory, because it is bounded here. */
static int is_fine(sl_status status)
{
    static const sl_status fine[] = { SL_ERR_NOMEM, SL_ERR_MAGIC, SL_ERR_UNSUPPORTED, SL_ERR_TRUNCATED, SL_ERR_SYNTAX, SL_ERR_LIMIT };
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        if (status == fine[i])
            return 1;
    return 0;
}

static void cut(const sl_image *image)
{
    static const float mean[3] = { 0, 0, 0 }, deviation[3] = { 1, 1, 1 };
    static float out[MOST_TILES * 3 * SIDE * SIDE];
    sl_tiling t;
    require(sl_tiling_choose(&t, image->width, image->height, SIDE, MOST_TILES) == SL_OK, "every picture has a tiling");
    require(t.tiles_high * t.tiles_wide <= MOST_TILES && t.id >= 1 && t.id <= 8, "a tiling keeps to its tiles");
    const size_t n = (size_t)t.tiles_high * (size_t)t.tiles_wide * 3 * SIDE * SIDE;
    for (size_t i = 0; i < n; i++)
        out[i] = -1;
    const sl_status status = sl_image_tiles(image, &t, SIDE, mean, deviation, out);
    require(status == SL_OK || status == SL_ERR_NOMEM, "every picture can be cut");
    for (size_t i = 0; i < n && status == SL_OK; i++)
        require(out[i] >= 0 && out[i] <= 1, "every pixel of every tile is written");
}

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3]; }

static uint32_t crc32(const uint8_t *data, size_t n)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* A copy, exactly as long, for free(). */
static uint8_t *mended(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    require(copy != NULL, "memory");
    if (size)
        memcpy(copy, data, size);
    if (size < 8 || memcmp(copy, "\x89PNG", 4))
        return copy;
    for (size_t at = 8; size - at >= 12 && be32(copy + at) <= size - at - 12;) {
        const size_t n = be32(copy + at);
        const uint32_t crc = crc32(copy + at + 4, n + 4);
        for (size_t i = 0; i < 4; i++)
            copy[at + 8 + n + i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + n;
    }
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *data = mended(bytes, size);
    counting c = { .most_bytes = MOST_BYTES };
    const sl_allocator allocator = counting_allocator(&c);
    sl_image *image, *again;
    const sl_status status = sl_image_decode(&image, data, size, &allocator);
    require(status == SL_OK || is_fine(status), "a known verdict");
    require(!image == (status != SL_OK), "a picture or a reason");
    if (image) {
        const uint32_t width = sl_image_width(image), height = sl_image_height(image);
        require(width && height && width <= SL_LIMIT_IMAGE_SIDE && height <= SL_LIMIT_IMAGE_SIDE && (uint64_t)width * height <= SL_LIMIT_IMAGE_PIXELS, "limits");
        cut(image);
        const sl_status second = sl_image_decode(&again, data, size, &allocator);
        require(second == SL_OK || second == SL_ERR_NOMEM, "the same verdict twice");
        require(!again || (sl_image_width(again) == width && sl_image_height(again) == height && !memcmp(sl_image_pixels(image), sl_image_pixels(again), 3 * (size_t)width * height)), "the same pixels twice");
        sl_image_free(again);
        sl_image_free(image);
    }
    require(!c.live_blocks && !c.wrong, "nothing is left");
    free(data);
    return 0;
}
