/* SPDX-License-Identifier: MIT */
/* CACHE_WRITE and ATTENTION against a softmax over all keys in double precision: several pages in no order, grouped heads, every cache type,
 * and memory that holds anything wherever no key was written. */
#include "ops_harness.h"
#include "random.h"

#include <math.h>

enum { MAX_KEYS = 200, MAX_PAGES = 4 };

/* n_past keys are written in one go, then n_tok more, and these attend. */
typedef struct attending {
    const float *q, *k, *v;             /* [d_head, n_head, n_past + n_tok] and n_head_kv */
    int64_t d_head, n_head, n_head_kv, n_past, n_tok, fused, chunk;
    sl_type cache;
} attending;
static const int32_t pages[MAX_PAGES] = { 2, 0, 3, 1 };
static const sl_tensor none;
static const unsigned char junk[] = { 0xff, 0xff, 0xff, 0x7f, 0x80, 0xff, 0xff };      /* NaN, mostly, in every type */

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
                      sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, pages), none);
}

static void body(sl_pass *pass, void *user, void *out)
{
    const attending *a = user;
    int32_t at[MAX_KEYS];
    for (int64_t i = 0; i < a->n_tok; i++)
        at[i] = (int32_t)(a->n_past + i);
    const sl_kv_layer cache = ops_cache_of(pass, a->cache, a->d_head, a->n_head_kv, MAX_PAGES, junk, sizeof junk);
    if (a->n_past)
        write(pass, a, 0, a->n_past, cache.k, cache.v);
    write(pass, a, a->n_past, a->n_tok, cache.k, cache.v);
    sl_tensor q = ops_input(pass, SL_TYPE_F32, a->d_head * a->n_head, a->n_tok, 1, 1, a->q + a->n_past * a->d_head * a->n_head);
    sl_pass_output(pass, sl_op_attention(pass, sl_view_heads(q, a->d_head), cache.k, cache.v, sl_pass_input(pass, SL_TYPE_I32, a->n_tok, at),
                                         sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, pages), none, a->chunk, 1.0f / sqrtf((float)a->d_head)), out);
}

static void exact_of(const attending *a, double *out)
{
    const int64_t d = a->d_head, kv = a->n_head_kv * d, n = a->n_past + a->n_tok;
    double *k = malloc((size_t)(n * kv) * sizeof *k), *v = malloc((size_t)(n * kv) * sizeof *v), q[320];
    for (int64_t i = 0; i < n * kv; i += d) {
        ops_stored(a->cache, d, a->k + i, k + i);
        ops_stored(a->cache, d, a->v + i, v + i);
    }
    for (int64_t t = 0; t < a->n_tok; t++)
        for (int64_t h = 0; h < a->n_head; h++, out += d) {
            const int64_t position = a->n_past + t, start = a->chunk ? position / a->chunk * a->chunk : 0, of = h / (a->n_head / a->n_head_kv) * d;
            double p[MAX_KEYS], top = -INFINITY, sum = 0;
            ops_asked(a->cache, d, a->q + (position * a->n_head + h) * d, q);
            for (int64_t key = start; key <= position; key++) {
                p[key] = 0;
                for (int64_t i = 0; i < d; i++)
                    p[key] += q[i] * k[key * kv + of + i];
                p[key] /= sqrt((double)d);
                top = fmax(top, p[key]);
            }
            for (int64_t key = start; key <= position; key++)
                sum += p[key] = exp(p[key] - top);
            for (int64_t i = 0; i < d; i++) {
                out[i] = 0;
                for (int64_t key = start; key <= position; key++)
                    out[i] += p[key] / sum * v[key * kv + of + i];
            }
        }
    free(k), free(v);
}

static const struct { int64_t d_head, n_head, n_head_kv, n_past, n_tok, fused; float size; int64_t chunk; } cases[] = {
    { 24, 8, 2, 0, 130, 0, 1 },         /* 4:1 over three pages */
    { 24, 8, 2, 129, 1, 1, 1 }, { 24, 8, 2, 63, 1, 0, 1 }, { 24, 8, 2, 64, 1, 0, 1 }, { 24, 8, 8, 60, 67, 1, 1 }, { 64, 3, 1, 100, 33, 0, 1 },
    { 128, 4, 2, 127, 2, 0, 1 }, { 2, 1, 1, 0, 1, 0, 1 }, { 10, 5, 5, 0, 65, 1, 1 }, { 32, 12, 2, 60, 75, 1, 1 }, { 96, 6, 6, 0, 70, 0, 1 },
    { 80, 3, 3, 0, 190, 0, 1 }, { 7, 6, 2, 70, 120, 1, 1 }, { 64, 8, 1, 60, 90, 0, 1 },     /* many queries that see different keys of a page */
    { 320, 2, 1, 60, 10, 0, 1 }, { 291, 2, 2, 60, 10, 0, 1 },     /* more than are written at a time */
    { 24, 8, 2, 0, 130, 0, 12 }, { 64, 8, 2, 0, 130, 0, 12 },     /* the last: sharp maxima */
    { 24, 8, 2, 0, 195, 0, 1, 64 }, { 32, 4, 2, 60, 130, 0, 1, 128 }, { 64, 3, 1, 127, 2, 0, 1, 64 }, { 10, 5, 5, 0, 130, 1, 1, 50 }, { 24, 8, 2, 99, 2, 0, 1, 1 },  /* chunks */
};

static void follows_the_definition(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (size_t i = 0; i < OPS_CACHES * sizeof cases / sizeof cases[0]; i++) {
        const struct ops_cache *cache = &ops_caches[i % OPS_CACHES];
        if (cases[i / OPS_CACHES].d_head % cache->block)
            continue;
        attending a = { .d_head = cases[i / OPS_CACHES].d_head, .n_head = cases[i / OPS_CACHES].n_head, .n_head_kv = cases[i / OPS_CACHES].n_head_kv, .n_past = cases[i / OPS_CACHES].n_past,
                        .n_tok = cases[i / OPS_CACHES].n_tok, .fused = cases[i / OPS_CACHES].fused, .chunk = cases[i / OPS_CACHES].chunk, .cache = cache->type };
        const size_t n = (size_t)(a.n_past + a.n_tok), q = n * (size_t)(a.d_head * a.n_head), kv = n * (size_t)(a.d_head * a.n_head_kv);
        const size_t n_out = (size_t)(a.n_tok * a.d_head * a.n_head);
        float *x = ops_random(q, cases[i / OPS_CACHES].size, &random), *k = ops_random(kv, 2, &random), *v = ops_random(kv, 1, &random), *got = malloc(n_out * sizeof *got);
        double *exact = malloc(n_out * sizeof *exact);
        char name[96];
        snprintf(name, sizeof name, "attention/%s, heads of %d, %d:%d, %d after %d in chunks of %d", cache->name, (int)a.d_head, (int)a.n_head, (int)a.n_head_kv,
                 (int)a.n_tok, (int)a.n_past, (int)a.chunk);
        a.q = x, a.k = k, a.v = v;
        const ops_case run = { name, body, &a, NULL, 0, n_out * sizeof *got };
        ops_run(&run, got);
        exact_of(&a, exact);
        ops_close(name, got, exact, n_out, 0, ops_attention_error(cache->type, a.d_head, cases[i / OPS_CACHES].size));
        free(x), free(k), free(v), free(got), free(exact);
    }
}

/* A token alone gives the bytes that it gives among others. */
static void alone_or_among_others(void **state)
{
    (void)state;
    uint64_t random = 2;
    enum { D = 32, H = 8, KV = 2, N = 130 };
    float *q = ops_random(N * D * H, 1, &random), *k = ops_random(N * D * KV, 2, &random), *v = ops_random(N * D * KV, 1, &random);
    static float all[N * D * H], one[D * H];
    for (int c = 0; c < OPS_CACHES; c++) {
        attending a = { q, k, v, D, H, KV, 0, N, 0, c % 2 ? 70 : 0, ops_caches[c].type };
        const ops_case run = { "attention", body, &a, NULL, 0, sizeof all };
        ops_run(&run, all);
        for (int64_t t = 1; t < N; t += 16) {
            attending b = { q, k, v, D, H, KV, t, 1, 0, a.chunk, ops_caches[c].type };
            const ops_case single = { "attention of one", body, &b, NULL, 0, sizeof one };
            ops_run(&single, one);
            assert_memory_equal(one, all + t * D * H, sizeof one);
        }
    }
    free(q), free(k), free(v);
}

/* Three sequences in one cache; the second shares its first page with the first one. */
enum { SEQS = 3, LENGTH = 130, HEADS = 4, HEADS_KV = 2, WIDTH = 32, N_PAGES = 9, Q = WIDTH * HEADS, KEY = WIDTH * HEADS_KV };
static const int32_t tables[SEQS][3] = { { 2, 0, 3 }, { 2, 5, 1 }, { 7, 4, 6 } };
typedef struct sequences { const float *q, *k[SEQS]; sl_type cache; int64_t n; const int32_t *seq, *at; } sequences;

static void mixed(sl_pass *pass, void *user, void *out)
{
    const sequences *s = user;
    const sl_kv_layer cache = ops_cache_of(pass, s->cache, WIDTH, HEADS_KV, N_PAGES, junk, sizeof junk);
    const sl_tensor pages_of_all = sl_view_slots(sl_view_heads(sl_pass_input(pass, SL_TYPE_I32, 3 * SEQS, tables), 3));
    float *rows = malloc(SEQS * LENGTH * KEY * sizeof *rows);
    int32_t seq[SEQS * LENGTH], at[SEQS * LENGTH], n = 0;
    for (int32_t p = 0; p < LENGTH; p++)        /* what each does not share, in turn */
        for (int32_t i = SEQS - 1; i >= 0; i--)
            if (i != 1 || p >= SL_PAGE_KEYS) {
                memcpy(rows + n * KEY, s->k[i] + p * KEY, KEY * sizeof *rows);
                seq[n] = i, at[n++] = p;
            }
    const sl_tensor k = sl_view_heads(ops_input(pass, SL_TYPE_F32, KEY, n, 1, 1, rows), WIDTH);
    free(rows);
    sl_op_cache_write(pass, k, k, cache.k, cache.v, sl_pass_input(pass, SL_TYPE_I32, n, at), pages_of_all, sl_pass_input(pass, SL_TYPE_I32, n, seq));
    const sl_tensor q = sl_view_heads(ops_input(pass, SL_TYPE_F32, Q, s->n, 1, 1, s->q), WIDTH);
    sl_pass_output(pass, sl_op_attention(pass, q, cache.k, cache.v, sl_pass_input(pass, SL_TYPE_I32, s->n, s->at), pages_of_all, sl_pass_input(pass, SL_TYPE_I32, s->n, s->seq), 0, 0.25f), out);
}

/* What a token sees of its sequence does not depend on the sequences beside it: runs of one, changes after every token, equal positions. */
static void sequences_beside_each_other(void **state)
{
    (void)state;
    enum { N = 24 };
    uint64_t random = 5;
    int32_t seq[N], at[N];
    for (int32_t i = 0; i < N; i++) {
        seq[i] = i < 9 ? i % SEQS : i < 15 ? 1 : (i / 2) % SEQS;
        at[i] = i < 6 ? 63 : i < 9 ? 129 - i : i < 15 ? 60 + i : i % 2 ? 3 : 126 - i;
    }
    float *q = ops_random(N * Q, 1, &random), *k[SEQS];
    static float all[N * Q], one[Q];
    for (int i = 0; i < SEQS; i++)
        k[i] = ops_random(LENGTH * KEY, 2, &random);
    memcpy(k[1], k[0], SL_PAGE_KEYS * KEY * sizeof *k[0]);
    for (int c = 0; c < OPS_CACHES; c++) {
        sequences s = { q, { k[0], k[1], k[2] }, ops_caches[c].type, N, seq, at };
        const ops_case run = { "attention of sequences", mixed, &s, NULL, 0, sizeof all };
        ops_run(&run, all);
        for (int i = 0; i < N; i++) {
            const float *own = k[seq[i]];
            sequences b = { q + i * Q, { own, own, own }, ops_caches[c].type, 1, &(int32_t) { 0 }, &at[i] };
            const ops_case single = { "attention of one of them", mixed, &b, NULL, 0, sizeof one };
            ops_run(&single, one);
            assert_memory_equal(one, all + i * Q, sizeof one);
        }
    }
    free(q), free(k[0]), free(k[1]), free(k[2]);
}

/* What is written can be read again, as it is kept; and written to another place it is the same. */
typedef struct reading { const float *k, *v; sl_type cache; int64_t d_head, n; const int32_t *at, *to; } reading;
static void read_back(sl_pass *pass, void *user, void *out)
{
    static const int32_t table[] = { 2, 0, 3, 1 };
    const reading *r = user;
    const int64_t heads = HEADS_KV;
    const sl_kv_layer cache = ops_cache_of(pass, r->cache, r->d_head, heads, MAX_PAGES, junk, sizeof junk);
    const sl_tensor row = sl_pass_input(pass, SL_TYPE_I32, 4, table), all = { .ne = { 0 } };
    const sl_tensor k = sl_view_heads(ops_input(pass, SL_TYPE_F32, r->d_head * heads, r->n, 1, 1, r->k), r->d_head);
    const sl_tensor v = sl_view_heads(ops_input(pass, SL_TYPE_F32, r->d_head * heads, r->n, 1, 1, r->v), r->d_head);
    const sl_tensor at = sl_pass_input(pass, SL_TYPE_I32, r->n, r->at), to = sl_pass_input(pass, SL_TYPE_I32, r->n, r->to);
    const size_t bytes = (size_t)(r->d_head * heads * r->n) * sizeof(float);
    sl_op_cache_write(pass, k, v, cache.k, cache.v, at, row, all);
    for (int twice = 0; twice < 2; twice++) {
        const sl_tensor k2 = sl_pass_tensor(pass, SL_TYPE_F32, r->d_head, heads, r->n, 1), v2 = sl_pass_tensor(pass, SL_TYPE_F32, r->d_head, heads, r->n, 1);
        sl_op_cache_read(pass, k2, v2, cache.k, cache.v, twice ? to : at, row, all);
        sl_op_cache_write(pass, k2, v2, cache.k, cache.v, to, row, all);
        sl_pass_output(pass, k2, (char *)out + 2 * bytes * (size_t)twice);
        sl_pass_output(pass, v2, (char *)out + 2 * bytes * (size_t)twice + bytes);
    }
}

static void what_is_kept_can_be_read(void **state)
{
    (void)state;
    enum { N = 70, MOST_HEAD = 64 };
    static const int64_t widths[] = { 32, 64, 24, 5 };
    static float out[4 * N * HEADS_KV * MOST_HEAD];
    static double kept[MOST_HEAD];
    uint64_t random = 12;
    int32_t at[N], to[N];
    for (int32_t i = 0; i < N; i++)
        at[i] = 150 + i, to[i] = 3 + i;
    for (int c = 0; c < OPS_CACHES; c++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            const int64_t d = widths[w], n = d * HEADS_KV * N;
            if (d % ops_caches[c].block)
                continue;
            float *k = ops_random((size_t)n, 2, &random), *v = ops_random((size_t)n, 1, &random);
            reading r = { k, v, ops_caches[c].type, d, N, at, to };
            const ops_case run = { "cache_read", read_back, &r, NULL, 0, 4 * (size_t)n * sizeof *out };
            ops_run(&run, out);
            for (int64_t i = 0; i < 2 * n; i += d) {
                ops_stored(ops_caches[c].type, d, i < n ? k + i : v + i - n, kept);
                for (int64_t e = 0; e < d; e++)
                    assert_true((double)out[i + e] == kept[e]);
            }
            assert_memory_equal(out, out + 2 * n, 2 * (size_t)n * sizeof *out);
            free(k), free(v);
        }
}

static void read_at(sl_pass *pass, void *user, void *out)
{
    static const float x[24];
    static const int32_t table[MAX_PAGES] = { 2, 0, 3, 1 };
    const sl_kv_layer cache = ops_cache_of(pass, SL_TYPE_F16, 24, 1, MAX_PAGES, junk, sizeof junk);
    const sl_tensor kv = sl_view_heads(ops_input(pass, SL_TYPE_F32, 24, 1, 1, 1, x), 24), all = { .ne = { 0 } };
    sl_op_cache_read(pass, kv, kv, cache.k, cache.v, sl_pass_input(pass, SL_TYPE_I32, 1, user), sl_pass_input(pass, SL_TYPE_I32, MAX_PAGES, table), all);
    sl_pass_output(pass, kv, out);
}

/* A write to a position of a sequence, of two that have the same four pages. */
static void write_at(sl_pass *pass, void *user, void *out)
{
    static const float x[24];
    static const int32_t both[2][MAX_PAGES] = { { 2, 0, 3, 1 }, { 2, 0, 3, 1 } };
    const int32_t *place = user;
    const sl_kv_layer cache = ops_cache_of(pass, SL_TYPE_F16, 24, 1, MAX_PAGES, junk, sizeof junk);
    const sl_tensor kv = sl_view_heads(ops_input(pass, SL_TYPE_F32, 24, 1, 1, 1, x), 24);
    sl_op_cache_write(pass, kv, kv, cache.k, cache.v, sl_pass_input(pass, SL_TYPE_I32, 1, &place[0]),
                      sl_view_slots(sl_view_heads(sl_pass_input(pass, SL_TYPE_I32, 2 * MAX_PAGES, both), MAX_PAGES)), sl_pass_input(pass, SL_TYPE_I32, 1, &place[1]));
    sl_pass_output(pass, cache.k, out);
}

static void positions_that_are_not_there(void **state)
{
    (void)state;
    int32_t wrong[][2] = { { MAX_PAGES * SL_PAGE_KEYS, 0 }, { -1, 1 }, { INT32_MAX, 0 }, { INT32_MIN, 1 }, { 0, 2 }, { 0, -1 }, { 0, INT32_MAX } };
    int32_t last[] = { MAX_PAGES * SL_PAGE_KEYS - 1, 1 };
    static char out[SL_PAGE_KEYS * 24 * MAX_PAGES * 2];
    const ops_case right = { "cache_write", write_at, last, NULL, 0, sizeof out };
    ops_run(&right, out);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const ops_case c = { "cache_write", write_at, wrong[i], NULL, 0, sizeof out };
        ops_run_fails(&c, 0, SL_ERR_RANGE, "cache_write: position");
    }
    for (size_t i = 0; i < 4; i++) {
        const ops_case c = { "cache_read", read_at, wrong[i], NULL, 0, 24 * sizeof(float) };
        ops_run_fails(&c, 0, SL_ERR_RANGE, "cache_read: position");
    }
}

/* A bf16 or q8_0 cache holds nothing that is not finite, and no such query meets it; so pages may be multiplied whole, with zeros where a key is masked. */
static void numbers_that_are_not_finite(void **state)
{
    (void)state;
    enum { D = 32, KEYS, VALUES, QUERY };
    static const struct { sl_type cache; int where; float x; const char *part; } wrong[] = {
        { SL_TYPE_BF16, KEYS, NAN, "cache_write: position 1" }, { SL_TYPE_BF16, VALUES, INFINITY, "cache_write: position 1" }, { SL_TYPE_BF16, VALUES, -0x1.ffp127f, "cache_write: position 1" },
        { SL_TYPE_BF16, QUERY, NAN, "attention: token 1" }, { SL_TYPE_BF16, QUERY, 0x1.ffp127f, "attention: token 1" }, { SL_TYPE_Q8_0, KEYS, NAN, "cache_write: position 1" },
        { SL_TYPE_Q8_0, VALUES, -INFINITY, "cache_write: position 1" }, { SL_TYPE_Q8_0, KEYS, 65520.0f * 127, "cache_write: position 1" }, { SL_TYPE_Q8_0, QUERY, INFINITY, "attention: token 1" },
    };
    static float out[2 * D];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        float x[3][2 * D] = { { 0 } };
        attending a = { x[2], x[0], x[1], D, 1, 1, 0, 2, 0, 0, wrong[i].cache };
        const ops_case c = { "not finite", body, &a, NULL, 0, sizeof out };
        ops_run(&c, out);
        x[wrong[i].where == KEYS ? 0 : wrong[i].where == VALUES ? 1 : 2][D + 29] = wrong[i].x;
        ops_run_fails(&c, 0, SL_ERR_NONFINITE, wrong[i].part);
    }
}

/* Heads that are not whole blocks. */
static void heads_that_do_not_fit(void **state)
{
    (void)state;
    sl_kv_layer layer;
    uint64_t bytes = 0;
    assert_int_equal(sl_kv_shape(&layer, SL_TYPE_Q8_0, 48, 2, 1, &bytes), SL_ERR_UNSUPPORTED);
    assert_non_null(strstr(sl_last_error(), "q8_0"));
    assert_int_equal(sl_kv_shape(&layer, SL_TYPE_Q4_K, 256, 2, 1, &bytes), SL_ERR_UNSUPPORTED);
    assert_int_equal(bytes, 0);
    /* Bytes of a page: two tensors, heads of odd size filled up for keys. */
    static const struct { sl_type type; int64_t d_head; uint64_t bytes; } rows[] = {
        { SL_TYPE_F32, 24, 2 * 64 * 24 * 4 }, { SL_TYPE_F16, 24, 2 * 64 * 24 * 2 }, { SL_TYPE_BF16, 24, 2 * 64 * 24 * 2 }, { SL_TYPE_BF16, 7, 64 * (8 + 7) * 2 },
        { SL_TYPE_Q8_0, 64, 2 * 64 * 2 * 34 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bytes = 5;
        assert_int_equal(sl_kv_shape(&layer, rows[i].type, rows[i].d_head, 3, 7, &bytes), SL_OK);
        assert_int_equal(bytes, 5 + 3 * 7 * rows[i].bytes);
    }
    assert_int_equal(sl_kv_shape(&layer, SL_TYPE_BF16, INT64_MAX / 64, 3, 7, &bytes), SL_ERR_OVERFLOW);
    assert_int_equal(sl_kv_shape(&layer, SL_TYPE_Q8_0, 64, 1 << 30, INT64_MAX / 2, &bytes), SL_ERR_OVERFLOW);
}

static int finish(void **state) { return (void)state, ops_finish("attention"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(follows_the_definition), cmocka_unit_test(alone_or_among_others), cmocka_unit_test(sequences_beside_each_other),
                                        cmocka_unit_test(what_is_kept_can_be_read), cmocka_unit_test(positions_that_are_not_there),
                                        cmocka_unit_test(numbers_that_are_not_finite), cmocka_unit_test(heads_that_do_not_fit) };
    return cmocka_run_group_tests_name("attention", tests, ops_prepare, finish);
}
