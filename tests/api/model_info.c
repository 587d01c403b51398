/* SPDX-License-Identifier: MIT */
/* model_info.c - what a model says of itself: metadata, tensors and figures are those that were put into the file, and the estimate is what it takes. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "counted_model.h"

enum { N_VOCAB = 24 };

/* A structure of any size, an older or a newer program's. */
static void result_sizes(void **state)
{
    (void)state;
    sl_model *model = NULL;
    sl_model_info all = { .size = sizeof all };
    STATUS(sl_model_load(&model, path, NULL), SL_OK);
    STATUS(sl_model_get_info(model, &all), SL_OK);
    for (size_t size = 8; size < sizeof all + 64; size += 4) {
        unsigned char *out = malloc(size);
        memset(out, 0xee, size);
        memcpy(out, &size, sizeof size);
        STATUS(sl_model_get_info(model, (sl_model_info *)out), SL_OK);
        assert_memory_equal(out, &size, sizeof size);
        assert_memory_equal(out + 8, (char *)&all + 8, (size < sizeof all ? size : sizeof all) - 8);
        for (size_t i = sizeof all; i < size; i++)
            assert_int_equal(out[i], 0);
        free(out);
    }
    all.size = 7;
    STATUS(sl_model_get_info(model, &all), SL_ERR_ARGUMENT);
    STATUS(sl_model_get_info(model, NULL), SL_ERR_ARGUMENT);
    sl_model_free(model);
}

/* ---- the estimate is what it takes ---- */

static void estimate(void **state)
{
    (void)state;
    enum { SLACK = 256 << 10, HEAD_WINDOW = 1 << 20 };      /* tables of tensors and tokens, plan, handles */
    char big[80];
    size_t size;
    unsigned char *data = tiny_file(&(tiny_shape) { .n_embd = 256, .n_ff = 1024, .n_layer = 4, .n_vocab = 1000 }, &size);
    snprintf(big, sizeof big, "%s/big.gguf", folder);
    tiny_save(big, data, size);
    free(data);
    static const struct { uint32_t in_place, n_threads, n_ctx, n_batch; const char *cache; } rows[] = {
        { 0, 1, 0, 0, NULL }, { 0, 2, 100, 7, "f32" }, { 1, 2, 4096, 512, "f16" }, { 0, 3, 1, 1, "f16" }, { 0, 2, 65, 65536, "f32" }, { 0, 2, 300, 64, "bf16" }, { 0, 2, 300, 64, "q8_0" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_allocator allocator;
        sl_model_options o = counted(&allocator);
        sl_session_options so = { .size = sizeof so, .n_ctx = rows[i].n_ctx, .n_batch = rows[i].n_batch, .cache_type = rows[i].cache };
        sl_memory need = { .size = sizeof need };
        sl_model_info info = { .size = sizeof info };
        sl_session_stats stats = { .size = sizeof stats };
        sl_model *model = NULL;
        sl_session *session = NULL;
        o.n_threads = rows[i].n_threads, o.in_place = rows[i].in_place;
        STATUS(sl_model_estimate(big, &o, &so, &need), SL_OK);
        no_leak();
        memory.peak_bytes = memory.largest_bytes = 0;
        STATUS(sl_model_load(&model, big, &o), SL_OK);
        STATUS(sl_model_get_info(model, &info), SL_OK);
        assert_int_equal(info.weight_bytes, need.weights);
        assert_int_equal(info.in_place_bytes, need.in_place);
        assert_int_equal(info.load_peak_bytes, need.load_peak);
        const size_t with_model = memory.live_bytes, peak = memory.peak_bytes;
        STATUS(sl_session_create(&session, model, &so), SL_OK);
        STATUS(sl_session_get_stats(session, &stats), SL_OK);
        assert_int_equal(stats.cache_bytes, need.cache);
        assert_int_equal(stats.compute_bytes, need.compute);
        const size_t with_session = memory.live_bytes - with_model;
        printf("weights %zu of %llu, peak %zu of %llu, session %zu of %llu\n", with_model, (unsigned long long)need.weights, peak, (unsigned long long)need.load_peak,
               with_session, (unsigned long long)(need.cache + need.compute));
        if (!rows[i].in_place)      /* all matrices are in one block; vectors have their own */
            assert_true(memory.largest_bytes <= need.weights && memory.largest_bytes > need.weights - need.weights / 16);
        assert_true(with_model >= need.weights && with_model <= need.weights + HEAD_WINDOW + SLACK);
        assert_true(peak >= need.weights && peak <= need.load_peak + HEAD_WINDOW + SLACK);
        assert_true(with_session >= need.cache + need.compute && with_session <= need.cache + need.compute + SLACK);
        sl_session_free(session);
        sl_model_free(model);
        no_leak();
    }
    unlink(big);
}

/* ---- what is in the file ---- */

static void metadata(void **state)
{
    (void)state;
    tiny *t = tiny_create(NULL);
    size_t size, index, length;
    const float small = 1e-40f;         /* a subnormal */
    tiny_put(t, "x.u8", TINY_U8, "\xff", 1);
    tiny_put(t, "x.i32", TINY_I32, &(int32_t) { -5 }, 4);
    tiny_put(t, "x.u64", TINY_U64, &(uint64_t) { UINT64_MAX }, 8);
    tiny_put(t, "x.bool", TINY_BOOL, "\1", 1);
    tiny_put(t, "x.small", TINY_F32, &small, 4);
    tiny_put_array_u32(t, "x.array", (const uint32_t[]) { 3, 4, 5 }, 3);
    tiny_put_array_u32(t, "x.empty", NULL, 0);
    unsigned char *data = tiny_write(t, &size);
    const sl_source source = source_of(data, size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    for (o.parts = SL_PARTS_ALL; o.parts <= SL_PARTS_METADATA; o.parts++) {
        sl_model *model = NULL;
        STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
        assert_int_equal(sl_model_meta_count(model), t->n_keys);
        sl_meta m = { .size = sizeof m };
        for (size_t i = 0; i < t->n_keys; i++) {
            STATUS(sl_model_meta(model, i, &m), SL_OK);
            assert_string_equal(m.key, t->keys[i].name);
            assert_int_equal(m.type, t->keys[i].type);
            STATUS(sl_model_meta_find(model, m.key, &index), SL_OK);
            assert_int_equal(index, i);
        }
        static const struct { const char *key; uint64_t element; sl_status as_int; int64_t n; sl_status as_float; double x; } numbers[] = {
            { "x.u8", 0, SL_OK, 255, SL_OK, 255 }, { "x.u8", 1, SL_ERR_RANGE, 0, SL_ERR_RANGE, 0 }, { "x.i32", 0, SL_OK, -5, SL_OK, -5 },
            { "x.u64", 0, SL_ERR_RANGE, 0, SL_OK, 0x1p64 }, { "x.bool", 0, SL_OK, 1, SL_OK, 1 }, { "x.small", 0, SL_ERR_TYPE, 0, SL_OK, 0x1.16c2p-133 },
            { "x.array", 2, SL_OK, 5, SL_OK, 5 }, { "x.array", 3, SL_ERR_RANGE, 0, SL_ERR_RANGE, 0 }, { "x.array", UINT64_MAX, SL_ERR_RANGE, 0, SL_ERR_RANGE, 0 },
            { "x.empty", 0, SL_ERR_RANGE, 0, SL_ERR_RANGE, 0 }, { "general.name", 0, SL_ERR_TYPE, 0, SL_ERR_TYPE, 0 },
        };
        for (size_t i = 0; i < COUNT(numbers); i++) {
            int64_t n = 0;
            double x = 0;
            STATUS(sl_model_meta_find(model, numbers[i].key, &index), SL_OK);
            STATUS(sl_model_meta_int(model, index, numbers[i].element, &n), numbers[i].as_int);
            STATUS(sl_model_meta_float(model, index, numbers[i].element, &x), numbers[i].as_float);
            assert_int_equal(n, numbers[i].n);
            assert_true(x == (numbers[i].x == 0x1.16c2p-133 ? (double)small : numbers[i].x));
        }
        const char *text = NULL;
        STATUS(sl_model_meta_find(model, "tokenizer.ggml.tokens", &index), SL_OK);
        STATUS(sl_model_meta(model, index, &m), SL_OK);
        assert_int_equal(m.element_type, SL_META_STRING);
        assert_int_equal(m.count, N_VOCAB);
        STATUS(sl_model_meta_string(model, index, 2, &text, &length), SL_OK);
        assert_int_equal(length, 4);
        assert_memory_equal(text, "</s>", 4);
        STATUS(sl_model_meta_string(model, index, N_VOCAB, &text, &length), SL_ERR_RANGE);
        STATUS(sl_model_meta_find(model, "x.u8", &index), SL_OK);
        STATUS(sl_model_meta_string(model, index, 0, &text, &length), SL_ERR_TYPE);
        STATUS(sl_model_meta_find(model, "no.such.key", &index), SL_ERR_MISSING);
        assert_non_null(strstr(sl_last_error(), "no.such.key"));
        STATUS(sl_model_meta_find(model, NULL, &index), SL_ERR_ARGUMENT);
        STATUS(sl_model_meta(model, t->n_keys, &m), SL_ERR_RANGE);
        STATUS(sl_model_meta(model, SIZE_MAX, &m), SL_ERR_RANGE);
        STATUS(sl_model_meta(model, 0, NULL), SL_ERR_ARGUMENT);
        STATUS(sl_model_meta_int(model, 0, 0, NULL), SL_ERR_ARGUMENT);
        sl_model_free(model);
    }
    free(data);
    tiny_free(t);
}

static void tensors(void **state)
{
    (void)state;
    sl_model *model = NULL;
    tiny *t = tiny_create(NULL);
    uint64_t n_params = 0;
    sl_model_info info = { .size = sizeof info };
    sl_tensor_info x = { .size = sizeof x };
    STATUS(sl_model_load(&model, path, NULL), SL_OK);
    STATUS(sl_model_get_info(model, &info), SL_OK);
    assert_int_equal(sl_model_tensor_count(model), t->n_tensors);
    for (size_t i = 0; i < t->n_tensors; i++) {
        STATUS(sl_model_tensor(model, i, &x), SL_OK);
        assert_string_equal(x.name, t->tensors[i].name);
        assert_string_equal(x.type, "F32");
        assert_int_equal(x.n_dims, t->tensors[i].n_dims);
        assert_memory_equal(x.dims, t->tensors[i].dims, sizeof x.dims);
        assert_int_equal(x.bytes, t->tensors[i].bytes);
        assert_int_equal(x.part, 0);
        assert_true(x.offset + x.bytes <= file_size);
        assert_memory_equal(file + x.offset, t->tensors[i].data, x.bytes);
        n_params += x.bytes / 4;
    }
    STATUS(sl_model_tensor(model, t->n_tensors, &x), SL_ERR_RANGE);
    STATUS(sl_model_tensor(model, SIZE_MAX, &x), SL_ERR_RANGE);
    STATUS(sl_model_tensor(model, 0, NULL), SL_ERR_ARGUMENT);
    assert_int_equal(info.n_params, n_params);
    assert_int_equal(info.file_bytes, file_size);
    const uint32_t known[] = { info.n_ctx_train, info.n_embd, info.n_layer, info.n_head, info.n_head_kv, info.d_head, info.n_ff, info.n_expert, info.n_vocab, info.n_parts };
    const uint32_t right[] = { 256, 32, 2, 4, 2, 8, 64, 0, N_VOCAB, 1 };
    assert_memory_equal(known, right, sizeof right);
    assert_string_equal(info.name, "tiny");
    assert_true(info.n_threads >= 1);
    sl_model_free(model);
    tiny_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(result_sizes), cmocka_unit_test(estimate), cmocka_unit_test(metadata), cmocka_unit_test(tensors) };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
