/* SPDX-License-Identifier: MIT */
/* generate.c - from prompt to text: the loop of choosing, showing and computing tokens, and the search for stop strings in what is shown.
 *
 * Stop strings are found byte by byte with one Knuth-Morris-Pratt automaton each. The longest part of a stop string that the text ends with
 * is what may still become one: that much is held back, no more. Everything that takes memory happens before the session changes. */
#include "lookup.h"
#include "params.h"
#include "platform.h"
#include "sample.h"
#include "session.h"
#include "unicode.h"
#include <spacellama/generate.h>

#include <string.h>

enum { MAX_STOPS = 64, MAX_LOOKUP = 64 };
#define UNFINISHED UINT32_MAX

/* What a decoder returns at once: a token's bytes and the rest of an earlier one, each perhaps as U+FFFD. */
#define PIECE_BYTES (3 * ((size_t)SL_LIMIT_TOKEN_BYTES + 4))

struct stop {
    const char *text;
    size_t length;
    size_t matched;         /* the text so far ends with this many bytes of it */
    uint32_t *fallback;     /* [length] longest proper prefix of it that its first i + 1 bytes end with */
};

struct run {
    sl_mem mem;
    sl_session *session;
    sl_model *model;
    sl_generate_options options;
    float *logits;          /* [n_vocab, 1 + lookup] */
    uint32_t n_vocab;
    size_t length;          /* of the timeline, drafts that were not chosen yet not counted */
    sl_token drafts[MAX_LOOKUP];
    size_t n_drafts, row;   /* drafts that are computed; logits of the row-th token behind them come next */
    sl_decoder *decoder;
    struct stop *stops;     /* [options.n_stop] */
    char *text;             /* held back bytes, then those of the current token; only with stop strings */
    size_t held, capacity;
    uint64_t start_ns;
    sl_generate_result result;
};

/* ---- stop strings ---- */

/* Stop strings begin and end where characters do: so what is held back, or cut off, never splits one. */
static int is_utf8(const char *text, size_t length)
{
    size_t bad;
    for (size_t i = 0, n; i < length; i += n)
        if ((n = sl_utf8_check((const uint8_t *)text + i, length - i, &bad)) == 0)
            return 0;
    return 1;
}

static sl_status prepare_stop(struct run *run, struct stop *stop, const char *text)
{
    if (!text || !*text)
        return sl_fail(SL_ERR_ARGUMENT, "generate: an empty stop string");
    stop->text = text;
    stop->length = strlen(text);
    if (stop->length > SL_LIMIT_TOKEN_BYTES)
        return sl_fail(SL_ERR_LIMIT, "generate: a stop string of %zu bytes, at most %d", stop->length, SL_LIMIT_TOKEN_BYTES);
    if (!is_utf8(text, stop->length))
        return sl_fail(SL_ERR_UTF8, "generate: a stop string is not UTF-8");
    stop->fallback = sl_mem_alloc(&run->mem, stop->length, sizeof *stop->fallback);
    if (!stop->fallback)
        return SL_ERR_NOMEM;
    for (size_t i = 1, k = 0; i < stop->length; i++) {
        while (k && text[i] != text[k])
            k = stop->fallback[k - 1];
        k += text[i] == text[k];
        stop->fallback[i] = (uint32_t)k;
    }
    return SL_OK;
}

static sl_status prepare_stops(struct run *run)
{
    const sl_generate_options *o = &run->options;
    if (!o->n_stop)
        return SL_OK;
    if (!o->stop || o->n_stop > MAX_STOPS)
        return sl_fail(SL_ERR_ARGUMENT, "generate: %zu stop strings, at most %d", o->n_stop, MAX_STOPS);
    run->stops = sl_mem_alloc(&run->mem, o->n_stop, sizeof *run->stops);
    if (!run->stops)
        return SL_ERR_NOMEM;
    size_t longest = 0;
    for (size_t i = 0; i < o->n_stop; i++) {
        SL_TRY(prepare_stop(run, &run->stops[i], o->stop[i]));
        longest = run->stops[i].length > longest ? run->stops[i].length : longest;
    }
    run->capacity = longest + PIECE_BYTES;
    run->text = sl_mem_alloc(&run->mem, run->capacity, 1);
    return run->text ? SL_OK : SL_ERR_NOMEM;
}

/* Takes one byte into every automaton; returns the length of the longest stop string that ends here, or 0. */
static size_t advance(struct run *run, char byte)
{
    size_t found = 0;
    for (size_t i = 0; i < run->options.n_stop; i++) {
        struct stop *s = &run->stops[i];
        while (s->matched && s->text[s->matched] != byte)
            s->matched = s->fallback[s->matched - 1];
        s->matched += s->text[s->matched] == byte;
        if (s->matched == s->length) {
            found = s->length > found ? s->length : found;
            s->matched = s->fallback[s->length - 1];
        }
    }
    return found;
}

/* ---- showing ---- */

static void deliver(struct run *run, const char *text, size_t length, sl_token id)
{
    if (run->options.on_text && run->options.on_text(text, length, id, run->options.user))
        run->result.finish = SL_FINISH_CALLBACK;
}

/* Shows what of held + text cannot become a stop string any more. Sets the finish if one is complete or the callback asks for it. */
static sl_status show(struct run *run, const char *text, size_t length, sl_token id)
{
    if (!run->options.n_stop) {
        deliver(run, text, length, id);
        return SL_OK;
    }
    if (length > run->capacity - run->held)
        return sl_fail(SL_ERR_INTERNAL, "generate: a token of %zu bytes", length);
    memcpy(run->text + run->held, text, length);
    size_t end = run->held + length, shown = end, hold = 0, found = 0;
    for (size_t i = run->held; i < end && !found; i++)
        if ((found = advance(run, run->text[i])) != 0)
            shown = i + 1 - found;
    for (size_t i = 0; i < run->options.n_stop && !found; i++)
        hold = run->stops[i].matched > hold ? run->stops[i].matched : hold;
    shown -= hold;
    deliver(run, run->text, shown, id);
    if (found)
        run->result.finish = SL_FINISH_STOP;
    run->held = end - shown;
    memmove(run->text, run->text + shown, run->held);
    return SL_OK;
}

/* Shows what is still held back when the text ends without a stop string: unfinished sequences of the decoder too. */
static void show_rest(struct run *run)
{
    const char *text;
    size_t length;
    if (run->result.finish == SL_FINISH_STOP || run->result.finish == SL_FINISH_CALLBACK || sl_decoder_flush(run->decoder, &text, &length) != SL_OK)
        return;
    if (run->options.n_stop) {
        length = length < run->capacity - run->held ? length : 0;
        memcpy(run->text + run->held, text, length);
        text = run->text;
        length += run->held;
    }
    if (length && run->options.on_text)
        run->options.on_text(text, length, SL_TOKEN_NONE, run->options.user);
}

/* ---- the loop ---- */

/* 1 if nothing but control tokens stands before the text: then its first piece is the beginning of a text. */
static uint32_t begins_text(const struct run *run, const sl_token *prompt, size_t n_ids)
{
    const sl_token *past = sl_session_tokens(run->session);
    size_t n_past = run->options.reuse ? 0 : sl_session_length(run->session);
    for (size_t i = 0; i < n_past + n_ids; i++) {
        sl_token_info info = { sizeof info };
        if (sl_token_get_info(run->model, i < n_past ? past[i] : prompt[i - n_past], &info) != SL_OK || info.kind != SL_TOKEN_CONTROL)
            return 0;
    }
    return 1;
}

static sl_status prepare(struct run *run, const sl_token *prompt, size_t n_ids)
{
    const sl_generate_options *o = &run->options;
    sl_model_info info = { sizeof info };
    if (n_ids ? !prompt : !sl_session_length(run->session))
        return sl_fail(SL_ERR_ARGUMENT, "generate: no tokens to continue");
    SL_TRY(sl_model_get_info(run->model, &info));
    run->n_vocab = info.n_vocab;
    if (o->sampler && sl_sampler_vocab(o->sampler) != info.n_vocab)
        return sl_fail(SL_ERR_ARGUMENT, "generate: the sampler is for %u tokens, the model has %u", (unsigned)sl_sampler_vocab(o->sampler), (unsigned)info.n_vocab);
    SL_TRY(prepare_stops(run));
    if (o->lookup > MAX_LOOKUP)
        return sl_fail(SL_ERR_LIMIT, "generate: lookup of %u tokens, at most %d", o->lookup, MAX_LOOKUP);
    if (o->reuse > 1)
        return sl_fail(SL_ERR_ARGUMENT, "generate: reuse is %u", o->reuse);
    run->logits = sl_mem_alloc(&run->mem, (1 + (size_t)o->lookup) * info.n_vocab, sizeof *run->logits);
    if (!run->logits)
        return SL_ERR_NOMEM;
    return sl_decoder_create(&run->decoder, run->model, o->decode_flags, begins_text(run, prompt, n_ids));
}

static void release(struct run *run)
{
    sl_decoder_free(run->decoder);
    for (size_t i = 0; run->stops && i < run->options.n_stop; i++)
        sl_mem_free(&run->mem, run->stops[i].fallback);
    sl_mem_free(&run->mem, run->stops);
    sl_mem_free(&run->mem, run->text);
    sl_mem_free(&run->mem, run->logits);
}

/* Computes the prompt. Without one the timeline goes on: its last token is computed again, for its logits. */
static sl_status compute_prompt(struct run *run, const sl_token *prompt, size_t n_ids)
{
    size_t before = sl_session_length(run->session);
    sl_token last = n_ids ? SL_TOKEN_NONE : sl_session_tokens(run->session)[before - 1];
    if (!n_ids)
        sl_sequence_step_back(run->session, 0, before - 1);
    else if (run->options.reuse) {
        before = sl_sequence_match(run->session, 0, prompt, n_ids);
        run->result.n_kept = (uint32_t)before;
        prompt += before;
        n_ids -= before;
    }
    sl_status status = sl_session_eval(run->session, n_ids ? prompt : &last, n_ids ? n_ids : 1, run->logits, 1);
    run->length = sl_session_length(run->session);
    run->result.n_prompt = (uint32_t)(run->length > before ? run->length - before : 0);
    return status;
}

/* ---- tokens ---- */

static sl_status choose(struct run *run, sl_token *id)
{
    const float *logits = run->logits + run->row * run->n_vocab;
    SL_TRY(run->options.sampler ? sl_sampler_sample(run->options.sampler, logits, id) : sl_sample_greedy(logits, run->n_vocab, id));
    if (!run->result.n_tokens++) {
        run->result.prompt_ns = sl_clock_ns() - run->start_ns;
        run->start_ns += run->result.prompt_ns;
    }
    return SL_OK;
}

/* Computes a token that was chosen, with what lookup expects behind it. If it was expected itself, its logits are there already. */
static sl_status compute_token(struct run *run, sl_token id)
{
    sl_token ids[1 + MAX_LOOKUP];
    if (run->row < run->n_drafts && run->drafts[run->row] == id) {
        SL_TRY(sl_session_check_cancel(run->session));
        run->row++;
        run->result.n_accepted++;
        run->length++;
        return SL_OK;
    }
    if (run->n_drafts)
        sl_sequence_step_back(run->session, 0, run->length);
    size_t most = run->options.lookup, room = sl_session_capacity(run->session) - run->length - 1;
    most = most < room ? most : room;
    if (run->options.max_tokens && most > run->options.max_tokens - run->result.n_tokens)
        most = run->options.max_tokens - run->result.n_tokens;
    run->n_drafts = most ? sl_lookup(sl_session_tokens(run->session), run->length, id, run->n_vocab, most, run->drafts) : 0;
    run->row = 0;
    run->result.n_drafts += (uint32_t)run->n_drafts;
    ids[0] = id;
    memcpy(ids + 1, run->drafts, run->n_drafts * sizeof *ids);
    SL_TRY(sl_session_eval(run->session, ids, 1 + run->n_drafts, run->logits, 1 + run->n_drafts));
    run->length++;
    return SL_OK;
}

static sl_status make_tokens(struct run *run)
{
    uint32_t *finish = &run->result.finish;
    for (;;) {
        sl_token id;
        const char *text;
        size_t length;
        SL_TRY(choose(run, &id));
        if (sl_token_is_end(run->model, id)) {
            *finish = SL_FINISH_END;
            return SL_OK;
        }
        SL_TRY(sl_decoder_push(run->decoder, id, &text, &length));
        SL_TRY(show(run, text, length, id));
        if (*finish == SL_FINISH_STOP)
            return SL_OK;
        if (*finish == UNFINISHED && run->result.n_tokens == run->options.max_tokens)
            *finish = SL_FINISH_LENGTH;
        if (run->length == sl_session_capacity(run->session)) {
            *finish = *finish == UNFINISHED ? SL_FINISH_FULL : *finish;
            return SL_OK;
        }
        /* The token that ends it by length or callback is computed too, so that the timeline can go on from there. */
        SL_TRY(compute_token(run, id));
        if (*finish != UNFINISHED)
            return SL_OK;
    }
}

sl_status sl_generate(sl_session *session, const sl_token *prompt, size_t n_ids, const sl_generate_options *options, sl_generate_result *result)
{
    if (!session)
        return sl_fail(SL_ERR_ARGUMENT, "generate: NULL");
    struct run run = { .session = session, .model = sl_session_model(session), .result = { .size = sizeof run.result } };
    if (result)
        SL_TRY(sl_result_write(result, &run.result, sizeof run.result));
    SL_TRY(sl_options_read(&run.options, sizeof run.options, options));
    run.mem = run.model->mem;
    run.result.finish = UNFINISHED;
    run.start_ns = sl_clock_ns();
    sl_status status = prepare(&run, prompt, n_ids);
    if (status == SL_OK)
        status = compute_prompt(&run, prompt, n_ids);
    if (status == SL_OK) {
        if (run.options.sampler)
            sl_sampler_follow(run.options.sampler, sl_session_tokens(session), run.length);
        status = make_tokens(&run);
        if (sl_session_length(session) > run.length)
            sl_sequence_step_back(session, 0, run.length);      /* drafts that were not chosen */
    }
    if (run.result.n_tokens) {
        run.result.decode_ns = sl_clock_ns() - run.start_ns;
        show_rest(&run);
    }
    release(&run);
    run.result.finish = run.result.finish == UNFINISHED ? 0 : run.result.finish;
    if (result)
        SL_TRY(sl_result_write(result, &run.result, sizeof run.result));
    return status;
}
