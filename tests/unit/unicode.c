/* SPDX-License-Identifier: MIT */
/* unicode.c - UTF-8 of all sorts, and the class table against the database that it was made from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "unicode.h"

static size_t encode(uint8_t *to, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (n == 1)
        to[0] = (uint8_t)c;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        to[i] = (uint8_t)(0x80 | (c & 0x3f));
    if (n > 1)
        to[0] = (uint8_t)((0xf00 >> n) | c);
    return n;
}

static void decodes_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        uint8_t text[4];
        size_t n = encode(text, c), bad;
        uint32_t code;
        assert_int_equal(sl_utf8_decode(text, n, &code), n);
        assert_int_equal(code, c);
        assert_int_equal(sl_utf8_check(text, n, &bad), c >= 0xd800 && c < 0xe000 ? 0 : n);
        for (size_t cut = 1; cut < n; cut++) {
            assert_int_equal(sl_utf8_decode(text, cut, &code), 1);
            assert_int_equal(code, 0xfffd);
        }
    }
}

static void decodes_what_is_no_utf8(void **state)
{
    (void)state;
    static const struct { const char *text; size_t bytes; uint32_t code; } rows[] = {
        { "\x80", 1, 0xfffd }, { "\xbf\x80", 1, 0xfffd }, { "\xff\x80\x80\x80", 1, 0xfffd }, { "\xf8\x80\x80\x80\x80", 1, 0xfffd },
        { "\xc3(", 1, 0xfffd }, { "\xe2\x82(", 1, 0xfffd }, { "\xf0\x9f\x98(", 1, 0xfffd }, { "\xf0\x9f\xc3\xa4", 1, 0xfffd },
        { "\xc0\xaf", 2, 0x2f }, { "\xe0\x80\xaf", 3, 0x2f },          /* over-long forms pass */
        { "\xed\xa0\x80", 3, 0xd800 },                                  /* so do surrogates */
        { "\xf4\x90\x80\x80", 4, 0x110000 }, { "\xf7\xbf\xbf\xbf", 4, 0x1fffff },  /* and numbers that are no code points */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t code;
        assert_int_equal(sl_utf8_decode((const uint8_t *)rows[i].text, strlen(rows[i].text), &code), rows[i].bytes);
        assert_int_equal(code, rows[i].code);
        assert_int_equal(sl_unicode_class(rows[i].code) == SL_UNICODE_OTHER, rows[i].code != 0x2f);
    }
}

static void checks_strictly(void **state)
{
    (void)state;
    static const struct { const char *text; size_t bytes, bad; } rows[] = {
        { "A", 1, 1 }, { "\xc3\xa4", 2, 1 }, { "\xe2\x82\xac!", 3, 1 }, { "\xf0\x9f\x98\x80", 4, 1 },
        { "\xc3", 0, 0 }, { "\xe2\x82", 0, 0 }, { "\xf0\x9f\x98", 0, 0 },              /* may go on */
        { "\x80", 0, 1 }, { "\xc0\x80", 0, 1 }, { "\xc1\xbf", 0, 1 }, { "\xf5\x80\x80\x80", 0, 1 }, { "\xff", 0, 1 },
        { "\xe0\x9f\xbf", 0, 1 }, { "\xed\xa0\x80", 0, 1 }, { "\xf0\x8f\xbf\xbf", 0, 1 }, { "\xf4\x90\x80\x80", 0, 1 },
        { "\xe2\x82(", 0, 2 }, { "\xf0\x9f\x98(", 0, 3 }, { "\xc3\xc3", 0, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t bad;
        assert_int_equal(sl_utf8_check((const uint8_t *)rows[i].text, strlen(rows[i].text), &bad), rows[i].bytes);
        if (!rows[i].bytes)
            assert_int_equal(bad, rows[i].bad);
    }
}

static void knows_classes(void **state)
{
    (void)state;
    static const struct { uint32_t code; unsigned class; } rows[] = {
        { 'A', SL_UNICODE_UPPER }, { 'z', SL_UNICODE_LOWER }, { '0', SL_UNICODE_NUMBER }, { ' ', SL_UNICODE_SPACE }, { '\n', SL_UNICODE_SPACE },
        { 0, SL_UNICODE_OTHER }, { '_', SL_UNICODE_PUNCTUATION }, { '$', SL_UNICODE_OTHER }, { 0x85, SL_UNICODE_SPACE }, { 0xa0, SL_UNICODE_SPACE },
        { 0xaa, SL_UNICODE_LETTER }, { 0xb2, SL_UNICODE_NUMBER }, { 0xe4, SL_UNICODE_LOWER }, { 0x17f, SL_UNICODE_LOWER }, { 0x1c5, SL_UNICODE_UPPER },
        { 0x2b0, SL_UNICODE_LETTER }, { 0x301, SL_UNICODE_MARK }, { 0x378, SL_UNICODE_OTHER }, { 0x3000, SL_UNICODE_SPACE }, { 0x200b, SL_UNICODE_OTHER },
        { 0x2028, SL_UNICODE_SPACE }, { 0x4e00, SL_UNICODE_LETTER }, { 0x9fff, SL_UNICODE_LETTER }, { 0xac01, SL_UNICODE_LETTER }, { 0xd800, SL_UNICODE_OTHER },
        { 0x1f600, SL_UNICODE_OTHER }, { 0x1d7ce, SL_UNICODE_NUMBER }, { 0x2a6df, SL_UNICODE_LETTER }, { 0xe0100, SL_UNICODE_MARK },
        { 0xe01f0, SL_UNICODE_OTHER }, { 0x10ffff, SL_UNICODE_OTHER }, { 0x110000, SL_UNICODE_OTHER }, { UINT32_MAX, SL_UNICODE_OTHER },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(sl_unicode_class(rows[i].code), rows[i].class);
}

/* So many code points of each class Unicode 15.0 has, counted by other means: every change of the table shows. */
static void counts_classes(void **state)
{
    (void)state;
    static const uint32_t want[8] = { 972860, 1862, 2233, 132009, 2450, 1831, 842, 25 };
    uint32_t got[8] = { 0 };
    for (uint32_t c = 0; c <= 0x10ffff; c++)
        got[sl_unicode_class(c)]++;
    for (int k = 0; k < 8; k++)
        assert_int_equal(got[k], want[k]);
}

static unsigned class_of_category(const char *category)
{
    static const struct { const char *categories; unsigned class; } rows[] = {
        { "Lu Lt", SL_UNICODE_UPPER }, { "Ll", SL_UNICODE_LOWER }, { "Lm Lo", SL_UNICODE_LETTER }, { "Mn Mc Me", SL_UNICODE_MARK },
        { "Nd Nl No", SL_UNICODE_NUMBER }, { "Pc Pd Ps Pe Pi Pf Po", SL_UNICODE_PUNCTUATION },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strstr(rows[i].categories, category))
            return rows[i].class;
    return SL_UNICODE_OTHER;
}

/* Only where the database is installed, and in the version that the table was made from. */
static void agrees_with_the_database(void **state)
{
    (void)state;
    FILE *list = fopen("/usr/share/unicode/PropList.txt", "r"), *data = fopen("/usr/share/unicode/UnicodeData.txt", "r");
    char line[1024];
    if (!list || !data || !fgets(line, sizeof line, list) || strcmp(line, "# PropList-15.0.0.txt\n")) {
        print_message("the Unicode database 15.0 is not installed\n");
        if (list)
            fclose(list);
        if (data)
            fclose(data);
        skip();
    }
    uint8_t *want = calloc(0x110000, 1);
    assert_non_null(want);
    uint32_t first = 0;
    while (fgets(line, sizeof line, data)) {
        char *name = strchr(line, ';') + 1, *category = strchr(name, ';') + 1;
        uint32_t last = (uint32_t)strtoul(line, NULL, 16);
        category[2] = 0;
        if (strstr(name, ", First>")) {
            first = last;
            continue;
        }
        for (uint32_t c = strstr(name, ", Last>") ? first : last; c <= last; c++)
            want[c] = (uint8_t)class_of_category(category);
    }
    while (fgets(line, sizeof line, list)) {
        char *end;
        uint32_t low = (uint32_t)strtoul(line, &end, 16), high = low;
        if (end == line || !strstr(line, "; White_Space "))
            continue;
        if (*end == '.')
            high = (uint32_t)strtoul(end + 2, NULL, 16);
        for (uint32_t c = low; c <= high; c++)
            want[c] = SL_UNICODE_SPACE;
    }
    fclose(list);
    fclose(data);
    for (uint32_t c = 0; c < 0x110000; c++)
        if (sl_unicode_class(c) != want[c])
            fail_msg("U+%04X: class %u, the database says %u", (unsigned)c, sl_unicode_class(c), want[c]);
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_every_code_point),
        cmocka_unit_test(decodes_what_is_no_utf8),
        cmocka_unit_test(checks_strictly),
        cmocka_unit_test(knows_classes),
        cmocka_unit_test(counts_classes),
        cmocka_unit_test(agrees_with_the_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
