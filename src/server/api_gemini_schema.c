// SPDX-License-Identifier: Apache-2.0
// Schemas as the Gemini API writes them, after OpenAPI 3.0, to JSON Schema: types in capitals,
// "nullable" beside the type, whole numbers as strings, names in snake_case too. What is written as
// JSON Schema already stays as it is. One pass with a stack of its own.
#include "server/api_gemini.h"

#include <string.h>

#include "base/error.h"

#define DEPTH_MAX 128

enum frame_kind {
    FRAME_SCHEMA, // members are keywords
    FRAME_MAP,    // members are schemas by name
    FRAME_LIST,   // elements are schemas
};

struct frame {
    struct json_iter it;
    enum frame_kind kind;
    const struct json_value *schema; // of FRAME_SCHEMA
    bool is_nullable;
    bool adds_null; // of FRAME_LIST: null is one of the choices
    bool has_member;
};

struct converter {
    struct frame stack[DEPTH_MAX];
    size_t depth;
    struct buf out;
    struct carat_error *err;
};

static void add_type(struct buf *out, struct slice type)
{
    char lower[32];
    size_t n = type.size < sizeof(lower) ? type.size : sizeof(lower);
    for (size_t i = 0; i < n; i++) {
        char c = type.data[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    buf_add_json(out, lower, n);
}

static void add_comma(struct converter *c, struct frame *f)
{
    buf_adds(&c->out, f->has_member ? "," : "");
    f->has_member = true;
}

static void add_key(struct converter *c, struct frame *f, const char *key)
{
    add_comma(c, f);
    buf_addf(&c->out, "\"%s\":", key);
}

// The keyword that all the others depend on comes first.
static void write_type(struct converter *c, struct frame *f)
{
    const struct json_value *type = json_get(f->schema, "type");
    struct slice text = json_string(type);
    if (json_kind(type) == JSON_ARRAY) {
        add_key(c, f, "type");
        size_t i = 0;
        buf_adds(&c->out, "[");
        for (struct json_iter it = json_iter(type); json_next(&it); i++) {
            buf_adds(&c->out, i ? "," : "");
            add_type(&c->out, json_string(it.value));
        }
        buf_adds(&c->out, "]");
    } else if (text.size && !slice_is(text, "TYPE_UNSPECIFIED")) {
        add_key(c, f, "type");
        buf_adds(&c->out, f->is_nullable ? "[" : "");
        add_type(&c->out, text);
        buf_adds(&c->out, f->is_nullable ? ",\"null\"]" : "");
    }
}

static int push(struct converter *c, const struct json_value *v, enum frame_kind kind)
{
    if (c->depth == DEPTH_MAX) {
        return fail(c->err, CARAT_E_ARGUMENT, "schema: nested deeper than %d levels", DEPTH_MAX);
    }
    struct frame *f = &c->stack[c->depth++];
    *f = (struct frame){.it = json_iter(v), .kind = kind};
    buf_adds(&c->out, kind == FRAME_LIST ? "[" : "{");
    if (kind == FRAME_SCHEMA) {
        f->schema = v;
        f->is_nullable = json_bool(json_get(v, "nullable"));
        write_type(c, f);
    }
    return 0;
}

// A schema where one may stand; true and false are schemas, too.
static int push_schema(struct converter *c, const struct json_value *v)
{
    if (json_kind(v) == JSON_OBJECT) {
        return push(c, v, FRAME_SCHEMA);
    }
    json_write(v, &c->out);
    return 0;
}

static bool is_number(struct slice text)
{
    bool has_digit = false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        has_digit = has_digit || (c >= '0' && c <= '9');
        if (!(c >= '0' && c <= '9') && !(c == '-' && i == 0) && c != '.') {
            return false;
        }
    }
    return has_digit && text.size < 32;
}

// Numbers of 64 bits come as strings, and so do the choices of an enumeration of numbers.
static void write_value(struct converter *c, const struct json_value *v, bool is_count)
{
    struct slice text = json_string(v);
    if (is_count && is_number(text)) {
        buf_add_slice(&c->out, text);
    } else {
        json_write(v, &c->out);
    }
}

static void write_enum(struct converter *c, const struct frame *f, const struct json_value *list)
{
    struct slice type = json_string(json_get(f->schema, "type"));
    bool has_numbers = slice_is(type, "INTEGER") || slice_is(type, "NUMBER");
    size_t i = 0;
    buf_adds(&c->out, "[");
    for (struct json_iter it = json_iter(list); json_next(&it); i++) {
        buf_adds(&c->out, i ? "," : "");
        write_value(c, it.value, has_numbers);
    }
    buf_adds(&c->out, f->is_nullable ? (i ? ",null]" : "null]") : "]");
}

// "#/defs/..." as "#/$defs/...".
static void write_ref(struct converter *c, const struct json_value *v)
{
    struct slice text = json_string(v);
    const char *prefix = "#/defs/";
    if (slice_starts(text, prefix)) {
        struct buf path = {0};
        buf_adds(&path, "#/$defs/");
        buf_add(&path, text.data + strlen(prefix), text.size - strlen(prefix));
        buf_add_json(&c->out, buf_text(&path), path.size);
        buf_release(&path);
    } else {
        json_write(v, &c->out);
    }
}

enum keyword_kind {
    KEYWORD_DROPPED,
    KEYWORD_COUNT,
    KEYWORD_SCHEMA,
    KEYWORD_MAP,
    KEYWORD_LIST,
    KEYWORD_ENUM,
    KEYWORD_REF,
    KEYWORD_FORMAT,
};
struct keyword {
    const char *name;
    const char *written; // in JSON Schema; NULL: the same
    enum keyword_kind kind;
};

static const struct keyword *find_keyword(struct slice key)
{
    static const struct keyword keywords[] = {
        {"type", NULL, KEYWORD_DROPPED}, // write_type
        {"nullable", NULL, KEYWORD_DROPPED},
        {"example", NULL, KEYWORD_DROPPED},
        {"propertyOrdering", NULL, KEYWORD_DROPPED},
        {"property_ordering", NULL, KEYWORD_DROPPED},
        {"minItems", NULL, KEYWORD_COUNT},
        {"min_items", "minItems", KEYWORD_COUNT},
        {"maxItems", NULL, KEYWORD_COUNT},
        {"max_items", "maxItems", KEYWORD_COUNT},
        {"minLength", NULL, KEYWORD_COUNT},
        {"min_length", "minLength", KEYWORD_COUNT},
        {"maxLength", NULL, KEYWORD_COUNT},
        {"max_length", "maxLength", KEYWORD_COUNT},
        {"minProperties", NULL, KEYWORD_COUNT},
        {"min_properties", "minProperties", KEYWORD_COUNT},
        {"maxProperties", NULL, KEYWORD_COUNT},
        {"max_properties", "maxProperties", KEYWORD_COUNT},
        {"minimum", NULL, KEYWORD_COUNT},
        {"maximum", NULL, KEYWORD_COUNT},
        {"items", NULL, KEYWORD_SCHEMA},
        {"additionalProperties", NULL, KEYWORD_SCHEMA},
        {"additional_properties", "additionalProperties", KEYWORD_SCHEMA},
        {"not", NULL, KEYWORD_SCHEMA},
        {"properties", NULL, KEYWORD_MAP},
        {"$defs", NULL, KEYWORD_MAP},
        {"defs", "$defs", KEYWORD_MAP},
        {"definitions", NULL, KEYWORD_MAP},
        {"patternProperties", NULL, KEYWORD_MAP},
        {"anyOf", NULL, KEYWORD_LIST},
        {"any_of", "anyOf", KEYWORD_LIST},
        {"oneOf", NULL, KEYWORD_LIST},
        {"allOf", NULL, KEYWORD_LIST},
        {"prefixItems", NULL, KEYWORD_LIST},
        {"prefix_items", "prefixItems", KEYWORD_LIST},
        {"enum", NULL, KEYWORD_ENUM},
        {"ref", "$ref", KEYWORD_REF},
        {"$ref", NULL, KEYWORD_REF},
        {"format", NULL, KEYWORD_FORMAT},
    };
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (slice_is(key, keywords[i].name)) {
            return &keywords[i];
        }
    }
    return NULL;
}

// These say how a number is stored, or that there is an enum: nothing about the text.
static bool is_storage_format(struct slice format)
{
    static const char *const formats[] = {"float", "double", "int32", "int64", "enum"};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (slice_is(format, formats[i])) {
            return true;
        }
    }
    return false;
}

static int write_keyword(struct converter *c, struct frame *f, const struct keyword *k)
{
    const struct json_value *v = f->it.value;
    if (k->kind == KEYWORD_DROPPED ||
        (k->kind == KEYWORD_FORMAT && is_storage_format(json_string(v)))) {
        return 0;
    }
    add_key(c, f, k->written ? k->written : k->name);
    bool has_kids = json_kind(v) == JSON_OBJECT || json_kind(v) == JSON_ARRAY;
    switch (k->kind) {
    case KEYWORD_SCHEMA:
        return push_schema(c, v);
    case KEYWORD_MAP:
        return json_kind(v) == JSON_OBJECT ? push(c, v, FRAME_MAP) : push_schema(c, v);
    case KEYWORD_LIST: {
        bool has_type = json_get(f->schema, "type") != NULL;
        bool adds_null = f->is_nullable && !has_type && strcmp(k->name, "allOf") != 0;
        int rc = has_kids ? push(c, v, FRAME_LIST) : push_schema(c, v);
        c->stack[c->depth - 1].adds_null = !rc && has_kids && adds_null;
        return rc;
    }
    case KEYWORD_ENUM:
        write_enum(c, f, v);
        return 0;
    case KEYWORD_REF:
        write_ref(c, v);
        return 0;
    default:
        write_value(c, v, k->kind == KEYWORD_COUNT);
        return 0;
    }
}

static int write_member(struct converter *c, struct frame *f)
{
    const struct keyword *k = f->kind == FRAME_SCHEMA ? find_keyword(f->it.key) : NULL;
    if (k) {
        return write_keyword(c, f, k);
    }
    add_comma(c, f);
    if (f->kind != FRAME_LIST) {
        buf_add_json(&c->out, f->it.key.data, f->it.key.size);
        buf_adds(&c->out, ":");
    }
    if (f->kind != FRAME_SCHEMA) {
        return push_schema(c, f->it.value);
    }
    json_write(f->it.value, &c->out);
    return 0;
}

static void pop(struct converter *c)
{
    struct frame *f = &c->stack[--c->depth];
    if (f->adds_null) {
        add_comma(c, f);
        buf_adds(&c->out, "{\"type\":\"null\"}");
    }
    buf_adds(&c->out, f->kind == FRAME_LIST ? "]" : "}");
}

int gemini_schema(const struct json_value *schema, struct json_doc **out, struct carat_error *err)
{
    if (json_kind(schema) != JSON_OBJECT) {
        return fail(err, CARAT_E_ARGUMENT, "schema: expected an object, found %s",
                    json_kind_name(json_kind(schema)));
    }
    struct converter *c = mem_new(sizeof(*c), err);
    if (!c) {
        return CARAT_E_MEMORY;
    }
    c->err = err;
    int rc = push(c, schema, FRAME_SCHEMA);
    while (!rc && c->depth) {
        struct frame *f = &c->stack[c->depth - 1];
        if (json_next(&f->it)) {
            rc = write_member(c, f);
        } else {
            pop(c);
        }
    }
    rc = rc ? rc : buf_status(&c->out, err);
    rc = rc ? rc : json_parse(out, buf_text(&c->out), c->out.size, "schema", err);
    buf_release(&c->out);
    mem_free(c);
    return rc;
}
