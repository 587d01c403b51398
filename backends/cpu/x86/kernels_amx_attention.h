/* SPDX-License-Identifier: MIT */
/* kernels_amx_attention.h - attention to a cache of bf16 with AMX tiles: 16 queries by a page at a time. Included by kernels_avx512.c, after kernels_amx.h,
 * whose eight whole tiles it shares.
 *
 * Pages lie as tiles want them (lib/kv.h): a row is a pair of d of 16 keys, or a pair of keys of 16 d. TDPBF16PS is the canonical step of 32 d, or of 32 keys
 * (docs/numerics.md): a score is one chain of them, an element of o two of them from zero. Keys that are hidden from a query count as p = +0; where a key is
 * seen by nobody, memory may hold anything, and the values are copied with zeros in its place.
 *
 * Scores and weighted values take some 16 cycles a query where weights take 60 or more (heads of 64). So the products of one group of 16 are issued before the
 * weights of another, and its sums are joined after these: neither waits for the other. */
#ifndef CPU_KERNELS_AMX_ATTENTION_H
#define CPU_KERNELS_AMX_ATTENTION_H

enum { TILE_GROUP = 16, TILE_KEYS = 16, KEY_STRIDE = SL_PAGE_KEYS * 4, WEIGHT_STRIDE = SL_PAGE_KEYS * 2 };

/* What blocks scribble on: of two groups in turn. Behind it two groups' weighted values, and copies of values and of the end of the keys, as tiles lie. */
typedef struct tile_area {
    float score[2][TILE_GROUP][SL_PAGE_KEYS];
    uint16_t weight[TILE_GROUP][SL_PAGE_KEYS];
    float top[TILE_GROUP], before[2][TILE_GROUP], now[2][TILE_GROUP];
    uint32_t keys[TILE_GROUP][SL_PAGE_KEYS];
    uint32_t rest[];
} tile_area;
/* Dwords of a row of values, in whole tiles. */
INLINE int64_t tile_row(int64_t d_head) { return (d_head + LANES - 1) / LANES * LANES; }
static size_t tile_work(int64_t d_head) { return sizeof(tile_area) + (size_t)tile_row(d_head) * 4 * (2 * TILE_GROUP + SL_PAGE_KEYS / 2); }

/* exp(x) rounded for bf16 arithmetic, as a float. x is not above 0; or NaN that an operation made, whose low bits are 0. 2^n is added to the exponent of p, which
 * is what multiplying with it does between 2^-41 and 1. */
INLINE vf exp_b16(vf x)
{
    vf t;
    const vf p = f_exp_parts(x, &t);
    const vi y = _mm512_add_epi32(_mm512_castps_si512(p), i_left(_mm512_castps_si512(t), 23));
    const __mmask16 odd = _mm512_test_epi32_mask(y, _mm512_set1_epi32(0x10000)), there = _mm512_cmp_ps_mask(x, f_set(SL_EXP_B16_MIN), _CMP_NLT_UQ);
    vi up = _mm512_add_epi32(y, _mm512_set1_epi32(0x7fff));
    up = _mm512_mask_add_epi32(up, odd, up, _mm512_set1_epi32(1));
    return _mm512_castsi512_ps(_mm512_maskz_and_epi32(there, up, _mm512_set1_epi32((int)0xffff0000)));
}

/* ---- products ---- */

/* Scores of 16 queries, `row` bytes apart. end: the pairs of d behind the last whole 16, in a tile's rows; there if d_head is not whole 32s. */
static void tile_scores(int64_t d_head, const uint8_t *q, size_t row, const uint8_t *k, const void *end, float (*score)[SL_PAGE_KEYS])
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t d = 0; d < d_head; d += TILE_K) {
        const uint8_t *keys = d_head - d < TILE_K ? end : k + d / 2 * KEY_STRIDE;
        TILE_LOAD(4, q + 2 * d, row);
        TILE_LOAD(5, keys, KEY_STRIDE);
        TILE_PRODUCT(0, 4, 5);
        TILE_LOAD(6, keys + 64, KEY_STRIDE);
        TILE_PRODUCT(1, 4, 6);
        TILE_LOAD(7, keys + 128, KEY_STRIDE);
        TILE_PRODUCT(2, 4, 7);
        TILE_LOAD(5, keys + 192, KEY_STRIDE);
        TILE_PRODUCT(3, 4, 5);
    }
    TILE_STORE(0, score[0], KEY_STRIDE);
    TILE_STORE(1, score[0] + TILE_KEYS, KEY_STRIDE);
    TILE_STORE(2, score[0] + 2 * TILE_KEYS, KEY_STRIDE);
    TILE_STORE(3, score[0] + 3 * TILE_KEYS, KEY_STRIDE);
}

/* 16 elements of o of 16 queries, from byte `at` of the rows of values on. */
#define TILE_VALUES(C, at)                                                                                                                         \
    _tile_zero(C);                                                                                                                                 \
    TILE_LOAD(6, v + (at), row);                                                                                                                   \
    TILE_PRODUCT(C, 4, 6);                                                                                                                         \
    TILE_LOAD(7, v + 16 * row + (at), row);                                                                                                        \
    TILE_PRODUCT(C, 5, 7);                                                                                                                         \
    TILE_STORE(C, (uint8_t *)o + (at), 4 * (size_t)tile_row(d_head));

/* Weights of 16 queries times values, whose rows are `row` bytes apart. */
static void tile_values(int64_t d_head, const uint16_t (*weight)[SL_PAGE_KEYS], const uint8_t *v, size_t row, float *o)
{
    const int64_t bytes = 4 * tile_row(d_head);
    int64_t at = 0;
    TILE_LOAD(4, weight[0], WEIGHT_STRIDE);
    TILE_LOAD(5, weight[0] + SL_PAGE_KEYS / 2, WEIGHT_STRIDE);
    for (; at + 64 < bytes; at += 128) {
        TILE_VALUES(0, at)
        TILE_VALUES(1, at + 64)
    }
    if (at < bytes) {
        TILE_VALUES(2, at)
    }
}

/* ---- what stands between them ---- */

/* From scores of m queries to weights; maxima and sums joined with what was there. before, now: the factors of the old and the new sums. */
static void tile_weights(int m, cpu_query *queries, float scale, tile_area *w, float (*score)[SL_PAGE_KEYS], float before[TILE_GROUP], float now[TILE_GROUP])
{
    /* The upper words of two registers, one behind the other. */
    const vi upper = _mm512_add_epi16(_mm512_set1_epi32(0x00030001), _mm512_mullo_epi16(_mm512_set1_epi32(0x00040004),
        _mm512_setr_epi32(0, 0x10001, 0x20002, 0x30003, 0x40004, 0x50005, 0x60006, 0x70007, 0x80008, 0x90009, 0xa000a, 0xb000b, 0xc000c, 0xd000d, 0xe000e, 0xf000f)));
    float l[TILE_GROUP];
    for (int t = 0; t < m; t++) {
        vf top = f_set(sl_float(0xff800000u));
        UNROLL for (int i = 0; i < SL_PAGE_KEYS / LANES; i++) {
            const vf s = _mm512_mask_mul_ps(f_set(sl_float(0xff800000u)), (__mmask16)(queries[t].visible >> LANES * i), f_load(score[t] + LANES * i), f_set(scale));
            f_store(score[t] + LANES * i, s);
            top = f_max(top, s);
        }
        w->top[t] = f_most(top) + 0.0f;
        const float most = queries[t].max > w->top[t] ? queries[t].max : w->top[t];
        before[t] = queries[t].max - most;
        now[t] = w->top[t] - most;
        queries[t].max = most;
    }
    for (int t = m; t < TILE_GROUP; t++)
        before[t] = now[t] = 0.0f;
    f_store(before, f_exp_of_fall(f_load(before)));
    f_store(now, f_exp_of_fall(f_load(now)));
    for (int t = 0; t < m; t++) {
        vf sum = f_set(0.0f), p[SL_PAGE_KEYS / LANES];
        UNROLL for (int i = 0; i < SL_PAGE_KEYS / LANES; i++) {
            p[i] = exp_b16(f_sub(f_load(score[t] + LANES * i), f_set(w->top[t])));
            sum = f_add(sum, p[i]);
        }
        UNROLL for (int i = 0; i < SL_PAGE_KEYS / LANES; i += 2)
            _mm512_store_si512(w->weight[t] + LANES * i, _mm512_permutex2var_epi16(_mm512_castps_si512(p[i]), upper, _mm512_castps_si512(p[i + 1])));
        l[t] = f_halve(&sum);
    }
    for (int t = 0; t < m; t++)
        queries[t].sum = sl_fma(l[t], now[t], queries[t].sum * before[t]);
}

/* o = fma(o_block, now, o * before) */
static void tile_join(int64_t d_head, int m, cpu_query *queries, const float *o, const float *before, const float *now)
{
    const __mmask16 end = (__mmask16)((1u << d_head % LANES) - 1);
    for (int t = 0; t < m; t++, o += tile_row(d_head)) {
        const vf a = f_set(before[t]), c = f_set(now[t]);
        int64_t d = 0;
        for (; d + LANES <= d_head; d += LANES)
            f_store(queries[t].o + d, f_fma(f_load(o + d), c, f_mul(f_load(queries[t].o + d), a)));
        if (d < d_head)
            _mm512_mask_storeu_ps(queries[t].o + d, end, f_fma(f_load(o + d), c, f_mul(_mm512_maskz_loadu_ps(end, queries[t].o + d), a)));
    }
}

/* The pairs of d behind the last whole 16, with zeros up to a tile. */
static const void *tile_keys_end(int64_t d_head, const uint8_t *k, tile_area *w)
{
    const size_t row = sizeof w->keys[0], whole = (size_t)(d_head / TILE_K) * TILE_GROUP, left = (size_t)(d_head % TILE_K + 1) / 2;
    if (left) {
        memcpy(w->keys, k + whole * row, left * row);
        memset(w->keys[left], 0, (TILE_GROUP - left) * row);
    }
    return w->keys;
}

/* Pairs of values that nobody sees become zeros, and rows whole tiles. */
static const uint8_t *tile_values_of(int64_t d_head, uint64_t visible, const uint32_t *v, uint32_t *to)
{
    static const uint32_t masks[] = { 0, 0xffffu, 0xffff0000u, 0xffffffffu };
    for (int64_t i = 0; i < SL_PAGE_KEYS / 2; i++)
        for (int64_t d = 0; d < tile_row(d_head); d += LANES) {
            const __mmask16 there = d_head - d < LANES ? (__mmask16)((1u << (d_head - d)) - 1) : 0xffff;
            const vi both = _mm512_maskz_loadu_epi32(there, v + d_head * i + d);
            _mm512_storeu_si512(to + tile_row(d_head) * i + d, i_and(both, _mm512_set1_epi32((int)masks[visible >> 2 * i & 3])));
        }
    return (const uint8_t *)to;
}

static void attention_tiles(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)
{
    (void)next;
    tile_area *w = work;
    const void *k = page.k, *values = page.v;
    const int groups = (n + TILE_GROUP - 1) / TILE_GROUP;
    const int64_t floats = TILE_GROUP * tile_row(d_head);
    const size_t q_row = cpu_query_bytes(d_head);
    const uint64_t visible = visible_to_any(n, queries);
    const int copy = visible != UINT64_MAX || d_head % LANES;
    const size_t v_row = 4 * (size_t)(copy ? tile_row(d_head) : d_head);
    const uint8_t *v = copy ? tile_values_of(d_head, visible, values, w->rest + 2 * floats) : values;
    const void *end = tile_keys_end(d_head, k, w);
    float *o = (float *)w->rest;
    tile_scores(d_head, queries[0].q, q_row, k, end, w->score[0]);
    for (int g = 0; g <= groups; g++) {
        cpu_query *now = queries + TILE_GROUP * g, *last = now - TILE_GROUP;
        const int m = n - TILE_GROUP * g < TILE_GROUP ? n - TILE_GROUP * g : TILE_GROUP;
        if (g + 1 < groups)
            tile_scores(d_head, now[TILE_GROUP].q, q_row, k, end, w->score[(g + 1) % 2]);
        if (g < groups)
            tile_weights(m, now, scale, w, w->score[g % 2], w->before[g % 2], w->now[g % 2]);
        if (g > 0)
            tile_join(d_head, g < groups ? TILE_GROUP : n - TILE_GROUP * (g - 1), last, o + (g - 1) % 2 * floats, w->before[(g - 1) % 2], w->now[(g - 1) % 2]);
        if (g < groups)
            tile_values(d_head, (const uint16_t (*)[SL_PAGE_KEYS])w->weight, v, v_row, o + g % 2 * floats);
    }
}

static int tile_prepare(int64_t n, const float *q, void *to) { return quantize_b16(n, q, to); }

CPU_KERNEL cpu_attention_kernel kernel_attention_tiles = { SL_TYPE_BF16, TILE_GROUP, tile_prepare, tile_work, attention_tiles, amx_begin, amx_end };

#endif
