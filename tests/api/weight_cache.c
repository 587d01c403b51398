/* SPDX-License-Identifier: MIT */
/* weight_cache.c - packed weights kept in a file: taken only if they are the right ones to the last bit, made anew otherwise, and never a reason for a load to
 * fail. This program stands between the library and the system for writing. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#undef _FORTIFY_SOURCE      /* its inline functions would hide the ones below */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "counting.h"
#include "sanitized.h"
#include "tiny.h"

/* ---- between the library and the system ---- */

static const char *failing;     /* the call that fails, or NULL; */
static int fail_after;          /* this many good ones; */
static int fail_with;           /* with this errno */
static int n_calls;             /* of writing */

static int fails(const char *call)
{
    errno = fail_with;
    return failing && !strcmp(failing, call) && fail_after-- <= 0;
}

#define SHOWN __attribute__((visibility("default")))
SHOWN ssize_t pwrite(int fd, const void *from, size_t n, off_t offset)
{
    n_calls++;
    return fails("pwrite") ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, from, n, offset);
}
SHOWN int fsync(int fd) { return (void)fd, fails("fsync") ? -1 : 0; }       /* the disk of a test need not be waited for */
SHOWN int rename(const char *from, const char *to) { return fails("rename") ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); }
SHOWN int flock(int fd, int how) { return fails("flock") ? -1 : (int)syscall(SYS_flock, fd, how); }

/* ---- the model, and what is known of it ---- */

enum { N_VOCAB = 24, N_IDS = 5 };
static const sl_token ids[N_IDS] = { 1, 7, 20, 3, 23 };
static char folder[64], model_path[96], cache_path[96], partial_path[112];
static float expected[N_VOCAB];
static unsigned char *right;        /* the cache file of the model */
static size_t right_size;
static char log_text[4096];

static void note(int32_t level, const char *line, void *user)
{
    (void)user;
    const size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "%d:%s\n", (int)level, line);
}

static void logits_of(sl_model *model, float *logits)
{
    sl_session *session;
    assert_int_equal(sl_session_create(&session, model, NULL), SL_OK);
    assert_int_equal(sl_session_eval(session, ids, N_IDS, logits, 1), SL_OK);
    sl_session_free(session);
}

/* Loads, computes and compares; which bytes came from the cache. *total: bytes of the weights that could have. */
static uint64_t load_with(const sl_model_options *options, const char *path, uint64_t *total)
{
    sl_model *model;
    sl_model_info info = { .size = sizeof info };
    float logits[N_VOCAB];
    log_text[0] = 0;
    if (sl_model_load(&model, path, options) != SL_OK)
        fail_msg("loading failed: %s", sl_last_error());
    assert_int_equal(sl_model_get_info(model, &info), SL_OK);
    logits_of(model, logits);
    assert_memory_equal(logits, expected, sizeof logits);
    sl_model_free(model);
    if (total)
        *total = right_size - 4096;
    return info.cached_bytes;
}

static sl_model_options options_of(void)
{
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 1;
    o.weight_cache = cache_path;
    o.log = note;
    return o;
}

static uint64_t load(void)
{
    const sl_model_options o = options_of();
    return load_with(&o, model_path, NULL);
}

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    *size = 0;
    if (!f)
        return NULL;
    unsigned char *data = malloc(1 << 20);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

/* 1 if the cache file has the right bytes. */
static int is_right(void)
{
    size_t size;
    unsigned char *data = read_file(cache_path, &size);
    const int good = data && size == right_size && !memcmp(data, right, size);
    free(data);
    return good;
}

static void absent(const char *path) { assert_int_not_equal(access(path, F_OK), 0); }

static int prepare(void **state)
{
    (void)state;
    size_t size;
    unsigned char *file = tiny_file(&(tiny_shape) { .n_layer = 1, .matrices = TINY_MATRIX_Q8_0 }, &size);
    strcpy(folder, "/tmp/sl-weights-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(model_path, sizeof model_path, "%s/model.gguf", folder);
    snprintf(cache_path, sizeof cache_path, "%s/weights", folder);
    snprintf(partial_path, sizeof partial_path, "%s.partial", cache_path);
    tiny_save(model_path, file, size);
    free(file);
    sl_model *model;
    sl_model_options o = options_of();
    o.weight_cache = NULL;
    if (sl_model_load(&model, model_path, &o) != SL_OK)
        return -1;
    logits_of(model, expected);
    sl_model_free(model);
    load();
    right = read_file(cache_path, &right_size);
    return right ? 0 : -1;
}

static int clear(void **state)
{
    (void)state;
    failing = NULL;
    (void)unlink(partial_path);
    tiny_save(cache_path, right, right_size);
    return 0;
}

static int tidy(void **state)
{
    (void)state;
    free(right);
    return unlink(model_path) || unlink(cache_path) || rmdir(folder);
}

/* ---- tests ---- */

static void is_read_once_written(void **state)
{
    (void)state;
    uint64_t all;
    sl_model_options o = options_of();
    assert_int_equal(unlink(cache_path), 0);
    assert_int_equal(load_with(&o, model_path, &all), 0);
    assert_non_null(strstr(log_text, "not there yet"));
    assert_non_null(strstr(log_text, "written"));
    assert_true(is_right());        /* the same weights, the same bytes */
    absent(partial_path);
    n_calls = 0;
    assert_int_equal(load_with(&o, model_path, &all), all);
    assert_int_equal(n_calls, 0);
    assert_non_null(strstr(log_text, "3:weight cache"));
    for (uint32_t threads = 1; threads <= 5; threads += 2) {        /* neither threads nor level matter */
        o.n_threads = threads;
        o.pin = threads & 1;
        o.cpu_level = threads == 3 ? "scalar" : NULL;
        assert_int_equal(load_with(&o, model_path, &all), all);
    }
    assert_true(is_right());
    o = options_of();
    o.in_place = 1;                 /* nothing is packed */
    assert_int_equal(load_with(&o, model_path, &all), 0);
    assert_non_null(strstr(log_text, "in place"));
}

/* Every fault of one byte: never used to the end, and mended. */
static void notices_every_byte(void **state)
{
    (void)state;
    const size_t step = WHEN_SANITIZED(211, 13);
    unsigned char *bad = malloc(right_size);
    for (size_t at = 0; at < right_size; at += at < 256 ? 1 : step) {
        memcpy(bad, right, right_size);
        bad[at] ^= (unsigned char)(1 << at % 8);
        tiny_save(cache_path, bad, right_size);
        const uint64_t cached = load();
        if (cached >= right_size - 4096 || !strstr(log_text, "2:weight cache") || !is_right())
            fail_msg("byte %zu: %llu bytes were taken; %s", at, (unsigned long long)cached, log_text);
        if (at < 4096)
            assert_int_equal(cached, 0);
    }
    free(bad);
}

static void notices_every_cut(void **state)
{
    (void)state;
    unsigned char *longer = calloc(right_size + 1, 1);
    memcpy(longer, right, right_size);
    for (size_t size = 0; size < right_size; size += size < 256 ? 5 : 509) {
        tiny_save(cache_path, right, size);
        const uint64_t cached = load();
        if (cached || !is_right())
            fail_msg("%zu bytes: %llu bytes were taken; %s", size, (unsigned long long)cached, log_text);
    }
    tiny_save(cache_path, longer, right_size + 1);
    assert_int_equal(load(), 0);
    assert_true(is_right());
    free(longer);
}

/* Another model has its own; also one of the same size, header and name, even if it claims to be as old. */
static void belongs_to_one_model(void **state)
{
    (void)state;
    size_t size;
    unsigned char *file = read_file(model_path, &size);
    struct stat st;
    assert_int_equal(stat(model_path, &st), 0);
    struct timespec times[2] = { st.st_atim, st.st_mtim };
    float before[N_VOCAB];
    memcpy(before, expected, sizeof before);
    for (int how = 0; how < 2; how++) {
        unsigned char *other = malloc(size);
        memcpy(other, file, size);
        for (size_t i = size - 1000; how && i < size; i++)
            other[i] ^= 1;      /* of the last tensors */
        tiny_save(model_path, other, size);
        if (how)
            assert_int_equal(utimensat(AT_FDCWD, model_path, times, 0), 0);
        sl_model *model;
        assert_int_equal(sl_model_load(&model, model_path, NULL), SL_OK);
        logits_of(model, expected);
        sl_model_free(model);
        tiny_save(cache_path, right, right_size);
        assert_int_equal(load(), 0);
        assert_non_null(strstr(log_text, "another file"));
        assert_true(load() > 0);
        free(other);
    }
    tiny_save(model_path, file, size);
    assert_int_equal(utimensat(AT_FDCWD, model_path, times, 0), 0);
    memcpy(expected, before, sizeof before);
    assert_int_equal(load(), 0);        /* the cache is the other one's now */
    assert_true(is_right());
    free(file);
}

/* What is no cache keeps its bytes; what is no file, too. */
static void leaves_other_files_alone(void **state)
{
    (void)state;
    size_t size = 0;
    unsigned char *file = read_file(model_path, &size), *after;
    sl_model_options o = options_of();
    o.weight_cache = model_path;
    for (int i = 0; i < 2; i++) {
        size_t now;
        assert_int_equal(load_with(&o, model_path, NULL), 0);
        assert_non_null(strstr(log_text, "left alone"));
        after = read_file(model_path, &now);
        assert_int_equal(now, size);
        assert_memory_equal(after, file, size);
        free(after);
    }
    o.weight_cache = folder;
    n_calls = 0;
    assert_int_equal(load_with(&o, model_path, NULL), 0);
    assert_non_null(strstr(log_text, "2:weight cache"));
    assert_int_equal(n_calls, 0);
    o.weight_cache = "/no/such/folder/weights";
    assert_int_equal(load_with(&o, model_path, NULL), 0);
    o.weight_cache = "";
    assert_int_equal(load_with(&o, model_path, NULL), 0);
    assert_null(strstr(log_text, "weight cache"));
    const sl_source source = source_of(file, size), *sources[] = { &source };
    sl_model *model;
    o.weight_cache = cache_path;
    log_text[0] = 0;
    assert_int_equal(sl_model_load_sources(&model, sources, 1, &o), SL_OK);
    sl_model_free(model);
    assert_non_null(strstr(log_text, "from a path"));
    free(file);
}

/* Writing fails at every call, in every way: the load does not mind, nothing is left behind, and a good file is not lost. */
static void lives_without_it(void **state)
{
    (void)state;
    static const struct { const char *call; int error; } cases[] = {
        { "pwrite", ENOSPC }, { "pwrite", EIO }, { "fsync", EIO }, { "rename", EROFS }, { "flock", EWOULDBLOCK },
    };
    static const char before[] = "an old one begins with SLPACKED";
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int after = 0;; after++) {
            if (i % 2)
                (void)unlink(cache_path);
            else
                tiny_save(cache_path, (const unsigned char *)before + 23, sizeof before - 24);
            failing = cases[i].call;
            fail_after = after;
            fail_with = cases[i].error;
            assert_int_equal(load(), 0);
            const int left = fail_after;        /* 0 or more: the call was not reached */
            failing = NULL;
            if (strcmp(cases[i].call, "flock"))
                absent(partial_path);
            if (left >= 0) {
                assert_true(is_right());
                break;
            }
            assert_non_null(strstr(log_text, "2:weight cache: not written"));
            if (strcmp(cases[i].call, "fsync") || !after)
                assert_false(is_right());
            (void)unlink(partial_path);
        }
}

/* Every allocation fails once: the load answers SL_ERR_NOMEM, or does without the cache. */
static void lives_without_memory(void **state)
{
    (void)state;
    for (int there = 0; there < 2; there++)
        for (size_t n = 1;; n++) {
            counting c = { .fail_at = n, .fail_for = 1 };
            sl_allocator allocator = counting_allocator(&c);
            sl_model_options o = options_of();
            o.allocator = &allocator;
            if (!there)
                (void)unlink(cache_path);
            sl_model *model;
            const sl_status status = sl_model_load(&model, model_path, &o);
            const size_t calls = c.calls;
            c.fail_at = 0;
            if (status != SL_OK && status != SL_ERR_NOMEM)
                fail_msg("allocation %zu: %s", n, sl_last_error());
            if (status == SL_OK) {
                float logits[N_VOCAB];
                logits_of(model, logits);
                assert_memory_equal(logits, expected, sizeof logits);
            }
            sl_model_free(model);
            counting_check_none(&c);
            absent(partial_path);
            if (calls < n)
                break;
        }
    assert_true(is_right());
}

static int32_t stop(uint64_t done, uint64_t total, void *user)
{
    int *left = user;
    (void)done, (void)total;
    return (*left)-- <= 0;
}

/* Cancelled while packing, reading or writing: the load ends, and no half file stays. */
static void can_be_cancelled(void **state)
{
    (void)state;
    for (int there = 0; there < 2; there++)
        for (int after = 0;; after++) {
            int left = after;
            sl_model_options o = options_of();
            o.progress = stop;
            o.progress_user = &left;
            if (!there)
                (void)unlink(cache_path);
            sl_model *model;
            const sl_status status = sl_model_load(&model, model_path, &o);
            sl_model_free(model);
            absent(partial_path);
            if (status == SL_OK)
                break;
            assert_int_equal(status, SL_ERR_CANCELLED);
            assert_int_equal(is_right(), there);
        }
    assert_true(is_right());
}

static void several_processes_share_it(void **state)
{
    (void)state;
    enum { N = 4, TIMES = 5 };
    for (int i = 0; i < TIMES; i++) {
        pid_t children[N];
        (void)unlink(cache_path);
        for (int k = 0; k < N; k++)
            if (!(children[k] = fork())) {
                for (int n = 0; n < 3; n++)
                    load();
                _exit(strstr(log_text, "2:weight") != NULL && !strstr(log_text, "somebody else"));
            }
        for (int k = 0; k < N; k++) {
            int status = -1;
            assert_int_equal(waitpid(children[k], &status, 0), children[k]);
            assert_int_equal(status, 0);
        }
        assert_true(is_right());
        absent(partial_path);
    }
}

static void split_models_have_one(void **state)
{
    (void)state;
    tiny *t = tiny_create(&(tiny_shape) { .n_layer = 1, .matrices = TINY_MATRIX_Q8_0 });
    char names[3][96];
    for (unsigned i = 0; i < 3; i++) {
        size_t size;
        unsigned char *data = tiny_write_part(t, i, 3, &size);
        snprintf(names[i], sizeof names[i], "%s/split-%05u-of-00003.gguf", folder, i + 1);
        tiny_save(names[i], data, size);
        free(data);
    }
    const sl_model_options o = options_of();
    uint64_t all;
    assert_int_equal(load_with(&o, names[0], &all), 0);         /* the cache is that of the whole file */
    assert_int_equal(load_with(&o, names[0], &all), all);
    struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    assert_int_equal(utimensat(AT_FDCWD, names[2], times, 0), 0);       /* one of the parts is another one */
    assert_int_equal(load_with(&o, names[0], &all), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(unlink(names[i]), 0);
    tiny_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(is_read_once_written, clear), cmocka_unit_test_setup(notices_every_byte, clear), cmocka_unit_test_setup(notices_every_cut, clear),
        cmocka_unit_test_setup(belongs_to_one_model, clear), cmocka_unit_test_setup(leaves_other_files_alone, clear), cmocka_unit_test_setup(lives_without_it, clear),
        cmocka_unit_test_setup(lives_without_memory, clear), cmocka_unit_test_setup(can_be_cancelled, clear),
        cmocka_unit_test_setup(several_processes_share_it, clear), cmocka_unit_test_setup(split_models_have_one, clear),
    };
    sl_model *model;
    if (sl_model_load(&model, "/dev/null", NULL) == SL_ERR_UNSUPPORTED)
        return 77;      /* a build without files */
    return cmocka_run_group_tests(tests, prepare, tidy);
}
