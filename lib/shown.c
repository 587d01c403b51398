/* SPDX-License-Identifier: MIT */
/* shown.c - showing tokens as text, and the search for stop strings in it.
 *
 * Stop strings are found byte by byte with one Knuth-Morris-Pratt automaton each. The longest part of a stop string that the text ends with
 * is what may still become one: that much is held back, no more. All memory is taken when it is opened. */
#include "shown.h"

#include "unicode.h"

#include <string.h>

enum { MAX_STOPS = 64 };

/* What a decoder returns at once: a token's bytes and the rest of an earlier one, each perhaps as U+FFFD. */
#define PIECE_BYTES (3 * ((size_t)SL_LIMIT_TOKEN_BYTES + 4))

struct sl_stop {
    char *text;
    size_t length;
    size_t matched;         /* the text so far ends with this many bytes of it */
    uint32_t *fallback;     /* [length] longest proper prefix of it that its first i + 1 bytes end with */
};

/* ---- stop strings ---- */

/* Stop strings begin and end where characters do: so what is held back, or cut off, never splits one. */
static int is_utf8(const char *text, size_t length)
{
    size_t bad;
    for (size_t i = 0, n; i < length; i += n)
        if ((n = sl_utf8_check((const uint8_t *)text + i, length - i, &bad)) == 0)
            return 0;
    return 1;
}

static sl_status prepare_stop(const sl_mem *mem, sl_stop *stop, const char *text)
{
    if (!text || !*text)
        return sl_fail(SL_ERR_ARGUMENT, "generate: an empty stop string");
    const size_t length = strlen(text);
    if (length > SL_LIMIT_TOKEN_BYTES)
        return sl_fail(SL_ERR_LIMIT, "generate: a stop string of %zu bytes, at most %d", length, SL_LIMIT_TOKEN_BYTES);
    if (!is_utf8(text, length))
        return sl_fail(SL_ERR_UTF8, "generate: a stop string is not UTF-8");
    stop->length = length;
    stop->text = sl_mem_alloc(mem, length + 1, 1);
    stop->fallback = sl_mem_alloc(mem, length, sizeof *stop->fallback);
    if (!stop->text || !stop->fallback)
        return SL_ERR_NOMEM;
    memcpy(stop->text, text, length);
    for (size_t i = 1, k = 0; i < length; i++) {
        while (k && text[i] != text[k])
            k = stop->fallback[k - 1];
        k += text[i] == text[k];
        stop->fallback[i] = (uint32_t)k;
    }
    return SL_OK;
}

static sl_status prepare_stops(sl_shown *view, const sl_generate_options *o)
{
    if (!o->n_stop)
        return SL_OK;
    if (!o->stop || o->n_stop > MAX_STOPS)
        return sl_fail(SL_ERR_ARGUMENT, "generate: %zu stop strings, at most %d", o->n_stop, MAX_STOPS);
    view->stops = sl_mem_alloc(&view->mem, o->n_stop, sizeof *view->stops);
    if (!view->stops)
        return SL_ERR_NOMEM;
    view->n_stop = o->n_stop;
    size_t longest = 0;
    for (size_t i = 0; i < o->n_stop; i++) {
        SL_TRY(prepare_stop(&view->mem, &view->stops[i], o->stop[i]));
        longest = view->stops[i].length > longest ? view->stops[i].length : longest;
    }
    view->capacity = longest + PIECE_BYTES;
    view->text = sl_mem_alloc(&view->mem, view->capacity, 1);
    return view->text ? SL_OK : SL_ERR_NOMEM;
}

/* Takes one byte into every automaton; returns the length of the longest stop string that ends here, or 0. */
static size_t advance(sl_shown *view, char byte)
{
    size_t found = 0;
    for (size_t i = 0; i < view->n_stop; i++) {
        sl_stop *s = &view->stops[i];
        while (s->matched && s->text[s->matched] != byte)
            s->matched = s->fallback[s->matched - 1];
        s->matched += s->text[s->matched] == byte;
        if (s->matched == s->length) {
            found = s->length > found ? s->length : found;
            s->matched = s->fallback[s->length - 1];
        }
    }
    return found;
}

/* ---- showing ---- */

static void deliver(sl_shown *view, const char *text, size_t length, sl_token id, uint32_t *finish)
{
    if (view->on_text && view->on_text(text, length, id, view->user)) {
        *finish = SL_FINISH_CALLBACK;
        view->ended = 1;
    }
}

/* Shows what of held + text cannot become a stop string any more. */
static sl_status show(sl_shown *view, const char *text, size_t length, sl_token id, uint32_t *finish)
{
    if (!view->n_stop) {
        deliver(view, text, length, id, finish);
        return SL_OK;
    }
    if (length > view->capacity - view->held)
        return sl_fail(SL_ERR_INTERNAL, "generate: a token of %zu bytes", length);
    memcpy(view->text + view->held, text, length);
    size_t end = view->held + length, shown = end, hold = 0, found = 0;
    for (size_t i = view->held; i < end && !found; i++)
        if ((found = advance(view, view->text[i])) != 0)
            shown = i + 1 - found;
    for (size_t i = 0; i < view->n_stop && !found; i++)
        hold = view->stops[i].matched > hold ? view->stops[i].matched : hold;
    shown -= hold;
    deliver(view, view->text, shown, id, finish);
    if (found) {
        *finish = SL_FINISH_STOP;
        view->ended = 1;
    }
    view->held = end - shown;
    memmove(view->text, view->text + shown, view->held);
    return SL_OK;
}

/* ---- from the first token to the last ---- */

sl_status sl_shown_open(sl_shown *view, sl_model *model, const sl_generate_options *o, uint32_t first)
{
    view->on_text = o->on_text;
    view->user = o->user;
    SL_TRY(prepare_stops(view, o));
    return sl_decoder_create(&view->decoder, model, o->decode_flags, first);
}

void sl_shown_close(sl_shown *view)
{
    sl_decoder_free(view->decoder);
    for (size_t i = 0; i < view->n_stop; i++) {
        sl_mem_free(&view->mem, view->stops[i].text);
        sl_mem_free(&view->mem, view->stops[i].fallback);
    }
    if (view->n_stop) {
        sl_mem_free(&view->mem, view->stops);
        sl_mem_free(&view->mem, view->text);
    }
    *view = (sl_shown) { 0 };
}

uint32_t sl_shown_begins(const sl_model *model, const sl_token *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sl_token_info info = { sizeof info };
        if (sl_token_get_info(model, ids[i], &info) != SL_OK || info.kind != SL_TOKEN_CONTROL)
            return 0;
    }
    return 1;
}

sl_status sl_shown_push(sl_shown *view, sl_token id, uint32_t *finish)
{
    const char *text;
    size_t length;
    SL_TRY(sl_decoder_push(view->decoder, id, &text, &length));
    return show(view, text, length, id, finish);
}

void sl_shown_flush(sl_shown *view)
{
    const char *text;
    size_t length;
    if (view->ended || sl_decoder_flush(view->decoder, &text, &length) != SL_OK)
        return;
    if (view->n_stop) {
        length = length < view->capacity - view->held ? length : 0;
        memcpy(view->text + view->held, text, length);
        text = view->text;
        length += view->held;
    }
    if (length && view->on_text)
        view->on_text(text, length, SL_TOKEN_NONE, view->user);
    view->ended = 1;
}
