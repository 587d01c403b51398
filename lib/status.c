/* SPDX-License-Identifier: MIT */
/* status.c - names of the status values and the sentence of the last failure, one per thread: the only thing that the
 * library keeps outside its handles. */
#include "status.h"
#include "platform.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static SL_THREAD_LOCAL char sentence[SL_SENTENCE_BYTES];

const char *sl_status_name(sl_status status)
{
    static const struct { sl_status value; const char *name; } names[] = {
#define NAME(name, value, text) { value, #name },
        SL_STATUS_LIST(NAME)
#undef NAME
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].value == status)
            return names[i].name;
    return "unknown status";
}

const char *sl_last_error(void) { return sentence; }

sl_status sl_fail(sl_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (vsnprintf(sentence, sizeof sentence, format, args) < 0)
        sentence[0] = 0;
    va_end(args);
    return status;
}

sl_status sl_fail_in(sl_status status, const char *prefix)
{
    if (status == SL_OK)
        return status;
    size_t n = strlen(prefix), old = strlen(sentence);
    if (n > SL_SENTENCE_BYTES / 2)
        prefix += n - SL_SENTENCE_BYTES / 2, n = SL_SENTENCE_BYTES / 2;      /* of a long path the end tells more */
    if (old > SL_SENTENCE_BYTES - 3 - n)
        old = SL_SENTENCE_BYTES - 3 - n;
    memmove(sentence + n + 2, sentence, old);
    memcpy(sentence, prefix, n);
    memcpy(sentence + n, ": ", 2);
    sentence[n + 2 + old] = 0;
    return status;
}

void sl_sentence_keep(char *to) { memcpy(to, sentence, sizeof sentence); }
void sl_sentence_restore(const char *from) { memcpy(sentence, from, sizeof sentence); }

const char *sl_quote(char *to, const char *text, size_t length)
{
    size_t n = length < 60 ? length : 60;
    for (size_t i = 0; i < n; i++)
        to[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    memcpy(to + n, length > n ? "..." : "", length > n ? 4 : 1);
    return to;
}
