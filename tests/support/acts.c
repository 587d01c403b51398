/* SPDX-License-Identifier: MIT */
/* acts.c - see acts.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <spacellama/spacellama.h>
#include "acts.h"
#include "check.h"
#include "scene.h"
#include "tiny.h"

/* ---- callbacks of the test, which fail too ---- */

/* user: a sl_source of the bytes in memory. */
static int64_t read_source(uint64_t offset, void *to, uint64_t n, void *user)
{
    const sl_source *from = user;
    if (fault_now(FAULT_CALLBACK))
        return -1;
    n = offset > from->length ? 0 : n < from->length - offset ? n : from->length - offset;
    memcpy(to, (const char *)from->data + offset, n);
    return (int64_t)n;
}

static sl_source through_callbacks(sl_source *from) { return (sl_source) { .size = sizeof *from, .read = read_source, .length = from->length, .user = from }; }

static int32_t put(const void *data, uint64_t n, void *user)
{
    bytes *b = user;
    if (fault_now(FAULT_CALLBACK))
        return 1;
    if (b->n + n > MOST_BYTES)
        fail_msg("%zu bytes are too many for this test", b->n + (size_t)n);
    memcpy(b->data + b->n, data, n);
    b->n += n;
    return 0;
}

static int64_t get(void *to, uint64_t n, void *user)
{
    bytes *b = user;
    if (fault_now(FAULT_CALLBACK))
        return -1;
    n = n < b->n - b->at ? n : b->n - b->at;
    memcpy(to, b->data + b->at, n);
    b->at += n;
    return (int64_t)n;
}

static int32_t shown(const char *text, size_t length, sl_token id, void *user)
{
    (void)text, (void)length, (void)id, (void)user;
    return 0;
}

/* ---- what is done while something fails; each looks at what it got ---- */

static sl_status use_model(sl_status status, sl_model *model)
{
    assert_true(!model == (status != SL_OK));
    if (status != SL_OK)
        return status;
    float logits[N_VOCAB];
    sl_session *session;
    faults_hold();
    STATUS(sl_session_create(&session, model, NULL), SL_OK);
    STATUS(sl_session_eval(session, scene_ids, N_IDS, logits, 1), SL_OK);
    assert_memory_equal(logits, s.logits, sizeof logits);
    sl_session_free(session);
    faults_release();
    sl_model_free(model);
    return SL_OK;
}

static sl_status load_path(const char *path, const char *cache, uint32_t in_place)
{
    sl_model_options o = scene_options();
    sl_model *model = NULL;
    o.weight_cache = cache, o.in_place = in_place;
    const sl_status status = sl_model_load(&model, path, &o);
    return use_model(status, model);
}

static sl_status load_source(const sl_source *source)
{
    sl_model_options o = scene_options();
    sl_model *model = NULL;
    const sl_status status = sl_model_load_sources(&model, &source, 1, &o);
    return use_model(status, model);
}

static sl_status do_load(void) { return load_path(s.paths[WHOLE], NULL, 0); }
static sl_status do_load_mapped(void) { return load_path(s.paths[WHOLE], NULL, 1); }
static sl_status do_load_split(void) { return load_path(s.paths[SPLIT], NULL, 0); }
static sl_status do_load_cached(void) { return load_path(s.paths[WHOLE], s.paths[CACHE], 0); }

static sl_status do_load_memory(void)
{
    const sl_source source = source_of(s.file, s.file_size);
    return load_source(&source);
}

static sl_status do_load_callbacks(void)
{
    sl_source from = source_of(s.file, s.file_size);
    const sl_source source = through_callbacks(&from);
    return load_source(&source);
}

static sl_status do_load_caching(void)
{
    (void)unlink(s.paths[CACHE]);
    return load_path(s.paths[WHOLE], s.paths[CACHE], 0);
}

static sl_status do_load_projector(void)
{
    sl_model_options o = scene_options();
    sl_model *model = NULL;
    o.projector = s.paths[PROJECTOR];
    const sl_status status = sl_model_load(&model, s.paths[TEXT], &o);
    assert_true(!model == (status != SL_OK));
    sl_model_free(model);
    return status;
}

static sl_status do_estimate(void)
{
    sl_model_options o = scene_options();
    sl_memory need = { .size = sizeof need };
    const sl_status status = sl_model_estimate(s.paths[WHOLE], &o, NULL, &need);
    if (status == SL_OK)
        assert_memory_equal(&need, &s.need, sizeof need);
    return status;
}

static sl_status do_session(void)
{
    const sl_session_options o = { .size = sizeof o, .n_seq = N_SEQ, .n_ctx = 192 };
    sl_session *session = NULL;
    const sl_status status = sl_session_create(&session, s.model, &o);
    assert_true(!session == (status != SL_OK));
    sl_session_free(session);
    return status;
}

static sl_status do_eval(void)
{
    float logits[N_VOCAB];
    const sl_status status = sl_session_eval(s.session, scene_ids, N_IDS, logits, 1);
    if (status == SL_OK)
        assert_memory_equal(logits, s.logits, sizeof logits);
    STATUS(sl_session_rewind(s.session, 0), SL_OK);
    return status;
}

/* A prefix that is shared, and written to by three sequences at once. */
static sl_status do_sequences(void)
{
    const uint32_t seqs[N_BATCH] = { 2, 0, 1, 1, 2, 0 };
    const uint8_t wanted[N_BATCH] = { 1, 1, 1, 1, 1, 1 };
    const sl_token more[N_BATCH] = { 5, 6, 7, 8, 9, 10 };
    float rows[N_BATCH][N_VOCAB];
    sl_status status = sl_seq_copy(s.timelines, 0, 1, N_PREFIX - 3);
    if (status == SL_OK)
        status = sl_seq_copy(s.timelines, 0, 2, N_PREFIX);
    if (status == SL_OK)
        status = sl_session_eval_batch(s.timelines, more, seqs, wanted, N_BATCH, rows[0]);
    if (status == SL_OK)
        assert_memory_equal(rows, s.batch, sizeof rows);
    STATUS(sl_seq_keep(s.timelines, 0), SL_OK);
    STATUS(sl_seq_rewind(s.timelines, 0, N_PREFIX), SL_OK);
    return status;
}

static sl_status do_generate(void)
{
    static const char *const stops[] = { "never", "nowhere" };
    const sl_generate_options o = { .size = sizeof o, .max_tokens = N_MADE, .sampler = s.sampler, .stop = stops, .n_stop = 2, .on_text = shown, .lookup = 2 };
    STATUS(sl_sampler_reset(s.sampler, 1), SL_OK);
    const sl_status status = sl_generate(s.session, scene_ids, N_IDS, &o, NULL);
    if (status == SL_OK)
        assert_memory_equal(sl_session_tokens(s.session) + N_IDS, s.made, sizeof s.made);
    else
        assert_int_equal(sl_session_length(s.session), 0);
    STATUS(sl_session_rewind(s.session, 0), SL_OK);
    return status;
}

static sl_status use_image(sl_status status, sl_image *image, const uint8_t *pixels)
{
    assert_true(!image == (status != SL_OK));
    if (status == SL_OK) {
        assert_int_equal(sl_image_width(image), WIDTH);
        assert_int_equal(sl_image_height(image), HEIGHT);
        assert_memory_equal(sl_image_pixels(image), pixels, 3 * WIDTH * HEIGHT);
    }
    sl_image_free(image);
    return status;
}

static sl_status decode(int which)
{
    sl_image *image = NULL;
    const sl_status status = sl_image_decode(&image, s.encoded[which].data, s.encoded[which].size, &s.allocator);
    return use_image(status, image, s.decoded[which]);
}

static sl_status do_png(void) { return decode(0); }
#if SL_WITH_IMAGE_JPEG
static sl_status do_jpeg(void) { return decode(1); }
#endif
#if SL_WITH_IMAGE_WEBP
static sl_status do_webp(void) { return decode(2); }
#endif

static sl_status do_image_file(void)
{
    sl_image *image = NULL;
    const sl_status status = sl_image_load(&image, s.paths[PICTURE_FILE], &s.allocator);
    return use_image(status, image, s.pixels);
}

/* Two pictures, the second of which makes the memory of the first grow, and what the text says of them. */
static sl_status do_pictures(void)
{
    const sl_session_options o = { .size = sizeof o, .n_ctx = 32 };
    float logits[N_SEEN];
    sl_session *session = NULL;
    sl_status status = sl_session_create(&session, s.seeing, &o);
    for (size_t i = 0; i < 2 && status == SL_OK; i++) {
        status = sl_session_add_image(session, s.image);
        assert_int_equal(sl_session_images(session), i + (status == SL_OK));
    }
    if (status == SL_OK)
        status = sl_session_eval(session, scene_pictured, N_PICTURED, logits, 1);
    if (status == SL_OK)
        assert_memory_equal(logits, s.picture, sizeof logits);
    sl_session_free(session);
    return status;
}

/* A sequence of the reader goes on as the one that was saved. */
static void goes_on(uint32_t seq)
{
    float logits[N_VOCAB];
    faults_hold();
    assert_int_equal(sl_seq_length(s.reader, seq), N_PREFIX);
    assert_memory_equal(sl_seq_tokens(s.reader, seq), sl_seq_tokens(s.timelines, 0), N_PREFIX * sizeof(sl_token));
    STATUS(sl_session_eval_batch(s.reader, (const sl_token[]) { 5 }, &seq, (const uint8_t[]) { 1 }, 1, logits), SL_OK);
    assert_memory_equal(logits, s.batch[0], sizeof logits);
    STATUS(sl_seq_rewind(s.reader, seq, 0), SL_OK);
    faults_release();
}

/* Whatever is there is a whole state: the one before, of N_IDS - 1 tokens, or the new one of N_PREFIX. */
static void check_file(size_t length)
{
    sl_state_info info = { .size = sizeof info };
    faults_hold();
    STATUS(sl_state_load(s.reader, 1, s.paths[STATE], &info), SL_OK);
    const size_t n = sl_seq_length(s.reader, 1);
    if (length ? n != length : n != N_PREFIX && n != N_IDS - 1)
        fail_msg("a state of %zu tokens", n);
    if (n == N_PREFIX)
        goes_on(1);
    faults_release();
}

/* Two states under one name: the last one, and the one before. */
static void make_states(void)
{
    faults_hold();
    (void)unlink(s.paths[STATE]), (void)unlink(s.paths[OLD]);
    STATUS(sl_session_eval(s.session, scene_ids, N_IDS - 1, NULL, 0), SL_OK);
    STATUS(sl_state_save(s.session, 0, s.paths[STATE]), SL_OK);
    STATUS(sl_session_rewind(s.session, 0), SL_OK);
    faults_release();
}

static sl_status do_save(void)
{
    make_states();
    const sl_status status = sl_state_save(s.timelines, 0, s.paths[STATE]);
    check_file(status == SL_OK ? N_PREFIX : 0);
    return status;
}

static sl_status do_load_state(void)
{
    sl_state_info info = { .size = sizeof info };
    faults_hold();
    STATUS(sl_seq_rewind(s.reader, 1, 0), SL_OK);
    make_states();
    STATUS(sl_state_save(s.timelines, 0, s.paths[STATE]), SL_OK);
    faults_release();
    const sl_status status = sl_state_load(s.reader, 1, s.paths[STATE], &info);
    assert_int_equal(sl_seq_length(s.reader, 1), status != SL_OK ? 0 : info.older ? N_IDS - 1 : N_PREFIX);
    if (status == SL_OK && !info.older)
        goes_on(1);
    return status;
}

static sl_status do_write_state(void)
{
    static unsigned char room[MOST_BYTES];
    bytes b = { room, 0, 0 };
    const sl_status status = sl_state_write(s.timelines, SL_SEQ_ALL, put, &b);
    if (status == SL_OK) {
        faults_hold();
        STATUS(sl_state_read(s.reader, SL_SEQ_ALL, get, &b, NULL), SL_OK);
        goes_on(0);
        faults_release();
    }
    return status;
}

static sl_status do_read_state(void)
{
    s.state.at = 0;
    const sl_status status = sl_state_read(s.reader, SL_SEQ_ALL, get, &s.state, NULL);
    if (status == SL_OK)
        goes_on(0);
    assert_int_equal(sl_seq_length(s.reader, 0), 0);
    return status;
}

static sl_quantize_options quantizing(void)
{
    const sl_quantize_options o = { .size = sizeof o, .n_threads = 2, .allocator = &s.allocator, .progress = scene_go_on };
    return o;
}

static int32_t put_some(const void *data, uint64_t n, void *user) { return put(data, n, user); }

static sl_status do_quantize(void)
{
    static unsigned char room[MOST_BYTES];
    const sl_quantize_options o = quantizing();
    sl_source from = source_of(s.large, s.large_size);
    const sl_source source = through_callbacks(&from), *const sources[] = { &source };
    bytes b = { room, 0, 0 };
    const sl_status status = sl_quantize_sources(sources, 1, put_some, &b, "Q4_K_M", &o, NULL);
    if (status == SL_OK) {
        assert_int_equal(b.n, s.quantized.n);
        assert_memory_equal(b.data, s.quantized.data, b.n);
    }
    return status;
}

/* What has the name is whole: what was there, or the new file. */
static sl_status do_quantize_files(void)
{
    static unsigned char room[MOST_BYTES];
    const sl_quantize_options o = quantizing();
    faults_hold();
    tiny_save(s.paths[OUT], (const unsigned char *)"old", 3);
    faults_release();
    const sl_status status = sl_quantize(s.paths[LARGE], s.paths[OUT], "q4_k_m", &o, NULL);
    faults_hold();
    FILE *f = fopen(s.paths[OUT], "rb");
    const size_t n = fread(room, 1, sizeof room, f);
    fclose(f);
    faults_release();
    const int done = n == s.quantized.n && !memcmp(room, s.quantized.data, n);
    assert_true(done || (status != SL_OK && n == 3 && !memcmp(room, "old", 3)));
    return status;
}

/* Counted by a session of its own: what is counted takes its memory while something is computed. */
static sl_status do_importance(void)
{
    static unsigned char room[MOST_BYTES];
    bytes b = { room, 0, 0 };
    sl_session *session;
    sl_importance *importance = NULL;
    faults_hold();
    STATUS(sl_session_create(&session, s.model, NULL), SL_OK);
    faults_release();
    sl_status status = sl_importance_create(&importance, session, "acts");
    assert_true(!importance == (status != SL_OK));
    if (status == SL_OK)
        status = sl_session_eval(session, scene_ids, N_IDS, NULL, 0);
    if (status == SL_OK)
        status = sl_importance_write(importance, put_some, &b);
    if (status == SL_OK)
        status = sl_importance_save(importance, s.paths[OUT]);
    if (status == SL_OK && !s.counted.n) {
        memcpy(s.counted.data, b.data, b.n);
        s.counted.n = b.n;
    }
    if (status == SL_OK) {
        assert_int_equal(b.n, s.counted.n);
        assert_memory_equal(b.data, s.counted.data, b.n);
    }
    sl_importance_free(importance);
    sl_session_free(session);
    return status;
}

static sl_status say(sl_token *out, size_t *n)
{
    static const char text[] = "the zebra is zig and zag";
    const sl_chat_part part = { .size = sizeof part, .text = text, .length = sizeof text - 1 };
    const sl_chat_message messages[] = { { sizeof *messages, "system", &part, 1 }, { sizeof *messages, "user", &part, 1 }, { sizeof *messages, "assistant", &part, 1 }, { sizeof *messages, "user", &part, 1 } };
    const sl_chat_options o = { .size = sizeof o, .format = "llama2" };
    return sl_chat_encode(s.model, messages, COUNT(messages), &o, out, MOST_IDS, n);
}

static sl_status do_chat(void)
{
    sl_token out[MOST_IDS];
    size_t n;
    const sl_status status = say(out, &n);
    if (status == SL_OK) {
        assert_int_equal(n, s.n_said);
        assert_memory_equal(out, s.said, n * sizeof *out);
    }
    return status;
}

static sl_status do_encode(void)
{
    static const char text[] = "the zebra is zig and zag \xff\xfe caf\xc3\xa9 <s> abc abc abc";
    sl_token out[MOST_IDS];
    size_t n;
    return sl_encode(s.model, text, sizeof text, SL_ENCODE_ADD_SPECIAL | SL_ENCODE_PARSE_SPECIAL, out, MOST_IDS, &n);
}

static sl_status do_decode(void)
{
    char text[128];
    size_t length;
    return sl_decode(s.model, scene_ids, N_IDS, SL_DECODE_SPECIAL, text, sizeof text, &length);
}

static sl_status do_decoder(void)
{
    sl_decoder *decoder = NULL;
    const char *text;
    size_t length;
    sl_status status = sl_decoder_create(&decoder, s.model, 0, 1);
    for (size_t i = 0; i < N_IDS && status == SL_OK; i++)
        status = sl_decoder_push(decoder, scene_ids[i], &text, &length);
    if (status == SL_OK)
        status = sl_decoder_flush(decoder, &text, &length);
    sl_decoder_free(decoder);
    return status;
}

static sl_status do_sampler(void)
{
    sl_sampler *sampler = NULL;
    const double k = 7, p = 0.9, t = 0.8;
    sl_token id, out[N_VOCAB];
    float probs[N_VOCAB];
    size_t n;
    sl_status status = sl_sampler_create(&sampler, N_VOCAB, 3, &s.allocator);
    assert_true(!sampler == (status != SL_OK));
    for (int i = 0; i < 12 && status == SL_OK; i++)      /* more steps than there is room for at first */
        status = sl_sampler_add(sampler, i % 3 == 0 ? "temp" : i % 3 == 1 ? "top-k" : "top-p", i % 3 == 0 ? &t : i % 3 == 1 ? &k : &p, 1);
    for (size_t i = 0; status == SL_OK && sl_sampler_name(i); i++)
        status = sl_sampler_add(sampler, sl_sampler_name(i), NULL, 0);
    if (status == SL_OK)
        status = sl_sampler_add_breaker(sampler, s.model, "z", 1);
    if (status == SL_OK)
        status = sl_sampler_sample(sampler, s.logits, &id);
    if (status == SL_OK)
        status = sl_sampler_candidates(sampler, s.logits, out, probs, N_VOCAB, &n);
    sl_sampler_free(sampler);
    return status;
}

/* ---- the table ---- */

/* What an act has another way for: a load without its cache of weights loads all the same, a state that cannot be read is the one before, or no state. */
enum { NOTHING = 0, ALL = -1, THREADS = 1 << FAULT_THREAD | 1 << FAULT_MEMORY, EARLIER = 1 << FAULT_OPEN | 1 << FAULT_READ | 1 << FAULT_END };
const act acts[] = {
    { "load", do_load, NOTHING }, { "load, mapped", do_load_mapped, NOTHING }, { "load, split", do_load_split, NOTHING }, { "load, from memory", do_load_memory, NOTHING },
    { "load, from callbacks", do_load_callbacks, NOTHING }, { "load, writing the weight cache", do_load_caching, ALL }, { "load, with the weight cache", do_load_cached, ALL },
    { "load, with a projector", do_load_projector, NOTHING }, { "estimate", do_estimate, NOTHING },
    { "open a session", do_session, NOTHING }, { "eval", do_eval, NOTHING }, { "sequences", do_sequences, NOTHING }, { "generate", do_generate, NOTHING },
    { "decode a png", do_png, NOTHING },
#if SL_WITH_IMAGE_JPEG
    { "decode a jpeg", do_jpeg, NOTHING },
#endif
#if SL_WITH_IMAGE_WEBP
    { "decode a webp", do_webp, NOTHING },
#endif
    { "load a picture", do_image_file, NOTHING }, { "pictures", do_pictures, NOTHING },
    { "save a state", do_save, EARLIER }, { "load a state", do_load_state, EARLIER }, { "write a state", do_write_state, NOTHING }, { "read a state", do_read_state, NOTHING },
    { "quantize", do_quantize, THREADS }, { "quantize files", do_quantize_files, THREADS }, { "importance", do_importance, NOTHING },
    { "chat", do_chat, NOTHING }, { "encode", do_encode, NOTHING }, { "decode", do_decode, NOTHING }, { "decoder", do_decoder, NOTHING }, { "sampler", do_sampler, NOTHING },
    { NULL, NULL, 0 },
    { NULL, NULL, 0 },
};

void acts_make_tokens(int n)
{
    float logits[N_VOCAB];
    sl_token id = 1;
    for (int i = 0; i < n; i++) {
        STATUS(sl_session_eval(s.session, &id, 1, logits, 1), SL_OK);
        STATUS(sl_sampler_sample(s.sampler, logits, &id), SL_OK);
    }
    STATUS(sl_session_rewind(s.session, 0), SL_OK);
}

/* ---- the scene ---- */

/* What every call gives: from other sessions than those that it will be tried on, where that can be. */
static void expect_all(void)
{
    sl_session *session;
    sl_token prefix[N_PREFIX];
    for (size_t i = 0; i < N_PREFIX; i++)
        prefix[i] = (sl_token)(i * 37 % N_VOCAB);
    STATUS(sl_session_create(&session, s.model, NULL), SL_OK);
    STATUS(sl_session_eval(session, scene_ids, N_IDS, s.logits, 1), SL_OK);
    STATUS(sl_session_rewind(session, 0), SL_OK);
    const struct { sl_token id; size_t length, row; } rows[] = { { 5, N_PREFIX, 0 }, { 9, N_PREFIX + 1, 4 }, { 6, N_PREFIX, 1 }, { 10, N_PREFIX + 1, 5 }, { 7, N_PREFIX - 3, 2 }, { 8, N_PREFIX - 2, 3 } };
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (i % 2 == 0) {
            STATUS(sl_session_rewind(session, 0), SL_OK);
            STATUS(sl_session_eval(session, prefix, rows[i].length, NULL, 0), SL_OK);
        }
        STATUS(sl_session_eval(session, &rows[i].id, 1, s.batch[rows[i].row], 1), SL_OK);
    }
    sl_session_free(session);
    STATUS(sl_session_eval(s.timelines, prefix, N_PREFIX, NULL, 0), SL_OK);
    const sl_generate_options g = { .size = sizeof g, .max_tokens = N_MADE, .sampler = s.sampler };
    STATUS(sl_generate(s.session, scene_ids, N_IDS, &g, NULL), SL_OK);
    memcpy(s.made, sl_session_tokens(s.session) + N_IDS, sizeof s.made);
    STATUS(sl_session_rewind(s.session, 0), SL_OK);
    STATUS(sl_session_create(&session, s.seeing, NULL), SL_OK);
    for (size_t i = 0; i < N_PICTURED; i++) {       /* token by token, and the pictures as they come up */
        if (scene_pictured[i] == N_SEEN)
            STATUS(sl_session_add_image(session, s.image), SL_OK);
        STATUS(sl_session_eval(session, &scene_pictured[i], 1, s.picture, 1), SL_OK);
    }
    sl_session_free(session);
    s.state.data = malloc(MOST_BYTES);
    STATUS(sl_state_write(s.timelines, SL_SEQ_ALL, put, &s.state), SL_OK);
    s.quantized.data = malloc(MOST_BYTES);
    s.counted.data = malloc(MOST_BYTES);
    STATUS(do_importance(), SL_OK);
    const sl_quantize_options q = { .size = sizeof q, .n_threads = 1 };
    const sl_source source = source_of(s.large, s.large_size), *const sources[] = { &source };
    STATUS(sl_quantize_sources(sources, 1, put_some, &s.quantized, "Q4_K_M", &q, NULL), SL_OK);
    const sl_model_options o = scene_options();
    s.need.size = sizeof s.need;
    STATUS(sl_model_estimate(s.paths[WHOLE], &o, NULL, &s.need), SL_OK);
    STATUS(say(s.said, &s.n_said), SL_OK);
    for (size_t i = 0; i < COUNT(s.encoded); i++) {
        sl_image *image;
        if (!s.encoded[i].size)
            continue;
        STATUS(sl_image_decode(&image, s.encoded[i].data, s.encoded[i].size, NULL), SL_OK);
        memcpy(s.decoded[i], sl_image_pixels(image), sizeof s.decoded[i]);
        sl_image_free(image);
    }
}

int acts_prepare(void **state)
{
    (void)state;
    if (!scene_open())
        return 1;
    expect_all();
    faults_folder(s.folder);
    return 0;
}

int acts_clean(void **state)
{
    (void)state;
    const int removed = scene_close();
    const stock left = faults_stock();
    return left.blocks != 0 || left.wrong || !removed;
}
