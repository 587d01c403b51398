/* SPDX-License-Identifier: MIT */
/* cache_write.c - keys and values into the pages of a cache, and out of them again: kernels convert the numbers of a head, here they are put where lib/kv.h says. */
#include "cpu.h"

#include <string.h>

enum { PIECE = 256 };       /* numbers that are converted at a time */

/* Numbers [d, d + n) of a head of d_head, converted, to the place of key number `key` in a page; 1 if one of them is not in the type. */
typedef int place_fn(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key);

static int key_f32(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key)
{
    const float *x = from;
    float *to = (float *)(void *)page + SL_PAGE_KEYS * d + key;
    (void)d_head;
    for (int64_t i = 0; i < n; i++)
        to[SL_PAGE_KEYS * i] = x[i];
    return 0;
}

static int value_f32(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key)
{
    memcpy(page + (d_head * key + d) * 4, from, (size_t)n * 4);
    return 0;
}

static int key_f16(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key)
{
    const uint16_t *x = from;
    uint16_t *to = (uint16_t *)(void *)page + SL_PAGE_KEYS * d + key;
    (void)d_head;
    for (int64_t i = 0; i < n; i++)
        to[SL_PAGE_KEYS * i] = x[i];
    return 0;
}

static int value_f16(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key)
{
    memcpy(page + (d_head * key + d) * 2, from, (size_t)n * 2);
    return 0;
}

/* Neighbours of d share a dword; d is even, and behind an odd end stands a zero. */
static int key_bf16(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key)
{
    const char *x = from;
    char *to = page + (SL_PAGE_KEYS * (d / 2) + key) * 4;
    (void)d_head;
    for (int64_t i = 0; 2 * i < n; i++)
        memcpy(to + SL_PAGE_KEYS * 4 * i, x + 4 * i, 4);
    return 0;
}

/* Neighbouring keys do. */
static int value_bf16(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key)
{
    const uint16_t *x = from;
    uint16_t *to = (uint16_t *)(void *)page + key / 2 * 2 * d_head + key % 2 + 2 * d;
    for (int64_t i = 0; i < n; i++)
        to[2 * i] = x[i];
    return 0;
}

/* Blocks of 32 in a page: their integers, `fours` lines of dwords or one line of bytes per key, and their scales. */
static int place_blocks(int64_t d, int64_t n, const sl_block_a32 *b, char *page, int64_t key, int fours)
{
    int bad = 0;
    page += d / 32 * CPU_Q8_BYTES;
    for (; n > 0; n -= 32, b++, page += CPU_Q8_BYTES) {
        const uint16_t scale = sl_float_to_half(b->d);
        bad |= (scale & 0x7c00) == 0x7c00;
        if (fours)
            for (int i = 0; i < 32; i += 4)
                memcpy(page + i * SL_PAGE_KEYS + 4 * key, b->q + i, 4);
        else
            memcpy(page + 32 * key, b->q, 32);
        memcpy(page + CPU_Q8_SCALES + 2 * key, &scale, sizeof scale);
    }
    return bad;
}

static int key_q8_0(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key) { return (void)d_head, place_blocks(d, n, from, page, key, 1); }
static int value_q8_0(int64_t d_head, int64_t d, int64_t n, const void *from, char *page, int64_t key) { return (void)d_head, place_blocks(d, n, from, page, key, 0); }

/* The way back: n numbers of key number `key` of a page, or of its value. */
typedef void load_fn(int64_t n, const char *page, int64_t key, float *x);

static void load_key_f32(int64_t n, const char *page, int64_t key, float *x)
{
    for (int64_t d = 0; d < n; d++)
        memcpy(x + d, page + (SL_PAGE_KEYS * d + key) * 4, 4);
}

static void load_value_f32(int64_t n, const char *page, int64_t key, float *x) { memcpy(x, page + n * key * 4, (size_t)n * 4); }

static void load_halves(int64_t n, const uint16_t *from, int64_t step, float *x)
{
    for (int64_t d = 0; d < n; d++)
        x[d] = sl_half_to_float(from[d * step]);
}

static void load_key_f16(int64_t n, const char *page, int64_t key, float *x) { load_halves(n, (const uint16_t *)(const void *)page + key, SL_PAGE_KEYS, x); }
static void load_value_f16(int64_t n, const char *page, int64_t key, float *x) { load_halves(n, (const uint16_t *)(const void *)page + n * key, 1, x); }

static void load_pairs(int64_t n, const uint16_t *from, int64_t step, int64_t odd_step, float *x)
{
    for (int64_t d = 0; d < n; d++)
        x[d] = sl_float((uint32_t)from[odd_step ? d / 2 * step + d % 2 * odd_step : d * step] << 16);
}

static void load_key_bf16(int64_t n, const char *page, int64_t key, float *x) { load_pairs(n, (const uint16_t *)(const void *)page + 2 * key, 2 * SL_PAGE_KEYS, 1, x); }
static void load_value_bf16(int64_t n, const char *page, int64_t key, float *x) { load_pairs(n, (const uint16_t *)(const void *)page + key / 2 * 2 * n + key % 2, 2, 0, x); }

static void load_blocks(int64_t n, const char *page, int64_t key, int fours, float *x)
{
    for (int64_t d = 0; d < n; d += 32, page += CPU_Q8_BYTES) {
        const float scale = sl_half_to_float(((const uint16_t *)(const void *)(page + CPU_Q8_SCALES))[key]);
        for (int i = 0; i < 32; i++)
            x[d + i] = scale * (float)((const int8_t *)page)[fours ? i / 4 * 4 * SL_PAGE_KEYS + 4 * key + i % 4 : 32 * key + i];
    }
}

static void load_key_q8_0(int64_t n, const char *page, int64_t key, float *x) { load_blocks(n, page, key, 1, x); }
static void load_value_q8_0(int64_t n, const char *page, int64_t key, float *x) { load_blocks(n, page, key, 0, x); }

static const struct places { sl_type type; int64_t multiple; place_fn *key, *value; load_fn *load_key, *load_value; } places[] = {
    { SL_TYPE_F32, 1, key_f32, value_f32, load_key_f32, load_value_f32 }, { SL_TYPE_F16, 1, key_f16, value_f16, load_key_f16, load_value_f16 },
    { SL_TYPE_BF16, 1, key_bf16, value_bf16, load_key_bf16, load_value_bf16 }, { SL_TYPE_Q8_0, 32, key_q8_0, value_q8_0, load_key_q8_0, load_value_q8_0 },
};
const cpu_cache_write_kernel cpu_cache_write_f32 = { SL_TYPE_F32, NULL };

static const struct places *places_of(const sl_tensor *cache)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (places[i].type == cache->type && cache->ne[1] % places[i].multiple == 0)
            return &places[i];
    return NULL;
}

int cpu_cache_write_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)device;
    return ((const cpu_cache_write_kernel *)self->kernel)->cache_type == args->src[2].type && places_of(&args->src[2]) != NULL;
}

/* A key or a value of a head. */
static int write_head(const cpu_cache_write_kernel *kernel, place_fn *place, int64_t d_head, const float *x, char *page, int64_t key)
{
    union { uint16_t words[PIECE]; sl_block_a32 blocks[PIECE / 32]; } piece;
    int bad = 0;
    for (int64_t d = 0; d < d_head; d += PIECE) {
        const int64_t n = d_head - d < PIECE ? d_head - d : PIECE;
        if (kernel->convert)
            bad |= kernel->convert(n, x + d, &piece);
        bad |= place(d_head, d, n, kernel->convert ? (const void *)&piece : x + d, page, key);
    }
    return bad;
}

typedef struct job { const sl_op_args *args; const cpu_cache_write_kernel *kernel; } job;

static char *page_of(const sl_tensor *cache, int64_t page, int64_t head) { return (char *)cache->data + (size_t)page * cache->stride[3] + (size_t)head * cache->stride[2]; }

/* The page and the key within it of a token. */
static sl_status find(const sl_op_args *a, size_t tok, const char *name, int64_t *id, int64_t *key)
{
    const int64_t position = ((const int32_t *)a->src[4].data)[tok], page = position / SL_PAGE_KEYS;
    const int64_t seq = sl_tensor_is(&a->src[6]) ? ((const int32_t *)a->src[6].data)[tok] : 0;
    if (position < 0 || page >= a->src[5].ne[0] || seq < 0 || seq >= a->src[5].ne[1])
        return sl_fail(SL_ERR_RANGE, "%s: position %lld of sequence %lld", name, (long long)position, (long long)seq);
    *id = ((const int32_t *)(const void *)((const char *)a->src[5].data + (size_t)seq * a->src[5].stride[1]))[page];
    *key = position % SL_PAGE_KEYS;
    return SL_OK;
}

static float *row_of(const sl_tensor *x, size_t tok, int64_t head) { return (float *)((char *)x->data + tok * x->stride[2] + (size_t)head * x->stride[1]); }

static sl_status write_token(void *arg, size_t tok, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    const sl_tensor *k = &a->src[0], *v = &a->src[1], *kc = &a->src[2], *vc = &a->src[3];
    int64_t id = 0, key = 0;
    (void)thread;
    SL_TRY(find(a, tok, "cache_write", &id, &key));
    const struct places *to = places_of(kc);
    int bad = 0;
    for (int64_t head = 0; head < k->ne[1]; head++) {
        bad |= write_head(j->kernel, to->key, k->ne[0], row_of(k, tok, head), page_of(kc, id, head), key);
        bad |= write_head(j->kernel, to->value, v->ne[0], row_of(v, tok, head), page_of(vc, id, head), key);
    }
    if (bad)
        return sl_fail(SL_ERR_NONFINITE, "cache_write: position %lld: a number that is not finite, or too large for a cache of %s",
                       (long long)((const int32_t *)a->src[4].data)[tok], sl_type_name((uint32_t)kc->type));
    return SL_OK;
}

sl_status cpu_cache_write_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    job j = { args, self->kernel };
    return cpu_parallel(device, (size_t)args->src[0].ne[2], write_token, &j);
}

int cpu_cache_read_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device;
    return places_of(&args->src[2]) != NULL;
}

static sl_status read_token(void *arg, size_t tok, unsigned thread)
{
    const sl_op_args *a = arg;
    const sl_tensor *k = &a->src[0], *v = &a->src[1], *kc = &a->src[2], *vc = &a->src[3];
    int64_t id = 0, key = 0;
    (void)thread;
    SL_TRY(find(a, tok, "cache_read", &id, &key));
    const struct places *from = places_of(kc);
    for (int64_t head = 0; head < k->ne[1]; head++) {
        from->load_key(k->ne[0], page_of(kc, id, head), key, row_of(k, tok, head));
        from->load_value(v->ne[0], page_of(vc, id, head), key, row_of(v, tok, head));
    }
    return SL_OK;
}

sl_status cpu_cache_read_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return cpu_parallel(device, (size_t)args->src[0].ne[2], read_token, (void *)args);
}
