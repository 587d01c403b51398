/* SPDX-License-Identifier: MIT */
/* pages.h - which pages of a cache are free, and how many sequences hold each of the others. Numbers only: what is in a page is kv.h's affair. */
#ifndef SL_PAGES_H
#define SL_PAGES_H

#include "mem.h"

typedef struct sl_pages {
    uint32_t *holders;  /* [n] of each page; 0: free */
    int32_t *free;      /* [n_free], the next one last */
    size_t n, n_free;
} sl_pages;

/* n pages, all free, at most INT32_MAX. */
sl_status sl_pages_init(sl_pages *pages, const sl_mem *mem, size_t n);
void sl_pages_end(sl_pages *pages, const sl_mem *mem);

/* A free page, held once: the lowest ones first in a pool that is new; -1 if there is none. */
int32_t sl_pages_take(sl_pages *pages);
/* One more holder; one less: the last one frees. */
void sl_pages_hold(sl_pages *pages, int32_t page);
void sl_pages_release(sl_pages *pages, int32_t page);

#endif
