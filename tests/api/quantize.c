/* SPDX-License-Identifier: MIT */
/* quantize.c - files are quantized as programs do it: every target, any number of threads, paths and callbacks, overrides, importance, and everything that can fail. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "counting.h"
#include "tiny.h"

static const tiny_shape shape = { .n_embd = 256, .n_ff = 512, .n_vocab = 300, .n_layer = 3 };
static unsigned char *file;
static size_t file_size;
static char folder[] = "/tmp/spacellama-XXXXXX", in_path[64], out_path[64];

/* What a callback was given; it may fail at a call. */
typedef struct written { unsigned char *data; size_t size, room, calls, fail_at; } written;

static int32_t collect(const void *data, uint64_t bytes, void *user)
{
    written *w = user;
    if (++w->calls == w->fail_at)
        return 1;
    if (w->size + bytes > w->room) {
        w->room = 2 * (w->size + bytes);
        w->data = realloc(w->data, w->room);
    }
    memcpy(w->data + w->size, data, bytes);
    w->size += bytes;
    return 0;
}

static sl_status to_memory(const unsigned char *data, size_t size, const char *target, const sl_quantize_options *o, sl_quantize_result *r, written *w)
{
    const sl_source source = source_of(data, size), *sources[] = { &source };
    free(w->data);
    *w = (written) { .fail_at = w->fail_at };
    return sl_quantize_sources(sources, 1, collect, w, target, o, r);
}

/* Type of a tensor in a file. */
static const char *type_in(const written *w, const char *name)
{
    sl_model *model;
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    const sl_source source = source_of(w->data, w->size), *sources[] = { &source };
    const char *type = "absent";
    o.parts = SL_PARTS_METADATA;
    STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
    for (size_t i = 0; i < sl_model_tensor_count(model); i++) {
        sl_tensor_info t = { sizeof t };
        STATUS(sl_model_tensor(model, i, &t), SL_OK);
        if (!strcmp(t.name, name))
            type = t.type;
    }
    sl_model_free(model);
    return type;
}

static int prepare(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(in_path, sizeof in_path, "%s/in.gguf", folder);
    snprintf(out_path, sizeof out_path, "%s/out.gguf", folder);
    file = tiny_file(&shape, &file_size);
    tiny_save(in_path, file, file_size);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    free(file);
    unlink(in_path);
    unlink(out_path);
    return rmdir(folder);
}

/* ---- what it makes ---- */

static void computes(const written *w, const char *target)
{
    sl_model *model;
    sl_session *session;
    const sl_source source = source_of(w->data, w->size), *sources[] = { &source };
    const sl_token ids[] = { 1, 5, 9 };
    float *logits = malloc(shape.n_vocab * sizeof *logits);
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 1;
    STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
    STATUS(sl_session_create(&session, model, NULL), SL_OK);
    STATUS(sl_session_eval(session, ids, 3, logits, 1), SL_OK);
    for (uint32_t i = 0; i < shape.n_vocab; i++)
        if (!isfinite(logits[i]))
            fail_msg("%s: logit %u is not finite", target, i);
    free(logits);
    sl_session_free(session);
    sl_model_free(model);
}

/* Every target: a model that computes, the same bytes for every number of threads, from a path and from memory. */
static void every_target_and_thread_count(void **state)
{
    (void)state;
    written first = { 0 }, other = { 0 };
    size_t n = 0;
    for (; sl_quantize_target(n); n++) {
        const char *target = sl_quantize_target(n);
        sl_quantize_result r = { sizeof r };
        sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
        o.n_threads = 1;
        STATUS(to_memory(file, file_size, target, &o, &r, &first), SL_OK);
        assert_true(r.n_tensors > 20 && r.bytes_out <= r.bytes_in && r.n_odd == 0 && r.n_weighted == 0);
        assert_true((r.n_changed == 0) == !strcmp(target, "F32"));
        computes(&first, target);
        for (o.n_threads = 2; o.n_threads < 8; o.n_threads += 3) {
            STATUS(to_memory(file, file_size, target, &o, NULL, &other), SL_OK);
            assert_int_equal(first.size, other.size);
            assert_memory_equal(first.data, other.data, first.size);
        }
        STATUS(sl_quantize(in_path, out_path, target, NULL, NULL), SL_OK);
        FILE *f = fopen(out_path, "rb");
        assert_non_null(f);
        unsigned char *back = malloc(first.size + 1);
        assert_int_equal(fread(back, 1, first.size + 1, f), first.size);
        assert_memory_equal(back, first.data, first.size);
        fclose(f);
        free(back);
    }
    assert_true(n >= 1);
    free(first.data);
    free(other.data);
}

/* Metadata: everything stays but the two keys. */
static void metadata_stay(void **state)
{
    (void)state;
    written w = { 0 };
    sl_model *before, *after;
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.parts = SL_PARTS_METADATA;
    STATUS(to_memory(file, file_size, "Q8_0", NULL, NULL, &w), SL_OK);
    const sl_source a = source_of(file, file_size), b = source_of(w.data, w.size), *as[] = { &a }, *bs[] = { &b };
    STATUS(sl_model_load_sources(&before, as, 1, &o), SL_OK);
    STATUS(sl_model_load_sources(&after, bs, 1, &o), SL_OK);
    for (size_t i = 0; i < sl_model_meta_count(before); i++) {
        sl_meta x = { sizeof x }, y = { sizeof y };
        size_t at;
        STATUS(sl_model_meta(before, i, &x), SL_OK);
        STATUS(sl_model_meta_find(after, x.key, &at), SL_OK);
        STATUS(sl_model_meta(after, at, &y), SL_OK);
        assert_true(x.type == y.type && x.count == y.count && x.element_type == y.element_type);
    }
    static const struct { const char *key; int64_t value; } set[] = { { "general.file_type", 7 }, { "general.quantization_version", 2 } };
    for (size_t i = 0; i < 2; i++) {
        size_t at;
        int64_t value;
        STATUS(sl_model_meta_find(after, set[i].key, &at), SL_OK);
        STATUS(sl_model_meta_int(after, at, 0, &value), SL_OK);
        assert_int_equal(value, set[i].value);
    }
    sl_model_free(before);
    sl_model_free(after);
    free(w.data);
}

/* A model in parts becomes one file, the same as from one. */
static void parts_become_one(void **state)
{
    (void)state;
    tiny *t = tiny_create(&shape);
    written one = { 0 }, joined = { 0 };
    unsigned char *data[3];
    sl_source parts[3];
    const sl_source *sources[3];
    for (unsigned i = 0; i < 3; i++) {
        size_t size;
        data[i] = tiny_write_part(t, i, 3, &size);
        parts[i] = source_of(data[i], size);
        sources[i] = &parts[i];
    }
    STATUS(to_memory(file, file_size, "Q5_0", NULL, NULL, &one), SL_OK);
    STATUS(sl_quantize_sources(sources, 3, collect, &joined, "Q5_0", NULL, NULL), SL_OK);
    assert_int_equal(one.size, joined.size);
    for (unsigned i = 0; i < 3; i++)
        free(data[i]);
    free(one.data);
    free(joined.data);
    tiny_free(t);
}

static void overrides_and_pure(void **state)
{
    (void)state;
    written w = { 0 };
    const sl_quantize_override overrides[] = {
        { sizeof *overrides, "blk.1.ffn_*.weight", "q8_0" }, { sizeof *overrides, "blk.?.ffn_up.weight", "F16" }, { sizeof *overrides, "blk.2.attn_q.weight", "keep" }, { sizeof *overrides, "*norm*", "Q8_0" },
    };
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    o.overrides = overrides, o.n_overrides = 4;
    STATUS(to_memory(file, file_size, "Q4_0", &o, NULL, &w), SL_OK);
    assert_string_equal(type_in(&w, "blk.1.ffn_up.weight"), "Q8_0");
    assert_string_equal(type_in(&w, "blk.0.ffn_up.weight"), "F16");
    assert_string_equal(type_in(&w, "blk.2.attn_q.weight"), "F32");
    assert_string_equal(type_in(&w, "blk.0.attn_q.weight"), "Q4_0");
    assert_string_equal(type_in(&w, "blk.0.attn_norm.weight"), "F32");
    assert_string_equal(type_in(&w, "output.weight"), "Q6_K");
    o = (sl_quantize_options) SL_QUANTIZE_OPTIONS_INIT;
    o.flags = SL_QUANTIZE_PURE;
    STATUS(to_memory(file, file_size, "Q4_0", &o, NULL, &w), SL_OK);
    assert_string_equal(type_in(&w, "output.weight"), "Q4_0");
    free(w.data);
}

/* Rows that are no whole blocks. */
static void odd_rows(void **state)
{
    (void)state;
    const tiny_shape odd = { .n_embd = 96, .n_ff = 160, .n_layer = 1 };
    size_t size;
    unsigned char *data = tiny_file(&odd, &size);
    written w = { 0 };
    sl_quantize_result r = { sizeof r };
    STATUS(to_memory(data, size, "Q4_K_M", NULL, &r, &w), SL_OK);
    assert_true(r.n_odd == r.n_changed && r.n_odd > 5);
    assert_string_equal(type_in(&w, "blk.0.attn_q.weight"), "Q5_0");
    assert_string_equal(type_in(&w, "output.weight"), "Q8_0");
    free(data);
    free(w.data);
}

/* ---- importance ---- */

static unsigned char *importance_file(float heavy, const uint64_t *dims, uint32_t type, size_t *size)
{
    tiny *t = calloc(1, sizeof *t);
    const uint64_t one[] = { 1, 1 };
    tiny_put_text(t, "general.type", "imatrix");
    tiny_tensor *sums = tiny_add(t, "blk.0.ffn_down.weight.in_sum2", type, dims, 2, dims[0] * dims[1] * 4), *counts = tiny_add(t, "blk.0.ffn_down.weight.counts", TINY_MATRIX_F32, one, 2, 4);
    for (size_t i = 0; i < dims[0] * dims[1]; i++) {
        const float v = i % 7 == 0 ? heavy : 1.0f;
        memcpy(sums->data + 4 * i, &v, 4);
    }
    memcpy(counts->data, &(float) { 5.0f }, 4);
    unsigned char *data = tiny_write(t, size);
    tiny_free(t);
    return data;
}

static void importance_counts(void **state)
{
    (void)state;
    const uint64_t dims[] = { 512, 1 }, wrong[] = { 256, 1 };
    const struct { float heavy; const uint64_t *dims; sl_status status; uint32_t n; } rows[] = {
        { 100.0f, dims, SL_OK, 1 }, { 1.0f, dims, SL_OK, 1 }, { 0.0f, dims, SL_OK, 1 }, { 1.0f, wrong, SL_ERR_SHAPE, 0 }, { -1.0f, dims, SL_ERR_RANGE, 0 }, { INFINITY, dims, SL_ERR_NONFINITE, 0 },
    };
    written plain = { 0 }, w = { 0 };
    STATUS(to_memory(file, file_size, "Q4_K", NULL, NULL, &plain), SL_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t size;
        unsigned char *data = importance_file(rows[i].heavy, rows[i].dims, TINY_MATRIX_F32, &size);
        const sl_source source = source_of(data, size);
        sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
        sl_quantize_result r = { sizeof r };
        o.importance_source = &source;
        STATUS(to_memory(file, file_size, "Q4_K", &o, &r, &w), rows[i].status);
        if (rows[i].status == SL_OK) {
            assert_int_equal(r.n_weighted, rows[i].n);
            assert_int_equal(w.size, plain.size);
            if (!memcmp(w.data, plain.data, w.size) != (rows[i].heavy == 1.0f))
                fail_msg("row %zu: weights of %g make %s difference", i, (double)rows[i].heavy, rows[i].heavy == 1.0f ? "a" : "no");
        }
        free(data);
    }
    const sl_source none = source_of(file, file_size);
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    o.importance_source = &none;
    STATUS(to_memory(file, file_size, "Q4_K", &o, NULL, &w), SL_ERR_MISSING);
    o.importance = in_path;
    STATUS(to_memory(file, file_size, "Q4_K", &o, NULL, &w), SL_ERR_ARGUMENT);
    free(plain.data);
    free(w.data);
}

/* ---- what fails ---- */

static void bad_numbers_are_named(void **state)
{
    (void)state;
    static const struct { const char *tensor, *target; size_t at; float value; sl_status status; const char *place; } rows[] = {
        { "blk.1.ffn_down.weight", "Q4_K_M", 512 * 7 + 3, NAN, SL_ERR_NONFINITE, "'blk.1.ffn_down.weight', row 7, column 3" },
        { "blk.1.ffn_down.weight", "F16", 512 * 7 + 3, INFINITY, SL_ERR_NONFINITE, "'blk.1.ffn_down.weight', row 7, column 3" },
        { "blk.1.ffn_down.weight", "Q6_K", 512 * 255 + 511, -1e20f, SL_ERR_RANGE, "'blk.1.ffn_down.weight', row 255, column 511" },
        { "blk.1.ffn_down.weight", "F16", 0, 65520.0f, SL_ERR_RANGE, "'blk.1.ffn_down.weight', row 0, column 0" },
        { "blk.0.attn_norm.weight", "Q4_0", 9, NAN, SL_ERR_NONFINITE, "'blk.0.attn_norm.weight', row 0, column 9" },
        { "blk.1.ffn_down.weight", "BF16", 5, 3.4e38f, SL_ERR_RANGE, "'blk.1.ffn_down.weight', row 0, column 5" },
        { "blk.1.ffn_down.weight", "BF16", 5, 1e30f, SL_OK, "" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (uint32_t threads = 1; threads < 4; threads++) {
            tiny *t = tiny_create(&shape);
            size_t size;
            written w = { 0 };
            sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
            o.n_threads = threads;
            memcpy(tiny_find(t, rows[i].tensor)->data + 4 * rows[i].at, &rows[i].value, 4);
            unsigned char *data = tiny_write(t, &size);
            STATUS(to_memory(data, size, rows[i].target, &o, NULL, &w), rows[i].status);
            if (rows[i].status != SL_OK && !strstr(sl_last_error(), rows[i].place))
                fail_msg("%s does not name %s", sl_last_error(), rows[i].place);
            free(data);
            free(w.data);
            tiny_free(t);
        }
}

static void misuse_is_refused(void **state)
{
    (void)state;
    written w = { 0 };
    const sl_source source = source_of(file, file_size), *sources[] = { &source };
    const sl_quantize_override nothing = { sizeof nothing, NULL, "F16" }, unknown = { sizeof unknown, "*", "Q9" };
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    STATUS(sl_quantize(NULL, out_path, "F16", NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_quantize(in_path, NULL, "F16", NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_quantize(in_path, out_path, NULL, NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_quantize(in_path, out_path, "Q9_K", NULL, NULL), SL_ERR_UNSUPPORTED);
    STATUS(sl_quantize("/nonexistent", out_path, "F16", NULL, NULL), SL_ERR_IO);
    STATUS(sl_quantize(in_path, "/nonexistent/out", "F16", NULL, NULL), SL_ERR_IO);
    STATUS(sl_quantize_sources(NULL, 1, collect, &w, "F16", NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_quantize_sources(sources, 0, collect, &w, "F16", NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_quantize_sources(sources, 1, NULL, NULL, "F16", NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_quantize_sources(sources, 1, collect, &w, NULL, NULL, NULL), SL_ERR_ARGUMENT);
    o.flags = 2;
    STATUS(to_memory(file, file_size, "F16", &o, NULL, &w), SL_ERR_ARGUMENT);
    o.flags = 0, o.n_threads = SL_LIMIT_THREADS + 1;
    STATUS(to_memory(file, file_size, "F16", &o, NULL, &w), SL_ERR_LIMIT);
    o.n_threads = 1, o.n_overrides = 1;
    STATUS(to_memory(file, file_size, "F16", &o, NULL, &w), SL_ERR_ARGUMENT);
    o.overrides = &nothing;
    STATUS(to_memory(file, file_size, "F16", &o, NULL, &w), SL_ERR_ARGUMENT);
    o.overrides = &unknown;
    STATUS(to_memory(file, file_size, "F16", &o, NULL, &w), SL_ERR_UNSUPPORTED);
    o.n_overrides = 5000;
    STATUS(to_memory(file, file_size, "F16", &o, NULL, &w), SL_ERR_LIMIT);
    o.size = 4;
    STATUS(to_memory(file, file_size, "F16", &o, NULL, &w), SL_ERR_ARGUMENT);
    STATUS(sl_quantize_options_default(NULL, sizeof o), SL_ERR_ARGUMENT);
    STATUS(sl_quantize_options_default(&o, sizeof o), SL_OK);
    assert_true(o.size == sizeof o && !o.n_threads && !o.n_overrides);
    assert_null(sl_quantize_target(100000));
    free(w.data);
}

/* A file that ends early at any place: an error, and nothing leaks. */
static void cut_files_are_refused(void **state)
{
    (void)state;
    counting memory = { 0 };
    const sl_allocator allocator = counting_allocator(&memory);
    written w = { 0 };
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    o.n_threads = 1;
    o.allocator = &allocator;
    for (size_t size = 0; size < file_size; size += size < 12000 ? 97 : 20011)
        assert_true(to_memory(file, size, "Q4_0", &o, NULL, &w) != SL_OK);
    counting_check_none(&memory);
    free(w.data);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const tiny_shape small = { .n_layer = 1 };
    size_t size, i_size;
    unsigned char *data = tiny_file(&small, &size), *importance = importance_file(3.0f, (const uint64_t[]) { 64, 1 }, TINY_MATRIX_F32, &i_size);
    const sl_source source = source_of(importance, i_size);
    written w = { 0 };
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    o.n_threads = 1;
    o.importance_source = &source;
    sl_status status = SL_ERR_NOMEM;
    for (size_t n = 1; status != SL_OK && n < 2000; n++) {
        counting memory = { .fail_at = n };
        const sl_allocator allocator = counting_allocator(&memory);
        o.allocator = &allocator;
        status = to_memory(data, size, "Q8_0", &o, NULL, &w);
        if (status != SL_OK)
            check_status(status, SL_ERR_NOMEM, "allocation", __FILE__, (int)n);
        counting_check_none(&memory);
    }
    assert_int_equal(status, SL_OK);
    free(data);
    free(importance);
    free(w.data);
}

static int32_t cancel_later(uint64_t done, uint64_t total, void *user)
{
    assert_true(done <= total);
    return done >= *(const uint64_t *)user;
}

/* The callback fails, or somebody cancels: an error; whatever was at the path stays, and nothing lies beside it. */
static void a_failure_leaves_the_old_file(void **state)
{
    (void)state;
    written w = { 0 };
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    sl_quantize_result r = { sizeof r };
    STATUS(to_memory(file, file_size, "Q8_0", NULL, &r, &w), SL_OK);
    const size_t calls = w.calls;
    for (size_t i = 1; i <= calls; i++) {
        w.fail_at = i;
        STATUS(to_memory(file, file_size, "Q8_0", NULL, NULL, &w), SL_ERR_IO);
    }
    tiny_save(out_path, (const unsigned char *)"before", 6);
    for (uint64_t at = 0; at <= r.bytes_in; at += r.bytes_in / 5) {
        o.progress = cancel_later;
        o.progress_user = &at;
        STATUS(sl_quantize(in_path, out_path, "Q8_0", &o, NULL), SL_ERR_CANCELLED);
        char back[16] = { 0 };
        FILE *f = fopen(out_path, "rb");
        assert_int_equal(fread(back, 1, sizeof back, f), 6);
        fclose(f);
        assert_string_equal(back, "before");
    }
    free(w.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_target_and_thread_count), cmocka_unit_test(metadata_stay), cmocka_unit_test(parts_become_one), cmocka_unit_test(overrides_and_pure), cmocka_unit_test(odd_rows),
        cmocka_unit_test(importance_counts), cmocka_unit_test(bad_numbers_are_named), cmocka_unit_test(misuse_is_refused), cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(every_allocation_may_fail), cmocka_unit_test(a_failure_leaves_the_old_file),
    };
    return cmocka_run_group_tests_name("quantize", tests, prepare, clean);
}
