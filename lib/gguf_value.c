/* SPDX-License-Identifier: MIT */
/* gguf_value.c - what a parsed file says to those who want a number or a text: of a key, or of a value at hand. */
#include "gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static sl_status find(const sl_gguf *gguf, const char *key, const sl_gguf_kv **out)
{
    *out = sl_gguf_find(gguf, key);
    return *out ? SL_OK : sl_fail(SL_ERR_MISSING, "key '%s': absent", key);
}

static sl_status fail_type(const char *key, const char *want, const sl_gguf_value *value)
{
    return sl_fail(SL_ERR_TYPE, "key '%s': %s expected, not %s%s", key, want, value->type == SL_META_ARRAY ? "an array of " : "", sl_meta_types[value->element_type].name);
}

sl_status sl_gguf_value_float(const sl_gguf_value *value, uint64_t index, double *out)
{
    if (value->element_type == SL_META_F32) {
        float f;
        memcpy(&f, value->data + index * 4, 4);
        *out = f;
    } else if (value->element_type == SL_META_F64) {
        memcpy(out, value->data + index * 8, 8);
    } else if (value->element_type == SL_META_U64) {
        uint64_t n = 0;
        memcpy(&n, value->data + index * 8, 8);
        *out = (double)n;
    } else {
        int64_t n = 0;
        SL_TRY(sl_gguf_value_int(value, index, &n));
        *out = (double)n;
    }
    return SL_OK;
}

sl_status sl_gguf_u64(const sl_gguf *gguf, const char *key, uint64_t *out)
{
    const sl_gguf_kv *kv = NULL;
    int64_t n = 0;
    SL_TRY(find(gguf, key, &kv));
    if (kv->value.type == SL_META_U64) {
        memcpy(out, kv->value.data, 8);
        return SL_OK;
    }
    if (kv->value.type == SL_META_ARRAY || kv->value.type == SL_META_BOOL || sl_gguf_value_int(&kv->value, 0, &n) != SL_OK)
        return fail_type(key, "an integer", &kv->value);
    if (n < 0)
        return sl_fail(SL_ERR_RANGE, "key '%s': %" PRId64 " is negative", key, n);
    *out = (uint64_t)n;
    return SL_OK;
}

sl_status sl_gguf_u32(const sl_gguf *gguf, const char *key, uint32_t *out)
{
    uint64_t n = 0;
    SL_TRY(sl_gguf_u64(gguf, key, &n));
    if (n > UINT32_MAX)
        return sl_fail(SL_ERR_RANGE, "key '%s': %" PRIu64 " does not fit 32 bits", key, n);
    *out = (uint32_t)n;
    return SL_OK;
}

sl_status sl_gguf_f32(const sl_gguf *gguf, const char *key, float *out)
{
    const sl_gguf_kv *kv = NULL;
    double x = 0;
    SL_TRY(find(gguf, key, &kv));
    if (kv->value.type != SL_META_F32 && kv->value.type != SL_META_F64)
        return fail_type(key, "a floating-point number", &kv->value);
    SL_TRY(sl_gguf_value_float(&kv->value, 0, &x));
    /* Half a unit above the largest float would round to infinity. */
    if (kv->value.type == SL_META_F64 && x - x == 0 && (x >= 0x1.ffffffp127 || x <= -0x1.ffffffp127))
        return sl_fail(SL_ERR_RANGE, "key '%s': too large for 32 bits", key);
    *out = (float)x;
    return SL_OK;
}

sl_status sl_gguf_bool(const sl_gguf *gguf, const char *key, int *out)
{
    const sl_gguf_kv *kv = NULL;
    SL_TRY(find(gguf, key, &kv));
    if (kv->value.type != SL_META_BOOL)
        return fail_type(key, "BOOL", &kv->value);
    *out = *kv->value.data;
    return SL_OK;
}

sl_status sl_gguf_text(const sl_gguf *gguf, const char *key, sl_text *out)
{
    const sl_gguf_kv *kv = NULL;
    SL_TRY(find(gguf, key, &kv));
    if (kv->value.type != SL_META_STRING)
        return fail_type(key, "STRING", &kv->value);
    const uint8_t *cursor = kv->value.data;
    *out = sl_gguf_next_text(&cursor);
    return SL_OK;
}

sl_status sl_gguf_array(const sl_gguf *gguf, const char *key, int32_t element_type, sl_gguf_value *out)
{
    const sl_gguf_kv *kv = NULL;
    SL_TRY(find(gguf, key, &kv));
    if (kv->value.type != SL_META_ARRAY || kv->value.element_type != element_type) {
        char want[32];
        snprintf(want, sizeof want, "an array of %s", sl_meta_types[element_type].name);
        return fail_type(key, want, &kv->value);
    }
    *out = kv->value;
    return SL_OK;
}

sl_text sl_gguf_element_text(const sl_gguf_kv *kv, uint64_t element)
{
    const uint8_t *cursor = kv->value.data + (kv->marks ? kv->marks[element / SL_GGUF_MARK] : 0);
    sl_text text = sl_gguf_next_text(&cursor);
    for (uint64_t i = element % SL_GGUF_MARK; i; i--)
        text = sl_gguf_next_text(&cursor);
    return text;
}
