/* SPDX-License-Identifier: MIT */
/* mllama_build.c - see mllama_build.h. */
#include "mllama_build.h"

#include "random_blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *block)
{
    if (!block) {
        fprintf(stderr, "no memory for a test model\n");
        exit(1);
    }
    return block;
}

static void put_array(tiny *t, const char *key, uint32_t element, const void *values, uint64_t count, size_t bytes)
{
    unsigned char *value = must(malloc(12 + bytes));
    memcpy(value, &element, 4);
    memcpy(value + 4, &count, 8);
    memcpy(value + 12, values, bytes);
    tiny_put(t, key, TINY_ARRAY, value, 12 + bytes);
    free(value);
}

/* ---- numbers ---- */

static void put_bits(tiny *t, const char *key, uint32_t bits)
{
    int32_t list[32];
    uint64_t n = 0;
    for (int32_t l = 0; l < 32; l++)
        if (bits >> l & 1)
            list[n++] = l;
    put_array(t, key, TINY_I32, list, n, 4 * n);
}

static void put_keys(tiny *t, const mllama_spec *s)
{
    const struct { const char *key; uint32_t value; } numbers[] = {
        { "mllama.block_count", s->n_layer }, { "mllama.context_length", s->n_ctx }, { "mllama.embedding_length", s->n_embd }, { "mllama.feed_forward_length", s->n_ff },
        { "mllama.attention.head_count", s->n_head }, { "mllama.attention.head_count_kv", s->n_head_kv }, { "mllama.rope.dimension_count", s->n_embd / s->n_head },
        { "mllama.vocab_size", s->n_vocab }, { "mllama.vision.block_count", s->v_layer }, { "mllama.vision.global.block_count", s->v_global },
        { "mllama.vision.embedding_length", s->v_embd }, { "mllama.vision.feed_forward_length", s->v_ff }, { "mllama.vision.attention.head_count", s->v_head },
        { "mllama.vision.image_size", s->tile_side }, { "mllama.vision.patch_size", s->patch_side }, { "mllama.vision.max_num_tiles", s->max_tiles },
        { "mllama.vision.num_channels", 3 },
    };
    tiny_put_text(t, "general.architecture", "mllama");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        tiny_put_u32(t, numbers[i].key, numbers[i].value);
    tiny_put_f32(t, "mllama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_put_f32(t, "mllama.vision.attention.layer_norm_epsilon", 1e-5f);
    tiny_put_f32(t, "mllama.rope.freq_base", 500000.0f);
    put_bits(t, "mllama.attention.cross_attention_layers", s->cross);
    put_bits(t, "mllama.vision.intermediate_layers_indices", s->keeps_none ? 0 : s->kept);
}

/* ---- vocabulary ---- */

enum { N_BYTES = 256 };

/* The letter that stands for byte b: printable ones for themselves, the others follow from 256 on. */
static unsigned letter_of(unsigned b)
{
    unsigned other = 256;
    for (unsigned i = 0; i <= b; i++) {
        const int plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        if (i == b)
            return plain ? b : other;
        other += !plain;
    }
    return 0;
}

static void token(uint32_t i, uint32_t n_vocab, char *text, int32_t *kind)
{
    static const char *const controls[] = { "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>" };
    *kind = i < N_BYTES ? 1 : 3;
    if (i < N_BYTES) {
        const unsigned c = letter_of(i);
        if (c < 128)
            sprintf(text, "%c", (int)c);
        else
            sprintf(text, "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 0x3f)));
    } else if (i == n_vocab)
        strcpy(text, "<|image|>");
    else if (i - N_BYTES < sizeof controls / sizeof *controls)
        strcpy(text, controls[i - N_BYTES]);
    else
        sprintf(text, "<|reserved_special_token_%u|>", i);
}

static void put_vocabulary(tiny *t, uint32_t n_vocab)
{
    static const char merges[] = "\3\0\0\0\0\0\0\0t h";
    const uint64_t n = (uint64_t)n_vocab + 1;
    int32_t *kinds = must(malloc(n * sizeof *kinds));
    unsigned char *texts = must(malloc(n * 64)), *p = texts;
    for (uint32_t i = 0; i < n; i++) {
        char text[48];
        token(i, n_vocab, text, &kinds[i]);
        const uint64_t length = strlen(text);
        memcpy(p, &length, 8);
        memcpy(p + 8, text, length);
        p += 8 + length;
    }
    tiny_put_text(t, "tokenizer.ggml.model", "gpt2");
    tiny_put_text(t, "tokenizer.ggml.pre", "llama-bpe");
    put_array(t, "tokenizer.ggml.tokens", TINY_STRING, texts, n, (size_t)(p - texts));
    put_array(t, "tokenizer.ggml.token_type", TINY_I32, kinds, n, n * sizeof *kinds);
    put_array(t, "tokenizer.ggml.merges", TINY_STRING, merges, 1, sizeof merges - 1);
    tiny_put_u32(t, "tokenizer.ggml.bos_token_id", N_BYTES);
    tiny_put_u32(t, "tokenizer.ggml.eos_token_id", N_BYTES + 5);
    free(kinds);
    free(texts);
}

/* ---- tensors ---- */

typedef struct maker { tiny *t; const mllama_spec *s; uint64_t state; } maker;

static const char *in_layer(const char *prefix, unsigned l, const char *name)
{
    static char full[TINY_NAME];
    snprintf(full, sizeof full, "%s.%u.%s", prefix, l, name);
    return full;
}

static void matrix(maker *m, const char *name, const uint64_t *dims, uint32_t n_dims)
{
    sl_type type = SL_TYPE_F32;
    uint64_t n = 1, n_in = 1;
    for (size_t i = sizeof m->s->types / sizeof *m->s->types; i-- > 0;)
        if (m->s->types[i].part && strstr(name, m->s->types[i].part))
            type = m->s->types[i].type;
    for (uint32_t i = 0; i < n_dims; i++)
        n *= dims[i];
    n_in = n / dims[n_dims - 1];
    tiny_tensor *x = tiny_add(m->t, name, (uint32_t)type, dims, n_dims, random_blocks_bytes(type, n));
    random_blocks(type, n, 1.25 / sqrt((double)n_in), &m->state, x->data);
}

static void weight(maker *m, const char *name, uint64_t n_in, uint64_t n_out) { matrix(m, name, (const uint64_t[]) { n_in, n_out }, 2); }

/* Numbers about `middle`, at most `size` from it. */
static void numbers(maker *m, const char *name, const uint64_t *dims, uint32_t n_dims, float middle, float size)
{
    const uint64_t n = dims[0] * (n_dims > 1 ? dims[1] : 1);
    tiny_tensor *x = tiny_add(m->t, name, SL_TYPE_F32, dims, n_dims, 4 * n);
    for (uint64_t i = 0; i < n; i++) {
        const float value = middle + size * random_float(&m->state);
        memcpy(x->data + 4 * i, &value, 4);
    }
}

static void vector(maker *m, const char *name, uint64_t n, float middle, float size) { numbers(m, name, &n, 1, middle, size); }
static void table(maker *m, const char *name, uint64_t n, uint64_t n_rows) { numbers(m, name, (const uint64_t[]) { n, n_rows }, 2, 0.0f, 0.7f); }

static void text_layer(maker *m, unsigned l)
{
    const mllama_spec *s = m->s;
    const uint64_t D = s->n_embd, d = s->n_embd / s->n_head, kv = d * s->n_head_kv;
    const int cross = (int)(s->cross >> l & 1);
    vector(m, in_layer("blk", l, "attn_norm.weight"), D, 1.0f, 0.25f);
    weight(m, in_layer("blk", l, cross ? "cross_attn_q_proj.weight" : "attn_q.weight"), D, D);
    weight(m, in_layer("blk", l, cross ? "cross_attn_k_proj.weight" : "attn_k.weight"), D, kv);
    weight(m, in_layer("blk", l, cross ? "cross_attn_v_proj.weight" : "attn_v.weight"), D, kv);
    weight(m, in_layer("blk", l, cross ? "cross_attn_o_proj.weight" : "attn_output.weight"), D, D);
    if (cross) {
        vector(m, in_layer("blk", l, "cross_attn_q_norm.weight"), d, 1.2f, 0.5f);
        vector(m, in_layer("blk", l, "cross_attn_k_norm.weight"), d, 1.2f, 0.5f);
        vector(m, in_layer("blk", l, "cross_attn_attn_gate"), 1, 0.8f, 0.2f);
        vector(m, in_layer("blk", l, "cross_attn_mlp_gate"), 1, -0.6f, 0.2f);
    }
    vector(m, in_layer("blk", l, "ffn_norm.weight"), D, 1.0f, 0.25f);
    weight(m, in_layer("blk", l, "ffn_gate.weight"), D, s->n_ff);
    weight(m, in_layer("blk", l, "ffn_up.weight"), D, s->n_ff);
    weight(m, in_layer("blk", l, "ffn_down.weight"), s->n_ff, D);
}

static void vision_layer(maker *m, const char *prefix, unsigned l, int gates)
{
    static const char *const squares[] = { "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight" };
    const uint64_t W = m->s->v_embd;
    vector(m, in_layer(prefix, l, "attn_norm.weight"), W, 1.0f, 0.25f);
    vector(m, in_layer(prefix, l, "attn_norm.bias"), W, 0.0f, 0.25f);
    for (int i = 0; i < 4; i++)
        weight(m, in_layer(prefix, l, squares[i]), W, W);
    vector(m, in_layer(prefix, l, "ffn_norm.weight"), W, 1.0f, 0.25f);
    vector(m, in_layer(prefix, l, "ffn_norm.bias"), W, 0.0f, 0.25f);
    weight(m, in_layer(prefix, l, "ffn_up.weight"), W, m->s->v_ff);
    vector(m, in_layer(prefix, l, "ffn_up.bias"), m->s->v_ff, 0.0f, 0.25f);
    weight(m, in_layer(prefix, l, "ffn_down.weight"), m->s->v_ff, W);
    vector(m, in_layer(prefix, l, "ffn_down.bias"), W, 0.0f, 0.25f);
    if (gates) {
        vector(m, in_layer(prefix, l, "attn_gate"), 1, 0.6f, 0.2f);
        vector(m, in_layer(prefix, l, "ffn_gate"), 1, -0.5f, 0.2f);
    }
}

static void vision(maker *m)
{
    const mllama_spec *s = m->s;
    const uint64_t W = s->v_embd, P = s->patch_side, side = s->tile_side / P, n = side * side + 1, T = s->max_tiles;
    uint64_t rows = 1, n_kept = 0;
    for (uint64_t high = 1; high <= T; high++)
        rows += T / high;
    for (int l = 0; l < 32; l++)
        n_kept += !s->keeps_none && (s->kept >> l & 1);
    matrix(m, "v.patch_embd.weight", (const uint64_t[]) { P, P, 3, W }, 4);
    vector(m, "v.class_embd", W, 0.0f, 1.0f);
    table(m, "v.position_embd.weight", W, n);
    vector(m, "v.position_embd.gate", 1, 1.5f, 0.3f);
    table(m, "v.tile_position_embd.weight", W * n * T, rows);
    vector(m, "v.tile_position_embd.gate", 1, -0.7f, 0.2f);
    table(m, "v.pre_tile_position_embd.weight", W * T, rows);
    vector(m, "v.pre_tile_position_embd.gate", 1, 0.7f, 0.2f);
    table(m, "v.post_tile_position_embd.weight", W * T, rows);
    vector(m, "v.post_tile_position_embd.gate", 1, -0.6f, 0.2f);
    vector(m, "v.pre_ln.weight", W, 1.0f, 0.25f);
    vector(m, "v.pre_ln.bias", W, 0.0f, 0.25f);
    vector(m, "v.post_ln.weight", W, 1.0f, 0.25f);
    vector(m, "v.post_ln.bias", W, 0.0f, 0.25f);
    for (unsigned l = 0; l < s->v_layer; l++)
        vision_layer(m, "v.blk", l, 0);
    for (unsigned l = 0; l < s->v_global; l++)
        vision_layer(m, "v.global.blk", l, 1);
    weight(m, "mm.0.weight", W * (1 + n_kept), s->n_embd);
    vector(m, "mm.0.bias", s->n_embd, 0.0f, 0.25f);
}

/* ---- models ---- */

static uint32_t otherwise(uint32_t value, uint32_t standard) { return value ? value : standard; }

mllama_spec mllama_full(const mllama_spec *spec)
{
    mllama_spec s = spec ? *spec : (mllama_spec) { 0 };
    s.n_layer = otherwise(s.n_layer, 4), s.cross = otherwise(s.cross, 0xa);
    s.n_embd = otherwise(s.n_embd, 32), s.n_ff = otherwise(s.n_ff, 40), s.n_head = otherwise(s.n_head, 4), s.n_head_kv = otherwise(s.n_head_kv, 2);
    s.n_vocab = otherwise(s.n_vocab, 280), s.n_ctx = otherwise(s.n_ctx, 256);
    s.v_embd = otherwise(s.v_embd, 16), s.v_ff = otherwise(s.v_ff, 24), s.v_head = otherwise(s.v_head, 2);
    s.v_layer = otherwise(s.v_layer, 2), s.v_global = otherwise(s.v_global, 1), s.kept = otherwise(s.kept, 0x3);
    s.tile_side = otherwise(s.tile_side, 8), s.patch_side = otherwise(s.patch_side, 4), s.max_tiles = otherwise(s.max_tiles, 4);
    return s;
}

tiny *mllama_create(const mllama_spec *spec)
{
    const mllama_spec s = mllama_full(spec);
    maker m = { must(calloc(1, sizeof(tiny))), &s, s.seed + 77 };
    put_keys(m.t, &s);
    if (s.n_vocab >= 272)
        put_vocabulary(m.t, s.n_vocab);
    weight(&m, "token_embd.weight", s.n_embd, s.n_vocab + 1 + s.n_spare);
    vector(&m, "rope_freqs.weight", s.n_embd / s.n_head / 2, 4.0f, 3.0f);
    for (unsigned l = 0; l < s.n_layer; l++)
        text_layer(&m, l);
    vector(&m, "output_norm.weight", s.n_embd, 1.0f, 0.25f);
    weight(&m, "output.weight", s.n_embd, s.n_vocab);
    vision(&m);
    return m.t;
}

/* ---- older names ---- */

static const struct { const char *now, *then; } renamed[] = {
    { ".attn_norm.", ".ln1." }, { ".ffn_norm.", ".ln2." }, { ".attn_output.", ".attn_out." }, { ".ffn_up.", ".ffn_down." }, { ".ffn_down.", ".ffn_up." },
};

static int of_vision(const char *name) { return !strncmp(name, "v.", 2) || !strncmp(name, "mm.", 3); }

static void copy_tensor(tiny *to, const tiny_tensor *x, int rename)
{
    char name[TINY_NAME + 16];
    snprintf(name, sizeof name, "%s", x->name);
    for (size_t i = 0; rename && of_vision(x->name) && i < sizeof renamed / sizeof *renamed; i++) {
        const char *at = strstr(x->name, renamed[i].now);
        if (at)
            snprintf(name, sizeof name, "%.*s%s%s", (int)(at - x->name), x->name, renamed[i].then, at + strlen(renamed[i].now));
    }
    memcpy(tiny_add(to, name, x->type, x->dims, x->n_dims, x->bytes)->data, x->data, x->bytes);
}

void mllama_split(const tiny *whole, tiny **text, tiny **projector)
{
    *text = must(calloc(1, sizeof **text));
    *projector = must(calloc(1, sizeof **projector));
    for (size_t i = 0; i < whole->n_keys; i++) {
        const tiny_key *k = &whole->keys[i];
        const int vision_key = !strncmp(k->name, "mllama.vision.", 14), architecture = !strcmp(k->name, "general.architecture");
        if (!vision_key)
            tiny_put(*text, k->name, k->type, k->value, k->bytes);
        if (architecture || (vision_key && strcmp(k->name, "mllama.vision.num_channels")))
            tiny_put(*projector, k->name, k->type, k->value, k->bytes);
        if (!strcmp(k->name, "mllama.embedding_length"))
            tiny_put(*projector, "mllama.vision.projection_dim", k->type, k->value, k->bytes);
    }
    for (size_t i = 0; i < whole->n_tensors; i++)
        copy_tensor(of_vision(whole->tensors[i].name) ? *projector : *text, &whole->tensors[i], 1);
}

tiny *mllama_rename(const tiny *whole)
{
    tiny *t = must(calloc(1, sizeof *t));
    for (size_t i = 0; i < whole->n_keys; i++)
        tiny_put(t, whole->keys[i].name, whole->keys[i].type, whole->keys[i].value, whole->keys[i].bytes);
    for (size_t i = 0; i < whole->n_tensors; i++)
        copy_tensor(t, &whole->tensors[i], 1);
    return t;
}

/* ---- what they are shown ---- */

sl_image *mllama_picture(uint32_t width, uint32_t height, uint64_t seed)
{
    const size_t n = 3 * (size_t)width * height;
    uint8_t *rgb = must(malloc(n));
    sl_image *image = NULL;
    for (size_t i = 0; i < n; i++)
        rgb[i] = (uint8_t)(random_next(&seed) >> 32);
    if (sl_image_from_rgb(&image, rgb, width, height, 0, NULL) != SL_OK)
        must(NULL);
    free(rgb);
    return image;
}

void mllama_ids(int32_t *ids, size_t n_ids, uint32_t n_vocab, const size_t *at, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n_ids; i++)
        ids[i] = (int32_t)random_below(&seed, n_vocab);
    for (size_t i = 0; i < n; i++)
        ids[at[i]] = (int32_t)n_vocab;
}
