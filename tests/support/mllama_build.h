/* SPDX-License-Identifier: MIT */
/* mllama_build.h - models of architecture mllama in memory, made from a few numbers and a seed, in one file or in the two of older layouts; right ones, to be edited
 * (tiny.h). And pictures to show them. Nothing of the library makes the files. */
#ifndef SL_TESTS_MLLAMA_BUILD_H
#define SL_TESTS_MLLAMA_BUILD_H

#include "tiny.h"
#include "type.h"
#include <spacellama/image.h>

/* Zero means the number behind it. */
typedef struct mllama_spec {
    uint32_t n_layer, cross;                    /* 4, 0xa: bit l: layer l looks at pictures */
    uint32_t n_embd, n_ff, n_head, n_head_kv;   /* 32, 40, 4, 2 */
    uint32_t n_vocab, n_ctx;                    /* 280, 256. From 272 on there is a vocabulary: bytes, control tokens of Llama 3, and <|image|> behind the n_vocab others */
    uint32_t n_spare;                           /* rows of the embedding behind that of the image token */
    uint32_t v_embd, v_ff, v_head;              /* 16, 24, 2 */
    uint32_t v_layer, v_global, kept;           /* 2, 1, 0x3: bit l: the projector sees the input of layer l */
    uint32_t tile_side, patch_side, max_tiles;  /* 8, 4, 4: 5 positions per tile */
    int keeps_none;                             /* the projector sees the last layer's output alone */
    struct { const char *part; sl_type type; } types[6];    /* of matrices whose name has this in it, the first that fits; else F32 */
    uint64_t seed;
} mllama_spec;

/* The spec with its defaults written out. */
mllama_spec mllama_full(const mllama_spec *spec);
/* One file, layout L1. NULL: all default. To be freed by tiny_free, as the others. */
tiny *mllama_create(const mllama_spec *spec);
/* The same in two files, layout L0: the text and the projector, with its own tensor names. */
void mllama_split(const tiny *whole, tiny **text, tiny **projector);
/* One file with the names of the two, in the case somebody merged them. */
tiny *mllama_rename(const tiny *whole);

/* A picture of that size, different for every seed. Ends the program without memory. */
sl_image *mllama_picture(uint32_t width, uint32_t height, uint64_t seed);

/* Random ids of text, 0 <= id < n_vocab, with the image token n_vocab at the n places `at`. */
void mllama_ids(int32_t *ids, size_t n_ids, uint32_t n_vocab, const size_t *at, size_t n, uint64_t seed);

#endif
