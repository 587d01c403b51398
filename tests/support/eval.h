/* SPDX-License-Identifier: MIT */
/* eval.h - from a model file to rows of logits through the public interface, for tests that vary how it is computed. */
#ifndef SL_TESTS_EVAL_H
#define SL_TESTS_EVAL_H

#include "rows.h"
#include <spacellama/spacellama.h>

typedef struct eval_how {
    const char *backend, *cpu_level, *cache_type, *arith;   /* NULL: default */
    uint32_t n_threads, n_batch, n_ctx, in_place;   /* 0: default */
    uint32_t beside;                                /* so many other sequences, as long, whose tokens stand between the others: with n_rows = n */
    const char *weight_cache;                       /* for models from a path */
} eval_how;

/* What really happened. */
typedef struct eval_proof {
    uint64_t n_passes, n_tokens, n_threads, compute_bytes;
    char labels[4096];                              /* of the implementations that ran, each between two blanks */
} eval_proof;

/* A model from a path, or from `size` bytes at data (then name is for messages). The status is the library's. */
sl_status eval_load(sl_model **model, const char *path, const void *data, size_t size, const eval_how *how);
/* Logits of the last n_rows of ids[n] in a new session. NULL for proof is fine. */
sl_status eval_logits(sl_model *model, const eval_how *how, const sl_token *ids, size_t n, float *logits, size_t n_rows, eval_proof *proof);
void eval_prove(const sl_session *session, eval_proof *proof);

/* CPU levels of this build, worst first; the machine may lack some: then eval_load says SL_ERR_UNSUPPORTED. Ends with NULL. */
extern const char *const eval_levels[];

/* FNV-1a, 64 bits. */
uint64_t eval_hash(const void *data, size_t bytes);

/* Distances of n_rows rows of n numbers from the exact ones. KL: exact to got, nats per row. */
typedef struct eval_distance { double max_abs, kl_mean, kl_max; size_t argmax_differs; } eval_distance;
eval_distance eval_compare(const float *exact, const float *got, size_t n_rows, size_t n);

#endif
