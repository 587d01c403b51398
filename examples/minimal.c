/* SPDX-License-Identifier: MIT */
/* minimal.c - continues a text with nothing but the library and stdio: minimal MODEL.gguf TEXT [TOKENS].
 *
 * The program reads the file and hands the library its bytes, so it runs with a library that was built without threads and without files
 * (-Dthreads=disabled -Dfiles=disabled), as for an embedded target. Weights are used in place: they exist once. */
#include <spacellama/spacellama.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t show(const char *text, size_t length, sl_token id, void *user)
{
    (void)id, (void)user;
    return fwrite(text, 1, length, stdout) != length;
}

/* The whole file, or NULL. */
static void *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    void *bytes = NULL;
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (size > 0 && size < LONG_MAX && fseek(file, 0, SEEK_SET) == 0)
        bytes = malloc((size_t)size);
    if (bytes && fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    *length = (size_t)size;
    return bytes;
}

static sl_status run(sl_model *model, const char *text, uint32_t n_tokens)
{
    sl_token ids[1024];
    size_t n = 0;
    sl_session *session = NULL;
    sl_generate_options options = SL_GENERATE_OPTIONS_INIT;
    options.max_tokens = n_tokens;
    options.on_text = show;
    sl_status status = sl_session_create(&session, model, NULL);
    if (status == SL_OK)
        status = sl_encode(model, text, strlen(text), SL_ENCODE_ADD_SPECIAL, ids, sizeof ids / sizeof *ids, &n);
    if (status == SL_OK)
        status = sl_generate(session, ids, n, &options, NULL);
    sl_session_free(session);
    return status;
}

int main(int argc, char **argv)
{
    long n_tokens = argc == 4 ? strtol(argv[3], NULL, 10) : 64;
    if (argc < 3 || argc > 4 || n_tokens < 1 || n_tokens > 1000000) {
        fprintf(stderr, "usage: minimal MODEL.gguf TEXT [TOKENS]\n");
        return 2;
    }
    sl_source source = { .size = sizeof source, .name = argv[1] };
    size_t length = 0;
    void *bytes = read_file(argv[1], &length);
    if (!bytes) {
        fprintf(stderr, "minimal: %s: it cannot be read\n", argv[1]);
        return 1;
    }
    source.data = bytes;
    source.length = length;
    const sl_source *sources[] = { &source };
    sl_model_options options = SL_MODEL_OPTIONS_INIT;
    options.in_place = 1;
    sl_model *model = NULL;
    sl_status status = sl_model_load_sources(&model, sources, 1, &options);
    if (status == SL_OK)
        status = run(model, argv[2], (uint32_t)n_tokens);
    if (status != SL_OK)
        fprintf(stderr, "minimal: %s\n", sl_last_error());
    else if (fflush(stdout) != 0) {
        fprintf(stderr, "minimal: stdout: it cannot be written\n");
        status = SL_ERR_IO;
    }
    sl_model_free(model);
    free(bytes);
    return status != SL_OK;
}
