/* SPDX-License-Identifier: MIT */
/* candidates.c - see candidates.h. */
#include "candidates.h"

sl_status sl_candidates_nonfinite(uint32_t id) { return sl_fail(SL_ERR_NONFINITE, "sampler: the logit of token %u is not a number or infinite", (unsigned)id); }
sl_status sl_candidates_none(void) { return sl_fail(SL_ERR_STATE, "sampler: every token is impossible"); }

sl_status sl_candidates_collect(struct candidates *c, uint64_t *keys, const float *logits, uint32_t n_vocab)
{
    *c = (struct candidates) { .keys = keys, .divisor = 1.0, .width = n_vocab };
    for (uint32_t id = 0; id < n_vocab; id++) {
        int part = takes_part(logits[id]);
        if (part < 0)
            return sl_candidates_nonfinite(id);
        uint64_t key = make_key(logits[id], id);
        keys[c->n] = key;                       /* c->n <= id; overwritten by the next one if this one takes no part */
        c->n += (uint32_t)part;
        c->best = part && key > c->best ? key : c->best;
    }
    return c->n ? SL_OK : sl_candidates_none();
}

uint64_t sl_candidates_total(const struct candidates *c)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < c->n; i++)
        total += weight(c, c->keys[i]);
    return total;
}

/* x exp(-x) is at most 1 / e: it is summed as the weights are, exactly. */
struct moments sl_candidates_moments(const struct candidates *c)
{
    uint64_t total = 0, sum = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        double x = deficit(c, c->keys[i]), p = exp_negative(-x);
        total += to_weight(p);
        sum += p > 0.0 ? to_weight(p * x) : 0;
    }
    return (struct moments) { (double)sum / (double)total, (double)total / (double)(UINT64_C(1) << SL_WEIGHT_BITS) };
}

/* The heap lies mirrored: node i at root[-i], so that its root is at the end and its last leaf is where the sorted part grows. */
static void sift_down(uint64_t *root, size_t node, size_t count)
{
    uint64_t key = root[-(ptrdiff_t)node];
    for (size_t child; (child = 2 * node + 1) < count; node = child) {
        child += child + 1 < count && root[-(ptrdiff_t)child - 1] > root[-(ptrdiff_t)child];
        if (root[-(ptrdiff_t)child] <= key)
            break;
        root[-(ptrdiff_t)node] = root[-(ptrdiff_t)child];
    }
    root[-(ptrdiff_t)node] = key;
}

uint64_t sl_candidates_nth(struct candidates *c, uint32_t i)
{
    uint64_t *root = c->keys + c->n - 1;
    if (i >= c->sorted && !c->heap) {
        size_t count = c->n - c->sorted;
        for (size_t node = count / 2; node-- > 0;)
            sift_down(root, node, count);
        c->heap = 1;
    }
    while (i >= c->sorted) {
        uint64_t key = *root;
        *root = c->keys[c->sorted];
        c->keys[c->sorted++] = key;
        sift_down(root, 0, c->n - c->sorted);
    }
    return c->keys[i];
}

void sl_candidates_keep(struct candidates *c, uint32_t n)
{
    if (n >= c->n)
        return;
    if (n == 1)
        c->keys[0] = c->best;
    else
        sl_candidates_nth(c, n - 1);
    c->n = c->sorted = c->width = n;
}

void sl_candidates_drop(struct candidates *c, uint32_t n)
{
    if (!n)
        return;
    c->best = sl_candidates_nth(c, n);
    c->keys += n;
    c->sorted -= n;
    c->n -= n;
    c->width = c->n;
}
