/* SPDX-License-Identifier: MIT */
/* params.h - structures that cross the interface with their own size in front. Programs may be older or newer than the library:
 * a shorter structure reads as if the rest were 0, a longer one is taken if what this library does not know is 0. */
#ifndef SL_PARAMS_H
#define SL_PARAMS_H

#include "mem.h"

#define SL_PARAMS_MAX_BYTES 65536   /* no structure comes near; a larger size is an uninitialised member */

/* Copies a caller's option structure to `full` (full_size bytes, this library's idea of it; its size member becomes full_size).
 * given NULL: all zero. SL_ERR_ARGUMENT for an impossible size, SL_ERR_UNSUPPORTED if members that are not known here are set. */
sl_status sl_options_read(void *full, size_t full_size, const void *given);

/* Copies `full` to a caller's structure: as many bytes as it has room for, zeros where it has more. Its size member stays.
 * SL_ERR_ARGUMENT if out is NULL or its size impossible. */
sl_status sl_result_write(void *out, const void *full, size_t full_size);

/* The allocator of a program of any age; NULL: the C library's memory. */
sl_status sl_allocator_read(sl_mem *mem, const sl_allocator *given);

/* What an exported function answers that needs an argument which is NULL. */
static inline sl_status sl_null_argument(const char *function) { return sl_fail(SL_ERR_ARGUMENT, "%s: an argument is NULL", function); }
#define SL_NEEDS(function, condition)                                                                                   \
    do {                                                                                                                \
        if (!(condition))                                                                                               \
            return sl_null_argument(function);                                                                          \
    } while (0)

#endif
