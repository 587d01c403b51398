/* SPDX-License-Identifier: MIT */
/* ways.h - one text computed in many ways, all of which must give the same bytes: the axes along which ways differ, as a table, each value of each axis alone and combinations
 * at random. What a run says about itself proves that it was computed that way. Through the public interface, for tests with cmocka: a difference fails the test. */
#ifndef SL_TESTS_WAYS_H
#define SL_TESTS_WAYS_H

#include <spacellama/spacellama.h>

/* Value 0 of each axis is the base: the best level, one thread, passes of 512, one call, one device, packed weights, alone, without lookup, straight on. */
enum ways_axis { WAYS_LEVEL, WAYS_THREADS, WAYS_BATCH, WAYS_CALL, WAYS_DEVICES, WAYS_WEIGHTS, WAYS_BESIDE, WAYS_LOOKUP, WAYS_LIFE, WAYS_AXES };

enum { WAYS_IMAGES = 3 };

/* What is computed: n random ids, a random sample of what the model says behind them, and pictures among them. */
typedef struct ways_subject {
    const char *name, *arith, *cache;       /* cache: type of the session's; arith NULL: default */
    const char *path, *projector;           /* of files, or */
    const void *data;                       /* `size` bytes of one */
    size_t size, n;
    size_t n_images, at[WAYS_IMAGES];       /* before which of the n ids the tokens of each picture stand, ascending */
    sl_image *images[WAYS_IMAGES];
    int every_level;                        /* 1: its types are such that every level has a product of its own to do */
    const char *ran[8];                     /* beginnings of labels, such as "gelu/", that must have run; ends with NULL */
    uint64_t seed;
} ways_subject;

/* Every axis alone, then n_random combinations. Prints how many there were; returns a hash of the logits. */
uint64_t ways_prove(const ways_subject *subject, size_t n_random);

#endif
