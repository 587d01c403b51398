/* SPDX-License-Identifier: MIT */
/* vocab_build.c - see vocab_build.h. */
#include "vocab_build.h"
#include "gguf_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(int fine, const char *what)
{
    if (!fine) {
        fprintf(stderr, "%s: %s\n", what, sl_last_error());
        exit(1);
    }
}

static void count_warnings(int32_t level, const char *line, void *user)
{
    (void)line;
    ((vocab_test *)user)->n_warnings += level == SL_LOG_WARN;
}

sl_status vocab_open(vocab_test *test, const sl_mem *mem, unsigned char *data, size_t size, const char *pre)
{
    uint64_t need = 0;
    *test = (vocab_test) { .data = data, .size = size };
    if (mem)
        test->mem = *mem;
    else
        sl_mem_init(&test->mem, NULL);
    sl_status status = sl_gguf_parse(&test->gguf, &test->mem, data, size, size, &need);
    if (status == SL_ERR_NOMEM)
        return status;
    require(status == SL_OK, "the file of a test");
    test->parsed = 1;
    sl_log log = { count_warnings, test };
    return sl_vocab_create(&test->vocab, &test->mem, &log, &test->gguf, pre);
}

void vocab_close(vocab_test *test)
{
    sl_vocab_free(test->vocab);
    if (test->parsed)
        sl_gguf_free(&test->gguf, &test->mem);
    free(test->data);
    *test = (vocab_test) { 0 };
}

static void put_flag(sl_gguf_writer *w, const char *key, int flag)
{
    if (flag)
        sl_gguf_put_int(w, key, SL_META_BOOL, flag > 0);
}

static void put_id(sl_gguf_writer *w, const char *key, int id)
{
    if (id)
        sl_gguf_put_int(w, key, SL_META_U32, id - 1);
}

static void put_name(sl_gguf_writer *w, const char *key, const char *text)
{
    if (text)
        sl_gguf_put_text(w, key, text, strlen(text));
}

sl_status vocab_make(vocab_test *test, const sl_mem *mem, const vocab_recipe *r)
{
    sl_gguf_writer *w;
    gguf_bytes file = { 0 };
    sl_mem plain;
    sl_mem_init(&plain, NULL);
    require(sl_gguf_writer_create(&w, &plain, 3, 32) == SL_OK, "the writer");
    put_name(w, "general.name", r->name);
    put_name(w, "tokenizer.ggml.model", r->model);
    put_name(w, "tokenizer.ggml.pre", r->pre);
    sl_gguf_put_texts(w, "tokenizer.ggml.tokens", r->texts, r->n_texts);
    if (r->kinds)
        sl_gguf_put_array(w, "tokenizer.ggml.token_type", SL_META_I32, r->kinds, r->n_texts);
    if (r->scores)
        sl_gguf_put_array(w, "tokenizer.ggml.scores", SL_META_F32, r->scores, r->n_texts);
    if (!strcmp(r->model, "gpt2"))
        sl_gguf_put_texts(w, "tokenizer.ggml.merges", r->merges, r->n_merges);
    put_id(w, "tokenizer.ggml.bos_token_id", r->bos);
    put_id(w, "tokenizer.ggml.eos_token_id", r->eos);
    put_id(w, "tokenizer.ggml.unknown_token_id", r->unknown);
    put_flag(w, "tokenizer.ggml.add_bos_token", r->add_bos);
    put_flag(w, "tokenizer.ggml.add_eos_token", r->add_eos);
    put_flag(w, "tokenizer.ggml.add_space_prefix", r->space_prefix);
    require(sl_gguf_write(w, gguf_bytes_put, &file) == SL_OK, "writing");
    sl_gguf_writer_free(w);
    unsigned char *exact = malloc(file.size);       /* a sanitizer sees every step beside it */
    require(exact != NULL, "memory");
    memcpy(exact, file.data, file.size);
    size_t size = file.size;
    gguf_bytes_free(&file);
    return vocab_open(test, mem, exact, size, NULL);
}

/* The character of a byte, spelled here once more, from the description: the printable ones stand for themselves, the others
 * take U+0100, U+0101, ... in their order. */
static size_t byte_character(char *to, unsigned byte)
{
    unsigned code = 0x100;
    for (unsigned b = 0; b <= byte; b++) {
        int printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte && printable)
            code = b;
        else if (b < byte && !printable)
            code++;
    }
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    to[0] = (char)(0xc0 | code >> 6);
    to[1] = (char)(0x80 | (code & 63));
    return 2;
}

sl_status vocab_make_bytes(vocab_test *test, const sl_mem *mem, const char *pre, const char *name, const vocab_extra *tokens, size_t n_tokens, const char *const *merges, size_t n_merges)
{
    static char letters[256][2];
    sl_text *texts = calloc(256 + n_tokens, sizeof *texts), *pairs = calloc(n_merges + 1, sizeof *pairs);
    int32_t *kinds = calloc(256 + n_tokens, sizeof *kinds);
    require(texts && pairs && kinds, "memory");
    for (unsigned b = 0; b < 256; b++) {
        texts[b] = (sl_text) { letters[b], byte_character(letters[b], b) };
        kinds[b] = SL_TOKEN_NORMAL;
    }
    for (size_t i = 0; i < n_tokens; i++) {
        texts[256 + i] = (sl_text) { tokens[i].text, strlen(tokens[i].text) };
        kinds[256 + i] = tokens[i].kind;
    }
    for (size_t i = 0; i < n_merges; i++)
        pairs[i] = (sl_text) { merges[i], strlen(merges[i]) };
    vocab_recipe r = { .model = "gpt2", .pre = pre, .name = name, .texts = texts, .n_texts = 256 + n_tokens, .kinds = kinds, .merges = pairs, .n_merges = n_merges };
    sl_status status = vocab_make(test, mem, &r);
    free(texts);
    free(pairs);
    free(kinds);
    return status;
}

sl_status vocab_make_pieces(vocab_test *test, const sl_mem *mem, int space_prefix, const vocab_piece *pieces, size_t n_pieces)
{
    enum { FIXED = 3 + 256 };
    static char bytes[256][8];
    static const sl_text control[] = { { "<unk>", 5 }, { "<s>", 3 }, { "</s>", 4 } };
    sl_text *texts = calloc(FIXED + n_pieces, sizeof *texts);
    int32_t *kinds = calloc(FIXED + n_pieces, sizeof *kinds);
    float *scores = calloc(FIXED + n_pieces, sizeof *scores);
    require(texts && kinds && scores, "memory");
    for (int i = 0; i < 3; i++) {
        texts[i] = control[i];
        kinds[i] = i ? SL_TOKEN_CONTROL : SL_TOKEN_UNKNOWN;
    }
    for (int b = 0; b < 256; b++) {
        snprintf(bytes[b], sizeof bytes[b], "<0x%02X>", (unsigned)b & 255);
        texts[3 + b] = (sl_text) { bytes[b], 6 };
        kinds[3 + b] = SL_TOKEN_BYTE;
    }
    for (size_t i = 0; i < n_pieces; i++) {
        texts[FIXED + i] = (sl_text) { pieces[i].text, strlen(pieces[i].text) };
        kinds[FIXED + i] = pieces[i].kind;
        scores[FIXED + i] = pieces[i].score;
    }
    vocab_recipe r = { .model = "llama", .texts = texts, .n_texts = FIXED + n_pieces, .kinds = kinds, .scores = scores, .space_prefix = space_prefix ? 1 : -1 };
    sl_status status = vocab_make(test, mem, &r);
    free(texts);
    free(kinds);
    free(scores);
    return status;
}
