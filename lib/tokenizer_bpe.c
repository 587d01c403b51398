/* SPDX-License-Identifier: MIT */
/* tokenizer_bpe.c - byte-level pairs (tokenizer.ggml.model = gpt2): words by a splitter, then the neighbours with the best merge are joined.
 * Bytes of the text stay as they are, also those that are no UTF-8: every byte has its own symbol, so any text comes back unchanged. */
#include "unicode.h"
#include "vocab.h"

#include <string.h>

/* ---- the byte alphabet: printable bytes of Latin-1 stand for themselves, the other 68 for U+0100 and up ---- */

enum { LOW = 0x21, MIDDLE_FIRST = 0x7f, MIDDLE_LAST = 0xa0, HYPHEN = 0xad, N_OTHERS = 68 };

static uint32_t character_of(uint8_t byte)
{
    if (byte < LOW)
        return 0x100u + byte;
    if (byte >= MIDDLE_FIRST && byte <= MIDDLE_LAST)
        return 0x100u + LOW + byte - MIDDLE_FIRST;
    return byte == HYPHEN ? 0x100 + N_OTHERS - 1 : byte;
}

/* The byte that a character stands for, or -1. */
static int byte_of(uint32_t character)
{
    if (character >= 0x100) {
        uint32_t other = character - 0x100;
        return other >= N_OTHERS ? -1 : other < LOW ? (int)other : other < N_OTHERS - 1 ? (int)(other - LOW + MIDDLE_FIRST) : HYPHEN;
    }
    return character < LOW || (character >= MIDDLE_FIRST && character <= MIDDLE_LAST) || character == HYPHEN ? -1 : (int)character;
}

/* Writes the character of a byte in UTF-8; returns its length, 1 or 2. */
static size_t put_character(char *to, uint8_t byte)
{
    uint32_t character = character_of(byte);
    if (character < 0x80) {
        to[0] = (char)character;
        return 1;
    }
    to[0] = (char)(0xc0 | character >> 6);
    to[1] = (char)(0x80 | (character & 0x3f));
    return 2;
}

void sl_bpe_piece(const sl_token_row *token, sl_bytes *out)
{
    const uint8_t *text = (const uint8_t *)token->text;
    for (size_t i = 0, n, bad; i < token->length; i += n) {
        uint32_t character;
        n = sl_utf8_check(text + i, token->length - i, &bad);
        int byte = -1;
        if (n) {
            sl_utf8_decode(text + i, n, &character);
            byte = byte_of(character);
        } else
            n = 1;
        if (byte >= 0)
            sl_bytes_add(out, (char)byte);
        else                    /* not of the alphabet: as it is */
            for (size_t k = 0; k < n; k++)
                sl_bytes_add(out, token->text[i + k]);
    }
}

/* ---- loading ---- */

/* Symbols from n_tokens on: texts that only merges know. Needed while the merges are read; later their number is enough. */
typedef struct extras {
    const sl_vocab *vocab;
    sl_map map;
    sl_text *texts;
    uint32_t count;
    char *arena, *joined;       /* joined texts that are kept; the one being looked up */
    size_t used;
} extras;

static sl_text extra_text(const void *owner, uint32_t value) { return ((const extras *)owner)->texts[value]; }

/* Left and right part of a merge: the separator is the first space after the first byte. */
static sl_status cut_merge(sl_text merge, uint64_t index, sl_text *left, sl_text *right)
{
    const char *space = merge.length > 1 ? memchr(merge.data + 1, ' ', merge.length - 1) : NULL;
    if (space) {
        *left = (sl_text) { merge.data, (size_t)(space - merge.data) };
        *right = (sl_text) { space + 1, merge.length - left->length - 1 };
        if (right->length && !memchr(right->data, ' ', right->length))
            return SL_OK;
    }
    char quoted[SL_QUOTE_BYTES];
    return sl_fail(SL_ERR_RANGE, "tokenizer.ggml.merges: entry %llu, \"%s\", is not two texts and a space", (unsigned long long)index,
                   sl_quote(quoted, merge.data, merge.length));
}

static sl_text join_text(extras *x, sl_text left, sl_text right)
{
    memcpy(x->joined, left.data, left.length);
    memcpy(x->joined + left.length, right.data, right.length);
    return (sl_text) { x->joined, left.length + right.length };
}

/* First pass: checks every merge, enters the ids of its three texts, and counts the texts that are no tokens. */
static sl_status find_merges(sl_vocab *vocab, extras *x, const sl_gguf_value *merges, size_t *n_texts, size_t *n_bytes)
{
    const uint8_t *cursor = merges->data;
    for (uint64_t i = 0; i < merges->count; i++) {
        sl_text merge = sl_gguf_next_text(&cursor), left, right;
        SL_TRY(cut_merge(merge, i, &left, &right));
        SL_TRY(sl_mem_grow(&vocab->mem, &x->joined, merge.length, 1));
        sl_text joined = join_text(x, left, right);
        sl_merge m = { sl_vocab_find(vocab, left.data, left.length), sl_vocab_find(vocab, right.data, right.length),
                       sl_vocab_find(vocab, joined.data, joined.length) };
        vocab->merges[i] = m;
        *n_texts += (size_t)(m.left == SL_VOCAB_NONE) + (m.right == SL_VOCAB_NONE) + (m.joined == SL_VOCAB_NONE);
        *n_bytes += m.joined == SL_VOCAB_NONE ? joined.length : 0;
    }
    return SL_OK;
}

/* The symbol of a text that is no token; a new one if need be. `keep`: the text must be copied. */
static uint32_t symbol_of(extras *x, sl_text text, int keep)
{
    uint32_t extra = sl_map_find(&x->map, text.data, text.length, extra_text, x);
    if (extra == SL_MAP_NONE) {
        if (keep) {
            memcpy(x->arena + x->used, text.data, text.length);
            text.data = x->arena + x->used;
            x->used += text.length;
        }
        extra = x->count++;
        x->texts[extra] = text;
        sl_map_add(&x->map, extra, extra_text, x);
    }
    return x->vocab->n_tokens + extra;
}

/* Second pass, over the merges with texts that are no tokens: they become symbols of their own. */
static sl_status find_extras(sl_vocab *vocab, extras *x, const sl_gguf_value *merges, size_t n_texts, size_t n_bytes)
{
    SL_TRY(sl_map_init(&x->map, &vocab->mem, n_texts));
    x->texts = sl_mem_alloc(&vocab->mem, n_texts, sizeof *x->texts);
    x->arena = sl_mem_alloc(&vocab->mem, n_bytes, 1);
    if (!x->texts || !x->arena)
        return SL_ERR_NOMEM;
    const uint8_t *cursor = merges->data;
    for (uint64_t i = 0; n_texts && i < merges->count; i++) {
        sl_merge *m = &vocab->merges[i];
        sl_text merge = sl_gguf_next_text(&cursor), left, right;
        if (m->left != SL_VOCAB_NONE && m->right != SL_VOCAB_NONE && m->joined != SL_VOCAB_NONE)
            continue;
        SL_TRY(cut_merge(merge, i, &left, &right));
        if (m->left == SL_VOCAB_NONE)
            m->left = symbol_of(x, left, 0);
        if (m->right == SL_VOCAB_NONE)
            m->right = symbol_of(x, right, 0);
        if (m->joined == SL_VOCAB_NONE)
            m->joined = symbol_of(x, join_text(x, left, right), 1);
    }
    return SL_OK;
}

/* Slot of a pair: the one that holds it, or a free one. */
static uint32_t *slot_of(const sl_vocab *vocab, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (uint32_t i = (uint32_t)sl_hash(&pair, sizeof pair, vocab->map.seed) & vocab->merge_mask;; i = (i + 1) & vocab->merge_mask) {
        uint32_t *slot = &vocab->merge_slots[i];
        if (!*slot || (vocab->merges[*slot - 1].left == left && vocab->merges[*slot - 1].right == right))
            return slot;
    }
}

static sl_status read_merges(sl_vocab *vocab, extras *x, const sl_gguf_value *merges)
{
    size_t n_texts = 0, n_bytes = 0, slots = 16;
    while (slots < 2 * merges->count)
        slots *= 2;
    vocab->merges = sl_mem_alloc(&vocab->mem, (size_t)merges->count, sizeof *vocab->merges);
    vocab->merge_slots = sl_mem_alloc(&vocab->mem, slots, sizeof *vocab->merge_slots);
    if (!vocab->merges || !vocab->merge_slots)
        return SL_ERR_NOMEM;
    vocab->merge_mask = (uint32_t)(slots - 1);
    SL_TRY(find_merges(vocab, x, merges, &n_texts, &n_bytes));
    SL_TRY(find_extras(vocab, x, merges, n_texts, n_bytes));
    for (uint32_t i = 0; i < merges->count; i++) {
        uint32_t *slot = slot_of(vocab, vocab->merges[i].left, vocab->merges[i].right);
        if (!*slot)             /* of equal pairs the first counts */
            *slot = i + 1;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[2];
        size_t length = put_character(text, (uint8_t)byte);
        uint32_t extra = sl_map_find(&x->map, text, length, extra_text, x);
        vocab->byte_id[byte] = sl_vocab_find(vocab, text, length);
        vocab->byte_symbol[byte] = extra == SL_MAP_NONE ? vocab->byte_id[byte] : vocab->n_tokens + extra;
    }
    return SL_OK;
}

static sl_status choose_splitter(sl_vocab *vocab, const sl_gguf *gguf, const char *pre)
{
    sl_text name = { "default", strlen("default") };
    if (pre)
        name = (sl_text) { pre, strlen(pre) };
    else if (sl_gguf_find(gguf, "tokenizer.ggml.pre"))
        SL_TRY(sl_gguf_text(gguf, "tokenizer.ggml.pre", &name));
    vocab->splitter = sl_splitter_find(name.data, name.length);
    if (vocab->splitter)
        return SL_OK;
    char quoted[SL_QUOTE_BYTES];
    return sl_fail(SL_ERR_UNSUPPORTED, "tokenizer.ggml.pre: unknown pre-tokenizer \"%s\"", sl_quote(quoted, name.data, name.length));
}

sl_status sl_bpe_load(sl_vocab *vocab, const sl_gguf *gguf, const sl_log *log, const char *pre)
{
    sl_gguf_value merges;
    (void)log;
    SL_TRY(choose_splitter(vocab, gguf, pre));
    vocab->add_bos = vocab->splitter->add_bos;
    SL_TRY(sl_gguf_array(gguf, "tokenizer.ggml.merges", SL_META_STRING, &merges));
    if (merges.count > SL_LIMIT_ARRAY_ELEMENTS)
        return sl_fail(SL_ERR_LIMIT, "tokenizer.ggml.merges: %llu entries", (unsigned long long)merges.count);
    extras x = { .vocab = vocab };
    sl_status status = read_merges(vocab, &x, &merges);
    sl_map_free(&x.map, &vocab->mem);
    sl_mem_free(&vocab->mem, x.texts);
    sl_mem_free(&vocab->mem, x.arena);
    sl_mem_free(&vocab->mem, x.joined);
    return status;
}

/* ---- encoding ---- */

static uint32_t join_merge(const void *owner, const sl_join *join, uint32_t left, uint32_t right, uint32_t *joined)
{
    const sl_vocab *vocab = owner;
    uint32_t slot = *slot_of(vocab, join->value[left], join->value[right]);
    if (!slot)
        return SL_VOCAB_NONE;
    *joined = vocab->merges[slot - 1].joined;
    return slot - 1;
}

/* The token that is this whole word, or SL_VOCAB_NONE. Control tokens do not count: text never spells them. */
static uint32_t whole_word(const sl_vocab *vocab, sl_scratch *scratch, sl_text word)
{
    if (word.length > vocab->longest)
        return SL_VOCAB_NONE;
    size_t length = 0;
    for (size_t i = 0; i < word.length; i++)
        length += put_character(scratch->text + length, (uint8_t)word.data[i]);
    uint32_t id = sl_vocab_find(vocab, scratch->text, length);
    int kind = id == SL_VOCAB_NONE ? SL_TOKEN_NORMAL : vocab->tokens[id].kind;
    return kind == SL_TOKEN_CONTROL || kind == SL_TOKEN_UNKNOWN ? SL_VOCAB_NONE : id;
}

static sl_status encode_word(const sl_vocab *vocab, sl_scratch *scratch, sl_text word)
{
    uint32_t id;
    if (vocab->splitter->whole && (id = whole_word(vocab, scratch, word)) != SL_VOCAB_NONE) {
        sl_ids_add(scratch->out, id);
        return SL_OK;
    }
    SL_TRY(sl_join_reserve(&scratch->join, scratch->mem, word.length));
    sl_join *join = &scratch->join;
    for (size_t i = 0; i < word.length; i++)
        join->value[i] = vocab->byte_symbol[(uint8_t)word.data[i]];
    sl_join_run(join, join_merge, vocab);
    for (size_t i = 0; i < word.length; i += join->length[i]) {
        if (join->value[i] < vocab->n_tokens)
            sl_ids_add(scratch->out, join->value[i]);
        else
            for (size_t k = i; k < i + join->length[i]; k++)
                sl_ids_add(scratch->out, vocab->byte_id[(uint8_t)word.data[k]]);
    }
    return SL_OK;
}

sl_status sl_bpe_encode(const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length)
{
    sl_split split;
    sl_text word;
    if (vocab->splitter->whole)
        SL_TRY(sl_mem_grow(scratch->mem, &scratch->text, 2 * (size_t)vocab->longest, 1));
    sl_split_start(&split, vocab->splitter, text, length);
    while (sl_split_next(&split, &word))
        SL_TRY(encode_word(vocab, scratch, word));
    return SL_OK;
}
