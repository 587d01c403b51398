/* SPDX-License-Identifier: MIT */
/* model.c - models through the interface: every way of loading gives the same numbers, every misuse a status and a sentence; what is asked of a
 * model is what was put into the file, and the estimate is what it takes. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "counting.h"
#include "tiny.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
enum { N_VOCAB = 24, N_IDS = 5 };
static const sl_token ids[N_IDS] = { 1, 7, 20, 3, 3 };

static counting memory;
static unsigned char *file;             /* a right model */
static size_t file_size;
static float expected[N_VOCAB];         /* its logits after ids */
static char folder[] = "/tmp/spacellama-XXXXXX", path[64];

#define STATUS(call, status) check_status(call, status, #call, __LINE__)
static void check_status(sl_status got, sl_status wanted, const char *call, int line)
{
    if (got != wanted)
        fail_msg("line %d: %s: %s (%s), expected %s", line, call, sl_status_name(got), sl_last_error(), sl_status_name(wanted));
}

static sl_model_options counted(sl_allocator *allocator)
{
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    *allocator = counting_allocator(&memory);
    o.n_threads = 2;
    o.allocator = allocator;
    return o;
}

static void no_leak(void)
{
    assert_int_equal(memory.live_blocks, 0);
    assert_int_equal(memory.live_bytes, 0);
    assert_int_equal(memory.wrong, 0);
}

static sl_source source_of(const void *data, uint64_t length) { return (sl_source) { .size = sizeof(sl_source), .data = data, .length = length }; }

static void logits_of(sl_model *model, float *logits)
{
    sl_session *session = NULL;
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    o.n_ctx = 16;
    STATUS(sl_session_create(&session, model, &o), SL_OK);
    STATUS(sl_session_eval(session, ids, N_IDS, logits, 1), SL_OK);
    sl_session_free(session);
}

static void same_numbers(sl_model *model)
{
    float logits[N_VOCAB];
    logits_of(model, logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

static int prepare(void **state)
{
    (void)state;
    sl_model *model = NULL;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    file = tiny_file(NULL, &file_size);
    tiny_save(path, file, file_size);
    if (sl_model_load(&model, path, NULL) != SL_OK)
        return 1;
    logits_of(model, expected);
    sl_model_free(model);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    free(file);
    unlink(path);
    return rmdir(folder);
}

/* ---- misuse ---- */

static void refused_options(void **state)
{
    (void)state;
    static const struct { sl_model_options o; sl_status status; } rows[] = {
#define O(...) { .size = sizeof(sl_model_options), __VA_ARGS__ }
        { { .size = 0 }, SL_ERR_ARGUMENT }, { { .size = 7 }, SL_ERR_ARGUMENT }, { { .size = 65537 }, SL_ERR_ARGUMENT }, { { .size = SIZE_MAX }, SL_ERR_ARGUMENT },
        { O(.parts = 3), SL_ERR_ARGUMENT }, { O(.parts = UINT32_MAX), SL_ERR_ARGUMENT }, { O(.in_place = 2), SL_ERR_ARGUMENT }, { O(.reserved = 1), SL_ERR_ARGUMENT },
        { O(.n_threads = SL_LIMIT_THREADS + 1), SL_ERR_LIMIT }, { O(.n_threads = UINT32_MAX), SL_ERR_LIMIT }, { O(.memory_limit = 1), SL_ERR_LIMIT },
        { O(.cpu_level = "sse9"), SL_ERR_ARGUMENT }, { O(.arith = "f64"), SL_ERR_UNSUPPORTED },
        { O(.backend = "cpv"), SL_ERR_UNSUPPORTED }, { O(.backend = ","), SL_ERR_ARGUMENT }, { O(.backend = "cpu,"), SL_ERR_ARGUMENT }, { O(.backend = "@0-1"), SL_ERR_ARGUMENT },
        { O(.backend = "cpu@"), SL_ERR_ARGUMENT }, { O(.backend = "cpu@0"), SL_ERR_ARGUMENT }, { O(.backend = "cpu@1-0"), SL_ERR_ARGUMENT }, { O(.backend = "cpu@0-1x"), SL_ERR_ARGUMENT },
        { O(.backend = "cpu@-1-1"), SL_ERR_ARGUMENT }, { O(.backend = "cpu@0-99999999999999999999"), SL_ERR_ARGUMENT }, { O(.backend = "cpu@0-2"), SL_ERR_RANGE },
        { O(.backend = "cpu@0-0"), SL_ERR_ARGUMENT }, { O(.backend = "cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu"), SL_ERR_LIMIT }, { O(.backend = "/no/such/module.so"), SL_ERR_BACKEND },
#undef O
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_allocator allocator;
        sl_model_options o = rows[i].o;
        if (o.size == sizeof o)
            o.allocator = counted(&allocator).allocator;
        const sl_source source = source_of(file, file_size), *const sources[] = { &source };
        sl_model *model = (sl_model *)&o;
        sl_status status = sl_model_load_sources(&model, sources, 1, &o);
        if (status != rows[i].status || model || !*sl_last_error())
            fail_msg("row %zu: %s (%s)", i, sl_status_name(status), sl_last_error());
        no_leak();
    }
}

static void refused_arguments(void **state)
{
    (void)state;
    sl_model *model = NULL;
    sl_allocator allocator, half;
    sl_model_options o = counted(&allocator);
    sl_memory need = { .size = sizeof need };
    const sl_source right = source_of(file, file_size), small = { .size = 7, .data = file, .length = file_size }, nothing = source_of(NULL, 100), empty = source_of(file, 0),
                    longer = { .size = SIZE_MAX, .data = file, .length = file_size };
    const sl_source *sources[2] = { &right, NULL };
    STATUS(sl_model_load(NULL, path, &o), SL_ERR_ARGUMENT);
    STATUS(sl_model_load(&model, NULL, &o), SL_ERR_ARGUMENT);
    STATUS(sl_model_load(&model, "", &o), SL_ERR_IO);
    STATUS(sl_model_load(&model, folder, &o), SL_ERR_IO);
    STATUS(sl_model_load(&model, "/no/such/file.gguf", &o), SL_ERR_IO);
    assert_non_null(strstr(sl_last_error(), "/no/such/file.gguf"));
    STATUS(sl_model_load(&model, "/dev/null", &o), SL_ERR_IO);
    STATUS(sl_model_load_sources(NULL, sources, 1, &o), SL_ERR_ARGUMENT);
    STATUS(sl_model_load_sources(&model, NULL, 1, &o), SL_ERR_ARGUMENT);
    STATUS(sl_model_load_sources(&model, sources, 0, &o), SL_ERR_ARGUMENT);
    STATUS(sl_model_load_sources(&model, sources, SIZE_MAX, &o), SL_ERR_LIMIT);
    STATUS(sl_model_load_sources(&model, sources, 2, &o), SL_ERR_ARGUMENT);      /* the second is NULL */
    static const struct { size_t i; sl_status status; } wrong[] = { { 0, SL_ERR_ARGUMENT }, { 1, SL_ERR_ARGUMENT }, { 2, SL_ERR_TRUNCATED }, { 3, SL_ERR_ARGUMENT } };
    const sl_source *all[] = { &small, &nothing, &empty, &longer };
    for (size_t i = 0; i < COUNT(wrong); i++)
        STATUS(sl_model_load_sources(&model, &all[i], 1, &o), wrong[i].status);
    half = (sl_allocator) { .size = sizeof half, .alloc = allocator.alloc };
    o.allocator = &half;
    STATUS(sl_model_load(&model, path, &o), SL_ERR_ARGUMENT);
    half.size = 3;
    STATUS(sl_model_load(&model, path, &o), SL_ERR_ARGUMENT);
    o.allocator = &allocator;
    STATUS(sl_model_estimate(NULL, &o, NULL, &need), SL_ERR_ARGUMENT);
    STATUS(sl_model_estimate(path, &o, NULL, NULL), SL_ERR_ARGUMENT);
    STATUS(sl_model_estimate("/no/such/file.gguf", &o, NULL, &need), SL_ERR_IO);
    need.size = 0;
    STATUS(sl_model_estimate(path, &o, NULL, &need), SL_ERR_ARGUMENT);
    o.parts = SL_PARTS_METADATA;
    STATUS(sl_model_estimate(path, &o, NULL, &need), SL_ERR_ARGUMENT);
    assert_null(model);
    STATUS(sl_model_options_default(NULL, 64), SL_ERR_ARGUMENT);
    STATUS(sl_model_options_default(&o, 7), SL_ERR_ARGUMENT);
    STATUS(sl_model_options_default(&o, sizeof o), SL_OK);
    assert_int_equal(o.size, sizeof o);
    assert_null(o.backend);
    no_leak();
}

/* NULL where a model is wanted: an error, or what stands for nothing. */
static void no_model(void **state)
{
    (void)state;
    sl_model_info info = { .size = sizeof info };
    sl_meta meta = { .size = sizeof meta };
    sl_tensor_info tensor = { .size = sizeof tensor };
    size_t n = 0;
    int64_t i64;
    double x;
    const char *text;
    STATUS(sl_model_get_info(NULL, &info), SL_ERR_ARGUMENT);
    STATUS(sl_model_meta(NULL, 0, &meta), SL_ERR_ARGUMENT);
    STATUS(sl_model_meta_find(NULL, "x", &n), SL_ERR_ARGUMENT);
    STATUS(sl_model_meta_int(NULL, 0, 0, &i64), SL_ERR_ARGUMENT);
    STATUS(sl_model_meta_float(NULL, 0, 0, &x), SL_ERR_ARGUMENT);
    STATUS(sl_model_meta_string(NULL, 0, 0, &text, &n), SL_ERR_ARGUMENT);
    STATUS(sl_model_tensor(NULL, 0, &tensor), SL_ERR_ARGUMENT);
    assert_int_equal(sl_model_meta_count(NULL), 0);
    assert_int_equal(sl_model_tensor_count(NULL), 0);
    assert_null(sl_model_retain(NULL));
    sl_model_free(NULL);
}

/* ---- structures of other ages ---- */

static void option_sizes(void **state)
{
    (void)state;
    const size_t full = sizeof(sl_model_options), sizes[] = { 8, offsetof(sl_model_options, n_threads), offsetof(sl_model_options, in_place), full, full + 1, full + 256 };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        sl_model *model = NULL;
        unsigned char *o = malloc(sizes[i]);        /* exactly: a sanitizer sees a read past it */
        STATUS(sl_model_options_default((sl_model_options *)o, sizes[i]), SL_OK);
        STATUS(sl_model_load(&model, path, (sl_model_options *)o), SL_OK);
        same_numbers(model);
        sl_model_free(model);
        if (sizes[i] > full) {      /* a member that this library does not know is set */
            model = NULL;
            o[sizes[i] - 1] = 1;
            STATUS(sl_model_load(&model, path, (sl_model_options *)o), SL_ERR_UNSUPPORTED);
            assert_null(model);
        }
        free(o);
    }
}

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

/* ---- ways of loading ---- */

typedef struct reader {
    const unsigned char *data;
    size_t size, calls, fail_at;
    int64_t with;               /* what the failing call answers; INT64_MAX: one byte more than it was asked for */
    uint64_t most;              /* bytes per call */
} reader;

static int64_t read_bytes(uint64_t offset, void *to, uint64_t bytes, void *user)
{
    reader *r = user;
    if (++r->calls == r->fail_at)
        return r->with == INT64_MAX ? (int64_t)bytes + 1 : r->with;
    if (offset >= r->size)
        return 0;
    if (bytes > r->size - offset)
        bytes = r->size - offset;
    if (bytes > r->most)
        bytes = r->most;
    memcpy(to, r->data + offset, bytes);
    return (int64_t)bytes;
}

static sl_status load_reader(sl_model **model, reader *r, const sl_model_options *o)
{
    const sl_source source = { .size = sizeof source, .length = file_size, .read = read_bytes, .user = r, .name = "reader" }, *const sources[] = { &source };
    return sl_model_load_sources(model, sources, 1, o);
}

static void callbacks(void **state)
{
    (void)state;
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    sl_model *model = NULL;
    static const uint64_t most[] = { 1000, 4097, UINT64_MAX };
    for (size_t i = 0; i < COUNT(most); i++) {
        reader r = { .data = file, .size = file_size, .most = most[i] };
        STATUS(load_reader(&model, &r, &o), SL_OK);
        memset(&r, 0, sizeof r);        /* only during the load */
        same_numbers(model);
        sl_model_free(model);
        no_leak();
    }
    static const struct { int64_t with; sl_status status; } faults[] = { { -1, SL_ERR_IO }, { INT64_MIN, SL_ERR_IO }, { 0, SL_ERR_IO }, { INT64_MAX, SL_ERR_STATE } };
    for (size_t f = 0; f < COUNT(faults); f++)
        for (size_t at = 1;; at++) {
            reader r = { .data = file, .size = file_size, .most = 30000, .fail_at = at, .with = faults[f].with };
            sl_status status = load_reader(&model, &r, &o);
            if (r.calls < at) {
                STATUS(status, SL_OK);
                sl_model_free(model);
                break;
            }
            STATUS(status, faults[f].status);
            assert_null(model);
            assert_non_null(strstr(sl_last_error(), "reader"));
            no_leak();
        }
    o.in_place = 1;
    reader r = { .data = file, .size = file_size, .most = UINT64_MAX };
    STATUS(load_reader(&model, &r, &o), SL_ERR_UNSUPPORTED);
    no_leak();
}

/* Memory: freed after the load unless in place, at any address. */
static void from_memory(void **state)
{
    (void)state;
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    for (uint32_t in_place = 0; in_place < 2; in_place++)
        for (size_t shift = 0; shift < 4; shift++) {
            sl_model *model = NULL;
            unsigned char *copy = malloc(file_size + shift);
            memcpy(copy + shift, file, file_size);
            const sl_source source = source_of(copy + shift, file_size), *const sources[] = { &source };
            o.in_place = in_place;
            STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
            if (!in_place) {
                memset(copy, 0xdd, file_size + shift);
                free(copy);
            }
            same_numbers(model);
            sl_model_info info = { .size = sizeof info };
            STATUS(sl_model_get_info(model, &info), SL_OK);
            assert_int_equal(info.in_place_bytes > 0, in_place);
            assert_string_equal(info.architecture, "llama");
            sl_model_free(model);
            if (in_place) {
                assert_memory_equal(copy + shift, file, file_size);     /* nobody wrote into it */
                free(copy);
            }
            no_leak();
        }
    sl_model *model = NULL;
    o.in_place = 1;
    STATUS(sl_model_load(&model, path, &o), SL_OK);
    same_numbers(model);
    sl_model_free(model);
    no_leak();
}

static void split_models(void **state)
{
    (void)state;
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    sl_model *model = NULL;
    tiny *t = tiny_create(NULL);
    unsigned char *data[3];
    char names[3][96];
    sl_source parts[3];
    const sl_source *sources[4], *swapped[3];
    for (unsigned i = 0; i < 3; i++) {
        size_t size;
        data[i] = tiny_write_part(t, i, 3, &size);
        parts[i] = source_of(data[i], size);
        sources[i] = &parts[i];
        snprintf(names[i], sizeof names[i], "%s/split-%05u-of-00003.gguf", folder, i + 1);
        tiny_save(names[i], data[i], size);
    }
    for (o.in_place = 0; o.in_place < 2; o.in_place++) {
        sl_model_info info = { .size = sizeof info };
        STATUS(sl_model_load_sources(&model, sources, 3, &o), SL_OK);
        STATUS(sl_model_get_info(model, &info), SL_OK);
        assert_int_equal(info.n_parts, 3);
        assert_int_equal(sl_model_tensor_count(model), t->n_tensors);
        same_numbers(model);
        sl_model_free(model);
        STATUS(sl_model_load(&model, names[0], &o), SL_OK);
        same_numbers(model);
        sl_model_free(model);
    }
    o.in_place = 0;
    STATUS(sl_model_load_sources(&model, sources, 2, &o), SL_ERR_MISSING);
    sources[3] = &parts[2];
    STATUS(sl_model_load_sources(&model, sources, 4, &o), SL_ERR_ARGUMENT);
    swapped[0] = &parts[0], swapped[1] = &parts[2], swapped[2] = &parts[1];
    STATUS(sl_model_load_sources(&model, swapped, 3, &o), SL_ERR_MISSING);
    STATUS(sl_model_load_sources(&model, &sources[1], 2, &o), SL_ERR_MISSING);
    STATUS(sl_model_load(&model, names[1], &o), SL_ERR_MISSING);
    unlink(names[2]);
    STATUS(sl_model_load(&model, names[0], &o), SL_ERR_MISSING);
    assert_non_null(strstr(sl_last_error(), "00003-of-00003"));
    no_leak();
    unlink(names[0]);
    unlink(names[1]);
    for (int i = 0; i < 3; i++)
        free(data[i]);
    tiny_free(t);
}

static void shared_out(void **state)
{
    (void)state;
    static const char *const backends[] = { "cpu", "cpu@0-0,cpu", "cpu,cpu@1-1", "cpu@0-0,cpu@1-1,cpu", "cpu@0-1", "", "cpu@1-1,cpu@0-0" };
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    for (size_t i = 0; i < COUNT(backends); i++) {
        sl_model *model = NULL;
        o.backend = backends[i];
        sl_status status = sl_model_load(&model, path, &o);
        STATUS(status, SL_OK);
        same_numbers(model);
        sl_model_free(model);
        no_leak();
    }
}

/* ---- progress and limits ---- */

typedef struct watch { uint64_t done, total; size_t calls, cancel_at; } watch;

static int32_t watch_progress(uint64_t done, uint64_t total, void *user)
{
    watch *w = user;
    assert_true(done >= w->done && done <= total && (!w->total || w->total == total));
    w->done = done, w->total = total;
    return ++w->calls == w->cancel_at;
}

static void progress(void **state)
{
    (void)state;
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    o.progress = watch_progress;
    for (o.in_place = 0; o.in_place < 2; o.in_place++)
        for (size_t at = 1;; at++) {
            sl_model *model = NULL;
            watch w = { .cancel_at = at };
            o.progress_user = &w;
            sl_status status = sl_model_load(&model, path, &o);
            if (w.calls < at) {
                uint64_t bytes = 0;
                sl_tensor_info info = { .size = sizeof info };
                STATUS(status, SL_OK);
                for (size_t i = 0; i < sl_model_tensor_count(model); i++) {
                    STATUS(sl_model_tensor(model, i, &info), SL_OK);
                    bytes += info.bytes;
                }
                assert_int_equal(w.total, bytes);
                assert_int_equal(w.done, bytes);
                assert_true(at > sl_model_tensor_count(model));
                sl_model_free(model);
                break;
            }
            STATUS(status, SL_ERR_CANCELLED);
            assert_null(model);
            no_leak();
        }
    no_leak();
}

static void memory_limit(void **state)
{
    (void)state;
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    sl_model *model = NULL;
    sl_memory need = { .size = sizeof need };
    STATUS(sl_model_estimate(path, &o, NULL, &need), SL_OK);
    o.memory_limit = need.weights;
    STATUS(sl_model_load(&model, path, &o), SL_OK);
    sl_model_free(model);
    o.memory_limit--;
    STATUS(sl_model_load(&model, path, &o), SL_ERR_LIMIT);
    assert_null(model);
    STATUS(sl_model_estimate(path, &o, NULL, &need), SL_ERR_LIMIT);
    o.in_place = 1;
    STATUS(sl_model_load(&model, path, &o), SL_OK);       /* vectors only */
    sl_model_free(model);
    no_leak();
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
        { 0, 1, 0, 0, NULL }, { 0, 2, 100, 7, "f32" }, { 1, 2, 4096, 512, "f16" }, { 0, 3, 1, 1, "f16" }, { 0, 2, 65, 65536, "f32" },
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
        memory.peak_bytes = 0;
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

/* ---- life ---- */

static void references(void **state)
{
    (void)state;
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    sl_model *model = NULL;
    sl_session *session = NULL;
    sl_decoder *decoder = NULL;
    float logits[N_VOCAB];
    STATUS(sl_model_load(&model, path, &o), SL_OK);
    assert_ptr_equal(sl_model_retain(model), model);
    sl_model_free(model);
    STATUS(sl_session_create(&session, model, NULL), SL_OK);
    STATUS(sl_decoder_create(&decoder, model, 0, 1), SL_OK);
    sl_model_free(model);               /* the caller's reference: session and decoder hold theirs */
    STATUS(sl_session_eval(session, ids, N_IDS, logits, 1), SL_OK);
    assert_memory_equal(logits, expected, sizeof logits);
    sl_session_free(session);
    const char *text;
    size_t length;
    STATUS(sl_decoder_push(decoder, 5, &text, &length), SL_OK);
    assert_true(memory.live_blocks > 0);
    sl_decoder_free(decoder);
    no_leak();
}

/* A call that succeeds leaves the sentence alone. */
static void sentence(void **state)
{
    (void)state;
    sl_model *model = NULL;
    char before[512];
    float logits[N_VOCAB];
    STATUS(sl_model_load(&model, "/no/such/file.gguf", NULL), SL_ERR_IO);
    snprintf(before, sizeof before, "%s", sl_last_error());
    STATUS(sl_model_load(&model, path, NULL), SL_OK);
    assert_string_equal(sl_last_error(), before);
    logits_of(model, logits);
    assert_string_equal(sl_last_error(), before);
    sl_memory need = { .size = sizeof need };
    STATUS(sl_model_estimate(path, NULL, NULL, &need), SL_OK);
    assert_string_equal(sl_last_error(), before);
    sl_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_options), cmocka_unit_test(refused_arguments), cmocka_unit_test(no_model), cmocka_unit_test(option_sizes), cmocka_unit_test(result_sizes),
        cmocka_unit_test(callbacks), cmocka_unit_test(from_memory), cmocka_unit_test(split_models), cmocka_unit_test(shared_out), cmocka_unit_test(progress),
        cmocka_unit_test(memory_limit), cmocka_unit_test(estimate), cmocka_unit_test(metadata), cmocka_unit_test(tensors), cmocka_unit_test(references), cmocka_unit_test(sentence),
    };
    return cmocka_run_group_tests(tests, prepare, clean);
}
