/* SPDX-License-Identifier: MIT */
/* image_hostile.c - pictures that were made to harm: each gets an error that names its reason, little memory is taken for it, and nothing leaks. Then every valid file cut at
 * every byte, and with every byte changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "image.h"
#include "picture_build.h"
#include "random.h"
#include "sanitized.h"

static size_t peak;             /* of the last decode */
static size_t most_bytes;       /* for each; 0: as it likes */

/* Decodes from a block that ends where the picture ends. */
static sl_status decode(const uint8_t *data, size_t size, sl_image **image)
{
    static counting c;
    c = (counting) { .most_bytes = most_bytes };
    sl_allocator a = counting_allocator(&c);
    uint8_t *exact = malloc(size ? size : 1);
    if (size)
        memcpy(exact, data, size);
    const sl_status status = sl_image_decode(image, exact, size, &a);
    free(exact);
    peak = c.peak_bytes;
    assert_false(c.wrong);
    assert_true(!*image == (status != SL_OK));
    if (status != SL_OK) {
        counting_check_none(&c);
        assert_true(strlen(sl_last_error()) > 10);
    }
    return status;
}

/* Decodes, expects `wanted`, and a sentence with `word` in it; frees the picture. */
static void expect(const char *what, picture *p, sl_status wanted, const char *word)
{
    sl_image *image;
    const sl_status status = decode(p->data, p->size, &image);
    if (status != wanted || (status != SL_OK && !strstr(sl_last_error(), word)))
        fail_msg("%s: %s (%s), expected %s with '%s'", what, sl_status_name(status), status ? sl_last_error() : "", sl_status_name(wanted), word);
    if (wanted == SL_ERR_LIMIT && peak > 64 << 10)
        fail_msg("%s: %zu bytes were taken before it was refused", what, peak);
    sl_image_free(image);
    picture_free(p);
}

/* ---- PNG: I01 .. I05 ---- */

static void put_end(picture *p) { picture_png_chunk(p, "IEND", NULL, 0); }

static void put_data(picture *p, const uint8_t *rows, size_t n)
{
    picture stream = { 0 };
    picture_png_zlib(&stream, rows, n);
    picture_png_chunk(p, "IDAT", stream.data, stream.size);
    picture_free(&stream);
}

static void png_sizes(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_PNG)
        skip();
    static const struct { const char *name; uint32_t width, height; sl_status status; const char *word; } rows[] = {
        { "65535 x 65535", 65535, 65535, SL_ERR_LIMIT, "limit of a side" }, { "2^31 wide", 1u << 31, 1, SL_ERR_LIMIT, "limit of a side" },
        { "2^32 - 1 high", 1, UINT32_MAX, SL_ERR_LIMIT, "limit of a side" }, { "20000 x 20000", 20000, 20000, SL_ERR_LIMIT, "in all" },
        { "0 x 0", 0, 0, SL_ERR_SYNTAX, "0 x 0" }, { "0 high", 7, 0, SL_ERR_SYNTAX, "7 x 0" }, { "8192 x 8193", 8192, 8193, SL_ERR_LIMIT, "in all" }, { "a large one without pixels", 8192, 8192, SL_ERR_TRUNCATED, "IEND" },
    };
    picture p = { 0 };
    for (size_t i = 0; i < COUNT(rows); i++) {
        picture_png_begin(&p);
        picture_png_header(&p, rows[i].width, rows[i].height, 8, PNG_RGB_ALPHA, 0);
        expect(rows[i].name, &p, rows[i].status, rows[i].word);
        assert_true(peak < 64 << 10);
    }
    uint8_t row[1 + 20000 / 8] = { 0 };         /* the picture that broke a fixed array elsewhere */
    for (size_t i = 1; i < sizeof row; i++)
        row[i] = (uint8_t)(i * 29);
    picture_png_begin(&p);
    picture_png_header(&p, 20000, 1, 1, PNG_GREY, 0);
    put_data(&p, row, sizeof row);
    put_end(&p);
    sl_image *image;
    assert_int_equal(decode(p.data, p.size, &image), SL_OK);
    assert_true(image->width == 20000 && image->height == 1);
    for (size_t x = 0; x < 20000; x++)
        assert_int_equal(image->rgb[3 * x + 1], row[1 + x / 8] >> (7 - x % 8) & 1 ? 255 : 0);
    sl_image_free(image);
    picture_free(&p);
}

static void png_chunks(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_PNG)
        skip();
    static const uint8_t rows[2 * 7] = { 0 };       /* 2 x 2, RGB */
    uint8_t palette[3 * 257] = { 0 };
    picture p = { 0 };
#define BEGIN(type) (picture_png_begin(&p), picture_png_header(&p, 2, 2, 8, type, 0))
    BEGIN(PNG_RGB), picture_put(&p, "\xff\xff\xff\xff" "IDAT12345678", 16);
    expect("a chunk of 2^32 - 1 bytes", &p, SL_ERR_SYNTAX, "4294967295 bytes");
    BEGIN(PNG_RGB), picture_put(&p, "\x7f\xff\xff\xff" "IDAT12345678", 16);
    expect("a chunk of 2^31 - 1 bytes", &p, SL_ERR_TRUNCATED, "2147483647 bytes");
    picture_png_begin(&p), put_data(&p, rows, sizeof rows), picture_png_header(&p, 2, 2, 8, PNG_RGB, 0), put_end(&p);
    expect("pixels before the header", &p, SL_ERR_SYNTAX, "header");
    BEGIN(PNG_RGB), picture_png_header(&p, 2, 2, 8, PNG_RGB, 0), put_data(&p, rows, sizeof rows), put_end(&p);
    expect("two headers", &p, SL_ERR_SYNTAX, "second header");
    BEGIN(PNG_PALETTE), picture_png_chunk(&p, "PLTE", palette, sizeof palette), put_data(&p, rows, 6), put_end(&p);
    expect("257 colours", &p, SL_ERR_SYNTAX, "palette of 771");
    BEGIN(PNG_PALETTE), picture_png_chunk(&p, "PLTE", palette, 4), put_data(&p, rows, 6), put_end(&p);
    expect("one colour and a third", &p, SL_ERR_SYNTAX, "palette of 4");
    BEGIN(PNG_PALETTE), put_data(&p, rows, 6), put_end(&p);
    expect("no palette", &p, SL_ERR_SYNTAX, "PLTE");
    BEGIN(PNG_RGB), put_data(&p, rows, sizeof rows);
    expect("no end", &p, SL_ERR_TRUNCATED, "IEND");
    BEGIN(PNG_RGB), put_end(&p);
    expect("no pixels", &p, SL_ERR_SYNTAX, "IDAT");
    picture_png_begin(&p), picture_png_header(&p, 2, 2, 3, PNG_RGB, 0), put_data(&p, rows, sizeof rows), put_end(&p);
    expect("three bits", &p, SL_ERR_SYNTAX, "png: ");
    picture_png_begin(&p), picture_png_header(&p, 2, 2, 8, 5, 0), put_data(&p, rows, sizeof rows), put_end(&p);
    expect("type 5", &p, SL_ERR_SYNTAX, "png: ");
    BEGIN(PNG_RGB), put_data(&p, rows, sizeof rows), p.data[p.size - 1] ^= 1, put_end(&p);
    expect("a wrong checksum", &p, SL_ERR_SYNTAX, "CRC");
    BEGIN(PNG_RGB), picture_png_chunk(&p, "tEXt", "a\0b", 3), p.data[p.size - 1] ^= 1, put_data(&p, rows, sizeof rows), put_end(&p);
    expect("a wrong checksum of an optional chunk", &p, SL_ERR_SYNTAX, "CRC");
    BEGIN(PNG_RGB), picture_png_chunk(&p, "IDAT", "\x78\x01\x07", 3), put_end(&p);
    expect("no such deflate block", &p, SL_ERR_SYNTAX, "png: ");
    BEGIN(PNG_RGB), picture_png_chunk(&p, "ABCD", "x", 1), put_data(&p, rows, sizeof rows), put_end(&p);
    expect("an unknown chunk that is not optional", &p, SL_ERR_SYNTAX, "png: ");
    BEGIN(PNG_GREY_ALPHA), picture_png_chunk(&p, "tRNS", "\0\0", 2), put_data(&p, rows, 10), put_end(&p);
    expect("a transparent colour beside alpha, which is passed over", &p, SL_OK, "");
    BEGIN(PNG_RGB), picture_png_chunk(&p, "eXIf", "II*\0\xff\xff\xff\xff..", 10), put_data(&p, rows, sizeof rows), put_end(&p);
    expect("a damaged note of the camera, which is passed over", &p, SL_OK, "");
#undef BEGIN
}

typedef struct bit_writer {
    picture bytes;
    int n_bits;
} bit_writer;

/* The lowest bit first, as deflate and WebP have it. */
static void put_bits(bit_writer *w, uint32_t value, int n)
{
    for (int i = 0; i < n; i++, w->n_bits++) {
        if (w->n_bits % 8 == 0)
            picture_put(&w->bytes, "", 1);
        w->bytes.data[w->bytes.size - 1] |= (uint8_t)((value >> i & 1) << (w->n_bits % 8));
    }
}

/* A deflate stream of at least n zeros in n / 158 bytes: a literal, then matches of 258 bytes one byte back, with the fixed codes. */
static void put_bomb(picture *stream, size_t n)
{
    bit_writer w = { 0 };
    uint32_t made = 1;
    put_bits(&w, 3, 3);                 /* the last block, fixed codes */
    put_bits(&w, 0x0c, 8);              /* 0: code 00110000, the highest bit first */
    for (; made < n; made += 258)
        put_bits(&w, 0xa3, 13);         /* length 258: code 11000101; distance 1: code 00000 */
    put_bits(&w, 0, 7);                 /* the end */
    picture_put(stream, "\x78\x01", 2);
    picture_put(stream, w.bytes.data, w.bytes.size);
    picture_put_be(stream, made % 65521 << 16 | 1, 4);      /* the checksum of zeros */
    picture_free(&w.bytes);
}

static void png_bombs(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_PNG)
        skip();
    picture p = { 0 }, stream = { 0 }, text = { 0 };
    put_bomb(&stream, 64 << 20);
    picture_png_begin(&p), picture_png_header(&p, 4, 4, 8, PNG_RGB, 0);
    picture_png_chunk(&p, "IDAT", stream.data, stream.size), put_end(&p);
    expect("16 pixels and 64 MiB behind them", &p, SL_ERR_LIMIT, "more than 4 x 4 pixels");
    assert_true(peak < 1 << 20);
    picture_free(&stream), put_bomb(&stream, 4 * 13 + 1);
    picture_png_begin(&p), picture_png_header(&p, 4, 4, 8, PNG_RGB, 0);
    picture_png_chunk(&p, "IDAT", stream.data, stream.size), put_end(&p);
    expect("16 pixels and some more", &p, SL_ERR_LIMIT, "more than 4 x 4 pixels");
    picture_free(&stream), put_bomb(&stream, 64 << 20);
    static const struct { const char *chunk; size_t head; } rows[] = { { "zTXt", 3 }, { "iTXt", 6 }, { "iCCP", 3 } };
    for (size_t i = 0; i < COUNT(rows); i++) {
        picture_put(&text, "k\0\0\0\0\0", 3);
        if (rows[i].head == 6)          /* keyword, compressed, method, language, keyword again */
            picture_free(&text), picture_put(&text, "k\0\1\0\0\0", 6);
        picture_put(&text, stream.data, stream.size);
        picture_png_begin(&p), picture_png_header(&p, 2, 2, 8, PNG_RGB, 0), picture_png_chunk(&p, rows[i].chunk, text.data, text.size);
        put_data(&p, (const uint8_t[14]) { 0 }, 14), put_end(&p);
        expect(rows[i].chunk, &p, SL_OK, "");
        assert_true(peak < 1 << 20);
        picture_free(&text);
    }
    picture_png_begin(&p), picture_png_header(&p, 8000, 8000, 16, PNG_RGB_ALPHA, 0);
    picture_png_chunk(&p, "IDAT", stream.data, 1000), put_end(&p);
    expect("more pixels than so few bytes can be", &p, SL_ERR_TRUNCATED, "do not hold");
    assert_true(peak < 1 << 20);
    picture_free(&stream);
    for (size_t lacking = 1; lacking <= 25; lacking++) {
        uint8_t pixels[8 * 25] = { 0 };         /* 8 x 8, RGB */
        picture_png_begin(&p), picture_png_header(&p, 8, 8, 8, PNG_RGB, 0), put_data(&p, pixels, sizeof pixels - lacking), put_end(&p);
        expect("a row, or less, is lacking", &p, SL_ERR_TRUNCATED, "png: ");
    }
}

/* ---- JPEG: I06, I07 ---- */

/* Where the first segment with that marker begins; the picture has one. */
static size_t find(const picture *p, int marker)
{
    for (size_t at = 2; at + 4 <= p->size; at += 2 + (size_t)(p->data[at + 2] << 8 | p->data[at + 3]))
        if (p->data[at + 1] == marker)
            return at;
    fail_msg("no marker %02x", (unsigned)marker);
    return 0;
}

static size_t segment_bytes(const picture *p, size_t at) { return 2 + (size_t)(p->data[at + 2] << 8 | p->data[at + 3]); }

static void cut_out(picture *p, size_t at, size_t n)
{
    memmove(p->data + at, p->data + at + n, p->size - at - n);
    p->size -= n;
}

enum { SOF0 = 0xc0, DHT = 0xc4, SOS = 0xda, DQT = 0xdb };

static void jpeg_wrong(picture *p, int which)
{
    const size_t sof = find(p, SOF0), dht = find(p, DHT), sos = find(p, SOS);
    uint8_t segment[512];
    switch (which) {
    case 0: memcpy(p->data + sof, "\xff\xc0\0\x08\x08\0\x10\0\x10\0", 10), cut_out(p, sof + 10, 9); break;      /* no components */
    case 1: memset(p->data + dht + 5, 0xff, 16); break;                                                         /* 4080 codes */
    case 2: p->data[dht + 5] = 3; break;                                                                        /* three codes of one bit */
    case 3: picture_insert(p, sos, "\xff\xdd\0\x04\xff\xff", 6); break;                                         /* restarts after 65535 */
    case 4: memcpy(segment, p->data + sof, 19), picture_insert(p, sof, segment, 19); break;                     /* two frames */
    case 5: cut_out(p, sof, segment_bytes(p, sof)); break;                                                      /* a scan before the frame */
    case 6: p->data[sof + 1] = 0xc9; break;                                                                     /* arithmetic */
    case 7: p->data[sof + 1] = 0xca; break;                                                                     /* arithmetic, progressive */
    case 8: p->data[sof + 1] = 0xc3; break;                                                                     /* lossless */
    case 9: p->data[sof + 4] = 12; break;                                                                       /* bits */
    case 10: memset(p->data + sof + 5, 0xff, 4); break;                                                         /* 65535 x 65535 */
    case 11: p->data[sof + 5] = 0x7f, p->data[sof + 7] = 0x7f; break;                                           /* 32528 x 32528 */
    case 12: memset(p->data + sof + 5, 0, 2); break;                                                            /* no height */
    case 13: p->data[sof + 5] = 0x1f, p->data[sof + 7] = 0x1f; break;                                           /* 7952 x 7952 of 600 bytes */
    case 14: p->data[sof + 11] = 0x55; break;                                                                   /* sampled 5 x 5 */
    case 15: p->data[sof + 12] = 3; break;                                                                      /* a table that is not there */
    case 16: cut_out(p, find(p, DQT), segment_bytes(p, find(p, DQT))); break;
    case 17: p->data[sos + 3] = 200; break;                                                                     /* a header of 200 bytes */
    case 18: cut_out(p, p->size - 20, 10); break;                                                               /* ten bytes of the scan */
    case 19: p->data[p->size - 20] = 0xff, p->data[p->size - 19] = 0xd9; break;                                 /* the end too early */
    case 20: p->size = 2, picture_put(p, "\xff\xd9", 2); break;                                                 /* nothing at all */
    case 21: p->data[sof + 9] = 2; break;                                                                       /* two components in a segment for three */
    }
}

static void jpeg_markers(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_JPEG)
        skip();
    static const struct { const char *name; sl_status status, also; const char *word; } rows[] = {
        { "no components", SL_ERR_SYNTAX, 0, "jpeg: " }, { "4080 Huffman codes", SL_ERR_SYNTAX, 0, "jpeg: " }, { "three codes of one bit", SL_ERR_SYNTAX, 0, "jpeg: " },
        { "restarts after 65535", SL_OK, 0, "" }, { "two frames", SL_ERR_SYNTAX, 0, "SOF" }, { "a scan before the frame", SL_ERR_SYNTAX, 0, "SOS" },
        { "arithmetic", SL_ERR_UNSUPPORTED, 0, "rithmetic" }, { "arithmetic, progressive", SL_ERR_UNSUPPORTED, 0, "rithmetic" }, { "lossless", SL_ERR_UNSUPPORTED, 0, "jpeg: " },
        { "12 bits", SL_ERR_UNSUPPORTED, 0, "12" }, { "65535 x 65535", SL_ERR_LIMIT, 0, "jpeg: " }, { "32528 x 32528", SL_ERR_LIMIT, 0, "in all" },
        { "no height", SL_ERR_SYNTAX, 0, "jpeg: " }, { "7952 x 7952 of a few bytes", SL_ERR_TRUNCATED, 0, "do not hold" }, { "sampled 5 x 5", SL_ERR_SYNTAX, 0, "jpeg: " },
        { "a table that is not there", SL_ERR_SYNTAX, 0, "jpeg: " }, { "no quantization", SL_ERR_SYNTAX, 0, "jpeg: " }, { "a long scan header", SL_ERR_SYNTAX, 0, "jpeg: " },
        { "bytes missing in the scan", SL_ERR_TRUNCATED, SL_ERR_SYNTAX, "jpeg: " }, { "the end too early", SL_ERR_TRUNCATED, SL_ERR_SYNTAX, "jpeg: " },
        { "no picture", SL_ERR_SYNTAX, SL_ERR_TRUNCATED, "jpeg: " }, { "a frame of another length", SL_ERR_SYNTAX, 0, "jpeg: " },
    };
    uint8_t *rgb = picture_pixels(16, 16);
    for (size_t i = 0; i < COUNT(rows); i++) {
        picture p = { 0 };
        picture_jpeg(&p, rgb, 16, 16, 90, 0);
        jpeg_wrong(&p, (int)i);
        sl_image *image;
        const sl_status status = decode(p.data, p.size, &image);
        sl_image_free(image);
        expect(rows[i].name, &p, rows[i].also && status == rows[i].also ? rows[i].also : rows[i].status, rows[i].word);
    }
    picture p = { 0 };
    picture_jpeg(&p, rgb, 8, 8, 90, JPEG_CMYK);
    expect("CMYK", &p, SL_ERR_UNSUPPORTED, "CMYK");
    free(rgb);
}

/* A scan of the last component over and over: each costs the codec a pass over the picture. */
static void jpeg_scans(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_JPEG)
        skip();
    static const struct { int scans; sl_status status; } rows[] = { { 10, SL_OK }, { 400, SL_OK }, { 10000, SL_ERR_LIMIT } };
    uint8_t *rgb = picture_pixels(16, 16);
    for (size_t i = 0; i < COUNT(rows); i++) {
        picture p = { 0 }, scan = { 0 };
        sl_image *image;
        picture_jpeg(&p, rgb, 16, 16, 50, JPEG_SCANS);
        size_t last = p.size - 4;
        while (p.data[last] != 0xff || p.data[last + 1] != SOS)
            last--;
        picture_put(&scan, p.data + last, p.size - 2 - last);
        p.size -= 2;
        for (int k = 0; k < rows[i].scans; k++)
            picture_put(&p, scan.data, scan.size);
        picture_put(&p, "\xff\xd9", 2);
        const sl_status status = decode(p.data, p.size, &image);
        if (status != rows[i].status)
            fail_msg("%d scans: %s (%s)", rows[i].scans, sl_status_name(status), sl_last_error());
        sl_image_free(image);
        picture_free(&p), picture_free(&scan);
    }
    free(rgb);
}

/* ---- WebP: I11 ---- */

/* A prefix code whose lengths are written with four bits each: `counts[l]` symbols of l bits, then zeros up to n_symbols. */
static void put_prefix_code(bit_writer *w, int n_symbols, const uint8_t counts[16])
{
    static const uint8_t order[19] = { 17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    put_bits(w, 0, 1);              /* not one of the simple codes */
    put_bits(w, 15, 4);             /* all 19 lengths of the code of lengths */
    for (int i = 0; i < 19; i++)
        put_bits(w, order[i] < 16 ? 4 : 0, 3);
    put_bits(w, 0, 1);              /* every symbol has a length */
    int length = 0, left = 0;
    for (int i = 0; i < n_symbols; i++) {
        while (!left && length < 15)
            left = counts[++length];
        const int value = left ? length : 0;
        left -= left > 0;
        put_bits(w, (uint32_t)((value & 1) << 3 | (value & 2) << 1 | (value & 4) >> 1 | (value & 8) >> 3), 4);      /* the highest bit first */
    }
}

/* Tables that are larger than the space for them, unless the codec sees that a code is incomplete (CVE-2023-4863). */
static void webp_tables(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_WEBP)
        skip();
    static const int symbols[5] = { 256 + 24 + 2048, 256, 256, 256, 40 };
    static const uint8_t full[16] = { 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2 }, gaps[16] = { 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 11, 5, 1, 9, 1, 1 };
    for (int wrong = 0; wrong < 5; wrong++) {
        bit_writer w = { 0 };
        picture p = { 0 };
        put_bits(&w, 0x2f, 8);
        put_bits(&w, 0, 14), put_bits(&w, 0, 14), put_bits(&w, 0, 1), put_bits(&w, 0, 3);       /* 1 x 1 */
        put_bits(&w, 0, 1);                             /* no transform */
        put_bits(&w, 1, 1), put_bits(&w, 11, 4);        /* 2048 cached colours */
        put_bits(&w, 0, 1);                             /* one group of codes */
        for (int i = 0; i < 5; i++)
            put_prefix_code(&w, symbols[i], i == wrong ? gaps : full);
        for (int i = 0; i < 8; i++)
            put_bits(&w, 0, 32);
        picture_put(&w.bytes, "", w.bytes.size % 2);
        picture_put(&p, "RIFF", 4), picture_put_le(&p, (uint32_t)w.bytes.size + 12, 4), picture_put(&p, "WEBPVP8L", 8);
        picture_put_le(&p, (uint32_t)w.bytes.size, 4), picture_put(&p, w.bytes.data, w.bytes.size);
        expect("an incomplete code", &p, SL_ERR_SYNTAX, "webp: damaged");
        picture_free(&w.bytes);
    }
}

static void webp_chunks(void **state)
{
    (void)state;
    if (!SL_WITH_IMAGE_WEBP)
        skip();
    uint8_t *rgb = picture_pixels(6, 4);
    picture p = { 0 };
#define BEGIN() (picture_webp(&p, rgb, 6, 4, 3), picture_webp_extend(&p, 6, 4, 1, 0))
    BEGIN(), p.data[20] |= 0x02;
    expect("marked as animated", &p, SL_ERR_UNSUPPORTED, "animated");
    BEGIN(), memcpy(p.data + p.size - 38 - 8, "ANMF", 4);      /* the EXIF chunk */
    expect("with a frame of an animation", &p, SL_ERR_UNSUPPORTED, "animated");
    BEGIN(), p.data[4] = 200, p.data[5] = 200;
    expect("shorter than it says", &p, SL_ERR_TRUNCATED, "by its own account");
    BEGIN(), memset(p.data + 4, 0xff, 4);
    expect("4 GiB by its own account", &p, SL_ERR_TRUNCATED, "by its own account");
    BEGIN(), memset(p.data + 4, 0, 4);
    expect("nothing by its own account", &p, SL_ERR_SYNTAX, "by its own account");
    BEGIN(), memset(p.data + 34, 0xff, 4);
    expect("a chunk of 4 GiB", &p, SL_ERR_TRUNCATED, "chunk");
    BEGIN(), memset(p.data + 24, 0xff, 6);
    expect("a canvas of 2^24 x 2^24", &p, SL_ERR_SYNTAX, "webp: ");
    BEGIN(), memset(p.data + 30, 'x', 4);
    expect("no pixels", &p, SL_ERR_TRUNCATED, "too early");
    picture_webp(&p, rgb, 6, 4, 3), memset(p.data + 21, 0xff, 3), p.data[24] |= 0x0f;
    expect("16384 x 16384", &p, SL_ERR_LIMIT, "in all");
#undef BEGIN
    free(rgb);
}

/* ---- BMP, PPM, others: I08 .. I10 ---- */

static void simple_formats(void **state)
{
    (void)state;
    static const struct { const char *name; size_t at; const char *bytes; size_t n; sl_status status; const char *word; } bmp[] = {
        { "height -2^31", 22, "\0\0\0\x80", 4, SL_ERR_LIMIT, "limit of a side" }, { "width -1", 18, "\xff\xff\xff\xff", 4, SL_ERR_LIMIT, "limit of a side" },
        { "no width", 18, "\0\0\0\0", 4, SL_ERR_SYNTAX, "0 x 4" }, { "30000 x 30000", 18, "\x30\x75\0\0\x30\x75\0\0", 8, SL_ERR_LIMIT, "in all" },
        { "8000 x 8000", 18, "\x40\x1f\0\0\x40\x1f\0\0", 8, SL_ERR_TRUNCATED, "8000 x 8000" },
        { "2^32 - 1 colours", 28, "\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff", 22, SL_ERR_SYNTAX, "palette of 4294967295" },
        { "256 colours that are not there", 28, "\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0", 22, SL_ERR_TRUNCATED, "palette" },
        { "two colours, and pixels of others", 28, "\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0", 22, SL_ERR_SYNTAX, "palette of 2" },
        { "run lengths, 8 bits", 28, "\x08\0\1\0\0\0", 6, SL_ERR_UNSUPPORTED, "compression 1" }, { "run lengths, 4 bits", 28, "\x04\0\2\0\0\0", 6, SL_ERR_UNSUPPORTED, "compression 2" },
        { "a JPEG inside", 30, "\4\0\0\0", 4, SL_ERR_UNSUPPORTED, "compression 4" }, { "masks for 24 bits", 30, "\3\0\0\0", 4, SL_ERR_UNSUPPORTED, "compression 3" },
        { "5 bits", 28, "\5\0", 2, SL_ERR_UNSUPPORTED, "5 bits" }, { "a header of 2^32 - 1 bytes", 14, "\xff\xff\xff\xff", 4, SL_ERR_UNSUPPORTED, "header" },
        { "a header of 13 bytes", 14, "\x0d\0\0\0", 4, SL_ERR_UNSUPPORTED, "header" }, { "pixels inside the header", 10, "\x20\0\0\0", 4, SL_ERR_SYNTAX, "inside the header" },
        { "pixels behind the end", 10, "\xff\xff\xff\xff", 4, SL_ERR_TRUNCATED, "4294967295" },
        { "a mask with a hole", 28, "\x20\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\5\0\0\0\0\1\0\0\0\2\0\0", 38, SL_ERR_SYNTAX, "mask" },
        { "a mask of 17 bits for 16", 28, "\x10\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\1\0\0\0\2\0\0", 38, SL_ERR_SYNTAX, "mask" },
        { "no green", 28, "\x20\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\2\0\0", 38, SL_ERR_SYNTAX, "no mask" },
    };
    uint8_t *rgb = picture_pixels(4, 4);
    picture p = { 0 };
    for (size_t i = 0; i < COUNT(bmp); i++) {
        picture_bmp(&p, rgb, 4, 4);
        memcpy(p.data + bmp[i].at, bmp[i].bytes, bmp[i].n);
        expect(bmp[i].name, &p, bmp[i].status, bmp[i].word);
    }
    free(rgb);
    static const struct { const char *text; sl_status status; const char *word; } texts[] = {
        { "P6 99999999999999999999 1 255\n", SL_ERR_LIMIT, "width" }, { "P6 65536 65536 255\n", SL_ERR_LIMIT, "limit of a side" }, { "P6 32768 32768 65535\n", SL_ERR_LIMIT, "in all" },
        { "P6 8000 8000 65535\n", SL_ERR_TRUNCATED, "384000000 bytes" }, { "P6 -1 1 255\n", SL_ERR_SYNTAX, "width" }, { "P6 1 x 255\n", SL_ERR_SYNTAX, "height" },
        { "P6 1 1 0\n   ", SL_ERR_SYNTAX, "largest" }, { "P6 1 1 65536\n   ", SL_ERR_SYNTAX, "largest" }, { "P6 1 1 255x   ", SL_ERR_SYNTAX, "white space" },
        { "P6 0 1 255\n", SL_ERR_SYNTAX, "0 x 1" }, { "P61 1 255\n...", SL_ERR_SYNTAX, "width" }, { "P6 1 1 9\n\1\2\12", SL_ERR_SYNTAX, "sample" }, { "P6 # 1 1 255", SL_ERR_TRUNCATED, "ends" },
        { "P6", SL_ERR_TRUNCATED, "ends" }, { "P6 1 1 255\n..", SL_ERR_TRUNCATED, "3 bytes" }, { "P5 1 1 255\n.", SL_ERR_UNSUPPORTED, "pnm" }, { "P7\nWIDTH 1\n", SL_ERR_UNSUPPORTED, "pam" },
        { "GIF89a\1", SL_ERR_UNSUPPORTED, "gif" }, { "GIF87a\1", SL_ERR_UNSUPPORTED, "gif" }, { "8BPS\0\1", SL_ERR_MAGIC, "known format" }, { "#?RADIANCE\n", SL_ERR_MAGIC, "known format" },
        { "RIFF....WAVEfmt ", SL_ERR_MAGIC, "known format" }, { "....ftypheic....", SL_ERR_UNSUPPORTED, "heif" }, { "....ftypavif....", SL_ERR_UNSUPPORTED, "avif" }, { "x", SL_ERR_MAGIC, "known format" },
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        picture_put(&p, texts[i].text, strlen(texts[i].text));
        expect(texts[i].text, &p, texts[i].status, texts[i].word);
    }
}

/* I13: nothing is read of pixels that are too many. */
static void raw_pixels(void **state)
{
    (void)state;
    static const struct { uint32_t width, height; size_t stride; sl_status status; } rows[] = {
        { UINT32_MAX, UINT32_MAX, 0, SL_ERR_LIMIT }, { 0x55555556, 1, 0, SL_ERR_LIMIT }, { 32769, 1, 0, SL_ERR_LIMIT }, { 1, 32769, 0, SL_ERR_LIMIT }, { 20000, 20000, 0, SL_ERR_LIMIT },
        { 2, 2, SIZE_MAX - 5, SL_ERR_OVERFLOW }, { 2, 2, SIZE_MAX / 2 + 1, SL_ERR_OVERFLOW }, { UINT32_MAX, 1, 3, SL_ERR_ARGUMENT }, { 1, 1, 2, SL_ERR_ARGUMENT },
    };
    static const uint8_t pixels[12] = { 0 };
    for (size_t i = 0; i < COUNT(rows); i++) {
        counting c = { 0 };
        sl_allocator a = counting_allocator(&c);
        sl_image *image = (sl_image *)(uintptr_t)1;
        assert_int_equal(sl_image_from_rgb(&image, pixels, rows[i].width, rows[i].height, rows[i].stride, &a), rows[i].status);
        assert_null(image);
        assert_int_equal(c.calls, 0);
    }
}

/* ---- I12: every kind of file, cut and changed ---- */

static const char *const kinds[] = { "jpeg", "progressive jpeg", "jpeg with EXIF", "png", "interlaced png", "png with alpha", "webp", "lossy webp", "webp with EXIF and alpha", "bmp", "ppm" };

/* 0 if this build has no such format. */
static int make(picture *p, size_t kind)
{
    enum { W = 13, H = 9 };
    uint8_t *rgb = picture_pixels(W, H), rgba[4 * W * H];
    uint16_t samples[4 * W * H];
    const char *name = kinds[kind];
    const int jpeg = strstr(name, "jpeg") != NULL, png = strstr(name, "png") != NULL, webp = strstr(name, "webp") != NULL;
    for (size_t i = 0; i < sizeof rgba; i++)
        samples[i] = rgba[i] = (uint8_t)(i / 4 * 2 + i % 4 * 20);
    if ((jpeg && !SL_WITH_IMAGE_JPEG) || (png && !SL_WITH_IMAGE_PNG) || (webp && !SL_WITH_IMAGE_WEBP)) {
        free(rgb);
        return 0;
    }
    if (jpeg) {
        picture_jpeg(p, rgb, W, H, 60, strstr(name, "progressive") ? JPEG_PROGRESSIVE : 0);
        if (strstr(name, "EXIF")) {
            picture exif = { 0 };
            picture_put(&exif, "\xff\xe1\0\0Exif\0\0", 10), picture_exif(&exif, 6, 0);
            exif.data[3] = (uint8_t)(exif.size - 2);
            picture_insert(p, 2, exif.data, exif.size);
            picture_free(&exif);
        }
    } else if (png)
        picture_png(p, &(png_recipe) { .width = W, .height = H, .bits = 8, .type = strstr(name, "alpha") ? PNG_RGB_ALPHA : PNG_RGB, .interlaced = !!strstr(name, "interlaced"), .samples = samples, .orientation = 8 });
    else if (!strcmp(name, "lossy webp"))
        picture_webp_lossy(p, rgb, W, H);
    else if (webp && strstr(name, "EXIF")) {
        picture_webp(p, rgba, W, H, 4);
        picture_webp_extend(p, W, H, 6, 0x10);
    } else if (webp)
        picture_webp(p, rgb, W, H, 3);
    else if (!strcmp(name, "bmp"))
        picture_bmp(p, rgb, W, H);
    else
        picture_ppm(p, rgb, W, H);
    free(rgb);
    return 1;
}

static void cut_at_every_byte(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        picture p = { 0 };
        sl_image *image;
        if (!make(&p, k))
            continue;
        for (size_t n = 0; n <= p.size; n++) {
            const sl_status status = decode(p.data, n, &image), wanted = n == p.size ? SL_OK : SL_ERR_TRUNCATED;
            if (status != wanted && !(status == SL_ERR_MAGIC && n < 12))
                fail_msg("%s, %zu of %zu bytes: %s (%s)", kinds[k], n, p.size, sl_status_name(status), status ? sl_last_error() : "");
            sl_image_free(image);
        }
        picture_free(&p);
    }
}

/* What a damaged file may be. Never a fault of the library's own, never a lack of memory. */
static void check_verdict(const char *what, size_t at, sl_status status)
{
    static const sl_status fine[] = { SL_OK, SL_ERR_MAGIC, SL_ERR_UNSUPPORTED, SL_ERR_TRUNCATED, SL_ERR_SYNTAX, SL_ERR_LIMIT };
    for (size_t i = 0; i < COUNT(fine); i++)
        if (status == fine[i])
            return;
    fail_msg("%s, byte %zu changed: %s (%s)", what, at, sl_status_name(status), sl_last_error());
}

static void changed_at_every_byte(void **state)
{
    (void)state;
    static const uint8_t changes[] = { 0x01, 0x80, 0xff, 0x20 };
    for (size_t k = 0; k < COUNT(kinds); k++) {
        picture p = { 0 };
        size_t n_read = 0;
        if (!make(&p, k))
            continue;
        for (size_t at = 0; at < p.size; at++)
            for (size_t c = 0; c < COUNT(changes); c++) {
                sl_image *image;
                p.data[at] ^= changes[c];
                const sl_status status = decode(p.data, p.size, &image);
                check_verdict(kinds[k], at, status);
                n_read += status == SL_OK;
                sl_image_free(image);
                p.data[at] ^= changes[c];
            }
        /* Everything in a PNG has a checksum. */
        if (strstr(kinds[k], "png"))
            assert_int_equal(n_read, 0);
        picture_free(&p);
    }
}

static void random_bytes(void **state)
{
    (void)state;
    static const struct { const char *mark; size_t n; } marks[] = { { "\xff\xd8\xff\xe0", 4 }, { "\xff\xd8\xff", 3 }, { "\x89PNG\r\n\x1a\n", 8 }, { "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x02\0\0\0", 29 },
                                                                { "RIFF\xf0\0\0\0WEBPVP8 ", 16 }, { "RIFF\xf0\0\0\0WEBPVP8L\xe4\0\0\0\x2f", 21 }, { "BM", 2 }, { "P6 ", 3 }, { "P6 9 9 255\n", 11 }, { "", 0 } };
    enum { SIZE = 256 };
    enum { ROUNDS = WHEN_SANITIZED(200, 2000) };
    uint64_t seed = 11;
    most_bytes = 1 << 20;       /* a few bytes may honestly stand for millions of pixels of WebP */
    for (size_t m = 0; m < COUNT(marks); m++)
        for (int round = 0; round < ROUNDS; round++) {
            uint8_t data[SIZE];
            sl_image *image;
            for (size_t i = 0; i < SIZE; i++)
                data[i] = (uint8_t)random_next(&seed);
            memcpy(data, marks[m].mark, marks[m].n);
            const sl_status status = decode(data, SIZE, &image);
            if (status != SL_ERR_NOMEM)
                check_verdict("random bytes", m, status);
            sl_image_free(image);
        }
    most_bytes = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_sizes),      cmocka_unit_test(png_chunks),        cmocka_unit_test(png_bombs),             cmocka_unit_test(jpeg_markers),
        cmocka_unit_test(jpeg_scans),     cmocka_unit_test(webp_tables),       cmocka_unit_test(webp_chunks),           cmocka_unit_test(simple_formats),
        cmocka_unit_test(raw_pixels),     cmocka_unit_test(cut_at_every_byte), cmocka_unit_test(changed_at_every_byte), cmocka_unit_test(random_bytes),
    };
    return cmocka_run_group_tests_name("image_hostile", tests, NULL, NULL);
}
