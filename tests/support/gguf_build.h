/* SPDX-License-Identifier: MIT */
/* gguf_build.h - GGUF files for tests. Files that are wrong on purpose are spelled field by field; right ones come from the library's
 * writer through a buffer. */
#ifndef SL_TESTS_GGUF_BUILD_H
#define SL_TESTS_GGUF_BUILD_H

#include "gguf.h"

typedef struct gguf_bytes {
    unsigned char *data;
    size_t size, capacity;
} gguf_bytes;

/* A sink for sl_gguf_write; user is a gguf_bytes. */
sl_status gguf_bytes_put(const void *data, size_t n, void *user);
void gguf_bytes_free(gguf_bytes *bytes);

/* Bytes from a recipe, words with blanks between them. Numbers are decimal, may be negative, or begin with 0x.
 *   1:N 2:N 4:N 8:N    an integer of that many bytes           x:FF00     bytes in hexadecimal
 *   f:N                N as a 32-bit float                      'text'     bytes (no blank, no quote inside)
 *   s'text'            a string: u64 length, then its bytes    S100:61    a string of 100 bytes 0x61
 *   h:T:K              a head: GGUF, version 3, T tensors, K pairs
 *   r9:00              9 bytes 0x00                            p32        zero bytes up to a multiple of 32
 *   5( ... )           what stands between, 5 times; not nested
 * A recipe with a mistake ends the program. The block is exactly as large as the file, so that a sanitizer sees every step beside it. */
gguf_bytes gguf_build(const char *recipe);

/* A right file: 18 keys with every value type, and the tensors vector (F32 [3]), matrix (F32 [8, 8]: the values below) and bytes (I8 [2, 3, 1, 5]). */
gguf_bytes gguf_build_everything(const sl_mem *mem, uint32_t version, uint64_t alignment);
extern const float gguf_everything_matrix[64];

/* Overwrites n bytes at `at`. */
void gguf_patch(gguf_bytes *bytes, size_t at, const void *data, size_t n);

#endif
