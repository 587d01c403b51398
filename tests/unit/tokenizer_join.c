/* SPDX-License-Identifier: MIT */
/* tokenizer_join.c - the joiner against the definition: look at all pairs, join the best, begin again. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "random.h"
#include "vocab.h"

/* Pieces are numbers below `kinds`; which pairs join, into what and how eagerly is drawn once. */
enum { KINDS = 12 };
typedef struct rules { uint32_t kinds, rank[KINDS][KINDS], joined[KINDS][KINDS]; } rules;

static void draw_rules(rules *r, uint64_t *seed)
{
    r->kinds = 1 + (uint32_t)random_below(seed, KINDS);
    uint64_t ranks = 1 + random_below(seed, 40), chance = 1 + random_below(seed, 10);
    for (uint32_t a = 0; a < r->kinds; a++)
        for (uint32_t b = 0; b < r->kinds; b++) {
            r->rank[a][b] = random_below(seed, 10) < chance ? (uint32_t)random_below(seed, ranks) : SL_VOCAB_NONE;
            r->joined[a][b] = (uint32_t)random_below(seed, r->kinds);
        }
}

static uint32_t by_rules(const void *owner, const sl_join *join, uint32_t left, uint32_t right, uint32_t *joined)
{
    const rules *r = owner;
    uint32_t a = join->value[left], b = join->value[right];
    assert_int_equal(right, left + join->length[left]);
    if (r->rank[a][b] != SL_VOCAB_NONE)
        *joined = r->joined[a][b];
    return r->rank[a][b];
}

static size_t join_plainly(const rules *r, uint32_t *value, uint32_t *length, size_t n)
{
    for (;;) {
        size_t best = n;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = r->rank[value[i]][value[i + 1]];
            if (rank != SL_VOCAB_NONE && (best == n || rank < r->rank[value[best]][value[best + 1]]))
                best = i;
        }
        if (best == n)
            return n;
        value[best] = r->joined[value[best]][value[best + 1]];
        length[best] += length[best + 1];
        n--;
        memmove(value + best + 1, value + best + 2, (n - best - 1) * sizeof *value);
        memmove(length + best + 1, length + best + 2, (n - best - 1) * sizeof *length);
    }
}

static void joins_as_defined(void **state)
{
    (void)state;
    static const size_t most[] = { 4, 16, 17, 40, 300, 600 };
    enum { LONGEST = 600 };
    uint64_t seed = 7;
    counting count = { 0 };
    sl_mem mem = counting_mem(&count);
    sl_join join = { 0 };
    for (int round = 0; round < 6000; round++) {
        rules r;
        uint32_t value[LONGEST], length[LONGEST];
        draw_rules(&r, &seed);
        size_t limit = most[round % 6], n = limit <= 17 || round % 60 < 6 ? random_below(&seed, limit) + 1 : 20;
        assert_int_equal(sl_join_reserve(&join, &mem, n), SL_OK);
        for (size_t i = 0; i < n; i++) {
            value[i] = join.value[i] = (uint32_t)random_below(&seed, r.kinds);
            length[i] = 1;
        }
        sl_join_run(&join, by_rules, &r);
        size_t pieces = join_plainly(&r, value, length, n), at = 0;
        for (size_t k = 0; k < pieces; at += length[k++]) {
            assert_int_equal(join.length[at], length[k]);
            assert_int_equal(join.value[at], value[k]);
        }
        assert_int_equal(at, n);
    }
    sl_join_free(&join, &mem);
    counting_check_none(&count);
}

static void handles_the_ends(void **state)
{
    (void)state;
    counting count = { 0 };
    sl_mem mem = counting_mem(&count);
    sl_join join = { 0 };
    rules r = { .kinds = 1 };
    assert_int_equal(sl_join_reserve(&join, &mem, 0), SL_OK);
    sl_join_run(&join, by_rules, &r);
    assert_int_equal(sl_join_reserve(&join, &mem, 1), SL_OK);
    join.value[0] = 0;
    sl_join_run(&join, by_rules, &r);
    assert_int_equal(join.length[0], 1);
    assert_int_equal(sl_join_reserve(&join, &mem, (size_t)INT32_MAX + 1), SL_ERR_LIMIT);
    assert_int_equal(sl_join_reserve(&join, &mem, SIZE_MAX), SL_ERR_LIMIT);
    count.fail_at = count.calls + 1;
    assert_int_equal(sl_join_reserve(&join, &mem, 100000), SL_ERR_NOMEM);
    count.fail_at = 0;
    assert_int_equal(sl_join_reserve(&join, &mem, 100000), SL_OK);
    assert_true(count.live_bytes < 13 * 150000 + 1000);        /* 13 bytes per symbol, half as much again to grow into */
    sl_join_free(&join, &mem);
    counting_check_none(&count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_as_defined),
        cmocka_unit_test(handles_the_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
