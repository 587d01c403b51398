/* SPDX-License-Identifier: MIT */
/* loader.h - binding: from the rows of an architecture to tensors of the files, first all checked, then all placed. */
#ifndef SL_LOADER_H
#define SL_LOADER_H

#include "model.h"
#include "weight_cache.h"

/* A tensor that was bound: where it lies and which member waits for it. */
typedef struct sl_bound {
    const sl_gguf_tensor *tensor;
    size_t part;
    int device;
    sl_weight *weight;          /* or */
    sl_tensor *vector;          /* or neither: it was read already */
} sl_bound;

struct sl_loader {
    sl_model *model;
    const sl_model_options *options;
    int plan_only;
    sl_bound *bound;
    size_t n_bound;
    uint64_t done, total;       /* bytes placed, of all bound tensors */
    sl_weight_cache cache;      /* of packed weights; its weights are the bound tensors */
};

/* Binds through the model's architecture; warns of tensors that nobody asked for; sums up model->memory. */
sl_status sl_loader_open(sl_loader *loader);
/* Places everything that was bound. */
sl_status sl_loader_place(sl_loader *loader);
void sl_loader_close(sl_loader *loader);

#endif
