/* SPDX-License-Identifier: MIT */
/* kernels_walk.h - the walk over panels that all products of few rows share: panel kernels out of steps for one panel, and for two at a time; what is asked of
 * memory meanwhile. Included by kernels_lanes.h. */
#ifndef CPU_KERNELS_WALK_H
#define CPU_KERNELS_WALK_H

/* Asks for this stream's share of the lines that all streams need one step later. A kernel fills the processor's queues with instructions that
 * wait for data before enough misses are under way; this puts them under way. At the end of a panel the next panel of the stream follows. */
INLINE void fetch(const uint8_t *panel, size_t panel_stride, int n_panel, int p, size_t offset, int lines)
{
    const int slice = (lines + n_panel - 1) / n_panel;
    for (int g = 0; g < n_panel; g++) {
        const uint8_t *from = panel + (size_t)g * panel_stride + offset + (size_t)(p * slice) * CPU_LINE;
        for (int i = 0; i < slice; i++)
            __builtin_prefetch(from + CPU_LINE * i, 0, 3);
    }
}

/* What a kernel that computes about as long as memory takes asks for meanwhile: `each` lines of two panels at a time, `left` in all; a burst of them would be in its way. */
typedef struct ahead { const uint8_t *at; size_t apart; int each, left; } ahead;
INLINE void fetch_some(ahead *a)
{
    const int n = a->each < a->left ? a->each : a->left;
    a->left -= n;
    for (int i = 0; i < n; i++, a->at += CPU_LINE) {
        __builtin_prefetch(a->at, 0, 3);
        __builtin_prefetch(a->at + a->apart, 0, 3);
    }
}

/* PAIR_T or PAIR_MOST rows of activations by two panels, `apart` bytes apart: what is loaded of a row serves both. x: the first row, the others `row` bytes
 * apart: pointers to eight rows are more than there are registers. acc[t]: sums of the first panel, acc[CPU_MAX_M + t]: of the second. Calls fetch_some(a)
 * PAIR_CALLS times, for what comes PAIR_STEPS steps later. NO_PAIR: the type has none, every panel is for itself. */
enum { PAIR_T = 4, PAIR_MOST = 8, PAIR_CALLS = 8, PAIR_STEPS = 2, PAIR_ACTS = 320 };      /* the last: bytes of activations of a step, at most */
typedef void pair_fn(const uint8_t *panel, size_t apart, int64_t k, int n, const uint8_t *x, size_t row, float (*acc)[CPU_PANEL], ahead *a);
typedef struct pair_fns { pair_fn *some, *most; } pair_fns;     /* of PAIR_T rows; of PAIR_MOST, or NULL: those go in two passes */
#define NO_PAIR ((pair_fns) { NULL, NULL })
#define PAIR_FEW(stem) ((pair_fns) { pair_##stem##_4, NULL })
#define PAIR(stem) ((pair_fns) { pair_##stem##_4, pair_##stem##_8 })
#define PAIRS(stem) PAIR_OF(stem, 4) PAIR_OF(stem, 8)
#define PAIR_OF(stem, m)                                                                                                                           \
    static ALONE void pair_##stem##_##m(const uint8_t *panel, size_t apart, int64_t k, int n, const uint8_t *x, size_t row, float (*acc)[CPU_PANEL], ahead *a) \
    {                                                                                                                                              \
        pair_##stem(panel, apart, k, n, pair_rows_of(x, row), m, acc, a);                                                                          \
    }

/* Rows that lie evenly, out of four registers: the addressing modes of x86 do the rest, if the compiler knows nothing of where these come from. */
typedef struct pair_rows { const uint8_t *lower, *upper; size_t row, row3; } pair_rows;
INLINE pair_rows pair_rows_of(const uint8_t *x, size_t row)
{
    pair_rows y = { x, x + 4 * row, row, 3 * row };
    __asm__("" : "+r"(y.lower), "+r"(y.upper), "+r"(y.row), "+r"(y.row3));
    return y;
}
INLINE const uint8_t *pair_row(pair_rows y, int t)      /* t < PAIR_MOST */
{
    const uint8_t *four = t < 4 ? y.lower : y.upper;
    return t % 4 == 3 ? four + y.row3 : four + (size_t)(t % 4) * y.row;
}

/* m rows with even distances *row: where they are, or copied to `room` (pairs that chose an expert lie anywhere). */
INLINE const uint8_t *even_rows(const uint8_t *const *x, int m, size_t bytes, uint8_t *room, size_t *row)
{
    *row = (uintptr_t)x[1] - (uintptr_t)x[0];
    uintptr_t odd = *row > PTRDIFF_MAX;
    for (int t = 2; t < m; t++)
        odd |= ((uintptr_t)x[t] - (uintptr_t)x[t - 1]) ^ *row;
    if (!odd)
        return x[0];
    *row = bytes;
    for (int t = 0; t < m; t++)
        memcpy(room + (size_t)t * bytes, x[t], bytes);
    return room;
}

/* Rows of two panels together, PAIR_MOST and PAIR_T at a time; returns how many that were. act_bytes: of n elements. */
INLINE int lanes_pairs(pair_fns both, size_t step_bytes, size_t act_bytes, const uint8_t *w, size_t apart, int64_t k, size_t i, int n,
                       const uint8_t *const *x, int m, float (*acc)[CPU_PANEL])
{
    const int lines = (int)((step_bytes + CPU_LINE - 1) / CPU_LINE), most = both.most ? PAIR_MOST : PAIR_T;
    const int calls = (m / most + m % most / PAIR_T) * PAIR_CALLS;
    ahead a = { w + (i + PAIR_STEPS) * step_bytes, apart, (lines + calls - 1) / calls, lines };
    uint8_t room[PAIR_MOST * PAIR_ACTS];
    size_t row;
    int t = 0;
    for (; both.most && m - t >= PAIR_MOST; t += PAIR_MOST) {
        const uint8_t *from = even_rows(x + t, PAIR_MOST, act_bytes, room, &row);
        both.most(w, apart, k, n, from, row, acc + t, &a);
    }
    for (; m - t >= PAIR_T; t += PAIR_T) {
        const uint8_t *from = even_rows(x + t, PAIR_T, act_bytes, room, &row);
        both.some(w, apart, k, n, from, row, acc + t, &a);
    }
    return t;
}

/* A panel kernel out of `step`, which takes `values` elements of one panel (fewer at the end) to m rows, m constant:
 *   step(panel, k, n, x, m, acc)     elements [k, k + n); x[t]: activations from element k on
 * and `pair`, the pair_fns of the same elements. step_bytes: of a panel, per step, on average; act_bytes: of activations, per step. A function of its own for each
 * m keeps compilers quick; ALONE: callers conclude nothing from its body. gcc 12 took one that stores sums for one without effect, and left out its calls. */
#define LANES_STEP(name, step, m)                                                                                                                  \
    static ALONE void name##_##m(const uint8_t *w, int64_t k, int n, const uint8_t *const *x, float (*acc)[CPU_PANEL])                             \
    {                                                                                                                                              \
        step(w, k, n, x, m, acc);                                                                                                                  \
    }
#define LANES_PANEL(name, values, step_bytes, act_bytes, step) LANES_STEPS(name, step) LANES_WALK(name, name, values, step_bytes, act_bytes, NO_PAIR)
/* One walk without a word of pairs in it, for rows that are too few for them: around it one row of Q6_K loses 2 to 7 % (Zen 5). */
#define LANES_PANELS(name, values, step_bytes, act_bytes, step, pair)                                                                              \
    LANES_STEPS(name, step)                                                                                                                        \
    LANES_WALK(name##_single, name, values, step_bytes, act_bytes, NO_PAIR)                                                                        \
    LANES_WALK(name##_paired, name, values, step_bytes, act_bytes, pair)                                                                           \
    static void name(int64_t n_in, const uint8_t *panel, size_t panel_stride, int n_panel, const uint8_t *const *act, int m,                       \
                     float (*acc)[CPU_MAX_M][CPU_PANEL])                                                                                           \
    {                                                                                                                                              \
        if ((pair).some && m >= PAIR_T && n_panel > 1)                                                                                             \
            name##_paired(n_in, panel, panel_stride, n_panel, act, m, acc);                                                                        \
        else                                                                                                                                       \
            name##_single(n_in, panel, panel_stride, n_panel, act, m, acc);                                                                        \
    }
#define LANES_WALK(walk, name, values, step_bytes, act_bytes, pair)                                                                                \
    static ALONE void walk(int64_t n_in, const uint8_t *panel, size_t panel_stride, int n_panel, const uint8_t *const *act, int m,                 \
                     float (*acc)[CPU_MAX_M][CPU_PANEL])                                                                                           \
    {                                                                                                                                              \
        for (int64_t k = 0; k < n_in; k += (values)) {                                                                                             \
            const int n = n_in - k < (values) ? (int)(n_in - k) : (values);                                                                        \
            const size_t i = (size_t)(k / (values));                                                                                               \
            const uint8_t *x[CPU_MAX_M];                                                                                                           \
            const pair_fns both = (pair);                                                                                                          \
            int paired = 0;     /* rows of panel p that it had together with the one before */                                                     \
            for (int t = 0; t < m; t++)                                                                                                            \
                x[t] = act[t] + i * (act_bytes);                                                                                                   \
            for (int p = 0; p < n_panel; p++) {                                                                                                    \
                const uint8_t *w = panel + (size_t)p * panel_stride;                                                                               \
                int t = paired;                                                                                                                    \
                paired = 0;                                                                                                                        \
                if (t == 0 && both.some && m >= PAIR_T && p + 1 < n_panel)                                                                         \
                    t = paired = lanes_pairs(both, step_bytes, (size_t)n * (act_bytes) / (values), w, panel_stride, k, i, n, x, m, acc[p]);        \
                else if (t == 0)                                                                                                                   \
                    fetch(panel, panel_stride, n_panel, p, (i + 1) * (step_bytes), ((step_bytes) + CPU_LINE - 1) / CPU_LINE);                      \
                LANES_ROWS(name)                                                                                                                   \
            }                                                                                                                                      \
        }                                                                                                                                          \
    }
/* All m rows, MAX_T at a time and then by halves. */
#define LANES_SOME(name, count)                                                                                                                    \
    for (; m - t >= (count); t += (count))                                                                                                         \
        name##_##count(w, k, n, x + t, acc[p] + t);
#if MAX_T == 8
#define LANES_STEPS(name, step) LANES_STEP(name, step, 8) LANES_STEP(name, step, 4) LANES_STEP(name, step, 2) LANES_STEP(name, step, 1)
#define LANES_ROWS(name) LANES_SOME(name, 8) LANES_SOME(name, 4) LANES_SOME(name, 2) LANES_SOME(name, 1)
#else
#define LANES_STEPS(name, step) LANES_STEP(name, step, 4) LANES_STEP(name, step, 2) LANES_STEP(name, step, 1)
#define LANES_ROWS(name) LANES_SOME(name, 4) LANES_SOME(name, 2) LANES_SOME(name, 1)
#endif

#endif
