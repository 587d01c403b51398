/* SPDX-License-Identifier: MIT */
/* output.c - what the example programs print and write: JSON, .npy files, and which code ran. See common.h. */
#include "common.h"

#include <errno.h>
#include <string.h>

void report(const sl_session *session)
{
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(session, &stats));
    fprintf(stderr, "implementations:");
    const char *label;
    for (size_t i = 0; (label = sl_session_label(session, i)) != NULL; i++)
        fprintf(stderr, " %s", label);
    fprintf(stderr, "\nthreads: %llu\npasses: %llu\n", (unsigned long long)stats.n_threads, (unsigned long long)stats.n_passes);
}

void print_json_report(const sl_session *session)
{
    sl_session_stats stats = { sizeof stats };
    must(sl_session_get_stats(session, &stats));
    const char *label;
    printf("\"labels\": [");
    for (size_t i = 0; (label = sl_session_label(session, i)) != NULL; i++)
        printf("%s\"%s\"", i ? ", " : "", label);
    printf("], \"threads\": %llu, \"passes\": %llu", (unsigned long long)stats.n_threads, (unsigned long long)stats.n_passes);
}

/* Bytes of the well-formed UTF-8 sequence at p, 0 if there is none. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
    size_t n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    int bad = (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : n;
}

void print_json_text(const char *text, size_t length)
{
    const unsigned char *p = (const unsigned char *)text;
    putchar('"');
    for (size_t i = 0, n; i < length; i += n ? n : 1) {
        n = utf8_sequence(p + i, length - i);
        if (!n)
            fputs("\\ufffd", stdout);
        else if (p[i] == '"' || p[i] == '\\')
            printf("\\%c", p[i]);
        else if (p[i] < 0x20 || p[i] == 0x7f)
            printf("\\u%04x", p[i]);
        else
            fwrite(p + i, 1, n, stdout);
    }
    putchar('"');
}

void print_ids(const sl_token *ids, size_t n)
{
    putchar('[');
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i ? ", " : "", (int)ids[i]);
    putchar(']');
}

void end_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("stdout: %s", strerror(errno));
}

FILE *npy_create(const char *path, size_t n_rows, size_t n_columns)
{
    /* Magic, version 1.0, the header's length in two bytes, then a Python dictionary padded so that the data begin at a multiple of 64. */
    char head[128];
    int n = snprintf(head + 10, sizeof head - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", n_rows, n_columns);
    size_t total = ((size_t)n + 10 + 1 + 63) / 64 * 64;
    memcpy(head, "\x93NUMPY\1\0", 8);
    head[8] = (char)((total - 10) & 0xff);
    head[9] = (char)((total - 10) >> 8);
    memset(head + 10 + n, ' ', total - 10 - (size_t)n);
    head[total - 1] = '\n';
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(head, 1, total, file) != total)
        fail("%s: %s", path, strerror(errno));
    return file;
}

void npy_write(FILE *file, const char *path, const float *values, size_t n)
{
    for (size_t i = 0; i < n;) {
        /* Little-endian, whatever this machine is. */
        unsigned char bytes[4096];
        size_t fill = 0;
        for (; i < n && fill < sizeof bytes; i++, fill += 4) {
            uint32_t u;
            memcpy(&u, &values[i], 4);
            for (int k = 0; k < 4; k++)
                bytes[fill + (size_t)k] = (unsigned char)(u >> 8 * k);
        }
        if (fwrite(bytes, 1, fill, file) != fill)
            fail("%s: %s", path, strerror(errno));
    }
}

void npy_close(FILE *file, const char *path)
{
    if (fclose(file) != 0)
        fail("%s: %s", path, strerror(errno));
}
