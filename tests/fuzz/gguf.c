/* SPDX-License-Identifier: MIT */
/* gguf.c - fuzz target: any bytes as a GGUF file. What is accepted is walked to its last value, opened as a model's files through callbacks,
 * and written again: the copy must read as the same. */
#include "input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

static void walk_flat(const sl_gguf_value *v)
{
    const uint8_t *at = v->data;
    int64_t n;
    double x;
    unsigned sum = 0;
    for (uint64_t i = 0; i < v->count; i++) {
        if (v->element_type == SL_META_STRING) {
            sl_text t = sl_gguf_next_text(&at);
            for (size_t k = 0; k < t.length; k++)
                sum += (unsigned char)t.data[k];
        } else {
            (void)sl_gguf_value_int(v, i, &n);
            require(sl_gguf_value_float(v, i, &x) == SL_OK, "every number has a value");
        }
    }
    volatile unsigned used = sum;
    (void)used;
}

/* Arrays in arrays, no deeper than the limit: this is a test, it may recurse. */
static void walk(const sl_gguf_value *v, int depth)
{
    require(depth <= SL_LIMIT_ARRAY_DEPTH, "depth");
    if (v->type != SL_META_ARRAY || v->element_type != SL_META_ARRAY) {
        walk_flat(v);
        return;
    }
    const uint8_t *at = v->data;
    sl_gguf_value inner;
    for (uint64_t i = 0; i < v->count; i++) {
        sl_gguf_next_array(&at, &inner);
        walk(&inner, depth + 1);
    }
    require(at == v->data + sl_gguf_value_bytes(v), "arrays end where they say");
}

static void walk_all(const sl_gguf *g, size_t size)
{
    uint64_t u64;
    uint32_t u32;
    float f32;
    int flag;
    sl_text text;
    for (size_t i = 0; i < g->n_kv; i++) {
        require(sl_gguf_find(g, g->kv[i].key) == &g->kv[i], "each key is found");
        walk(&g->kv[i].value, 1);
        (void)sl_gguf_u64(g, g->kv[i].key, &u64);
        (void)sl_gguf_u32(g, g->kv[i].key, &u32);
        (void)sl_gguf_f32(g, g->kv[i].key, &f32);
        (void)sl_gguf_bool(g, g->kv[i].key, &flag);
        (void)sl_gguf_text(g, g->kv[i].key, &text);
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        const sl_gguf_tensor *t = &g->tensors[i];
        require(sl_gguf_find_tensor(g, t->name) == t, "each tensor is found");
        require(t->bytes && t->offset <= size && t->bytes <= size - t->offset, "tensors lie in the file");
    }
}

typedef struct copy {
    uint8_t *data;
    size_t size, room;
} copy;

static sl_status collect(const void *data, size_t n, void *user)
{
    copy *c = user;
    if (n > c->room - c->size)
        return sl_fail(SL_ERR_FULL, "the copy is longer than expected");
    memcpy(c->data + c->size, data, n);
    c->size += n;
    return SL_OK;
}

static void write_again(const sl_gguf *g, const uint8_t *data, const sl_mem *mem)
{
    sl_gguf_writer *w;
    sl_gguf other;
    uint64_t need;
    uint64_t bytes = g->data_offset + 64;
    require(sl_gguf_writer_create(&w, mem, g->version, g->alignment) == SL_OK, "a writer");
    for (size_t i = 0; i < g->n_kv; i++)
        sl_gguf_put_value(w, g->kv[i].key, &g->kv[i].value);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const sl_gguf_tensor *t = &g->tensors[i];
        sl_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->ne, data + t->offset, NULL, NULL);
        bytes += t->bytes + g->alignment;
    }
    copy c = { malloc((size_t)bytes), 0, (size_t)bytes };
    require(c.data && sl_gguf_write(w, collect, &c) == SL_OK, "what was read can be written");
    require(sl_gguf_parse(&other, mem, c.data, c.size, c.size, &need) == SL_OK, "what was written can be read");
    require(other.n_kv == g->n_kv && other.n_tensors == g->n_tensors, "the same counts");
    for (size_t i = 0; i < g->n_tensors; i++)
        require(!memcmp(data + g->tensors[i].offset, c.data + other.tensors[i].offset, (size_t)g->tensors[i].bytes), "the same tensors");
    sl_gguf_free(&other, mem);
    sl_gguf_writer_free(w);
    free(c.data);
}

/* A reader that gives a little less than it is asked for. */
static int64_t read_some(uint64_t offset, void *to, uint64_t bytes, void *user)
{
    const sl_source *source = user;
    if (offset >= source->length)
        return 0;
    if (bytes > 1000)
        bytes -= bytes / 3;
    if (bytes > source->length - offset)
        bytes = source->length - offset;
    memcpy(to, (const uint8_t *)source->name + offset, (size_t)bytes);
    return (int64_t)bytes;
}

static void open_as_source(const uint8_t *data, size_t size, const sl_mem *mem, sl_status expected)
{
    sl_parts parts;
    sl_source whole = { sizeof whole, .data = data, .length = size };
    const sl_source behind = { sizeof behind, .length = size, .name = (const char *)data };
    sl_source through = { sizeof through, .length = size, .read = read_some, .user = (void *)&behind };
    const sl_source *sources[] = { &whole, &through };
    for (int i = 0; i < 3; i++) {
        sl_status s = sl_parts_open_sources(&parts, mem, &sources[i / 2], 1, i == 1);
        if (expected != SL_OK)
            require(s == expected, "the same verdict through a window");    /* a good file may still be a part of a split model */
        uint8_t byte;
        for (size_t k = 0; s == SL_OK && k < parts.n_tensors; k++) {
            const sl_gguf_tensor *t = sl_parts_tensor(&parts, k, NULL);
            require(sl_parts_find(&parts, t->name, NULL) == t, "each tensor is found in its part");
            require(sl_input_read(&parts.parts[0].input, t->offset + t->bytes - 1, &byte, 1) == SL_OK, "the last byte is there");
        }
        if (s == SL_OK)
            sl_parts_close(&parts, mem);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl_mem mem;
    sl_gguf g;
    uint64_t need;
    if (sl_mem_init(&mem, NULL) != SL_OK)
        return 0;
    sl_status s = sl_gguf_parse(&g, &mem, data, size, size, &need);
    require(!need, "all bytes are there");
    if (s == SL_OK) {
        walk_all(&g, size);
        write_again(&g, data, &mem);
        sl_gguf_free(&g, &mem);
    }
    if (size)       /* an empty block is no source */
        open_as_source(data, size, &mem, s);
    return 0;
}
