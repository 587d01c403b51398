/* SPDX-License-Identifier: MIT */
/* image_resample.h - pictures of another size: filters and rows in integers, the same bytes on every machine. 8 bits, along x first, as the references do it (Pillow up
 * to 10; 13 takes the other axis first for some sizes, which changes a byte by 1 here and there). */
#ifndef SL_IMAGE_RESAMPLE_H
#define SL_IMAGE_RESAMPLE_H

#include "mem.h"

/* A weight of the distance from an output pixel's centre, and how far it reaches, in pixels. */
typedef struct sl_filter { double (*weight)(double distance); double reach; } sl_filter;
extern const sl_filter sl_filter_bilinear;      /* a triangle */
extern const sl_filter sl_filter_bicubic;       /* Keys' cubic, a = -1/2 */

/* What one output pixel of an axis is made of: weights[at .. at + n) for the input pixels first .. first + n. */
typedef struct sl_tap {
    uint32_t first, n;
    size_t at;
} sl_tap;

typedef struct sl_axis {
    sl_tap *taps;           /* [out] */
    int32_t *weights;       /* in 1 / 2^22; those of one output pixel sum to about 2^22 */
} sl_axis;

/* in, out: pixels, at least 1. What was made is to be freed, after a failure too. */
sl_status sl_axis_make(sl_axis *axis, const sl_mem *mem, const sl_filter *filter, uint32_t in, uint32_t out);
void sl_axis_free(sl_axis *axis, const sl_mem *mem);
/* One row: in [..][3] -> out [width][3]. */
void sl_resample_row(uint8_t *out, const uint8_t *in, const sl_axis *axis, uint32_t width);
/* Output row `tap` of `bytes` bytes: the rows from `first` to before `end` lie one after the other at `in`, all others are `beyond` (which may be NULL if the tap meets none).
 * sums: [bytes], scribbled on. */
void sl_resample_column(uint8_t *out, int32_t *sums, const uint8_t *in, uint32_t first, uint32_t end, const uint8_t *beyond, const sl_axis *axis, const sl_tap *tap, size_t bytes);

#endif
