/* SPDX-License-Identifier: MIT */
/* model_build.h - models of architecture llama or llama4 in memory, made from a few numbers and a seed: for tests that need weights but no training. The
 * GGUF file is written here, byte by byte, without the library; it has no vocabulary unless asked for, so it is fed ids. */
#ifndef SL_TESTS_MODEL_BUILD_H
#define SL_TESTS_MODEL_BUILD_H

#include "type.h"

#include <stddef.h>

/* What a matrix is for: with experts the three of the feed-forward part are stacks, the router is F32. */
enum model_role { ROLE_TOKEN_EMBD, ROLE_OUTPUT, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUTPUT, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN, ROLE_COUNT };

typedef struct model_spec {
    uint32_t n_embd, n_ff, n_layer, n_head, n_head_kv, d_head, n_vocab, n_ctx;
    uint32_t n_expert, n_expert_used;       /* 0: dense */
    int tied, biases, fused;                /* no output.weight; biases wherever they may be; attn_qkv of the type of ROLE_ATTN_Q */
    int rope_factors;                       /* rope_freqs.weight */
    /* Llama 4 where n_ff_expert is not 0: width of experts, every so-manieth layer has them (0: not written), positions of a chunk, use_qk_norm, and
     * attention.sliding_window 0 */
    uint32_t n_ff_expert, expert_step, chunk;
    int qk_norm, no_window;
    int words;                              /* a vocabulary: <unk>, <s>, </s>, "w3", "w4", ... */
    const char *scaling;                    /* rope.scaling.type, or NULL */
    float factor, attn_factor;              /* of rope.scaling; 0: not written */
    uint32_t ctx_original;                  /* 0: not written */
    sl_type types[ROLE_COUNT];
    uint64_t seed;
} model_spec;

typedef struct model_tensor {
    char name[48];
    sl_type type;
    uint32_t n_dims;
    uint64_t ne[3];                         /* fastest first */
    size_t bytes;
    const unsigned char *data;              /* in the file */
} model_tensor;

typedef struct model_file {
    model_spec spec;
    unsigned char *data;                    /* the whole file */
    size_t size, n_tensors;
    model_tensor tensors[256];
} model_file;

/* Ends the program if the spec does not fit the types. */
model_file *model_build(const model_spec *spec);
void model_build_free(model_file *file);
/* 1 if layer l has experts. */
int model_has_experts(const model_spec *spec, int l);
/* All matrices of one type. */
model_spec model_spec_of(model_spec spec, sl_type type);
/* Numbers of an F32 tensor "blk.<layer>.<name>" (layer -1: name as it is), or NULL if it is not there. */
const float *model_values(const model_file *file, int layer, const char *name);

#endif
