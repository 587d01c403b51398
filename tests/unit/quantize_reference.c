/* SPDX-License-Identifier: MIT */
/* Encoders against the blocks of the reference data: the same numbers, and no more error than the reference's blocks leave. Prints the table. */
#include "check.h"
#include "fixture.h"
#include "gguf.h"
#include "quantize_blocks.h"

#include <string.h>
#include <math.h>

static const char *const kinds[] = { "normal", "heavy", "edge" };

/* exact: the type has a defined result, to the bit. */
static const struct { sl_type type; int exact; } cases[] = {
    { SL_TYPE_F16, 1 }, { SL_TYPE_BF16, 1 }, { SL_TYPE_Q8_0, 1 }, { SL_TYPE_Q4_0, 0 }, { SL_TYPE_Q4_1, 0 }, { SL_TYPE_Q5_0, 0 }, { SL_TYPE_Q5_1, 0 }, { SL_TYPE_IQ4_NL, 0 },
    { SL_TYPE_Q2_K, 0 }, { SL_TYPE_Q3_K, 0 }, { SL_TYPE_Q4_K, 0 }, { SL_TYPE_Q5_K, 0 }, { SL_TYPE_Q6_K, 0 }, { SL_TYPE_IQ4_XS, 0 },
};

static double rms(const float *x, const float *y, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    return sqrt(sum / (double)n);
}

static const sl_gguf_tensor *find(const sl_gguf *g, const char *first, const char *second)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", first, second);
    const sl_gguf_tensor *t = sl_gguf_find_tensor(g, name);
    if (!t)
        fail_msg("%s is not in the file", name);
    return t;
}

static void compare(const sl_gguf *g, const unsigned char *data, const sl_type_info *type, sl_encode_blocks *encode, int exact, const char *kind)
{
    const sl_gguf_tensor *source = find(g, "src", kind), *theirs = find(g, type->stem, kind);
    const size_t n = (size_t)(source->bytes / 4), blocks = n / type->block_values, bytes = blocks * type->block_bytes;
    float *x = malloc(n * sizeof *x), *ours_x = malloc(n * sizeof *x), *theirs_x = malloc(n * sizeof *x);
    unsigned char *ours = malloc(bytes);
    assert_true(x && ours_x && theirs_x && ours && theirs->bytes == bytes);
    memcpy(x, data + source->offset, source->bytes);
    encode(x, NULL, (int64_t)n, ours);
    type->decode(ours, (int64_t)blocks, ours_x);
    type->decode(data + theirs->offset, (int64_t)blocks, theirs_x);
    const double a = rms(x, ours_x, n), b = rms(x, theirs_x, n);
    printf("%-7s %-6s  root of mean square error %.4e, reference %.4e: %.4f of it\n", type->name, kind, a, b, b > 0.0 ? a / b : 1.0);
    if (a > b * (1.0 + 1e-6))
        fail_msg("%s, %s: %g is more than the reference's %g", type->name, kind, a, b);
    if (exact && memcmp(ours, data + theirs->offset, bytes))
        fail_msg("%s, %s: other bytes than the definition's", type->name, kind);
    free(ours);
    free(x);
    free(ours_x);
    free(theirs_x);
}

static void leaves_no_more_error(void **state)
{
    (void)state;
    size_t size;
    unsigned char *data = fixture_load("quant/quant.gguf", &size);
    sl_mem mem;
    sl_gguf g;
    uint64_t need;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    assert_int_equal(sl_gguf_parse(&g, &mem, data, size, size, &need), SL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const sl_type_info *type = sl_type_get((uint32_t)cases[i].type);
        sl_encode_blocks *encode = sl_encoder_get(cases[i].type);
        for (size_t k = 0; type && encode && k < sizeof kinds / sizeof *kinds; k++)
            compare(&g, data, type, encode, cases[i].exact, kinds[k]);
    }
    sl_gguf_free(&g, &mem);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(leaves_no_more_error) };
    return cmocka_run_group_tests_name("quantize_reference", tests, NULL, NULL);
}
