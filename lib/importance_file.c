/* SPDX-License-Identifier: MIT */
/* importance_file.c - see importance_file.h. */
#include "importance_file.h"

#include "arith.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char sums_end[] = ".in_sum2", counts_end[] = ".counts";

sl_status sl_importance_file_open(sl_importance_file *importance, const sl_mem *mem, const char *path, const sl_source *source)
{
    *importance = (sl_importance_file) { 0 };
    if (!path && !source)
        return SL_OK;
    SL_TRY(path ? sl_parts_open_path(&importance->parts, mem, path) : sl_parts_open_sources(&importance->parts, mem, &source, 1, 0));
    importance->open = 1;
    for (size_t i = 0; i < importance->parts.n_tensors; i++) {
        const char *name = sl_parts_tensor(&importance->parts, i, NULL)->name;
        const size_t n = strlen(name), m = sizeof sums_end - 1;
        if (n > m && !strcmp(name + n - m, sums_end))
            return SL_OK;
    }
    const sl_status status = sl_fail_in(sl_fail(SL_ERR_MISSING, "it holds no importance matrix: no tensor ends in %s", sums_end), importance->parts.parts[0].input.name);
    sl_importance_file_close(importance, mem);
    return status;
}

void sl_importance_file_close(sl_importance_file *importance, const sl_mem *mem)
{
    if (importance->open)
        sl_parts_close(&importance->parts, mem);
    importance->open = 0;
}

/* The numbers of one of its tensors; *out is memory of `mem`. */
static sl_status read_numbers(const sl_importance_file *importance, const sl_mem *mem, const sl_gguf_tensor *tensor, size_t part, float **out)
{
    *out = NULL;
    if (tensor->type != SL_TYPE_F32)
        return sl_fail(SL_ERR_TYPE, "%s, not F32", sl_type_name((uint32_t)tensor->type));
    if (tensor->bytes > SIZE_MAX / 2)
        return sl_fail(SL_ERR_OVERFLOW, "larger than the address space");
    const size_t n = (size_t)tensor->bytes / sizeof **out;
    float *numbers = sl_mem_alloc(mem, n, sizeof *numbers);
    if (!numbers)
        return SL_ERR_NOMEM;
    sl_status status = sl_input_read(&importance->parts.parts[part].input, tensor->offset, numbers, (size_t)tensor->bytes);
    for (size_t i = 0; i < n && status == SL_OK; i++)
        if (!sl_is_finite(numbers[i]))
            status = sl_fail(SL_ERR_NONFINITE, "number %zu is infinite or not a number", i);
        else if (numbers[i] < 0.0f)
            status = sl_fail(SL_ERR_RANGE, "number %zu is negative", i);
    if (status == SL_OK)
        *out = numbers;
    else
        sl_mem_free(mem, numbers);
    return status;
}

/* Means to weights. Columns that never had an input still count a little: what is there for them is not to become anything. */
static void scale_weights(float *w, uint64_t n, float count)
{
    const double least = 0x1p-10, most = 0x1p20;
    double sum = 0.0;
    for (uint64_t k = 0; k < n; k++)
        sum += (double)w[k];
    const double scale = count > 0.0f && sum > 0.0 ? (double)n / sum : 0.0;
    for (uint64_t k = 0; k < n; k++) {
        const double weight = scale > 0.0 ? (double)w[k] * scale : 1.0;
        w[k] = (float)(weight < least ? least : weight > most ? most : weight);
    }
}

sl_status sl_importance_file_get(const sl_importance_file *importance, const sl_mem *mem, const char *name, uint64_t n_in, uint64_t n_mat, float **out)
{
    char wanted[SL_LIMIT_TENSOR_NAME_BYTES + sizeof sums_end];
    size_t part;
    float *counts = NULL;
    *out = NULL;
    if (!importance->open)
        return SL_OK;
    snprintf(wanted, sizeof wanted, "%s%s", name, sums_end);
    const sl_gguf_tensor *sums = sl_parts_find(&importance->parts, wanted, &part);
    if (!sums)
        return SL_OK;
    if (sums->ne[0] != n_in || sums->ne[1] != n_mat || sums->ne[2] * sums->ne[3] != 1)
        return sl_fail_in(sl_fail(SL_ERR_SHAPE, "[%" PRIu64 ", %" PRIu64 "], the weight has %" PRIu64 " columns in %" PRIu64 " matrices", sums->ne[0], sums->ne[1], n_in, n_mat), wanted);
    SL_TRY(sl_fail_in(read_numbers(importance, mem, sums, part, out), wanted));
    snprintf(wanted, sizeof wanted, "%s%s", name, counts_end);
    const sl_gguf_tensor *count = sl_parts_find(&importance->parts, wanted, &part);
    sl_status status = SL_OK;
    if (count && count->ne[0] * count->ne[1] * count->ne[2] * count->ne[3] != n_mat)
        status = sl_fail_in(sl_fail(SL_ERR_SHAPE, "not one number for each of %" PRIu64 " matrices", n_mat), wanted);
    if (count && status == SL_OK)
        status = sl_fail_in(read_numbers(importance, mem, count, part, &counts), wanted);
    for (uint64_t m = 0; m < n_mat && status == SL_OK; m++)
        scale_weights(*out + m * n_in, n_in, counts ? counts[m] : 1.0f);
    sl_mem_free(mem, counts);
    if (status != SL_OK) {
        sl_mem_free(mem, *out);
        *out = NULL;
    }
    return status;
}
