/* SPDX-License-Identifier: MIT */
/* tokenizer.c - reads a vocabulary from the keys of a file, and turns text into ids. The kinds of vocabularies are the rows below. */
#include "vocab.h"

#include <string.h>

#define SL_TOKENIZERS(X)                                                                                                    \
    /* model, bos, eos, unknown, add_bos, space_prefix, ... */                                                              \
    SL_ROW(TOKENIZER_LLAMA, X("llama", 1, 2, 0, 1, 1, sl_spm_load, sl_spm_encode, sl_spm_piece))                            \
    SL_ROW(TOKENIZER_GPT2, X("gpt2", 11, 11, SL_TOKEN_NONE, 0, 0, sl_bpe_load, sl_bpe_encode, sl_bpe_piece))

static const sl_tokenizer tokenizers[] = {
#define ROW(...) { __VA_ARGS__ },
    SL_TOKENIZERS(ROW)
#undef ROW
    { 0 }
};

static const char *const role_names[] = {
#define ROLE(name, text, key) text,
    SL_ROLES(ROLE)
#undef ROLE
};
static const char *const role_keys[] = {
#define ROLE(name, text, key) key,
    SL_ROLES(ROLE)
#undef ROLE
};

/* Texts whose tokens end a generation and are control tokens, whatever the file says of them. `turn`: serves as eot if the file names none. */
static const struct { const char *text; int turn; } end_texts[] = {
    { "<|eot_id|>", 1 }, { "<|im_end|>", 1 }, { "<|end|>", 1 }, { "<end_of_turn>", 1 }, { "<|endoftext|>", 1 }, { "<|end_of_text|>", 1 },
    { "<EOT>", 1 }, { "<|return|>", 0 }, { "<|call|>", 0 }, { "</s>", 0 }, { "<|eom_id|>", 0 },
};
enum { N_END_TEXTS = sizeof end_texts / sizeof *end_texts };

static int is_text(const sl_token_row *token, const char *text)
{
    size_t length = strlen(text);
    return token->length == length && !memcmp(token->text, text, length);
}

static sl_text token_text(const void *owner, uint32_t value)
{
    const sl_token_row *t = &((const sl_vocab *)owner)->tokens[value];
    return (sl_text) { t->text, t->length };
}

uint32_t sl_vocab_find(const sl_vocab *vocab, const char *text, size_t length)
{
    return length ? sl_map_find(&vocab->map, text, length, token_text, vocab) : SL_VOCAB_NONE;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int sl_vocab_byte(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) || text[5] != '>' || digit_of(text[3]) < 0 || digit_of(text[4]) < 0)
        return -1;
    return digit_of(text[3]) << 4 | digit_of(text[4]);
}

/* The id that stands for what has no token: SL_VOCAB_NONE unless the file has such a token. */
static uint32_t find_unknown(const sl_vocab *vocab)
{
    sl_token id = vocab->roles[SL_ROLE_UNKNOWN];
    if (id < 0 || !(vocab->unknown_given || vocab->tokens[id].kind == SL_TOKEN_UNKNOWN || is_text(&vocab->tokens[id], "<unk>")))
        return SL_VOCAB_NONE;
    return (uint32_t)id;
}

/* ---- loading ---- */

static sl_status load_texts(sl_vocab *vocab, const sl_gguf *gguf)
{
    sl_gguf_value texts;
    SL_TRY(sl_gguf_array(gguf, "tokenizer.ggml.tokens", SL_META_STRING, &texts));
    if (!texts.count)
        return sl_fail(SL_ERR_MISSING, "tokenizer.ggml.tokens: the list is empty");
    if (texts.count > SL_LIMIT_VOCABULARY)
        return sl_fail(SL_ERR_LIMIT, "tokenizer.ggml.tokens: %llu tokens, at most %d are read", (unsigned long long)texts.count, SL_LIMIT_VOCABULARY);
    vocab->n_tokens = (uint32_t)texts.count;
    vocab->tokens = sl_mem_alloc(&vocab->mem, vocab->n_tokens, sizeof *vocab->tokens);
    if (!vocab->tokens)
        return SL_ERR_NOMEM;
    SL_TRY(sl_map_init(&vocab->map, &vocab->mem, vocab->n_tokens));
    const uint8_t *cursor = texts.data;
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        sl_text text = sl_gguf_next_text(&cursor);
        if (text.length > SL_LIMIT_TOKEN_BYTES)
            return sl_fail(SL_ERR_LIMIT, "tokenizer.ggml.tokens: token %u has %zu bytes, at most %d are read", id, text.length, SL_LIMIT_TOKEN_BYTES);
        vocab->tokens[id] = (sl_token_row) { .text = text.data, .length = (uint32_t)text.length, .kind = SL_TOKEN_NORMAL };
        if (text.length > vocab->longest)
            vocab->longest = (uint32_t)text.length;
        if (text.length)        /* of equal texts the lowest id stays */
            sl_map_add(&vocab->map, id, token_text, vocab);
    }
    return SL_OK;
}

/* An array with one element per token; *out is untouched where the file has none. */
static sl_status find_column(const sl_vocab *vocab, const sl_gguf *gguf, const char *key, int32_t type, sl_gguf_value *out)
{
    if (!sl_gguf_find(gguf, key))
        return SL_OK;
    SL_TRY(sl_gguf_array(gguf, key, type, out));
    if (out->count != vocab->n_tokens)
        return sl_fail(SL_ERR_SHAPE, "%s: %llu elements for %u tokens", key, (unsigned long long)out->count, vocab->n_tokens);
    return SL_OK;
}

static sl_status load_columns(sl_vocab *vocab, const sl_gguf *gguf)
{
    sl_gguf_value scores = { 0 }, kinds = { 0 };
    SL_TRY(find_column(vocab, gguf, "tokenizer.ggml.scores", SL_META_F32, &scores));
    SL_TRY(find_column(vocab, gguf, "tokenizer.ggml.token_type", SL_META_I32, &kinds));
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        sl_token_row *t = &vocab->tokens[id];
        if (scores.count) {
            double score;
            SL_TRY(sl_gguf_value_float(&scores, id, &score));
            if (score != score)
                return sl_fail(SL_ERR_NONFINITE, "tokenizer.ggml.scores: the score of token %u is not a number", id);
            t->score = (float)score;
        }
        if (kinds.count) {
            int64_t kind;
            SL_TRY(sl_gguf_value_int(&kinds, id, &kind));
            if (kind < SL_TOKEN_NORMAL || kind > SL_TOKEN_BYTE)
                return sl_fail(SL_ERR_RANGE, "tokenizer.ggml.token_type: %lld at token %u", (long long)kind, id);
            t->kind = (uint8_t)kind;
        }
        if (t->kind == SL_TOKEN_BYTE && sl_vocab_byte(t->text, t->length) < 0) {
            char quoted[SL_QUOTE_BYTES];
            return sl_fail(SL_ERR_RANGE, "tokenizer.ggml.tokens: byte token %u is \"%s\"", id, sl_quote(quoted, t->text, t->length));
        }
        for (int e = 0; e < N_END_TEXTS; e++)
            if (is_text(t, end_texts[e].text)) {
                t->kind = SL_TOKEN_CONTROL;
                t->end = 1;
            }
    }
    return SL_OK;
}

/* The ids that the file gives to roles. One that does not exist is as good as none. */
static sl_status load_roles(sl_vocab *vocab, const sl_gguf *gguf, const sl_log *log)
{
    const sl_tokenizer *row = vocab->tokenizer;
    for (int r = 0; r < SL_ROLE_COUNT; r++)
        vocab->roles[r] = SL_TOKEN_NONE;
    vocab->roles[SL_ROLE_BOS] = row->bos < (sl_token)vocab->n_tokens ? row->bos : SL_TOKEN_NONE;
    vocab->roles[SL_ROLE_EOS] = row->eos < (sl_token)vocab->n_tokens ? row->eos : SL_TOKEN_NONE;
    vocab->roles[SL_ROLE_UNKNOWN] = row->unknown;
    int eot_given = 0;
    for (int r = 0; r < SL_ROLE_COUNT; r++) {
        const sl_gguf_kv *kv = sl_gguf_find(gguf, role_keys[r]);
        if (!kv)
            continue;
        int64_t id = -1;
        if (kv->value.type == SL_META_STRING || kv->value.type == SL_META_ARRAY || kv->value.type == SL_META_F32 ||
            kv->value.type == SL_META_F64 || kv->value.type == SL_META_BOOL)
            return sl_fail(SL_ERR_TYPE, "%s: not an integer", role_keys[r]);
        if (sl_gguf_value_int(&kv->value, 0, &id) != SL_OK || id < 0 || id >= vocab->n_tokens) {
            sl_log_line(log, SL_LOG_WARN, "%s: there is no such token; the key is ignored", role_keys[r]);
            continue;
        }
        vocab->roles[r] = (sl_token)id;
        eot_given |= r == SL_ROLE_EOT;
        vocab->unknown_given |= r == SL_ROLE_UNKNOWN;
    }
    for (int e = 0; e < N_END_TEXTS && !eot_given; e++) {
        uint32_t id = end_texts[e].turn ? sl_vocab_find(vocab, end_texts[e].text, strlen(end_texts[e].text)) : SL_VOCAB_NONE;
        if (id != SL_VOCAB_NONE) {
            vocab->roles[SL_ROLE_EOT] = (sl_token)id;
            break;
        }
    }
    static const int ends[] = { SL_ROLE_EOS, SL_ROLE_EOT, SL_ROLE_EOM };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (vocab->roles[ends[i]] >= 0)
            vocab->tokens[vocab->roles[ends[i]]].end = 1;
    return SL_OK;
}

static sl_status load_flag(const sl_gguf *gguf, const char *key, uint8_t *flag)
{
    int value = *flag;
    if (sl_gguf_find(gguf, key))
        SL_TRY(sl_gguf_bool(gguf, key, &value));
    *flag = (uint8_t)(value != 0);
    return SL_OK;
}

/* Does the name hold phi-3 or phi3, in any case? */
static int is_phi3(sl_text name)
{
    for (size_t i = 0; i + 4 <= name.length; i++) {
        const char *p = name.data + i;
        size_t digit = p[3] == '-' ? 4 : 3;
        if ((p[0] | 32) == 'p' && (p[1] | 32) == 'h' && (p[2] | 32) == 'i' && i + digit < name.length && p[digit] == '3')
            return 1;
    }
    return 0;
}

/* What a byte gives that has no token: the unknown id, if there is one; dropping text in silence is none of the choices. */
static sl_status fill_bytes(sl_vocab *vocab, const sl_log *log)
{
    uint32_t unknown = find_unknown(vocab), n_missing = 0;
    for (unsigned byte = 0; byte < 256; byte++)
        if (vocab->byte_id[byte] == SL_VOCAB_NONE) {
            if (unknown == SL_VOCAB_NONE)
                return sl_fail(SL_ERR_MISSING, "tokenizer.ggml.tokens: no token for byte %u, and no unknown token", byte);
            vocab->byte_id[byte] = unknown;
            n_missing++;
        }
    if (n_missing)
        sl_log_line(log, SL_LOG_WARN, "tokenizer.ggml.tokens: %u bytes have no token and become the unknown token %u", n_missing, unknown);
    return SL_OK;
}

static int is_user(const sl_token_row *t) { return t->kind == SL_TOKEN_USER_DEFINED; }
static int is_special(const sl_token_row *t) { return is_user(t) || t->kind == SL_TOKEN_CONTROL || t->kind == SL_TOKEN_UNKNOWN; }

static sl_status load(sl_vocab *vocab, const sl_gguf *gguf, const sl_log *log, const char *pre)
{
    vocab->add_bos = vocab->tokenizer->add_bos;
    vocab->space_prefix = vocab->tokenizer->space_prefix;
    SL_TRY(load_texts(vocab, gguf));
    SL_TRY(load_columns(vocab, gguf));
    SL_TRY(load_roles(vocab, gguf, log));
    SL_TRY(vocab->tokenizer->load(vocab, gguf, log, pre));
    SL_TRY(fill_bytes(vocab, log));
    SL_TRY(load_flag(gguf, "tokenizer.ggml.add_bos_token", &vocab->add_bos));
    SL_TRY(load_flag(gguf, "tokenizer.ggml.add_eos_token", &vocab->add_eos));
    const sl_gguf_kv *name = sl_gguf_find(gguf, "general.name");
    sl_text text;
    if (name && name->value.type == SL_META_STRING) {
        SL_TRY(sl_gguf_text(gguf, "general.name", &text));
        vocab->strip_behind = (uint8_t)is_phi3(text);
    }
    SL_TRY(sl_special_create(&vocab->special, vocab, is_special));
    return sl_special_create(&vocab->user, vocab, is_user);
}

/* The row for tokenizer.ggml.model; NULL with SL_OK: the file has no tokenizer. */
static sl_status find_tokenizer(const sl_gguf *gguf, const sl_tokenizer **out)
{
    static const char model[] = "tokenizer.ggml.model", prefix[] = "tokenizer.ggml.";
    *out = NULL;
    if (!sl_gguf_find(gguf, model)) {
        for (size_t i = 0; i < gguf->n_kv; i++)
            if (gguf->kv[i].key_length >= sizeof prefix - 1 && !memcmp(gguf->kv[i].key, prefix, sizeof prefix - 1))
                return sl_fail(SL_ERR_MISSING, "%s: the key is missing", model);
        return SL_OK;
    }
    sl_text name;
    SL_TRY(sl_gguf_text(gguf, model, &name));
    if ((name.length == 4 && !memcmp(name.data, "none", 4)) || (name.length == 8 && !memcmp(name.data, "no_vocab", 8)))
        return SL_OK;
    for (const sl_tokenizer *t = tokenizers; t->name; t++)
        if (strlen(t->name) == name.length && !memcmp(t->name, name.data, name.length)) {
            *out = t;
            return SL_OK;
        }
    char quoted[SL_QUOTE_BYTES];
    return sl_fail(SL_ERR_UNSUPPORTED, "%s: unknown tokenizer \"%s\"", model, sl_quote(quoted, name.data, name.length));
}

sl_status sl_vocab_create(sl_vocab **out, const sl_mem *mem, const sl_log *log, const sl_gguf *gguf, const char *pre)
{
    const sl_tokenizer *tokenizer;
    *out = NULL;
    SL_TRY(find_tokenizer(gguf, &tokenizer));
    if (!tokenizer)
        return SL_OK;
    sl_vocab *vocab = sl_mem_alloc(mem, 1, sizeof *vocab);
    if (!vocab)
        return SL_ERR_NOMEM;
    vocab->mem = *mem;
    vocab->tokenizer = tokenizer;
    sl_status status = load(vocab, gguf, log, pre);
    if (status != SL_OK)
        sl_vocab_free(vocab);
    else
        *out = vocab;
    return status;
}

void sl_vocab_free(sl_vocab *vocab)
{
    if (!vocab)
        return;
    sl_mem mem = vocab->mem;
    sl_special_free(&vocab->special, &mem);
    sl_special_free(&vocab->user, &mem);
    sl_map_free(&vocab->map, &mem);
    sl_mem_free(&mem, vocab->tokens);
    sl_mem_free(&mem, vocab->neighbours);
    sl_mem_free(&mem, vocab->merges);
    sl_mem_free(&mem, vocab->merge_slots);
    sl_mem_free(&mem, vocab);
}

/* ---- asking ---- */

uint32_t sl_vocab_count(const sl_vocab *vocab) { return vocab->n_tokens; }

sl_status sl_vocab_token(const sl_vocab *vocab, sl_token id, sl_token_info *out)
{
    if (id < 0 || (uint32_t)id >= vocab->n_tokens)
        return sl_fail(SL_ERR_RANGE, "token %d: the vocabulary has %u", (int)id, vocab->n_tokens);
    const sl_token_row *t = &vocab->tokens[id];
    *out = (sl_token_info) { .size = sizeof *out, .text = t->text, .length = t->length, .kind = t->kind, .end = t->end, .score = t->score };
    return SL_OK;
}

sl_token sl_vocab_special(const sl_vocab *vocab, const char *role)
{
    for (int r = 0; r < SL_ROLE_COUNT; r++)
        if (!strcmp(role_names[r], role))
            return vocab->roles[r];
    return SL_TOKEN_NONE;
}

int sl_vocab_is_end(const sl_vocab *vocab, sl_token id)
{
    return id >= 0 && (uint32_t)id < vocab->n_tokens && vocab->tokens[id].end;
}

/* ---- text to ids ---- */

sl_status sl_vocab_encode(const sl_vocab *vocab, const char *text, size_t length, uint32_t flags, sl_token *ids, size_t capacity, size_t *n_ids)
{
    *n_ids = 0;
    if ((!text && length) || (!ids && capacity))
        return sl_fail(SL_ERR_ARGUMENT, "encode: a pointer is NULL where bytes or ids are announced");
    if (flags & ~(SL_ENCODE_ADD_SPECIAL | SL_ENCODE_PARSE_SPECIAL))
        return sl_fail(SL_ERR_ARGUMENT, "encode: unknown flags 0x%x", (unsigned)flags);
    sl_ids out = { ids, capacity, 0 };
    sl_scratch scratch = { .mem = &vocab->mem, .out = &out };
    sl_token bos = vocab->roles[SL_ROLE_BOS], eos = vocab->roles[SL_ROLE_EOS];
    if ((flags & SL_ENCODE_ADD_SPECIAL) && vocab->add_bos && bos >= 0)
        sl_ids_add(&out, (uint32_t)bos);
    sl_status status = sl_special_cut(flags & SL_ENCODE_PARSE_SPECIAL ? &vocab->special : &vocab->user, vocab, &scratch, text, length);
    if ((flags & SL_ENCODE_ADD_SPECIAL) && vocab->add_eos && eos >= 0)
        sl_ids_add(&out, (uint32_t)eos);
    sl_join_free(&scratch.join, &vocab->mem);
    sl_mem_free(&vocab->mem, scratch.text);
    if (status != SL_OK)
        return status;
    *n_ids = out.count;
    if (out.count > capacity)
        return sl_fail(SL_ERR_BUFFER, "encode: the text has %zu ids, there is room for %zu", out.count, capacity);
    return SL_OK;
}

/* Looked up, not encoded: it must not fail for want of memory, which would look like a token that is missing. */
sl_token sl_vocab_spelled(const sl_vocab *vocab, const char *text, size_t length)
{
    for (uint32_t i = 0; i < vocab->special.n_entries; i++) {
        const uint32_t id = vocab->special.entries[i].id;
        const sl_token_row *token = &vocab->tokens[id];
        if (token->length == length && (token->kind == SL_TOKEN_CONTROL || token->kind == SL_TOKEN_USER_DEFINED) && memcmp(token->text, text, length) == 0)
            return (sl_token)id;
    }
    return SL_TOKEN_NONE;
}
