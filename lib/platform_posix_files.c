/* SPDX-License-Identifier: MIT */
/* platform_posix_files.c - files and modules of platform.h on POSIX systems. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "platform.h"
#include "mem.h"

#if SL_WITH_FILES

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ---- */

struct sl_file {
    int fd;
    uint64_t size, changed;
    void *map;      /* or NULL */
};

/* Reasons in our own words: strerror speaks the language of the host's locale. */
static sl_status fail_errno(const char *what, int e)
{
    static const struct { int value; const char *text; } reasons[] = {
        { ENOENT, "no such file" }, { EACCES, "permission denied" }, { ENOTDIR, "part of the path is not a folder" },
        { EISDIR, "it is a folder" }, { EMFILE, "too many open files" }, { ENFILE, "too many open files" }, { EIO, "input/output error" },
        { ENAMETOOLONG, "the path is too long" }, { ELOOP, "too many links" }, { ENOMEM, "no memory" }, { ESTALE, "stale file handle" },
        { ENOSPC, "the disk is full" }, { EDQUOT, "the quota is used up" }, { EFBIG, "the file would be too large" }, { EROFS, "it can only be read" },
    };
    const char *text = "system error";
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].value == e)
            text = reasons[i].text;
    return sl_fail(e == ENOMEM ? SL_ERR_NOMEM : SL_ERR_IO, "%s: %s (error %d)", what, text, e);
}

/* The size of what is open at fd, which must be something that can be read at any place, and when it was changed. */
static sl_status size_of(int fd, uint64_t *size, uint64_t *changed)
{
    struct stat st;
    if (fstat(fd, &st))
        return fail_errno("cannot open", errno);
    if (S_ISDIR(st.st_mode))
        return fail_errno("cannot open", EISDIR);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return sl_fail(SL_ERR_IO, "cannot open: not a regular file");
    off_t end = S_ISBLK(st.st_mode) ? lseek(fd, 0, SEEK_END) : st.st_size;
    if (end < 0)
        return fail_errno("cannot find the end", errno);
    *size = (uint64_t)end;
    *changed = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    return SL_OK;
}

sl_status sl_file_open(sl_file **out, const struct sl_mem *mem, const char *path)
{
    *out = NULL;
    int fd;
    do      /* O_NONBLOCK: a pipe is refused below, not waited for */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return fail_errno("cannot open", errno);
    uint64_t size = 0, changed = 0;
    sl_status s = size_of(fd, &size, &changed);
    sl_file *file = s == SL_OK ? sl_mem_alloc(mem, 1, sizeof *file) : NULL;
    if (!file) {
        close(fd);
        return s == SL_OK ? SL_ERR_NOMEM : s;
    }
    *file = (sl_file) { fd, size, changed, NULL };
    *out = file;
    return SL_OK;
}

void sl_file_close(sl_file *file, const struct sl_mem *mem)
{
    if (!file)
        return;
    if (file->map)
        munmap(file->map, (size_t)file->size);
    close(file->fd);
    sl_mem_free(mem, file);
}

uint64_t sl_file_size(const sl_file *file) { return file->size; }
uint64_t sl_file_changed(const sl_file *file) { return file->changed; }

sl_status sl_file_read(const sl_file *file, uint64_t offset, void *to, size_t bytes, size_t *got)
{
    *got = 0;
    while (*got < bytes) {
        size_t want = bytes - *got;
        if (want > 1 << 30)
            want = 1 << 30;     /* systems refuse or shorten larger reads */
        if (offset > INT64_MAX - want)
            return sl_fail(SL_ERR_RANGE, "cannot read: no such place in a file");
        ssize_t n = pread(file->fd, (char *)to + *got, want, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno("cannot read", errno);
        if (n == 0)
            return SL_OK;
        *got += (size_t)n;
        offset += (uint64_t)n;
    }
    return SL_OK;
}

sl_status sl_file_map(sl_file *file, const void **data)
{
    *data = NULL;
    if (!file->map) {
        if (!file->size)
            return sl_fail(SL_ERR_IO, "cannot map: the file is empty");
        if (file->size > SIZE_MAX)
            return sl_fail(SL_ERR_OVERFLOW, "cannot map: the file is larger than the address space");
        void *map = mmap(NULL, (size_t)file->size, PROT_READ, MAP_PRIVATE, file->fd, 0);
        if (map == MAP_FAILED)
            return fail_errno("cannot map", errno);
        file->map = map;
    }
    *data = file->map;
    return SL_OK;
}

/* ---- files: writing ---- */

/* Opens `path` for writing, made if it is not there, and locks it. *raced: somebody gave the file its final name meanwhile. */
static sl_status open_locked(int *out, const char *path, int *raced)
{
    struct stat held, there;
    int fd;
    do      /* O_NOFOLLOW, O_NONBLOCK: in a folder that others may write to, links and pipes of theirs are refused */
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return fail_errno("cannot create", errno);
    sl_status s = SL_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)      /* any other failure: a file system without locks */
        s = sl_fail(SL_ERR_STATE, "cannot create: somebody else is writing it");
    else if (fstat(fd, &held))
        s = fail_errno("cannot create", errno);
    else if (!S_ISREG(held.st_mode) || held.st_uid != geteuid())
        s = sl_fail(SL_ERR_IO, "cannot create: what is there is no file of this user");
    else {
        *raced = lstat(path, &there) || there.st_ino != held.st_ino || there.st_dev != held.st_dev;
        if (!*raced && held.st_nlink != 1)
            s = sl_fail(SL_ERR_IO, "cannot create: the file has other names too");
        else if (!*raced && ftruncate(fd, 0))
            s = fail_errno("cannot create", errno);
    }
    if (s != SL_OK || *raced)
        close(fd);
    *out = fd;
    return s;
}

sl_status sl_file_create(sl_file **out, const struct sl_mem *mem, const char *path)
{
    enum { TRIES = 16 };
    int fd = -1, raced = 1;
    *out = NULL;
    sl_file *file = sl_mem_alloc(mem, 1, sizeof *file);
    if (!file)
        return SL_ERR_NOMEM;
    sl_status s = SL_OK;
    for (int i = 0; i < TRIES && raced && s == SL_OK; i++)
        s = open_locked(&fd, path, &raced);
    if (s == SL_OK && raced)
        s = sl_fail(SL_ERR_STATE, "cannot create: somebody else is writing it");
    if (s != SL_OK) {
        sl_mem_free(mem, file);
        return s;
    }
    *file = (sl_file) { .fd = fd };
    *out = file;
    return SL_OK;
}

sl_status sl_file_write(sl_file *file, uint64_t offset, const void *from, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        size_t want = bytes - done < 1 << 30 ? bytes - done : 1 << 30;
        if (offset > INT64_MAX - want)
            return sl_fail(SL_ERR_RANGE, "cannot write: no such place in a file");
        ssize_t n = pwrite(file->fd, (const char *)from + done, want, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno("cannot write", n ? errno : EIO);
        done += (size_t)n;
        offset += (uint64_t)n;
    }
    return SL_OK;
}

/* What fsync says of files that have nothing to be written back is no failure. */
static sl_status sync_to_disk(int fd)
{
    int e;
    do
        e = fsync(fd) ? errno : 0;
    while (e == EINTR);
    return e && e != EINVAL && e != EROFS ? fail_errno("cannot write back", e) : SL_OK;
}

/* The folder of `path`, written back: from then on its new name survives a loss of power. */
static sl_status sync_folder(const struct sl_mem *mem, const char *path)
{
    const char *slash = strrchr(path, '/');
    const size_t length = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = sl_mem_alloc(mem, length + 1, 1);
    if (!folder)
        return SL_ERR_NOMEM;
    memcpy(folder, slash ? path : ".", length);
    int fd;
    do
        fd = open(folder, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    while (fd < 0 && errno == EINTR);
    sl_mem_free(mem, folder);
    if (fd < 0)     /* a folder that may be written to but not read */
        return errno == EACCES ? SL_OK : fail_errno("cannot open the folder", errno);
    sl_status s = sync_to_disk(fd);
    close(fd);
    return s;
}

sl_status sl_file_replaceable(const char *as)
{
    struct stat st;
    return !stat(as, &st) && !S_ISREG(st.st_mode) ? sl_fail(SL_ERR_IO, "cannot replace: not a regular file") : SL_OK;
}

sl_status sl_file_publish(sl_file *file, const struct sl_mem *mem, const char *path, const char *as, const char *keep)
{
    SL_TRY(sl_file_replaceable(as));
    SL_TRY(sync_to_disk(file->fd));
    if (keep && rename(as, keep)) {
        if (errno != ENOENT)
            return fail_errno("cannot keep what is there", errno);
        keep = NULL;
    }
    if (rename(path, as)) {
        const sl_status status = fail_errno("cannot replace", errno);
        if (keep)
            (void)rename(keep, as);
        return status;
    }
    return sync_folder(mem, as);
}

void sl_file_remove(const sl_file *file, const char *path)
{
    struct stat held, there;
    if (!fstat(file->fd, &held) && !lstat(path, &there) && there.st_ino == held.st_ino && there.st_dev == held.st_dev)
        (void)unlink(path);
}

/* ---- modules ---- */

struct sl_module {
    void *handle;
};

/* Path of `name` in the folder of the library; *out is NULL if that is unknown. To be freed. */
static sl_status beside_library(char **out, const sl_mem *mem, const char *name)
{
    static const char here = 0;     /* an address inside the library */
    Dl_info info;
    *out = NULL;
    const char *slash = dladdr(&here, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    if (!slash)
        return SL_OK;
    size_t folder = (size_t)(slash - info.dli_fname) + 1, n = strlen(name) + 1;
    char *path = sl_mem_alloc(mem, folder + n, 1);
    if (!path)
        return SL_ERR_NOMEM;
    memcpy(path, info.dli_fname, folder);
    memcpy(path + folder, name, n);
    *out = path;
    return SL_OK;
}

/* Loads `path`, in a structure that exists already: a loaded module must never be lost for want of memory. */
static sl_status load(sl_module *module, const char *path)
{
    module->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module->handle)
        return SL_OK;
    const char *why = dlerror();
    return sl_fail(SL_ERR_BACKEND, "cannot load the module: %s", why ? why : path);
}

sl_status sl_module_open(sl_module **out, const struct sl_mem *mem, const char *name)
{
    *out = NULL;
    char *beside = NULL;
    if (!strchr(name, '/'))
        SL_TRY(beside_library(&beside, mem, name));
    /* A module that is there but does not load is an error, not a reason to look elsewhere. */
    int found = beside && !access(beside, F_OK);
    sl_module *module = sl_mem_alloc(mem, 1, sizeof *module);
    sl_status s = module ? load(module, found ? beside : name) : SL_ERR_NOMEM;
    sl_mem_free(mem, beside);
    if (s == SL_OK)
        *out = module;
    else
        sl_mem_free(mem, module);
    return s;
}

void *sl_module_symbol(sl_module *module, const char *symbol) { return dlsym(module->handle, symbol); }

void sl_module_close(sl_module *module, const struct sl_mem *mem)
{
    if (!module)
        return;
    dlclose(module->handle);
    sl_mem_free(mem, module);
}

#endif
