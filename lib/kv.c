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

sl_status sl_kv_init(sl_kv *kv, const sl_model *model, sl_type type, uint32_t n_ctx)
{
    const sl_hparams *hp = &model->hp;
    const size_t element = type == SL_TYPE_F32 ? 4 : 2;
    *kv = (sl_kv) { .n_pages = ((int64_t)n_ctx + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS };
    kv->layers = sl_mem_alloc(&model->mem, hp->n_layer, sizeof *kv->layers);
    if (!kv->layers)
        return SL_ERR_NOMEM;
    sl_status status = SL_OK;
    for (uint32_t l = 0; status == SL_OK && l < hp->n_layer; l++) {
        status = cache_tensor(&kv->layers[l].k, type, element, SL_PAGE_KEYS, hp->d_head, hp->n_head_kv[l], kv->n_pages, &kv->bytes);
        if (status == SL_OK)
            status = cache_tensor(&kv->layers[l].v, type, element, hp->d_head, SL_PAGE_KEYS, hp->n_head_kv[l], kv->n_pages, &kv->bytes);
    }
    if (status != SL_OK)
        sl_kv_free(kv, model);
    return status;
}

static size_t tensor_bytes(const sl_tensor *t) { return t->stride[3] * (size_t)t->ne[3]; }

sl_status sl_kv_alloc(sl_kv *kv, const sl_model *model)
{
    for (uint32_t l = 0; l < model->hp.n_layer; l++) {
        const sl_device *d = &model->devices[model->layer_device[l]];
        SL_TRY(d->backend->alloc(d->handle, tensor_bytes(&kv->layers[l].k), &kv->layers[l].k.data));
        SL_TRY(d->backend->alloc(d->handle, tensor_bytes(&kv->layers[l].v), &kv->layers[l].v.data));
    }
    return SL_OK;
}

void sl_kv_free(sl_kv *kv, const sl_model *model)
{
    for (uint32_t l = 0; kv->layers && l < model->hp.n_layer; l++) {
        const sl_device *d = &model->devices[model->layer_device[l]];
        if (kv->layers[l].k.data)       /* NULL: only planned */
            d->backend->free(d->handle, kv->layers[l].k.data, tensor_bytes(&kv->layers[l].k));
        if (kv->layers[l].v.data)
            d->backend->free(d->handle, kv->layers[l].v.data, tensor_bytes(&kv->layers[l].v));
    }
    sl_mem_free(&model->mem, kv->layers);
    kv->layers = NULL;
}
