/* SPDX-License-Identifier: MIT */
/* blocks.h - how tensor types lie in memory: block structs, exact values, the canonical product step; the quantized activations beside them.
 * Every type of SL_TYPES has, by its stem:
 *
 *   sl_block_<stem>                      packed struct of bytes (little-endian fields): any address will do
 *   sl_decode_<stem>(block, x)           its values, bit for bit as the format defines them (products left to right, each rounded)
 *   sl_check_<stem>(block)               1 if it holds a number that no weight may be: NaN, infinity, a NaN or overflow code
 *   sl_dot_<stem>(block, act, acc)       matrix types: acc plus the product with the activations `act` that lie beside this block, in the order
 *                                        that defines the result on every machine (docs/numerics.md). act: one float for float types,
 *                                        block values / 32 sl_block_a32 or one sl_block_a256 for the others (the form in SL_TYPES)
 *   sl_b16_<stem>(block)                 float types: the value as bf16 arithmetic takes it
 *   sl_unpack_<stem>(block, ints)        quantized types: the integers in element order (sl_ints_32, sl_ints_256), for packers
 *
 * Valid C11 and CUDA (compiled with -fmad=false, without flush to zero). Types with blocks of 32 and the like: blocks_32.h, super-blocks of 256: blocks_k.h, code tables
 * and ternary: blocks_iq.h. */
#ifndef SL_BLOCKS_H
#define SL_BLOCKS_H

#include "arith.h"

#if defined(__cplusplus)
#define SL_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define SL_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

static inline SL_FN uint16_t sl_load16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline SL_FN uint32_t sl_load32(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }
static inline SL_FN uint64_t sl_load64(const uint8_t *p) { return sl_load32(p) | (uint64_t)sl_load32(p + 4) << 32; }
static inline SL_FN float sl_load_half(const uint8_t *p) { return sl_half_to_float(sl_load16(p)); }
static inline SL_FN float sl_load_float(const uint8_t *p) { return sl_float(sl_load32(p)); }
static inline SL_FN int sl_bad_half(const uint8_t *p) { return (p[1] & 0x7c) == 0x7c; }    /* NaN or infinite */
static inline SL_FN int sl_low(uint8_t b) { return b & 15; }
static inline SL_FN int sl_high(uint8_t b) { return b >> 4; }

/* ---- activations ---- */

/* x[k] is about q[k] * d. sum: of all q. */
typedef struct { int8_t q[32]; float d; int32_t sum; } sl_block_a32;
/* sum[i]: of q[16 i] to q[16 i + 15]. */
typedef struct { int8_t q[256]; int16_t sum[16]; float d; int32_t pad[3]; } sl_block_a256;
/* bf16 arithmetic: upper halves of floats, rounded by sl_float_to_b16. */
typedef struct { uint16_t v[32]; } sl_block_b16;
SL_STATIC_ASSERT(sizeof(sl_block_a32) == 40, "a32");
SL_STATIC_ASSERT(sizeof(sl_block_a256) == 304, "a256");

/* The one quantizer: q[k] = rint(x[k] * (127 / amax)), ties to even, *d = amax / 127; blocks with amax < 2^-100 count as zero. Returns 1, with q and d
 * zero, if an x is NaN or infinite, else 0. */
static inline SL_FN int sl_quantize_block(const float *x, int n, int8_t *q, float *d)
{
    uint32_t amax = 0;      /* bits of |x| order like the numbers; NaN and infinity come out on top */
    for (int k = 0; k < n; k++) {
        uint32_t a = sl_bits(x[k]) & 0x7fffffffu;
        amax = a > amax ? a : amax;
    }
    int bad = amax >= 0x7f800000u;
    if (bad || sl_float(amax) < 0x1p-100f) {
        memset(q, 0, (size_t)n);
        *d = 0.0f;
        return bad;
    }
    float id = 127.0f / sl_float(amax);
    *d = sl_float(amax) / 127.0f;
    for (int k = 0; k < n; k++)
        q[k] = (int8_t)sl_rint(x[k] * id);
    return 0;
}

static inline SL_FN int sl_quantize_a32(const float *x, sl_block_a32 *a)
{
    int bad = sl_quantize_block(x, 32, a->q, &a->d);
    a->sum = 0;
    for (int k = 0; k < 32; k++)
        a->sum += a->q[k];
    return bad;
}

static inline SL_FN int sl_quantize_a256(const float *x, sl_block_a256 *a)
{
    int bad = sl_quantize_block(x, 256, a->q, &a->d);
    for (int i = 0; i < 16; i++) {
        int sum = 0;
        for (int k = 0; k < 16; k++)
            sum += a->q[16 * i + k];
        a->sum[i] = (int16_t)sum;
    }
    memset(a->pad, 0, sizeof a->pad);
    return bad;
}

/* n <= 32 numbers and zeros behind them. Returns 1, with all v zero, if one is not finite, or is not when rounded (from 0x1.ffp127 on), else 0. */
static inline SL_FN int sl_quantize_b16(const float *x, int n, sl_block_b16 *a)
{
    int bad = 0;
    memset(a, 0, sizeof *a);
    for (int k = 0; k < n; k++) {
        a->v[k] = sl_float_to_b16(x[k]);
        bad |= (a->v[k] & 0x7f80) == 0x7f80;
    }
    if (bad)
        memset(a, 0, sizeof *a);
    return bad;
}

/* Exact: n products of bytes, n <= 256. */
static inline SL_FN int32_t sl_sum_products(const int8_t *a, const int8_t *b, int n)
{
    int32_t sum = 0;
    for (int k = 0; k < n; k++)
        sum += a[k] * b[k];
    return sum;
}

/* ---- one number per block ---- */

typedef struct { uint8_t v[4]; } sl_block_f32;
typedef struct { uint8_t v[2]; } sl_block_f16;
typedef struct { uint8_t v[2]; } sl_block_bf16;
typedef struct { uint8_t v[8]; } sl_block_f64;
typedef struct { uint8_t v[1]; } sl_block_i8;
typedef struct { uint8_t v[2]; } sl_block_i16;
typedef struct { uint8_t v[4]; } sl_block_i32;
typedef struct { uint8_t v[8]; } sl_block_i64;

static inline SL_FN void sl_decode_f32(const sl_block_f32 *b, float *x) { *x = sl_load_float(b->v); }
static inline SL_FN void sl_decode_f16(const sl_block_f16 *b, float *x) { *x = sl_load_half(b->v); }
static inline SL_FN void sl_decode_bf16(const sl_block_bf16 *b, float *x) { *x = sl_bf16_to_float(sl_load16(b->v)); }
static inline SL_FN void sl_decode_f64(const sl_block_f64 *b, float *x) { *x = (float)sl_double(sl_load64(b->v)); }
static inline SL_FN void sl_decode_i8(const sl_block_i8 *b, float *x) { *x = (float)(int8_t)b->v[0]; }
static inline SL_FN void sl_decode_i16(const sl_block_i16 *b, float *x) { *x = (float)(int16_t)sl_load16(b->v); }
static inline SL_FN void sl_decode_i32(const sl_block_i32 *b, float *x) { *x = (float)(int32_t)sl_load32(b->v); }
static inline SL_FN void sl_decode_i64(const sl_block_i64 *b, float *x) { *x = (float)(int64_t)sl_load64(b->v); }

static inline SL_FN int sl_check_f32(const sl_block_f32 *b) { return !sl_is_finite(sl_load_float(b->v)); }
static inline SL_FN int sl_check_f16(const sl_block_f16 *b) { return sl_bad_half(b->v); }
static inline SL_FN int sl_check_bf16(const sl_block_bf16 *b) { return (sl_load16(b->v) & 0x7f80) == 0x7f80; }
static inline SL_FN int sl_check_f64(const sl_block_f64 *b) { return (sl_load16(b->v + 6) & 0x7ff0) == 0x7ff0; }
static inline SL_FN int sl_check_i8(const sl_block_i8 *b) { (void)b; return 0; }
static inline SL_FN int sl_check_i16(const sl_block_i16 *b) { (void)b; return 0; }
static inline SL_FN int sl_check_i32(const sl_block_i32 *b) { (void)b; return 0; }
static inline SL_FN int sl_check_i64(const sl_block_i64 *b) { (void)b; return 0; }

/* acc = fma(w, x, acc), k ascending. */
static inline SL_FN float sl_dot_f32(const void *w, const void *act, float acc)
{
    return sl_fma(sl_load_float(((const sl_block_f32 *)w)->v), *(const float *)act, acc);
}
static inline SL_FN float sl_dot_f16(const void *w, const void *act, float acc)
{
    return sl_fma(sl_load_half(((const sl_block_f16 *)w)->v), *(const float *)act, acc);
}
static inline SL_FN float sl_dot_bf16(const void *w, const void *act, float acc)
{
    return sl_fma(sl_bf16_to_float(sl_load16(((const sl_block_bf16 *)w)->v)), *(const float *)act, acc);
}

/* A weight in bf16 arithmetic. From 0x1.ffp127 on it is infinite. */
static inline SL_FN uint16_t sl_b16_f32(const void *w) { return sl_float_to_b16(sl_load_float(((const sl_block_f32 *)w)->v)); }
static inline SL_FN uint16_t sl_b16_f16(const void *w) { return sl_float_to_b16(sl_load_half(((const sl_block_f16 *)w)->v)); }
static inline SL_FN uint16_t sl_b16_bf16(const void *w) { return sl_float_to_b16(sl_bf16_to_float(sl_load16(((const sl_block_bf16 *)w)->v))); }

/* bf16 arithmetic: n <= 32 products, those of even k and those of odd k in chains of their own from +0; acc + (even + odd). What is missing of 32 counts as
 * products of zeros, which change nothing: no chain is ever -0. */
static inline SL_FN float sl_dot_b16(const uint16_t *w, const uint16_t *x, int n, float acc)
{
    float sum[2] = { 0.0f, 0.0f };
    for (int k = 0; k < n; k++)
        sum[k % 2] = sl_fma(sl_bf16_to_float(w[k]), sl_bf16_to_float(x[k]), sum[k % 2]);
    return acc + (sum[0] + sum[1]);
}

#include "blocks_32.h"
#include "blocks_k.h"
#include "blocks_iq.h"

#endif
