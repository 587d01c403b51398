/* SPDX-License-Identifier: MIT */
/* moe.c - mixtures of experts: choosing them, what they see, and joining what they give. One task per token. */
#include "cpu.h"

/* exp(logit - max) of each over their sum (the 16-sum). */
static void softmax(const float *logits, const int32_t *ids, int64_t n, float top, float *weights)
{
    float sums[16] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        weights[i] = sl_exp(logits[ids[i]] - top);
        sums[i % 16] += weights[i];
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            sums[i] += sums[i + half];
    for (int64_t i = 0; i < n; i++)
        weights[i] /= sums[0];
}

/* The n_used largest logits of a token in ascending id (of equals the lower id is in), and their weights. */
static sl_status route_token(void *arg, size_t tok, unsigned thread)
{
    const sl_op_args *a = arg;
    const int64_t n = a->src[0].ne[0], used = a->dst.ne[0];
    const float *logits = (const float *)((const char *)a->src[0].data + tok * a->src[0].stride[1]);
    int32_t *ids = (int32_t *)((char *)a->dst.data + tok * a->dst.stride[1]);
    float *weights = (float *)((char *)a->src[1].data + tok * a->src[1].stride[1]), top = 0;
    int64_t n_in = 0;
    (void)thread;
    for (int64_t e = 0; e < n; e++) {
        int64_t better = 0;         /* experts that go before this one */
        if (!sl_is_finite(logits[e]))
            return sl_fail(SL_ERR_NONFINITE, "route: a router logit is infinite or not a number");
        for (int64_t i = 0; i < n; i++)
            better += logits[i] > logits[e] || (logits[i] == logits[e] && i < e);
        if (better < used)
            ids[n_in++] = (int32_t)e;
        if (!better)
            top = logits[e];
    }
    if (a->number == SL_GATE_SOFTMAX)
        softmax(logits, ids, used, top, weights);
    else
        for (int64_t i = 0; i < used; i++)
            weights[i] = 1.0f / (1.0f + sl_exp(-logits[ids[i]]));
    return SL_OK;
}

sl_status cpu_route_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return cpu_parallel(device, (size_t)args->dst.ne[1], route_token, (void *)args);
}

static sl_status sum_token(void *arg, size_t tok, unsigned thread)
{
    const sl_op_args *a = arg;
    const sl_tensor *x = &a->src[0];
    const float *weights = (const float *)((const char *)a->src[1].data + tok * a->src[1].stride[1]);
    float *y = (float *)((char *)a->dst.data + tok * a->dst.stride[1]);
    (void)thread;
    for (int64_t i = 0; i < a->dst.ne[0]; i++)
        y[i] = 0.0f;
    for (int64_t slot = 0; slot < x->ne[1]; slot++) {
        const float *from = (const float *)((const char *)x->data + tok * x->stride[2] + (size_t)slot * x->stride[1]);
        for (int64_t i = 0; i < a->dst.ne[0]; i++)
            y[i] = sl_fma(weights[slot], from[i], y[i]);
    }
    return SL_OK;
}

sl_status cpu_expert_sum_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return cpu_parallel(device, (size_t)args->dst.ne[1], sum_token, (void *)args);
}

static sl_status scale_token(void *arg, size_t tok, unsigned thread)
{
    const sl_op_args *a = arg;
    const float *x = (const float *)((const char *)a->src[0].data + tok * a->src[0].stride[1]);
    const float *weights = (const float *)((const char *)a->src[1].data + tok * a->src[1].stride[1]);
    (void)thread;
    for (int64_t slot = 0; slot < a->dst.ne[1]; slot++) {
        float *y = (float *)((char *)a->dst.data + tok * a->dst.stride[2] + (size_t)slot * a->dst.stride[1]);
        for (int64_t i = 0; i < a->dst.ne[0]; i++)
            y[i] = weights[slot] * x[i];
    }
    return SL_OK;
}

sl_status cpu_expert_scale_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return cpu_parallel(device, (size_t)args->dst.ne[2], scale_token, (void *)args);
}
