/* SPDX-License-Identifier: MIT */
/* state_file.c - states in files when the disk is full, when calls fail, and when the power goes: this program stands between the library and the system, notes what
 * is written, and lays out what a disk may hold afterwards. There must always be a whole state: the one before or the new one. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#undef _FORTIFY_SOURCE      /* its inline functions would hide the ones below */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"
#include "random.h"
#include "sanitized.h"
#include "state.h"
#include "tiny.h"

enum { N_VOCAB = 24, MOST_BYTES = 16384, MOST_WRITES = 64, MOST_RENAMES = 4 };

/* ---- between the library and the system ---- */

static struct {
    int cut, fail;                  /* number of the call, from 1, at which the power goes, or which alone fails; 0: none */
    int calls, dark;                /* so far; 1: the power is gone */
    size_t room;                    /* bytes that the disk has room for */
    struct { size_t offset, n; unsigned char *data; } writes[MOST_WRITES];
    int n_writes, n_synced;         /* the first ones are on the disk */
    struct { char from[128], to[128]; } renames[MOST_RENAMES];
    int n_renames, n_named;
} disk;

static int fails(void)
{
    disk.calls++;
    disk.dark |= disk.calls == disk.cut;
    errno = EIO;
    return disk.dark || disk.calls == disk.fail;
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t offset)
{
    const int failing = fails();
    if (failing && !disk.dark)
        return -1;
    if (n > disk.room) {
        n = disk.room;
        errno = ENOSPC;
        if (!n)
            return -1;
    }
    if (disk.n_writes < MOST_WRITES && (!failing || disk.calls == disk.cut)) {      /* the last one may have begun */
        unsigned char *data = malloc(n);
        memcpy(data, from, n);
        disk.writes[disk.n_writes].offset = (size_t)offset;
        disk.writes[disk.n_writes].n = n;
        disk.writes[disk.n_writes++].data = data;
    }
    disk.room -= n;
    return failing ? (errno = EIO, -1) : syscall(SYS_pwrite64, fd, from, n, offset);
}

int fsync(int fd)
{
    struct stat st;
    if (fails())
        return -1;
    if (!fstat(fd, &st) && S_ISDIR(st.st_mode))
        disk.n_named = disk.n_renames;
    else
        disk.n_synced = disk.n_writes;
    return 0;
}

int ftruncate(int fd, off_t length) { return fails() ? -1 : (int)syscall(SYS_ftruncate, fd, length); }
int unlink(const char *path) { return fails() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); }

int rename(const char *from, const char *to)
{
    const int failing = fails();
    if (disk.n_renames < MOST_RENAMES && (!failing || disk.calls == disk.cut) && syscall(SYS_faccessat, AT_FDCWD, from, F_OK) == 0) {
        snprintf(disk.renames[disk.n_renames].from, 128, "%s", from);
        snprintf(disk.renames[disk.n_renames++].to, 128, "%s", to);
    }
    return failing ? (errno = EIO, -1) : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void new_disk(void)
{
    for (int i = 0; i < disk.n_writes; i++)
        free(disk.writes[i].data);
    memset(&disk, 0, sizeof disk);
    disk.room = SIZE_MAX;
}

/* ---- files ---- */

typedef struct content { unsigned char bytes[MOST_BYTES]; size_t n; int there; } content;

static char folder[64], path[96], old[112], partial[112];

static void get_file(const char *name, content *c)
{
    FILE *f = fopen(name, "rb");
    c->there = f != NULL;
    c->n = f ? fread(c->bytes, 1, sizeof c->bytes, f) : 0;
    assert_true(c->n < sizeof c->bytes);
    if (f)
        fclose(f);
}

/* Always a new file: of one that was cut to nothing and closed again some file systems write everything back, and wait. */
static void put_file(const char *name, const content *c)
{
    (void)syscall(SYS_unlinkat, AT_FDCWD, name, 0);
    if (!c->there)
        return;
    const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0 && syscall(SYS_pwrite64, fd, c->bytes, c->n, 0) == (long)c->n);
    close(fd);
}

/* ---- the scene: a session, and states of it with 1, 2, ... tokens ---- */

static sl_model *model;
static sl_session *session, *reader;

static int prepare(void **state)
{
    (void)state;
    size_t size;
    unsigned char *file = tiny_file(&(tiny_shape) { .n_layer = 1, .n_head = 4, .n_head_kv = 1 }, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    const sl_model_options mo = { .size = sizeof mo, .n_threads = 1 };
    const sl_session_options so = { .size = sizeof so, .n_ctx = 64 };
    STATUS(sl_model_load_sources(&model, sources, 1, &mo), SL_OK);
    STATUS(sl_session_create(&session, model, &so), SL_OK);
    STATUS(sl_session_create(&reader, model, &so), SL_OK);
    free(file);
    strcpy(folder, "/dev/shm/sl-state-XXXXXX");     /* in memory, if there is such a folder: the disk is this program */
    if (!mkdtemp(folder) && !mkdtemp(strcpy(folder, "/tmp/sl-state-XXXXXX")))
        return -1;
    snprintf(path, sizeof path, "%s/state", folder);
    snprintf(old, sizeof old, "%s.old", path);
    snprintf(partial, sizeof partial, "%s.partial", path);
    new_disk();
    return 0;
}

static int clean(void **state)
{
    (void)state;
    new_disk();
    unlink(path), unlink(old), unlink(partial);
    sl_session_free(session);
    sl_session_free(reader);
    sl_model_free(model);
    return rmdir(folder);
}

/* Token i of every state is i: a state is known by its length. */
static void set_length(size_t n)
{
    if (n < sl_session_length(session))
        STATUS(sl_session_rewind(session, n), SL_OK);
    for (sl_token id; (id = (sl_token)sl_session_length(session)) < (sl_token)n;)
        STATUS(sl_session_eval(session, &id, 1, NULL, 0), SL_OK);
}

/* Loads, and sees to it that it is a whole state: returns its length. */
static size_t load(int *older, uint64_t *generation)
{
    float rows[2][N_VOCAB];
    sl_state_info info = { .size = sizeof info };
    STATUS(sl_state_load(reader, 0, path, &info), SL_OK);
    const size_t n = sl_session_length(reader), had = sl_session_length(session);
    *older = (int)info.older;
    *generation = info.generation;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(sl_session_tokens(reader)[i], i);
    set_length(n);
    const sl_token next = 7;
    STATUS(sl_session_eval(session, &next, 1, rows[0], 1), SL_OK);
    STATUS(sl_session_eval(reader, &next, 1, rows[1], 1), SL_OK);
    assert_memory_equal(rows[0], rows[1], sizeof rows[0]);
    STATUS(sl_session_rewind(session, n), SL_OK);
    set_length(had);
    return n;
}

static void save(size_t length)
{
    set_length(length);
    STATUS(sl_state_save(session, 0, path), SL_OK);
}

/* ---- tests ---- */

static void last_and_before(void **state)
{
    (void)state;
    int older;
    uint64_t generation;
    content last, before, damaged;
    STATUS(sl_state_load(reader, 0, path, NULL), SL_ERR_IO);
    save(3);
    assert_int_equal(load(&older, &generation), 3);
    assert_int_equal(generation, 1);
    save(5);
    save(8);
    assert_int_equal(load(&older, &generation), 8);
    assert_int_equal(generation, 3);
    assert_int_equal(older, 0);
    get_file(path, &last);
    get_file(old, &before);
    /* The last one damaged in any byte, or cut anywhere, or longer: the one before it. A save then does not put the damaged one in the place of the good one. */
    damaged = last;
    for (size_t i = 0; i < last.n; i += 13) {
        damaged.bytes[i] ^= 0x10;
        put_file(path, &damaged);
        assert_int_equal(load(&older, &generation), 5);
        assert_int_equal(older, 1);
        assert_int_equal(generation, 2);
        damaged.bytes[i] ^= 0x10;
        damaged.n = i;
        put_file(path, &damaged);
        assert_int_equal(load(&older, &generation), 5);
        damaged.n = last.n;
    }
    damaged.bytes[damaged.n++] = 0x5a;
    put_file(path, &damaged);
    assert_int_equal(load(&older, &generation), 5);
    save(9);
    assert_int_equal(load(&older, &generation), 9);
    assert_int_equal(generation, 3);
    content kept;
    get_file(old, &kept);
    assert_int_equal(kept.n, before.n);
    assert_memory_equal(kept.bytes, before.bytes, before.n);
    /* Both damaged: the session is as it was. */
    before.bytes[70] ^= 1;
    put_file(path, &damaged);
    put_file(old, &before);
    const size_t length = sl_session_length(reader);
    STATUS(sl_state_load(reader, 0, path, NULL), SL_ERR_CHECKSUM);
    assert_non_null(strstr(sl_last_error(), path));
    assert_null(strstr(sl_last_error(), old));
    assert_int_equal(sl_session_length(reader), length);
    /* Only the one before is there. */
    before.bytes[70] ^= 1;
    put_file(old, &before);
    put_file(path, &(content) { .there = 0 });
    assert_int_equal(load(&older, &generation), 5);
    assert_int_equal(older, 1);
}

/* Whatever fails, the state that was there is there. */
static void still_there(size_t length)
{
    int older;
    uint64_t generation;
    new_disk();
    assert_int_equal(load(&older, &generation), length);
}

static void full_disk_and_failing_calls(void **state)
{
    (void)state;
    content last;
    (void)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    (void)syscall(SYS_unlinkat, AT_FDCWD, old, 0);
    save(4);
    get_file(path, &last);
    set_length(6);
    for (size_t room = 0; room < last.n; room++) {
        new_disk();
        disk.room = room;
        STATUS(sl_state_save(session, 0, path), SL_ERR_IO);
        if (room % 16 == 0)
            still_there(4);
    }
    still_there(4);
    int n_failed = 0;
    for (int call = 1;; call++) {
        new_disk();
        disk.fail = call;
        set_length(6);
        const sl_status status = sl_state_save(session, 0, path);
        const int last_call = disk.calls < call, named = disk.n_renames;
        if (status == SL_OK)
            still_there(6);
        else {
            int older;
            uint64_t generation;
            assert_int_equal(status, SL_ERR_IO);
            new_disk();
            const size_t n = load(&older, &generation);     /* a folder that cannot be written back has the new name already */
            assert_true(n == 4 || (n == 6 && named));
            n_failed++;
        }
        save(4);
        if (last_call)
            break;
    }
    assert_true(n_failed >= 5);
}

/* What a disk may hold after the power went: data that were not written back are there, or in part, or not; of names that changed, any. */
static void lay_out(const content *last, const content *before, uint64_t *seed)
{
    content files[3] = { *last, *before, { .there = 1 } };      /* path, old, partial */
    static const char *names[3];
    names[0] = path, names[1] = old, names[2] = partial;
    content *written = &files[2];
    for (int i = 0; i < disk.n_writes; i++) {
        const size_t n = i < disk.n_synced ? disk.writes[i].n : random_below(seed, 3) ? random_below(seed, disk.writes[i].n + 1) : random_below(seed, 2) * disk.writes[i].n;
        assert_true(disk.writes[i].offset + n < MOST_BYTES);
        if (disk.writes[i].offset > written->n)
            memset(written->bytes + written->n, 0, disk.writes[i].offset - written->n);
        memcpy(written->bytes + disk.writes[i].offset, disk.writes[i].data, n);
        written->n = disk.writes[i].offset + n > written->n ? disk.writes[i].offset + n : written->n;
    }
    for (int i = 0; i < disk.n_renames; i++) {
        int from = 0, to = 0;
        if (i >= disk.n_named && random_below(seed, 2))
            continue;
        while (strcmp(names[from], disk.renames[i].from))
            from++;
        while (strcmp(names[to], disk.renames[i].to))
            to++;
        files[to] = files[from];
        files[from].there = 0;
    }
    for (int i = 0; i < 3; i++)
        put_file(names[i], &files[i]);
}

static void power_cuts(void **state)
{
    (void)state;
    const int n_cuts = WHEN_SANITIZED(500, 10000);
    static content last, before;
    uint64_t seed = 1;
    int n_new = 0, n_before = 0, n_done = 0;
    (void)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    (void)syscall(SYS_unlinkat, AT_FDCWD, old, 0);
    new_disk();
    save(2);
    size_t length = 2;
    for (int i = 0; i < n_cuts; i++) {
        const size_t next = 1 + (length + random_below(&seed, 20)) % 23;
        int older;
        uint64_t generation;
        get_file(path, &last);
        get_file(old, &before);
        if (before.there && before.n > 100 && random_below(&seed, 10) == 0 && last.there) {     /* a bit of the last one was lost meanwhile */
            last.bytes[random_below(&seed, last.n)] ^= (unsigned char)(1 << random_below(&seed, 8));
            put_file(path, &last);
            length = load(&older, &generation);
        }
        set_length(next);
        new_disk();
        disk.cut = 1 + (int)random_below(&seed, 10);
        const sl_status status = sl_state_save(session, 0, path);
        disk.dark = 1;
        if (status != SL_OK || random_below(&seed, 2))
            lay_out(&last, &before, &seed);
        const int finished = status == SL_OK;
        new_disk();
        const size_t found = load(&older, &generation);
        if (found != next && (found != length || finished))
            fail_msg("cut %d: a state of %zu tokens, expected %zu%s", i, found, next, finished ? "" : " or the one before");
        n_new += found == next;
        n_before += found != next;
        n_done += finished;
        length = found;
    }
    print_message("%d power cuts: %d times the new state, %d times the one before, %d saves were finished\n", n_cuts, n_new, n_before, n_done);
    assert_true(n_before > n_cuts / 10 && n_new > n_cuts / 10 && n_new > n_done);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(last_and_before), cmocka_unit_test(full_disk_and_failing_calls), cmocka_unit_test(power_cuts) };
    return cmocka_run_group_tests(tests, prepare, clean);
}
