/* SPDX-License-Identifier: MIT */
/* unicode.h - UTF-8 and the character classes that pre-tokenizers are made of. */
#ifndef SL_UNICODE_H
#define SL_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* Every code point has one class. The order is that of unicode_data.py. */
enum {
    SL_UNICODE_OTHER,           /* symbols, controls, private use, unassigned */
    SL_UNICODE_UPPER,           /* Lu, Lt */
    SL_UNICODE_LOWER,           /* Ll */
    SL_UNICODE_LETTER,          /* Lm, Lo: letters without case */
    SL_UNICODE_MARK,            /* Mn, Mc, Me */
    SL_UNICODE_NUMBER,          /* Nd, Nl, No */
    SL_UNICODE_PUNCTUATION,     /* P* */
    SL_UNICODE_SPACE            /* White_Space */
};

#define SL_UNICODE_REPLACEMENT 0xfffdu

/* Sets of classes, for tests of membership: SL_UNICODE_BIT(class) & set. */
#define SL_UNICODE_BIT(class) (1u << (class))
#define SL_UNICODE_LETTERS (SL_UNICODE_BIT(SL_UNICODE_UPPER) | SL_UNICODE_BIT(SL_UNICODE_LOWER) | SL_UNICODE_BIT(SL_UNICODE_LETTER))

/* Class of a code point; any number may come. */
unsigned sl_unicode_class(uint32_t code);

/* One character at `text` (`length` >= 1 bytes are there); returns the bytes it takes, 1 to 4. Lenient, to tell words apart in any
 * bytes: over-long forms, surrogates and numbers above U+10FFFF pass as they are; a byte that begins no sequence with the right number of
 * continuation bytes is one U+FFFD. */
size_t sl_utf8_decode(const uint8_t *text, size_t length, uint32_t *code);

/* Strict, for text that is handed out. Returns the bytes (1 to 4) of the well-formed sequence at `text`; if there is none,
 * 0 and *bad = bytes that belong together and are to be replaced by one U+FFFD (the longest beginning of a sequence, else 1).
 * *bad = 0: all `length` bytes are the beginning of a sequence that may go on. */
size_t sl_utf8_check(const uint8_t *text, size_t length, size_t *bad);

extern const uint32_t sl_unicode_limit;         /* code points from here on are of class OTHER */
extern const uint8_t sl_unicode_stage1[], sl_unicode_stage2[];

#endif
