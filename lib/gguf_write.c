/* SPDX-License-Identifier: MIT */
/* gguf_write.c - the GGUF writer. Pairs are kept as the bytes that they become; tensors are laid one behind the other, aligned. */
#include "gguf.h"

#include <inttypes.h>
#include <string.h>

enum { ALIGNMENT_DEFAULT = 32, ALIGNMENT_LEAST = 8 };

typedef struct pair {
    size_t at, length;      /* of the key in bytes */
} pair;

typedef struct tensor {
    char name[SL_LIMIT_TENSOR_NAME_BYTES + 1];
    sl_type type;
    uint32_t n_dims;
    uint64_t ne[4], bytes;
    const void *data;
    sl_gguf_fill *fill;
    void *user;
} tensor;

struct sl_gguf_writer {
    sl_mem mem;
    uint32_t version;
    uint64_t alignment;
    int alignment_put;      /* by the caller */
    sl_status status;       /* of the first failure */
    uint8_t *bytes;         /* all pairs */
    size_t n_bytes;
    pair *pairs;
    size_t n_pairs;
    tensor *tensors;
    size_t n_tensors;
};

static const char alignment_key[] = "general.alignment";

/* ---- collecting ---- */

sl_status sl_gguf_writer_create(sl_gguf_writer **out, const sl_mem *mem, uint32_t version, uint64_t alignment)
{
    *out = NULL;
    if (!alignment)
        alignment = ALIGNMENT_DEFAULT;
    if (version != 2 && version != 3)
        return sl_fail(SL_ERR_VERSION, "GGUF version %" PRIu32 ", not 2 or 3", version);
    if (alignment < ALIGNMENT_LEAST || alignment > SL_LIMIT_ALIGNMENT || (alignment & (alignment - 1)))
        return sl_fail(SL_ERR_ALIGNMENT, "alignment %" PRIu64 " is not a power of two from %d to %d", alignment, ALIGNMENT_LEAST, SL_LIMIT_ALIGNMENT);
    sl_gguf_writer *w = sl_mem_alloc(mem, 1, sizeof *w);
    if (!w)
        return SL_ERR_NOMEM;
    w->mem = *mem;
    w->version = version;
    w->alignment = alignment;
    *out = w;
    return SL_OK;
}

void sl_gguf_writer_free(sl_gguf_writer *w)
{
    if (!w)
        return;
    sl_mem mem = w->mem;
    sl_mem_free(&mem, w->bytes);
    sl_mem_free(&mem, w->pairs);
    sl_mem_free(&mem, w->tensors);
    sl_mem_free(&mem, w);
}

static void put(sl_gguf_writer *w, const void *data, size_t n)
{
    size_t end;
    if (w->status != SL_OK || !n)
        return;
    if (sl_add(w->n_bytes, n, &end))
        w->status = sl_fail(SL_ERR_OVERFLOW, "the pairs are larger than the address space");
    else
        w->status = sl_mem_grow(&w->mem, &w->bytes, end, 1);
    if (w->status != SL_OK)
        return;
    memcpy(w->bytes + w->n_bytes, data, n);
    w->n_bytes = end;
}

static void put_u32(sl_gguf_writer *w, uint32_t n) { put(w, &n, 4); }
static void put_u64(sl_gguf_writer *w, uint64_t n) { put(w, &n, 8); }

static void put_string(sl_gguf_writer *w, const char *text, size_t length)
{
    if (length > SL_LIMIT_STRING_BYTES && w->status == SL_OK)
        w->status = sl_fail(SL_ERR_LIMIT, "a text of %zu bytes is longer than the limit of %d", length, SL_LIMIT_STRING_BYTES);
    put_u64(w, length);
    put(w, text, length);
}

static sl_status check_key(const char *key, size_t length)
{
    if (!length)
        return sl_fail(SL_ERR_RANGE, "a key is empty");
    if (length > SL_LIMIT_KEY_BYTES)
        return sl_fail(SL_ERR_LIMIT, "a key of %zu bytes is longer than the limit of %d", length, SL_LIMIT_KEY_BYTES);
    for (size_t i = 0; i < length; i++)
        if (key[i] < 0x20 || key[i] > 0x7e)
            return sl_fail(SL_ERR_UTF8, "byte %zu of a key is not printable ASCII", i);
    return SL_OK;
}

/* Begins a pair: its key and type. */
static void put_key(sl_gguf_writer *w, const char *key, int32_t type)
{
    size_t length = strlen(key);
    if (w->status == SL_OK)
        w->status = check_key(key, length);
    if (w->status == SL_OK)
        w->status = sl_mem_grow(&w->mem, &w->pairs, w->n_pairs + 1, sizeof *w->pairs);
    if (w->status != SL_OK)
        return;
    w->pairs[w->n_pairs++] = (pair) { w->n_bytes + 8, length };
    put_u64(w, length);
    put(w, key, length);
    put_u32(w, (uint32_t)type);
}

/* A caller may put the alignment, if it is the one that the file is made with. */
static void check_alignment(sl_gguf_writer *w, const char *key, const sl_gguf_value *value)
{
    int64_t n = 0;
    if (w->status != SL_OK || strcmp(key, alignment_key))
        return;
    w->alignment_put = 1;
    if (value->type == SL_META_ARRAY || value->type == SL_META_BOOL || sl_gguf_value_int(value, 0, &n) == SL_ERR_TYPE)
        w->status = sl_fail(SL_ERR_TYPE, "key '%s': not an integer", key);
    else if ((uint64_t)n != w->alignment)
        w->status = sl_fail(SL_ERR_ALIGNMENT, "key '%s': the file is made with %" PRIu64, key, w->alignment);
}

void sl_gguf_put_value(sl_gguf_writer *w, const char *key, const sl_gguf_value *value)
{
    check_alignment(w, key, value);
    put_key(w, key, value->type);
    if (value->type == SL_META_ARRAY) {
        put_u32(w, (uint32_t)value->element_type);
        put_u64(w, value->count);
    }
    put(w, value->data, (size_t)sl_gguf_value_bytes(value));
}

void sl_gguf_put_int(sl_gguf_writer *w, const char *key, int32_t type, int64_t value)
{
    if (w->status != SL_OK)
        return;
    unsigned bits = type >= 0 && type <= SL_META_LAST_ ? 8u * sl_meta_types[type].bytes : 0;
    if (!bits || type == SL_META_F32 || type == SL_META_F64) {
        w->status = sl_fail(SL_ERR_TYPE, "key '%s': not an integer type", key);
        return;
    }
    int fits = sl_meta_types[type].is_signed ? bits == 64 || (value >= -((int64_t)1 << (bits - 1)) && value < (int64_t)1 << (bits - 1))
               : type == SL_META_BOOL        ? value == 0 || value == 1
                                             : value >= 0 && (bits == 64 || value >> bits == 0);
    if (!fits) {
        w->status = sl_fail(SL_ERR_RANGE, "key '%s': %" PRId64 " does not fit %s", key, value, sl_meta_types[type].name);
        return;
    }
    sl_gguf_put_value(w, key, &(sl_gguf_value) { type, type, 1, (const uint8_t *)&value });     /* little-endian: the low bytes come first */
}

void sl_gguf_put_float(sl_gguf_writer *w, const char *key, int32_t type, double value)
{
    float f = (float)value;
    if (w->status == SL_OK && type != SL_META_F32 && type != SL_META_F64)
        w->status = sl_fail(SL_ERR_TYPE, "key '%s': not a floating-point type", key);
    if (w->status == SL_OK)
        sl_gguf_put_value(w, key, &(sl_gguf_value) { type, type, 1, type == SL_META_F32 ? (const void *)&f : &value });
}

static void refuse_alignment(sl_gguf_writer *w, const char *key)
{
    if (w->status == SL_OK && !strcmp(key, alignment_key))
        w->status = sl_fail(SL_ERR_TYPE, "key '%s': not an integer", key);
}

void sl_gguf_put_text(sl_gguf_writer *w, const char *key, const char *text, size_t length)
{
    refuse_alignment(w, key);
    put_key(w, key, SL_META_STRING);
    put_string(w, text, length);
}

static void put_array_head(sl_gguf_writer *w, const char *key, int32_t element_type, uint64_t count)
{
    if (w->status == SL_OK && count > SL_LIMIT_ARRAY_ELEMENTS)
        w->status = sl_fail(SL_ERR_LIMIT, "key '%s': an array of %" PRIu64 " elements is longer than the limit of %d", key, count, SL_LIMIT_ARRAY_ELEMENTS);
    refuse_alignment(w, key);
    put_key(w, key, SL_META_ARRAY);
    put_u32(w, (uint32_t)element_type);
    put_u64(w, count);
}

void sl_gguf_put_array(sl_gguf_writer *w, const char *key, int32_t element_type, const void *elements, uint64_t count)
{
    if (w->status != SL_OK)
        return;
    if (element_type < 0 || element_type > SL_META_LAST_ || !sl_meta_types[element_type].bytes) {
        w->status = sl_fail(SL_ERR_TYPE, "key '%s': not a type of fixed size", key);
        return;
    }
    put_array_head(w, key, element_type, count);
    put(w, elements, w->status == SL_OK ? (size_t)count * sl_meta_types[element_type].bytes : 0);
}

void sl_gguf_put_texts(sl_gguf_writer *w, const char *key, const sl_text *texts, uint64_t count)
{
    put_array_head(w, key, SL_META_STRING, count);
    for (uint64_t i = 0; i < count && w->status == SL_OK; i++)
        put_string(w, texts[i].data, texts[i].length);
}

static sl_status check_tensor(const char *name, size_t length, const sl_type_info *type, uint32_t n_dims, const uint64_t *ne, uint64_t *bytes)
{
    uint64_t n = 1;
    int overflow = 0;
    if (!length || length > SL_LIMIT_TENSOR_NAME_BYTES)
        return sl_fail(length ? SL_ERR_LIMIT : SL_ERR_RANGE, "a tensor name of %zu bytes, not 1 to %d", length, SL_LIMIT_TENSOR_NAME_BYTES);
    if (!type)
        return sl_fail(SL_ERR_UNSUPPORTED, "tensor '%s': no such type in this build", name);
    if (n_dims < 1 || n_dims > 4)
        return sl_fail(SL_ERR_SHAPE, "tensor '%s': %" PRIu32 " dimensions, not 1 to 4", name, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        if (!ne[i] || ne[i] > INT64_MAX)
            return sl_fail(SL_ERR_SHAPE, "tensor '%s': dimension %" PRIu32 " is zero or negative", name, i);
        overflow |= sl_mul64(n, ne[i], &n);
    }
    if (ne[0] % type->block_values)
        return sl_fail(SL_ERR_SHAPE, "tensor '%s': rows are no whole number of %s blocks", name, type->name);
    if (overflow || sl_mul64(n / type->block_values, type->block_bytes, bytes) || *bytes > INT64_MAX)
        return sl_fail(SL_ERR_OVERFLOW, "tensor '%s': its size overflows", name);
    return SL_OK;
}

void sl_gguf_put_tensor(sl_gguf_writer *w, const char *name, sl_type type, uint32_t n_dims, const uint64_t *ne, const void *data, sl_gguf_fill *fill, void *user)
{
    tensor t = { .type = type, .n_dims = n_dims, .ne = { 1, 1, 1, 1 }, .data = data, .fill = fill, .user = user };
    size_t length = strlen(name);
    if (w->status != SL_OK)
        return;
    w->status = check_tensor(name, length, sl_type_get((uint32_t)type), n_dims, ne, &t.bytes);
    if (w->status == SL_OK && w->n_tensors == SL_LIMIT_TENSORS)
        w->status = sl_fail(SL_ERR_LIMIT, "more tensors than the limit of %d", SL_LIMIT_TENSORS);
    if (w->status == SL_OK && !data && !fill)
        w->status = sl_fail(SL_ERR_ARGUMENT, "tensor '%s': neither data nor a function that makes them", name);
    if (w->status == SL_OK)
        w->status = sl_mem_grow(&w->mem, &w->tensors, w->n_tensors + 1, sizeof *w->tensors);
    if (w->status != SL_OK)
        return;
    memcpy(t.name, name, length);
    memcpy(t.ne, ne, n_dims * sizeof *ne);
    w->tensors[w->n_tensors++] = t;
}

/* ---- writing ---- */

static sl_text pair_text(const void *owner, uint32_t value)
{
    const sl_gguf_writer *w = owner;
    return (sl_text) { (const char *)w->bytes + w->pairs[value].at, w->pairs[value].length };
}

static sl_text tensor_text(const void *owner, uint32_t value)
{
    const sl_gguf_writer *w = owner;
    return (sl_text) { w->tensors[value].name, strlen(w->tensors[value].name) };
}

static sl_status check_unique(const sl_gguf_writer *w, size_t n, sl_map_text_fn *text, const char *what)
{
    sl_map map;
    char quoted[SL_QUOTE_BYTES];
    sl_status s = sl_map_init(&map, &w->mem, n);
    for (size_t i = 0; i < n && s == SL_OK; i++)
        if (sl_map_add(&map, (uint32_t)i, text, w) != i) {
            sl_text t = text(w, (uint32_t)i);
            s = sl_fail(SL_ERR_DUPLICATE, "%s '%s': it occurs twice", what, sl_quote(quoted, t.data, t.length));
        }
    sl_map_free(&map, &w->mem);
    return s;
}

/* The caller's sink, counting. */
typedef struct output {
    sl_gguf_sink *sink;
    void *user;
    uint64_t at;
} output;

static sl_status emit(const void *data, size_t n, void *user)
{
    output *o = user;
    o->at += n;
    return n ? o->sink(data, n, o->user) : SL_OK;
}

static sl_status emit_padding(output *o, uint64_t alignment)
{
    static const uint8_t zeros[256];
    uint64_t left = (0 - o->at) & (alignment - 1);
    while (left) {
        size_t n = left < sizeof zeros ? (size_t)left : sizeof zeros;
        SL_TRY(emit(zeros, n, o));
        left -= n;
    }
    return SL_OK;
}

static sl_status emit_pairs(const sl_gguf_writer *w, output *o)
{
    int add_alignment = w->alignment != ALIGNMENT_DEFAULT && !w->alignment_put;
    uint64_t n_pairs = w->n_pairs + (size_t)add_alignment, length = sizeof alignment_key - 1;
    uint32_t type = SL_META_U32, value = (uint32_t)w->alignment;
    if (n_pairs > SL_LIMIT_KEYS)
        return sl_fail(SL_ERR_LIMIT, "more keys than the limit of %d", SL_LIMIT_KEYS);
    SL_TRY(emit(&n_pairs, 8, o));
    if (add_alignment) {
        SL_TRY(emit(&length, 8, o));
        SL_TRY(emit(alignment_key, (size_t)length, o));
        SL_TRY(emit(&type, 4, o));
        SL_TRY(emit(&value, 4, o));
    }
    return emit(w->bytes, w->n_bytes, o);
}

static sl_status emit_head(const sl_gguf_writer *w, output *o)
{
    uint64_t n_tensors = w->n_tensors, offset = 0;
    SL_TRY(emit("GGUF", 4, o));
    SL_TRY(emit(&w->version, 4, o));
    SL_TRY(emit(&n_tensors, 8, o));
    SL_TRY(emit_pairs(w, o));
    for (size_t i = 0; i < w->n_tensors; i++) {
        const tensor *t = &w->tensors[i];
        uint64_t length = strlen(t->name);
        uint32_t type = (uint32_t)t->type;
        SL_TRY(emit(&length, 8, o));
        SL_TRY(emit(t->name, (size_t)length, o));
        SL_TRY(emit(&t->n_dims, 4, o));
        SL_TRY(emit(t->ne, 8 * (size_t)t->n_dims, o));
        SL_TRY(emit(&type, 4, o));
        SL_TRY(emit(&offset, 8, o));
        if (sl_add64(offset, t->bytes, &offset) || sl_align_up64(offset, w->alignment, &offset))
            return sl_fail(SL_ERR_OVERFLOW, "tensor '%s': the sum of the sizes overflows", t->name);
    }
    return SL_OK;
}

static sl_status emit_tensor(const sl_gguf_writer *w, const tensor *t, output *o)
{
    uint64_t before = o->at;
    if (t->data && t->bytes > SIZE_MAX)
        return sl_fail(SL_ERR_OVERFLOW, "tensor '%s': larger than the address space", t->name);
    SL_TRY(t->data ? emit(t->data, (size_t)t->bytes, o) : t->fill(emit, o, t->user));
    if (o->at - before != t->bytes)
        return sl_fail(SL_ERR_SHAPE, "tensor '%s': %" PRIu64 " bytes were produced, not %" PRIu64, t->name, o->at - before, t->bytes);
    return emit_padding(o, w->alignment);
}

sl_status sl_gguf_write(sl_gguf_writer *w, sl_gguf_sink *sink, void *user)
{
    output o = { sink, user, 0 };
    SL_TRY(w->status);
    SL_TRY(w->status = check_unique(w, w->n_pairs, pair_text, "key"));
    SL_TRY(w->status = check_unique(w, w->n_tensors, tensor_text, "tensor"));
    SL_TRY(emit_head(w, &o));
    if (w->n_tensors)
        SL_TRY(emit_padding(&o, w->alignment));
    for (size_t i = 0; i < w->n_tensors; i++)
        SL_TRY(emit_tensor(w, &w->tensors[i], &o));
    return SL_OK;
}
