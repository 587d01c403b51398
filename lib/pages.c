/* SPDX-License-Identifier: MIT */
/* pages.c - a stack of free pages and a count for each. */
#include "pages.h"

sl_status sl_pages_init(sl_pages *pages, const sl_mem *mem, size_t n)
{
    *pages = (sl_pages) { .n = n, .n_free = n };
    if (n > INT32_MAX)
        return sl_fail(SL_ERR_LIMIT, "cache: %zu pages, the limit is %d", n, INT32_MAX);
    pages->holders = sl_mem_alloc(mem, n, sizeof *pages->holders);
    pages->free = sl_mem_alloc(mem, n, sizeof *pages->free);
    if (!pages->holders || !pages->free) {
        sl_pages_end(pages, mem);
        return SL_ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++)
        pages->free[i] = (int32_t)(n - 1 - i);
    return SL_OK;
}

void sl_pages_end(sl_pages *pages, const sl_mem *mem)
{
    sl_mem_free(mem, pages->holders);
    sl_mem_free(mem, pages->free);
    *pages = (sl_pages) { 0 };
}

int32_t sl_pages_take(sl_pages *pages)
{
    if (!pages->n_free)
        return -1;
    const int32_t page = pages->free[--pages->n_free];
    pages->holders[page] = 1;
    return page;
}

void sl_pages_hold(sl_pages *pages, int32_t page) { pages->holders[page]++; }

void sl_pages_release(sl_pages *pages, int32_t page)
{
    if (--pages->holders[page] == 0)
        pages->free[pages->n_free++] = page;
}
