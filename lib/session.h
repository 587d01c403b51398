/* SPDX-License-Identifier: MIT */
/* session.h - opening sessions, and the passes in which their sequences grow. What a session is made of: sequence.h. */
#ifndef SL_SESSION_H
#define SL_SESSION_H

#include "sequence.h"

/* Tokens on their way into a session. */
typedef struct sl_feed {
    const sl_token *ids;        /* [n] */
    const uint32_t *seqs;       /* [n], or NULL: all of sequence `seq` */
    const uint8_t *wanted;      /* [n], or NULL: logits of the last n_rows */
    size_t n, n_rows;
    uint32_t seq;
    int vectors;                /* 1: in the place of logits what they are made of: rows of n_embd floats */
} sl_feed;
static inline uint32_t sl_feed_seq(const sl_feed *feed, size_t i) { return feed->seqs ? feed->seqs[i] : feed->seq; }
static inline int sl_feed_wants(const sl_feed *feed, size_t i) { return feed->wanted ? feed->wanted[i] != 0 : i + feed->n_rows >= feed->n; }

/* What the options mean for a model. */
sl_status sl_session_sizes(const sl_model *model, const sl_session_options *options, sl_sizes *sizes);
/* Plans of all kinds of passes, and arena bytes that are enough for any. */
sl_status sl_session_plan(const sl_model *model, const sl_kv *kv, const sl_pictures *pictures, const sl_sizes *sizes, sl_plan *plan, sl_plan *seeing, sl_plan *moving, size_t *arena_bytes);

/* As the public functions; arguments have been checked (a feed's numbers of sequences have not), `options` is whole. open does not touch the model's reference count. */
sl_status sl_session_open(sl_session **out, sl_model *model, const sl_session_options *options);
void sl_session_close(sl_session *session);
sl_status sl_session_append(sl_session *session, const sl_feed *feed, float *rows);
/* Computes the last token of a sequence once more, for its logits. If that fails the timeline is as it was; only behind a shift, where the same token would not
 * give the same keys, it is one token shorter after a pass that failed. SL_ERR_FULL: there is no page for a copy of a shared one. */
sl_status sl_session_again(sl_session *session, uint32_t seq, float *logits);
/* From now on (NULL: no longer) it is told of every product of the session's passes. SL_ERR_STATE: there is one already. */
sl_status sl_session_observe(sl_session *session, sl_observer *observer);
/* SL_ERR_RANGE if one of the ids is no token. */
sl_status sl_session_check_ids(const sl_session *session, const sl_token *ids, size_t n);
/* SL_ERR_CANCELLED if somebody asked for it; the request is obeyed then. */
sl_status sl_session_check_cancel(sl_session *session);

#endif
