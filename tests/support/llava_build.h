/* SPDX-License-Identifier: MIT */
/* llava_build.h - projector files of LLaVA in memory, made from a few numbers and a seed; right ones, to be edited (tiny.h). Nothing of the library makes them. */
#ifndef SL_TESTS_LLAVA_BUILD_H
#define SL_TESTS_LLAVA_BUILD_H

#include "tiny.h"
#include "type.h"

/* Zero means the number behind it. */
typedef struct llava_spec {
    uint32_t n_embd;                        /* 32: of the text */
    uint32_t v_embd, v_ff, v_head, n_layer; /* 24, 40, 3, 3: of the encoder; layers that the file has */
    uint32_t side, patch, n_adapter;        /* 12, 4, 48 */
    uint32_t feature_layer;                 /* clip.vision.feature_layer; 0: no such key */
    int exact;                              /* clip.use_gelu */
    int new_names;                          /* the matrices of the feed-forward part are called up and down, not down and up */
    int no_kind;                            /* no clip.projector_type */
    sl_type type;                           /* of matrices */
    uint64_t seed;
} llava_spec;

/* The spec with its defaults written out. */
llava_spec llava_full(const llava_spec *spec);
tiny *llava_projector(const llava_spec *spec);

#endif
