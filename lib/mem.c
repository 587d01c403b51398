/* SPDX-License-Identifier: MIT */
/* mem.c - small blocks carry their size in front, so that the host's free always learns it. */
#include "mem.h"
#include "platform.h"

#include <string.h>

enum { HEADER = 64, ALIGNMENT = 64, PAGE = 4096 };

sl_status sl_mem_init(sl_mem *mem, const sl_allocator *allocator)
{
    *mem = (sl_mem) { .alloc = sl_os_alloc, .free = sl_os_free };
    if (!allocator || (!allocator->alloc && !allocator->free))
        return SL_OK;
    if (!allocator->alloc || !allocator->free)
        return sl_fail(SL_ERR_ARGUMENT, "allocator: alloc and free must both be set");
    *mem = (sl_mem) { allocator->alloc, allocator->free, allocator->user };
    return SL_OK;
}

static void *take(const sl_mem *mem, size_t bytes, size_t alignment)
{
    void *p = mem->alloc(bytes, alignment, mem->user);
    if (!p)
        sl_fail(SL_ERR_NOMEM, "no memory for %zu bytes", bytes);
    return p;
}

void *sl_mem_alloc(const sl_mem *mem, size_t n, size_t size)
{
    size_t bytes;
    if (sl_mul(n, size, &bytes) || sl_add(bytes, HEADER, &bytes)) {
        sl_fail(SL_ERR_NOMEM, "no memory for %zu x %zu bytes", n, size);
        return NULL;
    }
    char *p = take(mem, bytes, ALIGNMENT);
    if (!p)
        return NULL;
    memset(p, 0, bytes);
    memcpy(p, &bytes, sizeof bytes);
    return p + HEADER;
}

void sl_mem_free(const sl_mem *mem, void *block)
{
    if (!block)
        return;
    char *p = (char *)block - HEADER;
    size_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    mem->free(p, bytes, mem->user);
}

sl_status sl_mem_grow(const sl_mem *mem, void *block_pointer, size_t n, size_t size)
{
    void *old;
    size_t have = 0, want;
    memcpy(&old, block_pointer, sizeof old);
    if (old) {
        memcpy(&have, (char *)old - HEADER, sizeof have);
        have -= HEADER;
    }
    if (sl_mul(n, size, &want))
        return sl_fail(SL_ERR_NOMEM, "no memory for %zu x %zu bytes", n, size);
    if (old && want <= have)
        return SL_OK;
    size_t more;
    if (sl_add(have, have / 2, &more) || more < want)
        more = want;
    void *grown = sl_mem_alloc(mem, more, 1);
    if (!grown)
        return SL_ERR_NOMEM;
    if (have)
        memcpy(grown, old, have);
    sl_mem_free(mem, old);
    memcpy(block_pointer, &grown, sizeof grown);
    return SL_OK;
}

void *sl_mem_pages(const sl_mem *mem, size_t bytes) { return take(mem, bytes ? bytes : 1, PAGE); }

void sl_mem_pages_free(const sl_mem *mem, void *block, size_t bytes)
{
    if (block)
        mem->free(block, bytes ? bytes : 1, mem->user);
}
