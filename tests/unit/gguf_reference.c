/* SPDX-License-Identifier: MIT */
/* gguf_reference.c - all GGUF files of the reference data are read, written again, and found the same. */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "gguf.h"
#include "gguf_build.h"

static size_t n_fixtures, n_same;

static sl_status write_again(const sl_gguf *g, const unsigned char *data, const sl_mem *mem, gguf_bytes *out)
{
    sl_gguf_writer *w;
    SL_TRY(sl_gguf_writer_create(&w, mem, g->version, g->alignment));
    for (size_t i = 0; i < g->n_kv; i++)
        sl_gguf_put_value(w, g->kv[i].key, &g->kv[i].value);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const sl_gguf_tensor *t = &g->tensors[i];
        sl_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->ne, data + t->offset, NULL, NULL);
    }
    sl_status s = sl_gguf_write(w, gguf_bytes_put, out);
    sl_gguf_writer_free(w);
    return s;
}

static void compare(const char *path, const sl_gguf *a, const unsigned char *a_data, const sl_gguf *b, const unsigned char *b_data)
{
    if (a->n_kv != b->n_kv || a->n_tensors != b->n_tensors)
        fail_msg("%s: other counts after writing", path);
    for (size_t i = 0; i < a->n_kv; i++) {
        const sl_gguf_value *x = &a->kv[i].value, *y = &b->kv[i].value;
        if (strcmp(a->kv[i].key, b->kv[i].key) || x->type != y->type || x->element_type != y->element_type || x->count != y->count
            || sl_gguf_value_bytes(x) != sl_gguf_value_bytes(y) || memcmp(x->data, y->data, (size_t)sl_gguf_value_bytes(x)))
            fail_msg("%s: key %s differs after writing", path, a->kv[i].key);
        assert_true(sl_gguf_find(a, a->kv[i].key) == &a->kv[i]);
    }
    for (size_t i = 0; i < a->n_tensors; i++) {
        const sl_gguf_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        if (strcmp(x->name, y->name) || x->type != y->type || x->n_dims != y->n_dims || memcmp(x->ne, y->ne, sizeof x->ne) || x->bytes != y->bytes
            || memcmp(a_data + x->offset, b_data + y->offset, (size_t)x->bytes))
            fail_msg("%s: tensor %s differs after writing", path, x->name);
    }
}

static int read_fixture(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)at;
    size_t n = strlen(path);
    if (kind != FTW_F || n < 5 || strcmp(path + n - 5, ".gguf"))
        return 0;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    gguf_bytes again = { 0 };
    sl_gguf a, b;
    uint64_t need, counts[2];
    unsigned char *data = malloc((size_t)st->st_size);
    FILE *f = fopen(path, "rb");
    assert_true(data && f && fread(data, 1, (size_t)st->st_size, f) == (size_t)st->st_size);
    fclose(f);
    if (sl_gguf_parse(&a, &mem, data, (size_t)st->st_size, (uint64_t)st->st_size, &need) != SL_OK)
        fail_msg("%s: %s", path, sl_last_error());
    memcpy(counts, data + 8, sizeof counts);
    assert_int_equal(a.n_tensors, counts[0]);
    assert_int_equal(a.n_kv, counts[1]);
    if (write_again(&a, data, &mem, &again) != SL_OK || sl_gguf_parse(&b, &mem, again.data, again.size, again.size, &need) != SL_OK)
        fail_msg("%s: %s", path, sl_last_error());
    compare(path, &a, data, &b, again.data);
    n_same += again.size == (size_t)st->st_size && !memcmp(again.data, data, again.size);
    n_fixtures++;
    sl_gguf_free(&a, &mem);
    sl_gguf_free(&b, &mem);
    counting_check_none(&c);
    gguf_bytes_free(&again);
    free(data);
    return 0;
}

static void reads_and_rewrites_reference_files(void **state)
{
    (void)state;
    assert_int_equal(nftw(getenv("SL_FIXTURES"), read_fixture, 16, 0), 0);
    print_message("%zu files, %zu of them the same bytes after writing\n", n_fixtures, n_same);
    assert_true(n_fixtures > 0);
}

int main(void)
{
    const char *folder = getenv("SL_FIXTURES");
    if (!folder || !folder[0]) {
        printf("SL_FIXTURES names no folder: skipped\n");
        return 77;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(reads_and_rewrites_reference_files) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
