/* SPDX-License-Identifier: MIT */
/* sample_steps.c - the table of sampling steps, and those that look at nothing but how likely the candidates are. */
#include "fpenv.h"
#include "generator.h"
#include "rows.h"
#include "sample_step.h"

#define STEP static __attribute__((unused)) sl_status       /* unused where its row is left out of the build */
#define STATE static __attribute__((unused)) double
#define LOG2E 0x1.71547652b82fep+0

/* At least this many stay: min_keep is a whole number below 2^31. */
static uint32_t at_least(const struct candidates *c, double min_keep)
{
    uint32_t n = min_keep > 1.0 ? (uint32_t)min_keep : 1;
    return n < c->n ? n : c->n;
}

/* ---- temperature ---- */

static sl_status divide(struct candidates *c, double t)
{
    c->divisor *= t < 1e30 ? t : 1e30;
    c->divisor = c->divisor < 1e100 ? c->divisor : 1e100;
    if (!(c->divisor > 1e-30)) {                /* 0, negative, or so small that only the best has any weight */
        sl_candidates_keep(c, 1);
        c->divisor = 1.0;
    }
    return SL_OK;
}

STEP step_temp(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    (void)sampler;
    return divide(c, step->params[0]);
}

/* Between t - delta and t + delta, by the entropy as a share of the largest one that so many tokens can have. */
STEP step_dynatemp(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    double t = step->params[0], delta = step->params[1], exponent = step->params[2];
    (void)sampler;
    if (delta > 0.0 && c->width > 1) {
        struct moments m = sl_candidates_moments(c);
        double share = (natural_log(m.total) + m.mean_deficit) / natural_log((double)c->width);
        double low = t > delta ? t - delta : 0.0, high = t + delta;
        double power = exponent == 0.0 ? 1.0 : sl_exp2(exponent * sl_log2(share < 1.0 ? share : 1.0));
        t = low + (high - low) * power;
    }
    return divide(c, t);
}

/* ---- cuts ---- */

STEP step_top_k(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    double k = step->params[0];
    (void)sampler;
    if (k > 0.0 && k < (double)c->n)
        sl_candidates_keep(c, (uint32_t)k);
    return SL_OK;
}

STEP step_top_p(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    (void)sampler;
    if (step->params[0] >= 1.0)
        return SL_OK;
    uint32_t n = 0, least = at_least(c, step->params[1]);
    double wanted = step->params[0] * (double)sl_candidates_total(c);
    for (uint64_t sum = 0; n < c->n && (n < least || (double)sum < wanted); n++)
        sum += weight(c, sl_candidates_nth(c, n));
    sl_candidates_keep(c, n);
    return SL_OK;
}

STEP step_min_p(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    (void)sampler;
    if (step->params[0] <= 0.0)
        return SL_OK;
    uint32_t n = at_least(c, step->params[1]);
    while (n < c->n && ratio(c, sl_candidates_nth(c, n)) >= step->params[0])
        n++;
    sl_candidates_keep(c, n);
    return SL_OK;
}

/* Variance of the deficits as a square of their range (which is a factor of both sides of the comparison), from exact sums: deficits are cut to
 * 42 bits of the range, their squares summed in three parts. */
STEP step_top_n_sigma(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    enum { HALF = 21 };
    const double n_sigma = step->params[0];
    uint64_t worst = c->best, sum = 0, high = 0, mixed = 0, low = 0;
    (void)sampler;
    if (n_sigma <= 0.0)
        return SL_OK;
    for (uint32_t i = 0; i < c->n; i++)
        worst = c->keys[i] < worst ? c->keys[i] : worst;
    const double range = deficit(c, worst);
    if (range <= 0.0)
        return SL_OK;
    for (uint32_t i = 0; i < c->n; i++) {
        uint64_t q = (uint64_t)(deficit(c, c->keys[i]) / range * 0x1p42), a = q >> HALF, b = q & ((1u << HALF) - 1);
        sum += q;
        high += a * a;
        mixed += a * b;
        low += b * b;
    }
    const double mean = (double)sum / (double)c->n * 0x1p-42;
    const double square = ((double)high + (double)mixed * 0x1p-20 + (double)low * 0x1p-42) / (double)c->n * 0x1p-42;
    const double limit = n_sigma * n_sigma * (square - mean * mean);
    uint32_t n = 1;
    for (double x; n < c->n && (x = deficit(c, sl_candidates_nth(c, n)) / range, x * x <= limit); n++)
        continue;
    sl_candidates_keep(c, n);
    return SL_OK;
}

/* Keeps candidates [first, end) of the order, where those that are as likely as the first may lie before it: of equals the lower ids stay. */
static void keep_range(struct candidates *c, uint32_t first, uint32_t end)
{
    uint64_t *keys = c->keys;
    uint32_t from = first, to = first;
    sl_candidates_nth(c, end - 1);
    while (from > 0 && key_logit(keys[from - 1]) == key_logit(keys[first]))
        from--;
    while (to < end && key_logit(keys[to]) == key_logit(keys[first]))
        to++;
    memmove(keys + first, keys + from, (to - first) * sizeof *keys);
    sl_candidates_keep(c, end);
    sl_candidates_drop(c, first);
}

/* The typical ones lie around the place where the surprise passes its mean, the entropy: the range grows there, by the nearer neighbour. */
STEP step_typical(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    (void)sampler;
    if (step->params[0] >= 1.0)
        return SL_OK;
    const struct moments m = sl_candidates_moments(c);
    const uint32_t least = at_least(c, step->params[1]);
    const double wanted = step->params[0] * m.total * (double)(UINT64_C(1) << SL_WEIGHT_BITS);
    uint32_t end = 0;
    while (end < c->n && deficit(c, sl_candidates_nth(c, end)) < m.mean_deficit)
        end++;
    uint32_t first = end;
    for (uint64_t sum = 0; end - first < c->n && (end - first < least || (double)sum <= wanted);) {
        const uint64_t above = first ? c->keys[first - 1] : 0, below = end < c->n ? sl_candidates_nth(c, end) : 0;
        const int up = first && (end == c->n || m.mean_deficit - deficit(c, above) <= deficit(c, below) - m.mean_deficit);
        sum += weight(c, up ? above : below);
        up ? first-- : end++;
    }
    keep_range(c, first, end);
    return SL_OK;
}

/* Removes the most likely ones of those that reach the threshold, all but the last. One number of the generator for each token. */
STEP step_xtc(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    const double number = (double)(sl_random_next(sampler->generator) >> 11) * 0x1p-53, threshold = step->params[1];
    if (number >= step->params[0] || threshold > 0.5)
        return SL_OK;
    const double wanted = threshold * (double)sl_candidates_total(c);
    uint32_t n = 0;
    while (n < c->n && (double)weight(c, sl_candidates_nth(c, n)) >= wanted)
        n++;
    if (n >= 2 && c->n - (n - 1) >= at_least(c, step->params[2]))
        sl_candidates_drop(c, n - 1);
    return SL_OK;
}

/* ---- mirostat: the cut follows the surprise of what was chosen before ---- */

STATE mirostat_begin(const struct step *step) { return 2.0 * step->params[0]; }
STATE mirostat_next(const struct step *step, double surprise) { return step->state - step->params[1] * (surprise - step->params[0]); }

/* Keeps those before the first with more than mu bits of surprise. */
STEP step_mirostat_v2(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    (void)sampler;
    if (step->params[0] <= 0.0)
        return SL_OK;
    const double bits = sl_log2(sl_candidates_moments(c).total);
    uint32_t n = 1;
    while (n < c->n && bits + deficit(c, sl_candidates_nth(c, n)) * LOG2E <= step->state)
        n++;
    sl_candidates_keep(c, n);
    return SL_OK;
}

/* k = (e 2^mu / (1 - N^-e))^(1 / s), e = s - 1, where s is the exponent of a Zipf distribution fitted to the m best. */
static double zipf_count(double s, double mu, double n_vocab)
{
    const double e = s - 1.0, bits = sl_log2(n_vocab);
    const double share = e > 1e-6 || e < -1e-6 ? e / (1.0 - sl_exp2(-e * bits)) : 1.0 / natural_log(n_vocab);    /* its limit at e = 0 */
    const double power = (sl_log2(share) + mu) / s;
    return power >= 32.0 ? 0x1p32 : power > 0.0 ? sl_exp2(power) : 1.0;     /* s = 0: one or all */
}

STEP step_mirostat(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    if (step->params[0] <= 0.0 || c->n < 2)
        return SL_OK;
    const uint32_t m = step->params[2] < (double)c->n ? (uint32_t)step->params[2] : c->n;
    double tb = 0.0, tt = 0.0;
    for (uint32_t i = 0; i + 1 < m; i++) {      /* in the order of the candidates */
        double t = natural_log((double)(i + 2) / (double)(i + 1));
        double b = deficit(c, sl_candidates_nth(c, i + 1)) - deficit(c, sl_candidates_nth(c, i));
        tb += t * b;
        tt += t * t;
    }
    const double k = zipf_count(tb / tt, step->state, (double)sampler->n_vocab);
    if (k < (double)c->n)
        sl_candidates_keep(c, (uint32_t)k);
    return SL_OK;
}

/* ---- the program's own ---- */

static sl_status step_callback(sl_sampler *sampler, struct candidates *c, struct step *step)
{
    float *row = sampler->row;
    for (uint32_t i = 0; i < sampler->n_vocab; i++)
        row[i] = sl_float(0xff800000u);
    for (uint32_t i = 0; i < c->n; i++) {
        double x = (double)key_logit(c->keys[i]) / c->divisor;
        row[key_id(c->keys[i])] = (float)(x < -0x1.fffffep127 ? -0x1.fffffep127 : x > 0x1.fffffep127 ? 0x1.fffffep127 : x);
    }
    const uint64_t state = sl_fp_get();
    sl_fp_set(sampler->host_fp);
    const int32_t verdict = step->callback(row, sampler->n_vocab, step->user);
    sl_fp_set(state);
    if (verdict)
        return sl_fail(SL_ERR_CANCELLED, "sampler: the callback returned %d", (int)verdict);
    return sl_candidates_collect(c, sampler->keys, row, sampler->n_vocab);
}

const struct sample_kind sl_sample_callback = { .name = "callback", .run = step_callback, .needs = SL_NEEDS_ROW };

/* ---- the table ---- */

#define MIN_KEEP { "min_keep", 1.0, 0.0, 0x7fffffff, PARAM_WHOLE }
#define LAST_N(usual) { "last_n", usual, 0.0, SL_LIMIT_CONTEXT, PARAM_WHOLE }
#define TAU { "tau", 0.0, 0.0, 1000.0, PARAM_REAL }
#define ETA { "eta", 0.1, 0.0, 1000.0, PARAM_REAL }
#define NO_LIMIT (-(double)__builtin_inff())

static const struct sample_kind kinds[] = {
    SL_ROW(SAMPLER_TEMP, { .name = "temp", .run = step_temp, .params = { { "t", 1.0, -1e30, 1e30, PARAM_REAL } } }, )
    SL_ROW(SAMPLER_DYNATEMP, { .name = "dynatemp", .run = step_dynatemp, .params = { { "t", 1.0, -1e30, 1e30, PARAM_REAL }, { "delta", 0.0, 0.0, 1e30, PARAM_REAL }, { "exponent", 1.0, 0.0, 1000.0, PARAM_REAL } } }, )
    SL_ROW(SAMPLER_TOP_K, { .name = "top-k", .run = step_top_k, .params = { { "k", 0.0, 0.0, 0x7fffffff, PARAM_WHOLE } } }, )
    SL_ROW(SAMPLER_TOP_P, { .name = "top-p", .run = step_top_p, .params = { { "p", 1.0, 0.0, 1e30, PARAM_REAL }, MIN_KEEP } }, )
    SL_ROW(SAMPLER_MIN_P, { .name = "min-p", .run = step_min_p, .params = { { "p", 0.0, 0.0, 1.0, PARAM_REAL }, MIN_KEEP } }, )
    SL_ROW(SAMPLER_TYPICAL, { .name = "typical", .run = step_typical, .params = { { "p", 1.0, 0.0, 1e30, PARAM_REAL }, MIN_KEEP } }, )
    SL_ROW(SAMPLER_TOP_N_SIGMA, { .name = "top-n-sigma", .run = step_top_n_sigma, .params = { { "n", 0.0, -1e30, 1e30, PARAM_REAL } } }, )
    SL_ROW(SAMPLER_XTC, { .name = "xtc", .run = step_xtc, .params = { { "probability", 0.0, 0.0, 1.0, PARAM_REAL }, { "threshold", 0.1, 0.0, 1.0, PARAM_REAL }, MIN_KEEP } }, )
    SL_ROW(SAMPLER_MIROSTAT, { .name = "mirostat", .run = step_mirostat, .params = { TAU, ETA, { "m", 100.0, 2.0, 0x7fffffff, PARAM_WHOLE } }, .begin = mirostat_begin, .next = mirostat_next }, )
    SL_ROW(SAMPLER_MIROSTAT_V2, { .name = "mirostat-v2", .run = step_mirostat_v2, .params = { TAU, ETA }, .begin = mirostat_begin, .next = mirostat_next }, )
    SL_ROW(SAMPLER_PENALTIES, { .name = "penalties", .run = sl_step_penalties, .needs = SL_NEEDS_MARKS, .window = 1,
        .params = { LAST_N(64.0), { "repeat", 1.0, 1e-6, 1e6, PARAM_REAL }, { "frequency", 0.0, -1e6, 1e6, PARAM_REAL }, { "presence", 0.0, -1e6, 1e6, PARAM_REAL } } }, )
    SL_ROW(SAMPLER_DRY, { .name = "dry", .run = sl_step_dry, .needs = SL_NEEDS_MARKS, .window = 4,
        .params = { { "multiplier", 0.0, 0.0, 1e30, PARAM_REAL }, { "base", 1.75, 1.0, 1e30, PARAM_REAL }, { "allowed_length", 2.0, 1.0, 0x7fffffff, PARAM_WHOLE }, LAST_N(1024.0) } }, )
    SL_ROW(SAMPLER_LOGIT_BIAS, { .name = "logit-bias", .run = sl_step_logit_bias, .needs = SL_NEEDS_MARKS, .is_list = 1,
        .params = { { "id", 0.0, 0.0, 0x7fffffff, PARAM_TOKEN }, { "bias", 0.0, NO_LIMIT, 1e30, PARAM_REAL } } }, )
    { .name = NULL },
};

const struct sample_kind *sl_sample_kind(size_t index)
{
    return index < sizeof kinds / sizeof *kinds && kinds[index].name ? &kinds[index] : NULL;
}
