/* SPDX-License-Identifier: MIT */
/* ops_harness.h - one operation, planned and run through its typed wrapper on a CPU device of every level and of 1, 2 and 3 threads, with weights
 * packed and in place. All of them must give the same bytes; the test compares those with its own loops in double precision. */
#ifndef SL_TESTS_OPS_HARNESS_H
#define SL_TESTS_OPS_HARNESS_H

#include "check.h"
#include "kv.h"
#include "op.h"

/* cmocka wants these first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which test file has the cases of an operation. Every operation of SL_OPS needs a row; ops_finish() sees to it. X(OPERATION, file). */
#define OPS_FILES(X) \
    X(GET_ROWS, rows) X(TAKE_ROWS, rows) X(PUT_ROWS, rows) X(RMS_NORM, norm) X(QUANTIZE, matmul) X(MATMUL, matmul) X(MATMUL_EXPERT, matmul) X(SCALE, elementwise) \
    X(ADD_TO, elementwise) X(SILU_MUL, elementwise) X(ROPE_ANGLES, rope) X(ROPE, rope) X(TEMPER, rope) X(CACHE_WRITE, attention) X(CACHE_READ, attention) X(ATTENTION, attention) \
    X(ROUTE, moe) X(EXPERT_SUM, moe) X(EXPERT_SCALE, moe) X(LAYER_NORM, norm) X(GELU, elementwise) X(QUICK_GELU, elementwise) X(ADD_GATED, elementwise) X(COPY_TO, elementwise) \
    X(SPAN_ATTENTION, span_attention) X(RMS_NORM_QUANTIZE, groups) X(MATMUL_MANY, groups) X(SWIGLU, groups)

/* A weight and its bytes as in a file; the harness places it. */
typedef struct ops_matrix {
    sl_weight weight;
    unsigned char *data;
    size_t row_bytes;
} ops_matrix;
/* Random blocks of about unit gain, for f32 arithmetic; free the data. */
ops_matrix ops_matrix_random(const char *name, sl_type type, int64_t n_in, int64_t n_out, int64_t n_mat, uint64_t *state);
/* Values of row `row` of all matrices, n_in floats. */
void ops_matrix_row(const ops_matrix *matrix, int64_t row, float *to);

/* The calls under test: made once to plan and once to run. Results go to `out` with sl_pass_output. */
typedef void ops_body(sl_pass *pass, void *user, void *out);

typedef struct ops_case {
    const char *name;
    ops_body *body;
    void *user;
    ops_matrix *matrices;       /* the body finds them where it knows; their handles change from device to device */
    size_t n_matrices, out_bytes;
} ops_case;

/* Runs the case everywhere; fails the test if any two devices differ by a byte. out receives the bytes. */
void ops_run(const ops_case *c, void *out);
/* Runs it on the best device, where planning (plan 1) or running (plan 0) must fail with that status and a sentence that contains `part`. */
void ops_run_fails(const ops_case *c, int plan, sl_status status, const char *part);

/* A tensor in the arena with n0 * n1 * n2 * n3 elements from the host. */
sl_tensor ops_input(sl_pass *pass, sl_type type, int64_t n0, int64_t n1, int64_t n2, int64_t n3, const void *host);

/* ---- caches ---- */

enum { OPS_CACHES = 4 };
extern const struct ops_cache { sl_type type; const char *name; int64_t block; } ops_caches[OPS_CACHES];     /* block: what d_head must be a multiple of */
/* Keys and values of n_pages pages in the arena, every byte of them from `junk`, repeated. */
sl_kv_layer ops_cache_of(sl_pass *pass, sl_type type, int64_t d_head, int64_t n_head_kv, int64_t n_pages, const unsigned char *junk, size_t n_junk);
/* What is kept of n numbers of a key or value; and what attention makes of those of a query. */
void ops_stored(sl_type cache, int64_t n, const float *x, double *to);
void ops_asked(sl_type cache, int64_t n, const float *q, double *to);
/* By how much a weighted mean of numbers up to 1 may be off, with scores of about `size` times the root of d_head / 4. */
double ops_attention_error(sl_type cache, int64_t d_head, double size);

/* |got - exact| at most relative * |exact| + absolute, for every element; says which is not. */
void ops_close(const char *name, const float *got, const double *exact, size_t n, double relative, double absolute);
/* n random numbers in [-size, size), for free(). */
float *ops_random(size_t n, float size, uint64_t *state);

/* Group teardown: closes the devices; fails unless every operation has a row above and those of this file did run. */
int ops_prepare(void **state);
int ops_finish(const char *file);

#endif
