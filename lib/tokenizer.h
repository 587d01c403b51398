/* SPDX-License-Identifier: MIT */
/* tokenizer.h - vocabularies: text to ids and back. Two kinds (scored pieces, byte-level pairs) behind one interface. */
#ifndef SL_TOKENIZER_H
#define SL_TOKENIZER_H

#include "gguf.h"
#include "log.h"
#include <spacellama/tokenizer.h>

/* An immutable vocabulary; any number of threads may use it. Token texts point into the GGUF bytes, which must outlive it. */
typedef struct sl_vocab sl_vocab;

/* Reads tokenizer.* of a file. `pre` overrides tokenizer.ggml.pre unless NULL. *out is NULL with SL_OK if the file has no tokenizer (model none, no_vocab, or no tokenizer keys at all). */
sl_status sl_vocab_create(sl_vocab **out, const sl_mem *mem, const sl_log *log, const sl_gguf *gguf, const char *pre);
void sl_vocab_free(sl_vocab *vocab);
uint32_t sl_vocab_count(const sl_vocab *vocab);

/* As the public functions of <spacellama/tokenizer.h>. */
sl_status sl_vocab_encode(const sl_vocab *vocab, const char *text, size_t length, uint32_t flags, sl_token *ids, size_t capacity, size_t *n_ids);
sl_status sl_vocab_decode(const sl_vocab *vocab, const sl_token *ids, size_t n_ids, uint32_t flags, char *text, size_t capacity, size_t *length);
sl_status sl_vocab_token(const sl_vocab *vocab, sl_token id, sl_token_info *out);   /* fills the whole current structure */
sl_token sl_vocab_special(const sl_vocab *vocab, const char *role);
/* The token that this text spells: a control token or a user-defined one. SL_TOKEN_NONE if the vocabulary has none. */
sl_token sl_vocab_spelled(const sl_vocab *vocab, const char *text, size_t length);
int sl_vocab_is_end(const sl_vocab *vocab, sl_token id);

/* Streaming decoder over a vocabulary, see sl_decoder in the public header. */
typedef struct sl_stream sl_stream;
sl_status sl_stream_create(sl_stream **out, const sl_mem *mem, const sl_vocab *vocab, uint32_t flags, uint32_t first);
void sl_stream_free(sl_stream *stream);
sl_status sl_stream_push(sl_stream *stream, sl_token id, const char **text, size_t *length);
sl_status sl_stream_flush(sl_stream *stream, const char **text, size_t *length);

#endif
