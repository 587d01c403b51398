/* SPDX-License-Identifier: MIT */
/* Architectures llama and llama4 against their definition: small random models with every option that files may have, computed once by the library and once by
 * naive loops in double precision that share nothing with it. */
#include "check.h"
#include "eval.h"
#include "gguf.h"
#include "model_build.h"
#include "random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Heads of 24: no power of two; n_ff 52: no multiple of the 16 rows of a panel; 150 positions: three pages of the cache. */
enum { N_TOK = 150, N_VOCAB = 77, D_HEAD = 24 };
#define BASE .n_embd = 40, .n_ff = 52, .n_layer = 3, .n_head = 8, .n_head_kv = 2, .d_head = D_HEAD, .n_vocab = N_VOCAB, .n_ctx = 192

#define FIVE .n_embd = 40, .n_ff = 52, .n_ff_expert = 28, .n_layer = 5, .n_head = 8, .n_head_kv = 2, .d_head = D_HEAD, .n_vocab = N_VOCAB, .n_ctx = 192

static const struct variant { const char *name; model_spec spec; } variants[] = {
    { "grouped 4:1", { BASE, .seed = 1 } },
    { "one head per query", { .n_embd = 48, .n_ff = 33, .n_layer = 2, .n_head = 2, .n_head_kv = 2, .d_head = D_HEAD, .n_vocab = N_VOCAB, .n_ctx = 192, .seed = 2 } },
    { "one key head", { .n_embd = 64, .n_ff = 16, .n_layer = 1, .n_head = 4, .n_head_kv = 1, .d_head = 16, .n_vocab = N_VOCAB, .n_ctx = 192, .seed = 3 } },
    { "tied", { BASE, .tied = 1, .seed = 4 } },
    { "biases", { BASE, .biases = 1, .seed = 5 } },
    { "fused", { BASE, .fused = 1, .seed = 6 } },
    { "fused, biases, tied", { BASE, .fused = 1, .biases = 1, .tied = 1, .seed = 7 } },
    { "experts", { BASE, .n_expert = 5, .n_expert_used = 2, .seed = 8 } },
    { "experts, biases, fused", { BASE, .n_expert = 5, .n_expert_used = 3, .biases = 1, .fused = 1, .seed = 9 } },
    { "all experts", { BASE, .n_expert = 3, .n_expert_used = 3, .seed = 10 } },
    { "rope factors", { BASE, .rope_factors = 1, .seed = 11 } },
    { "linear", { BASE, .scaling = "linear", .factor = 4, .seed = 12 } },
    { "linear by default", { BASE, .factor = 2.5f, .seed = 13 } },
    { "scaling none", { BASE, .scaling = "none", .factor = 4, .seed = 14 } },
    { "yarn", { BASE, .scaling = "yarn", .factor = 4, .ctx_original = 64, .seed = 15 } },
    { "yarn, attention factor", { BASE, .scaling = "yarn", .factor = 8, .ctx_original = 32, .attn_factor = 1.25f, .seed = 16 } },
    { "yarn, rope factors", { BASE, .scaling = "yarn", .factor = 4, .ctx_original = 64, .rope_factors = 1, .seed = 17 } },
    /* Five layers: the fourth neither turns nor has chunks. */
    { "llama4", { FIVE, .n_expert = 5, .n_expert_used = 1, .chunk = 64, .qk_norm = 1, .rope_factors = 1, .seed = 18 } },
    { "llama4, every second layer", { FIVE, .n_expert = 5, .n_expert_used = 1, .expert_step = 2, .chunk = 50, .seed = 19 } },
    { "llama4, more experts", { FIVE, .n_expert = 5, .n_expert_used = 3, .expert_step = 1, .qk_norm = 1, .biases = 1, .fused = 1, .seed = 20 } },
    { "llama4, no window", { FIVE, .n_expert = 3, .n_expert_used = 1, .expert_step = 3, .chunk = 16, .no_window = 1, .tied = 1, .seed = 21 } },
};

/* ---- the definition ---- */

typedef struct naive {
    const model_file *file;
    const model_spec *s;
    double *k, *v;                  /* [position][head][d] of the current layer, all positions computed before the next layer */
    double *raw;                    /* the keys before they were turned */
    double freq[D_HEAD / 2], magnitude;
} naive;

static const float *values(const naive *m, int layer, const char *name)
{
    const float *x = model_values(m->file, layer, name);
    if (!x)
        fail_msg("the test model has no %s", name);
    return x;
}

static void rms_norm(const double *x, const float *w, size_t n, double *y)
{
    double ss = 0;
    for (size_t i = 0; i < n; i++)
        ss += x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(ss / (double)n + (double)1e-5f) * w[i];
}

/* Squares of all that each matrix was multiplied with. */
enum { MOST_MATRICES = 160, MOST_IN = 8 * D_HEAD };
static struct seen { const float *w; double squares[MOST_IN]; size_t n_in, count; } seen[MOST_MATRICES];
static size_t n_seen;

static struct seen *seen_of(const float *w)
{
    for (size_t i = 0; i < n_seen; i++)
        if (seen[i].w == w)
            return &seen[i];
    return NULL;
}

static void note(const float *w, const double *x, size_t n_in)
{
    struct seen *s = seen_of(w);
    if (!s) {
        assert_true(n_seen < MOST_MATRICES && n_in <= MOST_IN);
        s = &seen[n_seen++];
        *s = (struct seen) { .w = w, .n_in = n_in };
    }
    for (size_t i = 0; i < n_in; i++)
        s->squares[i] += x[i] * x[i];
    s->count++;
}

static void product(const float *w, const float *bias, const double *x, size_t n_in, size_t n_out, double *y)
{
    note(w, x, n_in);
    for (size_t o = 0; o < n_out; o++) {
        y[o] = bias ? bias[o] : 0;
        for (size_t i = 0; i < n_in; i++)
            y[o] += (double)w[o * n_in + i] * x[i];
    }
}

/* Where YaRN's ramp stands: the pair that turns `turns` times within the original context. */
static double yarn_pair(const model_spec *s, double turns)
{
    return s->d_head * log(s->ctx_original / (turns * 2 * acos(-1))) / (2 * log(10000));
}

static void frequencies(naive *m)
{
    const model_spec *s = m->s;
    const float *factors = s->rope_factors ? values(m, -1, "rope_freqs.weight") : NULL;
    const int yarn = s->scaling && !strcmp(s->scaling, "yarn"), none = s->scaling && !strcmp(s->scaling, "none");
    const double factor = s->factor > 0 && !none ? s->factor : 1;
    m->magnitude = s->attn_factor > 0 ? s->attn_factor : 1;
    if (yarn)
        m->magnitude *= 1 + 0.1 * log(factor);
    for (unsigned i = 0; i < s->d_head / 2; i++) {
        double f = pow(10000, -2.0 * i / s->d_head) / (factors ? factors[i] : 1), keep = 0;
        if (yarn) {
            double lo = fmax(0, floor(yarn_pair(s, 32))), hi = fmin(s->d_head - 1, ceil(yarn_pair(s, 1)));
            keep = 1 - fmin(1, fmax(0, (i - lo) / fmax(hi - lo, 0.001)));
        }
        m->freq[i] = f * keep + f / factor * (1 - keep);
    }
}

static void rotate(const naive *m, double *heads, unsigned n_head, unsigned position)
{
    for (unsigned h = 0; h < n_head; h++)
        for (unsigned i = 0; i < m->s->d_head / 2; i++) {
            double *x = heads + h * m->s->d_head + 2 * i, angle = position * m->freq[i];
            double c = cos(angle) * m->magnitude, s = sin(angle) * m->magnitude, a = x[0] * c - x[1] * s;
            x[1] = x[0] * s + x[1] * c;
            x[0] = a;
        }
}

/* Llama 4: every fourth layer does not turn and sees all positions. */
static int is_plain(const model_spec *s, int l) { return s->n_ff_expert && !s->no_window && (l + 1) % 4 == 0; }

/* Every head divided by its root mean square. */
static void normalise(const model_spec *s, double *heads, unsigned n_head)
{
    for (unsigned h = 0; h < n_head; h++) {
        double ss = 0;
        for (unsigned i = 0; i < s->d_head; i++)
            ss += pow(heads[h * s->d_head + i], 2);
        for (unsigned i = 0; i < s->d_head; i++)
            heads[h * s->d_head + i] /= sqrt(ss / s->d_head + (double)1e-5f);
    }
}

/* One query head over positions start .. position. */
static void attend(const naive *m, const double *q, unsigned head_kv, unsigned start, unsigned position, double *out)
{
    const unsigned d = m->s->d_head, kv = d * m->s->n_head_kv;
    double p[N_TOK], top = -INFINITY, sum = 0;
    for (unsigned t = start; t <= position; t++) {
        p[t] = 0;
        for (unsigned i = 0; i < d; i++)
            p[t] += q[i] * m->k[t * kv + head_kv * d + i];
        p[t] /= sqrt(d);
        top = fmax(top, p[t]);
    }
    for (unsigned t = start; t <= position; t++)
        sum += p[t] = exp(p[t] - top);
    memset(out, 0, d * sizeof *out);
    for (unsigned t = start; t <= position; t++)
        for (unsigned i = 0; i < d; i++)
            out[i] += p[t] / sum * m->v[t * kv + head_kv * d + i];
}

/* x[n_embd] of one token += its attention. Tokens come in order, so the keys before it are there. */
static void attention(naive *m, int l, unsigned position, double *x)
{
    const model_spec *s = m->s;
    const unsigned n_q = s->n_head * s->d_head, n_kv = s->n_head_kv * s->d_head;
    double a[64], qkv[3 * 8 * D_HEAD], out[8 * D_HEAD], y[64], *q = qkv, *k = qkv + n_q, *v = k + n_kv;
    rms_norm(x, values(m, l, "attn_norm.weight"), s->n_embd, a);
    if (s->fused)
        product(values(m, l, "attn_qkv.weight"), model_values(m->file, l, "attn_qkv.bias"), a, s->n_embd, n_q + 2 * n_kv, qkv);
    else {
        product(values(m, l, "attn_q.weight"), model_values(m->file, l, "attn_q.bias"), a, s->n_embd, n_q, q);
        product(values(m, l, "attn_k.weight"), model_values(m->file, l, "attn_k.bias"), a, s->n_embd, n_kv, k);
        product(values(m, l, "attn_v.weight"), model_values(m->file, l, "attn_v.bias"), a, s->n_embd, n_kv, v);
    }
    memcpy(m->raw + position * n_kv, k, n_kv * sizeof *k);
    if (!is_plain(s, l)) {      /* the temperature of plain layers is 1 so early */
        rotate(m, q, s->n_head, position);
        rotate(m, k, s->n_head_kv, position);
        if (s->n_ff_expert && s->qk_norm)
            normalise(s, q, s->n_head), normalise(s, k, s->n_head_kv);
    }
    memcpy(m->k + position * n_kv, k, n_kv * sizeof *k);
    memcpy(m->v + position * n_kv, v, n_kv * sizeof *v);
    const unsigned start = s->chunk && !s->no_window && !is_plain(s, l) ? position / s->chunk * s->chunk : 0;
    for (unsigned h = 0; h < s->n_head; h++)
        attend(m, q + h * s->d_head, h / (s->n_head / s->n_head_kv), start, position, out + h * s->d_head);
    product(values(m, l, "attn_output.weight"), model_values(m->file, l, "attn_output.bias"), out, n_q, s->n_embd, y);
    for (unsigned i = 0; i < s->n_embd; i++)
        x[i] += y[i];
}

/* down(silu(gate) * up) of one expert of n_ff, or of the dense layer (no biases with experts). */
static void gated(const naive *m, int l, const char *const names[3], unsigned n_ff, unsigned expert, const double *b, double *y)
{
    const model_spec *s = m->s;
    const size_t skip = (size_t)expert * s->n_embd * n_ff;
    double gate[64], up[64];
    product(values(m, l, names[0]) + skip, model_values(m->file, l, "ffn_gate.bias"), b, s->n_embd, n_ff, gate);
    product(values(m, l, names[1]) + skip, model_values(m->file, l, "ffn_up.bias"), b, s->n_embd, n_ff, up);
    for (unsigned i = 0; i < n_ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    product(values(m, l, names[2]) + skip, model_values(m->file, l, "ffn_down.bias"), gate, n_ff, s->n_embd, y);
}

static const char *const expert_names[] = { "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight" };

/* Llama 4: the best ones see their input times the sigmoid of their score; a shared one sees it as it is. */
static void shared_experts(const naive *m, int l, const double *b, double *x)
{
    static const char *const shared[] = { "ffn_gate_shexp.weight", "ffn_up_shexp.weight", "ffn_down_shexp.weight" };
    const model_spec *s = m->s;
    double logits[8], y[64], g[64];
    product(values(m, l, "ffn_gate_inp.weight"), NULL, b, s->n_embd, s->n_expert, logits);
    gated(m, l, shared, s->n_ff_expert, 0, b, y);
    for (unsigned i = 0; i < s->n_embd; i++)
        x[i] += y[i];
    for (unsigned u = 0; u < s->n_expert_used; u++) {
        unsigned best = 0;
        for (unsigned e = 1; e < s->n_expert; e++)
            best = logits[e] > logits[best] ? e : best;
        for (unsigned i = 0; i < s->n_embd; i++)
            g[i] = b[i] / (1 + exp(-logits[best]));
        gated(m, l, expert_names, s->n_ff_expert, best, g, y);
        for (unsigned i = 0; i < s->n_embd; i++)
            x[i] += y[i];
        logits[best] = -INFINITY;
    }
}

/* The n_expert_used best of the softmax over all experts, their shares brought to the sum 1. */
static void experts(const naive *m, int l, const double *b, double *x)
{
    const model_spec *s = m->s;
    double logits[8], share[8], total = 0, y[64];
    unsigned chosen[8];
    product(values(m, l, "ffn_gate_inp.weight"), NULL, b, s->n_embd, s->n_expert, logits);
    for (unsigned u = 0; u < s->n_expert_used; u++) {
        unsigned best = 0;
        for (unsigned e = 1; e < s->n_expert; e++)
            best = logits[e] > logits[best] ? e : best;
        chosen[u] = best;
        total += share[u] = exp(logits[best]);
        logits[best] = -INFINITY;
    }
    for (unsigned u = 0; u < s->n_expert_used; u++) {
        gated(m, l, expert_names, s->n_ff, chosen[u], b, y);
        for (unsigned i = 0; i < s->n_embd; i++)
            x[i] += share[u] / total * y[i];
    }
}

static void feed_forward(const naive *m, int l, double *x)
{
    static const char *const names[] = { "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight" };
    double b[64], y[64];
    rms_norm(x, values(m, l, "ffn_norm.weight"), m->s->n_embd, b);
    if (model_has_experts(m->s, l)) {
        if (m->s->n_ff_expert)
            shared_experts(m, l, b, x);
        else
            experts(m, l, b, x);
        return;
    }
    gated(m, l, names, m->s->n_ff, 0, b, y);
    for (unsigned i = 0; i < m->s->n_embd; i++)
        x[i] += y[i];
}

/* Before token SHIFT_AT, tokens KEEP .. KEEP + DISCARD - 1 go, and those behind them stand at the positions of before, turned by those. */
enum { KEEP = 5, DISCARD = 70, SHIFT_AT = 131 };
static void shift_layer(const naive *m, int l)
{
    const model_spec *s = m->s;
    const unsigned n_kv = s->n_head_kv * s->d_head;
    for (unsigned p = KEEP; p + DISCARD < SHIFT_AT; p++) {
        double *k = m->k + p * n_kv;
        memcpy(k, m->raw + (p + DISCARD) * n_kv, n_kv * sizeof *k);
        memcpy(m->v + p * n_kv, m->v + (p + DISCARD) * n_kv, n_kv * sizeof *k);
        if (is_plain(s, l))
            continue;
        rotate(m, k, s->n_head_kv, p);
        if (s->n_ff_expert && s->qk_norm)
            normalise(s, k, s->n_head_kv);
    }
}

/* logits[N_VOCAB] of every token, and what they are made of. */
static void forward(const model_file *file, const sl_token *ids, int shifts, float *logits, double (*vectors)[64])
{
    const model_spec *s = &file->spec;
    const size_t n_kv = N_TOK * s->n_head_kv * s->d_head;
    naive m = { .file = file, .s = s, .k = calloc(n_kv, sizeof(double)), .v = calloc(n_kv, sizeof(double)), .raw = calloc(n_kv, sizeof(double)) };
    double (*x)[64] = calloc(N_TOK, sizeof *x), a[64], y[N_VOCAB];
    frequencies(&m);
    n_seen = 0;
    for (unsigned t = 0; t < N_TOK; t++)
        for (unsigned i = 0; i < s->n_embd; i++)
            x[t][i] = values(&m, -1, "token_embd.weight")[(size_t)ids[t] * s->n_embd + i];
    for (int l = 0; l < (int)s->n_layer; l++)
        for (unsigned t = 0; t < N_TOK; t++) {
            if (shifts && t == SHIFT_AT)
                shift_layer(&m, l);
            attention(&m, l, shifts && t >= SHIFT_AT ? t - DISCARD : t, x[t]);
            feed_forward(&m, l, x[t]);
        }
    for (unsigned t = 0; t < N_TOK; t++) {
        rms_norm(x[t], values(&m, -1, "output_norm.weight"), s->n_embd, a);
        memcpy(vectors[t], a, s->n_embd * sizeof *a);
        product(values(&m, -1, s->tied ? "token_embd.weight" : "output.weight"), NULL, a, s->n_embd, N_VOCAB, y);
        for (unsigned i = 0; i < N_VOCAB; i++)
            logits[t * N_VOCAB + i] = (float)y[i];
    }
    free(m.k);
    free(m.v);
    free(m.raw);
    free(x);
}

/* ---- the comparison ---- */

static void compare(const struct variant *v, const model_file *file, const sl_token *ids, const float *exact, const char *cache, double bound)
{
    static float got[N_TOK * N_VOCAB];
    const eval_how how = { .cache_type = cache, .n_ctx = N_TOK, .n_batch = 61, .n_threads = 2 };
    sl_model *model;
    if (eval_load(&model, NULL, file->data, file->size, &how) != SL_OK || eval_logits(model, &how, ids, N_TOK, got, N_TOK, NULL) != SL_OK)
        fail_msg("%s, %s: %s", v->name, cache, sl_last_error());
    sl_model_free(model);
    const eval_distance d = eval_compare(exact, got, N_TOK, N_VOCAB);
    print_message("%-26s %s  max abs %.2e  kl %.2e\n", v->name, cache, d.max_abs, d.kl_mean);
    if (!(d.max_abs <= bound))
        fail_msg("%s, %s: off by %g, at most %g", v->name, cache, d.max_abs, bound);
}

/* The same with a shift. It must matter, too: `unshifted` are the logits without. */
static void compare_shifted(const struct variant *v, const model_file *file, const sl_token *ids, const float *exact, const float *unshifted, const char *cache, double bound)
{
    enum { N = N_TOK - SHIFT_AT };
    static float got[N * N_VOCAB];
    const eval_how how = { .n_threads = 2 };
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_TOK, .n_batch = 61, .cache_type = cache };
    sl_model *model = NULL;
    sl_session *session = NULL;
    if (eval_load(&model, NULL, file->data, file->size, &how) != SL_OK || sl_session_create(&session, model, &o) != SL_OK ||
        sl_session_eval(session, ids, SHIFT_AT, NULL, 0) != SL_OK || sl_seq_shift(session, 0, KEEP, DISCARD) != SL_OK ||
        sl_session_eval(session, ids + SHIFT_AT, N, got, N) != SL_OK)
        fail_msg("%s: %s", v->name, sl_last_error());
    assert_int_equal(sl_session_length(session), N_TOK - DISCARD);
    assert_memory_equal(sl_session_tokens(session), ids, KEEP * sizeof *ids);
    assert_memory_equal(sl_session_tokens(session) + KEEP, ids + KEEP + DISCARD, (N_TOK - KEEP - DISCARD) * sizeof *ids);
    sl_session_free(session);
    sl_model_free(model);
    const double off = eval_compare(exact + SHIFT_AT * N_VOCAB, got, N, N_VOCAB).max_abs, matters = eval_compare(unshifted + SHIFT_AT * N_VOCAB, got, N, N_VOCAB).max_abs;
    print_message("%-26s %s  shifted: max abs %.2e, and %.2e from the logits without\n", v->name, cache, off, matters);
    if (!(off <= bound && matters > 10 * off))
        fail_msg("%s, %s, shifted: off by %g, at most %g", v->name, cache, off, bound);
}

/* The mean of the vectors of all tokens, divided by its length. */
static void compare_embedding(const struct variant *v, const model_file *file, const sl_token *ids, double (*vectors)[64], double bound)
{
    const size_t n_embd = v->spec.n_embd, n_tok = N_TOK;
    double mean[64] = { 0 }, ss = 0;
    float got[64];
    for (size_t t = 0; t < n_tok; t++)
        for (size_t i = 0; i < n_embd; i++)
            mean[i] += vectors[t][i] / (double)n_tok;
    for (size_t i = 0; i < n_embd; i++)
        ss += mean[i] * mean[i];
    const eval_how how = { .n_threads = 2 };
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_TOK, .n_batch = 61, .cache_type = "f32" };
    sl_model *model = NULL;
    sl_session *session = NULL;
    if (eval_load(&model, NULL, file->data, file->size, &how) != SL_OK || sl_session_create(&session, model, &o) != SL_OK ||
        sl_session_embed(session, ids, &n_tok, 1, NULL, got, 1) != SL_OK)
        fail_msg("%s: %s", v->name, sl_last_error());
    sl_session_free(session);
    sl_model_free(model);
    for (size_t i = 0; i < n_embd; i++)
        if (!(fabs((double)got[i] - mean[i] / sqrt(ss)) <= bound))
            fail_msg("%s: element %zu of the embedding is off by %g, at most %g", v->name, i, fabs((double)got[i] - mean[i] / sqrt(ss)), bound);
}

/* ---- importance ---- */

typedef struct bytes { unsigned char data[1 << 18]; size_t n; } bytes;

static int32_t gather(const void *data, uint64_t n, void *user)
{
    bytes *b = user;
    if (n > sizeof b->data - b->n)
        return 1;
    memcpy(b->data + b->n, data, n);
    b->n += n;
    return 0;
}

/* The matrix that a tensor "<matrix>.in_sum2" is about, one of a stack of them. */
static const model_tensor *matrix_of(const model_file *file, const char *name)
{
    const size_t n = strlen(name), end = strlen(".in_sum2");
    for (size_t i = 0; n > end && !strcmp(name + n - end, ".in_sum2") && i < file->n_tensors; i++)
        if (strlen(file->tensors[i].name) == n - end && !memcmp(file->tensors[i].name, name, n - end))
            return &file->tensors[i];
    return NULL;
}

static void compare_sums(const char *variant, const model_file *file, const sl_gguf *gguf, const unsigned char *data)
{
    size_t n_matrices = 0;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const sl_gguf_tensor *t = &gguf->tensors[i], *counts = &gguf->tensors[i | 1];
        const model_tensor *w = matrix_of(file, t->name);
        if (i % 2)
            continue;
        if (!w || t->ne[0] != w->ne[0] || counts->ne[1] != t->ne[1] || counts->ne[0] != 1)
            fail_msg("%s: %s has another shape", variant, t->name);
        for (uint64_t m = 0; m < t->ne[1]; m++) {
            const struct seen *s = seen_of((const float *)(const void *)w->data + m * w->ne[0] * w->ne[1]);
            const float *got = (const float *)(const void *)(data + t->offset) + m * w->ne[0], *count = (const float *)(const void *)(data + counts->offset) + m;
            if (*count != (s ? (float)s->count : 0.0f))
                fail_msg("%s: %s, matrix %u: %g rows instead of %zu", variant, t->name, (unsigned)m, (double)*count, s ? s->count : 0);
            for (size_t k = 0; k < w->ne[0]; k++)
                if (!(fabs((double)got[k] - (s ? s->squares[k] : 0)) <= 1e-3 * (s ? s->squares[k] : 0)))
                    fail_msg("%s: %s, matrix %u, column %zu: %g instead of %g", variant, t->name, (unsigned)m, k, (double)got[k], s ? s->squares[k] : 0);
            n_matrices += s != NULL;
        }
    }
    assert_int_equal(n_matrices, n_seen);       /* no matrix is missing */
}

/* What went into each matrix of the naive pass, against what the library counted in batches. */
static void compare_importance(const struct variant *v, const model_file *file, const sl_token *ids)
{
    static float logits[N_TOK * N_VOCAB];
    static bytes b;
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_TOK, .n_batch = 61, .cache_type = "f32" };
    sl_model *model = NULL;
    sl_session *session = NULL;
    sl_importance *importance = NULL;
    b.n = 0;
    if (eval_load(&model, NULL, file->data, file->size, &(eval_how) { .n_threads = 2 }) != SL_OK || sl_session_create(&session, model, &o) != SL_OK ||
        sl_importance_create(&importance, session, NULL) != SL_OK || sl_session_eval(session, ids, N_TOK, logits, N_TOK) != SL_OK ||
        sl_importance_write(importance, gather, &b) != SL_OK)
        fail_msg("%s: %s", v->name, sl_last_error());
    sl_importance_free(importance);
    sl_session_free(session);
    sl_model_free(model);
    sl_gguf gguf;
    sl_mem mem;
    uint64_t need;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    assert_int_equal(sl_gguf_parse(&gguf, &mem, b.data, b.n, b.n, &need), SL_OK);
    compare_sums(v->name, file, &gguf, b.data);
    sl_gguf_free(&gguf, &mem);
}

static void follows_the_definition(void **state)
{
    (void)state;
    static float exact[N_TOK * N_VOCAB], shifted[N_TOK * N_VOCAB];
    static double vectors[N_TOK][64];
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        const struct variant *v = &variants[i];
        model_file *file = model_build(&v->spec);
        sl_token ids[N_TOK];
        uint64_t random = 100 + i;
        for (int t = 0; t < N_TOK; t++)
            ids[t] = (sl_token)random_below(&random, N_VOCAB);
        forward(file, ids, 0, exact, vectors);
        /* About five times what is seen with an f32 cache; a cache of 11 bits is off by about 1e-2. */
        compare(v, file, ids, exact, "f32", 1e-4);
        compare(v, file, ids, exact, "f16", 5e-2);
        compare_embedding(v, file, ids, vectors, 1e-5);
        compare_importance(v, file, ids);
        forward(file, ids, 1, shifted, vectors);
        compare_shifted(v, file, ids, shifted, exact, "f32", 1e-4);
        compare_shifted(v, file, ids, shifted, exact, "f16", 5e-2);
        model_build_free(file);
    }
}

/* An option that changed nothing would be no option: with one seed each of these gives other logits. */
static void options_matter(void **state)
{
    (void)state;
    static const model_spec specs[] = {
        { BASE, .seed = 1 }, { BASE, .seed = 1, .scaling = "linear", .factor = 4 }, { BASE, .seed = 1, .scaling = "yarn", .factor = 4, .ctx_original = 64 },
        { BASE, .seed = 1, .scaling = "yarn", .factor = 4, .ctx_original = 64, .attn_factor = 1.25f },
        { FIVE, .seed = 1, .n_expert = 3, .n_expert_used = 1 }, { FIVE, .seed = 1, .n_expert = 3, .n_expert_used = 1, .chunk = 64 },
        { FIVE, .seed = 1, .n_expert = 3, .n_expert_used = 1, .chunk = 64, .qk_norm = 1 }, { FIVE, .seed = 1, .n_expert = 3, .n_expert_used = 1, .no_window = 1 },
        { FIVE, .seed = 1, .n_expert = 3, .n_expert_used = 2 },
    };
    enum { N = sizeof specs / sizeof specs[0] };
    static float logits[N][N_TOK * N_VOCAB];
    sl_token ids[N_TOK];
    for (int t = 0; t < N_TOK; t++)
        ids[t] = t * 7 % N_VOCAB;
    for (int i = 0; i < N; i++) {
        model_file *file = model_build(&specs[i]);
        const eval_how how = { .cache_type = "f32", .n_ctx = N_TOK, .n_threads = 1 };
        sl_model *model;
        assert_int_equal(eval_load(&model, NULL, file->data, file->size, &how), SL_OK);
        assert_int_equal(eval_logits(model, &how, ids, N_TOK, logits[i], N_TOK, NULL), SL_OK);
        sl_model_free(model);
        model_build_free(file);
        for (int k = 0; k < i; k++)
            assert_true(eval_compare(logits[k], logits[i], N_TOK, N_VOCAB).max_abs > 0.01);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(follows_the_definition), cmocka_unit_test(options_matter) };
    return cmocka_run_group_tests_name("llama", tests, NULL, NULL);
}
