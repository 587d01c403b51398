/* SPDX-License-Identifier: MIT */
/* model.h - a loaded model: its files, vocabulary, hyper-parameters, devices and placed weights. Immutable once made; reference counted. */
#ifndef SL_MODEL_H
#define SL_MODEL_H

#include "arch.h"
#include "tokenizer.h"

/* Something that a device holds for the model. */
typedef struct sl_placed {
    int device;
    void *handle;               /* of a matrix, or */
    void *memory;               /* of a vector or constant */
    size_t bytes;               /* of memory */
} sl_placed;

struct sl_model {
    sl_mem mem;
    sl_log log;
    atomic_uint refs;
    sl_parts parts;
    sl_vocab *vocab;            /* NULL: the files have none */
    const sl_arch *arch;        /* NULL unless weights were asked for */
    sl_layout layout;
    sl_hparams hp;
    void *weights;              /* of the architecture */
    sl_device devices[SL_MAX_DEVICES];
    int n_devices;
    int io_device;              /* of the embedding and the output */
    uint8_t *layer_device;      /* [n_layer] */
    sl_placed *placed;
    size_t n_placed;
    char *architecture, *name;  /* general.architecture and general.name, terminated; "" where absent */
    uint64_t n_params, file_bytes;
    uint64_t identity;          /* of the files, and what was chosen about their arithmetic; 0 without weights */
    sl_memory memory;           /* weights, in_place, load_peak */
    uint64_t memory_cached;     /* of the weights, bytes that came from the cache file */
};

/* Takes over `parts` (also on failure). plan_only 1: everything but the weights' bytes; such a model can be planned, not run. */
sl_status sl_model_open(sl_model **out, sl_parts *parts, const sl_mem *mem, const sl_model_options *options, int plan_only);
void sl_model_close(sl_model *model);

#endif
