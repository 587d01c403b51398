/* SPDX-License-Identifier: MIT */
/* state_file.c - states in files: the last one, and the one before it under the same name with ".old". What is written is whole before a name changes hands
 * (output.h), and a damaged file never takes the place of a good one. */
#include "log.h"
#include "output.h"
#include "state.h"

#include <string.h>

typedef struct reading { sl_file *file; uint64_t at; } reading;

static int64_t read_file(void *to, uint64_t bytes, void *user)
{
    reading *r = user;
    size_t got;
    if (sl_file_read(r->file, r->at, to, (size_t)bytes, &got) != SL_OK)
        return -1;
    r->at += got;
    return (int64_t)got;
}

static int32_t write_file(const void *data, uint64_t bytes, void *user) { return sl_output_append(user, data, (size_t)bytes) != SL_OK; }

/* A good state, wherever it is from. */
static sl_status check_file(const sl_mem *mem, const char *path, sl_state_head *head)
{
    reading r = { 0 };
    sl_status status = sl_file_open(&r.file, mem, path);
    if (status == SL_OK) {
        status = sl_state_check(mem, read_file, &r, head);
        if (status == SL_OK && r.at != sl_file_size(r.file))
            status = sl_fail(SL_ERR_CHECKSUM, "state: there are bytes behind its end");
        sl_file_close(r.file, mem);
    }
    return sl_fail_in(status, path);
}

static char *old_name(const sl_mem *mem, const char *path)
{
    static const char ending[] = ".old";
    const size_t n = strlen(path);
    char *old = sl_mem_alloc(mem, n + sizeof ending, 1);
    if (old) {
        memcpy(old, path, n);
        memcpy(old + n, ending, sizeof ending);
    }
    return old;
}

/* 1 if what is there may be the rest of a state: then the one before it counts. */
static int is_damage(sl_status status)
{
    return status == SL_ERR_IO || status == SL_ERR_MAGIC || status == SL_ERR_TRUNCATED || status == SL_ERR_CHECKSUM;
}

static sl_status save(const sl_session *session, uint32_t seq, const char *path, const char *old)
{
    const sl_mem *mem = &session->model->mem;
    sl_state_head last, before;
    sl_output output;
    const sl_status found = check_file(mem, path, &last), found_old = check_file(mem, old, &before);
    if (found == SL_ERR_NOMEM || found_old == SL_ERR_NOMEM)
        return SL_ERR_NOMEM;
    uint64_t generation = found == SL_OK ? last.generation : 0;
    if (found_old == SL_OK && before.generation > generation)
        generation = before.generation;
    SL_TRY(sl_output_open(&output, mem, path));
    sl_status status = sl_state_put(session, seq, generation + 1, write_file, &output);
    if (status == SL_OK)
        return sl_output_commit_keeping(&output, found == SL_OK ? old : NULL);
    sl_output_discard(&output);
    return status;
}

static sl_status load_file(sl_session *session, uint32_t seq, const char *path, sl_state_info *info)
{
    const sl_mem *mem = &session->model->mem;
    reading r = { 0 };
    sl_status status = sl_file_open(&r.file, mem, path);
    if (status == SL_OK) {
        status = sl_state_get(session, seq, read_file, &r, info);
        sl_file_close(r.file, mem);
    }
    return sl_fail_in(status, path);
}

static sl_status load(sl_session *session, uint32_t seq, const char *path, const char *old, sl_state_info *info)
{
    const sl_mem *mem = &session->model->mem;
    char sentence[SL_SENTENCE_BYTES];
    sl_state_head head;
    const sl_status status = check_file(mem, path, &head);
    if (status == SL_OK)
        return load_file(session, seq, path, info);
    sl_sentence_keep(sentence);
    if (!is_damage(status) || check_file(mem, old, &head) != SL_OK) {
        sl_sentence_restore(sentence);
        return status;
    }
    sl_log_line(&session->model->log, SL_LOG_WARN, "%s; the state before it is taken", sentence);
    SL_TRY(load_file(session, seq, old, info));
    info->older = 1;
    return SL_OK;
}

sl_status sl_state_save_file(const sl_session *session, uint32_t seq, const char *path)
{
    const sl_mem *mem = &session->model->mem;
    char sentence[SL_SENTENCE_BYTES], *old = old_name(mem, path);
    sl_sentence_keep(sentence);
    const sl_status status = old ? save(session, seq, path, old) : SL_ERR_NOMEM;
    if (status == SL_OK)
        sl_sentence_restore(sentence);      /* that there was no state yet is no failure */
    sl_mem_free(mem, old);
    return status;
}

sl_status sl_state_load_file(sl_session *session, uint32_t seq, const char *path, sl_state_info *info)
{
    const sl_mem *mem = &session->model->mem;
    char sentence[SL_SENTENCE_BYTES], *old = old_name(mem, path);
    sl_sentence_keep(sentence);
    const sl_status status = old ? load(session, seq, path, old, info) : SL_ERR_NOMEM;
    if (status == SL_OK)
        sl_sentence_restore(sentence);
    sl_mem_free(mem, old);
    return status;
}
