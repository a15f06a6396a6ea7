// SPDX-License-Identifier: Apache-2.0
// The made-up id of a call: a hash of its name and of its arguments, in whatever order they stand,
// for clients keep objects in maps.
#include "server/idless.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "server/recall.h"
#include "server/server.h"

#define ID_SIZE 32

static uint64_t hash_of(struct slice a, struct slice b)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add_u64(&h, a.size);
    hash_add(&h, a.data, a.size);
    hash_add(&h, b.data, b.size);
    return hash_u64(&h);
}

static int make_id(char out[ID_SIZE], struct slice name, const struct json_value *arguments,
                   struct carat_error *err)
{
    uint64_t sum = hash_of(name, (struct slice){0});
    struct buf text = {0};
    for (struct json_iter it = json_iter(arguments); json_next(&it);) {
        buf_clear(&text);
        json_write(it.value, &text);
        sum += hash_of(it.key, slice_make(buf_text(&text), text.size));
    }
    int rc = buf_status(&text, err);
    buf_release(&text);
    snprintf(out, ID_SIZE, "same_%016llx", (unsigned long long)sum);
    return rc;
}

void idless_remember(struct call *call, const struct answer_call *c)
{
    char id[ID_SIZE];
    struct json_doc *doc = NULL;
    if (!call->server->recall || !c->sampled || !c->arguments ||
        json_parse(&doc, c->arguments, strlen(c->arguments), "arguments", NULL)) {
        return;
    }
    if (!make_id(id, slice_of(c->name), json_root(doc), NULL)) {
        recall_put(call->server->recall, id, c->name, c->arguments, c->sampled);
    }
    json_free(doc);
}

void idless_begin(struct idless *t)
{
    t->n = 0;
}

static int add_row(struct idless *t, struct content *c, struct slice id, struct slice name,
                   struct carat_error *err)
{
    const char *id_copy = call_text(c->call, id, err);
    const char *name_copy = id_copy ? call_text(c->call, name, err) : NULL;
    if (!name_copy) {
        return CARAT_E_MEMORY;
    }
    require(t->n < CONTENT_CALLS_MAX); // content_call has a limit of its own before this
    t->rows[t->n++] = (struct idless_row){.id = slice_of(id_copy), .name = slice_of(name_copy)};
    return 0;
}

static int call_with_object(struct idless *t, struct content *c, struct slice id, struct slice name,
                            const struct json_value *arguments, struct carat_error *err)
{
    char made_up[ID_SIZE];
    int rc = 0;
    if (!id.size) {
        rc = make_id(made_up, name, arguments, err);
        id = slice_of(made_up);
    }
    const char *text = rc || !arguments ? NULL : call_json(c->call, arguments, err);
    if (rc || (arguments && !text)) {
        return rc ? rc : CARAT_E_MEMORY;
    }
    rc = content_call(c, id, name, text, err);
    return rc ? rc : add_row(t, c, id, name, err);
}

int idless_call(struct idless *t, struct content *c, struct slice id, struct slice name,
                const struct json_value *arguments, struct carat_error *err)
{
    enum json_kind kind = json_kind(arguments);
    if (kind == JSON_ABSENT || kind == JSON_NULL) {
        return call_with_object(t, c, id, name, NULL, err);
    }
    if (kind == JSON_OBJECT) {
        return call_with_object(t, c, id, name, arguments, err);
    }
    struct json_doc *doc = NULL;
    struct slice text = json_string(arguments);
    if (kind == JSON_STRING) {
        int rc = json_parse(&doc, text.data, text.size, "arguments", err);
        if (rc) {
            return rc;
        }
        kind = json_kind(json_root(doc));
    }
    int rc = kind == JSON_OBJECT
                 ? call_with_object(t, c, id, name, json_root(doc), err)
                 : fail(err, CARAT_E_ARGUMENT, "arguments: expected an object, found %s",
                        json_kind_name(kind));
    json_free(doc);
    return rc;
}

int idless_answers(struct idless *t, struct content *c, struct slice id, struct slice name,
                   struct carat_error *err)
{
    struct idless_row *found = NULL;
    for (size_t i = 0; i < t->n && !found; i++) {
        struct idless_row *row = &t->rows[i];
        bool fits = id.size ? slice_equal(row->id, id)
                            : !row->has_result && (!name.size || slice_equal(row->name, name));
        found = fits ? row : NULL;
    }
    if (found) {
        found->has_result = true;
        return content_answers(c, found->id, name.size ? name : found->name, err);
    }
    return content_answers(c, id, name, err);
}
