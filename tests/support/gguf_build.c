/* SPDX-License-Identifier: MIT */
/* gguf_build.c - see gguf_build.h. */
#include "gguf_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sl_status gguf_bytes_put(const void *data, size_t n, void *user)
{
    gguf_bytes *b = user;
    if (b->size + n > b->capacity) {
        b->capacity = (b->size + n) * 2;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) {
            fprintf(stderr, "no memory for a test file\n");
            exit(1);
        }
    }
    if (n)
        memcpy(b->data + b->size, data, n);
    b->size += n;
    return SL_OK;
}

void gguf_bytes_free(gguf_bytes *b)
{
    free(b->data);
    *b = (gguf_bytes) { 0 };
}

void gguf_patch(gguf_bytes *b, size_t at, const void *data, size_t n)
{
    if (at > b->size || n > b->size - at) {
        fprintf(stderr, "a patch outside the test file\n");
        exit(1);
    }
    memcpy(b->data + at, data, n);
}

static void refuse(const char *word)
{
    fprintf(stderr, "recipe: cannot read '%.40s'\n", word);
    exit(1);
}

static void put_number(gguf_bytes *b, unsigned long long n, size_t bytes) { gguf_bytes_put(&n, bytes, b); }

static void put_repeated(gguf_bytes *b, unsigned long long n, unsigned char byte)
{
    unsigned char chunk[256];
    memset(chunk, byte, sizeof chunk);
    for (; n > sizeof chunk; n -= sizeof chunk)
        gguf_bytes_put(chunk, sizeof chunk, b);
    gguf_bytes_put(chunk, (size_t)n, b);
}

/* A number; *end is behind it. */
static unsigned long long number(const char *p, const char **end)
{
    char *stop;
    unsigned long long n = *p == '-' ? 0 - strtoull(p + 1, &stop, 0) : strtoull(p, &stop, 0);
    if (stop == p)
        refuse(p);
    *end = stop;
    return n;
}

static void put_hex(gguf_bytes *b, const char *p, size_t length)
{
    for (size_t i = 0; i + 1 < length; i += 2) {
        char two[3] = { p[i], p[i + 1], 0 };
        put_number(b, strtoul(two, NULL, 16), 1);
    }
}

static void put_head(gguf_bytes *b, const char *p)
{
    unsigned long long n_tensors = number(p, &p);
    gguf_bytes_put("GGUF", 4, b);
    put_number(b, 3, 4);
    put_number(b, n_tensors, 8);
    put_number(b, number(p + 1, &p), 8);
}

static void put_word(gguf_bytes *b, const char *p, size_t length)
{
    const char *end = p;
    unsigned long long n;
    if (*p == '\'' && length > 1) {
        gguf_bytes_put(p + 1, length - 2, b);
    } else if (*p == 's' && p[1] == '\'') {
        put_number(b, length - 3, 8);
        gguf_bytes_put(p + 2, length - 3, b);
    } else if (*p == 'x' && p[1] == ':') {
        put_hex(b, p + 2, length - 2);
    } else if (*p == 'h' && p[1] == ':') {
        put_head(b, p + 2);
    } else if (*p == 'f' && p[1] == ':') {
        float f = (float)(long long)number(p + 2, &end);
        gguf_bytes_put(&f, 4, b);
    } else if (*p == 'p') {
        n = number(p + 1, &end);
        put_repeated(b, (n - b->size % n) % n, 0);
    } else if (*p == 'r' || *p == 'S') {
        n = number(p + 1, &end);
        if (*p == 'S')
            put_number(b, n, 8);
        put_repeated(b, n, (unsigned char)strtoul(end + 1, NULL, 16));
    } else if (strchr("1248", *p) && p[1] == ':') {
        put_number(b, number(p + 2, &end), (size_t)(*p - '0'));
    } else {
        refuse(p);
    }
}

static void put_words(gguf_bytes *b, const char *p, const char *end)
{
    while (p < end) {
        const char *stop = p, *body;
        while (stop < end && *stop != ' ')
            stop++;
        if (stop > p && stop[-1] == '(') {
            unsigned long long times = number(p, &body);
            const char *close = strchr(stop, ')');
            if (!close)
                refuse(p);
            for (; times; times--)
                put_words(b, stop, close);
            stop = close + 1;
        } else if (stop > p) {
            put_word(b, p, (size_t)(stop - p));
        }
        p = stop + 1;
    }
}

gguf_bytes gguf_build(const char *recipe)
{
    gguf_bytes b = { 0 };
    put_words(&b, recipe, recipe + strlen(recipe));
    unsigned char *exact = malloc(b.size ? b.size : 1);
    if (!exact)
        exit(1);
    if (b.size)
        memcpy(exact, b.data, b.size);
    free(b.data);
    b.data = exact;
    b.capacity = b.size;
    return b;
}

/* ---- a file with everything ---- */

static void require(sl_status s)
{
    if (s != SL_OK) {
        fprintf(stderr, "a test file cannot be written: %s\n", sl_last_error());
        exit(1);
    }
}

const float gguf_everything_matrix[64] = { 1, 2, 3 };
static const uint8_t deep[] = { 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0,        /* [[7, 8] of u32, ["x"]] */
                                8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'x' };

static sl_status fill_row(sl_gguf_sink *sink, void *sink_user, void *user)
{
    for (int i = 0; i < 64; i += 16)
        SL_TRY(sink((const float *)user + i, 16 * sizeof(float), sink_user));
    return SL_OK;
}

gguf_bytes gguf_build_everything(const sl_mem *mem, uint32_t version, uint64_t alignment)
{
    sl_gguf_writer *w;
    gguf_bytes file = { 0 };
    require(sl_gguf_writer_create(&w, mem, version, alignment));
    sl_gguf_put_int(w, "u8", SL_META_U8, 255);
    sl_gguf_put_int(w, "i8", SL_META_I8, -128);
    sl_gguf_put_int(w, "u16", SL_META_U16, 65535);
    sl_gguf_put_int(w, "i16", SL_META_I16, -32768);
    sl_gguf_put_int(w, "u32", SL_META_U32, UINT32_MAX);
    sl_gguf_put_int(w, "i32", SL_META_I32, INT32_MIN);
    sl_gguf_put_int(w, "u64", SL_META_U64, INT64_MAX);
    sl_gguf_put_int(w, "i64", SL_META_I64, INT64_MIN);
    sl_gguf_put_float(w, "f32", SL_META_F32, 0.5);
    sl_gguf_put_float(w, "f64", SL_META_F64, 0.1);
    sl_gguf_put_int(w, "bool", SL_META_BOOL, 1);
    sl_gguf_put_text(w, "text", "a\0b", 3);
    sl_gguf_put_text(w, "empty", NULL, 0);
    sl_gguf_put_array(w, "shorts", SL_META_I16, (const int16_t[]) { -1, 0, 300 }, 3);
    sl_gguf_put_array(w, "nothing", SL_META_F32, NULL, 0);
    sl_gguf_put_texts(w, "texts", (const sl_text[]) { { "one", 3 }, { "", 0 }, { "\xff", 1 } }, 3);
    sl_gguf_put_value(w, "deep", &(sl_gguf_value) { SL_META_ARRAY, SL_META_ARRAY, 2, deep });
    sl_gguf_put_value(w, "most", &(sl_gguf_value) { SL_META_U64, SL_META_U64, 1, (const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff" });
    sl_gguf_put_tensor(w, "vector", SL_TYPE_F32, 1, (const uint64_t[]) { 3 }, gguf_everything_matrix, NULL, NULL);
    sl_gguf_put_tensor(w, "matrix", SL_TYPE_F32, 2, (const uint64_t[]) { 8, 8 }, NULL, fill_row, (void *)gguf_everything_matrix);
    sl_gguf_put_tensor(w, "bytes", SL_TYPE_I8, 4, (const uint64_t[]) { 2, 3, 1, 5 }, gguf_everything_matrix, NULL, NULL);
    require(sl_gguf_write(w, gguf_bytes_put, &file));
    sl_gguf_writer_free(w);
    return file;
}
