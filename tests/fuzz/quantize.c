/* SPDX-License-Identifier: MIT */
/* quantize.c - fuzz target: any bytes as a model file to be quantized, and as its importance matrix. Refused with a known verdict, or the result is a file that can be read,
 * has the tensors that it says, and is the same when it is made in two threads. Nothing may leak.
 *
 * Byte 0: the target; byte 1: bit 0 pure, bit 1 the file is its own importance matrix, bit 2 an override, bit 3 two threads from the start. Then the file. */
#include <spacellama/spacellama.h>

#include "counting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PURE = 1, IMPORTANCE = 2, OVERRIDE = 4, THREADS = 8 };
enum { MOST_MEMORY = 64 << 20, MOST_OUT = 8 << 20, MOST_FILE = 1 << 20 };

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

typedef struct output { unsigned char *data; size_t n, room; } output;

static int32_t put(const void *data, uint64_t n, void *user)
{
    output *o = user;
    if (n > MOST_OUT - o->n)
        return 1;
    if (o->n + n > o->room) {
        o->room = 2 * (o->n + n);
        o->data = realloc(o->data, o->room);
        require(o->data != NULL, "memory for the test");
    }
    if (n)
        memcpy(o->data + o->n, data, n);
    o->n += n;
    return 0;
}

static sl_source source_of(const void *data, size_t n) { return (sl_source) { .size = sizeof(sl_source), .data = data, .length = n }; }

static sl_status quantize(output *to, const sl_source *from, const char *target, unsigned flags, uint32_t n_threads, sl_quantize_result *result)
{
    static const sl_quantize_override overrides[] = { { sizeof *overrides, "*attn*", "keep" }, { sizeof *overrides, "t?ken*", "Q5_1" } };
    counting memory = { .most_bytes = MOST_MEMORY };
    const sl_allocator allocator = counting_allocator(&memory);
    sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
    o.n_threads = n_threads, o.allocator = &allocator, o.flags = flags & PURE ? SL_QUANTIZE_PURE : 0;
    o.importance_source = flags & IMPORTANCE ? from : NULL;
    o.overrides = flags & OVERRIDE ? overrides : NULL, o.n_overrides = flags & OVERRIDE ? 2 : 0;
    const sl_status status = sl_quantize_sources(&from, 1, put, to, target, &o, result);
    require(status <= SL_OK && status >= SL_STATUS_LAST_ && status != SL_ERR_INTERNAL, "a known verdict");
    require(!memory.live_blocks && !memory.wrong, "everything is freed");
    return status;
}

/* What was written is a file with as many tensors, none of which is longer than it says. */
static void check_file(const output *made, const sl_quantize_result *result)
{
    const sl_source source = source_of(made->data, made->n), *const sources[] = { &source };
    const sl_model_options o = { .size = sizeof o, .parts = SL_PARTS_METADATA };
    sl_model *model = NULL;
    uint64_t bytes = 0;
    require(sl_model_load_sources(&model, sources, 1, &o) == SL_OK, "the result can be read");
    require(sl_model_tensor_count(model) == result->n_tensors, "it has all tensors");
    for (size_t i = 0; i < result->n_tensors; i++) {
        sl_tensor_info info = { .size = sizeof info };
        require(sl_model_tensor(model, i, &info) == SL_OK, "a tensor");
        bytes += info.bytes;
    }
    require(bytes == result->bytes_out, "and all their bytes");
    sl_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n_targets = 0;
    if (size < 2 || size > MOST_FILE)
        return 0;
    while (sl_quantize_target(n_targets))
        n_targets++;
    const char *target = sl_quantize_target(data[0] % n_targets);
    const unsigned flags = data[1];
    const sl_source source = source_of(data + 2, size - 2);
    output made = { 0 }, again = { 0 };
    sl_quantize_result result = { .size = sizeof result };
    const sl_status status = quantize(&made, &source, target, flags, flags & THREADS ? 2 : 1, &result);
    if (status == SL_OK) {
        check_file(&made, &result);
        require(quantize(&again, &source, target, flags, 2, &result) == SL_OK && again.n == made.n && !memcmp(again.data, made.data, made.n), "the same bytes again");
    }
    free(made.data);
    free(again.data);
    return 0;
}
