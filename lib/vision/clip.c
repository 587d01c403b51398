/* SPDX-License-Identifier: MIT */
/* vision/clip.c - the computation, as CLIP (Radford et al., arXiv 2103.00020) and LLaVA 1.5 (Liu et al., arXiv 2310.03744) define it; docs/models/llava.md says
 * how files spell it. */
#include "vision/clip.h"

#include "vision/keys.h"

#include <stdio.h>
#include <string.h>

/* ---- which files ---- */

static int is(sl_text text, const char *word) { return text.length == strlen(word) && !memcmp(text.data, word, text.length); }

/* A text key must be `wanted` or not be there. */
static sl_status must_say(const sl_gguf *gguf, const char *key, const char *wanted, const char *why)
{
    char quoted[SL_QUOTE_BYTES];
    sl_text text;
    const sl_status status = sl_gguf_text(gguf, key, &text);
    if (status != SL_OK)
        return status == SL_ERR_MISSING ? SL_OK : status;
    return is(text, wanted) ? SL_OK : sl_fail(SL_ERR_UNSUPPORTED, "key %s: '%s', %s", key, sl_quote(quoted, text.data, text.length), why);
}

/* *value stays if the key is not there. */
static sl_status read_flag(const sl_gguf *gguf, const char *key, int *value)
{
    const sl_status status = sl_gguf_bool(gguf, key, value);
    return status == SL_ERR_MISSING ? SL_OK : status;
}

/* The kind of the projector: by its key, which files of 2023 lack; they say that it is LLaVA's. */
static sl_status check_kind(const sl_gguf *gguf)
{
    static const char kind[] = "clip.projector_type", llava[] = "clip.has_llava_projector";
    int has = !!sl_gguf_find(gguf, kind);
    if (!has && !sl_gguf_find(gguf, llava))
        return sl_fail(SL_ERR_MISSING, "key %s: missing, and so is %s", kind, llava);
    SL_TRY(read_flag(gguf, llava, &has));
    if (!has)
        return sl_fail(SL_ERR_UNSUPPORTED, "key %s: the file has an encoder, but no projector", llava);
    return must_say(gguf, kind, "mlp", "for this architecture there are projectors of kind 'mlp' only");
}

/* LLaVA 1.6 shows a picture in pieces, joined with a vector of its own at the end of each row. */
static sl_status check_pieces(const sl_parts *parts, const sl_gguf *gguf)
{
    static const char grid[] = "clip.vision.image_grid_pinpoints", newline[] = "model.image_newline", why[] = "pictures in pieces (LLaVA 1.6) are not supported";
    if (sl_gguf_find(gguf, grid))
        return sl_fail(SL_ERR_UNSUPPORTED, "key %s: %s", grid, why);
    if (sl_parts_find(parts, newline, NULL))
        return sl_fail(SL_ERR_UNSUPPORTED, "%s: %s", newline, why);
    SL_TRY(must_say(gguf, "clip.vision.mm_patch_merge_type", "flat", why));
    return must_say(gguf, "clip.vision.image_aspect_ratio", "pad", "pictures are padded to squares only");
}

/* How many layers are used. LLaVA takes the output of the last but one. A file says so by clip.vision.feature_layer, the number of layers to go through; files without it either
 * have no more than those (what was converted until 2025: 23 for CLIP-L) or all of the encoder (24). The encoders of CLIP have even numbers of layers, so an odd one means that one
 * is gone. */
static sl_status count_layers(const sl_gguf *gguf, uint32_t all, uint32_t *used)
{
    static const char key[] = "clip.vision.feature_layer";
    const sl_gguf_kv *kv = sl_gguf_find(gguf, key);
    int64_t layer;
    *used = all % 2 ? all : all - 1;
    if (!kv)
        return SL_OK;
    if (kv->value.type == SL_META_ARRAY && kv->value.count != 1)
        return sl_fail(SL_ERR_UNSUPPORTED, "key %s: %llu layers, features of one are supported", key, (unsigned long long)kv->value.count);
    if (sl_gguf_value_int(&kv->value, 0, &layer) != SL_OK)
        return sl_fail(SL_ERR_TYPE, "key %s: not a whole number", key);
    if (layer < 1 || layer > (int64_t)all)
        return sl_fail(SL_ERR_RANGE, "key %s: %lld, must be 1 to %u", key, (long long)layer, all);
    *used = (uint32_t)layer;
    return SL_OK;
}

sl_status sl_clip_layout(sl_layout *layout, const sl_parts *parts, size_t part)
{
    static const char blocks[] = "clip.vision.block_count";
    const sl_gguf *gguf = &parts->parts[part].gguf;
    uint32_t all, used;
    SL_TRY(must_say(gguf, "general.architecture", "clip", "not a projector file"));
    SL_TRY(check_kind(gguf));
    SL_TRY(check_pieces(parts, gguf));
    SL_TRY(sl_gguf_u32(gguf, blocks, &all));
    if (!all || all > SL_LIMIT_LAYERS)
        return sl_fail(SL_ERR_RANGE, "key %s: %u, must be 1 to %d", blocks, all, SL_LIMIT_LAYERS);
    SL_TRY(count_layers(gguf, all, &used));
    snprintf(layout->sentence, sizeof layout->sentence, "two files, LLaVA: %u of %u layers of the encoder", used, all);
    return SL_OK;
}

/* ---- hyper-parameters ---- */

#define V(member) offsetof(sl_vision, member)
static const sl_vision_row vision_rows[] = {
    { "block_count", V(n_layer), SL_LIMIT_LAYERS, 0 },
    { "embedding_length", V(n_embd), 65536, 0 },
    { "feed_forward_length", V(n_ff), SL_LIMIT_EMBEDDING, 0 },
    { "attention.head_count", V(n_head), 4096, 0 },
    { "image_size", V(tile_side), 4096, 0 },
    { "patch_size", V(patch_side), 4096, 0 },
};

static sl_status check_numbers(const sl_vision *v)
{
    if (v->tile_side % v->patch_side)
        return sl_fail(SL_ERR_RANGE, "key clip.vision.patch_size: patches of %u do not fill pictures of %u", v->patch_side, v->tile_side);
    if (v->n_embd % v->n_head || v->n_embd / v->n_head > SL_LIMIT_HEAD_DIM)
        return sl_fail(SL_ERR_SHAPE, "key clip.vision.attention.head_count: %u heads over %u elements", v->n_head, v->n_embd);
    if (v->n_ff == v->n_embd)       /* files exchange the names of the two matrices: only their shapes tell which is which */
        return sl_fail(SL_ERR_UNSUPPORTED, "key clip.vision.feed_forward_length: %u, the same as embedding_length", v->n_ff);
    const uint64_t per_side = v->tile_side / v->patch_side;
    return per_side * per_side < SL_LIMIT_BATCH ? SL_OK : sl_fail(SL_ERR_LIMIT, "key clip.vision.patch_size: a picture has %llu patches, the limit is %d",
                                                                  (unsigned long long)(per_side * per_side), SL_LIMIT_BATCH - 1);
}

sl_status sl_clip_read(sl_vision *v, const sl_parts *parts, size_t part)
{
    static const char projector[] = "mm.0.weight";
    const sl_gguf *gguf = &parts->parts[part].gguf;
    const sl_gguf_tensor *t = sl_parts_find(parts, projector, NULL);
    int exact = 0, silu = 0;
    *v = (sl_vision) { .mean = { 0.48145466f, 0.4578275f, 0.40821073f }, .deviation = { 0.26862954f, 0.26130258f, 0.27577711f }, .epsilon = 1e-5f, .n_channel = 3, .max_tiles = 1, .square = 1 };
    SL_TRY(sl_vision_numbers(v, gguf, "clip", vision_rows, sizeof vision_rows / sizeof *vision_rows));
    SL_TRY(sl_vision_real(gguf, "clip", "attention.layer_norm_epsilon", 0, 1, &v->epsilon));
    SL_TRY(sl_vision_colours(v, gguf, "clip"));
    SL_TRY(check_numbers(v));
    SL_TRY(count_layers(gguf, v->n_layer, &v->n_layer));
    SL_TRY(read_flag(gguf, "clip.use_gelu", &exact));
    SL_TRY(read_flag(gguf, "clip.use_silu", &silu));
    if (silu)
        return sl_fail(SL_ERR_UNSUPPORTED, "key clip.use_silu: encoders with SiLU are not supported");
    if (!t || !t->ne[1] || t->ne[1] > SL_LIMIT_EMBEDDING)
        return sl_fail(t ? SL_ERR_SHAPE : SL_ERR_MISSING, "%s: the tensor is %s", projector, t ? "of no possible shape" : "missing");
    v->quick_gelu = !exact;
    v->n_adapter = (uint32_t)t->ne[1];
    v->n_patch = v->n_vector = v->tile_side / v->patch_side * (v->tile_side / v->patch_side);
    v->n_pos = v->n_pos_padded = v->n_patch + 1;
    return SL_OK;
}

/* ---- weights ---- */

#define E(member) offsetof(sl_clip, member)
static const sl_tensor_row encoder_rows[] = {
    { "v.patch_embd.weight", SL_ROW_FILTER, 1, E(vit.patch), { SL_DIM_V_PATCH, SL_DIM_V_PATCH, SL_DIM_V_CHANNEL, SL_DIM_V_EMBD } },
    { "v.class_embd", SL_ROW_VECTOR, 1, E(vit.class_vector), { SL_DIM_V_EMBD } },
    { "v.position_embd.weight", SL_ROW_TABLE, 1, E(vit.position), { SL_DIM_V_EMBD, SL_DIM_V_POS } },
    { "v.pre_ln.weight", SL_ROW_VECTOR, 1, E(vit.pre_norm), { SL_DIM_V_EMBD } },
    { "v.pre_ln.bias", SL_ROW_VECTOR, 1, E(vit.pre_norm_bias), { SL_DIM_V_EMBD } },
    { "mm.0.weight", SL_ROW_MATRIX, 1, E(first), { SL_DIM_V_EMBD, SL_DIM_V_ADAPTER } },
    { "mm.0.bias", SL_ROW_VECTOR, 1, E(first_bias), { SL_DIM_V_ADAPTER } },
    { "mm.2.weight", SL_ROW_MATRIX, 1, E(second), { SL_DIM_V_ADAPTER, SL_DIM_EMBD } },
    { "mm.2.bias", SL_ROW_VECTOR, 1, E(second_bias), { SL_DIM_EMBD } },
};

#define L(member) offsetof(sl_vit_layer, member)
static const sl_tensor_row forward_rows[] = {
    /* the first converter called them down and up, newer ones up and down */
    { "ffn_up.weight|ffn_down.weight", SL_ROW_MATRIX, 1, L(first), { SL_DIM_V_EMBD, SL_DIM_V_FF } },
    { "ffn_up.bias|ffn_down.bias", SL_ROW_VECTOR, 1, L(first_bias), { SL_DIM_V_FF } },
    { "ffn_down.weight|ffn_up.weight", SL_ROW_MATRIX, 1, L(second), { SL_DIM_V_FF, SL_DIM_V_EMBD } },
    { "ffn_down.bias|ffn_up.bias", SL_ROW_VECTOR, 1, L(second_bias), { SL_DIM_V_EMBD } },
};

sl_status sl_clip_bind(sl_loader *loader, sl_clip *e)
{
    const sl_vision *v = &sl_loader_hparams(loader)->vision;
    SL_BIND(loader, encoder_rows, -1, e);
    SL_TRY(sl_vit_bind_constants(loader, v, &e->vit));
    return sl_vit_bind_layers(loader, v, &e->vit, forward_rows, sizeof forward_rows / sizeof *forward_rows);
}

void sl_clip_free(sl_clip *e, const sl_mem *mem) { sl_vit_free(&e->vit, mem); }

/* ---- computation ---- */

/* norm([class; patches] + positions): [n_embd, n_pos] */
static sl_tensor embed(sl_pass *p, const sl_vision *v, const sl_vit *e, sl_tensor patches)
{
    sl_tensor x = sl_pass_tensor(p, SL_TYPE_F32, v->n_embd, v->n_pos, 1, 1);
    const sl_mark mark = sl_pass_mark(p);
    sl_act pixels = sl_act_of(patches);
    sl_op_copy_to(p, sl_view_tokens(x, 0, 1), e->class_vector);
    sl_op_copy_to(p, sl_view_tokens(x, 1, v->n_patch), sl_op_matmul(p, &e->patch, &pixels));
    sl_op_add_to(p, x, e->position);
    sl_op_copy_to(p, x, sl_op_layer_norm(p, x, e->pre_norm, e->pre_norm_bias, v->epsilon));
    sl_pass_release(p, mark);
    return x;
}

sl_tensor sl_clip_encode(sl_pass *p, const sl_hparams *hp, const sl_clip *e, const sl_picture *picture)
{
    const sl_vision *v = &hp->vision;
    sl_tensor vectors = sl_pass_tensor(p, SL_TYPE_F32, hp->n_embd, v->n_vector, 1, 1);
    const sl_mark mark = sl_pass_mark(p);
    sl_tensor x = embed(p, v, &e->vit, picture->patches);
    for (uint32_t l = 0; l < v->n_layer; l++)
        sl_vit_layer_run(p, v, &e->vit, l, x);
    sl_act a = sl_act_of(sl_view_tokens(x, 1, v->n_patch));
    sl_tensor y = sl_op_matmul(p, &e->first, &a);                           /* [n_adapter, n_patch] */
    sl_op_gelu(p, y, e->first_bias);
    sl_act b = sl_act_of(y);
    sl_op_copy_to(p, vectors, sl_op_matmul(p, &e->second, &b));
    sl_op_add_to(p, vectors, e->second_bias);
    sl_pass_release(p, mark);
    return vectors;
}
