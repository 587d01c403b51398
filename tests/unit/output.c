/* SPDX-License-Identifier: MIT */
/* output.c - files that are written whole or not at all: this program stands between the library and the system for everything that can fail. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#undef _FORTIFY_SOURCE      /* its inline functions would hide the ones below */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"
#include "counting.h"
#include "output.h"

/* ---- between the library and the system ---- */

static struct {
    const char *call;           /* which call fails, NULL: none */
    int skip, error;            /* after so many good ones; with this errno */
    int at_most;                /* bytes per write; 0: any */
    int interrupt;              /* every second write and sync is interrupted */
    int calls;
    char order[256];            /* what was called */
} fault;

static int fails(const char *call)
{
    strncat(fault.order, call, sizeof fault.order - strlen(fault.order) - 2);
    strcat(fault.order, " ");
    if (!fault.call || strcmp(fault.call, call) || fault.skip-- > 0)
        return 0;
    errno = fault.error;
    return 1;
}

static int interrupted(void)
{
    errno = EINTR;
    return fault.interrupt && fault.calls++ % 2 == 0;
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t offset)
{
    if (interrupted() || fails("write"))
        return -1;
    return syscall(SYS_pwrite64, fd, from, fault.at_most && n > (size_t)fault.at_most ? (size_t)fault.at_most : n, offset);
}

int fsync(int fd) { return interrupted() || fails("sync") ? -1 : (int)syscall(SYS_fsync, fd); }
int flock(int fd, int how) { return fails("lock") ? -1 : (int)syscall(SYS_flock, fd, how); }
int ftruncate(int fd, off_t length) { return fails("truncate") ? -1 : (int)syscall(SYS_ftruncate, fd, length); }
int rename(const char *from, const char *to) { return fails("rename") ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); }

/* ---- a folder to write in ---- */

static char folder[64], path[96], partial[112];
static counting c;
static sl_mem mem;

static int make_folder(void **state)
{
    (void)state;
    memset(&fault, 0, sizeof fault);
    strcpy(folder, "/tmp/sl-output-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(partial, sizeof partial, "%s.partial", path);
    c = (counting) { 0 };
    mem = counting_mem(&c);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(partial);
    return rmdir(folder) || c.live_blocks || c.wrong;       /* nothing else was left behind */
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void holds(const char *name, const char *text)
{
    char read[64] = { 0 };
    FILE *f = fopen(name, "rb");
    if (!text) {
        assert_null(f);
        return;
    }
    assert_non_null(f);
    assert_int_equal(fread(read, 1, sizeof read - 1, f), strlen(text));
    fclose(f);
    assert_string_equal(read, text);
}

/* "hello, world", through every entry. */
static sl_status write_file(void)
{
    sl_output o;
    sl_status s = sl_output_open(&o, &mem, path);
    if (s != SL_OK)
        return s;
    if ((s = sl_output_append(&o, "?????", 5)) == SL_OK && (s = sl_output_append(&o, ", world", 7)) == SL_OK && (s = sl_output_write(&o, 0, "hello", 5)) == SL_OK)
        s = sl_output_commit(&o);
    sl_output_discard(&o);
    return s;
}

/* ---- tests ---- */

static void writes_whole_files(void **state)
{
    (void)state;
    assert_int_equal(write_file(), SL_OK);
    assert_string_equal(fault.order, "lock truncate write write write sync rename sync ");      /* bytes, then name, then folder */
    holds(path, "hello, world");
    holds(partial, NULL);
    put(path, "old");
    put(partial, "left behind by a process that died, and longer than what is written");
    memset(&fault, 0, sizeof fault);
    fault.at_most = 1;
    fault.interrupt = 1;
    assert_int_equal(write_file(), SL_OK);
    holds(path, "hello, world");
    holds(partial, NULL);
    assert_int_equal(chdir(folder), 0);     /* a name without a folder */
    sl_output o;
    assert_int_equal(sl_output_open(&o, &mem, "file"), SL_OK);
    assert_int_equal(sl_output_commit(&o), SL_OK);
    holds(path, "");
    assert_int_equal(chdir("/"), 0);
}

static void gives_up_without_a_trace(void **state)
{
    (void)state;
    sl_output o;
    put(path, "old");
    assert_int_equal(sl_output_open(&o, &mem, path), SL_OK);
    assert_int_equal(sl_output_append(&o, "new", 3), SL_OK);
    sl_output_discard(&o);
    sl_output_discard(&o);
    holds(path, "old");
    holds(partial, NULL);
}

/* Every call fails in turn: the old bytes stay, or, once the name has changed hands, the new ones are there whole. */
static void keeps_the_old_when_a_call_fails(void **state)
{
    (void)state;
    static const struct { const char *call; int skip, error; sl_status status; const char *after, *says; } cases[] = {
        { "lock", 0, EWOULDBLOCK, SL_ERR_STATE, "old", "somebody else is writing it" }, { "lock", 0, ENOLCK, SL_OK, "hello, world", NULL },
        { "truncate", 0, EIO, SL_ERR_IO, "old", "input/output error" },
        { "write", 0, ENOSPC, SL_ERR_IO, "old", "the disk is full" }, { "write", 1, EDQUOT, SL_ERR_IO, "old", "the quota" }, { "write", 2, EIO, SL_ERR_IO, "old", NULL },
        { "sync", 0, EIO, SL_ERR_IO, "old", "input/output" }, { "sync", 0, EINVAL, SL_OK, "hello, world", NULL },
        { "rename", 0, EACCES, SL_ERR_IO, "old", "permission denied" }, { "sync", 1, EIO, SL_ERR_IO, "hello, world", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(path, "old");
        memset(&fault, 0, sizeof fault);
        fault.call = cases[i].call;
        fault.skip = cases[i].skip;
        fault.error = cases[i].error;
        const sl_status s = write_file();
        if (s != cases[i].status)
            fail_msg("case %zu: %d, not %d", i, (int)s, (int)cases[i].status);
        if (cases[i].says)
            assert_non_null(strstr(sl_last_error(), cases[i].says));
        if (s != SL_OK)
            assert_non_null(strstr(sl_last_error(), path));
        memset(&fault, 0, sizeof fault);
        holds(path, cases[i].after);
        if (strcmp(cases[i].call, "lock") && strcmp(cases[i].call, "truncate"))
            holds(partial, NULL);
    }
    for (size_t n = 1;; n++) {      /* and every allocation */
        put(path, "old");
        c.calls = 0;
        c.fail_at = n;
        const sl_status s = write_file();
        const size_t calls = c.calls;
        c.fail_at = 0;
        if (s == SL_OK && calls < n)
            break;
        assert_int_equal(s, SL_ERR_NOMEM);
        counting_check_none(&c);
        holds(partial, NULL);
    }
}

static void takes_turns(void **state)
{
    (void)state;
    sl_output a, b;
    assert_int_equal(sl_output_open(&a, &mem, path), SL_OK);
    assert_int_equal(sl_output_open(&b, &mem, path), SL_ERR_STATE);     /* the same process */
    const pid_t child = fork();
    if (!child)
        _exit(sl_output_open(&b, &mem, path) != SL_ERR_STATE);          /* and another */
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(sl_output_append(&a, "a", 1), SL_OK);
    assert_int_equal(sl_output_commit(&a), SL_OK);
    assert_int_equal(sl_output_open(&b, &mem, path), SL_OK);
    assert_int_equal(sl_output_commit(&b), SL_OK);
    holds(path, "");
}

static void refuses_what_is_not_its_own(void **state)
{
    (void)state;
    char other[96];
    snprintf(other, sizeof other, "%s/other", folder);
    put(other, "precious");
    put(path, "old");
    assert_int_equal(symlink(other, partial), 0);
    assert_int_equal(write_file(), SL_ERR_IO);      /* a link is not followed */
    assert_int_equal(unlink(partial), 0);
    assert_int_equal(link(other, partial), 0);
    assert_int_equal(write_file(), SL_ERR_IO);      /* nor is a file with two names emptied */
    assert_int_equal(unlink(partial), 0);
    assert_int_equal(mkfifo(partial, 0600), 0);
    assert_int_equal(write_file(), SL_ERR_IO);
    assert_int_equal(unlink(partial), 0);
    assert_int_equal(mkdir(partial, 0700), 0);
    assert_int_equal(write_file(), SL_ERR_IO);
    assert_int_equal(rmdir(partial), 0);
    holds(other, "precious");
    holds(path, "old");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(write_file(), SL_ERR_IO);      /* what is no file keeps its name */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(write_file(), SL_ERR_IO);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(unlink(other), 0);
    sl_output o;
    assert_int_equal(sl_output_open(&o, &mem, "/no/such/folder/file"), SL_ERR_IO);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(sl_output_open(&o, &mem, ""), SL_OK);          /* ".partial" can be made, a file without a name cannot */
    assert_int_equal(sl_output_commit(&o), SL_ERR_IO);
    assert_int_equal(chdir("/"), 0);
}

int main(void)
{
    if (!SL_WITH_FILES)
        return 77;      /* there is nothing behind the interface then */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_whole_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(gives_up_without_a_trace, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(keeps_the_old_when_a_call_fails, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(takes_turns, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(refuses_what_is_not_its_own, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
