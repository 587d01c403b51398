/* SPDX-License-Identifier: MIT */
/* image_resample.c - see image_resample.h. */
#include "image_resample.h"

#include <string.h>

enum { WEIGHT_BITS = 22, WEIGHT_HALF = 1 << (WEIGHT_BITS - 1) };

void sl_axis_free(sl_axis *a, const sl_mem *mem)
{
    sl_mem_free(mem, a->taps);
    sl_mem_free(mem, a->weights);
}

static double magnitude(double x) { return x < 0 ? -x : x; }

static double triangle(double distance)
{
    const double d = magnitude(distance);
    return d < 1 ? 1 - d : 0;
}

static double cubic(double distance)
{
    const double a = -0.5, d = magnitude(distance);
    if (d < 1)
        return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
}

const sl_filter sl_filter_bilinear = { triangle, 1 }, sl_filter_bicubic = { cubic, 2 };

/* The filter is widened to output pixels where the picture shrinks. Weights are made in double precision, normalised, then rounded. */
static void fill_taps(sl_axis *a, const sl_filter *filter, uint32_t in, uint32_t out)
{
    const double scale = (double)in / (double)out, wide = scale < 1 ? 1 : scale, reach = filter->reach * wide, per_pixel = 1 / wide;
    size_t at = 0;
    for (uint32_t i = 0; i < out; i++) {
        const double center = (i + 0.5) * scale, from = center - reach + 0.5, to = center + reach + 0.5;
        const uint32_t first = from > 0 ? (uint32_t)from : 0, end = to < in ? (uint32_t)to : in;
        double sum = 0;
        for (uint32_t x = first; x < end; x++)
            sum += filter->weight((x - center + 0.5) * per_pixel);
        a->taps[i] = (sl_tap) { first, end - first, at };
        for (uint32_t x = first; x < end; x++) {
            const double w = filter->weight((x - center + 0.5) * per_pixel) / sum * (1 << WEIGHT_BITS);
            a->weights[at++] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
    }
}

/* Every output pixel has at most 2 * reach + 1 input pixels, and reach is at most r (1 + in / out) with the filter's r: in sum 2 r in + (2 r + 1) out. */
sl_status sl_axis_make(sl_axis *a, const sl_mem *mem, const sl_filter *filter, uint32_t in, uint32_t out)
{
    const size_t twice = (size_t)(2 * filter->reach);
    a->taps = sl_mem_alloc(mem, out, sizeof *a->taps);
    a->weights = sl_mem_alloc(mem, twice * in + (twice + 1) * out, sizeof *a->weights);
    if (!a->taps || !a->weights)
        return SL_ERR_NOMEM;
    fill_taps(a, filter, in, out);
    return SL_OK;
}

/* Sums stay below 2^31: the weights of one pixel are at most 1.3 in magnitude. */
static uint8_t round_pixel(int32_t sum)
{
    const int32_t p = sum + WEIGHT_HALF;
    return (uint8_t)(p < 0 ? 0 : p >> WEIGHT_BITS > 255 ? 255 : p >> WEIGHT_BITS);
}

void sl_resample_row(uint8_t *out, const uint8_t *in, const sl_axis *a, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++) {
        const sl_tap *t = &a->taps[i];
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

void sl_resample_column(uint8_t *out, int32_t *sums, const uint8_t *in, uint32_t first, uint32_t end, const uint8_t *beyond, const sl_axis *a, const sl_tap *t, size_t bytes)
{
    memset(sums, 0, bytes * sizeof *sums);
    for (uint32_t k = 0; k < t->n; k++) {
        const uint32_t y = t->first + k;
        const int32_t q = a->weights[t->at + k];
        const uint8_t *row = y >= first && y < end ? in + (y - first) * bytes : beyond;
        for (size_t x = 0; x < bytes; x++)
            sums[x] += q * row[x];
    }
    for (size_t x = 0; x < bytes; x++)
        out[x] = round_pixel(sums[x]);
}
