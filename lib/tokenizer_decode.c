/* SPDX-License-Identifier: MIT */
/* tokenizer_decode.c - ids back to bytes, all at once or one by one without ever splitting a UTF-8 sequence. */
#include "unicode.h"
#include "vocab.h"

#include <string.h>

/* Adds the bytes of one token. `first`: it begins the text. */
static void add_piece(const sl_vocab *vocab, uint32_t id, uint32_t flags, int first, sl_bytes *out)
{
    const sl_token_row *t = &vocab->tokens[id];
    out->drop_space = first && vocab->space_prefix && !(flags & SL_DECODE_KEEP_SPACE);
    int hidden = (t->kind == SL_TOKEN_CONTROL || t->kind == SL_TOKEN_UNKNOWN) && !(flags & SL_DECODE_SPECIAL);
    if (t->kind == SL_TOKEN_NORMAL)
        vocab->tokenizer->piece(t, out);
    else if (t->kind == SL_TOKEN_BYTE)
        sl_bytes_add(out, (char)sl_vocab_byte(t->text, t->length));
    else if (t->kind != SL_TOKEN_UNUSED && !hidden)
        for (uint32_t i = 0; i < t->length; i++)
            sl_bytes_add(out, t->text[i]);
    out->drop_space = 0;
}

static sl_status check_id(const sl_vocab *vocab, sl_token id)
{
    if (id < 0 || (uint32_t)id >= vocab->n_tokens)
        return sl_fail(SL_ERR_RANGE, "token %d: the vocabulary has %u", (int)id, vocab->n_tokens);
    return SL_OK;
}

static sl_status check_flags(uint32_t flags)
{
    if (flags & ~(SL_DECODE_SPECIAL | SL_DECODE_KEEP_SPACE))
        return sl_fail(SL_ERR_ARGUMENT, "decode: unknown flags 0x%x", (unsigned)flags);
    return SL_OK;
}

sl_status sl_vocab_decode(const sl_vocab *vocab, const sl_token *ids, size_t n_ids, uint32_t flags, char *text, size_t capacity, size_t *length)
{
    *length = 0;
    if ((!ids && n_ids) || (!text && capacity))
        return sl_fail(SL_ERR_ARGUMENT, "decode: a pointer is NULL where ids or bytes are announced");
    SL_TRY(check_flags(flags));
    sl_bytes out = { text, capacity, 0, 0 };
    for (size_t i = 0; i < n_ids; i++) {
        SL_TRY(check_id(vocab, ids[i]));
        if (out.count > SIZE_MAX - SL_LIMIT_TOKEN_BYTES)
            return sl_fail(SL_ERR_OVERFLOW, "decode: the text of %zu ids does not fit the address space", n_ids);
        add_piece(vocab, (uint32_t)ids[i], flags, i == 0, &out);
    }
    *length = out.count;
    if (out.count > capacity)
        return sl_fail(SL_ERR_BUFFER, "decode: the text has %zu bytes, there is room for %zu", out.count, capacity);
    return SL_OK;
}

/* ---- one by one ---- */

enum { UNFINISHED_BYTES = 3 };      /* most of a sequence that is not whole yet */

struct sl_stream {
    sl_mem mem;
    const sl_vocab *vocab;
    uint32_t flags;
    int first;                  /* as created */
    int at_start;               /* the next token is the first of the text */
    char *raw, *text;           /* bytes that came in, the unfinished ones first; what is handed out */
    size_t n_raw;
};

static const char replacement[] = "\xef\xbf\xbd";

sl_status sl_stream_create(sl_stream **out, const sl_mem *mem, const sl_vocab *vocab, uint32_t flags, uint32_t first)
{
    *out = NULL;
    SL_TRY(check_flags(flags));
    sl_stream *stream = sl_mem_alloc(mem, 1, sizeof *stream);
    if (!stream)
        return SL_ERR_NOMEM;
    *stream = (sl_stream) { .mem = *mem, .vocab = vocab, .flags = flags, .first = first != 0, .at_start = first != 0 };
    /* All at once, so that no token ever waits for memory: the rest of a sequence, the longest token and a space; at worst each byte becomes three. */
    const size_t bytes = (size_t)vocab->longest + UNFINISHED_BYTES + 1;
    stream->raw = sl_mem_alloc(mem, bytes, 1);
    stream->text = sl_mem_alloc(mem, bytes, 3);
    if (!stream->raw || !stream->text) {
        sl_stream_free(stream);
        return SL_ERR_NOMEM;
    }
    *out = stream;
    return SL_OK;
}

void sl_stream_free(sl_stream *stream)
{
    if (!stream)
        return;
    sl_mem mem = stream->mem;
    sl_mem_free(&mem, stream->raw);
    sl_mem_free(&mem, stream->text);
    sl_mem_free(&mem, stream);
}

/* Hands out the whole sequences of raw; an unfinished one stays there, or with `finish` comes out as U+FFFD. */
static void hand_out(sl_stream *s, int finish, const char **text, size_t *length)
{
    size_t at = 0, to = 0, bad;
    while (at < s->n_raw) {
        size_t n = sl_utf8_check((const uint8_t *)s->raw + at, s->n_raw - at, &bad);
        if (!n && !bad) {
            if (!finish)
                break;
            bad = s->n_raw - at;
        }
        memcpy(s->text + to, n ? s->raw + at : replacement, n ? n : 3);
        to += n ? n : 3;
        at += n ? n : bad;
    }
    s->n_raw -= at;
    if (s->n_raw)
        memmove(s->raw, s->raw + at, s->n_raw);
    *text = s->text;
    *length = to;
}

sl_status sl_stream_push(sl_stream *stream, sl_token id, const char **text, size_t *length)
{
    *text = "";
    *length = 0;
    SL_TRY(check_id(stream->vocab, id));
    sl_bytes out = { stream->raw + stream->n_raw, stream->vocab->tokens[id].length + 1, 0, 0 };
    add_piece(stream->vocab, (uint32_t)id, stream->flags, stream->at_start, &out);
    stream->n_raw += out.count;
    stream->at_start = 0;
    hand_out(stream, 0, text, length);
    return SL_OK;
}

sl_status sl_stream_flush(sl_stream *stream, const char **text, size_t *length)
{
    hand_out(stream, 1, text, length);
    stream->at_start = stream->first;
    return SL_OK;
}
