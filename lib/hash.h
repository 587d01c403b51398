/* SPDX-License-Identifier: MIT */
/* hash.h - a map from byte strings to numbers: keys, tensor names, token texts. */
#ifndef SL_HASH_H
#define SL_HASH_H

#include "mem.h"

/* Open addressing over slots of (hash, value); the texts stay with the caller, who finds them again by value. */
typedef struct sl_map {
    struct sl_map_slot { uint32_t tag, value; } *slots;     /* value + 1; 0 is free */
    uint32_t mask;
    uint32_t count;
    uint64_t seed;      /* differs from map to map, so that no file can be made to collide */
} sl_map;

/* Text of the entry with this value. */
typedef struct sl_text { const char *data; size_t length; } sl_text;
typedef sl_text sl_map_text_fn(const void *owner, uint32_t value);

#define SL_MAP_NONE UINT32_MAX

/* Room for `count` entries, and no more may be added; SL_ERR_LIMIT from 2^30 on. A map of all zeros is empty and may be searched and freed. */
sl_status sl_map_init(sl_map *map, const sl_mem *mem, size_t count);
void sl_map_free(sl_map *map, const sl_mem *mem);
/* The value stored for this text, or SL_MAP_NONE. */
uint32_t sl_map_find(const sl_map *map, const char *data, size_t length, sl_map_text_fn *text, const void *owner);
/* Stores value for its text unless the text is there already; returns the value that now stands for it. */
uint32_t sl_map_add(sl_map *map, uint32_t value, sl_map_text_fn *text, const void *owner);

/* 64-bit hash of bytes, keyed (SipHash-1-3, Aumasson and Bernstein): in tables, whose seed nobody knows, texts cannot be made to collide. With a known seed (identity.h) it
 * tells files apart that are not made to deceive. The value stands in states and files of packed weights: it stays as it is. */
uint64_t sl_hash(const void *data, size_t length, uint64_t seed);

#endif
