/* SPDX-License-Identifier: MIT */
/* random_model.h - the model of random weights whose path stands in SL_TINY, and a text in its tokens. Its words mean nothing: what a test expects is made from
 * a run without the thing that is tested. */
#ifndef SL_TESTS_RANDOM_MODEL_H
#define SL_TESTS_RANDOM_MODEL_H

#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <spacellama/spacellama.h>

static sl_model *model;
static uint32_t n_vocab;
static sl_token prompt[64];
static size_t n_prompt;

static int load_model(const char *text, uint32_t n_threads)
{
    const char *path = getenv("SL_TINY");
    const sl_model_options options = { .size = sizeof options, .n_threads = n_threads };
    sl_model_info info = { .size = sizeof info };
    if (!path || sl_model_load(&model, path, &options) != SL_OK || sl_model_get_info(model, &info) != SL_OK ||
        sl_encode(model, text, strlen(text), SL_ENCODE_ADD_SPECIAL, prompt, COUNT(prompt), &n_prompt) != SL_OK) {
        print_error("%s: %s\n", path ? path : "SL_TINY", sl_last_error());
        return 1;
    }
    n_vocab = info.n_vocab;
    return 0;
}

static int unload(void **state)
{
    (void)state;
    sl_model_free(model);
    return 0;
}

#endif
