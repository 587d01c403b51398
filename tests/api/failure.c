/* SPDX-License-Identifier: MIT */
/* failure.c - what happens when something cannot be had: every call that the library makes of its host or of the system fails once, and from each on for good, in every
 * call that a program makes. The call answers with an error and a sentence, or does without and says nothing; nothing leaks, be it memory, files or threads; and
 * what existed before goes on as if nothing had been. And computing takes no memory at all. What is done: tests/support/acts.c; how it fails: tests/support/faults.c. */
#include <stdio.h>
#include <string.h>
#include <spacellama/spacellama.h>
#include "acts.h"
#include "check.h"
#include "picture_build.h"
#include "sanitized.h"

/* DOES_WITHOUT: the call may (or it does it again); ONCE: for ever would take for ever; RARE: not in every build. */
enum { DOES_WITHOUT = 1, ONCE = 2, RARE = 4 };
static const struct { const char *name; fault kind; unsigned flags; sl_status statuses[3]; } kinds[] = {
    { "memory", FAULT_MEMORY, 0, { SL_ERR_NOMEM } },
    { "memory of codecs", FAULT_C_MEMORY, RARE | DOES_WITHOUT, { SL_ERR_NOMEM } },       /* libjpeg asks for less then */
    { "a thread", FAULT_THREAD, RARE, { SL_ERR_NOMEM } },
    { "a lock", FAULT_LOCK_MADE, 0, { SL_ERR_NOMEM } },
    { "opening", FAULT_OPEN, 0, { SL_ERR_IO, SL_ERR_MISSING } },
    { "asking for size and kind", FAULT_STAT, DOES_WITHOUT, { SL_ERR_IO, SL_ERR_STATE, SL_ERR_MISSING } },
    { "reading", FAULT_READ, 0, { SL_ERR_IO } },
    { "reading, at an end that is too early", FAULT_END, 0, { SL_ERR_TRUNCATED, SL_ERR_IO } },
    { "not being interrupted", FAULT_INTERRUPT, DOES_WITHOUT | ONCE, { SL_OK } },
    { "reading and writing all at once", FAULT_PIECES, DOES_WITHOUT, { SL_OK } },
    { "mapping", FAULT_MAP, 0, { SL_ERR_NOMEM } },
    { "writing", FAULT_WRITE, 0, { SL_ERR_IO } },
    { "writing, to a full disk", FAULT_FULL, 0, { SL_ERR_IO } },
    { "writing back", FAULT_SYNC, 0, { SL_ERR_IO } },
    { "renaming", FAULT_RENAME, 0, { SL_ERR_IO } },
    { "emptying", FAULT_TRUNCATE, 0, { SL_ERR_IO } },
    { "closing", FAULT_CLOSE, DOES_WITHOUT, { SL_OK } },
    { "locking, where there are no locks", FAULT_LOCK, DOES_WITHOUT, { SL_OK } },
    { "locking, against somebody else", FAULT_LOCKED, 0, { SL_ERR_STATE } },
    { "looking at /proc and /sys", FAULT_SURROUNDINGS, DOES_WITHOUT, { SL_OK } },
    { "a callback", FAULT_CALLBACK, 0, { SL_ERR_IO } },
    { "going on", FAULT_CANCEL, 0, { SL_ERR_CANCELLED } },
};
_Static_assert(COUNT(kinds) == FAULT_COUNT, "every kind has its row");

/* Leaves a known sentence: a call that works must not touch it. */
static char sentence[256];
static void set_sentence(void)
{
    assert_int_equal(sl_session_create(NULL, NULL, NULL), SL_ERR_ARGUMENT);
    snprintf(sentence, sizeof sentence, "%s", sl_last_error());
}

static void judge(size_t a, size_t k, unsigned at, int persistent, unsigned calls, sl_status status)
{
    int right = 0;
    for (size_t i = 0; i < COUNT(kinds[k].statuses); i++)
        right |= status == kinds[k].statuses[i] && status != SL_OK;
    if (status == SL_OK)
        right = calls < at || (kinds[k].flags & DOES_WITHOUT) || (acts[a].other_way & 1 << kinds[k].kind);
    const int silent = !strcmp(sl_last_error(), sentence);
    if (!right || (status == SL_OK) != silent || !*sl_last_error())
        fail_msg("%s without %s, call %u%s: %s (%s)", acts[a].name, kinds[k].name, at, persistent ? " and all after it" : "", sl_status_name(status), sl_last_error());
}

/* Every call of a kind in one act; returns how many there are. */
static unsigned every_call(size_t a, size_t k, int persistent)
{
    const stock before = faults_stock();
    for (unsigned at = 1;; at++) {
        set_sentence();
        faults_arm(kinds[k].kind, at, persistent);
        const sl_status status = acts[a].run();
        const unsigned calls = faults_disarm();
        judge(a, k, at, persistent, calls, status);
        const stock after = faults_stock_like(&before);
        if (before.blocks != after.blocks || before.bytes != after.bytes || before.files != after.files || before.threads != after.threads || after.wrong)
            fail_msg("%s without %s, call %u%s: %zd blocks, %zd bytes, %zd files, %zd threads are left%s", acts[a].name, kinds[k].name, at, persistent ? " and all after it" : "",
                     after.blocks - before.blocks, after.bytes - before.bytes, after.files - before.files, after.threads - before.threads, after.wrong ? ", wrong sizes" : "");
        if (calls < at)
            return at - 1;
        if (acts[a].run() != SL_OK)         /* it still works, and gives what it gave before */
            fail_msg("%s, after it failed without %s: %s", acts[a].name, kinds[k].name, sl_last_error());
    }
}

static void every_failure(void **state)
{
    (void)state;
    unsigned of_kind[COUNT(kinds)] = { 0 }, all = 0;
    for (size_t a = 0; acts[a].name; a++) {
        char line[512] = "";
        for (size_t k = 0; k < COUNT(kinds); k++) {
            if (kinds[k].kind == FAULT_C_MEMORY && !strcmp(acts[a].name, "decode a webp"))
                continue;       /* libwebp 1.2.4 writes through NULL then, which image.h says */
            const unsigned n = every_call(a, k, 0) + (kinds[k].flags & ONCE ? 0 : every_call(a, k, 1));
            of_kind[k] += n;
            all += n;
            if (n)
                snprintf(line + strlen(line), sizeof line - strlen(line), "; %s %u", kinds[k].name, n);
        }
        print_message("%s%s\n", acts[a].name, *line ? line : ": needs nothing");
    }
    print_message("%u failures\n", all);
    for (size_t k = 0; k < COUNT(kinds); k++)
        if (!of_kind[k] && !(kinds[k].flags & RARE))
            fail_msg("nothing was without %s", kinds[k].name);
#if !defined(SANITIZED) && defined(__GLIBC__)
    assert_true(of_kind[FAULT_THREAD] && (of_kind[FAULT_C_MEMORY] || !SL_WITH_IMAGE_JPEG));
#endif
}

static void no_allocation_per_token(void **state)
{
    (void)state;
    acts_make_tokens(1);                    /* warm */
    faults_arm(FAULT_MEMORY, 1, 1);         /* and if there were one it would fail */
    acts_make_tokens(50);
    assert_int_equal(faults_disarm(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_failure), cmocka_unit_test(no_allocation_per_token) };
    return cmocka_run_group_tests(tests, acts_prepare, acts_clean);
}
