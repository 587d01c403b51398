/* SPDX-License-Identifier: MIT */
/* generate.c - continues a text. The continuation goes to stdout as it comes, everything else to stderr. */
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const finish_names[] = { "length", "end", "stop", "callback", "full" };   /* SL_FINISH_... */

/* With --json the text is kept and printed at the end. */
struct output {
    int keep;
    int error;              /* errno of what failed, or 0 */
    char *text;
    size_t length, room;
    sl_token *ids;          /* every token made but an ending one */
    size_t n_ids, id_room;
};

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
    struct output *o = user;
    void *bytes = o->text, *ids = o->ids;
    if (!o->keep) {
        if (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0)
            o->error = errno;
        return o->error != 0;
    }
    if (append(&bytes, &o->length, &o->room, text, length, 1) || (id != SL_TOKEN_NONE && append(&ids, &o->n_ids, &o->id_room, &id, 1, sizeof id)))
        o->error = ENOMEM;
    o->text = bytes;
    o->ids = ids;
    return o->error != 0;
}

/* The chain top-k, top-p, min-p, temp: each step that was asked for. NULL, which is greedy, at temperature 0. */
static sl_sampler *make_sampler(uint32_t n_vocab, double temp, uint64_t top_k, double top_p, double min_p, uint64_t seed)
{
    if (temp == 0.0)
        return NULL;
    const struct { const char *name; double value; int wanted; } steps[] = {
        { "top-k", (double)top_k, top_k > 0 }, { "top-p", top_p, top_p < 1.0 }, { "min-p", min_p, min_p > 0.0 }, { "temp", temp, 1 },
    };
    sl_sampler *sampler;
    must(sl_sampler_create(&sampler, n_vocab, seed, NULL));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i].wanted)
            must(sl_sampler_add(sampler, steps[i].name, &steps[i].value, 1));
    return sampler;
}

static void print_times(const sl_generate_result *r)
{
    double prompt = (double)r->prompt_ns * 1e-9, decode = (double)r->decode_ns * 1e-9;
    fprintf(stderr, "\nprompt: %u tokens, %.3f s\n", (unsigned)r->n_prompt, prompt);
    fprintf(stderr, "decode: %u tokens, %.3f s, %.1f per second\n", (unsigned)r->n_tokens, decode, decode > 0 && r->n_tokens ? (r->n_tokens - 1) / decode : 0.0);
}

static void print_json(const struct output *o, const sl_generate_result *r, const sl_session *session)
{
    printf("{\"text\": ");
    print_json_text(o->text ? o->text : "", o->length);
    printf(", \"ids\": ");
    print_ids(o->ids, o->n_ids);
    printf(", \"finish\": \"%s\", \"prompt_tokens\": %u, \"tokens\": %u", finish_names[r->finish], (unsigned)r->n_prompt, (unsigned)r->n_tokens);
    printf(", \"prompt_seconds\": %.9f, \"decode_seconds\": %.9f, ", (double)r->prompt_ns * 1e-9, (double)r->decode_ns * 1e-9);
    print_json_report(session);
    printf("}\n");
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    uint64_t n_tokens = 128, top_k = 0, seed = 0;
    double temp = 0.0, top_p = 1.0, min_p = 0.0;
    const struct option options[] = {
        TEXT_OPTIONS(s),
        { "-n", "N", "tokens to make (128)", OPTION_WHOLE, &n_tokens, 1, INT32_MAX },
        { "--temp", "T", "temperature (0: always the most likely token)", OPTION_REAL, &temp, 0.0, 1e6 },
        { "--top-k", "K", "choose among the K most likely tokens (0: all)", OPTION_WHOLE, &top_k, 0, INT32_MAX },
        { "--top-p", "P", "choose among the most likely that sum to P (1: all)", OPTION_REAL, &top_p, 0.0, 1.0 },
        { "--min-p", "P", "choose among those at least P times as likely as the first", OPTION_REAL, &min_p, 0.0, 1.0 },
        { "--seed", "S", "start of the random numbers (0)", OPTION_WHOLE, &seed, 0, (double)UINT64_MAX },
        COMPUTE_OPTIONS(s),
    };
    read_options("generate", "-m FILE (-p TEXT | -f FILE) [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    size_t length, n;
    char *text = read_prompt(&s, &length);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    sl_token *ids = encode(model, &s, text, length, &n);
    if (!n)
        fail("prompt: no tokens");
    sl_model_info info = { sizeof info };
    must(sl_model_get_info(model, &info));
    uint64_t n_ctx = n + n_tokens > 4096 ? n + n_tokens : 4096;
    sl_session *session = open_session(model, &s, info.n_ctx_train && info.n_ctx_train < n_ctx ? info.n_ctx_train : n_ctx);

    struct output out = { .keep = s.json };
    sl_generate_options how = SL_GENERATE_OPTIONS_INIT;
    how.max_tokens = (uint32_t)n_tokens;
    how.sampler = make_sampler(info.n_vocab, temp, top_k, top_p, min_p, seed);
    how.on_text = on_text;
    how.user = &out;
    sl_generate_result result = { sizeof result };
    must(sl_generate(session, ids, n, &how, &result));
    if (out.error)
        fail("%s: %s", out.keep ? "memory" : "stdout", strerror(out.error));
    if (s.json)
        print_json(&out, &result, session);
    end_output();
    print_times(&result);
    if (result.finish == SL_FINISH_FULL)
        fprintf(stderr, "the context of %zu positions is full\n", sl_session_capacity(session));
    report(session);

    sl_sampler_free(how.sampler);
    sl_session_free(session);
    sl_model_free(model);
    free(out.text);
    free(out.ids);
    free(ids);
    free(text);
    return 0;
}
