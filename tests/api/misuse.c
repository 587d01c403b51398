/* SPDX-License-Identifier: MIT */
/* misuse.c - every exported function, called as it must not be: NULL, zero, huge, out of range, in the wrong state. Each answers with an error and a sentence, or with the
 * value that its header promises; and everything works afterwards as it did before. The last test looks for functions without a row here: tests/abi/symbols.txt lists
 * them all. Structures of every size: structures.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "misuse.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const sl_token ids[] = { 1, 270, 280, 290, 299 };
enum { N_IDS = COUNT(ids) };
static float logits[4 * N_VOCAB];
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
    REFUSED(sl_decoder_push(NULL, 1, &piece, &n), ARGUMENT);
    REFUSED(sl_decoder_push(s.decoder, 1, NULL, &n), ARGUMENT);
    REFUSED(sl_decoder_push(s.decoder, 1, &piece, NULL), ARGUMENT);
    REFUSED(sl_decoder_flush(NULL, &piece, &n), ARGUMENT);
    REFUSED(sl_decoder_flush(s.decoder, NULL, &n), ARGUMENT);
    REFUSED(sl_decoder_flush(s.decoder, &piece, NULL), ARGUMENT);
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

/* ---- sessions ---- */

static void sessions(void **state)
{
    (void)state;
    sl_session *session = (sl_session *)&s;
    sl_session_stats stats = { .size = sizeof stats };
    sl_session_options o;
    const uint32_t seqs[] = { 0, 0, 0, 0, 3 };
    const uint8_t wanted[] = { 0, 0, 0, 0, 1 };
    size_t kept;
    FINE(sl_session_options_default(&o, sizeof o));
    REFUSED(sl_session_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_session_options_default(&o, 0), ARGUMENT);
    REFUSED(sl_session_create(NULL, s.model, NULL), ARGUMENT);
    REFUSED(sl_session_create(&session, NULL, NULL), ARGUMENT);
    assert_null(session);
    REFUSED(sl_session_create(&session, s.words, NULL), STATE);
    REFUSED(sl_session_create(&session, s.list, NULL), STATE);
    const struct { sl_session_options o; sl_status status; } wrong[] = {
        { { .n_ctx = UINT32_MAX }, SL_ERR_LIMIT }, { { .n_batch = UINT32_MAX }, SL_ERR_LIMIT }, { { .n_seq = UINT32_MAX }, SL_ERR_LIMIT }, { { .cache_type = "none" }, SL_ERR_UNSUPPORTED },
        { { .cache_type = "q8_0" }, SL_ERR_UNSUPPORTED }, { { .n_ctx = 64, .n_ctx_shared = 63 }, SL_ERR_RANGE }, 
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o = wrong[i].o;
        o.size = sizeof o;
        misuse_check(sl_session_create(&session, s.model, &o), wrong[i].status, "sl_session_create with wrong options", (int)i);
        assert_null(session);
    }
    HARMLESS(sl_session_free(NULL));
    HARMLESS(sl_session_cancel(NULL));
    REFUSED(sl_session_eval(NULL, ids, N_IDS, logits, 1), ARGUMENT);
    REFUSED(sl_session_eval(s.session, NULL, 1, logits, 1), ARGUMENT);
    REFUSED(sl_session_eval(s.session, ids, N_IDS, NULL, 1), ARGUMENT);
    REFUSED(sl_session_eval(s.session, ids, 1, logits, 2), ARGUMENT);
    REFUSED(sl_session_eval(s.session, ids, SIZE_MAX, NULL, 0), FULL);
    REFUSED(sl_session_eval(s.session, ids, SIZE_MAX, logits, SIZE_MAX), FULL);
    REFUSED(sl_session_eval(s.session, &(sl_token) { N_VOCAB }, 1, NULL, 0), RANGE);
    REFUSED(sl_session_eval(s.session, &(sl_token) { -1 }, 1, NULL, 0), RANGE);
    FINE(sl_session_eval(s.session, NULL, 0, NULL, 0));
    REFUSED(sl_session_eval_batch(NULL, ids, seqs, NULL, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, NULL, seqs, NULL, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, ids, NULL, NULL, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, ids, seqs, wanted, 4, NULL), ARGUMENT);
    REFUSED(sl_session_eval_batch(s.session, ids, seqs, NULL, 5, NULL), RANGE);
    REFUSED(sl_session_eval_batch(s.session, ids, seqs, NULL, SIZE_MAX, NULL), FULL);
    FINE(sl_session_eval_batch(s.session, NULL, NULL, NULL, 0, NULL));
    NEUTRAL(sl_session_images(NULL), 0);
    NEUTRAL(sl_session_length(NULL), 0);
    NEUTRAL(sl_session_capacity(NULL), 0);
    NEUTRAL(sl_session_tokens(NULL), NULL);
    NEUTRAL(sl_session_tokens(s.session), NULL);
    NEUTRAL(sl_session_model(NULL), NULL);
    NEUTRAL(sl_session_label(NULL, 0), NULL);
    NEUTRAL(sl_session_label(s.session, SIZE_MAX), NULL);
    REFUSED(sl_session_rewind(NULL, 0), ARGUMENT);
    REFUSED(sl_session_rewind(s.session, 1), RANGE);
    REFUSED(sl_session_rewind(s.session, SIZE_MAX), RANGE);
    REFUSED(sl_session_keep_prefix(NULL, ids, N_IDS, &kept), ARGUMENT);
    REFUSED(sl_session_keep_prefix(s.session, NULL, 1, &kept), ARGUMENT);
    REFUSED(sl_session_keep_prefix(s.session, ids, N_IDS, NULL), ARGUMENT);
    FINE(sl_session_keep_prefix(s.session, NULL, 0, &kept));
    REFUSED(sl_session_get_stats(NULL, &stats), ARGUMENT);
    REFUSED(sl_session_get_stats(s.session, NULL), ARGUMENT);
    misuse_done();
}

static void sequences(void **state)
{
    (void)state;
    size_t kept;
    NEUTRAL(sl_session_sequences(NULL), 0);
    NEUTRAL(sl_session_free_positions(NULL), 0);
    NEUTRAL(sl_seq_length(NULL, 0), 0);
    NEUTRAL(sl_seq_length(s.session, 3), 0);
    NEUTRAL(sl_seq_tokens(NULL, 0), NULL);
    NEUTRAL(sl_seq_tokens(s.session, SL_SEQ_ALL), NULL);
    NEUTRAL(sl_seq_images(NULL, 0), 0);
    NEUTRAL(sl_seq_images(s.session, 3), 0);
    REFUSED(sl_seq_rewind(NULL, 0, 0), ARGUMENT);
    REFUSED(sl_seq_rewind(s.session, 3, 0), RANGE);
    REFUSED(sl_seq_rewind(s.session, 0, 1), RANGE);
    REFUSED(sl_seq_keep_prefix(NULL, 0, ids, 1, &kept), ARGUMENT);
    REFUSED(sl_seq_keep_prefix(s.session, 3, ids, 1, &kept), RANGE);
    REFUSED(sl_seq_keep_prefix(s.session, 0, NULL, 1, &kept), ARGUMENT);
    REFUSED(sl_seq_keep_prefix(s.session, 0, ids, 1, NULL), ARGUMENT);
    REFUSED(sl_seq_copy(NULL, 0, 1, 0), ARGUMENT);
    REFUSED(sl_seq_copy(s.session, 0, 3, 0), RANGE);
    REFUSED(sl_seq_copy(s.session, 3, 0, 0), RANGE);
    REFUSED(sl_seq_copy(s.session, 0, 0, 0), ARGUMENT);
    REFUSED(sl_seq_copy(s.session, 0, 1, 1), RANGE);
    REFUSED(sl_seq_copy(s.session, 0, 1, SIZE_MAX), RANGE);
    REFUSED(sl_seq_keep(NULL, 0), ARGUMENT);
    REFUSED(sl_seq_keep(s.session, 3), RANGE);
    misuse_done();
}

static void embeddings(void **state)
{
    (void)state;
    static float out[4 * N_EMBD];
    const size_t lengths[] = { 3, 2 }, none[] = { 0 }, endless[] = { SIZE_MAX }, wrapping[] = { SIZE_MAX, 2 };
    sl_embed_options o;
    FINE(sl_embed_options_default(&o, sizeof o));
    REFUSED(sl_embed_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_embed_options_default(&o, 0), ARGUMENT);
    FINE(sl_session_embed(s.session, ids, lengths, 2, NULL, out, 2));
    REFUSED(sl_session_embed(NULL, ids, lengths, 2, NULL, out, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, NULL, lengths, 2, NULL, out, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, NULL, 2, NULL, out, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, NULL, NULL, 2), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, NULL, out, 1), BUFFER);
    REFUSED(sl_session_embed(s.session, ids, none, 1, NULL, out, 4), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, endless, 1, NULL, out, 4), FULL);
    REFUSED(sl_session_embed(s.session, ids, wrapping, 2, NULL, out, 4), FULL);
    REFUSED(sl_session_embed(s.session, &(sl_token) { -1 }, &(size_t) { 1 }, 1, NULL, out, 4), RANGE);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, &(sl_embed_options) { .size = sizeof o, .pooling = "none at all" }, out, 4), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, &(sl_embed_options) { .size = sizeof o, .flags = 2 }, out, 4), ARGUMENT);
    REFUSED(sl_session_embed(s.session, ids, lengths, 2, &(sl_embed_options) { .size = sizeof o, .reserved = 1 }, out, 4), ARGUMENT);
    misuse_done();
}

/* ---- samplers ---- */

static int32_t refuse(float *row, uint32_t n_vocab, void *user) { return (void)row, (void)n_vocab, (void)user, 1; }

static void samplers(void **state)
{
    (void)state;
    sl_sampler *sampler = (sl_sampler *)&s;
    sl_allocator odd = s.allocator;
    sl_token id, out[N_VOCAB];
    float row[N_VOCAB], probs[N_VOCAB];
    const double nan_value = NAN, many[64] = { 0 };
    odd.alloc = NULL;
    REFUSED(sl_sampler_create(NULL, N_VOCAB, 1, NULL), ARGUMENT);
    REFUSED(sl_sampler_create(&sampler, 0, 1, NULL), ARGUMENT);
    assert_null(sampler);
    REFUSED(sl_sampler_create(&sampler, UINT32_MAX, 1, NULL), LIMIT);
    REFUSED(sl_sampler_create(&sampler, N_VOCAB, 1, &odd), ARGUMENT);
    HARMLESS(sl_sampler_free(NULL));
    REFUSED(sl_sampler_add(NULL, "temp", NULL, 0), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, NULL, NULL, 0), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "temp", NULL, 1), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "none", NULL, 0), UNSUPPORTED);
    REFUSED(sl_sampler_add(s.sampler, "", NULL, 0), UNSUPPORTED);
    REFUSED(sl_sampler_add(s.sampler, "temp", &nan_value, 1), RANGE);
    for (size_t i = 0; sl_sampler_name(i); i++)
        if (strcmp(sl_sampler_name(i), "logit-bias"))
            REFUSED(sl_sampler_add(s.sampler, sl_sampler_name(i), many, COUNT(many)), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "logit-bias", many, 3), ARGUMENT);
    REFUSED(sl_sampler_add(s.sampler, "logit-bias", (const double[]) { N_VOCAB, 1 }, 2), RANGE);
    REFUSED(sl_sampler_add(s.sampler, "logit-bias", many, SIZE_MAX - 1), LIMIT);
    REFUSED(sl_sampler_add_callback(NULL, refuse, NULL), ARGUMENT);
    REFUSED(sl_sampler_add_callback(s.sampler, NULL, NULL), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(NULL, s.model, "a", 1), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(s.sampler, NULL, "a", 1), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(s.sampler, s.model, NULL, 1), ARGUMENT);
    REFUSED(sl_sampler_add_breaker(s.sampler, s.model, "a", 0), ARGUMENT);
    FINE(sl_sampler_add_breaker(s.other, s.model, "a", 1));
    REFUSED(sl_sampler_add_breaker(s.sampler, s.list, "a", 1), STATE);
    REFUSED(sl_sampler_add_breaker(s.sampler, s.model, "no token is so long", 19), MISSING);
    REFUSED(sl_sampler_accept(NULL, ids, 1), ARGUMENT);
    REFUSED(sl_sampler_accept(s.sampler, NULL, 1), ARGUMENT);
    REFUSED(sl_sampler_accept(s.sampler, &(sl_token) { -1 }, 1), RANGE);
    FINE(sl_sampler_accept(s.sampler, NULL, 0));
    NEUTRAL(sl_sampler_name(SIZE_MAX), NULL);
    REFUSED(sl_sampler_sample(NULL, s.expected, &id), ARGUMENT);
    REFUSED(sl_sampler_sample(s.sampler, NULL, &id), ARGUMENT);
    REFUSED(sl_sampler_sample(s.sampler, s.expected, NULL), ARGUMENT);
    REFUSED(sl_sampler_candidates(NULL, s.expected, out, probs, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, NULL, out, probs, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, NULL, probs, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, out, NULL, N_VOCAB, &n), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, out, probs, N_VOCAB, NULL), ARGUMENT);
    REFUSED(sl_sampler_candidates(s.sampler, s.expected, NULL, NULL, 0, &n), BUFFER);
    REFUSED(sl_sampler_reset(NULL, 1), ARGUMENT);
    REFUSED(sl_logits_top(NULL, N_VOCAB, out, probs, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, 0, out, probs, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, NULL, probs, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, out, NULL, 1), ARGUMENT);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, out, probs, N_VOCAB + 1), RANGE);
    REFUSED(sl_logits_top(s.expected, N_VOCAB, out, probs, SIZE_MAX), RANGE);
    REFUSED(sl_logits_log_probs(NULL, N_VOCAB, ids, 1, probs), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, 0, ids, 1, probs), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, N_VOCAB, NULL, 1, probs), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, N_VOCAB, ids, 1, NULL), ARGUMENT);
    REFUSED(sl_logits_log_probs(s.expected, N_VOCAB, &(sl_token) { N_VOCAB }, 1, probs), RANGE);
    const float bad[] = { NAN, INFINITY };
    for (size_t i = 0; i < COUNT(bad); i++) {
        memcpy(row, s.expected, sizeof row);
        row[7] = bad[i];
        REFUSED(sl_sampler_sample(s.sampler, row, &id), NONFINITE);
        REFUSED(sl_sampler_candidates(s.sampler, row, out, probs, N_VOCAB, &n), NONFINITE);
        REFUSED(sl_logits_top(row, N_VOCAB, out, probs, 3), NONFINITE);
        REFUSED(sl_logits_log_probs(row, N_VOCAB, ids, 1, probs), NONFINITE);
    }
    for (size_t i = 0; i < N_VOCAB; i++)
        row[i] = -INFINITY;
    REFUSED(sl_sampler_sample(s.sampler, row, &id), STATE);
    REFUSED(sl_logits_top(row, N_VOCAB, out, probs, 3), STATE);
    FINE(sl_sampler_sample(s.sampler, s.expected, &id));
    misuse_done();
}

/* ---- generating ---- */

static void generating(void **state)
{
    (void)state;
    sl_generate_options o;
    const char *const stops[] = { "a", "", NULL, "\xff" };
    FINE(sl_generate_options_default(&o, sizeof o));
    REFUSED(sl_generate_options_default(NULL, sizeof o), ARGUMENT);
    REFUSED(sl_generate_options_default(&o, 0), ARGUMENT);
    REFUSED(sl_generate(NULL, ids, N_IDS, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, NULL, 1, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, NULL, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, ids, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_generate(s.session, ids, SIZE_MAX, NULL, NULL), FULL);
    REFUSED(sl_generate(s.session, &(sl_token) { 1 }, SIZE_MAX, NULL, NULL), FULL);
    REFUSED(sl_generate(s.session, &(sl_token) { N_VOCAB }, 1, NULL, NULL), RANGE);
    REFUSED(sl_generate(s.session, &(sl_token) { -1 }, 1, NULL, NULL), RANGE);
    const struct { sl_generate_options o; sl_status status; } wrong[] = {
        { { .sampler = s.other }, SL_ERR_ARGUMENT }, { { .decode_flags = 8 }, SL_ERR_ARGUMENT }, { { .n_stop = 1 }, SL_ERR_ARGUMENT }, { { .stop = stops, .n_stop = 2 }, SL_ERR_ARGUMENT },
        { { .stop = stops, .n_stop = SIZE_MAX }, SL_ERR_ARGUMENT }, { { .stop = stops + 2, .n_stop = 1 }, SL_ERR_ARGUMENT }, { { .stop = stops + 3, .n_stop = 1 }, SL_ERR_UTF8 },
        { { .lookup = 65 }, SL_ERR_LIMIT }, { { .reuse = 2 }, SL_ERR_ARGUMENT },
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o = wrong[i].o;
        o.size = sizeof o;
        misuse_check(sl_generate(s.session, ids, N_IDS, &o, NULL), wrong[i].status, "sl_generate with wrong options", (int)i);
        assert_int_equal(sl_session_length(s.session), 0);
    }
    misuse_done();
}

/* ---- states ---- */

static int32_t put(const void *data, uint64_t bytes, void *user) { return (void)data, (void)bytes, (void)user, 0; }
static int64_t get_nothing(void *to, uint64_t bytes, void *user) { return (void)to, (void)bytes, (void)user, 0; }
static int64_t get_too_much(void *to, uint64_t bytes, void *user) { return (void)to, (void)user, (int64_t)bytes + 1; }
static int64_t get_zeros(void *to, uint64_t bytes, void *user) { return memset(to, 0, bytes), (void)user, (int64_t)bytes; }

static void states(void **state)
{
    (void)state;
    REFUSED(sl_state_save(NULL, 0, s.nowhere), ARGUMENT);
    REFUSED(sl_state_save(s.session, 0, NULL), ARGUMENT);
    REFUSED(sl_state_save(s.session, 3, s.nowhere), RANGE);
    REFUSED(sl_state_save(s.session, 0, s.nowhere), IO);
    REFUSED(sl_state_save(s.session, 0, ""), IO);
    REFUSED(sl_state_save(s.session, 0, "/"), IO);
    REFUSED(sl_state_load(NULL, 0, s.path, NULL), ARGUMENT);
    REFUSED(sl_state_load(s.session, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_load(s.session, 3, s.path, NULL), RANGE);
    REFUSED(sl_state_load(s.session, 0, s.path, NULL), MAGIC);
    REFUSED(sl_state_load(s.session, 0, s.nowhere, NULL), IO);
    REFUSED(sl_state_load(s.session, 0, "", NULL), IO);
    REFUSED(sl_state_write(NULL, 0, put, NULL), ARGUMENT);
    REFUSED(sl_state_write(s.session, 0, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_write(s.session, 3, put, NULL), RANGE);
    REFUSED(sl_state_read(NULL, 0, get_nothing, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_read(s.session, 0, NULL, NULL, NULL), ARGUMENT);
    REFUSED(sl_state_read(s.session, 3, get_nothing, NULL, NULL), RANGE);
    REFUSED(sl_state_read(s.session, 0, get_nothing, NULL, NULL), TRUNCATED);
    REFUSED(sl_state_read(s.session, 0, get_too_much, NULL, NULL), STATE);
    REFUSED(sl_state_read(s.session, 0, get_zeros, NULL, NULL), MAGIC);
    misuse_done();
}

/* ---- quantizing ---- */

static int32_t put_bytes(const void *data, size_t bytes, void *user) { return (void)data, (void)bytes, (void)user, 0; }

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
        cmocka_unit_test(models), cmocka_unit_test(metadata), cmocka_unit_test(words), cmocka_unit_test(conversations), cmocka_unit_test(pictures), cmocka_unit_test(sessions),
        cmocka_unit_test(sequences), cmocka_unit_test(embeddings), cmocka_unit_test(samplers), cmocka_unit_test(generating), cmocka_unit_test(states), cmocka_unit_test(quantizing),
        cmocka_unit_test(small_things), cmocka_unit_test(misuse_every_function),
    };
    return cmocka_run_group_tests(tests, misuse_prepare, misuse_clean);
}
