/* SPDX-License-Identifier: MIT */
/* model.c - models through the interface: every way of loading gives the same numbers, every misuse a status and a sentence. */
#define _GNU_SOURCE     /* sched_getaffinity */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "counted_model.h"

enum { N_VOCAB = 24, N_IDS = 5 };
static const sl_token ids[N_IDS] = { 1, 7, 20, 3, 3 };

static float expected[N_VOCAB];         /* logits of the model after ids */

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
    sl_model *model = NULL;
    if (make_model(state) || sl_model_load(&model, path, NULL) != SL_OK)
        return 1;
    logits_of(model, expected);
    sl_model_free(model);
    return 0;
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

/* Seen from inside: panels of 16 rows of 32 floats are read by all threads. */
typedef struct pins { atomic_int n_reads, free_reads; } pins;

static int is_free(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) || CPU_COUNT(&set) > 1;
}

static int64_t read_pinned(uint64_t offset, void *to, uint64_t bytes, void *user)
{
    pins *p = user;
    if (bytes == 16 * 32 * sizeof(float)) {
        atomic_fetch_add(&p->n_reads, 1);
        atomic_fetch_add(&p->free_reads, is_free());
    }
    memcpy(to, file + offset, bytes);
    return (int64_t)bytes;
}

static void threads_stay_where_they_are(void **state)
{
    (void)state;
    pins p = { 0 };
    cpu_set_t before, after;
    if (sched_getaffinity(0, sizeof before, &before))
        skip();
    sl_allocator allocator;
    sl_model_options o = counted(&allocator);
    const sl_source source = { .size = sizeof source, .length = file_size, .read = read_pinned, .user = &p, .name = "pins" }, *const sources[] = { &source };
    for (o.n_threads = 1; o.n_threads <= 5; o.n_threads += 2) {
        sl_model *model = NULL;
        o.allocator = NULL;         /* its counts are for one thread */
        for (o.pin = 0; o.pin < 2; o.pin++) {
            atomic_store(&p.n_reads, 0), atomic_store(&p.free_reads, 0);
            STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
            assert_true(atomic_load(&p.n_reads) > 4);
            assert_int_equal(o.pin || CPU_COUNT(&before) == 1 ? atomic_load(&p.free_reads) == 0 : atomic_load(&p.free_reads) > 0, 1);
            same_numbers(model);
            sl_model_free(model);
            assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
            assert_true(CPU_EQUAL(&before, &after));        /* the host's thread has its freedom back */
        }
    }
    o.pin = 2;
    sl_model *model;
    STATUS(sl_model_load_sources(&model, sources, 1, &o), SL_ERR_ARGUMENT);
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
        cmocka_unit_test(refused_options), cmocka_unit_test(refused_arguments), cmocka_unit_test(no_model), cmocka_unit_test(option_sizes),
        cmocka_unit_test(callbacks), cmocka_unit_test(threads_stay_where_they_are), cmocka_unit_test(from_memory), cmocka_unit_test(split_models), cmocka_unit_test(shared_out), cmocka_unit_test(progress),
        cmocka_unit_test(memory_limit), cmocka_unit_test(references), cmocka_unit_test(sentence),
    };
    return cmocka_run_group_tests(tests, prepare, drop_model);
}
