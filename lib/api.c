/* SPDX-License-Identifier: MIT */
/* api.c - the exported functions of models and tokenizers (sessions: api_session.c): check arguments, read option structures, set the floating-point state, call inward. */
#include "fpenv.h"
#include "params.h"
#include "session.h"

#include <string.h>

/* ---- models ---- */

/* One of the words, or none. */
static sl_status check_word(const char *option, const char *given, const char *first, const char *second)
{
    if (!given || !*given || !strcmp(given, "auto") || !strcmp(given, first) || !strcmp(given, second))
        return SL_OK;
    return sl_fail(SL_ERR_ARGUMENT, "model options: %s is '%.40s', not auto, %s or %s", option, given, first, second);
}

static sl_status check_options(const sl_model_options *o)
{
    SL_TRY(check_word("cross_norm", o->cross_norm, "stored", "reorder"));
    SL_TRY(check_word("global_gates", o->global_gates, "tanh", "raw"));
    if (o->projector && o->projector_source)
        return sl_fail(SL_ERR_ARGUMENT, "model options: projector and projector_source are both set");
    if (o->parts > SL_PARTS_METADATA)
        return sl_fail(SL_ERR_ARGUMENT, "model options: parts is %u", o->parts);
    if (o->in_place > 1)
        return sl_fail(SL_ERR_ARGUMENT, "model options: in_place is %u", o->in_place);
    if (o->pin > 1)
        return sl_fail(SL_ERR_ARGUMENT, "model options: pin is %u", o->pin);
    if (o->reserved || o->reserved_pin)
        return sl_fail(SL_ERR_ARGUMENT, "model options: reserved must be 0");
    if (o->n_threads > SL_LIMIT_THREADS)
        return sl_fail(SL_ERR_LIMIT, "model options: %u threads, the limit is %d", o->n_threads, SL_LIMIT_THREADS);
    return SL_OK;
}

/* Reads the options and the allocator in them. */
static sl_status read_options(sl_model_options *o, sl_mem *mem, const sl_model_options *given)
{
    SL_TRY(sl_options_read(o, sizeof *o, given));
    SL_TRY(check_options(o));
    return sl_allocator_read(mem, o->allocator);
}

/* Where the files are: a path or sources. */
static sl_status open_model(sl_model **out, const char *path, const sl_source *const *sources, size_t n_sources, const sl_model_options *given, int plan_only)
{
    sl_model_options o;
    sl_mem mem;
    sl_parts parts;
    char sentence[SL_SENTENCE_BYTES];       /* what is optional and missing writes one */
    sl_sentence_keep(sentence);
    SL_TRY(read_options(&o, &mem, given));
    sl_status status = path ? sl_parts_open_path(&parts, &mem, path) : sl_parts_open_sources(&parts, &mem, sources, n_sources, (int)o.in_place);
    if (status != SL_OK)
        return status;
    if ((o.projector || o.projector_source) && (status = sl_parts_add_projector(&parts, &mem, o.projector, o.projector_source, (int)o.in_place)) != SL_OK) {
        sl_parts_close(&parts, &mem);
        return status;
    }
    const uint64_t fp = sl_fp_enter();
    char name[256];             /* for the message: parts are gone by then */
    const char *from = path ? path : parts.parts[0].input.name;
    size_t n = strlen(from), cut = n >= sizeof name ? n - sizeof name + 1 : 0;
    memcpy(name, from + cut, n - cut + 1);
    status = sl_model_open(out, &parts, &mem, &o, plan_only);
    sl_fp_set(fp);
    if (status == SL_OK)
        sl_sentence_restore(sentence);
    return status == SL_ERR_CANCELLED ? status : sl_fail_in(status, name);
}

sl_status sl_model_load(sl_model **out, const char *path, const sl_model_options *options)
{
    SL_NEEDS("sl_model_load", out);
    *out = NULL;
    SL_NEEDS("sl_model_load", path);
    return open_model(out, path, NULL, 0, options, 0);
}

sl_status sl_model_load_sources(sl_model **out, const sl_source *const *sources, size_t n_sources, const sl_model_options *options)
{
    SL_NEEDS("sl_model_load_sources", out);
    *out = NULL;
    SL_NEEDS("sl_model_load_sources", sources && n_sources);
    return open_model(out, NULL, sources, n_sources, options, 0);
}

sl_model *sl_model_retain(sl_model *model)
{
    if (model)
        atomic_fetch_add(&model->refs, 1);
    return model;
}

void sl_model_free(sl_model *model)
{
    if (model && atomic_fetch_sub(&model->refs, 1) == 1)
        sl_model_close(model);
}

static sl_status estimate(sl_memory *full, const sl_model *model, const sl_session_options *options)
{
    sl_sizes sizes;
    sl_kv kv;
    sl_pictures pictures = { 0 };
    sl_plan plan, seeing, moving;
    size_t arena[SL_MAX_DEVICES];
    SL_TRY(sl_session_sizes(model, options, &sizes));
    SL_TRY(sl_kv_init(&kv, model, sizes.cache_type, sizes.n_pages));
    sl_status status = sl_pictures_init(&pictures, model, sizes.cache_type, sizes.n_seq);
    if (status == SL_OK)
        status = sl_session_plan(model, &kv, &pictures, &sizes, &plan, &seeing, &moving, arena);
    *full = model->memory;
    full->cache = kv.bytes;
    full->image = sl_pictures_bytes_each(&pictures);
    full->encoder = sl_pictures_bytes_encoder(&pictures);
    for (int d = 0; status == SL_OK && d < model->n_devices; d++)
        full->compute += arena[d];
    if (status == SL_OK) {
        sl_plan_free(&plan);
        sl_plan_free(&seeing);
        sl_plan_free(&moving);
    }
    sl_pictures_free(&pictures);
    sl_kv_free(&kv, model);
    return status;
}

sl_status sl_model_estimate(const char *path, const sl_model_options *options, const sl_session_options *session, sl_memory *out)
{
    sl_model *model = NULL;
    sl_session_options so;
    sl_memory full;
    SL_NEEDS("sl_model_estimate", path && out);
    SL_TRY(sl_options_read(&so, sizeof so, session));
    SL_TRY(open_model(&model, path, NULL, 0, options, 1));
    sl_status status = model->arch ? estimate(&full, model, &so) : sl_fail(SL_ERR_ARGUMENT, "sl_model_estimate: parts must be SL_PARTS_ALL");
    sl_model_free(model);
    return status == SL_OK ? sl_result_write(out, &full, sizeof full) : status;
}

sl_status sl_model_get_info(const sl_model *model, sl_model_info *out)
{
    SL_NEEDS("sl_model_get_info", model && out);
    const sl_hparams *hp = &model->hp;
    sl_model_info info = { .architecture = model->architecture, .name = model->name,
                           .n_ctx_train = hp->n_ctx_train, .n_embd = hp->n_embd, .n_layer = hp->n_layer, .d_head = hp->d_head, .n_expert = hp->n_expert,
                           .n_expert_used = hp->n_expert_used, .n_vocab = model->arch ? hp->n_vocab : model->vocab ? sl_vocab_count(model->vocab) : 0,
                           .n_parts = (uint32_t)model->parts.n_parts, .n_params = model->n_params, .file_bytes = model->file_bytes,
                           .weight_bytes = model->memory.weights, .in_place_bytes = model->memory.in_place, .load_peak_bytes = model->memory.load_peak, .cached_bytes = model->memory_cached,
                           .vision = model->layout.sentence, .image_token = SL_TOKEN_NONE, .identity = model->identity };
    if (model->arch) {
        unsigned worked;
        info.numerics = sl_numerics_id();
        for (int d = 0; d < model->n_devices; d++)
            info.numerics = model->devices[d].backend->numerics ? 0 : info.numerics;
        info.tile_side = hp->vision.tile_side, info.max_tiles = hp->vision.max_tiles;
        info.image_token = hp->vision.max_tiles ? hp->vision.token : SL_TOKEN_NONE;
        info.n_head = hp->n_head[0], info.n_head_kv = hp->n_head_kv[0], info.n_ff = hp->n_ff[0];
        info.n_threads = model->devices[model->io_device].backend->threads(model->devices[model->io_device].handle, &worked);
    }
    return sl_result_write(out, &info, sizeof info);
}

/* ---- metadata ---- */

static const sl_gguf *metadata(const sl_model *model) { return &model->parts.parts[0].gguf; }

size_t sl_model_meta_count(const sl_model *model) { return model ? metadata(model)->n_kv : 0; }

/* Pair `index`, and its element if there are so many. */
static sl_status pair(const sl_model *model, size_t index, uint64_t element, const sl_gguf_kv **kv)
{
    if (index >= metadata(model)->n_kv)
        return sl_fail(SL_ERR_RANGE, "metadata: pair %zu of %zu", index, metadata(model)->n_kv);
    *kv = &metadata(model)->kv[index];
    if (element >= (*kv)->value.count && (element || (*kv)->value.type != SL_META_ARRAY))
        return sl_fail(SL_ERR_RANGE, "key %s: element %llu of %llu", (*kv)->key, (unsigned long long)element, (unsigned long long)(*kv)->value.count);
    return SL_OK;
}

sl_status sl_model_meta(const sl_model *model, size_t index, sl_meta *out)
{
    const sl_gguf_kv *kv = NULL;
    SL_NEEDS("sl_model_meta", model && out);
    SL_TRY(pair(model, index, 0, &kv));
    const sl_meta full = { .key = kv->key, .type = kv->value.type, .element_type = kv->value.element_type, .count = kv->value.count };
    return sl_result_write(out, &full, sizeof full);
}

sl_status sl_model_meta_find(const sl_model *model, const char *key, size_t *index)
{
    SL_NEEDS("sl_model_meta_find", model && key && index);
    const sl_gguf_kv *kv = sl_gguf_find(metadata(model), key);
    if (!kv)
        return sl_fail(SL_ERR_MISSING, "key %.60s: missing", key);
    *index = (size_t)(kv - metadata(model)->kv);
    return SL_OK;
}

/* Element of a pair that exists (an empty array has none). */
static sl_status element_of(const sl_model *model, size_t index, uint64_t element, const sl_gguf_kv **kv)
{
    SL_TRY(pair(model, index, element, kv));
    return element < (*kv)->value.count ? SL_OK : sl_fail(SL_ERR_RANGE, "key %s: the array is empty", (*kv)->key);
}

sl_status sl_model_meta_int(const sl_model *model, size_t index, uint64_t element, int64_t *out)
{
    const sl_gguf_kv *kv = NULL;
    SL_NEEDS("sl_model_meta_int", model && out);
    SL_TRY(element_of(model, index, element, &kv));
    return sl_fail_in(sl_gguf_value_int(&kv->value, element, out), kv->key);
}

sl_status sl_model_meta_float(const sl_model *model, size_t index, uint64_t element, double *out)
{
    const sl_gguf_kv *kv = NULL;
    SL_NEEDS("sl_model_meta_float", model && out);
    SL_TRY(element_of(model, index, element, &kv));
    return sl_fail_in(sl_gguf_value_float(&kv->value, element, out), kv->key);
}

sl_status sl_model_meta_string(const sl_model *model, size_t index, uint64_t element, const char **text, size_t *length)
{
    const sl_gguf_kv *kv = NULL;
    SL_NEEDS("sl_model_meta_string", model && text && length);
    SL_TRY(element_of(model, index, element, &kv));
    if (kv->value.element_type != SL_META_STRING)
        return sl_fail(SL_ERR_TYPE, "key %s: not a string", kv->key);
    sl_text t = sl_gguf_element_text(kv, element);
    *text = t.data;
    *length = t.length;
    return SL_OK;
}

size_t sl_model_tensor_count(const sl_model *model)
{
    size_t n = 0;
    for (size_t p = 0; model && p < model->parts.n_parts; p++)
        n += model->parts.parts[p].gguf.n_tensors;
    return n;
}

sl_status sl_model_tensor(const sl_model *model, size_t index, sl_tensor_info *out)
{
    SL_NEEDS("sl_model_tensor", model && out);
    size_t part = 0, i = index;
    while (part < model->parts.n_parts && i >= model->parts.parts[part].gguf.n_tensors)
        i -= model->parts.parts[part++].gguf.n_tensors;
    if (part == model->parts.n_parts)
        return sl_fail(SL_ERR_RANGE, "tensors: number %zu of %zu", index, sl_model_tensor_count(model));
    const sl_gguf_tensor *t = &model->parts.parts[part].gguf.tensors[i];
    const sl_tensor_info full = { .name = t->name, .type = sl_type_name(t->type), .n_dims = t->n_dims, .part = (uint32_t)part,
                                  .dims = { t->ne[0], t->ne[1], t->ne[2], t->ne[3] }, .bytes = t->bytes, .offset = t->offset };
    return sl_result_write(out, &full, sizeof full);
}

/* ---- tokenizer ---- */

static sl_status vocabulary(const sl_model *model, const sl_vocab **vocab)
{
    *vocab = model->vocab;
    return model->vocab ? SL_OK : sl_fail(SL_ERR_STATE, "the model has no vocabulary");
}

sl_status sl_encode(const sl_model *model, const char *text, size_t length, uint32_t flags, sl_token *ids, size_t capacity, size_t *n_ids)
{
    const sl_vocab *vocab;
    SL_NEEDS("sl_encode", model && (text || !length) && n_ids && (ids || !capacity));
    *n_ids = 0;
    if (flags & ~(SL_ENCODE_ADD_SPECIAL | SL_ENCODE_PARSE_SPECIAL))
        return sl_fail(SL_ERR_ARGUMENT, "sl_encode: unknown flags %u", flags);
    SL_TRY(vocabulary(model, &vocab));
    return sl_vocab_encode(vocab, text, length, flags, ids, capacity, n_ids);
}

sl_status sl_decode(const sl_model *model, const sl_token *ids, size_t n_ids, uint32_t flags, char *text, size_t capacity, size_t *length)
{
    const sl_vocab *vocab;
    SL_NEEDS("sl_decode", model && (ids || !n_ids) && length && (text || !capacity));
    *length = 0;
    if (flags & ~(SL_DECODE_SPECIAL | SL_DECODE_KEEP_SPACE))
        return sl_fail(SL_ERR_ARGUMENT, "sl_decode: unknown flags %u", flags);
    SL_TRY(vocabulary(model, &vocab));
    return sl_vocab_decode(vocab, ids, n_ids, flags, text, capacity, length);
}

struct sl_decoder {
    sl_model *model;
    sl_stream *stream;
};

sl_status sl_decoder_create(sl_decoder **out, sl_model *model, uint32_t flags, uint32_t first)
{
    const sl_vocab *vocab;
    SL_NEEDS("sl_decoder_create", out);
    *out = NULL;
    SL_NEEDS("sl_decoder_create", model);
    if (flags & ~(SL_DECODE_SPECIAL | SL_DECODE_KEEP_SPACE) || first > 1)
        return sl_fail(SL_ERR_ARGUMENT, "sl_decoder_create: flags %u, first %u", flags, first);
    SL_TRY(vocabulary(model, &vocab));
    sl_decoder *decoder = sl_mem_alloc(&model->mem, 1, sizeof *decoder);
    if (!decoder)
        return SL_ERR_NOMEM;
    sl_status status = sl_stream_create(&decoder->stream, &model->mem, vocab, flags, first);
    if (status != SL_OK) {
        sl_mem_free(&model->mem, decoder);
        return status;
    }
    decoder->model = sl_model_retain(model);
    *out = decoder;
    return SL_OK;
}

void sl_decoder_free(sl_decoder *decoder)
{
    if (!decoder)
        return;
    sl_model *model = decoder->model;
    sl_stream_free(decoder->stream);
    sl_mem_free(&model->mem, decoder);
    sl_model_free(model);
}

sl_status sl_decoder_push(sl_decoder *decoder, sl_token id, const char **text, size_t *length)
{
    SL_NEEDS("sl_decoder_push", decoder && text && length);
    return sl_stream_push(decoder->stream, id, text, length);
}

sl_status sl_decoder_flush(sl_decoder *decoder, const char **text, size_t *length)
{
    SL_NEEDS("sl_decoder_flush", decoder && text && length);
    return sl_stream_flush(decoder->stream, text, length);
}

sl_status sl_token_get_info(const sl_model *model, sl_token id, sl_token_info *out)
{
    const sl_vocab *vocab;
    sl_token_info full;
    SL_NEEDS("sl_token_get_info", model && out);
    SL_TRY(vocabulary(model, &vocab));
    SL_TRY(sl_vocab_token(vocab, id, &full));
    return sl_result_write(out, &full, sizeof full);
}

sl_token sl_token_special(const sl_model *model, const char *role) { return model && role && model->vocab ? sl_vocab_special(model->vocab, role) : SL_TOKEN_NONE; }

int32_t sl_token_is_end(const sl_model *model, sl_token id) { return model && model->vocab && sl_vocab_is_end(model->vocab, id); }
