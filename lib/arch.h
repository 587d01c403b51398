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

enum { SL_MAX_TILES = 64, SL_MAX_KEPT = 64 };
#define SL_POOLING_UNSAID UINT32_MAX

/* Hyper-parameters of an image encoder that sees a picture as tiles. max_tiles 0: the model takes no pictures. */
typedef struct sl_vision {
    uint32_t n_embd, n_ff, n_head, n_layer, n_layer_global;
    uint32_t tile_side, patch_side, n_channel, max_tiles;
    uint32_t n_kept, kept[SL_MAX_KEPT];         /* local layers whose input goes to the projector, ascending */
    float epsilon, mean[3], deviation[3];
    /* made from these */
    uint32_t n_patch, n_pos, n_pos_padded;      /* per tile: patches; these and the class vector; filled up to a multiple of 8 */
    uint32_t n_arrangement;                     /* rows of the tables by arrangement: all (high, wide) with high * wide <= max_tiles, and row 0 */
    int32_t token;                              /* the token that stands for a picture, or for one vector of it */
    /* Encoders whose vectors take the place of tokens (vision/vit.h): width between the projector's matrices, vectors of a tile, patches along a side that become one
     * vector, and the base of turning by place */
    uint32_t n_adapter, n_vector, shuffle;
    float rope_base;
    uint32_t square, quick_gelu;                /* 1: the picture lies in the middle of one square; 1: the layers have the quick form of GELU */
} sl_vision;

/* Hyper-parameters, validated: every number within its published limit. */
typedef struct sl_hparams {
    uint32_t n_ctx_train, n_embd, n_layer, n_vocab, d_head, n_expert, n_expert_used;
    uint32_t n_token, n_token_rows;             /* ids that may be appended: n_vocab, and some that only stand for pictures; rows of the embedding: ids from there on stand for vectors */
    uint32_t *n_head, *n_head_kv, *n_ff;        /* [n_layer] */
    uint8_t *cross;                             /* [n_layer] 1: the layer looks at pictures instead of the text before it; NULL: none does */
    sl_vision vision;
    float rms_epsilon, rope_base, rope_factor, rope_attn_factor;
    uint32_t rope_ctx_original;
    /* Llama 4: width of experts; layers l with (l + 1) % expert_step == 0 have them; positions of a chunk of attention; layers with (l + 1) % turn_step == 0
     * do not turn by position and see all chunks (0: there are none); queries and keys are normalised */
    uint32_t n_ff_expert, expert_step, chunk, turn_step, qk_norm;
    uint32_t pooling;           /* pooling_type of embeddings, as in the file (embed.c); SL_POOLING_UNSAID: the file does not say */
    sl_rope_scaling rope_scaling;
} sl_hparams;

/* Sizes that tensor shapes are made of. */
typedef enum sl_dim {
    SL_DIM_END, SL_DIM_ONE, SL_DIM_EMBD, SL_DIM_VOCAB, SL_DIM_TOKENS, SL_DIM_Q, SL_DIM_KV, SL_DIM_QKV, SL_DIM_FF, SL_DIM_FF_EXPERT, SL_DIM_HEAD, SL_DIM_EXPERT,
    SL_DIM_V_EMBD, SL_DIM_V_FF, SL_DIM_V_POS, SL_DIM_V_PATCH, SL_DIM_V_CHANNEL, SL_DIM_V_ARRANGEMENT, SL_DIM_V_TILES_EMBD, SL_DIM_V_TILES_POS_EMBD, SL_DIM_V_FEATURES, SL_DIM_V_PIXELS, SL_DIM_V_SHUFFLED, SL_DIM_V_ADAPTER,
    SL_DIM_COUNT
} sl_dim;

/* One tensor of an architecture and the member it is bound to (an sl_weight or an sl_tensor at `offset` of the structure handed in).
 * MATRIX: of products. ROUTER: the same, but float weights meet f32 activations in every arithmetic, because choosing is not continuous. FILTER: the same, its first three dimensions are one. VECTOR: numbers, as F32. TABLE: rows of them. */
typedef struct sl_tensor_row {
    const char *name;           /* behind "blk.N." for tensors of a layer. "a|b": of files that exchange names, the first one with the right shape; both are there. "a/b": two names for one thing */
    enum { SL_ROW_MATRIX, SL_ROW_ROUTER, SL_ROW_FILTER, SL_ROW_VECTOR, SL_ROW_TABLE } kind;
    int needed;                 /* 0: may be absent, the member stays empty */
    size_t offset;
    sl_dim dims[4];             /* fastest first */
} sl_tensor_row;

/* How the files of a model with pictures are laid out, and what follows from it. */
typedef struct sl_layout {
    int old_names;                  /* vision tensors have the names of separate projector files */
    int reorder_norms;              /* norms of cross-attention queries and keys are to be reordered as the rows were */
    int raw_gates;                  /* gates of global vision layers want tanh */
    char sentence[512];             /* all that, in words; "" if there are no pictures */
} sl_layout;

struct sl_model;
typedef struct sl_loader sl_loader;

/* Binds rows to the members of *target: finds each tensor, checks type and shape, and notes it for placing on the layer's device. layer -1: names as
 * they are, on the device of embedding and output. */
sl_status sl_loader_bind(sl_loader *loader, const sl_tensor_row *rows, size_t n_rows, int layer, void *target);
/* The same for layer `layer` of something else than the text, "<prefix>.<layer>.", on the device of embedding and output. */
sl_status sl_loader_bind_part(sl_loader *loader, const sl_tensor_row *rows, size_t n_rows, const char *prefix, int layer, void *target);
#define SL_BIND(loader, rows, layer, target) SL_TRY(sl_loader_bind(loader, rows, sizeof rows / sizeof *rows, layer, target))
#define SL_BIND_PART(loader, rows, prefix, layer, target) SL_TRY(sl_loader_bind_part(loader, rows, sizeof rows / sizeof *rows, prefix, layer, target))
/* Reads a small tensor of n numbers to the host; *out (of the model's memory) is the caller's. SL_ERR_MISSING if the tensor is not there. */
sl_status sl_loader_read(sl_loader *loader, const char *name, int64_t n, float **out);
/* Copies n elements of host memory to every device: out[SL_MAX_DEVICES]. They belong to the model. */
sl_status sl_loader_constant(sl_loader *loader, sl_type type, int64_t n, const void *host, sl_tensor *out);
const struct sl_model *sl_loader_model(const sl_loader *loader);
const sl_hparams *sl_loader_hparams(const sl_loader *loader);
const sl_mem *sl_loader_mem(const sl_loader *loader);

/* Keys and values of one layer, see kv.h. */
typedef struct sl_kv_layer { sl_tensor k, v; } sl_kv_layer;

/* What the tokens of a pass see of the session's pictures, on every device (op.h: span_attention). Pictures are spans of keys. */
typedef struct sl_sight {
    const sl_kv_layer *kv;                      /* [n_layer]: keys and values of the pictures; empty where a layer does not look at them. Or rows of vectors: kv[0].k */
    sl_tensor spans[SL_MAX_DEVICES];            /* I32 [2, pictures] */
    sl_tensor ranges[SL_MAX_DEVICES];           /* I32 [2, n_tok] */
    sl_tensor marks[SL_MAX_DEVICES];            /* I32 [n_tok]: 1 where a token sees a picture; or 1 + the row of the vector that takes its place */
} sl_sight;

/* One picture on its way through the encoder; all tensors lie on the device of embedding and output. */
typedef struct sl_picture {
    sl_tensor patches;                          /* F32 [patch_side^2 * n_channel, max_tiles * n_patch], tiles that are not used are zero */
    sl_tensor arrangement;                      /* I32 [1] row of the tables */
    sl_tensor spans, ranges;                    /* what each position of the padded tiles sees of them, one after the other: I32 [2, 1 + max_tiles], [2, max_tiles * n_pos_padded] */
    sl_tensor positions, pages;                 /* I32 [max_tiles * n_pos_padded] 0, 1, ... and the pages they fill, in one row */
} sl_picture;

/* What one pass computes. Positions, sequences and pages lie on every device. */
typedef struct sl_batch {
    int64_t n_tok;
    sl_tensor ids;                              /* I32 [n_tok], on the device of the embedding */
    sl_tensor positions[SL_MAX_DEVICES];        /* I32 [n_tok] */
    sl_tensor seqs[SL_MAX_DEVICES];             /* I32 [n_tok]: row of `pages` */
    sl_tensor pages[SL_MAX_DEVICES];            /* I32 [pages of a sequence, sequences of the pass] */
    const sl_kv_layer *kv;                      /* [n_layer] */
    const sl_sight *sight;                      /* NULL: no token of the batch sees a picture */
} sl_batch;

typedef struct sl_arch {
    const char *name;                           /* general.architecture */
    sl_hparams defaults;                        /* numbers for keys that may be missing */
    uint32_t n_image_tokens;                    /* ids behind those that have logits */
    /* Decides, from keys and tensor names alone, which of the layouts in use the files have: model->layout. An error: none that can be run.
     * read: what is particular to the architecture, into model->hp. NULL: there is nothing to do. */
    sl_status (*layout)(struct sl_model *model, const sl_model_options *options);
    sl_status (*read)(struct sl_model *model);
    /* Binds all tensors; *weights (from the model's memory) is the architecture's own structure. */
    sl_status (*bind)(sl_loader *loader, void **weights);
    void (*free)(void *weights, const sl_mem *mem);
    /* The residual stream after the last layer: [n_embd, n_tok], on the device of the output. */
    sl_tensor (*forward)(sl_pass *pass, const struct sl_model *model, const sl_batch *batch);
    /* Rows of that stream after the last norm, [n_embd, n_rows]: what embeddings are made of. */
    sl_tensor (*norm)(sl_pass *pass, const struct sl_model *model, sl_tensor hidden);
    /* Logits [n_vocab, n_rows] of those. */
    sl_tensor (*head)(sl_pass *pass, const struct sl_model *model, sl_tensor rows);
    /* Turns keys [d_head, n_head_kv, n_tok] of layer `layer`, on the current device, by `by` more positions, I32 [n_tok]: as forward turned them by theirs. Nothing where a layer does not turn. */
    void (*turn)(sl_pass *pass, const struct sl_model *model, int layer, sl_tensor k, sl_tensor by);
    /* Pictures, NULL if it takes none. encode: vectors of a picture, [n_embd, max_tiles * n_pos], or [n_embd, tiles * n_vector] of those that take the place of tokens;
     * the others are remembered: writes what layer `layer` (on the current device)
     * will look at into cache positions `positions`; vectors has as many rows as there are positions. */
    sl_tensor (*encode)(sl_pass *pass, const struct sl_model *model, const sl_picture *picture);
    void (*remember)(sl_pass *pass, const struct sl_model *model, int layer, sl_tensor vectors, const sl_kv_layer *kv, sl_tensor positions, sl_tensor pages);
    const char *behind_picture;                 /* text that stands behind a picture in a message, or NULL */
    /* The ids that stand for a picture of that size in a text, one by one. NULL: the image token. */
    sl_status (*spell)(const struct sl_model *model, uint32_t width, uint32_t height, sl_status (*put)(void *user, int32_t id), void *user);
} sl_arch;

/* The architecture of that name, or NULL. */
const sl_arch *sl_arch_find(const char *name, size_t length);

/* Reads and checks the hyper-parameters <name>.* of part 0. n_tokens: tokens of the vocabulary, 0 if there is none. */
sl_status sl_hparams_read(sl_hparams *hp, const sl_mem *mem, const sl_log *log, const sl_gguf *gguf, const sl_arch *arch, uint32_t n_tokens);
void sl_hparams_free(sl_hparams *hp, const sl_mem *mem);
/* Size that a dimension stands for in a layer (any layer for those that do not depend on it). */
int64_t sl_hparams_dim(const sl_hparams *hp, int layer, sl_dim dim);

/* Angles per position of each pair, [d_head / 2], and the factor on cos and sin: frequencies, Llama 3 factors, linear and YaRN scaling.
 * `factors`: rope_freqs [d_head / 2], or NULL. */
sl_status sl_rope_frequencies(const sl_hparams *hp, const float *factors, double *freq, float *magnitude);

#endif
