/* SPDX-License-Identifier: MIT */
/* stack.c - a host's thread may have little stack: loading, tokenizing, computing and sampling run on 64 KiB, of which the test measures how much was used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <spacellama/spacellama.h>
#include "check.h"
#include "sanitized.h"
#include "tiny.h"

/* Sanitizers enlarge every frame. */
enum { STACK_BYTES = WHEN_SANITIZED(1024, 64) << 10 };
enum { TEXT_BYTES = 200000, PAINT = 0xa5 };

typedef struct work {
    const unsigned char *file;
    size_t size;
    sl_status expected, status;
} work;

static sl_status use(sl_model *model)
{
    static char text[TEXT_BYTES];
    static sl_token ids[TEXT_BYTES + 8];
    size_t n;
    sl_session *session = NULL;
    sl_sampler *sampler = NULL;
    const double t = 0.9, k = 40, p = 0.95;
    sl_generate_options o = SL_GENERATE_OPTIONS_INIT;
    for (size_t i = 0; i < TEXT_BYTES; i++)
        text[i] = "ab \xff<s>c"[i % 8];
    sl_status status = sl_encode(model, text, TEXT_BYTES, SL_ENCODE_ADD_SPECIAL | SL_ENCODE_PARSE_SPECIAL, ids, TEXT_BYTES + 8, &n);
    status = status == SL_OK ? sl_decode(model, ids, n, SL_DECODE_SPECIAL, NULL, 0, &n) : status;
    status = status == SL_ERR_BUFFER ? sl_session_create(&session, model, NULL) : status;
    status = status == SL_OK ? sl_sampler_create(&sampler, 300, 1, NULL) : status;
    status = status == SL_OK ? sl_sampler_add(sampler, "temp", &t, 1) : status;
    status = status == SL_OK ? sl_sampler_add(sampler, "top-k", &k, 1) : status;
    status = status == SL_OK ? sl_sampler_add(sampler, "top-p", &p, 1) : status;
    o.sampler = sampler, o.max_tokens = 40;
    status = status == SL_OK ? sl_generate(session, ids, 60, &o, NULL) : status;
    sl_session_free(session);
    sl_sampler_free(sampler);
    return status;
}

static void *run(void *arg)
{
    work *w = arg;
    sl_model *model = NULL;
    const sl_source source = source_of(w->file, w->size), *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.n_threads = 1;        /* so that this thread computes everything */
    w->status = sl_model_load_sources(&model, sources, 1, &o);
    if (w->status == SL_OK)
        w->status = use(model);
    sl_model_free(model);
    return NULL;
}

/* Bytes of a painted stack, which grows down, that were written. */
static size_t used(const unsigned char *stack)
{
    size_t i = 0;
    while (i < STACK_BYTES && stack[i] == PAINT)
        i++;
    return STACK_BYTES - i;
}

static void on_little_stack(const char *name, work w)
{
    pthread_t thread;
    pthread_attr_t attr;
    unsigned char *block = mmap(NULL, STACK_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *stack = block + 4096;    /* a step beside it is a fault */
    assert_true(block != MAP_FAILED);
    assert_int_equal(mprotect(stack, STACK_BYTES, PROT_READ | PROT_WRITE), 0);
    memset(stack, PAINT, STACK_BYTES);
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstack(&attr, stack, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attr, run, &w), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    printf("%s: %zu bytes of stack\n", name, used(stack));
    munmap(block, STACK_BYTES + 8192);
    if (w.status != w.expected)
        fail_msg("%s: %s, expected %s", name, sl_status_name(w.status), sl_status_name(w.expected));
}

static void every_type_of_matrix(void **state)
{
    (void)state;
    static const struct { const char *name; tiny_shape shape; } rows[] = {
        { "F32", { .n_vocab = 300 } }, { "Q8_0", { .n_vocab = 300, .matrices = TINY_MATRIX_Q8_0 } }, { "experts", { .n_vocab = 300, .n_expert = 8, .n_expert_used = 2 } },
        { "wide", { .n_vocab = 300, .n_embd = 1024, .n_head = 1, .n_head_kv = 1, .n_ff = 2048, .n_layer = 1, .matrices = TINY_MATRIX_Q8_0 } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        work w = { .expected = SL_OK };
        unsigned char *file = tiny_file(&rows[i].shape, &w.size);
        w.file = file;
        on_little_stack(rows[i].name, w);
        free(file);
    }
}

/* Arrays in arrays, as deep as a file of a megabyte can have them. */
static void deep_file(void **state)
{
    (void)state;
    enum { DEPTH = 80000 };
    tiny *t = tiny_create(NULL);
    unsigned char *value = malloc(12 * DEPTH + 12);
    for (size_t i = 0; i <= DEPTH; i++) {
        const uint32_t element = i < DEPTH ? TINY_ARRAY : TINY_U8;
        const uint64_t count = i < DEPTH;
        memcpy(value + 12 * i, &element, 4);
        memcpy(value + 12 * i + 4, &count, 8);
    }
    tiny_put(t, "deep", TINY_ARRAY, value, 12 * DEPTH + 12);
    work w = { .expected = SL_ERR_DEPTH };
    unsigned char *file = tiny_write(t, &w.size);
    w.file = file;
    on_little_stack("80,000 arrays in arrays", w);
    free(file);
    free(value);
    tiny_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_type_of_matrix), cmocka_unit_test(deep_file) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
