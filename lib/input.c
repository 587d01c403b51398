/* SPDX-License-Identifier: MIT */
/* input.c - files, memory and callbacks read alike; headers fetched through a growing window; parts of a split model put together. */
#include "input.h"

#include "params.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SPARE = 1 };     /* room for a projector file behind the parts: inputs with callbacks do not move in memory */

enum { WINDOW_BYTES = 1 << 20 };

/* ---- one input ---- */

static sl_status read_callback(sl_input *input, uint64_t offset, void *to, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        size_t left = bytes - done;
        int64_t got = input->read(offset + done, (char *)to + done, left, input->user);
        if (got < 0)
            return sl_fail(SL_ERR_IO, "the reading callback failed with %" PRId64 " at byte %" PRIu64, got, offset + done);
        if (got == 0)
            return sl_fail(SL_ERR_IO, "the reading callback ended at byte %" PRIu64 " of %" PRIu64, offset + done, input->size);
        if ((uint64_t)got > left)
            return sl_fail(SL_ERR_STATE, "the reading callback was asked for %zu bytes and says %" PRId64, left, got);
        done += (size_t)got;
    }
    return SL_OK;
}

static sl_status read_any(sl_input *input, uint64_t offset, void *to, size_t bytes)
{
    if (offset > input->size || bytes > input->size - offset)
        return sl_fail(SL_ERR_BOUNDS, "%zu bytes at %" PRIu64 " lie past the end, %" PRIu64, bytes, offset, input->size);
    if (!bytes)
        return SL_OK;
    if (input->data) {
        memcpy(to, (const char *)input->data + offset, bytes);
        return SL_OK;
    }
    if (input->file) {
        size_t got;
        SL_TRY(sl_file_read(input->file, offset, to, bytes, &got));
        return got == bytes ? SL_OK : sl_fail(SL_ERR_IO, "the file became shorter: it ends at byte %" PRIu64 " of %" PRIu64, offset + got, input->size);
    }
    if (!input->read)
        return sl_fail(SL_ERR_STATE, "it was closed when the model was loaded");
    sl_mutex_lock(&input->lock);
    sl_status s = read_callback(input, offset, to, bytes);
    sl_mutex_unlock(&input->lock);
    return s;
}

sl_status sl_input_read(sl_input *input, uint64_t offset, void *to, size_t bytes)
{
    return sl_fail_in(read_any(input, offset, to, bytes), input->name);
}

sl_status sl_input_map(sl_input *input, const uint8_t **data)
{
    *data = NULL;
    if (!input->data && !input->file)
        return sl_fail_in(sl_fail(SL_ERR_UNSUPPORTED, "what callbacks read cannot be used in place"), input->name);
    if (!input->data)
        SL_TRY(sl_fail_in(sl_file_map(input->file, &input->data), input->name));
    *data = input->data;
    return SL_OK;
}

static sl_status name_input(sl_input *input, const sl_mem *mem, const char *name)
{
    size_t bytes = strlen(name) + 1;
    input->name = sl_mem_alloc(mem, bytes, 1);
    if (!input->name)
        return SL_ERR_NOMEM;
    memcpy(input->name, name, bytes);
    return SL_OK;
}

static sl_status open_file(sl_input *input, const sl_mem *mem, const char *path)
{
    SL_TRY(name_input(input, mem, path));
    SL_TRY(sl_fail_in(sl_file_open(&input->file, mem, path), path));
    input->size = sl_file_size(input->file);
    return SL_OK;
}

static sl_status open_source(sl_input *input, const sl_mem *mem, const sl_source *given)
{
    sl_source source;
    if (!given)
        return sl_fail(SL_ERR_ARGUMENT, "a source is NULL");
    SL_TRY(sl_options_read(&source, sizeof source, given));
    SL_TRY(name_input(input, mem, source.name ? source.name : "memory"));
    if (!source.data && !source.read && source.length)
        return sl_fail_in(sl_fail(SL_ERR_ARGUMENT, "neither data nor read is set"), input->name);
    if (source.data && source.length > SIZE_MAX)
        return sl_fail_in(sl_fail(SL_ERR_OVERFLOW, "longer than the address space"), input->name);
    input->data = source.data;
    input->size = source.length;
    input->user = source.user;
    if (!source.data && source.read) {
        SL_TRY(sl_mutex_init(&input->lock));
        input->read = source.read;
    }
    return SL_OK;
}

static void close_input(sl_input *input, const sl_mem *mem)
{
    sl_file_close(input->file, mem);
    if (input->read)
        sl_mutex_destroy(&input->lock);
    input->file = NULL;
    input->data = NULL;
    input->read = NULL;
}

/* ---- one part ---- */

/* Reads and parses the header: a window of the first bytes, which grows until the header fits. Each step at least doubles it, so all
 * steps together read at most twice the last one. */
static sl_status parse_window(sl_part *part, const sl_mem *mem)
{
    uint64_t size = part->input.size, window = size < WINDOW_BYTES ? size : WINDOW_BYTES, need = 0;
    for (;;) {
        if (window > SIZE_MAX)
            return sl_fail(SL_ERR_OVERFLOW, "the header is larger than the address space");
        part->head = sl_mem_alloc(mem, (size_t)window, 1);
        if (!part->head)
            return SL_ERR_NOMEM;
        SL_TRY(read_any(&part->input, 0, part->head, (size_t)window));
        sl_status s = sl_gguf_parse(&part->gguf, mem, part->head, (size_t)window, size, &need);
        if (s == SL_OK || !need)
            return s;
        sl_mem_free(mem, part->head);
        part->head = NULL;
        window = need > 2 * window ? need : 2 * window;
        if (window > size)
            window = size;
    }
}

static sl_status parse_part(sl_part *part, const sl_mem *mem, int in_place)
{
    const sl_input *input = &part->input;
    uint64_t need;
    sl_status s = in_place && input->data ? sl_gguf_parse(&part->gguf, mem, input->data, (size_t)input->size, input->size, &need) : parse_window(part, mem);
    return sl_fail_in(s, input->name);
}

static void close_part(sl_part *part, const sl_mem *mem)
{
    sl_gguf_free(&part->gguf, mem);
    sl_mem_free(mem, part->head);
    close_input(&part->input, mem);
    sl_mem_free(mem, part->input.name);
}

/* ---- split models ---- */

typedef struct split {
    uint32_t no, count;     /* this part, from 0; parts */
    uint32_t n_tensors;     /* of all parts; UINT32_MAX: not said */
} split;

static sl_status read_optional(const sl_gguf *gguf, const char *key, uint32_t *out)
{
    sl_status s = sl_gguf_u32(gguf, key, out);
    return s == SL_ERR_MISSING ? SL_OK : s;
}

static sl_status read_split(const sl_part *part, split *out)
{
    *out = (split) { 0, 1, UINT32_MAX };
    SL_TRY(sl_fail_in(read_optional(&part->gguf, "split.no", &out->no), part->input.name));
    SL_TRY(sl_fail_in(read_optional(&part->gguf, "split.count", &out->count), part->input.name));
    SL_TRY(sl_fail_in(read_optional(&part->gguf, "split.tensors.count", &out->n_tensors), part->input.name));
    if (!out->count)
        out->count = 1;
    return SL_OK;
}

static sl_status parse_first(sl_parts *parts, const sl_mem *mem, split *all, int in_place)
{
    sl_part *part = &parts->parts[0];
    SL_TRY(parse_part(part, mem, in_place));
    SL_TRY(read_split(part, all));
    if (all->no)
        return sl_fail_in(sl_fail(SL_ERR_MISSING, "this is part %" PRIu64 " of the model; the first part is wanted", (uint64_t)all->no + 1), part->input.name);
    return SL_OK;
}

/* Parses part `index` of a model whose first part said `all`. */
static sl_status parse_member(sl_parts *parts, const sl_mem *mem, size_t index, const split *all, int in_place)
{
    sl_part *part = &parts->parts[index];
    split own;
    SL_TRY(parse_part(part, mem, in_place));
    SL_TRY(read_split(part, &own));
    if (own.no != index)
        return sl_fail_in(sl_fail(SL_ERR_MISSING, "part %zu of the model is wanted here, this is part %" PRIu64, index + 1, (uint64_t)own.no + 1), part->input.name);
    if (own.count != all->count)
        return sl_fail_in(sl_fail(SL_ERR_RANGE, "it is one of %" PRIu32 " parts, the first part one of %" PRIu32, own.count, all->count), part->input.name);
    return SL_OK;
}

static sl_text name_text(const void *owner, uint32_t value)
{
    const sl_gguf_tensor *t = sl_parts_tensor(owner, value, NULL);
    return (sl_text) { t->name, strlen(t->name) };
}

static sl_status check_architecture(const sl_parts *parts, size_t index)
{
    sl_text first, own;
    if (sl_gguf_text(&parts->parts[0].gguf, "general.architecture", &first) != SL_OK || sl_gguf_text(&parts->parts[index].gguf, "general.architecture", &own) != SL_OK)
        return SL_OK;
    if (first.length == own.length && !memcmp(first.data, own.data, own.length))
        return SL_OK;
    return sl_fail_in(sl_fail(SL_ERR_DUPLICATE, "key 'general.architecture': another one than in the first part"), parts->parts[index].input.name);
}

/* Numbers the tensors through all parts and looks for names that occur twice. */
static sl_status number(sl_parts *parts, const sl_mem *mem)
{
    sl_map_free(&parts->map, mem);
    parts->n_tensors = 0;
    for (size_t i = 0; i < parts->n_parts; i++) {
        parts->parts[i].first = parts->n_tensors;
        parts->n_tensors += parts->parts[i].gguf.n_tensors;
    }
    if (parts->n_parts == 1)
        return SL_OK;
    SL_TRY(sl_map_init(&parts->map, mem, parts->n_tensors));
    for (size_t i = 0; i < parts->n_tensors; i++) {
        uint32_t before = sl_map_add(&parts->map, (uint32_t)i, name_text, parts);
        if (before != i) {
            size_t part, part_before;
            char quoted[SL_QUOTE_BYTES];
            sl_text name = name_text(parts, (uint32_t)i);
            (void)sl_parts_tensor(parts, i, &part);
            (void)sl_parts_tensor(parts, before, &part_before);
            sl_fail(SL_ERR_DUPLICATE, "tensor '%s': it is in part %zu too", sl_quote(quoted, name.data, name.length), part_before + 1);
            return sl_fail_in(SL_ERR_DUPLICATE, parts->parts[part].input.name);
        }
    }
    return SL_OK;
}

/* Makes one model of the parts of a split file. */
static sl_status join(sl_parts *parts, const sl_mem *mem, const split *all)
{
    for (size_t i = 0; i < parts->n_parts; i++)
        SL_TRY(check_architecture(parts, i));
    SL_TRY(number(parts, mem));
    if (all->n_tensors != UINT32_MAX && all->n_tensors != parts->n_tensors)
        return sl_fail_in(sl_fail(SL_ERR_RANGE, "key 'split.tensors.count': %" PRIu32 ", but there are %zu tensors", all->n_tensors, parts->n_tensors), parts->parts[0].input.name);
    return SL_OK;
}

/* ---- models from paths ---- */

enum { SUFFIX_BYTES = 20 };     /* -00001-of-00003.gguf */

static void write_suffix(char *to, size_t index, uint32_t count)
{
    char text[48];
    snprintf(text, sizeof text, "-%05zu-of-%05" PRIu32 ".gguf", index + 1, count);
    memcpy(to, text, SUFFIX_BYTES);
}

static sl_status open_others(sl_parts *parts, const sl_mem *mem, const char *path, const split *all)
{
    char suffix[SUFFIX_BYTES];
    size_t length = strlen(path);
    write_suffix(suffix, 0, all->count > 99999 ? 99999 : all->count);
    if (length < SUFFIX_BYTES || memcmp(path + length - SUFFIX_BYTES, suffix, SUFFIX_BYTES))
        return sl_fail_in(sl_fail(SL_ERR_MISSING, "it is the first of %" PRIu32 " parts, but its name does not end as theirs do (%.*s)", all->count, SUFFIX_BYTES, suffix), path);
    if (all->count > SL_LIMIT_PARTS)
        return sl_fail_in(sl_fail(SL_ERR_LIMIT, "%" PRIu32 " parts, more than the limit of %d", all->count, SL_LIMIT_PARTS), path);
    SL_TRY(sl_mem_grow(mem, &parts->parts, all->count + SPARE, sizeof *parts->parts));
    char *other = sl_mem_alloc(mem, length + 1, 1);
    if (!other)
        return SL_ERR_NOMEM;
    memcpy(other, path, length);
    sl_status s = SL_OK;
    for (size_t i = 1; i < all->count && s == SL_OK; i++) {
        write_suffix(other + length - SUFFIX_BYTES, i, all->count);
        parts->n_parts = i + 1;
        s = open_file(&parts->parts[i].input, mem, other);
        if (s == SL_ERR_IO)
            s = SL_ERR_MISSING;     /* the sentence says why it cannot be had */
        if (s == SL_OK)
            s = parse_member(parts, mem, i, all, 0);
    }
    sl_mem_free(mem, other);
    return s;
}

static sl_status open_path(sl_parts *parts, const sl_mem *mem, const char *path)
{
    split all;
    parts->parts = sl_mem_alloc(mem, 1 + SPARE, sizeof *parts->parts);
    if (!parts->parts)
        return SL_ERR_NOMEM;
    parts->n_parts = 1;
    SL_TRY(open_file(&parts->parts[0].input, mem, path));
    SL_TRY(parse_first(parts, mem, &all, 0));
    if (all.count > 1)
        SL_TRY(open_others(parts, mem, path, &all));
    return join(parts, mem, &all);
}

sl_status sl_parts_open_path(sl_parts *parts, const sl_mem *mem, const char *path)
{
    *parts = (sl_parts) { 0 };
    sl_status s = open_path(parts, mem, path);
    if (s != SL_OK)
        sl_parts_close(parts, mem);
    return s;
}

/* ---- models from sources ---- */

static sl_status open_sources(sl_parts *parts, const sl_mem *mem, const sl_source *const *sources, size_t n_sources, int in_place)
{
    split all;
    if (!sources || !n_sources)
        return sl_fail(SL_ERR_ARGUMENT, "no sources");
    if (n_sources > SL_LIMIT_PARTS)
        return sl_fail(SL_ERR_LIMIT, "%zu sources, more than the limit of %d", n_sources, SL_LIMIT_PARTS);
    parts->parts = sl_mem_alloc(mem, n_sources + SPARE, sizeof *parts->parts);
    if (!parts->parts)
        return SL_ERR_NOMEM;
    for (size_t i = 0; i < n_sources; i++) {
        parts->n_parts = i + 1;
        SL_TRY(open_source(&parts->parts[i].input, mem, sources[i]));
    }
    SL_TRY(parse_first(parts, mem, &all, in_place));
    if (all.count != n_sources)
        return sl_fail_in(sl_fail(all.count > n_sources ? SL_ERR_MISSING : SL_ERR_ARGUMENT, "%zu of %" PRIu32 " parts are given", n_sources, all.count), parts->parts[0].input.name);
    for (size_t i = 1; i < n_sources; i++)
        SL_TRY(parse_member(parts, mem, i, &all, in_place));
    return join(parts, mem, &all);
}

sl_status sl_parts_open_sources(sl_parts *parts, const sl_mem *mem, const sl_source *const *sources, size_t n_sources, int in_place)
{
    *parts = (sl_parts) { 0 };
    sl_status s = open_sources(parts, mem, sources, n_sources, in_place);
    if (s != SL_OK)
        sl_parts_close(parts, mem);
    return s;
}

/* ---- the image part of two-file layouts ---- */

sl_status sl_parts_add_projector(sl_parts *parts, const sl_mem *mem, const char *path, const sl_source *source, int in_place)
{
    if (parts->projector)
        return sl_fail(SL_ERR_INTERNAL, "a second projector file");
    sl_part *part = &parts->parts[parts->n_parts];
    split own = { 0 };
    sl_status status = path ? open_file(&part->input, mem, path) : open_source(&part->input, mem, source);
    if (status == SL_OK)
        status = parse_part(part, mem, path ? 0 : in_place);
    if (status == SL_OK && (status = read_split(part, &own)) == SL_OK && own.count > 1)
        status = sl_fail_in(sl_fail(SL_ERR_UNSUPPORTED, "a projector file in %" PRIu32 " parts", own.count), part->input.name);
    if (status != SL_OK) {
        close_part(part, mem);
        return status;
    }
    parts->projector = parts->n_parts++;
    return number(parts, mem);
}

void sl_parts_release_data(sl_parts *parts, const sl_mem *mem)
{
    for (size_t i = 0; i < parts->n_parts; i++)
        close_input(&parts->parts[i].input, mem);
}

void sl_parts_close(sl_parts *parts, const sl_mem *mem)
{
    for (size_t i = 0; i < parts->n_parts; i++)
        close_part(&parts->parts[i], mem);
    sl_mem_free(mem, parts->parts);
    sl_map_free(&parts->map, mem);
    *parts = (sl_parts) { 0 };
}

/* ---- all tensors ---- */

const sl_gguf_tensor *sl_parts_tensor(const sl_parts *parts, size_t index, size_t *part)
{
    size_t low = 0, high = parts->n_parts;      /* the part is in [low, high) */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (parts->parts[middle].first <= index)
            low = middle;
        else
            high = middle;
    }
    if (part)
        *part = low;
    return &parts->parts[low].gguf.tensors[index - parts->parts[low].first];
}

const sl_gguf_tensor *sl_parts_find(const sl_parts *parts, const char *name, size_t *part)
{
    if (part)
        *part = 0;
    if (parts->n_parts == 1)
        return sl_gguf_find_tensor(&parts->parts[0].gguf, name);
    uint32_t i = sl_map_find(&parts->map, name, strlen(name), name_text, parts);
    return i == SL_MAP_NONE ? NULL : sl_parts_tensor(parts, i, part);
}
