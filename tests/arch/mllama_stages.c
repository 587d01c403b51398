/* SPDX-License-Identifier: MIT */
/* Architecture mllama against the reference data: pixels, every stage of the encoder, what sees what, and the residual after every layer. */
#include "loader.h"
#include "mllama_reference.h"
#include "vision/tiles.h"

/* ---- pixels ---- */

static void pixels(void **state)
{
    (void)state;
    sl_model *model = model_of(ONE_FILE, NULL);
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
    int32_t positions[MOST_IDS], rows[MOST_IDS] = { 0 }, pages[MOST_IDS], ranges[2 * MOST_IDS], marks[MOST_IDS];
    for (size_t i = 0; i < s.n_ids; i++)
        positions[i] = pages[i] = (int32_t)i;
    const sl_looking looking = { s.ids, positions, rows, s.n_ids, (uint32_t[]) { 0 }, 1 };
    const int any = sl_pictures_look(&session->pictures, &looking, ranges, marks);
    assert_int_equal(session->pictures.albums[0].placed, s.n_images);
    assert_int_equal(any, s.n_images > 0);
    if (s.n_images)
        check_seen(session, &s, ranges);
    const sl_work_sight sight = sl_pictures_sight(&session->pictures, ranges, marks);
    const size_t row = s.n_ids * model->hp.n_embd;
    npy exact = load(name, "layers");
    hidden h = { .work = { .n_tok = (int64_t)s.n_ids, .n_pages = session->kv.n_pages, .ids = s.ids, .positions = positions, .pages = pages, .kv = &session->kv,
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
    sl_model *model = model_of(ONE_FILE, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        layers_of(model, names[i]);
    sl_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pixels), cmocka_unit_test(encoder_stages), cmocka_unit_test(residuals) };
    return cmocka_run_group_tests_name("mllama_stages", tests, prepare, clean);
}
