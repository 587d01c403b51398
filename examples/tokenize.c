/* SPDX-License-Identifier: MIT */
/* tokenize.c - prints the token ids of a text as a JSON array. Needs a vocabulary only, no weights. */
#include "common.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    const struct option options[] = { TEXT_OPTIONS(s) };
    read_options("tokenize", "-m FILE (-p TEXT | -f FILE) [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    size_t length, n;
    char *text = read_prompt(&s, &length);
    sl_model *model = load_model(&s, SL_PARTS_VOCABULARY);
    sl_token *ids = encode(model, &s, text, length, &n);
    if (s.json)
        printf("{\"ids\": ");
    print_ids(ids, n);
    printf(s.json ? ", \"n\": %zu, \"bytes\": %zu}\n" : "\n", n, length);
    end_output();

    free(ids);
    free(text);
    sl_model_free(model);
    return 0;
}
