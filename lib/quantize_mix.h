/* SPDX-License-Identifier: MIT */
/* quantize_mix.h - targets of quantization, and which tensor takes which type for each. */
#ifndef SL_QUANTIZE_MIX_H
#define SL_QUANTIZE_MIX_H

#include "gguf.h"

/* A target. */
typedef struct sl_mix {
    const char *name;
    uint32_t file_type;     /* the number of general.file_type */
    sl_type type;           /* of every matrix that no rule names */
} sl_mix;

/* By index, or NULL past the end; by name in either case, or NULL. */
const sl_mix *sl_mix_at(size_t index);
const sl_mix *sl_mix_find(const char *name);
/* A type that something can be quantized into, by its name in either case; -1 if there is none. */
int sl_quantize_type_find(const char *name);

/* What the rules want to know of the model. */
typedef struct sl_mix_model {
    uint32_t n_layer, n_group;      /* layers; query heads per key head */
    uint32_t n_expert;
    int tied, projector;            /* no output matrix of its own; the file holds nothing but an image projector */
    int weighted;                   /* there is an importance matrix */
} sl_mix_model;
void sl_mix_model_read(sl_mix_model *model, const sl_gguf *gguf, int tied, int weighted);

/* Where a tensor stands. */
typedef enum sl_mix_role { SL_MIX_OTHER, SL_MIX_OUTPUT, SL_MIX_ATTN_V, SL_MIX_ATTN_K, SL_MIX_ATTN_OUT, SL_MIX_ATTN_QKV, SL_MIX_FFN_DOWN, SL_MIX_IMAGE, SL_MIX_ROLES } sl_mix_role;
typedef struct sl_mix_place {
    sl_mix_role role;
    int layer;                      /* of its name, below SL_LIMIT_LAYERS; -1: none */
    uint32_t index, count;          /* among the tensors of its role, by layer */
} sl_mix_place;
/* Role and layer from the name. */
void sl_mix_place_of(sl_mix_place *place, const sl_mix_model *model, const char *name);

/* 1 if a tensor may change its type at all. */
int sl_mix_changes(const sl_gguf_tensor *tensor);
/* Its type for a target; `pure`: without the rules of the mix. */
sl_type sl_mix_type(const sl_mix *mix, int pure, const sl_mix_model *model, const sl_mix_place *place, sl_type now);
/* The type that a row of n elements takes where `type` is wanted. `now`: what it has. */
sl_type sl_mix_fit(sl_type type, uint64_t n, sl_type now);

/* 1 if the whole text fits the pattern. */
int sl_pattern_fits(const char *pattern, const char *text);

#endif
