/* SPDX-License-Identifier: MIT */
/* api_session.c - the exported functions of sessions, sequences and states: check arguments, read option structures, set the floating-point state, call inward. */
#include "embed.h"
#include "fpenv.h"
#include "importance.h"
#include "params.h"
#include "state.h"

/* ---- sessions ---- */

sl_status sl_session_create(sl_session **out, sl_model *model, const sl_session_options *options)
{
    sl_session_options o;
    SL_NEEDS("sl_session_create", out);
    *out = NULL;
    SL_NEEDS("sl_session_create", model);
    SL_TRY(sl_options_read(&o, sizeof o, options));
    if (!model->arch)
        return sl_fail(SL_ERR_STATE, "sl_session_create: the model was loaded without weights");
    const uint64_t fp = sl_fp_enter();
    sl_status status = sl_session_open(out, model, &o);
    sl_fp_set(fp);
    if (status == SL_OK)
        sl_model_retain(model);
    return status;
}

void sl_session_free(sl_session *session)
{
    if (!session)
        return;
    if (session->n_queues) {
        session->freed = 1;
        return;
    }
    sl_model *model = session->model;
    sl_session_close(session);
    sl_model_free(model);
}

static sl_status check_own(const sl_session *session, uint32_t seq)
{
    return session->seqs[seq].lent ? sl_fail(SL_ERR_STATE, "session: a queue works with sequence %u", seq) : SL_OK;
}

static sl_status append(sl_session *session, const sl_feed *feed, float *logits)
{
    for (size_t i = 0; session->n_queues && i < feed->n; i++)
        if (sl_feed_seq(feed, i) < session->sizes.n_seq)
            SL_TRY(check_own(session, sl_feed_seq(feed, i)));
    const uint64_t fp = sl_fp_enter();
    sl_status status = sl_session_append(session, feed, logits);
    sl_fp_set(fp);
    return status;
}

sl_status sl_session_eval(sl_session *session, const sl_token *ids, size_t n_ids, float *logits, size_t n_rows)
{
    SL_NEEDS("sl_session_eval", session && (ids || !n_ids) && (logits || !n_rows));
    if (n_rows > n_ids)
        return sl_fail(SL_ERR_ARGUMENT, "sl_session_eval: logits of %zu tokens wanted, %zu given", n_rows, n_ids);
    return append(session, &(sl_feed) { .ids = ids, .n = n_ids, .n_rows = n_rows }, logits);
}

sl_status sl_session_eval_batch(sl_session *session, const sl_token *ids, const uint32_t *seqs, const uint8_t *wanted, size_t n_ids, float *logits)
{
    SL_NEEDS("sl_session_eval_batch", session && ((ids && seqs) || !n_ids) && (logits || !wanted));
    return append(session, &(sl_feed) { .ids = ids, .seqs = seqs, .wanted = wanted, .n = n_ids }, logits);
}

sl_status sl_session_embed(sl_session *session, const sl_token *ids, const size_t *lengths, size_t n_texts, const sl_embed_options *options, float *out, size_t n_rows)
{
    sl_embed_options o;
    SL_NEEDS("sl_session_embed", session && ((ids && lengths && out) || !n_texts));
    SL_TRY(sl_options_read(&o, sizeof o, options));
    const uint64_t fp = sl_fp_enter();
    sl_status status = sl_embed(session, ids, lengths, n_texts, &o, out, n_rows);
    sl_fp_set(fp);
    return status;
}

/* ---- sequences; the calls without a number mean sequence 0 ---- */

uint32_t sl_session_sequences(const sl_session *session) { return session ? session->sizes.n_seq : 0; }
size_t sl_session_free_positions(const sl_session *session) { return session ? session->pages.n_free * SL_PAGE_KEYS : 0; }

static const sl_sequence *sequence(const sl_session *session, uint32_t seq) { return session && seq < session->sizes.n_seq ? &session->seqs[seq] : NULL; }

static sl_status check_sequence(const sl_session *session, uint32_t seq)
{
    return sequence(session, seq) ? SL_OK : sl_fail(SL_ERR_RANGE, "session: sequence %u, there are %u", seq, session->sizes.n_seq);
}

size_t sl_seq_length(const sl_session *session, uint32_t seq) { return sequence(session, seq) ? session->seqs[seq].length : 0; }
const sl_token *sl_seq_tokens(const sl_session *session, uint32_t seq) { return sl_seq_length(session, seq) ? session->seqs[seq].tokens : NULL; }
size_t sl_seq_images(const sl_session *session, uint32_t seq) { return sequence(session, seq) ? sl_pictures_count(&session->pictures, seq) : 0; }

size_t sl_session_images(const sl_session *session) { return sl_seq_images(session, 0); }
size_t sl_session_length(const sl_session *session) { return sl_seq_length(session, 0); }
size_t sl_session_capacity(const sl_session *session) { return session ? session->sizes.n_ctx : 0; }
const sl_token *sl_session_tokens(const sl_session *session) { return sl_seq_tokens(session, 0); }
sl_model *sl_session_model(const sl_session *session) { return session ? session->model : NULL; }

/* Where ids go, and how many there are. */
typedef struct spelling { sl_token *ids; size_t capacity, n; } spelling;

static sl_status put_id(void *user, int32_t id)
{
    spelling *s = user;
    if (s->n < s->capacity)
        s->ids[s->n] = id;
    s->n++;
    return SL_OK;
}

sl_status sl_image_encode(const sl_model *model, const sl_image *image, sl_token *ids, size_t capacity, size_t *n_ids)
{
    SL_NEEDS("sl_image_encode", model && image && n_ids && (ids || !capacity));
    spelling s = { ids, capacity, 0 };
    *n_ids = 0;
    if (!model->arch || !model->hp.vision.max_tiles)
        return sl_fail(SL_ERR_UNSUPPORTED, "image: this model takes no pictures");
    SL_TRY(model->arch->spell ? model->arch->spell(model, image->width, image->height, put_id, &s) : put_id(&s, model->hp.vision.token));
    *n_ids = s.n;
    return s.n <= capacity ? SL_OK : sl_fail(SL_ERR_BUFFER, "image: the picture takes %zu ids, there is room for %zu", s.n, capacity);
}

sl_status sl_seq_add_image(sl_session *session, uint32_t seq, const sl_image *image)
{
    SL_NEEDS("sl_seq_add_image", session && image);
    SL_TRY(check_sequence(session, seq));
    SL_TRY(check_own(session, seq));
    SL_TRY(sl_session_check_cancel(session));
    const uint64_t fp = sl_fp_enter();
    sl_status status = sl_pictures_add(&session->pictures, seq, image, &session->cancel);
    sl_fp_set(fp);
    if (status == SL_ERR_CANCELLED)
        atomic_store(&session->cancel, 0);
    return status;
}

sl_status sl_session_add_image(sl_session *session, const sl_image *image) { return sl_seq_add_image(session, 0, image); }

sl_status sl_seq_rewind(sl_session *session, uint32_t seq, size_t length)
{
    SL_NEEDS("sl_seq_rewind", session);
    SL_TRY(check_sequence(session, seq));
    SL_TRY(check_own(session, seq));
    if (length > session->seqs[seq].length)
        return sl_fail(SL_ERR_RANGE, "session: rewind to %zu tokens, there are %zu", length, session->seqs[seq].length);
    sl_sequence_rewind_to(session, seq, length);
    atomic_store(&session->cancel, 0);
    return SL_OK;
}

sl_status sl_session_rewind(sl_session *session, size_t length) { return sl_seq_rewind(session, 0, length); }

sl_status sl_seq_keep_prefix(sl_session *session, uint32_t seq, const sl_token *ids, size_t n_ids, size_t *n_kept)
{
    SL_NEEDS("sl_seq_keep_prefix", session && (ids || !n_ids) && n_kept);
    SL_TRY(check_sequence(session, seq));
    SL_TRY(check_own(session, seq));
    *n_kept = sl_sequence_match(session, seq, ids, n_ids);
    return SL_OK;
}

sl_status sl_session_keep_prefix(sl_session *session, const sl_token *ids, size_t n_ids, size_t *n_kept) { return sl_seq_keep_prefix(session, 0, ids, n_ids, n_kept); }

sl_status sl_seq_copy(sl_session *session, uint32_t from, uint32_t to, size_t length)
{
    SL_NEEDS("sl_seq_copy", session);
    SL_TRY(check_sequence(session, from));
    SL_TRY(check_sequence(session, to));
    SL_TRY(check_own(session, to));
    if (from == to)
        return sl_fail(SL_ERR_ARGUMENT, "sl_seq_copy: sequence %u to itself", from);
    if (length > session->seqs[from].length)
        return sl_fail(SL_ERR_RANGE, "sl_seq_copy: %zu tokens, there are %zu", length, session->seqs[from].length);
    return sl_sequence_copy(session, from, to, length);
}

sl_status sl_seq_shift(sl_session *session, uint32_t seq, size_t keep, size_t discard)
{
    SL_NEEDS("sl_seq_shift", session);
    SL_TRY(check_sequence(session, seq));
    SL_TRY(check_own(session, seq));
    const size_t length = session->seqs[seq].length;
    if (keep > length || discard > length - keep)
        return sl_fail(SL_ERR_RANGE, "sl_seq_shift: %zu tokens behind %zu, there are %zu", discard, keep, length);
    SL_TRY(sl_session_check_cancel(session));
    const uint64_t fp = sl_fp_enter();
    sl_status status = sl_sequence_shift(session, seq, keep, discard);
    sl_fp_set(fp);
    return status;
}

sl_status sl_seq_keep(sl_session *session, uint32_t seq)
{
    SL_NEEDS("sl_seq_keep", session);
    SL_TRY(check_sequence(session, seq));
    for (uint32_t i = 0; i < session->sizes.n_seq; i++)
        SL_TRY(i != seq ? check_own(session, i) : SL_OK);
    for (uint32_t i = 0; i < session->sizes.n_seq; i++)
        if (i != seq)
            sl_sequence_rewind_to(session, i, 0);
    return SL_OK;
}

void sl_session_cancel(sl_session *session)
{
    if (session)
        atomic_store(&session->cancel, 1);
}

sl_status sl_session_get_stats(const sl_session *session, sl_session_stats *out)
{
    SL_NEEDS("sl_session_get_stats", session && out);
    const sl_model *model = session->model;
    sl_session_stats full = { .n_passes = session->n_passes, .n_tokens = session->n_tokens, .busy_ns = session->busy_ns };
    for (int d = 0; d < model->n_devices; d++) {
        unsigned worked;
        model->devices[d].backend->threads(model->devices[d].handle, &worked);
        full.n_threads = worked > full.n_threads ? worked : full.n_threads;
        full.compute_bytes += session->arena_bytes[d];
    }
    full.cache_bytes = session->kv.bytes;
    full.n_images = session->pictures.n_encoded;
    full.image_ns = session->pictures.busy_ns;
    full.image_encode_ns = session->pictures.encode_ns;
    full.image_keys_ns = session->pictures.keys_ns;
    full.image_bytes = sl_pictures_bytes(&session->pictures);
    return sl_result_write(out, &full, sizeof full);
}

/* Implementation of step `index`, counted through all plans; NULL if it has not run. */
static const sl_impl *step_that_ran(const sl_session *session, size_t index)
{
    const sl_plan *const plans[] = { &session->plan, &session->seeing, &session->moving, &session->pictures.plan };
    size_t p = 0;
    while (index >= plans[p]->n_steps)
        index -= plans[p++]->n_steps;
    return plans[p]->ran[index] ? plans[p]->steps[index] : NULL;
}

const char *sl_session_label(const sl_session *session, size_t index)
{
    if (!session)
        return NULL;
    const size_t n = session->plan.n_steps + session->seeing.n_steps + session->moving.n_steps + session->pictures.plan.n_steps;
    for (size_t i = 0; i < n; i++) {
        const sl_impl *impl = step_that_ran(session, i);
        int seen = !impl;
        for (size_t k = 0; k < i && !seen; k++)
            seen = step_that_ran(session, k) == impl;
        if (!seen && !index--)
            return impl->label;
    }
    return NULL;
}

/* ---- states ---- */

/* SL_SEQ_ALL, or one that there is. */
static sl_status check_saved(const sl_session *session, uint32_t seq) { return seq == SL_SEQ_ALL ? SL_OK : check_sequence(session, seq); }

/* And that the program may change. */
static sl_status check_loaded(const sl_session *session, uint32_t seq)
{
    SL_TRY(check_saved(session, seq));
    for (uint32_t i = 0; i < session->sizes.n_seq; i++)
        SL_TRY(seq == i || seq == SL_SEQ_ALL ? check_own(session, i) : SL_OK);
    return SL_OK;
}

sl_status sl_state_save(const sl_session *session, uint32_t seq, const char *path)
{
    SL_NEEDS("sl_state_save", session && path);
    SL_TRY(check_saved(session, seq));
    return sl_state_save_file(session, seq, path);
}

sl_status sl_state_load(sl_session *session, uint32_t seq, const char *path, sl_state_info *info)
{
    sl_state_info full = { 0 };
    SL_NEEDS("sl_state_load", session && path);
    SL_TRY(check_loaded(session, seq));
    SL_TRY(info ? sl_result_write(info, &full, sizeof full) : SL_OK);
    SL_TRY(sl_state_load_file(session, seq, path, &full));
    return info ? sl_result_write(info, &full, sizeof full) : SL_OK;
}

sl_status sl_state_write(const sl_session *session, uint32_t seq, sl_write_fn write, void *user)
{
    SL_NEEDS("sl_state_write", session && write);
    SL_TRY(check_saved(session, seq));
    return sl_state_put(session, seq, 0, write, user);
}

sl_status sl_state_read(sl_session *session, uint32_t seq, sl_read_fn read, void *user, sl_state_info *info)
{
    sl_state_info full = { 0 };
    SL_NEEDS("sl_state_read", session && read);
    SL_TRY(check_loaded(session, seq));
    SL_TRY(info ? sl_result_write(info, &full, sizeof full) : SL_OK);
    SL_TRY(sl_state_get(session, seq, read, user, &full));
    return info ? sl_result_write(info, &full, sizeof full) : SL_OK;
}

/* ---- importance matrices ---- */

sl_status sl_importance_create(sl_importance **out, sl_session *session, const char *text)
{
    SL_NEEDS("sl_importance_create", out);
    *out = NULL;
    SL_NEEDS("sl_importance_create", session);
    SL_TRY(sl_importance_open(out, session, text));
    sl_model_retain(session->model);
    return SL_OK;
}

void sl_importance_free(sl_importance *importance)
{
    if (!importance)
        return;
    sl_model *model = sl_importance_model(importance);
    sl_importance_close(importance);
    sl_model_free(model);
}

sl_status sl_importance_save(const sl_importance *importance, const char *path)
{
    SL_NEEDS("sl_importance_save", importance && path);
    const uint64_t fp = sl_fp_enter();
    const sl_status status = sl_importance_put_file(importance, path);
    sl_fp_set(fp);
    return status;
}

/* The caller's function and what it is handed. */
typedef struct writing { sl_write_fn write; void *user; } writing;

static sl_status write_on(const void *data, size_t bytes, void *user)
{
    const writing *w = user;
    return w->write(data, bytes, w->user) ? sl_fail(SL_ERR_IO, "importance: the callback that writes failed") : SL_OK;
}

sl_status sl_importance_write(const sl_importance *importance, sl_write_fn write, void *user)
{
    SL_NEEDS("sl_importance_write", importance && write);
    const uint64_t fp = sl_fp_enter();
    const sl_status status = sl_importance_put(importance, write_on, &(writing) { write, user });
    sl_fp_set(fp);
    return status;
}
