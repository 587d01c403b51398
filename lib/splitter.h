/* SPDX-License-Identifier: MIT */
/* splitter.h - pre-tokenizers: how byte-level vocabularies cut text into words before pairs are joined. */
#ifndef SL_SPLITTER_H
#define SL_SPLITTER_H

#include "hash.h"
#include "rows.h"

/* One pre-tokenizer, by the name it has in tokenizer.ggml.pre. The published patterns are ordered alternatives; they differ only in these points. */
typedef struct sl_splitter {
    const char *name;
    uint8_t contraction;    /* SL_CONTRACTION_...: where 's 't 're 've 'm 'll 'd are cut off */
    uint8_t prefix;         /* what may stand in front of a word of letters: SL_PREFIX_... */
    uint8_t cased;          /* 1: a word of letters goes from capitals to small letters and takes marks along */
    uint8_t n_digits;       /* most numbers in one word; 0: any, and a space may stand in front */
    const char *tail;       /* what a word of symbols takes along behind it; NULL: nothing, and line ends are like other white space */
    uint8_t passes;         /* 1: the text is first cut at punctuation, and numbers are taken apart once more ("default") */
    uint8_t whole;          /* 1: a word that is a token stays whole, whatever the merges say */
    uint8_t add_bos;        /* 1: bos in front, unless the file says otherwise */
} sl_splitter;

enum { SL_CONTRACTION_LOWER, SL_CONTRACTION_ANY, SL_CONTRACTION_BEHIND, SL_CONTRACTION_NONE };  /* a word of its own, small letters only or any; behind a word; nowhere */
enum { SL_PREFIX_SPACE, SL_PREFIX_ANY };        /* one space; one character that is no letter, number or line end */

/* The row of this name, or NULL. */
const sl_splitter *sl_splitter_find(const char *name, size_t length);

/* Cutting one text. Time is linear in its length; nothing is stored. */
typedef struct sl_split {
    const sl_splitter *splitter;
    const uint8_t *text;
    size_t at, length;
    size_t stage_end[3];    /* passes: ends of the pieces that `at` lies in, outermost first */
} sl_split;

void sl_split_start(sl_split *split, const sl_splitter *splitter, const char *text, size_t length);
/* The next word: 1 and *word (never empty), or 0 at the end. The words joined are the text. */
int sl_split_next(sl_split *split, sl_text *word);

#endif
