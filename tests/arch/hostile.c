/* SPDX-License-Identifier: MIT */
/* hostile.c - llama models with wrong hyper-parameters and wrong tensors. Every one is loaded packed and in place; whatever is wrong must be said
 * with the key or tensor that is to blame, nothing may leak, and a right model must load and compute the same numbers afterwards. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "counting.h"
#include "tiny.h"
#include "type.h"

#define L "llama."

/* ---- loading ---- */

enum { N_VOCAB = 24, LOG_BYTES = 4096 };

static counting memory;
static char log_text[LOG_BYTES];
static float right_logits[N_VOCAB];

static void take_line(int32_t level, const char *line, void *user)
{
    (void)level, (void)user;
    strncat(log_text, line, LOG_BYTES - strlen(log_text) - 1);
    strncat(log_text, "\n", LOG_BYTES - strlen(log_text) - 1);
}

static sl_status load(sl_model **model, const unsigned char *data, size_t size, uint32_t in_place)
{
    const sl_allocator allocator = counting_allocator(&memory);
    const sl_source source = { .size = sizeof source, .data = data, .length = size, .name = "hostile.gguf" }, *sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 2, o.in_place = in_place, o.log = take_line, o.allocator = &allocator;
    log_text[0] = 0;
    return sl_model_load_sources(model, sources, 1, &o);
}

/* Two tokens through a session of 8 positions. */
static sl_status compute(sl_model *model, float *logits)
{
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    sl_session *session = NULL;
    o.n_ctx = 8;
    sl_status status = sl_session_create(&session, model, &o);
    if (status == SL_OK)
        status = sl_session_eval(session, (const sl_token[]) { 1, 5 }, 2, logits, 1);
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
    size_t size;
    float logits[N_VOCAB];
    unsigned char *data = tiny_file(NULL, &size);
    sl_model *model = NULL;
    if (load(&model, data, size, 0) != SL_OK || compute(model, logits) != SL_OK)
        fail_msg("after %s a right model fails: %s", id, sl_last_error());
    sl_model_free(model);
    free(data);
    if (isnan(right_logits[0]))
        memcpy(right_logits, logits, sizeof logits);
    if (memcmp(logits, right_logits, sizeof logits))
        fail_msg("after %s a right model computes something else", id);
}

/* The verdict on a model, in both ways of loading. `expected` SL_OK: it loads, and two tokens of it end with `computed`. */
static void verdict(const char *id, const tiny *t, size_t cut, sl_status expected, const char *place, sl_status computed)
{
    size_t size;
    unsigned char *whole = tiny_write(t, &size), *data = malloc(size - cut);
    assert_non_null(data);
    memcpy(data, whole, size - cut);
    free(whole);
    for (uint32_t in_place = 0; in_place < 2; in_place++) {
        sl_model *model = NULL;
        float logits[4 * N_VOCAB];
        sl_status status = load(&model, data, size - cut, in_place);
        if (status != expected || !model != (status != SL_OK))
            fail_msg("%s%s: %s (%s), expected %s", id, in_place ? " in place" : "", sl_status_name(status), sl_last_error(), sl_status_name(expected));
        if (status != SL_OK && (!strstr(sl_last_error(), place) || strncmp(sl_last_error(), "hostile.gguf: ", 14)))
            fail_msg("%s: '%s' does not name the file and %s", id, sl_last_error(), place);
        if (status == SL_OK && place && !strstr(log_text, place))
            fail_msg("%s: the log '%s' does not name %s", id, log_text, place);
        if (status == SL_OK && (status = compute(model, logits)) != computed)
            fail_msg("%s: computing: %s (%s)", id, sl_status_name(status), sl_last_error());
        sl_model_free(model);
        no_leak(id);
    }
    free(data);
    right_model(id);
}

/* ---- one wrong thing ---- */

/* What is done to a right model. U64 to NEGATIVE put a key; the array has `number` elements 4. */
typedef enum edit { NOTHING, U32, F32, TEXT, ARRAY, NEGATIVE, HUGE, DROP_KEY, DROP, TRANSPOSE, WIDER, FLAT, DEEPER, TYPE_I32, ADD, CUT, FILL } edit;

typedef struct hostile {
    const char *id;
    edit edit;
    const char *name;           /* key or tensor */
    double number;              /* value; bytes to cut off; number to fill with */
    sl_status expected;
    const char *place;          /* what the sentence names, or, of a model that loads, the log */
    int experts;                /* 1: of a model with 4 experts, 2 used */
    const char *text;
    sl_status computed;
} hostile;

static void fill(tiny_tensor *x, float number)
{
    for (size_t i = 0; i + 4 <= x->bytes; i += 4)
        memcpy(x->data + i, &number, 4);
}

static void reshape(tiny *t, const hostile *row)
{
    tiny_tensor *x = tiny_find(t, row->name);
    uint64_t d[4] = { x->dims[0], x->dims[1], x->dims[2], x->dims[3] }, n = d[0] * d[1] * d[2] * d[3];
    uint32_t n_dims = x->n_dims, type = x->type;
    switch (row->edit) {
    case TRANSPOSE: d[0] = x->dims[1], d[1] = x->dims[0]; break;
    case WIDER: d[0] *= 2, n *= 2; break;
    case FLAT: d[0] = n, n_dims = 1; break;
    case DEEPER: d[n_dims++] = 2, n *= 2; break;
    default: type = SL_TYPE_I32; break;
    }
    tiny_reshape(x, type, d, n_dims, 4 * n);
}

static void change(tiny *t, const hostile *row)
{
    static const uint32_t fours[2048] = { 4, 4 };
    switch (row->edit) {
    case NOTHING: case CUT: break;
    case U32: tiny_put_u32(t, row->name, (uint32_t)row->number); break;
    case F32: tiny_put_f32(t, row->name, (float)row->number); break;
    case TEXT: tiny_put_text(t, row->name, row->text); break;
    case ARRAY: tiny_put_array_u32(t, row->name, fours, (uint64_t)row->number); break;
    case NEGATIVE: tiny_put(t, row->name, TINY_I32, &(int32_t) { -4 }, 4); break;
    case HUGE: tiny_put(t, row->name, TINY_U64, &(uint64_t) { UINT64_MAX - 31 }, 8); break;
    case DROP_KEY: tiny_drop_key(t, row->name); break;
    case DROP: tiny_drop(t, row->name); break;
    case ADD: fill(tiny_add(t, row->name, SL_TYPE_F32, &(uint64_t) { 4 }, 1, 16), (float)row->number); break;
    case FILL: fill(tiny_find(t, row->name), (float)row->number); break;
    case TRANSPOSE: case WIDER: case FLAT: case DEEPER: case TYPE_I32: reshape(t, row); break;
    }
}

#define ARCH "general.architecture"
#define FREQS "rope_freqs.weight"
static const hostile rows[] = {
    { "M00", NOTHING, NULL, 0, SL_OK, NULL },
    { "M00 with experts", NOTHING, NULL, 0, SL_OK, NULL, .experts = 1 },
    { "M01", DROP_KEY, ARCH, 0, SL_ERR_MISSING, ARCH },
    { "M02", U32, ARCH, 7, SL_ERR_TYPE, ARCH },
    { "M03", TEXT, ARCH, 0, SL_ERR_UNSUPPORTED, "llamb", .text = "llamb" },
    { "M03 empty", TEXT, ARCH, 0, SL_ERR_UNSUPPORTED, ARCH, .text = "" },
    { "M04", U32, L "block_count", 0, SL_ERR_RANGE, L "block_count" },
    { "M05", U32, L "block_count", 1025, SL_ERR_RANGE, L "block_count" },
    { "M05 more than the tensors", U32, L "block_count", 3, SL_ERR_MISSING, "blk.2.attn_norm.weight" },
    { "M05 fewer than the tensors", U32, L "block_count", 1, SL_OK, "tensors are not used, the first is blk.1." },
    { "M06", U32, L "block_count", UINT32_MAX, SL_ERR_RANGE, L "block_count" },
    { "M07", TEXT, L "block_count", 0, SL_ERR_TYPE, L "block_count", .text = "2" },
    { "M08", U32, L "attention.head_count", 0, SL_ERR_RANGE, L "attention.head_count" },
    { "M09", U32, L "attention.head_count_kv", 0, SL_ERR_RANGE, L "attention.head_count_kv" },
    { "M10", U32, L "attention.head_count_kv", 3, SL_ERR_SHAPE, "layer 0" },
    { "M11", U32, L "attention.head_count", 5, SL_ERR_SHAPE, L "attention.head_count" },
    { "M11 odd heads", U32, L "attention.head_count", 32, SL_ERR_SHAPE, L "attention.key_length" },
    { "M12", ARRAY, L "attention.head_count", 1, SL_ERR_SHAPE, L "attention.head_count" },
    { "M12 empty", ARRAY, L "feed_forward_length", 0, SL_ERR_SHAPE, L "feed_forward_length" },
    { "M12 zero in layer 2", ARRAY, L "attention.head_count_kv", 3, SL_ERR_SHAPE, "blk.0.attn_k.weight" },
    { "M13", U32, L "embedding_length", 0, SL_ERR_RANGE, L "embedding_length" },
    { "M14", U32, L "embedding_length", 2147483648.0, SL_ERR_RANGE, L "embedding_length" },
    { "M15", U32, L "context_length", 0, SL_ERR_RANGE, L "context_length" },
    /* A number nobody can be hurt by: the session's own context is min(this, 4096), or what the caller says, held to SL_LIMIT_CONTEXT. */
    { "M16", U32, L "context_length", UINT32_MAX, SL_OK, NULL },
    { "M17", U32, L "rope.dimension_count", 7, SL_ERR_RANGE, L "rope.dimension_count" },
    { "M18", U32, L "rope.dimension_count", 16, SL_ERR_RANGE, L "rope.dimension_count" },
    { "M18 smaller", U32, L "rope.dimension_count", 4, SL_ERR_RANGE, L "rope.dimension_count" },
    { "M19", F32, L "attention.layer_norm_rms_epsilon", NAN, SL_ERR_NONFINITE, L "attention.layer_norm_rms_epsilon" },
    { "M20", F32, L "attention.layer_norm_rms_epsilon", -1e-5, SL_ERR_RANGE, L "attention.layer_norm_rms_epsilon" },
    { "M20 absent", DROP_KEY, L "attention.layer_norm_rms_epsilon", 0, SL_ERR_MISSING, L "attention.layer_norm_rms_epsilon" },
    /* 0 would divide by zero in the logarithm, and nothing below 1 makes sense: the frequencies would grow with the pair. */
    { "M21", F32, L "rope.freq_base", 0, SL_ERR_RANGE, L "rope.freq_base" },
    { "M21 negative", F32, L "rope.freq_base", -1e4, SL_ERR_RANGE, L "rope.freq_base" },
    { "M21 infinite", F32, L "rope.freq_base", INFINITY, SL_ERR_NONFINITE, L "rope.freq_base" },
    { "M22", TEXT, L "rope.scaling.type", 0, SL_ERR_UNSUPPORTED, L "rope.scaling.type", .text = "spiral" },
    { "M22 number", U32, L "rope.scaling.type", 1, SL_ERR_TYPE, L "rope.scaling.type" },
    { "M23", F32, L "rope.scaling.factor", NAN, SL_ERR_NONFINITE, L "rope.scaling.factor" },
    { "M23 old key", F32, L "rope.scale_linear", NAN, SL_ERR_NONFINITE, L "rope.scale_linear" },
    { "M23 negative", F32, L "rope.scaling.factor", -2, SL_ERR_RANGE, L "rope.scaling.factor" },
    { "M23 too fast", F32, L "rope.scaling.factor", 1e-6, SL_ERR_RANGE, "rope" },
    { "M24", U32, L "expert_count", 513, SL_ERR_RANGE, L "expert_count", .experts = 1 },
    { "M24 in a dense model", U32, L "expert_count", 4, SL_ERR_RANGE, L "expert_used_count" },
    { "M25", U32, L "expert_used_count", 5, SL_ERR_RANGE, L "expert_used_count", .experts = 1 },
    { "M25 in a dense model", U32, L "expert_used_count", 2, SL_ERR_RANGE, L "expert_used_count" },
    { "M26", U32, L "expert_used_count", 0, SL_ERR_RANGE, L "expert_used_count", .experts = 1 },
    { "M26 fewer experts than tensors", U32, L "expert_count", 2, SL_ERR_SHAPE, "blk.0.ffn_gate_inp.weight", .experts = 1 },
    { "M27", U32, L "attention.key_length", 0, SL_ERR_RANGE, L "attention.key_length" },
    { "M27 value_length", U32, L "attention.value_length", 4, SL_ERR_UNSUPPORTED, L "attention.value_length" },
    { "M28", U32, L "attention.key_length", 1 << 30, SL_ERR_RANGE, L "attention.key_length" },
    { "M28 wide", U32, L "attention.key_length", 1024, SL_ERR_RANGE, L "rope.dimension_count" },
    { "M29", DROP, "blk.1.ffn_down.weight", 0, SL_ERR_MISSING, "blk.1.ffn_down.weight" },
    { "M29 output is the embedding", DROP, "output.weight", 0, SL_OK, NULL },
    { "M30", TRANSPOSE, "blk.0.ffn_up.weight", 0, SL_ERR_SHAPE, "blk.0.ffn_up.weight" },
    { "M31", DEEPER, "blk.0.attn_norm.weight", 0, SL_ERR_SHAPE, "blk.0.attn_norm.weight" },
    { "M32", CUT, NULL, 64, SL_ERR_TRUNCATED, "output.weight" },
    { "M33", FILL, "blk.0.attn_q.weight", NAN, SL_ERR_NONFINITE, "blk.0.attn_q.weight: row 0, block 0" },
    { "M33 embedding", FILL, "token_embd.weight", NAN, SL_ERR_NONFINITE, "token_embd.weight: row 0, block 0" },
    { "M33 norm", FILL, "output_norm.weight", NAN, SL_ERR_NONFINITE, "output_norm.weight: row 0, block 0" },
    { "M33 experts", FILL, "blk.0.ffn_up_exps.weight", NAN, SL_ERR_NONFINITE, "blk.0.ffn_up_exps.weight: row 0, block 0", .experts = 1 },
    { "M34", FILL, "blk.1.ffn_down.weight", INFINITY, SL_ERR_NONFINITE, "blk.1.ffn_down.weight: row 0, block 0" },
    { "M34 norm", FILL, "blk.1.ffn_norm.weight", -INFINITY, SL_ERR_NONFINITE, "blk.1.ffn_norm.weight: row 0, block 0" },
    { "M34 rope_freqs", ADD, FREQS, INFINITY, SL_ERR_NONFINITE, FREQS },
    { "M34 rope_freqs zero", ADD, FREQS, 0, SL_ERR_NONFINITE, FREQS },
    { "M34 rope_freqs tiny", ADD, FREQS, 1e-30, SL_ERR_RANGE, "rope" },
    { "M34 rope_freqs right", ADD, FREQS, 8, SL_OK, NULL },
    /* Numbers that are legal and absurd: what overflows while computing is an error of that call. */
    { "M34 products overflow", FILL, "blk.0.ffn_down.weight", 3e38, SL_OK, NULL, .computed = SL_ERR_NONFINITE },
    { "M34 scores overflow", FILL, "blk.0.attn_q.weight", 3e38, SL_OK, NULL, .computed = SL_ERR_NONFINITE },
    { "M34 router overflows", FILL, "blk.0.ffn_gate_inp.weight", 3e38, SL_OK, NULL, .experts = 1, .computed = SL_ERR_NONFINITE },
    { "M36", FILL, "blk.0.ffn_norm.weight", 0, SL_OK, "blk.0.ffn_norm.weight: all numbers are zero" },
    { "M36 no rows", FILL, "token_embd.weight", 0, SL_OK, NULL },
    /* Layers of the architecture llama attend to everything; the key belongs to others. */
    { "M38", U32, L "attention.sliding_window", 0, SL_OK, NULL },
    { "M38 larger", U32, L "attention.sliding_window", UINT32_MAX, SL_OK, NULL },
    { "M38 array", ARRAY, L "attention.sliding_window", 7, SL_OK, NULL },
    { "M38 text", TEXT, L "attention.sliding_window", 0, SL_OK, NULL, .text = "wide" },
};

static tiny *base(int experts) { return tiny_create(&(tiny_shape) { .n_expert = experts ? 4 : 0, .n_expert_used = 2 }); }

static void one_wrong_thing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tiny *t = base(rows[i].experts);
        change(t, &rows[i]);
        verdict(rows[i].id, t, rows[i].edit == CUT ? (size_t)rows[i].number : 0, rows[i].expected, rows[i].place, rows[i].computed);
        tiny_free(t);
    }
}

/* Every number of a right model with a text, an array, a negative or a huge number in its place; and without it. */
static void every_key(void **state)
{
    (void)state;
    static const struct { const char *key; int needed, real, per_layer; } keys[] = {
        { L "block_count", 1, 0, 0 }, { L "context_length", 1, 0, 0 }, { L "embedding_length", 1, 0, 0 }, { L "feed_forward_length", 1, 0, 1 },
        { L "attention.head_count", 1, 0, 1 }, { L "attention.head_count_kv", 0, 0, 1 }, { L "attention.layer_norm_rms_epsilon", 1, 1, 0 },
        { L "rope.dimension_count", 0, 0, 0 }, { L "attention.key_length", 0, 0, 0 }, { L "attention.value_length", 0, 0, 0 },
        { L "vocab_size", 0, 0, 0 }, { L "rope.freq_base", 0, 1, 0 }, { L "rope.scaling.factor", 0, 1, 0 }, { L "rope.scaling.attn_factor", 0, 1, 0 },
        { L "rope.scale_linear", 0, 1, 0 }, { L "rope.scaling.original_context_length", 0, 0, 0 }, { L "expert_count", 0, 0, 0 }, { L "expert_used_count", 0, 0, 0 },
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *key = keys[i].key;
        hostile wrong[] = {
            { "a text", TEXT, key, 0, SL_ERR_TYPE, key, .text = "4" },
            { "an array", ARRAY, key, 0, keys[i].per_layer ? SL_ERR_SHAPE : SL_ERR_TYPE, key },
            { "negative", NEGATIVE, key, 0, keys[i].real ? SL_ERR_TYPE : SL_ERR_RANGE, key },
            { "huge", HUGE, key, 0, keys[i].real ? SL_ERR_TYPE : SL_ERR_RANGE, key },
            { "not a number", F32, key, NAN, keys[i].real ? SL_ERR_NONFINITE : SL_ERR_TYPE, key },
            { "infinite", F32, key, -INFINITY, keys[i].real ? SL_ERR_NONFINITE : SL_ERR_TYPE, key },
            { "absent", DROP_KEY, key, 0, SL_ERR_MISSING, key },
        };
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            char id[128];
            tiny *t = base(strstr(key, "expert") != NULL);
            if (wrong[k].edit == DROP_KEY && !keys[i].needed) {
                tiny_free(t);
                continue;
            }
            snprintf(id, sizeof id, "%s: %s", key, wrong[k].id);
            change(t, &wrong[k]);
            verdict(id, t, 0, wrong[k].expected, wrong[k].place, SL_OK);
            tiny_free(t);
        }
    }
}

/* Every tensor of a right model in every wrong shape, in a type that is not for weights, and absent. */
static void every_tensor(void **state)
{
    (void)state;
    static const struct { edit edit; const char *text; } edits[] = {
        { DROP, "absent" }, { TRANSPOSE, "transposed" }, { WIDER, "wider" }, { FLAT, "flat" }, { DEEPER, "deeper" }, { TYPE_I32, "I32" },
    };
    for (int experts = 0; experts < 2; experts++) {
        tiny *names = base(experts);
        for (size_t i = 0; i < names->n_tensors; i++)
            for (size_t k = 0; k < sizeof edits / sizeof *edits; k++) {
                const tiny_tensor *x = &names->tensors[i];
                char id[128];
                const int optional = !strcmp(x->name, "output.weight") && edits[k].edit == DROP;
                const sl_status expected = optional ? SL_OK : edits[k].edit == DROP ? SL_ERR_MISSING : edits[k].edit == TYPE_I32 ? SL_ERR_TYPE : SL_ERR_SHAPE;
                if ((edits[k].edit == FLAT && x->n_dims == 1) || (edits[k].edit == TRANSPOSE && x->dims[0] == x->dims[1]))
                    continue;
                tiny *t = base(experts);
                snprintf(id, sizeof id, "%s: %s", x->name, edits[k].text);
                change(t, &(hostile) { .edit = edits[k].edit, .name = x->name });
                verdict(id, t, 0, expected, optional ? NULL : x->name, SL_OK);
                tiny_free(t);
            }
        tiny_free(names);
    }
}

/* Tensors beside weights that may be there. */
static void optional_tensors(void **state)
{
    (void)state;
    static const struct { const char *name; uint32_t type; uint64_t n; float number; sl_status expected; } beside[] = {
        { "blk.0.attn_q.bias", SL_TYPE_F32, 32, 0.5f, SL_OK }, { "blk.0.attn_q.bias", SL_TYPE_F32, 31, 0.5f, SL_ERR_SHAPE },
        { "blk.0.attn_k.bias", SL_TYPE_F32, 16, NAN, SL_ERR_NONFINITE }, { "blk.1.attn_output.bias", SL_TYPE_F32, 32, INFINITY, SL_ERR_NONFINITE },
        { "blk.1.ffn_down.bias", SL_TYPE_I32, 32, 0, SL_ERR_TYPE }, { "blk.1.ffn_gate.bias", SL_TYPE_F32, 64, 1, SL_OK },
        { "blk.0.attn_q.scale", SL_TYPE_F32, 1, 2, SL_OK }, { "blk.0.attn_q.scale", SL_TYPE_F32, 2, 2, SL_ERR_SHAPE },
        { "blk.0.attn_q.scale", SL_TYPE_I32, 1, 2, SL_ERR_TYPE }, { "blk.0.attn_q.scale", SL_TYPE_F32, 1, NAN, SL_ERR_NONFINITE },
        { "output.scale", SL_TYPE_F32, 1, -INFINITY, SL_ERR_NONFINITE }, { FREQS, SL_TYPE_F32, 3, 1, SL_ERR_SHAPE }, { FREQS, SL_TYPE_I32, 4, 1, SL_ERR_TYPE },
    };
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        tiny *t = base(0);
        fill(tiny_add(t, beside[i].name, beside[i].type, &beside[i].n, 1, 4 * beside[i].n), beside[i].number);
        verdict(beside[i].name, t, 0, beside[i].expected, beside[i].expected == SL_OK ? NULL : beside[i].name, SL_OK);
        tiny_free(t);
    }
}

/* ---- numbers that no weight may be, in every type ---- */

/* More than what decodes to something infinite: the NaN code of an NVFP4 scale decodes to 0. */
static int is_bad(const sl_type_info *type, const uint8_t *block)
{
    float x[256];
    const int refused = type->check(block, 1) >= 0;
    type->decode(block, 1, x);
    for (int i = 0; i < type->block_values; i++)
        if (!isfinite(x[i]) && !refused)
            fail_msg("%s: a block with an infinite number or none passes", type->name);
    return refused;
}

/* Makes one block of a tensor bad: the first 8 or 16 bits of it that, as NaN, infinity or all ones, make a number of it so. 0 if there is no such place. */
static int spoil(const sl_type_info *type, uint8_t *block, uint16_t bits)
{
    for (size_t at = 0; at < type->block_bytes; at++)
        for (size_t n = 1; n <= 2; n++) {
            uint8_t before[2];
            if (at + n > type->block_bytes)
                continue;
            memcpy(before, block + at, n);
            memcpy(block + at, n == 1 ? &(uint8_t) { (uint8_t)bits } : (uint8_t *)&bits, n);
            if (is_bad(type, block))
                return 1;
            memcpy(block + at, before, n);
        }
    for (size_t at = 0; at + 8 <= type->block_bytes; at += 2) {     /* a half whose four digits are the upper ones of four neighbours */
        uint8_t before[8];
        memcpy(before, block + at, 8);
        for (int i = 0; i < 4; i++)
            block[at + 2 * (size_t)i + 1] = (uint8_t)((block[at + 2 * (size_t)i + 1] & 0x0f) | (bits >> 4 * i & 0x0f) << 4);
        if (is_bad(type, block))
            return 1;
        memcpy(block + at, before, 8);
    }
    return 0;
}

static void every_type(void **state)
{
    (void)state;
    static const uint16_t patterns[] = { 0x7e00, 0x7c00, 0xfc00, 0x7f80, 0x7fc0, 0xff80, 0xffff };     /* NaN and infinity as F16, BF16 and upper half of F32, and the codes of one byte */
    unsigned n_types = 0;
    for (uint32_t id = 0; id < SL_TYPE_COUNT; id++) {
        const sl_type_info *type = sl_type_get(id);
        if (!type || type->form == SL_ACT_NONE)
            continue;
        unsigned n_bad = 0;
        const uint64_t blocks = 256 / type->block_values, bytes = blocks * type->block_bytes;
        for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
            char id_text[64], place[64];
            tiny *t = tiny_create(&(tiny_shape) { .n_embd = 256, .n_ff = 256, .n_layer = 1 });
            tiny_tensor *x = tiny_find(t, "blk.0.ffn_up.weight");
            tiny_reshape(x, id, (const uint64_t[]) { 256, 256 }, 2, 256 * bytes);
            const uint64_t row = 37 * (p + 1) % 256, block = blocks - 1;
            snprintf(id_text, sizeof id_text, "%s with %04x", type->name, patterns[p]);
            if (!p)
                verdict(id_text, t, 0, SL_OK, NULL, SL_OK);     /* zeros are numbers in every type */
            if (spoil(type, x->data + row * bytes + block * type->block_bytes, patterns[p])) {
                snprintf(place, sizeof place, "blk.0.ffn_up.weight: row %u, block %u:", (unsigned)row, (unsigned)block);
                verdict(id_text, t, 0, SL_ERR_NONFINITE, place, SL_OK);
                n_bad++;
            }
            tiny_free(t);
        }
        if (!n_bad)
            fail_msg("%s: no block of it could be spoiled", type->name);
        n_types++;
    }
    printf("%u types of weights\n", n_types);
    assert_true(n_types > 0);
}

/* ---- M37: a cache that nobody has ---- */

static void cache_budget(void **state)
{
    (void)state;
    size_t size;
    unsigned char *data = tiny_file(&(tiny_shape) { .n_ctx = UINT32_MAX }, &size);
    sl_model *model = NULL;
    sl_session *session = NULL;
    assert_int_equal(load(&model, data, size, 0), SL_OK);
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    const size_t before = memory.live_blocks;
    static const struct { uint32_t n_ctx, n_batch; const char *place; } sizes[] = {
        { SL_LIMIT_CONTEXT + 1, 0, "positions" }, { UINT32_MAX, UINT32_MAX, "positions" }, { 8, SL_LIMIT_BATCH + 1, "tokens" },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        o.n_ctx = sizes[i].n_ctx, o.n_batch = sizes[i].n_batch;
        assert_int_equal(sl_session_create(&session, model, &o), SL_ERR_LIMIT);
        assert_null(session);
        assert_non_null(strstr(sl_last_error(), sizes[i].place));
    }
    o.n_ctx = SL_LIMIT_CONTEXT, o.n_batch = 0;
    memory.most_bytes = memory.live_bytes + (64u << 20);
    assert_int_equal(sl_session_create(&session, model, &o), SL_ERR_NOMEM);
    assert_null(session);
    memory.most_bytes = 0;
    assert_int_equal(memory.live_blocks, before);
    o.n_ctx = 0;
    assert_int_equal(sl_session_create(&session, model, &o), SL_OK);
    assert_int_equal(sl_session_capacity(session), 4096);
    sl_session_free(session);
    sl_model_free(model);
    free(data);
    no_leak("M37");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_wrong_thing), cmocka_unit_test(every_key), cmocka_unit_test(every_tensor), cmocka_unit_test(optional_tensors),
        cmocka_unit_test(every_type), cmocka_unit_test(cache_budget),
    };
    right_logits[0] = NAN;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
