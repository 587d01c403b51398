/* SPDX-License-Identifier: MIT */
/* vision/vit.h - the encoder of Llama 4: every tile on its own through a plain transformer whose queries and keys turn by row and column; neighbouring
 * patches joined; an adapter and a projector to the width of the text. */
#ifndef SL_VISION_VIT_H
#define SL_VISION_VIT_H

#include "model.h"

/* One layer of the encoder. */
typedef struct sl_vit_layer {
    sl_tensor norm1, norm1_bias, norm2, norm2_bias;             /* [n_embd] */
    sl_weight q, k, v, output, first, second;                   /* first, second: the feed-forward part */
    sl_tensor q_bias, k_bias, v_bias, output_bias, first_bias, second_bias;
} sl_vit_layer;

typedef struct sl_vit {
    sl_weight patch, adapter1, adapter2, projector;
    sl_tensor class_vector, position, pre_norm, pre_norm_bias, post_norm, post_norm_bias;      /* position: [n_embd, n_pos], the class vector's row last */
    sl_tensor angles[SL_MAX_DEVICES];                           /* F32 [2, d_head / 2, n_pos]; empty: nothing turns */
    sl_tensor order[SL_MAX_DEVICES];                            /* I32 [n_patch]: patches in the order in which they are joined */
    sl_tensor places[SL_MAX_DEVICES];                           /* I32 [n_pos] 0, 1, ...: positions and pages of a tile's keys */
    sl_tensor spans[SL_MAX_DEVICES], ranges[SL_MAX_DEVICES];    /* I32 [2, 1], [2, n_pos]: everybody sees everything */
    sl_vit_layer *layers;
} sl_vit;

/* Reads the numbers of the encoder in part `part` of the files into *vision; `prefix` is that of its keys, "<prefix>.vision.". */
sl_status sl_vit_read(sl_vision *vision, const sl_parts *parts, size_t part, const char *prefix);
sl_status sl_vit_bind(sl_loader *loader, sl_vit *encoder);
/* What others make of the same parts (vision/clip.h): the constants, those of turning only with a base, those of joining only with a shuffle; the layers, whose
 * feed-forward part has other names there (rows of sl_vit_layer); and layer l,
 * x[n_embd, n_pos] += attention(norm(x)), x += second(gelu(first(norm(x)))). */
sl_status sl_vit_bind_constants(sl_loader *loader, const sl_vision *vision, sl_vit *encoder);
sl_status sl_vit_bind_layers(sl_loader *loader, const sl_vision *vision, sl_vit *encoder, const sl_tensor_row *forward, size_t n_forward);
void sl_vit_layer_run(sl_pass *pass, const sl_vision *vision, const sl_vit *encoder, uint32_t l, sl_tensor x);
void sl_vit_free(sl_vit *encoder, const sl_mem *mem);
/* The stages, for a tile's patches [pixels, n_patch]: the layers and the norm behind them, without the class vector: [n_embd, n_patch]; what the adapter
 * makes of that: [n_adapter, n_vector]. */
sl_tensor sl_vit_layers(sl_pass *pass, const sl_vision *vision, const sl_vit *encoder, sl_tensor patches);
sl_tensor sl_vit_adapt(sl_pass *pass, const sl_vision *vision, const sl_vit *encoder, sl_tensor x);
/* All tiles of a picture: vectors [width of the text, n_vector * tiles], tile after tile. */
sl_tensor sl_vit_encode(sl_pass *pass, const sl_hparams *hp, const sl_vit *encoder, const sl_picture *picture);

#endif
