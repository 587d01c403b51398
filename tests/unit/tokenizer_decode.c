/* SPDX-License-Identifier: MIT */
/* tokenizer_decode.c - buffers of every size, and the stream against the whole: never a torn character, whatever comes in pieces. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "random.h"
#include "vocab_build.h"

#define N(array) (sizeof array / sizeof *array)

static const vocab_extra extras[] = { { "hello", 1 }, { "<|end|>", SL_TOKEN_CONTROL }, { "<u>", SL_TOKEN_USER_DEFINED }, { "gone", SL_TOKEN_UNUSED }, { "", 1 },
                                      { "\xc3\xb0\xc5\x81\xc4\xba", 1 } /* F0 9F 98 */ };
enum { HELLO = 256, END, USER, UNUSED, EMPTY, TORN };

/* V30: a buffer of no bytes, of one, the exact size, and no buffer at all. */
static void reports_the_needed_size(void **state)
{
    (void)state;
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, extras, N(extras), NULL, 0), SL_OK);
    static const struct { sl_token ids[4]; size_t n; uint32_t flags; size_t capacity; sl_status status; size_t length; const char *text; } rows[] = {
        { { HELLO }, 1, 0, 0, SL_ERR_BUFFER, 5, "" }, { { HELLO }, 1, 0, 1, SL_ERR_BUFFER, 5, "h" }, { { HELLO }, 1, 0, 5, SL_OK, 5, "hello" },
        { { HELLO }, 1, 0, 6, SL_OK, 5, "hello" }, { { 0 }, 0, 0, 0, SL_OK, 0, "" }, { { EMPTY }, 1, 0, 0, SL_OK, 0, "" },
        { { HELLO, END, '!' }, 3, 0, 16, SL_OK, 6, "hello!" }, { { HELLO, END, '!' }, 3, SL_DECODE_SPECIAL, 16, SL_OK, 13, "hello<|end|>!" },
        { { USER, UNUSED, 'x' }, 3, 0, 16, SL_OK, 4, "<u>x" }, { { ' ', 'x' }, 2, 0, 16, SL_OK, 2, " x" },
        { { 'x', -1 }, 2, 0, 16, SL_ERR_RANGE, 0, "x" }, { { 262 }, 1, 0, 16, SL_ERR_RANGE, 0, "" }, { { INT32_MAX }, 1, 0, 16, SL_ERR_RANGE, 0, "" },
        { { INT32_MIN }, 1, 0, 16, SL_ERR_RANGE, 0, "" }, { { 'x' }, 1, 4, 16, SL_ERR_ARGUMENT, 0, "" },
    };
    for (size_t i = 0; i < N(rows); i++) {
        char *text = malloc(rows[i].capacity + 1);
        size_t n = 99;
        memset(text, '#', rows[i].capacity + 1);
        assert_int_equal(sl_vocab_decode(v.vocab, rows[i].ids, rows[i].n, rows[i].flags, rows[i].capacity ? text : NULL, rows[i].capacity, &n), rows[i].status);
        assert_int_equal(n, rows[i].length);
        assert_memory_equal(text, rows[i].text, strlen(rows[i].text));
        assert_int_equal(text[rows[i].capacity], '#');
        free(text);
    }
    char big[8];
    size_t n;
    sl_token hello = HELLO;
    assert_int_equal(sl_vocab_decode(v.vocab, &hello, 1, 0, big, SIZE_MAX, &n), SL_OK);     /* a capacity that is not true is not looked at */
    assert_int_equal(sl_vocab_decode(v.vocab, NULL, 1, 0, big, 8, &n), SL_ERR_ARGUMENT);
    assert_int_equal(sl_vocab_decode(v.vocab, &hello, 1, 0, NULL, 8, &n), SL_ERR_ARGUMENT);
    vocab_close(&v);
}

static void add(char *all, size_t *n, const char *text, size_t length)
{
    memcpy(all + *n, text, length);
    *n += length;
}

static void streams_whole_characters(void **state)
{
    (void)state;
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, extras, N(extras), NULL, 0), SL_OK);
    sl_stream *s;
    assert_int_equal(sl_stream_create(&s, &v.mem, v.vocab, 0, 1), SL_OK);
    static const struct { sl_token id; const char *text; } steps[] = {
        { 0xe4, "" }, { 0xb8, "" }, { 0xad, "\xe4\xb8\xad" }, { TORN, "" }, { 0x80, "\xf0\x9f\x98\x80" }, { TORN, "" }, { 'a', "\xef\xbf\xbd" "a" },
        { 0xff, "\xef\xbf\xbd" }, { 0xc3, "" }, { 0xc3, "\xef\xbf\xbd" }, { 0xa4, "\xc3\xa4" }, { 0xed, "" }, { 0xa0, "\xef\xbf\xbd\xef\xbf\xbd" },
        { END, "" }, { USER, "<u>" }, { EMPTY, "" }, { UNUSED, "" }, { 0xe4, "" }, { END, "" }, { 0xb8, "" },
    };
    for (size_t i = 0; i < N(steps); i++) {
        const char *text;
        size_t n;
        assert_int_equal(sl_stream_push(s, steps[i].id, &text, &n), SL_OK);
        assert_int_equal(n, strlen(steps[i].text));
        assert_memory_equal(text, steps[i].text, n);
    }
    const char *text;
    size_t n;
    assert_int_equal(sl_stream_push(s, 262, &text, &n), SL_ERR_RANGE);
    assert_int_equal(n, 0);
    assert_int_equal(sl_stream_flush(s, &text, &n), SL_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "\xef\xbf\xbd", 3);
    assert_int_equal(sl_stream_flush(s, &text, &n), SL_OK);
    assert_int_equal(n, 0);
    sl_stream_free(s);
    assert_int_equal(sl_stream_create(&s, &v.mem, v.vocab, 8, 1), SL_ERR_ARGUMENT);
    assert_null(s);
    sl_stream_free(NULL);
    vocab_close(&v);
}

/* The leading space goes with the first piece only, and again after a flush. */
static void drops_one_leading_space(void **state)
{
    (void)state;
    static const vocab_piece pieces[] = { { "\xe2\x96\x81" "a", 0, 1 } };
    enum { A = 259 };
    vocab_test v;
    assert_int_equal(vocab_make_pieces(&v, NULL, 1, pieces, 1), SL_OK);
    static const struct { uint32_t flags, first; const char *text; } rows[] = { { 0, 1, "a a" }, { 0, 0, " a a" }, { SL_DECODE_KEEP_SPACE, 1, " a a" } };
    for (size_t i = 0; i < N(rows); i++) {
        sl_stream *s;
        assert_int_equal(sl_stream_create(&s, &v.mem, v.vocab, rows[i].flags, rows[i].first), SL_OK);
        for (int twice = 0; twice < 2; twice++) {
            char all[16];
            size_t n_all = 0, n;
            const char *text;
            for (int k = 0; k < 2; k++) {
                assert_int_equal(sl_stream_push(s, A, &text, &n), SL_OK);
                add(all, &n_all, text, n);
            }
            assert_int_equal(n_all, strlen(rows[i].text));
            assert_memory_equal(all, rows[i].text, n_all);
            assert_int_equal(sl_stream_flush(s, &text, &n), SL_OK);
            assert_int_equal(n, 0);
        }
        sl_stream_free(s);
    }
    vocab_close(&v);
}

/* ---- random bytes, cut at random, against all at once ---- */

/* Well-formed text for any bytes, by the table of the Unicode standard (3-7): each longest beginning of a sequence is one U+FFFD. */
static size_t repair(const unsigned char *p, size_t n, char *to)
{
    static const struct { unsigned char first, last, low, high; size_t more; } table[] = {
        { 0x00, 0x7f, 0, 0, 0 }, { 0xc2, 0xdf, 0x80, 0xbf, 1 }, { 0xe0, 0xe0, 0xa0, 0xbf, 2 }, { 0xe1, 0xec, 0x80, 0xbf, 2 }, { 0xed, 0xed, 0x80, 0x9f, 2 },
        { 0xee, 0xef, 0x80, 0xbf, 2 }, { 0xf0, 0xf0, 0x90, 0xbf, 3 }, { 0xf1, 0xf3, 0x80, 0xbf, 3 }, { 0xf4, 0xf4, 0x80, 0x8f, 3 },
    };
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t length = 1, want = 0;
        for (size_t t = 0; t < N(table); t++)
            if (p[i] >= table[t].first && p[i] <= table[t].last) {
                want = table[t].more + 1;
                while (length < want && i + length < n && p[i + length] >= (length == 1 ? table[t].low : 0x80) && p[i + length] <= (length == 1 ? table[t].high : 0xbf))
                    length++;
            }
        if (length == want)
            add(to, &out, (const char *)p + i, length);
        else
            add(to, &out, "\xef\xbf\xbd", 3);
        i += length;
    }
    return out;
}

static void streams_as_a_whole(void **state)
{
    (void)state;
    enum { TEXT = 60, TOKENS = 60 };
    uint64_t seed = 17;
    for (int round = 0; round < 300; round++) {
        /* A vocabulary whose tokens are random runs of bytes, many torn. */
        static char texts[TOKENS][32];
        vocab_extra tokens[TOKENS];
        for (int t = 0; t < TOKENS; t++) {
            char *to = texts[t];
            for (uint64_t c = 0, of = 1 + random_below(&seed, 6); c < of; c++) {
                unsigned code = 0xe0 + (unsigned)random_below(&seed, 32);     /* E0 .. FF stand for themselves */
                if (random_below(&seed, 3)) {                                   /* 80 .. A0 are U+0122 .. U+0142 */
                    code = 0x122 + (unsigned)random_below(&seed, 33);
                } else if (!random_below(&seed, 3)) {
                    *to++ = (char)('a' + random_below(&seed, 26));
                    continue;
                }
                *to++ = (char)(0xc0 | code >> 6);
                *to++ = (char)(0x80 | (code & 63));
            }
            *to = 0;
            tokens[t] = (vocab_extra) { texts[t], SL_TOKEN_NORMAL };
        }
        vocab_test v;
        counting count = { 0 };
        sl_mem mem = counting_mem(&count);
        assert_int_equal(vocab_make_bytes(&v, &mem, "gpt-2", NULL, tokens, TOKENS, NULL, 0), SL_OK);
        sl_stream *s;
        assert_int_equal(sl_stream_create(&s, &mem, v.vocab, 0, 1), SL_OK);
        for (int k = 0; k < 20; k++) {
            sl_token ids[TEXT];
            char raw[TEXT * 16], want[TEXT * 48], got[TEXT * 48];
            size_t n_raw, n_got = 0, n, n_ids = random_below(&seed, TEXT);
            const char *text;
            for (size_t i = 0; i < n_ids; i++)
                ids[i] = (sl_token)random_below(&seed, 256 + TOKENS);
            assert_int_equal(sl_vocab_decode(v.vocab, ids, n_ids, 0, raw, sizeof raw, &n_raw), SL_OK);
            size_t n_want = repair((const unsigned char *)raw, n_raw, want);
            for (size_t i = 0; i < n_ids; i++) {
                char whole[200];
                assert_int_equal(sl_stream_push(s, ids[i], &text, &n), SL_OK);
                assert_int_equal(repair((const unsigned char *)text, n, whole), n);     /* each part is whole by itself */
                add(got, &n_got, text, n);
            }
            assert_int_equal(sl_stream_flush(s, &text, &n), SL_OK);
            add(got, &n_got, text, n);
            assert_int_equal(n_got, n_want);
            assert_memory_equal(got, want, n_got);
        }
        sl_stream_free(s);
        vocab_close(&v);
        counting_check_none(&count);
    }
}

/* A push that finds no memory leaves the stream as it was. */
static void needs_no_memory_per_token(void **state)
{
    (void)state;
    vocab_test v;
    counting count = { 0 };
    sl_mem mem = counting_mem(&count);
    assert_int_equal(vocab_make_bytes(&v, &mem, "gpt-2", NULL, extras, N(extras), NULL, 0), SL_OK);
    sl_stream *s = NULL;
    const char *text;
    size_t n, fail = 1;
    for (;; fail++) {
        count.calls = 0, count.fail_at = fail, count.fail_for = 1;
        if (sl_stream_create(&s, &mem, v.vocab, 0, 1) == SL_OK)
            break;
        assert_null(s);
    }
    assert_true(fail > 1);
    count.calls = 0, count.fail_at = 1, count.fail_for = 0;      /* from here on nothing can be had */
    assert_int_equal(sl_stream_push(s, 0xc3, &text, &n), SL_OK);
    assert_int_equal(n, 0);
    assert_int_equal(sl_stream_push(s, 0xa4, &text, &n), SL_OK);
    assert_int_equal(n, 2);
    assert_int_equal(count.calls, 0);
    count.fail_at = 0;
    sl_stream_free(s);
    vocab_close(&v);
    counting_check_none(&count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_the_needed_size),
        cmocka_unit_test(streams_whole_characters),
        cmocka_unit_test(drops_one_leading_space),
        cmocka_unit_test(streams_as_a_whole),
        cmocka_unit_test(needs_no_memory_per_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
