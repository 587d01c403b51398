/* SPDX-License-Identifier: MIT */
/* lookup.h - drafts from the text so far: what followed the last words when they stood there before. */
#ifndef SL_LOOKUP_H
#define SL_LOOKUP_H

#include <spacellama/tokenizer.h>

/* The timeline text[n] goes on with `next`. Writes up to `most` tokens that may follow it, and returns how many: those behind the latest earlier place with the
 * same 3 last tokens, else the same 2, else the same one. Ids from n_vocab on end a draft. Takes time linear in n. */
size_t sl_lookup(const sl_token *text, size_t n, sl_token next, uint32_t n_vocab, size_t most, sl_token *draft);

#endif
