/* SPDX-License-Identifier: MIT */
/* npy.h - arrays of the reference data: .npy version 1.0, C order, little-endian; float32, or (u)int8 and int32 as they are. */
#ifndef SL_TESTS_NPY_H
#define SL_TESTS_NPY_H

#include "fixture.h"
#include <stdint.h>
#include <string.h>

typedef struct npy {
    unsigned char *block;   /* for free() */
    char type[4];           /* "<f4", "|u1", "|i1", "<i4" */
    size_t n_dims, dims[4]; /* slowest first, as numpy writes them; 1 past n_dims */
    size_t count;           /* product */
    const void *data;
} npy;

static inline npy npy_load(const char *name)
{
    npy a = { .n_dims = 0, .dims = { 1, 1, 1, 1 }, .count = 1 };
    size_t size;
    a.block = fixture_load(name, &size);
    size_t start = size < 10 || memcmp(a.block, "\x93NUMPY\1", 7) ? 0 : 10 + (size_t)(a.block[8] | a.block[9] << 8);
    char head[512] = { 0 };
    if (start && start <= size)
        memcpy(head, a.block + 10, start - 10 < sizeof head ? start - 10 : sizeof head - 1);
    const char *type = strstr(head, "'descr': '"), *shape = strstr(head, "'shape': (");
    if (!type || !shape || strstr(head, "'fortran_order': True")) {
        printf("%s: not a .npy file that this reader knows\n", name);
        exit(1);
    }
    memcpy(a.type, type + 10, 3);
    for (char *p = (char *)shape + 10; *p && *p != ')'; p++)
        if (*p >= '0' && *p <= '9' && a.n_dims < 4) {
            a.dims[a.n_dims] = strtoul(p, &p, 10);
            a.count *= a.dims[a.n_dims++];
            p--;
        }
    a.data = a.block + start;
    if (start + a.count * (size_t)(a.type[2] - '0') != size) {
        printf("%s: %zu bytes, not what its shape says\n", name, size);
        exit(1);
    }
    return a;
}

#endif
