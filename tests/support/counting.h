/* SPDX-License-Identifier: MIT */
/* counting.h - an allocator that knows what is alive, and that can fail. For one thread. */
#ifndef SL_TESTS_COUNTING_H
#define SL_TESTS_COUNTING_H

#include "mem.h"

typedef struct counting {
    size_t live_blocks, live_bytes, peak_bytes, calls;
    size_t largest_bytes;   /* of one block, of all that were taken */
    size_t fail_at;     /* the call, from 1, that fails; 0: none */
    size_t fail_for;    /* how many fail from there on; 0: all */
    size_t most_bytes;  /* what would make live_bytes more than this fails; 0: no limit */
    int wrong;          /* a block was freed with another size than it was taken with, or was misaligned */
} counting;

sl_allocator counting_allocator(counting *c);
sl_mem counting_mem(counting *c);
/* Fails the test unless all was given back, as it was taken. */
void counting_check_none(const counting *c);

#endif
