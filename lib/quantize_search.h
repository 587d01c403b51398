/* SPDX-License-Identifier: MIT */
/* quantize_search.h - the search for scales and minima of quantized weights: weighted least squares over groups of 16 or 32 numbers, four groups beside each other.
 *
 * Lanes are groups, never parts of one sum: each group is summed in ascending order with one rounding per step (no fma), so the result is the same on every machine, whatever
 * its registers are. The vectors are those of the C compiler (GCC and clang), not of an instruction set. Used by the encoders only (quantize_32.c, quantize_256.c).
 *
 * Numbers are bounded by SL_QUANTIZE_MAX before they come here, and no weight is below 2^-10 of the largest mean: no sum overflows. */
#ifndef SL_QUANTIZE_SEARCH_H
#define SL_QUANTIZE_SEARCH_H

#include "blocks.h"

/* Levels are functions that the loops must see through, and the length of a group a number that they must know. */
#define INLINED static inline __attribute__((always_inline))

enum { LANES = 4 };
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t lane_marks __attribute__((vector_size(4 * LANES)));

INLINED lanes lanes_of(float x) { return (lanes) { x, x, x, x }; }
INLINED lanes choose(lane_marks mark, lanes yes, lanes no) { return (lanes)((mark & (lane_marks)yes) | (~mark & (lane_marks)no)); }
INLINED lanes least_of(lanes a, lanes b) { return choose(a < b, a, b); }
INLINED lanes most_of(lanes a, lanes b) { return choose(a > b, a, b); }
INLINED lanes magnitude(lanes x) { return (lanes)((lane_marks)x & 0x7fffffff); }
/* As sl_rint; what is beyond 2^22 stays beyond it. */
INLINED lanes nearest(lanes x) { return (x + 0x1.8p23f) - 0x1.8p23f; }
/* 1 / x, 0 for 0. */
INLINED lanes inverse_of(lanes x) { return (lanes)((x != 0.0f) & (lane_marks)(1.0f / x)); }

/* Four groups of n numbers x with their weights w: x[k][l] is number k of group l. */
typedef struct groups {
    lanes *x, *w;
    lanes least;                    /* taken off x already */
    lanes sum_w, sum_x;             /* weighted */
} groups;

/* Sums over a group for integers q that were chosen for it: of w q, w q q, w q x; and the error w (x - scale q - offset)^2 of the scale that chose them. */
typedef struct sums { lanes q, qq, qx, error; } sums;

/* From 4 n numbers and their weights (NULL: all 1), into memory for 2 n lanes. With `minimum` the least number of each group, or 0 if that is less and `minimum` is 2, is taken off. */
INLINED void groups_load(groups *g, lanes *memory, const float *x, const float *w, int n, int minimum)
{
    float (*to_x)[LANES] = (float (*)[LANES])memory, (*to_w)[LANES] = (float (*)[LANES])(memory + n);
    g->x = memory;
    g->w = memory + n;
    for (int l = 0; l < LANES; l++)
        for (int k = 0; k < n; k++) {
            to_x[k][l] = x[l * n + k];
            to_w[k][l] = w ? w[l * n + k] : 1.0f;
        }
    g->least = minimum == 1 ? g->x[0] : lanes_of(0.0f);
    for (int k = 0; minimum && k < n; k++)
        g->least = least_of(g->x[k], g->least);
    g->sum_w = g->sum_x = lanes_of(0.0f);
    for (int k = 0; k < n; k++) {
        g->x[k] -= g->least;
        g->sum_w += g->w[k];
        g->sum_x += g->w[k] * g->x[k];
    }
}

/* ---- levels: what a number may become ---- */

/* The level next to t. Whole numbers from low to high ... */
typedef lanes level_fn(lanes t, lanes low, lanes high);
INLINED lanes level_whole(lanes t, lanes low, lanes high) { return most_of(least_of(nearest(t), high), low); }
/* ... where t is not below low already ... */
INLINED lanes level_above(lanes t, lanes low, lanes high)
{
    (void)low;
    return least_of(nearest(t), high);
}
/* ... or the sixteen of IQ4_NL: each step is taken where t is beyond the middle between two of them. */
INLINED lanes level_table(lanes t, lanes low, lanes high)
{
    (void)high;
    lanes level = low;
    for (int i = 1; i < 16; i++) {
        const float below = sl_grid_iq4nl[i - 1], above = sl_grid_iq4nl[i];
        level += (lanes)((t > 0.5f * (below + above)) & (lane_marks)lanes_of(above - below));
    }
    return level;
}

/* For the q that an inverse scale chooses. */
INLINED sums sum_levels(const groups *g, int n, level_fn *level, lanes inverse, lanes low, lanes high)
{
    sums s = { lanes_of(0.0f), lanes_of(0.0f), lanes_of(0.0f), lanes_of(0.0f) };
    for (int k = 0; k < n; k++) {
        const lanes q = level(g->x[k] * inverse, low, high), wq = g->w[k] * q;
        s.q += wq;
        s.qq += wq * q;
        s.qx += wq * g->x[k];
    }
    return s;
}

/* The same for a scale and an offset, with the error, which has to be summed number by number: beside one large number the formula of the search says nothing. */
INLINED sums sum_errors(const groups *g, int n, level_fn *level, lanes scale, lanes offset, lanes low, lanes high)
{
    sums s = { lanes_of(0.0f), lanes_of(0.0f), lanes_of(0.0f), lanes_of(0.0f) };
    const lanes inverse = inverse_of(scale);
    for (int k = 0; k < n; k++) {
        const lanes y = g->x[k] - offset, q = level(y * inverse, low, high), wq = g->w[k] * q, r = y - scale * q;
        s.q += wq;
        s.qq += wq * q;
        s.qx += wq * g->x[k];
        s.error += g->w[k] * r * r;
    }
    return s;
}

INLINED void sums_choose(sums *to, lane_marks better, const sums *t)
{
    to->q = choose(better, t->q, to->q);
    to->qq = choose(better, t->qq, to->qq);
    to->qx = choose(better, t->qx, to->qx);
    to->error = choose(better, t->error, to->error);
}

INLINED double lanes_sum(lanes x) { return ((double)x[0] + (double)x[1]) + ((double)x[2] + (double)x[3]); }

/* ---- scale and minimum: x is about scale q + offset, q = 0 .. top ---- */

/* The best scale and offset for the q of these sums; the offset at most `most`. Where all q are alike, the offset is that of the scale that was. */
INLINED void solve_minimum(const groups *g, sums s, lanes most, lanes *scale, lanes *offset)
{
    const lanes d = g->sum_w * s.qq - s.q * s.q;
    const lane_marks spread = d > 1e-5f * (g->sum_w * s.qq);
    const lanes free_offset = least_of((s.qq * g->sum_x - s.q * s.qx) / choose(spread, d, lanes_of(1.0f)), most);
    *offset = choose(spread, free_offset, least_of((g->sum_x - *scale * s.q) / g->sum_w, most));
    *scale = choose(s.qq > 0.0f, (s.qx - *offset * s.q) * inverse_of(s.qq), *scale);
}

/* Tries to spread the range of x, which begins with 0, over top + steps[i] levels, for each i; *plain: the scale that spreads it over top. */
INLINED void search_minimum(const groups *g, int n, float top, const float *steps, int n_steps, lanes most, lanes *scale, lanes *offset, lanes *plain)
{
    lanes range = lanes_of(0.0f), best = lanes_of(0.0f);
    for (int k = 0; k < n; k++)
        range = most_of(range, g->x[k]);
    *scale = *offset = lanes_of(0.0f);
    *plain = range / top;
    const lanes inverse = inverse_of(range);
    for (int i = 0; i < n_steps; i++) {
        lanes try_scale = lanes_of(0.0f), try_offset;
        const sums s = sum_levels(g, n, level_above, (top + steps[i]) * inverse, lanes_of(0.0f), lanes_of(top));
        solve_minimum(g, s, most, &try_scale, &try_offset);
        const lanes gain = try_scale * (2.0f * s.qx - try_scale * s.qq - 2.0f * try_offset * s.q) + try_offset * (2.0f * g->sum_x - try_offset * g->sum_w);
        const lane_marks better = (gain > best) & (try_scale >= 0.0f);
        best = choose(better, gain, best);
        *scale = choose(better, try_scale, *scale);
        *offset = choose(better, try_offset, *offset);
    }
}

/* ---- scale alone: x is about scale q, q a level from low to high ---- */

/* Tries to put the number of largest magnitude at each of the steps, and takes the best scale for the q that this chooses; *plain: what the first step itself says. */
INLINED void search_signed(const groups *g, int n, level_fn *level, float low, float high, const float *steps, int n_steps, lanes *scale, lanes *plain)
{
    lanes peak = lanes_of(0.0f), best = lanes_of(0.0f);
    for (int k = 0; k < n; k++)
        peak = choose(magnitude(g->x[k]) > magnitude(peak), g->x[k], peak);
    *scale = lanes_of(0.0f);
    *plain = peak / steps[0];
    const lanes inverse = inverse_of(peak);
    for (int i = 0; i < n_steps; i++) {
        const sums s = sum_levels(g, n, level, steps[i] * inverse, lanes_of(low), lanes_of(high));
        const lanes try_scale = s.qx * inverse_of(s.qq), gain = try_scale * s.qx;
        const lane_marks better = gain > best;
        best = choose(better, gain, best);
        *scale = choose(better, try_scale, *scale);
    }
}

#endif
