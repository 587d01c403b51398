/* SPDX-License-Identifier: MIT */
/* image.c - pictures: the table of formats, limits, orientation, transparency, and the exported functions. Each format has a file of its own. */
#include "image_codec.h"
#include "params.h"
#include "platform.h"
#include "rows.h"

#include <string.h>

/* ---- formats ---- */

/* A row that has no decoder is a format that is recognised, so that its refusal can name it. */
typedef struct format {
    const char *name;
    size_t at;                  /* where its mark stands */
    const char *mark;
    size_t n_mark;
    const char *mark2;          /* a second one, at byte 8; or NULL */
    sl_image_decoder *decode;
} format;

static const format formats[] = {
    { "jpeg", 0, "\xff\xd8\xff", 3, NULL, SL_ROW(IMAGE_JPEG, sl_jpeg_decode) },
    { "png", 0, "\x89PNG\r\n\x1a\n", 8, NULL, SL_ROW(IMAGE_PNG, sl_png_decode) },
    { "webp", 0, "RIFF", 4, "WEBP", SL_ROW(IMAGE_WEBP, sl_webp_decode) },
    { "bmp", 0, "BM", 2, NULL, SL_ROW(IMAGE_BMP, sl_bmp_decode) },
    { "ppm", 0, "P6", 2, NULL, SL_ROW(IMAGE_PPM, sl_ppm_decode) },
    { "gif", 0, "GIF8", 4, NULL, NULL },
    { "tiff", 0, "II*\0", 4, NULL, NULL },
    { "tiff", 0, "MM\0*", 4, NULL, NULL },
    { "heif", 4, "ftyp", 4, "heic", NULL },
    { "heif", 4, "ftyp", 4, "mif1", NULL },
    { "avif", 4, "ftyp", 4, "avif", NULL },
    { "pnm", 0, "P1", 2, NULL, NULL },
    { "pnm", 0, "P2", 2, NULL, NULL },
    { "pnm", 0, "P3", 2, NULL, NULL },
    { "pnm", 0, "P4", 2, NULL, NULL },
    { "pnm", 0, "P5", 2, NULL, NULL },
    { "pam", 0, "P7", 2, NULL, NULL },
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

const char *sl_image_format(size_t index)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (formats[i].decode && !index--)
            return formats[i].name;
    return NULL;
}

static int has_mark(const format *f, const sl_encoded *in)
{
    if (in->length < f->at + f->n_mark || memcmp(in->data + f->at, f->mark, f->n_mark))
        return 0;
    return !f->mark2 || (in->length >= 12 && !memcmp(in->data + 8, f->mark2, 4));
}

/* ---- pixels ---- */

sl_status sl_image_check(uint32_t width, uint32_t height)
{
    if (!width || !height)
        return sl_fail(SL_ERR_SYNTAX, "a picture of %u x %u pixels", width, height);
    if (width > SL_LIMIT_IMAGE_SIDE || height > SL_LIMIT_IMAGE_SIDE)
        return sl_fail(SL_ERR_LIMIT, "%u x %u pixels, the limit of a side is %d", width, height, SL_LIMIT_IMAGE_SIDE);
    if ((uint64_t)width * height > SL_LIMIT_IMAGE_PIXELS)
        return sl_fail(SL_ERR_LIMIT, "%u x %u pixels, the limit is %d in all", width, height, SL_LIMIT_IMAGE_PIXELS);
    return SL_OK;
}

sl_status sl_image_create(sl_image **out, const sl_mem *mem, uint32_t width, uint32_t height)
{
    *out = NULL;
    SL_TRY(sl_image_check(width, height));
    sl_image *image = sl_mem_alloc(mem, 1, sizeof *image);
    if (!image)
        return SL_ERR_NOMEM;
    *image = (sl_image) { *mem, width, height, sl_mem_pages(mem, 3 * (size_t)width * height) };
    if (!image->rgb) {
        sl_mem_free(mem, image);
        return SL_ERR_NOMEM;
    }
    *out = image;
    return SL_OK;
}

void sl_image_free(sl_image *image)
{
    if (!image)
        return;
    const sl_mem mem = image->mem;
    sl_mem_pages_free(&mem, image->rgb, 3 * (size_t)image->width * image->height);
    sl_mem_free(&mem, image);
}

void sl_rgba_over_white(uint8_t *rgb, const uint8_t *rgba, size_t n)
{
    for (size_t i = 0; i < n; i++, rgb += 3, rgba += 4)
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)((rgba[c] * rgba[3] + 255 * (255 - rgba[3]) + 127) / 255);
}

/* Where the pixels of the upright picture come from. `turned`: its rows are columns of the stored one; then x and y are flipped as numbered there. */
static const struct { uint8_t turned, flip_x, flip_y; } orientations[9] = {
    [2] = { 0, 1, 0 }, [3] = { 0, 1, 1 }, [4] = { 0, 0, 1 }, [5] = { 1, 0, 0 }, [6] = { 1, 0, 1 }, [7] = { 1, 1, 1 }, [8] = { 1, 1, 0 },
};

/* Replaces *image by the upright picture. */
static sl_status apply_orientation(sl_image **image, uint32_t orientation)
{
    if (orientation < 2 || orientation > 8)
        return SL_OK;
    const sl_image *from = *image;
    const int turned = orientations[orientation].turned, flip_x = orientations[orientation].flip_x, flip_y = orientations[orientation].flip_y;
    sl_image *to;
    SL_TRY(sl_image_create(&to, &from->mem, turned ? from->height : from->width, turned ? from->width : from->height));
    const ptrdiff_t step_x = flip_x ? -3 : 3, row = 3 * (ptrdiff_t)from->width, step_y = flip_y ? -row : row;
    const uint8_t *line = from->rgb + (flip_x ? row - 3 : 0) + (flip_y ? row * (ptrdiff_t)(from->height - 1) : 0);
    uint8_t *put = to->rgb;
    for (ptrdiff_t y = 0; y < (ptrdiff_t)to->height; y++)
        for (ptrdiff_t x = 0; x < (ptrdiff_t)to->width; x++, put += 3)
            memcpy(put, line + y * (turned ? step_x : step_y) + x * (turned ? step_y : step_x), 3);
    sl_image_free(*image);
    *image = to;
    return SL_OK;
}

/* ---- EXIF: a small TIFF file; entry 0x0112 of its first directory is the orientation ---- */

uint32_t sl_exif_orientation(const uint8_t *data, size_t length)
{
    enum { ENTRY = 12, TAG = 0x0112, SHORT = 3 };
    if (length >= 6 && !memcmp(data, "Exif\0\0", 6)) {
        data += 6;
        length -= 6;
    }
    if (length < 10 || (memcmp(data, "II*\0", 4) && memcmp(data, "MM\0*", 4)))
        return 1;
    const int little = data[0] == 'I';
    const size_t directory = little ? sl_get_le32(data + 4) : sl_get_be32(data + 4);
    if (directory > length - 2)
        return 1;
    const size_t told = little ? sl_get_le16(data + directory) : sl_get_be16(data + directory), room = (length - directory - 2) / ENTRY, n = told < room ? told : room;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *entry = data + directory + 2 + i * ENTRY;
        if ((little ? sl_get_le16(entry) : sl_get_be16(entry)) != TAG || (little ? sl_get_le16(entry + 2) : sl_get_be16(entry + 2)) != SHORT)
            continue;
        const uint32_t orientation = little ? sl_get_le16(entry + 8) : sl_get_be16(entry + 8);
        return orientation >= 1 && orientation <= 8 ? orientation : 1;
    }
    return 1;
}

/* ---- the interface ---- */

static sl_status decode(sl_image **out, const sl_encoded *in)
{
    if (in->length > SL_LIMIT_IMAGE_BYTES)
        return sl_fail(SL_ERR_LIMIT, "%zu bytes, the limit is %d", in->length, SL_LIMIT_IMAGE_BYTES);
    if (!in->length)
        return sl_fail(SL_ERR_TRUNCATED, "no bytes");
    const format *f = formats;
    while (f < formats + N_FORMATS && !has_mark(f, in))
        f++;
    if (f == formats + N_FORMATS)
        return sl_fail(SL_ERR_MAGIC, "not a picture of a known format");
    if (!f->decode)
        return sl_fail(SL_ERR_UNSUPPORTED, "%s: this build does not read it", f->name);
    uint32_t orientation = 1;
    sl_status status = sl_fail_in(f->decode(out, in, &orientation), f->name);
    if (status == SL_OK)
        status = apply_orientation(out, orientation);
    if (status != SL_OK) {
        sl_image_free(*out);
        *out = NULL;
    }
    return status;
}

sl_status sl_image_decode(sl_image **out, const void *data, size_t length, const sl_allocator *allocator)
{
    if (!out)
        return sl_fail(SL_ERR_ARGUMENT, "sl_image_decode: an argument is NULL");
    *out = NULL;
    if (!data)
        return sl_fail(SL_ERR_ARGUMENT, "sl_image_decode: an argument is NULL");
    sl_mem mem;
    SL_TRY(sl_allocator_read(&mem, allocator));
    return sl_fail_in(decode(out, &(sl_encoded) { &mem, data, length }), "image");
}

static sl_status load(sl_image **out, const sl_mem *mem, const sl_file *file)
{
    const uint64_t size = sl_file_size(file);
    size_t got;
    if (size > SL_LIMIT_IMAGE_BYTES)
        return sl_fail(SL_ERR_LIMIT, "%llu bytes, the limit is %d", (unsigned long long)size, SL_LIMIT_IMAGE_BYTES);
    uint8_t *data = sl_mem_pages(mem, (size_t)size);
    if (!data)
        return SL_ERR_NOMEM;
    sl_status status = sl_file_read(file, 0, data, (size_t)size, &got);
    if (status == SL_OK)
        status = decode(out, &(sl_encoded) { mem, data, got });
    sl_mem_pages_free(mem, data, (size_t)size);
    return status;
}

sl_status sl_image_load(sl_image **out, const char *path, const sl_allocator *allocator)
{
    if (!out)
        return sl_fail(SL_ERR_ARGUMENT, "sl_image_load: an argument is NULL");
    *out = NULL;
    if (!path)
        return sl_fail(SL_ERR_ARGUMENT, "sl_image_load: an argument is NULL");
    sl_mem mem;
    sl_file *file;
    SL_TRY(sl_allocator_read(&mem, allocator));
    SL_TRY(sl_fail_in(sl_file_open(&file, &mem, path), path));
    const sl_status status = sl_fail_in(load(out, &mem, file), path);
    sl_file_close(file, &mem);
    return status;
}

sl_status sl_image_from_rgb(sl_image **out, const uint8_t *rgb, uint32_t width, uint32_t height, size_t stride, const sl_allocator *allocator)
{
    if (!out)
        return sl_fail(SL_ERR_ARGUMENT, "sl_image_from_rgb: an argument is NULL");
    *out = NULL;
    if (!rgb || !width || !height)
        return sl_fail(SL_ERR_ARGUMENT, "sl_image_from_rgb: an argument is NULL or 0");
    const uint64_t bytes = 3 * (uint64_t)width;
    size_t span;
    if (stride && stride < bytes)
        return sl_fail(SL_ERR_ARGUMENT, "sl_image_from_rgb: rows of %u pixels do not fit a stride of %zu bytes", width, stride);
    if (stride && sl_mul(stride, height, &span))
        return sl_fail(SL_ERR_OVERFLOW, "sl_image_from_rgb: %u rows of %zu bytes do not fit the address space", height, stride);
    sl_mem mem;
    SL_TRY(sl_allocator_read(&mem, allocator));
    SL_TRY(sl_fail_in(sl_image_create(out, &mem, width, height), "sl_image_from_rgb"));
    const size_t row = 3 * (size_t)width, step = stride ? stride : row;
    for (size_t y = 0; y < height; y++)
        memcpy((*out)->rgb + y * row, rgb + y * step, row);
    return SL_OK;
}

uint32_t sl_image_width(const sl_image *image) { return image ? image->width : 0; }
uint32_t sl_image_height(const sl_image *image) { return image ? image->height : 0; }
const uint8_t *sl_image_pixels(const sl_image *image) { return image ? image->rgb : NULL; }
