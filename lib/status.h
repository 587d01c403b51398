/* SPDX-License-Identifier: MIT */
/* status.h - how the library reports a failure: one call that sets this thread's sentence and returns the status. */
#ifndef SL_STATUS_H
#define SL_STATUS_H

#include <spacellama/status.h>

#if defined(__GNUC__)
#define SL_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define SL_PRINTF(f, a)
#endif

/* Sets the sentence and returns `status`. Integers and strings only: floating-point conversions depend on the locale.
 * Strings that come from a file go through sl_quote(), which makes them short and printable. */
sl_status sl_fail(sl_status status, const char *format, ...) SL_PRINTF(2, 3);

/* Puts "prefix: " in front of this thread's sentence and returns `status`; does nothing for SL_OK. */
sl_status sl_fail_in(sl_status status, const char *prefix);

/* This thread's sentence: kept by a public call that may fail inside and still succeed, and put back in the end, because success leaves it alone. */
enum { SL_SENTENCE_BYTES = 512 };
void sl_sentence_keep(char *to);            /* [SL_SENTENCE_BYTES] */
void sl_sentence_restore(const char *from);

/* A printable copy of at most 60 bytes of foreign text, for messages; `to` must hold SL_QUOTE_BYTES. Returns `to`. */
#define SL_QUOTE_BYTES 72
const char *sl_quote(char *to, const char *text, size_t length);

/* Leaves the enclosing function with the status of `call` unless it is SL_OK. */
#define SL_TRY(call)                                                                                                    \
    do {                                                                                                                \
        sl_status try_status_ = (call);                                                                                 \
        if (try_status_ != SL_OK)                                                                                       \
            return try_status_;                                                                                         \
    } while (0)

#endif
