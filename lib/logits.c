/* SPDX-License-Identifier: MIT */
/* logits.c - what can be said of a row of logits without a sampler: its largest, its largest n, and logarithms of probabilities. */
#include "candidates.h"
#include "fpenv.h"
#include "sample.h"

sl_status sl_sample_greedy(const float *logits, uint32_t n_vocab, sl_token *id)
{
    uint64_t best = 0;                          /* below every key of a finite logit */
    for (uint32_t i = 0; i < n_vocab; i++) {
        int part = takes_part(logits[i]);
        if (part < 0)
            return sl_candidates_nonfinite(i);
        uint64_t key = make_key(logits[i], i);
        best = part && key > best ? key : best;
    }
    if (!best)
        return sl_candidates_none();
    *id = key_id(best);
    return SL_OK;
}

/* The largest logit and the natural logarithm of the sum of exp(logit - largest). */
static sl_status measure(const float *logits, uint32_t n_vocab, float *largest, double *log_sum)
{
    sl_token id = 0;
    SL_TRY(sl_sample_greedy(logits, n_vocab, &id));
    const double best = (double)logits[id];
    uint64_t total = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        total += to_weight(exp_negative((double)logits[i] - best));
    *largest = logits[id];
    *log_sum = natural_log((double)total / (double)(UINT64_C(1) << SL_WEIGHT_BITS));
    return SL_OK;
}

static sl_status write_log_probs(const float *logits, uint32_t n_vocab, const sl_token *ids, size_t n, float *log_probs)
{
    const uint64_t state = sl_fp_enter();
    float largest;
    double log_sum;
    sl_status status = measure(logits, n_vocab, &largest, &log_sum);
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        const double x = (double)logits[ids[i]] - (double)largest - log_sum;
        const double least = takes_part(logits[ids[i]]) ? -0x1.fffffep127 : x;      /* what is possible has a finite one */
        log_probs[i] = (float)(x > 0.0 ? 0.0 : x < least ? least : x);
    }
    sl_fp_set(state);
    return status;
}

static sl_status check(const float *logits, uint32_t n_vocab, const sl_token *ids, const float *log_probs, size_t n)
{
    if (!logits || (n && (!ids || !log_probs)))
        return sl_fail(SL_ERR_ARGUMENT, "logits: NULL");
    if (!n_vocab)
        return sl_fail(SL_ERR_ARGUMENT, "logits: a vocabulary of no tokens");
    if (n_vocab > SL_LIMIT_VOCABULARY)
        return sl_fail(SL_ERR_LIMIT, "logits: %u tokens, at most %d", (unsigned)n_vocab, SL_LIMIT_VOCABULARY);
    return SL_OK;
}

sl_status sl_logits_log_probs(const float *logits, uint32_t n_vocab, const sl_token *ids, size_t n, float *log_probs)
{
    SL_TRY(check(logits, n_vocab, ids, log_probs, n));
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab)
            return sl_fail(SL_ERR_RANGE, "logits: token %d of %u", (int)ids[i], (unsigned)n_vocab);
    return write_log_probs(logits, n_vocab, ids, n, log_probs);
}

static uint64_t key_of(const float *logits, sl_token id) { return make_key(logits[id], (uint32_t)id); }

/* ids[count] is a heap with the least likely at the root: moves ids[node] down to its place. */
static void sift_down(const float *logits, sl_token *ids, size_t node, size_t count)
{
    const sl_token id = ids[node];
    const uint64_t key = key_of(logits, id);
    for (size_t child; (child = 2 * node + 1) < count; node = child) {
        child += child + 1 < count && key_of(logits, ids[child + 1]) < key_of(logits, ids[child]);
        if (key_of(logits, ids[child]) >= key)
            break;
        ids[node] = ids[child];
    }
    ids[node] = id;
}

sl_status sl_logits_top(const float *logits, uint32_t n_vocab, sl_token *ids, float *log_probs, size_t n)
{
    SL_TRY(check(logits, n_vocab, ids, log_probs, n));
    if (n > n_vocab)
        return sl_fail(SL_ERR_RANGE, "logits: the best %zu of %u", n, (unsigned)n_vocab);
    sl_token best;
    SL_TRY(sl_sample_greedy(logits, n_vocab, &best));       /* whatever is wrong with the row is told before anything is written */
    for (size_t i = 0; i < n; i++)
        ids[i] = (sl_token)i;
    for (size_t node = n / 2; node-- > 0;)
        sift_down(logits, ids, node, n);
    for (uint32_t i = (uint32_t)n; n && i < n_vocab; i++)
        if (key_of(logits, (sl_token)i) > key_of(logits, ids[0])) {
            ids[0] = (sl_token)i;
            sift_down(logits, ids, 0, n);
        }
    for (size_t end = n; end-- > 1;) {          /* the least likely to the end */
        const sl_token id = ids[0];
        ids[0] = ids[end];
        ids[end] = id;
        sift_down(logits, ids, 0, end);
    }
    return write_log_probs(logits, n_vocab, ids, n, log_probs);
}
