/* SPDX-License-Identifier: MIT */
/* attention.c - queries and the pages of a cache: causal attention, and the loop that attention to spans (span_attention.c) shares with it.
 *
 * A page holds 64 keys of one key/value head, so that a query meets 64 keys in lanes, and their values, so that a weight meets d_head elements in lanes. A page
 * is one block of the definition: per block the maximum, the sum and the weighted values, joined to the blocks before it in ascending order. A task is up to
 * 48 query heads that share a key/value head, of neighbouring tokens: they meet each page together, so that a page comes from memory, and its numbers are
 * converted, once for all of them. */
#include "cpu.h"

typedef struct job {
    const sl_op_args *args;
    const cpu_attention_kernel *kernel;
    const int32_t *spans, *ranges;          /* what tokens see; NULL: keys 0 .. position, which stand in pages by a table */
    const int32_t *positions, *pages, *seqs;    /* pages: n_table pages per sequence; seqs: NULL is sequence 0 */
    int64_t n_table;
    int64_t group, n_query, per_task, tasks_per_head;   /* query heads of a key/value head; queries that share one; how they are cut */
} job;

/* What one query sees: spans [next, end) of keys in pages 0, 1, ..., or keys [first, end) in these pages; and of the page at hand the keys whose bits are set. */
typedef struct view { const int32_t *pages; int32_t first, next, end; uint64_t visible; } view;

int cpu_attention_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)device;
    return ((const cpu_attention_kernel *)self->kernel)->cache_type == args->src[1].type && (args->src[1].type != SL_TYPE_Q8_0 || args->src[0].ne[0] % 32 == 0);
}

/* Per thread: what kernels scribble on, and prepared queries. */
static size_t work_bytes(const cpu_attention_kernel *kernel, int64_t d_head) { return kernel->work_bytes ? (kernel->work_bytes(d_head) + 63) / 64 * 64 : 0; }
static size_t scratch_per_thread(const cpu_attention_kernel *kernel, const sl_op_args *args)
{
    const int64_t d = args->src[0].ne[0];
    return work_bytes(kernel, d) + (kernel->prepare ? (CPU_ATTENTION_QUERIES + CPU_ATTENTION_SPARE) * cpu_query_bytes(d) : 0);
}

size_t cpu_attention_scratch(const sl_impl *self, void *device, const sl_op_args *args)
{
    return scratch_per_thread(self->kernel, args) * ((cpu_device *)device)->n_threads;
}

/* Bits from .. end - 1 of 64, of which there is at least one. */
static uint64_t bits(int64_t from, int64_t end) { return ~(uint64_t)0 >> (SL_PAGE_KEYS - (end - from)) << from; }

/* The keys of [start, start + 64) that the view sees; moves past the spans that end there. */
static uint64_t look(view *v, const int32_t *spans, int64_t start)
{
    uint64_t visible = 0;
    if (!spans) {
        const int64_t from = v->first > start ? v->first - start : 0, to = v->end - start < SL_PAGE_KEYS ? v->end - start : SL_PAGE_KEYS;
        return from < to ? bits(from, to) : 0;
    }
    while (v->next < v->end && spans[2 * v->next + 1] <= start)
        v->next++;
    for (int32_t i = v->next; i < v->end && spans[2 * i] < start + SL_PAGE_KEYS; i++) {
        const int64_t from = spans[2 * i] > start ? spans[2 * i] - start : 0, end = spans[2 * i + 1] - start, to = end < SL_PAGE_KEYS ? end : SL_PAGE_KEYS;
        if (from < to)
            visible |= bits(from, to);
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

static int64_t page_of(const view *v, int64_t block) { return v->pages ? v->pages[block] : block; }

static cpu_page page_at(const job *j, int64_t head_kv, int64_t page)
{
    const sl_tensor *k = &j->args->src[1], *v = &j->args->src[2];
    return (cpu_page) { (const char *)k->data + (size_t)page * k->stride[3] + (size_t)head_kv * k->stride[2], (const char *)v->data + (size_t)page * v->stride[3] + (size_t)head_kv * v->stride[2] };
}

/* Queries that see keys of the same page, whatever their sequence, meet it together. Another block comes next, or the same number again: none. */
static void meet(const job *j, int64_t head_kv, int64_t block, int64_t next, cpu_query *queries, const view *views, int n, void *work)
{
    for (int i = 0, end; i < n; i = end) {
        end = i + 1;
        if (!views[i].visible)
            continue;
        const int64_t page = page_of(&views[i], block);
        while (end < n && views[end].visible && page_of(&views[end], block) == page)
            end++;
        for (int t = i; t < end; t++)
            queries[t].visible = views[t].visible;
        j->kernel->block(j->args->src[0].ne[0], end - i, queries + i, page_at(j, head_kv, page), page_at(j, head_kv, page_of(&views[i], next)), j->args->value, work);
    }
}

/* First position that the token at `position` sees. */
static int32_t chunk_start(int64_t chunk, int32_t position) { return chunk ? (int32_t)(position - position % chunk) : 0; }

/* Queries first .. first + n - 1 of a key/value head, token by token, with nothing seen yet; prepared where the kernel wants it. In causal attention the sums
 * of the first block are what they are: they are added to -0, which keeps a -0. A token that sees no span has to end as +0. */
static sl_status start_queries(const job *j, int64_t head_kv, int64_t first, int n, cpu_query *queries, view *views, char *prepared)
{
    const sl_op_args *a = j->args;
    const int64_t d = a->dst.ne[0];
    for (int i = 0; i < n; i++) {
        const int64_t tok = (first + i) / j->group, row = tok * a->src[0].ne[1] + head_kv * j->group + (first + i) % j->group;
        const int32_t *range = j->spans ? j->ranges + 2 * tok : NULL;
        views[i] = range ? (view) { NULL, range[0], range[0], range[1], 0 } : (view) { j->pages + j->n_table * (j->seqs ? j->seqs[tok] : 0), chunk_start(a->number, j->positions[tok]), 0, j->positions[tok] + 1, 0 };
        queries[i] = (cpu_query) { cpu_row(&a->src[0], row), (float *)cpu_row(&a->dst, row), sl_float(0xff800000u), 0.0f, 0 };
        if (j->kernel->prepare) {
            char *to = prepared + (size_t)i * cpu_query_bytes(d);
            if (j->kernel->prepare(d, queries[i].q, to))
                return sl_fail(SL_ERR_NONFINITE, "%s: token %lld: a query is not finite", sl_op_name(a->op), (long long)tok);
            queries[i].q = to;
        }
        for (int64_t e = 0; e < d; e++)
            queries[i].o[e] = j->spans ? 0.0f : -0.0f;
    }
    return SL_OK;
}

/* Pages [*first, result) hold all keys that one of the n queries may see. */
static int64_t pages_to_meet(const job *j, const view *views, int n, int64_t *first)
{
    int64_t start = INT32_MAX, end = 0;
    *first = 0;
    if (j->spans)
        return j->args->src[1].ne[3];
    for (int i = 0; i < n; i++) {
        start = views[i].first < start ? views[i].first : start;
        end = views[i].end > end ? views[i].end : end;
    }
    *first = start / SL_PAGE_KEYS;
    return (end + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS;
}

static sl_status attend(void *arg, size_t task, unsigned thread)
{
    const job *j = arg;
    const sl_op_args *a = j->args;
    const int64_t head_kv = (int64_t)task / j->tasks_per_head, first = (int64_t)task % j->tasks_per_head * j->per_task, left = j->n_query - first;
    const int n = (int)(left < j->per_task ? left : j->per_task);
    char *work = (char *)a->scratch + thread * scratch_per_thread(j->kernel, a);
    cpu_query queries[CPU_ATTENTION_QUERIES];
    view views[CPU_ATTENTION_QUERIES];
    SL_TRY(start_queries(j, head_kv, first, n, queries, views, work + work_bytes(j->kernel, a->src[0].ne[0])));
    int64_t first_page;
    const int64_t n_page = pages_to_meet(j, views, n, &first_page);
    if (j->kernel->begin)
        j->kernel->begin();
    for (int64_t i = first_page; i < n_page; i++)
        if (look_all(views, n, j->spans, i * SL_PAGE_KEYS))
            meet(j, head_kv, i, i + 1 < n_page ? i + 1 : i, queries, views, n, work);
    if (j->kernel->end)
        j->kernel->end();
    for (int i = 0; i < n; i++) {
        const float r = queries[i].sum == 0.0f ? 0.0f : 1.0f / queries[i].sum;        /* 0: nothing seen, o is 0 */
        for (int64_t e = 0; e < a->dst.ne[0]; e++)
            queries[i].o[e] *= r;
    }
    return SL_OK;
}

/* At least as many keys as any query sees, and one. */
static int64_t keys_to_meet(const job *j)
{
    int64_t n = 1;
    if (j->spans)
        return j->args->src[1].ne[3] * SL_PAGE_KEYS + 1;
    for (int64_t t = 0; t < j->args->src[0].ne[2]; t++)
        n = j->positions[t] + 1 > n ? j->positions[t] + 1 : n;
    return n;
}

/* Large tasks use a page often, small ones feed all threads and hear of cancelling within milliseconds; whatever the cut, the bits are the same. Sizes in whole
 * groups of the kernel as long as there are several. */
static int64_t queries_per_task(const job *j, const cpu_device *device, int64_t n_head_kv)
{
    const int64_t n_threads = device->n_threads, group = j->kernel->group, most = ((int64_t)1 << 23) * group / (keys_to_meet(j) * j->args->src[0].ne[0]);
    int64_t n = 8 * group < CPU_ATTENTION_QUERIES ? 8 * group : CPU_ATTENTION_QUERIES;
    while (n > group && (n > most || (j->n_query + n - 1) / n * n_head_kv < 4 * n_threads))
        n -= group;
    while (n > 1 && (j->n_query + n - 1) / n * n_head_kv < n_threads)
        n /= 2;
    return n;
}

static sl_status attend_all(job *j, void *device)
{
    const sl_tensor *q = &j->args->src[0], *k = &j->args->src[1];
    j->group = q->ne[1] / k->ne[2];
    j->n_query = j->group * q->ne[2];
    j->per_task = queries_per_task(j, device, k->ne[2]);
    j->tasks_per_head = (j->n_query + j->per_task - 1) / j->per_task;
    return cpu_parallel(device, (size_t)(j->tasks_per_head * k->ne[2]), attend, j);
}

sl_status cpu_attention_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    job j = { .args = args, .kernel = self->kernel, .positions = args->src[3].data, .pages = args->src[4].data, .seqs = sl_tensor_is(&args->src[5]) ? args->src[5].data : NULL,
              .n_table = (int64_t)(args->src[4].stride[1] / sizeof(int32_t)) };
    return attend_all(&j, device);
}

sl_status cpu_attend_spans(const cpu_attention_kernel *kernel, void *device, const sl_op_args *args)
{
    job j = { .args = args, .kernel = kernel, .spans = args->src[3].data, .ranges = args->src[4].data };
    return attend_all(&j, device);
}
