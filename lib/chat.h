/* SPDX-License-Identifier: MIT */
/* chat.h - conversations to ids: the formats as data (chat_format.c), and the one function that writes any of them (chat.c). */
#ifndef SL_CHAT_H
#define SL_CHAT_H

#include "hash.h"
#include "tokenizer.h"
#include <spacellama/chat.h>

enum { SL_CHAT_SYSTEM, SL_CHAT_USER, SL_CHAT_ASSISTANT, SL_CHAT_ROLES };

/* Text of a format is written with these. Between SL_CHAT_TOKEN and SL_CHAT_END stands the text of a token that the vocabulary must have, between SL_CHAT_WORD
 * and SL_CHAT_END one that is that token if there is one, and plain text otherwise; SL_CHAT_DATE is where the date goes. */
#define SL_CHAT_TOKEN '\1'
#define SL_CHAT_WORD '\2'
#define SL_CHAT_END '\3'
#define SL_CHAT_DATE '\4'

/* Where a system message that opens the conversation goes. */
enum {
    SL_CHAT_OWN_TURN,
    SL_CHAT_IN_FIRST,           /* into the first user message */
    SL_CHAT_IN_LAST             /* into the last message, if that is the user's */
};

typedef struct sl_chat_row {
    const char *name;
    const char *signs[2];       /* the template of such a model holds these (NULL: none asked) */
    uint8_t by_tokens;          /* without a template: a vocabulary with all tokens of this row is one of the family */
    uint8_t always_answer;      /* the opening of an answer is not a matter of choice */
    uint8_t alternate;          /* user and assistant take turns, the user first */
    uint8_t system;             /* SL_CHAT_OWN_TURN .. */
    uint8_t trim[SL_CHAT_ROLES];        /* 1: white space at the ends is dropped, all that stands between join[0] and `behind` counting as one text */
    const char *begin;                  /* of every conversation */
    const char *preface;                /* text at the start of a system turn, which then every conversation begins with; NULL: none. Not with pictures */
    struct { const char *before, *behind; } turn[SL_CHAT_ROLES];    /* before NULL: there is no such role */
    const char *join[2];                /* around a system message inside a user's */
    const char *answer;                 /* opens an answer */
} sl_chat_row;

/* Index of a role, or -1. */
int sl_chat_role(const char *name);
/* Row number `index`, or NULL past the end. */
const sl_chat_row *sl_chat_row_at(size_t index);
/* The row of that name, or NULL. */
const sl_chat_row *sl_chat_row_find(const char *name);
/* The row of a model with this template (NULL data: it has none) and vocabulary, or NULL. */
const sl_chat_row *sl_chat_recognise(const sl_vocab *vocab, sl_text template);
/* As sl_chat_encode; `image`: the token that stands for a picture, or SL_TOKEN_NONE; model: spells pictures, or NULL: it is that token. The format of the options is
 * not looked at. */
struct sl_model;
sl_status sl_chat_write(const sl_vocab *vocab, const sl_mem *mem, const sl_chat_row *row, sl_token image, const struct sl_model *model, const sl_chat_message *messages, size_t n_messages,
                        const sl_chat_options *options, sl_token *ids, size_t capacity, size_t *n_ids);

#endif
