/* SPDX-License-Identifier: MIT */
/* tokenizer_special.c - cutting at special tokens against the rule as it is written: pass after pass, longest text first. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "check.h"
#include "counting.h"
#include "random.h"
#include "vocab_build.h"

enum { MOST_TOKENS = 24, MOST_TEXT = 400 };

/* Pieces of the text in order: stretches, and tokens (id >= 0). */
typedef struct piece { const char *text; size_t length; int id; } piece;

static int is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* One pass: cuts `token` out of every stretch. strip: white space behind it goes. */
static size_t cut_one(piece *pieces, size_t n, sl_text token, int id, int strip)
{
    static piece out[MOST_TEXT * 2 + 1];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const char *p = pieces[i].text, *end = p + pieces[i].length, *from = p;
        if (pieces[i].id >= 0) {
            out[k++] = pieces[i];
            continue;
        }
        while ((size_t)(end - p) >= token.length)
            if (memcmp(p, token.data, token.length)) {
                p++;
            } else {
                if (p > from)
                    out[k++] = (piece) { from, (size_t)(p - from), -1 };
                out[k++] = (piece) { p, token.length, id };
                for (p += token.length; strip && p < end && is_blank(*p);)
                    p++;
                from = p;
            }
        if (end > from)
            out[k++] = (piece) { from, (size_t)(end - from), -1 };
    }
    memcpy(pieces, out, k * sizeof *out);
    return k;
}

static size_t cut_plainly(const vocab_extra *tokens, size_t n_tokens, int parse, int phi, const char *text, size_t length, sl_token *ids)
{
    static piece pieces[MOST_TEXT * 2 + 1];
    size_t n = length > 0, count = 0;
    pieces[0] = (piece) { text, length, -1 };
    for (size_t bytes = 16; bytes > 0; bytes--)
        for (size_t t = 0; t < n_tokens; t++) {
            int plain = phi && (!strcmp(tokens[t].text, "<s>") || !strcmp(tokens[t].text, "<unk>") || !strcmp(tokens[t].text, "<|endoftext|>"));
            if (strlen(tokens[t].text) == bytes && (parse || tokens[t].kind == SL_TOKEN_USER_DEFINED) && tokens[t].kind != SL_TOKEN_NORMAL)
                n = cut_one(pieces, n, (sl_text) { tokens[t].text, bytes }, (int)(256 + t), phi && !plain);
        }
    for (size_t i = 0; i < n; i++)
        if (pieces[i].id >= 0)
            ids[count++] = pieces[i].id;
        else
            for (size_t k = 0; k < pieces[i].length; k++)
                ids[count++] = (unsigned char)pieces[i].text[k];
    return count;
}

static size_t draw_text(char *to, size_t most, const char *letters, uint64_t *seed)
{
    size_t n = 1 + random_below(seed, most);
    for (size_t i = 0; i < n; i++)
        to[i] = letters[random_below(seed, strlen(letters))];
    to[n] = 0;
    return n;
}

static void cuts_as_written(void **state)
{
    (void)state;
    static const char *const alphabets[] = { "a", "ab", "ab ", "abc", "<s>", "a \n" };
    static const int32_t kinds[] = { SL_TOKEN_CONTROL, SL_TOKEN_USER_DEFINED, SL_TOKEN_UNKNOWN, SL_TOKEN_NORMAL };
    uint64_t seed = 3;
    for (int round = 0; round < 1500; round++) {
        char texts[MOST_TOKENS][17], text[MOST_TEXT + 1];
        vocab_extra tokens[MOST_TOKENS];
        const char *letters = alphabets[round % 6];
        size_t n_tokens = random_below(&seed, MOST_TOKENS);
        for (size_t t = 0; t < n_tokens; t++) {
            draw_text(texts[t], round % 2 ? 12 : 4, letters, &seed);
            tokens[t] = (vocab_extra) { texts[t], kinds[random_below(&seed, 4)] };
        }
        if (n_tokens && round % 6 == 4)
            tokens[0] = (vocab_extra) { "<s>", SL_TOKEN_USER_DEFINED };
        int phi = round % 3 == 0;
        vocab_test v;
        assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", phi ? "My PHI3 model" : "Philosophy 3", tokens, n_tokens, NULL, 0), SL_OK);
        for (int k = 0; k < 8; k++) {
            size_t length = draw_text(text, k ? 40 : MOST_TEXT, letters, &seed), n_got;
            sl_token got[MOST_TEXT + 1], want[MOST_TEXT + 1];
            for (uint32_t flags = 0; flags <= SL_ENCODE_PARSE_SPECIAL; flags += SL_ENCODE_PARSE_SPECIAL) {
                size_t n_want = cut_plainly(tokens, n_tokens, flags != 0, phi, text, length, want);
                assert_int_equal(sl_vocab_encode(v.vocab, text, length, flags, got, MOST_TEXT + 1, &n_got), SL_OK);
                if (n_got != n_want || memcmp(got, want, n_got * sizeof *got))
                    fail_msg("round %d: \"%s\" is cut wrongly", round, text);
            }
        }
        vocab_close(&v);
    }
}

/* A thousand special tokens, each the beginning and the end of the next, and a text of nothing else: longest first by passes would take
 * a thousand scans; here the time grows with the text alone, and memory with the longest overlap. */
static void stands_a_thousand_nested_tokens(void **state)
{
    (void)state;
    enum { TOKENS = 1000, TEXT = 1000003 };
    static char letters[TOKENS + 1], text[TEXT];
    static vocab_extra tokens[TOKENS];
    memset(letters, 'a', TOKENS);
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (vocab_extra) { letters + i, i % 2 ? SL_TOKEN_CONTROL : SL_TOKEN_USER_DEFINED };        /* ids 256 .. : lengths 1000 .. 1 */
    vocab_test v;
    counting count = { 0 };
    sl_mem mem = counting_mem(&count);
    assert_int_equal(vocab_make_bytes(&v, &mem, "gpt-2", NULL, tokens, TOKENS, NULL, 0), SL_OK);
    memset(text, 'a', sizeof text);
    static sl_token ids[TEXT];
    size_t n, before = count.live_bytes;
    count.peak_bytes = before;
    clock_t start = clock();
    assert_int_equal(sl_vocab_encode(v.vocab, text, sizeof text, SL_ENCODE_PARSE_SPECIAL, ids, TEXT, &n), SL_OK);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 60);
    assert_true(count.peak_bytes - before < 24 * sizeof text);
    assert_int_equal(n, 1001);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(ids[i], 256);
    assert_int_equal(ids[1000], 256 + TOKENS - 3);
    /* Alone in other text each token is found, and nothing is held for it. */
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 7 ? 'b' : 'a';
    count.peak_bytes = before;
    assert_int_equal(sl_vocab_encode(v.vocab, text, sizeof text, SL_ENCODE_PARSE_SPECIAL, ids, TEXT, &n), SL_OK);
    assert_true(count.peak_bytes - before < 10000);
    assert_int_equal(n, sizeof text);
    assert_int_equal(ids[0], 256 + TOKENS - 1);
    assert_int_equal(ids[1], 'b');
    vocab_close(&v);
    counting_check_none(&count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_as_written),
        cmocka_unit_test(stands_a_thousand_nested_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
