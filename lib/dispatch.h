/* SPDX-License-Identifier: MIT */
/* dispatch.h - the way from a wrapper of op.h, which has checked the shapes, to what computes. */
#ifndef SL_DISPATCH_H
#define SL_DISPATCH_H

#include "op.h"

/* Plans or makes one call. Nothing happens if the pass has failed. */
void sl_dispatch(sl_pass *pass, sl_op_args *args);
/* Calls that a device may make as one: plans or makes them all and returns 1 if this one does (or the pass has failed). Else nothing has happened, and the caller
 * dispatches them one by one. Which it is depends on types and shapes only; parts that nobody reads but their successors need no memory until it is known. */
int sl_dispatch_group(sl_pass *pass, sl_op op, sl_op_args *parts, int n_parts);

#endif
