/* SPDX-License-Identifier: MIT */
/* pictures.h - the pictures of a session: encoded once, what was made of them kept, and which token has to do with which.
 *
 * Two kinds of models. In one, some layers look at pictures: their keys and values are kept, and a picture has one token. In the other, whose encoder says how many
 * vectors a tile gives (sl_vision.n_vector), the vectors of a picture take the place of as many tokens, in order: they are kept as rows, in the first layer's `k`.
 * What is kept of all pictures lies one after the other in pages of 64, every picture beginning on a page of its own, in the order in which they were added;
 * the memory grows with each. A picture belongs to the sequences that hold it: the one that it was added to, and copies of that. */
#ifndef SL_PICTURES_H
#define SL_PICTURES_H

#include "image.h"
#include "plan.h"

typedef struct sl_picture_place {
    int64_t first_key, n_keys;  /* its span of keys, or of rows */
    size_t n_holders;           /* sequences; 0: it will be overwritten */
} sl_picture_place;

/* A picture of a sequence, and the position of its first token, once it has one. */
typedef struct sl_album_entry { size_t picture, position; } sl_album_entry;

/* The pictures of a sequence, in the order of their tokens: that in which they were added. */
typedef struct sl_album {
    sl_album_entry *entries;    /* [n] */
    size_t n, n_placed;         /* the first n_placed have their token, or one */
    int64_t n_used;             /* tokens of the last of those; the ones before have all */
    size_t placed, run, first_span;     /* in a pass: how many have it so far; the first that is seen; where its spans begin */
    int64_t used;               /* in a pass: n_used so far */
} sl_album;

typedef struct sl_pictures {
    const sl_model *model;
    sl_type type;               /* of the cache */
    sl_kv_layer *kv;            /* [n_layer], of capacity n_pages; only the layers that look at pictures have any, or the first has rows */
    int64_t n_pages;
    sl_picture_place *places;   /* [n] */
    size_t n;
    sl_album *albums;           /* [n_seq] */
    uint32_t n_seq;
    int32_t *spans;             /* [2 * n_spans] of the pass; there is room for those of all albums */
    size_t n_spans;
    sl_plan plan;               /* of encoding one */
    uint64_t n_encoded, busy_ns, encode_ns, keys_ns;     /* pictures, nanoseconds of all that belongs to them, of the encoder, of keys and values */
} sl_pictures;

/* No picture yet. Shapes are there, so that passes can be planned (sl_pictures_sight); no memory is taken for keys and values. */
sl_status sl_pictures_init(sl_pictures *pictures, const sl_model *model, sl_type type, uint32_t n_seq);
void sl_pictures_free(sl_pictures *pictures);
/* Encodes one more, for a sequence. `cancel` as in sl_plan_run. On failure nothing has changed. */
sl_status sl_pictures_add(sl_pictures *pictures, uint32_t seq, const sl_image *image, const atomic_int *cancel);
/* The tokens of a sequence from `length` on are taken back; tokens[length] are left. unplace: their pictures wait again. forget: they are gone; those that wait, too,
 * if waiting is 1. A picture that keeps some of its tokens stays, and waits for the others. */
void sl_pictures_unplace(sl_pictures *pictures, uint32_t seq, const int32_t *tokens, size_t length);
void sl_pictures_forget(sl_pictures *pictures, uint32_t seq, const int32_t *tokens, size_t length, int waiting);
/* Sequence `to` holds those of the first `length` tokens of `from`, instead of its own. On failure nothing has changed. */
sl_status sl_pictures_copy(sl_pictures *pictures, uint32_t from, uint32_t to, const int32_t *tokens, size_t length);
/* For loading. adopt: room for one more picture of so many keys, held once, by the caller, who fills it (places[*picture]) and then releases it; attach: a sequence holds
 * it, too, behind its others; its token stands at `position`, or it waits. */
sl_status sl_pictures_adopt(sl_pictures *pictures, int64_t n_keys, size_t *picture);
sl_status sl_pictures_attach(sl_pictures *pictures, uint32_t seq, size_t picture, int placed, size_t position);
void sl_pictures_release(sl_pictures *pictures, size_t picture);
/* Pictures of a sequence, and how many tokens may follow that take something of them. */
size_t sl_pictures_count(const sl_pictures *pictures, uint32_t seq);
size_t sl_pictures_waiting(const sl_pictures *pictures, uint32_t seq);
/* Bytes of keys and values: of all pictures that are held, and of one of the largest; and what is held besides while that one is encoded. */
uint64_t sl_pictures_bytes(const sl_pictures *pictures);
uint64_t sl_pictures_bytes_each(const sl_pictures *pictures);
uint64_t sl_pictures_bytes_encoder(const sl_pictures *pictures);

/* The tokens of a pass: their sequences are rows[.] of seqs[n_seq]. */
typedef struct sl_looking {
    const int32_t *ids, *positions, *rows;      /* [n] */
    size_t n;
    const uint32_t *seqs;                       /* [n_seq] */
    size_t n_seq;
} sl_looking;
/* What they see; image tokens among them take the next pictures of their sequence that wait, or the next vectors (there are enough: checked before). ranges[2 * n] and
 * marks[n] are filled: 1, or 1 + the row of the vector. Returns 1 if any token has to do with a picture. looked: the pass has succeeded, the pictures have their tokens. */
int sl_pictures_look(sl_pictures *pictures, const sl_looking *looking, int32_t *ranges, int32_t *marks);
void sl_pictures_looked(sl_pictures *pictures, const uint32_t *seqs, size_t n_seq);
/* The sight of a pass: what sl_pictures_look filled, or for planning (ranges NULL) the largest that may come. */
sl_work_sight sl_pictures_sight(const sl_pictures *pictures, const int32_t *ranges, const int32_t *marks);

#endif
