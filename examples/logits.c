/* SPDX-License-Identifier: MIT */
/* logits.c - writes the logits of every position of a text to a .npy file: float32, shape (tokens, vocabulary). */
#include "common.h"

#include <stdlib.h>

/* Ids from "1,2,3". */
static sl_token *parse_tokens(const char *text, size_t *n)
{
    size_t count = 1;
    for (const char *p = text; *p; p++)
        count += *p == ',';
    sl_token *ids = take(count, sizeof *ids);
    const char *p = text;
    for (size_t i = 0; i < count; i++) {
        char *end = NULL;
        unsigned long long id = *p >= '0' && *p <= '9' ? strtoull(p, &end, 10) : 0;
        if (!end || id > INT32_MAX || *end != (i + 1 < count ? ',' : '\0'))
            usage_error("--tokens: entry %zu is not a token id", i + 1);
        ids[i] = (sl_token)id;
        p = end + 1;
    }
    *n = count;
    return ids;
}

/* Computes batch by batch, so that one batch of rows is all that is held. */
static void write_logits(sl_session *session, const sl_token *ids, size_t n, size_t n_batch, size_t n_vocab, const char *path)
{
    if (n_batch > n)
        n_batch = n;
    float *rows = take(n_batch * n_vocab, sizeof *rows);
    FILE *file = npy_create(path, n, n_vocab);
    for (size_t i = 0, k; i < n; i += k) {
        k = n - i < n_batch ? n - i : n_batch;
        must(sl_session_eval(session, ids + i, k, rows, k));
        npy_write(file, path, rows, k * n_vocab);
    }
    npy_close(file, path);
    free(rows);
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    const char *out = NULL, *tokens = NULL;
    const struct option options[] = {
        TEXT_OPTIONS(s),
        { "--tokens", "LIST", "token ids instead of a text: 1,2,3", OPTION_TEXT, &tokens },
        { "-o", "FILE", "the .npy file to write", OPTION_TEXT, &out },
        IMAGE_OPTION(s),
        COMPUTE_OPTIONS(s),
    };
    read_options("logits", "-m FILE (-p TEXT | -f FILE | --tokens LIST) -o OUT.npy [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);
    if (!out)
        usage_error("-o: a file to write is required");
    if (tokens && (s.prompt || s.prompt_file))
        usage_error("--tokens: not together with a text");

    size_t length = 0, n = 0;
    sl_token *ids = tokens ? parse_tokens(tokens, &n) : NULL;
    char *text = tokens ? NULL : read_prompt(&s, &length);
    struct pictures pictures = load_pictures(&s);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    if (text)
        ids = encode(model, &s, text, length, &n);
    if (!n)
        fail("prompt: no tokens");
    sl_model_info info = { sizeof info };
    must(sl_model_get_info(model, &info));
    sl_session *session = open_session(model, &s, n);
    if (n > sl_session_capacity(session))
        fail("prompt: %zu tokens do not fit into a context of %zu", n, sl_session_capacity(session));
    add_pictures(session, &pictures, ids, n);
    write_logits(session, ids, n, s.batch ? (size_t)s.batch : 512, info.n_vocab, out);
    report(session);
    if (s.json) {
        printf("{\"shape\": [%zu, %u], \"path\": ", n, (unsigned)info.n_vocab);
        size_t bytes = 0;
        while (out[bytes])
            bytes++;
        print_json_text(out, bytes);
        printf(", ");
        print_json_report(session);
        printf("}\n");
    }
    end_output();

    sl_session_free(session);
    sl_model_free(model);
    free_pictures(&pictures);
    free(ids);
    free(text);
    return 0;
}
