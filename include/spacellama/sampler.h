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

/** Appends a step by name, with its parameters. Missing ones take the value in brackets; without any a step does nothing.
 *
 *  Temperature (usually behind the cuts):
 *  - "temp" t [1]: divides logits by t; t 0 or less keeps the most likely token only (the lowest id of equals);
 *  - "dynatemp" t [1], delta [0], exponent [1]: the same with a temperature from t - delta (not below 0) to t + delta: as far up as (entropy / the
 *    largest entropy that so many tokens can have) ^ exponent says; delta 0: t.
 *
 *  Cuts (min_keep [1] tokens always stay):
 *  - "top-k" k [0]: keeps the k most likely; k 0 does nothing;
 *  - "top-p" p [1], min_keep: keeps the shortest list of most likely tokens whose probabilities sum to p; p 1 or more does nothing;
 *  - "min-p" p [0], min_keep: keeps tokens with at least p times the highest probability; p 0 does nothing;
 *  - "typical" p [1], min_keep: keeps those whose surprise -ln(probability) is nearest to the entropy, until their probabilities sum to more than p;
 *    p 1 or more does nothing;
 *  - "top-n-sigma" n [0]: keeps logits no further below the largest than n standard deviations of all that are left; n 0 or less does nothing;
 *  - "xtc" probability [0], threshold [0.1], min_keep: with this probability removes the most likely tokens, all that reach the threshold but the
 *    least likely of them. Nothing if fewer than two reach it, if it is above 0.5, or if fewer than min_keep would stay;
 *  - "mirostat" tau [0], eta [0.1], m [100] and "mirostat-v2" tau [0], eta [0.1]: cut where the surprise of choices stays near tau bits. mu begins at 2 tau
 *    and after each choice falls by eta (its surprise - tau). v2 keeps tokens of at most mu bits; the first version estimates how many those are from
 *    the m most likely. tau 0 does nothing. Usually the last step.
 *
 *  Changed logits (usually the first steps). They look back at what was accepted, see sl_sampler_accept():
 *  - "penalties" last_n [64], repeat [1], frequency [0], presence [0]: of each token among the last last_n, a positive logit is divided by `repeat`,
 *    any other multiplied by it; then count x frequency + presence is subtracted;
 *  - "dry" multiplier [0], base [1.75], allowed_length [2], last_n [1024]: a token that would prolong a repetition of what is among the last last_n to more
 *    than `length` tokens, length >= allowed_length, loses multiplier x base ^ (length - allowed_length). Breakers (sl_sampler_add_breaker()) end repetitions;
 *  - "logit-bias" id, bias, id, bias, ...: adds to the logits of single tokens; -INFINITY forbids one. Of several entries for a token the last one counts.
 *
 *  SL_ERR_UNSUPPORTED names an unknown step, SL_ERR_RANGE a parameter that is not finite or out of range (k, m, min_keep, last_n, lengths: whole numbers from 0, m from 2, lengths from 1,
 *  last_n to SL_LIMIT_CONTEXT; probabilities and thresholds: 0 to 1, but p of top-p and typical from 0; base from 1; tau and eta 0 to 1000; repeat 1e-6 to 1e6, frequency and presence
 *  -1e6 to 1e6). At most 32 steps; on failure the chain is as before. Since 0.1. */
SL_API sl_status sl_sampler_add(sl_sampler *sampler, const char *name, const double *params, size_t n_params);

/** A step of the program's own: sees the row of n_vocab logits as the steps before it left it (divided by the temperature; removed tokens are -INFINITY) and
 *  may change it, or copy it: as the first step it sees what the model gave, and sl_logits_top() tells its probabilities. What it leaves is checked
 *  like any row of logits. It must not use the sampler it is a step of. A result other than 0 makes the call fail with SL_ERR_CANCELLED. */
typedef int32_t (*sl_logits_fn)(float *logits, uint32_t n_vocab, void *user);
/** Appends such a step. It runs in sl_sampler_sample() and sl_sampler_candidates(), in their thread. Since 0.1. */
SL_API sl_status sl_sampler_add_callback(sl_sampler *sampler, sl_logits_fn callback, void *user);

/** Makes breakers for "dry" of the tokens whose text holds these bytes ("\n", ":", ...): no repetition reaches beyond such a token or is looked for in front of it,
 *  and it is never penalised itself. A text that no token holds whole is SL_ERR_MISSING. The model is not held. Since 0.1. */
SL_API sl_status sl_sampler_add_breaker(sl_sampler *sampler, const sl_model *model, const char *text, size_t length);

/** Appends tokens to what steps look back at: a prompt, or tokens chosen by other means. What sl_sampler_sample() chooses it appends itself, and
 *  sl_generate() makes the session's timeline the history before it chooses. As much is kept as the steps added so far look back: add them first. Ids that the
 *  vocabulary lacks (pictures) only take their places; a negative one is SL_ERR_RANGE. Since 0.1. */
SL_API sl_status sl_sampler_accept(sl_sampler *sampler, const sl_token *ids, size_t n_ids);

/** Name of the index-th kind of step that this build has; NULL past the end. Since 0.1. */
SL_API const char *sl_sampler_name(size_t index);

/** Chooses a token from n_vocab logits (not changed) and accepts it. -inf means impossible; NaN or +inf is SL_ERR_NONFINITE, no possible token SL_ERR_STATE.
 *  A call that fails changes nothing. Since 0.1. */
SL_API sl_status sl_sampler_sample(sl_sampler *sampler, const float *logits, sl_token *id);

/** Candidates that the chain leaves, most likely first (lower id first among equals), with their probabilities: what the
 *  next sl_sampler_sample() would draw from. Nothing changes.
 *  Writes at most `capacity` of them, *n is the whole number; SL_ERR_BUFFER if that is more. Since 0.1. */
SL_API sl_status sl_sampler_candidates(sl_sampler *sampler, const float *logits, sl_token *ids, float *probs, size_t capacity, size_t *n);

/** Starts the generator anew from a seed, forgets what was accepted, and starts the steps anew (mirostat). Since 0.1. */
SL_API sl_status sl_sampler_reset(sl_sampler *sampler, uint64_t seed);

/** The n most likely tokens of a row of logits, most likely first (lower id first among equals), with the natural logarithms of their probabilities in the whole row.
 *  n is at most n_vocab (SL_ERR_RANGE); tokens with a logit of -inf come last, with -INFINITY. Rows are refused as by sl_sampler_sample(). Takes no memory;
 *  any number of threads at once. Since 0.1. */
SL_API sl_status sl_logits_top(const float *logits, uint32_t n_vocab, sl_token *ids, float *log_probs, size_t n);

/** Natural logarithms of the probabilities of n given tokens in a row of logits. Since 0.1. */
SL_API sl_status sl_logits_log_probs(const float *logits, uint32_t n_vocab, const sl_token *ids, size_t n, float *log_probs);

#ifdef __cplusplus
}
#endif
#endif
