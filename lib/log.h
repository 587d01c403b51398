/* SPDX-License-Identifier: MIT */
/* log.h - log lines go to the host's callback, or nowhere. */
#ifndef SL_LOG_H
#define SL_LOG_H

#include "status.h"
#include <spacellama/host.h>

typedef struct sl_log {
    sl_log_fn fn;
    void *user;
} sl_log;

/* One line; integers and strings only, as for sl_fail. Called from the thread that entered the library. `log` may be NULL. */
void sl_log_line(const sl_log *log, int32_t level, const char *format, ...) SL_PRINTF(3, 4);

#endif
