/* SPDX-License-Identifier: MIT */
/* queue_pass.c - one pass of a queue: which requests begin, which tokens are computed, who gives way when pages are short, and what follows.
 *
 * A request is a list of known tokens of which the first are computed. Prompts, texts that go on and texts that are computed once more are all the same: tokens that are known and not
 * computed. When all are, the next one is chosen. So a request that gives its pages back loses time and nothing else: the numerics promise the same bits again. */
#include "fpenv.h"
#include "platform.h"
#include "queue_pass.h"
#include "sample.h"

#include <string.h>

enum { WORTH = 16 };    /* tokens of a beginning that are worth to wait a pass for, or to copy a page for */

static size_t pages_of(size_t n_tokens) { return (n_tokens + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS; }
static sl_sequence *sequence_of(const sl_queue *queue, const sl_request *r) { return &queue->session->seqs[r->seq]; }

/* 1 for an id that stands for a picture, or for a part of one. */
static int is_picture(const sl_queue *queue, sl_token id)
{
    const sl_hparams *hp = &queue->session->model->hp;
    return (uint32_t)id >= hp->n_vocab || id == hp->vision.token;
}

static uint64_t lap(sl_request *r)
{
    const uint64_t now = sl_clock_ns(), ns = now - r->since_ns;
    r->since_ns = now;
    return ns;
}

/* ---- ending ---- */

void sl_request_append(sl_request **list, sl_request *r)
{
    while (*list)
        list = &(*list)->next;
    *list = r;
    r->next = NULL;
}

/* Its text stays if others may share it; one with pictures does not. */
static void leave_sequence(sl_queue *queue, sl_request *r, int keep)
{
    if (!r->placed)
        return;
    queue->holders[r->seq - queue->first] = NULL;
    queue->used[r->seq - queue->first] = queue->n_steps;
    r->placed = 0;
    if (!keep || r->n_images)
        sl_sequence_rewind_to(queue->session, r->seq, 0);
}

void sl_queue_end(sl_queue *queue, sl_request *r, sl_status status, uint32_t finish, int quiet)
{
    if (status != SL_OK)
        sl_sentence_keep(r->sentence);
    if (r->result.n_tokens) {
        r->result.decode_ns = sl_clock_ns() - r->since_ns;
        if (!quiet)
            sl_shown_flush(&r->shown);
    }
    leave_sequence(queue, r, r->reuse && status == SL_OK);
    sl_request **at = &queue->live;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    queue->n_live--;
    r->running = 0;
    r->sampler = NULL;
    r->result.status = status;
    r->result.finish = status == SL_OK ? finish : 0;
    sl_request_append(&queue->ended, r);
}

/* ---- room ---- */

/* Empties the sequence whose text was left or shared longest ago, but not number `spare`. 0 if there is none. */
static int forget_oldest(sl_queue *queue, uint32_t spare)
{
    sl_session *s = queue->session;
    uint32_t oldest = UINT32_MAX;
    for (uint32_t i = 0; i < queue->n_seq; i++)
        if (!queue->holders[i] && s->seqs[queue->first + i].length && queue->first + i != spare && (oldest == UINT32_MAX || queue->used[i] < queue->used[oldest]))
            oldest = i;
    if (oldest == UINT32_MAX)
        return 0;
    sl_sequence_rewind_to(s, queue->first + oldest, 0);
    return 1;
}

static sl_request *youngest_running(const sl_queue *queue, size_t *n_running)
{
    sl_request *youngest = NULL;
    *n_running = 0;
    for (sl_request *r = queue->live; r; r = r->next)
        if (r->running)
            youngest = r, ++*n_running;
    return youngest;
}

/* There is no room for a request although none but it is running. */
static void end_without_room(sl_queue *queue, sl_request *r)
{
    if (r->result.n_tokens)
        sl_queue_end(queue, r, SL_OK, SL_FINISH_FULL, 0);
    else
        sl_queue_end(queue, r, sl_fail(SL_ERR_FULL, "queue: other sequences hold the pages that a prompt of %zu tokens wants", r->n_prompt), 0, 0);
}

/* Gets pages from somebody. */
static void give_way(sl_queue *queue)
{
    size_t n_running;
    if (forget_oldest(queue, UINT32_MAX))
        return;
    sl_request *r = youngest_running(queue, &n_running);
    if (n_running == 1) {
        end_without_room(queue, r);
        return;
    }
    sl_sequence_step_back(queue->session, r->seq, 0);       /* its pictures wait again */
    r->n_done = 0;
    r->running = 0;
    r->result.n_restarts++;
}

/* ---- beginning ---- */

/* How many of the request's tokens, but the last, stand at the beginning of ids[n], up to a first picture. */
static size_t in_common(const sl_queue *queue, const sl_request *r, const sl_token *ids, size_t n)
{
    size_t same = 0;
    while (same < n && same + 1 < r->n_known && ids[same] == r->tokens[same] && !is_picture(queue, ids[same]))
        same++;
    return same;
}

/* The sequence that holds most of a request's beginning, and how much: 0 if none is worth it. */
static size_t find_shared(const sl_queue *queue, const sl_request *r, uint32_t *from)
{
    const sl_session *s = queue->session;
    size_t most = WORTH - 1;
    *from = UINT32_MAX;
    for (uint32_t q = 0; q < s->sizes.n_seq; q++) {
        const size_t n = in_common(queue, r, s->seqs[q].tokens, sl_sequence_own_bits(&s->seqs[q]));
        if (n > most)
            most = n, *from = q;
    }
    return *from == UINT32_MAX ? 0 : most;
}

/* 1 if a running request is about to compute more of its beginning than `shared` tokens. */
static int will_be_shared(const sl_queue *queue, const sl_request *r, size_t shared)
{
    for (const sl_request *other = queue->live; other; other = other->next)
        if (other->running && other->n_done < other->n_known && in_common(queue, r, other->tokens, other->n_known) >= shared + WORTH)
            return 1;
    return 0;
}

/* One page more than for what it knows, if it may grow so far: a text that has begun goes on for a while before it has to give way. */
static size_t pages_ahead(const sl_request *r) { return pages_of(r->most) > pages_of(r->n_known); }

/* Pages that those who run lack for what they know, and those ahead. */
static size_t pages_promised(const sl_queue *queue)
{
    size_t n = 0;
    for (const sl_request *r = queue->live; r; r = r->next)
        if (r->running)
            n += pages_of(r->n_known) - sequence_of(queue, r)->n_pages + pages_ahead(r);
    return n;
}

/* A sequence for it: an empty one, or one whose text nobody needs, that of `from` last. UINT32_MAX: there is none. */
static uint32_t find_place(const sl_queue *queue, uint32_t from)
{
    const sl_session *s = queue->session;
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < queue->n_seq; i++) {
        const uint32_t seq = queue->first + i;
        if (queue->holders[i] || seq == from)
            continue;
        if (!s->seqs[seq].length)
            return seq;
        if (best == UINT32_MAX || queue->used[i] < queue->used[best - queue->first])
            best = seq;
    }
    const int free_source = from >= queue->first && from - queue->first < queue->n_seq && !queue->holders[from - queue->first];
    return best == UINT32_MAX && free_source ? from : best;
}

/* The pictures, and whether there is one for every token that stands for one. */
static sl_status add_pictures(sl_queue *queue, sl_request *r)
{
    sl_session *s = queue->session;
    size_t n = 0;
    for (size_t i = 0; i < r->n_images; i++)
        SL_TRY(sl_pictures_add(&s->pictures, r->seq, r->images[i], &s->cancel));
    for (size_t i = 0; i < r->n_prompt; i++)
        n += is_picture(queue, r->tokens[i]);
    if (n > sl_pictures_waiting(&s->pictures, r->seq))
        return sl_fail(SL_ERR_STATE, "queue: %zu image tokens, and the pictures are for %zu", n, sl_pictures_waiting(&s->pictures, r->seq));
    return SL_OK;
}

/* Gives it a sequence, whose beginning is shared. On failure it has none. */
static sl_status place(sl_queue *queue, sl_request *r, uint32_t seq, uint32_t from, size_t shared)
{
    sl_session *s = queue->session;
    if (seq == from)
        sl_sequence_rewind_to(s, seq, shared);
    else {
        sl_sequence_rewind_to(s, seq, 0);
        SL_TRY(shared ? sl_sequence_copy(s, from, seq, shared) : SL_OK);
    }
    r->seq = seq;
    const uint64_t fp = sl_fp_enter();
    const sl_status status = add_pictures(queue, r);
    sl_fp_set(fp);
    if (status != SL_OK) {
        sl_sequence_rewind_to(s, seq, 0);
        return status;
    }
    r->placed = 1;
    queue->holders[seq - queue->first] = r;
    return SL_OK;
}

/* Begins a request, or lets one that gave way go on, if there is room: 0 if not. *status: what ends the step. */
static int begin(sl_queue *queue, sl_request *r, sl_status *status)
{
    const sl_pages *pages = &queue->session->pages;
    uint32_t from = UINT32_MAX;
    size_t n_running, shared = 0;
    if (!r->placed && r->reuse) {
        shared = find_shared(queue, r, &from);
        if (will_be_shared(queue, r, shared))
            return 0;
    }
    youngest_running(queue, &n_running);
    const uint32_t seq = r->placed ? r->seq : find_place(queue, from);
    if (seq == UINT32_MAX)
        return 0;
    const size_t promised = n_running ? pages_promised(queue) + pages_ahead(r) : 0;
    while (pages_of(r->n_known) - shared / SL_PAGE_KEYS + promised > pages->n_free)
        if (!forget_oldest(queue, from)) {
            if (n_running)
                return 0;
            if (!shared) {
                end_without_room(queue, r);
                return 1;
            }
            shared = 0, from = UINT32_MAX;      /* its own text, too */
        }
    *status = r->placed ? SL_OK : place(queue, r, seq, from, shared);
    if (*status == SL_ERR_CANCELLED)
        return 0;
    if (*status != SL_OK) {
        sl_queue_end(queue, r, *status, 0, 0);
        *status = SL_OK;
        return 1;
    }
    if (from != UINT32_MAX && from >= queue->first && from - queue->first < queue->n_seq)
        queue->used[from - queue->first] = queue->n_steps;
    if (!r->result.n_restarts) {
        r->result.wait_ns = lap(r);
        r->result.n_kept = (uint32_t)shared;
        r->result.n_prompt = (uint32_t)(r->n_prompt - shared);
    }
    r->n_done = shared;
    r->running = 1;
    return 1;
}

/* ---- a pass ---- */

/* The tokens of a pass: the next one of every text, then prompts. Returns how many requests take part. */
static size_t choose_rows(sl_queue *queue)
{
    size_t n = 0, room = queue->session->sizes.n_batch;
    uint32_t turn = queue->turn;
    for (uint32_t i = 0; i < queue->n_seq && room; i++) {
        const uint32_t at = (uint32_t)(((uint64_t)queue->turn + i) % queue->n_seq);
        sl_request *r = queue->holders[at];
        if (!r || !r->running || r->n_known - r->n_done != 1)
            continue;
        r->n_new = 1;
        queue->rows[n++] = r;
        room--;
        turn = (at + 1) % queue->n_seq;
    }
    for (sl_request *r = queue->live; r && room; r = r->next) {
        const size_t left = r->n_known - r->n_done;
        if (!r->running || left == 1)
            continue;
        r->n_new = left < room ? left : room;
        queue->rows[n++] = r;
        room -= r->n_new;
    }
    queue->turn = turn;
    return n;
}

/* Pages that the rows lack. */
static size_t lack(sl_queue *queue, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++) {
        queue->session->taking_part[i] = queue->rows[i]->seq;
        sequence_of(queue, queue->rows[i])->n_new = queue->rows[i]->n_new;
    }
    return sl_sequences_lack(queue->session, n_rows);
}

static int completes(const sl_request *r) { return r->n_done + r->n_new == r->n_known; }

/* Computes rows [first, first + n) together. */
static sl_status compute(sl_queue *queue, size_t first, size_t n)
{
    size_t at = 0;
    for (size_t i = first; i < first + n; i++) {
        const sl_request *r = queue->rows[i];
        for (size_t t = 0; t < r->n_new; t++, at++) {
            queue->ids[at] = r->tokens[r->n_done + t];
            queue->seqs[at] = r->seq;
            queue->wanted[at] = t + 1 == r->n_new && completes(r);
        }
    }
    const sl_feed feed = { .ids = queue->ids, .seqs = queue->seqs, .wanted = queue->wanted, .n = at };
    const uint64_t fp = sl_fp_enter();
    const sl_status status = sl_session_append(queue->session, &feed, queue->logits);
    sl_fp_set(fp);
    return status;
}

/* Chooses a request's next token and shows it. *finish: SL_UNFINISHED, or why it has ended. */
static sl_status choose(sl_queue *queue, sl_request *r, float *logits, uint32_t *finish)
{
    const sl_session *s = queue->session;
    sl_token id;
    if (r->sampler && !r->result.n_tokens)
        sl_sampler_follow(r->sampler, r->tokens, r->n_known);
    SL_TRY(sl_sample_next(r->sampler, logits, s->model->hp.n_vocab, s->model->hp.vision.token, &id));
    if (!r->result.n_tokens++)
        r->result.prompt_ns = lap(r);
    if (sl_token_is_end(s->model, id)) {
        *finish = SL_FINISH_END;
        return SL_OK;
    }
    SL_TRY(sl_shown_push(&r->shown, id, finish));
    if (*finish == SL_UNFINISHED && r->result.n_tokens == r->max_tokens)
        *finish = SL_FINISH_LENGTH;
    if (*finish == SL_UNFINISHED && r->n_known == s->sizes.n_ctx)
        *finish = SL_FINISH_FULL;
    if (*finish != SL_UNFINISHED)
        return SL_OK;
    r->tokens[r->n_known++] = id;
    return SL_OK;
}

/* After a pass over rows [first, first + n). */
static void follow(sl_queue *queue, size_t first, size_t n)
{
    float *logits = queue->logits;
    for (size_t i = first; i < first + n; i++) {
        sl_request *r = queue->rows[i];
        const int complete = completes(r);
        uint32_t finish = SL_UNFINISHED;
        r->n_done += r->n_new;
        if (!complete)
            continue;
        const sl_status status = choose(queue, r, logits, &finish);
        logits += queue->session->model->hp.n_vocab;
        if (status != SL_OK || finish != SL_UNFINISHED)
            sl_queue_end(queue, r, status, finish, 0);
    }
}

/* A pass has failed. Whose fault it is shows when each computes alone; a pass that is cancelled, or that memory fails, is nobody's. */
static sl_status find_fault(sl_queue *queue, size_t n_rows, sl_status status)
{
    for (size_t i = 0; i < n_rows; i++) {
        if (n_rows > 1)
            status = compute(queue, i, 1);
        if (status == SL_OK)
            follow(queue, i, 1);
        else if (status == SL_ERR_CANCELLED || status == SL_ERR_NOMEM)
            return status;
        else if (status != SL_ERR_FULL)         /* pages that a callback took: the next pass sees to that */
            sl_queue_end(queue, queue->rows[i], status, 0, 0);
    }
    return SL_OK;
}

sl_status sl_queue_pass(sl_queue *queue)
{
    sl_status status = SL_OK;
    queue->n_steps++;
    for (sl_request *r = queue->live, *next; r; r = next) {
        next = r->next;
        if (!r->running && !begin(queue, r, &status))
            break;
    }
    if (status == SL_ERR_CANCELLED)
        atomic_store(&queue->session->cancel, 0);
    SL_TRY(status);
    size_t n = choose_rows(queue);
    while (n && lack(queue, n) > queue->session->pages.n_free) {
        give_way(queue);
        n = choose_rows(queue);
    }
    if (!n)
        return SL_OK;
    status = compute(queue, 0, n);
    if (status == SL_OK) {
        follow(queue, 0, n);
        return SL_OK;
    }
    return status == SL_ERR_CANCELLED || status == SL_ERR_NOMEM ? status : find_fault(queue, n, status);
}
