/* SPDX-License-Identifier: MIT */
/* tokenizer_threads.c - one vocabulary, many threads: each gets what it gets alone. */
#include <pthread.h>
#include "check.h"
#include "random.h"
#include "vocab_build.h"

#define N(array) (sizeof array / sizeof *array)

static const vocab_extra extras[] = { { "<|bos|>", SL_TOKEN_CONTROL }, { "<|eot_id|>", 1 }, { "<u>", SL_TOKEN_USER_DEFINED }, { "ab", 1 } };
static const char *const merges[] = { "a b", "\xc3\xa4\xc2\xb8 \xc5\x83", "\xc3\xa4 \xc2\xb8", "\xc3\xa4\xc2\xb8\xc5\x83 \xc3\xa4\xc2\xb8\xc5\x83" };

typedef struct job { const sl_vocab *vocab; uint64_t seed, digest; } job;

static void *encode_a_lot(void *arg)
{
    job *j = arg;
    uint64_t seed = j->seed;
    for (int round = 0; round < 300; round++) {
        char text[200];
        sl_token ids[200];
        size_t n, length = random_below(&seed, sizeof text);
        for (size_t i = 0; i < length; i++)
            text[i] = "ab <u\xe4\xb8\xad|>\n"[random_below(&seed, 11)];
        if (sl_vocab_encode(j->vocab, text, length, round & 3, ids, 200, &n) != SL_OK)
            return arg;
        for (size_t i = 0; i < n; i++)
            j->digest = (j->digest ^ (uint64_t)ids[i]) * 0x100000001b3u;
    }
    return NULL;
}

static void serves_many_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "llama-bpe", NULL, extras, N(extras), merges, N(merges)), SL_OK);
    pthread_t threads[THREADS];
    job jobs[THREADS];
    for (uint64_t t = 0; t < THREADS; t++) {
        jobs[t] = (job) { v.vocab, t, 0 };
        assert_int_equal(pthread_create(&threads[t], NULL, encode_a_lot, &jobs[t]), 0);
    }
    for (uint64_t t = 0; t < THREADS; t++) {
        void *failed;
        pthread_join(threads[t], &failed);
        assert_null(failed);
        job alone = { v.vocab, t, 0 };
        assert_null(encode_a_lot(&alone));
        assert_true(alone.digest == jobs[t].digest);
    }
    vocab_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
