// SPDX-License-Identifier: Apache-2.0
// Tool declarations, byte for byte as the published templates write them, oddities included
// (docs/chat.md). Schemas nest as deeply as a stranger likes, so the work still to do stands on a
// stack of tasks instead of the C stack.
#include "chat/tools.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

enum task_kind {
    TASK_TEXT,  // the template's text
    TASK_PRINT, // a value as Python prints it
    TASK_PRINT_UPPER,
    TASK_VALUE,      // a value in Gemma's notation, keys quoted
    TASK_NAMES,      // the entries of a list, each as a string
    TASK_PROPERTIES, // the members of an object, each as the schema of a parameter
    TASK_ITEMS,      // the members of an array's items
};

struct task {
    enum task_kind kind;
    const char *text;
    const struct json_value *value;
    bool drops_keywords; // PROPERTIES
    bool has_begun;      // PROPERTIES, ITEMS: members is set
    bool has_written;    // a member was written: the next one needs a comma
    struct member *members;
    size_t n;
    size_t i;
};

// Tasks in the order in which they are to be done.
#define PLAN_MAX 32
struct plan {
    struct task tasks[PLAN_MAX];
    size_t n;
    bool needs_comma;
};

struct writer {
    struct pieces *out;
    struct tools_style style;
    struct slice tool_name; // for errors
    struct task *stack;
    size_t n;
    size_t capacity;
    struct carat_error *err;
};

static void plan_add(struct plan *p, struct task task)
{
    require(p->n < PLAN_MAX);
    p->tasks[p->n++] = task;
}

static void plan_text(struct plan *p, const char *text)
{
    plan_add(p, (struct task){.kind = TASK_TEXT, .text = text});
}

static void plan_value(struct plan *p, enum task_kind kind, const struct json_value *value)
{
    plan_add(p, (struct task){.kind = kind, .value = value});
}

static void plan_properties(struct plan *p, const struct json_value *value, bool drops_keywords)
{
    plan_add(p, (struct task){
                    .kind = TASK_PROPERTIES, .value = value, .drops_keywords = drops_keywords});
}

// A comma, if a field of this schema stands before.
static void plan_comma(struct plan *p)
{
    plan_text(p, p->needs_comma ? "," : "");
    p->needs_comma = true;
}

// The last planned task comes to lie at the bottom.
static int push_plan(struct writer *w, const struct plan *p)
{
    size_t needed = w->n + p->n;
    if (needed > w->capacity) {
        size_t capacity = 2 * needed;
        struct task *grown = w->stack ? mem_resize(w->stack, capacity * sizeof(*grown), w->err)
                                      : mem_new_array(capacity, sizeof(*grown), w->err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        w->stack = grown;
        w->capacity = capacity;
    }
    for (size_t i = p->n; i > 0; i--) {
        w->stack[w->n++] = p->tasks[i - 1];
    }
    return 0;
}

// ------------------------------------------------------------------------------ values

// Type names are ASCII; other letters stay as they are.
static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
}

static int print(struct writer *w, const struct json_value *v, bool is_upper)
{
    struct buf text = {0};
    value_print(&text, v);
    for (size_t i = 0; is_upper && i < text.size; i++) {
        text.data[i] = upper(text.data[i]);
    }
    int rc = buf_status(&text, w->err);
    pieces_add_user(w->out, slice_make(buf_text(&text), text.size));
    buf_release(&text);
    return rc;
}

static int print_as_string(struct writer *w, const struct json_value *v, bool is_upper)
{
    pieces_add(w->out, QUOTE_MARKER);
    int rc = print(w, v, is_upper);
    pieces_add(w->out, QUOTE_MARKER);
    return rc;
}

static int expected_list(struct writer *w, const struct json_value *v, const char *what)
{
    return fail(w->err, CARAT_E_FORMAT, "tool '%.*s': %s: expected an array, found %s",
                (int)(w->tool_name.size < 100 ? w->tool_name.size : 100), w->tool_name.data, what,
                json_kind_name(json_kind(v)));
}

static bool is_container(const struct json_value *v)
{
    return json_kind(v) == JSON_ARRAY || json_kind(v) == JSON_OBJECT;
}

static void string_piece(struct writer *w, struct slice text)
{
    pieces_add(w->out, QUOTE_MARKER);
    pieces_add_user(w->out, text);
    pieces_add(w->out, QUOTE_MARKER);
}

// Entries of a list, as strings with commas between. Python walks the keys of an object and the
// characters of a string; the templates do not check, so neither do we.
static int write_names(struct writer *w, const struct json_value *list)
{
    int rc = 0;
    if (json_kind(list) == JSON_STRING) {
        for (struct slice s = json_string(list); s.size;) {
            uint32_t c = 0;
            int length = utf8_next(s.data, s.size, &c);
            size_t size = length > 0 ? (size_t)length : 1;
            string_piece(w, slice_make(s.data, size));
            s = slice_make(s.data + size, s.size - size);
            pieces_add(w->out, s.size ? "," : "");
        }
        return 0;
    }
    if (!is_container(list)) {
        return expected_list(w, list, "required");
    }
    bool is_object = json_kind(list) == JSON_OBJECT;
    bool has_written = false;
    for (struct json_iter it = json_iter(list); !rc && json_next(&it); has_written = true) {
        pieces_add(w->out, has_written ? "," : "");
        if (is_object) {
            string_piece(w, it.key);
        } else {
            rc = print_as_string(w, it.value, false);
        }
    }
    return rc;
}

// The type inside items: one type or a list of them.
static int write_items_type(struct writer *w, const struct json_value *type)
{
    int rc = 0;
    if (json_kind(type) == JSON_STRING) {
        return print_as_string(w, type, true);
    }
    if (json_kind(type) != JSON_ARRAY) {
        return expected_list(w, type, "items: type");
    }
    pieces_add(w->out, "[");
    bool has_written = false;
    for (struct json_iter it = json_iter(type); !rc && json_next(&it); has_written = true) {
        pieces_add(w->out, has_written ? "," : "");
        rc = print_as_string(w, it.value, true);
    }
    pieces_add(w->out, "]");
    return rc;
}

static bool is_type(const struct json_value *schema, const char *upper_name)
{
    struct slice type = json_string(value_member(schema, "type"));
    if (type.size != strlen(upper_name)) {
        return false;
    }
    for (size_t i = 0; i < type.size; i++) {
        if (upper(type.data[i]) != upper_name[i]) {
            return false;
        }
    }
    return true;
}

// ------------------------------------------------------------------------------ one parameter

static bool is_keyword(struct slice key)
{
    return slice_is(key, "description") || slice_is(key, "type") || slice_is(key, "properties") ||
           slice_is(key, "required") || slice_is(key, "nullable");
}

static void plan_description(struct plan *p, const struct json_value *schema)
{
    const struct json_value *description = value_member(schema, "description");
    if (value_is_true(description)) {
        plan_text(p, "description:" QUOTE_MARKER);
        plan_value(p, TASK_PRINT, description);
        plan_text(p, QUOTE_MARKER);
        p->needs_comma = true;
    }
}

static void plan_nullable(struct plan *p, const struct json_value *schema)
{
    if (value_is_true(value_member(schema, "nullable"))) {
        plan_comma(p);
        plan_text(p, "nullable:true");
    }
}

static void plan_enum(struct plan *p, const struct json_value *schema)
{
    const struct json_value *values = value_member(schema, "enum");
    if (value_is_true(values)) {
        plan_comma(p);
        plan_text(p, "enum:");
        plan_value(p, TASK_VALUE, values);
    }
}

static void plan_items(struct plan *p, const struct json_value *schema, bool is_early)
{
    const struct json_value *items = value_member(schema, "items");
    if (json_kind(items) == JSON_OBJECT && json_count(items)) {
        if (is_early) {
            plan_text(p, ",");
        } else {
            plan_comma(p);
        }
        plan_text(p, "items:{");
        plan_value(p, TASK_ITEMS, items);
        plan_text(p, "}");
    }
}

// An object without properties has its own other members taken for them.
static void plan_object(struct plan *p, const struct json_value *schema, bool is_early)
{
    const struct json_value *properties = value_member(schema, "properties");
    const struct json_value *required = value_member(schema, "required");
    bool has_properties = json_kind(properties) == JSON_OBJECT;
    if (is_early) {
        plan_text(p, ",");
    } else {
        plan_comma(p);
    }
    plan_text(p, "properties:{");
    plan_properties(p, has_properties ? properties : schema, !has_properties);
    plan_text(p, "}");
    if (value_is_true(required)) {
        plan_text(p, ",required:[");
        plan_value(p, TASK_NAMES, required);
        plan_text(p, "]");
    }
}

// Older versions write nullable first and, after an object or an array, forget that a field was
// written: the comma before "type" is then missing, or one too many stands before "properties".
static void plan_fields_early(struct plan *p, const struct json_value *schema)
{
    plan_nullable(p, schema);
    if (is_type(schema, "STRING")) {
        plan_enum(p, schema);
    } else if (is_type(schema, "OBJECT")) {
        plan_object(p, schema, true);
    } else if (is_type(schema, "ARRAY")) {
        plan_items(p, schema, true);
    }
}

static void plan_fields(struct plan *p, const struct json_value *schema)
{
    if (is_type(schema, "STRING")) {
        plan_enum(p, schema);
    } else if (is_type(schema, "ARRAY")) {
        plan_items(p, schema, false);
    }
    plan_nullable(p, schema);
    if (is_type(schema, "OBJECT")) {
        plan_object(p, schema, false);
    }
}

static int write_property(struct writer *w, const struct member *property)
{
    struct plan p = {0};
    const struct json_value *schema = property->value;
    pieces_add_user(w->out, property->key);
    pieces_add(w->out, ":{");
    plan_description(&p, schema);
    if (w->style.has_early_nullable) {
        plan_fields_early(&p, schema);
    } else {
        plan_fields(&p, schema);
    }
    plan_comma(&p);
    plan_text(&p, "type:" QUOTE_MARKER);
    plan_value(&p, TASK_PRINT_UPPER, value_member(schema, "type"));
    plan_text(&p, QUOTE_MARKER "}");
    return push_plan(w, &p);
}

static int write_item_field(struct writer *w, const struct member *field)
{
    struct plan p = {0};
    if (slice_is(field->key, "properties")) {
        pieces_add(w->out, "properties:{");
        if (json_kind(field->value) == JSON_OBJECT) {
            plan_properties(&p, field->value, false);
        }
        plan_text(&p, "}");
        return push_plan(w, &p);
    }
    if (slice_is(field->key, "required")) {
        pieces_add(w->out, "required:[");
        int rc = write_names(w, field->value);
        pieces_add(w->out, "]");
        return rc;
    }
    pieces_add_user(w->out, field->key);
    pieces_add(w->out, ":");
    if (slice_is(field->key, "type")) {
        return write_items_type(w, field->value);
    }
    plan_value(&p, TASK_VALUE, field->value);
    return push_plan(w, &p);
}

// ------------------------------------------------------------------------------ the stack

// Does one member of the object on top of the stack; takes the object off when none is left.
static int run_members(struct writer *w)
{
    struct task *top = &w->stack[w->n - 1];
    if (!top->has_begun) {
        if (json_kind(top->value) != JSON_OBJECT) {
            return fail(w->err, CARAT_E_FORMAT,
                        "tool '%.*s': properties: expected an object, found %s",
                        (int)(w->tool_name.size < 100 ? w->tool_name.size : 100), w->tool_name.data,
                        json_kind_name(json_kind(top->value)));
        }
        int rc = members_sorted(&top->members, &top->n, top->value, w->err);
        if (rc) {
            return rc;
        }
        top->has_begun = true;
    }
    if (top->i == top->n) {
        mem_free(top->members);
        w->n--;
        return 0;
    }
    const struct member *m = &top->members[top->i++];
    bool drops_keywords = top->drops_keywords || w->style.drops_keyword_names;
    bool is_skipped = top->kind == TASK_PROPERTIES ? drops_keywords && is_keyword(m->key)
                                                   : json_kind(m->value) == JSON_NULL;
    if (is_skipped) {
        return 0;
    }
    pieces_add(w->out, top->has_written ? "," : "");
    top->has_written = true;
    return top->kind == TASK_PROPERTIES ? write_property(w, m) : write_item_field(w, m);
}

static int run_task(struct writer *w)
{
    struct notation notation = {.out = w->out, .quotes_keys = true, .has_null = w->style.has_null};
    struct task task = w->stack[w->n - 1];
    if (task.kind == TASK_PROPERTIES || task.kind == TASK_ITEMS) {
        return run_members(w);
    }
    w->n--;
    switch (task.kind) {
    case TASK_TEXT:
        pieces_add(w->out, task.text);
        return 0;
    case TASK_VALUE:
        return notation_write(&notation, task.value, w->err);
    case TASK_NAMES:
        return write_names(w, task.value);
    default:
        return print(w, task.value, task.kind == TASK_PRINT_UPPER);
    }
}

static int run_plan(struct writer *w, const struct plan *p)
{
    int rc = push_plan(w, p);
    while (!rc && w->n) {
        rc = run_task(w);
    }
    return rc;
}

// ------------------------------------------------------------------------------ one tool

static void plan_parameters(struct plan *p, const struct json_value *parameters)
{
    const struct json_value *properties = value_member(parameters, "properties");
    const struct json_value *required = value_member(parameters, "required");
    const struct json_value *type = value_member(parameters, "type");
    if (!value_is_true(parameters)) {
        return;
    }
    plan_text(p, ",parameters:{");
    if (value_is_true(properties)) {
        plan_text(p, "properties:{");
        plan_properties(p, properties, false);
        plan_text(p, "},");
    }
    if (value_is_true(required)) {
        plan_text(p, "required:[");
        plan_value(p, TASK_NAMES, required);
        plan_text(p, "],");
    }
    if (value_is_true(type)) { // without a type the brace stays open: so it was published
        plan_text(p, "type:" QUOTE_MARKER);
        plan_value(p, TASK_PRINT_UPPER, type);
        plan_text(p, QUOTE_MARKER "}");
    }
}

static void plan_response(struct plan *p, const struct json_value *response)
{
    if (json_kind(response) == JSON_ABSENT) {
        return;
    }
    plan_text(p, ",response:{");
    const struct json_value *description = value_member(response, "description");
    if (value_is_true(description)) {
        plan_text(p, "description:" QUOTE_MARKER);
        plan_value(p, TASK_PRINT, description);
        plan_text(p, QUOTE_MARKER ",");
    }
    if (is_type(response, "OBJECT")) {
        plan_text(p, "type:" QUOTE_MARKER "OBJECT" QUOTE_MARKER "}");
    }
}

static int write_tool(struct writer *w, const struct json_value *tool, size_t index)
{
    struct plan p = {0};
    const struct json_value *function = value_member(tool, "function");
    const struct json_value *name = value_member(function, "name");
    if (json_kind(function) != JSON_OBJECT || json_kind(name) != JSON_STRING) {
        return fail(w->err, CARAT_E_FORMAT,
                    "tools[%zu]: expected {\"type\": \"function\", \"function\": {\"name\": "
                    "\"...\", ...}}, found %s",
                    index,
                    json_kind(tool) != JSON_OBJECT       ? json_kind_name(json_kind(tool))
                    : json_kind(function) != JSON_OBJECT ? "no object \"function\""
                                                         : "no string \"function.name\"");
    }
    w->tool_name = json_string(name);
    plan_text(&p, "<|tool>declaration:");
    plan_value(&p, TASK_PRINT, name);
    plan_text(&p, "{description:" QUOTE_MARKER);
    plan_value(&p, TASK_PRINT, value_member(function, "description"));
    plan_text(&p, QUOTE_MARKER);
    plan_parameters(&p, value_member(function, "parameters"));
    plan_response(&p, value_member(function, "response"));
    plan_text(&p, "}<tool|>");
    return run_plan(w, &p);
}

int tools_write(struct pieces *out, const struct json_value *tools, struct tools_style style,
                struct carat_error *err)
{
    struct writer w = {.out = out, .style = style, .err = err};
    int rc = 0;
    size_t i = 0;
    if (json_kind(tools) == JSON_NULL || json_kind(tools) == JSON_ABSENT) {
        return 0;
    }
    if (json_kind(tools) != JSON_ARRAY) {
        return fail(err, CARAT_E_FORMAT, "tools: expected an array, found %s",
                    json_kind_name(json_kind(tools)));
    }
    for (struct json_iter it = json_iter(tools); !rc && json_next(&it); i++) {
        rc = write_tool(&w, it.value, i);
    }
    while (w.n) {
        w.n--;
        mem_free(w.stack[w.n].members);
    }
    mem_free(w.stack);
    return rc;
}
