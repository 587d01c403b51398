/* SPDX-License-Identifier: MIT */
/* kv.c - shapes and memory of the cache. */
#include "kv.h"

#include <string.h>

sl_status sl_kv_type(sl_type *type, const char *name)
{
    static const struct { const char *name; sl_type type; } types[] = { { "f16", SL_TYPE_F16 }, { "f32", SL_TYPE_F32 } };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!name || !*name || !strcmp(name, types[i].name)) {
            *type = types[i].type;
            return SL_OK;
        }
    return sl_fail(SL_ERR_UNSUPPORTED, "cache type: there is none called '%.40s'", name);
}

/* [n0, n1, n2, n3] without memory; adds its bytes to *total. */
static sl_status cache_tensor(sl_tensor *t, sl_type type, size_t element, int64_t n0, int64_t n1, int64_t n2, int64_t n3, uint64_t *total)
{
    size_t bytes = element;
    *t = (sl_tensor) { .type = type, .ne = { n0, n1, n2, n3 } };
    for (int i = 0; i < 4; i++) {
        t->stride[i] = bytes;
        if (sl_mul(bytes, (size_t)t->ne[i], &bytes))
            return sl_fail(SL_ERR_OVERFLOW, "cache: %lld pages do not fit the address space", (long long)n3);
    }
    return sl_add64(*total, bytes, total) || *total > SIZE_MAX / 2 ? sl_fail(SL_ERR_OVERFLOW, "cache: %lld pages do not fit the address space", (long long)n3) : SL_OK;
}

sl_status sl_kv_layer_shape(sl_kv_layer *layer, const sl_hparams *hp, uint32_t l, sl_type type, int64_t n_pages, uint64_t *bytes)
{
    const size_t element = type == SL_TYPE_F32 ? 4 : 2;
    SL_TRY(cache_tensor(&layer->k, type, element, SL_PAGE_KEYS, hp->d_head, hp->n_head_kv[l], n_pages, bytes));
    return cache_tensor(&layer->v, type, element, hp->d_head, SL_PAGE_KEYS, hp->n_head_kv[l], n_pages, bytes);
}

static size_t tensor_bytes(const sl_tensor *t) { return t->stride[3] * (size_t)t->ne[3]; }

sl_status sl_kv_layer_alloc(sl_kv_layer *layer, const sl_model *model, uint32_t l)
{
    const sl_device *d = &model->devices[model->layer_device[l]];
    SL_TRY(d->backend->alloc(d->handle, tensor_bytes(&layer->k), &layer->k.data));
    return d->backend->alloc(d->handle, tensor_bytes(&layer->v), &layer->v.data);
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
static int has_cache(const sl_model *model, uint32_t l) { return !model->hp.cross || !model->hp.cross[l]; }

sl_status sl_kv_init(sl_kv *kv, const sl_model *model, sl_type type, uint32_t n_ctx)
{
    const sl_hparams *hp = &model->hp;
    *kv = (sl_kv) { .n_pages = ((int64_t)n_ctx + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS };
    kv->layers = sl_mem_alloc(&model->mem, hp->n_layer, sizeof *kv->layers);
    if (!kv->layers)
        return SL_ERR_NOMEM;
    sl_status status = SL_OK;
    for (uint32_t l = 0; status == SL_OK && l < hp->n_layer; l++)
        if (has_cache(model, l))
            status = sl_kv_layer_shape(&kv->layers[l], hp, l, type, kv->n_pages, &kv->bytes);
    if (status != SL_OK)
        sl_kv_free(kv, model);
    return status;
}

sl_status sl_kv_alloc(sl_kv *kv, const sl_model *model)
{
    for (uint32_t l = 0; l < model->hp.n_layer; l++)
        if (has_cache(model, l))
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
