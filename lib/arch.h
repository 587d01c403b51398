/* SPDX-License-Identifier: MIT */
/* arch.h - what an architecture is: hyper-parameters and tensors as rows, and a forward pass that reads like the mathematics.
 *
 * The spelling of every dimension: n_embd, n_ff, n_head, n_head_kv, d_head, n_vocab, n_ctx, n_layer, n_expert, n_tok. */
#ifndef SL_ARCH_H
#define SL_ARCH_H

#include "input.h"
#include "op.h"

/* How positions are stretched: gguf.md 4.1. */
typedef enum sl_rope_scaling { SL_ROPE_NONE, SL_ROPE_LINEAR, SL_ROPE_YARN } sl_rope_scaling;

/* Hyper-parameters of text models, validated: every number within its published limit. */
typedef struct sl_hparams {
    uint32_t n_ctx_train, n_embd, n_layer, n_vocab, d_head, n_expert, n_expert_used;
    uint32_t *n_head, *n_head_kv, *n_ff;        /* [n_layer] */
    float rms_epsilon, rope_base, rope_factor, rope_attn_factor;
    uint32_t rope_ctx_original;
    sl_rope_scaling rope_scaling;
} sl_hparams;

/* Sizes that tensor shapes are made of. */
typedef enum sl_dim { SL_DIM_END, SL_DIM_EMBD, SL_DIM_VOCAB, SL_DIM_Q, SL_DIM_KV, SL_DIM_QKV, SL_DIM_FF, SL_DIM_HALF_HEAD, SL_DIM_EXPERT } sl_dim;

/* One tensor of an architecture and the member it is bound to (an sl_weight or an sl_tensor at `offset` of the structure handed in). */
typedef struct sl_tensor_row {
    const char *name;           /* behind "blk.N." for tensors of a layer */
    enum { SL_ROW_MATRIX, SL_ROW_VECTOR } kind;
    int needed;                 /* 0: may be absent, the member stays empty */
    size_t offset;
    sl_dim dims[4];             /* fastest first */
} sl_tensor_row;

struct sl_model;
typedef struct sl_loader sl_loader;

/* Binds rows to the members of *target: finds each tensor, checks type and shape, and notes it for placing. layer -1: names as they are. */
sl_status sl_loader_bind(sl_loader *loader, const sl_tensor_row *rows, size_t n_rows, int layer, void *target);
/* Reads a small tensor of n numbers to the host; *out (of the model's memory) is the caller's. SL_ERR_MISSING if the tensor is not there. */
sl_status sl_loader_read(sl_loader *loader, const char *name, int64_t n, float **out);
/* Copies n elements of host memory to every device: out[SL_MAX_DEVICES]. They belong to the model. */
sl_status sl_loader_constant(sl_loader *loader, sl_type type, int64_t n, const void *host, sl_tensor *out);
const sl_hparams *sl_loader_hparams(const sl_loader *loader);
const sl_mem *sl_loader_mem(const sl_loader *loader);

/* Keys and values of one layer, see kv.h. */
typedef struct sl_kv_layer { sl_tensor k, v; } sl_kv_layer;

/* What one pass computes. Positions and pages lie on every device. */
typedef struct sl_batch {
    int64_t n_tok;
    sl_tensor ids;                              /* I32 [n_tok], on the device of the embedding */
    sl_tensor positions[SL_MAX_DEVICES];        /* I32 [n_tok] */
    sl_tensor pages[SL_MAX_DEVICES];            /* I32 [pages of the session] */
    const sl_kv_layer *kv;                      /* [n_layer] */
} sl_batch;

typedef struct sl_arch {
    const char *name;                           /* general.architecture */
    /* Binds all tensors; *weights (from the model's memory) is the architecture's own structure. */
    sl_status (*bind)(sl_loader *loader, void **weights);
    void (*free)(void *weights, const sl_mem *mem);
    /* The residual stream after the last layer: [n_embd, n_tok], on the device of the output. */
    sl_tensor (*forward)(sl_pass *pass, const struct sl_model *model, const sl_batch *batch);
    /* Logits [n_vocab, n_rows] of rows of that stream. */
    sl_tensor (*head)(sl_pass *pass, const struct sl_model *model, sl_tensor hidden);
} sl_arch;

/* The architecture of that name, or NULL. */
const sl_arch *sl_arch_find(const char *name, size_t length);

/* Reads and checks the hyper-parameters <prefix>.* of part 0. n_vocab: tokens of the vocabulary, 0 if there is none. */
sl_status sl_hparams_read(sl_hparams *hp, const sl_mem *mem, const sl_log *log, const sl_gguf *gguf, const char *prefix, uint32_t n_vocab);
void sl_hparams_free(sl_hparams *hp, const sl_mem *mem);
/* Size that a dimension stands for in a layer (any layer for those that do not depend on it). */
int64_t sl_hparams_dim(const sl_hparams *hp, int layer, sl_dim dim);

/* Angles per position of each pair, [d_head / 2], and the factor on cos and sin: frequencies, Llama 3 factors, linear and YaRN scaling.
 * `factors`: rope_freqs [d_head / 2], or NULL. */
sl_status sl_rope_frequencies(const sl_hparams *hp, const float *factors, double *freq, float *magnitude);

#endif
