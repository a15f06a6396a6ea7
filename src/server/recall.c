// SPDX-License-Identifier: Apache-2.0
// A ring of what was sampled, the oldest first. It is searched from its newest end by a hash of the
// id: a few thousand numbers are looked through faster than an index would be kept.
#include "server/recall.h"

#include <pthread.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "formats/json.h"

struct sampled {
    uint64_t hash; // of the id
    char *id;      // a block that holds the other texts, too
    const char *name, *arguments, *text;
    size_t size; // of the block
};

struct recall {
    size_t n_max, bytes_max;
    pthread_mutex_t lock; // guards all below
    struct sampled *ring; // [n_max]
    size_t first, n;      // the oldest, how many
    size_t bytes;
};

int recall_new(struct recall **out, size_t n_max, size_t bytes_max, struct carat_error *err)
{
    struct recall *r = mem_new(sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    r->n_max = n_max;
    r->bytes_max = bytes_max;
    r->ring = mem_new_array(n_max, sizeof(*r->ring), err);
    if (!r->ring) {
        mem_free(r);
        return CARAT_E_MEMORY;
    }
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return 0;
}

static void forget_oldest(struct recall *r)
{
    struct sampled *s = &r->ring[r->first];
    r->bytes -= s->size;
    mem_free(s->id);
    *s = (struct sampled){0};
    r->first = (r->first + 1) % r->n_max;
    r->n--;
}

void recall_free(struct recall *r)
{
    if (!r) {
        return;
    }
    while (r->n > 0) {
        forget_oldest(r);
    }
    mem_free(r->ring);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

static uint64_t hash_of(struct slice id)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add(&h, id.data, id.size);
    return hash_u64(&h);
}

// Copies a text with its terminator and moves on behind it.
static const char *put_text(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

void recall_put(struct recall *r, const char *id, const char *name, const char *arguments,
                const char *sampled)
{
    size_t size = strlen(id) + strlen(name) + strlen(arguments) + strlen(sampled) + 4;
    char *block = size <= r->bytes_max ? mem_new(size, NULL) : NULL;
    if (!block || r->n_max == 0) {
        mem_free(block);
        return;
    }
    struct sampled s = {.hash = hash_of(slice_of(id)), .id = block, .size = size};
    put_text(&block, id);
    s.name = put_text(&block, name);
    s.arguments = put_text(&block, arguments);
    s.text = put_text(&block, sampled);
    pthread_mutex_lock(&r->lock);
    while (r->n > 0 && (r->n == r->n_max || r->bytes + size > r->bytes_max)) {
        forget_oldest(r);
    }
    r->ring[(r->first + r->n++) % r->n_max] = s;
    r->bytes += size;
    pthread_mutex_unlock(&r->lock);
}

// Whether two numbers, strings, truths or nulls are the same.
static bool is_same_scalar(const struct json_value *a, const struct json_value *b)
{
    switch (json_kind(a)) {
    case JSON_BOOL:
        return json_bool(a) == json_bool(b);
    case JSON_STRING:
        return slice_equal(json_string(a), json_string(b));
    case JSON_NUMBER: { // 1.0 comes back as 1 from some clients
        double x = json_double(a);
        double y = json_double(b);
        return slice_equal(json_number_text(a), json_number_text(b)) || !(x < y || x > y);
    }
    default:
        return true;
    }
}

// Without recursion: the containers that are being walked stand on a stack.
static bool is_same_value(const struct json_value *a, const struct json_value *b)
{
    struct level {
        struct json_iter a, b;
        const struct json_value *other;
    } *stack = mem_new_array(JSON_DEPTH_MAX + 1, sizeof(*stack), NULL);
    size_t depth = 0;
    bool is_same = stack != NULL;
    while (is_same) {
        bool is_container = json_kind(a) == JSON_ARRAY || json_kind(a) == JSON_OBJECT;
        is_same = json_kind(a) == json_kind(b) && json_count(a) == json_count(b) &&
                  (is_container ? depth <= JSON_DEPTH_MAX : is_same_scalar(a, b));
        if (is_same && is_container) {
            stack[depth++] = (struct level){json_iter(a), json_iter(b), b};
        }
        while (depth > 0 && !json_next(&stack[depth - 1].a)) {
            depth--;
        }
        if (depth == 0) {
            break;
        }
        struct level *top = &stack[depth - 1];
        json_next(&top->b);
        a = top->a.value;
        b = top->a.is_object ? json_getn(top->other, top->a.key) : top->b.value;
    }
    mem_free(stack);
    return is_same;
}

static bool is_same_json(const char *a, const char *b)
{
    struct json_doc *doc_a = NULL;
    struct json_doc *doc_b = NULL;
    bool is_same = !strcmp(a, b);
    if (!is_same && json_parse(&doc_a, a, strlen(a), "arguments", NULL) == 0 &&
        json_parse(&doc_b, b, strlen(b), "arguments", NULL) == 0) {
        is_same = is_same_value(json_root(doc_a), json_root(doc_b));
    }
    json_free(doc_a);
    json_free(doc_b);
    return is_same;
}

// The newest entry of that id; NULL: none. Under the lock.
static const struct sampled *find(const struct recall *r, struct slice id)
{
    uint64_t hash = hash_of(id);
    for (size_t i = r->n; i > 0; i--) {
        const struct sampled *s = &r->ring[(r->first + i - 1) % r->n_max];
        if (s->hash == hash && slice_is(id, s->id)) {
            return s;
        }
    }
    return NULL;
}

bool recall_get(struct recall *r, struct slice id, const char *name, const char *arguments,
                struct buf *out)
{
    struct buf text = {0};
    struct buf kept = {0};
    pthread_mutex_lock(&r->lock);
    const struct sampled *s = find(r, id);
    bool is_known = s && name && !strcmp(s->name, name);
    if (is_known) {
        buf_adds(&text, s->text);
        buf_adds(&kept, s->arguments);
    }
    pthread_mutex_unlock(&r->lock);
    // Comparing takes long for large arguments: not under the lock.
    is_known = is_known && !text.has_failed && !kept.has_failed &&
               is_same_json(buf_text(&kept), arguments && *arguments ? arguments : "{}");
    if (is_known) {
        buf_add(out, text.data, text.size);
    }
    buf_release(&text);
    buf_release(&kept);
    return is_known;
}
