/* SPDX-License-Identifier: MIT */
/* shown.h - from tokens to what a program is shown of them: whole characters, nothing that may still become a stop string. */
#ifndef SL_SHOWN_H
#define SL_SHOWN_H

#include "mem.h"
#include <spacellama/generate.h>

/* No SL_FINISH_...: it goes on. */
#define SL_UNFINISHED UINT32_MAX

typedef struct sl_stop sl_stop;

typedef struct sl_shown {
    sl_mem mem;
    sl_text_fn on_text;         /* or NULL */
    void *user;
    sl_decoder *decoder;
    sl_stop *stops;             /* [n_stop] */
    size_t n_stop;
    char *text;                 /* held back bytes, then those of the current token; only with stop strings */
    size_t held, capacity;
    int ended;                  /* by a stop string or the callback: nothing more is shown */
} sl_shown;

/* Takes what it needs from the options: flags of decoding, stop strings (copied), callback. first 1: the text begins here, 0: it continues one. Frees nothing on failure:
 * sl_shown_close does, also for one that is all zero. */
sl_status sl_shown_open(sl_shown *view, sl_model *model, const sl_generate_options *options, uint32_t first);
void sl_shown_close(sl_shown *view);
/* 1 if nothing but control tokens stands in ids[n]: then what follows is the beginning of a text. */
uint32_t sl_shown_begins(const sl_model *model, const sl_token *ids, size_t n);
/* A token more. Takes no memory. *finish becomes SL_FINISH_STOP or SL_FINISH_CALLBACK, or stays as it is. */
sl_status sl_shown_push(sl_shown *view, sl_token id, uint32_t *finish);
/* Shows what was held back, unfinished characters too, when the text has ended otherwise. */
void sl_shown_flush(sl_shown *view);

#endif
