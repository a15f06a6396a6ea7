// SPDX-License-Identifier: Apache-2.0
#include "chat_row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

static char *text_of(struct arena *arena, const struct json_value *v)
{
    struct slice s = json_string(v);
    return json_kind(v) == JSON_STRING ? arena_strndup(arena, s.data, s.size, NULL) : NULL;
}

static char *json_of(struct arena *arena, const struct json_value *v)
{
    struct buf text = {0};
    if (json_kind(v) == JSON_ABSENT || json_kind(v) == JSON_NULL) {
        return NULL;
    }
    json_write(v, &text);
    char *copy = arena_strndup(arena, buf_text(&text), text.size, NULL);
    buf_release(&text);
    return copy;
}

static void *array_of(struct arena *arena, const struct json_value *list, size_t element_size)
{
    return arena_take(arena, json_count(list) * element_size + 1, NULL);
}

// A part of unknown type is an empty text. OpenAI's names came with the canonical templates.
static void read_part(struct carat_part *out, const struct json_value *v, bool is_canonical,
                      struct arena *arena)
{
    static const struct {
        const char *name;
        enum carat_part_type type;
        bool is_new;
    } types[] = {{"text", CARAT_PART_TEXT, false},        {"image", CARAT_PART_IMAGE, false},
                 {"image_url", CARAT_PART_IMAGE, true},   {"audio", CARAT_PART_AUDIO, false},
                 {"input_audio", CARAT_PART_AUDIO, true}, {"video", CARAT_PART_VIDEO, false}};
    struct slice name = json_string(json_get(v, "type"));
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (slice_is(name, types[i].name) && (is_canonical || !types[i].is_new)) {
            out->type = types[i].type;
            out->text = text_of(arena, json_get(v, "text"));
        }
    }
}

static void read_content(struct carat_message *m, const struct json_value *content,
                         bool is_canonical, struct arena *arena)
{
    struct carat_part *parts = array_of(arena, content, sizeof(*parts));
    enum json_kind kind = json_kind(content);
    if (kind == JSON_ABSENT || kind == JSON_NULL) {
        return;
    }
    m->is_part_list = kind == JSON_ARRAY;
    if (kind == JSON_ARRAY) {
        m->parts = parts;
        for (struct json_iter it = json_iter(content); json_next(&it);) {
            read_part(&parts[m->n_parts++], it.value, is_canonical, arena);
        }
        return;
    }
    parts = arena_take(arena, sizeof(*parts), NULL);
    parts->type = kind == JSON_STRING ? CARAT_PART_TEXT : CARAT_PART_JSON;
    parts->text = kind == JSON_STRING ? text_of(arena, content) : json_of(arena, content);
    m->parts = parts;
    m->n_parts = 1;
}

static const char *read_reasoning(const struct json_value *m, struct arena *arena)
{
    static const char *const names[] = {"reasoning", "reasoning_content", "thinking"};
    for (size_t i = 0; i < 3; i++) {
        char *text = text_of(arena, json_get(m, names[i]));
        if (text && *text) {
            return text;
        }
    }
    return NULL;
}

static void read_calls(struct carat_message *m, const struct json_value *list, struct arena *arena)
{
    struct carat_tool_call *calls = array_of(arena, list, sizeof(*calls));
    m->calls = calls;
    for (struct json_iter it = json_iter(list); json_kind(list) == JSON_ARRAY && json_next(&it);) {
        const struct json_value *function = json_get(it.value, "function");
        calls[m->n_calls++] =
            (struct carat_tool_call){.id = text_of(arena, json_get(it.value, "id")),
                                     .name = text_of(arena, json_get(function, "name")),
                                     .arguments = json_of(arena, json_get(function, "arguments"))};
    }
}

static void read_responses(struct carat_message *m, const struct json_value *list,
                           struct arena *arena)
{
    struct carat_tool_response *responses = array_of(arena, list, sizeof(*responses));
    m->responses = responses;
    for (struct json_iter it = json_iter(list); json_kind(list) == JSON_ARRAY && json_next(&it);) {
        responses[m->n_responses++] = (struct carat_tool_response){
            .name = text_of(arena, json_get(it.value, "name")),
            .response = json_of(arena, json_get(it.value, "response"))};
    }
}

static enum carat_template read_template(const struct json_value *row)
{
    static const char *const names[] = {
        "", "canonical", "canonical-edge", "revision-2026-04", "interleaved", "launch"};
    struct slice name = json_string(json_get(row, "template"));
    for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_is(name, names[i])) {
            return (enum carat_template)i;
        }
    }
    return CARAT_TEMPLATE_AUTO;
}

int chat_row_read(struct carat_chat *out, const struct json_value *row, struct arena *arena)
{
    const struct json_value *list = json_get(row, "messages");
    struct carat_message *messages = array_of(arena, list, sizeof(*messages));
    *out = (struct carat_chat){0};
    if (json_kind(list) != JSON_ARRAY) {
        return CARAT_E_FORMAT;
    }
    out->chat_template = read_template(row);
    bool is_canonical = out->chat_template <= CARAT_TEMPLATE_CANONICAL_EDGE;
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        struct carat_message *m = &messages[out->n_messages++];
        m->role = text_of(arena, json_get(it.value, "role"));
        m->name = text_of(arena, json_get(it.value, "name"));
        m->tool_call_id = text_of(arena, json_get(it.value, "tool_call_id"));
        m->reasoning = read_reasoning(it.value, arena);
        read_content(m, json_get(it.value, "content"), is_canonical, arena);
        read_calls(m, json_get(it.value, "tool_calls"), arena);
        read_responses(m, json_get(it.value, "tool_responses"), arena);
    }
    const struct json_value *prompts = json_get(row, "add_generation_prompt");
    out->messages = messages;
    out->tools = json_of(arena, json_get(row, "tools"));
    out->thinks = json_bool(json_get(row, "enable_thinking"));
    out->preserves_thinking = json_bool(json_get(row, "preserve_thinking"));
    out->continues_final = json_bool(json_get(row, "continue_final_message"));
    out->is_complete = json_kind(prompts) == JSON_BOOL && !json_bool(prompts);
    return 0;
}

size_t chat_rows_each(const char *path, void (*use)(const struct json_value *row))
{
    struct buf file = {0};
    size_t n = 0;
    if (os_read_file(&file, path, 64 << 20, NULL)) {
        return 0;
    }
    for (const char *line = buf_text(&file); *line;) {
        const char *end = strchr(line, '\n');
        size_t size = end ? (size_t)(end - line) : strlen(line);
        struct json_doc *doc = NULL;
        if (json_parse(&doc, line, size, "row", NULL)) {
            fprintf(stderr, "%s: line %zu is no JSON\n", path, n + 1);
            exit(1);
        }
        use(json_root(doc));
        json_free(doc);
        n++;
        line += size + (end != NULL);
    }
    buf_release(&file);
    return n;
}

static bool equal_numbers(const struct json_value *a, const struct json_value *b)
{
    int64_t x = 0;
    int64_t y = 0;
    bool is_integer = json_i64(a, &x);
    if (is_integer != json_i64(b, &y)) {
        return false;
    }
    return is_integer ? x == y : !(fabs(json_double(a) - json_double(b)) > 0);
}

bool json_equal(const struct json_value *a, const struct json_value *b)
{
    if (json_kind(a) != json_kind(b) || json_count(a) != json_count(b)) {
        return false;
    }
    switch (json_kind(a)) {
    case JSON_BOOL:
        return json_bool(a) == json_bool(b);
    case JSON_NUMBER:
        return equal_numbers(a, b);
    case JSON_STRING:
        return slice_equal(json_string(a), json_string(b));
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    default:
        return true;
    }
    struct json_iter other = json_iter(b);
    for (struct json_iter it = json_iter(a); json_next(&it);) {
        json_next(&other);
        const struct json_value *v =
            json_kind(a) == JSON_OBJECT ? json_getn(b, it.key) : other.value;
        if (!v || !json_equal(it.value, v)) {
            return false;
        }
    }
    return true;
}
