/* SPDX-License-Identifier: MIT */
/* arch/llama.c - Llama 1, 2, 3, 3.x, Mistral, Mixtral and fine-tunes in that layout: one loop, the differences are hyper-parameters and the
 * presence of tensors. Mathematics: Touvron et al., arXiv 2302.13971; grouped queries: Ainslie et al., arXiv 2305.13245; Mixtral: arXiv 2401.04088. */
#include "llama.h"

#include "arith.h"
#include "kv.h"
#include "vision/clip.h"

#include <stdio.h>

typedef sl_llama_layer layer;

typedef struct llama {
    sl_llama_frame frame;
    layer *layers;
    sl_clip encoder;                        /* of models with a projector file: LLaVA */
} llama;

/* ---- pictures: none, or a projector file of LLaVA ---- */

/* Says in which file it is. */
static sl_status in_projector(const sl_model *model, sl_status status)
{
    return status == SL_OK || status == SL_ERR_NOMEM ? status : sl_fail_in(status, model->parts.parts[model->parts.projector].input.name);
}

static sl_status llama_layout(sl_model *model, const sl_model_options *options)
{
    (void)options;
    model->layout = (sl_layout) { 0 };
    return model->parts.projector ? in_projector(model, sl_clip_layout(&model->layout, &model->parts, model->parts.projector)) : SL_OK;
}

/* The vocabulary has no token for pictures: the id behind its last one stands for each of their vectors. */
static sl_status llama_read(sl_model *model)
{
    sl_hparams *hp = &model->hp;
    if (!model->parts.projector)
        return SL_OK;
    SL_TRY(in_projector(model, sl_clip_read(&hp->vision, &model->parts, model->parts.projector)));
    hp->vision.token = (int32_t)hp->n_vocab;
    hp->n_token = hp->n_vocab + 1;
    return SL_OK;
}

static sl_tensor llama_encode(sl_pass *p, const sl_model *model, const sl_picture *picture)
{
    return sl_clip_encode(p, &model->hp, &((const llama *)model->weights)->encoder, picture);
}

static sl_status llama_spell(const sl_model *model, uint32_t width, uint32_t height, sl_status (*put)(void *, int32_t), void *user)
{
    (void)width, (void)height;
    for (uint32_t i = 0; i < model->hp.vision.n_vector; i++)
        SL_TRY(put(user, model->hp.vision.token));
    return SL_OK;
}

/* ---- weights ---- */

#define F(member) offsetof(sl_llama_frame, member)
static const sl_tensor_row frame_rows[] = {
    { "token_embd.weight", SL_ROW_MATRIX, 1, F(token_embd), { SL_DIM_EMBD, SL_DIM_TOKENS } },
    { "output_norm.weight", SL_ROW_VECTOR, 1, F(output_norm), { SL_DIM_EMBD } },
    { "output.weight", SL_ROW_MATRIX, 0, F(output), { SL_DIM_EMBD, SL_DIM_VOCAB } },
};

#define L(member) offsetof(layer, member)
static const sl_tensor_row attention_rows[] = {
    { "attn_norm.weight", SL_ROW_VECTOR, 1, L(attn_norm), { SL_DIM_EMBD } },
    { "attn_output.weight", SL_ROW_MATRIX, 1, L(attn_output), { SL_DIM_Q, SL_DIM_EMBD } },
    { "attn_output.bias", SL_ROW_VECTOR, 0, L(bo), { SL_DIM_EMBD } },
};
static const sl_tensor_row split_rows[] = {
    { "attn_q.weight", SL_ROW_MATRIX, 1, L(attn_q), { SL_DIM_EMBD, SL_DIM_Q } },
    { "attn_k.weight", SL_ROW_MATRIX, 1, L(attn_k), { SL_DIM_EMBD, SL_DIM_KV } },
    { "attn_v.weight", SL_ROW_MATRIX, 1, L(attn_v), { SL_DIM_EMBD, SL_DIM_KV } },
    { "attn_q.bias", SL_ROW_VECTOR, 0, L(bq), { SL_DIM_Q } },
    { "attn_k.bias", SL_ROW_VECTOR, 0, L(bk), { SL_DIM_KV } },
    { "attn_v.bias", SL_ROW_VECTOR, 0, L(bv), { SL_DIM_KV } },
};
static const sl_tensor_row fused_rows[] = {
    { "attn_qkv.weight", SL_ROW_MATRIX, 0, L(attn_qkv), { SL_DIM_EMBD, SL_DIM_QKV } },
    { "attn_qkv.bias", SL_ROW_VECTOR, 0, L(bqkv), { SL_DIM_QKV } },
};
static const sl_tensor_row ffn_rows[] = {
    { "ffn_norm.weight", SL_ROW_VECTOR, 1, L(ffn_norm), { SL_DIM_EMBD } },
};
static const sl_tensor_row dense_rows[] = {
    { "ffn_gate.weight", SL_ROW_MATRIX, 1, L(ffn_gate), { SL_DIM_EMBD, SL_DIM_FF } },
    { "ffn_up.weight", SL_ROW_MATRIX, 1, L(ffn_up), { SL_DIM_EMBD, SL_DIM_FF } },
    { "ffn_down.weight", SL_ROW_MATRIX, 1, L(ffn_down), { SL_DIM_FF, SL_DIM_EMBD } },
    { "ffn_gate.bias", SL_ROW_VECTOR, 0, L(bgate), { SL_DIM_FF } },
    { "ffn_up.bias", SL_ROW_VECTOR, 0, L(bup), { SL_DIM_FF } },
    { "ffn_down.bias", SL_ROW_VECTOR, 0, L(bdown), { SL_DIM_EMBD } },
};
static const sl_tensor_row expert_rows[] = {
    { "ffn_gate_inp.weight", SL_ROW_MATRIX, 1, L(router), { SL_DIM_EMBD, SL_DIM_EXPERT } },
    { "ffn_gate_exps.weight", SL_ROW_MATRIX, 1, L(gate_exps), { SL_DIM_EMBD, SL_DIM_FF, SL_DIM_EXPERT } },
    { "ffn_up_exps.weight", SL_ROW_MATRIX, 1, L(up_exps), { SL_DIM_EMBD, SL_DIM_FF, SL_DIM_EXPERT } },
    { "ffn_down_exps.weight", SL_ROW_MATRIX, 1, L(down_exps), { SL_DIM_FF, SL_DIM_EMBD, SL_DIM_EXPERT } },
};

sl_status sl_llama_bind_attention(sl_loader *loader, int l, sl_llama_layer *y)
{
    SL_BIND(loader, attention_rows, l, y);
    SL_BIND(loader, fused_rows, l, y);
    if (!y->attn_qkv.name)
        SL_BIND(loader, split_rows, l, y);
    return SL_OK;
}

sl_status sl_llama_bind_dense(sl_loader *loader, int l, sl_llama_layer *y)
{
    SL_BIND(loader, ffn_rows, l, y);
    SL_BIND(loader, dense_rows, l, y);
    return SL_OK;
}

sl_status sl_llama_bind_ffn(sl_loader *loader, int l, sl_llama_layer *y)
{
    if (!sl_loader_hparams(loader)->n_expert)
        return sl_llama_bind_dense(loader, l, y);
    SL_BIND(loader, ffn_rows, l, y);
    SL_BIND(loader, expert_rows, l, y);
    return SL_OK;
}

/* Frequencies for rope, with the factors of Llama 3 if the file has them. */
static sl_status bind_rope(sl_loader *loader, const sl_hparams *hp, sl_llama_frame *frame)
{
    const sl_mem *mem = sl_loader_mem(loader);
    float *factors = NULL;
    double *freq = sl_mem_alloc(mem, hp->d_head / 2, sizeof *freq);
    sl_status status = freq ? sl_loader_read(loader, "rope_freqs.weight", hp->d_head / 2, &factors) : SL_ERR_NOMEM;
    if (status == SL_OK || status == SL_ERR_MISSING)
        status = sl_rope_frequencies(hp, factors, freq, &frame->magnitude);
    if (status == SL_OK)
        status = sl_loader_constant(loader, SL_TYPE_F64, hp->d_head / 2, freq, frame->freq);
    sl_mem_free(mem, factors);
    sl_mem_free(mem, freq);
    return status;
}

sl_status sl_llama_bind_frame(sl_loader *loader, sl_llama_frame *frame)
{
    const sl_hparams *hp = sl_loader_hparams(loader);
    SL_BIND(loader, frame_rows, -1, frame);
    if (!frame->output.name && hp->n_token_rows != hp->n_vocab)         /* the embedding has rows that no row of logits has room for */
        return sl_fail(SL_ERR_MISSING, "output.weight: the tensor is missing");
    return bind_rope(loader, hp, frame);
}

static sl_status llama_bind(sl_loader *loader, void **weights)
{
    const sl_hparams *hp = sl_loader_hparams(loader);
    const sl_mem *mem = sl_loader_mem(loader);
    llama *m = *weights = sl_mem_alloc(mem, 1, sizeof *m);
    if (!m || !(m->layers = sl_mem_alloc(mem, hp->n_layer, sizeof *m->layers)))
        return SL_ERR_NOMEM;
    SL_TRY(sl_llama_bind_frame(loader, &m->frame));
    for (int l = 0; l < (int)hp->n_layer; l++) {
        SL_TRY(sl_llama_bind_attention(loader, l, &m->layers[l]));
        SL_TRY(sl_llama_bind_ffn(loader, l, &m->layers[l]));
    }
    return hp->vision.max_tiles ? sl_clip_bind(loader, &m->encoder) : SL_OK;
}

static void llama_free(void *weights, const sl_mem *mem)
{
    llama *m = weights;
    if (!m)
        return;
    sl_clip_free(&m->encoder, mem);
    sl_mem_free(mem, m->layers);
    sl_mem_free(mem, m);
}

/* ---- computation ---- */

static void add_bias(sl_pass *p, sl_tensor x, sl_tensor bias)
{
    if (sl_tensor_is(&bias))
        sl_op_add_to(p, x, bias);
}

void sl_llama_project(sl_pass *p, const sl_hparams *hp, int l, const sl_llama_layer *y, sl_tensor x, sl_tensor *q, sl_tensor *k, sl_tensor *v)
{
    sl_act a = sl_op_rms_norm_quantize(p, x, y->attn_norm, hp->rms_epsilon, y->attn_qkv.name ? &y->attn_qkv : &y->attn_q);
    const int64_t nq = sl_hparams_dim(hp, l, SL_DIM_Q), nkv = sl_hparams_dim(hp, l, SL_DIM_KV);
    if (y->attn_qkv.name) {
        sl_tensor qkv = sl_op_matmul(p, &y->attn_qkv, &a);
        add_bias(p, qkv, y->bqkv);
        *q = sl_view_rows(qkv, 0, nq), *k = sl_view_rows(qkv, nq, nkv), *v = sl_view_rows(qkv, nq + nkv, nkv);
    } else {
        const sl_weight *const weights[] = { &y->attn_q, &y->attn_k, &y->attn_v };
        sl_tensor out[3];
        sl_op_matmul_many(p, weights, 3, &a, out);
        *q = out[0], *k = out[1], *v = out[2];
        add_bias(p, *q, y->bq), add_bias(p, *k, y->bk), add_bias(p, *v, y->bv);
    }
    *q = sl_view_heads(*q, hp->d_head), *k = sl_view_heads(*k, hp->d_head), *v = sl_view_heads(*v, hp->d_head);
}

void sl_llama_attend(sl_pass *p, const sl_hparams *hp, int l, const sl_llama_layer *y, const sl_batch *b, sl_tensor q, sl_tensor k, sl_tensor v, int64_t chunk, sl_tensor x)
{
    const sl_tensor positions = b->positions[p->device], pages = b->pages[p->device], seqs = b->seqs[p->device];
    sl_op_cache_write(p, k, v, b->kv[l].k, b->kv[l].v, positions, pages, seqs);
    sl_tensor o = sl_op_attention(p, q, b->kv[l].k, b->kv[l].v, positions, pages, seqs, chunk, 1.0f / sl_sqrt((float)hp->d_head));
    sl_act heads = sl_act_of(sl_view_flat(o));                              /* [d_head * n_head, n_tok] */
    sl_tensor out = sl_op_matmul(p, &y->attn_output, &heads);
    add_bias(p, out, y->bo);
    sl_op_add_to(p, x, out);
}

void sl_llama_attention(sl_pass *p, const sl_hparams *hp, int l, const sl_llama_layer *y, const sl_batch *b, sl_tensor angles, sl_tensor x)
{
    sl_tensor q, k, v;
    sl_llama_project(p, hp, l, y, x, &q, &k, &v);
    sl_op_rope(p, q, angles);
    sl_op_rope(p, k, angles);
    sl_llama_attend(p, hp, l, y, b, q, k, v, 0, x);
}

/* h[n_ff, n_tok] = silu(gate) * up of a[n_embd, n_tok]. */
static void hidden(sl_pass *p, const layer *y, sl_act *a, sl_tensor h)
{
    if (!sl_tensor_is(&y->bgate) && !sl_tensor_is(&y->bup)) {
        sl_op_swiglu_to(p, h, &y->ffn_gate, &y->ffn_up, a);
        return;
    }
    sl_tensor gate = sl_op_matmul(p, &y->ffn_gate, a), up = sl_op_matmul(p, &y->ffn_up, a);
    add_bias(p, gate, y->bgate), add_bias(p, up, y->bup);
    sl_op_silu_mul_to(p, h, gate, up);
}

/* The widest rows of a pass, of which an arena has most: they are made first, so that what they come from is gone when the last product wants room. */
sl_tensor sl_llama_dense(sl_pass *p, const sl_hparams *hp, const sl_llama_layer *y, sl_tensor x)
{
    sl_tensor wide = sl_pass_tensor(p, SL_TYPE_F32, y->ffn_gate.n_out, x.ne[1], 1, 1);                            /* [n_ff, n_tok] */
    const sl_mark mark = sl_pass_mark(p);
    sl_act a = sl_op_rms_norm_quantize(p, x, y->ffn_norm, hp->rms_epsilon, &y->ffn_gate);
    hidden(p, y, &a, wide);
    sl_pass_release(p, mark);
    sl_act h = sl_act_of(wide);
    sl_tensor down = sl_op_matmul(p, &y->ffn_down, &h);
    add_bias(p, down, y->bdown);
    return down;
}

/* The same through the n_expert_used experts that the router chooses. */
static sl_tensor experts(sl_pass *p, const sl_hparams *hp, const layer *y, sl_act *b)
{
    sl_tensor ids, weights;                                                 /* [n_expert_used, n_tok] */
    sl_op_route(p, sl_op_matmul(p, &y->router, b), hp->n_expert_used, SL_GATE_SOFTMAX, &ids, &weights);
    sl_act h = sl_act_of(sl_view_slots(sl_op_swiglu_expert(p, &y->gate_exps, &y->up_exps, b, ids)));               /* [n_ff, n_expert_used * n_tok] */
    return sl_op_expert_sum(p, sl_op_matmul_expert(p, &y->down_exps, &h, ids), weights);
}

sl_tensor sl_llama_ffn(sl_pass *p, const sl_hparams *hp, const sl_llama_layer *y, sl_tensor x)
{
    if (!hp->n_expert)
        return sl_llama_dense(p, hp, y, x);
    sl_act a = sl_op_rms_norm_quantize(p, x, y->ffn_norm, hp->rms_epsilon, &y->gate_exps);
    return experts(p, hp, y, &a);
}

sl_tensor sl_llama_angles(sl_pass *p, const sl_llama_frame *frame, const sl_batch *b)
{
    return sl_op_rope_angles(p, b->positions[p->device], frame->freq[p->device], frame->magnitude);
}

sl_tensor sl_llama_embed(sl_pass *p, const sl_model *model, const sl_llama_frame *frame, const sl_batch *b)
{
    sl_tensor x = sl_op_get_rows(p, &frame->token_embd, b->ids);
    if (b->sight) {
        x = sl_pass_move(p, x, model->layer_device[0]);
        sl_op_put_rows(p, x, sl_kv_rows(&b->sight->kv[0]), b->sight->marks[p->device]);
    }
    return x;
}

/* The magnitude is in the keys already. */
void sl_llama_turn(sl_pass *p, const sl_llama_frame *frame, sl_tensor k, sl_tensor by) { sl_op_rope(p, k, sl_op_rope_angles(p, by, frame->freq[p->device], 1.0f)); }

static sl_tensor llama_forward(sl_pass *p, const sl_model *model, const sl_batch *b)
{
    const llama *m = model->weights;
    const sl_hparams *hp = &model->hp;
    sl_tensor angles[SL_MAX_DEVICES] = { 0 };
    sl_tensor x = sl_llama_embed(p, model, &m->frame, b);                   /* [n_embd, n_tok] */
    for (int l = 0; l < (int)hp->n_layer; l++) {
        const layer *y = &m->layers[l];
        x = sl_pass_move(p, x, model->layer_device[l]);
        if (!sl_tensor_is(&angles[p->device]))
            angles[p->device] = sl_llama_angles(p, &m->frame, b);
        sl_mark mark = sl_pass_mark(p);
        sl_llama_attention(p, hp, l, y, b, angles[p->device], x);
        sl_pass_release(p, mark);
        sl_op_add_to(p, x, sl_llama_ffn(p, hp, y, x));
        sl_pass_release(p, mark);
    }
    return sl_pass_move(p, x, model->io_device);
}

sl_tensor sl_llama_norm(sl_pass *p, const sl_hparams *hp, const sl_llama_frame *frame, sl_tensor hidden)
{
    return sl_op_rms_norm(p, hidden, frame->output_norm, hp->rms_epsilon);
}

sl_tensor sl_llama_head(sl_pass *p, const sl_llama_frame *frame, sl_tensor rows)
{
    sl_act x = sl_act_of(rows);
    return sl_op_matmul(p, frame->output.name ? &frame->output : &frame->token_embd, &x);
}

static sl_tensor llama_norm(sl_pass *p, const sl_model *model, sl_tensor hidden) { return sl_llama_norm(p, &model->hp, &((const llama *)model->weights)->frame, hidden); }
static sl_tensor llama_head(sl_pass *p, const sl_model *model, sl_tensor rows) { return sl_llama_head(p, &((const llama *)model->weights)->frame, rows); }

static void llama_turn(sl_pass *p, const sl_model *model, int l, sl_tensor k, sl_tensor by)
{
    (void)l;
    sl_llama_turn(p, &((const llama *)model->weights)->frame, k, by);
}

const sl_arch sl_arch_llama = {
    .name = "llama", .defaults = { .rope_base = 10000.0f, .rope_attn_factor = 1.0f },
    .layout = llama_layout, .read = llama_read, .bind = llama_bind, .free = llama_free, .forward = llama_forward, .turn = llama_turn, .norm = llama_norm, .head = llama_head,
    .encode = llama_encode, .behind_picture = "\n", .spell = llama_spell,
};
