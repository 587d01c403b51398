/* SPDX-License-Identifier: MIT */
/* counting.c - see counting.h. The size lies in front of each block, and is held against what free is told. */
#define _POSIX_C_SOURCE 200112L
#include "check.h"
#include "counting.h"

#include <stdlib.h>
#include <string.h>

static void *count_alloc(size_t bytes, size_t alignment, void *user)
{
    counting *c = user;
    c->calls++;
    if (c->fail_at && c->calls >= c->fail_at && (!c->fail_for || c->calls < c->fail_at + c->fail_for))
        return NULL;
    if (c->most_bytes && (bytes > c->most_bytes || c->live_bytes > c->most_bytes - bytes))
        return NULL;
    if (!alignment || alignment & (alignment - 1) || alignment > 4096)
        c->wrong = 1;
    void *block;
    size_t front = alignment < 64 ? 64 : alignment;
    if (bytes > SIZE_MAX / 2 || posix_memalign(&block, front, front + bytes))
        return NULL;
    char *p = block;
    memset(p, 0xa5, front + bytes);     /* nobody may count on zeros */
    memcpy(p + front - sizeof bytes, &bytes, sizeof bytes);
    memcpy(p + front - 2 * sizeof bytes, &front, sizeof front);
    c->live_blocks++;
    c->live_bytes += bytes;
    if (c->live_bytes > c->peak_bytes)
        c->peak_bytes = c->live_bytes;
    if (bytes > c->largest_bytes)
        c->largest_bytes = bytes;
    return p + front;
}

static void count_free(void *block, size_t bytes, void *user)
{
    counting *c = user;
    size_t taken, front;
    memcpy(&taken, (char *)block - sizeof taken, sizeof taken);
    memcpy(&front, (char *)block - 2 * sizeof taken, sizeof front);
    if (taken != bytes)
        c->wrong = 1;
    c->live_blocks--;
    c->live_bytes -= taken;
    free((char *)block - front);
}

sl_allocator counting_allocator(counting *c) { return (sl_allocator) { sizeof(sl_allocator), count_alloc, count_free, c }; }
sl_mem counting_mem(counting *c) { return (sl_mem) { count_alloc, count_free, c }; }

void counting_check_none(const counting *c)
{
    assert_int_equal(c->live_blocks, 0);
    assert_int_equal(c->live_bytes, 0);
    assert_int_equal(c->wrong, 0);
}
