// SPDX-License-Identifier: Apache-2.0
// Tools of Chat Completions and which of them may be called, in today's form and in the one before
// (functions, function_call).
#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/fields.h"
#include "server/note.h"
#include "server/openai.h"

struct choice {
    enum carat_tool_choice how;
    struct slice name;                // of the one to call; empty: any
    const struct json_value *allowed; // a list of tools: only these; NULL: all
};

static int add_function(struct tool_list *list, const struct json_value *function,
                        struct carat_error *err)
{
    struct slice name = {0};
    struct slice description = {0};
    if (json_kind(function) != JSON_OBJECT) {
        return fail(err, CARAT_E_ARGUMENT, "expected an object, found %s",
                    json_kind_name(json_kind(function)));
    }
    int rc = ask_string(function, "name", &name, err);
    rc = rc ? rc : ask_string(function, "description", &description, err);
    return rc ? rc
              : tool_list_add(list, name, description, json_get(function, "parameters"),
                              json_bool(json_get(function, "strict")), err);
}

static int read_list(struct call *call, struct tool_list *list, const struct json_value *tools,
                     const char *key, bool is_legacy, struct carat_error *err)
{
    if (!field_is_given(tools)) {
        return 0;
    }
    if (json_kind(tools) != JSON_ARRAY) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a list, found %s", key,
                    json_kind_name(json_kind(tools)));
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(tools); json_next(&it); i++) {
        struct slice type = {0};
        int rc = ask_string(it.value, "type", &type, err);
        if (rc == 0 && is_legacy) {
            rc = add_function(list, it.value, err);
        } else if (rc == 0 && (type.size == 0 || slice_is(type, "function"))) {
            rc =
                openai_in(add_function(list, json_get(it.value, "function"), err), err, "function");
        } else if (rc == 0) {
            ask_note(call, "tools of type %.*s are not offered to the model",
                     (int)(type.size < 40 ? type.size : 40), type.data);
        }
        if (rc) {
            return openai_in(rc, err, "%s[%zu]", key, i);
        }
    }
    return 0;
}

static bool read_mode(struct slice word, enum carat_tool_choice *out)
{
    static const struct {
        const char *word;
        enum carat_tool_choice how;
    } rows[] = {
        {"auto", CARAT_TOOLS_AUTO},
        {"none", CARAT_TOOLS_NONE},
        {"required", CARAT_TOOLS_REQUIRED},
        {"any", CARAT_TOOLS_REQUIRED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is(word, rows[i].word)) {
            *out = rows[i].how;
            return true;
        }
    }
    return false;
}

static int read_allowed(struct choice *choice, const struct json_value *v, struct carat_error *err)
{
    struct slice mode = slice_of("auto");
    int rc = ask_string(v, "mode", &mode, err);
    if (rc) {
        return rc;
    }
    if (!read_mode(mode, &choice->how)) {
        return fail(err, CARAT_E_ARGUMENT, "mode: expected auto or required");
    }
    choice->allowed = json_get(v, "tools");
    if (json_kind(choice->allowed) != JSON_ARRAY || json_count(choice->allowed) == 0) {
        return fail(err, CARAT_E_ARGUMENT, "tools: expected a list of tools");
    }
    return 0;
}

static int read_choice(struct choice *choice, const struct json_value *v, const char *key,
                       struct carat_error *err)
{
    if (!field_is_given(v) ||
        (json_kind(v) == JSON_STRING && read_mode(json_string(v), &choice->how))) {
        return 0;
    }
    struct slice type = json_string(json_get(v, "type"));
    if (slice_is(type, "allowed_tools")) {
        const struct json_value *allowed = json_get(v, "allowed_tools");
        return openai_in(read_allowed(choice, allowed ? allowed : v, err), err,
                         "tool_choice.allowed_tools");
    }
    // {"type":"function","function":{"name":...}}, and {"name":...} of function_call.
    const struct json_value *function = json_get(v, "function");
    choice->name = json_string(json_get(function ? function : v, "name"));
    choice->how = CARAT_TOOLS_REQUIRED;
    if (choice->name.size == 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: expected none, auto, required or the name of a function", key);
    }
    return 0;
}

static const struct json_value *find_function(const struct json_value *tools, struct slice name)
{
    const struct json_value *found = NULL;
    for (struct json_iter it = json_iter(tools); json_next(&it);) {
        const struct json_value *function = json_get(it.value, "function");
        if (slice_equal(json_string(json_get(function, "name")), name)) {
            found = function;
        }
    }
    return found;
}

// All tools stay in the prompt, so that it is the same whatever is allowed; the grammar knows only
// the allowed ones.
static int restrict_tools(struct call *call, const struct json_value *tools,
                          const struct json_value *allowed, struct carat_error *err)
{
    struct tool_list list = {0};
    int rc = 0;
    size_t i = 0;
    for (struct json_iter it = json_iter(allowed); rc == 0 && json_next(&it); i++) {
        struct slice name = json_string(json_get(json_get(it.value, "function"), "name"));
        name = name.size > 0 ? name : json_string(json_get(it.value, "name"));
        const struct json_value *function = find_function(tools, name);
        rc = function ? add_function(&list, function, err)
                      : fail(err, CARAT_E_ARGUMENT,
                             "tool_choice.allowed_tools.tools[%zu]: no tool has the name '%.*s'", i,
                             (int)(name.size < TOOL_NAME_MAX ? name.size : TOOL_NAME_MAX),
                             name.data ? name.data : "");
    }
    if (rc == 0) {
        buf_adds(&list.json, "]");
        rc = buf_status(&list.json, err);
    }
    if (rc == 0) {
        call->ask.grammar.tools =
            call_text(call, slice_make(buf_text(&list.json), list.json.size), err);
        rc = call->ask.grammar.tools ? 0 : CARAT_E_MEMORY;
    }
    tool_list_release(&list);
    return rc;
}

int openai_read_tools(struct call *call, const struct json_value *root, bool *is_legacy,
                      struct carat_error *err)
{
    struct tool_list list = {0};
    struct choice choice = {0};
    bool is_parallel = true;
    const struct json_value *tools = json_get(root, "tools");
    bool is_old = !field_is_given(tools) && field_is_given(json_get(root, "functions"));
    const char *key = is_old ? "function_call" : "tool_choice";
    tools = is_old ? json_get(root, "functions") : tools;
    int rc = read_list(call, &list, tools, is_old ? "functions" : "tools", is_old, err);
    rc = rc ? rc : read_choice(&choice, json_get(root, key), key, err);
    rc = rc ? rc : ask_bool(root, "parallel_tool_calls", &is_parallel, err);
    if (rc == 0) {
        rc = tool_list_finish(&list, call, choice.how, choice.name, is_old || !is_parallel, err);
    }
    if (rc == 0 && choice.allowed) {
        rc = restrict_tools(call, tools, choice.allowed, err);
    }
    *is_legacy = is_old;
    tool_list_release(&list);
    return rc;
}
