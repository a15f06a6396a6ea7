// SPDX-License-Identifier: Apache-2.0
// A list in the order of last use, found by the text of the options. A grammar that is thrown out
// lives on until its last user is done with it.
#include "server/compiled.h"

#include <pthread.h>

#include "base/mem.h"
#include "base/str.h"

struct compiled {
    struct compiled_list *list;
    struct carat_grammar *grammar;
    struct buf key;
    size_t n_users;
    bool is_listed;
    struct compiled *next;
};

struct compiled_list {
    const struct carat_engine *engine;
    size_t n_max;
    pthread_mutex_t lock;   // guards all below, and the counts of users
    struct compiled *first; // used last
    size_t n;
};

int compiled_list_new(struct compiled_list **out, const struct carat_engine *engine, size_t n_max,
                      struct carat_error *err)
{
    struct compiled_list *list = mem_new(sizeof(*list), err);
    if (!list) {
        return CARAT_E_MEMORY;
    }
    list->engine = engine;
    list->n_max = n_max;
    pthread_mutex_init(&list->lock, NULL);
    *out = list;
    return 0;
}

static void destroy(struct compiled *c)
{
    if (c) {
        carat_grammar_free(c->grammar);
        buf_release(&c->key);
        mem_free(c);
    }
}

void compiled_list_free(struct compiled_list *list)
{
    if (!list) {
        return;
    }
    while (list->first) {
        struct compiled *c = list->first;
        list->first = c->next;
        destroy(c);
    }
    pthread_mutex_destroy(&list->lock);
    mem_free(list);
}

static void add_text(struct buf *out, const char *text)
{
    buf_addc(out, text ? '+' : '-');
    buf_adds(out, text ? text : "");
    buf_addc(out, '\0');
}

static void make_key(struct buf *out, const struct carat_grammar_options *o)
{
    add_text(out, o->json_schema);
    add_text(out, o->regex);
    buf_addf(out, "%zu", o->n_choices);
    for (size_t i = 0; i < o->n_choices; i++) {
        add_text(out, o->choices[i]);
    }
    add_text(out, o->tools);
    buf_addf(out, "%d %d %d %d", (int)o->tool_choice, o->is_single_call, o->starts_in_thought,
             o->has_no_thoughts);
    add_text(out, o->tool_name);
}

static bool is_same(const struct buf *a, const struct buf *b)
{
    return slice_equal(slice_make(a->data, a->size), slice_make(b->data, b->size));
}

// Takes it out of the list. Under the lock.
static struct compiled *unlink_at(struct compiled **at)
{
    struct compiled *c = *at;
    *at = c->next;
    c->next = NULL;
    c->is_listed = false;
    c->list->n--;
    return c;
}

static void link_first(struct compiled *c)
{
    struct compiled_list *list = c->list;
    c->next = list->first;
    list->first = c;
    c->is_listed = true;
    list->n++;
}

// The one with this key, now first and used once more; NULL: none. Under the lock.
static struct compiled *use(struct compiled_list *list, const struct buf *key)
{
    for (struct compiled **at = &list->first; *at; at = &(*at)->next) {
        if (is_same(&(*at)->key, key)) {
            struct compiled *c = unlink_at(at);
            link_first(c);
            c->n_users++;
            return c;
        }
    }
    return NULL;
}

// The one used longest ago, when there are too many; only its users keep it. Under the lock.
static struct compiled *throw_out(struct compiled_list *list)
{
    if (list->n <= list->n_max) {
        return NULL;
    }
    struct compiled **at = &list->first;
    while ((*at)->next) {
        at = &(*at)->next;
    }
    struct compiled *c = unlink_at(at);
    return c->n_users == 0 ? c : NULL;
}

int compiled_get(struct compiled **out, struct compiled_list *list,
                 const struct carat_grammar_options *options, struct carat_error *err)
{
    struct buf key = {0};
    make_key(&key, options);
    int rc = buf_status(&key, err);
    if (rc) {
        goto out;
    }
    pthread_mutex_lock(&list->lock);
    struct compiled *found = use(list, &key);
    pthread_mutex_unlock(&list->lock);
    if (found) {
        *out = found;
        goto out;
    }
    struct compiled *c = mem_new(sizeof(*c), err);
    rc = c ? carat_grammar_new(&c->grammar, list->engine, options, err) : CARAT_E_MEMORY;
    if (rc) {
        destroy(c);
        goto out;
    }
    // Two may have compiled the same at once: then both are kept for a while, which is harmless.
    c->list = list;
    c->key = key;
    c->n_users = 1;
    key = (struct buf){0};
    pthread_mutex_lock(&list->lock);
    link_first(c);
    struct compiled *old = throw_out(list);
    pthread_mutex_unlock(&list->lock);
    destroy(old);
    *out = c;
out:
    buf_release(&key);
    return rc;
}

const struct carat_grammar *compiled_grammar(const struct compiled *c)
{
    return c ? c->grammar : NULL;
}

void compiled_release(struct compiled *c)
{
    if (!c) {
        return;
    }
    pthread_mutex_lock(&c->list->lock);
    c->n_users--;
    bool is_last = c->n_users == 0 && !c->is_listed;
    pthread_mutex_unlock(&c->list->lock);
    if (is_last) {
        destroy(c);
    }
}
