/* SPDX-License-Identifier: MIT */
/** @file quantize.h
 *  Model files with smaller weights, from larger ones.
 *
 *  The scales (and minima) of every block are searched so that the weighted sum of squared errors is as small as it can be had; docs/quantize.md has the method, what each mix does, and
 *  the errors measured. The result is the same to the byte for every number of threads and on every machine.
 *
 *  What is not changed: tensors with one dimension, norms, routers, position embeddings and every tensor whose name does not end in ".weight"; metadata, but for general.file_type and
 *  general.quantization_version. Matrices of image encoders and projectors ("v.", "mm.") become F32, F16, BF16 or Q8_0 where that is the target; otherwise they become F16 if they are F32 and
 *  stay as they are if not. A row that is no whole number of blocks takes the next type that fits: IQ4_NL for Q2_K, Q3_K, IQ4_XS; Q5_0 for Q4_K; Q5_1 for Q5_K; Q8_0 for Q6_K; and F16
 *  where 32 does not divide it either. */
#ifndef SPACELLAMA_QUANTIZE_H
#define SPACELLAMA_QUANTIZE_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Which tensors take which type, before what the target says. */
typedef struct sl_quantize_override {
    size_t size;            /**< sizeof(sl_quantize_override) */
    const char *pattern;    /**< of the tensor's whole name; "*" stands for any text, "?" for one byte. It does not reach tensors that are never changed */
    const char *type;       /**< "Q8_0", "F16", ...: a type that sl_quantize_target() names, or "keep" */
} sl_quantize_override;

#define SL_QUANTIZE_PURE 1u     /**< every matrix takes the type that the mix is named for: no exceptions for some */

/** How to quantize. Zero (or NULL) means the default. */
typedef struct sl_quantize_options {
    size_t size;                /**< sizeof(sl_quantize_options) */
    uint32_t n_threads;         /**< computing threads, the caller included; 0: physical cores the process may use */
    uint32_t flags;             /**< SL_QUANTIZE_PURE */
    const sl_quantize_override *overrides;  /**< all with the same `size`; the first whose pattern fits a tensor counts */
    size_t n_overrides;         /**< at most 4096 */
    /** Path of a GGUF file with an importance matrix ("<tensor>.in_sum2", "<tensor>.counts"), or NULL: errors of a column then count as much as
     *  the mean of its squared inputs. Tensors that it does not have count all columns alike. */
    const char *importance;
    const sl_source *importance_source; /**< the same from memory or callbacks, or NULL; one of the two at most */
    sl_progress_fn progress;    /**< or NULL; counts bytes of tensor data read */
    void *progress_user;        /**< handed to progress */
    sl_log_fn log;              /**< or NULL: silent */
    void *log_user;             /**< handed to log */
    const sl_allocator *allocator;      /**< or NULL: the C library */
} sl_quantize_options;

/** Initializer: all defaults. */
#define SL_QUANTIZE_OPTIONS_INIT { sizeof(sl_quantize_options) }
/** Writes the defaults into a structure of `size` bytes. Since 0.1. */
SL_API sl_status sl_quantize_options_default(sl_quantize_options *out, size_t size);

/** What was done. */
typedef struct sl_quantize_result {
    size_t size;            /**< sizeof(sl_quantize_result) */
    uint64_t bytes_in;      /**< tensor data read */
    uint64_t bytes_out;     /**< tensor data written, without padding */
    uint64_t encode_ns;     /**< nanoseconds spent reading and encoding, of which writing is no part */
    uint32_t n_tensors;     /**< in the file */
    uint32_t n_changed;     /**< that got another type */
    uint32_t n_odd;         /**< of these: that took the next type because of their row length */
    uint32_t n_weighted;    /**< of these: that the importance matrix had */
} sl_quantize_result;

/** Quantizes the model (or projector) file at `in`; of a split model that is its first part, and the result is one file. `target`: a name of
 *  sl_quantize_target(), upper or lower case. The file appears at `out` in one step when it is complete; on failure whatever was there stays. `result` may be NULL.
 *
 *  SL_ERR_UNSUPPORTED: no such target in this build; SL_ERR_NONFINITE: a number of the input is infinite or not a number, SL_ERR_RANGE: or too large for the type (both name
 *  tensor and row); SL_ERR_SHAPE: the importance matrix belongs to another model; SL_ERR_CANCELLED; whatever reading a damaged file gives. Any thread. Since 0.1. */
SL_API sl_status sl_quantize(const char *in, const char *out, const char *target, const sl_quantize_options *options, sl_quantize_result *result);
/** The same from memory or callbacks (one source per part, in order) to a callback. Since 0.1. */
SL_API sl_status sl_quantize_sources(const sl_source *const *sources, size_t n_sources, sl_write_fn write, void *user, const char *target,
                                     const sl_quantize_options *options, sl_quantize_result *result);

/** Name of the index-th target: types ("F16", "Q8_0", "Q6_K", ...) and mixes ("Q4_K_M", ...; "Q4_K" is another name of it). NULL past the end. Static text. Any thread. Since 0.1. */
SL_API const char *sl_quantize_target(size_t index);

#ifdef __cplusplus
}
#endif
#endif
