/* SPDX-License-Identifier: MIT */
/* Models of architecture mllama, and projector files, with one thing wrong. Every one is loaded packed and in place; whatever is wrong must be said with the key or
 * tensor or file that is to blame, nothing may leak, and a right model must load and compute the same numbers afterwards. Keys and tensors that it shares with
 * the architecture llama: hostile.c. */
#include "check.h"
#include "counting.h"
#include "mllama_build.h"
#include "type.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <spacellama/spacellama.h>

#define V "mllama.vision."
#define CROSS "mllama.attention.cross_attention_layers"
#define KEPT V "intermediate_layers_indices"

enum { N_VOCAB = 20 };
static const mllama_spec shape = { .n_vocab = N_VOCAB, .n_ff = 24, .seed = 6 };

static counting memory;
static sl_image *image;
static float right_logits[N_VOCAB];

/* ---- loading ---- */

/* A file in memory; data NULL: there is none. */
typedef struct bytes { unsigned char *data; size_t size; } bytes;

static bytes written(const tiny *t)
{
    bytes b;
    b.data = tiny_write(t, &b.size);
    return b;
}

static sl_status load(sl_model **model, const bytes *file, const bytes *projector, uint32_t in_place)
{
    const sl_allocator allocator = counting_allocator(&memory);
    const sl_source source = { .size = sizeof source, .data = file->data, .length = file->size, .name = "hostile.gguf" }, *sources[] = { &source };
    const sl_source second = { .size = sizeof second, .data = projector ? projector->data : NULL, .length = projector ? projector->size : 0, .name = "projector.gguf" };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 1, o.in_place = in_place, o.allocator = &allocator, o.projector_source = projector ? &second : NULL;
    return sl_model_load_sources(model, sources, 1, &o);
}

/* A picture and three tokens. */
static sl_status compute(sl_model *model, float *logits)
{
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    sl_session *session = NULL;
    o.n_ctx = 8;
    sl_status status = sl_session_create(&session, model, &o);
    if (status == SL_OK)
        status = sl_session_add_image(session, image);
    if (status == SL_OK)
        status = sl_session_eval(session, (const sl_token[]) { 1, N_VOCAB, 5 }, 3, logits, 1);
    sl_session_free(session);
    return status;
}

static void no_leak(const char *id)
{
    if (memory.live_blocks || memory.wrong)
        fail_msg("%s: %zu blocks were not freed, %d wrong sizes", id, memory.live_blocks, memory.wrong);
}

static void right_model(const char *id)
{
    tiny *t = mllama_create(&shape);
    bytes file = written(t);
    sl_model *model = NULL;
    float logits[N_VOCAB];
    if (load(&model, &file, NULL, 0) != SL_OK || compute(model, logits) != SL_OK)
        fail_msg("after %s a right model fails: %s", id, sl_last_error());
    sl_model_free(model);
    if (isnan(right_logits[0]))
        memcpy(right_logits, logits, sizeof logits);
    if (memcmp(logits, right_logits, sizeof logits))
        fail_msg("after %s a right model computes something else", id);
    free(file.data);
    tiny_free(t);
}

/* The verdict on a model in both ways of loading. Expected SL_OK: it loads, and a picture and tokens end with `computed`. */
static void verdict(const char *id, const bytes *file, const bytes *projector, sl_status expected, const char *place, sl_status computed)
{
    for (uint32_t in_place = 0; in_place < 2; in_place++) {
        sl_model *model = NULL;
        float logits[N_VOCAB];
        sl_status status = load(&model, file, projector, in_place);
        if (status != expected || !model != (status != SL_OK))
            fail_msg("%s%s: %s (%s), expected %s", id, in_place ? " in place" : "", sl_status_name(status), sl_last_error(), sl_status_name(expected));
        if (status != SL_OK && (!strstr(sl_last_error(), place) || (strncmp(sl_last_error(), "hostile.gguf: ", 14) && strncmp(sl_last_error(), "projector.gguf: ", 16))))
            fail_msg("%s: '%s' does not name a file and %s", id, sl_last_error(), place);
        if (status == SL_OK && (status = compute(model, logits)) != computed)
            fail_msg("%s: computing: %s (%s), expected %s", id, sl_status_name(status), sl_last_error(), sl_status_name(computed));
        sl_model_free(model);
        no_leak(id);
    }
}

static void verdict_of(const char *id, tiny *t, sl_status expected, const char *place, sl_status computed)
{
    bytes file = written(t);
    verdict(id, &file, NULL, expected, place, computed);
    free(file.data);
    tiny_free(t);
}

/* ---- keys ---- */

enum edit { NUMBER, SIGNED, LONG, REAL, TEXT, INTS, REALS, BYTES, NO_KEY };

static void put_array(tiny *t, const char *key, uint32_t element, const void *values, uint64_t count, size_t width)
{
    unsigned char value[12 + 512];
    assert_true(count * width <= 512);
    memcpy(value, &element, 4);
    memcpy(value + 4, &count, 8);
    memcpy(value + 12, values, count * width);
    tiny_put(t, key, TINY_ARRAY, value, 12 + count * width);
}

typedef struct wrong_key {
    const char *id, *key;
    enum edit edit;
    double number;              /* value, or elements of the array */
    sl_status expected;
    const char *place;
    double list[4];
} wrong_key;

static void change(tiny *t, const wrong_key *w)
{
    int32_t ints[66] = { 0 };
    float reals[66] = { 0 };
    const uint64_t n = (uint64_t)(w->number > 0 ? w->number : 0);
    for (uint64_t i = 0; i < 66; i++)
        ints[i] = i < 4 ? (int32_t)w->list[i] : (int32_t)i, reals[i] = (float)w->list[i % 4];
    switch (w->edit) {
    case NUMBER: tiny_put_u32(t, w->key, (uint32_t)w->number); break;
    case SIGNED: tiny_put(t, w->key, TINY_I32, &(int32_t) { (int32_t)w->number }, 4); break;
    case LONG: tiny_put(t, w->key, TINY_U64, &(uint64_t) { UINT64_MAX - 31 }, 8); break;
    case REAL: tiny_put_f32(t, w->key, (float)w->number); break;
    case TEXT: tiny_put_text(t, w->key, "8"); break;
    case INTS: put_array(t, w->key, TINY_I32, ints, n, 4); break;
    case REALS: put_array(t, w->key, TINY_F32, reals, n, 4); break;
    case BYTES: put_array(t, w->key, TINY_U8, ints, n, 1); break;
    case NO_KEY: tiny_drop_key(t, w->key); break;
    }
}

static void one_key(const wrong_key *w)
{
    char id[160];
    tiny *t = mllama_create(&shape);
    snprintf(id, sizeof id, "%s: %s", w->key, w->id);
    change(t, w);
    verdict_of(id, t, w->expected, w->place ? w->place : w->key, SL_OK);
}

static const wrong_key rows[] = {
    { "P01 one number", V "image_mean", REALS, 1, SL_ERR_SHAPE, NULL, { 0.5 } },
    { "P01 bytes", V "image_mean", BYTES, 3, SL_ERR_TYPE, NULL, { 0 } },
    { "P01 integers", V "image_std", INTS, 3, SL_ERR_TYPE, NULL, { 1, 1, 1 } },
    { "P01 scalar", V "image_mean", REAL, 0.5, SL_ERR_TYPE, NULL, { 0 } },
    { "P01 text", V "image_std", TEXT, 0, SL_ERR_TYPE, NULL, { 0 } },
    { "P01 empty", V "image_std", REALS, 0, SL_ERR_SHAPE, NULL, { 0 } },
    { "P01 four numbers", V "image_std", REALS, 4, SL_ERR_SHAPE, NULL, { 1, 1, 1, 1 } },
    { "P01 not a number", V "image_mean", REALS, 3, SL_ERR_RANGE, NULL, { 0.5, NAN, 0.5 } },
    { "P01 divisor zero", V "image_std", REALS, 3, SL_ERR_RANGE, NULL, { 0.5, 0.5, 0 } },
    { "P01 divisor negative", V "image_std", REALS, 3, SL_ERR_RANGE, NULL, { 0.5, -0.5, 0.5 } },
    { "P01 huge", V "image_mean", REALS, 3, SL_ERR_RANGE, NULL, { 1e30, 0, 0 } },
    { "P01 right", V "image_mean", REALS, 3, SL_OK, NULL, { 0.5, 0.4, 0.3 } },
    { "P02", V "image_grid_pinpoints", INTS, 3, SL_OK, NULL, { 1, 2, 3 } },        /* of other encoders: nobody reads it */
    { "P03 zero", V "patch_size", NUMBER, 0, SL_ERR_RANGE, NULL, { 0 } },
    { "P03 one", V "patch_size", NUMBER, 1, SL_ERR_SHAPE, "v.patch_embd.weight", { 0 } },
    { "P03 no divisor", V "patch_size", NUMBER, 3, SL_ERR_RANGE, NULL, { 0 } },
    { "P03 larger than the image", V "patch_size", NUMBER, 16, SL_ERR_RANGE, NULL, { 0 } },
    { "P03 the image", V "patch_size", NUMBER, 8, SL_ERR_SHAPE, "v.patch_embd.weight", { 0 } },
    { "P04 many patches", V "image_size", NUMBER, 4096, SL_ERR_LIMIT, V "patch_size", { 0 } },
    { "P04 larger", V "image_size", NUMBER, 46340, SL_ERR_RANGE, NULL, { 0 } },
    { "one pixel", V "image_size", NUMBER, 1, SL_ERR_RANGE, V "patch_size", { 0 } },
    { "twice", V "image_size", NUMBER, 16, SL_ERR_SHAPE, "v.position_embd.weight", { 0 } },
    { "one tile", V "max_num_tiles", NUMBER, 1, SL_ERR_SHAPE, "v.tile_position_embd.weight", { 0 } },
    { "more tiles", V "max_num_tiles", NUMBER, 5, SL_ERR_SHAPE, "v.tile_position_embd.weight", { 0 } },
    { "too many tiles", V "max_num_tiles", NUMBER, 65, SL_ERR_RANGE, NULL, { 0 } },
    { "grey", V "num_channels", NUMBER, 1, SL_ERR_UNSUPPORTED, NULL, { 0 } },
    { "four channels", V "num_channels", NUMBER, 4, SL_ERR_RANGE, NULL, { 0 } },
    { "narrow", V "embedding_length", NUMBER, 8, SL_ERR_SHAPE, "v.patch_embd.weight", { 0 } },
    { "one wide head", V "embedding_length", NUMBER, 4096, SL_ERR_SHAPE, V "attention.head_count", { 0 } },
    { "wider than the limit", V "embedding_length", NUMBER, 65537, SL_ERR_RANGE, NULL, { 0 } },
    { "no divisor", V "attention.head_count", NUMBER, 3, SL_ERR_SHAPE, NULL, { 0 } },
    { "more than elements", V "attention.head_count", NUMBER, 32, SL_ERR_SHAPE, NULL, { 0 } },
    { "one head", V "attention.head_count", NUMBER, 1, SL_OK, NULL, { 0 } },
    { "a head for each", V "attention.head_count", NUMBER, 16, SL_OK, NULL, { 0 } },
    { "one", V "feed_forward_length", NUMBER, 1, SL_ERR_SHAPE, "v.blk.0.ffn_up.weight", { 0 } },
    { "exchanged", V "feed_forward_length", NUMBER, 16, SL_ERR_SHAPE, "v.blk.0.ffn_up.weight", { 0 } },
    { "fewer", V "block_count", NUMBER, 1, SL_ERR_RANGE, KEPT, { 0 } },
    { "more", V "block_count", NUMBER, 3, SL_ERR_MISSING, "v.blk.2.attn_norm.weight", { 0 } },
    { "most", V "block_count", NUMBER, 1025, SL_ERR_RANGE, NULL, { 0 } },
    { "more", V "global.block_count", NUMBER, 2, SL_ERR_MISSING, "v.global.blk.1.attn_norm.weight", { 0 } },
    { "negative", V "attention.layer_norm_epsilon", REAL, -1e-5, SL_ERR_RANGE, NULL, { 0 } },
    { "not a number", V "attention.layer_norm_epsilon", REAL, NAN, SL_ERR_RANGE, NULL, { 0 } },
    { "infinite", V "attention.layer_norm_epsilon", REAL, INFINITY, SL_ERR_RANGE, NULL, { 0 } },
    { "integer", V "attention.layer_norm_epsilon", NUMBER, 1, SL_ERR_TYPE, NULL, { 0 } },
    { "absent", V "attention.layer_norm_epsilon", NO_KEY, 0, SL_OK, NULL, { 0 } },
    { "absent", V "num_channels", NO_KEY, 0, SL_OK, NULL, { 0 } },
    { "absent", V "max_num_tiles", NO_KEY, 0, SL_OK, NULL, { 0 } },
    { "absent", V "image_size", NO_KEY, 0, SL_ERR_LIMIT, V "patch_size", { 0 } },
    { "absent", V "patch_size", NO_KEY, 0, SL_ERR_RANGE, NULL, { 0 } },
    { "absent", V "embedding_length", NO_KEY, 0, SL_ERR_SHAPE, "v.patch_embd.weight", { 0 } },
    { "absent", V "feed_forward_length", NO_KEY, 0, SL_ERR_SHAPE, "v.blk.0.ffn_up.weight", { 0 } },
    { "absent", V "block_count", NO_KEY, 0, SL_ERR_MISSING, NULL, { 0 } },
    { "absent", V "global.block_count", NO_KEY, 0, SL_ERR_MISSING, NULL, { 0 } },
    { "absent", KEPT, NO_KEY, 0, SL_ERR_RANGE, NULL, { 0 } },
    { "out of range", KEPT, INTS, 2, SL_ERR_RANGE, NULL, { 0, 2 } },
    { "far out of range", KEPT, INTS, 2, SL_ERR_RANGE, NULL, { 0, 2147483647 } },
    { "negative", KEPT, INTS, 2, SL_ERR_RANGE, NULL, { -1, 1 } },
    { "descending", KEPT, INTS, 2, SL_ERR_RANGE, NULL, { 1, 0 } },
    { "twice", KEPT, INTS, 2, SL_ERR_RANGE, NULL, { 1, 1 } },
    { "one", KEPT, INTS, 1, SL_ERR_SHAPE, "mm.0.weight", { 1 } },
    { "none", KEPT, INTS, 0, SL_ERR_SHAPE, "mm.0.weight", { 0 } },
    { "too many", KEPT, INTS, 65, SL_ERR_LIMIT, NULL, { 0 } },
    { "floats", KEPT, REALS, 2, SL_ERR_TYPE, NULL, { 0, 1 } },
    { "scalar", KEPT, NUMBER, 1, SL_ERR_TYPE, NULL, { 0 } },
    { "text", KEPT, TEXT, 1, SL_ERR_TYPE, NULL, { 0 } },
    { "bytes", KEPT, BYTES, 2, SL_ERR_RANGE, NULL, { 0 } },         /* 0, 0 */
    { "out of range", CROSS, INTS, 2, SL_ERR_RANGE, NULL, { 1, 4 } },
    { "far out of range", CROSS, INTS, 2, SL_ERR_RANGE, NULL, { 1, 2147483647 } },
    { "negative", CROSS, INTS, 2, SL_ERR_RANGE, NULL, { -1, 1 } },
    { "twice", CROSS, INTS, 3, SL_ERR_RANGE, NULL, { 1, 3, 1 } },
    { "more than layers", CROSS, INTS, 66, SL_ERR_RANGE, NULL, { 0, 1, 2, 3 } },
    { "floats", CROSS, REALS, 2, SL_ERR_TYPE, NULL, { 1, 3 } },
    { "scalar", CROSS, NUMBER, 1, SL_ERR_TYPE, NULL, { 0 } },
    { "text", CROSS, TEXT, 1, SL_ERR_TYPE, NULL, { 0 } },
    { "absent", CROSS, NO_KEY, 0, SL_OK, NULL, { 0 } },             /* the tensors tell */
    { "none", CROSS, INTS, 0, SL_ERR_MISSING, "blk.1.attn_", { 0 } },
    { "another", CROSS, INTS, 2, SL_ERR_MISSING, "blk.0.cross_attn_q_proj.weight", { 0, 3 } },
    { "any order", CROSS, INTS, 2, SL_OK, NULL, { 3, 1 } },
    { "as in layout D", "mllama.cross_attention_layers", INTS, 2, SL_ERR_UNSUPPORTED, "layout D", { 1, 3 } },
    { "in a vision model", "mllama.expert_count", NUMBER, 4, SL_ERR_RANGE, "mllama.expert_used_count", { 0 } },
    { "of the vocabulary", "mllama.vocab_size", NUMBER, 21, SL_ERR_SHAPE, "token_embd.weight", { 0 } },
    { "of the vocabulary", "mllama.vocab_size", NUMBER, 19, SL_ERR_SHAPE, "output.weight", { 0 } },
    { "absent", "mllama.vocab_size", NO_KEY, 0, SL_ERR_MISSING, "vocab", { 0 } },
};

static void one_wrong_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        one_key(&rows[i]);
    right_model("wrong keys");
}

/* Which layers look at pictures is told by the tensors where the key is absent. */
static void layers_without_their_key(void **state)
{
    (void)state;
    tiny *t = mllama_create(&shape);
    tiny_drop_key(t, CROSS);
    bytes file = written(t);
    sl_model *model = NULL;
    float logits[N_VOCAB];
    assert_int_equal(load(&model, &file, NULL, 0), SL_OK);
    assert_int_equal(compute(model, logits), SL_OK);
    assert_memory_equal(logits, right_logits, sizeof logits);
    sl_model_free(model);
    free(file.data);
    tiny_drop(t, "blk.1.cross_attn_q_proj.weight");
    tiny_drop(t, "blk.3.cross_attn_q_proj.weight");
    verdict_of("neither the key nor tensors", t, SL_ERR_MISSING, CROSS, SL_OK);
}

/* Every number with something else in its place. */
static void every_number(void **state)
{
    (void)state;
    static const char *const keys[] = { "block_count", "global.block_count", "embedding_length", "feed_forward_length", "attention.head_count", "image_size", "patch_size",
                                        "max_num_tiles", "num_channels" };
    for (size_t i = 0; i < COUNT(keys); i++) {
        char key[64];
        snprintf(key, sizeof key, V "%s", keys[i]);
        const wrong_key wrong[] = {
            { "zero", key, NUMBER, 0, SL_ERR_RANGE, NULL, { 0 } }, { "largest", key, NUMBER, UINT32_MAX, SL_ERR_RANGE, NULL, { 0 } },
            { "huge", key, LONG, 0, SL_ERR_RANGE, NULL, { 0 } }, { "negative", key, SIGNED, -4, SL_ERR_RANGE, NULL, { 0 } },
            { "a float", key, REAL, 2, SL_ERR_TYPE, NULL, { 0 } }, { "not a number", key, REAL, NAN, SL_ERR_TYPE, NULL, { 0 } },
            { "a text", key, TEXT, 0, SL_ERR_TYPE, NULL, { 0 } }, { "an array", key, INTS, 1, SL_ERR_TYPE, NULL, { 2 } },
        };
        for (size_t k = 0; k < COUNT(wrong); k++)
            one_key(&wrong[k]);
    }
    right_model("wrong numbers");
}

/* ---- tensors ---- */

static void fill(tiny_tensor *x, float number)
{
    for (size_t i = 0; i + 4 <= x->bytes; i += 4)
        memcpy(x->data + i, &number, 4);
}

enum fault { DROP, TRANSPOSE, WIDER, FLAT, DEEPER, TYPE_I32, NOT_A_NUMBER, INFINITE, FAULTS };
static const char *const faults[] = { "absent", "transposed", "wider", "flat", "deeper", "I32", "not a number", "infinite" };

/* 0 if the tensor cannot have it. */
static int spoil(tiny *t, const char *name, enum fault fault)
{
    tiny_tensor *x = tiny_find(t, name);
    uint64_t d[5] = { x->dims[0], x->dims[1], x->dims[2], x->dims[3] }, n = d[0] * d[1] * d[2] * d[3];
    uint32_t n_dims = x->n_dims, type = x->type;
    switch (fault) {
    case DROP: tiny_drop(t, name); return 1;
    case NOT_A_NUMBER: fill(x, NAN); return 1;
    case INFINITE: fill(x, -INFINITY); return 1;
    case TRANSPOSE: d[0] = x->dims[n_dims - 1], d[n_dims - 1] = x->dims[0]; break;
    case WIDER: d[0] *= 2, n *= 2; break;
    case FLAT: d[0] = n, n_dims = 1; break;
    case DEEPER: d[n_dims++] = 2, n *= 2; break;
    default: type = SL_TYPE_I32; break;
    }
    if ((fault == TRANSPOSE && d[0] == d[x->n_dims - 1]) || (fault == FLAT && x->n_dims == 1) || n_dims > 4)
        return 0;
    tiny_reshape(x, type, d, n_dims, 4 * n);
    return 1;
}

/* Every tensor of a right model, or of its projector file, with each fault. */
static void every_tensor_of(int two_files)
{
    tiny *names = mllama_create(&shape), *text = NULL, *projector = NULL;
    if (two_files)
        mllama_split(names, &text, &projector);
    const tiny *list = two_files ? projector : names;
    unsigned n = 0;
    for (size_t i = 0; i < list->n_tensors; i++)
        for (int f = 0; f < FAULTS; f++) {
            const char *name = list->tensors[i].name;
            char id[128];
            /* What says how the tensors are called is not missed as such. */
            const char *place = !strcmp(name, "v.blk.0.ln1.weight") && f == DROP ? "v.blk.0.attn_norm.weight" : name;
            tiny *t = mllama_create(&shape), *first = NULL, *second = NULL;
            snprintf(id, sizeof id, "%s: %s", name, faults[f]);
            if (two_files)
                mllama_split(t, &first, &second);
            if ((strcmp(name, "rope_freqs.weight") || f != DROP) && spoil(two_files ? second : t, name, (enum fault)f)) {
                const sl_status expected = f == DROP ? SL_ERR_MISSING : f == TYPE_I32 ? SL_ERR_TYPE : f >= NOT_A_NUMBER ? SL_ERR_NONFINITE : SL_ERR_SHAPE;
                bytes file = written(two_files ? first : t), beside = written(two_files ? second : t);
                verdict(id, &file, two_files ? &beside : NULL, expected, place, SL_OK);
                free(file.data);
                free(beside.data);
                n++;
            }
            tiny_free(t);
            if (two_files)
                tiny_free(first), tiny_free(second);
        }
    print_message("%u wrong tensors\n", n);
    tiny_free(names);
    if (two_files)
        tiny_free(text), tiny_free(projector);
    right_model("wrong tensors");
}

static void every_tensor(void **state) { (void)state, every_tensor_of(0); }
static void every_tensor_of_a_projector(void **state) { (void)state, every_tensor_of(1); }

/* Numbers that are legal and absurd: what overflows is an error of the call, and the session goes on. */
static void absurd_numbers(void **state)
{
    (void)state;
    static const struct { const char *name; float number; sl_status computed; } absurd[] = {
        { "v.position_embd.weight", 3e38f, SL_ERR_NONFINITE }, { "v.position_embd.gate", 3e38f, SL_ERR_NONFINITE }, { "v.tile_position_embd.weight", -3e38f, SL_ERR_NONFINITE },
        { "v.blk.0.ffn_up.weight", 3e38f, SL_ERR_NONFINITE }, { "v.blk.1.attn_q.weight", 3e38f, SL_ERR_NONFINITE }, { "v.global.blk.0.attn_gate", 3e38f, SL_ERR_NONFINITE },
        { "mm.0.weight", 3e38f, SL_ERR_NONFINITE }, { "v.pre_ln.weight", 0, SL_OK }, { "v.position_embd.weight", 0, SL_OK }, { "mm.0.weight", 0, SL_OK },
        { "v.patch_embd.weight", 0, SL_OK }, { "blk.1.cross_attn_k_norm.weight", 0, SL_OK }, { "blk.1.cross_attn_attn_gate", 3e38f, SL_OK },
        { "blk.1.cross_attn_q_norm.weight", 3e38f, SL_ERR_NONFINITE },
    };
    for (size_t i = 0; i < COUNT(absurd); i++) {
        char id[96];
        tiny *t = mllama_create(&shape);
        snprintf(id, sizeof id, "%s: %g", absurd[i].name, (double)absurd[i].number);
        fill(tiny_find(t, absurd[i].name), absurd[i].number);
        verdict_of(id, t, SL_OK, NULL, absurd[i].computed);
    }
    right_model("absurd numbers");
}

/* ---- files ---- */

static void files(void **state)
{
    (void)state;
    tiny *whole = mllama_create(&shape), *text, *projector, *llama = tiny_create(NULL), *narrow, *broad, *unused, *later;
    mllama_split(whole, &text, &projector);
    tiny *other = mllama_create(&(mllama_spec) { .n_vocab = N_VOCAB, .n_embd = 48, .n_ff = 24, .seed = 6 });
    mllama_split(other, &unused, &narrow);
    bytes one = written(whole), first = written(text), second = written(projector), plain = written(llama), other_width = written(narrow), cut = written(projector);
    tiny_drop_key(narrow, "mllama.vision.projection_dim");
    bytes other_width_unsaid = written(narrow);
    tiny_put_u32(narrow, "split.count", 2);
    bytes of_two = written(narrow);
    tiny *clip_like = calloc(1, sizeof *clip_like);
    tiny_put_text(clip_like, "general.architecture", "mllama");
    bytes bare = written(clip_like);
    tiny_add(clip_like, "v.class_embd", SL_TYPE_F32, &(uint64_t) { 16 }, 1, 64);
    bytes keyless = written(clip_like);
    tiny_put_text(clip_like, "general.architecture", "clip");
    bytes clip = written(clip_like);
    mllama_split(whole, &later, &broad);
    tiny_add(broad, "v.enc.mmproj.weight", SL_TYPE_F32, &(uint64_t) { 4 }, 1, 16);
    bytes d = written(broad), empty = { cut.data, 0 }, head = { cut.data, 100 };
    cut.size -= 200;
    const struct { const char *id; const bytes *file, *projector; sl_status expected; const char *place; } pairs[] = {
        { "one file", &one, NULL, SL_OK, NULL }, { "two files", &first, &second, SL_OK, NULL },
        { "P05 projector of another width", &first, &other_width, SL_ERR_SHAPE, "projector.gguf: key mllama.vision.projection_dim: 48" },
        { "P05 without the key", &first, &other_width_unsaid, SL_ERR_SHAPE, "mm.0.weight" },
        { "a lone projector", &second, NULL, SL_ERR_UNSUPPORTED, "projector file" },
        { "files exchanged", &second, &first, SL_ERR_UNSUPPORTED, "projector file" },
        { "the text twice", &first, &first, SL_ERR_DUPLICATE, "token_embd.weight" },
        { "the projector twice", &second, &second, SL_ERR_DUPLICATE, "v." },
        { "one file and its projector", &one, &second, SL_ERR_DUPLICATE, "v.patch_embd.weight" },
        { "another model as projector", &first, &plain, SL_ERR_DUPLICATE, "projector.gguf" },
        { "a projector for another model", &plain, &second, SL_ERR_UNSUPPORTED, "projector.gguf" },
        { "a projector cut short", &first, &cut, SL_ERR_TRUNCATED, "projector.gguf" },
        { "an empty projector", &first, &empty, SL_ERR_TRUNCATED, "projector.gguf" },
        { "the head of a projector", &first, &head, SL_ERR_BOUNDS, "projector.gguf" },
        { "a projector of another architecture", &first, &clip, SL_ERR_UNSUPPORTED, "projector.gguf: key general.architecture: 'clip'" },
        { "a projector without tensors", &first, &bare, SL_ERR_MISSING, "projector.gguf: v.patch_embd.weight" },
        { "a projector that lacks a key", &first, &keyless, SL_ERR_MISSING, "projector.gguf: key 'mllama.vision.block_count'" },
        { "a projector in two parts", &first, &of_two, SL_ERR_UNSUPPORTED, "projector.gguf: a projector file in 2 parts" },
        { "layout D", &first, &d, SL_ERR_UNSUPPORTED, "layout D" },
    };
    for (size_t i = 0; i < COUNT(pairs); i++)
        verdict(pairs[i].id, pairs[i].file, pairs[i].projector, pairs[i].expected, pairs[i].place, SL_OK);
    right_model("wrong files");
    bytes *const blocks[] = { &one, &first, &second, &plain, &other_width, &other_width_unsaid, &cut, &bare, &keyless, &clip, &of_two, &d };
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]->data);
    tiny *const trees[] = { whole, text, projector, llama, other, unused, narrow, clip_like, later, broad };
    for (size_t i = 0; i < COUNT(trees); i++)
        tiny_free(trees[i]);
}

/* A projector file cut at every 97th byte. */
static void cut_anywhere(void **state)
{
    (void)state;
    tiny *whole = mllama_create(&shape), *text, *projector;
    mllama_split(whole, &text, &projector);
    bytes first = written(text), second = written(projector);
    for (size_t size = 1; size < second.size; size += 97) {
        bytes cut = { malloc(size), size };
        sl_model *model = NULL;
        memcpy(cut.data, second.data, size);
        const sl_status status = load(&model, &first, &cut, size % 2);
        /* What is missing may be no more than zeros behind the last tensor. */
        if (status != SL_ERR_TRUNCATED && status != SL_ERR_BOUNDS && !(status == SL_OK && second.size - size < 32))
            fail_msg("%zu of %zu bytes: %s (%s)", size, second.size, sl_status_name(status), sl_last_error());
        sl_model_free(model);
        no_leak("a cut projector");
        free(cut.data);
    }
    free(first.data), free(second.data);
    tiny_free(whole), tiny_free(text), tiny_free(projector);
}

/* A tensor that one of two names asks for does not stand in for both. */
static void exchanged_names(void **state)
{
    (void)state;
    static const char *const names[] = { "v.blk.0.ffn_up.weight", "v.blk.0.ffn_down.weight", "v.blk.1.ffn_up.bias", "v.global.blk.0.ffn_down.bias" };
    for (size_t i = 0; i < COUNT(names); i++) {
        tiny *t = mllama_create(&(mllama_spec) { .n_vocab = N_VOCAB, .v_ff = 16, .seed = 7 });
        tiny_drop(t, names[i]);
        verdict_of(names[i], t, SL_ERR_MISSING, names[i], SL_OK);
    }
}

/* ---- options ---- */

static void wrong_options(void **state)
{
    (void)state;
    tiny *t = mllama_create(&shape), *text, *projector;
    mllama_split(t, &text, &projector);
    bytes file = written(text), second = written(projector), one = written(t);
    const sl_source from = source_of(second.data, second.size), nothing = { .size = sizeof nothing }, sizeless = { .size = 3, .data = second.data, .length = 9 };
    const struct { const char *projector; const sl_source *source; const char *norm, *gates; sl_status expected; const char *says; } cases[] = {
        { NULL, &from, "", "", SL_OK, NULL }, { NULL, &from, "auto", "auto", SL_OK, NULL }, { NULL, &from, "stored", "raw", SL_OK, NULL }, { NULL, NULL, "reorder", "tanh", SL_OK, NULL },
        { NULL, &from, "Auto", NULL, SL_ERR_ARGUMENT, "cross_norm is 'Auto'" }, { NULL, &from, "reordered", NULL, SL_ERR_ARGUMENT, "cross_norm" },
        { NULL, &from, NULL, "cosh", SL_ERR_ARGUMENT, "global_gates is 'cosh'" }, { NULL, NULL, "tanh", NULL, SL_ERR_ARGUMENT, "cross_norm" },
        { "/nowhere/projector.gguf", &from, NULL, NULL, SL_ERR_ARGUMENT, "projector" }, { "/nowhere/projector.gguf", NULL, NULL, NULL, SL_ERR_IO, "/nowhere/projector.gguf" },
        { NULL, &nothing, NULL, NULL, SL_ERR_TRUNCATED, "too early" }, { NULL, &sizeless, NULL, NULL, SL_ERR_ARGUMENT, "size" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const sl_allocator allocator = counting_allocator(&memory);
        const sl_source source = source_of(file.data, file.size), *sources[] = { &source };
        sl_model_options o = SL_MODEL_OPTIONS_INIT;
        sl_model *model = NULL;
        o.allocator = &allocator, o.projector = cases[i].projector, o.projector_source = cases[i].source, o.cross_norm = cases[i].norm, o.global_gates = cases[i].gates;
        const sl_status status = sl_model_load_sources(&model, sources, 1, &o);
        if (status != cases[i].expected || (status != SL_OK && !strstr(sl_last_error(), cases[i].says)))
            fail_msg("case %zu: %s (%s)", i, sl_status_name(status), sl_last_error());
        sl_model_free(model);
        no_leak("options");
    }
    free(file.data), free(second.data), free(one.data);
    tiny_free(t), tiny_free(text), tiny_free(projector);
}

/* Looking at files that cannot be run says what they are. */
static void what_is_said_of_them(void **state)
{
    (void)state;
    tiny *whole = mllama_create(&shape), *text, *projector;
    mllama_split(whole, &text, &projector);
    const struct { tiny *t; const char *says; } looks[] = {
        { whole, "one file (layout L1)" }, { text, "text part only" }, { projector, "not usable: this is the projector file" },
    };
    for (size_t i = 0; i < COUNT(looks); i++) {
        bytes file = written(looks[i].t);
        const sl_source source = source_of(file.data, file.size), *sources[] = { &source };
        sl_model_options o = SL_MODEL_OPTIONS_INIT;
        sl_model_info info = { .size = sizeof info };
        sl_model *model = NULL;
        o.parts = SL_PARTS_METADATA;
        assert_int_equal(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
        assert_int_equal(sl_model_get_info(model, &info), SL_OK);
        if (!strstr(info.vision, looks[i].says))
            fail_msg("'%s' does not say '%s'", info.vision, looks[i].says);
        sl_model_free(model);
        free(file.data);
    }
    tiny_free(whole), tiny_free(text), tiny_free(projector);
}

static int prepare(void **state)
{
    (void)state;
    image = mllama_picture(20, 13, 1);
    right_logits[0] = NAN;
    right_model("nothing");
    return 0;
}

static int clean(void **state)
{
    (void)state;
    sl_image_free(image);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_wrong_key), cmocka_unit_test(layers_without_their_key), cmocka_unit_test(every_number), cmocka_unit_test(every_tensor), cmocka_unit_test(every_tensor_of_a_projector),
        cmocka_unit_test(absurd_numbers), cmocka_unit_test(files), cmocka_unit_test(cut_anywhere), cmocka_unit_test(exchanged_names), cmocka_unit_test(wrong_options),
        cmocka_unit_test(what_is_said_of_them),
    };
    return cmocka_run_group_tests_name("mllama_hostile", tests, prepare, clean);
}
