/* SPDX-License-Identifier: MIT */
/* attention.c - writing the cache, and causal attention over its pages.
 *
 * A page holds 64 positions of one key/value head: keys with the position fastest (a query meets 64 keys in lanes), values with the element
 * fastest (a weight meets d_head elements in lanes). A page is one block of the definition: per block the maximum, the sum and the weighted
 * values, joined to the blocks before it in ascending order. One task is one query head of one token. */
#include "cpu.h"

#include <string.h>

/* ---- writing ---- */

int cpu_cache_write_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device;
    return args->src[2].type == SL_TYPE_F32 || args->src[2].type == SL_TYPE_F16;
}

/* n floats to the cache's type, `stride` elements apart. */
static void store(sl_type type, int64_t n, const float *x, char *to, size_t stride)
{
    if (type == SL_TYPE_F32)
        for (int64_t i = 0; i < n; i++)
            memcpy(to + (size_t)i * stride * 4, x + i, 4);
    else
        for (int64_t i = 0; i < n; i++) {
            uint16_t h = sl_float_to_half(x[i]);
            memcpy(to + (size_t)i * stride * 2, &h, 2);
        }
}

static char *page_of(const sl_tensor *cache, int64_t page, int64_t head) { return (char *)cache->data + (size_t)page * cache->stride[3] + (size_t)head * cache->stride[2]; }

static sl_status write_token(void *arg, size_t tok, unsigned thread)
{
    const sl_op_args *a = arg;
    const sl_tensor *k = &a->src[0], *v = &a->src[1], *kc = &a->src[2], *vc = &a->src[3];
    const int64_t position = ((const int32_t *)a->src[4].data)[tok], page = position / SL_PAGE_KEYS, key = position % SL_PAGE_KEYS;
    (void)thread;
    if (position < 0 || page >= a->src[5].ne[0])
        return sl_fail(SL_ERR_RANGE, "cache_write: position %lld", (long long)position);
    const int64_t id = ((const int32_t *)a->src[5].data)[page];
    for (int64_t head = 0; head < k->ne[1]; head++) {
        store(kc->type, k->ne[0], (const float *)((const char *)k->data + tok * k->stride[2] + (size_t)head * k->stride[1]),
              page_of(kc, id, head) + (size_t)key * kc->stride[0], SL_PAGE_KEYS);
        store(vc->type, v->ne[0], (const float *)((const char *)v->data + tok * v->stride[2] + (size_t)head * v->stride[1]),
              page_of(vc, id, head) + (size_t)key * vc->stride[1], 1);
    }
    return SL_OK;
}

sl_status cpu_cache_write_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return cpu_parallel(device, (size_t)args->src[0].ne[2], write_token, (void *)args);
}

/* ---- attention ---- */

typedef struct job { const sl_op_args *args; const cpu_attention_kernel *kernel; } job;

int cpu_attention_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)device;
    return ((const cpu_attention_kernel *)self->kernel)->cache_type == args->src[1].type;
}

static size_t scratch_per_thread(const sl_op_args *args) { return sl_round_up((size_t)args->src[0].ne[0] * sizeof(float), 64); }

size_t cpu_attention_scratch(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return scratch_per_thread(args) * ((cpu_device *)device)->n_threads;
}

static sl_status attend(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    const sl_tensor *q = &a->src[0], *kc = &a->src[1], *vc = &a->src[2];
    const int64_t d = q->ne[0], head = (int64_t)task % q->ne[1], tok = (int64_t)task / q->ne[1], head_kv = head / (q->ne[1] / kc->ne[2]);
    const int64_t position = ((const int32_t *)a->src[3].data)[tok];
    const int32_t *pages = a->src[4].data;
    const float *query = (const float *)((const char *)q->data + (size_t)tok * q->stride[2] + (size_t)head * q->stride[1]);
    float *o = (float *)((char *)a->dst.data + (size_t)tok * a->dst.stride[2] + (size_t)head * a->dst.stride[1]);
    float *o_block = (float *)((char *)a->scratch + thread * scratch_per_thread(a)), m = 0, l = 0;
    for (int64_t first = 0; first <= position; first += SL_PAGE_KEYS) {
        const int64_t page = pages[first / SL_PAGE_KEYS], left = position + 1 - first;
        float m_block, l_block;
        j->kernel->block(d, left < SL_PAGE_KEYS ? (int)left : SL_PAGE_KEYS, query, page_of(kc, page, head_kv), page_of(vc, page, head_kv), a->value,
                         &m_block, &l_block, first ? o_block : o);
        if (!first) {
            m = m_block, l = l_block;
            continue;
        }
        const float m_new = m > m_block ? m : m_block, before = sl_exp(m - m_new), now = sl_exp(m_block - m_new);
        l = sl_fma(l_block, now, l * before);
        j->kernel->merge(d, o_block, now, before, o);
        m = m_new;
    }
    const float r = 1.0f / l;
    for (int64_t i = 0; i < d; i++)
        o[i] *= r;
    return SL_OK;
}

sl_status cpu_attention_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    job j = { args, self->kernel };
    return cpu_parallel(device, (size_t)(args->src[0].ne[1] * args->src[0].ne[2]), attend, &j);
}
