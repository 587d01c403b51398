/* SPDX-License-Identifier: MIT */
/* describe.c - answers a question about pictures: one message with the pictures first, in the model's chat format. The answer goes to stdout as it comes, the
 * time of each phase and everything else to stderr. */
#include "answer.h"

#include <stdlib.h>
#include <string.h>

/* The ids of the conversation: pictures, then the question. */
static sl_token *encode_question(const sl_model *model, const char *format, const struct pictures *pictures, const char *question, size_t length, size_t *n)
{
    sl_chat_part *parts = take(pictures->n + 1, sizeof *parts);
    for (size_t i = 0; i < pictures->n; i++)
        parts[i] = (sl_chat_part) { .size = sizeof *parts, .image = pictures->images[i] };
    parts[pictures->n] = (sl_chat_part) { .size = sizeof *parts, .text = question, .length = length };
    const sl_chat_message message = { .size = sizeof message, .role = "user", .parts = parts, .n_parts = pictures->n + 1 };
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

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    struct choosing choosing = CHOOSING_DEFAULT;
    const char *format = NULL;
    const struct option options[] = {
        PROMPT_OPTIONS(s), IMAGE_OPTION(s),
        { "--chat-format", "NAME", "chat format to use instead of the model's", OPTION_TEXT, &format },
        CHOOSING_OPTIONS(choosing), COMPUTE_OPTIONS(s),
    };
    read_options("describe", "-m FILE [--projector FILE] --image FILE [--image FILE]... -p QUESTION [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    size_t length, n;
    char *question = read_prompt(&s, &length);
    if (!s.images.n)
        usage_error("--image: at least one picture is required");
    struct pictures pictures = load_pictures(&s);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    check_pictures(model);
    sl_token *ids = encode_question(model, format, &pictures, question, length, &n);
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
