/* SPDX-License-Identifier: MIT */
/* kernels_wide.h - products of many activation rows with vpdpbusd: six rows of activations by two panels at a time. Included by kernels_avx512.c.
 *
 * A register holds 4 elements of k of the 16 rows of a panel; the same 4 elements of an activation row are splatted by the load, so that both vector
 * ports are left to the products. Twelve sums, twelve accumulators: they fit the registers, and every splat serves two products.
 *
 * Weights are the unsigned factor: they are converted to bytes 0 .. 255 by adding an offset, and the sums begin at -offset times the sum of the
 * activations, which the prepared rows hold. Sub-scales are applied to sums in 16 bits, of as many elements as fit:
 *     Q4_K    32, q less 8:   32 * 8 * 127 = 32512.    8 times the scaled sums of the activations is added afterwards
 *     Q5_K    8, twice:       8 * 31 * 127 = 31496
 *     Q6_K    8, q less 32, twice:    8 * 32 * 127 = 32512
 *     Q3_K    16, q less 4:   16 * 4 * 127
 *     Q2_K    16:             16 * 3 * 127
 *     IQ4_XS, tables and ternary types: none, sums of 32 or 16 are multiplied in 32 bits */
#ifndef CPU_KERNELS_WIDE_H
#define CPU_KERNELS_WIDE_H

enum { WIDE_T = 6 };

/* Converted panels; a line is 64 bytes: 4 elements of k of 16 rows. What stands behind `m` or from `least` on is there for types with minima. */
typedef struct { uint8_t q[64][64]; float d[8][16], m[8][16]; } wide_w32;           /* 8 blocks of 32, plus 128 */
typedef struct { uint8_t q[64][64]; int16_t scale[8][32], pair[4][32], least[4][32]; float d[16], m[16]; } wide_wq4_k;     /* scale: (s, 0); the others: those of two groups */
typedef struct { uint8_t q[64][64]; int16_t scale[16][32]; float d[16], m[16]; int16_t least[8][32]; } wide_w256;          /* groups of 16. scale: (s, 0), or (s, s) of Q5_K and Q6_K; least: those of two */

/* Prepared groups of rows. */
typedef struct { int8_t q[WIDE_T][256]; int32_t start[WIDE_T][8]; float d[WIDE_T][8], sum[WIDE_T][8], pad[16]; } wide_x32;
typedef struct { int8_t q[WIDE_T][256]; int32_t start[WIDE_T][8]; int16_t sum[WIDE_T][8], sum8[WIDE_T][8]; float d[16]; } wide_xq4_k;
typedef struct { int8_t q[WIDE_T][256]; float d[16]; int32_t start[WIDE_T][32]; int16_t sum[WIDE_T][16]; } wide_x256;
enum { WIDE_X32_PLAIN = offsetof(wide_x32, sum), WIDE_W32_PLAIN = offsetof(wide_w32, m) };
SL_STATIC_ASSERT(sizeof(wide_x32) % 64 == 0 && WIDE_X32_PLAIN % 64 == 0 && sizeof(wide_xq4_k) % 64 == 0 && sizeof(wide_x256) % 64 == 0, "prepared groups are whole lines");

/* ---- preparing ---- */

static void wide_prepare_32(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    wide_x32 *x = (void *)to;
    for (size_t t = 0; t < WIDE_T; t++)
        for (int b = 0; b < n_block; b++) {
            const sl_block_a32 *a = t < n ? ACT32(act[t], b) : NULL;
            _mm256_storeu_si256((void *)(x->q[t] + 32 * b), a ? _mm256_loadu_si256((const void *)a->q) : _mm256_setzero_si256());
            x->start[t][b] = a ? -128 * a->sum : 0;
            x->d[t][b] = a ? a->d : 0.0f;
        }
}

static void wide_prepare_32_least(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    wide_x32 *x = (void *)to;
    wide_prepare_32(n_block, act, n, to);
    for (size_t t = 0; t < WIDE_T; t++)
        for (int b = 0; b < n_block; b++)
            x->sum[t][b] = t < n ? (float)ACT32(act[t], b)->sum : 0.0f;
}

/* The bytes of a row of 256, or zeros. */
INLINE void wide_copy(const uint8_t *act, int there, int8_t *to)
{
    UNROLL for (int i = 0; i < 256; i += 64)
        _mm512_storeu_si512(to + i, there ? _mm512_loadu_si512(ACT256(act)->q + i) : _mm512_setzero_si512());
}

static void wide_prepare_q4_k(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    wide_xq4_k *x = (void *)to;
    (void)n_block;
    for (size_t t = 0; t < WIDE_T; t++) {
        const int there = t < n;
        const uint8_t *a = there ? act[t] : NULL;
        wide_copy(a, there, x->q[t]);
        x->d[t] = there ? ACT256(a)->d : 0.0f;
        for (int j = 0; j < 8; j++) {
            const int sum = there ? ACT256(a)->sum[2 * j] + ACT256(a)->sum[2 * j + 1] : 0;
            x->start[t][j] = -8 * sum;
            x->sum[t][j] = (int16_t)sum;
            x->sum8[t][j] = (int16_t)(8 * sum);
        }
    }
}

/* lines * 4 elements share a start: -offset times their sum. */
INLINE void wide_prepare_super(int lines, int offset, const uint8_t *const *act, size_t n, uint8_t *to)
{
    wide_x256 *x = (void *)to;
    for (size_t t = 0; t < WIDE_T; t++) {
        const int there = t < n;
        wide_copy(there ? act[t] : NULL, there, x->q[t]);
        x->d[t] = there ? ACT256(act[t])->d : 0.0f;
        _mm256_storeu_si256((void *)x->sum[t], there ? _mm256_loadu_si256((const void *)ACT256(act[t])->sum) : _mm256_setzero_si256());
        if (lines == 2)
            UNROLL for (int i = 0; i < 4; i++) {        /* sums of 4, of 8, the even ones of them */
                vi s = _mm512_dpbusd_epi32(_mm512_setzero_si512(), i_byte(1), _mm512_loadu_si512(x->q[t] + 64 * i));
                s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, (_MM_PERM_ENUM)0xb1));
                s = _mm512_maskz_compress_epi32(0x5555, _mm512_mullo_epi32(s, _mm512_set1_epi32(-offset)));
                _mm256_storeu_si256((void *)(x->start[t] + 8 * i), _mm512_castsi512_si256(s));
            }
        else
            for (int i = 0; i < 64 / lines; i++)
                x->start[t][i] = -offset * (lines == 4 ? x->sum[t][i] : x->sum[t][2 * i] + x->sum[t][2 * i + 1]);
    }
}

static void wide_prepare_q6_k(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, wide_prepare_super(2, 32, act, n, to); }
static void wide_prepare_q5_k(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, wide_prepare_super(2, 0, act, n, to); }
static void wide_prepare_q3_k(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, wide_prepare_super(4, 4, act, n, to); }
static void wide_prepare_q2_k(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, wide_prepare_super(4, 0, act, n, to); }
static void wide_prepare_iq4_xs(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, wide_prepare_super(8, 128, act, n, to); }
static void wide_prepare_bytes_16(int n_block, const uint8_t *const *act, size_t n, uint8_t *to) { (void)n_block, wide_prepare_super(4, 128, act, n, to); }

/* ---- converting ---- */

static void wide_convert_q8_0(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    wide_w32 *w = (void *)to;
    (void)n_in;
    for (int b = 0; b < n_block; b++) {
        const uint8_t *from = panel + cpu_body_offset(at_q8_0, first + (size_t)b);
        UNROLL for (int i = 0; i < 8; i++)
            _mm512_store_si512(w->q[8 * b + i], _mm512_xor_si512(i_load(from + CPU_LINE * i), i_byte((char)-128)));
        f_store(w->d[b], head(panel + cpu_head_offset(at_q8_0, first + (size_t)b), 0));
    }
}

static void wide_convert_q4_0(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    wide_w32 *w = (void *)to;
    const vi low = i_byte(15), up = i_byte(120);
    (void)n_in;
    for (int b = 0; b < n_block; b++) {
        const uint8_t *from = panel + cpu_body_offset(at_q4_0, first + (size_t)b);
        UNROLL for (int i = 0; i < 4; i++) {
            const vi q = i_load(from + CPU_LINE * i);
            _mm512_store_si512(w->q[8 * b + i], _mm512_add_epi8(i_and(q, low), up));
            _mm512_store_si512(w->q[8 * b + 4 + i], _mm512_add_epi8(i_and(i_right(q, 4), low), up));
        }
        f_store(w->d[b], head(panel + cpu_head_offset(at_q4_0, first + (size_t)b), 0));
    }
}

static void wide_convert_q4_k(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    wide_wq4_k *w = (void *)to;
    const uint8_t *from = panel + cpu_body_offset(at_q4_k, first), *heads = panel + cpu_head_offset(at_q4_k, first);
    const vi low = i_byte(15), word = _mm512_set1_epi32(0xffff);
    vi sc[2], mn[2];
    (void)n_in, (void)n_block;
    scales_q4_k(from, sc, mn);
    f_store(w->d, head(heads, 0));
    f_store(w->m, head(heads + CPU_LINE / 2, 0));
    UNROLL for (int j = 0; j < 8; j++)
        _mm512_store_si512(w->scale[j], i_and(i_words(sc[j / 4], j % 4, j % 4), word));
    UNROLL for (int j = 0; j < 8; j += 2) {
        _mm512_store_si512(w->pair[j / 2], i_words(sc[j / 4], j % 4, j % 4 + 1));
        _mm512_store_si512(w->least[j / 2], i_words(mn[j / 4], j % 4, j % 4 + 1));
    }
    for (int c = 0; c < 4; c++)
        UNROLL for (int i = 0; i < 8; i++) {
            const vi q = i_load(from + CPU_LINE * (3 + 8 * c + i));
            _mm512_store_si512(w->q[16 * c + i], i_and(q, low));
            _mm512_store_si512(w->q[16 * c + 8 + i], i_and(i_right(q, 4), low));
        }
}

static void wide_convert_q6_k(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    wide_w256 *w = (void *)to;
    const uint8_t *from = panel + cpu_body_offset(at_q6_k, first);
    (void)n_in, (void)n_block;
    f_store(w->d, head(panel + cpu_head_offset(at_q6_k, first), 0));
    for (int h = 0; h < 2; h++)
        UNROLL for (int g = 0; g < 8; g++) {
            _mm512_store_si512(w->scale[8 * h + g], i_words(i_load(from + CPU_LINE * (48 + 2 * h + g / 4)), g % 4, g % 4));
            UNROLL for (int i = 0; i < 4; i++)
                _mm512_store_si512(w->q[32 * h + 4 * g + i], six_bits(from + CPU_LINE * 16 * h, from + CPU_LINE * (32 + 8 * h), g, i));
        }
}

/* ---- multiplying ---- */

/* s += `lines` lines of both panels times the rows, from byte `at` of the rows on. */
INLINE void wide_lines(const uint8_t *w0, const uint8_t *w1, const int8_t (*q)[256], int at, int lines, vi s[WIDE_T][2])
{
    UNROLL for (int i = 0; i < lines; i++) {
        const vi a = i_load(w0 + CPU_LINE * i), b = i_load(w1 + CPU_LINE * i);
        UNROLL for (int t = 0; t < WIDE_T; t++) {
            const vi x = i_splat(q[t] + at + 4 * i);
            s[t][0] = _mm512_dpbusd_epi32(s[t][0], a, x);
            s[t][1] = _mm512_dpbusd_epi32(s[t][1], b, x);
            PIN(s[t][0]);
            PIN(s[t][1]);
        }
    }
}

INLINE void wide_multiply_small(int with_least, int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc)
{
    const wide_w32 *w[2] = { (const void *)weights, (const void *)(weights + (with_least ? sizeof(wide_w32) : WIDE_W32_PLAIN)) };
    for (size_t g = 0; g < n_group; g++, act += with_least ? sizeof(wide_x32) : WIDE_X32_PLAIN, acc += WIDE_T * CPU_WIDE_OUT) {
        const wide_x32 *x = (const void *)act;
        vf a[WIDE_T][2];
        UNROLL for (int t = 0; t < WIDE_T; t++)
            UNROLL for (int r = 0; r < 2; r++)
                a[t][r] = f_load(acc + CPU_WIDE_OUT * t + CPU_PANEL * r);
        for (int b = 0; b < n_block; b++) {
            vi s[WIDE_T][2];
            UNROLL for (int t = 0; t < WIDE_T; t++)
                s[t][0] = s[t][1] = i_splat(&x->start[t][b]);
            wide_lines(w[0]->q[8 * b], w[1]->q[8 * b], x->q, 32 * b, 8, s);
            UNROLL for (int t = 0; t < WIDE_T; t++)
                UNROLL for (int r = 0; r < 2; r++) {
                    const vf dx = f_set(x->d[t][b]);
                    a[t][r] = f_fma(f_mul(f_load(w[r]->d[b]), dx), f_int(s[t][r]), a[t][r]);
                    if (with_least)
                        a[t][r] = f_fma(f_mul(f_load(w[r]->m[b]), dx), f_set(x->sum[t][b]), a[t][r]);
                }
        }
        UNROLL for (int t = 0; t < WIDE_T; t++)
            UNROLL for (int r = 0; r < 2; r++)
                f_store(acc + CPU_WIDE_OUT * t + CPU_PANEL * r, a[t][r]);
    }
}

static void wide_multiply_32(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)
{
    (void)work;
    wide_multiply_small(0, n_block, weights, act, n_group, acc);
}

static void wide_multiply_32_least(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)
{
    (void)work;
    wide_multiply_small(1, n_block, weights, act, n_group, acc);
}

static void wide_multiply_q4_k(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)
{
    const wide_wq4_k *w = (const void *)weights;
    const wide_xq4_k *x = (const void *)act;
    (void)n_block, (void)work;
    for (size_t g = 0; g < n_group; g++, x++, acc += WIDE_T * CPU_WIDE_OUT) {
        vi s[WIDE_T][2];
        UNROLL for (int t = 0; t < WIDE_T; t++)
            s[t][0] = s[t][1] = i_word(0);
        for (int j = 0; j < opaque(8); j++) {
            vi e[WIDE_T][2];
            UNROLL for (int t = 0; t < WIDE_T; t++)
                e[t][0] = e[t][1] = i_splat(&x->start[t][j]);
            wide_lines(w[0].q[8 * j], w[1].q[8 * j], x->q, 32 * j, 8, e);
            UNROLL for (int t = 0; t < WIDE_T; t++)
                UNROLL for (int r = 0; r < 2; r++)
                    s[t][r] = i_madd(s[t][r], e[t][r], i_load(w[r].scale[j]));
        }
        UNROLL for (int t = 0; t < WIDE_T; t++)
            UNROLL for (int r = 0; r < 2; r++) {
                float *to = acc + CPU_WIDE_OUT * t + CPU_PANEL * r;
                const vf dx = f_set(x->d[t]);
                vi least = i_word(0);
                UNROLL for (int j = 0; j < 4; j++) {
                    s[t][r] = i_madd(s[t][r], i_load(w[r].pair[j]), i_splat(x->sum8[t] + 2 * j));
                    least = i_madd(least, i_load(w[r].least[j]), i_splat(x->sum[t] + 2 * j));
                }
                const vf y = f_fma(f_mul(f_load(w[r].d), dx), f_int(s[t][r]), f_load(to));
                f_store(to, f_fma(f_neg(f_mul(f_load(w[r].m), dx)), f_int(least), y));
            }
    }
}

/* Sums of n rows of a group, from `row` on, to floats. */
INLINE void wide_finish_super(int with_least, const wide_w256 *w, const wide_x256 *x, int row, int n, vi (*s)[2], float *acc)
{
    UNROLL for (int t = 0; t < n; t++)
        UNROLL for (int r = 0; r < 2; r++) {
            float *to = acc + CPU_WIDE_OUT * t + CPU_PANEL * r;
            finish(f_load(w[r].d), x->d[row + t], s[t][r], to);
            if (with_least) {
                vi least = i_word(0);
                UNROLL for (int j = 0; j < 8; j++)
                    least = i_madd(least, i_load(w[r].least[j]), i_splat(x->sum[row + t] + 2 * j));
                finish(f_neg(f_load(w[r].m)), x->d[row + t], least, to);
            }
        }
}

/* lines: as in wide_prepare_super; words: scales are applied in 16 bits; start: whether sums begin at something else than 0. */
INLINE void wide_multiply_super(int lines, int words, int start, int with_least, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc)
{
    const wide_w256 *w = (const void *)weights;
    const wide_x256 *x = (const void *)act;
    for (size_t g = 0; g < n_group; g++, x++, acc += WIDE_T * CPU_WIDE_OUT) {
        vi s[WIDE_T][2];
        UNROLL for (int t = 0; t < WIDE_T; t++)
            s[t][0] = s[t][1] = i_word(0);
        for (int i = 0; i < opaque(64 / lines); i++) {
            const int group = i * lines / 4;
            vi e[WIDE_T][2];
            UNROLL for (int t = 0; t < WIDE_T; t++)
                e[t][0] = e[t][1] = start ? i_splat(&x->start[t][i]) : i_word(0);
            wide_lines(w[0].q[lines * i], w[1].q[lines * i], x->q, 4 * lines * i, lines, e);
            UNROLL for (int t = 0; t < WIDE_T; t++)
                UNROLL for (int r = 0; r < 2; r++) {
                    s[t][r] = words ? i_madd(s[t][r], e[t][r], i_load(w[r].scale[group])) : i_scale(s[t][r], e[t][r], i_left(i_load(w[r].scale[group]), 16));
                    PIN(s[t][r]);
                }
        }
        wide_finish_super(with_least, w, x, 0, WIDE_T, s, acc);
    }
}

/* Groups of 16 whose sums of 8 fit a word each: two of them meet their scale in one instruction, half of the rows at a time, whose 18 sums fit the registers. */
INLINE void wide_multiply_halves(int start, int with_least, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc)
{
    enum { ROWS = WIDE_T / 2 };
    const wide_w256 *w = (const void *)weights;
    const wide_x256 *x = (const void *)act;
    for (size_t part = 0; part < 2 * n_group; part++, x += part % 2 == 0, acc += ROWS * CPU_WIDE_OUT) {
        const int row = part % 2 ? ROWS : 0;
        vi s[ROWS][2];
        UNROLL for (int t = 0; t < ROWS; t++)
            s[t][0] = s[t][1] = i_word(0);
        for (int g = 0; g < opaque(16); g++) {
            vi e[2][ROWS][2];
            UNROLL for (int half = 0; half < 2; half++) {
                UNROLL for (int t = 0; t < ROWS; t++)
                    e[half][t][0] = e[half][t][1] = start ? i_splat(&x->start[row + t][2 * g + half]) : i_word(0);
                UNROLL for (int i = 2 * half; i < 2 * half + 2; i++) {
                    const vi a = i_load(w[0].q[4 * g + i]), b = i_load(w[1].q[4 * g + i]);
                    UNROLL for (int t = 0; t < ROWS; t++) {
                        const vi y = i_splat(x->q[row + t] + 16 * g + 4 * i);
                        e[half][t][0] = _mm512_dpbusd_epi32(e[half][t][0], a, y);
                        e[half][t][1] = _mm512_dpbusd_epi32(e[half][t][1], b, y);
                        PIN(e[half][t][0]);
                        PIN(e[half][t][1]);
                    }
                }
            }
            UNROLL for (int t = 0; t < ROWS; t++)
                UNROLL for (int r = 0; r < 2; r++) {
                    s[t][r] = i_madd(s[t][r], i_pair(e[0][t][r], e[1][t][r]), i_load(w[r].scale[g]));
                    PIN(s[t][r]);
                }
        }
        wide_finish_super(with_least, w, x, row, ROWS, s, acc);
    }
}

#define WIDE_MULTIPLY_HALVES(stem, start, with_least)                                                                                              \
    static void wide_multiply_##stem(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)           \
    {                                                                                                                                              \
        (void)n_block, (void)work;                                                                                                                 \
        wide_multiply_halves(start, with_least, weights, act, n_group, acc);                                                                       \
    }
#define WIDE_MULTIPLY_SUPER(stem, lines, words, start, with_least)                                                                                  \
    static void wide_multiply_##stem(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work)           \
    {                                                                                                                                              \
        (void)n_block, (void)work;                                                                                                                 \
        wide_multiply_super(lines, words, start, with_least, weights, act, n_group, acc);                                                                 \
    }
WIDE_MULTIPLY_HALVES(q6_k, 1, 0)
WIDE_MULTIPLY_HALVES(q5_k, 0, 1)
WIDE_MULTIPLY_SUPER(q3_k, 4, 1, 1, 0)
WIDE_MULTIPLY_SUPER(q2_k, 4, 1, 0, 1)
WIDE_MULTIPLY_SUPER(iq4_xs, 8, 0, 1, 0)
WIDE_MULTIPLY_SUPER(bytes_16, 4, 0, 1, 0)

/* What the types of kernels_types_wide.h share: their converters are there. */
#define WIDE_KERNEL_32(stem, convert) \
    CPU_KERNEL cpu_wide wide_##stem = { WIDE_T, WIDE_X32_PLAIN, WIDE_W32_PLAIN, 0, wide_prepare_32, convert, wide_multiply_32, wide_store, NULL, wide_end };
#define WIDE_KERNEL_32_LEAST(stem, convert) \
    CPU_KERNEL cpu_wide wide_##stem = { WIDE_T, sizeof(wide_x32), sizeof(wide_w32), 0, wide_prepare_32_least, convert, wide_multiply_32_least, wide_store, NULL, wide_end };
#define WIDE_KERNEL_256(stem, convert, x, w) \
    CPU_KERNEL cpu_wide wide_##stem = { WIDE_T, sizeof(x), sizeof(w), 0, wide_prepare_##stem, convert, wide_multiply_##stem, wide_store, NULL, wide_end };
WIDE_KERNEL_32(q8_0, wide_convert_q8_0)
WIDE_KERNEL_32(q4_0, wide_convert_q4_0)
WIDE_KERNEL_256(q4_k, wide_convert_q4_k, wide_xq4_k, wide_wq4_k)
WIDE_KERNEL_256(q6_k, wide_convert_q6_k, wide_x256, wide_w256)

#endif
