/* SPDX-License-Identifier: MIT */
/* CACHE_WRITE and ATTENTION against a softmax over all keys in double precision: several pages in no order, grouped heads, f32 and f16 cache. */
#include "ops_harness.h"
#include "random.h"

#include <math.h>

enum { MAX_KEYS = 200, MAX_PAGES = 4 };

/* n_past keys are written in one go, then n_tok more, and these attend. */
typedef struct attending {
    const float *q, *k, *v;             /* [d_head, n_head, n_past + n_tok] and n_head_kv */
    int64_t d_head, n_head, n_head_kv, n_past, n_tok, fused;
    sl_type cache;
} attending;
static const int32_t pages[MAX_PAGES] = { 2, 0, 3, 1 };
static const unsigned char zeros[MAX_PAGES * 64 * 128 * 8 * 4];

/* Keys and values of tokens first .. first + n - 1 to their pages; fused: cut out of rows that hold both. */
static void write(sl_pass *pass, const attending *a, int64_t first, int64_t n, sl_tensor k_cache, sl_tensor v_cache)
{
    const int64_t width = a->d_head * a->n_head_kv;
    int32_t at[MAX_KEYS];
    for (int64_t i = 0; i < n; i++)
        at[i] = (int32_t)(first + i);
    sl_tensor k = ops_input(pass, SL_TYPE_F32, width, n, 1, 1, a->k + first * width), v = ops_input(pass, SL_TYPE_F32, width, n, 1, 1, a->v + first * width);
    if (a->fused) {
        float *rows = calloc((size_t)(n * (2 * width + 3)), sizeof *rows);
        for (int64_t i = 0; i < n; i++) {
            memcpy(rows + i * (2 * width + 3), a->k + (first + i) * width, (size_t)width * sizeof *rows);
            memcpy(rows + i * (2 * width + 3) + width + 3, a->v + (first + i) * width, (size_t)width * sizeof *rows);
        }
        sl_tensor both = ops_input(pass, SL_TYPE_F32, 2 * width + 3, n, 1, 1, rows);
        k = sl_view_rows(both, 0, width), v = sl_view_rows(both, width + 3, width);
        free(rows);
    }
    sl_op_cache_write(pass, sl_view_heads(k, a->d_head), sl_view_heads(v, a->d_head), k_cache, v_cache, sl_pass_input(pass, SL_TYPE_I32, n, at),
                      sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, pages));
}

static void body(sl_pass *pass, void *user, void *out)
{
    const attending *a = user;
    int32_t at[MAX_KEYS];
    for (int64_t i = 0; i < a->n_tok; i++)
        at[i] = (int32_t)(a->n_past + i);
    sl_tensor k_cache = ops_input(pass, a->cache, SL_PAGE_KEYS, a->d_head, a->n_head_kv, MAX_PAGES, zeros);
    sl_tensor v_cache = ops_input(pass, a->cache, a->d_head, SL_PAGE_KEYS, a->n_head_kv, MAX_PAGES, zeros);
    if (a->n_past)
        write(pass, a, 0, a->n_past, k_cache, v_cache);
    write(pass, a, a->n_past, a->n_tok, k_cache, v_cache);
    sl_tensor q = ops_input(pass, SL_TYPE_F32, a->d_head * a->n_head, a->n_tok, 1, 1, a->q + a->n_past * a->d_head * a->n_head);
    sl_pass_output(pass, sl_op_attention(pass, sl_view_heads(q, a->d_head), k_cache, v_cache, sl_pass_input(pass, SL_TYPE_I32, a->n_tok, at),
                                         sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, pages), 1.0f / sqrtf((float)a->d_head)), out);
}

/* What the cache makes of a number: 11 bits, to nearest, ties to even. */
static double stored(double x, sl_type cache)
{
    int e;
    if (cache == SL_TYPE_F32)
        return x;
    frexp(x, &e);
    e = e < -13 ? -13 : e;
    return ldexp(nearbyint(ldexp(x, 11 - e)), e - 11);
}

static void exact_of(const attending *a, double *out)
{
    const int64_t d = a->d_head, kv = a->n_head_kv * d;
    for (int64_t t = 0; t < a->n_tok; t++)
        for (int64_t h = 0; h < a->n_head; h++, out += d) {
            const int64_t position = a->n_past + t, of = h / (a->n_head / a->n_head_kv) * d;
            double p[MAX_KEYS], top = -INFINITY, sum = 0;
            for (int64_t key = 0; key <= position; key++) {
                p[key] = 0;
                for (int64_t i = 0; i < d; i++)
                    p[key] += (double)a->q[(position * a->n_head + h) * d + i] * stored(a->k[key * kv + of + i], a->cache);
                p[key] /= sqrt((double)d);
                top = fmax(top, p[key]);
            }
            for (int64_t key = 0; key <= position; key++)
                sum += p[key] = exp(p[key] - top);
            for (int64_t i = 0; i < d; i++) {
                out[i] = 0;
                for (int64_t key = 0; key <= position; key++)
                    out[i] += p[key] / sum * stored(a->v[key * kv + of + i], a->cache);
            }
        }
}

static const struct { int64_t d_head, n_head, n_head_kv, n_past, n_tok, fused; float size; } cases[] = {
    { 24, 8, 2, 0, 130, 0, 1 },         /* 4:1 over three pages */
    { 24, 8, 2, 129, 1, 1, 1 }, { 24, 8, 2, 63, 1, 0, 1 }, { 24, 8, 2, 64, 1, 0, 1 }, { 24, 8, 8, 60, 67, 1, 1 }, { 64, 3, 1, 100, 33, 0, 1 },
    { 128, 4, 2, 127, 2, 0, 1 }, { 2, 1, 1, 0, 1, 0, 1 }, { 10, 5, 5, 0, 65, 1, 1 }, { 24, 8, 2, 0, 130, 0, 12 },     /* the last: sharp maxima */
};

static void follows_the_definition(void **state)
{
    (void)state;
    static const sl_type caches[] = { SL_TYPE_F32, SL_TYPE_F16 };
    uint64_t random = 1;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        attending a = { .d_head = cases[i / 2].d_head, .n_head = cases[i / 2].n_head, .n_head_kv = cases[i / 2].n_head_kv, .n_past = cases[i / 2].n_past,
                        .n_tok = cases[i / 2].n_tok, .fused = cases[i / 2].fused, .cache = caches[i % 2] };
        const size_t n = (size_t)(a.n_past + a.n_tok), q = n * (size_t)(a.d_head * a.n_head), kv = n * (size_t)(a.d_head * a.n_head_kv);
        const size_t n_out = (size_t)(a.n_tok * a.d_head * a.n_head);
        float *x = ops_random(q, cases[i / 2].size, &random), *k = ops_random(kv, 2, &random), *v = ops_random(kv, 1, &random), *got = malloc(n_out * sizeof *got);
        double *exact = malloc(n_out * sizeof *exact);
        char name[96];
        snprintf(name, sizeof name, "attention/%s, heads of %d, %d:%d, %d after %d", i % 2 ? "f16" : "f32", (int)a.d_head, (int)a.n_head, (int)a.n_head_kv,
                 (int)a.n_tok, (int)a.n_past);
        a.q = x, a.k = k, a.v = v;
        const ops_case run = { name, body, &a, NULL, 0, n_out * sizeof *got };
        ops_run(&run, got);
        exact_of(&a, exact);
        /* A score of some `size` is off by its roundings, and its share with it. */
        ops_close(name, got, exact, n_out, 0, 1e-6 * (1 + (double)cases[i / 2].size * sqrt((double)a.d_head) / 4));
        free(x), free(k), free(v), free(got), free(exact);
    }
}

/* A token alone gives the bytes that it gives among others. */
static void alone_or_among_others(void **state)
{
    (void)state;
    uint64_t random = 2;
    enum { D = 24, H = 8, KV = 2, N = 130 };
    float *q = ops_random(N * D * H, 1, &random), *k = ops_random(N * D * KV, 2, &random), *v = ops_random(N * D * KV, 1, &random);
    static float all[N * D * H], one[D * H];
    attending a = { q, k, v, D, H, KV, 0, N, 0, SL_TYPE_F16 };
    const ops_case run = { "attention", body, &a, NULL, 0, sizeof all };
    ops_run(&run, all);
    for (int64_t t = 1; t < N; t += 16) {
        attending b = { q, k, v, D, H, KV, t, 1, 0, SL_TYPE_F16 };
        const ops_case single = { "attention of one", body, &b, NULL, 0, sizeof one };
        ops_run(&single, one);
        assert_memory_equal(one, all + t * D * H, sizeof one);
    }
    free(q), free(k), free(v);
}

/* A write to position `at`, of a cache with four pages. */
static void write_at(sl_pass *pass, void *user, void *out)
{
    static const float x[24];
    sl_tensor kv = ops_input(pass, SL_TYPE_F32, 24, 1, 1, 1, x), k_cache = ops_input(pass, SL_TYPE_F16, SL_PAGE_KEYS, 24, 1, MAX_PAGES, zeros);
    sl_tensor v_cache = ops_input(pass, SL_TYPE_F16, 24, SL_PAGE_KEYS, 1, MAX_PAGES, zeros);
    kv = sl_view_heads(kv, 24);
    sl_op_cache_write(pass, kv, kv, k_cache, v_cache, sl_pass_input(pass, SL_TYPE_I32, 1, user), sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, pages));
    sl_pass_output(pass, k_cache, out);
}

static void positions_that_are_not_there(void **state)
{
    (void)state;
    int32_t wrong[] = { MAX_PAGES * SL_PAGE_KEYS, -1, INT32_MAX, INT32_MIN }, last = MAX_PAGES * SL_PAGE_KEYS - 1;
    static char out[SL_PAGE_KEYS * 24 * MAX_PAGES * 2];
    const ops_case right = { "cache_write", write_at, &last, NULL, 0, sizeof out };
    ops_run(&right, out);
    for (size_t i = 0; i < 4; i++) {
        const ops_case c = { "cache_write", write_at, &wrong[i], NULL, 0, sizeof out };
        ops_run_fails(&c, 0, SL_ERR_RANGE, "cache_write: position");
    }
}

static int finish(void **state) { return (void)state, ops_finish("attention"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(follows_the_definition), cmocka_unit_test(alone_or_among_others), cmocka_unit_test(positions_that_are_not_there) };
    return cmocka_run_group_tests_name("attention", tests, ops_prepare, finish);
}
