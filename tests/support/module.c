/* SPDX-License-Identifier: MIT */
/* module.c - backend modules as others would write them: built several times, each with one thing wrong (MODULE_...). They see the headers of the
 * contract and link nothing of the library. */
#include "backend.h"

#include <stdlib.h>
#include <string.h>

/* What this one is: meson names one. */
#if !defined(MODULE_REFUSES) && !defined(MODULE_SILENT) && !defined(MODULE_EMPTY) && !defined(MODULE_CONTRACT) && !defined(MODULE_NULL) && !defined(MODULE_SYMBOL)
#error which module?
#endif

typedef struct device { sl_mem mem; } device;

/* Says through the log of whoever opens it what it was given. */
static void say(const sl_backend_options *options, const char *line)
{
    if (options->log && options->log->fn)
        options->log->fn(SL_LOG_WARN, line, options->log->user);
}

static sl_status module_open(void **out, const sl_backend_options *options)
{
#ifdef MODULE_REFUSES
    (void)out;
    say(options, "test module: refused");
    return options->fail(SL_ERR_UNSUPPORTED, "this machine lacks %d things", 3);
#elif defined(MODULE_SILENT)
    (void)out, (void)options, (void)say;      /* gives no reason at all */
    return SL_ERR_UNSUPPORTED;
#else
    device *d = options->mem->alloc(sizeof *d, 64, options->mem->user);
    if (!d)
        return SL_ERR_NOMEM;
    d->mem = *options->mem;
    say(options, options->plan_only ? "test module: opened to plan" : "test module: opened");
    *out = d;
    return SL_OK;
#endif
}

static void module_close(void *handle)
{
    device *d = handle;
    const sl_mem mem = d->mem;
    mem.free(d, sizeof *d, mem.user);
}

static const sl_impl *module_impl(void *handle, size_t index) { return (void)handle, (void)index, NULL; }
static unsigned module_threads(void *handle, unsigned *n_worked) { return (void)handle, *n_worked = 0, 1; }
static uint64_t module_weight_bytes(void *handle, const sl_weight *weight, int in_place, uint64_t *temporary) { return (void)handle, (void)weight, (void)in_place, *temporary = 0; }
static sl_status module_place(void *handle, const sl_weight_source *source, void **out) { return (void)handle, (void)source, *out = NULL, SL_ERR_UNSUPPORTED; }
static void module_unplace(void *handle, void *weight) { (void)handle, (void)weight; }

static sl_status module_alloc(void *handle, size_t bytes, void **memory)
{
    const device *d = handle;
    *memory = d->mem.alloc(bytes, 64, d->mem.user);
    if (*memory)
        memset(*memory, 0, bytes);
    return *memory ? SL_OK : SL_ERR_NOMEM;
}

static void module_free(void *handle, void *memory, size_t bytes)
{
    const device *d = handle;
    d->mem.free(memory, bytes, d->mem.user);
}

static sl_status module_copy(void *handle, void *to, const void *from, size_t bytes) { return (void)handle, memcpy(to, from, bytes), SL_OK; }
static sl_status module_begin(void *handle, const atomic_int *cancel) { return (void)handle, (void)cancel, SL_OK; }
static sl_status module_end(void *handle) { return (void)handle, SL_OK; }

static const sl_backend backend = {
#ifdef MODULE_CONTRACT
    .contract = SL_BACKEND_CONTRACT + 77,
#else
    .contract = SL_BACKEND_CONTRACT,
#endif
    .name = "test", .open = module_open, .close = module_close, .impl = module_impl, .threads = module_threads, .weight_bytes = module_weight_bytes,
    .place = module_place, .unplace = module_unplace, .alloc = module_alloc, .free = module_free, .upload = module_copy, .download = module_copy,
    .begin = module_begin, .end = module_end,
};

#ifdef MODULE_SYMBOL
#define sl_backend_module sl_backend_modul
#endif
SL_API const sl_backend *sl_backend_module(void);
SL_API const sl_backend *sl_backend_module(void)
{
#ifdef MODULE_NULL
    (void)backend;
    return NULL;
#else
    return &backend;
#endif
}
