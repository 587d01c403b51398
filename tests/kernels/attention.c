/* SPDX-License-Identifier: MIT */
/* attention.c - attention around its kernels: every implementation that this machine has or emulates, as an operation on several threads, gives the bytes of
 * the plain-C one. tests/ops/attention.c holds that against mathematics; here stand the levels that no device can be opened with. */
#include <math.h>
#include "check.h"
#include "kv.h"
#include "weights.h"

enum { CAPACITY = 1024, MAX_THREADS = 3, GUARD = 64 };
static const sl_impl *rows[CAPACITY];
static size_t n_rows;
static sl_mem mem;
static cpu_device devices[MAX_THREADS];

static sl_tensor tensor(sl_type type, int64_t n0, int64_t n1, int64_t n2, void *data)
{
    return (sl_tensor) { .type = type, .ne = { n0, n1, n2, 1 }, .stride = { 4, 4 * (size_t)n0, 4 * (size_t)(n0 * n1), 4 * (size_t)(n0 * n1 * n2) }, .data = data };
}

/* past: keys that are there before those of the `tok` tokens, which see all up to their own (ATTENTION), or all but the last `tok / 2` and keys 3 .. 69 not (SPAN_ATTENTION). */
static const struct shape { int64_t d, heads, kv, past, tok; } shapes[] = {
    { 64, 8, 2, 0, 130 }, { 64, 8, 2, 100, 33 }, { 128, 4, 1, 127, 70 }, { 80, 3, 3, 0, 190 }, { 24, 6, 2, 65, 40 }, { 7, 5, 1, 60, 70 }, { 64, 4, 2, 200, 1 }, { 96, 1, 1, 63, 2 },
};

typedef struct call { const struct shape *shape; sl_kv_layer cache; float *q; int32_t *at, *pages, spans[4], *ranges; int64_t n_page; } call;

static int make_call(call *c, const struct shape *shape, sl_type type)
{
    const int64_t n_key = shape->past + shape->tok;
    uint64_t bytes = 0, seed = 11;
    *c = (call) { .shape = shape, .n_page = (n_key + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS };
    if (sl_kv_shape(&c->cache, type, shape->d, shape->kv, c->n_page, &bytes) != SL_OK)
        return 0;
    c->cache.k.data = malloc(c->cache.k.stride[3] * (size_t)c->n_page), c->cache.v.data = malloc(c->cache.v.stride[3] * (size_t)c->n_page);
    memset(c->cache.k.data, 0xff, c->cache.k.stride[3] * (size_t)c->n_page);
    memset(c->cache.v.data, 0xff, c->cache.v.stride[3] * (size_t)c->n_page);
    c->at = malloc((size_t)n_key * sizeof *c->at), c->pages = malloc((size_t)c->n_page * sizeof *c->pages), c->ranges = malloc(2 * (size_t)shape->tok * sizeof *c->ranges);
    for (int64_t i = 0; i < n_key; i++)
        c->at[i] = (int32_t)i;
    for (int64_t i = 0; i < c->n_page; i++)
        c->pages[i] = (int32_t)(c->n_page - 1 - i);
    c->spans[0] = 0, c->spans[1] = n_key < 3 ? (int32_t)n_key : 3, c->spans[2] = n_key < 70 ? (int32_t)n_key : 70, c->spans[3] = (int32_t)(n_key - shape->tok / 2);
    c->spans[3] = c->spans[3] < c->spans[2] ? c->spans[2] : c->spans[3];
    for (int64_t i = 0; i < shape->tok; i++)        /* runs that see one span, both, or none */
        c->ranges[2 * i] = i / 20 % 3 == 2, c->ranges[2 * i + 1] = i / 20 % 3 == 1 ? 2 : i / 20 % 3 == 2 ? 1 + (i % 20 < 10) : 1;
    const size_t n_kv = (size_t)(n_key * shape->kv * shape->d), n_q = (size_t)(shape->tok * shape->heads * shape->d);
    float *kv = malloc(2 * n_kv * sizeof *kv);
    c->q = malloc(n_q * sizeof *c->q);
    for (size_t i = 0; i < 2 * n_kv; i++)
        kv[i] = 2 * random_float(&seed);
    for (size_t i = 0; i < n_q; i++)
        c->q[i] = 3 * random_float(&seed);
    const sl_op_args write = { .op = SL_OP_CACHE_WRITE, .src = { tensor(SL_TYPE_F32, shape->d, shape->kv, n_key, kv), tensor(SL_TYPE_F32, shape->d, shape->kv, n_key, kv + n_kv), c->cache.k,
                                                                 c->cache.v, tensor(SL_TYPE_I32, n_key, 1, 1, c->at), tensor(SL_TYPE_I32, c->n_page, 1, 1, c->pages) } };
    assert_int_equal(write_cache(&devices[0], &write), SL_OK);
    free(kv);
    return 1;
}

static void free_call(call *c)
{
    free(c->cache.k.data), free(c->cache.v.data), free(c->at), free(c->pages), free(c->ranges), free(c->q);
}

/* Runs it in exactly the scratch memory that it asks for; out is as large as the result. */
static void run(const sl_impl *row, cpu_device *device, call *c, float *out)
{
    const struct shape *s = c->shape;
    sl_op_args args = { .op = row->op, .src = { tensor(SL_TYPE_F32, s->d, s->heads, s->tok, c->q), c->cache.k, c->cache.v }, .value = 1.0f / sqrtf((float)s->d),
                        .dst = tensor(SL_TYPE_F32, s->d, s->heads, s->tok, out) };
    args.src[3] = row->op == SL_OP_ATTENTION ? tensor(SL_TYPE_I32, s->tok, 1, 1, c->at + s->past) : tensor(SL_TYPE_I32, 2, 2, 1, c->spans);
    args.src[4] = row->op == SL_OP_ATTENTION ? tensor(SL_TYPE_I32, c->n_page, 1, 1, c->pages) : tensor(SL_TYPE_I32, 2, s->tok, 1, c->ranges);
    assert_true(row->accepts(row, device, &args));
    const size_t bytes = (row->scratch(row, device, &args) + 63) / 64 * 64;
    uint8_t *scratch = aligned_alloc(64, bytes + GUARD);
    memset(scratch, 0xff, bytes + GUARD);
    args.scratch = scratch;
    if (row->run(row, device, &args) != SL_OK)
        fail_msg("%s: %s", row->label, sl_last_error());
    for (size_t i = bytes; i < bytes + GUARD; i++)
        assert_int_equal(scratch[i], 0xff);
    free(scratch);
}

static const sl_impl *reference_of(const sl_impl *row)
{
    const size_t n = (size_t)(strrchr(row->label, '/') - row->label);
    for (size_t i = 0; i < n_rows; i++)
        if (rows[i]->level == CPU_SCALAR && !strncmp(rows[i]->label, row->label, n + 1))
            return rows[i];
    fail_msg("%s has no row in the scalar list", row->label);
    return NULL;
}

static void every_level_gives_the_bytes_of_the_reference(void **state)
{
    size_t n_compared = 0;
    (void)state;
    for (size_t i = 0; i < n_rows; i++)
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes && (rows[i]->op == SL_OP_ATTENTION || rows[i]->op == SL_OP_SPAN_ATTENTION); k++) {
            const struct shape *s = &shapes[k];
            const size_t n = (size_t)(s->tok * s->heads * s->d);
            float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
            call c;
            if (rows[i]->level > CPU_SCALAR_FMA && make_call(&c, s, ((const cpu_attention_kernel *)rows[i]->kernel)->cache_type)) {
                run(reference_of(rows[i]), &devices[0], &c, want);
                for (int t = 0; t < MAX_THREADS; t++) {
                    memset(got, 0xff, n * sizeof *got);
                    run(rows[i], &devices[t], &c, got);
                    for (size_t e = 0; e < n; e++)
                        if (sl_bits(got[e]) != sl_bits(want[e]))
                            fail_msg("%s, heads of %d, %d threads: token %zu, element %zu is %a, must be %a", rows[i]->label, (int)s->d, t + 1, e / (size_t)(s->heads * s->d),
                                     e % (size_t)(s->heads * s->d), (double)got[e], (double)want[e]);
                }
                free_call(&c);
                n_compared++;
            }
            free(want), free(got);
        }
    print_message("%zu calls compared\n", n_compared);
}

static int open_devices(void **state)
{
    (void)state;
    if (sl_mem_init(&mem, NULL) != SL_OK)
        return -1;
    for (unsigned t = 0; t < MAX_THREADS; t++) {
        devices[t] = (cpu_device) { .mem = mem, .n_threads = t + 1 };
        if (cpu_pool_create(&devices[t].pool, &mem, t + 1) != SL_OK)
            return -1;
    }
    return 0;
}

static int close_devices(void **state)
{
    (void)state;
    for (unsigned t = 0; t < MAX_THREADS; t++)
        cpu_pool_free(devices[t].pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_level_gives_the_bytes_of_the_reference) };
    n_rows = rows_of_machine(rows, CAPACITY);
    print_levels(rows, n_rows);
    return cmocka_run_group_tests_name("attention", tests, open_devices, close_devices);
}
