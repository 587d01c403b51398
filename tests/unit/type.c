/* SPDX-License-Identifier: MIT */
/* type.c - the table of tensor types: every value of the reference file, bit for bit; what check refuses; numbers that are no type. */
#include <string.h>
#include "check.h"
#include "fixture.h"
#include "gguf.h"
#include "type.h"

static sl_gguf open_gguf(const unsigned char *data, size_t size, const sl_mem *mem)
{
    sl_gguf gguf;
    uint64_t need = 0;
    if (sl_gguf_parse(&gguf, mem, data, size, size, &need) != SL_OK)
        fail_msg("%s", sl_last_error());
    return gguf;
}

/* Counts differing floats, printing the first. */
static size_t compare(const char *name, const float *got, const unsigned char *want, size_t n)
{
    size_t differences = 0;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], want + 4 * i, 4)) {
            uint32_t a, b;
            memcpy(&a, &got[i], 4);
            memcpy(&b, want + 4 * i, 4);
            if (!differences++)
                print_error("%s[%zu]: %08x, must be %08x\n", name, i, a, b);
        }
    return differences;
}

static void decodes_every_reference_value(void **state)
{
    (void)state;
    sl_mem mem;
    size_t quant_size, expected_size, differences = 0, tensors = 0;
    uint64_t seen = 0;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    unsigned char *quant_data = fixture_load("quant/quant.gguf", &quant_size), *expected_data = fixture_load("quant/expected.gguf", &expected_size);
    sl_gguf quant = open_gguf(quant_data, quant_size, &mem), expected = open_gguf(expected_data, expected_size, &mem);
    for (size_t i = 0; i < quant.n_tensors; i++) {
        const sl_gguf_tensor *t = &quant.tensors[i], *want = sl_gguf_find_tensor(&expected, t->name);
        if (!want) {
            assert_true(!strncmp(t->name, "src.", 4));
            continue;
        }
        const sl_type_info *info = sl_type_get((uint32_t)t->type);
        assert_non_null(info);
        size_t n = (size_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]), n_blocks = n / info->block_values;
        assert_int_equal(want->bytes, 4 * n);
        assert_int_equal(t->bytes, sl_type_row_bytes(info, n));
        /* An odd address, and nothing after the last byte for a sanitizer to overlook. */
        unsigned char *odd = malloc((size_t)t->bytes + 1);
        float *x = malloc(4 * n);
        memcpy(odd + 1, quant_data + t->offset, (size_t)t->bytes);
        info->decode(odd + 1, (int64_t)n_blocks, x);
        differences += compare(t->name, x, expected_data + want->offset, n);
        assert_int_equal(info->check(odd + 1, (int64_t)n_blocks), -1);
        free(x);
        free(odd);
        seen |= (uint64_t)1 << t->type;
        tensors++;
    }
    assert_int_equal(differences, 0);
    assert_true(tensors >= 136);
    /* Q8_1 never occurs in a file; every other type of this build must have been there. */
    for (uint32_t id = 0; id < SL_TYPE_COUNT; id++)
        if (sl_type_get(id) && id != SL_TYPE_Q8_1)
            assert_true(seen >> id & 1);
    sl_gguf_free(&quant, &mem);
    sl_gguf_free(&expected, &mem);
    free(quant_data);
    free(expected_data);
}

static void decodes_q8_1(void **state)
{
    (void)state;
    uint8_t block[36] = { 0x00, 0xb8, 0x00, 0x00 };   /* d = -0.5 */
    float x[32];
    for (int j = 0; j < 32; j++)
        block[4 + j] = (uint8_t)(j * 8 - 128);
    sl_type_get(SL_TYPE_Q8_1)->decode(block, 1, x);
    for (int j = 0; j < 32; j++)
        assert_true(x[j] == (float)(j * 8 - 128) * -0.5f);
}

/* The middle of three zero blocks gets `bytes` at `offset`. */
static const struct check_case { sl_type type; int offset; const char *bytes; int n_bytes, bad; } check_cases[] = {
#define HALF_CASES(type, offset) \
    { type, offset, "\x00\x7c", 2, 1 }, { type, offset, "\x00\xfc", 2, 1 }, { type, offset, "\x01\x7c", 2, 1 }, { type, offset, "\xff\xff", 2, 1 }, \
    { type, offset, "\xff\x7b", 2, 0 }, { type, offset, "\xff\xfb", 2, 0 }, { type, offset, "\xff\x03", 2, 0 }
    HALF_CASES(SL_TYPE_F16, 0), HALF_CASES(SL_TYPE_Q4_0, 0), HALF_CASES(SL_TYPE_Q4_1, 0), HALF_CASES(SL_TYPE_Q4_1, 2), HALF_CASES(SL_TYPE_Q5_0, 0),
    HALF_CASES(SL_TYPE_Q5_1, 0), HALF_CASES(SL_TYPE_Q5_1, 2), HALF_CASES(SL_TYPE_Q8_0, 0), HALF_CASES(SL_TYPE_Q8_1, 0), HALF_CASES(SL_TYPE_Q8_1, 2),
    HALF_CASES(SL_TYPE_Q2_K, 80), HALF_CASES(SL_TYPE_Q2_K, 82), HALF_CASES(SL_TYPE_Q3_K, 108), HALF_CASES(SL_TYPE_Q4_K, 0), HALF_CASES(SL_TYPE_Q4_K, 2),
    HALF_CASES(SL_TYPE_Q5_K, 0), HALF_CASES(SL_TYPE_Q5_K, 2), HALF_CASES(SL_TYPE_Q6_K, 208), HALF_CASES(SL_TYPE_IQ2_XXS, 0), HALF_CASES(SL_TYPE_IQ2_XS, 0),
    HALF_CASES(SL_TYPE_IQ2_S, 0), HALF_CASES(SL_TYPE_IQ3_XXS, 0), HALF_CASES(SL_TYPE_IQ3_S, 0), HALF_CASES(SL_TYPE_IQ1_S, 0), HALF_CASES(SL_TYPE_IQ4_NL, 0),
    HALF_CASES(SL_TYPE_IQ4_XS, 0), HALF_CASES(SL_TYPE_TQ1_0, 52), HALF_CASES(SL_TYPE_TQ2_0, 64), HALF_CASES(SL_TYPE_Q1_0, 0), HALF_CASES(SL_TYPE_Q2_0, 0),
    /* The half of IQ1_M is spread over the top nibbles of four words, low first: 7c00, fbff, fc01; low bits of the words say nothing. */
    { SL_TYPE_IQ1_M, 48, "\x00\x00\x00\x00\x00\xc0\x00\x70", 8, 1 },
    { SL_TYPE_IQ1_M, 48, "\xff\xff\xff\xff\xff\xbf\xff\xff", 8, 0 },
    { SL_TYPE_IQ1_M, 48, "\xff\x1f\xff\x0f\xff\xcf\xff\xff", 8, 1 },
    { SL_TYPE_F32, 0, "\x00\x00\x80\x7f", 4, 1 }, { SL_TYPE_F32, 0, "\x01\x00\x80\xff", 4, 1 }, { SL_TYPE_F32, 0, "\xff\xff\x7f\x7f", 4, 0 },
    { SL_TYPE_BF16, 0, "\x80\x7f", 2, 1 }, { SL_TYPE_BF16, 0, "\x81\xff", 2, 1 }, { SL_TYPE_BF16, 0, "\x7f\x7f", 2, 0 },
    { SL_TYPE_F64, 0, "\x00\x00\x00\x00\x00\x00\xf0\x7f", 8, 1 }, { SL_TYPE_F64, 0, "\x01\x00\x00\x00\x00\x00\xf0\xff", 8, 1 },
    { SL_TYPE_F64, 0, "\xff\xff\xff\xff\xff\xff\xef\x7f", 8, 0 },
    { SL_TYPE_Q8_K, 0, "\x00\x00\x80\x7f", 4, 1 }, { SL_TYPE_Q8_K, 0, "\x01\x00\x80\xff", 4, 1 }, { SL_TYPE_Q8_K, 0, "\xff\xff\x7f\xff", 4, 0 },
    { SL_TYPE_MXFP4, 0, "\xfc", 1, 0 }, { SL_TYPE_MXFP4, 0, "\xfd", 1, 1 }, { SL_TYPE_MXFP4, 0, "\xff", 1, 1 },
    { SL_TYPE_NVFP4, 0, "\x7e\x7e\x7e\x7e", 4, 0 }, { SL_TYPE_NVFP4, 0, "\x7f", 1, 1 }, { SL_TYPE_NVFP4, 1, "\x80", 1, 1 },
    { SL_TYPE_NVFP4, 2, "\xff", 1, 1 }, { SL_TYPE_NVFP4, 3, "\x7f", 1, 1 }, { SL_TYPE_NVFP4, 4, "\xff", 1, 0 },
    { SL_TYPE_I8, 0, "\x80", 1, 0 }, { SL_TYPE_I16, 0, "\x80\x7f", 2, 0 }, { SL_TYPE_I32, 0, "\x00\x00\x80\x7f", 4, 0 },
    { SL_TYPE_I64, 0, "\x00\x00\x00\x00\x00\x00\xf0\x7f", 8, 0 },
};

static void checks_find_the_block(void **state)
{
    (void)state;
    uint64_t seen = 0;
    for (size_t i = 0; i < sizeof check_cases / sizeof check_cases[0]; i++) {
        const struct check_case *c = &check_cases[i];
        const sl_type_info *info = sl_type_get((uint32_t)c->type);
        seen |= (uint64_t)1 << c->type;
        if (!info)
            continue;
        uint8_t *blocks = calloc(3, info->block_bytes);
        memcpy(blocks + info->block_bytes + c->offset, c->bytes, (size_t)c->n_bytes);
        if (info->check(blocks, 3) != (c->bad ? 1 : -1))
            fail_msg("%s, byte %d, case %zu: check says %d", info->name, c->offset, i, (int)info->check(blocks, 3));
        assert_int_equal(info->check(blocks, 1), -1);
        assert_int_equal(info->check(blocks, 0), -1);
        /* A block that passed decodes to finite values, F64 beyond the range of float aside. */
        float x[3 * 256];
        info->decode(blocks, 3, x);
        for (int j = 0; !c->bad && c->type != SL_TYPE_F64 && j < 3 * info->block_values; j++)
            assert_true(x[j] - x[j] == 0.0f);
        free(blocks);
    }
    for (uint32_t id = 0; id < SL_TYPE_COUNT; id++)
        if (sl_type_get(id) && !(seen >> id & 1))
            fail_msg("no case for %s", sl_type_name(id));
}

static void knows_its_numbers(void **state)
{
    (void)state;
    static const uint32_t removed[] = { 4, 5, 31, 32, 33, 36, 37, 38 };
    size_t n_removed = 0, n_known = 0;
    for (uint32_t id = 0; id < 300; id++) {
        int gone = 0;
        for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++)
            gone |= removed[i] == id;
        assert_int_equal(sl_type_removed(id), gone);
        assert_int_equal(sl_type_known(id), id < 43 && !gone);
        n_removed += gone;
        n_known += sl_type_known(id);
        const sl_type_info *info = sl_type_get(id);
        if (!sl_type_known(id)) {
            assert_null(info);
            assert_string_equal(sl_type_name(id), "unknown");
        } else if (info) {
            assert_string_equal(sl_type_name(id), info->name);
            assert_int_equal(sl_type_row_bytes(info, 3u * info->block_values), 3 * info->block_bytes);
            assert_true(info->form >= SL_ACT_NONE && info->form < SL_ACT_COUNT);
        }
    }
    assert_int_equal(n_removed, 8);
    assert_int_equal(n_known, 35);
    assert_null(sl_type_get(UINT32_MAX));
    assert_int_equal(sl_type_known(UINT32_MAX), 0);
    assert_int_equal(sl_type_removed(UINT32_MAX), 0);
    assert_string_equal(sl_type_name(UINT32_MAX), "unknown");
    /* Also when it was left out of the build. */
    assert_string_equal(sl_type_name(12), "Q4_K");
    assert_string_equal(sl_type_name(29), "IQ1_M");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_its_numbers),
        cmocka_unit_test(checks_find_the_block),
        cmocka_unit_test(decodes_q8_1),
        cmocka_unit_test(decodes_every_reference_value),
    };
    return cmocka_run_group_tests_name("type", tests, NULL, NULL);
}
