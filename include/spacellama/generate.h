/* SPDX-License-Identifier: MIT */
/** @file generate.h
 *  One call from prompt to text. */
#ifndef SPACELLAMA_GENERATE_H
#define SPACELLAMA_GENERATE_H

#include "sampler.h"
#include "session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Receives the text as it comes: whole UTF-8 sequences, not terminated, valid during the call; `id` is the token just made
 *  (SL_TOKEN_NONE for what is flushed at the end). Called once for every token but an ending one, with length 0 while nothing of it can be
 *  shown: text that may turn out to be a stop string is held back, and no more than that. A result other than 0 ends the generation. */
typedef int32_t (*sl_text_fn)(const char *text, size_t length, sl_token id, void *user);

#define SL_FINISH_LENGTH 0      /**< max_tokens were made */
#define SL_FINISH_END 1         /**< the model ended its text */
#define SL_FINISH_STOP 2        /**< a stop string came up; it is not part of the text */
#define SL_FINISH_CALLBACK 3    /**< the callback asked to end */
#define SL_FINISH_FULL 4        /**< the context is full, or the cache that sequences share */

/** What to generate. Zero means the default. */
typedef struct sl_generate_options {
    size_t size;                    /**< sizeof(sl_generate_options) */
    uint32_t max_tokens;            /**< 0: until something else ends it */
    uint32_t decode_flags;          /**< SL_DECODE_SPECIAL to see control tokens */
    sl_sampler *sampler;            /**< NULL: greedy */
    const char *const *stop;        /**< n_stop strings (UTF-8, terminated, not empty) that end the text */
    size_t n_stop;                  /**< at most 64 */
    sl_text_fn on_text;             /**< or NULL */
    void *user;                     /**< handed to on_text */
    /** Prompt lookup: up to so many tokens (at most 64) that followed the same words earlier in the timeline are computed along with each new one, and kept as
     *  far as the sampler chooses them. The text is the same as without, to the last token; where it repeats itself it comes faster. 0: off. */
    uint32_t lookup;
    uint32_t reuse;                 /**< 1: the prompt is the whole timeline, and what the session already holds of it is not computed again (sl_session_keep_prefix()); 0: it is appended */
    /** Not 0: when the context is full, the first `shift` tokens stay, the older half of the others is taken out (sl_seq_shift(), which says what that means for the text), and it goes on. At most
     *  the context less 2. A timeline with pictures, and one whose pages run out, ends all the same. */
    uint32_t shift;
    uint32_t reserved;              /**< 0 */
} sl_generate_options;

/** Initializer: all defaults. */
#define SL_GENERATE_OPTIONS_INIT { sizeof(sl_generate_options) }
/** Writes the defaults into a structure of `size` bytes. Since 0.1. */
SL_API sl_status sl_generate_options_default(sl_generate_options *out, size_t size);

/** How it went. */
typedef struct sl_generate_result {
    size_t size;            /**< sizeof(sl_generate_result) */
    uint32_t finish;        /**< SL_FINISH_... */
    uint32_t n_prompt;      /**< tokens of the prompt computed by this call */
    uint32_t n_tokens;      /**< tokens made, an ending token included */
    uint32_t n_drafts;      /**< tokens that lookup proposed ... */
    uint64_t prompt_ns;     /**< nanoseconds until the first token was chosen */
    uint64_t decode_ns;     /**< nanoseconds for the others */
    uint32_t n_accepted;    /**< ... and how many of them were chosen */
    uint32_t n_kept;        /**< with reuse: tokens of the prompt that were there already */
} sl_generate_result;

/** Computes the prompt's n_ids tokens at the end of the session's timeline, then makes tokens until something ends it. Without a prompt
 *  (n_ids 0, the timeline not empty) the timeline goes on: its last token is computed once more. The tokens made stay
 *  in the timeline (the last one is chosen, not yet computed, unless it ended by length or callback after it). A prompt that does not fit is SL_ERR_FULL with the session unchanged;
 *  and so is one without a prompt if the last token cannot be computed once more; the token that stands for pictures (sl_model_info.image_token) is never chosen;
 *  a context that fills up while generating, or a cache whose pages other sequences hold, ends with SL_FINISH_FULL. `result` may be NULL. Since 0.1. */
SL_API sl_status sl_generate(sl_session *session, const sl_token *prompt, size_t n_ids, const sl_generate_options *options, sl_generate_result *result);

#ifdef __cplusplus
}
#endif
#endif
