/* SPDX-License-Identifier: MIT */
/* kernels_attention.h - attention in lanes: several queries and a page of keys and values, of which they see the same ones. A part of kernels_lanes.h, which
 * includes it; the same rules hold. */
#ifndef CPU_KERNELS_ATTENTION_H
#define CPU_KERNELS_ATTENTION_H

enum { KEY_REGS = SL_PAGE_KEYS / LANES };

/* The scores of 64 keys, those that are not visible meaningless, to p = exp(score - *m) and *l; their p is +0, which adds nothing. b16: p is rounded for
 * bf16 arithmetic. */
INLINE void softmax(uint64_t visible, float scale, int b16, vf s[KEY_REGS], float p[SL_PAGE_KEYS], float *m, float *l)
{
    float lanes[LANES], sums[16];
    const vf scales = f_set(scale);
    UNROLL for (int i = 0; i < KEY_REGS; i++)
        f_store(p + LANES * i, f_mul(s[i], scales));
    for (uint64_t hidden = ~visible; hidden; hidden &= hidden - 1)
        p[__builtin_ctzll(hidden)] = sl_float(0xff800000u);
    vf top = f_load(p);
    UNROLL for (int i = 1; i < KEY_REGS; i++)
        top = f_max(top, f_load(p + LANES * i));
    f_store(lanes, top);
    float most = lanes[0];
    for (int i = 1; i < LANES; i++)
        most = lanes[i] > most ? lanes[i] : most;
    *m = most + 0.0f;
    const vf tops = f_set(*m);
    vf sum[REGS];
    UNROLL for (int r = 0; r < REGS; r++)
        sum[r] = f_set(0.0f);
    UNROLL for (int i = 0; i < KEY_REGS; i++) {
        vf e = f_exp(f_sub(f_load(p + LANES * i), tops));
        if (b16)
            e = f_flush(f_round(e));
        f_store(p + LANES * i, e);
        sum[i % REGS] = f_add(sum[i % REGS], e);
    }
    UNROLL for (int r = 0; r < REGS; r++)
        f_store(sums + r * LANES, sum[r]);
    *l = cpu_halve(sums);
}

/* Registers of keys, or of elements of o, that all queries of a block meet at once: with 6 queries they take 24 registers of 32, or 12 of 16. */
enum { BLOCK_REGS = LANES == 8 ? 2 : 4 };
/* A single query takes more of them: fewer than eight chains wait for each other. */
enum { ONE_REGS = LANES == 16 ? 4 : 8 };
#define REGS_FOR(m) ((m) == 1 ? ONE_REGS : BLOCK_REGS)

/* From scores to weights p; each query's maximum and sum joined with what was there. before, now: the factors of the old and the new sums. */
INLINE void join_weights(int m, cpu_query *queries, uint64_t visible, float scale, int b16, float (*p)[SL_PAGE_KEYS], float before[16], float now[16])
{
    float l[CPU_ATTENTION_QUERIES];
    for (int t = 0; t < m; t++) {
        vf s[KEY_REGS];
        float top;
        UNROLL for (int i = 0; i < KEY_REGS; i++)
            s[i] = f_load(p[t] + LANES * i);
        softmax(visible, scale, b16, s, p[t], &top, &l[t]);
        const float most = queries[t].max > top ? queries[t].max : top;
        before[t] = queries[t].max - most;
        now[t] = top - most;
        queries[t].max = most;
    }
    for (int t = 0; t < m; t += LANES) {
        f_store(before + t, f_exp(f_load(before + t)));
        f_store(now + t, f_exp(f_load(now + t)));
    }
    for (int t = 0; t < m; t++)
        queries[t].sum = sl_fma(l[t], now[t], queries[t].sum * before[t]);
}

/* The visible keys in ascending order; returns how many. */
INLINE int list_visible(uint64_t visible, uint8_t index[SL_PAGE_KEYS])
{
    int n = 0;
    for (; visible; visible &= visible - 1)
        index[n++] = (uint8_t)__builtin_ctzll(visible);
    return n;
}

/* A block function for each number of queries, so that their number is constant in each. */
#define ATTENTION_ARGS int64_t d_head, cpu_query *queries, const void *k, const void *v, uint64_t visible, float scale, float (*work)[SL_PAGE_KEYS]
#define ATTENTION_BLOCK(stem, m)                                                                                                                   \
    static __attribute__((noinline)) void block_##stem##_##m(ATTENTION_ARGS) { block_##stem(d_head, m, queries, k, v, visible, scale, work); }
#define ATTENTION_BLOCKS(stem)                                                                                                                     \
    ATTENTION_BLOCK(stem, 1) ATTENTION_BLOCK(stem, 2) ATTENTION_BLOCK(stem, 3) ATTENTION_BLOCK(stem, 4) ATTENTION_BLOCK(stem, 5) ATTENTION_BLOCK(stem, 6)\
    static void attention_##stem(int64_t d_head, int n, cpu_query *queries, const void *k, const void *v, uint64_t visible, float scale,           \
                                  float (*work)[SL_PAGE_KEYS])                                                                                     \
    {                                                                                                                                              \
        typedef void block_fn(ATTENTION_ARGS);                                                                                                     \
        static block_fn *const blocks[] = { block_##stem##_1, block_##stem##_2, block_##stem##_3, block_##stem##_4, block_##stem##_5, block_##stem##_6 };\
        blocks[n - 1](d_head, queries, k, v, visible, scale, work);                                                                                \
    }

/* ---- f32 and f16 ---- */

#define SCALAR_f32(x, i) ((const float *)(x))[i]
#define SCALAR_f16(x, i) sl_half_to_float(((const uint16_t *)(x))[i])
/* scores: of all 64 keys of m queries, before scaling. values: `regs` registers of o of m queries from element d on, chains over the visible keys, joined
 * to what was there. */
#define FLOAT_ATTENTION(stem, type)                                                                                                                \
    INLINE void scores_##stem(int64_t d_head, int m, const cpu_query *queries, const type *k, float (*p)[SL_PAGE_KEYS])                            \
    {                                                                                                                                              \
        const int regs = REGS_FOR(m);                                                                                                              \
        const float *q[CPU_ATTENTION_QUERIES];                                                                                                     \
        for (int t = 0; t < m; t++)                                                                                                                \
            q[t] = queries[t].q;                                                                                                                   \
        for (int at = 0; at < SL_PAGE_KEYS; at += regs * LANES) {                                                                                  \
            vf s[CPU_ATTENTION_QUERIES][ONE_REGS], keys[ONE_REGS];                                                                                 \
            UNROLL for (int t = 0; t < m; t++)                                                                                                     \
                UNROLL for (int r = 0; r < regs; r++)                                                                                              \
                    s[t][r] = f_set(0.0f);                                                                                                         \
            for (int64_t d = 0; d < d_head; d++) {                                                                                                 \
                UNROLL for (int r = 0; r < regs; r++)                                                                                              \
                    keys[r] = f_load_##stem(k + SL_PAGE_KEYS * d + at + LANES * r);                                                                \
                UNROLL for (int t = 0; t < m; t++) {                                                                                               \
                    const vf x = f_set(q[t][d]);                                                                                                   \
                    UNROLL for (int r = 0; r < regs; r++)                                                                                          \
                        s[t][r] = f_fma(x, keys[r], s[t][r]);                                                                                      \
                }                                                                                                                                  \
            }                                                                                                                                      \
            UNROLL for (int t = 0; t < m; t++)                                                                                                     \
                UNROLL for (int r = 0; r < regs; r++)                                                                                              \
                    f_store(p[t] + at + LANES * r, s[t][r]);                                                                                       \
        }                                                                                                                                          \
    }                                                                                                                                              \
    INLINE void values_##stem(int64_t d_head, int m, cpu_query *queries, const type *v, const uint8_t *index, int n_key, int64_t d, int regs,      \
                              float (*p)[SL_PAGE_KEYS], const float *before, const float *now)                                                     \
    {                                                                                                                                              \
        vf s[CPU_ATTENTION_QUERIES][ONE_REGS], values[ONE_REGS];                                                                                   \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int r = 0; r < regs; r++)                                                                                                  \
                s[t][r] = f_set(0.0f);                                                                                                             \
        for (int i = 0; i < n_key; i++) {                                                                                                          \
            const int j = index[i];                                                                                                                \
            UNROLL for (int r = 0; r < regs; r++)                                                                                                  \
                values[r] = f_load_##stem(v + d_head * j + d + LANES * r);                                                                         \
            UNROLL for (int t = 0; t < m; t++) {                                                                                                   \
                const vf x = f_set(p[t][j]);                                                                                                       \
                UNROLL for (int r = 0; r < regs; r++)                                                                                              \
                    s[t][r] = f_fma(x, values[r], s[t][r]);                                                                                        \
            }                                                                                                                                      \
        }                                                                                                                                          \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int r = 0; r < regs; r++) {                                                                                                \
                float *o = queries[t].o + d + LANES * r;                                                                                           \
                f_store(o, f_fma(s[t][r], f_set(now[t]), f_mul(f_load(o), f_set(before[t]))));                                                     \
            }                                                                                                                                      \
    }                                                                                                                                              \
    INLINE void block_##stem(int64_t d_head, int m, cpu_query *queries, const void *k, const void *values, uint64_t visible, float scale,          \
                             float (*p)[SL_PAGE_KEYS])                                                                                             \
    {                                                                                                                                              \
        const type *v = values;                                                                                                                    \
        float before[16] = { 0 }, now[16] = { 0 };                                                                                                 \
        uint8_t index[SL_PAGE_KEYS];                                                                                                               \
        const int n_key = list_visible(visible, index);                                                                                            \
        const int regs = REGS_FOR(m);                                                                                                              \
        int64_t d = 0;                                                                                                                             \
        scores_##stem(d_head, m, queries, k, p);                                                                                                   \
        join_weights(m, queries, visible, scale, 0, p, before, now);                                                                               \
        for (; d + regs * LANES <= d_head; d += regs * LANES)                                                                                      \
            values_##stem(d_head, m, queries, v, index, n_key, d, regs, p, before, now);                                                           \
        for (; d + LANES <= d_head; d += LANES)                                                                                                    \
            values_##stem(d_head, m, queries, v, index, n_key, d, 1, p, before, now);                                                              \
        for (; d < d_head; d++)                                                                                                                    \
            for (int t = 0; t < m; t++) {                                                                                                          \
                float sum = 0.0f;                                                                                                                  \
                for (int i = 0; i < n_key; i++)                                                                                                    \
                    sum = sl_fma(p[t][index[i]], SCALAR_##stem(v, d_head * index[i] + d), sum);                                                    \
                queries[t].o[d] = sl_fma(sum, now[t], queries[t].o[d] * before[t]);                                                                \
            }                                                                                                                                      \
    }                                                                                                                                              \
    ATTENTION_BLOCKS(stem)
FLOAT_ATTENTION(f32, float)
FLOAT_ATTENTION(f16, uint16_t)

#include "kernels_cache.h"

#endif
