/* SPDX-License-Identifier: MIT */
/* backend.c - the table of compiled-in backends, and the loader of modules. */
#include "backend.h"

#include "platform.h"

#include <stdio.h>
#include <string.h>

extern const sl_backend sl_backend_cpu;

/* Compiled in, by name. */
static const sl_backend *const builtin[] = { SL_ROW(BACKEND_CPU, &sl_backend_cpu, ) NULL };

/* Backends that live in modules of their own, and the file that has them. X-list row: name, file. */
#define MODULES(X) SL_ROW(BACKEND_BLAS, X("blas", "libspacellama-blas.so")) SL_ROW(BACKEND_CUDA, X("cuda", "libspacellama-cuda.so"))
static const struct { const char *name, *file; } modules[] = {
#define MODULE(name, file) { name, file },
    MODULES(MODULE)
#undef MODULE
    { NULL, NULL }
};

const char *sl_op_name(sl_op op)
{
    static const char *const names[] = {
#define NAME(name, stem) #stem,
        SL_OPS(NAME)
#undef NAME
    };
    return (unsigned)op < SL_OP_COUNT ? names[op] : "unknown";
}

static sl_status module_backend(sl_device *device, const sl_mem *mem, const char *file)
{
    SL_TRY(sl_module_open(&device->module, mem, file));
    const sl_backend *(*entry)(void);
    void *symbol = sl_module_symbol(device->module, SL_BACKEND_SYMBOL);
    if (!symbol)
        return sl_fail(SL_ERR_BACKEND, "%s: no symbol " SL_BACKEND_SYMBOL, file);
    memcpy(&entry, &symbol, sizeof entry);
    device->backend = entry();
    if (!device->backend || device->backend->contract != SL_BACKEND_CONTRACT)
        return sl_fail(SL_ERR_BACKEND, "%s: built for backend contract %u, this library has %u", file,
                       device->backend ? device->backend->contract : 0, SL_BACKEND_CONTRACT);
    return SL_OK;
}

static sl_status find(sl_device *device, const char *name, size_t length, const sl_mem *mem)
{
    for (size_t i = 0; builtin[i]; i++)
        if (strlen(builtin[i]->name) == length && !memcmp(builtin[i]->name, name, length)) {
            device->backend = builtin[i];
            return SL_OK;
        }
    for (size_t i = 0; modules[i].name; i++)
        if (strlen(modules[i].name) == length && !memcmp(modules[i].name, name, length))
            return module_backend(device, mem, modules[i].file);
    if (!memchr(name, '/', length))
        return sl_fail(SL_ERR_UNSUPPORTED, "backend: there is none called '%.*s'", (int)(length < 60 ? length : 60), name);
    char *path = sl_mem_alloc(mem, length + 1, 1);
    if (!path)
        return SL_ERR_NOMEM;
    memcpy(path, name, length);
    sl_status status = module_backend(device, mem, path);
    sl_mem_free(mem, path);
    return status;
}

sl_status sl_device_open(sl_device *device, const char *name, size_t name_length, const sl_backend_options *options)
{
    *device = (sl_device) { 0 };
    sl_status status = find(device, name, name_length, options->mem);
    if (status == SL_OK && device->module) {
        char place[256];
        snprintf(place, sizeof place, "backend %.*s", (int)(name_length < 200 ? name_length : 200), name);
        sl_fail(SL_OK, "the module opened no device");          /* stands if it gives no reason of its own */
        status = sl_fail_in(device->backend->open(&device->handle, options), place);
    } else if (status == SL_OK)
        status = device->backend->open(&device->handle, options);
    if (status == SL_OK)
        device->float_form = options->arith && !strcmp(options->arith, "bf16") ? SL_ACT_B16 : SL_ACT_F32;
    else
        sl_device_close(device, options->mem);
    return status;
}

sl_act_form sl_device_form(const sl_device *device, sl_type type)
{
    const sl_act_form form = sl_type_get((uint32_t)type)->form;
    return form == SL_ACT_F32 ? device->float_form : form;
}

void sl_device_close(sl_device *device, const sl_mem *mem)
{
    if (device->handle)
        device->backend->close(device->handle);
    if (device->module)
        sl_module_close(device->module, mem);
    *device = (sl_device) { 0 };
}
