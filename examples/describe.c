/* SPDX-License-Identifier: MIT */
/* describe.c - answers a question about pictures: one message with the pictures first, in the model's chat format; or many questions, a line each. Answers go to
 * stdout as they come, the time of each phase and everything else to stderr. */
#include "answer.h"

#include <stdlib.h>
#include <string.h>

static double encoder_seconds(const sl_session *session)
{
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(session, &stats));
    return (double)stats.image_ns * 1e-9;
}

static void print_json(const struct pictures *pictures, const struct answer *answer, const sl_session *session)
{
    printf("{");
    print_json_answer(answer);
    printf(", \"images\": [");
    for (size_t i = 0; i < pictures->n; i++) {
        printf("%s{\"path\": ", i ? ", " : "");
        print_json_text(pictures->paths[i], strlen(pictures->paths[i]));
        printf(", \"width\": %u, \"height\": %u}", (unsigned)sl_image_width(pictures->images[i]), (unsigned)sl_image_height(pictures->images[i]));
    }
    printf("], \"image_seconds\": %.9f, \"encoder_seconds\": %.9f, ", pictures->seconds, encoder_seconds(session));
    print_json_report(session);
    printf("}\n");
}

/* ---- many questions ---- */

/* The next line "PICTURE<tab>QUESTION" of *text, cut out of it; in the question \n stands for a new line and \\ for \. 0: there is none. */
static int next_question(const char *path, char **text, size_t number, const char **picture, char **question, size_t *length)
{
    if (!**text)
        return 0;
    char *end = strchr(*text, '\n'), *tab = strchr(*text, '\t');
    if (!tab || (end && tab > end))
        fail("%s: line %zu: no tab between picture and question", path, number);
    if (end)
        *end = '\0';
    *tab = '\0';
    *picture = *text;
    *question = tab + 1;
    char *to = *question;
    for (const char *from = *question; *from; from++)
        *to++ = *from == '\\' && from[1] == 'n' ? (from++, '\n') : *from == '\\' && from[1] == '\\' ? *++from : *from;
    *length = (size_t)(to - *question);
    *text = end ? end + 1 : tab + 1 + strlen(tab + 1);
    return 1;
}

/* Each question with its own picture (none where the field is empty), in a conversation of its own: an answer per line. */
static void answer_questions(sl_model *model, const struct settings *s, const char *format, const struct choosing *choosing, const char *path)
{
    size_t size, number = 1, length, n;
    char *whole = read_file(path, &size), *text = whole, *question;
    const char *name;
    if (strlen(whole) != size)
        fail("%s: holds a zero byte", path);
    sl_session *session = open_session_for(model, s, 0, choosing);
    sl_sampler *sampler = make_sampler(model, choosing);
    if (s->json)
        printf("{\"answers\": [");
    for (; next_question(path, &text, number, &name, &question, &length); number++) {
        const struct settings one = { .images = { &name, *name != 0 } };
        struct pictures pictures = load_pictures(&one);
        sl_token *ids = encode_message(model, format, &pictures, question, length, &n);
        if (n > sl_session_capacity(session))
            fail("%s: line %zu: %zu tokens do not fit into a context of %zu", path, number, n, sl_session_capacity(session));
        must(sl_session_rewind(session, 0));
        add_pictures(session, &pictures, ids, n);
        struct answer a = { .show = !s->json, .keep = s->json, .result = { .size = sizeof a.result } };
        must(try_answer(session, ids, n, choosing, sampler, &a));
        if (s->json) {
            printf("%s{", number > 1 ? ", " : "");
            print_json_answer(&a);
        }
        printf(s->json ? "}" : "\n");
        free_answer(&a);
        free_pictures(&pictures);
        free(ids);
    }
    if (s->json) {
        printf("], ");
        print_json_report(session);
        printf("}\n");
    }
    end_output();
    report(session);
    sl_sampler_free(sampler);
    sl_session_free(session);
    free(whole);
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    struct choosing choosing = CHOOSING_DEFAULT;
    const char *format = NULL, *questions = NULL;
    const struct option options[] = {
        PROMPT_OPTIONS(s), IMAGE_OPTION(s),
        { "--chat-format", "NAME", "chat format to use instead of the model's", OPTION_TEXT, &format },
        { "--questions", "FILE", "instead of -p and --image: lines PICTURE<tab>QUESTION, each a conversation of its own", OPTION_TEXT, &questions },
        CHOOSING_OPTIONS(choosing), COMPUTE_OPTIONS(s),
    };
    read_options("describe", "-m FILE [--projector FILE] (--image FILE [--image FILE]... -p QUESTION | --questions FILE) [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    if (questions) {
        if (s.prompt || s.prompt_file || s.images.n)
            usage_error("--questions: not together with -p, -f or --image");
        sl_model *model = load_model(&s, SL_PARTS_ALL);
        answer_questions(model, &s, format, &choosing, questions);
        sl_model_free(model);
        return 0;
    }
    size_t length, n;
    char *question = read_prompt(&s, &length);
    if (!s.images.n)
        usage_error("--image: at least one picture is required");
    struct pictures pictures = load_pictures(&s);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    check_pictures(model);
    sl_token *ids = encode_message(model, format, &pictures, question, length, &n);
    sl_session *session = open_session_for(model, &s, n, &choosing);
    add_pictures(session, &pictures, ids, n);
    struct answer answer = make_answer(session, ids, n, &choosing, s.json);
    if (s.json)
        print_json(&pictures, &answer, session);
    end_output();
    fprintf(stderr, "\nimages: %zu, %.3f s\nencoder: %.3f s", pictures.n, pictures.seconds, encoder_seconds(session));
    print_times(&answer, session);
    report(session);

    free_answer(&answer);
    sl_session_free(session);
    sl_model_free(model);
    free_pictures(&pictures);
    free(ids);
    free(question);
    return 0;
}
