/* SPDX-License-Identifier: MIT */
/* bench.c - measures a model: loading, the first token, prompts, decoding, passes of a few tokens, behind a long text, with a picture; beside it, in the same
 * rounds, what the machine can do (bench_limits.c). Weights come from a file, or are made up as they are read (bench_model.c). Figures are medians of rounds. */
#define _XOPEN_SOURCE 700       /* getrusage */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

const size_t small_passes[N_SMALL] = { 2, 4, 8, 16 };

enum {
    FIRST_PROMPT = 8,       /* tokens before the first one that is waited for */
    MAX_SMALL = 16,         /* largest of small_passes, and the tokens in front of such a pass */
    SMALL_REPEATS = 8,      /* passes of each size in a round */
    PAGE = 64,              /* contexts are rounded up to whole pages of the cache, so that its bytes per position are known */
};

/* ---- figures ---- */

void add_sample(struct series *s, double value)
{
    double *grown = realloc(s->at, (s->n + 1) * sizeof *grown);
    if (!grown)
        fail("memory: no %zu samples", s->n + 1);
    s->at = grown;
    s->at[s->n++] = value;
}

static int ascending(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b; }

double median(const struct series *s)
{
    if (!s->n)
        return NAN;
    double *sorted = memcpy(take(s->n, sizeof *sorted), s->at, s->n * sizeof *sorted);
    qsort(sorted, s->n, sizeof *sorted, ascending);
    const double m = (sorted[(s->n - 1) / 2] + sorted[s->n / 2]) / 2;
    free(sorted);
    return m;
}

double ratio(double a, double b) { return b > 0 ? a / b : NAN; }

/* ---- what one token costs ---- */

/* The number in "blk.N.", -1 for other names. */
static long layer_of(const char *name) { return strncmp(name, "blk.", 4) == 0 ? strtol(name + 4, NULL, 10) : -1; }

sl_tensor_info tensor_at(const sl_model *model, size_t i)
{
    sl_tensor_info t = { sizeof t };
    must(sl_model_tensor(model, i, &t));
    return t;
}

/* A token reads every tensor of every layer, of the experts those that were chosen, its row of the embedding, and the output matrix, which may be the embedding.
 * Keys and values of pictures are made once, with the picture. */
static struct cost count_cost(const sl_model *model, const sl_model_info *info)
{
    struct cost c = { 0 };
    const size_t n = sl_model_tensor_count(model);
    char *sees = take(info->n_layer, 1);        /* layers that look at pictures */
    double embedding = 0, output = 0;
    for (size_t i = 0; i < n; i++) {
        const sl_tensor_info t = tensor_at(model, i);
        const long l = layer_of(t.name);
        if (l >= 0 && l < (long)info->n_layer && strstr(t.name, ".cross_attn_"))
            sees[l] = 1;
    }
    for (size_t i = 0; i < n; i++) {
        const sl_tensor_info t = tensor_at(model, i);
        const long l = layer_of(t.name);
        if (strcmp(t.name, "token_embd.weight") == 0) {
            embedding = (double)t.bytes;
            c.bytes += embedding / (double)t.dims[1];
        }
        output = strcmp(t.name, "output.weight") == 0 ? (double)t.bytes : output;
        if (l < 0 || l >= (long)info->n_layer || strstr(t.name, ".cross_attn_k_proj.") || strstr(t.name, ".cross_attn_v_proj."))
            continue;
        const double share = strstr(t.name, "_exps.") && info->n_expert ? (double)info->n_expert_used / info->n_expert : 1;
        double macs = t.n_dims > 1 ? share : 0;
        for (uint32_t k = 0; k < t.n_dims; k++)
            macs *= (double)t.dims[k];
        *(sees[l] ? &c.sight_bytes : &c.bytes) += share * (double)t.bytes;
        *(sees[l] ? &c.sight_macs : &c.macs) += macs;
    }
    c.bytes += output > 0 ? output : embedding;
    free(sees);
    return c;
}

/* ---- running ---- */

/* Ids that are the same in every run. None stands for a picture. */
static sl_token *make_ids(const sl_model_info *info, size_t n)
{
    sl_token *ids = take(n, sizeof *ids);
    uint64_t state = 11;
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (sl_token)((state >> 33) % info->n_vocab);
        if (ids[i] == info->image_token)
            ids[i] = 0;
    }
    return ids;
}

/* Seconds of computing n tokens behind those that are there, with the logits of the last `rows`. */
static double timed_eval(sl_session *session, const sl_token *ids, size_t n, float *logits, size_t rows)
{
    const double before = seconds();
    must(sl_session_eval(session, ids, n, logits, rows));
    return seconds() - before;
}

/* Tokens per second of n_prompt tokens behind what the session holds; they are taken back. */
double prompt_rate(const struct bench *b, sl_session *session, const sl_token *ids, float *logits)
{
    const size_t length = sl_session_length(session);
    const double s = timed_eval(session, ids, (size_t)b->n_prompt, logits, 1);
    must(sl_session_rewind(session, length));
    return (double)b->n_prompt / s;
}

/* The same of n_decode tokens, one by one, each with its logits. */
double decode_rate(const struct bench *b, sl_session *session, const sl_token *ids, float *logits)
{
    const size_t length = sl_session_length(session);
    double s = 0;
    for (uint64_t i = 0; i < b->n_decode; i++)
        s += timed_eval(session, ids + i, 1, logits, 1);
    must(sl_session_rewind(session, length));
    return (double)b->n_decode / s;
}

/* Bytes of the cache that a decoded token reads: of the mean one of n_decode behind `depth` tokens. */
double cached_bytes(const struct bench *b, const sl_session *session, double depth)
{
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(session, &stats));
    const double pages = (double)((sl_session_capacity(session) + PAGE - 1) / PAGE);
    return (double)stats.cache_bytes / (pages * PAGE) * (depth + ((double)b->n_decode + 1) / 2);
}

/* Passes of 1, 2, 4, 8 and 16 tokens in turn, all of whose logits are wanted, as when drafts are checked. */
static void small_round(struct bench *b, const sl_token *ids, float *logits)
{
    must(sl_session_eval(b->session, ids, MAX_SMALL, NULL, 0));
    for (int i = 0; i < SMALL_REPEATS; i++) {
        const double one = timed_eval(b->session, ids, 1, logits, 1);
        must(sl_session_rewind(b->session, MAX_SMALL));
        for (int k = 0; k < N_SMALL; k++) {
            const size_t n = small_passes[k];
            add_sample(&b->small[k], timed_eval(b->session, ids, n, logits, n) / one);
            must(sl_session_rewind(b->session, MAX_SMALL));
        }
    }
    must(sl_session_rewind(b->session, 0));
}

/* A line on stderr: what is being measured now. */
void tell(const char *what, uint64_t i, uint64_t n) { fprintf(stderr, "%s %llu of %llu\n", what, (unsigned long long)i, (unsigned long long)n); }

sl_session *open_for(const struct bench *b, uint64_t n)
{
    return open_session(b->model, &b->s, (n + PAGE - 1) / PAGE * PAGE);
}

/* Tokens of the context that the figures without --depth need. */
uint64_t least_context(const struct bench *b)
{
    const uint64_t n = b->n_prompt > b->n_decode ? b->n_prompt : b->n_decode;
    return n > 2 * MAX_SMALL ? n : 2 * MAX_SMALL;
}

/* Loads once unmeasured, so that a file comes from the page cache, then as often as there are rounds; each time up to the first token. The last stays. */
static void measure_loading(struct bench *b)
{
    struct made_model *made = b->shape ? make_model(b->shape, b->type, (uint32_t)b->n_layers) : NULL;
    const sl_source *const source = made ? made_source(made) : NULL;
    const sl_model_options options = model_options(&b->s, SL_PARTS_ALL);
    for (uint64_t i = 0; i <= b->rounds; i++) {
        tell("load:", i, b->rounds);
        sl_session_free(b->session);
        sl_model_free(b->model);
        const double before = seconds();
        must(made ? sl_model_load_sources(&b->model, &source, 1, &options) : sl_model_load(&b->model, b->s.model, &options));
        const double loaded = seconds();
        must(sl_model_get_info(b->model, &b->info));
        sl_token *ids = make_ids(&b->info, FIRST_PROMPT);
        float *logits = take(b->info.n_vocab, sizeof *logits);
        b->session = open_for(b, least_context(b));
        must(sl_session_eval(b->session, ids, FIRST_PROMPT, logits, 1));
        const double done = seconds();
        must(sl_session_rewind(b->session, 0));
        if (i > 0) {
            add_sample(&b->load, loaded - before);
            add_sample(&b->first, done - before);
        }
        free(ids);
        free(logits);
    }
    free_made_model(made);
}

/* Seconds of processors that this process has had. */
static double processor_seconds(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return NAN;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Memory at its highest, in bytes: after the longest pass, and before there is memory to read for its own sake and for many rows of logits. */
static void note_memory(struct bench *b)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        b->peak_rss = (double)usage.ru_maxrss * 1024;
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(b->session, &stats));
    b->cache_bytes = (double)stats.cache_bytes;
    b->compute_bytes = (double)stats.compute_bytes;
}

/* Each depth in turn, in one session; prompts from an empty context beside them. */
static void measure_depths(struct bench *b, const sl_token *ids, float *logits)
{
    if (!b->n_depths)
        return;
    sl_session *deep = open_for(b, b->depths[b->n_depths - 1].n + least_context(b));
    for (struct depth *d = b->depths; d < b->depths + b->n_depths; d++) {
        while (sl_session_length(deep) < d->n) {
            const uint64_t left = d->n - sl_session_length(deep);
            tell("depth:", sl_session_length(deep), d->n);
            must(sl_session_eval(deep, ids, (size_t)(left < b->n_prompt ? left : b->n_prompt), NULL, 0));
        }
        d->speed.cached_bytes = cached_bytes(b, deep, (double)d->n);
        for (uint64_t i = 0; i < b->rounds; i++) {
            const double rate = prompt_rate(b, deep, ids, logits);
            add_sample(&d->speed.prompt, rate);
            add_sample(&d->share, rate / prompt_rate(b, b->session, ids, logits));
            add_sample(&d->speed.decode, decode_rate(b, deep, ids, logits));
        }
    }
    sl_session_free(deep);
}

static void measure(struct bench *b)
{
    measure_loading(b);
    b->cost = count_cost(b->model, &b->info);
    if (b->image && b->info.image_token == SL_TOKEN_NONE)
        fail("--image: the model takes no pictures");
    if (b->image)
        b->picture = count_picture(b->model, &b->info);
    const uint64_t n_ids = least_context(b);
    sl_token *ids = make_ids(&b->info, (size_t)n_ids);
    float *logits = take(MAX_SMALL * (size_t)b->info.n_vocab, sizeof *logits);
    prompt_rate(b, b->session, ids, logits);        /* warms up, and reaches the most memory */
    note_memory(b);
    must(sl_session_eval(b->session, ids, MAX_SMALL, logits, MAX_SMALL));
    must(sl_session_rewind(b->session, 0));
    b->empty.cached_bytes = cached_bytes(b, b->session, 0);
    measure_peaks(b->peaks, b->info.n_threads, b->s.cpu_level);
    struct reading *reading = open_reading(b->info.n_threads, b->s.cpu_level);
    const double had = processor_seconds(), begun = seconds();
    for (uint64_t i = 0; i < b->rounds; i++) {
        tell("round:", i + 1, b->rounds);
        add_sample(&b->read, measure_reading(reading));
        add_sample(&b->empty.prompt, prompt_rate(b, b->session, ids, logits));
        add_sample(&b->empty.decode, decode_rate(b, b->session, ids, logits));
        small_round(b, ids, logits);
    }
    b->processor_share = (processor_seconds() - had) / (b->info.n_threads * (seconds() - begun));
    close_reading(reading);
    measure_depths(b, ids, logits);
    measure_picture(b, ids, logits);
    measure_peaks(b->peaks, b->info.n_threads, b->s.cpu_level);
    free(ids);
    free(logits);
}

/* ---- the program ---- */

static int by_depth(const void *a, const void *b)
{
    const struct depth *x = a, *y = b;
    return x->n < y->n ? -1 : x->n > y->n;
}

/* Depths from "4096,16384", in ascending order. */
static void parse_depths(struct bench *b)
{
    for (const char *p = b->depth_list; p && *p;) {
        char *end = NULL;
        const unsigned long long n = *p >= '0' && *p <= '9' ? strtoull(p, &end, 10) : 0;
        if (!end || n < 1 || n > SL_LIMIT_CONTEXT || (*end && (*end != ',' || !end[1])))
            usage_error("--depth: \"%s\" is no list of numbers from 1 to %d", b->depth_list, SL_LIMIT_CONTEXT);
        b->depths = realloc(b->depths, (b->n_depths + 1) * sizeof *b->depths);
        if (!b->depths)
            fail("memory: no %zu depths", b->n_depths + 1);
        b->depths[b->n_depths++] = (struct depth) { .n = n };
        p = *end ? end + 1 : end;
    }
    if (b->depth_list && !b->n_depths)
        usage_error("--depth: a number is missing");
    if (b->n_depths)
        qsort(b->depths, b->n_depths, sizeof *b->depths, by_depth);
}

static void free_speed(struct speed *s)
{
    free(s->prompt.at);
    free(s->decode.at);
}

static void free_bench(struct bench *b)
{
    sl_session_free(b->session);
    sl_session_free(b->picture_session);
    sl_model_free(b->model);
    free_speed(&b->empty);
    free_speed(&b->sight);
    for (struct depth *d = b->depths; d < b->depths + b->n_depths; d++) {
        free_speed(&d->speed);
        free(d->share.at);
    }
    for (int i = 0; i < N_SMALL; i++)
        free(b->small[i].at);
    free(b->depths);
    free(b->load.at);
    free(b->first.at);
    free(b->add_image.at);
    free(b->encode_image.at);
    free(b->image_keys.at);
    free(b->read.at);
}

int main(int argc, char **argv)
{
    struct bench b = { .n_prompt = 512, .n_decode = 128, .rounds = 3, .info = { sizeof b.info } };
    const struct option options[] = {
        { "-m", "FILE", "the model, or the first file of one", OPTION_TEXT, &b.s.model },
        { "--shape", "NAME", "made-up weights instead: llama-3.2-1b, llama-3.2-3b, llama-3.1-8b, llama-3.2-11b-vision, llama-4-scout, tiny, tiny-vision, tiny-mixture, "
          "tiny-llama4", OPTION_TEXT, &b.shape },
        { "--type", "NAME", "of made-up weights: Q4_K_M (default), Q8_0, Q4_0, Q6_K, F16, ...", OPTION_TEXT, &b.type },
        { "--layers", "N", "of made-up weights: only so many layers, and of an encoder's in proportion (all)", OPTION_WHOLE, &b.n_layers, 1, 1000 },
        { "-p", "N", "tokens of a prompt (512)", OPTION_WHOLE, &b.n_prompt, 1, SL_LIMIT_CONTEXT / 2 },
        { "-n", "N", "tokens to decode (128)", OPTION_WHOLE, &b.n_decode, 1, SL_LIMIT_CONTEXT / 2 },
        { "--depth", "LIST", "measure behind so many tokens too: 4096,16384", OPTION_TEXT, &b.depth_list },
        { "--image", "", "measure with a picture too", OPTION_FLAG, &b.image },
        { "--rounds", "N", "of which figures are medians (3)", OPTION_WHOLE, &b.rounds, 1, 1000 },
        { "--json", "", "print one JSON object", OPTION_FLAG, &b.s.json },
        COMPUTE_OPTIONS(b.s),
    };
    read_options("bench", "(-m FILE | --shape NAME [--type NAME]) [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);
    if (!b.s.model == !b.shape)
        usage_error("-m, --shape: one of the two is required (try --help)");
    if (b.type && !b.shape)
        usage_error("--type: of made-up weights only; a file has its own");
    if (b.n_layers && !b.shape)
        usage_error("--layers: of made-up weights only");
    if (b.shape && !b.type)
        b.type = "Q4_K_M";
    parse_depths(&b);
    measure(&b);
    if (b.s.json)
        print_bench_json(&b);
    else
        print_bench(&b);
    end_output();
    report(b.session);
    free_bench(&b);
    return 0;
}
