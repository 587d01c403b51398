/* SPDX-License-Identifier: MIT */
/* chat.c - conversations to ids: reads and checks the messages, writes them as a row of chat_format.c says.
 *
 * What stands between two tokens of the format is one text to the tokenizer, whether it comes from the format or from a message: a stretch, collected and then
 * encoded at once, without looking for control tokens in it. So the ids are those of the rendered template, but for what only a template's text could do. */
#include "chat.h"
#include "image.h"
#include "model.h"
#include "params.h"
#include "unicode.h"

#include <stdio.h>
#include <string.h>

static const char usual_date[] = "26 Jul 2024";
enum { MAX_DATE = 256 };

/* ---- reading ---- */

struct message {
    int role;
    const sl_chat_part *parts;
    size_t n_parts;
};

struct conversation {
    const sl_chat_message *messages;
    size_t n;
    size_t n_parts, n_bytes, n_images;      /* of all messages */
};

/* Element `index` of a caller's array of structures. They may be shorter or longer than this library's: the first one says how far apart they are. */
static sl_status read_element(void *full, size_t full_size, const void *array, size_t index)
{
    size_t stride, offset, own;
    memcpy(&stride, array, sizeof stride);
    if (stride % sizeof(void *) || sl_mul(index, stride, &offset))
        return sl_fail(SL_ERR_ARGUMENT, "its size member says %zu bytes", stride);
    if (index) {
        memcpy(&own, (const char *)array + offset, sizeof own);
        if (own != stride)
            return sl_fail(SL_ERR_ARGUMENT, "its size member says %zu bytes, that of the first %zu", own, stride);
    }
    return sl_options_read(full, full_size, (const char *)array + offset);
}

static sl_status read_message(struct message *m, const struct conversation *c, size_t index)
{
    sl_chat_message full;
    char quoted[SL_QUOTE_BYTES];
    SL_TRY(read_element(&full, sizeof full, c->messages, index));
    if (!full.role || !full.parts || !full.n_parts)
        return sl_fail(SL_ERR_ARGUMENT, "%s", full.role ? "no parts" : "no role");
    *m = (struct message) { sl_chat_role(full.role), full.parts, full.n_parts };
    if (m->role < 0)
        return sl_fail(SL_ERR_ARGUMENT, "unknown role \"%s\"", sl_quote(quoted, full.role, strlen(full.role)));
    return SL_OK;
}

static sl_status read_part(sl_chat_part *part, const struct message *m, size_t index)
{
    SL_TRY(read_element(part, sizeof *part, m->parts, index));
    if (!part->text == !part->image || (part->image && part->length))
        return sl_fail(SL_ERR_ARGUMENT, "part %zu: %s", index + 1, part->text ? "both text and a picture" : part->image ? "a picture with a length" : "neither text nor a picture");
    return SL_OK;
}

static sl_status check_message(struct conversation *c, size_t index)
{
    struct message m;
    SL_TRY(read_message(&m, c, index));
    if (sl_add(c->n_parts, m.n_parts, &c->n_parts) || c->n_parts > SL_LIMIT_CHAT_PARTS)
        return sl_fail(SL_ERR_LIMIT, "more than %d parts", SL_LIMIT_CHAT_PARTS);
    for (size_t i = 0; i < m.n_parts; i++) {
        sl_chat_part part;
        SL_TRY(read_part(&part, &m, i));
        if (sl_add(c->n_bytes, part.length, &c->n_bytes) || c->n_bytes > SL_LIMIT_CHAT_BYTES)
            return sl_fail(SL_ERR_LIMIT, "more than %d bytes of text", SL_LIMIT_CHAT_BYTES);
        c->n_images += part.image != NULL;
    }
    return SL_OK;
}

static sl_status in_message(sl_status status, size_t index)
{
    char place[48];
    if (status == SL_OK || status == SL_ERR_NOMEM)
        return status;
    snprintf(place, sizeof place, "chat: message %zu", index + 1);
    return sl_fail_in(status, place);
}

/* Everything that can be wrong with the messages themselves, before anything is written. */
static sl_status check_conversation(struct conversation *c)
{
    if (!c->messages || !c->n)
        return sl_fail(SL_ERR_ARGUMENT, "chat: no messages");
    if (c->n > SL_LIMIT_CHAT_PARTS)
        return sl_fail(SL_ERR_LIMIT, "chat: %zu messages, the limit is %d", c->n, SL_LIMIT_CHAT_PARTS);
    for (size_t i = 0; i < c->n; i++)
        SL_TRY(in_message(check_message(c, i), i));
    return SL_OK;
}

/* ---- writing ---- */

struct writer {
    const sl_vocab *vocab;
    const sl_mem *mem;
    const sl_model *model;      /* spells pictures, or NULL */
    sl_token *ids;
    size_t capacity, count;     /* count goes on past capacity */
    char *text;                 /* the stretch */
    size_t used;
    size_t content;             /* where in it the content of the message begins */
    int dropping;               /* white space at the start of the content is being dropped */
};

/* Encodes the stretch. */
static sl_status end_stretch(struct writer *w)
{
    if (!w->used)
        return SL_OK;
    size_t room = w->count < w->capacity ? w->capacity - w->count : 0, n;
    sl_status status = sl_vocab_encode(w->vocab, w->text, w->used, 0, room ? w->ids + w->count : NULL, room, &n);
    w->used = w->content = 0;
    if (status != SL_OK && status != SL_ERR_BUFFER)
        return status;
    return sl_add(w->count, n, &w->count) ? sl_fail(SL_ERR_OVERFLOW, "chat: too many tokens") : SL_OK;
}

static sl_status put_token(struct writer *w, sl_token id)
{
    SL_TRY(end_stretch(w));
    if (w->count < w->capacity)
        w->ids[w->count] = id;
    return sl_add(w->count, 1, &w->count) ? sl_fail(SL_ERR_OVERFLOW, "chat: too many tokens") : SL_OK;
}

static sl_status put_text(struct writer *w, const char *text, size_t length)
{
    size_t end;
    if (sl_add(w->used, length, &end))
        return sl_fail(SL_ERR_OVERFLOW, "chat: too much text");
    SL_TRY(sl_mem_grow(w->mem, &w->text, end, 1));
    if (length)
        memcpy(w->text + w->used, text, length);
    w->used = end;
    return SL_OK;
}

/* White space as the templates' trim knows it: that of Unicode and four control characters. */
static int is_space(const char *text, size_t length)
{
    uint32_t code;
    sl_utf8_decode((const uint8_t *)text, length, &code);
    return sl_unicode_class(code) == SL_UNICODE_SPACE || (code >= 0x1c && code <= 0x1f);
}

/* Bytes of the white space at the start of a text, character by character; bytes that are no UTF-8 are none. */
static size_t leading_space(const char *text, size_t length)
{
    size_t at = 0, n, bad;
    while (at < length && (n = sl_utf8_check((const uint8_t *)text + at, length - at, &bad)) != 0 && is_space(text + at, n))
        at += n;
    return at;
}

/* The length of a text without the white space at its end, which does not reach before `from`. */
static size_t without_trailing_space(const char *text, size_t from, size_t length)
{
    for (;;) {
        size_t at = length, bad;
        while (at > from && length - at < 4 && ((uint8_t)text[--at] & 0xc0) == 0x80)
            ;
        if (at == length || sl_utf8_check((const uint8_t *)text + at, length - at, &bad) != length - at || !is_space(text + at, length - at))
            return length;
        length = at;
    }
}

/* Text of a message. */
static sl_status put_content(struct writer *w, const char *text, size_t length)
{
    size_t skip = w->dropping ? leading_space(text, length) : 0;
    if (skip < length)
        w->dropping = 0;
    return put_text(w, text + skip, length - skip);
}

static sl_status put_spelled(void *w, int32_t id) { return put_token(w, id); }

static sl_status put_picture(struct writer *w, const sl_image *picture, sl_token image)
{
    if (!w->model || !w->model->arch->spell)
        return put_token(w, image);
    SL_TRY(w->model->arch->spell(w->model, picture->width, picture->height, put_spelled, w));
    const char *behind = w->model->arch->behind_picture;
    return behind ? put_text(w, behind, strlen(behind)) : SL_OK;
}

static sl_status put_message(struct writer *w, const struct message *m, sl_token image)
{
    for (size_t i = 0; i < m->n_parts; i++) {
        sl_chat_part part;
        SL_TRY(read_part(&part, m, i));
        if (part.image) {
            SL_TRY(put_picture(w, part.image, image));
            w->dropping = 0;
        } else {
            SL_TRY(put_content(w, part.text, part.length));
        }
    }
    return SL_OK;
}

/* Text of the format, with its tokens. */
static sl_status put_format(struct writer *w, const char *text, const char *date)
{
    static const char stops[] = { SL_CHAT_TOKEN, SL_CHAT_WORD, SL_CHAT_DATE, 0 };
    for (;;) {
        size_t n = strcspn(text, stops);
        SL_TRY(put_text(w, text, n));
        char stop = text[n];
        if (!stop)
            return SL_OK;
        text += n + 1;
        if (stop == SL_CHAT_DATE) {
            SL_TRY(put_text(w, date, strlen(date)));
            continue;
        }
        n = (size_t)(strchr(text, SL_CHAT_END) - text);
        sl_token id = sl_vocab_spelled(w->vocab, text, n);
        if (id == SL_TOKEN_NONE && stop == SL_CHAT_TOKEN)
            return sl_fail(SL_ERR_MISSING, "chat: the vocabulary has no token %.*s, which the format needs", (int)n, text);
        SL_TRY(id == SL_TOKEN_NONE ? put_text(w, text, n) : put_token(w, id));
        text += n + 1;
    }
}

/* One turn: a message, with what the format puts around it, and perhaps the system message in it. `preface`: text of the format in front of the content. */
static sl_status put_turn(struct writer *w, const sl_chat_row *row, const struct message *m, int role, const struct message *system, const char *preface, const char *date, sl_token image)
{
    SL_TRY(put_format(w, row->turn[role].before, date));
    if (preface)
        SL_TRY(put_format(w, preface, date));
    w->content = w->used;
    w->dropping = row->trim[role];
    if (system) {
        SL_TRY(put_content(w, row->join[0], strlen(row->join[0])));
        SL_TRY(put_message(w, system, image));
        SL_TRY(put_content(w, row->join[1], strlen(row->join[1])));
    }
    if (m)
        SL_TRY(put_message(w, m, image));
    w->dropping = 0;
    if (row->trim[role])
        w->used = without_trailing_space(w->text, w->content, w->used);
    return put_format(w, row->turn[role].behind, date);
}

/* The messages from `first` on; `system` goes into one of them. */
static sl_status put_turns(struct writer *w, const sl_chat_row *row, const struct conversation *c, size_t first, const struct message *system, const char *date, sl_token image)
{
    for (size_t i = first; i < c->n; i++) {
        struct message m;
        SL_TRY(read_message(&m, c, i));
        if (row->alternate && (m.role == SL_CHAT_USER) != ((i - first) % 2 == 0))
            return in_message(sl_fail(SL_ERR_ARGUMENT, "user and assistant must take turns in the format %s, and the user begins", row->name), i);
        if (!row->turn[m.role].before)
            return in_message(sl_fail(SL_ERR_UNSUPPORTED, "the format %s has no such role here", row->name), i);
        /* A system message that has no user message at its place is left out, as by the templates. */
        int here = row->system == SL_CHAT_IN_FIRST ? i == first : i + 1 == c->n && m.role == SL_CHAT_USER;
        SL_TRY(put_turn(w, row, &m, m.role, here ? system : NULL, NULL, date, image));
    }
    return SL_OK;
}

static sl_status put_conversation(struct writer *w, const sl_chat_row *row, const struct conversation *c, const sl_chat_options *options, sl_token image)
{
    const char *date = options->date ? options->date : usual_date, *preface = c->n_images ? NULL : row->preface;
    struct message opening;
    SL_TRY(read_message(&opening, c, 0));
    int system = opening.role == SL_CHAT_SYSTEM, joined = system && row->system != SL_CHAT_OWN_TURN, prefaced = !joined && preface;
    SL_TRY(put_format(w, row->begin, date));
    if (prefaced)
        SL_TRY(put_turn(w, row, system ? &opening : NULL, SL_CHAT_SYSTEM, NULL, preface, date, image));
    SL_TRY(put_turns(w, row, c, (joined || (prefaced && system)) ? 1 : 0, joined ? &opening : NULL, date, image));
    if (!(options->flags & SL_CHAT_CLOSED) || row->always_answer)
        SL_TRY(put_format(w, row->answer, date));
    return end_stretch(w);
}

sl_status sl_chat_write(const sl_vocab *vocab, const sl_mem *mem, const sl_chat_row *row, sl_token image, const sl_model *model, const sl_chat_message *messages,
                        size_t n_messages, const sl_chat_options *options, sl_token *ids, size_t capacity, size_t *n_ids)
{
    struct conversation c = { .messages = messages, .n = n_messages };
    struct writer w = { .vocab = vocab, .mem = mem, .model = model, .ids = ids, .capacity = capacity };
    *n_ids = 0;
    if (options->flags & ~SL_CHAT_CLOSED || options->reserved)
        return sl_fail(SL_ERR_ARGUMENT, "chat options: %s", options->reserved ? "reserved must be 0" : "unknown flags");
    if (options->date && !memchr(options->date, 0, MAX_DATE + 1))
        return sl_fail(SL_ERR_LIMIT, "chat: a date of more than %d bytes", MAX_DATE);
    SL_TRY(check_conversation(&c));
    if (c.n_images && image == SL_TOKEN_NONE)
        return sl_fail(SL_ERR_UNSUPPORTED, "chat: the model takes no pictures");
    sl_status status = put_conversation(&w, row, &c, options, image);
    sl_mem_free(mem, w.text);
    SL_TRY(status);
    *n_ids = w.count;
    return w.count <= capacity ? SL_OK : sl_fail(SL_ERR_BUFFER, "chat: the conversation has %zu ids, there is room for %zu", w.count, capacity);
}

/* ---- the interface ---- */

/* The row of the model's own format, or NULL. */
static const sl_chat_row *row_of(const sl_model *model)
{
    sl_text template = { NULL, 0 };
    const sl_gguf_kv *kv = sl_gguf_find(&model->parts.parts[0].gguf, "tokenizer.chat_template");
    if (kv && kv->value.type == SL_META_STRING)
        template = sl_gguf_element_text(kv, 0);
    return model->vocab ? sl_chat_recognise(model->vocab, template) : NULL;
}

const char *sl_chat_format(const sl_model *model)
{
    const sl_chat_row *row = model ? row_of(model) : NULL;
    return row ? row->name : NULL;
}

const char *sl_chat_format_name(size_t index)
{
    const sl_chat_row *row = sl_chat_row_at(index);
    return row ? row->name : NULL;
}

sl_status sl_chat_encode(const sl_model *model, const sl_chat_message *messages, size_t n_messages, const sl_chat_options *options, sl_token *ids, size_t capacity, size_t *n_ids)
{
    sl_chat_options o;
    sl_model_info info = { sizeof info };
    char quoted[SL_QUOTE_BYTES];
    if (!model || !n_ids || (!ids && capacity))
        return sl_fail(SL_ERR_ARGUMENT, "sl_chat_encode: an argument is NULL");
    *n_ids = 0;
    SL_TRY(sl_options_read(&o, sizeof o, options));
    if (!model->vocab)
        return sl_fail(SL_ERR_STATE, "chat: the model has no vocabulary");
    const sl_chat_row *row = o.format ? sl_chat_row_find(o.format) : row_of(model);
    if (!row && o.format)
        return sl_fail(SL_ERR_UNSUPPORTED, "chat: no format is called \"%s\"", sl_quote(quoted, o.format, strlen(o.format)));
    if (!row)
        return sl_fail(SL_ERR_UNSUPPORTED, "chat: the model's own format is not known here; name one");
    SL_TRY(sl_model_get_info(model, &info));
    return sl_chat_write(model->vocab, &model->mem, row, info.image_token, model->arch ? model : NULL, messages, n_messages, &o, ids, capacity, n_ids);
}
