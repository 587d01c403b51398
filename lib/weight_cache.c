/* SPDX-License-Identifier: MIT */
/* weight_cache.c - a file of packed weights: found right, read with its sums checked, written whole or not at all. */
#include "weight_cache.h"

#include "checksum.h"
#include "hash.h"
#include "identity.h"
#include "output.h"

#include <spacellama/version.h>
#include <string.h>

enum { FORMAT = 1, HEAD_BYTES = 64, PAGE = 4096, SAMPLE_BYTES = 4096, PIECE = 1 << 20 };

/* Either mark tells that a file is one of these, so that no single fault makes it somebody else's. */
typedef struct head {
    char mark[8];
    uint32_t format, n_weights;
    uint64_t identity, n_sums, bytes;
    uint32_t reserved, sums_sum;        /* CRC-32C of what stands between the head and the weights */
    char mark_again[8];
    uint32_t reserved_again, sum;       /* CRC-32C of the 60 bytes before it */
} head;
_Static_assert(sizeof(head) == HEAD_BYTES, "the head has no gaps");

static const char mark[8] = "SLPACKED", mark_again[8] = "weights.";

void sl_weight_cache_init(sl_weight_cache *cache, const sl_mem *mem, const sl_log *log, const char *path)
{
    *cache = (sl_weight_cache) { .mem = mem, .log = log, .path = path && *path ? path : NULL };
}

static void forget_file(sl_weight_cache *cache)
{
    sl_file_close(cache->file, cache->mem);
    cache->file = NULL;
}

/* There is no memory for it: then there is no cache. */
static void give_up(sl_weight_cache *cache)
{
    sl_log_line(cache->log, SL_LOG_WARN, "weight cache %s: not used (%s)", cache->path, sl_last_error());
    cache->path = NULL;
}

void sl_weight_cache_add(sl_weight_cache *cache, const sl_device *device, uint64_t bytes)
{
    char before[SL_SENTENCE_BYTES];
    if (!cache->path)
        return;
    sl_sentence_keep(before);
    if (sl_mem_grow(cache->mem, &cache->weights, cache->n + 1, sizeof *cache->weights) != SL_OK)
        give_up(cache);
    else
        cache->weights[cache->n++] = (sl_cached_weight) { .device = device, .bytes = device->backend->layout && device->backend->packed ? bytes : 0 };
    sl_sentence_restore(before);
}

/* ---- which file belongs to which model ---- */

/* The files, as identity.h tells them apart, but with the time of the last change and 4096 bytes of every tensor: files that were made from other weights differ there,
 * whatever their names and times. Not all bytes, because reading them is what the cache is to save. */
static sl_status identify(sl_weight_cache *cache, const sl_parts *parts)
{
    uint64_t identity = sl_identity_with(sl_identity_with(0, FORMAT), (uint64_t)sl_numerics_id());
    for (size_t p = 0; p < parts->n_parts; p++)
        if (!parts->parts[p].input.file)
            return sl_fail(SL_ERR_UNSUPPORTED, "only for models that are loaded from a path");
    SL_TRY(sl_identity_add_files(&identity, cache->mem, parts, SAMPLE_BYTES, 1));
    for (size_t i = 0; i < cache->n; i++) {
        const sl_backend *b = cache->weights[i].device->backend;
        identity = sl_identity_with(sl_identity_with(sl_hash(b->name, strlen(b->name), identity), b->layout), cache->weights[i].bytes);
    }
    cache->identity = identity;
    return SL_OK;
}

/* ---- where everything lies ---- */

static uint64_t blocks_of(uint64_t bytes) { return bytes / SL_PACKED_BLOCK + (bytes % SL_PACKED_BLOCK != 0); }

static sl_status lay_out(sl_weight_cache *cache)
{
    uint64_t at = 0, end;
    for (size_t i = 0; i < cache->n; i++) {
        sl_cached_weight *w = &cache->weights[i];
        w->sum = cache->n_sums;
        w->offset = at;
        cache->n_sums += blocks_of(w->bytes);
        if (sl_add64(at, w->bytes, &at))
            return sl_fail(SL_ERR_OVERFLOW, "the weights fit no file");
    }
    if (sl_mul64(cache->n_sums, sizeof(uint32_t), &end) || sl_add64(end, HEAD_BYTES, &end) || sl_align_up64(end, PAGE, &cache->data_offset) ||
        sl_add64(cache->data_offset, at, &cache->bytes) || cache->bytes > INT64_MAX || cache->data_offset > SIZE_MAX)
        return sl_fail(SL_ERR_OVERFLOW, "the weights fit no file");
    cache->sums = sl_mem_alloc(cache->mem, (size_t)cache->data_offset - HEAD_BYTES, 1);
    return cache->sums ? SL_OK : SL_ERR_NOMEM;
}

/* The head that the file must have. */
static head head_of(const sl_weight_cache *cache)
{
    head h = { .format = FORMAT, .n_weights = (uint32_t)cache->n, .identity = cache->identity, .n_sums = cache->n_sums, .bytes = cache->bytes };
    memcpy(h.mark, mark, sizeof mark);
    memcpy(h.mark_again, mark_again, sizeof mark_again);
    h.sums_sum = sl_crc32c(0, cache->sums, (size_t)cache->data_offset - HEAD_BYTES);
    h.sum = sl_crc32c(0, &h, HEAD_BYTES - sizeof h.sum);
    return h;
}

/* ---- reading ---- */

static sl_status read_all(const sl_file *file, uint64_t offset, void *to, size_t bytes)
{
    size_t got;
    SL_TRY(sl_file_read(file, offset, to, bytes, &got));
    return got == bytes ? SL_OK : sl_fail(SL_ERR_TRUNCATED, "it ends too early");
}

/* Whether a file of `size` bytes whose first ones are `h` was written by this file: only such ones are ever replaced. */
static int is_ours(const head *h, uint64_t size)
{
    return !memcmp(h->mark, mark, size < sizeof mark ? (size_t)size : sizeof mark) || (size >= HEAD_BYTES && !memcmp(h->mark_again, mark_again, sizeof mark_again));
}

static sl_status check_file(sl_weight_cache *cache)
{
    const uint64_t size = sl_file_size(cache->file);
    head h = { 0 };
    SL_TRY(read_all(cache->file, 0, &h, size < HEAD_BYTES ? (size_t)size : HEAD_BYTES));
    if (!is_ours(&h, size)) {
        cache->foreign = 1;
        return sl_fail(SL_ERR_MAGIC, "it is another kind of file, and is left alone");
    }
    if (size < HEAD_BYTES)
        return sl_fail(SL_ERR_TRUNCATED, "it ends too early");
    if (h.sum != sl_crc32c(0, &h, HEAD_BYTES - sizeof h.sum))
        return sl_fail(SL_ERR_CHECKSUM, "its head is damaged");
    if (h.format != FORMAT || h.identity != cache->identity || h.n_weights != cache->n || h.n_sums != cache->n_sums || h.bytes != cache->bytes)
        return sl_fail(SL_ERR_VERSION, "it was made from another file, or by another version of the library");
    if (size != cache->bytes)
        return sl_fail(SL_ERR_TRUNCATED, "it has %llu bytes, not %llu", (unsigned long long)size, (unsigned long long)cache->bytes);
    SL_TRY(read_all(cache->file, HEAD_BYTES, cache->sums, (size_t)cache->data_offset - HEAD_BYTES));
    const head right = head_of(cache);
    return memcmp(&right, &h, sizeof h) ? sl_fail(SL_ERR_CHECKSUM, "its checksums are damaged") : SL_OK;
}

void sl_weight_cache_open(sl_weight_cache *cache, const sl_parts *parts)
{
    char before[SL_SENTENCE_BYTES];
    if (!cache->path)
        return;
    sl_sentence_keep(before);
    sl_status status = identify(cache, parts);
    if (status == SL_OK)
        status = lay_out(cache);
    if (status != SL_OK)
        give_up(cache);
    else if (sl_file_open(&cache->file, cache->mem, cache->path) != SL_OK)
        sl_log_line(cache->log, SL_LOG_INFO, "weight cache %s: not there yet (%s)", cache->path, sl_last_error());
    else if (check_file(cache) != SL_OK)
        sl_weight_cache_drop(cache);
    sl_sentence_restore(before);
}

int sl_weight_cache_has(const sl_weight_cache *cache, size_t index) { return cache->path && cache->file && cache->weights[index].bytes > 0; }

sl_status sl_weight_cache_read(const sl_weight_cache *cache, size_t index, uint64_t offset, void *to, size_t bytes)
{
    enum { AT_ONCE = 16 };
    const sl_cached_weight *w = &cache->weights[index];
    uint8_t *at = to;
    if (offset % SL_PACKED_BLOCK || offset > w->bytes || bytes > w->bytes - offset || (bytes % SL_PACKED_BLOCK && bytes != w->bytes - offset))
        return sl_fail(SL_ERR_INTERNAL, "bytes that do not lie so are asked for");
    for (uint64_t block = w->sum + offset / SL_PACKED_BLOCK; bytes; block += AT_ONCE) {
        uint32_t sums[AT_ONCE];
        const size_t n = bytes < AT_ONCE * (size_t)SL_PACKED_BLOCK ? bytes : AT_ONCE * (size_t)SL_PACKED_BLOCK;
        SL_TRY(read_all(cache->file, cache->data_offset + w->offset + offset, at, n));
        sl_crc32c_blocks(at, n, SL_PACKED_BLOCK, sums);
        if (memcmp(sums, cache->sums + block * sizeof *sums, blocks_of(n) * sizeof *sums))
            return sl_fail(SL_ERR_CHECKSUM, "it is damaged");
        offset += n, at += n, bytes -= n;
    }
    return SL_OK;
}

void sl_weight_cache_drop(sl_weight_cache *cache)
{
    sl_log_line(cache->log, SL_LOG_WARN, "weight cache %s: not used (%s)", cache->path, sl_last_error());
    forget_file(cache);
}

/* ---- writing ---- */

typedef struct writing { sl_weight_cache *cache; sl_output output; sl_status (*goes_on)(void *user); void *user; sl_status stop; } writing;

/* One weight, and its sums on the way. */
static sl_status write_weight(writing *w, const sl_cached_weight *weight, void *handle)
{
    const sl_device *d = weight->device;
    size_t bytes = 0;
    const uint8_t *at = d->backend->packed(d->handle, handle, &bytes);
    if (!at || bytes != weight->bytes)
        return sl_fail(SL_ERR_INTERNAL, "a weight has %zu bytes, not %llu", bytes, (unsigned long long)weight->bytes);
    for (size_t done = 0; done < bytes; done += PIECE) {
        uint32_t sums[PIECE / SL_PACKED_BLOCK];
        const size_t n = bytes - done < PIECE ? bytes - done : PIECE;
        sl_crc32c_blocks(at + done, n, SL_PACKED_BLOCK, sums);
        memcpy(w->cache->sums + (weight->sum + done / SL_PACKED_BLOCK) * sizeof *sums, sums, blocks_of(n) * sizeof *sums);
        SL_TRY(sl_output_append(&w->output, at + done, n));
        if ((w->stop = w->goes_on(w->user)) != SL_OK)
            return w->stop;
    }
    return SL_OK;
}

static sl_status write_all(writing *w, void *const *handles)
{
    sl_weight_cache *cache = w->cache;
    memset(cache->sums, 0, (size_t)cache->data_offset - HEAD_BYTES);
    const head none = { 0 };        /* until all is there */
    SL_TRY(sl_output_append(&w->output, &none, sizeof none));
    SL_TRY(sl_output_append(&w->output, cache->sums, (size_t)cache->data_offset - HEAD_BYTES));
    for (size_t i = 0; i < cache->n; i++)
        if (cache->weights[i].bytes)
            SL_TRY(write_weight(w, &cache->weights[i], handles[i]));
    const head h = head_of(cache);
    SL_TRY(sl_output_write(&w->output, HEAD_BYTES, cache->sums, (size_t)cache->data_offset - HEAD_BYTES));
    SL_TRY(sl_output_write(&w->output, 0, &h, sizeof h));
    return sl_output_commit(&w->output);
}

sl_status sl_weight_cache_finish(sl_weight_cache *cache, void *const *handles, sl_status (*goes_on)(void *user), void *user)
{
    char before[SL_SENTENCE_BYTES];
    writing w = { .cache = cache, .goes_on = goes_on, .user = user };
    if (cache->path && cache->file)
        sl_log_line(cache->log, SL_LOG_INFO, "weight cache %s: read, %llu bytes", cache->path, (unsigned long long)cache->bytes);
    if (!cache->path || cache->foreign || cache->file || cache->bytes == cache->data_offset)
        return SL_OK;
    sl_sentence_keep(before);
    sl_status status = sl_output_open(&w.output, cache->mem, cache->path);
    if (status == SL_OK)
        status = write_all(&w, handles);
    sl_output_discard(&w.output);
    if (w.stop != SL_OK)
        return w.stop;
    if (status == SL_OK)
        sl_log_line(cache->log, SL_LOG_INFO, "weight cache %s: written, %llu bytes", cache->path, (unsigned long long)cache->bytes);
    else
        sl_log_line(cache->log, SL_LOG_WARN, "weight cache: not written (%s)", sl_last_error());
    sl_sentence_restore(before);
    return SL_OK;
}

void sl_weight_cache_close(sl_weight_cache *cache)
{
    if (cache->file)
        forget_file(cache);
    if (cache->mem) {
        sl_mem_free(cache->mem, cache->weights);
        sl_mem_free(cache->mem, cache->sums);
    }
}
