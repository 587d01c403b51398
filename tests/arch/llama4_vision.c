/* SPDX-License-Identifier: MIT */
/* Pictures of Llama 4 against the reference data: pixels, every stage of the encoder, logits and greedy continuations. */
#define FOLDER "llama4-tiny/"
#include "eval.h"
#include "gguf_build.h"
#include "loader.h"
#include "mllama_reference.h"
#include <spacellama/generate.h>
#include <spacellama/state.h>
#include "vision/vit.h"

static const struct { const char *text, *projector, *suffix; } files[] = {
    { "model-f32.gguf", "mmproj-f32.gguf", "" }, { "model-f16.gguf", "mmproj-f16.gguf", "-f16" },
};

/* ---- pixels ---- */

/* Pixels [side, side, 3, tile] of all tiles and, behind several, of the whole picture squeezed into one; for free(). */
static float *all_pixels(const sl_vision *v, const sl_image *image, size_t *n_tile)
{
    const size_t tile = 3 * (size_t)v->tile_side * v->tile_side;
    const sl_tiling whole = { 1, 1, 1, (int32_t)v->tile_side, (int32_t)v->tile_side };
    sl_tiling tiling;
    OK(sl_tiling_choose(&tiling, image->width, image->height, v->tile_side, v->max_tiles));
    *n_tile = (size_t)(tiling.tiles_high * tiling.tiles_wide);
    float *pixels = malloc((*n_tile + 1) * tile * sizeof *pixels);
    OK(sl_image_tiles(image, &tiling, v->tile_side, v->mean, v->deviation, pixels));
    if (*n_tile > 1) {
        OK(sl_image_tiles(image, &whole, v->tile_side, v->mean, v->deviation, pixels + *n_tile * tile));
        ++*n_tile;
    }
    return pixels;
}

static void pixels(void **state)
{
    (void)state;
    sl_model *model = model_of(files[0].text, files[0].projector);
    for (const struct json *e = json_get(manifest, "images")->child; e; e = e->next) {
        size_t n_tile;
        sl_image *image = picture(e->key);
        npy exact = load(e->key, "pixels");
        float *got = all_pixels(&model->hp.vision, image, &n_tile);
        assert_int_equal(n_tile, json_number(e, "tiles_with_overview", 0));
        assert_int_equal(exact.dims[0], n_tile);
        expect(e->key, "pixels", farthest(exact.data, got, exact.count), pixels_bound);
        free(got);
        free(exact.block);
        sl_image_free(image);
    }
    sl_model_free(model);
}

/* ---- the encoder, stage by stage ---- */

typedef struct stages {
    sl_vit encoder;
    int64_t n_tile;
    float *patches, *layers, *adapted, *vectors;        /* [.., tile] */
} stages;

static void run_stages(sl_pass *p, const sl_model *model, const void *what)
{
    const stages *s = what;
    const sl_vision *v = &model->hp.vision;
    const int64_t pixels_of = 3 * (int64_t)v->patch_side * v->patch_side;
    const sl_picture picture = { .patches = sl_view_slots(sl_view_heads(sl_pass_input(p, SL_TYPE_F32, pixels_of * v->n_patch * s->n_tile, s->patches), pixels_of)) };
    for (int64_t t = 0; t < s->n_tile; t++) {
        sl_tensor x = sl_vit_layers(p, v, &s->encoder, sl_view_tokens(picture.patches, t * v->n_patch, v->n_patch));
        sl_pass_output(p, x, s->layers + t * v->n_embd * v->n_patch);
        sl_pass_output(p, sl_vit_adapt(p, v, &s->encoder, x), s->adapted + t * v->n_adapter * v->n_vector);
    }
    sl_pass_output(p, sl_vit_encode(p, &model->hp, &s->encoder, &picture), s->vectors);
}

static void fill_patches(stages *s, const sl_vision *v, const float *from)
{
    const size_t side = v->tile_side, P = v->patch_side, per_side = side / P, n = (size_t)s->n_tile * 3 * side * side;
    for (size_t i = 0; i < n; i++) {
        const size_t x = i % side, y = i / side % side, c = i / side / side % 3, t = i / side / side / 3;
        s->patches[((((t * per_side + y / P) * per_side + x / P) * 3 + c) * P + y % P) * P + x % P] = from[i];
    }
}

static void compare_stage(const char *stem, const char *what, const float *got)
{
    if (!is_there(stem, what))
        return;
    npy exact = load(stem, what);
    expect(stem, what, farthest(exact.data, got, exact.count), states_bound);
    free(exact.block);
}

static void encode_picture(sl_model *model, stages *s, const char *stem, const char *name)
{
    const sl_vision *v = &model->hp.vision;
    const sl_device *d = &model->devices[0];
    sl_plan plan;
    void *arena = NULL;
    npy from = load(name, "pixels");
    s->n_tile = (int64_t)from.dims[0];
    const size_t n_tile = from.dims[0];
    s->patches = malloc(from.count * sizeof(float)), s->layers = malloc(n_tile * v->n_embd * v->n_patch * sizeof(float));
    s->adapted = malloc(n_tile * v->n_adapter * v->n_vector * sizeof(float)), s->vectors = malloc(n_tile * model->hp.n_embd * v->n_vector * sizeof(float));
    fill_patches(s, v, from.data);
    OK(sl_plan_make(&plan, model, run_stages, s));
    OK(d->backend->alloc(d->handle, plan.arena[0], &arena));
    OK(sl_plan_run(&plan, model, &arena, run_stages, s, NULL));
    compare_stage(stem, "encoder", s->layers);
    compare_stage(stem, "adapter", s->adapted);
    compare_stage(stem, "vectors", s->vectors);
    d->backend->free(d->handle, arena, plan.arena[0]);
    sl_plan_free(&plan);
    free(s->patches), free(s->layers), free(s->adapted), free(s->vectors);
    free(from.block);
}

static void encoder_stages(void **state)
{
    (void)state;
    stages s = { .n_tile = 0 };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model;
    char projector[1024];
    snprintf(projector, sizeof projector, "%s", path_of(files[0].projector));
    o.in_place = 1, o.n_threads = 2, o.projector = projector;       /* the files stay open: the encoder is bound once more */
    OK(sl_model_load(&model, path_of(files[0].text), &o));
    sl_loader loader = { .model = model, .options = &o };
    OK(sl_vit_bind(&loader, &s.encoder));
    OK(sl_loader_place(&loader));
    sl_loader_close(&loader);
    unsigned n = 0;
    for (const struct json *c = json_get(manifest, "cases")->child; c; c = c->next)
        for (const struct json *e = json_get(c, "images") ? json_get(c, "images")->child : NULL; e; e = e->next, n++)
            encode_picture(model, &s, c->key, e->text);
    assert_int_equal(n, 3);
    sl_vit_free(&s.encoder, &model->mem);
    sl_model_free(model);
}

/* ---- logits ---- */

/* Rows of all positions, with tokens in batches of `n_batch`; for free(). */
static float *all_rows(sl_model *model, const story *s, uint32_t n_batch)
{
    const sl_session_options o = { .size = sizeof o, .cache_type = "f32", .n_ctx = 512, .n_batch = n_batch };
    float *rows = malloc(s->n_ids * model->hp.n_vocab * sizeof *rows);
    sl_session *session;
    OK(sl_session_create(&session, model, &o));
    for (size_t i = 0; i < s->n_images; i++)
        OK(sl_session_add_image(session, s->images[i]));
    OK(sl_session_eval(session, s->ids, s->n_ids, rows, s->n_ids));
    assert_int_equal(sl_session_images(session), s->n_images);
    sl_session_free(session);
    return rows;
}

static void logits(void **state)
{
    (void)state;
    unsigned n = 0;
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        sl_model *model = model_of(files[f].text, files[f].projector);
        for (const struct json *c = json_get(manifest, "cases")->child; c; c = c->next) {
            char what[32], greedy[32];
            snprintf(what, sizeof what, "logits%s", files[f].suffix);
            snprintf(greedy, sizeof greedy, "greedy%s", files[f].suffix);
            if (!json_get(c, "images") || !is_there(c->key, what))
                continue;
            story s = tell(c->key);
            npy exact = load(c->key, what);
            float *rows = all_rows(model, &s, 50), *others = all_rows(model, &s, 7);
            assert_int_equal(exact.dims[0], s.n_ids);
            expect(c->key, what, farthest(exact.data, rows, exact.count), logits_bound);
            assert_memory_equal(rows, others, exact.count * sizeof *rows);
            follow(model, &s, json_get(c, greedy));
            free(rows), free(others), free(exact.block);
            forget(&s);
            n++;
        }
        sl_model_free(model);
    }
    assert_int_equal(n, 4);
}

/* Whatever level computes, by however many threads, in whatever batches. */
static void same_bytes(void **state)
{
    (void)state;
    static const struct { uint32_t n_threads, n_batch; } ways[] = { { 1, 512 }, { 2, 1 }, { 3, 64 }, { 5, 2 } };
    char projector[1024];
    snprintf(projector, sizeof projector, "%s", path_of(files[1].projector));
    story s = tell("image-wide");
    float *expected = NULL;
    size_t bytes = 0;
    int runs = 0;
    for (int level = 0; eval_levels[level]; level++)
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            sl_model_options o = SL_MODEL_OPTIONS_INIT;
            sl_model *model;
            o.cpu_level = eval_levels[level], o.n_threads = ways[w].n_threads, o.projector = projector;
            const sl_status status = sl_model_load(&model, path_of(files[1].text), &o);
            if (status == SL_ERR_UNSUPPORTED && level)
                break;
            OK(status);
            float *rows = all_rows(model, &s, ways[w].n_batch);
            bytes = s.n_ids * model->hp.n_vocab * sizeof *rows;
            if (expected && memcmp(rows, expected, bytes))
                fail_msg("level %s, %u threads, batches of %u: other bytes", eval_levels[level], ways[w].n_threads, ways[w].n_batch);
            if (expected)
                free(rows);
            else
                expected = rows;
            sl_model_free(model);
            runs++;
        }
    print_message("%d ways, the same %zu bytes\n", runs, bytes);
    free(expected);
    forget(&s);
}

/* ---- the tokens of a picture ---- */

/* What sl_image_encode() writes stands in the prompts of the reference. */
static void spelling(void **state)
{
    (void)state;
    sl_model *model = model_of(files[0].text, files[0].projector);
    for (const struct json *c = json_get(manifest, "cases")->child; c; c = c->next) {
        if (!json_get(c, "images"))
            continue;
        story s = tell(c->key);
        sl_token ids[MOST_IDS];
        size_t n, at = 0;
        assert_int_equal(sl_image_encode(model, s.images[0], NULL, 0, &n), SL_ERR_BUFFER);
        OK(sl_image_encode(model, s.images[0], ids, MOST_IDS, &n));
        while (at < s.n_ids && s.ids[at] != ids[0])
            at++;
        assert_true(at + n <= s.n_ids);
        assert_memory_equal(s.ids + at, ids, n * sizeof *ids);
        forget(&s);
    }
    sl_model_free(model);
}

/* ---- going back ---- */

static int32_t no_bytes(const void *data, uint64_t bytes, void *user) { return (void)data, (void)bytes, (void)user, 1; }

/* Back into the middle of a picture and on, from any place, gives the same bytes; before it, the picture is gone. */
static void rewinds(void **state)
{
    (void)state;
    sl_model *model = model_of(files[0].text, files[0].projector);
    story s = tell("image-wide");
    const size_t n_vocab = model->hp.n_vocab;
    float *rows = all_rows(model, &s, 50), *again = malloc(s.n_ids * n_vocab * sizeof *again);
    sl_session *session = open_session(model, &s);
    OK(sl_session_eval(session, s.ids, s.n_ids, NULL, 0));
    for (size_t at = s.n_ids - 1; at > 18; at -= 5) {       /* the first vector stands at position 18 */
        size_t kept;
        OK(sl_session_keep_prefix(session, s.ids, at + 1, &kept));
        assert_int_equal(kept, at);
        OK(sl_session_eval(session, s.ids + at, s.n_ids - at, again, s.n_ids - at));
        assert_memory_equal(again, rows + at * n_vocab, (s.n_ids - at) * n_vocab * sizeof *again);
        assert_int_equal(sl_session_images(session), 1);
    }
    assert_int_equal(sl_state_write(session, 0, no_bytes, NULL), SL_ERR_UNSUPPORTED);
    OK(sl_session_rewind(session, 18));
    assert_int_equal(sl_session_images(session), 0);
    assert_int_equal(sl_session_eval(session, s.ids + 18, 1, NULL, 0), SL_ERR_STATE);
    OK(sl_session_add_image(session, s.images[0]));
    OK(sl_session_eval(session, s.ids + 18, s.n_ids - 18, again, 1));
    assert_memory_equal(again, rows + (s.n_ids - 1) * n_vocab, n_vocab * sizeof *again);
    sl_session_free(session);
    free(rows), free(again);
    forget(&s);
    sl_model_free(model);
}

/* ---- text about pictures ---- */

/* However likely it is, what stands for vectors of a picture is not chosen, and not expected where the text repeats itself. */
static void no_picture_is_made_up(void **state)
{
    (void)state;
    sl_model *model = model_of(files[0].text, files[0].projector);
    story s = tell("image-1tile");
    sl_session *session = open_session(model, &s);
    sl_sampler *sampler;
    const double bias[] = { model->hp.vision.token, 1000 };
    OK(sl_sampler_create(&sampler, model->hp.n_vocab, 1, NULL));
    OK(sl_sampler_add(sampler, "logit-bias", bias, 2));
    OK(sl_sampler_add(sampler, "top-k", (const double[]) { 1 }, 1));
    for (uint32_t lookup = 0; lookup < 5; lookup += 4) {
        const sl_generate_options o = { .size = sizeof o, .max_tokens = 12, .sampler = sampler, .lookup = lookup, .reuse = 1 };
        OK(sl_generate(session, s.ids, s.n_ids, &o, NULL));
        for (size_t i = s.n_ids; i < sl_session_length(session); i++)
            assert_int_not_equal(sl_session_tokens(session)[i], model->hp.vision.token);
        assert_int_equal(sl_session_images(session), s.n_images);
    }
    sl_sampler_free(sampler);
    sl_session_free(session);
    forget(&s);
    sl_model_free(model);
}

/* ---- one file ---- */

/* Names of projector files, and those of one-file layouts; what stands behind "v.blk.N." is looked up without that. */
static const char *const tensor_names[][2] = {
    { "v.class_embd", "v.class_embedding" }, { "v.position_embd.weight", "v.positional_embedding_vlm" }, { "v.patch_embd.weight", "v.patch_embedding.weight" },
    { "v.pre_ln.weight", "v.layernorm_pre.weight" }, { "v.pre_ln.bias", "v.layernorm_pre.bias" }, { "v.post_ln.weight", "v.layernorm_post.weight" },
    { "v.post_ln.bias", "v.layernorm_post.bias" }, { "mm.model.mlp.1.weight", "v.vision_adapter.mlp.fc1.weight" }, { "mm.model.mlp.2.weight", "v.vision_adapter.mlp.fc2.weight" },
    { "mm.model.fc.weight", "mm.linear_1.weight" }, { "ln1.weight", "attn_norm.weight" }, { "ln1.bias", "attn_norm.bias" }, { "ln2.weight", "ffn_norm.weight" },
    { "ln2.bias", "ffn_norm.bias" }, { "attn_out.weight", "attn_output.weight" }, { "attn_out.bias", "attn_output.bias" }, { "ffn_up.weight", "mlp.fc1.weight" },
    { "ffn_up.bias", "mlp.fc1.bias" }, { "ffn_down.weight", "mlp.fc2.weight" }, { "ffn_down.bias", "mlp.fc2.bias" },
};
static const char *const same_keys[] = { "block_count", "embedding_length", "feed_forward_length", "attention.head_count", "image_size", "patch_size" };

static void rename_tensor(char *to, size_t size, const char *from)
{
    size_t layer = 0;
    if (!strncmp(from, "v.blk.", 6))
        layer = 7 + strcspn(from + 6, ".");
    snprintf(to, size, "%s", from);
    for (size_t i = 0; i < sizeof tensor_names / sizeof *tensor_names; i++)
        if (!strcmp(from + layer, tensor_names[i][0]))
            snprintf(to + layer, size - layer, "%s", tensor_names[i][1]);
}

/* A parsed file of the fixtures. */
typedef struct parsed { sl_gguf gguf; unsigned char *data; } parsed;

static parsed parse(const char *name, const sl_mem *mem)
{
    char full[128];
    size_t size;
    uint64_t need;
    parsed p;
    snprintf(full, sizeof full, FOLDER "%s", name);
    p.data = fixture_load(full, &size);
    OK(sl_gguf_parse(&p.gguf, mem, p.data, size, size, &need));
    return p;
}

static void put_tensors(sl_gguf_writer *w, const parsed *p, int renamed, const char *without)
{
    for (size_t i = 0; i < p->gguf.n_tensors; i++) {
        const sl_gguf_tensor *t = &p->gguf.tensors[i];
        char name[SL_LIMIT_TENSOR_NAME_BYTES];
        snprintf(name, sizeof name, "%s", t->name);
        if (renamed)
            rename_tensor(name, sizeof name, t->name);
        if (!without || strcmp(name, without))
            sl_gguf_put_tensor(w, name, t->type, t->n_dims, t->ne, p->data + t->offset, NULL, NULL);
    }
}

/* Text and projector in one file, as the other converter writes it; one tensor may be left out. */
static gguf_bytes join(const char *without, uint32_t shuffle_percent)
{
    gguf_bytes file = { 0 };
    sl_mem mem;
    sl_gguf_writer *w;
    OK(sl_mem_init(&mem, NULL));
    parsed text = parse(files[0].text, &mem), projector = parse(files[0].projector, &mem);
    OK(sl_gguf_writer_create(&w, &mem, 3, 0));
    for (size_t i = 0; i < text.gguf.n_kv; i++)
        sl_gguf_put_value(w, text.gguf.kv[i].key, &text.gguf.kv[i].value);
    for (size_t i = 0; i < sizeof same_keys / sizeof *same_keys; i++) {
        char from[96], to[96];
        uint32_t value;
        snprintf(from, sizeof from, "clip.vision.%s", same_keys[i]);
        snprintf(to, sizeof to, "llama4.vision.%s", same_keys[i]);
        OK(sl_gguf_u32(&projector.gguf, from, &value));
        sl_gguf_put_int(w, to, SL_META_U32, value);
    }
    sl_gguf_put_float(w, "llama4.vision.layer_norm_epsilon", SL_META_F32, 1e-5);
    sl_gguf_put_float(w, "llama4.vision.rope.freq_base", SL_META_F32, 10000);
    sl_gguf_put_float(w, "llama4.vision.pixel_shuffle_ratio", SL_META_F32, shuffle_percent / 100.0);
    sl_gguf_put_int(w, "llama4.use_qk_norm", SL_META_BOOL, 1);
    sl_gguf_put_int(w, "llama4.attention.chunk_size", SL_META_U32, 8192);
    put_tensors(w, &text, 0, NULL);
    put_tensors(w, &projector, 1, without);
    OK(sl_gguf_write(w, gguf_bytes_put, &file));
    sl_gguf_writer_free(w);
    sl_gguf_free(&text.gguf, &mem), sl_gguf_free(&projector.gguf, &mem);
    free(text.data), free(projector.data);
    return file;
}

static sl_status load_bytes(sl_model **model, const gguf_bytes *file)
{
    const sl_source source = source_of(file->data, file->size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 2;
    return sl_model_load_sources(model, sources, 1, &o);
}

static void one_file(void **state)
{
    (void)state;
    gguf_bytes file = join(NULL, 50);
    sl_model *one, *two = model_of(files[0].text, files[0].projector);
    OK(load_bytes(&one, &file));
    story s = tell("image-wide");
    float *a = all_rows(one, &s, 50), *b = all_rows(two, &s, 50);
    assert_memory_equal(a, b, s.n_ids * one->hp.n_vocab * sizeof *a);
    assert_string_equal(one->layout.sentence, "one file");
    assert_string_equal(two->layout.sentence, "two files");
    free(a), free(b);
    forget(&s);
    sl_model_free(one), sl_model_free(two);
    gguf_bytes_free(&file);
}

/* ---- what is wrong with files ---- */

static void wrong_files(void **state)
{
    (void)state;
    static const struct { const char *without; uint32_t shuffle_percent; sl_status status; const char *said; } rows[] = {
        { "v.class_embedding", 50, SL_ERR_MISSING, "v.class_embd" }, { "v.positional_embedding_vlm", 50, SL_ERR_MISSING, "v.position_embd.weight" },
        { "v.blk.2.mlp.fc2.bias", 50, SL_ERR_MISSING, "v.blk.2.ffn_down.bias" }, { "v.vision_adapter.mlp.fc1.weight", 50, SL_ERR_MISSING, "mm.model.mlp.1.weight" },
        { "mm.linear_1.weight", 50, SL_ERR_MISSING, "mm.model.fc.weight" }, { NULL, 25, SL_ERR_UNSUPPORTED, "joined 2 by 2 only" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        gguf_bytes file = join(rows[i].without, rows[i].shuffle_percent);
        sl_model *model;
        assert_int_equal(load_bytes(&model, &file), rows[i].status);
        if (!strstr(sl_last_error(), rows[i].said))
            fail_msg("'%s' does not say '%s'", sl_last_error(), rows[i].said);
        gguf_bytes_free(&file);
    }
}

/* Projector files of other models, and none where the prompt has pictures. */
static void wrong_projectors(void **state)
{
    (void)state;
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model;
    char other[1024], text[1024];
    snprintf(other, sizeof other, "%s/mllama-tiny/split-projector-f32.gguf", getenv("SL_FIXTURES"));
    snprintf(text, sizeof text, "%s", path_of(files[0].text));
    o.projector = other;
    assert_int_equal(sl_model_load(&model, text, &o), SL_ERR_MISSING);
    assert_non_null(strstr(sl_last_error(), "clip.projector_type"));
    o.projector = NULL;
    OK(sl_model_load(&model, text, &o));
    story s = tell("image-1tile");
    sl_session *session;
    size_t n;
    OK(sl_session_create(&session, model, NULL));
    assert_int_equal(sl_session_add_image(session, s.images[0]), SL_ERR_UNSUPPORTED);
    assert_int_equal(sl_image_encode(model, s.images[0], NULL, 0, &n), SL_ERR_UNSUPPORTED);
    OK(sl_session_eval(session, s.ids, s.n_ids, NULL, 0));      /* without an encoder <|patch|> is a token like any other */
    sl_session_free(session);
    forget(&s);
    sl_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pixels), cmocka_unit_test(encoder_stages), cmocka_unit_test(logits), cmocka_unit_test(same_bytes),
                                        cmocka_unit_test(spelling), cmocka_unit_test(rewinds), cmocka_unit_test(no_picture_is_made_up),
                                        cmocka_unit_test(one_file), cmocka_unit_test(wrong_files), cmocka_unit_test(wrong_projectors) };
    return cmocka_run_group_tests_name("llama4_vision", tests, prepare, clean);
}
