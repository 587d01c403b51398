/* SPDX-License-Identifier: MIT */
/* quantize.c - writes a model file with smaller weights. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

static double begun;
static int last_percent = -1;

/* Told on stderr, a line for every twentieth. */
static int32_t show(uint64_t done, uint64_t total, void *user)
{
    const int percent = total ? (int)((double)done * 100.0 / (double)total) : 100;
    (void)user;
    if (percent / 5 != last_percent / 5 || last_percent < 0)
        fprintf(stderr, "%3d %%, %.1f s\n", percent, seconds() - begun);
    last_percent = percent;
    return 0;
}

static void print_line(int32_t level, const char *line, void *user)
{
    (void)user;
    if (level <= SL_LOG_WARN)
        fprintf(stderr, "%s: %s\n", level == SL_LOG_WARN ? "warning" : "error", line);
}

/* "PATTERN=TYPE" of each --tensor. The texts are cut where the "=" stands, in memory of their own. */
static sl_quantize_override *read_overrides(const struct list *list)
{
    sl_quantize_override *all = take(list->n, sizeof *all);
    for (size_t i = 0; i < list->n; i++) {
        const size_t bytes = strlen(list->texts[i]) + 1;
        char *text = memcpy(take(bytes, 1), list->texts[i], bytes), *equals = strrchr(text, '=');
        if (!equals || equals == text || !equals[1])
            usage_error("--tensor: \"%s\" is not PATTERN=TYPE", list->texts[i]);
        *equals = '\0';
        all[i] = (sl_quantize_override) { sizeof *all, text, equals + 1 };
    }
    return all;
}

static void print_result(const sl_quantize_result *r, uint32_t threads, int json)
{
    const double encode = (double)r->encode_ns * 1e-9, all = seconds() - begun;
    if (json)
        printf("{\"tensors\": %u, \"changed\": %u, \"odd_rows\": %u, \"weighted\": %u, \"bytes_in\": %llu, \"bytes_out\": %llu, \"encode_s\": %.3f, \"seconds\": %.3f}\n", r->n_tensors,
               r->n_changed, r->n_odd, r->n_weighted, (unsigned long long)r->bytes_in, (unsigned long long)r->bytes_out, encode, all);
    fprintf(stderr, "%u tensors, %u of them changed; %.1f MB from %.1f MB; encoded in %.2f s, %.0f MB of the input per second", r->n_tensors, r->n_changed, (double)r->bytes_out * 1e-6,
            (double)r->bytes_in * 1e-6, encode, encode > 0.0 ? (double)r->bytes_in * 1e-6 / encode : 0.0);
    if (threads)
        fprintf(stderr, " with %u threads", threads);
    fprintf(stderr, "; %.2f s in all\n", all);
}

int main(int argc, char **argv)
{
    uint64_t threads = 0;
    int pure = 0, json = 0, list_targets = 0;
    struct list tensors = { 0 };
    const char *operands[3] = { 0 }, *importance = NULL;
    const struct option options[] = {
        { "-t", "N", "threads (0: as many as physical cores)", OPTION_WHOLE, &threads, 0, SL_LIMIT_THREADS },
        { "--imatrix", "FILE", "importance matrix, a GGUF file", OPTION_TEXT, &importance },
        { "--tensor", "P=TYPE", "tensors whose name fits the pattern P (* and ?) take TYPE, or \"keep\"; once for each", OPTION_LIST, &tensors },
        { "--pure", "", "every matrix takes the same type", OPTION_FLAG, &pure },
        { "--list", "", "print the names of all types and mixes", OPTION_FLAG, &list_targets },
        { "--json", "", "print one JSON object", OPTION_FLAG, &json },
    };
    read_operands("quantize", "IN OUT TYPE [option]...", options, sizeof options / sizeof *options, argc, argv, operands, 3);
    for (size_t i = 0; list_targets && sl_quantize_target(i); i++)
        printf("%s\n", sl_quantize_target(i));
    if (!list_targets) {
        if (!operands[2])
            usage_error("IN OUT TYPE: %s is missing (try --help)", operands[1] ? "TYPE" : operands[0] ? "OUT" : "IN");
        sl_quantize_options o = SL_QUANTIZE_OPTIONS_INIT;
        sl_quantize_result result = { sizeof result };
        sl_quantize_override *overrides = read_overrides(&tensors);
        o.n_threads = (uint32_t)threads;
        o.flags = pure ? SL_QUANTIZE_PURE : 0;
        o.overrides = overrides;
        o.n_overrides = tensors.n;
        o.importance = importance;
        o.progress = show;
        o.log = print_line;
        begun = seconds();
        must(sl_quantize(operands[0], operands[1], operands[2], &o, &result));
        print_result(&result, o.n_threads, json);
        for (size_t i = 0; i < tensors.n; i++)
            free((void *)(uintptr_t)overrides[i].pattern);
        free(overrides);
    }
    end_output();
    return 0;
}
