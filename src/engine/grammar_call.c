// SPDX-License-Identifier: Apache-2.0
// A declaration that says "strict": true is compiled to the letter or refused. Of others, keywords
// that cannot be honoured are passed over: a tool must not be lost because its author said more of
// an argument than an automaton can hold.
#include "engine/grammar_call.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/grammar_schema.h"

struct caller {
    struct program *program;
    struct nfa nfa;
    struct call_letters letters;
    uint32_t from, to;
    const char *only;
    size_t n_drawn;
    struct carat_error *err;
};

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        if ((uint8_t)name.data[i] <= ' ' || name.data[i] == '{' || name.data[i] == '<') {
            return false;
        }
    }
    return name.size > 0 && utf8_is_valid(name.data, name.size);
}

static int draw_arguments(struct caller *c, const struct json_value *function, struct slice name,
                          uint32_t from)
{
    const struct json_value *parameters = json_get(function, "parameters");
    if (json_kind(parameters) == JSON_NULL || json_count(parameters) == 0) {
        nfa_text(&c->nfa, from, "{}", 2, c->to);
        return 0;
    }
    char label[160];
    snprintf(label, sizeof(label), "tools: %.*s", name.size < 128 ? (int)name.size : 128,
             name.data);
    const struct schema_options options = {
        .name = label,
        .is_call = true,
        .is_lenient = !json_bool(json_get(function, "strict")),
        .needs_object = true,
    };
    struct call_letter call = {.max = COUNT_UNLIMITED};
    const int rc = schema_draw(c->program, parameters, &options, &call.rule, c->err);
    if (rc == 0) {
        draw_call(&c->nfa, &c->letters, from, call, c->to);
    }
    return rc;
}

static int draw_tool(struct caller *c, const struct json_value *tool, size_t i)
{
    const struct json_value *inner = json_get(tool, "function");
    const struct json_value *function = inner ? inner : tool;
    const struct slice name = json_string(json_get(function, "name"));
    if (!is_name(name)) {
        return fail(c->err, CARAT_E_FORMAT,
                    "tools[%zu]: expected a function's name without white space, { and <", i);
    }
    if (c->only && !slice_is(name, c->only)) {
        return 0;
    }
    c->n_drawn++;
    const uint32_t behind = nfa_state(&c->nfa);
    const uint32_t head = nfa_state(&c->nfa);
    nfa_text(&c->nfa, c->from, "call:", 5, head);
    nfa_text(&c->nfa, head, name.data, name.size, behind);
    return draw_arguments(c, function, name, behind);
}

static int draw_tools(struct caller *c, const struct json_value *list)
{
    size_t i = 0;
    int rc = 0;
    if (json_kind(list) != JSON_ARRAY || json_count(list) > CALL_TOOLS_MAX) {
        return fail(c->err, CARAT_E_FORMAT, "tools: expected an array of at most %u declarations",
                    CALL_TOOLS_MAX);
    }
    c->from = nfa_state(&c->nfa);
    c->to = nfa_state(&c->nfa);
    for (struct json_iter it = json_iter(list); rc == 0 && json_next(&it);) {
        rc = draw_tool(c, it.value, i++);
    }
    if (rc == 0 && c->only && c->n_drawn == 0) {
        rc = fail(c->err, CARAT_E_ARGUMENT, "tool_name: no tool is called %.100s", c->only);
    }
    return rc ? rc : c->nfa.rc;
}

int call_draw(struct program *program, const char *tools, const char *only, uint32_t *rule,
              struct carat_error *err)
{
    struct caller c = {.program = program, .only = only, .nfa = {.err = err}, .err = err};
    struct json_doc *doc = NULL;
    const size_t size = strlen(tools);
    if (size > CALL_TOOLS_SIZE_MAX) {
        return fail(err, CARAT_E_FULL, "tools: expected at most %zu bytes, found %zu",
                    CALL_TOOLS_SIZE_MAX, size);
    }
    int rc = json_parse(&doc, tools, size, "tools", err);
    if (rc == 0) {
        rc = draw_tools(&c, json_root(doc));
    }
    if (rc == 0) {
        rc = program_rule(program, rule, err);
    }
    if (rc == 0) {
        rc = program_draw(program, *rule, &c.nfa, c.from, c.to, &c.letters, err);
    }
    nfa_release(&c.nfa);
    mem_free(c.letters.items);
    json_free(doc);
    return rc;
}
