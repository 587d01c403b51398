/* SPDX-License-Identifier: MIT */
/* span_attention.c - attention of encoders and to what they made: a token sees spans of keys, not all that came before it.
 *
 * Pages are those of attention.c, one after the other without a table, and so is the arithmetic: a page is a block. A task is some query heads that share
 * a key/value head, of neighbouring tokens: they meet each page together, so that a page comes from memory, and is made f32, once for all of them. */
#include "cpu.h"

enum { MAX_QUERIES = 48 };

typedef struct job {
    const sl_op_args *args;
    const cpu_span_kernel *kernel;
    int64_t group, n_query, per_task, tasks_per_head;   /* query heads of a key/value head; queries that share one; how they are cut */
} job;

/* What one query sees: spans [next, end), and of the page at hand the keys whose bits are set. */
typedef struct view { int32_t first, next, end; uint64_t visible; } view;

int cpu_span_attention_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)device;
    return ((const cpu_span_kernel *)self->kernel)->cache_type == args->src[1].type;
}

static int64_t page_elements(const sl_op_args *args) { return args->src[0].ne[0] * SL_PAGE_KEYS; }

/* Per thread: a page of keys and one of values as f32. */
static size_t scratch_per_thread(const cpu_span_kernel *kernel, const sl_op_args *args) { return kernel->widen ? 2 * (size_t)page_elements(args) * sizeof(float) : 0; }

size_t cpu_span_attention_scratch(const sl_impl *self, void *device, const sl_op_args *args)
{
    return scratch_per_thread(self->kernel, args) * ((cpu_device *)device)->n_threads;
}

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

/* The keys of [start, start + 64) that lie in the view's spans; moves past the spans that end there. */
static uint64_t look(view *v, const int32_t *spans, int64_t start)
{
    uint64_t visible = 0;
    while (v->next < v->end && spans[2 * v->next + 1] <= start)
        v->next++;
    for (int32_t i = v->next; i < v->end && spans[2 * i] < start + SL_PAGE_KEYS; i++) {
        const int64_t from = spans[2 * i] > start ? spans[2 * i] - start : 0, end = spans[2 * i + 1] - start, to = end < SL_PAGE_KEYS ? end : SL_PAGE_KEYS;
        if (from < to)
            visible |= ~(uint64_t)0 >> (SL_PAGE_KEYS - (to - from)) << from;
    }
    return visible;
}

/* Updates all views for a page; 1 if any query sees a key of it. Neighbours mostly see the same. */
static int look_all(view *views, int n, const int32_t *spans, int64_t start)
{
    int any = 0;
    for (int i = 0; i < n; i++) {
        if (i && views[i].first == views[i - 1].first && views[i].end == views[i - 1].end)
            views[i].next = views[i - 1].next, views[i].visible = views[i - 1].visible;
        else
            views[i].visible = look(&views[i], spans, start);
        any |= views[i].visible != 0;
    }
    return any;
}

/* Queries that see the same keys of the page meet them together. */
static void meet(const job *j, cpu_span_state *states, const view *views, int n, const float *k, const float *v)
{
    const int64_t d = j->args->src[0].ne[0];
    for (int i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && end - i < CPU_SPAN_QUERIES && views[end].visible == views[i].visible;)
            end++;
        if (views[i].visible)
            j->kernel->block(d, end - i, states + i, k, v, views[i].visible, j->args->value);
    }
}

/* Queries first .. first + n - 1 of a key/value head, token by token, with nothing seen yet. */
static void start_queries(const job *j, int64_t head_kv, int64_t first, int n, cpu_span_state *states, view *views)
{
    const sl_op_args *a = j->args;
    for (int i = 0; i < n; i++) {
        const int64_t tok = (first + i) / j->group, head = head_kv * j->group + (first + i) % j->group;
        const int32_t *range = (const int32_t *)a->src[4].data + 2 * tok;
        views[i] = (view) { range[0], range[0], range[1], 0 };
        states[i] = (cpu_span_state) { (const float *)(cpu_row(&a->src[0], tok * a->src[0].ne[1] + head)), (float *)cpu_row(&a->dst, tok * a->dst.ne[1] + head),
                                       sl_float(0xff800000u), 0.0f };
        for (int64_t e = 0; e < a->dst.ne[0]; e++)
            states[i].o[e] = 0.0f;
    }
}

static sl_status attend(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    const sl_tensor *k = &a->src[1], *v = &a->src[2];
    const int64_t head_kv = (int64_t)task / j->tasks_per_head, first = (int64_t)task % j->tasks_per_head * j->per_task, left = j->n_query - first;
    const int n = (int)(left < j->per_task ? left : j->per_task);
    float *wide = (float *)((char *)a->scratch + thread * scratch_per_thread(j->kernel, a));
    cpu_span_state states[MAX_QUERIES];
    view views[MAX_QUERIES];
    start_queries(j, head_kv, first, n, states, views);
    for (int64_t page = 0; page < k->ne[3]; page++) {
        if (!look_all(views, n, a->src[3].data, page * SL_PAGE_KEYS))
            continue;
        const char *keys = (const char *)k->data + (size_t)page * k->stride[3] + (size_t)head_kv * k->stride[2];
        const char *values = (const char *)v->data + (size_t)page * v->stride[3] + (size_t)head_kv * v->stride[2];
        if (j->kernel->widen) {
            j->kernel->widen(page_elements(a), keys, wide);
            j->kernel->widen(page_elements(a), values, wide + page_elements(a));
            meet(j, states, views, n, wide, wide + page_elements(a));
        } else
            meet(j, states, views, n, (const float *)(const void *)keys, (const float *)(const void *)values);
    }
    for (int i = 0; i < n; i++) {
        const float r = states[i].sum == 0.0f ? 0.0f : 1.0f / states[i].sum;        /* 0: nothing seen, o is 0 */
        for (int64_t e = 0; e < a->dst.ne[0]; e++)
            states[i].o[e] *= r;
    }
    return SL_OK;
}

/* Large tasks use a page often, small ones feed all threads; whatever the cut, the bits are the same. */
static int64_t queries_per_task(const cpu_device *device, const cpu_span_kernel *kernel, int64_t n_query, int64_t n_head_kv)
{
    int64_t n = kernel->n_query < MAX_QUERIES ? kernel->n_query : MAX_QUERIES;
    while (n > CPU_SPAN_QUERIES && (n_query + n - 1) / n * n_head_kv < 4 * (int64_t)device->n_threads)
        n -= CPU_SPAN_QUERIES;
    return n;
}

sl_status cpu_span_attention_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    SL_TRY(check(args));
    job j = { .args = args, .kernel = self->kernel, .group = args->src[0].ne[1] / args->src[1].ne[2] };
    j.n_query = j.group * args->src[0].ne[2];
    j.per_task = queries_per_task(device, j.kernel, j.n_query, args->src[1].ne[2]);
    j.tasks_per_head = (j.n_query + j.per_task - 1) / j.per_task;
    return cpu_parallel(device, (size_t)(j.tasks_per_head * args->src[1].ne[2]), attend, &j);
}
