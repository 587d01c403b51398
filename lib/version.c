/* SPDX-License-Identifier: MIT */
/* version.c - which library this is: the version of its interface, and the number of its arithmetic. */
#include <spacellama/version.h>

#define SL_STRING_(x) #x
#define SL_STRING(x) SL_STRING_(x)

/* Raised whenever a canonical step of docs/numerics.md changes. */
enum { NUMERICS_ID = 2 };

const char *sl_version(void) { return SL_STRING(SL_API_MAJOR) "." SL_STRING(SL_API_MINOR) "." SL_STRING(SL_API_PATCH); }
uint32_t sl_numerics_id(void) { return NUMERICS_ID; }
