/* SPDX-License-Identifier: MIT */
/* hash.c - the map of hash.h: linear probing, at most half full. */
#include "hash.h"
#include "platform.h"

#include <string.h>

static inline uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void stir(uint64_t v[4])
{
    v[0] += v[1], v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1], v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static inline void absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    stir(v);
    v[0] ^= word;
}

/* The key is (seed, its complement); the four constants are those of the definition. */
uint64_t sl_hash(const void *data, size_t length, uint64_t seed)
{
    uint64_t v[4] = { seed ^ 0x736f6d6570736575u, ~seed ^ 0x646f72616e646f6du, seed ^ 0x6c7967656e657261u, ~seed ^ 0x7465646279746573u };
    const unsigned char *p = data;
    uint64_t word, last = (uint64_t)length << 56;
    size_t left = length;
    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&word, p, 8);
        absorb(v, word);
    }
    word = 0;
    if (left)
        memcpy(&word, p, left);
    absorb(v, last | word);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        stir(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

sl_status sl_map_init(sl_map *map, const sl_mem *mem, size_t count)
{
    *map = (sl_map) { 0 };
    if (count >= (size_t)1 << 30)
        return sl_fail(SL_ERR_LIMIT, "a table of %zu texts is too large", count);
    size_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    map->slots = sl_mem_alloc(mem, slots, sizeof *map->slots);
    if (!map->slots)
        return SL_ERR_NOMEM;
    map->mask = (uint32_t)(slots - 1);
    uint64_t unforeseen[2] = { (uint64_t)(uintptr_t)map->slots, sl_clock_ns() };
    map->seed = sl_hash(unforeseen, sizeof unforeseen, 0);
    return SL_OK;
}

void sl_map_free(sl_map *map, const sl_mem *mem)
{
    sl_mem_free(mem, map->slots);
    *map = (sl_map) { 0 };
}

/* The slot of this text, or the free one where it would go. */
static struct sl_map_slot *slot_of(const sl_map *map, const char *data, size_t length, uint32_t *tag, sl_map_text_fn *text, const void *owner)
{
    uint64_t h = sl_hash(data, length, map->seed);
    *tag = (uint32_t)(h >> 32);
    for (uint32_t i = (uint32_t)h & map->mask;; i = (i + 1) & map->mask) {
        struct sl_map_slot *s = &map->slots[i];
        if (!s->value)
            return s;
        if (s->tag == *tag) {
            sl_text t = text(owner, s->value - 1);
            if (t.length == length && (!length || !memcmp(t.data, data, length)))
                return s;
        }
    }
}

uint32_t sl_map_find(const sl_map *map, const char *data, size_t length, sl_map_text_fn *text, const void *owner)
{
    uint32_t tag;
    if (!map->slots)
        return SL_MAP_NONE;
    return slot_of(map, data, length, &tag, text, owner)->value - 1;     /* 0 - 1 is SL_MAP_NONE */
}

uint32_t sl_map_add(sl_map *map, uint32_t value, sl_map_text_fn *text, const void *owner)
{
    sl_text t = text(owner, value);
    uint32_t tag;
    struct sl_map_slot *s = slot_of(map, t.data, t.length, &tag, text, owner);
    if (!s->value) {
        s->tag = tag;
        s->value = value + 1;
        map->count++;
    }
    return s->value - 1;
}
