/* SPDX-License-Identifier: MIT */
/* arch/llama4.c - Llama 4: most layers attend inside chunks of positions, every few layers see everything and do not turn by position; experts beside a
 * shared one, chosen by the raw score, whose sigmoid scales what they see. As in Meta's reference (llama-models, models/llama4); docs/models/llama4.md. */
#include "arith.h"
#include "image.h"
#include "llama.h"
#include "vision/vit.h"

#include <stdio.h>
#include <string.h>

/* Tokens around the vectors of a picture. */
enum { START, END, WHOLE, NEXT_TILE, NEXT_ROW, N_TOKENS };
static const char *const token_texts[N_TOKENS] = { "<|image_start|>", "<|image_end|>", "<|image|>", "<|tile_x_separator|>", "<|tile_y_separator|>" };

typedef struct layer {
    sl_llama_layer llama;                           /* attention; the dense part, or norm and experts */
    sl_weight gate_shared, up_shared, down_shared;  /* of layers with experts */
} layer;

typedef struct llama4 {
    sl_llama_frame frame;
    layer *layers;                                  /* [n_layer] */
    sl_tensor ones[SL_MAX_DEVICES];                 /* F32 [d_head]: norms of queries and keys have no weights */
    sl_tensor tune[SL_MAX_DEVICES];                 /* F64 [2]: sl_op_temper */
    sl_vit encoder;                                 /* of files with pictures */
    sl_token tokens[N_TOKENS];
} llama4;

/* What files do not say: Llama 4 has chunks of 8192, a temperature that rises by 0.1 ln every 8192 positions, and every fourth layer sees everything. */
enum { CHUNK = 8192, TURN_STEP = 4, UNNORMED_EXPERTS = 128 };
static const double temperature[2] = { 8192, 0.1 };

/* ---- layouts ---- */

static int has_tensor(const sl_model *model, const char *name) { return sl_parts_find(&model->parts, name, NULL) != NULL; }

static sl_status llama4_layout(sl_model *model, const sl_model_options *options)
{
    sl_layout *layout = &model->layout;
    *layout = (sl_layout) { 0 };
    (void)options;
    if (!model->parts.projector) {
        snprintf(layout->sentence, sizeof layout->sentence, has_tensor(model, "v.patch_embedding.weight")
                 ? "one file" : "text part only: for pictures the projector file is needed");
        return SL_OK;
    }
    sl_text kind;
    char quoted[SL_QUOTE_BYTES];
    static const char key[] = "clip.projector_type";
    SL_TRY(sl_gguf_text(&model->parts.parts[model->parts.projector].gguf, key, &kind));
    if (kind.length != 6 || memcmp(kind.data, "llama4", 6))
        return sl_fail(SL_ERR_UNSUPPORTED, "key %s: '%s', the projector file of another model", key, sl_quote(quoted, kind.data, kind.length));
    snprintf(layout->sentence, sizeof layout->sentence, "two files");
    return SL_OK;
}

/* ---- hyper-parameters ---- */

/* The encoder's numbers, and the token that stands for one of its vectors. */
static sl_status read_vision(sl_model *model)
{
    static const char patch[] = "<|patch|>";
    const size_t part = model->parts.projector;
    sl_hparams *hp = &model->hp;
    uint32_t width = hp->n_embd;
    if (!part && !has_tensor(model, "v.patch_embedding.weight"))
        return SL_OK;
    SL_TRY(sl_vit_read(&hp->vision, &model->parts, part, part ? "clip" : "llama4"));
    const sl_status status = sl_gguf_u32(&model->parts.parts[part].gguf, "clip.vision.projection_dim", &width);
    if (status != SL_OK && status != SL_ERR_MISSING)
        return status;
    if (width != hp->n_embd)
        return sl_fail(SL_ERR_SHAPE, "key clip.vision.projection_dim: vectors of %u for a text of %u, the projector file of another model", width, hp->n_embd);
    hp->vision.token = model->vocab ? sl_vocab_spelled(model->vocab, patch, sizeof patch - 1) : SL_TOKEN_NONE;
    return hp->vision.token == SL_TOKEN_NONE ? sl_fail(SL_ERR_MISSING, "vocabulary: no token %s, which stands for vectors of pictures", patch) : SL_OK;
}

static sl_status llama4_read(sl_model *model)
{
    static const char window_key[] = "llama4.attention.sliding_window";
    const sl_gguf *gguf = &model->parts.parts[0].gguf;
    sl_hparams *hp = &model->hp;
    uint32_t window = 1;
    hp->vision.token = SL_TOKEN_NONE;
    int norm = hp->n_expert != UNNORMED_EXPERTS;
    sl_status status = sl_gguf_bool(gguf, "llama4.use_qk_norm", &norm);
    if (status != SL_OK && status != SL_ERR_MISSING)
        return status;
    hp->qk_norm = (uint32_t)norm;
    if ((status = sl_gguf_u32(gguf, window_key, &window)) != SL_OK && status != SL_ERR_MISSING)
        return status;
    hp->turn_step = window ? TURN_STEP : 0;         /* small relatives with 0: every layer turns and sees everything */
    hp->chunk = window ? hp->chunk ? hp->chunk : CHUNK : 0;
    if (hp->n_expert && !hp->n_ff_expert)
        return sl_fail(SL_ERR_MISSING, "key llama4.expert_feed_forward_length: missing");
    return read_vision(model);
}

static int has_experts(const sl_hparams *hp, int l) { return hp->n_expert && hp->expert_step && (l + 1) % (int)hp->expert_step == 0; }
static int turns(const sl_hparams *hp, int l) { return !hp->turn_step || (l + 1) % (int)hp->turn_step != 0; }

/* ---- weights ---- */

#define L(member) offsetof(layer, member)
static const sl_tensor_row expert_rows[] = {
    { "ffn_norm.weight", SL_ROW_VECTOR, 1, L(llama.ffn_norm), { SL_DIM_EMBD } },
    { "ffn_gate_inp.weight", SL_ROW_ROUTER, 1, L(llama.router), { SL_DIM_EMBD, SL_DIM_EXPERT } },
    { "ffn_gate_exps.weight", SL_ROW_MATRIX, 1, L(llama.gate_exps), { SL_DIM_EMBD, SL_DIM_FF_EXPERT, SL_DIM_EXPERT } },
    { "ffn_up_exps.weight", SL_ROW_MATRIX, 1, L(llama.up_exps), { SL_DIM_EMBD, SL_DIM_FF_EXPERT, SL_DIM_EXPERT } },
    { "ffn_down_exps.weight", SL_ROW_MATRIX, 1, L(llama.down_exps), { SL_DIM_FF_EXPERT, SL_DIM_EMBD, SL_DIM_EXPERT } },
    { "ffn_gate_shexp.weight", SL_ROW_MATRIX, 1, L(gate_shared), { SL_DIM_EMBD, SL_DIM_FF_EXPERT } },
    { "ffn_up_shexp.weight", SL_ROW_MATRIX, 1, L(up_shared), { SL_DIM_EMBD, SL_DIM_FF_EXPERT } },
    { "ffn_down_shexp.weight", SL_ROW_MATRIX, 1, L(down_shared), { SL_DIM_FF_EXPERT, SL_DIM_EMBD } },
};

static sl_status bind_constants(sl_loader *loader, const sl_hparams *hp, llama4 *m)
{
    const sl_mem *mem = sl_loader_mem(loader);
    float *ones = sl_mem_alloc(mem, hp->d_head, sizeof *ones);
    if (!ones)
        return SL_ERR_NOMEM;
    for (uint32_t i = 0; i < hp->d_head; i++)
        ones[i] = 1.0f;
    sl_status status = sl_loader_constant(loader, SL_TYPE_F32, hp->d_head, ones, m->ones);
    sl_mem_free(mem, ones);
    return status == SL_OK ? sl_loader_constant(loader, SL_TYPE_F64, 2, temperature, m->tune) : status;
}

static sl_status bind_vision(sl_loader *loader, llama4 *m)
{
    const sl_vocab *vocab = sl_loader_model(loader)->vocab;
    for (int i = 0; i < N_TOKENS; i++)
        if ((m->tokens[i] = sl_vocab_spelled(vocab, token_texts[i], strlen(token_texts[i]))) == SL_TOKEN_NONE)
            return sl_fail(SL_ERR_MISSING, "vocabulary: no token %s, which pictures need", token_texts[i]);
    return sl_vit_bind(loader, &m->encoder);
}

static sl_status llama4_bind(sl_loader *loader, void **weights)
{
    const sl_hparams *hp = sl_loader_hparams(loader);
    const sl_mem *mem = sl_loader_mem(loader);
    llama4 *m = *weights = sl_mem_alloc(mem, 1, sizeof *m);
    if (!m || !(m->layers = sl_mem_alloc(mem, hp->n_layer, sizeof *m->layers)))
        return SL_ERR_NOMEM;
    SL_TRY(sl_llama_bind_frame(loader, &m->frame));
    SL_TRY(bind_constants(loader, hp, m));
    for (int l = 0; l < (int)hp->n_layer; l++) {
        SL_TRY(sl_llama_bind_attention(loader, l, &m->layers[l].llama));
        if (has_experts(hp, l))
            SL_BIND(loader, expert_rows, l, &m->layers[l]);
        else
            SL_TRY(sl_llama_bind_dense(loader, l, &m->layers[l].llama));
    }
    return hp->vision.max_tiles ? bind_vision(loader, m) : SL_OK;
}

static void llama4_free(void *weights, const sl_mem *mem)
{
    llama4 *m = weights;
    if (!m)
        return;
    sl_vit_free(&m->encoder, mem);
    sl_mem_free(mem, m->layers);
    sl_mem_free(mem, m);
}

/* ---- computation ---- */

/* x[n_embd, n_tok] += attention(norm(x)) */
static void attention(sl_pass *p, const sl_hparams *hp, int l, const llama4 *m, const sl_batch *b, sl_tensor angles, sl_tensor x)
{
    const sl_llama_layer *y = &m->layers[l].llama;
    sl_tensor q, k, v;
    sl_llama_project(p, hp, l, y, x, &q, &k, &v);
    if (!turns(hp, l))
        sl_op_temper(p, q, b->positions[p->device], m->tune[p->device]);
    else {
        sl_op_rope(p, q, angles);
        sl_op_rope(p, k, angles);
        if (hp->qk_norm) {
            q = sl_op_rms_norm(p, q, m->ones[p->device], hp->rms_epsilon);
            k = sl_op_rms_norm(p, k, m->ones[p->device], hp->rms_epsilon);
        }
    }
    sl_llama_attend(p, hp, l, y, b, q, k, v, turns(hp, l) ? hp->chunk : 0, x);
}

/* x[n_embd, n_tok] += experts(h) + shared(h), h = norm(x) */
static void experts(sl_pass *p, const sl_hparams *hp, const layer *y, sl_tensor x)
{
    sl_tensor ids, weights;
    sl_act a = sl_op_rms_norm_quantize(p, x, y->llama.ffn_norm, hp->rms_epsilon, &y->gate_shared);
    sl_op_route(p, sl_op_matmul(p, &y->llama.router, &a), hp->n_expert_used, SL_GATE_SIGMOID, &ids, &weights);     /* [n_expert_used, n_tok] */
    sl_act g = sl_act_of(sl_view_slots(sl_op_expert_scale(p, a.form[SL_ACT_F32], weights)));                                        /* [n_embd, n_expert_used * n_tok] */
    sl_act z = sl_act_of(sl_view_slots(sl_op_swiglu_expert(p, &y->llama.gate_exps, &y->llama.up_exps, &g, ids)));  /* [n_ff_expert, n_expert_used * n_tok] */
    sl_tensor chosen = sl_op_matmul_expert(p, &y->llama.down_exps, &z, ids);                                       /* [n_embd, n_expert_used, n_tok] */
    sl_act s = sl_act_of(sl_op_swiglu(p, &y->gate_shared, &y->up_shared, &a));
    sl_tensor shared = sl_op_matmul(p, &y->down_shared, &s);                                                       /* [n_embd, n_tok] */
    for (int64_t slot = 0; slot < hp->n_expert_used; slot++)
        sl_op_add_to(p, x, sl_view_slot(chosen, slot));
    sl_op_add_to(p, x, shared);
}

static sl_tensor llama4_forward(sl_pass *p, const sl_model *model, const sl_batch *b)
{
    const llama4 *m = model->weights;
    const sl_hparams *hp = &model->hp;
    sl_tensor angles[SL_MAX_DEVICES] = { 0 };
    sl_tensor x = sl_llama_embed(p, model, &m->frame, b);                   /* [n_embd, n_tok] */
    for (int l = 0; l < (int)hp->n_layer; l++) {
        const layer *y = &m->layers[l];
        x = sl_pass_move(p, x, model->layer_device[l]);
        if (!sl_tensor_is(&angles[p->device]))
            angles[p->device] = sl_llama_angles(p, &m->frame, b);
        sl_mark mark = sl_pass_mark(p);
        attention(p, hp, l, m, b, angles[p->device], x);
        sl_pass_release(p, mark);
        if (has_experts(hp, l))
            experts(p, hp, y, x);
        else
            sl_op_add_to(p, x, sl_llama_dense(p, hp, &y->llama, x));
        sl_pass_release(p, mark);
    }
    return sl_pass_move(p, x, model->io_device);
}

static sl_tensor llama4_norm(sl_pass *p, const sl_model *model, sl_tensor hidden) { return sl_llama_norm(p, &model->hp, &((const llama4 *)model->weights)->frame, hidden); }
static sl_tensor llama4_head(sl_pass *p, const sl_model *model, sl_tensor rows) { return sl_llama_head(p, &((const llama4 *)model->weights)->frame, rows); }

static sl_tensor llama4_encode(sl_pass *p, const sl_model *model, const sl_picture *picture)
{
    return sl_vit_encode(p, &model->hp, &((const llama4 *)model->weights)->encoder, picture);
}

static sl_status put_tile(const sl_model *model, sl_status (*put)(void *, int32_t), void *user)
{
    for (uint32_t i = 0; i < model->hp.vision.n_vector; i++)
        SL_TRY(put(user, model->hp.vision.token));
    return SL_OK;
}

/* Rows of tiles, each closed; the whole picture behind them, or alone. */
static sl_status llama4_spell(const sl_model *model, uint32_t width, uint32_t height, sl_status (*put)(void *, int32_t), void *user)
{
    const sl_token *tokens = ((const llama4 *)model->weights)->tokens;
    sl_tiling tiling;
    SL_TRY(sl_tiling_choose(&tiling, width, height, model->hp.vision.tile_side, model->hp.vision.max_tiles));
    SL_TRY(put(user, tokens[START]));
    for (int32_t row = 0; tiling.tiles_high * tiling.tiles_wide > 1 && row < tiling.tiles_high; row++)
        for (int32_t column = 1; column <= tiling.tiles_wide; column++) {
            SL_TRY(put_tile(model, put, user));
            SL_TRY(put(user, tokens[column < tiling.tiles_wide ? NEXT_TILE : NEXT_ROW]));
        }
    SL_TRY(put(user, tokens[WHOLE]));
    SL_TRY(put_tile(model, put, user));
    return put(user, tokens[END]);
}

/* Dividing by the root mean square, where it is done, is the same before and behind a turn. */
static void llama4_turn(sl_pass *p, const sl_model *model, int l, sl_tensor k, sl_tensor by)
{
    if (turns(&model->hp, l))
        sl_llama_turn(p, &((const llama4 *)model->weights)->frame, k, by);
}

const sl_arch sl_arch_llama4 = {
    .name = "llama4", .defaults = { .expert_step = 1, .rope_base = 500000.0f, .rope_attn_factor = 1.0f },
    .layout = llama4_layout, .read = llama4_read, .bind = llama4_bind, .free = llama4_free, .forward = llama4_forward, .turn = llama4_turn, .norm = llama4_norm, .head = llama4_head,
    .encode = llama4_encode, .spell = llama4_spell,
};
