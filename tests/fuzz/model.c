/* SPDX-License-Identifier: MIT */
/* model.c - fuzz target: any bytes as edits of a right model's file. What comes out is loaded packed and in place; both must say the same, and two
 * tokens (with a picture between them, if the model takes any) computed by both must give the same bits or fail alike. Nothing may leak.
 *
 * Byte 0: bit 0 experts, bit 1 tied, bit 2 two devices, bit 3 architecture mllama, bit 4 that in two files, bit 5 bytes are patched in the second of them. Then edits until the bytes end; each is one byte that says what (modulo EDITS) and its
 * parameters, see edit(). make_corpus_model.py writes the same. */
#include <spacellama/spacellama.h>

#include "counting.h"
#include "mllama_build.h"
#include "tiny.h"
#include "type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_VOCAB = 12, MOST_MEMORY = 64 << 20, MOST_WEIGHTS = 8 << 20, MOST_TENSOR = 1 << 20, MOST_EDITS = 64, MOST_VOCAB = 4096, PATCH_BYTES = 8 };
enum { EXPERTS = 1, TIED = 2, SHARED = 4, PICTURES = 8, TWO_FILES = 16, SECOND = 32 };
enum { PUT_NUMBER, PUT_TEXT, PUT_ARRAY, DROP_KEY, DROP_TENSOR, RESHAPE, PATCH_TENSOR, ADD_TENSOR, PATCH_FILE, CUT, EDITS };

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

/* ---- reading edits ---- */

typedef struct input { const uint8_t *data; size_t size, at; } input;

static uint8_t next(input *in) { return in->at < in->size ? in->data[in->at++] : 0; }

static uint64_t next_number(input *in, int bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++)
        n |= (uint64_t)next(in) << 8 * i;
    return n;
}

static const char *const keys[] = {
    "general.architecture", "general.alignment", "general.name", "llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
    "llama.attention.head_count", "llama.attention.head_count_kv", "llama.attention.layer_norm_rms_epsilon", "llama.attention.key_length", "llama.attention.value_length",
    "llama.rope.dimension_count", "llama.rope.freq_base", "llama.rope.scale_linear", "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scaling.attn_factor",
    "llama.rope.scaling.original_context_length", "llama.expert_count", "llama.expert_used_count", "llama.vocab_size", "split.no", "split.count", "split.tensors.count",
    "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.ggml.pre",
    "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix",
    "mllama.block_count", "mllama.embedding_length", "mllama.feed_forward_length", "mllama.attention.head_count", "mllama.attention.head_count_kv", "mllama.vocab_size",
    "mllama.attention.cross_attention_layers", "mllama.cross_attention_layers", "mllama.vision.block_count", "mllama.vision.global.block_count",
    "mllama.vision.intermediate_layers_indices", "mllama.vision.embedding_length", "mllama.vision.feed_forward_length", "mllama.vision.attention.head_count",
    "mllama.vision.attention.layer_norm_epsilon", "mllama.vision.image_size", "mllama.vision.patch_size", "mllama.vision.max_num_tiles", "mllama.vision.num_channels",
    "mllama.vision.image_mean", "mllama.vision.image_std", "tokenizer.ggml.eos_token_ids",
};
static const char *const names[] = {
    "rope_freqs.weight", "output.scale", "blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_output.bias", "blk.0.ffn_down.bias", "blk.0.attn_q.scale", "blk.0.attn_qkv.weight",
    "blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight", "blk.0.ffn_gate_exps.scale", "blk.1.attn_norm.weight", "x",
    "v.enc.mmproj.weight", "v.blk.0.ln1.weight", "v.patch_embd.weight", "v.blk.0.attn_q.scale", "mm.0.scale", "output.weight", "v.blk.1.attn_norm.weight",
};
static const uint64_t sizes[] = { 0, 1, 2, 4, 8, 12, 16, 24, 31, 32, 33, 48, 64, 96, 128, 256, 512, 1024, 4096, 1u << 20, 1u << 31, 1ull << 32, 1ull << 59, UINT64_MAX };
#define PICK(in, list) list[next(in) % (sizeof list / sizeof *list)]

/* ---- edits ---- */

static void put_array(tiny *t, input *in)
{
    static const uint8_t widths[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    const char *key = PICK(in, keys);
    const uint32_t type = next(in) % 13;
    const uint64_t count = next(in) % 24;
    uint8_t value[12 + 24 * 16];
    size_t n = 12;
    memcpy(value, &type, 4);
    memcpy(value + 4, &count, 8);
    for (uint64_t i = 0; i < count; i++)
        if (widths[type]) {
            const uint64_t x = next_number(in, widths[type]);
            memcpy(value + n, &x, widths[type]);
            n += widths[type];
        } else {        /* short texts; of arrays in arrays the same bytes are nonsense, which the reader must see */
            const uint64_t length = next(in) % 8;
            memcpy(value + n, &length, 8);
            n += 8;
            for (uint64_t k = 0; k < length; k++)
                value[n++] = next(in);
        }
    tiny_put(t, key, TINY_ARRAY, value, n);
}

static void put_number(tiny *t, input *in)
{
    static const uint8_t widths[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    const char *key = PICK(in, keys);
    const uint32_t type = next(in) % 13;
    const uint64_t n = next_number(in, widths[type]);
    if (widths[type])
        tiny_put(t, key, type, &n, widths[type]);
}

static void put_text(tiny *t, input *in)
{
    const char *key = PICK(in, keys);
    char text[16] = { 0 };
    const size_t n = next(in) % 15;
    for (size_t i = 0; i < n; i++) {
        const uint8_t byte = next(in);
        text[i] = byte ? (char)byte : ' ';      /* it is a C string */
    }
    tiny_put_text(t, key, text);
}

/* Type, dimensions and as many bytes as they take, if that is not absurd. */
static void shape(tiny_tensor *x, input *in)
{
    const uint32_t type = next(in) % SL_TYPE_COUNT, n_dims = 1 + next(in) % 4;
    const sl_type_info *info = sl_type_get(type);
    uint64_t dims[4], n = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        dims[i] = PICK(in, sizes);
        n = dims[i] && n > MOST_TENSOR / dims[i] ? MOST_TENSOR : n * dims[i];
    }
    const uint64_t bytes = info ? n / info->block_values * info->block_bytes : n;
    tiny_reshape(x, type, dims, n_dims, bytes < MOST_TENSOR ? bytes : 64);
}

/* 8 bytes: where, how many, which. */
static void patch(uint8_t *data, size_t size, input *in)
{
    const size_t at = next_number(in, 3), n = 1 + next(in) % 4;
    for (size_t i = 0; i < 4; i++) {
        const uint8_t byte = next(in);
        if (size && i < n)
            data[(at + i) % size] = byte;
    }
}

static void edit_model(tiny *t, unsigned what, input *in)
{
    tiny_tensor *x = t->n_tensors ? &t->tensors[next(in) % t->n_tensors] : NULL;
    if (what == PUT_NUMBER)
        put_number(t, in);
    else if (what == PUT_TEXT)
        put_text(t, in);
    else if (what == PUT_ARRAY)
        put_array(t, in);
    else if (what == DROP_KEY && t->n_keys)
        tiny_drop_key(t, t->keys[next(in) % t->n_keys].name);
    else if (what == DROP_TENSOR && x)
        tiny_drop(t, x->name);
    else if (what == RESHAPE && x)
        shape(x, in);
    else if (what == PATCH_TENSOR && x)
        patch(x->data, x->bytes, in);
    else if (what == ADD_TENSOR)
        shape(tiny_add(t, PICK(in, names), 0, (const uint64_t[]) { 1 }, 1, 4), in);
}

static tiny *right_model(unsigned flags)
{
    if (flags & PICTURES)
        return mllama_create(&(mllama_spec) { .n_layer = 2, .cross = 0x2, .n_ff = 32, .n_vocab = N_VOCAB, .v_layer = 1, .kept = 0x1, .max_tiles = 2 });
    return tiny_create(&(tiny_shape) { .n_layer = 1, .n_ff = 32, .n_vocab = N_VOCAB, .n_expert = flags & EXPERTS ? 3 : 0, .n_expert_used = 2, .tied = flags & TIED ? 1 : 0 });
}

/* One file of a model, a block of exactly its size; data NULL: there is none. */
typedef struct part { unsigned char *data; size_t size; } part;

static void write_parts(const tiny *t, unsigned flags, part parts[2])
{
    tiny *text, *projector;
    if (!(flags & PICTURES) || !(flags & TWO_FILES)) {
        parts[0].data = tiny_write(t, &parts[0].size);
        return;
    }
    mllama_split(t, &text, &projector);
    parts[0].data = tiny_write(text, &parts[0].size);
    parts[1].data = tiny_write(projector, &parts[1].size);
    tiny_free(text);
    tiny_free(projector);
}

static void make_files(input *in, unsigned flags, part parts[2])
{
    tiny *t = right_model(flags);
    struct { unsigned what; size_t at; } later[MOST_EDITS];        /* done to the file when there is one */
    int n_later = 0;
    for (int i = 0; i < MOST_EDITS && in->at < in->size; i++) {
        const unsigned what = next(in) % EDITS;
        edit_model(t, what, in);
        if (what == PATCH_FILE || what == CUT) {
            later[n_later].what = what, later[n_later++].at = in->at;
            in->at += what == CUT ? 2 : PATCH_BYTES;
        }
    }
    write_parts(t, flags, parts);
    tiny_free(t);
    part *edited = &parts[parts[1].data && flags & SECOND];
    for (int i = 0; i < n_later; i++) {
        in->at = later[i].at;
        if (later[i].what == PATCH_FILE)
            patch(edited->data, edited->size, in);
        else
            edited->size -= edited->size ? next_number(in, 2) % edited->size : 0;
    }
    unsigned char *exact = realloc(edited->data, edited->size + !edited->size);
    require(exact != NULL, "memory");
    edited->data = exact;
}

/* ---- verdicts ---- */

typedef struct verdict { sl_status load, compute; uint32_t n_vocab; float logits[MOST_VOCAB]; } verdict;

static void compute(verdict *v, sl_model *model)
{
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    sl_session *session = NULL;
    sl_model_info info = { .size = sizeof info };
    o.n_ctx = 8;
    require(sl_model_get_info(model, &info) == SL_OK && info.n_vocab > 0, "what loads has a vocabulary");
    v->n_vocab = info.n_vocab;
    if (info.n_vocab > MOST_VOCAB)
        return;
    v->compute = sl_session_create(&session, model, &o);
    if (v->compute == SL_OK && info.max_tiles) {
        sl_image *image = mllama_picture(11, 7, 1);
        v->compute = sl_session_add_image(session, image);
        sl_image_free(image);
    }
    const sl_token ids[] = { 0, info.max_tiles ? info.image_token : 0, (sl_token)info.n_vocab - 1 };
    if (v->compute == SL_OK)
        v->compute = sl_session_eval(session, ids, 3, v->logits, 1);
    if (v->compute == SL_OK)
        for (uint32_t i = 0; i < info.n_vocab; i++)
            require(v->logits[i] - v->logits[i] == 0, "logits are finite");
    sl_session_free(session);
    char text[256];
    size_t n;
    sl_token encoded[64];
    const sl_status status = sl_encode(model, "ab </s> c", 9, SL_ENCODE_ADD_SPECIAL | SL_ENCODE_PARSE_SPECIAL, encoded, 64, &n);
    if (status == SL_OK)
        require(sl_decode(model, encoded, n, SL_DECODE_SPECIAL, text, sizeof text, &n) != SL_ERR_RANGE, "what was encoded can be decoded");
}

static void load(verdict *v, const part parts[2], unsigned flags, uint32_t in_place)
{
    counting memory = { .most_bytes = MOST_MEMORY };
    const sl_allocator allocator = counting_allocator(&memory);
    const sl_source source = { .size = sizeof source, .data = parts[0].data, .length = parts[0].size }, *const sources[] = { &source };
    const sl_source projector = { .size = sizeof projector, .data = parts[1].data, .length = parts[1].size };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model = NULL;
    o.n_threads = 1, o.in_place = in_place, o.memory_limit = MOST_WEIGHTS, o.allocator = &allocator, o.backend = flags & SHARED ? "cpu@0-0,cpu" : NULL;
    o.projector_source = parts[1].data ? &projector : NULL;
    memset(v, 0, sizeof *v);
    v->load = sl_model_load_sources(&model, sources, 1, &o);
    require(!model == (v->load != SL_OK), "a model or an error");
    if (model)
        compute(v, model);
    sl_model_free(model);
    require(!memory.live_blocks && !memory.wrong, "everything is freed");
}

static int bounded(sl_status status) { return status == SL_ERR_LIMIT || status == SL_ERR_NOMEM; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static verdict packed, in_place;
    input in = { data, size, 0 };
    part parts[2] = { { NULL, 0 } };
    const unsigned flags = next(&in);
    make_files(&in, flags, parts);
    load(&packed, parts, flags, 0);
    load(&in_place, parts, flags, 1);
    if (!bounded(packed.load) && !bounded(in_place.load) && !bounded(packed.compute) && !bounded(in_place.compute)) {
        require(packed.load == in_place.load && packed.compute == in_place.compute, "packed and in place have the same verdict");
        require(packed.n_vocab > MOST_VOCAB || !memcmp(packed.logits, in_place.logits, packed.n_vocab * sizeof(float)), "packed and in place give the same bits");
    }
    free(parts[0].data);
    free(parts[1].data);
    return 0;
}
