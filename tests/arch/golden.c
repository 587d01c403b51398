/* SPDX-License-Identifier: MIT */
/* Golden logits: the bytes that a model of every matrix type gives are pinned in golden.txt, beside the number of the arithmetic that makes them.
 * Every compiler, processor and level must give these. Who changes a canonical step raises sl_numerics_id() and writes the file anew:
 *   test-arch-golden --print >tests/arch/golden.txt */
#include "check.h"
#include "eval.h"
#include "mllama_build.h"
#include "model_build.h"
#include "random_blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 512 columns are two super-blocks, 70 positions two pages of the cache, 101 rows of vocabulary not whole panels of 16. */
enum { N_TOK = 70, N_VOCAB = 101 };
static const model_spec shape = { .n_embd = 256, .n_ff = 512, .n_layer = 1, .n_head = 4, .n_head_kv = 2, .d_head = 64, .n_vocab = N_VOCAB, .n_ctx = 128 };
/* And what types do not decide: experts, biases, fused rows, a tied embedding, YaRN. */
static const struct { const char *name; model_spec spec; } others[] = {
    { "experts", { .n_embd = 64, .n_ff = 96, .n_layer = 2, .n_head = 4, .n_head_kv = 2, .d_head = 24, .n_vocab = N_VOCAB, .n_ctx = 128, .n_expert = 5,
                   .n_expert_used = 2, .seed = 1, .types = { [ROLE_FFN_GATE] = SL_TYPE_Q8_0, [ROLE_FFN_DOWN] = SL_TYPE_F16 } } },
    { "options", { .n_embd = 64, .n_ff = 80, .n_layer = 2, .n_head = 4, .n_head_kv = 1, .d_head = 24, .n_vocab = N_VOCAB, .n_ctx = 128, .tied = 1, .biases = 1,
                   .fused = 1, .scaling = "yarn", .factor = 4, .ctx_original = 32, .seed = 2 } },
};
/* Llama 4: experts in every second layer, chunks that end inside the prompt. */
static const model_spec chunked = { .n_embd = 128, .n_ff = 160, .n_layer = 4, .n_head = 4, .n_head_kv = 2, .d_head = 32, .n_vocab = N_VOCAB, .n_ctx = 128, .n_expert = 5,
    .n_expert_used = 1, .n_ff_expert = 96, .expert_step = 2, .chunk = 24, .qk_norm = 1, .seed = 4, .types = { [ROLE_FFN_GATE] = SL_TYPE_Q8_0, [ROLE_FFN_DOWN] = SL_TYPE_F16,
    [ROLE_ATTN_Q] = SL_TYPE_Q4_0 } };
/* A prompt with two pictures: F16 encoder, gated attention to it, of several types. */
static const mllama_spec seeing = { .n_embd = 64, .n_ff = 80, .n_vocab = N_VOCAB, .n_ctx = 128, .v_embd = 64, .v_ff = 96, .tile_side = 28, .patch_side = 14, .v_layer = 3, .kept = 0x5,
    .types = { { "v.", SL_TYPE_F16 }, { "mm.0", SL_TYPE_BF16 }, { "cross_attn_", SL_TYPE_Q8_0 } }, .seed = 3 };
static const char *const caches[] = { "f32", "f16", "bf16", "q8_0" };
enum { N_CACHES = sizeof caches / sizeof *caches };

static const char *golden_path;     /* beside the source */

/* What is hashed: the file of a model, and whether it is shown pictures. */
typedef struct subject { const void *data; size_t size; int sees; } subject;

static sl_status compute(sl_model *model, const subject *x, const eval_how *how, float *logits)
{
    static const size_t at[] = { 10, 40 };
    const sl_session_options o = { .size = sizeof o, .cache_type = how->cache_type, .n_ctx = how->n_ctx, .n_batch = how->n_batch };
    sl_token ids[N_TOK];
    uint64_t random = 3;
    sl_session *session;
    for (int i = 0; i < N_TOK; i++)
        ids[i] = (sl_token)random_below(&random, N_VOCAB);
    sl_status status = sl_session_create(&session, model, &o);
    for (size_t i = 0; x->sees && i < 2 && status == SL_OK; i++) {
        sl_image *image = mllama_picture(i ? 30 : 50, 40, i);
        ids[at[i]] = N_VOCAB;
        status = sl_session_add_image(session, image);
        sl_image_free(image);
    }
    if (status == SL_OK)
        status = sl_session_eval(session, ids, N_TOK, logits, N_TOK);
    sl_session_free(session);
    return status;
}

/* Hash of the logits of all positions; 0 if the machine lacks the level, or the heads do not fit the cache. */
static uint64_t hash_of(const subject *x, const char *arith, const char *cache, const char *level)
{
    static float logits[N_TOK * N_VOCAB];
    const eval_how how = { .cpu_level = level, .arith = arith, .cache_type = cache, .n_ctx = 128, .n_batch = 33, .n_threads = 2 };
    sl_model *model;
    sl_status status = eval_load(&model, NULL, x->data, x->size, &how);
    if (status == SL_ERR_UNSUPPORTED && level)
        return 0;
    const sl_status loaded = status;
    if (status == SL_OK)
        status = compute(model, x, &how, logits);
    const int fits = !(loaded == SL_OK && status == SL_ERR_UNSUPPORTED && !strcmp(cache, "q8_0"));
    if (status != SL_OK && fits) {
        fprintf(stderr, "golden: %s\n", sl_last_error());
        exit(1);
    }
    sl_model_free(model);
    return fits ? eval_hash(logits, sizeof logits) : 0;
}

/* Called with every model, its name and the arithmetic. */
typedef void visit(const char *name, const char *arith, const subject *x, void *user);

static void name_one(visit *each, void *user, const char *name, const char *arith, const subject *x)
{
    char text[32];
    snprintf(text, sizeof text, "%s%s%s", strcmp(arith, "f32") ? arith : "", strcmp(arith, "f32") ? ":" : "", name);
    each(text, arith, x, user);
}

static void visit_one(visit *each, void *user, const char *name, const char *arith, const model_spec *spec)
{
    model_file *file = model_build(spec);
    name_one(each, user, name, arith, &(subject) { file->data, file->size, 0 });
    model_build_free(file);
}

static void visit_seeing(visit *each, void *user, const char *arith)
{
    subject x = { .sees = 1 };
    tiny *t = mllama_create(&seeing);
    unsigned char *file = tiny_write(t, &x.size);
    x.data = file;
    name_one(each, user, "pictures", arith, &x);
    free(file);
    tiny_free(t);
}

/* All models in f32 arithmetic; in bf16 arithmetic those that have float types. */
static void walk(visit *each, void *user)
{
    static const char *const ariths[] = { "f32", "bf16" };
    for (int a = 0; a < 2; a++) {
        for (const int *type = random_block_types; *type >= 0; type++) {
            model_spec spec = model_spec_of(shape, (sl_type)*type);
            spec.seed = 1000 + (uint64_t)*type;
            if (a == 0 || sl_type_get((uint32_t)*type)->form == SL_ACT_F32)
                visit_one(each, user, random_block_name((sl_type)*type), ariths[a], &spec);
        }
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            visit_one(each, user, others[i].name, ariths[a], &others[i].spec);
        visit_seeing(each, user, ariths[a]);
        visit_one(each, user, "llama4", ariths[a], &chunked);
    }
}

/* ---- the file ---- */

static void print_model(const char *name, const char *arith, const subject *x, void *user)
{
    (void)user;
    printf("%-8s", name);
    for (int c = 0; c < N_CACHES; c++) {
        const uint64_t hash = hash_of(x, arith, caches[c], NULL);
        if (hash)
            printf(" %s %016llx", caches[c], (unsigned long long)hash);
    }
    printf("  model %016llx\n", (unsigned long long)eval_hash(x->data, x->size));
}

static void print_all(void)
{
    printf("# FNV-1a-64 of the logits of models that tests/arch/golden.c makes, by weight type, arithmetic (f32 unless named) and cache, and of the model file itself.\n"
           "# Printed by that test with --print; a change means that sl_numerics_id() must be raised.\n"
           "numerics %u\n", (unsigned)sl_numerics_id());
    walk(print_model, NULL);
}

/* A line of the file, or NULL. */
static const char *line_of(const char *text, const char *name)
{
    const size_t n = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name, n) && line[n] == ' ')
            return line;
    return NULL;
}

/* Where the number behind the word stands in a line; NULL: there is none. */
static const char *find_word(const char *line, const char *word)
{
    char mark[32];
    snprintf(mark, sizeof mark, " %s ", word);
    const char *at = line ? strstr(line, mark) : NULL;
    return at && at < line + strcspn(line, "\n") ? at + strlen(mark) : NULL;
}

static unsigned long long number_of(const char *line, const char *word, int base)
{
    const char *at = find_word(line, word);
    if (!at)
        fail_msg("golden.txt: no %s", word);
    return strtoull(at, NULL, base);
}

static char *read_golden(void)
{
    FILE *f = golden_path ? fopen(golden_path, "rb") : NULL;
    char *text = calloc(1, 1 << 16);
    if (!f || !text || !fread(text, 1, (1 << 16) - 1, f))
        fail_msg("%s", "the pinned hashes cannot be read: give their file as the argument");
    fclose(f);
    return text;
}

/* ---- the comparison ---- */

typedef struct check { const char *text; int n_models, n_wrong, n_levels; } check;

static void check_model(const char *name, const char *arith, const subject *x, void *user)
{
    check *c = user;
    const char *line = line_of(c->text, name);
    if (!line)
        fail_msg("golden.txt: no line for %s", name);
    /* First the model: if that differs, the test is at fault and not the library. */
    assert_true(number_of(line, "model", 16) == eval_hash(x->data, x->size));
    for (int cache = 0; cache < N_CACHES; cache++)
        for (int level = 0; eval_levels[level]; level++) {
            const uint64_t hash = hash_of(x, arith, caches[cache], eval_levels[level]);
            if (!hash && level == 0)        /* the level that every machine has: heads that do not fit */
                assert_null(find_word(line, caches[cache]));
            if (hash && level >= c->n_levels)
                c->n_levels = level + 1;
            if (hash && hash != number_of(line, caches[cache], 16)) {
                print_message("%s, cache %s, level %s: %016llx is not what is pinned\n", name, caches[cache], eval_levels[level], (unsigned long long)hash);
                c->n_wrong++;
            }
        }
    c->n_models++;
}

static void logits_are_what_they_were(void **state)
{
    (void)state;
    check c = { .text = read_golden() };
    assert_int_equal(strtoul(line_of(c.text, "numerics") + strlen("numerics"), NULL, 10), sl_numerics_id());
    walk(check_model, &c);
    print_message("%d models, %d levels of this machine\n", c.n_models, c.n_levels);
    assert_int_equal(c.n_wrong, 0);
    free((char *)c.text);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--print")) {
        print_all();
        return 0;
    }
    golden_path = argc > 1 ? argv[1] : getenv("SL_GOLDEN");
    const struct CMUnitTest tests[] = { cmocka_unit_test(logits_are_what_they_were) };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
