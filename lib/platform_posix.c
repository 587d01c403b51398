/* SPDX-License-Identifier: MIT */
/* platform_posix.c - platform.h on POSIX systems: clock, memory, threads; files and modules are in platform_posix_files.c. What only Linux knows
 * (affinity, cgroups, topology, huge pages) is asked for where it is there and left alone elsewhere. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "platform.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if SL_WITH_THREADS
#include <sched.h>
#include <signal.h>
#endif

/* ---- clock ---- */

uint64_t sl_clock_ns(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- memory ---- */

enum { HUGE_PAGE = 2 << 20 };

void *sl_os_alloc(size_t bytes, size_t alignment, void *user)
{
    (void)user;
    void *p = NULL;
    int large = bytes >= 2 * (size_t)HUGE_PAGE;
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    if (large && alignment < HUGE_PAGE)
        alignment = HUGE_PAGE;
    if (posix_memalign(&p, alignment, bytes ? bytes : 1))
        return NULL;
#ifdef MADV_HUGEPAGE
    if (large)      /* only advice: without huge pages the same memory is slower */
        (void)madvise(p, bytes & ~((size_t)HUGE_PAGE - 1), MADV_HUGEPAGE);
#endif
    return p;
}

void sl_os_free(void *block, size_t bytes, void *user)
{
    (void)bytes, (void)user;
    free(block);
}

/* ---- threads ---- */

#if SL_WITH_THREADS

struct sl_thread {
    pthread_t id;
    void (*fn)(void *arg);
    void *arg;
};

static void *thread_main(void *arg)
{
    sl_thread *thread = arg;
    thread->fn(thread->arg);
    return NULL;
}

sl_status sl_thread_start(sl_thread **out, const struct sl_mem *mem, void (*fn)(void *arg), void *arg)
{
    *out = NULL;
    sl_thread *thread = sl_mem_alloc(mem, 1, sizeof *thread);
    if (!thread)
        return SL_ERR_NOMEM;
    thread->fn = fn;
    thread->arg = arg;
    /* A new thread inherits the mask: signals of the host must arrive at the host's threads, not at ours. Those that a thread's own instructions raise can arrive nowhere else:
     * blocked, they would end the process behind the back of a handler that the host has for them. */
    static const int own[] = { SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP };
    sigset_t others, before;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&others, own[i]);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    int e = pthread_create(&thread->id, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e) {
        sl_mem_free(mem, thread);
        return sl_fail(SL_ERR_NOMEM, "a thread could not be started (error %d)", e);
    }
    *out = thread;
    return SL_OK;
}

void sl_thread_join(sl_thread *thread, const struct sl_mem *mem)
{
    if (!thread)
        return;
    pthread_join(thread->id, NULL);
    sl_mem_free(mem, thread);
}

sl_status sl_mutex_init(sl_mutex *mutex)
{
    int e = pthread_mutex_init(mutex, NULL);
    return e ? sl_fail(SL_ERR_NOMEM, "a mutex could not be made (error %d)", e) : SL_OK;
}

void sl_mutex_destroy(sl_mutex *mutex) { pthread_mutex_destroy(mutex); }
void sl_mutex_lock(sl_mutex *mutex) { pthread_mutex_lock(mutex); }
void sl_mutex_unlock(sl_mutex *mutex) { pthread_mutex_unlock(mutex); }

/* Conditions wait by the monotonic clock where they can be told to: a clock that is set must not make a wait longer. */
#if defined(_POSIX_CLOCK_SELECTION) && _POSIX_CLOCK_SELECTION > 0
#define COND_CLOCK CLOCK_MONOTONIC
static int make_cond(sl_cond *cond)
{
    pthread_condattr_t attr;
    int e = pthread_condattr_init(&attr);
    if (e)
        return e;
    e = pthread_condattr_setclock(&attr, COND_CLOCK);
    if (!e)
        e = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return e;
}
#else
#define COND_CLOCK CLOCK_REALTIME
static int make_cond(sl_cond *cond) { return pthread_cond_init(cond, NULL); }
#endif

sl_status sl_cond_init(sl_cond *cond)
{
    int e = make_cond(cond);
    return e ? sl_fail(SL_ERR_NOMEM, "a condition variable could not be made (error %d)", e) : SL_OK;
}

void sl_cond_destroy(sl_cond *cond) { pthread_cond_destroy(cond); }
void sl_cond_wait(sl_cond *cond, sl_mutex *mutex) { pthread_cond_wait(cond, mutex); }
void sl_cond_wait_ms(sl_cond *cond, sl_mutex *mutex, unsigned ms)
{
    struct timespec t;
    if (clock_gettime(COND_CLOCK, &t))
        return;
    const long ns = t.tv_nsec + (long)(ms % 1000) * 1000000;
    t.tv_sec += (time_t)(ms / 1000 + (unsigned)(ns >= 1000000000));
    t.tv_nsec = ns % 1000000000;
    pthread_cond_timedwait(cond, mutex, &t);
}

void sl_cond_signal(sl_cond *cond) { pthread_cond_signal(cond); }
void sl_cond_broadcast(sl_cond *cond) { pthread_cond_broadcast(cond); }
void sl_thread_yield(void) { sched_yield(); }

/* ---- threads: how many processors ---- */

#ifdef __linux__

enum { PATH_BYTES = 512, LINE_BYTES = 256, CPU_SETS = 8 };     /* 8 x 1024 processors */

#if SL_WITH_FILES

/* The first `bytes` - 1 bytes of a small text file, terminated; 0 if it cannot be read. */
static size_t text_of(const char *path, char *to, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size_t n = 0;
    while (n + 1 < bytes) {
        ssize_t got = read(fd, to + n, bytes - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    to[n] = 0;
    return n;
}

/* A decimal number at *text, which moves behind it; -1 if there is none ("max", "-1") or it is absurd. */
static long long number_at(const char **text)
{
    long long n = 0;
    const char *p = *text;
    while (*p == ' ' || *p == '\t' || *p == '\n')
        p++;
    if (*p < '0' || *p > '9')
        return -1;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > LLONG_MAX / 10 - 1)
            return -1;
        n = n * 10 + (*p - '0');
    }
    *text = p;
    return n;
}

/* Whole processors that quota per period pays for; `most` if there is no quota. Rounded down: a worker that is throttled holds all
 * others up at the next barrier, so a fraction of a processor is worth less than none. */
static unsigned quota_of(long long quota, long long period, unsigned most)
{
    if (quota <= 0 || period <= 0 || quota / period >= (long long)most)
        return most;
    return quota < period ? 1 : (unsigned)(quota / period);
}

/* Lowest quota on the way from group `group` up to the root of the hierarchy mounted at `mount`. Groups that cannot be seen (a container
 * shows only its own, as the root) have no files and do not count. */
static unsigned quota_along(const char *mount, const char *group, size_t group_length, int v2, unsigned most)
{
    char path[PATH_BYTES], text[64];
    for (;;) {
        const char *p = text;
        long long quota = -1, period = -1;
        if (snprintf(path, sizeof path, "%s%.*s/%s", mount, (int)group_length, group, v2 ? "cpu.max" : "cpu.cfs_quota_us") < PATH_BYTES && text_of(path, text, sizeof text)) {
            quota = number_at(&p);
            if (!v2 && snprintf(path, sizeof path, "%s%.*s/cpu.cfs_period_us", mount, (int)group_length, group) < PATH_BYTES && text_of(path, text, sizeof text))
                p = text;
            period = number_at(&p);
        }
        most = quota_of(quota, period, most);
        if (!group_length)
            return most;
        do
            group_length--;
        while (group_length && group[group_length] != '/');
    }
}

/* Whether `name` is one of `names`, which commas part. */
static int lists(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = names; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (!strncmp(p, name, n) && (p[n] == ',' || !p[n]))
            return 1;
    }
    return 0;
}

/* The processors that the cgroups of this process allow, at most `most`. */
static unsigned quota_limit(unsigned most)
{
    char text[2048];
    if (!text_of("/proc/self/cgroup", text, sizeof text))
        return most;
    for (char *line = text, *next; *line; line = next) {        /* "id:controllers:group" */
        char *end = strchr(line, '\n');
        next = end ? end + 1 : line + strlen(line);
        if (end)
            *end = 0;
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group || strlen(group) > PATH_BYTES)
            continue;
        *names++ = 0;
        *group++ = 0;
        size_t length = strcmp(group, "/") ? strlen(group) : 0;
        int v2 = !*names && !strcmp(line, "0");
        if (v2)
            most = quota_along("/sys/fs/cgroup", group, length, 1, most);
        else if (lists(names, "cpu"))
            most = quota_along("/sys/fs/cgroup/cpu", group, length, 0, most);
    }
    return most;
}

/* Whether a lower processor of `set` shares the core of `cpu`. */
static int shares_core(unsigned cpu, const cpu_set_t *set, size_t set_bytes)
{
    char path[96], text[LINE_BYTES];
    const char *p = text;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
    if (!text_of(path, text, sizeof text))
        return 0;
    for (;;) {      /* "0,4" or "0-1" */
        long long first = number_at(&p), last = first;
        if (*p == '-') {
            p++;
            last = number_at(&p);
        }
        for (long long other = first; first >= 0 && other <= last && other < (long long)cpu; other++)
            if (CPU_ISSET_S((size_t)other, set_bytes, set))
                return 1;
        if (*p++ != ',')
            return 0;
    }
}

#else

static unsigned quota_limit(unsigned most) { return most; }

static int shares_core(unsigned cpu, const cpu_set_t *set, size_t set_bytes)
{
    (void)cpu, (void)set, (void)set_bytes;
    return 0;
}

#endif

unsigned sl_cpu_order(unsigned *cpus, unsigned most)
{
    cpu_set_t set[CPU_SETS];
    unsigned n = 0;
    memset(set, 0, sizeof set);
    if (sched_getaffinity(0, sizeof set, set))
        return 0;
    for (int siblings = 0; siblings < 2; siblings++)
        for (unsigned cpu = 0; cpu < CPU_SETS * CPU_SETSIZE && n < most; cpu++)
            if (CPU_ISSET_S(cpu, sizeof set, set) && shares_core(cpu, set, sizeof set) == siblings)
                cpus[n++] = cpu;
    return n;
}

void sl_thread_pin(unsigned cpu, sl_affinity *before)
{
    cpu_set_t set[CPU_SETS];
    if (before)
        before->known = !sched_getaffinity(0, sizeof before->bits, (cpu_set_t *)(void *)before->bits);
    if (cpu >= CPU_SETS * CPU_SETSIZE)
        return;
    memset(set, 0, sizeof set);
    CPU_SET_S(cpu, sizeof set, set);
    (void)sched_setaffinity(0, sizeof set, set);
}

void sl_thread_unpin(const sl_affinity *before)
{
    if (before->known)
        (void)sched_setaffinity(0, sizeof before->bits, (const cpu_set_t *)(const void *)before->bits);
}

unsigned sl_cpu_count(int logical)
{
    cpu_set_t set[CPU_SETS];
    unsigned n = 0;
    memset(set, 0, sizeof set);
    if (sched_getaffinity(0, sizeof set, set)) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        n = online > 0 ? (unsigned)online : 1;
    } else {
        for (unsigned cpu = 0; cpu < CPU_SETS * CPU_SETSIZE; cpu++)
            if (CPU_ISSET_S(cpu, sizeof set, set) && (logical || !shares_core(cpu, set, sizeof set)))
                n++;
    }
    return quota_limit(n ? n : 1);
}

#else

unsigned sl_cpu_count(int logical)
{
    (void)logical;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
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
#endif
