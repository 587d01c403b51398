/* SPDX-License-Identifier: MIT */
/* LLaVA: the encoder and projector against naive loops in double precision that share nothing with the library but the pixels of the square (tests/unit/image_tiles.c); the same
 * bytes however it is computed; and files with one thing wrong. */
#include "check.h"
#include "counting.h"
#include "eval.h"
#include "image.h"
#include "llava_build.h"
#include "mllama_build.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_EMBD = 32, N_VOCAB = 24, N_CTX = 128 };

/* ---- models ---- */

typedef struct bytes { unsigned char *data; size_t size; } bytes;

static bytes written(tiny *t)
{
    bytes b;
    b.data = tiny_write(t, &b.size);
    tiny_free(t);
    return b;
}

static bytes text_file(uint32_t n_vocab) { return written(tiny_create(&(tiny_shape) { .n_vocab = n_vocab, .seed = 4 })); }

static sl_status load(sl_model **model, const bytes *text, const bytes *projector, const sl_model_options *options)
{
    const sl_source source = { .size = sizeof source, .data = text->data, .length = text->size, .name = "text.gguf" }, *const sources[] = { &source };
    const sl_source second = { .size = sizeof second, .data = projector->data, .length = projector->size, .name = "projector.gguf" };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    if (options)
        o = *options;
    else
        o.n_threads = 2;
    o.projector_source = projector->data ? &second : NULL;
    return sl_model_load_sources(model, sources, 1, &o);
}

/* ---- the definition ---- */

static const struct variant { const char *name; llava_spec spec; uint32_t used, width, height; } variants[] = {
    { "three layers, all used", { .seed = 1 }, 3, 13, 9 },
    { "four layers, one left out", { .n_layer = 4, .seed = 2 }, 3, 9, 13 },
    { "the key says two of four", { .n_layer = 4, .feature_layer = 2, .seed = 3 }, 2, 12, 12 },
    { "the key says all of four", { .n_layer = 4, .feature_layer = 4, .seed = 4 }, 4, 100, 3 },
    { "exact GELU", { .exact = 1, .seed = 5 }, 3, 3, 100 },
    { "new names", { .new_names = 1, .v_ff = 17, .seed = 6 }, 3, 1, 1 },
    { "no kind", { .no_kind = 1, .n_layer = 1, .seed = 7 }, 1, 40, 41 },
    { "one patch", { .side = 5, .patch = 5, .seed = 8 }, 3, 40, 41 },
    { "more than a page of patches", { .side = 27, .patch = 3, .v_embd = 20, .v_head = 1, .n_adapter = 7, .seed = 9 }, 3, 40, 31 },
};

typedef struct naive {
    tiny *t;
    llava_spec s;
    size_t W, per_side, n;      /* width, patches along a side, positions */
} naive;

static const float *values(const naive *m, const char *name) { return (const float *)(const void *)tiny_find(m->t, name)->data; }

static const float *of(const naive *m, size_t l, const char *name)
{
    char full[TINY_NAME];
    snprintf(full, sizeof full, "v.blk.%zu.%s", l, name);
    return values(m, full);
}

static double *make(size_t n)
{
    double *x = calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

static void product(const float *w, const float *bias, const double *x, size_t n_in, size_t n_out, double *y)
{
    for (size_t o = 0; o < n_out; o++) {
        y[o] = bias[o];
        for (size_t i = 0; i < n_in; i++)
            y[o] += (double)w[o * n_in + i] * x[i];
    }
}

static void layer_norm(const double *x, const float *w, const float *b, size_t n, double *y)
{
    double mean = 0, var = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) / sqrt(var + (double)1e-5f) * w[i] + b[i];
}

static double gelu(double z, int exact) { return exact ? z / 2 * (1 + erf(z / sqrt(2))) : z / (1 + exp(-1.702 * z)); }

/* x[n, W]: the class first, then the patches row by row. */
static double *embed(const naive *m, const sl_image *image)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f }, deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    static const uint8_t colour[3] = { 122, 116, 104 };     /* what LLaVA pads with */
    const size_t side = m->s.side, P = m->s.patch, W = m->W;
    float *pixels = malloc(3 * side * side * sizeof *pixels);
    OK(sl_image_square(image, (uint32_t)side, colour, mean, deviation, pixels));
    double *x = make(m->n * W), *y = make(W);
    for (size_t p = 0; p < m->n; p++) {
        for (size_t c = 0; c < W; c++) {
            y[c] = (p ? 0 : values(m, "v.class_embd")[c]) + values(m, "v.position_embd.weight")[p * W + c];
            for (size_t i = 0; p && i < 3 * P * P; i++) {
                const size_t dx = i % P, dy = i / P % P, channel = i / P / P, px = (p - 1) % m->per_side * P + dx, py = (p - 1) / m->per_side * P + dy;
                y[c] += (double)values(m, "v.patch_embd.weight")[c * 3 * P * P + i] * pixels[(channel * side + py) * side + px];
            }
        }
        layer_norm(y, values(m, "v.pre_ln.weight"), values(m, "v.pre_ln.bias"), W, x + p * W);
    }
    free(y), free(pixels);
    return x;
}

static void attention(const naive *m, size_t l, double *x)
{
    const size_t W = m->W, N = m->n, d = W / m->s.v_head;
    double *q = make(N * W), *k = make(N * W), *v = make(N * W), *a = make(W), *o = make(W), *p = make(N);
    for (size_t u = 0; u < N; u++) {
        layer_norm(x + u * W, of(m, l, "ln1.weight"), of(m, l, "ln1.bias"), W, a);
        product(of(m, l, "attn_q.weight"), of(m, l, "attn_q.bias"), a, W, W, q + u * W);
        product(of(m, l, "attn_k.weight"), of(m, l, "attn_k.bias"), a, W, W, k + u * W);
        product(of(m, l, "attn_v.weight"), of(m, l, "attn_v.bias"), a, W, W, v + u * W);
    }
    for (size_t u = 0; u < N; u++) {
        memset(o, 0, W * sizeof *o);
        for (size_t h = 0; h < m->s.v_head; h++) {
            double sum = 0;
            for (size_t w = 0; w < N; w++) {
                double score = 0;
                for (size_t c = h * d; c < (h + 1) * d; c++)
                    score += q[u * W + c] * k[w * W + c] / sqrt((double)d);
                sum += p[w] = exp(score);
            }
            for (size_t w = 0; w < N; w++)
                for (size_t c = h * d; c < (h + 1) * d; c++)
                    o[c] += p[w] / sum * v[w * W + c];
        }
        product(of(m, l, "attn_out.weight"), of(m, l, "attn_out.bias"), o, W, W, a);
        for (size_t c = 0; c < W; c++)
            x[u * W + c] += a[c];
    }
    free(q), free(k), free(v), free(a), free(o), free(p);
}

static void feed_forward(const naive *m, size_t l, double *x)
{
    const char *first = m->s.new_names ? "ffn_up" : "ffn_down", *second = m->s.new_names ? "ffn_down" : "ffn_up";
    const size_t W = m->W, M = m->s.v_ff;
    char names[4][32];
    double *a = make(W), *b = make(M);
    for (int i = 0; i < 4; i++)
        snprintf(names[i], sizeof names[i], "%s.%s", i < 2 ? first : second, i % 2 ? "bias" : "weight");
    for (size_t u = 0; u < m->n; u++) {
        layer_norm(x + u * W, of(m, l, "ln2.weight"), of(m, l, "ln2.bias"), W, a);
        product(of(m, l, names[0]), of(m, l, names[1]), a, W, M, b);
        for (size_t i = 0; i < M; i++)
            b[i] = gelu(b[i], m->s.exact);
        product(of(m, l, names[2]), of(m, l, names[3]), b, M, W, a);
        for (size_t c = 0; c < W; c++)
            x[u * W + c] += a[c];
    }
    free(a), free(b);
}

/* The vectors [n - 1, N_EMBD] of a picture, as floats for free(). */
static float *encode(const naive *m, const sl_image *image, uint32_t used)
{
    double *x = embed(m, image), *hidden = make(m->s.n_adapter), *y = make(N_EMBD);
    float *vectors = malloc((m->n - 1) * N_EMBD * sizeof *vectors);
    for (size_t l = 0; l < used; l++) {
        attention(m, l, x);
        feed_forward(m, l, x);
    }
    for (size_t p = 1; p < m->n; p++) {
        product(values(m, "mm.0.weight"), values(m, "mm.0.bias"), x + p * m->W, m->W, m->s.n_adapter, hidden);
        for (size_t i = 0; i < m->s.n_adapter; i++)
            hidden[i] = gelu(hidden[i], 1);
        product(values(m, "mm.2.weight"), values(m, "mm.2.bias"), hidden, m->s.n_adapter, N_EMBD, y);
        for (size_t c = 0; c < N_EMBD; c++)
            vectors[(p - 1) * N_EMBD + c] = (float)y[c];
    }
    free(x), free(hidden), free(y);
    return vectors;
}

/* The text with `n` more rows of the embedding, without a vocabulary: whatever reads them sees these vectors. tests/arch/llama.c proves the text. */
static bytes text_with(const float *vectors, size_t n)
{
    tiny *t = tiny_create(&(tiny_shape) { .n_vocab = N_VOCAB, .seed = 4 });
    const char *const keys[] = { "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.unknown_token_id",
                                 "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id" };
    const char *const tables[] = { "token_embd.weight", "output.weight" };
    for (size_t i = 0; i < COUNT(keys); i++)
        tiny_drop_key(t, keys[i]);
    tiny_put_u32(t, "llama.vocab_size", (uint32_t)(N_VOCAB + n));
    for (size_t i = 0; i < COUNT(tables); i++) {
        tiny_tensor *x = tiny_find(t, tables[i]);
        const size_t old = N_VOCAB * N_EMBD * sizeof(float);
        unsigned char *rows = malloc(old);
        assert_int_equal(x->bytes, old);
        memcpy(rows, x->data, old);
        tiny_reshape(x, TINY_MATRIX_F32, (const uint64_t[]) { N_EMBD, N_VOCAB + n }, 2, old + n * N_EMBD * sizeof *vectors);
        memcpy(x->data, rows, old);
        if (i == 0)
            memcpy(x->data + old, vectors, n * N_EMBD * sizeof *vectors);
        free(rows);
    }
    return written(t);
}

/* Three tokens, the picture, two tokens. `first` is the id of its first vector, `step` 0 or 1. Returns how many. */
static size_t prompt(sl_token *ids, size_t n_vector, sl_token first, sl_token step)
{
    size_t n = 0;
    for (sl_token i = 1; i <= 3; i++)
        ids[n++] = i;
    for (size_t i = 0; i < n_vector; i++)
        ids[n++] = first + step * (sl_token)i;
    ids[n++] = 7, ids[n++] = 9;
    return n;
}

/* Logits of all positions, n_row numbers each. */
static void evaluate(sl_model *model, const sl_image *image, const sl_token *ids, size_t n, uint32_t n_batch, float *logits)
{
    const sl_session_options o = { .size = sizeof o, .cache_type = "f32", .n_ctx = N_CTX, .n_batch = n_batch };
    sl_session *session;
    OK(sl_session_create(&session, model, &o));
    if (image)
        OK(sl_session_add_image(session, image));
    OK(sl_session_eval(session, ids, n, logits, n));
    sl_session_free(session);
}

static void check_variant(const struct variant *var)
{
    naive m = { .t = llava_projector(&var->spec), .s = llava_full(&var->spec) };
    m.W = m.s.v_embd, m.per_side = m.s.side / m.s.patch, m.n = m.per_side * m.per_side + 1;
    sl_image *image = mllama_picture(var->width, var->height, 3);
    const size_t n_vector = m.n - 1;
    float *vectors = encode(&m, image, var->used);
    bytes text = text_file(N_VOCAB), projector = written(m.t), exact = text_with(vectors, n_vector), none = { 0 };
    sl_model *seeing, *reading;
    sl_token ids[N_CTX];
    size_t n = prompt(ids, n_vector, N_VOCAB, 0), n_row = N_VOCAB + n_vector;
    float *got = malloc(n * N_VOCAB * sizeof *got), *want = malloc(n * n_row * sizeof *want), most = 0, largest = 0;
    OK(load(&seeing, &text, &projector, NULL));
    evaluate(seeing, image, ids, n, 17, got);
    OK(load(&reading, &exact, &none, NULL));
    prompt(ids, n_vector, N_VOCAB, 1);
    evaluate(reading, NULL, ids, n, 17, want);
    for (size_t i = 0; i < n * N_VOCAB; i++) {
        const float exactly = want[i / N_VOCAB * n_row + i % N_VOCAB], off = fabsf(got[i] - exactly);
        largest = fmaxf(largest, fabsf(exactly));
        if (!(off <= most))
            most = off;
    }
    print_message("%-30s off by %.1e of %.1f\n", var->name, (double)most, (double)largest);
    if (!(most <= 5e-5f))
        fail_msg("%s: off by %g", var->name, (double)most);
    sl_model_free(seeing), sl_model_free(reading);
    sl_image_free(image);
    free(vectors), free(got), free(want), free(text.data), free(projector.data), free(exact.data);
}

static void definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(variants); i++)
        check_variant(&variants[i]);
}

/* ---- the same bytes ---- */

static void same_bytes(void **state)
{
    (void)state;
    static const struct { const char *arith; sl_type type; llava_spec spec; } kinds[] = {
        { "f32", SL_TYPE_F32, { .seed = 20 } }, { "f32", SL_TYPE_F16, { .v_embd = 64, .v_head = 2, .v_ff = 96, .n_adapter = 64, .exact = 1, .seed = 21 } },
        { "bf16", SL_TYPE_F16, { .v_embd = 64, .v_head = 2, .v_ff = 96, .n_adapter = 64, .seed = 22 } },
        { "f32", SL_TYPE_Q8_0, { .v_embd = 64, .v_head = 2, .v_ff = 96, .n_adapter = 64, .seed = 23 } },
    };
    static const uint32_t threads[] = { 1, 2, 3, 5 }, batches[] = { 1, 2, 7, 64 };
    bytes text = text_file(N_VOCAB);
    sl_image *image = mllama_picture(31, 20, 5);
    sl_token ids[N_CTX];
    const size_t n = prompt(ids, 36, N_VOCAB, 0);
    for (size_t i = 0; i < COUNT(kinds); i++) {
        llava_spec spec = kinds[i].spec;
        float first[64 * N_VOCAB], other[64 * N_VOCAB];
        int runs = 0;
        spec.type = kinds[i].type, spec.side = 36, spec.patch = 6;
        bytes projector = written(llava_projector(&spec));
        for (int level = 0; eval_levels[level]; level++)
            for (size_t t = 0; t < COUNT(threads); t++) {
                sl_model_options o = SL_MODEL_OPTIONS_INIT;
                sl_model *model;
                o.n_threads = threads[t], o.cpu_level = eval_levels[level], o.arith = kinds[i].arith, o.in_place = t == 2;
                const sl_status status = load(&model, &text, &projector, &o);
                if (status == SL_ERR_UNSUPPORTED)
                    break;
                OK(status);
                for (size_t b = 0; b < COUNT(batches); b++, runs++) {
                    evaluate(model, image, ids, n, batches[b], runs ? other : first);
                    if (runs && memcmp(first, other, n * N_VOCAB * sizeof *first))
                        fail_msg("kind %zu: level %s, %u threads, batches of %u: other bytes", i, eval_levels[level], threads[t], batches[b]);
                }
                sl_model_free(model);
            }
        assert_true(runs >= 16);
        free(projector.data);
    }
    sl_image_free(image);
    free(text.data);
}

/* ---- prompts ---- */

static void spelling(void **state)
{
    (void)state;
    enum { WITH_BYTES = 320, N_VECTOR = 9 };
    bytes text = text_file(WITH_BYTES), projector = written(llava_projector(NULL)), none = { 0 };
    sl_image *image = mllama_picture(31, 20, 5);
    const sl_chat_part parts[] = { { .size = sizeof *parts, .image = image }, { .size = sizeof *parts, .text = "ab", .length = 2 } };
    const sl_chat_message message = { .size = sizeof message, .role = "user", .parts = parts, .n_parts = 2 };
    sl_chat_options o = SL_CHAT_OPTIONS_INIT;
    sl_model *model;
    sl_session *session;
    sl_token ids[N_CTX], before[N_CTX], behind[N_CTX];
    size_t n, n_before, n_behind;
    OK(load(&model, &text, &projector, NULL));
    assert_int_equal(sl_image_encode(model, image, NULL, 0, &n), SL_ERR_BUFFER);
    assert_int_equal(n, N_VECTOR);
    OK(sl_image_encode(model, image, ids, N_CTX, &n));
    for (size_t i = 0; i < N_VECTOR; i++)
        assert_int_equal(ids[i], WITH_BYTES);
    /* "USER: <picture>\nab ASSISTANT:" */
    o.format = "vicuna";
    OK(sl_chat_encode(model, &message, 1, &o, ids, N_CTX, &n));
    OK(sl_encode(model, "USER: ", 6, 0, before, N_CTX, &n_before));
    OK(sl_encode(model, "\nab ASSISTANT:", 14, 0, behind, N_CTX, &n_behind));
    assert_int_equal(n, 1 + n_before + N_VECTOR + n_behind);
    assert_memory_equal(ids + 1, before, n_before * sizeof *ids);
    for (size_t i = 0; i < N_VECTOR; i++)
        assert_int_equal(ids[1 + n_before + i], WITH_BYTES);
    assert_memory_equal(ids + 1 + n_before + N_VECTOR, behind, n_behind * sizeof *ids);
    /* A picture that is not there, one that is, and half of one. */
    OK(sl_session_create(&session, model, NULL));
    assert_int_equal(sl_session_eval(session, ids, n, NULL, 0), SL_ERR_STATE);
    OK(sl_session_add_image(session, image));
    OK(sl_session_eval(session, ids, n, NULL, 0));
    OK(sl_session_rewind(session, 1 + n_before + 4));
    assert_int_equal(sl_session_images(session), 1);
    OK(sl_session_eval(session, ids + 1 + n_before + 4, n - 1 - n_before - 4, NULL, 0));
    assert_int_equal(sl_session_eval(session, (const sl_token[]) { WITH_BYTES + 1 }, 1, NULL, 0), SL_ERR_RANGE);
    sl_session_free(session);
    sl_model_free(model);
    /* Without the projector that id is none. */
    OK(load(&model, &text, &none, NULL));
    assert_int_equal(sl_image_encode(model, image, NULL, 0, &n), SL_ERR_UNSUPPORTED);
    OK(sl_session_create(&session, model, NULL));
    assert_int_equal(sl_session_add_image(session, image), SL_ERR_UNSUPPORTED);
    assert_int_equal(sl_session_eval(session, (const sl_token[]) { WITH_BYTES }, 1, NULL, 0), SL_ERR_RANGE);
    sl_session_free(session);
    sl_model_free(model);
    sl_image_free(image);
    free(text.data), free(projector.data);
}

/* ---- what is wrong with files ---- */

enum edit { NUMBER, REAL, TEXT, FLAG, NONE, GONE, SHAPE, TWO };
static const struct fault { const char *name; enum edit edit; const char *text; double value; sl_status status; const char *place; } faults[] = {     /* place: what the error names; NULL: the name */
    { "general.architecture", TEXT, "llama", 0, SL_ERR_UNSUPPORTED }, { "clip.projector_type", TEXT, "ldp", 0, SL_ERR_UNSUPPORTED },
    { "clip.projector_type", TEXT, "resampler", 0, SL_ERR_UNSUPPORTED }, { "clip.projector_type", TEXT, "llama4", 0, SL_ERR_UNSUPPORTED },
    { "clip.projector_type", NUMBER, NULL, 1, SL_ERR_TYPE }, { "clip.has_llava_projector", FLAG, NULL, 0, SL_ERR_UNSUPPORTED }, { "clip.has_llava_projector", NUMBER, NULL, 1, SL_ERR_TYPE },
    { "clip.vision.image_grid_pinpoints", TWO, NULL, 336, SL_ERR_UNSUPPORTED }, { "clip.vision.mm_patch_merge_type", TEXT, "spatial_unpad", 0, SL_ERR_UNSUPPORTED },
    { "clip.vision.mm_patch_merge_type", TEXT, "flat", 0, SL_OK }, { "clip.vision.image_aspect_ratio", TEXT, "anyres", 0, SL_ERR_UNSUPPORTED },
    { "clip.vision.image_aspect_ratio", TEXT, "pad", 0, SL_OK }, { "model.image_newline", SHAPE, NULL, 32, SL_ERR_UNSUPPORTED }, { "clip.use_silu", FLAG, NULL, 1, SL_ERR_UNSUPPORTED },
    { "clip.use_silu", FLAG, NULL, 0, SL_OK }, { "clip.use_gelu", NUMBER, NULL, 1, SL_ERR_TYPE }, { "clip.use_gelu", NONE, NULL, 0, SL_OK },
    { "clip.vision.feature_layer", NUMBER, NULL, 3, SL_OK }, { "clip.vision.feature_layer", NUMBER, NULL, 0, SL_ERR_RANGE }, { "clip.vision.feature_layer", NUMBER, NULL, 4, SL_ERR_RANGE },
    { "clip.vision.feature_layer", TWO, NULL, 1, SL_ERR_UNSUPPORTED }, { "clip.vision.feature_layer", TEXT, "2", 0, SL_ERR_TYPE },
    { "clip.vision.block_count", NUMBER, NULL, 0, SL_ERR_RANGE }, { "clip.vision.block_count", NUMBER, NULL, 4e9, SL_ERR_RANGE }, { "clip.vision.block_count", NONE, NULL, 0, SL_ERR_MISSING },
    { "clip.vision.block_count", NUMBER, NULL, 5, SL_ERR_MISSING, "v.blk." }, { "clip.vision.block_count", TEXT, "3", 0, SL_ERR_TYPE },
    { "clip.vision.embedding_length", NUMBER, NULL, 0, SL_ERR_RANGE }, { "clip.vision.embedding_length", NUMBER, NULL, 48, SL_ERR_SHAPE, "v." },
    { "clip.vision.embedding_length", NUMBER, NULL, 40, SL_ERR_SHAPE, "head_count" }, { "clip.vision.embedding_length", NONE, NULL, 0, SL_ERR_MISSING },
    { "clip.vision.feed_forward_length", NUMBER, NULL, 24, SL_ERR_UNSUPPORTED }, { "clip.vision.feed_forward_length", NUMBER, NULL, 41, SL_ERR_SHAPE, "ffn_" },
    { "clip.vision.feed_forward_length", NONE, NULL, 0, SL_ERR_MISSING }, { "clip.vision.attention.head_count", NUMBER, NULL, 0, SL_ERR_RANGE },
    { "clip.vision.attention.head_count", NUMBER, NULL, 5, SL_ERR_SHAPE }, { "clip.vision.attention.head_count", NONE, NULL, 0, SL_ERR_MISSING },
    { "clip.vision.image_size", NUMBER, NULL, 0, SL_ERR_RANGE }, { "clip.vision.image_size", NUMBER, NULL, 16, SL_ERR_SHAPE, "v." }, { "clip.vision.image_size", NUMBER, NULL, 5000, SL_ERR_RANGE },
    { "clip.vision.image_size", NONE, NULL, 0, SL_ERR_MISSING }, { "clip.vision.patch_size", NUMBER, NULL, 5, SL_ERR_RANGE }, { "clip.vision.patch_size", NUMBER, NULL, 0, SL_ERR_RANGE },
    { "clip.vision.patch_size", NUMBER, NULL, 3, SL_ERR_SHAPE, "v." }, { "clip.vision.patch_size", NONE, NULL, 0, SL_ERR_MISSING },
    { "clip.vision.attention.layer_norm_epsilon", REAL, NULL, 2, SL_ERR_RANGE }, { "clip.vision.attention.layer_norm_epsilon", REAL, NULL, NAN, SL_ERR_RANGE },
    { "clip.vision.attention.layer_norm_epsilon", NONE, NULL, 0, SL_OK }, { "clip.vision.image_mean", REAL, NULL, 0, SL_ERR_TYPE }, { "clip.vision.image_mean", NONE, NULL, 0, SL_OK },
    { "clip.vision.image_std", TWO, NULL, 1, SL_ERR_TYPE }, { "clip.vision.image_std", NONE, NULL, 0, SL_OK },
    { "mm.0.weight", SHAPE, NULL, 24, SL_ERR_SHAPE, "mm.0." }, { "mm.2.weight", SHAPE, NULL, 31, SL_ERR_SHAPE },
};

static void put_edit(tiny *t, const struct fault *f)
{
    unsigned char pair[20] = { TINY_U32, [4] = 2 };
    const uint32_t number = (uint32_t)f->value;
    const unsigned char flag = f->value != 0;
    switch (f->edit) {
    case NUMBER: tiny_put_u32(t, f->name, number); break;
    case REAL: tiny_put_f32(t, f->name, (float)f->value); break;
    case TEXT: tiny_put_text(t, f->name, f->text); break;
    case FLAG: tiny_put(t, f->name, TINY_BOOL, &flag, 1); break;
    case NONE: tiny_drop_key(t, f->name); break;
    case GONE: tiny_drop(t, f->name); break;
    case TWO: memcpy(pair + 12, &number, 4), memcpy(pair + 16, &number, 4), tiny_put(t, f->name, TINY_ARRAY, pair, sizeof pair); break;
    case SHAPE: {       /* one dimension */
        tiny_tensor *x = f->name[1] == 'o' ? tiny_add(t, f->name, TINY_MATRIX_F32, (const uint64_t[]) { number }, 1, 4 * number) : tiny_find(t, f->name);
        tiny_reshape(x, TINY_MATRIX_F32, (const uint64_t[]) { number }, 1, 4 * number);
        break;
    }
    }
}

static counting memory;

/* Loads it; if that works, a picture and a token. */
static void verdict(const char *id, const bytes *text, tiny *projector, sl_status expected, const char *place)
{
    const sl_allocator allocator = counting_allocator(&memory);
    bytes file = written(projector);
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    sl_model *model = NULL;
    o.n_threads = 1, o.allocator = &allocator;
    const sl_status status = load(&model, text, &file, &o);
    if (status != expected)
        fail_msg("%s: %s (%s), expected %s", id, sl_status_name(status), sl_last_error(), sl_status_name(expected));
    if (status != SL_OK && !strstr(sl_last_error(), place))
        fail_msg("%s: '%s' does not name %s", id, sl_last_error(), place);
    if (status == SL_OK) {
        float logits[4 * N_VOCAB];
        sl_image *image = mllama_picture(5, 6, 1);
        evaluate(model, image, (const sl_token[]) { 1, N_VOCAB, 3 }, 3, 2, logits);
        sl_image_free(image);
    }
    sl_model_free(model);
    if (memory.live_blocks || memory.wrong)
        fail_msg("%s: %zu blocks were not freed, %d wrong sizes", id, memory.live_blocks, memory.wrong);
    free(file.data);
}

static void wrong_keys(void **state)
{
    (void)state;
    bytes text = text_file(N_VOCAB);
    for (size_t i = 0; i < COUNT(faults); i++) {
        const struct fault *f = &faults[i];
        char id[96];
        tiny *t = llava_projector(NULL);
        put_edit(t, f);
        snprintf(id, sizeof id, "%s, edit %d, %s%g", f->name, f->edit, f->text ? f->text : "", f->value);
        verdict(id, &text, t, f->status, f->place ? f->place : f->name);
    }
    tiny *t = llava_projector(NULL);
    tiny_drop_key(t, "clip.projector_type"), tiny_drop_key(t, "clip.has_llava_projector");
    verdict("no kind at all", &text, t, SL_ERR_MISSING, "clip.projector_type");
    free(text.data);
}

/* Every tensor in turn: not there; with one row more; of whole numbers; not finite. */
static void wrong_tensors(void **state)
{
    (void)state;
    bytes text = text_file(N_VOCAB);
    tiny *right = llava_projector(NULL);
    for (size_t i = 0; i < right->n_tensors; i++)
        for (int edit = 0; edit < 4; edit++) {
            static const char *const edits[] = { "gone", "longer", "integers", "not finite" };
            static const sl_status expected[] = { SL_ERR_MISSING, SL_ERR_SHAPE, SL_ERR_TYPE, SL_ERR_NONFINITE };
            const char *name = right->tensors[i].name, *ffn = strstr(name, "ffn_");
            char id[TINY_NAME + 32], place[TINY_NAME];
            tiny *t = llava_projector(NULL);
            tiny_tensor *x = tiny_find(t, name);
            uint64_t dims[4] = { x->dims[0], x->dims[1], x->dims[2], x->dims[3] };
            const float bad = INFINITY;
            const int is_projector = !strcmp(name, "mm.0.weight");
            snprintf(id, sizeof id, "%s: %s", name, edits[edit]);
            snprintf(place, sizeof place, "%.*s", ffn ? (int)(ffn - name) + 4 : (int)sizeof place - 1, name);     /* of two exchanged names either may be said */
            if (edit == 0)
                tiny_drop(t, name);     /* one of two exchanged names: the other one is of the wrong shape, or stands for nothing */
            else if (edit == 3)
                memcpy(x->data + x->bytes - 4, &bad, 4);
            else {
                if (edit == 1)
                    dims[x->n_dims - 1]++;
                tiny_reshape(x, edit == 1 ? TINY_MATRIX_F32 : 26 /* I32 */, dims, x->n_dims, x->bytes / x->dims[x->n_dims - 1] * dims[x->n_dims - 1]);
            }
            verdict(id, &text, t, edit == 0 && ffn && !strncmp(ffn, "ffn_down", 8) ? SL_ERR_SHAPE : expected[edit], edit == 1 && is_projector ? "mm." : place);
        }
    tiny_free(right);
    free(text.data);
}

/* A projector for another text. */
static void wrong_text(void **state)
{
    (void)state;
    bytes text = written(tiny_create(&(tiny_shape) { .n_embd = 64, .seed = 4 }));
    verdict("a wider text", &text, llava_projector(NULL), SL_ERR_SHAPE, "mm.2.weight");
    free(text.data);
}

/* Every allocation fails once: an error, nothing leaks, and the next attempt works. */
static void no_memory(void **state)
{
    (void)state;
    const sl_allocator allocator = counting_allocator(&memory);
    bytes text = text_file(N_VOCAB), projector = written(llava_projector(NULL));
    sl_image *image = NULL;
    sl_token ids[N_CTX];
    const size_t n = prompt(ids, 9, N_VOCAB, 0);
    const uint8_t rgb[3 * 5 * 7] = { 1, 2, 3 };
    int done = 0;
    for (size_t fail_at = 1; !done; fail_at++) {
        sl_model_options o = SL_MODEL_OPTIONS_INIT;
        sl_model *model = NULL;
        sl_session *session = NULL;
        o.n_threads = 1, o.allocator = &allocator;
        memory.calls = 0, memory.fail_at = fail_at, memory.fail_for = 1;
        sl_status status = sl_image_from_rgb(&image, rgb, 5, 7, 0, &allocator);
        if (status == SL_OK)
            status = load(&model, &text, &projector, &o);
        if (status == SL_OK)
            status = sl_session_create(&session, model, NULL);
        if (status == SL_OK)
            status = sl_session_add_image(session, image);
        if (status == SL_OK)
            status = sl_session_eval(session, ids, n, NULL, 0);
        done = memory.calls < fail_at;
        assert_int_equal(status, done ? SL_OK : SL_ERR_NOMEM);
        sl_session_free(session);
        sl_model_free(model);
        sl_image_free(image);
        image = NULL;
        counting_check_none(&memory);
    }
    memory.fail_at = 0;
    free(text.data), free(projector.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(definition), cmocka_unit_test(same_bytes), cmocka_unit_test(spelling), cmocka_unit_test(wrong_keys), cmocka_unit_test(wrong_tensors),
                                        cmocka_unit_test(wrong_text), cmocka_unit_test(no_memory) };
    return cmocka_run_group_tests_name("llava", tests, NULL, NULL);
}
