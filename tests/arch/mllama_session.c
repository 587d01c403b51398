/* SPDX-License-Identifier: MIT */
/* Pictures in sessions, as programs meet them: which token takes which picture, going back, going on, mistakes that change nothing, cancelling, sessions side by side,
 * limits, memory. A timeline's logits are those of a new session that is told the same, bit for bit, whatever happened before. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include "counting.h"
#include "eval.h"
#include "mllama_build.h"
#include "random.h"
#include "sanitized.h"
#include "session.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_VOCAB = 280, IMAGE = N_VOCAB, N_CTX = 256, N_IMAGES = 4 };

static sl_model *model;
static sl_image *images[N_IMAGES];      /* 1, 2, 3 and 4 tiles */

static sl_model *load(const mllama_spec *spec, const sl_allocator *allocator, uint32_t n_threads)
{
    size_t size;
    tiny *t = mllama_create(spec);
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *made = NULL;
    o.n_threads = n_threads, o.allocator = allocator;
    STATUS(sl_model_load_sources(&made, sources, 1, &o), SL_OK);
    free(file);
    tiny_free(t);
    return made;
}

static sl_session *open_session(sl_model *of, uint32_t n_batch)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = n_batch };
    sl_session *session = NULL;
    STATUS(sl_session_create(&session, of, &o), SL_OK);
    return session;
}

/* ---- a timeline, and what a new session says about it ---- */

typedef struct timeline {
    sl_token ids[N_CTX];
    size_t n, n_images;         /* ids, and image tokens among them */
    unsigned shown[N_CTX];      /* index of the picture of each image token */
} timeline;

static float row_of_new[N_VOCAB];

/* Logits behind the last token. */
static const float *told_anew(const timeline *t)
{
    sl_session *session = open_session(model, 33);
    for (size_t i = 0; i < t->n_images; i++)
        STATUS(sl_session_add_image(session, images[t->shown[i]]), SL_OK);
    STATUS(sl_session_eval(session, t->ids, t->n, row_of_new, 1), SL_OK);
    assert_int_equal(sl_session_images(session), t->n_images);
    sl_session_free(session);
    return row_of_new;
}

static void append(timeline *t, const sl_token *ids, size_t n, const unsigned *shown)
{
    for (size_t i = 0; i < n; i++) {
        t->ids[t->n++] = ids[i];
        if (ids[i] == IMAGE)
            t->shown[t->n_images++] = *shown++;
    }
}

static void cut(timeline *t, size_t n)
{
    while (t->n > n)
        t->n_images -= t->ids[--t->n] == IMAGE;
}

/* ---- going back ---- */

static void rewind_forgets(void **state)
{
    (void)state;
    static const size_t at[] = { 5, 20, 40 };
    sl_token ids[60];
    float row[N_VOCAB], again[N_VOCAB];
    sl_session *session = open_session(model, 16);
    mllama_ids(ids, 60, N_VOCAB, at, 3, 1);
    for (int i = 0; i < 3; i++)
        STATUS(sl_session_add_image(session, images[i]), SL_OK);
    STATUS(sl_session_eval(session, ids, 60, row, 1), SL_OK);
    assert_int_equal(sl_session_images(session), 3);
    STATUS(sl_session_rewind(session, 60), SL_OK);
    assert_int_equal(sl_session_images(session), 3);
    STATUS(sl_session_add_image(session, images[3]), SL_OK);        /* waits, and is forgotten */
    assert_int_equal(sl_session_images(session), 4);
    STATUS(sl_session_rewind(session, 41), SL_OK);
    assert_int_equal(sl_session_images(session), 3);
    STATUS(sl_session_rewind(session, 40), SL_OK);
    assert_int_equal(sl_session_images(session), 2);
    STATUS(sl_session_eval(session, ids + 40, 20, NULL, 0), SL_ERR_STATE);
    STATUS(sl_session_add_image(session, images[2]), SL_OK);
    STATUS(sl_session_eval(session, ids + 40, 20, again, 1), SL_OK);
    assert_memory_equal(row, again, sizeof row);
    STATUS(sl_session_rewind(session, 6), SL_OK);
    assert_int_equal(sl_session_images(session), 1);
    STATUS(sl_session_rewind(session, 0), SL_OK);
    assert_int_equal(sl_session_images(session), 0);
    for (int i = 0; i < 3; i++)
        STATUS(sl_session_add_image(session, images[i]), SL_OK);
    STATUS(sl_session_eval(session, ids, 60, again, 1), SL_OK);
    assert_memory_equal(row, again, sizeof row);
    sl_session_free(session);
}

/* Anything in any order: pictures, calls, going back, keeping a prefix; now and then the numbers are held against a new session's. */
static void random_life(uint64_t seed, unsigned n_steps)
{
    timeline t = { .n = 0 };
    unsigned waiting[64];
    size_t n_waiting = 0;
    float row[N_VOCAB];
    int fresh = 0;              /* row belongs to the end of the timeline */
    sl_session *session = open_session(model, 1 + (uint32_t)random_below(&seed, 40));
    for (unsigned step = 0; step < n_steps; step++) {
        const uint64_t what = random_below(&seed, 10);
        if (what < 3 && n_waiting < 4) {
            waiting[n_waiting] = (unsigned)random_below(&seed, N_IMAGES);
            STATUS(sl_session_add_image(session, images[waiting[n_waiting++]]), SL_OK);
        } else if (what < 8) {
            sl_token ids[30];
            size_t n = 1 + random_below(&seed, 30), used = 0;
            n = t.n + n > N_CTX ? N_CTX - t.n : n;
            for (size_t i = 0; i < n; i++) {
                const int image = used < n_waiting && random_below(&seed, 4) == 0;
                ids[i] = image ? IMAGE : (sl_token)random_below(&seed, N_VOCAB);
                used += (size_t)image;
            }
            if (!n)
                continue;
            STATUS(sl_session_eval(session, ids, n, row, 1), SL_OK);
            append(&t, ids, n, waiting);
            n_waiting -= used;
            memmove(waiting, waiting + used, n_waiting * sizeof *waiting);
            fresh = 1;
        } else if (what < 9) {
            const size_t n = random_below(&seed, t.n + 1);
            STATUS(sl_session_rewind(session, n), SL_OK);
            cut(&t, n);
            n_waiting = 0;
            fresh = 0;
        } else if (t.n > 2) {
            const size_t n = 1 + random_below(&seed, t.n - 1);
            size_t kept;
            sl_token ids[N_CTX];
            memcpy(ids, t.ids, n * sizeof *ids);
            ids[n] = 0;
            STATUS(sl_session_keep_prefix(session, ids, n + 1, &kept), SL_OK);
            assert_int_equal(kept, n);
            cut(&t, n);
            fresh = 0;
        }
        assert_int_equal(sl_session_length(session), t.n);
        assert_int_equal(sl_session_images(session), t.n_images + n_waiting);
        if (fresh && step % 8 == 7)
            assert_memory_equal(row, told_anew(&t), sizeof row);
    }
    sl_session_free(session);
}

static void any_order(void **state)
{
    (void)state;
    const unsigned n_steps = WHEN_SLOW(60, 200);
    for (uint64_t seed = 1; seed <= 6; seed++)
        random_life(seed, n_steps);
}

/* Every turn brings a picture in the place of the last one. Memory is that of the pictures that are held, however many there were. */
static void a_long_talk(void **state)
{
    (void)state;
    sl_session *session = open_session(model, 64);
    sl_session_stats stats = { .size = sizeof stats };
    timeline t = { .n = 0 };
    float row[N_VOCAB];
    uint64_t most = 0;
    for (unsigned turn = 0; turn < 300; turn++) {
        const sl_token ids[] = { (sl_token)turn % 7, IMAGE, 3, 4 };
        size_t kept;
        STATUS(sl_session_add_image(session, images[turn % N_IMAGES]), SL_OK);
        STATUS(sl_session_keep_prefix(session, ids, COUNT(ids), &kept), SL_OK);
        assert_int_equal(kept, 0);
        assert_int_equal(sl_session_images(session), 1);
        STATUS(sl_session_eval(session, ids, COUNT(ids), row, 1), SL_OK);
        STATUS(sl_session_get_stats(session, &stats), SL_OK);
        most = stats.image_bytes > most ? stats.image_bytes : most;
        if (turn % 60 != 59)
            continue;
        t.n = t.n_images = 0;
        append(&t, ids, COUNT(ids), &(unsigned) { turn % N_IMAGES });
        assert_memory_equal(row, told_anew(&t), sizeof row);
    }
    assert_int_equal(stats.n_images, 300);
    assert_true(stats.image_encode_ns > 0 && stats.image_keys_ns > 0);
    assert_true(stats.image_ns >= stats.image_encode_ns + stats.image_keys_ns);
    STATUS(sl_session_rewind(session, 0), SL_OK);
    for (int i = 0; i < 3; i++)
        STATUS(sl_session_add_image(session, images[N_IMAGES - 1]), SL_OK);
    STATUS(sl_session_get_stats(session, &stats), SL_OK);
    if (most > stats.image_bytes)
        fail_msg("%llu bytes of pictures, three take %llu", (unsigned long long)most, (unsigned long long)stats.image_bytes);
    sl_session_free(session);
}

/* ---- going on ---- */

static sl_token greedy(const float *row)
{
    sl_token best = 0;
    for (sl_token i = 1; i < N_VOCAB; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

static int32_t collect(const char *text, size_t length, sl_token id, void *user)
{
    timeline *t = user;
    (void)text, (void)length;
    if (id >= 0)
        t->ids[t->n++] = id;
    return 0;
}

/* Without a prompt the timeline goes on, also where its last token is an image token. With lookup, which sees image tokens in the timeline, the text is the same. */
static void generate_goes_on(void **state)
{
    (void)state;
    static const size_t at[] = { 9, 19 };
    sl_token ids[20];
    float row[N_VOCAB];
    for (uint32_t way = 0; way < 4; way++) {
        sl_session *by_hand = open_session(model, 0), *session = open_session(model, 0);
        sl_generate_options o = SL_GENERATE_OPTIONS_INIT;
        timeline made = { .n = 0 };
        mllama_ids(ids, 20, N_VOCAB, at, 2, 2);
        for (int i = 0; i < 2; i++) {
            STATUS(sl_session_add_image(by_hand, images[i]), SL_OK);
            STATUS(sl_session_add_image(session, images[i]), SL_OK);
        }
        o.max_tokens = 12, o.on_text = collect, o.user = &made, o.lookup = way / 2 * 8;
        STATUS(sl_session_eval(by_hand, ids, 20, row, 1), SL_OK);
        if (way % 2)
            STATUS(sl_generate(session, ids, 20, &o, NULL), SL_OK);
        else {
            STATUS(sl_session_eval(session, ids, 20, NULL, 0), SL_OK);
            STATUS(sl_generate(session, NULL, 0, &o, NULL), SL_OK);
        }
        assert_true(made.n > 0);
        assert_int_equal(sl_session_images(session), 2);
        for (size_t i = 0; i < made.n; i++) {
            const sl_token best = greedy(row);
            assert_int_equal(made.ids[i], best);
            STATUS(sl_session_eval(by_hand, &best, 1, row, 1), SL_OK);
        }
        assert_memory_equal(sl_session_tokens(session), ids, sizeof ids);
        sl_session_free(by_hand);
        sl_session_free(session);
    }
}

/* The timeline repeats what led to an image token: lookup must not propose one, nor take a picture that waits. */
static void lookup_leaves_pictures_alone(void **state)
{
    (void)state;
    static const sl_token head[] = { 7, 8, 9, IMAGE, 7, 8, 9 };
    sl_session *session = open_session(model, 0);
    sl_generate_options o = SL_GENERATE_OPTIONS_INIT;
    o.max_tokens = 30, o.lookup = 16;
    STATUS(sl_session_add_image(session, images[0]), SL_OK);
    STATUS(sl_session_add_image(session, images[1]), SL_OK);        /* waits */
    STATUS(sl_generate(session, head, COUNT(head), &o, NULL), SL_OK);
    assert_int_equal(sl_session_images(session), 2);
    size_t n = 0;
    for (size_t i = 0; i < sl_session_length(session); i++)
        n += sl_session_tokens(session)[i] == IMAGE;
    assert_int_equal(n, 1);
    sl_session_free(session);
}

/* ---- mistakes ---- */

static void mistakes_change_nothing(void **state)
{
    (void)state;
    static const sl_token two[] = { 1, IMAGE, 2, IMAGE, 3 }, beyond[] = { 1, IMAGE + 1 }, negative[] = { IMAGE, -1 };
    static const struct { const sl_token *ids; size_t n; sl_status status; const char *says; } wrong[] = {
        { two, 5, SL_ERR_STATE, "index 3" }, { beyond, 2, SL_ERR_RANGE, "token 281" }, { negative, 2, SL_ERR_RANGE, "token -1" }, { two, N_CTX + 1, SL_ERR_FULL, "do not fit" },
    };
    timeline t = { .n = 0 };
    float row[N_VOCAB];
    sl_session *session = open_session(model, 2);
    STATUS(sl_session_eval(session, two, 5, row, 1), SL_ERR_STATE);
    assert_non_null(strstr(sl_last_error(), "index 1"));
    STATUS(sl_session_add_image(session, images[1]), SL_OK);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        STATUS(sl_session_eval(session, wrong[i].ids, wrong[i].n, NULL, 0), wrong[i].status);
        if (!strstr(sl_last_error(), wrong[i].says))
            fail_msg("'%s' does not say '%s'", sl_last_error(), wrong[i].says);
        assert_int_equal(sl_session_length(session), 0);
        assert_int_equal(sl_session_images(session), 1);
    }
    STATUS(sl_session_add_image(session, images[2]), SL_OK);
    STATUS(sl_session_eval(session, two, 5, row, 1), SL_OK);
    append(&t, two, 5, (const unsigned[]) { 1, 2 });
    assert_memory_equal(row, told_anew(&t), sizeof row);
    STATUS(sl_session_add_image(NULL, images[0]), SL_ERR_ARGUMENT);
    STATUS(sl_session_add_image(session, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(sl_session_images(NULL), 0);
    assert_int_equal(sl_session_images(session), 2);
    sl_session_free(session);
}

static void other_models_take_none(void **state)
{
    (void)state;
    size_t size;
    unsigned char *file = tiny_file(NULL, &size);
    const eval_how how = { .n_threads = 1 };
    sl_model_info info = { .size = sizeof info };
    sl_model *llama;
    sl_session *session;
    STATUS(eval_load(&llama, NULL, file, size, &how), SL_OK);
    STATUS(sl_session_create(&session, llama, NULL), SL_OK);
    STATUS(sl_session_add_image(session, images[0]), SL_ERR_UNSUPPORTED);
    assert_non_null(strstr(sl_last_error(), "no pictures"));
    STATUS(sl_session_eval(session, (const sl_token[]) { 1, 2 }, 2, NULL, 0), SL_OK);
    STATUS(sl_session_eval(session, (const sl_token[]) { 24 }, 1, NULL, 0), SL_ERR_RANGE);
    STATUS(sl_model_get_info(llama, &info), SL_OK);
    assert_true(info.image_token == SL_TOKEN_NONE && !info.max_tiles && !info.tile_side && !*info.vision);
    sl_session_free(session);
    sl_model_free(llama);
    free(file);
}

/* ---- cancelling ---- */

typedef struct canceller { sl_session *session; uint64_t after_ns; } canceller;

static void *cancel_later(void *user)
{
    const canceller *c = user;
    const struct timespec wait = { (time_t)(c->after_ns / 1000000000), (long)(c->after_ns % 1000000000) };
    nanosleep(&wait, NULL);
    sl_session_cancel(c->session);
    return NULL;
}

static void cancelling(void **state)
{
    (void)state;
    /* Wide enough to take some milliseconds. */
    const mllama_spec wide = { .v_embd = 160, .v_ff = 320, .tile_side = 64, .patch_side = 8, .v_layer = 4, .n_vocab = 100, .seed = 8 };
    sl_model *slow = load(&wide, NULL, 2);
    sl_session *session = open_session(slow, 0);
    sl_session_stats stats = { .size = sizeof stats };
    sl_image *image = mllama_picture(200, 150, 3);
    float row[100], again[100];
    unsigned n_cancelled = 0;
    static const sl_token ids[] = { 1, 100, 2 };
    STATUS(sl_session_add_image(session, image), SL_OK);
    STATUS(sl_session_eval(session, ids, 3, row, 1), SL_OK);
    STATUS(sl_session_get_stats(session, &stats), SL_OK);
    const uint64_t whole = stats.image_ns;
    STATUS(sl_session_rewind(session, 0), SL_OK);
    sl_session_cancel(session);
    STATUS(sl_session_add_image(session, image), SL_ERR_CANCELLED);     /* asked before: nothing is begun */
    for (unsigned i = 0; i < 24; i++) {
        canceller c = { session, whole * (i % 12) / 12 };
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, &c), 0);
        const sl_status status = sl_session_add_image(session, image);
        pthread_join(thread, NULL);
        if (status != SL_OK)
            STATUS(status, SL_ERR_CANCELLED);
        n_cancelled += status == SL_ERR_CANCELLED;
        assert_int_equal(sl_session_images(session), status == SL_OK);
        STATUS(sl_session_rewind(session, 0), SL_OK);                   /* clears a request that came too late */
    }
    print_message("%u of 24 pictures of %.1f ms were cancelled\n", n_cancelled, (double)whole / 1e6);
    assert_true(n_cancelled > 0);
    STATUS(sl_session_add_image(session, image), SL_OK);
    STATUS(sl_session_eval(session, ids, 3, again, 1), SL_OK);
    assert_memory_equal(row, again, sizeof row);
    sl_session_free(session);
    sl_image_free(image);
    sl_model_free(slow);
}

/* ---- side by side ---- */

typedef struct worker { unsigned first; int wrong; float expected[N_VOCAB]; timeline t; } worker;

static void *work(void *user)
{
    worker *w = user;
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_batch = 5 + w->first };
    for (int round = 0; round < 6; round++) {
        float row[N_VOCAB];
        sl_session *session = NULL;
        sl_status status = sl_session_create(&session, model, &o);
        for (size_t i = 0; i < w->t.n_images && status == SL_OK; i++)
            status = sl_session_add_image(session, images[w->t.shown[i]]);
        if (status == SL_OK)
            status = sl_session_eval(session, w->t.ids, w->t.n, row, 1);
        w->wrong += status != SL_OK || memcmp(row, w->expected, sizeof row);
        sl_session_free(session);
    }
    return NULL;
}

static void side_by_side(void **state)
{
    (void)state;
    static const size_t at[2][2] = { { 3, 4 }, { 0, 30 } };
    static worker workers[2];
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++) {
        sl_token ids[40];
        mllama_ids(ids, 40, N_VOCAB, at[i], 2, i);
        workers[i] = (worker) { .first = i };
        append(&workers[i].t, ids, 40, (const unsigned[]) { i, 3 - i });
        memcpy(workers[i].expected, told_anew(&workers[i].t), sizeof workers[i].expected);
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].wrong, 0);
    }
}

/* ---- limits ---- */

/* All pictures that a session takes, side by side: the last rows see all of them. */
static void as_many_as_there_may_be(void **state)
{
    (void)state;
    const mllama_spec small = { .tile_side = 4, .max_tiles = 1, .n_vocab = 20, .n_ctx = 1024, .v_layer = 1, .kept = 0x1, .seed = 9 };
    sl_model *m = load(&small, NULL, 2);
    sl_token ids[SL_LIMIT_IMAGES + 2];
    float rows[2][20] = { { 0 } };
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = i && i <= SL_LIMIT_IMAGES ? 20 : 3;
    for (uint32_t way = 0; way < 2; way++) {
        const sl_session_options o = { .size = sizeof o, .n_ctx = 512, .n_batch = way ? 7 : 512 };
        sl_session *session;
        STATUS(sl_session_create(&session, m, &o), SL_OK);
        for (int i = 0; i < SL_LIMIT_IMAGES; i++)
            STATUS(sl_session_add_image(session, images[i % N_IMAGES]), SL_OK);
        STATUS(sl_session_add_image(session, images[0]), SL_ERR_LIMIT);
        assert_non_null(strstr(sl_last_error(), "256 pictures"));
        assert_int_equal(sl_session_images(session), SL_LIMIT_IMAGES);
        STATUS(sl_session_eval(session, ids, COUNT(ids), rows[way], 1), SL_OK);
        STATUS(sl_session_add_image(session, images[0]), SL_ERR_LIMIT);
        sl_session_free(session);
    }
    assert_memory_equal(rows[0], rows[1], sizeof rows[0]);
    sl_model_free(m);
}

/* ---- memory ---- */

/* What the estimate says of pictures is what they take: what stays, to the byte but for a few lists, and what is held besides while one is encoded. */
static void memory_is_as_estimated(void **state)
{
    (void)state;
    static const mllama_spec shapes[] = { { .seed = 1 }, { .tile_side = 56, .patch_side = 14, .v_embd = 64, .v_ff = 100, .v_head = 4, .seed = 2 }, { .max_tiles = 6, .n_head_kv = 1, .seed = 3 } };
    for (size_t i = 0; i < COUNT(shapes); i++) {
        char path[] = "/tmp/spacellama-XXXXXX";
        size_t size;
        counting memory = { .calls = 0 };
        const sl_allocator allocator = counting_allocator(&memory);
        tiny *t = mllama_create(&shapes[i]);
        unsigned char *file = tiny_write(t, &size);
        const int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        tiny_save(path, file, size);
        const sl_session_options so = { .size = sizeof so, .n_ctx = 128, .n_batch = 32, .cache_type = i ? "f16" : "f32" };
        sl_memory need = { .size = sizeof need };
        sl_session_stats stats = { .size = sizeof stats };
        sl_model_options mo = SL_MODEL_OPTIONS_INIT;
        sl_session *session;
        mo.n_threads = 1;
        STATUS(sl_model_estimate(path, &mo, &so, &need), SL_OK);
        sl_model *m = load(&shapes[i], &allocator, 1);
        const uint32_t tiles = m->hp.vision.max_tiles, side = m->hp.vision.tile_side;
        sl_image *full = mllama_picture(tiles * side, side, 5);         /* all in a row */
        STATUS(sl_session_create(&session, m, &so), SL_OK);
        STATUS(sl_session_get_stats(session, &stats), SL_OK);
        assert_int_equal(stats.image_bytes, 0);
        assert_int_equal(stats.compute_bytes, need.compute);
        assert_int_equal(stats.cache_bytes, need.cache);
        for (uint64_t n = 1; n <= 3; n++) {
            const size_t before = memory.live_bytes;
            memory.peak_bytes = before;
            STATUS(sl_session_add_image(session, full), SL_OK);
            STATUS(sl_session_get_stats(session, &stats), SL_OK);
            assert_int_equal(stats.image_bytes, n * need.image);
            const size_t stays = memory.live_bytes - before, besides = memory.peak_bytes - memory.live_bytes;
            if (stays < need.image || stays > need.image + 4096)
                fail_msg("shape %zu, picture %u: %zu bytes stay, %llu are estimated", i, (unsigned)n, stays, (unsigned long long)need.image);
            if (n == 1 && (besides > need.encoder + 1024 || need.encoder > besides + 1024))
                fail_msg("shape %zu: %zu bytes besides, %llu are estimated", i, besides, (unsigned long long)need.encoder);
        }
        sl_session_free(session);
        sl_image_free(full);
        sl_model_free(m);
        assert_true(!memory.live_blocks && !memory.wrong);
        unlink(path);
        free(file);
        tiny_free(t);
    }
}

/* Computing with pictures takes no memory. */
static void no_memory_per_token(void **state)
{
    (void)state;
    counting memory = { .calls = 0 };
    const sl_allocator allocator = counting_allocator(&memory);
    sl_model *m = load(NULL, &allocator, 2);
    sl_session *session = open_session(m, 16);
    STATUS(sl_session_add_image(session, images[3]), SL_OK);
    STATUS(sl_session_add_image(session, images[0]), SL_OK);
    memory.fail_at = 1, memory.calls = 0;
    float row[N_VOCAB];
    for (int i = 0; i < 40; i++)
        STATUS(sl_session_eval(session, (const sl_token[]) { i == 3 || i == 20 ? IMAGE : i, 5 }, 2, row, 1), SL_OK);
    assert_int_equal(memory.calls, 0);
    memory.fail_at = 0;
    sl_session_free(session);
    sl_model_free(m);
}

/* ---- the scene ---- */

static int prepare(void **state)
{
    static const uint32_t sizes[N_IMAGES][2] = { { 8, 5 }, { 16, 8 }, { 8, 24 }, { 16, 16 } };
    (void)state;
    for (int i = 0; i < N_IMAGES; i++)
        images[i] = mllama_picture(sizes[i][0], sizes[i][1], (uint64_t)i);
    model = load(NULL, NULL, 2);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    for (int i = 0; i < N_IMAGES; i++)
        sl_image_free(images[i]);
    sl_model_free(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewind_forgets), cmocka_unit_test(any_order), cmocka_unit_test(a_long_talk), cmocka_unit_test(generate_goes_on), cmocka_unit_test(lookup_leaves_pictures_alone),
        cmocka_unit_test(mistakes_change_nothing), cmocka_unit_test(other_models_take_none), cmocka_unit_test(cancelling), cmocka_unit_test(side_by_side),
        cmocka_unit_test(as_many_as_there_may_be), cmocka_unit_test(memory_is_as_estimated), cmocka_unit_test(no_memory_per_token),
    };
    return cmocka_run_group_tests_name("mllama_session", tests, prepare, clean);
}
