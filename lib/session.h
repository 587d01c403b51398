/* SPDX-License-Identifier: MIT */
/* session.h - one timeline: its tokens, cache, plan and arena. */
#ifndef SL_SESSION_H
#define SL_SESSION_H

#include "pictures.h"
#include <spacellama/session.h>

struct sl_session {
    sl_model *model;
    uint32_t n_ctx, n_batch;
    sl_kv kv;
    sl_plan plan, seeing;       /* passes whose tokens see no picture, and those that see some; seeing is empty if the model takes none */
    sl_pictures pictures;
    void *arena[SL_MAX_DEVICES];
    sl_token *tokens;           /* [n_ctx] */
    size_t length;
    size_t arena_bytes[SL_MAX_DEVICES];
    int32_t *positions;         /* [n_batch] of the pass */
    int32_t *seqs;              /* [n_batch]: row of `pages` */
    int32_t *ranges, *marks;    /* [2 * n_batch], [n_batch]: what its tokens see of the pictures */
    int32_t *pages;             /* [kv.n_pages]: page of every 64 positions; one timeline has them in order */
    atomic_int cancel;
    uint64_t n_passes, n_tokens, busy_ns;
};

/* Context, batch and cache type that the options mean for a model. */
sl_status sl_session_sizes(const sl_model *model, const sl_session_options *options, uint32_t *n_ctx, uint32_t *n_batch, sl_type *type);

/* As the public functions; arguments have been checked, `options` is whole. open does not touch the model's reference count. */
sl_status sl_session_open(sl_session **out, sl_model *model, const sl_session_options *options);
void sl_session_close(sl_session *session);
/* Takes tokens back; their pictures are forgotten with those that wait, or (step_back) wait for their token again. */
void sl_session_rewind_to(sl_session *session, size_t length);
void sl_session_step_back(sl_session *session, size_t length);
/* Takes tokens back until the timeline is a beginning of ids[n_ids], shorter than it; returns its length. Pictures that wait still wait. */
size_t sl_session_match(sl_session *session, const sl_token *ids, size_t n_ids);
/* Plans of both kinds of passes, and arena bytes that are enough for either. */
sl_status sl_session_plan(const sl_model *model, const sl_kv *kv, const sl_pictures *pictures, int64_t n_batch, sl_plan *plan, sl_plan *seeing, size_t *arena_bytes);
/* SL_ERR_CANCELLED if somebody asked for it; the request is obeyed then. */
sl_status sl_session_check_cancel(sl_session *session);
sl_status sl_session_append(sl_session *session, const sl_token *ids, size_t n_ids, float *logits, size_t n_rows);

#endif
