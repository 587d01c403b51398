/* SPDX-License-Identifier: MIT */
/* vocab.h - the inside of a vocabulary, for tokenizer*.c only.
 *
 * Encoding: sl_vocab_encode (tokenizer.c) has the text cut at special tokens (tokenizer_special.c) and hands each stretch between them to
 * the row of the tokenizer table (tokenizer_spm.c, tokenizer_bpe.c); both join neighbours with tokenizer_join.c. */
#ifndef SL_VOCAB_H
#define SL_VOCAB_H

#include "splitter.h"
#include "tokenizer.h"

#define SL_VOCAB_NONE UINT32_MAX    /* no id, no rank, no entry */

/* ---- ids on their way out ---- */

typedef struct sl_ids {
    sl_token *ids;
    size_t capacity, count;     /* count goes on past capacity: it is what the text needs */
} sl_ids;

static inline void sl_ids_add(sl_ids *out, uint32_t id)
{
    if (out->count < out->capacity)
        out->ids[out->count] = (sl_token)id;
    out->count++;
}

/* ---- bytes on their way out ---- */

typedef struct sl_bytes {
    char *text;
    size_t capacity, count;
    int drop_space;             /* 1: a space that comes first is dropped */
} sl_bytes;

static inline void sl_bytes_add(sl_bytes *out, char byte)
{
    int drop = out->drop_space && byte == ' ';
    out->drop_space = 0;
    if (drop)
        return;
    if (out->count < out->capacity)
        out->text[out->count] = byte;
    out->count++;
}

/* ---- joining neighbours (tokenizer_join.c) ---- */

enum { SL_JOIN_LEVELS = 8, SL_JOIN_FAN = 16 };  /* 16^8 = 2^32 symbols */

/* A row of symbols that become pieces. A piece is known by its first symbol; `length` (in symbols) stands at its first and its last one.
 * rank[i] belongs to the piece that begins at i together with the one behind it. Above the ranks lie the minima of 16, of 256, ...,
 * so that the best pair is found, and a changed one entered, in log16(n) steps without a stale entry ever. */
typedef struct sl_join {
    uint32_t *length, *value;               /* value: what the joiner keeps for a piece, set for each symbol before sl_join_run */
    uint32_t *rank[SL_JOIN_LEVELS];         /* padded to a multiple of 16 with SL_VOCAB_NONE */
    uint32_t n_levels;
    size_t n, capacity;
    uint32_t *block;
} sl_join;

/* Rank (lower is joined first, SL_VOCAB_NONE: never) of the pieces that begin at `left` and `right`; *joined = value of the joined piece. */
typedef uint32_t sl_join_fn(const void *owner, const sl_join *join, uint32_t left, uint32_t right, uint32_t *joined);

/* Room for n symbols; n = 0 frees. SL_ERR_LIMIT past 2^31. */
sl_status sl_join_reserve(sl_join *join, const sl_mem *mem, size_t n);
void sl_join_free(sl_join *join, const sl_mem *mem);
/* Joins the pair with the lowest rank, of equal ones the leftmost, until none has a rank. Then the pieces begin at 0, length[0], ... */
void sl_join_run(sl_join *join, sl_join_fn *fn, const void *owner);

/* ---- special tokens in text (tokenizer_special.c) ---- */

typedef struct sl_special_entry {
    uint32_t id;
    uint32_t shorter;       /* entry whose text is the longest proper ending of this one, or SL_VOCAB_NONE */
    uint32_t jump, depth;   /* a farther one on that chain, and the length of the chain: long chains are searched in log time */
} sl_special_entry;

/* An automaton (Aho-Corasick) over the texts of some tokens; entries are sorted longest first, then lowest id. */
typedef struct sl_special {
    sl_special_entry *entries;
    uint32_t n_entries, n_nodes;
    /* Nodes in breadth-first order, so the children of one lie side by side, sorted by byte: first_child[v] .. first_child[v + 1] - 1. */
    uint32_t *first_child, *fail, *found;   /* found: longest entry that ends at this node, or SL_VOCAB_NONE */
    uint8_t *byte, *open;                   /* open: some text goes on from here */
    uint32_t root[256];                     /* child of the root, 0: none */
} sl_special;

/* ---- the vocabulary ---- */

typedef struct sl_token_row {
    const char *text;
    uint32_t length;
    float score;
    uint8_t kind, end;
} sl_token_row;

#define SL_ROLES(X)                                                                                                         \
    X(BOS, "bos", "tokenizer.ggml.bos_token_id") X(EOS, "eos", "tokenizer.ggml.eos_token_id")                               \
    X(EOT, "eot", "tokenizer.ggml.eot_token_id") X(EOM, "eom", "tokenizer.ggml.eom_token_id")                               \
    X(UNKNOWN, "unknown", "tokenizer.ggml.unknown_token_id") X(PADDING, "padding", "tokenizer.ggml.padding_token_id")       \
    X(SEPARATOR, "separator", "tokenizer.ggml.seperator_token_id")
enum {
#define ROLE(name, text, key) SL_ROLE_##name,
    SL_ROLES(ROLE)
#undef ROLE
    SL_ROLE_COUNT
};

/* A merge of byte-level pairs: symbols of its parts and of the result. */
typedef struct sl_merge { uint32_t left, right, joined; } sl_merge;

typedef struct sl_tokenizer sl_tokenizer;

struct sl_vocab {
    sl_mem mem;
    const sl_tokenizer *tokenizer;
    sl_token_row *tokens;
    uint32_t n_tokens;
    uint32_t longest;               /* bytes of the longest text */
    sl_map map;                     /* text -> lowest id; texts of no bytes are not in it */
    sl_token roles[SL_ROLE_COUNT];
    uint8_t add_bos, add_eos;
    uint8_t unknown_given;          /* the file itself names the unknown token */
    uint8_t space_prefix;           /* one space in front of each stretch; dropped again from the first piece */
    uint8_t strip_behind;           /* white space behind a special token is dropped (Phi-3) */
    sl_special special, user;       /* all special tokens; the user-defined ones alone */
    uint32_t byte_id[256];          /* what a byte gives when no longer piece is a token */
    /* scored pieces */
    uint32_t *neighbours;           /* bit (a << 8 | b): some text holds the byte a followed by b */
    /* byte-level pairs */
    const sl_splitter *splitter;
    uint32_t byte_symbol[256];      /* symbol of the byte's character: its id; from n_tokens on what only merges know; SL_VOCAB_NONE: unknown to both */
    sl_merge *merges;               /* index = rank */
    uint32_t *merge_slots;          /* open addressing: merge + 1, 0 is free */
    uint32_t merge_mask;
};

/* Memory that one encoding call works in; everything is freed by the end of the call. */
typedef struct sl_scratch {
    const sl_mem *mem;
    sl_join join;
    char *text;                     /* stretch or word, rewritten */
    sl_ids *out;
} sl_scratch;

/* A kind of vocabulary: a row of the table in tokenizer.c, by tokenizer.ggml.model. */
struct sl_tokenizer {
    const char *name;
    sl_token bos, eos, unknown;     /* ids where the file names none */
    uint8_t add_bos, space_prefix;
    sl_status (*load)(sl_vocab *vocab, const sl_gguf *gguf, const sl_log *log, const char *pre);
    sl_status (*encode)(const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length);     /* one stretch, not empty */
    void (*piece)(const sl_token_row *token, sl_bytes *out);      /* bytes of a normal token */
};

sl_status sl_spm_load(sl_vocab *vocab, const sl_gguf *gguf, const sl_log *log, const char *pre);
sl_status sl_spm_encode(const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length);
void sl_spm_piece(const sl_token_row *token, sl_bytes *out);

sl_status sl_bpe_load(sl_vocab *vocab, const sl_gguf *gguf, const sl_log *log, const char *pre);
sl_status sl_bpe_encode(const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length);
void sl_bpe_piece(const sl_token_row *token, sl_bytes *out);

/* Lowest id of this text, or SL_VOCAB_NONE. */
uint32_t sl_vocab_find(const sl_vocab *vocab, const char *text, size_t length);
/* The byte that a text <0xNN> names, or -1. */
int sl_vocab_byte(const char *text, size_t length);

/* Takes the tokens that `wanted` accepts. */
sl_status sl_special_create(sl_special *special, const sl_vocab *vocab, int (*wanted)(const sl_token_row *token));
void sl_special_free(sl_special *special, const sl_mem *mem);
/* Cuts `text` at special tokens: longest text first, over everything, each from left to right. The stretches between go to
 * the tokenizer's encode (never empty), the tokens to scratch->out, in the order of the text. */
sl_status sl_special_cut(const sl_special *special, const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length);

#endif
