/* SPDX-License-Identifier: MIT */
/* cycles.c - ten thousand models, loaded and freed: from memory and from a file, with threads and without, some used and some given up half-way. Nothing of them is left:
 * no block, no open file, no thread, and the process is as large as before. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "faults.h"
#include "sanitized.h"
#include "tiny.h"

enum { N_CYCLES = WHEN_SANITIZED(300, 10000), N_WARM = WHEN_SANITIZED(100, 1000), EXACT = WHEN_SANITIZED(0, 1) };       /* freed memory waits in quarantine */
enum { N_VOCAB = 24, N_IDS = 4, MOST_GROWTH = 512 << 10 };

static const sl_token ids[N_IDS] = { 1, 7, 20, 3 };
static unsigned char *file;
static size_t file_size;
static char path[] = "/tmp/spacellama-XXXXXX";
static float expected[N_VOCAB];
static sl_allocator allocator;

static int32_t stop_late(uint64_t done, uint64_t total, void *user) { return (void)user, done > total / 2; }

static sl_model *load(int cycle)
{
    const sl_source source = source_of(file, file_size), *const sources[] = { &source };
    const sl_model_options o = { .size = sizeof o, .n_threads = cycle % 16 == 5 ? 3 : 1, .in_place = cycle % 8 == 3, .allocator = &allocator, .progress = cycle % 32 == 9 ? stop_late : NULL };
    sl_model *model = NULL;
    const sl_status status = cycle % 2 ? sl_model_load(&model, path, &o) : sl_model_load_sources(&model, sources, 1, &o);
    if (o.progress)
        assert_int_equal(status, SL_ERR_CANCELLED);
    else
        OK(status);
    return model;
}

/* The session outlives the program's reference to the model. */
static void use(sl_model *model)
{
    float logits[N_VOCAB];
    sl_session *session;
    const sl_generate_options o = { .size = sizeof o, .max_tokens = 3 };
    OK(sl_session_create(&session, model, NULL));
    sl_model_free(model);
    OK(sl_session_eval(session, ids, N_IDS, logits, 1));
    assert_memory_equal(logits, expected, sizeof logits);
    OK(sl_generate(session, NULL, 0, &o, NULL));
    sl_session_free(session);
}

static size_t resident(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void ten_thousand(void **state)
{
    (void)state;
    size_t early = 0;
    const stock before = faults_stock();
    for (int cycle = 0; cycle < N_CYCLES; cycle++) {
        sl_model *model = load(cycle);
        if (model && cycle % 10 == 0)
            use(model);
        else
            sl_model_free(model);
        if (cycle == N_WARM)
            early = resident();
    }
    const stock after = faults_stock_like(&before);
    const size_t late = resident();
    assert_int_equal(after.blocks, before.blocks);
    assert_int_equal(after.bytes, before.bytes);
    assert_int_equal(after.files, before.files);
    assert_int_equal(after.threads, before.threads);
    assert_int_equal(after.wrong, 0);
    print_message("%d cycles; %zu KiB resident after %d, %zu at the end\n", N_CYCLES, early / 1024, N_WARM, late / 1024);
    if (EXACT)
        assert_true(late < early + MOST_GROWTH);
}

static int prepare(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    allocator = faults_allocator();
    file = tiny_file(&(tiny_shape) { .n_layer = 1 }, &file_size);
    tiny_save(path, file, file_size);
    sl_session *session;
    sl_model *model = load(0);
    OK(sl_session_create(&session, model, NULL));
    OK(sl_session_eval(session, ids, N_IDS, expected, 1));
    sl_session_free(session);
    sl_model_free(model);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    free(file);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(ten_thousand) };
    return cmocka_run_group_tests(tests, prepare, clean);
}
