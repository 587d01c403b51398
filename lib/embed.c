/* SPDX-License-Identifier: MIT */
/* embed.c - texts through the empty sequences of a session, pass by pass, and their vectors.
 *
 * Tokens go in the order in which they are given, so at most one text is divided between two passes, and sums over the tokens of a text have one order whatever a pass holds. */
#include "embed.h"

#include "arith.h"

#include <string.h>

/* What a vector is made of. "last" is the mean of one, "none" that of each. */
typedef struct pooling {
    const char *name;
    uint32_t number;            /* pooling_type in files */
    int every;                  /* all tokens have a part in it, else the last */
    int apart;                  /* each one has its own */
} pooling;
static const pooling poolings[] = { { "none", 0, 1, 1 }, { "mean", 1, 1, 0 }, { "last", 3, 0, 0 } };
enum { N_POOLINGS = sizeof poolings / sizeof *poolings, PLAIN = 1 };

/* Marks of a token: its row is wanted; it completes a vector; it completes a text. None is without the first. */
enum { WANTED = 1, VECTOR_ENDS = 2, TEXT_ENDS = 4 };

typedef struct embedding {
    sl_session *session;
    const sl_token *ids;        /* those that are still to be computed */
    const size_t *lengths;
    size_t n_texts, text, at;   /* they begin with token `at` of text `text` */
    uint32_t seq;               /* of that text, if it has begun */
    const pooling *pooling;
    int raw;
    float *out;                 /* the next vector */
    uint32_t *seqs;             /* [n_batch] of the pass */
    uint8_t *marks;             /* [n_batch] */
    float *rows;                /* [n_embd, n_batch] */
    double *sum;                /* [n_embd] of the vector that is being made */
    size_t n_summed;
} embedding;

static size_t pages_of(size_t n_tokens) { return (n_tokens + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS; }

/* ---- arguments ---- */

static sl_status choose(const pooling **out, const char *name, const sl_model *model)
{
    const uint32_t said = model->hp.pooling;
    *out = NULL;
    for (size_t i = 0; i < N_POOLINGS; i++)
        if (name ? !strcmp(poolings[i].name, name) : poolings[i].number == said)
            *out = &poolings[i];
    if (name)
        return *out ? SL_OK : sl_fail(SL_ERR_ARGUMENT, "embed: no pooling is called '%.40s'", name);
    if (said == SL_POOLING_UNSAID || (*out && (*out)->apart))
        *out = &poolings[PLAIN];
    return *out ? SL_OK : sl_fail(SL_ERR_UNSUPPORTED, "key %s.pooling_type: there is no pooling %u; choose one by name", model->arch->name, said);
}

/* The first sequence from *from on that is empty; UINT32_MAX: there is none. */
static uint32_t next_empty(const sl_session *s, uint32_t *from)
{
    while (*from < s->sizes.n_seq) {
        const uint32_t seq = (*from)++;
        if (!s->seqs[seq].length && !s->seqs[seq].lent && !sl_pictures_count(&s->pictures, seq))
            return seq;
    }
    return UINT32_MAX;
}

static sl_status check(const embedding *e, size_t n_rows)
{
    const sl_session *s = e->session;
    size_t n = 0;
    uint32_t first = 0;
    if (next_empty(s, &first) == UINT32_MAX)
        return sl_fail(SL_ERR_STATE, "embed: none of the session's %u sequences is empty", s->sizes.n_seq);
    for (size_t i = 0; i < e->n_texts; i++) {
        if (!e->lengths[i])
            return sl_fail(SL_ERR_ARGUMENT, "embed: text %zu has no tokens", i);
        if (e->lengths[i] > s->sizes.n_ctx || pages_of(e->lengths[i]) > s->pages.n_free)
            return sl_fail(SL_ERR_FULL, "embed: text %zu has %zu tokens, the context is %u, and %zu pages of the cache are free", i, e->lengths[i], s->sizes.n_ctx, s->pages.n_free);
        if (sl_add(n, e->lengths[i], &n))
            return sl_fail(SL_ERR_OVERFLOW, "embed: the texts are too long together");
    }
    SL_TRY(sl_session_check_ids(s, e->ids, n));
    n = e->pooling->apart ? n : e->n_texts;
    return n <= n_rows ? SL_OK : sl_fail(SL_ERR_BUFFER, "embed: %zu vectors, there is room for %zu", n, n_rows);
}

/* ---- passes ---- */

/* Tokens of the next pass: as many as it, the empty sequences and the free pages take. The texts that were completed before have left their pages, so there is always room for one. */
static size_t fill(embedding *e)
{
    const sl_session *s = e->session;
    size_t n = 0, pages = s->pages.n_free;
    uint32_t from = 0;
    while (e->text < e->n_texts && n < s->sizes.n_batch) {
        const size_t left = e->lengths[e->text] - e->at, room = s->sizes.n_batch - n, part = left < room ? left : room;
        const size_t lack = pages_of(e->at + part) - pages_of(e->at);
        const uint32_t seq = e->at ? e->seq : next_empty(s, &from);
        if (lack > pages || seq == UINT32_MAX)
            break;
        pages -= lack;
        for (size_t i = 0; i < part; i++, n++) {
            const int last = i + 1 == left;
            e->seqs[n] = seq;
            e->marks[n] = (uint8_t)((e->pooling->every || last ? WANTED : 0) | (e->pooling->apart || last ? VECTOR_ENDS : 0) | (last ? TEXT_ENDS : 0));
        }
        e->seq = seq;
        e->at = part < left ? e->at + part : 0;
        e->text += part == left;
    }
    return n;
}

/* The vector whose sum is there. It is divided by its largest element first: so neither squares nor their sum leave the range of floats. */
static void complete(embedding *e)
{
    const size_t n_embd = e->session->model->hp.n_embd;
    double largest = 0.0, squares = 0.0;
    for (size_t i = 0; i < n_embd; i++) {
        const double x = e->sum[i] /= (double)e->n_summed, size = x < 0.0 ? -x : x;
        largest = size > largest ? size : largest;
    }
    for (size_t i = 0; i < n_embd && largest > 0.0; i++) {
        const double x = e->sum[i] / largest;
        squares += x * x;
    }
    const double length = e->raw || largest <= 0.0 ? 1.0 : largest * (double)sl_sqrt((float)squares);
    for (size_t i = 0; i < n_embd; i++)
        e->out[i] = (float)(e->sum[i] / length);
    e->out += n_embd;
    e->n_summed = 0;
    memset(e->sum, 0, n_embd * sizeof *e->sum);
}

static void collect(embedding *e, size_t n)
{
    const size_t n_embd = e->session->model->hp.n_embd;
    const float *row = e->rows;
    for (size_t t = 0; t < n; t++) {
        if (!(e->marks[t] & WANTED))
            continue;
        for (size_t i = 0; i < n_embd; i++)
            e->sum[i] += (double)row[i];
        row += n_embd;
        e->n_summed++;
        if (e->marks[t] & VECTOR_ENDS)
            complete(e);
    }
}

/* Empties the sequences of the pass whose text is complete, or all of them. */
static void leave(embedding *e, size_t n, int all)
{
    for (size_t t = 0; t < n; t++)
        if (e->marks[t] & TEXT_ENDS || (all && t + 1 == n))
            sl_sequence_rewind_to(e->session, e->seqs[t], 0);
}

static sl_status compute(embedding *e)
{
    while (e->text < e->n_texts) {
        const size_t n = fill(e);
        const sl_feed feed = { .ids = e->ids, .seqs = e->seqs, .wanted = e->marks, .n = n, .vectors = 1 };
        sl_status status = n ? SL_OK : sl_fail(SL_ERR_INTERNAL, "embed: no room for a text that fits");
        if (status == SL_OK)
            status = sl_session_append(e->session, &feed, e->rows);
        leave(e, n, status != SL_OK);
        SL_TRY(status);
        collect(e, n);
        e->ids += n;
    }
    return SL_OK;
}

sl_status sl_embed(sl_session *session, const sl_token *ids, const size_t *lengths, size_t n_texts, const sl_embed_options *options, float *out, size_t n_rows)
{
    const sl_mem *mem = &session->model->mem;
    const size_t n_batch = session->sizes.n_batch, n_embd = session->model->hp.n_embd;
    embedding e = { .session = session, .ids = ids, .lengths = lengths, .n_texts = n_texts, .raw = (options->flags & SL_EMBED_RAW) != 0, .out = out };
    if (options->flags & ~SL_EMBED_RAW || options->reserved)
        return sl_fail(SL_ERR_ARGUMENT, "embed: %s", options->reserved ? "reserved must be 0" : "unknown flags");
    SL_TRY(choose(&e.pooling, options->pooling, session->model));
    SL_TRY(check(&e, n_rows));
    e.seqs = sl_mem_alloc(mem, n_batch, sizeof *e.seqs);
    e.marks = sl_mem_alloc(mem, n_batch, sizeof *e.marks);
    e.rows = sl_mem_alloc(mem, n_batch, n_embd * sizeof *e.rows);
    e.sum = sl_mem_alloc(mem, n_embd, sizeof *e.sum);
    const sl_status status = e.seqs && e.marks && e.rows && e.sum ? compute(&e) : SL_ERR_NOMEM;
    sl_mem_free(mem, e.seqs);
    sl_mem_free(mem, e.marks);
    sl_mem_free(mem, e.rows);
    sl_mem_free(mem, e.sum);
    return status;
}
