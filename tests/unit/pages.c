/* SPDX-License-Identifier: MIT */
/* pages.c - free pages and holders: no page twice, none lost, whatever the order. */
#include "check.h"
#include "counting.h"
#include "pages.h"
#include "random.h"

enum { N = 37 };

static void in_order_when_new(void **state)
{
    (void)state;
    counting c = { 0 };
    const sl_mem mem = counting_mem(&c);
    sl_pages pages;
    assert_int_equal(sl_pages_init(&pages, &mem, N), SL_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(sl_pages_take(&pages), i);
    assert_int_equal(sl_pages_take(&pages), -1);
    sl_pages_hold(&pages, 5);
    sl_pages_release(&pages, 5);
    assert_int_equal(sl_pages_take(&pages), -1);
    sl_pages_release(&pages, 5);
    assert_int_equal(sl_pages_take(&pages), 5);
    sl_pages_end(&pages, &mem);
    counting_check_none(&c);
}

/* Against a plain count per page. */
static void any_order(void **state)
{
    (void)state;
    counting c = { 0 };
    const sl_mem mem = counting_mem(&c);
    sl_pages pages;
    uint32_t holders[N] = { 0 };
    uint64_t seed = 1;
    assert_int_equal(sl_pages_init(&pages, &mem, N), SL_OK);
    for (int step = 0; step < 20000; step++) {
        const int32_t page = (int32_t)random_below(&seed, N);
        size_t n_free = 0;
        if (random_below(&seed, 2)) {
            const int32_t taken = sl_pages_take(&pages);
            for (int i = 0; i < N; i++)
                n_free += !holders[i];
            assert_true(n_free ? taken >= 0 && taken < N && !holders[taken] : taken == -1);
            if (taken >= 0)
                holders[taken] = 1;
        } else if (holders[page] && random_below(&seed, 3) == 0) {
            sl_pages_hold(&pages, page);
            holders[page]++;
        } else if (holders[page]) {
            sl_pages_release(&pages, page);
            holders[page]--;
        }
        n_free = 0;
        for (int i = 0; i < N; i++) {
            n_free += !holders[i];
            assert_int_equal(pages.holders[i], holders[i]);
        }
        assert_int_equal(pages.n_free, n_free);
    }
    sl_pages_end(&pages, &mem);
}

static void memory_fails(void **state)
{
    (void)state;
    sl_pages pages;
    for (size_t n = 1; n <= 2; n++) {
        counting c = { .fail_at = n, .fail_for = 1 };
        const sl_mem mem = counting_mem(&c);
        assert_int_equal(sl_pages_init(&pages, &mem, N), SL_ERR_NOMEM);
        counting_check_none(&c);
    }
    counting c = { 0 };
    const sl_mem mem = counting_mem(&c);
    assert_int_equal(sl_pages_init(&pages, &mem, (size_t)INT32_MAX + 1), SL_ERR_LIMIT);
    assert_int_equal(c.calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(in_order_when_new), cmocka_unit_test(any_order), cmocka_unit_test(memory_fails) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
