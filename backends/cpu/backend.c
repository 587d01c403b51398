/* SPDX-License-Identifier: MIT */
/* backend.c - the CPU backend: its best-first list of implementations, opening a device, placing weights, memory. */
#include "cpu.h"

#include <string.h>

/* ---- the list ---- */

/* Implementations by level, best first. X(level, array). The generic array holds the operations that every level shares; the scalar ones end the list. */
#if defined(__x86_64__)
#define CPU_LISTS(X) \
    SL_ROW(LEVEL_AMX, X(CPU_AMX, amx)) SL_ROW(LEVEL_AVX512VNNI, X(CPU_AVX512VNNI, avx512vnni)) SL_ROW(LEVEL_AVX512, X(CPU_AVX512, avx512)) \
    SL_ROW(LEVEL_AVX2, X(CPU_AVX2, avx2)) \
    X(CPU_SCALAR, generic) SL_ROW(LEVEL_SCALAR_FMA, X(CPU_SCALAR_FMA, scalar_fma)) X(CPU_SCALAR, scalar)
#elif defined(__aarch64__)
#define CPU_LISTS(X) \
    SL_ROW(LEVEL_I8MM, X(CPU_I8MM, i8mm)) SL_ROW(LEVEL_DOTPROD, X(CPU_DOTPROD, dotprod)) SL_ROW(LEVEL_NEON, X(CPU_NEON, neon)) X(CPU_SCALAR, generic) X(CPU_SCALAR, scalar)
#else
#define CPU_LISTS(X) X(CPU_SCALAR, generic) X(CPU_SCALAR, scalar)
#endif

#define DECLARE(level, array) extern const sl_impl cpu_impls_##array[]; extern const size_t cpu_n_impls_##array;
CPU_LISTS(DECLARE)
#undef DECLARE

static const cpu_list lists[] = {
#define LIST(level, array) { level, cpu_impls_##array, &cpu_n_impls_##array },
    CPU_LISTS(LIST)
#undef LIST
};

size_t cpu_lists(const cpu_list **out)
{
    *out = lists;
    return sizeof lists / sizeof *lists;
}

static sl_status build_list(cpu_device *dev)
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        n += *lists[i].n;
    dev->impls = sl_mem_alloc(&dev->mem, n, sizeof *dev->impls);
    if (!dev->impls)
        return SL_ERR_NOMEM;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (size_t k = 0; k < *lists[i].n && lists[i].level & dev->levels; k++)
            dev->impls[dev->n_impls++] = &lists[i].impls[k];
    return SL_OK;
}

static const sl_impl *cpu_impl(void *device, size_t index)
{
    const cpu_device *dev = device;
    return index < dev->n_impls ? dev->impls[index] : NULL;
}

/* ---- opening ---- */

/* Levels up to and including the named one, of those that the machine has. */
static sl_status choose_levels(uint32_t *levels, const char *ceiling)
{
    static const struct { const char *name; uint32_t bit; } names[] = {
#define NAME(name, text, bit) { text, 1u << (bit) },
        CPU_LEVELS(NAME)
#undef NAME
    };
    const uint32_t have = cpu_features();
    *levels = 0;
    if (!ceiling || !*ceiling) {
        *levels = cpu_permitted(have);
        return SL_OK;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(ceiling, names[i].name)) {
            const uint32_t top = names[i].bit == CPU_SCALAR ? CPU_SCALAR_FMA : names[i].bit;        /* one source, whichever fma there is */
            *levels = cpu_permitted(have & (2 * top - 1));      /* below the ceiling nothing is asked for */
            if (!(*levels & names[i].bit))
                return sl_fail(SL_ERR_UNSUPPORTED, "cpu level: this machine has no %s", ceiling);
            return SL_OK;
        }
    return sl_fail(SL_ERR_ARGUMENT, "cpu level: there is none called '%.40s'", ceiling);
}

static void cpu_close(void *device)
{
    cpu_device *dev = device;
    const sl_mem mem = dev->mem;
    cpu_pool_free(dev->pool);
    for (size_t i = 0; i < dev->n_rooms; i++)
        sl_mem_pages_free(&mem, dev->rooms[i].base, dev->rooms[i].length);
    sl_mem_free(&mem, dev->rooms);
    sl_mem_free(&mem, dev->segments);
    sl_mem_free(&mem, (void *)dev->impls);
    sl_cond_destroy(&dev->free);
    sl_mutex_destroy(&dev->lock);
    sl_mem_free(&mem, dev);
}

/* Where threads are to stay: more threads than processors share them. */
typedef struct pinning { unsigned *cpus, n; } pinning;

static sl_status pin_worker(void *arg, size_t task, unsigned thread)
{
    const pinning *p = arg;
    (void)task;
    if (thread)
        sl_thread_pin(p->cpus[thread % p->n], NULL);
    return SL_OK;
}

/* The first job of a pool gives each thread a task of its own. */
static sl_status pin_workers(cpu_device *dev)
{
    pinning p = { .cpus = sl_mem_alloc(&dev->mem, dev->n_threads, sizeof *p.cpus) };
    if (!p.cpus)
        return SL_ERR_NOMEM;
    p.n = sl_cpu_order(p.cpus, dev->n_threads);
    dev->pinned = p.n > 0;
    dev->first_cpu = p.cpus[0];
    const sl_status status = p.n ? cpu_parallel(dev, dev->n_threads, pin_worker, &p) : SL_OK;
    sl_mem_free(&dev->mem, p.cpus);
    return status;
}

static void pin_caller(cpu_device *dev)
{
    if (dev->pinned)
        sl_thread_pin(dev->first_cpu, &dev->before);
}

static void unpin_caller(cpu_device *dev)
{
    if (dev->pinned)
        sl_thread_unpin(&dev->before);
}

static sl_status cpu_open(void **device, const sl_backend_options *options)
{
    if (options->arith && *options->arith && strcmp(options->arith, "f32") && strcmp(options->arith, "bf16"))
        return sl_fail(SL_ERR_UNSUPPORTED, "cpu: there is no arithmetic called '%.40s'", options->arith);
    uint32_t levels;
    SL_TRY(choose_levels(&levels, options->cpu_level));
    cpu_device *dev = sl_mem_alloc(options->mem, 1, sizeof *dev);
    if (!dev)
        return SL_ERR_NOMEM;
    dev->mem = *options->mem;
    dev->log = options->log ? *options->log : (sl_log) { 0 };
    dev->levels = levels;
    dev->streams = cpu_streams();
    dev->n_threads = options->n_threads ? options->n_threads : sl_cpu_count(0);
    sl_status status = sl_mutex_init(&dev->lock);
    if (status == SL_OK && (status = sl_cond_init(&dev->free)) != SL_OK)
        sl_mutex_destroy(&dev->lock);
    if (status != SL_OK) {
        sl_mem_free(options->mem, dev);
        return status;
    }
    status = build_list(dev);
    if (status == SL_OK && !options->plan_only)
        status = cpu_pool_create(&dev->pool, &dev->mem, dev->n_threads);
    if (status == SL_OK && dev->pool && options->pin)
        status = pin_workers(dev);
    if (status != SL_OK)
        cpu_close(dev);
    else
        *device = dev;
    return status;
}

static unsigned cpu_threads(void *device, unsigned *n_worked)
{
    cpu_device *dev = device;
    *n_worked = 0;
    return dev->pool ? cpu_pool_threads(dev->pool, n_worked) : dev->n_threads;
}

/* ---- weights ---- */

static uint64_t n_panels(const sl_weight *w) { return (uint64_t)w->n_mat * (uint64_t)((w->n_out + CPU_PANEL - 1) / CPU_PANEL); }

/* Bytes of one thread's buffer: the rows of a panel as they lie in the file. */
static uint64_t buffer_bytes(const sl_weight *w) { return CPU_PANEL * sl_type_row_bytes(sl_type_get(w->type), (size_t)w->n_in); }

static uint64_t cpu_weight_bytes(void *device, const sl_weight *weight, int in_place, uint64_t *temporary)
{
    *temporary = in_place ? 0 : buffer_bytes(weight) * ((cpu_device *)device)->n_threads;
    return in_place ? 0 : n_panels(weight) * cpu_panel_bytes(weight->type, weight->n_in);
}

/* One weight on its way in. */
typedef struct placing {
    const sl_weight_source *source;
    const sl_type_info *type;
    cpu_matrix *matrix;
    uint8_t *base;              /* of its segment */
    uint8_t *buffers;           /* one per thread: 16 rows; NULL when used in place */
    size_t row_bytes;
    uint64_t bytes;             /* of the segment */
    uint64_t n, first, step;    /* panels or pieces; how many of each thread's are done; how many it does in a round */
    uint64_t n_threads;
    sl_status (*place)(const struct placing *p, uint64_t index, unsigned thread);
} placing;

enum { ROUND_BYTES = 32 << 20, PIECE_BYTES = 4 * SL_PACKED_BLOCK };

static sl_status check_rows(const placing *p, uint64_t row, const uint8_t *rows, uint64_t n)
{
    const int64_t blocks = p->source->weight->n_in / p->type->block_values;
    int64_t bad = p->type->check(rows, (int64_t)n * blocks);
    return bad < 0 ? SL_OK : sl_fail(SL_ERR_NONFINITE, "row %llu, block %llu: a number is infinite or not a number",
                                     (unsigned long long)(row + (uint64_t)(bad / blocks)), (unsigned long long)(bad % blocks));
}

/* Reads, checks and packs one panel; or only checks 16 rows that are used in place. */
static sl_status place_panel(const placing *p, uint64_t panel, unsigned thread)
{
    const sl_weight *w = p->source->weight;
    const uint64_t per_matrix = (uint64_t)((w->n_out + CPU_PANEL - 1) / CPU_PANEL), at = panel % per_matrix * CPU_PANEL;
    const uint64_t n = (uint64_t)w->n_out - at < CPU_PANEL ? (uint64_t)w->n_out - at : CPU_PANEL;
    const uint64_t row = panel / per_matrix * (uint64_t)w->n_out + at;
    if (!p->buffers)
        return check_rows(p, row, p->base + row * p->row_bytes, n);
    uint8_t *rows = p->buffers + (size_t)thread * CPU_PANEL * p->row_bytes;
    SL_TRY(p->source->read(row * p->row_bytes, rows, n * p->row_bytes, p->source->user));
    SL_TRY(check_rows(p, row, rows, n));
    cpu_panel_pack(w->type, w->n_in, rows, p->row_bytes, (int)n, p->base + panel * p->matrix->stride);
    return SL_OK;
}

/* Packed before: a piece of it. The reader checks its sums while it is still in the cache. */
static sl_status take_piece(const placing *p, uint64_t piece, unsigned thread)
{
    const uint64_t offset = piece * PIECE_BYTES, left = p->bytes - offset;
    (void)thread;
    return p->source->packed(offset, p->base + offset, left < PIECE_BYTES ? (size_t)left : PIECE_BYTES, p->source->user);
}

/* Task t of a round: of n panels or pieces each of T threads has the same share as of the panels of a product (threads.h), so that it is the first to touch the
 * memory that it will read with every token, which the system therefore takes from near it. */
static sl_status place_next(void *arg, size_t task, unsigned thread)
{
    const placing *p = arg;
    const uint64_t owner = task / p->step, begin = (p->n * owner + p->n_threads - 1) / p->n_threads, end = (p->n * (owner + 1) + p->n_threads - 1) / p->n_threads;
    const uint64_t index = begin + p->first + task % p->step;
    return index < end ? p->place(p, index, thread) : SL_OK;
}

/* Everything, in rounds of about 32 MiB, so that progress is told and cancelling works. */
static sl_status place_all(cpu_device *dev, placing *p)
{
    const sl_weight *w = p->source->weight;
    const uint64_t share = (p->n + dev->n_threads - 1) / dev->n_threads, each = p->bytes / p->n, total = (uint64_t)w->n_mat * (uint64_t)w->n_out * p->row_bytes;
    p->n_threads = dev->n_threads;
    p->step = ROUND_BYTES / each / dev->n_threads + 1 < share ? ROUND_BYTES / each / dev->n_threads + 1 : share;
    for (p->first = 0; p->first < share; p->first += p->step) {
        sl_status status = cpu_parallel(dev, p->step * dev->n_threads, place_next, p);
        for (uint64_t i = 0; status == SL_ERR_NONFINITE && i < p->n; i++)      /* the first bad row, not the one that was found first */
            SL_TRY(p->place(p, i, 0));
        SL_TRY(status);
        const uint64_t done = p->first + p->step;
        SL_TRY(p->source->progress(done < share ? total / share * done : total, p->source->user));
    }
    return SL_OK;
}

static sl_status add_room(cpu_device *dev, size_t bytes)
{
    SL_TRY(sl_mem_grow(&dev->mem, &dev->rooms, dev->n_rooms + 1, sizeof *dev->rooms));
    const cpu_room room = { sl_mem_pages(&dev->mem, bytes), bytes, 0 };
    if (!room.base)
        return SL_ERR_NOMEM;
    dev->rooms[dev->n_rooms++] = room;
    return SL_OK;
}

/* Nothing is touched here: the threads that read a weight with every token are to be the first. */
static sl_status cpu_reserve(void *device, uint64_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return sl_fail(SL_ERR_OVERFLOW, "%llu bytes of weights do not fit the address space", (unsigned long long)bytes);
    return bytes ? add_room(device, (size_t)bytes) : SL_OK;
}

/* The next `bytes`, whole lines (as panels are), of the last room, or of one of their own. */
static sl_status take_room(cpu_device *dev, size_t bytes, uint8_t **base)
{
    if (!dev->n_rooms || dev->rooms[dev->n_rooms - 1].length - dev->rooms[dev->n_rooms - 1].used < bytes)
        SL_TRY(add_room(dev, bytes));
    cpu_room *room = &dev->rooms[dev->n_rooms - 1];
    *base = room->base + room->used;
    room->used += bytes;
    return SL_OK;
}

static sl_status add_segment(cpu_device *dev, const sl_weight_source *source, size_t bytes, size_t *index)
{
    SL_TRY(sl_mem_grow(&dev->mem, &dev->segments, dev->n_segments + 1, sizeof *dev->segments));
    cpu_segment segment = { (uint8_t *)source->in_place, bytes, source->writable, source->writable ? CPU_ORIGIN_CALLER : CPU_ORIGIN_FLASH };
    if (!source->in_place) {
        segment.writable = 1, segment.origin = CPU_ORIGIN_LIBRARY;
        SL_TRY(take_room(dev, bytes, &segment.base));
    }
    *index = dev->n_segments;
    dev->segments[dev->n_segments++] = segment;
    return SL_OK;
}

/* The last segment goes: nothing was placed in it, and its room is the next one's. */
static void drop_segment(cpu_device *dev)
{
    const cpu_segment *s = &dev->segments[--dev->n_segments];
    if (s->origin == CPU_ORIGIN_LIBRARY)
        dev->rooms[dev->n_rooms - 1].used -= s->length;
}

static sl_status fill(cpu_device *dev, placing *p)
{
    p->base = dev->segments[p->matrix->segment].base;
    p->n = p->source->packed ? (p->bytes + PIECE_BYTES - 1) / PIECE_BYTES : n_panels(p->source->weight);
    p->place = p->source->packed ? take_piece : place_panel;
    if (!p->source->packed && p->matrix->packed && !(p->buffers = sl_mem_alloc(&dev->mem, dev->n_threads, buffer_bytes(p->source->weight))))
        return SL_ERR_NOMEM;
    const sl_status status = place_all(dev, p);
    sl_mem_free(&dev->mem, p->buffers);
    return status;
}

static sl_status cpu_place(void *device, const sl_weight_source *source, void **handle)
{
    cpu_device *dev = device;
    const sl_weight *w = source->weight;
    placing p = { .source = source, .type = sl_type_get(w->type) };
    p.row_bytes = sl_type_row_bytes(p.type, (size_t)w->n_in);
    p.matrix = sl_mem_alloc(&dev->mem, 1, sizeof *p.matrix);
    if (!p.matrix)
        return SL_ERR_NOMEM;
    *p.matrix = (cpu_matrix) { .type = w->type, .n_in = w->n_in, .n_out = w->n_out, .n_mat = w->n_mat, .packed = !source->in_place };
    p.matrix->stride = source->in_place ? p.row_bytes : cpu_panel_bytes(w->type, w->n_in);
    uint64_t temporary;
    p.bytes = source->in_place ? (uint64_t)w->n_mat * (uint64_t)w->n_out * p.row_bytes : cpu_weight_bytes(dev, w, 0, &temporary);
    sl_status status = p.bytes > SIZE_MAX / 2 ? sl_fail(SL_ERR_OVERFLOW, "%llu bytes do not fit the address space", (unsigned long long)p.bytes)
                                              : add_segment(dev, source, (size_t)p.bytes, &p.matrix->segment);
    if (status == SL_OK) {
        pin_caller(dev);
        status = fill(dev, &p);
        unpin_caller(dev);
        if (status != SL_OK)
            drop_segment(dev);
    }
    if (status != SL_OK)
        sl_mem_free(&dev->mem, p.matrix);
    else
        *handle = p.matrix;
    return status;
}

static const void *cpu_packed(void *device, void *handle, size_t *bytes)
{
    const cpu_segment *s = &((cpu_device *)device)->segments[((cpu_matrix *)handle)->segment];
    *bytes = s->length;
    return s->base;
}

static void cpu_unplace(void *device, void *handle) { sl_mem_free(&((cpu_device *)device)->mem, handle); }

/* ---- passes ---- */

static sl_status cpu_begin(void *device, const atomic_int *cancel)
{
    enum { LOOK_MS = 10 };      /* one that waits for its turn can be cancelled as well as one that computes */
    cpu_device *dev = device;
    sl_status status = SL_OK;
    sl_mutex_lock(&dev->lock);
    while (dev->taken && status == SL_OK) {
        sl_cond_wait_ms(&dev->free, &dev->lock, LOOK_MS);
        if (cancel && atomic_load(cancel))
            status = sl_fail(SL_ERR_CANCELLED, "cancelled");
    }
    if (status == SL_OK) {
        dev->taken = 1;
        cpu_pool_cancel(dev->pool, cancel);
        pin_caller(dev);
    }
    sl_mutex_unlock(&dev->lock);
    return status;
}

/* 1, and the pool is the caller's until cpu_end, unless another pass has it. */
static int take_turn(cpu_device *dev)
{
    sl_mutex_lock(&dev->lock);
    const int free = !dev->taken;
    dev->taken = 1;
    sl_mutex_unlock(&dev->lock);
    if (free)
        pin_caller(dev);
    return free;
}

static sl_status cpu_end(void *device)
{
    cpu_device *dev = device;
    cpu_pool_cancel(dev->pool, NULL);
    unpin_caller(dev);
    sl_mutex_lock(&dev->lock);
    dev->taken = 0;
    sl_cond_signal(&dev->free);
    sl_mutex_unlock(&dev->lock);
    return SL_OK;
}

/* ---- memory ---- */

enum { ZERO_BYTES = 1 << 20 };

typedef struct zeroing { char *memory; size_t bytes; } zeroing;

static sl_status zero_piece(void *arg, size_t task, unsigned thread)
{
    const zeroing *z = arg;
    const size_t at = task * ZERO_BYTES;
    (void)thread;
    memset(z->memory + at, 0, z->bytes - at < ZERO_BYTES ? z->bytes - at : ZERO_BYTES);
    return SL_OK;
}

/* Large memory is touched first by all threads in turn, so that its pages are spread over what the machine has; unless they are busy with another session. */
static sl_status cpu_alloc(void *device, size_t bytes, void **memory)
{
    cpu_device *dev = device;
    *memory = sl_mem_pages(&dev->mem, bytes);
    if (!*memory)
        return SL_ERR_NOMEM;
    zeroing z = { *memory, bytes };
    const int shared = bytes >= 4 * (size_t)ZERO_BYTES && dev->pool && take_turn(dev);
    if (!shared)
        memset(*memory, 0, bytes);
    const sl_status status = shared ? cpu_parallel(dev, bytes / ZERO_BYTES + 1, zero_piece, &z) : SL_OK;
    if (shared)
        (void)cpu_end(dev);
    if (status != SL_OK)
        sl_mem_pages_free(&dev->mem, *memory, bytes);
    return status;
}

static void cpu_free(void *device, void *memory, size_t bytes) { sl_mem_pages_free(&((cpu_device *)device)->mem, memory, bytes); }

static sl_status cpu_copy(void *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
    return SL_OK;
}

const sl_backend sl_backend_cpu = {
    .contract = SL_BACKEND_CONTRACT, .name = "cpu", .open = cpu_open, .close = cpu_close, .impl = cpu_impl, .threads = cpu_threads,
    .weight_bytes = cpu_weight_bytes, .reserve = cpu_reserve, .place = cpu_place, .unplace = cpu_unplace, .packed = cpu_packed, .layout = CPU_LAYOUT,
    .alloc = cpu_alloc, .free = cpu_free, .upload = cpu_copy, .download = cpu_copy, .begin = cpu_begin, .end = cpu_end,
};
