/* SPDX-License-Identifier: MIT */
/* chat_format.c - the chat formats, one row each, and how the format of a model is recognised. */
#include "chat.h"
#include "rows.h"

#include <string.h>

static const char *const roles[SL_CHAT_ROLES] = { "system", "user", "assistant" };

#define TOKEN(text) "\1" text "\3"
#define WORD(text) "\2" text "\3"
#define DATE "\4"

/* A turn of Llama 3 and 4: a header with the role, an empty line, the content, a mark. */
#define HEAD(open, close, role) TOKEN(open) role TOKEN(close) "\n\n"
#define HEAD3(role) HEAD("<|start_header_id|>", "<|end_header_id|>", role)
#define HEAD4(role) HEAD("<|header_start|>", "<|header_end|>", role)
#define TURNS3 { { HEAD3("system"), TOKEN("<|eot_id|>") }, { HEAD3("user"), TOKEN("<|eot_id|>") }, { HEAD3("assistant"), TOKEN("<|eot_id|>") } }
#define TURNS4 { { HEAD4("system"), TOKEN("<|eot|>") }, { HEAD4("user"), TOKEN("<|eot|>") }, { HEAD4("assistant"), TOKEN("<|eot|>") } }
#define HEAD_ML(role) WORD("<|im_start|>") role "\n"
#define END_ML WORD("<|im_end|>") "\n"
#define INST WORD("[INST]")
#define END_INST WORD("[/INST]")

/* The first row whose signs are all in the template is taken, so what is special stands before what is general. */
static const sl_chat_row rows[] = {
    SL_ROW(CHAT_LLAMA4, { .name = "llama4", .signs = { "<|header_start|>" }, .by_tokens = 1, .trim = { 1 }, .begin = TOKEN("<|begin_of_text|>"), .turn = TURNS4,
        .answer = HEAD4("assistant") }, )
    SL_ROW(CHAT_LLAMA3_1, { .name = "llama3.1", .signs = { "<|start_header_id|>", "Cutting Knowledge Date" }, .trim = { 1, 1, 1 }, .begin = TOKEN("<|begin_of_text|>"),
        .preface = "Cutting Knowledge Date: December 2023\nToday Date: " DATE "\n\n", .turn = TURNS3, .answer = HEAD3("assistant") }, )
    SL_ROW(CHAT_LLAMA3, { .name = "llama3", .signs = { "<|start_header_id|>" }, .by_tokens = 1, .always_answer = 1, .trim = { 1, 1, 1 }, .begin = TOKEN("<|begin_of_text|>"),
        .turn = TURNS3, .answer = HEAD3("assistant") }, )
    SL_ROW(CHAT_CHATML, { .name = "chatml", .signs = { "<|im_start|>" }, .begin = "",
        .turn = { { HEAD_ML("system"), END_ML }, { HEAD_ML("user"), END_ML }, { HEAD_ML("assistant"), END_ML } }, .answer = HEAD_ML("assistant") }, )
    SL_ROW(CHAT_LLAMA2, { .name = "llama2", .signs = { "<<SYS>>" }, .alternate = 1, .system = SL_CHAT_IN_FIRST, .trim = { 0, 1, 1 }, .begin = "",
        .turn = { [SL_CHAT_USER] = { TOKEN("<s>") "[INST] ", " [/INST]" }, [SL_CHAT_ASSISTANT] = { " ", " " TOKEN("</s>") } },
        .join = { "<<SYS>>\n", "\n<</SYS>>\n\n" }, .answer = "" }, )
    SL_ROW(CHAT_MISTRAL_V7, { .name = "mistral-v7", .signs = { "[SYSTEM_PROMPT]" }, .begin = TOKEN("<s>"),
        .turn = { { WORD("[SYSTEM_PROMPT]") " ", WORD("[/SYSTEM_PROMPT]") }, { INST " ", END_INST }, { " ", TOKEN("</s>") } }, .answer = "" }, )
    SL_ROW(CHAT_MISTRAL_NEMO, { .name = "mistral-nemo", .signs = { "\"[INST]\" +" }, .alternate = 1, .system = SL_CHAT_IN_LAST, .begin = TOKEN("<s>"),
        .turn = { [SL_CHAT_USER] = { INST, END_INST }, [SL_CHAT_ASSISTANT] = { "", TOKEN("</s>") } }, .join = { "", "\n\n" }, .answer = "" }, )
    SL_ROW(CHAT_MISTRAL_V1, { .name = "mistral-v1", .signs = { "' [INST] ' +" }, .alternate = 1, .system = SL_CHAT_IN_FIRST, .begin = TOKEN("<s>"),
        .turn = { [SL_CHAT_USER] = { " " INST " ", " " END_INST }, [SL_CHAT_ASSISTANT] = { " ", TOKEN("</s>") } }, .join = { "", "\n\n" }, .answer = "" }, )
    SL_ROW(CHAT_MISTRAL_OLD, { .name = "mistral-old", .signs = { "'[INST] ' +" }, .alternate = 1, .begin = TOKEN("<s>"),
        .turn = { [SL_CHAT_USER] = { INST " ", " " END_INST }, [SL_CHAT_ASSISTANT] = { "", TOKEN("</s>") } }, .answer = "" }, )
    SL_ROW(CHAT_VICUNA, { .name = "vicuna", .signs = { "ASSISTANT:" }, .begin = TOKEN("<s>"),
        .turn = { { "", " " }, { "USER: ", " " }, { "ASSISTANT: ", TOKEN("</s>") } }, .answer = "ASSISTANT:" }, )
    { NULL },
};

int sl_chat_role(const char *name)
{
    for (int i = 0; i < SL_CHAT_ROLES; i++)
        if (strcmp(roles[i], name) == 0)
            return i;
    return -1;
}

const sl_chat_row *sl_chat_row_at(size_t index) { return index < sizeof rows / sizeof *rows && rows[index].name ? &rows[index] : NULL; }

const sl_chat_row *sl_chat_row_find(const char *name)
{
    for (const sl_chat_row *row = rows; row->name; row++)
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

static int holds(sl_text text, const char *sign)
{
    size_t n = strlen(sign);
    const char *p = text.data, *end = text.data + text.length;
    for (; (size_t)(end - p) >= n && (p = memchr(p, sign[0], (size_t)(end - p) - n + 1)) != NULL; p++)
        if (memcmp(p, sign, n) == 0)
            return 1;
    return 0;
}

static int fits_template(const sl_chat_row *row, sl_text template)
{
    return holds(template, row->signs[0]) && (!row->signs[1] || holds(template, row->signs[1]));
}

/* 1 if the vocabulary has every token that `text` asks for. */
static int has_tokens(const sl_vocab *vocab, const char *text)
{
    while ((text = strchr(text, SL_CHAT_TOKEN)) != NULL) {
        size_t n = (size_t)(strchr(text + 1, SL_CHAT_END) - text) - 1;
        if (sl_vocab_spelled(vocab, ++text, n) == SL_TOKEN_NONE)
            return 0;
    }
    return 1;
}

const sl_chat_row *sl_chat_recognise(const sl_vocab *vocab, sl_text template)
{
    for (const sl_chat_row *row = rows; row->name; row++) {
        if (template.data ? fits_template(row, template)
                          : row->by_tokens && has_tokens(vocab, row->begin) && has_tokens(vocab, row->turn[SL_CHAT_USER].before) && has_tokens(vocab, row->turn[SL_CHAT_USER].behind))
            return row;
    }
    return NULL;
}
