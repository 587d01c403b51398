/* SPDX-License-Identifier: MIT */
/* candidates.h - the tokens that a sampling step may still choose, and how likely they are.
 *
 * The same seed must give the same tokens everywhere, so nothing here depends on the order in which floats are added:
 * - A candidate is one 64-bit key: the logit as an integer that sorts like it, then the complement of the id. Keys are distinct and sort
 *   "most likely first, lower id first among equals" by plain integer comparison.
 * - A candidate's weight is exp((logit - largest logit) / temperature), in binary64 by the polynomial below, cut to a multiple of 2^-43.
 *   As integers the weights of 2^20 tokens add up exactly, in any order, within 63 bits.
 * A vocabulary is never sorted further than a step or a draw looks: a heap yields the candidates one by one, n + k log n comparisons for the
 * first k of n. */
#ifndef SL_CANDIDATES_H
#define SL_CANDIDATES_H

#include "arith.h"
#include "status.h"
#include <spacellama/tokenizer.h>

enum { SL_WEIGHT_BITS = 43 };

struct candidates {
    uint64_t *keys;     /* [0, sorted) in order; [sorted, n) behind them, a heap once `heap` is set */
    uint32_t n, sorted;
    int heap;
    uint64_t best;      /* the largest key */
    double divisor;     /* product of the temperatures: what a step takes for the logit is key_logit() / divisor */
    uint32_t width;     /* length of the row, impossible tokens included; n as soon as a step has cut */
};

static inline uint64_t make_key(float logit, uint32_t id)
{
    uint32_t u = sl_bits(logit);
    if (u == 0x80000000u)
        u = 0;                                  /* -0 equals +0 */
    u ^= (0u - (u >> 31)) | 0x80000000u;        /* without a branch: signs of logits cannot be predicted */
    return (uint64_t)u << 32 | (uint32_t)~id;
}

static inline float key_logit(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    return sl_float(u ^ (((u >> 31) - 1u) | 0x80000000u));
}

static inline sl_token key_id(uint64_t key) { return (sl_token)~(uint32_t)key; }

/* NaN and +inf are refused, -inf is passed over: 1 if the logit takes part, 0 if not, -1 if it is none. */
static inline int takes_part(float logit)
{
    uint32_t u = sl_bits(logit);
    return (u & 0x7f800000u) != 0x7f800000u ? 1 : u == 0xff800000u ? 0 : -1;
}

/* exp for x <= 0, relative error below 2^-46; +0 below -700. 2^k times the Taylor polynomial of degree 11 on |r| <= ln(2) / 2, with ln(2) in two
 * parts so that k times the first is exact. Only +, -, *, each rounded once; in pairs, which halves the time of a chain. */
static inline double exp_negative(double x)
{
    if (!(x > -700.0))
        return 0.0;
    int k = (int)(x * 0x1.71547652b82fep+0 - 0.5);
    double r = x - k * 0x1.62e42fee00000p-1;
    r = r - k * 0x1.a39ef35793c76p-33;
    double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    double p0 = (1.0 + r) + (0.5 + r * (1.0 / 6.0)) * r2;
    double p4 = (1.0 / 24.0 + r * (1.0 / 120.0)) + (1.0 / 720.0 + r * (1.0 / 5040.0)) * r2;
    double p8 = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + (1.0 / 3628800.0 + r * (1.0 / 39916800.0)) * r2;
    return (p0 + p4 * r4 + p8 * r8) * sl_double((uint64_t)(1023 + k) << 52);
}

/* How far a candidate lies below the best one, 0 or more: the difference of their logits, after the temperature. */
static inline double deficit(const struct candidates *c, uint64_t key)
{
    return ((double)key_logit(c->best) - (double)key_logit(key)) / c->divisor;
}

/* Likelihood relative to the best candidate, 0 to 1. */
static inline double ratio(const struct candidates *c, uint64_t key) { return exp_negative(-deficit(c, key)); }

/* To a whole number of 2^-43, x from 0 to 1. */
static inline uint64_t to_weight(double x) { return (uint64_t)(x * (double)(UINT64_C(1) << SL_WEIGHT_BITS)); }
static inline uint64_t weight(const struct candidates *c, uint64_t key) { return to_weight(ratio(c, key)); }

/* Candidates of a row of n_vocab logits, in the room of n_vocab keys. SL_ERR_NONFINITE for NaN and +inf, SL_ERR_STATE if every token is impossible. */
sl_status sl_candidates_collect(struct candidates *c, uint64_t *keys, const float *logits, uint32_t n_vocab);
/* These failures by themselves. */
sl_status sl_candidates_nonfinite(uint32_t id);
sl_status sl_candidates_none(void);

uint64_t sl_candidates_total(const struct candidates *c);   /* sum of the weights */
uint64_t sl_candidates_nth(struct candidates *c, uint32_t i);   /* key of the i-th best, i < n */
void sl_candidates_keep(struct candidates *c, uint32_t n);  /* forgets all but the n best, n >= 1 */
void sl_candidates_drop(struct candidates *c, uint32_t n);  /* forgets the n best, fewer than there are */

/* Sum over the candidates of weight x deficit, and of the weights: the mean deficit is the quotient, and the entropy that plus the logarithm of the second. */
struct moments { double mean_deficit, total; };
struct moments sl_candidates_moments(const struct candidates *c);

static inline double natural_log(double x) { return sl_log2(x) * 0x1.62e42fefa39efp-1; }

#endif
