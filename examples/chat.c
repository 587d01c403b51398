/* SPDX-License-Identifier: MIT */
/* chat.c - a conversation: a message per line of standard input, answers to stdout as they come. Ctrl-C stops the answer, not the program; the end of the input ends it.
 * Every turn encodes the whole conversation; what the session holds of it already is not computed again. */
#define _POSIX_C_SOURCE 200809L
#include "answer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What has been said. Texts are owned; the first message may be the system's, the pictures are parts of the first question. */
struct conversation {
    sl_chat_message *messages;
    size_t n, room;
    const char *format;
};

/* ---- Ctrl-C ---- */

static sl_session *volatile answering;      /* the session that is at it, or NULL */

static void on_interrupt(int signal)
{
    static const char hint[] = "\n(Ctrl-D ends the conversation)\n> ";
    (void)signal;
    if (answering)
        sl_session_cancel(answering);
    else if (write(STDERR_FILENO, hint, sizeof hint - 1) < 0)
        return;
}

static void catch_interrupts(void)
{
    struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGINT, &action, NULL))
        fail("SIGINT: %s", strerror(errno));
}

/* ---- messages ---- */

/* Appends a message: pictures (NULL: none), then a copy of the text. */
static void say(struct conversation *c, const char *role, const struct pictures *pictures, const char *text, size_t length)
{
    const size_t n_pictures = pictures ? pictures->n : 0;
    if (c->n == c->room) {
        c->room = c->room ? 2 * c->room : 16;
        sl_chat_message *grown = realloc(c->messages, c->room * sizeof *grown);
        if (!grown)
            fail("memory: no %zu messages", c->room);
        c->messages = grown;
    }
    sl_chat_part *parts = take(n_pictures + 1, sizeof *parts);
    for (size_t i = 0; i < n_pictures; i++)
        parts[i] = (sl_chat_part) { .size = sizeof *parts, .image = pictures->images[i] };
    parts[n_pictures] = (sl_chat_part) { .size = sizeof *parts, .text = memcpy(take(length + 1, 1), text, length), .length = length };
    c->messages[c->n++] = (sl_chat_message) { .size = sizeof *c->messages, .role = role, .parts = parts, .n_parts = n_pictures + 1 };
}

static void forget(struct conversation *c, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        free((void *)(uintptr_t)c->messages[i].parts[c->messages[i].n_parts - 1].text);
        free((void *)(uintptr_t)c->messages[i].parts);
    }
    memmove(c->messages + first, c->messages + first + count, (c->n - first - count) * sizeof *c->messages);
    c->n -= count;
}

static sl_token *encode_all(const sl_model *model, const struct conversation *c, size_t *n)
{
    sl_chat_options options = SL_CHAT_OPTIONS_INIT;
    options.format = c->format;
    sl_token *ids = NULL;
    sl_status status = sl_chat_encode(model, c->messages, c->n, &options, NULL, 0, n);
    if (status == SL_ERR_BUFFER) {
        ids = take(*n, sizeof *ids);
        status = sl_chat_encode(model, c->messages, c->n, &options, ids, *n, n);
    }
    must(status);
    return ids;
}

/* ---- answers ---- */

/* Gives the session the pictures whose tokens are still to come: those behind the first `kept` tokens. */
static void add_missing_pictures(sl_session *session, const struct conversation *c, const sl_token *ids, size_t kept)
{
    sl_model_info info = { sizeof info };
    size_t there = 0;
    must(sl_model_get_info(sl_session_model(session), &info));
    for (size_t i = 0; i < kept && info.image_token != SL_TOKEN_NONE; i++)
        there += ids[i] == info.image_token;
    for (size_t m = 0; m < c->n; m++)
        for (size_t p = 0; p < c->messages[m].n_parts; p++) {
            const sl_image *image = c->messages[m].parts[p].image;
            const size_t tokens = image ? image_tokens(sl_session_model(session), image, info.image_token) : 0;
            if (image && there)     /* also where some of its tokens are still to come: it waits for them */
                there -= there < tokens ? there : tokens;
            else if (image)
                must(sl_session_add_image(session, image));
        }
}

/* One answer to the last message; what does not fit makes the oldest exchange go. 0: it did not fit all alone. */
static int answer_last(sl_session *session, struct conversation *c, const struct choosing *choosing, sl_sampler *sampler, struct answer *a)
{
    sl_status status;
    const size_t first = strcmp(c->messages[0].role, "system") == 0;
    for (;;) {
        size_t n, kept;
        sl_token *ids = encode_all(sl_session_model(session), c, &n);
        if (n < sl_session_capacity(session)) {
            must(sl_session_keep_prefix(session, ids, n, &kept));
            add_missing_pictures(session, c, ids, kept);
            answering = session;
            status = try_answer(session, ids + kept, n - kept, choosing, sampler, a);
            answering = NULL;
            a->result.n_kept = (uint32_t)kept;
            free(ids);
            break;
        }
        free(ids);
        if (c->n <= first + 1)
            return 0;
        fprintf(stderr, "the context of %zu positions is full: the oldest question and answer are forgotten\n", sl_session_capacity(session));
        forget(c, first, 2);
    }
    a->cancelled = status == SL_ERR_CANCELLED;
    must(a->cancelled ? SL_OK : status);
    must(sl_session_rewind(session, sl_session_length(session)));      /* a late Ctrl-C is not for the next answer */
    return 1;
}

static void print_json_turn(const struct answer *a, int first)
{
    printf("%s{", first ? "" : ", ");
    print_json_answer(a);
    printf(", \"kept_tokens\": %u}", (unsigned)a->result.n_kept);
}

/* The conversation, line by line. */
static void talk(sl_session *session, struct conversation *c, const struct pictures *pictures, const struct choosing *choosing, sl_sampler *sampler, int json)
{
    const int terminal = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t room = 0, n_answers = 0;
    int shown = pictures->n == 0;
    for (;;) {
        if (terminal)
            fprintf(stderr, "> ");
        const ssize_t got = getline(&line, &room, stdin);
        if (got < 0)
            break;
        size_t length = (size_t)got;
        while (length && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            length--;
        if (!length)
            continue;
        struct answer a = { .show = !json, .keep = 1, .result = { .size = sizeof a.result } };
        say(c, "user", shown ? NULL : pictures, line, length);
        if (!answer_last(session, c, choosing, sampler, &a)) {
            fprintf(stderr, "the message does not fit into a context of %zu positions\n", sl_session_capacity(session));
            forget(c, c->n - 1, 1);
        } else {
            shown = 1;
            say(c, "assistant", NULL, a.text ? a.text : "", a.length);
            if (json)
                print_json_turn(&a, n_answers == 0);
            else if (putchar('\n') == EOF || fflush(stdout))
                fail("stdout: %s", strerror(errno));
            n_answers++;
            if (a.result.finish == SL_FINISH_FULL)
                fprintf(stderr, "the context of %zu positions is full\n", sl_session_capacity(session));
        }
        free_answer(&a);
    }
    const int error = ferror(stdin) ? errno : 0;
    free(line);
    if (error)
        fail("stdin: %s", strerror(error));
    if (terminal)
        fprintf(stderr, "\n");
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    struct choosing choosing = CHOOSING_DEFAULT;
    struct conversation c = { 0 };
    const char *system = NULL;
    const struct option options[] = {
        { "-m", "FILE", "the model, or the first file of one", OPTION_TEXT, &s.model },
        { "--system", "TEXT", "what the assistant is told before the conversation", OPTION_TEXT, &system },
        { "--chat-format", "NAME", "chat format to use instead of the model's", OPTION_TEXT, &c.format },
        { "--image", "FILE", "a picture for the first message; give it once for each", OPTION_LIST, &s.images },
        { "--pre", "NAME", "pre-tokenizer to use instead of the file's", OPTION_TEXT, &s.pre },
        { "--json", "", "print one JSON object", OPTION_FLAG, &s.json },
        CHOOSING_OPTIONS(choosing), COMPUTE_OPTIONS(s),
    };
    read_options("chat", "-m FILE [--system TEXT] [--image FILE]... [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    struct pictures pictures = load_pictures(&s);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    if (pictures.n)
        check_pictures(model);
    if (!c.format && !sl_chat_format(model))
        fail("%s: its chat format is not known; name one with --chat-format", s.model);
    sl_session *session = open_session_for(model, &s, 0, &choosing);
    sl_sampler *sampler = make_sampler(model, &choosing);
    if (system)
        say(&c, "system", NULL, system, strlen(system));
    catch_interrupts();
    if (s.json)
        printf("{\"answers\": [");
    talk(session, &c, &pictures, &choosing, sampler, s.json);
    if (s.json) {
        printf("], ");
        print_json_report(session);
        printf("}\n");
    }
    end_output();
    report(session);

    forget(&c, 0, c.n);
    free(c.messages);
    sl_sampler_free(sampler);
    sl_session_free(session);
    sl_model_free(model);
    free_pictures(&pictures);
    return 0;
}
