/* SPDX-License-Identifier: MIT */
/* importance_file.h - importance matrices: for each column of a weight the mean square of what it is multiplied with. Files are GGUF: tensor "<weight>.in_sum2" [n_in, n_mat] holds sums of
 * squares, "<weight>.counts" [1, n_mat] how many rows went into them; both F32. */
#ifndef SL_IMPORTANCE_FILE_H
#define SL_IMPORTANCE_FILE_H

#include "input.h"

typedef struct sl_importance_file {
    sl_parts parts;
    int open;
} sl_importance_file;

/* From a path or else a source (both NULL: none, which has no tensor). */
sl_status sl_importance_file_open(sl_importance_file *importance, const sl_mem *mem, const char *path, const sl_source *source);
void sl_importance_file_close(sl_importance_file *importance, const sl_mem *mem);

/* Weights of the n_in columns of each of the n_mat matrices of a tensor, their mean 1 in each matrix and none below 2^-10; memory of `mem`. *out is NULL where the file has
 * nothing of this tensor. SL_ERR_SHAPE for another shape, SL_ERR_TYPE, SL_ERR_NONFINITE, SL_ERR_RANGE (negative). */
sl_status sl_importance_file_get(const sl_importance_file *importance, const sl_mem *mem, const char *name, uint64_t n_in, uint64_t n_mat, float **out);

#endif
