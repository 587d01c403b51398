/* SPDX-License-Identifier: MIT */
/* tokenizer.c - vocabularies as hostile files have them, roles, and texts of every size. */
#define _DEFAULT_SOURCE     /* MAP_ANONYMOUS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include "check.h"
#include "counting.h"
#include "gguf_build.h"
#include "vocab_build.h"

#define N(array) (sizeof array / sizeof *array)

/* ---- files ---- */

#define KEY(key) " s'tokenizer.ggml." key "' "
#define TEXT(key, text) KEY(key) "4:8 s'" text "' "
#define U32(key, n) KEY(key) "4:4 4:" #n " "
#define ARRAY(key, type, count) KEY(key) "4:9 4:" #type " 8:" #count " "
#define SPM TEXT("model", "llama")
#define BPE TEXT("model", "gpt2") TEXT("pre", "gpt-2") U32("unknown_token_id", 0)
#define THREE ARRAY("tokens", 8, 3) "s'<unk>' s'a' s'b' "
#define NO_MERGES ARRAY("merges", 8, 0)

static const struct row {
    const char *id;
    int n_keys;
    const char *recipe;
    sl_status status;
    int n_warnings;             /* log lines */
    const char *sentence;       /* part of the error, or NULL */
} rows[] = {
    { "no keys", 0, "", SL_OK, 0, NULL },
    { "foreign keys", 1, " s'general.name' 4:8 s'x' ", SL_OK, 0, NULL },
    { "none", 1, TEXT("model", "none"), SL_OK, 0, NULL },
    { "no model", 1, THREE, SL_ERR_MISSING, 0, "tokenizer.ggml.model" },
    { "model as number", 1, U32("model", 1), SL_ERR_TYPE, 0, "tokenizer.ggml.model" },
    { "fine", 2, SPM THREE, SL_OK, 1, NULL },
    { "fine pairs", 5, BPE THREE NO_MERGES, SL_OK, 1, NULL },
    { "V01", 1, SPM, SL_ERR_MISSING, 0, "tokenizer.ggml.tokens" },
    { "V02", 2, SPM ARRAY("tokens", 8, 0), SL_ERR_MISSING, 0, "empty" },
    { "V03", 2, SPM ARRAY("tokens", 4, 2) "4:1 4:2 ", SL_ERR_TYPE, 0, "tokenizer.ggml.tokens" },
    { "V04", 2, SPM TEXT("tokens", "abc"), SL_ERR_TYPE, 0, "tokenizer.ggml.tokens" },
    { "V05", 3, SPM THREE ARRAY("scores", 6, 2) "f:0 f:1 ", SL_ERR_SHAPE, 0, "tokenizer.ggml.scores" },
    { "V05 longer", 3, SPM THREE ARRAY("scores", 6, 4) "f:0 f:1 f:0 f:0 ", SL_ERR_SHAPE, 0, "tokenizer.ggml.scores" },
    { "V06", 3, SPM THREE ARRAY("scores", 0, 3) "1:0 1:1 1:2 ", SL_ERR_TYPE, 0, "tokenizer.ggml.scores" },
    { "V07", 3, SPM THREE ARRAY("token_type", 0, 3) "1:1 1:1 1:1 ", SL_ERR_TYPE, 0, "tokenizer.ggml.token_type" },
    { "V08", 3, SPM THREE ARRAY("token_type", 5, 2) "4:1 4:1 ", SL_ERR_SHAPE, 0, "tokenizer.ggml.token_type" },
    { "V09", 3, SPM THREE ARRAY("token_type", 5, 3) "4:2 4:999 4:1 ", SL_ERR_RANGE, 0, "999" },
    { "V09 zero", 3, SPM THREE ARRAY("token_type", 5, 3) "4:2 4:0 4:1 ", SL_ERR_RANGE, 0, "token 1" },
    { "V09 negative", 3, SPM THREE ARRAY("token_type", 5, 3) "4:2 4:-1 4:1 ", SL_ERR_RANGE, 0, "-1" },
    { "V10", 2, SPM ARRAY("tokens", 8, 5) "5( s'<unk>' ) ", SL_OK, 1, NULL },
    { "V11", 3, SPM THREE U32("bos_token_id", 1073741824), SL_OK, 2, NULL },
    { "V12", 3, SPM THREE U32("bos_token_id", 4294967295), SL_OK, 2, NULL },
    { "V13", 3, SPM THREE U32("unknown_token_id", 3), SL_OK, 2, NULL },
    { "V13 64 bits", 3, SPM THREE KEY("eos_token_id") "4:10 8:0xffffffffffffffff ", SL_OK, 2, NULL },
    { "V13 negative", 3, SPM THREE KEY("eos_token_id") "4:5 4:-1 ", SL_OK, 2, NULL },
    { "ids of any width", 5, SPM THREE KEY("eos_token_id") "4:0 1:1 " KEY("bos_token_id") "4:11 8:2 " KEY("eot_token_id") "4:3 2:2 ", SL_OK, 1, NULL },
    { "V14", 3, SPM THREE TEXT("eos_token_id", "2"), SL_ERR_TYPE, 0, "tokenizer.ggml.eos_token_id" },
    { "V14 float", 3, SPM THREE KEY("eos_token_id") "4:6 f:2 ", SL_ERR_TYPE, 0, "tokenizer.ggml.eos_token_id" },
    { "V14 array", 3, SPM THREE ARRAY("eos_token_id", 4, 1) "4:2 ", SL_ERR_TYPE, 0, "tokenizer.ggml.eos_token_id" },
    { "V15", 2, SPM ARRAY("tokens", 8, 2) "s'a' s'b' ", SL_ERR_MISSING, 0, "byte 0" },
    { "V15 given", 3, SPM ARRAY("tokens", 8, 2) "s'a' s'b' " U32("unknown_token_id", 1), SL_OK, 1, NULL },
    { "V15 kind", 3, SPM ARRAY("tokens", 8, 2) "s'a' s'b' " ARRAY("token_type", 5, 2) "4:2 4:1 ", SL_OK, 1, NULL },
    { "V15 pairs", 4, TEXT("model", "gpt2") TEXT("pre", "gpt-2") THREE NO_MERGES, SL_ERR_MISSING, 0, "byte 0" },
    { "V16", 3, SPM ARRAY("tokens", 8, 2) "s'<unk>' s'<0xZZ>' " ARRAY("token_type", 5, 2) "4:2 4:6 ", SL_ERR_RANGE, 0, "<0xZZ>" },
    { "V17", 3, SPM ARRAY("tokens", 8, 2) "s'<unk>' s'<0x-1>' " ARRAY("token_type", 5, 2) "4:2 4:6 ", SL_ERR_RANGE, 0, "<0x-1>" },
    { "V17 longer", 3, SPM ARRAY("tokens", 8, 2) "s'<unk>' s'<0x100>' " ARRAY("token_type", 5, 2) "4:2 4:6 ", SL_ERR_RANGE, 0, "<0x100>" },
    { "V17 text", 3, SPM ARRAY("tokens", 8, 2) "s'<unk>' s'<0xZZ>' " ARRAY("token_type", 5, 2) "4:2 4:1 ", SL_OK, 1, NULL },
    { "V18", 2, SPM ARRAY("tokens", 8, 2) "s'<unk>' 8:3 x:FFFEFD ", SL_OK, 1, NULL },
    { "V19", 2, SPM ARRAY("tokens", 8, 2) "s'<unk>' S1048576:61 ", SL_ERR_LIMIT, 0, "token 1" },
    { "V19 at the limit", 2, SPM ARRAY("tokens", 8, 2) "s'<unk>' S65536:61 ", SL_OK, 1, NULL },
    { "V19 one too long", 2, SPM ARRAY("tokens", 8, 2) "s'<unk>' S65537:61 ", SL_ERR_LIMIT, 0, "token 1" },
    { "V19 too many", 2, SPM ARRAY("tokens", 8, 1048577) "1048577( S1:61 ) ", SL_ERR_LIMIT, 0, "1048577 tokens" },
    { "V20", 4, BPE THREE, SL_ERR_MISSING, 0, "tokenizer.ggml.merges" },
    { "V21 ab", 5, BPE THREE ARRAY("merges", 8, 1) "s'ab' ", SL_ERR_RANGE, 0, "\"ab\"" },
    { "V21 empty", 5, BPE THREE ARRAY("merges", 8, 1) "8:0 ", SL_ERR_RANGE, 0, "tokenizer.ggml.merges" },
    { "V21 a b c", 5, BPE THREE ARRAY("merges", 8, 2) "8:3 x:612062 8:5 x:6120622063 ", SL_ERR_RANGE, 0, "entry 1, \"a b c\"" },
    { "V21 blank", 5, BPE THREE ARRAY("merges", 8, 1) "8:1 x:20 ", SL_ERR_RANGE, 0, "tokenizer.ggml.merges" },
    { "V21 blanks", 5, BPE THREE ARRAY("merges", 8, 1) "8:2 x:2020 ", SL_ERR_RANGE, 0, "tokenizer.ggml.merges" },
    { "V21 no right", 5, BPE THREE ARRAY("merges", 8, 1) "8:2 x:6120 ", SL_ERR_RANGE, 0, "tokenizer.ggml.merges" },
    { "V21 no left", 5, BPE THREE ARRAY("merges", 8, 1) "8:2 x:2061 ", SL_ERR_RANGE, 0, "tokenizer.ggml.merges" },
    { "V21 blank first", 5, BPE THREE ARRAY("merges", 8, 1) "8:3 x:202061 ", SL_OK, 1, NULL },
    { "V21 as numbers", 5, BPE THREE ARRAY("merges", 4, 1) "4:1 ", SL_ERR_TYPE, 0, "tokenizer.ggml.merges" },
    { "V22", 4, TEXT("model", "gpt2") TEXT("pre", "qwen2") THREE NO_MERGES, SL_ERR_UNSUPPORTED, 0, "qwen2" },
    { "V22 as number", 4, TEXT("model", "gpt2") U32("pre", 3) THREE NO_MERGES, SL_ERR_TYPE, 0, "tokenizer.ggml.pre" },
    { "V24", 2, TEXT("model", "bert") THREE, SL_ERR_UNSUPPORTED, 0, "bert" },
    { "V25", 2, TEXT("model", "no_vocab") " s'llama.vocab_size' 4:4 4:4294967295 ", SL_OK, 0, NULL },
    { "V26", 2, SPM ARRAY("tokens", 8, 4) "s'<unk>' s'' s'' s'a' ", SL_OK, 1, NULL },
    { "V26 special", 3, SPM ARRAY("tokens", 8, 4) "s'<unk>' s'' s'' s'a' " ARRAY("token_type", 5, 4) "4:2 4:3 4:4 4:1 ", SL_OK, 1, NULL },
    { "V26 byte", 3, SPM ARRAY("tokens", 8, 2) "s'<unk>' s'' " ARRAY("token_type", 5, 2) "4:2 4:6 ", SL_ERR_RANGE, 0, "byte token 1" },
    { "V27", 3, SPM THREE ARRAY("token_type", 8, 3) "s'1' s'1' s'1' ", SL_ERR_TYPE, 0, "tokenizer.ggml.token_type" },
    { "V28", 3, SPM THREE ARRAY("precompiled_charsmap", 0, 4) "x:FFFFFFFF ", SL_OK, 1, NULL },
    { "V29", 5, BPE THREE ARRAY("merges", 8, 3) "8:3 x:612061 8:5 x:6161206161 8:3 x:712071 ", SL_OK, 1, NULL },
    { "score NaN", 3, SPM THREE ARRAY("scores", 6, 3) "f:0 4:0x7fc00000 f:0 ", SL_ERR_NONFINITE, 0, "token 1" },
    { "score infinite", 3, SPM THREE ARRAY("scores", 6, 3) "f:0 4:0x7f800000 4:0xff800000 ", SL_OK, 1, NULL },
    { "flag as number", 3, SPM THREE U32("add_bos_token", 1), SL_ERR_TYPE, 0, "tokenizer.ggml.add_bos_token" },
    { "flag as text", 3, SPM THREE TEXT("add_eos_token", "yes"), SL_ERR_TYPE, 0, "tokenizer.ggml.add_eos_token" },
    { "prefix as text", 3, SPM THREE TEXT("add_space_prefix", "yes"), SL_ERR_TYPE, 0, "tokenizer.ggml.add_space_prefix" },
};

static gguf_bytes build(const struct row *row)
{
    size_t n = strlen(row->recipe) + 32;
    char *recipe = malloc(n);
    snprintf(recipe, n, "h:0:%d %s", row->n_keys, row->recipe);
    gguf_bytes file = gguf_build(recipe);
    free(recipe);
    return file;
}

/* Encodes and decodes a little; whatever the vocabulary is, it must be sound. */
static void use(const char *id, const sl_vocab *vocab)
{
    static const char text[] = "<unk>a b\xff<|x|>aaaa  \n ab";
    sl_token ids[200];
    static char back[70000];
    size_t n, length;
    for (uint32_t flags = 0; flags < 4; flags++) {
        assert_int_equal(sl_vocab_encode(vocab, text, sizeof text, flags, ids, N(ids), &n), SL_OK);
        for (size_t i = 0; i < n; i++)
            assert_true(ids[i] >= 0 && (uint32_t)ids[i] < sl_vocab_count(vocab));
        if (sl_vocab_decode(vocab, ids, n, flags, back, sizeof back, &length) != SL_OK)
            fail_msg("%s: %s", id, sl_last_error());
    }
}

static void reads_hostile_files(void **state)
{
    (void)state;
    for (size_t r = 0; r < N(rows); r++) {
        counting count = { 0 };
        sl_mem mem = counting_mem(&count);
        gguf_bytes file = build(&rows[r]);
        vocab_test v;
        sl_status status = vocab_open(&v, &mem, file.data, file.size, NULL);
        if (status != rows[r].status)
            fail_msg("%s: %s, not %s (%s)", rows[r].id, sl_status_name(status), sl_status_name(rows[r].status), sl_last_error());
        if (rows[r].sentence && !strstr(sl_last_error(), rows[r].sentence))
            fail_msg("%s: \"%s\" does not say \"%s\"", rows[r].id, sl_last_error(), rows[r].sentence);
        if (v.n_warnings != rows[r].n_warnings && status == SL_OK)
            fail_msg("%s: %d warnings, not %d", rows[r].id, v.n_warnings, rows[r].n_warnings);
        if (v.vocab)
            use(rows[r].id, v.vocab);
        else
            assert_true(status != SL_OK || !strstr(rows[r].recipe, "tokens"));
        assert_true(count.peak_bytes < (1 << 20) + 12 * file.size);
        vocab_close(&v);
        counting_check_none(&count);
    }
}

static gguf_bytes build_text(int n_keys, const char *recipe)
{
    struct row row = { .n_keys = n_keys, .recipe = recipe };
    return build(&row);
}

/* What the rows above leave behind: which id wins, what is matched, who has which role. */
static void settles_odd_files(void **state)
{
    (void)state;
    static const struct { int n_keys; const char *recipe, *text; sl_token ids[8]; size_t n; } odd[] = {
        { 3, SPM ARRAY("tokens", 8, 5) "s'<unk>' s'a' s'a' s'b' s'a' " " s'tokenizer.ggml.add_space_prefix' 4:7 1:0 ", "aba", { 1, 3, 1 }, 3 },   /* V10 */
        { 3, SPM ARRAY("tokens", 8, 4) "s'<unk>' s'' s'' s'a' " " s'tokenizer.ggml.add_space_prefix' 4:7 1:0 ", "aa", { 3, 3 }, 2 },           /* V26 */
        { 4, SPM ARRAY("tokens", 8, 4) "s'<unk>' s'' s'' s'a' " ARRAY("token_type", 5, 4) "4:2 4:3 4:4 4:1 "
          " s'tokenizer.ggml.add_space_prefix' 4:7 1:0 ", "aa", { 3, 3 }, 2 },
        { 3, SPM THREE " s'tokenizer.ggml.add_space_prefix' 4:7 1:0 ", "axb", { 1, 0, 2 }, 3 },                                                  /* V15 */
        { 5, BPE THREE NO_MERGES, "axb", { 1, 0, 2 }, 3 },
        { 5, BPE ARRAY("tokens", 8, 4) "s'<unk>' s'a' s'b' s'<unk>' " ARRAY("merges", 8, 1) "8:3 x:612062 ", "ab<unk>", { 1, 2, 0 }, 3 },
    };
    for (size_t i = 0; i < N(odd); i++) {
        gguf_bytes file = build_text(odd[i].n_keys, odd[i].recipe);
        vocab_test v;
        sl_token ids[16];
        size_t n;
        assert_int_equal(vocab_open(&v, NULL, file.data, file.size, NULL), SL_OK);
        assert_int_equal(sl_vocab_encode(v.vocab, odd[i].text, strlen(odd[i].text), 0, ids, 16, &n), SL_OK);
        if (i == N(odd) - 1)    /* nothing says that <unk> is special: its characters are unknown, each */
            assert_int_equal(n, 7);
        else
            assert_int_equal(n, odd[i].n);
        assert_memory_equal(ids, odd[i].ids, odd[i].n * sizeof *ids);
        vocab_close(&v);
    }
}

static void gives_roles(void **state)
{
    (void)state;
    static const struct { int n_keys; const char *recipe; sl_token bos, eos, eot, eom, unknown; const char *ends; } cases[] = {
        { 2, SPM THREE, 1, 2, -1, -1, 0, "001" },
        { 3, SPM THREE U32("bos_token_id", 77), 1, 2, -1, -1, 0, "001" },      /* ignored: the default stays */
        { 2, SPM ARRAY("tokens", 8, 2) "s'<unk>' s'x' ", 1, -1, -1, -1, 0, "00" },
        { 5, BPE THREE NO_MERGES, -1, -1, -1, -1, 0, "000" },
        { 2, SPM ARRAY("tokens", 8, 6) "s'<unk>' s'<|end|>' s'x' s'<|eot_id|>' s'</s>' s'<|eom_id|>' ", 1, 2, 3, -1, 0, "011111" },
        { 4, SPM ARRAY("tokens", 8, 4) "s'<unk>' s'<|eot|>' s'<|eom|>' s'<|eot_id|>' " U32("eot_token_id", 1) U32("eom_token_id", 2), 1, 2, 1, 2, 0, "0111" },
        { 3, SPM ARRAY("tokens", 8, 4) "s'<unk>' s'<|eot|>' s'<|eom|>' s'x' " U32("eos_token_id", 3), 1, 3, -1, -1, 0, "0001" },
    };
    for (size_t i = 0; i < N(cases); i++) {
        gguf_bytes file = build_text(cases[i].n_keys, cases[i].recipe);
        vocab_test v;
        assert_int_equal(vocab_open(&v, NULL, file.data, file.size, NULL), SL_OK);
        assert_int_equal(sl_vocab_special(v.vocab, "bos"), cases[i].bos);
        assert_int_equal(sl_vocab_special(v.vocab, "eos"), cases[i].eos);
        assert_int_equal(sl_vocab_special(v.vocab, "eot"), cases[i].eot);
        assert_int_equal(sl_vocab_special(v.vocab, "eom"), cases[i].eom);
        assert_int_equal(sl_vocab_special(v.vocab, "unknown"), cases[i].unknown);
        assert_int_equal(sl_vocab_special(v.vocab, "padding"), -1);
        assert_int_equal(sl_vocab_special(v.vocab, "separator"), -1);
        assert_int_equal(sl_vocab_special(v.vocab, "nobody"), -1);
        assert_int_equal(sl_vocab_count(v.vocab), strlen(cases[i].ends));
        for (sl_token id = 0; cases[i].ends[id]; id++) {
            sl_token_info info;
            assert_int_equal(sl_vocab_is_end(v.vocab, id), cases[i].ends[id] == '1');
            assert_int_equal(sl_vocab_token(v.vocab, id, &info), SL_OK);
            assert_int_equal(info.end, cases[i].ends[id] == '1');
            if (info.length > 2 && info.text[1] == '|' && info.text[info.length - 3] == 'd')    /* <|eot_id|>, <|eom_id|> */
                assert_int_equal(info.kind, SL_TOKEN_CONTROL);
        }
        sl_token_info info;
        assert_int_equal(sl_vocab_is_end(v.vocab, -1) + sl_vocab_is_end(v.vocab, 1000), 0);
        assert_int_equal(sl_vocab_token(v.vocab, -1, &info), SL_ERR_RANGE);
        assert_int_equal(sl_vocab_token(v.vocab, (sl_token)sl_vocab_count(v.vocab), &info), SL_ERR_RANGE);
        vocab_close(&v);
    }
}

static void overrides_the_splitter(void **state)
{
    (void)state;
    static const struct { const char *pre; sl_status status; } cases[] = { { "llama3", SL_OK }, { "default", SL_OK }, { "", SL_ERR_UNSUPPORTED }, { "gpt-3", SL_ERR_UNSUPPORTED } };
    for (size_t i = 0; i < N(cases); i++) {
        gguf_bytes file = build_text(5, TEXT("model", "gpt2") TEXT("pre", "qwen2") U32("unknown_token_id", 0) THREE NO_MERGES);
        vocab_test v;
        assert_int_equal(vocab_open(&v, NULL, file.data, file.size, cases[i].pre), cases[i].status);
        vocab_close(&v);
    }
}

/* ---- texts ---- */

static const vocab_extra extras[] = { { "<|bos|>", SL_TOKEN_CONTROL }, { "<|eot_id|>", 1 }, { "<u>", SL_TOKEN_USER_DEFINED }, { "ab", 1 } };
enum { CONTROL = 256, EOT, USER, AB };
static const char *const merges[] = { "a b", "\xc3\xa4\xc2\xb8 \xc5\x83", "\xc3\xa4 \xc2\xb8", "\xc3\xa4\xc2\xb8\xc5\x83 \xc3\xa4\xc2\xb8\xc5\x83" };

/* X05: text that spells a control token stays text unless the caller says otherwise. User-defined tokens are always found. */
static void keeps_special_text_apart(void **state)
{
    (void)state;
    static const char text[] = "<|eot_id|><u>ab";
    vocab_test v;
    sl_token ids[32];
    size_t n;
    assert_int_equal(vocab_make_bytes(&v, NULL, "llama-bpe", NULL, extras, N(extras), merges, 1), SL_OK);
    assert_int_equal(sl_vocab_encode(v.vocab, text, sizeof text - 1, 0, ids, 32, &n), SL_OK);
    assert_int_equal(n, 12);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ids[i], text[i]);
    assert_int_equal(ids[10], USER);
    assert_int_equal(ids[11], AB);
    assert_int_equal(sl_vocab_encode(v.vocab, text, sizeof text - 1, SL_ENCODE_PARSE_SPECIAL, ids, 32, &n), SL_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], EOT);
    vocab_close(&v);
}

/* X06: what the caller says of its buffer. */
static void reports_the_needed_count(void **state)
{
    (void)state;
    vocab_test v;
    assert_int_equal(vocab_make_bytes(&v, NULL, "gpt-2", NULL, extras, N(extras), merges, 1), SL_OK);
    static const struct { size_t capacity; uint32_t flags; sl_status status; size_t n; } cases[] = {
        { 0, 0, SL_ERR_BUFFER, 3 }, { 2, 0, SL_ERR_BUFFER, 3 }, { 3, 0, SL_OK, 3 }, { 8, 3, SL_OK, 3 }, { 8, 4, SL_ERR_ARGUMENT, 0 },
    };
    for (size_t i = 0; i < N(cases); i++) {
        sl_token ids[9];
        size_t n = 99;
        memset(ids, 0xee, sizeof ids);
        assert_int_equal(sl_vocab_encode(v.vocab, "xaby", 4, cases[i].flags, cases[i].capacity ? ids : NULL, cases[i].capacity, &n), cases[i].status);
        assert_int_equal(n, cases[i].n);
        assert_int_equal(ids[cases[i].capacity], (sl_token)0xeeeeeeee);
    }
    sl_token ids[4];
    size_t n;
    assert_int_equal(sl_vocab_encode(v.vocab, "ab", 2, 0, ids, SIZE_MAX, &n), SL_OK);
    assert_int_equal(sl_vocab_encode(v.vocab, "ab", 2, 0, NULL, SIZE_MAX, &n), SL_ERR_ARGUMENT);
    assert_int_equal(sl_vocab_encode(v.vocab, NULL, 2, 0, ids, 4, &n), SL_ERR_ARGUMENT);
    assert_int_equal(sl_vocab_encode(v.vocab, NULL, 0, 0, NULL, 0, &n), SL_OK);
    assert_int_equal(n, 0);
    vocab_close(&v);
}

/* X04: a length past 2^31 is counted right; there is no memory for such a text here, and that is said. */
static void counts_past_two_gigabytes(void **state)
{
    (void)state;
    size_t length = ((size_t)1 << 31) + 4096, n;
    char *text = sizeof(size_t) < 8 ? MAP_FAILED : mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (text == MAP_FAILED) {
        print_message("no address space for a text of 2 GB\n");
        skip();
    }
    vocab_test v;
    counting count = { 0 };
    sl_mem mem = counting_mem(&count);
    static const vocab_piece pieces[] = { { "aa", 0, 1 } };
    assert_int_equal(vocab_make_pieces(&v, &mem, 1, pieces, 1), SL_OK);
    size_t live = count.live_blocks;
    count.fail_at = count.calls + 1;
    assert_int_equal(sl_vocab_encode(v.vocab, text, length, 0, NULL, 0, &n), SL_ERR_NOMEM);
    assert_non_null(strstr(sl_last_error(), "2147487811"));        /* the text, a mark in front, and the block's own head of 64 */
    assert_int_equal(count.live_blocks, live);
    count.fail_at = 0;
    assert_int_equal(sl_vocab_encode(v.vocab, text, 3, 0, NULL, 0, &n), SL_ERR_BUFFER);
    assert_int_equal(n, 6);
    munmap(text, length);
    vocab_close(&v);
}

/* X01, X02, X07: long runs. Eight times the text may take at most sixteen times as long (and a moment), and memory stays a small multiple. */
static void takes_linear_time(void **state)
{
    (void)state;
    static const vocab_piece pieces[] = {
        { "\xe4\xb8\xad", -1, 1 }, { "\xe4\xb8\xad\xe4\xb8\xad", -2, 1 }, { "AA", -1, 1 }, { "A", -2, 1 }, { "AAAA", -3, 1 }, { "\xe2\x96\x81\xe2\x96\x81", -1, 1 },
        { "\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81", -1, 1 }, { "77", -1, 1 }, { "\xcc\x81\xcc\x81", -1, 1 }, { "\n\n", -1, 1 },
    };
    static const vocab_extra tokens[] = { { "AA", 1 }, { "AAAA", 1 }, { "\xc4\xa0\xc4\xa0", 1 }, { "77", 1 } };
    static const char *const pairs[] = { "A A", "AA AA", "\xc4\xa0 \xc4\xa0", "7 7", "\xc3\xa4 \xc2\xb8", "\xc3\xa4\xc2\xb8 \xc5\x83", "\xc3\x8c \xc4\xa3" };
    static const struct { const char *unit; size_t length; } texts[] = {
        { "A", 200000 }, { " ", 200000 }, { "7", 200000 }, { "\n", 200000 }, { "\xe4\xb8\xad", 10000000 }, { "\xcc\x81", 2000000 },
    };
    static const char *const pres[] = { NULL, "llama-bpe", "llama4", "gpt-2", "default" };
    for (size_t p = 0; p < N(pres); p++) {
        vocab_test v;
        counting count = { 0 };
        sl_mem mem = counting_mem(&count);
        assert_int_equal(pres[p] ? vocab_make_bytes(&v, &mem, pres[p], NULL, tokens, N(tokens), pairs, N(pairs)) : vocab_make_pieces(&v, &mem, 1, pieces, N(pieces)), SL_OK);
        for (size_t t = 0; t < N(texts); t++) {
            size_t length = texts[t].length, unit = strlen(texts[t].unit), n, before = count.live_bytes;
            if (length > 500000 && p > 1)       /* the megabytes once for each kind of vocabulary */
                length = 500000;
            char *text = malloc(length);
            assert_non_null(text);
            for (size_t i = 0; i < length; i++)
                text[i] = texts[t].unit[i % unit];
            double seconds[2];
            count.peak_bytes = before;
            for (int whole = 0; whole < 2; whole++) {
                clock_t start = clock();
                assert_int_equal(sl_vocab_encode(v.vocab, text, whole ? length : length / 8, 0, NULL, 0, &n), SL_ERR_BUFFER);
                seconds[whole] = (double)(clock() - start) / CLOCKS_PER_SEC;
            }
            if (seconds[1] > 16 * seconds[0] + 0.5)
                fail_msg("%s, unit %zu: %zu bytes take %d ms, an eighth %d ms", pres[p] ? pres[p] : "pieces", t, length, (int)(1000 * seconds[1]), (int)(1000 * seconds[0]));
            assert_true(count.peak_bytes - before < 24 * length + 100000);
            assert_int_equal(count.live_bytes, before);
            free(text);
        }
        vocab_close(&v);
    }
}

/* Each allocation fails in turn, once and for good: an error, nothing left behind, and the vocabulary still works. */
static void survives_want_of_memory(void **state)
{
    (void)state;
    static const char text[] = "ab<|eot_id|> <u>\xe4\xb8\xad\xe4\xb8\xad x";
    for (int kind = 0; kind < 2; kind++)
        for (int once = 0; once < 2; once++) {
            size_t fail = 1;
            for (int done = 0; !done; fail++) {
                counting count = { .fail_at = fail, .fail_for = once };
                sl_mem mem = counting_mem(&count);
                vocab_test v;
                static const vocab_piece pieces[] = { { "ab", -1, 1 }, { "\xe4\xb8\xad", -1, 1 }, { "<u>", 0, SL_TOKEN_USER_DEFINED } };
                sl_status status = kind ? vocab_make_bytes(&v, &mem, "llama-bpe", NULL, extras, N(extras), merges, N(merges)) : vocab_make_pieces(&v, &mem, 1, pieces, 3);
                if (status == SL_OK) {
                    sl_token ids[64];
                    size_t n = 0;
                    status = sl_vocab_encode(v.vocab, text, sizeof text, SL_ENCODE_PARSE_SPECIAL, ids, 64, &n);
                    done = status == SL_OK && count.calls < fail;
                    assert_int_equal(n > 0, status == SL_OK);
                }
                assert_true(status == SL_ERR_NOMEM || done);
                vocab_close(&v);
                counting_check_none(&count);
            }
            assert_true(fail > 10);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_hostile_files),
        cmocka_unit_test(settles_odd_files),
        cmocka_unit_test(gives_roles),
        cmocka_unit_test(overrides_the_splitter),
        cmocka_unit_test(keeps_special_text_apart),
        cmocka_unit_test(reports_the_needed_count),
        cmocka_unit_test(counts_past_two_gigabytes),
        cmocka_unit_test(takes_linear_time),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
