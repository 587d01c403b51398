/* SPDX-License-Identifier: MIT */
/* tiny.c - see tiny.h. Little-endian machines only, as the files are. */
#include "tiny.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(void *block)
{
    if (!block) {
        fprintf(stderr, "no memory for a test model\n");
        exit(1);
    }
    return block;
}

static void refuse(const char *what, const char *name)
{
    fprintf(stderr, "test model: %s: %s\n", name, what);
    exit(1);
}

/* ---- keys ---- */

static void set_name(char *to, const char *name)
{
    if (strlen(name) >= TINY_NAME)
        refuse("too long", name);
    memset(to, 0, TINY_NAME);
    memcpy(to, name, strlen(name));
}

static size_t find_key(const tiny *t, const char *name)
{
    size_t i = 0;
    while (i < t->n_keys && strcmp(t->keys[i].name, name))
        i++;
    return i;
}

void tiny_put(tiny *t, const char *key, uint32_t type, const void *value, size_t bytes)
{
    size_t i = find_key(t, key);
    if (i == TINY_KEYS)
        refuse("too many keys", key);
    tiny_key *k = &t->keys[i];
    if (i == t->n_keys) {
        *k = (tiny_key) { .value = NULL };
        set_name(k->name, key);
        t->n_keys++;
    }
    free(k->value);
    k->type = type;
    k->bytes = bytes;
    k->value = need(malloc(bytes + !bytes));
    if (bytes)
        memcpy(k->value, value, bytes);
}

void tiny_put_u32(tiny *t, const char *key, uint32_t value) { tiny_put(t, key, TINY_U32, &value, sizeof value); }
void tiny_put_f32(tiny *t, const char *key, float value) { tiny_put(t, key, TINY_F32, &value, sizeof value); }

void tiny_put_text(tiny *t, const char *key, const char *text)
{
    uint64_t n = strlen(text);
    unsigned char *value = need(malloc(8 + n));
    memcpy(value, &n, 8);
    memcpy(value + 8, text, n);
    tiny_put(t, key, TINY_STRING, value, 8 + n);
    free(value);
}

static void put_array(tiny *t, const char *key, uint32_t element, const void *values, uint64_t count, size_t bytes)
{
    unsigned char *value = need(malloc(12 + bytes));
    memcpy(value, &element, 4);
    memcpy(value + 4, &count, 8);
    if (bytes)
        memcpy(value + 12, values, bytes);
    tiny_put(t, key, TINY_ARRAY, value, 12 + bytes);
    free(value);
}

void tiny_put_array_u32(tiny *t, const char *key, const uint32_t *values, uint64_t count) { put_array(t, key, TINY_U32, values, count, 4 * count); }

void tiny_drop_key(tiny *t, const char *key)
{
    size_t i = find_key(t, key);
    if (i == t->n_keys)
        refuse("no such key", key);
    free(t->keys[i].value);
    memmove(&t->keys[i], &t->keys[i + 1], (t->n_keys - i - 1) * sizeof t->keys[0]);
    t->n_keys--;
}

/* ---- tensors ---- */

tiny_tensor *tiny_find(tiny *t, const char *name)
{
    for (size_t i = 0; i < t->n_tensors; i++)
        if (!strcmp(t->tensors[i].name, name))
            return &t->tensors[i];
    refuse("no such tensor", name);
    return NULL;
}

void tiny_reshape(tiny_tensor *tensor, uint32_t type, const uint64_t *dims, uint32_t n_dims, size_t bytes)
{
    free(tensor->data);
    tensor->type = type;
    tensor->n_dims = n_dims;
    for (uint32_t i = 0; i < 4; i++)
        tensor->dims[i] = i < n_dims ? dims[i] : 1;
    tensor->bytes = bytes;
    tensor->data = need(calloc(1, bytes + !bytes));
}

tiny_tensor *tiny_add(tiny *t, const char *name, uint32_t type, const uint64_t *dims, uint32_t n_dims, size_t bytes)
{
    if (t->n_tensors == TINY_TENSORS)
        refuse("too many tensors", name);
    tiny_tensor *tensor = &t->tensors[t->n_tensors++];
    tensor->data = NULL;
    set_name(tensor->name, name);
    tiny_reshape(tensor, type, dims, n_dims, bytes);
    return tensor;
}

void tiny_drop(tiny *t, const char *name)
{
    size_t i = (size_t)(tiny_find(t, name) - t->tensors);
    free(t->tensors[i].data);
    memmove(&t->tensors[i], &t->tensors[i + 1], (t->n_tensors - i - 1) * sizeof t->tensors[0]);
    t->n_tensors--;
}

static void fill_f32(unsigned char *data, size_t n, float size, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        float x = random_float(seed) * size;
        memcpy(data + 4 * i, &x, 4);
    }
}

/* Blocks of 32: a half that is 2^-10, then bytes: numbers up to 1/8. */
static void fill_q8_0(unsigned char *data, size_t n_blocks, uint64_t *seed)
{
    for (size_t b = 0; b < n_blocks; b++, data += 34) {
        data[0] = 0x00, data[1] = 0x14;
        for (int i = 0; i < 32; i += 8) {
            uint64_t x = random_next(seed);
            memcpy(data + 2 + i, &x, 8);
        }
    }
}

static void add_matrix(tiny *t, const tiny_shape *s, uint64_t *seed, const char *name, uint64_t n_in, uint64_t n_out, uint64_t n_mat)
{
    const uint64_t dims[] = { n_in, n_out, n_mat }, n = n_in * n_out * n_mat;
    const int q8 = s->matrices == TINY_MATRIX_Q8_0;
    tiny_tensor *x = tiny_add(t, name, s->matrices, dims, n_mat > 1 ? 3 : 2, q8 ? n / 32 * 34 : 4 * n);
    if (q8)
        fill_q8_0(x->data, n / 32, seed);
    else
        fill_f32(x->data, n, n_in > 256 ? 0.05f : 0.3f, seed);
}

static void add_norm(tiny *t, const char *name, uint64_t n)
{
    tiny_tensor *x = tiny_add(t, name, TINY_MATRIX_F32, &n, 1, 4 * n);
    for (uint64_t i = 0; i < n; i++)
        memcpy(x->data + 4 * i, &(float) { 1.0f }, 4);
}

static void add_layer(tiny *t, const tiny_shape *s, uint64_t *seed, unsigned l)
{
    const uint64_t d_head = s->n_embd / s->n_head, n_kv = d_head * s->n_head_kv, n_mat = s->n_expert ? s->n_expert : 1;
    char name[TINY_NAME];
#define NAME(text) (snprintf(name, sizeof name, "blk.%u." text ".weight", l), name)
    add_norm(t, NAME("attn_norm"), s->n_embd);
    add_matrix(t, s, seed, NAME("attn_q"), s->n_embd, s->n_embd, 1);
    add_matrix(t, s, seed, NAME("attn_k"), s->n_embd, n_kv, 1);
    add_matrix(t, s, seed, NAME("attn_v"), s->n_embd, n_kv, 1);
    add_matrix(t, s, seed, NAME("attn_output"), s->n_embd, s->n_embd, 1);
    add_norm(t, NAME("ffn_norm"), s->n_embd);
    if (s->n_expert)
        add_matrix(t, s, seed, NAME("ffn_gate_inp"), s->n_embd, s->n_expert, 1);
    add_matrix(t, s, seed, s->n_expert ? NAME("ffn_gate_exps") : NAME("ffn_gate"), s->n_embd, s->n_ff, n_mat);
    add_matrix(t, s, seed, s->n_expert ? NAME("ffn_up_exps") : NAME("ffn_up"), s->n_embd, s->n_ff, n_mat);
    add_matrix(t, s, seed, s->n_expert ? NAME("ffn_down_exps") : NAME("ffn_down"), s->n_ff, s->n_embd, n_mat);
#undef NAME
}

/* ---- vocabulary ---- */

enum { SPECIALS = 3, BYTES = 256, LETTERS = 26 };

/* Text, score and kind of token i; the kinds are those of GGUF. */
static void token(uint32_t i, int bytes, char *text, float *score, int32_t *kind)
{
    static const char *const specials[] = { "<unk>", "<s>", "</s>" };
    const uint32_t first = SPECIALS + (bytes ? BYTES : 0);
    *score = 0;
    *kind = i == 0 ? 2 : i < SPECIALS ? 3 : i < first ? 6 : 1;
    if (i < SPECIALS)
        strcpy(text, specials[i]);
    else if (i < first)
        sprintf(text, "<0x%02X>", i - SPECIALS);
    else if (i == first)
        strcpy(text, "\xe2\x96\x81"), *score = -1000;
    else if (i <= first + LETTERS)
        sprintf(text, "%c", 'a' + (int)(i - first - 1)), *score = -1000 - (float)i;
    else {
        const uint32_t n = i - first - 1 - LETTERS;     /* aa ba ca ... zz, then with a number behind it: never joined */
        sprintf(text, "%c%c", 'a' + (int)(n % LETTERS), 'a' + (int)(n / LETTERS % LETTERS));
        if (n >= LETTERS * LETTERS)
            sprintf(text + 2, "%u", n / (LETTERS * LETTERS));
        *score = -(float)n;
    }
}

static void put_vocabulary(tiny *t, uint32_t n)
{
    float *scores = need(malloc(n * sizeof *scores));
    int32_t *kinds = need(malloc(n * sizeof *kinds));
    unsigned char *texts = need(malloc(n * 40)), *p = texts;
    for (uint32_t i = 0; i < n; i++) {
        char text[32];
        token(i, n >= 288, text, &scores[i], &kinds[i]);
        uint64_t length = strlen(text);
        memcpy(p, &length, 8);
        memcpy(p + 8, text, length);
        p += 8 + length;
    }
    tiny_put_text(t, "tokenizer.ggml.model", "llama");
    put_array(t, "tokenizer.ggml.tokens", TINY_STRING, texts, n, (size_t)(p - texts));
    put_array(t, "tokenizer.ggml.scores", TINY_F32, scores, n, n * sizeof *scores);
    put_array(t, "tokenizer.ggml.token_type", TINY_I32, kinds, n, n * sizeof *kinds);
    tiny_put_u32(t, "tokenizer.ggml.unknown_token_id", 0);
    tiny_put_u32(t, "tokenizer.ggml.bos_token_id", 1);
    tiny_put_u32(t, "tokenizer.ggml.eos_token_id", 2);
    free(scores);
    free(kinds);
    free(texts);
}

/* ---- the model ---- */

static uint32_t otherwise(uint32_t value, uint32_t standard) { return value ? value : standard; }

tiny *tiny_create(const tiny_shape *shape)
{
    tiny_shape s = shape ? *shape : (tiny_shape) { 0 };
    tiny *t = need(calloc(1, sizeof *t));
    uint64_t seed = s.seed + 1;
    s.n_layer = otherwise(s.n_layer, 2), s.n_embd = otherwise(s.n_embd, 32), s.n_head = otherwise(s.n_head, 4), s.n_head_kv = otherwise(s.n_head_kv, 2);
    s.n_ff = otherwise(s.n_ff, 64), s.n_vocab = otherwise(s.n_vocab, 24), s.n_ctx = otherwise(s.n_ctx, 256);
    tiny_put_text(t, "general.architecture", "llama");
    tiny_put_text(t, "general.name", "tiny");
    tiny_put_u32(t, "llama.block_count", s.n_layer);
    tiny_put_u32(t, "llama.context_length", s.n_ctx);
    tiny_put_u32(t, "llama.embedding_length", s.n_embd);
    tiny_put_u32(t, "llama.feed_forward_length", s.n_ff);
    tiny_put_u32(t, "llama.attention.head_count", s.n_head);
    tiny_put_u32(t, "llama.attention.head_count_kv", s.n_head_kv);
    tiny_put_f32(t, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_put_u32(t, "llama.rope.dimension_count", s.n_embd / s.n_head);
    if (s.n_expert) {
        tiny_put_u32(t, "llama.expert_count", s.n_expert);
        tiny_put_u32(t, "llama.expert_used_count", s.n_expert_used);
    }
    put_vocabulary(t, s.n_vocab);
    add_matrix(t, &s, &seed, "token_embd.weight", s.n_embd, s.n_vocab, 1);
    for (unsigned l = 0; l < s.n_layer; l++)
        add_layer(t, &s, &seed, l);
    add_norm(t, "output_norm.weight", s.n_embd);
    if (!s.tied)
        add_matrix(t, &s, &seed, "output.weight", s.n_embd, s.n_vocab, 1);
    return t;
}

void tiny_free(tiny *t)
{
    for (size_t i = 0; i < t->n_keys; i++)
        free(t->keys[i].value);
    for (size_t i = 0; i < t->n_tensors; i++)
        free(t->tensors[i].data);
    free(t);
}

/* ---- the file ---- */

enum { ALIGNMENT = 32 };

typedef struct out { unsigned char *data; size_t size; } out;      /* data NULL: only counts */

static void add(out *o, const void *bytes, size_t n)
{
    if (o->data && n)
        memcpy(o->data + o->size, bytes, n);
    o->size += n;
}

static void align(out *o)
{
    static const unsigned char zeros[ALIGNMENT];
    add(o, zeros, (ALIGNMENT - o->size % ALIGNMENT) % ALIGNMENT);
}

static void add_text(out *o, const char *text)
{
    uint64_t n = strlen(text);
    add(o, &n, 8);
    add(o, text, n);
}

static void add_key(out *o, const char *name, uint32_t type, const void *value, size_t bytes)
{
    add_text(o, name);
    add(o, &type, 4);
    add(o, value, bytes);
}

static void add_info(out *o, const tiny_tensor *x, uint64_t offset)
{
    add_text(o, x->name);
    add(o, &x->n_dims, 4);
    add(o, x->dims, 8 * (size_t)x->n_dims);
    add(o, &x->type, 4);
    add(o, &offset, 8);
}

static void write_part(out *o, const tiny *t, unsigned part, unsigned n_parts)
{
    const size_t first = t->n_tensors * part / n_parts, end = t->n_tensors * (part + 1) / n_parts;
    const uint64_t n_keys = (part ? 0 : t->n_keys) + (n_parts > 1 ? 3 : 0), n_tensors = end - first;
    const uint16_t no = (uint16_t)part, count = (uint16_t)n_parts;
    const int32_t all = (int32_t)t->n_tensors;
    uint64_t offset = 0;
    add(o, "GGUF\3\0\0\0", 8);
    add(o, &n_tensors, 8);
    add(o, &n_keys, 8);
    for (size_t i = 0; i < t->n_keys && !part; i++)
        add_key(o, t->keys[i].name, t->keys[i].type, t->keys[i].value, t->keys[i].bytes);
    if (n_parts > 1) {
        add_key(o, "split.no", TINY_U16, &no, 2);
        add_key(o, "split.count", TINY_U16, &count, 2);
        add_key(o, "split.tensors.count", TINY_I32, &all, 4);
    }
    for (size_t i = first; i < end; i++) {
        add_info(o, &t->tensors[i], offset);
        offset += (t->tensors[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    align(o);
    for (size_t i = first; i < end; i++) {
        add(o, t->tensors[i].data, t->tensors[i].bytes);
        align(o);
    }
}

unsigned char *tiny_write_part(const tiny *t, unsigned part, unsigned n_parts, size_t *size)
{
    out o = { NULL, 0 };
    write_part(&o, t, part, n_parts);
    o = (out) { need(malloc(o.size)), 0 };
    write_part(&o, t, part, n_parts);
    *size = o.size;
    return o.data;
}

unsigned char *tiny_write(const tiny *t, size_t *size) { return tiny_write_part(t, 0, 1, size); }

unsigned char *tiny_file(const tiny_shape *shape, size_t *size)
{
    tiny *t = tiny_create(shape);
    unsigned char *data = tiny_write(t, size);
    tiny_free(t);
    return data;
}

void tiny_save(const char *path, const unsigned char *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file))
        refuse("cannot be written", path);
}
