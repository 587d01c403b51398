/* SPDX-License-Identifier: MIT */
/** @file sequence.h
 *  Several timelines in one session, computed together.
 *
 *  A session has sl_session_options.n_seq sequences, numbered from 0. They share one cache, which is handed out in pages of SL_PAGE_POSITIONS positions; a sequence that
 *  was copied from another shares its pages until one of them writes there. Calls without a number of a sequence (session.h, sl_generate()) mean sequence 0.
 *  A sequence gives the same bits alone, beside others, and copied. A number that is too large is SL_ERR_RANGE. The rules of session.h about threads hold. */
#ifndef SPACELLAMA_SEQUENCE_H
#define SPACELLAMA_SEQUENCE_H

#include "session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Positions of a page of the cache. */
#define SL_PAGE_POSITIONS 64

/** Appends n_ids tokens, ids[i] to sequence seqs[i], and computes them in passes of at most n_batch. The tokens of a sequence follow each other in the order
 *  in which they stand here; with what other sequences' tokens they are mixed does not matter for the result, but those of one sequence are best side by side.
 *  `logits` receives a row of n_vocab floats for each token whose wanted[i] is not 0, in their order; `wanted` NULL: none. SL_ERR_RANGE: a token or sequence that
 *  does not exist; SL_ERR_FULL: a sequence would be longer than the context, or the cache has too few free pages; SL_ERR_STATE: an image token without a picture. These
 *  leave all sequences as they were. After SL_ERR_CANCELLED or a fault the passes that were completed stay: see sl_seq_length(). Since 0.1. */
SL_API sl_status sl_session_eval_batch(sl_session *session, const sl_token *ids, const uint32_t *seqs, const uint8_t *wanted, size_t n_ids, float *logits);

/** Sequences of the session. 0 for NULL. Since 0.1. */
SL_API uint32_t sl_session_sequences(const sl_session *session);
/** Positions for which the cache has free pages: whole pages. 0 for NULL. Since 0.1. */
SL_API size_t sl_session_free_positions(const sl_session *session);

/** Tokens of a sequence. 0 for NULL, or for one that does not exist. Since 0.1. */
SL_API size_t sl_seq_length(const sl_session *session, uint32_t seq);
/** The tokens themselves; valid until the session changes. NULL when there are none. Since 0.1. */
SL_API const sl_token *sl_seq_tokens(const sl_session *session, uint32_t seq);
/** Pictures that a sequence holds, those that wait for their token too. Since 0.1. */
SL_API size_t sl_seq_images(const sl_session *session, uint32_t seq);

/** As sl_session_add_image(), for a sequence. SL_LIMIT_IMAGES is for all sequences together; a picture that copies share counts once. Since 0.1. */
SL_API sl_status sl_seq_add_image(sl_session *session, uint32_t seq, const sl_image *image);
/** As sl_session_rewind(), for a sequence: 0 removes it. Pages that no other sequence holds are free again. Since 0.1. */
SL_API sl_status sl_seq_rewind(sl_session *session, uint32_t seq, size_t length);
/** As sl_session_keep_prefix(), for a sequence. Since 0.1. */
SL_API sl_status sl_seq_keep_prefix(sl_session *session, uint32_t seq, const sl_token *ids, size_t n_ids, size_t *n_kept);
/** Sequence `to` becomes the first `length` tokens of `from`, with their pictures; what it was is forgotten. Nothing is computed, and no memory of the cache
 *  is taken: the pages are shared, and a sequence that goes on within a shared page takes a copy of that one first (of the cache's free pages: SL_ERR_FULL comes then). SL_ERR_RANGE if
 *  `from` is shorter; SL_ERR_ARGUMENT if both are the same sequence. On failure nothing has changed. Since 0.1. */
SL_API sl_status sl_seq_copy(sl_session *session, uint32_t from, uint32_t to, size_t length);
/** Takes `discard` tokens out behind the first `keep`, and moves all later ones back by as many positions: so a text goes on when the context is full. What is left is not computed again. Keys are turned from
 *  their old positions to the new ones, and rounded to the type of the cache once more; and the tokens that stay were computed when they could see those that go. So what follows is *not* the text that the remaining
 *  tokens would give if they were computed, and the promise of equal bits ends here: it still holds between machines, threads and CPU levels that shift at the same place, not between different ways to cut a text into calls.
 *  What is kept or shared of a beginning (sl_seq_keep_prefix(), `reuse`) ends there, too.
 *  Shared pages are copied first (SL_ERR_FULL if there are too few). SL_ERR_RANGE: there are not so many tokens; SL_ERR_UNSUPPORTED: the sequence holds pictures. These change nothing; if a
 *  backend fails half way, the first `keep` tokens are left. Since 0.1. */
SL_API sl_status sl_seq_shift(sl_session *session, uint32_t seq, size_t keep, size_t discard);
/** Removes all sequences but this one. Since 0.1. */
SL_API sl_status sl_seq_keep(sl_session *session, uint32_t seq);

#ifdef __cplusplus
}
#endif
#endif
