/* SPDX-License-Identifier: MIT */
/* SPAN_ATTENTION against a softmax over the visible keys in double precision: gaps, spans that share a page, tokens that see nothing, and memory that is
 * not a number wherever nobody looks. Then against ATTENTION, which it must equal where the spans are all that came before. */
#include "ops_harness.h"
#include "arith.h"
#include "random.h"

#include <math.h>

enum { MAX_PAGES = 4, MAX_KEYS = MAX_PAGES * SL_PAGE_KEYS, MAX_SPANS = 8, MAX_TOK = 130 };

typedef struct spanning {
    const float *q, *k, *v;             /* [d_head, n_head_kv, MAX_KEYS] */
    const int32_t *spans, *ranges;
    int64_t d_head, n_head, n_head_kv, n_span, n_tok, n_seen;   /* n_seen: keys are there for so many of the tokens */
    sl_type cache;
} spanning;

static sl_tensor pairs(sl_pass *pass, const int32_t *x, int64_t n) { return sl_view_heads(sl_pass_input(pass, SL_TYPE_I32, 2 * n, x), 2); }

static int sees(const spanning *a, int64_t token, int64_t key)
{
    for (int32_t s = a->ranges[2 * token]; s < a->ranges[2 * token + 1]; s++)
        if (key >= a->spans[2 * s] && key < a->spans[2 * s + 1])
            return 1;
    return 0;
}

/* What memory holds where no key was written: NaN, infinity, huge numbers, whatever the type. */
static const unsigned char junk[] = { 0xff, 0xff, 0xff, 0x7f, 0x80, 0x7f, 0x00, 0x7c, 0xff, 0x7f, 0x7f };

/* Writes the keys that a token sees, and no other ones. */
static void write_seen(sl_pass *pass, const spanning *a, sl_kv_layer cache)
{
    static const int32_t pages[MAX_PAGES] = { 0, 1, 2, 3 };
    const int64_t width = a->d_head * a->n_head_kv;
    float *rows = malloc(2 * (size_t)(MAX_KEYS * width) * sizeof *rows), *values = rows + MAX_KEYS * width;
    int32_t at[MAX_KEYS], n = 0;
    for (int32_t key = 0; key < MAX_KEYS; key++) {
        int seen = 0;
        for (int64_t t = 0; t < a->n_seen && !seen; t++)
            seen = sees(a, t, key);
        if (!seen)
            continue;
        memcpy(rows + n * width, a->k + key * width, (size_t)width * sizeof *rows);
        memcpy(values + n * width, a->v + key * width, (size_t)width * sizeof *rows);
        at[n++] = key;
    }
    if (n)
        sl_op_cache_write(pass, sl_view_heads(ops_input(pass, SL_TYPE_F32, width, n, 1, 1, rows), a->d_head), sl_view_heads(ops_input(pass, SL_TYPE_F32, width, n, 1, 1, values), a->d_head),
                          cache.k, cache.v, sl_pass_input(pass, SL_TYPE_I32, n, at), sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, pages), (sl_tensor) { 0 });
    free(rows);
}

static void body(sl_pass *pass, void *user, void *out)
{
    const spanning *a = user;
    const sl_kv_layer cache = ops_cache_of(pass, a->cache, a->d_head, a->n_head_kv, MAX_PAGES, junk, sizeof junk);
    write_seen(pass, a, cache);
    sl_tensor q = ops_input(pass, SL_TYPE_F32, a->d_head * a->n_head + 5, a->n_tok, 1, 1, a->q);
    q = sl_view_heads(sl_view_rows(q, 3, a->d_head * a->n_head), a->d_head);
    sl_pass_output(pass, sl_op_span_attention(pass, q, cache.k, cache.v, pairs(pass, a->spans, a->n_span), pairs(pass, a->ranges, a->n_tok), 1.0f / sqrtf((float)a->d_head)), out);
}

static void exact_of(const spanning *a, double *out)
{
    const int64_t d = a->d_head, width = d * a->n_head_kv;
    double *k = malloc((size_t)(MAX_KEYS * width) * sizeof *k), *v = malloc((size_t)(MAX_KEYS * width) * sizeof *v), q[128];
    for (int64_t i = 0; i < MAX_KEYS * width; i += d) {
        ops_stored(a->cache, d, a->k + i, k + i);
        ops_stored(a->cache, d, a->v + i, v + i);
    }
    for (int64_t t = 0; t < a->n_tok; t++)
        for (int64_t h = 0; h < a->n_head; h++, out += d) {
            const int64_t of = h / (a->n_head / a->n_head_kv) * d;
            double p[MAX_KEYS], top = -INFINITY, sum = 0;
            ops_asked(a->cache, d, a->q + t * (d * a->n_head + 5) + 3 + h * d, q);
            for (int64_t i = 0; i < d; i++)
                out[i] = 0;
            for (int64_t key = 0; key < MAX_KEYS; key++) {
                p[key] = 0;
                for (int64_t i = 0; i < d && sees(a, t, key); i++)
                    p[key] += q[i] * k[key * width + of + i];
                p[key] /= sqrt((double)d);
                top = sees(a, t, key) ? fmax(top, p[key]) : top;
            }
            for (int64_t key = 0; key < MAX_KEYS; key++)
                sum += sees(a, t, key) ? exp(p[key] - top) : 0;
            for (int64_t key = 0; key < MAX_KEYS; key++)
                for (int64_t i = 0; i < d && sees(a, t, key); i++)
                    out[i] += exp(p[key] - top) / sum * v[key * width + of + i];
        }
    free(k), free(v);
}

/* Runs it everywhere and compares with the exact values. */
static void run_case(const char *name, spanning *a, float size, float *got, uint64_t *random)
{
    const size_t n_out = (size_t)(a->n_tok * a->d_head * a->n_head);
    float *q = ops_random((size_t)(a->n_tok * (a->d_head * a->n_head + 5)), size, random);
    double *exact = malloc(n_out * sizeof *exact);
    float *k = ops_random((size_t)(MAX_KEYS * a->d_head * a->n_head_kv), 2, random), *v = ops_random((size_t)(MAX_KEYS * a->d_head * a->n_head_kv), 1, random);
    a->q = q, a->k = k, a->v = v, a->n_seen = a->n_tok;
    const ops_case run = { name, body, a, NULL, 0, n_out * sizeof *got };
    ops_run(&run, got);
    exact_of(a, exact);
    ops_close(name, got, exact, n_out, 0, ops_attention_error(a->cache, a->d_head, size));
    for (int64_t t = 0; t < a->n_tok; t++) {        /* one token alone gives the bytes that it gave among others; every seventh will do */
        if (t % 7)
            continue;
        spanning one = *a;
        float *single = malloc((size_t)(a->d_head * a->n_head) * sizeof *single);
        one.q += t * (a->d_head * a->n_head + 5), one.ranges += 2 * t, one.n_tok = one.n_seen = 1;
        const ops_case alone = { name, body, &one, NULL, 0, (size_t)(a->d_head * a->n_head) * sizeof *single };
        ops_run(&alone, single);
        assert_memory_equal(single, got + t * a->d_head * a->n_head, (size_t)(a->d_head * a->n_head) * sizeof *single);
        free(single);
    }
    free(q), free(k), free(v), free(exact);
}

/* Spans by name: all of two pages and a part; gaps within pages and over whole ones; single keys; empty ones; the last key. */
static const struct { const char *name; int32_t n, spans[2 * MAX_SPANS]; } sets[] = {
    { "one span", 1, { 0, 150 } }, { "all", 1, { 0, MAX_KEYS } }, { "gaps", 5, { 3, 17, 17, 40, 60, 70, 130, 192, 200, 201 } },
    { "keys", 8, { 0, 1, 5, 6, 63, 64, 64, 65, 127, 128, 191, 193, 254, 255, 255, 256 } }, { "empty ones", 4, { 0, 0, 10, 10, 64, 128, 256, 256 } },
    { "overlapping ones", 3, { 100, 200, 20, 150, 0, MAX_KEYS } },
};
static const struct { int64_t d_head, n_head, n_head_kv, n_tok; float size; int set; } cases[] = {
    { 80, 3, 3, 20, 1, 0 }, { 24, 8, 2, MAX_TOK, 1, 2 }, { 128, 4, 1, 9, 1, 3 }, { 10, 5, 5, 65, 1, 1 }, { 2, 1, 1, 1, 1, 2 }, { 24, 8, 2, 60, 12, 2 }, { 40, 6, 3, 13, 1, 4 }, { 16, 2, 1, 40, 1, 5 },
    { 64, 8, 2, 60, 1, 2 }, { 32, 4, 4, 50, 12, 3 }, { 96, 6, 3, 13, 1, 5 }, { 128, 4, 1, 33, 1, 1 },
};

static void follows_the_definition(void **state)
{
    (void)state;
    uint64_t random = 1;
    float *got = malloc(MAX_TOK * 8 * 128 * sizeof *got);
    for (size_t i = 0; i < OPS_CACHES * sizeof cases / sizeof cases[0]; i++) {
        const struct ops_cache *cache = &ops_caches[i % OPS_CACHES];
        if (cases[i / OPS_CACHES].d_head % cache->block)
            continue;
        int32_t ranges[2 * MAX_TOK];
        const int n_span = sets[cases[i / OPS_CACHES].set].n;
        spanning a = { .d_head = cases[i / OPS_CACHES].d_head, .n_head = cases[i / OPS_CACHES].n_head, .n_head_kv = cases[i / OPS_CACHES].n_head_kv, .n_tok = cases[i / OPS_CACHES].n_tok,
                       .cache = cache->type, .spans = sets[cases[i / OPS_CACHES].set].spans, .n_span = n_span, .ranges = ranges };
        for (int64_t t = 0; t < a.n_tok; t++)       /* runs of tokens that see the same, one of nothing, one of everything */
            if (t % 8 && t % 11 && t % 13)
                ranges[2 * t] = ranges[2 * t - 2], ranges[2 * t + 1] = ranges[2 * t - 1];
            else {
                /* of overlapping ones a token may see one at a time */
                const int overlap = cases[i / OPS_CACHES].set == 5;
                ranges[2 * t] = t % 11 ? (int32_t)random_below(&random, (uint64_t)n_span) : 0;
                ranges[2 * t + 1] = t % 13 == 0 && t ? ranges[2 * t] : t % 11 ? ranges[2 * t] + 1 + (int32_t)random_below(&random, (uint64_t)(n_span - ranges[2 * t])) : n_span;
                ranges[2 * t + 1] = overlap && ranges[2 * t + 1] > ranges[2 * t] ? ranges[2 * t] + 1 : ranges[2 * t + 1];
            }
        char name[96];
        snprintf(name, sizeof name, "span_attention/%s of %s, heads of %d, %d:%d, %d tokens", cache->name, sets[cases[i / OPS_CACHES].set].name, (int)a.d_head,
                 (int)a.n_head, (int)a.n_head_kv, (int)a.n_tok);
        run_case(name, &a, cases[i / OPS_CACHES].size, got, &random);
        for (int64_t t = 0; t < a.n_tok; t++)
            for (int64_t k = 0; k < a.n_head * a.d_head && ranges[2 * t] == ranges[2 * t + 1]; k++)
                assert_int_equal(sl_bits(got[t * a.n_head * a.d_head + k]), 0);
    }
    free(got);
}

/* ---- beside ATTENTION ---- */

typedef struct both { const float *q, *kv; sl_type cache; int causal; } both;
enum { D = 32, H = 4, KV = 2, N = 130 };

static void causal(sl_pass *pass, void *user, void *out)
{
    const both *b = user;
    static const int32_t pages[MAX_PAGES] = { 0, 1, 2, 3 };
    int32_t at[N], spans[2 * N], ranges[2 * N];
    for (int32_t i = 0; i < N; i++)
        at[i] = spans[2 * i] = i, spans[2 * i + 1] = i + 1, ranges[2 * i] = 0, ranges[2 * i + 1] = i + 1;
    const sl_kv_layer c = ops_cache_of(pass, b->cache, D, KV, MAX_PAGES, junk, sizeof junk);
    sl_tensor x = sl_view_heads(ops_input(pass, SL_TYPE_F32, D * KV, N, 1, 1, b->kv), D), q = sl_view_heads(ops_input(pass, SL_TYPE_F32, D * H, N, 1, 1, b->q), D);
    sl_tensor positions = sl_pass_input(pass, SL_TYPE_I32, N, at), page = sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, pages);
    sl_op_cache_write(pass, x, x, c.k, c.v, positions, page, (sl_tensor) { 0 });
    sl_pass_output(pass, b->causal ? sl_op_attention(pass, q, c.k, c.v, positions, page, (sl_tensor) { 0 }, 0, 0.25f) : sl_op_span_attention(pass, q, c.k, c.v, pairs(pass, spans, N), pairs(pass, ranges, N), 0.25f), out);
}

static void equals_attention_to_all_before(void **state)
{
    (void)state;
    uint64_t random = 2;
    float *q = ops_random(D * H * N, 2, &random), *kv = ops_random(D * KV * N, 2, &random);
    static float want[D * H * N], got[D * H * N];
    for (int i = 0; i < 2 * OPS_CACHES; i++) {
        both b = { q, kv, ops_caches[i / 2].type, !(i % 2) };
        const ops_case c = { i % 2 ? "spans of one key" : "attention", causal, &b, NULL, 0, sizeof got };
        ops_run(&c, i % 2 ? got : want);
        if (i % 2)
            assert_memory_equal(got, want, sizeof got);
    }
    free(q), free(kv);
}

/* ---- numbers that are not there ---- */

static void hostile_spans(void **state)
{
    (void)state;
    static const struct { const char *part; int32_t spans[4], ranges[4]; } wrong[] = {
        { "span 0", { -1, 5, 6, 7 }, { 0, 2, 0, 2 } }, { "span 0", { 5, 4, 6, 7 }, { 0, 2, 0, 2 } }, { "token 1 sees span 1", { 0, 7, 6, 9 }, { 0, 1, 0, 2 } },
        { "token 0 sees span 1", { 6, 9, 0, 1 }, { 0, 2, 0, 2 } }, { "span 1", { 0, 7, 9, MAX_KEYS + 1 }, { 0, 1, 0, 1 } }, { "span 1", { 0, 7, INT32_MAX, INT32_MAX }, { 0, 1, 0, 1 } }, { "span 0", { INT32_MIN, 7, 8, 9 }, { 0, 1, 0, 1 } },
        { "token 0", { 0, 7, 8, 9 }, { -1, 1, 0, 1 } }, { "token 1", { 0, 7, 8, 9 }, { 0, 1, 0, 3 } }, { "token 1", { 0, 7, 8, 9 }, { 0, 1, 2, 1 } },
        { "token 0", { 0, 7, 8, 9 }, { INT32_MIN, INT32_MAX, 0, 1 } }, { "token 1", { 0, 7, 8, 9 }, { 0, 1, INT32_MAX, INT32_MAX } },
    };
    static const float zeros[24 * MAX_KEYS];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        spanning a = { zeros, zeros, zeros, wrong[i].spans, wrong[i].ranges, 24, 1, 1, 2, 2, 0, SL_TYPE_F32 };
        const ops_case c = { "span_attention", body, &a, NULL, 0, 2 * 24 * sizeof(float) };
        ops_run_fails(&c, 0, SL_ERR_RANGE, wrong[i].part);
    }
}

static int finish(void **state) { return (void)state, ops_finish("span_attention"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(follows_the_definition), cmocka_unit_test(equals_attention_to_all_before), cmocka_unit_test(hostile_spans) };
    return cmocka_run_group_tests_name("span_attention", tests, ops_prepare, finish);
}
