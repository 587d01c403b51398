/* SPDX-License-Identifier: MIT */
/* json.h - reads the JSON of the reference data: a tree of values, siblings linked in order. For trusted test data. */
#ifndef SL_TESTS_JSON_H
#define SL_TESTS_JSON_H

#include <stddef.h>

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    double number;
    char *text;                 /* of a string: terminated, escapes resolved to UTF-8 */
    size_t length;              /* bytes of text; elements or members of an array or object */
    char *key;                  /* of a member of an object, else NULL */
    struct json *child, *next;  /* first element or member; next one of the same parent */
};

/* The value at the start of `length` bytes; *used (or NULL) receives how many bytes it took. NULL: not JSON. */
struct json *json_parse(const char *text, size_t length, size_t *used);
void json_free(struct json *value);

/* The member `key` of an object, or NULL. */
const struct json *json_get(const struct json *object, const char *key);
/* Its number, or `otherwise` if there is no such member. */
double json_number(const struct json *object, const char *key, double otherwise);
/* Its text, or NULL. */
const char *json_text(const struct json *object, const char *key);

#endif
