/* SPDX-License-Identifier: MIT */
/* output.c - a file beside the file, and a name that changes hands. */
#include "output.h"

#include <string.h>

static const char ending[] = ".partial";

static sl_status begin(sl_output *output)
{
    const size_t length = strlen(output->path);
    memcpy(output->partial, output->path, length);
    memcpy(output->partial + length, ending, sizeof ending);
    SL_TRY(sl_fail_in(sl_file_replaceable(output->path), output->path));
    return sl_fail_in(sl_file_create(&output->file, output->mem, output->partial), output->path);
}

static void forget(sl_output *output)
{
    sl_file_close(output->file, output->mem);
    sl_mem_free(output->mem, output->partial);
    sl_mem_free(output->mem, output->path);
    *output = (sl_output) { 0 };
}

sl_status sl_output_open(sl_output *output, const sl_mem *mem, const char *path)
{
    const size_t bytes = strlen(path) + 1;
    *output = (sl_output) { .mem = mem, .path = sl_mem_alloc(mem, bytes, 1), .partial = sl_mem_alloc(mem, bytes + sizeof ending, 1) };
    sl_status status = SL_ERR_NOMEM;
    if (output->path && output->partial) {
        memcpy(output->path, path, bytes);
        status = begin(output);
    }
    if (status != SL_OK)
        forget(output);
    return status;
}

sl_status sl_output_write(sl_output *output, uint64_t offset, const void *data, size_t bytes)
{
    return sl_fail_in(sl_file_write(output->file, offset, data, bytes), output->path);
}

sl_status sl_output_append(sl_output *output, const void *data, size_t bytes)
{
    SL_TRY(sl_output_write(output, output->size, data, bytes));
    output->size += bytes;
    return SL_OK;
}

sl_status sl_output_commit(sl_output *output) { return sl_output_commit_keeping(output, NULL); }

sl_status sl_output_commit_keeping(sl_output *output, const char *keep)
{
    const sl_status status = sl_fail_in(sl_file_publish(output->file, output->mem, output->partial, output->path, keep), output->path);
    if (status != SL_OK)
        sl_output_discard(output);
    else
        forget(output);
    return status;
}

void sl_output_discard(sl_output *output)
{
    if (!output->file)
        return;
    sl_file_remove(output->file, output->partial);
    forget(output);
}
