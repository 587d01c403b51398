/* SPDX-License-Identifier: MIT */
/* scene.h - what there is for acts (acts.h): models, sessions, pictures, files in a folder of their own; and room for what every call gives when nothing fails. */
#ifndef SL_TESTS_SCENE_H
#define SL_TESTS_SCENE_H

#include "check.h"
#include "picture_build.h"
#include <spacellama/spacellama.h>

enum { N_VOCAB = 300, N_IDS = 5, N_SEQ = 3, N_PREFIX = 70, N_BATCH = 6, N_MADE = 4, MOST_BYTES = 1 << 21, N_SEEN = 280, N_PICTURED = 5, MOST_IDS = 256, WIDTH = 12, HEIGHT = 9 };
enum { WHOLE, LARGE, SPLIT, SECOND, TEXT, PROJECTOR, CACHE, STATE, OLD, OUT, PICTURE_FILE, N_PATHS };
extern const sl_token scene_ids[N_IDS], scene_pictured[N_PICTURED];     /* the second with two pictures */

/* Bytes that somebody wrote. */
typedef struct bytes { unsigned char *data; size_t n, at; } bytes;

/* Everything. */
typedef struct scene {
    char folder[64], paths[N_PATHS][96];
    sl_allocator allocator;      /* that of faults.h */
    sl_model *model, *seeing;
    sl_session *session, *timelines, *reader;
    sl_sampler *sampler;
    sl_image *image;
    float logits[N_VOCAB], batch[N_BATCH][N_VOCAB], picture[N_SEEN];
    sl_token made[N_MADE];
    sl_token said[MOST_IDS];
    size_t n_said;
    sl_memory need;
    unsigned char *file, *large;
    size_t file_size, large_size;
    bytes state, quantized, counted;
    picture encoded[3];         /* png, jpeg, webp */
    uint8_t decoded[3][3 * WIDTH * HEIGHT];
    uint8_t *pixels;
} scene;
extern scene s;

/* Opens everything. 0: there is no folder. */
int scene_open(void);
/* 0: something could not be removed. */
int scene_close(void);
sl_model_options scene_options(void);
int32_t scene_go_on(uint64_t done, uint64_t total, void *user);        /* a sl_progress_fn that may fail: FAULT_CANCEL */

#endif
