/* SPDX-License-Identifier: MIT */
/* Architecture mllama against its definition: small random models of odd shapes, computed once by the library and once by naive loops in double precision
 * that share nothing with it but the pixels of the tiles (tests/unit/image_tiles.c). */
#include "check.h"
#include "eval.h"
#include "image.h"
#include "mllama_build.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_IDS = 45, MOST_PICTURES = 4 };

static const struct variant {
    const char *name;
    mllama_spec spec;
    size_t n, at[MOST_PICTURES];                        /* where the image tokens stand */
    uint32_t size[MOST_PICTURES][2];                    /* width and height */
} variants[] = {
    { "default", { .seed = 1 }, 1, { 5 }, { { 13, 9 } } },
    { "one position and a class", { .tile_side = 4, .seed = 2 }, 1, { 5 }, { { 20, 4 } } },
    { "ten positions", { .tile_side = 12, .seed = 3 }, 1, { 5 }, { { 30, 40 } } },
    { "seventeen positions", { .tile_side = 16, .seed = 4 }, 2, { 1, 30 }, { { 30, 40 }, { 3, 3 } } },
    { "odd patches", { .tile_side = 15, .patch_side = 5, .v_embd = 30, .v_head = 3, .v_ff = 41, .seed = 5 }, 1, { 0 }, { { 31, 17 } } },
    { "square feed-forward", { .v_ff = 16, .n_ff = 32, .seed = 6 }, 1, { 3 }, { { 8, 33 } } },
    { "one tile", { .max_tiles = 1, .seed = 7 }, 2, { 3, 9 }, { { 100, 20 }, { 1, 1 } } },
    { "two tiles", { .max_tiles = 2, .seed = 8 }, 2, { 3, 9 }, { { 100, 20 }, { 9, 90 } } },
    { "six tiles", { .max_tiles = 6, .seed = 9 }, 2, { 3, 9 }, { { 240, 160 }, { 500, 80 } } },
    { "first and last layer", { .cross = 0x9, .seed = 10 }, 1, { 7 }, { { 9, 9 } } },
    { "neighbours", { .cross = 0x6, .seed = 11 }, 1, { 7 }, { { 9, 9 } } },
    { "no text layer", { .n_layer = 2, .cross = 0x3, .seed = 12 }, 1, { 7 }, { { 9, 9 } } },
    { "one key head", { .n_head_kv = 1, .n_embd = 48, .seed = 13 }, 1, { 7 }, { { 9, 9 } } },
    { "one head per query", { .n_head_kv = 4, .n_spare = 7, .seed = 14 }, 1, { 7 }, { { 9, 9 } } },
    { "heads of 32", { .n_embd = 64, .n_head = 2, .n_head_kv = 1, .seed = 31 }, 1, { 7 }, { { 9, 9 } } },
    { "nothing kept", { .keeps_none = 1, .seed = 15 }, 1, { 7 }, { { 9, 9 } } },
    { "one of three kept", { .v_layer = 3, .kept = 0x2, .v_global = 3, .seed = 16 }, 1, { 7 }, { { 9, 9 } } },
    { "all of three kept", { .v_layer = 3, .kept = 0x7, .seed = 17 }, 1, { 7 }, { { 9, 9 } } },
    { "no pictures", { .seed = 18 }, 0, { 0 }, { { 0 } } },
    { "picture behind all text", { .seed = 19 }, 1, { N_IDS - 1 }, { { 9, 9 } } },
    { "four pictures, two side by side", { .seed = 20 }, 4, { 2, 20, 21, 40 }, { { 9, 9 }, { 40, 10 }, { 10, 40 }, { 16, 16 } } },
    { "three side by side, then one", { .seed = 21 }, 4, { 0, 1, 2, 4 }, { { 9, 9 }, { 40, 10 }, { 10, 40 }, { 16, 16 } } },
};

/* ---- small things ---- */

typedef struct naive {
    tiny *t;
    mllama_spec s;
    size_t W, n, padded, T, n_kept, D, d;       /* vision width, positions, tiles; text width, head */
} naive;

static const float *values(const naive *m, const char *name) { return (const float *)(const void *)tiny_find(m->t, name)->data; }

static const char *of(const char *prefix, size_t l, const char *name)
{
    static char full[TINY_NAME];
    snprintf(full, sizeof full, "%s.%zu.%s", prefix, l, name);
    return full;
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
        y[o] = bias ? bias[o] : 0;
        for (size_t i = 0; i < n_in; i++)
            y[o] += (double)w[o * n_in + i] * x[i];
    }
}

static void rms_norm(const double *x, const float *w, size_t n, double *y)
{
    double ss = 0;
    for (size_t i = 0; i < n; i++)
        ss += x[i] * x[i];
    const double r = 1 / sqrt(ss / (double)n + (double)1e-5f);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
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

/* out[d] of one query over the keys that are seen; stride: of keys and values. */
static void attend(const double *q, const double *k, const double *v, size_t stride, size_t n_key, const char *seen, size_t d, double *out)
{
    double top = -INFINITY, sum = 0, *p = make(n_key);
    for (size_t i = 0; i < n_key; i++)
        for (size_t c = 0; c < d; c++)
            p[i] += q[c] * k[i * stride + c] / sqrt((double)d);
    for (size_t i = 0; i < n_key; i++)
        if (seen[i])
            top = fmax(top, p[i]);
    memset(out, 0, d * sizeof *out);
    for (size_t i = 0; i < n_key; i++)
        sum += p[i] = seen[i] ? exp(p[i] - top) : 0;
    for (size_t i = 0; i < n_key; i++)
        for (size_t c = 0; c < d; c++)
            out[c] += p[i] / sum * v[i * stride + c];
    free(p);
}

/* ---- the encoder ---- */

static int is_dead(const naive *m, size_t u, size_t n_tile) { return u / m->padded >= n_tile || u % m->padded >= m->n; }

static double gate_of(const naive *m, const char *name) { return values(m, name)[0]; }

/* x[T * padded, W] from the picture; *n_tile and *row (of the tables). */
static double *embed(const naive *m, const sl_image *image, size_t *n_tile, size_t *row)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f }, deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    const size_t side = m->s.tile_side, P = m->s.patch_side, per_side = side / P, W = m->W, one = 3 * side * side;
    sl_tiling tiling;
    assert_int_equal(sl_tiling_choose(&tiling, image->width, image->height, (uint32_t)side, m->s.max_tiles), SL_OK);
    *n_tile = (size_t)(tiling.tiles_high * tiling.tiles_wide), *row = (size_t)tiling.id;
    float *pixels = calloc(m->T * one, sizeof *pixels);
    assert_int_equal(sl_image_tiles(image, &tiling, (uint32_t)side, mean, deviation, pixels), SL_OK);
    double *x = make(m->T * m->padded * W), *y = make(W);
    for (size_t t = 0; t < m->T; t++)
        for (size_t p = 0; p < m->n; p++) {
            double *to = x + (t * m->padded + p) * W;
            for (size_t c = 0; c < W; c++) {
                y[c] = p ? gate_of(m, "v.pre_tile_position_embd.gate") * values(m, "v.pre_tile_position_embd.weight")[(*row * m->T + t) * W + c] : values(m, "v.class_embd")[c];
                for (size_t i = 0; p && i < 3 * P * P; i++) {
                    const size_t dx = i % P, dy = i / P % P, channel = i / P / P, px = (p - 1) % per_side * P + dx, py = (p - 1) / per_side * P + dy;
                    y[c] += (double)values(m, "v.patch_embd.weight")[c * 3 * P * P + i] * pixels[t * one + (channel * side + py) * side + px];
                }
                y[c] += gate_of(m, "v.position_embd.gate") * values(m, "v.position_embd.weight")[p * W + c];
                y[c] += gate_of(m, "v.tile_position_embd.gate") * values(m, "v.tile_position_embd.weight")[((*row * m->T + t) * m->n + p) * W + c];
            }
            layer_norm(y, values(m, "v.pre_ln.weight"), values(m, "v.pre_ln.bias"), W, to);
        }
    free(y);
    free(pixels);
    return x;
}

static void vision_attention(const naive *m, const char *prefix, size_t l, double gate, size_t n_tile, double *x)
{
    const size_t W = m->W, N = m->T * m->padded, d = W / m->s.v_head;
    double *q = make(N * W), *k = make(N * W), *v = make(N * W), *a = make(W), *o = make(W);
    char *seen = calloc(N, 1);
    for (size_t u = 0; u < N; u++) {
        layer_norm(x + u * W, values(m, of(prefix, l, "attn_norm.weight")), values(m, of(prefix, l, "attn_norm.bias")), W, a);
        product(values(m, of(prefix, l, "attn_q.weight")), NULL, a, W, W, q + u * W);
        product(values(m, of(prefix, l, "attn_k.weight")), NULL, a, W, W, k + u * W);
        product(values(m, of(prefix, l, "attn_v.weight")), NULL, a, W, W, v + u * W);
    }
    for (size_t u = 0; u < N; u++) {
        for (size_t w = 0; w < N; w++)
            seen[w] = !(is_dead(m, u, n_tile) && is_dead(m, w, n_tile));
        for (size_t h = 0; h < m->s.v_head; h++)
            attend(q + u * W + h * d, k + h * d, v + h * d, W, N, seen, d, o + h * d);
        product(values(m, of(prefix, l, "attn_output.weight")), NULL, o, W, W, a);
        for (size_t c = 0; c < W; c++)
            x[u * W + c] += gate * a[c];
    }
    free(q), free(k), free(v), free(a), free(o), free(seen);
}

static void vision_feed_forward(const naive *m, const char *prefix, size_t l, double gate, double *x)
{
    const size_t W = m->W, M = m->s.v_ff;
    double *a = make(W), *b = make(M);
    for (size_t u = 0; u < m->T * m->padded; u++) {
        layer_norm(x + u * W, values(m, of(prefix, l, "ffn_norm.weight")), values(m, of(prefix, l, "ffn_norm.bias")), W, a);
        product(values(m, of(prefix, l, "ffn_up.weight")), values(m, of(prefix, l, "ffn_up.bias")), a, W, M, b);
        for (size_t i = 0; i < M; i++)
            b[i] = b[i] / 2 * (1 + erf(b[i] / sqrt(2)));
        product(values(m, of(prefix, l, "ffn_down.weight")), values(m, of(prefix, l, "ffn_down.bias")), b, M, W, a);
        for (size_t c = 0; c < W; c++)
            x[u * W + c] += gate * a[c];
    }
    free(a), free(b);
}

/* The vectors [T * n, D] of a picture. */
static double *encode(const naive *m, const sl_image *image, size_t *n_tile)
{
    const size_t W = m->W, N = m->T * m->padded, wide = W * (1 + m->n_kept);
    size_t row, kept = 0;
    double *x = embed(m, image, n_tile, &row), *features = make(N * wide), *vectors = make(m->T * m->n * m->D), *y = make(W);
    for (size_t l = 0; l < m->s.v_layer; l++) {
        if (!m->s.keeps_none && (m->s.kept >> l & 1)) {
            for (size_t u = 0; u < N; u++)
                for (size_t c = 0; c < W; c++)
                    features[u * wide + W + c * m->n_kept + kept] = x[u * W + c];
            kept++;
        }
        vision_attention(m, "v.blk", l, 1, *n_tile, x);
        vision_feed_forward(m, "v.blk", l, 1, x);
    }
    for (size_t u = 0; u < N; u++) {
        layer_norm(x + u * W, values(m, "v.post_ln.weight"), values(m, "v.post_ln.bias"), W, y);
        for (size_t c = 0; c < W; c++)
            x[u * W + c] = y[c] + gate_of(m, "v.post_tile_position_embd.gate") * values(m, "v.post_tile_position_embd.weight")[(row * m->T + u / m->padded) * W + c];
    }
    for (size_t l = 0; l < m->s.v_global; l++) {
        vision_attention(m, "v.global.blk", l, gate_of(m, of("v.global.blk", l, "attn_gate")), *n_tile, x);
        vision_feed_forward(m, "v.global.blk", l, gate_of(m, of("v.global.blk", l, "ffn_gate")), x);
    }
    for (size_t t = 0; t < m->T; t++)
        for (size_t p = 0; p < m->n; p++) {
            double *f = features + (t * m->padded + p) * wide;
            memcpy(f, x + (t * m->padded + p) * W, W * sizeof *f);
            product(values(m, "mm.0.weight"), values(m, "mm.0.bias"), f, wide, m->D, vectors + (t * m->n + p) * m->D);
        }
    free(x), free(features), free(y);
    return vectors;
}

/* ---- the text ---- */

typedef struct sight {
    double *vectors;            /* [picture][T * n][D] */
    size_t n, at[MOST_PICTURES], n_tile[MOST_PICTURES];
} sight;

static int sees(const sight *g, size_t picture, size_t position)
{
    size_t last = picture;
    while (last + 1 < g->n && last + 1 < MOST_PICTURES && g->at[last + 1] == g->at[last] + 1)
        last++;
    return position >= g->at[picture] && (last + 1 == g->n || position < g->at[last + 1]);
}

static void rotate(const naive *m, double *heads, size_t n_head, size_t position)
{
    const float *divisors = values(m, "rope_freqs.weight");
    for (size_t h = 0; h < n_head; h++)
        for (size_t i = 0; i < m->d / 2; i++) {
            double *x = heads + h * m->d + 2 * i, angle = (double)position * pow(500000.0, -2.0 * (double)i / (double)m->d) / divisors[i], a = x[0] * cos(angle) - x[1] * sin(angle);
            x[1] = x[0] * sin(angle) + x[1] * cos(angle);
            x[0] = a;
        }
}

static void add_feed_forward(const naive *m, size_t l, double gate, double *x)
{
    const size_t D = m->D, F = m->s.n_ff;
    double *b = make(D), *g = make(F), *u = make(F);
    rms_norm(x, values(m, of("blk", l, "ffn_norm.weight")), D, b);
    product(values(m, of("blk", l, "ffn_gate.weight")), NULL, b, D, F, g);
    product(values(m, of("blk", l, "ffn_up.weight")), NULL, b, D, F, u);
    for (size_t i = 0; i < F; i++)
        g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    product(values(m, of("blk", l, "ffn_down.weight")), NULL, g, F, D, b);
    for (size_t c = 0; c < D; c++)
        x[c] += gate * b[c];
    free(b), free(g), free(u);
}

static void self_layer(const naive *m, size_t l, double *x)
{
    const size_t D = m->D, d = m->d, kv = d * m->s.n_head_kv, share = m->s.n_head / m->s.n_head_kv;
    double *k = make(N_IDS * kv), *v = make(N_IDS * kv), *q = make(D), *a = make(D), *o = make(D);
    char seen[N_IDS] = { 0 };
    for (size_t p = 0; p < N_IDS; p++) {
        rms_norm(x + p * D, values(m, of("blk", l, "attn_norm.weight")), D, a);
        product(values(m, of("blk", l, "attn_q.weight")), NULL, a, D, D, q);
        product(values(m, of("blk", l, "attn_k.weight")), NULL, a, D, kv, k + p * kv);
        product(values(m, of("blk", l, "attn_v.weight")), NULL, a, D, kv, v + p * kv);
        rotate(m, q, m->s.n_head, p);
        rotate(m, k + p * kv, m->s.n_head_kv, p);
        seen[p] = 1;
        for (size_t h = 0; h < m->s.n_head; h++)
            attend(q + h * d, k + h / share * d, v + h / share * d, kv, N_IDS, seen, d, o + h * d);
        product(values(m, of("blk", l, "attn_output.weight")), NULL, o, D, D, a);
        for (size_t c = 0; c < D; c++)
            x[p * D + c] += a[c];
        add_feed_forward(m, l, 1, x + p * D);
    }
    free(k), free(v), free(q), free(a), free(o);
}

static void cross_layer(const naive *m, size_t l, const sight *g, double *x)
{
    const size_t D = m->D, d = m->d, kv = d * m->s.n_head_kv, share = m->s.n_head / m->s.n_head_kv, one = m->T * m->n, n_key = g->n * one;
    double *k = make((n_key + 1) * kv), *v = make((n_key + 1) * kv), *raw = make(kv), *q = make(D), *a = make(D), *o = make(D);
    char *seen = calloc(n_key + 1, 1);
    for (size_t i = 0; i < n_key; i++) {
        product(values(m, of("blk", l, "cross_attn_k_proj.weight")), NULL, g->vectors + i * D, D, kv, raw);
        for (size_t h = 0; h < m->s.n_head_kv; h++)
            rms_norm(raw + h * d, values(m, of("blk", l, "cross_attn_k_norm.weight")), d, k + i * kv + h * d);
        product(values(m, of("blk", l, "cross_attn_v_proj.weight")), NULL, g->vectors + i * D, D, kv, v + i * kv);
    }
    for (size_t p = 0; p < N_IDS; p++) {
        int any = 0;
        for (size_t i = 0; i < n_key; i++)
            any |= seen[i] = sees(g, i / one, p) && i % one < g->n_tile[i / one] * m->n;
        if (!any)
            continue;
        rms_norm(x + p * D, values(m, of("blk", l, "attn_norm.weight")), D, a);
        product(values(m, of("blk", l, "cross_attn_q_proj.weight")), NULL, a, D, D, o);
        for (size_t h = 0; h < m->s.n_head; h++)
            rms_norm(o + h * d, values(m, of("blk", l, "cross_attn_q_norm.weight")), d, q + h * d);
        for (size_t h = 0; h < m->s.n_head; h++)
            attend(q + h * d, k + h / share * d, v + h / share * d, kv, n_key, seen, d, o + h * d);
        product(values(m, of("blk", l, "cross_attn_o_proj.weight")), NULL, o, D, D, a);
        for (size_t c = 0; c < D; c++)
            x[p * D + c] += tanh(gate_of(m, of("blk", l, "cross_attn_attn_gate"))) * a[c];
        add_feed_forward(m, l, tanh(gate_of(m, of("blk", l, "cross_attn_mlp_gate"))), x + p * D);
    }
    free(k), free(v), free(raw), free(q), free(a), free(o), free(seen);
}

/* logits[N_IDS, n_vocab] */
static void forward(const naive *m, const struct variant *var, sl_image *const *images, const sl_token *ids, double *logits)
{
    const size_t D = m->D, one = m->T * m->n * D;
    sight g = { .vectors = make(var->n * one + 1), .n = var->n };
    for (size_t i = 0; i < var->n; i++) {
        double *vectors = encode(m, images[i], &g.n_tile[i]);
        g.at[i] = var->at[i];
        memcpy(g.vectors + i * one, vectors, one * sizeof *vectors);
        free(vectors);
    }
    double *x = make(N_IDS * D), *y = make(D);
    for (size_t p = 0; p < N_IDS; p++)
        for (size_t c = 0; c < D; c++)
            x[p * D + c] = values(m, "token_embd.weight")[(size_t)ids[p] * D + c];
    for (size_t l = 0; l < m->s.n_layer; l++)
        if (m->s.cross >> l & 1)
            cross_layer(m, l, &g, x);
        else
            self_layer(m, l, x);
    for (size_t p = 0; p < N_IDS; p++) {
        rms_norm(x + p * D, values(m, "output_norm.weight"), D, y);
        product(values(m, "output.weight"), NULL, y, D, m->s.n_vocab, logits + p * m->s.n_vocab);
    }
    free(x), free(y), free(g.vectors);
}

/* ---- the comparison ---- */

static void compute(const struct variant *var, const unsigned char *file, size_t size, sl_image *const *images, const sl_token *ids, const char *cache, float *logits)
{
    const eval_how how = { .n_threads = 2 };
    const sl_session_options o = { .size = sizeof o, .cache_type = cache, .n_ctx = 64, .n_batch = 17 };
    sl_model *model;
    sl_session *session;
    sl_status status = eval_load(&model, NULL, file, size, &how);
    if (status == SL_OK)
        status = sl_session_create(&session, model, &o);
    for (size_t i = 0; i < var->n && status == SL_OK; i++)
        status = sl_session_add_image(session, images[i]);
    if (status == SL_OK)
        status = sl_session_eval(session, ids, N_IDS, logits, N_IDS);
    if (status != SL_OK)
        fail_msg("%s: %s", var->name, sl_last_error());
    sl_session_free(session);
    sl_model_free(model);
}

static void check_variant(const struct variant *var)
{
    naive m = { .t = mllama_create(&var->spec), .s = mllama_full(&var->spec) };
    const size_t per_side = m.s.tile_side / m.s.patch_side;
    m.W = m.s.v_embd, m.n = per_side * per_side + 1, m.padded = (m.n + 7) / 8 * 8, m.T = m.s.max_tiles, m.D = m.s.n_embd, m.d = m.s.n_embd / m.s.n_head;
    for (size_t l = 0; l < m.s.v_layer; l++)
        m.n_kept += !m.s.keeps_none && (m.s.kept >> l & 1);
    const size_t n = N_IDS * m.s.n_vocab;
    sl_token ids[N_IDS];
    sl_image *images[MOST_PICTURES] = { NULL };
    double *exact = make(n);
    float *got = malloc(n * sizeof *got);
    size_t size;
    unsigned char *file = tiny_write(m.t, &size);
    for (size_t i = 0; i < var->n; i++)
        images[i] = mllama_picture(var->size[i][0], var->size[i][1], 100 + i);
    mllama_ids(ids, N_IDS, m.s.n_vocab, var->at, var->n, var->spec.seed);
    forward(&m, var, images, ids, exact);
    static const struct { const char *name; double bound; size_t block; } caches[] = { { "f32", 5e-5, 1 }, { "f16", 5e-2, 1 }, { "bf16", 0.5, 1 }, { "q8_0", 0.5, 32 } };
    for (size_t c = 0; c < COUNT(caches); c++) {
        const double bound = caches[c].bound;
        double most = 0;
        if (m.d % caches[c].block)
            continue;
        compute(var, file, size, images, ids, caches[c].name, got);
        for (size_t i = 0; i < n; i++)
            if (!(fabs(got[i] - exact[i]) <= most))
                most = fabs(got[i] - exact[i]);
        print_message("%-34s %s off by %.1e\n", var->name, caches[c].name, most);
        if (!(most <= bound))
            fail_msg("%s, cache %s: off by %g, at most %g", var->name, caches[c].name, most, bound);
    }
    for (size_t i = 0; i < var->n; i++)
        sl_image_free(images[i]);
    free(exact), free(got), free(file);
    tiny_free(m.t);
}

static void definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(variants); i++)
        check_variant(&variants[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(definition) };
    return cmocka_run_group_tests_name("mllama_naive", tests, NULL, NULL);
}
