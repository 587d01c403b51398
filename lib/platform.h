/* SPDX-License-Identifier: MIT */
/* platform.h - everything that an operating system gives: threads, clock, memory, files, modules. platform_posix*.c implement it;
 * platform_none.c stands in for the parts that a build leaves out (-Dthreads=disabled; -Dfiles=disabled, which leaves out modules too):
 * there the calls answer SL_ERR_UNSUPPORTED. Sentences here name no file: callers put its name in front with sl_fail_in. */
#ifndef SL_PLATFORM_H
#define SL_PLATFORM_H

#include "rows.h"
#include "status.h"

/* 0, or undefined (= 1), like every other switch. */
#ifndef SL_WITH_THREADS
#define SL_WITH_THREADS 1
#endif
#ifndef SL_WITH_FILES
#define SL_WITH_FILES 1
#endif

#if SL_WITH_THREADS
#include <pthread.h>
#define SL_THREAD_LOCAL _Thread_local
typedef pthread_mutex_t sl_mutex;
#define SL_MUTEX_READY PTHREAD_MUTEX_INITIALIZER     /* for one that is never destroyed */
typedef pthread_cond_t sl_cond;
#else
#define SL_THREAD_LOCAL
typedef int sl_mutex;
#define SL_MUTEX_READY 0
typedef int sl_cond;
#endif

/* ---- threads ---- */
typedef struct sl_thread sl_thread;
struct sl_mem;
/* Runs fn(arg) on a new thread with all signals blocked; SL_ERR_NOMEM or SL_ERR_UNSUPPORTED if there can be none. */
sl_status sl_thread_start(sl_thread **out, const struct sl_mem *mem, void (*fn)(void *arg), void *arg);
void sl_thread_join(sl_thread *thread, const struct sl_mem *mem);       /* waits, then frees */
sl_status sl_mutex_init(sl_mutex *mutex);
void sl_mutex_destroy(sl_mutex *mutex);
void sl_mutex_lock(sl_mutex *mutex);
void sl_mutex_unlock(sl_mutex *mutex);
sl_status sl_cond_init(sl_cond *cond);
void sl_cond_destroy(sl_cond *cond);
void sl_cond_wait(sl_cond *cond, sl_mutex *mutex);
void sl_cond_wait_ms(sl_cond *cond, sl_mutex *mutex, unsigned ms);     /* the same, but no longer than that; why it returned is not said */
void sl_cond_signal(sl_cond *cond);         /* wakes one */
void sl_cond_broadcast(sl_cond *cond);      /* wakes all */
void sl_thread_yield(void);             /* lets another thread run */
static inline void sl_cpu_relax(void)   /* inside a spin loop */
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}
/* Processors the process may use: physical cores within affinity and cgroup quota, at least 1. `logical` 1: hyper-threads count.
 * Without files only affinity is known. */
unsigned sl_cpu_count(int logical);
/* The processors that the calling thread may run on, in the order in which threads are best put on them: one of each physical core, then their siblings.
 * Writes `most` at most and returns how many it wrote; 0: unknown here. */
unsigned sl_cpu_order(unsigned *cpus, unsigned most);
/* Keeps the calling thread on one processor, until unpin gives it back what it had. Where the system refuses, nothing changes. */
typedef struct sl_affinity { uint64_t bits[128]; int known; } sl_affinity;
void sl_thread_pin(unsigned cpu, sl_affinity *before);         /* before: NULL is fine */
void sl_thread_unpin(const sl_affinity *before);

/* ---- clock ---- */
uint64_t sl_clock_ns(void);             /* monotonic; 0 where there is no clock */

/* ---- memory: the default allocator ---- */
void *sl_os_alloc(size_t bytes, size_t alignment, void *user);      /* huge pages are asked for from 4 MiB up */
void sl_os_free(void *block, size_t bytes, void *user);

/* ---- files ---- */
typedef struct sl_file sl_file;
sl_status sl_file_open(sl_file **out, const struct sl_mem *mem, const char *path);         /* for reading; what is no regular file or block device is SL_ERR_IO */
void sl_file_close(sl_file *file, const struct sl_mem *mem);                               /* NULL is fine */
uint64_t sl_file_size(const sl_file *file);
uint64_t sl_file_changed(const sl_file *file);          /* when its bytes last changed before it was opened: nanoseconds of some clock; 0 if unknown */
/* Up to `bytes` bytes at `offset`: short counts are retried; *got < bytes only at the end of the file. Any thread. */
sl_status sl_file_read(const sl_file *file, uint64_t offset, void *to, size_t bytes, size_t *got);
sl_status sl_file_map(sl_file *file, const void **data);                /* whole file, private, read only; unmapped by close. One thread at a time */

/* Writing; output.h is what the library writes with.
 * Opens an empty file, made if it is not there, that nobody else has open in this way: SL_ERR_STATE while somebody has (the lock goes with the process, so a
 * writer that died is in nobody's way). Links, files of other users and files with other names are refused with SL_ERR_IO. */
sl_status sl_file_create(sl_file **out, const struct sl_mem *mem, const char *path);
sl_status sl_file_write(sl_file *file, uint64_t offset, const void *from, size_t bytes);       /* short counts are retried */
/* Gives the created file, whose path is `path`, the name `as` (in the same folder), in the place of what has it: in one step, after its bytes are on the
 * disk; returns when the name is, too. What had the name gets the name `keep` before, if that is not NULL, and its own one back if the rest fails. */
sl_status sl_file_publish(sl_file *file, const struct sl_mem *mem, const char *path, const char *as, const char *keep);
sl_status sl_file_replaceable(const char *as);     /* SL_ERR_IO if what has that name is no file: such things are never replaced */
void sl_file_remove(const sl_file *file, const char *path);             /* the created file, if that is still its name */

/* ---- modules ---- */
typedef struct sl_module sl_module;
/* `name` is a path, or a bare file name that is looked for beside the library (or the program it is linked into) and then where the
 * system looks. SL_ERR_BACKEND if it cannot be loaded. */
sl_status sl_module_open(sl_module **out, const struct sl_mem *mem, const char *name);
void *sl_module_symbol(sl_module *module, const char *symbol);         /* NULL if absent */
void sl_module_close(sl_module *module, const struct sl_mem *mem);

#endif
