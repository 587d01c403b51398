/* SPDX-License-Identifier: MIT */
/* sample_breaker.c - where repetitions end: the tokens of a vocabulary that hold a text. */
#include "model.h"
#include "sample_step.h"

static int holds(const char *bytes, size_t n_bytes, const char *text, size_t length)
{
    for (size_t at = 0; at + length <= n_bytes; at++)
        if (memcmp(bytes + at, text, length) == 0)
            return 1;
    return 0;
}

/* Sets breakers[id] to 1 for tokens that hold the text; ids beyond n are passed over. */
static sl_status find(uint8_t *breakers, uint32_t n, const sl_vocab *vocab, char *piece, const char *text, size_t length, uint32_t *n_found)
{
    const uint32_t count = sl_vocab_count(vocab) < n ? sl_vocab_count(vocab) : n;
    for (uint32_t i = 0; i < count; i++) {
        const sl_token id = (sl_token)i;
        size_t n_bytes;
        SL_TRY(sl_vocab_decode(vocab, &id, 1, SL_DECODE_SPECIAL | SL_DECODE_KEEP_SPACE, piece, SL_LIMIT_TOKEN_BYTES, &n_bytes));
        if (holds(piece, n_bytes, text, length)) {
            breakers[i] = 1;
            ++*n_found;
        }
    }
    return SL_OK;
}

sl_status sl_sampler_add_breaker(sl_sampler *sampler, const sl_model *model, const char *text, size_t length)
{
    if (!sampler || !model || !text || !length)
        return sl_fail(SL_ERR_ARGUMENT, "sampler: %s", sampler && model && text ? "an empty breaker" : "NULL");
    if (!model->vocab)
        return sl_fail(SL_ERR_STATE, "sampler: the model has no vocabulary");
    uint8_t *breakers = sl_mem_alloc(&sampler->mem, sampler->n_vocab, 1);
    char *piece = sl_mem_alloc(&sampler->mem, SL_LIMIT_TOKEN_BYTES, 1);
    sl_status status = breakers && piece ? SL_OK : SL_ERR_NOMEM;
    uint32_t n_found = 0;
    if (status == SL_OK && sampler->breakers)
        memcpy(breakers, sampler->breakers, sampler->n_vocab);
    if (status == SL_OK)
        status = find(breakers, sampler->n_vocab, model->vocab, piece, text, length, &n_found);
    if (status == SL_OK && !n_found) {
        char quoted[SL_QUOTE_BYTES];
        status = sl_fail(SL_ERR_MISSING, "sampler: no token holds \"%s\"", sl_quote(quoted, text, length));
    }
    sl_mem_free(&sampler->mem, piece);
    if (status != SL_OK) {
        sl_mem_free(&sampler->mem, breakers);
        return status;
    }
    sl_mem_free(&sampler->mem, sampler->breakers);
    sampler->breakers = breakers;
    return SL_OK;
}
