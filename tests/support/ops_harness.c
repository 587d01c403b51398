/* SPDX-License-Identifier: MIT */
/* ops_harness.c - see ops_harness.h. */
#include "ops_harness.h"

#include "blocks.h"
#include "eval.h"
#include "random_blocks.h"

#include <math.h>

enum { MAX_LEVELS = 8, MAX_THREADS = 3 };

static sl_mem mem;
static sl_device devices[MAX_LEVELS][MAX_THREADS];
static int n_levels;                    /* of this machine, worst first */
static const char *levels[MAX_LEVELS];
static int has_run[SL_OP_COUNT];

int ops_prepare(void **state)
{
    (void)state;
    if (sl_mem_init(&mem, NULL) != SL_OK)
        return -1;
    for (int i = 0; eval_levels[i]; i++) {
        int opened = 0;
        for (unsigned t = 0; t < MAX_THREADS; t++) {
            const sl_backend_options options = { .mem = &mem, .cpu_level = eval_levels[i], .n_threads = t + 1 };
            opened += sl_device_open(&devices[n_levels][t], "cpu", 3, &options) == SL_OK;
        }
        if (opened != 0 && opened != MAX_THREADS)
            return -1;
        levels[n_levels] = eval_levels[i];
        n_levels += opened != 0;
    }
    print_message("levels of this machine:");
    for (int i = 0; i < n_levels; i++)
        print_message(" %s", levels[i]);
    print_message("\n");
    return n_levels ? 0 : -1;
}

int ops_finish(const char *file)
{
    static const char *const files[SL_OP_COUNT] = {
#define FILE_OF(op, stem) [SL_OP_##op] = #stem,
        OPS_FILES(FILE_OF)
#undef FILE_OF
    };
    int n_missing = 0;
    for (int i = 0; i < n_levels; i++)
        for (int t = 0; t < MAX_THREADS; t++)
            sl_device_close(&devices[i][t], &mem);
    for (int op = 0; op < SL_OP_COUNT; op++)
        if (!files[op] || (!strcmp(files[op], file) && !has_run[op])) {
            print_error("%s has no case\n", sl_op_name((sl_op)op));
            n_missing++;
        }
    return n_missing;
}

/* ---- weights ---- */

ops_matrix ops_matrix_random(const char *name, sl_type type, int64_t n_in, int64_t n_out, int64_t n_mat, uint64_t *state)
{
    ops_matrix m = { .weight = { .name = name, .type = type, .form = sl_type_get((uint32_t)type)->form, .n_in = n_in, .n_out = n_out, .n_mat = n_mat } };
    m.row_bytes = random_blocks_bytes(type, (uint64_t)n_in);
    m.data = malloc(m.row_bytes * (size_t)(n_out * n_mat));
    random_blocks(type, (uint64_t)(n_in * n_out * n_mat), 1.0 / sqrt((double)n_in), state, m.data);
    return m;
}

void ops_matrix_row(const ops_matrix *m, int64_t row, float *to)
{
    const sl_type_info *info = sl_type_get((uint32_t)m->weight.type);
    info->decode(m->data + (size_t)row * m->row_bytes, m->weight.n_in / info->block_values, to);
}

static sl_status read_matrix(uint64_t offset, void *to, size_t bytes, void *user)
{
    memcpy(to, ((const ops_matrix *)user)->data + offset, bytes);
    return SL_OK;
}

static sl_status no_progress(uint64_t done, void *user)
{
    (void)done, (void)user;
    return SL_OK;
}

static void place(const sl_device *d, ops_matrix *m, int in_place)
{
    const sl_weight_source source = { .weight = &m->weight, .in_place = in_place ? m->data : NULL, .writable = 1, .read = read_matrix, .progress = no_progress,
                                      .user = m };
    if (d->backend->place(d->handle, &source, &m->weight.handle) != SL_OK)
        fail_msg("place: %s", sl_last_error());
}

static void unplace(const sl_device *d, ops_matrix *m)
{
    d->backend->unplace(d->handle, m->weight.handle);
    m->weight.handle = NULL;
}

/* ---- passes ---- */

sl_tensor ops_input(sl_pass *pass, sl_type type, int64_t n0, int64_t n1, int64_t n2, int64_t n3, const void *host)
{
    sl_tensor t = sl_pass_tensor(pass, type, n0, n1, n2, n3);
    const sl_device *d = &pass->devices[pass->device];
    if (pass->status == SL_OK && !pass->planning)
        pass->status = d->backend->upload(d->handle, t.data, host, t.stride[0] * (size_t)(n0 * n1 * n2 * n3));
    return t;
}

/* What an arena may hold before a pass: anything. */
static void scribble(const sl_device *d, void *arena, size_t bytes, unsigned char byte)
{
    unsigned char *junk = malloc(bytes + 1);
    memset(junk, byte, bytes);
    assert_int_equal(d->backend->upload(d->handle, arena, junk, bytes), SL_OK);
    free(junk);
}

/* Plans, then runs. *running tells how far it came. */
static sl_status plan_and_run(const sl_device *d, const ops_case *c, void *out, unsigned char junk, int *running)
{
    static const atomic_int never = 0;
    sl_plan plan = { .mem = &mem };
    sl_pass pass;
    *running = 0;
    sl_pass_begin(&pass, d, 1, &plan, 1, NULL);
    c->body(&pass, c->user, out);
    sl_status status = sl_pass_end(&pass);
    if (status == SL_OK) {
        void *arena;
        *running = 1;
        assert_int_equal(d->backend->alloc(d->handle, plan.arena[0], &arena), SL_OK);
        scribble(d, arena, plan.arena[0], junk);
        assert_int_equal(d->backend->begin(d->handle, &never), SL_OK);
        sl_pass_begin(&pass, d, 1, &plan, 0, &arena);
        c->body(&pass, c->user, out);
        status = sl_pass_end(&pass);
        assert_int_equal(d->backend->end(d->handle), SL_OK);
        for (size_t i = 0; i < plan.n_steps && status == SL_OK; i++) {
            assert_true(plan.ran[i] > 0);
            has_run[plan.steps[i]->op] = 1;
        }
        d->backend->free(d->handle, arena, plan.arena[0]);
    }
    sl_plan_free(&plan);
    return status;
}

void ops_run(const ops_case *c, void *out)
{
    unsigned char *other = malloc(c->out_bytes), *to = out;
    for (int level = 0; level < n_levels; level++)
        for (int t = 0; t < MAX_THREADS; t++)
            for (int in_place = 0; in_place <= (c->n_matrices > 0); in_place++) {
                const sl_device *d = &devices[level][t];
                int running;
                for (size_t i = 0; i < c->n_matrices; i++)
                    place(d, &c->matrices[i], in_place);
                memset(to, 0xee, c->out_bytes);
                if (plan_and_run(d, c, to, (unsigned char)(0xff - 16 * t - level), &running) != SL_OK)
                    fail_msg("%s, %s, %d threads: %s", c->name, levels[level], t + 1, sl_last_error());
                for (size_t i = 0; i < c->n_matrices; i++)
                    unplace(d, &c->matrices[i]);
                for (size_t i = 0; to == other && i < c->out_bytes; i++)
                    if (other[i] != ((unsigned char *)out)[i])
                        fail_msg("%s: byte %zu with %s, %d threads, %s is not what scalar with one thread gives", c->name, i, levels[level], t + 1,
                                 in_place ? "in place" : "packed");
                to = other;
            }
    free(other);
}

void ops_run_fails(const ops_case *c, int plan, sl_status status, const char *part)
{
    const sl_device *d = &devices[n_levels - 1][1];
    int running;
    void *out = malloc(c->out_bytes + 1);
    for (size_t i = 0; i < c->n_matrices; i++)
        place(d, &c->matrices[i], 0);
    const sl_status got = plan_and_run(d, c, out, 0, &running);
    for (size_t i = 0; i < c->n_matrices; i++)
        unplace(d, &c->matrices[i]);
    free(out);
    if (got != status || running != !plan || !strstr(sl_last_error(), part))
        fail_msg("%s: %s while %s, '%s'; expected %s with '%s'", c->name, sl_status_name(got), running ? "running" : "planning", sl_last_error(),
                 sl_status_name(status), part);
}

/* ---- numbers ---- */

void ops_close(const char *name, const float *got, const double *exact, size_t n, double relative, double absolute)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - exact[i]) <= relative * fabs(exact[i]) + absolute))
            fail_msg("%s: element %zu is %.9g, exactly %.17g", name, i, (double)got[i], exact[i]);
}

float *ops_random(size_t n, float size, uint64_t *state)
{
    float *x = malloc(n * sizeof *x + 1);
    for (size_t i = 0; i < n; i++)
        x[i] = size * random_float(state);
    return x;
}

/* ---- caches ---- */

const struct ops_cache ops_caches[OPS_CACHES] = { { SL_TYPE_F32, "f32", 1 }, { SL_TYPE_F16, "f16", 1 }, { SL_TYPE_BF16, "bf16", 1 }, { SL_TYPE_Q8_0, "q8_0", 32 } };

static void give_memory(sl_pass *pass, sl_tensor *t, const unsigned char *junk, size_t n_junk)
{
    const size_t bytes = t->stride[3] * (size_t)t->ne[3];
    unsigned char *host = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        host[i] = junk[i % n_junk];
    t->data = ops_input(pass, SL_TYPE_I8, (int64_t)bytes, 1, 1, 1, host).data;
    free(host);
}

sl_kv_layer ops_cache_of(sl_pass *pass, sl_type type, int64_t d_head, int64_t n_head_kv, int64_t n_pages, const unsigned char *junk, size_t n_junk)
{
    sl_kv_layer layer;
    uint64_t bytes = 0;
    if (sl_kv_shape(&layer, type, d_head, n_head_kv, n_pages, &bytes) != SL_OK)
        fail_msg("%s", sl_last_error());
    assert_true(bytes == layer.k.stride[3] * (size_t)n_pages + layer.v.stride[3] * (size_t)n_pages);
    give_memory(pass, &layer.k, junk, n_junk);
    give_memory(pass, &layer.v, junk, n_junk);
    return layer;
}

/* A number with so many bits, to nearest, ties to even; smallest: the exponent below which it has fewer. */
static double rounded(double x, int bits, int smallest)
{
    int e;
    frexp(x, &e);
    e = e < smallest ? smallest : e;
    return ldexp(nearbyint(ldexp(x, bits - e)), e - bits);
}

static double bf16_of(double x)
{
    const double y = rounded(x, 8, -125);
    return fabs(y) < 0x1p-40 ? 0 : y;
}

void ops_stored(sl_type cache, int64_t n, const float *x, double *to)
{
    sl_block_a32 b = { .d = 0 };
    for (int64_t i = 0; i < n; i++) {
        if (cache == SL_TYPE_Q8_0 && i % 32 == 0)
            sl_quantize_a32(x + i, &b);
        to[i] = cache == SL_TYPE_F32 ? x[i] : cache == SL_TYPE_F16 ? rounded(x[i], 11, -13) : cache == SL_TYPE_BF16 ? bf16_of(x[i]) : b.q[i % 32] * rounded(b.d, 11, -13);
    }
}

void ops_asked(sl_type cache, int64_t n, const float *q, double *to)
{
    sl_block_a32 b = { .d = 0 };
    for (int64_t i = 0; i < n; i++) {
        if (cache == SL_TYPE_Q8_0 && i % 32 == 0)
            sl_quantize_a32(q + i, &b);
        to[i] = cache == SL_TYPE_BF16 ? bf16_of(q[i]) : cache == SL_TYPE_Q8_0 ? (double)b.q[i % 32] * b.d : q[i];
    }
}

double ops_attention_error(sl_type cache, int64_t d_head, double size)
{
    /* A score is off by its roundings, and its share with it. bf16 rounds each weight by up to 2^-9. */
    return 1e-6 * (1 + size * sqrt((double)d_head) / 4) + (cache == SL_TYPE_BF16 ? 0x1p-9 : 0);
}
