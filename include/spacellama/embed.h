/* SPDX-License-Identifier: MIT */
/** @file embed.h
 *  Texts as vectors: what a model makes of their tokens, one row of n_embd numbers each, to be compared with each other.
 *
 *  The vector of a token is the last hidden state behind the last norm, which logits are made of otherwise; that of a text is the mean of those of its tokens, or
 *  that of its last one. The same bits for every number of threads, for every batch size, and whatever other texts stand beside it (docs/numerics.md). */
#ifndef SPACELLAMA_EMBED_H
#define SPACELLAMA_EMBED_H

#include "sequence.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SL_EMBED_RAW 1u         /**< vectors stay as long as they are */

/** How to embed. Zero (or NULL) means the default. */
typedef struct sl_embed_options {
    size_t size;                /**< sizeof(sl_embed_options) */
    /** What a text's vector is made of: "mean" of its tokens; "last": its last token, which alone has seen all of them; "none": every token keeps its own. NULL: what the file says
     *  ("<architecture>.pooling_type" 1: mean, 3: last), and "mean" where it says nothing or none. */
    const char *pooling;
    uint32_t flags;             /**< SL_EMBED_RAW; 0: every vector is divided by its length (one of zeros stays so), so the product of two is their cosine */
    uint32_t reserved;          /**< 0 */
} sl_embed_options;

/** Initializer: all defaults. */
#define SL_EMBED_OPTIONS_INIT { sizeof(sl_embed_options) }
/** Writes the defaults into a structure of `size` bytes. Since 0.1. */
SL_API sl_status sl_embed_options_default(sl_embed_options *out, size_t size);

/** The vectors of n_texts texts. Text i is the next lengths[i] of ids, at least one; `out` receives a row of n_embd floats for each text, or with "none" for each token, in their order,
 *  and n_rows says how many rows it has room for. Texts are computed side by side, in passes of at most n_batch tokens, in those sequences of the session that are empty (no token, no
 *  waiting picture); these are empty again afterwards, and the others are not touched. Several short texts want sl_session_options.n_seq.
 *
 *  SL_ERR_STATE: no sequence is empty, or a token wants a picture; SL_ERR_FULL: a text is longer than the context or does not fit into the free pages; SL_ERR_RANGE: a token that does not
 *  exist; SL_ERR_ARGUMENT: a text without tokens, or no such pooling; SL_ERR_BUFFER: too few rows; SL_ERR_UNSUPPORTED: the file says another pooling than those, and the options none;
 *  SL_ERR_NOMEM; SL_ERR_CANCELLED. Then `out` holds nothing of use. Takes memory for the rows of one pass while it runs. Since 0.1. */
SL_API sl_status sl_session_embed(sl_session *session, const sl_token *ids, const size_t *lengths, size_t n_texts, const sl_embed_options *options, float *out, size_t n_rows);

#ifdef __cplusplus
}
#endif
#endif
