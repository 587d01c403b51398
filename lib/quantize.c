/* SPDX-License-Identifier: MIT */
/* quantize.c - from a model file to a smaller one: options, what becomes of each tensor, the new file. */
#include <spacellama/quantize.h>

#include "fpenv.h"
#include "importance_file.h"
#include "output.h"
#include "params.h"
#include "quantize_crew.h"
#include "quantize_mix.h"

#include <string.h>

enum { MOST_OVERRIDES = 4096, QUANTIZATION_VERSION = 2, KEEP = -2 };

/* Where the file goes: a path, or the caller. Small pieces are gathered. */
typedef struct target {
    sl_output output;           /* or */
    sl_write_fn write;
    void *user;
    uint8_t *gathered;          /* GATHER bytes */
    size_t n;
} target;
enum { GATHER = 1 << 16 };

/* One call. */
typedef struct job {
    const sl_quantize_options *options;
    const sl_mix *mix;
    sl_mem mem;
    sl_log log;
    sl_parts parts;
    sl_importance_file importance;
    sl_mix_model model;
    sl_mix_place *places;       /* [n_tensors] */
    sl_type *types;             /* [n_tensors]: what each becomes */
    sl_crew crew;
    target to;
    sl_quantize_result result;
} job;

/* ---- options ---- */

const char *sl_quantize_target(size_t index)
{
    const sl_mix *mix = sl_mix_at(index);
    return mix ? mix->name : NULL;
}

/* Override `index`; the caller's structures may be of another age. */
static sl_status override_at(const sl_quantize_options *o, size_t index, sl_quantize_override *out)
{
    return sl_options_read(out, sizeof *out, (const char *)o->overrides + index * o->overrides->size);
}

static sl_status check_overrides(const sl_quantize_options *o)
{
    if (o->n_overrides > MOST_OVERRIDES)
        return sl_fail(SL_ERR_LIMIT, "quantize options: %zu overrides, the limit is %d", o->n_overrides, MOST_OVERRIDES);
    if (o->n_overrides && !o->overrides)
        return sl_fail(SL_ERR_ARGUMENT, "quantize options: overrides is NULL");
    for (size_t i = 0; i < o->n_overrides; i++) {
        sl_quantize_override v;
        char quoted[SL_QUOTE_BYTES];
        SL_TRY(override_at(o, i, &v));
        if (!v.pattern || !v.type)
            return sl_fail(SL_ERR_ARGUMENT, "quantize options: override %zu has no pattern or no type", i);
        if (strcmp(v.type, "keep") && sl_quantize_type_find(v.type) < 0)
            return sl_fail(SL_ERR_UNSUPPORTED, "quantize options: override %zu: nothing is quantized into '%s'", i, sl_quote(quoted, v.type, strlen(v.type)));
    }
    return SL_OK;
}

static sl_status check_options(const sl_quantize_options *o)
{
    if (o->flags & ~SL_QUANTIZE_PURE)
        return sl_fail(SL_ERR_ARGUMENT, "quantize options: flags are %u", o->flags);
    if (o->n_threads > SL_LIMIT_THREADS)
        return sl_fail(SL_ERR_LIMIT, "quantize options: %u threads, the limit is %d", o->n_threads, SL_LIMIT_THREADS);
    if (o->importance && o->importance_source)
        return sl_fail(SL_ERR_ARGUMENT, "quantize options: importance and importance_source are both set");
    return check_overrides(o);
}

static sl_status read_options(job *j, sl_quantize_options *o, const sl_quantize_options *given, const char *name)
{
    char quoted[SL_QUOTE_BYTES];
    SL_TRY(sl_options_read(o, sizeof *o, given));
    SL_TRY(check_options(o));
    SL_TRY(sl_allocator_read(&j->mem, o->allocator));
    j->options = o;
    j->log = (sl_log) { o->log, o->log_user };
    j->mix = sl_mix_find(name);
    return j->mix ? SL_OK : sl_fail(SL_ERR_UNSUPPORTED, "target '%s': nothing is quantized into it", sl_quote(quoted, name, strlen(name)));
}

/* ---- what becomes of each tensor ---- */

/* Numbers the tensors of each role by their layer. counts[role][layer + 1]: first how many there are, then how many before. */
static sl_status number_places(job *j)
{
    enum { ROW = SL_LIMIT_LAYERS + 1 };
    uint32_t *counts = sl_mem_alloc(&j->mem, SL_MIX_ROLES * ROW, sizeof *counts);
    if (!counts)
        return SL_ERR_NOMEM;
    for (size_t i = 0; i < j->parts.n_tensors; i++)
        if (j->places[i].layer >= 0)
            counts[j->places[i].role * ROW + j->places[i].layer + 1]++;
    for (size_t i = 0; i < SL_MIX_ROLES * ROW; i++)
        counts[i] += i % ROW ? counts[i - 1] : 0;
    for (size_t i = 0; i < j->parts.n_tensors; i++) {
        sl_mix_place *p = &j->places[i];
        if (p->layer >= 0) {
            p->index = counts[p->role * ROW + p->layer];
            p->count = counts[p->role * ROW + SL_LIMIT_LAYERS];
        }
    }
    sl_mem_free(&j->mem, counts);
    return SL_OK;
}

/* The type that an override names, KEEP, or -1: none fits. */
static sl_status overridden(const job *j, const char *name, int *type)
{
    *type = -1;
    for (size_t i = 0; i < j->options->n_overrides; i++) {
        sl_quantize_override v;
        SL_TRY(override_at(j->options, i, &v));
        if (sl_pattern_fits(v.pattern, name)) {
            *type = strcmp(v.type, "keep") ? sl_quantize_type_find(v.type) : KEEP;
            return SL_OK;
        }
    }
    return SL_OK;
}

static sl_status choose_type(job *j, size_t index)
{
    const sl_gguf_tensor *t = sl_parts_tensor(&j->parts, index, NULL);
    int wanted;
    j->types[index] = t->type;
    if (!sl_mix_changes(t))
        return SL_OK;
    SL_TRY(overridden(j, t->name, &wanted));
    if (wanted == KEEP)
        return SL_OK;
    if (wanted < 0)
        wanted = sl_mix_type(j->mix, (j->options->flags & SL_QUANTIZE_PURE) != 0, &j->model, &j->places[index], t->type);
    j->types[index] = sl_mix_fit((sl_type)wanted, t->ne[0], t->type);
    if ((int)j->types[index] != wanted) {
        j->result.n_odd++;
        sl_log_line(&j->log, SL_LOG_WARN, "%s: rows of %llu are no whole blocks of %s; it becomes %s", t->name, (unsigned long long)t->ne[0], sl_type_name((uint32_t)wanted),
                    sl_type_name((uint32_t)j->types[index]));
    }
    return SL_OK;
}

static sl_status plan(job *j)
{
    const size_t n = j->parts.n_tensors;
    size_t from_blocks = 0;
    sl_mix_model_read(&j->model, &j->parts.parts[0].gguf, !sl_parts_find(&j->parts, "output.weight", NULL), j->importance.open);
    j->places = sl_mem_alloc(&j->mem, n, sizeof *j->places);
    j->types = sl_mem_alloc(&j->mem, n, sizeof *j->types);
    if (!j->places || !j->types)
        return SL_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        sl_mix_place_of(&j->places[i], &j->model, sl_parts_tensor(&j->parts, i, NULL)->name);
    SL_TRY(number_places(j));
    for (size_t i = 0; i < n; i++) {
        const sl_gguf_tensor *t = sl_parts_tensor(&j->parts, i, NULL);
        SL_TRY(choose_type(j, i));
        const sl_type_info *type = sl_type_get((uint32_t)j->types[i]);
        j->result.n_changed += j->types[i] != t->type;
        from_blocks += j->types[i] != t->type && sl_type_get((uint32_t)t->type)->block_values > 1;
        j->result.bytes_in += t->bytes;
        j->result.bytes_out += t->ne[1] * t->ne[2] * t->ne[3] * (t->ne[0] / type->block_values) * type->block_bytes;
    }
    j->result.n_tensors = (uint32_t)n;
    if (from_blocks)
        sl_log_line(&j->log, SL_LOG_WARN, "%zu tensors are quantized already; what was lost stays lost, and more is", from_blocks);
    return SL_OK;
}

/* ---- the file ---- */

static sl_status pass_on(target *to, const void *data, size_t bytes)
{
    if (!to->write)
        return sl_output_append(&to->output, data, bytes);
    return to->write(data, bytes, to->user) ? sl_fail(SL_ERR_IO, "the callback that writes failed") : SL_OK;
}

static sl_status flush(target *to)
{
    const size_t n = to->n;
    to->n = 0;
    return n ? pass_on(to, to->gathered, n) : SL_OK;
}

/* A sl_gguf_sink. */
static sl_status put(const void *data, size_t bytes, void *user)
{
    target *to = user;
    if (to->n + bytes > GATHER)
        SL_TRY(flush(to));
    if (bytes > GATHER)
        return pass_on(to, data, bytes);
    memcpy(to->gathered + to->n, data, bytes);
    to->n += bytes;
    return SL_OK;
}

/* What the writer calls for each tensor, in order. */
typedef struct piece { job *job; size_t index; } piece;

static sl_status fill(sl_gguf_sink *sink, void *sink_user, void *user)
{
    const piece *p = user;
    job *j = p->job;
    size_t part;
    float *weights = NULL;
    const sl_gguf_tensor *t = sl_parts_tensor(&j->parts, p->index, &part);
    if (j->types[p->index] != t->type)
        SL_TRY(sl_importance_file_get(&j->importance, &j->mem, t->name, t->ne[0], t->ne[2] * t->ne[3], &weights));
    j->result.n_weighted += weights != NULL;
    const sl_recode recode = { &j->parts.parts[part].input, t, j->types[p->index], weights };
    const sl_status status = sl_crew_recode(&j->crew, &recode, sink, sink_user);
    sl_mem_free(&j->mem, weights);
    return status;
}

static int begins(const char *text, const char *with) { return !strncmp(text, with, strlen(with)); }

static void put_keys(const job *j, sl_gguf_writer *w)
{
    const sl_gguf *g = &j->parts.parts[0].gguf;
    for (size_t i = 0; i < g->n_kv; i++)
        if (strcmp(g->kv[i].key, "general.file_type") && strcmp(g->kv[i].key, "general.quantization_version") && !begins(g->kv[i].key, "split."))
            sl_gguf_put_value(w, g->kv[i].key, &g->kv[i].value);
    sl_gguf_put_int(w, "general.quantization_version", SL_META_U32, QUANTIZATION_VERSION);
    sl_gguf_put_int(w, "general.file_type", SL_META_U32, j->mix->file_type);
}

static sl_status write_file(job *j, piece *pieces)
{
    const sl_gguf *g = &j->parts.parts[0].gguf;
    sl_gguf_writer *w;
    SL_TRY(sl_gguf_writer_create(&w, &j->mem, g->version, g->alignment));
    put_keys(j, w);
    for (size_t i = 0; i < j->parts.n_tensors; i++) {
        const sl_gguf_tensor *t = sl_parts_tensor(&j->parts, i, NULL);
        pieces[i] = (piece) { j, i };
        sl_gguf_put_tensor(w, t->name, j->types[i], t->n_dims, t->ne, NULL, fill, &pieces[i]);
    }
    sl_status status = sl_gguf_write(w, put, &j->to);
    sl_gguf_writer_free(w);
    return status == SL_OK ? flush(&j->to) : status;
}

static sl_status write_all(job *j)
{
    const unsigned n_threads = j->options->n_threads ? j->options->n_threads : sl_cpu_count(0);
    piece *pieces = sl_mem_alloc(&j->mem, j->parts.n_tensors, sizeof *pieces);
    j->to.gathered = sl_mem_alloc(&j->mem, GATHER, 1);
    sl_status status = pieces && j->to.gathered ? sl_crew_open(&j->crew, &j->mem, n_threads < SL_LIMIT_THREADS ? n_threads : SL_LIMIT_THREADS) : SL_ERR_NOMEM;
    if (status == SL_OK) {
        j->crew.progress = j->options->progress;
        j->crew.progress_user = j->options->progress_user;
        j->crew.total = j->result.bytes_in;
        status = write_file(j, pieces);
        j->result.encode_ns = j->crew.encode_ns;
        sl_crew_close(&j->crew);
    }
    sl_mem_free(&j->mem, j->to.gathered);
    sl_mem_free(&j->mem, pieces);
    return status;
}

/* With the parts open; `out` NULL: to the callback. */
static sl_status run(job *j, const char *out)
{
    SL_TRY(sl_importance_file_open(&j->importance, &j->mem, j->options->importance, j->options->importance_source));
    sl_status status = plan(j);
    if (status == SL_OK && out)
        status = sl_output_open(&j->to.output, &j->mem, out);
    if (status == SL_OK) {
        status = write_all(j);
        if (out && status == SL_OK)
            status = sl_output_commit(&j->to.output);
        else if (out)
            sl_output_discard(&j->to.output);
    }
    sl_mem_free(&j->mem, j->places);
    sl_mem_free(&j->mem, j->types);
    sl_importance_file_close(&j->importance, &j->mem);
    return status;
}

static sl_status quantize(job *j, const char *in, const sl_source *const *sources, size_t n_sources, const char *out, const char *name, const sl_quantize_options *given,
                          sl_quantize_result *result)
{
    sl_quantize_options options;
    char sentence[SL_SENTENCE_BYTES];       /* what is optional and missing writes one */
    sl_sentence_keep(sentence);
    if (result)
        SL_TRY(sl_result_write(result, &j->result, sizeof j->result));
    SL_TRY(read_options(j, &options, given, name));
    SL_TRY(in ? sl_parts_open_path(&j->parts, &j->mem, in) : sl_parts_open_sources(&j->parts, &j->mem, sources, n_sources, 0));
    const uint64_t fp = sl_fp_enter();
    const sl_status status = run(j, out);
    sl_fp_set(fp);
    sl_parts_close(&j->parts, &j->mem);
    SL_TRY(status);
    if (result)
        SL_TRY(sl_result_write(result, &j->result, sizeof j->result));
    sl_sentence_restore(sentence);
    return SL_OK;
}

sl_status sl_quantize(const char *in, const char *out, const char *name, const sl_quantize_options *options, sl_quantize_result *result)
{
    job j = { 0 };
    if (!in || !out || !name)
        return sl_fail(SL_ERR_ARGUMENT, "sl_quantize: an argument is NULL");
    return quantize(&j, in, NULL, 0, out, name, options, result);
}

sl_status sl_quantize_sources(const sl_source *const *sources, size_t n_sources, sl_write_fn write, void *user, const char *name, const sl_quantize_options *options,
                              sl_quantize_result *result)
{
    job j = { .to = { .write = write, .user = user } };
    if (!sources || !n_sources || !write || !name)
        return sl_fail(SL_ERR_ARGUMENT, "sl_quantize_sources: an argument is NULL");
    return quantize(&j, NULL, sources, n_sources, NULL, name, options, result);
}
