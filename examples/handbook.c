/* SPDX-License-Identifier: MIT */
/* handbook.c - answers a question from a text of many passages: the passage that has most of the question's words is put in front of the question, in one message
 * of the model's chat format. The answer goes to stdout as it comes; which passage it was, the times and everything else to stderr.
 *
 * A passage is a paragraph: lines up to an empty one; its title is its first sentence. A passage scores for every word of the question that it has, and again for every
 * two that stand side by side in both; what few passages have counts more. Of a word the first letters are compared, so that "locked" finds "lock". Nothing here
 * is particular to a language or a model. */
#include "answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEM = 5, MAX_WORDS = 256 };     /* letters of a word that count; words of a question */

struct word { char letters[STEM]; };
struct passage { const char *text; size_t length; };

static int is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80; }

/* The next word of text[0 .. length) from *at on, its first letters in lower case; 0: there is none. */
static int next_word(const char *text, size_t length, size_t *at, struct word *word)
{
    size_t n = 0;
    *word = (struct word) { { 0 } };
    while (*at < length && !is_letter(text[*at]))
        ++*at;
    for (; *at < length && is_letter(text[*at]); ++*at, n++)
        if (n < STEM)
            word->letters[n] = (char)(text[*at] >= 'A' && text[*at] <= 'Z' ? text[*at] + 'a' - 'A' : text[*at]);
    return n > 0;
}

/* Whether n words stand in the text, one behind the other. */
static int has_words(const char *text, size_t length, const struct word *wanted, size_t n)
{
    struct word word;
    for (size_t at = 0, found = 0; next_word(text, length, &at, &word);) {
        found = !memcmp(&word, &wanted[found], sizeof word) ? found + 1 : !memcmp(&word, wanted, sizeof word);
        if (found == n)
            return 1;
    }
    return 0;
}

/* Paragraphs of a text. The memory is the caller's. */
static struct passage *split_passages(const char *text, size_t length, size_t *n)
{
    struct passage *passages = take(length / 2 + 1, sizeof *passages);
    *n = 0;
    for (size_t at = 0; at < length;) {
        size_t end = at;
        while (end < length && !(text[end] == '\n' && (end + 1 == length || text[end + 1] == '\n' || text[end + 1] == '\r')))
            end++;
        size_t first = at, last = end;
        while (first < last && strchr(" \t\r\n", text[first]))
            first++;
        while (last > first && strchr(" \t\r\n", text[last - 1]))
            last--;
        if (last > first)
            passages[(*n)++] = (struct passage) { text + first, last - first };
        at = end + 1;
    }
    return passages;
}

static size_t title_length(const struct passage *p)
{
    size_t n = 0;
    while (n < p->length && p->text[n] != '.' && p->text[n] != '\n')
        n++;
    return n;
}

/* Adds to the scores of those of n passages that have these words. */
static void score_words(const struct passage *passages, size_t n, const struct word *words, size_t n_words, double *scores)
{
    char *with = take(n + 1, 1);
    size_t n_with = 0;
    for (size_t i = 0; i < n; i++)
        n_with += (size_t)(with[i] = (char)has_words(passages[i].text, passages[i].length, words, n_words));
    for (size_t i = 0; i < n; i++)
        if (with[i])
            scores[i] += log((double)(n + 1) / (double)n_with);
    free(with);
}

/* The passage of the highest score, the first of equal ones; NULL: none has any word of the question. */
static const struct passage *find_passage(const struct passage *passages, size_t n, const char *question, size_t length)
{
    struct word words[MAX_WORDS];
    size_t n_words = 0, at = 0;
    double *scores = take(n + 1, sizeof *scores), best = 0.0;
    const struct passage *found = NULL;
    while (n_words < MAX_WORDS && next_word(question, length, &at, &words[n_words])) {
        score_words(passages, n, &words[n_words], 1, scores);
        if (n_words)
            score_words(passages, n, &words[n_words - 1], 2, scores);
        n_words++;
    }
    for (size_t i = 0; i < n; i++)
        if (scores[i] > best)
            best = scores[i], found = &passages[i];
    free(scores);
    return found;
}

/* "passage", an empty line, "question" */
static char *join(const struct passage *passage, const char *question, size_t length, size_t *joined)
{
    char *text = take(passage->length + 2 + length + 1, 1);
    memcpy(text, passage->text, passage->length);
    memcpy(text + passage->length, "\n\n", 2);
    memcpy(text + passage->length + 2, question, length);
    *joined = passage->length + 2 + length;
    return text;
}

int main(int argc, char **argv)
{
    struct settings s = { 0 };
    struct choosing choosing = CHOOSING_DEFAULT;
    const char *format = NULL, *path = NULL;
    const struct option options[] = {
        PROMPT_OPTIONS(s),
        { "--passages", "FILE", "a text of passages with empty lines between", OPTION_TEXT, &path },
        { "--chat-format", "NAME", "chat format to use instead of the model's", OPTION_TEXT, &format },
        CHOOSING_OPTIONS(choosing), COMPUTE_OPTIONS(s),
    };
    read_options("handbook", "-m FILE --passages FILE -p QUESTION [option]...", options, sizeof options / sizeof *options, argc, argv, NULL);

    size_t length, n_text, n_passages, n_joined, n;
    char *question = read_prompt(&s, &length);
    if (!path)
        usage_error("--passages: a file is required");
    char *text = read_file(path, &n_text);
    struct passage *passages = split_passages(text, n_text, &n_passages);
    const struct passage *passage = find_passage(passages, n_passages, question, length);
    if (!passage)
        fail("%s: no passage has a word of the question", path);
    fprintf(stderr, "passage %zu of %zu: %.*s\n\n", (size_t)(passage - passages) + 1, n_passages, (int)title_length(passage), passage->text);
    char *prompt = join(passage, question, length, &n_joined);
    sl_model *model = load_model(&s, SL_PARTS_ALL);
    sl_token *ids = encode_message(model, format, NULL, prompt, n_joined, &n);
    sl_session *session = open_session_for(model, &s, n, &choosing);
    struct answer answer = make_answer(session, ids, n, &choosing, s.json);
    if (s.json) {
        printf("{\"passage\": ");
        print_json_text(passage->text, passage->length);
        printf(", ");
        print_json_answer(&answer);
        printf(", ");
        print_json_report(session);
        printf("}\n");
    }
    end_output();
    print_times(&answer, session);
    report(session);

    free_answer(&answer);
    sl_session_free(session);
    sl_model_free(model);
    free(ids);
    free(prompt);
    free(passages);
    free(text);
    free(question);
    return 0;
}
