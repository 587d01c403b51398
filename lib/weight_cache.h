/* SPDX-License-Identifier: MIT */
/* weight_cache.h - packed weights kept in a file, so that the next load need not pack them: which file belongs to which model, and that what is read is what was
 * written. Nothing here makes a load fail: a cache that cannot be used is said in the log, and the model's own files are read.
 *
 * The file (numbers as the machine has them):
 *     0   head of 64 bytes, see weight_cache.c; its last 4 are the CRC-32C of the others
 *     64  CRC-32C of each block of SL_PACKED_BLOCK bytes of each weight, 4 bytes each; zeros up to the next multiple of 4096
 *     ..  the weights, one after the other, as the backends laid them in memory
 * Every byte stands under one of the sums. */
#ifndef SL_WEIGHT_CACHE_H
#define SL_WEIGHT_CACHE_H

#include "backend.h"
#include "input.h"

typedef struct sl_cached_weight {
    const sl_device *device;
    uint64_t offset, bytes;     /* in the file; bytes 0: not in it */
    uint64_t sum;               /* index of its first sum */
} sl_cached_weight;

typedef struct sl_weight_cache {
    const sl_mem *mem;
    const sl_log *log;
    const char *path;           /* NULL: there is no cache, and nothing below is used */
    sl_cached_weight *weights;  /* [n] */
    size_t n, room;
    uint64_t identity;          /* of the files, the libraries' arithmetic and the layout of every weight */
    uint8_t *sums;              /* as in the file, from byte 64 to the first weight */
    uint64_t n_sums, data_offset, bytes;    /* where weights begin; of the file */
    sl_file *file;              /* open, with a good head and good sums; NULL: nothing is taken from it (any more) */
    int foreign;                /* what has that name is no such file, and is left alone */
} sl_weight_cache;

/* Begins; path NULL: every call that follows does nothing. The pointers must live as long. */
void sl_weight_cache_init(sl_weight_cache *cache, const sl_mem *mem, const sl_log *log, const char *path);
/* The next weight, and the bytes it has when packed; 0, or a backend that lays nothing down: it has no place in the file. */
void sl_weight_cache_add(sl_weight_cache *cache, const sl_device *device, uint64_t bytes);
/* When all are added: finds out whether the file is the right one. */
void sl_weight_cache_open(sl_weight_cache *cache, const sl_parts *parts);
/* 1 if the index-th weight can be read. */
int sl_weight_cache_has(const sl_weight_cache *cache, size_t index);
/* Reads bytes of it and checks them: SL_ERR_CHECKSUM, SL_ERR_IO. `offset` is a multiple of SL_PACKED_BLOCK, and so is `bytes` except at the weight's end. Any thread. */
sl_status sl_weight_cache_read(const sl_weight_cache *cache, size_t index, uint64_t offset, void *to, size_t bytes);
/* Takes nothing from the file any more, for the reason that stands in the sentence. */
void sl_weight_cache_drop(sl_weight_cache *cache);
/* When all are placed: writes the file anew unless it was good to the end. handles[i] is the i-th weight's, NULL for those that have no place; goes_on is asked
 * now and then, and what it says other than SL_OK ends the writing and is returned: nothing else is. */
sl_status sl_weight_cache_finish(sl_weight_cache *cache, void *const *handles, sl_status (*goes_on)(void *user), void *user);
void sl_weight_cache_close(sl_weight_cache *cache);

#endif
