/* SPDX-License-Identifier: MIT */
/* serve.c - answers many prompts at once: one prompt per line of a file or of stdin, each answer printed whole as soon as it has ended. With --seqs 1 they are answered one after the
 * other, with the same texts. */
#include "answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A prompt, and its answer as it grows. */
struct request { sl_token *ids; size_t n; sl_sampler *sampler; char *text; size_t length, room; };
struct serving { struct settings s; struct choosing choosing; uint64_t n_seq; int share; struct request *requests; size_t n; };

static int32_t on_text(const char *text, size_t length, sl_token id, void *user)
{
    struct request *r = user;
    (void)id;
    if (length > r->room - r->length) {
        const size_t room = 2 * r->room + length + 256;
        char *grown = realloc(r->text, room);
        if (!grown)
            return 1;
        r->text = grown;
        r->room = room;
    }
    memcpy(r->text + r->length, text, length);
    r->length += length;
    return 0;
}

/* A request for each line that is not empty. Returns the tokens of the longest. */
static size_t read_requests(struct serving *v, const sl_model *model)
{
    size_t length, longest = 0, n_lines = 1;
    FILE *file = v->s.prompt_file ? fopen(v->s.prompt_file, "rb") : stdin;
    if (!file)
        fail("%s: %s", v->s.prompt_file, strerror(errno));
    char *bytes = read_all(file, v->s.prompt_file ? v->s.prompt_file : "stdin", &length);
    if (v->s.prompt_file)
        fclose(file);
    for (size_t i = 0; i < length; i++)
        n_lines += bytes[i] == '\n';
    v->requests = take(n_lines, sizeof *v->requests);
    for (size_t at = 0; at < length;) {
        const char *end = memchr(bytes + at, '\n', length - at);
        const size_t line = end ? (size_t)(end - bytes) - at : length - at, n = line && bytes[at + line - 1] == '\r' ? line - 1 : line;
        if (n) {
            struct request *r = &v->requests[v->n++];
            r->ids = encode(model, &v->s, bytes + at, n, &r->n);
            if (!r->n)
                fail("prompt %zu: no tokens", v->n);
            longest = r->n > longest ? r->n : longest;
        }
        at += line + 1;
    }
    free(bytes);
    if (!v->n)
        fail("prompts: there is none");
    return longest;
}

static sl_session *open_sequences(const struct serving *v, sl_model *model, size_t longest)
{
    sl_model_info info = { sizeof info };
    sl_session_options o = SL_SESSION_OPTIONS_INIT;
    sl_session *session;
    must(sl_model_get_info(model, &info));
    const uint64_t wanted = longest + v->choosing.n_tokens;
    o.n_ctx = (uint32_t)(v->s.ctx ? v->s.ctx : wanted < info.n_ctx_train ? wanted : info.n_ctx_train);
    o.n_batch = (uint32_t)v->s.batch;
    o.cache_type = v->s.kv;
    o.n_seq = (uint32_t)(v->n_seq < v->n ? v->n_seq : v->n);
    must(sl_session_create(&session, model, &o));
    return session;
}

static void submit(const struct serving *v, const sl_model *model, sl_queue *queue, struct request *r)
{
    sl_generate_options o = SL_GENERATE_OPTIONS_INIT;
    r->sampler = make_sampler(model, &v->choosing);
    o.sampler = r->sampler;
    o.max_tokens = (uint32_t)v->choosing.n_tokens;
    o.on_text = on_text;
    o.user = r;
    o.reuse = (uint32_t)v->share;
    must(sl_queue_submit(queue, r->ids, r->n, &o, NULL, 0, NULL));
}

static void print_answer(const struct serving *v, const sl_queue_result *result, int first)
{
    static const char *const finish_names[] = { "length", "end", "stop", "callback", "full" };      /* SL_FINISH_... */
    struct request *r = result->user;
    if (result->finish == SL_FINISH_CALLBACK)
        fail("memory: no room for a text of %zu bytes", r->length);
    if (v->s.json) {
        printf("%s{\"prompt\": %llu, \"finish\": \"%s\", \"n_prompt\": %u, \"n_kept\": %u, \"n_tokens\": %u, \"text\": ", first ? "" : ", ",
               (unsigned long long)result->id, finish_names[result->finish], result->n_prompt, result->n_kept, result->n_tokens);
        print_json_text(r->text ? r->text : "", r->length);
        printf("}");
    } else {
        printf("[%llu] ", (unsigned long long)result->id);
        fwrite(r->text ? r->text : "", 1, r->length, stdout);
        printf("\n");
        fflush(stdout);
    }
    sl_sampler_free(r->sampler);
    free(r->ids);
    free(r->text);
}

int main(int argc, char **argv)
{
    struct serving v = { .choosing = CHOOSING_DEFAULT, .n_seq = 8 };
    const struct option options[] = {
        { "--seqs", "N", "answers made at once (8)", OPTION_WHOLE, &v.n_seq, 1, SL_LIMIT_SEQUENCES },
        { "--share", "", "compute what prompts begin with alike once", OPTION_FLAG, &v.share },
        TEXT_OPTIONS(v.s), CHOOSING_OPTIONS(v.choosing), COMPUTE_OPTIONS(v.s),
    };
    read_options("serve", "-m FILE [-f PROMPTS] [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);
    if (v.s.prompt)
        usage_error("-p: prompts are the lines of a file, or of stdin");
    if (v.choosing.lookup)
        usage_error("--lookup: it is for one text alone");
    sl_model *model = load_model(&v.s, SL_PARTS_ALL);
    sl_session *session = open_sequences(&v, model, read_requests(&v, model));
    sl_queue *queue;
    sl_queue_result result = SL_QUEUE_RESULT_INIT;
    size_t n_tokens = 0, n_prompt = 0, n_done = 0;
    must(sl_queue_create(&queue, session, NULL));
    const double start = seconds();
    for (size_t i = 0; i < v.n; i++)
        submit(&v, model, queue, &v.requests[i]);
    if (v.s.json)
        printf("{\"answers\": [");
    while (n_done < v.n) {
        must(sl_queue_step(queue));
        for (must(sl_queue_take(queue, &result)); result.id; must(sl_queue_take(queue, &result))) {
            must(result.status);
            print_answer(&v, &result, !n_done++);
            n_tokens += result.n_tokens;
            n_prompt += result.n_prompt;
        }
    }
    const double spent = seconds() - start;
    if (v.s.json) {
        printf("], \"seconds\": %.3f, ", spent);
        print_json_report(session);
        printf("}\n");
    }
    end_output();
    fprintf(stderr, "%zu requests, %zu tokens of prompts and %zu made in %.2f s: %.1f tokens made per second\n", v.n, n_prompt, n_tokens, spent, (double)n_tokens / spent);
    report(session);
    free(v.requests);
    sl_queue_free(queue);
    sl_session_free(session);
    sl_model_free(model);
    return 0;
}
