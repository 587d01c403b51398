/* SPDX-License-Identifier: MIT */
/* kv.c - shapes and memory of the cache. */
#include "kv.h"

#include <string.h>

/* How a page of one head lies, see kv.h. Elements of plain types have strides, the others only pages and heads. Keys fill d_head up to a multiple of `pad`;
 * `block`: what d_head must be a multiple of. */
typedef struct form { const char *name; sl_type type; size_t plain, line; int64_t pad, block; } form;
static const form forms[] = {
    /* element, bytes of 64 keys of one d */
    { "f16", SL_TYPE_F16, 2, 128, 1, 1 },
    { "f32", SL_TYPE_F32, 4, 256, 1, 1 },
    { "bf16", SL_TYPE_BF16, 0, 128, 2, 1 },
    { "q8_0", SL_TYPE_Q8_0, 0, 64 + 64 * 2 / 32, 1, 32 },
};
enum { N_FORMS = sizeof forms / sizeof *forms };

sl_status sl_kv_type(sl_type *type, const char *name)
{
    for (size_t i = 0; i < N_FORMS; i++)
        if (!name || !*name || !strcmp(name, forms[i].name)) {
            *type = forms[i].type;
            return SL_OK;
        }
    return sl_fail(SL_ERR_UNSUPPORTED, "cache type: there is none called '%.40s'", name);
}

/* [n0, n1, n2, n3] without memory, a head of a page `head` bytes; adds its bytes to *total. */
static sl_status cache_tensor(sl_tensor *t, const form *f, size_t head, int64_t n0, int64_t n1, int64_t n2, int64_t n3, uint64_t *total)
{
    size_t bytes;
    *t = (sl_tensor) { .type = f->type, .ne = { n0, n1, n2, n3 }, .stride = { f->plain, f->plain * (size_t)n0, head } };
    if (sl_mul(head, (size_t)n2, &t->stride[3]) || sl_mul(t->stride[3], (size_t)n3, &bytes) || sl_add64(*total, bytes, total) || *total > SIZE_MAX / 2)
        return sl_fail(SL_ERR_OVERFLOW, "cache: %lld pages do not fit the address space", (long long)n3);
    return SL_OK;
}

sl_status sl_kv_shape(sl_kv_layer *layer, sl_type type, int64_t d_head, int64_t n_head_kv, int64_t n_pages, uint64_t *bytes)
{
    const form *f = forms;
    while (f->type != type)
        if (++f == forms + N_FORMS)
            return sl_fail(SL_ERR_UNSUPPORTED, "cache: not of type %s", sl_type_name(type));
    if (d_head % f->block)
        return sl_fail(SL_ERR_UNSUPPORTED, "cache type %s: heads of %lld numbers are not whole blocks of %lld", f->name, (long long)d_head, (long long)f->block);
    size_t keys, values;
    if (sl_mul(f->line, (size_t)((d_head + f->pad - 1) / f->pad * f->pad), &keys) || sl_mul(f->line, (size_t)d_head, &values))
        return sl_fail(SL_ERR_OVERFLOW, "cache: heads of %lld numbers do not fit the address space", (long long)d_head);
    SL_TRY(cache_tensor(&layer->k, f, keys, SL_PAGE_KEYS, d_head, n_head_kv, n_pages, bytes));
    return cache_tensor(&layer->v, f, values, d_head, SL_PAGE_KEYS, n_head_kv, n_pages, bytes);
}

sl_kv_layer sl_kv_of_pass(sl_pass *pass, sl_act_form act, int64_t d_head, int64_t n_head, int64_t n_pages)
{
    const sl_kv_layer none = { .k = { .ne = { 0 } } };
    sl_kv_layer layer = none;
    uint64_t bytes = 0;
    if (pass->status == SL_OK)
        pass->status = sl_kv_shape(&layer, act == SL_ACT_B16 ? SL_TYPE_BF16 : SL_TYPE_F32, d_head, n_head, n_pages, &bytes);
    layer.k.data = sl_pass_tensor(pass, SL_TYPE_I8, (int64_t)layer.k.stride[3], n_pages, 1, 1).data;
    layer.v.data = sl_pass_tensor(pass, SL_TYPE_I8, (int64_t)layer.v.stride[3], n_pages, 1, 1).data;
    return pass->status == SL_OK ? layer : none;
}

sl_status sl_kv_rows_shape(sl_kv_layer *layer, int64_t n, int64_t n_pages, uint64_t *bytes)
{
    size_t page;
    *layer = (sl_kv_layer) { 0 };
    if (sl_mul((size_t)n, SL_PAGE_KEYS * sizeof(float), &page))
        return sl_fail(SL_ERR_OVERFLOW, "cache: rows of %lld numbers do not fit the address space", (long long)n);
    const form rows = { "f32", SL_TYPE_F32, sizeof(float), 0, 1, 1 };
    return cache_tensor(&layer->k, &rows, page, n, SL_PAGE_KEYS, 1, n_pages, bytes);
}

sl_tensor sl_kv_rows(const sl_kv_layer *layer)
{
    sl_tensor rows = layer->k;
    rows.ne[1] *= rows.ne[3], rows.ne[3] = 1;
    return rows;
}

sl_status sl_kv_layer_shape(sl_kv_layer *layer, const sl_hparams *hp, uint32_t l, sl_type type, int64_t n_pages, uint64_t *bytes)
{
    return sl_kv_shape(layer, type, hp->d_head, hp->n_head_kv[l], n_pages, bytes);
}

static size_t tensor_bytes(const sl_tensor *t) { return t->stride[3] * (size_t)t->ne[3]; }

sl_status sl_kv_layer_alloc(sl_kv_layer *layer, const sl_model *model, uint32_t l)
{
    const sl_device *d = &model->devices[model->layer_device[l]];
    SL_TRY(d->backend->alloc(d->handle, tensor_bytes(&layer->k), &layer->k.data));
    return sl_tensor_is(&layer->v) ? d->backend->alloc(d->handle, tensor_bytes(&layer->v), &layer->v.data) : SL_OK;
}

void sl_kv_layer_free(sl_kv_layer *layer, const sl_model *model, uint32_t l)
{
    const sl_device *d = &model->devices[model->layer_device[l]];
    if (layer->k.data)      /* NULL: only planned */
        d->backend->free(d->handle, layer->k.data, tensor_bytes(&layer->k));
    if (layer->v.data)
        d->backend->free(d->handle, layer->v.data, tensor_bytes(&layer->v));
    layer->k.data = layer->v.data = NULL;
}

/* Layers that look at pictures keep nothing of the text. */
int sl_kv_has(const sl_model *model, uint32_t l) { return !model->hp.cross || !model->hp.cross[l]; }

sl_status sl_kv_init(sl_kv *kv, const sl_model *model, sl_type type, int64_t n_pages)
{
    const sl_hparams *hp = &model->hp;
    *kv = (sl_kv) { .n_pages = n_pages };
    kv->layers = sl_mem_alloc(&model->mem, hp->n_layer, sizeof *kv->layers);
    if (!kv->layers)
        return SL_ERR_NOMEM;
    sl_status status = SL_OK;
    for (uint32_t l = 0; status == SL_OK && l < hp->n_layer; l++)
        if (sl_kv_has(model, l))
            status = sl_kv_layer_shape(&kv->layers[l], hp, l, type, kv->n_pages, &kv->bytes);
    if (status != SL_OK)
        sl_kv_free(kv, model);
    return status;
}

sl_status sl_kv_alloc(sl_kv *kv, const sl_model *model)
{
    for (uint32_t l = 0; l < model->hp.n_layer; l++)
        if (sl_kv_has(model, l))
            SL_TRY(sl_kv_layer_alloc(&kv->layers[l], model, l));
    return SL_OK;
}

void sl_kv_free(sl_kv *kv, const sl_model *model)
{
    for (uint32_t l = 0; kv->layers && l < model->hp.n_layer; l++)
        sl_kv_layer_free(&kv->layers[l], model, l);
    sl_mem_free(&model->mem, kv->layers);
    kv->layers = NULL;
}

/* Through a little memory of the host: this works on every backend. */
static sl_status copy_pages(const sl_device *d, const sl_tensor *from, int64_t first, const sl_tensor *to, int64_t to_first, int64_t n)
{
    uint8_t staging[2048];
    const char *source = (const char *)from->data + from->stride[3] * (size_t)first;
    char *target = (char *)to->data + to->stride[3] * (size_t)to_first;
    const size_t bytes = from->stride[3] * (size_t)n;
    for (size_t at = 0; at < bytes; at += sizeof staging) {
        const size_t piece = bytes - at < sizeof staging ? bytes - at : sizeof staging;
        SL_TRY(d->backend->download(d->handle, staging, source + at, piece));
        SL_TRY(d->backend->upload(d->handle, target + at, staging, piece));
    }
    return SL_OK;
}

sl_status sl_kv_layer_copy(const sl_model *model, uint32_t l, const sl_kv_layer *from, int64_t first, const sl_kv_layer *to, int64_t to_first, int64_t n)
{
    const sl_device *d = &model->devices[model->layer_device[l]];
    SL_TRY(copy_pages(d, &from->k, first, &to->k, to_first, n));
    return sl_tensor_is(&from->v) ? copy_pages(d, &from->v, first, &to->v, to_first, n) : SL_OK;
}

sl_status sl_kv_copy_page(const sl_kv *kv, const sl_model *model, int64_t from, int64_t to)
{
    for (uint32_t l = 0; l < model->hp.n_layer; l++)
        if (sl_kv_has(model, l))
            SL_TRY(sl_kv_layer_copy(model, l, &kv->layers[l], from, &kv->layers[l], to, 1));
    return SL_OK;
}
