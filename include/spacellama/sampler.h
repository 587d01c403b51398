/* SPDX-License-Identifier: MIT */
/** @file sampler.h
 *  Samplers: from a row of logits to a token. A sampler is a chain of steps, run in the order in which they were added, and a
 *  generator of its own; the same seed gives the same tokens on every machine. An empty chain is greedy. One thread at a time. */
#ifndef SPACELLAMA_SAMPLER_H
#define SPACELLAMA_SAMPLER_H

#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A chain of sampling steps. Opaque. */
typedef struct sl_sampler sl_sampler;

/** A new, empty chain for vocabularies of n_vocab tokens. `seed` starts the generator (every value is a different stream).
 *  `allocator` NULL: the C library. Since 0.1. */
SL_API sl_status sl_sampler_create(sl_sampler **out, uint32_t n_vocab, uint64_t seed, const sl_allocator *allocator);
/** Frees. NULL is fine. Since 0.1. */
SL_API void sl_sampler_free(sl_sampler *sampler);

/** Appends a step by name, with its parameters (missing ones take the value with which the step does nothing, min_keep takes 1):
 *  - "temp" t: divides logits by t; t 0 or less keeps the most likely token only (the lowest id of equals);
 *  - "top-k" k: keeps the k most likely; k 0 does nothing;
 *  - "top-p" p, min_keep: keeps the shortest list of most likely tokens whose probabilities sum to p; p 1 or more does nothing;
 *  - "min-p" p, min_keep: keeps tokens with at least p times the highest probability; p 0 does nothing.
 *
 *  SL_ERR_UNSUPPORTED names an unknown step, SL_ERR_RANGE a parameter that is not finite or out of range (k and min_keep: whole numbers
 *  from 0; top-p: from 0; min-p: 0 to 1). At most 32 steps. Since 0.1. */
SL_API sl_status sl_sampler_add(sl_sampler *sampler, const char *name, const double *params, size_t n_params);

/** Name of the index-th kind of step that this build has; NULL past the end. Since 0.1. */
SL_API const char *sl_sampler_name(size_t index);

/** Chooses a token from n_vocab logits (not changed). -inf means impossible; NaN or +inf is SL_ERR_NONFINITE, no possible token SL_ERR_STATE. Since 0.1. */
SL_API sl_status sl_sampler_sample(sl_sampler *sampler, const float *logits, sl_token *id);

/** Candidates that the chain leaves, most likely first (lower id first among equals), with their probabilities, without drawing.
 *  Writes at most `capacity` of them, *n is the whole number; SL_ERR_BUFFER if that is more. Since 0.1. */
SL_API sl_status sl_sampler_candidates(sl_sampler *sampler, const float *logits, sl_token *ids, float *probs, size_t capacity, size_t *n);

/** Starts the generator anew from a seed and forgets history. Since 0.1. */
SL_API sl_status sl_sampler_reset(sl_sampler *sampler, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
