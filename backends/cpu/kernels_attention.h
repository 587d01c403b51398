/* SPDX-License-Identifier: MIT */
/* kernels_attention.h - attention in lanes: one query and the keys before it, or several queries and spans of keys. A part of kernels_lanes.h, which
 * includes it; the same rules hold. */
#ifndef CPU_KERNELS_ATTENTION_H
#define CPU_KERNELS_ATTENTION_H

enum { KEY_REGS = SL_PAGE_KEYS / LANES };

/* The scores of 64 keys, those that are not visible meaningless, to p = exp(score - *m) and *l; their p is +0, which adds nothing. */
INLINE void softmax(uint64_t visible, float scale, vf s[KEY_REGS], float p[SL_PAGE_KEYS], float *m, float *l)
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
        const vf e = f_exp(f_sub(f_load(p + LANES * i), tops));
        f_store(p + LANES * i, e);
        sum[i % REGS] = f_add(sum[i % REGS], e);
    }
    UNROLL for (int r = 0; r < REGS; r++)
        f_store(sums + r * LANES, sum[r]);
    *l = cpu_halve(sums);
}

#define SCALAR_f32(x, i) ((const float *)(x))[i]
#define SCALAR_f16(x, i) sl_half_to_float(((const uint16_t *)(x))[i])
/* `regs` registers of o from element d on: chains over the keys. */
#define VALUES_FN(stem, type)                                                                                                                      \
    INLINE void values_##stem(int64_t d_head, int n_key, const float *p, const type *v, int64_t d, int regs, float *o)                             \
    {                                                                                                                                              \
        vf s[4];                                                                                                                                   \
        UNROLL for (int r = 0; r < regs; r++)                                                                                                      \
            s[r] = f_set(0.0f);                                                                                                                    \
        for (int j = 0; j < n_key; j++)                                                                                                            \
            UNROLL for (int r = 0; r < regs; r++)                                                                                                  \
                s[r] = f_fma(f_set(p[j]), f_load_##stem(v + d_head * j + d + r * LANES), s[r]);                                                    \
        UNROLL for (int r = 0; r < regs; r++)                                                                                                      \
            f_store(o + d + r * LANES, s[r]);                                                                                                      \
    }
#define ATTENTION_FN(stem, type)                                                                                                                   \
    VALUES_FN(stem, type)                                                                                                                          \
    static void attention_##stem(int64_t d_head, int n_key, const float *q, const void *keys, const void *values, float scale, float *m, float *l, float *o) \
    {                                                                                                                                              \
        const type *k = keys, *v = values;                                                                                                         \
        float p[SL_PAGE_KEYS];                                                                                                                     \
        vf s[KEY_REGS];                                                                                                                            \
        int64_t d = 0;                                                                                                                             \
        UNROLL for (int i = 0; i < KEY_REGS; i++)                                                                                                  \
            s[i] = f_set(0.0f);                                                                                                                    \
        for (; d < d_head; d++)                                                                                                                    \
            UNROLL for (int i = 0; i < KEY_REGS; i++)                                                                                              \
                s[i] = f_fma(f_set(q[d]), f_load_##stem(k + SL_PAGE_KEYS * d + LANES * i), s[i]);                                                  \
        softmax(~(uint64_t)0 >> (SL_PAGE_KEYS - n_key), scale, s, p, m, l);                                                                                                         \
        for (d = 0; d + 4 * LANES <= d_head; d += 4 * LANES)                                                                                       \
            values_##stem(d_head, n_key, p, v, d, 4, o);                                                                                           \
        for (; d + LANES <= d_head; d += LANES)                                                                                                    \
            values_##stem(d_head, n_key, p, v, d, 1, o);                                                                                           \
        for (; d < d_head; d++) {                                                                                                                  \
            float sum = 0.0f;                                                                                                                      \
            for (int j = 0; j < n_key; j++)                                                                                                        \
                sum = sl_fma(p[j], SCALAR_##stem(v, d_head * j + d), sum);                                                                         \
            o[d] = sum;                                                                                                                            \
        }                                                                                                                                          \
    }
ATTENTION_FN(f32, float)
ATTENTION_FN(f16, uint16_t)

static void merge(int64_t d_head, const float *o_block, float c, float a, float *o)
{
    const vf cs = f_set(c), as = f_set(a);
    int64_t d = 0;
    for (; d + LANES <= d_head; d += LANES)
        f_store(o + d, f_fma(f_load(o_block + d), cs, f_mul(f_load(o + d), as)));
    for (; d < d_head; d++)
        o[d] = sl_fma(o_block[d], c, o[d] * a);
}

/* ---- attention to spans of keys ---- */

/* Registers of keys, or of elements of o, that all queries of a block meet at once: with 6 queries they take 24 registers of 32, or 12 of 16. */
enum { SPAN_REGS = LANES == 8 ? 2 : 4 };

/* Scores of all 64 keys of m queries, before scaling. */
INLINE void span_scores(int64_t d_head, int m, const cpu_span_state *queries, const float *k, float (*p)[SL_PAGE_KEYS])
{
    const float *q[CPU_SPAN_QUERIES];
    for (int t = 0; t < m; t++)
        q[t] = queries[t].q;
    for (int at = 0; at < SL_PAGE_KEYS; at += SPAN_REGS * LANES) {
        vf s[CPU_SPAN_QUERIES][SPAN_REGS], keys[SPAN_REGS];
        UNROLL for (int t = 0; t < m; t++)
            UNROLL for (int r = 0; r < SPAN_REGS; r++)
                s[t][r] = f_set(0.0f);
        for (int64_t d = 0; d < d_head; d++) {
            UNROLL for (int r = 0; r < SPAN_REGS; r++)
                keys[r] = f_load(k + SL_PAGE_KEYS * d + at + LANES * r);
            UNROLL for (int t = 0; t < m; t++) {
                const vf x = f_set(q[t][d]);
                UNROLL for (int r = 0; r < SPAN_REGS; r++)
                    s[t][r] = f_fma(x, keys[r], s[t][r]);
            }
        }
        UNROLL for (int t = 0; t < m; t++)
            UNROLL for (int r = 0; r < SPAN_REGS; r++)
                f_store(p[t] + at + LANES * r, s[t][r]);
    }
}

/* `regs` registers of o of m queries from element d on: chains over the visible keys, joined to what was there. */
INLINE void span_values(int64_t d_head, int m, cpu_span_state *queries, const float *v, const uint8_t *index, int n_key, int64_t d, int regs,
                        float (*p)[SL_PAGE_KEYS], const float *before, const float *now)
{
    vf s[CPU_SPAN_QUERIES][SPAN_REGS], values[SPAN_REGS];
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < regs; r++)
            s[t][r] = f_set(0.0f);
    for (int i = 0; i < n_key; i++) {
        const int j = index[i];
        UNROLL for (int r = 0; r < regs; r++)
            values[r] = f_load(v + d_head * j + d + LANES * r);
        UNROLL for (int t = 0; t < m; t++) {
            const vf x = f_set(p[t][j]);
            UNROLL for (int r = 0; r < regs; r++)
                s[t][r] = f_fma(x, values[r], s[t][r]);
        }
    }
    UNROLL for (int t = 0; t < m; t++)
        UNROLL for (int r = 0; r < regs; r++) {
            float *o = queries[t].o + d + LANES * r;
            f_store(o, f_fma(s[t][r], f_set(now[t]), f_mul(f_load(o), f_set(before[t]))));
        }
}

/* From scores to weights p; each query's maximum and sum joined with what was there. before, now: the factors of the old and the new sums. */
INLINE void span_weights(int m, cpu_span_state *queries, uint64_t visible, float scale, float (*p)[SL_PAGE_KEYS], float before[16], float now[16])
{
    float l[CPU_SPAN_QUERIES];
    for (int t = 0; t < m; t++) {
        vf s[KEY_REGS];
        float top;
        UNROLL for (int i = 0; i < KEY_REGS; i++)
            s[i] = f_load(p[t] + LANES * i);
        softmax(visible, scale, s, p[t], &top, &l[t]);
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

/* The block for a constant number of queries. */
#define SPAN_BLOCK_FN(m)                                                                                                                               static __attribute__((noinline)) void span_block_##m(int64_t d_head, cpu_span_state *queries, const float *k, const float *v, uint64_t visible,                                                            float scale, const uint8_t *index, int n_key)                                                 {                                                                                                                                                      float p[m][SL_PAGE_KEYS], before[16] = { 0 }, now[16] = { 0 };                                                                                     int64_t d = 0;                                                                                                                                     span_scores(d_head, m, queries, k, p);                                                                                                             span_weights(m, queries, visible, scale, p, before, now);                                                                                          for (; d + SPAN_REGS * LANES <= d_head; d += SPAN_REGS * LANES)                                                                                        span_values(d_head, m, queries, v, index, n_key, d, SPAN_REGS, p, before, now);                                                                for (; d + LANES <= d_head; d += LANES)                                                                                                                span_values(d_head, m, queries, v, index, n_key, d, 1, p, before, now);                                                                        for (; d < d_head; d++)                                                                                                                                for (int t = 0; t < m; t++) {                                                                                                                          float sum = 0.0f;                                                                                                                                  for (int i = 0; i < n_key; i++)                                                                                                                        sum = sl_fma(p[t][index[i]], v[d_head * index[i] + d], sum);                                                                                   queries[t].o[d] = sl_fma(sum, now[t], queries[t].o[d] * before[t]);                                                                            }                                                                                                                                          }
SPAN_BLOCK_FN(1)
SPAN_BLOCK_FN(2)
SPAN_BLOCK_FN(3)
SPAN_BLOCK_FN(4)
SPAN_BLOCK_FN(5)
SPAN_BLOCK_FN(6)

static void span_block(int64_t d_head, int n, cpu_span_state *queries, const float *k, const float *v, uint64_t visible, float scale)
{
    typedef void block_fn(int64_t, cpu_span_state *, const float *, const float *, uint64_t, float, const uint8_t *, int);
    static block_fn *const blocks[] = { span_block_1, span_block_2, span_block_3, span_block_4, span_block_5, span_block_6 };
    uint8_t index[SL_PAGE_KEYS];
    int n_key = 0;
    for (uint64_t left = visible; left; left &= left - 1)
        index[n_key++] = (uint8_t)__builtin_ctzll(left);
    blocks[n - 1](d_head, queries, k, v, visible, scale, index, n_key);
}

/* A page: n is a multiple of 64. */
static void widen_f16(int64_t n, const void *from, float *to)
{
    for (int64_t i = 0; i < n; i += LANES)
        f_store(to + i, f_load_f16((const uint16_t *)from + i));
}

#endif
