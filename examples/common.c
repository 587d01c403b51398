/* SPDX-License-Identifier: MIT */
/* common.c - see common.h. */
#include "common.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *name_of_program = "";

/* ---- failing ---- */

/* One line, whatever the text holds: file names may contain anything. */
static void complain(const char *format, va_list args)
{
    char line[1024];
    vsnprintf(line, sizeof line, format, args);
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", name_of_program, line);
}

void usage_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    exit(2);
}

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    exit(1);
}

void must(sl_status status)
{
    if (status != SL_OK)
        fail("%s", sl_last_error());
}

void *take(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p)
        fail("memory: no %zu x %zu bytes", n, size);
    return p;
}

/* ---- options ---- */

static void print_help(const char *about, const struct option *options, size_t n)
{
    printf("usage: %s %s\n\n", name_of_program, about);
    for (size_t i = 0; i < n; i++)
        printf("  %-12s %-6s %s\n", options[i].name, options[i].value, options[i].help);
    printf("  %-12s %-6s %s\n", "--help", "", "this text");
    end_output();
    exit(0);
}

static void set_number(const struct option *o, const char *text)
{
    char *end = NULL;
    double value;
    errno = 0;
    if (o->kind == OPTION_WHOLE) {
        unsigned long long whole = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
        *(uint64_t *)o->to = whole;
        value = (double)whole;
    } else {
        value = strtod(text, &end);
        *(double *)o->to = value;
    }
    if (!end || end == text || *end)
        usage_error("%s: \"%s\" is not a %s", o->name, text, o->kind == OPTION_WHOLE ? "whole number" : "number");
    if (errno || !(value >= o->low && value <= o->high))
        usage_error("%s: %s is not in %g to %g", o->name, text, o->low, o->high);
}

/* The option that `argument` names, as "--name" or "--name=value"; *value points behind the "=" then. */
static const struct option *find_option(const struct option *options, size_t n, const char *argument, const char **value)
{
    const char *equals = strncmp(argument, "--", 2) == 0 ? strchr(argument, '=') : NULL;
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    *value = equals ? equals + 1 : NULL;
    for (size_t i = 0; i < n; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, argument, length) == 0)
            return &options[i];
    return NULL;
}

void read_options(const char *program, const char *about, const struct option *options, size_t n, int argc, char **argv, const char **operand)
{
    name_of_program = program;
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i], *value;
        if (strcmp(argument, "--help") == 0)
            print_help(about, options, n);
        const struct option *o = find_option(options, n, argument, &value);
        if (!o && argument[0] != '-' && operand && !*operand) {
            *operand = argument;
            continue;
        }
        if (!o)
            usage_error("%s: unknown %s (try --help)", argument, argument[0] == '-' ? "option" : "argument");
        if (o->kind == OPTION_FLAG) {
            if (value)
                usage_error("%s: takes no value", o->name);
            *(int *)o->to = 1;
            continue;
        }
        if (!value && i + 1 == argc)
            usage_error("%s: a value is missing", o->name);
        value = value ? value : argv[++i];
        if (o->kind == OPTION_TEXT)
            *(const char **)o->to = value;
        else
            set_number(o, value);
    }
}

/* ---- models and text ---- */

static void print_log(int32_t level, const char *line, void *user)
{
    (void)user;
    if (level <= SL_LOG_WARN)
        fprintf(stderr, "%s: %s\n", level == SL_LOG_WARN ? "warning" : "error", line);
}

static void need_model(const struct settings *s)
{
    if (!s->model)
        usage_error("-m: a model is required (try --help)");
}

sl_model *load_model(const struct settings *s, uint32_t parts)
{
    need_model(s);
    sl_model_options options = SL_MODEL_OPTIONS_INIT;
    options.backend = s->backend;
    options.cpu_level = s->cpu_level;
    options.arith = s->arith;
    options.pre = s->pre;
    options.n_threads = (uint32_t)s->threads;
    options.in_place = (uint32_t)s->no_pack;
    options.parts = parts;
    options.log = print_log;
    sl_model *model;
    struct timespec before, after;
    timespec_get(&before, TIME_UTC);
    must(sl_model_load(&model, s->model, &options));
    timespec_get(&after, TIME_UTC);
    if (parts == SL_PARTS_ALL)
        fprintf(stderr, "load: %.3f s\n", (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) * 1e-9);
    return model;
}

sl_session *open_session(sl_model *model, const struct settings *s, uint64_t n_ctx)
{
    sl_session_options options = SL_SESSION_OPTIONS_INIT;
    options.n_ctx = (uint32_t)(s->ctx ? s->ctx : n_ctx < SL_LIMIT_CONTEXT ? n_ctx : SL_LIMIT_CONTEXT);
    options.n_batch = (uint32_t)s->batch;
    options.cache_type = s->kv;
    sl_session *session;
    must(sl_session_create(&session, model, &options));
    return session;
}

char *read_prompt(const struct settings *s, size_t *length)
{
    need_model(s);
    if (!s->prompt == !s->prompt_file)
        usage_error("-p, -f: one of the two is required (try --help)");
    if (s->prompt) {
        *length = strlen(s->prompt);
        return memcpy(take(*length + 1, 1), s->prompt, *length);
    }
    FILE *file = fopen(s->prompt_file, "rb");
    if (!file)
        fail("%s: %s", s->prompt_file, strerror(errno));
    size_t size = 0, room = 0, got;
    char *text = NULL;
    do {
        if (size == room) {
            room = room ? 2 * room : 65536;
            char *grown = realloc(text, room);
            if (!grown)
                fail("%s: no memory for %zu bytes", s->prompt_file, room);
            text = grown;
        }
        size += got = fread(text + size, 1, room - size, file);
    } while (got);
    if (ferror(file))
        fail("%s: %s", s->prompt_file, strerror(errno));
    fclose(file);
    *length = size;
    return text;
}

sl_token *encode(const sl_model *model, const struct settings *s, const char *text, size_t length, size_t *n)
{
    uint32_t flags = (s->no_bos ? 0 : SL_ENCODE_ADD_SPECIAL) | (s->no_special ? 0 : SL_ENCODE_PARSE_SPECIAL);
    size_t room = length + 16;      /* rarely is a token shorter than a byte */
    sl_token *ids = take(room, sizeof *ids);
    sl_status status = sl_encode(model, text, length, flags, ids, room, n);
    if (status == SL_ERR_BUFFER) {
        free(ids);
        ids = take(*n, sizeof *ids);
        status = sl_encode(model, text, length, flags, ids, *n, n);
    }
    must(status);
    return ids;
}

/* ---- output ---- */

void report(const sl_session *session)
{
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(session, &stats));
    fprintf(stderr, "implementations:");
    const char *label;
    for (size_t i = 0; (label = sl_session_label(session, i)) != NULL; i++)
        fprintf(stderr, " %s", label);
    fprintf(stderr, "\nthreads: %llu\npasses: %llu\n", (unsigned long long)stats.n_threads, (unsigned long long)stats.n_passes);
}

void print_json_report(const sl_session *session)
{
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(session, &stats));
    const char *label;
    printf("\"labels\": [");
    for (size_t i = 0; (label = sl_session_label(session, i)) != NULL; i++)
        printf("%s\"%s\"", i ? ", " : "", label);
    printf("], \"threads\": %llu, \"passes\": %llu", (unsigned long long)stats.n_threads, (unsigned long long)stats.n_passes);
}

/* Bytes of the well-formed UTF-8 sequence at p, 0 if there is none. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
    size_t n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    int bad = (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : n;
}

void print_json_text(const char *text, size_t length)
{
    const unsigned char *p = (const unsigned char *)text;
    putchar('"');
    for (size_t i = 0, n; i < length; i += n ? n : 1) {
        n = utf8_sequence(p + i, length - i);
        if (!n)
            fputs("\\ufffd", stdout);
        else if (p[i] == '"' || p[i] == '\\')
            printf("\\%c", p[i]);
        else if (p[i] < 0x20 || p[i] == 0x7f)
            printf("\\u%04x", p[i]);
        else
            fwrite(p + i, 1, n, stdout);
    }
    putchar('"');
}

void print_ids(const sl_token *ids, size_t n)
{
    putchar('[');
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i ? ", " : "", (int)ids[i]);
    putchar(']');
}

void end_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("stdout: %s", strerror(errno));
}

FILE *npy_create(const char *path, size_t n_rows, size_t n_columns)
{
    /* Magic, version 1.0, the header's length in two bytes, then a Python dictionary padded so that the data begin at a multiple of 64. */
    char head[128];
    int n = snprintf(head + 10, sizeof head - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", n_rows, n_columns);
    size_t total = ((size_t)n + 10 + 1 + 63) / 64 * 64;
    memcpy(head, "\x93NUMPY\1\0", 8);
    head[8] = (char)((total - 10) & 0xff);
    head[9] = (char)((total - 10) >> 8);
    memset(head + 10 + n, ' ', total - 10 - (size_t)n);
    head[total - 1] = '\n';
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(head, 1, total, file) != total)
        fail("%s: %s", path, strerror(errno));
    return file;
}

void npy_write(FILE *file, const char *path, const float *values, size_t n)
{
    for (size_t i = 0; i < n;) {
        /* Little-endian, whatever this machine is. */
        unsigned char bytes[4096];
        size_t fill = 0;
        for (; i < n && fill < sizeof bytes; i++, fill += 4) {
            uint32_t u;
            memcpy(&u, &values[i], 4);
            for (int k = 0; k < 4; k++)
                bytes[fill + (size_t)k] = (unsigned char)(u >> 8 * k);
        }
        if (fwrite(bytes, 1, fill, file) != fill)
            fail("%s: %s", path, strerror(errno));
    }
}

void npy_close(FILE *file, const char *path)
{
    if (fclose(file) != 0)
        fail("%s: %s", path, strerror(errno));
}
