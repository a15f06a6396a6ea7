// SPDX-License-Identifier: Apache-2.0
// Arrays and objects of a schema.
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/grammar_regex.h"
#include "engine/grammar_schema_parts.h"
#include "engine/grammar_text.h"

// ------------------------------------------------------------------------------ arrays

// prefixItems; before draft 2020-12 it was called items.
static const struct json_value *first_items(const struct json_value *schema)
{
    const struct json_value *items = json_get(schema, "items");
    return json_kind(items) == JSON_ARRAY ? items : json_get(schema, "prefixItems");
}

static const struct json_value *other_items(const struct json_value *schema)
{
    const struct json_value *items = json_get(schema, "items");
    return json_kind(items) == JSON_ARRAY ? json_get(schema, "additionalItems") : items;
}

// What item i has to fit. Items behind all that are named alone are alike.
static void item_parts(struct schema *s, struct drawing *d, const struct parts *parts, size_t i,
                       struct parts *out)
{
    out->n = 0;
    for (size_t k = 0; k < parts->n; k++) {
        const struct part part = parts->items[k];
        const struct json_value *list = first_items(part.value);
        const struct json_value *value = NULL;
        if (i < json_count(list)) {
            struct json_iter it = json_iter(list);
            for (size_t n = 0; n <= i && json_next(&it); n++) {
            }
            value = it.value;
        } else {
            value = other_items(part.value);
        }
        if (value) {
            parts_add(s, d, out,
                      (struct part){.value = value,
                                    .path = schema_path(s, part.path, "items", (struct slice){0})});
        }
    }
}

struct array_bounds {
    uint32_t min, max; // COUNT_UNLIMITED
    size_t n_first;    // items that are named alone
};

static struct array_bounds array_bounds(struct schema *s, struct drawing *d,
                                        const struct parts *parts)
{
    struct array_bounds b = {.max = COUNT_UNLIMITED};
    for (size_t i = 0; i < parts->n; i++) {
        const struct part part = parts->items[i];
        uint32_t n = 0;
        const size_t n_first = json_count(first_items(part.value));
        b.n_first = n_first > b.n_first ? n_first : b.n_first;
        if (schema_count(s, d, part, "minItems", &n) && n > b.min) {
            b.min = n;
        }
        if (schema_count(s, d, part, "maxItems", &n) && n < b.max) {
            b.max = n;
        }
        const bool is_large = b.min > SCHEMA_ITEMS_MAX || b.n_first > SCHEMA_ITEMS_MAX ||
                              (b.max != COUNT_UNLIMITED && b.max > SCHEMA_ITEMS_MAX);
        if (is_large && s->options.is_lenient) { // then they are not counted
            return (struct array_bounds){.max = COUNT_UNLIMITED};
        }
        if (is_large) {
            schema_wrong(s, d, CARAT_E_FULL, part, "items", "more than 4096 items to count");
        }
    }
    return b;
}

void schema_array(struct schema *s, struct drawing *d, const struct parts *parts, uint32_t from,
                  uint32_t to)
{
    const struct array_bounds b = array_bounds(s, d, parts);
    struct parts *item = mem_new(sizeof(*item), s->err);
    if (!item) {
        d->nfa.rc = CARAT_E_MEMORY;
        return;
    }
    size_t n = b.n_first > b.min ? b.n_first : b.min; // drawn one by one
    if (b.max != COUNT_UNLIMITED) {
        n = b.max;
    }
    uint32_t at = nfa_state(&d->nfa);
    draw_char(d, from, '[', at);
    for (size_t i = 0; i <= n && d->nfa.rc == 0; i++) {
        const bool is_loop = i == n;
        if (i >= b.min) {
            draw_char(d, at, ']', to);
        }
        if (is_loop && b.max != COUNT_UNLIMITED) {
            break;
        }
        const uint32_t begin = nfa_state(&d->nfa);
        if (i > 0) {
            draw_separator(s, d, at, ',', begin);
        } else {
            nfa_empty(&d->nfa, at, begin);
        }
        const uint32_t behind = nfa_state(&d->nfa);
        item_parts(s, d, parts, i, item);
        schema_value(s, d, item, n > 8, begin, behind);
        if (is_loop) { // and so on
            draw_separator(s, d, behind, ',', begin);
            draw_char(d, behind, ']', to);
        }
        at = behind;
    }
    mem_free(item);
}

// ------------------------------------------------------------------------------ names

static uint8_t fold(char c)
{
    return (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static int by_name(const void *x, const void *y)
{
    const struct slice a = ((const struct schema_name *)x)->key;
    const struct slice b = ((const struct schema_name *)y)->key;
    for (size_t i = 0; i < a.size && i < b.size; i++) {
        const int order = (int)fold(a.data[i]) - (int)fold(b.data[i]);
        if (order) {
            return order;
        }
    }
    if (a.size != b.size) {
        return a.size < b.size ? -1 : 1;
    }
    return a.size ? memcmp(a.data, b.data, a.size) : 0;
}

void schema_sort_names(struct schema_name *names, size_t n)
{
    if (n > 1) {
        qsort(names, n, sizeof(*names), by_name);
    }
}

// Whether a reader of calls takes the name as it is.
static bool is_bare(struct slice key)
{
    for (size_t i = 0; i < key.size; i++) {
        if ((uint8_t)key.data[i] < ' ' || memchr(":,{}[]\"<", key.data[i], 8)) {
            return false;
        }
    }
    return key.size > 0 && key.data[0] != ' ' && key.data[key.size - 1] != ' ';
}

void schema_key(struct schema *s, struct drawing *d, struct slice key, const char *path,
                uint32_t from, uint32_t to)
{
    bool is_drawn = true;
    if (s->options.is_call && is_bare(key)) {
        is_drawn = draw_text(&d->nfa, key, TEXT_BARE, from, to);
    } else {
        const uint32_t letter = s->options.is_call ? LETTER_QUOTE : '"';
        const uint32_t opened = nfa_state(&d->nfa);
        nfa_edge(&d->nfa, from, letter, letter, opened);
        is_drawn =
            (key.size > 0 || !s->options.is_call) &&
            draw_text(&d->nfa, key, s->options.is_call ? TEXT_MARKED : TEXT_JSON, opened, to);
    }
    if (!is_drawn && d->nfa.rc == 0) {
        d->nfa.rc = schema_refuse(s, CARAT_E_UNSUPPORTED, path,
                                  "a name that is empty or holds the marker of strings");
    }
}

// ------------------------------------------------------------------------------ objects

struct pattern {
    struct part schema; // of the values
    size_t i_part;      // whose patternProperties it is among
    struct dfa keys;
};

struct object {
    const struct parts *parts;
    struct schema_name *names;
    size_t n;
    size_t capacity;
    struct map by_name;
    struct pattern patterns[SCHEMA_PATTERNS_MAX];
    size_t n_patterns;
    struct parts value; // scratch
};

static void add_name(struct schema *s, struct drawing *d, struct object *o, struct slice key,
                     bool is_required)
{
    const uint32_t known = map_get(&o->by_name, key);
    if (known != MAP_NONE) {
        o->names[known].is_required = o->names[known].is_required || is_required;
        return;
    }
    void *names = o->names;
    int rc = list_room(&names, &o->capacity, o->n, sizeof(*o->names), (size_t)1 << 16, "properties",
                       s->err);
    o->names = names;
    rc = rc ? rc : map_put(&o->by_name, key, (uint32_t)o->n, NULL, s->err);
    if (rc == 0) {
        o->names[o->n++] = (struct schema_name){.key = key, .is_required = is_required};
    } else {
        d->nfa.rc = d->nfa.rc ? d->nfa.rc : rc;
    }
}

static void collect_names(struct schema *s, struct drawing *d, struct object *o)
{
    for (size_t i = 0; i < o->parts->n; i++) {
        const struct part part = o->parts->items[i];
        const struct json_value *properties = json_get(part.value, "properties");
        if (properties && json_kind(properties) != JSON_OBJECT) {
            schema_wrong(s, d, CARAT_E_FORMAT, part, "properties", "expected an object");
        }
        for (struct json_iter it = json_iter(properties); d->nfa.rc == 0 && json_next(&it);) {
            add_name(s, d, o, it.key, false);
        }
    }
    for (size_t i = 0; i < o->parts->n; i++) {
        const struct part part = o->parts->items[i];
        const struct json_value *required = json_get(part.value, "required");
        // In draft 3 a property said so itself, with a boolean; such are passed over.
        for (struct json_iter it = json_iter(required); d->nfa.rc == 0 && json_next(&it);) {
            if (json_kind(it.value) == JSON_STRING) {
                add_name(s, d, o, json_string(it.value), true);
            }
        }
    }
}

static void collect_patterns(struct schema *s, struct drawing *d, struct object *o)
{
    for (size_t i = 0; i < o->parts->n; i++) {
        const struct part part = o->parts->items[i];
        const struct json_value *list = json_get(part.value, "patternProperties");
        for (struct json_iter it = json_iter(list); d->nfa.rc == 0 && json_next(&it);) {
            if (o->n_patterns == SCHEMA_PATTERNS_MAX || it.key.size > REGEX_SIZE_MAX) {
                schema_wrong(s, d, CARAT_E_UNSUPPORTED, part, "patternProperties",
                             "more than 4 patterns, or one of more than 4096 bytes");
                return;
            }
            const char *path = schema_path(s, part.path, "patternProperties", it.key);
            struct pattern *p = &o->patterns[o->n_patterns];
            *p = (struct pattern){.schema = {.value = it.value, .path = path}, .i_part = i};
            const int rc =
                path ? regex_compile(&p->keys, it.key, true, path, s->err) : CARAT_E_MEMORY;
            if (rc == CARAT_E_MEMORY || !s->options.is_lenient) {
                d->nfa.rc = rc;
            }
            if (rc == 0) {
                o->n_patterns++;
            }
        }
    }
}

static bool speaks_of_names(const struct json_value *schema)
{
    return json_get(schema, "properties") || json_get(schema, "patternProperties");
}

// What a value has to fit under a name that part i does not speak of: adds to o->value. False when
// there may be none. Objects that name properties have no others unless the schema says so, because
// a model that may go on inventing does.
static bool add_additional(struct schema *s, struct drawing *d, struct object *o, size_t i,
                           bool is_named)
{
    const struct part part = o->parts->items[i];
    const struct json_value *additional = json_get(part.value, "additionalProperties");
    const struct json_value *unevaluated = json_get(part.value, "unevaluatedProperties");
    if (!additional) {
        const bool is_closed =
            (unevaluated && json_kind(unevaluated) == JSON_BOOL && !json_bool(unevaluated)) ||
            speaks_of_names(part.value);
        return is_named || !is_closed;
    }
    if (json_kind(additional) == JSON_BOOL && !json_bool(additional)) {
        return false;
    }
    parts_add(s, d, &o->value,
              (struct part){
                  .value = additional,
                  .path = schema_path(s, part.path, "additionalProperties", (struct slice){0})});
    return true;
}

// False when no value may stand under this name.
static bool name_parts(struct schema *s, struct drawing *d, struct object *o, struct slice key)
{
    bool may_be = true;
    o->value.n = 0;
    for (size_t i = 0; i < o->parts->n && may_be; i++) {
        const struct part part = o->parts->items[i];
        const struct json_value *own = json_getn(json_get(part.value, "properties"), key);
        bool is_spoken_of = own != NULL;
        if (own) {
            parts_add(
                s, d, &o->value,
                (struct part){.value = own, .path = schema_path(s, part.path, "properties", key)});
        }
        for (size_t k = 0; k < o->n_patterns; k++) {
            if (o->patterns[k].i_part == i && dfa_matches(&o->patterns[k].keys, key)) {
                is_spoken_of = true;
                parts_add(s, d, &o->value, o->patterns[k].schema);
            }
        }
        may_be = is_spoken_of || add_additional(s, d, o, i, true);
    }
    return may_be;
}

// Keys that match exactly the patterns in the set, and are none of the names.
static int other_keys(struct schema *s, const struct object *o, unsigned set, struct dfa *out)
{
    struct dfa keys = {0};
    struct dfa names = {0};
    struct nfa nfa = {.err = s->err};
    int rc = text_any(&keys, s->err);
    for (size_t i = 0; i < o->n_patterns && rc == 0; i++) {
        struct dfa narrower = {0};
        rc = dfa_product(&narrower, &keys, &o->patterns[i].keys, !(set >> i & 1), s->err);
        if (rc == 0) {
            dfa_release(&keys);
            keys = narrower;
        }
    }
    const uint32_t start = nfa_state(&nfa);
    const uint32_t end = nfa_state(&nfa);
    for (size_t i = 0; i < o->n && rc == 0 && nfa.rc == 0; i++) {
        const struct slice key = o->names[i].key;
        uint32_t at = start;
        for (size_t k = 0; k < key.size && nfa.rc == 0;) {
            uint32_t c = 0xFFFD;
            const int length = utf8_next(key.data + k, key.size - k, &c);
            const uint32_t next = nfa_state(&nfa);
            nfa_edge(&nfa, at, c, c, next);
            at = next;
            k += length > 0 ? (size_t)length : 1;
        }
        nfa_empty(&nfa, at, end);
    }
    if (rc == 0 && o->n == 0) {
        *out = keys;
        keys = (struct dfa){0};
    } else if (rc == 0) {
        rc = nfa_determine(&names, &nfa, start, end, DFA_STATES_MAX, s->err);
        rc = rc ? rc : dfa_product(out, &keys, &names, true, s->err);
    }
    dfa_release(&keys);
    dfa_release(&names);
    nfa_release(&nfa);
    return rc;
}

// In calls, other keys are plain names.
static int bare_keys(struct schema *s, struct dfa *keys)
{
    struct dfa plain = {0};
    struct dfa both = {0};
    int rc = regex_compile(&plain, slice_of("[A-Za-z0-9_$@/.\\-\\u00A1-\\u1FFF\\u2C00-\\uD7FF]+"),
                           false, "key", s->err);
    rc = rc ? rc : dfa_product(&both, keys, &plain, false, s->err);
    dfa_release(&plain);
    if (rc == 0) {
        dfa_release(keys);
        *keys = both;
    }
    return rc;
}

// A key that is none of the names, and its value.
static void draw_other(struct schema *s, struct drawing *d, struct object *o, unsigned set,
                       uint32_t from, uint32_t to)
{
    const bool is_call = s->options.is_call;
    bool may_be = true;
    o->value.n = 0;
    for (size_t i = 0; i < o->parts->n && may_be; i++) {
        bool is_spoken_of = false;
        for (size_t k = 0; k < o->n_patterns; k++) {
            if (o->patterns[k].i_part == i && (set >> k & 1)) {
                is_spoken_of = true;
                parts_add(s, d, &o->value, o->patterns[k].schema);
            }
        }
        may_be = is_spoken_of || add_additional(s, d, o, i, false);
    }
    if (!may_be || d->nfa.rc) {
        return;
    }
    if (is_call && o->n == 0 && o->n_patterns == 0) { // any key: shared by all grammars
        const struct call_letter call = {.rule = RULE_CALL_KEY, .max = COUNT_UNLIMITED};
        const uint32_t behind = nfa_state(&d->nfa);
        draw_call(&d->nfa, &d->letters, from, call, behind);
        schema_value(s, d, &o->value, true, behind, to);
        return;
    }
    struct dfa keys = {0};
    int rc = other_keys(s, o, set, &keys);
    if (rc == 0 && is_call) {
        rc = bare_keys(s, &keys);
    }
    d->nfa.rc = rc;
    const uint32_t colon = nfa_state(&d->nfa);
    const uint32_t value = nfa_state(&d->nfa);
    if (rc == 0 && is_call) {
        draw_texts(&d->nfa, &d->letters, &keys, TEXT_BARE, from, colon);
    } else if (rc == 0) {
        const uint32_t opened = nfa_state(&d->nfa);
        draw_char(d, from, '"', opened);
        draw_texts(&d->nfa, &d->letters, &keys, TEXT_JSON, opened, colon);
    }
    draw_separator(s, d, colon, ':', value);
    schema_value(s, d, &o->value, true, value, to);
    dfa_release(&keys);
}

static void check_counts(struct schema *s, struct drawing *d, const struct object *o)
{
    size_t n_required = 0;
    for (size_t i = 0; i < o->n; i++) {
        n_required += o->names[i].is_required;
    }
    for (size_t i = 0; i < o->parts->n && !s->options.is_lenient; i++) {
        const struct part part = o->parts->items[i];
        uint32_t n = 0;
        if (schema_count(s, d, part, "minProperties", &n) && n > n_required) {
            schema_wrong(s, d, CARAT_E_UNSUPPORTED, part, "minProperties",
                         "more than there are required ones is not supported");
        }
        if (schema_count(s, d, part, "maxProperties", &n) && n < o->n) {
            schema_wrong(s, d, CARAT_E_UNSUPPORTED, part, "maxProperties",
                         "fewer than there are properties is not supported");
        }
        if (json_get(part.value, "maxProperties") && json_get(part.value, "additionalProperties") &&
            json_kind(json_get(part.value, "additionalProperties")) != JSON_BOOL) {
            schema_wrong(s, d, CARAT_E_UNSUPPORTED, part, "maxProperties",
                         "beside additional properties it is not supported");
        }
    }
}

// Two tracks run side by side: `none` while no member has come, `some` afterwards, when a comma has
// to come first.
static void draw_members(struct schema *s, struct drawing *d, struct object *o, uint32_t from,
                         uint32_t to)
{
    uint32_t none = nfa_state(&d->nfa);
    uint32_t some = nfa_state(&d->nfa);
    draw_char(d, from, '{', none);
    for (size_t i = 0; i < o->n && d->nfa.rc == 0; i++) {
        const struct schema_name name = o->names[i];
        const uint32_t key = nfa_state(&d->nfa);
        const uint32_t colon = nfa_state(&d->nfa);
        const uint32_t value = nfa_state(&d->nfa);
        const uint32_t next_none = nfa_state(&d->nfa);
        const uint32_t next_some = nfa_state(&d->nfa);
        if (name_parts(s, d, o, name.key)) {
            nfa_empty(&d->nfa, none, key);
            draw_separator(s, d, some, ',', key);
            schema_key(s, d, name.key, o->parts->items[0].path, key, colon);
            draw_separator(s, d, colon, ':', value);
            schema_value(s, d, &o->value, false, value, next_some);
        }
        if (!name.is_required) {
            nfa_empty(&d->nfa, none, next_none);
            nfa_empty(&d->nfa, some, next_some);
        }
        none = next_none;
        some = next_some;
    }
    const uint32_t other = nfa_state(&d->nfa);
    nfa_empty(&d->nfa, none, other);
    draw_separator(s, d, some, ',', other);
    for (unsigned set = 0; set < 1u << o->n_patterns && d->nfa.rc == 0; set++) {
        draw_other(s, d, o, set, other, some);
    }
    draw_char(d, none, '}', to);
    draw_char(d, some, '}', to);
}

void schema_object(struct schema *s, struct drawing *d, const struct parts *parts, uint32_t from,
                   uint32_t to)
{
    struct object *o = mem_new(sizeof(*o), s->err);
    if (!o) {
        d->nfa.rc = CARAT_E_MEMORY;
        return;
    }
    o->parts = parts;
    collect_names(s, d, o);
    collect_patterns(s, d, o);
    if (s->options.is_call) {
        schema_sort_names(o->names, o->n);
    }
    check_counts(s, d, o);
    if (d->nfa.rc == 0) {
        draw_members(s, d, o, from, to);
    }
    for (size_t i = 0; i < o->n_patterns; i++) {
        dfa_release(&o->patterns[i].keys);
    }
    map_release(&o->by_name);
    mem_free(o->names);
    mem_free(o);
}
