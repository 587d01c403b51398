/* SPDX-License-Identifier: MIT */
/* kernels_cache.h - queries and a page of bf16 or q8_0, in lanes. A part of kernels_lanes.h, which includes it behind kernels_attention.h,
 * whose groups and weights it uses. Where numbers lie in a page: lib/kv.h. Beyond what kernels_lanes.h wants, the kernel file has defined
 *
 *   f_load_pairs(x, mask, even, odd)   LANES pairs of bfloats at x: all first ones, all second ones, exact; each dword at x is and-ed with `mask` before
 *   f_load_int8(x)                     LANES signed bytes as floats
 *   i_bytes(x)                         LANES dwords of four signed bytes, none of them -128, in the form that i_bytes_dot wants
 *   i_bytes_start(sum)                 what a sum of products with activations begins with, *sum being the sum of those
 *   i_bytes_dot(s, w, x)               per lane: s plus the products of its four bytes of w with the four at x */
#ifndef CPU_KERNELS_CACHE_H
#define CPU_KERNELS_CACHE_H

/* ---- bf16 ---- */

/* Registers of keys, or of elements of o, for m queries with two chains each. */
enum { PAIR_REGS = 4 };
#define PAIR_REGS_FOR(m) ((m) == 1 || (LANES != 8 && (m) <= 3) ? 4 : LANES != 8 || (m) <= 3 ? 2 : 1)

/* Rounded, but stored as floats, which broadcast for nothing; a zero behind an odd end. */
static int prepare_bf16(int64_t n, const float *x, void *to)
{
    float *q = to, lanes[LANES];
    int64_t i = 0;
    int bad = 0;
    vf top = f_set(0.0f);
    for (; i + LANES <= n; i += LANES) {
        const vf v = f_load(x + i);
        top = f_top(top, v);
        f_store(q + i, f_flush(f_round(v)));
    }
    f_store(lanes, top);
    for (int k = 0; k < LANES; k++)
        bad |= sl_bits(lanes[k]) >= 0x7f7f8000u;        /* rounds to infinity, is infinite or not a number */
    for (; i < n; i++) {
        q[i] = sl_bf16_to_float(sl_float_to_b16(x[i]));
        bad |= !sl_is_finite(q[i]);
    }
    if (n % 2)
        q[n] = 0.0f;
    return bad;
}

/* Keys of a page to [d][key]; with an odd d_head a row of zeros more. */
static const float *widen_keys(int64_t d_head, const uint16_t *k, const uint16_t *next, float *to)
{
    for (int64_t d = 0; d < d_head; d += 2)
        UNROLL for (int at = 0; at < SL_PAGE_KEYS; at += LANES) {
            vf even, odd;
            f_load_pairs(k + SL_PAGE_KEYS * d + 2 * at, UINT32_MAX, &even, &odd);
            ASK(next + SL_PAGE_KEYS * d + 2 * at);
            f_store(to + SL_PAGE_KEYS * d + at, even);
            f_store(to + SL_PAGE_KEYS * (d + 1) + at, odd);
        }
    return to;
}

/* Values to [key][d] up to the last pair of keys of which one is visible to anybody; zeros for those that are not. */
static const float *widen_values(int64_t d_head, uint64_t visible, const uint16_t *v, const uint16_t *next, float *to)
{
    static const uint32_t masks[] = { 0, 0xffffu, 0xffff0000u, 0xffffffffu };
    for (int64_t j = 0; j < end_of(visible); j += 2) {
        const uint32_t mask = masks[visible >> j & 3];
        int64_t d = 0;
        for (; d + LANES <= d_head; d += LANES) {
            vf even, odd;
            f_load_pairs(v + d_head * j + 2 * d, mask, &even, &odd);
            ASK(next + d_head * j + 2 * d);
            f_store(to + d_head * j + d, even);
            f_store(to + d_head * (j + 1) + d, odd);
        }
        for (; d < d_head; d++) {
            const uint16_t *both = v + d_head * j + 2 * d;
            to[d_head * j + d] = mask & 0xffffu ? sl_bf16_to_float(both[0]) : 0.0f;
            to[d_head * (j + 1) + d] = mask >> 16 ? sl_bf16_to_float(both[1]) : 0.0f;
        }
    }
    return to;
}

/* s[chain][t][r]: chain 0 over the even, 1 over the odd rows of [row, end), of numbers x[t][row] with registers of rows that begin at `rows`, `stride` floats apart. */
INLINE void pair_chains(int m, int regs, const float *const *x, const float *rows, int64_t stride, int64_t row, int64_t end, vf s[2][GROUP][PAIR_REGS])
{
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int c = 0; c < 2; c++)
            UNROLL for (int r = 0; r < regs; r++)
                s[c][t][r] = f_set(0.0f);
    for (; row < end; row += 2) {
        vf y[2][PAIR_REGS];
        UNROLL for (int c = 0; c < 2; c++)
            UNROLL for (int r = 0; r < regs; r++)
                y[c][r] = f_load(rows + stride * (row + c) + LANES * r);
        UNROLL for (int t = 0; t < m; t++)
            UNROLL for (int c = 0; c < 2; c++) {
                const vf one = f_set(x[t][row + c]);
                UNROLL for (int r = 0; r < regs; r++)
                    s[c][t][r] = f_fma(one, y[c][r], s[c][t][r]);
            }
    }
}

/* Per 32 d two chains, whose sum is added to the score. */
INLINE void pair_scores(int64_t d_head, int m, const cpu_query *queries, const float *k, const void *next, float (*p)[SL_PAGE_KEYS])
{
    (void)next;     /* asked for while keys were widened */
    const int regs = PAIR_REGS_FOR(m);
    const float *q[GROUP];
    for (int t = 0; t < m; t++)
        q[t] = queries[t].q;
    for (int at = 0; at < SL_PAGE_KEYS; at += regs * LANES)
        for (int64_t d = 0; d < d_head; d += 32) {
            vf s[2][GROUP][PAIR_REGS];
            pair_chains(m, regs, q, k + at, SL_PAGE_KEYS, d, d_head - d < 32 ? d_head : d + 32, s);
            UNROLL for (int t = 0; t < m; t++)
                UNROLL for (int r = 0; r < regs; r++) {
                    float *to = p[t] + at + LANES * r;
                    f_store(to, f_add(d ? f_load(to) : f_set(0.0f), f_add(s[0][t][r], s[1][t][r])));
                }
        }
}

/* `regs` registers of o from element d on; a weight that is +0 adds nothing. */
INLINE void some_pair_values(int64_t d_head, int m, cpu_query *queries, const float *v, int n_key, int64_t d, int regs, float (*p)[SL_PAGE_KEYS], const float *before,
                             const float *now)
{
    const float *x[GROUP];
    float sums[GROUP][PAIR_REGS * LANES];
    vf s[2][GROUP][PAIR_REGS];
    UNROLL for (int t = 0; t < m; t++)
        x[t] = p[t];
    pair_chains(m, regs, x, v + d, d_head, 0, n_key < 32 ? n_key : 32, s);
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < regs; r++)
            f_store(sums[t] + LANES * r, f_add(s[0][t][r], s[1][t][r]));
    pair_chains(m, regs, x, v + d, d_head, 32, n_key, s);
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < regs; r++) {
            float *o = queries[t].o + d + LANES * r;
            const vf sum = f_add(f_load(sums[t] + LANES * r), f_add(s[0][t][r], s[1][t][r]));
            f_store(o, f_fma(sum, f_set(now[t]), f_mul(f_load(o), f_set(before[t]))));
        }
}

/* One element of one query's o, before joining. */
static float pair_value(int64_t d_head, const float *p, const float *v, int n_key, int64_t d)
{
    float sum = 0.0f;
    for (int first = 0; first < n_key; first += 32) {
        float even = 0.0f, odd = 0.0f;
        for (int j = first; j < n_key && j < first + 32; j += 2) {
            even = sl_fma(p[j], v[d_head * j + d], even);
            odd = sl_fma(p[j + 1], v[d_head * (j + 1) + d], odd);
        }
        sum += even + odd;
    }
    return sum;
}

INLINE void pair_values(int64_t d_head, int m, cpu_query *queries, const float *v, int n_key, float (*p)[SL_PAGE_KEYS], const float *before, const float *now)
{
    const int regs = PAIR_REGS_FOR(m);
    int64_t d = 0;
    for (; d + regs * LANES <= d_head; d += regs * LANES)
        some_pair_values(d_head, m, queries, v, n_key, d, regs, p, before, now);
    for (; d + LANES <= d_head; d += LANES)
        some_pair_values(d_head, m, queries, v, n_key, d, 1, p, before, now);
    for (; d < d_head; d++)
        for (int t = 0; t < m; t++)
            queries[t].o[d] = sl_fma(pair_value(d_head, p[t], v, n_key, d), now[t], queries[t].o[d] * before[t]);
}

#define PAIR_ARGS int64_t d_head, cpu_query *queries, const float *v, int n_key, float (*p)[SL_PAGE_KEYS], const float *before, const float *now
#define PAIR_VALUES_OF(name, m) static __attribute__((noinline)) void name##_##m(PAIR_ARGS) { name(d_head, m, queries, v, n_key, p, before, now); }
SCORES(pair_scores)
EACH_COUNT(PAIR_VALUES_OF, pair_values)

static void attention_bf16(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)
{
    typedef void pair_values_fn(PAIR_ARGS);
    static pair_values_fn *const of[] = { EACH_COUNT(TABLE_OF, pair_values) };
    attention_area *w = work;
    const uint64_t visible = visible_to_any(n, queries);
    pair_scores_all(d_head, n, queries, widen_keys(d_head, page.k, next.k, w->page), NULL, w->p);
    join_weights_b16(n, queries, scale, w);
    const float *values = widen_values(d_head, visible, page.v, next.v, w->page);
    for (int i = 0, m; i < n; i += m) {
        m = group_of(n - i);
        of[m - 1](d_head, queries + i, values, end_of(visible), w->p + i, w->before + i, w->now + i);
    }
}

/* ---- q8_0 ---- */

/* Registers of keys, and of values: an even part of 32 elements. */
enum { BYTE_REGS = LANES == 8 ? 1 : 2 };

INLINE void byte_scores(int64_t d_head, int m, const cpu_query *queries, const uint8_t *k, const uint8_t *next, float (*p)[SL_PAGE_KEYS])
{
    for (int at = 0; at < SL_PAGE_KEYS; at += BYTE_REGS * LANES)
        for (int64_t b = 0; b < d_head / 32; b++) {
            const uint8_t *lines = k + b * CPU_Q8_BYTES + 4 * at, *coming = next + b * CPU_Q8_BYTES + 4 * at;
            const uint16_t *scales = (const uint16_t *)(const void *)(k + b * CPU_Q8_BYTES + CPU_Q8_SCALES) + at;
            const sl_block_a32 *q[GROUP];
            vi s[GROUP][BYTE_REGS], keys[BYTE_REGS];
            vf d[BYTE_REGS];
            UNROLL for (int t = 0; t < m; t++) {
                q[t] = (const sl_block_a32 *)queries[t].q + b;
                UNROLL for (int r = 0; r < BYTE_REGS; r++)
                    s[t][r] = i_bytes_start(&q[t]->sum);
            }
            UNROLL for (int i = 0; i < 8; i++) {
                UNROLL for (int r = 0; r < BYTE_REGS; r++) {
                    keys[r] = i_bytes(lines + 4 * (SL_PAGE_KEYS * i + LANES * r));
                    ASK(coming + 4 * (SL_PAGE_KEYS * i + LANES * r));
                }
                UNROLL for (int t = 0; t < m; t++)
                    UNROLL for (int r = 0; r < BYTE_REGS; r++) {
                        s[t][r] = i_bytes_dot(s[t][r], keys[r], q[t]->q + 4 * i);
                        PIN(s[t][r]);
                    }
            }
            UNROLL for (int r = 0; r < BYTE_REGS; r++)
                d[r] = f_load_f16(scales + LANES * r);
            UNROLL for (int t = 0; t < m; t++)
                UNROLL for (int r = 0; r < BYTE_REGS; r++) {
                    float *to = p[t] + at + LANES * r;
                    f_store(to, f_fma(f_mul(d[r], f_set(q[t]->d)), f_int(s[t][r]), b ? f_load(to) : f_set(0.0f)));
                }
        }
}
SCORES(byte_scores)

/* Values of keys 0 .. n_key - 1 to [key][d], the product with the scale rounded. */
static const float *widen_bytes(int64_t d_head, int n_key, const uint8_t *v, const uint8_t *next, float *to)
{
    for (int64_t b = 0; b < d_head / 32; b++, v += CPU_Q8_BYTES, next += CPU_Q8_BYTES) {
        float scales[SL_PAGE_KEYS];
        ASK(next + CPU_Q8_SCALES);
        ASK(next + CPU_Q8_SCALES + CPU_LINE);
        for (int j = 0; j < SL_PAGE_KEYS; j += LANES)
            f_store(scales + j, f_load_f16((const uint16_t *)(const void *)(v + CPU_Q8_SCALES) + j));
        for (int j = 0; j < n_key; j++) {
            ASK(next + 32 * j);
            UNROLL for (int at = 0; at < 32; at += LANES)
                f_store(to + d_head * j + 32 * b + at, f_mul(f_set(scales[j]), f_load_int8((const int8_t *)v + 32 * j + at)));
        }
    }
    return to;
}

static void attention_q8_0(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)
{
    attention_area *w = work;
    byte_scores_all(d_head, n, queries, page.k, next.k, w->p);
    join_weights(n, queries, scale, w);
    values_f32_all(d_head, n, queries, widen_bytes(d_head, end_of(visible_to_any(n, queries)), page.v, next.v, w->page), w->page, w);
}

#endif
