/* SPDX-License-Identifier: MIT */
/* pictures.h - the pictures of a session: encoded once, their keys and values kept, and which token sees which.
 *
 * Keys and values of all pictures lie one after the other in pages of 64, every picture beginning on a page of its own; the memory grows with each. */
#ifndef SL_PICTURES_H
#define SL_PICTURES_H

#include "image.h"
#include "plan.h"

typedef struct sl_picture_place {
    int64_t first_key, n_keys;  /* its span */
    size_t position;            /* of its token in the timeline, once it has one */
} sl_picture_place;

typedef struct sl_pictures {
    const sl_model *model;
    sl_type type;               /* of the cache */
    sl_kv_layer *kv;            /* [n_layer], of capacity n_pages; only the layers that look at pictures have any */
    int64_t n_pages;
    sl_picture_place *places;   /* [n] */
    int32_t *spans;             /* [2 * n] */
    size_t n, n_placed;         /* pictures, and how many of them, the first ones, have their token */
    sl_plan plan;               /* of encoding one */
    uint64_t n_encoded, busy_ns;
} sl_pictures;

/* No picture yet. Shapes are there, so that passes can be planned (sl_pictures_sight); no memory is taken for keys and values. */
sl_status sl_pictures_init(sl_pictures *pictures, const sl_model *model, sl_type type);
void sl_pictures_free(sl_pictures *pictures);
/* Encodes one more. `cancel` as in sl_plan_run. On failure nothing has changed. */
sl_status sl_pictures_add(sl_pictures *pictures, const sl_image *image, const atomic_int *cancel);
/* The tokens from `length` on are taken back. unplace: their pictures wait again. forget: they are gone; those that wait, too, if waiting is 1. */
void sl_pictures_unplace(sl_pictures *pictures, size_t length);
void sl_pictures_forget(sl_pictures *pictures, size_t length, int waiting);
/* Bytes of keys and values: of all pictures that are held, and of one of the largest; and what is held besides while that one is encoded. */
uint64_t sl_pictures_bytes(const sl_pictures *pictures);
uint64_t sl_pictures_bytes_each(const sl_pictures *pictures);
uint64_t sl_pictures_bytes_encoder(const sl_pictures *pictures);

/* What n tokens at positions first, first + 1, ... see; image tokens among them take the next pictures that wait (there are enough: checked before), *n_placed
 * is how many have their token then. ranges[2 * n] and marks[n] are filled. Returns 1 if any token sees a picture. */
int sl_pictures_look(sl_pictures *pictures, const int32_t *ids, size_t n, size_t first, int32_t *ranges, int32_t *marks, size_t *n_placed);
/* The sight of a pass: what sl_pictures_look filled, or for planning (ranges NULL) the largest that may come. */
sl_work_sight sl_pictures_sight(const sl_pictures *pictures, const int32_t *ranges, const int32_t *marks);

#endif
