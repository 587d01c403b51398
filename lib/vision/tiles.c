/* SPDX-License-Identifier: MIT */
/* vision/tiles.c - the computation, as in Meta's reference (llama-models, models/llama3/multimodal). All tiles go through it, empty ones too: the used
 * ones look at them. Shapes: N = max_tiles * n_pos_padded positions, tile after tile; in a tile the class vector, the patches row by row, padding. */
#include "vision/tiles.h"

#include "arith.h"
#include "image.h"
#include "kv.h"
#include "vision/keys.h"

#include <stdio.h>
#include <string.h>

/* ---- hyper-parameters ---- */

enum { KEY_BYTES = 128, PAD_TO = 8 };

#define V(member) offsetof(sl_vision, member)
static const sl_vision_row vision_rows[] = {
    { "block_count", V(n_layer), SL_LIMIT_LAYERS, 0 },
    { "global.block_count", V(n_layer_global), SL_LIMIT_LAYERS, 0 },
    { "embedding_length", V(n_embd), 65536, 1280 },
    { "feed_forward_length", V(n_ff), SL_LIMIT_EMBEDDING, 5120 },
    { "attention.head_count", V(n_head), 4096, 16 },
    { "image_size", V(tile_side), 4096, 560 },
    { "patch_size", V(patch_side), 4096, 14 },
    { "max_num_tiles", V(max_tiles), SL_MAX_TILES, 4 },
    { "num_channels", V(n_channel), 3, 3 },
};

/* Which layers' inputs the projector sees. */
static sl_status read_kept(sl_vision *v, const sl_gguf *gguf, const char *prefix)
{
    static const uint32_t usual[] = { 3, 7, 15, 23, 30 };
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.vision.intermediate_layers_indices", prefix);
    const sl_gguf_kv *kv = sl_gguf_find(gguf, key);
    if (kv && kv->value.type != SL_META_ARRAY)
        return sl_fail(SL_ERR_TYPE, "key %s: not an array", key);
    const uint64_t n = kv ? kv->value.count : sizeof usual / sizeof *usual;
    if (n > SL_MAX_KEPT)
        return sl_fail(SL_ERR_LIMIT, "key %s: %llu layers, the limit is %d", key, (unsigned long long)n, SL_MAX_KEPT);
    for (uint64_t i = 0; i < n; i++) {
        int64_t layer = kv ? 0 : usual[i];
        if (kv && sl_gguf_value_int(&kv->value, i, &layer) != SL_OK)
            return sl_fail(SL_ERR_TYPE, "key %s: not integers", key);
        if (layer < 0 || layer >= (int64_t)v->n_layer || (i && layer <= (int64_t)v->kept[i - 1]))
            return sl_fail(SL_ERR_RANGE, "key %s: element %llu is %lld; ascending numbers below %u are wanted", key, (unsigned long long)i, (long long)layer, v->n_layer);
        v->kept[i] = (uint32_t)layer;
    }
    v->n_kept = (uint32_t)n;
    return SL_OK;
}

sl_status sl_tiles_read(sl_vision *v, const sl_gguf *gguf, const char *prefix)
{
    *v = (sl_vision) { .epsilon = 1e-5f, .mean = { 0.48145466f, 0.4578275f, 0.40821073f }, .deviation = { 0.26862954f, 0.26130258f, 0.27577711f } };
    SL_TRY(sl_vision_numbers(v, gguf, prefix, vision_rows, sizeof vision_rows / sizeof *vision_rows));
    SL_TRY(sl_vision_real(gguf, prefix, "attention.layer_norm_epsilon", 0, 1, &v->epsilon));
    SL_TRY(read_kept(v, gguf, prefix));
    SL_TRY(sl_vision_colours(v, gguf, prefix));
    if (v->patch_side > v->tile_side || v->tile_side % v->patch_side)
        return sl_fail(SL_ERR_RANGE, "key %s.vision.patch_size: patches of %u do not fill tiles of %u", prefix, v->patch_side, v->tile_side);
    if (v->n_channel != 3)
        return sl_fail(SL_ERR_UNSUPPORTED, "key %s.vision.num_channels: %u, only 3 are supported", prefix, v->n_channel);
    if (v->n_embd % v->n_head || v->n_embd / v->n_head > SL_LIMIT_HEAD_DIM)
        return sl_fail(SL_ERR_SHAPE, "key %s.vision.attention.head_count: %u heads over %u elements", prefix, v->n_head, v->n_embd);
    const uint64_t per_side = v->tile_side / v->patch_side, n_patch = per_side * per_side;
    if (n_patch * v->max_tiles > SL_LIMIT_BATCH)
        return sl_fail(SL_ERR_LIMIT, "key %s.vision.patch_size: a picture has %llu patches, the limit is %d", prefix, (unsigned long long)(n_patch * v->max_tiles), SL_LIMIT_BATCH);
    v->n_patch = (uint32_t)n_patch;
    v->n_pos = v->n_patch + 1;
    v->n_pos_padded = (v->n_pos + PAD_TO - 1) / PAD_TO * PAD_TO;
    v->n_arrangement = 1;
    for (uint32_t high = 1; high <= v->max_tiles; high++)
        v->n_arrangement += v->max_tiles / high;
    return SL_OK;
}

/* ---- weights ---- */

#define E(member) offsetof(sl_tiles_encoder, member)
static const sl_tensor_row encoder_rows[] = {
    { "v.patch_embd.weight", SL_ROW_FILTER, 1, E(patch), { SL_DIM_V_PATCH, SL_DIM_V_PATCH, SL_DIM_V_CHANNEL, SL_DIM_V_EMBD } },
    { "v.class_embd", SL_ROW_VECTOR, 1, E(class_vector), { SL_DIM_V_EMBD } },
    { "v.pre_ln.weight", SL_ROW_VECTOR, 1, E(pre_norm), { SL_DIM_V_EMBD } },
    { "v.pre_ln.bias", SL_ROW_VECTOR, 1, E(pre_norm_bias), { SL_DIM_V_EMBD } },
    { "v.post_ln.weight", SL_ROW_VECTOR, 1, E(post_norm), { SL_DIM_V_EMBD } },
    { "v.post_ln.bias", SL_ROW_VECTOR, 1, E(post_norm_bias), { SL_DIM_V_EMBD } },
    { "v.position_embd.weight", SL_ROW_TABLE, 1, E(position), { SL_DIM_V_EMBD, SL_DIM_V_POS } },
    { "v.position_embd.gate", SL_ROW_VECTOR, 1, E(position_gate), { SL_DIM_ONE } },
    { "v.tile_position_embd.weight", SL_ROW_TABLE, 1, E(tile_position), { SL_DIM_V_TILES_POS_EMBD, SL_DIM_V_ARRANGEMENT } },
    { "v.tile_position_embd.gate", SL_ROW_VECTOR, 1, E(tile_position_gate), { SL_DIM_ONE } },
    { "v.pre_tile_position_embd.weight", SL_ROW_TABLE, 1, E(pre_tile), { SL_DIM_V_TILES_EMBD, SL_DIM_V_ARRANGEMENT } },
    { "v.pre_tile_position_embd.gate", SL_ROW_VECTOR, 1, E(pre_tile_gate), { SL_DIM_ONE } },
    { "v.post_tile_position_embd.weight", SL_ROW_TABLE, 1, E(post_tile), { SL_DIM_V_TILES_EMBD, SL_DIM_V_ARRANGEMENT } },
    { "v.post_tile_position_embd.gate", SL_ROW_VECTOR, 1, E(post_tile_gate), { SL_DIM_ONE } },
    { "mm.0.weight", SL_ROW_MATRIX, 1, E(projector), { SL_DIM_V_FEATURES, SL_DIM_EMBD } },
    { "mm.0.bias", SL_ROW_VECTOR, 1, E(projector_bias), { SL_DIM_EMBD } },
};

#define L(member) offsetof(sl_tiles_layer, member)
/* The names of one-file layouts, then those of separate projector files, which also say "down" to the first matrix. A file that mixes
 * them is read by shape. */
#define LAYER_ROWS(a, b, out, one, two) \
    { a ".weight", SL_ROW_VECTOR, 1, L(norm1), { SL_DIM_V_EMBD } }, \
    { a ".bias", SL_ROW_VECTOR, 1, L(norm1_bias), { SL_DIM_V_EMBD } }, \
    { b ".weight", SL_ROW_VECTOR, 1, L(norm2), { SL_DIM_V_EMBD } }, \
    { b ".bias", SL_ROW_VECTOR, 1, L(norm2_bias), { SL_DIM_V_EMBD } }, \
    { "attn_q.weight", SL_ROW_MATRIX, 1, L(q), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } }, \
    { "attn_k.weight", SL_ROW_MATRIX, 1, L(k), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } }, \
    { "attn_v.weight", SL_ROW_MATRIX, 1, L(v), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } }, \
    { out ".weight", SL_ROW_MATRIX, 1, L(output), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } }, \
    { one ".weight|" two ".weight", SL_ROW_MATRIX, 1, L(first), { SL_DIM_V_EMBD, SL_DIM_V_FF } }, \
    { one ".bias|" two ".bias", SL_ROW_VECTOR, 1, L(first_bias), { SL_DIM_V_FF } }, \
    { two ".weight|" one ".weight", SL_ROW_MATRIX, 1, L(second), { SL_DIM_V_FF, SL_DIM_V_EMBD } }, \
    { two ".bias|" one ".bias", SL_ROW_VECTOR, 1, L(second_bias), { SL_DIM_V_EMBD } },
static const sl_tensor_row layer_rows[] = { LAYER_ROWS("attn_norm", "ffn_norm", "attn_output", "ffn_up", "ffn_down") };
static const sl_tensor_row old_layer_rows[] = { LAYER_ROWS("ln1", "ln2", "attn_out", "ffn_down", "ffn_up") };

/* A gate of a global layer. */
static sl_status bind_gate(sl_loader *loader, int l, const char *name, int raw, sl_tensor *out)
{
    char full[SL_LIMIT_TENSOR_NAME_BYTES];
    float *gate;
    snprintf(full, sizeof full, "v.global.blk.%d.%s", l, name);
    SL_TRY(sl_loader_read(loader, full, 1, &gate));
    if (raw)
        *gate = sl_tanh(*gate);
    sl_status status = sl_loader_constant(loader, SL_TYPE_F32, 1, gate, out);
    sl_mem_free(sl_loader_mem(loader), gate);
    return status;
}

static sl_status bind_layers(sl_loader *loader, const sl_layout *layout, const char *prefix, uint32_t n, sl_tiles_layer **layers)
{
    *layers = sl_mem_alloc(sl_loader_mem(loader), n, sizeof **layers);
    if (!*layers)
        return SL_ERR_NOMEM;
    for (int l = 0; l < (int)n; l++)
        if (layout->old_names)
            SL_BIND_PART(loader, old_layer_rows, prefix, l, &(*layers)[l]);
        else
            SL_BIND_PART(loader, layer_rows, prefix, l, &(*layers)[l]);
    return SL_OK;
}

sl_status sl_tiles_bind(sl_loader *loader, const sl_layout *layout, sl_tiles_encoder *e)
{
    const sl_mem *mem = sl_loader_mem(loader);
    const sl_vision *v = &sl_loader_hparams(loader)->vision;
    SL_BIND(loader, encoder_rows, -1, e);
    float *zero = sl_mem_alloc(mem, v->n_embd, sizeof *zero);
    if (!zero)
        return SL_ERR_NOMEM;
    sl_status status = sl_loader_constant(loader, SL_TYPE_F32, v->n_embd, zero, e->zero);
    sl_mem_free(mem, zero);
    if (status == SL_OK)
        status = bind_layers(loader, layout, "v.blk", v->n_layer, &e->local);
    if (status == SL_OK)
        status = bind_layers(loader, layout, "v.global.blk", v->n_layer_global, &e->global);
    for (int l = 0; status == SL_OK && l < (int)v->n_layer_global; l++) {
        status = bind_gate(loader, l, "attn_gate", layout->raw_gates, e->global[l].attn_gate);
        if (status == SL_OK)
            status = bind_gate(loader, l, "ffn_gate", layout->raw_gates, e->global[l].ffn_gate);
    }
    return status;
}

void sl_tiles_free(sl_tiles_encoder *e, const sl_mem *mem)
{
    sl_mem_free(mem, e->local);
    sl_mem_free(mem, e->global);
}

/* ---- computation ---- */

static const sl_tensor all_rows = { .ne = { 0 } };

/* Row `row` of a table as [n, ...]: the one that belongs to the arrangement. */
static sl_tensor table_row(sl_pass *p, sl_tensor table, const sl_picture *picture) { return sl_op_take_rows(p, table, picture->arrangement); }

void sl_tiles_embed(sl_pass *p, const sl_vision *v, const sl_tiles_encoder *e, const sl_picture *picture, sl_tensor x)
{
    const sl_mark start = sl_pass_mark(p);
    const int64_t W = v->n_embd, n = v->n_pos, padded = v->n_pos_padded;
    sl_act patches = sl_act_of(picture->patches);
    sl_tensor y = sl_op_matmul(p, &e->patch, &patches);                                     /* [W, max_tiles * n_patch] */
    sl_tensor pre = table_row(p, e->pre_tile, picture), position = table_row(p, e->tile_position, picture);
    for (int64_t t = 0; t < v->max_tiles; t++) {
        sl_tensor tile = sl_view_tokens(x, t * padded, padded), used = sl_view_tokens(tile, 0, n), own = sl_view_tokens(y, t * v->n_patch, v->n_patch);
        sl_op_add_gated(p, own, sl_view_rows(pre, t * W, W), e->pre_tile_gate, all_rows);
        sl_op_copy_to(p, sl_view_tokens(tile, 0, 1), e->class_vector);
        sl_op_copy_to(p, sl_view_tokens(tile, 1, v->n_patch), own);
        sl_op_add_gated(p, used, e->position, e->position_gate, all_rows);
        sl_op_add_gated(p, used, sl_view_slots(sl_view_heads(sl_view_rows(position, t * n * W, n * W), W)), e->tile_position_gate, all_rows);
        const sl_mark mark = sl_pass_mark(p);
        sl_op_copy_to(p, used, sl_op_layer_norm(p, used, e->pre_norm, e->pre_norm_bias, v->epsilon));
        sl_pass_release(p, mark);
        if (padded > n)
            sl_op_copy_to(p, sl_view_tokens(tile, n, padded - n), e->zero[p->device]);
    }
    sl_pass_release(p, start);
}

/* x += gate * attention(norm(x)) */
static void attention(sl_pass *p, const sl_vision *v, const sl_tiles_layer *y, const sl_picture *picture, sl_tensor x)
{
    const int64_t d = v->n_embd / v->n_head, n_page = picture->pages.ne[0];
    const sl_mark mark = sl_pass_mark(p);
    const sl_kv_layer kv = sl_kv_of_pass(p, y->k.form, d, v->n_head, n_page);
    sl_act a = sl_act_of(sl_op_layer_norm(p, x, y->norm1, y->norm1_bias, v->epsilon));
    sl_tensor q = sl_view_heads(sl_op_matmul(p, &y->q, &a), d);
    const sl_mark made = sl_pass_mark(p);
    sl_tensor k = sl_view_heads(sl_op_matmul(p, &y->k, &a), d);
    sl_op_cache_write(p, k, sl_view_heads(sl_op_matmul(p, &y->v, &a), d), kv.k, kv.v, picture->positions, picture->pages, (sl_tensor) { 0 });
    sl_pass_release(p, made);
    sl_tensor o = sl_op_span_attention(p, q, kv.k, kv.v, picture->spans, picture->ranges, 1.0f / sl_sqrt((float)d));
    sl_act heads = sl_act_of(sl_view_flat(o));                                              /* [n_embd, N] */
    sl_tensor out = sl_op_matmul(p, &y->output, &heads);
    if (sl_tensor_is(&y->attn_gate[0]))
        sl_op_add_gated(p, x, out, y->attn_gate[p->device], all_rows);
    else
        sl_op_add_to(p, x, out);
    sl_pass_release(p, mark);
}

/* x += gate * second(gelu(first(norm(x)))), a tile at a time: the hidden vectors are four times as wide as x. */
static void feed_forward(sl_pass *p, const sl_vision *v, const sl_tiles_layer *y, sl_tensor x)
{
    for (int64_t t = 0; t < v->max_tiles; t++) {
        const sl_mark mark = sl_pass_mark(p);
        sl_tensor tile = sl_view_tokens(x, t * v->n_pos_padded, v->n_pos_padded);
        sl_act a = sl_act_of(sl_op_layer_norm(p, tile, y->norm2, y->norm2_bias, v->epsilon));
        sl_tensor hidden = sl_op_matmul(p, &y->first, &a);                                  /* [n_ff, n_pos_padded] */
        sl_op_gelu(p, hidden, y->first_bias);
        sl_act h = sl_act_of(hidden);
        sl_tensor out = sl_op_matmul(p, &y->second, &h);
        sl_op_add_to(p, out, y->second_bias);
        if (sl_tensor_is(&y->ffn_gate[0]))
            sl_op_add_gated(p, tile, out, y->ffn_gate[p->device], all_rows);
        else
            sl_op_add_to(p, tile, out);
        sl_pass_release(p, mark);
    }
}

/* Copies the positions of x that are no padding into elements first, first + step, ... of the features [n_embd * (1 + n_kept), max_tiles * n_pos]. */
static void keep(sl_pass *p, const sl_vision *v, sl_tensor x, sl_tensor features, int64_t first, int64_t step)
{
    for (int64_t t = 0; t < v->max_tiles; t++)
        sl_op_copy_to(p, sl_view_every(sl_view_tokens(features, t * v->n_pos, v->n_pos), first, v->n_embd, step), sl_view_tokens(x, t * v->n_pos_padded, v->n_pos));
}

void sl_tiles_local(sl_pass *p, const sl_vision *v, const sl_tiles_encoder *e, const sl_picture *picture, sl_tensor x, sl_tensor features)
{
    const sl_mark mark = sl_pass_mark(p);
    for (uint32_t l = 0, kept = 0; l < v->n_layer; l++) {
        if (kept < v->n_kept && v->kept[kept] == l)
            keep(p, v, x, features, v->n_embd + kept++, v->n_kept);
        attention(p, v, &e->local[l], picture, x);
        feed_forward(p, v, &e->local[l], x);
    }
    sl_op_copy_to(p, x, sl_op_layer_norm(p, x, e->post_norm, e->post_norm_bias, v->epsilon));
    sl_pass_release(p, mark);
}

void sl_tiles_global(sl_pass *p, const sl_vision *v, const sl_tiles_encoder *e, const sl_picture *picture, sl_tensor x, sl_tensor features)
{
    const sl_mark mark = sl_pass_mark(p);
    sl_tensor post = table_row(p, e->post_tile, picture);
    for (int64_t t = 0; t < v->max_tiles; t++)
        sl_op_add_gated(p, sl_view_tokens(x, t * v->n_pos_padded, v->n_pos_padded), sl_view_rows(post, t * v->n_embd, v->n_embd), e->post_tile_gate, all_rows);
    for (uint32_t l = 0; l < v->n_layer_global; l++) {
        attention(p, v, &e->global[l], picture, x);
        feed_forward(p, v, &e->global[l], x);
    }
    keep(p, v, x, features, 0, 1);
    sl_pass_release(p, mark);
}

sl_tensor sl_tiles_encode(sl_pass *p, const sl_hparams *hp, const sl_tiles_encoder *e, const sl_picture *picture)
{
    const sl_vision *v = &hp->vision;
    const int64_t n_pos = (int64_t)v->max_tiles * v->n_pos, n_padded = (int64_t)v->max_tiles * v->n_pos_padded;
    sl_tensor vectors = sl_pass_tensor(p, SL_TYPE_F32, hp->n_embd, n_pos, 1, 1);
    const sl_mark mark = sl_pass_mark(p);
    sl_tensor features = sl_pass_tensor(p, SL_TYPE_F32, (int64_t)v->n_embd * (1 + v->n_kept), n_pos, 1, 1);
    const sl_mark layers = sl_pass_mark(p);
    sl_tensor x = sl_pass_tensor(p, SL_TYPE_F32, v->n_embd, n_padded, 1, 1);
    sl_tiles_embed(p, v, e, picture, x);
    sl_tiles_local(p, v, e, picture, x, features);
    sl_tiles_global(p, v, e, picture, x, features);
    sl_pass_release(p, layers);
    sl_act f = sl_act_of(features);
    sl_op_copy_to(p, vectors, sl_op_matmul(p, &e->projector, &f));
    sl_op_add_to(p, vectors, e->projector_bias);
    sl_pass_release(p, mark);
    return vectors;
}
