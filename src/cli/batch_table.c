// SPDX-License-Identifier: Apache-2.0
// What is known of an input's lines before any of them is answered.
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "cli/batch.h"

#define TOLD_MAX 5 // pairs of lines with the same custom_id that the message names

// The custom_id of a line, by its hash.
struct named {
    uint8_t hash[HASH_SIZE];
    uint64_t line;
};
struct names {
    struct named *items;
    size_t n, capacity;
};

// The list with room for one more.
static int grow(void **list, size_t n, size_t *capacity, size_t element_size,
                struct carat_error *err)
{
    if (n < *capacity) {
        return 0;
    }
    size_t count = *capacity ? 2 * *capacity : 1024;
    size_t size = 0;
    if (!size_mul(&size, count, element_size)) {
        return fail(err, CARAT_E_MEMORY, "no memory for %zu lines", n);
    }
    void *grown = *list ? mem_resize(*list, size, err) : mem_new(size, err);
    if (!grown) {
        return CARAT_E_MEMORY;
    }
    *list = grown;
    *capacity = count;
    return 0;
}

static int add_name(struct names *names, const struct batch_lines *l, struct carat_error *err)
{
    struct buf id = {0};
    bool is_there = false;
    if (!l->is_long) {
        batch_custom_id(&l->line, &id, &is_there);
    }
    void *items = names->items;
    int rc = is_there ? grow(&items, names->n, &names->capacity, sizeof(*names->items), err) : 0;
    names->items = items;
    if (is_there && rc == 0) {
        struct named *name = &names->items[names->n++];
        struct hash hash;
        hash_init(&hash, NULL);
        hash_add(&hash, buf_text(&id), id.size);
        hash_digest(&hash, name->hash);
        name->line = l->number;
    }
    buf_release(&id);
    return rc;
}

static int compare(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int order = memcmp(x->hash, y->hash, HASH_SIZE);
    return order ? order : x->line < y->line ? -1 : x->line > y->line;
}

static int check_names(struct names *names, const char *path, struct carat_error *err)
{
    struct buf told = {0};
    size_t n = 0;
    if (names->n > 0) {
        qsort(names->items, names->n, sizeof(*names->items), compare);
    }
    for (size_t i = 1; i < names->n; i++) {
        const struct named *a = &names->items[i - 1], *b = &names->items[i];
        if (memcmp(a->hash, b->hash, HASH_SIZE) == 0 && n++ < TOLD_MAX) {
            buf_addf(&told, "%s%llu and %llu", told.size ? ", " : "", (unsigned long long)a->line,
                     (unsigned long long)b->line);
        }
    }
    if (n > TOLD_MAX) {
        buf_addf(&told, ", and %zu more pairs", n - TOLD_MAX);
    }
    int rc = n ? fail(err, CARAT_E_ARGUMENT,
                      "%s: the same custom_id stands in lines %s: answers could not be told apart",
                      path, buf_text(&told))
               : 0;
    buf_release(&told);
    return rc;
}

static int add_line(struct batch_table *t, const struct batch_lines *l, struct batch_shard shard,
                    struct carat_error *err)
{
    // Both lists have the same capacity.
    size_t capacity = t->capacity;
    void *hashes = t->hashes, *states = t->states;
    int rc = grow(&hashes, t->n, &capacity, sizeof(*t->hashes), err);
    t->hashes = hashes;
    rc = rc ? rc : grow(&states, t->n, &t->capacity, sizeof(*t->states), err);
    t->states = states;
    if (rc) {
        return rc;
    }
    enum batch_state state = BATCH_NO_REQUEST;
    if (!batch_line_is_blank(l)) {
        state = l->number % shard.n == shard.i ? BATCH_OPEN : BATCH_ELSEWHERE;
    }
    t->n_requests += state == BATCH_OPEN;
    t->hashes[t->n] = l->hash;
    t->states[t->n] = (uint8_t)state;
    t->n++;
    return 0;
}

int batch_table_read(struct batch_table *t, const char *path, size_t line_max,
                     struct batch_shard shard, struct carat_error *err)
{
    struct batch_lines l = {0};
    struct names names = {0};
    bool is_there = true;
    int rc = batch_lines_open(&l, path, line_max, err);
    while (rc == 0 && is_there) {
        rc = batch_lines_next(&l, &is_there, err);
        if (rc == 0 && is_there) {
            rc = add_line(t, &l, shard, err);
            rc = rc ? rc : add_name(&names, &l, err);
        }
    }
    rc = rc ? rc : check_names(&names, path, err);
    mem_free(names.items);
    batch_lines_close(&l);
    return rc;
}

void batch_table_release(struct batch_table *t)
{
    mem_free(t->hashes);
    mem_free(t->states);
    *t = (struct batch_table){0};
}
