/* SPDX-License-Identifier: MIT */
/* sample_reference.c - every step and chain against reference cases: what stays, its probabilities, changed logits, and two tokens of each mirostat. */
#include <math.h>
#include <string.h>
#include "check.h"
#include "fixture.h"
#include "json.h"
#include "sample_step.h"

enum { VOCAB = 1000, MOST_PARAMS = 16 };

static struct json *root;
static float *rows;

/* Name of a step in the cases, and here, and of its parameters; NULL stands for a 1. */
static const struct { const char *type, *name; size_t n; const char *params[4]; } step_names[] = {
    { "temp", "temp", 1, { "temp" } },
    { "temp_ext", "dynatemp", 3, { "temp", "delta", "exponent" } },
    { "top_k", "top-k", 1, { "k" } },
    { "top_p", "top-p", 2, { "p", "min_keep" } },
    { "min_p", "min-p", 2, { "p", "min_keep" } },
    { "typical", "typical", 2, { "p", "min_keep" } },
    { "top_n_sigma", "top-n-sigma", 1, { "n" } },
    { "xtc", "xtc", 3, { NULL, "threshold", "min_keep" } },
    { "penalties", "penalties", 4, { "last_n", "repeat", "frequency", "presence" } },
    { "dry", "dry", 4, { "multiplier", "base", "allowed_length", "last_n" } },
};

static const float *row_of(const char *vector)
{
    size_t row = 0;
    for (const struct json *v = json_get(root, "vectors")->child; strcmp(v->text, vector) != 0; v = v->next)
        row++;
    return rows + row * VOCAB;
}

static void set_breakers(sl_sampler *s, const struct json *ids)
{
    s->breakers = sl_mem_alloc(&s->mem, VOCAB, 1);
    assert_non_null(s->breakers);
    for (const struct json *j = ids->child; j; j = j->next)
        s->breakers[(size_t)j->number] = 1;
}

static void add_bias(sl_sampler *s, const struct json *bias)
{
    double params[MOST_PARAMS];
    size_t n = 0;
    for (const struct json *j = bias->child; j; j = j->next) {
        params[n++] = j->child->number;
        params[n++] = j->child->next->number;
    }
    assert_int_equal(sl_sampler_add(s, "logit-bias", params, n), SL_OK);
}

static void add_step(sl_sampler *s, const struct json *step)
{
    double params[4];
    size_t k = 0;
    if (strcmp(json_text(step, "type"), "logit_bias") == 0) {
        add_bias(s, json_get(step, "bias"));
        return;
    }
    while (strcmp(step_names[k].type, json_text(step, "type")) != 0)
        assert_true(++k < COUNT(step_names));
    for (size_t i = 0; i < step_names[k].n; i++) {
        params[i] = step_names[k].params[i] ? json_number(step, step_names[k].params[i], NAN) : 1.0;
        assert_false(isnan(params[i]));
    }
    assert_int_equal(sl_sampler_add(s, step_names[k].name, params, step_names[k].n), SL_OK);
    if (json_get(step, "breaker_ids") && json_get(step, "breaker_ids")->length)
        set_breakers(s, json_get(step, "breaker_ids"));
}

static void check_ids(const char *name, const struct json *wanted, const sl_token *ids)
{
    for (const struct json *j = wanted->child; j; j = j->next, ids++)
        if ((sl_token)j->number != *ids)
            fail_msg("%s: token %d instead of %d", name, (int)*ids, (int)j->number);
}

static int compare_ids(const void *a, const void *b) { return *(const sl_token *)a - *(const sl_token *)b; }

/* What a sampler leaves of a row, against the members of a case. */
static void check_candidates(const char *name, sl_sampler *s, const struct json *c)
{
    sl_token ids[VOCAB];
    float probs[VOCAB];
    size_t n;
    const char *vector = json_text(c, "vector");
    assert_int_equal(sl_sampler_candidates(s, row_of(vector), ids, probs, VOCAB, &n), SL_OK);
    if (n != (size_t)json_number(c, "kept", -1))
        fail_msg("%s on %s: %zu kept, not %d", name, vector, n, (int)json_number(c, "kept", -1));
    check_ids(name, json_get(c, "ids"), ids);
    const float *p = probs;
    for (const struct json *j = json_get(c, "probs")->child; j; j = j->next, p++)
        if (!(fabs(*p - j->number) <= 1e-5))
            fail_msg("%s on %s: probability %g instead of %g", name, vector, (double)*p, j->number);
    const struct json *last = json_get(c, "last_kept"), *all = json_get(c, "kept_ids"), *last_id = json_get(c, "last_id");
    if (last)
        check_ids(name, last, ids + n - last->length);
    if (last_id)
        assert_int_equal(ids[n - 1], (int)last_id->number);
    qsort(ids, n, sizeof *ids, compare_ids);
    if (all)
        check_ids(name, all, ids);
}

static int32_t copy_row(float *logits, uint32_t n_vocab, void *user)
{
    memcpy(user, logits, n_vocab * sizeof *logits);
    return 0;
}

/* Logits that a chain changed, as a step at its end sees them: to 7 digits, in which the reference has them too. */
static void check_logits(const char *name, const float *before, const float *after, const struct json *changed)
{
    size_t n = 0;
    for (int i = 0; i < VOCAB; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const double wanted = json_number(changed, key, (double)before[i]);
        if (before[i] != after[i] && (n++, !json_get(changed, key)))
            fail_msg("%s: token %d changed", name, i);
        if (!(fabs((double)after[i] - wanted) <= 3e-7 * fabs(wanted)) && !(isinf(after[i]) && (double)after[i] == wanted))
            fail_msg("%s: logit %.9g instead of %.9g", name, (double)after[i], wanted);
    }
    assert_true(n <= changed->length);
}

static sl_sampler *make_case(const struct json *c)
{
    sl_sampler *s;
    assert_int_equal(sl_sampler_create(&s, VOCAB, 0, NULL), SL_OK);
    for (const struct json *j = json_get(c, "chain")->child; j; j = j->next)
        add_step(s, j);
    const struct json *history = json_get(c, "history");
    for (const struct json *j = history ? history->child : NULL; j; j = j->next) {
        sl_token id = (sl_token)j->number;
        assert_int_equal(sl_sampler_accept(s, &id, 1), SL_OK);
    }
    return s;
}

static void chains_keep_what_the_reference_keeps(void **state)
{
    (void)state;
    size_t n_cases = 0, n_changed = 0;
    for (const struct json *c = json_get(root, "cases")->child; c; c = c->next, n_cases++) {
        sl_sampler *s = make_case(c);
        check_candidates(json_text(c, "name"), s, c);
        const struct json *changed = json_get(c, "changed_logits");
        if (changed) {
            float after[VOCAB];
            sl_token id;
            assert_int_equal(sl_sampler_add_callback(s, copy_row, after), SL_OK);
            assert_int_equal(sl_sampler_sample(s, row_of(json_text(c, "vector")), &id), SL_OK);
            check_logits(json_text(c, "name"), row_of(json_text(c, "vector")), after, changed);
            n_changed++;
        }
        sl_sampler_free(s);
    }
    assert_int_equal(n_cases, 423);
    assert_int_equal(n_changed, 98);
}

/* The second step of a case follows from what the reference drew in the first: a seed is looked for that draws the same. */
static void mirostat_follows_the_reference(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct json *m = json_get(root, "mirostat")->child; m; m = m->next, n++) {
        const int first_version = strcmp(json_text(m, "sampler"), "mirostat") == 0;
        const char *name = first_version ? "mirostat" : "mirostat-v2";
        const double params[] = { json_number(m, "tau", NAN), json_number(m, "eta", NAN), json_number(m, "m", NAN) };
        const struct json *first = json_get(m, "steps")->child, *second = first->next;
        const sl_token chosen = (sl_token)json_number(first, "chosen", -1);
        sl_sampler *s;
        sl_token id = SL_TOKEN_NONE;
        assert_int_equal(sl_sampler_create(&s, VOCAB, 0, NULL), SL_OK);
        assert_int_equal(sl_sampler_add(s, name, params, first_version ? 3 : 2), SL_OK);
        check_candidates(name, s, first);
        for (uint64_t seed = 0; id != chosen; seed++) {
            assert_true(seed < 100000);
            assert_int_equal(sl_sampler_reset(s, seed), SL_OK);
            assert_int_equal(sl_sampler_sample(s, row_of(json_text(first, "vector")), &id), SL_OK);
        }
        assert_true(fabs(s->steps[0].state - json_number(first, "mu_after", NAN)) < 1e-5);
        check_candidates(name, s, second);
        sl_sampler_free(s);
    }
    assert_int_equal(n, 30);
}

static void greedy_is_the_lowest_of_the_largest(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct json *g = json_get(root, "greedy")->child; g; g = g->next, n++) {
        sl_token id, top[3];
        float log_probs[3];
        assert_int_equal(sl_sample_greedy(row_of(json_text(g, "vector")), VOCAB, &id), SL_OK);
        assert_int_equal(id, (int)json_number(g, "selected", -1));
        assert_int_equal(sl_logits_top(row_of(json_text(g, "vector")), VOCAB, top, log_probs, 3), SL_OK);
        assert_int_equal(top[0], id);
    }
    assert_int_equal(n, 7);
}

int main(void)
{
    size_t length, size;
    char *text = (char *)fixture_load("samplers/cases.json", &length);
    unsigned char *npy = fixture_load("samplers/logits.npy", &size);
    const size_t start = 10 + npy[8] + 256 * (size_t)npy[9];
    root = json_parse(text, length, NULL);
    if (!root || (int)json_number(root, "vocab_size", 0) != VOCAB || size - start != json_get(root, "vectors")->length * VOCAB * sizeof *rows)
        return 1;
    rows = malloc(size - start);
    memcpy(rows, npy + start, size - start);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_keep_what_the_reference_keeps),
        cmocka_unit_test(mirostat_follows_the_reference),
        cmocka_unit_test(greedy_is_the_lowest_of_the_largest),
    };
    const int result = cmocka_run_group_tests(tests, NULL, NULL);
    free(rows);
    free(npy);
    json_free(root);
    free(text);
    return result;
}
