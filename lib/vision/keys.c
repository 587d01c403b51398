/* SPDX-License-Identifier: MIT */
/* vision/keys.c - see keys.h. */
#include "vision/keys.h"

#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 128 };

sl_status sl_vision_numbers(sl_vision *v, const sl_gguf *gguf, const char *prefix, const sl_vision_row *rows, size_t n_rows)
{
    char key[KEY_BYTES];
    for (size_t i = 0; i < n_rows; i++) {
        const sl_vision_row *row = &rows[i];
        uint32_t value = row->fallback;
        snprintf(key, sizeof key, "%s.vision.%s", prefix, row->suffix);
        sl_status status = sl_gguf_u32(gguf, key, &value);
        if (status != SL_OK && (status != SL_ERR_MISSING || !row->fallback))
            return status;
        if (!value || value > row->most)
            return sl_fail(SL_ERR_RANGE, "key %s: %u, must be 1 to %u", key, value, row->most);
        memcpy((char *)v + row->offset, &value, sizeof value);
    }
    return SL_OK;
}

sl_status sl_vision_real(const sl_gguf *gguf, const char *prefix, const char *suffix, float least, float most, float *value)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.vision.%s", prefix, suffix);
    const sl_status status = sl_gguf_f32(gguf, key, value);
    if (status != SL_OK && status != SL_ERR_MISSING)
        return status;
    return *value >= least && *value <= most ? SL_OK : sl_fail(SL_ERR_RANGE, "key %s: outside its range", key);
}

/* Numbers read from an optional array of three. */
static sl_status read_colours(float out[3], const sl_gguf *gguf, const char *prefix, const char *suffix, int divisor)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.vision.%s", prefix, suffix);
    const sl_gguf_kv *kv = sl_gguf_find(gguf, key);
    if (!kv)
        return SL_OK;
    if (kv->value.type != SL_META_ARRAY || (kv->value.element_type != SL_META_F32 && kv->value.element_type != SL_META_F64))
        return sl_fail(SL_ERR_TYPE, "key %s: not an array of floats", key);
    if (kv->value.count != 3)
        return sl_fail(SL_ERR_SHAPE, "key %s: %llu numbers, not 3", key, (unsigned long long)kv->value.count);
    for (int i = 0; i < 3; i++) {
        double x;
        SL_TRY(sl_gguf_value_float(&kv->value, (uint64_t)i, &x));
        if (!(x >= -1e3 && x <= 1e3) || (divisor && x < 1e-6))
            return sl_fail(SL_ERR_RANGE, "key %s: element %d is outside its range", key, i);
        out[i] = (float)x;
    }
    return SL_OK;
}

sl_status sl_vision_colours(sl_vision *v, const sl_gguf *gguf, const char *prefix)
{
    SL_TRY(read_colours(v->mean, gguf, prefix, "image_mean", 0));
    return read_colours(v->deviation, gguf, prefix, "image_std", 1);
}
