/* SPDX-License-Identifier: MIT */
/* kv.h - the key/value cache of a session: pages of 64 positions, per layer keys [64, d_head, n_head_kv, n_page] and values
 * [d_head, 64, n_head_kv, n_page] in the cache's type. */
#ifndef SL_KV_H
#define SL_KV_H

#include "model.h"

typedef struct sl_kv {
    sl_kv_layer *layers;        /* [n_layer] */
    int64_t n_pages;
    uint64_t bytes;             /* of all layers */
} sl_kv;

/* The cache type of that name ("f16", "f32"; NULL: f16). */
sl_status sl_kv_type(sl_type *type, const char *name);
/* One layer: shapes for n_pages pages, its bytes added to *bytes; its memory, zeroed; its end. */
sl_status sl_kv_layer_shape(sl_kv_layer *layer, const sl_hparams *hp, uint32_t l, sl_type type, int64_t n_pages, uint64_t *bytes);
sl_status sl_kv_layer_alloc(sl_kv_layer *layer, const sl_model *model, uint32_t l);
void sl_kv_layer_free(sl_kv_layer *layer, const sl_model *model, uint32_t l);
/* All layers that look at the text. Shapes for n_ctx positions; no memory is taken for the cache itself, so planning can use it. */
sl_status sl_kv_init(sl_kv *kv, const sl_model *model, sl_type type, uint32_t n_ctx);
/* Takes the memory, zeroed, on each layer's device. */
sl_status sl_kv_alloc(sl_kv *kv, const sl_model *model);
void sl_kv_free(sl_kv *kv, const sl_model *model);

#endif
