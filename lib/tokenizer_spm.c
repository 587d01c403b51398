/* SPDX-License-Identifier: MIT */
/* tokenizer_spm.c - scored pieces (tokenizer.ggml.model = llama): the neighbours whose joined text is the token with the best score are joined. */
#include "arith.h"
#include "vocab.h"

#include <string.h>

/* U+2581, which stands for a space inside of tokens. */
static const char space_mark[] = "\xe2\x96\x81";
enum { MARK = 3 };

static int are_neighbours(const sl_vocab *vocab, uint8_t a, uint8_t b)
{
    uint32_t bit = (uint32_t)a << 8 | b;
    return (int)(vocab->neighbours[bit / 32] >> bit % 32 & 1);
}

sl_status sl_spm_load(sl_vocab *vocab, const sl_gguf *gguf, const sl_log *log, const char *pre)
{
    (void)pre;
    if (sl_gguf_find(gguf, "tokenizer.ggml.add_space_prefix")) {
        int prefix;
        SL_TRY(sl_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &prefix));
        vocab->space_prefix = (uint8_t)prefix;
    }
    vocab->neighbours = sl_mem_alloc(&vocab->mem, 65536 / 32, sizeof *vocab->neighbours);
    if (!vocab->neighbours)
        return SL_ERR_NOMEM;
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        const uint8_t *text = (const uint8_t *)vocab->tokens[id].text;
        for (uint32_t i = 1; i < vocab->tokens[id].length; i++) {
            uint32_t bit = (uint32_t)text[i - 1] << 8 | text[i];
            vocab->neighbours[bit / 32] |= 1u << bit % 32;
        }
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        static const char digits[] = "0123456789ABCDEF";
        const char text[6] = { '<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>' };
        vocab->byte_id[byte] = sl_vocab_find(vocab, text, sizeof text);
    }
    (void)log;
    return SL_OK;
}

/* A word in the making. */
typedef struct word {
    const sl_vocab *vocab;
    const char *text;
    uint32_t length;            /* bytes; join.value holds the first byte of each piece */
} word;

static uint32_t end_of(const word *w, const sl_join *join, uint32_t piece)
{
    uint32_t behind = piece + join->length[piece];
    return behind < join->n ? join->value[behind] : w->length;
}

/* Scores as ranks: the highest score becomes the lowest number. The bits of a float, turned so that they count like its value. */
static uint32_t rank_of(float score)
{
    uint32_t bits = sl_bits(score + 0.0f);      /* -0 becomes 0 */
    return ~(bits >> 31 ? ~bits : bits | 0x80000000u);
}

static uint32_t join_score(const void *owner, const sl_join *join, uint32_t left, uint32_t right, uint32_t *joined)
{
    const word *w = owner;
    uint32_t start = join->value[left], length = end_of(w, join, right) - start, id;
    (void)joined;               /* a piece keeps its first byte */
    if (length > w->vocab->longest || (id = sl_vocab_find(w->vocab, w->text + start, length)) == SL_VOCAB_NONE)
        return SL_VOCAB_NONE;
    return rank_of(w->vocab->tokens[id].score);
}

static void add_piece(const sl_vocab *vocab, sl_ids *out, const char *text, uint32_t length)
{
    uint32_t id = sl_vocab_find(vocab, text, length);
    if (id != SL_VOCAB_NONE)
        sl_ids_add(out, id);
    else
        for (uint32_t i = 0; i < length; i++)
            sl_ids_add(out, vocab->byte_id[(uint8_t)text[i]]);
}

/* Bytes of the symbol at `text`: what its first byte announces, cut short at the end. Later bytes are not looked at. */
static size_t symbol_length(const char *text, size_t left)
{
    uint8_t first = (uint8_t)*text;
    size_t n = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    return n < left ? n : left;
}

static sl_status encode_word(const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length, size_t n_symbols)
{
    if (length > INT32_MAX)
        return sl_fail(SL_ERR_LIMIT, "a word of %zu bytes", length);
    word w = { vocab, text, (uint32_t)length };
    SL_TRY(sl_join_reserve(&scratch->join, scratch->mem, n_symbols));
    sl_join *join = &scratch->join;
    for (size_t i = 0, at = 0; i < n_symbols; i++) {
        join->value[i] = (uint32_t)at;
        at += symbol_length(text + at, length - at);
    }
    sl_join_run(join, join_score, &w);
    for (uint32_t i = 0; i < n_symbols; i += join->length[i])
        add_piece(vocab, scratch->out, text + join->value[i], end_of(&w, join, i) - join->value[i]);
    return SL_OK;
}

/* The stretch with its spaces marked. */
static sl_status mark_spaces(const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t *length)
{
    size_t n = *length, marks = vocab->space_prefix, bytes;
    for (size_t i = 0; i < n; i++)
        marks += text[i] == ' ';
    if (sl_mul(marks, MARK, &bytes) || sl_add(bytes, n, &bytes))
        return sl_fail(SL_ERR_LIMIT, "a text of %zu bytes", n);
    SL_TRY(sl_mem_grow(scratch->mem, &scratch->text, bytes, 1));
    char *to = scratch->text;
    if (vocab->space_prefix) {
        memcpy(to, space_mark, MARK);
        to += MARK;
    }
    for (size_t i = 0; i < n; i++)
        if (text[i] == ' ') {
            memcpy(to, space_mark, MARK);
            to += MARK;
        } else
            *to++ = text[i];
    *length = (size_t)(to - scratch->text);
    return SL_OK;
}

/* No token reaches across two bytes that are neighbours in none, so nothing is ever joined there: the text falls into words. */
sl_status sl_spm_encode(const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length)
{
    SL_TRY(mark_spaces(vocab, scratch, text, &length));
    text = scratch->text;
    for (size_t at = 0, start = 0, n_symbols = 0; at < length;) {
        at += symbol_length(text + at, length - at);
        n_symbols++;
        if (at < length && are_neighbours(vocab, (uint8_t)text[at - 1], (uint8_t)text[at]))
            continue;
        SL_TRY(encode_word(vocab, scratch, text + start, at - start, n_symbols));
        start = at;
        n_symbols = 0;
    }
    return SL_OK;
}

void sl_spm_piece(const sl_token_row *token, sl_bytes *out)
{
    for (uint32_t i = 0; i < token->length; i++)
        if (token->length - i >= MARK && !memcmp(token->text + i, space_mark, MARK)) {
            sl_bytes_add(out, ' ');
            i += MARK - 1;
        } else
            sl_bytes_add(out, token->text[i]);
}
