/* SPDX-License-Identifier: MIT */
/* vision/tiles.h - the encoder of Llama 3.2 Vision: a picture as tiles, local layers, gated global layers, and a projector over kept layer inputs. */
#ifndef SL_VISION_TILES_H
#define SL_VISION_TILES_H

#include "model.h"

/* One layer of the encoder. */
typedef struct sl_tiles_layer {
    sl_tensor norm1, norm1_bias, norm2, norm2_bias;             /* [n_embd] */
    sl_weight q, k, v, output;
    sl_weight first, second;                                    /* the feed-forward part: [n_embd -> n_ff], [n_ff -> n_embd] */
    sl_tensor first_bias, second_bias;
    sl_tensor attn_gate[SL_MAX_DEVICES], ffn_gate[SL_MAX_DEVICES];      /* F32 [1]; global layers only */
} sl_tiles_layer;

typedef struct sl_tiles_encoder {
    sl_weight patch, projector;
    sl_tensor class_vector, pre_norm, pre_norm_bias, post_norm, post_norm_bias, projector_bias;
    sl_tensor position, position_gate;                          /* [n_embd, n_pos], [1] */
    sl_tensor tile_position, tile_position_gate;                /* [n_embd * n_pos * max_tiles, n_arrangement] */
    sl_tensor pre_tile, pre_tile_gate, post_tile, post_tile_gate;       /* [n_embd * max_tiles, n_arrangement] */
    sl_tensor zero[SL_MAX_DEVICES];                             /* F32 [n_embd] */
    sl_tiles_layer *local, *global;
} sl_tiles_encoder;

/* Reads <prefix>.vision.* into hp->vision; leaves max_tiles 0 if the files have no encoder. */
sl_status sl_tiles_read(sl_vision *vision, const sl_gguf *gguf, const char *prefix);
sl_status sl_tiles_bind(sl_loader *loader, const sl_layout *layout, sl_tiles_encoder *encoder);
void sl_tiles_free(sl_tiles_encoder *encoder, const sl_mem *mem);
/* The stages, for x[n_embd, max_tiles * n_pos_padded] and features[n_embd * (1 + n_kept), max_tiles * n_pos]: what enters the layers; the local layers and the
 * norm behind them, layer inputs that are kept go to the features; the global layers, x goes there too. */
void sl_tiles_embed(sl_pass *pass, const sl_vision *vision, const sl_tiles_encoder *encoder, const sl_picture *picture, sl_tensor x);
void sl_tiles_local(sl_pass *pass, const sl_vision *vision, const sl_tiles_encoder *encoder, const sl_picture *picture, sl_tensor x, sl_tensor features);
void sl_tiles_global(sl_pass *pass, const sl_vision *vision, const sl_tiles_encoder *encoder, const sl_picture *picture, sl_tensor x, sl_tensor features);
/* All of them and the projector: the projected vectors of a picture, [width of the text, max_tiles * n_pos], tile after tile. */
sl_tensor sl_tiles_encode(sl_pass *pass, const sl_hparams *hp, const sl_tiles_encoder *encoder, const sl_picture *picture);

#endif
