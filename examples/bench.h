/* SPDX-License-Identifier: MIT */
/* bench.h - the parts of the program bench: measuring a model (bench.c), pictures (bench_picture.c), what came out (bench_print.c), models made up in memory (bench_model.c),
 * and the limits of the machine (bench_limits.c). */
#ifndef BENCH_H
#define BENCH_H

#include "common.h"

/* ---- bench_limits.c ---- */

/* Register-only rates in 10^9 multiply-accumulates per second over all threads; 0: this machine, or the ceiling of --cpu-level, has none. */
enum peak { PEAK_VNNI, PEAK_AMX_INT8, PEAK_AMX_BF16, PEAK_FP32, PEAK_DOTPROD, N_PEAKS };
extern const struct peak_name { const char *member, *title; } peak_names[N_PEAKS];

/* Keeps the best of what `best` holds and of some tries now. */
void measure_peaks(double best[N_PEAKS], unsigned n_threads, const char *cpu_level);

struct reading;         /* memory to read: 1 GiB, spread over the threads that read it */
struct reading *open_reading(unsigned n_threads, const char *cpu_level);
double measure_reading(struct reading *r);              /* GB/s, best of passes with 1, 2, 4, 8 and 16 streams per thread */
void close_reading(struct reading *r);

const char *machine_name(void);                         /* of the processor */

/* ---- bench_model.c ---- */

struct made_model;      /* a file that nobody wrote */
/* n_layers: 0, or only so many, if it has more. Usage error for names that it does not know. */
struct made_model *make_model(const char *shape, const char *type, uint32_t n_layers);
const sl_source *made_source(const struct made_model *m);               /* its bytes; valid until it is freed */
const char *made_shapes(void);                                          /* the names, for the help */
void free_made_model(struct made_model *m);

/* ---- bench.c ---- */

/* Samples of one figure. */
struct series { double *at; size_t n; };
void add_sample(struct series *s, double value);
double median(const struct series *s);                  /* NaN if there are none */
double ratio(double a, double b);                       /* a / b; NaN if either is unknown */

enum { N_SMALL = 4 };
extern const size_t small_passes[N_SMALL];              /* 2, 4, 8, 16 */

/* What one token costs, from the list of tensors. Layers that look at pictures work only when there are some. */
struct cost { double bytes, macs, sight_bytes, sight_macs; };

/* Speed of prompts and of decoding in one situation. */
struct speed { struct series prompt, decode; double cached_bytes; };

/* Multiply-accumulates of a picture: the encoder's matrices, its attention, the keys and values for the text's layers. 0: not known of this encoder. */
struct picture_cost { double matrices, attention, keys; };

struct depth { uint64_t n; struct speed speed; struct series share; };      /* behind n tokens; share: prompt speed against an empty context */

struct bench {
    struct settings s;
    const char *shape, *type, *depth_list;
    uint64_t n_layers, n_prompt, n_decode, rounds;        /* n_layers: of made-up weights; 0: as many as the shape has */
    int image;

    sl_model *model;
    sl_session *session, *picture_session;              /* the second one: NULL without --image */
    sl_model_info info;
    struct cost cost;
    struct picture_cost picture;
    struct series load, first;                          /* seconds */
    struct speed empty, sight;                          /* tokens per second: from an empty context; behind a picture */
    struct series small[N_SMALL];                       /* time of a pass against one of 1 token */
    struct series add_image, encode_image, image_keys;  /* seconds: all that a picture takes; of them, the encoder; keys and values */
    struct depth *depths;
    size_t n_depths;
    double peak_rss, cache_bytes, compute_bytes, image_bytes;
    double processor_share;                             /* of the rounds' time in which threads had their processors: less on a machine that others use */
    struct series read;
    double peaks[N_PEAKS];
};

void tell(const char *what, uint64_t i, uint64_t n);    /* a line on stderr: what is being measured now */
sl_tensor_info tensor_at(const sl_model *model, size_t i);
sl_session *open_for(const struct bench *b, uint64_t n);        /* for n tokens */
uint64_t least_context(const struct bench *b);          /* tokens of the context that the figures without --depth need */
double prompt_rate(const struct bench *b, sl_session *session, const sl_token *ids, float *logits);
double decode_rate(const struct bench *b, sl_session *session, const sl_token *ids, float *logits);
double cached_bytes(const struct bench *b, const sl_session *session, double depth);

/* ---- bench_picture.c ---- */

struct picture_cost count_picture(const sl_model *model, const sl_model_info *info);
void measure_picture(struct bench *b, const sl_token *ids, float *logits);

/* ---- bench_print.c ---- */

void print_bench(const struct bench *b);
void print_bench_json(const struct bench *b);

#endif
