/* SPDX-License-Identifier: MIT */
/* plan.h - passes of a model, planned or run by the same code: over text, and in pictures.h over a picture. */
#ifndef SL_PLAN_H
#define SL_PLAN_H

#include "kv.h"

/* Most rows of logits that are computed at once: bounds the arena beside large vocabularies. */
enum { SL_HEAD_ROWS = 32 };

/* The calls of one pass; `work` says what it is about. While planning only its numbers count, its pointers are not looked at. */
typedef void sl_pass_fn(sl_pass *pass, const sl_model *model, const void *work);

/* Fills `plan` (freed by sl_plan_free) for passes of up to the sizes in `work`; fails if an operation has no implementation. */
sl_status sl_plan_make(sl_plan *plan, const sl_model *model, sl_pass_fn *fn, const void *work);
/* Runs one pass in arenas of plan->arena[d] bytes. */
sl_status sl_plan_run(sl_plan *plan, const sl_model *model, void *const *memory, sl_pass_fn *fn, const void *work, const atomic_int *cancel);

/* What the tokens of a pass see of pictures. */
typedef struct sl_work_sight {
    const sl_kv_layer *kv;      /* [n_layer] of the pictures */
    int64_t n_spans;
    const int32_t *spans;       /* [2 * n_spans] */
    const int32_t *ranges;      /* [2 * n_tok] */
    const int32_t *marks;       /* [n_tok] */
} sl_work_sight;

/* A pass over text. */
typedef struct sl_work {
    int64_t n_tok, n_pages, n_seq, n_rows;
    const int32_t *ids;         /* [n_tok] */
    const int32_t *positions;   /* [n_tok] */
    const int32_t *seqs;        /* [n_tok]: row of `pages` */
    const int32_t *pages;       /* [n_pages, n_seq] */
    const sl_kv *kv;
    const sl_work_sight *sight; /* NULL: no token sees a picture */
    const int32_t *rows;        /* [n_rows]: the tokens of which something is wanted: */
    int vectors;                /* 0: logits [n_vocab, n_rows]; 1: what they are made of, [n_embd, n_rows]. The plan for logits does for both: vectors come on the way to them */
    float *out;
} sl_work;

/* The sl_pass_fn over an sl_work. */
void sl_text_pass(sl_pass *pass, const sl_model *model, const void *work);
/* A pass that moves what stands in the cache to other positions of the same sequence. */
typedef struct sl_move {
    int64_t n_tok, n_pages;
    const int32_t *from, *to;   /* [n_tok] positions */
    const int32_t *by;          /* [n_tok] how far each moves */
    const int32_t *pages;       /* [n_pages] of the sequence */
    const sl_kv *kv;
} sl_move;
/* The sl_pass_fn over an sl_move. Everything of a layer is read before anything of it is written. */
void sl_move_pass(sl_pass *pass, const sl_model *model, const void *move);
/* A plan of sl_text_pass for passes of up to n_batch tokens, of n_seq sequences with n_pages pages each. */
sl_status sl_text_plan(sl_plan *plan, const sl_model *model, const sl_kv *kv, const sl_work_sight *sight, int64_t n_batch, int64_t n_seq, int64_t n_pages);

#endif
