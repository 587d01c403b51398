/* SPDX-License-Identifier: MIT */
/* misuse.c - every exported function, called as it must not be: NULL, zero, huge, out of range, in the wrong state. Each answers with an error and a sentence, or with the
 * value that its header promises; and everything works afterwards as it did before. The last test looks for functions without a row here: tests/abi/symbols.txt lists
 * them all. More rows: misuse_session.c. Structures of every size: structures.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "misuse.h"

static const sl_token ids[] = { 1, 270, 280, 290, 299 };
enum { N_IDS = COUNT(ids) };
static size_t n;

/* ---- models ---- */

static int32_t stop(uint64_t done, uint64_t total, void *user) { return (void)done, (void)total, (void)user, 1; }
static int64_t too_much(uint64_t offset, void *to, uint64_t bytes, void *user) { return (void)offset, (void)to, (void)user, (int64_t)bytes + 1; }

static void models(void **state)
{
    (void)state;
    static const sl_model_options all = SL_MODEL_OPTIONS_INIT;
    sl_model *model = (sl_model *)&s;
    sl_memory need = { .size = sizeof need };
    const sl_source good = misuse_source(s.file, s.size), none = misuse_source(NULL, 0), empty = misuse_source(s.file, 0), reader = { .size = sizeof reader, .length = s.size, .read = too_much };
    const sl_source *const sources[] = { &good, &good }, *const no_source[] = { NULL }, *const without[] = { &none }, *const of_nothing[] = { &empty }, *const greedy[] = { &reader };
    sl_model_options o = all;
    FINE(sl_model_options_default(&o, sizeof o));
    REFUSED(sl_model_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_model_options_default(&o, 0), ARGUMENT);
    REFUSED(sl_model_options_default(&o, SIZE_MAX), ARGUMENT);
    REFUSED(sl_model_load(NULL, s.path, NULL), ARGUMENT);
    REFUSED(sl_model_load(&model, NULL, NULL), ARGUMENT);
    assert_null(model);
    REFUSED(sl_model_load(&model, "", NULL), IO);
    REFUSED(sl_model_load(&model, "/", NULL), IO);
    REFUSED(sl_model_load(&model, s.nowhere, NULL), IO);
    REFUSED(sl_model_load_sources(NULL, sources, 1, NULL), ARGUMENT);
    REFUSED(sl_model_load_sources(&model, NULL, 1, NULL), ARGUMENT);
    REFUSED(sl_model_load_sources(&model, sources, 0, NULL), ARGUMENT);
    REFUSED(sl_model_load_sources(&model, sources, 2, NULL), ARGUMENT);
    REFUSED(sl_model_load_sources(&model, sources, SIZE_MAX, NULL), LIMIT);
    REFUSED(sl_model_load_sources(&model, no_source, 1, NULL), ARGUMENT);
    REFUSED(sl_model_load_sources(&model, without, 1, NULL), TRUNCATED);
    REFUSED(sl_model_load_sources(&model, of_nothing, 1, NULL), TRUNCATED);
    REFUSED(sl_model_load_sources(&model, greedy, 1, NULL), STATE);
    const struct { sl_model_options o; sl_status status; } wrong[] = {
        { { .backend = "none" }, SL_ERR_UNSUPPORTED }, { { .backend = "" }, SL_OK }, { { .backend = "cpu@5-3,cpu" }, SL_ERR_ARGUMENT }, { { .cpu_level = "none" }, SL_ERR_ARGUMENT },
        { { .arith = "none" }, SL_ERR_UNSUPPORTED }, { { .pre = "none" }, SL_OK }, { { .n_threads = UINT32_MAX }, SL_ERR_LIMIT }, { { .in_place = 2 }, SL_ERR_ARGUMENT },
        { { .parts = 9 }, SL_ERR_ARGUMENT }, { { .reserved = 1 }, SL_ERR_ARGUMENT }, { { .memory_limit = 1 }, SL_ERR_LIMIT }, { { .progress = stop }, SL_ERR_CANCELLED },
        { { .projector = s.nowhere }, SL_ERR_IO }, { { .projector = s.path, .projector_source = &good }, SL_ERR_ARGUMENT }, { { .projector_source = &none }, SL_ERR_TRUNCATED },
        { { .cross_norm = "none" }, SL_ERR_ARGUMENT }, { { .global_gates = "none" }, SL_ERR_ARGUMENT }, { { .pin = 2 }, SL_ERR_ARGUMENT }, { { .reserved_pin = 1 }, SL_ERR_ARGUMENT },
        { { .allocator = &(sl_allocator) { sizeof(sl_allocator), s.allocator.alloc, NULL, NULL } }, SL_ERR_ARGUMENT },
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o = wrong[i].o;
        o.size = sizeof o;
        misuse_check(sl_model_load(&model, s.path, &o), wrong[i].status, "sl_model_load with wrong options", (int)i);
        sl_model_free(model);
    }
    NEUTRAL(sl_model_retain(NULL), NULL);
    HARMLESS(sl_model_free(NULL));
    REFUSED(sl_model_estimate(NULL, NULL, NULL, &need), ARGUMENT);
    REFUSED(sl_model_estimate(s.path, NULL, NULL, NULL), ARGUMENT);
    REFUSED(sl_model_estimate(s.nowhere, NULL, NULL, &need), IO);
    REFUSED(sl_model_estimate(s.path, &(sl_model_options) { .size = sizeof o, .parts = SL_PARTS_METADATA }, NULL, &need), ARGUMENT);
    REFUSED(sl_model_estimate(s.path, NULL, &(sl_session_options) { .size = sizeof(sl_session_options), .n_ctx = UINT32_MAX }, &need), LIMIT);
    misuse_done();
}

static void metadata(void **state)
{
    (void)state;
    sl_model_info info = { .size = sizeof info };
    sl_meta meta = { .size = sizeof meta };
    sl_tensor_info tensor = { .size = sizeof tensor };
    size_t index, length, name, tokens;
    int64_t number;
    double real;
    const char *text;
    const size_t pairs = sl_model_meta_count(s.model), tensors = sl_model_tensor_count(s.model);
    REFUSED(sl_model_get_info(NULL, &info), ARGUMENT);
    REFUSED(sl_model_get_info(s.model, NULL), ARGUMENT);
    FINE(sl_model_get_info(s.list, &info));
    NEUTRAL(sl_model_meta_count(NULL), 0);
    NEUTRAL(sl_model_tensor_count(NULL), 0);
    REFUSED(sl_model_meta(NULL, 0, &meta), ARGUMENT);
    REFUSED(sl_model_meta(s.model, 0, NULL), ARGUMENT);
    REFUSED(sl_model_meta(s.model, pairs, &meta), RANGE);
    REFUSED(sl_model_meta(s.model, SIZE_MAX, &meta), RANGE);
    REFUSED(sl_model_meta_find(NULL, "general.name", &index), ARGUMENT);
    REFUSED(sl_model_meta_find(s.model, NULL, &index), ARGUMENT);
    REFUSED(sl_model_meta_find(s.model, "general.name", NULL), ARGUMENT);
    REFUSED(sl_model_meta_find(s.model, "", &index), MISSING);
    FINE(sl_model_meta_find(s.model, "general.name", &name));
    FINE(sl_model_meta_find(s.model, "tokenizer.ggml.tokens", &tokens));
    REFUSED(sl_model_meta_int(NULL, 0, 0, &number), ARGUMENT);
    REFUSED(sl_model_meta_int(s.model, 0, 0, NULL), ARGUMENT);
    REFUSED(sl_model_meta_int(s.model, SIZE_MAX, 0, &number), RANGE);
    REFUSED(sl_model_meta_int(s.model, tokens, UINT64_MAX, &number), RANGE);
    REFUSED(sl_model_meta_int(s.model, name, 0, &number), TYPE);
    REFUSED(sl_model_meta_float(NULL, 0, 0, &real), ARGUMENT);
    REFUSED(sl_model_meta_float(s.model, 0, 0, NULL), ARGUMENT);
    REFUSED(sl_model_meta_float(s.model, SIZE_MAX, 0, &real), RANGE);
    REFUSED(sl_model_meta_float(s.model, tokens, N_VOCAB, &real), RANGE);
    REFUSED(sl_model_meta_float(s.model, name, 0, &real), TYPE);
    REFUSED(sl_model_meta_string(NULL, 0, 0, &text, &length), ARGUMENT);
    REFUSED(sl_model_meta_string(s.model, name, 0, NULL, &length), ARGUMENT);
    REFUSED(sl_model_meta_string(s.model, name, 0, &text, NULL), ARGUMENT);
    REFUSED(sl_model_meta_string(s.model, name, 1, &text, &length), RANGE);
    REFUSED(sl_model_meta_string(s.model, SIZE_MAX, 0, &text, &length), RANGE);
    REFUSED(sl_model_tensor(NULL, 0, &tensor), ARGUMENT);
    REFUSED(sl_model_tensor(s.model, 0, NULL), ARGUMENT);
    REFUSED(sl_model_tensor(s.model, tensors, &tensor), RANGE);
    REFUSED(sl_model_tensor(s.model, SIZE_MAX, &tensor), RANGE);
    misuse_done();
}

static void words(void **state)
{
    (void)state;
    sl_token out[64];
    char text[64];
    const char *piece;
    sl_token_info info = { .size = sizeof info };
    sl_decoder *decoder = (sl_decoder *)&s;
    const sl_token wrong[] = { -1, N_VOCAB, INT32_MAX, INT32_MIN };
    REFUSED(sl_encode(NULL, "a", 1, 0, out, 64, &n), ARGUMENT);
    REFUSED(sl_encode(s.model, NULL, 1, 0, out, 64, &n), ARGUMENT);
    FINE(sl_encode(s.model, NULL, 0, 0, out, 64, &n));
    REFUSED(sl_encode(s.model, "a", 1, 0, NULL, 64, &n), ARGUMENT);
    REFUSED(sl_encode(s.model, "a", 1, 0, NULL, 0, &n), BUFFER);
    REFUSED(sl_encode(s.model, "a", 1, 0, out, 64, NULL), ARGUMENT);
    REFUSED(sl_encode(s.model, "a", 1, 4, out, 64, &n), ARGUMENT);
    REFUSED(sl_encode(s.list, "a", 1, 0, out, 64, &n), STATE);
    REFUSED(sl_decode(NULL, ids, N_IDS, 0, text, sizeof text, &n), ARGUMENT);
    REFUSED(sl_decode(s.model, NULL, 1, 0, text, sizeof text, &n), ARGUMENT);
    FINE(sl_decode(s.model, NULL, 0, 0, NULL, 0, &n));
    REFUSED(sl_decode(s.model, ids, N_IDS, 0, NULL, 1, &n), ARGUMENT);
    REFUSED(sl_decode(s.model, ids, N_IDS, 0, text, 1, &n), BUFFER);
    REFUSED(sl_decode(s.model, ids, N_IDS, 0, text, sizeof text, NULL), ARGUMENT);
    REFUSED(sl_decode(s.model, ids, N_IDS, 8, text, sizeof text, &n), ARGUMENT);
    REFUSED(sl_decode(s.list, ids, N_IDS, 0, text, sizeof text, &n), STATE);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        REFUSED(sl_decode(s.model, &wrong[i], 1, 0, text, sizeof text, &n), RANGE);
        REFUSED(sl_decoder_push(s.decoder, wrong[i], &piece, &n), RANGE);
        REFUSED(sl_token_get_info(s.model, wrong[i], &info), RANGE);
        NEUTRAL(sl_token_is_end(s.model, wrong[i]), 0);
    }
    REFUSED(sl_decoder_create(NULL, s.model, 0, 1), ARGUMENT);
    REFUSED(sl_decoder_create(&decoder, NULL, 0, 1), ARGUMENT);
    assert_null(decoder);
    REFUSED(sl_decoder_create(&decoder, s.model, 4, 1), ARGUMENT);
    REFUSED(sl_decoder_create(&decoder, s.model, 0, 2), ARGUMENT);
    REFUSED(sl_decoder_create(&decoder, s.list, 0, 1), STATE);
    REFUSED(sl_decoder_push(NULL, 1, &piece, &n), ARGUMENT), REFUSED(sl_decoder_push(s.decoder, 1, NULL, &n), ARGUMENT), REFUSED(sl_decoder_push(s.decoder, 1, &piece, NULL), ARGUMENT);
    REFUSED(sl_decoder_flush(NULL, &piece, &n), ARGUMENT), REFUSED(sl_decoder_flush(s.decoder, NULL, &n), ARGUMENT), REFUSED(sl_decoder_flush(s.decoder, &piece, NULL), ARGUMENT);
    HARMLESS(sl_decoder_free(NULL));
    REFUSED(sl_token_get_info(NULL, 1, &info), ARGUMENT);
    REFUSED(sl_token_get_info(s.model, 1, NULL), ARGUMENT);
    REFUSED(sl_token_get_info(s.list, 1, &info), STATE);
    NEUTRAL(sl_token_special(NULL, "bos"), SL_TOKEN_NONE);
    NEUTRAL(sl_token_special(s.model, NULL), SL_TOKEN_NONE);
    NEUTRAL(sl_token_special(s.model, "none"), SL_TOKEN_NONE);
    NEUTRAL(sl_token_special(s.list, "bos"), SL_TOKEN_NONE);
    NEUTRAL(sl_token_is_end(NULL, 2), 0);
    misuse_done();
}

/* ---- conversations ---- */

static void conversations(void **state)
{
    (void)state;
    sl_token out[64];
    const char *const roles[] = { NULL, "", "tool", "USER" };
    const sl_chat_part part = { sizeof part, "a", 1, NULL }, seen = { sizeof seen, NULL, 0, s.image };
    const sl_chat_part wrong_parts[] = { { sizeof part, NULL, 0, NULL }, { sizeof part, "a", 1, s.image }, { sizeof part, NULL, 1, s.image }, { 12, "a", 1, NULL }, { 0, "a", 1, NULL } };
    const sl_chat_message good = { sizeof good, "user", &part, 1 }, pictured = { sizeof good, "user", &seen, 1 };
    const sl_chat_options named = { .size = sizeof named, .format = "llama2" };
    sl_chat_options o = named;
    char date[300];
    memset(date, 'x', sizeof date - 1);
    date[sizeof date - 1] = 0;
    FINE(sl_chat_options_default(&o, sizeof o));
    REFUSED(sl_chat_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_chat_options_default(&o, 7), ARGUMENT);
    FINE(sl_chat_encode(s.model, &good, 1, &named, out, 64, &n));
    REFUSED(sl_chat_encode(NULL, &good, 1, &named, out, 64, &n), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, NULL, 1, &named, out, 64, &n), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, &good, 0, &named, out, 64, &n), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, &good, SIZE_MAX, &named, out, 64, &n), LIMIT);
    REFUSED(sl_chat_encode(s.model, &good, 1, &named, NULL, 64, &n), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, &good, 1, &named, NULL, 0, &n), BUFFER);
    REFUSED(sl_chat_encode(s.model, &good, 1, &named, out, 64, NULL), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, &good, 1, NULL, out, 64, &n), UNSUPPORTED);
    REFUSED(sl_chat_encode(s.list, &good, 1, &named, out, 64, &n), STATE);
    REFUSED(sl_chat_encode(s.model, &pictured, 1, &named, out, 64, &n), UNSUPPORTED);
    REFUSED(sl_chat_encode(s.words, &pictured, 1, &named, out, 64, &n), UNSUPPORTED);
    for (size_t i = 0; i < COUNT(roles); i++)
        REFUSED(sl_chat_encode(s.model, &(sl_chat_message) { sizeof good, roles[i], &part, 1 }, 1, &named, out, 64, &n), ARGUMENT);
    for (size_t i = 0; i < COUNT(wrong_parts); i++)
        REFUSED(sl_chat_encode(s.model, &(sl_chat_message) { sizeof good, "user", &wrong_parts[i], 1 }, 1, &named, out, 64, &n), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, &(sl_chat_message) { sizeof good, "user", NULL, 1 }, 1, &named, out, 64, &n), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, &(sl_chat_message) { sizeof good, "user", &part, 0 }, 1, &named, out, 64, &n), ARGUMENT);
    REFUSED(sl_chat_encode(s.model, &(sl_chat_message) { sizeof good, "user", &part, SIZE_MAX }, 1, &named, out, 64, &n), LIMIT);
    REFUSED(sl_chat_encode(s.model, &(sl_chat_message) { sizeof good, "user", &(sl_chat_part) { sizeof part, "a", SIZE_MAX, NULL }, 1 }, 1, &named, out, 64, &n), LIMIT);
    const struct { sl_chat_options o; sl_status status; } wrong[] = {
        { { .format = "none" }, SL_ERR_UNSUPPORTED }, { { .format = "llama2", .flags = 2 }, SL_ERR_ARGUMENT }, { { .format = "llama2", .reserved = 1 }, SL_ERR_ARGUMENT },
        { { .format = "llama2", .date = date }, SL_ERR_LIMIT }, { { .format = "llama4" }, SL_ERR_MISSING },
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o = wrong[i].o;
        o.size = sizeof o;
        misuse_check(sl_chat_encode(s.model, &good, 1, &o, out, 64, &n), wrong[i].status, "sl_chat_encode with wrong options", (int)i);
    }
    NEUTRAL(sl_chat_format(NULL), NULL);
    NEUTRAL(sl_chat_format(s.list), NULL);
    NEUTRAL(sl_chat_format_name(SIZE_MAX), NULL);
    misuse_done();
}

/* ---- pictures ---- */

static void pictures(void **state)
{
    (void)state;
    static const uint8_t pixels[3 * 4] = { 0 };
    static const sl_allocator half = { sizeof half, NULL, NULL, (void *)&n };
    sl_allocator odd = s.allocator;
    sl_image *image = (sl_image *)&s;
    sl_token out[8];
    odd.free = NULL;
    REFUSED(sl_image_load(NULL, s.path, NULL), ARGUMENT);
    REFUSED(sl_image_load(&image, NULL, NULL), ARGUMENT);
    assert_null(image);
    REFUSED(sl_image_load(&image, s.nowhere, NULL), IO);
    REFUSED(sl_image_load(&image, s.path, NULL), MAGIC);
    REFUSED(sl_image_load(&image, s.path, &odd), ARGUMENT);
    REFUSED(sl_image_decode(NULL, pixels, 12, NULL), ARGUMENT);
    REFUSED(sl_image_decode(&image, NULL, 12, NULL), ARGUMENT);
    REFUSED(sl_image_decode(&image, pixels, 0, NULL), TRUNCATED);
    REFUSED(sl_image_decode(&image, pixels, 12, &odd), ARGUMENT);
    REFUSED(sl_image_decode(&image, "P6 99999999 1 255 ", 18, NULL), LIMIT);
    REFUSED(sl_image_decode(&image, pixels, SIZE_MAX, NULL), LIMIT);
    REFUSED(sl_image_from_rgb(NULL, pixels, 2, 2, 0, NULL), ARGUMENT);
    REFUSED(sl_image_from_rgb(&image, NULL, 2, 2, 0, NULL), ARGUMENT);
    REFUSED(sl_image_from_rgb(&image, pixels, 0, 2, 0, NULL), ARGUMENT);
    REFUSED(sl_image_from_rgb(&image, pixels, 2, 0, 0, NULL), ARGUMENT);
    REFUSED(sl_image_from_rgb(&image, pixels, 2, 2, 5, NULL), ARGUMENT);
    REFUSED(sl_image_from_rgb(&image, pixels, UINT32_MAX, UINT32_MAX, 0, NULL), LIMIT);
    REFUSED(sl_image_from_rgb(&image, pixels, 2, 2, SIZE_MAX, NULL), OVERFLOW);
    REFUSED(sl_image_from_rgb(&image, pixels, 2, 2, 0, &odd), ARGUMENT);
    FINE(sl_image_from_rgb(&image, pixels, 2, 2, 0, &half));
    sl_image_free(image);
    HARMLESS(sl_image_free(NULL));
    NEUTRAL(sl_image_width(NULL), 0);
    NEUTRAL(sl_image_height(NULL), 0);
    NEUTRAL(sl_image_pixels(NULL), NULL);
    NEUTRAL(sl_image_format(SIZE_MAX), NULL);
    REFUSED(sl_image_encode(NULL, s.image, out, 8, &n), ARGUMENT);
    REFUSED(sl_image_encode(s.seeing, NULL, out, 8, &n), ARGUMENT);
    REFUSED(sl_image_encode(s.seeing, s.image, NULL, 8, &n), ARGUMENT);
    REFUSED(sl_image_encode(s.seeing, s.image, NULL, 0, &n), BUFFER);
    REFUSED(sl_image_encode(s.seeing, s.image, out, 8, NULL), ARGUMENT);
    REFUSED(sl_image_encode(s.model, s.image, out, 8, &n), UNSUPPORTED);
    REFUSED(sl_image_encode(s.words, s.image, out, 8, &n), UNSUPPORTED);
    REFUSED(sl_session_add_image(NULL, s.image), ARGUMENT);
    REFUSED(sl_session_add_image(s.looking, NULL), ARGUMENT);
    REFUSED(sl_session_add_image(s.session, s.image), UNSUPPORTED);
    REFUSED(sl_seq_add_image(NULL, 0, s.image), ARGUMENT);
    REFUSED(sl_seq_add_image(s.looking, 0, NULL), ARGUMENT);
    REFUSED(sl_seq_add_image(s.looking, 1, s.image), RANGE);
    REFUSED(sl_seq_add_image(s.session, 0, s.image), UNSUPPORTED);
    REFUSED(sl_session_eval(s.looking, &(sl_token) { N_SEEN }, 1, NULL, 0), STATE);
    misuse_done();
}

/* ---- quantizing ---- */

static int32_t put_bytes(const void *data, uint64_t bytes, void *user) { return (void)data, (void)bytes, (void)user, 0; }

static void quantizing(void **state)
{
    (void)state;
    const sl_source good = misuse_source(s.file, s.size), none = misuse_source(NULL, 0), *const sources[] = { &good, &good }, *const no_source[] = { NULL }, *const without[] = { &none };
    const sl_quantize_override override = { sizeof override, "*", "Q8_0" }, odd = { sizeof odd, "*", "none" }, nothing = { sizeof nothing, NULL, "Q8_0" };
    sl_quantize_options o;
    FINE(sl_quantize_options_default(&o, sizeof o));
    REFUSED(sl_quantize_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_quantize_options_default(&o, 0), ARGUMENT);
    REFUSED(sl_quantize(NULL, s.nowhere, "Q8_0", NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize(s.path, NULL, "Q8_0", NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize(s.path, s.nowhere, NULL, NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize(s.path, s.nowhere, "none", NULL, NULL), UNSUPPORTED);
    REFUSED(sl_quantize(s.path, s.nowhere, "", NULL, NULL), UNSUPPORTED);
    REFUSED(sl_quantize(s.nowhere, s.nowhere, "Q8_0", NULL, NULL), IO);
    REFUSED(sl_quantize(s.path, s.nowhere, "Q8_0", NULL, NULL), IO);
    REFUSED(sl_quantize(s.path, "/", "Q8_0", NULL, NULL), IO);
    FINE(sl_quantize_sources(sources, 1, put_bytes, NULL, "Q8_0", NULL, NULL));
    REFUSED(sl_quantize_sources(NULL, 1, put_bytes, NULL, "Q8_0", NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize_sources(sources, 0, put_bytes, NULL, "Q8_0", NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize_sources(sources, 2, put_bytes, NULL, "Q8_0", NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize_sources(sources, SIZE_MAX, put_bytes, NULL, "Q8_0", NULL, NULL), LIMIT);
    REFUSED(sl_quantize_sources(no_source, 1, put_bytes, NULL, "Q8_0", NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize_sources(without, 1, put_bytes, NULL, "Q8_0", NULL, NULL), TRUNCATED);
    REFUSED(sl_quantize_sources(sources, 1, NULL, NULL, "Q8_0", NULL, NULL), ARGUMENT);
    REFUSED(sl_quantize_sources(sources, 1, put_bytes, NULL, NULL, NULL, NULL), ARGUMENT);
    const struct { sl_quantize_options o; sl_status status; } wrong[] = {
        { { .n_threads = UINT32_MAX }, SL_ERR_LIMIT }, { { .flags = 2 }, SL_ERR_ARGUMENT }, { { .n_overrides = 1 }, SL_ERR_ARGUMENT }, { { .overrides = &override, .n_overrides = SIZE_MAX }, SL_ERR_LIMIT },
        { { .overrides = &odd, .n_overrides = 1 }, SL_ERR_UNSUPPORTED }, { { .overrides = &nothing, .n_overrides = 1 }, SL_ERR_ARGUMENT }, { { .importance = s.nowhere }, SL_ERR_IO },
        { { .importance = s.path }, SL_ERR_MISSING }, { { .importance = s.path, .importance_source = &good }, SL_ERR_ARGUMENT }, { { .importance_source = &none }, SL_ERR_TRUNCATED },
        { { .progress = stop }, SL_ERR_CANCELLED }, { { .allocator = &(sl_allocator) { sizeof(sl_allocator), NULL, s.allocator.free, NULL } }, SL_ERR_ARGUMENT },
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o = wrong[i].o;
        o.size = sizeof o;
        misuse_check(sl_quantize_sources(sources, 1, put_bytes, NULL, "Q8_0", &o, NULL), wrong[i].status, "sl_quantize_sources with wrong options", (int)i);
    }
    NEUTRAL(sl_quantize_target(SIZE_MAX), NULL);
    misuse_done();
}

/* ---- the rest ---- */

static void small_things(void **state)
{
    (void)state;
    assert_string_equal(sl_status_name(12345), "unknown status");
    assert_string_equal(sl_status_name(INT32_MIN), "unknown status");
    misuse_note("sl_status_name");
    assert_non_null(sl_version());
    assert_true(sl_numerics_id() > 0);
    misuse_note("sl_version"), misuse_note("sl_numerics_id");
    REFUSED(sl_session_eval(NULL, NULL, 0, NULL, 0), ARGUMENT);
    assert_non_null(strstr(sl_last_error(), "NULL"));
    misuse_note("sl_last_error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models), cmocka_unit_test(metadata), cmocka_unit_test(words), cmocka_unit_test(conversations), cmocka_unit_test(pictures), cmocka_unit_test(misuse_sessions),
        cmocka_unit_test(misuse_sequences), cmocka_unit_test(misuse_embeddings), cmocka_unit_test(misuse_samplers), cmocka_unit_test(misuse_rows_of_logits), cmocka_unit_test(misuse_generating),
        cmocka_unit_test(misuse_queues), cmocka_unit_test(misuse_states), cmocka_unit_test(quantizing), cmocka_unit_test(misuse_importance), cmocka_unit_test(small_things), cmocka_unit_test(misuse_every_function),
    };
    return cmocka_run_group_tests(tests, misuse_prepare, misuse_clean);
}
