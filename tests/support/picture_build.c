/* SPDX-License-Identifier: MIT */
/* picture_build.c - see picture_build.h. */
#include "picture_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if SL_WITH_IMAGE_JPEG
#include <jpeglib.h>
#endif
#if SL_WITH_IMAGE_WEBP
#include <webp/encode.h>
#endif

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "picture_build: %s\n", what);
        exit(1);
    }
}

/* ---- bytes ---- */

void picture_free(picture *p)
{
    free(p->data);
    *p = (picture) { 0 };
}

void picture_put(picture *p, const void *bytes, size_t n)
{
    if (p->room - p->size < n) {
        p->room = 2 * p->room + n + 256;
        p->data = realloc(p->data, p->room);
        require(p->data != NULL, "no memory");
    }
    if (n)
        memcpy(p->data + p->size, bytes, n);
    p->size += n;
}

void picture_put_le(picture *p, uint32_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++, value >>= 8)
        picture_put(p, &(uint8_t) { (uint8_t)value }, 1);
}

void picture_put_be(picture *p, uint32_t value, int n_bytes)
{
    for (int i = n_bytes - 1; i >= 0; i--)
        picture_put(p, &(uint8_t) { (uint8_t)(value >> (8 * i)) }, 1);
}

void picture_insert(picture *p, size_t at, const void *bytes, size_t n)
{
    picture tail = { 0 };
    picture_put(&tail, p->data + at, p->size - at);
    p->size = at;
    picture_put(p, bytes, n);
    picture_put(p, tail.data, tail.size);
    picture_free(&tail);
}

uint8_t *picture_pixels(uint32_t width, uint32_t height)
{
    uint8_t *rgb = malloc(3 * (size_t)width * height), *p = rgb;
    require(rgb != NULL, "no memory");
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++, p += 3) {
            p[0] = (uint8_t)(x * 3 + y);
            p[1] = (uint8_t)(255 - x * 2 - y * 5);
            p[2] = (uint8_t)(x + y * 7 + 40);
        }
    return rgb;
}

void picture_exif(picture *p, uint32_t orientation, int big_endian)
{
    void (*put)(picture *, uint32_t, int) = big_endian ? picture_put_be : picture_put_le;
    picture_put(p, big_endian ? "MM" : "II", 2);
    put(p, 42, 2);
    put(p, 8, 4);               /* the directory: two entries of tag, type, count, value */
    put(p, 2, 2);
    put(p, 0x0100, 2), put(p, 4, 2), put(p, 1, 4), put(p, 640, 4);
    put(p, 0x0112, 2), put(p, 3, 2), put(p, 1, 4), put(p, orientation, 2), put(p, 0, 2);
    put(p, 0, 4);
}

/* ---- PNG ---- */

void picture_png_begin(picture *p) { picture_put(p, "\x89PNG\r\n\x1a\n", 8); }

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

void picture_png_chunk(picture *p, const char *name, const void *data, size_t n)
{
    picture_put_be(p, (uint32_t)n, 4);
    const size_t at = p->size;
    picture_put(p, name, 4);
    picture_put(p, data, n);
    picture_put_be(p, crc32(p->data + at, n + 4), 4);
}

void picture_png_header(picture *p, uint32_t width, uint32_t height, int bits, int type, int interlaced)
{
    picture h = { 0 };
    picture_put_be(&h, width, 4);
    picture_put_be(&h, height, 4);
    picture_put(&h, (uint8_t[]) { (uint8_t)bits, (uint8_t)type, 0, 0, (uint8_t)interlaced }, 5);
    picture_png_chunk(p, "IHDR", h.data, h.size);
    picture_free(&h);
}

void picture_png_zlib(picture *stream, const uint8_t *data, size_t n)
{
    uint32_t a = 1, b = 0;
    picture_put(stream, "\x78\x01", 2);
    for (size_t at = 0; at < n || !at; at += 65535) {
        const uint32_t block = n - at < 65535 ? (uint32_t)(n - at) : 65535;
        picture_put(stream, &(uint8_t) { at + block == n }, 1);
        picture_put_le(stream, block, 2);
        picture_put_le(stream, ~block, 2);
        picture_put(stream, data + at, block);
    }
    for (size_t i = 0; i < n; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    picture_put_be(stream, b << 16 | a, 4);
}

/* One pass: the pixels from (x0, y0) on, every dx-th and dy-th. */
static void put_pass(picture *rows, const uint16_t *samples, uint32_t width, uint32_t height, int bits, int n_channels, const uint32_t pass[4])
{
    for (uint32_t y = pass[1]; y < height && pass[0] < width; y += pass[3]) {
        uint32_t bit = 0;
        picture_put(rows, "", 1);       /* no filter */
        for (uint32_t x = pass[0]; x < width; x += pass[2])
            for (int c = 0; c < n_channels; c++, bit += (uint32_t)bits) {
                const uint16_t value = samples[((size_t)y * width + x) * (size_t)n_channels + (size_t)c];
                if (bits >= 8) {
                    picture_put_be(rows, value, bits / 8);
                    continue;
                }
                if (bit % 8 == 0)
                    picture_put(rows, "", 1);
                rows->data[rows->size - 1] |= (uint8_t)(value << (8 - (uint32_t)bits - bit % 8));
            }
    }
}

void picture_png_rows(picture *rows, const uint16_t *samples, uint32_t width, uint32_t height, int bits, int n_channels, int interlaced)
{
    static const uint32_t whole[4] = { 0, 0, 1, 1 };
    static const uint32_t passes[7][4] = { { 0, 0, 8, 8 }, { 4, 0, 8, 8 }, { 0, 4, 4, 8 }, { 2, 0, 4, 4 }, { 0, 2, 2, 4 }, { 1, 0, 2, 2 }, { 0, 1, 1, 2 } };
    if (!interlaced)
        put_pass(rows, samples, width, height, bits, n_channels, whole);
    else
        for (int i = 0; i < 7; i++)
            put_pass(rows, samples, width, height, bits, n_channels, passes[i]);
}

int picture_png_channels(int type) { return type == PNG_RGB ? 3 : type == PNG_GREY_ALPHA ? 2 : type == PNG_RGB_ALPHA ? 4 : 1; }

void picture_png(picture *p, const png_recipe *r)
{
    picture rows = { 0 }, stream = { 0 }, exif = { 0 };
    picture_png_begin(p);
    picture_png_header(p, r->width, r->height, r->bits, r->type, r->interlaced);
    if (r->n_palette)
        picture_png_chunk(p, "PLTE", r->palette, 3 * r->n_palette);
    if (r->n_transparent)
        picture_png_chunk(p, "tRNS", r->transparent, r->n_transparent);
    if (r->orientation) {
        picture_exif(&exif, r->orientation, 1);
        picture_png_chunk(p, "eXIf", exif.data, exif.size);
    }
    picture_png_rows(&rows, r->samples, r->width, r->height, r->bits, picture_png_channels(r->type), r->interlaced);
    picture_png_zlib(&stream, rows.data, rows.size);
    const size_t half = stream.size / 2;        /* in two chunks */
    picture_png_chunk(p, "IDAT", stream.data, half);
    picture_png_chunk(p, "IDAT", stream.data + half, stream.size - half);
    picture_png_chunk(p, "IEND", NULL, 0);
    picture_free(&rows), picture_free(&stream), picture_free(&exif);
}

/* ---- PPM, BMP ---- */

void picture_ppm(picture *p, const uint8_t *rgb, uint32_t width, uint32_t height)
{
    char head[64];
    picture_put(p, head, (size_t)snprintf(head, sizeof head, "P6\n%u %u\n255\n", width, height));
    picture_put(p, rgb, 3 * (size_t)width * height);
}

void picture_bmp(picture *p, const uint8_t *rgb, uint32_t width, uint32_t height)
{
    const uint32_t pad = (4 - 3 * width % 4) % 4, bytes = (3 * width + pad) * height;
    picture_put(p, "BM", 2);
    picture_put_le(p, 54 + bytes, 4), picture_put_le(p, 0, 4), picture_put_le(p, 54, 4);
    picture_put_le(p, 40, 4), picture_put_le(p, width, 4), picture_put_le(p, height, 4), picture_put_le(p, 1, 2), picture_put_le(p, 24, 2);
    for (int i = 0; i < 6; i++)
        picture_put_le(p, 0, 4);
    for (uint32_t y = height; y-- > 0;) {
        const uint8_t *row = rgb + 3 * (size_t)width * y;
        for (uint32_t x = 0; x < width; x++)
            picture_put(p, (uint8_t[]) { row[3 * x + 2], row[3 * x + 1], row[3 * x] }, 3);
        picture_put_le(p, 0, (int)pad);
    }
}

/* ---- JPEG ---- */

void picture_jpeg(picture *p, const uint8_t *pixels, uint32_t width, uint32_t height, int quality, int flags)
{
#if SL_WITH_IMAGE_JPEG
    static const jpeg_scan_info scans[3] = { { 1, { 0 }, 0, 63, 0, 0 }, { 1, { 1 }, 0, 63, 0, 0 }, { 1, { 2 }, 0, 63, 0, 0 } };
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&errors);         /* prints and exits: fine for a test */
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &size);
    jpeg.image_width = width, jpeg.image_height = height;
    jpeg.input_components = flags & JPEG_GREY ? 1 : flags & JPEG_CMYK ? 4 : 3;
    jpeg.in_color_space = flags & JPEG_GREY ? JCS_GRAYSCALE : flags & JPEG_CMYK ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, quality, TRUE);
    if (flags & JPEG_PROGRESSIVE)
        jpeg_simple_progression(&jpeg);
    if (flags & JPEG_SCANS)
        jpeg.scan_info = scans, jpeg.num_scans = 3;
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)jpeg.next_scanline * width * (size_t)jpeg.input_components);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    picture_put(p, data, size);
    free(data);
#else
    (void)p, (void)pixels, (void)width, (void)height, (void)quality, (void)flags;
    require(0, "this build has no JPEG encoder");
#endif
}

/* ---- WebP ---- */

#if SL_WITH_IMAGE_WEBP
static void put_webp(picture *p, size_t size, uint8_t *data)
{
    require(size > 0, "WebP encoding failed");
    picture_put(p, data, size);
    WebPFree(data);
}

void picture_webp(picture *p, const uint8_t *pixels, uint32_t width, uint32_t height, int n_channels)
{
    uint8_t *data = NULL;
    const int stride = (int)width * n_channels;
    const size_t size = n_channels == 4 ? WebPEncodeLosslessRGBA(pixels, (int)width, (int)height, stride, &data)
                                        : WebPEncodeLosslessRGB(pixels, (int)width, (int)height, stride, &data);
    put_webp(p, size, data);
}

void picture_webp_lossy(picture *p, const uint8_t *rgb, uint32_t width, uint32_t height)
{
    uint8_t *data = NULL;
    const size_t size = WebPEncodeRGB(rgb, (int)width, (int)height, 3 * (int)width, 90, &data);
    put_webp(p, size, data);
}
#else
void picture_webp(picture *p, const uint8_t *pixels, uint32_t width, uint32_t height, int n_channels)
{
    (void)p, (void)pixels, (void)width, (void)height, (void)n_channels;
    require(0, "this build has no WebP encoder");
}

void picture_webp_lossy(picture *p, const uint8_t *rgb, uint32_t width, uint32_t height) { picture_webp(p, rgb, width, height, 3); }
#endif

void picture_webp_extend(picture *p, uint32_t width, uint32_t height, uint32_t orientation, uint32_t flags)
{
    picture simple = *p, exif = { 0 };
    *p = (picture) { 0 };
    picture_exif(&exif, orientation, 0);
    picture_put(p, "RIFF\0\0\0\0WEBPVP8X", 16);
    picture_put_le(p, 10, 4);
    picture_put_le(p, flags | 0x08, 4);
    picture_put_le(p, width - 1, 3), picture_put_le(p, height - 1, 3);
    picture_put(p, simple.data + 12, simple.size - 12);
    picture_put(p, "EXIF", 4);
    picture_put_le(p, (uint32_t)exif.size, 4);
    picture_put(p, exif.data, exif.size);
    for (size_t i = 0; i < 4; i++)
        p->data[4 + i] = (uint8_t)((p->size - 8) >> (8 * i));
    picture_free(&simple), picture_free(&exif);
}
