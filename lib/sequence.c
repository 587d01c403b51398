/* SPDX-License-Identifier: MIT */
/* sequence.c - the timelines of a session: tokens, and pages that they share until one of them writes. */
#include "sequence.h"

#include <string.h>

sl_status sl_sequences_init(sl_session *s)
{
    const sl_mem *mem = &s->model->mem;
    const uint32_t n = s->sizes.n_seq;
    size_t row_bytes = 0;
    s->seqs = sl_mem_alloc(mem, n, sizeof *s->seqs);
    s->taking_part = sl_mem_alloc(mem, n, sizeof *s->taking_part);
    if (!s->seqs || !s->taking_part)
        return SL_ERR_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        s->seqs[i].tokens = sl_mem_alloc(mem, s->sizes.n_ctx, sizeof *s->seqs[i].tokens);
        s->seqs[i].pages = sl_mem_alloc(mem, (size_t)s->sizes.n_table, sizeof *s->seqs[i].pages);
        if (!s->seqs[i].tokens || !s->seqs[i].pages)
            return SL_ERR_NOMEM;
        s->seqs[i].n_own = SIZE_MAX;
    }
    if (sl_mul((size_t)s->sizes.n_table, sizeof *s->table, &row_bytes))
        return sl_fail(SL_ERR_OVERFLOW, "session: page tables do not fit the address space");
    s->table = sl_mem_alloc(mem, n < s->sizes.n_batch ? n : s->sizes.n_batch, row_bytes);
    return s->table ? sl_pages_init(&s->pages, mem, (size_t)s->sizes.n_pages) : SL_ERR_NOMEM;
}

void sl_sequences_free(sl_session *s)
{
    const sl_mem *mem = &s->model->mem;
    for (uint32_t i = 0; s->seqs && i < s->sizes.n_seq; i++) {
        sl_mem_free(mem, s->seqs[i].tokens);
        sl_mem_free(mem, s->seqs[i].pages);
    }
    sl_pages_end(&s->pages, mem);
    sl_mem_free(mem, s->table);
    sl_mem_free(mem, s->taking_part);
    sl_mem_free(mem, s->seqs);
}

/* ---- pages ---- */

static size_t pages_of(size_t n_tokens) { return (n_tokens + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS; }

/* The page that the next token is written to, or NULL if that begins a new one. */
static int32_t *open_page(const sl_sequence *seq) { return seq->length / SL_PAGE_KEYS < seq->n_pages ? &seq->pages[seq->length / SL_PAGE_KEYS] : NULL; }

size_t sl_sequences_lack(sl_session *s, size_t n_taking_part)
{
    size_t lack = 0;
    /* Of those that share an open page all but one copy it. */
    for (size_t i = 0; i < n_taking_part; i++) {
        const sl_sequence *seq = &s->seqs[s->taking_part[i]];
        const int32_t *open = open_page(seq);
        lack += pages_of(seq->length + seq->n_new) - seq->n_pages;
        if (open && s->pages.holders[*open]-- > 1)
            lack++;
    }
    for (size_t i = 0; i < n_taking_part; i++) {
        const int32_t *open = open_page(&s->seqs[s->taking_part[i]]);
        if (open)
            s->pages.holders[*open]++;
    }
    return lack;
}

/* A page of its own with the same content in the place of one that others hold too. */
static sl_status own_page(sl_session *s, int32_t *page)
{
    if (s->pages.holders[*page] == 1)
        return SL_OK;
    const int32_t own = sl_pages_take(&s->pages);
    if (own < 0)
        return sl_fail(SL_ERR_INTERNAL, "session: no page left");
    const sl_status status = sl_kv_copy_page(&s->kv, s->model, *page, own);
    sl_pages_release(&s->pages, status == SL_OK ? *page : own);
    if (status == SL_OK)
        *page = own;
    return status;
}

/* Pages of positions [from, to) that other sequences hold, too. */
static size_t count_shared(const sl_session *s, const sl_sequence *seq, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from / SL_PAGE_KEYS; i < pages_of(to); i++)
        n += s->pages.holders[seq->pages[i]] > 1;
    return n;
}

/* Makes it hold them alone. */
static sl_status own_pages(sl_session *s, sl_sequence *seq, size_t from, size_t to)
{
    for (size_t i = from / SL_PAGE_KEYS; i < pages_of(to); i++)
        SL_TRY(own_page(s, &seq->pages[i]));
    return SL_OK;
}

sl_status sl_sequence_extend(sl_session *s, sl_sequence *seq, size_t n_new)
{
    int32_t *open = open_page(seq);
    if (open)
        SL_TRY(own_page(s, open));
    for (const size_t n = pages_of(seq->length + n_new); seq->n_pages < n; seq->n_pages++)
        if ((seq->pages[seq->n_pages] = sl_pages_take(&s->pages)) < 0)
            return sl_fail(SL_ERR_INTERNAL, "session: no page left");
    return SL_OK;
}

void sl_sequence_trim(sl_session *s, sl_sequence *seq)
{
    while (seq->n_pages > pages_of(seq->length + seq->n_again))
        sl_pages_release(&s->pages, seq->pages[--seq->n_pages]);
}

/* ---- going back ---- */

static void cut(sl_session *s, sl_sequence *seq, size_t length)
{
    seq->length = length;
    seq->n_own = seq->n_own < length ? seq->n_own : SIZE_MAX;
    sl_sequence_trim(s, seq);
}

void sl_sequence_rewind_to(sl_session *s, uint32_t seq, size_t length)
{
    cut(s, &s->seqs[seq], length);
    sl_pictures_forget(&s->pictures, seq, s->seqs[seq].tokens, length, 1);
}

void sl_sequence_step_back(sl_session *s, uint32_t seq, size_t length)
{
    cut(s, &s->seqs[seq], length);
    sl_pictures_unplace(&s->pictures, seq, s->seqs[seq].tokens, length);
}

size_t sl_sequence_match(sl_session *s, uint32_t seq, const sl_token *ids, size_t n_ids)
{
    sl_sequence *q = &s->seqs[seq];
    const size_t most = sl_sequence_own_bits(q);
    size_t n = 0;
    while (n < most && n + 1 < n_ids && q->tokens[n] == ids[n])
        n++;
    cut(s, q, n);
    sl_pictures_forget(&s->pictures, seq, q->tokens, n, 0);
    return n;
}

/* ---- moving ---- */

/* Everything from position keep + discard on goes back by `discard`, in order: what a pass writes stands before all that later ones read. */
static sl_status move_back(sl_session *s, const sl_sequence *seq, size_t keep, size_t discard)
{
    const atomic_int never = 0;         /* half of it would be of no use */
    for (size_t at = keep + discard; at < seq->length;) {
        const size_t left = seq->length - at, n = left < s->sizes.n_batch ? left : s->sizes.n_batch;
        int32_t *to = s->ranges;
        for (size_t i = 0; i < n; i++) {
            s->positions[i] = (int32_t)(at + i);
            to[i] = (int32_t)(at + i - discard);
            s->marks[i] = -(int32_t)discard;
        }
        const sl_move move = { .n_tok = (int64_t)n, .n_pages = (int64_t)seq->n_pages, .from = s->positions, .to = to, .by = s->marks, .pages = seq->pages, .kv = &s->kv };
        SL_TRY(sl_plan_run(&s->moving, s->model, s->arena, sl_move_pass, &move, &never));
        at += n;
    }
    return SL_OK;
}

sl_status sl_sequence_shift(sl_session *s, uint32_t q, size_t keep, size_t discard)
{
    sl_sequence *seq = &s->seqs[q];
    const size_t length = seq->length - discard;
    if (sl_pictures_count(&s->pictures, q))
        return sl_fail(SL_ERR_UNSUPPORTED, "session: sequence %u holds pictures: what looks at them cannot be moved", q);
    if (!discard)
        return SL_OK;
    if (length > keep) {
        const size_t lack = count_shared(s, seq, keep, length);
        if (lack > s->pages.n_free)
            return sl_fail(SL_ERR_FULL, "session: %zu pages of the cache are wanted, %zu of %zu are free", lack, s->pages.n_free, s->pages.n);
        SL_TRY(own_pages(s, seq, keep, length));
        const sl_status status = move_back(s, seq, keep, discard);
        if (status != SL_OK) {
            cut(s, seq, keep);
            return status;
        }
        memmove(seq->tokens + keep, seq->tokens + keep + discard, (length - keep) * sizeof *seq->tokens);
        seq->n_own = seq->n_own < keep ? seq->n_own : keep;
    }
    cut(s, seq, length);
    return SL_OK;
}

/* ---- copies ---- */

sl_status sl_sequence_copy(sl_session *s, uint32_t from, uint32_t to, size_t length)
{
    const sl_sequence *source = &s->seqs[from];
    sl_sequence *target = &s->seqs[to];
    SL_TRY(sl_pictures_copy(&s->pictures, from, to, source->tokens, length));
    cut(s, target, 0);
    memcpy(target->tokens, source->tokens, length * sizeof *target->tokens);
    target->length = length;
    target->n_own = source->n_own < length ? source->n_own : SIZE_MAX;
    for (const size_t n = pages_of(length); target->n_pages < n; target->n_pages++) {
        target->pages[target->n_pages] = source->pages[target->n_pages];
        sl_pages_hold(&s->pages, target->pages[target->n_pages]);
    }
    return SL_OK;
}
