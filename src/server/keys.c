// SPDX-License-Identifier: Apache-2.0
#include "server/keys.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#define KEY_FILE_MAX ((size_t)4 << 20)

struct key_list {
    struct slice *items; // of the text, or fixed
    size_t n;
    struct buf text; // of the file
};

struct keys {
    const char *const *fixed;
    const char *file;
    pthread_mutex_t lock; // guards the list and the stamp
    struct key_list list;
    uint64_t stamp;
};

static void list_release(struct key_list *l)
{
    mem_free(l->items);
    buf_release(&l->text);
    *l = (struct key_list){.n = 0};
}

// What can stand in a header: no spaces, nothing unprintable.
static int list_add(struct key_list *l, struct slice key, const char *where,
                    struct carat_error *err)
{
    if (l->n == KEYS_MAX) {
        return fail(err, CARAT_E_FULL, "%s: more than %d keys", where, KEYS_MAX);
    }
    if (key.size > KEY_SIZE_MAX) {
        return fail(err, CARAT_E_FULL, "%s: a key of %zu bytes: at most %d are taken", where,
                    key.size, KEY_SIZE_MAX);
    }
    for (size_t i = 0; i < key.size; i++) {
        if (key.data[i] <= ' ' || key.data[i] > '~') {
            return fail(err, CARAT_E_FORMAT,
                        "%s: a key must be letters, digits and signs without spaces", where);
        }
    }
    l->items[l->n++] = key;
    return 0;
}

// A key a line; empty lines and those that begin with # do not count.
static int read_lines(struct key_list *l, const char *file, struct carat_error *err)
{
    size_t line = 0;
    for (size_t at = 0; at < l->text.size;) {
        const char *start = l->text.data + at;
        const char *end = memchr(start, '\n', l->text.size - at);
        size_t size = end ? (size_t)(end - start) : l->text.size - at;
        struct slice key = utf8_trim(slice_make(start, size));
        at += size + 1;
        line++;
        if (key.size == 0 || key.data[0] == '#') {
            continue;
        }
        char where[300];
        snprintf(where, sizeof(where), "%.250s:%zu", file, line);
        int rc = list_add(l, key, where, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int read_keys(struct keys *k, struct key_list *l, struct carat_error *err)
{
    int rc = 0;
    l->items = mem_new_array(KEYS_MAX, sizeof(*l->items), err);
    if (!l->items) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; k->fixed && k->fixed[i] && rc == 0; i++) {
        if (!*k->fixed[i]) {
            return fail(err, CARAT_E_ARGUMENT, "--api-key: expected a key, found nothing");
        }
        rc = list_add(l, slice_of(k->fixed[i]), "--api-key", err);
    }
    if (rc || !k->file) {
        return rc;
    }
    size_t before = l->n;
    l->text.max = KEY_FILE_MAX;
    rc = os_read_file(&l->text, k->file, KEY_FILE_MAX, err);
    rc = rc ? rc : read_lines(l, k->file, err);
    if (rc == 0 && l->n == before) {
        // Nobody means "everybody may" by an empty file.
        rc = fail(err, CARAT_E_FORMAT, "%s: there is no key in this file: expected one a line",
                  k->file);
    }
    return rc;
}

int keys_new(struct keys **out, const char *const *fixed, const char *file, struct carat_error *err)
{
    struct keys *k = mem_new(sizeof(*k), err);
    if (!k) {
        return CARAT_E_MEMORY;
    }
    if (pthread_mutex_init(&k->lock, NULL) != 0) {
        mem_free(k);
        return fail(err, CARAT_E_MEMORY, "no memory for a lock");
    }
    k->fixed = fixed;
    k->file = file;
    int rc = keys_refresh(k, true, NULL, err);
    if (rc) {
        keys_free(k);
        return rc;
    }
    *out = k;
    return 0;
}

int keys_refresh(struct keys *k, bool is_demanded, bool *was_read, struct carat_error *err)
{
    struct key_list fresh = {.n = 0}, old;
    uint64_t stamp = k->file ? os_file_stamp(k->file) : 0;
    pthread_mutex_lock(&k->lock);
    bool has_changed = stamp != k->stamp;
    // Said once: a file that is wrong stays wrong until it changes again.
    k->stamp = stamp;
    pthread_mutex_unlock(&k->lock);
    if (was_read) {
        *was_read = false;
    }
    if (!has_changed && !is_demanded) {
        return 0;
    }
    int rc = read_keys(k, &fresh, err);
    if (rc) {
        list_release(&fresh);
        return rc;
    }
    pthread_mutex_lock(&k->lock);
    old = k->list;
    k->list = fresh;
    pthread_mutex_unlock(&k->lock);
    list_release(&old);
    if (was_read) {
        *was_read = true;
    }
    return 0;
}

size_t keys_count(struct keys *k)
{
    pthread_mutex_lock(&k->lock);
    size_t n = k->list.n;
    pthread_mutex_unlock(&k->lock);
    return n;
}

// Looks at every byte of the key given, whatever the other holds.
static unsigned differences(struct slice given, struct slice key)
{
    unsigned found = given.size != key.size;
    for (size_t i = 0; i < given.size; i++) {
        found |= (unsigned char)given.data[i] ^ (unsigned char)key.data[i % key.size];
    }
    return found;
}

bool keys_have(struct keys *k, struct slice key)
{
    bool is_known = false;
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->list.n; i++) {
        // No early end: the time would tell which key was right.
        is_known |= differences(key, k->list.items[i]) == 0;
    }
    pthread_mutex_unlock(&k->lock);
    return is_known && key.size > 0;
}

void keys_free(struct keys *k)
{
    if (k) {
        list_release(&k->list);
        pthread_mutex_destroy(&k->lock);
        mem_free(k);
    }
}
