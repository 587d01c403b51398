/* SPDX-License-Identifier: MIT */
/* kernels_pairs.h - products of a few rows of activations with vpdpbusd, two panels at a time: with one, loading the activations would take as many cycles as
 * multiplying them. Eight rows by two panels are sixteen sums, which follow each other with less waiting than the eight of four rows; Q4_K has no registers for
 * them, and takes further rows in further passes, while the weights are in the first cache. Bits are those of the steps for one panel: the integers are exact. Included by kernels_avx512.c. */
#ifndef CPU_KERNELS_PAIRS_H
#define CPU_KERNELS_PAIRS_H

/* s[t][r] += the bytes q[r] of both panels times four bytes of every row. */
#define PAIR_DOTS(s, q, x_of_t)                                                                                                                    \
    UNROLL for (int t = 0; t < m; t++) {                                                                                                           \
        const vi y = i_splat(x_of_t);                                                                                                              \
        UNROLL for (int r = 0; r < 2; r++) {                                                                                                       \
            s[t][r] = _mm512_dpbusd_epi32(s[t][r], q[r], y);                                                                                       \
            PIN(s[t][r]);                                                                                                                          \
        }                                                                                                                                          \
    }

/* Block b of 32 of the step: sums begin at -2^shift times the sum of x, which takes off what weights are more by. */
INLINE void pair_start(pair_rows x, int b, unsigned shift, int m, vi s[PAIR_MOST][2])
{
    UNROLL for (int t = 0; t < m; t++)
        s[t][0] = s[t][1] = i_sub32(i_word(0), i_left(i_splat(&ACT32(pair_row(x, t), b)->sum), shift));
}

INLINE void pair_finish(const uint8_t *heads, size_t apart, pair_rows x, int b, int m, vi s[PAIR_MOST][2], float (*acc)[CPU_PANEL])
{
    UNROLL for (int r = 0; r < 2; r++) {
        const vf d = head(heads + (size_t)r * apart, 0);
        UNROLL for (int t = 0; t < m; t++)
            finish(d, ACT32(pair_row(x, t), b)->d, s[t][r], acc[CPU_MAX_M * r + t]);
    }
}

INLINE void pair_q4_0(const uint8_t *panel, size_t apart, int64_t k, int n, pair_rows x, int m, float (*acc)[CPU_PANEL], ahead *a)
{
    const vi low = i_byte(15);
    for (int b = 0; b < n / 32; b++) {
        const size_t block = (size_t)k / 32 + (size_t)b;
        const uint8_t *w = panel + cpu_body_offset(at_q4_0, block);
        vi s[PAIR_MOST][2];
        fetch_some(a);
        pair_start(x, b, 3, m, s);
        UNROLL for (int i = 0; i < 4; i++) {
            const vi both[2] = { i_load(w + CPU_LINE * i), i_load(w + apart + CPU_LINE * i) };
            const vi q0[2] = { i_and(both[0], low), i_and(both[1], low) }, q1[2] = { i_and(i_right(both[0], 4), low), i_and(i_right(both[1], 4), low) };
            PAIR_DOTS(s, q0, ACT32(pair_row(x, t), b)->q + 4 * i)
            PAIR_DOTS(s, q1, ACT32(pair_row(x, t), b)->q + 16 + 4 * i)
        }
        pair_finish(panel + cpu_head_offset(at_q4_0, block), apart, x, b, m, s, acc);
    }
}

INLINE void pair_q8_0(const uint8_t *panel, size_t apart, int64_t k, int n, pair_rows x, int m, float (*acc)[CPU_PANEL], ahead *a)
{
    const vi flip = i_byte((char)-128);
    for (int b = 0; b < n / 32; b++) {
        const size_t block = (size_t)k / 32 + (size_t)b;
        const uint8_t *w = panel + cpu_body_offset(at_q8_0, block);
        vi s[PAIR_MOST][2];
        fetch_some(a);
        pair_start(x, b, 7, m, s);
        UNROLL for (int i = 0; i < 8; i++) {
            const vi q[2] = { _mm512_xor_si512(i_load(w + CPU_LINE * i), flip), _mm512_xor_si512(i_load(w + apart + CPU_LINE * i), flip) };
            PAIR_DOTS(s, q, ACT32(pair_row(x, t), b)->q + 4 * i)
        }
        pair_finish(panel + cpu_head_offset(at_q8_0, block), apart, x, b, m, s, acc);
    }
}

/* A group of 32 less 8 times the sum of its activations is at most 32 * 8 * 127 = 32512, a word: one vpdpwssd with its scale. 8 times the scaled sums of the
 * activations is added afterwards. */
INLINE void pair_q4_k(const uint8_t *panel, size_t apart, int64_t k, int n, pair_rows x, int m, float (*acc)[CPU_PANEL], ahead *a)
{
    const vi low = i_byte(15), word = _mm512_set1_epi32(0xffff);
    const uint8_t *w = panel + cpu_body_offset(at_q4_k, (size_t)k / 256), *heads = panel + cpu_head_offset(at_q4_k, (size_t)k / 256);
    int32_t start[PAIR_T][8];
    int16_t sum[PAIR_T][8];     /* of 32 activations: |sum| <= 4064 */
    vi sc[2][2], mn[2][2], s[PAIR_T][2];
    (void)n;
    UNROLL for (int r = 0; r < 2; r++)
        scales_q4_k(w + (size_t)r * apart, sc[r], mn[r]);
    UNROLL for (int t = 0; t < m; t++) {
        const __m256i sums = _mm256_loadu_si256((const void *)ACT256(pair_row(x, t))->sum);
        _mm256_storeu_si256((void *)start[t], _mm256_madd_epi16(sums, _mm256_set1_epi16(-8)));
        _mm_storeu_si128((void *)sum[t], _mm256_cvtepi32_epi16(_mm256_madd_epi16(sums, _mm256_set1_epi16(1))));
        s[t][0] = s[t][1] = i_word(0);
    }
    for (int c = 0; c < opaque(4); c++) {       /* groups 2c and 2c + 1: low and high nibbles of 8 lines */
        const vi scales[2] = { i_right(sc[0][c / 2], (unsigned)c % 2 * 16), i_right(sc[1][c / 2], (unsigned)c % 2 * 16) };
        UNROLL for (int high = 0; high < 2; high++) {
            vi e[PAIR_T][2];
            fetch_some(a);
            UNROLL for (int t = 0; t < m; t++)
                e[t][0] = e[t][1] = i_splat(&start[t][2 * c + high]);
            UNROLL for (int i = 0; i < 8; i++) {
                const uint8_t *at = w + CPU_LINE * (3 + 8 * c + i);
                const vi both[2] = { i_load(at), i_load(at + apart) };
                const vi q[2] = { i_and(high ? i_right(both[0], 4) : both[0], low), i_and(high ? i_right(both[1], 4) : both[1], low) };
                PAIR_DOTS(e, q, ACT256(pair_row(x, t))->q + 64 * c + 32 * high + 4 * i)
            }
            UNROLL for (int r = 0; r < 2; r++) {
                const vi scale = i_and(i_words(scales[r], high, high), word);
                UNROLL for (int t = 0; t < m; t++) {
                    s[t][r] = i_madd(s[t][r], e[t][r], scale);
                    PIN(s[t][r]);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < 2; r++) {
        const vf d = head(heads + (size_t)r * apart, 0), dmin = head(heads + (size_t)r * apart + CPU_LINE / 2, 0);
        vi more[PAIR_T], least[PAIR_T];
        UNROLL for (int t = 0; t < m; t++)
            more[t] = least[t] = i_word(0);
        UNROLL for (int j = 0; j < 8; j += 2) {
            const vi pair = i_words(sc[r][j / 4], j % 4, j % 4 + 1), off = i_words(mn[r][j / 4], j % 4, j % 4 + 1);
            UNROLL for (int t = 0; t < m; t++) {
                more[t] = i_madd(more[t], pair, i_splat(sum[t] + j));
                least[t] = i_madd(least[t], off, i_splat(sum[t] + j));
                PIN(more[t]);
                PIN(least[t]);
            }
        }
        UNROLL for (int t = 0; t < m; t++) {
            float *to = acc[CPU_MAX_M * r + t];
            const vf dx = f_set(ACT256(pair_row(x, t))->d), y = f_fma(f_mul(d, dx), f_int(i_add32(s[t][r], i_left(more[t], 3))), f_load(to));
            f_store(to, f_fma(f_neg(f_mul(dmin, dx)), f_int(least[t]), y));
        }
    }
}

/* p panels times m rows, 8 in all. Sums of 16 begin at -32 times those of the activations; they need more than a word, so scales multiply dwords. Two groups
 * that share lines at a time: 16 sums that follow each other without waiting, and those of the block stay in registers beside them. Panel r and row t: sum p t + r. */
INLINE void some_q6_k(int p, const uint8_t *panel, size_t apart, int64_t k, pair_rows x, int m, float (*acc)[CPU_PANEL], ahead *a)
{
    const uint8_t *body = panel + cpu_body_offset(at_q6_k, (size_t)k / 256), *heads = panel + cpu_head_offset(at_q6_k, (size_t)k / 256);
    int32_t start[PAIR_MOST][16];
    vi s[PAIR_MOST];
    UNROLL for (int t = 0; t < m; t++) {
        i_store(start[t], i_sub32(i_word(0), i_left(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)ACT256(pair_row(x, t))->sum)), 5)));
        UNROLL for (int r = 0; r < p; r++)
            s[p * t + r] = i_word(0);
    }
    for (int h = 0; h < opaque(2); h++) {
        const uint8_t *lows = body + CPU_LINE * 16 * h, *ups = body + CPU_LINE * (32 + 8 * h), *scales = body + CPU_LINE * (48 + 2 * h);
        UNROLL for (int g = 0; g < 4; g++) {        /* groups of 16: g and g + 4, low and high nibbles */
            vi e[2][PAIR_MOST];
            if (p == 2 || g % 2 == 0)
                fetch_some(a);
            UNROLL for (int t = 0; t < m; t++)
                UNROLL for (int r = 0; r < p; r++)
                    UNROLL for (int v = 0; v < 2; v++)
                        e[v][p * t + r] = i_splat(&start[t][8 * h + g + 4 * v]);
            UNROLL for (int i = 0; i < 4; i++) {
                vi q[2][2];
                UNROLL for (int r = 0; r < p; r++)
                    UNROLL for (int v = 0; v < 2; v++)
                        q[v][r] = six_bits(lows + (size_t)r * apart, ups + (size_t)r * apart, g + 4 * v, i);
                UNROLL for (int v = 0; v < 2; v++)
                    UNROLL for (int t = 0; t < m; t++) {
                        const vi y = i_splat(ACT256(pair_row(x, t))->q + 128 * h + 16 * g + 64 * v + 4 * i);
                        UNROLL for (int r = 0; r < p; r++) {
                            e[v][p * t + r] = _mm512_dpbusd_epi32(e[v][p * t + r], q[v][r], y);
                            PIN(e[v][p * t + r]);
                        }
                    }
            }
            UNROLL for (int r = 0; r < p; r++)
                UNROLL for (int v = 0; v < 2; v++) {
                    const vi scale = _mm512_srai_epi32(i_left(i_load(scales + (size_t)r * apart + CPU_LINE * v), 24u - 8 * (unsigned)g), 24);
                    UNROLL for (int t = 0; t < m; t++) {
                        s[p * t + r] = i_add32(s[p * t + r], _mm512_mullo_epi32(e[v][p * t + r], scale));
                        PIN(s[p * t + r]);
                    }
                }
        }
    }
    UNROLL for (int r = 0; r < p; r++) {
        const vf d = head(heads + (size_t)r * apart, 0);
        UNROLL for (int t = 0; t < m; t++)
            finish(d, ACT256(pair_row(x, t))->d, s[p * t + r], acc[CPU_MAX_M * r + t]);
    }
}

/* Sixteen sums of a super-block beside those of its groups would not fit: eight rows take the panels one after the other. */
INLINE void pair_q6_k(const uint8_t *panel, size_t apart, int64_t k, int n, pair_rows x, int m, float (*acc)[CPU_PANEL], ahead *a)
{
    (void)n;
    if (m == PAIR_T)
        some_q6_k(2, panel, apart, k, x, m, acc, a);
    else
        for (int r = 0; r < opaque(2); r++)
            some_q6_k(1, panel + (size_t)r * apart, 0, k, x, m, acc + CPU_MAX_M * r, a);
}

PAIRS(q4_0)
PAIRS(q8_0)
PAIR_OF(q4_k, 4)
PAIRS(q6_k)

#endif
