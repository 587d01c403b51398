/* SPDX-License-Identifier: MIT */
/* threads.c - the worker pool of a device.
 *
 * A job is n tasks, of which every thread has a share of its own, the same of every job with as many tasks: in decoding a thread meets the same weights with
 * every token, and knows where it will read next. The ticket of a share holds the job's number and the next free task in one atomic word; a thread takes tasks by
 * compare-and-swap, first of its own share, then of the others', so a worker that slept through jobs can never take one of a later job by mistake. The job is over
 * when all its tasks are done; a worker that is late or asleep does not hold it up. Which thread runs a task never matters to the result. A job of one task is
 * the caller's alone. Workers spin at most SPIN_NS, then sleep; with more threads than processors they do not spin, and no more are woken than there are processors.
 *
 * Each sleeper has its own condition: a wake-up reaches the one it is meant for. (Conditions with several waiters can lose one: glibc bug 25847.)
 * "Publish, then look who sleeps" and "go to sleep, then look for news" must not pass each other; both sides therefore publish by an atomic
 * exchange or addition, which is a full barrier also where an emulator of another processor lets a later load overtake a plain store. */
#include "threads.h"

#include "fpenv.h"

#include <string.h>

enum { SPIN_NS = 20000, SPINS_PER_LOOK = 64, SENTENCE_BYTES = 512 };

typedef struct worker {
    cpu_pool *pool;
    unsigned index;
    sl_thread *thread;
    sl_cond wake;
    int asleep;                         /* and not woken yet; under the pool's lock */
} worker;

/* Looked at by others only when their own is done. */
typedef struct share { _Alignas(64) _Atomic uint64_t ticket; } share;     /* job number << 32 | next task */

struct cpu_pool {
    sl_mem mem;
    unsigned n_threads, n_processors;
    unsigned n_workers;                 /* other threads that are there */
    worker *workers;                    /* [n_threads]; 0 is the caller and has no thread */
    share *shares;                      /* [n_threads] */
    atomic_uchar *worked;               /* [n_threads] */
    sl_mutex lock;                      /* around sleeping and waking, and the first failure */
    sl_cond over;
    atomic_uint n_asleep;
    atomic_int caller_asleep, stop;

    uint32_t last;                      /* number of the last job; the caller's own */
    _Alignas(64) _Atomic uint32_t job;  /* number of the job that is there; 0 while the next one is put down */
    _Alignas(64) atomic_uint n_done;
    atomic_uint n_tasks;
    _Atomic uint32_t roll_call;         /* number of the job that gives every thread its own share; 0: none. See cpu_pool_run */
    _Atomic(cpu_task *) task;
    _Atomic(void *) arg;
    _Atomic(const atomic_int *) cancel;
    atomic_int status;                  /* of the first failure */
    char sentence[SENTENCE_BYTES];
};

static void fail(cpu_pool *pool, sl_status status)
{
    sl_mutex_lock(&pool->lock);
    if (atomic_load(&pool->status) == SL_OK) {
        memcpy(pool->sentence, sl_last_error(), SENTENCE_BYTES - 1);
        atomic_store(&pool->status, status);
    }
    sl_mutex_unlock(&pool->lock);
}

static void run_task(cpu_pool *pool, cpu_task *task, void *arg, size_t index, unsigned thread)
{
    const atomic_int *cancel = atomic_load_explicit(&pool->cancel, memory_order_relaxed);
    if (atomic_load_explicit(&pool->status, memory_order_relaxed) != SL_OK)
        return;
    sl_status status = cancel && atomic_load_explicit(cancel, memory_order_relaxed) ? sl_fail(SL_ERR_CANCELLED, "cancelled") : task(arg, index, thread);
    if (status != SL_OK)
        fail(pool, status);
}

/* Where a thread's share of n tasks begins. The caller is thread 0 and has the first task, however few there are. */
static uint32_t share_begin(const cpu_pool *pool, uint32_t n, unsigned thread) { return (uint32_t)(((uint64_t)n * thread + pool->n_threads - 1) / pool->n_threads); }

/* Takes what is left of a share of job `number`; returns how many tasks that were. */
static unsigned work_share(cpu_pool *pool, uint32_t number, uint32_t n, unsigned owner, unsigned thread, cpu_task *task, void *arg)
{
    const uint32_t end = share_begin(pool, n, owner + 1);
    _Atomic uint64_t *at = &pool->shares[owner].ticket;
    uint64_t ticket = atomic_load(at);
    unsigned taken = 0;
    while ((uint32_t)(ticket >> 32) == number && (uint32_t)ticket < end)
        if (atomic_compare_exchange_weak(at, &ticket, ticket + 1)) {
            run_task(pool, task, arg, (uint32_t)ticket, thread);
            taken++;
            ticket = atomic_load(at);
        }
    return taken;
}

/* Works on job `number` until no task of it is left. A late worker may read the next job's fields here; it then sees (acquire) that its own job was taken away
 * before they were written (release), and does nothing. If it does see its own, tickets of a later job still have another number. */
static void work(cpu_pool *pool, uint32_t number, unsigned thread)
{
    const unsigned n = atomic_load_explicit(&pool->n_tasks, memory_order_acquire);
    cpu_task *task = atomic_load_explicit(&pool->task, memory_order_acquire);
    void *arg = atomic_load_explicit(&pool->arg, memory_order_acquire);
    const int alone = atomic_load_explicit(&pool->roll_call, memory_order_acquire) == number;
    if (atomic_load(&pool->job) != number)
        return;
    unsigned taken = work_share(pool, number, n, thread, thread, task, arg);
    for (unsigned i = 1; i < pool->n_threads && !alone; i++)
        taken += work_share(pool, number, n, (thread + i) % pool->n_threads, thread, task, arg);
    if (!taken)
        return;
    atomic_store_explicit(&pool->worked[thread], 1, memory_order_relaxed);
    if (atomic_fetch_add(&pool->n_done, taken) + taken == n && atomic_load(&pool->caller_asleep)) {
        sl_mutex_lock(&pool->lock);
        sl_cond_signal(&pool->over);
        sl_mutex_unlock(&pool->lock);
    }
}

static int fresh(cpu_pool *pool, uint32_t seen)
{
    const uint32_t job = atomic_load(&pool->job);
    return atomic_load(&pool->stop) || (job && job != seen);
}

/* Waits for a job that was not seen yet: spins a little, then sleeps. */
static void await_job(worker *w, uint32_t seen)
{
    cpu_pool *pool = w->pool;
    if (pool->n_threads <= pool->n_processors)
        for (uint64_t end = sl_clock_ns() + SPIN_NS; sl_clock_ns() < end;)
            for (int i = 0; i < SPINS_PER_LOOK; i++) {
                if (fresh(pool, seen))
                    return;
                sl_cpu_relax();
            }
    sl_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->n_asleep, 1);
    w->asleep = 1;
    while (!fresh(pool, seen))
        sl_cond_wait(&w->wake, &pool->lock);
    if (w->asleep)
        atomic_fetch_sub(&pool->n_asleep, 1);
    w->asleep = 0;
    sl_mutex_unlock(&pool->lock);
}

static void worker_main(void *arg)
{
    worker *w = arg;
    cpu_pool *pool = w->pool;
    uint32_t seen = 0;
    sl_fp_enter();
    while (!atomic_load(&pool->stop)) {
        await_job(w, seen);
        const uint32_t job = atomic_load(&pool->job);
        if (!job || atomic_load(&pool->stop))
            continue;           /* it ended, and the next one is not there yet */
        seen = job;
        work(pool, seen, w->index);
    }
}

/* Wakes sleepers for a job of n tasks: as many as can help, and no more than there are processors. */
static void wake_workers(cpu_pool *pool, size_t n, int all)
{
    if (!atomic_load(&pool->n_asleep))
        return;
    const unsigned others = pool->n_threads - 1, most = pool->n_processors - 1, useful = n - 1 < most ? (unsigned)(n - 1) : most;
    sl_mutex_lock(&pool->lock);
    unsigned awake = others - atomic_load(&pool->n_asleep);
    for (unsigned i = 1; i < pool->n_threads && (all || awake < useful); i++)
        if (pool->workers[i].asleep) {
            pool->workers[i].asleep = 0;
            atomic_fetch_sub(&pool->n_asleep, 1);
            sl_cond_signal(&pool->workers[i].wake);
            awake++;
        }
    sl_mutex_unlock(&pool->lock);
}

static void await_end(cpu_pool *pool, unsigned n)
{
    if (pool->n_threads <= pool->n_processors)
        for (uint64_t end = sl_clock_ns() + SPIN_NS; sl_clock_ns() < end;)
            for (int i = 0; i < SPINS_PER_LOOK; i++) {
                if (atomic_load(&pool->n_done) == n)
                    return;
                sl_cpu_relax();
            }
    sl_mutex_lock(&pool->lock);
    atomic_exchange(&pool->caller_asleep, 1);
    while (atomic_load(&pool->n_done) != n)
        sl_cond_wait(&pool->over, &pool->lock);
    atomic_store(&pool->caller_asleep, 0);
    sl_mutex_unlock(&pool->lock);
}

/* Tells all threads of a job. */
static void publish(cpu_pool *pool, uint32_t n, cpu_task *task, void *arg, int roll_call)
{
    const uint32_t number = pool->last = pool->last == UINT32_MAX ? 1 : pool->last + 1;
    atomic_store(&pool->job, 0);            /* the last job is taken away before its fields change */
    atomic_store_explicit(&pool->task, task, memory_order_release);
    atomic_store_explicit(&pool->arg, arg, memory_order_release);
    atomic_store_explicit(&pool->n_tasks, n, memory_order_release);
    atomic_store_explicit(&pool->roll_call, roll_call ? number : 0, memory_order_release);
    atomic_store_explicit(&pool->n_done, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->status, SL_OK, memory_order_relaxed);
    for (unsigned i = 0; i < pool->n_threads; i++)
        atomic_store_explicit(&pool->shares[i].ticket, (uint64_t)number << 32 | share_begin(pool, n, i), memory_order_release);
    atomic_exchange(&pool->job, number);
    if (pool->n_threads > 1)
        wake_workers(pool, n, roll_call);
}

/* A job of one task: nobody is asked, and nobody has to be waited for. */
static sl_status run_alone(cpu_pool *pool, cpu_task *task, void *arg)
{
    const atomic_int *cancel = atomic_load_explicit(&pool->cancel, memory_order_relaxed);
    atomic_store_explicit(&pool->worked[0], 1, memory_order_relaxed);
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed) ? sl_fail(SL_ERR_CANCELLED, "cancelled") : task(arg, 0, 0);
}

sl_status cpu_pool_run(cpu_pool *pool, size_t n, cpu_task *task, void *arg)
{
    if (!n)
        return SL_OK;
    if (n > UINT32_MAX)
        return sl_fail(SL_ERR_LIMIT, "threads: %zu tasks", n);
    if (n == 1)
        return run_alone(pool, task, arg);
    /* The first job that is large enough leaves each thread its own share: every worker proves that it works, and its stack is there. */
    int roll_call = 0;
    if (n >= pool->n_threads)
        for (unsigned i = 0; i < pool->n_threads; i++)
            roll_call |= !atomic_load_explicit(&pool->worked[i], memory_order_relaxed);
    publish(pool, (uint32_t)n, task, arg, roll_call);
    work(pool, pool->last, 0);
    await_end(pool, (unsigned)n);
    sl_status status = atomic_load(&pool->status);
    return status == SL_OK ? SL_OK : sl_fail(status, "%s", pool->sentence);
}

unsigned cpu_pool_threads(const cpu_pool *pool, unsigned *n_worked)
{
    *n_worked = 0;
    for (unsigned i = 0; i < pool->n_threads; i++)
        *n_worked += atomic_load_explicit(&pool->worked[i], memory_order_relaxed);
    return pool->n_threads;
}

void cpu_pool_cancel(cpu_pool *pool, const atomic_int *cancel) { atomic_store(&pool->cancel, cancel); }

static sl_status start(cpu_pool *pool)
{
    pool->workers = sl_mem_alloc(&pool->mem, pool->n_threads, sizeof *pool->workers);
    pool->shares = sl_mem_alloc(&pool->mem, pool->n_threads, sizeof *pool->shares);
    pool->worked = sl_mem_alloc(&pool->mem, pool->n_threads, sizeof *pool->worked);
    if (!pool->workers || !pool->shares || !pool->worked)
        return SL_ERR_NOMEM;
    for (unsigned i = 1; i < pool->n_threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i;
        SL_TRY(sl_cond_init(&w->wake));
        pool->n_workers++;
        SL_TRY(sl_thread_start(&w->thread, &pool->mem, worker_main, w));
    }
    return SL_OK;
}

sl_status cpu_pool_create(cpu_pool **out, const sl_mem *mem, unsigned n_threads)
{
    *out = NULL;
    cpu_pool *pool = sl_mem_alloc(mem, 1, sizeof *pool);
    if (!pool)
        return SL_ERR_NOMEM;
    pool->mem = *mem;
    pool->n_processors = sl_cpu_count(1);
    pool->n_threads = n_threads ? n_threads : sl_cpu_count(0);
    sl_status status = sl_mutex_init(&pool->lock);
    if (status == SL_OK && (status = sl_cond_init(&pool->over)) != SL_OK)
        sl_mutex_destroy(&pool->lock);
    if (status != SL_OK) {
        sl_mem_free(mem, pool);
        return status;
    }
    if ((status = start(pool)) != SL_OK)
        cpu_pool_free(pool);
    else
        *out = pool;
    return status;
}

void cpu_pool_free(cpu_pool *pool)
{
    if (!pool)
        return;
    sl_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, 1);
    for (unsigned i = 1; i <= pool->n_workers; i++)
        sl_cond_signal(&pool->workers[i].wake);
    sl_mutex_unlock(&pool->lock);
    for (unsigned i = 1; i <= pool->n_workers; i++) {
        sl_thread_join(pool->workers[i].thread, &pool->mem);
        sl_cond_destroy(&pool->workers[i].wake);
    }
    sl_cond_destroy(&pool->over);
    sl_mutex_destroy(&pool->lock);
    const sl_mem mem = pool->mem;
    sl_mem_free(&mem, pool->workers);
    sl_mem_free(&mem, pool->shares);
    sl_mem_free(&mem, pool->worked);
    sl_mem_free(&mem, pool);
}
