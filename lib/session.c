/* SPDX-License-Identifier: MIT */
/* session.c - appending tokens in passes; everything is allocated when the session is opened. */
#include "session.h"

#include "arith.h"
#include "platform.h"

#include <string.h>

enum { DEFAULT_CTX = 4096, DEFAULT_BATCH = 512 };

static int64_t pages_of(uint64_t n_positions) { return (int64_t)((n_positions + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS); }

sl_status sl_session_sizes(const sl_model *model, const sl_session_options *o, sl_sizes *sizes)
{
    const uint32_t trained = model->hp.n_ctx_train;
    *sizes = (sl_sizes) { .n_ctx = o->n_ctx ? o->n_ctx : trained < DEFAULT_CTX ? trained : DEFAULT_CTX, .n_batch = o->n_batch ? o->n_batch : DEFAULT_BATCH,
                          .n_seq = o->n_seq ? o->n_seq : 1 };
    if (sizes->n_ctx > SL_LIMIT_CONTEXT)
        return sl_fail(SL_ERR_LIMIT, "session: a context of %u positions, the limit is %d", sizes->n_ctx, SL_LIMIT_CONTEXT);
    if (sizes->n_batch > SL_LIMIT_BATCH)
        return sl_fail(SL_ERR_LIMIT, "session: batches of %u tokens, the limit is %d", sizes->n_batch, SL_LIMIT_BATCH);
    if (sizes->n_seq > SL_LIMIT_SEQUENCES)
        return sl_fail(SL_ERR_LIMIT, "session: %u sequences, the limit is %d", sizes->n_seq, SL_LIMIT_SEQUENCES);
    if (o->n_ctx_shared && o->n_ctx_shared < sizes->n_ctx)
        return sl_fail(SL_ERR_RANGE, "session: %llu positions for all sequences, and %u for one", (unsigned long long)o->n_ctx_shared, sizes->n_ctx);
    sizes->n_table = pages_of(sizes->n_ctx);
    sizes->n_pages = sizes->n_table * sizes->n_seq;
    if (o->n_ctx_shared && o->n_ctx_shared < (uint64_t)sizes->n_pages * SL_PAGE_KEYS)
        sizes->n_pages = pages_of(o->n_ctx_shared);
    /* A pass can hold what all sequences can hold, and no more. */
    if (sizes->n_batch / sizes->n_seq >= sizes->n_ctx)
        sizes->n_batch = sizes->n_ctx * sizes->n_seq;
    return sl_kv_type(&sizes->cache_type, o->cache_type);
}

sl_status sl_session_plan(const sl_model *model, const sl_kv *kv, const sl_pictures *pictures, const sl_sizes *sizes, sl_plan *plan, sl_plan *seeing, sl_plan *moving, size_t *arena_bytes)
{
    const sl_move move = { .n_tok = sizes->n_batch, .n_pages = sizes->n_table, .kv = kv };
    *seeing = *moving = (sl_plan) { .mem = &model->mem };
    SL_TRY(sl_text_plan(plan, model, kv, NULL, sizes->n_batch, sizes->n_seq, sizes->n_table));
    sl_status status = sl_plan_make(moving, model, sl_move_pass, &move);
    if (status == SL_OK && pictures->kv) {
        const sl_work_sight most = sl_pictures_sight(pictures, NULL, NULL);
        status = sl_text_plan(seeing, model, kv, &most, sizes->n_batch, sizes->n_seq, sizes->n_table);
    }
    if (status != SL_OK) {
        sl_plan_free(plan);
        sl_plan_free(moving);
        return status;
    }
    for (int d = 0; d < model->n_devices; d++) {
        arena_bytes[d] = plan->arena[d] > seeing->arena[d] ? plan->arena[d] : seeing->arena[d];
        arena_bytes[d] = arena_bytes[d] > moving->arena[d] ? arena_bytes[d] : moving->arena[d];
    }
    return SL_OK;
}

static sl_status allocate(sl_session *s)
{
    const sl_mem *mem = &s->model->mem;
    const uint32_t n_batch = s->sizes.n_batch;
    SL_TRY(sl_kv_init(&s->kv, s->model, s->sizes.cache_type, s->sizes.n_pages));
    SL_TRY(sl_pictures_init(&s->pictures, s->model, s->sizes.cache_type, s->sizes.n_seq));
    SL_TRY(sl_session_plan(s->model, &s->kv, &s->pictures, &s->sizes, &s->plan, &s->seeing, &s->moving, s->arena_bytes));
    SL_TRY(sl_sequences_init(s));
    s->ids = sl_mem_alloc(mem, n_batch, sizeof *s->ids);
    s->positions = sl_mem_alloc(mem, n_batch, sizeof *s->positions);
    s->rows = sl_mem_alloc(mem, n_batch, sizeof *s->rows);
    s->wanted = sl_mem_alloc(mem, n_batch, sizeof *s->wanted);
    s->ranges = sl_mem_alloc(mem, n_batch, 2 * sizeof *s->ranges);
    s->marks = sl_mem_alloc(mem, n_batch, sizeof *s->marks);
    if (!s->ids || !s->positions || !s->rows || !s->wanted || !s->ranges || !s->marks)
        return SL_ERR_NOMEM;
    for (int d = 0; d < s->model->n_devices; d++)
        SL_TRY(s->model->devices[d].backend->alloc(s->model->devices[d].handle, s->arena_bytes[d], &s->arena[d]));
    return sl_kv_alloc(&s->kv, s->model);
}

sl_status sl_session_open(sl_session **out, sl_model *model, const sl_session_options *options)
{
    sl_sizes sizes;
    SL_TRY(sl_session_sizes(model, options, &sizes));
    sl_session *s = sl_mem_alloc(&model->mem, 1, sizeof *s);
    if (!s)
        return SL_ERR_NOMEM;
    s->model = model;
    s->sizes = sizes;
    s->plan.mem = s->seeing.mem = s->moving.mem = &model->mem;
    atomic_init(&s->cancel, 0);
    sl_status status = allocate(s);
    if (status != SL_OK)
        sl_session_close(s);
    else
        *out = s;
    return status;
}

void sl_session_close(sl_session *s)
{
    const sl_model *model = s->model;
    if (s->plan.observer)
        s->plan.observer->gone(s->plan.observer);
    for (int d = 0; d < model->n_devices; d++)
        if (s->arena[d])
            model->devices[d].backend->free(model->devices[d].handle, s->arena[d], s->arena_bytes[d]);
    sl_kv_free(&s->kv, model);
    sl_pictures_free(&s->pictures);
    sl_sequences_free(s);
    sl_plan_free(&s->plan);
    sl_plan_free(&s->seeing);
    sl_mem_free(&model->mem, s->ids);
    sl_plan_free(&s->moving);
    sl_mem_free(&model->mem, s->positions);
    sl_mem_free(&model->mem, s->rows);
    sl_mem_free(&model->mem, s->wanted);
    sl_mem_free(&model->mem, s->ranges);
    sl_mem_free(&model->mem, s->marks);
    sl_mem_free(&model->mem, s);
}

sl_status sl_session_observe(sl_session *s, sl_observer *observer)
{
    if (observer && s->plan.observer)
        return sl_fail(SL_ERR_STATE, "session: it is observed already");
    s->plan.observer = s->seeing.observer = s->pictures.plan.observer = observer;
    return SL_OK;
}

/* ---- what takes part ---- */

/* The sequences of n tokens from number `first` on, in the order of their first tokens, and how many tokens each gets; returns how many there are. */
static size_t take_part(sl_session *s, const sl_feed *feed, size_t first, size_t n)
{
    size_t n_part = 0;
    if (!feed->seqs) {
        s->seqs[feed->seq].n_new = n;
        s->seqs[feed->seq].row = 0;
        s->taking_part[0] = feed->seq;
        return n > 0;
    }
    for (size_t i = first; i < first + n; i++)
        s->seqs[sl_feed_seq(feed, i)].n_new = 0;
    for (size_t i = first; i < first + n; i++) {
        sl_sequence *seq = &s->seqs[sl_feed_seq(feed, i)];
        if (!seq->n_new++) {
            seq->row = (int32_t)n_part;
            s->taking_part[n_part++] = sl_feed_seq(feed, i);
        }
    }
    return n_part;
}

/* Room for all tokens of the call. */
static sl_status check_room(sl_session *s, const sl_feed *feed)
{
    const size_t n_part = take_part(s, feed, 0, feed->n);
    for (size_t i = 0; i < n_part; i++) {
        const sl_sequence *seq = &s->seqs[s->taking_part[i]];
        if (seq->n_new > s->sizes.n_ctx - seq->length)
            return sl_fail(SL_ERR_FULL, "session: %zu tokens do not fit behind %zu of %u", seq->n_new, seq->length, s->sizes.n_ctx);
    }
    const size_t lack = sl_sequences_lack(s, n_part);
    return lack <= s->pages.n_free ? SL_OK : sl_fail(SL_ERR_FULL, "session: %zu pages of the cache are wanted, %zu of %zu are free", lack, s->pages.n_free, s->pages.n);
}

sl_status sl_session_check_ids(const sl_session *s, const sl_token *ids, size_t n)
{
    const sl_hparams *hp = &s->model->hp;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= hp->n_token)
            return sl_fail(SL_ERR_RANGE, "session: token %d at index %zu, the vocabulary has %u", ids[i], i, hp->n_token);
    return SL_OK;
}

static sl_status check(sl_session *s, const sl_feed *feed)
{
    const sl_hparams *hp = &s->model->hp;
    if (feed->seqs && feed->n > (size_t)s->sizes.n_ctx * s->sizes.n_seq)
        return sl_fail(SL_ERR_FULL, "session: %zu tokens do not fit into %u sequences of %u", feed->n, s->sizes.n_seq, s->sizes.n_ctx);
    for (size_t i = 0; feed->seqs && i < feed->n; i++)
        if (sl_feed_seq(feed, i) >= s->sizes.n_seq)
            return sl_fail(SL_ERR_RANGE, "session: sequence %u at index %zu, there are %u", sl_feed_seq(feed, i), i, s->sizes.n_seq);
    SL_TRY(check_room(s, feed));
    SL_TRY(sl_session_check_ids(s, feed->ids, feed->n));
    for (uint32_t q = 0; q < s->sizes.n_seq; q++)
        s->seqs[q].n_new = 0;       /* pictures that are used up */
    for (size_t i = 0; i < feed->n; i++) {
        const sl_token id = feed->ids[i];
        if ((uint32_t)id < hp->n_vocab && id != hp->vision.token)
            continue;
        if (s->seqs[sl_feed_seq(feed, i)].n_new++ == sl_pictures_waiting(&s->pictures, sl_feed_seq(feed, i)))
            return sl_fail(SL_ERR_STATE, "session: the image token at index %zu has no picture; add it to the session first", i);
    }
    return SL_OK;
}

static sl_status check_rows(const float *rows, size_t n, int vectors)
{
    for (size_t i = 0; i < n; i++)
        if (!sl_is_finite(rows[i]))
            return sl_fail(SL_ERR_NONFINITE, "session: %s %zu is infinite or not a number", vectors ? "element" : "logit", i);
    return SL_OK;
}

/* ---- passes ---- */

/* Floats of each row that is wanted. */
static size_t row_length(const sl_session *s, const sl_feed *feed) { return feed->vectors ? s->model->hp.n_embd : s->model->hp.n_vocab; }

/* Where n tokens stand: positions, rows of the page table, and that table; *n_wanted: of those whose logits are wanted. Returns the width of the table. */
static int64_t place(sl_session *s, const sl_feed *feed, size_t first, size_t n, size_t n_part, size_t *n_wanted)
{
    size_t width = 1;
    for (size_t i = 0; i < n_part; i++) {
        sl_sequence *seq = &s->seqs[s->taking_part[i]];
        width = seq->n_pages > width ? seq->n_pages : width;
        seq->n_new = 0;
    }
    *n_wanted = 0;
    for (size_t i = 0; i < n; i++) {
        sl_sequence *seq = &s->seqs[sl_feed_seq(feed, first + i)];
        s->positions[i] = (int32_t)(seq->length + seq->n_new++);
        s->rows[i] = seq->row;
        if (sl_feed_wants(feed, first + i))
            s->wanted[(*n_wanted)++] = (int32_t)i;
    }
    for (size_t i = 0; i < n_part; i++) {
        const sl_sequence *seq = &s->seqs[s->taking_part[i]];
        memcpy(s->table + i * width, seq->pages, seq->n_pages * sizeof *s->table);
        memset(s->table + i * width + seq->n_pages, 0, (width - seq->n_pages) * sizeof *s->table);
    }
    return (int64_t)width;
}

/* The ids of n tokens with a row of the embedding each: what stands for a vector that has none takes row 0, before the vector takes its place. */
static const sl_token *embedded(sl_session *s, const sl_token *ids, size_t n)
{
    const sl_hparams *hp = &s->model->hp;
    if (hp->n_token == hp->n_token_rows)
        return ids;
    for (size_t i = 0; i < n; i++)
        s->ids[i] = (uint32_t)ids[i] < hp->n_token_rows ? ids[i] : 0;
    return s->ids;
}

static sl_status compute(sl_session *s, const sl_feed *feed, size_t first, size_t n, size_t n_part, float *rows, size_t *n_wanted)
{
    for (size_t i = 0; i < n_part; i++)
        SL_TRY(sl_sequence_extend(s, &s->seqs[s->taking_part[i]], s->seqs[s->taking_part[i]].n_new));
    const int64_t width = place(s, feed, first, n, n_part, n_wanted);
    const sl_token *ids = feed->ids + first;
    const sl_looking looking = { ids, s->positions, s->rows, n, s->taking_part, n_part };
    const int seeing = sl_pictures_look(&s->pictures, &looking, s->ranges, s->marks);
    const sl_work_sight sight = sl_pictures_sight(&s->pictures, s->ranges, s->marks);
    const sl_work work = { .n_tok = (int64_t)n, .n_pages = width, .n_seq = (int64_t)n_part, .n_rows = (int64_t)*n_wanted, .ids = embedded(s, ids, n), .positions = s->positions, .seqs = s->rows,
                           .pages = s->table, .kv = &s->kv, .sight = seeing ? &sight : NULL, .rows = s->wanted, .vectors = feed->vectors, .out = rows };
    const uint64_t start = sl_clock_ns();
    sl_status status = sl_plan_run(seeing ? &s->seeing : &s->plan, s->model, s->arena, sl_text_pass, &work, &s->cancel);
    s->busy_ns += sl_clock_ns() - start;
    return status == SL_OK ? check_rows(rows, *n_wanted * row_length(s, feed), feed->vectors) : status;
}

/* One pass over n tokens from number `first` on. If it fails nothing was appended. */
static sl_status pass(sl_session *s, const sl_feed *feed, size_t first, size_t n, float *rows, size_t *n_wanted)
{
    const size_t n_part = take_part(s, feed, first, n);
    sl_status status = compute(s, feed, first, n, n_part, rows, n_wanted);
    for (size_t i = 0; status == SL_OK && i < n; i++) {
        sl_sequence *seq = &s->seqs[sl_feed_seq(feed, first + i)];
        seq->tokens[seq->length++] = feed->ids[first + i];
    }
    if (status != SL_OK) {
        for (size_t i = 0; i < n_part; i++)
            sl_sequence_trim(s, &s->seqs[s->taking_part[i]]);
        return status;
    }
    sl_pictures_looked(&s->pictures, s->taking_part, n_part);
    s->n_passes++;
    s->n_tokens += n;
    return SL_OK;
}

sl_status sl_session_check_cancel(sl_session *s) { return atomic_exchange(&s->cancel, 0) ? sl_fail(SL_ERR_CANCELLED, "session: cancelled") : SL_OK; }

sl_status sl_session_append(sl_session *s, const sl_feed *feed, float *rows)
{
    SL_TRY(check(s, feed));
    for (size_t at = 0; at < feed->n;) {
        const size_t n = feed->n - at < s->sizes.n_batch ? feed->n - at : s->sizes.n_batch;
        size_t n_wanted = 0;
        SL_TRY(sl_session_check_cancel(s));
        sl_status status = pass(s, feed, at, n, rows, &n_wanted);
        if (status == SL_ERR_CANCELLED)
            atomic_store(&s->cancel, 0);
        SL_TRY(status);
        at += n;
        if (n_wanted)
            rows += n_wanted * row_length(s, feed);
    }
    return SL_OK;
}

sl_status sl_session_again(sl_session *s, uint32_t seq, float *logits)
{
    sl_sequence *q = &s->seqs[seq];
    sl_album *album = s->pictures.albums ? &s->pictures.albums[seq] : NULL;
    const sl_album before = album ? *album : (sl_album) { .n = 0 };
    SL_TRY(sl_session_check_cancel(s));
    const sl_token last = q->tokens[--q->length];
    q->n_again = 1;
    sl_pictures_unplace(&s->pictures, seq, q->tokens, q->length);
    const sl_status status = sl_session_append(s, &(sl_feed) { .ids = &last, .n = 1, .n_rows = 1, .seq = seq }, logits);
    q->n_again = 0;
    if (status == SL_OK)
        return SL_OK;
    /* What a pass that failed has written is what was there: the same bits, but behind a shift. */
    if (status == SL_ERR_FULL || q->length < q->n_own) {
        q->length++;
        if (album)
            *album = before;
    } else
        sl_sequence_step_back(s, seq, q->length);
    return status;
}
