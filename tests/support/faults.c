/* SPDX-License-Identifier: MIT */
/* faults.c - see faults.h. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#undef _FORTIFY_SOURCE      /* its inline functions would hide the ones below */
#include "faults.h"
#include "counting.h"
#include "sanitized.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 1024 };

static struct {
    const char *folder;
    int armed, persistent;
    fault kind;
    unsigned at, held;
    atomic_uint calls;                  /* workers read files, too */
    unsigned char ours[MOST_FILES];     /* files of the folder, by descriptor */
} now;
static counting memory;
static sl_allocator real_memory;

int fault_now(fault kind)
{
    if (!now.armed || now.held || now.kind != kind)
        return 0;
    const unsigned call = atomic_fetch_add(&now.calls, 1) + 1;
    return now.persistent ? call >= now.at : call == now.at;
}

void faults_folder(const char *folder) { now.folder = folder; }

void faults_arm(fault kind, unsigned at, int persistent)
{
    now.kind = kind, now.at = at, now.persistent = persistent;
    atomic_store(&now.calls, 0);
    now.armed = 1;
}

unsigned faults_disarm(void)
{
    now.armed = 0;
    return atomic_load(&now.calls);
}

void faults_hold(void) { now.held++; }
void faults_release(void) { now.held--; }

/* ---- memory ---- */

static void *take(size_t bytes, size_t alignment, void *user)
{
    (void)user;
    return fault_now(FAULT_MEMORY) ? NULL : real_memory.alloc(bytes, alignment, &memory);
}

static void give(void *block, size_t bytes, void *user)
{
    (void)user;
    real_memory.free(block, bytes, &memory);
}

sl_allocator faults_allocator(void)
{
    real_memory = counting_allocator(&memory);
    return (sl_allocator) { sizeof(sl_allocator), take, give, NULL };
}

/* ---- stock ---- */

static size_t entries(const char *folder)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

stock faults_stock(void)
{
    return (stock) { memory.live_blocks, memory.live_bytes, entries("/proc/self/fd"), entries("/proc/self/task"), memory.wrong };
}

stock faults_stock_like(const stock *wanted)
{
    stock s = faults_stock();
    for (int i = 0; i < 2000 && s.threads > wanted->threads; i++) {     /* the system takes a moment to forget a thread */
        nanosleep(&(struct timespec) { .tv_nsec = 500000 }, NULL);
        s = faults_stock();
    }
    return s;
}

/* ---- between the library and the system ---- */

#define SHOWN __attribute__((visibility("default")))

/* The function of that name that would have been called without this file; written to *to, a pointer to a function. */
static void next(const char *name, void *to)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    memcpy(to, &symbol, sizeof symbol);
}

static int ours(int fd) { return fd >= 0 && fd < MOST_FILES && now.ours[fd]; }

/* For use in expressions: 1 with errno set if the call is to fail. */
static int fails(fault kind, int error)
{
    if (!fault_now(kind))
        return 0;
    errno = error;
    return 1;
}

SHOWN int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const int mode = flags & O_CREAT ? va_arg(args, int) : 0, here = now.folder && !strncmp(path, now.folder, strlen(now.folder));
    va_end(args);
    if (here ? fails(FAULT_OPEN, EMFILE) || fails(FAULT_INTERRUPT, EINTR) : fails(FAULT_SURROUNDINGS, EACCES))
        return -1;
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < MOST_FILES)
        now.ours[fd] = (unsigned char)here;
    return fd;
}

SHOWN int close(int fd)
{
    const int failing = ours(fd) && fails(FAULT_CLOSE, EIO);
    if (fd >= 0 && fd < MOST_FILES)
        now.ours[fd] = 0;
    const int result = (int)syscall(SYS_close, fd);     /* the descriptor is gone in any case */
    return failing ? (errno = EIO, -1) : result;
}

SHOWN int fstat(int fd, struct stat *st)
{
    int (*real)(int, struct stat *);
    next("fstat", &real);
    return ours(fd) && fails(FAULT_STAT, EIO) ? -1 : real(fd, st);
}

SHOWN int lstat(const char *path, struct stat *st)
{
    int (*real)(const char *, struct stat *);
    next("lstat", &real);
    return fails(FAULT_STAT, EIO) ? -1 : real(path, st);
}

SHOWN ssize_t pread(int fd, void *to, size_t n, off_t offset)
{
    if (ours(fd) && (fails(FAULT_READ, EIO) || fails(FAULT_INTERRUPT, EINTR)))
        return -1;
    if (ours(fd) && fault_now(FAULT_END))
        return 0;
    if (ours(fd) && n > 1 && fault_now(FAULT_PIECES))
        n /= 2;
    return syscall(SYS_pread64, fd, to, n, offset);
}

SHOWN ssize_t pwrite(int fd, const void *from, size_t n, off_t offset)
{
    if (fails(FAULT_WRITE, EIO) || fails(FAULT_FULL, ENOSPC) || fails(FAULT_INTERRUPT, EINTR))
        return -1;
    if (n > 1 && fault_now(FAULT_PIECES))
        n /= 2;
    return syscall(SYS_pwrite64, fd, from, n, offset);
}

/* The disk of a test need not be waited for. */
SHOWN int fsync(int fd) { return (void)fd, fails(FAULT_SYNC, EIO) || fails(FAULT_INTERRUPT, EINTR) ? -1 : 0; }
SHOWN int rename(const char *from, const char *to) { return fails(FAULT_RENAME, EIO) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); }
SHOWN int ftruncate(int fd, off_t length) { return fails(FAULT_TRUNCATE, EIO) ? -1 : (int)syscall(SYS_ftruncate, fd, length); }
SHOWN int flock(int fd, int how) { return fails(FAULT_LOCK, ENOLCK) || fails(FAULT_LOCKED, EWOULDBLOCK) ? -1 : (int)syscall(SYS_flock, fd, how); }

SHOWN void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t);
    next("mmap", &real);
    return ours(fd) && fails(FAULT_MAP, ENOMEM) ? MAP_FAILED : real(at, bytes, protection, flags, fd, offset);
}

SHOWN int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    int (*real)(pthread_mutex_t *, const pthread_mutexattr_t *);
    next("pthread_mutex_init", &real);
    return fault_now(FAULT_LOCK_MADE) ? ENOMEM : real(mutex, attr);
}

SHOWN int pthread_cond_init(pthread_cond_t *restrict cond, const pthread_condattr_t *restrict attr)
{
    int (*real)(pthread_cond_t *, const pthread_condattr_t *);
    next("pthread_cond_init", &real);
    return fault_now(FAULT_LOCK_MADE) ? ENOMEM : real(cond, attr);
}

#ifndef SANITIZED
SHOWN int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr, void *(*fn)(void *), void *restrict arg)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    next("pthread_create", &real);
    return fault_now(FAULT_THREAD) ? EAGAIN : real(thread, attr, fn, arg);
}

#ifdef __GLIBC__
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
SHOWN void *malloc(size_t bytes) { return fails(FAULT_C_MEMORY, ENOMEM) ? NULL : __libc_malloc(bytes); }
SHOWN void *calloc(size_t n, size_t bytes) { return fails(FAULT_C_MEMORY, ENOMEM) ? NULL : __libc_calloc(n, bytes); }
SHOWN void *realloc(void *block, size_t bytes) { return fails(FAULT_C_MEMORY, ENOMEM) ? NULL : __libc_realloc(block, bytes); }
#endif
#endif
