/* SPDX-License-Identifier: MIT */
/* session.c - appending tokens in passes; everything is allocated when the session is opened. */
#include "session.h"

#include "arith.h"
#include "platform.h"

enum { DEFAULT_CTX = 4096, DEFAULT_BATCH = 512 };

sl_status sl_session_sizes(const sl_model *model, const sl_session_options *options, uint32_t *n_ctx, uint32_t *n_batch, sl_type *type)
{
    const uint32_t trained = model->hp.n_ctx_train;
    *n_ctx = options->n_ctx ? options->n_ctx : trained < DEFAULT_CTX ? trained : DEFAULT_CTX;
    *n_batch = options->n_batch ? options->n_batch : DEFAULT_BATCH;
    if (*n_ctx > SL_LIMIT_CONTEXT)
        return sl_fail(SL_ERR_LIMIT, "session: a context of %u positions, the limit is %d", *n_ctx, SL_LIMIT_CONTEXT);
    if (*n_batch > SL_LIMIT_BATCH)
        return sl_fail(SL_ERR_LIMIT, "session: batches of %u tokens, the limit is %d", *n_batch, SL_LIMIT_BATCH);
    if (*n_batch > *n_ctx)
        *n_batch = *n_ctx;
    return sl_kv_type(type, options->cache_type);
}

sl_status sl_session_plan(const sl_model *model, const sl_kv *kv, const sl_pictures *pictures, int64_t n_batch, sl_plan *plan, sl_plan *seeing, size_t *arena_bytes)
{
    *seeing = (sl_plan) { .mem = &model->mem };
    SL_TRY(sl_text_plan(plan, model, kv, NULL, n_batch));
    if (pictures->kv) {
        const sl_work_sight most = sl_pictures_sight(pictures, NULL, NULL);
        sl_status status = sl_text_plan(seeing, model, kv, &most, n_batch);
        if (status != SL_OK) {
            sl_plan_free(plan);
            return status;
        }
    }
    for (int d = 0; d < model->n_devices; d++)
        arena_bytes[d] = plan->arena[d] > seeing->arena[d] ? plan->arena[d] : seeing->arena[d];
    return SL_OK;
}

static sl_status allocate(sl_session *s, sl_type cache_type)
{
    const sl_mem *mem = &s->model->mem;
    SL_TRY(sl_kv_init(&s->kv, s->model, cache_type, s->n_ctx));
    SL_TRY(sl_pictures_init(&s->pictures, s->model, cache_type));
    SL_TRY(sl_session_plan(s->model, &s->kv, &s->pictures, s->n_batch, &s->plan, &s->seeing, s->arena_bytes));
    s->tokens = sl_mem_alloc(mem, s->n_ctx, sizeof *s->tokens);
    s->positions = sl_mem_alloc(mem, s->n_batch, sizeof *s->positions);
    s->seqs = sl_mem_alloc(mem, s->n_batch, sizeof *s->seqs);
    s->ranges = sl_mem_alloc(mem, s->n_batch, 2 * sizeof *s->ranges);
    s->marks = sl_mem_alloc(mem, s->n_batch, sizeof *s->marks);
    s->pages = sl_mem_alloc(mem, (size_t)s->kv.n_pages, sizeof *s->pages);
    if (!s->tokens || !s->positions || !s->seqs || !s->ranges || !s->marks || !s->pages)
        return SL_ERR_NOMEM;
    for (int64_t i = 0; i < s->kv.n_pages; i++)
        s->pages[i] = (int32_t)i;
    for (int d = 0; d < s->model->n_devices; d++)
        SL_TRY(s->model->devices[d].backend->alloc(s->model->devices[d].handle, s->arena_bytes[d], &s->arena[d]));
    return sl_kv_alloc(&s->kv, s->model);
}

sl_status sl_session_open(sl_session **out, sl_model *model, const sl_session_options *options)
{
    uint32_t n_ctx, n_batch;
    sl_type type;
    SL_TRY(sl_session_sizes(model, options, &n_ctx, &n_batch, &type));
    sl_session *s = sl_mem_alloc(&model->mem, 1, sizeof *s);
    if (!s)
        return SL_ERR_NOMEM;
    s->model = model;
    s->n_ctx = n_ctx;
    s->n_batch = n_batch;
    s->plan.mem = s->seeing.mem = &model->mem;
    atomic_init(&s->cancel, 0);
    sl_status status = allocate(s, type);
    if (status != SL_OK)
        sl_session_close(s);
    else
        *out = s;
    return status;
}

void sl_session_close(sl_session *s)
{
    const sl_model *model = s->model;
    for (int d = 0; d < model->n_devices; d++)
        if (s->arena[d])
            model->devices[d].backend->free(model->devices[d].handle, s->arena[d], s->arena_bytes[d]);
    sl_kv_free(&s->kv, model);
    sl_pictures_free(&s->pictures);
    sl_plan_free(&s->plan);
    sl_plan_free(&s->seeing);
    sl_mem_free(&model->mem, s->tokens);
    sl_mem_free(&model->mem, s->positions);
    sl_mem_free(&model->mem, s->seqs);
    sl_mem_free(&model->mem, s->ranges);
    sl_mem_free(&model->mem, s->marks);
    sl_mem_free(&model->mem, s->pages);
    sl_mem_free(&model->mem, s);
}

static sl_status check(const sl_session *s, const sl_token *ids, size_t n_ids)
{
    if (n_ids > s->n_ctx - s->length)
        return sl_fail(SL_ERR_FULL, "session: %zu tokens do not fit behind %zu of %u", n_ids, s->length, s->n_ctx);
    const sl_hparams *hp = &s->model->hp;
    size_t waiting = s->pictures.n - s->pictures.n_placed;
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= hp->n_token)
            return sl_fail(SL_ERR_RANGE, "session: token %d at index %zu, the vocabulary has %u", ids[i], i, hp->n_token);
        if ((uint32_t)ids[i] < hp->n_vocab)
            continue;
        if (!waiting--)
            return sl_fail(SL_ERR_STATE, "session: the image token at index %zu has no picture; add it to the session first", i);
    }
    return SL_OK;
}

static sl_status check_logits(const float *logits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!sl_is_finite(logits[i]))
            return sl_fail(SL_ERR_NONFINITE, "session: logit %zu is infinite or not a number", i);
    return SL_OK;
}

/* One pass over ids[n]; logits of the last n_rows of them. */
static sl_status pass(sl_session *s, const sl_token *ids, size_t n, float *logits, size_t n_rows)
{
    for (size_t i = 0; i < n; i++)
        s->positions[i] = (int32_t)(s->length + i);
    size_t n_placed = 0;
    const int seeing = s->pictures.n && sl_pictures_look(&s->pictures, ids, n, s->length, s->ranges, s->marks, &n_placed);
    const sl_work_sight sight = sl_pictures_sight(&s->pictures, s->ranges, s->marks);
    const sl_work work = { .n_tok = (int64_t)n, .n_pages = s->kv.n_pages, .n_seq = 1, .ids = ids, .positions = s->positions, .seqs = s->seqs, .pages = s->pages, .kv = &s->kv,
                           .sight = seeing ? &sight : NULL, .first_row = (int64_t)(n - n_rows), .logits = logits };
    const uint64_t start = sl_clock_ns();
    sl_status status = sl_plan_run(seeing ? &s->seeing : &s->plan, s->model, s->arena, sl_text_pass, &work, &s->cancel);
    s->busy_ns += sl_clock_ns() - start;
    if (status == SL_OK)
        status = check_logits(logits, n_rows * s->model->hp.n_vocab);
    if (status != SL_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        s->tokens[s->length + i] = ids[i];
    s->length += n;
    s->pictures.n_placed = n_placed;
    s->n_passes++;
    s->n_tokens += n;
    return SL_OK;
}

sl_status sl_session_check_cancel(sl_session *s) { return atomic_exchange(&s->cancel, 0) ? sl_fail(SL_ERR_CANCELLED, "session: cancelled") : SL_OK; }

sl_status sl_session_append(sl_session *s, const sl_token *ids, size_t n_ids, float *logits, size_t n_rows)
{
    SL_TRY(check(s, ids, n_ids));
    for (size_t at = 0; at < n_ids;) {
        const size_t n = n_ids - at < s->n_batch ? n_ids - at : s->n_batch, left = n_ids - at - n;
        const size_t rows = n_rows > left ? (n_rows - left < n ? n_rows - left : n) : 0;       /* wanted tokens in this pass */
        SL_TRY(sl_session_check_cancel(s));
        sl_status status = pass(s, ids + at, n, logits, rows);
        if (status == SL_ERR_CANCELLED)
            atomic_store(&s->cancel, 0);
        SL_TRY(status);
        at += n;
        if (rows)
            logits += rows * s->model->hp.n_vocab;
    }
    return SL_OK;
}

void sl_session_rewind_to(sl_session *s, size_t length)
{
    s->length = length;
    sl_pictures_forget(&s->pictures, length, 1);
}

void sl_session_step_back(sl_session *s, size_t length)
{
    s->length = length;
    sl_pictures_unplace(&s->pictures, length);
}

size_t sl_session_match(sl_session *s, const sl_token *ids, size_t n_ids)
{
    size_t n = 0;
    while (n < s->length && n + 1 < n_ids && s->tokens[n] == ids[n])
        n++;
    s->length = n;
    sl_pictures_forget(&s->pictures, n, 0);
    return n;
}
