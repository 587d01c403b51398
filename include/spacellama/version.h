/* SPDX-License-Identifier: MIT */
/** @file version.h
 *  Version of the interface, and the export marks.
 *
 *  Programs built against one SL_API_MAJOR run with every library of the same major: functions, values and
 *  structure members are only ever added. The soname is made from it. While it is 0 nothing is promised yet. */
#ifndef SPACELLAMA_VERSION_H
#define SPACELLAMA_VERSION_H

#include <stddef.h>
#include <stdint.h>

/** Interface major: the number in the soname. Changes when an existing program would break. */
#define SL_API_MAJOR 0
/** Interface minor: raised when something is added. */
#define SL_API_MINOR 1
/** Patch level: raised when only behaviour is mended. */
#define SL_API_PATCH 0

/** Marks what the shared library exports; everything else is hidden. */
#ifndef SL_API
#if defined(__GNUC__)
#define SL_API __attribute__((visibility("default")))
#else
#define SL_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Version of the library that is running, "major.minor.patch". Static text. Any thread. Since 0.1. */
SL_API const char *sl_version(void);

/** Number of the canonical arithmetic (docs/numerics.md). Two libraries with the same number give the same bits for
 *  the same model, prompt and cache type, whatever the CPU; it is raised whenever one step of it changes.
 *  Any thread. Since 0.1. */
SL_API uint32_t sl_numerics_id(void);

#ifdef __cplusplus
}
#endif
#endif
