/* SPDX-License-Identifier: MIT */
/* quantize_mix.c - the table of targets, and the rules by which a mix gives some tensors more bits. Rules are those that files of these names show. */
#include "quantize_mix.h"

#include "quantize_blocks.h"

#include <stdio.h>
#include <string.h>

/* ---- targets: X(name, number of general.file_type, type) ---- */

#define MIXES(X) \
    SL_ROW(TYPE_F32, X(F32, 0, F32)) SL_ROW(TYPE_F16, X(F16, 1, F16)) SL_ROW(TYPE_BF16, X(BF16, 32, BF16)) \
    SL_ROW(TYPE_Q8_0, X(Q8_0, 7, Q8_0)) SL_ROW(TYPE_Q4_0, X(Q4_0, 2, Q4_0)) SL_ROW(TYPE_Q4_1, X(Q4_1, 3, Q4_1)) \
    SL_ROW(TYPE_Q5_0, X(Q5_0, 8, Q5_0)) SL_ROW(TYPE_Q5_1, X(Q5_1, 9, Q5_1)) \
    SL_ROW(TYPE_Q2_K, X(Q2_K, 10, Q2_K)) \
    SL_ROW(TYPE_Q3_K, X(Q3_K_S, 11, Q3_K) X(Q3_K_M, 12, Q3_K) X(Q3_K_L, 13, Q3_K) X(Q3_K, 12, Q3_K)) \
    SL_ROW(TYPE_Q4_K, X(Q4_K_S, 14, Q4_K) X(Q4_K_M, 15, Q4_K) X(Q4_K, 15, Q4_K)) \
    SL_ROW(TYPE_Q5_K, X(Q5_K_S, 16, Q5_K) X(Q5_K_M, 17, Q5_K) X(Q5_K, 17, Q5_K)) \
    SL_ROW(TYPE_Q6_K, X(Q6_K, 18, Q6_K)) \
    SL_ROW(TYPE_IQ4_NL, X(IQ4_NL, 25, IQ4_NL)) SL_ROW(TYPE_IQ4_XS, X(IQ4_XS, 30, IQ4_XS))

/* Rules name a mix by its number of general.file_type: two names with the same number are the same mix. */
static const sl_mix mixes[] = {
#define MIX(name, number, type) { #name, number, SL_TYPE_##type },
    MIXES(MIX)
#undef MIX
    { NULL, 0, SL_TYPE_F32 }
};
enum { MIX_Q4_0 = 2, MIX_Q5_0 = 8, MIX_Q2_K = 10, MIX_Q3_K_S, MIX_Q3_K_M, MIX_Q3_K_L, MIX_Q4_K_S, MIX_Q4_K_M, MIX_Q5_K_S, MIX_Q5_K_M, MIX_IQ4_NL = 25, MIX_IQ4_XS = 30, ANY_MIX = 255 };

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c; }

static int same_name(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b))
        a++, b++;
    return !*a && !*b;
}

const sl_mix *sl_mix_at(size_t index) { return index < sizeof mixes / sizeof *mixes - 1 ? &mixes[index] : NULL; }

const sl_mix *sl_mix_find(const char *name)
{
    for (const sl_mix *m = mixes; m->name; m++)
        if (same_name(m->name, name))
            return m;
    return NULL;
}

int sl_quantize_type_find(const char *name)
{
    for (int t = 0; t < SL_TYPE_COUNT; t++)
        if (sl_encoder_get((sl_type)t) && same_name(sl_type_name((uint32_t)t), name))
            return t;
    return -1;
}

/* ---- roles ---- */

/* By what the name ends with behind "blk.N.". */
static const struct { const char *name; sl_mix_role role; } roles[] = {
    { "attn_v.weight", SL_MIX_ATTN_V }, { "attn_k.weight", SL_MIX_ATTN_K }, { "attn_output.weight", SL_MIX_ATTN_OUT }, { "attn_qkv.weight", SL_MIX_ATTN_QKV },
    { "ffn_down.weight", SL_MIX_FFN_DOWN }, { "ffn_down_exps.weight", SL_MIX_FFN_DOWN }, { "ffn_down_shexp.weight", SL_MIX_FFN_DOWN },
};

void sl_mix_place_of(sl_mix_place *place, const sl_mix_model *model, const char *name)
{
    *place = (sl_mix_place) { SL_MIX_OTHER, -1, 0, 1 };
    if (model->projector || !strncmp(name, "v.", 2) || !strncmp(name, "mm.", 3))
        place->role = SL_MIX_IMAGE;
    else if (!strcmp(name, "output.weight") || (model->tied && !strcmp(name, "token_embd.weight")))
        place->role = SL_MIX_OUTPUT;
    if (strncmp(name, "blk.", 4))
        return;
    const char *p = name + 4;
    int layer = 0;
    for (; *p >= '0' && *p <= '9' && layer < SL_LIMIT_LAYERS; p++)
        layer = 10 * layer + *p - '0';
    if (*p++ != '.' || layer >= SL_LIMIT_LAYERS)
        return;
    place->layer = layer;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(p, roles[i].name))
            place->role = roles[i].role;
}

/* ---- rules ---- */

typedef enum when { ALWAYS, FIRST_2, FIRST_4, FIRST_8TH, FIRST_16TH, ENDS_AND_THIRDS, GROUPS_OF_4, EXPERTS_8, UNWEIGHTED_FIRST_8TH, WEIGHTED_FIRST_8TH } when;

static int holds(when w, const sl_mix_model *m, const sl_mix_place *p)
{
    const uint32_t i = p->index, n = p->count;
    const int first_8th = i < n / 8;
    const int table[] = {
        [ALWAYS] = 1, [FIRST_2] = i < 2, [FIRST_4] = i < 4, [FIRST_8TH] = first_8th, [FIRST_16TH] = i < n / 16,
        [ENDS_AND_THIRDS] = first_8th || i >= 7 * n / 8 || (i - n / 8) % 3 == 2,     /* the first and the last eighth, every third between */
        [GROUPS_OF_4] = m->n_group >= 4, [EXPERTS_8] = m->n_expert == 8,
        [UNWEIGHTED_FIRST_8TH] = first_8th && !m->weighted, [WEIGHTED_FIRST_8TH] = first_8th && m->weighted,
    };
    return table[w];
}

/* The first rule that holds counts. Rules are for mixes of quantized types. */
static const struct { uint8_t mix, role, when; uint8_t type; } rules[] = {
    { ANY_MIX, SL_MIX_OUTPUT, ALWAYS, SL_TYPE_Q6_K },
    { ANY_MIX, SL_MIX_ATTN_V, EXPERTS_8, SL_TYPE_Q8_0 },
    { ANY_MIX, SL_MIX_ATTN_K, EXPERTS_8, SL_TYPE_Q8_0 },
    { MIX_Q2_K, SL_MIX_ATTN_V, GROUPS_OF_4, SL_TYPE_Q4_K },
    { MIX_Q2_K, SL_MIX_ATTN_V, ALWAYS, SL_TYPE_Q3_K },
    { MIX_Q2_K, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q5_K },
    { MIX_Q2_K, SL_MIX_ATTN_OUT, ALWAYS, SL_TYPE_Q3_K },
    { MIX_Q2_K, SL_MIX_FFN_DOWN, ALWAYS, SL_TYPE_Q3_K },
    { MIX_Q3_K_S, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q5_K },
    { MIX_Q3_K_M, SL_MIX_ATTN_V, FIRST_2, SL_TYPE_Q5_K },
    { MIX_Q3_K_M, SL_MIX_ATTN_V, ALWAYS, SL_TYPE_Q4_K },
    { MIX_Q3_K_M, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q5_K },
    { MIX_Q3_K_M, SL_MIX_ATTN_OUT, ALWAYS, SL_TYPE_Q4_K },
    { MIX_Q3_K_M, SL_MIX_ATTN_QKV, ALWAYS, SL_TYPE_Q4_K },
    { MIX_Q3_K_M, SL_MIX_FFN_DOWN, FIRST_16TH, SL_TYPE_Q5_K },
    { MIX_Q3_K_M, SL_MIX_FFN_DOWN, ALWAYS, SL_TYPE_Q4_K },
    { MIX_Q3_K_L, SL_MIX_ATTN_V, ALWAYS, SL_TYPE_Q5_K },
    { MIX_Q3_K_L, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q3_K },
    { MIX_Q3_K_L, SL_MIX_ATTN_OUT, ALWAYS, SL_TYPE_Q5_K },
    { MIX_Q3_K_L, SL_MIX_ATTN_QKV, ALWAYS, SL_TYPE_Q4_K },
    { MIX_Q3_K_L, SL_MIX_FFN_DOWN, ALWAYS, SL_TYPE_Q5_K },
    { MIX_Q4_K_S, SL_MIX_ATTN_V, FIRST_4, SL_TYPE_Q5_K },
    { MIX_Q4_K_S, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q5_K },
    { MIX_Q4_K_S, SL_MIX_FFN_DOWN, FIRST_8TH, SL_TYPE_Q5_K },
    { MIX_Q4_K_M, SL_MIX_ATTN_V, ENDS_AND_THIRDS, SL_TYPE_Q6_K },
    { MIX_Q4_K_M, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q5_K },
    { MIX_Q4_K_M, SL_MIX_ATTN_QKV, ALWAYS, SL_TYPE_Q5_K },
    { MIX_Q4_K_M, SL_MIX_FFN_DOWN, ENDS_AND_THIRDS, SL_TYPE_Q6_K },
    { MIX_Q5_K_M, SL_MIX_ATTN_V, ENDS_AND_THIRDS, SL_TYPE_Q6_K },
    { MIX_Q5_K_M, SL_MIX_ATTN_QKV, ALWAYS, SL_TYPE_Q6_K },
    { MIX_Q5_K_M, SL_MIX_FFN_DOWN, ENDS_AND_THIRDS, SL_TYPE_Q6_K },
    { MIX_IQ4_NL, SL_MIX_ATTN_V, GROUPS_OF_4, SL_TYPE_Q5_K },
    { MIX_IQ4_NL, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q5_K },
    { MIX_IQ4_NL, SL_MIX_FFN_DOWN, UNWEIGHTED_FIRST_8TH, SL_TYPE_Q5_K },
    { MIX_IQ4_XS, SL_MIX_ATTN_V, GROUPS_OF_4, SL_TYPE_Q5_K },
    { MIX_IQ4_XS, SL_MIX_ATTN_OUT, EXPERTS_8, SL_TYPE_Q5_K },
    { MIX_IQ4_XS, SL_MIX_FFN_DOWN, UNWEIGHTED_FIRST_8TH, SL_TYPE_Q5_K },
    { MIX_Q4_0, SL_MIX_FFN_DOWN, WEIGHTED_FIRST_8TH, SL_TYPE_Q4_1 },
    { MIX_Q5_0, SL_MIX_FFN_DOWN, WEIGHTED_FIRST_8TH, SL_TYPE_Q5_1 },
};

/* Images: few weights, and what is lost is lost for all that follows. */
static sl_type image_type(sl_type target, sl_type now)
{
    static const sl_type as_they_are[] = { SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q8_0 };
    for (size_t i = 0; i < sizeof as_they_are / sizeof *as_they_are; i++)
        if (target == as_they_are[i])
            return target;
    return now == SL_TYPE_F32 ? SL_TYPE_F16 : now;
}

sl_type sl_mix_type(const sl_mix *mix, int pure, const sl_mix_model *model, const sl_mix_place *place, sl_type now)
{
    sl_type type = mix->type;
    if (place->role == SL_MIX_IMAGE)
        return image_type(type, now);
    if (pure || sl_type_get((uint32_t)type)->block_values == 1 || (type == SL_TYPE_Q8_0 && place->role == SL_MIX_OUTPUT))
        return type;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if ((rules[i].mix == ANY_MIX || rules[i].mix == mix->file_type) && rules[i].role == place->role && holds((when)rules[i].when, model, place)) {
            type = (sl_type)rules[i].type;
            break;
        }
    /* 80 layers with 8 query heads to a key head: the values are so few that more bits cost nothing */
    if (place->role == SL_MIX_ATTN_V && model->n_layer == 80 && model->n_group == 8 && (type == SL_TYPE_Q3_K || type == SL_TYPE_Q4_K))
        type = SL_TYPE_Q5_K;
    return sl_encoder_get(type) ? type : mix->type;     /* a build may lack it */
}

/* ---- what a tensor can take ---- */

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

int sl_mix_changes(const sl_gguf_tensor *t)
{
    static const char *const kept[] = { "_norm.weight", "ffn_gate_inp.weight", ".ln1.weight", ".ln2.weight" };
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (ends_with(t->name, kept[i]))
            return 0;
    const int embedding = sl_pattern_fits("*embd*", t->name) && strncmp(t->name, "token_embd.", 11);   /* of patches, positions and tiles */
    const sl_type_info *type = sl_type_get((uint32_t)t->type);
    return type && type->form != SL_ACT_NONE && t->n_dims > 1 && t->ne[1] * t->ne[2] * t->ne[3] > 1 && ends_with(t->name, ".weight") && !embedding;
}

sl_type sl_mix_fit(sl_type type, uint64_t n, sl_type now)
{
    static const struct { sl_type from, to; } next[] = {
        { SL_TYPE_Q2_K, SL_TYPE_IQ4_NL }, { SL_TYPE_Q3_K, SL_TYPE_IQ4_NL }, { SL_TYPE_IQ4_XS, SL_TYPE_IQ4_NL },
        { SL_TYPE_Q4_K, SL_TYPE_Q5_0 }, { SL_TYPE_Q5_K, SL_TYPE_Q5_1 }, { SL_TYPE_Q6_K, SL_TYPE_Q8_0 },
    };
    for (size_t i = 0; i < sizeof next / sizeof *next && n % sl_type_get((uint32_t)type)->block_values; i++)
        if (next[i].from == type && sl_encoder_get(next[i].to)) {
            type = next[i].to;
            break;
        }
    if (!(n % sl_type_get((uint32_t)type)->block_values))
        return type;
    return now == SL_TYPE_BF16 || !sl_encoder_get(SL_TYPE_F16) ? now : SL_TYPE_F16;
}

/* ---- the model ---- */

/* "<architecture>.<key>" as a number, or the first of several; 0 if there is none. */
static uint32_t number(const sl_gguf *gguf, sl_text architecture, const char *key)
{
    char name[128];
    int64_t value = 0;
    if (architecture.length > 64)
        return 0;
    snprintf(name, sizeof name, "%.*s.%s", (int)architecture.length, architecture.data, key);
    const sl_gguf_kv *kv = sl_gguf_find(gguf, name);
    const int scalar = kv && kv->value.type < SL_META_LAST_ + 1 && sl_meta_types[kv->value.type].bytes;
    const int array = kv && kv->value.type == SL_META_ARRAY && kv->value.count && sl_meta_types[kv->value.element_type].bytes;
    if ((!scalar && !array) || sl_gguf_value_int(&kv->value, 0, &value) != SL_OK)
        return 0;
    return value > 0 && value < INT32_MAX ? (uint32_t)value : 0;
}

void sl_mix_model_read(sl_mix_model *m, const sl_gguf *gguf, int tied, int weighted)
{
    sl_text a = { "", 0 };
    *m = (sl_mix_model) { .tied = tied, .weighted = weighted, .n_group = 1 };
    if (!sl_gguf_find(gguf, "general.architecture") || sl_gguf_text(gguf, "general.architecture", &a) != SL_OK)
        return;
    const uint32_t heads = number(gguf, a, "attention.head_count"), keys = number(gguf, a, "attention.head_count_kv");
    m->n_layer = number(gguf, a, "block_count");
    m->n_expert = number(gguf, a, "expert_count");
    m->n_group = heads && keys ? heads / keys : 1;
    m->projector = a.length == 4 && !memcmp(a.data, "clip", 4);
}

int sl_pattern_fits(const char *pattern, const char *text)
{
    const char *star = NULL, *from = NULL;
    while (*text)
        if (*pattern == '*')
            star = ++pattern, from = text;
        else if (*pattern == '?' || *pattern == *text)
            pattern++, text++;
        else if (star)
            pattern = star, text = ++from;
        else
            return 0;
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}
