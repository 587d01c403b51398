/* SPDX-License-Identifier: MIT */
/* plan.h - one forward pass of a model, planned or run by the same code. */
#ifndef SL_PLAN_H
#define SL_PLAN_H

#include "kv.h"

/* Most rows of logits that are computed at once: bounds the arena beside large vocabularies. */
enum { SL_HEAD_ROWS = 32 };

/* What a pass is about. While planning only the numbers count. */
typedef struct sl_work {
    int64_t n_tok, n_pages;
    const int32_t *ids;         /* [n_tok] */
    const int32_t *positions;   /* [n_tok] */
    const int32_t *pages;       /* [n_pages] */
    const sl_kv *kv;
    int64_t first_row;          /* logits are wanted for tokens first_row .. n_tok - 1; n_tok: none */
    float *logits;              /* [n_vocab, n_tok - first_row] */
} sl_work;

/* Fills `plan` (freed by sl_plan_free) for passes of up to n_batch tokens; fails if an operation has no implementation. */
sl_status sl_plan_make(sl_plan *plan, const sl_model *model, const sl_kv *kv, int64_t n_batch);
/* Runs one pass in arenas of plan->arena[d] bytes. */
sl_status sl_plan_run(sl_plan *plan, const sl_model *model, void *const *memory, const sl_work *work, const atomic_int *cancel);

#endif
