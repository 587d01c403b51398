/* SPDX-License-Identifier: MIT */
/** @file session.h
 *  Sessions: a timeline of tokens, its key/value cache, and the logits that follow it. Several timelines in one session: sequence.h.
 *
 *  A session is used by one thread at a time; only sl_session_cancel() may come from any thread. Sessions of one model share its
 *  worker pool: a pass waits until another session's pass is over. Memory is taken when the session is created,
 *  and none while tokens are computed; each picture takes its own, and sl_generate() and sl_session_embed() a little at their beginning. */
#ifndef SPACELLAMA_SESSION_H
#define SPACELLAMA_SESSION_H

#include "image.h"
#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One or several timelines. Opaque. */
typedef struct sl_session sl_session;

/** How to open a session. Zero (or NULL) means the default. */
typedef struct sl_session_options {
    size_t size;                /**< sizeof(sl_session_options) */
    uint32_t n_ctx;             /**< positions; 0: the smaller of the trained context and 4096 */
    uint32_t n_batch;           /**< most tokens of one forward pass; 0: 512. The result is the same bits for every value */
    const char *cache_type;     /**< "f16" (default), "f32"; "bf16": queries and weights are rounded to bf16, too; "q8_0": 8 bits and a scale per 32 numbers, a
                                     little more than half the memory of "f16", for heads of a multiple of 32 (else SL_ERR_UNSUPPORTED) */
    uint32_t n_seq;             /**< sequences, at most SL_LIMIT_SEQUENCES; 0: 1. See sequence.h */
    uint32_t n_ctx_shared;      /**< positions of the cache, for all sequences together, at least n_ctx; 0: as many as all of them can have, n_seq * n_ctx */
} sl_session_options;

/** Initializer: all defaults. */
#define SL_SESSION_OPTIONS_INIT { sizeof(sl_session_options) }
/** Writes the defaults into a structure of `size` bytes. Since 0.1. */
SL_API sl_status sl_session_options_default(sl_session_options *out, size_t size);

/** Opens a session; it holds a reference to the model. *out is NULL on failure. Since 0.1. */
SL_API sl_status sl_session_create(sl_session **out, sl_model *model, const sl_session_options *options);
/** Frees. NULL is fine. Since 0.1. */
SL_API void sl_session_free(sl_session *session);

/** Appends n_ids tokens to the timeline and computes them, in passes of at most n_batch.
 *  Writes the logits after the last `n_rows` of them to `logits`: n_rows rows of n_vocab floats, oldest first; n_rows 0 (logits may be NULL)
 *  computes none, 1 what follows the text, n_ids all. A token id out of range is SL_ERR_RANGE; one that does not fit the context
 *  SL_ERR_FULL; both leave the session as it was. After SL_ERR_CANCELLED or a fault the passes that were completed stay: see sl_session_length().
 *  Since 0.1. */
SL_API sl_status sl_session_eval(sl_session *session, const sl_token *ids, size_t n_ids, float *logits, size_t n_rows);

/** The ids that stand for a picture in a text: the image token of Llama 3.2 Vision; for Llama 4 as many image tokens (sl_model_info.image_token) as the picture has vectors, between the
 *  tokens that mark tiles, rows and ends; for LLaVA as many and nothing else. sl_chat_encode() puts them where a picture is a part of a message. Writes at most `capacity` ids and sets *n_ids to the
 *  number of all; SL_ERR_BUFFER if that is more (ids may be NULL when capacity is 0). SL_ERR_UNSUPPORTED if the model takes no pictures. Any thread. Since 0.1. */
SL_API sl_status sl_image_encode(const sl_model *model, const sl_image *image, sl_token *ids, size_t capacity, size_t *n_ids);

/** Encodes a picture and keeps what the text will look at. The picture belongs to the next image token (sl_model_info.image_token) that
 *  sl_session_eval() or sl_generate() appends and that has none yet: pictures are added in the order of their tokens, before them. An image token without
 *  a picture is SL_ERR_STATE, and the session is unchanged. SL_ERR_UNSUPPORTED if the model takes no pictures; SL_ERR_NOMEM, SL_ERR_CANCELLED:
 *  nothing was added. The picture is not needed afterwards. Since 0.1. */
SL_API sl_status sl_session_add_image(sl_session *session, const sl_image *image);
/** Pictures that the session holds: those of the timeline, and those that wait for their token. 0 for NULL. Since 0.1. */
SL_API size_t sl_session_images(const sl_session *session);

/** Tokens in the timeline. 0 for NULL. Since 0.1. */
SL_API size_t sl_session_length(const sl_session *session);
/** Positions of the context. 0 for NULL. Since 0.1. */
SL_API size_t sl_session_capacity(const sl_session *session);
/** The tokens of the timeline; valid until the session changes. NULL when it is empty. Since 0.1. */
SL_API const sl_token *sl_session_tokens(const sl_session *session);
/** Goes back to the first `length` tokens; what follows is forgotten, with its pictures and those that wait for their token. SL_ERR_RANGE if there are fewer. Since 0.1. */
SL_API sl_status sl_session_rewind(sl_session *session, size_t length);

/** Goes back to the longest beginning of the timeline that ids[n_ids] begins with too, but for the last of them: what is left to append, from ids[*n_kept]
 *  on, is at least one token, for its logits. So a prompt that repeats what was said before is computed from where it differs. Only what the tokens would give if they were
 *  computed now is kept: nothing behind a shift (sl_seq_shift()). Pictures of the tokens that stay stay (equal image tokens are taken for equal pictures); those that
 *  wait for their token still wait. Since 0.1. */
SL_API sl_status sl_session_keep_prefix(sl_session *session, const sl_token *ids, size_t n_ids, size_t *n_kept);

/** Asks the call that is running on the session to stop: it returns SL_ERR_CANCELLED within 50 ms. The request stays until a call
 *  has obeyed it or sl_session_rewind() clears it. Any thread. NULL is fine. Since 0.1. */
SL_API void sl_session_cancel(sl_session *session);

/** The model of the session, without a new reference. NULL for NULL. Since 0.1. */
SL_API sl_model *sl_session_model(const sl_session *session);

/** What a session has done since it was created. */
typedef struct sl_session_stats {
    size_t size;            /**< sizeof(sl_session_stats) */
    uint64_t n_passes;      /**< forward passes */
    uint64_t n_tokens;      /**< tokens computed */
    uint64_t n_threads;     /**< threads that took part in at least one piece of work */
    uint64_t busy_ns;       /**< nanoseconds inside passes */
    uint64_t cache_bytes;   /**< memory of the key/value cache */
    uint64_t compute_bytes; /**< memory of the arena: all intermediate results of one pass */
    uint64_t n_images;      /**< pictures encoded */
    uint64_t image_ns;      /**< nanoseconds spent on them */
    uint64_t image_bytes;   /**< memory of what the session holds of pictures */
    uint64_t image_encode_ns;   /**< of image_ns, those of the encoder, its projector included */
    uint64_t image_keys_ns;     /**< of image_ns, those of the keys and values that layers of the text look at */
} sl_session_stats;

/** Fills `out`. Since 0.1. */
SL_API sl_status sl_session_get_stats(const sl_session *session, sl_session_stats *out);
/** Label of the index-th implementation that ran, such as "matmul/q4_k/avx512"; NULL past the end. Static text. Since 0.1. */
SL_API const char *sl_session_label(const sl_session *session, size_t index);

#ifdef __cplusplus
}
#endif
#endif
