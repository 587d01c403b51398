/* SPDX-License-Identifier: MIT */
/* tensor.h - a shaped view of backend memory, the weights, and the activations that feed matrix products.
 * Shapes are written fastest dimension first everywhere, as in GGUF. */
#ifndef SL_TENSOR_H
#define SL_TENSOR_H

#include "type.h"

/* Intermediate results, vectors and cache: plain element types only. A value; it owns nothing. */
typedef struct sl_tensor {
    sl_type type;           /* F32, F16, I32, F64, I8 for bytes; caches also BF16 and Q8_0 (kv.h) */
    int64_t ne[4];          /* elements per dimension, 1 past the last; ne[0] = 0: no tensor */
    size_t stride[4];       /* bytes from one element to the next in each dimension; stride[0] is the element size */
    void *data;             /* in the memory of its backend; NULL while planning */
} sl_tensor;

/* A matrix (or n_mat of them: experts) that activations are multiplied with: y[n_out] = W x[n_in]. Made by the model, placed by a
 * backend; only the backend knows its layout. */
typedef struct sl_weight {
    const char *name;       /* as in the file, for messages */
    sl_type type;
    sl_act_form form;       /* of the activations beside it, by its type and its device's arithmetic: sl_device_form */
    int64_t n_in, n_out, n_mat;
    void *handle;           /* of the backend's place(); NULL while only planning */
    sl_tensor scale;        /* F32 [1] or [n_mat], a factor on the product; ne[0] = 0: none */
} sl_weight;

/* Activations that feed products: f32 rows [n_in, n_rows], and the forms that weight types want, each made once on demand. */
typedef struct sl_act {
    sl_tensor form[SL_ACT_COUNT];   /* form[SL_ACT_F32] is the rows themselves; the others I8 [bytes per row, n_rows] */
} sl_act;

static inline int sl_tensor_is(const sl_tensor *t) { return t->ne[0] > 0; }
static inline int64_t sl_tensor_rows(const sl_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

#endif
