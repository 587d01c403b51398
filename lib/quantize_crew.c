/* SPDX-License-Identifier: MIT */
/* quantize_crew.c - see quantize_crew.h. A tensor is cut into pieces of PIECE numbers, whole blocks of every type; a batch of pieces is shared out among the threads, then written. */
#include "quantize_crew.h"

#include "fpenv.h"
#include "quantize_blocks.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

/* Numbers of a piece; bytes of its result at most; what a thread needs: the piece as it was read, as floats, the weights of its columns. */
enum { PIECE = 1 << 18, SLOT_BYTES = 4 * PIECE, BUFFER_BYTES = 3 * SLOT_BYTES, PIECES_PER_THREAD = 2 };

/* ---- one piece ---- */

static sl_status refuse(const sl_recode *r, sl_status status, uint64_t index, const char *what)
{
    char quoted[SL_QUOTE_BYTES];
    const uint64_t n = r->tensor->ne[0];
    return sl_fail_in(sl_fail(status, "tensor '%s', row %" PRIu64 ", column %" PRIu64 ": %s", sl_quote(quoted, r->tensor->name, strlen(r->tensor->name)), index / n, index % n, what), r->input->name);
}

/* The weights of numbers first .. first + n - 1, side by side. */
static void spread_weights(const sl_recode *r, uint64_t first, size_t n, float *to)
{
    const uint64_t n_in = r->tensor->ne[0], per_matrix = n_in * r->tensor->ne[1];
    for (size_t i = 0; i < n;) {
        const uint64_t at = first + i, column = at % n_in, left = n_in - column;
        const size_t count = left < n - i ? (size_t)left : n - i;
        memcpy(to + i, r->weights + at / per_matrix * n_in + column, count * sizeof *to);
        i += count;
    }
}

/* A number above what halves hold, or -1. Bits of magnitudes order like the numbers. */
static int64_t find_large(const float *x, size_t n)
{
    const uint32_t most = sl_bits(SL_QUANTIZE_MAX);
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t a = sl_bits(x[i]) & 0x7fffffffu;
        largest = a > largest ? a : largest;
    }
    for (size_t i = 0; i < n && largest > most; i++)
        if ((sl_bits(x[i]) & 0x7fffffffu) > most)
            return (int64_t)i;
    return -1;
}

static sl_status recode_piece(const sl_recode *r, uint64_t first, size_t n, uint8_t *buffer, uint8_t *slot)
{
    const sl_type_info *from = sl_type_get((uint32_t)r->tensor->type), *to = sl_type_get((uint32_t)r->type);
    const size_t bytes = sl_type_row_bytes(from, n);
    const int copied = from == to;
    uint8_t *raw = copied ? slot : buffer;
    float *x = (float *)(void *)(buffer + SLOT_BYTES), *weights = (float *)(void *)(buffer + 2 * SLOT_BYTES);
    SL_TRY(sl_input_read(r->input, r->tensor->offset + first / from->block_values * from->block_bytes, raw, bytes));
    int64_t bad = from->check(raw, (int64_t)(n / from->block_values));
    if (bad >= 0)
        return refuse(r, SL_ERR_NONFINITE, first + (uint64_t)bad * from->block_values, "a number is infinite or not a number");
    if (copied)
        return SL_OK;
    from->decode(raw, (int64_t)(n / from->block_values), x);
    /* what decodes to more than a float, or does not fit beside its neighbours */
    if (r->type != SL_TYPE_F32 && r->type != SL_TYPE_BF16 && (bad = find_large(x, n)) >= 0)
        return refuse(r, SL_ERR_RANGE, first + (uint64_t)bad, "a number is too large for the type");
    if (r->weights)
        spread_weights(r, first, n, weights);
    sl_encoder_get(r->type)(x, r->weights ? weights : NULL, (int64_t)n, slot);
    bad = to->check(slot, (int64_t)(n / to->block_values));
    return bad < 0 ? SL_OK : refuse(r, SL_ERR_RANGE, first + (uint64_t)bad * to->block_values, "a number is too large for the type");
}

/* ---- a batch of pieces ---- */

typedef struct batch {
    const sl_crew *crew;
    const sl_recode *recode;
    uint64_t first, n;          /* numbers of the tensor: first one of the batch; all */
    size_t piece, n_pieces;     /* numbers of each piece but the last of the tensor */
    atomic_size_t next;
    sl_mutex lock;              /* around the failure */
    size_t failed;              /* the first piece that failed, n_pieces: none */
    sl_status status;
    char sentence[SL_SENTENCE_BYTES];
} batch;

/* A thread of a batch. */
struct sl_crew_hand { batch *batch; uint8_t *buffer; sl_thread *thread; };

static size_t piece_numbers(const batch *b, size_t piece)
{
    const uint64_t at = b->first + (uint64_t)piece * b->piece;
    return b->n - at < b->piece ? (size_t)(b->n - at) : b->piece;
}

/* Takes pieces until none is left. Goes on after a failure: which one is reported must not depend on who was faster. */
static void work(void *arg)
{
    struct sl_crew_hand *h = arg;
    batch *b = h->batch;
    const uint64_t fp = sl_fp_enter();
    for (size_t i; (i = atomic_fetch_add(&b->next, 1)) < b->n_pieces;) {
        const sl_status status = recode_piece(b->recode, b->first + (uint64_t)i * b->piece, piece_numbers(b, i), h->buffer, b->crew->slots + i * SLOT_BYTES);
        if (status == SL_OK)
            continue;
        sl_mutex_lock(&b->lock);
        if (i < b->failed) {
            b->failed = i;
            b->status = status;
            sl_sentence_keep(b->sentence);
        }
        sl_mutex_unlock(&b->lock);
    }
    sl_fp_set(fp);
}

/* A thread that cannot be had leaves its work to the others: the result is the same. */
static sl_status run_batch(sl_crew *crew, batch *b)
{
    char before[SL_SENTENCE_BYTES];
    struct sl_crew_hand *hands = crew->hands;
    const size_t n = crew->n_threads < b->n_pieces ? crew->n_threads : b->n_pieces;
    size_t started = 1;
    const uint64_t clock = sl_clock_ns();
    sl_sentence_keep(before);
    b->failed = b->n_pieces;
    b->status = SL_OK;
    atomic_store(&b->next, 0);
    for (size_t i = 0; i < n; i++)
        hands[i] = (struct sl_crew_hand) { b, crew->buffers + i * BUFFER_BYTES, NULL };
    while (started < n && sl_thread_start(&hands[started].thread, crew->mem, work, &hands[started]) == SL_OK)
        started++;
    work(&hands[0]);
    for (size_t i = 1; i < started; i++)
        sl_thread_join(hands[i].thread, crew->mem);
    crew->encode_ns += sl_clock_ns() - clock;
    sl_sentence_restore(b->status == SL_OK ? before : b->sentence);
    return b->status;
}

static sl_status write_batch(sl_crew *crew, const batch *b, sl_gguf_sink *sink, void *user)
{
    const sl_type_info *to = sl_type_get((uint32_t)b->recode->type), *from = sl_type_get((uint32_t)b->recode->tensor->type);
    for (size_t i = 0; i < b->n_pieces; i++) {
        SL_TRY(sink(crew->slots + i * SLOT_BYTES, sl_type_row_bytes(to, piece_numbers(b, i)), user));
        crew->done += sl_type_row_bytes(from, piece_numbers(b, i));
    }
    if (crew->progress && crew->progress(crew->done, crew->total, crew->progress_user))
        return sl_fail(SL_ERR_CANCELLED, "cancelled");
    return SL_OK;
}

sl_status sl_crew_recode(sl_crew *crew, const sl_recode *r, sl_gguf_sink *sink, void *user)
{
    const sl_gguf_tensor *t = r->tensor;
    const sl_type_info *from = sl_type_get((uint32_t)t->type);
    batch b = { .crew = crew, .recode = r };
    b.n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    b.piece = from->block_bytes > 4u * from->block_values ? PIECE / 2 : PIECE;      /* binary64 and the like fit a slot */
    SL_TRY(sl_mutex_init(&b.lock));
    sl_status status = SL_OK;
    for (b.first = 0; b.first < b.n && status == SL_OK; b.first += (uint64_t)b.piece * b.n_pieces) {
        const uint64_t left = (b.n - b.first + b.piece - 1) / b.piece, most = (uint64_t)crew->n_threads * PIECES_PER_THREAD;
        b.n_pieces = (size_t)(left < most ? left : most);
        status = run_batch(crew, &b);
        if (status == SL_OK)
            status = write_batch(crew, &b, sink, user);
    }
    sl_mutex_destroy(&b.lock);
    return status;
}

sl_status sl_crew_open(sl_crew *crew, const sl_mem *mem, unsigned n_threads)
{
    *crew = (sl_crew) { .mem = mem, .n_threads = n_threads };
    crew->slots = sl_mem_alloc(mem, (size_t)n_threads * PIECES_PER_THREAD, SLOT_BYTES);
    crew->buffers = crew->slots ? sl_mem_alloc(mem, n_threads, BUFFER_BYTES) : NULL;
    crew->hands = crew->buffers ? sl_mem_alloc(mem, n_threads, sizeof *crew->hands) : NULL;
    if (crew->hands)
        return SL_OK;
    sl_crew_close(crew);
    return SL_ERR_NOMEM;
}

void sl_crew_close(sl_crew *crew)
{
    sl_mem_free(crew->mem, crew->slots);
    sl_mem_free(crew->mem, crew->buffers);
    sl_mem_free(crew->mem, crew->hands);
}
