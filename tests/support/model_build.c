/* SPDX-License-Identifier: MIT */
/* model_build.c - see model_build.h. */
#include "model_build.h"

#include "random_blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a GGUF value type is numbered. */
enum { GGUF_U32 = 4, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_TEXT = 8, GGUF_ARRAY = 9, GGUF_I32 = 5, ALIGNMENT = 32 };

static void *must(void *block)
{
    if (!block) {
        fprintf(stderr, "no memory for a test model\n");
        exit(1);
    }
    return block;
}

/* ---- bytes ---- */

typedef struct writer {
    unsigned char *data;
    size_t size, capacity;
} writer;

static void put(writer *w, const void *data, size_t n)
{
    if (w->size + n > w->capacity)
        w->data = must(realloc(w->data, w->capacity = 2 * (w->size + n)));
    memcpy(w->data + w->size, data, n);
    w->size += n;
}

static void put_u32(writer *w, uint32_t x) { put(w, &x, 4); }
static void put_u64(writer *w, uint64_t x) { put(w, &x, 8); }

static void put_text(writer *w, const char *text)
{
    put_u64(w, strlen(text));
    put(w, text, strlen(text));
}

static void pad(writer *w)
{
    static const unsigned char zeros[ALIGNMENT];
    put(w, zeros, (ALIGNMENT - w->size % ALIGNMENT) % ALIGNMENT);
}

/* ---- keys ---- */

/* <architecture>.<name>, or a name that begins with "general." or "tokenizer." as it is. */
static void put_key(writer *w, const model_spec *s, const char *name, uint32_t type, uint64_t *n)
{
    char key[96];
    snprintf(key, sizeof key, "%s%s", !strncmp(name, "general.", 8) || !strncmp(name, "tokenizer.", 10) ? "" : s->n_ff_expert ? "llama4." : "llama.", name);
    put_text(w, key);
    put_u32(w, type);
    ++*n;
}

static void put_list(writer *w, const model_spec *s, const char *name, uint32_t type, uint64_t *n)
{
    put_key(w, s, name, GGUF_ARRAY, n);
    put_u32(w, type);
    put_u64(w, s->n_vocab);
}

static void put_words(writer *w, const model_spec *s, uint64_t *n)
{
    static const char *const special[] = { "<unk>", "<s>", "</s>" };
    put_key(w, s, "tokenizer.ggml.model", GGUF_TEXT, n), put_text(w, "llama");
    put_list(w, s, "tokenizer.ggml.tokens", GGUF_TEXT, n);
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        char word[16];
        snprintf(word, sizeof word, "w%u", (unsigned)i);
        put_text(w, i < 3 ? special[i] : word);
    }
    put_list(w, s, "tokenizer.ggml.scores", GGUF_F32, n);
    for (uint32_t i = 0; i < s->n_vocab; i++)
        put(w, &(const float) { -(float)i }, 4);
    put_list(w, s, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint32_t i = 0; i < s->n_vocab; i++)
        put_u32(w, i == 0 ? 2 : i < 3 ? 3 : 1);
}

static void put_keys(writer *w, const model_spec *s, uint64_t *n)
{
    const struct { const char *key; uint32_t value; int always; } numbers[] = {
        { "vocab_size", s->n_vocab, 1 }, { "context_length", s->n_ctx, 1 }, { "embedding_length", s->n_embd, 1 }, { "block_count", s->n_layer, 1 },
        { "feed_forward_length", s->n_ff, 1 }, { "attention.head_count", s->n_head, 1 }, { "attention.head_count_kv", s->n_head_kv, 1 },
        { "attention.key_length", s->d_head, 1 }, { "attention.value_length", s->d_head, 1 }, { "rope.dimension_count", s->d_head, 1 },
        { "expert_count", s->n_expert, 0 }, { "expert_used_count", s->n_expert_used, 0 }, { "rope.scaling.original_context_length", s->ctx_original, 0 },
        { "expert_feed_forward_length", s->n_ff_expert, 0 }, { "interleave_moe_layer_step", s->expert_step, 0 }, { "attention.chunk_size", s->chunk, 0 },
        { "attention.sliding_window", 0, s->no_window },
    };
    const struct { const char *key; float value; } reals[] = {
        { "attention.layer_norm_rms_epsilon", 1e-5f }, { "rope.freq_base", 10000.0f }, { "rope.scaling.factor", s->factor }, { "rope.scaling.attn_factor", s->attn_factor },
    };
    const struct { const char *key, *value; } texts[] = { { "general.architecture", s->n_ff_expert ? "llama4" : "llama" }, { "rope.scaling.type", s->scaling } };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].value)
            put_key(w, s, texts[i].key, GGUF_TEXT, n), put_text(w, texts[i].value);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].always || numbers[i].value)
            put_key(w, s, numbers[i].key, GGUF_U32, n), put_u32(w, numbers[i].value);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        if (reals[i].value != 0)
            put_key(w, s, reals[i].key, GGUF_F32, n), put(w, &reals[i].value, 4);
    if (s->words)
        put_words(w, s, n);
    if (s->n_ff_expert)
        put_key(w, s, "use_qk_norm", GGUF_BOOL, n), put(w, s->qk_norm ? "\1" : "\0", 1);
}

/* ---- tensors ---- */

static void add(model_file *f, int layer, const char *name, sl_type type, uint64_t n0, uint64_t n1, uint64_t n2)
{
    if (f->n_tensors == sizeof f->tensors / sizeof f->tensors[0]) {
        fprintf(stderr, "a test model with too many tensors\n");
        exit(1);
    }
    model_tensor *t = &f->tensors[f->n_tensors++];
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
    t->type = type;
    t->ne[0] = n0, t->ne[1] = n1, t->ne[2] = n2;
    t->n_dims = n2 > 1 ? 3 : n1 ? 2 : 1;
    t->bytes = random_blocks_bytes(type, n0) * (n1 ? n1 : 1) * (n2 ? n2 : 1);
}

static void add_vector(model_file *f, int layer, const char *name, uint64_t n) { add(f, layer, name, SL_TYPE_F32, n, 0, 0); }

static void add_attention(model_file *f, int l)
{
    const model_spec *s = &f->spec;
    const uint64_t q = (uint64_t)s->n_head * s->d_head, kv = (uint64_t)s->n_head_kv * s->d_head;
    const struct { const char *weight, *bias; enum model_role role; uint64_t n; int fused; } rows[] = {
        { "attn_qkv.weight", "attn_qkv.bias", ROLE_ATTN_Q, q + 2 * kv, 1 }, { "attn_q.weight", "attn_q.bias", ROLE_ATTN_Q, q, 0 },
        { "attn_k.weight", "attn_k.bias", ROLE_ATTN_K, kv, 0 }, { "attn_v.weight", "attn_v.bias", ROLE_ATTN_V, kv, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].fused == (s->fused != 0)) {
            add(f, l, rows[i].weight, s->types[rows[i].role], s->n_embd, rows[i].n, 1);
            if (s->biases)
                add_vector(f, l, rows[i].bias, rows[i].n);
        }
    add(f, l, "attn_output.weight", s->types[ROLE_ATTN_OUTPUT], q, s->n_embd, 1);
    if (s->biases)
        add_vector(f, l, "attn_output.bias", s->n_embd);
}

/* Llama 4: experts of a width of their own beside a shared one. */
static void add_shared_experts(model_file *f, int l)
{
    const model_spec *s = &f->spec;
    const struct { const char *experts, *shared; enum model_role role; uint64_t n_in, n_out; } rows[] = {
        { "ffn_gate_exps.weight", "ffn_gate_shexp.weight", ROLE_FFN_GATE, s->n_embd, s->n_ff_expert },
        { "ffn_up_exps.weight", "ffn_up_shexp.weight", ROLE_FFN_UP, s->n_embd, s->n_ff_expert },
        { "ffn_down_exps.weight", "ffn_down_shexp.weight", ROLE_FFN_DOWN, s->n_ff_expert, s->n_embd },
    };
    add(f, l, "ffn_gate_inp.weight", SL_TYPE_F32, s->n_embd, s->n_expert, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        add(f, l, rows[i].experts, s->types[rows[i].role], rows[i].n_in, rows[i].n_out, s->n_expert);
        add(f, l, rows[i].shared, s->types[rows[i].role], rows[i].n_in, rows[i].n_out, 1);
    }
}

int model_has_experts(const model_spec *s, int l)
{
    return s->n_expert && (!s->n_ff_expert || s->expert_step < 2 || (l + 1) % (int)s->expert_step == 0);
}

static void add_feed_forward(model_file *f, int l)
{
    const model_spec *s = &f->spec;
    const int experts = model_has_experts(s, l);
    const struct { const char *dense, *experts, *bias; enum model_role role; uint64_t n_in, n_out; } rows[] = {
        { "ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate.bias", ROLE_FFN_GATE, s->n_embd, s->n_ff },
        { "ffn_up.weight", "ffn_up_exps.weight", "ffn_up.bias", ROLE_FFN_UP, s->n_embd, s->n_ff },
        { "ffn_down.weight", "ffn_down_exps.weight", "ffn_down.bias", ROLE_FFN_DOWN, s->n_ff, s->n_embd },
    };
    if (experts && s->n_ff_expert) {
        add_shared_experts(f, l);
        return;
    }
    if (experts)
        add(f, l, "ffn_gate_inp.weight", SL_TYPE_F32, s->n_embd, s->n_expert, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        add(f, l, experts ? rows[i].experts : rows[i].dense, s->types[rows[i].role], rows[i].n_in, rows[i].n_out, experts ? s->n_expert : 1);
        if (s->biases && !experts)
            add_vector(f, l, rows[i].bias, rows[i].n_out);
    }
}

static void list_tensors(model_file *f)
{
    const model_spec *s = &f->spec;
    add(f, -1, "token_embd.weight", s->types[ROLE_TOKEN_EMBD], s->n_embd, s->n_vocab, 1);
    add_vector(f, -1, "output_norm.weight", s->n_embd);
    if (!s->tied)
        add(f, -1, "output.weight", s->types[ROLE_OUTPUT], s->n_embd, s->n_vocab, 1);
    if (s->rope_factors)
        add_vector(f, -1, "rope_freqs.weight", s->d_head / 2);
    for (int l = 0; l < (int)s->n_layer; l++) {
        add_vector(f, l, "attn_norm.weight", s->n_embd);
        add_attention(f, l);
        add_vector(f, l, "ffn_norm.weight", s->n_embd);
        add_feed_forward(f, l);
    }
}

/* Matrices keep the size of what they multiply, norms lie about 1, biases are small, rope factors lie between 1 and 8. */
static void fill(const model_tensor *t, uint64_t *state, unsigned char *to)
{
    if (t->n_dims > 1) {
        random_blocks(t->type, t->ne[0] * t->ne[1] * t->ne[2], 1.25 / sqrt((double)t->ne[0]), state, to);
        return;
    }
    const int norm = strstr(t->name, "norm") != NULL, freqs = strstr(t->name, "rope") != NULL;
    for (uint64_t i = 0; i < t->ne[0]; i++) {
        const float r = random_float(state), x = freqs ? 4.5f + 3.5f * r : norm ? 1.0f + r / 4 : r / 4;
        memcpy(to + 4 * i, &x, 4);
    }
}

model_file *model_build(const model_spec *spec)
{
    model_file *f = must(calloc(1, sizeof *f));
    writer w = { 0 };
    uint64_t n_keys = 0, offset = 0, state = spec->seed;
    f->spec = *spec;
    list_tensors(f);
    put(&w, "GGUF", 4);
    put_u32(&w, 3);
    put_u64(&w, f->n_tensors);
    put_u64(&w, 0);                 /* number of keys: below */
    put_keys(&w, spec, &n_keys);
    memcpy(w.data + 16, &n_keys, 8);
    for (size_t i = 0; i < f->n_tensors; i++) {
        const model_tensor *t = &f->tensors[i];
        put_text(&w, t->name);
        put_u32(&w, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims; d++)
            put_u64(&w, t->ne[d]);
        put_u32(&w, (uint32_t)t->type);
        put_u64(&w, offset);
        offset += (t->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    pad(&w);
    const size_t head = w.size;
    f->size = head + (size_t)offset;
    f->data = must(calloc(1, f->size));
    memcpy(f->data, w.data, head);
    free(w.data);
    unsigned char *at = f->data + head;
    for (size_t i = 0; i < f->n_tensors; i++) {
        f->tensors[i].data = at;
        fill(&f->tensors[i], &state, at);
        at += (f->tensors[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return f;
}

void model_build_free(model_file *f)
{
    if (f)
        free(f->data);
    free(f);
}

model_spec model_spec_of(model_spec spec, sl_type type)
{
    for (int role = 0; role < ROLE_COUNT; role++)
        spec.types[role] = type;
    return spec;
}

const float *model_values(const model_file *f, int layer, const char *name)
{
    char full[48];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    for (size_t i = 0; i < f->n_tensors; i++)
        if (!strcmp(f->tensors[i].name, full))
            return f->tensors[i].type == SL_TYPE_F32 ? (const float *)(const void *)f->tensors[i].data : NULL;
    return NULL;
}
