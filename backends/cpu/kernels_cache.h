/* SPDX-License-Identifier: MIT */
/* kernels_cache.h - several queries and a page of bf16 or q8_0, in lanes. A part of kernels_attention.h, which includes it. Where numbers lie in a page:
 * lib/kv.h. Beyond what kernels_lanes.h wants, the kernel file has defined
 *
 *   f_load_pairs(x, mask, even, odd)   LANES pairs of bfloats at x: all first ones, all second ones, exact; each dword at x is and-ed with `mask` before
 *   f_load_int8(x)                     LANES signed bytes as floats
 *   i_bytes(x)                         LANES dwords of four signed bytes, none of them -128, in the form that i_bytes_dot wants
 *   i_bytes_start(sum)                 what a sum of products with activations begins with, *sum being the sum of those
 *   i_bytes_dot(s, w, x)               per lane: s plus the products of its four bytes of w with the four at x */
#ifndef CPU_KERNELS_CACHE_H
#define CPU_KERNELS_CACHE_H

/* ---- bf16 ---- */

/* Up to so many queries run their two chains at once; more of them one after the other, which takes no more registers than chains of f32. */
enum { PAIR_BOTH = CPU_ATTENTION_QUERIES / 2 };
/* Registers of one chain; sized for the most. */
enum { PAIR_REGS = 4 };
#define PAIR_REGS_FOR(m) ((m) == 1 ? PAIR_REGS : BLOCK_REGS)

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

/* s[chain][t][r]: chain 0 over the even, 1 over the odd d of [d, end), registers of keys from `at` on. */
INLINE void pair_score_chains(int m, const float *const *q, const uint16_t *k, int64_t d, int64_t end, int at, int first, int last, vf s[2][CPU_ATTENTION_QUERIES][PAIR_REGS])
{
    const int regs = PAIR_REGS_FOR(m);
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int c = first; c <= last; c++)
            UNROLL for (int r = 0; r < regs; r++)
                s[c][t][r] = f_set(0.0f);
    for (; d < end; d += 2) {
        vf keys[2][PAIR_REGS];
        UNROLL for (int r = 0; r < regs; r++)
            f_load_pairs(k + SL_PAGE_KEYS * d + 2 * (at + LANES * r), UINT32_MAX, &keys[0][r], &keys[1][r]);
        UNROLL for (int t = 0; t < m; t++)
            UNROLL for (int c = first; c <= last; c++) {
                const vf x = f_set(q[t][d + c]);
                UNROLL for (int r = 0; r < regs; r++)
                    s[c][t][r] = f_fma(x, keys[c][r], s[c][t][r]);
            }
    }
}

/* to = to + (s[0] + s[1]); where the chains did not run at once, the sums of the even one wait in `held`. */
INLINE void pair_hold(int m, int regs, vf s[2][CPU_ATTENTION_QUERIES][PAIR_REGS], float (*held)[SL_PAGE_KEYS])
{
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < regs; r++)
            f_store(held[t] + LANES * r, s[0][t][r]);
    __asm__ volatile("" : : : "memory");        /* compilers would keep them in registers, too, and have too few for the other chain */
}
INLINE void pair_add(int m, int regs, int both, vf s[2][CPU_ATTENTION_QUERIES][PAIR_REGS], float (*held)[SL_PAGE_KEYS], float (*to)[SL_PAGE_KEYS], int at)
{
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < regs; r++) {
            float *x = to[t] + at + LANES * r;
            f_store(x, f_add(f_load(x), f_add(both ? s[0][t][r] : f_load(held[t] + LANES * r), s[1][t][r])));
        }
}

/* Scores of all 64 keys of m queries, before scaling. */
INLINE void pair_scores(int64_t d_head, int m, const cpu_query *queries, const uint16_t *k, float (*p)[SL_PAGE_KEYS], float (*held)[SL_PAGE_KEYS])
{
    const float *q[CPU_ATTENTION_QUERIES];
    for (int t = 0; t < m; t++) {
        q[t] = queries[t].q;
        memset(p[t], 0, sizeof p[t]);
    }
    for (int at = 0; at < SL_PAGE_KEYS; at += PAIR_REGS_FOR(m) * LANES)
        for (int64_t d = 0; d < d_head; d += 32) {
            const int64_t end = d_head - d < 32 ? d_head : d + 32;
            vf s[2][CPU_ATTENTION_QUERIES][PAIR_REGS];
            pair_score_chains(m, q, k, d, end, at, 0, m <= PAIR_BOTH, s);
            if (m > PAIR_BOTH) {
                pair_hold(m, PAIR_REGS_FOR(m), s, held);
                pair_score_chains(m, q, k, d, end, at, 1, 1, s);
            }
            pair_add(m, PAIR_REGS_FOR(m), m <= PAIR_BOTH, s, held, p, at);
        }
}

/* The pairs of keys of which one is visible, those of the first 32 keys in front, and which half of their dwords that is. */
typedef struct pair_list {
    int n[2];                               /* end of either half's pairs */
    uint8_t pair[SL_PAGE_KEYS / 2];
    uint32_t mask[SL_PAGE_KEYS / 2];
} pair_list;

INLINE void list_pairs(uint64_t visible, pair_list *list)
{
    static const uint32_t masks[] = { 0, 0xffffu, 0xffff0000u, 0xffffffffu };
    int n = 0;
    list->n[0] = 0;
    for (int i = 0; i < SL_PAGE_KEYS / 2; i++) {
        const int seen = (int)(visible >> 2 * i & 3);
        list->pair[n] = (uint8_t)i;
        list->mask[n] = masks[seen];
        n += seen != 0;
        list->n[i / (SL_PAGE_KEYS / 4)] = n;
    }
}

/* Chains over pairs number i .. end - 1 of the list: even or odd keys, `regs` registers of elements from d on. */
INLINE void pair_value_chains(int64_t d_head, int m, float (*p)[SL_PAGE_KEYS], const uint16_t *v, const pair_list *list, int i, int end, int64_t d, int regs,
                              int first, int last, vf s[2][CPU_ATTENTION_QUERIES][PAIR_REGS])
{
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int c = first; c <= last; c++)
            UNROLL for (int r = 0; r < regs; r++)
                s[c][t][r] = f_set(0.0f);
    for (; i < end; i++) {
        const int j = 2 * list->pair[i];
        vf values[2][PAIR_REGS];
        UNROLL for (int r = 0; r < regs; r++)
            f_load_pairs(v + d_head * j + 2 * (d + LANES * r), list->mask[i], &values[0][r], &values[1][r]);
        UNROLL for (int t = 0; t < m; t++)
            UNROLL for (int c = first; c <= last; c++) {
                const vf x = f_set(p[t][j + c]);
                UNROLL for (int r = 0; r < regs; r++)
                    s[c][t][r] = f_fma(x, values[c][r], s[c][t][r]);
            }
    }
}

/* `regs` registers of o of m queries from element d on, joined to what was there. */
INLINE void pair_values(int64_t d_head, int m, cpu_query *queries, const uint16_t *v, const pair_list *list, int64_t d, int regs,
                        float (*p)[SL_PAGE_KEYS], float (*held)[SL_PAGE_KEYS], float (*sums)[SL_PAGE_KEYS], const float *before, const float *now)
{
    for (int t = 0; t < m; t++)
        memset(sums[t], 0, sizeof sums[t]);
    for (int half = 0; half < opaque(2); half++) {
        const int i = half ? list->n[0] : 0, end = list->n[half];
        vf s[2][CPU_ATTENTION_QUERIES][PAIR_REGS];
        pair_value_chains(d_head, m, p, v, list, i, end, d, regs, 0, m <= PAIR_BOTH, s);
        if (m > PAIR_BOTH) {
            pair_hold(m, regs, s, held);
            pair_value_chains(d_head, m, p, v, list, i, end, d, regs, 1, 1, s);
        }
        pair_add(m, regs, m <= PAIR_BOTH, s, held, sums, 0);
    }
    for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < regs; r++) {
            float *o = queries[t].o + d + LANES * r;
            f_store(o, f_fma(f_load(sums[t] + LANES * r), f_set(now[t]), f_mul(f_load(o), f_set(before[t]))));
        }
}

/* One element of one query's o, before joining. */
static float pair_value(int64_t d_head, const float *p, const uint16_t *v, const pair_list *list, int64_t d)
{
    float sum = 0.0f;
    for (int half = 0, i = 0; half < 2; half++) {
        float even = 0.0f, odd = 0.0f;
        for (; i < list->n[half]; i++) {
            const int j = 2 * list->pair[i];
            const uint16_t *both = v + d_head * j + 2 * d;
            even = list->mask[i] & 0xffffu ? sl_fma(p[j], sl_bf16_to_float(both[0]), even) : even;
            odd = list->mask[i] >> 16 ? sl_fma(p[j + 1], sl_bf16_to_float(both[1]), odd) : odd;
        }
        sum += even + odd;
    }
    return sum;
}

INLINE void block_bf16(int64_t d_head, int m, cpu_query *queries, const void *k, const void *v, uint64_t visible, float scale, float (*work)[SL_PAGE_KEYS])
{
    float (*p)[SL_PAGE_KEYS] = work, (*held)[SL_PAGE_KEYS] = work + m, (*sums)[SL_PAGE_KEYS] = work + 2 * m, before[16] = { 0 }, now[16] = { 0 };
    pair_list list;
    int64_t d = 0;
    list_pairs(visible, &list);
    pair_scores(d_head, m, queries, k, p, held);
    join_weights(m, queries, visible, scale, 1, p, before, now);
    for (; d + PAIR_REGS_FOR(m) * LANES <= d_head; d += PAIR_REGS_FOR(m) * LANES)
        pair_values(d_head, m, queries, v, &list, d, PAIR_REGS_FOR(m), p, held, sums, before, now);
    for (; d + LANES <= d_head; d += LANES)
        pair_values(d_head, m, queries, v, &list, d, 1, p, held, sums, before, now);
    for (; d < d_head; d++)
        for (int t = 0; t < m; t++)
            queries[t].o[d] = sl_fma(pair_value(d_head, p[t], v, &list, d), now[t], queries[t].o[d] * before[t]);
}

/* ---- q8_0 ---- */

/* Registers of keys, and of values: an even part of 32 elements. */
enum { BYTE_REGS = LANES == 8 ? 1 : 2, BYTE_VALUE_REGS = LANES == 4 ? 4 : 2 };

INLINE void byte_scores(int64_t d_head, int m, const cpu_query *queries, const uint8_t *k, float (*p)[SL_PAGE_KEYS])
{
    for (int at = 0; at < SL_PAGE_KEYS; at += BYTE_REGS * LANES)
        for (int64_t b = 0; b < d_head / 32; b++) {
            const uint8_t *lines = k + b * CPU_Q8_BYTES + 4 * at;
            const uint16_t *scales = (const uint16_t *)(const void *)(k + b * CPU_Q8_BYTES + CPU_Q8_SCALES) + at;
            const sl_block_a32 *q[CPU_ATTENTION_QUERIES];
            vi s[CPU_ATTENTION_QUERIES][BYTE_REGS], keys[BYTE_REGS];
            vf d[BYTE_REGS];
            UNROLL for (int t = 0; t < m; t++) {
                q[t] = (const sl_block_a32 *)queries[t].q + b;
                UNROLL for (int r = 0; r < BYTE_REGS; r++)
                    s[t][r] = i_bytes_start(&q[t]->sum);
            }
            UNROLL for (int i = 0; i < 8; i++) {
                UNROLL for (int r = 0; r < BYTE_REGS; r++)
                    keys[r] = i_bytes(lines + 4 * (SL_PAGE_KEYS * i + LANES * r));
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

/* Elements of o of m queries from d on: chains over the visible keys of p times the value, whose product with its scale is rounded. bytes: of the elements
 * of key 0. */
INLINE void byte_values(int m, cpu_query *queries, const int8_t *bytes, const float scales[SL_PAGE_KEYS], const uint8_t *index, int n_key, int64_t d,
                        float (*p)[SL_PAGE_KEYS], const float *before, const float *now)
{
    vf s[CPU_ATTENTION_QUERIES][BYTE_VALUE_REGS], values[BYTE_VALUE_REGS];
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < BYTE_VALUE_REGS; r++)
            s[t][r] = f_set(0.0f);
    for (int i = 0; i < n_key; i++) {
        const int j = index[i];
        const vf scale = f_set(scales[j]);
        UNROLL for (int r = 0; r < BYTE_VALUE_REGS; r++)
            values[r] = f_mul(scale, f_load_int8(bytes + 32 * j + LANES * r));
        UNROLL for (int t = 0; t < m; t++) {
            const vf x = f_set(p[t][j]);
            UNROLL for (int r = 0; r < BYTE_VALUE_REGS; r++)
                s[t][r] = f_fma(x, values[r], s[t][r]);
        }
    }
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < BYTE_VALUE_REGS; r++) {
            float *o = queries[t].o + d + LANES * r;
            f_store(o, f_fma(s[t][r], f_set(now[t]), f_mul(f_load(o), f_set(before[t]))));
        }
}

INLINE void block_q8_0(int64_t d_head, int m, cpu_query *queries, const void *k, const void *v, uint64_t visible, float scale, float (*p)[SL_PAGE_KEYS])
{
    float scales[SL_PAGE_KEYS], before[16] = { 0 }, now[16] = { 0 };
    uint8_t index[SL_PAGE_KEYS];
    const int n_key = list_visible(visible, index);
    byte_scores(d_head, m, queries, k, p);
    join_weights(m, queries, visible, scale, 0, p, before, now);
    for (int64_t b = 0; b < d_head / 32; b++) {
        const uint8_t *block = (const uint8_t *)v + b * CPU_Q8_BYTES;
        for (int j = 0; j < SL_PAGE_KEYS; j += LANES)
            f_store(scales + j, f_load_f16((const uint16_t *)(const void *)(block + CPU_Q8_SCALES) + j));
        for (int at = 0; at < 32; at += BYTE_VALUE_REGS * LANES)
            byte_values(m, queries, (const int8_t *)block + at, scales, index, n_key, 32 * b + at, p, before, now);
    }
}

ATTENTION_BLOCKS(bf16)
ATTENTION_BLOCKS(q8_0)

#endif
