/* SPDX-License-Identifier: MIT */
/* kernels_amx_32.h - products of many activation rows with AMX tiles, types with blocks of 32: 16 rows of activations by a panel. Included by kernels_avx512.c.
 *
 * Every 32 elements have scales of their own, so each product of tiles is finished by itself: tiles are half as deep, and the vector work (convert,
 * scale, add: three instructions per register) and the loads weigh more than the products. The accumulators of a unit, 16 rows by 16, stay in registers
 * over its 8 blocks. Blocks overlap without end: the product of block i, storing block i - 3, finishing block i - 5, which may be of the unit before. */
#ifndef CPU_KERNELS_AMX_32_H
#define CPU_KERNELS_AMX_32_H

enum { AMX32_T = 16 };

/* A converted panel and a prepared group: 8 blocks. What multiplying needs besides: the sums of four blocks. */
typedef struct { int8_t q[8][8][64]; float d[8][16], m[8][16]; } amx_w32;               /* m, sum: for types with minima */
typedef struct { int8_t q[8][AMX32_T][32]; float d[8][AMX32_T], sum[8][AMX32_T]; } amx_x32;
enum { AMX_W32_PLAIN = offsetof(amx_w32, m), AMX_X32_PLAIN = offsetof(amx_x32, sum) };
typedef struct { int32_t ring[4][AMX_SUMS]; } amx_work32;

static void amx_begin_32(void)
{
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = { .palette = 1 };
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = i == 4 || i == 5 ? 32 : 64;       /* 4, 5: activations; 6, 7: weights; 0 to 3: sums */
        config.rows[i] = i >= 6 ? 8 : 16;
    }
    TILE_CONFIGURE(&config);
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

static void amx_prepare_32_least(int n_block, const uint8_t *const *act, size_t n, uint8_t *to)
{
    amx_x32 *x = (void *)to;
    amx_prepare_32(n_block, act, n, to);
    for (size_t t = 0; t < AMX32_T; t++)
        for (int b = 0; b < 8; b++)
            x->sum[b][t] = t < n && b < n_block ? (float)ACT32(act[t], b)->sum : 0.0f;
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

/* Block b of a unit: activations in tile A, weights in B, the product into tile C, whose successor N holds the block that is now to be stored. */
#define AMX32_PRODUCT(A, B, C, N, b)                                                                                                               \
    _tile_loadd(A, x->q[b], 32); AMX_LOAD(B, now.w->q[b]) _tile_dpbssd(C, A, B); AMX_STORE(N, ring[((b) + 1) % 4]) _tile_zero(N);

/* A unit on its way: the activations, the panel, and where its sums go. */
typedef struct { const amx_x32 *x; const amx_w32 *w; float (*acc)[CPU_WIDE_OUT]; int n_block; } amx_unit32;

/* A sum of 32 products, |s| < 2^20, to float: its bits added to those of 1.5 * 2^23, less that. Two instructions, but the one for this shares its unit
 * with multiplying, which is what there is too little of (kernels_amx.h). */
INLINE vf amx_int(vi s)
{
    const vf big = f_set(0x1.8p23f);
    return f_sub(_mm512_castsi512_ps(_mm512_add_epi32(s, _mm512_castps_si512(big))), big);
}

INLINE void amx_finish_32(const amx_unit32 *u, const int32_t *s, int b, int with_least, vf a[AMX32_T])
{
    AMX_FENCE
    if (b >= u->n_block)
        return;
    const vf d = f_load(u->w->d[b]);
    UNROLL for (int t = 0; t < AMX32_T; t++) {
        const vf dx = f_set(u->x->d[b][t]);
        a[t] = f_fma(f_mul(d, dx), amx_int(i_load(s + 16 * t)), a[t]);
        if (with_least)
            a[t] = f_fma(f_mul(f_load(u->w->m[b]), dx), f_set(u->x->sum[b][t]), a[t]);
    }
    AMX_FENCE
}

INLINE void amx_store_32(const amx_unit32 *u, const vf a[AMX32_T])
{
    if (u->n_block > 0)
        UNROLL for (int t = 0; t < AMX32_T; t++)
            f_store(u->acc[t], a[t]);
}

INLINE void amx_multiply_small(int with_least, int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *sums, uint8_t *scratch)
{
    const size_t w_bytes = with_least ? sizeof(amx_w32) : AMX_W32_PLAIN, x_bytes = with_least ? sizeof(amx_x32) : AMX_X32_PLAIN;
    int32_t (*ring)[AMX_SUMS] = ((amx_work32 *)(void *)scratch)->ring;
    amx_unit32 last = { .n_block = 0 };         /* before the first unit nothing is to be finished */
    vf a[AMX32_T];
    UNROLL for (int t = 0; t < AMX32_T; t++)
        a[t] = f_set(0.0f);
    AMX_FENCE
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t i = 0; i < CPU_WIDE_PANELS * n_group; i++) {
        const size_t p = i % CPU_WIDE_PANELS;
        const amx_x32 *x = (const void *)(act + i / CPU_WIDE_PANELS * x_bytes);
        const amx_unit32 now = { x, (const void *)(weights + p * w_bytes), (void *)(sums + i / CPU_WIDE_PANELS * AMX32_T * CPU_WIDE_OUT + CPU_PANEL * p), n_block };
        AMX32_PRODUCT(4, 6, 0, 1, 0)
        amx_finish_32(&last, ring[3], 3, with_least, a);
        AMX32_PRODUCT(5, 7, 1, 2, 1)
        amx_finish_32(&last, ring[0], 4, with_least, a);
        AMX32_PRODUCT(4, 6, 2, 3, 2)
        amx_finish_32(&last, ring[1], 5, with_least, a);
        AMX32_PRODUCT(5, 7, 3, 0, 3)
        amx_finish_32(&last, ring[2], 6, with_least, a);
        AMX32_PRODUCT(4, 6, 0, 1, 4)
        amx_finish_32(&last, ring[3], 7, with_least, a);
        amx_store_32(&last, a);
        UNROLL for (int t = 0; t < AMX32_T; t++)
            a[t] = f_load(now.acc[t]);
        AMX32_PRODUCT(5, 7, 1, 2, 5)
        amx_finish_32(&now, ring[0], 0, with_least, a);
        AMX32_PRODUCT(4, 6, 2, 3, 6)
        amx_finish_32(&now, ring[1], 1, with_least, a);
        AMX32_PRODUCT(5, 7, 3, 0, 7)
        amx_finish_32(&now, ring[2], 2, with_least, a);
        last = now;
    }
    AMX_STORE(1, ring[1])
    AMX_STORE(2, ring[2])
    amx_finish_32(&last, ring[3], 3, with_least, a);
    amx_finish_32(&last, ring[0], 4, with_least, a);
    AMX_STORE(3, ring[3])
    amx_finish_32(&last, ring[1], 5, with_least, a);
    amx_finish_32(&last, ring[2], 6, with_least, a);
    amx_finish_32(&last, ring[3], 7, with_least, a);
    amx_store_32(&last, a);
}

static void amx_multiply_32(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *sums, uint8_t *scratch)
{
    amx_multiply_small(0, n_block, weights, act, n_group, sums, scratch);
}

static void amx_multiply_32_least(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *sums, uint8_t *scratch)
{
    amx_multiply_small(1, n_block, weights, act, n_group, sums, scratch);
}

#define AMX_KERNEL_32(stem, convert)                                                                                                               \
    CPU_KERNEL cpu_wide amx_##stem = { AMX32_T, AMX_X32_PLAIN, AMX_W32_PLAIN, sizeof(amx_work32), amx_prepare_32, convert, amx_multiply_32,        \
                                       wide_store, amx_begin_32, amx_end };
#define AMX_KERNEL_32_LEAST(stem, convert)                                                                                                         \
    CPU_KERNEL cpu_wide amx_##stem = { AMX32_T, sizeof(amx_x32), sizeof(amx_w32), sizeof(amx_work32), amx_prepare_32_least, convert,               \
                                       amx_multiply_32_least, wide_store, amx_begin_32, amx_end };
AMX_KERNEL_32(q8_0, amx_convert_q8_0)
AMX_KERNEL_32(q4_0, amx_convert_q4_0)

#endif
