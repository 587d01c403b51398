/* SPDX-License-Identifier: MIT */
/* kernels_attention.h - attention in lanes: many queries meet a page of keys and values, six at a time. A part of kernels_lanes.h, which includes it; the same
 * rules hold.
 *
 * A page goes through three loops over all queries: scores, weights, values. So what the numbers of a page are converted to serves all of them, stays in the
 * first-level cache, and keys and values use the same memory one after the other. */
#ifndef CPU_KERNELS_ATTENTION_H
#define CPU_KERNELS_ATTENTION_H

enum { KEY_REGS = SL_PAGE_KEYS / LANES };
/* Queries whose sums are in registers at once; registers of keys, or of elements of o, that they meet: they take 24 registers of 32, or 12 of 16. */
enum { GROUP = 6, GROUP_REGS = LANES == 8 ? 2 : 4 };
/* A single query takes more of them: fewer than eight chains wait for each other. */
enum { ONE_REGS = LANES == 16 ? 4 : 8 };
#define REGS_FOR(m) ((m) == 1 ? ONE_REGS : GROUP_REGS)

/* Asks for a line that the next page will want: it comes from memory while this one is computed. What follows a page of 4 KiB the processor does not fetch by itself. */
#define ASK(address) __builtin_prefetch(address, 0, 3)

/* What blocks scribble on. p: scores, then weights; page: keys, then values, as an f32 cache would hold them. */
typedef struct attention_area { float p[CPU_ATTENTION_QUERIES][SL_PAGE_KEYS], before[CPU_ATTENTION_QUERIES], now[CPU_ATTENTION_QUERIES], page[]; } attention_area;
static size_t attention_work(int64_t d_head) { return sizeof(attention_area) + (size_t)(d_head + 1) / 2 * 2 * SL_PAGE_KEYS * sizeof(float); }

static uint64_t visible_to_any(int n, const cpu_query *queries)
{
    uint64_t visible = 0;
    for (int t = 0; t < n; t++)
        visible |= queries[t].visible;
    return visible;
}
INLINE int end_of(uint64_t visible) { return 64 - __builtin_clzll(visible); }

/* Of `left` queries those that come next: six, or so many that none is left alone. */
INLINE int group_of(int left)
{
    const int groups = (left + GROUP - 1) / GROUP;
    return (left + groups - 1) / groups;
}

/* ---- from scores to weights ---- */

/* f_exp of what is not above 0, or is NaN. */
INLINE vf f_exp_of_fall(vf x)
{
    vf t;
    const vf p = f_exp_parts(x, &t);
    return f_where_less(x, f_set(SL_EXP_MIN), f_set(0.0f), f_mul(p, f_power(t)));
}

/* Scales the scores of 64 keys, those that are not visible become -infinity; returns the largest. hidden: below 0 for these. */
INLINE float scale_scores(int all, const float *hidden, float scale, float *p)
{
    vf top, s[KEY_REGS];
    UNROLL for (int i = 0; i < KEY_REGS; i++) {
        s[i] = f_mul(f_load(p + LANES * i), f_set(scale));
        if (!all)
            s[i] = f_where_less(f_load(hidden + LANES * i), f_set(0.0f), f_set(sl_float(0xff800000u)), s[i]);
        f_store(p + LANES * i, s[i]);
    }
    top = s[0];
    UNROLL for (int i = 1; i < KEY_REGS; i++)
        top = f_max(top, s[i]);
    return f_most(top) + 0.0f;
}

/* Scores that are scaled to p = exp(score - top); returns the 16-sum. Keys that are not visible get +0, which adds nothing. b16: p is rounded for bf16 arithmetic. */
INLINE float weigh(float top, int b16, float *p)
{
    vf sum[REGS];
    UNROLL for (int i = 0; i < KEY_REGS; i++) {
        vf e = f_exp_of_fall(f_sub(f_load(p + LANES * i), f_set(top)));
        if (b16)
            e = f_flush(f_round(e));
        f_store(p + LANES * i, e);
        sum[i % REGS] = i < REGS ? f_add(f_set(0.0f), e) : f_add(sum[i % REGS], e);
    }
    return f_halve(sum);
}

/* From scores to weights; each query's maximum and sum joined with what was there. before, now: the factors of the old and the new sums. */
INLINE void join_all(int n, cpu_query *queries, float scale, int b16, float (*p)[SL_PAGE_KEYS], float *before, float *now)
{
    float hidden[SL_PAGE_KEYS], top[CPU_ATTENTION_QUERIES], l[CPU_ATTENTION_QUERIES];
    uint64_t last = UINT64_MAX;
    for (int t = 0; t < n; t++) {
        const uint64_t visible = queries[t].visible;
        if (visible != last && visible != UINT64_MAX)
            for (int j = 0; j < SL_PAGE_KEYS; j++)
                hidden[j] = visible >> j & 1 ? 0.0f : -1.0f;
        last = visible;
        top[t] = visible == UINT64_MAX ? scale_scores(1, NULL, scale, p[t]) : scale_scores(0, hidden, scale, p[t]);
        const float most = queries[t].max > top[t] ? queries[t].max : top[t];
        before[t] = queries[t].max - most;
        now[t] = top[t] - most;
        queries[t].max = most;
    }
    for (int t = n; t % LANES; t++)
        before[t] = now[t] = 0.0f;
    for (int t = 0; t < n; t += LANES) {
        f_store(before + t, f_exp_of_fall(f_load(before + t)));
        f_store(now + t, f_exp_of_fall(f_load(now + t)));
    }
    for (int t = 0; t < n; t++)
        l[t] = weigh(top[t], b16, p[t]);
    for (int t = 0; t < n; t++)
        queries[t].sum = sl_fma(l[t], now[t], queries[t].sum * before[t]);
}

static void join_weights(int n, cpu_query *queries, float scale, attention_area *w) { join_all(n, queries, scale, 0, w->p, w->before, w->now); }
static void join_weights_b16(int n, cpu_query *queries, float scale, attention_area *w) { join_all(n, queries, scale, 1, w->p, w->before, w->now); }

/* ---- loops over groups ---- */

/* A function for each number of queries, so that their number is constant in each. */
#define EACH_COUNT(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4) X(name, 5) X(name, 6)
#define TABLE_OF(name, m) name##_##m,

/* Scores of all 64 keys, before scaling; of those that nobody sees anything. next: keys to ask for meanwhile. */
#define SCORES_OF(name, m)                                                                                                                         \
    static __attribute__((noinline)) void name##_##m(int64_t d_head, const cpu_query *queries, const void *k, const void *next, float (*p)[SL_PAGE_KEYS]) \
    {                                                                                                                                              \
        name(d_head, m, queries, k, next, p);                                                                                                      \
    }
#define SCORES(name)                                                                                                                               \
    EACH_COUNT(SCORES_OF, name)                                                                                                                    \
    static void name##_all(int64_t d_head, int n, const cpu_query *queries, const void *k, const void *next, float (*p)[SL_PAGE_KEYS])             \
    {                                                                                                                                              \
        typedef void group_fn(int64_t d_head, const cpu_query *queries, const void *k, const void *next, float (*p)[SL_PAGE_KEYS]);                \
        static group_fn *const of[] = { EACH_COUNT(TABLE_OF, name) };                                                                              \
        for (int i = 0, m; i < n; i += m) {                                                                                                        \
            m = group_of(n - i);                                                                                                                   \
            of[m - 1](d_head, queries + i, k, next, p + i);                                                                                        \
        }                                                                                                                                          \
    }

/* The keys that a group sees: those that all do, ascending, and behind them those that some do. all: the former, if there are no others, or 0. */
typedef struct key_list { int n; uint8_t index[SL_PAGE_KEYS]; uint64_t extra[GROUP], all; } key_list;

/* Queries 0 .. m - 1 as a group, m <= most: returns m. keys: what the group before saw, to begin with of no keys. */
INLINE int list_keys(int most, const cpu_query *queries, key_list *keys)
{
    uint64_t common = queries[0].visible;
    int m = 1;
    while (m < most && queries[m].visible == common)
        m++;
    if (m == most && common == keys->all)
        return m;
    for (m = 1; m < most; m++) {
        const uint64_t next = common & queries[m].visible;
        uint64_t extra = 0;
        for (int t = 0; t <= m; t++)
            extra |= queries[t].visible & ~next;
        if (!next || (extra && __builtin_ctzll(extra) < end_of(next)))
            break;
        common = next;
    }
    keys->all = common;
    for (int t = 0; t < GROUP; t++) {
        keys->extra[t] = t < m ? queries[t].visible & ~common : 0;
        keys->all = keys->extra[t] ? 0 : keys->all;
    }
    for (keys->n = 0; common; common &= common - 1)
        keys->index[keys->n++] = (uint8_t)__builtin_ctzll(common);
    return m;
}

/* Weights times values, joined to what was there. */
#define VALUES_ARGS int64_t d_head, cpu_query *queries, const void *v, const void *next, const key_list *keys, float (*p)[SL_PAGE_KEYS], const float *before, const float *now
#define VALUES_OF(name, m) static __attribute__((noinline)) void name##_##m(VALUES_ARGS) { name(d_head, m, queries, v, next, keys, p, before, now); }
#define VALUES(name)                                                                                                                               \
    EACH_COUNT(VALUES_OF, name)                                                                                                                    \
    static void name##_all(int64_t d_head, int n, cpu_query *queries, const void *v, const void *next, attention_area *w)                          \
    {                                                                                                                                              \
        typedef void group_fn(VALUES_ARGS);                                                                                                        \
        static group_fn *const of[] = { EACH_COUNT(TABLE_OF, name) };                                                                              \
        key_list keys = { .all = 0 };                                                                                                              \
        for (int i = 0, m; i < n; i += m) {                                                                                                        \
            m = list_keys(group_of(n - i), queries + i, &keys);                                                                                    \
            of[m - 1](d_head, queries + i, v, next, &keys, w->p + i, w->before + i, w->now + i);                                                   \
        }                                                                                                                                          \
    }

/* ---- f32 and f16 ---- */

/* How many of the `left` registers of o come next, at most `most`: all alike, so that none is alone with short chains. 8, 4, 3, 2, 1, or 0 for none. */
INLINE int regs_of(int64_t left, int most)
{
    const int64_t passes = (left + most - 1) / most, regs = left ? (left + passes - 1) / passes : 0;
    return regs > 4 && regs < 8 ? 4 : (int)regs;
}

#define SCALAR_f32(x, i) ((const float *)(x))[i]
#define SCALAR_f16(x, i) sl_half_to_float(((const uint16_t *)(x))[i])
/* some_values: `regs` registers of o from element d on. */
#define FLOAT_ATTENTION(stem, type)                                                                                                                \
    INLINE void scores_##stem(int64_t d_head, int m, const cpu_query *queries, const type *k, const type *next, float (*p)[SL_PAGE_KEYS])          \
    {                                                                                                                                              \
        const int regs = REGS_FOR(m);                                                                                                              \
        const float *q[GROUP];                                                                                                                     \
        for (int t = 0; t < m; t++)                                                                                                                \
            q[t] = queries[t].q;                                                                                                                   \
        for (int at = 0; at < SL_PAGE_KEYS; at += regs * LANES) {                                                                                  \
            vf s[GROUP][ONE_REGS], keys[ONE_REGS];                                                                                                 \
            UNROLL for (int t = 0; t < m; t++)                                                                                                     \
                UNROLL for (int r = 0; r < regs; r++)                                                                                              \
                    s[t][r] = f_set(0.0f);                                                                                                         \
            for (int64_t d = 0; d < d_head; d++) {                                                                                                 \
                UNROLL for (int r = 0; r < regs; r++) {                                                                                            \
                    keys[r] = f_load_##stem(k + SL_PAGE_KEYS * d + at + LANES * r);                                                                \
                    if (LANES * r * sizeof *k % CPU_LINE == 0)                                                                                     \
                        ASK(next + SL_PAGE_KEYS * d + at + LANES * r);                                                                             \
                }                                                                                                                                  \
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
    INLINE void some_values_##stem(int64_t d_head, int m, cpu_query *queries, const type *v, const type *next, const key_list *list, int64_t d, int regs, \
                                   float (*p)[SL_PAGE_KEYS], const float *before, const float *now)                                                \
    {                                                                                                                                              \
        vf s[GROUP][ONE_REGS], values[ONE_REGS];                                                                                                   \
        UNROLL for (int t = 0; t < m; t++)                                                                                                         \
            UNROLL for (int r = 0; r < regs; r++)                                                                                                  \
                s[t][r] = f_set(0.0f);                                                                                                             \
        for (int i = 0; i < list->n; i++) {                                                                                                        \
            const int j = list->index[i];                                                                                                          \
            UNROLL for (int r = 0; r < regs; r++) {                                                                                                \
                values[r] = f_load_##stem(v + d_head * j + d + LANES * r);                                                                         \
                if (LANES * r * sizeof *v % CPU_LINE == 0)                                                                                         \
                    ASK(next + d_head * j + d + LANES * r);                                                                                        \
            }                                                                                                                                      \
            UNROLL for (int t = 0; t < m; t++) {                                                                                                   \
                const vf x = f_set(p[t][j]);                                                                                                       \
                UNROLL for (int r = 0; r < regs; r++)                                                                                              \
                    s[t][r] = f_fma(x, values[r], s[t][r]);                                                                                        \
            }                                                                                                                                      \
        }                                                                                                                                          \
        UNROLL for (int t = 0; t < m; t++) {                                                                                                       \
            for (uint64_t extra = list->extra[t]; extra; extra &= extra - 1) {                                                                     \
                const int j = __builtin_ctzll(extra);                                                                                              \
                UNROLL for (int r = 0; r < regs; r++)                                                                                              \
                    s[t][r] = f_fma(f_set(p[t][j]), f_load_##stem(v + d_head * j + d + LANES * r), s[t][r]);                                       \
            }                                                                                                                                      \
            UNROLL for (int r = 0; r < regs; r++) {                                                                                                \
                float *o = queries[t].o + d + LANES * r;                                                                                           \
                f_store(o, f_fma(s[t][r], f_set(now[t]), f_mul(f_load(o), f_set(before[t]))));                                                     \
            }                                                                                                                                      \
        }                                                                                                                                          \
    }                                                                                                                                              \
    INLINE void values_##stem(int64_t d_head, int m, cpu_query *queries, const type *v, const type *next, const key_list *list, float (*p)[SL_PAGE_KEYS], \
                              const float *before, const float *now)                                                                               \
    {                                                                                                                                              \
        int64_t d = 0;                                                                                                                              \
        for (int regs; (regs = regs_of((d_head - d) / LANES, REGS_FOR(m))) > 0; d += regs * LANES) {                                                \
            if (regs == 8)                                                                                                                          \
                some_values_##stem(d_head, m, queries, v, next, list, d, REGS_FOR(m) == 8 ? 8 : 1, p, before, now);                                 \
            else if (regs == 4)                                                                                                                     \
                some_values_##stem(d_head, m, queries, v, next, list, d, REGS_FOR(m) >= 4 ? 4 : 1, p, before, now);                                 \
            else if (regs == 3)                                                                                                                     \
                some_values_##stem(d_head, m, queries, v, next, list, d, REGS_FOR(m) >= 4 ? 3 : 1, p, before, now);                                 \
            else if (regs == 2)                                                                                                                     \
                some_values_##stem(d_head, m, queries, v, next, list, d, 2, p, before, now);                                                        \
            else                                                                                                                                    \
                some_values_##stem(d_head, m, queries, v, next, list, d, 1, p, before, now);                                                        \
        }                                                                                                                                           \
        for (; d < d_head; d++)                                                                                                                    \
            for (int t = 0; t < m; t++) {                                                                                                          \
                float sum = 0.0f;                                                                                                                  \
                for (int i = 0; i < list->n; i++)                                                                                                  \
                    sum = sl_fma(p[t][list->index[i]], SCALAR_##stem(v, d_head * list->index[i] + d), sum);                                        \
                for (uint64_t extra = list->extra[t]; extra; extra &= extra - 1)                                                                   \
                    sum = sl_fma(p[t][__builtin_ctzll(extra)], SCALAR_##stem(v, d_head * __builtin_ctzll(extra) + d), sum);                        \
                queries[t].o[d] = sl_fma(sum, now[t], queries[t].o[d] * before[t]);                                                                \
            }                                                                                                                                      \
    }                                                                                                                                              \
    SCORES(scores_##stem)                                                                                                                          \
    VALUES(values_##stem)
FLOAT_ATTENTION(f32, float)
FLOAT_ATTENTION(f16, uint16_t)

static void attention_f32(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)
{
    attention_area *w = work;
    scores_f32_all(d_head, n, queries, page.k, next.k, w->p);
    join_weights(n, queries, scale, w);
    values_f32_all(d_head, n, queries, page.v, next.v, w);
}

static const float *widen_f16(int64_t d_head, const uint16_t *x, const uint16_t *next, float *to)
{
    for (int64_t i = 0; i < d_head * SL_PAGE_KEYS; i += LANES) {
        f_store(to + i, f_load_f16(x + i));
        ASK(next + i);
    }
    return to;
}

static void attention_f16(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work)
{
    attention_area *w = work;
    if (n <= GROUP)
        scores_f16_all(d_head, n, queries, page.k, next.k, w->p);
    else
        scores_f32_all(d_head, n, queries, widen_f16(d_head, page.k, next.k, w->page), w->page, w->p);
    join_weights(n, queries, scale, w);
    if (n <= GROUP)
        values_f16_all(d_head, n, queries, page.v, next.v, w);
    else
        values_f32_all(d_head, n, queries, widen_f16(d_head, page.v, next.v, w->page), w->page, w);
}

#endif
