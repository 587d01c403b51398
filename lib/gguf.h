/* SPDX-License-Identifier: MIT */
/* gguf.h - the GGUF container: a reader over (pointer, size) that trusts nothing, and a writer. Knows no model.
 * Format: specs of ggml-org (GGUF versions 2 and 3, little-endian). Limits: <spacellama/model.h>. */
#ifndef SL_GGUF_H
#define SL_GGUF_H

#include "hash.h"
#include "type.h"
#include <spacellama/model.h>

/* The value types, by SL_META_... */
typedef struct sl_meta_type {
    const char *name;           /* "U8" */
    uint8_t bytes;              /* of one value; 0: text or array, which say so themselves */
    uint8_t is_signed;
} sl_meta_type;
extern const sl_meta_type sl_meta_types[SL_META_LAST_ + 1];

/* A value as it lies in the file; data is not aligned. */
typedef struct sl_gguf_value {
    int32_t type;               /* SL_META_... */
    int32_t element_type;       /* of an array, else = type */
    uint64_t count;             /* elements of an array, else 1 */
    const uint8_t *data;        /* first element (a string begins with its u64 length) */
} sl_gguf_value;

typedef struct sl_gguf_kv {
    const char *key;            /* terminated copy */
    size_t key_length;
    sl_gguf_value value;
    uint64_t *marks;            /* array of strings: where every SL_GGUF_MARK-th of them begins, in bytes from value.data; else NULL */
} sl_gguf_kv;
enum { SL_GGUF_MARK = 64 };

typedef struct sl_gguf_tensor {
    const char *name;           /* terminated copy */
    sl_type type;
    uint32_t n_dims;            /* 1 to 4 */
    uint64_t ne[4];             /* fastest first; 1 past n_dims */
    uint64_t offset;            /* of the data, from the start of the file */
    uint64_t bytes;             /* of the data */
} sl_gguf_tensor;

typedef struct sl_gguf {
    uint32_t version;
    uint64_t alignment;
    uint64_t header_bytes;      /* end of the tensor infos: all that the values below point into */
    uint64_t data_offset;       /* start of the data section: the same, aligned */
    size_t n_kv, n_tensors;
    sl_gguf_kv *kv;
    sl_gguf_tensor *tensors;
    sl_map kv_map, tensor_map;
    char *names;                /* arena of the terminated copies */
} sl_gguf;

/* Parses a file of file_size bytes of which the first `size` are at `data`. If those are too few but the file is longer, returns
 * SL_ERR_TRUNCATED with *need set to how many to bring (0: the file itself is too short). Every offset, size and count is checked against file_size.
 * The result points into data, which must outlive it. On failure nothing is left allocated. */
sl_status sl_gguf_parse(sl_gguf *gguf, const sl_mem *mem, const void *data, size_t size, uint64_t file_size, uint64_t *need);
void sl_gguf_free(sl_gguf *gguf, const sl_mem *mem);

const sl_gguf_kv *sl_gguf_find(const sl_gguf *gguf, const char *key);               /* or NULL */
const sl_gguf_tensor *sl_gguf_find_tensor(const sl_gguf *gguf, const char *name);   /* or NULL */

/* Typed access. SL_ERR_MISSING if the key is absent (*out unchanged), SL_ERR_TYPE if it is something else, SL_ERR_RANGE if it does not fit. The sentence names the key. */
sl_status sl_gguf_u64(const sl_gguf *gguf, const char *key, uint64_t *out);         /* any integer type that is not negative */
sl_status sl_gguf_u32(const sl_gguf *gguf, const char *key, uint32_t *out);
sl_status sl_gguf_f32(const sl_gguf *gguf, const char *key, float *out);            /* f32 or f64 */
sl_status sl_gguf_bool(const sl_gguf *gguf, const char *key, int *out);
sl_status sl_gguf_text(const sl_gguf *gguf, const char *key, sl_text *out);
sl_status sl_gguf_array(const sl_gguf *gguf, const char *key, int32_t element_type, sl_gguf_value *out);

/* Elements of a value (index < count). Strings of an array are reached in order: start with *cursor = value.data. */
sl_status sl_gguf_value_int(const sl_gguf_value *value, uint64_t index, int64_t *out);     /* integers and bool */
sl_status sl_gguf_value_float(const sl_gguf_value *value, uint64_t index, double *out);    /* any number */
sl_text sl_gguf_next_text(const uint8_t **cursor);                                          /* of data that was parsed */
/* String `element` (< count) of a value of type or element type STRING, in bounded time: from the nearest mark on. */
sl_text sl_gguf_element_text(const sl_gguf_kv *kv, uint64_t element);
void sl_gguf_next_array(const uint8_t **cursor, sl_gguf_value *out);                        /* the same for arrays in an array */
uint64_t sl_gguf_value_bytes(const sl_gguf_value *value);                                   /* of its data */

/* ---- writer ---- */

/* Takes the bytes in order; a result other than SL_OK ends the writing. */
typedef sl_status sl_gguf_sink(const void *data, size_t bytes, void *user);

/* Collects keys and tensors, then writes one file, in the order given. Errors stick: the first is returned by sl_gguf_write. What a reader
 * would refuse is refused here. general.alignment is written as the first key unless it is the default (32) or the caller puts it, with
 * the same value. Alignment 0 means 32. */
typedef struct sl_gguf_writer sl_gguf_writer;
sl_status sl_gguf_writer_create(sl_gguf_writer **out, const sl_mem *mem, uint32_t version, uint64_t alignment);
void sl_gguf_writer_free(sl_gguf_writer *writer);
void sl_gguf_put_int(sl_gguf_writer *writer, const char *key, int32_t type, int64_t value);        /* integers and bool */
void sl_gguf_put_float(sl_gguf_writer *writer, const char *key, int32_t type, double value);       /* F32, F64 */
void sl_gguf_put_text(sl_gguf_writer *writer, const char *key, const char *text, size_t length);
void sl_gguf_put_array(sl_gguf_writer *writer, const char *key, int32_t element_type, const void *elements, uint64_t count);   /* fixed-size elements */
void sl_gguf_put_texts(sl_gguf_writer *writer, const char *key, const sl_text *texts, uint64_t count);
void sl_gguf_put_value(sl_gguf_writer *writer, const char *key, const sl_gguf_value *value);       /* copied from a reader */
/* `data` (tensor bytes) must live until the write; NULL: fill is called with user and gives all of them to its sink, in order. */
typedef sl_status sl_gguf_fill(sl_gguf_sink *sink, void *sink_user, void *user);
void sl_gguf_put_tensor(sl_gguf_writer *writer, const char *name, sl_type type, uint32_t n_dims, const uint64_t *ne, const void *data, sl_gguf_fill *fill, void *user);
sl_status sl_gguf_write(sl_gguf_writer *writer, sl_gguf_sink *sink, void *user);

#endif
