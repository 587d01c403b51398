/* SPDX-License-Identifier: MIT */
/* picture_build.h - encoded pictures for tests. PNG, BMP, PPM and all containers are written by hand, right or wrong; JPEG and WebP data come from the encoders of the
 * codecs' libraries, where the build has them. Memory is the C library's: pictures are freed by picture_free. A failure ends the program. */
#ifndef SL_TESTS_PICTURE_BUILD_H
#define SL_TESTS_PICTURE_BUILD_H

#include <stddef.h>
#include <stdint.h>

#ifndef SL_WITH_IMAGE_JPEG
#define SL_WITH_IMAGE_JPEG 1
#endif
#ifndef SL_WITH_IMAGE_PNG
#define SL_WITH_IMAGE_PNG 1
#endif
#ifndef SL_WITH_IMAGE_WEBP
#define SL_WITH_IMAGE_WEBP 1
#endif

/* Growing bytes. */
typedef struct picture {
    uint8_t *data;
    size_t size, room;
} picture;

void picture_free(picture *p);
void picture_put(picture *p, const void *bytes, size_t n);
void picture_put_le(picture *p, uint32_t value, int n_bytes);
void picture_put_be(picture *p, uint32_t value, int n_bytes);
/* Puts `bytes` in at `at`. */
void picture_insert(picture *p, size_t at, const void *bytes, size_t n);

/* Something to look at: smooth across, different in each channel and row. [height][width][3] for free(). */
uint8_t *picture_pixels(uint32_t width, uint32_t height);

/* An EXIF block that notes the orientation: a TIFF file of one entry, behind another one. */
void picture_exif(picture *p, uint32_t orientation, int big_endian);

/* ---- PNG ---- */

enum { PNG_GREY = 0, PNG_RGB = 2, PNG_PALETTE = 3, PNG_GREY_ALPHA = 4, PNG_RGB_ALPHA = 6 };

/* What the parts of a file are made of. */
void picture_png_begin(picture *p);                                             /* the signature */
void picture_png_chunk(picture *p, const char *name, const void *data, size_t n);
void picture_png_header(picture *p, uint32_t width, uint32_t height, int bits, int type, int interlaced);
/* The zlib stream of `n` bytes, stored as they are. */
void picture_png_zlib(picture *stream, const uint8_t *data, size_t n);
/* Rows as PNG packs them, each with its filter byte 0, from one sample per uint16_t, [height][width][n_channels]; interlaced: seven passes. */
void picture_png_rows(picture *rows, const uint16_t *samples, uint32_t width, uint32_t height, int bits, int n_channels, int interlaced);

typedef struct png_recipe {
    uint32_t width, height;
    int bits, type, interlaced;
    const uint16_t *samples;
    const uint8_t *palette;         /* [n_palette][3] */
    size_t n_palette;
    const uint8_t *transparent;     /* content of tRNS */
    size_t n_transparent;
    uint32_t orientation;           /* 0: no eXIf */
} png_recipe;
void picture_png(picture *p, const png_recipe *r);
int picture_png_channels(int type);

/* ---- the others ---- */

void picture_ppm(picture *p, const uint8_t *rgb, uint32_t width, uint32_t height);
void picture_bmp(picture *p, const uint8_t *rgb, uint32_t width, uint32_t height);     /* 24 bits, bottom up */

enum { JPEG_GREY = 1, JPEG_CMYK = 2, JPEG_PROGRESSIVE = 4, JPEG_SCANS = 8 };            /* flags; JPEG_SCANS: one for each component */
/* Pixels: R, G, B; or 1 or 4 bytes each, as the flags say. */
void picture_jpeg(picture *p, const uint8_t *pixels, uint32_t width, uint32_t height, int quality, int flags);
/* Lossless; n_channels 3 or 4. */
void picture_webp(picture *p, const uint8_t *pixels, uint32_t width, uint32_t height, int n_channels);
void picture_webp_lossy(picture *p, const uint8_t *rgb, uint32_t width, uint32_t height);
/* A picture of picture_webp in the extended container, with an EXIF block; flags of VP8X besides EXIF. */
void picture_webp_extend(picture *p, uint32_t width, uint32_t height, uint32_t orientation, uint32_t flags);

#endif
