/* SPDX-License-Identifier: MIT */
/* platform.c - what the operating system gives, and what the library makes of it when it gives less: this program stands between the two
 * for reads, for the files that tell of processors, and for affinity. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#undef _FORTIFY_SOURCE      /* its inline functions would hide the ones below */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"
#include "counting.h"
#include "platform.h"

/* ---- between the library and the system ---- */

static struct {
    int interrupt;              /* every second read is interrupted */
    size_t at_most;             /* bytes per read; 0: any */
    int64_t fail_at;            /* reading this byte fails ... */
    int error;                  /* ... with this errno; 0: never */
    int calls;
} reads;

ssize_t pread(int fd, void *to, size_t n, off_t offset)
{
    reads.calls++;
    if (reads.interrupt && reads.calls % 2) {
        errno = EINTR;
        return -1;
    }
    if (reads.at_most && n > reads.at_most)
        n = reads.at_most;
    if (reads.error && reads.fail_at >= offset && reads.fail_at < offset + (int64_t)n) {
        errno = reads.error;
        return -1;
    }
    return syscall(SYS_pread64, fd, to, n, offset);
}

/* A machine that is made up. */
typedef struct machine {
    const char *id;
    unsigned processors;        /* allowed: numbers 0 to this - 1; 0: as it is */
    unsigned skip;              /* of these the lowest are not allowed */
    const char *files[8][2];    /* path, text */
    unsigned physical, logical; /* what must be counted */
} machine;
static const machine *now;

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    if (!now || (strncmp(path, "/sys/", 5) && strncmp(path, "/proc/self/cgroup", 17)))
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    for (size_t i = 0; i < 8 && now->files[i][0]; i++) {
        int ends[2];
        if (strcmp(path, now->files[i][0]))
            continue;
        if (pipe(ends))
            return -1;
        ssize_t n = write(ends[1], now->files[i][1], strlen(now->files[i][1]));
        close(ends[1]);
        assert_int_equal(n, strlen(now->files[i][1]));
        return ends[0];
    }
    errno = ENOENT;
    return -1;
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    memset(set, 0, size);
    if (!now || !now->processors)
        return syscall(SYS_sched_getaffinity, pid, size, set) < 0 ? -1 : 0;
    for (unsigned i = now->skip; i < now->processors; i++)
        CPU_SET_S(i, size, set);
    return 0;
}

/* ---- processors ---- */

#define CPU "/sys/devices/system/cpu/cpu"
#define SIBLINGS "/topology/thread_siblings_list"

static const machine machines[] = {
    { "nothing known", 6, 0, { { NULL, NULL } }, 6, 6 },
    { "one", 1, 0, { { NULL, NULL } }, 1, 1 },
    { "two threads per core, far", 4, 0, { { CPU "0" SIBLINGS, "0,2\n" }, { CPU "1" SIBLINGS, "1,3\n" }, { CPU "2" SIBLINGS, "0,2\n" }, { CPU "3" SIBLINGS, "1,3\n" } }, 2, 4 },
    { "two threads per core, near", 4, 0, { { CPU "0" SIBLINGS, "0-1\n" }, { CPU "1" SIBLINGS, "0-1\n" }, { CPU "2" SIBLINGS, "2-3\n" }, { CPU "3" SIBLINGS, "2-3\n" } }, 2, 4 },
    { "four threads per core", 4, 0, { { CPU "0" SIBLINGS, "0-3" }, { CPU "1" SIBLINGS, "0-3" }, { CPU "2" SIBLINGS, "0-3" }, { CPU "3" SIBLINGS, "0-3" } }, 1, 4 },
    { "the lower sibling is not allowed", 4, 1, { { CPU "1" SIBLINGS, "0-1\n" }, { CPU "2" SIBLINGS, "2-3\n" }, { CPU "3" SIBLINGS, "2-3\n" } }, 2, 3 },
    { "garbage in the lists", 3, 0, { { CPU "0" SIBLINGS, "" }, { CPU "1" SIBLINGS, "x-" }, { CPU "2" SIBLINGS, "99999999999999999999999-5,," } }, 3, 3 },
    { "cgroup 2, root of a container", 8, 0, { { "/proc/self/cgroup", "0::/\n" }, { "/sys/fs/cgroup/cpu.max", "300000 100000\n" } }, 3, 3 },
    { "cgroup 2, no quota", 8, 0, { { "/proc/self/cgroup", "0::/\n" }, { "/sys/fs/cgroup/cpu.max", "max 100000\n" } }, 8, 8 },
    { "cgroup 2, a fraction is rounded down", 8, 0, { { "/proc/self/cgroup", "0::/\n" }, { "/sys/fs/cgroup/cpu.max", "290000 100000\n" } }, 2, 2 },
    { "cgroup 2, less than one", 8, 0, { { "/proc/self/cgroup", "0::/\n" }, { "/sys/fs/cgroup/cpu.max", "1000 100000\n" } }, 1, 1 },
    { "cgroup 2, more than there is", 4, 0, { { "/proc/self/cgroup", "0::/\n" }, { "/sys/fs/cgroup/cpu.max", "9000000 100000\n" } }, 4, 4 },
    { "cgroup 2, the parent has less", 8, 0, { { "/proc/self/cgroup", "0::/a/b/c\n" }, { "/sys/fs/cgroup/a/b/c/cpu.max", "500000 100000\n" }, { "/sys/fs/cgroup/a/b/cpu.max", "max 100000\n" },
                                              { "/sys/fs/cgroup/a/cpu.max", "200000 100000\n" } }, 2, 2 },
    { "cgroup 2, garbage", 8, 0, { { "/proc/self/cgroup", "0::/\n" }, { "/sys/fs/cgroup/cpu.max", "99999999999999999999999 0\n" } }, 8, 8 },
    { "cgroup 1", 8, 0, { { "/proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/d\n" }, { "/sys/fs/cgroup/cpu/d/cpu.cfs_quota_us", "400000\n" }, { "/sys/fs/cgroup/cpu/d/cpu.cfs_period_us", "100000\n" } }, 4, 4 },
    { "cgroup 1, hidden group", 8, 0, { { "/proc/self/cgroup", "4:cpuacct,cpu:/docker/abc\n" }, { "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n" }, { "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n" } }, 5, 5 },
    { "cgroup 1, no quota", 8, 0, { { "/proc/self/cgroup", "4:cpu:/\n" }, { "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n" }, { "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n" } }, 8, 8 },
    { "cgroup 1, other controllers", 8, 0, { { "/proc/self/cgroup", "4:cpuset:/\n3:cpuacct:/\n" }, { "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n" }, { "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n" } }, 8, 8 },
    { "cgroup, garbage", 8, 0, { { "/proc/self/cgroup", "::\n\n:\nabc\n0::" } }, 8, 8 },
    { "quota below the cores", 4, 0, { { "/proc/self/cgroup", "0::/" }, { "/sys/fs/cgroup/cpu.max", "300000 100000" }, { CPU "2" SIBLINGS, "0,2" }, { CPU "3" SIBLINGS, "1,3" } }, 2, 3 },
};

static void counts_processors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        now = &machines[i];
        unsigned physical = sl_cpu_count(0), logical = sl_cpu_count(1);
        now = NULL;
        if (physical != machines[i].physical || logical != machines[i].logical)
            fail_msg("%s: %u and %u, not %u and %u", machines[i].id, physical, logical, machines[i].physical, machines[i].logical);
    }
    assert_true(sl_cpu_count(0) >= 1 && sl_cpu_count(1) >= sl_cpu_count(0));    /* this machine, as it is */
}

static void orders_processors(void **state)
{
    (void)state;
    static const struct { const char *id; unsigned n, order[4]; } cases[] = {       /* of machines above */
        { "one", 1, { 0 } }, { "two threads per core, far", 4, { 0, 1, 2, 3 } }, { "two threads per core, near", 4, { 0, 2, 1, 3 } },
        { "the lower sibling is not allowed", 3, { 1, 2, 3 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (unsigned most = 0; most < 6; most++) {
            unsigned order[6] = { 99, 99, 99, 99, 99, 99 };
            const unsigned n = most < cases[i].n ? most : cases[i].n;
            for (now = machines; strcmp(now->id, cases[i].id); now++)
                ;
            const unsigned got = sl_cpu_order(order, most);
            now = NULL;
            assert_int_equal(got, n);
            assert_memory_equal(order, cases[i].order, n * sizeof *order);
            assert_int_equal(order[n], 99);
        }
}

/* A thread that is kept on one processor gets back what it had; a processor that does not exist changes nothing. */
static void pins_threads(void **state)
{
    (void)state;
    cpu_set_t was, is;
    unsigned order[1];
    sl_affinity before;
    assert_int_equal(sl_cpu_order(order, 1), 1);
    assert_int_equal(sched_getaffinity(0, sizeof was, &was), 0);
    sl_thread_pin(order[0], &before);
    assert_int_equal(sched_getaffinity(0, sizeof is, &is), 0);
    assert_int_equal(CPU_COUNT(&is), 1);
    assert_true(CPU_ISSET(order[0], &is));
    sl_thread_unpin(&before);
    assert_int_equal(sched_getaffinity(0, sizeof is, &is), 0);
    assert_true(CPU_EQUAL(&was, &is));
    sl_thread_pin(8191, NULL);
    sl_thread_pin(UINT32_MAX, &before);
    sl_thread_unpin(&before);
    assert_int_equal(sched_getaffinity(0, sizeof is, &is), 0);
    assert_true(CPU_EQUAL(&was, &is));
}

/* ---- threads ---- */

typedef struct talk {
    sl_mutex mutex;
    sl_cond cond;
    int turn, rounds, all_blocked, own_blocked;
} talk;

static void answer(void *arg)
{
    talk *t = arg;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    t->all_blocked = sigismember(&mask, SIGINT) && sigismember(&mask, SIGTERM) && sigismember(&mask, SIGALRM) && sigismember(&mask, SIGUSR1);
    t->own_blocked = sigismember(&mask, SIGSEGV) || sigismember(&mask, SIGBUS) || sigismember(&mask, SIGILL) || sigismember(&mask, SIGFPE);
    for (int i = 0; i < 100; i++) {
        sl_mutex_lock(&t->mutex);
        while (t->turn != 1)
            sl_cond_wait(&t->cond, &t->mutex);
        t->turn = 0;
        t->rounds++;
        sl_cond_broadcast(&t->cond);
        sl_mutex_unlock(&t->mutex);
    }
}

static void runs_threads(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    talk t = { .turn = 1 };
    sl_thread *thread;
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(sl_mutex_init(&t.mutex), SL_OK);
    assert_int_equal(sl_cond_init(&t.cond), SL_OK);
    c.fail_at = 1;
    assert_int_equal(sl_thread_start(&thread, &mem, answer, &t), SL_ERR_NOMEM);
    assert_null(thread);
    c.fail_at = 0;
    assert_int_equal(sl_thread_start(&thread, &mem, answer, &t), SL_OK);
    for (int i = 0; i < 100; i++) {
        sl_mutex_lock(&t.mutex);
        while (t.turn != 0)
            sl_cond_wait(&t.cond, &t.mutex);
        t.turn = i < 99;
        sl_cond_broadcast(&t.cond);
        sl_mutex_unlock(&t.mutex);
        sl_thread_yield();
        sl_cpu_relax();
    }
    sl_thread_join(thread, &mem);
    sl_thread_join(NULL, &mem);
    assert_int_equal(t.rounds, 100);
    assert_int_equal(t.all_blocked, 1);
    assert_int_equal(t.own_blocked, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
    sl_cond_destroy(&t.cond);
    sl_mutex_destroy(&t.mutex);
    counting_check_none(&c);
}

static void tells_time(void **state)
{
    (void)state;
    uint64_t first = sl_clock_ns(), last = first;
    assert_true(first > 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t t = sl_clock_ns();
        assert_true(t >= last);
        last = t;
    }
    struct timespec nap = { 0, 2000000 };
    nanosleep(&nap, NULL);
    assert_true(sl_clock_ns() - first >= 2000000);
}

static void gives_memory(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 4096; alignment *= 4)
        for (size_t bytes = 0; bytes <= 20000000; bytes = bytes * 7 + 1) {
            char *p = sl_os_alloc(bytes, alignment, NULL);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % alignment, 0);
            if (bytes)
                p[0] = p[bytes - 1] = 1;
            sl_os_free(p, bytes, NULL);
        }
}

/* ---- files ---- */

static char path[] = "/tmp/sl-platform-XXXXXX";
static unsigned char content[5000];

static void reads_whatever_the_system_does(void **state)
{
    (void)state;
    static const struct { const char *id; int interrupt; size_t at_most; } cases[] = { { "plain", 0, 0 }, { "IO1 short", 0, 7 }, { "IO2 EINTR", 1, 0 }, { "both", 1, 1 } };
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_file *file;
    assert_int_equal(sl_file_open(&file, &mem, path), SL_OK);
    assert_int_equal(sl_file_size(file), sizeof content);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char bytes[sizeof content];
        size_t got = 99;
        memset(&reads, 0, sizeof reads);
        reads.interrupt = cases[i].interrupt;
        reads.at_most = cases[i].at_most;
        assert_int_equal(sl_file_read(file, 0, bytes, sizeof bytes, &got), SL_OK);
        assert_int_equal(got, sizeof bytes);
        assert_memory_equal(bytes, content, sizeof content);
        assert_int_equal(sl_file_read(file, 4990, bytes, 100, &got), SL_OK);
        assert_int_equal(got, 10);
        assert_memory_equal(bytes, content + 4990, 10);
        assert_int_equal(sl_file_read(file, 5000, bytes, 1, &got), SL_OK);
        assert_int_equal(got, 0);
        assert_int_equal(sl_file_read(file, UINT64_MAX, bytes, 1, &got), SL_ERR_RANGE);
        assert_int_equal(sl_file_read(file, 0, bytes, 0, &got), SL_OK);
    }
    for (int64_t byte = 0; byte < 40; byte++) {     /* IO3: EIO at byte n */
        unsigned char bytes[40];
        size_t got = 99;
        memset(&reads, 0, sizeof reads);
        reads.at_most = 3;
        reads.fail_at = byte;
        reads.error = EIO;
        assert_int_equal(sl_file_read(file, 0, bytes, sizeof bytes, &got), SL_ERR_IO);
        assert_true((int64_t)got <= byte);
        assert_non_null(strstr(sl_last_error(), "input/output error"));
    }
    memset(&reads, 0, sizeof reads);
    sl_file_close(file, &mem);
    sl_file_close(NULL, &mem);
    counting_check_none(&c);
}

static void maps_files(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_file *file;
    const void *data, *again;
    assert_int_equal(sl_file_open(&file, &mem, path), SL_OK);
    assert_int_equal(sl_file_map(file, &data), SL_OK);
    assert_memory_equal(data, content, sizeof content);
    assert_int_equal(sl_file_map(file, &again), SL_OK);
    assert_true(data == again);
    sl_file_close(file, &mem);
    assert_int_equal(sl_file_open(&file, &mem, "/tmp"), SL_ERR_IO);
    assert_null(file);
    assert_int_equal(sl_file_open(&file, &mem, "/dev/null"), SL_ERR_IO);
    assert_int_equal(sl_file_open(&file, &mem, ""), SL_ERR_IO);
    c.fail_at = c.calls + 1;
    assert_int_equal(sl_file_open(&file, &mem, path), SL_ERR_NOMEM);
    counting_check_none(&c);
}

/* ---- modules ---- */

static void opens_modules(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_module *module;
    assert_int_equal(sl_module_open(&module, &mem, "libc.so.6"), SL_OK);     /* where the system looks */
    assert_non_null(sl_module_symbol(module, "strlen"));
    assert_null(sl_module_symbol(module, "sl_no_such_symbol"));
    sl_module_close(module, &mem);
    sl_module_close(NULL, &mem);
    assert_int_equal(sl_module_open(&module, &mem, "sl-no-such-module.so"), SL_ERR_BACKEND);
    assert_non_null(strstr(sl_last_error(), "sl-no-such-module.so"));
    assert_int_equal(sl_module_open(&module, &mem, path), SL_ERR_BACKEND);   /* a path is taken as it is: this one is no module */
    assert_null(module);
    for (size_t n = 1; n < 3; n++) {
        c.fail_at = c.calls + n;
        assert_int_equal(sl_module_open(&module, &mem, "libc.so.6"), SL_ERR_NOMEM);
        counting_check_none(&c);
    }
}

/* A file beside the library (here: beside this program, which contains it) comes first, even if it is not a module. */
static void looks_beside_itself(void **state)
{
    (void)state;
    static const char name[] = "sl-beside-test.so";
    char beside[4096];
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    sl_module *module;
    ssize_t n = readlink("/proc/self/exe", beside, sizeof beside - sizeof name);
    assert_true(n > 0);
    beside[n] = 0;
    strcpy(strrchr(beside, '/') + 1, name);
    FILE *f = fopen(beside, "w");
    if (!f)
        skip();     /* a build folder that cannot be written to */
    fputs("no module", f);
    fclose(f);
    sl_status s = sl_module_open(&module, &mem, name);
    (void)remove(beside);
    assert_int_equal(s, SL_ERR_BACKEND);
    assert_non_null(strstr(sl_last_error(), "/sl-beside-test.so"));
    counting_check_none(&c);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (unsigned char)(i * 31 + i / 256);
    int good = fd >= 0 && write(fd, content, sizeof content) == (ssize_t)sizeof content;
    return good && !close(fd) ? 0 : -1;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    if (!SL_WITH_THREADS || !SL_WITH_FILES)
        return 77;      /* there is nothing behind the interface then */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_processors),
        cmocka_unit_test(orders_processors),
        cmocka_unit_test(pins_threads),
        cmocka_unit_test(runs_threads),
        cmocka_unit_test(tells_time),
        cmocka_unit_test(gives_memory),
        cmocka_unit_test(reads_whatever_the_system_does),
        cmocka_unit_test(maps_files),
        cmocka_unit_test(opens_modules),
        cmocka_unit_test(looks_beside_itself),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
