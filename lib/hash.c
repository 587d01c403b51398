/* SPDX-License-Identifier: MIT */
/* hash.c - the map of hash.h: linear probing, at most half full. */
#include "hash.h"
#include "platform.h"

#include <string.h>

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = (a ^ b) * 0x9e3779b97f4a7c15u;     /* multiply, fold the upper half down, twice */
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return x ^ x >> 29;
}

uint64_t sl_hash(const void *data, size_t length, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = mix(seed, length), word;
    for (; length >= 8; length -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = mix(h, word) + seed;
    }
    word = 0;
    if (length)
        memcpy(&word, p, length);
    return mix(h, word);
}

sl_status sl_map_init(sl_map *map, const sl_mem *mem, size_t count)
{
    size_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    *map = (sl_map) { 0 };
    map->slots = sl_mem_alloc(mem, slots, sizeof *map->slots);
    if (!map->slots)
        return SL_ERR_NOMEM;
    map->mask = (uint32_t)(slots - 1);
    map->seed = mix((uint64_t)(uintptr_t)map->slots, sl_clock_ns());
    return SL_OK;
}

void sl_map_free(sl_map *map, const sl_mem *mem)
{
    sl_mem_free(mem, map->slots);
    map->slots = NULL;
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
    return slot_of(map, data, length, &tag, text, owner)->value - 1;
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
