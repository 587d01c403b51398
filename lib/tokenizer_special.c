/* SPDX-License-Identifier: MIT */
/* tokenizer_special.c - cuts text at special tokens. The rule is: the longest token text first, through the whole text, then the next; so a
 * longer one wins over a shorter one that begins earlier. Done in one scan: an automaton names the longest token that ends at each byte; where
 * occurrences overlap (a cluster), they are taken from a heap, best first, and one that is blocked makes way for the longest that still fits. */
#include "vocab.h"

#include <string.h>

/* ---- building ---- */

typedef struct builder {
    sl_special *special;
    const sl_vocab *vocab;
    uint32_t *order;            /* entries sorted by their bytes */
    uint32_t *low, *high;       /* per node: the entries in `order` that begin like it */
    size_t n_nodes;
} builder;

static const sl_token_row *row_of(const sl_special *special, const sl_vocab *vocab, uint32_t entry)
{
    return &vocab->tokens[special->entries[entry].id];
}

static int is_longer(const builder *b, uint32_t a, uint32_t c)
{
    uint32_t x = b->vocab->tokens[a].length, y = b->vocab->tokens[c].length;
    return x != y ? x > y : a < c;
}

static int is_less(const builder *b, uint32_t a, uint32_t c)
{
    const sl_token_row *x = row_of(b->special, b->vocab, a), *y = row_of(b->special, b->vocab, c);
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    if (order)
        return order < 0;
    return x->length != y->length ? x->length < y->length : a < c;
}

/* Heap sort: in place, no recursion, n log n whatever the file holds. */
static void sort(uint32_t *items, size_t n, const builder *b, int (*before)(const builder *, uint32_t, uint32_t))
{
    for (size_t start = n / 2, end = n; end > 1;) {
        if (start)
            start--;
        else {
            end--;
            uint32_t last = items[end];
            items[end] = items[0];
            items[0] = last;
        }
        uint32_t item = items[start];
        size_t at = start;
        for (size_t child; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && before(b, items[child], items[child + 1]))
                child++;
            if (!before(b, item, items[child]))
                break;
            items[at] = items[child];
        }
        items[at] = item;
    }
}

/* Nodes of the tree of all texts: each adds those that it does not share with its neighbour in sorted order. */
static size_t count_nodes(const builder *b)
{
    size_t nodes = 1;
    for (uint32_t i = 0; i < b->special->n_entries; i++) {
        const sl_token_row *t = row_of(b->special, b->vocab, b->order[i]), *before = i ? row_of(b->special, b->vocab, b->order[i - 1]) : NULL;
        uint32_t same = 0;
        while (before && same < t->length && same < before->length && t->text[same] == before->text[same])
            same++;
        nodes += t->length - same;
    }
    return nodes;
}

static uint32_t child_of(const sl_special *s, uint32_t node, uint8_t byte)
{
    if (!node)
        return s->root[byte];
    uint32_t low = s->first_child[node], high = s->first_child[node + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->byte[middle] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->first_child[node + 1] && s->byte[low] == byte ? low : 0;
}

static uint32_t step(const sl_special *s, uint32_t node, uint8_t byte)
{
    for (;;) {
        uint32_t child = child_of(s, node, byte);
        if (child || !node)
            return child;
        node = s->fail[node];
    }
}

/* Settles node v at `depth` and appends its children; the nodes before it are settled. */
static void grow_node(builder *b, uint32_t v, uint32_t depth, uint32_t *n_nodes)
{
    sl_special *s = b->special;
    uint32_t low = b->low[v], high = b->high[v];
    s->found[v] = v ? s->found[s->fail[v]] : SL_VOCAB_NONE;
    s->first_child[v] = *n_nodes;
    if (v && low < high && row_of(s, b->vocab, b->order[low])->length == depth) {
        s->entries[b->order[low]].shorter = s->found[v];
        s->found[v] = b->order[low];        /* of equal texts the lowest id stands first */
        while (low < high && row_of(s, b->vocab, b->order[low])->length == depth)
            low++;
    }
    while (low < high) {
        uint8_t byte = (uint8_t)row_of(s, b->vocab, b->order[low])->text[depth];
        uint32_t child = (*n_nodes)++;
        s->byte[child] = byte;
        s->fail[child] = v ? step(s, s->fail[v], byte) : 0;
        b->low[child] = low;
        while (low < high && (uint8_t)row_of(s, b->vocab, b->order[low])->text[depth] == byte)
            low++;
        b->high[child] = low;
        if (!v)
            s->root[byte] = child;
    }
    s->open[v] = v && (*n_nodes > s->first_child[v] || s->open[s->fail[v]]);
}

static void grow_tree(builder *b)
{
    uint32_t n_nodes = 1, depth = 0, level_end = 1;
    b->low[0] = 0;
    b->high[0] = b->special->n_entries;
    for (uint32_t v = 0; v < n_nodes; v++) {
        if (v == level_end) {
            depth++;
            level_end = n_nodes;
        }
        grow_node(b, v, depth, &n_nodes);
    }
    b->special->n_nodes = n_nodes;
    b->special->first_child[n_nodes] = n_nodes;
}

/* Farther links on the chains of `shorter`: a chain is searched in steps logarithmic in its length. */
static void link_chains(sl_special *s)
{
    static const sl_special_entry none = { .jump = SL_VOCAB_NONE };
    for (uint32_t i = s->n_entries; i-- > 0;) {         /* shorter texts first */
        sl_special_entry *e = &s->entries[i];
        e->jump = SL_VOCAB_NONE;
        e->depth = 1;
        if (e->shorter == SL_VOCAB_NONE)
            continue;
        const sl_special_entry *p = &s->entries[e->shorter], *j = p->jump == SL_VOCAB_NONE ? &none : &s->entries[p->jump];
        const sl_special_entry *jj = j->jump == SL_VOCAB_NONE ? &none : &s->entries[j->jump];
        e->depth = p->depth + 1;
        e->jump = p->depth - j->depth == j->depth - jj->depth ? j->jump : e->shorter;
    }
}

static sl_status allocate_nodes(builder *b, const sl_mem *mem)
{
    sl_special *s = b->special;
    b->n_nodes = count_nodes(b);
    if (b->n_nodes > INT32_MAX)
        return sl_fail(SL_ERR_LIMIT, "tokenizer.ggml.tokens: %zu bytes of special tokens", b->n_nodes);
    s->first_child = sl_mem_alloc(mem, b->n_nodes + 1, sizeof *s->first_child);
    s->fail = sl_mem_alloc(mem, b->n_nodes, sizeof *s->fail);
    s->found = sl_mem_alloc(mem, b->n_nodes, sizeof *s->found);
    s->byte = sl_mem_alloc(mem, b->n_nodes, 1);
    s->open = sl_mem_alloc(mem, b->n_nodes, 1);
    b->low = sl_mem_alloc(mem, b->n_nodes, sizeof *b->low);
    b->high = sl_mem_alloc(mem, b->n_nodes, sizeof *b->high);
    return s->first_child && s->fail && s->found && s->byte && s->open && b->low && b->high ? SL_OK : SL_ERR_NOMEM;
}

sl_status sl_special_create(sl_special *special, const sl_vocab *vocab, int (*wanted)(const sl_token_row *token))
{
    *special = (sl_special) { 0 };
    uint32_t n = 0;
    for (uint32_t id = 0; id < vocab->n_tokens; id++)
        n += vocab->tokens[id].length && wanted(&vocab->tokens[id]);
    if (!n)
        return SL_OK;
    builder b = { .special = special, .vocab = vocab };
    special->entries = sl_mem_alloc(&vocab->mem, n, sizeof *special->entries);
    b.order = sl_mem_alloc(&vocab->mem, n, sizeof *b.order);
    sl_status status = special->entries && b.order ? SL_OK : SL_ERR_NOMEM;
    if (status == SL_OK) {
        for (uint32_t id = 0; id < vocab->n_tokens; id++)
            if (vocab->tokens[id].length && wanted(&vocab->tokens[id]))
                b.order[special->n_entries++] = id;
        sort(b.order, n, &b, is_longer);
        for (uint32_t i = 0; i < n; i++) {
            special->entries[i] = (sl_special_entry) { .id = b.order[i], .shorter = SL_VOCAB_NONE };
            b.order[i] = i;
        }
        sort(b.order, n, &b, is_less);
        status = allocate_nodes(&b, &vocab->mem);
    }
    if (status == SL_OK) {
        grow_tree(&b);
        link_chains(special);
    }
    sl_mem_free(&vocab->mem, b.order);
    sl_mem_free(&vocab->mem, b.low);
    sl_mem_free(&vocab->mem, b.high);
    return status;
}

void sl_special_free(sl_special *special, const sl_mem *mem)
{
    sl_mem_free(mem, special->entries);
    sl_mem_free(mem, special->first_child);
    sl_mem_free(mem, special->fail);
    sl_mem_free(mem, special->found);
    sl_mem_free(mem, special->byte);
    sl_mem_free(mem, special->open);
    *special = (sl_special) { 0 };
}

/* ---- cutting ---- */

/* Occurrences that overlap, or might: no special token reaches across the ends of a cluster. */
typedef struct cutter {
    const sl_special *special;
    const sl_vocab *vocab;
    sl_scratch *scratch;
    const char *text;
    size_t base, done;          /* start of the cluster; end of what has been handed out */
    uint64_t *items;            /* entry << 32 | end - base: the heap, lowest first; accepted ones gather behind it */
    size_t n_items;
    uint64_t *taken, *any;      /* bits: this byte belongs to a token; this word of `taken` is not 0 */
} cutter;

static void sift(uint64_t *items, size_t n, size_t at)
{
    uint64_t item = items[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && items[child + 1] < items[child];
        if (item <= items[child])
            break;
        items[at] = items[child];
    }
    items[at] = item;
}

static uint32_t length_of(const cutter *c, uint32_t entry) { return row_of(c->special, c->vocab, entry)->length; }

static int is_taken(const cutter *c, size_t at) { return (int)(c->taken[at / 64] >> at % 64 & 1); }

static int is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Free bytes that lie directly before `end`; end - 1 is free, some byte before it is not. */
static size_t room_before(const cutter *c, size_t end)
{
    size_t at = end - 1, word = at / 64;
    uint64_t bits = c->taken[word] & ~(~0ull << at % 64);
    if (!bits) {
        size_t group = word / 64;
        uint64_t groups = c->any[group] & ~(~0ull << word % 64);
        while (!groups)
            groups = c->any[--group];
        word = group * 64 + 63 - (size_t)__builtin_clzll(groups);
        bits = c->taken[word];
    }
    return at - (word * 64 + 63 - (size_t)__builtin_clzll(bits));
}

/* The longest of this entry's endings that has at most `room` bytes. */
static uint32_t fitting(const cutter *c, uint32_t entry, size_t room)
{
    while (entry != SL_VOCAB_NONE && length_of(c, entry) > room) {
        const sl_special_entry *e = &c->special->entries[entry];
        entry = e->jump != SL_VOCAB_NONE && length_of(c, e->jump) > room ? e->jump : e->shorter;
    }
    return entry;
}

/* Does this token swallow the white space behind it? */
static int strips(const cutter *c, uint32_t entry)
{
    static const char *const plain[] = { "<s>", "<unk>", "<|endoftext|>" };
    const sl_token_row *t = row_of(c->special, c->vocab, entry);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strlen(plain[i]) == t->length && !memcmp(t->text, plain[i], t->length))
            return 0;
    return c->vocab->strip_behind;
}

static void take(cutter *c, uint32_t entry, size_t end, size_t cluster_end)
{
    size_t at = end - length_of(c, entry);
    for (int strip = strips(c, entry); at < end || (strip && at < cluster_end && !is_taken(c, at) && is_blank(c->text[c->base + at])); at++) {
        c->taken[at / 64] |= 1ull << at % 64;
        c->any[at / 4096] |= 1ull << at / 64 % 64;
    }
}

/* Picks the occurrences of the cluster that count; they end up sorted backwards at the front of items. Returns how many. */
static size_t choose(cutter *c, size_t cluster_end)
{
    size_t n = c->n_items, top = n;
    for (size_t i = n / 2; i-- > 0;)
        sift(c->items, n, i);
    while (n) {
        uint32_t entry = (uint32_t)(c->items[0] >> 32);
        size_t end = (uint32_t)c->items[0], start = end - length_of(c, entry);
        int accepted = 0;
        /* What is taken lies in runs at least as long as this text, so an overlap shows at one of its two ends. */
        if (!is_taken(c, end - 1)) {
            if (is_taken(c, start)) {
                uint32_t other = fitting(c, entry, room_before(c, end));
                if (other != SL_VOCAB_NONE) {
                    c->items[0] = (uint64_t)other << 32 | end;
                    sift(c->items, n, 0);
                    continue;
                }
            } else {
                take(c, entry, end, cluster_end);
                accepted = 1;
            }
        }
        c->items[0] = c->items[--n];
        if (n)
            sift(c->items, n, 0);
        if (accepted)
            c->items[--top] = (uint64_t)end << 32 | entry;
    }
    n = c->n_items - top;
    memmove(c->items, c->items + top, n * sizeof *c->items);
    for (size_t i = n / 2; i-- > 0;)
        sift(c->items, n, i);
    for (size_t left = n; left > 1;) {
        uint64_t least = c->items[0];
        c->items[0] = c->items[--left];
        c->items[left] = least;
        sift(c->items, left, 0);
    }
    return n;
}

static sl_status hand_out_stretch(cutter *c, size_t end)
{
    return end > c->done ? c->vocab->tokenizer->encode(c->vocab, c->scratch, c->text + c->done, end - c->done) : SL_OK;
}

/* Hands out what lies before the end of the cluster, except the stretch behind its last token. */
static sl_status close_cluster(cutter *c, size_t cluster_end)
{
    size_t bytes = cluster_end - c->base;
    if (bytes > UINT32_MAX)
        return sl_fail(SL_ERR_LIMIT, "%zu bytes of special tokens that overlap", bytes);
    SL_TRY(sl_mem_grow(c->scratch->mem, &c->taken, bytes / 64 + 1, sizeof *c->taken));
    SL_TRY(sl_mem_grow(c->scratch->mem, &c->any, bytes / 4096 + 1, sizeof *c->any));
    memset(c->taken, 0, (bytes / 64 + 1) * sizeof *c->taken);
    memset(c->any, 0, (bytes / 4096 + 1) * sizeof *c->any);
    for (size_t n = choose(c, bytes); n-- > 0;) {
        uint32_t entry = (uint32_t)c->items[n];
        size_t end = c->base + (size_t)(c->items[n] >> 32), next = cluster_end;
        if (n)
            next = c->base + (size_t)(c->items[n - 1] >> 32) - length_of(c, (uint32_t)c->items[n - 1]);
        SL_TRY(hand_out_stretch(c, end - length_of(c, entry)));
        sl_ids_add(c->scratch->out, c->special->entries[entry].id);
        for (c->done = end; c->done < next && strips(c, entry) && is_blank(c->text[c->done]);)
            c->done++;
    }
    c->n_items = 0;
    return SL_OK;
}

static sl_status scan(cutter *c, size_t length)
{
    const sl_special *s = c->special;
    uint32_t node = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)c->text[i];
        if (!node && !c->n_items) {
            c->base = i;
            if (!s->root[byte])
                continue;
        }
        node = step(s, node, byte);
        if (s->found[node] != SL_VOCAB_NONE) {
            if (i + 1 - c->base > UINT32_MAX)
                return sl_fail(SL_ERR_LIMIT, "%zu bytes of special tokens that overlap", i + 1 - c->base);
            SL_TRY(sl_mem_grow(c->scratch->mem, &c->items, c->n_items + 1, sizeof *c->items));
            c->items[c->n_items++] = (uint64_t)s->found[node] << 32 | (i + 1 - c->base);
        }
        if (s->open[node] || (c->vocab->strip_behind && i + 1 < length && is_blank(c->text[i + 1])))
            continue;
        if (c->n_items)
            SL_TRY(close_cluster(c, i + 1));
        c->base = i + 1;
    }
    return c->n_items ? close_cluster(c, length) : SL_OK;
}

sl_status sl_special_cut(const sl_special *special, const sl_vocab *vocab, sl_scratch *scratch, const char *text, size_t length)
{
    cutter c = { .special = special, .vocab = vocab, .scratch = scratch, .text = text };
    sl_status status = special->n_entries ? scan(&c, length) : SL_OK;
    if (status == SL_OK)
        status = hand_out_stretch(&c, length);
    sl_mem_free(scratch->mem, c.items);
    sl_mem_free(scratch->mem, c.taken);
    sl_mem_free(scratch->mem, c.any);
    return status;
}
