/* SPDX-License-Identifier: MIT */
/* Prompts with pictures give the same bytes in all the ways of tests/support/ways.h, in every kind of cache and arithmetic; and from one file or two. The text path alone:
 * tests/api/same_bits_types.c. */
#include "check.h"
#include "mllama_build.h"
#include "sanitized.h"
#include "status.h"
#include "ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As people's files are: one kind of matrix in the encoder is quantized, its neighbours are F16; the text is of several types. Width 256 is one super-block. */
static const mllama_spec spec = {
    .n_embd = 256, .n_ff = 288, .n_layer = 4, .cross = 0xa, .v_embd = 256, .v_ff = 320, .v_head = 4, .v_layer = 3, .kept = 0x5, .tile_side = 28, .patch_side = 14, .seed = 3,
    .types = { { ".attn_v.", SL_TYPE_Q4_K }, { "v.", SL_TYPE_F16 }, { "mm.0", SL_TYPE_F16 }, { "cross_attn", SL_TYPE_Q6_K }, { "token_embd", SL_TYPE_BF16 }, { "ffn_", SL_TYPE_Q8_0 } },
};
enum { N_VOCAB = 280 };
enum { N_IDS = 75, N_RANDOM = WHEN_SLOW(0, 3) };   /* two pages of the cache and two passes of 64; 48 at random for all stories, caches and arithmetics */
/* Of those, one in so many: every story, cache and arithmetic is in some. */
enum { EVERY = WHEN_SLOW(5, 1) };

static const struct story { const char *name; size_t n, at[WAYS_IMAGES]; uint32_t size[WAYS_IMAGES][2]; } stories[] = {
    { "one picture", 1, { 3 }, { { 60, 50 } } },
    { "three pictures, two side by side, one in a later pass", 3, { 10, 11, 70 }, { { 60, 50 }, { 20, 20 }, { 30, 90 } } },
};
static const char *const caches[] = { "f32", "f16", "bf16", "q8_0" }, *const ariths[] = { "f32", "bf16" };

static unsigned char *file;
static size_t file_size;

static ways_subject subject_of(const struct story *story)
{
    ways_subject s = { .name = story->name, .data = file, .size = file_size, .n = N_IDS - story->n, .seed = 9,
                       .ran = { "span_attention/", "layer_norm/", "gelu/", "add_gated/", "copy_to/", "matmul/q4_k/", "matmul/f16" } };
    for (; s.n_images < story->n; s.n_images++) {
        s.at[s.n_images] = story->at[s.n_images] - s.n_images;      /* a token each */
        s.images[s.n_images] = mllama_picture(story->size[s.n_images][0], story->size[s.n_images][1], s.n_images);
    }
    return s;
}

/* Another picture is another answer: the hashes differ from story to story and with the cache and the arithmetic. */
static uint64_t seen[64];
static size_t n_seen;

static void remember(uint64_t hash)
{
    for (size_t i = 0; i < n_seen; i++)
        assert_true(seen[i] != hash);
    seen[n_seen++] = hash;
}

static void the_same_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(stories); i++) {
        ways_subject s = subject_of(&stories[i]);
        for (size_t a = 0; a < COUNT(ariths); a++)
            for (size_t c = 0; c < COUNT(caches); c++) {
                if ((c + COUNT(caches) * (a + COUNT(ariths) * i)) % EVERY)
                    continue;
                s.arith = ariths[a], s.cache = caches[c];
                remember(ways_prove(&s, N_RANDOM));
            }
        for (size_t k = 0; k < s.n_images; k++)
            sl_image_free(s.images[k]);
    }
}

/* ---- layouts ---- */

/* What is told: ids and pictures. */
typedef struct told { const struct story *story; sl_token ids[N_IDS]; sl_image *images[WAYS_IMAGES]; } told;

static void tell(told *t, const struct story *story)
{
    t->story = story;
    mllama_ids(t->ids, N_IDS, N_VOCAB, story->at, story->n, 9);
    for (size_t i = 0; i < story->n; i++)
        t->images[i] = mllama_picture(story->size[i][0], story->size[i][1], i);
}

static void forget(told *t)
{
    for (size_t i = 0; i < t->story->n; i++)
        sl_image_free(t->images[i]);
}

static sl_status run(const told *t, sl_session *session, float *logits)
{
    for (size_t i = 0; i < t->story->n; i++)
        SL_TRY(sl_session_add_image(session, t->images[i]));
    return sl_session_eval(session, t->ids, N_IDS, logits, N_IDS);
}

/* The same weights in two files, and with the names of both kinds in one, give the same bytes. */
static void one_file_or_two(void **state)
{
    (void)state;
    static float expected[N_IDS][N_VOCAB], got[N_IDS][N_VOCAB];
    /* The feed-forward part of the encoder is square, so that shapes cannot tell its matrices apart. */
    static const mllama_spec shapes[] = { { .seed = 4 }, { .seed = 5, .v_ff = 16 }, { .seed = 6, .v_ff = 16, .max_tiles = 2, .v_global = 2 } };
    for (size_t i = 0; i < COUNT(shapes); i++) {
        told t;
        size_t size[4];
        tiny *whole = mllama_create(&shapes[i]), *renamed = mllama_rename(whole), *text, *projector;
        tell(&t, &stories[1]);
        mllama_split(whole, &text, &projector);
        unsigned char *data[] = { tiny_write(whole, &size[0]), tiny_write(renamed, &size[1]), tiny_write(text, &size[2]), tiny_write(projector, &size[3]) };
        for (int layout = 0; layout < 3; layout++) {
            const sl_source first = { .size = sizeof first, .data = data[layout], .length = size[layout] }, second = { .size = sizeof second, .data = data[3], .length = size[3] };
            const sl_source *const sources[] = { &first };
            sl_model_options o = SL_MODEL_OPTIONS_INIT;
            sl_model_info info = { .size = sizeof info };
            sl_model *model;
            sl_session *session;
            o.projector_source = layout == 2 ? &second : NULL, o.n_threads = 1, o.in_place = (uint32_t)layout % 2;
            if (sl_model_load_sources(&model, sources, 1, &o) != SL_OK)
                fail_msg("%s", sl_last_error());
            assert_int_equal(sl_model_get_info(model, &info), SL_OK);
            assert_non_null(strstr(info.vision, layout == 2 ? "two files (layout L0), old" : layout ? "one file (layout L1), old" : "one file (layout L1), new"));
            assert_int_equal(info.n_parts, layout == 2 ? 2 : 1);
            assert_int_equal(sl_session_create(&session, model, NULL), SL_OK);
            assert_int_equal(run(&t, session, layout ? got[0] : expected[0]), SL_OK);
            if (layout)
                assert_memory_equal(got, expected, sizeof got);
            sl_session_free(session);
            sl_model_free(model);
        }
        for (int k = 0; k < 4; k++)
            free(data[k]);
        tiny_free(whole), tiny_free(renamed), tiny_free(text), tiny_free(projector);
        forget(&t);
    }
}

static int prepare(void **state)
{
    (void)state;
    tiny *t = mllama_create(&spec);
    file = tiny_write(t, &file_size);
    tiny_free(t);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    free(file);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_same_bytes), cmocka_unit_test(one_file_or_two) };
    return cmocka_run_group_tests_name("mllama_same_bits", tests, prepare, clean);
}
