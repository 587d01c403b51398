/* SPDX-License-Identifier: MIT */
/* misuse.c - see misuse.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "misuse.h"
#include "mllama_build.h"
#include "tiny.h"

enum { MOST_NAMES = 512 };

/* ---- rows ---- */

static const char *names[MOST_NAMES];       /* of the functions that have rows: the beginning of a text */
static size_t n_names, n_wrong;

static size_t name_length(const char *text) { return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_"); }

void misuse_note(const char *call)
{
    for (size_t i = 0; i < n_names; i++)
        if (name_length(names[i]) == name_length(call) && !strncmp(names[i], call, name_length(call)))
            return;
    assert_true(n_names < MOST_NAMES);
    names[n_names++] = call;
}

void misuse_check(sl_status got, sl_status wanted, const char *call, int line)
{
    misuse_note(call);
    if (got == wanted && (got == SL_OK || *sl_last_error()))
        return;
    print_message("line %d: %s: %s (%s), expected %s\n", line, call, sl_status_name(got), sl_last_error(), sl_status_name(wanted));
    n_wrong++;
}

void misuse_neutral(int holds, const char *call, const char *value, int line)
{
    misuse_note(call);
    if (holds)
        return;
    print_message("line %d: %s is not %s\n", line, call, value);
    n_wrong++;
}

/* ---- what is misused ---- */

misused s;

static const sl_token ids[] = { 1, 270, 280, 290, 299 };
enum { N_IDS = sizeof ids / sizeof *ids };

sl_source misuse_source(const void *data, uint64_t length) { return (sl_source) { .size = sizeof(sl_source), .data = data, .length = length }; }

static sl_model *load(uint32_t parts)
{
    const sl_source source = misuse_source(s.file, s.size), *const sources[] = { &source };
    const sl_model_options o = { .size = sizeof o, .n_threads = 2, .parts = parts, .allocator = &s.allocator };
    sl_model *model = NULL;
    FINE(sl_model_load_sources(&model, sources, 1, &o));
    return model;
}

/* All is as it was. */
void misuse_done(void)
{
    float logits[N_VOCAB];
    assert_int_equal(sl_session_length(s.session), 0);
    FINE(sl_session_eval(s.session, ids, N_IDS, logits, 1));
    assert_memory_equal(logits, s.expected, sizeof s.expected);
    FINE(sl_session_rewind(s.session, 0));
    assert_int_equal(s.memory.wrong, 0);
    assert_int_equal(n_wrong, 0);
}

int misuse_prepare(void **state)
{
    (void)state;
    const sl_session_options so = { .size = sizeof so, .n_ctx = N_CTX, .n_seq = 3 };
    tiny *t = mllama_create(NULL);
    size_t size;
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = misuse_source(file, size), *const sources[] = { &source };
    s.allocator = counting_allocator(&s.memory);
    s.file = tiny_file(&(tiny_shape) { .n_vocab = N_VOCAB, .n_layer = 1 }, &s.size);
    s.model = load(SL_PARTS_ALL), s.words = load(SL_PARTS_VOCABULARY), s.list = load(SL_PARTS_METADATA);
    FINE(sl_model_load_sources(&s.seeing, sources, 1, &(sl_model_options) { .size = sizeof(sl_model_options), .n_threads = 1, .allocator = &s.allocator }));
    FINE(sl_session_create(&s.session, s.model, &so));
    FINE(sl_session_create(&s.looking, s.seeing, NULL));
    FINE(sl_sampler_create(&s.sampler, N_VOCAB, 1, &s.allocator));
    FINE(sl_sampler_create(&s.other, N_VOCAB + 1, 1, &s.allocator));
    FINE(sl_decoder_create(&s.decoder, s.model, 0, 1));
    s.image = mllama_picture(8, 8, 1);
    FINE(sl_session_eval(s.session, ids, N_IDS, s.expected, 1));
    FINE(sl_session_rewind(s.session, 0));
    snprintf(s.path, sizeof s.path, "/tmp/spacellama-XXXXXX");
    const int fd = mkstemp(s.path);
    close(fd);
    tiny_save(s.path, s.file, s.size);
    snprintf(s.nowhere, sizeof s.nowhere, "%s/none", s.path);
    tiny_free(t);
    free(file);
    return fd < 0;
}

int misuse_clean(void **state)
{
    (void)state;
    sl_decoder_free(s.decoder);
    sl_sampler_free(s.sampler), sl_sampler_free(s.other);
    sl_session_free(s.session), sl_session_free(s.looking);
    sl_model_free(s.model), sl_model_free(s.words), sl_model_free(s.list), sl_model_free(s.seeing);
    sl_image_free(s.image);
    free(s.file);
    return unlink(s.path) || s.memory.live_blocks || s.memory.wrong;
}

void misuse_every_function(void **state)
{
    (void)state;
    char line[256];
    size_t lacking = 0, lines = 0;
    const char *path = getenv("SL_SYMBOLS");
    FILE *f = path ? fopen(path, "r") : NULL;
    if (!f)
        fail_msg("SL_SYMBOLS does not name tests/abi/symbols.txt");
    while (fgets(line, sizeof line, f)) {
        const size_t length = name_length(line);
        size_t i = 0;
        if (!length)
            continue;
        while (i < n_names && (name_length(names[i]) != length || strncmp(names[i], line, length)))
            i++;
        if (i == n_names) {
            print_message("%.*s has no row here\n", (int)length, line);
            lacking++;
        }
        lines++;
    }
    fclose(f);
    assert_true(lines > 80);
    assert_int_equal(lacking, 0);
}
