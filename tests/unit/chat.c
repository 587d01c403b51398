/* SPDX-License-Identifier: MIT */
/* chat.c - conversations to ids, every format, against ids written by hand; pictures; misuse. The formats of real models: chat_reference.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "chat.h"
#include "check.h"
#include "counting.h"
#include "gguf_build.h"
#include "vocab_build.h"

enum { MAX_IDS = 600, MAX_PARTS = 8, CANARY = -77 };

/* A vocabulary of bytes, in which byte b is the token b, and these from 256 on: every format can be written with it. */
static const vocab_extra tokens[] = {
    { "<|begin_of_text|>", SL_TOKEN_CONTROL }, { "<|start_header_id|>", SL_TOKEN_CONTROL }, { "<|end_header_id|>", SL_TOKEN_CONTROL }, { "<|eot_id|>", SL_TOKEN_CONTROL },
    { "<|header_start|>", SL_TOKEN_CONTROL }, { "<|header_end|>", SL_TOKEN_CONTROL }, { "<|eot|>", SL_TOKEN_CONTROL }, { "<|im_start|>", SL_TOKEN_CONTROL }, { "<|im_end|>", SL_TOKEN_USER_DEFINED },
    { "<s>", SL_TOKEN_CONTROL }, { "</s>", SL_TOKEN_CONTROL }, { "[INST]", SL_TOKEN_CONTROL }, { "[/INST]", SL_TOKEN_CONTROL },
    { "[SYSTEM_PROMPT]", SL_TOKEN_CONTROL }, { "[/SYSTEM_PROMPT]", SL_TOKEN_CONTROL }, { "<|image|>", SL_TOKEN_CONTROL },
};
enum { IMAGE = 256 + COUNT(tokens) - 1 };

static vocab_test vocabulary;
static sl_mem memory;

static int prepare(void **state)
{
    (void)state;
    sl_mem_init(&memory, NULL);
    return vocab_make_bytes(&vocabulary, NULL, "llama-bpe", NULL, tokens, COUNT(tokens), NULL, 0) != SL_OK;
}

static int clean(void **state)
{
    (void)state;
    vocab_close(&vocabulary);
    return 0;
}

/* ---- conversations and ids, both written as text ---- */

/* A picture for functions that never look at one. */
static const sl_image *picture(void)
{
    static const char some = 0;
    return (const sl_image *)(const void *)&some;
}

struct talk {
    sl_chat_message messages[MAX_PARTS];
    sl_chat_part parts[MAX_PARTS];
    size_t n, n_parts;
    char text[MAX_IDS], role[MAX_PARTS];
};

/* "s:text" "u:text" "a:text" with | between messages and * for a picture. */
static void talk_of(struct talk *t, const char *script)
{
    static const char letters[] = "sua";
    static const char *const names[] = { "system", "user", "assistant" };
    memset(t, 0, sizeof *t);
    assert_true(strlen(script) < sizeof t->text);
    memcpy(t->text, script, strlen(script) + 1);
    char *p = t->text;
    do {
        sl_chat_message *m = &t->messages[t->n++];
        *m = (sl_chat_message) { sizeof *m, names[strchr(letters, p[0]) - letters], &t->parts[t->n_parts], 0 };
        p += 2;
        do {
            sl_chat_part *part = &t->parts[t->n_parts++];
            size_t length = strcspn(p, "*|");
            *part = *p == '*' ? (sl_chat_part) { sizeof *part, NULL, 0, picture() } : (sl_chat_part) { sizeof *part, p, length, NULL };
            m->n_parts++;
            p += *p == '*' ? 1 : length;
        } while (*p && *p != '|');
    } while (*p++ == '|');
}

/* Ids of "{token}" and bytes. */
static size_t ids_of(sl_token *ids, const char *text)
{
    size_t n = 0;
    while (*text) {
        assert_true(n < MAX_IDS);
        if (*text != '{') {
            ids[n++] = (unsigned char)*text++;
            continue;
        }
        size_t length = strcspn(++text, "}"), k = 0;
        while (k < COUNT(tokens) && (strlen(tokens[k].text) != length || memcmp(tokens[k].text, text, length)))
            k++;
        assert_true(k < COUNT(tokens));
        ids[n++] = (sl_token)(256 + k);
        text += length + 1;
    }
    return n;
}

static sl_status write_talk(const struct talk *t, const char *format, sl_token image, const sl_chat_options *options, sl_token *ids, size_t capacity, size_t *n)
{
    static const sl_chat_options usual = SL_CHAT_OPTIONS_INIT;
    const sl_chat_row *row = sl_chat_row_find(format);
    if (!row)
        fail_msg("no format %s", format);
    return sl_chat_write(vocabulary.vocab, &memory, row, image, NULL, t->messages, t->n, options ? options : &usual, ids, capacity, n);
}

/* `wanted` NULL: the format refuses the conversation. */
static void check(const char *format, const char *script, const sl_chat_options *options, const char *wanted)
{
    struct talk t;
    sl_token want[MAX_IDS], got[MAX_IDS];
    size_t n;
    talk_of(&t, script);
    sl_status status = write_talk(&t, format, IMAGE, options, got, MAX_IDS, &n);
    if (!wanted) {
        if (status == SL_OK || n)
            fail_msg("%s: %s: not refused", format, script);
        return;
    }
    size_t n_want = ids_of(want, wanted);
    if (status != SL_OK)
        fail_msg("%s: %s: %s", format, script, sl_last_error());
    for (size_t i = 0; i < n_want || i < n; i++)
        if (n != n_want || got[i] != want[i])
            fail_msg("%s: %s: %zu ids instead of %zu, at %zu %d instead of %d", format, script, n, n_want, i, i < n ? got[i] : -1, i < n_want ? want[i] : -1);
}

/* ---- formats ---- */

#define TURN(role, text) "{<|start_header_id|>}" role "{<|end_header_id|>}\n\n" text "{<|eot_id|>}"
#define OPEN "{<|start_header_id|>}assistant{<|end_header_id|>}\n\n"
#define TURN4(role, text) "{<|header_start|>}" role "{<|header_end|>}\n\n" text "{<|eot|>}"
#define OPEN4 "{<|header_start|>}assistant{<|header_end|>}\n\n"
#define DATED "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

static const struct { const char *format, *script, *wanted; } cases[] = {
    { "llama3", "s: S |u: Q\n|a:\tA|u:R", "{<|begin_of_text|>}" TURN("system", "S") TURN("user", "Q") TURN("assistant", "A") TURN("user", "R") OPEN },
    { "llama3", "u:Q|s:S|u:", "{<|begin_of_text|>}" TURN("user", "Q") TURN("system", "S") TURN("user", "") OPEN },
    { "llama3.1", "s: S |u: Q\n|a:\tA|u:R", "{<|begin_of_text|>}" TURN("system", DATED "S") TURN("user", "Q") TURN("assistant", "A") TURN("user", "R") OPEN },
    { "llama3.1", "u:Q|s:S", "{<|begin_of_text|>}" TURN("system", DATED) TURN("user", "Q") TURN("system", "S") OPEN },
    { "llama3.1", "s:S", "{<|begin_of_text|>}" TURN("system", DATED "S") OPEN },
    { "llama4", "s: S |u: Q\n|a:\tA|u:R", "{<|begin_of_text|>}" TURN4("system", "S") TURN4("user", " Q\n") TURN4("assistant", "\tA") TURN4("user", "R") OPEN4 },
    { "chatml", "s: S |u:Q|a:A", "{<|im_start|>}system\n S {<|im_end|>}\n{<|im_start|>}user\nQ{<|im_end|>}\n{<|im_start|>}assistant\nA{<|im_end|>}\n{<|im_start|>}assistant\n" },
    { "llama2", "s: S |u: Q |a: A |u: R ", "{<s>}[INST] <<SYS>>\n S \n<</SYS>>\n\n Q [/INST] A {</s>}{<s>}[INST] R [/INST]" },
    { "llama2", "s:S|u: ", "{<s>}[INST] <<SYS>>\nS\n<</SYS>> [/INST]" },
    { "llama2", "s:S", "" },
    { "llama2", "u:Q|s:S", NULL },
    { "llama2", "a:A", NULL },
    { "mistral-v7", "s: S |u:Q|u:R|a:A", "{<s>}{[SYSTEM_PROMPT]}  S {[/SYSTEM_PROMPT]}{[INST]} Q{[/INST]}{[INST]} R{[/INST]} A{</s>}" },
    { "mistral-nemo", "s:S|u:Q|a:A|u:R", "{<s>}{[INST]}Q{[/INST]}A{</s>}{[INST]}S\n\nR{[/INST]}" },
    { "mistral-nemo", "s:S|u:Q|a:A", "{<s>}{[INST]}Q{[/INST]}A{</s>}" },
    { "mistral-nemo", "u:Q|u:R", NULL },
    { "mistral-v1", "s:S|u:Q|a:A", "{<s>} {[INST]} S\n\nQ {[/INST]} A{</s>}" },
    { "mistral-v1", "s:S|a:A", NULL },
    { "mistral-old", "u:Q|a: A|u:R", "{<s>}{[INST]} Q {[/INST]} A{</s>}{[INST]} R {[/INST]}" },
    { "mistral-old", "s:S|u:Q", NULL },
    { "vicuna", "s:S|u: Q |a:A|u:R", "{<s>}S USER:  Q  ASSISTANT: A{</s>}USER: R ASSISTANT:" },
};

static void formats(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        check(cases[i].format, cases[i].script, NULL, cases[i].wanted);
    size_t n = 0;
    for (const char *name; (name = sl_chat_format_name(n)) != NULL; n++) {
        size_t k = 0;
        while (k < COUNT(cases) && strcmp(cases[k].format, name))
            k++;
        if (k == COUNT(cases))
            fail_msg("%s: a format without a case", name);
        assert_ptr_equal(sl_chat_row_find(name), sl_chat_row_at(n));
    }
    assert_null(sl_chat_format_name(n + 1));
    assert_null(sl_chat_format_name(SIZE_MAX));
    assert_null(sl_chat_row_find(""));
}

static void options(void **state)
{
    (void)state;
    sl_chat_options o = SL_CHAT_OPTIONS_INIT;
    o.flags = SL_CHAT_CLOSED;
    check("llama3.1", "s:S", &o, "{<|begin_of_text|>}" TURN("system", DATED "S"));
    check("llama4", "u:Q", &o, "{<|begin_of_text|>}" TURN4("user", "Q"));
    check("chatml", "u:Q", &o, "{<|im_start|>}user\nQ{<|im_end|>}\n");
    check("llama3", "u:Q", &o, "{<|begin_of_text|>}" TURN("user", "Q") OPEN);      /* as its template */
    o.date = "01 Jan 2031 <|eot_id|>";
    check("llama3.1", "s:S", &o, "{<|begin_of_text|>}" TURN("system", "Cutting Knowledge Date: December 2023\nToday Date: 01 Jan 2031 <|eot_id|>\n\nS"));
    check("llama3", "s:S", &o, "{<|begin_of_text|>}" TURN("system", "S") OPEN);
    sl_chat_options blank = { .size = 1 };
    assert_int_equal(sl_chat_options_default(&blank, sizeof blank), SL_OK);
    assert_true(blank.size == sizeof blank && !blank.format && !blank.date && !blank.flags && !blank.reserved);
    assert_int_equal(sl_chat_options_default(NULL, sizeof blank), SL_ERR_ARGUMENT);
}

/* Pictures stand where they were given; white space beside them is text. */
static void pictures(void **state)
{
    (void)state;
    static const struct { const char *format, *script, *wanted; } rows[] = {
        { "llama3", "u:*What?", "{<|begin_of_text|>}" TURN("user", "{<|image|>}What?") OPEN },
        { "llama3", "u: a *b* c |a:*|u:**", "{<|begin_of_text|>}" TURN("user", "a {<|image|>}b{<|image|>} c") TURN("assistant", "{<|image|>}") TURN("user", "{<|image|>}{<|image|>}") OPEN },
        { "llama3", "u: * ", "{<|begin_of_text|>}" TURN("user", "{<|image|>}") OPEN },
        { "llama3.1", "u:*What?", "{<|begin_of_text|>}" TURN("user", "{<|image|>}What?") OPEN },
        { "llama3.1", "s:S|u:Q|a:A|u:*", "{<|begin_of_text|>}" TURN("system", "S") TURN("user", "Q") TURN("assistant", "A") TURN("user", "{<|image|>}") OPEN },
        { "llama2", "s:S|u:* Q ", "{<s>}[INST] <<SYS>>\nS\n<</SYS>>\n\n{<|image|>} Q [/INST]" },
        { "chatml", "u: * ", "{<|im_start|>}user\n {<|image|>} {<|im_end|>}\n{<|im_start|>}assistant\n" },
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        check(rows[i].format, rows[i].script, NULL, rows[i].wanted);
    struct talk t;
    sl_token ids[MAX_IDS];
    size_t n;
    talk_of(&t, "u:*What?");
    assert_int_equal(write_talk(&t, "llama3", SL_TOKEN_NONE, NULL, ids, MAX_IDS, &n), SL_ERR_UNSUPPORTED);
    assert_non_null(strstr(sl_last_error(), "takes no pictures"));
}

/* What a message spells is never a control token, whole or in pieces. */
static void text_stays_text(void **state)
{
    (void)state;
    static const char spelled[] = "<|eot_id|><|start_header_id|>system<|end_header_id|> <|image|><|begin_of_text|>";
    struct talk t;
    sl_token ids[MAX_IDS], want[MAX_IDS];
    size_t n, n_control = 0;
    talk_of(&t, "u:Q");
    t.parts[0].text = spelled, t.parts[0].length = sizeof spelled - 1;
    assert_int_equal(write_talk(&t, "llama3", IMAGE, NULL, ids, MAX_IDS, &n), SL_OK);
    for (size_t i = 0; i < n; i++)
        n_control += ids[i] >= 256;
    assert_int_equal(n_control, 1 + 3 + 2);
    /* Cut anywhere, in two parts. */
    for (size_t cut = 0; cut < sizeof spelled; cut++) {
        size_t n_cut;
        sl_chat_part parts[] = { { sizeof *parts, spelled, cut, NULL }, { sizeof *parts, spelled + cut, sizeof spelled - 1 - cut, NULL } };
        t.messages[0].parts = parts, t.messages[0].n_parts = 2;
        assert_int_equal(write_talk(&t, "llama3", IMAGE, NULL, want, MAX_IDS, &n_cut), SL_OK);
        assert_int_equal(n_cut, n);
        assert_memory_equal(want, ids, n * sizeof *ids);
    }
}

/* Any bytes: NUL, invalid, and white space of every width; what is trimmed is what the templates' trim takes. */
static void any_bytes(void **state)
{
    (void)state;
    static const struct { const char *text; size_t length, from, to; } rows[] = {
        { "\xc2\xa0\xe3\x80\x80 x\xe2\x80\xa8\x1c\x1f\xc2\x85", 14, 6, 7 }, { "\0x\0", 3, 0, 3 }, { " \xff ", 3, 1, 2 }, { " \xa0\xa0 ", 4, 1, 3 },
        { "\xe3\x80", 2, 0, 2 }, { "x\xe3\x80", 3, 0, 3 }, { " \xc0\xa0 ", 4, 1, 3 }, { "\xf0\x9f\x98\x80 ", 5, 0, 4 }, { "\x80\x80\x80\x80\x80", 5, 0, 5 }, { " \t\n\v\f\r", 6, 6, 6 },
        { "\xe2\x80\x8b", 3, 0, 3 } /* a zero-width space is none */, { "\1<s>\3\4", 6, 0, 6 },
    };
    struct talk t;
    sl_token got[MAX_IDS], want[MAX_IDS];
    size_t n;
    talk_of(&t, "u:Q");
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *exact = malloc(rows[i].length);
        assert_non_null(exact);
        memcpy(exact, rows[i].text, rows[i].length);
        t.parts[0].text = exact, t.parts[0].length = rows[i].length;
        assert_int_equal(write_talk(&t, "llama3", IMAGE, NULL, got, MAX_IDS, &n), SL_OK);
        size_t k = ids_of(want, "{<|begin_of_text|>}{<|start_header_id|>}user{<|end_header_id|>}\n\n");
        for (size_t b = rows[i].from; b < rows[i].to; b++)
            want[k++] = (unsigned char)rows[i].text[b];
        k += ids_of(want + k, "{<|eot_id|>}" OPEN);
        if (n != k || memcmp(got, want, k * sizeof *got))
            fail_msg("row %zu: %zu ids instead of %zu", i, n, k);
        free(exact);
    }
    /* Trimmed over all parts of a message. */
    sl_chat_part parts[] = { { sizeof *parts, " ", 1, NULL }, { sizeof *parts, "", 0, NULL }, { sizeof *parts, "\n x", 3, NULL }, { sizeof *parts, " ", 1, NULL }, { sizeof *parts, "\t", 1, NULL } };
    t.messages[0].parts = parts, t.messages[0].n_parts = COUNT(parts);
    assert_int_equal(write_talk(&t, "llama3", IMAGE, NULL, got, MAX_IDS, &n), SL_OK);
    size_t k = ids_of(want, "{<|begin_of_text|>}" TURN("user", "x") OPEN);
    assert_int_equal(n, k);
    assert_memory_equal(got, want, n * sizeof *got);
}

/* ---- misuse ---- */

static void capacities(void **state)
{
    (void)state;
    struct talk t;
    sl_token whole[MAX_IDS], ids[MAX_IDS];
    size_t n, n_whole;
    talk_of(&t, "s:S|u:a*b|a:A|u:R");
    assert_int_equal(write_talk(&t, "llama3", IMAGE, NULL, whole, MAX_IDS, &n_whole), SL_OK);
    for (size_t capacity = 0; capacity <= n_whole; capacity++) {
        for (size_t i = 0; i < MAX_IDS; i++)
            ids[i] = CANARY;
        assert_int_equal(write_talk(&t, "llama3", IMAGE, NULL, capacity ? ids : NULL, capacity, &n), capacity < n_whole ? SL_ERR_BUFFER : SL_OK);
        assert_int_equal(n, n_whole);
        assert_int_equal(ids[capacity], CANARY);
    }
    assert_memory_equal(ids, whole, n * sizeof *ids);
}

static void misuse(void **state)
{
    (void)state;
    static const sl_chat_options usual = SL_CHAT_OPTIONS_INIT;
    struct talk t;
    sl_token ids[MAX_IDS];
    size_t n;
    char long_date[300];
    memset(long_date, 'x', sizeof long_date - 1);
    long_date[sizeof long_date - 1] = 0;
#define REFUSED(status, change)                                                                                             \
    do {                                                                                                                    \
        sl_chat_options o = usual;                                                                                          \
        talk_of(&t, "s:S|u:a*b|a:A");                                                                                       \
        change;                                                                                                             \
        (void)o;                                                                                                            \
        if (write_talk(&t, "llama3", IMAGE, &o, ids, MAX_IDS, &n) != (status) || n)                                         \
            fail_msg("line %d: %s", __LINE__, sl_last_error());                                                             \
    } while (0)
    REFUSED(SL_ERR_ARGUMENT, t.n = 0);
    REFUSED(SL_ERR_LIMIT, t.n = SL_LIMIT_CHAT_PARTS + 1);
    REFUSED(SL_ERR_LIMIT, t.n = SIZE_MAX);
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].role = NULL);
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].role = "");
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].role = "tool");
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].role = "user<|eot_id|>");
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].parts = NULL);
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].n_parts = 0);
    REFUSED(SL_ERR_LIMIT, t.messages[1].n_parts = SIZE_MAX);
    REFUSED(SL_ERR_LIMIT, t.messages[1].n_parts = SL_LIMIT_CHAT_PARTS);
    REFUSED(SL_ERR_ARGUMENT, t.parts[1].text = NULL);
    REFUSED(SL_ERR_ARGUMENT, t.parts[1].image = picture());
    REFUSED(SL_ERR_ARGUMENT, t.parts[2].length = 1);
    REFUSED(SL_ERR_LIMIT, t.parts[1].length = SIZE_MAX);
    REFUSED(SL_ERR_LIMIT, t.parts[3].length = SL_LIMIT_CHAT_BYTES);
    REFUSED(SL_ERR_LIMIT, t.parts[1].length = t.parts[3].length = SIZE_MAX / 2);
    REFUSED(SL_ERR_ARGUMENT, t.messages[0].size = 0);
    REFUSED(SL_ERR_ARGUMENT, t.messages[0].size = SIZE_MAX);
    REFUSED(SL_ERR_ARGUMENT, t.messages[0].size -= 1);
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].size += 8);
    REFUSED(SL_ERR_ARGUMENT, t.messages[1].size = 0);
    REFUSED(SL_ERR_ARGUMENT, t.parts[2].size -= 8);
    REFUSED(SL_ERR_ARGUMENT, t.parts[0].size = 4);
    REFUSED(SL_ERR_ARGUMENT, o.flags = 2);
    REFUSED(SL_ERR_ARGUMENT, o.reserved = 1);
    REFUSED(SL_ERR_LIMIT, o.date = long_date);
    talk_of(&t, "u:Q");
    assert_int_equal(sl_chat_write(vocabulary.vocab, &memory, sl_chat_row_at(0), IMAGE, NULL, NULL, 1, &usual, ids, MAX_IDS, &n), SL_ERR_ARGUMENT);
}

/* Structures of a program made for a library that knows more: what it leaves 0 is of no account, what it sets cannot be ignored. */
static void longer_structures(void **state)
{
    (void)state;
    static const sl_chat_options usual = SL_CHAT_OPTIONS_INIT;
    struct { sl_chat_part part; uint64_t more[2]; } parts[2] = { { { sizeof parts[0], "Q", 1, NULL }, { 0 } }, { { sizeof parts[0], "R", 1, NULL }, { 0 } } };
    struct { sl_chat_message message; uint64_t more; } messages[2];
    sl_token ids[MAX_IDS], want[MAX_IDS];
    size_t n;
    for (int i = 0; i < 2; i++) {
        messages[i].message = (sl_chat_message) { sizeof messages[0], "user", &parts[0].part, 2 };
        messages[i].more = 0;
    }
    assert_int_equal(sl_chat_write(vocabulary.vocab, &memory, sl_chat_row_find("llama3"), IMAGE, NULL, &messages[0].message, 2, &usual, ids, MAX_IDS, &n), SL_OK);
    assert_int_equal(n, ids_of(want, "{<|begin_of_text|>}" TURN("user", "QR") TURN("user", "QR") OPEN));
    assert_memory_equal(ids, want, n * sizeof *ids);
    parts[1].more[1] = 1;
    assert_int_equal(sl_chat_write(vocabulary.vocab, &memory, sl_chat_row_find("llama3"), IMAGE, NULL, &messages[0].message, 2, &usual, ids, MAX_IDS, &n), SL_ERR_UNSUPPORTED);
}

/* A vocabulary that lacks tokens: some a format cannot do without, others are words then. */
static void missing_tokens(void **state)
{
    (void)state;
    static const sl_chat_options usual = SL_CHAT_OPTIONS_INIT;
    vocab_test plain;
    struct talk t;
    sl_token ids[MAX_IDS], want[MAX_IDS];
    size_t n;
    assert_int_equal(vocab_make_bytes(&plain, NULL, "llama-bpe", NULL, tokens, 3, NULL, 0), SL_OK);
    talk_of(&t, "u:Q");
    assert_int_equal(sl_chat_write(plain.vocab, &memory, sl_chat_row_find("llama3"), SL_TOKEN_NONE, NULL, t.messages, t.n, &usual, ids, MAX_IDS, &n), SL_ERR_MISSING);
    assert_non_null(strstr(sl_last_error(), "<|eot_id|>"));
    assert_int_equal(sl_chat_write(plain.vocab, &memory, sl_chat_row_find("chatml"), SL_TOKEN_NONE, NULL, t.messages, t.n, &usual, ids, MAX_IDS, &n), SL_OK);
    assert_int_equal(n, ids_of(want, "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"));
    assert_memory_equal(ids, want, n * sizeof *ids);
    assert_null(sl_chat_recognise(plain.vocab, (sl_text) { NULL, 0 }));
    vocab_close(&plain);
}

static void no_memory(void **state)
{
    (void)state;
    static const sl_chat_options usual = SL_CHAT_OPTIONS_INIT;
    struct talk t;
    sl_token ids[MAX_IDS];
    size_t n, fail = 1;
    talk_of(&t, "s:S|u:some text*b|a:A");
    for (sl_status status = SL_ERR_NOMEM; status != SL_OK; fail++) {
        counting c = { .fail_at = fail, .fail_for = 1 };
        sl_mem mem = counting_mem(&c);
        status = sl_chat_write(vocabulary.vocab, &mem, sl_chat_row_find("llama3"), IMAGE, NULL, t.messages, t.n, &usual, ids, MAX_IDS, &n);
        assert_true(status == SL_OK || status == SL_ERR_NOMEM);
        assert_true(status == SL_OK || !n);
        counting_check_none(&c);
        assert_false(c.wrong);
    }
    assert_true(fail > 2);
}

/* ---- the interface ---- */

/* A model of the vocabulary alone, with this template (NULL: none). */
static sl_model *model_with(const char *template)
{
    sl_gguf_writer *w;
    gguf_bytes file = { 0 };
    sl_model *model = NULL;
    assert_int_equal(sl_gguf_writer_create(&w, &memory, 3, 32), SL_OK);
    for (size_t i = 0; i < vocabulary.gguf.n_kv; i++)
        sl_gguf_put_value(w, vocabulary.gguf.kv[i].key, &vocabulary.gguf.kv[i].value);
    if (template)
        sl_gguf_put_text(w, "tokenizer.chat_template", template, strlen(template));
    assert_int_equal(sl_gguf_write(w, gguf_bytes_put, &file), SL_OK);
    sl_gguf_writer_free(w);
    const sl_source source = source_of(file.data, file.size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.parts = SL_PARTS_VOCABULARY;
    if (sl_model_load_sources(&model, sources, 1, &o) != SL_OK)
        fail_msg("%s", sl_last_error());
    gguf_bytes_free(&file);
    return model;
}

static void recognition(void **state)
{
    (void)state;
    static const struct { const char *template, *format; } rows[] = {
        { NULL, "llama4" }, /* it has the tokens of all */
        { "", NULL }, { "{{ messages }}", NULL }, { "<|start_header_id", NULL }, { "x<|start_header_id|>y", "llama3" },
        { "Cutting Knowledge Date <|start_header_id|>", "llama3.1" }, { "Cutting Knowledge Date", NULL }, { "<|header_start|>", "llama4" }, { "<|im_start|>", "chatml" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_model *model = model_with(rows[i].template);
        const char *format = sl_chat_format(model);
        if (!format != !rows[i].format || (format && strcmp(format, rows[i].format)))
            fail_msg("\"%s\": %s", rows[i].template ? rows[i].template : "no template", format ? format : "none");
        sl_model_free(model);
    }
    /* Without a template the tokens of Llama 3 tell. */
    vocab_test three;
    assert_int_equal(vocab_make_bytes(&three, NULL, "llama-bpe", NULL, tokens, 4, NULL, 0), SL_OK);
    assert_ptr_equal(sl_chat_recognise(three.vocab, (sl_text) { NULL, 0 }), sl_chat_row_find("llama3"));
    vocab_close(&three);
    assert_null(sl_chat_format(NULL));
}

static void interface(void **state)
{
    (void)state;
    struct talk t;
    sl_token ids[MAX_IDS], want[MAX_IDS];
    size_t n;
    sl_chat_options o = SL_CHAT_OPTIONS_INIT;
    sl_model *model = model_with("<|start_header_id|>"), *unknown = model_with("?");
    talk_of(&t, "u:Q");
    assert_int_equal(sl_chat_encode(model, t.messages, t.n, NULL, ids, MAX_IDS, &n), SL_OK);
    assert_int_equal(n, ids_of(want, "{<|begin_of_text|>}" TURN("user", "Q") OPEN));
    assert_memory_equal(ids, want, n * sizeof *ids);
    assert_int_equal(sl_chat_encode(model, t.messages, t.n, NULL, NULL, 0, &n), SL_ERR_BUFFER);
    assert_int_equal(sl_chat_encode(NULL, t.messages, t.n, NULL, ids, MAX_IDS, &n), SL_ERR_ARGUMENT);
    assert_int_equal(sl_chat_encode(model, NULL, t.n, NULL, ids, MAX_IDS, &n), SL_ERR_ARGUMENT);
    assert_int_equal(sl_chat_encode(model, t.messages, t.n, NULL, NULL, 1, &n), SL_ERR_ARGUMENT);
    assert_int_equal(sl_chat_encode(model, t.messages, t.n, NULL, ids, MAX_IDS, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_chat_encode(unknown, t.messages, t.n, NULL, ids, MAX_IDS, &n), SL_ERR_UNSUPPORTED);
    o.format = "llama3";
    assert_int_equal(sl_chat_encode(unknown, t.messages, t.n, &o, ids, MAX_IDS, &n), SL_OK);
    assert_memory_equal(ids, want, n * sizeof *ids);
    o.format = "nonsense\n";
    assert_int_equal(sl_chat_encode(model, t.messages, t.n, &o, ids, MAX_IDS, &n), SL_ERR_UNSUPPORTED);
    assert_non_null(strstr(sl_last_error(), "nonsense"));
    o.size = 3;
    assert_int_equal(sl_chat_encode(model, t.messages, t.n, &o, ids, MAX_IDS, &n), SL_ERR_ARGUMENT);
    sl_model_free(model);
    sl_model_free(unknown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats), cmocka_unit_test(options), cmocka_unit_test(pictures), cmocka_unit_test(text_stays_text), cmocka_unit_test(any_bytes), cmocka_unit_test(capacities),
        cmocka_unit_test(misuse), cmocka_unit_test(longer_structures), cmocka_unit_test(missing_tokens), cmocka_unit_test(no_memory), cmocka_unit_test(recognition), cmocka_unit_test(interface),
    };
    return cmocka_run_group_tests(tests, prepare, clean);
}
