/* SPDX-License-Identifier: MIT */
/* image_png.c - PNG through libpng, with memory from the host's allocator.
 *
 * The chunks are walked here first, so that a damaged file is refused with its reason before the codec begins. Of the optional chunks only tRNS and eXIf mean something;
 * the codec is told to pass over the others, which can be bombs. It reports errors by a function that must not return: that one leaves by longjmp to decode(), and
 * everything that has to be freed stands in a structure that outlives the jump. */
#include "image_codec.h"

#include <setjmp.h>
#include <string.h>
#include <png.h>

enum { SIGNATURE = 8, CHUNK = 12, MOST_COLOURS = 256 };       /* a chunk: length, name, content, checksum */

typedef struct decoder {
    const sl_encoded *in;
    sl_image **out;
    size_t at, end;             /* what the codec has read, and how far it may */
    size_t data_end;            /* of the last chunk of pixels */
    uint64_t data_bytes;        /* in all of them */
    size_t row_bytes;           /* of pixels as they are stored */
    png_structp png;
    png_infop info;
    uint8_t *rgba;              /* pixels that are not opaque: a row, or all of them if they are interlaced */
    size_t rgba_bytes;
    jmp_buf escape;
    sl_status status;
    int no_memory;              /* the last request failed */
    int complete;               /* all pixels are there */
} decoder;

static void leave(decoder *d, sl_status status)
{
    d->status = status;
    longjmp(d->escape, 1);
}

/* ---- chunks ---- */

static int is_chunk(const uint8_t *chunk, const char *name) { return !memcmp(chunk + 4, name, 4); }

static sl_status look_at_chunk(decoder *d, const uint8_t *chunk, size_t bytes, uint32_t *orientation)
{
    if (is_chunk(chunk, "IHDR"))
        return sl_fail(SL_ERR_SYNTAX, "a second header");
    if (is_chunk(chunk, "PLTE") && (bytes > 3 * MOST_COLOURS || bytes % 3 || !bytes))
        return sl_fail(SL_ERR_SYNTAX, "a palette of %zu bytes", bytes);
    if (is_chunk(chunk, "eXIf"))
        *orientation = sl_exif_orientation(chunk + 8, bytes);
    if (is_chunk(chunk, "IDAT")) {
        d->data_bytes += bytes;
        d->data_end = (size_t)(chunk - d->in->data) + CHUNK + bytes;
    }
    return SL_OK;
}

/* From the header to IEND. What comes behind it is nobody's. */
static sl_status walk_chunks(decoder *d, uint32_t *orientation)
{
    const sl_encoded *in = d->in;
    for (size_t at = SIGNATURE;;) {
        const uint8_t *chunk = in->data + at;
        const size_t left = in->length - at, bytes = left < CHUNK ? 0 : sl_get_be32(chunk);
        if (left < CHUNK)
            return sl_fail(SL_ERR_TRUNCATED, "it ends at byte %zu, without IEND", in->length);
        if (bytes > 0x7fffffff)
            return sl_fail(SL_ERR_SYNTAX, "a chunk of %zu bytes at byte %zu", bytes, at);
        if (bytes > left - CHUNK)
            return sl_fail(SL_ERR_TRUNCATED, "the chunk at byte %zu has %zu bytes, there are %zu", at, bytes, left - CHUNK);
        if (at == SIGNATURE) {
            if (!is_chunk(chunk, "IHDR") || bytes != 13)
                return sl_fail(SL_ERR_SYNTAX, "it does not begin with its header");
            SL_TRY(sl_image_check(sl_get_be32(chunk + 8), sl_get_be32(chunk + 12)));
        } else
            SL_TRY(look_at_chunk(d, chunk, bytes, orientation));
        if (is_chunk(chunk, "IEND"))
            return d->data_end ? SL_OK : sl_fail(SL_ERR_SYNTAX, "there is no IDAT");
        at += CHUNK + bytes;
    }
}

/* ---- what the codec calls ---- */

static void on_error(png_structp png, png_const_charp text)
{
    static const char too_few[] = "Not enough image data";      /* the compressed stream ends before the pixels do */
    char quoted[SL_QUOTE_BYTES];
    decoder *d = png_get_error_ptr(png);
    /* Or the codec looked for more pixels behind their last chunk. */
    const int ended = !strcmp(text, too_few) || (d->at > d->data_end && !d->complete);
    const sl_status status = d->no_memory ? SL_ERR_NOMEM : ended ? SL_ERR_TRUNCATED : SL_ERR_SYNTAX;
    if (!d->no_memory)
        sl_fail(status, "%s", sl_quote(quoted, text, strlen(text)));
    leave(d, status);
}

static sl_status too_much(const decoder *d)
{
    const uint8_t *header = d->in->data + SIGNATURE + 8;
    return sl_fail(SL_ERR_LIMIT, "the compressed data are more than %u x %u pixels", sl_get_be32(header), sl_get_be32(header + 4));
}

/* What the codec only warns of concerns optional chunks, or what comes behind the last pixel. */
static void on_warning(png_structp png, png_const_charp text)
{
    decoder *d = png_get_error_ptr(png);
    if (strstr(text, "Too much image data"))
        leave(d, too_much(d));
}

static png_voidp take(png_structp png, png_alloc_size_t bytes)
{
    decoder *d = png_get_mem_ptr(png);
    void *block = sl_mem_alloc(d->in->mem, 1, bytes);
    d->no_memory = !block;
    return block;
}

static void give(png_structp png, png_voidp block)
{
    const decoder *d = png_get_mem_ptr(png);
    sl_mem_free(d->in->mem, block);
}

static void read_bytes(png_structp png, png_bytep to, size_t bytes)
{
    decoder *d = png_get_io_ptr(png);
    if (bytes > d->in->length - d->at)
        leave(d, sl_fail(SL_ERR_TRUNCATED, "it ends at byte %zu", d->in->length));
    if (bytes > d->end - d->at)
        leave(d, too_much(d));
    memcpy(to, d->in->data + d->at, bytes);
    d->at += bytes;
}

/* ---- decoding ---- */

static void set_up(decoder *d)
{
    enum { MOST_BYTES = 1 << 20, MOST_CHUNKS = 64 };
    d->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, d, on_error, on_warning, d, take, give);
    d->info = d->png ? png_create_info_struct(d->png) : NULL;
    if (!d->info)
        leave(d, d->no_memory ? SL_ERR_NOMEM : sl_fail(SL_ERR_INTERNAL, "the codec cannot be set up"));
    png_set_read_fn(d->png, d, read_bytes);
    png_set_user_limits(d->png, SL_LIMIT_IMAGE_SIDE, SL_LIMIT_IMAGE_SIDE);
    png_set_chunk_malloc_max(d->png, MOST_BYTES);
    png_set_chunk_cache_max(d->png, MOST_CHUNKS);
    png_set_crc_action(d->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
#ifdef PNG_HANDLE_AS_UNKNOWN_SUPPORTED
    static const png_byte passed_over[] = "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTXt";
    png_set_keep_unknown_chunks(d->png, PNG_HANDLE_CHUNK_NEVER, passed_over, (int)(sizeof passed_over / 5));
#endif
}

/* Asks for R, G, B or R, G, B, A of 8 bits, whatever is stored. Returns how many passes there are. */
static int choose_form(decoder *d)
{
    png_structp png = d->png;
    png_read_info(png, d->info);
    png_set_expand(png);            /* palettes, fewer than 8 bits, a transparent colour */
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    const int n_passes = png_set_interlace_handling(png);
    const uint32_t width = png_get_image_width(png, d->info), height = png_get_image_height(png, d->info);
    d->row_bytes = png_get_rowbytes(png, d->info);
    if ((uint64_t)d->row_bytes * height / 1032 > d->data_bytes)     /* deflate makes at most 1032 bytes of one */
        leave(d, sl_fail(SL_ERR_TRUNCATED, "%llu bytes do not hold %u x %u pixels", (unsigned long long)d->data_bytes, width, height));
    png_read_update_info(png, d->info);
    const uint32_t n_channels = png_get_channels(png, d->info);
    if ((n_channels != 3 && n_channels != 4) || png_get_rowbytes(png, d->info) != (size_t)n_channels * width)
        leave(d, sl_fail(SL_ERR_INTERNAL, "the codec makes %u channels", n_channels));
    const sl_status status = sl_image_create(d->out, d->in->mem, width, height);
    if (status != SL_OK)
        leave(d, status);
    if (n_channels == 4) {
        d->rgba_bytes = 4 * (size_t)width * (n_passes > 1 ? height : 1);
        d->rgba = sl_mem_pages(d->in->mem, d->rgba_bytes);
        if (!d->rgba)
            leave(d, SL_ERR_NOMEM);
    }
    return n_passes;
}

/* Where `most` more bytes of compressed pixels end. */
static size_t end_of_data(const decoder *d, size_t most)
{
    for (size_t at = SIGNATURE, bytes; at < d->data_end; at += CHUNK + bytes) {
        const size_t begin = at + 8 > d->at ? at + 8 : d->at, end = at + 8 + (bytes = sl_get_be32(d->in->data + at));
        if (!is_chunk(d->in->data + at, "IDAT") || end <= begin)
            continue;
        if (end - begin > most)
            return begin + most;
        most -= end - begin;
    }
    return d->in->length;
}

/* With the last row the codec unpacks whatever comes behind it, only to throw it away: perhaps a bomb. Deflate makes no row twice as long; and the codec reads ahead. */
static void limit_last_row(decoder *d)
{
    enum { READ_AHEAD = 16384 };
    d->end = end_of_data(d, READ_AHEAD + 2 * d->row_bytes);
}

/* Runs between set and longjmp: its own variables are lost by a jump, and none of them owns anything. */
static void read_picture(decoder *d)
{
    set_up(d);
    const int n_passes = choose_form(d);
    const sl_image *image = *d->out;
    const size_t width = image->width;
    for (int pass = 0; pass < n_passes; pass++)
        for (size_t y = 0; y < image->height; y++) {
            uint8_t *rgb = image->rgb + 3 * width * y, *rgba = !d->rgba ? NULL : n_passes > 1 ? d->rgba + 4 * width * y : d->rgba;
            if (pass == n_passes - 1 && y == image->height - 1)
                limit_last_row(d);
            png_read_row(d->png, rgba ? rgba : rgb, NULL);
            if (rgba && pass == n_passes - 1)
                sl_rgba_over_white(rgb, rgba, width);
        }
    d->complete = 1;
    d->end = d->in->length;
    png_read_end(d->png, NULL);
}

/* `d` is set up by the caller and does not change here, so a jump cannot harm it. */
static void decode(decoder *d)
{
    if (!setjmp(d->escape))
        read_picture(d);
}

sl_status sl_png_decode(sl_image **out, const sl_encoded *in, uint32_t *orientation)
{
    decoder d = { .in = in, .out = out, .end = in->length, .status = SL_OK };
    SL_TRY(walk_chunks(&d, orientation));
    decode(&d);
    png_destroy_read_struct(&d.png, &d.info, NULL);
    sl_mem_pages_free(in->mem, d.rgba, d.rgba_bytes);
    return d.status;
}
