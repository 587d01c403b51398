/* SPDX-License-Identifier: MIT */
/** @file model.h
 *  Models: loading a GGUF file, asking what is in it, and what it will cost.
 *
 *  A model is immutable once it is loaded; any number of threads and sessions may use it at once. It is reference
 *  counted: sl_model_free() gives up one reference, each session holds another. */
#ifndef SPACELLAMA_MODEL_H
#define SPACELLAMA_MODEL_H

#include "host.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @name Limits on model files
 *  What exceeds one is refused with SL_ERR_LIMIT before memory is taken for it. @{ */
#define SL_LIMIT_KEYS 65536                     /**< key-value pairs per file */
#define SL_LIMIT_TENSORS 65536                  /**< tensors per file */
#define SL_LIMIT_KEY_BYTES 65535                /**< bytes of a key */
#define SL_LIMIT_TENSOR_NAME_BYTES 64           /**< bytes of a tensor name */
#define SL_LIMIT_STRING_BYTES 16777216          /**< bytes of a string value */
#define SL_LIMIT_ARRAY_ELEMENTS 16777216        /**< elements of an array value */
#define SL_LIMIT_ARRAY_DEPTH 4                  /**< arrays inside arrays */
#define SL_LIMIT_ALIGNMENT 65536                /**< general.alignment; at least 8, a power of two */
#define SL_LIMIT_PARTS 1024                     /**< files of a split model */
#define SL_LIMIT_LAYERS 1024                    /**< layers of a model */
#define SL_LIMIT_EXPERTS 512                    /**< experts of a layer */
#define SL_LIMIT_HEAD_DIM 1024                  /**< elements of an attention head */
#define SL_LIMIT_EMBEDDING 1048576              /**< n_embd, n_ff and rows of any matrix of a layer */
#define SL_LIMIT_VOCABULARY 1048576             /**< tokens of a vocabulary */
#define SL_LIMIT_TOKEN_BYTES 65536              /**< bytes of a token's text */
#define SL_LIMIT_CONTEXT 16777216               /**< positions of a session */
#define SL_LIMIT_BATCH 65536                    /**< tokens of one forward pass */
#define SL_LIMIT_SEQUENCES 1024                 /**< sequences of a session */
#define SL_LIMIT_THREADS 512                    /**< computing threads of a model */
/** @} */

/** A loaded model. Opaque. */
typedef struct sl_model sl_model;

/** Where the bytes of one GGUF file come from when it is not a path: memory, or callbacks. */
typedef struct sl_source {
    size_t size;            /**< sizeof(sl_source) */
    const void *data;       /**< the whole file in memory, or NULL. With `in_place` loading it must outlive the model, else only the call */
    uint64_t length;        /**< bytes of the file */
    /** Used when data is NULL: copies up to `bytes` bytes from `offset` to `to` and returns how many (a short count is asked
     *  again, 0 means the end), or a negative number on failure. Never called by two threads at once; only during the load. */
    int64_t (*read)(uint64_t offset, void *to, uint64_t bytes, void *user);
    void *user;             /**< handed to read */
    const char *name;       /**< used in messages; NULL: "memory" */
} sl_source;

/** Told while a model loads; done and total are bytes of tensor data. Called from the loading thread only.
 *  A result other than 0 cancels: the load ends with SL_ERR_CANCELLED and frees everything. */
typedef int32_t (*sl_progress_fn)(uint64_t done, uint64_t total, void *user);

#define SL_PARTS_ALL 0          /**< everything: the model can compute */
#define SL_PARTS_VOCABULARY 1   /**< metadata and tokenizer; files without tensors are fine */
#define SL_PARTS_METADATA 2     /**< metadata and the list of tensors; any well-formed GGUF file */

/** How to load. Zero (or NULL) in a member means its default. */
typedef struct sl_model_options {
    size_t size;                /**< sizeof(sl_model_options) */
    /** Where to compute: "cpu" (default), "blas", "cuda", or the path of a backend module; layers may be shared out as
     *  "NAME@first-last,NAME" (layers counted from 0; the entry without a range takes the rest, embedding and output). "blas" is "cpu" with OpenBLAS for products of float matrices with many
     *  tokens, from the module libspacellama-blas.so: not the same bits, see sl_model_info.numerics and docs/performance.md. SL_ERR_BACKEND: there is no such module, or it is of another version;
     *  SL_ERR_UNSUPPORTED: it cannot work here. */
    const char *backend;
    const char *cpu_level;      /**< ceiling: "scalar", "avx2", "avx512", "avx512vnni", "amx", "neon", "dotprod", "i8mm". NULL: best. The result is the same bits */
    const char *arith;          /**< activations beside float weights, and attention of image encoders: "f32" (default) or "bf16" */
    const char *pre;            /**< overrides tokenizer.ggml.pre, see tokenizer.h */
    uint32_t n_threads;         /**< computing threads, the caller included; 0: physical cores the process may use */
    uint32_t in_place;          /**< 1: use weights where they lie (the file is mapped: it must not change while the model lives; memory sources must outlive the model); 0: pack them into own memory */
    uint32_t parts;             /**< SL_PARTS_... */
    uint32_t reserved;          /**< 0 */
    uint64_t memory_limit;      /**< refuse with SL_ERR_LIMIT, before anything large is taken, to need more bytes than this for weights; 0: no limit */
    sl_progress_fn progress;    /**< or NULL */
    void *progress_user;        /**< handed to progress */
    sl_log_fn log;              /**< or NULL: silent. Used for the life of the model */
    void *log_user;             /**< handed to log */
    const sl_allocator *allocator;  /**< or NULL: the C library. Copied; its functions are used for the life of the model and of everything made from it */
    const char *projector;          /**< path of the image projector file of two-file layouts, or NULL */
    const sl_source *projector_source;  /**< the same from memory or callbacks, or NULL; one of the two at most */
    /** Llama 3.2 Vision: order of the rows of cross-attention queries and keys against their norms. "auto" (default): "reorder" if the file has the key
     *  tokenizer.ggml.eos_token_ids (the converter that reordered rows wrote it), else "stored". "reorder": the norms are reordered as the rows were. */
    const char *cross_norm;
    const char *global_gates;       /**< Llama 3.2 Vision: gates of the global vision blocks are stored "raw" or with "tanh" taken; "auto" (default): "tanh" */
    /** Path of a file that keeps the packed weights of this model, or NULL. A load that finds the right one reads it instead of packing, a load that does not packs and then
     *  writes it (the size of the weights; it waits for the disk). It is used only if it was made from the same files (size, time of change, header and samples of every
     *  tensor), by a library with the same arithmetic and layout, and if its checksums hold; CPU level and number of threads do not matter. Else it is made anew: its place is taken
     *  in one step, so several processes may share it. That it is damaged, cannot be written, or is another kind of file (which is left alone) is said in the log and never makes
     *  a load fail. A file may be open as "<path>.partial" meanwhile. Not used with sources or in_place. */
    const char *weight_cache;
    uint32_t pin;                   /**< 1: computing threads stay on processors of their own, one per physical core as far as there are, the caller's during a pass; 0: the system moves them */
    uint32_t reserved_pin;          /**< 0 */
} sl_model_options;

/** Initializer: all defaults. */
#define SL_MODEL_OPTIONS_INIT { sizeof(sl_model_options) }
/** Writes the defaults into a structure of `size` bytes: for languages without the initializer. SL_ERR_ARGUMENT if out is NULL or size is below 8. Since 0.1. */
SL_API sl_status sl_model_options_default(sl_model_options *out, size_t size);

/** Loads the GGUF file at `path` (UTF-8). For a split model it is the path of the first part; the others are found beside it.
 *  On success *out is a model with one reference; on failure it is NULL and everything is released. Any thread. Since 0.1. */
SL_API sl_status sl_model_load(sl_model **out, const char *path, const sl_model_options *options);

/** The same from memory or callbacks: one source per part, in order. Since 0.1. */
SL_API sl_status sl_model_load_sources(sl_model **out, const sl_source *const *sources, size_t n_sources,
                                       const sl_model_options *options);

/** One more reference. Returns the model. NULL is fine. Any thread. Since 0.1. */
SL_API sl_model *sl_model_retain(sl_model *model);
/** Gives up one reference; the last one frees. NULL is fine. Any thread. Since 0.1. */
SL_API void sl_model_free(sl_model *model);

/** What a model needs. All in bytes. */
typedef struct sl_memory {
    size_t size;            /**< sizeof(sl_memory) */
    uint64_t weights;       /**< weights in the library's own memory (0 for those used in place) */
    uint64_t in_place;      /**< weights used where they lie: mapped file or the caller's memory */
    uint64_t load_peak;     /**< most that is held at once while loading, weights included */
    uint64_t cache;         /**< a session's key/value cache */
    uint64_t compute;       /**< a session's arena: all intermediate results of one pass */
    uint64_t image;         /**< what each picture of a session keeps (0: the model takes none) */
    uint64_t encoder;       /**< held besides while a picture is encoded */
} sl_memory;

/** Options of a session; see session.h. */
struct sl_session_options;

/** What loading `path` and opening one session with `session` (NULL: defaults) would need. Reads metadata only; comes from
 *  the same plan that a session runs, so it is exact. Since 0.1. */
SL_API sl_status sl_model_estimate(const char *path, const sl_model_options *options,
                                   const struct sl_session_options *session, sl_memory *out);

/** What kind of model it is. Members that the file does not define (vocabulary-only files) are 0 or empty. */
typedef struct sl_model_info {
    size_t size;                /**< sizeof(sl_model_info) */
    const char *architecture;   /**< general.architecture; lives as long as the model */
    const char *name;           /**< general.name, or "" */
    uint32_t n_ctx_train;       /**< trained context, positions */
    uint32_t n_embd;            /**< width of the residual stream */
    uint32_t n_layer;           /**< layers */
    uint32_t n_head;            /**< query heads of the first layer */
    uint32_t n_head_kv;         /**< key/value heads of the first layer */
    uint32_t d_head;            /**< elements per head */
    uint32_t n_ff;              /**< width of the feed-forward part of the first layer */
    uint32_t n_expert;          /**< experts per layer, 0: dense */
    uint32_t n_expert_used;     /**< experts per token */
    uint32_t n_vocab;           /**< tokens: length of a row of logits */
    uint32_t n_threads;         /**< computing threads, 0 without weights */
    uint32_t n_parts;           /**< files */
    uint64_t n_params;          /**< elements of all tensors */
    uint64_t file_bytes;        /**< bytes of all files */
    uint64_t weight_bytes;      /**< bytes of weights in the library's own memory */
    uint64_t in_place_bytes;    /**< bytes of weights used where they lie */
    uint64_t load_peak_bytes;   /**< most that was held at once while loading */
    const char *vision;         /**< layout of the image part, and what the loader decided about it and why: one sentence, lives as long as the model; "" if there is none */
    uint32_t tile_side;         /**< pixels along a tile's side, 0: the model takes no pictures */
    uint32_t max_tiles;         /**< tiles that a picture is cut into at most */
    int32_t image_token;        /**< the token that stands for a picture, or for one vector of it (sl_image_encode()), or SL_TOKEN_NONE */
    uint32_t reserved;          /**< 0 */
    uint64_t cached_bytes;      /**< of weight_bytes, those that came from the file `weight_cache` */
    uint64_t identity;          /**< tells one model from another: a hash of the files' headers and some bytes of each tensor, of the arithmetic and of what was decided about the layout; 0 without weights */
    uint32_t numerics;          /**< sl_numerics_id() if every backend of the model computes as docs/numerics.md says, so that results are the same bits as anywhere; 0 if one does not ("blas"), or without weights */
    uint32_t reserved_numerics; /**< 0 */
} sl_model_info;

/** Fills `out` (its size member set by the caller). Any thread. Since 0.1. */
SL_API sl_status sl_model_get_info(const sl_model *model, sl_model_info *out);

/** @name Metadata
 *  The key-value pairs of the first file, in its order. @{ */

/** Types of metadata values, numbered as in GGUF: X(NAME, value). */
#define SL_META_LIST(X) \
    X(U8, 0) X(I8, 1) X(U16, 2) X(I16, 3) X(U32, 4) X(I32, 5) X(F32, 6) X(BOOL, 7) X(STRING, 8) X(ARRAY, 9) X(U64, 10) X(I64, 11) X(F64, 12)
#ifndef DOXYGEN
#define SL_META_ENUM_(name, value) SL_META_##name = value,
#endif
/** Names of the metadata types: SL_META_U8 (0) to SL_META_F64 (12). */
enum { SL_META_LIST(SL_META_ENUM_) SL_META_LAST_ = 12 };

/** One pair. */
typedef struct sl_meta {
    size_t size;            /**< sizeof(sl_meta) */
    const char *key;        /**< terminated; lives as long as the model */
    int32_t type;           /**< SL_META_... */
    int32_t element_type;   /**< of an array's elements (SL_META_ARRAY for nested ones), else the same as type */
    uint64_t count;         /**< elements of an array, else 1 */
} sl_meta;

/** Number of pairs; 0 for NULL. Any thread. Since 0.1. */
SL_API size_t sl_model_meta_count(const sl_model *model);
/** Describes pair `index`. SL_ERR_RANGE past the end. Since 0.1. */
SL_API sl_status sl_model_meta(const sl_model *model, size_t index, sl_meta *out);
/** Finds a key; SL_ERR_MISSING if it is not there. Since 0.1. */
SL_API sl_status sl_model_meta_find(const sl_model *model, const char *key, size_t *index);
/** Element `element` (0 for a scalar) of pair `index` as a signed integer (any integer type or bool). SL_ERR_TYPE, SL_ERR_RANGE. Since 0.1. */
SL_API sl_status sl_model_meta_int(const sl_model *model, size_t index, uint64_t element, int64_t *out);
/** The same as a floating-point number (any number type). Since 0.1. */
SL_API sl_status sl_model_meta_float(const sl_model *model, size_t index, uint64_t element, double *out);
/** The same as a string: *text is not terminated, *length its bytes (any bytes may occur); lives as long as the model. Since 0.1. */
SL_API sl_status sl_model_meta_string(const sl_model *model, size_t index, uint64_t element, const char **text, size_t *length);
/** @} */

/** One tensor of the files. */
typedef struct sl_tensor_info {
    size_t size;            /**< sizeof(sl_tensor_info) */
    const char *name;       /**< terminated; lives as long as the model */
    const char *type;       /**< "F32", "Q4_K", ...: static text */
    uint32_t n_dims;        /**< 1 to 4 */
    uint32_t part;          /**< which file, from 0 */
    uint64_t dims[4];       /**< fastest first; 1 past n_dims */
    uint64_t bytes;         /**< of its data in the file */
    uint64_t offset;        /**< of its data from the start of that file */
} sl_tensor_info;

/** Number of tensors in all parts; 0 for NULL. Any thread. Since 0.1. */
SL_API size_t sl_model_tensor_count(const sl_model *model);
/** Describes tensor `index`, in file order. SL_ERR_RANGE past the end. Since 0.1. */
SL_API sl_status sl_model_tensor(const sl_model *model, size_t index, sl_tensor_info *out);

#ifdef __cplusplus
}
#endif
#endif
