/* SPDX-License-Identifier: MIT */
/* queue.c - the queue's public functions: requests that come, are cancelled, and are taken away. */
#include "params.h"
#include "platform.h"
#include "queue_pass.h"
#include "sample.h"

#include <string.h>

static sl_status check_idle(const sl_queue *queue, const char *function)
{
    return queue->busy ? sl_fail(SL_ERR_STATE, "%s: called from a callback of the same queue", function) : SL_OK;
}

/* ---- queues ---- */

static void free_request(sl_queue *queue, sl_request *r)
{
    sl_shown_close(&r->shown);
    sl_mem_free(&queue->mem, r->tokens);
    sl_mem_free(&queue->mem, (void *)r->images);
    sl_mem_free(&queue->mem, r);
}

static void free_all(sl_queue *queue, sl_request *first)
{
    while (first) {
        sl_request *r = first;
        first = r->next;
        free_request(queue, r);
    }
}

static void free_queue(sl_queue *queue)
{
    const sl_mem mem = queue->mem;
    free_all(queue, queue->live);
    free_all(queue, queue->ended);
    sl_mem_free(&mem, queue->holders);
    sl_mem_free(&mem, queue->used);
    sl_mem_free(&mem, queue->rows);
    sl_mem_free(&mem, queue->ids);
    sl_mem_free(&mem, queue->seqs);
    sl_mem_free(&mem, queue->wanted);
    sl_mem_free(&mem, queue->logits);
    sl_mem_free(&mem, queue);
}

/* Sequences that it works with, and empties them or those with pictures. */
static void lend(sl_queue *queue, int lent)
{
    sl_session *s = queue->session;
    for (uint32_t i = 0; i < queue->n_seq; i++) {
        const uint32_t seq = queue->first + i;
        s->seqs[seq].lent = lent;
        if (!lent || sl_pictures_count(&s->pictures, seq))
            sl_sequence_rewind_to(s, seq, 0);
    }
}

static sl_status allocate(sl_queue *queue)
{
    const sl_mem *mem = &queue->mem;
    const size_t n_seq = queue->n_seq, n_batch = queue->session->sizes.n_batch;
    queue->holders = sl_mem_alloc(mem, n_seq, sizeof *queue->holders);
    queue->used = sl_mem_alloc(mem, n_seq, sizeof *queue->used);
    queue->rows = sl_mem_alloc(mem, n_seq, sizeof *queue->rows);
    queue->ids = sl_mem_alloc(mem, n_batch, sizeof *queue->ids);
    queue->seqs = sl_mem_alloc(mem, n_batch, sizeof *queue->seqs);
    queue->wanted = sl_mem_alloc(mem, n_batch, sizeof *queue->wanted);
    queue->logits = sl_mem_alloc(mem, n_seq, queue->session->model->hp.n_vocab * sizeof *queue->logits);
    return queue->holders && queue->used && queue->rows && queue->ids && queue->seqs && queue->wanted && queue->logits ? SL_OK : SL_ERR_NOMEM;
}

sl_status sl_queue_create(sl_queue **out, sl_session *session, const sl_queue_options *options)
{
    sl_queue_options o;
    if (out)
        *out = NULL;
    SL_NEEDS("sl_queue_create", out && session);
    SL_TRY(sl_options_read(&o, sizeof o, options));
    const uint32_t n_all = session->sizes.n_seq;
    if (o.first_seq >= n_all || o.n_seq > n_all - o.first_seq)
        return sl_fail(SL_ERR_RANGE, "queue: %u sequences from number %u on, the session has %u", o.n_seq, o.first_seq, n_all);
    const uint32_t n_seq = o.n_seq ? o.n_seq : n_all - o.first_seq;
    for (uint32_t i = 0; i < n_seq; i++)
        if (session->seqs[o.first_seq + i].lent)
            return sl_fail(SL_ERR_STATE, "queue: another one works with sequence %u", o.first_seq + i);
    sl_queue *queue = sl_mem_alloc(&session->model->mem, 1, sizeof *queue);
    if (!queue)
        return SL_ERR_NOMEM;
    *queue = (sl_queue) { .mem = session->model->mem, .session = session, .first = o.first_seq, .n_seq = n_seq };
    if (allocate(queue) != SL_OK) {
        free_queue(queue);
        return SL_ERR_NOMEM;
    }
    lend(queue, 1);
    session->n_queues++;
    *out = queue;
    return SL_OK;
}

void sl_queue_free(sl_queue *queue)
{
    if (!queue)
        return;
    if (queue->busy) {
        queue->doomed = 1;
        return;
    }
    sl_session *session = queue->session;
    lend(queue, 0);
    free_queue(queue);
    if (!--session->n_queues && session->freed)
        sl_session_free(session);
}

/* ---- requests ---- */

static sl_status check_request(const sl_queue *queue, const sl_token *prompt, size_t n_ids, const sl_generate_options *o)
{
    const sl_session *s = queue->session;
    if (n_ids > s->sizes.n_ctx)
        return sl_fail(SL_ERR_FULL, "queue: a prompt of %zu tokens does not fit a context of %u", n_ids, s->sizes.n_ctx);
    SL_TRY(sl_session_check_ids(s, prompt, n_ids));
    if (o->lookup)
        return sl_fail(SL_ERR_UNSUPPORTED, "queue: lookup is for one text alone");
    if (o->shift)
        return sl_fail(SL_ERR_UNSUPPORTED, "queue: shift is for one text alone");
    if (o->reuse > 1)
        return sl_fail(SL_ERR_ARGUMENT, "queue: reuse is %u", o->reuse);
    if (!o->sampler)
        return SL_OK;
    if (sl_sampler_vocab(o->sampler) != s->model->hp.n_vocab)
        return sl_fail(SL_ERR_ARGUMENT, "queue: the sampler is for %u tokens, the model has %u", (unsigned)sl_sampler_vocab(o->sampler), (unsigned)s->model->hp.n_vocab);
    for (const sl_request *r = queue->live; r; r = r->next)
        if (r->sampler == o->sampler)
            return sl_fail(SL_ERR_STATE, "queue: request %llu has this sampler", (unsigned long long)r->result.id);
    return SL_OK;
}

static sl_status fill_request(sl_queue *queue, sl_request *r, const sl_token *prompt, size_t n_ids, const sl_generate_options *o, const sl_image *const *images, size_t n_images)
{
    const uint32_t n_ctx = queue->session->sizes.n_ctx;
    const size_t room = n_ctx - n_ids, capacity = o->max_tokens && o->max_tokens < room ? n_ids + o->max_tokens : n_ctx;
    r->shown.mem = queue->mem;
    r->max_tokens = o->max_tokens;
    r->reuse = o->reuse;
    r->sampler = o->sampler;
    r->n_prompt = r->n_known = n_ids;
    r->most = o->max_tokens && o->max_tokens <= room ? n_ids + o->max_tokens - 1 : n_ctx;
    r->n_images = n_images;
    r->result = (sl_queue_result) { .size = sizeof r->result, .user = o->user };
    r->tokens = sl_mem_alloc(&queue->mem, capacity, sizeof *r->tokens);
    r->images = sl_mem_alloc(&queue->mem, n_images, sizeof *r->images);
    if (!r->tokens || !r->images)
        return SL_ERR_NOMEM;
    memcpy(r->tokens, prompt, n_ids * sizeof *prompt);
    for (size_t i = 0; i < n_images; i++)
        if (!(r->images[i] = images[i]))
            return sl_null_argument("sl_queue_submit");
    return sl_shown_open(&r->shown, queue->session->model, o, sl_shown_begins(queue->session->model, prompt, n_ids));
}

sl_status sl_queue_submit(sl_queue *queue, const sl_token *prompt, size_t n_ids, const sl_generate_options *options, const sl_image *const *images, size_t n_images, uint64_t *id)
{
    sl_generate_options o;
    SL_NEEDS("sl_queue_submit", queue && prompt && n_ids && (images || !n_images));
    SL_TRY(check_idle(queue, "sl_queue_submit"));
    SL_TRY(sl_options_read(&o, sizeof o, options));
    SL_TRY(check_request(queue, prompt, n_ids, &o));
    sl_request *r = sl_mem_alloc(&queue->mem, 1, sizeof *r);
    if (!r)
        return SL_ERR_NOMEM;
    const sl_status status = fill_request(queue, r, prompt, n_ids, &o, images, n_images);
    if (status != SL_OK) {
        free_request(queue, r);
        return status;
    }
    r->result.id = ++queue->last_id;
    r->since_ns = sl_clock_ns();
    sl_request_append(&queue->live, r);
    queue->n_live++;
    if (id)
        *id = r->result.id;
    return SL_OK;
}

sl_status sl_queue_cancel(sl_queue *queue, uint64_t id)
{
    SL_NEEDS("sl_queue_cancel", queue);
    SL_TRY(check_idle(queue, "sl_queue_cancel"));
    sl_request *r = queue->live;
    while (r && r->result.id != id)
        r = r->next;
    if (!r)
        return sl_fail(SL_ERR_MISSING, "queue: no request %llu is waiting or being computed", (unsigned long long)id);
    char before[SL_SENTENCE_BYTES];
    sl_sentence_keep(before);
    sl_queue_end(queue, r, sl_fail(SL_ERR_CANCELLED, "queue: request %llu was cancelled", (unsigned long long)id), 0, 1);
    sl_sentence_restore(before);
    return SL_OK;
}

/* ---- computing ---- */

/* Steps once, or until all has ended. */
static sl_status work(sl_queue *queue, int all, const char *function)
{
    SL_NEEDS(function, queue);
    SL_TRY(check_idle(queue, function));
    char before[SL_SENTENCE_BYTES];
    sl_sentence_keep(before);
    sl_status status = SL_OK;
    do {
        queue->busy = 1;
        status = queue->n_live ? sl_queue_pass(queue) : SL_OK;
        queue->busy = 0;
    } while (all && status == SL_OK && queue->n_live && !queue->doomed);
    if (queue->doomed) {
        sl_queue_free(queue);
        return sl_fail(SL_ERR_STATE, "%s: a callback freed the queue", function);
    }
    if (status == SL_OK)
        sl_sentence_restore(before);
    return status;
}

sl_status sl_queue_step(sl_queue *queue) { return work(queue, 0, "sl_queue_step"); }
sl_status sl_queue_run(sl_queue *queue) { return work(queue, 1, "sl_queue_run"); }
size_t sl_queue_length(const sl_queue *queue) { return queue ? queue->n_live : 0; }

sl_status sl_queue_take(sl_queue *queue, sl_queue_result *result)
{
    const sl_queue_result none = { .size = sizeof none };
    SL_NEEDS("sl_queue_take", queue && result);
    SL_TRY(check_idle(queue, "sl_queue_take"));
    sl_request *r = queue->ended;
    SL_TRY(sl_result_write(result, r ? &r->result : &none, sizeof *result));
    if (!r)
        return SL_OK;
    if (r->result.status != SL_OK)
        sl_sentence_restore(r->sentence);
    queue->ended = r->next;
    free_request(queue, r);
    return SL_OK;
}
