/* SPDX-License-Identifier: MIT */
/* sampler_options.c - fuzz target: any bytes as a chain of steps with any parameters, as tokens that were accepted, and as logits. Whatever was added must then
 * choose: a token that is among the candidates and was possible, the same ones after a reset, with a known verdict in every case and nothing left behind.
 *
 * Read from the front: the size of the vocabulary, then commands of one byte each: a step with its parameters, tokens to accept, a row of logits to choose from,
 * a reset. What is not there any more reads as 0. */
#include "counting.h"
#include "sample_step.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_VOCAB = 300, MOST_CHOICES = 40, MOST_TOKENS = 64, MOST_BYTES = 4 << 20 };

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s (%s)\n", what, sl_last_error());
        abort();
    }
}

struct input { const uint8_t *at, *end; };

static uint64_t take(struct input *in, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value |= (in->at < in->end ? (uint64_t)*in->at++ : 0) << (8 * i);
    return value;
}

/* A double: mostly one that means something to a step, or all 64 bits. */
static double number(struct input *in)
{
    const uint64_t kind = take(in, 1);
    if (kind < 64)
        return (double)kind;
    if (kind < 128)
        return (double)(kind - 64) / 32.0;
    if (kind < 160)
        return (double)(int16_t)take(in, 2) / 256.0;
    if (kind < 192)
        return (double)(int32_t)take(in, 4);
    return sl_double(take(in, 8));
}

static float logit(struct input *in)
{
    const uint64_t kind = take(in, 1);
    return kind < 240 ? (float)kind / 16.0f - 8.0f : kind == 240 ? sl_float(0xff800000u) : sl_float((uint32_t)take(in, 4));
}

static int is_fine(sl_status status, const sl_status *fine, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (status == fine[i])
            return 1;
    return status == SL_OK;
}

/* Wrong ones are told; the chain is as long as before then. Without `really` the bytes are passed over. */
static void add(sl_sampler *s, struct input *in, int really)
{
    static const sl_status fine[] = { SL_ERR_NOMEM, SL_ERR_RANGE, SL_ERR_ARGUMENT, SL_ERR_LIMIT, SL_ERR_UNSUPPORTED };
    double params[MOST_TOKENS];
    size_t n_kinds = 0;
    while (sl_sampler_name(n_kinds))
        n_kinds++;
    const char *name = sl_sampler_name(take(in, 1) % (n_kinds + 1));
    const size_t n = take(in, 1) % (MOST_TOKENS + 1);
    const uint32_t before = s->n_steps;
    for (size_t i = 0; i < n; i++)
        params[i] = number(in);
    if (!really)
        return;
    const sl_status status = sl_sampler_add(s, name ? name : "none", params, n);
    require(is_fine(status, fine, sizeof fine / sizeof *fine), "a known verdict on a step");
    require(s->n_steps == before + (status == SL_OK), "a step more, or none");
}

static void accept(sl_sampler *s, struct input *in)
{
    sl_token ids[MOST_TOKENS];
    int negative = 0;
    const size_t n = take(in, 1) % (MOST_TOKENS + 1);
    for (size_t i = 0; i < n; i++) {
        const uint64_t byte = take(in, 1);
        ids[i] = byte == 255 ? (sl_token)(uint32_t)take(in, 4) : (sl_token)(byte % 16);
        negative |= ids[i] < 0;
    }
    require(sl_sampler_accept(s, ids, n) == (negative ? SL_ERR_RANGE : SL_OK), "tokens are accepted");
}

static sl_token choose(sl_sampler *s, const float *logits)
{
    static const sl_status fine[] = { SL_ERR_NONFINITE, SL_ERR_STATE };
    static sl_token ids[MOST_VOCAB];
    static float probs[MOST_VOCAB];
    sl_token id = SL_TOKEN_NONE;
    size_t n = 0, i = 0;
    const sl_status look = sl_sampler_candidates(s, logits, ids, probs, MOST_VOCAB, &n);
    const sl_status status = sl_sampler_sample(s, logits, &id);
    require(look == status && is_fine(status, fine, sizeof fine / sizeof *fine), "the same known verdict on a row");
    if (status != SL_OK)
        return SL_TOKEN_NONE;
    double sum = 0.0;
    for (size_t k = 0; k < n; k++) {
        require(probs[k] >= 0.0f && probs[k] <= 1.0f && (!k || probs[k] <= probs[k - 1]), "probabilities, most likely first");
        sum += (double)probs[k];
    }
    require(sum > 0.999 && sum < 1.001, "probabilities sum to 1");
    while (i < n && ids[i] != id)
        i++;
    require(i < n && probs[i] > 0.0f, "a choice among the candidates");
    require((uint32_t)id < s->n_vocab && logits[id] >= -0x1.fffffep127f, "a token that was possible");
    for (uint32_t k = 0; s->marks && k < s->n_vocab; k++)
        require(!s->marks[k], "marks are wiped");
    return id;
}

/* Everything but the steps, which are there already the second time. */
static size_t run(sl_sampler *s, struct input in, int with_steps, sl_token *chosen)
{
    static float logits[MOST_VOCAB];
    size_t n = 0;
    memset(logits, 0, sizeof logits);
    while (in.at < in.end && n < MOST_CHOICES) {
        const uint64_t command = take(&in, 1) % 4;
        if (command == 0)
            add(s, &in, with_steps);
        else if (command == 1)
            accept(s, &in);
        else if (command == 2) {
            for (uint32_t i = 0; i < s->n_vocab; i++)
                logits[i] = logit(&in);
            chosen[n++] = choose(s, logits);
        } else if (command == 3)
            chosen[n++] = choose(s, logits);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size };
    const uint32_t n_vocab = 1 + (uint32_t)take(&in, 2) % MOST_VOCAB;
    counting c = { .most_bytes = MOST_BYTES };
    const sl_allocator allocator = counting_allocator(&c);
    sl_token chosen[2][MOST_CHOICES];
    size_t n[2];
    sl_sampler *s;
    require(sl_sampler_create(&s, n_vocab, 1, &allocator) == SL_OK, "a sampler");
    run(s, in, 1, chosen[0]);
    for (int i = 0; i < 2; i++) {
        require(sl_sampler_reset(s, 2) == SL_OK, "a reset");
        n[i] = run(s, in, 0, chosen[i]);
    }
    require(n[0] == n[1] && memcmp(chosen[0], chosen[1], n[0] * sizeof **chosen) == 0, "the same tokens twice");
    sl_sampler_free(s);
    require(!c.live_blocks && !c.wrong, "nothing is left");
    return 0;
}
