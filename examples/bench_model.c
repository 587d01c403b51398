/* SPDX-License-Identifier: MIT */
/* bench_model.c - models with the shapes of released ones and made-up weights, which never touch a disk: the header of a GGUF file in memory, and behind it
 * tensor data that a read callback copies from short patterns of random valid blocks. tests/bench/make_model.py writes such models to files: the
 * same shapes, and the same mixes of types. */
#include "bench.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- the sets: types, mixes, shapes ---- */

/* Types by the halves in their blocks: all values are proportional to the one at byte d, and have the root mean square `rms` when it is 1. Where there is
 * a minimum, its half stands at byte m and is m_over_d times that, so that the values lie about zero. `bytes` 2 and 4 without d: plain numbers. */
static const struct kind { const char *name; uint32_t id; unsigned values, bytes; int d; double rms; int m; double m_over_d; } kinds[] = {
    { "F32", 0, 1, 4, -1, 0, -1, 0 },           { "F16", 1, 1, 2, -1, 0, -1, 0 },           { "BF16", 30, 1, 2, -1, 0, -1, 0 },
    { "Q4_0", 2, 32, 18, 0, 4.6, -1, 0 },       { "Q4_1", 3, 32, 20, 0, 4.6, 2, -7.5 },     { "Q5_0", 6, 32, 22, 0, 9.2, -1, 0 },
    { "Q5_1", 7, 32, 24, 0, 9.2, 2, -15.5 },    { "Q8_0", 8, 32, 34, 0, 74, -1, 0 },        { "Q2_K", 10, 256, 84, 80, 15, 82, 1.5 },
    { "Q3_K", 11, 256, 110, 108, 43, -1, 0 },   { "Q4_K", 12, 256, 144, 0, 260, 2, 7.5 },   { "Q5_K", 13, 256, 176, 0, 530, 2, 15.5 },
    { "Q6_K", 14, 256, 210, 208, 1365, -1, 0 }, { "IQ2_XXS", 16, 256, 66, 0, 62, -1, 0 },   { "IQ2_XS", 17, 256, 74, 0, 62, -1, 0 },
    { "IQ3_XXS", 18, 256, 98, 0, 160, -1, 0 },  { "IQ1_S", 19, 256, 50, 0, 7.4, -1, 0 },    { "IQ4_NL", 20, 32, 18, 0, 70, -1, 0 },
    { "IQ3_S", 21, 256, 110, 0, 165, -1, 0 },   { "IQ2_S", 22, 256, 82, 0, 62, -1, 0 },     { "IQ4_XS", 23, 256, 136, 0, 1300, -1, 0 },
    { "TQ1_0", 34, 256, 54, 52, 0.8, -1, 0 },   { "TQ2_0", 35, 256, 66, 64, 1.2, -1, 0 },   { "MXFP4", 39, 32, 17, -1, 5.8, -1, 0 },
};

/* Mixes of types: most matrices are one, the output and about half of the value and down projections are the other. Every other name is one type for all. */
static const struct mix { const char *name, *most, *more; } mixes[] = { { "Q4_K_M", "Q4_K", "Q6_K" }, { "Q5_K_M", "Q5_K", "Q6_K" } };

/* The image encoder of Llama 3.2 Vision, and the layers of the text that look at it: first, first + step, ... */
struct vision { uint32_t first, step, width, n_ff, n_head, n_local, n_global, side, patch, tiles, n_kept; int32_t kept[5]; };
static const struct vision vision_11b = { 3, 5, 1280, 5120, 16, 32, 8, 560, 14, 4, 5, { 3, 7, 15, 23, 30 } }, vision_tiny = { 1, 2, 160, 320, 4, 2, 1, 56, 14, 4, 2, { 0, 1 } };

/* Experts in place of the dense part of every layer; beside them, in llama4, one that is always used. */
struct mixture { uint32_t n, n_used, n_ff; int shared; };
static const struct mixture mixture_scout = { 16, 1, 8192, 1 }, mixture_tiny4 = { 4, 1, 512, 1 }, mixture_tiny = { 4, 2, 512, 0 };

static const struct shape {
    const char *name, *arch;
    uint32_t n_embd, n_layer, n_head, n_head_kv, n_ff, n_vocab;
    int tied;
    const struct vision *vision;
    const struct mixture *mixture;
} shapes[] = {
    { "llama-3.2-1b", "llama", 2048, 16, 32, 8, 8192, 128256, 1, NULL, NULL },
    { "llama-3.2-3b", "llama", 3072, 28, 24, 8, 8192, 128256, 1, NULL, NULL },
    { "llama-3.1-8b", "llama", 4096, 32, 32, 8, 14336, 128256, 0, NULL, NULL },
    { "llama-3.2-11b-vision", "mllama", 4096, 40, 32, 8, 14336, 128256, 0, &vision_11b, NULL },
    { "llama-4-scout", "llama4", 5120, 48, 40, 8, 16384, 202048, 0, NULL, &mixture_scout },
    { "tiny", "llama", 256, 2, 4, 2, 512, 1024, 1, NULL, NULL },
    { "tiny-vision", "mllama", 256, 4, 4, 2, 512, 1024, 0, &vision_tiny, NULL },
    { "tiny-mixture", "llama", 256, 2, 4, 2, 512, 1024, 0, NULL, &mixture_tiny },
    { "tiny-llama4", "llama4", 256, 4, 4, 2, 1024, 1024, 0, NULL, &mixture_tiny4 },
};
enum { N_KINDS = sizeof kinds / sizeof *kinds, N_MIXES = sizeof mixes / sizeof *mixes, N_SHAPES = sizeof shapes / sizeof *shapes };

const char *made_shapes(void) { return "llama-3.2-1b, llama-3.2-3b, llama-3.1-8b, llama-3.2-11b-vision, llama-4-scout"; }

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

/* ---- patterns ---- */

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* Evenly in low to high. */
static double between(uint64_t *state, double low, double high) { return low + (high - low) * next_random(state) / 4294967296.0; }

static void put_half(uint8_t *to, double value)
{
    const float x = (float)value, size = x < 0 ? -x : x;
    uint32_t u;
    memcpy(&u, &size, 4);
    const uint32_t h = (x < 0 ? 0x8000u : 0) | (size < 0x1p-14f ? (uint32_t)(size * 0x1p24f + 0.5f) : (u + 0x1000 - (112u << 23)) >> 13);
    to[0] = (uint8_t)h;
    to[1] = (uint8_t)(h >> 8);
}

/* One number of type F32, F16 or BF16. */
static void put_number(uint8_t *to, const struct kind *kind, double value)
{
    const float x = (float)value;
    uint32_t u;
    memcpy(&u, &x, 4);
    if (strcmp(kind->name, "F16") == 0)
        put_half(to, value);
    else
        for (unsigned i = 0; i < kind->bytes; i++)
            to[i] = (uint8_t)(u >> 8 * (i + 4 - kind->bytes));
}

/* Random blocks whose values have the deviation `rms`; `ones`: plain numbers, all 1. */
struct pattern { const struct kind *kind; double rms; int ones; uint8_t *bytes; size_t n; };

static void fill_pattern(struct pattern *p)
{
    const struct kind *k = p->kind;
    uint64_t state = 7;
    const size_t n = k->values == 1 ? 65537 : k->values < 256 ? 4093 : 1021;   /* primes: no row of a matrix begins where the last one did */
    p->n = n * k->bytes;
    p->bytes = take(n, k->bytes);
    for (uint8_t *block = p->bytes; block < p->bytes + p->n; block += k->bytes) {
        const double about_one = between(&state, 0.875, 1.125);
        if (k->values == 1) {
            put_number(block, k, p->ones ? 1 : between(&state, -1.7320508, 1.7320508) * p->rms);
            continue;
        }
        for (unsigned i = 0; i < k->bytes; i++)
            block[i] = (uint8_t)next_random(&state);
        if (k->d >= 0)
            put_half(block + k->d, p->rms / k->rms * about_one);
        if (k->m >= 0)
            put_half(block + k->m, p->rms / k->rms * about_one * k->m_over_d);
        if (k->d < 0) {     /* MXFP4: a power of two with bias 127 for all of the block */
            int e = 127;
            for (double d = k->rms; d > p->rms; d /= 2)
                e--;
            block[0] = (uint8_t)(e + (int)(next_random(&state) & 1));
        }
    }
}

/* ---- the file ---- */

struct tensor { char name[64]; const struct pattern *pattern; uint32_t n_dims; uint64_t dims[4], offset, bytes; };

enum { MAX_PATTERNS = 64, ALIGNMENT = 32 };

struct made_model {
    const struct shape *shape;
    struct shape cut;               /* what shape points to, if it has fewer layers than the one of that name */
    struct vision cut_vision;
    const struct mix *mix;
    const struct kind *kind;        /* if there is no mix */
    char name[64];
    uint8_t *head;                  /* everything before the tensor data */
    size_t head_bytes, room;
    struct tensor *tensors;
    size_t n_tensors, room_tensors;
    uint64_t n_keys;
    struct pattern patterns[MAX_PATTERNS];
    size_t n_patterns;
    sl_source source;
};

static const struct pattern *find_pattern(struct made_model *m, const struct kind *kind, double rms, int ones)
{
    struct pattern *p = m->patterns;
    for (; p < m->patterns + m->n_patterns; p++)
        if (p->kind == kind && p->ones == ones && (ones || (p->rms <= rms && p->rms >= rms)))
            return p;
    if (m->n_patterns++ == MAX_PATTERNS)
        fail("%s: needs more than %d patterns", m->name, MAX_PATTERNS);
    *p = (struct pattern) { .kind = kind, .rms = rms, .ones = ones };
    fill_pattern(p);
    return p;
}

/* Square root by Newton: the programs need no maths library. */
static double root(double x)
{
    double r = x > 1 ? x : 1;
    for (int i = 0; i < 60; i++)
        r = (r + x / r) / 2;
    return r;
}

/* A tensor of `kind` (NULL: F32, all ones); d1 to d3 are 0 past the last dimension. The name is made from format and what follows. */
static void add_tensor(struct made_model *m, const struct kind *kind, uint64_t d0, uint64_t d1, uint64_t d2, uint64_t d3, const char *format, ...)
{
    if (m->n_tensors == m->room_tensors) {
        m->room_tensors = 2 * m->room_tensors + 64;
        m->tensors = realloc(m->tensors, m->room_tensors * sizeof *m->tensors);
        if (!m->tensors)
            fail("memory: no %zu tensors", m->room_tensors);
    }
    struct tensor *t = &m->tensors[m->n_tensors++];
    *t = (struct tensor) { .dims = { d0, d1, d2, d3 } };
    va_list args;
    va_start(args, format);
    vsnprintf(t->name, sizeof t->name, format, args);
    va_end(args);
    uint64_t n = 1;
    while (t->n_dims < 4 && t->dims[t->n_dims])
        n *= t->dims[t->n_dims++];
    const double n_in = (double)(t->n_dims == 3 ? d0 : t->n_dims > 1 ? n / t->dims[t->n_dims - 1] : n);    /* 3: a matrix for each expert */
    t->pattern = find_pattern(m, kind ? kind : find_kind("F32"), 1 / root(n_in), !kind);
    t->bytes = n / t->pattern->kind->values * t->pattern->kind->bytes;
}

/* The type of a matrix of layer `l`; -1: embedding and output. `grows`: one of the two that a mix gives more bits. */
static const struct kind *matrix_kind(const struct made_model *m, int l, int grows)
{
    if (!m->mix)
        return m->kind;
    const int n = (int)m->shape->n_layer, eighth = n / 8;
    const int more = l < 0 || (grows && (l < eighth || l >= 7 * n / 8 || (l - eighth) % 3 == 2));
    return find_kind(more ? m->mix->more : m->mix->most);
}

static int sees(const struct vision *v, uint32_t l) { return v && l >= v->first && (l - v->first) % v->step == 0; }

/* Gate, up and down matrices of layer l; n: so many of each, 0: one. */
static void add_gated(struct made_model *m, uint32_t l, const char *suffix, uint64_t n_ff, uint64_t n)
{
    const uint64_t n_embd = m->shape->n_embd;
    add_tensor(m, matrix_kind(m, (int)l, 0), n_embd, n_ff, n, 0, "blk.%u.ffn_gate%s.weight", l, suffix);
    add_tensor(m, matrix_kind(m, (int)l, 0), n_embd, n_ff, n, 0, "blk.%u.ffn_up%s.weight", l, suffix);
    add_tensor(m, matrix_kind(m, (int)l, 1), n_ff, n_embd, n, 0, "blk.%u.ffn_down%s.weight", l, suffix);
}

static void add_text(struct made_model *m)
{
    const struct shape *s = m->shape;
    const uint64_t d = s->n_embd / s->n_head, n = s->n_embd, n_kv = s->n_head_kv * d;
    add_tensor(m, matrix_kind(m, -1, 1), n, s->n_vocab + (s->vision ? 8u : 0u), 0, 0, "token_embd.weight");
    add_tensor(m, NULL, n, 0, 0, 0, "output_norm.weight");
    if (!s->tied)
        add_tensor(m, matrix_kind(m, -1, 1), n, s->n_vocab, 0, 0, "output.weight");
    for (uint32_t i = 0; i < s->n_layer; i++) {
        const struct { const char *name, *cross; uint64_t n_in, n_out; int grows; } rows[] = {
            { "attn_q", "cross_attn_q_proj", n, n, 0 }, { "attn_k", "cross_attn_k_proj", n, n_kv, 0 }, { "attn_v", "cross_attn_v_proj", n, n_kv, 1 },
            { "attn_output", "cross_attn_o_proj", n, n, 0 },
        };
        const int cross = sees(s->vision, i);
        add_tensor(m, NULL, n, 0, 0, 0, "blk.%u.attn_norm.weight", i);
        add_tensor(m, NULL, n, 0, 0, 0, "blk.%u.ffn_norm.weight", i);
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
            add_tensor(m, matrix_kind(m, (int)i, rows[k].grows), rows[k].n_in, rows[k].n_out, 0, 0, "blk.%u.%s.weight", i, cross ? rows[k].cross : rows[k].name);
        for (int k = 0; k < 2 && cross; k++) {
            add_tensor(m, NULL, d, 0, 0, 0, "blk.%u.cross_attn_%s_norm.weight", i, k ? "k" : "q");
            add_tensor(m, NULL, 1, 0, 0, 0, "blk.%u.cross_attn_%s_gate", i, k ? "mlp" : "attn");
        }
        if (!s->mixture)
            add_gated(m, i, "", s->n_ff, 0);
        else {
            add_tensor(m, find_kind("F32"), n, s->mixture->n, 0, 0, "blk.%u.ffn_gate_inp.weight", i);
            add_gated(m, i, "_exps", s->mixture->n_ff, s->mixture->n);
            if (s->mixture->shared)
                add_gated(m, i, "_shexp", s->mixture->n_ff, 0);
        }
    }
}

static void add_norm(struct made_model *m, uint64_t n, const char *name)
{
    add_tensor(m, NULL, n, 0, 0, 0, "%s.weight", name);
    add_tensor(m, find_kind("F32"), n, 0, 0, 0, "%s.bias", name);
}

static void add_vision_block(struct made_model *m, const char *prefix, uint32_t i, int global)
{
    static const char *const attention[] = { "attn_q", "attn_k", "attn_v", "attn_output" };
    const struct kind *f16 = find_kind("F16"), *f32 = find_kind("F32");
    const uint64_t w = m->shape->vision->width, ff = m->shape->vision->n_ff;
    char name[64];
    for (int k = 0; k < 4; k++)
        add_tensor(m, f16, w, w, 0, 0, "%s.%u.%s.weight", prefix, i, attention[k]);
    add_tensor(m, f16, w, ff, 0, 0, "%s.%u.ffn_up.weight", prefix, i);
    add_tensor(m, f32, ff, 0, 0, 0, "%s.%u.ffn_up.bias", prefix, i);
    add_tensor(m, f16, ff, w, 0, 0, "%s.%u.ffn_down.weight", prefix, i);
    add_tensor(m, f32, w, 0, 0, 0, "%s.%u.ffn_down.bias", prefix, i);
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "%s.%u.%s_norm", prefix, i, k ? "ffn" : "attn");
        add_norm(m, w, name);
        if (global)
            add_tensor(m, NULL, 1, 0, 0, 0, "%s.%u.%s_gate", prefix, i, k ? "ffn" : "attn");
    }
}

static void add_vision(struct made_model *m)
{
    static const char *const gates[] = { "position_embd", "tile_position_embd", "pre_tile_position_embd", "post_tile_position_embd" };
    const struct vision *v = m->shape->vision;
    const struct kind *f16 = find_kind("F16"), *f32 = find_kind("F32");
    const uint64_t w = v->width, n_pos = (v->side / v->patch) * (v->side / v->patch) + 1;
    uint64_t ratios = 1;            /* aspect ratios of tiles, and none */
    for (uint32_t high = 1; high <= v->tiles; high++)
        ratios += v->tiles / high;
    add_tensor(m, f16, v->patch, v->patch, 3, w, "v.patch_embd.weight");
    add_tensor(m, f32, w, 0, 0, 0, "v.class_embd");
    add_tensor(m, f32, w, n_pos, 0, 0, "v.position_embd.weight");
    add_tensor(m, f32, w * n_pos * v->tiles, ratios, 0, 0, "v.tile_position_embd.weight");
    add_tensor(m, f32, w * v->tiles, ratios, 0, 0, "v.pre_tile_position_embd.weight");
    add_tensor(m, f32, w * v->tiles, ratios, 0, 0, "v.post_tile_position_embd.weight");
    add_tensor(m, f16, w * (1 + v->n_kept), m->shape->n_embd, 0, 0, "mm.0.weight");
    add_tensor(m, f32, m->shape->n_embd, 0, 0, 0, "mm.0.bias");
    for (int i = 0; i < 4; i++)
        add_tensor(m, NULL, 1, 0, 0, 0, "v.%s.gate", gates[i]);
    add_norm(m, w, "v.pre_ln");
    add_norm(m, w, "v.post_ln");
    for (uint32_t i = 0; i < v->n_local; i++)
        add_vision_block(m, "v.blk", i, 0);
    for (uint32_t i = 0; i < v->n_global; i++)
        add_vision_block(m, "v.global.blk", i, 1);
}

/* ---- its header ---- */

enum { META_U32 = 4, META_I32 = 5, META_F32 = 6, META_STRING = 8, META_ARRAY = 9 };

static void put_bytes(struct made_model *m, const void *from, size_t n)
{
    if (m->room - m->head_bytes < n) {
        m->room = 2 * m->room + n + 4096;
        m->head = realloc(m->head, m->room);
        if (!m->head)
            fail("memory: no %zu bytes", m->room);
    }
    memcpy(m->head + m->head_bytes, from, n);
    m->head_bytes += n;
}

/* A number of `bytes` bytes, little-endian. */
static void put(struct made_model *m, uint64_t value, unsigned bytes)
{
    uint8_t b[8];
    for (unsigned i = 0; i < bytes; i++)
        b[i] = (uint8_t)(value >> 8 * i);
    put_bytes(m, b, bytes);
}

static void put_float(struct made_model *m, float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    put(m, u, 4);
}

static void put_text(struct made_model *m, const char *text)
{
    put(m, strlen(text), 8);
    put_bytes(m, text, strlen(text));
}

/* A key under the architecture's name if it begins with a point. */
static void put_key(struct made_model *m, const char *key, unsigned type)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", *key == '.' ? m->shape->arch : "", key);
    put_text(m, name);
    put(m, type, 4);
    m->n_keys++;
}

static void put_array(struct made_model *m, const char *key, unsigned type, uint64_t n)
{
    put_key(m, key, META_ARRAY);
    put(m, type, 4);
    put(m, n, 8);
}

struct number { const char *key; uint32_t value; };
static void put_numbers(struct made_model *m, const struct number *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_key(m, rows[i].key, META_U32);
        put(m, rows[i].value, 4);
    }
}

static void put_vision_keys(struct made_model *m)
{
    const struct vision *v = m->shape->vision;
    const struct number rows[] = {
        { ".vision.block_count", v->n_local }, { ".vision.global.block_count", v->n_global }, { ".vision.embedding_length", v->width },
        { ".vision.feed_forward_length", v->n_ff }, { ".vision.attention.head_count", v->n_head }, { ".vision.image_size", v->side },
        { ".vision.patch_size", v->patch }, { ".vision.max_num_tiles", v->tiles }, { ".vision.num_channels", 3 },
    };
    put_numbers(m, rows, sizeof rows / sizeof *rows);
    put_key(m, ".vision.attention.layer_norm_epsilon", META_F32);
    put_float(m, 1e-5f);
    put_array(m, ".attention.cross_attention_layers", META_I32, (m->shape->n_layer - v->first + v->step - 1) / v->step);
    for (uint32_t l = v->first; l < m->shape->n_layer; l += v->step)
        put(m, l, 4);
    put_array(m, ".vision.intermediate_layers_indices", META_I32, v->n_kept);
    for (uint32_t i = 0; i < v->n_kept; i++)
        put(m, (uint32_t)v->kept[i], 4);
}

static void put_mixture_keys(struct made_model *m)
{
    const struct mixture *x = m->shape->mixture;
    const struct number rows[] = {
        { ".expert_count", x->n }, { ".expert_used_count", x->n_used }, { ".expert_feed_forward_length", x->n_ff }, { ".interleave_moe_layer_step", 1 },
    };
    put_numbers(m, rows, x->shared ? 4 : 2);
}

/* The i-th piece of the vocabulary and its kind: three special ones, the bytes, numbers in hexadecimal, and last what Llama 3 calls its own. */
static unsigned piece(const struct shape *s, uint32_t i, char text[32])
{
    static const char *const first[] = { "<unk>", "<s>", "</s>" };
    static const char *const last[] = { "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|image|>" };
    enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6, N_CONTROL = 6 };
    const uint32_t control = s->vision ? s->n_vocab - N_CONTROL : UINT32_MAX;
    if (i < 3)
        return snprintf(text, 32, "%s", first[i]), i ? CONTROL : UNKNOWN;
    if (i < 259)
        return snprintf(text, 32, "<0x%02X>", i - 3), BYTE;
    if (i < control)
        return snprintf(text, 32, "\xe2\x96\x81%x", i - 259), NORMAL;
    return snprintf(text, 32, "%s", last[i - control]), CONTROL;
}

static void put_vocabulary(struct made_model *m)
{
    const uint32_t n = m->shape->n_vocab + (m->shape->vision ? 1 : 0);     /* the image token stands past the rows of the output */
    char text[32];
    put_key(m, "tokenizer.ggml.model", META_STRING);
    put_text(m, "llama");
    put_array(m, "tokenizer.ggml.tokens", META_STRING, n);
    for (uint32_t i = 0; i < n; i++) {
        piece(m->shape, i, text);
        put_text(m, text);
    }
    put_array(m, "tokenizer.ggml.scores", META_F32, n);
    for (uint32_t i = 0; i < n; i++)
        put_float(m, -(float)i);
    put_array(m, "tokenizer.ggml.token_type", META_I32, n);
    for (uint32_t i = 0; i < n; i++)
        put(m, piece(m->shape, i, text), 4);
}

static void put_head(struct made_model *m)
{
    const struct shape *s = m->shape;
    const struct number rows[] = {
        { ".context_length", 131072 }, { ".embedding_length", s->n_embd }, { ".block_count", s->n_layer }, { ".feed_forward_length", s->n_ff },
        { ".attention.head_count", s->n_head }, { ".attention.head_count_kv", s->n_head_kv },
    };
    put_bytes(m, "GGUF", 4);
    put(m, 3, 4);
    put(m, m->n_tensors, 8);
    put(m, 0, 8);                   /* keys: known at the end */
    put_key(m, "general.architecture", META_STRING);
    put_text(m, s->arch);
    put_key(m, "general.name", META_STRING);
    put_text(m, m->name);
    put_numbers(m, rows, sizeof rows / sizeof *rows);
    put_key(m, ".attention.layer_norm_rms_epsilon", META_F32);
    put_float(m, 1e-5f);
    put_key(m, ".rope.freq_base", META_F32);
    put_float(m, 5e5f);
    if (s->mixture)
        put_mixture_keys(m);
    if (s->vision)
        put_vision_keys(m);
    put_vocabulary(m);
    for (unsigned i = 0; i < 8; i++)
        m->head[16 + i] = (uint8_t)(m->n_keys >> 8 * i);
    uint64_t offset = 0;
    for (struct tensor *t = m->tensors; t < m->tensors + m->n_tensors; t++) {
        put_text(m, t->name);
        put(m, t->n_dims, 4);
        for (uint32_t i = 0; i < t->n_dims; i++)
            put(m, t->dims[i], 8);
        put(m, t->pattern->kind->id, 4);
        put(m, offset, 8);
        t->offset = offset;
        offset += (t->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    put_bytes(m, "0123456789012345678901234567890", (ALIGNMENT - m->head_bytes % ALIGNMENT) % ALIGNMENT);
    m->source.length = m->head_bytes + offset;
}

/* ---- its bytes ---- */

/* Bytes of tensor data from `offset` on: as far as one tensor, or the gap behind it, goes. */
static size_t copy_data(const struct made_model *m, uint64_t offset, uint8_t *to, uint64_t bytes)
{
    size_t low = 0, high = m->n_tensors;
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        *(m->tensors[middle].offset <= offset ? &low : &high) = middle;
    }
    const struct tensor *t = &m->tensors[low];
    const uint64_t at = offset - t->offset;
    if (at >= t->bytes) {
        const uint64_t end = low + 1 < m->n_tensors ? m->tensors[low + 1].offset : m->source.length - m->head_bytes, gap = end - offset;
        const size_t n = (size_t)(gap < bytes ? gap : bytes);
        memset(to, 0, n);
        return n;
    }
    const struct pattern *p = t->pattern;
    const size_t from = (size_t)((at + low * 64 * p->kind->bytes) % p->n);      /* tensors begin at different places of the pattern */
    uint64_t n = p->n - from;
    n = n < t->bytes - at ? n : t->bytes - at;
    n = n < bytes ? n : bytes;
    memcpy(to, p->bytes + from, (size_t)n);
    return (size_t)n;
}

static int64_t read_made(uint64_t offset, void *to, uint64_t bytes, void *user)
{
    const struct made_model *m = user;
    const uint64_t left = offset < m->source.length ? m->source.length - offset : 0;
    uint64_t done = 0;
    bytes = bytes < left ? bytes : left;
    while (done < bytes) {
        const uint64_t at = offset + done, head = at < m->head_bytes ? m->head_bytes - at : 0;
        size_t n = (size_t)(head < bytes - done ? head : bytes - done);
        if (n)
            memcpy((uint8_t *)to + done, m->head + at, n);
        else
            n = copy_data(m, at - m->head_bytes, (uint8_t *)to + done, bytes - done);
        done += n;
    }
    return (int64_t)done;
}

/* n layers, and of the encoder's in proportion, at least one of each kind. */
static void cut_layers(struct made_model *m, uint32_t n)
{
    const uint32_t of = m->shape->n_layer;
    m->cut = *m->shape;
    m->cut.n_layer = n;
    if (m->shape->vision) {
        const struct vision *v = m->shape->vision;
        struct vision *cut = &m->cut_vision;
        *cut = *v;
        cut->n_local = (v->n_local * n + of - 1) / of;
        cut->n_global = (v->n_global * n + of - 1) / of;
        for (cut->n_kept = 0; cut->n_kept < v->n_kept && v->kept[cut->n_kept] < (int32_t)cut->n_local;)
            cut->n_kept++;
        if (n <= v->first)
            usage_error("--layers: the first layer of %s that sees pictures is number %u", m->shape->name, v->first);
        m->cut.vision = cut;
    }
    m->shape = &m->cut;
}

struct made_model *make_model(const char *shape, const char *type, uint32_t n_layers)
{
    struct made_model *m = take(1, sizeof *m);
    for (size_t i = 0; i < N_SHAPES; i++)
        if (strcmp(shapes[i].name, shape) == 0)
            m->shape = &shapes[i];
    for (size_t i = 0; i < N_MIXES; i++)
        if (strcmp(mixes[i].name, type) == 0)
            m->mix = &mixes[i];
    m->kind = find_kind(type);
    if (!m->shape)
        usage_error("--shape: \"%s\" is none of %s", shape, made_shapes());
    if (!m->mix && !m->kind)
        usage_error("--type: \"%s\" is no type of weights (Q4_K_M, Q8_0, Q4_0, Q6_K, F16, ...)", type);
    snprintf(m->name, sizeof m->name, "random %s %s", shape, type);
    if (n_layers && n_layers < m->shape->n_layer) {
        snprintf(m->name, sizeof m->name, "random %s %s, %u of %u layers", shape, type, n_layers, m->shape->n_layer);
        cut_layers(m, n_layers);
    }
    add_text(m);
    if (m->shape->vision)
        add_vision(m);
    m->source = (sl_source) { .size = sizeof m->source, .read = read_made, .user = m, .name = m->name };
    put_head(m);
    return m;
}

const sl_source *made_source(const struct made_model *m) { return &m->source; }

void free_made_model(struct made_model *m)
{
    for (size_t i = 0; m && i < m->n_patterns; i++)
        free(m->patterns[i].bytes);
    if (m) {
        free(m->tensors);
        free(m->head);
    }
    free(m);
}
