/* SPDX-License-Identifier: MIT */
/* gguf.c - the reader against every kind of wrong file, spelled byte by byte, and against right files that were cut or changed. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "gguf.h"
#include "gguf_build.h"
#include "platform.h"
#include "random.h"

/* ---- hostile files ---- */

#define ALIGN "s'general.alignment' "
#define W "s'w' 4:1 8:32 4:0 8:0 "      /* w: 32 floats at the start */

typedef struct hostile {
    const char *id, *recipe;
    sl_status expected;
    const char *place;      /* what the sentence names */
    uint32_t type;          /* the tensor type that the row is about: left out of a build, it is unsupported first */
} hostile;

static const hostile rows[] = {
    { "H00", "h:0:0", SL_OK },
    { "H01", "", SL_ERR_TRUNCATED, "header" },
    { "H02", "'GGU'", SL_ERR_TRUNCATED, "header" },
    { "H03", "'GGML' 4:3 8:0 8:0", SL_ERR_MAGIC, "header" },
    { "H04", "'GGUF' 4:0 8:0 8:0", SL_ERR_VERSION, "header" },
    { "H05", "'GGUF' 4:1 8:0 8:0", SL_ERR_VERSION, "header" },
    { "H06", "'GGUF' 4:4 8:0 8:0", SL_ERR_VERSION, "header" },
    { "H07", "'GGUF' 4:0x03000000 8:0 8:0", SL_ERR_UNSUPPORTED, "header" },
    { "H07 version 2", "'GGUF' 4:0x02000000 8:0 8:0", SL_ERR_UNSUPPORTED, "header" },
    { "H08", "'GGUF' 4:3 r7:00", SL_ERR_TRUNCATED, "header" },
    { "H09", "h:-1:0", SL_ERR_LIMIT, "header" },
    { "H10", "h:0x7fffffffffffffff:0", SL_ERR_LIMIT, "header" },
    { "H11", "h:1000000000:0", SL_ERR_LIMIT, "header" },
    { "H11 at the limit", "h:65536:0", SL_ERR_TRUNCATED, "tensor 0" },
    { "H11 above it", "h:65537:0", SL_ERR_LIMIT, "header" },
    { "H12", "h:0:-1", SL_ERR_LIMIT, "header" },
    { "H13", "h:0:0x7fffffffffffffff", SL_ERR_LIMIT, "header" },
    { "H14", "h:0:1000000000", SL_ERR_LIMIT, "header" },
    { "H14 at the limit", "h:0:65536", SL_ERR_TRUNCATED, "key 0" },
    { "H14 above it", "h:0:65537", SL_ERR_LIMIT, "header" },

    { "K01", "h:0:1 8:-1 'abc'", SL_ERR_BOUNDS, "key 0" },
    { "K02", "h:0:1 8:1000", SL_ERR_BOUNDS, "key 0" },
    { "K03", "h:0:1 s'' 4:4 4:1", SL_ERR_RANGE, "key 0" },
    { "K04", "h:0:3 s'a' 4:4 4:1 s'b' 4:4 4:2 s'a' 4:4 4:3", SL_ERR_DUPLICATE, "key 'a'" },
    { "K05", "h:0:1 8:3 'a' 1:0 'b' 4:4 4:1", SL_ERR_UTF8, "key 0" },
    { "K06", "h:0:1 S1048576:61 4:4 4:1", SL_ERR_LIMIT, "key 0" },
    { "K06 at the limit", "h:0:1 S65535:61 4:4 4:1", SL_OK },
    { "K06 above it", "h:0:1 S65536:61 4:4 4:1", SL_ERR_LIMIT, "key 0" },
    { "K07", "h:0:1 s'a' 4:13 4:1", SL_ERR_TYPE, "key 'a'" },
    { "K08", "h:0:1 s'a' 4:-1 4:1", SL_ERR_TYPE, "key 'a'" },
    { "K09", "h:0:1 s'a' 4:7 1:2", SL_ERR_RANGE, "key 'a'" },
    { "K09 in an array", "h:0:1 s'a' 4:9 4:7 8:3 1:1 1:0 1:255", SL_ERR_RANGE, "key 'a'" },
    { "K09 in an array of arrays", "h:0:1 s'a' 4:9 4:9 8:1 4:7 8:1 1:2", SL_ERR_RANGE, "key 'a'" },
    { "K10", "h:0:1 s'a' 4:8 8:-1 'xyz'", SL_ERR_BOUNDS, "key 'a'" },
    { "K11", "h:0:1 s'a' 4:8 8:0x40000000 'xyz'", SL_ERR_BOUNDS, "key 'a'" },
    { "K12", "h:0:1 s'a' 4:9 4:10 8:-1", SL_ERR_BOUNDS, "key 'a'" },
    { "K12 with bytes behind", "h:0:1 s'a' 4:9 4:10 8:-1 r61:00", SL_ERR_BOUNDS, "key 'a'" },
    { "K13", "h:0:1 s'a' 4:9 4:10 8:0x2000000000000000 r64:00", SL_ERR_BOUNDS, "key 'a'" },
    { "K14", "h:0:1 s'a' 4:9 4:8 8:1000000000", SL_ERR_BOUNDS, "key 'a'" },
    { "K14 in an array", "h:0:1 s'a' 4:9 4:8 8:2 s'x' 8:-1", SL_ERR_BOUNDS, "key 'a'" },
    { "K15", "h:0:1 s'a' 4:9 4:9 8:2 4:4 8:2 4:1 4:2 4:8 8:2 s'x' s'yz'", SL_OK },
    { "K15 four deep", "h:0:1 s'a' 4:9 4:9 8:1 4:9 8:2 4:9 8:0 4:9 8:1 4:0 8:3 r3:07", SL_OK },
    { "K15 five deep", "h:0:1 s'a' 4:9 4( 4:9 8:1 ) 4:0 8:1 1:0", SL_ERR_DEPTH, "key 'a'" },
    { "K16", "h:0:1 s'a' 4:9 4:99 8:1 4:0", SL_ERR_TYPE, "key 'a'" },
    { "K16 inside", "h:0:1 s'a' 4:9 4:9 8:1 4:99 8:1", SL_ERR_TYPE, "key 'a'" },
    { "K17", "h:0:1 s'a' 4:9 4:4 8:4 r14:00", SL_ERR_TRUNCATED, "key 'a'" },
    { "K17 early", "h:0:1 s'a' 4:9 4:4 8:4 r6:00", SL_ERR_TRUNCATED, "key 'a'" },
    { "K17 arrays", "h:0:1 s'a' 4:9 4:9 8:2 4:4 8:1 4:1", SL_ERR_TRUNCATED, "key 'a'" },
    { "K17 texts", "h:0:1 s'a' 4:9 4:8 8:3 s'abcdefghijklm' s'x' 4:0", SL_ERR_TRUNCATED, "key 'a'" },
    { "K18", "h:0:1 8:2 x:FFFE 4:4 4:1", SL_ERR_UTF8, "key 0" },
    { "K18 escape", "h:0:1 8:2 x:1B5B 4:4 4:1", SL_ERR_UTF8, "key 0" },
    { "K18 delete", "h:0:1 8:1 x:7F 4:4 4:1", SL_ERR_UTF8, "key 0" },
    { "K19", "h:0:1 s'a' 4:9 1000( 4:9 8:1 ) 4:0 8:0", SL_ERR_DEPTH, "key 'a'" },
    { "K20", "h:0:1 s'a' 4:8 8:3 x:FF00FE", SL_OK },
    { "K21", "h:0:1 s'a' 4:8 S16777217:61", SL_ERR_LIMIT, "key 'a'" },
    { "K21 at the limit", "h:0:1 s'a' 4:8 S16777216:61", SL_OK },
    { "K22 array above the limit", "h:0:1 s'a' 4:9 4:0 8:16777217 r16777217:00", SL_ERR_LIMIT, "key 'a'" },
    { "K23 array at the limit", "h:0:1 s'a' 4:9 4:0 8:16777216 r16777216:00", SL_OK },
    { "K24 no value", "h:0:1 s'a' 4:4", SL_ERR_TRUNCATED, "key 'a'" },
    { "K25 no type", "h:0:1 s'a'", SL_ERR_TRUNCATED, "key 'a'" },

    { "A01", "h:0:1 " ALIGN "4:4 4:0", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A02", "h:0:1 " ALIGN "4:4 4:1", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A02 four", "h:0:1 " ALIGN "4:4 4:4", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A03", "h:0:1 " ALIGN "4:4 4:33", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A04", "h:0:1 " ALIGN "4:4 4:0x80000000", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A04 above the limit", "h:0:1 " ALIGN "4:4 4:131072", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A04 at the limit", "h:0:1 " ALIGN "4:4 4:65536", SL_OK },
    { "A05", "h:0:1 " ALIGN "4:5 4:64", SL_OK },
    { "A05 negative", "h:0:1 " ALIGN "4:5 4:-32", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A06", "h:0:1 " ALIGN "4:8 s'32'", SL_ERR_TYPE, "general.alignment" },
    { "A07", "h:0:1 " ALIGN "4:9 4:4 8:1 4:32", SL_ERR_TYPE, "general.alignment" },
    { "A07 empty", "h:0:1 " ALIGN "4:9 4:4 8:0", SL_ERR_TYPE, "general.alignment" },
    { "A08", "h:0:1 " ALIGN "4:10 8:64", SL_OK },
    { "A08 huge", "h:0:1 " ALIGN "4:10 8:-1", SL_ERR_ALIGNMENT, "general.alignment" },
    { "A08 float", "h:0:1 " ALIGN "4:6 f:32", SL_ERR_TYPE, "general.alignment" },
    { "A08 bool", "h:0:1 " ALIGN "4:7 1:1", SL_ERR_TYPE, "general.alignment" },
    { "A09", "h:0:3 s'a' 4:4 4:1 " ALIGN "4:4 4:32 " ALIGN "4:4 4:64", SL_ERR_DUPLICATE, "general.alignment" },

    { "T00", "h:1:0 " W "p32 r128:00", SL_OK },
    { "T01", "h:1:0 s'' 4:1 8:32 4:0 8:0 p32 r128:00", SL_ERR_RANGE, "tensor 0" },
    { "T02", "h:1:0 S64:61 4:1 8:32 4:0 8:0 p32 r128:00", SL_OK },
    { "T02 65", "h:1:0 S65:61 4:1 8:32 4:0 8:0 p32 r128:00", SL_ERR_LIMIT, "tensor 0" },
    { "T03", "h:1:0 8:-1 'w' 4:1 8:32 4:0 8:0 p32 r128:00", SL_ERR_BOUNDS, "tensor 0" },
    { "T04", "h:2:0 " W "s'w' 4:1 8:32 4:0 8:128 p32 r256:00", SL_ERR_DUPLICATE, "tensor 'w'" },
    { "T05", "h:2:0 8:3 'w' 1:0 'a' 4:1 8:32 4:0 8:0 8:3 'w' 1:0 'b' 4:1 8:32 4:0 8:128 p32 r256:00", SL_ERR_UTF8, "tensor 0" },
    { "T06", "h:1:0 s'w' 4:0 4:0 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'" },
    { "T07", "h:1:0 s'w' 4:5 8:1 8:1 8:1 8:1 8:32 4:0 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'" },
    { "T08", "h:1:0 s'w' 4:-1 8:32 4:0 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'" },
    { "T09", "h:1:0 s'w' 4:1 8:-1 4:0 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'" },
    { "T10", "h:1:0 s'w' 4:1 8:0 4:0 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'" },
    { "T11", "h:1:0 s'w' 4:2 8:32 8:0 4:0 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'" },
    { "T12", "h:1:0 s'w' 4:4 8:32 8:1 8:1 8:0 4:0 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'" },
    { "T13", "h:1:0 s'w' 4:2 8:0x100000000 8:0x100000000 4:0 8:0 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'w'" },
    { "T13 wraps to a small number", "h:1:0 s'w' 4:3 8:0x100000000 8:0x80000000 8:0x200000004 4:0 8:0 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'w'" },
    { "T14", "h:1:0 s'w' 4:1 8:0x7fffffffffffffff 4:0 8:0 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'w'" },
    { "T14 of bytes", "h:1:0 s'w' 4:1 8:0x7fffffffffffffff 4:24 8:0 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'w'" },
    { "T15", "h:1:0 s'w' 4:1 8:0x4000000000000000 4:0 8:0 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'w'" },
    { "T16", "h:2:0 s'w' 4:1 8:0x3fffffffffffffff 4:0 8:0 s'v' 4:1 8:32 4:0 8:0 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'w'" },
    { "T17", "h:1:0 s'w' 4:1 8:0x4000000000 4:0 8:0 p32 r128:00", SL_ERR_BOUNDS, "tensor 'w'" },
    { "T17 two", "h:1:0 s'w' 4:1 8:0x8000000000 4:0 8:0 p32 r128:00", SL_ERR_BOUNDS, "tensor 'w'" },
    { "T18", "h:1:0 s'w' 4:1 8:32 4:-1 8:0 p32 r128:00", SL_ERR_TYPE, "tensor 'w'" },
    { "T19", "h:1:0 s'w' 4:1 8:32 4:9999 8:0 p32 r128:00", SL_ERR_TYPE, "tensor 'w'" },
    { "T19 next", "h:1:0 s'w' 4:1 8:32 4:43 8:0 p32 r128:00", SL_ERR_TYPE, "tensor 'w'" },
    { "T20", "h:1:0 s'w' 4:1 8:32 4:4 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T20 5", "h:1:0 s'w' 4:1 8:32 4:5 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T21 31", "h:1:0 s'w' 4:1 8:32 4:31 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T21 32", "h:1:0 s'w' 4:1 8:32 4:32 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T21 33", "h:1:0 s'w' 4:1 8:32 4:33 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T21", "h:1:0 s'w' 4:1 8:32 4:36 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T21 37", "h:1:0 s'w' 4:1 8:32 4:37 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T21 38", "h:1:0 s'w' 4:1 8:32 4:38 8:0 p32 r128:00", SL_ERR_UNSUPPORTED, "tensor 'w'" },
    { "T22", "h:1:0 s'w' 4:1 8:31 4:2 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'", SL_TYPE_Q4_0 },
    { "T22 rows", "h:1:0 s'w' 4:2 8:16 8:2 4:2 8:0 p32 r128:00", SL_ERR_SHAPE, "tensor 'w'", SL_TYPE_Q4_0 },
    { "T23", "h:1:0 s'w' 4:1 8:1 4:0 8:8 p32 r128:00", SL_ERR_ALIGNMENT, "tensor 'w'" },
    { "T24", "h:1:0 s'w' 4:1 8:32 4:0 8:0x10000000000 p32 r128:00", SL_ERR_BOUNDS, "tensor 'w'" },
    { "T24 near", "h:1:0 s'w' 4:1 8:32 4:0 8:32 p32 r128:00", SL_ERR_BOUNDS, "tensor 'w'" },
    { "T25", "h:1:0 s'w' 4:1 8:32 4:0 8:-1 p32 r128:00", SL_ERR_BOUNDS, "tensor 'w'" },
    { "T25 aligned", "h:1:0 s'w' 4:1 8:32 4:0 8:-32 p32 r128:00", SL_ERR_BOUNDS, "tensor 'w'" },
    { "T26", "h:2:0 " W "s'v' 4:1 8:32 4:0 8:96 p32 r256:00", SL_ERR_BOUNDS, "tensor 'v'" },
    { "T26 the same", "h:2:0 " W "s'v' 4:1 8:32 4:0 8:0 p32 r256:00", SL_ERR_BOUNDS, "overlap" },
    { "T26 out of order", "h:3:0 s'u' 4:1 8:32 4:0 8:256 " W "s'v' 4:1 8:40 4:0 8:128 p32 r512:00", SL_ERR_BOUNDS, "tensor 'u'" },
    { "T26 inside", "h:3:0 s'u' 4:1 8:96 4:0 8:0 s'w' 4:1 8:8 4:0 8:384 s'v' 4:1 8:8 4:0 8:64 p32 r512:00", SL_ERR_BOUNDS, "tensor 'v'" },
    { "T27", "h:2:0 " W "s'v' 4:1 8:32 4:0 8:256 p32 r384:00", SL_OK },
    { "T27 out of order", "h:3:0 s'u' 4:1 8:32 4:0 8:256 " W "s'v' 4:1 8:32 4:0 8:128 p32 r384:00", SL_OK },
    { "T28", "h:1:0 " W "p32 r127:00", SL_ERR_TRUNCATED, "tensor 'w'" },
    { "T28 second", "h:2:0 " W "s'v' 4:1 8:32 4:0 8:128 p32 r255:00", SL_ERR_TRUNCATED, "tensor 'v'" },
    { "T28 no padding at the end", "h:1:0 s'w' 4:1 8:3 4:0 8:0 p32 r12:00", SL_OK },
    { "T29", "h:1:0 " W, SL_ERR_TRUNCATED, "tensor 'w'" },
    { "T29 padding only", "h:1:0 " W "p32", SL_ERR_TRUNCATED, "tensor 'w'" },
    { "T30", "h:1:0 s'w' 4:1 8:32 4:0 r3:00", SL_ERR_TRUNCATED, "tensor 'w'" },
    { "T31", "h:4:0 s'a' 4:1 8:0x4000000000000000 4:24 8:0 s'b' 4:1 8:0x4000000000000000 4:24 8:0x4000000000000000 s'c' 4:1 8:0x4000000000000000 4:24 "
             "8:0x8000000000000000 s'd' 4:1 8:0x4000000000000000 4:24 8:0xc000000000000000 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'a'" },
    { "T32", "h:1:0 s'w' 4:1 8:542551296285575072 4:8 8:0 p32 r128:00", SL_ERR_OVERFLOW, "tensor 'w'", SL_TYPE_Q8_0 },
};

/* As a reader of files does: a window that grows by what is asked for. */
static sl_status parse_growing(sl_gguf *g, const sl_mem *mem, const gguf_bytes *file, size_t window)
{
    for (int steps = 0;; steps++) {
        uint64_t need = 0;
        unsigned char *part = malloc(window ? window : 1);
        assert_non_null(part);
        memcpy(part, file->data, window);
        sl_status s = sl_gguf_parse(g, mem, part, window, file->size, &need);
        if (s == SL_OK)
            sl_gguf_free(g, mem);
        free(part);
        if (s != SL_ERR_TRUNCATED || !need)
            return s;
        assert_true(need > window && need <= file->size && steps < 100);
        window = need > 2 * window ? (size_t)need : 2 * window < file->size ? 2 * window : file->size;
    }
}

static void refuses_hostile_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const hostile *row = &rows[i];
        gguf_bytes file = gguf_build(row->recipe);
        counting c = { 0 };
        sl_mem mem = counting_mem(&c);
        sl_gguf g;
        uint64_t need = 99;
        sl_status expected = row->type && !sl_type_get(row->type) ? SL_ERR_UNSUPPORTED : row->expected;
        sl_fail(SL_ERR_INTERNAL, "nothing was said");
        sl_status s = sl_gguf_parse(&g, &mem, file.data, file.size, file.size, &need);
        if (s != expected || (s != SL_OK && row->place && !strstr(sl_last_error(), row->place)))
            fail_msg("%s: %s, not %s (%s)", row->id, sl_status_name(s), sl_status_name(expected), sl_last_error());
        if (s == SL_OK)
            sl_gguf_free(&g, &mem);
        else if (c.peak_bytes > (1u << 20) + 2 * file.size)
            fail_msg("%s: took %zu bytes for a file of %zu", row->id, c.peak_bytes, file.size);
        if (need || c.live_blocks || c.wrong)
            fail_msg("%s: need %zu, %zu blocks leaked", row->id, (size_t)need, c.live_blocks);
        for (size_t window = 0; window <= file.size && window < 400; window += 1 + window / 8)
            if (parse_growing(&g, &mem, &file, window) != expected)
                fail_msg("%s: another verdict through a window of %zu bytes (%s)", row->id, window, sl_last_error());
        counting_check_none(&c);
        gguf_bytes_free(&file);
    }
}

/* ---- typed access ---- */

enum { AS_U64, AS_U32, AS_F32, AS_BOOL, AS_TEXT, AS_ARRAY };

static sl_status access_as(const sl_gguf *g, const char *key, int how, double *out)
{
    uint64_t u64 = 0;
    uint32_t u32 = 0;
    float f32 = 0;
    int flag = 0;
    sl_text text = { 0 };
    sl_gguf_value array = { 0 };
    sl_status s = how == AS_U64    ? sl_gguf_u64(g, key, &u64)
                  : how == AS_U32  ? sl_gguf_u32(g, key, &u32)
                  : how == AS_F32  ? sl_gguf_f32(g, key, &f32)
                  : how == AS_BOOL ? sl_gguf_bool(g, key, &flag)
                  : how == AS_TEXT ? sl_gguf_text(g, key, &text)
                                   : sl_gguf_array(g, key, SL_META_I16, &array);
    *out = (double)u64 + u32 + (double)f32 + flag + (double)text.length + (double)array.count;
    return s;
}

static void gives_values_by_type(void **state)
{
    (void)state;
    static const struct { const char *key; int how; sl_status expected; double value; } cases[] = {
        { "u8", AS_U32, SL_OK, 255 }, { "u32", AS_U32, SL_OK, 4294967295.0 }, { "u32", AS_U64, SL_OK, 4294967295.0 },
        { "i8", AS_U64, SL_ERR_RANGE, 0 }, { "i64", AS_U32, SL_ERR_RANGE, 0 }, { "u64", AS_U32, SL_ERR_RANGE, 0 },
        { "most", AS_U64, SL_OK, 18446744073709551616.0 }, { "most", AS_U32, SL_ERR_RANGE, 0 },
        { "f32", AS_U32, SL_ERR_TYPE, 0 }, { "bool", AS_U32, SL_ERR_TYPE, 0 }, { "text", AS_U32, SL_ERR_TYPE, 0 }, { "shorts", AS_U32, SL_ERR_TYPE, 0 },
        { "absent", AS_U32, SL_ERR_MISSING, 0 }, { "f32", AS_F32, SL_OK, 0.5 }, { "f64", AS_F32, SL_OK, (double)0.1f }, { "u8", AS_F32, SL_ERR_TYPE, 0 },
        { "absent", AS_F32, SL_ERR_MISSING, 0 }, { "bool", AS_BOOL, SL_OK, 1 }, { "u8", AS_BOOL, SL_ERR_TYPE, 0 }, { "absent", AS_BOOL, SL_ERR_MISSING, 0 },
        { "text", AS_TEXT, SL_OK, 3 }, { "empty", AS_TEXT, SL_OK, 0 }, { "texts", AS_TEXT, SL_ERR_TYPE, 0 }, { "absent", AS_TEXT, SL_ERR_MISSING, 0 },
        { "shorts", AS_ARRAY, SL_OK, 3 }, { "i16", AS_ARRAY, SL_ERR_TYPE, 0 }, { "texts", AS_ARRAY, SL_ERR_TYPE, 0 }, { "absent", AS_ARRAY, SL_ERR_MISSING, 0 },
    };
    sl_mem mem;
    sl_gguf g;
    uint64_t need;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    gguf_bytes file = gguf_build_everything(&mem, 3, 32);
    assert_int_equal(sl_gguf_parse(&g, &mem, file.data, file.size, file.size, &need), SL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double value;
        sl_status s = access_as(&g, cases[i].key, cases[i].how, &value);
        if (s != cases[i].expected || value != cases[i].value)
            fail_msg("%s as %d: %s, %g", cases[i].key, cases[i].how, sl_status_name(s), value);
        if (s != SL_OK && !strstr(sl_last_error(), cases[i].key))
            fail_msg("%s is not named: %s", cases[i].key, sl_last_error());
    }
    sl_gguf_free(&g, &mem);
    assert_null(sl_gguf_find(&g, "u8"));    /* what was freed is empty, not dangling */
    gguf_bytes_free(&file);
}

static void refuses_doubles_that_are_no_floats(void **state)
{
    (void)state;
    static const struct { double value; sl_status expected; } cases[] = {
        { FLT_MAX, SL_OK }, { -FLT_MAX, SL_OK }, { 0x1.fffffeffp127, SL_OK }, { 0x1.ffffffp127, SL_ERR_RANGE }, { -1e300, SL_ERR_RANGE }, { 1e-300, SL_OK },
    };
    sl_mem mem;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sl_gguf_writer *w;
        gguf_bytes file = { 0 };
        sl_gguf g;
        uint64_t need;
        float f;
        assert_int_equal(sl_gguf_writer_create(&w, &mem, 3, 32), SL_OK);
        sl_gguf_put_float(w, "x", SL_META_F64, cases[i].value);
        assert_int_equal(sl_gguf_write(w, gguf_bytes_put, &file), SL_OK);
        sl_gguf_writer_free(w);
        assert_int_equal(sl_gguf_parse(&g, &mem, file.data, file.size, file.size, &need), SL_OK);
        assert_int_equal(sl_gguf_f32(&g, "x", &f), cases[i].expected);
        sl_gguf_free(&g, &mem);
        gguf_bytes_free(&file);
    }
}

/* ---- what may happen to a right file ---- */

static void refuses_every_cut(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    gguf_bytes file = gguf_build_everything(&mem, 3, 64);
    size_t end = file.size - 64 + 30;       /* of the last tensor's data: its padding may be missing */
    for (size_t size = 0; size <= file.size; size++) {
        unsigned char *cut = malloc(size ? size : 1);
        sl_gguf g;
        uint64_t need;
        assert_non_null(cut);
        memcpy(cut, file.data, size);
        sl_status s = sl_gguf_parse(&g, &mem, cut, size, size, &need);
        if (s == SL_OK)
            sl_gguf_free(&g, &mem);
        if (size >= end ? s != SL_OK : s != SL_ERR_TRUNCATED && s != SL_ERR_BOUNDS)
            fail_msg("cut at %zu of %zu: %s", size, file.size, sl_status_name(s));
        free(cut);
    }
    counting_check_none(&c);
    gguf_bytes_free(&file);
}

static void survives_changed_bytes(void **state)
{
    (void)state;
    counting c = { 0 };
    sl_mem mem = counting_mem(&c);
    gguf_bytes file = gguf_build_everything(&mem, 3, 32);
    uint64_t seed = 1;
    for (int i = 0; i < 30000; i++) {
        sl_gguf g;
        uint64_t need;
        gguf_bytes copy = { 0 };
        c.peak_bytes = 0;
        gguf_bytes_put(file.data, file.size, &copy);
        for (uint64_t n = 1 + random_below(&seed, 3); n; n--) {
            static const uint64_t nasty[] = { 0, 1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff, 0x4000000000000000 };
            uint64_t value = nasty[random_below(&seed, sizeof nasty / sizeof *nasty)];
            size_t width = (size_t)1 << random_below(&seed, 4);
            gguf_patch(&copy, (size_t)random_below(&seed, file.size - 8), &value, width);
        }
        sl_status s = sl_gguf_parse(&g, &mem, copy.data, copy.size, copy.size, &need);
        if (s == SL_OK)
            sl_gguf_free(&g, &mem);
        if (need || c.live_blocks || c.peak_bytes > (1u << 20) + 2 * file.size)
            fail_msg("change %d: %s, %zu blocks, %zu bytes", i, sl_status_name(s), c.live_blocks, c.peak_bytes);
        gguf_bytes_free(&copy);
    }
    gguf_bytes_free(&file);
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    counting all = { 0 };
    sl_mem mem = counting_mem(&all);
    gguf_bytes file = gguf_build("h:3:2 s'a' 4:4 4:1 s'b' 4:4 4:2 s'u' 4:1 8:32 4:0 8:256 " W "s'v' 4:1 8:32 4:0 8:128 p32 r384:00");
    for (size_t n = 1;; n++) {
        counting c = { .fail_at = n };
        sl_gguf g;
        uint64_t need;
        mem = counting_mem(&c);
        sl_status s = sl_gguf_parse(&g, &mem, file.data, file.size, file.size, &need);
        if (s == SL_OK) {
            sl_gguf_free(&g, &mem);
            assert_true(n > 5);
            break;
        }
        assert_int_equal(s, SL_ERR_NOMEM);
        counting_check_none(&c);
    }
    gguf_bytes_free(&file);
}

/* ---- many of everything: time grows with the file, not with its square ---- */

static gguf_bytes write_many(const sl_mem *mem, size_t n_keys, size_t n_tensors)
{
    sl_gguf_writer *w;
    gguf_bytes file = { 0 };
    char name[32];
    assert_int_equal(sl_gguf_writer_create(&w, mem, 3, 32), SL_OK);
    for (size_t i = 0; i < n_keys; i++) {
        snprintf(name, sizeof name, "key.%zu", i);
        sl_gguf_put_int(w, name, SL_META_U32, (int64_t)i);
    }
    for (size_t i = 0; i < n_tensors; i++) {
        snprintf(name, sizeof name, "blk.%zu.weight", i);
        sl_gguf_put_tensor(w, name, SL_TYPE_F32, 1, (const uint64_t[]) { 1 }, gguf_everything_matrix, NULL, NULL);
    }
    assert_int_equal(sl_gguf_write(w, gguf_bytes_put, &file), SL_OK);
    sl_gguf_writer_free(w);
    return file;
}

static void reads_many_in_linear_time(void **state)
{
    (void)state;
    static const struct { const char *id; size_t n_keys, n_tensors; } cases[] = { { "D01", 40000, 0 }, { "D02", 0, 20000 }, { "both limits", 65536, 65536 } };
    sl_mem mem;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gguf_bytes file = write_many(&mem, cases[i].n_keys, cases[i].n_tensors);
        sl_gguf g;
        uint64_t need, start = sl_clock_ns();
        char name[32];
        uint32_t n = 0;
        assert_int_equal(sl_gguf_parse(&g, &mem, file.data, file.size, file.size, &need), SL_OK);
        for (size_t k = 0; k < cases[i].n_keys; k++) {
            snprintf(name, sizeof name, "key.%zu", k);
            assert_int_equal(sl_gguf_u32(&g, name, &n), SL_OK);
            assert_int_equal(n, k);
        }
        for (size_t k = 0; k < cases[i].n_tensors; k++) {
            snprintf(name, sizeof name, "blk.%zu.weight", k);
            assert_true(sl_gguf_find_tensor(&g, name) == &g.tensors[k]);
        }
        uint64_t took = sl_clock_ns() - start;
        print_message("%s: parsed and searched in %u us\n", cases[i].id, (unsigned)(took / 1000));
        assert_true(took < 5000000000u);
        sl_gguf_free(&g, &mem);
        gguf_bytes_free(&file);
    }
}

/* All tensors in reverse order: the sort that looks for overlaps is not quadratic either. */
static void sorts_many_tensors(void **state)
{
    (void)state;
    sl_mem mem;
    sl_gguf g;
    uint64_t need;
    assert_int_equal(sl_mem_init(&mem, NULL), SL_OK);
    gguf_bytes file = write_many(&mem, 0, 60000);
    assert_int_equal(sl_gguf_parse(&g, &mem, file.data, file.size, file.size, &need), SL_OK);
    for (size_t round = 0; round < 3; round++) {
        size_t at = 24;
        for (size_t i = 0; i < 60000; i++) {
            uint64_t offset = round == 0 ? 59999 - i : i * 7919 % 60000;    /* 7919 and 60000 have no common divisor */
            if (round == 2 && i == 12345)
                offset = i == 0 ? 1 : 0;                                    /* one place twice */
            offset *= 32;
            at += 8 + strlen(g.tensors[i].name) + 4 + 8 + 4;
            gguf_patch(&file, at, &offset, 8);
            at += 8;
        }
        sl_gguf other;
        uint64_t start = sl_clock_ns();
        sl_status s = sl_gguf_parse(&other, &mem, file.data, file.size, file.size, &need);
        assert_true(sl_clock_ns() - start < 5000000000u);
        assert_int_equal(s, round == 2 ? SL_ERR_BOUNDS : SL_OK);
        if (s == SL_OK)
            sl_gguf_free(&other, &mem);
    }
    sl_gguf_free(&g, &mem);
    gguf_bytes_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_hostile_files),
        cmocka_unit_test(gives_values_by_type),
        cmocka_unit_test(refuses_doubles_that_are_no_floats),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(survives_changed_bytes),
        cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test(reads_many_in_linear_time),
        cmocka_unit_test(sorts_many_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
