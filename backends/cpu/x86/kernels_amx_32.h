/* SPDX-License-Identifier: MIT */
/* kernels_amx_32.h - products of many activation rows with AMX tiles, types with blocks of 32: 8 rows of activations by two panels. Included by kernels_avx512.c.
 *
 * Every 32 elements have scales of their own, so each product of tiles is finished by itself: tiles are half as deep, and the vector work (convert,
 * scale, add: three instructions per register) and the loads weigh more than the products. Tiles of 8 rows, which are multiplied in half the time, let
 * the accumulators of both panels stay in registers over all blocks and serve two panels with each splat of d_x.
 * The steps of a block overlap: the products of block i, storing i - 1, finishing i - 3. */
#ifndef CPU_KERNELS_AMX_32_H
#define CPU_KERNELS_AMX_32_H

enum { AMX32_T = 8, AMX32_BEHIND = 3 };

/* A converted panel and a prepared group: 8 blocks. Sums of a block: of the first panel, then of the second. */
typedef struct { int8_t q[8][8][64]; float d[8][16]; } amx_w32;
typedef struct { int8_t q[8][AMX32_T][32]; float d[8][AMX32_T]; } amx_x32;
typedef struct { int32_t s[2][AMX32_T][16]; } amx_sums32;
typedef struct { amx_sums32 ring[4]; } amx_work32;

static void amx_begin_32(void)
{
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = { .palette = 1 };
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = i == 4 || i == 5 ? 32 : 64;       /* 4, 5: activations; 6, 7: weights; 0 to 3: sums */
        config.rows[i] = 8;
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

static void amx_prepare_32(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    amx_x32 *x = (void *)to;
    for (size_t t = 0; t < AMX32_T; t++)
        for (int b = 0; b < 8; b++) {
            const sl_block_a32 *a = t < n && b < n_block ? ACT32(act[t], b) : NULL;
            _mm256_storeu_si256((void *)x->q[b][t], a ? _mm256_loadu_si256((const void *)a->q) : _mm256_setzero_si256());
            x->d[b][t] = a ? a->d : 0.0f;
        }
}

static void amx_convert_q8_0(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    amx_w32 *w = (void *)to;
    (void)n_in;
    for (int b = 0; b < n_block; b++) {
        const uint8_t *from = panel + cpu_body_offset(at_q8_0, first + (size_t)b);
        UNROLL for (int i = 0; i < 8; i++)
            _mm512_store_si512(w->q[b][i], i_load(from + CPU_LINE * i));
        f_store(w->d[b], head(panel + cpu_head_offset(at_q8_0, first + (size_t)b), 0));
    }
}

static void amx_convert_q4_0(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to)
{
    amx_w32 *w = (void *)to;
    const vi low = i_byte(15), down = i_byte(8);
    (void)n_in;
    for (int b = 0; b < n_block; b++) {
        const uint8_t *from = panel + cpu_body_offset(at_q4_0, first + (size_t)b);
        UNROLL for (int i = 0; i < 4; i++) {
            const vi q = i_load(from + CPU_LINE * i);
            _mm512_store_si512(w->q[b][i], _mm512_sub_epi8(i_and(q, low), down));
            _mm512_store_si512(w->q[b][4 + i], _mm512_sub_epi8(i_and(i_right(q, 4), low), down));
        }
        f_store(w->d[b], head(panel + cpu_head_offset(at_q4_0, first + (size_t)b), 0));
    }
}

/* Block b of a unit: its products into tiles C and D, while the block before, in E and F, is stored. */
#define AMX32_PRODUCTS(A, C, D, E, F, b)                                                                                                           \
    AMX_LOAD32(A, x->q[b]) AMX_LOAD(6, w[0].q[b]) _tile_zero(C); _tile_dpbssd(C, A, 6);                                                            \
    AMX_STORE(E, ring[((b) + 3) % 4].s[0])                                                                                                         \
    AMX_LOAD(7, w[1].q[b]) _tile_zero(D); _tile_dpbssd(D, A, 7);                                                                                   \
    AMX_STORE(F, ring[((b) + 3) % 4].s[1])
#define AMX_LOAD32(tile, from) _tile_loadd(tile, from, 32);

/* Block b of the unit whose activations are x. */
INLINE void amx_finish_32(const amx_w32 *w, const amx_x32 *x, const amx_sums32 *s, int b, int n_block, vf a[AMX32_T][2])
{
    AMX_FENCE
    if (b >= n_block)
        return;
    const vf d0 = f_load(w[0].d[b]), d1 = f_load(w[1].d[b]);
    UNROLL for (int t = 0; t < AMX32_T; t++) {
        const vf dx = f_set(x->d[b][t]);
        a[t][0] = f_fma(f_mul(d0, dx), f_int(i_load(s->s[0][t])), a[t][0]);
        a[t][1] = f_fma(f_mul(d1, dx), f_int(i_load(s->s[1][t])), a[t][1]);
    }
    AMX_FENCE
}

static void amx_multiply_32(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *sums, uint8_t *scratch)
{
    const amx_w32 *w = (const void *)weights;
    const amx_x32 *x = (const void *)act, *last = x;
    amx_sums32 *ring = ((amx_work32 *)(void *)scratch)->ring;
    float (*acc)[CPU_WIDE_OUT] = (void *)sums;
    vf a[AMX32_T][2];
    UNROLL for (int t = 0; t < AMX32_T; t++)
        a[t][0] = a[t][1] = f_set(0.0f);
    AMX_FENCE
    _tile_zero(2);
    _tile_zero(3);
    for (size_t g = 0; g <= n_group; g++, last = x, x += g < n_group) {
        const int behind = g > 0 ? n_block : 0;         /* blocks of the unit before: none before the first */
#define AMX32_END                                                                                                                                  \
        if (g > 0)                                                                                                                                 \
            UNROLL for (int t = 0; t < AMX32_T; t++) {                                                                                             \
                f_store(acc[t], a[t][0]);                                                                                                          \
                f_store(acc[t] + CPU_PANEL, a[t][1]);                                                                                              \
            }                                                                                                                                      \
        acc += g > 0 ? AMX32_T : 0;
        if (g == n_group) {
            AMX_STORE(2, ring[3].s[0])
            AMX_STORE(3, ring[3].s[1])
            amx_finish_32(w, last, &ring[1], 5, behind, a);
            amx_finish_32(w, last, &ring[2], 6, behind, a);
            amx_finish_32(w, last, &ring[3], 7, behind, a);
            AMX32_END
            break;
        }
        AMX32_PRODUCTS(4, 0, 1, 2, 3, 0)
        amx_finish_32(w, last, &ring[1], 5, behind, a);
        AMX32_PRODUCTS(5, 2, 3, 0, 1, 1)
        amx_finish_32(w, last, &ring[2], 6, behind, a);
        AMX32_PRODUCTS(4, 0, 1, 2, 3, 2)
        amx_finish_32(w, last, &ring[3], 7, behind, a);
        AMX32_END
        UNROLL for (int t = 0; t < AMX32_T; t++) {
            a[t][0] = f_load(acc[t]);
            a[t][1] = f_load(acc[t] + CPU_PANEL);
        }
        AMX32_PRODUCTS(5, 2, 3, 0, 1, 3)
        amx_finish_32(w, x, &ring[0], 0, n_block, a);
        AMX32_PRODUCTS(4, 0, 1, 2, 3, 4)
        amx_finish_32(w, x, &ring[1], 1, n_block, a);
        AMX32_PRODUCTS(5, 2, 3, 0, 1, 5)
        amx_finish_32(w, x, &ring[2], 2, n_block, a);
        AMX32_PRODUCTS(4, 0, 1, 2, 3, 6)
        amx_finish_32(w, x, &ring[3], 3, n_block, a);
        AMX32_PRODUCTS(5, 2, 3, 0, 1, 7)
        amx_finish_32(w, x, &ring[0], 4, n_block, a);
    }
}

CPU_KERNEL cpu_wide amx_q8_0 = { AMX32_T, sizeof(amx_x32), sizeof(amx_w32), sizeof(amx_work32), amx_prepare_32, amx_convert_q8_0, amx_multiply_32, wide_store, amx_begin_32, amx_end };
CPU_KERNEL cpu_wide amx_q4_0 = { AMX32_T, sizeof(amx_x32), sizeof(amx_w32), sizeof(amx_work32), amx_prepare_32, amx_convert_q4_0, amx_multiply_32, wide_store, amx_begin_32, amx_end };

#endif
