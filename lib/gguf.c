/* SPDX-License-Identifier: MIT */
/* gguf.c - the GGUF reader. Two passes over the header: the first believes nothing and allocates nothing, it checks every byte that has a
 * rule; the second fills the tables, finds what occurs twice, and checks where the tensors lie. Both are linear. */
#include "gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are read as they lie in the file");

enum { ALIGNMENT_DEFAULT = 32, ALIGNMENT_LEAST = 8, HEADER_BYTES = 24 };

/* No tensor of this size fits an address space; below it sums of a few sizes cannot wrap. */
static const uint64_t tensor_bytes_most = (uint64_t)1 << 48;
/* A file that ends inside its tensors was cut short, unless it would have to be this large. */
static const uint64_t file_bytes_likely = (uint64_t)1 << 40;

const sl_meta_type sl_meta_types[SL_META_LAST_ + 1] = {
    [SL_META_U8] = { "U8", 1, 0 }, [SL_META_I8] = { "I8", 1, 1 }, [SL_META_U16] = { "U16", 2, 0 }, [SL_META_I16] = { "I16", 2, 1 },
    [SL_META_U32] = { "U32", 4, 0 }, [SL_META_I32] = { "I32", 4, 1 }, [SL_META_U64] = { "U64", 8, 0 }, [SL_META_I64] = { "I64", 8, 1 },
    [SL_META_F32] = { "F32", 4, 1 }, [SL_META_F64] = { "F64", 8, 1 }, [SL_META_BOOL] = { "BOOL", 1, 0 },
    [SL_META_STRING] = { "STRING", 0, 0 }, [SL_META_ARRAY] = { "ARRAY", 0, 0 },
};

/* ---- the reader: no byte is reached but through it ---- */

typedef struct reader {
    const uint8_t *data;    /* the first `size` bytes of the file */
    uint64_t at, size;      /* at <= size <= file_size */
    uint64_t file_size;
    uint64_t need;          /* set when `size` is too small and the file is not */
} reader;

static sl_status take(reader *r, uint64_t n, const uint8_t **p)
{
    if (n > r->file_size - r->at)
        return sl_fail(SL_ERR_TRUNCATED, "the file ends %" PRIu64 " bytes too early", n - (r->file_size - r->at));
    if (n > r->size - r->at) {
        r->need = r->at + n;
        return sl_fail(SL_ERR_TRUNCATED, "the header is longer than the %" PRIu64 " bytes at hand", r->size);
    }
    *p = r->data + r->at;
    r->at += n;
    return SL_OK;
}

static sl_status take_u32(reader *r, uint32_t *out)
{
    const uint8_t *p = NULL;
    SL_TRY(take(r, 4, &p));
    memcpy(out, p, 4);
    return SL_OK;
}

static sl_status take_u64(reader *r, uint64_t *out)
{
    const uint8_t *p = NULL;
    SL_TRY(take(r, 8, &p));
    memcpy(out, p, 8);
    return SL_OK;
}

/* A u64 length and that many bytes. A lie about the length is told from a long text, and both from a header that is not all there yet. */
static sl_status take_text(reader *r, uint64_t most, sl_text *out)
{
    uint64_t n = 0;
    const uint8_t *p = NULL;
    SL_TRY(take_u64(r, &n));
    if (n > r->file_size - r->at)
        return sl_fail(SL_ERR_BOUNDS, "a text of %" PRIu64 " bytes reaches past the end of the file", n);
    if (n > most)
        return sl_fail(SL_ERR_LIMIT, "a text of %" PRIu64 " bytes is longer than the limit of %" PRIu64, n, most);
    SL_TRY(take(r, n, &p));
    *out = (sl_text) { (const char *)p, (size_t)n };
    return SL_OK;
}

/* ---- values ---- */

/* `n` neighbours of a type other than array. */
static sl_status take_elements(reader *r, int32_t type, uint64_t n)
{
    if (type == SL_META_STRING) {
        sl_text text;
        for (uint64_t i = 0; i < n; i++)
            SL_TRY(take_text(r, SL_LIMIT_STRING_BYTES, &text));
        return SL_OK;
    }
    const uint8_t *p = NULL;
    SL_TRY(take(r, n * sl_meta_types[type].bytes, &p));     /* n is within its limit: no overflow */
    if (type == SL_META_BOOL)
        for (uint64_t i = 0; i < n; i++)
            if (p[i] > 1)
                return sl_fail(SL_ERR_RANGE, "a bool is neither 0 nor 1 but %d", p[i]);
    return SL_OK;
}

/* The head of an array that is `depth` arrays deep (the outermost: 1). */
static sl_status take_array_head(reader *r, int depth, int32_t *element_type, uint64_t *count)
{
    uint32_t type = 0;
    uint64_t n = 0;
    SL_TRY(take_u32(r, &type));
    if (type > SL_META_LAST_)
        return sl_fail(SL_ERR_TYPE, "unknown array element type %" PRIu32, type);
    if (type == SL_META_ARRAY && depth == SL_LIMIT_ARRAY_DEPTH)
        return sl_fail(SL_ERR_DEPTH, "arrays lie more than %d deep", SL_LIMIT_ARRAY_DEPTH);
    SL_TRY(take_u64(r, &n));
    uint64_t least = type == SL_META_STRING ? 8 : type == SL_META_ARRAY ? 12 : sl_meta_types[type].bytes;
    if (n > (r->file_size - r->at) / least) {       /* a count within the limit is believed: then it is the file that is too short */
        if (n > SL_LIMIT_ARRAY_ELEMENTS)
            return sl_fail(SL_ERR_BOUNDS, "an array of %" PRIu64 " elements reaches past the end of the file", n);
        return sl_fail(SL_ERR_TRUNCATED, "the file ends inside an array of %" PRIu64 " elements", n);
    }
    if (n > SL_LIMIT_ARRAY_ELEMENTS)
        return sl_fail(SL_ERR_LIMIT, "an array of %" PRIu64 " elements is longer than the limit of %d", n, SL_LIMIT_ARRAY_ELEMENTS);
    *element_type = (int32_t)type;
    *count = n;
    return SL_OK;
}

/* An array and all arrays in it: left[d] of those at depth d are still to come. */
static sl_status take_array(reader *r, sl_gguf_value *out)
{
    uint64_t left[SL_LIMIT_ARRAY_DEPTH], n = 0;
    int depth = 1;
    int32_t type = 0;
    SL_TRY(take_array_head(r, depth, &type, &n));
    *out = (sl_gguf_value) { SL_META_ARRAY, type, n, r->data + r->at };
    for (;;) {
        left[depth - 1] = type == SL_META_ARRAY ? n : 0;
        if (type != SL_META_ARRAY)
            SL_TRY(take_elements(r, type, n));
        while (depth && !left[depth - 1])
            depth--;
        if (!depth)
            return SL_OK;
        left[depth - 1]--;
        SL_TRY(take_array_head(r, ++depth, &type, &n));
    }
}

static sl_status take_value(reader *r, sl_gguf_value *out)
{
    uint32_t type = 0;
    SL_TRY(take_u32(r, &type));
    if (type > SL_META_LAST_)
        return sl_fail(SL_ERR_TYPE, "unknown value type %" PRIu32, type);
    if (type == SL_META_ARRAY)
        return take_array(r, out);
    *out = (sl_gguf_value) { (int32_t)type, (int32_t)type, 1, r->data + r->at };
    return take_elements(r, (int32_t)type, 1);
}

/* ---- key-value pairs and tensor infos, as views into the data ---- */

typedef struct pair_view { sl_text key; sl_gguf_value value; } pair_view;
typedef struct tensor_view { sl_text name; sl_gguf_tensor tensor; } tensor_view;    /* tensor.offset is that of the file: into the data section */

/* Puts "what 'name': " in front of the sentence, or "what number: " as long as there is no name. */
static sl_status fail_at(sl_status status, const char *what, uint64_t number, const sl_text *name)
{
    char place[SL_QUOTE_BYTES + 32], quoted[SL_QUOTE_BYTES];
    if (status == SL_OK)
        return status;
    if (name->length)
        snprintf(place, sizeof place, "%s '%s'", what, sl_quote(quoted, name->data, name->length));
    else
        snprintf(place, sizeof place, "%s %" PRIu64, what, number);
    return sl_fail_in(status, place);
}

static sl_status take_key(reader *r, sl_text *out)
{
    sl_text key;
    SL_TRY(take_text(r, SL_LIMIT_KEY_BYTES, &key));
    if (!key.length)
        return sl_fail(SL_ERR_RANGE, "the key is empty");
    for (size_t i = 0; i < key.length; i++)
        if (key.data[i] < 0x20 || key.data[i] > 0x7e)
            return sl_fail(SL_ERR_UTF8, "byte %zu of the key is not printable ASCII", i);
    *out = key;
    return SL_OK;
}

static sl_status take_pair(reader *r, uint64_t index, pair_view *out)
{
    *out = (pair_view) { 0 };
    sl_status s = take_key(r, &out->key);
    if (s == SL_OK)
        s = take_value(r, &out->value);
    return fail_at(s, "key", index, &out->key);
}

static sl_status take_name(reader *r, sl_text *out)
{
    sl_text name;
    SL_TRY(take_text(r, SL_LIMIT_TENSOR_NAME_BYTES, &name));
    if (!name.length)
        return sl_fail(SL_ERR_RANGE, "the name is empty");
    if (memchr(name.data, 0, name.length))
        return sl_fail(SL_ERR_UTF8, "the name contains a zero byte");
    *out = name;
    return SL_OK;
}

/* Number of dimensions and their sizes, which multiply to *n. */
static sl_status take_shape(reader *r, sl_gguf_tensor *t, uint64_t *n)
{
    SL_TRY(take_u32(r, &t->n_dims));
    if (t->n_dims < 1 || t->n_dims > 4)
        return sl_fail(SL_ERR_SHAPE, "%" PRIu32 " dimensions, not 1 to 4", t->n_dims);
    int overflow = 0;
    *n = 1;
    for (uint32_t i = 0; i < 4; i++) {
        t->ne[i] = 1;
        if (i < t->n_dims)
            SL_TRY(take_u64(r, &t->ne[i]));
        if (!t->ne[i] || t->ne[i] > INT64_MAX)
            return sl_fail(SL_ERR_SHAPE, "dimension %" PRIu32 " is zero or negative", i);
        overflow |= sl_mul64(*n, t->ne[i], n);
    }
    if (overflow || *n > INT64_MAX)
        return sl_fail(SL_ERR_OVERFLOW, "the product of the dimensions overflows");
    return SL_OK;
}

static sl_status take_tensor_body(reader *r, sl_gguf_tensor *t)
{
    uint64_t n = 0;
    uint32_t id = 0;
    SL_TRY(take_shape(r, t, &n));
    SL_TRY(take_u32(r, &id));
    SL_TRY(take_u64(r, &t->offset));
    const sl_type_info *type = sl_type_get(id);
    if (!type && sl_type_known(id))
        return sl_fail(SL_ERR_UNSUPPORTED, "type %s is not in this build", sl_type_name(id));
    if (!type && sl_type_removed(id))
        return sl_fail(SL_ERR_UNSUPPORTED, "type %" PRIu32 " was withdrawn from the format", id);
    if (!type)
        return sl_fail(SL_ERR_TYPE, "unknown tensor type %" PRIu32, id);
    if (t->ne[0] % type->block_values)
        return sl_fail(SL_ERR_SHAPE, "rows of %" PRIu64 " elements are no multiple of the %d of a %s block", t->ne[0], type->block_values, type->name);
    if (sl_mul64(n / type->block_values, type->block_bytes, &t->bytes) || t->bytes > tensor_bytes_most)
        return sl_fail(SL_ERR_OVERFLOW, "the data are larger than any address space");
    t->type = (sl_type)id;
    return SL_OK;
}

static sl_status take_tensor(reader *r, uint64_t index, tensor_view *out)
{
    *out = (tensor_view) { 0 };
    sl_status s = take_name(r, &out->name);
    if (s == SL_OK)
        s = take_tensor_body(r, &out->tensor);
    return fail_at(s, "tensor", index, &out->name);
}

/* ---- first pass ---- */

static sl_status take_header(reader *r, sl_gguf *g)
{
    const uint8_t *magic = NULL;
    uint64_t n_tensors = 0, n_kv = 0;
    SL_TRY(take(r, 4, &magic));
    if (memcmp(magic, "GGUF", 4))
        return sl_fail(SL_ERR_MAGIC, "not a GGUF file");
    SL_TRY(take_u32(r, &g->version));
    if (g->version && !(g->version & 0xffff))
        return sl_fail(SL_ERR_UNSUPPORTED, "a big-endian file");
    if (g->version != 2 && g->version != 3)
        return sl_fail(SL_ERR_VERSION, "version %" PRIu32 ", not 2 or 3", g->version);
    SL_TRY(take_u64(r, &n_tensors));
    if (n_tensors > SL_LIMIT_TENSORS)
        return sl_fail(SL_ERR_LIMIT, "%" PRIu64 " tensors, more than the limit of %d", n_tensors, SL_LIMIT_TENSORS);
    SL_TRY(take_u64(r, &n_kv));
    if (n_kv > SL_LIMIT_KEYS)
        return sl_fail(SL_ERR_LIMIT, "%" PRIu64 " keys, more than the limit of %d", n_kv, SL_LIMIT_KEYS);
    g->n_tensors = (size_t)n_tensors;
    g->n_kv = (size_t)n_kv;
    return SL_OK;
}

static sl_status read_alignment(const pair_view *pair, uint64_t *out)
{
    static const char key[] = "general.alignment";
    if (pair->key.length != sizeof key - 1 || memcmp(pair->key.data, key, sizeof key - 1))
        return SL_OK;
    int64_t n = 0;
    if (pair->value.type == SL_META_ARRAY || pair->value.type == SL_META_BOOL)
        return sl_fail(SL_ERR_TYPE, "key '%s': not an integer", key);
    sl_status s = sl_gguf_value_int(&pair->value, 0, &n);
    if (s == SL_ERR_TYPE)
        return sl_fail_in(s, "key 'general.alignment'");
    if (s != SL_OK || n < ALIGNMENT_LEAST || n > SL_LIMIT_ALIGNMENT || (n & (n - 1)))
        return sl_fail(SL_ERR_ALIGNMENT, "key '%s': not a power of two from %d to %d", key, ALIGNMENT_LEAST, SL_LIMIT_ALIGNMENT);
    *out = (uint64_t)n;
    return SL_OK;
}

/* Checks the whole header. *names: bytes of all keys and names, each with a terminator. */
static sl_status check_all(reader *r, sl_gguf *g, size_t *names)
{
    pair_view pair;
    tensor_view tensor;
    SL_TRY(sl_fail_in(take_header(r, g), "header"));
    g->alignment = ALIGNMENT_DEFAULT;
    *names = 0;
    for (size_t i = 0; i < g->n_kv; i++) {
        SL_TRY(take_pair(r, i, &pair));
        SL_TRY(read_alignment(&pair, &g->alignment));
        *names += pair.key.length + 1;
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        SL_TRY(take_tensor(r, i, &tensor));
        *names += tensor.name.length + 1;
    }
    g->header_bytes = r->at;
    if (sl_align_up64(r->at, g->alignment, &g->data_offset))
        return sl_fail(SL_ERR_OVERFLOW, "header: its size overflows");
    return SL_OK;
}

/* ---- second pass ---- */

static sl_text key_text(const void *owner, uint32_t value)
{
    const sl_gguf *g = owner;
    return (sl_text) { g->kv[value].key, g->kv[value].key_length };
}

static sl_text tensor_text(const void *owner, uint32_t value)
{
    const sl_gguf *g = owner;
    return (sl_text) { g->tensors[value].name, strlen(g->tensors[value].name) };
}

static char *keep(char **names, sl_text text)
{
    char *copy = *names;
    memcpy(copy, text.data, text.length);
    copy[text.length] = 0;
    *names += text.length + 1;
    return copy;
}

static sl_status fill_pairs(reader *r, sl_gguf *g, char **names)
{
    for (size_t i = 0; i < g->n_kv; i++) {
        pair_view view;
        SL_TRY(take_pair(r, i, &view));
        g->kv[i] = (sl_gguf_kv) { keep(names, view.key), view.key.length, view.value };
        if (sl_map_add(&g->kv_map, (uint32_t)i, key_text, g) != i)
            return fail_at(sl_fail(SL_ERR_DUPLICATE, "it occurs twice"), "key", i, &view.key);
    }
    return SL_OK;
}

/* Whether the data of a tensor lie inside the file. `before`: bytes of the tensors in front of it, as a writer without gaps lays them. */
static sl_status check_place(const sl_gguf *g, const sl_gguf_tensor *t, uint64_t file_size, uint64_t before)
{
    uint64_t room = file_size > g->data_offset ? file_size - g->data_offset : 0;
    if (t->offset > room || t->bytes > room - t->offset) {
        if (t->offset <= before && t->bytes < file_bytes_likely && t->offset < file_bytes_likely - t->bytes)
            return sl_fail(SL_ERR_TRUNCATED, "the file ends before its data do: %" PRIu64 " bytes at %" PRIu64, t->bytes, t->offset);
        return sl_fail(SL_ERR_BOUNDS, "its data lie past the end of the file: %" PRIu64 " bytes at %" PRIu64, t->bytes, t->offset);
    }
    if (t->offset & (g->alignment - 1))
        return sl_fail(SL_ERR_ALIGNMENT, "offset %" PRIu64 " is no multiple of %" PRIu64, t->offset, g->alignment);
    return SL_OK;
}

static sl_status fill_tensors(reader *r, sl_gguf *g, char **names)
{
    uint64_t before = 0, end;
    for (size_t i = 0; i < g->n_tensors; i++) {
        tensor_view view;
        SL_TRY(take_tensor(r, i, &view));
        sl_gguf_tensor *t = &g->tensors[i];
        *t = view.tensor;
        SL_TRY(fail_at(check_place(g, t, r->file_size, before), "tensor", i, &view.name));
        if (sl_align_up64(t->bytes, g->alignment, &end) || sl_add64(before, end, &before))
            return fail_at(sl_fail(SL_ERR_OVERFLOW, "the sum of the sizes overflows"), "tensor", i, &view.name);
        t->offset += g->data_offset;
        t->name = keep(names, view.name);
        if (sl_map_add(&g->tensor_map, (uint32_t)i, tensor_text, g) != i)
            return fail_at(sl_fail(SL_ERR_DUPLICATE, "it occurs twice"), "tensor", i, &view.name);
    }
    return SL_OK;
}

/* Sorts tensor numbers by offset: a heap, for its bounded time and stack. */
static void sort_by_offset(uint32_t *order, size_t n, const sl_gguf_tensor *tensors)
{
    for (size_t start = n / 2, end = n; end > 1;) {
        uint32_t moved;
        if (start) {
            moved = order[--start];
        } else {
            moved = order[--end];
            order[end] = order[0];
        }
        size_t at = start, child;
        while ((child = 2 * at + 1) < end) {
            if (child + 1 < end && tensors[order[child + 1]].offset > tensors[order[child]].offset)
                child++;
            if (tensors[order[child]].offset <= tensors[moved].offset)
                break;
            order[at] = order[child];
            at = child;
        }
        order[at] = moved;
    }
}

/* No byte belongs to two tensors. Gaps are fine. */
static sl_status check_overlaps(const sl_gguf *g, const sl_mem *mem)
{
    size_t i = 1;
    while (i < g->n_tensors && g->tensors[i].offset >= g->tensors[i - 1].offset + g->tensors[i - 1].bytes)
        i++;
    if (i >= g->n_tensors)      /* nearly every file has its tensors in order */
        return SL_OK;
    uint32_t *order = sl_mem_alloc(mem, g->n_tensors, sizeof *order);
    if (!order)
        return SL_ERR_NOMEM;
    for (i = 0; i < g->n_tensors; i++)
        order[i] = (uint32_t)i;
    sort_by_offset(order, g->n_tensors, g->tensors);
    sl_status s = SL_OK;
    for (i = 1; i < g->n_tensors && s == SL_OK; i++) {
        const sl_gguf_tensor *a = &g->tensors[order[i - 1]], *b = &g->tensors[order[i]];
        if (b->offset < a->offset + a->bytes) {
            sl_text name = { b->name, strlen(b->name) };
            char quoted[SL_QUOTE_BYTES];
            s = fail_at(sl_fail(SL_ERR_BOUNDS, "its data overlap those of '%s'", sl_quote(quoted, a->name, strlen(a->name))), "tensor", order[i], &name);
        }
    }
    sl_mem_free(mem, order);
    return s;
}

/* Sets the marks of a pair that was parsed. */
static sl_status set_marks(sl_gguf_kv *kv, const sl_mem *mem)
{
    if (kv->value.type != SL_META_ARRAY || kv->value.element_type != SL_META_STRING)
        return SL_OK;
    kv->marks = sl_mem_alloc(mem, (size_t)(kv->value.count / SL_GGUF_MARK) + 1, sizeof *kv->marks);
    if (!kv->marks)
        return SL_ERR_NOMEM;
    const uint8_t *cursor = kv->value.data;
    for (uint64_t i = 0; i < kv->value.count; i++) {
        if (i % SL_GGUF_MARK == 0)
            kv->marks[i / SL_GGUF_MARK] = (uint64_t)(cursor - kv->value.data);
        sl_gguf_next_text(&cursor);
    }
    return SL_OK;
}

static sl_status fill_all(reader *r, sl_gguf *g, const sl_mem *mem, size_t names_bytes)
{
    g->kv = sl_mem_alloc(mem, g->n_kv, sizeof *g->kv);
    g->tensors = sl_mem_alloc(mem, g->n_tensors, sizeof *g->tensors);
    g->names = sl_mem_alloc(mem, names_bytes, 1);
    if (!g->kv || !g->tensors || !g->names)
        return SL_ERR_NOMEM;
    SL_TRY(sl_map_init(&g->kv_map, mem, g->n_kv));
    SL_TRY(sl_map_init(&g->tensor_map, mem, g->n_tensors));
    char *names = g->names;
    r->at = HEADER_BYTES;
    SL_TRY(fill_pairs(r, g, &names));
    for (size_t i = 0; i < g->n_kv; i++)
        SL_TRY(set_marks(&g->kv[i], mem));
    SL_TRY(fill_tensors(r, g, &names));
    return check_overlaps(g, mem);
}

sl_status sl_gguf_parse(sl_gguf *gguf, const sl_mem *mem, const void *data, size_t size, uint64_t file_size, uint64_t *need)
{
    reader r = { .data = data, .size = size < file_size ? size : file_size, .file_size = file_size };
    size_t names = 0;
    *gguf = (sl_gguf) { 0 };
    sl_status s = check_all(&r, gguf, &names);
    if (s == SL_OK)
        s = fill_all(&r, gguf, mem, names);
    if (s != SL_OK)
        sl_gguf_free(gguf, mem);
    *need = r.need;
    return s;
}

void sl_gguf_free(sl_gguf *gguf, const sl_mem *mem)
{
    sl_map_free(&gguf->kv_map, mem);
    sl_map_free(&gguf->tensor_map, mem);
    for (size_t i = 0; gguf->kv && i < gguf->n_kv; i++)
        sl_mem_free(mem, gguf->kv[i].marks);
    sl_mem_free(mem, gguf->kv);
    sl_mem_free(mem, gguf->tensors);
    sl_mem_free(mem, gguf->names);
    *gguf = (sl_gguf) { 0 };
}

const sl_gguf_kv *sl_gguf_find(const sl_gguf *gguf, const char *key)
{
    uint32_t i = sl_map_find(&gguf->kv_map, key, strlen(key), key_text, gguf);
    return i == SL_MAP_NONE ? NULL : &gguf->kv[i];
}

const sl_gguf_tensor *sl_gguf_find_tensor(const sl_gguf *gguf, const char *name)
{
    uint32_t i = sl_map_find(&gguf->tensor_map, name, strlen(name), tensor_text, gguf);
    return i == SL_MAP_NONE ? NULL : &gguf->tensors[i];
}

/* ---- what a value holds ---- */

sl_status sl_gguf_value_int(const sl_gguf_value *value, uint64_t index, int64_t *out)
{
    int32_t type = value->element_type;
    if (!sl_meta_types[type].bytes || type == SL_META_F32 || type == SL_META_F64)
        return sl_fail(SL_ERR_TYPE, "an integer expected, not %s", sl_meta_types[type].name);
    uint64_t n = 0;
    unsigned bits = 8u * sl_meta_types[type].bytes;
    memcpy(&n, value->data + index * sl_meta_types[type].bytes, sl_meta_types[type].bytes);
    if (sl_meta_types[type].is_signed && bits < 64 && n >> (bits - 1))
        n |= ~(uint64_t)0 << bits;
    if (!sl_meta_types[type].is_signed && n > INT64_MAX)
        return sl_fail(SL_ERR_RANGE, "%" PRIu64 " does not fit 63 bits", n);
    memcpy(out, &n, 8);
    return SL_OK;
}

sl_text sl_gguf_next_text(const uint8_t **cursor)
{
    uint64_t n = 0;
    memcpy(&n, *cursor, 8);
    sl_text text = { (const char *)*cursor + 8, (size_t)n };
    *cursor += 8 + n;
    return text;
}

void sl_gguf_next_array(const uint8_t **cursor, sl_gguf_value *out)
{
    uint32_t type = 0;
    out->type = SL_META_ARRAY;
    memcpy(&type, *cursor, 4);
    memcpy(&out->count, *cursor + 4, 8);
    out->element_type = (int32_t)type;
    out->data = *cursor + 12;
    *cursor += 12 + sl_gguf_value_bytes(out);
}

uint64_t sl_gguf_value_bytes(const sl_gguf_value *value)
{
    /* What was parsed once cannot fail; the walk needs no end. */
    reader r = { .data = value->data, .size = INT64_MAX, .file_size = INT64_MAX };
    if (value->element_type != SL_META_ARRAY) {
        (void)take_elements(&r, value->element_type, value->count);
    } else {
        sl_gguf_value inner;
        for (uint64_t i = 0; i < value->count; i++)
            (void)take_array(&r, &inner);
    }
    return r.at;
}
