/* SPDX-License-Identifier: MIT */
/* identity.h - a number that tells one model from another. */
#ifndef SL_IDENTITY_H
#define SL_IDENTITY_H

#include "input.h"

/* A 64-bit hash over the size and the whole header (metadata; names, types, shapes and places of tensors) of each part, and SL_IDENTITY_BYTES bytes from the middle of each
 * tensor: fine-tunes with the same header differ there. Files whose tensors differ elsewhere only are taken for the same. */
enum { SL_IDENTITY_BYTES = 64 };
sl_status sl_identity_of_files(uint64_t *identity, const sl_mem *mem, sl_parts *parts);
/* The same with other numbers: so many bytes of each tensor, and with `changed` 1 when each file was changed last. Goes in behind *identity. */
sl_status sl_identity_add_files(uint64_t *identity, const sl_mem *mem, const sl_parts *parts, uint64_t sample, int changed);
/* What else decides about the numbers goes in behind it. */
uint64_t sl_identity_with(uint64_t identity, uint64_t number);

#endif
