/* SPDX-License-Identifier: MIT */
/* splitter.c - the hand-written splitters against the published patterns, which a small backtracking matcher reads as they are printed. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "check.h"
#include "random.h"
#include "splitter.h"

/* ---- characters: what they are is stated here, not looked up ---- */

static const struct character { const char *utf8, *category; } characters[] = {
    { "A", "Lu" }, { "S", "Lu" }, { "L", "Lu" }, { "a", "Ll" }, { "s", "Ll" }, { "t", "Ll" }, { "l", "Ll" }, { "r", "Ll" }, { "e", "Ll" }, { "d", "Ll" },
    { "\xc5\xbf", "Ll" } /* long s */, { "\xc3\xa4", "Ll" }, { "\xc7\x85", "Lt" }, { "\xca\xb0", "Lm" }, { "\xc2\xaa", "Lo" }, { "\xe4\xb8\xad", "Lo" },
    { "\xcc\x81", "Mn" }, { "\xe0\xa4\xbe", "Mc" }, { "1", "Nd" }, { "7", "Nd" }, { "\xd9\xa3", "Nd" }, { "\xc2\xb2", "No" },
    { " ", "Zs" }, { "\t", "ws" }, { "\n", "ws" }, { "\r", "ws" }, { "\xc2\x85", "ws" }, { "\xe3\x80\x80", "Zs" },
    { "'", "Po" }, { "!", "Po" }, { "/", "Po" }, { "$", "Sc" }, { "\xe2\x82\xac", "Sc" }, { "|", "Sm" }, { "_", "Pc" }, { "\xf0\x9f\x98\x80", "So" },
    { "\xcd\xb8", "Cn" }, { "\xff", "So" } /* read as U+FFFD */, { "\x01", "Cc" },
};
enum { N_CHARACTERS = sizeof characters / sizeof *characters, LONGEST = 64 };

static int is_space(const struct character *c) { return !strcmp(c->category, "ws") || !strcmp(c->category, "Zs"); }

/* ---- the matcher: alternatives of atoms (a set of characters, a group of literals, a look-ahead), greedy, with backtracking ---- */

typedef struct text { const struct character *at[LONGEST]; int n; } text;

typedef struct atom {
    char kind;                  /* '[' set, '(' group of literals, 'i' the same in any case, '!' nothing but space may follow */
    const char *body, *end;
    int least, most;
} atom;

/* One member of a set at *p; moves *p behind it. */
static int is_member(const char **p, const struct character *c)
{
    const char *m = *p;
    *p += m[0] != '\\' ? 1 : m[1] == 'p' ? (int)(strchr(m, '}') - m) + 1 : 2;
    if (m[0] != '\\') {
        if (m[1] == '-') {      /* a range of ASCII characters */
            *p += 2;
            return !c->utf8[1] && c->utf8[0] >= m[0] && c->utf8[0] <= m[2];
        }
        return !c->utf8[1] && c->utf8[0] == m[0];
    }
    if (m[1] == 'p')
        return c->category[0] == m[3] && (m[4] == '}' || c->category[1] == m[4]);
    if (m[1] == 's')
        return is_space(c);
    return !c->utf8[1] && c->utf8[0] == (m[1] == 'r' ? '\r' : '\n');
}

static int in_set(const atom *a, const struct character *c)
{
    const char *p = a->body;
    int negated = a->end - a->body > 1 && *p == '^', found = 0;
    for (p += negated; p < a->end;)
        found |= is_member(&p, c);
    return found != negated;
}

static char folded(const struct character *c)
{
    if (!strcmp(c->utf8, "\xc5\xbf"))
        return 's';
    return c->utf8[1] ? 0 : c->utf8[0] >= 'A' && c->utf8[0] <= 'Z' ? (char)(c->utf8[0] + 32) : c->utf8[0];
}

/* End of the match of these atoms at `at`, or -1. */
static int match(const atom *a, int n, const text *t, int at)
{
    if (!n)
        return at;
    if (a->kind == '!')
        return at < t->n && !is_space(t->at[at]) ? -1 : match(a + 1, n - 1, t, at);
    if (a->kind == '[') {
        int most = 0;
        while (most < a->most && at + most < t->n && in_set(a, t->at[at + most]))
            most++;
        for (int k = most, end; k >= a->least; k--)
            if ((end = match(a + 1, n - 1, t, at + k)) >= 0)
                return end;
        return -1;
    }
    for (const char *p = a->body; p < a->end; p++) {
        int k = at, fits = 1, end;
        for (; p < a->end && *p != '|'; p++, k++)
            if (k >= t->n || (a->kind == 'i' ? folded(t->at[k]) : t->at[k]->utf8[1] ? 0 : t->at[k]->utf8[0]) != *p)
                fits = 0;
        if (fits && (end = match(a + 1, n - 1, t, k)) >= 0)
            return end;
    }
    return a->least ? -1 : match(a + 1, n - 1, t, at);
}

/* Reads one alternative; returns where it ends. */
static const char *read_atoms(const char *p, atom *atoms, int *n)
{
    for (*n = 0; *p && *p != '|'; (*n)++) {
        atom *a = &atoms[*n];
        *a = (atom) { '[', p, p + 1, 1, 1 };
        if (!strncmp(p, "(?!\\S)", 6)) {
            a->kind = '!';
            p += 6;
            continue;
        }
        if (*p == '(') {
            a->kind = !strncmp(p, "(?i:", 4) ? 'i' : '(';
            a->body = p + (a->kind == 'i' ? 4 : 3);
            a->end = strchr(p, ')');
            p = a->end + 1;
        } else if (*p == '[') {
            a->body = p + 1;
            a->end = strchr(p, ']');
            p = a->end + 1;
        } else {
            a->end = *p != '\\' ? p + 1 : p[1] == 'p' ? strchr(p, '}') + 1 : p + 2;
            p = a->end;
        }
        if (*p == '?' || *p == '*' || *p == '+') {
            a->least = *p == '+';
            a->most = *p++ == '?' ? 1 : LONGEST;
        } else if (*p == '{') {
            int used = 0;
            assert_int_equal(sscanf(p, "{%d,%d}%n", &a->least, &a->most, &used), 2);
            p += used;
        }
    }
    return p;
}

static int match_pattern(const char *pattern, const text *t, int at)
{
    for (const char *p = pattern; p; p = *p == '|' ? p + 1 : NULL) {
        atom atoms[16];
        int n, end;
        p = read_atoms(p, atoms, &n);
        if ((end = match(atoms, n, t, at)) > at)
            return end;
    }
    return -1;
}

/* Ends of the words; what no alternative matches goes into `gap` words (passes), or is an error. */
static int split_pattern(const char *pattern, int gaps, const text *t, int *ends)
{
    int n = 0, at = 0, gap = 0;
    while (at < t->n) {
        int end = match_pattern(pattern, t, at);
        if (end < 0) {
            assert_true(gaps);
            gap = ++at;
            continue;
        }
        if (gap) {
            ends[n++] = gap;
            gap = 0;
        }
        ends[n++] = at = end;
    }
    if (gap)
        ends[n++] = gap;
    return n;
}

/* ---- the patterns as published ---- */

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define PREFIX "[^\\r\\n\\p{L}\\p{N}]?"
#define TAIL "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 "(?i:" CONTRACTIONS ")|" PREFIX "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL
#define LLAMA4 PREFIX UPPER "*" LOWER "+(?i:" CONTRACTIONS ")?|" PREFIX UPPER "+" LOWER "*(?i:" CONTRACTIONS ")?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL
#define TEKKEN PREFIX UPPER "*" LOWER "+|" PREFIX UPPER "+" LOWER "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL
#define GPT2 "(?:" CONTRACTIONS ")| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static const struct row { const char *name; const char *passes[4]; int n_passes, whole, add_bos; } rows[] = {
    { "llama-bpe", { LLAMA3 }, 1, 1, 1 }, { "llama3", { LLAMA3 }, 1, 1, 1 }, { "llama-v3", { LLAMA3 }, 1, 1, 1 }, { "smaug-bpe", { LLAMA3 }, 1, 1, 1 },
    { "llama4", { LLAMA4 }, 1, 0, 0 }, { "gpt-4o", { LLAMA4 }, 1, 0, 0 }, { "tekken", { TEKKEN }, 1, 1, 1 }, { "gpt-2", { GPT2 }, 1, 0, 0 },
    { "default", { "[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" }, 4, 0, 0 },
};

static const sl_splitter *find(const char *name) { return sl_splitter_find(name, strlen(name)); }

/* Ends of the words in characters, by the patterns: each pass splits the pieces of the one before. */
static int split_by_patterns(const struct row *row, const text *t, int *ends)
{
    int n = 1;
    ends[0] = t->n;
    for (int pass = 0; pass < row->n_passes; pass++) {
        int old[LONGEST], n_old = n, start = 0;
        memcpy(old, ends, sizeof old);
        n = 0;
        for (int i = 0; i < n_old; start = old[i++]) {
            text piece = { .n = old[i] - start };
            memcpy(piece.at, t->at + start, sizeof piece.at[0] * (size_t)piece.n);
            int added = split_pattern(row->passes[pass], row->n_passes > 1 && pass != 1, &piece, ends + n);
            for (int k = n; k < n + added; k++)
                ends[k] += start;
            n += added;
        }
    }
    return n;
}

static void compare(const struct row *row, const text *t)
{
    char bytes[LONGEST * 4 + 1];
    size_t offset[LONGEST + 1] = { 0 };
    for (int i = 0; i < t->n; i++) {
        size_t n = strlen(t->at[i]->utf8);
        memcpy(bytes + offset[i], t->at[i]->utf8, n);
        offset[i + 1] = offset[i] + n;
    }
    int ends[LONGEST], n = split_by_patterns(row, t, ends);
    sl_split split;
    sl_text word;
    size_t at = 0;
    int k = 0;
    sl_split_start(&split, find(row->name), bytes, offset[t->n]);
    for (; sl_split_next(&split, &word); k++) {
        at += word.length;
        if (k >= n || at != offset[ends[k]]) {
            bytes[offset[t->n]] = 0;
            fail_msg("%s: \"%s\": word %d ends at byte %zu, not %zu", row->name, bytes, k, at, k < n ? offset[ends[k]] : 0);
        }
    }
    assert_int_equal(k, n);
}

static void follows_the_patterns(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        assert_non_null(find(rows[r].name));
        for (int i = 0; i < 40000; i++) {
            text t = { .n = (int)random_below(&seed, i % 8 ? 9 : LONGEST / 2) };
            /* Every other text has few kinds of characters, so that runs come about. */
            uint64_t base = random_below(&seed, N_CHARACTERS), range = i % 2 ? N_CHARACTERS : 3;
            for (int k = 0; k < t.n; k++)
                t.at[k] = &characters[(base + random_below(&seed, range)) % N_CHARACTERS];
            if (t.n)
                compare(&rows[r], &t);
        }
    }
}

static void has_its_rows(void **state)
{
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        assert_int_equal(find(rows[r].name)->whole, rows[r].whole);
        assert_int_equal(find(rows[r].name)->add_bos, rows[r].add_bos);
    }
    assert_null(find(""));
    assert_null(find("gpt"));
    assert_null(find("gpt-22"));
    assert_null(sl_splitter_find("gpt-2\0", 6));
}

static void cuts_as_published(void **state)
{
    (void)state;
    static const struct { const char *name, *text, *words; } cases[] = {
        { "llama-bpe", "Don'T  stop\n\n 1234567!!\n", "Don|'T| | stop|\n\n| |123|456|7|!!\n" },
        { "llama-bpe", "it'\xc5\xbf o", "it|'\xc5\xbf| o" },
        { "llama4", "HelloWorld's I'M //\n/x", "Hello|World's| I'M| //\n/|x" },
        { "llama4", "\xe0\xb8\x81\xe0\xb8\xb3\xe0\xb8\xb1 2026", "\xe0\xb8\x81\xe0\xb8\xb3\xe0\xb8\xb1| |202|6" },
        { "tekken", "ABcd12's", "ABcd|1|2|'s" },
        { "gpt-2", "I'LL we'll  12345 \n x", "I|'|LL| we|'ll| | 12345| \n| x" },
        { "default", "a.b 12345--x", "a|.|b| |123|45|--|x" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[200] = "";
        sl_split split;
        sl_text word;
        sl_split_start(&split, find(cases[i].name), cases[i].text, strlen(cases[i].text));
        while (sl_split_next(&split, &word)) {
            strcat(got, *got ? "|" : "");
            strncat(got, word.data, word.length);
        }
        assert_string_equal(got, cases[i].words);
    }
}

/* Half a megabyte of what makes matchers go back and forth: a splitter that did would need hours. */
static void takes_linear_time(void **state)
{
    (void)state;
    static const char *const units[] = { "A", " ", "\n ", "\xcc\x81", "\xcc\x81" "A", "\xc2\xaa" "AA", "1", "\xd9\xa3", "12", "'", "'s", "!\n", "/", " !", "\xff", "$.", "a1 " };
    static char line[1 << 19];
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t n = strlen(units[u]), total = 0;
            for (size_t i = 0; i < sizeof line; i++)
                line[i] = units[u][i % n];
            sl_split split;
            sl_text word;
            clock_t start = clock();
            sl_split_start(&split, find(rows[r].name), line, sizeof line);
            while (sl_split_next(&split, &word)) {
                assert_true(word.length > 0 && word.data == line + total);
                total += word.length;
            }
            assert_int_equal(total, sizeof line);
            assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_its_rows),
        cmocka_unit_test(cuts_as_published),
        cmocka_unit_test(follows_the_patterns),
        cmocka_unit_test(takes_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
