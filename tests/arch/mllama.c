/* SPDX-License-Identifier: MIT */
/* Architecture mllama against the reference data: logits and greedy continuations, in every layout of files. What leads there: mllama_stages.c. */
#include "gguf_build.h"
#include "mllama_reference.h"

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

/* ---- logits ---- */

static void logits(void **state)
{
    (void)state;
    static const struct { const char *file, *projector, *logits, *greedy; } files[] = {
        { ONE_FILE, NULL, "logits", "greedy" }, { "model-f16.gguf", NULL, "logits-f16", "greedy-f16" },
        { "split-text-f32.gguf", "split-projector-f32.gguf", "logits", "greedy" },
    };
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        sl_model *model = model_of(files[f].file, files[f].projector);
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
    sl_model *one = model_of(ONE_FILE, NULL), *two = model_of("split-text-f32.gguf", "split-projector-f32.gguf");
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
    const sl_source source = source_of(file->data, file->size), *const sources[] = { &source };
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
    sl_model *whole = model_of(ONE_FILE, NULL), *alone = model_of("split-text-f32.gguf", NULL);
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
    sl_model *model = model_of(ONE_FILE, NULL);
    sl_model_info info = { .size = sizeof info };
    OK(sl_model_get_info(model, &info));
    assert_string_equal(info.architecture, "mllama");
    assert_true(info.n_vocab == 512 && info.image_token == 512 && info.tile_side == 56 && info.max_tiles == 4 && info.n_layer == 6);
    sl_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits), cmocka_unit_test(two_files_are_one),
        cmocka_unit_test(reordered_rows), cmocka_unit_test(raw_gates), cmocka_unit_test(text_part_alone), cmocka_unit_test(what_the_files_say),
    };
    return cmocka_run_group_tests_name("mllama", tests, prepare, clean);
}
