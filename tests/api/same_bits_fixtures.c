/* SPDX-License-Identifier: MIT */
/* same_bits_fixtures.c - the promise of docs/numerics.md for models that others made, with their pictures: in all the ways of tests/support/ways.h. */
#include "check.h"
#include "fixture.h"
#include "sanitized.h"
#include "ways.h"

#include <stdio.h>

enum { N = WHEN_SANITIZED(40, 90), N_RANDOM = WHEN_SANITIZED(1, 24), LATE = N - 7 };

static const struct file { const char *path, *projector, *arith, *cache, *images[WAYS_IMAGES], *ran[4]; } files[] = {
    { "text/base-mix.gguf", NULL, "f32", "f32", { NULL }, { NULL } },
    { "text/base-mix2.gguf", NULL, "bf16", "f16", { NULL }, { NULL } },
    { "text/base-q4_k_m.gguf", NULL, "f32", "q8_0", { NULL }, { NULL } },
    { "text/moe.gguf", NULL, "bf16", "bf16", { NULL }, { NULL } },
    { "text/bias.gguf", NULL, "f32", "f16", { NULL }, { NULL } },
    { "text/fusedqkv.gguf", NULL, "f32", "f32", { NULL }, { NULL } },
    { "text/headdim.gguf", NULL, "f32", "bf16", { NULL }, { NULL } },
    { "text/yarn-attn.gguf", NULL, "f32", "f16", { NULL }, { NULL } },
    { "text/llama4.gguf", NULL, "f32", "f16", { NULL }, { "route/" } },
    { "llama3-tiny/model-f32.gguf", NULL, "f32", "f16", { NULL }, { NULL } },
    { "stories260K/stories260K-q4_0.gguf", NULL, "f32", "f32", { NULL }, { NULL } },
    { "llama4-tiny-128/model-f16.gguf", NULL, "bf16", "f16", { NULL }, { "route/" } },
    { "llama4-tiny/model-f32.gguf", NULL, "f32", "f32", { NULL }, { "route/" } },
    { "llama4-tiny/model-f16.gguf", "llama4-tiny/mmproj-f16.gguf", "bf16", "f16", { "llama4-tiny/small.ppm", "llama4-tiny/wide.ppm" }, { "route/", "span_attention/", "gelu/" } },
    { "mllama-tiny/model-f32.gguf", NULL, "f32", "f16", { "mllama-tiny/small.ppm", "mllama-tiny/dog.ppm", "mllama-tiny/wide.ppm" }, { "span_attention/", "layer_norm/", "add_gated/" } },
    { "mllama-tiny/split-text-f32.gguf", "mllama-tiny/split-projector-f32.gguf", "f32", "f32", { "mllama-tiny/small.ppm" }, { "span_attention/" } },
    { "mllama-tiny/model-f16-reordered.gguf", NULL, "bf16", "bf16", { "mllama-tiny/wide.ppm", "mllama-tiny/small.ppm" }, { "span_attention/" } },
};

static void prove(const struct file *f)
{
    char paths[2][1024], image[1024];
    const char *folder = getenv("SL_FIXTURES");
    ways_subject s = { .name = f->path, .arith = f->arith, .cache = f->cache, .path = paths[0], .n = N, .at = { 3, 3, LATE }, .seed = 1 };
    snprintf(paths[0], sizeof paths[0], "%s/%s", folder, f->path);
    if (f->projector) {
        snprintf(paths[1], sizeof paths[1], "%s/%s", folder, f->projector);
        s.projector = paths[1];
    }
    for (size_t i = 0; i < COUNT(f->ran) && f->ran[i]; i++)
        s.ran[i] = f->ran[i];
    for (size_t i = 0; i < WAYS_IMAGES && f->images[i]; i++) {
        snprintf(image, sizeof image, "%s/%s", folder, f->images[i]);
        if (sl_image_load(&s.images[s.n_images++], image, NULL) != SL_OK)
            fail_msg("%s: %s", image, sl_last_error());
    }
    ways_prove(&s, N_RANDOM);
    for (size_t i = 0; i < s.n_images; i++)
        sl_image_free(s.images[i]);
}

static void texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(files); i++)
        if (!files[i].images[0])
            prove(&files[i]);
}

static void pictures(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(files); i++)
        if (files[i].images[0])
            prove(&files[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(texts), cmocka_unit_test(pictures) };
    size_t size;
    free(fixture_load("llama3-tiny/manifest.json", &size));     /* skips without the folder */
    return cmocka_run_group_tests_name("same_bits_fixtures", tests, NULL, NULL);
}
