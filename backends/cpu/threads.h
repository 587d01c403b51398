/* SPDX-License-Identifier: MIT */
/* threads.h - the worker pool: runs the tasks of one job at a time on its threads and the caller's. */
#ifndef CPU_THREADS_H
#define CPU_THREADS_H

#include "mem.h"
#include "platform.h"

#include <stdatomic.h>

typedef struct cpu_pool cpu_pool;

/* One task; `thread` < number of threads. Other than SL_OK stops the remaining tasks. */
typedef sl_status cpu_task(void *arg, size_t task, unsigned thread);

/* A pool of n_threads computing threads, the caller included (0: the physical cores that the process may use). */
sl_status cpu_pool_create(cpu_pool **out, const sl_mem *mem, unsigned n_threads);
void cpu_pool_free(cpu_pool *pool);         /* NULL is fine */
/* Runs tasks 0 .. n - 1, each once; thread t of T begins with tasks n t / T (rounded up) to before n (t + 1) / T, in order, and then takes what others
 * have left. A single task is run by the caller. Returns when all are done, with the first failure and its sentence. SL_ERR_CANCELLED if the flag given to
 * cpu_pool_cancel became 1: tested before every task. One caller at a time. */
sl_status cpu_pool_run(cpu_pool *pool, size_t n, cpu_task *task, void *arg);
void cpu_pool_cancel(cpu_pool *pool, const atomic_int *cancel);     /* NULL: none */
/* Threads of the pool, and how many have run at least one task. */
unsigned cpu_pool_threads(const cpu_pool *pool, unsigned *n_worked);

#endif
