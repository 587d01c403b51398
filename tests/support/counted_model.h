/* SPDX-License-Identifier: MIT */
/* counted_model.h - a right model, in memory and in a folder of its own; an allocator that counts what loading takes. */
#ifndef SL_TESTS_COUNTED_MODEL_H
#define SL_TESTS_COUNTED_MODEL_H

#include "check.h"
#include "counting.h"
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static counting memory;
static unsigned char *file;
static size_t file_size;
static char folder[] = "/tmp/spacellama-XXXXXX", path[64];

static sl_model_options counted(sl_allocator *allocator)
{
    *allocator = counting_allocator(&memory);
    return (sl_model_options) { .size = sizeof(sl_model_options), .n_threads = 2, .allocator = allocator };
}

static void no_leak(void) { counting_check_none(&memory); }

static int make_model(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    file = tiny_file(NULL, &file_size);
    tiny_save(path, file, file_size);
    return 0;
}

static int drop_model(void **state)
{
    (void)state;
    free(file);
    unlink(path);
    return rmdir(folder);
}

#endif
