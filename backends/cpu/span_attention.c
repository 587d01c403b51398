/* SPDX-License-Identifier: MIT */
/* span_attention.c - attention of encoders and to what they made: a token sees spans of keys, not all that came before it. Pages stand one after the other
 * without a table; the rest is as in attention.c. */
#include "cpu.h"

static sl_status check(const sl_op_args *args)
{
    const int32_t *spans = args->src[3].data, *ranges = args->src[4].data;
    const int64_t n_span = args->src[3].ne[1], n_key = args->src[1].ne[3] * SL_PAGE_KEYS;
    for (int64_t i = 0; i < n_span; i++)
        if (spans[2 * i] < 0 || spans[2 * i + 1] < spans[2 * i] || spans[2 * i + 1] > n_key)
            return sl_fail(SL_ERR_RANGE, "span_attention: span %lld is [%d, %d) of %lld keys", (long long)i, (int)spans[2 * i], (int)spans[2 * i + 1], (long long)n_key);
    for (int64_t t = 0; t < args->src[4].ne[1]; t++) {
        const int32_t first = ranges[2 * t], end = ranges[2 * t + 1];
        if (first < 0 || end < first || end > n_span)
            return sl_fail(SL_ERR_RANGE, "span_attention: token %lld sees spans [%d, %d) of %lld", (long long)t, (int)first, (int)end, (long long)n_span);
        if (t && first == ranges[2 * t - 2] && end == ranges[2 * t - 1])
            continue;           /* as its neighbour */
        for (int32_t i = first + 1; i < end; i++)
            if (spans[2 * i] < spans[2 * i - 1])
                return sl_fail(SL_ERR_RANGE, "span_attention: token %lld sees span %d, which begins before the one in front of it ends", (long long)t, (int)i);
    }
    return SL_OK;
}

int cpu_span_attention_accepts(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_attention_accepts(self, device, args); }
size_t cpu_span_attention_scratch(const sl_impl *self, void *device, const sl_op_args *args) { return cpu_attention_scratch(self, device, args); }

sl_status cpu_span_attention_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    SL_TRY(check(args));
    return cpu_attend_spans(self->kernel, device, args);
}
