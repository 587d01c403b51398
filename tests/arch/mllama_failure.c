/* SPDX-License-Identifier: MIT */
/* Pictures when memory cannot be had: every allocation of loading, of opening a session, of adding a picture and of computing fails once, and from each on for good.
 * The call answers SL_ERR_NOMEM, nothing leaks, and what existed before goes on as if nothing had been. The text path: tests/api/failure.c. */
#include "check.h"
#include "counting.h"
#include "mllama_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <spacellama/spacellama.h>

enum { N_VOCAB = 20, N_IDS = 6 };
static const sl_token ids[N_IDS] = { 1, N_VOCAB, 3, N_VOCAB, N_VOCAB, 4 };

typedef struct scene {
    counting memory;
    sl_allocator allocator;
    unsigned char *text, *projector, *whole;
    size_t text_size, projector_size, whole_size;
    sl_image *images[3];
    sl_model *model;
    sl_session *session;        /* all but the last id are computed */
    float expected[N_VOCAB];    /* behind all ids */
} scene;

static sl_status load(scene *s, int two_files, sl_model **model)
{
    const sl_source first = source_of(two_files ? s->text : s->whole, two_files ? s->text_size : s->whole_size), *const sources[] = { &first };
    const sl_source second = source_of(s->projector, s->projector_size);
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 2, o.allocator = &s->allocator, o.projector_source = two_files ? &second : NULL, o.backend = two_files ? "cpu@0-1,cpu" : NULL;
    return sl_model_load_sources(model, sources, 1, &o);
}

static sl_status open_session(scene *s, sl_session **session)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = 32, .n_batch = 4 };
    return sl_session_create(session, s->model, &o);
}

static sl_status do_load_of(scene *s, int two_files)
{
    sl_model *model = NULL;
    const sl_status status = load(s, two_files, &model);
    assert_true(!model == (status != SL_OK));
    sl_model_free(model);
    return status;
}

static sl_status do_load(scene *s) { return do_load_of(s, 0); }
static sl_status do_load_two(scene *s) { return do_load_of(s, 1); }

static sl_status do_session(scene *s)
{
    sl_session *session = NULL;
    const sl_status status = open_session(s, &session);
    assert_true(!session == (status != SL_OK));
    sl_session_free(session);
    return status;
}

/* A first picture, and one that makes the memory of the first grow; then all is computed. */
static sl_status do_pictures(scene *s)
{
    sl_session *session = NULL;
    sl_status status = open_session(s, &session);
    for (size_t i = 0; i < 3 && status == SL_OK; i++) {
        status = sl_session_add_image(session, s->images[i]);
        assert_int_equal(sl_session_images(session), i + (status == SL_OK));
    }
    if (status == SL_OK)
        status = sl_session_eval(session, ids, N_IDS, NULL, 0);
    sl_session_free(session);
    return status;
}

/* Added to a session that holds others; only that fails. */
static sl_status do_add(scene *s)
{
    sl_session *session = NULL;
    float logits[N_VOCAB];
    const size_t fail_at = s->memory.fail_at, calls = s->memory.calls;
    s->memory.fail_at = 0;
    OK(open_session(s, &session));
    OK(sl_session_add_image(session, s->images[0]));
    OK(sl_session_eval(session, ids, 2, NULL, 0));
    OK(sl_session_add_image(session, s->images[1]));
    s->memory.fail_at = fail_at, s->memory.calls = calls;
    const sl_status status = sl_session_add_image(session, s->images[2]);
    const size_t used = s->memory.calls;
    s->memory.fail_at = 0;
    if (status != SL_OK) {
        assert_int_equal(sl_session_images(session), 2);
        assert_int_equal(sl_session_length(session), 2);
        OK(sl_session_add_image(session, s->images[2]));
    }
    OK(sl_session_eval(session, ids + 2, N_IDS - 2, logits, 1));
    assert_memory_equal(logits, s->expected, sizeof logits);
    sl_session_free(session);
    s->memory.calls = used;
    return status;
}

/* The same where a picture was forgotten before one that waits: what is held is moved together. */
static sl_status do_close(scene *s)
{
    sl_session *session = NULL;
    float logits[N_VOCAB];
    const size_t fail_at = s->memory.fail_at, calls = s->memory.calls;
    size_t kept;
    s->memory.fail_at = 0;
    OK(open_session(s, &session));
    OK(sl_session_add_image(session, s->images[2]));
    OK(sl_session_eval(session, (const sl_token[]) { 5, N_VOCAB }, 2, NULL, 0));
    OK(sl_session_add_image(session, s->images[0]));
    OK(sl_session_add_image(session, s->images[1]));
    OK(sl_session_keep_prefix(session, ids, N_IDS, &kept));
    assert_int_equal(kept, 0);
    s->memory.fail_at = fail_at, s->memory.calls = calls;
    const sl_status status = sl_session_add_image(session, s->images[2]);
    const size_t used = s->memory.calls;
    s->memory.fail_at = 0;
    assert_int_equal(sl_session_images(session), 2 + (status == SL_OK));
    if (status != SL_OK)
        OK(sl_session_add_image(session, s->images[2]));
    OK(sl_session_eval(session, ids, N_IDS, logits, 1));
    assert_memory_equal(logits, s->expected, sizeof logits);
    sl_session_free(session);
    s->memory.calls = used;
    return status;
}

/* Everything still works, and gives the numbers of before. */
static void still_right(scene *s)
{
    float logits[N_VOCAB];
    const size_t length = sl_session_length(s->session);
    assert_int_equal(length, N_IDS - 1);
    OK(sl_session_eval(s->session, ids + N_IDS - 1, 1, logits, 1));
    assert_memory_equal(logits, s->expected, sizeof logits);
    OK(sl_session_rewind(s->session, length));
}

static void every_allocation(void **state)
{
    static const struct { const char *name; sl_status (*act)(scene *s); } acts[] = {
        { "load one file", do_load }, { "load two files on two devices", do_load_two }, { "session", do_session }, { "pictures", do_pictures }, { "one more picture", do_add },
        { "a picture after a hole", do_close },
    };
    scene *s = *state;
    counting *memory = &s->memory;
    for (size_t a = 0; a < COUNT(acts); a++)
        for (size_t once = 0; once < 2; once++) {
            const size_t blocks = memory->live_blocks, bytes = memory->live_bytes;
            size_t at = 1;
            for (;; at++) {
                memory->calls = 0, memory->fail_at = at, memory->fail_for = once;
                const sl_status status = acts[a].act(s);
                const size_t calls = memory->calls;
                memory->fail_at = 0;
                if (memory->live_blocks != blocks || memory->live_bytes != bytes || memory->wrong)
                    fail_msg("%s, allocation %zu: %zu blocks more than before, %d wrong sizes", acts[a].name, at, memory->live_blocks - blocks, memory->wrong);
                if (calls < at) {
                    OK(status);
                    break;
                }
                if (status != SL_ERR_NOMEM || !*sl_last_error())
                    fail_msg("%s, allocation %zu%s: %s (%s)", acts[a].name, at, once ? "" : " and all after it", sl_status_name(status), sl_last_error());
                if (at % 16 == 1)
                    still_right(s);
            }
            still_right(s);
            if (!once)
                print_message("%s: %zu allocations\n", acts[a].name, at - 1);
            assert_true(at > 1);
        }
}

static int prepare(void **state)
{
    static scene s;
    const mllama_spec spec = { .n_vocab = N_VOCAB, .n_ff = 24, .tile_side = 12, .patch_side = 2, .seed = 12 };      /* 37 positions: a picture of four tiles has three pages */
    tiny *t = mllama_create(&spec), *text, *projector;
    mllama_split(t, &text, &projector);
    s.whole = tiny_write(t, &s.whole_size), s.text = tiny_write(text, &s.text_size), s.projector = tiny_write(projector, &s.projector_size);
    tiny_free(t), tiny_free(text), tiny_free(projector);
    for (unsigned i = 0; i < 3; i++)
        s.images[i] = mllama_picture(9 + 12 * i, 20, i);
    s.allocator = counting_allocator(&s.memory);
    OK(load(&s, 0, &s.model));
    OK(open_session(&s, &s.session));
    for (size_t i = 0; i < 3; i++)
        OK(sl_session_add_image(s.session, s.images[i]));
    OK(sl_session_eval(s.session, ids, N_IDS, s.expected, 1));
    OK(sl_session_rewind(s.session, N_IDS - 1));
    *state = &s;
    return 0;
}

static int clean(void **state)
{
    scene *s = *state;
    sl_session_free(s->session);
    sl_model_free(s->model);
    for (size_t i = 0; i < 3; i++)
        sl_image_free(s->images[i]);
    free(s->whole), free(s->text), free(s->projector);
    return s->memory.live_blocks != 0 || s->memory.wrong;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_allocation) };
    return cmocka_run_group_tests_name("mllama_failure", tests, prepare, clean);
}
