/* SPDX-License-Identifier: MIT */
/* tokenizer.c - tokenizing through the interface: misuse, sizes of buffers, models without a vocabulary or without weights. What the vocabularies
 * themselves do is tested in unit/. */
#include <stdlib.h>
#include <string.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "tiny.h"

enum { N_VOCAB = 300 };
static const char text[] = "the sea\0\xc3\xa9 <s> at \x80 dawn";
enum { LENGTH = sizeof text - 1 };
static sl_model *model;

static sl_model *load(uint32_t parts)
{
    size_t size;
    unsigned char *file = tiny_file(&(tiny_shape) { .n_vocab = N_VOCAB }, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *made = NULL;
    o.parts = parts, o.n_threads = 1;
    STATUS(sl_model_load_sources(&made, sources, 1, &o), SL_OK);
    free(file);
    return made;
}

static int prepare(void **state)
{
    (void)state;
    model = load(SL_PARTS_VOCABULARY);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    sl_model_free(model);
    return 0;
}

static void misuse(void **state)
{
    (void)state;
    sl_token ids[64];
    char out[64];
    size_t n = 99;
    STATUS(sl_encode(NULL, text, LENGTH, 0, ids, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_encode(model, NULL, LENGTH, 0, ids, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_encode(model, text, LENGTH, 0, NULL, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_encode(model, text, LENGTH, 0, ids, 64, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_encode(model, text, LENGTH, 4, ids, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_encode(model, text, LENGTH, UINT32_MAX, ids, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_encode(model, NULL, 0, 0, NULL, 0, &n), SL_OK);
    assert_int_equal(n, 0);
    STATUS(sl_decode(NULL, ids, 1, 0, out, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decode(model, NULL, 1, 0, out, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decode(model, ids, 1, 0, NULL, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decode(model, ids, 1, 0, out, 64, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_decode(model, NULL, 0, 4, out, 64, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decode(model, NULL, 0, 0, NULL, 0, &n), SL_OK);
    static const sl_token wrong[] = { -1, N_VOCAB, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        sl_token_info info = { .size = sizeof info };
        const sl_token some[] = { 5, wrong[i] };
        STATUS(sl_decode(model, some, 2, 0, out, 64, &n), SL_ERR_RANGE);
        STATUS(sl_token_get_info(model, wrong[i], &info), SL_ERR_RANGE);
        assert_int_equal(sl_token_is_end(model, wrong[i]), 0);
    }
    assert_int_equal(sl_token_is_end(NULL, 0), 0);
    assert_int_equal(sl_token_special(NULL, "bos"), SL_TOKEN_NONE);
    assert_int_equal(sl_token_special(model, NULL), SL_TOKEN_NONE);
    assert_int_equal(sl_token_special(model, "king"), SL_TOKEN_NONE);
}

/* Every capacity from nothing to enough: the needed size is always told, nothing is written behind. */
static void sizes(void **state)
{
    (void)state;
    const uint32_t flags = SL_ENCODE_ADD_SPECIAL | SL_ENCODE_PARSE_SPECIAL;
    sl_token ids[64], part[64];
    char out[64], some[64];
    size_t n, m, length;
    STATUS(sl_encode(model, text, LENGTH, flags, ids, 64, &n), SL_OK);
    assert_int_equal(ids[0], 1);
    for (size_t capacity = 0; capacity <= n; capacity++) {
        memset(part, 0xee, sizeof part);
        STATUS(sl_encode(model, text, LENGTH, flags, capacity ? part : NULL, capacity, &m), capacity < n ? SL_ERR_BUFFER : SL_OK);
        assert_int_equal(m, n);
        assert_memory_equal(part, ids, capacity * sizeof *ids);
        for (size_t i = capacity; i < 64; i++)
            assert_int_equal(part[i], (int32_t)0xeeeeeeee);
    }
    STATUS(sl_decode(model, ids, n, SL_DECODE_SPECIAL, out, 64, &length), SL_OK);
    assert_int_equal(length, LENGTH + 3 + 2);       /* <s> in front, and each stretch of text begins with a space of its own */
    assert_memory_equal(out + length - 7, text + LENGTH - 7, 7);
    assert_memory_equal(out, "<s>", 3);
    for (size_t capacity = 0; capacity <= length; capacity++) {
        memset(some, 0x11, sizeof some);
        STATUS(sl_decode(model, ids, n, SL_DECODE_SPECIAL, capacity ? some : NULL, capacity, &m), capacity < length ? SL_ERR_BUFFER : SL_OK);
        assert_int_equal(m, length);
        assert_memory_equal(some, out, capacity);
        for (size_t i = capacity; i < 64; i++)
            assert_int_equal(some[i], 0x11);
    }
}

static void token_infos(void **state)
{
    (void)state;
    static const struct { sl_token id; const char *text; int32_t kind; uint32_t end; } rows[] = {
        { 0, "<unk>", SL_TOKEN_UNKNOWN, 0 }, { 1, "<s>", SL_TOKEN_CONTROL, 0 }, { 2, "</s>", SL_TOKEN_CONTROL, 1 }, { 3 + 'A', "<0x41>", SL_TOKEN_BYTE, 0 }, { 260, "a", SL_TOKEN_NORMAL, 0 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_token_info info = { .size = sizeof info };
        STATUS(sl_token_get_info(model, rows[i].id, &info), SL_OK);
        assert_int_equal(info.length, strlen(rows[i].text));
        assert_memory_equal(info.text, rows[i].text, info.length);
        assert_int_equal(info.kind, rows[i].kind);
        assert_int_equal(info.end, rows[i].end);
        assert_int_equal(sl_token_is_end(model, rows[i].id), rows[i].end);
        info.size = 4;
        STATUS(sl_token_get_info(model, rows[i].id, &info), SL_ERR_ARGUMENT);
    }
    STATUS(sl_token_get_info(model, 0, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_token_special(model, "bos"), 1);
    assert_int_equal(sl_token_special(model, "eos"), 2);
    assert_int_equal(sl_token_special(model, "unknown"), 0);
    assert_int_equal(sl_token_special(model, "separator"), SL_TOKEN_NONE);
}

static void decoders(void **state)
{
    (void)state;
    sl_decoder *decoder = (sl_decoder *)&model;
    const char *out;
    size_t n;
    STATUS(sl_decoder_create(NULL, model, 0, 0), SL_ERR_ARGUMENT);
    STATUS(sl_decoder_create(&decoder, NULL, 0, 0), SL_ERR_ARGUMENT);
    assert_null(decoder);
    STATUS(sl_decoder_create(&decoder, model, 4, 0), SL_ERR_ARGUMENT);
    STATUS(sl_decoder_create(&decoder, model, 0, 2), SL_ERR_ARGUMENT);
    sl_decoder_free(NULL);
    STATUS(sl_decoder_create(&decoder, model, 0, 1), SL_OK);
    STATUS(sl_decoder_push(NULL, 5, &out, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decoder_push(decoder, 5, NULL, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decoder_push(decoder, 5, &out, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_decoder_push(decoder, N_VOCAB, &out, &n), SL_ERR_RANGE);
    STATUS(sl_decoder_flush(NULL, &out, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decoder_flush(decoder, NULL, &n), SL_ERR_ARGUMENT);
    STATUS(sl_decoder_push(decoder, 3 + 0xc3, &out, &n), SL_OK);        /* half a character */
    assert_int_equal(n, 0);
    STATUS(sl_decoder_push(decoder, -1, &out, &n), SL_ERR_RANGE);       /* changes nothing */
    STATUS(sl_decoder_push(decoder, 3 + 0xa9, &out, &n), SL_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(out, "\xc3\xa9", 2);
    STATUS(sl_decoder_push(decoder, 3 + 0xe2, &out, &n), SL_OK);
    STATUS(sl_decoder_flush(decoder, &out, &n), SL_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
    sl_decoder_free(decoder);
}

/* What a model that was loaded in parts can do, and what it says of the rest. */
static void partial_models(void **state)
{
    (void)state;
    sl_model *bare = load(SL_PARTS_METADATA);
    sl_session *session = NULL;
    sl_decoder *decoder = NULL;
    sl_token_info token = { .size = sizeof token };
    sl_model_info info = { .size = sizeof info };
    sl_token ids[64];
    char out[8];
    size_t n;
    STATUS(sl_session_create(&session, bare, NULL), SL_ERR_STATE);
    STATUS(sl_session_create(&session, model, NULL), SL_ERR_STATE);
    assert_null(session);
    STATUS(sl_encode(bare, text, LENGTH, 0, ids, 64, &n), SL_ERR_STATE);
    STATUS(sl_decode(bare, ids, 0, 0, out, 8, &n), SL_ERR_STATE);
    STATUS(sl_decoder_create(&decoder, bare, 0, 0), SL_ERR_STATE);
    STATUS(sl_token_get_info(bare, 0, &token), SL_ERR_STATE);
    assert_int_equal(sl_token_special(bare, "bos"), SL_TOKEN_NONE);
    STATUS(sl_model_get_info(bare, &info), SL_OK);
    assert_int_equal(info.n_vocab, 0);
    assert_int_equal(info.n_embd, 0);
    assert_string_equal(info.architecture, "llama");
    assert_true(sl_model_tensor_count(bare) > 0);
    STATUS(sl_model_get_info(model, &info), SL_OK);
    assert_int_equal(info.n_vocab, N_VOCAB);
    assert_int_equal(info.n_threads, 0);
    sl_model_free(bare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse), cmocka_unit_test(sizes), cmocka_unit_test(token_infos), cmocka_unit_test(decoders), cmocka_unit_test(partial_models),
    };
    return cmocka_run_group_tests(tests, prepare, clean);
}
