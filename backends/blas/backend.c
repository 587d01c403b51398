/* SPDX-License-Identifier: MIT */
/* backend.c - the module's one symbol, and the CPU backend behind it: every entry is handed on, and what it fails with is told to the host. */
#include "blas.h"

#include <cblas.h>
#include <string.h>

/* ---- the list ---- */

static int row_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    const sl_impl *cpu = ((const blas_row *)(const void *)self)->cpu;
    return cpu->accepts(cpu, ((const blas_device *)device)->cpu, args);
}

static size_t row_scratch(const sl_impl *self, void *device, const sl_op_args *args)
{
    const sl_impl *cpu = ((const blas_row *)(const void *)self)->cpu;
    return cpu->scratch(cpu, ((const blas_device *)device)->cpu, args);
}

static sl_status row_run(const sl_impl *self, void *device, const sl_op_args *args)
{
    const blas_device *dev = device;
    const sl_impl *cpu = ((const blas_row *)(const void *)self)->cpu;
    return blas_tell(dev, cpu->run(cpu, dev->cpu, args));
}

/* The CPU's list, row by row. */
static sl_status build_list(blas_device *dev)
{
    const sl_impl *cpu;
    while ((cpu = sl_backend_cpu.impl(dev->cpu, dev->n_rows)) != NULL) {
        SL_TRY(sl_mem_grow(&dev->mem, &dev->rows, dev->n_rows + 1, sizeof *dev->rows));
        blas_row *row = &dev->rows[dev->n_rows++];
        *row = (blas_row) { *cpu, cpu };
        row->impl.accepts = row_accepts;
        row->impl.scratch = cpu->scratch ? row_scratch : NULL;
        row->impl.run = row_run;
        if (blas_takes(cpu)) {
            row->impl.label = blas_label(cpu);
            row->impl.scratch = blas_matmul_scratch;
            row->impl.run = blas_matmul_run;
        }
    }
    return SL_OK;
}

static const sl_impl *blas_impl(void *device, size_t index)
{
    const blas_device *dev = device;
    return index < dev->n_rows ? &dev->rows[index].impl : NULL;
}

/* ---- opening ---- */

static void blas_close(void *device)
{
    blas_device *dev = device;
    const sl_mem mem = dev->mem;
    if (dev->cpu)
        sl_backend_cpu.close(dev->cpu);
    sl_mem_free(&mem, dev->rows);
    sl_mem_free(&mem, dev);
}

static sl_status open_cpu(blas_device *dev, const sl_backend_options *options)
{
    void *cpu;
    SL_TRY(sl_backend_cpu.open(&cpu, options));
    dev->cpu = cpu;
    return build_list(dev);
}

static sl_status blas_open(void **device, const sl_backend_options *options)
{
    if (options->arith && !strcmp(options->arith, "bf16"))
        return options->fail(SL_ERR_UNSUPPORTED, "products in bf16 arithmetic are not OpenBLAS's: they are made by cpu");
    if (openblas_get_parallel())
        return options->fail(SL_ERR_UNSUPPORTED, "this OpenBLAS starts threads of its own (%s); its build without threads is needed", openblas_get_config());
    blas_device *dev = sl_mem_alloc(options->mem, 1, sizeof *dev);
    if (!dev)
        return options->fail(SL_ERR_NOMEM, "%s", sl_last_error());
    dev->mem = *options->mem;
    dev->fail = options->fail;
    dev->last_error = options->last_error;
    const sl_status status = open_cpu(dev, options);
    if (status == SL_OK) {
        *device = dev;
        return SL_OK;
    }
    blas_tell(dev, status);
    blas_close(dev);
    return status;
}

static unsigned blas_threads(void *device, unsigned *n_worked) { return sl_backend_cpu.threads(((blas_device *)device)->cpu, n_worked); }

/* ---- weights ---- */

static uint64_t blas_weight_bytes(void *device, const sl_weight *weight, int in_place, uint64_t *temporary)
{
    return sl_backend_cpu.weight_bytes(((blas_device *)device)->cpu, weight, in_place, temporary);
}

static sl_status blas_reserve(void *device, uint64_t bytes)
{
    const blas_device *dev = device;
    return blas_tell(dev, sl_backend_cpu.reserve(dev->cpu, bytes));
}

/* The host's functions, whose sentence is the host's: it becomes the module's, which the pool carries from thread to thread. */
typedef struct from_host { const sl_weight_source *source; const blas_device *device; } from_host;

static sl_status told(const from_host *h, sl_status status) { return status == SL_OK ? SL_OK : sl_fail(status, "%s", h->device->last_error()); }

static sl_status host_read(uint64_t offset, void *to, size_t bytes, void *user)
{
    const from_host *h = user;
    return told(h, h->source->read(offset, to, bytes, h->source->user));
}

static sl_status host_packed(uint64_t offset, void *to, size_t bytes, void *user)
{
    const from_host *h = user;
    return told(h, h->source->packed(offset, to, bytes, h->source->user));
}

static sl_status host_progress(uint64_t done, void *user)
{
    const from_host *h = user;
    return told(h, h->source->progress(done, h->source->user));
}

static sl_status blas_place(void *device, const sl_weight_source *source, void **handle)
{
    const blas_device *dev = device;
    from_host host = { source, dev };
    sl_weight_source s = *source;
    s.user = &host;
    s.read = source->read ? host_read : NULL;
    s.packed = source->packed ? host_packed : NULL;
    s.progress = host_progress;
    return blas_tell(dev, sl_backend_cpu.place(dev->cpu, &s, handle));
}

static void blas_unplace(void *device, void *handle) { sl_backend_cpu.unplace(((blas_device *)device)->cpu, handle); }
static const void *blas_packed(void *device, void *handle, size_t *bytes) { return sl_backend_cpu.packed(((blas_device *)device)->cpu, handle, bytes); }

/* ---- memory and passes ---- */

static sl_status blas_alloc(void *device, size_t bytes, void **memory)
{
    const blas_device *dev = device;
    return blas_tell(dev, sl_backend_cpu.alloc(dev->cpu, bytes, memory));
}

static void blas_free(void *device, void *memory, size_t bytes) { sl_backend_cpu.free(((blas_device *)device)->cpu, memory, bytes); }
static sl_status blas_copy(void *device, void *to, const void *from, size_t bytes) { return (void)device, memcpy(to, from, bytes), SL_OK; }

static sl_status blas_begin(void *device, const atomic_int *cancel)
{
    const blas_device *dev = device;
    return blas_tell(dev, sl_backend_cpu.begin(dev->cpu, cancel));
}

static sl_status blas_end(void *device)
{
    const blas_device *dev = device;
    return blas_tell(dev, sl_backend_cpu.end(dev->cpu));
}

/* The layout is the CPU's, so files of packed weights serve both. */
static const sl_backend backend = {
    .contract = SL_BACKEND_CONTRACT, .name = "blas", .numerics = 1, .open = blas_open, .close = blas_close, .impl = blas_impl, .threads = blas_threads,
    .weight_bytes = blas_weight_bytes, .reserve = blas_reserve, .place = blas_place, .unplace = blas_unplace, .packed = blas_packed, .layout = CPU_LAYOUT,
    .alloc = blas_alloc, .free = blas_free, .upload = blas_copy, .download = blas_copy, .begin = blas_begin, .end = blas_end,
};

SL_API const sl_backend *sl_backend_module(void);
SL_API const sl_backend *sl_backend_module(void) { return &backend; }
