// SPDX-License-Identifier: Apache-2.0
// A conversation as the model's template has places for it. docs/chat.md tells the versions apart.
#include "server/content_fit.h"

#include <string.h>

struct fit {
    struct call *call;
    bool reads_tool_messages;
    struct carat_message *out; // [n_out]
    size_t n_out;
    struct carat_part *moved; // [n_moved] media that wait for a user message
    size_t n_moved, moved_capacity;
    struct carat_message *caller;          // the newest message with calls, while results come
    struct carat_tool_response *responses; // its list
    size_t response_capacity;
};

static bool is_role(const struct carat_message *m, const char *role)
{
    return strcmp(m->role, role) == 0;
}

static bool is_medium(const struct carat_part *p)
{
    return p->type != CARAT_PART_TEXT && p->type != CARAT_PART_JSON;
}

// A copy of a list with room for more; NULL when there is no memory.
static void *grown(struct call *call, const void *list, size_t n, size_t capacity, size_t size,
                   struct carat_error *err)
{
    char *copy = call_take(call, capacity * size, err);
    if (copy && n) {
        memcpy(copy, list, n * size);
    }
    return copy;
}

static int move_part(struct fit *f, const struct carat_part *part, struct carat_error *err)
{
    if (f->n_moved == f->moved_capacity) {
        size_t capacity = f->moved_capacity ? 2 * f->moved_capacity : 4;
        f->moved = grown(f->call, f->moved, f->n_moved, capacity, sizeof(*f->moved), err);
        if (!f->moved) {
            return CARAT_E_MEMORY;
        }
        f->moved_capacity = capacity;
    }
    f->moved[f->n_moved++] = *part;
    return 0;
}

// What is left of a tool's result without its media, which are put aside.
static int strip_media(struct fit *f, struct carat_message *m, struct carat_error *err)
{
    struct carat_part *kept = call_take(f->call, (m->n_parts + 1) * sizeof(*kept), err);
    size_t n = 0;
    int rc = kept ? 0 : CARAT_E_MEMORY;
    for (size_t i = 0; !rc && i < m->n_parts; i++) {
        if (is_medium(&m->parts[i])) {
            rc = move_part(f, &m->parts[i], err);
        } else {
            kept[n++] = m->parts[i];
        }
    }
    m->parts = kept;
    m->n_parts = n;
    return rc;
}

// The result as one JSON value: a string, unless it is a value already.
static const char *result_of(struct fit *f, const struct carat_message *m, struct carat_error *err)
{
    if (m->n_parts == 1 && m->parts[0].type == CARAT_PART_JSON) {
        return m->parts[0].text;
    }
    struct buf text = {0}, json = {0};
    for (size_t i = 0; i < m->n_parts; i++) {
        size_t size = m->parts[i].text_size;
        buf_add(&text, m->parts[i].text, size ? size : strlen(m->parts[i].text));
    }
    buf_add_json(&json, buf_text(&text), text.size);
    const char *copy = !buf_status(&text, err) && !buf_status(&json, err)
                           ? call_text(f->call, slice_make(buf_text(&json), json.size), err)
                           : NULL;
    buf_release(&text);
    buf_release(&json);
    return copy;
}

static int add_response(struct fit *f, const struct carat_message *m, struct carat_error *err)
{
    struct carat_message *caller = f->caller;
    if (caller->n_responses == f->response_capacity) {
        size_t capacity = f->response_capacity ? 2 * f->response_capacity : 4;
        f->responses = grown(f->call, caller->responses, caller->n_responses, capacity,
                             sizeof(*f->responses), err);
        if (!f->responses) {
            return CARAT_E_MEMORY;
        }
        caller->responses = f->responses;
        f->response_capacity = capacity;
    }
    const char *response = result_of(f, m, err);
    f->responses[caller->n_responses++] =
        (struct carat_tool_response){.name = m->name, .response = response};
    return response ? 0 : CARAT_E_MEMORY;
}

static int take_result(struct fit *f, struct carat_message m, struct carat_error *err)
{
    int rc = strip_media(f, &m, err);
    if (!rc && !f->reads_tool_messages && f->caller) {
        return add_response(f, &m, err);
    }
    f->out[f->n_out++] = m;
    return rc;
}

// Media that wait come first in a user message, one of their own if there is none.
static int place_moved(struct fit *f, struct carat_message *next, struct carat_error *err)
{
    bool joins = next && is_role(next, "user");
    size_t n = joins ? next->n_parts : 0;
    if (!f->n_moved) {
        return 0;
    }
    struct carat_part *parts = call_take(f->call, (f->n_moved + n) * sizeof(*parts), err);
    if (!parts) {
        return CARAT_E_MEMORY;
    }
    memcpy(parts, f->moved, f->n_moved * sizeof(*parts));
    if (n) {
        memcpy(parts + f->n_moved, next->parts, n * sizeof(*parts));
    }
    struct carat_message own = {.role = "user"};
    struct carat_message *m = joins ? next : &own;
    m->parts = parts;
    m->n_parts = f->n_moved + n;
    m->is_part_list = true;
    if (!joins) {
        f->out[f->n_out++] = own;
    }
    f->n_moved = 0;
    return 0;
}

static int take_message(struct fit *f, struct carat_message m, struct carat_error *err)
{
    if (is_role(&m, "tool")) {
        return take_result(f, m, err);
    }
    int rc = place_moved(f, &m, err);
    f->out[f->n_out++] = m;
    f->caller = m.n_calls ? &f->out[f->n_out - 1] : NULL;
    f->response_capacity = m.n_responses; // a full list is copied before it grows
    return rc;
}

int content_fit(struct call *call, const char *template_name, struct carat_error *err)
{
    struct fit f = {.call = call};
    struct carat_chat *chat = &call->ask.chat;
    f.reads_tool_messages =
        strcmp(template_name, "interleaved") != 0 && strcmp(template_name, "launch") != 0;
    if (f.reads_tool_messages && strcmp(template_name, "revision-2026-04") != 0) {
        return 0; // a place for everything
    }
    f.out = call_take(call, (2 * chat->n_messages + 1) * sizeof(*f.out), err);
    if (!f.out) {
        return CARAT_E_MEMORY;
    }
    int rc = 0;
    for (size_t i = 0; !rc && i < chat->n_messages; i++) {
        rc = take_message(&f, chat->messages[i], err);
    }
    rc = rc ? rc : place_moved(&f, NULL, err);
    chat->messages = f.out;
    chat->n_messages = f.n_out;
    return rc;
}
