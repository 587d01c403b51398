/* SPDX-License-Identifier: MIT */
/* backend.h - the contract of a backend, whole: what one must supply to run every model. Also built into modules, which are loaded at
 * run time and must match SL_BACKEND_CONTRACT exactly (no ABI promise yet).
 *
 * A device is one opened backend. All calls on a device come from one thread at a time, except open. Handles and memory belong to the device. */
#ifndef SL_BACKEND_H
#define SL_BACKEND_H

#include "log.h"
#include "mem.h"
#include "tensor.h"

#include <stdatomic.h>

/* Raised whenever anything in this file, tensor.h, type.h or op.h's table changes. */
#define SL_BACKEND_CONTRACT 8u
/* A module exports this symbol: const sl_backend *sl_backend_module(void). */
#define SL_BACKEND_SYMBOL "sl_backend_module"

/* The operations. Enumerated here because implementations name them; their meaning, shapes and arguments: op.h. X(NAME, stem).
 * Those of the last line are groups: calls that follow each other, and that a backend may make as one. From one that has no implementation of a group they come one by one. */
#define SL_OPS(X) \
    X(GET_ROWS, get_rows) X(TAKE_ROWS, take_rows) X(PUT_ROWS, put_rows) X(RMS_NORM, rms_norm) X(QUANTIZE, quantize) X(MATMUL, matmul) \
    X(MATMUL_EXPERT, matmul_expert) X(SCALE, scale) X(ADD_TO, add_to) X(SILU_MUL, silu_mul) X(ROPE_ANGLES, rope_angles) X(ROPE, rope) \
    X(TEMPER, temper) \
    X(CACHE_WRITE, cache_write) X(CACHE_READ, cache_read) X(ATTENTION, attention) X(ROUTE, route) X(EXPERT_SUM, expert_sum) X(EXPERT_SCALE, expert_scale) \
    X(LAYER_NORM, layer_norm) X(GELU, gelu) X(QUICK_GELU, quick_gelu) X(ADD_GATED, add_gated) X(COPY_TO, copy_to) X(SPAN_ATTENTION, span_attention) \
    X(RMS_NORM_QUANTIZE, rms_norm_quantize) X(MATMUL_MANY, matmul_many) X(SWIGLU, swiglu)
typedef enum sl_op {
#define SL_OP_ENUM_(name, stem) SL_OP_##name,
    SL_OPS(SL_OP_ENUM_)
#undef SL_OP_ENUM_
    SL_OP_COUNT
} sl_op;

enum { SL_OP_SOURCES = 7, SL_OP_PARTS = 4 };

/* One call of an operation. Shapes have been checked by op.c before anybody else sees it. */
typedef struct sl_op_args {
    sl_op op;
    sl_act_form form;               /* of src[0] where it feeds a product; what to make in QUANTIZE */
    sl_tensor dst, src[SL_OP_SOURCES];
    const sl_weight *weight;        /* GET_ROWS, MATMUL, MATMUL_EXPERT */
    float value;                    /* epsilon, scale of scores, ... */
    int64_t number;                 /* a whole number of the operation: positions of a chunk (ATTENTION), sl_gate (ROUTE); 0 elsewhere */
    void *scratch;                  /* what the implementation asked for; NULL while planning */
    /* Of a group: the calls that it stands for, in order, at most SL_OP_PARTS; what is above is in them. It gives the results that they would give one after the other.
     * Of results that none but a later part reads (see op.h) only the shape is there. */
    const struct sl_op_args *parts;
    int n_parts;
    const struct sl_impl *impl;     /* in `parts`: this device's implementation of the call alone */
} sl_op_args;

/* One implementation of an operation: a row of a backend's best-first list, which ends in one that takes everything the backend supports. */
typedef struct sl_impl {
    sl_op op;
    const char *label;              /* "matmul/q4_k/avx512": printed by logs, tests and benches */
    int32_t type;                   /* the weight type it is for, or -1 */
    uint32_t level;                 /* of the backend: CPU level */
    /* 1 if it can do this call on this device. The only statement of what is supported. Sees types and shapes, never data;
     * the answer must not depend on the number of tokens. */
    int (*accepts)(const struct sl_impl *self, void *device, const sl_op_args *args);
    /* Bytes of 64-byte aligned scratch it needs for this call; NULL: none. Must not shrink when the number of tokens grows. */
    size_t (*scratch)(const struct sl_impl *self, void *device, const sl_op_args *args);
    /* Computes. SL_ERR_CANCELLED if the pass was cancelled, SL_ERR_NONFINITE if it met such an activation. */
    sl_status (*run)(const struct sl_impl *self, void *device, const sl_op_args *args);
    const void *kernel;             /* of the backend: what run needs to know besides */
} sl_impl;

/* How to open a device. Lives during the call, strings and functions included. */
typedef struct sl_backend_options {
    const sl_mem *mem;              /* copied by the backend */
    const sl_log *log;              /* copied by the backend */
    const char *cpu_level;          /* ceiling by name, or NULL */
    const char *arith;              /* of float weights: "f32" or "bf16"; NULL or "" is "f32". SL_ERR_UNSUPPORTED for those it has not */
    unsigned n_threads;             /* 0: its own choice */
    int pin;                        /* 1: threads stay on processors of their own, where the backend has threads and the system allows it */
    int plan_only;                  /* 1: nothing will be computed or placed; open no threads */
    /* How a module, which does not see the library's own, sets the sentence of a failure; returns `status`. Valid for the life of the device. */
    sl_status (*fail)(sl_status status, const char *format, ...) SL_PRINTF(2, 3);
    /* And how it learns why a function of the host failed that it called: the host's sentence of the calling thread. */
    const char *(*last_error)(void);
} sl_backend_options;

/* Packed bytes that were kept are read in multiples of this. */
enum { SL_PACKED_BLOCK = 1 << 16 };

/* Where a weight's bytes come from. Rows lie as in the file: n_mat * n_out rows of n_in elements. */
typedef struct sl_weight_source {
    const sl_weight *weight;        /* name, type, shape */
    const uint8_t *in_place;        /* use these bytes where they lie (they outlive the device); NULL: read and pack */
    int writable;                   /* origin of in_place, for the segment table: 1 caller's memory, 0 mapped file */
    /* Bytes [offset, offset + bytes) of the tensor; any thread, several at once. */
    sl_status (*read)(uint64_t offset, void *to, size_t bytes, void *user);
    /* Called by the thread that called place, now and then, with bytes done of this tensor; other than SL_OK ends it with that status. */
    sl_status (*progress)(uint64_t done, void *user);
    /* NULL, or bytes of what place() once made of this weight (and `packed` below gave away), checked against checksums: to be taken instead of packing; place fails
     * with the status of a read that fails, and may be called again without this. `offset` is a multiple of SL_PACKED_BLOCK, and so is `bytes` except at the end. */
    sl_status (*packed)(uint64_t offset, void *to, size_t bytes, void *user);
    void *user;
} sl_weight_source;

typedef struct sl_backend {
    uint32_t contract;              /* SL_BACKEND_CONTRACT */
    const char *name;               /* "cpu" */
    /* 0: its results are those of docs/numerics.md, bit for bit. Else a number of its own: states of such a model are not taken for those of another. */
    uint32_t numerics;
    /* Opens a device. SL_ERR_UNSUPPORTED with a sentence if the machine cannot. */
    sl_status (*open)(void **device, const sl_backend_options *options);
    void (*close)(void *device);
    /* The best-first list for this device, ceilings already applied: its index-th row, NULL past the end. */
    const sl_impl *(*impl)(void *device, size_t index);
    /* Computing threads of the device (1 if the notion does not apply), and how many of them have taken part in any work so far. */
    unsigned (*threads)(void *device, unsigned *n_worked);

    /* Bytes of device memory that place() will take for a weight (0 if it is used in place); *temporary: besides, while it runs. */
    uint64_t (*weight_bytes)(void *device, const sl_weight *weight, int in_place, uint64_t *temporary);
    /* Told once, before the first place(): the weight_bytes of all weights that will be placed. A device may take that memory at once, so that small matrices lie side by side
     * on large pages; it places what does not fit all the same. SL_ERR_NOMEM if there is not so much. NULL: it need not know. */
    sl_status (*reserve)(void *device, uint64_t bytes);
    /* Reads, checks (no NaN, no infinity: SL_ERR_NONFINITE) and packs a weight; *handle goes into sl_weight. */
    sl_status (*place)(void *device, const sl_weight_source *source, void **handle);
    void (*unplace)(void *device, void *handle);       /* NULL is fine */
    /* The bytes that place() made of a weight and did not use in place, `weight_bytes` of them: for a file that spares the next load the packing. They depend on
     * the weight's type, shape and numbers, and on `layout`, and on nothing else: neither on the machine nor on options. Entry NULL or layout 0: cannot be kept. */
    const void *(*packed)(void *device, void *handle, size_t *bytes);
    uint32_t layout;

    /* Memory for vectors, cache and arena: 64-byte aligned, zeroed. */
    sl_status (*alloc)(void *device, size_t bytes, void **memory);
    void (*free)(void *device, void *memory, size_t bytes);
    sl_status (*upload)(void *device, void *to, const void *from, size_t bytes);
    sl_status (*download)(void *device, void *to, const void *from, size_t bytes);

    /* Bracket one pass. `cancel` may become 1 at any time: operations then return SL_ERR_CANCELLED soon,
     * and so does a begin that waits for another pass. end waits until all is done. */
    sl_status (*begin)(void *device, const atomic_int *cancel);
    sl_status (*end)(void *device);
} sl_backend;

/* ---- the core's side ---- */

/* An opened backend. */
typedef struct sl_device {
    const sl_backend *backend;
    void *handle;
    struct sl_module *module;       /* NULL for compiled-in backends */
    sl_act_form float_form;         /* of activations beside float weights: SL_ACT_B16 in bf16 arithmetic, else SL_ACT_F32 */
} sl_device;

/* Opens a backend by name ("cpu", "blas", "cuda") or by the path of a module. */
sl_status sl_device_open(sl_device *device, const char *name, size_t name_length, const sl_backend_options *options);
void sl_device_close(sl_device *device, const sl_mem *mem);
/* How activations stand beside a weight of this type on the device: for sl_weight. */
sl_act_form sl_device_form(const sl_device *device, sl_type type);

const char *sl_op_name(sl_op op);       /* "rms_norm" */

#endif
