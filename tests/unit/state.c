/* SPDX-License-Identifier: MIT */
/* state.c - what stands in a state behind right checksums is checked, too: ids that the model does not have, image tokens without their pictures and pictures without their
 * tokens, a shift behind the end; and states of earlier versions are read. How states go on: tests/api/state.c; any bytes: tests/fuzz/state.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "checksum.h"
#include "mllama_build.h"
#include "state.h"
#include "tiny.h"

enum { N_VOCAB = 24, MOST_BYTES = 1 << 16, HEAD = sizeof(sl_state_head) + 4, TOKENS = HEAD + sizeof(sl_state_sequence), N_TOKENS = 5, ENTRIES = TOKENS + 4 * N_TOKENS + 4 };

typedef struct tape { unsigned char bytes[MOST_BYTES]; size_t n, at; } tape;

static int32_t put(const void *data, uint64_t bytes, void *user)
{
    tape *t = user;
    assert_true(bytes <= MOST_BYTES - t->n);
    memcpy(t->bytes + t->n, data, bytes);
    t->n += bytes;
    return 0;
}

static int64_t get(void *to, uint64_t bytes, void *user)
{
    tape *t = user;
    bytes = bytes < t->n - t->at ? bytes : t->n - t->at;
    memcpy(to, t->bytes + t->at, bytes);
    t->at += bytes;
    return (int64_t)bytes;
}

static sl_session *open_session(int pictures)
{
    size_t size;
    tiny *t = pictures ? mllama_create(&(mllama_spec) { .n_layer = 2, .cross = 2, .n_vocab = N_VOCAB, .n_spare = 3 }) : tiny_create(&(tiny_shape) { .n_layer = 1 });
    unsigned char *file = tiny_write(t, &size);
    const sl_source source = source_of(file, size), *const sources[] = { &source };
    const sl_model_options o = { .size = sizeof o, .n_threads = 1 };
    const sl_session_options so = { .size = sizeof so, .n_ctx = 64 };
    sl_model *model;
    sl_session *session;
    OK(sl_model_load_sources(&model, sources, 1, &o));
    OK(sl_session_create(&session, model, &so));
    sl_model_free(model);
    tiny_free(t);
    free(file);
    return session;
}

/* Five tokens of text; with pictures the second one is an image token, and another picture waits. */
static void write_state(tape *t, sl_session *session, int pictures)
{
    const sl_token ids[N_TOKENS] = { 1, pictures ? N_VOCAB : 2, 3, 4, 5 };
    sl_image *image = mllama_picture(8, 8, 1);
    for (int i = 0; pictures && i < 2; i++)
        OK(sl_session_add_image(session, image));
    OK(sl_session_eval(session, ids, N_TOKENS, NULL, 0));
    t->n = 0;
    OK(sl_state_write(session, 0, put, t));
    sl_image_free(image);
}

/* All of it is one block. */
static void mend_checksum(tape *t)
{
    const uint32_t crc = sl_crc32c(sl_crc32c(0, t->bytes, sizeof(sl_state_head)), t->bytes + HEAD, t->n - HEAD - 4);
    memcpy(t->bytes + t->n - 4, &crc, 4);
}

static void what_is_in_it(void **state)
{
    (void)state;
    static const struct { int pictures; size_t at; uint64_t value; size_t bytes; sl_status status; const char *said; } rows[] = {
        { 0, TOKENS + 4, 2, 4, SL_OK, "" }, { 0, TOKENS + 4, N_VOCAB - 1, 4, SL_OK, "" },
        { 0, TOKENS + 4, N_VOCAB, 4, SL_ERR_RANGE, "does not have" }, { 0, TOKENS, UINT32_MAX, 4, SL_ERR_RANGE, "does not have" }, { 0, TOKENS + 16, INT32_MAX, 4, SL_ERR_RANGE, "does not have" },
        { 1, TOKENS + 4, N_VOCAB, 4, SL_OK, "" },
        { 1, TOKENS + 4, N_VOCAB + 1, 4, SL_ERR_RANGE, "does not have" },       /* the embedding has a row for it, but it is neither text nor the image token */
        { 1, TOKENS + 8, N_VOCAB, 4, SL_ERR_RANGE, "without its picture" }, { 1, TOKENS + 4, 7, 4, SL_ERR_RANGE, "no order" },
        { 1, ENTRIES, 1, 8, SL_ERR_RANGE, "no order" }, { 1, ENTRIES + 8, 2, 8, SL_ERR_RANGE, "without its picture" }, { 1, ENTRIES + 24, 3, 8, SL_ERR_RANGE, "no order" },
        { 0, TOKENS - 8, N_TOKENS, 8, SL_OK, "" }, { 0, TOKENS - 8, 2, 8, SL_OK, "" }, { 0, TOKENS - 8, N_TOKENS + 1, 8, SL_ERR_RANGE, "behind its end" }, { 0, TOKENS - 8, UINT64_MAX, 8, SL_ERR_RANGE, "behind its end" },
        { 1, ENTRIES + 32, 0, 8, SL_ERR_RANGE, "a picture of 0 keys" }, { 1, ENTRIES + 32, INT64_MAX, 8, SL_ERR_RANGE, "keys" },
    };
    sl_session *sessions[] = { open_session(0), open_session(1) };
    static tape right[2], wrong;
    for (int p = 0; p < 2; p++)
        write_state(&right[p], sessions[p], p);
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_session *session = sessions[rows[i].pictures];
        wrong = right[rows[i].pictures];
        memcpy(wrong.bytes + rows[i].at, &rows[i].value, rows[i].bytes);
        mend_checksum(&wrong);
        const sl_status status = sl_state_read(session, 0, get, &wrong, NULL);
        if (status != rows[i].status || (status != SL_OK && !strstr(sl_last_error(), rows[i].said)))
            fail_msg("row %zu: %s (%s)", i, sl_status_name(status), sl_last_error());
        assert_int_equal(sl_session_length(session), N_TOKENS);       /* as it was */
    }
    for (int p = 0; p < 2; p++)
        sl_session_free(sessions[p]);
}

/* Says how much of the first sequence, which has all tokens of the state, is reused. */
static size_t reused(sl_session *session)
{
    sl_token ids[N_TOKENS + 1] = { 0 };
    size_t n = 0;
    memcpy(ids, sl_session_tokens(session), N_TOKENS * sizeof *ids);
    OK(sl_session_keep_prefix(session, ids, N_TOKENS + 1, &n));
    return n;
}

/* Version 1 had no n_own in the record of a sequence, and what it holds may have been shifted. */
static void earlier_versions(void **state)
{
    (void)state;
    for (int pictures = 0; pictures < 2; pictures++) {
        static tape now, before;
        sl_session *session = open_session(pictures);
        sl_state_head head;
        uint32_t crc;
        write_state(&now, session, pictures);
        now.at = 0;
        OK(sl_state_read(session, 0, get, &now, NULL));
        assert_int_equal(reused(session), N_TOKENS);
        memcpy(&head, now.bytes, sizeof head);
        assert_int_equal(head.version, 2);
        head.version = 1, head.bytes -= 8;
        crc = sl_crc32c(0, &head, sizeof head);
        before = (tape) { .n = now.n - 8 };
        memcpy(before.bytes, &head, sizeof head);
        memcpy(before.bytes + sizeof head, &crc, 4);
        memcpy(before.bytes + HEAD, now.bytes + HEAD, TOKENS - 8 - HEAD);
        memcpy(before.bytes + TOKENS - 8, now.bytes + TOKENS, now.n - TOKENS);
        mend_checksum(&before);
        OK(sl_state_read(session, 0, get, &before, NULL));
        assert_int_equal(sl_session_length(session), N_TOKENS);
        assert_int_equal(reused(session), 0);
        for (uint32_t version = 0; version <= 3; version += 3) {
            head.version = version;
            crc = sl_crc32c(0, &head, sizeof head);
            memcpy(before.bytes, &head, sizeof head);
            memcpy(before.bytes + sizeof head, &crc, 4);
            before.at = 0;
            assert_int_equal(sl_state_read(session, 0, get, &before, NULL), SL_ERR_VERSION);
        }
        sl_session_free(session);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_in_it), cmocka_unit_test(earlier_versions) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
