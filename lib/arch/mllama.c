/* SPDX-License-Identifier: MIT */
/* arch/mllama.c - Llama 3.2 Vision: a Llama 3 text model, some of whose layers look at pictures through gated cross-attention instead of at the text.
 * As in Meta's reference (llama-models, models/llama3/multimodal/model.py); the layouts of files: docs/models/mllama.md. */
#include "arith.h"
#include "llama.h"
#include "vision/tiles.h"

#include <stdio.h>
#include <string.h>

/* What a cross-attention layer has instead of self-attention. */
typedef struct cross {
    sl_tensor attn_norm;                                        /* [n_embd] */
    sl_weight q, k, v, output;
    sl_tensor q_norm[SL_MAX_DEVICES], k_norm[SL_MAX_DEVICES];   /* F32 [d_head] */
    sl_tensor attn_gate[SL_MAX_DEVICES], ffn_gate[SL_MAX_DEVICES];      /* F32 [1], tanh taken */
} cross;

typedef struct mllama {
    sl_llama_frame frame;
    sl_llama_layer *layers;     /* [n_layer]; of cross-attention layers only the feed-forward part */
    cross *cross;               /* [n_layer] */
    sl_tiles_encoder encoder;
} mllama;

/* ---- layouts ---- */

static int has_tensor(const sl_model *model, const char *name) { return sl_parts_find(&model->parts, name, NULL) != NULL; }
static int is(const char *text, const char *name) { return text && !strcmp(text, name); }

/* Any tensor of an image encoder tells that there is one: what it lacks is missing then. */
static int has_encoder(const sl_model *model)
{
    size_t i = 0;
    while (i < model->parts.n_tensors && strncmp(sl_parts_tensor(&model->parts, i, NULL)->name, "v.", 2))
        i++;
    return i < model->parts.n_tensors;
}

/* A projector file must be one for this architecture. */
static sl_status check_projector(const sl_part *part)
{
    char quoted[SL_QUOTE_BYTES];
    sl_text name;
    sl_status status = sl_gguf_text(&part->gguf, "general.architecture", &name);
    if (status == SL_OK && (name.length != 6 || memcmp(name.data, "mllama", 6)))
        status = sl_fail(SL_ERR_UNSUPPORTED, "key general.architecture: '%s', not 'mllama': it is the projector file of another model", sl_quote(quoted, name.data, name.length));
    return sl_fail_in(status, part->input.name);
}

/* What an option says: 1 or 0, or `otherwise` for "auto" and none. */
static int choice(const char *text, const char *yes, const char *no, int otherwise) { return is(text, yes) ? 1 : is(text, no) ? 0 : otherwise; }

static sl_status mllama_layout(sl_model *model, const sl_model_options *options)
{
    const sl_gguf *gguf = &model->parts.parts[0].gguf;
    sl_layout *layout = &model->layout;
    *layout = (sl_layout) { 0 };
    if (sl_gguf_find(gguf, "mllama.cross_attention_layers") || has_tensor(model, "v.enc.mmproj.weight"))
        return sl_fail(SL_ERR_UNSUPPORTED, "layout D, written by an experimental converter: it is not supported; files of the usual layouts are (docs/models/mllama.md)");
    if (model->parts.projector)
        SL_TRY(check_projector(&model->parts.parts[model->parts.projector]));
    if (!sl_gguf_find(gguf, "mllama.block_count") && has_encoder(model))
        return sl_fail(SL_ERR_UNSUPPORTED, "this is the projector file of a two-file model (layout L0): load the text file, with this one as its projector");
    const char *names = model->parts.projector ? "two files (layout L0)" : "one file (layout L1)";
    if (!has_encoder(model)) {
        if (model->parts.projector)
            return sl_fail_in(sl_fail(SL_ERR_MISSING, "v.patch_embd.weight: the tensor is missing, as all others of an image encoder"), model->parts.parts[model->parts.projector].input.name);
        snprintf(layout->sentence, sizeof layout->sentence, "text part only: for pictures the projector file is needed; layers that look at pictures are left out");
        return SL_OK;
    }
    const int key = sl_gguf_find(gguf, "tokenizer.ggml.eos_token_ids") != NULL;
    layout->old_names = has_tensor(model, "v.blk.0.ln1.weight");
    layout->reorder_norms = choice(options->cross_norm, "reorder", "stored", key);
    layout->raw_gates = choice(options->global_gates, "raw", "tanh", 0);
    const char *why_norm = is(options->cross_norm, "reorder") || is(options->cross_norm, "stored") ? "as asked for"
                           : key ? "the file has tokenizer.ggml.eos_token_ids: its converter reordered the rows" : "the file lacks tokenizer.ggml.eos_token_ids";
    snprintf(layout->sentence, sizeof layout->sentence, "%s, %s tensor names; cross-attention norms: %s (%s); gates of global layers: %s (%s)", names,
             layout->old_names ? "old" : "new", layout->reorder_norms ? "reordered" : "as stored", why_norm, layout->raw_gates ? "raw, tanh is taken" : "tanh already taken",
             is(options->global_gates, "raw") || is(options->global_gates, "tanh") ? "as asked for" : "only files of the short-lived layout L1a differ");
    return SL_OK;
}

/* ---- hyper-parameters ---- */

/* Without the key: the layers that have such tensors. */
static sl_status find_cross_layers(sl_model *model)
{
    char name[SL_LIMIT_TENSOR_NAME_BYTES];
    int any = 0;
    for (uint32_t l = 0; l < model->hp.n_layer; l++) {
        snprintf(name, sizeof name, "blk.%u.cross_attn_q_proj.weight", l);
        any |= model->hp.cross[l] = (uint8_t)has_tensor(model, name);
    }
    return any ? SL_OK : sl_fail(SL_ERR_MISSING, "key mllama.attention.cross_attention_layers: missing, and no layer has tensors of cross-attention");
}

static sl_status read_cross_layers(sl_model *model)
{
    static const char key[] = "mllama.attention.cross_attention_layers";
    sl_hparams *hp = &model->hp;
    const sl_gguf_kv *kv = sl_gguf_find(&model->parts.parts[0].gguf, key);
    hp->cross = sl_mem_alloc(&model->mem, hp->n_layer, 1);
    if (!hp->cross)
        return SL_ERR_NOMEM;
    if (!kv)
        return find_cross_layers(model);
    if (kv->value.type != SL_META_ARRAY)
        return sl_fail(SL_ERR_TYPE, "key %s: not an array", key);
    for (uint64_t i = 0; i < kv->value.count; i++) {
        int64_t l;
        if (sl_gguf_value_int(&kv->value, i, &l) != SL_OK)
            return sl_fail(SL_ERR_TYPE, "key %s: not integers", key);
        if (l < 0 || l >= (int64_t)hp->n_layer || hp->cross[l])
            return sl_fail(SL_ERR_RANGE, "key %s: element %llu is %lld, with %u layers", key, (unsigned long long)i, (long long)l, hp->n_layer);
        hp->cross[l] = 1;
    }
    return SL_OK;
}

static sl_status read_encoder(sl_model *model)
{
    static const char key[] = "mllama.vision.projection_dim";       /* in projector files */
    const sl_gguf *gguf = &model->parts.parts[model->parts.projector].gguf;
    uint32_t width = model->hp.n_embd;
    const sl_status status = model->parts.projector ? sl_gguf_u32(gguf, key, &width) : SL_OK;
    if (status != SL_OK && status != SL_ERR_MISSING)
        return status;
    if (width != model->hp.n_embd)
        return sl_fail(SL_ERR_SHAPE, "key %s: %u, but the text model is %u wide: it is the projector file of another model", key, width, model->hp.n_embd);
    return sl_tiles_read(&model->hp.vision, gguf, "mllama");
}

static sl_status mllama_read(sl_model *model)
{
    sl_hparams *hp = &model->hp;
    const sl_gguf_tensor *t = sl_parts_find(&model->parts, "token_embd.weight", NULL);
    hp->vision.token = SL_TOKEN_NONE;
    SL_TRY(read_cross_layers(model));
    if (hp->n_expert)
        return sl_fail(SL_ERR_UNSUPPORTED, "key mllama.expert_count: experts in a vision model");
    if (t && t->ne[1] > hp->n_token_rows && t->ne[1] <= SL_LIMIT_VOCABULARY)    /* rows behind the image token are never used */
        hp->n_token_rows = (uint32_t)t->ne[1];
    if (!has_encoder(model))
        return SL_OK;
    const sl_status status = read_encoder(model);
    if (status != SL_OK)
        return model->parts.projector ? sl_fail_in(status, model->parts.parts[model->parts.projector].input.name) : status;
    hp->vision.token = (int32_t)hp->n_vocab;
    return SL_OK;
}

/* ---- weights ---- */

#define C(member) offsetof(cross, member)
static const sl_tensor_row cross_rows[] = {
    { "attn_norm.weight", SL_ROW_VECTOR, 1, C(attn_norm), { SL_DIM_EMBD } },
    { "cross_attn_q_proj.weight", SL_ROW_MATRIX, 1, C(q), { SL_DIM_EMBD, SL_DIM_Q } },
    { "cross_attn_k_proj.weight", SL_ROW_MATRIX, 1, C(k), { SL_DIM_EMBD, SL_DIM_KV } },
    { "cross_attn_v_proj.weight", SL_ROW_MATRIX, 1, C(v), { SL_DIM_EMBD, SL_DIM_KV } },
    { "cross_attn_o_proj.weight", SL_ROW_MATRIX, 1, C(output), { SL_DIM_Q, SL_DIM_EMBD } },
};

/* A small tensor of a layer: n numbers, changed on their way. */
static sl_status bind_numbers(sl_loader *loader, int l, const char *name, int64_t n, void (*change)(const float *from, float *to, int64_t n), sl_tensor *out)
{
    const sl_mem *mem = sl_loader_mem(loader);
    char full[SL_LIMIT_TENSOR_NAME_BYTES];
    float *numbers, *changed = sl_mem_alloc(mem, (size_t)n, sizeof *changed);
    if (!changed)
        return SL_ERR_NOMEM;
    snprintf(full, sizeof full, "blk.%d.%s", l, name);
    sl_status status = sl_loader_read(loader, full, n, &numbers);
    if (status == SL_OK) {
        change(numbers, changed, n);
        status = sl_loader_constant(loader, SL_TYPE_F32, n, changed, out);
    }
    sl_mem_free(mem, numbers);
    sl_mem_free(mem, changed);
    return status;
}

static void take_tanh(const float *from, float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = sl_tanh(from[i]);
}

static void as_stored(const float *from, float *to, int64_t n) { memcpy(to, from, (size_t)n * sizeof *to); }

/* As the converter did with the rows of a head: new[2 j + s] = old[s n / 2 + j]. */
static void interleave_halves(const float *from, float *to, int64_t n)
{
    for (int64_t j = 0; j < n / 2; j++)
        to[2 * j] = from[j], to[2 * j + 1] = from[n / 2 + j];
}

static sl_status bind_cross(sl_loader *loader, const sl_model *model, int l, cross *c)
{
    void (*order)(const float *, float *, int64_t) = model->layout.reorder_norms ? interleave_halves : as_stored;
    SL_BIND(loader, cross_rows, l, c);
    SL_TRY(bind_numbers(loader, l, "cross_attn_q_norm.weight", model->hp.d_head, order, c->q_norm));
    SL_TRY(bind_numbers(loader, l, "cross_attn_k_norm.weight", model->hp.d_head, order, c->k_norm));
    SL_TRY(bind_numbers(loader, l, "cross_attn_attn_gate", 1, take_tanh, c->attn_gate));
    return bind_numbers(loader, l, "cross_attn_mlp_gate", 1, take_tanh, c->ffn_gate);
}

static sl_status mllama_bind(sl_loader *loader, void **weights)
{
    const sl_model *model = sl_loader_model(loader);
    const sl_hparams *hp = &model->hp;
    mllama *m = *weights = sl_mem_alloc(&model->mem, 1, sizeof *m);
    if (!m || !(m->layers = sl_mem_alloc(&model->mem, hp->n_layer, sizeof *m->layers)) || !(m->cross = sl_mem_alloc(&model->mem, hp->n_layer, sizeof *m->cross)))
        return SL_ERR_NOMEM;
    SL_TRY(sl_llama_bind_frame(loader, &m->frame));
    for (int l = 0; l < (int)hp->n_layer; l++) {
        if (hp->cross[l] && !hp->vision.max_tiles)
            continue;           /* nothing to look at */
        SL_TRY(hp->cross[l] ? bind_cross(loader, model, l, &m->cross[l]) : sl_llama_bind_attention(loader, l, &m->layers[l]));
        SL_TRY(sl_llama_bind_ffn(loader, l, &m->layers[l]));
    }
    return hp->vision.max_tiles ? sl_tiles_bind(loader, &model->layout, &m->encoder) : SL_OK;
}

static void mllama_free(void *weights, const sl_mem *mem)
{
    mllama *m = weights;
    if (!m)
        return;
    sl_tiles_free(&m->encoder, mem);
    sl_mem_free(mem, m->layers);
    sl_mem_free(mem, m->cross);
    sl_mem_free(mem, m);
}

/* ---- computation ---- */

/* x += gate * attention(norm(x)) over what each token sees of the pictures, in the rows that see any */
static void cross_attention(sl_pass *p, const sl_hparams *hp, int l, const cross *c, const sl_sight *sight, sl_tensor x)
{
    sl_act a = sl_op_rms_norm_quantize(p, x, c->attn_norm, hp->rms_epsilon, &c->q);
    sl_tensor q = sl_op_rms_norm(p, sl_view_heads(sl_op_matmul(p, &c->q, &a), hp->d_head), c->q_norm[p->device], hp->rms_epsilon);
    sl_tensor o = sl_op_span_attention(p, q, sight->kv[l].k, sight->kv[l].v, sight->spans[p->device], sight->ranges[p->device], 1.0f / sl_sqrt((float)hp->d_head));
    sl_act heads = sl_act_of(sl_view_flat(o));                              /* [d_head * n_head, n_tok] */
    sl_op_add_gated(p, x, sl_op_matmul(p, &c->output, &heads), c->attn_gate[p->device], sight->marks[p->device]);
}

static sl_tensor mllama_forward(sl_pass *p, const sl_model *model, const sl_batch *b)
{
    const mllama *m = model->weights;
    const sl_hparams *hp = &model->hp;
    sl_tensor angles[SL_MAX_DEVICES] = { 0 };
    sl_tensor x = sl_op_get_rows(p, &m->frame.token_embd, b->ids);          /* [n_embd, n_tok] */
    for (int l = 0; l < (int)hp->n_layer; l++) {
        if (hp->cross[l] && !b->sight)
            continue;           /* rows that see no picture keep their values */
        x = sl_pass_move(p, x, model->layer_device[l]);
        if (!sl_tensor_is(&angles[p->device]))
            angles[p->device] = sl_llama_angles(p, &m->frame, b);
        sl_mark mark = sl_pass_mark(p);
        if (hp->cross[l])
            cross_attention(p, hp, l, &m->cross[l], b->sight, x);
        else
            sl_llama_attention(p, hp, l, &m->layers[l], b, angles[p->device], x);
        sl_pass_release(p, mark);
        sl_tensor y = sl_llama_ffn(p, hp, &m->layers[l], x);
        if (hp->cross[l])
            sl_op_add_gated(p, x, y, m->cross[l].ffn_gate[p->device], b->sight->marks[p->device]);
        else
            sl_op_add_to(p, x, y);
        sl_pass_release(p, mark);
    }
    return sl_pass_move(p, x, model->io_device);
}

static sl_tensor mllama_norm(sl_pass *p, const sl_model *model, sl_tensor hidden) { return sl_llama_norm(p, &model->hp, &((const mllama *)model->weights)->frame, hidden); }
static sl_tensor mllama_head(sl_pass *p, const sl_model *model, sl_tensor rows) { return sl_llama_head(p, &((const mllama *)model->weights)->frame, rows); }

static sl_tensor mllama_encode(sl_pass *p, const sl_model *model, const sl_picture *picture)
{
    return sl_tiles_encode(p, &model->hp, &((const mllama *)model->weights)->encoder, picture);
}

static void mllama_remember(sl_pass *p, const sl_model *model, int l, sl_tensor vectors, const sl_kv_layer *kv, sl_tensor positions, sl_tensor pages)
{
    const cross *c = &((const mllama *)model->weights)->cross[l];
    const int64_t d = model->hp.d_head;
    sl_act y = sl_act_of(vectors);
    sl_tensor k = sl_op_rms_norm(p, sl_view_heads(sl_op_matmul(p, &c->k, &y), d), c->k_norm[p->device], model->hp.rms_epsilon);
    sl_op_cache_write(p, k, sl_view_heads(sl_op_matmul(p, &c->v, &y), d), kv->k, kv->v, positions, pages, (sl_tensor) { 0 });
}

static void mllama_turn(sl_pass *p, const sl_model *model, int l, sl_tensor k, sl_tensor by)
{
    (void)l;
    sl_llama_turn(p, &((const mllama *)model->weights)->frame, k, by);
}

const sl_arch sl_arch_mllama = {
    .name = "mllama", .defaults = { .n_ctx_train = 131072, .rms_epsilon = 1e-5f, .rope_base = 500000.0f, .rope_attn_factor = 1.0f }, .n_image_tokens = 1,
    .layout = mllama_layout, .read = mllama_read, .bind = mllama_bind, .free = mllama_free, .forward = mllama_forward, .turn = mllama_turn, .norm = mllama_norm, .head = mllama_head,
    .encode = mllama_encode, .remember = mllama_remember,
};
