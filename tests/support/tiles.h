/* SPDX-License-Identifier: MIT */
/* tiles.h - the tile registers of AMX for machines that have none, so that the kernels which the library ships run there as they are: their instructions raise
 * SIGILL, whose handler does what the processor would have done and goes on behind them.
 *
 * A test that links this is linked with --wrap for cpu_features and cpu_permitted (backends/cpu/cpu.h): the library sees level amx on every machine that has
 * avx512vnni, and need not know why. Where the processor has tiles, or not even AVX-512 (qemu-user, valgrind), nothing is changed. */
#ifndef SL_TESTS_TILES_H
#define SL_TESTS_TILES_H

#include <stdint.h>

/* 1: this machine's tiles are those of tiles.c. Known from the first call of cpu_features() on. */
int tiles_are_emulated(void);
/* Instructions done so far, of all threads. X(name) */
#define TILES_KINDS(X) X(CONFIG) X(KEEP) X(RELEASE) X(ZERO) X(LOAD) X(STORE) X(SSD) X(SUD) X(USD) X(UUD) X(BF16)
enum tiles_kind {
#define TILES_ENUM_(name) TILES_##name,
    TILES_KINDS(TILES_ENUM_)
#undef TILES_ENUM_
    TILES_N_KINDS
};
uint64_t tiles_done(enum tiles_kind kind);
/* Times that the handler was entered: tile instructions that follow each other directly are done at once. */
uint64_t tiles_traps(void);

#endif
