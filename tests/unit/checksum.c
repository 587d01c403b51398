/* SPDX-License-Identifier: MIT */
/* checksum.c - published values, the definition bit by bit, and every way of cutting. */
#include <string.h>
#include "check.h"
#include "checksum.h"

enum { N = 5000 };
static uint8_t text[N];

static uint32_t by_definition(const uint8_t *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < 8 * n; i++) {
        const uint32_t bit = (crc ^ p[i / 8] >> i % 8) & 1;
        crc = crc >> 1 ^ (bit ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void gives_published_values(void **state)
{
    (void)state;
    uint8_t x[32];      /* RFC 3720, B.4; and the check value of the catalogues */
    memset(x, 0, sizeof x);
    assert_int_equal(sl_crc32c(0, x, 32), 0x8a9136aau);
    memset(x, 0xff, sizeof x);
    assert_int_equal(sl_crc32c(0, x, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        x[i] = (uint8_t)i;
    assert_int_equal(sl_crc32c(0, x, 32), 0x46dd794eu);
    assert_int_equal(sl_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(sl_crc32c(0, "", 0), 0);
}

static void follows_the_definition(void **state)
{
    (void)state;
    for (size_t n = 0; n < N; n += 1 + n / 7)
        for (size_t from = 0; from < 9 && from <= n; from++)
            assert_int_equal(sl_crc32c(0, text + from, n - from), by_definition(text + from, n - from));
    for (size_t cut = 0; cut <= 1000; cut++)
        assert_int_equal(sl_crc32c(sl_crc32c(0, text, cut), text + cut, 1000 - cut), by_definition(text, 1000));
}

static void sums_blocks(void **state)
{
    (void)state;
    static const size_t blocks[] = { 8, 16, 24, 512, 1024, 4096, 8192 };
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++)
        for (size_t n = 0; n < N; n += 1 + n / 5) {
            uint32_t crcs[N / 8 + 2];
            const size_t count = (n + blocks[b] - 1) / blocks[b];
            memset(crcs, 0xa5, sizeof crcs);
            sl_crc32c_blocks(text, n, blocks[b], crcs);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(crcs[i], sl_crc32c(0, text + i * blocks[b], n - i * blocks[b] < blocks[b] ? n - i * blocks[b] : blocks[b]));
            assert_int_equal(crcs[count], 0xa5a5a5a5u);
        }
}

int main(void)
{
    for (uint32_t i = 0, x = 1; i < N; i++, x = x * 1664525u + 1013904223u)
        text[i] = (uint8_t)(x >> 24);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_published_values),
        cmocka_unit_test(follows_the_definition),
        cmocka_unit_test(sums_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
