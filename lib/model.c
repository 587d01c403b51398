/* SPDX-License-Identifier: MIT */
/* model.c - open, bind, plan, place: from files to a model that can compute. */
#include "model.h"

#include "identity.h"
#include "loader.h"
#include "session.h"

#include <stdio.h>
#include <string.h>

/* A terminated copy of a text key, up to its first NUL; "" if it is absent or something else. */
static sl_status copy_text(sl_model *model, const char *key, char **out)
{
    sl_text text = { "", 0 };
    const sl_gguf *gguf = &model->parts.parts[0].gguf;
    if (sl_gguf_find(gguf, key) && sl_gguf_text(gguf, key, &text) != SL_OK)
        text = (sl_text) { "", 0 };
    *out = sl_mem_alloc(&model->mem, text.length + 1, 1);
    if (!*out)
        return SL_ERR_NOMEM;
    memcpy(*out, text.data, text.length);
    return SL_OK;
}

static void count(sl_model *model)
{
    for (size_t p = 0; p < model->parts.n_parts; p++) {
        const sl_gguf *g = &model->parts.parts[p].gguf;
        model->file_bytes += model->parts.parts[p].input.size;
        for (size_t i = 0; i < g->n_tensors; i++)
            model->n_params += g->tensors[i].ne[0] * g->tensors[i].ne[1] * g->tensors[i].ne[2] * g->tensors[i].ne[3];
    }
}

/* ---- placement: "NAME@first-last,NAME" ---- */

typedef struct placement { const char *name; size_t length; int ranged; uint32_t first, last; } placement;

/* Digits at *p, up to `end`; 0 if there are none or too many. */
static int number(const char **p, const char *end, uint32_t *out)
{
    const char *from = *p;
    for (*out = 0; *p < end && **p >= '0' && **p <= '9' && *p - from < 6; ++*p)
        *out = *out * 10 + (uint32_t)(**p - '0');
    return *p > from;
}

static sl_status parse_placement(placement *to, const char *text, size_t length)
{
    const char *at = memchr(text, '@', length), *end = text + length, *p = at ? at + 1 : end;
    *to = (placement) { .name = text, .length = at ? (size_t)(at - text) : length, .ranged = at != NULL };
    if (to->length && (!at || (number(&p, end, &to->first) && p < end && *p++ == '-' && number(&p, end, &to->last) && p == end && to->first <= to->last)))
        return SL_OK;
    return sl_fail(SL_ERR_ARGUMENT, "backend: '%.*s' is not NAME or NAME@first-last", (int)(length < 60 ? length : 60), text);
}

/* Opens the devices that `spec` names and gives every layer its one. */
static sl_status open_devices(sl_model *model, const char *spec, const sl_backend_options *options)
{
    const uint32_t n_layer = model->hp.n_layer;
    int rest = -1;
    spec = spec && *spec ? spec : "cpu";
    model->layer_device = sl_mem_alloc(&model->mem, n_layer, 1);
    if (!model->layer_device)
        return SL_ERR_NOMEM;
    memset(model->layer_device, 0xff, n_layer);
    for (const char *p = spec; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        placement at;
        if (model->n_devices == SL_MAX_DEVICES)
            return sl_fail(SL_ERR_LIMIT, "backend: more than %d of them", SL_MAX_DEVICES);
        SL_TRY(parse_placement(&at, p, strcspn(p, ",")));
        SL_TRY(sl_device_open(&model->devices[model->n_devices], at.name, at.length, options));
        const int d = model->n_devices++;
        if (!at.ranged)
            rest = d;
        else if (at.last >= n_layer)
            return sl_fail(SL_ERR_RANGE, "backend: layer %u of %u", at.last, n_layer);
        for (uint32_t l = at.first; at.ranged && l <= at.last; l++)
            model->layer_device[l] = (uint8_t)d;
    }
    for (uint32_t l = 0; l < n_layer; l++)
        if (model->layer_device[l] == 0xff) {
            if (rest < 0)
                return sl_fail(SL_ERR_ARGUMENT, "backend: layer %u has none; one entry must have no range", l);
            model->layer_device[l] = (uint8_t)rest;
        }
    model->io_device = rest >= 0 ? rest : 0;
    return SL_OK;
}

/* ---- weights ---- */

/* Every operation of a pass must have an implementation: said now, not at the first token. */
static sl_status check_plan(const sl_model *model)
{
    sl_kv kv;
    sl_pictures pictures = { 0 };
    sl_plan plan, seeing, moving;
    size_t arena[SL_MAX_DEVICES];
    const sl_sizes least = { .n_ctx = 1, .n_batch = 1, .n_seq = 1, .n_pages = 1, .n_table = 1 };
    SL_TRY(sl_kv_init(&kv, model, SL_TYPE_F16, 1));
    sl_status status = sl_pictures_init(&pictures, model, SL_TYPE_F16, 1);
    if (status == SL_OK && (status = sl_session_plan(model, &kv, &pictures, &least, &plan, &seeing, &moving, arena)) == SL_OK) {
        sl_plan_free(&plan);
        sl_plan_free(&seeing);
        sl_plan_free(&moving);
    }
    sl_pictures_free(&pictures);
    sl_kv_free(&kv, model);
    return status;
}

static int is_asked(const char *word) { return word && *word && strcmp(word, "auto"); }

/* Options for pictures are of no effect on a model that takes none: said, since the wrong file may be the reason. */
static void warn_of_options(const sl_model *model, const sl_model_options *options)
{
    const char *name = is_asked(options->cross_norm) ? "cross_norm" : is_asked(options->global_gates) ? "global_gates" : NULL;
    if (name && !model->hp.vision.max_tiles)
        sl_log_line(&model->log, SL_LOG_WARN, "%s: of no effect, the model takes no pictures", name);
}

/* Files and options that decide about the numbers. */
static sl_status identify(sl_model *model)
{
    SL_TRY(sl_identity_of_files(&model->identity, &model->mem, &model->parts));
    model->identity = sl_identity_with(model->identity, (uint64_t)model->layout.reorder_norms << 1 | (uint64_t)model->layout.raw_gates);
    for (int d = 0; d < model->n_devices; d++)
        model->identity = sl_identity_with(model->identity, (uint64_t)model->devices[d].float_form | (uint64_t)model->devices[d].backend->numerics << 32);
    return SL_OK;
}

static sl_status load_weights(sl_model *model, const sl_model_options *options, int plan_only)
{
    char quoted[SL_QUOTE_BYTES];
    const sl_gguf *gguf = &model->parts.parts[0].gguf;
    sl_text name;
    sl_status status = sl_gguf_text(gguf, "general.architecture", &name);
    if (status != SL_OK)
        return status;
    model->arch = sl_arch_find(name.data, name.length);
    if (!model->arch)
        return sl_fail(SL_ERR_UNSUPPORTED, "key general.architecture: '%s' is not supported", sl_quote(quoted, name.data, name.length));
    if (model->parts.projector && !model->arch->encode)
        return sl_fail(SL_ERR_UNSUPPORTED, "%s: models of this architecture have no projector file", model->parts.parts[model->parts.projector].input.name);
    if (model->arch->layout)
        SL_TRY(model->arch->layout(model, options));
    SL_TRY(sl_hparams_read(&model->hp, &model->mem, &model->log, gguf, model->arch, model->vocab ? sl_vocab_count(model->vocab) : 0));
    if (!model->hp.n_vocab)
        return sl_fail(SL_ERR_MISSING, "the files have no vocabulary and no vocab_size");
    if (model->arch->read)
        SL_TRY(model->arch->read(model));
    warn_of_options(model, options);
    const sl_backend_options device = { .mem = &model->mem, .log = &model->log, .cpu_level = options->cpu_level, .arith = options->arith,
                                        .n_threads = options->n_threads, .pin = (int)options->pin, .plan_only = plan_only, .fail = sl_fail, .last_error = sl_last_error };
    SL_TRY(open_devices(model, options->backend, &device));
    sl_loader loader = { .model = model, .options = options, .plan_only = plan_only };
    status = sl_loader_open(&loader);
    if (status == SL_OK)
        status = check_plan(model);
    if (status == SL_OK && !plan_only)
        status = identify(model);
    if (status == SL_OK && !plan_only)
        status = sl_loader_place(&loader);
    sl_loader_close(&loader);
    return status;
}

/* Says how the files are laid out although nothing is to be computed. */
static void describe_layout(sl_model *model, const sl_model_options *options)
{
    const sl_arch *arch = sl_arch_find(model->architecture, strlen(model->architecture));
    if (arch && arch->layout && arch->layout(model, options) != SL_OK)
        snprintf(model->layout.sentence, sizeof model->layout.sentence, "not usable: %.480s", sl_last_error());
}

sl_status sl_model_open(sl_model **out, sl_parts *parts, const sl_mem *mem, const sl_model_options *options, int plan_only)
{
    sl_model *model = sl_mem_alloc(mem, 1, sizeof *model);
    if (!model) {
        sl_parts_close(parts, mem);
        return SL_ERR_NOMEM;
    }
    model->mem = *mem;
    model->log = (sl_log) { options->log, options->log_user };
    model->parts = *parts;
    atomic_init(&model->refs, 1);
    count(model);
    sl_status status = copy_text(model, "general.architecture", &model->architecture);
    if (status == SL_OK)
        status = copy_text(model, "general.name", &model->name);
    if (status == SL_OK && options->parts != SL_PARTS_METADATA)
        status = sl_vocab_create(&model->vocab, mem, &model->log, &model->parts.parts[0].gguf, options->pre);
    if (status == SL_OK && options->parts == SL_PARTS_ALL)
        status = load_weights(model, options, plan_only);
    else if (status == SL_OK)
        describe_layout(model, options);
    if (status == SL_OK && options->parts == SL_PARTS_VOCABULARY && !model->vocab)
        status = sl_fail(SL_ERR_MISSING, "the files have no vocabulary");
    if (status != SL_OK)
        sl_model_close(model);
    else {
        if (!options->in_place)
            sl_parts_release_data(&model->parts, mem);
        *out = model;
    }
    return status;
}

void sl_model_close(sl_model *model)
{
    const sl_mem mem = model->mem;
    for (size_t i = 0; i < model->n_placed; i++) {
        const sl_device *d = &model->devices[model->placed[i].device];
        if (model->placed[i].handle)
            d->backend->unplace(d->handle, model->placed[i].handle);
        if (model->placed[i].memory)
            d->backend->free(d->handle, model->placed[i].memory, model->placed[i].bytes);
    }
    for (int d = 0; d < model->n_devices; d++)
        sl_device_close(&model->devices[d], &mem);
    if (model->weights)
        model->arch->free(model->weights, &mem);
    sl_mem_free(&mem, model->placed);
    sl_mem_free(&mem, model->layer_device);
    sl_mem_free(&mem, model->architecture);
    sl_mem_free(&mem, model->name);
    sl_hparams_free(&model->hp, &mem);
    sl_vocab_free(model->vocab);
    sl_parts_close(&model->parts, &mem);
    sl_mem_free(&mem, model);
}
