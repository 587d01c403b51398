/* SPDX-License-Identifier: MIT */
/* answer.c - see answer.h. */
#include "answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const finish_names[] = { "length", "end", "stop", "callback", "full" };   /* SL_FINISH_... */

static int append(void **block, size_t *used, size_t *room, const void *more, size_t n, size_t size)
{
    if (n > *room - *used) {
        size_t wanted = 2 * *room + n + 64;
        void *grown = realloc(*block, wanted * size);
        if (!grown)
            return 1;
        *block = grown;
        *room = wanted;
    }
    memcpy((char *)*block + *used * size, more, n * size);
    *used += n;
    return 0;
}

static int32_t on_text(const char *text, size_t length, sl_token id, void *user)
{
    struct answer *a = user;
    void *bytes = a->text, *ids = a->ids;
    if (a->show && (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0))
        a->error = errno;
    if (a->error || !a->keep)
        return a->error != 0;
    if (append(&bytes, &a->length, &a->room, text, length, 1) || (id != SL_TOKEN_NONE && append(&ids, &a->n_ids, &a->id_room, &id, 1, sizeof id)))
        a->error = ENOMEM;
    a->text = bytes;
    a->ids = ids;
    return a->error != 0;
}

/* Wrong numbers for a step are wrong usage: the library knows which are right. */
static void add_step(sl_sampler *sampler, const char *name, const double *values, size_t n)
{
    const sl_status status = sl_sampler_add(sampler, name, values, n);
    if (status == SL_ERR_RANGE || status == SL_ERR_ARGUMENT)
        usage_error("--%s: %s", name, sl_last_error());
    must(status);
}

static void add_biases(sl_sampler *sampler, const struct list *biases)
{
    double *values = take(2 * biases->n, sizeof *values);
    for (size_t i = 0; i < biases->n; i++)
        if (read_numbers("--logit-bias", biases->texts[i], values + 2 * i, 2) != 2)
            usage_error("--logit-bias: \"%s\" is not ID,B", biases->texts[i]);
    if (biases->n)
        add_step(sampler, "logit-bias", values, 2 * biases->n);
    free(values);
}

/* Those that were asked for, which the vocabulary must have, or the usual ones that it has. */
static void add_breakers(sl_sampler *sampler, const sl_model *model, const struct list *breakers)
{
    static const char *const usual[] = { "\n", ":", "\"", "*" };
    for (size_t i = 0; i < breakers->n; i++)
        if (*breakers->texts[i])
            must(sl_sampler_add_breaker(sampler, model, breakers->texts[i], strlen(breakers->texts[i])));
    for (size_t i = 0; !breakers->n && i < sizeof usual / sizeof *usual; i++) {
        const sl_status status = sl_sampler_add_breaker(sampler, model, usual[i], 1);
        must(status == SL_ERR_MISSING ? SL_OK : status);
    }
}

/* In this order; greedy at temperature 0 without any step that changes logits. */
sl_sampler *make_sampler(const sl_model *model, const struct choosing *c)
{
    const double top_k = (double)c->top_k, dynatemp[] = { c->temp, c->steps[CHAIN_DYNATEMP].values[0], c->steps[CHAIN_DYNATEMP].n > 1 ? c->steps[CHAIN_DYNATEMP].values[1] : 1.0 };
#define NUMBERS(name, step) { name, c->steps[step].values, c->steps[step].n }
    const struct { const char *name; const double *values; size_t n; } chain[] = {
        NUMBERS("penalties", CHAIN_PENALTIES), NUMBERS("dry", CHAIN_DRY), NUMBERS("top-n-sigma", CHAIN_TOP_N_SIGMA),
        { "top-k", &top_k, c->top_k > 0 }, NUMBERS("typical", CHAIN_TYPICAL), { "top-p", &c->top_p, c->top_p < 1.0 }, { "min-p", &c->min_p, c->min_p > 0.0 },
        NUMBERS("xtc", CHAIN_XTC), { "dynatemp", dynatemp, c->steps[CHAIN_DYNATEMP].n ? 3 : 0 }, { "temp", &c->temp, !c->steps[CHAIN_DYNATEMP].n },
        NUMBERS("mirostat", CHAIN_MIROSTAT), NUMBERS("mirostat-v2", CHAIN_MIROSTAT_V2),
    };
    sl_model_info info = { sizeof info };
    int wanted = c->temp != 0.0 || c->biases.n;
    for (size_t i = 0; i < CHAIN_STEPS; i++)
        wanted |= c->steps[i].n > 0;
    if (!wanted)
        return NULL;
    if (c->steps[CHAIN_DYNATEMP].n > 2)
        usage_error("--dynatemp: more than 2 numbers");
    sl_sampler *sampler;
    must(sl_model_get_info(model, &info));
    must(sl_sampler_create(&sampler, info.n_vocab, c->seed, NULL));
    add_biases(sampler, &c->biases);
    for (size_t i = 0; i < sizeof chain / sizeof *chain; i++)
        if (chain[i].n)
            add_step(sampler, chain[i].name, chain[i].values, chain[i].n);
    if (c->steps[CHAIN_DRY].n)
        add_breakers(sampler, model, &c->breakers);
    return sampler;
}

sl_token *encode_message(const sl_model *model, const char *format, const struct pictures *pictures, const char *text, size_t length, size_t *n)
{
    const size_t n_pictures = pictures ? pictures->n : 0;
    sl_chat_part *parts = take(n_pictures + 1, sizeof *parts);
    for (size_t i = 0; i < n_pictures; i++)
        parts[i] = (sl_chat_part) { .size = sizeof *parts, .image = pictures->images[i] };
    parts[n_pictures] = (sl_chat_part) { .size = sizeof *parts, .text = text, .length = length };
    const sl_chat_message message = { .size = sizeof message, .role = "user", .parts = parts, .n_parts = n_pictures + 1 };
    sl_chat_options options = SL_CHAT_OPTIONS_INIT;
    options.format = format;
    sl_token *ids = NULL;
    sl_status status = sl_chat_encode(model, &message, 1, &options, NULL, 0, n);
    if (status == SL_ERR_BUFFER) {
        ids = take(*n, sizeof *ids);
        status = sl_chat_encode(model, &message, 1, &options, ids, *n, n);
    }
    must(status);
    free(parts);
    return ids;
}

sl_session *open_session_for(sl_model *model, const struct settings *s, size_t n, const struct choosing *c)
{
    sl_model_info info = { sizeof info };
    must(sl_model_get_info(model, &info));
    const uint64_t wanted = n + c->n_tokens > 4096 ? n + c->n_tokens : 4096;
    const uint64_t room = s->ctx ? s->ctx : info.n_ctx_train && info.n_ctx_train < wanted ? info.n_ctx_train : wanted;
    if (n > room)       /* said before pictures are encoded */
        fail("prompt: %zu tokens do not fit into a context of %llu", n, (unsigned long long)room);
    return open_session(model, s, room);
}

sl_status try_answer(sl_session *session, const sl_token *ids, size_t n, const struct choosing *c, sl_sampler *sampler, struct answer *a)
{
    sl_generate_options how = SL_GENERATE_OPTIONS_INIT;
    how.max_tokens = (uint32_t)c->n_tokens;
    how.lookup = (uint32_t)c->lookup;
    how.sampler = sampler;
    how.on_text = on_text;
    how.user = a;
    const sl_status status = sl_generate(session, ids, n, &how, &a->result);
    if (a->error)
        fail("%s: %s", a->error == ENOMEM ? "memory" : "stdout", strerror(a->error));
    return status;
}

struct answer make_answer(sl_session *session, const sl_token *ids, size_t n, const struct choosing *c, int keep)
{
    struct answer a = { .show = !keep, .keep = keep, .result = { .size = sizeof a.result } };
    sl_sampler *sampler = make_sampler(sl_session_model(session), c);
    must(try_answer(session, ids, n, c, sampler, &a));
    sl_sampler_free(sampler);
    return a;
}

void print_json_answer(const struct answer *a)
{
    const sl_generate_result *r = &a->result;
    printf("\"text\": ");
    print_json_text(a->text ? a->text : "", a->length);
    printf(", \"ids\": ");
    print_ids(a->ids, a->n_ids);
    printf(", \"finish\": \"%s\", \"prompt_tokens\": %u, \"tokens\": %u", a->cancelled ? "cancelled" : finish_names[r->finish], (unsigned)r->n_prompt, (unsigned)r->n_tokens);
    printf(", \"prompt_seconds\": %.9f, \"decode_seconds\": %.9f", (double)r->prompt_ns * 1e-9, (double)r->decode_ns * 1e-9);
}

void print_times(const struct answer *a, const sl_session *session)
{
    const sl_generate_result *r = &a->result;
    double prompt = (double)r->prompt_ns * 1e-9, decode = (double)r->decode_ns * 1e-9;
    fprintf(stderr, "\nprompt: %u tokens, %.3f s\n", (unsigned)r->n_prompt, prompt);
    fprintf(stderr, "decode: %u tokens, %.3f s, %.1f per second\n", (unsigned)r->n_tokens, decode, decode > 0 && r->n_tokens ? (r->n_tokens - 1) / decode : 0.0);
    if (r->n_drafts)
        fprintf(stderr, "lookup: %u of %u drafts\n", (unsigned)r->n_accepted, (unsigned)r->n_drafts);
    if (r->finish == SL_FINISH_FULL)
        fprintf(stderr, "the context of %zu positions is full\n", sl_session_capacity(session));
}

void free_answer(struct answer *a)
{
    free(a->text);
    free(a->ids);
}
