/* SPDX-License-Identifier: MIT */
/* vision/clip.h - the encoder of LLaVA: CLIP's transformer over the patches of one square picture, and two matrices to the width of the text. */
#ifndef SL_VISION_CLIP_H
#define SL_VISION_CLIP_H

#include "vision/vit.h"

typedef struct sl_clip {
    sl_vit vit;                                 /* patches, class vector (which comes first), positions, the norm before the layers, and those that are used */
    sl_weight first, second;                    /* the projector */
    sl_tensor first_bias, second_bias;
} sl_clip;

/* Whether the projector file in part `part` is one of these: what it is, in words, into layout->sentence. An error names the key that says otherwise. */
sl_status sl_clip_layout(sl_layout *layout, const sl_parts *parts, size_t part);
/* Reads the numbers of the encoder into *vision; sl_clip_layout has been asked. */
sl_status sl_clip_read(sl_vision *vision, const sl_parts *parts, size_t part);
sl_status sl_clip_bind(sl_loader *loader, sl_clip *encoder);
void sl_clip_free(sl_clip *encoder, const sl_mem *mem);
/* Vectors [width of the text, n_patch] of a picture, without that of the class. */
sl_tensor sl_clip_encode(sl_pass *pass, const sl_hparams *hp, const sl_clip *encoder, const sl_picture *picture);

#endif
