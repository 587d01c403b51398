/* SPDX-License-Identifier: MIT */
/* chat_reference.c - the formats against the published templates of their families, as rendered by the templates' own language; and the prompts of the
 * reference model with pictures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "chat.h"
#include "check.h"
#include "fixture.h"
#include "json.h"
#include "vocab_build.h"

enum { MAX_IDS = 4096, MAX_MESSAGES = 16 };

/* Every token of every format, behind the 256 bytes: what it decodes to is what was written. */
static const vocab_extra tokens[] = {
    { "<|begin_of_text|>", SL_TOKEN_CONTROL }, { "<|start_header_id|>", SL_TOKEN_CONTROL }, { "<|end_header_id|>", SL_TOKEN_CONTROL }, { "<|eot_id|>", SL_TOKEN_CONTROL },
    { "<|header_start|>", SL_TOKEN_CONTROL }, { "<|header_end|>", SL_TOKEN_CONTROL }, { "<|eot|>", SL_TOKEN_CONTROL }, { "<|im_start|>", SL_TOKEN_CONTROL }, { "<|im_end|>", SL_TOKEN_CONTROL },
    { "<s>", SL_TOKEN_CONTROL }, { "</s>", SL_TOKEN_CONTROL }, { "[INST]", SL_TOKEN_CONTROL }, { "[/INST]", SL_TOKEN_CONTROL },
    { "[SYSTEM_PROMPT]", SL_TOKEN_CONTROL }, { "[/SYSTEM_PROMPT]", SL_TOKEN_CONTROL },
};

static const struct family { const char *name, *format, *vocabulary; int inst_is_text; } families[] = {
    { "llama2", "llama2", "vocab/vocab-llama-spm.gguf", 1 }, { "llama3", "llama3", "vocab/vocab-llama3.gguf", 0 }, { "llama3.1", "llama3.1", "vocab/vocab-llama3.gguf", 0 },
    { "llama3.2", "llama3.1", "vocab/vocab-llama3.gguf", 0 }, { "llama4", "llama4", "vocab/vocab-llama4.gguf", 0 }, { "mistral-old", "mistral-old", "vocab/vocab-llama-spm.gguf", 0 },
    { "mistral-v1", "mistral-v1", "vocab/vocab-llama-spm.gguf", 0 }, { "mistral-nemo", "mistral-nemo", "vocab/vocab-llama-spm.gguf", 0 },
    { "mistral-v7", "mistral-v7", "vocab/vocab-llama-spm.gguf", 0 }, { "chatml", "chatml", "vocab/vocab-gpt-2.gguf", 0 },
};

static sl_mem memory;
static vocab_test bytes;
static struct json *reference, *templates;

static struct json *load_json(const char *name)
{
    size_t size;
    unsigned char *data = fixture_load(name, &size);
    struct json *value = json_parse((const char *)data, size, NULL);
    assert_non_null(value);
    free(data);
    return value;
}

static int prepare(void **state)
{
    (void)state;
    sl_mem_init(&memory, NULL);
    reference = load_json("chat/cases.json");
    templates = load_json("chat/templates.json");
    return vocab_make_bytes(&bytes, NULL, "llama-bpe", NULL, tokens, COUNT(tokens), NULL, 0) != SL_OK;
}

static int clean(void **state)
{
    (void)state;
    json_free(reference);
    json_free(templates);
    vocab_close(&bytes);
    return 0;
}

/* The messages of the conversation with this name. */
static size_t messages_of(sl_chat_message *messages, sl_chat_part *parts, const char *name)
{
    size_t n = 0;
    for (const struct json *c = json_get(reference, "conversations")->child; c; c = c->next) {
        if (strcmp(json_text(c, "name"), name))
            continue;
        for (const struct json *m = json_get(c, "messages")->child; m; m = m->next, n++) {
            const struct json *content = json_get(m, "content");
            assert_true(n < MAX_MESSAGES);
            parts[n] = (sl_chat_part) { sizeof *parts, content->text, content->length, NULL };
            messages[n] = (sl_chat_message) { sizeof *messages, json_text(m, "role"), &parts[n], 1 };
        }
    }
    assert_true(n > 0);
    return n;
}

/* How often the tokens' texts stand in a text. */
static size_t spelled(const char *text, size_t length, int inst_is_text)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++)
        for (size_t k = 0; k < COUNT(tokens); k++)
            if (length - i >= strlen(tokens[k].text) && !memcmp(text + i, tokens[k].text, strlen(tokens[k].text)))
                n += !(inst_is_text && strstr(tokens[k].text, "INST]"));
    return n;
}

/* Written with tokens for every sign of every format, it decodes to the rendered text, and as many tokens are control tokens as the template itself puts there. */
static void check_text(const struct family *f, const struct json *c, const sl_chat_message *messages, size_t n, const sl_chat_options *options)
{
    const struct json *rendered = json_get(c, "rendered");
    sl_token ids[MAX_IDS];
    char text[2 * MAX_IDS];
    size_t n_ids, length, n_control = 0, n_wanted;
    sl_status status = sl_chat_write(bytes.vocab, &memory, sl_chat_row_find(f->format), SL_TOKEN_NONE, NULL, messages, n, options, ids, MAX_IDS, &n_ids);
    if (!rendered) {
        if (status == SL_OK)
            fail_msg("%s: %s: not refused", f->name, json_text(c, "conversation"));
        return;
    }
    if (status != SL_OK)
        fail_msg("%s: %s: %s", f->name, json_text(c, "conversation"), sl_last_error());
    assert_int_equal(sl_vocab_decode(bytes.vocab, ids, n_ids, SL_DECODE_SPECIAL, text, sizeof text, &length), SL_OK);
    if (length != rendered->length || memcmp(text, rendered->text, length))
        fail_msg("%s: %s:\n%.*s\ninstead of\n%s", f->name, json_text(c, "conversation"), (int)length, text, rendered->text);
    n_wanted = spelled(rendered->text, rendered->length, f->inst_is_text);
    for (size_t i = 0; i < n; i++)
        n_wanted -= spelled(messages[i].parts->text, messages[i].parts->length, f->inst_is_text);
    for (size_t i = 0; i < n_ids; i++)
        n_control += ids[i] >= 256;
    if (n_control != n_wanted)
        fail_msg("%s: %s: %zu control tokens instead of %zu", f->name, json_text(c, "conversation"), n_control, n_wanted);
}

/* With a real vocabulary the ids are those of the rendered text, where no message spells a token. */
static void check_ids(const struct family *f, const vocab_test *v, const struct json *c, const sl_chat_message *messages, size_t n, const sl_chat_options *options)
{
    const struct json *rendered = json_get(c, "rendered");
    sl_token ids[MAX_IDS], want[MAX_IDS];
    size_t n_ids, n_want;
    if (!rendered || strstr(json_text(c, "conversation"), "template words"))
        return;
    if (sl_chat_write(v->vocab, &memory, sl_chat_row_find(f->format), SL_TOKEN_NONE, NULL, messages, n, options, ids, MAX_IDS, &n_ids) != SL_OK)
        fail_msg("%s: %s: %s", f->name, json_text(c, "conversation"), sl_last_error());
    assert_int_equal(sl_vocab_encode(v->vocab, rendered->text, rendered->length, SL_ENCODE_PARSE_SPECIAL, want, MAX_IDS, &n_want), SL_OK);
    if (n_ids != n_want || memcmp(ids, want, n_ids * sizeof *ids))
        fail_msg("%s: %s: the ids differ", f->name, json_text(c, "conversation"));
}

static void rendered_conversations(void **state)
{
    (void)state;
    size_t n_families = 0;
    for (const struct json *group = json_get(reference, "families")->child; group; group = group->next, n_families++) {
        const struct family *f = families;
        while (strcmp(f->name, group->key))
            if (++f == families + COUNT(families))
                fail_msg("%s: a family without a row", group->key);
        vocab_test v;
        size_t size, n_cases = 0;
        unsigned char *data = fixture_load(f->vocabulary, &size);
        assert_int_equal(vocab_open(&v, NULL, data, size, NULL), SL_OK);
        for (const struct json *c = json_get(group, "cases")->child; c; c = c->next, n_cases++) {
            sl_chat_message messages[MAX_MESSAGES];
            sl_chat_part parts[MAX_MESSAGES];
            sl_chat_options options = SL_CHAT_OPTIONS_INIT;
            size_t n = messages_of(messages, parts, json_text(c, "conversation"));
            options.flags = json_get(c, "add_generation_prompt")->kind == JSON_TRUE ? 0 : SL_CHAT_CLOSED;
            check_text(f, c, messages, n, &options);
            check_ids(f, &v, c, messages, n, &options);
        }
        assert_int_equal(n_cases, 24);
        vocab_close(&v);
    }
    assert_int_equal(n_families, COUNT(families));
}

static void recognised_templates(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(families); i++) {
        const struct json *text = json_get(json_get(templates, families[i].name), "chat_template");
        const sl_chat_row *row = sl_chat_recognise(bytes.vocab, (sl_text) { text->text, text->length });
        if (!row || strcmp(row->name, families[i].format))
            fail_msg("%s: recognised as %s", families[i].name, row ? row->name : "nothing");
    }
}

/* ---- prompts with pictures ---- */

/* Messages with a mark where the picture stands. */
static const struct { const char *name, *system, *user; } prompts[] = {
    { "text", NULL, "Please write a short summary of the text." },
    { "image-1tile", NULL, "*Describe this image." },
    { "image-2x2", NULL, "*What is in the picture?" },
    { "image-1x3", "You are a helpful assistant.", "Once upon a time *there was a red collar." },
    { "two-images", NULL, "*This is the first image. *Compare it with the second image." },
};

static void check_prompt(const sl_vocab *vocab, const struct json *wanted, const char *system, const char *user, sl_token image)
{
    static const char some = 0;
    static const sl_chat_options usual = SL_CHAT_OPTIONS_INIT;
    sl_chat_part parts[8] = { { 0 } }, words = { sizeof words, system, system ? strlen(system) : 0, NULL };
    sl_chat_message messages[2] = { { sizeof messages[0], "system", &words, 1 }, { sizeof messages[1], "user", parts, 0 } };
    sl_token ids[MAX_IDS];
    size_t n, i = 0;
    while (*user) {
        size_t length = strcspn(user, "*");
        parts[messages[1].n_parts++] = length ? (sl_chat_part) { sizeof *parts, user, length, NULL } : (sl_chat_part) { sizeof *parts, NULL, 0, (const sl_image *)(const void *)&some };
        user += length ? length : 1;
    }
    assert_int_equal(sl_chat_write(vocab, &memory, sl_chat_row_find("llama3"), image, NULL, messages + !system, 2 - (size_t)!system, &usual, ids, MAX_IDS, &n), SL_OK);
    assert_int_equal(n, wanted->length);
    for (const struct json *e = wanted->child; e; e = e->next, i++)
        assert_int_equal(ids[i], (int)e->number);
}

static void prompts_with_pictures(void **state)
{
    (void)state;
    struct json *manifest = load_json("mllama-tiny/manifest.json");
    sl_token image = (sl_token)json_number(json_get(json_get(manifest, "config"), "text"), "image_token", -1);
    size_t size;
    vocab_test v;
    unsigned char *data = fixture_load("mllama-tiny/model-f32.gguf", &size);
    assert_int_equal(vocab_open(&v, NULL, data, size, NULL), SL_OK);
    assert_int_equal(sl_vocab_spelled(v.vocab, "<|image|>", 9), image);
    for (size_t i = 0; i < COUNT(prompts); i++)
        check_prompt(v.vocab, json_get(json_get(json_get(manifest, "cases"), prompts[i].name), "tokens"), prompts[i].system, prompts[i].user, image);
    assert_ptr_equal(sl_chat_recognise(v.vocab, (sl_text) { NULL, 0 }), sl_chat_row_find("llama3"));
    vocab_close(&v);
    json_free(manifest);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rendered_conversations), cmocka_unit_test(recognised_templates), cmocka_unit_test(prompts_with_pictures) };
    return cmocka_run_group_tests(tests, prepare, clean);
}
