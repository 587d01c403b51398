/* SPDX-License-Identifier: MIT */
/* sample.h - what the rest of the library asks of the samplers beyond the public interface. */
#ifndef SL_SAMPLE_H
#define SL_SAMPLE_H

#include <spacellama/sampler.h>

/* The token with the largest of n_vocab logits, the lowest id of equals. Errors as sl_sampler_sample. */
sl_status sl_sample_greedy(const float *logits, uint32_t n_vocab, sl_token *id);

/* The next token of a text, of its row of logits; without a sampler the greedy one. What stands for a picture (`image`, or SL_TOKEN_NONE) is never chosen, and its logit is
 * overwritten: there is no picture that it could stand for. */
sl_status sl_sample_next(sl_sampler *sampler, float *logits, uint32_t n_vocab, sl_token image, sl_token *id);

/* Length of the rows that a sampler was made for. */
uint32_t sl_sampler_vocab(const sl_sampler *sampler);

/* Forgets what was accepted and takes these tokens instead. Generators and the state of steps stay. */
void sl_sampler_follow(sl_sampler *sampler, const sl_token *ids, size_t n);

#endif
