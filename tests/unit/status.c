/* SPDX-License-Identifier: MIT */
/* status.c - names, the sentence, and prefixes that are cut where they must. */
#include <string.h>
#include "check.h"
#include "status.h"

static void names_every_status(void **state)
{
    (void)state;
#define CHECK(name, value, text) assert_string_equal(sl_status_name(value), #name);
    SL_STATUS_LIST(CHECK)
#undef CHECK
    assert_string_equal(sl_status_name(1), "unknown status");
    assert_string_equal(sl_status_name(-1000), "unknown status");
}

static void prefixes_a_sentence(void **state)
{
    (void)state;
    assert_int_equal(sl_fail(SL_ERR_RANGE, "value %d", 7), SL_ERR_RANGE);
    assert_int_equal(sl_fail_in(SL_ERR_RANGE, "place"), SL_ERR_RANGE);
    assert_string_equal(sl_last_error(), "place: value 7");
    assert_int_equal(sl_fail_in(SL_OK, "other"), SL_OK);
    assert_string_equal(sl_last_error(), "place: value 7");
}

static void keeps_the_end_of_a_long_prefix(void **state)
{
    (void)state;
    char path[2000];
    memset(path, 'x', sizeof path);
    memcpy(path + sizeof path - 5, ".end", 5);
    sl_fail(SL_ERR_IO, "%s", path);
    sl_fail_in(SL_ERR_IO, path);
    assert_true(strlen(sl_last_error()) < 512);
    assert_non_null(strstr(sl_last_error(), ".end: xx"));
}

static void quotes_foreign_text(void **state)
{
    (void)state;
    char to[SL_QUOTE_BYTES], text[100];
    assert_string_equal(sl_quote(to, "a\nb\xff", 4), "a?b?");
    memset(text, 'y', sizeof text);
    assert_int_equal(strlen(sl_quote(to, text, sizeof text)), 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_every_status),
        cmocka_unit_test(prefixes_a_sentence),
        cmocka_unit_test(keeps_the_end_of_a_long_prefix),
        cmocka_unit_test(quotes_foreign_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
