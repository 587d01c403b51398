/* SPDX-License-Identifier: MIT */
/* tiny.h - llama models made in memory, right ones or with chosen faults. Needs nothing of the library: the bytes are written here, so tests
 * that see the public interface only can use it. */
#ifndef SL_TESTS_TINY_H
#define SL_TESTS_TINY_H

#include <stddef.h>
#include <stdint.h>

enum { TINY_KEYS = 64, TINY_TENSORS = 512, TINY_NAME = 80 };

/* Types of values and tensors, numbered as in GGUF. */
enum { TINY_U8 = 0, TINY_U16 = 2, TINY_U32 = 4, TINY_I32 = 5, TINY_F32 = 6, TINY_BOOL = 7, TINY_STRING = 8, TINY_ARRAY = 9, TINY_U64 = 10 };
enum { TINY_MATRIX_F32 = 0, TINY_MATRIX_Q8_0 = 8 };

typedef struct tiny_key {
    char name[TINY_NAME];
    uint32_t type;
    unsigned char *value;       /* as in the file */
    size_t bytes;
} tiny_key;

typedef struct tiny_tensor {
    char name[TINY_NAME];
    uint32_t type, n_dims;
    uint64_t dims[4];           /* fastest first */
    unsigned char *data;
    size_t bytes;
} tiny_tensor;

/* Zero means the number behind it. */
typedef struct tiny_shape {
    uint32_t n_layer;           /* 2 */
    uint32_t n_embd;            /* 32; a multiple of 32 */
    uint32_t n_head, n_head_kv; /* 4, 2 */
    uint32_t n_ff;              /* 64; a multiple of 32 */
    uint32_t n_vocab;           /* 24; from 288 on there is a token for every byte */
    uint32_t n_ctx;             /* 256, context_length */
    uint32_t n_expert, n_expert_used;
    uint32_t tied;              /* 1: no output.weight */
    uint32_t matrices;          /* TINY_MATRIX_... */
    uint64_t seed;
} tiny_shape;

typedef struct tiny {
    tiny_key keys[TINY_KEYS];
    tiny_tensor tensors[TINY_TENSORS];
    size_t n_keys, n_tensors;
} tiny;

/* A right model; NULL: all default. To be freed. A scored vocabulary: <unk> <s> </s>, the bytes if there is room, the space mark, letters, words of two letters. */
tiny *tiny_create(const tiny_shape *shape);
void tiny_free(tiny *t);

/* Sets a key (a new one goes behind the others). `value` as in the file. */
void tiny_put(tiny *t, const char *key, uint32_t type, const void *value, size_t bytes);
void tiny_put_u32(tiny *t, const char *key, uint32_t value);
void tiny_put_f32(tiny *t, const char *key, float value);
void tiny_put_text(tiny *t, const char *key, const char *text);
void tiny_put_array_u32(tiny *t, const char *key, const uint32_t *values, uint64_t count);
void tiny_drop_key(tiny *t, const char *key);

tiny_tensor *tiny_find(tiny *t, const char *name);      /* ends the program if there is none */
/* Adds a tensor of zeros. */
tiny_tensor *tiny_add(tiny *t, const char *name, uint32_t type, const uint64_t *dims, uint32_t n_dims, size_t bytes);
void tiny_drop(tiny *t, const char *name);
/* Other type and shape for a tensor; its data become zeros. */
void tiny_reshape(tiny_tensor *tensor, uint32_t type, const uint64_t *dims, uint32_t n_dims, size_t bytes);

/* The file: a block for free() of exactly *size bytes, so that a sanitizer sees a step beside it. */
unsigned char *tiny_write(const tiny *t, size_t *size);
/* Part `part` of the model split into n_parts: the first has all keys, the tensors are shared out. */
unsigned char *tiny_write_part(const tiny *t, unsigned part, unsigned n_parts, size_t *size);
/* A right model's file in one step. */
unsigned char *tiny_file(const tiny_shape *shape, size_t *size);
/* Writes bytes to a path; ends the program if that fails. */
void tiny_save(const char *path, const unsigned char *data, size_t size);

#endif
