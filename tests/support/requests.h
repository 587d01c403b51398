/* SPDX-License-Identifier: MIT */
/* requests.h - what the tests of queues share: a model of random weights (its path stands in SL_TINY), sessions of N_CTX positions, what a text shows. */
#ifndef SL_TESTS_REQUESTS_H
#define SL_TESTS_REQUESTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <spacellama/spacellama.h>
#include "random_model.h"

enum { N_CTX = 200, MOST_TEXT = 4096, PAGE = SL_PAGE_POSITIONS };

static int load(void **state) { return (void)state, load_model("", 2); }

static sl_session *open_session(sl_model *of, uint32_t n_seq, uint32_t n_batch, uint32_t n_shared)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = n_batch, .n_seq = n_seq, .n_ctx_shared = n_shared };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, of, &o), SL_OK);
    return session;
}

static sl_queue *open_queue(sl_session *session, uint32_t first, uint32_t n)
{
    const sl_queue_options o = { .size = sizeof o, .first_seq = first, .n_seq = n };
    sl_queue *queue = NULL;
    STATUS(sl_queue_create(&queue, session, &o), SL_OK);
    return queue;
}

typedef struct shown {
    char text[MOST_TEXT];
    size_t length;
    sl_token ids[N_CTX];
    size_t n, stop_at;          /* stop_at: tokens after which the callback ends it; 0: never */
    int flushed;
} shown;

static int32_t on_text(const char *text, size_t length, sl_token id, void *user)
{
    shown *s = user;
    assert_true(s->length + length < sizeof s->text && s->n < N_CTX);
    assert_false(s->flushed);
    memcpy(s->text + s->length, text, length);
    s->length += length;
    s->text[s->length] = 0;
    if (id == SL_TOKEN_NONE) {
        s->flushed = 1;
        return 0;
    }
    s->ids[s->n++] = id;
    return s->n == s->stop_at;
}

#endif
