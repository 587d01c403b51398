/* SPDX-License-Identifier: MIT */
/* lookup.c - see lookup.h. One pass from the back, remembering the best place for each length of match. */
#include "lookup.h"

enum { LONGEST = 3 };

/* How many tokens up to and including text[at] are the last ones of text[n] + next, at most LONGEST. */
static size_t match(const sl_token *text, size_t n, sl_token next, size_t at)
{
    if (text[at] != next)
        return 0;
    size_t k = 1;
    while (k < LONGEST && k <= at && text[at - k] == text[n - k])
        k++;
    return k;
}

size_t sl_lookup(const sl_token *text, size_t n, sl_token next, uint32_t n_vocab, size_t most, sl_token *draft)
{
    size_t best = 0, from = 0, count = 0;
    for (size_t at = n; at-- > 0 && best < LONGEST;) {
        const size_t k = match(text, n, next, at);
        if (k > best) {
            best = k;
            from = at + 1;
        }
    }
    for (size_t i = from; best && count < most && i < n && (uint32_t)text[i] < n_vocab; i++)
        draft[count++] = text[i];
    return count;
}
