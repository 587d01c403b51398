/* SPDX-License-Identifier: MIT */
/* checksum.h - CRC-32C (Castagnoli; reflected, polynomial 0x1edc6f41, as in iSCSI, RFC 3720): finds every error of up to 32 bits in a row. */
#ifndef SL_CHECKSUM_H
#define SL_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `bytes` bytes that follow others whose checksum is `crc` (0: none before). */
uint32_t sl_crc32c(uint32_t crc, const void *data, size_t bytes);
/* Of each block of `block` bytes (a multiple of 8) on its own, the last one may be shorter: crcs[ceil(bytes / block)]. Where the processor has an
 * instruction for it, about as fast as memory is read. */
void sl_crc32c_blocks(const void *data, size_t bytes, size_t block, uint32_t *crcs);

#endif
