/* SPDX-License-Identifier: MIT */
/** @file image.h
 *  Pictures: decoded once into 8-bit RGB, then given to sessions (sl_session_add_image()).
 *
 *  Formats, known by content and never by name: JPEG, PNG, WebP (each if the library was built with its codec), BMP, PPM (P6). The orientation that a
 *  camera noted (EXIF) is applied; what is transparent is laid over white; grey is made RGB; 16 bits become 8. CMYK, animation and
 *  arithmetic JPEG are refused. A picture is immutable; any number of threads may use it at once. While JPEG and WebP are decoded, their codecs take
 *  working memory from the C library: at most 64 MiB and a few bytes for each pixel. libwebp (seen in 1.2.4) does not survive that malloc() gives none: where it may,
 *  build without WebP. All else comes from the allocator. */
#ifndef SPACELLAMA_IMAGE_H
#define SPACELLAMA_IMAGE_H

#include "host.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @name Limits on pictures
 *  What exceeds one is refused with SL_ERR_LIMIT before memory is taken for it. @{ */
#define SL_LIMIT_IMAGE_SIDE 32768               /**< pixels along one side */
#define SL_LIMIT_IMAGE_PIXELS 67108864          /**< pixels in all (64 Mi) */
#define SL_LIMIT_IMAGE_BYTES 268435456          /**< bytes of an encoded picture */
#define SL_LIMIT_IMAGES 256                     /**< pictures of a session */
/** @} */

/** A decoded picture. Opaque. */
typedef struct sl_image sl_image;

/** Decodes the picture in the file at `path` (UTF-8). On failure *out is NULL. `allocator` may be NULL: the C library; it is copied, and
 *  used for the life of the picture. SL_ERR_MAGIC: no known format; SL_ERR_UNSUPPORTED: a format or feature that this build does not read;
 *  SL_ERR_TRUNCATED, SL_ERR_SYNTAX: a damaged file; SL_ERR_LIMIT. Any thread. Since 0.1. */
SL_API sl_status sl_image_load(sl_image **out, const char *path, const sl_allocator *allocator);
/** The same from the `length` bytes of an encoded picture in memory, needed during the call only. Since 0.1. */
SL_API sl_status sl_image_decode(sl_image **out, const void *data, size_t length, const sl_allocator *allocator);
/** Copies raw pixels: rows from the top, in each R, G, B of every pixel, 8 bits each; `stride` bytes from one row to the next
 *  (0: 3 * width; else at least that). Since 0.1. */
SL_API sl_status sl_image_from_rgb(sl_image **out, const uint8_t *rgb, uint32_t width, uint32_t height, size_t stride, const sl_allocator *allocator);
/** Frees. NULL is fine. Since 0.1. */
SL_API void sl_image_free(sl_image *image);

/** Width in pixels; 0 for NULL. Since 0.1. */
SL_API uint32_t sl_image_width(const sl_image *image);
/** Height in pixels; 0 for NULL. Since 0.1. */
SL_API uint32_t sl_image_height(const sl_image *image);
/** The pixels: height rows of 3 * width bytes, R, G, B; they live as long as the picture. NULL for NULL. Since 0.1. */
SL_API const uint8_t *sl_image_pixels(const sl_image *image);
/** Name of the index-th format that this build reads: "jpeg", "png", "webp", "bmp", "ppm"; NULL past the end. Since 0.1. */
SL_API const char *sl_image_format(size_t index);

#ifdef __cplusplus
}
#endif
#endif
