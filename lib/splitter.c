/* SPDX-License-Identifier: MIT */
/* splitter.c - the published pre-tokenizer patterns as hand-written scanners. C = contraction, X = [^\r\n\p{L}\p{N}],
 * U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L = [\p{Ll}\p{Lm}\p{Lo}\p{M}]; alternatives are tried in this order, quantifiers are greedy:
 *
 *   llama-bpe   (?i:C) | X?\p{L}+ | \p{N}{1,3} |  ?[^\s\p{L}\p{N}]+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) | \s+
 *   llama4      X?U*L+(?i:C)? | X?U+L*(?i:C)? | \p{N}{1,3} |  ?[^\s\p{L}\p{N}]+[\r\n/]* | \s*[\r\n]+ | \s+(?!\S) | \s+
 *   tekken      as llama4 without C, \p{N} one by one
 *   gpt-2       C |  ?\p{L}+ |  ?\p{N}+ |  ?[^\s\p{L}\p{N}]+ | \s+(?!\S) | \s+
 *   default     pieces of [\p{P}$+<=>^~|]+ and the gaps between; in each gpt-2; in each \p{N}+ and gaps; in each [0-9]{3} and gaps
 *
 * Unassigned code points, and bytes that are no UTF-8 (read as U+FFFD each), are symbols: [^\s\p{L}\p{N}] says nothing else.
 * Nothing is ever tried twice over a long stretch: where a pattern would backtrack, the scan remembers the place it would come back to. */
#include "splitter.h"
#include "unicode.h"

#include <string.h>

#define SL_SPLITTERS(X)                                                                                                     \
    SL_ROW(SPLITTER_LLAMA_BPE, X("llama-bpe", SL_CONTRACTION_ANY, SL_PREFIX_ANY, 0, 3, "\r\n", 0, 1, 1))                    \
    SL_ROW(SPLITTER_LLAMA_BPE, X("llama3", SL_CONTRACTION_ANY, SL_PREFIX_ANY, 0, 3, "\r\n", 0, 1, 1))                       \
    SL_ROW(SPLITTER_LLAMA_BPE, X("llama-v3", SL_CONTRACTION_ANY, SL_PREFIX_ANY, 0, 3, "\r\n", 0, 1, 1))                     \
    SL_ROW(SPLITTER_LLAMA_BPE, X("smaug-bpe", SL_CONTRACTION_ANY, SL_PREFIX_ANY, 0, 3, "\r\n", 0, 1, 1))                    \
    SL_ROW(SPLITTER_LLAMA4, X("llama4", SL_CONTRACTION_BEHIND, SL_PREFIX_ANY, 1, 3, "\r\n/", 0, 0, 0))                      \
    SL_ROW(SPLITTER_LLAMA4, X("gpt-4o", SL_CONTRACTION_BEHIND, SL_PREFIX_ANY, 1, 3, "\r\n/", 0, 0, 0))                      \
    SL_ROW(SPLITTER_TEKKEN, X("tekken", SL_CONTRACTION_NONE, SL_PREFIX_ANY, 1, 1, "\r\n/", 0, 1, 1))                        \
    SL_ROW(SPLITTER_GPT_2, X("gpt-2", SL_CONTRACTION_LOWER, SL_PREFIX_SPACE, 0, 0, NULL, 0, 0, 0))                          \
    SL_ROW(SPLITTER_DEFAULT, X("default", SL_CONTRACTION_LOWER, SL_PREFIX_SPACE, 0, 0, NULL, 1, 0, 0))

static const sl_splitter splitters[] = {
#define ROW(...) { __VA_ARGS__ },
    SL_SPLITTERS(ROW)
#undef ROW
    { 0 }
};

/* Sets of classes. U and L of the patterns overlap in the letters without case and the marks. */
#define LETTERS SL_UNICODE_LETTERS
#define BOTH (SL_UNICODE_BIT(SL_UNICODE_LETTER) | SL_UNICODE_BIT(SL_UNICODE_MARK))
#define UPPERS (SL_UNICODE_BIT(SL_UNICODE_UPPER) | BOTH)
#define LOWERS (SL_UNICODE_BIT(SL_UNICODE_LOWER) | BOTH)
#define NUMBERS SL_UNICODE_BIT(SL_UNICODE_NUMBER)
#define SPACES SL_UNICODE_BIT(SL_UNICODE_SPACE)
#define SYMBOLS (~(LETTERS | NUMBERS | SPACES))
#define PUNCTUATION SL_UNICODE_BIT(SL_UNICODE_PUNCTUATION)

const sl_splitter *sl_splitter_find(const char *name, size_t length)
{
    for (const sl_splitter *s = splitters; s->name; s++)
        if (strlen(s->name) == length && !memcmp(s->name, name, length))
            return s;
    return NULL;
}

/* A stretch of text; positions are bytes. */
typedef struct span {
    const uint8_t *text;
    size_t end;
} span;

/* The character at a position: its class as a bit (0 at the end), *next = the position behind it. */
static unsigned look(const span *s, size_t at, size_t *next)
{
    uint32_t code;
    *next = at;
    if (at >= s->end)
        return 0;
    *next = at + sl_utf8_decode(s->text + at, s->end - at, &code);
    return SL_UNICODE_BIT(sl_unicode_class(code));
}

static int is_line_end(const span *s, size_t at) { return at < s->end && (s->text[at] == '\r' || s->text[at] == '\n'); }

/* End of the longest run of these classes from `at` on, at most `most` characters (0: any number). */
static size_t run(const span *s, size_t at, unsigned set, size_t most)
{
    size_t next;
    for (size_t n = 0; (!most || n < most) && (look(s, at, &next) & set); n++)
        at = next;
    return at;
}

/* End of a contraction that begins at `at`, or `at`. With any_case, U+017F (the long s) counts as s: simple case folding. */
static size_t contraction(const span *s, size_t at, int any_case)
{
    static const char *const endings[] = { "s", "t", "re", "ve", "m", "ll", "d" };
    size_t left = s->end - at;
    if (left < 2 || s->text[at] != '\'')
        return at;
    if (any_case && left >= 3 && s->text[at + 1] == 0xc5 && s->text[at + 2] == 0xbf)
        return at + 3;
    for (size_t e = 0; e < sizeof endings / sizeof *endings; e++) {
        size_t n = strlen(endings[e]), i = 0;
        while (i < n && i + 1 < left) {
            uint8_t c = s->text[at + 1 + i];
            if (any_case && c >= 'A' && c <= 'Z')
                c += 'a' - 'A';
            if (c != (uint8_t)endings[e][i])
                break;
            i++;
        }
        if (i == n)
            return at + 1 + n;
    }
    return at;
}

/* U*L+ from `at`; returns its end, or `at` if it does not match. *upper_end = end of the longest U*. U* takes all it can; if no L follows, it
 * gives back as far as the last character that is in both, and L+ is then just that one. */
static size_t capitals_then_small(const span *s, size_t at, size_t *upper_end)
{
    size_t i = at, next, back = at;
    for (unsigned class; (class = look(s, i, &next)) & UPPERS; i = next)
        if (class & BOTH)
            back = next;
    *upper_end = i;
    size_t end = run(s, i, LOWERS, 0);
    return end > i ? end : back;
}

/* A word of letters behind an optional prefix; `body` is the position behind the prefix (= at if there can be none). Returns its end or `at`. */
static size_t letters(const sl_splitter *p, const span *s, size_t at, size_t body)
{
    if (!p->cased) {
        size_t end = run(s, body, LETTERS, 0);
        return end > body ? end : at;   /* a prefix is no letter, so without it nothing matches either */
    }
    size_t upper, bare_upper = at, end = capitals_then_small(s, body, &upper);
    if (end == body) {
        /* A prefix may be a mark, and then it is also the beginning of a word. */
        end = body > at ? capitals_then_small(s, at, &bare_upper) : at;
        if (end == at)
            end = upper > body ? upper : bare_upper;    /* X?U+L*: no L follows, or the first alternative had matched */
    }
    return end > at && p->contraction == SL_CONTRACTION_BEHIND ? contraction(s, end, 1) : end;
}

/* White space from `at` on (there is some). */
static size_t spaces(const sl_splitter *p, const span *s, size_t at)
{
    size_t i = at, next, last = at, line = at;      /* last: the last white space; line: behind the last line end */
    while (look(s, i, &next) & SPACES) {
        if (is_line_end(s, i))
            line = next;
        last = i;
        i = next;
    }
    if (p->tail && line > at)
        return line;
    return i == s->end || last == at ? i : last;    /* the last one is left to the word behind it */
}

/* End of the word that begins at `at` < s->end. */
static size_t word_end(const sl_splitter *p, const span *s, size_t at)
{
    size_t end, next, behind;
    if (p->contraction <= SL_CONTRACTION_ANY && (end = contraction(s, at, p->contraction == SL_CONTRACTION_ANY)) > at)
        return end;
    unsigned class = look(s, at, &next);
    size_t body = s->text[at] == ' ' ? next : at;   /* behind the optional space */
    int prefix = p->prefix == SL_PREFIX_ANY ? !(class & (LETTERS | NUMBERS)) && !is_line_end(s, at) : body > at;
    if ((end = letters(p, s, at, prefix ? next : at)) > at)
        return end;
    size_t number = p->n_digits ? at : body;
    if ((end = run(s, number, NUMBERS, p->n_digits)) > number)
        return end;
    if (look(s, body, &behind) & SYMBOLS) {
        end = run(s, behind, SYMBOLS, 0);
        while (p->tail && end < s->end && s->text[end] && strchr(p->tail, s->text[end]))
            end++;
        return end;
    }
    return spaces(p, s, at);
}

static int is_cut_out(const span *s, size_t at, size_t *next)
{
    unsigned class = look(s, at, next);
    return (class & PUNCTUATION) || (*next == at + 1 && s->text[at] && strchr("$+<=>^~|", s->text[at]));
}

/* End of the run of punctuation, or of what is none, at `at`. */
static size_t punctuation_end(const span *s, size_t at)
{
    size_t next;
    int kind = is_cut_out(s, at, &next);
    do
        at = next;
    while (at < s->end && is_cut_out(s, at, &next) == kind);
    return at;
}

static int three_digits(const span *s, size_t at)
{
    for (size_t i = 0; i < 3; i++)
        if (at + i >= s->end || s->text[at + i] < '0' || s->text[at + i] > '9')
            return 0;
    return 1;
}

/* The four passes of "default": each cuts the pieces of the one before. */
static size_t pass_end(sl_split *split)
{
    size_t *end = split->stage_end, at = split->at, next;
    span s = { split->text, split->length };
    if (at == end[0])
        end[0] = punctuation_end(&s, at);
    s.end = end[0];
    if (at >= end[1])
        end[1] = word_end(split->splitter, &s, at);
    s.end = end[1];
    if (at >= end[2]) {
        unsigned set = look(&s, at, &next) & NUMBERS ? NUMBERS : ~NUMBERS;
        end[2] = run(&s, at, set, 0);
    }
    s.end = end[2];
    if (three_digits(&s, at))
        return at + 3;
    while (at < s.end && !three_digits(&s, at))
        at++;
    return at;
}

void sl_split_start(sl_split *split, const sl_splitter *splitter, const char *text, size_t length)
{
    *split = (sl_split) { .splitter = splitter, .text = (const uint8_t *)text, .length = length };
}

int sl_split_next(sl_split *split, sl_text *word)
{
    if (split->at >= split->length)
        return 0;
    span s = { split->text, split->length };
    size_t end = split->splitter->passes ? pass_end(split) : word_end(split->splitter, &s, split->at);
    *word = (sl_text) { (const char *)split->text + split->at, end - split->at };
    split->at = end;
    return 1;
}
