/* SPDX-License-Identifier: MIT */
/* misuse.h - rows of calls that are wrong, and what they are tried on: see tests/api/misuse.c. */
#ifndef SL_TESTS_MISUSE_H
#define SL_TESTS_MISUSE_H

#include "counting.h"
#include <spacellama/spacellama.h>

enum { N_VOCAB = 300, N_SEEN = 280, N_EMBD = 32, N_CTX = 64 };

typedef struct misused {
    counting memory;
    sl_allocator allocator;
    unsigned char *file;
    size_t size;
    sl_model *model, *words, *list, *seeing;        /* all of it; its vocabulary alone; its metadata alone; one that takes pictures */
    sl_session *session, *looking;
    sl_sampler *sampler, *other;                    /* the second one for a vocabulary of another size */
    sl_decoder *decoder;
    sl_image *image;
    float expected[N_VOCAB];
    char path[64], nowhere[80];
} misused;
extern misused s;


/* Both print what is wrong, and misuse_done() fails then. The name of the function is the beginning of `call`. */
void misuse_check(sl_status got, sl_status wanted, const char *call, int line);
void misuse_neutral(int holds, const char *call, const char *value, int line);
void misuse_note(const char *call);         /* it has a row */
void misuse_done(void);                     /* all rows were right, and everything works as before */
int misuse_prepare(void **state);
int misuse_clean(void **state);
void misuse_every_function(void **state);   /* fails for each one of tests/abi/symbols.txt (SL_SYMBOLS) without a row */

/* Rows of tests/api/misuse_session.c. */
void misuse_sessions(void **state);
void misuse_sequences(void **state);
void misuse_embeddings(void **state);
void misuse_samplers(void **state);
void misuse_rows_of_logits(void **state);
void misuse_generating(void **state);
void misuse_queues(void **state);
void misuse_states(void **state);
void misuse_importance(void **state);

sl_source misuse_source(const void *data, uint64_t length);

/* A call that must be refused with this status; and one that must answer with this. */
#define REFUSED(call, status) misuse_check(call, SL_ERR_##status, #call, __LINE__)
#define FINE(call) misuse_check(call, SL_OK, #call, __LINE__)
#define NEUTRAL(call, value) misuse_neutral((call) == (value), #call, #value, __LINE__)
#define HARMLESS(call) (misuse_note(#call), call)

#endif
