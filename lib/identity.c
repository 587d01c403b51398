/* SPDX-License-Identifier: MIT */
/* identity.c - see identity.h. Little of a file is read: its header, which was read before, and a few bytes per tensor. */
#include "identity.h"

#include "hash.h"

enum { PIECE = 65536 };

uint64_t sl_identity_with(uint64_t identity, uint64_t number) { return sl_hash(&number, sizeof number, identity); }

static sl_status add_bytes(uint64_t *identity, sl_input *input, uint64_t offset, uint64_t bytes, uint8_t *buffer)
{
    for (uint64_t at = 0; at < bytes; at += PIECE) {
        const size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        SL_TRY(sl_input_read(input, offset + at, buffer, n));
        *identity = sl_hash(buffer, n, *identity);
    }
    return SL_OK;
}

static sl_status add_part(uint64_t *identity, sl_part *part, uint64_t sample, int changed, uint8_t *buffer)
{
    const sl_gguf *gguf = &part->gguf;
    *identity = sl_identity_with(*identity, part->input.size);
    if (changed)
        *identity = sl_identity_with(*identity, part->input.file ? sl_file_changed(part->input.file) : 0);
    SL_TRY(add_bytes(identity, &part->input, 0, gguf->data_offset < part->input.size ? gguf->data_offset : part->input.size, buffer));
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const sl_gguf_tensor *t = &gguf->tensors[i];
        const uint64_t n = t->bytes < sample ? t->bytes : sample;
        SL_TRY(add_bytes(identity, &part->input, t->offset + (t->bytes - n) / 2, n, buffer));
    }
    return SL_OK;
}

sl_status sl_identity_add_files(uint64_t *identity, const sl_mem *mem, const sl_parts *parts, uint64_t sample, int changed)
{
    uint8_t *buffer = sl_mem_alloc(mem, 1, PIECE);
    sl_status status = buffer ? SL_OK : SL_ERR_NOMEM;
    for (size_t p = 0; status == SL_OK && p < parts->n_parts; p++)
        status = add_part(identity, &parts->parts[p], sample, changed, buffer);
    sl_mem_free(mem, buffer);
    return status;
}

sl_status sl_identity_of_files(uint64_t *identity, const sl_mem *mem, sl_parts *parts)
{
    *identity = 0;
    return sl_identity_add_files(identity, mem, parts, SL_IDENTITY_BYTES, 0);
}
