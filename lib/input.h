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
    sl_mutex lock;              /* around read, and only there with it */
} sl_input;

/* Exactly `bytes` bytes at `offset`, or an error that names the file: SL_ERR_IO if it fails or gives less, SL_ERR_STATE if a callback
 * says that it gave more or nothing can be read any more, SL_ERR_BOUNDS past the size. */
sl_status sl_input_read(sl_input *input, uint64_t offset, void *to, size_t bytes);

/* One part: its bytes and what was parsed of them. */
typedef struct sl_part {
    sl_input input;
    sl_gguf gguf;
    uint8_t *head;              /* copy of the header that gguf points into; NULL: it points into memory that outlives it */
    size_t first;               /* tensors in the parts before it */
} sl_part;

/* A model's files. Part 0 carries the metadata. */
typedef struct sl_parts {
    size_t n_parts;
    sl_part *parts;
    size_t projector;           /* the part that is the image projector file of a two-file layout; 0: there is none */
    size_t n_tensors;           /* of all parts */
    sl_map map;                 /* names of all tensors, when there are several parts */
} sl_parts;

/* Opens and parses the file at `path` and, if it says split.count > 1, the others beside it: <prefix>-00001-of-00003.gguf and so on, names that are made
 * from `path` alone. A part that is not there, or is another one than its place says: SL_ERR_MISSING. Parts with different counts, or
 * other than split.tensors.count tensors: SL_ERR_RANGE. A tensor in two parts, or two architectures: SL_ERR_DUPLICATE. On failure nothing is left open. */
sl_status sl_parts_open_path(sl_parts *parts, const sl_mem *mem, const char *path);
/* The same from one source per part, in order: too few are SL_ERR_MISSING, too many SL_ERR_ARGUMENT. The structures have their full size. */
/* in_place 1: memory sources outlive the parts. 0: their header bytes are copied, since the memory need only last until sl_parts_release_data(). */
sl_status sl_parts_open_sources(sl_parts *parts, const sl_mem *mem, const sl_source *const *sources, size_t n_sources, int in_place);
/* Adds the projector file of a two-file layout, from `path` or else from `source`, as the last part. On failure the parts are to be closed as ever. */
sl_status sl_parts_add_projector(sl_parts *parts, const sl_mem *mem, const char *path, const sl_source *source, int in_place);
/* After loading: files are closed, memory and callbacks forgotten; metadata and tensor lists stay. Reads fail from then on. */
void sl_parts_release_data(sl_parts *parts, const sl_mem *mem);
void sl_parts_close(sl_parts *parts, const sl_mem *mem);

/* The tensor of that name in any part, and which part (`part` may be NULL); NULL if there is none. */
const sl_gguf_tensor *sl_parts_find(const sl_parts *parts, const char *name, size_t *part);
/* Tensor `index` < n_tensors, counted through all parts. */
const sl_gguf_tensor *sl_parts_tensor(const sl_parts *parts, size_t index, size_t *part);
/* Makes the whole input addressable: memory as it is, a file by mapping it. SL_ERR_UNSUPPORTED for callbacks. */
sl_status sl_input_map(sl_input *input, const uint8_t **data);

#endif
