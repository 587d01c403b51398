/* SPDX-License-Identifier: MIT */
/* queue_pass.h - requests and the queue that they stand in. queue_pass.c computes them, queue.c takes them in and gives them out. */
#ifndef SL_QUEUE_PASS_H
#define SL_QUEUE_PASS_H

#include "session.h"
#include "shown.h"
#include <spacellama/queue.h>

/* A request. Its tokens are known up to n_known, and computed up to n_done; one that gave its pages back is where it was, but for n_done. */
typedef struct sl_request {
    struct sl_request *next;        /* submitted later; or ended later */
    uint32_t max_tokens, reuse;
    sl_sampler *sampler;            /* NULL: greedy */
    sl_shown shown;
    const sl_image **images;        /* [n_images] */
    size_t n_images;
    sl_token *tokens;               /* [capacity] prompt, and what was chosen */
    size_t n_prompt, n_known, n_done, n_new;        /* n_new: in this pass */
    size_t most;                    /* tokens that may have to be computed */
    int running, placed;            /* it is being computed; it has its sequence */
    uint32_t seq;                   /* if placed */
    uint64_t since_ns;              /* submitted, begun, first token: what time is being counted from */
    sl_queue_result result;
    char sentence[SL_SENTENCE_BYTES];   /* of a status that is not SL_OK */
} sl_request;

struct sl_queue {
    sl_mem mem;
    sl_session *session;
    uint32_t first, n_seq;
    sl_request **holders;           /* [n_seq] the request that has sequence first + i, or NULL: it may hold text that others can share */
    uint64_t *used;                 /* [n_seq] the step in which such a text was left or shared */
    sl_request *live, *ended;       /* in the order of submitting, and of ending */
    size_t n_live;
    uint64_t last_id, n_steps;
    int busy, doomed;               /* a call is going on; it was freed in it */
    uint32_t turn;                  /* the sequence whose next token comes first, if a pass has not room for all */
    /* of a pass */
    sl_request **rows;              /* [n_seq] */
    sl_token *ids;                  /* [n_batch] */
    uint32_t *seqs;
    uint8_t *wanted;
    float *logits;                  /* [n_vocab, n_seq] */
};

/* One pass; `busy` is set. */
sl_status sl_queue_pass(sl_queue *queue);
/* Puts a request at the end of a list. */
void sl_request_append(sl_request **list, sl_request *request);
/* Ends a request: it is the caller's no more. finish counts if status is SL_OK. quiet 1: nothing more is shown. */
void sl_queue_end(sl_queue *queue, sl_request *request, sl_status status, uint32_t finish, int quiet);

#endif
