/* SPDX-License-Identifier: MIT */
/* cpu.h - the rooms of the CPU backend: the device, its worker pool, the panel layout, and the shape of every inner loop.
 *
 * Files by op stem (rows.c, norm.c, matmul.c, ...) hold what is the same on every CPU: how the work is cut into tasks. The inner loops are kernels;
 * kernels_scalar.c is the reference and compiled twice (baseline and with hardware fma), x86/ and arm/ repeat its steps in lanes. A level's file exports
 * one array of sl_impl rows, named in the best-first list in backend.c. */
#ifndef SL_CPU_H
#define SL_CPU_H

#include "backend.h"
#include "blocks.h"
#include "op.h"
#include "threads.h"

/* CPU levels, worst first; a level includes those before it of the same machine. X(NAME, "name", bit). */
#define CPU_LEVELS(X) \
    X(SCALAR, "scalar", 0) X(SCALAR_FMA, "scalar-fma", 1) X(AVX2, "avx2", 2) X(AVX512, "avx512", 3) X(AVX512VNNI, "avx512vnni", 4) X(AMX, "amx", 5) \
    X(NEON, "neon", 6) X(DOTPROD, "dotprod", 7) X(I8MM, "i8mm", 8)
enum {
#define CPU_LEVEL_ENUM_(name, text, bit) CPU_##name = 1u << (bit),
    CPU_LEVELS(CPU_LEVEL_ENUM_)
#undef CPU_LEVEL_ENUM_
};
/* Set of levels that this processor has (CPUID and operating system asked afresh; cheap). */
uint32_t cpu_features(void);
/* From how many places at once a thread of this processor reads memory fastest: at most CPU_STREAMS. */
unsigned cpu_streams(void);
/* `levels` without those whose registers the operating system refuses to this process when asked for them: once granted, they stay so. */
uint32_t cpu_permitted(uint32_t levels);

/* One level's implementations. */
typedef struct cpu_list { uint32_t level; const sl_impl *impls; const size_t *n; } cpu_list;
/* All lists of this build, best first, whether the machine has their level or not: for tests. Returns how many. */
size_t cpu_lists(const cpu_list **lists);

extern const sl_backend sl_backend_cpu;

/* Memory that weights lie in, one after the other, each on a border of CPU_LINE bytes: all of a model in one, as far as they were reserved. Memory of a few
 * megabytes and more is given in huge pages, and what a thread reads of a matrix can be less. */
typedef struct cpu_room { uint8_t *base; size_t length, used; } cpu_room;

/* Where weights lie: one entry per placed weight. Those that the library packed lie in rooms. */
typedef struct cpu_segment {
    uint8_t *base;
    size_t length;
    int writable;
    enum { CPU_ORIGIN_LIBRARY, CPU_ORIGIN_CALLER, CPU_ORIGIN_FLASH } origin;
} cpu_segment;

typedef struct cpu_device {
    sl_mem mem;
    sl_log log;
    uint32_t levels;                /* allowed by machine and ceiling */
    cpu_pool *pool;                 /* NULL: planning only */
    unsigned n_threads;             /* of the pool, the caller included */
    unsigned streams;               /* cpu_streams() */
    int pinned;                     /* 1: the workers stay where they are; the caller comes to first_cpu for each pass, and goes back to `before` */
    unsigned first_cpu;
    sl_affinity before;
    sl_mutex lock;                  /* around taken */
    sl_cond free;                   /* a pass has ended */
    int taken;                      /* 1 from begin to end of a pass: sessions take turns */
    const sl_impl **impls;          /* the best-first list */
    size_t n_impls;
    cpu_room *rooms;                /* the last one is being filled */
    size_t n_rooms;
    cpu_segment *segments;
    size_t n_segments;
} cpu_device;

/* Runs tasks on the device's pool: see cpu_pool_run. A task should take well under 10 ms, for cancelling. */
static inline sl_status cpu_parallel(cpu_device *device, size_t n, cpu_task *task, void *arg) { return cpu_pool_run(device->pool, n, task, arg); }

/* Row `row` of a tensor, dimensions 1 to 3 counted through. */
static inline char *cpu_row(const sl_tensor *t, int64_t row)
{
    return (char *)t->data + (size_t)(row % t->ne[1]) * t->stride[1] + (size_t)(row / t->ne[1] % t->ne[2]) * t->stride[2] + (size_t)(row / t->ne[1] / t->ne[2]) * t->stride[3];
}

/* ---- panel.c: the layout of weights ---- */

/* 16 rows of a matrix. Panels of one matrix follow each other, the last is filled up with zero blocks; of n_mat matrices each begins with a panel
 * of its own, so there are n_mat * ceil(n_out / 16). See panel.c for each type's bytes. */
enum { CPU_PANEL = 16 };
/* Raised whenever cpu_panel_pack lays any type differently: files of packed weights made before are then not used. */
enum { CPU_LAYOUT = 1 };

/* What place() hands out. */
typedef struct cpu_matrix {
    sl_type type;
    int64_t n_in, n_out, n_mat;
    int packed;                     /* 1: panels; 0: rows as in the file */
    size_t segment;                 /* index into the device's segment table */
    size_t stride;                  /* bytes of a panel, or of a row */
} cpu_matrix;

size_t cpu_panel_bytes(sl_type type, int64_t n_in);
/* n_in elements of n_rows <= 16 rows, row_stride bytes apart, to a panel; missing rows become zero blocks. */
void cpu_panel_pack(sl_type type, int64_t n_in, const uint8_t *rows, size_t row_stride, int n_rows, uint8_t *panel);
/* Block `block` of row `row` as it lay in the file. */
void cpu_panel_block(sl_type type, int64_t n_in, const uint8_t *panel, int row, int64_t block, void *to);
/* Row `row` of a matrix (row < n_mat * n_out), decoded to n_in floats. */
void cpu_matrix_row(const cpu_device *device, const cpu_matrix *matrix, int64_t row, float *to);

/* ---- kernels: what sl_impl.kernel points to, by op. All strides in bytes. ---- */

/* MATMUL, MATMUL_EXPERT: acc[p][t][16] += panel p (n_in elements of 16 rows) x act[t], for p < n_panel <= CPU_STREAMS and t < m <= CPU_MAX_M; the
 * chain over k continues from acc, which is 64-byte aligned. Panel p begins at panel + p * panel_stride; the panels are walked side by side, because
 * several streams read memory faster than one. act[t]: rows in `form`; where n_in is not whole blocks of it, the last block is filled up with zeros. */
enum { CPU_MAX_M = 16, CPU_STREAMS = 4 };
typedef void cpu_panel_fn(int64_t n_in, const uint8_t *panel, size_t panel_stride, int n_panel, const uint8_t *const *act, int m,
                          float (*acc)[CPU_MAX_M][CPU_PANEL]);
/* QUANTIZE: n floats to the blocks of `form`; 1 if a value was not finite. */
typedef int cpu_quantize_fn(int64_t n, const float *x, void *blocks);
/* RMS_NORM: one row. */
typedef void cpu_rms_norm_fn(int64_t n, const float *x, const float *weight, float epsilon, float *y);
/* LAYER_NORM: one row. */
typedef void cpu_layer_norm_fn(int64_t n, const float *x, const float *weight, const float *bias, float epsilon, float *y);
/* GELU: x = gelu(x + bias), or gelu(x) if bias is NULL; QUICK_GELU likewise. ADD_GATED: x = fma(y, gate, x). */
typedef void cpu_gelu_fn(int64_t n, float *x, const float *bias);
typedef void cpu_add_gated_fn(int64_t n, float *x, const float *y, float gate);
/* ADD_TO: x += y. SILU_MUL: y = silu(gate) * up. */
typedef void cpu_add_fn(int64_t n, float *x, const float *y);
typedef void cpu_silu_mul_fn(int64_t n, const float *gate, const float *up, float *y);
/* ROPE: n / 2 neighbouring pairs (a, b) of x, angles (cos, sin) per pair: a' = fma(a, cos, -(b * sin)), b' = fma(a, sin, b * cos). */
typedef void cpu_rope_fn(int64_t n, float *x, const float *angles);
/* Many rows of activations (prompts): two panels and CPU_WIDE_K elements of k at a time are converted into what the level multiplies fastest, and serve
 * all rows; the rows are prepared once, in groups that are filled up with rows of zeros, and serve all panels. */
enum { CPU_WIDE_K = 256, CPU_WIDE_PANELS = 2, CPU_WIDE_OUT = CPU_WIDE_PANELS * CPU_PANEL };
typedef struct cpu_wide {
    size_t rows;                    /* activation rows of a group */
    size_t act_bytes;               /* a prepared group, CPU_WIDE_K elements; a multiple of 64 */
    size_t weight_bytes;            /* one converted panel, CPU_WIDE_K elements; a multiple of 64 */
    size_t work_bytes;              /* what `multiply` scribbles on */
    /* n_block blocks (of the form) of n <= rows rows to a prepared group. */
    void (*prepare)(int n_block, const uint8_t *const *act, size_t n, uint8_t *to);
    /* n_block blocks (of weights, from number `first` on) of a panel of n_in elements to a converted panel. */
    void (*convert)(int64_t n_in, const uint8_t *panel, size_t first, int n_block, uint8_t *to);
    /* acc[row][CPU_WIDE_OUT] += n_block blocks of activations of n_group groups x two converted panels, one behind the other; the chain over k goes on from acc. */
    void (*multiply)(int n_block, const uint8_t *weights, const uint8_t *act, size_t n_group, float *acc, uint8_t *work);
    /* The sums of one row to its first n <= CPU_WIDE_OUT outputs; past the caches if `stream`. */
    void (*store)(const float *acc, size_t n, float *to, int stream);
    void (*begin)(void);            /* by every thread before it multiplies, and after it stored; begin: NULL if nothing is to be done */
    void (*end)(void);
} cpu_wide;

/* C has no pointer to a function in a pointer to data: kernels are structs. wide: NULL, or for many rows. */
typedef struct cpu_matmul_kernel { cpu_panel_fn *panel; sl_act_form form; const cpu_wide *wide; } cpu_matmul_kernel;
typedef struct cpu_quantize_kernel { sl_act_form form; cpu_quantize_fn *quantize; } cpu_quantize_kernel;
typedef struct cpu_rms_norm_kernel { cpu_rms_norm_fn *rms_norm; } cpu_rms_norm_kernel;
typedef struct cpu_add_kernel { cpu_add_fn *add; } cpu_add_kernel;
typedef struct cpu_silu_mul_kernel { cpu_silu_mul_fn *silu_mul; } cpu_silu_mul_kernel;
typedef struct cpu_rope_kernel { cpu_rope_fn *rope; } cpu_rope_kernel;
typedef struct cpu_layer_norm_kernel { cpu_layer_norm_fn *layer_norm; } cpu_layer_norm_kernel;
typedef struct cpu_gelu_kernel { cpu_gelu_fn *gelu; } cpu_gelu_kernel;
typedef struct cpu_add_gated_kernel { cpu_add_gated_fn *add_gated; } cpu_add_gated_kernel;
/* CACHE_WRITE: n numbers of a head as the cache's type has them: halves, bfloats (blocks of b16), blocks of a32; 1 if one is not finite, halves excepted.
 * NULL: floats, as they are. */
typedef struct cpu_cache_write_kernel { sl_type cache_type; cpu_quantize_fn *convert; } cpu_cache_write_kernel;
extern const cpu_cache_write_kernel cpu_cache_write_f32;        /* that of all levels */
/* ATTENTION, SPAN_ATTENTION: n <= CPU_ATTENTION_QUERIES queries meet one page, each the keys j of it whose bit in its `visible` (not 0) is set; memory of keys
 * that none of them sees may hold anything. k and v: a page of one head as lib/kv.h says; q: the query, or what `prepare` made of it, which for all n lies one
 * behind the other, with room for CPU_ATTENTION_SPARE more. Scores, maximum and sums of the block as docs/numerics.md says for the type; each query's sums max,
 * sum, o are joined with it (`next`: the page that comes after it, or the same one; a kernel may ask memory for it while it computes, and does nothing else with it): M = max(max, m), a = exp(max - M), c = exp(m - M), sum = fma(l, c, sum * a), o = fma(o_block, c, o * a). Before the first block
 * they are -infinity, 0 and 0. */
enum { CPU_ATTENTION_QUERIES = 48, CPU_ATTENTION_SPARE = 15 };
typedef struct cpu_query { const void *q; float *o, max, sum; uint64_t visible; } cpu_query;
typedef struct cpu_page { const void *k, *v; } cpu_page;
typedef struct cpu_attention_kernel {
    sl_type cache_type;
    int group;                                  /* queries that it takes at once: tasks are made of whole groups */
    /* A query of n numbers to cpu_query_bytes(n) bytes; 1 if one is not finite. NULL: as it is. */
    int (*prepare)(int64_t n, const float *q, void *to);
    size_t (*work_bytes)(int64_t d_head);       /* what `block` scribbles on, 64-byte aligned; NULL: nothing */
    void (*block)(int64_t d_head, int n, cpu_query *queries, cpu_page page, cpu_page next, float scale, void *work);
    void (*begin)(void);                        /* by a thread before its blocks, and after them; NULL if nothing is to be done */
    void (*end)(void);
} cpu_attention_kernel;
static inline size_t cpu_query_bytes(int64_t d_head) { return (size_t)(d_head + 31) / 32 * 32 * sizeof(float); }

/* In pages of Q8_0: bytes of 32 d of 64 keys, and where their scales begin. */
enum { CPU_Q8_SCALES = 32 * SL_PAGE_KEYS, CPU_Q8_BYTES = CPU_Q8_SCALES + 2 * SL_PAGE_KEYS };

/* ---- outer loops: what sl_impl.accepts, scratch and run point to; one trio per operation, the kernel makes the level ---- */
#define CPU_OUTER(op) \
    int cpu_##op##_accepts(const sl_impl *self, void *device, const sl_op_args *args); \
    size_t cpu_##op##_scratch(const sl_impl *self, void *device, const sl_op_args *args); \
    sl_status cpu_##op##_run(const sl_impl *self, void *device, const sl_op_args *args);
CPU_OUTER(get_rows) CPU_OUTER(take_rows) CPU_OUTER(put_rows) CPU_OUTER(rms_norm) CPU_OUTER(quantize) CPU_OUTER(rms_norm_quantize)
CPU_OUTER(matmul) CPU_OUTER(matmul_expert) CPU_OUTER(matmul_many) CPU_OUTER(swiglu)
CPU_OUTER(scale) CPU_OUTER(add_to) CPU_OUTER(silu_mul) CPU_OUTER(rope_angles) CPU_OUTER(rope)
CPU_OUTER(temper) CPU_OUTER(cache_write) CPU_OUTER(cache_read) CPU_OUTER(attention) CPU_OUTER(route) CPU_OUTER(expert_sum) CPU_OUTER(expert_scale)
CPU_OUTER(layer_norm) CPU_OUTER(gelu) CPU_OUTER(add_gated) CPU_OUTER(copy_to) CPU_OUTER(span_attention)
#undef CPU_OUTER
/* What both operations share (attention.c): tokens see the spans of the call, which have been checked. */
sl_status cpu_attend_spans(const cpu_attention_kernel *kernel, void *device, const sl_op_args *args);
/* For operations that take every shape that op.c lets through. */
int cpu_any_accepts(const sl_impl *self, void *device, const sl_op_args *args);

#endif
