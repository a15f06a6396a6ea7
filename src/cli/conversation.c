// SPDX-License-Identifier: Apache-2.0
#include "cli/conversation.h"

#include "base/error.h"
#include "base/os.h"

#include <stdio.h>
#include <string.h>

#define FILE_SIZE_MAX ((size_t)256 << 20)

int conversation_add(struct conversation *c, const struct carat_message *message,
                     struct carat_error *err)
{
    if (c->n == c->capacity) {
        size_t capacity = c->capacity ? c->capacity * 2 : 16;
        size_t size = 0;
        if (!size_mul(&size, capacity, sizeof(*c->messages))) {
            return fail(err, CARAT_E_MEMORY, "no memory for %zu messages", capacity);
        }
        struct carat_message *grown = mem_resize(c->messages, size, err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        c->messages = grown;
        c->capacity = capacity;
    }
    c->messages[c->n++] = *message;
    return 0;
}

char *conversation_copy(struct conversation *c, const char *text, size_t size,
                        struct carat_error *err)
{
    return arena_strndup(&c->arena, text, size, err);
}

int conversation_add_text(struct conversation *c, const char *role, const char *text, size_t size,
                          struct carat_error *err)
{
    struct carat_part *part = arena_take(&c->arena, sizeof(*part), err);
    char *copy = conversation_copy(c, text ? text : "", size, err);
    char *role_copy = conversation_copy(c, role, strlen(role), err);
    if (!part || !copy || !role_copy) {
        return CARAT_E_MEMORY;
    }
    *part = (struct carat_part){.type = CARAT_PART_TEXT, .text = copy, .text_size = size};
    return conversation_add(
        c, &(struct carat_message){.role = role_copy, .parts = part, .n_parts = 1}, err);
}

void conversation_release(struct conversation *c)
{
    conversation_free_media(c);
    arena_release(&c->arena);
    mem_free(c->messages);
    *c = (struct conversation){.messages = NULL};
}

// ------------------------------------------------------------------------------------ from JSON

// What is being read, for the errors.
struct reader {
    struct conversation *c;
    unsigned flags;
    size_t message; // its number
    struct carat_error *err;
};

static int fail_field(struct reader *r, const char *field, const char *expected,
                      const struct json_value *found)
{
    return fail(r->err, CARAT_E_FORMAT, "message %zu: %s: expected %s, found %s", r->message, field,
                expected, json_kind_name(json_kind(found)));
}

static char *copy_json(struct reader *r, const struct json_value *value)
{
    struct buf text = {.max = FILE_SIZE_MAX};
    char *copy = NULL;
    json_write(value, &text);
    if (buf_status(&text, r->err) == 0) {
        copy = conversation_copy(r->c, text.data, text.size, r->err);
    }
    buf_release(&text);
    return copy;
}

// A string member: absent and null give NULL.
static int read_string(struct reader *r, const struct json_value *object, const char *key,
                       const char **out)
{
    const struct json_value *value = json_get(object, key);
    if (json_kind(value) == JSON_ABSENT || json_kind(value) == JSON_NULL) {
        return 0;
    }
    if (json_kind(value) != JSON_STRING) {
        return fail_field(r, key, "a string", value);
    }
    struct slice s = json_string(value);
    char *copy = conversation_copy(r->c, s.data, s.size, r->err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    *out = copy;
    return 0;
}

// What a part of a message is; false for kinds that are passed over.
static bool part_type(struct slice name, unsigned flags, enum carat_part_type *out)
{
    static const struct {
        const char *name;
        enum carat_part_type type;
        bool is_first_name;
    } types[] = {
        {"text", CARAT_PART_TEXT, true},          {"image", CARAT_PART_IMAGE, true},
        {"audio", CARAT_PART_AUDIO, true},        {"video", CARAT_PART_VIDEO, true},
        {"input_text", CARAT_PART_TEXT, false},   {"output_text", CARAT_PART_TEXT, false},
        {"image_url", CARAT_PART_IMAGE, false},   {"input_image", CARAT_PART_IMAGE, false},
        {"input_audio", CARAT_PART_AUDIO, false}, {"audio_url", CARAT_PART_AUDIO, false},
        {"video_url", CARAT_PART_VIDEO, false},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        bool is_known = types[i].is_first_name || !(flags & CONVERSATION_FIRST_NAMES);
        if (is_known && slice_is(name, types[i].name)) {
            *out = types[i].type;
            return true;
        }
    }
    return false;
}

static int set_text(struct reader *r, struct carat_part *part, struct slice text)
{
    char *copy = conversation_copy(r->c, text.size ? text.data : "", text.size, r->err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    *part = (struct carat_part){.type = CARAT_PART_TEXT, .text = copy, .text_size = text.size};
    return 0;
}

static int read_parts(struct reader *r, const struct json_value *content, struct carat_part *parts,
                      size_t *n)
{
    for (struct json_iter it = json_iter(content); json_next(&it);) {
        if (json_kind(it.value) != JSON_OBJECT) {
            return fail_field(r, "content", "a list of objects", it.value);
        }
        struct slice name = json_string(json_get(it.value, "type"));
        enum carat_part_type type = CARAT_PART_TEXT;
        if (!part_type(name, r->flags, &type)) {
            continue;
        }
        parts[*n] = (struct carat_part){.type = type};
        if (type == CARAT_PART_TEXT) {
            const struct json_value *text = json_get(it.value, "text");
            if (json_kind(text) != JSON_STRING) {
                return fail_field(r, "content: text", "a string", text);
            }
            int rc = set_text(r, &parts[*n], json_string(text));
            if (rc) {
                return rc;
            }
        } else if (r->c->media_folder) {
            int rc = conversation_read_medium(r->c, it.value, &parts[*n], r->err);
            if (rc) {
                char where[64];
                snprintf(where, sizeof(where), "message %zu", r->message);
                fail_prefix(r->err, where);
                return rc;
            }
        }
        (*n)++;
    }
    return 0;
}

static int read_content(struct reader *r, const struct json_value *content, struct carat_message *m)
{
    enum json_kind kind = json_kind(content);
    if (kind == JSON_ABSENT || kind == JSON_NULL) {
        return 0;
    }
    size_t room = kind == JSON_ARRAY ? json_count(content) : 1;
    size_t size = 0;
    if (!size_mul(&size, room + 1, sizeof(struct carat_part))) {
        return fail(r->err, CARAT_E_MEMORY, "message %zu: too many parts", r->message);
    }
    struct carat_part *parts = arena_take(&r->c->arena, size, r->err);
    if (!parts) {
        return CARAT_E_MEMORY;
    }
    m->parts = parts;
    if (kind == JSON_ARRAY) {
        m->is_part_list = true;
        return read_parts(r, content, parts, &m->n_parts);
    }
    m->n_parts = 1;
    if (kind == JSON_STRING) {
        return set_text(r, parts, json_string(content));
    }
    if (strcmp(m->role, "tool") != 0) {
        return fail_field(r, "content", "a string or a list of parts", content);
    }
    // A tool may answer with a value; it stays one.
    char *text = copy_json(r, content);
    if (!text) {
        return CARAT_E_MEMORY;
    }
    *parts = (struct carat_part){.type = CARAT_PART_JSON, .text = text};
    return 0;
}

static int read_arguments(struct reader *r, const struct json_value *value, const char **out)
{
    enum json_kind kind = json_kind(value);
    if (kind == JSON_ABSENT || kind == JSON_NULL) {
        return 0;
    }
    if (kind == JSON_STRING && (r->flags & CONVERSATION_DECODES_ARGUMENTS)) {
        struct slice inner = json_string(value);
        if (inner.size == 0) {
            return 0;
        }
        *out = conversation_copy(r->c, inner.data, inner.size, r->err);
    } else {
        *out = copy_json(r, value);
    }
    return *out ? 0 : CARAT_E_MEMORY;
}

static int read_calls(struct reader *r, const struct json_value *list, struct carat_message *m)
{
    if (json_kind(list) == JSON_ABSENT || json_kind(list) == JSON_NULL) {
        return 0;
    }
    if (json_kind(list) != JSON_ARRAY) {
        return fail_field(r, "tool_calls", "a list", list);
    }
    size_t size = 0;
    struct carat_tool_call *calls = NULL;
    if (size_mul(&size, json_count(list) + 1, sizeof(*calls))) {
        calls = arena_take(&r->c->arena, size, r->err);
    }
    if (!calls) {
        return CARAT_E_MEMORY;
    }
    m->calls = calls;
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        const struct json_value *function = json_get(it.value, "function");
        function = function ? function : it.value;
        struct carat_tool_call *call = &calls[m->n_calls];
        int rc = read_string(r, it.value, "id", &call->id);
        rc = rc ? rc : read_string(r, function, "name", &call->name);
        rc = rc ? rc : read_arguments(r, json_get(function, "arguments"), &call->arguments);
        if (rc) {
            return rc;
        }
        if (!call->name) {
            return fail_field(r, "tool_calls: name", "a string", json_get(function, "name"));
        }
        m->n_calls++;
    }
    return 0;
}

static int read_responses(struct reader *r, const struct json_value *list, struct carat_message *m)
{
    if (json_kind(list) == JSON_ABSENT || json_kind(list) == JSON_NULL) {
        return 0;
    }
    if (json_kind(list) != JSON_ARRAY) {
        return fail_field(r, "tool_responses", "a list", list);
    }
    size_t size = 0;
    struct carat_tool_response *responses = NULL;
    if (size_mul(&size, json_count(list) + 1, sizeof(*responses))) {
        responses = arena_take(&r->c->arena, size, r->err);
    }
    if (!responses) {
        return CARAT_E_MEMORY;
    }
    m->responses = responses;
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        struct carat_tool_response *response = &responses[m->n_responses];
        const struct json_value *value = json_get(it.value, "response");
        int rc = read_string(r, it.value, "name", &response->name);
        if (rc) {
            return rc;
        }
        if (!value) {
            return fail_field(r, "tool_responses: response", "a value", value);
        }
        response->response = copy_json(r, value);
        if (!response->response) {
            return CARAT_E_MEMORY;
        }
        m->n_responses++;
    }
    return 0;
}

static int read_reasoning(struct reader *r, const struct json_value *object,
                          struct carat_message *m)
{
    // Three names are in use for the same thing.
    static const char *const names[] = {"reasoning", "reasoning_content", "thinking"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *text = NULL;
        int rc = read_string(r, object, names[i], &text);
        if (rc) {
            return rc;
        }
        if (text && *text) {
            m->reasoning = text;
            return 0;
        }
    }
    return 0;
}

static int read_message(struct reader *r, const struct json_value *object)
{
    struct carat_message m = {.role = NULL};
    if (json_kind(object) != JSON_OBJECT) {
        return fail_field(r, "message", "an object", object);
    }
    int rc = read_string(r, object, "role", &m.role);
    if (rc) {
        return rc;
    }
    if (!m.role) {
        return fail_field(r, "role", "a string", json_get(object, "role"));
    }
    rc = read_content(r, json_get(object, "content"), &m);
    rc = rc ? rc : read_reasoning(r, object, &m);
    rc = rc ? rc : read_calls(r, json_get(object, "tool_calls"), &m);
    rc = rc ? rc : read_responses(r, json_get(object, "tool_responses"), &m);
    rc = rc ? rc : read_string(r, object, "tool_call_id", &m.tool_call_id);
    rc = rc ? rc : read_string(r, object, "name", &m.name);
    return rc ? rc : conversation_add(r->c, &m, r->err);
}

int conversation_read(struct conversation *c, const struct json_value *messages, unsigned flags,
                      struct carat_error *err)
{
    struct reader r = {.c = c, .flags = flags, .err = err};
    if (json_kind(messages) != JSON_ARRAY) {
        return fail(err, CARAT_E_FORMAT, "messages: expected a list, found %s",
                    json_kind_name(json_kind(messages)));
    }
    for (struct json_iter it = json_iter(messages); json_next(&it); r.message++) {
        int rc = read_message(&r, it.value);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

int conversation_read_tools(struct conversation *c, const struct json_value *tools,
                            struct carat_error *err)
{
    if (json_kind(tools) != JSON_ARRAY) {
        return fail(err, CARAT_E_FORMAT, "tools: expected a list, found %s",
                    json_kind_name(json_kind(tools)));
    }
    struct reader r = {.c = c, .err = err};
    c->tools = copy_json(&r, tools);
    return c->tools ? 0 : CARAT_E_MEMORY;
}

// Parses a file or standard input; the buffer may go as soon as the document stands.
static int read_json(struct json_doc **out, const char *path, struct carat_error *err)
{
    struct buf text = {.max = FILE_SIZE_MAX};
    int rc = os_read_file(&text, path, FILE_SIZE_MAX, err);
    if (rc == 0) {
        rc = json_parse(out, buf_text(&text), text.size,
                        strcmp(path, "-") == 0 ? "standard input" : path, err);
    }
    buf_release(&text);
    return rc;
}

int conversation_read_file(struct conversation *c, const char *path, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    const char *slash = strrchr(path, '/');
    char *folder = conversation_copy(
        c, path, slash && strcmp(path, "-") ? (size_t)(slash - path) + 1 : 0, err);
    if (!folder) {
        return CARAT_E_MEMORY;
    }
    c->media_folder = folder;
    int rc = read_json(&doc, path, err);
    if (rc) {
        return rc;
    }
    const struct json_value *root = json_root(doc);
    bool is_object = json_kind(root) == JSON_OBJECT;
    const struct json_value *tools = is_object ? json_get(root, "tools") : NULL;
    rc = conversation_read(c, is_object ? json_get(root, "messages") : root,
                           CONVERSATION_DECODES_ARGUMENTS, err);
    if (rc == 0 && json_kind(tools) != JSON_ABSENT && json_kind(tools) != JSON_NULL) {
        rc = conversation_read_tools(c, tools, err);
    }
    if (rc) {
        fail_prefix(err, strcmp(path, "-") == 0 ? "standard input" : path);
    }
    json_free(doc);
    return rc;
}

int conversation_read_tools_file(struct conversation *c, const char *path, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    int rc = read_json(&doc, path, err);
    if (rc) {
        return rc;
    }
    rc = conversation_read_tools(c, json_root(doc), err);
    if (rc) {
        fail_prefix(err, path);
    }
    json_free(doc);
    return rc;
}

// -------------------------------------------------------------------------------------- to JSON

static void write_string(struct buf *out, const char *key, const char *text)
{
    if (text) {
        buf_addf(out, ",\"%s\":", key);
        buf_add_json(out, text, strlen(text));
    }
}

static size_t part_size(const struct carat_part *part)
{
    return part->text_size ? part->text_size : part->text ? strlen(part->text) : 0;
}

static void write_content(const struct conversation *c, struct buf *out,
                          const struct carat_message *m)
{
    static const char *const names[] = {"text", "json", "image", "audio", "video"};
    buf_adds(out, ",\"content\":");
    if (!m->is_part_list && m->n_parts == 1 && m->parts[0].type == CARAT_PART_JSON) {
        buf_adds(out, m->parts[0].text);
        return;
    }
    if (!m->is_part_list && m->n_parts == 1 && m->parts[0].type == CARAT_PART_TEXT) {
        buf_add_json(out, m->parts[0].text, part_size(&m->parts[0]));
        return;
    }
    if (m->n_parts == 0) {
        buf_adds(out, "\"\"");
        return;
    }
    for (size_t i = 0; i < m->n_parts; i++) {
        const struct carat_part *part = &m->parts[i];
        buf_addf(out, "%s{\"type\":\"%s\"", i ? "," : "[", names[part->type]);
        if (part->type == CARAT_PART_TEXT) {
            buf_adds(out, ",\"text\":");
            buf_add_json(out, part->text, part_size(part));
        } else {
            conversation_write_medium(c, part, out);
        }
        buf_addc(out, '}');
    }
    buf_addc(out, ']');
}

static void write_calls(struct buf *out, const struct carat_message *m)
{
    for (size_t i = 0; i < m->n_calls; i++) {
        const struct carat_tool_call *call = &m->calls[i];
        buf_adds(out, i ? ",{\"type\":\"function\"" : ",\"tool_calls\":[{\"type\":\"function\"");
        write_string(out, "id", call->id);
        buf_adds(out, ",\"function\":{\"name\":");
        buf_add_json(out, call->name, strlen(call->name));
        buf_addf(out, ",\"arguments\":%s}}", call->arguments ? call->arguments : "{}");
    }
    buf_adds(out, m->n_calls ? "]" : "");
    for (size_t i = 0; i < m->n_responses; i++) {
        const struct carat_tool_response *response = &m->responses[i];
        buf_adds(out, i ? ",{" : ",\"tool_responses\":[{");
        buf_addf(out, "\"response\":%s", response->response);
        write_string(out, "name", response->name);
        buf_addc(out, '}');
    }
    buf_adds(out, m->n_responses ? "]" : "");
}

void conversation_write(const struct conversation *c, struct buf *out)
{
    buf_addc(out, '[');
    for (size_t i = 0; i < c->n; i++) {
        const struct carat_message *m = &c->messages[i];
        buf_adds(out, i ? ",\n {\"role\":" : "\n {\"role\":");
        buf_add_json(out, m->role, strlen(m->role));
        write_content(c, out, m);
        write_string(out, "reasoning", m->reasoning);
        write_string(out, "tool_call_id", m->tool_call_id);
        write_string(out, "name", m->name);
        write_calls(out, m);
        buf_addc(out, '}');
    }
    buf_adds(out, "\n]\n");
}
