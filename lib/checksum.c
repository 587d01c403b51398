/* SPDX-License-Identifier: MIT */
/* checksum.c - CRC-32C by tables, or by the instruction that x86 (SSE4.2) and aarch64 (an option of 8.0) have for it. Which one is asked anew by every call: the
 * library keeps no state. */
#include "checksum.h"

#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

/* ---- by tables: four bytes a step ---- */

/* Checksums are linear, so those of 1, 2, 4, ... 128 give that of every byte. */
#define BYTE(i, a, b, c, d, e, f, g, h) \
    (((i) & 1 ? a : 0) ^ ((i) & 2 ? b : 0) ^ ((i) & 4 ? c : 0) ^ ((i) & 8 ? d : 0) ^ ((i) & 16 ? e : 0) ^ ((i) & 32 ? f : 0) ^ ((i) & 64 ? g : 0) ^ ((i) & 128 ? h : 0))
#define FOUR(i, ...) BYTE(i, __VA_ARGS__), BYTE(i + 1, __VA_ARGS__), BYTE(i + 2, __VA_ARGS__), BYTE(i + 3, __VA_ARGS__)
#define SIXTEEN(i, ...) FOUR(i, __VA_ARGS__), FOUR(i + 4, __VA_ARGS__), FOUR(i + 8, __VA_ARGS__), FOUR(i + 12, __VA_ARGS__)
#define SIXTY_FOUR(i, ...) SIXTEEN(i, __VA_ARGS__), SIXTEEN(i + 16, __VA_ARGS__), SIXTEEN(i + 32, __VA_ARGS__), SIXTEEN(i + 48, __VA_ARGS__)
#define ALL(...) { SIXTY_FOUR(0, __VA_ARGS__), SIXTY_FOUR(64, __VA_ARGS__), SIXTY_FOUR(128, __VA_ARGS__), SIXTY_FOUR(192, __VA_ARGS__) }

/* Of a byte that 0, 1, 2, 3 bytes of zero follow. */
static const uint32_t followed[4][256] = {
    ALL(0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu, 0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, 0x82f63b78u),
    ALL(0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u, 0x3fc5f181u, 0x7f8be302u, 0xff17c604u, 0xfbc3faf9u),
    ALL(0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u, 0x70a27d8au, 0xe144fb14u, 0xc76580d9u, 0x8b277743u),
    ALL(0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u, 0xe964b13du, 0xd725148bu, 0xaba65fe7u, 0x52a0c93fu),
};

static uint32_t by_tables(uint32_t crc, const uint8_t *p, size_t bytes)
{
    for (; bytes >= 4; bytes -= 4, p += 4) {
        crc ^= p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = followed[3][crc & 255] ^ followed[2][crc >> 8 & 255] ^ followed[1][crc >> 16 & 255] ^ followed[0][crc >> 24];
    }
    for (; bytes; bytes--, p++)
        crc = crc >> 8 ^ followed[0][(crc ^ *p) & 255];
    return crc;
}

/* ---- by the instruction ---- */

#if defined(__x86_64__)
#define HAS_INSTRUCTION 1
static int instruction_there(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_SSE4_2;
}
static inline uint64_t step8(uint64_t crc, uint64_t x)
{
    __asm__("crc32q %1, %0" : "+r"(crc) : "rm"(x));
    return crc;
}
#elif defined(__aarch64__) && defined(__linux__)
#define HAS_INSTRUCTION 1
static int instruction_there(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
static inline uint64_t step8(uint64_t crc, uint64_t x)
{
    uint32_t to;
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w1, %x2" : "=r"(to) : "r"((uint32_t)crc), "r"(x));
    return to;
}
#else
#define HAS_INSTRUCTION 0
#endif

#if HAS_INSTRUCTION

static inline uint64_t eight(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t bytes)
{
    uint64_t wide = crc;
    for (; bytes >= 8; bytes -= 8, p += 8)
        wide = step8(wide, eight(p));
    return by_tables((uint32_t)wide, p, bytes);
}

/* The instruction takes three cycles and one begins in each: four blocks at a time keep it busy. */
static void four_blocks(const uint8_t *p, size_t block, uint32_t *crcs)
{
    uint64_t a = UINT32_MAX, b = UINT32_MAX, c = UINT32_MAX, d = UINT32_MAX;
    for (size_t i = 0; i < block; i += 8) {
        a = step8(a, eight(p + i));
        b = step8(b, eight(p + block + i));
        c = step8(c, eight(p + 2 * block + i));
        d = step8(d, eight(p + 3 * block + i));
    }
    crcs[0] = ~(uint32_t)a, crcs[1] = ~(uint32_t)b, crcs[2] = ~(uint32_t)c, crcs[3] = ~(uint32_t)d;
}

#endif

/* ---- what others call ---- */

uint32_t sl_crc32c(uint32_t crc, const void *data, size_t bytes)
{
#if HAS_INSTRUCTION
    enum { FEW = 256 };     /* asking the processor costs more than so many bytes by tables */
    if (bytes >= FEW && instruction_there())
        return ~by_instruction(~crc, data, bytes);
#endif
    return ~by_tables(~crc, data, bytes);
}

void sl_crc32c_blocks(const void *data, size_t bytes, size_t block, uint32_t *crcs)
{
    const uint8_t *p = data;
#if HAS_INSTRUCTION
    if (instruction_there()) {
        for (; bytes >= 4 * block; bytes -= 4 * block, p += 4 * block, crcs += 4)
            four_blocks(p, block, crcs);
        for (; bytes; crcs++) {
            const size_t n = bytes < block ? bytes : block;
            *crcs = ~by_instruction(UINT32_MAX, p, n);
            bytes -= n, p += n;
        }
        return;
    }
#endif
    for (; bytes; crcs++) {
        const size_t n = bytes < block ? bytes : block;
        *crcs = ~by_tables(UINT32_MAX, p, n);
        bytes -= n, p += n;
    }
}
