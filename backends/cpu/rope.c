/* SPDX-License-Identifier: MIT */
/* rope.c - what positions do to queries and keys: the angles of a pass, turning the pairs of every head by them, and the temperature of far positions. */
#include "cpu.h"

typedef struct job { const sl_op_args *args; cpu_rope_fn *fn; } job;

/* angles[2, pair, tok] = magnitude * (cos, sin)(position * freq), the product and its reduction in binary64. */
static sl_status angles_of_token(void *arg, size_t tok, unsigned thread)
{
    const sl_op_args *a = ((const job *)arg)->args;
    const double position = ((const int32_t *)a->src[0].data)[tok], *freq = a->src[1].data;
    float *to = (float *)((char *)a->dst.data + tok * a->dst.stride[2]);
    (void)thread;
    for (int64_t i = 0; i < a->src[1].ne[0]; i++) {
        float s, c;
        sl_sincos(position * freq[i], &s, &c);
        to[2 * i] = c * a->value;
        to[2 * i + 1] = s * a->value;
    }
    return SL_OK;
}

sl_status cpu_rope_angles_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    job j = { args, NULL };
    return cpu_parallel(device, (size_t)args->dst.ne[2], angles_of_token, &j);
}

int cpu_rope_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_any_accepts(self, device, args); }

static sl_status rope_token(void *arg, size_t tok, unsigned thread)
{
    const job *j = arg;
    const sl_tensor *x = &j->args->dst, *angles = &j->args->src[1];
    (void)thread;
    for (int64_t head = 0; head < x->ne[1]; head++)
        j->fn(x->ne[0], (float *)((char *)x->data + tok * x->stride[2] + (size_t)head * x->stride[1]), (const float *)((const char *)angles->data + tok * angles->stride[2]));
    return SL_OK;
}

sl_status cpu_rope_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    job j = { args, ((const cpu_rope_kernel *)self->kernel)->rope };
    return cpu_parallel(device, (size_t)args->dst.ne[2], rope_token, &j);
}

/* x[d_head, head, tok] *= the factor of the token's position, made in binary64 and rounded once. */
static sl_status temper_token(void *arg, size_t tok, unsigned thread)
{
    static const double ln2 = 0x1.62e42fefa39efp-1;
    const sl_op_args *a = arg;
    const double *tune = a->src[2].data, after = (double)((const int32_t *)a->src[1].data)[tok] + 1.0;
    const float factor = (float)(1.0 + tune[1] * (sl_log2(1.0 + (double)(int64_t)(after / tune[0])) * ln2));
    (void)thread;
    for (int64_t head = 0; head < a->dst.ne[1]; head++) {
        float *x = (float *)((char *)a->dst.data + tok * a->dst.stride[2] + (size_t)head * a->dst.stride[1]);
        for (int64_t i = 0; i < a->dst.ne[0]; i++)
            x[i] *= factor;
    }
    return SL_OK;
}

sl_status cpu_temper_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self;
    return cpu_parallel(device, (size_t)args->dst.ne[2], temper_token, (void *)args);
}
