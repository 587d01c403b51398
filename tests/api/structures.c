/* SPDX-License-Identifier: MIT */
/* structures.c - structures of programs that are older or newer than the library, or that forgot to say how large theirs are: in every call that takes one. Each lies in a
 * block of exactly its size, so that a sanitizer sees a step beside it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "tiny.h"

enum { N_VOCAB = 300, BEHIND = 24 };

static unsigned char *file;
static size_t file_size;
static sl_model *model;
static sl_session *session;
static char path[64], state_path[80];
static const sl_token ids[] = { 1, 270, 280 };
static const uint8_t pixels[12];

/* ---- the calls ---- */

static sl_status close_model(sl_status status, sl_model *m)
{
    assert_true(!m == (status != SL_OK));
    sl_model_free(m);
    return status;
}

static sl_status load(const sl_source *source, const sl_model_options *o)
{
    sl_model *m = NULL;
    const sl_status status = sl_model_load_sources(&m, &source, 1, o);
    return close_model(status, m);
}

static sl_source whole(void) { return (sl_source) { .size = sizeof(sl_source), .data = file, .length = file_size }; }

static sl_status in_source(void *x) { return load(x, NULL); }
static sl_status in_model_options(void *x)
{
    const sl_source source = whole();
    return load(&source, x);
}
static sl_status in_allocator(void *x) { return in_model_options(&(sl_model_options) { .size = sizeof(sl_model_options), .allocator = x }); }
static sl_status in_projector(void *x)
{
    const sl_status status = in_model_options(&(sl_model_options) { .size = sizeof(sl_model_options), .projector_source = x });
    return status == SL_ERR_DUPLICATE ? SL_OK : status;        /* the same tensors twice: it was read */
}
static sl_status in_load(void *x)
{
    sl_model *m = NULL;
    const sl_status status = sl_model_load(&m, path, x);
    return close_model(status, m);
}
static sl_status in_estimate_model(void *x) { return sl_model_estimate(path, x, NULL, &(sl_memory) { .size = sizeof(sl_memory) }); }
static sl_status in_estimate_session(void *x) { return sl_model_estimate(path, NULL, x, &(sl_memory) { .size = sizeof(sl_memory) }); }
static sl_status out_estimate(void *x) { return sl_model_estimate(path, NULL, NULL, x); }
static sl_status out_info(void *x) { return sl_model_get_info(model, x); }
static sl_status out_meta(void *x) { return sl_model_meta(model, 0, x); }
static sl_status out_tensor(void *x) { return sl_model_tensor(model, 0, x); }
static sl_status out_token(void *x) { return sl_token_get_info(model, 1, x); }
static sl_status out_stats(void *x) { return sl_session_get_stats(session, x); }

static sl_status in_session_options(void *x)
{
    sl_session *opened = NULL;
    const sl_status status = sl_session_create(&opened, model, x);
    assert_true(!opened == (status != SL_OK));
    sl_session_free(opened);
    return status;
}

static sl_status generate(const sl_generate_options *o, sl_generate_result *r)
{
    const sl_status status = sl_generate(session, ids, 3, o, r);
    if (status != SL_OK)
        assert_int_equal(sl_session_length(session), 0);
    assert_int_equal(sl_session_rewind(session, 0), SL_OK);
    return status;
}
static sl_status in_generate(void *x) { return generate(x, NULL); }
static sl_status out_generate(void *x) { return generate(&(sl_generate_options) { .size = sizeof(sl_generate_options), .max_tokens = 1 }, x); }

static sl_status in_embed(void *x)
{
    static float out[3 * 32];
    return sl_session_embed(session, ids, &(size_t) { 3 }, 1, x, out, 3);
}

static sl_status chat(const sl_chat_message *m, const sl_chat_options *o)
{
    sl_token out[64];
    size_t n;
    return sl_chat_encode(model, m, 1, o, out, 64, &n);
}
static const sl_chat_part part = { sizeof part, "a", 1, NULL };
static const sl_chat_message message = { sizeof message, "user", &part, 1 };
static const sl_chat_options chatting = { .size = sizeof chatting, .format = "llama2" };
static sl_status in_chat(void *x) { return chat(&message, x); }
static sl_status in_message(void *x) { return chat(x, &chatting); }
static sl_status in_part(void *x) { return chat(&(sl_chat_message) { sizeof message, "user", x, 1 }, &chatting); }

static sl_status in_image_allocator(void *x)
{
    sl_image *image = NULL;
    const sl_status status = sl_image_from_rgb(&image, pixels, 2, 2, 0, x);
    assert_true(!image == (status != SL_OK));
    sl_image_free(image);
    return status;
}
static sl_status in_sampler_allocator(void *x)
{
    sl_sampler *made = NULL;
    const sl_status status = sl_sampler_create(&made, N_VOCAB, 1, x);
    assert_true(!made == (status != SL_OK));
    sl_sampler_free(made);
    return status;
}

static size_t n_written;
static int32_t count(const void *data, uint64_t bytes, void *user) { return (void)data, (void)user, n_written += bytes, 0; }
static sl_status quantize(const sl_source *source, const sl_quantize_options *o, sl_quantize_result *r)
{
    n_written = 0;
    const sl_status status = sl_quantize_sources(&source, 1, count, NULL, "Q8_0", o, r);
    assert_true(!n_written == (status != SL_OK));       /* what is wrong with a structure is told before anything is done */
    return status;
}
static sl_status in_quantize(void *x)
{
    const sl_source source = whole();
    return quantize(&source, x, NULL);
}
static sl_status in_override(void *x) { return in_quantize(&(sl_quantize_options) { .size = sizeof(sl_quantize_options), .overrides = x, .n_overrides = 1 }); }
static sl_status in_quantize_source(void *x) { return quantize(x, NULL, NULL); }
static sl_status out_quantize(void *x)
{
    const sl_source source = whole();
    return quantize(&source, NULL, x);
}

static int64_t nothing(void *to, uint64_t bytes, void *user) { return (void)to, (void)bytes, (void)user, 0; }
static sl_status out_state_load(void *x) { return sl_state_load(session, 0, state_path, x); }
static sl_status out_state_read(void *x)
{
    const sl_status status = sl_state_read(session, 0, nothing, NULL, x);
    return status == SL_ERR_TRUNCATED ? SL_OK : status;
}

/* ---- all of them ---- */

static const sl_model_options model_options = SL_MODEL_OPTIONS_INIT;
static const sl_session_options session_options = SL_SESSION_OPTIONS_INIT;
static const sl_generate_options generate_options = { .size = sizeof generate_options, .max_tokens = 1 };
static const sl_embed_options embed_options = SL_EMBED_OPTIONS_INIT;
static const sl_quantize_options quantize_options = SL_QUANTIZE_OPTIONS_INIT;
static const sl_quantize_override override = { sizeof override, "*", "Q8_0" };
static const sl_allocator allocator = { .size = sizeof allocator };

/* `good` is read; NULL: written. short_one: what a structure with nothing but its size gives. */
#define IN(call, structure, short_one) { #call, call, &structure, sizeof structure, short_one }
#define OUT(call, type) { #call, call, NULL, sizeof(type), SL_OK }
typedef struct row { const char *name; sl_status (*call)(void *x); const void *good; size_t size; sl_status short_one; } row;

static void check(const row *r, size_t size, int tail, sl_status wanted)
{
    const size_t room = size >= 8 && size < 4096 ? size : 8;
    unsigned char *x = calloc(1, room);
    if (r->good)
        memcpy(x, r->good, room < r->size ? room : r->size);
    memcpy(x, &size, sizeof size);
    if (tail)
        x[room - 1] = 1;
    const sl_status got = r->call(x);
    size_t said;
    memcpy(&said, x, sizeof said);
    if (got != wanted || (got != SL_OK && !*sl_last_error()) || said != size)
        fail_msg("%s of %zu bytes%s: %s (%s), expected %s", r->name, size, tail ? " and something behind" : "", sl_status_name(got), sl_last_error(), sl_status_name(wanted));
    if (!r->good && got == SL_OK)
        for (size_t i = r->size; i < room; i++)
            assert_int_equal(x[i], 0);
    free(x);
}

static void every_size(void **state)
{
    (void)state;
    const sl_source source = whole();
    const row rows[] = {
        IN(in_source, source, SL_ERR_TRUNCATED), IN(in_model_options, model_options, SL_OK), IN(in_allocator, allocator, SL_OK), IN(in_projector, source, SL_ERR_TRUNCATED),
        IN(in_load, model_options, SL_OK), IN(in_estimate_model, model_options, SL_OK), IN(in_estimate_session, session_options, SL_OK), IN(in_session_options, session_options, SL_OK),
        IN(in_generate, generate_options, SL_OK), IN(in_embed, embed_options, SL_OK), IN(in_chat, chatting, SL_ERR_UNSUPPORTED), IN(in_message, message, SL_ERR_ARGUMENT), IN(in_part, part, SL_ERR_ARGUMENT),
        IN(in_image_allocator, allocator, SL_OK), IN(in_sampler_allocator, allocator, SL_OK), IN(in_quantize, quantize_options, SL_OK), IN(in_override, override, SL_ERR_ARGUMENT),
        IN(in_quantize_source, source, SL_ERR_TRUNCATED),
        OUT(out_estimate, sl_memory), OUT(out_info, sl_model_info), OUT(out_meta, sl_meta), OUT(out_tensor, sl_tensor_info), OUT(out_token, sl_token_info), OUT(out_stats, sl_session_stats),
        OUT(out_generate, sl_generate_result), OUT(out_quantize, sl_quantize_result), OUT(out_state_load, sl_state_info), OUT(out_state_read, sl_state_info),
    };
    static const size_t wrong[] = { 0, 1, 7, 1 << 20, SIZE_MAX / 2, SIZE_MAX };
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t k = 0; k < COUNT(wrong); k++)
            check(&rows[i], wrong[k], 0, SL_ERR_ARGUMENT);
        check(&rows[i], 8, 0, rows[i].short_one);
        check(&rows[i], rows[i].size, 0, SL_OK);
        check(&rows[i], rows[i].size + BEHIND, 0, SL_OK);
        check(&rows[i], rows[i].size + BEHIND, 1, rows[i].good ? SL_ERR_UNSUPPORTED : SL_OK);
    }
}

static int prepare(void **state)
{
    (void)state;
    file = tiny_file(&(tiny_shape) { .n_vocab = N_VOCAB, .n_layer = 1 }, &file_size);
    const sl_source source = whole(), *const sources[] = { &source };
    snprintf(path, sizeof path, "/tmp/spacellama-XXXXXX");
    const int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    tiny_save(path, file, file_size);
    snprintf(state_path, sizeof state_path, "%s.state", path);
    return sl_model_load_sources(&model, sources, 1, &(sl_model_options) { .size = sizeof(sl_model_options), .n_threads = 1 }) || sl_session_create(&session, model, NULL)
        || sl_state_save(session, 0, state_path);
}

static int clean(void **state)
{
    (void)state;
    sl_session_free(session);
    sl_model_free(model);
    free(file);
    return unlink(path) || unlink(state_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_size) };
    return cmocka_run_group_tests(tests, prepare, clean);
}
