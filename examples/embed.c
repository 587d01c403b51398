/* SPDX-License-Identifier: MIT */
/* embed.c - texts as vectors: one line of numbers for each text, or how similar the texts are. */
#include "common.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The texts: words of the command line, or lines of a file. */
struct texts { char *bytes; const char **at; size_t *lengths, n; };

/* A line each; what stands behind the last line break is one if it is not empty. */
static struct texts split(char *bytes, size_t length)
{
    struct texts t = { .bytes = bytes };
    size_t n_lines = 1;
    for (size_t i = 0; i < length; i++)
        n_lines += bytes[i] == '\n';
    t.at = take(n_lines, sizeof *t.at);
    t.lengths = take(n_lines, sizeof *t.lengths);
    for (size_t i = 0; i < length;) {
        const char *end = memchr(bytes + i, '\n', length - i);
        const size_t n = end ? (size_t)(end - bytes) - i : length - i;
        t.at[t.n] = bytes + i;
        t.lengths[t.n++] = n && bytes[i + n - 1] == '\r' ? n - 1 : n;
        i += n + 1;
    }
    return t;
}

static struct texts read_texts(const struct settings *s, const char **words, size_t n_words)
{
    size_t n = 0, length;
    while (n < n_words && words[n])
        n++;
    if (n && s->prompt_file)
        usage_error("-f: not together with texts on the command line");
    if (s->prompt_file || !n) {
        FILE *file = s->prompt_file ? fopen(s->prompt_file, "rb") : stdin;
        if (!file)
            fail("%s: %s", s->prompt_file, strerror(errno));
        char *bytes = read_all(file, s->prompt_file ? s->prompt_file : "stdin", &length);
        if (s->prompt_file)
            fclose(file);
        return split(bytes, length);
    }
    struct texts t = { .at = take(n, sizeof *t.at), .lengths = take(n, sizeof *t.lengths), .n = n };
    for (size_t i = 0; i < n; i++) {
        t.at[i] = words[i];
        t.lengths[i] = strlen(words[i]);
    }
    return t;
}

/* ---- from texts to vectors ---- */

/* Their ids, one text behind the other. */
struct ids { sl_token *ids; size_t *lengths, n, longest; };

static struct ids encode_all(const sl_model *model, const struct settings *s, const struct texts *t)
{
    struct ids all = { .lengths = take(t->n, sizeof *all.lengths) };
    size_t room = 0;
    for (size_t i = 0; i < t->n; i++) {
        sl_token *ids = encode(model, s, t->at[i], t->lengths[i], &all.lengths[i]);
        if (all.lengths[i] > room - all.n) {
            room = 2 * room + all.lengths[i];
            sl_token *grown = realloc(all.ids, room * sizeof *grown);
            if (!grown)
                fail("memory: no room for %zu tokens", room);
            all.ids = grown;
        }
        if (!all.lengths[i]) {
            free(ids);
            fail("text %zu: no tokens", i + 1);
        }
        memcpy(all.ids + all.n, ids, all.lengths[i] * sizeof *ids);
        free(ids);
        all.n += all.lengths[i];
        all.longest = all.lengths[i] > all.longest ? all.lengths[i] : all.longest;
    }
    return all;
}

static sl_session *open_for(sl_model *model, const struct settings *s, const struct ids *ids, size_t n_texts, uint64_t n_seq)
{
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    const size_t n_ctx = s->ctx ? (size_t)s->ctx : ids->longest;
    if (ids->longest > n_ctx || n_ctx > SL_LIMIT_CONTEXT)
        fail("text: %zu tokens do not fit into a context of %zu", ids->longest, n_ctx < SL_LIMIT_CONTEXT ? n_ctx : SL_LIMIT_CONTEXT);
    o.n_ctx = (uint32_t)n_ctx;
    o.n_batch = (uint32_t)s->batch;
    o.cache_type = s->kv;
    o.n_seq = (uint32_t)(n_texts < n_seq ? n_texts : n_seq);
    sl_session *session;
    must(sl_session_create(&session, model, &o));
    return session;
}

/* ---- what goes out ---- */

static void print_row(const float *x, size_t n, const char *between)
{
    for (size_t i = 0; i < n; i++)
        printf("%s%.9g", i ? between : "", (double)x[i]);
}

/* Cosines of all pairs. */
static float *compare(const float *rows, size_t n_rows, size_t n_embd)
{
    float *cosines = take(n_rows * n_rows, sizeof *cosines);
    for (size_t a = 0; a < n_rows; a++)
        for (size_t b = 0; b < n_rows; b++) {
            double product = 0, aa = 0, bb = 0;
            for (size_t i = 0; i < n_embd; i++) {
                const double x = rows[a * n_embd + i], y = rows[b * n_embd + i];
                product += x * y, aa += x * x, bb += y * y;
            }
            cosines[a * n_rows + b] = aa > 0 && bb > 0 ? (float)(product / sqrt(aa * bb)) : 0;
        }
    return cosines;
}

static void print_lines(const float *rows, size_t n_rows, size_t n_columns)
{
    for (size_t i = 0; i < n_rows; i++, rows += n_columns) {
        print_row(rows, n_columns, " ");
        putchar('\n');
    }
}

static void print_table(const float *rows, size_t n)
{
    for (size_t i = 0; i < n * n; i++)
        printf("%7.4f%c", (double)rows[i], (i + 1) % n ? ' ' : '\n');
}

static void print_json_rows(const char *name, const float *rows, size_t n_rows, size_t n_columns)
{
    printf("\"%s\": [", name);
    for (size_t i = 0; i < n_rows; i++, rows += n_columns) {
        printf(i ? ",\n[" : "\n[");
        print_row(rows, n_columns, ", ");
        putchar(']');
    }
    printf("], ");
}

static void print_json(const sl_session *session, size_t n_tokens, const float *rows, size_t n_rows, size_t n_embd, const float *cosines)
{
    printf("{\"n_embd\": %zu, \"tokens\": %zu, ", n_embd, n_tokens);
    print_json_rows("vectors", rows, n_rows, n_embd);
    if (cosines)
        print_json_rows("cosines", cosines, n_rows, n_rows);
    print_json_report(session);
    printf("}\n");
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    const char *pooling = NULL;
    uint64_t n_seq = 16;
    int raw = 0, similar = 0;
    const struct option options[] = {
        { "-m", "FILE", "the model, or the first file of one", OPTION_TEXT, &s.model },
        { "-f", "FILE", "a file with a text on each line", OPTION_TEXT, &s.prompt_file },
        { "--pooling", "NAME", "mean, last, or none: a vector for each token (default: what the file says, or mean)", OPTION_TEXT, &pooling },
        { "--raw", "", "leave vectors as long as they are", OPTION_FLAG, &raw },
        { "--similar", "", "print the cosines of all pairs instead", OPTION_FLAG, &similar },
        { "--seqs", "N", "texts that are computed side by side (16)", OPTION_WHOLE, &n_seq, 1, SL_LIMIT_SEQUENCES },
        { "--json", "", "print one JSON object", OPTION_FLAG, &s.json },
        { "--pre", "NAME", "pre-tokenizer to use instead of the file's", OPTION_TEXT, &s.pre },
        { "--no-bos", "", "add no special tokens to the texts", OPTION_FLAG, &s.no_bos },
        { "--no-special", "", "text that spells a special token stays text", OPTION_FLAG, &s.no_special },
        COMPUTE_OPTIONS(s),
    };
    const char **words = take((size_t)argc, sizeof *words);
    read_operands("embed", "-m FILE [option]... [TEXT]... (without texts: lines of -f or of the standard input)", options, sizeof options / sizeof *options, argc, argv, words, (size_t)argc - 1);
    if (!s.model)
        usage_error("-m: a model is required (try --help)");
    struct texts texts = read_texts(&s, words, (size_t)argc);
    if (!texts.n)
        fail("text: there is none");
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    sl_model_info info = { sizeof info };
    must(sl_model_get_info(model, &info));
    struct ids ids = encode_all(model, &s, &texts);
    sl_session *session = open_for(model, &s, &ids, texts.n, n_seq);
    const size_t n_rows = pooling && strcmp(pooling, "none") == 0 ? ids.n : texts.n;
    float *rows = take(n_rows, info.n_embd * sizeof *rows);
    sl_embed_options o = SL_EMBED_OPTIONS_INIT;
    o.pooling = pooling;
    o.flags = raw ? SL_EMBED_RAW : 0;
    must(sl_session_embed(session, ids.ids, ids.lengths, texts.n, &o, rows, n_rows));
    report(session);
    float *cosines = similar ? compare(rows, n_rows, info.n_embd) : NULL;
    if (s.json)
        print_json(session, ids.n, rows, n_rows, info.n_embd, cosines);
    else if (similar)
        print_table(cosines, n_rows);
    else
        print_lines(rows, n_rows, info.n_embd);
    end_output();

    sl_session_free(session);
    sl_model_free(model);
    free(cosines);
    free(rows);
    free(ids.ids);
    free(ids.lengths);
    free(texts.at);
    free(texts.lengths);
    free(texts.bytes);
    free(words);
    return 0;
}
