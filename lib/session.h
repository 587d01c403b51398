/* SPDX-License-Identifier: MIT */
/* session.h - a session: its sequences, the cache that they share, plan and arena. Passes are made in session.c; what sequences do besides growing is
 * in sequence.c. */
#ifndef SL_SESSION_H
#define SL_SESSION_H

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

/* ---- sequence.c ---- */

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
