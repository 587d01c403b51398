/* SPDX-License-Identifier: MIT */
/* llava_build.c - see llava_build.h. */
#include "llava_build.h"

#include "random_blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t otherwise(uint32_t value, uint32_t standard) { return value ? value : standard; }

llava_spec llava_full(const llava_spec *spec)
{
    llava_spec s = spec ? *spec : (llava_spec) { 0 };
    s.n_embd = otherwise(s.n_embd, 32), s.v_embd = otherwise(s.v_embd, 24), s.v_ff = otherwise(s.v_ff, 40), s.v_head = otherwise(s.v_head, 3);
    s.n_layer = otherwise(s.n_layer, 3), s.side = otherwise(s.side, 12), s.patch = otherwise(s.patch, 4), s.n_adapter = otherwise(s.n_adapter, 48);
    return s;
}

static void put_keys(tiny *t, const llava_spec *s)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f }, deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    const struct { const char *key; uint32_t value; } numbers[] = {
        { "clip.vision.image_size", s->side }, { "clip.vision.patch_size", s->patch }, { "clip.vision.embedding_length", s->v_embd }, { "clip.vision.feed_forward_length", s->v_ff },
        { "clip.vision.projection_dim", 768 }, { "clip.vision.attention.head_count", s->v_head }, { "clip.vision.block_count", s->n_layer },
    };
    const unsigned char yes = 1, no = 0;
    unsigned char array[24] = { TINY_F32, [4] = 3 };
    tiny_put_text(t, "general.architecture", "clip");
    tiny_put(t, "clip.has_text_encoder", TINY_BOOL, &no, 1);
    tiny_put(t, "clip.has_vision_encoder", TINY_BOOL, &yes, 1);
    tiny_put(t, "clip.has_llava_projector", TINY_BOOL, &yes, 1);
    if (!s->no_kind)
        tiny_put_text(t, "clip.projector_type", "mlp");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        tiny_put_u32(t, numbers[i].key, numbers[i].value);
    tiny_put_f32(t, "clip.vision.attention.layer_norm_epsilon", 1e-5f);
    memcpy(array + 12, mean, sizeof mean);
    tiny_put(t, "clip.vision.image_mean", TINY_ARRAY, array, sizeof array);
    memcpy(array + 12, deviation, sizeof deviation);
    tiny_put(t, "clip.vision.image_std", TINY_ARRAY, array, sizeof array);
    tiny_put(t, "clip.use_gelu", TINY_BOOL, s->exact ? &yes : &no, 1);
    if (s->feature_layer)
        tiny_put_array_u32(t, "clip.vision.feature_layer", &s->feature_layer, 1);
}

typedef struct maker { tiny *t; const llava_spec *s; uint64_t state; } maker;

static void matrix(maker *m, const char *name, const uint64_t *dims, uint32_t n_dims)
{
    const sl_type type = n_dims == 4 && m->s->type != SL_TYPE_F32 ? SL_TYPE_F16 : m->s->type;    /* as converters do: filters are not quantized */
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++)
        n *= dims[i];
    tiny_tensor *x = tiny_add(m->t, name, (uint32_t)type, dims, n_dims, random_blocks_bytes(type, n));
    random_blocks(type, n, 1.25 / sqrt((double)(n / dims[n_dims - 1])), &m->state, x->data);
}

static void weight(maker *m, const char *name, uint64_t n_in, uint64_t n_out) { matrix(m, name, (const uint64_t[]) { n_in, n_out }, 2); }

/* F32, n_rows 0: a vector. Numbers about `middle`, at most `size` from it. */
static void numbers(maker *m, const char *name, uint64_t n, uint64_t n_rows, float middle, float size)
{
    const uint64_t dims[2] = { n, n_rows }, count = n * (n_rows ? n_rows : 1);
    tiny_tensor *x = tiny_add(m->t, name, SL_TYPE_F32, dims, n_rows ? 2 : 1, 4 * count);
    for (uint64_t i = 0; i < count; i++) {
        const float value = middle + size * random_float(&m->state);
        memcpy(x->data + 4 * i, &value, 4);
    }
}

static const char *of(unsigned l, const char *name, const char *end)
{
    static char full[TINY_NAME];
    snprintf(full, sizeof full, "v.blk.%u.%s.%s", l, name, end);
    return full;
}

static void layer(maker *m, unsigned l)
{
    const llava_spec *s = m->s;
    static const char *const squares[] = { "attn_q", "attn_k", "attn_v", "attn_out" }, *const norms[] = { "ln1", "ln2" };
    const char *first = s->new_names ? "ffn_up" : "ffn_down", *second = s->new_names ? "ffn_down" : "ffn_up";
    for (int i = 0; i < 2; i++) {
        numbers(m, of(l, norms[i], "weight"), s->v_embd, 0, 1.0f, 0.25f);
        numbers(m, of(l, norms[i], "bias"), s->v_embd, 0, 0.0f, 0.25f);
    }
    for (int i = 0; i < 4; i++) {
        weight(m, of(l, squares[i], "weight"), s->v_embd, s->v_embd);
        numbers(m, of(l, squares[i], "bias"), s->v_embd, 0, 0.0f, 0.25f);
    }
    weight(m, of(l, first, "weight"), s->v_embd, s->v_ff);
    numbers(m, of(l, first, "bias"), s->v_ff, 0, 0.0f, 0.25f);
    weight(m, of(l, second, "weight"), s->v_ff, s->v_embd);
    numbers(m, of(l, second, "bias"), s->v_embd, 0, 0.0f, 0.25f);
}

tiny *llava_projector(const llava_spec *spec)
{
    const llava_spec s = llava_full(spec);
    const uint64_t per_side = s.side / s.patch;
    maker m = { calloc(1, sizeof(tiny)), &s, s.seed + 99 };
    if (!m.t) {
        fprintf(stderr, "no memory for a test model\n");
        exit(1);
    }
    put_keys(m.t, &s);
    weight(&m, "mm.0.weight", s.v_embd, s.n_adapter);
    numbers(&m, "mm.0.bias", s.n_adapter, 0, 0.0f, 0.25f);
    weight(&m, "mm.2.weight", s.n_adapter, s.n_embd);
    numbers(&m, "mm.2.bias", s.n_embd, 0, 0.0f, 0.25f);
    numbers(&m, "v.class_embd", s.v_embd, 0, 0.0f, 1.0f);
    matrix(&m, "v.patch_embd.weight", (const uint64_t[]) { s.patch, s.patch, 3, s.v_embd }, 4);
    numbers(&m, "v.position_embd.weight", s.v_embd, per_side * per_side + 1, 0.0f, 0.7f);
    numbers(&m, "v.pre_ln.weight", s.v_embd, 0, 1.0f, 0.25f);
    numbers(&m, "v.pre_ln.bias", s.v_embd, 0, 0.0f, 0.25f);
    for (unsigned l = 0; l < s.n_layer; l++)
        layer(&m, l);
    return m.t;
}
