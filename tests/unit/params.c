/* SPDX-License-Identifier: MIT */
/* params.c - structures of older and newer programs. */
#include <string.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "params.h"

/* What the library knows, and what an older and a newer program know of it. */
struct known { size_t size; uint64_t a; uint64_t b; };
struct older { size_t size; uint64_t a; };
struct newer { size_t size; uint64_t a; uint64_t b; uint64_t c; };

static void reads_structures_of_every_age(void **state)
{
    (void)state;
    struct known full = { 1, 2, 3 };
    assert_int_equal(sl_options_read(&full, sizeof full, NULL), SL_OK);
    assert_true(full.size == sizeof full && full.a == 0 && full.b == 0);

    struct known same = { sizeof same, 5, 6 };
    assert_int_equal(sl_options_read(&full, sizeof full, &same), SL_OK);
    assert_true(full.size == sizeof full && full.a == 5 && full.b == 6);

    struct older old = { sizeof old, 7 };
    assert_int_equal(sl_options_read(&full, sizeof full, &old), SL_OK);
    assert_true(full.size == sizeof full && full.a == 7 && full.b == 0);

    struct newer young = { sizeof young, 8, 9, 0 };
    assert_int_equal(sl_options_read(&full, sizeof full, &young), SL_OK);
    assert_true(full.size == sizeof full && full.a == 8 && full.b == 9);
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    struct known full;
    for (size_t i = sizeof full; i < sizeof(struct newer); i++) {
        struct newer young = { sizeof young };
        ((unsigned char *)&young)[i] = 1;
        assert_int_equal(sl_options_read(&full, sizeof full, &young), SL_ERR_UNSUPPORTED);
    }
}

static const size_t bad_sizes[] = { 0, 1, 7, SL_PARAMS_MAX_BYTES + 1, SIZE_MAX };

static void refuses_impossible_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++) {
        struct known full, given = { bad_sizes[i], 1, 2 }, before = given;
        assert_int_equal(sl_options_read(&full, sizeof full, &given), SL_ERR_ARGUMENT);
        assert_int_equal(sl_result_write(&given, &full, sizeof full), SL_ERR_ARGUMENT);
        assert_memory_equal(&given, &before, sizeof given);
    }
}

static void takes_the_largest_size(void **state)
{
    (void)state;
    static unsigned char large[SL_PARAMS_MAX_BYTES];
    size_t size = sizeof large;
    memcpy(large, &size, sizeof size);
    struct known full;
    assert_int_equal(sl_options_read(&full, sizeof full, large), SL_OK);
    large[sizeof large - 1] = 1;
    assert_int_equal(sl_options_read(&full, sizeof full, large), SL_ERR_UNSUPPORTED);
}

static void writes_no_more_than_there_is_room_for(void **state)
{
    (void)state;
    struct known full = { sizeof full, 5, 6 };
    struct newer out;
    for (size_t size = 8; size <= sizeof out; size++) {
        struct newer wanted;
        memset(&out, 0xaa, sizeof out);
        memset(&wanted, 0xaa, sizeof wanted);
        memcpy(&wanted, &full, size < sizeof full ? size : sizeof full);
        if (size > sizeof full)
            memset((char *)&wanted + sizeof full, 0, size - sizeof full);
        out.size = wanted.size = size;
        assert_int_equal(sl_result_write(&out, &full, sizeof full), SL_OK);
        assert_memory_equal(&out, &wanted, sizeof out);
    }
    assert_int_equal(sl_result_write(NULL, &full, sizeof full), SL_ERR_ARGUMENT);
}

/* Each option structure: the initializer and the function agree, for every size. */
#define CHECK_DEFAULT(type, init, function)                                                 \
    do {                                                                                    \
        type a = init;                                                                      \
        struct { type b; unsigned char guard[16]; } x;                                      \
        memset(&x, 0xaa, sizeof x);                                                         \
        assert_int_equal(function(&x.b, sizeof x.b), SL_OK);                                \
        assert_memory_equal(&a, &x.b, sizeof a);                                            \
        memset(&x, 0xaa, sizeof x);                                                         \
        assert_int_equal(function(&x.b, 8), SL_OK);                                         \
        assert_true(x.b.size == 8 && ((unsigned char *)&x)[8] == 0xaa);                     \
        assert_int_equal(function(NULL, sizeof x.b), SL_ERR_ARGUMENT);                      \
        for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++)                   \
            assert_int_equal(function(&x.b, bad_sizes[i]), SL_ERR_ARGUMENT);                \
    } while (0)

static void gives_defaults(void **state)
{
    (void)state;
    CHECK_DEFAULT(sl_model_options, SL_MODEL_OPTIONS_INIT, sl_model_options_default);
    CHECK_DEFAULT(sl_session_options, SL_SESSION_OPTIONS_INIT, sl_session_options_default);
    CHECK_DEFAULT(sl_generate_options, SL_GENERATE_OPTIONS_INIT, sl_generate_options_default);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_structures_of_every_age),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(refuses_impossible_sizes),
        cmocka_unit_test(takes_the_largest_size),
        cmocka_unit_test(writes_no_more_than_there_is_room_for),
        cmocka_unit_test(gives_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
