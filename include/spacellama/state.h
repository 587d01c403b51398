/* SPDX-License-Identifier: MIT */
/** @file state.h
 *  A session on disk: its sequences, their caches, their pictures. After loading it goes on with the same bits as if it had never stopped.
 *
 *  A state belongs to the model files that it was made with (sl_model_info.identity), to what was chosen about their arithmetic, to the cache type and to sl_numerics_id(). A
 *  damaged one is refused, whichever bit of it changed; but it is not signed: load only states that come from where you trust. What samplers remember is
 *  not in it. States of earlier versions are read, too; those of version 1 do not say whether a sequence was shifted (sl_seq_shift()), so a prompt reuses nothing of them. */
#ifndef SPACELLAMA_STATE_H
#define SPACELLAMA_STATE_H

#include "sequence.h"

#ifdef __cplusplus
extern "C" {
#endif

/** In the place of a number: all sequences of the session. */
#define SL_SEQ_ALL 0xffffffffu

/** What was found in a state. */
typedef struct sl_state_info {
    size_t size;            /**< sizeof(sl_state_info) */
    uint64_t generation;    /**< how many states were saved under that name before it, and it itself; 0: not from a file */
    uint64_t bytes;         /**< of the state */
    uint32_t n_seq;         /**< sequences in it that are not empty */
    uint32_t older;         /**< 1: this is the one before the last: the last one is damaged, or was never finished */
} sl_state_info;

/** Saves a sequence, or all of them (SL_SEQ_ALL), in the file at `path` (UTF-8). The state that stood there before is kept as "<path>.old". Whatever happens
 *  (a full disk, a power cut between any two writes), one of the two is whole: the new state, or the one that was the last. SL_ERR_IO, SL_ERR_STATE if another process is
 *  writing it; then nothing has changed. SL_ERR_UNSUPPORTED: pictures of Llama 4 and LLaVA, whose vectors take the place of tokens, cannot be saved. Since 0.1. */
SL_API sl_status sl_state_save(const sl_session *session, uint32_t seq, const char *path);

/** Loads what was saved at `path`: one sequence into sequence `seq`, whatever its number was, or all into all. If the last state is damaged or missing, the one
 *  before it is taken, and `info` (may be NULL) says so. SL_ERR_STATE: a state of another model, of other arithmetic, or not of that many sequences; SL_ERR_TYPE: another cache type;
 *  SL_ERR_VERSION; SL_ERR_RANGE, SL_ERR_FULL: it does not fit the session; SL_ERR_MAGIC, SL_ERR_TRUNCATED, SL_ERR_CHECKSUM: damaged. Then the session is as it was. If memory or
 *  the disk fails in the middle, the sequences that were to be loaded are empty. Since 0.1. */
SL_API sl_status sl_state_load(sl_session *session, uint32_t seq, const char *path, sl_state_info *info);

/** Gives up to `bytes` further bytes of a state and returns how many (a short count is asked again, 0 means the end), or a negative number on failure. */
typedef int64_t (*sl_read_fn)(void *to, uint64_t bytes, void *user);

/** The same state for programs that keep it by other means than files. Since 0.1. */
SL_API sl_status sl_state_write(const sl_session *session, uint32_t seq, sl_write_fn write, void *user);
/** And back. No byte behind the state is asked for. What is damaged may be found late: then the sequences that were to be loaded are empty. Since 0.1. */
SL_API sl_status sl_state_read(sl_session *session, uint32_t seq, sl_read_fn read, void *user, sl_state_info *info);

#ifdef __cplusplus
}
#endif
#endif
