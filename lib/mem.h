/* SPDX-License-Identifier: MIT */
/* mem.h - memory from the host's allocator, and the only arithmetic that sizes are made with. */
#ifndef SL_MEM_H
#define SL_MEM_H

#include "status.h"
#include <spacellama/host.h>

/* A resolved allocator: both functions are set. Copied into every handle. */
typedef struct sl_mem {
    void *(*alloc)(size_t bytes, size_t alignment, void *user);
    void (*free)(void *block, size_t bytes, void *user);
    void *user;
} sl_mem;

/* From what the caller gave; NULL: the C library. SL_ERR_ARGUMENT if only one of the two functions is set. */
sl_status sl_mem_init(sl_mem *mem, const sl_allocator *allocator);

/* n * size zeroed bytes, 64-byte aligned; NULL (with the sentence set, status SL_ERR_NOMEM) if there are none or the product overflows.
 * Zero bytes give a valid block. sl_mem_free takes NULL. */
void *sl_mem_alloc(const sl_mem *mem, size_t n, size_t size);
void sl_mem_free(const sl_mem *mem, void *block);

/* Makes *block (NULL or from sl_mem_alloc) hold at least n * size bytes, keeping its content; grows by half at least. */
sl_status sl_mem_grow(const sl_mem *mem, void *block_pointer, size_t n, size_t size);

/* Large blocks (weights, caches, arenas): page aligned, not zeroed, freed with their size. */
void *sl_mem_pages(const sl_mem *mem, size_t bytes);
void sl_mem_pages_free(const sl_mem *mem, void *block, size_t bytes);

/* Checked arithmetic: 0, or 1 if the result does not fit (then *out is not set). */
static inline int sl_add(size_t a, size_t b, size_t *out) { return __builtin_add_overflow(a, b, out); }
static inline int sl_mul(size_t a, size_t b, size_t *out) { return __builtin_mul_overflow(a, b, out); }
static inline int sl_add64(uint64_t a, uint64_t b, uint64_t *out) { return __builtin_add_overflow(a, b, out); }
static inline int sl_mul64(uint64_t a, uint64_t b, uint64_t *out) { return __builtin_mul_overflow(a, b, out); }
/* Up to a multiple of `to`, a power of two. */
static inline int sl_align_up64(uint64_t a, uint64_t to, uint64_t *out)
{
    if (sl_add64(a, to - 1, out))
        return 1;
    *out &= ~(to - 1);
    return 0;
}
static inline size_t sl_round_up(size_t a, size_t to) { return (a + to - 1) / to * to; }   /* for numbers already validated */

#endif
