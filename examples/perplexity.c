/* SPDX-License-Identifier: MIT */
/* perplexity.c - how well a model foresees a text, and how far its distributions are from those of another one.
 *
 * The text becomes tokens as for `generate`, and is cut into windows of W tokens (--ctx, 512), one every S (--stride, W); what is left at the end is dropped, unless it is all there is. Each
 * window is computed by itself; where the vocabulary puts a token at the beginning of a text, that one stands in place of the window's first. Predictions count of the tokens from the middle
 * of the window on, index W / 2 + 1 to W - 1; with --stride of the last S, so that no token counts twice. The perplexity is exp of the mean of -log p(token) over all that count.
 *
 * --save-logits writes the logits that count: a .npy file of float32, a row for each, the id of the token that came and then the n_vocab logits. --kl reads such a file of another model,
 * made of the same text with the same windows, and takes for each row sum over tokens of p log(p / q), p the file's distribution, q this model's, in nats. All sums are in binary64.
 *
 * --importance writes how large the inputs of every matrix were, for `quantize --imatrix`; the output matrix counts the rows that are predictions. */
#include "common.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How the text is cut. */
struct windows { size_t length, step, first_counted; };

/* What is added up. */
struct score {
    size_t n;
    double sum, squares;                    /* of -log p */
    double kl_sum, kl_squares, base_sum;    /* of the divergence; of -log p of the base */
    size_t n_same;                          /* rows whose most likely token is the same */
    double *kl;                             /* [n]: every one, for the quantiles */
};

/* A file of saved logits while it is read. */
struct base { FILE *file; const char *path; size_t n_rows, n_columns; float *row; };

/* ---- saved logits ---- */

/* The two numbers of "(rows, columns)" in the header of a .npy file as npy_create writes it. */
static int read_shape(const char *header, size_t *n_rows, size_t *n_columns)
{
    const char *shape = strstr(header, "'shape': (");
    char *end;
    if (!shape || !strstr(header, "'<f4'") || !strstr(header, "'fortran_order': False"))
        return 0;
    *n_rows = strtoull(shape + 10, &end, 10);
    if (*end != ',')
        return 0;
    *n_columns = strtoull(end + 1, &end, 10);
    return *end == ')' && *n_columns > 1 && *n_columns <= SL_LIMIT_VOCABULARY + 1;
}

static struct base open_base(const char *path)
{
    struct base b = { .path = path, .file = fopen(path, "rb") };
    unsigned char start[10];
    char header[1024] = { 0 };
    if (!b.file)
        fail("%s: %s", path, strerror(errno));
    size_t bytes = 0;
    if (fread(start, 1, sizeof start, b.file) == sizeof start && memcmp(start, "\x93NUMPY\x01", 7) == 0)
        bytes = start[8] + 256u * start[9];
    if (!bytes || bytes >= sizeof header || fread(header, 1, bytes, b.file) != bytes || !read_shape(header, &b.n_rows, &b.n_columns))
        fail("%s: not a file that --save-logits wrote", path);
    b.row = take(b.n_columns, sizeof *b.row);
    return b;
}

static void next_base(struct base *b)
{
    if (fread(b->row, sizeof *b->row, b->n_columns, b->file) != b->n_columns)
        fail("%s: it ends too early", b->path);
}

/* ---- sums ---- */

/* log of the sum of exp(logits), and the most likely token. */
static double log_sum(const float *logits, size_t n, size_t *top)
{
    double sum = 0.0;
    *top = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[*top])
            *top = i;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - logits[*top]);
    return logits[*top] + log(sum);
}

static void compare(struct score *s, struct base *base, const float *logits, double log_z, size_t top, sl_token token)
{
    size_t base_top;
    double kl = 0.0;
    const size_t n = base->n_columns - 1;
    const float *theirs = base->row + 1;
    next_base(base);
    if (base->row[0] != (float)token)
        fail("%s: row %zu is about another token: it was made of another text or other windows", base->path, s->n);
    const double base_z = log_sum(theirs, n, &base_top);
    for (size_t i = 0; i < n; i++) {
        const double log_p = theirs[i] - base_z;
        kl += exp(log_p) * (log_p - (logits[i] - log_z));
    }
    kl = kl > 0.0 ? kl : 0.0;       /* it is not negative; rounding may be */
    s->kl[s->n] = kl;
    s->kl_sum += kl;
    s->kl_squares += kl * kl;
    s->base_sum += base_z - theirs[token];
    s->n_same += base_top == top;
}

static void count_row(struct score *s, const float *logits, size_t n_vocab, sl_token token, struct base *base, FILE *save, const char *save_path)
{
    size_t top;
    const double log_z = log_sum(logits, n_vocab, &top), surprise = log_z - logits[token];
    if (save) {
        const float id = (float)token;
        npy_write(save, save_path, &id, 1);
        npy_write(save, save_path, logits, n_vocab);
    }
    if (base)
        compare(s, base, logits, log_z, top, token);
    s->sum += surprise;
    s->squares += surprise * surprise;
    s->n++;
}

/* ---- windows ---- */

static struct windows cut(size_t n, uint64_t ctx, uint64_t stride)
{
    struct windows w = { .length = ctx ? (size_t)ctx : 512 };
    if (n < 3)
        fail("text: %zu tokens are too few", n);
    if (w.length < 3)
        usage_error("--ctx: 3 is the least");
    if (w.length > n) {
        fprintf(stderr, "the text is shorter than a window: one of %zu tokens\n", n);
        w.length = n;
    }
    if (stride >= w.length)
        usage_error("--stride: must be less than the window of %zu", w.length);
    w.step = stride ? (size_t)stride : w.length;
    w.first_counted = stride ? w.length - (size_t)stride : w.length / 2 + 1;
    return w;
}

/* Computes one window and counts its rows. `rows` holds n_batch rows. */
static void run_window(sl_session *session, const sl_token *ids, const struct windows *w, size_t n_batch, size_t n_vocab, float *rows, struct score *s, struct base *base, FILE *save,
                       const char *save_path)
{
    must(sl_session_rewind(session, 0));
    size_t at = w->first_counted - 1;       /* the row that foresees the first token that counts */
    if (at)
        must(sl_session_eval(session, ids, at, NULL, 0));
    for (size_t k; at + 1 < w->length; at += k) {
        k = w->length - 1 - at < n_batch ? w->length - 1 - at : n_batch;
        must(sl_session_eval(session, ids + at, k, rows, k));
        for (size_t i = 0; i < k; i++)
            count_row(s, rows + i * n_vocab, n_vocab, ids[at + i + 1], base, save, save_path);
    }
}

/* ---- results ---- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the mean of n numbers, from their sum and their squares' sum. */
static double standard_error(double sum, double squares, size_t n)
{
    const double mean = sum / (double)n, variance = squares / (double)n - mean * mean;
    return n > 1 && variance > 0.0 ? sqrt(variance / (double)(n - 1)) : 0.0;
}

static void print_result(const sl_session *session, struct score *s, const struct windows *w, size_t n_windows, size_t n_ids, int with_base, int json)
{
    const double mean = s->sum / (double)s->n, error = standard_error(s->sum, s->squares, s->n), n = (double)s->n;
    if (with_base)
        qsort(s->kl, s->n, sizeof *s->kl, ascending);
    const double kl = s->kl_sum / n, kl_error = standard_error(s->kl_sum, s->kl_squares, s->n), base = s->base_sum / n;
    if (json) {
        printf("{\"perplexity\": %.9g, \"error\": %.9g, \"nll\": %.9g, \"tokens\": %zu, \"counted\": %zu, \"windows\": %zu, \"window\": %zu, \"step\": %zu", exp(mean), exp(mean) * error, mean, n_ids, s->n,
               n_windows, w->length, w->step);
        if (with_base)
            printf(", \"kl\": {\"mean\": %.9g, \"error\": %.9g, \"median\": %.9g, \"p99\": %.9g, \"max\": %.9g, \"same_top\": %.9g, \"base_perplexity\": %.9g}", kl, kl_error, s->kl[s->n / 2],
                   s->kl[s->n - 1 - s->n / 100], s->kl[s->n - 1], (double)s->n_same / n, exp(base));
        printf(", ");
        print_json_report(session);
        printf("}\n");
        return;
    }
    printf("perplexity %.6f +- %.6f over %zu tokens in %zu windows of %zu\n", exp(mean), exp(mean) * error, s->n, n_windows, w->length);
    if (with_base)
        printf("KL %.6f +- %.6f nats, median %.6f, 99 %% below %.6f, largest %.6f; same first token %.2f %%; base perplexity %.6f\n", kl, kl_error, s->kl[s->n / 2], s->kl[s->n - 1 - s->n / 100],
               s->kl[s->n - 1], 100.0 * (double)s->n_same / n, exp(base));
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    uint64_t stride = 0;
    const char *save_path = NULL, *kl_path = NULL, *importance_path = NULL;
    const struct option options[] = {
        TEXT_OPTIONS(s),
        { "--stride", "S", "a window every S tokens, whose last S count (0: one after the other, second halves count)", OPTION_WHOLE, &stride, 0, SL_LIMIT_CONTEXT },
        { "--save-logits", "FILE", "write the logits that count to a .npy file", OPTION_TEXT, &save_path },
        { "--kl", "FILE", "compare with such a file of another model", OPTION_TEXT, &kl_path },
        { "--importance", "FILE", "write an importance matrix for quantize: all tokens of all windows count", OPTION_TEXT, &importance_path },
        COMPUTE_OPTIONS(s),
    };
    read_options("perplexity", "-m FILE (-f FILE | -p TEXT) [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    size_t length, n;
    char *text = read_prompt(&s, &length);
    struct base base = { 0 };
    if (kl_path)
        base = open_base(kl_path);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    sl_token *ids = encode(model, &s, text, length, &n);
    const sl_token bos = sl_token_special(model, "bos");
    const int begins = n && bos != SL_TOKEN_NONE && ids[0] == bos;
    const struct windows w = cut(n, s.ctx, stride);
    const size_t n_windows = (n - w.length) / w.step + 1, n_counted = n_windows * (w.length - w.first_counted), n_batch = s.batch && s.batch < w.length ? (size_t)s.batch : w.length < 512 ? w.length : 512;
    sl_model_info info = { sizeof info };
    must(sl_model_get_info(model, &info));
    if (kl_path && (base.n_columns != (size_t)info.n_vocab + 1 || base.n_rows != n_counted))
        fail("%s: %zu rows for %zu tokens; the text has %zu rows, the model %u tokens", kl_path, base.n_rows, base.n_columns - 1, n_counted, (unsigned)info.n_vocab);
    s.ctx = w.length;
    sl_session *session = open_session(model, &s, w.length);
    sl_importance *importance = NULL;
    if (importance_path)
        must(sl_importance_create(&importance, session, s.prompt_file ? s.prompt_file : "a text of the command line"));
    FILE *save = save_path ? npy_create(save_path, n_counted, (size_t)info.n_vocab + 1) : NULL;
    struct score score = { .kl = take(n_counted, sizeof *score.kl) };
    float *rows = take(n_batch * info.n_vocab, sizeof *rows);
    for (size_t i = 0; i < n_windows; i++) {
        sl_token *window = ids + i * w.step, first = window[0];
        if (begins)
            window[0] = bos;
        run_window(session, window, &w, n_batch, info.n_vocab, rows, &score, kl_path ? &base : NULL, save, save_path);
        window[0] = first;
        fprintf(stderr, "window %zu of %zu: %.4f\n", i + 1, n_windows, exp(score.sum / (double)score.n));
    }
    if (save)
        npy_close(save, save_path);
    if (importance)
        must(sl_importance_save(importance, importance_path));
    print_result(session, &score, &w, n_windows, n, kl_path != NULL, s.json);
    end_output();
    report(session);

    if (base.file)
        fclose(base.file);
    free(base.row);
    free(score.kl);
    free(rows);
    sl_importance_free(importance);
    sl_session_free(session);
    sl_model_free(model);
    free(ids);
    free(text);
    return 0;
}
