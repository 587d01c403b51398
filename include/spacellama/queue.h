/* SPDX-License-Identifier: MIT */
/** @file queue.h
 *  Requests that come and go, computed together: prompts in, texts out as they are made.
 *
 *  @code
 *  sl_queue *queue;
 *  sl_queue_create(&queue, session, NULL);                     // a session with several sequences
 *  for (each prompt)
 *      sl_queue_submit(queue, ids, n_ids, &options, NULL, 0, NULL);
 *  sl_queue_run(queue);                                        // or sl_queue_step(), and more requests between the steps
 *  for (sl_queue_result r = SL_QUEUE_RESULT_INIT; sl_queue_take(queue, &r) == SL_OK && r.id;)
 *      ...
 *  @endcode
 *
 *  Each step is one pass over the model of at most n_batch tokens: first the next token of every text that is being made, then, with what room is left, pieces of prompts in the order in which they
 *  were submitted. A request begins when a sequence is free and the cache has pages for its prompt, and one more for each text that can grow so far; none overtakes another. When pages run out
 *  the youngest request gives its own back, and waits: later its tokens are computed once more (n_restarts). The oldest always goes on; only when it is alone, and sequences
 *  that the queue does not work with hold the rest, it ends with SL_FINISH_FULL.
 *
 *  The text of a request is, byte for byte, what sl_generate() makes of the same prompt and options in a session of its own, whatever stands beside it.
 *
 *  A queue is used by one thread at a time, the one that uses its session. Callbacks (of text, of samplers) run within a step. Every call on a queue from within a callback of its own is SL_ERR_STATE;
 *  so is every call that would change a sequence which the queue works with (sl_session_rewind(), sl_seq_copy(), ...), from anywhere. */
#ifndef SPACELLAMA_QUEUE_H
#define SPACELLAMA_QUEUE_H

#include "generate.h"
#include "sequence.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Requests over a session. Opaque. */
typedef struct sl_queue sl_queue;

/** How to make a queue. Zero (or NULL) means the default. */
typedef struct sl_queue_options {
    size_t size;            /**< sizeof(sl_queue_options) */
    uint32_t first_seq;     /**< it works with the session's sequences from this one on; those before stay the program's own */
    uint32_t n_seq;         /**< so many of them: texts that are made at once. 0: all from there on */
} sl_queue_options;

/** Initializer: all defaults. */
#define SL_QUEUE_OPTIONS_INIT { sizeof(sl_queue_options) }
/** Writes the defaults into a structure of `size` bytes. Since 0.1. */
SL_API sl_status sl_queue_options_default(sl_queue_options *out, size_t size);

/** How a request went. */
typedef struct sl_queue_result {
    size_t size;            /**< sizeof(sl_queue_result) */
    uint64_t id;            /**< of the request; 0: none has ended */
    void *user;             /**< of its options */
    int32_t status;         /**< SL_OK, SL_ERR_CANCELLED after sl_queue_cancel(), or what went wrong with this one: sl_last_error() has the sentence when it is taken */
    uint32_t finish;        /**< SL_FINISH_..., if the status is SL_OK */
    uint32_t n_prompt;      /**< tokens of the prompt that were computed for it */
    uint32_t n_kept;        /**< with reuse: tokens of the prompt that were there already */
    uint32_t n_tokens;      /**< tokens made, an ending token included */
    uint32_t n_restarts;    /**< how often it had to give its pages back */
    uint64_t wait_ns;       /**< nanoseconds from when it was submitted until it began */
    uint64_t prompt_ns;     /**< ... then until the first token was chosen */
    uint64_t decode_ns;     /**< ... and for the others */
} sl_queue_result;

/** Initializer. */
#define SL_QUEUE_RESULT_INIT { sizeof(sl_queue_result) }

/** A queue over a session; *out is NULL on failure. SL_ERR_RANGE: the session has no such sequences; SL_ERR_STATE: another queue works with one of them. What these sequences hold can be shared by requests
 *  with `reuse` until there is need of their room (texts with pictures are forgotten at once). A session that is freed lives on until its queues are freed, too. Since 0.1. */
SL_API sl_status sl_queue_create(sl_queue **out, sl_session *session, const sl_queue_options *options);
/** Frees; requests that have not ended are dropped, without a call of their callbacks, and the queue's sequences are empty. In a callback of its own it takes effect when the step is over, which then returns SL_ERR_STATE.
 *  NULL is fine. Since 0.1. */
SL_API void sl_queue_free(sl_queue *queue);

/** A request: what sl_generate() would be asked for. The prompt and the strings are copied; the sampler belongs to the request until it has ended (one that another request has is SL_ERR_STATE), and the n_images pictures
 *  of the prompt's image tokens, in their order, must live as long (NULL, 0: none). `reuse` 1: what any sequence of the session holds of the prompt's beginning, up to a first picture, is shared and not computed again;
 *  a request that begins like one whose prompt is just being computed waits for it; and what this one computes stays for others as long as its room is not wanted.
 *  `lookup` and `shift` must be 0. *id (NULL is fine) gets the number of the request, 1, 2, ... A prompt longer than the context is SL_ERR_FULL, other errors are as in sl_generate(). All memory is taken here, but that of pictures, which are encoded when the request begins. Since 0.1. */
SL_API sl_status sl_queue_submit(sl_queue *queue, const sl_token *prompt, size_t n_ids, const sl_generate_options *options, const sl_image *const *images, size_t n_images, uint64_t *id);
/** Ends a request; its callback is not called any more, its result can be taken. SL_ERR_MISSING if none of this number is waiting or being computed. Since 0.1. */
SL_API sl_status sl_queue_cancel(sl_queue *queue, uint64_t id);

/** One pass: begins what can begin, computes, chooses, shows. Does nothing if there is nothing to do. What goes wrong with one request ends that one (sl_queue_result.status), and the call is SL_OK. Otherwise all requests are as they
 *  were before the pass, and the next step tries again: SL_ERR_CANCELLED (sl_session_cancel()), or the memory of a backend. Since 0.1. */
SL_API sl_status sl_queue_step(sl_queue *queue);
/** Steps until every request has ended, or one step fails. Since 0.1. */
SL_API sl_status sl_queue_run(sl_queue *queue);
/** Requests that have not ended. 0 for NULL. Since 0.1. */
SL_API size_t sl_queue_length(const sl_queue *queue);
/** The result of the request that ended first among those that were not taken yet; the queue forgets it. id 0: there is none. Since 0.1. */
SL_API sl_status sl_queue_take(sl_queue *queue, sl_queue_result *result);

#ifdef __cplusplus
}
#endif
#endif
