/* SPDX-License-Identifier: MIT */
/* replay.c - a main for a fuzz target: runs it over the files, and over the files of the folders, that the command line names. So the
 * corpus is an ordinary test, with any compiler. At least one file is expected. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    long size = -1;
    if (f && !fseek(f, 0, SEEK_END))
        size = ftell(f);
    uint8_t *data = size >= 0 ? malloc(size ? (size_t)size : 1) : NULL;    /* exactly as long as the file: a sanitizer sees the next byte */
    if (!data || fseek(f, 0, SEEK_SET) || fread(data, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 1;
}

static int run_folder(const char *path, DIR *folder)
{
    int n = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char file[4096];
        struct stat st;
        if (snprintf(file, sizeof file, "%s/%s", path, entry->d_name) < (int)sizeof file && !stat(file, &st) && S_ISREG(st.st_mode))
            n += run_file(file);
    }
    closedir(folder);
    return n;
}

int main(int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        n += folder ? run_folder(argv[i], folder) : run_file(argv[i]);
    }
    printf("%d files\n", n);
    return !n;
}
