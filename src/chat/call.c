// SPDX-License-Identifier: Apache-2.0
// Reads one tool call (docs/chat.md, "Calls"). What was read goes into a flat list of nodes first,
// because of a repeated key the last value counts; the list is then written as JSON.
#include "chat/call.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define QUOTE      "<|\"|>"
#define QUOTE_SIZE (sizeof(QUOTE) - 1)

enum node_kind { NODE_RAW, NODE_STRING, NODE_ARRAY, NODE_OBJECT };

// In document order: the children of a container follow it. Texts lie in reader.texts.
struct node {
    uint32_t key_at;
    uint32_t key_size;
    uint32_t text_at; // RAW: JSON as it is; STRING: the characters
    uint32_t text_size;
    uint32_t end; // one past the last node of this subtree
    uint8_t kind;
    bool is_dropped; // a later member has the same key
};

struct text_ref {
    uint32_t at;
    uint32_t size;
};

struct reader {
    struct slice s;
    size_t at;
    struct node *nodes;
    size_t n;
    size_t capacity;
    struct buf texts;
    uint32_t open[CALL_DEPTH_MAX]; // the containers that are not closed yet
    size_t depth;
    struct carat_error *err;
};

#define NO_CALL 1

// ------------------------------------------------------------------------------ characters

static void skip_space(struct reader *r)
{
    while (r->at < r->s.size && memchr(" \t\r\n", r->s.data[r->at], 4)) {
        r->at++;
    }
}

static bool is_at(const struct reader *r, const char *text)
{
    return slice_starts(slice_make(r->s.data + r->at, r->s.size - r->at), text);
}

static bool take(struct reader *r, const char *text)
{
    skip_space(r);
    if (!is_at(r, text)) {
        return false;
    }
    r->at += strlen(text);
    return true;
}

static struct text_ref end_text(struct reader *r, size_t begin)
{
    return (struct text_ref){.at = (uint32_t)begin, .size = (uint32_t)(r->texts.size - begin)};
}

static struct slice text_slice(const struct reader *r, uint32_t at, uint32_t size)
{
    return slice_make(buf_text(&r->texts) + at, size);
}

// <|"|>characters<|"|>, nothing escaped.
static int take_marked_string(struct reader *r, struct text_ref *out)
{
    size_t begin = r->at + QUOTE_SIZE;
    for (r->at = begin; r->at < r->s.size; r->at++) {
        if (r->s.data[r->at] == '<' && is_at(r, QUOTE)) {
            size_t text = r->texts.size;
            buf_add(&r->texts, r->s.data + begin, r->at - begin);
            *out = end_text(r, text);
            r->at += QUOTE_SIZE;
            return 0;
        }
    }
    return NO_CALL;
}

static int take_hex(struct reader *r, uint32_t *out)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = r->at < r->s.size ? r->s.data[r->at] : '\0';
        if (c >= '0' && c <= '9') {
            value = value * 16 + (uint32_t)(c - '0');
        } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
            value = value * 16 + (uint32_t)((c | 32) - 'a' + 10);
        } else {
            return NO_CALL;
        }
    }
    *out = value;
    return 0;
}

// After \u. A surrogate without its other half becomes U+FFFD when it is written.
static int take_unicode_escape(struct reader *r)
{
    uint32_t c = 0;
    uint32_t low = 0;
    if (take_hex(r, &c)) {
        return NO_CALL;
    }
    size_t after = r->at;
    if (c >= 0xD800 && c < 0xDC00 && is_at(r, "\\u")) {
        r->at += 2;
        if (take_hex(r, &low) == 0 && low >= 0xDC00 && low < 0xE000) {
            buf_add_utf8(&r->texts, 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00));
            return 0;
        }
        r->at = after;
    }
    buf_add_utf8(&r->texts, c);
    return 0;
}

// "characters" with JSON's escapes; control characters may stand as they are.
static int take_json_string(struct reader *r, struct text_ref *out)
{
    static const char escapes[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    size_t text = r->texts.size;
    for (r->at++; r->at < r->s.size;) {
        char c = r->s.data[r->at++];
        if (c == '"') {
            *out = end_text(r, text);
            return 0;
        }
        if (c != '\\') {
            buf_addc(&r->texts, c);
            continue;
        }
        c = r->at < r->s.size ? r->s.data[r->at++] : '\0';
        const char *escape = c ? strchr(escapes, c) : NULL;
        if (escape) {
            buf_addc(&r->texts, meanings[escape - escapes]);
        } else if (c != 'u' || take_unicode_escape(r)) {
            return NO_CALL;
        }
    }
    return NO_CALL;
}

// What stands before one of the characters in stop, without the space around it.
static struct slice take_bare(struct reader *r, const char *stop)
{
    size_t n_stop = strlen(stop);
    size_t begin = r->at;
    while (r->at < r->s.size && !memchr(stop, r->s.data[r->at], n_stop)) {
        r->at++;
    }
    size_t end = r->at;
    while (end > begin && memchr(" \t\r\n", r->s.data[end - 1], 4)) {
        end--;
    }
    return slice_make(r->s.data + begin, end - begin);
}

static bool is_at_string(const struct reader *r)
{
    return is_at(r, "\"") || is_at(r, QUOTE);
}

static int take_string(struct reader *r, struct text_ref *out)
{
    return is_at(r, QUOTE) ? take_marked_string(r, out) : take_json_string(r, out);
}

// ------------------------------------------------------------------------------ values

static size_t skip_digits(struct slice s, size_t i)
{
    while (i < s.size && s.data[i] >= '0' && s.data[i] <= '9') {
        i++;
    }
    return i;
}

static bool is_number(struct slice s)
{
    size_t i = s.size && s.data[0] == '-';
    size_t whole = i;
    i = skip_digits(s, i);
    if (i == whole || (s.data[whole] == '0' && i > whole + 1)) {
        return false;
    }
    if (i < s.size && s.data[i] == '.') {
        size_t fraction = i + 1;
        i = skip_digits(s, fraction);
        if (i == fraction) {
            return false;
        }
    }
    if (i < s.size && (s.data[i] | 32) == 'e') {
        size_t exponent = i + 1;
        exponent += exponent < s.size && (s.data[exponent] == '+' || s.data[exponent] == '-');
        i = skip_digits(s, exponent);
        if (i == exponent) {
            return false;
        }
    }
    return i == s.size;
}

static int add_node(struct reader *r, enum node_kind kind, struct text_ref key,
                    struct text_ref text)
{
    if (r->n == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 32;
        struct node *grown = r->nodes ? mem_resize(r->nodes, capacity * sizeof(*grown), r->err)
                                      : mem_new_array(capacity, sizeof(*grown), r->err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        r->nodes = grown;
        r->capacity = capacity;
    }
    r->nodes[r->n] = (struct node){.kind = (uint8_t)kind,
                                   .key_at = key.at,
                                   .key_size = key.size,
                                   .text_at = text.at,
                                   .text_size = text.size,
                                   .end = (uint32_t)(r->n + 1)};
    r->n++;
    return 0;
}

static int open_container(struct reader *r, enum node_kind kind, struct text_ref key)
{
    if (r->depth == CALL_DEPTH_MAX) {
        return NO_CALL;
    }
    r->open[r->depth++] = (uint32_t)r->n;
    r->at++;
    return add_node(r, kind, key, (struct text_ref){0});
}

static int take_value(struct reader *r, struct text_ref key)
{
    struct text_ref text = {0};
    skip_space(r);
    if (is_at(r, "{") || is_at(r, "[")) {
        return open_container(r, is_at(r, "{") ? NODE_OBJECT : NODE_ARRAY, key);
    }
    if (is_at_string(r)) {
        int rc = take_string(r, &text);
        return rc ? rc : add_node(r, NODE_STRING, key, text);
    }
    struct slice word = take_bare(r, ",}]");
    for (size_t i = 0; i < word.size; i++) {
        if (memchr("{[\"<:", word.data[i], 5)) {
            return NO_CALL;
        }
    }
    if (!word.size) {
        return NO_CALL;
    }
    bool is_raw = slice_is(word, "true") || slice_is(word, "false") || slice_is(word, "null") ||
                  is_number(word);
    size_t begin = r->texts.size;
    buf_add_slice(&r->texts, word);
    return add_node(r, is_raw ? NODE_RAW : NODE_STRING, key, end_text(r, begin));
}

static int take_key(struct reader *r, struct text_ref *key)
{
    skip_space(r);
    if (is_at_string(r)) {
        int rc = take_string(r, key);
        if (rc) {
            return rc;
        }
    } else {
        size_t begin = r->texts.size;
        buf_add_slice(&r->texts, take_bare(r, ":,{}[]"));
        *key = end_text(r, begin);
    }
    return key->size && take(r, ":") ? 0 : NO_CALL;
}

// ------------------------------------------------------------------------------ repeated keys

struct key_ref {
    struct slice key;
    uint32_t node;
};

static int by_key(const void *x, const void *y)
{
    const struct key_ref *a = x;
    const struct key_ref *b = y;
    size_t size = a->key.size < b->key.size ? a->key.size : b->key.size;
    int order = memcmp(a->key.data, b->key.data, size); // keys are never empty
    if (!order) {
        order = (a->key.size > b->key.size) - (a->key.size < b->key.size);
    }
    return order ? order : (a->node > b->node) - (a->node < b->node);
}

static int drop_repeated(struct reader *r, size_t object)
{
    size_t n = 0;
    for (size_t i = object + 1; i < r->nodes[object].end; i = r->nodes[i].end) {
        n++;
    }
    if (n < 2) {
        return 0;
    }
    struct key_ref *keys = mem_new_array(n, sizeof(*keys), r->err);
    if (!keys) {
        return CARAT_E_MEMORY;
    }
    n = 0;
    for (size_t i = object + 1; i < r->nodes[object].end; i = r->nodes[i].end) {
        const struct node *node = &r->nodes[i];
        keys[n++] = (struct key_ref){.key = text_slice(r, node->key_at, node->key_size),
                                     .node = (uint32_t)i};
    }
    qsort(keys, n, sizeof(*keys), by_key);
    for (size_t i = 0; i + 1 < n; i++) {
        r->nodes[keys[i].node].is_dropped = slice_equal(keys[i].key, keys[i + 1].key);
    }
    mem_free(keys);
    return 0;
}

// ------------------------------------------------------------------------------ the whole

// After a value: closes what ends here, until a comma or the end of the outermost object.
static int close_containers(struct reader *r)
{
    while (r->depth) {
        uint32_t top = r->open[r->depth - 1];
        bool is_object = r->nodes[top].kind == NODE_OBJECT;
        if (take(r, ",")) {
            return 0;
        }
        if (!take(r, is_object ? "}" : "]")) {
            return NO_CALL;
        }
        r->nodes[top].end = (uint32_t)r->n;
        r->depth--;
        int rc = is_object ? drop_repeated(r, top) : 0;
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static bool is_empty_container(struct reader *r, size_t n_before)
{
    bool has_opened = r->n == n_before + 1 && r->nodes[n_before].kind >= NODE_ARRAY;
    if (!has_opened) {
        return false;
    }
    skip_space(r);
    return is_at(r, r->nodes[n_before].kind == NODE_OBJECT ? "}" : "]");
}

static int take_object(struct reader *r)
{
    int rc = is_at(r, "{") ? open_container(r, NODE_OBJECT, (struct text_ref){0}) : NO_CALL;
    if (!rc && is_empty_container(r, 0)) {
        return close_containers(r);
    }
    while (!rc && r->depth) {
        struct text_ref key = {0};
        size_t before = r->n;
        bool is_member = r->nodes[r->open[r->depth - 1]].kind == NODE_OBJECT;
        rc = is_member ? take_key(r, &key) : 0;
        if (!rc) {
            rc = take_value(r, key);
        }
        bool has_opened = !rc && r->nodes[before].kind >= NODE_ARRAY;
        if (!rc && (!has_opened || is_empty_container(r, before))) {
            rc = close_containers(r);
        }
    }
    return rc;
}

static void write_node(const struct reader *r, const struct node *node, bool is_member,
                       struct buf *out)
{
    if (is_member) {
        struct slice key = text_slice(r, node->key_at, node->key_size);
        buf_add_json(out, key.data, key.size);
        buf_addc(out, ':');
    }
    struct slice text = text_slice(r, node->text_at, node->text_size);
    switch (node->kind) {
    case NODE_RAW:
        buf_add_slice(out, text);
        break;
    case NODE_STRING:
        buf_add_json(out, text.data, text.size);
        break;
    default:
        buf_addc(out, node->kind == NODE_OBJECT ? '{' : '[');
        break;
    }
}

static void write_json(struct reader *r, struct buf *out)
{
    bool needs_comma = false;
    r->depth = 0;
    for (size_t i = 0; i <= r->n; i++) {
        while (r->depth && r->nodes[r->open[r->depth - 1]].end == i) {
            buf_addc(out, r->nodes[r->open[--r->depth]].kind == NODE_OBJECT ? '}' : ']');
            needs_comma = true;
        }
        if (i == r->n) {
            break;
        }
        const struct node *node = &r->nodes[i];
        if (node->is_dropped) {
            i = node->end - 1;
            continue;
        }
        bool is_member = r->depth && r->nodes[r->open[r->depth - 1]].kind == NODE_OBJECT;
        if (needs_comma) {
            buf_addc(out, ',');
        }
        write_node(r, node, is_member, out);
        needs_comma = node->kind < NODE_ARRAY;
        if (node->kind >= NODE_ARRAY) {
            r->open[r->depth++] = (uint32_t)i;
        }
    }
}

// The head, call:NAME, up to the first brace.
static bool take_head(struct reader *r, struct slice *name)
{
    const char *brace = r->s.size ? memchr(r->s.data, '{', r->s.size) : NULL;
    if (!brace) {
        return false;
    }
    r->at = (size_t)(brace - r->s.data);
    struct slice head = utf8_trim(slice_make(r->s.data, r->at));
    if (!slice_starts(head, "call:") || head.size == strlen("call:")) {
        return false;
    }
    *name = slice_make(head.data + strlen("call:"), head.size - strlen("call:"));
    for (size_t i = 0; i < name->size;) {
        uint32_t c = 0;
        int length = utf8_next(name->data + i, name->size - i, &c);
        if (length > 0 && unicode_is_space(c)) {
            return false;
        }
        i += length > 0 ? (size_t)length : 1;
    }
    return true;
}

int call_parse(struct buf *name, struct buf *arguments, struct slice body, struct carat_error *err)
{
    struct slice name_text = {0};
    struct buf json = {0};
    int rc = NO_CALL;
    if (body.size >= UINT32_MAX / 4) {
        return NO_CALL;
    }
    struct reader *r = mem_new(sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    r->s = body;
    r->err = err;
    if (!take_head(r, &name_text)) {
        goto out;
    }
    rc = take_object(r);
    if (rc) {
        goto out;
    }
    skip_space(r);
    if (r->at != body.size) {
        rc = NO_CALL;
        goto out;
    }
    write_json(r, &json);
    rc = r->texts.has_failed ? buf_status(&r->texts, err) : buf_status(&json, err);
    if (rc) {
        goto out;
    }
    buf_add_slice(name, name_text);
    buf_add_slice(arguments, slice_make(buf_text(&json), json.size));
out:
    buf_release(&json);
    buf_release(&r->texts);
    mem_free(r->nodes);
    mem_free(r);
    return rc;
}
