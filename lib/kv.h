/* SPDX-License-Identifier: MIT */
/* kv.h - the key/value cache of a session: pages of 64 positions, per layer keys [64, d_head, n_head_kv, n_page] and values
 * [d_head, 64, n_head_kv, n_page] in the cache's type.
 *
 * What lies in a page for one head, fastest dimension first; "key" is the position within the page:
 *
 *   f32, f16   keys [key][d], values [d][key]
 *   bf16       keys [2 of d][key][pair of d], filled up with a zero where d_head is odd; values [2 of key][d][pair of key]: what meets in one
 *              dword is even and odd of the order in which bf16 arithmetic adds (docs/numerics.md), and rows of a matrix unit's tile
 *   q8_0       one after the other per 32 of d: keys int8 [4 of d][key][8 fours of d], values int8 [32 of d][key]; behind either the 64 scales of the keys, halves
 *
 * bf16 and q8_0 tensors have strides only from head to head and from page to page. */
#ifndef SL_KV_H
#define SL_KV_H

#include "model.h"
#include "op.h"

typedef struct sl_kv {
    sl_kv_layer *layers;        /* [n_layer] */
    int64_t n_pages;
    uint64_t bytes;             /* of all layers */
} sl_kv;

/* The cache type of that name ("f16", "f32", "bf16", "q8_0"; NULL: f16). */
sl_status sl_kv_type(sl_type *type, const char *name);
/* Shapes of n_pages pages, their bytes added to *bytes; no memory. SL_ERR_UNSUPPORTED if heads of that size do not fit the type. */
sl_status sl_kv_shape(sl_kv_layer *layer, sl_type type, int64_t d_head, int64_t n_head_kv, int64_t n_pages, uint64_t *bytes);
/* Keys and values that live as long as a pass, which looks at them with spans: a cache of bf16 where the products that make them are in bf16 arithmetic
 * (act: what their weights want), else of f32. Memory is as the arena has it. */
sl_kv_layer sl_kv_of_pass(sl_pass *pass, sl_act_form act, int64_t d_head, int64_t n_head, int64_t n_pages);
/* Rows of n numbers instead of keys and values, [n, 64, 1, n_pages], in `k`; `v` stays empty. */
sl_status sl_kv_rows_shape(sl_kv_layer *layer, int64_t n, int64_t n_pages, uint64_t *bytes);
/* All of them, [n, 64 * n_pages]. */
sl_tensor sl_kv_rows(const sl_kv_layer *layer);
/* One layer: shapes for n_pages pages, its bytes added to *bytes; its memory, zeroed; its end. */
sl_status sl_kv_layer_shape(sl_kv_layer *layer, const sl_hparams *hp, uint32_t l, sl_type type, int64_t n_pages, uint64_t *bytes);
sl_status sl_kv_layer_alloc(sl_kv_layer *layer, const sl_model *model, uint32_t l);
void sl_kv_layer_free(sl_kv_layer *layer, const sl_model *model, uint32_t l);
/* All layers that look at the text. Shapes for n_pages pages; no memory is taken for the cache itself, so planning can use it. */
sl_status sl_kv_init(sl_kv *kv, const sl_model *model, sl_type type, int64_t n_pages);
/* Takes the memory, zeroed, on each layer's device. */
sl_status sl_kv_alloc(sl_kv *kv, const sl_model *model);
void sl_kv_free(sl_kv *kv, const sl_model *model);
/* Copies n pages of a layer from page `first` of one cache on to page `to_first` of another one, or of the same. */
sl_status sl_kv_layer_copy(const sl_model *model, uint32_t l, const sl_kv_layer *from, int64_t first, const sl_kv_layer *to, int64_t to_first, int64_t n);
/* Copies a page in all layers. */
sl_status sl_kv_copy_page(const sl_kv *kv, const sl_model *model, int64_t from, int64_t to);
/* 1 if layer l looks at the text. */
int sl_kv_has(const sl_model *model, uint32_t l);

#endif
