/* SPDX-License-Identifier: MIT */
/* generate.c - from prompt to text: the loop of choosing, showing (shown.c) and computing tokens. Everything that takes memory happens before the session changes. */
#include "fpenv.h"
#include "lookup.h"
#include "params.h"
#include "platform.h"
#include "sample.h"
#include "session.h"
#include "shown.h"

#include <string.h>

enum { MAX_LOOKUP = 64 };

struct run {
    sl_session *session;
    sl_model *model;
    sl_generate_options options;
    float *logits;          /* [n_vocab, 1 + lookup] */
    uint32_t n_vocab;
    sl_token image;         /* what stands for pictures, or SL_TOKEN_NONE */
    size_t length;          /* of the timeline, drafts that were not chosen yet not counted */
    sl_token drafts[MAX_LOOKUP];
    size_t n_drafts, row;   /* drafts that are computed; logits of the row-th token behind them come next */
    sl_shown shown;
    uint64_t start_ns;
    sl_generate_result result;
};

/* ---- the loop ---- */

/* 1 if the text begins here: nothing but control tokens stands before it. */
static uint32_t begins_text(const struct run *run, const sl_token *prompt, size_t n_ids)
{
    const size_t n_past = run->options.reuse ? 0 : sl_session_length(run->session);
    return sl_shown_begins(run->model, sl_session_tokens(run->session), n_past) && sl_shown_begins(run->model, prompt, n_ids);
}

static sl_status prepare(struct run *run, const sl_token *prompt, size_t n_ids)
{
    const sl_generate_options *o = &run->options;
    sl_model_info info = { sizeof info };
    if (n_ids ? !prompt : !sl_session_length(run->session))
        return sl_fail(SL_ERR_ARGUMENT, "generate: no tokens to continue");
    if (run->session->seqs[0].lent)
        return sl_fail(SL_ERR_STATE, "generate: a queue works with sequence 0");
    if (n_ids > sl_session_capacity(run->session))      /* before anybody looks at them */
        return sl_fail(SL_ERR_FULL, "generate: a prompt of %zu tokens, the context has %zu", n_ids, sl_session_capacity(run->session));
    SL_TRY(sl_model_get_info(run->model, &info));
    run->n_vocab = info.n_vocab;
    run->image = info.image_token;
    if (o->sampler && sl_sampler_vocab(o->sampler) != info.n_vocab)
        return sl_fail(SL_ERR_ARGUMENT, "generate: the sampler is for %u tokens, the model has %u", (unsigned)sl_sampler_vocab(o->sampler), (unsigned)info.n_vocab);
    if (o->lookup > MAX_LOOKUP)
        return sl_fail(SL_ERR_LIMIT, "generate: lookup of %u tokens, at most %d", o->lookup, MAX_LOOKUP);
    if (o->shift && o->shift + UINT64_C(2) > run->session->sizes.n_ctx)
        return sl_fail(SL_ERR_RANGE, "generate: shift keeps %u tokens of a context of %u", o->shift, run->session->sizes.n_ctx);
    if (o->reserved)
        return sl_fail(SL_ERR_ARGUMENT, "generate: reserved must be 0");
    if (o->reuse > 1)
        return sl_fail(SL_ERR_ARGUMENT, "generate: reuse is %u", o->reuse);
    run->logits = sl_mem_alloc(&run->model->mem, (1 + (size_t)o->lookup) * info.n_vocab, sizeof *run->logits);
    if (!run->logits)
        return SL_ERR_NOMEM;
    return sl_shown_open(&run->shown, run->model, o, begins_text(run, prompt, n_ids));
}

/* Computes the prompt. Without one the timeline goes on: its last token is computed again, for its logits. */
static sl_status compute_prompt(struct run *run, const sl_token *prompt, size_t n_ids)
{
    size_t before = sl_session_length(run->session);
    if (!n_ids) {
        const uint64_t fp = sl_fp_enter();
        const sl_status status = sl_session_again(run->session, 0, run->logits);
        sl_fp_set(fp);
        run->length = sl_session_length(run->session);
        return status;
    }
    if (run->options.reuse) {
        before = sl_sequence_match(run->session, 0, prompt, n_ids);
        run->result.n_kept = (uint32_t)before;
        prompt += before;
        n_ids -= before;
    }
    const sl_status status = sl_session_eval(run->session, prompt, n_ids, run->logits, 1);
    run->length = sl_session_length(run->session);
    run->result.n_prompt = (uint32_t)(run->length - before);
    return status;
}

/* ---- tokens ---- */

static sl_status choose(struct run *run, sl_token *id)
{
    SL_TRY(sl_sample_next(run->options.sampler, run->logits + run->row * run->n_vocab, run->n_vocab, run->image, id));
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
    for (size_t i = 0; i < run->n_drafts; i++)      /* pictures are not expected, as they are never chosen */
        if (run->drafts[i] == run->image)
            run->n_drafts = i;
    run->row = 0;
    run->result.n_drafts += (uint32_t)run->n_drafts;
    ids[0] = id;
    memcpy(ids + 1, run->drafts, run->n_drafts * sizeof *ids);
    sl_status status = sl_session_eval(run->session, ids, 1 + run->n_drafts, run->logits, 1 + run->n_drafts);
    if (status == SL_ERR_FULL && run->n_drafts) {       /* pages that sequences share are short: not for drafts */
        run->result.n_drafts -= (uint32_t)run->n_drafts;
        run->n_drafts = 0;
        status = sl_session_eval(run->session, ids, 1, run->logits, 1);
    }
    run->length += status == SL_OK;
    return status;
}

/* Makes room in a full context, if that was asked for. *goes_on: there is room. */
static sl_status shift(struct run *run, int *goes_on)
{
    const size_t keep = run->options.shift;
    *goes_on = keep && !sl_seq_images(run->session, 0);
    if (!*goes_on)
        return SL_OK;
    const size_t discard = (run->length - keep + 1) / 2;
    SL_TRY(sl_seq_shift(run->session, 0, keep, discard));
    run->length -= discard;
    run->n_drafts = run->row = 0;
    return SL_OK;
}

static sl_status make_tokens(struct run *run)
{
    uint32_t *finish = &run->result.finish;
    for (;;) {
        sl_token id;
        SL_TRY(choose(run, &id));
        if (sl_token_is_end(run->model, id)) {
            *finish = SL_FINISH_END;
            return SL_OK;
        }
        SL_TRY(sl_shown_push(&run->shown, id, finish));
        if (*finish == SL_FINISH_STOP)
            return SL_OK;
        if (*finish == SL_UNFINISHED && run->result.n_tokens == run->options.max_tokens)
            *finish = SL_FINISH_LENGTH;
        if (run->length == sl_session_capacity(run->session)) {
            int goes_on = 0;
            if (*finish == SL_UNFINISHED)
                SL_TRY(shift(run, &goes_on));
            if (!goes_on) {
                *finish = *finish == SL_UNFINISHED ? SL_FINISH_FULL : *finish;
                return SL_OK;
            }
        }
        /* The token that ends it by length or callback is computed too, so that the timeline can go on from there. */
        const sl_status status = compute_token(run, id);
        if (status == SL_ERR_FULL)      /* other sequences hold the pages */
            *finish = *finish == SL_UNFINISHED ? SL_FINISH_FULL : *finish;
        else
            SL_TRY(status);
        if (*finish != SL_UNFINISHED)
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
    run.shown.mem = run.model->mem;
    run.result.finish = SL_UNFINISHED;
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
        sl_shown_flush(&run.shown);
    }
    sl_shown_close(&run.shown);
    sl_mem_free(&run.model->mem, run.logits);
    run.result.finish = run.result.finish == SL_UNFINISHED ? 0 : run.result.finish;
    if (result)
        SL_TRY(sl_result_write(result, &run.result, sizeof run.result));
    return status;
}
