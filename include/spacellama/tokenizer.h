/* SPDX-License-Identifier: MIT */
/** @file tokenizer.h
 *  Text to token ids and back. Works on every model that has a vocabulary, also one loaded with SL_PARTS_VOCABULARY.
 *  All calls may be made by any number of threads at once.
 *
 *  Vocabularies: scored pieces (`tokenizer.ggml.model` = llama) and byte-level pairs (gpt2). Pre-tokenizer names:
 *  llama-bpe (llama3, llama-v3, smaug-bpe), llama4 (gpt-4o), gpt-2, tekken, default. A file that names another one is
 *  refused with that name; sl_model_options.pre overrides it. */
#ifndef SPACELLAMA_TOKENIZER_H
#define SPACELLAMA_TOKENIZER_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A token id: 0 .. n_vocab - 1. */
typedef int32_t sl_token;

/** No token. */
#define SL_TOKEN_NONE (-1)

#define SL_ENCODE_ADD_SPECIAL 1u    /**< bos in front and eos behind, as the file's add_bos_token and add_eos_token say */
#define SL_ENCODE_PARSE_SPECIAL 2u  /**< text that spells a control token becomes that token. Off: it stays text (user input) */

/** Turns `length` bytes of text (UTF-8; NUL and invalid bytes are allowed) into ids. Writes at most `capacity` ids and
 *  sets *n_ids to the number that the whole text has; SL_ERR_BUFFER if that is more than capacity (ids may be NULL when capacity is 0).
 *  Time is linear in length up to a factor log(length), the stack is bounded. Since 0.1. */
SL_API sl_status sl_encode(const sl_model *model, const char *text, size_t length, uint32_t flags,
                           sl_token *ids, size_t capacity, size_t *n_ids);

#define SL_DECODE_SPECIAL 1u        /**< control and unknown tokens give their text; off: nothing */
#define SL_DECODE_KEEP_SPACE 2u     /**< keep the space that encoding put in front of the first piece; off: it is dropped */

/** Turns ids into bytes: the concatenated pieces. Writes at most `capacity` bytes (no terminator) and sets *length to the whole
 *  number; SL_ERR_BUFFER if that is more. An id out of range is SL_ERR_RANGE. Since 0.1. */
SL_API sl_status sl_decode(const sl_model *model, const sl_token *ids, size_t n_ids, uint32_t flags,
                           char *text, size_t capacity, size_t *length);

/** Streaming decoder: pieces go in one by one, whole UTF-8 sequences come out. One thread at a time. Opaque. */
typedef struct sl_decoder sl_decoder;

/** A new decoder. `first` 1: the text begins with its first piece (a leading space is dropped where the vocabulary adds one);
 *  0: it continues a prompt. Holds a reference to the model. Since 0.1. */
SL_API sl_status sl_decoder_create(sl_decoder **out, sl_model *model, uint32_t flags, uint32_t first);
/** Frees. NULL is fine. Since 0.1. */
SL_API void sl_decoder_free(sl_decoder *decoder);
/** Adds a token; *text and *length are what can be shown now: no sequence is ever split, bytes that are no UTF-8 come out as U+FFFD.
 *  The text belongs to the decoder until its next call. Since 0.1. */
SL_API sl_status sl_decoder_push(sl_decoder *decoder, sl_token id, const char **text, size_t *length);
/** Hands out what is left (an unfinished sequence as U+FFFD) and starts anew. Since 0.1. */
SL_API sl_status sl_decoder_flush(sl_decoder *decoder, const char **text, size_t *length);

/** Kinds of tokens, numbered as in GGUF. */
enum {
    SL_TOKEN_NORMAL = 1,        /**< text */
    SL_TOKEN_UNKNOWN = 2,       /**< stands for what has no token */
    SL_TOKEN_CONTROL = 3,       /**< steers the model; matched only when parsing special tokens */
    SL_TOKEN_USER_DEFINED = 4,  /**< always matched in text */
    SL_TOKEN_UNUSED = 5,        /**< never produced */
    SL_TOKEN_BYTE = 6           /**< one byte */
};

/** What is known of one token. */
typedef struct sl_token_info {
    size_t size;            /**< sizeof(sl_token_info) */
    const char *text;       /**< as stored in the file, not terminated; lives as long as the model */
    size_t length;          /**< bytes of text */
    int32_t kind;           /**< SL_TOKEN_NORMAL .. SL_TOKEN_BYTE */
    uint32_t end;           /**< 1: ends a generation */
    float score;            /**< 0 where the file has none */
    uint32_t reserved;      /**< 0 */
} sl_token_info;

/** Describes a token; SL_ERR_RANGE for an id that does not exist. Since 0.1. */
SL_API sl_status sl_token_get_info(const sl_model *model, sl_token id, sl_token_info *out);
/** Id of a special token by role: "bos", "eos", "eot", "eom", "unknown", "padding", "separator". SL_TOKEN_NONE if the vocabulary has none. Since 0.1. */
SL_API sl_token sl_token_special(const sl_model *model, const char *role);
/** 1 if the token ends a generation (eos, eot, eom and their kin), else 0. Since 0.1. */
SL_API int32_t sl_token_is_end(const sl_model *model, sl_token id);

#ifdef __cplusplus
}
#endif
#endif
