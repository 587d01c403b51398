/* SPDX-License-Identifier: MIT */
/* random.h - numbers for tests: the same on every machine, from a seed that a failing test can print. */
#ifndef SL_TESTS_RANDOM_H
#define SL_TESTS_RANDOM_H

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t random_below(uint64_t *state, uint64_t n) { return random_next(state) % n; }

/* In [-1, 1). */
static inline float random_float(uint64_t *state) { return (float)(random_next(state) >> 40) / 8388608.0f - 1.0f; }

#endif
