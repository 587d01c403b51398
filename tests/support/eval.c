/* SPDX-License-Identifier: MIT */
/* eval.c - see eval.h. */
#include "eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const eval_levels[] = {
    "scalar",
#if defined(__x86_64__)
    SL_ROW(LEVEL_AVX2, "avx2",) SL_ROW(LEVEL_AVX512, "avx512",) SL_ROW(LEVEL_AVX512VNNI, "avx512vnni",) SL_ROW(LEVEL_AMX, "amx",)
#elif defined(__aarch64__)
    SL_ROW(LEVEL_NEON, "neon",) SL_ROW(LEVEL_DOTPROD, "dotprod",) SL_ROW(LEVEL_I8MM, "i8mm",)
#endif
    NULL
};

sl_status eval_load(sl_model **model, const char *path, const void *data, size_t size, const eval_how *how)
{
    sl_model_options options = SL_MODEL_OPTIONS_INIT;
    options.backend = how->backend;
    options.cpu_level = how->cpu_level;
    options.arith = how->arith;
    options.n_threads = how->n_threads;
    options.in_place = how->in_place;
    options.weight_cache = how->weight_cache;
    if (path)
        return sl_model_load(model, path, &options);
    const sl_source source = { .size = sizeof source, .data = data, .length = size, .name = "test model" };
    const sl_source *const sources[] = { &source };
    return sl_model_load_sources(model, sources, 1, &options);
}

void eval_prove(const sl_session *session, eval_proof *proof)
{
    sl_session_stats stats = { .size = sizeof stats };
    memset(proof, 0, sizeof *proof);
    if (sl_session_get_stats(session, &stats) != SL_OK)
        return;
    proof->n_passes = stats.n_passes;
    proof->n_tokens = stats.n_tokens;
    proof->n_threads = stats.n_threads;
    proof->compute_bytes = stats.compute_bytes;
    size_t used = (size_t)snprintf(proof->labels, sizeof proof->labels, " ");
    const char *label;
    for (size_t i = 0; (label = sl_session_label(session, i)) != NULL && used + strlen(label) + 2 < sizeof proof->labels; i++)
        used += (size_t)snprintf(proof->labels + used, sizeof proof->labels - used, "%s ", label);
}

/* Sequence 1 of 1 + `others`; those go through the same ids in another order. */
static sl_status eval_beside(sl_session *session, uint32_t others, const sl_token *ids, size_t n, float *logits)
{
    const size_t n_seq = 1 + (size_t)others;
    sl_token *all = calloc(n * n_seq, sizeof *all);
    uint32_t *seqs = calloc(n * n_seq, sizeof *seqs);
    uint8_t *wanted = calloc(n * n_seq, 1);
    sl_status status = SL_ERR_NOMEM;
    for (size_t i = 0; all && seqs && wanted && i < n * n_seq; i++) {
        const size_t at = i / n_seq;
        seqs[i] = (uint32_t)(i % n_seq);
        wanted[i] = seqs[i] == 1;
        all[i] = wanted[i] ? ids[at] : ids[(7 * at + 3 * seqs[i] + 1) % n];
    }
    if (all && seqs && wanted)
        status = sl_session_eval_batch(session, all, seqs, wanted, n * n_seq, logits);
    free(all), free(seqs), free(wanted);
    return status;
}

sl_status eval_logits(sl_model *model, const eval_how *how, const sl_token *ids, size_t n, float *logits, size_t n_rows, eval_proof *proof)
{
    sl_session_options options = SL_SESSION_OPTIONS_INIT;
    options.n_ctx = how->n_ctx;
    options.n_batch = how->n_batch;
    options.cache_type = how->cache_type;
    options.n_seq = 1 + how->beside;
    sl_session *session;
    sl_status status = sl_session_create(&session, model, &options);
    if (status == SL_OK)
        status = how->beside ? eval_beside(session, how->beside, ids, n, logits) : sl_session_eval(session, ids, n, logits, n_rows);
    if (status == SL_OK && proof)
        eval_prove(session, proof);
    sl_session_free(session);
    return status;
}

uint64_t eval_hash(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static size_t largest(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* log of the sum of exp. */
static double log_sum(const float *x, size_t n)
{
    double top = x[largest(x, n)], sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    return top + log(sum);
}

eval_distance eval_compare(const float *exact, const float *got, size_t n_rows, size_t n)
{
    eval_distance d = { 0 };
    for (size_t r = 0; r < n_rows; r++, exact += n, got += n) {
        const double le = log_sum(exact, n), lg = log_sum(got, n);
        double kl = 0;
        for (size_t i = 0; i < n; i++) {
            const double off = fabs((double)got[i] - exact[i]);
            d.max_abs = off <= d.max_abs ? d.max_abs : off;        /* a NaN comes through */
            kl += exp(exact[i] - le) * ((exact[i] - le) - (got[i] - lg));
        }
        d.kl_mean += kl / (double)n_rows;
        d.kl_max = kl <= d.kl_max ? d.kl_max : kl;
        d.argmax_differs += largest(exact, n) != largest(got, n);
    }
    return d;
}
