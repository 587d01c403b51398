/* SPDX-License-Identifier: MIT */
/* loader.c - finds, checks and places the tensors of a model. */
#include "loader.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = SL_LIMIT_TENSOR_NAME_BYTES + 32, VECTOR_PIECE = 1 << 20 };

const sl_model *sl_loader_model(const sl_loader *loader) { return loader->model; }
const sl_hparams *sl_loader_hparams(const sl_loader *loader) { return &loader->model->hp; }
const sl_mem *sl_loader_mem(const sl_loader *loader) { return &loader->model->mem; }

/* ---- binding ---- */

static sl_status note(sl_loader *loader, const sl_gguf_tensor *tensor, size_t part, int device, sl_weight *weight, sl_tensor *vector)
{
    SL_TRY(sl_mem_grow(&loader->model->mem, &loader->bound, loader->n_bound + 1, sizeof *loader->bound));
    loader->bound[loader->n_bound++] = (sl_bound) { tensor, part, device, weight, vector };
    loader->total += tensor->bytes;
    return SL_OK;
}

/* A vector of n numbers without memory yet. */
static sl_tensor vector_of(sl_type type, int64_t n)
{
    const size_t element = sl_type_get(type)->block_bytes, row = element * (size_t)n;
    return (sl_tensor) { .type = type, .ne = { n, 1, 1, 1 }, .stride = { element, row, row, row } };
}

static int same_shape(const sl_gguf_tensor *t, const int64_t *want)
{
    return (int64_t)t->ne[0] == want[0] && (int64_t)t->ne[1] == want[1] && (int64_t)t->ne[2] == want[2] && (int64_t)t->ne[3] == want[3];
}

static sl_status check_shape(const sl_gguf_tensor *t, const int64_t *want)
{
    if (same_shape(t, want))
        return SL_OK;
    return sl_fail(SL_ERR_SHAPE, "%s: is %llu x %llu x %llu x %llu, must be %lld x %lld x %lld x %lld", t->name, (unsigned long long)t->ne[0],
                   (unsigned long long)t->ne[1], (unsigned long long)t->ne[2], (unsigned long long)t->ne[3], (long long)want[0], (long long)want[1],
                   (long long)want[2], (long long)want[3]);
}

static sl_status check_type(const sl_gguf_tensor *t)
{
    return sl_type_get(t->type)->form == SL_ACT_NONE ? sl_fail(SL_ERR_TYPE, "%s: %s is not a type for weights", t->name, sl_type_name(t->type)) : SL_OK;
}

/* The factor `X.scale` of a matrix `X.weight`, if there is one. */
static sl_status bind_scale(sl_loader *loader, sl_weight *w, int device)
{
    char name[NAME_BYTES];
    size_t part, stem = strlen(w->name) - strlen(".weight");
    if (strlen(w->name) < strlen(".weight"))
        return SL_OK;
    snprintf(name, sizeof name, "%.*s.scale", (int)stem, w->name);
    const sl_gguf_tensor *t = sl_parts_find(&loader->model->parts, name, &part);
    if (!t)
        return SL_OK;
    if (t->type != SL_TYPE_F32)
        return sl_fail(SL_ERR_TYPE, "%s: must be F32", name);
    SL_TRY(check_shape(t, (const int64_t[]) { w->n_mat, 1, 1, 1 }));
    w->scale = vector_of(SL_TYPE_F32, w->n_mat);
    return note(loader, t, part, device, NULL, &w->scale);
}

/* Where a layer's tensors are called "<prefix>.<index>.", and the device they go to; prefix NULL: names as they are. layer: of
 * the text, whose sizes the rows speak of, or -1 (an encoder may have more layers than the text). */
typedef struct place { const char *prefix; int index, layer, device; } place;

/* The tensor of a row: of several names the first with the wanted shape, else the first name. `name` receives it. Other names are for files that exchange two
 * tensors' names: without a tensor of the first name there is none, so that no tensor stands in for one that is missing. */
static const sl_gguf_tensor *find_row(const sl_loader *loader, const sl_tensor_row *row, const place *at, const int64_t *want, char *name, size_t *part)
{
    const sl_gguf_tensor *found = NULL;
    size_t length, where = 0;
    char candidate[NAME_BYTES];
    for (const char *p = row->name; *p; p += length + (p[length] != 0)) {
        length = strcspn(p, "|/");
        if (at->prefix)
            snprintf(candidate, sizeof candidate, "%s.%d.%.*s", at->prefix, at->index, (int)length, p);
        else
            snprintf(candidate, sizeof candidate, "%.*s", (int)length, p);
        const sl_gguf_tensor *t = sl_parts_find(&loader->model->parts, candidate, &where);
        if (p == row->name || (t && same_shape(t, want))) {
            memcpy(name, candidate, sizeof candidate);
            found = t, *part = where;
        }
        if (found ? same_shape(found, want) : p[length] != '/')
            break;
    }
    return found;
}

static sl_status bind_row(sl_loader *loader, const sl_tensor_row *row, const place *at, void *target)
{
    char name[NAME_BYTES];
    size_t part = 0;
    int64_t want[4];
    for (int i = 0; i < 4; i++)
        want[i] = sl_hparams_dim(&loader->model->hp, at->layer, row->dims[i]);
    const sl_gguf_tensor *t = find_row(loader, row, at, want, name, &part);
    if (!t)
        return row->needed ? sl_fail(SL_ERR_MISSING, "%s: the tensor is missing", name) : SL_OK;
    SL_TRY(check_shape(t, want));
    SL_TRY(check_type(t));
    if (row->kind == SL_ROW_VECTOR || row->kind == SL_ROW_TABLE) {
        sl_tensor *vector = (sl_tensor *)((char *)target + row->offset);
        *vector = vector_of(SL_TYPE_F32, want[0]);
        vector->ne[1] = want[1];
        vector->stride[2] = vector->stride[3] = vector->stride[1] * (size_t)want[1];
        return note(loader, t, part, at->device, NULL, vector);
    }
    sl_weight *weight = (sl_weight *)((char *)target + row->offset);
    *weight = (sl_weight) { .name = t->name, .type = t->type, .form = sl_device_form(&loader->model->devices[at->device], t->type), .n_in = want[0], .n_out = want[1], .n_mat = want[2] };
    if (row->kind == SL_ROW_ROUTER && weight->form == SL_ACT_B16)
        weight->form = SL_ACT_F32;
    if (row->kind == SL_ROW_FILTER)
        weight->n_in = want[0] * want[1] * want[2], weight->n_out = want[3], weight->n_mat = 1;
    SL_TRY(note(loader, t, part, at->device, weight, NULL));
    return bind_scale(loader, weight, at->device);
}

sl_status sl_loader_bind(sl_loader *loader, const sl_tensor_row *rows, size_t n_rows, int layer, void *target)
{
    const place at = { layer < 0 ? NULL : "blk", layer, layer, layer < 0 ? loader->model->io_device : loader->model->layer_device[layer] };
    for (size_t i = 0; i < n_rows; i++)
        SL_TRY(bind_row(loader, &rows[i], &at, target));
    return SL_OK;
}

sl_status sl_loader_bind_part(sl_loader *loader, const sl_tensor_row *rows, size_t n_rows, const char *prefix, int layer, void *target)
{
    const place at = { prefix, layer, -1, loader->model->io_device };
    for (size_t i = 0; i < n_rows; i++)
        SL_TRY(bind_row(loader, &rows[i], &at, target));
    return SL_OK;
}

/* Names that old converters wrote and that change nothing; pattern: the end of the name. */
static int harmless(const char *name)
{
    static const char *const ends[] = { ".attn_rot_embd.weight", ".attn.rot.freqs", ".input_scale", "rope_freqs.weight", NULL };
    const size_t n = strlen(name);
    for (size_t i = 0; ends[i]; i++)
        if (n >= strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i]))
            return 1;
    return 0;
}

/* Says once how many tensors nobody asked for, and which is the first. */
static sl_status report_unused(const sl_loader *loader)
{
    const sl_parts *parts = &loader->model->parts;
    size_t unused = 0;
    const char *first = NULL;
    for (size_t p = 0; p < parts->n_parts; p++) {
        const sl_gguf *g = &parts->parts[p].gguf;
        uint8_t *used = sl_mem_alloc(&loader->model->mem, g->n_tensors, 1);
        if (!used)
            return SL_ERR_NOMEM;
        for (size_t i = 0; i < loader->n_bound; i++)
            if (loader->bound[i].part == p)
                used[loader->bound[i].tensor - g->tensors] = 1;
        for (size_t i = 0; i < g->n_tensors; i++)
            if (!used[i] && !harmless(g->tensors[i].name)) {
                first = first ? first : g->tensors[i].name;
                unused++;
            }
        sl_mem_free(&loader->model->mem, used);
    }
    if (unused)
        sl_log_line(&loader->model->log, SL_LOG_WARN, "%zu tensors are not used, the first is %s", unused, first);
    return SL_OK;
}

static sl_status sum_memory(sl_loader *loader)
{
    sl_model *model = loader->model;
    uint64_t most = 0, head = 0;
    for (size_t i = 0; i < loader->n_bound; i++) {
        const sl_bound *b = &loader->bound[i];
        const sl_device *d = &model->devices[b->device];
        uint64_t temporary = 2 * VECTOR_PIECE;
        if (b->weight) {
            temporary = b->tensor->bytes;
            model->memory.weights += d->backend->weight_bytes(d->handle, b->weight, (int)loader->options->in_place, &temporary);
            model->memory.in_place += loader->options->in_place ? b->tensor->bytes : 0;
        } else if (b->vector)
            model->memory.weights += b->vector->stride[3];
        most = temporary > most ? temporary : most;
    }
    for (size_t p = 0; p < model->parts.n_parts; p++)
        head += model->parts.parts[p].gguf.data_offset;
    model->memory.load_peak = model->memory.weights + most + head;
    if (loader->options->memory_limit && model->memory.weights > loader->options->memory_limit)
        return sl_fail(SL_ERR_LIMIT, "weights need %llu bytes, the limit is %llu", (unsigned long long)model->memory.weights,
                       (unsigned long long)loader->options->memory_limit);
    return SL_OK;
}

sl_status sl_loader_open(sl_loader *loader)
{
    sl_model *model = loader->model;
    SL_TRY(model->arch->bind(loader, &model->weights));
    SL_TRY(report_unused(loader));
    return sum_memory(loader);
}

/* ---- placing ---- */

typedef struct reading { sl_loader *loader; const sl_bound *bound; size_t index; } reading;

static sl_status read_tensor(uint64_t offset, void *to, size_t bytes, void *user)
{
    const reading *r = user;
    return sl_input_read(&r->loader->model->parts.parts[r->bound->part].input, r->bound->tensor->offset + offset, to, bytes);
}

static sl_status read_packed(uint64_t offset, void *to, size_t bytes, void *user)
{
    const reading *r = user;
    return sl_weight_cache_read(&r->loader->cache, r->index, offset, to, bytes);
}

static sl_status tell_progress(uint64_t done, void *user)
{
    const reading *r = user;
    const sl_model_options *o = r->loader->options;
    if (o->progress && o->progress(r->loader->done + done, r->loader->total, o->progress_user))
        return sl_fail(SL_ERR_CANCELLED, "loading was cancelled");
    return SL_OK;
}

/* Remembers what a device holds, before it is made: the slot cannot fail afterwards. */
static sl_status new_placed(sl_model *model, int device, sl_placed **out)
{
    SL_TRY(sl_mem_grow(&model->mem, &model->placed, model->n_placed + 1, sizeof *model->placed));
    *out = &model->placed[model->n_placed];
    **out = (sl_placed) { .device = device };
    return SL_OK;
}

/* From the cache, if it has it: 1 if that worked or the load is to end. */
static int place_cached(sl_loader *loader, const reading *r, const sl_weight_source *source, sl_placed *placed, sl_status *status)
{
    char before[SL_SENTENCE_BYTES];
    sl_weight_source cached = *source;
    const sl_device *d = &loader->model->devices[r->bound->device];
    if (!sl_weight_cache_has(&loader->cache, r->index))
        return 0;
    cached.packed = read_packed;
    sl_sentence_keep(before);
    *status = d->backend->place(d->handle, &cached, &placed->handle);
    if (*status == SL_OK)
        loader->model->memory_cached += loader->cache.weights[r->index].bytes;
    if (*status == SL_OK || *status == SL_ERR_CANCELLED)
        return 1;
    sl_weight_cache_drop(&loader->cache);
    sl_sentence_restore(before);
    return 0;
}

static sl_status place_matrix(sl_loader *loader, size_t index, sl_placed *placed)
{
    sl_model *model = loader->model;
    const sl_bound *b = &loader->bound[index];
    sl_input *input = &model->parts.parts[b->part].input;
    reading r = { loader, b, index };
    sl_status status;
    sl_weight_source source = { .weight = b->weight, .read = read_tensor, .progress = tell_progress, .user = &r, .writable = !input->file };
    if (loader->options->in_place) {
        SL_TRY(sl_input_map(input, &source.in_place));
        source.in_place += b->tensor->offset;
    }
    const sl_device *d = &model->devices[b->device];
    if (!place_cached(loader, &r, &source, placed, &status))
        status = d->backend->place(d->handle, &source, &placed->handle);
    b->weight->handle = placed->handle;
    return status;
}

/* Copies host memory to a device. */
static sl_status place_bytes(sl_model *model, sl_placed *placed, const void *host, size_t bytes)
{
    const sl_device *d = &model->devices[placed->device];
    SL_TRY(d->backend->alloc(d->handle, bytes, &placed->memory));
    placed->bytes = bytes;
    return d->backend->upload(d->handle, placed->memory, host, bytes);
}

/* The numbers of a small tensor, decoded; *out is to be freed. */
static sl_status read_numbers(sl_model *model, const sl_gguf_tensor *t, size_t part, float **out)
{
    const sl_type_info *type = sl_type_get(t->type);
    const int64_t blocks = (int64_t)(t->bytes / type->block_bytes);
    uint8_t *raw = sl_mem_alloc(&model->mem, 1, t->bytes);
    float *numbers = raw ? sl_mem_alloc(&model->mem, (size_t)blocks * type->block_values, sizeof *numbers) : NULL;
    sl_status status = numbers ? sl_input_read(&model->parts.parts[part].input, t->offset, raw, t->bytes) : SL_ERR_NOMEM;
    const int64_t bad = status == SL_OK ? type->check(raw, blocks) : -1;
    if (bad >= 0)
        status = sl_fail(SL_ERR_NONFINITE, "row 0, block %lld: a number is infinite or not a number", (long long)bad);
    if (status == SL_OK)
        type->decode(raw, blocks, numbers);
    sl_mem_free(&model->mem, raw);
    if (status != SL_OK)
        sl_mem_free(&model->mem, numbers);
    *out = status == SL_OK ? numbers : NULL;
    return status;
}

static int all_zero(const float *x, int64_t n)
{
    while (n > 0 && x[n - 1] == 0.0f)
        n--;
    return n == 0;
}

/* Numbers of a tensor, decoded in pieces straight into the device's memory. */
static sl_status copy_numbers(sl_loader *loader, const sl_bound *b, const sl_placed *placed, uint8_t *raw, float *numbers)
{
    const sl_type_info *type = sl_type_get(b->tensor->type);
    const sl_device *d = &loader->model->devices[b->device];
    const uint64_t blocks = b->tensor->bytes / type->block_bytes, most = VECTOR_PIECE / (sizeof *numbers * type->block_values);
    const uint64_t per_row = (uint64_t)b->vector->ne[0] / type->block_values;
    int zero = 1;
    for (uint64_t first = 0; first < blocks; first += most) {
        const uint64_t n = blocks - first < most ? blocks - first : most, values = n * type->block_values;
        SL_TRY(sl_input_read(&loader->model->parts.parts[b->part].input, b->tensor->offset + first * type->block_bytes, raw, n * type->block_bytes));
        const int64_t bad = type->check(raw, (int64_t)n);
        if (bad >= 0)
            return sl_fail(SL_ERR_NONFINITE, "row %llu, block %llu: a number is infinite or not a number",
                           (unsigned long long)((first + (uint64_t)bad) / per_row), (unsigned long long)((first + (uint64_t)bad) % per_row));
        type->decode(raw, (int64_t)n, numbers);
        zero = zero && all_zero(numbers, (int64_t)values);
        SL_TRY(d->backend->upload(d->handle, (float *)placed->memory + first * type->block_values, numbers, values * sizeof *numbers));
        if (blocks > most) {
            reading r = { loader, b, 0 };
            SL_TRY(tell_progress((first + n) * type->block_bytes, &r));
        }
    }
    if (zero)
        sl_log_line(&loader->model->log, SL_LOG_WARN, "%s: all numbers are zero", b->tensor->name);
    return SL_OK;
}

static sl_status place_vector(sl_loader *loader, const sl_bound *b, sl_placed *placed)
{
    const sl_mem *mem = &loader->model->mem;
    const sl_device *d = &loader->model->devices[b->device];
    SL_TRY(d->backend->alloc(d->handle, b->vector->stride[3], &placed->memory));
    placed->bytes = b->vector->stride[3];
    b->vector->data = placed->memory;
    const size_t numbers_bytes = placed->bytes < VECTOR_PIECE ? placed->bytes : VECTOR_PIECE, raw_bytes = b->tensor->bytes < VECTOR_PIECE ? b->tensor->bytes : VECTOR_PIECE;
    float *numbers = sl_mem_alloc(mem, 1, numbers_bytes);
    uint8_t *raw = numbers ? sl_mem_alloc(mem, 1, raw_bytes) : NULL;
    sl_status status = raw ? copy_numbers(loader, b, placed, raw, numbers) : SL_ERR_NOMEM;
    sl_mem_free(mem, raw);
    sl_mem_free(mem, numbers);
    return status;
}

/* What is to be packed, and whether the cache has it. */
static void open_cache(sl_loader *loader)
{
    const sl_model *model = loader->model;
    sl_weight_cache_init(&loader->cache, &model->mem, &model->log, loader->options->weight_cache);
    if (loader->options->in_place && loader->cache.path) {
        sl_log_line(&model->log, SL_LOG_INFO, "weight cache %s: not used, because weights are used in place", loader->cache.path);
        loader->cache.path = NULL;
    }
    for (size_t i = 0; i < loader->n_bound; i++) {
        const sl_bound *b = &loader->bound[i];
        const sl_device *d = &model->devices[b->device];
        uint64_t temporary;
        sl_weight_cache_add(&loader->cache, d, b->weight ? d->backend->weight_bytes(d->handle, b->weight, 0, &temporary) : 0);
    }
    sl_weight_cache_open(&loader->cache, &model->parts);
}

static sl_status goes_on(void *user)
{
    reading r = { user, NULL, 0 };
    return tell_progress(0, &r);
}

/* Keeps what was packed for the next load. */
static sl_status write_cache(sl_loader *loader)
{
    char before[SL_SENTENCE_BYTES];
    if (!loader->cache.path)
        return SL_OK;
    sl_sentence_keep(before);
    void **handles = sl_mem_alloc(&loader->model->mem, loader->n_bound, sizeof *handles);
    if (!handles)       /* then the next load packs again */
        sl_sentence_restore(before);
    for (size_t i = 0; i < loader->n_bound && handles; i++)
        handles[i] = loader->bound[i].weight ? loader->bound[i].weight->handle : NULL;
    const sl_status status = handles ? sl_weight_cache_finish(&loader->cache, handles, goes_on, loader) : SL_OK;
    sl_mem_free(&loader->model->mem, handles);
    return status;
}

/* Tells every device what it will be given to place. */
static sl_status reserve(sl_loader *loader)
{
    const sl_model *model = loader->model;
    for (int i = 0; i < model->n_devices; i++) {
        const sl_device *d = &model->devices[i];
        uint64_t bytes = 0, temporary;
        for (size_t k = 0; k < loader->n_bound; k++)
            if (loader->bound[k].weight && loader->bound[k].device == i &&
                sl_add64(bytes, d->backend->weight_bytes(d->handle, loader->bound[k].weight, (int)loader->options->in_place, &temporary), &bytes))
                return sl_fail(SL_ERR_OVERFLOW, "the weights do not fit the address space");
        if (d->backend->reserve)
            SL_TRY(d->backend->reserve(d->handle, bytes));
    }
    return SL_OK;
}

sl_status sl_loader_place(sl_loader *loader)
{
    SL_TRY(reserve(loader));
    open_cache(loader);
    for (size_t i = 0; i < loader->n_bound; i++) {
        const sl_bound *b = &loader->bound[i];
        sl_placed *placed;
        SL_TRY(new_placed(loader->model, b->device, &placed));
        loader->model->n_placed++;
        sl_status status = b->weight ? place_matrix(loader, i, placed) : b->vector ? place_vector(loader, b, placed) : SL_OK;
        if (status != SL_OK)
            return status == SL_ERR_CANCELLED ? status : sl_fail_in(status, b->tensor->name);
        loader->done += b->tensor->bytes;
        reading r = { loader, b, i };
        SL_TRY(tell_progress(0, &r));
    }
    return write_cache(loader);
}

sl_status sl_loader_read(sl_loader *loader, const char *name, int64_t n, float **out)
{
    size_t part;
    const sl_gguf_tensor *t = sl_parts_find(&loader->model->parts, name, &part);
    *out = NULL;
    if (!t)
        return sl_fail(SL_ERR_MISSING, "%s: the tensor is missing", name);
    SL_TRY(check_shape(t, (const int64_t[]) { n, 1, 1, 1 }));
    SL_TRY(check_type(t));
    SL_TRY(note(loader, t, part, 0, NULL, NULL));
    return sl_fail_in(read_numbers(loader->model, t, part, out), name);
}

sl_status sl_loader_constant(sl_loader *loader, sl_type type, int64_t n, const void *host, sl_tensor *out)
{
    for (int d = 0; d < loader->model->n_devices; d++) {
        sl_placed *placed;
        out[d] = vector_of(type, n);
        if (loader->plan_only)
            continue;
        SL_TRY(new_placed(loader->model, d, &placed));
        loader->model->n_placed++;
        SL_TRY(place_bytes(loader->model, placed, host, out[d].stride[1]));
        out[d].data = placed->memory;
    }
    return SL_OK;
}

void sl_loader_close(sl_loader *loader)
{
    sl_weight_cache_close(&loader->cache);
    sl_mem_free(&loader->model->mem, loader->bound);
    loader->bound = NULL;
}
