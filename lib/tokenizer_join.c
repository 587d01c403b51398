/* SPDX-License-Identifier: MIT */
/* tokenizer_join.c - joins neighbouring pieces by rank: the common heart of scored pieces and byte-level pairs. n log16 n time, 13 bytes per symbol. */
#include "vocab.h"

#include <string.h>

/* Sizes of the levels of minima for n ranks; the last has at most 16 entries. All are padded to a multiple of 16. */
static uint32_t level_sizes(size_t n, size_t sizes[SL_JOIN_LEVELS])
{
    uint32_t levels = 0;
    do {
        sizes[levels++] = sl_round_up(n, SL_JOIN_FAN);
        n = sl_round_up(n, SL_JOIN_FAN) / SL_JOIN_FAN;
    } while (n > 1);
    return levels;
}

sl_status sl_join_reserve(sl_join *join, const sl_mem *mem, size_t n)
{
    size_t sizes[SL_JOIN_LEVELS];
    if (n > INT32_MAX)
        return sl_fail(SL_ERR_LIMIT, "a word of %zu symbols", n);
    if (n > join->capacity) {
        size_t capacity = n < 256 ? 256 : n + n / 2 > INT32_MAX ? INT32_MAX : n + (n < 1u << 20 ? n / 2 : 0), total = 2 * capacity;
        uint32_t levels = level_sizes(capacity, sizes);
        for (uint32_t l = 0; l < levels; l++)
            total += sizes[l];
        sl_join_free(join, mem);
        join->block = sl_mem_alloc(mem, total, sizeof(uint32_t));
        if (!join->block)
            return SL_ERR_NOMEM;
        join->capacity = capacity;
    }
    join->n = n;
    join->length = join->block;
    join->value = join->length + join->capacity;
    join->n_levels = level_sizes(n, sizes);
    uint32_t *next = join->value + join->capacity;
    for (uint32_t l = 0; l < join->n_levels; l++) {
        join->rank[l] = next;
        next += sizes[l];
    }
    return SL_OK;
}

void sl_join_free(sl_join *join, const sl_mem *mem)
{
    sl_mem_free(mem, join->block);
    *join = (sl_join) { 0 };
}

static uint32_t least(const uint32_t *sixteen)
{
    uint32_t best = sixteen[0];
    for (int i = 1; i < SL_JOIN_FAN; i++)
        best = sixteen[i] < best ? sixteen[i] : best;
    return best;
}

/* Enters a rank and what follows from it on the levels above. */
static void enter(sl_join *join, size_t at, uint32_t rank)
{
    join->rank[0][at] = rank;
    for (uint32_t l = 1; l < join->n_levels; l++) {
        at /= SL_JOIN_FAN;
        uint32_t best = least(join->rank[l - 1] + at * SL_JOIN_FAN);
        if (join->rank[l][at] == best)
            return;
        join->rank[l][at] = best;
    }
}

/* First symbol of the leftmost best pair, or SL_VOCAB_NONE. */
static uint32_t best_pair(const sl_join *join)
{
    uint32_t l = join->n_levels - 1, best = least(join->rank[l]);
    size_t at = 0;
    if (best == SL_VOCAB_NONE)
        return SL_VOCAB_NONE;
    for (;; l--) {
        while (join->rank[l][at] != best)
            at++;
        if (!l)
            return (uint32_t)at;
        at *= SL_JOIN_FAN;
    }
}

static void fill_ranks(sl_join *join, sl_join_fn *fn, const void *owner)
{
    uint32_t joined;
    size_t n = join->n;
    for (size_t i = 0; i < n; i++)
        join->length[i] = 1;
    for (size_t i = 0; i + 1 < n; i++)
        join->rank[0][i] = fn(owner, join, (uint32_t)i, (uint32_t)i + 1, &joined);
    for (size_t i = n - 1; i < sl_round_up(n, SL_JOIN_FAN); i++)
        join->rank[0][i] = SL_VOCAB_NONE;
    for (uint32_t l = 1; l < join->n_levels; l++) {
        n = sl_round_up(n, SL_JOIN_FAN) / SL_JOIN_FAN;
        for (size_t i = 0; i < n; i++)
            join->rank[l][i] = least(join->rank[l - 1] + i * SL_JOIN_FAN);
        for (size_t i = n; i < sl_round_up(n, SL_JOIN_FAN); i++)
            join->rank[l][i] = SL_VOCAB_NONE;
    }
}

void sl_join_run(sl_join *join, sl_join_fn *fn, const void *owner)
{
    if (!join->n)
        return;
    fill_ranks(join, fn, owner);
    for (uint32_t left; (left = best_pair(join)) != SL_VOCAB_NONE;) {
        uint32_t right = left + join->length[left], joined = join->value[left], other;
        uint32_t behind = right + join->length[right];
        fn(owner, join, left, right, &joined);
        enter(join, right, SL_VOCAB_NONE);
        join->value[left] = joined;
        join->length[left] = join->length[behind - 1] = behind - left;
        enter(join, left, behind < join->n ? fn(owner, join, left, behind, &other) : SL_VOCAB_NONE);
        if (left) {
            uint32_t before = left - join->length[left - 1];
            enter(join, before, fn(owner, join, before, left, &other));
        }
    }
}
