// SPDX-License-Identifier: Apache-2.0
// Tools of the Responses API: functions, custom tools (a text instead of an object: declared to the
// model as a function of one string) and namespaces of both. Tools that the service would run
// itself are passed over with a note.
#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/note.h"
#include "server/openai.h"
#include "server/responses.h"

#define TYPE_SHOWN 40 // bytes of a type in a note

static const char custom_parameters[] =
    "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":"
    "\"The whole input of the tool, as free text.\"}},\"required\":[\"input\"]}";

const char *responses_tool_name(struct call *call, struct slice space, struct slice name,
                                struct carat_error *err)
{
    // Functions without a namespace may come in one of this name.
    if (space.size == 0 || slice_is(space, "functions")) {
        return call_text(call, name, err);
    }
    struct buf joined = {0};
    const char *copy = NULL;
    buf_add_slice(&joined, space);
    buf_adds(&joined, slice_ends(space, "__") ? "" : "__");
    buf_add_slice(&joined, name);
    if (buf_status(&joined, err) == 0) {
        copy = call_text(call, slice_make(joined.data, joined.size), err);
    }
    buf_release(&joined);
    return copy;
}

const struct responses_tool *responses_tool_of(const struct responses *r, const char *model_name)
{
    const struct responses_tool *tool = r->tools;
    while (tool && strcmp(tool->model_name, model_name) != 0) {
        tool = tool->next;
    }
    return tool;
}

// A description with the grammar that the input should follow: the model reads it, nothing holds it
// to it.
static int describe_custom(const struct json_value *v, struct buf *out, struct carat_error *err)
{
    const struct json_value *format = json_get(v, "format");
    struct slice definition = json_string(json_get(format, "definition"));
    buf_add_slice(out, json_string(json_get(v, "description")));
    if (definition.size > 0) {
        buf_adds(out, "\nThe input follows this grammar (");
        buf_add_slice(out, json_string(json_get(format, "syntax")));
        buf_adds(out, "):\n");
        buf_add_slice(out, definition);
    }
    return buf_status(out, err);
}

// What a list of tools is made with.
struct tools {
    struct call *call;
    struct responses *r;
    struct tool_list all;
    struct tool_list allowed; // of tool_choice "allowed_tools"
    const struct json_value *allowed_names;
    struct json_doc *custom; // custom_parameters
};

static bool is_allowed(const struct tools *t, const struct responses_tool *tool)
{
    for (struct json_iter it = json_iter(t->allowed_names); json_next(&it);) {
        if (slice_equal(json_string(json_get(it.value, "name")), tool->name) ||
            slice_is(json_string(json_get(it.value, "name")), tool->model_name)) {
            return true;
        }
    }
    return false;
}

static int add_to_lists(struct tools *t, const struct responses_tool *tool,
                        struct slice description, const struct json_value *parameters,
                        bool is_strict, struct carat_error *err)
{
    struct slice name = slice_of(tool->model_name);
    int rc = tool_list_add(&t->all, name, description, parameters, is_strict, err);
    if (!rc && t->allowed_names && is_allowed(t, tool)) {
        rc = tool_list_add(&t->allowed, name, description, parameters, is_strict, err);
    }
    return rc;
}

static int add_tool(struct tools *t, const struct json_value *v, struct slice space, bool is_custom,
                    struct carat_error *err)
{
    struct responses_tool *tool = call_take(t->call, sizeof(*tool), err);
    if (!tool) {
        return CARAT_E_MEMORY;
    }
    // Of a function in the form of Chat Completions the rest stands one level below.
    const struct json_value *inner = json_get(v, "function");
    v = json_kind(inner) == JSON_OBJECT ? inner : v;
    tool->name = json_string(json_get(v, "name"));
    tool->space = space;
    tool->is_custom = is_custom;
    tool->model_name = responses_tool_name(t->call, space, tool->name, err);
    if (!tool->model_name) {
        return CARAT_E_MEMORY;
    }
    if (responses_tool_of(t->r, tool->model_name)) {
        return fail(err, CARAT_E_ARGUMENT, "name: '%.*s' was declared already", TYPE_SHOWN,
                    tool->model_name);
    }
    struct buf description = {0};
    int rc = 0;
    if (is_custom) {
        rc = describe_custom(v, &description, err);
    } else {
        buf_add_slice(&description, json_string(json_get(v, "description")));
    }
    rc = rc ? rc
            : add_to_lists(t, tool, slice_make(buf_text(&description), description.size),
                           is_custom ? json_root(t->custom) : json_get(v, "parameters"),
                           !is_custom && json_bool(json_get(v, "strict")), err);
    buf_release(&description);
    tool->next = t->r->tools;
    t->r->tools = tool;
    return rc;
}

// A function, a custom tool, or neither: *is_known is false then.
static int add_plain(struct tools *t, const struct json_value *v, struct slice space,
                     bool *is_known, struct carat_error *err)
{
    struct slice type = json_string(json_get(v, "type"));
    bool is_custom = slice_is(type, "custom");
    *is_known = is_custom || slice_is(type, "function");
    return *is_known ? add_tool(t, v, space, is_custom, err) : 0;
}

static int add_namespace(struct tools *t, const struct json_value *v, struct carat_error *err)
{
    struct slice space = json_string(json_get(v, "name"));
    size_t i = 0;
    for (struct json_iter it = json_iter(json_get(v, "tools")); json_next(&it); i++) {
        bool is_known = false;
        int rc = add_plain(t, it.value, space, &is_known, err);
        if (rc) {
            return openai_in(rc, err, "tools[%zu]", i);
        }
    }
    return 0;
}

static int add_any(struct tools *t, const struct json_value *v, struct carat_error *err)
{
    struct slice type = json_string(json_get(v, "type"));
    bool is_known = false;
    if (json_kind(v) != JSON_OBJECT || type.size == 0) {
        return fail(err, CARAT_E_ARGUMENT, "expected a tool, an object with a type, found %s",
                    json_kind_name(json_kind(v)));
    }
    if (slice_is(type, "namespace")) {
        return add_namespace(t, v, err);
    }
    int rc = add_plain(t, v, (struct slice){0}, &is_known, err);
    if (!rc && !is_known) {
        ask_note(t->call, "tool type '%.*s' ignored",
                 (int)(type.size < TYPE_SHOWN ? type.size : TYPE_SHOWN), type.data);
    }
    return rc;
}

struct choice {
    enum carat_tool_choice choice;
    struct slice space, name;
};

static int read_mode(struct slice mode, enum carat_tool_choice *out, struct carat_error *err)
{
    if (slice_is(mode, "auto")) {
        *out = CARAT_TOOLS_AUTO;
    } else if (slice_is(mode, "none")) {
        *out = CARAT_TOOLS_NONE;
    } else if (slice_is(mode, "required")) {
        *out = CARAT_TOOLS_REQUIRED;
    } else {
        return fail(err, CARAT_E_ARGUMENT,
                    "tool_choice: expected \"auto\", \"none\" or \"required\", found \"%.*s\"",
                    (int)(mode.size < TYPE_SHOWN ? mode.size : TYPE_SHOWN), mode.data);
    }
    return 0;
}

// The list of allowed tools, where there is one, is put into t.
static int read_choice(struct tools *t, struct choice *out, struct carat_error *err)
{
    const struct json_value *v = json_get(t->r->root, "tool_choice");
    enum json_kind kind = json_kind(v);
    *out = (struct choice){.choice = CARAT_TOOLS_AUTO};
    if (kind == JSON_ABSENT || kind == JSON_NULL) {
        return 0;
    }
    if (kind == JSON_STRING) {
        return read_mode(json_string(v), &out->choice, err);
    }
    if (kind != JSON_OBJECT) {
        return fail(err, CARAT_E_ARGUMENT, "tool_choice: expected a string or an object, found %s",
                    json_kind_name(kind));
    }
    struct slice type = json_string(json_get(v, "type"));
    if (slice_is(type, "allowed_tools")) {
        t->allowed_names = json_get(v, "tools");
        if (json_count(t->allowed_names) > CONTENT_TOOLS_MAX) {
            return fail(err, CARAT_E_ARGUMENT, "tool_choice.tools: expected at most %d tools",
                        CONTENT_TOOLS_MAX);
        }
        return read_mode(json_string(json_get(v, "mode")), &out->choice, err);
    }
    if (slice_is(type, "function") || slice_is(type, "custom")) {
        const struct json_value *inner = json_get(v, "function");
        out->choice = CARAT_TOOLS_REQUIRED;
        out->name = json_string(json_get(json_kind(inner) == JSON_OBJECT ? inner : v, "name"));
        out->space = json_string(json_get(v, "namespace"));
        return out->name.size > 0
                   ? 0
                   : fail(err, CARAT_E_ARGUMENT, "tool_choice.name: expected the name of a tool");
    }
    ask_note(t->call, "tool_choice '%.*s' ignored",
             (int)(type.size < TYPE_SHOWN ? type.size : TYPE_SHOWN), type.data);
    return 0;
}

static int finish(struct tools *t, const struct choice *choice, struct carat_error *err)
{
    bool is_parallel = true;
    int rc = ask_bool(t->r->root, "parallel_tool_calls", &is_parallel, err);
    const char *allowed = NULL;
    const char *name = "";
    if (!rc && choice->name.size > 0) {
        name = responses_tool_name(t->call, choice->space, choice->name, err);
        rc = name ? 0 : CARAT_E_MEMORY;
    }
    // The model reads all declarations, whose beginning is then the same in each turn; the grammar
    // allows only some.
    if (!rc && t->allowed_names) {
        rc = tool_list_finish(&t->allowed, t->call, choice->choice, slice_of(name), !is_parallel,
                              err);
        allowed = t->call->ask.grammar.tools;
    }
    rc = rc ? rc
            : tool_list_finish(&t->all, t->call,
                               t->allowed_names && !allowed ? CARAT_TOOLS_NONE : choice->choice,
                               slice_of(name), !is_parallel, err);
    if (!rc && allowed) {
        t->call->ask.grammar.tools = allowed;
    }
    return rc;
}

int responses_read_tools(struct call *call, struct responses *r, struct carat_error *err)
{
    struct tools t = {.call = call, .r = r};
    struct choice choice;
    const struct json_value *list = json_get(r->root, "tools");
    enum json_kind kind = json_kind(list);
    int rc =
        json_parse(&t.custom, custom_parameters, sizeof(custom_parameters) - 1, "parameters", err);
    if (!rc && kind != JSON_ABSENT && kind != JSON_NULL && kind != JSON_ARRAY) {
        rc = fail(err, CARAT_E_ARGUMENT, "tools: expected a list, found %s", json_kind_name(kind));
    }
    rc = rc ? rc : read_choice(&t, &choice, err);
    size_t i = 0;
    for (struct json_iter it = json_iter(list); !rc && json_next(&it); i++) {
        rc = openai_in(add_any(&t, it.value, err), err, "tools[%zu]", i);
    }
    rc = rc ? rc : finish(&t, &choice, err);
    tool_list_release(&t.all);
    tool_list_release(&t.allowed);
    json_free(t.custom);
    return rc;
}
