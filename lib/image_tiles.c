/* SPDX-License-Identifier: MIT */
/* image_tiles.c - a picture cut into tiles: which arrangement, which size, and the resampling, which gives the same bytes on every machine. */
#include "image.h"

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

/* ---- resampling: 8 bits, along x first, as the references do it (Pillow up to 10; 13 takes the other axis first for some sizes, which
 * changes a byte by 1 here and there) ---- */

enum { WEIGHT_BITS = 22, WEIGHT_HALF = 1 << (WEIGHT_BITS - 1) };

/* What one output pixel of an axis is made of: weights[at .. at + n) for the input pixels first .. first + n. */
typedef struct tap {
    uint32_t first, n;
    size_t at;
} tap;

typedef struct axis {
    tap *taps;              /* [out] */
    int32_t *weights;       /* in 1 / 2^22; those of one output pixel sum to about 2^22 */
} axis;

static void axis_free(axis *a, const sl_mem *mem)
{
    sl_mem_free(mem, a->taps);
    sl_mem_free(mem, a->weights);
}

static double triangle(double distance)
{
    const double d = distance < 0 ? -distance : distance;
    return d < 1 ? 1 - d : 0;
}

/* A triangle filter, as wide as one output pixel where the picture shrinks. Weights are made in double precision, normalised, then rounded. */
static void fill_taps(axis *a, uint32_t in, uint32_t out)
{
    const double scale = (double)in / (double)out, reach = scale < 1 ? 1 : scale, per_pixel = 1 / reach;
    size_t at = 0;
    for (uint32_t i = 0; i < out; i++) {
        const double center = (i + 0.5) * scale, from = center - reach + 0.5, to = center + reach + 0.5;
        const uint32_t first = from > 0 ? (uint32_t)from : 0, end = to < in ? (uint32_t)to : in;
        double sum = 0;
        for (uint32_t x = first; x < end; x++)
            sum += triangle((x - center + 0.5) * per_pixel);
        a->taps[i] = (tap) { first, end - first, at };
        for (uint32_t x = first; x < end; x++)
            a->weights[at++] = (int32_t)(triangle((x - center + 0.5) * per_pixel) / sum * (1 << WEIGHT_BITS) + 0.5);
    }
}

/* Every output pixel has at most 2 * reach + 1 input pixels, and reach is at most 1 + in / out: in sum 2 in + 3 out. */
static sl_status axis_make(axis *a, const sl_mem *mem, uint32_t in, uint32_t out)
{
    a->taps = sl_mem_alloc(mem, out, sizeof *a->taps);
    a->weights = sl_mem_alloc(mem, 2 * (size_t)in + 3 * (size_t)out, sizeof *a->weights);
    if (!a->taps || !a->weights)
        return SL_ERR_NOMEM;
    fill_taps(a, in, out);
    return SL_OK;
}

static uint8_t round_pixel(int32_t sum)
{
    const int32_t p = (sum + WEIGHT_HALF) >> WEIGHT_BITS;      /* never below 0: no weight is */
    return (uint8_t)(p > 255 ? 255 : p);
}

/* One row: in [..][3] -> out [width][3]. */
static void resample_row(uint8_t *out, const uint8_t *in, const axis *a, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++) {
        const tap *t = &a->taps[i];
        const uint8_t *p = in + 3 * (size_t)t->first;
        const int32_t *q = a->weights + t->at;
        int32_t r = 0, g = 0, b = 0;
        for (uint32_t k = 0; k < t->n; k++, p += 3) {
            r += q[k] * p[0];
            g += q[k] * p[1];
            b += q[k] * p[2];
        }
        out[3 * (size_t)i] = round_pixel(r);
        out[3 * (size_t)i + 1] = round_pixel(g);
        out[3 * (size_t)i + 2] = round_pixel(b);
    }
}

/* Output row `t` from rows of `bytes` bytes; sums: [bytes]. */
static void resample_column(uint8_t *out, int32_t *sums, const uint8_t *in, const axis *a, const tap *t, size_t bytes)
{
    memset(sums, 0, bytes * sizeof *sums);
    for (uint32_t k = 0; k < t->n; k++) {
        const int32_t q = a->weights[t->at + k];
        const uint8_t *row = in + (t->first + k) * bytes;
        for (size_t x = 0; x < bytes; x++)
            sums[x] += q * row[x];
    }
    for (size_t x = 0; x < bytes; x++)
        out[x] = round_pixel(sums[x]);
}

/* ---- tiles ---- */

typedef struct cutter {
    const sl_image *image;
    const sl_tiling *tiling;
    uint32_t side;
    axis across, down;      /* empty where the size stays */
    uint8_t *narrowed;      /* [image->height][tiling->width][3]; NULL if the width stays */
    uint8_t *row;           /* [tiling->width][3]; NULL if the height stays */
    int32_t *sums;          /* the same number */
    float *values;          /* [3][256]: what a byte is after normalising */
} cutter;

static sl_status prepare(cutter *c, const float mean[3], const float deviation[3])
{
    const sl_mem *mem = &c->image->mem;
    const uint32_t width = (uint32_t)c->tiling->width, height = (uint32_t)c->tiling->height, in_width = c->image->width, in_height = c->image->height;
    size_t rows;
    if (sl_mul(in_height, 3 * (size_t)width, &rows))
        return sl_fail(SL_ERR_OVERFLOW, "image: %u x %u pixels do not fit the address space", width, in_height);
    if (width != in_width) {
        SL_TRY(axis_make(&c->across, mem, in_width, width));
        if (!(c->narrowed = sl_mem_alloc(mem, rows, 1)))
            return SL_ERR_NOMEM;
    }
    if (height != in_height) {
        SL_TRY(axis_make(&c->down, mem, in_height, height));
        c->row = sl_mem_alloc(mem, 3 * (size_t)width, 1);
        c->sums = sl_mem_alloc(mem, 3 * (size_t)width, sizeof *c->sums);
        if (!c->row || !c->sums)
            return SL_ERR_NOMEM;
    }
    if (!(c->values = sl_mem_alloc(mem, 3 * 256, sizeof *c->values)))
        return SL_ERR_NOMEM;
    for (int channel = 0; channel < 3; channel++)
        for (int p = 0; p < 256; p++)
            c->values[channel * 256 + p] = ((float)p / 255.0f - mean[channel]) / deviation[channel];
    return SL_OK;
}

static void clean(cutter *c)
{
    const sl_mem *mem = &c->image->mem;
    axis_free(&c->across, mem);
    axis_free(&c->down, mem);
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
            resample_row(c->narrowed + y * bytes, from + y * in_bytes, &c->across, width);
        from = c->narrowed;
    }
    for (uint32_t y = 0; y < rows; y++) {
        const uint8_t *row = y < height ? from + y * bytes : NULL;
        if (y < height && c->row) {
            resample_column(c->row, c->sums, from, &c->down, &c->down.taps[y], bytes);
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
