/* SPDX-License-Identifier: MIT */
/* generator.h - the generator behind sampling: xoshiro256** of Blackman and Vigna, its state filled by SplitMix64 from a seed. The same seed gives the same
 * numbers for ever: whoever keeps a seed keeps the answers. */
#ifndef SL_GENERATOR_H
#define SL_GENERATOR_H

#include <stdint.h>

static inline void sl_random_seed(uint64_t state[4], uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        state[i] = z ^ z >> 31;
    }
}

static inline uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline uint64_t sl_random_next(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

#endif
