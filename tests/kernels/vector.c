/* SPDX-License-Identifier: MIT */
/* vector.c - the other kernels: on every level of this machine the bits of the reference, and the reference itself against exact mathematics.
 * Walks the lists, so a kernel whose operation has no case here (or in matmul.c) fails. */
#include <math.h>
#include "check.h"
#include "weights.h"

enum { CAPACITY = 1024, MAX_N = 520, CANARIES = 40 };
static const sl_impl *rows[CAPACITY];
static size_t n_rows;
static const uint32_t mark = 0x7fc0dead;

static void fill(float *x, size_t n) { for (size_t i = 0; i < n; i++) x[i] = sl_float(mark); }

/* Equal bits in [0, n), marks after it. */
static void expect_same(const char *label, const float *got, const float *want, size_t n, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (i < n ? !same(got[i], want[i]) : sl_bits(got[i]) != mark)
            fail_msg("%s: n %zu, [%zu] is %a, must be %a", label, n, i, (double)got[i], i < n ? (double)want[i] : 0.0);
}

static void random_floats(uint64_t *seed, float *x, size_t n) { for (size_t i = 0; i < n; i++) x[i] = random_number(seed); }

/* |got - want| within `units` of the last place of want, or `tiny`. */
static void expect_near(const char *label, double got, double want, double units, double tiny)
{
    if (!(fabs(got - want) <= units * 0x1p-23 * fabs(want) + tiny))
        fail_msg("%s: %a, must be near %a", label, got, want);
}

/* ---- one case per operation: `row` against `reference` ---- */

typedef void op_case(uint64_t *seed, const sl_impl *row, const sl_impl *reference);

static void case_quantize(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    const cpu_quantize_kernel *k = row->kernel, *ref = reference->kernel;
    const int64_t values = sl_act_get(k->form)->block_values;
    const float bad[] = { INFINITY, -INFINITY, NAN, k->form == SL_ACT_B16 ? 0x1.ffp127f : NAN };     /* the last rounds to infinity */
    float *x = malloc(5 * 256 * sizeof *x);
    uint8_t got[5 * sizeof(sl_block_a256) + 64], want[sizeof got];
    for (int round = 0; round < 400; round++) {
        const int64_t n = values * (1 + (int64_t)random_below(seed, 5)) - (k->form == SL_ACT_B16 ? (int64_t)random_below(seed, 32) : 0);
        const float scale = round % 5 == 0 ? 0x1p-100f : round % 5 == 1 ? 0x1p-146f : round % 5 == 2 ? 0x1p117f : 1.0f;
        for (int64_t i = 0; i < n; i++)
            x[i] = random_number(seed) * scale;
        if (round % 7 == 0)     /* ties: halves of a step */
            for (int64_t i = 0; i < n; i++)
                x[i] = i % values == 0 ? 127.0f : (float)(int)random_below(seed, 254) * 0.5f - 63.5f;
        if (round % 7 == 1)     /* exactly at the limit below which a block is zero, and just above */
            for (int64_t i = 0; i < n; i++)
                x[i] = i % values == 3 ? (i / values % 2 ? 0x1p-100f : 0x1.fffffep-101f) : 0.0f;
        for (int64_t i = 0; k->form == SL_ACT_B16 && round % 7 == 2 && i < n; i++)      /* ties, and about the limit below which a number is zero */
            x[i] = sl_float((uint32_t)(i % 2 ? 0x80000000u : 0u) | (uint32_t)((i / 2 % 3 ? 0x3f80u : 0x2b7eu) + random_below(seed, 4)) << 16 |
                            (uint32_t)(0x7fffu + random_below(seed, 3)));
        memset(got, 0x5a, sizeof got);
        memset(want, 0x5a, sizeof want);
        assert_int_equal(ref->quantize(n, x, want), 0);
        assert_int_equal(k->quantize(n, x, got), 0);
        assert_memory_equal(got, want, sizeof got);
        assert_int_equal(got[sl_act_row_bytes(sl_act_get(k->form), (size_t)n)], 0x5a);
        for (size_t b = 0; b < 4; b++) {
            const size_t at = random_below(seed, (uint64_t)n);
            const float saved = x[at];
            x[at] = bad[b];
            assert_int_equal(k->quantize(n, x, got), 1);
            assert_int_equal(ref->quantize(n, x, want), 1);
            assert_memory_equal(got, want, sizeof got);
            x[at] = saved;
        }
    }
    free(x);
}

static void case_rms_norm(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    const cpu_rms_norm_kernel *k = row->kernel, *ref = reference->kernel;
    float x[MAX_N], weight[MAX_N], got[MAX_N + CANARIES], want[MAX_N];
    for (size_t n = 1; n <= MAX_N; n += n < 70 ? 1 : 45) {
        random_floats(seed, x, n);
        random_floats(seed, weight, n);
        fill(got, MAX_N + CANARIES);
        const float epsilon = n % 3 ? 1e-5f : 0.0f;
        ref->rms_norm((int64_t)n, x, weight, epsilon, want);
        k->rms_norm((int64_t)n, x, weight, epsilon, got);
        expect_same(row->label, got, want, n, n + CANARIES);
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)x[i] * x[i];
        for (size_t i = 0; i < n && sum > 0x1p-100; i++)
            expect_near(row->label, want[i], x[i] / sqrt(sum / (double)n + epsilon) * weight[i], 8, 0x1p-140);
    }
}

static void case_add_to(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    const cpu_add_kernel *k = row->kernel, *ref = reference->kernel;
    float y[MAX_N], got[MAX_N + CANARIES], want[MAX_N];
    for (size_t n = 0; n <= MAX_N; n += n < 70 ? 1 : 45) {
        random_floats(seed, y, n);
        random_floats(seed, want, n);
        fill(got, MAX_N + CANARIES);
        memcpy(got, want, n * sizeof *got);
        for (size_t i = 0; i < n; i++)
            expect_near(row->label, (float)((double)want[i] + y[i]), (double)want[i] + y[i], 1, 0);
        ref->add((int64_t)n, want, y);
        k->add((int64_t)n, got, y);
        expect_same(row->label, got, want, n, n + CANARIES);
    }
}

static void case_silu_mul(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    static const float edges[] = { 0.0f, -0.0f, 79.9f, 80.0f, 80.1f, -79.9f, -80.0f, -80.1f, 87.9f, 88.0f, 88.1f, -87.9f, -88.0f, -88.1f, 1e30f, -1e30f, 0x1p-140f, -0x1p-140f,
                                   INFINITY, -INFINITY, NAN };
    enum { EDGES = sizeof edges / sizeof *edges };
    const cpu_silu_mul_kernel *k = row->kernel, *ref = reference->kernel;
    float gate[MAX_N], up[MAX_N], got[MAX_N + CANARIES], want[MAX_N];
    for (size_t n = 0; n <= MAX_N; n += n < 70 ? 1 : 45)
        for (int round = 0; round < 4; round++) {
            random_floats(seed, up, n);
            for (size_t i = 0; i < n; i++)
                gate[i] = round == 0 ? edges[random_below(seed, EDGES)] : random_float(seed) * (round == 1 ? 1.0f : 100.0f);
            fill(got, MAX_N + CANARIES);
            ref->silu_mul((int64_t)n, gate, up, want);
            k->silu_mul((int64_t)n, gate, up, got);
            expect_same(row->label, got, want, n, n + CANARIES);
            for (size_t i = 0; i < n && round > 0; i++)
                if (fabsf(gate[i]) < 80.0f)
                    expect_near(row->label, want[i], gate[i] / (1 + exp(-(double)gate[i])) * up[i], 4, 0x1p-145);
        }
}

static void case_rope(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    const cpu_rope_kernel *k = row->kernel, *ref = reference->kernel;
    float angles[MAX_N], x[MAX_N], got[MAX_N + CANARIES], want[MAX_N];
    for (size_t n = 2; n <= MAX_N; n += 2) {
        random_floats(seed, x, n);
        for (size_t i = 0; i < n; i += 2) {
            const double angle = random_float(seed) * 7;
            angles[i] = (float)cos(angle);
            angles[i + 1] = (float)sin(angle);
        }
        fill(got, MAX_N + CANARIES);
        memcpy(got, x, n * sizeof *x);
        memcpy(want, x, n * sizeof *x);
        ref->rope((int64_t)n, want, angles);
        k->rope((int64_t)n, got, angles);
        expect_same(row->label, got, want, n, n + CANARIES);
        for (size_t i = 0; i < n; i += 2) {
            const double size = fabs((double)x[i]) + fabs((double)x[i + 1]);
            expect_near(row->label, want[i], (double)x[i] * angles[i] - (double)x[i + 1] * angles[i + 1], 0, size * 0x1p-23 + 0x1p-148);
            expect_near(row->label, want[i + 1], (double)x[i] * angles[i + 1] + (double)x[i + 1] * angles[i], 0, size * 0x1p-23 + 0x1p-148);
        }
    }
}

static void case_layer_norm(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    const cpu_layer_norm_kernel *k = row->kernel, *ref = reference->kernel;
    float x[MAX_N], weight[MAX_N], bias[MAX_N], got[MAX_N + CANARIES], want[MAX_N];
    for (size_t n = 1; n <= MAX_N; n += n < 70 ? 1 : 45) {
        random_floats(seed, x, n);
        random_floats(seed, weight, n);
        random_floats(seed, bias, n);
        fill(got, MAX_N + CANARIES);
        const float epsilon = n % 3 ? 1e-5f : 1e-3f;
        ref->layer_norm((int64_t)n, x, weight, bias, epsilon, want);
        k->layer_norm((int64_t)n, x, weight, bias, epsilon, got);
        expect_same(row->label, got, want, n, n + CANARIES);
        double sum = 0, ss = 0, most = 0;
        for (size_t i = 0; i < n; i++)
            sum += x[i], most = fmax(most, fabs((double)x[i]));
        for (size_t i = 0; i < n; i++)
            ss += (x[i] - sum / (double)n) * (x[i] - sum / (double)n);
        const double r = 1 / sqrt(ss / (double)n + epsilon);
        for (size_t i = 0; i < n; i++)
            expect_near(row->label, want[i], (x[i] - sum / (double)n) * r * weight[i] + bias[i], 8, (most * r * 0x1p-20 + 0x1p-22) * fabs((double)weight[i]) + 0x1p-140);
    }
}

static void case_gelu(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    static const float edges[] = { 0.0f, -0.0f, 1.0f, -1.0f, 1.41421354f, -1.41421354f, 1.41421366f, 5.5f, -5.5f, -5.6f, 5.7f, -5.7f, 13.3f, -13.3f, 1e30f, -1e30f, 0x1p-140f,
                                   -0x1p-140f, INFINITY, -INFINITY, NAN };
    enum { EDGES = sizeof edges / sizeof *edges };
    const cpu_gelu_kernel *k = row->kernel, *ref = reference->kernel;
    float x[MAX_N], bias[MAX_N], got[MAX_N + CANARIES], want[MAX_N];
    for (size_t n = 0; n <= MAX_N; n += n < 70 ? 1 : 45)
        for (int round = 0; round < 6; round++) {
            const float *summand = round % 2 ? bias : NULL;
            random_floats(seed, bias, n);
            for (size_t i = 0; i < n; i++)
                x[i] = round == 0 ? edges[random_below(seed, EDGES)] : random_float(seed) * (round < 3 ? 1.5f : 8.0f);
            fill(got, MAX_N + CANARIES);
            memcpy(got, x, n * sizeof *x);
            memcpy(want, x, n * sizeof *x);
            ref->gelu((int64_t)n, want, summand);
            k->gelu((int64_t)n, got, summand);
            expect_same(row->label, got, want, n, n + CANARIES);
            for (size_t i = 0; i < n && round > 0; i++) {
                const double z = summand ? (double)(float)((double)x[i] + bias[i]) : x[i];
                if (row->op == SL_OP_QUICK_GELU)
                    expect_near(row->label, want[i], z / (1 + exp(-1.702 * z)), z > 0 ? 4 : 0, z > 0 ? 0 : 1e-7);
                else
                    expect_near(row->label, want[i], 0.5 * z * erfc(-z / sqrt(2)), z > 0 ? 2 : 0, z > 0 ? 0 : 1e-7);
            }
        }
}

static void case_add_gated(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    const cpu_add_gated_kernel *k = row->kernel, *ref = reference->kernel;
    float y[MAX_N], got[MAX_N + CANARIES], want[MAX_N];
    for (size_t n = 0; n <= MAX_N; n += n < 70 ? 1 : 45) {
        const float gate = n % 4 ? random_float(seed) : 0.0f;
        random_floats(seed, y, n);
        random_floats(seed, want, n);
        fill(got, MAX_N + CANARIES);
        memcpy(got, want, n * sizeof *got);
        float exact[MAX_N];
        for (size_t i = 0; i < n; i++)
            exact[i] = fmaf(y[i], gate, want[i]);
        ref->add_gated((int64_t)n, want, y, gate);
        k->add_gated((int64_t)n, got, y, gate);
        expect_same(row->label, got, want, n, n + CANARIES);
        expect_same(row->label, want, exact, n, n);
    }
}

/* Which keys are there: all, one, a prefix, a piece, any. */
static uint64_t random_visible(uint64_t *seed)
{
    const uint64_t kind = random_below(seed, 5), some = random_next(seed), at = random_below(seed, 64);
    return kind == 0 ? ~(uint64_t)0 : kind == 1 ? (uint64_t)1 << at : kind == 2 ? ~(uint64_t)0 >> at : kind == 3 ? ~(uint64_t)0 >> at << (at / 2) : some | (uint64_t)1 << at;
}

enum { MAX_HEAD = 256, BLOCKS = 3 };

/* ---- pages, as lib/kv.h says ---- */

/* Fills a page of keys (of_keys 1) or values: numbers in (-size, size) where a key is visible, NaN, infinite or any bytes elsewhere. exact[key * d_head + d]: the
 * numbers that are stored. */
static void random_page(uint64_t *seed, sl_type type, int64_t d_head, int of_keys, uint64_t visible, float size, uint8_t *page, float *exact)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY, 60000 };
    for (int64_t j = 0; j < SL_PAGE_KEYS; j++)
        for (int64_t d = 0; d < d_head; d++) {
            const int seen = (int)(visible >> j & 1);
            const float x = seen ? random_float(seed) * size : bad[random_below(seed, 4)];
            const int64_t plain = of_keys ? SL_PAGE_KEYS * d + j : d_head * j + d;
            float *to = exact + j * d_head + d;
            if (type == SL_TYPE_F32)
                memcpy(page + 4 * plain, &x, 4), *to = x;
            else if (type == SL_TYPE_F16) {
                const uint16_t half = sl_float_to_half(x);
                memcpy(page + 2 * plain, &half, 2), *to = sl_half_to_float(half);
            } else if (type == SL_TYPE_BF16) {
                const uint16_t b = seen ? sl_float_to_b16(x) : sl_float_to_bf16(x);
                memcpy(page + (of_keys ? (d / 2 * SL_PAGE_KEYS + j) * 4 + d % 2 * 2 : (j / 2 * d_head + d) * 4 + j % 2 * 2), &b, 2), *to = sl_bf16_to_float(b);
                if (of_keys && d == d_head - 1 && d % 2 == 0)
                    memset(page + (d / 2 * SL_PAGE_KEYS + j) * 4 + 2, 0, 2);
            } else {
                uint8_t *block = page + d / 32 * CPU_Q8_BYTES;
                const int8_t q = (int8_t)((int)random_below(seed, 255) - 127);
                uint16_t scale = sl_float_to_half(seen ? size / 127 * (1.0f + (float)(j * 7 % 5)) / 5 : x);
                memcpy(block + (of_keys ? d % 32 / 4 * 4 * SL_PAGE_KEYS + 4 * j + d % 4 : 32 * j + d % 32), &q, 1);
                memcpy(block + CPU_Q8_SCALES + 2 * j, &scale, 2), *to = (float)q * sl_half_to_float(scale);
            }
        }
}

static size_t page_bytes(sl_type type, int64_t d_head)
{
    return type == SL_TYPE_Q8_0 ? (size_t)d_head / 32 * CPU_Q8_BYTES : (size_t)((type == SL_TYPE_BF16 ? (d_head + 1) / 2 * 2 : d_head) * SL_PAGE_KEYS) * (type == SL_TYPE_F32 ? 4 : 2);
}

/* The query as the type's arithmetic takes it. */
static void exact_query(sl_type type, int64_t d_head, const float *q, double *to)
{
    for (int64_t d = 0; d < d_head; d++) {
        sl_block_a32 block;
        if (type == SL_TYPE_Q8_0)
            sl_quantize_a32(q + d / 32 * 32, &block);
        to[d] = type == SL_TYPE_BF16 ? sl_bf16_to_float(sl_float_to_b16(q[d])) : type == SL_TYPE_Q8_0 ? (double)block.d * block.q[d % 32] : q[d];
    }
}

/* What n queries see of a page: all the same; prefixes that grow, as in causal attention, of runs of tokens; anything; or one of these, query by query. Returns
 * what any of them sees. */
static uint64_t random_views(uint64_t *seed, int n, uint64_t *visible)
{
    const uint64_t kind = random_below(seed, 4), first = random_visible(seed), run = 1 + random_below(seed, 6), at = random_below(seed, 64);
    uint64_t any = 0;
    for (int t = 0; t < n; t++) {
        const uint64_t end = (at + (uint64_t)t / run) % 64;
        visible[t] = kind == 0 ? first : kind == 1 ? ~(uint64_t)0 >> (63 - end) : kind == 2 || random_below(seed, 4) == 0 ? random_visible(seed) : t ? visible[t - 1] : first;
        any |= visible[t];
    }
    return any;
}

/* Memory for `bytes` of anything at an address that is a multiple of 64, and a guard behind it; for free(). */
static void *scribbled(size_t bytes)
{
    uint8_t *x = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(x, 0xff, (bytes + 127) / 64 * 64);
    return x;
}

static void expect_guard(const char *label, const uint8_t *x, size_t bytes)
{
    for (size_t i = bytes; i < (bytes + 127) / 64 * 64; i++)
        if (x[i] != 0xff)
            fail_msg("%s: wrote behind its %zu bytes of scratch memory", label, bytes);
}

typedef struct meeting {
    cpu_query query[CPU_ATTENTION_QUERIES];
    uint8_t *prepared, *work;
    float o[CPU_ATTENTION_QUERIES][MAX_HEAD + CANARIES];
    size_t bytes;
} meeting;

static void begin_meeting(meeting *m, const cpu_attention_kernel *kernel, int64_t d_head, int n, float (*q)[MAX_HEAD], float first)
{
    m->bytes = kernel->work_bytes ? kernel->work_bytes(d_head) : 0;
    m->work = scribbled(m->bytes);
    m->prepared = scribbled((CPU_ATTENTION_QUERIES + CPU_ATTENTION_SPARE) * cpu_query_bytes(d_head));
    for (int t = 0; t < n; t++) {
        fill(m->o[t], MAX_HEAD + CANARIES);
        for (int64_t d = 0; d < d_head; d++)
            m->o[t][d] = first;
        m->query[t] = (cpu_query) { q[t], m->o[t], -INFINITY, 0.0f, 0 };
        if (kernel->prepare) {
            m->query[t].q = m->prepared + (size_t)t * cpu_query_bytes(d_head);
            assert_int_equal(kernel->prepare(d_head, q[t], m->prepared + (size_t)t * cpu_query_bytes(d_head)), 0);
        }
    }
}

static void meet_page(meeting *m, const char *label, const cpu_attention_kernel *kernel, int64_t d_head, int n, const uint64_t *visible, const void *k, const void *v, float scale)
{
    for (int t = 0; t < n; t++)
        m->query[t].visible = visible[t];
    if (kernel->begin)
        kernel->begin();
    kernel->block(d_head, n, m->query, (cpu_page) { k, v }, (cpu_page) { k, v }, scale, m->work);
    if (kernel->end)
        kernel->end();
    expect_guard(label, m->work, m->bytes);
}

/* Three blocks, one after the other, of n queries; keys that nobody sees are NaN. */
static void attention_blocks(uint64_t *seed, const sl_impl *row, const sl_impl *reference, int64_t d_head, int n)
{
    static meeting got, want;
    static float q[CPU_ATTENTION_QUERIES][MAX_HEAD];
    static double o[CPU_ATTENTION_QUERIES][MAX_HEAD], eq[CPU_ATTENTION_QUERIES][MAX_HEAD];
    const cpu_attention_kernel *kernel = row->kernel, *ref = reference->kernel;
    double m[CPU_ATTENTION_QUERIES], l[CPU_ATTENTION_QUERIES];
    const size_t bytes = page_bytes(kernel->cache_type, d_head), values = page_bytes(kernel->cache_type == SL_TYPE_BF16 ? SL_TYPE_F16 : kernel->cache_type, d_head);
    const float scale = 1.0f / sqrtf((float)d_head), size = random_below(seed, 9) == 0 ? 0x1p126f : random_below(seed, 4) ? 2 : 100, first = random_below(seed, 2) ? 0.0f : -0.0f;
    uint8_t *k = malloc(bytes), *v = malloc(values);          /* exactly as large as a page */
    float *ek = malloc((size_t)(SL_PAGE_KEYS * d_head) * sizeof *ek), *ev = malloc((size_t)(SL_PAGE_KEYS * d_head) * sizeof *ev);
    for (int t = 0; t < n; t++) {
        for (int64_t d = 0; d < d_head; d++)
            q[t][d] = random_float(seed) * size, o[t][d] = 0;
        exact_query(kernel->cache_type, d_head, q[t], eq[t]);
        m[t] = -INFINITY, l[t] = 0;
    }
    begin_meeting(&got, kernel, d_head, n, q, first);
    begin_meeting(&want, ref, d_head, n, q, first);
    for (int b = 0; b < BLOCKS; b++) {
        uint64_t visible[CPU_ATTENTION_QUERIES];
        const uint64_t any = random_views(seed, n, visible);
        random_page(seed, kernel->cache_type, d_head, 1, any, random_below(seed, 4) ? 4 : 0x1p-20f, k, ek);
        random_page(seed, kernel->cache_type, d_head, 0, any, 1, v, ev);
        meet_page(&want, reference->label, ref, d_head, n, visible, k, v, scale);
        meet_page(&got, row->label, kernel, d_head, n, visible, k, v, scale);
        for (int t = 0; t < n; t++) {
            if (size <= 100)        /* a largest score among some that are NaN is any number; sums and o are NaN then */
                expect_same(row->label, &got.query[t].max, &want.query[t].max, 1, 1);
            expect_same(row->label, &got.query[t].sum, &want.query[t].sum, 1, 1);
            expect_same(row->label, got.o[t], want.o[t], (size_t)d_head, (size_t)d_head + CANARIES);
            for (int j = 0; j < SL_PAGE_KEYS; j++) {
                double s = 0;
                if (!(visible[t] >> j & 1))
                    continue;
                for (int64_t d = 0; d < d_head; d++)
                    s += eq[t][d] * ek[j * d_head + d];
                s *= scale;
                const double most = fmax(m[t], s), before = exp(m[t] - most), now = exp(s - most);
                for (int64_t d = 0; d < d_head; d++)
                    o[t][d] = o[t][d] * before + now * ev[j * d_head + d];
                l[t] = l[t] * before + now, m[t] = most;
            }
        }
    }
    /* Scores of some size are off by their roundings, and weights with them; bf16 rounds weights to 2^-9. */
    for (int t = 0; t < n; t++)
        for (int64_t d = 0; d < d_head && size <= 100; d++)
            expect_near(row->label, want.o[t][d] / want.query[t].sum, o[t][d] / l[t], 0, size / 2 * 0x1p-17 + (kernel->cache_type == SL_TYPE_BF16 ? 0x1p-9 : 0));
    free(k), free(v), free(ek), free(ev);
    free(got.prepared), free(got.work), free(want.prepared), free(want.work);
}

/* A number that is not finite, wherever it stands, is told. */
static void queries_that_are_not_finite(uint64_t *seed, const cpu_attention_kernel *kernel, int64_t d_head)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY, 0x1.ffp127f };
    float q[MAX_HEAD];
    uint8_t to[MAX_HEAD * 4 + 1];
    for (size_t b = 0; b < sizeof bad / sizeof *bad && kernel->prepare; b++) {
        random_floats(seed, q, (size_t)d_head);
        q[random_below(seed, (uint64_t)d_head)] = bad[b];
        memset(to, 0x5a, sizeof to);
        assert_int_equal(kernel->prepare(d_head, q, to), b < 3 || kernel->cache_type == SL_TYPE_BF16);
        assert_int_equal(to[cpu_query_bytes(d_head)], 0x5a);
    }
}

static void case_attention(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    static const int64_t heads[] = { 1, 2, 7, 8, 16, 24, 31, 32, 33, 40, 64, 80, 96, 128, 136, 256 };
    const cpu_attention_kernel *kernel = row->kernel;
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++) {
        if (kernel->cache_type == SL_TYPE_Q8_0 && heads[h] % 32)
            continue;
        static const int counts[] = { 1, 2, 3, 4, 5, 6, 7, 8, 13, 15, 16, 17, 31, 32, 33, 47, 48 };
        const int most = row == reference ? 6 : heads[h] > 128 ? 33 : 48;
        for (size_t n = 0; n < sizeof counts / sizeof *counts && counts[n] <= most; n++)
            for (int round = 0; round < (counts[n] > 8 ? 1 : 4); round++)
                attention_blocks(seed, row, reference, heads[h], counts[n]);
        queries_that_are_not_finite(seed, kernel, heads[h]);
    }
}

static void expect_same_bytes(const char *label, const uint8_t *got, const uint8_t *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s: byte %zu is %02x, must be %02x", label, i, got[i], want[i]);
}

static void case_cache_write(uint64_t *seed, const sl_impl *row, const sl_impl *reference)
{
    const cpu_cache_write_kernel *k = row->kernel, *ref = reference->kernel;
    float x[256];
    _Alignas(64) uint8_t got[2 * 256 + 64], want[sizeof got];
    for (int round = 0; k->convert && round < 2000; round++) {
        const int64_t n = k->cache_type == SL_TYPE_Q8_0 ? 32 * (1 + (int64_t)random_below(seed, 8)) : 1 + (int64_t)random_below(seed, 256);
        const float scale = round % 4 == 0 ? 0x1p-14f : round % 4 == 1 ? 0x1p-24f : round % 4 == 2 ? 0x1p15f : 1.0f;     /* halves: about the smallest normal and subnormal, and the largest */
        for (int64_t i = 0; i < n; i++)     /* every other number lies half way between two halves, or next to it */
            x[i] = i % 2 ? random_number(seed) * scale : sl_float((sl_bits(random_number(seed) * scale) & 0xffffe000u) + 0xfffu + (uint32_t)random_below(seed, 3));
        memset(got, 0x5a, sizeof got);
        memset(want, 0x5a, sizeof want);
        assert_int_equal(ref->convert(n, x, want), 0);
        assert_int_equal(k->convert(n, x, got), 0);
        expect_same_bytes(row->label, got, want, sizeof got);
        x[random_below(seed, (uint64_t)n)] = random_below(seed, 2) ? NAN : -INFINITY;
        assert_int_equal(ref->convert(n, x, want), k->cache_type != SL_TYPE_F16);
        assert_int_equal(k->convert(n, x, got), k->cache_type != SL_TYPE_F16);
        expect_same_bytes(row->label, got, want, sizeof got);
    }
}

static op_case *const cases[SL_OP_COUNT] = {
    [SL_OP_QUANTIZE] = case_quantize, [SL_OP_RMS_NORM] = case_rms_norm, [SL_OP_ADD_TO] = case_add_to, [SL_OP_SILU_MUL] = case_silu_mul,
    [SL_OP_ROPE] = case_rope, [SL_OP_ATTENTION] = case_attention, [SL_OP_LAYER_NORM] = case_layer_norm, [SL_OP_GELU] = case_gelu, [SL_OP_QUICK_GELU] = case_gelu,
    [SL_OP_ADD_GATED] = case_add_gated, [SL_OP_SPAN_ATTENTION] = case_attention, [SL_OP_CACHE_WRITE] = case_cache_write,
};

/* "attention/f16/avx2" and "attention/f16/scalar" are of one kind. */
static int same_kind(const char *a, const char *b)
{
    const size_t n = (size_t)(strrchr(a, '/') - a);
    return (size_t)(strrchr(b, '/') - b) == n && !memcmp(a, b, n);
}

static void every_level_gives_the_bits_of_the_reference(void **state)
{
    uint64_t seed = 7;
    size_t n_tested = 0;
    (void)state;
    for (size_t i = 0; i < n_rows; i++) {
        if (!rows[i]->kernel || rows[i]->op == SL_OP_MATMUL || rows[i]->op == SL_OP_MATMUL_EXPERT)
            continue;       /* no inner loop, or tested in matmul.c */
        const sl_impl *reference = NULL;
        for (size_t k = 0; k < n_rows; k++)
            if (rows[k]->level == CPU_SCALAR && same_kind(rows[k]->label, rows[i]->label))
                reference = rows[k];
        if (!reference || !cases[rows[i]->op])
            fail_msg("%s has no %s", rows[i]->label, reference ? "case in this test" : "row in the scalar list");
        cases[rows[i]->op](&seed, rows[i], reference);
        n_tested++;
    }
    assert_true(n_tested >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_level_gives_the_bits_of_the_reference) };
    n_rows = rows_of_machine(rows, CAPACITY);
    print_levels(rows, n_rows);
    return cmocka_run_group_tests_name("vector", tests, NULL, NULL);
}
