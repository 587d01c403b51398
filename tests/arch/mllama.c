/* SPDX-License-Identifier: MIT */
/* Architecture mllama against the reference data: pixels, every stage of the encoder, what sees what, the residual after every layer, logits and greedy
 * continuations, in every layout of files. */
#include "eval.h"
#include "gguf_build.h"
#include "json.h"
#include "loader.h"
#include "npy.h"
#include "session.h"
#include "vision/tiles.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define FOLDER "mllama-tiny/"
#define ONE_FILE "model-f32.gguf"
enum { MOST_IMAGES = 2, MOST_IDS = 320 };

static struct json *manifest;
static double pixels_bound, states_bound, logits_bound;

#define OK(call) check_status(call, #call, __LINE__)
static void check_status(sl_status status, const char *call, int line)
{
    if (status != SL_OK)
        fail_msg("line %d: %s: %s (%s)", line, call, sl_status_name(status), sl_last_error());
}

static const char *path_of(const char *file)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/" FOLDER "%s", getenv("SL_FIXTURES"), file);
    return path;
}

static npy load(const char *stem, const char *what)
{
    char name[128];
    snprintf(name, sizeof name, FOLDER "%s-%s.npy", stem, what);
    return npy_load(name);
}

static int is_there(const char *stem, const char *what)
{
    char name[128];
    snprintf(name, sizeof name, "%s-%s.npy", stem, what);
    return json_get(json_get(manifest, "files"), name) != NULL;
}

/* Largest distance; not a number is infinitely far. */
static double farthest(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const double off = fabs((double)a[i] - b[i]);
        if (!(off <= most))
            most = off == off ? off : INFINITY;
    }
    return most;
}

static void expect(const char *stem, const char *what, double off, double bound)
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

static sl_image *picture(const char *name)
{
    char file[64];
    sl_image *image;
    snprintf(file, sizeof file, "%s.ppm", name);
    OK(sl_image_load(&image, path_of(file), NULL));
    return image;
}

static story tell(const char *name)
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

static void forget(story *s)
{
    for (size_t i = 0; i < s->n_images; i++)
        sl_image_free(s->images[i]);
}

/* A model of the fixtures: `projector` and words may be NULL. */
static sl_model *model_of(const char *file, const char *projector, const char *cross_norm)
{
    char second[1024];
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model;
    if (projector)
        snprintf(second, sizeof second, "%s", path_of(projector));
    o.n_threads = 2, o.projector = projector ? second : NULL, o.cross_norm = cross_norm;
    OK(sl_model_load(&model, path_of(file), &o));
    return model;
}

static sl_session *open_session(sl_model *model, const story *s)
{
    const sl_session_options o = { .size = sizeof o, .cache_type = "f32", .n_ctx = 512, .n_batch = 50 };
    sl_session *session;
    OK(sl_session_create(&session, model, &o));
    for (size_t i = 0; i < s->n_images; i++)
        OK(sl_session_add_image(session, s->images[i]));
    return session;
}

/* Rows of all positions, for free(). */
static float *all_rows(sl_model *model, const story *s)
{
    float *rows = malloc(s->n_ids * model->hp.n_vocab * sizeof *rows);
    sl_session *session = open_session(model, s);
    OK(sl_session_eval(session, s->ids, s->n_ids, rows, s->n_ids));
    assert_int_equal(sl_session_images(session), s->n_images);
    sl_session_free(session);
    return rows;
}

/* How far the logits of a case are from expected ones. */
static double distance(sl_model *model, const char *name, const char *expected)
{
    story s = tell(name);
    npy exact = load(name, expected);
    float *rows = all_rows(model, &s);
    assert_int_equal(exact.dims[0], s.n_ids);
    assert_int_equal(exact.dims[1], model->hp.n_vocab);
    const double off = farthest(exact.data, rows, exact.count);
    free(rows);
    free(exact.block);
    forget(&s);
    return off;
}

/* ---- pixels ---- */

static void pixels(void **state)
{
    (void)state;
    sl_model *model = model_of(ONE_FILE, NULL, NULL);
    const sl_vision *v = &model->hp.vision;
    const struct json *images = json_get(manifest, "images");
    for (const struct json *e = images->child; e; e = e->next) {
        sl_image *image = picture(e->key);
        npy exact = load(e->key, "pixels");
        sl_tiling tiling;
        OK(sl_tiling_choose(&tiling, image->width, image->height, v->tile_side, v->max_tiles));
        assert_int_equal(tiling.tiles_high, json_number(e, "tiles_high", 0));
        assert_int_equal(tiling.tiles_wide, json_number(e, "tiles_wide", 0));
        assert_int_equal(tiling.id, json_number(e, "aspect_ratio_id", 0));
        assert_int_equal(tiling.width, json_get(e, "resized_to")->child->number);
        assert_int_equal(tiling.height, json_get(e, "resized_to")->child->next->number);
        assert_int_equal(exact.count, (size_t)(tiling.tiles_high * tiling.tiles_wide) * 3 * v->tile_side * v->tile_side);
        float *got = malloc(exact.count * sizeof *got);
        OK(sl_image_tiles(image, &tiling, v->tile_side, v->mean, v->deviation, got));
        expect(e->key, "pixels", farthest(exact.data, got, exact.count), pixels_bound);
        free(got);
        free(exact.block);
        sl_image_free(image);
    }
    sl_model_free(model);
}

/* ---- the encoder, stage by stage ---- */

/* The encoder of a model, bound once more, and what a picture gives on its way. The inputs are made here from the pixels of the fixtures. */
typedef struct stages {
    sl_tiles_encoder encoder;
    float *patches, *embed, *local, *features, *vectors;
    int32_t arrangement, *spans, *ranges, *positions, *pages;
} stages;

static sl_tensor table(sl_pass *pass, sl_type type, int64_t n0, int64_t n1, const void *host)
{
    return sl_view_slots(sl_view_heads(sl_pass_input(pass, type, n0 * n1, host), n0));
}

static void run_stages(sl_pass *p, const sl_model *model, const void *what)
{
    const stages *s = what;
    const sl_vision *v = &model->hp.vision;
    const int64_t n = (int64_t)v->max_tiles * v->n_pos_padded, n_page = (n + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS, n_pos = (int64_t)v->max_tiles * v->n_pos;
    const sl_picture picture = {
        .patches = table(p, SL_TYPE_F32, 3 * (int64_t)v->patch_side * v->patch_side, (int64_t)v->max_tiles * v->n_patch, s->patches),
        .arrangement = sl_pass_input(p, SL_TYPE_I32, 1, &s->arrangement), .spans = table(p, SL_TYPE_I32, 2, 1 + v->max_tiles, s->spans),
        .ranges = table(p, SL_TYPE_I32, 2, n, s->ranges), .positions = sl_pass_input(p, SL_TYPE_I32, n, s->positions), .pages = sl_pass_input(p, SL_TYPE_I32, n_page, s->pages),
    };
    sl_tensor x = sl_pass_tensor(p, SL_TYPE_F32, v->n_embd, n, 1, 1), features = sl_pass_tensor(p, SL_TYPE_F32, (int64_t)v->n_embd * (1 + v->n_kept), n_pos, 1, 1);
    sl_tiles_embed(p, v, &s->encoder, &picture, x);
    sl_pass_output(p, x, s->embed);
    sl_tiles_local(p, v, &s->encoder, &picture, x, features);
    sl_pass_output(p, x, s->local);
    sl_tiles_global(p, v, &s->encoder, &picture, x, features);
    sl_pass_output(p, features, s->features);
    sl_pass_output(p, sl_tiles_encode(p, &model->hp, &s->encoder, &picture), s->vectors);
}

/* The pixels of a picture [tile, channel, row, column] as patches, and what sees what in the encoder by its definition: two dead positions do not see each other. */
static void fill_stages(stages *s, const sl_model *model, const char *name)
{
    const sl_vision *v = &model->hp.vision;
    const size_t n = (size_t)v->max_tiles * v->n_pos_padded, side = v->tile_side, P = v->patch_side, per_side = side / P;
    npy pixels_of = load(name, "pixels");
    const float *from = pixels_of.data;
    const size_t n_tile = pixels_of.dims[0];
    s->arrangement = (int32_t)json_number(json_get(json_get(manifest, "images"), name), "aspect_ratio_id", 0);
    s->patches = calloc((size_t)v->max_tiles * v->n_patch * 3 * P * P, sizeof *s->patches);
    for (size_t i = 0; i < pixels_of.count; i++) {
        const size_t x = i % side, y = i / side % side, c = i / side / side % 3, t = i / side / side / 3;
        s->patches[((((t * per_side + y / P) * per_side + x / P) * 3 + c) * P + y % P) * P + x % P] = from[i];
    }
    s->spans = calloc(2 * (1 + v->max_tiles), sizeof *s->spans), s->ranges = calloc(2 * n, sizeof *s->ranges);
    s->positions = calloc(n, sizeof *s->positions), s->pages = calloc(n, sizeof *s->pages);
    for (size_t i = 0; i < n; i++) {
        const int dead = i / v->n_pos_padded >= n_tile || i % v->n_pos_padded >= v->n_pos;
        s->positions[i] = (int32_t)i, s->pages[i] = (int32_t)i;
        s->ranges[2 * i] = dead, s->ranges[2 * i + 1] = dead ? 1 + (int32_t)n_tile : 1;
    }
    s->spans[1] = (int32_t)n;
    for (size_t t = 0; t < n_tile; t++)
        s->spans[2 * t + 2] = (int32_t)(t * v->n_pos_padded), s->spans[2 * t + 3] = (int32_t)(t * v->n_pos_padded + v->n_pos);
    s->embed = calloc(n * v->n_embd, sizeof *s->embed), s->local = calloc(n * v->n_embd, sizeof *s->local);
    s->features = calloc(n * v->n_embd * (1 + v->n_kept), sizeof *s->features), s->vectors = calloc(n * model->hp.n_embd, sizeof *s->vectors);
    free(pixels_of.block);
}

static void empty_stages(stages *s)
{
    void *const blocks[] = { s->patches, s->embed, s->local, s->features, s->vectors, s->spans, s->ranges, s->positions, s->pages };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

/* Rows [tile, padded position, n] without the padding. */
static void drop_padding(float *rows, const sl_vision *v)
{
    for (size_t t = 1; t < v->max_tiles; t++)
        memmove(rows + t * v->n_pos * v->n_embd, rows + t * v->n_pos_padded * v->n_embd, (size_t)v->n_pos * v->n_embd * sizeof *rows);
}

static void compare_stage(const char *stem, const char *what, const float *got, size_t first, size_t n)
{
    if (!is_there(stem, what))
        return;
    npy exact = load(stem, what);
    assert_true(first + n <= exact.count);
    expect(stem, what, farthest((const float *)exact.data + first, got, n), states_bound);
    free(exact.block);
}

static void encode_picture(sl_model *model, stages *s, const char *stem, const char *name, size_t index)
{
    const sl_vision *v = &model->hp.vision;
    const size_t n_pos = (size_t)v->max_tiles * v->n_pos;
    const sl_device *d = &model->devices[0];
    sl_plan plan;
    void *arena = NULL;
    fill_stages(s, model, name);
    OK(sl_plan_make(&plan, model, run_stages, s));
    OK(d->backend->alloc(d->handle, plan.arena[0], &arena));
    OK(sl_plan_run(&plan, model, &arena, run_stages, s, NULL));
    drop_padding(s->embed, v);
    drop_padding(s->local, v);
    compare_stage(stem, "embed", s->embed, 0, n_pos * v->n_embd);
    compare_stage(stem, "local", s->local, 0, n_pos * v->n_embd);
    compare_stage(stem, "features", s->features, 0, n_pos * v->n_embd * (1 + v->n_kept));
    compare_stage(stem, "states", s->vectors, index * n_pos * model->hp.n_embd, n_pos * model->hp.n_embd);
    d->backend->free(d->handle, arena, plan.arena[0]);
    sl_plan_free(&plan);
    empty_stages(s);
}

static void encoder_stages(void **state)
{
    (void)state;
    stages s = { .arrangement = 0 };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model;
    o.in_place = 1, o.n_threads = 2;        /* the files stay open: the encoder is bound once more */
    OK(sl_model_load(&model, path_of(ONE_FILE), &o));
    sl_loader loader = { .model = model, .options = &o };
    OK(sl_tiles_bind(&loader, &model->layout, &s.encoder));
    OK(sl_loader_place(&loader));
    sl_loader_close(&loader);
    unsigned n = 0;
    for (const struct json *c = json_get(manifest, "cases")->child; c; c = c->next) {
        size_t index = 0;
        for (const struct json *e = json_get(c, "images")->child; e; e = e->next, n++)
            encode_picture(model, &s, c->key, e->text, index++);
    }
    assert_int_equal(n, 5);
    sl_tiles_free(&s.encoder, &model->mem);
    sl_model_free(model);
}

/* ---- who sees what, and the residual after every layer ---- */

typedef struct hidden { sl_work work; float *out; } hidden;

/* The pass over text without its head. */
static void run_hidden(sl_pass *pass, const sl_model *model, const void *what)
{
    const hidden *h = what;
    const sl_work *w = &h->work;
    sl_sight sight = { 0 };
    sl_batch batch = { .n_tok = w->n_tok, .kv = w->kv->layers, .sight = w->sight ? &sight : NULL };
    batch.positions[0] = sl_pass_input(pass, SL_TYPE_I32, w->n_tok, w->positions);
    batch.pages[0] = sl_pass_input(pass, SL_TYPE_I32, w->n_pages, w->pages);
    if (w->sight) {
        sight.kv = w->sight->kv;
        sight.spans[0] = table(pass, SL_TYPE_I32, 2, w->sight->n_spans, w->sight->spans);
        sight.ranges[0] = table(pass, SL_TYPE_I32, 2, w->n_tok, w->sight->ranges);
        sight.marks[0] = sl_pass_input(pass, SL_TYPE_I32, w->n_tok, w->sight->marks);
    }
    batch.ids = sl_pass_input(pass, SL_TYPE_I32, w->n_tok, w->ids);
    sl_pass_output(pass, model->arch->forward(pass, model, &batch), h->out);
}

static void check_seen(const sl_session *session, const story *s, const int32_t *ranges)
{
    const sl_vision *v = &session->model->hp.vision;
    npy seen = load(s->name, "seen");
    const int32_t *expected = seen.data;
    assert_string_equal(seen.type, "<i4");
    assert_int_equal(seen.count, s->n_ids * s->n_images * v->max_tiles);
    for (size_t p = 0; p < s->n_ids; p++)
        for (size_t i = 0; i < s->n_images; i++)
            for (size_t t = 0; t < v->max_tiles; t++) {
                const sl_picture_place *place = &session->pictures.places[i];
                const int sees = (int32_t)i >= ranges[2 * p] && (int32_t)i < ranges[2 * p + 1] && (int64_t)t * v->n_pos < place->n_keys;
                if (sees != *expected++)
                    fail_msg("%s: position %zu, picture %zu, tile %zu: %d", s->name, p, i, t, sees);
            }
    free(seen.block);
}

/* The residual after `n_layer` layers. */
static void compute_hidden(sl_model *model, const hidden *h, uint32_t n_layer)
{
    const sl_device *d = &model->devices[0];
    const uint32_t all = model->hp.n_layer;
    sl_plan plan;
    void *arena = NULL;
    model->hp.n_layer = n_layer;
    OK(sl_plan_make(&plan, model, run_hidden, h));
    OK(d->backend->alloc(d->handle, plan.arena[0], &arena));
    OK(sl_plan_run(&plan, model, &arena, run_hidden, h, NULL));
    d->backend->free(d->handle, arena, plan.arena[0]);
    sl_plan_free(&plan);
    model->hp.n_layer = all;
}

static void layers_of(sl_model *model, const char *name)
{
    story s = tell(name);
    sl_session *session = open_session(model, &s);
    int32_t positions[MOST_IDS], ranges[2 * MOST_IDS], marks[MOST_IDS];
    size_t n_placed;
    for (size_t i = 0; i < s.n_ids; i++)
        positions[i] = (int32_t)i;
    const int any = sl_pictures_look(&session->pictures, s.ids, s.n_ids, 0, ranges, marks, &n_placed);
    assert_int_equal(n_placed, s.n_images);
    assert_int_equal(any, s.n_images > 0);
    if (s.n_images)
        check_seen(session, &s, ranges);
    const sl_work_sight sight = sl_pictures_sight(&session->pictures, ranges, marks);
    const size_t row = s.n_ids * model->hp.n_embd;
    npy exact = load(name, "layers");
    hidden h = { .work = { .n_tok = (int64_t)s.n_ids, .n_pages = session->kv.n_pages, .ids = s.ids, .positions = positions, .pages = session->pages, .kv = &session->kv,
                           .sight = any ? &sight : NULL }, .out = malloc(row * sizeof(float)) };
    size_t n = 0;
    double most = 0;
    for (uint32_t l = 0; l < model->hp.n_layer; l++) {
        if (model->hp.cross[l] && !any)
            continue;           /* the reference has no such layers then */
        compute_hidden(model, &h, l + 1);
        assert_true((n + 1) * row <= exact.count);
        const double off = farthest((const float *)exact.data + n++ * row, h.out, row);
        most = off > most ? off : most;
    }
    assert_int_equal(n, exact.dims[0]);
    expect(name, "layers", most, logits_bound);
    free(h.out);
    free(exact.block);
    sl_session_free(session);
    forget(&s);
}

static void residuals(void **state)
{
    (void)state;
    static const char *const names[] = { "text", "image-1tile", "image-2x2", "image-1x3", "two-images" };
    sl_model *model = model_of(ONE_FILE, NULL, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        layers_of(model, names[i]);
    sl_model_free(model);
}

/* ---- logits ---- */

/* Greedy continuation, which must be the published one. */
static void follow(sl_model *model, const story *s, const struct json *greedy)
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

static void logits(void **state)
{
    (void)state;
    static const struct { const char *file, *projector, *logits, *greedy; } files[] = {
        { ONE_FILE, NULL, "logits", "greedy" }, { "model-f16.gguf", NULL, "logits-f16", "greedy-f16" },
        { "split-text-f32.gguf", "split-projector-f32.gguf", "logits", "greedy" },
    };
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        sl_model *model = model_of(files[f].file, files[f].projector, NULL);
        unsigned n = 0;
        print_message("%s\n", files[f].file);
        for (const struct json *c = json_get(manifest, "cases")->child; c; c = c->next) {
            if (!is_there(c->key, files[f].logits))
                continue;
            expect(c->key, files[f].logits, distance(model, c->key, files[f].logits), logits_bound);
            if (json_get(c, files[f].greedy)) {
                story s = tell(c->key);
                follow(model, &s, json_get(c, files[f].greedy));
                forget(&s);
            }
            n++;
        }
        assert_int_equal(n, f == 1 ? 2 : 6);
        sl_model_free(model);
    }
}

/* The same weights in two files are the same model but for the order of the rows inside heads of the encoder, which changes the order of sums. */
static void two_files_are_one(void **state)
{
    (void)state;
    sl_model *one = model_of(ONE_FILE, NULL, NULL), *two = model_of("split-text-f32.gguf", "split-projector-f32.gguf", NULL);
    story s = tell("two-images");
    float *a = all_rows(one, &s), *b = all_rows(two, &s);
    expect(s.name, "two files", farthest(a, b, s.n_ids * one->hp.n_vocab), 1e-4);
    assert_non_null(strstr(one->layout.sentence, "one file (layout L1)"));
    assert_non_null(strstr(two->layout.sentence, "two files (layout L0)"));
    free(a);
    free(b);
    forget(&s);
    sl_model_free(one);
    sl_model_free(two);
}

/* ---- files with something to repair ---- */

/* A copy of a file made by the library's writer; one more key if `key` is given, and global gates before tanh if `raw`. */
typedef struct copying { sl_gguf gguf; unsigned char *data; gguf_bytes file; } copying;

static void change_gates(copying *c)
{
    for (size_t i = 0; i < c->gguf.n_tensors; i++) {
        const sl_gguf_tensor *t = &c->gguf.tensors[i];
        if (strncmp(t->name, "v.global.blk.", 13) || !strstr(t->name, "_gate"))
            continue;
        float gate;
        memcpy(&gate, c->data + t->offset, sizeof gate);
        gate = (float)atanh(gate);
        memcpy(c->data + t->offset, &gate, sizeof gate);
    }
}

static gguf_bytes copy_file(const char *name, const char *key, int raw)
{
    char full[128];
    size_t size;
    uint64_t need;
    sl_mem mem;
    copying c = { .data = NULL };
    sl_gguf_writer *w;
    snprintf(full, sizeof full, FOLDER "%s", name);
    c.data = fixture_load(full, &size);
    OK(sl_mem_init(&mem, NULL));
    OK(sl_gguf_parse(&c.gguf, &mem, c.data, size, size, &need));
    if (raw)
        change_gates(&c);
    OK(sl_gguf_writer_create(&w, &mem, 3, 0));
    for (size_t i = 0; i < c.gguf.n_kv; i++)
        sl_gguf_put_value(w, c.gguf.kv[i].key, &c.gguf.kv[i].value);
    if (key)
        sl_gguf_put_array(w, key, SL_META_I32, (const int32_t[]) { 489 }, 1);
    for (size_t i = 0; i < c.gguf.n_tensors; i++) {
        const sl_gguf_tensor *t = &c.gguf.tensors[i];
        sl_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->ne, c.data + t->offset, NULL, NULL);
    }
    OK(sl_gguf_write(w, gguf_bytes_put, &c.file));
    sl_gguf_writer_free(w);
    sl_gguf_free(&c.gguf, &mem);
    free(c.data);
    return c.file;
}

static double distance_of_bytes(const gguf_bytes *file, const char *cross_norm, const char *gates, const char *expected, const char *said)
{
    const sl_source source = { .size = sizeof source, .data = file->data, .length = file->size }, *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model;
    sl_model_info info = { .size = sizeof info };
    o.n_threads = 2, o.cross_norm = cross_norm, o.global_gates = gates;
    OK(sl_model_load_sources(&model, sources, 1, &o));
    OK(sl_model_get_info(model, &info));
    if (!strstr(info.vision, said))
        fail_msg("'%s' does not say '%s'", info.vision, said);
    const double off = distance(model, "image-2x2", expected);
    print_message("%s: off by %.1e\n", info.vision, off);
    sl_model_free(model);
    return off;
}

static void reordered_rows(void **state)
{
    (void)state;
    static const struct { const char *file, *key, *word, *said; int right; } rows[] = {
        { "model-f16-reordered.gguf", NULL, "reorder", "reordered (as asked for)", 1 },
        { "model-f16-reordered.gguf", "tokenizer.ggml.eos_token_ids", NULL, "reordered (the file has tokenizer.ggml.eos_token_ids", 1 },
        { "model-f16-reordered.gguf", "tokenizer.ggml.eos_token_ids", "auto", "reordered (the file has", 1 },
        { "model-f16-reordered.gguf", NULL, NULL, "as stored (the file lacks", 0 },
        { "model-f16-reordered.gguf", NULL, "stored", "as stored (as asked for)", 0 },
        { "model-f16-reordered.gguf", "tokenizer.ggml.eos_token_ids", "stored", "as stored (as asked for)", 0 },
        { "model-f16.gguf", NULL, "auto", "as stored (the file lacks", 1 },
        { "model-f16.gguf", NULL, "reorder", "reordered (as asked for)", 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        gguf_bytes file = copy_file(rows[i].file, rows[i].key, 0);
        const double off = distance_of_bytes(&file, rows[i].word, NULL, "logits-f16", rows[i].said);
        if (rows[i].right ? !(off <= logits_bound) : !(off > 0.1))
            fail_msg("%s, %s: off by %g", rows[i].file, rows[i].word ? rows[i].word : "default", off);
        gguf_bytes_free(&file);
    }
}

static void raw_gates(void **state)
{
    (void)state;
    static const struct { int raw; const char *word, *said; int right; } rows[] = {
        { 1, "raw", "raw, tanh is taken (as asked for)", 1 }, { 1, NULL, "tanh already taken (only files", 0 }, { 1, "tanh", "tanh already taken (as asked", 0 },
        { 0, "auto", "tanh already taken (only files", 1 }, { 0, "tanh", "tanh already taken (as asked", 1 }, { 0, "raw", "raw, tanh is taken", 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        gguf_bytes file = copy_file(ONE_FILE, NULL, rows[i].raw);
        const double off = distance_of_bytes(&file, NULL, rows[i].word, "logits", rows[i].said);
        if (rows[i].right ? !(off <= 1e-4) : !(off > 10 * logits_bound))
            fail_msg("row %zu: off by %g", i, off);
        gguf_bytes_free(&file);
    }
}

/* ---- without pictures ---- */

static void text_part_alone(void **state)
{
    (void)state;
    sl_model *whole = model_of(ONE_FILE, NULL, NULL), *alone = model_of("split-text-f32.gguf", NULL, NULL);
    story s = tell("text");
    sl_image *image = picture("small");
    const sl_session_options so = { .size = sizeof so, .cache_type = "f32" };
    sl_session *session;
    float *a = all_rows(whole, &s), *b = all_rows(alone, &s);
    assert_memory_equal(a, b, s.n_ids * whole->hp.n_vocab * sizeof *a);
    expect("text", "text part", distance(alone, "text", "logits"), logits_bound);
    expect("long", "text part", distance(alone, "long", "logits"), logits_bound);
    sl_model_info info = { .size = sizeof info };
    OK(sl_model_get_info(alone, &info));
    assert_true(info.image_token == SL_TOKEN_NONE && !info.max_tiles && !info.tile_side && strstr(info.vision, "text part only"));
    OK(sl_session_create(&session, alone, &so));
    assert_int_equal(sl_session_add_image(session, image), SL_ERR_UNSUPPORTED);
    assert_non_null(strstr(sl_last_error(), "takes no pictures"));
    assert_int_equal(sl_session_eval(session, &(sl_token) { 512 }, 1, NULL, 0), SL_ERR_STATE);
    assert_int_equal(sl_session_length(session), 0);
    sl_session_free(session);
    sl_image_free(image);
    free(a);
    free(b);
    sl_model_free(whole);
    sl_model_free(alone);
}

static void what_the_files_say(void **state)
{
    (void)state;
    sl_model *model = model_of(ONE_FILE, NULL, NULL);
    sl_model_info info = { .size = sizeof info };
    OK(sl_model_get_info(model, &info));
    assert_string_equal(info.architecture, "mllama");
    assert_true(info.n_vocab == 512 && info.image_token == 512 && info.tile_side == 56 && info.max_tiles == 4 && info.n_layer == 6);
    sl_model_free(model);
}

static int prepare(void **state)
{
    size_t size;
    unsigned char *text = fixture_load(FOLDER "manifest.json", &size);
    (void)state;
    manifest = json_parse((const char *)text, size, NULL);
    free(text);
    if (!manifest)
        return 1;
    const struct json *t = json_get(manifest, "tolerance");
    pixels_bound = json_number(t, "pixels_abs", 0), states_bound = json_number(t, "states_abs", 0), logits_bound = 4 * json_number(t, "logits_abs", 0);
    return !(pixels_bound > 0 && states_bound > 0 && logits_bound > 0);
}

static int clean(void **state)
{
    (void)state;
    json_free(manifest);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels), cmocka_unit_test(encoder_stages), cmocka_unit_test(residuals), cmocka_unit_test(logits), cmocka_unit_test(two_files_are_one),
        cmocka_unit_test(reordered_rows), cmocka_unit_test(raw_gates), cmocka_unit_test(text_part_alone), cmocka_unit_test(what_the_files_say),
    };
    return cmocka_run_group_tests_name("mllama", tests, prepare, clean);
}
