/* SPDX-License-Identifier: MIT */
/* scene.c - see scene.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "faults.h"
#include "mllama_build.h"
#include "scene.h"
#include "tiny.h"

const sl_token scene_ids[N_IDS] = { 1, 270, 280, 290, 299 }, scene_pictured[N_PICTURED] = { 1, N_SEEN, 3, N_SEEN, 4 };
scene s;

int32_t scene_go_on(uint64_t done, uint64_t total, void *user) { return (void)done, (void)total, (void)user, fault_now(FAULT_CANCEL); }

sl_model_options scene_options(void)
{
    const sl_model_options o = { .size = sizeof o, .n_threads = 3, .allocator = &s.allocator, .progress = scene_go_on };
    return o;
}

static void make_paths(void)
{
    static const char *const names[N_PATHS] = {
        "whole.gguf", "large.gguf", "split-00001-of-00002.gguf", "split-00002-of-00002.gguf", "text.gguf", "projector.gguf", "weights", "state", "state.old", "out.gguf", "picture.ppm",
    };
    for (size_t i = 0; i < N_PATHS; i++)
        snprintf(s.paths[i], sizeof s.paths[i], "%s/%s", s.folder, names[i]);
}

static void save_free(const char *path, unsigned char *data, size_t size)
{
    tiny_save(path, data, size);
    free(data);
}

static void make_files(void)
{
    size_t size;
    tiny *t = tiny_create(&(tiny_shape) { .n_vocab = N_VOCAB, .n_layer = 1 }), *m = mllama_create(NULL), *text, *projector;
    s.file = tiny_write(t, &s.file_size);
    tiny_save(s.paths[WHOLE], s.file, s.file_size);
    s.large = tiny_file(&(tiny_shape) { .n_vocab = 9000, .n_layer = 1 }, &s.large_size);      /* of which two matrices are more than a piece of work */
    tiny_save(s.paths[LARGE], s.large, s.large_size);
    for (unsigned part = 0; part < 2; part++) {
        unsigned char *data = tiny_write_part(t, part, 2, &size);
        save_free(part ? s.paths[SECOND] : s.paths[SPLIT], data, size);
    }
    mllama_split(m, &text, &projector);
    unsigned char *data = tiny_write(text, &size);
    save_free(s.paths[TEXT], data, size);
    data = tiny_write(projector, &size);
    save_free(s.paths[PROJECTOR], data, size);
    tiny_free(t), tiny_free(m), tiny_free(text), tiny_free(projector);
}

static void make_pictures(void)
{
    uint16_t samples[3 * WIDTH * HEIGHT];
    s.pixels = picture_pixels(WIDTH, HEIGHT);
    for (size_t i = 0; i < COUNT(samples); i++)
        samples[i] = s.pixels[i];
    picture_png(&s.encoded[0], &(png_recipe) { .width = WIDTH, .height = HEIGHT, .bits = 8, .type = PNG_RGB, .samples = samples });
#if SL_WITH_IMAGE_JPEG
    picture_jpeg(&s.encoded[1], s.pixels, WIDTH, HEIGHT, 80, 0);
#endif
#if SL_WITH_IMAGE_WEBP
    picture_webp(&s.encoded[2], s.pixels, WIDTH, HEIGHT, 3);
#endif
    picture ppm = { 0 };
    picture_ppm(&ppm, s.pixels, WIDTH, HEIGHT);
    tiny_save(s.paths[PICTURE_FILE], ppm.data, ppm.size);
    picture_free(&ppm);
    STATUS(sl_image_from_rgb(&s.image, s.pixels, WIDTH, HEIGHT, 0, &s.allocator), SL_OK);
}

static void open_all(void)
{
    const double t = 0.7, k = 20;
    const sl_source source = source_of(s.file, s.file_size), *const sources[] = { &source };
    const sl_session_options many = { .size = sizeof many, .n_seq = N_SEQ, .n_ctx = 192 };
    sl_model_options o = scene_options();
    o.n_threads = 2;
    STATUS(sl_model_load_sources(&s.model, sources, 1, &o), SL_OK);
    STATUS(sl_session_create(&s.session, s.model, NULL), SL_OK);
    STATUS(sl_session_create(&s.timelines, s.model, &many), SL_OK);
    STATUS(sl_session_create(&s.reader, s.model, &many), SL_OK);
    STATUS(sl_sampler_create(&s.sampler, N_VOCAB, 1, &s.allocator), SL_OK);
    STATUS(sl_sampler_add(s.sampler, "top-k", &k, 1), SL_OK);
    STATUS(sl_sampler_add(s.sampler, "temp", &t, 1), SL_OK);
    o.projector = s.paths[PROJECTOR];
    STATUS(sl_model_load(&s.seeing, s.paths[TEXT], &o), SL_OK);
}

int scene_open(void)
{
    strcpy(s.folder, "/tmp/spacellama-XXXXXX");
    if (!mkdtemp(s.folder))
        return 0;
    s.allocator = faults_allocator();
    make_paths();
    make_files();
    make_pictures();
    open_all();
    return 1;
}

int scene_close(void)
{
    sl_session_free(s.session);
    sl_session_free(s.timelines);
    sl_session_free(s.reader);
    sl_sampler_free(s.sampler);
    sl_image_free(s.image);
    sl_model_free(s.model);
    sl_model_free(s.seeing);
    for (size_t i = 0; i < COUNT(s.encoded); i++)
        picture_free(&s.encoded[i]);
    free(s.file), free(s.large), free(s.pixels), free(s.state.data), free(s.quantized.data), free(s.counted.data);
    for (size_t i = 0; i < N_PATHS; i++)
        unlink(s.paths[i]);
    return !rmdir(s.folder);
}
