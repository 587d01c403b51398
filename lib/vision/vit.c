/* SPDX-License-Identifier: MIT */
/* vision/vit.c - the computation, as in Meta's reference (llama-models, models/llama4/vision); docs/models/llama4.md. */
#include "vision/vit.h"

#include "arith.h"
#include "kv.h"
#include "vision/keys.h"

/* ---- hyper-parameters ---- */

enum { MAX_TILES = 16, SHUFFLE = 2 };

#define V(member) offsetof(sl_vision, member)
static const sl_vision_row vision_rows[] = {
    { "block_count", V(n_layer), SL_LIMIT_LAYERS, 0 },
    { "embedding_length", V(n_embd), 65536, 0 },
    { "feed_forward_length", V(n_ff), SL_LIMIT_EMBEDDING, 0 },
    { "attention.head_count", V(n_head), 4096, 0 },
    { "image_size", V(tile_side), 4096, 0 },
    { "patch_size", V(patch_side), 4096, 0 },
    { "projector.scale_factor", V(shuffle), SHUFFLE, SHUFFLE },
};

sl_status sl_vit_read(sl_vision *v, const sl_parts *parts, size_t part, const char *prefix)
{
    static const char *const adapters[] = { "mm.model.mlp.1.weight", "v.vision_adapter.mlp.fc1.weight" };
    const sl_gguf *gguf = &parts->parts[part].gguf;
    *v = (sl_vision) { .mean = { 0.5f, 0.5f, 0.5f }, .deviation = { 0.5f, 0.5f, 0.5f }, .epsilon = 1e-5f, .rope_base = 10000.0f, .n_channel = 3,
                       .max_tiles = MAX_TILES };
    float ratio = 1.0f / SHUFFLE;
    SL_TRY(sl_vision_numbers(v, gguf, prefix, vision_rows, sizeof vision_rows / sizeof *vision_rows));
    SL_TRY(sl_vision_real(gguf, prefix, "pixel_shuffle_ratio", 0, 1, &ratio));
    if (v->shuffle != SHUFFLE || ratio * SHUFFLE != 1.0f)
        return sl_fail(SL_ERR_UNSUPPORTED, "key %s.vision.projector.scale_factor: patches are joined %d by %d only", prefix, SHUFFLE, SHUFFLE);
    SL_TRY(sl_vision_real(gguf, prefix, "layer_norm_epsilon", 0, 1, &v->epsilon));
    SL_TRY(sl_vision_real(gguf, prefix, "attention.layer_norm_epsilon", 0, 1, &v->epsilon));
    SL_TRY(sl_vision_real(gguf, prefix, "rope.freq_base", 1, 1e15f, &v->rope_base));
    SL_TRY(sl_vision_colours(v, gguf, prefix));
    if (v->tile_side % (v->patch_side * SHUFFLE))
        return sl_fail(SL_ERR_RANGE, "key %s.vision.patch_size: patches of %u, joined %d by %d, do not fill tiles of %u", prefix, v->patch_side, SHUFFLE, SHUFFLE, v->tile_side);
    if (v->n_embd % v->n_head || v->n_embd / v->n_head % 4 || v->n_embd / v->n_head > SL_LIMIT_HEAD_DIM)
        return sl_fail(SL_ERR_SHAPE, "key %s.vision.attention.head_count: %u heads over %u elements", prefix, v->n_head, v->n_embd);
    const uint64_t per_side = v->tile_side / v->patch_side, n_patch = per_side * per_side;
    if (n_patch * (MAX_TILES + 1) > SL_LIMIT_BATCH)
        return sl_fail(SL_ERR_LIMIT, "key %s.vision.patch_size: a picture has %llu patches, the limit is %d", prefix, (unsigned long long)(n_patch * (MAX_TILES + 1)), SL_LIMIT_BATCH);
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        const sl_gguf_tensor *t = sl_parts_find(parts, adapters[i], NULL);
        if (t && t->ne[1] > 0 && t->ne[1] <= SL_LIMIT_EMBEDDING)
            v->n_adapter = (uint32_t)t->ne[1];
    }
    if (!v->n_adapter)
        return sl_fail(SL_ERR_MISSING, "%s: the tensor is missing, or of no possible shape", adapters[0]);
    v->n_patch = (uint32_t)n_patch;
    v->n_pos = v->n_pos_padded = v->n_patch + 1;
    v->n_vector = v->n_patch / (SHUFFLE * SHUFFLE);
    return SL_OK;
}

/* ---- weights ---- */

#define E(member) offsetof(sl_vit, member)
/* The names of projector files, then those of one-file layouts. */
static const sl_tensor_row encoder_rows[] = {
    { "v.patch_embd.weight/v.patch_embedding.weight", SL_ROW_MATRIX, 1, E(patch), { SL_DIM_V_PIXELS, SL_DIM_V_EMBD } },
    { "v.class_embd/v.class_embedding", SL_ROW_VECTOR, 1, E(class_vector), { SL_DIM_V_EMBD } },
    { "v.position_embd.weight/v.positional_embedding_vlm", SL_ROW_TABLE, 1, E(position), { SL_DIM_V_EMBD, SL_DIM_V_POS } },
    { "v.pre_ln.weight/v.layernorm_pre.weight", SL_ROW_VECTOR, 1, E(pre_norm), { SL_DIM_V_EMBD } },
    { "v.pre_ln.bias/v.layernorm_pre.bias", SL_ROW_VECTOR, 1, E(pre_norm_bias), { SL_DIM_V_EMBD } },
    { "v.post_ln.weight/v.layernorm_post.weight", SL_ROW_VECTOR, 1, E(post_norm), { SL_DIM_V_EMBD } },
    { "v.post_ln.bias/v.layernorm_post.bias", SL_ROW_VECTOR, 1, E(post_norm_bias), { SL_DIM_V_EMBD } },
    { "mm.model.mlp.1.weight/v.vision_adapter.mlp.fc1.weight", SL_ROW_MATRIX, 1, E(adapter1), { SL_DIM_V_SHUFFLED, SL_DIM_V_ADAPTER } },
    { "mm.model.mlp.2.weight/v.vision_adapter.mlp.fc2.weight", SL_ROW_MATRIX, 1, E(adapter2), { SL_DIM_V_ADAPTER, SL_DIM_V_ADAPTER } },
    { "mm.model.fc.weight/mm.linear_1.weight", SL_ROW_MATRIX, 1, E(projector), { SL_DIM_V_ADAPTER, SL_DIM_EMBD } },
};

#define L(member) offsetof(sl_vit_layer, member)
static const sl_tensor_row attention_rows[] = {
    { "ln1.weight/attn_norm.weight", SL_ROW_VECTOR, 1, L(norm1), { SL_DIM_V_EMBD } },
    { "ln1.bias/attn_norm.bias", SL_ROW_VECTOR, 1, L(norm1_bias), { SL_DIM_V_EMBD } },
    { "ln2.weight/ffn_norm.weight", SL_ROW_VECTOR, 1, L(norm2), { SL_DIM_V_EMBD } },
    { "ln2.bias/ffn_norm.bias", SL_ROW_VECTOR, 1, L(norm2_bias), { SL_DIM_V_EMBD } },
    { "attn_q.weight", SL_ROW_MATRIX, 1, L(q), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } },
    { "attn_q.bias", SL_ROW_VECTOR, 1, L(q_bias), { SL_DIM_V_EMBD } },
    { "attn_k.weight", SL_ROW_MATRIX, 1, L(k), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } },
    { "attn_k.bias", SL_ROW_VECTOR, 1, L(k_bias), { SL_DIM_V_EMBD } },
    { "attn_v.weight", SL_ROW_MATRIX, 1, L(v), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } },
    { "attn_v.bias", SL_ROW_VECTOR, 1, L(v_bias), { SL_DIM_V_EMBD } },
    { "attn_out.weight/attn_output.weight", SL_ROW_MATRIX, 1, L(output), { SL_DIM_V_EMBD, SL_DIM_V_EMBD } },
    { "attn_out.bias/attn_output.bias", SL_ROW_VECTOR, 1, L(output_bias), { SL_DIM_V_EMBD } },
};

static const sl_tensor_row forward_rows[] = {
    { "ffn_up.weight/mlp.fc1.weight", SL_ROW_MATRIX, 1, L(first), { SL_DIM_V_EMBD, SL_DIM_V_FF } },
    { "ffn_up.bias/mlp.fc1.bias", SL_ROW_VECTOR, 1, L(first_bias), { SL_DIM_V_FF } },
    { "ffn_down.weight/mlp.fc2.weight", SL_ROW_MATRIX, 1, L(second), { SL_DIM_V_FF, SL_DIM_V_EMBD } },
    { "ffn_down.bias/mlp.fc2.bias", SL_ROW_VECTOR, 1, L(second_bias), { SL_DIM_V_EMBD } },
};

/* Of a head's d elements the first half turns with the column, the second with the row, in adjacent pairs: pair i of a half by (1 + column) base^(-2 i / (d / 2)).
 * The class vector, which comes last, does not turn. */
static void fill_angles(const sl_vision *v, float *angles)
{
    const uint32_t per_side = v->tile_side / v->patch_side, pairs = v->n_embd / v->n_head / 4;
    const double base = sl_log2(v->rope_base);
    for (uint32_t at = 0; at < v->n_pos; at++)
        for (uint32_t half = 0; half < 2; half++)
            for (uint32_t i = 0; i < pairs; i++, angles += 2) {
                const uint32_t place = at == v->n_patch ? 0 : 1 + (half ? at / per_side : at % per_side);
                float s, c;
                sl_sincos(place * sl_exp2(-1.0 * i / pairs * base), &s, &c);
                angles[0] = c, angles[1] = s;
            }
}

/* Blocks row by row; in a block its patches row by row. */
static void fill_order(const sl_vision *v, int32_t *order)
{
    const uint32_t per_side = v->tile_side / v->patch_side, n = v->shuffle;
    for (uint32_t row = 0; row < per_side; row += n)
        for (uint32_t column = 0; column < per_side; column += n)
            for (uint32_t i = 0; i < n * n; i++)
                *order++ = (int32_t)((row + i / n) * per_side + column + i % n);
}

static void shape(sl_tensor *constants, int64_t n0, int64_t n1, int64_t n2)
{
    for (int d = 0; d < SL_MAX_DEVICES; d++)
        if (sl_tensor_is(&constants[d])) {
            constants[d].ne[0] = n0, constants[d].ne[1] = n1, constants[d].ne[2] = n2;
            constants[d].stride[1] = constants[d].stride[0] * (size_t)n0, constants[d].stride[2] = constants[d].stride[1] * (size_t)n1;
            constants[d].stride[3] = constants[d].stride[2] * (size_t)n2;
        }
}

sl_status sl_vit_bind_constants(sl_loader *loader, const sl_vision *v, sl_vit *e)
{
    const sl_mem *mem = sl_loader_mem(loader);
    const int64_t d = v->n_embd / v->n_head, n = v->n_pos;
    float *angles = sl_mem_alloc(mem, (size_t)(d * n), sizeof *angles);
    int32_t *numbers = sl_mem_alloc(mem, (size_t)(2 * n), sizeof *numbers);
    sl_status status = angles && numbers ? SL_OK : SL_ERR_NOMEM;
    if (status == SL_OK && v->rope_base > 0) {
        fill_angles(v, angles);
        status = sl_loader_constant(loader, SL_TYPE_F32, d * n, angles, e->angles);
        shape(e->angles, 2, d / 2, n);
    }
    if (status == SL_OK && v->shuffle) {
        fill_order(v, numbers);
        status = sl_loader_constant(loader, SL_TYPE_I32, v->n_patch, numbers, e->order);
    }
    if (status == SL_OK) {
        for (int32_t i = 0; i < n; i++)
            numbers[i] = i;
        status = sl_loader_constant(loader, SL_TYPE_I32, n, numbers, e->places);
    }
    if (status == SL_OK) {
        const int32_t all[2] = { 0, (int32_t)n };
        status = sl_loader_constant(loader, SL_TYPE_I32, 2, all, e->spans);
        shape(e->spans, 2, 1, 1);
    }
    if (status == SL_OK) {
        for (int64_t i = 0; i < n; i++)
            numbers[2 * i] = 0, numbers[2 * i + 1] = 1;
        status = sl_loader_constant(loader, SL_TYPE_I32, 2 * n, numbers, e->ranges);
        shape(e->ranges, 2, n, 1);
    }
    sl_mem_free(mem, angles);
    sl_mem_free(mem, numbers);
    return status;
}

sl_status sl_vit_bind_layers(sl_loader *loader, const sl_vision *v, sl_vit *e, const sl_tensor_row *forward, size_t n_forward)
{
    if (!(e->layers = sl_mem_alloc(sl_loader_mem(loader), v->n_layer, sizeof *e->layers)))
        return SL_ERR_NOMEM;
    for (int l = 0; l < (int)v->n_layer; l++) {
        SL_BIND_PART(loader, attention_rows, "v.blk", l, &e->layers[l]);
        SL_TRY(sl_loader_bind_part(loader, forward, n_forward, "v.blk", l, &e->layers[l]));
    }
    return SL_OK;
}

sl_status sl_vit_bind(sl_loader *loader, sl_vit *e)
{
    const sl_vision *v = &sl_loader_hparams(loader)->vision;
    SL_BIND(loader, encoder_rows, -1, e);
    SL_TRY(sl_vit_bind_constants(loader, v, e));
    return sl_vit_bind_layers(loader, v, e, forward_rows, sizeof forward_rows / sizeof *forward_rows);
}

void sl_vit_free(sl_vit *e, const sl_mem *mem) { sl_mem_free(mem, e->layers); }

/* ---- computation ---- */

/* Each part of a layer with a frame of its own: tensors are large, and stacks small. */
#define APART __attribute__((noinline))

static const sl_tensor none = { .ne = { 0 } };

static sl_tensor with_bias(sl_pass *p, sl_tensor x, sl_tensor bias)
{
    sl_op_add_to(p, x, bias);
    return x;
}

/* x[n_embd, n_pos] += attention(norm(x)) */
static APART void attention(sl_pass *p, const sl_vision *v, const sl_vit *e, const sl_vit_layer *y, sl_tensor x)
{
    const int64_t d = v->n_embd / v->n_head, n_page = (v->n_pos + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS;
    const sl_tensor places = e->places[p->device];
    const sl_kv_layer kv = sl_kv_of_pass(p, y->k.form, d, v->n_head, n_page);
    sl_act a = sl_act_of(sl_op_layer_norm(p, x, y->norm1, y->norm1_bias, v->epsilon));
    sl_tensor q = sl_view_heads(with_bias(p, sl_op_matmul(p, &y->q, &a), y->q_bias), d), k = sl_view_heads(with_bias(p, sl_op_matmul(p, &y->k, &a), y->k_bias), d);
    sl_tensor values_of = sl_view_heads(with_bias(p, sl_op_matmul(p, &y->v, &a), y->v_bias), d);
    if (sl_tensor_is(&e->angles[p->device])) {
        sl_op_rope(p, q, e->angles[p->device]);
        sl_op_rope(p, k, e->angles[p->device]);
    }
    sl_op_cache_write(p, k, values_of, kv.k, kv.v, places, sl_view_rows(places, 0, n_page), none);
    sl_tensor o = sl_op_span_attention(p, q, kv.k, kv.v, e->spans[p->device], e->ranges[p->device], 1.0f / sl_sqrt((float)d));
    sl_act heads = sl_act_of(sl_view_flat(o));                                              /* [n_embd, n_pos] */
    sl_op_add_to(p, x, with_bias(p, sl_op_matmul(p, &y->output, &heads), y->output_bias));
}

/* x += second(gelu(first(norm(x)))) */
static APART void feed_forward(sl_pass *p, const sl_vision *v, const sl_vit_layer *y, sl_tensor x)
{
    sl_act a = sl_act_of(sl_op_layer_norm(p, x, y->norm2, y->norm2_bias, v->epsilon));
    sl_tensor hidden = sl_op_matmul(p, &y->first, &a);                                      /* [n_ff, n_pos] */
    (v->quick_gelu ? sl_op_quick_gelu : sl_op_gelu)(p, hidden, y->first_bias);
    sl_act h = sl_act_of(hidden);
    sl_op_add_to(p, x, with_bias(p, sl_op_matmul(p, &y->second, &h), y->second_bias));
}

void sl_vit_layer_run(sl_pass *p, const sl_vision *v, const sl_vit *e, uint32_t l, sl_tensor x)
{
    const sl_mark mark = sl_pass_mark(p);
    attention(p, v, e, &e->layers[l], x);
    sl_pass_release(p, mark);
    feed_forward(p, v, &e->layers[l], x);
    sl_pass_release(p, mark);
}

sl_tensor sl_vit_layers(sl_pass *p, const sl_vision *v, const sl_vit *e, sl_tensor patches)
{
    sl_tensor x = sl_pass_tensor(p, SL_TYPE_F32, v->n_embd, v->n_pos, 1, 1);
    const sl_mark mark = sl_pass_mark(p);
    sl_act pixels = sl_act_of(patches);
    sl_op_copy_to(p, sl_view_tokens(x, 0, v->n_patch), sl_op_matmul(p, &e->patch, &pixels));
    sl_op_copy_to(p, sl_view_tokens(x, v->n_patch, 1), e->class_vector);
    sl_op_add_to(p, x, e->position);
    sl_op_copy_to(p, x, sl_op_layer_norm(p, x, e->pre_norm, e->pre_norm_bias, v->epsilon));
    sl_pass_release(p, mark);
    for (uint32_t l = 0; l < v->n_layer; l++)
        sl_vit_layer_run(p, v, e, l, x);
    return sl_view_tokens(sl_op_layer_norm(p, x, e->post_norm, e->post_norm_bias, v->epsilon), 0, v->n_patch);
}

sl_tensor sl_vit_adapt(sl_pass *p, const sl_vision *v, const sl_vit *e, sl_tensor x)
{
    const int64_t joined = v->shuffle * v->shuffle;
    sl_tensor blocks = sl_view_flat(sl_view_groups(sl_op_take_rows(p, x, e->order[p->device]), joined));     /* [joined * n_embd, n_vector] */
    sl_act a = sl_act_of(blocks);
    sl_tensor y = sl_op_matmul(p, &e->adapter1, &a);
    sl_op_gelu(p, y, none);
    sl_act b = sl_act_of(y);
    sl_tensor z = sl_op_matmul(p, &e->adapter2, &b);
    sl_op_gelu(p, z, none);
    return z;
}

sl_tensor sl_vit_encode(sl_pass *p, const sl_hparams *hp, const sl_vit *e, const sl_picture *picture)
{
    const sl_vision *v = &hp->vision;
    const int64_t n_tile = picture->patches.ne[1] / v->n_patch;
    sl_tensor vectors = sl_pass_tensor(p, SL_TYPE_F32, hp->n_embd, v->n_vector * n_tile, 1, 1);
    const sl_mark mark = sl_pass_mark(p);
    for (int64_t t = 0; t < n_tile; t++) {
        sl_pass_repeat(p, mark);
        sl_act y = sl_act_of(sl_vit_adapt(p, v, e, sl_vit_layers(p, v, e, sl_view_tokens(picture->patches, t * v->n_patch, v->n_patch))));
        sl_op_copy_to(p, sl_view_tokens(vectors, t * v->n_vector, v->n_vector), sl_op_matmul(p, &e->projector, &y));
    }
    sl_pass_release(p, mark);
    return vectors;
}
