// SPDX-License-Identifier: Apache-2.0
// References, combinations and the rules that come of them. A rule is made for each list of schemas
// that a value has to fit; the list is the rule's name, so recursion ends. What a rule needs is put
// into a queue instead of being drawn inside of it.
#include "engine/grammar_schema.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "engine/grammar_schema_parts.h"

// Assertions that are not understood. The rest of what is not understood is annotation.
static const char *const refused[] = {
    "not",         "if",           "dependentSchemas", "dependentRequired", "dependencies",
    "contains",    "minContains",  "maxContains",      "propertyNames",     "unevaluatedItems",
    "$dynamicRef", "$recursiveRef"};
static const char *const assertions[] = {"type",
                                         "enum",
                                         "const",
                                         "properties",
                                         "required",
                                         "items",
                                         "prefixItems",
                                         "additionalProperties",
                                         "minItems",
                                         "maxItems",
                                         "additionalItems",
                                         "patternProperties",
                                         "minLength",
                                         "maxLength",
                                         "pattern",
                                         "format",
                                         "minimum",
                                         "maximum",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum",
                                         "multipleOf",
                                         "anyOf",
                                         "oneOf",
                                         "allOf",
                                         "$ref",
                                         "nullable",
                                         "minProperties",
                                         "maxProperties",
                                         "uniqueItems",
                                         "unevaluatedProperties"};
#define N_REFUSED    (sizeof(refused) / sizeof(refused[0]))
#define N_ASSERTIONS (sizeof(assertions) / sizeof(assertions[0]))

int schema_refuse(struct schema *s, enum carat_status status, const char *path, const char *what)
{
    return fail(s->err, status, "%s: %s: %s", s->options.name, path ? path : "", what);
}

// Limits hold for everybody; what else is wrong is passed over where that was asked for.
static void refuse(struct schema *s, struct drawing *d, enum carat_status status, const char *path,
                   const char *what)
{
    if (d->nfa.rc == 0 && (status == CARAT_E_FULL || !s->options.is_lenient)) {
        d->nfa.rc = schema_refuse(s, status, path, what);
    }
}

const char *schema_path(struct schema *s, const char *path, const char *key, struct slice name)
{
    struct buf b = {.max = 2000};
    buf_adds(&b, path);
    if (key[0]) {
        buf_addf(&b, "/%s", key);
    }
    if (name.data) {
        buf_addc(&b, '/');
        buf_add(&b, name.data, name.size < 200 ? name.size : 200);
    }
    const char *copy = arena_strndup(&s->arena, buf_text(&b), b.size, s->err);
    buf_release(&b);
    return copy;
}

void schema_wrong(struct schema *s, struct drawing *d, enum carat_status status, struct part part,
                  const char *key, const char *what)
{
    if (d->nfa.rc == 0) {
        refuse(s, d, status, schema_path(s, part.path, key, (struct slice){0}), what);
    }
}

void parts_add(struct schema *s, struct drawing *d, struct parts *parts, struct part part)
{
    for (size_t i = 0; i < parts->n; i++) {
        if (parts->items[i].value == part.value) {
            return;
        }
    }
    if (parts->n == PARTS_MAX) {
        refuse(s, d, CARAT_E_FULL, part.path, "more than 64 schemas for one value");
    } else if (!part.path) {
        d->nfa.rc = CARAT_E_MEMORY;
    } else {
        parts->items[parts->n++] = part;
    }
}

static bool is_in(struct slice key, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slice_is(key, names[i])) {
            return true;
        }
    }
    return false;
}

bool schema_is_anything(const struct schema *s, const struct json_value *value)
{
    if (json_kind(value) == JSON_BOOL) {
        return json_bool(value);
    }
    for (struct json_iter it = json_iter(value); json_next(&it);) {
        if (is_in(it.key, assertions, N_ASSERTIONS) ||
            (is_in(it.key, refused, N_REFUSED) && !s->options.is_lenient)) {
            return false;
        }
    }
    return json_kind(value) == JSON_OBJECT;
}

// ------------------------------------------------------------------------------ references

static int hex_digit(char c)
{
    const char low = (char)(c | 32);
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

// One step of a JSON pointer, with %XX of the fragment and ~0, ~1 of the pointer undone.
static void decode_step(struct buf *out, struct slice step)
{
    struct buf bytes = {.max = SCHEMA_SIZE_MAX};
    for (size_t i = 0; i < step.size; i++) {
        const int high = i + 2 < step.size ? hex_digit(step.data[i + 1]) : -1;
        const int low = i + 2 < step.size ? hex_digit(step.data[i + 2]) : -1;
        if (step.data[i] == '%' && high >= 0 && low >= 0) {
            buf_addc(&bytes, (char)(high * 16 + low));
            i += 2;
        } else {
            buf_addc(&bytes, step.data[i]);
        }
    }
    for (size_t i = 0; i < bytes.size; i++) {
        const bool is_tilde = bytes.data[i] == '~' && i + 1 < bytes.size;
        if (is_tilde && (bytes.data[i + 1] == '0' || bytes.data[i + 1] == '1')) {
            buf_addc(out, bytes.data[++i] == '0' ? '~' : '/');
        } else {
            buf_addc(out, bytes.data[i]);
        }
    }
    buf_release(&bytes);
}

static const struct json_value *step_into(const struct json_value *v, struct slice step)
{
    if (json_kind(v) == JSON_OBJECT) {
        return json_getn(v, step);
    }
    size_t index = 0;
    for (size_t i = 0; i < step.size; i++) {
        if (step.data[i] < '0' || step.data[i] > '9' || index > SCHEMA_SIZE_MAX) {
            return NULL;
        }
        index = index * 10 + (size_t)(step.data[i] - '0');
    }
    struct json_iter it = json_iter(v);
    for (size_t i = 0; i <= index && json_next(&it); i++) {
    }
    return json_kind(v) == JSON_ARRAY && step.size > 0 ? it.value : NULL;
}

static const struct json_value *resolve(const struct schema *s, struct slice ref)
{
    const struct json_value *v = s->root;
    if (ref.size == 0 || ref.data[0] != '#' || (ref.size > 1 && ref.data[1] != '/')) {
        return NULL;
    }
    for (size_t i = 1; i < ref.size && v;) {
        size_t end = i + 1;
        while (end < ref.size && ref.data[end] != '/') {
            end++;
        }
        struct buf step = {0};
        decode_step(&step, slice_make(ref.data + i + 1, end - i - 1));
        v = step.has_failed ? NULL : step_into(v, slice_make(buf_text(&step), step.size));
        buf_release(&step);
        i = end;
    }
    return v;
}

// ------------------------------------------------------------------------------ combinations

// A value that has to fit `done` and `todo`, and one option of each of `choices`.
struct combination {
    struct parts todo;
    struct parts done;
    struct parts choices; // values are the lists of anyOf and oneOf
    struct parts taken;   // choices that were made
    unsigned types;
};

static bool has_part(const struct parts *parts, const struct json_value *value)
{
    for (size_t i = 0; i < parts->n; i++) {
        if (parts->items[i].value == value) {
            return true;
        }
    }
    return false;
}

static void add_list(struct schema *s, struct drawing *d, struct parts *parts,
                     const struct json_value *list, const char *path, const char *key)
{
    if (list && json_kind(list) != JSON_ARRAY) {
        refuse(s, d, CARAT_E_FORMAT, path, "expected allOf, anyOf and oneOf to be arrays");
        return;
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(list); d->nfa.rc == 0 && json_next(&it);) {
        char index[24];
        const struct slice name =
            slice_make(index, (size_t)snprintf(index, sizeof(index), "%zu", i++));
        parts_add(s, d, parts,
                  (struct part){.value = it.value, .path = schema_path(s, path, key, name)});
    }
}

static void check_keywords(struct schema *s, struct drawing *d, struct part part)
{
    for (struct json_iter it = json_iter(part.value); json_next(&it);) {
        const bool is_unique = slice_is(it.key, "uniqueItems") && json_bool(it.value);
        if ((is_in(it.key, refused, N_REFUSED) || is_unique) && !s->options.is_lenient) {
            refuse(s, d, CARAT_E_UNSUPPORTED, schema_path(s, part.path, "", it.key),
                   "this keyword is not supported");
        }
    }
}

// Takes one schema out of todo. False when nothing can fit it.
static bool open_part(struct schema *s, struct drawing *d, struct combination *c)
{
    const struct part part = c->todo.items[0]; // in the order in which they are written
    c->todo.n--;
    memmove(c->todo.items, c->todo.items + 1, c->todo.n * sizeof(c->todo.items[0]));
    const enum json_kind kind = json_kind(part.value);
    if (kind != JSON_BOOL && kind != JSON_OBJECT) {
        refuse(s, d, CARAT_E_FORMAT, part.path, "expected a schema: an object, true or false");
        return s->options.is_lenient;
    }
    if (kind == JSON_BOOL && !json_bool(part.value)) {
        return false;
    }
    if (schema_is_anything(s, part.value)) {
        return true;
    }
    if (has_part(&c->done, part.value)) {
        // Inside an option of its own this schema would go in a circle.
        const struct json_value *any = json_get(part.value, "anyOf");
        const struct json_value *one = json_get(part.value, "oneOf");
        return !(any && has_part(&c->taken, any)) && !(one && has_part(&c->taken, one));
    }
    check_keywords(s, d, part);
    parts_add(s, d, &c->done, part);
    const struct json_value *ref = json_get(part.value, "$ref");
    if (ref) {
        const struct slice text = json_string(ref);
        const struct json_value *target = resolve(s, text);
        if (target) {
            const char *path = arena_strndup(&s->arena, text.data, text.size, s->err);
            parts_add(s, d, &c->todo, (struct part){.value = target, .path = path});
        } else {
            refuse(s, d, CARAT_E_UNSUPPORTED, schema_path(s, part.path, "$ref", text),
                   "expected a reference inside this schema, such as #/$defs/name, to something "
                   "that is there");
        }
    }
    add_list(s, d, &c->todo, json_get(part.value, "allOf"), part.path, "allOf");
    static const char *const keys[] = {"anyOf", "oneOf"};
    for (size_t i = 0; i < 2; i++) {
        const struct json_value *list = json_get(part.value, keys[i]);
        if (list && json_kind(list) != JSON_ARRAY) {
            refuse(s, d, CARAT_E_FORMAT, part.path, "expected anyOf and oneOf to be arrays");
        } else if (list) {
            parts_add(s, d, &c->choices,
                      (struct part){.value = list,
                                    .path = schema_path(s, part.path, keys[i], (struct slice){0})});
        }
    }
    return d->nfa.rc == 0;
}

static void draw_fitting(struct schema *s, struct drawing *d, const struct parts *parts,
                         unsigned types, uint32_t from, uint32_t to)
{
    types &= schema_types(s, d, parts);
    if (d->nfa.rc) { // the first failure is the one that is told
        return;
    }
    if (schema_has_literals(parts)) {
        schema_literals(s, d, parts, types, from, to);
        return;
    }
    if (types & TYPE_NULL) {
        nfa_text(&d->nfa, from, "null", 4, to);
    }
    if (types & TYPE_BOOL) {
        nfa_text(&d->nfa, from, "true", 4, to);
        nfa_text(&d->nfa, from, "false", 5, to);
    }
    if (types & TYPE_INTEGER) {
        schema_number(s, d, parts, !(types & TYPE_FRACTION), from, to);
    }
    if ((types & TYPE_STRING) && d->nfa.rc == 0) {
        schema_string(s, d, parts, from, to);
    }
    if ((types & TYPE_ARRAY) && d->nfa.rc == 0) {
        schema_array(s, d, parts, from, to);
    }
    if ((types & TYPE_OBJECT) && d->nfa.rc == 0) {
        schema_object(s, d, parts, from, to);
    }
}

static void draw_any(const struct schema *s, struct drawing *d, uint32_t from, uint32_t to)
{
    const struct call_letter call = {.rule = s->options.is_call ? RULE_CALL_VALUE : RULE_JSON_VALUE,
                                     .max = COUNT_UNLIMITED};
    draw_call(&d->nfa, &d->letters, from, call, to);
}

// Every way to choose is drawn beside the others. As deep as choices lie in choices.
static void draw_combination(struct schema *s, struct drawing *d, struct combination *c,
                             unsigned depth, uint32_t from, uint32_t to)
{
    while (c->todo.n > 0 && d->nfa.rc == 0) {
        if (!open_part(s, d, c)) {
            return;
        }
    }
    if (d->nfa.rc) {
        return;
    }
    if (depth == SCHEMA_DEPTH_MAX || ++s->n_options > SCHEMA_OPTIONS_MAX) {
        refuse(s, d, CARAT_E_FULL, c->done.n ? c->done.items[0].path : "#",
               "too many combinations of anyOf and oneOf");
        return;
    }
    if (c->choices.n == 0) {
        if (c->done.n == 0 && c->types == TYPE_ANY) {
            draw_any(s, d, from, to);
        } else {
            draw_fitting(s, d, &c->done, c->types, from, to);
        }
        return;
    }
    struct parts options = {0};
    const struct part choice = c->choices.items[--c->choices.n];
    parts_add(s, d, &c->taken, choice);
    add_list(s, d, &options, choice.value, choice.path, "");
    struct combination *one = mem_new(sizeof(*one), s->err);
    if (!one) {
        d->nfa.rc = CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < options.n && d->nfa.rc == 0; i++) {
        *one = *c;
        parts_add(s, d, &one->todo, options.items[i]);
        draw_combination(s, d, one, depth + 1, from, to);
    }
    mem_free(one);
}

static void draw_parts(struct schema *s, struct drawing *d, const struct parts *parts,
                       unsigned types, uint32_t from, uint32_t to)
{
    struct combination *c = mem_new(sizeof(*c), s->err);
    if (!c) {
        d->nfa.rc = CARAT_E_MEMORY;
        return;
    }
    c->todo = *parts;
    c->types = types;
    s->n_options = 0;
    draw_combination(s, d, c, 0, from, to);
    mem_free(c);
}

// ------------------------------------------------------------------------------ rules

static int rule_for(struct schema *s, const struct parts *parts, unsigned types, uint32_t *rule)
{
    const struct json_value *values[PARTS_MAX];
    for (size_t i = 0; i < parts->n; i++) {
        values[i] = parts->items[i].value;
    }
    struct slice key = slice_make((const char *)values, parts->n * sizeof(values[0]));
    const uint32_t known = map_get(&s->rules, key);
    if (known != MAP_NONE) {
        *rule = known;
        return 0;
    }
    struct parts *copy = arena_take(&s->arena, sizeof(*copy), s->err);
    key.data = arena_strndup(&s->arena, key.data, key.size, s->err);
    if (!copy || !key.data) {
        return CARAT_E_MEMORY;
    }
    *copy = *parts;
    int rc = program_rule(s->program, rule, s->err);
    void *queue = s->queue;
    rc = rc ? rc
            : list_room(&queue, &s->queue_capacity, s->n_queue, sizeof(*s->queue),
                        GRAMMAR_RULES_MAX, "rules", s->err);
    s->queue = queue;
    if (rc == 0) {
        s->queue[s->n_queue++] =
            (struct pending_rule){.parts = copy, .rule = *rule, .types = types};
        rc = map_put(&s->rules, key, *rule, NULL, s->err);
    }
    return rc;
}

// Simple enough to stand where it is used: literals, and types without bounds.
static bool is_inline(const struct parts *parts, bool is_repeated)
{
    static const char *const outside[] = {
        "anyOf",   "oneOf",      "allOf",           "$ref",
        "pattern", "format",     "minimum",         "exclusiveMinimum",
        "maximum", "multipleOf", "exclusiveMaximum"};
    for (size_t i = 0; i < parts->n; i++) {
        const struct json_value *v = parts->items[i].value;
        for (size_t k = 0; k < sizeof(outside) / sizeof(outside[0]); k++) {
            if (json_get(v, outside[k])) {
                return false;
            }
        }
        const struct slice type = json_string(json_get(v, "type"));
        const bool is_nested =
            type.size == 0 || slice_is(type, "object") || slice_is(type, "array");
        const bool has_literals = json_get(v, "enum") || json_get(v, "const");
        if (has_literals ? is_repeated : is_nested) {
            return false;
        }
    }
    return true;
}

void schema_value(struct schema *s, struct drawing *d, const struct parts *parts, bool is_repeated,
                  uint32_t from, uint32_t to)
{
    struct parts kept = {0};
    for (size_t i = 0; i < parts->n; i++) {
        const struct part part = parts->items[i];
        if (json_kind(part.value) != JSON_OBJECT && json_kind(part.value) != JSON_BOOL) {
            refuse(s, d, CARAT_E_FORMAT, part.path, "expected a schema: an object, true or false");
        }
        if (!schema_is_anything(s, part.value)) {
            kept.items[kept.n++] = part;
        }
    }
    if (d->nfa.rc) {
        return;
    }
    if (kept.n == 0) {
        draw_any(s, d, from, to);
        return;
    }
    if (is_inline(&kept, is_repeated)) {
        for (size_t i = 0; i < kept.n; i++) {
            check_keywords(s, d, kept.items[i]);
        }
        draw_fitting(s, d, &kept, TYPE_ANY, from, to);
        return;
    }
    struct call_letter call = {.max = COUNT_UNLIMITED};
    d->nfa.rc = rule_for(s, &kept, TYPE_ANY, &call.rule);
    if (d->nfa.rc == 0) {
        draw_call(&d->nfa, &d->letters, from, call, to);
    }
}

static int draw_rule(struct schema *s, struct pending_rule pending)
{
    struct drawing d = {.nfa = {.err = s->err}};
    const uint32_t from = nfa_state(&d.nfa);
    const uint32_t to = nfa_state(&d.nfa);
    draw_parts(s, &d, pending.parts, pending.types, from, to);
    int rc = d.nfa.rc;
    if (rc == 0) {
        rc = program_draw(s->program, pending.rule, &d.nfa, from, to, &d.letters, s->err);
    }
    nfa_release(&d.nfa);
    mem_free(d.letters.items);
    return rc;
}

int schema_draw(struct program *program, const struct json_value *schema,
                const struct schema_options *options, uint32_t *rule, struct carat_error *err)
{
    struct schema s = {.program = program, .root = schema, .options = *options, .err = err};
    s.arena.max = (size_t)256 << 20;
    const struct parts root = {.items = {{.value = schema, .path = "#"}}, .n = 1};
    uint32_t first = 0;
    int rc = 0;
    if (options->needs_object || !schema_is_anything(&s, schema)) {
        rc = rule_for(&s, &root, options->needs_object ? TYPE_OBJECT : TYPE_ANY, &first);
    } else {
        first = RULE_JSON_VALUE;
    }
    for (size_t i = 0; i < s.n_queue && rc == 0; i++) {
        rc = draw_rule(&s, s.queue[i]);
    }
    if (rc == 0) {
        *rule = first;
    }
    mem_free(s.queue);
    map_release(&s.rules);
    arena_release(&s.arena);
    return rc;
}
