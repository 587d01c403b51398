/* SPDX-License-Identifier: MIT */
/* ROPE_ANGLES and ROPE against sine and cosine, TEMPER against the logarithm, in double precision. */
#include "ops_harness.h"
#include "random.h"

#include <math.h>

static const int32_t positions[] = { 0, 1, 2, 7, 63, 64, 299, 4095, 8190, 8191, 131071, 1048575, 16777215 };
enum { N_POSITION = sizeof positions / sizeof positions[0] };

typedef struct turning { const float *x, *angles; const double *freq; int64_t d_head, n_head, n_tok, before, after; float magnitude; } turning;

static void angles(sl_pass *pass, void *user, void *out)
{
    const turning *c = user;
    sl_tensor at = sl_pass_input(pass, SL_TYPE_I32, N_POSITION, positions), freq = sl_pass_input(pass, SL_TYPE_F64, c->d_head / 2, c->freq);
    sl_pass_output(pass, sl_op_rope_angles(pass, at, freq, c->magnitude), out);
}

static void makes_angles(void **state)
{
    (void)state;
    static const int sizes[] = { 2, 24, 64, 128, 254 };
    static const float magnitudes[] = { 1, 1.25f };
    for (size_t i = 0; i < 10; i++) {
        const int d_head = sizes[i / 2];
        double freq[127], exact[N_POSITION * 254];
        float got[N_POSITION * 254];
        turning c = { .freq = freq, .d_head = d_head, .magnitude = magnitudes[i % 2] };
        for (int k = 0; k < d_head / 2; k++)
            freq[k] = k % 7 == 6 ? 15.9 - k / 10.0 : pow(10000, -2.0 * k / d_head);
        const ops_case run = { "rope_angles", angles, &c, NULL, 0, sizeof got / 254 * (size_t)d_head };
        ops_run(&run, got);
        for (int p = 0; p < N_POSITION; p++)
            for (int k = 0; k < d_head / 2; k++) {
                exact[p * d_head + 2 * k] = cos(positions[p] * freq[k]) * (double)c.magnitude;
                exact[p * d_head + 2 * k + 1] = sin(positions[p] * freq[k]) * (double)c.magnitude;
            }
        ops_close("rope_angles", got, exact, (size_t)(N_POSITION * d_head), 0, 2.5e-7);
    }
}

/* x is a part of fused rows; all of them come back. */
static void rope(sl_pass *pass, void *user, void *out)
{
    const turning *c = user;
    sl_tensor whole = ops_input(pass, SL_TYPE_F32, c->before + c->d_head * c->n_head + c->after, c->n_tok, 1, 1, c->x);
    sl_tensor by = ops_input(pass, SL_TYPE_F32, 2, c->d_head / 2, c->n_tok, 1, c->angles);
    sl_op_rope(pass, sl_view_heads(sl_view_rows(whole, c->before, c->d_head * c->n_head), c->d_head), by);
    sl_pass_output(pass, whole, out);
}

static void turns_pairs(void **state)
{
    (void)state;
    static const struct { int64_t d_head, n_head, n_tok, before, after; } shapes[] = {
        { 2, 1, 1, 0, 0 }, { 24, 8, 67, 0, 0 }, { 24, 2, 33, 192, 48 }, { 64, 3, 7, 5, 1 }, { 10, 5, 3, 1, 0 }, { 128, 1, 2, 0, 0 }, { 30, 4, 19, 3, 2 },
    };
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        turning c = { .d_head = shapes[i].d_head, .n_head = shapes[i].n_head, .n_tok = shapes[i].n_tok, .before = shapes[i].before, .after = shapes[i].after };
        const int64_t n_row = c.before + c.d_head * c.n_head + c.after;
        const size_t n = (size_t)(n_row * c.n_tok);
        float *x = ops_random(n, 1, &random), *by = ops_random((size_t)(c.d_head * c.n_tok), 1.25f, &random), *got = malloc(n * sizeof *got);
        double *exact = malloc(n * sizeof *exact);
        c.x = x, c.angles = by;
        const ops_case run = { "rope", rope, &c, NULL, 0, n * sizeof *got };
        ops_run(&run, got);
        for (size_t k = 0; k < n; k++)
            exact[k] = x[k];
        for (int64_t t = 0; t < c.n_tok; t++)
            for (int64_t k = 0; k < c.d_head * c.n_head; k += 2) {
                const size_t at = (size_t)(t * n_row + c.before + k);
                const double cosine = by[t * c.d_head + k % c.d_head], sine = by[t * c.d_head + k % c.d_head + 1];
                exact[at] = x[at] * cosine - x[at + 1] * sine;
                exact[at + 1] = x[at] * sine + x[at + 1] * cosine;
            }
        /* Two roundings of products below 1.25; what is not turned stays as it is. */
        ops_close("rope", got, exact, n, 6e-8, 1.6e-7);
        for (int64_t t = 0; t < c.n_tok; t++) {
            assert_memory_equal(got + t * n_row, x + t * n_row, (size_t)c.before * sizeof *x);
            assert_memory_equal(got + (t + 1) * n_row - c.after, x + (t + 1) * n_row - c.after, (size_t)c.after * sizeof *x);
        }
        free(x), free(by), free(got), free(exact);
    }
}

static const double tunes[][2] = { { 8192, 0.1 }, { 3, 1.5 } };

static void temper(sl_pass *pass, void *user, void *out)
{
    const turning *c = user;
    sl_tensor x = ops_input(pass, SL_TYPE_F32, c->d_head * c->n_head, N_POSITION, 1, 1, c->x);
    sl_op_temper(pass, sl_view_heads(x, c->d_head), sl_pass_input(pass, SL_TYPE_I32, N_POSITION, positions), sl_pass_input(pass, SL_TYPE_F64, 2, c->freq));
    sl_pass_output(pass, x, out);
}

static void warms_far_positions(void **state)
{
    (void)state;
    enum { D = 24, HEADS = 3, ROW = D * HEADS };
    uint64_t random = 2;
    float *x = ops_random(N_POSITION * ROW, 1, &random), got[N_POSITION * ROW];
    double exact[N_POSITION * ROW];
    for (size_t i = 0; i < sizeof tunes / sizeof tunes[0]; i++) {
        turning c = { .x = x, .freq = tunes[i], .d_head = D, .n_head = HEADS };
        const ops_case run = { "temper", temper, &c, NULL, 0, sizeof got };
        ops_run(&run, got);
        for (int k = 0; k < N_POSITION * ROW; k++)
            exact[k] = x[k] * (1 + tunes[i][1] * log(1 + floor((positions[k / ROW] + 1) / tunes[i][0])));
        ops_close("temper", got, exact, N_POSITION * ROW, 1.2e-7, 0);
    }
    /* Up to position 8190 nothing changes. */
    turning c = { .x = x, .freq = tunes[0], .d_head = D, .n_head = HEADS };
    const ops_case run = { "temper", temper, &c, NULL, 0, sizeof got };
    ops_run(&run, got);
    for (int p = 0; p < N_POSITION; p++)
        assert_int_equal(memcmp(got + p * ROW, x + p * ROW, ROW * sizeof *x) == 0, positions[p] < 8191);
    free(x);
}

static int finish(void **state) { return (void)state, ops_finish("rope"); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(makes_angles), cmocka_unit_test(turns_pairs), cmocka_unit_test(warms_far_positions) };
    return cmocka_run_group_tests_name("rope", tests, ops_prepare, finish);
}
