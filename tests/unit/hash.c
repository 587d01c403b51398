/* SPDX-License-Identifier: MIT */
/* hash.c - the map finds what was put into it, quickly, whatever the texts look like. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "hash.h"
#include "platform.h"

enum { MANY = 200000, TEXT_BYTES = 24 };

typedef struct texts {
    char (*text)[TEXT_BYTES];
    uint64_t looks;         /* how often a text was compared */
} texts;

static sl_text text_of(const void *owner, uint32_t value)
{
    texts *t = (texts *)owner;
    t->looks++;
    return (sl_text) { t->text[value], strlen(t->text[value]) };
}

static void write_counted(char *to, uint32_t i) { snprintf(to, TEXT_BYTES, "blk.%u.ffn", i); }
static void write_high_bytes(char *to, uint32_t i) { snprintf(to, TEXT_BYTES, "%08x%08x", i << 12, ~i); }
static void write_last_byte(char *to, uint32_t i) { snprintf(to, TEXT_BYTES, "aaaaaaa%c%c%c%c", 'a' + i / 8000, 'a' + i / 400 % 20, 'a' + i / 20 % 20, 'a' + i % 20); }

static void finds_what_was_added(void **state)
{
    (void)state;
    void (*const kinds[])(char *to, uint32_t i) = { write_counted, write_high_bytes, write_last_byte };
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        counting c = { 0 };
        sl_mem mem = counting_mem(&c);
        sl_map map;
        texts t = { calloc(MANY + 1, TEXT_BYTES), 0 };
        assert_non_null(t.text);
        uint64_t start = sl_clock_ns();
        assert_int_equal(sl_map_init(&map, &mem, MANY), SL_OK);
        for (uint32_t i = 0; i < MANY; i++) {
            kinds[kind](t.text[i], i);
            assert_int_equal(sl_map_add(&map, i, text_of, &t), i);
        }
        assert_int_equal(map.count, MANY);
        for (uint32_t i = 0; i < MANY; i++)
            assert_int_equal(sl_map_find(&map, t.text[i], strlen(t.text[i]), text_of, &t), i);
        assert_true(t.looks < 2 * MANY + 100);      /* once to add, once to find; hardly ever for a wrong text */
        /* The same text again keeps its first value. */
        strcpy(t.text[MANY], t.text[77]);
        assert_int_equal(sl_map_add(&map, MANY, text_of, &t), 77);
        assert_int_equal(map.count, MANY);
        for (uint32_t i = 0; i < 1000; i++) {
            char absent[TEXT_BYTES];
            snprintf(absent, sizeof absent, "absent %u", i);
            assert_int_equal(sl_map_find(&map, absent, strlen(absent), text_of, &t), SL_MAP_NONE);
        }
        assert_true(sl_clock_ns() - start < 5000000000u);
        sl_map_free(&map, &mem);
        counting_check_none(&c);
        free(t.text);
    }
}

static void knows_empty_maps_and_texts(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_map map = { 0 };
    char text[2][TEXT_BYTES] = { "", "a" };
    texts t = { text, 0 };
    assert_int_equal(sl_map_find(&map, "a", 1, text_of, &t), SL_MAP_NONE);
    sl_map_free(&map, &mem);
    assert_int_equal(sl_map_init(&map, &mem, 0), SL_OK);
    assert_int_equal(sl_map_find(&map, "", 0, text_of, &t), SL_MAP_NONE);
    sl_map_free(&map, &mem);
    assert_int_equal(sl_map_init(&map, &mem, 2), SL_OK);
    assert_int_equal(sl_map_add(&map, 1, text_of, &t), 1);
    assert_int_equal(sl_map_find(&map, NULL, 0, text_of, &t), SL_MAP_NONE);
    assert_int_equal(sl_map_add(&map, 0, text_of, &t), 0);
    assert_int_equal(sl_map_find(&map, NULL, 0, text_of, &t), 0);
    sl_map_free(&map, &mem);
    sl_map_free(&map, &mem);
    assert_int_equal(sl_map_init(&map, &mem, (size_t)1 << 30), SL_ERR_LIMIT);
    assert_int_equal(sl_map_init(&map, &mem, SIZE_MAX), SL_ERR_LIMIT);
    c.fail_at = c.calls + 1;
    assert_int_equal(sl_map_init(&map, &mem, 5), SL_ERR_NOMEM);
    sl_map_free(&map, &mem);
    counting_check_none(&c);
}

static void seeds_maps_apart(void **state)
{
    (void)state;
    sl_mem mem;
    sl_map a, b;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    assert_int_equal(sl_map_init(&a, &mem, 5), SL_OK);
    assert_int_equal(sl_map_init(&b, &mem, 5), SL_OK);
    assert_true(a.seed != b.seed);
    sl_map_free(&a, &mem);
    sl_map_free(&b, &mem);
}

static int bits_of(uint64_t x)
{
    int n = 0;
    for (; x; x &= x - 1)
        n++;
    return n;
}

/* Each bit of the text and of the seed changes about half of the hash. */
static void hash_depends_on_every_bit(void **state)
{
    (void)state;
    for (size_t length = 0; length <= 40; length++) {
        unsigned char text[40] = { 0 };
        for (size_t i = 0; i < length; i++)
            text[i] = (unsigned char)(i * 37 + 1);
        uint64_t h = sl_hash(text, length, 5);
        assert_true(h == sl_hash(text, length, 5));
        for (size_t bit = 0; bit < 8 * length; bit++) {
            text[bit / 8] ^= (unsigned char)(1 << bit % 8);
            int changed = bits_of(h ^ sl_hash(text, length, 5));
            assert_in_range(changed, 10, 54);
            text[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        for (int bit = 0; bit < 64; bit++) {
            int changed = bits_of(h ^ sl_hash(text, length, 5 ^ (uint64_t)1 << bit));
            assert_in_range(changed, 10, 54);
        }
    }
    static const char zeros[20];
    for (size_t a = 0; a < 20; a++)
        for (size_t b = 0; b < a; b++)
            assert_true(sl_hash(zeros, a, 1) != sl_hash(zeros, b, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added),
        cmocka_unit_test(knows_empty_maps_and_texts),
        cmocka_unit_test(seeds_maps_apart),
        cmocka_unit_test(hash_depends_on_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
