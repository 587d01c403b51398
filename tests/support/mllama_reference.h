/* SPDX-License-Identifier: MIT */
/* mllama_reference.h - the reference data of a model with pictures (FOLDER; mllama's by default) for tests: the manifest and its bounds, arrays, pictures, models, and its cases as sessions. */
#ifndef SL_TESTS_MLLAMA_REFERENCE_H
#define SL_TESTS_MLLAMA_REFERENCE_H

#include "check.h"
#include "json.h"
#include "npy.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifndef FOLDER
#define FOLDER "mllama-tiny/"
#endif
#define ONE_FILE "model-f32.gguf"
enum { MOST_IMAGES = 2, MOST_IDS = 320 };

static struct json *manifest;
static double pixels_bound, states_bound, logits_bound;

static inline const char *path_of(const char *file)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/" FOLDER "%s", getenv("SL_FIXTURES"), file);
    return path;
}

static inline npy load(const char *stem, const char *what)
{
    char name[128];
    snprintf(name, sizeof name, FOLDER "%s-%s.npy", stem, what);
    return npy_load(name);
}

static inline int is_there(const char *stem, const char *what)
{
    char name[128];
    snprintf(name, sizeof name, "%s-%s.npy", stem, what);
    return json_get(json_get(manifest, "files"), name) != NULL;
}

/* Largest distance; not a number is infinitely far. */
static inline double farthest(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const double off = fabs((double)a[i] - b[i]);
        if (!(off <= most))
            most = off == off ? off : INFINITY;
    }
    return most;
}

static inline void expect(const char *stem, const char *what, double off, double bound)
{
    print_message("%-12s %-10s off by %.1e (at most %.0e)\n", stem, what, off, bound);
    if (!(off <= bound))
        fail_msg("%s: %s: off by %g, at most %g", stem, what, off, bound);
}

/* ---- cases of the manifest ---- */

typedef struct story {
    const char *name;
    sl_token ids[MOST_IDS];
    size_t n_ids, n_images;
    sl_image *images[MOST_IMAGES];
    const struct json *json;
} story;

static inline sl_image *picture(const char *name)
{
    char file[64];
    sl_image *image;
    snprintf(file, sizeof file, "%s.ppm", name);
    OK(sl_image_load(&image, path_of(file), NULL));
    return image;
}

static inline story tell(const char *name)
{
    story s = { .name = name, .json = json_get(json_get(manifest, "cases"), name) };
    assert_non_null(s.json);
    const struct json *tokens = json_get(s.json, "tokens");
    if (tokens->kind == JSON_TEXT) {
        npy list = load("long", "tokens");
        assert_true(list.count <= MOST_IDS && !strcmp(list.type, "<i4"));
        s.n_ids = list.count;
        memcpy(s.ids, list.data, list.count * sizeof *s.ids);
        free(list.block);
    } else
        for (const struct json *e = tokens->child; e; e = e->next)
            s.ids[s.n_ids++] = (sl_token)e->number;
    for (const struct json *e = json_get(s.json, "images")->child; e; e = e->next)
        s.images[s.n_images++] = picture(e->text);
    return s;
}

static inline void forget(story *s)
{
    for (size_t i = 0; i < s->n_images; i++)
        sl_image_free(s->images[i]);
}

/* A model of the fixtures: `projector` may be NULL. */
static inline sl_model *model_of(const char *file, const char *projector)
{
    char second[1024];
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model;
    if (projector)
        snprintf(second, sizeof second, "%s", path_of(projector));
    o.n_threads = 2, o.projector = projector ? second : NULL;
    OK(sl_model_load(&model, path_of(file), &o));
    return model;
}

static inline sl_session *open_session(sl_model *model, const story *s)
{
    const sl_session_options o = { .size = sizeof o, .cache_type = "f32", .n_ctx = 512, .n_batch = 50 };
    sl_session *session;
    OK(sl_session_create(&session, model, &o));
    for (size_t i = 0; i < s->n_images; i++)
        OK(sl_session_add_image(session, s->images[i]));
    return session;
}

/* Greedy continuation, which must be the published one. */
static inline void follow(sl_model *model, const story *s, const struct json *greedy)
{
    sl_session *session = open_session(model, s);
    float *row = malloc(model->hp.n_vocab * sizeof *row);
    OK(sl_session_eval(session, s->ids, s->n_ids, row, 1));
    for (const struct json *g = greedy->child; g; g = g->next) {
        sl_token best = 0;
        for (uint32_t i = 1; i < model->hp.n_vocab; i++)
            best = row[i] > row[best] ? (sl_token)i : best;
        assert_int_equal(best, (sl_token)g->number);
        OK(sl_session_eval(session, &best, 1, row, 1));
    }
    sl_session_free(session);
    free(row);
}

/* For the group of tests. */
static inline int prepare(void **state)
{
    size_t size;
    unsigned char *text = fixture_load(FOLDER "manifest.json", &size);
    (void)state;
    manifest = json_parse((const char *)text, size, NULL);
    free(text);
    if (!manifest)
        return 1;
    const struct json *t = json_get(manifest, "tolerance");
    pixels_bound = json_number(t, "pixels_abs", 0), states_bound = json_number(t, "states_abs", json_number(t, "vectors_abs", 0)), logits_bound = 4 * json_number(t, "logits_abs", 0);
    return !(pixels_bound > 0 && states_bound > 0 && logits_bound > 0);
}

static inline int clean(void **state)
{
    (void)state;
    json_free(manifest);
    return 0;
}

#endif
