/* SPDX-License-Identifier: MIT */
/* image_bmp.c - Windows bitmaps without compression: 1, 4 and 8 bits with a palette, 16 and 32 with masks, 24. Run lengths and embedded files are refused. */
#include "image_codec.h"

#include <string.h>

enum {
    FILE_HEADER = 14, CORE_HEADER = 12, INFO_HEADER = 40, MASKED_HEADER = 52, ALPHA_HEADER = 56, MOST_HEADER = 124,
    NO_COMPRESSION = 0, MASKS = 3, MASKS_WITH_ALPHA = 6,        /* compression */
};

/* A colour or alpha within a pixel. */
typedef struct channel {
    uint32_t shift, most;       /* most: all of its bits set; 0: there are none */
} channel;

typedef struct bitmap {
    uint32_t width, height, bits, compression, header_bytes;
    int from_top;
    channel channels[4];        /* R, G, B, A */
    const uint8_t *palette;     /* [n_palette][palette_step]: B, G, R */
    uint32_t n_palette, palette_step;
    size_t pixels;              /* offset */
} bitmap;

static sl_status read_size(bitmap *b, const sl_encoded *in)
{
    const uint8_t *h = in->data + FILE_HEADER;
    if (b->header_bytes == CORE_HEADER) {
        b->width = sl_get_le16(h + 4);
        b->height = sl_get_le16(h + 6);
        b->bits = sl_get_le16(h + 10);
        b->palette_step = 3;
        return sl_image_check(b->width, b->height);
    }
    const uint32_t width = sl_get_le32(h + 4), height = sl_get_le32(h + 8);
    b->from_top = height >> 31;         /* a negative height */
    b->width = width;
    b->height = b->from_top ? 0 - height : height;
    b->bits = sl_get_le16(h + 14);
    b->compression = sl_get_le32(h + 16);
    b->n_palette = sl_get_le32(h + 32);
    b->palette_step = 4;
    return sl_image_check(b->width, b->height);
}

/* A mask is one run of ones, or nothing. */
static sl_status read_mask(channel *c, uint32_t mask, uint32_t bits)
{
    *c = (channel) { 0, mask };
    if (!mask)
        return SL_OK;
    while (!(c->most & 1)) {
        c->most >>= 1;
        c->shift++;
    }
    if ((c->most & (c->most + 1)) || (bits < 32 && mask >> bits))
        return sl_fail(SL_ERR_SYNTAX, "the mask 0x%08x in pixels of %u bits", mask, bits);
    return SL_OK;
}

/* They stand in the header, or behind the shortest one. */
static sl_status read_masks(bitmap *b, const sl_encoded *in, size_t *end)
{
    static const uint32_t usual[2][3] = { { 0x7c00, 0x3e0, 0x1f }, { 0xff0000, 0xff00, 0xff } };
    const int alpha = b->compression == MASKS_WITH_ALPHA || b->header_bytes >= ALPHA_HEADER, outside = b->header_bytes < MASKED_HEADER;
    const uint32_t n = alpha ? 4 : 3, at = FILE_HEADER + INFO_HEADER;
    if (b->compression == NO_COMPRESSION) {
        for (int i = 0; i < 3; i++)
            SL_TRY(read_mask(&b->channels[i], usual[b->bits == 32][i], b->bits));
        return SL_OK;
    }
    if (in->length < at + 4 * n)
        return sl_fail(SL_ERR_TRUNCATED, "it ends in its masks");
    for (uint32_t i = 0; i < n; i++)
        SL_TRY(read_mask(&b->channels[i], sl_get_le32(in->data + at + 4 * i), b->bits));
    if (!b->channels[0].most || !b->channels[1].most || !b->channels[2].most)
        return sl_fail(SL_ERR_SYNTAX, "a colour has no mask");
    *end = outside ? at + 4 * n : *end;
    return SL_OK;
}

static sl_status read_palette(bitmap *b, const sl_encoded *in, size_t at)
{
    const uint32_t most = 1u << b->bits;
    if (b->n_palette > most)
        return sl_fail(SL_ERR_SYNTAX, "a palette of %u colours for pixels of %u bits", b->n_palette, b->bits);
    if (!b->n_palette)
        b->n_palette = most;
    if ((size_t)b->n_palette * b->palette_step > in->length - at)
        return sl_fail(SL_ERR_TRUNCATED, "it ends in its palette");
    b->palette = in->data + at;
    return SL_OK;
}

static sl_status read_header(bitmap *b, const sl_encoded *in)
{
    if (in->length < FILE_HEADER + 4)
        return sl_fail(SL_ERR_TRUNCATED, "it ends in its header");
    const uint32_t bytes = b->header_bytes = sl_get_le32(in->data + FILE_HEADER);
    size_t end = FILE_HEADER + (size_t)bytes;
    if (bytes != CORE_HEADER && (bytes < INFO_HEADER || bytes > MOST_HEADER))
        return sl_fail(SL_ERR_UNSUPPORTED, "a header of %u bytes", bytes);
    if (in->length < end)
        return sl_fail(SL_ERR_TRUNCATED, "it ends in its header");
    SL_TRY(read_size(b, in));
    const uint32_t bits = b->bits;
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32)
        return sl_fail(SL_ERR_UNSUPPORTED, "pixels of %u bits", bits);
    const int masked = b->compression == MASKS || b->compression == MASKS_WITH_ALPHA;
    if (b->compression != NO_COMPRESSION && !(masked && (bits == 16 || bits == 32)))
        return sl_fail(SL_ERR_UNSUPPORTED, "compression %u of pixels of %u bits", b->compression, bits);
    if (bits <= 8)
        SL_TRY(read_palette(b, in, end));
    else if (bits != 24)
        SL_TRY(read_masks(b, in, &end));
    b->pixels = sl_get_le32(in->data + 10);
    if (b->pixels < end)
        return sl_fail(SL_ERR_SYNTAX, "the pixels begin at byte %zu, inside the header", b->pixels);
    return SL_OK;
}

static uint8_t scaled(const channel *c, uint32_t pixel)
{
    return (uint8_t)(((uint64_t)(pixel >> c->shift & c->most) * 255 + c->most / 2) / c->most);
}

/* Masked pixels, 16 or 32 bits. */
static void fill_masked(uint8_t *out, const uint8_t *row, const bitmap *b)
{
    for (uint32_t x = 0; x < b->width; x++, out += 3) {
        const uint32_t pixel = b->bits == 16 ? sl_get_le16(row + 2 * (size_t)x) : sl_get_le32(row + 4 * (size_t)x);
        const uint8_t rgba[4] = { scaled(&b->channels[0], pixel), scaled(&b->channels[1], pixel), scaled(&b->channels[2], pixel),
                                  b->channels[3].most ? scaled(&b->channels[3], pixel) : 255 };
        sl_rgba_over_white(out, rgba, 1);
    }
}

static sl_status fill_palette(uint8_t *out, const uint8_t *row, const bitmap *b)
{
    const uint32_t per_byte = 8 / b->bits, mask = (1u << b->bits) - 1;
    for (uint32_t x = 0; x < b->width; x++, out += 3) {
        const uint32_t index = (uint32_t)row[x / per_byte] >> (8 - b->bits * (x % per_byte + 1)) & mask;
        if (index >= b->n_palette)
            return sl_fail(SL_ERR_SYNTAX, "colour %u of a palette of %u", index, b->n_palette);
        const uint8_t *colour = b->palette + (size_t)index * b->palette_step;
        out[0] = colour[2], out[1] = colour[1], out[2] = colour[0];
    }
    return SL_OK;
}

static sl_status fill_row(uint8_t *out, const uint8_t *row, const bitmap *b)
{
    if (b->bits <= 8)
        return fill_palette(out, row, b);
    if (b->bits == 24)
        for (uint32_t x = 0; x < b->width; x++, out += 3, row += 3)
            out[0] = row[2], out[1] = row[1], out[2] = row[0];
    else
        fill_masked(out, row, b);
    return SL_OK;
}

sl_status sl_bmp_decode(sl_image **out, const sl_encoded *in, uint32_t *orientation)
{
    bitmap b = { 0 };
    (void)orientation;
    SL_TRY(read_header(&b, in));
    const size_t row = ((size_t)b.width * b.bits + 31) / 32 * 4, need = row * b.height;       /* within the limits: at most 4 bytes a pixel and 3 a row more */
    if (b.pixels > in->length || need > in->length - b.pixels)
        return sl_fail(SL_ERR_TRUNCATED, "%u x %u pixels are %zu bytes from byte %zu, there are %zu in all", b.width, b.height, need, b.pixels, in->length);
    SL_TRY(sl_image_create(out, in->mem, b.width, b.height));
    for (uint32_t y = 0; y < b.height; y++)
        SL_TRY(fill_row((*out)->rgb + 3 * (size_t)b.width * y, in->data + b.pixels + row * (b.from_top ? y : b.height - 1 - y), &b));
    return SL_OK;
}
