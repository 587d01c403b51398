/* SPDX-License-Identifier: MIT */
/* failure.c - what happens when memory or threads cannot be had: every allocation of every call fails once, and from each on for good. The call
 * answers SL_ERR_NOMEM, nothing leaks, and what existed before goes on as if nothing had been. And computing takes no memory at all. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "counting.h"
#include "sanitized.h"
#include "tiny.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { N_VOCAB = 300, N_IDS = 5 };
static const sl_token ids[N_IDS] = { 1, 270, 280, 290, 299 };
static counting memory;
static unsigned char *file;
static size_t file_size;
static char path[] = "/tmp/spacellama-XXXXXX";
static float expected[N_VOCAB];

#define STATUS(call, status) check_status(call, status, #call, __LINE__)
static void check_status(sl_status got, sl_status wanted, const char *call, int line)
{
    if (got != wanted)
        fail_msg("line %d: %s: %s (%s), expected %s", line, call, sl_status_name(got), sl_last_error(), sl_status_name(wanted));
}

/* ---- starting threads, which may fail ---- */

#ifndef SANITIZED       /* sanitizers stand in front of pthread_create themselves */
static unsigned threads_until_failure;      /* 0: none fails */

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (threads_until_failure && !--threads_until_failure)
        return EAGAIN;
    if (!real) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_create");
        memcpy(&real, &symbol, sizeof real);
    }
    return real(thread, attr, fn, arg);
}
#endif

/* ---- what is done while memory fails ---- */

typedef struct scene {
    sl_model *model;
    sl_session *session;
    sl_sampler *sampler;
    sl_allocator allocator;
} scene;

static sl_status load_sources(scene *s, const sl_source *source)
{
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model = NULL;
    o.n_threads = 3, o.allocator = &s->allocator;
    sl_status status = source ? sl_model_load_sources(&model, &source, 1, &o) : sl_model_load(&model, path, &o);
    assert_true(!model == (status != SL_OK));
    sl_model_free(model);
    return status;
}

static sl_status do_load_path(scene *s) { return load_sources(s, NULL); }
static sl_status do_load_memory(scene *s) { return load_sources(s, &(sl_source) { .size = sizeof(sl_source), .data = file, .length = file_size }); }

static sl_status do_estimate(scene *s)
{
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_memory need = { .size = sizeof need };
    o.allocator = &s->allocator;
    return sl_model_estimate(path, &o, NULL, &need);
}

static sl_status do_session(scene *s)
{
    sl_session *session = NULL;
    sl_status status = sl_session_create(&session, s->model, NULL);
    assert_true(!session == (status != SL_OK));
    sl_session_free(session);
    return status;
}

static sl_status do_encode(scene *s)
{
    static const char text[] = "the zebra is zig and zag \xff\xfe caf\xc3\xa9 <s> abc abc abc";
    sl_token out[128];
    size_t n;
    return sl_encode(s->model, text, sizeof text, SL_ENCODE_ADD_SPECIAL | SL_ENCODE_PARSE_SPECIAL, out, 128, &n);
}

static sl_status do_decode(scene *s)
{
    char text[128];
    size_t length;
    return sl_decode(s->model, ids, N_IDS, SL_DECODE_SPECIAL, text, sizeof text, &length);
}

static sl_status do_decoder(scene *s)
{
    sl_decoder *decoder = NULL;
    const char *text;
    size_t length;
    sl_status status = sl_decoder_create(&decoder, s->model, 0, 1);
    for (size_t i = 0; i < N_IDS && status == SL_OK; i++)
        status = sl_decoder_push(decoder, ids[i], &text, &length);
    if (status == SL_OK)
        status = sl_decoder_flush(decoder, &text, &length);
    sl_decoder_free(decoder);
    return status;
}

static sl_status do_generate(scene *s)
{
    static const char *const stops[] = { "never", "nowhere" };
    sl_generate_options o = SL_GENERATE_OPTIONS_INIT;
    o.max_tokens = 4, o.sampler = s->sampler, o.stop = stops, o.n_stop = 2;
    const size_t before = sl_session_length(s->session);
    sl_status status = sl_generate(s->session, ids, N_IDS, &o, NULL);
    if (status != SL_OK)
        assert_int_equal(sl_session_length(s->session), before);
    STATUS(sl_session_rewind(s->session, before), SL_OK);
    return status;
}

static sl_status do_sampler(scene *s)
{
    sl_sampler *sampler = NULL;
    const double k = 7, p = 0.9, t = 0.8;
    sl_token id, out[N_VOCAB];
    float probs[N_VOCAB];
    size_t n;
    sl_status status = sl_sampler_create(&sampler, N_VOCAB, 3, &s->allocator);
    assert_true(!sampler == (status != SL_OK));
    for (int i = 0; i < 12 && status == SL_OK; i++)      /* more steps than there is room for at first */
        status = sl_sampler_add(sampler, i % 3 == 0 ? "temp" : i % 3 == 1 ? "top-k" : "top-p", i % 3 == 0 ? &t : i % 3 == 1 ? &k : &p, 1);
    if (status == SL_OK)
        status = sl_sampler_sample(sampler, expected, &id);
    if (status == SL_OK)
        status = sl_sampler_candidates(sampler, expected, out, probs, N_VOCAB, &n);
    sl_sampler_free(sampler);
    return status;
}

static sl_status do_eval(scene *s)
{
    float logits[N_VOCAB];
    sl_status status = sl_session_eval(s->session, ids, N_IDS, logits, 1);
    STATUS(sl_session_rewind(s->session, 0), SL_OK);
    return status;
}

/* Everything still works, and gives the numbers of before. */
static void still_right(scene *s)
{
    float logits[N_VOCAB];
    STATUS(sl_session_eval(s->session, ids, N_IDS, logits, 1), SL_OK);
    assert_memory_equal(logits, expected, sizeof logits);
    STATUS(sl_session_rewind(s->session, 0), SL_OK);
}

static void every_allocation(void **state)
{
    static const struct { const char *name; sl_status (*act)(scene *s); int none; } acts[] = {
        { "load from a path", do_load_path, 0 }, { "load from memory", do_load_memory, 0 }, { "estimate", do_estimate, 0 }, { "session", do_session, 0 }, { "encode", do_encode, 0 },
        { "decode", do_decode, 1 }, { "decoder", do_decoder, 0 }, { "generate", do_generate, 0 }, { "sampler", do_sampler, 0 }, { "eval", do_eval, 1 },
    };
    scene *s = *state;
    for (size_t a = 0; a < COUNT(acts); a++)
        for (size_t once = 0; once < 2; once++) {
            const size_t blocks = memory.live_blocks, bytes = memory.live_bytes;
            size_t at = 1;
            for (;; at++) {
                memory.calls = 0, memory.fail_at = at, memory.fail_for = once;
                sl_status status = acts[a].act(s);
                const size_t calls = memory.calls;
                memory.fail_at = 0;
                if (memory.live_blocks != blocks || memory.live_bytes != bytes || memory.wrong)
                    fail_msg("%s, allocation %zu: %zu blocks more than before, %d wrong sizes", acts[a].name, at, memory.live_blocks - blocks, memory.wrong);
                if (calls < at) {       /* it needed fewer than that */
                    STATUS(status, SL_OK);
                    break;
                }
                if (status != SL_ERR_NOMEM || !*sl_last_error())
                    fail_msg("%s, allocation %zu%s: %s (%s)", acts[a].name, at, once ? "" : " and all after it", sl_status_name(status), sl_last_error());
                if (at % 16 == 1)
                    still_right(s);
            }
            still_right(s);
            if (!once)
                printf("%s: %zu allocations\n", acts[a].name, at - 1);
            assert_int_equal(at == 1, acts[a].none);
        }
}

static void no_allocation_per_token(void **state)
{
    scene *s = *state;
    float logits[N_VOCAB];
    sl_token id;
    STATUS(sl_session_eval(s->session, ids, N_IDS, logits, 1), SL_OK);
    STATUS(sl_sampler_sample(s->sampler, logits, &id), SL_OK);      /* warm */
    const size_t calls = memory.calls;
    memory.fail_at = 1, memory.calls = 0;       /* and if there were one it would fail */
    for (int i = 0; i < 50; i++) {
        STATUS(sl_session_eval(s->session, &id, 1, logits, 1), SL_OK);
        STATUS(sl_sampler_sample(s->sampler, logits, &id), SL_OK);
    }
    assert_int_equal(memory.calls, 0);
    memory.fail_at = 0, memory.calls = calls;
    STATUS(sl_session_rewind(s->session, 0), SL_OK);
}

static void no_threads(void **state)
{
#ifdef SANITIZED
    (void)state;
    printf("not under a sanitizer\n");
#else
    scene *s = *state;
    const size_t blocks = memory.live_blocks;
    for (unsigned at = 1; at <= 2; at++) {      /* three threads, the caller among them */
        threads_until_failure = at;
        sl_status status = do_load_memory(s);
        assert_int_equal(threads_until_failure, 0);     /* it was asked for */
        STATUS(status, SL_ERR_NOMEM);
        assert_non_null(strstr(sl_last_error(), "thread"));
        assert_int_equal(memory.live_blocks, blocks);
        STATUS(do_load_memory(s), SL_OK);
        still_right(s);
    }
#endif
}

/* ---- the scene ---- */

static int prepare(void **state)
{
    static scene s;
    const double t = 0.7, k = 20;
    const int fd = mkstemp(path);
    const sl_source source = { .size = sizeof source }, *sources[] = { &source };
    sl_source from = source;
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    file = tiny_file(&(tiny_shape) { .n_vocab = N_VOCAB, .n_layer = 1 }, &file_size);
    if (fd < 0)
        return 1;
    close(fd);
    tiny_save(path, file, file_size);
    from.data = file, from.length = file_size;
    sources[0] = &from;
    s.allocator = counting_allocator(&memory);
    o.n_threads = 2, o.allocator = &s.allocator;
    STATUS(sl_model_load_sources(&s.model, sources, 1, &o), SL_OK);
    STATUS(sl_session_create(&s.session, s.model, NULL), SL_OK);
    STATUS(sl_sampler_create(&s.sampler, N_VOCAB, 1, &s.allocator), SL_OK);
    STATUS(sl_sampler_add(s.sampler, "top-k", &k, 1), SL_OK);
    STATUS(sl_sampler_add(s.sampler, "temp", &t, 1), SL_OK);
    STATUS(sl_session_eval(s.session, ids, N_IDS, expected, 1), SL_OK);
    STATUS(sl_session_rewind(s.session, 0), SL_OK);
    *state = &s;
    return 0;
}

static int clean(void **state)
{
    scene *s = *state;
    sl_session_free(s->session);
    sl_sampler_free(s->sampler);
    sl_model_free(s->model);
    free(file);
    unlink(path);
    return memory.live_blocks != 0 || memory.wrong;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_allocation), cmocka_unit_test(no_allocation_per_token), cmocka_unit_test(no_threads) };
    return cmocka_run_group_tests(tests, prepare, clean);
}
