/* SPDX-License-Identifier: MIT */
/** @file importance.h
 *  Making an importance matrix: how large what each matrix of a model is multiplied with has been, column by column, while a text was computed. sl_quantize() then takes more care of the
 *  columns that count (sl_quantize_options.importance).
 *
 *  What is kept for each matrix that was used is sum over rows of x_k^2 of its column k, in binary64, rows in the order of their tokens, and the number of rows; for the matrices of experts
 *  each apart. It is the same to the bit for every number of threads, batch size and CPU level. Use the model as it will be quantized: large, not small weights. */
#ifndef SPACELLAMA_IMPORTANCE_H
#define SPACELLAMA_IMPORTANCE_H

#include "quantize.h"
#include "session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An importance matrix that is being made. Opaque. Used by the thread that uses its session. */
typedef struct sl_importance sl_importance;

/** From now on all that the session computes counts, whichever call does it: each token that is evaluated, and for the output matrix each row of logits. Matrices of image encoders do not.
 *  `text`: what the file will say about where it comes from, or NULL. It takes 8 bytes for each column of each matrix as they come, and holds a reference to the model; it may be freed before
 *  or after the session. A call that fails has counted what it computed. SL_ERR_STATE: the session has one already. *out is NULL on failure. Since 0.1. */
SL_API sl_status sl_importance_create(sl_importance **out, sl_session *session, const char *text);
/** Frees; its session counts no longer. NULL is fine. Since 0.1. */
SL_API void sl_importance_free(sl_importance *importance);

/** Writes what was counted so far to the file at `path`, in one step: a GGUF file with tensors "<matrix>.in_sum2" and "<matrix>.counts", which sl_quantize() reads, and llama.cpp as well.
 *  More can be counted afterwards. SL_ERR_STATE: nothing was counted yet; SL_ERR_NONFINITE: a sum is no float any more; SL_ERR_IO, SL_ERR_NOMEM. Since 0.1. */
SL_API sl_status sl_importance_save(const sl_importance *importance, const char *path);
/** The same to a callback. Since 0.1. */
SL_API sl_status sl_importance_write(const sl_importance *importance, sl_write_fn write, void *user);

#ifdef __cplusplus
}
#endif
#endif
