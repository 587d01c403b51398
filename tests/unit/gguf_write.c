/* SPDX-License-Identifier: MIT */
/* gguf_write.c - the writer: what it writes is read back, and what a reader would refuse is not written. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "gguf.h"
#include "gguf_build.h"

static const float data32[64];

static void check_values(const sl_gguf *g)
{
    static const struct { const char *key; int64_t value; } ints[] = {
        { "u8", 255 }, { "i8", -128 }, { "u16", 65535 }, { "i16", -32768 }, { "u32", UINT32_MAX }, { "i32", INT32_MIN }, { "u64", INT64_MAX },
        { "i64", INT64_MIN }, { "bool", 1 },
    };
    int64_t n;
    double x;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        const sl_gguf_kv *kv = sl_gguf_find(g, ints[i].key);
        assert_non_null(kv);
        assert_int_equal(sl_gguf_value_int(&kv->value, 0, &n), SL_OK);
        assert_true(n == ints[i].value);
        assert_int_equal(sl_gguf_value_float(&kv->value, 0, &x), SL_OK);
        assert_true(x == (double)ints[i].value);
    }
    n = 5;
    assert_int_equal(sl_gguf_value_int(&sl_gguf_find(g, "most")->value, 0, &n), SL_ERR_RANGE);
    assert_int_equal(sl_gguf_value_int(&sl_gguf_find(g, "f32")->value, 0, &n), SL_ERR_TYPE);
    assert_int_equal(sl_gguf_value_int(&sl_gguf_find(g, "text")->value, 0, &n), SL_ERR_TYPE);
    assert_int_equal(sl_gguf_value_float(&sl_gguf_find(g, "text")->value, 0, &x), SL_ERR_TYPE);
    assert_int_equal(n, 5);
    assert_int_equal(sl_gguf_value_float(&sl_gguf_find(g, "most")->value, 0, &x), SL_OK);
    assert_true(x == 18446744073709551616.0);
    sl_gguf_value v;
    assert_int_equal(sl_gguf_array(g, "shorts", SL_META_I16, &v), SL_OK);
    assert_int_equal(v.count, 3);
    assert_int_equal(sl_gguf_value_int(&v, 0, &n), SL_OK);
    assert_int_equal(n, -1);
    assert_int_equal(sl_gguf_value_int(&v, 2, &n), SL_OK);
    assert_int_equal(n, 300);
    assert_int_equal(sl_gguf_array(g, "texts", SL_META_STRING, &v), SL_OK);
    const uint8_t *at = v.data;
    sl_text first = sl_gguf_next_text(&at);
    assert_int_equal(first.length, 3);
    assert_memory_equal(first.data, "one", 3);
    assert_int_equal(sl_gguf_next_text(&at).length, 0);
    sl_text last = sl_gguf_next_text(&at);
    assert_int_equal(last.length, 1);
    assert_int_equal((unsigned char)last.data[0], 0xff);
    assert_int_equal(at - v.data, (int64_t)sl_gguf_value_bytes(&v));
}

static void check_nested(const sl_gguf *g)
{
    sl_gguf_value v, inner;
    int64_t n;
    assert_int_equal(sl_gguf_array(g, "deep", SL_META_ARRAY, &v), SL_OK);
    assert_int_equal(v.count, 2);
    assert_int_equal(sl_gguf_value_bytes(&v), 41);
    const uint8_t *at = v.data;
    sl_gguf_next_array(&at, &inner);
    assert_int_equal(inner.element_type, SL_META_U32);
    assert_int_equal(inner.count, 2);
    assert_int_equal(sl_gguf_value_int(&inner, 1, &n), SL_OK);
    assert_int_equal(n, 8);
    sl_gguf_next_array(&at, &inner);
    assert_int_equal(inner.element_type, SL_META_STRING);
    assert_int_equal(inner.count, 1);
    assert_int_equal(at - v.data, 41);
}

static void check_tensors(const sl_gguf *g, const gguf_bytes *file)
{
    const sl_gguf_tensor *t = sl_gguf_find_tensor(g, "matrix");
    assert_int_equal(g->n_tensors, 3);
    assert_non_null(t);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->ne[1], 8);
    assert_int_equal(t->ne[2], 1);
    assert_int_equal(t->bytes, 256);
    assert_int_equal(t->offset % g->alignment, 0);
    assert_memory_equal(file->data + t->offset, gguf_everything_matrix, 256);
    t = sl_gguf_find_tensor(g, "bytes");
    assert_non_null(t);
    assert_int_equal(t->type, SL_TYPE_I8);
    assert_int_equal(t->bytes, 30);
    assert_null(sl_gguf_find_tensor(g, "matri"));
    assert_int_equal(file->size % g->alignment, 0);
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++)
        for (uint64_t alignment = 0; alignment <= 256; alignment = alignment ? 2 * alignment : 8) {
            counting c = { 0 };
            sl_mem mem = counting_mem(&c);
            sl_gguf g;
            uint64_t need;
            gguf_bytes file = gguf_build_everything(&mem, version, alignment);
            counting_check_none(&c);
            assert_int_equal(sl_gguf_parse(&g, &mem, file.data, file.size, file.size, &need), SL_OK);
            assert_int_equal(g.version, version);
            assert_int_equal(g.alignment, alignment ? alignment : 32);
            assert_int_equal(g.n_kv, 18 + (g.alignment != 32));
            check_values(&g);
            check_nested(&g);
            check_tensors(&g, &file);
            sl_gguf_free(&g, &mem);
            counting_check_none(&c);
            gguf_bytes_free(&file);
        }
}

/* ---- what the writer refuses ---- */

static sl_status fill_row(sl_gguf_sink *sink, void *sink_user, void *user)
{
    return sink(user, 64 * sizeof(float), sink_user);
}

static void put_bad_key(sl_gguf_writer *w) { sl_gguf_put_int(w, "a\nb", SL_META_U8, 1); }
static void put_empty_key(sl_gguf_writer *w) { sl_gguf_put_text(w, "", "x", 1); }
static void put_large(sl_gguf_writer *w) { sl_gguf_put_int(w, "a", SL_META_U8, 256); }
static void put_negative(sl_gguf_writer *w) { sl_gguf_put_int(w, "a", SL_META_U64, -1); }
static void put_small(sl_gguf_writer *w) { sl_gguf_put_int(w, "a", SL_META_I32, (int64_t)INT32_MIN - 1); }
static void put_bool(sl_gguf_writer *w) { sl_gguf_put_int(w, "a", SL_META_BOOL, 2); }
static void put_int_as_float(sl_gguf_writer *w) { sl_gguf_put_int(w, "a", SL_META_F32, 2); }
static void put_int_as_nothing(sl_gguf_writer *w) { sl_gguf_put_int(w, "a", 77, 2); }
static void put_float_as_int(sl_gguf_writer *w) { sl_gguf_put_float(w, "a", SL_META_U8, 2); }
static void put_array_of_texts(sl_gguf_writer *w) { sl_gguf_put_array(w, "a", SL_META_STRING, "x", 1); }
static void put_long_array(sl_gguf_writer *w) { sl_gguf_put_array(w, "a", SL_META_U8, "x", SL_LIMIT_ARRAY_ELEMENTS + 1); }
static void put_other_alignment(sl_gguf_writer *w) { sl_gguf_put_int(w, "general.alignment", SL_META_U32, 64); }
static void put_text_alignment(sl_gguf_writer *w) { sl_gguf_put_text(w, "general.alignment", "32", 2); }
static void put_alignment_twice(sl_gguf_writer *w)
{
    sl_gguf_put_int(w, "general.alignment", SL_META_U32, 32);
    sl_gguf_put_int(w, "general.alignment", SL_META_U32, 32);
}
static void put_twice(sl_gguf_writer *w)
{
    sl_gguf_put_int(w, "a", SL_META_U8, 1);
    sl_gguf_put_int(w, "a", SL_META_U8, 1);
}
static void put_tensor(sl_gguf_writer *w, const char *name, sl_type type, uint32_t n_dims, uint64_t ne0, uint64_t ne1, const void *data)
{
    sl_gguf_put_tensor(w, name, type, n_dims, (const uint64_t[]) { ne0, ne1, 1, 1 }, data, NULL, NULL);
}
static void put_long_name(sl_gguf_writer *w) { put_tensor(w, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", SL_TYPE_F32, 1, 1, 1, data32); }
static void put_no_name(sl_gguf_writer *w) { put_tensor(w, "", SL_TYPE_F32, 1, 1, 1, data32); }
static void put_no_dims(sl_gguf_writer *w) { put_tensor(w, "w", SL_TYPE_F32, 0, 1, 1, data32); }
static void put_five_dims(sl_gguf_writer *w) { put_tensor(w, "w", SL_TYPE_F32, 5, 1, 1, data32); }
static void put_zero(sl_gguf_writer *w) { put_tensor(w, "w", SL_TYPE_F32, 2, 1, 0, data32); }
static void put_wrapping(sl_gguf_writer *w) { put_tensor(w, "w", SL_TYPE_F32, 2, (uint64_t)1 << 32, (uint64_t)1 << 32, data32); }
static void put_part_of_block(sl_gguf_writer *w) { put_tensor(w, "w", SL_TYPE_Q8_K, 1, 255, 1, data32); }
static void put_removed(sl_gguf_writer *w) { put_tensor(w, "w", (sl_type)4, 1, 32, 1, data32); }
static void put_no_data(sl_gguf_writer *w) { put_tensor(w, "w", SL_TYPE_F32, 1, 32, 1, NULL); }
static void put_same_tensor(sl_gguf_writer *w)
{
    put_tensor(w, "w", SL_TYPE_F32, 1, 1, 1, data32);
    put_tensor(w, "w", SL_TYPE_F32, 1, 1, 1, data32);
}
static void put_short_fill(sl_gguf_writer *w) { sl_gguf_put_tensor(w, "w", SL_TYPE_F32, 1, (const uint64_t[]) { 65 }, NULL, fill_row, (void *)data32); }
static void put_long_fill(sl_gguf_writer *w) { sl_gguf_put_tensor(w, "w", SL_TYPE_F32, 1, (const uint64_t[]) { 63 }, NULL, fill_row, (void *)data32); }

static void writer_refuses_what_the_reader_would(void **state)
{
    (void)state;
    static const struct { void (*put)(sl_gguf_writer *w); sl_status expected; } cases[] = {
        { put_bad_key, SL_ERR_UTF8 }, { put_empty_key, SL_ERR_RANGE }, { put_large, SL_ERR_RANGE }, { put_negative, SL_ERR_RANGE }, { put_small, SL_ERR_RANGE },
        { put_bool, SL_ERR_RANGE }, { put_int_as_float, SL_ERR_TYPE }, { put_int_as_nothing, SL_ERR_TYPE }, { put_float_as_int, SL_ERR_TYPE },
        { put_array_of_texts, SL_ERR_TYPE }, { put_long_array, SL_ERR_LIMIT }, { put_other_alignment, SL_ERR_ALIGNMENT }, { put_text_alignment, SL_ERR_TYPE },
        { put_alignment_twice, SL_ERR_DUPLICATE }, { put_twice, SL_ERR_DUPLICATE }, { put_long_name, SL_ERR_LIMIT }, { put_no_name, SL_ERR_RANGE },
        { put_no_dims, SL_ERR_SHAPE }, { put_five_dims, SL_ERR_SHAPE }, { put_zero, SL_ERR_SHAPE }, { put_wrapping, SL_ERR_OVERFLOW },
        { put_part_of_block, SL_ERR_SHAPE }, { put_removed, SL_ERR_UNSUPPORTED }, { put_no_data, SL_ERR_ARGUMENT }, { put_same_tensor, SL_ERR_DUPLICATE },
        { put_short_fill, SL_ERR_SHAPE }, { put_long_fill, SL_ERR_SHAPE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        counting c = { 0 };
        sl_mem mem = counting_mem(&c);
        sl_gguf_writer *w;
        gguf_bytes file = { 0 };
        assert_int_equal(sl_gguf_writer_create(&w, &mem, 3, 32), SL_OK);
        cases[i].put(w);
        sl_gguf_put_int(w, "later", SL_META_U8, 1);     /* changes nothing: the first failure stays */
        sl_status s = sl_gguf_write(w, gguf_bytes_put, &file);
        if (s != cases[i].expected)
            fail_msg("case %zu: %s, not %s", i, sl_status_name(s), sl_status_name(cases[i].expected));
        sl_gguf_writer_free(w);
        counting_check_none(&c);
        gguf_bytes_free(&file);
    }
    sl_mem mem;
    sl_gguf_writer *w;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    assert_int_equal(sl_gguf_writer_create(&w, &mem, 1, 32), SL_ERR_VERSION);
    assert_int_equal(sl_gguf_writer_create(&w, &mem, 3, 48), SL_ERR_ALIGNMENT);
    sl_gguf_writer_free(NULL);
}

static sl_status full_sink(const void *data, size_t n, void *user)
{
    (void)data;
    size_t *left = user;
    if (n > *left)
        return sl_fail(SL_ERR_IO, "the disk is full");
    *left -= n;
    return SL_OK;
}

static void writer_survives_lack_of_memory_and_room(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        counting c = { .fail_at = n };
        sl_mem mem = counting_mem(&c);
        sl_gguf_writer *w;
        size_t room = 10000;
        sl_status s = sl_gguf_writer_create(&w, &mem, 3, 64);
        if (s == SL_OK) {
            put_same_tensor(w);
            sl_gguf_put_texts(w, "texts", (const sl_text[]) { { "one", 3 } }, 1);
            s = sl_gguf_write(w, full_sink, &room);
        }
        sl_gguf_writer_free(w);
        counting_check_none(&c);
        if (s == SL_ERR_DUPLICATE)
            break;      /* memory sufficed */
        assert_int_equal(s, SL_ERR_NOMEM);
    }
    sl_mem mem;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    sl_gguf_writer *w;
    assert_int_equal(sl_gguf_writer_create(&w, &mem, 3, 64), SL_OK);
    sl_gguf_put_text(w, "a", "b", 1);
    put_tensor(w, "w", SL_TYPE_F32, 1, 7, 1, data32);
    size_t room = 10000;
    assert_int_equal(sl_gguf_write(w, full_sink, &room), SL_OK);
    for (size_t size = 10000 - room; size--;) {
        room = size;
        assert_int_equal(sl_gguf_write(w, full_sink, &room), SL_ERR_IO);
    }
    sl_gguf_writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(writer_refuses_what_the_reader_would),
        cmocka_unit_test(writer_survives_lack_of_memory_and_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
