// SPDX-License-Identifier: Apache-2.0
#include "server/place.h"

#include <stdio.h>
#include <string.h>

// Where dialects have such an option: the first that the request gives is it.
struct spot {
    const char *option; // of the grammar
    const char *path;   // in the request
};
static const struct spot spots[] = {
    {"json_schema", "response_format.json_schema.schema"},
    {"json_schema", "response_format.schema"},
    {"json_schema", "text.format.schema"},
    {"json_schema", "output_config.format.schema"},
    {"json_schema", "output_format.schema"},
    {"json_schema", "generationConfig.responseJsonSchema"},
    {"json_schema", "generationConfig._responseJsonSchema"},
    {"json_schema", "generationConfig.responseSchema"},
    {"json_schema", "generation_config.response_json_schema"},
    {"json_schema", "generation_config.response_schema"},
    {"json_schema", "structured_outputs.json"},
    {"json_schema", "guided_json"},
    {"json_schema", "json_schema"},
    {"json_schema", "format"},
    {"regex", "structured_outputs.regex"},
    {"regex", "guided_regex"},
    {"choices", "structured_outputs.choice"},
    {"choices", "guided_choice"},
    {NULL, NULL},
};
// What a declaration calls its schema.
static const char *const schemas[] = {
    "parameters", "input_schema", "parametersJsonSchema", "parameters_json_schema", "schema", NULL};

static const struct json_value *find(const struct json_value *v, const char *path)
{
    char key[64];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof(key), "%.*s", (int)n, path);
        v = json_kind(v) == JSON_OBJECT ? json_get(v, key) : NULL;
        path += n + (path[n] == '.');
    }
    return v && json_kind(v) != JSON_NULL ? v : NULL;
}

static const char *find_spot(const struct json_value *root, const char *option)
{
    for (const struct spot *s = spots; s->option; s++) {
        if (strcmp(s->option, option) == 0 && find(root, s->path)) {
            return s->path;
        }
    }
    return NULL;
}

// A declaration of that name, whose own path is in *out already: its schema is added. False: it has
// another name.
static bool add_declaration(struct buf *out, const struct json_value *tool, struct slice name)
{
    const struct json_value *inner = json_get(tool, "function");
    const struct json_value *function = json_kind(inner) == JSON_OBJECT ? inner : tool;
    struct slice found = json_string(json_get(function, "name"));
    if (name.size == 0 || found.size < name.size || memcmp(found.data, name.data, name.size) != 0) {
        return false; // the error has the beginning of a long name
    }
    buf_adds(out, function == inner ? ".function" : "");
    for (size_t i = 0; schemas[i]; i++) {
        if (json_get(function, schemas[i])) {
            buf_addf(out, ".%s", schemas[i]);
            break;
        }
    }
    return true;
}

static bool find_declaration(struct buf *out, const struct json_value *list, const char *path,
                             struct slice name)
{
    size_t i = 0;
    if (json_kind(list) != JSON_ARRAY) {
        return false;
    }
    for (struct json_iter it = json_iter(list); json_next(&it); i++) {
        buf_clear(out);
        buf_addf(out, "%s[%zu]", path, i);
        if (json_kind(it.value) == JSON_OBJECT && add_declaration(out, it.value, name)) {
            return true;
        }
    }
    return false;
}

// A tool is a declaration, or (Gemini's) has a list of them.
static bool find_tool(struct buf *out, const struct json_value *root, struct slice name)
{
    static const char *const lists[] = {"functionDeclarations", "function_declarations"};
    const struct json_value *tools = json_get(root, "tools");
    size_t i = 0;
    if (find_declaration(out, tools, "tools", name) ||
        find_declaration(out, json_get(root, "functions"), "functions", name)) {
        return true;
    }
    if (json_kind(tools) != JSON_ARRAY) {
        return false;
    }
    for (struct json_iter it = json_iter(tools); json_next(&it); i++) {
        for (size_t k = 0; k < 2 && json_kind(it.value) == JSON_OBJECT; k++) {
            char path[64];
            snprintf(path, sizeof(path), "tools[%zu].%s", i, lists[k]);
            if (find_declaration(out, json_get(it.value, lists[k]), path, name)) {
                return true;
            }
        }
    }
    return false;
}

// "/properties/x/pattern" of a pointer becomes ".properties.x.pattern", numbers become "[2]".
static void add_pointer(struct buf *out, struct slice pointer)
{
    size_t i = 0;
    while (i < pointer.size) {
        size_t begin = i + 1;
        size_t end = begin;
        bool is_number = true;
        for (; end < pointer.size && pointer.data[end] != '/'; end++) {
            is_number = is_number && pointer.data[end] >= '0' && pointer.data[end] <= '9';
        }
        struct slice part = slice_make(pointer.data + begin, end - begin);
        buf_addc(out, is_number && part.size > 0 ? '[' : '.');
        buf_add_slice(out, part);
        buf_adds(out, is_number && part.size > 0 ? "]" : "");
        i = end;
    }
}

void place_in_request(const struct call *call, struct carat_error *err)
{
    struct buf out = {.max = 4096};
    const struct json_value *root = call->doc ? json_root(call->doc) : NULL;
    const char *colon = strstr(err->text, ": ");
    char option[32];
    bool is_found = false;
    if (json_kind(root) != JSON_OBJECT || !colon) {
        return;
    }
    const char *rest = colon + 2;
    snprintf(option, sizeof(option), "%.*s", (int)(colon - err->text), err->text);
    const char *mark = strstr(rest, ": #");
    if (strcmp(option, "tools") == 0 && mark) {
        struct slice name = slice_make(rest, (size_t)(mark - rest));
        is_found = find_tool(&out, root, name);
        rest = mark + 2;
    } else {
        const char *path = find_spot(root, option);
        buf_adds(&out, path ? path : "");
        is_found = path != NULL;
    }
    if (is_found && *rest == '#') {
        const char *end = strstr(rest, ": ");
        size_t size = end ? (size_t)(end - rest) : strlen(rest);
        add_pointer(&out, slice_make(rest + 1, size - 1));
        rest = end ? end + 2 : rest + size;
    }
    buf_addf(&out, ": %s", rest);
    if (is_found && buf_status(&out, NULL) == 0) {
        snprintf(err->text, sizeof(err->text), "%s", buf_text(&out));
    }
    buf_release(&out);
}
