/* SPDX-License-Identifier: MIT */
/* importance.c - sums of squares of what each matrix is multiplied with, and the file that they become.
 *
 * Rows are fetched one by one in the order of their tokens and added in binary64 by the caller's thread, so no sum depends on how a text was cut into passes or a pass into tasks. Beside the
 * product itself this is nothing: one addition for each of its n_in * n_out. */
#include "importance.h"

#include "arith.h"
#include "output.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = SL_LIMIT_TENSOR_NAME_BYTES + 16, PIECE = 256 };

/* Of one matrix, or one stack of them. */
typedef struct sums {
    const sl_weight *weight;
    double *squares;            /* [n_in, n_mat] */
    uint64_t *counts;           /* [n_mat] */
} sums;

struct sl_importance {
    sl_observer observer;       /* first */
    sl_model *model;
    sl_session *session;        /* NULL: it is gone */
    char *text;
    sums *all;                  /* in the order in which they came */
    size_t n, last;             /* the one that was wanted last: passes ask in the same order */
    float *row;                 /* [row_room] */
    size_t row_room;
};

/* ---- counting ---- */

/* Matrices of image encoders and projectors are rounded when they are quantized, not searched. */
static int is_of_images(const char *name) { return !strncmp(name, "v.", 2) || !strncmp(name, "mm.", 3); }

static sl_status add(sl_importance *m, const sl_weight *weight)
{
    const sl_mem *mem = &m->model->mem;
    size_t n;
    SL_TRY(sl_mem_grow(mem, &m->all, m->n + 1, sizeof *m->all));
    if ((size_t)weight->n_in > m->row_room) {
        SL_TRY(sl_mem_grow(mem, &m->row, (size_t)weight->n_in, sizeof *m->row));
        m->row_room = (size_t)weight->n_in;
    }
    if (sl_mul((size_t)weight->n_in, (size_t)weight->n_mat, &n))
        return sl_fail(SL_ERR_OVERFLOW, "importance: sums do not fit the address space");
    sums s = { weight, sl_mem_alloc(mem, n, sizeof *s.squares), sl_mem_alloc(mem, (size_t)weight->n_mat, sizeof *s.counts) };
    if (!s.squares || !s.counts) {
        sl_mem_free(mem, s.squares);
        sl_mem_free(mem, s.counts);
        return SL_ERR_NOMEM;
    }
    m->all[m->n++] = s;
    return SL_OK;
}

/* The sums of a matrix; new ones if it was not seen before. */
static sl_status find(sl_importance *m, const sl_weight *weight, sums **out)
{
    for (size_t i = 0; i < m->n; i++) {
        const size_t at = (m->last + 1 + i) % m->n;
        if (m->all[at].weight == weight) {
            m->last = at;
            *out = &m->all[at];
            return SL_OK;
        }
    }
    SL_TRY(add(m, weight));
    m->last = m->n - 1;
    *out = &m->all[m->last];
    return SL_OK;
}

static sl_status count_row(sl_importance *m, const sums *s, size_t matrix, const sl_device *device, const sl_tensor *rows, size_t row)
{
    const size_t n = (size_t)s->weight->n_in;
    SL_TRY(device->backend->download(device->handle, m->row, (const char *)rows->data + row * rows->stride[1], n * sizeof *m->row));
    double *squares = s->squares + matrix * n;
    for (size_t i = 0; i < n; i++)
        squares[i] += (double)m->row[i] * (double)m->row[i];
    s->counts[matrix]++;
    return SL_OK;
}

/* Each pair (slot, token) has a row, or all of a token share one. */
static sl_status count_pairs(sl_importance *m, const sums *s, const sl_device *device, const sl_tensor *rows, const sl_tensor *ids)
{
    const size_t n_used = (size_t)ids->ne[0], n_tok = (size_t)ids->ne[1], per_token = (size_t)rows->ne[1] == n_tok ? 0 : 1;
    for (size_t t = 0; t < n_tok; t++)
        for (size_t u = 0; u < n_used; u++) {
            int32_t id;
            SL_TRY(device->backend->download(device->handle, &id, (const char *)ids->data + t * ids->stride[1] + u * ids->stride[0], sizeof id));
            if (id < 0 || id >= s->weight->n_mat)
                return sl_fail(SL_ERR_RANGE, "importance: id %d of %lld matrices", id, (long long)s->weight->n_mat);
            SL_TRY(count_row(m, s, (size_t)id, device, rows, per_token ? t * n_used + u : t));
        }
    return SL_OK;
}

static sl_status see(sl_observer *self, const sl_device *device, const sl_weight *weight, const sl_tensor *rows, const sl_tensor *ids)
{
    sl_importance *m = (sl_importance *)(void *)self;
    sums *s;
    if (is_of_images(weight->name))
        return SL_OK;
    SL_TRY(find(m, weight, &s));
    if (ids)
        return count_pairs(m, s, device, rows, ids);
    for (size_t row = 0; row < (size_t)rows->ne[1]; row++)
        SL_TRY(count_row(m, s, 0, device, rows, row));
    return SL_OK;
}

/* ---- beginning and end ---- */

static void session_gone(sl_observer *self) { ((sl_importance *)(void *)self)->session = NULL; }

sl_status sl_importance_open(sl_importance **out, sl_session *session, const char *text)
{
    const sl_mem *mem = &session->model->mem;
    const size_t length = text ? strlen(text) : 0;
    sl_importance *m = sl_mem_alloc(mem, 1, sizeof *m);
    if (!m)
        return SL_ERR_NOMEM;
    *m = (sl_importance) { .observer = { see, session_gone }, .model = session->model, .text = sl_mem_alloc(mem, length + 1, 1) };
    sl_status status = m->text ? sl_session_observe(session, &m->observer) : SL_ERR_NOMEM;
    if (status != SL_OK) {
        sl_importance_close(m);
        return status;
    }
    if (text)
        memcpy(m->text, text, length);
    m->session = session;
    *out = m;
    return SL_OK;
}

void sl_importance_close(sl_importance *m)
{
    const sl_mem *mem = &m->model->mem;
    if (m->session)
        (void)sl_session_observe(m->session, NULL);
    for (size_t i = 0; i < m->n; i++) {
        sl_mem_free(mem, m->all[i].squares);
        sl_mem_free(mem, m->all[i].counts);
    }
    sl_mem_free(mem, m->all);
    sl_mem_free(mem, m->row);
    sl_mem_free(mem, m->text);
    sl_mem_free(mem, m);
}

sl_model *sl_importance_model(const sl_importance *m) { return m->model; }

/* ---- the file ---- */

static sl_status fill_squares(sl_gguf_sink *sink, void *sink_user, void *user)
{
    const sums *s = user;
    const size_t n = (size_t)s->weight->n_in * (size_t)s->weight->n_mat;
    float piece[PIECE];
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < k; i++) {
            piece[i] = (float)s->squares[at + i];
            if (!sl_is_finite(piece[i]))
                return sl_fail(SL_ERR_NONFINITE, "importance: %s: the sum of squares of column %zu is no float", s->weight->name, (at + i) % (size_t)s->weight->n_in);
        }
        SL_TRY(sink(piece, k * sizeof *piece, sink_user));
    }
    return SL_OK;
}

static sl_status fill_counts(sl_gguf_sink *sink, void *sink_user, void *user)
{
    const sums *s = user;
    for (int64_t i = 0; i < s->weight->n_mat; i++) {
        const float count = (float)s->counts[i];
        SL_TRY(sink(&count, sizeof count, sink_user));
    }
    return SL_OK;
}

/* Rows that went into the matrix that has seen most. */
static uint64_t most_rows(const sl_importance *m)
{
    uint64_t most = 0;
    for (size_t i = 0; i < m->n; i++)
        for (int64_t k = 0; k < m->all[i].weight->n_mat; k++)
            most = m->all[i].counts[k] > most ? m->all[i].counts[k] : most;
    return most;
}

sl_status sl_importance_put(const sl_importance *m, sl_gguf_sink *sink, void *user)
{
    sl_gguf_writer *w;
    const sl_text text = { m->text, strlen(m->text) };
    char name[NAME_BYTES];
    if (!m->n)
        return sl_fail(SL_ERR_STATE, "importance: nothing was counted yet");
    SL_TRY(sl_gguf_writer_create(&w, &m->model->mem, 3, 0));
    sl_gguf_put_text(w, "general.type", "imatrix", strlen("imatrix"));
    sl_gguf_put_texts(w, "imatrix.datasets", &text, 1);
    /* Chunks are what others compute a text in; here a row is one. */
    sl_gguf_put_int(w, "imatrix.chunk_count", SL_META_U32, (int64_t)(most_rows(m) & UINT32_MAX));
    sl_gguf_put_int(w, "imatrix.chunk_size", SL_META_U32, 1);
    for (size_t i = 0; i < m->n; i++) {
        const sl_weight *weight = m->all[i].weight;
        const uint64_t squares[] = { (uint64_t)weight->n_in, (uint64_t)weight->n_mat }, counts[] = { 1, (uint64_t)weight->n_mat };
        snprintf(name, sizeof name, "%s.in_sum2", weight->name);
        sl_gguf_put_tensor(w, name, SL_TYPE_F32, 2, squares, NULL, fill_squares, &m->all[i]);
        snprintf(name, sizeof name, "%s.counts", weight->name);
        sl_gguf_put_tensor(w, name, SL_TYPE_F32, 2, counts, NULL, fill_counts, &m->all[i]);
    }
    const sl_status status = sl_gguf_write(w, sink, user);
    sl_gguf_writer_free(w);
    return status;
}

static sl_status append(const void *data, size_t bytes, void *user) { return sl_output_append(user, data, bytes); }

sl_status sl_importance_put_file(const sl_importance *m, const char *path)
{
    sl_output output;
    SL_TRY(sl_output_open(&output, &m->model->mem, path));
    const sl_status status = sl_importance_put(m, append, &output);
    if (status == SL_OK)
        return sl_output_commit(&output);
    sl_output_discard(&output);
    return status;
}
