/* SPDX-License-Identifier: MIT */
/* check.h - what tests check with: cmocka, the statuses of the library; and bytes as a source. */
#ifndef SL_TESTS_CHECK_H
#define SL_TESTS_CHECK_H

#include <setjmp.h>     /* these four are for cmocka */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <spacellama/model.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* The call must return this status, or SL_OK. */
#define OK(call) STATUS(call, SL_OK)
#define STATUS(call, status) check_status(call, status, #call, __FILE__, __LINE__)
static inline void check_status(sl_status got, sl_status wanted, const char *call, const char *file, int line)
{
    if (got != wanted)
        fail_msg("%s:%d: %s: %s (%s), expected %s", file, line, call, sl_status_name(got), sl_last_error(), sl_status_name(wanted));
}

/* Bytes of a model as a source. */
static inline sl_source source_of(const void *data, uint64_t length) { return (sl_source) { .size = sizeof(sl_source), .data = data, .length = length }; }

#endif
