/* SPDX-License-Identifier: MIT */
/* acts.h - what programs do with the library, one function each: it does it, looks whether it got the right bytes (cmocka's assertions), leaves everything as it found
 * it, and returns the status of the first call that failed. Whatever is needed besides is held with faults.h, so that it never fails. Each needs acts_prepare() before. */
#ifndef SL_TESTS_ACTS_H
#define SL_TESTS_ACTS_H

#include "faults.h"

typedef struct act {
    const char *name;
    sl_status (*run)(void);
    int other_way;              /* 1 << FAULT_...: it may go on without */
} act;

extern const act acts[];        /* ends with a name NULL */

/* Evaluates and samples n tokens, from an empty timeline. */
void acts_make_tokens(int n);

/* Fixtures of a group of tests: models, sessions, pictures and files, all memory from faults_allocator(); what every act gives. The second fails if memory is left. */
int acts_prepare(void **state);
int acts_clean(void **state);

#endif
