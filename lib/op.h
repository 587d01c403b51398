/* SPDX-License-Identifier: MIT */
/* op.h - the operations as an architecture's forward() calls them, and the pass they belong to.
 *
 * One code, two modes. A *plan* pass checks shapes, resolves each call's implementation once and measures the arena; a *run* pass makes the
 * same calls in the same order, computes, and takes the implementations from the plan. Whatever changes from token to token is a tensor.
 * Errors stick to the pass: after the first one every call does nothing and returns an empty tensor, and sl_pass_end() returns it.
 * Results lie in the arena of the current device until the mark before them is released. */
#ifndef SL_OP_H
#define SL_OP_H

#include "backend.h"

enum { SL_MAX_DEVICES = 4 };
enum { SL_PAGE_KEYS = 64 };         /* positions of one cache page = keys of one attention block */

/* Told of every product with a weight before it is computed; a status other than SL_OK ends the pass. rows: F32 [n_in, n]; ids: NULL, or I32 [n_used, n_tok], the matrix that each pair (slot, token)
 * wants, and then there is a row for each pair, or one for each token. Both lie on `device`. */
typedef struct sl_observer {
    sl_status (*see)(struct sl_observer *self, const sl_device *device, const sl_weight *weight, const sl_tensor *rows, const sl_tensor *ids);
    void (*gone)(struct sl_observer *self);     /* what it observes is freed */
} sl_observer;

typedef struct sl_plan {
    const sl_mem *mem;
    sl_observer *observer;          /* of the passes that are run by it; NULL: none */
    const sl_impl **steps;          /* implementation of every call, in order */
    uint32_t *ran;                  /* how often each step has run (saturates) */
    size_t n_steps;
    size_t arena[SL_MAX_DEVICES];   /* bytes needed on each device */
} sl_plan;

void sl_plan_free(sl_plan *plan);

typedef struct sl_pass {
    int planning;
    sl_status status;
    const sl_device *devices;
    int n_devices, device;          /* current device */
    sl_plan *plan;
    size_t step;
    struct { char *base; size_t used, size; } arena[SL_MAX_DEVICES];
} sl_pass;

/* Where an arena and the order of calls stood. */
typedef struct sl_mark { size_t used[SL_MAX_DEVICES]; size_t step; } sl_mark;

/* Starts a pass on the given devices. planning 1: the plan is filled (it must be zeroed but for mem). planning 0: `memory` holds an arena of plan->arena[d] bytes per device. */
void sl_pass_begin(sl_pass *pass, const sl_device *devices, int n_devices, sl_plan *plan, int planning, void *const *memory);
sl_status sl_pass_end(sl_pass *pass);

sl_mark sl_pass_mark(const sl_pass *pass);
void sl_pass_release(sl_pass *pass, sl_mark mark);      /* frees what was made since */
void sl_pass_repeat(sl_pass *pass, sl_mark mark);       /* frees, and goes back to that call: for a part that is run again */

/* An uninitialised tensor in the current device's arena, [n0, n1, n2, n3]. */
sl_tensor sl_pass_tensor(sl_pass *pass, sl_type type, int64_t n0, int64_t n1, int64_t n2, int64_t n3);
/* One row of n elements that holds what `host` points to. */
sl_tensor sl_pass_input(sl_pass *pass, sl_type type, int64_t n, const void *host);
/* Copies a tensor's rows to the host (no effect while planning). */
void sl_pass_output(sl_pass *pass, sl_tensor x, void *host);
/* Makes `device` the current one; x (contiguous, F32) is copied there if it is elsewhere. */
sl_tensor sl_pass_move(sl_pass *pass, sl_tensor x, int device);

/* Views: no computation. Operations other than sl_op_copy_to want rows whose elements lie side by side. */
sl_tensor sl_view_rows(sl_tensor x, int64_t first, int64_t n);                          /* elements [first, first + n) of every row of [n0, n1]: [n, n1] */
sl_tensor sl_view_tokens(sl_tensor x, int64_t first, int64_t n);                        /* rows [first, first + n) of [n0, n1]: [n0, n] */
sl_tensor sl_view_every(sl_tensor x, int64_t first, int64_t n, int64_t step);           /* elements first, first + step, ... of every row, n of them: [n, n1] */
sl_tensor sl_view_heads(sl_tensor x, int64_t d_head);                                   /* [d_head * n_head, n_tok] as [d_head, n_head, n_tok] */
sl_tensor sl_view_flat(sl_tensor x);                                                    /* contiguous [a, b, c] as [a * b, c] */
sl_tensor sl_view_groups(sl_tensor x, int64_t n);                                       /* rows of [n0, n1], n by n: [n0, n, n1 / n] */
sl_tensor sl_view_slot(sl_tensor x, int64_t slot);                                      /* row `slot` of every token of [n, n_used, n_tok]: [n, n_tok] */
sl_tensor sl_view_slots(sl_tensor x);                                                   /* contiguous [a, b, c] as [a, b * c] */

/* Wraps f32 rows [n, n_tok] as activations. */
sl_act sl_act_of(sl_tensor x);

/* dst[n_in, n] = rows ids[n] of the matrix, decoded. */
sl_tensor sl_op_get_rows(sl_pass *pass, const sl_weight *weight, sl_tensor ids);
/* dst[n, n_rows] = x[n, rows[.]]. */
sl_tensor sl_op_take_rows(sl_pass *pass, sl_tensor x, sl_tensor rows);
/* Row t of x[n, n_tok] becomes row marks[t] - 1 of from[n, n_rows]; where the mark is 0 it stays. marks I32 [n_tok]. */
void sl_op_put_rows(sl_pass *pass, sl_tensor x, sl_tensor from, sl_tensor marks);
/* dst = x / sqrt(mean(x^2) + epsilon) * weight, each row of x[n, n_tok]; weight F32 [n]. */
sl_tensor sl_op_rms_norm(sl_pass *pass, sl_tensor x, sl_tensor weight, float epsilon);
/* The same, with the rows also in the form that `next` wants, whose product comes next: [n, n_tok] of activations. A group: RMS_NORM, QUANTIZE; where `next` wants the rows as they are,
 * the former alone. */
sl_act sl_op_rms_norm_quantize(sl_pass *pass, sl_tensor x, sl_tensor weight, float epsilon, const sl_weight *next);
/* dst[n_out, n_tok] = W x, times the weight's scale. */
sl_tensor sl_op_matmul(sl_pass *pass, const sl_weight *weight, sl_act *x);
/* dst[i] = that for each of n <= SL_OP_PARTS weights, which may differ in everything but n_in. A group: MATMUL, MATMUL, ... */
void sl_op_matmul_many(sl_pass *pass, const sl_weight *const *weights, int n, sl_act *x, sl_tensor *dst);
/* dst[n_out, n_tok] = silu(G x) * (U x), of two weights of one shape (Shazeer, arXiv 2002.05202). A group: MATMUL, MATMUL, SILU_MUL, the results of the former two read by the last only; with
 * weights that have a scale, which comes in between, the operations one by one. */
sl_tensor sl_op_swiglu(sl_pass *pass, const sl_weight *gate, const sl_weight *up, sl_act *x);
/* The same into a tensor that was made before, [n_out, n_tok]: so that x can be released and the result be kept. */
void sl_op_swiglu_to(sl_pass *pass, sl_tensor to, const sl_weight *gate, const sl_weight *up, sl_act *x);
/* dst[n_out, n_used, n_tok] = W[ids[u, t]] x; x has one row per token, or one per (slot, token): [n_in, n_used * n_tok]. ids I32 [n_used, n_tok]. */
sl_tensor sl_op_matmul_expert(sl_pass *pass, const sl_weight *weight, sl_act *x, sl_tensor ids);
/* sl_op_swiglu with two of those: dst[n_out, n_used, n_tok]. */
sl_tensor sl_op_swiglu_expert(sl_pass *pass, const sl_weight *gate, const sl_weight *up, sl_act *x, sl_tensor ids);
/* x += y; y has the shape of x, or is one row [n] added to every row. */
void sl_op_add_to(sl_pass *pass, sl_tensor x, sl_tensor y);
/* dst = silu(gate) * up, elementwise; silu(z) = z / (1 + exp(-z)). */
sl_tensor sl_op_silu_mul(sl_pass *pass, sl_tensor gate, sl_tensor up);
/* The same into a tensor that was made before. */
void sl_op_silu_mul_to(sl_pass *pass, sl_tensor to, sl_tensor gate, sl_tensor up);
/* dst[2, d / 2, n_tok] = magnitude * (cos, sin)(positions[n_tok] * freq[d / 2]); positions I32, freq F64. */
sl_tensor sl_op_rope_angles(sl_pass *pass, sl_tensor positions, sl_tensor freq, float magnitude);
/* Rotates neighbouring pairs of every head of x[d_head, n_head, n_tok] in place by angles[2, d_head / 2, n_tok]. */
void sl_op_rope(sl_pass *pass, sl_tensor x, sl_tensor angles);
/* Writes keys and values [d_head, n_head_kv, n_tok] of `positions` into their pages: k [64, d_head, n_head_kv, n_page],
 * v [d_head, 64, n_head_kv, n_page], which lie as kv.h says; pages I32 [n_table, n_seq]: in the row of a sequence, the page of its positions 64 i .. 64 i + 63;
 * seqs I32 [n_tok]: the row of each token's sequence, or empty: row 0. */
void sl_op_cache_write(sl_pass *pass, sl_tensor k, sl_tensor v, sl_tensor k_cache, sl_tensor v_cache, sl_tensor positions, sl_tensor pages, sl_tensor seqs);
/* The other way: fills k and v [d_head, n_head_kv, n_tok] with what stands at `positions`. */
void sl_op_cache_read(sl_pass *pass, sl_tensor k, sl_tensor v, sl_tensor k_cache, sl_tensor v_cache, sl_tensor positions, sl_tensor pages, sl_tensor seqs);
/* dst[d_head, n_head, n_tok]: query head j of the token at position p attends to keys 0 .. p of its sequence, of key/value head j / (n_head / n_head_kv); with a chunk of c positions (0: none)
 * only to those of its own chunk, keys c * floor(p / c) .. p. */
sl_tensor sl_op_attention(sl_pass *pass, sl_tensor q, sl_tensor k_cache, sl_tensor v_cache, sl_tensor positions, sl_tensor pages, sl_tensor seqs, int64_t chunk, float scale);
/* x[d_head, n_head, n_tok] *= 1 + tune[1] * ln(1 + floor((position + 1) / tune[0])) in place; positions I32 [n_tok], tune F64 [2]: Llama 4's attention temperature. */
void sl_op_temper(sl_pass *pass, sl_tensor x, sl_tensor positions, sl_tensor tune);
/* How the logits of the experts that were chosen become weights: their softmax, renormalised to sum 1; or the sigmoid of each. */
typedef enum sl_gate { SL_GATE_SOFTMAX, SL_GATE_SIGMOID } sl_gate;
/* From router logits [n_expert, n_tok]: ids I32 [n_used, n_tok], ascending, of the n_used largest (ties: lower id), and their weights F32 [n_used, n_tok]. */
void sl_op_route(sl_pass *pass, sl_tensor logits, int64_t n_used, sl_gate gate, sl_tensor *ids, sl_tensor *weights);
/* dst[n, n_tok] = sum over slots of weights[slot, tok] * x[n, slot, tok], slots ascending. */
sl_tensor sl_op_expert_sum(sl_pass *pass, sl_tensor x, sl_tensor weights);
/* dst[n, n_used, n_tok] = weights[slot, tok] * x[n, tok]: what each slot's expert is to see, where the weight comes before the expert. */
sl_tensor sl_op_expert_scale(sl_pass *pass, sl_tensor x, sl_tensor weights);

/* ---- image encoders, and attention to what they made ---- */

/* dst = (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias, each row of x[n, ...]; weight, bias F32 [n]. */
sl_tensor sl_op_layer_norm(sl_pass *pass, sl_tensor x, sl_tensor weight, sl_tensor bias, float epsilon);
/* x = gelu(x + bias) in place, gelu(z) = z / 2 (1 + erf(z / sqrt 2)); bias F32 [n] is added to every row first, or is empty. */
void sl_op_gelu(sl_pass *pass, sl_tensor x, sl_tensor bias);
/* The same with z / (1 + exp(-1.702 z)). */
void sl_op_quick_gelu(sl_pass *pass, sl_tensor x, sl_tensor bias);
/* x += gate[0] * y in the rows whose mark is not 0; the others keep their bits. y has the shape of x, or is one row for all; gate F32 [1];
 * marks I32 [rows of x], or empty: all rows. */
void sl_op_add_gated(sl_pass *pass, sl_tensor x, sl_tensor y, sl_tensor gate, sl_tensor marks);
/* to = from, F32; from has the shape of `to`, or is one row that every row receives. Elements of either may lie apart (sl_view_every). */
void sl_op_copy_to(sl_pass *pass, sl_tensor to, sl_tensor from);
/* Attention to spans of keys instead of all earlier ones. Caches as in sl_op_attention, key i in page i / 64. spans I32 [2, n_span]: first key and
 * end of each, possibly empty; ranges I32 [2, n_tok]: token t sees the keys of the spans from number ranges[0, t] to before ranges[1, t], which are ascending and disjoint.
 * dst[d_head, n_head, n_tok]; a token that sees no key gets zeros. Keys that nobody sees may be anything, also not a number. */
sl_tensor sl_op_span_attention(sl_pass *pass, sl_tensor q, sl_tensor k_cache, sl_tensor v_cache, sl_tensor spans, sl_tensor ranges, float scale);

#endif
