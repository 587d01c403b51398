/* SPDX-License-Identifier: MIT */
/* inspect.c - what is in a GGUF file: metadata, tensors, sizes, and the memory that running it takes. Any well-formed file will do. */
#include "common.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { SHOWN_ELEMENTS = 6, SHOWN_BYTES = 100, MAX_TYPES = 64, N_NUMBERS = 13, N_VISION = 3 };

static const char *meta_type_name(int32_t type)
{
    static const char *const names[] = {
#define NAME(name, value) [value] = #name,
        SL_META_LIST(NAME)
#undef NAME
    };
    return type >= 0 && (size_t)type < sizeof names / sizeof *names ? names[type] : "?";
}

static void print_number(double value, int digits)
{
    if (isfinite(value))
        printf("%.*g", digits, value);
    else
        printf("null");     /* JSON has no word for it */
}

/* Element `element` of pair `index`; strings are cut after `most` bytes. */
static void print_element(const sl_model *model, size_t index, int32_t type, uint64_t element, size_t most)
{
    int64_t whole;
    double real;
    const char *text;
    size_t length;
    if (type == SL_META_STRING) {
        must(sl_model_meta_string(model, index, element, &text, &length));
        print_json_text(text, length < most ? length : most);
        if (length > most)
            printf("... (%zu bytes)", length);
    } else if (type == SL_META_F32 || type == SL_META_F64) {
        must(sl_model_meta_float(model, index, element, &real));
        print_number(real, type == SL_META_F32 ? 9 : 17);
    } else if (type == SL_META_ARRAY) {
        printf("null");     /* arrays of arrays are counted only */
    } else if (sl_model_meta_int(model, index, element, &whole) == SL_OK) {
        if (type == SL_META_BOOL)
            printf("%s", whole ? "true" : "false");
        else
            printf("%" PRId64, whole);
    } else {                /* an unsigned number of 64 bits with the highest set */
        must(sl_model_meta_float(model, index, element, &real));
        printf("%.0f", real);
    }
}

static void print_value(const sl_model *model, size_t index, const sl_meta *meta, uint64_t most_elements, size_t most_bytes)
{
    if (meta->type != SL_META_ARRAY) {
        print_element(model, index, meta->type, 0, most_bytes);
        return;
    }
    uint64_t n = meta->count < most_elements ? meta->count : most_elements;
    putchar('[');
    for (uint64_t i = 0; i < n; i++) {
        if (i)
            printf(", ");
        print_element(model, index, meta->element_type, i, most_bytes);
    }
    printf(n < meta->count ? ", ...]" : "]");
}

/* ---- totals per type ---- */

struct total { const char *type; uint64_t n, bytes; };

static size_t add_up(const sl_model *model, struct total *totals)
{
    size_t n = 0;
    for (size_t i = 0; i < sl_model_tensor_count(model); i++) {
        sl_tensor_info t = { sizeof t };
        must(sl_model_tensor(model, i, &t));
        size_t k = 0;
        while (k < n && strcmp(totals[k].type, t.type) != 0)
            k++;
        if (k == n && n < MAX_TYPES)
            totals[n++] = (struct total) { .type = t.type };
        if (k < n) {
            totals[k].n++;
            totals[k].bytes += t.bytes;
        }
    }
    return n;
}

/* ---- the two forms ---- */

struct number { const char *name; uint64_t value; };

/* The number (or the first of several) under "<architecture>.<key>", 0 if there is none: the file's own word, whether the library runs it or not. */
static uint64_t hyper(const sl_model *model, const sl_model_info *info, const char *key)
{
    char full[256];
    size_t index;
    int64_t value;
    int n = snprintf(full, sizeof full, "%s.%s", info->architecture, key);
    if (n < 0 || (size_t)n >= sizeof full || sl_model_meta_find(model, full, &index) != SL_OK || sl_model_meta_int(model, index, 0, &value) != SL_OK)
        return 0;
    return value > 0 ? (uint64_t)value : 0;
}

/* Elements of an array, 0 if there is none. */
static uint64_t count(const sl_model *model, const char *key)
{
    size_t index;
    sl_meta meta = { sizeof meta };
    return sl_model_meta_find(model, key, &index) == SL_OK && sl_model_meta(model, index, &meta) == SL_OK ? meta.count : 0;
}

/* Id of the token with this text, searched from the end, where the special ones are; n_vocab if there is none. */
static uint64_t find_token(const sl_model *model, const char *wanted)
{
    static const char key[] = "tokenizer.ggml.tokens";
    const uint64_t n = count(model, key);
    size_t index, length;
    const char *text;
    if (sl_model_meta_find(model, key, &index) != SL_OK)
        return n;
    for (uint64_t i = n; i-- > 0;)
        if (sl_model_meta_string(model, index, i, &text, &length) == SL_OK && length == strlen(wanted) && memcmp(text, wanted, length) == 0)
            return i;
    return n;
}

/* The numbers of the image part, at most N_VISION. In two-file layouts they stand in the projector file. */
static size_t add_vision(struct number *to, const sl_model *model, const sl_model_info *info, const struct settings *s)
{
    size_t n = 0;
    if (!*info->vision)
        return 0;
    sl_model *projector = s->projector ? load_model(&(struct settings) { .model = s->projector }, SL_PARTS_METADATA) : NULL;
    to[n++] = (struct number) { "tile_side", hyper(projector ? projector : model, info, "vision.image_size") };
    to[n++] = (struct number) { "max_tiles", hyper(projector ? projector : model, info, "vision.max_num_tiles") };
    sl_model_free(projector);
    const uint64_t token = find_token(model, "<|image|>");
    if (token < count(model, "tokenizer.ggml.tokens"))
        to[n++] = (struct number) { "image_token", token };
    return n;
}

static void print_text(const sl_model *model, const sl_model_info *info, const struct number *numbers, size_t n_numbers)
{
    printf("architecture: ");
    print_json_text(info->architecture, strlen(info->architecture));     /* quoted: any bytes may stand there */
    printf("\nname: ");
    print_json_text(info->name, strlen(info->name));
    putchar('\n');
    for (size_t i = 0; i < n_numbers; i++)
        printf("%s: %" PRIu64 "\n", numbers[i].name, numbers[i].value);
    if (*info->vision)
        printf("vision: %s\n", info->vision);
    printf("\nmetadata: %zu pairs\n", sl_model_meta_count(model));
    for (size_t i = 0; i < sl_model_meta_count(model); i++) {
        sl_meta meta = { sizeof meta };
        must(sl_model_meta(model, i, &meta));
        printf("  ");
        print_json_text(meta.key, strlen(meta.key));
        printf(" %s", meta_type_name(meta.type));
        if (meta.type == SL_META_ARRAY)
            printf(" of %" PRIu64 " %s", meta.count, meta_type_name(meta.element_type));
        printf(": ");
        print_value(model, i, &meta, SHOWN_ELEMENTS, SHOWN_BYTES);
        putchar('\n');
    }
    printf("\ntensors: %zu\n", sl_model_tensor_count(model));
    for (size_t i = 0; i < sl_model_tensor_count(model); i++) {
        sl_tensor_info t = { sizeof t };
        must(sl_model_tensor(model, i, &t));
        printf("  ");
        print_json_text(t.name, strlen(t.name));
        printf(" %s [", t.type);
        for (uint32_t k = 0; k < t.n_dims; k++)
            printf("%s%" PRIu64, k ? ", " : "", t.dims[k]);
        printf("] %" PRIu64 " bytes\n", t.bytes);
    }
    struct total totals[MAX_TYPES];
    size_t n = add_up(model, totals);
    printf("\ntypes: %zu\n", n);
    for (size_t i = 0; i < n; i++)
        printf("  %s: %" PRIu64 " tensors, %" PRIu64 " bytes\n", totals[i].type, totals[i].n, totals[i].bytes);
}

static void print_json(const sl_model *model, const sl_model_info *info, const struct number *numbers, size_t n_numbers)
{
    printf("{\"architecture\": ");
    print_json_text(info->architecture, strlen(info->architecture));
    printf(", \"name\": ");
    print_json_text(info->name, strlen(info->name));
    for (size_t i = 0; i < n_numbers; i++)
        printf(", \"%s\": %" PRIu64, numbers[i].name, numbers[i].value);
    printf(",\n\"vision\": ");
    print_json_text(info->vision, strlen(info->vision));
    printf(",\n\"metadata\": [");
    for (size_t i = 0; i < sl_model_meta_count(model); i++) {
        sl_meta meta = { sizeof meta };
        must(sl_model_meta(model, i, &meta));
        printf("%s{\"key\": ", i ? ",\n" : "");
        print_json_text(meta.key, strlen(meta.key));
        printf(", \"type\": \"%s\", \"element_type\": \"%s\", \"count\": %" PRIu64 ", \"value\": ", meta_type_name(meta.type), meta_type_name(meta.element_type), meta.count);
        print_value(model, i, &meta, UINT64_MAX, SIZE_MAX);
        putchar('}');
    }
    printf("],\n\"tensors\": [");
    for (size_t i = 0; i < sl_model_tensor_count(model); i++) {
        sl_tensor_info t = { sizeof t };
        must(sl_model_tensor(model, i, &t));
        printf("%s{\"name\": ", i ? ",\n" : "");
        print_json_text(t.name, strlen(t.name));
        printf(", \"type\": \"%s\", \"dims\": [", t.type);
        for (uint32_t k = 0; k < t.n_dims; k++)
            printf("%s%" PRIu64, k ? ", " : "", t.dims[k]);
        printf("], \"bytes\": %" PRIu64 ", \"part\": %u, \"offset\": %" PRIu64 "}", t.bytes, (unsigned)t.part, t.offset);
    }
    struct total totals[MAX_TYPES];
    size_t n = add_up(model, totals);
    printf("],\n\"types\": {");
    for (size_t i = 0; i < n; i++)
        printf("%s\"%s\": {\"tensors\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", i ? ", " : "", totals[i].type, totals[i].n, totals[i].bytes);
    printf("}");
}

/* What loading it and one session with default options take; not every file can be run. */
static void print_estimate(const struct settings *s)
{
    const int json = s->json;
    sl_model_options options = model_options(s, SL_PARTS_ALL);
    options.log = NULL;         /* it was told already */
    sl_memory memory = { sizeof memory };
    sl_status status = sl_model_estimate(s->model, &options, NULL, &memory);
    const struct number numbers[] = {
        { "weights", memory.weights }, { "load_peak", memory.load_peak }, { "cache", memory.cache }, { "compute", memory.compute },
        { "image", memory.image }, { "encoder", memory.encoder },
    };
    printf(json ? ",\n\"memory\": {" : "\nmemory, bytes%s%s\n", status == SL_OK ? "" : ": not known: ", status == SL_OK ? "" : sl_last_error());
    if (json && status != SL_OK) {
        printf("\"error\": ");
        print_json_text(sl_last_error(), strlen(sl_last_error()));
    }
    for (size_t i = 0; status == SL_OK && i < sizeof numbers / sizeof *numbers; i++)
        printf(json ? "%s\"%s\": %" PRIu64 : "%s  %s: %" PRIu64 "\n", json && i ? ", " : "", numbers[i].name, numbers[i].value);
    if (json)
        putchar('}');
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    const struct option options[] = { { "--json", "", "print one JSON object, arrays whole", OPTION_FLAG, &s.json }, VISION_OPTIONS(s) };
    read_options("inspect", "FILE [--projector FILE] [--json]", options, sizeof options / sizeof *options, argc, argv, &s.model);
    if (!s.model)
        usage_error("FILE: a file is required (try --help)");
    sl_model *model = load_model(&s, SL_PARTS_METADATA);
    sl_model_info info = { sizeof info };
    must(sl_model_get_info(model, &info));
    struct number numbers[N_NUMBERS + N_VISION] = {
        { "numerics_id", sl_numerics_id() }, { "n_parts", info.n_parts }, { "file_bytes", info.file_bytes }, { "n_params", info.n_params },
        { "n_vocab", count(model, "tokenizer.ggml.tokens") }, { "n_ctx_train", hyper(model, &info, "context_length") }, { "n_embd", hyper(model, &info, "embedding_length") },
        { "n_layer", hyper(model, &info, "block_count") }, { "n_head", hyper(model, &info, "attention.head_count") },
        { "n_head_kv", hyper(model, &info, "attention.head_count_kv") }, { "n_ff", hyper(model, &info, "feed_forward_length") },
        { "n_expert", hyper(model, &info, "expert_count") }, { "n_expert_used", hyper(model, &info, "expert_used_count") },
    };
    const size_t n_numbers = N_NUMBERS + add_vision(numbers + N_NUMBERS, model, &info, &s);
    (s.json ? print_json : print_text)(model, &info, numbers, n_numbers);
    print_estimate(&s);
    if (s.json)
        printf("}\n");
    end_output();
    sl_model_free(model);
    return 0;
}
