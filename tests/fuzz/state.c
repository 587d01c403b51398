/* SPDX-License-Identifier: MIT */
/* state.c - fuzz target: any bytes as edits of a right state, with checksums that are right again afterwards, so that what stands behind them is reached. A session that
 * holds something takes it over or refuses it with a known verdict; then it is as before or empty, and no page, picture or byte of memory is lost. What was taken can be
 * computed with and saved, and loads again.
 *
 * Byte 0: bit 0 the model takes pictures, bit 1 the state is of one sequence, bit 2 it is read into a session of another shape. Then edits until the bytes end; each is one
 * byte that says what (modulo EDITS) and its parameters, see edit(). make_corpus_state.py writes the same. */
#include "checksum.h"
#include "counting.h"
#include "mllama_build.h"
#include "state.h"
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PICTURES = 1, ONE = 2, OTHER_SHAPE = 4 };
enum { PATCH, PATCH_HEAD, NUMBER, CUT, GROW, FLIP, EDITS };
enum { N_SEQ = 3, N_CTX = 128, N_TEXT = 70, MOST_EDITS = 32, HEAD = sizeof(sl_state_head) + 4, MOST_VOCAB = 300, MOST_GROWTH = 256 };

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

/* ---- sessions and right states, made once ---- */

typedef struct bytes { uint8_t *data; size_t n, room, at; } bytes;

static int32_t put(const void *data, uint64_t n, void *user)
{
    bytes *b = user;
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + (size_t)n);
        b->data = realloc(b->data, b->room);
        require(b->data != NULL, "memory for the test");
    }
    memcpy(b->data + b->n, data, (size_t)n);
    b->n += (size_t)n;
    return 0;
}

static int64_t get(void *to, uint64_t n, void *user)
{
    bytes *b = user;
    n = n < b->n - b->at ? n : b->n - b->at;
    memcpy(to, b->data + b->at, (size_t)n);
    b->at += (size_t)n;
    return (int64_t)n;
}

typedef struct world {
    counting memory;
    sl_allocator allocator;
    sl_model *model;
    sl_session *readers[2];         /* of the shape of the states; of another one */
    sl_image *image;
    bytes right[2];                 /* of all sequences, of one: head and what is behind it, without checksums */
} world;

static sl_session *open_session(sl_model *model, uint32_t n_ctx, uint32_t n_seq)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = n_ctx, .n_seq = n_seq, .n_batch = 32 };
    sl_session *session = NULL;
    require(sl_session_create(&session, model, &o) == SL_OK, "a session");
    return session;
}

static void append(sl_session *session, uint32_t seq, size_t n, sl_token image)
{
    for (size_t i = 0; i < n; i++) {
        const sl_token id = image != SL_TOKEN_NONE && i % 20 == 9 ? image : (sl_token)(i * 7 % 20);
        require(sl_session_eval_batch(session, &id, &seq, NULL, 1, NULL) == SL_OK, "tokens");
    }
}

/* Takes the checksums out. */
static bytes unwrap(bytes whole)
{
    bytes plain = { 0 };
    put(whole.data, sizeof(sl_state_head), &plain);
    for (size_t at = HEAD; at < whole.n;) {
        const size_t n = whole.n - at - 4 < SL_STATE_BLOCK ? whole.n - at - 4 : SL_STATE_BLOCK;
        put(whole.data + at, n, &plain);
        at += n + 4;
    }
    free(whole.data);
    return plain;
}

/* And puts right ones in. */
static bytes wrap(const bytes *plain)
{
    bytes whole = { 0 };
    uint32_t crc = sl_crc32c(0, plain->data, sizeof(sl_state_head));
    put(plain->data, sizeof(sl_state_head), &whole);
    put(&crc, 4, &whole);
    for (size_t at = sizeof(sl_state_head), n; at < plain->n; at += n) {
        n = plain->n - at < SL_STATE_BLOCK ? plain->n - at : SL_STATE_BLOCK;
        crc = sl_crc32c(crc, plain->data + at, n);
        put(plain->data + at, n, &whole);
        put(&crc, 4, &whole);
    }
    return whole;
}

static void make_world(world *w, int pictures)
{
    const tiny_shape shape = { .n_layer = 1, .n_head = 4, .n_head_kv = 1 };
    const mllama_spec spec = { .n_layer = 2, .cross = 2, .n_vocab = 24 };
    size_t size;
    tiny *t = pictures ? mllama_create(&spec) : tiny_create(&shape);
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = { .size = sizeof source, .data = file, .length = size }, *const sources[] = { &source };
    w->allocator = counting_allocator(&w->memory);
    const sl_model_options o = { .size = sizeof o, .n_threads = 1, .allocator = &w->allocator };
    require(sl_model_load_sources(&w->model, sources, 1, &o) == SL_OK, "a model");
    free(file);
    tiny_free(t);
    w->image = mllama_picture(8, 8, 1);
    w->readers[0] = open_session(w->model, N_CTX, N_SEQ);
    w->readers[1] = open_session(w->model, N_CTX - 40, N_SEQ - 1);
    sl_session *writer = open_session(w->model, N_CTX, N_SEQ);
    for (int i = 0; pictures && i < 5; i++)         /* one of which waits */
        require(sl_seq_add_image(writer, 0, w->image) == SL_OK, "a picture");
    append(writer, 0, N_TEXT, pictures ? w->model->hp.vision.token : SL_TOKEN_NONE);
    require(sl_seq_copy(writer, 0, 2, N_TEXT - 2) == SL_OK, "a copy");
    append(writer, 2, 5, SL_TOKEN_NONE);
    for (int one = 0; one < 2; one++) {
        bytes whole = { 0 };
        require(sl_state_write(writer, one ? 2 : SL_SEQ_ALL, put, &whole) == SL_OK, "a state");
        w->right[one] = unwrap(whole);
    }
    sl_session_free(writer);
}

static world *world_of(int pictures)
{
    static world worlds[2];
    if (!worlds[pictures].model)
        make_world(&worlds[pictures], pictures);
    return &worlds[pictures];
}

/* ---- edits ---- */

typedef struct input { const uint8_t *data; size_t size, at; } input;

static uint64_t next(input *in, int n)
{
    uint64_t value = 0;
    for (int i = 0; i < n; i++)
        value |= (uint64_t)(in->at < in->size ? in->data[in->at++] : 0) << 8 * i;
    return value;
}

static const uint64_t numbers[] = { 0, 1, 2, 3, 5, 24, 63, 64, 65, 128, 129, 255, 256, 1024, 65536, INT32_MAX, 1ull << 31, UINT32_MAX, 1ull << 32, 1ull << 58, INT64_MAX, 1ull << 63, UINT64_MAX - 1, UINT64_MAX };

static void patch(bytes *b, size_t from, size_t end, size_t at, const void *with, size_t n)
{
    for (size_t i = 0; i < n && from + at + i < end; i++)
        b->data[from + at + i] = ((const uint8_t *)with)[i];
}

/* The head says how many bytes there are. */
static void say_length(bytes *b)
{
    const uint64_t n = b->n - sizeof(sl_state_head);
    memcpy(b->data + offsetof(sl_state_head, bytes), &n, sizeof n);
}

static void edit(bytes *b, input *in)
{
    static const uint8_t zeros[MOST_GROWTH];
    const uint64_t what = next(in, 1) % EDITS;
    const size_t at = (size_t)next(in, what == PATCH_HEAD ? 1 : 2), body = sizeof(sl_state_head);
    uint8_t few[8];
    if (what == PATCH || what == PATCH_HEAD) {
        const size_t n = (size_t)next(in, 1) % 9;
        for (size_t i = 0; i < n; i++)
            few[i] = (uint8_t)next(in, 1);
        patch(b, what == PATCH ? body : 0, what == PATCH ? b->n : body, at, few, n);
    } else if (what == NUMBER) {
        const uint64_t value = numbers[next(in, 1) % (sizeof numbers / sizeof *numbers)];
        patch(b, body, b->n, at, &value, next(in, 1) % 2 ? 8 : 4);
    } else if (what == CUT && body + at < b->n) {
        b->n = body + at;
        say_length(b);
    } else if (what == GROW) {
        put(zeros, next(in, 1), b);
        say_length(b);
    } else if (what == FLIP && body + at < b->n)
        b->data[body + at] ^= (uint8_t)next(in, 1);
}

/* ---- what it must be ---- */

static int is_known(sl_status status)
{
    static const sl_status known[] = { SL_OK, SL_ERR_NOMEM, SL_ERR_MAGIC, SL_ERR_VERSION, SL_ERR_TRUNCATED, SL_ERR_CHECKSUM, SL_ERR_STATE, SL_ERR_TYPE, SL_ERR_RANGE, SL_ERR_FULL, SL_ERR_LIMIT,
                                       SL_ERR_BOUNDS, SL_ERR_OVERFLOW };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (status == known[i])
            return 1;
    return 0;
}

static void empty(sl_session *session)
{
    for (uint32_t q = 0; q < sl_session_sequences(session); q++)
        require(sl_seq_rewind(session, q, 0) == SL_OK, "sequences can be removed");
}

/* Keys and values are any numbers, so logits may be none; the rest holds. */
static void go_on(sl_session *session)
{
    static float logits[MOST_VOCAB];
    const sl_token id = 5;
    for (uint32_t q = 0; q < sl_session_sequences(session); q++) {
        const uint8_t wanted = 1;
        const size_t length = sl_seq_length(session, q);
        const sl_status status = sl_session_eval_batch(session, &id, &q, &wanted, 1, logits);
        require(status == SL_OK || status == SL_ERR_NONFINITE || status == SL_ERR_FULL, "a known verdict on computing");
        require(sl_seq_length(session, q) == length + (status == SL_OK), "a token more, or none");
    }
    bytes again = { 0 };
    require(sl_state_write(session, SL_SEQ_ALL, put, &again) == SL_OK, "what was taken can be saved");
    require(sl_state_read(session, SL_SEQ_ALL, get, &again, NULL) == SL_OK, "and loads");
    free(again.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = { data, size, 0 };
    const unsigned flags = (unsigned)next(&in, 1);
    world *w = world_of((flags & PICTURES) != 0);
    sl_session *session = w->readers[(flags & OTHER_SHAPE) != 0];
    const bytes *right = &w->right[(flags & ONE) != 0];
    bytes plain = { 0 };
    put(right->data, right->n, &plain);
    for (int i = 0; i < MOST_EDITS && in.at < in.size; i++)
        edit(&plain, &in);
    bytes whole = wrap(&plain);
    const size_t free_positions = sl_session_free_positions(session), others = flags & ONE ? 4 : 3;
    append(session, 0, 3, SL_TOKEN_NONE);
    append(session, 1, 4, SL_TOKEN_NONE);
    const sl_status status = sl_state_read(session, flags & ONE ? 0 : SL_SEQ_ALL, get, &whole, NULL);
    require(is_known(status), "a known verdict");
    if (status == SL_OK)
        go_on(session);
    else {
        require(sl_seq_length(session, 0) == 0 || sl_seq_length(session, 0) == 3, "as before, or empty");
        require(!(flags & ONE) || sl_seq_length(session, 1) == others, "other sequences stay");
    }
    empty(session);
    require(sl_session_free_positions(session) == free_positions, "all pages are free again");
    require(sl_seq_images(session, 0) + sl_seq_images(session, 1) == 0, "no picture is left");
    require(!w->memory.wrong, "memory is given back as it was taken");
    free(plain.data);
    free(whole.data);
    return 0;
}
