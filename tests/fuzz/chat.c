/* SPDX-License-Identifier: MIT */
/* chat.c - fuzz target: any bytes as a conversation in any format, over a vocabulary that has the format's tokens or not. Ids are those of the vocabulary, as many with little
 * room as with much, the same twice; what a message says makes no control token: with other texts in the same parts there are as many. And any bytes as a template.
 *
 * Byte 0: the format; byte 1: bit 0 closed, bit 1 the model takes no pictures, bit 2 pieces instead of byte pairs, bit 3 a date, bit 4 the rest is a template. Then parts:
 * a byte (bits 0-1 the role, bit 2 a new message, bit 3 a picture), a byte that says how long the text is, the text. */
#include "chat.h"
#include "counting.h"
#include "vocab_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLOSED = 1, BLIND = 2, PIECES = 4, DATED = 8, TEMPLATE = 16 };
enum { NEW_MESSAGE = 4, PICTURE = 8 };
enum { MOST_PARTS = 32, MOST_IDS = 16384, FEW_IDS = 5, MOST_BYTES = 16 << 20 };

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

/* Every token that some format needs; the vocabulary of pieces has only its own three, and so lacks most. */
static const vocab_extra tokens[] = {
    { "<|begin_of_text|>", SL_TOKEN_CONTROL }, { "<|start_header_id|>", SL_TOKEN_CONTROL }, { "<|end_header_id|>", SL_TOKEN_CONTROL }, { "<|eot_id|>", SL_TOKEN_CONTROL },
    { "<|header_start|>", SL_TOKEN_CONTROL }, { "<|header_end|>", SL_TOKEN_CONTROL }, { "<|eot|>", SL_TOKEN_CONTROL }, { "<|im_start|>", SL_TOKEN_CONTROL }, { "<|im_end|>", SL_TOKEN_CONTROL },
    { "<s>", SL_TOKEN_CONTROL }, { "</s>", SL_TOKEN_CONTROL }, { "[INST]", SL_TOKEN_CONTROL }, { "[/INST]", SL_TOKEN_CONTROL },
    { "[SYSTEM_PROMPT]", SL_TOKEN_CONTROL }, { "[/SYSTEM_PROMPT]", SL_TOKEN_CONTROL }, { "<|image|>", SL_TOKEN_CONTROL },
};
enum { N_TOKENS = sizeof tokens / sizeof *tokens, IMAGE = 256 + N_TOKENS - 1 };

static vocab_test made[2];

static void close_all(void)
{
    for (int i = 0; i < 2; i++)
        if (made[i].vocab)
            vocab_close(&made[i]);
}

static const sl_vocab *vocabulary(int pieces)
{
    static const vocab_piece words[] = { { "\xe2\x96\x81", -1, SL_TOKEN_NORMAL }, { "a", -2, SL_TOKEN_NORMAL }, { "b", -3, SL_TOKEN_NORMAL }, { "ab", -1, SL_TOKEN_NORMAL } };
    if (!made[0].vocab && !made[1].vocab)
        atexit(close_all);
    if (!made[pieces].vocab)
        require((pieces ? vocab_make_pieces(&made[1], NULL, 1, words, 4) : vocab_make_bytes(&made[0], NULL, "llama-bpe", NULL, tokens, N_TOKENS, NULL, 0)) == SL_OK, "a vocabulary");
    return made[pieces].vocab;
}

/* A picture for functions that never look at one. */
static const sl_image *picture(void)
{
    static const char some = 0;
    return (const sl_image *)(const void *)&some;
}

/* ---- conversations ---- */

typedef struct talk {
    sl_chat_message messages[MOST_PARTS];
    sl_chat_part parts[MOST_PARTS];
    size_t n, n_parts;
} talk;

static void read_talk(talk *t, const uint8_t *at, const uint8_t *end)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    t->n = t->n_parts = 0;
    while (end - at >= 2 && t->n_parts < MOST_PARTS) {
        const unsigned how = *at++;
        const size_t told = *at++, left = (size_t)(end - at), length = how & PICTURE ? 0 : told < left ? told : left;
        if (!t->n || how & NEW_MESSAGE)
            t->messages[t->n++] = (sl_chat_message) { sizeof *t->messages, roles[how % 4], &t->parts[t->n_parts], 0 };
        t->messages[t->n - 1].n_parts++;
        t->parts[t->n_parts++] = how & PICTURE ? (sl_chat_part) { sizeof *t->parts, NULL, 0, picture() } : (sl_chat_part) { sizeof *t->parts, (const char *)at, length, NULL };
        at += length;
    }
}

static size_t n_control(const sl_vocab *vocab, const sl_token *ids, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        sl_token_info info = { .size = sizeof info };
        require(sl_vocab_token(vocab, ids[i], &info) == SL_OK, "ids of the vocabulary");
        count += info.kind == SL_TOKEN_CONTROL;
    }
    return count;
}

static int is_known(sl_status status)
{
    return status == SL_OK || status == SL_ERR_ARGUMENT || status == SL_ERR_UNSUPPORTED || status == SL_ERR_MISSING || status == SL_ERR_NOMEM;
}

static void check_talk(const sl_vocab *vocab, const sl_chat_row *row, unsigned flags, talk *t)
{
    static sl_token ids[MOST_IDS], again[MOST_IDS];
    const sl_chat_options o = { .size = sizeof o, .flags = flags & CLOSED ? SL_CHAT_CLOSED : 0, .date = flags & DATED ? "1 January <s> 2031" : NULL };
    const sl_token image = flags & BLIND ? SL_TOKEN_NONE : flags & PIECES ? 1 : IMAGE;
    counting memory = { .most_bytes = MOST_BYTES };
    const sl_mem mem = counting_mem(&memory);
    size_t n, n_few;
    const sl_status status = sl_chat_write(vocab, &mem, row, image, NULL, t->messages, t->n, &o, ids, MOST_IDS, &n);
    require(is_known(status) && (status == SL_OK || !n), "a known verdict");
    const sl_status few = sl_chat_write(vocab, &mem, row, image, NULL, t->messages, t->n, &o, again, FEW_IDS, &n_few);
    require(few == (status == SL_OK && n > FEW_IDS ? SL_ERR_BUFFER : status), "the same verdict with little room");
    if (status == SL_OK) {
        require(n_few == n && !memcmp(ids, again, (n < FEW_IDS ? n : FEW_IDS) * sizeof *ids), "as many ids with little room, and the same");
        const size_t control = n_control(vocab, ids, n);
        for (size_t i = 0; i < t->n_parts; i++)
            if (t->parts[i].text)
                t->parts[i].text = "x", t->parts[i].length = 1;
        require(sl_chat_write(vocab, &mem, row, image, NULL, t->messages, t->n, &o, again, MOST_IDS, &n) == SL_OK, "other texts in the same parts");
        require(n_control(vocab, again, n) == control, "a message makes no control token");
    }
    require(!memory.live_blocks && !memory.wrong, "nothing is left");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static talk t;
    size_t n_rows = 0;
    if (size < 2)
        return 0;
    const unsigned flags = data[1];
    const sl_vocab *vocab = vocabulary((flags & PIECES) != 0);
    if (flags & TEMPLATE) {
        const sl_chat_row *row = sl_chat_recognise(vocab, (sl_text) { (const char *)data + 2, size - 2 });
        require(!row || sl_chat_row_find(row->name) == row, "a row of the table, or none");
        return 0;
    }
    while (sl_chat_row_at(n_rows))
        n_rows++;
    read_talk(&t, data + 2, data + size);
    check_talk(vocab, sl_chat_row_at(data[0] % n_rows), flags, &t);
    return 0;
}
