/* SPDX-License-Identifier: MIT */
/* log.c - formats a line and hands it to the host. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

void sl_log_line(const sl_log *log, int32_t level, const char *format, ...)
{
    if (!log || !log->fn)
        return;
    char line[512];
    va_list args;
    va_start(args, format);
    if (vsnprintf(line, sizeof line, format, args) >= 0)
        log->fn(level, line, log->user);
    va_end(args);
}
