/* SPDX-License-Identifier: MIT */
/* plan.c - inputs, the architecture's forward and head, logits out: the same calls whether they are planned or run. */
#include "plan.h"

static void compute(sl_pass *pass, const sl_model *model, const sl_work *work)
{
    sl_batch batch = { .n_tok = work->n_tok, .kv = work->kv->layers };
    for (int d = 0; d < pass->n_devices; d++) {
        pass->device = d;
        batch.positions[d] = sl_pass_input(pass, SL_TYPE_I32, work->n_tok, work->positions);
        batch.pages[d] = sl_pass_input(pass, SL_TYPE_I32, work->n_pages, work->pages);
    }
    pass->device = model->io_device;
    batch.ids = sl_pass_input(pass, SL_TYPE_I32, work->n_tok, work->ids);
    sl_tensor hidden = model->arch->forward(pass, model, &batch);
    const sl_mark mark = sl_pass_mark(pass);
    for (int64_t row = work->first_row; row < work->n_tok; row += SL_HEAD_ROWS) {
        int32_t rows[SL_HEAD_ROWS];
        const int64_t n = work->n_tok - row < SL_HEAD_ROWS ? work->n_tok - row : SL_HEAD_ROWS;
        for (int64_t i = 0; i < n; i++)
            rows[i] = (int32_t)(row + i);
        sl_pass_repeat(pass, mark);
        sl_tensor logits = model->arch->head(pass, model, sl_op_take_rows(pass, hidden, sl_pass_input(pass, SL_TYPE_I32, n, rows)));
        if (!pass->planning)
            sl_pass_output(pass, logits, work->logits + (size_t)(row - work->first_row) * model->hp.n_vocab);
    }
}

sl_status sl_plan_make(sl_plan *plan, const sl_model *model, const sl_kv *kv, int64_t n_batch)
{
    *plan = (sl_plan) { .mem = &model->mem };
    sl_pass pass;
    sl_pass_begin(&pass, model->devices, model->n_devices, plan, 1, NULL);
    const sl_work work = { .n_tok = n_batch, .n_pages = kv->n_pages, .kv = kv, .first_row = n_batch > SL_HEAD_ROWS ? n_batch - SL_HEAD_ROWS : 0 };
    compute(&pass, model, &work);
    sl_status status = sl_pass_end(&pass);
    if (status != SL_OK)
        sl_plan_free(plan);
    return status;
}

sl_status sl_plan_run(sl_plan *plan, const sl_model *model, void *const *memory, const sl_work *work, const atomic_int *cancel)
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
        compute(&pass, model, work);
        status = sl_pass_end(&pass);
    }
    while (begun-- > 0) {
        sl_status ended = model->devices[begun].backend->end(model->devices[begun].handle);
        status = status == SL_OK ? ended : status;
    }
    return status;
}
