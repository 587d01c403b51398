/* SPDX-License-Identifier: MIT */
/* input.c - where bytes come from, what may go wrong there, and models in several parts. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"
#include "counting.h"
#include "gguf_build.h"
#include "input.h"

static char folder[] = "/tmp/sl-input-XXXXXX";

static void path_of(char *to, size_t size, const char *name) { assert_true(snprintf(to, size, "%s/%s", folder, name) < (int)size); }

static void save(const char *name, const gguf_bytes *file)
{
    char path[256];
    path_of(path, sizeof path, name);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(file->data, 1, file->size, f) == file->size);
    assert_int_equal(fclose(f), 0);
}

static void discard(const char *name)
{
    char path[256];
    path_of(path, sizeof path, name);
    (void)remove(path);
}

static sl_source memory_source(const gguf_bytes *file) { return (sl_source) { sizeof(sl_source), file->data, file->size, NULL, NULL, NULL }; }

static void check(const char *id, sl_status s, sl_status expected, const char *place, const counting *c)
{
    if (s != expected || (s != SL_OK && place && !strstr(sl_last_error(), place)))
        fail_msg("%s: %s, not %s (%s)", id, sl_status_name(s), sl_status_name(expected), sl_last_error());
    if (s != SL_OK && (c->live_blocks || c->wrong))
        fail_msg("%s: %zu blocks leaked", id, c->live_blocks);
}

/* ---- split models ---- */

#define ONE_TENSOR(name) "s'" name "' 4:1 8:8 4:0 8:0 p32 r32:00"
#define SPLIT(no, count) "s'split.no' 4:2 2:" #no " s'split.count' 4:2 2:" #count " "
#define LLAMA "s'general.architecture' 4:8 s'llama' "

typedef struct model {
    const char *id;
    const char *parts[3];
    sl_status by_source, by_path;
    const char *place;
    const char *first;      /* name of the first file, unless it is the right one */
    size_t absent;          /* this part's file is not there */
} model;

static const model models[] = {
    { "single", { "h:1:0 " ONE_TENSOR("a") }, SL_OK, SL_OK },
    { "single that says so", { "h:1:2 " SPLIT(0, 1) ONE_TENSOR("a") }, SL_OK, SL_OK },
    { "three", { "h:1:4 " LLAMA SPLIT(0, 3) "s'split.tensors.count' 4:5 4:3 " ONE_TENSOR("a"), "h:1:2 " SPLIT(1, 3) ONE_TENSOR("b"), "h:1:2 " SPLIT(2, 3) ONE_TENSOR("c") }, SL_OK, SL_OK },
    { "two, the first without tensors", { "h:0:3 " LLAMA SPLIT(0, 2), "h:1:3 " LLAMA SPLIT(1, 2) ONE_TENSOR("b") }, SL_OK, SL_OK },
    { "S01 count", { "h:0:1 s'split.count' 4:2 2:65535" }, SL_ERR_MISSING, SL_ERR_MISSING, "65535" },
    { "S01 count, named so", { "h:0:1 s'split.count' 4:2 2:65535" }, SL_ERR_MISSING, SL_ERR_LIMIT, "65535", "m-00001-of-65535.gguf" },
    { "S01 count of six digits", { "h:0:1 s'split.count' 4:4 4:-1" }, SL_ERR_MISSING, SL_ERR_LIMIT, "4294967295", "m-00001-of-99999.gguf" },
    { "S01 number", { "h:0:1 s'split.no' 4:2 2:1" }, SL_ERR_MISSING, SL_ERR_MISSING, "part 2" },
    { "S01 second part given", { "h:0:2 " SPLIT(1, 2), "h:0:2 " SPLIT(1, 2) }, SL_ERR_MISSING, SL_ERR_MISSING, "part 2" },
    { "S01 a part is not there", { "h:0:2 " SPLIT(0, 3), "h:0:2 " SPLIT(1, 3) }, SL_ERR_MISSING, SL_ERR_MISSING, "" , NULL, 3 },
    { "S02 text for a count", { "h:0:1 s'split.count' 4:8 s'../../x'" }, SL_ERR_TYPE, SL_ERR_TYPE, "split.count" },
    { "S02 text for a number", { "h:0:1 s'split.no' 4:8 s'../x'" }, SL_ERR_TYPE, SL_ERR_TYPE, "split.no" },
    { "S02 another name than the parts have", { "h:0:2 " SPLIT(0, 2), "h:0:2 " SPLIT(1, 2) }, SL_OK, SL_ERR_MISSING, "name", "m.gguf" },
    { "S03 architecture", { "h:0:3 " LLAMA SPLIT(0, 2), "h:0:3 s'general.architecture' 4:8 s'other' " SPLIT(1, 2) }, SL_ERR_DUPLICATE, SL_ERR_DUPLICATE, "general.architecture" },
    { "S03 tensor", { "h:1:2 " SPLIT(0, 2) ONE_TENSOR("a"), "h:1:2 " SPLIT(1, 2) ONE_TENSOR("a") }, SL_ERR_DUPLICATE, SL_ERR_DUPLICATE, "tensor 'a'" },
    { "S04 parts out of order", { "h:0:2 " SPLIT(0, 3), "h:0:2 " SPLIT(2, 3), "h:0:2 " SPLIT(1, 3) }, SL_ERR_MISSING, SL_ERR_MISSING, "part 3" },
    { "S04 a part that is none", { "h:0:2 " SPLIT(0, 2), "h:0:0" }, SL_ERR_MISSING, SL_ERR_MISSING, "part 1" },
    { "S05 counts differ", { "h:0:2 " SPLIT(0, 2), "h:0:2 " SPLIT(1, 3) }, SL_ERR_RANGE, SL_ERR_RANGE, "3 parts" },
    { "S06 other number of tensors", { "h:1:3 " SPLIT(0, 2) "s'split.tensors.count' 4:5 4:3 " ONE_TENSOR("a"), "h:1:2 " SPLIT(1, 2) ONE_TENSOR("b") }, SL_ERR_RANGE, SL_ERR_RANGE, "split.tensors.count" },
    { "S07 second part damaged", { "h:0:2 " SPLIT(0, 2), "h:0:1 s'a' 4:7 1:2" }, SL_ERR_RANGE, SL_ERR_RANGE, "key 'a'" },
    { "S08 negative count", { "h:0:1 s'split.count' 4:3 2:-2" }, SL_ERR_RANGE, SL_ERR_RANGE, "split.count" },
};

static void check_all_tensors(const sl_parts *parts)
{
    for (size_t i = 0; i < parts->n_tensors; i++) {
        size_t part = 99, found = 99;
        const sl_gguf_tensor *t = sl_parts_tensor(parts, i, &part);
        float first = 1;
        assert_true(sl_parts_find(parts, t->name, &found) == t);
        assert_int_equal(part, found);
        assert_string_equal(t->name, (const char[2]) { (char)('a' + (parts->n_tensors == 1 ? (parts->n_parts > 1) : (int)i)) });
        assert_int_equal(sl_input_read(&parts->parts[part].input, t->offset, &first, sizeof first), SL_OK);
        assert_true(first == 0);
    }
    assert_null(sl_parts_find(parts, "z", NULL));
}

static void run_model(const model *m)
{
    gguf_bytes files[3];
    sl_source sources[3];
    const sl_source *list[3];
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_parts parts;
    size_t n = 0;
    char names[3][64], path[256];
    for (; n < 3 && m->parts[n]; n++) {
        files[n] = gguf_build(m->parts[n]);
        sources[n] = memory_source(&files[n]);
        list[n] = &sources[n];
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], i || n > 1 ? "m-%05zu-of-%05zu.gguf" : "m.gguf", i + 1, m->absent ? m->absent : n);
        if (!i && m->first)
            strcpy(names[0], m->first);
        save(names[i], &files[i]);
    }
    for (int in_place = 0; in_place < 2; in_place++) {
        sl_status s = sl_parts_open_sources(&parts, &mem, list, n, in_place);
        check(m->id, s, m->by_source, m->place, &c);
        if (s == SL_OK) {
            check_all_tensors(&parts);
            sl_parts_close(&parts, &mem);
        }
    }
    path_of(path, sizeof path, names[0]);
    sl_status s = sl_parts_open_path(&parts, &mem, path);
    check(m->id, s, m->by_path, m->place, &c);
    if (s == SL_OK) {
        check_all_tensors(&parts);
        sl_parts_close(&parts, &mem);
    } else {
        assert_non_null(strstr(sl_last_error(), folder));      /* whichever file it was, it is named */
    }
    counting_check_none(&c);
    for (size_t i = 0; i < n; i++) {
        discard(names[i]);
        gguf_bytes_free(&files[i]);
    }
}

static void opens_models_in_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        run_model(&models[i]);
}

static void checks_the_list_of_sources(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    gguf_bytes file = gguf_build("h:0:0");
    sl_source source = memory_source(&file), no_bytes = { sizeof no_bytes, NULL, 24, NULL, NULL, "nothing" }, broken = source, older = source;
    broken.size = 7;
    older.size = offsetof(sl_source, read);     /* of a program that knew data and length only */
    const sl_source **many = calloc(SL_LIMIT_PARTS + 1, sizeof *many), *two[] = { &source, &source }, *none[] = { NULL }, *one[] = { &no_bytes }, *small[] = { &broken }, *short_one[] = { &older };
    sl_parts parts;
    assert_non_null(many);
    for (size_t i = 0; i <= SL_LIMIT_PARTS; i++)
        many[i] = &source;
    check("no list", sl_parts_open_sources(&parts, &mem, NULL, 1, 0), SL_ERR_ARGUMENT, "source", &c);
    check("empty list", sl_parts_open_sources(&parts, &mem, two, 0, 0), SL_ERR_ARGUMENT, "source", &c);
    check("no source", sl_parts_open_sources(&parts, &mem, none, 1, 0), SL_ERR_ARGUMENT, "source", &c);
    check("no bytes", sl_parts_open_sources(&parts, &mem, one, 1, 0), SL_ERR_ARGUMENT, "nothing: ", &c);
    check("small structure", sl_parts_open_sources(&parts, &mem, small, 1, 0), SL_ERR_ARGUMENT, "size", &c);
    check("older structure", sl_parts_open_sources(&parts, &mem, short_one, 1, 0), SL_OK, NULL, &c);
    sl_parts_close(&parts, &mem);
    check("too many parts", sl_parts_open_sources(&parts, &mem, two, 2, 0), SL_ERR_ARGUMENT, "2 of 1", &c);
    check("far too many", sl_parts_open_sources(&parts, &mem, many, SL_LIMIT_PARTS + 1, 0), SL_ERR_LIMIT, "1025", &c);
    check("one", sl_parts_open_sources(&parts, &mem, many, 1, 0), SL_OK, NULL, &c);
    sl_parts_close(&parts, &mem);
    counting_check_none(&c);
    free(many);
    gguf_bytes_free(&file);
}

/* ---- files ---- */

static void names_files_that_cannot_be_opened(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_parts parts;
    char path[256];
    gguf_bytes empty = gguf_build(""), other = gguf_build("'#!/bin/sh\n'");
    path_of(path, sizeof path, "absent.gguf");
    check("absent", sl_parts_open_path(&parts, &mem, path), SL_ERR_IO, "absent.gguf: cannot open: no such file", &c);
    check("folder", sl_parts_open_path(&parts, &mem, folder), SL_ERR_IO, "it is a folder", &c);
    path_of(path, sizeof path, "pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    check("pipe", sl_parts_open_path(&parts, &mem, path), SL_ERR_IO, "not a regular file", &c);     /* and does not wait for a writer */
    discard("pipe");
    save("empty.gguf", &empty);
    path_of(path, sizeof path, "empty.gguf");
    check("empty", sl_parts_open_path(&parts, &mem, path), SL_ERR_TRUNCATED, "empty.gguf: header", &c);
    discard("empty.gguf");
    save("other", &other);
    path_of(path, sizeof path, "other");
    check("another kind", sl_parts_open_path(&parts, &mem, path), SL_ERR_MAGIC, "other: header", &c);
    discard("other");
    gguf_bytes_free(&empty);
    gguf_bytes_free(&other);
}

static void notices_that_a_file_became_shorter(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_parts parts;
    char path[256];
    unsigned char byte;
    gguf_bytes file = gguf_build("h:1:0 " ONE_TENSOR("a"));
    save("short.gguf", &file);
    path_of(path, sizeof path, "short.gguf");
    assert_int_equal(sl_parts_open_path(&parts, &mem, path), SL_OK);
    sl_input *input = &parts.parts[0].input;
    assert_int_equal(sl_input_read(input, file.size - 1, &byte, 1), SL_OK);
    assert_int_equal(truncate(path, (off_t)file.size - 1), 0);
    assert_int_equal(sl_input_read(input, file.size - 1, &byte, 1), SL_ERR_IO);
    assert_non_null(strstr(sl_last_error(), "short.gguf"));
    assert_int_equal(sl_input_read(input, file.size - 2, &byte, 1), SL_OK);
    assert_int_equal(sl_input_read(input, file.size, &byte, 1), SL_ERR_BOUNDS);
    assert_int_equal(sl_input_read(input, UINT64_MAX, &byte, 1), SL_ERR_BOUNDS);
    assert_int_equal(sl_input_read(input, 1, &byte, SIZE_MAX), SL_ERR_BOUNDS);
    assert_int_equal(sl_input_read(input, file.size, &byte, 0), SL_OK);
    sl_parts_close(&parts, &mem);
    counting_check_none(&c);
    discard("short.gguf");
    gguf_bytes_free(&file);
}

/* ---- callbacks ---- */

typedef struct device {
    const gguf_bytes *file;
    uint64_t fail_at;       /* what touches this byte fails ... */
    int64_t answer;         /* ... with this: negative, 0, or more than was asked */
    uint64_t at_most;       /* bytes per call */
    size_t calls;
    int inside;
} device;

enum { MORE_THAN_ASKED = 1 };

static int64_t device_read(uint64_t offset, void *to, uint64_t bytes, void *user)
{
    device *d = user;
    if (__atomic_exchange_n(&d->inside, 1, __ATOMIC_SEQ_CST))
        return -77;     /* two calls at once */
    d->calls++;
    sl_thread_yield();  /* whoever else may come in does so now */
    uint64_t n = bytes < d->at_most ? bytes : d->at_most;
    int64_t answer = (int64_t)n;
    if (offset + n > d->file->size)
        answer = -78;
    else if (d->fail_at >= offset && d->fail_at < offset + n)
        answer = d->answer == MORE_THAN_ASKED ? (int64_t)bytes + 1 : d->answer;
    else
        memcpy(to, d->file->data + offset, (size_t)n);
    __atomic_store_n(&d->inside, 0, __ATOMIC_SEQ_CST);
    return answer;
}

static sl_source device_source(device *d) { return (sl_source) { sizeof(sl_source), NULL, d->file->size, device_read, d, "device" }; }

static void survives_bad_devices(void **state)
{
    (void)state;
    static const struct { const char *id; int64_t answer; sl_status expected; } answers[] = {
        { "IO1 ends early", 0, SL_ERR_IO }, { "IO2 interrupted for good", -4, SL_ERR_IO }, { "IO3 error", -5, SL_ERR_IO }, { "IO3 lowest", INT64_MIN, SL_ERR_IO },
        { "IO4 more than asked", MORE_THAN_ASKED, SL_ERR_STATE },
    };
    gguf_bytes file = gguf_build("h:1:2 s'a' 4:8 s'text' s'b' 4:9 4:8 8:2 s'x' s'y' " ONE_TENSOR("a"));
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        for (uint64_t at_most = 1; at_most < 1000; at_most *= 7)
            for (uint64_t byte = 0; byte <= file.size; byte++) {
                device d = { &file, byte, answers[i].answer, at_most, 0, 0 };
                counting c = { 0 };
                sl_mem mem = counting_mem(&c);
                sl_parts parts;
                sl_source source = device_source(&d);
                const sl_source *list[] = { &source };
                sl_status s = sl_parts_open_sources(&parts, &mem, list, 1, 0);
                check(answers[i].id, s, byte == file.size ? SL_OK : answers[i].expected, "device: ", &c);
                if (s == SL_OK)
                    sl_parts_close(&parts, &mem);
                counting_check_none(&c);
            }
    gguf_bytes_free(&file);
}

/* A header of 5 MiB, 3 MiB of it one text: the window has to grow, over short reads, and memory stays in bounds. */
static void grows_its_window(void **state)
{
    (void)state;
    gguf_bytes file = gguf_build("h:1:3 s'a' 4:8 S1048576:61 s'b' 4:8 S3145728:62 s'c' 4:9 4:8 8:100000 100000( s'x' ) " ONE_TENSOR("a"));
    device d = { &file, UINT64_MAX, 0, 100000, 0, 0 };
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_parts parts;
    sl_source through = device_source(&d), direct = memory_source(&file);
    const sl_source *list[] = { &through, &direct };
    save("long.gguf", &file);
    char path[256];
    path_of(path, sizeof path, "long.gguf");
    for (int i = 0; i < 4; i++) {
        c.peak_bytes = 0;
        sl_status s = i == 3 ? sl_parts_open_path(&parts, &mem, path) : sl_parts_open_sources(&parts, &mem, &list[i > 0], 1, i == 2);
        assert_int_equal(s, SL_OK);
        sl_text text;
        assert_int_equal(sl_gguf_text(&parts.parts[0].gguf, "b", &text), SL_OK);
        assert_int_equal(text.length, 3145728);
        assert_int_equal(text.data[3145727], 'b');
        int own = parts.parts[0].head && (const uint8_t *)text.data > parts.parts[0].head && (const uint8_t *)text.data < parts.parts[0].head + file.size;
        assert_int_equal(own, i != 2);      /* in place: the caller's memory is used */
        assert_true(c.peak_bytes < (i == 2 ? 20000 : (1u << 20) + 2 * file.size));
        sl_parts_close(&parts, &mem);
    }
    discard("long.gguf");
    counting_check_none(&c);
    gguf_bytes_free(&file);
}

typedef struct crowd { sl_input *input; const gguf_bytes *file; sl_status status; } crowd;

static void read_often(void *arg)
{
    crowd *c = arg;
    for (int i = 0; i < 2000 && c->status == SL_OK; i++) {
        unsigned char bytes[16];
        uint64_t offset = (uint64_t)(i * 7) % (c->file->size - 16);
        c->status = sl_input_read(c->input, offset, bytes, 16);
        if (c->status == SL_OK && memcmp(bytes, c->file->data + offset, 16))
            c->status = SL_ERR_INTERNAL;
    }
}

static void reads_from_many_threads(void **state)
{
    (void)state;
    gguf_bytes file = gguf_build("h:0:1 s'a' 4:9 4:0 8:1000 200( x:0102030405 )");
    device d = { &file, UINT64_MAX, 0, 5, 0, 0 };
    sl_mem mem;
    sl_parts parts;
    sl_source source = device_source(&d);
    const sl_source *list[] = { &source };
    sl_thread *threads[3] = { NULL };
    crowd crowds[3];
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    assert_int_equal(sl_parts_open_sources(&parts, &mem, list, 1, 0), SL_OK);
    for (int i = 0; i < 3; i++) {
        crowds[i] = (crowd) { &parts.parts[0].input, &file, SL_OK };
        sl_status s = sl_thread_start(&threads[i], &mem, read_often, &crowds[i]);
        assert_true(s == SL_OK || (!SL_WITH_THREADS && s == SL_ERR_UNSUPPORTED));
        if (s != SL_OK)
            read_often(&crowds[i]);
    }
    for (int i = 0; i < 3; i++) {
        sl_thread_join(threads[i], &mem);
        assert_int_equal(crowds[i].status, SL_OK);
    }
    sl_parts_close(&parts, &mem);
    gguf_bytes_free(&file);
}

/* ---- mapping, releasing, lack of memory ---- */

static void maps_what_can_be_mapped(void **state)
{
    (void)state;
    gguf_bytes file = gguf_build("h:1:0 " ONE_TENSOR("a"));
    device d = { &file, UINT64_MAX, 0, 1000, 0, 0 };
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_source sources[] = { memory_source(&file), device_source(&d) };
    char path[256];
    save("map.gguf", &file);
    path_of(path, sizeof path, "map.gguf");
    for (int i = 0; i < 3; i++) {
        sl_parts parts;
        const uint8_t *data = NULL, *again = NULL;
        const sl_source *list[] = { &sources[i % 2] };
        assert_int_equal(i == 2 ? sl_parts_open_path(&parts, &mem, path) : sl_parts_open_sources(&parts, &mem, list, 1, 0), SL_OK);
        sl_status s = sl_input_map(&parts.parts[0].input, &data);
        assert_int_equal(s, i == 1 ? SL_ERR_UNSUPPORTED : SL_OK);
        if (s == SL_OK) {
            assert_memory_equal(data, file.data, file.size);
            assert_int_equal(sl_input_map(&parts.parts[0].input, &again), SL_OK);
            assert_true(again == data && (i != 0 || data == file.data));
        }
        sl_parts_release_data(&parts, &mem);
        unsigned char byte;
        assert_int_equal(sl_input_read(&parts.parts[0].input, 0, &byte, 1), SL_ERR_STATE);
        assert_non_null(sl_parts_find(&parts, "a", NULL));
        sl_parts_release_data(&parts, &mem);
        sl_parts_close(&parts, &mem);
        sl_parts_close(&parts, &mem);       /* a second time does nothing */
        counting_check_none(&c);
    }
    discard("map.gguf");
    gguf_bytes_free(&file);
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    gguf_bytes files[] = { gguf_build("h:1:2 " SPLIT(0, 2) ONE_TENSOR("a")), gguf_build("h:1:2 " SPLIT(1, 2) ONE_TENSOR("b")) };
    sl_source sources[] = { memory_source(&files[0]), memory_source(&files[1]) };
    const sl_source *list[] = { &sources[0], &sources[1] };
    char path[256];
    save("n-00001-of-00002.gguf", &files[0]);
    save("n-00002-of-00002.gguf", &files[1]);
    path_of(path, sizeof path, "n-00001-of-00002.gguf");
    for (int by_path = 0; by_path < 2; by_path++)
        for (int once = 0; once < 2; once++)
            for (size_t n = 1;; n++) {
                counting c = { .fail_at = n, .fail_for = (size_t)once };
                sl_mem mem = counting_mem(&c);
                sl_parts parts;
                sl_status s = by_path ? sl_parts_open_path(&parts, &mem, path) : sl_parts_open_sources(&parts, &mem, list, 2, 0);
                if (s == SL_OK) {
                    assert_true(n > 10);
                    sl_parts_close(&parts, &mem);
                }
                counting_check_none(&c);
                if (s == SL_OK)
                    break;
                assert_int_equal(s, SL_ERR_NOMEM);
            }
    discard("n-00001-of-00002.gguf");
    discard("n-00002-of-00002.gguf");
    gguf_bytes_free(&files[0]);
    gguf_bytes_free(&files[1]);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);       /* fails if a test left something behind */
}

int main(void)
{
    if (!SL_WITH_FILES)
        return 77;      /* half of it is about paths */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_models_in_parts),
        cmocka_unit_test(checks_the_list_of_sources),
        cmocka_unit_test(names_files_that_cannot_be_opened),
        cmocka_unit_test(notices_that_a_file_became_shorter),
        cmocka_unit_test(survives_bad_devices),
        cmocka_unit_test(grows_its_window),
        cmocka_unit_test(reads_from_many_threads),
        cmocka_unit_test(maps_what_can_be_mapped),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
