/* SPDX-License-Identifier: MIT */
/** @file host.h
 *  What the program lends the library: memory, a place for log lines, and one for what is written. */
#ifndef SPACELLAMA_HOST_H
#define SPACELLAMA_HOST_H

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Log levels: X(NAME, value). */
#define SL_LOG_LIST(X) X(ERROR, 1) X(WARN, 2) X(INFO, 3) X(DEBUG, 4)
#ifndef DOXYGEN
#define SL_LOG_ENUM_(name, value) SL_LOG_##name = value,
#endif
/** Names of the log levels: SL_LOG_ERROR (1), SL_LOG_WARN (2), SL_LOG_INFO (3), SL_LOG_DEBUG (4). */
enum { SL_LOG_LIST(SL_LOG_ENUM_) SL_LOG_LAST_ = 4 };

/** Receives one log line (no newline at its end; valid only during the call). May be called from any thread that is inside
 *  a call on the model, never from two at once. It must not call back into the library. Without it the library is silent. */
typedef void (*sl_log_fn)(int32_t level, const char *line, void *user);

/** Receives the next bytes of something that the library writes (a state, a quantized model), in their order; other than 0 ends the call with SL_ERR_IO. Called from the calling thread. */
typedef int32_t (*sl_write_fn)(const void *data, uint64_t bytes, void *user);

/** Memory of the host. Every byte that the library takes comes from here; NULL members mean the C library's memory. */
typedef struct sl_allocator {
    size_t size;            /**< sizeof(sl_allocator) */
    /** Returns `bytes` bytes aligned to `alignment` (a power of two, at most 4096), or NULL. Called from several threads at once. */
    void *(*alloc)(size_t bytes, size_t alignment, void *user);
    /** Takes back what alloc gave; `bytes` is the size that was asked for. `block` is never NULL. */
    void (*free)(void *block, size_t bytes, void *user);
    void *user;             /**< handed to both */
} sl_allocator;

#ifdef __cplusplus
}
#endif
#endif
