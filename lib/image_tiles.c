/* SPDX-License-Identifier: MIT */
/* image_tiles.c - a picture cut into tiles: which arrangement, which size; and a picture as one square. */
#include "image.h"
#include "image_resample.h"

#include <string.h>

/* ---- arrangement and size ---- */

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
    const uint32_t raised = value < low ? low : value;
    return raised > high ? high : raised;
}

/* In single precision: what is equal there is a tie. */
static float scale_of(const sl_tiling *t, uint32_t width, uint32_t height, uint32_t side)
{
    const float across = (float)((uint32_t)t->tiles_wide * side) / (float)width, down = (float)((uint32_t)t->tiles_high * side) / (float)height;
    return across < down ? across : down;
}

/* Those that enlarge are better than those that shrink; then the one that changes the size least; then the one with fewer tiles. */
static int is_better(float scale, int32_t area, float best, int32_t best_area)
{
    if (scale == best)
        return area < best_area;
    if ((scale >= 1) != (best >= 1))
        return scale >= 1;
    return scale >= 1 ? scale < best : scale > best;
}

static void choose_arrangement(sl_tiling *out, uint32_t width, uint32_t height, uint32_t side, uint32_t max_tiles)
{
    sl_tiling t = { 0 };
    float best = 0;
    *out = t;
    for (t.tiles_high = 1; t.tiles_high <= (int32_t)max_tiles; t.tiles_high++)
        for (t.tiles_wide = 1; t.tiles_high * t.tiles_wide <= (int32_t)max_tiles; t.tiles_wide++) {
            const float scale = scale_of(&t, width, height, side);
            t.id++;
            if (out->id && !is_better(scale, t.tiles_high * t.tiles_wide, best, out->tiles_high * out->tiles_wide))
                continue;
            best = scale;
            *out = t;
        }
}

/* floor(length * quotient), at most `most`. For a picture that is extremely long the formula gives 0; one pixel is left, since a picture has
 * some height (the reference's own resampling refuses 0). */
static int32_t shrink(uint32_t length, double quotient, uint32_t most)
{
    const uint32_t n = (uint32_t)((double)length * quotient);       /* at most 64 tiles of 32768 pixels: fits */
    return (int32_t)clamp(n, 1, most);
}

sl_status sl_tiling_choose(sl_tiling *out, uint32_t width, uint32_t height, uint32_t side, uint32_t max_tiles)
{
    if (!width || !height || width > SL_LIMIT_IMAGE_SIDE || height > SL_LIMIT_IMAGE_SIDE)
        return sl_fail(SL_ERR_ARGUMENT, "image: %u x %u pixels cannot be cut into tiles", width, height);
    if (!side || side > SL_LIMIT_IMAGE_SIDE || !max_tiles || max_tiles > SL_TILING_TILES)
        return sl_fail(SL_ERR_ARGUMENT, "image: no tiling has %u tiles of %u pixels", max_tiles, side);
    choose_arrangement(out, width, height, side, max_tiles);
    const uint32_t across = clamp(width, side, (uint32_t)out->tiles_wide * side), down = clamp(height, side, (uint32_t)out->tiles_high * side);
    const double by_width = (double)across / (double)width, by_height = (double)down / (double)height;
    if (by_width < by_height) {
        out->width = (int32_t)across;
        out->height = shrink(height, by_width, down);
    } else {
        out->width = shrink(width, by_height, across);
        out->height = (int32_t)down;
    }
    return SL_OK;
}

/* ---- tiles ---- */

typedef struct cutter {
    const sl_image *image;
    const sl_tiling *tiling;
    uint32_t side;
    sl_axis across, down;   /* empty where the size stays */
    uint8_t *narrowed;      /* [image->height][tiling->width][3]; NULL if the width stays */
    uint8_t *row;           /* [tiling->width][3]; NULL if the height stays */
    int32_t *sums;          /* the same number */
    float *values;          /* [3][256]: what a byte is after normalising */
} cutter;

/* [3][256]: what the bytes of each channel are after normalising; NULL: no memory. */
static float *values_make(const sl_mem *mem, const float mean[3], const float deviation[3])
{
    float *values = sl_mem_alloc(mem, 3 * 256, sizeof *values);
    for (int i = 0; values && i < 3 * 256; i++)
        values[i] = ((float)(i % 256) / 255.0f - mean[i / 256]) / deviation[i / 256];
    return values;
}

static sl_status prepare(cutter *c, const float mean[3], const float deviation[3])
{
    const sl_mem *mem = &c->image->mem;
    const uint32_t width = (uint32_t)c->tiling->width, height = (uint32_t)c->tiling->height, in_width = c->image->width, in_height = c->image->height;
    size_t rows;
    if (sl_mul(in_height, 3 * (size_t)width, &rows))
        return sl_fail(SL_ERR_OVERFLOW, "image: %u x %u pixels do not fit the address space", width, in_height);
    if (width != in_width) {
        SL_TRY(sl_axis_make(&c->across, mem, &sl_filter_bilinear, in_width, width));
        if (!(c->narrowed = sl_mem_alloc(mem, rows, 1)))
            return SL_ERR_NOMEM;
    }
    if (height != in_height) {
        SL_TRY(sl_axis_make(&c->down, mem, &sl_filter_bilinear, in_height, height));
        c->row = sl_mem_alloc(mem, 3 * (size_t)width, 1);
        c->sums = sl_mem_alloc(mem, 3 * (size_t)width, sizeof *c->sums);
        if (!c->row || !c->sums)
            return SL_ERR_NOMEM;
    }
    return (c->values = values_make(mem, mean, deviation)) ? SL_OK : SL_ERR_NOMEM;
}

static void clean(cutter *c)
{
    const sl_mem *mem = &c->image->mem;
    sl_axis_free(&c->across, mem);
    sl_axis_free(&c->down, mem);
    sl_mem_free(mem, c->narrowed);
    sl_mem_free(mem, c->row);
    sl_mem_free(mem, c->sums);
    sl_mem_free(mem, c->values);
}

/* Row `y` of the tiles from its pixels; NULL: all black. */
static void write_row(const cutter *c, uint32_t y, const uint8_t *row, float *out)
{
    const size_t side = c->side, first_tile = (size_t)(y / c->side) * (size_t)c->tiling->tiles_wide;
    const uint32_t width = row ? (uint32_t)c->tiling->width : 0;
    for (size_t tile = 0; tile < (size_t)c->tiling->tiles_wide; tile++) {
        const size_t begin = tile * side, full = width <= begin ? 0 : width - begin < side ? width - begin : side;
        for (size_t channel = 0; channel < 3; channel++) {
            const float *values = c->values + channel * 256;
            float *to = out + (((first_tile + tile) * 3 + channel) * side + y % c->side) * side;
            for (size_t x = 0; x < full; x++)
                to[x] = values[row[3 * (begin + x) + channel]];
            for (size_t x = full; x < side; x++)
                to[x] = values[0];
        }
    }
}

static void cut(cutter *c, float *out)
{
    const uint32_t width = (uint32_t)c->tiling->width, height = (uint32_t)c->tiling->height, rows = (uint32_t)c->tiling->tiles_high * c->side;
    const size_t bytes = 3 * (size_t)width, in_bytes = 3 * (size_t)c->image->width;
    const uint8_t *from = c->image->rgb;
    if (c->narrowed) {
        for (size_t y = 0; y < c->image->height; y++)
            sl_resample_row(c->narrowed + y * bytes, from + y * in_bytes, &c->across, width);
        from = c->narrowed;
    }
    for (uint32_t y = 0; y < rows; y++) {
        const uint8_t *row = y < height ? from + y * bytes : NULL;
        if (y < height && c->row) {
            sl_resample_column(c->row, c->sums, from, 0, c->image->height, NULL, &c->down, &c->down.taps[y], bytes);
            row = c->row;
        }
        write_row(c, y, row, out);
    }
}

static int fits(const sl_tiling *t, uint32_t side)
{
    if (!side || side > SL_LIMIT_IMAGE_SIDE || t->tiles_high < 1 || t->tiles_wide < 1 || t->tiles_high > SL_TILING_TILES || t->tiles_wide > SL_TILING_TILES)
        return 0;
    return t->width >= 1 && t->height >= 1 && t->width <= t->tiles_wide * (int32_t)side && t->height <= t->tiles_high * (int32_t)side;
}

sl_status sl_image_tiles(const sl_image *image, const sl_tiling *tiling, uint32_t side, const float mean[3], const float deviation[3], float *out)
{
    if (!fits(tiling, side))
        return sl_fail(SL_ERR_ARGUMENT, "image: %d x %d pixels do not lie in %d x %d tiles of %u pixels", tiling->width, tiling->height, tiling->tiles_wide,
                       tiling->tiles_high, side);
    cutter c = { .image = image, .tiling = tiling, .side = side };
    const sl_status status = prepare(&c, mean, deviation);
    if (status == SL_OK)
        cut(&c, out);
    clean(&c);
    return status;
}

/* ---- one square ---- */

/* The picture in the middle of a square as wide as its longer side, on a ground of one colour. The square is never stored: only the rows of the picture are, once they are
 * as wide as the result, and one row of the ground. */
typedef struct square {
    uint32_t side;              /* of the square, before it is resized */
    uint32_t left, top;         /* where the picture begins in it */
    uint32_t to;                /* side of the result */
    sl_axis axis;               /* empty where the size stays; the same down as across */
    uint8_t *wide;              /* [side][3]: a row of the square */
    uint8_t *rows;              /* [image->height][to][3] */
    uint8_t *ground, *row;      /* [to][3] */
    int32_t *sums;              /* [3 * to] */
    float *values;
} square;

static sl_status square_prepare(square *s, const sl_image *image, uint32_t to, const float mean[3], const float deviation[3])
{
    const sl_mem *mem = &image->mem;
    size_t rows;
    s->side = image->width > image->height ? image->width : image->height;
    s->left = (s->side - image->width) / 2, s->top = (s->side - image->height) / 2, s->to = to;
    if (sl_mul(image->height, 3 * (size_t)to, &rows))
        return sl_fail(SL_ERR_OVERFLOW, "image: %u x %u pixels do not fit the address space", to, image->height);
    if (s->side != to)
        SL_TRY(sl_axis_make(&s->axis, mem, &sl_filter_bicubic, s->side, to));
    s->wide = sl_mem_alloc(mem, s->side, 3);
    s->rows = sl_mem_alloc(mem, rows, 1);
    s->ground = sl_mem_alloc(mem, to, 3), s->row = sl_mem_alloc(mem, to, 3);
    s->sums = sl_mem_alloc(mem, to, 3 * sizeof *s->sums);
    s->values = values_make(mem, mean, deviation);
    return s->wide && s->rows && s->ground && s->row && s->sums && s->values ? SL_OK : SL_ERR_NOMEM;
}

static void square_clean(square *s, const sl_mem *mem)
{
    sl_axis_free(&s->axis, mem);
    sl_mem_free(mem, s->wide);
    sl_mem_free(mem, s->rows);
    sl_mem_free(mem, s->ground);
    sl_mem_free(mem, s->row);
    sl_mem_free(mem, s->sums);
    sl_mem_free(mem, s->values);
}

/* A row of the square as wide as the result. */
static void narrow(const square *s, uint8_t *out)
{
    if (s->axis.taps)
        sl_resample_row(out, s->wide, &s->axis, s->to);
    else
        memcpy(out, s->wide, 3 * (size_t)s->to);
}

static void square_fill(square *s, const sl_image *image, const uint8_t colour[3], float *out)
{
    const size_t bytes = 3 * (size_t)s->to, in_bytes = 3 * (size_t)image->width;
    for (size_t i = 0; i < 3 * (size_t)s->side; i++)
        s->wide[i] = colour[i % 3];
    narrow(s, s->ground);
    for (size_t y = 0; y < image->height; y++) {
        memcpy(s->wide + 3 * (size_t)s->left, image->rgb + y * in_bytes, in_bytes);
        narrow(s, s->rows + y * bytes);
    }
    for (uint32_t y = 0; y < s->to; y++) {
        const uint8_t *row = y >= s->top && y < s->top + image->height ? s->rows + (y - s->top) * bytes : s->ground;
        if (s->axis.taps) {
            sl_resample_column(s->row, s->sums, s->rows, s->top, s->top + image->height, s->ground, &s->axis, &s->axis.taps[y], bytes);
            row = s->row;
        }
        for (size_t channel = 0; channel < 3; channel++)
            for (size_t x = 0; x < s->to; x++)
                out[(channel * s->to + y) * s->to + x] = s->values[channel * 256 + row[3 * x + channel]];
    }
}

sl_status sl_image_square(const sl_image *image, uint32_t side, const uint8_t colour[3], const float mean[3], const float deviation[3], float *out)
{
    if (!side || side > SL_LIMIT_IMAGE_SIDE)
        return sl_fail(SL_ERR_ARGUMENT, "image: no square has %u pixels a side", side);
    square s = { 0 };
    const sl_status status = square_prepare(&s, image, side, mean, deviation);
    if (status == SL_OK)
        square_fill(&s, image, colour, out);
    square_clean(&s, &image->mem);
    return status;
}
