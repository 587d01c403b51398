/* SPDX-License-Identifier: MIT */
/* session.h - one timeline: its tokens, cache, plan and arena. */
#ifndef SL_SESSION_H
#define SL_SESSION_H

#include "plan.h"
#include <spacellama/session.h>

struct sl_session {
    sl_model *model;
    uint32_t n_ctx, n_batch;
    sl_kv kv;
    sl_plan plan;
    void *arena[SL_MAX_DEVICES];
    sl_token *tokens;           /* [n_ctx] */
    size_t length;
    int32_t *positions;         /* [n_batch] of the pass */
    int32_t *pages;             /* [kv.n_pages]: page of every 64 positions; one timeline has them in order */
    atomic_int cancel;
    uint64_t n_passes, n_tokens, busy_ns;
};

/* Context, batch and cache type that the options mean for a model. */
sl_status sl_session_sizes(const sl_model *model, const sl_session_options *options, uint32_t *n_ctx, uint32_t *n_batch, sl_type *type);

/* As the public functions; arguments have been checked, `options` is whole. open does not touch the model's reference count. */
sl_status sl_session_open(sl_session **out, sl_model *model, const sl_session_options *options);
void sl_session_close(sl_session *session);
sl_status sl_session_append(sl_session *session, const sl_token *ids, size_t n_ids, float *logits, size_t n_rows);

#endif
