/* SPDX-License-Identifier: MIT */
/* json.c - see json.h. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_NUMBER = 64 };

struct cursor { const char *at, *end; };

static struct json *parse_value(struct cursor *c, int depth);

static int peek(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
        c->at++;
    return c->at < c->end ? (unsigned char)*c->at : -1;
}

static int expect(struct cursor *c, char wanted)
{
    if (peek(c) != wanted)
        return 0;
    c->at++;
    return 1;
}

static long parse_hex4(struct cursor *c)
{
    long value = 0;
    if (c->end - c->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef", *d = memchr(digits, *c->at | 0x20, 16);
        if (!d)
            return -1;
        value = value * 16 + (d - digits);
        c->at++;
    }
    return value;
}

static size_t put_utf8(char *to, unsigned long code)
{
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (size_t i = n; i-- > 0; code >>= 6)
        to[i] = (char)(i ? 0x80 | (code & 0x3f) : lead[n] | code);
    return n;
}

/* What follows a backslash; returns the bytes written to `to` (at most 4), 0 on an error. */
static size_t parse_escape(struct cursor *c, char *to)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (c->at >= c->end)
        return 0;
    char name = *c->at++;
    const char *known = memchr(names, name, sizeof names - 1);
    if (known) {
        *to = values[known - names];
        return 1;
    }
    long code = name == 'u' ? parse_hex4(c) : -1;
    if (code >= 0xd800 && code < 0xdc00) {
        if (c->end - c->at < 6 || c->at[0] != '\\' || c->at[1] != 'u')
            return 0;
        c->at += 2;
        long low = parse_hex4(c);
        code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : -1;
    }
    return code < 0 ? 0 : put_utf8(to, (unsigned long)code);
}

static char *parse_string(struct cursor *c, size_t *length)
{
    if (!expect(c, '"'))
        return NULL;
    const char *quote = c->at;
    while (quote < c->end && *quote != '"')
        quote += *quote == '\\' ? 2 : 1;
    if (quote >= c->end)
        return NULL;
    char *text = malloc((size_t)(quote - c->at) + 1);
    size_t n = 0;
    while (text && c->at < quote) {
        if (*c->at != '\\') {
            text[n++] = *c->at++;
            continue;
        }
        c->at++;
        size_t k = parse_escape(c, text + n);   /* no escape is shorter than what it stands for */
        if (!k) {
            free(text);
            return NULL;
        }
        n += k;
    }
    c->at = quote + 1;
    if (text)
        text[n] = 0;
    *length = n;
    return text;
}

static int parse_children(struct cursor *c, struct json *parent, int depth)
{
    char close = parent->kind == JSON_OBJECT ? '}' : ']';
    struct json **tail = &parent->child;
    c->at++;
    if (expect(c, close))
        return 1;
    do {
        size_t length;
        char *key = parent->kind == JSON_OBJECT ? parse_string(c, &length) : NULL;
        if (parent->kind == JSON_OBJECT && (!key || !expect(c, ':'))) {
            free(key);
            return 0;
        }
        *tail = parse_value(c, depth + 1);
        if (!*tail) {
            free(key);
            return 0;
        }
        (*tail)->key = key;
        tail = &(*tail)->next;
        parent->length++;
    } while (expect(c, ','));
    return expect(c, close);
}

static int parse_number(struct cursor *c, double *to)
{
    char digits[MAX_NUMBER];
    size_t n = 0;
    while (c->at < c->end && n < sizeof digits - 1 && *c->at && strchr("+-.0123456789eE", *c->at))
        digits[n++] = *c->at++;
    digits[n] = 0;
    char *end;
    *to = strtod(digits, &end);
    return n && !*end;
}

static int parse_word(struct cursor *c, enum json_kind *kind)
{
    static const char *const words[] = { "null", "false", "true" };     /* in the order of the kinds */
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(c->end - c->at) >= n && memcmp(c->at, words[i], n) == 0) {
            c->at += n;
            *kind = (enum json_kind)i;
            return 1;
        }
    }
    return 0;
}

static struct json *parse_value(struct cursor *c, int depth)
{
    struct json *value = depth < MAX_DEPTH ? calloc(1, sizeof *value) : NULL;
    if (!value)
        return NULL;
    int first = peek(c), good;
    if (first == '"') {
        value->kind = JSON_TEXT;
        good = (value->text = parse_string(c, &value->length)) != NULL;
    } else if (first == '{' || first == '[') {
        value->kind = first == '{' ? JSON_OBJECT : JSON_ARRAY;
        good = parse_children(c, value, depth);
    } else if (first >= 0 && strchr("-0123456789", first)) {
        value->kind = JSON_NUMBER;
        good = parse_number(c, &value->number);
    } else {
        good = parse_word(c, &value->kind);
    }
    if (good)
        return value;
    json_free(value);
    return NULL;
}

struct json *json_parse(const char *text, size_t length, size_t *used)
{
    struct cursor c = { text, text + length };
    struct json *value = parse_value(&c, 0);
    if (used)
        *used = (size_t)(c.at - text);
    return value;
}

void json_free(struct json *value)
{
    while (value) {
        struct json *next = value->next;
        json_free(value->child);
        free(value->text);
        free(value->key);
        free(value);
        value = next;
    }
}

const struct json *json_get(const struct json *object, const char *key)
{
    const struct json *member = object && object->kind == JSON_OBJECT ? object->child : NULL;
    while (member && strcmp(member->key, key) != 0)
        member = member->next;
    return member;
}

double json_number(const struct json *object, const char *key, double otherwise)
{
    const struct json *member = json_get(object, key);
    return member && member->kind == JSON_NUMBER ? member->number : otherwise;
}

const char *json_text(const struct json *object, const char *key)
{
    const struct json *member = json_get(object, key);
    return member && member->kind == JSON_TEXT ? member->text : NULL;
}
