/* SPDX-License-Identifier: MIT */
/* arch/llama.h - the parts of a Llama text model that other architectures are made of too. */
#ifndef SL_ARCH_LLAMA_H
#define SL_ARCH_LLAMA_H

#include "model.h"

/* One layer: self-attention and feed-forward part. */
typedef struct sl_llama_layer {
    sl_tensor attn_norm, ffn_norm;                              /* [n_embd] */
    sl_weight attn_q, attn_k, attn_v, attn_qkv, attn_output;    /* q, k, v apart, or their rows one after the other in qkv */
    sl_tensor bq, bk, bv, bqkv, bo;
    sl_weight ffn_gate, ffn_up, ffn_down;                       /* dense layers */
    sl_tensor bgate, bup, bdown;
    sl_weight router, gate_exps, up_exps, down_exps;            /* layers with experts */
} sl_llama_layer;

/* What stands before and behind the layers. */
typedef struct sl_llama_frame {
    sl_weight token_embd, output;       /* output: empty where the embedding serves */
    sl_tensor output_norm;
    sl_tensor freq[SL_MAX_DEVICES];     /* F64 [d_head / 2] */
    float magnitude;
} sl_llama_frame;

sl_status sl_llama_bind_frame(sl_loader *loader, sl_llama_frame *frame);
sl_status sl_llama_bind_attention(sl_loader *loader, int l, sl_llama_layer *layer);     /* norm, q, k, v, output */
sl_status sl_llama_bind_dense(sl_loader *loader, int l, sl_llama_layer *layer);         /* norm and dense part */
sl_status sl_llama_bind_ffn(sl_loader *loader, int l, sl_llama_layer *layer);           /* norm, dense part or experts */

/* Embeddings [n_embd, n_tok] of the batch, the vectors of pictures in the place of their tokens; on the device of the embedding or of the first layer. */
sl_tensor sl_llama_embed(sl_pass *pass, const struct sl_model *model, const sl_llama_frame *frame, const sl_batch *batch);
/* Angles of the batch's positions on the current device: [2, d_head / 2, n_tok]. */
sl_tensor sl_llama_angles(sl_pass *pass, const sl_llama_frame *frame, const sl_batch *batch);
/* Keys [d_head, n_head_kv, n_tok] turned by `by` more positions. */
void sl_llama_turn(sl_pass *pass, const sl_llama_frame *frame, sl_tensor k, sl_tensor by);
/* x[n_embd, n_tok] += attention(norm(x)) */
void sl_llama_attention(sl_pass *pass, const sl_hparams *hp, int l, const sl_llama_layer *layer, const sl_batch *batch, sl_tensor angles, sl_tensor x);
/* The pieces of that: queries [d_head, n_head, n_tok], keys and values [d_head, n_head_kv, n_tok] of norm(x); what they give when the keys and values are in the cache. */
void sl_llama_project(sl_pass *pass, const sl_hparams *hp, int l, const sl_llama_layer *layer, sl_tensor x, sl_tensor *q, sl_tensor *k, sl_tensor *v);
void sl_llama_attend(sl_pass *pass, const sl_hparams *hp, int l, const sl_llama_layer *layer, const sl_batch *batch, sl_tensor q, sl_tensor k, sl_tensor v, int64_t chunk, sl_tensor x);
/* down(silu(gate) * up) of norm(x): [n_embd, n_tok]; to be added to x. */
sl_tensor sl_llama_dense(sl_pass *pass, const sl_hparams *hp, const sl_llama_layer *layer, sl_tensor x);
/* The same, or where there are experts what they give. */
sl_tensor sl_llama_ffn(sl_pass *pass, const sl_hparams *hp, const sl_llama_layer *layer, sl_tensor x);
/* The last norm, [n_embd, n_rows], and logits of that, [n_vocab, n_rows]. */
sl_tensor sl_llama_norm(sl_pass *pass, const sl_hparams *hp, const sl_llama_frame *frame, sl_tensor hidden);
sl_tensor sl_llama_head(sl_pass *pass, const sl_llama_frame *frame, sl_tensor rows);

#endif
