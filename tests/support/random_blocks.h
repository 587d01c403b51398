/* SPDX-License-Identifier: MIT */
/* random_blocks.h - tensor data of every matrix type from a seed: any bytes where any bytes do, sane numbers where a scale stands. The same on
 * every machine, and made without the library. */
#ifndef SL_TESTS_RANDOM_BLOCKS_H
#define SL_TESTS_RANDOM_BLOCKS_H

#include "random.h"
#include "type.h"

#include <stddef.h>

/* Bytes of n elements (whole blocks) of a type; ends the program for one that is not in SL_TYPES. */
size_t random_blocks_bytes(sl_type type, uint64_t n);
/* Fills them; the root of the mean square of the values is about `rms`. A type without a rule here ends the program. */
void random_blocks(sl_type type, uint64_t n, double rms, uint64_t *state, void *to);

/* The half next to x, towards zero; |x| < 65504. */
uint16_t random_half(double x);

/* Every matrix type of this build, ending with -1. */
extern const int random_block_types[];
/* "Q4_K" */
const char *random_block_name(sl_type type);

#endif
