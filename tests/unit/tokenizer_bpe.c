/* SPDX-License-Identifier: MIT */
/* tokenizer_bpe.c - byte-level pairs: hand-made cases, and random merges against the definition. */
#include <string.h>
#include "check.h"
#include "counting.h"
#include "random.h"
#include "vocab_build.h"

#define N(array) (sizeof array / sizeof *array)

static void expect(const sl_vocab *vocab, const char *text, size_t length, const sl_token *want, size_t n_want)
{
    sl_token got[300];
    size_t n;
    assert_int_equal(sl_vocab_encode(vocab, text, length, 0, got, N(got), &n), SL_OK);
    assert_int_equal(n, n_want);
    assert_memory_equal(got, want, n * sizeof *got);
}
#define EXPECT(vocab, text, ...) expect(vocab, text, sizeof text - 1, (const sl_token[]) { __VA_ARGS__ }, N(((const sl_token[]) { __VA_ARGS__ })))

static void joins_by_rank(void **state)
{
    (void)state;
    static const vocab_extra tokens[] = { { "ab", 1 }, { "bc", 1 }, { "abc", 1 }, { "aa", 1 }, { "\xc4\xa0" "a", 1 } };
    static const char *const merges[] = { "b c", "a b", "a bc", "a a", "\xc4\xa0 a", "a b" };
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, tokens, N(tokens), merges, N(merges)), SL_OK);
    EXPECT(v.vocab, "ab", 256);
    EXPECT(v.vocab, "abc", 258);                    /* b c comes first, then a bc */
    EXPECT(v.vocab, "aab", 'a', 256);               /* a b before a a */
    EXPECT(v.vocab, "aaaaa", 259, 259, 'a');        /* leftmost first */
    EXPECT(v.vocab, "x a", 'x', 260);
    EXPECT(v.vocab, "a\xff\0b", 'a', 255, 0, 'b');  /* every byte has its token */
    vocab_close(&v);
}

/* Parts and results that are no tokens take part in joins; what is left of them falls into its characters. */
static void goes_through_what_is_no_token(void **state)
{
    (void)state;
    static const vocab_extra tokens[] = { { "abcd", 1 } };
    static const char *const merges[] = { "a b", "c d", "ab cd", "x y", "xy z", "xyz xyz" };
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, tokens, N(tokens), merges, N(merges)), SL_OK);
    EXPECT(v.vocab, "abcd", 256);
    EXPECT(v.vocab, "abc", 'a', 'b', 'c');
    EXPECT(v.vocab, "abcdcd", 256, 'c', 'd');
    EXPECT(v.vocab, "xyzxyz", 'x', 'y', 'z', 'x', 'y', 'z');
    vocab_close(&v);
}

/* V29: merges that lead in circles or nowhere. A join makes a piece longer, so there is an end. */
static void survives_senseless_merges(void **state)
{
    (void)state;
    static const vocab_extra tokens[] = { { "ab", 1 }, { "ba", 1 } };
    static const char *const merges[] = { "a b", "b a", "ab a", "b ab", "ba ba", "q q", "qq qq", "\xe4\xb8\xad x", "ab ab", "ab ab" };
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, tokens, N(tokens), merges, N(merges)), SL_OK);
    EXPECT(v.vocab, "ababab", 'a', 'b', 'a', 'b', 256);
    EXPECT(v.vocab, "qqqqq", 'q', 'q', 'q', 'q', 'q');
    vocab_close(&v);
}

static void keeps_whole_words(void **state)
{
    (void)state;
    static const vocab_extra tokens[] = { { "hello", 1 }, { "\xc4\xa0" "x", 1 }, { "word", SL_TOKEN_CONTROL }, { "ab", 1 }, { "", 1 }, { "abc", SL_TOKEN_USER_DEFINED } };
    static const char *const merges[] = { "a b" };
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "llama-bpe", NULL, tokens, N(tokens), merges, N(merges)), SL_OK);
    EXPECT(v.vocab, "hello", 256);
    EXPECT(v.vocab, "hello x", 256, 257);
    EXPECT(v.vocab, "hellox", 'h', 'e', 'l', 'l', 'o', 'x');
    EXPECT(v.vocab, "word", 'w', 'o', 'r', 'd');    /* text never spells a control token */
    EXPECT(v.vocab, "abab", 259, 259);
    EXPECT(v.vocab, "xabcx", 'x', 261, 'x');
    vocab_close(&v);
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, tokens, N(tokens), merges, N(merges)), SL_OK);
    EXPECT(v.vocab, "hello", 'h', 'e', 'l', 'l', 'o');
    vocab_close(&v);
}

static void adds_bos_by_splitter(void **state)
{
    (void)state;
    static const struct { const char *pre; size_t n; } rows[] = { { "llama-bpe", 2 }, { "tekken", 2 }, { "llama4", 1 }, { "gpt-2", 1 }, { "default", 1 }, { NULL, 1 } };
    for (size_t i = 0; i < N(rows); i++) {
        vocab_test v;
        sl_token ids[4];
        size_t n;
        assert_int_equal(vocab_make_bytes(&v, NULL, rows[i].pre, NULL, NULL, 0, NULL, 0), SL_OK);
        assert_int_equal(sl_vocab_encode(v.vocab, "a", 1, SL_ENCODE_ADD_SPECIAL, ids, 4, &n), SL_OK);
        assert_int_equal(n, rows[i].n);
        assert_int_equal(ids[0], n == 2 ? 11 : 'a');
        vocab_close(&v);
    }
}

static void turns_pieces_into_bytes(void **state)
{
    (void)state;
    static const vocab_extra tokens[] = { { "\xc4\xa0" "a\xc4\x8a", 1 }, { "\xe4\xb8\xad ", 1 }, { "\xff\xfe\xfd", 1 }, { "\xc4\xa0", SL_TOKEN_USER_DEFINED },
                                          { "<0x0a>", SL_TOKEN_BYTE }, { "\xc5\x84\xc5\x85", 1 } };
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, tokens, N(tokens), NULL, 0), SL_OK);
    static const struct { sl_token id; const char *text; } rows[] = {
        { 256, " a\n" }, { 257, "\xe4\xb8\xad " } /* not of the alphabet: as it is */, { 258, "\xff\xfe\xfd" }, { 259, "\xc4\xa0" }, { 260, "\n" },
        { 261, "\xc5\x84\xc5\x85" },
    };
    for (size_t i = 0; i < N(rows); i++) {
        char text[16];
        size_t n;
        assert_int_equal(sl_vocab_decode(v.vocab, &rows[i].id, 1, 0, text, sizeof text, &n), SL_OK);
        assert_int_equal(n, strlen(rows[i].text));
        assert_memory_equal(text, rows[i].text, n);
    }
    for (sl_token id = 0; id < 256; id++) {
        char byte;
        size_t n;
        assert_int_equal(sl_vocab_decode(v.vocab, &id, 1, 0, &byte, 1, &n), SL_OK);
        assert_int_equal(n, 1);
        assert_int_equal((unsigned char)byte, id);
    }
    vocab_close(&v);
}

/* ---- random merges, and the definition: texts in a list, the first merge of the table that fits anywhere, leftmost place ---- */

enum { MERGES = 30, LONGEST = 40 };

static size_t encode_plainly(const char *const *merges, size_t n_merges, const vocab_extra *tokens, size_t n_tokens, const char *text, sl_token *ids)
{
    char pieces[LONGEST][LONGEST + 1];
    size_t n = strlen(text), count = 0;
    for (size_t i = 0; i < n; i++) {
        pieces[i][0] = text[i];
        pieces[i][1] = 0;
    }
    for (size_t m = 0; m < n_merges;) {
        size_t left = (size_t)(strchr(merges[m] + 1, ' ') - merges[m]), i = 0;
        while (i + 1 < n && !(strlen(pieces[i]) == left && !memcmp(pieces[i], merges[m], left) && !strcmp(pieces[i + 1], merges[m] + left + 1)))
            i++;
        if (i + 1 >= n) {
            m++;
            continue;
        }
        size_t length = strlen(pieces[i]), more = strlen(pieces[i + 1]);
        memmove(pieces[i] + length, pieces[i + 1], more + 1);
        n--;
        memmove(pieces[i + 1], pieces[i + 2], (n - i - 1) * sizeof *pieces);
        m = 0;
    }
    for (size_t i = 0; i < n; i++) {
        sl_token id = SL_TOKEN_NONE;
        for (size_t t = n_tokens; t-- > 0;)
            if (!strcmp(tokens[t].text, pieces[i]))
                id = (sl_token)(256 + t);
        if (!pieces[i][1])
            id = (unsigned char)pieces[i][0];
        for (const char *p = pieces[i]; id < 0 && *p; p++)
            ids[count++] = (unsigned char)*p;
        if (id >= 0)
            ids[count++] = id;
    }
    return count;
}

static void joins_as_defined(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int round = 0; round < 400; round++) {
        char merges[MERGES][LONGEST], texts[MERGES][LONGEST];
        const char *merge_list[MERGES];
        vocab_extra tokens[MERGES];
        size_t n_tokens = 0, letters = 1 + random_below(&seed, 3);
        for (int m = 0; m < MERGES; m++) {
            char parts[2][8] = { "", "" };
            for (int k = 0; k < 2; k++)         /* earlier results make better parts than letters in any order */
                for (uint64_t c = 0, of = 1 + random_below(&seed, m < 6 ? 1 : 4); c < of; c++)
                    parts[k][c] = (char)('a' + random_below(&seed, letters));
            strcpy(merges[m], parts[0]);
            strcat(strcat(merges[m], " "), parts[1]);
            merge_list[m] = merges[m];
            strcat(strcpy(texts[n_tokens], parts[0]), parts[1]);
            if (random_below(&seed, 4)) {       /* some results are no tokens */
                tokens[n_tokens] = (vocab_extra) { texts[n_tokens], SL_TOKEN_NORMAL };
                n_tokens++;
            }
        }
        vocab_test v;
        assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, tokens, n_tokens, merge_list, MERGES), SL_OK);
        for (int k = 0; k < 30; k++) {
            char text[LONGEST + 1] = "";
            for (uint64_t c = 0, of = 1 + random_below(&seed, LONGEST - 1); c < of; c++)
                text[c] = (char)('a' + random_below(&seed, letters));
            sl_token want[LONGEST];
            size_t n = encode_plainly(merge_list, MERGES, tokens, n_tokens, text, want);
            expect(v.vocab, text, strlen(text), want, n);
        }
        vocab_close(&v);
    }
}

/* Any bytes come back as they were, whatever the merges. */
static void gives_every_byte_back(void **state)
{
    (void)state;
    static const vocab_extra tokens[] = { { "ab", 1 }, { "\xc3\xa4\xc2\xb8\xc2\xad", 1 }, { "\xc4\xa0\xc4\xa0", 1 } };
    static const char *const merges[] = { "a b", "\xc3\xa4 \xc2\xb8", "\xc3\xa4\xc2\xb8 \xc2\xad", "\xc4\xa0 \xc4\xa0" };
    static const char *const pres[] = { "llama-bpe", "llama4", "tekken", "gpt-2", "default" };
    uint64_t seed = 5;
    for (size_t p = 0; p < N(pres); p++) {
        vocab_test v;
        assert_int_equal(vocab_make_bytes(&v, NULL, pres[p], NULL, tokens, N(tokens), merges, N(merges)), SL_OK);
        for (int round = 0; round < 2000; round++) {
            static const char likely[] = "ab  \n'\xe4\xb8\xad\xe4\xb8\xff\xc0\xed\xa0\x80\xf4\x90";
            char text[64], back[64];
            sl_token ids[64];
            size_t n = random_below(&seed, sizeof text + 1), n_ids, n_back;
            for (size_t i = 0; i < n; i++)
                text[i] = random_below(&seed, 4) ? likely[random_below(&seed, sizeof likely)] : (char)random_next(&seed);
            assert_int_equal(sl_vocab_encode(v.vocab, text, n, SL_ENCODE_PARSE_SPECIAL, ids, 64, &n_ids), SL_OK);
            assert_int_equal(sl_vocab_decode(v.vocab, ids, n_ids, 0, back, sizeof back, &n_back), SL_OK);
            assert_int_equal(n_back, n);
            assert_memory_equal(back, text, n);
        }
        vocab_close(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_by_rank),
        cmocka_unit_test(goes_through_what_is_no_token),
        cmocka_unit_test(survives_senseless_merges),
        cmocka_unit_test(keeps_whole_words),
        cmocka_unit_test(adds_bos_by_splitter),
        cmocka_unit_test(turns_pieces_into_bytes),
        cmocka_unit_test(joins_as_defined),
        cmocka_unit_test(gives_every_byte_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
