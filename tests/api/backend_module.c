/* SPDX-License-Identifier: MIT */
/* Backends that live in modules, loaded by path: what comes back when one is not there, not a module, of another contract, or unable. */
#include "check.h"
#include "eval.h"
#include "model_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL .n_embd = 32, .n_ff = 32, .n_layer = 2, .n_head = 2, .n_head_kv = 1, .d_head = 16, .n_vocab = 17, .n_ctx = 64

/* Memory and log of the program: all of the one comes back, the other hears the module. */
typedef struct host { size_t n_live; char log[512]; } host;

static void *host_alloc(size_t bytes, size_t alignment, void *user)
{
    void *block = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment + !bytes * alignment);
    ((host *)user)->n_live += block != NULL;
    return block;
}

static void host_free(void *block, size_t bytes, void *user)
{
    (void)bytes;
    ((host *)user)->n_live--;
    free(block);
}

static void host_log(int32_t level, const char *line, void *user)
{
    host *h = user;
    const size_t used = strlen(h->log);
    snprintf(h->log + used, sizeof h->log - used, "%d %s\n", (int)level, line);
}

/* "%s" in `backend` becomes the folder of the modules. part: of the sentence; log: of what was logged. */
static const struct row { const char *backend; sl_status status; const char *part, *log; } rows[] = {
    { "%s/module-refuses.so", SL_ERR_UNSUPPORTED, "module-refuses.so: this machine lacks 3 things", "2 test module: refused\n" },
    { "%s/module-silent.so", SL_ERR_UNSUPPORTED, "module-silent.so: the module opened no device", "" },
    { "%s/module-empty.so", SL_ERR_UNSUPPORTED, "token_embd.weight: F32 has no get_rows on test", "2 test module: opened\n" },
    { "%s/module-contract.so", SL_ERR_BACKEND, "module-contract.so: built for backend contract ", "" },
    { "%s/module-null.so", SL_ERR_BACKEND, "module-null.so: built for backend contract 0", "" },
    { "%s/module-symbol.so", SL_ERR_BACKEND, "module-symbol.so: no symbol sl_backend_module", "" },
    { "%s/module-absent.so", SL_ERR_BACKEND, "module-absent.so", "" },
    { "%s", SL_ERR_BACKEND, "cannot load the module", "" },
    /* Layers shared out between the program's own backend and a module. */
    { "cpu,%s/module-empty.so@1-1", SL_ERR_UNSUPPORTED, "no rope_angles on test", "2 test module: opened\n" },
    { "%s/module-refuses.so@0-0,cpu", SL_ERR_UNSUPPORTED, "module-refuses.so: this machine lacks 3 things", "2 test module: refused\n" },
    { "%s/module-contract.so@0-0,cpu", SL_ERR_BACKEND, "built for backend contract ", "" },
    /* No path, and no name that is known. */
    { "module-empty.so", SL_ERR_UNSUPPORTED, "module-empty.so", "" },
    { "", SL_OK, "", "" },
    { "cpu", SL_OK, "", "" },
};

static const char *folder;

static void check(const struct row *row, const model_file *file)
{
    char backend[2048];
    host h = { 0 };
    const sl_allocator allocator = { .size = sizeof allocator, .alloc = host_alloc, .free = host_free, .user = &h };
    snprintf(backend, sizeof backend, row->backend, folder);        /* the table's own format */
    sl_model_options options = SL_MODEL_OPTIONS_INIT;
    options.backend = backend;
    options.n_threads = 1;
    options.allocator = &allocator;
    options.log = host_log;
    options.log_user = &h;
    const sl_source source = { .size = sizeof source, .data = file->data, .length = file->size, .name = "model" };
    const sl_source *const sources[] = { &source };
    sl_model *model = NULL;
    const sl_status status = sl_model_load_sources(&model, sources, 1, &options);
    if (status != row->status || (status != SL_OK && !strstr(sl_last_error(), row->part)) || strcmp(h.log, row->log))
        fail_msg("%s: %s, '%s', log '%s'", row->backend, sl_status_name(status), sl_last_error(), h.log);
    assert_true((model != NULL) == (status == SL_OK));
    sl_model_free(model);
    if (h.n_live)
        fail_msg("%s: %lld blocks did not come back", row->backend, (long long)h.n_live);
}

static void modules_are_opened_or_refused(void **state)
{
    (void)state;
    const model_spec spec = { SMALL, .seed = 1 };
    model_file *file = model_build(&spec);
    for (int round = 0; round < 3; round++)         /* a module comes and goes */
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            check(&rows[i], file);
    model_build_free(file);
}

int main(void)
{
    folder = getenv("SL_MODULES");
    if (!folder || !folder[0]) {
        printf("SL_MODULES names no folder of modules: skipped\n");
        return 77;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(modules_are_opened_or_refused) };
    return cmocka_run_group_tests_name("backend_module", tests, NULL, NULL);
}
