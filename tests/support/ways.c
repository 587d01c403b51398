/* SPDX-License-Identifier: MIT */
/* ways.c - see ways.h. */
#define _GNU_SOURCE     /* mkstemp */
#include "ways.h"

#include "check.h"
#include "eval.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_SAID = 12, N_ASKED = 24, N_OTHER = 9 };

/* ---- the axes ---- */

enum { PACKED, IN_PLACE, CACHED };
enum { STRAIGHT, REWOUND, COPIED, SAVED };
typedef struct value { const char *text; uint32_t number; } value;
typedef struct axis { const char *name; value values[8]; } axis;        /* up to the one without text; those of the level stand in eval_levels */

static const axis axes[WAYS_AXES] = {
    [WAYS_LEVEL] = { "level", { { NULL, 0 } } },
    [WAYS_THREADS] = { "threads", { { "1", 1 }, { "2", 2 }, { "3", 3 }, { "5", 5 } } },
    [WAYS_BATCH] = { "batches", { { "512", 512 }, { "1", 1 }, { "2", 2 }, { "7", 7 }, { "64", 64 } } },
    [WAYS_CALL] = { "ids per call", { { "all", 0 }, { "1", 1 }, { "7", 7 }, { "64", 64 } } },
    [WAYS_DEVICES] = { "devices", { { "cpu", 1 }, { "cpu@0-0,cpu", 2 }, { "cpu@1-1,cpu", 2 } } },
    [WAYS_WEIGHTS] = { "weights", { { "packed", PACKED }, { "in place", IN_PLACE }, { "from a cache file", CACHED } } },
    [WAYS_BESIDE] = { "others beside", { { "0", 0 }, { "3", 3 } } },
    [WAYS_LOOKUP] = { "lookup", { { "0", 0 }, { "5", 5 } } },
    [WAYS_LIFE] = { "life", { { "straight", STRAIGHT }, { "rewound", REWOUND }, { "copied", COPIED }, { "saved and loaded", SAVED } } },
};

typedef struct way { uint32_t at[WAYS_AXES]; } way;

static uint32_t n_values(int a)
{
    uint32_t n = 0;
    if (a == WAYS_LEVEL) {
        while (eval_levels[n])
            n++;
        return 1 + n;
    }
    while (n < COUNT(axes[a].values) && axes[a].values[n].text)
        n++;
    return n;
}

static const char *level_of(const way *w) { return w->at[WAYS_LEVEL] ? eval_levels[w->at[WAYS_LEVEL] - 1] : NULL; }
static uint32_t number_of(const way *w, int a) { return axes[a].values[w->at[a]].number; }
static const char *text_of(const way *w, int a) { return a == WAYS_LEVEL ? w->at[a] ? level_of(w) : "best" : axes[a].values[w->at[a]].text; }
static int is_base(const way *w, int a) { return !w->at[a]; }

/* ---- a proof ---- */

typedef struct proof {
    const ways_subject *s;
    sl_token *ids;              /* [n]: those of the subject with its pictures' */
    unsigned char *is_image;    /* [n] */
    size_t n, n_vocab, first[WAYS_IMAGES];      /* first image token of each picture */
    int unsaved;                /* 1: vectors of pictures take the place of tokens: no state holds them */
    char kept[64], packed[80];  /* a file of the model's bytes, and one of its packed weights */
    sl_model *model;            /* of the way before */
    way loaded;
    sl_model_info info;
    float *expected, *got;      /* [n][n_vocab] */
    sl_token said[N_SAID], expected_said[N_SAID];
    uint64_t base_bytes, n_drafts;
} proof;

static const char *describe(const proof *p, const way *w)
{
    static char text[512];
    size_t n = (size_t)snprintf(text, sizeof text, "%s, %s, cache %s", p->s->name, p->s->arith ? p->s->arith : "f32", p->s->cache);
    for (int a = 0; a < WAYS_AXES && n < sizeof text; a++)
        n += (size_t)snprintf(text + n, sizeof text - n, ", %s %s", axes[a].name, text_of(w, a));
    return text;
}

#define FINE(call)                                                                        \
    do {                                                                                  \
        if ((call) != SL_OK)                                                              \
            fail_msg("%s: %s: %s", describe(p, w), #call, sl_last_error());               \
    } while (0)

/* ---- models ---- */

static sl_status load_once(proof *p, const way *w)
{
    const ways_subject *s = p->s;
    const int cached = number_of(w, WAYS_WEIGHTS) == CACHED;
    const sl_source source = { .size = sizeof source, .data = s->data, .length = s->size, .name = s->name }, *const sources[] = { &source };
    sl_model_options o = SL_MODEL_OPTIONS_INIT;
    o.backend = text_of(w, WAYS_DEVICES), o.cpu_level = level_of(w), o.arith = s->arith, o.projector = s->projector, o.n_threads = number_of(w, WAYS_THREADS);
    o.in_place = number_of(w, WAYS_WEIGHTS) == IN_PLACE, o.weight_cache = cached ? p->packed : NULL;
    const sl_status status = s->path || cached ? sl_model_load(&p->model, s->path ? s->path : p->kept, &o) : sl_model_load_sources(&p->model, sources, 1, &o);
    p->loaded = *w;
    return status == SL_OK ? sl_model_get_info(p->model, &p->info) : status;
}

/* 0 if the machine lacks the level. */
static int load(proof *p, const way *w)
{
    static const int theirs[] = { WAYS_LEVEL, WAYS_THREADS, WAYS_DEVICES, WAYS_WEIGHTS };
    const uint32_t kind = number_of(w, WAYS_WEIGHTS);
    int same = p->model != NULL;
    for (size_t i = 0; i < COUNT(theirs); i++)
        same &= w->at[theirs[i]] == p->loaded.at[theirs[i]];
    if (same)
        return 1;
    for (int times = 0; times < 2; times++) {       /* packed weights from the file are there from the second time on */
        sl_model_free(p->model);
        p->model = NULL;
        const sl_status status = load_once(p, w);
        if (status == SL_ERR_UNSUPPORTED && w->at[WAYS_LEVEL])
            return 0;
        if (status != SL_OK)
            fail_msg("%s: %s", describe(p, w), sl_last_error());
        if (kind != CACHED || p->info.cached_bytes)
            break;
    }
    if ((p->info.cached_bytes > 0) != (kind == CACHED) || (p->info.in_place_bytes > 0) != (kind == IN_PLACE) || (kind != IN_PLACE && !p->info.weight_bytes))
        fail_msg("%s: weights are elsewhere", describe(p, w));
    return 1;
}

/* ---- computing ---- */

typedef struct run { proof *p; const way *w; sl_session *session; size_t added; uint32_t n_seq; uint64_t n_tokens; } run;

static sl_session *open_session(const proof *p, const way *w, uint32_t n_seq)
{
    const sl_session_options o = { .size = sizeof o, .cache_type = p->s->cache, .n_ctx = (uint32_t)(2 * p->n + 2 * N_ASKED + N_SAID), .n_batch = number_of(w, WAYS_BATCH), .n_seq = n_seq };
    sl_session *session;
    FINE(sl_session_create(&session, p->model, &o));
    return session;
}

/* Ids of text: what marks pictures stands among the last. */
static uint64_t n_text(const proof *p) { return p->n_vocab - 40; }
static sl_token other(const proof *p, size_t i) { return (sl_token)((7 * i + 3) % n_text(p)); }

/* Ids [from, to) to sequence 0, with as many of others to those beside it, which come first or last in turn. */
static void call(run *r, size_t from, size_t to, float *rows)
{
    const proof *p = r->p;
    const way *w = r->w;
    const size_t others = number_of(w, WAYS_BESIDE), n_seq = 1 + others, n = (to - from) * n_seq;
    r->n_tokens += n;
    if (!others) {
        FINE(sl_session_eval(r->session, p->ids + from, n, rows, n));
        return;
    }
    sl_token *ids = malloc(n * sizeof *ids);
    uint32_t *seqs = malloc(n * sizeof *seqs);
    uint8_t *wanted = malloc(n);
    for (size_t i = 0; i < n; i++) {
        seqs[i] = (uint32_t)((1 + i) % n_seq);
        wanted[i] = !seqs[i];
        ids[i] = wanted[i] ? p->ids[from + i / n_seq] : other(p, i + seqs[i]);
    }
    FINE(sl_session_eval_batch(r->session, ids, seqs, wanted, n, rows));
    free(ids), free(seqs), free(wanted);
}

static void go(run *r, size_t from, size_t to)
{
    const proof *p = r->p;
    const way *w = r->w;
    const size_t piece = number_of(w, WAYS_CALL) ? number_of(w, WAYS_CALL) : to - from;
    for (size_t at = from, n; at < to; at += n) {
        n = to - at < piece ? to - at : piece;
        for (; r->added < p->s->n_images && p->first[r->added] < at + n; r->added++)
            FINE(sl_session_add_image(r->session, p->s->images[r->added]));
        call(r, at, at + n, p->got + at * p->n_vocab);
    }
}

/* Something else at the end of sequence 0, which will be forgotten. */
static void stray(run *r)
{
    const proof *p = r->p;
    const way *w = r->w;
    sl_token ids[N_OTHER];
    for (size_t i = 0; i < N_OTHER; i++)
        ids[i] = other(p, 5 * i + 1);
    FINE(sl_session_eval(r->session, ids, N_OTHER, NULL, 0));
}

/* Pictures whose first token stands before `length`: the others are added anew. */
static size_t placed(const proof *p, size_t length)
{
    size_t n = 0;
    while (n < p->s->n_images && p->first[n] < length)
        n++;
    return n;
}

typedef struct tape { unsigned char *bytes; size_t n, at, room; } tape;

static int32_t record(const void *data, uint64_t bytes, void *user)
{
    tape *t = user;
    if (t->n + bytes > t->room)
        t->bytes = realloc(t->bytes, t->room = 2 * (t->n + (size_t)bytes));
    memcpy(t->bytes + t->n, data, (size_t)bytes);
    t->n += (size_t)bytes;
    return 0;
}

static int64_t play(void *to, uint64_t bytes, void *user)
{
    tape *t = user;
    const size_t n = t->n - t->at < bytes ? t->n - t->at : (size_t)bytes;
    memcpy(to, t->bytes + t->at, n);
    t->at += n;
    return (int64_t)n;
}

static void save_and_load(run *r)
{
    const proof *p = r->p;
    const way *w = r->w;
    tape t = { 0 };
    FINE(sl_state_write(r->session, SL_SEQ_ALL, record, &t));
    sl_session_free(r->session);
    r->session = open_session(p, w, r->n_seq);
    FINE(sl_state_read(r->session, SL_SEQ_ALL, play, &t, NULL));
    free(t.bytes);
}

/* What happens when `at` ids are computed; returns how many still are. */
static size_t live(run *r, size_t at)
{
    const proof *p = r->p;
    const way *w = r->w;
    const uint32_t life = number_of(w, WAYS_LIFE), spare = r->n_seq - 1;
    if (life == SAVED) {
        save_and_load(r);
        return at;
    }
    if (life == COPIED) {       /* away and back: pages are shared, and both go on in them */
        FINE(sl_seq_copy(r->session, 0, spare, at));
        stray(r);
        FINE(sl_seq_copy(r->session, spare, 0, at));
        FINE(sl_session_eval_batch(r->session, &(sl_token) { other(p, 2) }, &spare, NULL, 1, NULL));
    } else {
        stray(r);
        at /= 3;
        FINE(sl_session_rewind(r->session, at));
    }
    r->added = placed(p, at);
    return at;
}

/* What it says, by chance, when it is told its first words again: so there is something to look up. */
static void say(run *r)
{
    proof *p = r->p;
    const way *w = r->w;
    static const struct { const char *name; double value; } steps[] = { { "temp", 0.7 }, { "top-k", 5 } };
    sl_generate_options g = SL_GENERATE_OPTIONS_INIT;
    sl_generate_result result = { .size = sizeof result };
    sl_token ids[2 * N_ASKED];
    size_t n = 0;
    for (size_t i = 0; i < p->n && n < N_ASKED; i++)
        if (!p->is_image[i])
            ids[n++] = p->ids[i];
    memcpy(ids + n, ids, n * sizeof *ids);
    g.max_tokens = N_SAID, g.lookup = number_of(w, WAYS_LOOKUP);
    FINE(sl_sampler_create(&g.sampler, (uint32_t)p->n_vocab, 5, NULL));
    for (size_t i = 0; i < COUNT(steps); i++)
        FINE(sl_sampler_add(g.sampler, steps[i].name, &steps[i].value, 1));
    FINE(sl_generate(r->session, ids, 2 * n, &g, &result));
    const size_t length = sl_session_length(r->session), before = p->n + 2 * n;
    for (size_t i = 0; i < N_SAID; i++)
        p->said[i] = before + i < length ? sl_session_tokens(r->session)[before + i] : SL_TOKEN_NONE;
    p->n_drafts += result.n_drafts;
    sl_sampler_free(g.sampler);
}

/* ---- what really happened ---- */

/* 1 if the label of an implementation that ran ends in "/<level>". */
static int ran(const eval_proof *e, const char *level)
{
    char end[32];
    snprintf(end, sizeof end, "/%s ", level);
    return strstr(e->labels, end) != NULL;
}

static void check_labels(const proof *p, const way *w, const eval_proof *e)
{
    char label[64];
    if (!(p->s->arith && !strcmp(p->s->arith, "bf16")) != !strstr(e->labels, "/b16/"))
        fail_msg("%s: products of another arithmetic ran:%s", describe(p, w), e->labels);
    snprintf(label, sizeof label, " attention/%s/", p->s->cache);
    if (!strstr(e->labels, label))
        fail_msg("%s: no%s ran:%s", describe(p, w), label, e->labels);
    for (size_t i = 0; p->s->ran[i] && number_of(w, WAYS_LIFE) != SAVED; i++) {       /* pictures are not encoded by the session that is loaded */
        snprintf(label, sizeof label, " %s", p->s->ran[i]);
        if (!strstr(e->labels, label))
            fail_msg("%s: no%s ran:%s", describe(p, w), label, e->labels);
    }
    if (!w->at[WAYS_LEVEL])
        return;
    if (p->s->every_level && !ran(e, level_of(w)) && !(w->at[WAYS_LEVEL] == 1 && ran(e, "scalar-fma")))
        fail_msg("%s: nothing of that level ran:%s", describe(p, w), e->labels);
    for (uint32_t i = w->at[WAYS_LEVEL]; eval_levels[i]; i++)
        if (ran(e, eval_levels[i]))
            fail_msg("%s: %s ran", describe(p, w), eval_levels[i]);
}

static void check(proof *p, const run *r, const eval_proof *e)
{
    const way *w = r->w;
    const size_t batch = number_of(w, WAYS_BATCH);
    check_labels(p, w, e);
    if (!is_base(w, WAYS_LIFE))
        return;
    if (e->n_tokens != r->n_tokens || (is_base(w, WAYS_CALL) && e->n_passes != (r->n_tokens + batch - 1) / batch))
        fail_msg("%s: %llu passes over %llu tokens", describe(p, w), (unsigned long long)e->n_passes, (unsigned long long)e->n_tokens);
    if (e->n_threads != number_of(w, WAYS_THREADS))
        fail_msg("%s: %llu threads worked", describe(p, w), (unsigned long long)e->n_threads);
    if (!is_base(w, WAYS_LEVEL) || !is_base(w, WAYS_BATCH) || !is_base(w, WAYS_BESIDE) || !is_base(w, WAYS_THREADS))      /* which want scratch of their own */
        return;
    if (!p->base_bytes)
        p->base_bytes = e->compute_bytes;
    if (is_base(w, WAYS_DEVICES) != (e->compute_bytes == p->base_bytes))
        fail_msg("%s: an arena of %llu bytes", describe(p, w), (unsigned long long)e->compute_bytes);
}

/* ---- ways ---- */

/* Fills p->got and p->said. 0 if the machine lacks the level. */
static int compute(proof *p, const way *w)
{
    if (!load(p, w))
        return 0;
    run r = { .p = p, .w = w, .n_seq = 1 + number_of(w, WAYS_BESIDE) + (number_of(w, WAYS_LIFE) == COPIED) };
    eval_proof e;
    r.session = open_session(p, w, r.n_seq);
    memset(p->got, 0xff, p->n * p->n_vocab * sizeof *p->got);
    if (is_base(w, WAYS_LIFE))
        go(&r, 0, p->n);
    else {
        const size_t turn = 2 * p->n / 3;
        go(&r, 0, turn);
        go(&r, live(&r, turn), p->n);
    }
    eval_prove(r.session, &e);
    check(p, &r, &e);
    say(&r);
    sl_session_free(r.session);
    return 1;
}

static int same(proof *p, const way *w)
{
    if (!compute(p, w)) {
        print_message("%s: not on this machine\n", describe(p, w));
        return 0;
    }
    for (size_t i = 0; i < p->n * p->n_vocab; i++)
        if (memcmp(p->expected + i, p->got + i, sizeof *p->got))
            fail_msg("%s: position %zu, token %zu: %a, base %a", describe(p, w), i / p->n_vocab, i % p->n_vocab, (double)p->got[i], (double)p->expected[i]);
    if (memcmp(p->said, p->expected_said, sizeof p->said))
        fail_msg("%s: other text", describe(p, w));
    return 1;
}

/* The last value of `life` is left out where there is no such state, that of `devices` where there is no second layer. */
static uint32_t values_here(const proof *p, int a) { return n_values(a) - ((a == WAYS_LIFE && p->unsaved) || (a == WAYS_DEVICES && p->info.n_layer < 2)); }

static way at_random(const proof *p, uint64_t *state)
{
    way w = { { 0 } };
    for (int a = 0; a < WAYS_AXES; a++)
        w.at[a] = (uint32_t)random_below(state, values_here(p, a));
    return w;
}

/* The subject's ids with those of its pictures, from random numbers; a file of a model in memory, for packed weights beside it. */
static void prepare(proof *p)
{
    const ways_subject *s = p->s;
    const way base = { { 0 } }, *w = &base;
    uint64_t state = s->seed + 11;
    size_t n_of[WAYS_IMAGES] = { 0 }, image = 0, spelled = 0;
    snprintf(p->kept, sizeof p->kept, "/tmp/spacellama-ways-XXXXXX");
    const int fd = mkstemp(p->kept);
    assert_true(fd >= 0);
    for (size_t at = 0; !s->path && at < s->size;) {
        const ssize_t n = write(fd, (const char *)s->data + at, s->size - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    close(fd);
    snprintf(p->packed, sizeof p->packed, "%s.packed", p->kept);
    assert_true(load(p, w));
    p->n = s->n, p->n_vocab = p->info.n_vocab;
    for (size_t i = 0; i < s->n_images; i++) {
        (void)sl_image_encode(p->model, s->images[i], NULL, 0, &n_of[i]);
        p->n += n_of[i];
        p->unsaved |= n_of[i] > 1;
    }
    p->ids = malloc(p->n * sizeof *p->ids);
    p->is_image = calloc(p->n, 1);
    for (size_t i = 0; i < p->n;) {
        if (image == s->n_images || i - spelled < s->at[image]) {
            p->ids[i++] = (sl_token)random_below(&state, n_text(p));
            continue;
        }
        size_t n;
        FINE(sl_image_encode(p->model, s->images[image], p->ids + i, n_of[image], &n));
        memset(p->is_image + i, 1, n);
        for (p->first[image] = i; p->ids[p->first[image]] != p->info.image_token;)
            p->first[image]++;
        i += n, spelled += n, image++;
    }
    p->expected = malloc(p->n * p->n_vocab * sizeof *p->expected);
    p->got = malloc(p->n * p->n_vocab * sizeof *p->got);
}

static void clean(proof *p)
{
    sl_model_free(p->model);
    remove(p->packed), remove(p->kept);
    free(p->ids), free(p->is_image), free(p->expected), free(p->got);
}

uint64_t ways_prove(const ways_subject *s, size_t n_random)
{
    proof p = { .s = s, .info = { .size = sizeof p.info } };
    way w = { { 0 } };
    size_t n_same = 0;
    uint64_t state = s->seed + 7;
    prepare(&p);
    const size_t bytes = p.n * p.n_vocab * sizeof(float);
    compute(&p, &w);
    memcpy(p.expected, p.got, bytes);
    memcpy(p.expected_said, p.said, sizeof p.said);
    for (int a = 0; a < WAYS_AXES; a++)
        for (uint32_t v = 1; v < values_here(&p, a); v++) {
            w = (way) { { 0 } };
            w.at[a] = v;
            n_same += (size_t)same(&p, &w);
        }
    for (size_t i = 0; i < n_random;) {
        w = at_random(&p, &state);
        const int here = same(&p, &w);
        i += (size_t)here, n_same += (size_t)here;
    }
    const uint64_t hash = eval_hash(p.expected, bytes);
    print_message("%s, %s, cache %s: %zu ways, the same %zu bytes, %llu drafts, hash %016llx\n", s->name, s->arith ? s->arith : "f32", s->cache, n_same, bytes, (unsigned long long)p.n_drafts,
                  (unsigned long long)hash);
    clean(&p);
    return hash;
}
