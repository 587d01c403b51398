/* SPDX-License-Identifier: MIT */
/* vocab_build.h - small vocabularies for tests, made as files and read back by the library. */
#ifndef SL_TESTS_VOCAB_BUILD_H
#define SL_TESTS_VOCAB_BUILD_H

#include "gguf.h"
#include "log.h"
#include "tokenizer.h"

/* What a vocabulary is made of. Members that are NULL or 0 stay out of the file, except texts. */
typedef struct vocab_recipe {
    const char *model, *pre, *name;     /* tokenizer.ggml.model and .pre, general.name */
    const sl_text *texts;
    size_t n_texts;
    const int32_t *kinds;
    const float *scores;
    const sl_text *merges;              /* always written for model gpt2 */
    size_t n_merges;
    int bos, eos, unknown;              /* id + 1 */
    int add_bos, add_eos, space_prefix; /* 1: true, -1: false */
} vocab_recipe;

/* An open vocabulary with everything it hangs on. */
typedef struct vocab_test {
    unsigned char *data;
    size_t size;
    sl_mem mem;
    sl_gguf gguf;
    int parsed;
    sl_vocab *vocab;
    int n_warnings;                     /* lines of level WARN while it was read */
} vocab_test;

/* Opens the vocabulary of a file of `size` bytes, which it takes over (it was made by malloc). The status is that of sl_vocab_create. A file
 * that is no GGUF ends the program. In every case vocab_close must follow. */
sl_status vocab_open(vocab_test *test, const sl_mem *mem, unsigned char *data, size_t size, const char *pre);
/* The same for a recipe. */
sl_status vocab_make(vocab_test *test, const sl_mem *mem, const vocab_recipe *recipe);
void vocab_close(vocab_test *test);

/* Byte-level pairs with the 256 bytes as ids 0 .. 255 and then these tokens (text in the byte alphabet, kind) and merges; `pre` and `name` may be NULL. */
typedef struct vocab_extra { const char *text; int32_t kind; } vocab_extra;
sl_status vocab_make_bytes(vocab_test *test, const sl_mem *mem, const char *pre, const char *name, const vocab_extra *tokens, size_t n_tokens, const char *const *merges, size_t n_merges);
/* Scored pieces: 0 <unk>, 1 <s>, 2 </s>, 3 .. 258 the bytes <0x00> .. <0xFF>, then these. */
typedef struct vocab_piece { const char *text; float score; int32_t kind; } vocab_piece;
sl_status vocab_make_pieces(vocab_test *test, const sl_mem *mem, int space_prefix, const vocab_piece *pieces, size_t n_pieces);

#endif
