/* SPDX-License-Identifier: MIT */
/* soak.c - hours of use in one process: soak SECONDS [SEED]. Sequences that grow, are copied, cut, kept, saved, loaded, generated from and shown pictures, in an order that
 * chance decides; sessions and models that come and go between. What every sequence should hold is noted beside; what the library says of one is held, byte for byte,
 * against a fresh session of another model object with other threads and batches. Memory must be given back, and the process must not grow. A failure prints the seed and
 * the step, with which it can be seen again. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "counting.h"
#include "mllama_build.h"
#include "random.h"
#include "sanitized.h"
#include "tiny.h"

enum { N_SEQ = 6, N_CTX = 200, N_SHARED = 640, MOST_VOCAB = 300, MOST_RUN = 40, N_IMAGES = 4, MOST_SEEN = 8, STATE_BYTES = 4 << 20 };

static uint64_t seed, first_seed, step;
static const char *doing = "beginning";

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "seed %" PRIu64 ", step %" PRIu64 ", %s: not so: %s (%s)\n", first_seed, step, doing, what, sl_last_error());
    exit(1);
}

static size_t below(size_t n) { return (size_t)random_below(&seed, n); }

/* ---- the world of one model ---- */

/* What a sequence should hold. */
typedef struct note { sl_token ids[N_CTX]; size_t n; int images[MOST_SEEN]; size_t n_images; } note;     /* pictures in the order of their tokens */

typedef struct world {
    const char *name;
    unsigned char *file;
    size_t size;
    uint32_t n_vocab;
    sl_token image_token;           /* or SL_TOKEN_NONE */
    counting memory;
    sl_allocator allocator;
    sl_model *model, *judge;        /* the second one answers for the first */
    sl_session *session;
    note notes[N_SEQ];
    unsigned char *state;           /* of all sequences, as it was when notes were those */
    size_t state_bytes, state_at;
    note state_notes[N_SEQ];
    uint64_t counts[16];
} world;

static sl_image *images[N_IMAGES];
static char state_path[64];

static sl_model *load(const world *w, const sl_allocator *allocator, uint32_t n_threads)
{
    const sl_source source = { .size = sizeof source, .data = w->file, .length = w->size }, *const sources[] = { &source };
    const sl_model_options o = { .size = sizeof o, .n_threads = n_threads, .allocator = allocator };
    sl_model *model = NULL;
    require(sl_model_load_sources(&model, sources, 1, &o) == SL_OK, "a model loads");
    return model;
}

static sl_session *open_session(sl_model *model, uint32_t n_seq, uint32_t n_shared, uint32_t n_batch)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = N_CTX, .n_seq = n_seq, .n_ctx_shared = n_shared, .n_batch = n_batch };
    sl_session *session = NULL;
    require(sl_session_create(&session, model, &o) == SL_OK, "a session opens");
    return session;
}

/* ---- the judge ---- */

/* A fresh session that holds what is noted. */
static sl_session *told_again(const world *w, const note *t)
{
    sl_session *s = open_session(w->judge, 1, 0, (uint32_t)(1 + below(64)));
    for (size_t i = 0; i < t->n_images; i++)
        require(sl_session_add_image(s, images[t->images[i]]) == SL_OK, "a picture for the judge");
    require(sl_session_eval(s, t->ids, t->n, NULL, 0) == SL_OK, "the judge reads");
    return s;
}

/* One more token gives the same logits; then it is taken back. */
static void compare(world *w, uint32_t q)
{
    static float mine[MOST_VOCAB], right[MOST_VOCAB];
    const note *t = &w->notes[q];
    const sl_token id = (sl_token)below(w->n_vocab);
    const uint8_t wanted = 1;
    require(sl_seq_length(w->session, q) == t->n && (!t->n || !memcmp(sl_seq_tokens(w->session, q), t->ids, t->n * sizeof *t->ids)), "the tokens are those that were given");
    require(sl_seq_images(w->session, q) == t->n_images, "so are the pictures");
    if (t->n == N_CTX)
        return;
    const sl_status status = sl_session_eval_batch(w->session, &id, &q, &wanted, 1, mine);
    if (status == SL_ERR_FULL)
        return;
    require(status == SL_OK, "a token more");
    sl_session *s = told_again(w, t);
    require(sl_session_eval(s, &id, 1, right, 1) == SL_OK, "the judge computes");
    require(!memcmp(mine, right, w->n_vocab * sizeof *mine), "the logits are those of a fresh session");
    sl_session_free(s);
    require(sl_seq_rewind(w->session, q, t->n) == SL_OK, "back again");
}

/* ---- what is done ---- */

/* Forgets what is behind the first n tokens. */
static void cut(const world *w, note *t, size_t n)
{
    size_t left = 0;
    for (size_t i = 0; i < n; i++)
        left += t->ids[i] == w->image_token;
    t->n = n;
    t->n_images = left;
}

static void do_append(world *w)
{
    sl_token ids[MOST_RUN * 2];
    uint32_t seqs[MOST_RUN * 2];
    note after[N_SEQ];
    size_t n = 0;
    memcpy(after, w->notes, sizeof after);
    for (size_t runs = 1 + below(4); runs && n < MOST_RUN; runs--) {
        const uint32_t q = (uint32_t)below(N_SEQ);
        for (size_t k = 1 + below(MOST_RUN); k && n < MOST_RUN * 2 && after[q].n < N_CTX; k--, n++)
            after[q].ids[after[q].n++] = ids[n] = (sl_token)below(w->n_vocab), seqs[n] = q;
    }
    const sl_status status = sl_session_eval_batch(w->session, ids, seqs, NULL, n, NULL);
    require(status == SL_OK || status == SL_ERR_FULL, "tokens are appended");
    if (status == SL_OK)
        memcpy(w->notes, after, sizeof after);
}

static void do_picture(world *w)
{
    const uint32_t q = (uint32_t)below(N_SEQ);
    const int which = (int)below(N_IMAGES);
    note *t = &w->notes[q];
    if (w->image_token == SL_TOKEN_NONE || t->n_images == MOST_SEEN || t->n == N_CTX)
        return;
    require(sl_seq_add_image(w->session, q, images[which]) == SL_OK, "a picture");
    const sl_status status = sl_session_eval_batch(w->session, &w->image_token, &q, NULL, 1, NULL);
    require(status == SL_OK || status == SL_ERR_FULL, "its token");
    if (status == SL_OK) {
        t->ids[t->n++] = w->image_token;
        t->images[t->n_images++] = which;
    } else
        require(sl_seq_rewind(w->session, q, t->n) == SL_OK, "the picture is forgotten");
}

static void do_copy(world *w)
{
    const uint32_t from = (uint32_t)below(N_SEQ), to = (uint32_t)below(N_SEQ);
    const size_t n = below(w->notes[from].n + 1);
    if (from == to)
        return;
    require(sl_seq_copy(w->session, from, to, n) == SL_OK, "a copy");
    w->notes[to] = w->notes[from];
    cut(w, &w->notes[to], n);
}

static void do_rewind(world *w)
{
    const uint32_t q = (uint32_t)below(N_SEQ);
    const size_t n = below(3) ? below(w->notes[q].n + 1) : 0;
    require(sl_seq_rewind(w->session, q, n) == SL_OK, "back");
    cut(w, &w->notes[q], n);
}

static void do_keep_prefix(world *w)
{
    const uint32_t q = (uint32_t)below(N_SEQ), other = (uint32_t)below(N_SEQ);
    const note *like = &w->notes[other];
    size_t kept, same = 0;
    const note *t = &w->notes[q];
    while (same < t->n && same + 1 < like->n && t->ids[same] == like->ids[same])
        same++;
    require(sl_seq_keep_prefix(w->session, q, like->ids, like->n, &kept) == SL_OK, "a prefix is kept");
    require(kept == same, "as much of it as is the same");
    cut(w, &w->notes[q], kept);
}

static void do_keep(world *w)
{
    const uint32_t q = (uint32_t)below(N_SEQ);
    require(sl_seq_keep(w->session, q) == SL_OK, "one is kept");
    for (uint32_t i = 0; i < N_SEQ; i++)
        if (i != q)
            cut(w, &w->notes[i], 0);
}

static int32_t put(const void *data, uint64_t bytes, void *user)
{
    world *w = user;
    if (bytes > STATE_BYTES - w->state_bytes)
        return 1;
    memcpy(w->state + w->state_bytes, data, bytes);
    w->state_bytes += bytes;
    return 0;
}

static int64_t get(void *to, uint64_t bytes, void *user)
{
    world *w = user;
    const uint64_t left = w->state_bytes - w->state_at, n = bytes < left ? bytes : left;
    memcpy(to, w->state + w->state_at, n);
    w->state_at += n;
    return (int64_t)n;
}

static void do_write_state(world *w)
{
    w->state_bytes = 0;
    require(sl_state_write(w->session, SL_SEQ_ALL, put, w) == SL_OK, "a state is written");
    memcpy(w->state_notes, w->notes, sizeof w->notes);
}

/* Now and then a damaged one: refused, and then the session is empty or as it was. */
static void do_read_state(world *w)
{
    const int damaged = !below(4);
    if (!w->state_bytes)
        return;
    const size_t at = below(w->state_bytes);
    w->state[at] ^= (unsigned char)(damaged << below(8));
    w->state_at = 0;
    const sl_status status = sl_state_read(w->session, SL_SEQ_ALL, get, w, NULL);
    require(damaged ? status != SL_OK : status == SL_OK, damaged ? "a damaged state is refused" : "a state is read");
    if (!damaged) {
        memcpy(w->notes, w->state_notes, sizeof w->notes);
        return;
    }
    w->state_bytes = 0;
    for (uint32_t q = 0; q < N_SEQ; q++) {
        require(sl_seq_length(w->session, q) == w->notes[q].n || !sl_seq_length(w->session, q), "as before, or empty");
        cut(w, &w->notes[q], sl_seq_length(w->session, q));
    }
}

/* One sequence through a file into another. */
static void do_file(world *w)
{
    const uint32_t from = (uint32_t)below(N_SEQ), to = (uint32_t)below(N_SEQ);
    require(sl_state_save(w->session, from, state_path) == SL_OK, "a state is saved");
    const sl_status status = sl_state_load(w->session, to, state_path, NULL);
    require(status == SL_OK || status == SL_ERR_FULL, "and loaded");
    if (status == SL_OK)
        w->notes[to] = w->notes[from];
}

/* In sequence 0, with a sampler that has everything; the judge must say the same. */
static void do_generate(world *w)
{
    static const struct { const char *name; double params[3]; size_t n; } steps[] = {
        { "penalties", { 64, 1.2, 0.1 }, 3 }, { "dry", { 0.8, 1.75, 2 }, 3 }, { "top-k", { 40 }, 1 }, { "typical", { 0.9 }, 1 }, { "min-p", { 0.02 }, 1 }, { "temp", { 0.9 }, 1 },
    };
    const uint64_t draw = below(1000000);
    sl_generate_options o = { .size = sizeof o, .max_tokens = (uint32_t)(1 + below(30)), .lookup = (uint32_t)below(4) };
    sl_generate_result results[2] = { { .size = sizeof *results }, { .size = sizeof *results } };
    sl_sampler *sampler;
    note *t = &w->notes[0];
    if (!t->n)
        return;
    require(sl_sampler_create(&sampler, w->n_vocab, draw, &w->allocator) == SL_OK, "a sampler");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (below(2))
            require(sl_sampler_add(sampler, steps[i].name, steps[i].params, steps[i].n) == SL_OK, "a step");
    o.sampler = sampler;
    const sl_status status = sl_generate(w->session, NULL, 0, &o, &results[0]);
    require(status == SL_OK || (status == SL_ERR_FULL && sl_session_length(w->session) == t->n), "text is made, or nothing has changed");
    if (status == SL_OK && results[0].finish != SL_FINISH_FULL) {
        sl_session *s = told_again(w, t);
        require(sl_sampler_reset(sampler, draw) == SL_OK, "once more");
        o.lookup = 0;
        require(sl_generate(s, NULL, 0, &o, &results[1]) == SL_OK, "text of the judge");
        const size_t n = sl_session_length(w->session), more = sl_session_length(s) - n;       /* 1: no page was left for the last token */
        require(results[0].finish == results[1].finish && results[0].n_tokens == results[1].n_tokens, "as much text, for the same reason");
        require(more == 0 || (more == 1 && sl_session_free_positions(w->session) == 0), "all of it is in the timeline");
        require(!memcmp(sl_session_tokens(s), sl_session_tokens(w->session), n * sizeof(sl_token)), "the same text");
        sl_session_free(s);
    }
    sl_sampler_free(sampler);
    t->n = sl_session_length(w->session);
    if (t->n)
        memcpy(t->ids, sl_session_tokens(w->session), t->n * sizeof *t->ids);
}

static void do_cancel(world *w)
{
    const uint32_t q = (uint32_t)below(N_SEQ);
    const sl_token id = 1;
    if (w->notes[q].n == N_CTX)
        return;
    sl_session_cancel(w->session);
    const sl_status status = sl_session_eval_batch(w->session, &id, &q, NULL, 1, NULL);
    require(status == SL_ERR_CANCELLED || status == SL_ERR_FULL, "cancelled");
    require(sl_seq_rewind(w->session, q, w->notes[q].n) == SL_OK, "and over");
}

/* The session is closed and comes back from a state. */
static void do_reopen(world *w)
{
    do_write_state(w);
    sl_session_free(w->session);
    w->session = open_session(w->model, N_SEQ, N_SHARED, (uint32_t)(1 + below(100)));
    w->state_at = 0;
    require(sl_state_read(w->session, SL_SEQ_ALL, get, w, NULL) == SL_OK, "the session comes back");
}

/* Everything goes: no memory is left. Then it begins anew, from the state that there was. */
static void do_reload(world *w)
{
    do_write_state(w);
    sl_session_free(w->session);
    sl_model_free(w->model);
    require(!w->memory.live_blocks && !w->memory.live_bytes && !w->memory.wrong, "all memory is given back");
    w->model = load(w, &w->allocator, (uint32_t)(1 + below(3)));
    w->session = open_session(w->model, N_SEQ, N_SHARED, 0);
    w->state_at = 0;
    require(sl_state_read(w->session, SL_SEQ_ALL, get, w, NULL) == SL_OK, "the state of the model that was");
}

static const struct { const char *name; void (*act)(world *w); unsigned often; } acts[] = {
    { "append", do_append, 30 }, { "picture", do_picture, 10 }, { "copy", do_copy, 12 }, { "rewind", do_rewind, 14 }, { "keep a prefix", do_keep_prefix, 5 }, { "keep", do_keep, 1 },
    { "write a state", do_write_state, 4 }, { "read a state", do_read_state, 4 }, { "file", do_file, 3 }, { "generate", do_generate, 8 }, { "cancel", do_cancel, 3 }, { "reopen", do_reopen, 2 },
    { "reload", do_reload, 1 },
};
enum { N_ACTS = sizeof acts / sizeof *acts };

static void one_step(world *w)
{
    unsigned all = 0;
    size_t a = 0;
    for (size_t i = 0; i < N_ACTS; i++)
        all += acts[i].often;
    for (size_t at = below(all); at >= acts[a].often; a++)
        at -= acts[a].often;
    doing = acts[a].name;
    acts[a].act(w);
    w->counts[a]++;
    for (uint32_t q = 0; q < N_SEQ; q++)
        require(sl_seq_length(w->session, q) == w->notes[q].n && sl_seq_images(w->session, q) == w->notes[q].n_images, "every sequence is as long as noted, with as many pictures");
    if (!below(3))
        compare(w, (uint32_t)below(N_SEQ));
}

/* ---- beginning and end ---- */

static void make_world(world *w, const char *name, tiny *t, uint32_t n_vocab, sl_token image_token)
{
    w->name = name;
    w->file = tiny_write(t, &w->size);
    tiny_free(t);
    w->n_vocab = n_vocab, w->image_token = image_token;
    w->allocator = counting_allocator(&w->memory);
    w->model = load(w, &w->allocator, 2);
    w->judge = load(w, NULL, 1);
    w->session = open_session(w->model, N_SEQ, N_SHARED, 0);
    w->state = malloc(STATE_BYTES);
    require(w->state != NULL, "memory for the test");
}

static void end_world(world *w)
{
    for (uint32_t q = 0; q < N_SEQ; q++)
        require(sl_seq_rewind(w->session, q, 0) == SL_OK, "empty");
    require(sl_session_free_positions(w->session) >= N_SHARED, "all pages are free");
    sl_session_free(w->session);
    sl_model_free(w->model);
    sl_model_free(w->judge);
    require(!w->memory.live_blocks && !w->memory.live_bytes && !w->memory.wrong, "all memory is given back");
    free(w->file);
    free(w->state);
}

/* Bytes of the process that are in memory. */
static size_t resident(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Until then all buffers have grown to what they will be: what is resident is no sign of a leak. */
enum { WARM_STEPS = 5000 };

int main(int argc, char **argv)
{
    static world worlds[2];
    const double seconds = argc > 1 ? atof(argv[1]) : 0, begin = now();
    if (seconds <= 0) {
        fprintf(stderr, "soak SECONDS [SEED]\n");
        return 2;
    }
    seed = first_seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    snprintf(state_path, sizeof state_path, "/tmp/spacellama-soak-%ld", (long)getpid());
    for (size_t i = 0; i < N_IMAGES; i++)
        images[i] = mllama_picture((uint32_t)(8 + 7 * i), 9, i);
    make_world(&worlds[0], "text", tiny_create(&(tiny_shape) { .n_embd = 64, .n_vocab = 40, .n_ctx = 256, .matrices = TINY_MATRIX_Q8_0 }), 40, SL_TOKEN_NONE);
    make_world(&worlds[1], "pictures", mllama_create(NULL), 280, 280);
    size_t early = 0, most = 0;
    for (double next_line = 60; now() - begin < seconds; step++) {
        one_step(&worlds[below(2)]);
        if (!early && step >= WARM_STEPS && now() - begin > seconds / 10)
            early = resident();
        if (now() - begin > next_line || !(step % 1024))
            most = resident() > most ? resident() : most;
        if (now() - begin > next_line) {
            printf("%.0f s, %" PRIu64 " steps, %zu KiB\n", now() - begin, step, resident() / 1024);
            fflush(stdout);
            next_line += 60;
        }
    }
    const size_t late = resident();
    doing = "ending";
    for (size_t i = 0; i < 2; i++) {
        printf("%s:", worlds[i].name);
        for (size_t a = 0; a < N_ACTS; a++)
            printf(" %s %" PRIu64 "%s", acts[a].name, worlds[i].counts[a], a + 1 < N_ACTS ? "," : "\n");
        end_world(&worlds[i]);
    }
    printf("seed %" PRIu64 ": %" PRIu64 " steps in %.0f s; %zu KiB resident after a tenth of it, %zu at the end, %zu at most\n", first_seed, step, now() - begin, early / 1024, late / 1024, most / 1024);
    for (size_t i = 0; i < N_IMAGES; i++)
        sl_image_free(images[i]);
    char old[80];
    snprintf(old, sizeof old, "%s.old", state_path);
    (void)unlink(state_path), (void)unlink(old);
#ifdef SANITIZED        /* which keeps what was freed for a while */
    return 0;
#else
    return early && late > early + (4u << 20);
#endif
}
