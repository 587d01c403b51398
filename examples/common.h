/* SPDX-License-Identifier: MIT */
/* common.h - what the example programs share: options from a table, models, texts and pictures (common.c), what goes out (output.c), and how they fail.
 *
 * Exit status: 0 done; 1 failed, with one line "program: place: reason" on stderr; 2 wrong usage. Functions here end the program when they fail. */
#ifndef COMMON_H
#define COMMON_H

#include <spacellama/spacellama.h>
#include <stdio.h>

/* One option: its name, the name of its value in the help ("" for a flag), what it is for, where it goes, and the legal range of numbers. */
enum option_kind { OPTION_FLAG /* int */, OPTION_TEXT /* const char * */, OPTION_LIST /* struct list: once for each time */, OPTION_WHOLE /* uint64_t */, OPTION_REAL /* double */, OPTION_NUMBERS /* struct numbers */ };
struct option {
    const char *name, *value, *help;
    enum option_kind kind;
    void *to;
    double low, high;
};

/* Values of an option that may be given several times: words of the command line. The memory belongs to read_options. */
struct list { const char **texts; size_t n; };

/* Values of an option that takes several numbers with commas between them; n 0: it was not given. */
struct numbers { double values[4]; size_t n; };
size_t read_numbers(const char *option, const char *text, double *values, size_t most);    /* how many; or exit 2 */

/* What most programs understand. Zero is the default of every member but `seed`, whose default is 0 as well. */
struct settings {
    const char *model, *prompt, *prompt_file;
    const char *kv, *arith, *cpu_level, *backend, *pre;
    const char *projector, *cross_norm, *global_gates;
    struct list images;
    uint64_t threads, ctx, batch;
    const char *weight_cache;
    int pin, no_pack, no_bos, no_special, json;
};

/* A text as it is ... */
#define PROMPT_OPTIONS(s)                                                                                                   \
    { "-m", "FILE", "the model, or the first file of one", OPTION_TEXT, &(s).model },                                       \
    { "-p", "TEXT", "the text to start from", OPTION_TEXT, &(s).prompt },                                                   \
    { "-f", "FILE", "a file with that text, taken byte by byte", OPTION_TEXT, &(s).prompt_file },                           \
    { "--pre", "NAME", "pre-tokenizer to use instead of the file's", OPTION_TEXT, &(s).pre },                               \
    { "--json", "", "print one JSON object", OPTION_FLAG, &(s).json }

/* ... and how it becomes tokens where no chat format says so. */
#define TEXT_OPTIONS(s)                                                                                                     \
    PROMPT_OPTIONS(s),                                                                                                      \
    { "--no-bos", "", "add no special tokens to it", OPTION_FLAG, &(s).no_bos },                                            \
    { "--no-special", "", "text that spells a special token stays text", OPTION_FLAG, &(s).no_special }

#define IMAGE_OPTION(s) { "--image", "FILE", "a picture for the next image token; give it once for each", OPTION_LIST, &(s).images }

#define VISION_OPTIONS(s)                                                                                                   \
    { "--projector", "FILE", "the image projector of a model in two files", OPTION_TEXT, &(s).projector },                  \
    { "--cross-norm", "NAME", "Llama 3.2 Vision: auto (default), stored, reorder", OPTION_TEXT, &(s).cross_norm },          \
    { "--global-gates", "NAME", "Llama 3.2 Vision: auto (default), tanh, raw", OPTION_TEXT, &(s).global_gates }

#define COMPUTE_OPTIONS(s)                                                                                                  \
    { "-t", "N", "threads (0: as many as physical cores)", OPTION_WHOLE, &(s).threads, 0, SL_LIMIT_THREADS },               \
    { "--ctx", "N", "positions of the context", OPTION_WHOLE, &(s).ctx, 1, SL_LIMIT_CONTEXT },                              \
    { "--batch", "N", "most tokens of one pass (512)", OPTION_WHOLE, &(s).batch, 1, SL_LIMIT_BATCH },                       \
    { "--kv", "TYPE", "cache type: f16 (default), f32, bf16, q8_0", OPTION_TEXT, &(s).kv },                                             \
    { "--arith", "NAME", "activations beside float weights: f32 (default), bf16", OPTION_TEXT, &(s).arith },                \
    { "--cpu-level", "NAME", "at most this instruction set: scalar, avx2, avx512, ...", OPTION_TEXT, &(s).cpu_level },      \
    { "--backend", "NAME", "cpu (default), blas, or the path of a module", OPTION_TEXT, &(s).backend },                           \
    { "--no-pack", "", "use the weights where they lie in the file", OPTION_FLAG, &(s).no_pack },                           \
    { "--weight-cache", "FILE", "keep packed weights in this file, for the next time", OPTION_TEXT, &(s).weight_cache },    \
    { "--pin", "", "keep each thread on a processor of its own", OPTION_FLAG, &(s).pin },                                   \
    VISION_OPTIONS(s)

/* Reads the command line. `operand` receives the one argument that is no option (NULL: there is none). --help prints and exits 0. */
void read_options(const char *program, const char *about, const struct option *options, size_t n, int argc, char **argv, const char **operand);
/* The same with up to `most` of them, in order; those that are not there stay NULL. */
void read_operands(const char *program, const char *about, const struct option *options, size_t n, int argc, char **argv, const char **operands, size_t most);

_Noreturn void usage_error(const char *format, ...);    /* exit 2 */
_Noreturn void fail(const char *format, ...);           /* exit 1 */
void must(sl_status status);                            /* SL_OK, or exit 1 with the library's sentence */
void *take(size_t n, size_t size);                      /* memory, zeroed; given back with free */

double seconds(void);                                   /* of some clock */

sl_model_options model_options(const struct settings *s, uint32_t parts);
sl_model *load_model(const struct settings *s, uint32_t parts);
char *read_all(FILE *file, const char *name, size_t *length);                                       /* to its end, and a zero byte behind it; free it */
char *read_file(const char *path, size_t *length);                                                  /* the same */
char *read_prompt(const struct settings *s, size_t *length);                                        /* -p or -f, free it */
sl_token *encode(const sl_model *model, const struct settings *s, const char *text, size_t length, size_t *n);    /* free it */
sl_session *open_session(sl_model *model, const struct settings *s, uint64_t n_ctx);

/* The pictures of --image, decoded. */
struct pictures { sl_image **images; const char **paths; size_t n; double seconds; };
void check_pictures(const sl_model *model);             /* that it takes any, or exit 1 */
struct pictures load_pictures(const struct settings *s);                                            /* free it */
size_t image_tokens(const sl_model *model, const sl_image *image, sl_token token);                   /* how many of them stand for a picture */
void add_pictures(sl_session *session, const struct pictures *p, const sl_token *ids, size_t n);    /* one for each image token in ids, or exit 1 */
void free_pictures(struct pictures *p);

void report(const sl_session *session);                 /* implementations, threads and passes, to stderr */
void print_json_report(const sl_session *session);      /* the same as members of an object */
void print_json_text(const char *text, size_t length);  /* a JSON string; bytes that are not UTF-8 become \ufffd */
void print_ids(const sl_token *ids, size_t n);          /* [1, 2, 3] */
void end_output(void);                                  /* flushes stdout; a full disk is a failure */

/* Writes a .npy file of float32 rows. */
FILE *npy_create(const char *path, size_t n_rows, size_t n_columns);
void npy_write(FILE *file, const char *path, const float *values, size_t n);
void npy_close(FILE *file, const char *path);

#endif
