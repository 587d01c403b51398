/* SPDX-License-Identifier: MIT */
/* sequence.h - what a session is made of: its sequences, the cache that they share, plan and arena; and what sequences do besides growing. */
#ifndef SL_SEQUENCE_H
#define SL_SEQUENCE_H

#include "pages.h"
#include "pictures.h"
#include <spacellama/sequence.h>

/* How large a session is. */
typedef struct sl_sizes {
    uint32_t n_ctx, n_batch, n_seq;
    int64_t n_pages;            /* of the cache, for all sequences */
    int64_t n_table;            /* those that a sequence may have: of n_ctx positions */
    sl_type cache_type;
} sl_sizes;

/* A timeline. Positions 64 i .. 64 i + 63 stand in page pages[i]. A page may have several holders: a sequence writes only to pages that it holds alone. */
typedef struct sl_sequence {
    sl_token *tokens;           /* [n_ctx] */
    int32_t *pages;             /* [n_table] */
    size_t length, n_pages;     /* pages that it holds: those of its tokens */
    size_t n_new;               /* tokens of the call, or of the pass, that is being made */
    size_t n_again;             /* tokens behind its end whose pages it keeps: they are being computed once more */
    int32_t row;                /* of the page table of that pass */
    size_t n_own;               /* so many of its first tokens have the bits that they give by themselves; those behind were moved by a shift, or see some that were. SIZE_MAX: all */
    int lent;                   /* a queue works with it: the program's own calls do not change it */
} sl_sequence;

struct sl_session {
    sl_model *model;
    sl_sizes sizes;
    sl_kv kv;
    sl_pages pages;             /* of kv */
    sl_sequence *seqs;          /* [n_seq] */
    sl_plan plan, seeing;       /* passes whose tokens see no picture, and those that see some; seeing is empty if the model takes none */
    sl_plan moving;             /* passes that move what is in the cache */
    sl_pictures pictures;
    void *arena[SL_MAX_DEVICES];
    size_t arena_bytes[SL_MAX_DEVICES];
    sl_token *ids;              /* [n_batch]: rows of the embedding, where they are not the tokens themselves */
    int32_t *positions, *rows;  /* [n_batch] of the pass; rows of the page table */
    int32_t *wanted;            /* [n_batch]: tokens whose logits are wanted */
    int32_t *ranges, *marks;    /* [2 * n_batch], [n_batch]: what its tokens see of the pictures */
    int32_t *table;             /* [n_table * sequences of a pass] */
    uint32_t *taking_part;      /* [n_seq]: sequences of the pass, or of the call */
    atomic_int cancel;
    uint64_t n_passes, n_tokens, busy_ns;
    unsigned n_queues;          /* that work with it */
    int freed;                  /* by the program: it ends with the last of them */
};

sl_status sl_sequences_init(sl_session *session);
void sl_sequences_free(sl_session *session);
/* Pages that all sequences taking part lack for their n_new tokens each. */
size_t sl_sequences_lack(sl_session *session, size_t n_taking_part);
/* Makes a sequence hold, alone where it will write, the pages of n_new more tokens. There are enough. On failure it holds what it did or more. */
sl_status sl_sequence_extend(sl_session *session, sl_sequence *seq, size_t n_new);
/* How many of its tokens are the same bits when they are computed by themselves. */
static inline size_t sl_sequence_own_bits(const sl_sequence *seq) { return seq->n_own < seq->length ? seq->n_own : seq->length; }
/* Gives back the pages that its tokens do not need. */
void sl_sequence_trim(sl_session *session, sl_sequence *seq);
/* Takes tokens back; their pictures are forgotten with those that wait, or (step_back) wait for their token again. */
void sl_sequence_rewind_to(sl_session *session, uint32_t seq, size_t length);
void sl_sequence_step_back(sl_session *session, uint32_t seq, size_t length);
/* Takes tokens back until the timeline is a beginning of ids[n_ids], shorter than it, with the bits that it gives by itself; returns its length. Pictures that wait still wait. */
size_t sl_sequence_match(sl_session *session, uint32_t seq, const sl_token *ids, size_t n_ids);
/* As the public functions. */
sl_status sl_sequence_shift(sl_session *session, uint32_t seq, size_t keep, size_t discard);
sl_status sl_sequence_copy(sl_session *session, uint32_t from, uint32_t to, size_t length);

#endif
