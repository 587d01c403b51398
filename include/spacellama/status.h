/* SPDX-License-Identifier: MIT */
/** @file status.h
 *  What a call answers: a status, and a sentence that names the place and the reason. */
#ifndef SPACELLAMA_STATUS_H
#define SPACELLAMA_STATUS_H

#include "version.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Result of every call that can fail: SL_OK (0) or one of the negative values below. */
typedef int32_t sl_status;

/** All status values: X(NAME, value, meaning). The values are pinned for ever; new ones are appended. */
#define SL_STATUS_LIST(X)                                                                                               \
    X(OK, 0, "success")                                                                                                 \
    X(ERR_ARGUMENT, -1, "an argument is invalid (NULL, out of range, contradictory)")                                   \
    X(ERR_NOMEM, -2, "memory could not be allocated")                                                                   \
    X(ERR_IO, -3, "reading, writing or opening failed")                                                                 \
    X(ERR_MAGIC, -4, "not a file of the expected kind")                                                                 \
    X(ERR_VERSION, -5, "a version that this library does not read")                                                     \
    X(ERR_TRUNCATED, -6, "the data end too early")                                                                      \
    X(ERR_LIMIT, -7, "a published limit is exceeded")                                                                   \
    X(ERR_DUPLICATE, -8, "a name that must be unique occurs twice")                                                     \
    X(ERR_TYPE, -9, "a value has the wrong type")                                                                       \
    X(ERR_RANGE, -10, "a value is outside its legal range")                                                             \
    X(ERR_OVERFLOW, -11, "a size does not fit the address space")                                                       \
    X(ERR_BOUNDS, -12, "a length or an offset points outside the data")                                                 \
    X(ERR_ALIGNMENT, -13, "an offset or an alignment is illegal")                                                       \
    X(ERR_SHAPE, -14, "the shape of a tensor or the length of an array is wrong")                                       \
    X(ERR_MISSING, -15, "something required is absent")                                                                 \
    X(ERR_SYNTAX, -16, "text does not follow its grammar")                                                              \
    X(ERR_UTF8, -17, "text is not valid in its encoding")                                                               \
    X(ERR_DEPTH, -18, "nesting is too deep")                                                                            \
    X(ERR_CHECKSUM, -19, "data do not match their checksum")                                                            \
    X(ERR_UNSUPPORTED, -20, "valid, but not supported by this build or machine")                                        \
    X(ERR_NONFINITE, -21, "a number is infinite or not a number")                                                       \
    X(ERR_STATE, -22, "the call does not fit the state of the object")                                                  \
    X(ERR_CANCELLED, -23, "a callback or another thread asked to stop")                                                 \
    X(ERR_FULL, -24, "the context is full; the session is unchanged")                                                   \
    X(ERR_BUFFER, -25, "the caller's buffer is too small; the needed size was reported")                                \
    X(ERR_BACKEND, -26, "a backend or its module failed")                                                               \
    X(ERR_INTERNAL, -27, "the library contradicts itself; please report it")

#ifndef DOXYGEN
#define SL_STATUS_ENUM_(name, value, text) SL_##name = value,
#endif
/** Names of the status values (SL_OK, SL_ERR_ARGUMENT, ...); see SL_STATUS_LIST for their meaning. */
enum { SL_STATUS_LIST(SL_STATUS_ENUM_) SL_STATUS_LAST_ = -27 };

/** Name of a status, for instance "ERR_TRUNCATED"; "unknown status" for other numbers. Static text. Any thread. Since 0.1. */
SL_API const char *sl_status_name(sl_status status);

/** The sentence that the last failing call of this thread left: "file: place: reason". Never NULL; empty before the
 *  first failure; successful calls leave it alone. It belongs to the library and lives until this thread's next call that fails. Since 0.1. */
SL_API const char *sl_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
