/* SPDX-License-Identifier: MIT */
/* platform_none.c - the parts of platform.h that a build leaves out: one thread computes, and nothing is read from paths. */
#include "platform.h"

#if !SL_WITH_THREADS

sl_status sl_thread_start(sl_thread **out, const struct sl_mem *mem, void (*fn)(void *arg), void *arg)
{
    (void)mem, (void)fn, (void)arg;
    *out = NULL;
    return sl_fail(SL_ERR_UNSUPPORTED, "threads: left out of this build");
}

void sl_thread_join(sl_thread *thread, const struct sl_mem *mem) { (void)thread, (void)mem; }

sl_status sl_mutex_init(sl_mutex *mutex)
{
    *mutex = 0;
    return SL_OK;
}

void sl_mutex_destroy(sl_mutex *mutex) { (void)mutex; }
void sl_mutex_lock(sl_mutex *mutex) { (void)mutex; }
void sl_mutex_unlock(sl_mutex *mutex) { (void)mutex; }

sl_status sl_cond_init(sl_cond *cond)
{
    *cond = 0;
    return SL_OK;
}

void sl_cond_destroy(sl_cond *cond) { (void)cond; }
void sl_cond_wait(sl_cond *cond, sl_mutex *mutex) { (void)cond, (void)mutex; }
void sl_cond_wait_ms(sl_cond *cond, sl_mutex *mutex, unsigned ms) { (void)cond, (void)mutex, (void)ms; }
void sl_cond_signal(sl_cond *cond) { (void)cond; }
void sl_cond_broadcast(sl_cond *cond) { (void)cond; }
void sl_thread_yield(void) {}

unsigned sl_cpu_count(int logical)
{
    (void)logical;
    return 1;
}

unsigned sl_cpu_order(unsigned *cpus, unsigned most)
{
    (void)cpus, (void)most;
    return 0;
}

void sl_thread_pin(unsigned cpu, sl_affinity *before)
{
    (void)cpu;
    if (before)
        before->known = 0;
}

void sl_thread_unpin(const sl_affinity *before) { (void)before; }

#endif

#if !SL_WITH_FILES

sl_status sl_file_open(sl_file **out, const struct sl_mem *mem, const char *path)
{
    (void)mem, (void)path;
    *out = NULL;
    return sl_fail(SL_ERR_UNSUPPORTED, "files: left out of this build");
}

void sl_file_close(sl_file *file, const struct sl_mem *mem) { (void)file, (void)mem; }

uint64_t sl_file_size(const sl_file *file)
{
    (void)file;
    return 0;
}

uint64_t sl_file_changed(const sl_file *file)
{
    (void)file;
    return 0;
}

sl_status sl_file_read(const sl_file *file, uint64_t offset, void *to, size_t bytes, size_t *got)
{
    (void)file, (void)offset, (void)to, (void)bytes;
    *got = 0;
    return sl_fail(SL_ERR_UNSUPPORTED, "files: left out of this build");
}

sl_status sl_file_map(sl_file *file, const void **data)
{
    (void)file;
    *data = NULL;
    return sl_fail(SL_ERR_UNSUPPORTED, "files: left out of this build");
}

sl_status sl_file_create(sl_file **out, const struct sl_mem *mem, const char *path)
{
    (void)mem, (void)path;
    *out = NULL;
    return sl_fail(SL_ERR_UNSUPPORTED, "files: left out of this build");
}

sl_status sl_file_write(sl_file *file, uint64_t offset, const void *from, size_t bytes)
{
    (void)file, (void)offset, (void)from, (void)bytes;
    return sl_fail(SL_ERR_UNSUPPORTED, "files: left out of this build");
}

sl_status sl_file_replaceable(const char *as)
{
    (void)as;
    return SL_OK;
}

sl_status sl_file_publish(sl_file *file, const struct sl_mem *mem, const char *path, const char *as, const char *keep)
{
    (void)file, (void)mem, (void)path, (void)as, (void)keep;
    return sl_fail(SL_ERR_UNSUPPORTED, "files: left out of this build");
}

void sl_file_remove(const sl_file *file, const char *path) { (void)file, (void)path; }

sl_status sl_module_open(sl_module **out, const struct sl_mem *mem, const char *name)
{
    (void)mem, (void)name;
    *out = NULL;
    return sl_fail(SL_ERR_UNSUPPORTED, "modules: left out of this build");
}

void *sl_module_symbol(sl_module *module, const char *symbol)
{
    (void)module, (void)symbol;
    return NULL;
}

void sl_module_close(sl_module *module, const struct sl_mem *mem) { (void)module, (void)mem; }

#endif
