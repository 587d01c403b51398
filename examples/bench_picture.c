/* SPDX-License-Identifier: MIT */
/* bench_picture.c - what a picture costs, counted in the model's tensors, and how long its parts take. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double elements(const sl_tensor_info *t)
{
    double n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++)
        n *= (double)t->dims[i];
    return n;
}

static int begins(const char *name, const char *with) { return strncmp(name, with, strlen(with)) == 0; }
static int ends(const char *name, const char *with) { return strlen(name) >= strlen(with) && strcmp(name + strlen(name) - strlen(with), with) == 0; }

/* Tiles along a side of the picture that is measured. */
static uint32_t tiles_of_side(const sl_model_info *info) { return info->max_tiles >= 4 ? 2 : 1; }

/* All tiles go through the encoder, used or not, each filled up to a multiple of 8 positions. Positions of used tiles look at everything, the others at those. */
struct picture_cost count_picture(const sl_model *model, const sl_model_info *info)
{
    struct picture_cost c = { 0 };
    const size_t n = sl_model_tensor_count(model);
    double per_tile = 0, filled_up = 0;
    for (size_t i = 0; i < n; i++) {
        const sl_tensor_info t = tensor_at(model, i);
        if (strcmp(t.name, "v.position_embd.weight") == 0 && t.n_dims > 1) {
            per_tile = (double)t.dims[1];
            filled_up = (double)((t.dims[1] + 7) / 8 * 8);
        }
    }
    const double all = info->max_tiles * filled_up, seen = tiles_of_side(info) * tiles_of_side(info) * per_tile;
    for (size_t i = 0; i < n && per_tile > 0; i++) {
        const sl_tensor_info t = tensor_at(model, i);
        if (t.n_dims < 2)
            continue;
        if (strcmp(t.name, "v.patch_embd.weight") == 0)
            c.matrices += elements(&t) * info->max_tiles * (per_tile - 1);
        else if (begins(t.name, "v.blk.") || begins(t.name, "v.global.blk."))
            c.matrices += elements(&t) * all;
        else if (strcmp(t.name, "mm.0.weight") == 0)
            c.matrices += elements(&t) * info->max_tiles * per_tile;
        else if (strstr(t.name, ".cross_attn_k_proj.") || strstr(t.name, ".cross_attn_v_proj."))
            c.keys += elements(&t) * seen;
        if (begins(t.name, "v.") && ends(t.name, ".attn_q.weight"))
            c.attention += 2 * (double)t.dims[1] * (seen * all + (all - seen) * seen);
    }
    return c;
}

/* A picture that fills as many tiles as the model takes, up to two by two. */
static sl_image *make_picture(const sl_model_info *info)
{
    const uint32_t side = info->tile_side * tiles_of_side(info);
    uint8_t *pixels = take((size_t)side * side, 3);
    for (uint32_t y = 0; y < side; y++)
        for (uint32_t x = 0; x < side; x++) {
            uint8_t *at = pixels + ((size_t)y * side + x) * 3;
            at[0] = (uint8_t)(x * 255 / side);
            at[1] = (uint8_t)(y * 255 / side);
            at[2] = (uint8_t)((x / 16 ^ y / 16) & 1 ? 255 : 0);
        }
    sl_image *image;
    must(sl_image_from_rgb(&image, pixels, side, side, 0, NULL));
    free(pixels);
    return image;
}

void measure_picture(struct bench *b, const sl_token *ids, float *logits)
{
    if (!b->image)
        return;
    sl_session *session = open_for(b, 1 + least_context(b));
    sl_image *image = make_picture(&b->info);
    for (uint64_t i = 0; i <= b->rounds; i++) {
        tell("picture:", i, b->rounds);
        must(sl_session_rewind(session, 0));
        sl_session_stats before = { sizeof before }, after = before;
        must(sl_session_get_stats(session, &before));
        must(sl_session_add_image(session, image));
        must(sl_session_get_stats(session, &after));
        must(sl_session_eval(session, &b->info.image_token, 1, NULL, 0));
        const double prompt = prompt_rate(b, session, ids, logits), decode = decode_rate(b, session, ids, logits);
        if (i > 0) {            /* the first one warms up */
            add_sample(&b->add_image, 1e-9 * (double)(after.image_ns - before.image_ns));
            add_sample(&b->encode_image, 1e-9 * (double)(after.image_encode_ns - before.image_encode_ns));
            add_sample(&b->image_keys, 1e-9 * (double)(after.image_keys_ns - before.image_keys_ns));
            add_sample(&b->sight.prompt, prompt);
            add_sample(&b->sight.decode, decode);
        }
    }
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(session, &stats));
    b->image_bytes = (double)stats.image_bytes;
    b->sight.cached_bytes = cached_bytes(b, session, 1) + b->image_bytes;
    sl_image_free(image);
    b->picture_session = session;
}
