/* SPDX-License-Identifier: MIT */
/* fixture.h - reference data for a test: files of the folder that SL_FIXTURES names. Without the folder the test ends as skipped (77). */
#ifndef SL_TESTS_FIXTURE_H
#define SL_TESTS_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

/* The whole file in a block for free(). A folder without the file is a failure, no folder a skip. */
static inline unsigned char *fixture_load(const char *name, size_t *size)
{
    const char *folder = getenv("SL_FIXTURES");
    if (!folder || !folder[0]) {
        printf("SL_FIXTURES names no folder: skipped\n");
        exit(77);
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) || ftell(file) < 0) {
        printf("%s: cannot be read\n", path);
        exit(1);
    }
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = malloc(*size + !*size);
    if (!data || fread(data, 1, *size, file) != *size) {
        printf("%s: cannot be read\n", path);
        exit(1);
    }
    fclose(file);
    return data;
}

#endif
