/* SPDX-License-Identifier: MIT */
/* tiles.h - AMX where the compiler has to know that memory is read and written: gcc 12 does not know it of its own functions (_tile_loadd, ...), which
 * kernels use between fences. */
#ifndef CPU_TILES_H
#define CPU_TILES_H

/* Reads all 64 bytes of *config. */
#define TILE_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" : : "m"(*(config)) : "memory")
#define TILE_RELEASE() __asm__ volatile("tilerelease" : : : "memory")
#define TILE_LOAD(tile, from, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(tile, to, stride) __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"((size_t)(stride)) : "memory")
/* Of bf16: sums += rows x weights. */
#define TILE_PRODUCT(sums, rows, weights) __asm__ volatile("tdpbf16ps %%tmm" #weights ", %%tmm" #rows ", %%tmm" #sums : : : "memory")

#endif
