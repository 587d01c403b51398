/* SPDX-License-Identifier: MIT */
/* state.h - sequences to a stream of bytes and back. Files: state_file.c. */
#ifndef SL_STATE_H
#define SL_STATE_H

#include "session.h"
#include <spacellama/state.h>

/* Layout: a head and its checksum; then the rest in blocks of SL_STATE_BLOCK bytes (the last one is shorter), each followed by its checksum. A checksum is the CRC-32C of all that
 * came before it, checksums left out, so blocks of different states do not go together. Numbers are little endian.
 *
 *   for each sequence        sl_state_sequence (version 1: without n_own); its tokens, int32; its pages, int32: numbers in the list of pages; its pictures, sl_state_entry
 *   for each picture         the number of its keys, int64
 *   for each picture         in each layer that looks at pictures its pages: keys, values
 *   for each page            in each layer that looks at the text: keys, values; pages that several sequences share stand there once
 *
 * Version 1 does not say whether a sequence was shifted: it is loaded as one that was, so nothing of it is taken for what its tokens give by themselves. */
enum { SL_STATE_BLOCK = 65536, SL_STATE_VERSION = 2 };

typedef struct sl_state_head {
    char magic[8];              /* "SLstate\n" */
    uint32_t version, numerics;
    uint64_t identity;          /* of the model */
    uint64_t generation;        /* 0: not from a file */
    uint64_t bytes;             /* behind the head and its checksum, other checksums left out */
    uint32_t cache_type, whole; /* whole 1: all sequences of a session */
    uint32_t n_seq, n_pictures;
    uint64_t n_pages;
} sl_state_head;

typedef struct sl_state_sequence { uint32_t seq, n_entries; uint64_t length, n_own; } sl_state_sequence;   /* n_own: of sl_sequence, at most length */
typedef struct sl_state_entry { uint64_t picture, position; } sl_state_entry;   /* position UINT64_MAX: waits for its token */

sl_status sl_state_put(const sl_session *session, uint32_t seq, uint64_t generation, sl_write_fn write, void *user);
/* Reads a state to its end and holds it against its checksums. */
sl_status sl_state_check(const sl_mem *mem, sl_read_fn read, void *user, sl_state_head *head);
/* Nothing changes before all but keys and values was read, and fits. */
sl_status sl_state_get(sl_session *session, uint32_t seq, sl_read_fn read, void *user, sl_state_info *info);
/* As the public functions. */
sl_status sl_state_save_file(const sl_session *session, uint32_t seq, const char *path);
sl_status sl_state_load_file(sl_session *session, uint32_t seq, const char *path, sl_state_info *info);

#endif
