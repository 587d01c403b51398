/* SPDX-License-Identifier: MIT */
/* kernels_amx.h - products of many activation rows with AMX tiles: 16 rows of activations by one panel. Included by kernels_avx512.c.
 *
 * Super-blocks of 256: v = q * scale is an integer of at most 15 bits, v = 128 hi + lo with both in a signed byte. Two chains of four tile products share
 * the activation tiles, and 128 * (sum of hi) + (sum of lo) is the exact S of the definition. The minima are one product of bf16 tiles: sums of 16
 * activations as 128 h + l, each factor exact in 8 bits and each sum of products an integer below 2^24, so that the tile holds (float)M.
 *
 * What limits: a product of tiles takes 16 cycles, and everything else has to hide behind them (docs/performance.md). While tiles are in use, the
 * processor multiplies and converts one register per cycle instead of two, and what comes from the second-level cache stands in the way of loads. Hence
 *   - the four activation tiles of a group stay in registers while the panels pass by: one load of a tile per product;
 *   - one chain follows another, and a chain's sums are stored two products after it ended: a store that has to wait, or several in a row, hold up what
 *     comes after them;
 *   - the vector work on a finished unit is spread between the products of the next ones. */
#ifndef CPU_KERNELS_AMX_H
#define CPU_KERNELS_AMX_H

#include "tiles.h"

enum { AMX_T = 16, AMX_SUMS = 256 };        /* rows of activations of a group; sums of a tile */

/* A converted panel: tiles of 16 lines, a line is 4 elements of k of 16 rows. least: the minimum of each 16 elements in bf16, twice. */
typedef struct { uint8_t lo[64][64], hi[64][64]; float d[16], m[16]; uint16_t least[16][32]; } amx_w256;
/* A prepared group: four tiles, scales, and (for types with minima) sums of 16 as (128 h, l) in bf16. */
typedef struct { int8_t q[4][AMX_T][64]; float d[AMX_T]; uint16_t sum[AMX_T][32]; } amx_x256;
/* Sums of a unit: one group by one panel. */
typedef struct { int32_t lo[AMX_SUMS], hi[AMX_SUMS]; float least[AMX_SUMS]; } amx_sums;
/* What multiplying needs besides: the sums of three units, and a place for rows of a unit before the first. */
typedef struct { amx_sums ring[3]; float nothing[AMX_T][CPU_WIDE_OUT], zeros[AMX_T]; } amx_work;

static void amx_begin(void)
{
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = { .palette = 1 };
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    TILE_CONFIGURE(&config);
}

static void amx_end(void)
{
    TILE_RELEASE();
    wide_end();
}

/* ---- preparing ---- */

static void amx_prepare_256(const uint8_t *const *act, size_t n, uint8_t *to, int with_least)
{
    amx_x256 *x = (void *)to;
    for (size_t t = 0; t < AMX_T; t++) {
        const sl_block_a256 *a = t < n ? ACT256(act[t]) : NULL;
        UNROLL for (int i = 0; i < 4; i++)
            _mm512_store_si512(x->q[i][t], a ? _mm512_loadu_si512(a->q + 64 * i) : _mm512_setzero_si512());
        x->d[t] = a ? a->d : 0.0f;
        if (!with_least)
            continue;
        const vi sum = a ? _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)a->sum)) : _mm512_setzero_si512(), low = _mm512_set1_epi32(127);
        const vi h = _mm512_castps_si512(f_int(_mm512_andnot_si512(low, sum))), l = _mm512_castps_si512(f_int(i_and(sum, low)));
        _mm512_store_si512(x->sum[t], i_or(i_right(h, 16), l));
    }
}

static void amx_prepare_plain(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, amx_prepare_256(act, n, to, 0); }
static void amx_prepare_least(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, amx_prepare_256(act, n, to, 1); }

/* ---- converting ---- */

/* Words of even and of odd elements, |v| < 2^14, to their bytes in both planes. */
INLINE void amx_planes(vi even, vi odd, uint8_t *lo, uint8_t *hi)
{
    const vi low = i_word(0xff), bits = i_byte(127);
    _mm512_store_si512(lo, i_and(_mm512_ternarylogic_epi32(low, even, _mm512_slli_epi16(odd, 8), 0xca), bits));     /* low ? even : odd << 8 */
    _mm512_store_si512(hi, _mm512_ternarylogic_epi32(low, _mm512_srai_epi16(even, 7), _mm512_slli_epi16(odd, 1), 0xca));
}

static void amx_convert_q4_k(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    amx_w256 *w = (void *)to;
    const uint8_t *from = panel + cpu_body_offset(at_q4_k, first), *heads = panel + cpu_head_offset(at_q4_k, first);
    const vi low = i_word(15);
    vi sc[2], mn[2];
    (void)n_in, (void)n_block;
    scales_q4_k(from, sc, mn);
    f_store(w->d, head(heads, 0));
    f_store(w->m, head(heads + CPU_LINE / 2, 0));
    UNROLL for (int j = 0; j < 8; j++) {
        const vi least = _mm512_castps_si512(f_int(_mm512_and_si512(i_right(mn[j / 4], j % 4 * 8), _mm512_set1_epi32(255))));
        const vi twice = i_or(least, i_right(least, 16));
        _mm512_store_si512(w->least[2 * j], twice);
        _mm512_store_si512(w->least[2 * j + 1], twice);
    }
    for (int c = 0; c < 4; c++) {
        const vi scales = i_right(sc[c / 2], (unsigned)c % 2 * 16), s0 = i_words(scales, 0, 0), s1 = i_words(scales, 1, 1);
        UNROLL for (int i = 0; i < 8; i++) {
            const vi q = i_load(from + CPU_LINE * (3 + 8 * c + i));
            amx_planes(_mm512_mullo_epi16(i_and(q, low), s0), _mm512_mullo_epi16(i_and(_mm512_srli_epi16(q, 8), low), s0), w->lo[16 * c + i], w->hi[16 * c + i]);
            amx_planes(_mm512_mullo_epi16(i_and(_mm512_srli_epi16(q, 4), low), s1), _mm512_mullo_epi16(_mm512_srli_epi16(q, 12), s1), w->lo[16 * c + 8 + i],
                       w->hi[16 * c + 8 + i]);
        }
    }
}

static void amx_convert_q6_k(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    amx_w256 *w = (void *)to;
    const uint8_t *from = panel + cpu_body_offset(at_q6_k, first);
    const vi low = i_word(0xff);
    (void)n_in, (void)n_block;
    f_store(w->d, head(panel + cpu_head_offset(at_q6_k, first), 0));
    for (int h = 0; h < 2; h++)
        UNROLL for (int g = 0; g < 8; g++) {
            const vi s = i_words(i_load(from + CPU_LINE * (48 + 2 * h + g / 4)), g % 4, g % 4), off = _mm512_slli_epi16(s, 5);
            UNROLL for (int i = 0; i < 4; i++) {
                const vi q = six_bits(from + CPU_LINE * 16 * h, from + CPU_LINE * (32 + 8 * h), g, i);
                amx_planes(_mm512_sub_epi16(_mm512_mullo_epi16(i_and(q, low), s), off), _mm512_sub_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(q, 8), s), off),
                           w->lo[32 * h + 4 * g + i], w->hi[32 * h + 4 * g + i]);
            }
        }
}

/* ---- multiplying ---- */

/* Compilers do not all know that tiles are loaded from and stored to memory. */
#define AMX_FENCE __asm__ volatile("" : : : "memory");
#define AMX_LOAD(tile, from) _tile_loadd(tile, from, 64);
#define AMX_STORE(tile, to) _tile_stored(tile, to, 64);

/* Row i of a finished unit: acc = fma(d dx, S, acc), acc = fma(-(m dx), M, acc). */
INLINE void amx_row(const amx_sums *s, int i, const float *dx, vf d, vf m, float (*acc)[CPU_WIDE_OUT], int with_least)
{
    const vf x = f_set(dx[i]);
    const vi sum = _mm512_add_epi32(i_left(i_load(s->hi + 16 * i), 7), i_load(s->lo + 16 * i));
    vf y = f_fma(f_mul(d, x), f_int(sum), f_load(acc[i]));
    if (with_least)
        y = _mm512_fnmadd_ps(f_mul(m, x), f_load(s->least + 16 * i), y);
    f_store(acc[i], y);
}

/* A unit whose rows are still to be finished. */
typedef struct { const amx_sums *s; const float *dx; vf d, m; float (*acc)[CPU_WIDE_OUT]; } amx_rest;

INLINE void amx_rows(const amx_rest *r, int from, int n, int with_least)
{
    AMX_FENCE
    UNROLL for (int i = from; i < from + n; i++)
        amx_row(r->s, i, r->dx, r->d, r->m, r->acc, with_least);
    AMX_FENCE
}

/* A unit: lo in tile Y, hi in X, minima in Y; A0 .. A3: what to do after the last product with each of tiles 4 to 7. Meanwhile the second half of the unit
 * before the last is finished, and the first half of the last. */
#define AMX_UNIT(X, Y, w, now, last, older, latest, LEAST, A0, A1, A2, A3)                                                                        \
    _tile_zero(Y);                                                                                                                                 \
    AMX_LOAD(2, (w)->lo[0]) _tile_dpbssd(Y, 4, 2); amx_rows(older, 8, 2, LEAST);                                                                   \
    AMX_LOAD(3, (w)->lo[16]) _tile_dpbssd(Y, 5, 3); AMX_STORE(X, LEAST ? (void *)(last)->least : (void *)(last)->hi) amx_rows(older, 10, 2, LEAST); \
    AMX_LOAD(2, (w)->lo[32]) _tile_dpbssd(Y, 6, 2); amx_rows(older, 12, 2, LEAST);                                                                 \
    AMX_LOAD(3, (w)->lo[48]) _tile_dpbssd(Y, 7, 3); amx_rows(older, 14, 2, LEAST);                                                                 \
    _tile_zero(X);                                                                                                                                 \
    AMX_LOAD(2, (w)->hi[0]) _tile_dpbssd(X, 4, 2); A0 amx_rows(latest, 0, 2, LEAST);                                                               \
    AMX_LOAD(3, (w)->hi[16]) _tile_dpbssd(X, 5, 3); A1 AMX_STORE(Y, (now)->lo) amx_rows(latest, 2, 2, LEAST);                                      \
    AMX_LOAD(2, (w)->hi[32]) _tile_dpbssd(X, 6, 2); A2 amx_rows(latest, 4, 2, LEAST);                                                              \
    AMX_LOAD(3, (w)->hi[48]) _tile_dpbssd(X, 7, 3); A3 amx_rows(latest, 6, 2, LEAST);

#define AMX_MULTIPLY_256(name, LEAST, act_bytes, MINIMA0, MINIMA1, X1, Y1)                                                                         \
    static void name(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *sums, uint8_t *scratch)                      \
    {                                                                                                                                              \
        const amx_w256 *w = (const void *)weights;                                                                                                 \
        const amx_x256 *x = (const void *)act;                                                                                                     \
        amx_work *work = (void *)scratch;                                                                                                          \
        amx_sums *now = &work->ring[0], *last = &work->ring[1], *before = &work->ring[2];                                                          \
        const vf d0 = f_load(w[0].d), m0 = f_load(w[0].m), d1 = f_load(w[1].d), m1 = f_load(w[1].m);                                               \
        float (*acc)[CPU_WIDE_OUT] = (void *)sums;                                                                                                 \
        amx_rest older = { before, work->zeros, d0, m0, work->nothing }, latest = { last, work->zeros, d1, m1, work->nothing };                    \
        (void)n_block;                                                                                                                             \
        memset(work, 0, sizeof *work);                                                                                                             \
        AMX_FENCE                                                                                                                                  \
        AMX_LOAD(4, x->q[0]) AMX_LOAD(5, x->q[1]) AMX_LOAD(6, x->q[2]) AMX_LOAD(7, x->q[3])                                                        \
        _tile_zero(0); _tile_zero(1);                                                                                                              \
        for (size_t g = 0; g < n_group; g++) {                                                                                                     \
            const amx_x256 *next = g + 1 < n_group ? (const void *)((const uint8_t *)x + (act_bytes)) : x;                                         \
            amx_sums *free_sums;                                                                                                                   \
            AMX_UNIT(1, 0, &w[0], now, last, &older, &latest, LEAST, , , , )                                                                       \
            MINIMA0                                                                                                                                \
            older = latest;                                                                                                                        \
            latest = (amx_rest) { now, x->d, d0, m0, acc };                                                                                        \
            free_sums = before, before = last, last = now, now = free_sums;                                                                        \
            AMX_UNIT(X1, Y1, &w[1], now, last, &older, &latest, LEAST, AMX_LOAD(4, next->q[0]), AMX_LOAD(5, next->q[1]), AMX_LOAD(6, next->q[2]),  \
                     AMX_LOAD(7, next->q[3]))                                                                                                      \
            MINIMA1                                                                                                                                \
            older = latest;                                                                                                                        \
            latest = (amx_rest) { now, x->d, d1, m1, (void *)(acc[0] + CPU_PANEL) };                                                               \
            free_sums = before, before = last, last = now, now = free_sums;                                                                        \
            x = next;                                                                                                                              \
            acc += AMX_T;                                                                                                                          \
        }                                                                                                                                          \
        AMX_STORE(1, LEAST ? (void *)last->least : (void *)last->hi)                                                                               \
        amx_rows(&older, 8, 8, LEAST);                                                                                                             \
        amx_rows(&latest, 0, 16, LEAST);                                                                                                           \
    }
#define AMX_MINIMA(X, Y, w) _tile_zero(Y); AMX_LOAD(2, x->sum) AMX_LOAD(3, (w)->least) _tile_dpbf16ps(Y, 2, 3); AMX_STORE(X, now->hi)

AMX_MULTIPLY_256(amx_multiply_least, 1, sizeof(amx_x256), AMX_MINIMA(1, 0, &w[0]), AMX_MINIMA(0, 1, &w[1]), 0, 1)
AMX_MULTIPLY_256(amx_multiply_plain, 0, offsetof(amx_x256, sum), , , 1, 0)

CPU_KERNEL cpu_wide amx_q4_k = { AMX_T, sizeof(amx_x256), sizeof(amx_w256), sizeof(amx_work), amx_prepare_least, amx_convert_q4_k, amx_multiply_least, wide_store, amx_begin, amx_end };
CPU_KERNEL cpu_wide amx_q6_k = { AMX_T, offsetof(amx_x256, sum), sizeof(amx_w256), sizeof(amx_work), amx_prepare_plain, amx_convert_q6_k, amx_multiply_plain, wide_store, amx_begin, amx_end };

#endif
