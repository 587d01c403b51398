/* SPDX-License-Identifier: MIT */
/* arch.c - the table of architectures, and what they share: reading hyper-parameters, rotary frequencies. */
#include "arch.h"

#include "arith.h"
#include "tokenizer.h"

#include <stdio.h>
#include <string.h>

extern const sl_arch sl_arch_llama, sl_arch_llama4, sl_arch_mllama;

static const sl_arch *const archs[] = { SL_ROW(ARCH_LLAMA, &sl_arch_llama,) SL_ROW(ARCH_LLAMA4, &sl_arch_llama4,) SL_ROW(ARCH_MLLAMA, &sl_arch_mllama,) NULL };

const sl_arch *sl_arch_find(const char *name, size_t length)
{
    for (size_t i = 0; archs[i]; i++)
        if (strlen(archs[i]->name) == length && !memcmp(archs[i]->name, name, length))
            return archs[i];
    return NULL;
}

/* ---- hyper-parameters ---- */

enum { KEY_BYTES = 128 };

/* Where <prefix>.<suffix> goes, and which values are legal. */
typedef struct hparam_row {
    const char *suffix;
    enum { NUMBER, REAL, PER_LAYER } kind;
    int needed;
    size_t offset;
    double least, most;         /* both included; REAL: finite as well */
} hparam_row;

#define AT(member) offsetof(sl_hparams, member)
/* block_count comes first: the others may be arrays of that length. */
static const hparam_row hparam_rows[] = {
    { "block_count", NUMBER, 1, AT(n_layer), 1, SL_LIMIT_LAYERS },
    { "context_length", NUMBER, 1, AT(n_ctx_train), 0, UINT32_MAX },
    { "embedding_length", NUMBER, 1, AT(n_embd), 1, SL_LIMIT_EMBEDDING },
    { "attention.head_count", PER_LAYER, 1, AT(n_head), 1, SL_LIMIT_EMBEDDING },
    { "attention.head_count_kv", PER_LAYER, 0, AT(n_head_kv), 1, SL_LIMIT_EMBEDDING },
    { "feed_forward_length", PER_LAYER, 1, AT(n_ff), 1, SL_LIMIT_EMBEDDING },
    { "attention.key_length", NUMBER, 0, AT(d_head), 2, SL_LIMIT_HEAD_DIM },
    { "attention.layer_norm_rms_epsilon", REAL, 1, AT(rms_epsilon), 0, 1 },
    { "expert_count", NUMBER, 0, AT(n_expert), 0, SL_LIMIT_EXPERTS },
    { "expert_used_count", NUMBER, 0, AT(n_expert_used), 0, SL_LIMIT_EXPERTS },
    { "expert_feed_forward_length", NUMBER, 0, AT(n_ff_expert), 0, SL_LIMIT_EMBEDDING },
    { "interleave_moe_layer_step", NUMBER, 0, AT(expert_step), 0, SL_LIMIT_LAYERS },
    { "attention.chunk_size", NUMBER, 0, AT(chunk), 0, SL_LIMIT_CONTEXT },
    { "pooling_type", NUMBER, 0, AT(pooling), 0, UINT32_MAX },
    { "vocab_size", NUMBER, 0, AT(n_vocab), 1, SL_LIMIT_VOCABULARY },
    { "rope.freq_base", REAL, 0, AT(rope_base), 1, 1e15 },
    { "rope.scale_linear", REAL, 0, AT(rope_factor), 0, 1e6 },
    { "rope.scaling.factor", REAL, 0, AT(rope_factor), 0, 1e6 },
    { "rope.scaling.attn_factor", REAL, 0, AT(rope_attn_factor), 1e-6, 1e6 },
    { "rope.scaling.original_context_length", NUMBER, 0, AT(rope_ctx_original), 1, UINT32_MAX },
};

static sl_status in_range(const hparam_row *row, const char *key, double value)
{
    if (value - value != 0.0)
        return sl_fail(SL_ERR_NONFINITE, "key %s: not a finite number", key);
    if (value < row->least || value > row->most)
        return sl_fail(SL_ERR_RANGE, "key %s: outside its range", key);
    return SL_OK;
}

static sl_status read_per_layer(sl_hparams *hp, const sl_gguf *gguf, const hparam_row *row, const char *key, uint32_t *to)
{
    const sl_gguf_kv *kv = sl_gguf_find(gguf, key);
    const int is_array = kv->value.type == SL_META_ARRAY;
    if (is_array && kv->value.count < hp->n_layer)
        return sl_fail(SL_ERR_SHAPE, "key %s: %llu values for %u layers", key, (unsigned long long)kv->value.count, hp->n_layer);
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        int64_t value;
        sl_status status = sl_gguf_value_int(&kv->value, is_array ? l : 0, &value);
        if (status != SL_OK)
            return sl_fail(status, "key %s: not an integer per layer", key);
        SL_TRY(in_range(row, key, (double)value));
        to[l] = (uint32_t)value;
    }
    return SL_OK;
}

/* 1 unless the architecture gave a default. */
static int is_zero(const hparam_row *row, const void *value) { return row->kind == PER_LAYER || (row->kind == REAL ? *(const float *)value == 0.0f : *(const uint32_t *)value == 0); }

static sl_status read_row(sl_hparams *hp, const sl_mem *mem, const sl_gguf *gguf, const char *prefix, const hparam_row *row)
{
    char key[KEY_BYTES];
    void *to = (char *)hp + row->offset;
    snprintf(key, sizeof key, "%s.%s", prefix, row->suffix);
    if (row->kind == PER_LAYER) {
        uint32_t *values = sl_mem_alloc(mem, hp->n_layer, sizeof *values);
        if (!values)
            return SL_ERR_NOMEM;
        memcpy(to, &values, sizeof values);
    }
    if (!sl_gguf_find(gguf, key))
        return row->needed && is_zero(row, to) ? sl_fail(SL_ERR_MISSING, "key %s: missing", key) : SL_OK;
    if (row->kind == PER_LAYER) {
        uint32_t *values;
        memcpy(&values, to, sizeof values);
        return read_per_layer(hp, gguf, row, key, values);
    }
    if (row->kind == REAL) {
        SL_TRY(sl_gguf_f32(gguf, key, to));
        return in_range(row, key, *(float *)to);
    }
    SL_TRY(sl_gguf_u32(gguf, key, to));
    return in_range(row, key, *(uint32_t *)to);
}

/* Length of a text key; absent: 0. */
static sl_status read_scaling(sl_hparams *hp, const sl_gguf *gguf, const char *prefix)
{
    static const struct { const char *name; sl_rope_scaling value; } names[] = { { "none", SL_ROPE_NONE }, { "linear", SL_ROPE_LINEAR }, { "yarn", SL_ROPE_YARN } };
    char key[KEY_BYTES], quoted[SL_QUOTE_BYTES];
    sl_text text;
    snprintf(key, sizeof key, "%s.rope.scaling.type", prefix);
    hp->rope_scaling = SL_ROPE_LINEAR;
    sl_status status = sl_gguf_text(gguf, key, &text);
    if (status != SL_OK)
        return status == SL_ERR_MISSING ? SL_OK : status;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == text.length && !memcmp(names[i].name, text.data, text.length)) {
            hp->rope_scaling = names[i].value;
            return SL_OK;
        }
    return sl_fail(SL_ERR_UNSUPPORTED, "key %s: '%s' is not supported", key, sl_quote(quoted, text.data, text.length));
}

/* Rules between hyper-parameters. */
static sl_status check_hparams(sl_hparams *hp, const sl_gguf *gguf, const char *prefix)
{
    char key[KEY_BYTES];
    uint32_t other = hp->d_head;
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        if (hp->n_head[l] % hp->n_head_kv[l])
            return sl_fail(SL_ERR_SHAPE, "layer %u: %u heads share %u key/value heads", l, hp->n_head[l], hp->n_head_kv[l]);
        if ((uint64_t)(hp->n_head[l] + 2ull * hp->n_head_kv[l]) * hp->d_head > SL_LIMIT_EMBEDDING)
            return sl_fail(SL_ERR_LIMIT, "layer %u: heads are %llu wide in all", l, (unsigned long long)hp->n_head[l] * hp->d_head);
    }
    if (hp->d_head % 2)
        return sl_fail(SL_ERR_SHAPE, "key %s.attention.key_length: %u is odd", prefix, hp->d_head);
    snprintf(key, sizeof key, "%s.attention.value_length", prefix);
    sl_status status = sl_gguf_u32(gguf, key, &other);
    if (status != SL_OK && status != SL_ERR_MISSING)
        return status;
    if (other != hp->d_head)
        return sl_fail(SL_ERR_UNSUPPORTED, "key %s: %u differs from key_length %u", key, other, hp->d_head);
    snprintf(key, sizeof key, "%s.rope.dimension_count", prefix);
    status = sl_gguf_u32(gguf, key, &other);
    if (status != SL_OK && status != SL_ERR_MISSING)
        return status;
    if (other != hp->d_head)
        return sl_fail(SL_ERR_RANGE, "key %s: %u differs from key_length %u", key, other, hp->d_head);
    if (hp->n_expert && (!hp->n_expert_used || hp->n_expert_used > hp->n_expert))
        return sl_fail(SL_ERR_RANGE, "key %s.expert_used_count: %u of %u experts", prefix, hp->n_expert_used, hp->n_expert);
    if (!hp->n_expert && hp->n_expert_used)
        return sl_fail(SL_ERR_RANGE, "key %s.expert_used_count: there are no experts", prefix);
    return SL_OK;
}

sl_status sl_hparams_read(sl_hparams *hp, const sl_mem *mem, const sl_log *log, const sl_gguf *gguf, const sl_arch *arch, uint32_t n_tokens)
{
    const char *prefix = arch->name;
    const uint32_t n_vocab = n_tokens > arch->n_image_tokens ? n_tokens - arch->n_image_tokens : 0;
    *hp = arch->defaults;
    hp->vision.token = SL_TOKEN_NONE;
    hp->pooling = SL_POOLING_UNSAID;
    hp->n_vocab = n_vocab;
    sl_status status = SL_OK;
    for (size_t i = 0; status == SL_OK && i < sizeof hparam_rows / sizeof *hparam_rows; i++)
        status = read_row(hp, mem, gguf, prefix, &hparam_rows[i]);
    if (status == SL_OK) {
        if (n_vocab && hp->n_vocab != n_vocab)
            sl_log_line(log, SL_LOG_WARN, "key %s.vocab_size: %u, but there are %u tokens", prefix, hp->n_vocab, n_vocab);
        if (n_vocab)
            hp->n_vocab = n_vocab;
        hp->n_token_rows = hp->n_token = hp->n_vocab + arch->n_image_tokens;
        for (uint32_t l = 0; l < hp->n_layer; l++)
            if (!hp->n_head_kv[l])
                hp->n_head_kv[l] = hp->n_head[l];
        if (!hp->n_ctx_train)
            status = sl_fail(SL_ERR_RANGE, "key %s.context_length: 0", prefix);
        else if (!hp->d_head && hp->n_embd % hp->n_head[0])
            status = sl_fail(SL_ERR_SHAPE, "key %s.attention.head_count: %u heads over %u elements", prefix, hp->n_head[0], hp->n_embd);
        else if (!hp->d_head && (hp->d_head = hp->n_embd / hp->n_head[0]) > SL_LIMIT_HEAD_DIM)
            status = sl_fail(SL_ERR_LIMIT, "heads of %u elements", hp->d_head);
        if (!hp->rope_ctx_original)
            hp->rope_ctx_original = hp->n_ctx_train;
    }
    if (status == SL_OK)
        status = read_scaling(hp, gguf, prefix);
    if (status == SL_OK)
        status = check_hparams(hp, gguf, prefix);
    if (status != SL_OK)
        sl_hparams_free(hp, mem);
    return status;
}

void sl_hparams_free(sl_hparams *hp, const sl_mem *mem)
{
    sl_mem_free(mem, hp->n_head);
    sl_mem_free(mem, hp->n_head_kv);
    sl_mem_free(mem, hp->n_ff);
    sl_mem_free(mem, hp->cross);
    hp->n_head = hp->n_head_kv = hp->n_ff = NULL;
    hp->cross = NULL;
}

int64_t sl_hparams_dim(const sl_hparams *hp, int layer, sl_dim dim)
{
    const int l = layer < 0 ? 0 : layer;
    const int64_t q = (int64_t)hp->n_head[l] * hp->d_head, kv = (int64_t)hp->n_head_kv[l] * hp->d_head;
    const sl_vision *v = &hp->vision;
    const int64_t sizes[SL_DIM_COUNT] = {
        [SL_DIM_END] = 1, [SL_DIM_ONE] = 1, [SL_DIM_EMBD] = hp->n_embd, [SL_DIM_VOCAB] = hp->n_vocab, [SL_DIM_TOKENS] = hp->n_token_rows, [SL_DIM_Q] = q, [SL_DIM_KV] = kv,
        [SL_DIM_QKV] = q + 2 * kv, [SL_DIM_FF] = hp->n_ff[l], [SL_DIM_FF_EXPERT] = hp->n_ff_expert, [SL_DIM_HEAD] = hp->d_head, [SL_DIM_EXPERT] = hp->n_expert,
        [SL_DIM_V_EMBD] = v->n_embd, [SL_DIM_V_FF] = v->n_ff, [SL_DIM_V_POS] = v->n_pos, [SL_DIM_V_PATCH] = v->patch_side, [SL_DIM_V_CHANNEL] = v->n_channel,
        [SL_DIM_V_ARRANGEMENT] = v->n_arrangement, [SL_DIM_V_TILES_EMBD] = (int64_t)v->max_tiles * v->n_embd,
        [SL_DIM_V_TILES_POS_EMBD] = (int64_t)v->max_tiles * v->n_pos * v->n_embd, [SL_DIM_V_FEATURES] = (int64_t)(1 + v->n_kept) * v->n_embd,
        [SL_DIM_V_PIXELS] = (int64_t)v->patch_side * v->patch_side * v->n_channel, [SL_DIM_V_SHUFFLED] = (int64_t)v->shuffle * v->shuffle * v->n_embd,
        [SL_DIM_V_ADAPTER] = v->n_adapter,
    };
    return sizes[dim];
}

/* ---- rotary frequencies ---- */

#define LN2 0x1.62e42fefa39efp-1
#define PI 0x1.921fb54442d18p+1

/* Where YaRN's ramp stands: the pair whose wavelength fits `turns` times into the original context. */
static double yarn_pair(const sl_hparams *hp, double turns)
{
    return hp->d_head * sl_log2(hp->rope_ctx_original / (2.0 * PI * turns)) / (2.0 * sl_log2(hp->rope_base));
}

static double whole(double x, int up)       /* floor or ceiling of a number far below 2^52 */
{
    double n = (double)(int64_t)x;
    return up ? n + (n < x) : n - (n > x);
}

sl_status sl_rope_frequencies(const sl_hparams *hp, const float *factors, double *freq, float *magnitude)
{
    const double base = sl_log2(hp->rope_base), factor = hp->rope_factor;
    const int yarn = hp->rope_scaling == SL_ROPE_YARN && factor > 0.0;
    double lo = 0, hi = 0;
    *magnitude = hp->rope_attn_factor;
    if (yarn) {
        if (!(base > 0.0))
            return sl_fail(SL_ERR_RANGE, "rope.freq_base: YaRN needs more than 1");
        lo = whole(yarn_pair(hp, 32.0), 0), hi = whole(yarn_pair(hp, 1.0), 1);
        lo = lo > 0.0 ? lo : 0.0, hi = hi < hp->d_head - 1.0 ? hi : hp->d_head - 1.0;
        if (factor > 1.0)
            *magnitude = (float)(hp->rope_attn_factor * (1.0 + 0.1 * sl_log2(factor) * LN2));
    }
    for (uint32_t i = 0; i < hp->d_head / 2; i++) {
        double f = sl_exp2(-2.0 * i / hp->d_head * base);
        if (factors) {
            if (!sl_is_finite(factors[i]) || factors[i] == 0.0f)
                return sl_fail(SL_ERR_NONFINITE, "rope_freqs.weight: element %u is zero or not finite", i);
            f /= factors[i];
        }
        if (yarn) {
            double g = (i - lo) / (hi - lo > 0.001 ? hi - lo : 0.001);
            g = 1.0 - (g < 0.0 ? 0.0 : g > 1.0 ? 1.0 : g);
            f *= g + (1.0 - g) / factor;
        } else if (hp->rope_scaling == SL_ROPE_LINEAR && factor > 0.0)
            f /= factor;
        if (!(f > -16.0 && f < 16.0))       /* else the angle of the last position leaves the range that is reduced exactly enough */
            return sl_fail(SL_ERR_RANGE, "rope: pair %u turns too fast", i);
        freq[i] = f;
    }
    return SL_OK;
}
