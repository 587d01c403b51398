/* SPDX-License-Identifier: MIT */
/* Drafts: what followed the last words when they stood there before. */
#include "check.h"
#include "lookup.h"

#include <string.h>

enum { MOST = 8 };

static const struct {
    const char *name;
    sl_token text[12];
    size_t n;
    sl_token next;
    size_t most;
    sl_token draft[MOST];
    size_t n_draft;
} cases[] = {
    { "nothing yet", { 0 }, 0, 5, MOST, { 0 }, 0 },
    { "never seen", { 1, 2, 3 }, 3, 5, MOST, { 0 }, 0 },
    { "one word", { 5, 6, 7, 1 }, 4, 5, MOST, { 6, 7, 1 }, 3 },
    { "the latest of equals", { 5, 6, 5, 7, 1 }, 5, 5, MOST, { 7, 1 }, 2 },
    { "two words beat one", { 1, 5, 8, 9, 5, 7, 1 }, 7, 5, MOST, { 8, 9, 5, 7, 1 }, 5 },
    { "three beat two", { 2, 1, 5, 8, 1, 5, 9, 2, 1 }, 9, 5, MOST, { 8, 1, 5, 9, 2, 1 }, 6 },
    { "no more than three count", { 9, 2, 1, 5, 8, 3, 2, 1, 5, 7, 9, 2 }, 12, 1, MOST, { 5, 8, 3, 2, 1, 5, 7, 9 }, 8 },
    { "at most", { 5, 6, 7, 1 }, 4, 5, 2, { 6, 7 }, 2 },
    { "none wanted", { 5, 6, 7, 1 }, 4, 5, 0, { 0 }, 0 },
    { "the word just before", { 4, 5 }, 2, 5, MOST, { 0 }, 0 },
    { "ends at a token that has no logits", { 5, 6, 100, 7, 1 }, 5, 5, MOST, { 6 }, 1 },
};

static void follows_what_came_before(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sl_token draft[MOST + 1];
        memset(draft, 0x55, sizeof draft);
        const size_t n = sl_lookup(cases[i].text, cases[i].n, cases[i].next, 100, cases[i].most, draft);
        if (n != cases[i].n_draft || memcmp(draft, cases[i].draft, n * sizeof *draft) || draft[n] != 0x55555555)
            fail_msg("%s: %zu tokens", cases[i].name, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(follows_what_came_before) };
    return cmocka_run_group_tests_name("lookup", tests, NULL, NULL);
}
