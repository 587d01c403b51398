/* SPDX-License-Identifier: MIT */
/* unicode.c - UTF-8 forwards, and the lookup in the generated table of classes. */
#include "unicode.h"

enum { BLOCK_SHIFT = 7, BLOCK_MASK = (1 << BLOCK_SHIFT) - 1 };

unsigned sl_unicode_class(uint32_t code)
{
    if (code >= sl_unicode_limit)
        return SL_UNICODE_OTHER;
    size_t cell = (size_t)sl_unicode_stage1[code >> BLOCK_SHIFT] << BLOCK_SHIFT | (code & BLOCK_MASK);
    return sl_unicode_stage2[cell / 2] >> (cell & 1 ? 4 : 0) & 7u;
}

/* Bytes that a first byte announces; 0: it cannot be one. */
static size_t announced(uint8_t byte)
{
    return byte < 0x80 ? 1 : byte < 0xc0 ? 0 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf8 ? 4 : 0;
}

size_t sl_utf8_decode(const uint8_t *text, size_t length, uint32_t *code)
{
    size_t n = announced(text[0]);
    if (n == 1) {
        *code = text[0];
        return 1;
    }
    *code = SL_UNICODE_REPLACEMENT;
    if (!n || n > length)
        return 1;
    uint32_t value = text[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 1;
        value = value << 6 | (text[i] & 0x3fu);
    }
    *code = value;
    return n;
}

size_t sl_utf8_check(const uint8_t *text, size_t length, size_t *bad)
{
    size_t n = announced(text[0]);
    *bad = 1;
    if (n == 1)
        return 1;
    if (!n || text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    /* Over-long forms, surrogates and numbers above U+10FFFF show in the second byte. */
    uint8_t low = text[0] == 0xe0 ? 0xa0 : text[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = text[0] == 0xed ? 0x9f : text[0] == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < n; i++) {
        if (i == length) {
            *bad = 0;
            return 0;
        }
        if (text[i] < low || text[i] > high) {
            *bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return n;
}
