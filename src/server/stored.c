// SPDX-License-Identifier: Apache-2.0
// A list in the order of use, newest first. An answer that continues another holds a reference to
// it, so that a conversation costs each of its turns once; one that was forgotten or deleted while
// others continue it is only no longer found.
#include "server/stored.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

struct node {
    char id[STORED_ID_SIZE];
    struct node *previous; // continued by this one; a reference
    size_t n_references;   // from the list and from nodes that continue it
    size_t bytes;
    struct slice response, input, output; // in this node's block
    struct node *newer, *older;           // in the list
};

struct stored {
    pthread_mutex_t lock; // guards all below
    struct node *newest, *oldest;
    size_t n, n_max;
    size_t bytes, bytes_max; // of all nodes, in the list or not
};

int stored_new(struct stored **out, size_t n_max, size_t bytes_max, struct carat_error *err)
{
    struct stored *s = mem_new(sizeof(*s), err);
    if (!s) {
        return CARAT_E_MEMORY;
    }
    if (pthread_mutex_init(&s->lock, NULL)) {
        mem_free(s);
        return fail(err, CARAT_E_MEMORY, "no lock for the table of stored answers");
    }
    s->n_max = n_max;
    s->bytes_max = bytes_max;
    *out = s;
    return 0;
}

// Gives up a reference, and those that this one held.
static void drop(struct stored *s, struct node *node)
{
    while (node && --node->n_references == 0) {
        struct node *previous = node->previous;
        s->bytes -= node->bytes;
        mem_free(node);
        node = previous;
    }
}

static void unlink_node(struct stored *s, struct node *node)
{
    *(node->newer ? &node->newer->older : &s->newest) = node->older;
    *(node->older ? &node->older->newer : &s->oldest) = node->newer;
    node->newer = NULL;
    node->older = NULL;
    s->n--;
}

static void link_newest(struct stored *s, struct node *node)
{
    node->older = s->newest;
    *(s->newest ? &s->newest->newer : &s->oldest) = node;
    s->newest = node;
    s->n++;
}

// Finds an answer and makes it the newest. A walk: the table is small, and a turn is long.
static struct node *find(struct stored *s, struct slice id)
{
    struct node *node = s->newest;
    while (node && !slice_is(id, node->id)) {
        node = node->older;
    }
    if (node) {
        unlink_node(s, node);
        link_newest(s, node);
    }
    return node;
}

static struct slice put_text(char **at, struct slice text)
{
    char *start = *at;
    if (text.size > 0) {
        memcpy(start, text.data, text.size);
    }
    *at += text.size;
    return slice_make(start, text.size);
}

static struct node *node_new(const struct stored_answer *a)
{
    size_t size = sizeof(struct node);
    if (!size_add(&size, size, a->response.size) || !size_add(&size, size, a->input.size) ||
        !size_add(&size, size, a->output.size) || strlen(a->id) >= STORED_ID_SIZE) {
        return NULL;
    }
    struct node *node = mem_new(size, NULL);
    if (!node) {
        return NULL;
    }
    memcpy(node->id, a->id, strlen(a->id) + 1);
    node->bytes = size;
    node->n_references = 1;
    char *at = (char *)(node + 1);
    node->response = put_text(&at, a->response);
    node->input = put_text(&at, a->input);
    node->output = put_text(&at, a->output);
    return node;
}

void stored_put(struct stored *s, const struct stored_answer *answer)
{
    struct node *node = node_new(answer);
    if (!node) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->bytes += node->bytes;
    node->previous = answer->previous ? find(s, slice_of(answer->previous)) : NULL;
    if (node->previous) {
        node->previous->n_references++;
    }
    if (answer->previous && !node->previous) {
        drop(s, node);
    } else {
        link_newest(s, node);
    }
    while (s->oldest && (s->n > s->n_max || s->bytes > s->bytes_max)) {
        struct node *oldest = s->oldest;
        unlink_node(s, oldest);
        drop(s, oldest);
    }
    pthread_mutex_unlock(&s->lock);
}

bool stored_get(struct stored *s, struct slice id, enum stored_part part, struct buf *out)
{
    pthread_mutex_lock(&s->lock);
    const struct node *node = find(s, id);
    if (node && part == STORED_RESPONSE) {
        buf_add_slice(out, node->response);
    } else if (node) {
        buf_addc(out, '[');
        buf_add_slice(out, part == STORED_INPUT ? node->input : node->output);
        buf_addc(out, ']');
    }
    pthread_mutex_unlock(&s->lock);
    return node != NULL;
}

static void add_items(struct buf *out, struct slice items)
{
    if (items.size > 0) {
        buf_adds(out, out->size > 0 && out->data[out->size - 1] == '[' ? "" : ",");
        buf_add_slice(out, items);
    }
}

// The chain is linked backwards, and is written forwards.
static void add_chain(struct buf *out, const struct node *last)
{
    size_t n = 0;
    for (const struct node *node = last; node; node = node->previous) {
        n++;
    }
    const struct node **chain = mem_new_array(n, sizeof(*chain), NULL);
    if (!chain) {
        out->has_failed = true;
        return;
    }
    size_t i = n;
    for (const struct node *node = last; node; node = node->previous) {
        chain[--i] = node;
    }
    buf_addc(out, '[');
    for (i = 0; i < n && !out->has_failed; i++) {
        add_items(out, chain[i]->input);
        add_items(out, chain[i]->output);
    }
    buf_addc(out, ']');
    mem_free(chain);
}

bool stored_conversation(struct stored *s, struct slice id, struct buf *out)
{
    pthread_mutex_lock(&s->lock);
    const struct node *node = find(s, id);
    if (node) {
        add_chain(out, node);
    }
    pthread_mutex_unlock(&s->lock);
    return node != NULL;
}

bool stored_delete(struct stored *s, struct slice id)
{
    pthread_mutex_lock(&s->lock);
    struct node *node = find(s, id);
    if (node) {
        unlink_node(s, node);
        drop(s, node);
    }
    pthread_mutex_unlock(&s->lock);
    return node != NULL;
}

size_t stored_bytes(struct stored *s)
{
    pthread_mutex_lock(&s->lock);
    size_t bytes = s->bytes;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

void stored_free(struct stored *s)
{
    if (!s) {
        return;
    }
    while (s->oldest) {
        struct node *oldest = s->oldest;
        unlink_node(s, oldest);
        drop(s, oldest);
    }
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}
