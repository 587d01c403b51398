/* SPDX-License-Identifier: MIT */
/* params.c - reads option structures and writes result structures of any age, and gives every option structure its defaults. */
#include "params.h"

#include <spacellama/chat.h>
#include <spacellama/embed.h>
#include <spacellama/generate.h>
#include <spacellama/model.h>
#include <spacellama/quantize.h>
#include <spacellama/queue.h>
#include <spacellama/session.h>
#include <string.h>

enum { MIN_BYTES = 8 };

static sl_status check_size(size_t size)
{
    if (size < MIN_BYTES || size > SL_PARAMS_MAX_BYTES)
        return sl_fail(SL_ERR_ARGUMENT, "structure: its size member says %zu bytes, not %d to %d", size, MIN_BYTES, SL_PARAMS_MAX_BYTES);
    return SL_OK;
}

sl_status sl_options_read(void *full, size_t full_size, const void *given)
{
    memset(full, 0, full_size);
    memcpy(full, &full_size, sizeof full_size);
    if (!given)
        return SL_OK;
    size_t size;
    memcpy(&size, given, sizeof size);
    SL_TRY(check_size(size));
    const unsigned char *bytes = given;
    for (size_t i = full_size; i < size; i++)
        if (bytes[i])
            return sl_fail(SL_ERR_UNSUPPORTED, "structure: byte %zu is set, this library knows the first %zu only", i, full_size);
    memcpy(full, given, size < full_size ? size : full_size);
    memcpy(full, &full_size, sizeof full_size);
    return SL_OK;
}

sl_status sl_result_write(void *out, const void *full, size_t full_size)
{
    if (!out)
        return sl_fail(SL_ERR_ARGUMENT, "structure: NULL");
    size_t size;
    memcpy(&size, out, sizeof size);
    SL_TRY(check_size(size));
    size_t known = size < full_size ? size : full_size;
    memcpy(out, full, known);
    memset((char *)out + known, 0, size - known);
    memcpy(out, &size, sizeof size);
    return SL_OK;
}

sl_status sl_allocator_read(sl_mem *mem, const sl_allocator *given)
{
    sl_allocator allocator;
    if (!given)
        return sl_mem_init(mem, NULL);
    SL_TRY(sl_options_read(&allocator, sizeof allocator, given));
    return sl_mem_init(mem, &allocator);
}

/* Every default is 0. */
static sl_status write_default(void *out, size_t size)
{
    if (!out)
        return sl_fail(SL_ERR_ARGUMENT, "structure: NULL");
    SL_TRY(check_size(size));
    memset(out, 0, size);
    memcpy(out, &size, sizeof size);
    return SL_OK;
}

sl_status sl_model_options_default(sl_model_options *out, size_t size) { return write_default(out, size); }
sl_status sl_session_options_default(sl_session_options *out, size_t size) { return write_default(out, size); }
sl_status sl_generate_options_default(sl_generate_options *out, size_t size) { return write_default(out, size); }
sl_status sl_queue_options_default(sl_queue_options *out, size_t size) { return write_default(out, size); }
sl_status sl_quantize_options_default(sl_quantize_options *out, size_t size) { return write_default(out, size); }
sl_status sl_chat_options_default(sl_chat_options *out, size_t size) { return write_default(out, size); }
sl_status sl_embed_options_default(sl_embed_options *out, size_t size) { return write_default(out, size); }
