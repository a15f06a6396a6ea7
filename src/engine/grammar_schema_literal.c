// SPDX-License-Identifier: Apache-2.0
// Values that a schema lists: each that fits its other keywords is drawn as it is written.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/grammar_schema_parts.h"
#include "engine/grammar_text.h"

#define LITERAL_DEPTH_MAX 32u

static const struct json_value *literals_of(const struct json_value *schema, bool *is_const)
{
    const struct json_value *one = json_get(schema, "const");
    *is_const = one != NULL;
    return one ? one : json_get(schema, "enum");
}

bool schema_has_literals(const struct parts *parts)
{
    for (size_t i = 0; i < parts->n; i++) {
        bool is_const = false;
        if (literals_of(parts->items[i].value, &is_const)) {
            return true;
        }
    }
    return false;
}

static bool is_equal(const struct json_value *a, const struct json_value *b)
{
    struct buf x = {0};
    struct buf y = {0};
    json_write(a, &x);
    json_write(b, &y);
    const bool is_same =
        !x.has_failed && !y.has_failed &&
        slice_equal(slice_make(buf_text(&x), x.size), slice_make(buf_text(&y), y.size));
    buf_release(&x);
    buf_release(&y);
    return is_same;
}

static bool is_among(const struct json_value *schema, const struct json_value *literal)
{
    bool is_const = false;
    const struct json_value *list = literals_of(schema, &is_const);
    if (!list || is_const) {
        return !list || is_equal(list, literal);
    }
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        if (is_equal(it.value, literal)) {
            return true;
        }
    }
    return false;
}

static unsigned literal_type(const struct json_value *v)
{
    switch (json_kind(v)) {
    case JSON_NULL:
        return TYPE_NULL;
    case JSON_BOOL:
        return TYPE_BOOL;
    case JSON_NUMBER:
        return json_double(v) == floor(json_double(v)) ? TYPE_INTEGER : TYPE_FRACTION;
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    default:
        return TYPE_OBJECT;
    }
}

// What literals have to pass besides.
struct sieve {
    unsigned types;
    struct dfa strings; // without states: any
    uint32_t min, max;  // characters
    struct dfa numbers;
    bool has_nested; // keywords for arrays and objects
};

static size_t count_characters(struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size; i++) {
        n += ((uint8_t)text.data[i] & 0xC0) != 0x80;
    }
    return n;
}

static bool passes(const struct sieve *sieve, const struct parts *parts, const struct json_value *v)
{
    const struct slice text = json_string(v);
    if (!(literal_type(v) & sieve->types)) {
        return false;
    }
    for (size_t i = 0; i < parts->n; i++) {
        if (!is_among(parts->items[i].value, v)) {
            return false;
        }
    }
    if (json_kind(v) == JSON_STRING) {
        const size_t n = count_characters(text);
        return n >= sieve->min && n <= sieve->max &&
               (sieve->strings.n_states == 0 || dfa_matches(&sieve->strings, text));
    }
    return json_kind(v) != JSON_NUMBER || sieve->numbers.n_states == 0 ||
           dfa_matches(&sieve->numbers, json_number_text(v));
}

static void make_sieve(struct schema *s, struct drawing *d, const struct parts *parts,
                       struct sieve *sieve)
{
    static const char *const nested[] = {"properties", "required",    "additionalProperties",
                                         "items",      "prefixItems", "patternProperties",
                                         "minItems",   "maxItems",    "additionalItems"};
    const struct number_bounds b = schema_number_bounds(s, d, parts, false);
    int rc = schema_string_texts(s, d, parts, &sieve->strings, &sieve->min, &sieve->max);
    if (rc == 0 && schema_is_bounded(&b)) {
        rc = schema_bounded_texts(s, d, &b, parts, &sieve->numbers);
    }
    d->nfa.rc = d->nfa.rc ? d->nfa.rc : rc;
    for (size_t i = 0; i < parts->n; i++) {
        for (size_t k = 0; k < sizeof(nested) / sizeof(nested[0]); k++) {
            sieve->has_nested = sieve->has_nested || json_get(parts->items[i].value, nested[k]);
        }
    }
}

static void draw_literal(struct schema *s, struct drawing *d, const struct json_value *v,
                         struct part part, unsigned depth, uint32_t from, uint32_t to);

// Nested literals have no space; members stand in their order, in calls in the order of the
// notation.
static void draw_nested(struct schema *s, struct drawing *d, const struct json_value *v,
                        struct part part, unsigned depth, uint32_t from, uint32_t to)
{
    const bool is_object = json_kind(v) == JSON_OBJECT;
    const size_t n = json_count(v);
    struct schema_name *members = arena_take(&s->arena, (n + 1) * sizeof(*members), s->err);
    if (!members || d->nfa.rc) {
        d->nfa.rc = d->nfa.rc ? d->nfa.rc : CARAT_E_MEMORY;
        return;
    }
    size_t k = 0;
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        members[k++] = (struct schema_name){.key = it.key, .value = it.value};
    }
    if (is_object && s->options.is_call) {
        schema_sort_names(members, n);
    }
    uint32_t at = nfa_state(&d->nfa);
    draw_char(d, from, is_object ? '{' : '[', at);
    for (size_t i = 0; i < n && d->nfa.rc == 0; i++) {
        const uint32_t next = nfa_state(&d->nfa);
        if (i > 0) {
            const uint32_t behind = nfa_state(&d->nfa);
            draw_separator(s, d, at, ',', behind);
            at = behind;
        }
        if (is_object) {
            const uint32_t colon = nfa_state(&d->nfa);
            const uint32_t value = nfa_state(&d->nfa);
            schema_key(s, d, members[i].key, part.path, at, colon);
            draw_separator(s, d, colon, ':', value);
            at = value;
        }
        draw_literal(s, d, members[i].value, part, depth + 1, at, next);
        at = next;
    }
    draw_char(d, at, is_object ? '}' : ']', to);
}

// As deep as LITERAL_DEPTH_MAX.
static void draw_literal(struct schema *s, struct drawing *d, const struct json_value *v,
                         struct part part, unsigned depth, uint32_t from, uint32_t to)
{
    if (json_kind(v) == JSON_STRING) {
        const uint32_t letter = s->options.is_call ? LETTER_QUOTE : '"';
        const uint32_t opened = nfa_state(&d->nfa);
        nfa_edge(&d->nfa, from, letter, letter, opened);
        // One that holds the marker cannot be said in a call: it is left out.
        draw_text(&d->nfa, json_string(v), s->options.is_call ? TEXT_MARKED : TEXT_JSON, opened,
                  to);
        return;
    }
    if (json_kind(v) == JSON_ARRAY || json_kind(v) == JSON_OBJECT) {
        if (depth == LITERAL_DEPTH_MAX) {
            schema_wrong(s, d, CARAT_E_FULL, part, "enum", "values are nested too deeply");
            return;
        }
        draw_nested(s, d, v, part, depth, from, to);
        return;
    }
    struct buf text = {0};
    json_write(v, &text);
    if (text.has_failed) {
        d->nfa.rc = CARAT_E_MEMORY;
    }
    nfa_text(&d->nfa, from, buf_text(&text), text.size, to);
    buf_release(&text);
}

void schema_literals(struct schema *s, struct drawing *d, const struct parts *parts, unsigned types,
                     uint32_t from, uint32_t to)
{
    struct sieve sieve = {.types = types};
    struct part part = parts->items[0];
    bool is_const = false;
    const struct json_value *list = NULL;
    for (size_t i = 0; i < parts->n && !list; i++) {
        part = parts->items[i];
        list = literals_of(part.value, &is_const);
    }
    if (!is_const && json_kind(list) != JSON_ARRAY) {
        schema_wrong(s, d, CARAT_E_FORMAT, part, "enum", "expected an array");
    }
    make_sieve(s, d, parts, &sieve);
    struct json_iter it = is_const ? (struct json_iter){.value = list} : json_iter(list);
    for (bool has_one = is_const || json_next(&it); has_one && d->nfa.rc == 0;
         has_one = json_next(&it)) {
        const bool is_nested = literal_type(it.value) & (TYPE_ARRAY | TYPE_OBJECT);
        if (is_nested && sieve.has_nested && !s->options.is_lenient) {
            schema_wrong(s, d, CARAT_E_UNSUPPORTED, part, is_const ? "const" : "enum",
                         "arrays and objects beside keywords about their inside");
        } else if (passes(&sieve, parts, it.value)) {
            draw_literal(s, d, it.value, part, 0, from, to);
        }
    }
    dfa_release(&sieve.strings);
    dfa_release(&sieve.numbers);
}
