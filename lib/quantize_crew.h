/* SPDX-License-Identifier: MIT */
/* quantize_crew.h - tensors from one type to another, piece by piece, by several threads. The pieces and their order do not depend on how many there are. */
#ifndef SL_QUANTIZE_CREW_H
#define SL_QUANTIZE_CREW_H

#include "input.h"

/* Threads and their memory. */
typedef struct sl_crew {
    const sl_mem *mem;
    unsigned n_threads;
    uint8_t *slots;             /* results of the pieces under way */
    uint8_t *buffers;           /* of each thread */
    struct sl_crew_hand *hands; /* the threads of a batch */
    uint64_t encode_ns;         /* spent reading and encoding */
    sl_progress_fn progress;    /* or NULL */
    void *progress_user;
    uint64_t done, total;       /* bytes read, for it */
} sl_crew;
sl_status sl_crew_open(sl_crew *crew, const sl_mem *mem, unsigned n_threads);
void sl_crew_close(sl_crew *crew);

/* One tensor. */
typedef struct sl_recode {
    sl_input *input;
    const sl_gguf_tensor *tensor;
    sl_type type;               /* that it becomes; the same: its bytes are copied */
    const float *weights;       /* of the columns: ne[0] * ne[2] * ne[3] numbers, or NULL */
} sl_recode;
/* Reads, checks and encodes the whole of it, and gives its bytes to the sink in order. SL_ERR_NONFINITE, SL_ERR_RANGE: the sentence names tensor and row, the first in the file. */
sl_status sl_crew_recode(sl_crew *crew, const sl_recode *recode, sl_gguf_sink *sink, void *user);

#endif
