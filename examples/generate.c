/* SPDX-License-Identifier: MIT */
/* generate.c - continues a text. The continuation goes to stdout as it comes, everything else to stderr. */
#include "answer.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    struct choosing choosing = CHOOSING_DEFAULT;
    const struct option options[] = { TEXT_OPTIONS(s), IMAGE_OPTION(s), CHOOSING_OPTIONS(choosing), COMPUTE_OPTIONS(s) };
    read_options("generate", "-m FILE (-p TEXT | -f FILE) [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    size_t length, n;
    char *text = read_prompt(&s, &length);
    struct pictures pictures = load_pictures(&s);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    sl_token *ids = encode(model, &s, text, length, &n);
    if (!n)
        fail("prompt: no tokens");
    sl_session *session = open_session_for(model, &s, n, &choosing);
    add_pictures(session, &pictures, ids, n);
    struct answer answer = make_answer(session, ids, n, &choosing, s.json);
    if (s.json) {
        printf("{");
        print_json_answer(&answer);
        printf(", ");
        print_json_report(session);
        printf("}\n");
    }
    end_output();
    print_times(&answer, session);
    report(session);

    free_answer(&answer);
    sl_session_free(session);
    sl_model_free(model);
    free_pictures(&pictures);
    free(ids);
    free(text);
    return 0;
}
