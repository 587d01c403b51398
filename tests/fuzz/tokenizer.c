/* SPDX-License-Identifier: MIT */
/* tokenizer.c - fuzz target: any bytes as text for vocabularies of every kind, and any lines as a vocabulary.
 *
 * The first byte chooses: 0 .. 8 one of the vocabularies below, and the rest is text; from 9 on the rest begins with a vocabulary of its own,
 * line by line up to an empty one: a digit and a token's text (the digit is its kind), or m and a merge. Odd numbers are byte-level pairs. */
#include "vocab_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N(array) (sizeof array / sizeof *array)

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

static void *room(size_t n)
{
    void *block = malloc(n ? n : 1);
    if (!block)
        abort();
    return block;
}

/* ---- the vocabularies ---- */

enum { OWN = 9 };

static void make_pieces(vocab_test *v, int prefix)
{
    static const vocab_piece list[] = {
        { "\xe2\x96\x81", -3, 1 }, { "a", -4, 1 }, { "b", -5, 1 }, { "ab", -1, 1 }, { "aa", -1, 1 }, { "aaaa", -1.5f, 1 }, { "\xe2\x96\x81" "a", -0.5f, 1 },
        { "\xe2\x96\x81\xe2\x96\x81", -2, 1 }, { "\xc3\xa4", -6, 1 }, { "abb", -9, 1 }, { "b\xe2\x96\x81", 1, 1 }, { "\xe4\xb8\xad\xe4\xb8\xad", -1, 1 }, { "<s", 2, 1 },
        { "\xff\xfe", 3, 1 },
    };
    require(vocab_make_pieces(v, NULL, prefix, list, N(list)) == SL_OK, "pieces");
}

/* No bytes: what is unknown is token 0. Behind a special token white space goes, as the name asks for. */
static void make_without_bytes(vocab_test *v)
{
    static const sl_text texts[] = { { "<unk>", 5 }, { "<s>", 3 }, { "</s>", 4 }, { "a", 1 }, { "ab", 2 }, { "<u>", 3 }, { "u>", 2 }, { "<|end|>", 7 }, { "", 0 }, { "a", 1 } };
    static const int32_t kinds[] = { 2, 3, 3, 1, 1, 4, 4, 3, 4, 5 };
    const vocab_recipe r = { .model = "llama", .name = "Phi-3", .texts = texts, .n_texts = N(texts), .kinds = kinds, .add_eos = 1 };
    require(vocab_make(v, NULL, &r) == SL_OK, "a vocabulary without bytes");
}

static void make_bytes(vocab_test *v, const char *pre, const char *name)
{
    static const vocab_extra list[] = {
        { "ab", 1 }, { "abc", 1 }, { "aa", 1 }, { "\xc4\xa0" "a", 1 }, { "\xc4\xa0\xc4\xa0", 1 }, { "hello", 1 }, { "12", 1 }, { "\xc3\xa4\xc2\xb8\xc5\x83", 1 },
        { "<|eot_id|>", SL_TOKEN_CONTROL }, { "<u>", SL_TOKEN_USER_DEFINED }, { "u>", SL_TOKEN_USER_DEFINED }, { "u>u>", SL_TOKEN_USER_DEFINED }, { "|", SL_TOKEN_CONTROL },
        { "<s>", SL_TOKEN_CONTROL },
    };
    static const char *const merges[] = { "b c", "a b", "a bc", "a a", "\xc4\xa0 a", "\xc4\xa0 \xc4\xa0", "1 2", "\xc3\xa4 \xc2\xb8", "\xc3\xa4\xc2\xb8 \xc5\x83", "x y", "xy xy" };
    require(vocab_make_bytes(v, NULL, pre, name, list, N(list), merges, N(merges)) == SL_OK, "bytes");
}

static vocab_test all[OWN];

static void close_all(void)
{
    for (size_t i = 0; i < N(all); i++)
        vocab_close(&all[i]);
}

static vocab_test *vocabulary(unsigned choice)
{
    static const char *const pres[] = { "llama-bpe", "llama4", "tekken", "gpt-2", "default" };
    static int registered;
    vocab_test *v = &all[choice];
    if (v->vocab)
        return v;
    if (!registered++)
        atexit(close_all);
    if (choice < 2)
        make_pieces(v, (int)choice);
    else if (choice == 2)
        make_without_bytes(v);
    else if (choice < 8)
        make_bytes(v, pres[choice - 3], NULL);
    else
        make_bytes(v, "llama-bpe", "a PHI3 of pairs");
    return v;
}

/* Reads the lines at the front of *data; what stands behind them is left there. 0 if there is no vocabulary. */
static int read_own(vocab_test *v, int pairs, const uint8_t **data, size_t *size)
{
    enum { MOST = 200 };
    sl_text texts[MOST], merges[MOST];
    int32_t kinds[MOST];
    float scores[MOST];
    size_t n = 0, n_merges = 0;
    while (*size && n < MOST && n_merges < MOST) {
        const char *line = (const char *)*data, *end = memchr(line, '\n', *size);
        size_t length = end ? (size_t)(end - line) : *size;
        *data += length + (end != NULL);
        *size -= length + (end != NULL);
        if (!length)
            break;
        if (*line == 'm') {
            merges[n_merges++] = (sl_text) { line + 1, length - 1 };
        } else {
            texts[n] = (sl_text) { line + 1, length - 1 };
            kinds[n] = (int32_t)*line - '0';
            scores[n] = (float)((*line * 7 + (int)length * 3) % 5);
            n++;
        }
    }
    const vocab_recipe r = { .model = pairs ? "gpt2" : "llama", .pre = pairs ? "tekken" : NULL, .texts = texts, .n_texts = n, .kinds = kinds,
                             .scores = scores, .merges = merges, .n_merges = n_merges, .unknown = 1, .bos = 2, .add_eos = 1 };
    if (vocab_make(v, NULL, &r) == SL_OK)
        return 1;
    vocab_close(v);
    return 0;
}

/* ---- what must hold ---- */

static void compare_stream(const vocab_test *v, const sl_token *ids, size_t n, const char *text, size_t length)
{
    sl_stream *s;
    char *whole = room(3 * length + 3);
    const char *part;
    size_t n_part, n_all = 0;
    int repaired = 0;
    require(sl_stream_create(&s, &v->mem, v->vocab, SL_DECODE_SPECIAL, 1) == SL_OK, "a stream");
    for (size_t i = 0; i <= n; i++) {
        require((i < n ? sl_stream_push(s, ids[i], &part, &n_part) : sl_stream_flush(s, &part, &n_part)) == SL_OK, "a push");
        require(n_all + n_part <= 3 * length + 3, "a byte becomes at most three");
        memcpy(whole + n_all, part, n_part);
        n_all += n_part;
    }
    for (size_t i = 0; i + 3 <= n_all; i++)
        repaired |= !memcmp(whole + i, "\xef\xbf\xbd", 3);
    require(repaired || (n_all == length && !memcmp(whole, text, length)), "the stream is the whole");
    sl_stream_free(s);
    free(whole);
}

/* The texts of scored pieces, one behind the other, are the text with its spaces marked. */
static void compare_pieces(const vocab_test *v, int prefix, const sl_token *ids, size_t n, const char *text, size_t size)
{
    char *want = room(3 * size + 3);
    size_t n_want = 0, at = 0;
    for (size_t i = 0; i < size + (size_t)prefix; i++) {
        char c = prefix && !i ? ' ' : text[i - (size_t)prefix];
        memcpy(want + n_want, c == ' ' ? "\xe2\x96\x81" : &c, c == ' ' ? 3 : 1);
        n_want += c == ' ' ? 3 : 1;
    }
    for (size_t i = 0; i < n; i++) {
        sl_token_info info;
        require(sl_vocab_token(v->vocab, ids[i], &info) == SL_OK, "a token");
        char byte = (char)(ids[i] - 3);
        const char *piece = info.kind == SL_TOKEN_BYTE ? &byte : info.text;
        size_t length = info.kind == SL_TOKEN_BYTE ? 1 : info.length;
        require(length <= n_want - at && !memcmp(want + at, piece, length), "pieces are the text");
        at += length;
    }
    require(at == n_want, "all of the text");
    free(want);
}

static void check(const vocab_test *v, unsigned choice, const char *text, size_t size)
{
    size_t capacity = 4 * size + 8, n, again, length;   /* at worst a space alone between special tokens of one byte: six bytes of marks */
    sl_token *ids = room(capacity * sizeof *ids);
    for (uint32_t flags = 0; flags < 4; flags++) {
        require(sl_vocab_encode(v->vocab, text, size, flags, ids, capacity, &n) == SL_OK, "any text has ids");
        sl_status status = sl_vocab_encode(v->vocab, text, size, flags, NULL, 0, &again);
        require(again == n && status == (n ? SL_ERR_BUFFER : SL_OK), "the needed count");
        status = sl_vocab_decode(v->vocab, ids, n, SL_DECODE_SPECIAL, NULL, 0, &length);
        require(status == (length ? SL_ERR_BUFFER : SL_OK), "ids have a text");
        char *back = room(length);
        require(sl_vocab_decode(v->vocab, ids, n, SL_DECODE_SPECIAL, back, length, &again) == SL_OK && again == length, "it fits");
        if (choice >= 3 && choice < 8 && !(flags & SL_ENCODE_ADD_SPECIAL))
            require(length == size && !memcmp(back, text, size), "bytes come back");
        if (choice < 2 && !flags && size)
            compare_pieces(v, (int)choice, ids, n, text, size);
        compare_stream(v, ids, n, back, length);
        free(back);
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    unsigned choice = *data++ % 16;
    size--;
    if (choice < OWN) {
        check(vocabulary(choice), choice, (const char *)data, size);
        return 0;
    }
    vocab_test own;
    if (read_own(&own, choice % 2, &data, &size)) {
        check(&own, choice, (const char *)data, size);
        vocab_close(&own);
    }
    return 0;
}
