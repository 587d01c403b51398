/* SPDX-License-Identifier: MIT */
/* state.c - the stream of a state (state.h): written in one go; read, checked and taken over, or only checked. What a state says is believed only as far as its
 * checksums and the session's sizes allow. */
#include "state.h"

#include "checksum.h"

#include <stddef.h>
#include <string.h>

static const char magic[8] = { 'S', 'L', 's', 't', 'a', 't', 'e', '\n' };

/* ---- blocks ---- */

typedef struct stream {
    sl_write_fn write;
    sl_read_fn read;
    void *user;
    uint8_t *block;             /* SL_STATE_BLOCK bytes and a checksum */
    size_t n, at;               /* in the block: bytes, and those taken from it */
    uint64_t left;              /* bytes behind the block; only while reading */
    uint64_t total;             /* while only counting */
    uint32_t crc;
} stream;

static sl_status give(stream *s, const void *data, size_t bytes)
{
    return s->write(data, bytes, s->user) ? sl_fail(SL_ERR_IO, "state: it could not be written") : SL_OK;
}

static sl_status take(stream *s, void *to, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        const int64_t n = s->read((char *)to + at, bytes - at, s->user);
        if (n < 0)
            return sl_fail(SL_ERR_IO, "state: it could not be read");
        if (n == 0)
            return sl_fail(SL_ERR_TRUNCATED, "state: it ends too early");
        if ((uint64_t)n > bytes - at)
            return sl_fail(SL_ERR_STATE, "state: more bytes were given than asked for");
        at += (size_t)n;
    }
    return SL_OK;
}

static sl_status flush(stream *s)
{
    if (!s->n)
        return SL_OK;
    s->crc = sl_crc32c(s->crc, s->block, s->n);
    memcpy(s->block + s->n, &s->crc, sizeof s->crc);
    SL_TRY(give(s, s->block, s->n + sizeof s->crc));
    s->n = 0;
    return SL_OK;
}

/* Counts if nobody takes it. */
static sl_status put(stream *s, const void *data, size_t bytes)
{
    if (!s->write) {
        s->total += bytes;
        return SL_OK;
    }
    for (size_t at = 0; at < bytes;) {
        const size_t room = SL_STATE_BLOCK - s->n, n = bytes - at < room ? bytes - at : room;
        memcpy(s->block + s->n, (const char *)data + at, n);
        s->n += n;
        at += n;
        if (s->n == SL_STATE_BLOCK)
            SL_TRY(flush(s));
    }
    return SL_OK;
}

static sl_status next_block(stream *s)
{
    uint32_t crc;
    if (!s->left)
        return sl_fail(SL_ERR_BOUNDS, "state: more was promised than there is");
    s->n = s->left < SL_STATE_BLOCK ? (size_t)s->left : SL_STATE_BLOCK;
    s->at = 0;
    s->left -= s->n;
    SL_TRY(take(s, s->block, s->n + sizeof crc));
    s->crc = sl_crc32c(s->crc, s->block, s->n);
    memcpy(&crc, s->block + s->n, sizeof crc);
    return crc == s->crc ? SL_OK : sl_fail(SL_ERR_CHECKSUM, "state: it is damaged");
}

/* to NULL: passed over, but checked. */
static sl_status get(stream *s, void *to, uint64_t bytes)
{
    while (bytes) {
        if (s->at == s->n)
            SL_TRY(next_block(s));
        const size_t n = bytes < s->n - s->at ? (size_t)bytes : s->n - s->at;
        if (to) {
            memcpy(to, s->block + s->at, n);
            to = (char *)to + n;
        }
        s->at += n;
        bytes -= n;
    }
    return SL_OK;
}

/* ---- heads ---- */

/* Bytes of the whole state, UINT64_MAX if no state is so large. */
static uint64_t bytes_of(const sl_state_head *head)
{
    uint64_t bytes;
    return sl_add64(head->bytes, sizeof *head + 4 + 4 * (head->bytes / SL_STATE_BLOCK + (head->bytes % SL_STATE_BLOCK != 0)), &bytes) ? UINT64_MAX : bytes;
}

static sl_status put_head(stream *s, const sl_state_head *head)
{
    uint8_t bytes[sizeof *head + 4];
    s->crc = sl_crc32c(0, head, sizeof *head);
    memcpy(bytes, head, sizeof *head);
    memcpy(bytes + sizeof *head, &s->crc, 4);
    return give(s, bytes, sizeof bytes);
}

static sl_status get_head(stream *s, sl_state_head *head)
{
    uint32_t crc;
    SL_TRY(take(s, head, sizeof *head));
    SL_TRY(take(s, &crc, sizeof crc));
    if (memcmp(head->magic, magic, sizeof magic))
        return sl_fail(SL_ERR_MAGIC, "state: these bytes are none");
    s->crc = sl_crc32c(0, head, sizeof *head);
    if (crc != s->crc)
        return sl_fail(SL_ERR_CHECKSUM, "state: its head is damaged");
    if (!head->version || head->version > SL_STATE_VERSION)
        return sl_fail(SL_ERR_VERSION, "state: version %u, this library reads 1 to %d", head->version, SL_STATE_VERSION);
    s->left = head->bytes;
    return SL_OK;
}

sl_status sl_state_check(const sl_mem *mem, sl_read_fn read, void *user, sl_state_head *head)
{
    stream s = { .read = read, .user = user };
    SL_TRY(get_head(&s, head));
    s.block = sl_mem_alloc(mem, 1, SL_STATE_BLOCK + sizeof s.crc);
    const sl_status status = s.block ? get(&s, NULL, head->bytes) : SL_ERR_NOMEM;
    sl_mem_free(mem, s.block);
    return status;
}

/* Is it about this session? */
static sl_status check_head(const sl_session *session, uint32_t seq, const sl_state_head *head)
{
    const int whole = seq == SL_SEQ_ALL;
    if (head->identity != session->model->identity)
        return sl_fail(SL_ERR_STATE, "state: of another model, or of the same with other options");
    if (head->numerics != sl_numerics_id())
        return sl_fail(SL_ERR_STATE, "state: of arithmetic %u, this library computes by %u", head->numerics, sl_numerics_id());
    if (head->cache_type != (uint32_t)session->sizes.cache_type)
        return sl_fail(SL_ERR_TYPE, "state: with a cache of %s, the session has %s", sl_type_name(head->cache_type), sl_type_name((uint32_t)session->sizes.cache_type));
    if (head->whole != (uint32_t)whole)
        return sl_fail(SL_ERR_STATE, "state: of %s", whole ? "one sequence, not of a session" : "a session, not of one sequence");
    if (head->n_seq > session->sizes.n_seq || (!whole && head->n_seq != 1))
        return sl_fail(SL_ERR_RANGE, "state: %u sequences, the session has %u", head->n_seq, session->sizes.n_seq);
    if (head->n_pages > (uint64_t)session->sizes.n_pages)
        return sl_fail(SL_ERR_FULL, "state: %llu pages, the cache has %lld", (unsigned long long)head->n_pages, (long long)session->sizes.n_pages);
    if (head->n_pictures && session->model->hp.vision.n_vector)
        return sl_fail(SL_ERR_UNSUPPORTED, "state: with pictures whose vectors take the place of tokens");
    return head->n_pictures <= SL_LIMIT_IMAGES ? SL_OK : sl_fail(SL_ERR_LIMIT, "state: %u pictures", head->n_pictures);
}

/* ---- what moves between a device and the stream ---- */

static size_t pages_of(uint64_t n) { return (size_t)((n + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS); }

/* n pages of a tensor from page `first` on. */
static sl_status put_pages(stream *s, const sl_device *d, const sl_tensor *t, int64_t first, int64_t n)
{
    uint8_t staging[2048];
    const size_t bytes = t->stride[3] * (size_t)n;
    for (size_t at = 0; at < bytes; at += sizeof staging) {
        const size_t piece = bytes - at < sizeof staging ? bytes - at : sizeof staging;
        if (s->write)
            SL_TRY(d->backend->download(d->handle, staging, (const char *)t->data + t->stride[3] * (size_t)first + at, piece));
        SL_TRY(put(s, staging, piece));
    }
    return SL_OK;
}

static sl_status get_pages(stream *s, const sl_device *d, const sl_tensor *t, int64_t first, int64_t n)
{
    uint8_t staging[2048];
    const size_t bytes = t->stride[3] * (size_t)n;
    for (size_t at = 0; at < bytes; at += sizeof staging) {
        const size_t piece = bytes - at < sizeof staging ? bytes - at : sizeof staging;
        SL_TRY(get(s, staging, piece));
        SL_TRY(d->backend->upload(d->handle, (char *)t->data + t->stride[3] * (size_t)first + at, staging, piece));
    }
    return SL_OK;
}

typedef sl_status pages_fn(stream *s, const sl_device *d, const sl_tensor *t, int64_t first, int64_t n);

/* The layers of the text, or those that look at pictures, whose shapes are in `layers`. */
static sl_status each_layer(stream *s, const sl_model *model, const sl_kv_layer *layers, int pictures, int64_t first, int64_t n, pages_fn *move)
{
    for (uint32_t l = 0; l < model->hp.n_layer; l++) {
        const sl_device *d = &model->devices[model->layer_device[l]];
        if (sl_kv_has(model, l) == pictures)
            continue;
        SL_TRY(move(s, d, &layers[l].k, first, n));
        SL_TRY(move(s, d, &layers[l].v, first, n));
    }
    return SL_OK;
}

/* ---- writing ---- */

/* What is saved: pages and pictures in the order of their numbers in the state. */
typedef struct saved { const sl_session *session; uint32_t first, end; int32_t *pages, *page_numbers; size_t n_pages; uint32_t *pictures; uint32_t n_pictures; } saved;

static int is_saved(const saved *v, uint32_t q)
{
    return v->end - v->first == 1 || v->session->seqs[q].length || sl_pictures_count(&v->session->pictures, q);
}

/* Gives every page and picture that occurs its number. */
static void number(saved *v, sl_state_head *head)
{
    const sl_session *session = v->session;
    for (size_t p = 0; p < session->pages.n; p++)
        v->page_numbers[p] = -1;
    for (uint32_t q = v->first; q < v->end; q++) {
        const sl_sequence *seq = &session->seqs[q];
        head->n_seq += (uint32_t)is_saved(v, q);
        for (size_t i = 0; i < seq->n_pages; i++)
            if (v->page_numbers[seq->pages[i]] < 0) {
                v->page_numbers[seq->pages[i]] = (int32_t)v->n_pages;
                v->pages[v->n_pages++] = seq->pages[i];
            }
        for (size_t e = 0; e < sl_pictures_count(&session->pictures, q); e++)
            v->pictures[session->pictures.albums[q].entries[e].picture] = 1;
    }
    for (size_t i = 0; i < session->pictures.n; i++)        /* in the order in which they were added */
        v->pictures[i] = v->pictures[i] ? ++v->n_pictures : 0;
    head->n_pages = v->n_pages;
    head->n_pictures = v->n_pictures;
}

static sl_status put_sequence(stream *s, const saved *v, uint32_t q)
{
    const sl_sequence *seq = &v->session->seqs[q];
    const sl_album *album = v->session->pictures.albums ? &v->session->pictures.albums[q] : NULL;
    const sl_state_sequence record = { q, album ? (uint32_t)album->n : 0, seq->length, sl_sequence_own_bits(seq) };
    SL_TRY(put(s, &record, sizeof record));
    SL_TRY(put(s, seq->tokens, seq->length * sizeof *seq->tokens));
    for (size_t i = 0; i < seq->n_pages; i++)
        SL_TRY(put(s, &v->page_numbers[seq->pages[i]], sizeof *v->page_numbers));
    for (size_t e = 0; e < record.n_entries; e++) {
        const sl_state_entry entry = { v->pictures[album->entries[e].picture] - 1, e < album->n_placed ? album->entries[e].position : UINT64_MAX };
        SL_TRY(put(s, &entry, sizeof entry));
    }
    return SL_OK;
}

static sl_status put_body(stream *s, const saved *v)
{
    const sl_pictures *pictures = &v->session->pictures;
    for (uint32_t q = v->first; q < v->end; q++)
        if (is_saved(v, q))
            SL_TRY(put_sequence(s, v, q));
    for (size_t i = 0; i < pictures->n; i++)
        if (v->pictures[i])
            SL_TRY(put(s, &pictures->places[i].n_keys, sizeof pictures->places[i].n_keys));
    for (size_t i = 0; i < pictures->n; i++)
        if (v->pictures[i])
            SL_TRY(each_layer(s, v->session->model, pictures->kv, 1, pictures->places[i].first_key / SL_PAGE_KEYS, (int64_t)pages_of((uint64_t)pictures->places[i].n_keys), put_pages));
    for (size_t i = 0; i < v->n_pages; i++)
        SL_TRY(each_layer(s, v->session->model, v->session->kv.layers, 0, v->pages[i], 1, put_pages));
    return flush(s);
}

sl_status sl_state_put(const sl_session *session, uint32_t seq, uint64_t generation, sl_write_fn write, void *user)
{
    const sl_mem *mem = &session->model->mem;
    const int whole = seq == SL_SEQ_ALL;
    sl_state_head head = { .version = SL_STATE_VERSION, .numerics = sl_numerics_id(), .identity = session->model->identity, .generation = generation,
                           .cache_type = (uint32_t)session->sizes.cache_type, .whole = (uint32_t)whole };
    saved v = { .session = session, .first = whole ? 0 : seq, .end = whole ? session->sizes.n_seq : seq + 1 };
    stream counting = { .write = NULL }, s = { .write = write, .user = user };
    memcpy(head.magic, magic, sizeof magic);
    v.pages = sl_mem_alloc(mem, session->pages.n, sizeof *v.pages);
    v.page_numbers = sl_mem_alloc(mem, session->pages.n, sizeof *v.page_numbers);
    v.pictures = sl_mem_alloc(mem, session->pictures.n, sizeof *v.pictures);
    s.block = sl_mem_alloc(mem, 1, SL_STATE_BLOCK + sizeof s.crc);
    sl_status status = v.pages && v.page_numbers && v.pictures && s.block ? SL_OK : SL_ERR_NOMEM;
    if (status == SL_OK) {
        number(&v, &head);
        if (v.n_pictures && session->model->hp.vision.n_vector)
            status = sl_fail(SL_ERR_UNSUPPORTED, "state: pictures whose vectors take the place of tokens cannot be saved");
    }
    if (status == SL_OK) {
        status = put_body(&counting, &v);
        head.bytes = counting.total;
    }
    if (status == SL_OK)
        status = put_head(&s, &head);
    if (status == SL_OK)
        status = put_body(&s, &v);
    sl_mem_free(mem, s.block);
    sl_mem_free(mem, v.pictures);
    sl_mem_free(mem, v.page_numbers);
    sl_mem_free(mem, v.pages);
    return status;
}

/* ---- reading ---- */

/* A sequence as a state has it. */
typedef struct loaded { uint32_t seq; size_t length, n_own, n_entries, n_placed; sl_token *tokens; int32_t *pages; sl_state_entry *entries; } loaded;
typedef struct taken {
    sl_session *session;
    const sl_mem *mem;
    uint32_t seq;
    sl_state_head head;
    loaded *seqs;               /* [head.n_seq] */
    int64_t *n_keys;            /* [head.n_pictures] */
    size_t *pictures;           /* [head.n_pictures] in the session */
    int32_t *pages;             /* [head.n_pages] in the session */
    size_t n_pages, n_pictures; /* how many of them are held by now */
} taken;

static void release(taken *t)
{
    for (uint32_t i = 0; t->seqs && i < t->head.n_seq; i++) {
        sl_mem_free(t->mem, t->seqs[i].tokens);
        sl_mem_free(t->mem, t->seqs[i].pages);
        sl_mem_free(t->mem, t->seqs[i].entries);
    }
    sl_mem_free(t->mem, t->seqs);
    sl_mem_free(t->mem, t->n_keys);
    sl_mem_free(t->mem, t->pictures);
    sl_mem_free(t->mem, t->pages);
}

static sl_status wrong(const char *what, uint32_t seq) { return sl_fail(SL_ERR_RANGE, "state: sequence %u: %s", seq, what); }

/* Image tokens and pictures go together; pages and pictures are such as the state has. An id that is no text is the image token, or none: only a session that was
 * given the picture may hold one. */
static sl_status check_sequence(taken *t, loaded *q)
{
    const sl_hparams *hp = &t->session->model->hp;
    size_t n = 0;
    for (size_t i = 0; i < q->length; i++) {
        const sl_token id = q->tokens[i];
        const int is_image = hp->vision.max_tiles && id == hp->vision.token;
        if (id < 0 || (uint32_t)id >= hp->n_token || ((uint32_t)id >= hp->n_vocab && !is_image))
            return wrong("a token that the model does not have", q->seq);
        if (!is_image)
            continue;
        if (n == q->n_entries || q->entries[n].position != i)
            return wrong("an image token without its picture", q->seq);
        n++;
    }
    q->n_placed = n;
    for (size_t e = 0; e < q->n_entries; e++)
        if (q->entries[e].picture >= t->head.n_pictures || (e && q->entries[e].picture <= q->entries[e - 1].picture) || (e >= n && q->entries[e].position != UINT64_MAX))
            return wrong("pictures in no order", q->seq);
    for (size_t i = 0; i < pages_of(q->length); i++)
        if (q->pages[i] < 0 || (uint64_t)q->pages[i] >= t->head.n_pages)
            return wrong("a page that the state does not have", q->seq);
    return SL_OK;
}

static sl_status get_sequence(stream *s, taken *t, uint32_t i)
{
    sl_state_sequence record = { .n_own = 0 };
    loaded *q = &t->seqs[i];
    SL_TRY(get(s, &record, t->head.version > 1 ? sizeof record : offsetof(sl_state_sequence, n_own)));
    if (t->head.whole && (record.seq >= t->session->sizes.n_seq || (i && record.seq <= t->seqs[i - 1].seq)))
        return sl_fail(SL_ERR_RANGE, "state: sequence %u, the session has %u", record.seq, t->session->sizes.n_seq);
    if (record.length > t->session->sizes.n_ctx)
        return sl_fail(SL_ERR_FULL, "state: a sequence of %llu tokens, the context has %u", (unsigned long long)record.length, t->session->sizes.n_ctx);
    if (record.n_entries > t->head.n_pictures)
        return wrong("more pictures than the state has", record.seq);
    if (record.n_own > record.length)
        return wrong("shifted behind its end", record.seq);
    *q = (loaded) { .seq = t->head.whole ? record.seq : t->seq, .length = (size_t)record.length, .n_own = (size_t)record.n_own, .n_entries = record.n_entries };
    q->tokens = sl_mem_alloc(t->mem, q->length, sizeof *q->tokens);
    q->pages = sl_mem_alloc(t->mem, pages_of(q->length), sizeof *q->pages);
    q->entries = sl_mem_alloc(t->mem, q->n_entries, sizeof *q->entries);
    if (!q->tokens || !q->pages || !q->entries)
        return SL_ERR_NOMEM;
    SL_TRY(get(s, q->tokens, q->length * sizeof *q->tokens));
    SL_TRY(get(s, q->pages, pages_of(q->length) * sizeof *q->pages));
    SL_TRY(get(s, q->entries, q->n_entries * sizeof *q->entries));
    return check_sequence(t, q);
}

/* Everything but keys and values. */
static sl_status get_lists(stream *s, taken *t)
{
    const sl_vision *v = &t->session->model->hp.vision;
    t->seqs = sl_mem_alloc(t->mem, t->head.n_seq, sizeof *t->seqs);
    t->n_keys = sl_mem_alloc(t->mem, t->head.n_pictures, sizeof *t->n_keys);
    t->pictures = sl_mem_alloc(t->mem, t->head.n_pictures, sizeof *t->pictures);
    t->pages = sl_mem_alloc(t->mem, (size_t)t->head.n_pages, sizeof *t->pages);
    if (!t->seqs || !t->n_keys || !t->pictures || !t->pages)
        return SL_ERR_NOMEM;
    for (uint32_t i = 0; i < t->head.n_seq; i++)
        SL_TRY(get_sequence(s, t, i));
    for (uint32_t i = 0; i < t->head.n_pictures; i++) {
        SL_TRY(get(s, &t->n_keys[i], sizeof *t->n_keys));
        if (!v->max_tiles || t->n_keys[i] <= 0 || t->n_keys[i] % v->n_pos || t->n_keys[i] / v->n_pos > v->max_tiles)
            return sl_fail(SL_ERR_RANGE, "state: a picture of %lld keys", (long long)t->n_keys[i]);
    }
    return SL_OK;
}

/* Adds what pages take in a stream. */
static sl_status add_pages(stream *s, const sl_device *d, const sl_tensor *t, int64_t first, int64_t n)
{
    (void)d, (void)first;
    uint64_t bytes;
    return sl_mul64(t->stride[3], (uint64_t)n, &bytes) || sl_add64(s->total, bytes, &s->total) ? sl_fail(SL_ERR_OVERFLOW, "state: too large") : SL_OK;
}

/* What is left of the stream is exactly the keys and values. */
static sl_status check_bytes(const stream *s, const taken *t)
{
    const sl_session *session = t->session;
    stream counting = { .total = 0 };
    for (uint32_t i = 0; i < t->head.n_pictures; i++)
        SL_TRY(each_layer(&counting, session->model, session->pictures.kv, 1, 0, (int64_t)pages_of((uint64_t)t->n_keys[i]), add_pages));
    SL_TRY(each_layer(&counting, session->model, session->kv.layers, 0, 0, (int64_t)t->head.n_pages, add_pages));
    return s->left + (s->n - s->at) == counting.total ? SL_OK : sl_fail(SL_ERR_RANGE, "state: %llu bytes of keys and values, %llu would fit", (unsigned long long)(s->left + (s->n - s->at)),
                                                                       (unsigned long long)counting.total);
}

/* Pages and pictures that the sequences to be overwritten leave. */
static sl_status check_room(const taken *t)
{
    const sl_session *session = t->session;
    const sl_pictures *p = &session->pictures;
    size_t n_free = session->pages.n_free, kept = 0;
    if (t->head.whole)
        n_free = session->pages.n;
    else
        for (size_t i = 0; i < session->seqs[t->seq].n_pages; i++)
            n_free += session->pages.holders[session->seqs[t->seq].pages[i]] == 1;
    if (t->head.n_pages > n_free)
        return sl_fail(SL_ERR_FULL, "state: %llu pages, the cache has room for %zu", (unsigned long long)t->head.n_pages, n_free);
    for (size_t i = 0; !t->head.whole && i < p->n; i++)
        kept += p->places[i].n_holders > 0;
    for (size_t e = 0; !t->head.whole && e < sl_pictures_count(p, t->seq); e++)
        kept -= p->places[p->albums[t->seq].entries[e].picture].n_holders == 1;
    return t->head.n_pictures + kept <= SL_LIMIT_IMAGES ? SL_OK : sl_fail(SL_ERR_LIMIT, "state: %u pictures more than may be", (unsigned)(t->head.n_pictures + kept - SL_LIMIT_IMAGES));
}

static void empty(sl_session *session, uint32_t seq)
{
    for (uint32_t q = 0; q < session->sizes.n_seq; q++)
        if (seq == SL_SEQ_ALL || q == seq)
            sl_sequence_rewind_to(session, q, 0);
}

/* Keys and values. */
static sl_status get_data(stream *s, taken *t)
{
    sl_session *session = t->session;
    for (uint32_t i = 0; i < t->head.n_pictures; i++) {
        SL_TRY(sl_pictures_adopt(&session->pictures, t->n_keys[i], &t->pictures[i]));
        t->n_pictures++;
        const int64_t first = session->pictures.places[t->pictures[i]].first_key / SL_PAGE_KEYS;
        SL_TRY(each_layer(s, session->model, session->pictures.kv, 1, first, (int64_t)pages_of((uint64_t)t->n_keys[i]), get_pages));
    }
    for (size_t i = 0; i < t->head.n_pages; i++) {
        t->pages[t->n_pages++] = sl_pages_take(&session->pages);
        SL_TRY(each_layer(s, session->model, session->kv.layers, 0, t->pages[i], 1, get_pages));
    }
    return SL_OK;
}

static sl_status fill_sequence(taken *t, const loaded *from)
{
    sl_session *session = t->session;
    sl_sequence *q = &session->seqs[from->seq];
    for (size_t e = 0; e < from->n_entries; e++)
        SL_TRY(sl_pictures_attach(&session->pictures, from->seq, t->pictures[from->entries[e].picture], e < from->n_placed, (size_t)from->entries[e].position));
    memcpy(q->tokens, from->tokens, from->length * sizeof *q->tokens);
    q->length = from->length;
    q->n_own = from->n_own < from->length ? from->n_own : SIZE_MAX;
    for (q->n_pages = 0; q->n_pages < pages_of(q->length); q->n_pages++) {
        q->pages[q->n_pages] = t->pages[from->pages[q->n_pages]];
        sl_pages_hold(&session->pages, q->pages[q->n_pages]);
    }
    return SL_OK;
}

static sl_status take_over(stream *s, taken *t)
{
    empty(t->session, t->seq);
    sl_status status = get_data(s, t);
    for (uint32_t i = 0; status == SL_OK && i < t->head.n_seq; i++)
        status = fill_sequence(t, &t->seqs[i]);
    for (size_t i = 0; i < t->n_pages; i++)
        sl_pages_release(&t->session->pages, t->pages[i]);
    for (size_t i = t->n_pictures; i-- > 0;)
        sl_pictures_release(&t->session->pictures, t->pictures[i]);
    if (status != SL_OK)
        empty(t->session, t->seq);
    return status;
}

sl_status sl_state_get(sl_session *session, uint32_t seq, sl_read_fn read, void *user, sl_state_info *info)
{
    taken t = { .session = session, .mem = &session->model->mem, .seq = seq };
    stream s = { .read = read, .user = user };
    SL_TRY(get_head(&s, &t.head));
    SL_TRY(check_head(session, seq, &t.head));
    s.block = sl_mem_alloc(t.mem, 1, SL_STATE_BLOCK + sizeof s.crc);
    if (!s.block)
        return SL_ERR_NOMEM;
    sl_status status = get_lists(&s, &t);
    if (status == SL_OK)
        status = check_room(&t);
    if (status == SL_OK)
        status = check_bytes(&s, &t);
    if (status == SL_OK)
        status = take_over(&s, &t);
    *info = (sl_state_info) { .size = sizeof *info, .generation = t.head.generation, .bytes = bytes_of(&t.head) };
    for (uint32_t i = 0; t.seqs && i < t.head.n_seq; i++)
        info->n_seq += t.seqs[i].length > 0;
    release(&t);
    sl_mem_free(t.mem, s.block);
    return status;
}
