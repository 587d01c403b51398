/* SPDX-License-Identifier: MIT */
/* image_webp.c - WebP through libwebp, which decodes into the picture's own memory. The chunks of the file are walked here first: for its end, for animation, for EXIF. */
#include "image_codec.h"

#include <string.h>
#include <webp/decode.h>

static sl_status failed(VP8StatusCode code)
{
    static const struct { VP8StatusCode code; sl_status status; const char *reason; } rows[] = {
        { VP8_STATUS_OUT_OF_MEMORY, SL_ERR_NOMEM, "no memory for decoding" },
        { VP8_STATUS_UNSUPPORTED_FEATURE, SL_ERR_UNSUPPORTED, "a feature that the codec does not read" },
        { VP8_STATUS_SUSPENDED, SL_ERR_TRUNCATED, "the data end too early" },
        { VP8_STATUS_NOT_ENOUGH_DATA, SL_ERR_TRUNCATED, "the data end too early" },
        { VP8_STATUS_BITSTREAM_ERROR, SL_ERR_SYNTAX, "damaged data" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == code)
            return sl_fail(rows[i].status, "%s", rows[i].reason);
    return sl_fail(SL_ERR_INTERNAL, "the codec answers %d", (int)code);
}

/* RIFF, its size, WEBP, then chunks: name, size, content padded to an even size. *size: what belongs to the picture. */
static sl_status walk_chunks(const sl_encoded *in, size_t *size, uint32_t *orientation)
{
    const uint64_t told = 8 + (uint64_t)sl_get_le32(in->data + 4);
    if (told < 20)
        return sl_fail(SL_ERR_SYNTAX, "a file of %llu bytes by its own account", (unsigned long long)told);
    if (told > in->length)
        return sl_fail(SL_ERR_TRUNCATED, "%llu bytes by its own account, there are %zu", (unsigned long long)told, in->length);
    *size = (size_t)told;
    for (size_t at = 12; at < *size;) {
        if (*size - at < 8)
            return sl_fail(SL_ERR_TRUNCATED, "it ends in the header of a chunk at byte %zu", at);
        const uint8_t *chunk = in->data + at;
        const size_t bytes = sl_get_le32(chunk + 4), left = *size - at - 8;
        if (bytes > left)
            return sl_fail(SL_ERR_TRUNCATED, "the chunk at byte %zu has %zu bytes, there are %zu", at, bytes, left);
        if (!memcmp(chunk, "ANIM", 4) || !memcmp(chunk, "ANMF", 4))
            return sl_fail(SL_ERR_UNSUPPORTED, "it is animated");
        if (!memcmp(chunk, "EXIF", 4))
            *orientation = sl_exif_orientation(chunk + 8, bytes);
        at += 8 + (bytes < left ? bytes + bytes % 2 : bytes);
    }
    return SL_OK;
}

/* `to`: [height][width][n_channels]. */
static VP8StatusCode decode(const sl_encoded *in, size_t size, uint8_t *to, WEBP_CSP_MODE mode, uint32_t width, uint32_t height)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return VP8_STATUS_INVALID_PARAM;
    const uint32_t stride = width * (mode == MODE_RGBA ? 4 : 3);
    config.output.colorspace = mode;
    config.output.is_external_memory = 1;
    config.output.u.RGBA = (WebPRGBABuffer) { to, (int)stride, (size_t)stride * height };
    const VP8StatusCode code = WebPDecode(in->data, size, &config);
    WebPFreeDecBuffer(&config.output);
    return code;
}

sl_status sl_webp_decode(sl_image **out, const sl_encoded *in, uint32_t *orientation)
{
    size_t size = 0;
    WebPBitstreamFeatures features;
    SL_TRY(walk_chunks(in, &size, orientation));
    VP8StatusCode code = WebPGetFeatures(in->data, size, &features);
    if (code != VP8_STATUS_OK)
        return failed(code);
    if (features.has_animation)
        return sl_fail(SL_ERR_UNSUPPORTED, "it is animated");
    SL_TRY(sl_image_create(out, in->mem, (uint32_t)features.width, (uint32_t)features.height));
    sl_image *image = *out;
    if (!features.has_alpha) {
        code = decode(in, size, image->rgb, MODE_RGB, image->width, image->height);
        return code == VP8_STATUS_OK ? SL_OK : failed(code);
    }
    const size_t n = (size_t)image->width * image->height;
    uint8_t *rgba = sl_mem_pages(in->mem, 4 * n);
    if (!rgba)
        return SL_ERR_NOMEM;
    code = decode(in, size, rgba, MODE_RGBA, image->width, image->height);
    if (code == VP8_STATUS_OK)
        sl_rgba_over_white(image->rgb, rgba, n);
    sl_mem_pages_free(in->mem, rgba, 4 * n);
    return code == VP8_STATUS_OK ? SL_OK : failed(code);
}
