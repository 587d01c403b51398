/* SPDX-License-Identifier: MIT */
/* image.c - pictures decoded: every format and its variants, orientation, transparency, limits, arguments, memory that fails. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "counting.h"
#include "image.h"
#include "picture_build.h"
#include "random.h"

/* What is seen of a stored pixel. */
typedef struct colour {
    uint32_t r, g, b, a;        /* 0 .. 255 */
} colour;

static uint8_t over_white(uint32_t value, uint32_t alpha) { return (uint8_t)((value * alpha + 255 * (255 - alpha) + 127) / 255); }

static sl_image *decoded(const picture *p, const char *what)
{
    sl_image *image = NULL;
    const sl_status status = sl_image_decode(&image, p->data, p->size, NULL);
    if (status != SL_OK)
        fail_msg("%s: %s (%s)", what, sl_status_name(status), sl_last_error());
    assert_non_null(image);
    return image;
}

/* Decodes, compares with `rgb`, and frees. No byte may differ by more than `most`. */
static void compare(const char *what, picture *p, const uint8_t *rgb, uint32_t width, uint32_t height, int most)
{
    sl_image *image = decoded(p, what);
    assert_int_equal(sl_image_width(image), width);
    assert_int_equal(sl_image_height(image), height);
    const uint8_t *got = sl_image_pixels(image);
    for (size_t i = 0; i < 3 * (size_t)width * height; i++)
        if (abs(got[i] - rgb[i]) > most)
            fail_msg("%s: pixel %zu of %u x %u, channel %zu is %d, not %d", what, i / 3, width, height, i % 3, got[i], rgb[i]);
    sl_image_free(image);
    picture_free(p);
}

static void names_its_formats(void **state)
{
    (void)state;
    static const struct { const char *name; int built; } rows[] = { { "jpeg", SL_WITH_IMAGE_JPEG }, { "png", SL_WITH_IMAGE_PNG }, { "webp", SL_WITH_IMAGE_WEBP }, { "bmp", 1 }, { "ppm", 1 } };
    size_t n = 0;
    for (size_t i = 0; i < COUNT(rows); i++)
        if (rows[i].built)
            assert_string_equal(sl_image_format(n++), rows[i].name);
    assert_null(sl_image_format(n));
    assert_null(sl_image_format(SIZE_MAX));
}

/* ---- PNG ---- */

typedef struct png_case {
    const char *name;
    int type, bits;
    int transparent;        /* with tRNS */
} png_case;

static const png_case png_cases[] = {
    { "grey 1", PNG_GREY, 1, 0 }, { "grey 2", PNG_GREY, 2, 0 }, { "grey 4", PNG_GREY, 4, 0 }, { "grey 8", PNG_GREY, 8, 0 }, { "grey 16", PNG_GREY, 16, 0 },
    { "grey 1, one transparent", PNG_GREY, 1, 1 }, { "grey 8, one transparent", PNG_GREY, 8, 1 }, { "grey 16, one transparent", PNG_GREY, 16, 1 },
    { "rgb 8", PNG_RGB, 8, 0 }, { "rgb 16", PNG_RGB, 16, 0 }, { "rgb 8, one transparent", PNG_RGB, 8, 1 }, { "rgb 16, one transparent", PNG_RGB, 16, 1 },
    { "palette 1", PNG_PALETTE, 1, 0 }, { "palette 2", PNG_PALETTE, 2, 0 }, { "palette 4", PNG_PALETTE, 4, 0 }, { "palette 8", PNG_PALETTE, 8, 0 },
    { "palette 4, transparent", PNG_PALETTE, 4, 1 }, { "palette 8, transparent", PNG_PALETTE, 8, 1 },
    { "grey and alpha 8", PNG_GREY_ALPHA, 8, 0 }, { "grey and alpha 16", PNG_GREY_ALPHA, 16, 0 }, { "rgb and alpha 8", PNG_RGB_ALPHA, 8, 0 }, { "rgb and alpha 16", PNG_RGB_ALPHA, 16, 0 },
};

/* What a pixel of the stored samples `s` shows. */
static colour shown(const png_case *row, const uint16_t *s, const uint8_t *palette, const uint16_t *hidden)
{
    const uint32_t most = (1u << row->bits) - 1;
    const int n = picture_png_channels(row->type), grey = row->type == PNG_GREY || row->type == PNG_GREY_ALPHA;
    if (row->type == PNG_PALETTE)
        return (colour) { palette[3 * s[0]], palette[3 * s[0] + 1], palette[3 * s[0] + 2], row->transparent && s[0] < 3 ? 60 + s[0] * 50u : 255 };
    uint32_t v[4];
    for (int c = 0; c < n; c++)
        v[c] = (s[c] * 255u + most / 2) / most;
    const int is_hidden = row->transparent && !memcmp(s, hidden, (size_t)n * sizeof *s);
    const uint32_t alpha = is_hidden ? 0 : n == 2 ? v[1] : n == 4 ? v[3] : 255;
    return grey ? (colour) { v[0], v[0], v[0], alpha } : (colour) { v[0], v[1], v[2], alpha };
}

static void png_of(const png_case *row, uint32_t width, uint32_t height, int interlaced)
{
    const int n = picture_png_channels(row->type);
    const size_t n_pixels = (size_t)width * height;
    uint16_t *samples = calloc(n_pixels * (size_t)n, sizeof *samples);
    uint8_t palette[3 * 256], transparent[6] = { 60, 110, 160 }, *rgb = malloc(3 * n_pixels);
    uint64_t seed = 7;
    for (size_t i = 0; i < sizeof palette; i++)
        palette[i] = (uint8_t)random_next(&seed);
    for (size_t i = 0; i < n_pixels * (size_t)n; i++)
        samples[i] = (uint16_t)(random_next(&seed) & ((1u << row->bits) - 1));
    const uint16_t *hidden = samples;           /* the first pixel's colour */
    png_recipe recipe = { .width = width, .height = height, .bits = row->bits, .type = row->type, .interlaced = interlaced, .samples = samples };
    if (row->type == PNG_PALETTE)
        recipe.palette = palette, recipe.n_palette = 1u << row->bits;
    if (row->transparent) {
        recipe.transparent = transparent;
        recipe.n_transparent = row->type == PNG_PALETTE ? 3 : 2 * (size_t)n;
        if (row->type != PNG_PALETTE)
            for (int c = 0; c < n; c++)
                transparent[2 * c] = (uint8_t)(hidden[c] >> 8), transparent[2 * c + 1] = (uint8_t)hidden[c];
    }
    for (size_t i = 0; i < n_pixels; i++) {
        const colour c = shown(row, samples + i * (size_t)n, palette, hidden);
        rgb[3 * i] = over_white(c.r, c.a), rgb[3 * i + 1] = over_white(c.g, c.a), rgb[3 * i + 2] = over_white(c.b, c.a);
    }
    picture p = { 0 };
    picture_png(&p, &recipe);
    compare(row->name, &p, rgb, width, height, 0);
    free(samples), free(rgb);
}

static void reads_every_png(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_PNG)
        skip();
    static const uint32_t sizes[][2] = { { 1, 1 }, { 7, 1 }, { 1, 5 }, { 9, 10 }, { 33, 17 } };
    for (size_t i = 0; i < COUNT(png_cases); i++)
        for (size_t k = 0; k < COUNT(sizes); k++)
            for (int interlaced = 0; interlaced < 2; interlaced++)
                png_of(&png_cases[i], sizes[k][0], sizes[k][1], interlaced);
}

/* ---- WebP, JPEG ---- */

/* No edges, and no two corners alike: what lossy codecs keep. For at most 64 x 64 pixels. */
static uint8_t *smooth_pixels(uint32_t width, uint32_t height)
{
    uint8_t *rgb = picture_pixels(width, height), *p = rgb;
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++, p += 3)
            p[0] = (uint8_t)(30 + 3 * x), p[1] = (uint8_t)(220 - 3 * y), p[2] = (uint8_t)(60 + x + y);
    return rgb;
}

static void reads_webp(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_WEBP)
        skip();
    static const uint32_t sizes[][2] = { { 1, 1 }, { 3, 2 }, { 17, 40 } };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const uint32_t w = sizes[i][0], h = sizes[i][1];
        uint8_t *rgb = picture_pixels(w, h), *rgba = malloc(4 * (size_t)w * h);
        picture p = { 0 };
        picture_webp(&p, rgb, w, h, 3);
        compare("webp", &p, rgb, w, h, 0);
        picture_webp(&p, rgb, w, h, 3);
        picture_put(&p, "more than it says", 17);
        compare("webp with something behind it", &p, rgb, w, h, 0);
        uint8_t *smooth = smooth_pixels(w, h);
        picture_webp_lossy(&p, smooth, w, h);
        compare("webp, lossy", &p, smooth, w, h, 12);
        free(smooth);
        for (size_t k = 0; k < (size_t)w * h; k++) {
            memcpy(rgba + 4 * k, rgb + 3 * k, 3);
            rgba[4 * k + 3] = (uint8_t)(k * 37);
            for (size_t c = 0; c < 3; c++)
                rgb[3 * k + c] = over_white(rgb[3 * k + c], rgba[4 * k + 3]);
        }
        picture_webp(&p, rgba, w, h, 4);
        compare("webp with alpha", &p, rgb, w, h, 0);
        free(rgb), free(rgba);
    }
}

static void reads_jpeg(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_JPEG)
        skip();
    static const struct { const char *name; int flags; } rows[] = { { "baseline", 0 }, { "progressive", JPEG_PROGRESSIVE }, { "a scan for each component", JPEG_SCANS } };
    static const uint32_t sizes[][2] = { { 1, 1 }, { 8, 8 }, { 19, 33 }, { 64, 48 } };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t k = 0; k < COUNT(sizes); k++) {
            const uint32_t w = sizes[k][0], h = sizes[k][1];
            uint8_t *rgb = smooth_pixels(w, h);
            picture p = { 0 };
            picture_jpeg(&p, rgb, w, h, 97, rows[i].flags);
            compare(rows[i].name, &p, rgb, w, h, 6);
            for (size_t m = 0; m < (size_t)w * h; m++)
                rgb[m] = (uint8_t)(m % w * 2 + m / w);
            picture_jpeg(&p, rgb, w, h, 97, JPEG_GREY | (rows[i].flags & JPEG_PROGRESSIVE));
            uint8_t *grey = malloc(3 * (size_t)w * h);
            for (size_t m = 0; m < 3 * (size_t)w * h; m++)
                grey[m] = rgb[m / 3];
            compare("grey", &p, grey, w, h, 5);
            free(rgb), free(grey);
        }
}

/* ---- BMP, PPM, by hand ---- */

typedef struct bytes_case {
    const char *name, *hex;     /* white space between is nothing */
    uint32_t width, height;
    uint8_t rgb[24];
} bytes_case;

#define BMP_HEADER(bits, offset, width, height, compression, colours) \
    "424d 00000000 00000000" offset "28000000" width height "0100" bits compression "00000000 00000000 00000000" colours "00000000"
#define V4_HEADER(bits, offset, width, height, masks) \
    "424d 00000000 00000000" offset "6c000000" width height "0100" bits "03000000 00000000 00000000 00000000 00000000 00000000" masks \
    "00000000 000000000000000000000000000000000000000000000000000000000000000000000000 000000000000000000000000"

static const bytes_case bytes_cases[] = {
    { "bmp 24, bottom up", BMP_HEADER("1800", "36000000", "02000000", "02000000", "00000000", "00000000") "0102030405060000 0708090a0b0c0000", 2, 2,
      { 9, 8, 7, 12, 11, 10, 3, 2, 1, 6, 5, 4 } },
    { "bmp 24, from the top", BMP_HEADER("1800", "36000000", "02000000", "feffffff", "00000000", "00000000") "0102030405060000 0708090a0b0c0000", 2, 2,
      { 3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10 } },
    { "bmp 1", BMP_HEADER("0100", "3e000000", "03000000", "01000000", "00000000", "00000000") "0a141e00 28323c00 a0000000", 3, 1, { 60, 50, 40, 30, 20, 10, 60, 50, 40 } },
    { "bmp 4, three colours", BMP_HEADER("0400", "42000000", "03000000", "01000000", "00000000", "03000000") "01020300 04050600 07080900 20100000", 3, 1, { 9, 8, 7, 3, 2, 1, 6, 5, 4 } },
    { "bmp 8, two colours", BMP_HEADER("0800", "3e000000", "02000000", "01000000", "00000000", "02000000") "01020300 04050600 01000000", 2, 1, { 6, 5, 4, 3, 2, 1 } },
    { "bmp 16", BMP_HEADER("1000", "36000000", "02000000", "01000000", "00000000", "00000000") "007c1f00", 2, 1, { 255, 0, 0, 0, 0, 255 } },
    { "bmp 16 with masks 5 6 5", BMP_HEADER("1000", "42000000", "02000000", "01000000", "03000000", "00000000") "00f80000 e0070000 1f000000 e007 1084", 2, 1, { 0, 255, 0, 132, 130, 132 } },
    { "bmp 32, no alpha", BMP_HEADER("2000", "36000000", "01000000", "01000000", "00000000", "00000000") "01020300", 1, 1, { 3, 2, 1 } },
    { "bmp 32 with masks of another order", BMP_HEADER("2000", "42000000", "01000000", "01000000", "03000000", "00000000") "000000ff 0000ff00 00ff0000 00010203", 1, 1, { 3, 2, 1 } },
    { "bmp 32 with alpha", V4_HEADER("2000", "7a000000", "02000000", "01000000", "0000ff00 00ff0000 ff000000 000000ff") "64656600 646566ff", 2, 1, { 255, 255, 255, 102, 101, 100 } },
    { "bmp, ten bits", V4_HEADER("2000", "7a000000", "01000000", "01000000", "0000f03f 00fc0f00 ff030000 00000000") "ff030020", 1, 1, { 128, 0, 255 } },
    { "bmp, the oldest header", "424d 00000000 00000000 20000000 0c000000 0100 0100 0100 0100 010203 040506 80000000", 1, 1, { 6, 5, 4 } },
    { "bmp, pixels further on", BMP_HEADER("1800", "38000000", "01000000", "01000000", "00000000", "00000000") "ffff 01020300", 1, 1, { 3, 2, 1 } },
    { "ppm", "50360a 32 20 31 0a 323535 0a 010203 040506", 2, 1, { 1, 2, 3, 4, 5, 6 } },
    { "ppm with comments", "5036 23610a 0a 23620d0a 31 09 2363 0a 31 2364 0a 323535 20 0a0d20", 1, 1, { 10, 13, 32 } },
    { "ppm, largest sample 15", "5036 20 31 20 31 20 3135 0a 00070f", 1, 1, { 0, 119, 255 } },
    { "ppm, 16 bits", "5036 20 31 20 31 20 3635353335 0a 0000 8080 ffff", 1, 1, { 0, 128, 255 } },
    { "ppm, ten bits", "5036 20 31 20 31 20 31303233 0a 0000 0200 03ff", 1, 1, { 0, 128, 255 } },
};

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static picture from_hex(const char *hex)
{
    picture p = { 0 };
    for (int high = -1; *hex; hex++) {
        if (digit(*hex) < 0)
            continue;
        if (high >= 0)
            picture_put_le(&p, (uint32_t)(high * 16 + digit(*hex)), 1);
        high = high < 0 ? digit(*hex) : -1;
    }
    return p;
}

static void reads_what_is_done_by_hand(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bytes_cases); i++) {
        const bytes_case *row = &bytes_cases[i];
        picture p = from_hex(row->hex);
        compare(row->name, &p, row->rgb, row->width, row->height, 0);
    }
    static const uint32_t sizes[][2] = { { 1, 1 }, { 2, 3 }, { 3, 2 }, { 40, 31 } };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        picture p = { 0 };
        uint8_t *rgb = picture_pixels(sizes[i][0], sizes[i][1]);
        picture_bmp(&p, rgb, sizes[i][0], sizes[i][1]);
        compare("bmp", &p, rgb, sizes[i][0], sizes[i][1], 0);
        picture_ppm(&p, rgb, sizes[i][0], sizes[i][1]);
        compare("ppm", &p, rgb, sizes[i][0], sizes[i][1], 0);
        free(rgb);
    }
}

/* ---- orientation ---- */

/* The pixel of the upright picture at (x, y), from EXIF's own words: where row 0 and column 0 of the stored one are seen. */
static const uint8_t *upright(const uint8_t *rgb, uint32_t w, uint32_t h, uint32_t orientation, uint32_t x, uint32_t y)
{
    static const struct { const char *row0, *column0; } words[9] = {
        [1] = { "top", "left" }, [2] = { "top", "right" }, [3] = { "bottom", "right" }, [4] = { "bottom", "left" },
        [5] = { "left", "top" }, [6] = { "right", "top" }, [7] = { "right", "bottom" }, [8] = { "left", "bottom" },
    };
    const char *row0 = words[orientation].row0, *column0 = words[orientation].column0;
    const int turned = row0[0] == 'l' || row0[0] == 'r';
    const uint32_t along_row0 = turned ? x : y, along_column0 = turned ? y : x;         /* distance from the top or the left */
    const uint32_t row = row0[0] == 'b' || row0[0] == 'r' ? h - 1 - along_row0 : along_row0;
    const uint32_t column = column0[0] == 'b' || column0[0] == 'r' ? w - 1 - along_column0 : along_column0;
    return rgb + 3 * ((size_t)row * w + column);
}

static void turn(picture *p, const char *format, const uint8_t *rgb, uint32_t w, uint32_t h, uint32_t orientation, int big_endian)
{
    picture exif = { 0 };
    if (!strcmp(format, "jpeg")) {
        picture_jpeg(p, rgb, w, h, 100, 0);
        picture_put(&exif, "\xff\xe1\0\0Exif\0\0", 10);
        picture_exif(&exif, orientation, big_endian);
        exif.data[3] = (uint8_t)(exif.size - 2);
        picture_insert(p, 20, exif.data, exif.size);        /* behind SOI and APP0 */
    } else if (!strcmp(format, "webp")) {
        picture_webp(p, rgb, w, h, 3);
        picture_webp_extend(p, w, h, orientation, 0);
    } else {
        uint16_t *samples = malloc(3 * (size_t)w * h * sizeof *samples);
        for (size_t i = 0; i < 3 * (size_t)w * h; i++)
            samples[i] = rgb[i];
        picture_png(p, &(png_recipe) { .width = w, .height = h, .bits = 8, .type = PNG_RGB, .samples = samples, .orientation = orientation });
        free(samples);
    }
    picture_free(&exif);
}

static void turns_pictures_upright(void **state)
{
    (void)state;
    static const struct { const char *name; int built, most; } formats[] = { { "jpeg", SL_WITH_IMAGE_JPEG, 8 }, { "png", SL_WITH_IMAGE_PNG, 0 }, { "webp", SL_WITH_IMAGE_WEBP, 0 } };
    enum { W = 32, H = 16 };
    uint8_t *rgb = smooth_pixels(W, H), expected[3 * W * H];
    for (size_t f = 0; f < COUNT(formats); f++)
        for (uint32_t orientation = 0; orientation <= 9 && formats[f].built; orientation++)
            for (int big_endian = 0; big_endian < 2; big_endian++) {
                const uint32_t o = orientation >= 1 && orientation <= 8 ? orientation : 1, w = o > 4 ? H : W, h = o > 4 ? W : H;
                for (uint32_t y = 0; y < h; y++)
                    for (uint32_t x = 0; x < w; x++)
                        memcpy(expected + 3 * (y * w + x), upright(rgb, W, H, o, x, y), 3);
                picture p = { 0 };
                turn(&p, formats[f].name, rgb, W, H, orientation, big_endian);
                compare(formats[f].name, &p, expected, w, h, formats[f].most);
            }
    free(rgb);
}

/* ---- raw pixels, limits, arguments ---- */

static void copies_raw_pixels(void **state)
{
    (void)state;
    enum { W = 5, H = 4, STRIDE = 19 };
    uint8_t padded[STRIDE * H], plain[3 * W * H];
    for (size_t i = 0; i < sizeof padded; i++)
        padded[i] = (uint8_t)(i * 11);
    for (size_t y = 0; y < H; y++)
        memcpy(plain + y * 3 * W, padded + y * STRIDE, 3 * W);
    const struct { const uint8_t *rgb; size_t stride; } rows[] = { { plain, 0 }, { plain, 3 * W }, { padded, STRIDE } };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_image *image;
        assert_int_equal(sl_image_from_rgb(&image, rows[i].rgb, W, H, rows[i].stride, NULL), SL_OK);
        assert_int_equal(sl_image_width(image), W);
        assert_int_equal(sl_image_height(image), H);
        assert_memory_equal(sl_image_pixels(image), plain, sizeof plain);
        sl_image_free(image);
    }
}

#define REFUSES(call, status) refuses(call, status, &image, #call)
static void refuses(sl_status got, sl_status wanted, sl_image **image, const char *call)
{
    if (got != wanted)
        fail_msg("%s: %s (%s), expected %s", call, sl_status_name(got), sl_last_error(), sl_status_name(wanted));
    assert_null(*image);
    *image = (sl_image *)(uintptr_t)1;      /* has to become NULL each time */
}

static void refuses_wrong_arguments(void **state)
{
    (void)state;
    static const uint8_t pixels[12] = { 0 };
    sl_image *image = (sl_image *)(uintptr_t)1;
    counting c = { 0 };
    sl_allocator half = counting_allocator(&c), full = half;
    half.free = NULL;
    picture p = { 0 };
    picture_ppm(&p, pixels, 2, 2);
    assert_int_equal(sl_image_load(NULL, "x", NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_image_decode(NULL, pixels, 12, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_image_from_rgb(NULL, pixels, 2, 2, 0, NULL), SL_ERR_ARGUMENT);
    REFUSES(sl_image_load(&image, NULL, NULL), SL_ERR_ARGUMENT);
    REFUSES(sl_image_load(&image, "/nowhere/at.all", NULL), SL_ERR_IO);
    REFUSES(sl_image_load(&image, "/", NULL), SL_ERR_IO);
    REFUSES(sl_image_decode(&image, NULL, 0, NULL), SL_ERR_ARGUMENT);
    REFUSES(sl_image_decode(&image, NULL, 12, NULL), SL_ERR_ARGUMENT);
    REFUSES(sl_image_decode(&image, pixels, 0, NULL), SL_ERR_TRUNCATED);
    REFUSES(sl_image_decode(&image, pixels, 12, NULL), SL_ERR_MAGIC);
    REFUSES(sl_image_decode(&image, p.data, p.size, &half), SL_ERR_ARGUMENT);
    REFUSES(sl_image_from_rgb(&image, pixels, 2, 2, 0, &half), SL_ERR_ARGUMENT);
    full.size = 3;
    REFUSES(sl_image_decode(&image, p.data, p.size, &full), SL_ERR_ARGUMENT);
    REFUSES(sl_image_from_rgb(&image, NULL, 2, 2, 0, NULL), SL_ERR_ARGUMENT);
    REFUSES(sl_image_from_rgb(&image, pixels, 0, 2, 0, NULL), SL_ERR_ARGUMENT);
    REFUSES(sl_image_from_rgb(&image, pixels, 2, 0, 0, NULL), SL_ERR_ARGUMENT);
    REFUSES(sl_image_from_rgb(&image, pixels, 2, 2, 5, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_image_width(NULL), 0);
    assert_int_equal(sl_image_height(NULL), 0);
    assert_null(sl_image_pixels(NULL));
    sl_image_free(NULL);
    assert_int_equal(c.calls, 0);
    picture_free(&p);
}

static void loads_files(void **state)
{
    (void)state;
    char path[] = "/tmp/spacellama-image-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    uint8_t *rgb = picture_pixels(30, 20);
    picture p = { 0 };
    sl_image *image = (sl_image *)(uintptr_t)1;
    assert_int_equal(sl_image_load(&image, path, NULL), SL_ERR_TRUNCATED);      /* still empty */
    assert_null(image);
    assert_non_null(strstr(sl_last_error(), path));
    picture_ppm(&p, rgb, 30, 20);
    assert_int_equal(write(fd, p.data, p.size), p.size);
    assert_int_equal(sl_image_load(&image, path, NULL), SL_OK);
    assert_memory_equal(sl_image_pixels(image), rgb, 3 * 30 * 20);
    sl_image_free(image);
    assert_int_equal(ftruncate(fd, (off_t)p.size - 1), 0);
    assert_int_equal(sl_image_load(&image, path, NULL), SL_ERR_TRUNCATED);
    assert_null(image);
    assert_int_equal(ftruncate(fd, (off_t)SL_LIMIT_IMAGE_BYTES + 1), 0);        /* sparse */
    assert_int_equal(sl_image_load(&image, path, NULL), SL_ERR_LIMIT);
    assert_null(image);
    close(fd);
    unlink(path);
    picture_free(&p);
    free(rgb);
}

/* ---- memory ---- */

/* Every allocation fails once, and from each on for good. */
static void survives_lack_of_memory(void **state)
{
    (void)state;
    enum { W = 48, H = 32 };
    static const struct { const char *name; int built; } formats[] = { { "jpeg", SL_WITH_IMAGE_JPEG }, { "png", SL_WITH_IMAGE_PNG }, { "webp", SL_WITH_IMAGE_WEBP }, { "ppm", 1 }, { "alpha", SL_WITH_IMAGE_WEBP } };
    uint8_t *rgb = picture_pixels(W, H), rgba[4 * W * H];
    memset(rgba, 90, sizeof rgba);
    for (size_t f = 0; f < COUNT(formats); f++) {
        if (!formats[f].built)
            continue;
        picture p = { 0 };
        if (!strcmp(formats[f].name, "ppm"))
            picture_ppm(&p, rgb, W, H);
        else if (!strcmp(formats[f].name, "alpha"))
            picture_webp(&p, rgba, W, H, 4);
        else
            turn(&p, formats[f].name, rgb, W, H, 6, 0);
        for (size_t fail_for = 0; fail_for < 2; fail_for++)
            for (size_t n = 1;; n++) {
                counting c = { .fail_at = n, .fail_for = fail_for };
                sl_allocator a = counting_allocator(&c);
                sl_image *image;
                const sl_status status = sl_image_decode(&image, p.data, p.size, &a);
                const int failed = c.calls >= n;
                if ((failed && status != SL_ERR_NOMEM) || (!failed && status != SL_OK))
                    fail_msg("%s, allocation %zu: %s (%s)", formats[f].name, n, sl_status_name(status), sl_last_error());
                sl_image_free(image);
                counting_check_none(&c);
                assert_false(c.wrong);
                if (!failed)
                    break;
            }
        picture_free(&p);
    }
    free(rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_its_formats),       cmocka_unit_test(reads_every_png),         cmocka_unit_test(reads_webp),
        cmocka_unit_test(reads_jpeg),              cmocka_unit_test(reads_what_is_done_by_hand), cmocka_unit_test(turns_pictures_upright),
        cmocka_unit_test(copies_raw_pixels),       cmocka_unit_test(refuses_wrong_arguments), cmocka_unit_test(loads_files),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
