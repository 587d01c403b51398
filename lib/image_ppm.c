/* SPDX-License-Identifier: MIT */
/* image_ppm.c - portable pixel maps, P6: a header of numbers, then samples of 8 or 16 bits, the high byte first. */
#include "image_codec.h"

#include <string.h>

typedef struct cursor {
    const uint8_t *data;
    size_t at, length;
} cursor;

static int is_space(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

/* A number after white space and comments, which reach from # to the end of the line. */
static sl_status read_number(cursor *c, const char *what, uint32_t *out)
{
    const size_t begin = c->at;
    while (c->at < c->length && (is_space(c->data[c->at]) || c->data[c->at] == '#'))
        if (c->data[c->at++] == '#')
            while (c->at < c->length && c->data[c->at] != '\n')
                c->at++;
    const size_t first = c->at;
    uint32_t value = 0;
    while (c->at < c->length && c->data[c->at] >= '0' && c->data[c->at] <= '9') {
        value = value * 10 + (uint32_t)(c->data[c->at++] - '0');
        if (value > 1u << 28)
            return sl_fail(SL_ERR_LIMIT, "%s: a number of more than 2^28", what);
    }
    if (c->at == c->length)
        return sl_fail(SL_ERR_TRUNCATED, "the header ends at byte %zu", c->length);
    if (first == begin || c->at == first)
        return sl_fail(SL_ERR_SYNTAX, "%s: no number at byte %zu", what, first);
    *out = value;
    return SL_OK;
}

static uint32_t sample(const uint8_t *from, size_t i, int wide) { return wide ? sl_get_be16(from + 2 * i) : from[i]; }

static sl_status fill(sl_image *image, const uint8_t *from, uint32_t most)
{
    const size_t n = 3 * (size_t)image->width * image->height;
    const int wide = most > 255;
    if (most == 255) {
        memcpy(image->rgb, from, n);
        return SL_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const uint32_t value = sample(from, i, wide);
        if (value > most)
            return sl_fail(SL_ERR_SYNTAX, "a sample of %u, the largest is %u", value, most);
        image->rgb[i] = (uint8_t)((value * 255 + most / 2) / most);
    }
    return SL_OK;
}

sl_status sl_ppm_decode(sl_image **out, const sl_encoded *in, uint32_t *orientation)
{
    cursor c = { in->data, 2, in->length };
    uint32_t width, height, most;
    (void)orientation;
    SL_TRY(read_number(&c, "width", &width));
    SL_TRY(read_number(&c, "height", &height));
    SL_TRY(read_number(&c, "largest sample", &most));
    if (!most || most > 65535)
        return sl_fail(SL_ERR_SYNTAX, "largest sample: %u", most);
    if (!is_space(c.data[c.at++]))      /* one, and then the samples */
        return sl_fail(SL_ERR_SYNTAX, "no white space behind the header");
    SL_TRY(sl_image_check(width, height));
    const size_t need = (size_t)width * height * (most > 255 ? 6 : 3);      /* at most 6 * 64 Mi */
    if (need > in->length - c.at)
        return sl_fail(SL_ERR_TRUNCATED, "%u x %u pixels are %zu bytes, there are %zu", width, height, need, in->length - c.at);
    SL_TRY(sl_image_create(out, in->mem, width, height));
    return fill(*out, in->data + c.at, most);
}
