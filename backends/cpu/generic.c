/* SPDX-License-Identifier: MIT */
/* generic.c - the list of operations that are the same code on every level, groups among them: their kernels are those of their parts. */
#include "cpu.h"

int cpu_any_accepts(const sl_impl *self, void *device, const sl_op_args *args)
{
    (void)self, (void)device, (void)args;
    return 1;
}

const sl_impl cpu_impls_generic[] = {
    SL_ROW(OP_GET_ROWS, { SL_OP_GET_ROWS, "get_rows/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_get_rows_run, NULL },)
    SL_ROW(OP_TAKE_ROWS, { SL_OP_TAKE_ROWS, "take_rows/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_take_rows_run, NULL },)
    SL_ROW(OP_PUT_ROWS, { SL_OP_PUT_ROWS, "put_rows/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_put_rows_run, NULL },)
    SL_ROW(OP_COPY_TO, { SL_OP_COPY_TO, "copy_to/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_copy_to_run, NULL },)
    SL_ROW(OP_SCALE, { SL_OP_SCALE, "scale/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_scale_run, NULL },)
    SL_ROW(OP_ROPE_ANGLES, { SL_OP_ROPE_ANGLES, "rope_angles/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_rope_angles_run, NULL },)
    SL_ROW(OP_TEMPER, { SL_OP_TEMPER, "temper/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_temper_run, NULL },)
    SL_ROW(OP_CACHE_WRITE, { SL_OP_CACHE_WRITE, "cache_write/f32/generic", -1, CPU_SCALAR, cpu_cache_write_accepts, NULL, cpu_cache_write_run, &cpu_cache_write_f32 },)
    SL_ROW(OP_CACHE_READ, { SL_OP_CACHE_READ, "cache_read/generic", -1, CPU_SCALAR, cpu_cache_read_accepts, NULL, cpu_cache_read_run, NULL },)
    SL_ROW(OP_ROUTE, { SL_OP_ROUTE, "route/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_route_run, NULL },)
    SL_ROW(OP_EXPERT_SUM, { SL_OP_EXPERT_SUM, "expert_sum/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_expert_sum_run, NULL },)
    SL_ROW(OP_RMS_NORM_QUANTIZE, { SL_OP_RMS_NORM_QUANTIZE, "rms_norm_quantize/generic", -1, CPU_SCALAR, cpu_rms_norm_quantize_accepts, NULL, cpu_rms_norm_quantize_run, NULL },)
    SL_ROW(OP_MATMUL_MANY, { SL_OP_MATMUL_MANY, "matmul_many/generic", -1, CPU_SCALAR, cpu_matmul_many_accepts, cpu_matmul_many_scratch, cpu_matmul_many_run, NULL },)
    SL_ROW(OP_SWIGLU, { SL_OP_SWIGLU, "swiglu/generic", -1, CPU_SCALAR, cpu_swiglu_accepts, cpu_swiglu_scratch, cpu_swiglu_run, NULL },)
    SL_ROW(OP_EXPERT_SCALE, { SL_OP_EXPERT_SCALE, "expert_scale/generic", -1, CPU_SCALAR, cpu_any_accepts, NULL, cpu_expert_scale_run, NULL },)
};
const size_t cpu_n_impls_generic = sizeof cpu_impls_generic / sizeof *cpu_impls_generic;
