/* SPDX-License-Identifier: MIT */
/* bench_print.c - what bench has measured, each figure beside its limit. */
#include "bench.h"

#include <math.h>
#include <string.h>

/* The peak that products of prompts are held against: that of the matrix units if they ran, else that of byte products in vectors. */
static enum peak peak_of(const struct bench *b)
{
    const char *label;
    for (size_t i = 0; (label = sl_session_label(b->session, i)) != NULL; i++)
        if (strstr(label, "/amx"))
            return PEAK_AMX_INT8;
    return b->peaks[PEAK_VNNI] > 0 ? PEAK_VNNI : b->peaks[PEAK_DOTPROD] > 0 ? PEAK_DOTPROD : PEAK_FP32;
}

/* The peak of the encoder's arithmetic: that of the tiles if they ran for it, else that of floats in vectors. */
static enum peak peak_of_encoder(const struct bench *b)
{
    const char *label;
    for (size_t i = 0; (label = sl_session_label(b->picture_session, i)) != NULL; i++)
        if (strstr(label, "/b16/amx"))
            return PEAK_AMX_BF16;
    return PEAK_FP32;
}

/* The limits are those of processors. */
static int on_cpu(const struct bench *b) { return !b->s.backend || strcmp(b->s.backend, "cpu") == 0 || strcmp(b->s.backend, "blas") == 0; }

static double token_bytes(const struct bench *b, const struct speed *s) { return b->cost.bytes + (s == &b->sight ? b->cost.sight_bytes : 0) + s->cached_bytes; }
static double token_macs(const struct bench *b, const struct speed *s) { return b->cost.macs + (s == &b->sight ? b->cost.sight_macs : 0); }

/* Share of the read speed that decoding reaches. */
static double decode_share(const struct bench *b, const struct speed *s)
{
    return on_cpu(b) ? ratio(median(&s->decode) * token_bytes(b, s) * 1e-9, median(&b->read)) : NAN;
}

/* Share of the peak that the layer matrices of a prompt reach, everything else included in the time. */
static double prompt_share(const struct bench *b, const struct speed *s)
{
    return on_cpu(b) ? ratio(median(&s->prompt) * token_macs(b, s) * 1e-9, b->peaks[peak_of(b)]) : NAN;
}

/* The same of a picture's parts; unknown where the model's encoder could not be counted. */
static double macs_per_second(double macs, const struct series *took) { return macs > 0 ? ratio(macs * 1e-9, median(took)) : NAN; }
static double encoder_macs(const struct bench *b) { return b->picture.matrices + b->picture.attention; }
static double encoder_share(const struct bench *b)
{
    return on_cpu(b) ? ratio(macs_per_second(encoder_macs(b), &b->encode_image), b->peaks[peak_of_encoder(b)]) : NAN;
}

static double mib(double bytes) { return bytes / 1048576; }
static double weights(const struct bench *b) { return (double)b->info.weight_bytes + (double)b->info.in_place_bytes; }

/* ---- lines ---- */

/* "  0.87 of reading"; nothing if the ratio is unknown. */
static void print_share(double share, const char *of)
{
    if (!isnan(share))
        printf("   %.2f of %s", share, of);
}

static void print_speed(const struct bench *b, const struct speed *s, const char *where, double of_empty)
{
    char name[64];
    snprintf(name, sizeof name, "prompt %llu%s", (unsigned long long)b->n_prompt, where);
    printf("%-26s %9.1f tokens/s", name, median(&s->prompt));
    print_share(prompt_share(b, s), peak_names[peak_of(b)].title);
    print_share(of_empty, "an empty context");
    snprintf(name, sizeof name, "decode %llu%s", (unsigned long long)b->n_decode, where);
    printf("\n%-26s %9.1f tokens/s", name, median(&s->decode));
    print_share(decode_share(b, s), "reading");
    printf("\n");
}

static void print_part(const char *name, const struct series *took, double macs)
{
    printf("%-26s %9.3f s", name, median(took));
    if (macs > 0)
        printf("   %.0f GMAC, %.1f GMAC/s", macs * 1e-9, macs_per_second(macs, took));
}

void print_bench(const struct bench *b)
{
    char where[64];
    printf("%s, %u layers, %.0f MiB of weights\n", *b->info.name ? b->info.name : b->info.architecture, b->info.n_layer, mib(weights(b)));
    printf("%s, %u threads, medians of %llu rounds\n", machine_name(), b->info.n_threads, (unsigned long long)b->rounds);
    printf("processors were ours for %.2f of the time\n\n", b->processor_share);
    printf("%-26s %9.1f GB/s\n", "reading", median(&b->read));
    for (int i = 0; i < N_PEAKS; i++)
        if (b->peaks[i] > 0)
            printf("%-26s %9.1f GMAC/s\n", peak_names[i].title, b->peaks[i]);
    printf("\n%-26s %9.3f s\n", "load", median(&b->load));
    printf("%-26s %9.3f s\n", "first token, from loading", median(&b->first));
    printf("%-26s %9.0f MiB", "memory at its highest", mib(b->peak_rss));
    print_share(ratio(b->peak_rss, weights(b) + b->cache_bytes), "weights and cache");
    printf("\n");
    print_speed(b, &b->empty, "", NAN);
    for (int i = 0; i < N_SMALL; i++) {
        snprintf(where, sizeof where, "pass of %zu", small_passes[i]);
        printf("%-26s %9.2f of a pass of 1\n", where, median(&b->small[i]));
    }
    for (const struct depth *d = b->depths; d < b->depths + b->n_depths; d++) {
        snprintf(where, sizeof where, " behind %llu", (unsigned long long)d->n);
        print_speed(b, &d->speed, where, median(&d->share));
    }
    if (b->image) {
        printf("%-26s %9.3f s   %.0f MiB kept\n", "adding a picture", median(&b->add_image), mib(b->image_bytes));
        print_part("  encoder", &b->encode_image, encoder_macs(b));
        print_share(encoder_share(b), peak_names[peak_of_encoder(b)].title);
        print_part("\n  keys and values", &b->image_keys, b->picture.keys);
        printf("\n");
        print_speed(b, &b->sight, " with it", NAN);
    }
}

/* ---- JSON ---- */

/* A number, or null if it is unknown. */
static void print_number(const char *name, double value)
{
    if (isnan(value))
        printf("\"%s\": null, ", name);
    else
        printf("\"%s\": %.6g, ", name, value);
}

static void print_text(const char *name, const char *text)
{
    printf("\"%s\": ", name);
    print_json_text(text, strlen(text));
    printf(", ");
}

static void print_json_speed(const struct bench *b, const struct speed *s)
{
    print_number("pp_tok_s", median(&s->prompt));
    print_number("pp_peak_ratio", prompt_share(b, s));
    print_number("tg_tok_s", median(&s->decode));
    print_number("tg_bytes", token_bytes(b, s));
    print_number("tg_bw_ratio", decode_share(b, s));
}

void print_bench_json(const struct bench *b)
{
    char name[32];
    printf("{");
    print_text("model", *b->info.name ? b->info.name : b->info.architecture);
    print_text("machine", machine_name());
    printf("\"n_prompt\": %llu, \"n_decode\": %llu, \"rounds\": %llu, ", (unsigned long long)b->n_prompt, (unsigned long long)b->n_decode, (unsigned long long)b->rounds);
    print_json_speed(b, &b->empty);
    print_text("pp_peak", peak_names[peak_of(b)].member);
    print_number("pp_macs", token_macs(b, &b->empty));
    for (int i = 0; i < N_SMALL; i++) {
        snprintf(name, sizeof name, "m%zu_ratio", small_passes[i]);
        print_number(name, median(&b->small[i]));
    }
    print_number("ttft_s", median(&b->first));
    print_number("load_s", median(&b->load));
    print_number("peak_rss_mib", mib(b->peak_rss));
    print_number("weights_mib", mib(weights(b)));
    print_number("cache_mib", mib(b->cache_bytes));
    print_number("compute_mib", mib(b->compute_bytes));
    print_number("memory_ratio", ratio(b->peak_rss, weights(b) + b->cache_bytes));
    print_number("processor_share", b->processor_share);
    print_number("read_gb_s", median(&b->read));
    for (int i = 0; i < N_PEAKS; i++)
        print_number(peak_names[i].member, b->peaks[i] > 0 ? b->peaks[i] : NAN);
    printf("\"depths\": [");
    for (size_t i = 0; i < b->n_depths; i++) {
        printf("%s{\"depth\": %llu, ", i ? ", " : "", (unsigned long long)b->depths[i].n);
        print_json_speed(b, &b->depths[i].speed);
        printf("\"pp_share_of_empty\": %.6g}", median(&b->depths[i].share));
    }
    printf("], ");
    if (b->image) {
        printf("\"image\": {");
        print_json_speed(b, &b->sight);
        print_number("kept_mib", mib(b->image_bytes));
        print_number("encode_s", median(&b->encode_image));
        print_number("encode_matrix_macs", b->picture.matrices > 0 ? b->picture.matrices : NAN);
        print_number("encode_attention_macs", b->picture.attention > 0 ? b->picture.attention : NAN);
        print_text("encode_peak", peak_names[peak_of_encoder(b)].member);
        print_number("encode_peak_ratio", encoder_share(b));
        print_number("keys_s", median(&b->image_keys));
        print_number("keys_macs", b->picture.keys > 0 ? b->picture.keys : NAN);
        printf("\"add_s\": %.6g}, ", median(&b->add_image));
    }
    print_json_report(b->session);
    printf("}\n");
}
