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
        printf("  %-14s %-6s %s\n", options[i].name, options[i].value, options[i].help);
    printf("  %-14s %-6s %s\n", "--help", "", "this text");
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

size_t read_numbers(const char *option, const char *text, double *values, size_t most)
{
    size_t n = 0;
    for (const char *at = text;; at++) {
        char *end = NULL;
        if (n == most)
            usage_error("%s: \"%s\" is more than %zu numbers", option, text, most);
        if ((*at >= '0' && *at <= '9') || *at == '-' || *at == '.')
            values[n++] = strtod(at, &end);
        if (!end || end == at || (*end && *end != ',') || values[n - 1] != values[n - 1])
            usage_error("%s: \"%s\" is not numbers with commas between them", option, text);
        if (!*end)
            return n;
        at = end;
    }
}

static void set_numbers(const struct option *o, const char *text)
{
    struct numbers *to = o->to;
    to->n = read_numbers(o->name, text, to->values, sizeof to->values / sizeof *to->values);
}

/* The values of all lists, given back when the program ends, whichever way it does. A list has no more of them than the command line has words. */
static const char **list_texts;

static void free_lists(void)
{
    free(list_texts);
}

static void make_lists(const struct option *options, size_t n, size_t n_words)
{
    size_t n_lists = 0;
    for (size_t i = 0; i < n; i++)
        n_lists += options[i].kind == OPTION_LIST;
    list_texts = take(n_lists * n_words, sizeof *list_texts);
    if (atexit(free_lists))
        fail("memory: no room for what is done at the end");
    for (size_t i = 0, list = 0; i < n; i++)
        if (options[i].kind == OPTION_LIST)
            *(struct list *)options[i].to = (struct list) { .texts = list_texts + n_words * list++ };
}

static void append_text(struct list *list, const char *text)
{
    list->texts[list->n++] = text;
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
    read_operands(program, about, options, n, argc, argv, operand, operand != NULL);
}

void read_operands(const char *program, const char *about, const struct option *options, size_t n, int argc, char **argv, const char **operands, size_t most)
{
    size_t n_operands = 0;
    name_of_program = program;
    make_lists(options, n, (size_t)argc);
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i], *value;
        if (strcmp(argument, "--help") == 0)
            print_help(about, options, n);
        const struct option *o = find_option(options, n, argument, &value);
        if (!o && argument[0] != '-' && n_operands < most) {
            operands[n_operands++] = argument;
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
        else if (o->kind == OPTION_LIST)
            append_text(o->to, value);
        else if (o->kind == OPTION_NUMBERS)
            set_numbers(o, value);
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

sl_model_options model_options(const struct settings *s, uint32_t parts)
{
    sl_model_options options = SL_MODEL_OPTIONS_INIT;
    options.backend = s->backend;
    options.cpu_level = s->cpu_level;
    options.arith = s->arith;
    options.pre = s->pre;
    options.n_threads = (uint32_t)s->threads;
    options.in_place = (uint32_t)s->no_pack;
    options.weight_cache = s->weight_cache;
    options.pin = (uint32_t)s->pin;
    options.parts = parts;
    options.log = print_log;
    options.projector = s->projector;
    options.cross_norm = s->cross_norm;
    options.global_gates = s->global_gates;
    return options;
}

double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

sl_model *load_model(const struct settings *s, uint32_t parts)
{
    need_model(s);
    const sl_model_options options = model_options(s, parts);
    const double before = seconds();
    sl_model *model;
    must(sl_model_load(&model, s->model, &options));
    if (parts == SL_PARTS_ALL)
        fprintf(stderr, "load: %.3f s\n", seconds() - before);
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

char *read_all(FILE *file, const char *name, size_t *length)
{
    size_t size = 0, room = 0, got;
    char *text = NULL;
    do {
        if (room - size < 2) {
            room = room ? 2 * room : 65536;
            char *grown = realloc(text, room);
            if (!grown)
                fail("%s: no memory for %zu bytes", name, room);
            text = grown;
        }
        size += got = fread(text + size, 1, room - size - 1, file);
    } while (got);
    if (ferror(file))
        fail("%s: %s", name, strerror(errno));
    text[size] = '\0';
    *length = size;
    return text;
}

char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    char *text = read_all(file, path, length);
    fclose(file);
    return text;
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
    return read_file(s->prompt_file, length);
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

/* ---- pictures ---- */

struct pictures load_pictures(const struct settings *s)
{
    struct pictures p = { .n = s->images.n, .paths = s->images.texts, .images = take(s->images.n, sizeof *p.images) };
    const double before = seconds();
    for (size_t i = 0; i < p.n; i++)
        must(sl_image_load(&p.images[i], p.paths[i], NULL));
    p.seconds = seconds() - before;
    return p;
}

size_t image_tokens(const sl_model *model, const sl_image *image, sl_token token)
{
    size_t n, n_tokens = 0;
    sl_status status = sl_image_encode(model, image, NULL, 0, &n);
    if (status != SL_ERR_BUFFER)
        must(status);
    sl_token *ids = take(n, sizeof *ids);
    must(sl_image_encode(model, image, ids, n, &n));
    for (size_t i = 0; i < n; i++)
        n_tokens += ids[i] == token;
    free(ids);
    return n_tokens;
}

void check_pictures(const sl_model *model)
{
    sl_model_info info = { sizeof info };
    must(sl_model_get_info(model, &info));
    if (info.image_token == SL_TOKEN_NONE)
        fail("--image: the model takes no pictures%s%s", *info.vision ? ": " : "", info.vision);
}

void add_pictures(sl_session *session, const struct pictures *p, const sl_token *ids, size_t n)
{
    sl_model_info info = { sizeof info };
    size_t n_tokens = 0, n_wanted = 0;
    must(sl_model_get_info(sl_session_model(session), &info));
    if (p->n)
        check_pictures(sl_session_model(session));
    for (size_t i = 0; i < n; i++)
        n_tokens += info.image_token != SL_TOKEN_NONE && ids[i] == info.image_token;
    for (size_t i = 0; i < p->n; i++)
        n_wanted += image_tokens(sl_session_model(session), p->images[i], info.image_token);
    if (n_tokens != n_wanted)
        fail("--image: the prompt has %zu image tokens, the %zu pictures that are given take %zu", n_tokens, p->n, n_wanted);
    for (size_t i = 0; i < p->n; i++)
        must(sl_session_add_image(session, p->images[i]));
}

void free_pictures(struct pictures *p)
{
    for (size_t i = 0; i < p->n; i++)
        sl_image_free(p->images[i]);
    free(p->images);
}
