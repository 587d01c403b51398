/* SPDX-License-Identifier: MIT */
/* rows.h - how a row of a table is left out of a build.
 *
 * Every set of things is an X-list, and each of its rows stands in SL_ROW(NAME, ...). Compiled with -DSL_WITH_NAME=0 (meson:
 * -Dwithout=NAME,...) the row vanishes from the tables; the enumerations keep their numbers. Undefined means 1. */
#ifndef SL_ROWS_H
#define SL_ROWS_H

#define SL_ROW(name, ...) SL_ROW_VALUE_(SL_WITH_##name, __VA_ARGS__)
#define SL_ROW_VALUE_(value, ...) SL_ROW_PICK_(value, __VA_ARGS__)
#define SL_ROW_PICK_(value, ...) SL_ROW_SECOND_(SL_ROW_OFF_##value, SL_ROW_KEEP_, ~)(__VA_ARGS__)
#define SL_ROW_SECOND_(...) SL_ROW_SECOND2_(__VA_ARGS__)
#define SL_ROW_SECOND2_(a, b, ...) b
#define SL_ROW_OFF_0 , SL_ROW_DROP_
#define SL_ROW_KEEP_(...) __VA_ARGS__
#define SL_ROW_DROP_(...)

#endif
