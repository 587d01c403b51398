/* SPDX-License-Identifier: MIT */
/* turn.c - one call of OpenBLAS at a time in a process, whatever the number of threads, sessions and models.
 *
 * An OpenBLAS that starts no threads gives out its buffers without a lock that holds: it looks for a free one and takes it in two steps, so that two callers now and then compute in the
 * same memory (0.3.21 of Debian: one product in 60,000 of three threads was wrong, without an error). The lock belongs to that library's state and not to a model; it is the
 * only writable variable of this tree beside the sentence of the last failure. */
#include "blas.h"

#include "platform.h"

static sl_mutex turn = SL_MUTEX_READY;

void blas_turn_take(void) { sl_mutex_lock(&turn); }
void blas_turn_give(void) { sl_mutex_unlock(&turn); }
