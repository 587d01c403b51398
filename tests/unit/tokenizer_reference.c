/* SPDX-License-Identifier: MIT */
/* tokenizer_reference.c - vocabularies of real models against recorded results: every case, every id. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "fixture.h"
#include "json.h"
#include "vocab_build.h"

static const struct set { const char *vocabulary, *cases, *vectors, *pre; size_t n_cases; } sets[] = {
    { "vocab/vocab-llama-spm.gguf", "vocab/cases-llama-spm.jsonl", "vocab/vectors-llama-spm", NULL, 272 },
    { "vocab/vocab-phi-3.gguf", "vocab/cases-phi-3.jsonl", "vocab/vectors-phi-3", NULL, 272 },
    { "vocab/vocab-llama3.gguf", "vocab/cases-llama3.jsonl", "vocab/vectors-llama3", NULL, 272 },
    { "vocab/vocab-llama4.gguf", "vocab/cases-llama4.jsonl", NULL, NULL, 272 },
    { "vocab/vocab-gpt-2.gguf", "vocab/cases-gpt-2.jsonl", "vocab/vectors-gpt-2", NULL, 272 },
    { "vocab/vocab-gpt-2.gguf", "vocab/cases-gpt-2-default.jsonl", NULL, "default", 80 },
    { "stories260K/stories260K-f32.gguf", "vocab/cases-stories260K.jsonl", NULL, NULL, 272 },
};

static void open_set(vocab_test *v, const struct set *set)
{
    size_t size;
    unsigned char *data = fixture_load(set->vocabulary, &size);
    assert_int_equal(vocab_open(v, NULL, data, size, set->pre), SL_OK);
    assert_non_null(v->vocab);
    assert_int_equal(v->n_warnings, 0);
}

/* ---- the cases ---- */

/* Bytes of a text in base64; the caller frees. */
static char *bytes_of(const char *base64, size_t *length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *bytes = malloc(strlen(base64) + 1);
    uint32_t held = 0;
    int n_bits = 0;
    assert_non_null(bytes);
    *length = 0;
    for (const char *p = base64, *digit; *p && *p != '='; p++) {
        digit = strchr(digits, *p);
        assert_non_null(digit);
        held = held << 6 | (uint32_t)(digit - digits);
        if ((n_bits += 6) >= 8)
            bytes[(*length)++] = (char)(held >> (n_bits -= 8));
    }
    return bytes;
}

static int is_true(const struct json *object, const char *key)
{
    const struct json *value = json_get(object, key);
    assert_non_null(value);
    return value->kind == JSON_TRUE;
}

static sl_token *ids_of(const struct json *list)
{
    sl_token *ids = malloc((list->length + 1) * sizeof *ids);
    assert_non_null(ids);
    size_t n = 0;
    for (const struct json *e = list->child; e; e = e->next)
        ids[n++] = (sl_token)e->number;
    return ids;
}

/* The recorded ids give the recorded text: that of the case, or `pieces` where the two differ. */
static void check_decode(const struct set *set, const sl_vocab *vocab, const struct json *c, const sl_token *ids, size_t n_ids, const char *text, size_t length)
{
    size_t n_want = length, n;
    char *pieces = json_text(c, "pieces") ? bytes_of(json_text(c, "pieces"), &n_want) : NULL;
    char *got = malloc(n_want + 1);
    assert_non_null(got);
    sl_status status = sl_vocab_decode(vocab, ids, n_ids, SL_DECODE_SPECIAL | SL_DECODE_KEEP_SPACE, got, n_want + 1, &n);
    if (status != SL_OK || n != n_want || memcmp(got, pieces ? pieces : text, n))
        fail_msg("%s: case %d: the text of the ids differs", set->cases, (int)json_number(c, "n", -1));
    free(got);
    free(pieces);
}

/* Bytes that are no UTF-8 have no published answer: byte-level vocabularies keep them. */
static void check_round_trip(const sl_vocab *vocab, const char *text, size_t length, const sl_token *ids, size_t n_ids)
{
    char *got = malloc(length + 1);
    size_t n;
    assert_non_null(got);
    assert_int_equal(sl_vocab_decode(vocab, ids, n_ids, SL_DECODE_SPECIAL, got, length + 1, &n), SL_OK);
    assert_int_equal(n, length);
    assert_memory_equal(got, text, n);
    free(got);
}

/* 1 if the ids are as recorded. */
static int check_case(const struct set *set, const sl_vocab *vocab, const struct json *c)
{
    size_t length, n;
    char *text = bytes_of(json_text(c, "text"), &length);
    const struct json *want = json_get(c, "official") ? json_get(c, "official") : json_get(c, "ids");
    uint32_t flags = (is_true(c, "add_special") ? SL_ENCODE_ADD_SPECIAL : 0) | (is_true(c, "parse_special") ? SL_ENCODE_PARSE_SPECIAL : 0);
    size_t capacity = 4 * length + 16;
    sl_token *got = malloc(capacity * sizeof *got);
    int same = 1, only_reference = json_get(c, "reference_only") != NULL;
    assert_non_null(got);
    assert_int_equal(sl_vocab_encode(vocab, text, length, flags, got, capacity, &n), SL_OK);
    if (want && want->kind == JSON_ARRAY) {
        sl_token *ids = ids_of(want);
        same = only_reference || (n == want->length && !memcmp(got, ids, n * sizeof *ids));
        if (!only_reference || json_get(c, "pieces"))
            check_decode(set, vocab, c, ids, want->length, text, length);
        free(ids);
    } else {
        assert_true(only_reference);
    }
    if (only_reference && strstr(set->vocabulary, "gpt-2"))
        check_round_trip(vocab, text, length, got, n);
    if (!same)
        print_error("%s: case %d (%s) differs\n", set->cases, (int)json_number(c, "n", -1), json_text(c, "cat"));
    free(got);
    free(text);
    return same;
}

static void follows_every_case(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        vocab_test v;
        size_t size, n = 0, different = 0;
        open_set(&v, &sets[s]);
        char *file = (char *)fixture_load(sets[s].cases, &size), *line = file;
        while (line < file + size) {
            char *end = memchr(line, '\n', (size_t)(file + size - line));
            size_t used, length = end ? (size_t)(end - line) : (size_t)(file + size - line);
            struct json *c = json_parse(line, length, &used);
            assert_non_null(c);
            different += !check_case(&sets[s], v.vocab, c);
            n++;
            json_free(c);
            line += length + 1;
        }
        assert_int_equal(n, sets[s].n_cases);
        assert_int_equal(different, 0);
        free(file);
        vocab_close(&v);
    }
}

/* ---- the reference's own vectors: texts between separators, ids line by line ---- */

static void follows_every_vector(void **state)
{
    (void)state;
    static const char separator[] = "\n__ggml_vocab_test__\n";
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        if (!sets[s].vectors)
            continue;
        vocab_test v;
        char name[64];
        size_t size[2], n_texts = 0;
        open_set(&v, &sets[s]);
        snprintf(name, sizeof name, "%s.inp", sets[s].vectors);
        char *texts = (char *)fixture_load(name, &size[0]);
        snprintf(name, sizeof name, "%s.out", sets[s].vectors);
        char *lists = (char *)fixture_load(name, &size[1]), *line = lists;
        texts = realloc(texts, size[0] + 1);
        lists = line = realloc(lists, size[1] + 1);
        assert_true(texts && lists);
        texts[size[0]] = lists[size[1]] = 0;
        for (char *text = texts, *next; text; text = next, n_texts++) {
            char *end = strstr(text, separator), *stop = strchr(line, '\n');
            next = end ? end + strlen(separator) : NULL;
            size_t length = end ? (size_t)(end - text) : strlen(text), n;
            sl_token ids[2000];
            if (!end && (!length || !*line))        /* behind the last separator */
                break;
            assert_non_null(stop);
            assert_int_equal(sl_vocab_encode(v.vocab, text, length, 0, ids, 2000, &n), SL_OK);
            for (size_t i = 0; i < n; i++) {
                char *after;
                long want = strtol(line, &after, 10);
                if (after == line || after > stop || want != ids[i])
                    fail_msg("%s: text %zu: id %zu is %d, not %ld", sets[s].vectors, n_texts, i, ids[i], want);
                line = after;
            }
            assert_int_equal(strspn(line, " \r"), stop - line);
            line = stop + 1;
        }
        assert_true(n_texts > 40);
        assert_int_equal(*line, 0);
        free(texts);
        free(lists);
        vocab_close(&v);
    }
}

/* ---- every token by itself ---- */

/* The text of a normal token comes back through any ids, and nearly always its id is found again. (Not where the splitter cuts the text, as in
 * "'s" with something in front.) The counts are those of the first build that passed every case above; one that falls is a hole. */
static void finds_tokens_again(void **state)
{
    (void)state;
    static const struct { size_t set; uint32_t alone, normal; } rows[] = { { 2, 127920, 127982 }, { 3, 199550, 199989 }, { 4, 50238, 50255 } };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        vocab_test v;
        open_set(&v, &sets[rows[r].set]);
        uint32_t alone = 0, normal = 0;
        for (sl_token id = 0; (uint32_t)id < sl_vocab_count(v.vocab); id++) {
            char text[300], back[300];
            sl_token ids[300];
            size_t length, n, n_back;
            sl_token_info info;
            assert_int_equal(sl_vocab_token(v.vocab, id, &info), SL_OK);
            if (info.kind != SL_TOKEN_NORMAL || info.length > 140)
                continue;
            assert_int_equal(sl_vocab_decode(v.vocab, &id, 1, 0, text, sizeof text, &length), SL_OK);
            assert_int_equal(sl_vocab_encode(v.vocab, text, length, 0, ids, 300, &n), SL_OK);
            assert_int_equal(sl_vocab_decode(v.vocab, ids, n, 0, back, sizeof back, &n_back), SL_OK);
            assert_int_equal(n_back, length);
            assert_memory_equal(back, text, length);
            normal++;
            alone += n == 1 && ids[0] == id;
        }
        assert_int_equal(alone, rows[r].alone);
        assert_int_equal(normal, rows[r].normal);
        vocab_close(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_every_case),
        cmocka_unit_test(follows_every_vector),
        cmocka_unit_test(finds_tokens_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
