/* SPDX-License-Identifier: MIT */
/* input.h - where the bytes of a model come from: files, memory or callbacks, and the parts of a split model seen as one. */
#ifndef SL_INPUT_H
#define SL_INPUT_H

#include "gguf.h"
#include "log.h"
#include "platform.h"

/* One file. Reads may come from any thread (callbacks are serialised). */
typedef struct sl_input {
    char *name;                 /* for messages */
    uint64_t size;
    sl_file *file;              /* or */
    const void *data;           /* memory (caller's, or the map of file), or */
    int64_t (*read)(uint64_t offset, void *to, uint64_t bytes, void *user);
    void *user;
    sl_mutex lock;              /* around read */
} sl_input;

/* Exactly `bytes` bytes at `offset`, or an error that names the file. */
sl_status sl_input_read(sl_input *input, uint64_t offset, void *to, size_t bytes);

/* One part: its bytes and what was parsed of them. */
typedef struct sl_part {
    sl_input input;
    sl_gguf gguf;
    uint8_t *head;              /* header bytes that gguf points into, when they are not in memory anyway */
} sl_part;

/* A model's files. Part 0 carries the metadata. */
typedef struct sl_parts {
    size_t n_parts;
    sl_part *parts;
} sl_parts;

/* Opens and parses the file at `path` and, if it says split.count > 1, the others beside it (gguf.md 1.3). Split checks: numbering, equal counts,
 * no tensor twice, split.tensors.count. */
sl_status sl_parts_open_path(sl_parts *parts, const sl_mem *mem, const char *path);
/* in_place 1: memory sources outlive the parts. 0: their header bytes are copied, since the memory need only last until sl_parts_release_data(). */
sl_status sl_parts_open_sources(sl_parts *parts, const sl_mem *mem, const sl_source *const *sources, size_t n_sources, int in_place);
/* After loading: files are closed, memory and callbacks forgotten; metadata and tensor lists stay. Reads fail from then on. */
void sl_parts_release_data(sl_parts *parts, const sl_mem *mem);
void sl_parts_close(sl_parts *parts, const sl_mem *mem);

/* The tensor of that name in any part, and which part; NULL if there is none. */
const sl_gguf_tensor *sl_parts_find(const sl_parts *parts, const char *name, size_t *part);
/* Makes the whole input addressable: memory as it is, a file by mapping it. SL_ERR_UNSUPPORTED for callbacks. */
sl_status sl_input_map(sl_input *input, const uint8_t **data);

#endif
