/* SPDX-License-Identifier: MIT */
/* mem.c - blocks from the host's allocator, and arithmetic on sizes. */
#include <string.h>
#include "check.h"
#include "counting.h"
#include "mem.h"

static void takes_both_functions_or_none(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_allocator full = counting_allocator(&c), half = full, none = { sizeof none, NULL, NULL, &c };
    sl_mem mem;
    half.free = NULL;
    assert_int_equal(sl_mem_init(&mem, &half), SL_ERR_ARGUMENT);
    half = full;
    half.alloc = NULL;
    assert_int_equal(sl_mem_init(&mem, &half), SL_ERR_ARGUMENT);
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    assert_true(mem.alloc && mem.free);
    assert_int_equal(sl_mem_init(&mem, &none), SL_OK);
    assert_true(mem.alloc && mem.free);
    assert_int_equal(sl_mem_init(&mem, &full), SL_OK);
    assert_true(mem.alloc == full.alloc && mem.free == full.free && mem.user == &c);
}

static void gives_aligned_zeroed_blocks(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 63, 64, 65, 4096, 1 << 20 };
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = sl_mem_alloc(&mem, sizes[i], 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[k], 0);
        memset(p, 0xff, sizes[i]);
        sl_mem_free(&mem, p);
    }
    sl_mem_free(&mem, NULL);
    sl_mem_pages_free(&mem, NULL, 5);
    counting_check_none(&c);
}

static void refuses_sizes_that_overflow(void **state)
{
    (void)state;
    static const struct { size_t n, size; } cases[] = {
        { SIZE_MAX, 1 }, { SIZE_MAX, 2 }, { SIZE_MAX / 2 + 1, 2 }, { SIZE_MAX - 63, 1 }, { SIZE_MAX / 3, 4 }, { SIZE_MAX / 2, 1 },
    };
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        void *block = NULL;
        sl_fail(SL_OK, " ");
        assert_null(sl_mem_alloc(&mem, cases[i].n, cases[i].size));
        assert_non_null(strstr(sl_last_error(), "no memory"));
        assert_int_equal(sl_mem_grow(&mem, &block, cases[i].n, cases[i].size), SL_ERR_NOMEM);
        assert_null(block);
    }
    counting_check_none(&c);
}

static void grows_and_keeps(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    uint32_t *block = NULL;
    for (uint32_t n = 1; n <= 10000; n++) {
        assert_int_equal(sl_mem_grow(&mem, &block, n, sizeof *block), SL_OK);
        block[n - 1] = n;
    }
    for (uint32_t n = 1; n <= 10000; n++)
        assert_int_equal(block[n - 1], n);
    assert_true(c.calls < 40);      /* by half each time, not one by one */
    size_t calls = c.calls;
    assert_int_equal(sl_mem_grow(&mem, &block, 3, sizeof *block), SL_OK);   /* never shrinks */
    assert_int_equal(c.calls, calls);
    c.fail_at = c.calls + 1;
    assert_int_equal(sl_mem_grow(&mem, &block, 1000000, sizeof *block), SL_ERR_NOMEM);
    assert_int_equal(block[9999], 10000);       /* what was there is there still */
    sl_mem_free(&mem, block);
    counting_check_none(&c);
}

static void gives_pages(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem host = counting_mem(&c), own;
    assert_int_equal(sl_mem_init(&own, NULL), SL_OK);
    static const size_t sizes[] = { 0, 1, 4096, 5000, (8 << 20) + 5 };     /* the last one asks for huge pages */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const sl_mem *mems[] = { &host, &own };
        for (int k = 0; k < 2; k++) {
            unsigned char *p = sl_mem_pages(mems[k], sizes[i]);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 4096, 0);
            memset(p, 1, sizes[i]);
            sl_mem_pages_free(mems[k], p, sizes[i]);
        }
    }
    assert_null(sl_mem_pages(&host, SIZE_MAX));
    counting_check_none(&c);
}

static void checks_arithmetic(void **state)
{
    (void)state;
    static const struct { uint64_t a, b, sum, product; int sum_fails, product_fails; } cases[] = {
        { 0, 0, 0, 0, 0, 0 }, { 2, 3, 5, 6, 0, 0 }, { UINT64_MAX, 0, UINT64_MAX, 0, 0, 0 }, { UINT64_MAX, 1, 0, UINT64_MAX, 1, 0 },
        { UINT64_MAX, 2, 0, 0, 1, 1 }, { (uint64_t)1 << 32, (uint64_t)1 << 32, (uint64_t)1 << 33, 0, 0, 1 },
        { (uint64_t)1 << 32, ((uint64_t)1 << 32) - 1, ((uint64_t)1 << 33) - 1, UINT64_MAX - 0xffffffffu, 0, 0 },
    };
    static const struct { uint64_t a, to, up; int fails; } aligned[] = {
        { 0, 32, 0, 0 }, { 1, 32, 32, 0 }, { 32, 32, 32, 0 }, { 33, 1, 33, 0 }, { UINT64_MAX - 31, 32, UINT64_MAX - 31, 0 }, { UINT64_MAX - 30, 32, 0, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t n = 0;
        assert_int_equal(sl_add64(cases[i].a, cases[i].b, &n), cases[i].sum_fails);
        assert_true(cases[i].sum_fails || n == cases[i].sum);
        assert_int_equal(sl_mul64(cases[i].a, cases[i].b, &n), cases[i].product_fails);
        assert_true(cases[i].product_fails || n == cases[i].product);
    }
    for (size_t i = 0; i < sizeof aligned / sizeof *aligned; i++) {
        uint64_t n = 0;
        assert_int_equal(sl_align_up64(aligned[i].a, aligned[i].to, &n), aligned[i].fails);
        assert_true(aligned[i].fails || n == aligned[i].up);
    }
    size_t n;
    assert_true(sl_add(SIZE_MAX, 1, &n) && sl_mul(SIZE_MAX, 2, &n) && !sl_add(1, 2, &n) && n == 3 && !sl_mul(3, 4, &n) && n == 12);
    assert_int_equal(sl_round_up(5, 3), 6);
    assert_int_equal(sl_round_up(6, 3), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_both_functions_or_none),
        cmocka_unit_test(gives_aligned_zeroed_blocks),
        cmocka_unit_test(refuses_sizes_that_overflow),
        cmocka_unit_test(grows_and_keeps),
        cmocka_unit_test(gives_pages),
        cmocka_unit_test(checks_arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
