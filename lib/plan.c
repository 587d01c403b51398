/* SPDX-License-Identifier: MIT */
/* plan.c - planning and running a pass; the pass over text: inputs, the architecture's forward and head, logits out. */
#include "plan.h"

/* I32 [n0, n1] of the host. */
static sl_tensor input_rows(sl_pass *pass, int64_t n0, int64_t n1, const int32_t *host)
{
    return sl_view_slots(sl_view_heads(sl_pass_input(pass, SL_TYPE_I32, n0 * n1, host), n0));
}

static void sight_inputs(sl_pass *pass, sl_sight *sight, const sl_work_sight *from, int64_t n_tok)
{
    sight->kv = from->kv;
    sight->spans[pass->device] = input_rows(pass, 2, from->n_spans, from->spans);
    sight->ranges[pass->device] = input_rows(pass, 2, n_tok, from->ranges);
    sight->marks[pass->device] = sl_pass_input(pass, SL_TYPE_I32, n_tok, from->marks);
}

void sl_text_pass(sl_pass *pass, const sl_model *model, const void *what)
{
    const sl_work *work = what;
    sl_sight sight = { 0 };
    sl_batch batch = { .n_tok = work->n_tok, .kv = work->kv->layers, .sight = work->sight ? &sight : NULL };
    for (int d = 0; d < pass->n_devices; d++) {
        pass->device = d;
        batch.positions[d] = sl_pass_input(pass, SL_TYPE_I32, work->n_tok, work->positions);
        batch.seqs[d] = sl_pass_input(pass, SL_TYPE_I32, work->n_tok, work->seqs);
        batch.pages[d] = input_rows(pass, work->n_pages, work->n_seq, work->pages);
        if (work->sight)
            sight_inputs(pass, &sight, work->sight, work->n_tok);
    }
    pass->device = model->io_device;
    batch.ids = sl_pass_input(pass, SL_TYPE_I32, work->n_tok, work->ids);
    sl_tensor hidden = model->arch->forward(pass, model, &batch);
    const sl_mark mark = sl_pass_mark(pass);
    for (int64_t row = 0; row < work->n_rows; row += SL_HEAD_ROWS) {
        const int64_t n = work->n_rows - row < SL_HEAD_ROWS ? work->n_rows - row : SL_HEAD_ROWS;
        sl_pass_repeat(pass, mark);
        sl_tensor rows = sl_pass_input(pass, SL_TYPE_I32, n, pass->planning ? NULL : work->rows + row);
        sl_tensor out = model->arch->norm(pass, model, sl_op_take_rows(pass, hidden, rows));
        if (!work->vectors)
            out = model->arch->head(pass, model, out);
        if (!pass->planning)
            sl_pass_output(pass, out, work->out + (size_t)row * (size_t)out.ne[0]);
    }
}

void sl_move_pass(sl_pass *pass, const sl_model *model, const void *what)
{
    const sl_move *move = what;
    const sl_mark start = sl_pass_mark(pass);
    for (int l = 0; l < (int)model->hp.n_layer; l++) {
        const sl_kv_layer *kv = &move->kv->layers[l];
        if (!sl_kv_has(model, (uint32_t)l))
            continue;
        pass->device = model->layer_device[l];
        const sl_tensor none = { .ne = { 0 } }, by = sl_pass_input(pass, SL_TYPE_I32, move->n_tok, move->by), pages = sl_pass_input(pass, SL_TYPE_I32, move->n_pages, move->pages);
        const sl_tensor from = sl_pass_input(pass, SL_TYPE_I32, move->n_tok, move->from), to = sl_pass_input(pass, SL_TYPE_I32, move->n_tok, move->to);
        const sl_tensor k = sl_pass_tensor(pass, SL_TYPE_F32, kv->k.ne[1], kv->k.ne[2], move->n_tok, 1), v = sl_pass_tensor(pass, SL_TYPE_F32, kv->k.ne[1], kv->k.ne[2], move->n_tok, 1);
        sl_op_cache_read(pass, k, v, kv->k, kv->v, from, pages, none);
        model->arch->turn(pass, model, l, k, by);
        sl_op_cache_write(pass, k, v, kv->k, kv->v, to, pages, none);
        sl_pass_release(pass, start);
    }
}

sl_status sl_text_plan(sl_plan *plan, const sl_model *model, const sl_kv *kv, const sl_work_sight *sight, int64_t n_batch, int64_t n_seq, int64_t n_pages)
{
    const sl_work work = { .n_tok = n_batch, .n_pages = n_pages, .n_seq = n_seq < n_batch ? n_seq : n_batch, .kv = kv, .sight = sight,
                           .n_rows = n_batch < SL_HEAD_ROWS ? n_batch : SL_HEAD_ROWS };
    return sl_plan_make(plan, model, sl_text_pass, &work);
}

sl_status sl_plan_make(sl_plan *plan, const sl_model *model, sl_pass_fn *fn, const void *work)
{
    *plan = (sl_plan) { .mem = &model->mem };
    sl_pass pass;
    sl_pass_begin(&pass, model->devices, model->n_devices, plan, 1, NULL);
    fn(&pass, model, work);
    sl_status status = sl_pass_end(&pass);
    if (status != SL_OK)
        sl_plan_free(plan);
    return status;
}

sl_status sl_plan_run(sl_plan *plan, const sl_model *model, void *const *memory, sl_pass_fn *fn, const void *work, const atomic_int *cancel)
{
    int begun = 0;
    sl_status status = SL_OK;
    for (; status == SL_OK && begun < model->n_devices; begun++)
        status = model->devices[begun].backend->begin(model->devices[begun].handle, cancel);
    if (status != SL_OK)
        begun--;                /* the one that failed was not begun */
    else {
        sl_pass pass;
        sl_pass_begin(&pass, model->devices, model->n_devices, plan, 0, memory);
        fn(&pass, model, work);
        status = sl_pass_end(&pass);
    }
    while (begun-- > 0) {
        sl_status ended = model->devices[begun].backend->end(model->devices[begun].handle);
        status = status == SL_OK ? ended : status;
    }
    return status;
}
