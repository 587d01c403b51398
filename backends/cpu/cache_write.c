/* SPDX-License-Identifier: MIT */
/* cache_write.c - keys and values into the pages of a cache. Where which byte lies in a page: lib/kv.h. */
#include "cpu.h"

#include <string.h>

/* n numbers of a key, and of a value, to the place of key number `key` in a page; 1 if one is not finite, or is not in that type. */
typedef int store_fn(int64_t n, const float *x, char *page, int64_t key);

static int key_f32(int64_t n, const float *x, char *page, int64_t key)
{
    for (int64_t d = 0; d < n; d++)
        memcpy(page + (SL_PAGE_KEYS * d + key) * 4, x + d, 4);
    return 0;
}

static int value_f32(int64_t n, const float *x, char *page, int64_t key)
{
    memcpy(page + n * key * 4, x, (size_t)n * 4);
    return 0;
}

static int key_f16(int64_t n, const float *x, char *page, int64_t key)
{
    for (int64_t d = 0; d < n; d++)
        ((uint16_t *)(void *)page)[SL_PAGE_KEYS * d + key] = sl_float_to_half(x[d]);
    return 0;
}

static int value_f16(int64_t n, const float *x, char *page, int64_t key)
{
    for (int64_t d = 0; d < n; d++)
        ((uint16_t *)(void *)page)[n * key + d] = sl_float_to_half(x[d]);
    return 0;
}

/* Neighbours, of d or of keys, share a dword. */
static int store_pairs(int64_t n, const float *x, uint16_t *to, int64_t step, int64_t odd_step)
{
    int bad = 0;
    for (int64_t d = 0; d < n; d++) {
        const uint16_t b = sl_float_to_b16(x[d]);
        bad |= (b & 0x7f80) == 0x7f80;
        to[odd_step ? d / 2 * step + d % 2 * odd_step : d * step] = b;
    }
    return bad;
}

static int key_bf16(int64_t n, const float *x, char *page, int64_t key)
{
    uint16_t *to = (uint16_t *)(void *)page + 2 * key;
    if (n % 2)
        to[n / 2 * 2 * SL_PAGE_KEYS + 1] = 0;
    return store_pairs(n, x, to, 2 * SL_PAGE_KEYS, 1);
}

static int value_bf16(int64_t n, const float *x, char *page, int64_t key)
{
    return store_pairs(n, x, (uint16_t *)(void *)page + key / 2 * 2 * n + key % 2, 2, 0);
}

/* A block of 32 in a page: its integers, `fours` lines of dwords or one line of bytes per key, and its scale. */
static int store_blocks(int64_t n, const float *x, char *page, int64_t key, int fours)
{
    int bad = 0;
    for (int64_t d = 0; d < n; d += 32, page += CPU_Q8_BYTES) {
        sl_block_a32 b;
        bad |= sl_quantize_a32(x + d, &b);
        const uint16_t scale = sl_float_to_half(b.d);
        bad |= (scale & 0x7c00) == 0x7c00;
        for (int i = 0; i < 32; i += 4)
            memcpy(page + (fours ? i * SL_PAGE_KEYS + 4 * key : 32 * key + i), b.q + i, 4);
        memcpy(page + CPU_Q8_SCALES + 2 * key, &scale, sizeof scale);
    }
    return bad;
}

static int key_q8_0(int64_t n, const float *x, char *page, int64_t key) { return store_blocks(n, x, page, key, 1); }
static int value_q8_0(int64_t n, const float *x, char *page, int64_t key) { return store_blocks(n, x, page, key, 0); }

static const struct stores { sl_type type; int64_t multiple; store_fn *key, *value; } stores[] = {
    { SL_TYPE_F32, 1, key_f32, value_f32 }, { SL_TYPE_F16, 1, key_f16, value_f16 }, { SL_TYPE_BF16, 1, key_bf16, value_bf16 }, { SL_TYPE_Q8_0, 32, key_q8_0, value_q8_0 },
};

static const struct stores *stores_of(const sl_tensor *cache)
{
    for (size_t i = 0; i < sizeof stores / sizeof *stores; i++)
        if (stores[i].type == cache->type && cache->ne[1] % stores[i].multiple == 0)
            return &stores[i];
    return NULL;
}

int cpu_cache_write_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device;
    return stores_of(&args->src[2]) != NULL;
}

static char *page_of(const sl_tensor *cache, int64_t page, int64_t head) { return (char *)cache->data + (size_t)page * cache->stride[3] + (size_t)head * cache->stride[2]; }

static sl_status write_token(void *arg, size_t tok, unsigned thread)
{
    const sl_op_args *a = arg;
    const sl_tensor *k = &a->src[0], *v = &a->src[1], *kc = &a->src[2], *vc = &a->src[3];
    const int64_t position = ((const int32_t *)a->src[4].data)[tok], page = position / SL_PAGE_KEYS, key = position % SL_PAGE_KEYS;
    (void)thread;
    const int64_t seq = sl_tensor_is(&a->src[6]) ? ((const int32_t *)a->src[6].data)[tok] : 0;
    if (position < 0 || page >= a->src[5].ne[0] || seq < 0 || seq >= a->src[5].ne[1])
        return sl_fail(SL_ERR_RANGE, "cache_write: position %lld of sequence %lld", (long long)position, (long long)seq);
    const int64_t id = ((const int32_t *)(const void *)((const char *)a->src[5].data + (size_t)seq * a->src[5].stride[1]))[page];
    const struct stores *to = stores_of(kc);
    int bad = 0;
    for (int64_t head = 0; head < k->ne[1]; head++) {
        bad |= to->key(k->ne[0], (const float *)((const char *)k->data + tok * k->stride[2] + (size_t)head * k->stride[1]), page_of(kc, id, head), key);
        bad |= to->value(v->ne[0], (const float *)((const char *)v->data + tok * v->stride[2] + (size_t)head * v->stride[1]), page_of(vc, id, head), key);
    }
    if (bad)
        return sl_fail(SL_ERR_NONFINITE, "cache_write: position %lld: a number that is not finite, or too large for a cache of %s", (long long)position, sl_type_name((uint32_t)kc->type));
    return SL_OK;
}

sl_status cpu_cache_write_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return cpu_parallel(device, (size_t)args->src[0].ne[2], write_token, (void *)args);
}
