// SPDX-License-Identifier: Apache-2.0
// Types, strings and numbers of a schema.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/grammar_number.h"
#include "engine/grammar_regex.h"
#include "engine/grammar_schema_parts.h"
#include "engine/grammar_text.h"

#define BOUNDED_STATES_MAX 8192u // of a string that has a pattern and a length

// ------------------------------------------------------------------------------ types

// Case does not count: some clients write the types in capitals.
static unsigned type_named(struct slice name)
{
    static const struct {
        const char *name;
        unsigned type;
    } types[] = {{"null", TYPE_NULL},       {"boolean", TYPE_BOOL},
                 {"integer", TYPE_INTEGER}, {"number", TYPE_INTEGER | TYPE_FRACTION},
                 {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
                 {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        bool is_same = name.size == strlen(types[i].name);
        for (size_t k = 0; is_same && k < name.size; k++) {
            is_same = (name.data[k] | 32) == types[i].name[k];
        }
        if (is_same) {
            return types[i].type;
        }
    }
    return 0;
}

static unsigned types_of(struct schema *s, struct drawing *d, struct part part)
{
    const struct json_value *type = json_get(part.value, "type");
    unsigned types = 0;
    if (!type) {
        return TYPE_ANY;
    }
    if (json_kind(type) == JSON_ARRAY) {
        for (struct json_iter it = json_iter(type); json_next(&it);) {
            const unsigned one = type_named(json_string(it.value));
            if (!one) {
                schema_wrong(s, d, CARAT_E_FORMAT, part, "type", "expected names of JSON types");
            }
            types |= one ? one : TYPE_ANY;
        }
    } else {
        types = type_named(json_string(type));
        if (!types) {
            schema_wrong(s, d, CARAT_E_FORMAT, part, "type", "expected the name of a JSON type");
        }
        types = types ? types : TYPE_ANY;
    }
    return types | (json_bool(json_get(part.value, "nullable")) ? TYPE_NULL : 0);
}

unsigned schema_types(struct schema *s, struct drawing *d, const struct parts *parts)
{
    unsigned types = TYPE_ANY;
    for (size_t i = 0; i < parts->n; i++) {
        types &= types_of(s, d, parts->items[i]);
    }
    return types;
}

bool schema_count(struct schema *s, struct drawing *d, struct part part, const char *key,
                  uint32_t *out)
{
    const struct json_value *v = json_get(part.value, key);
    const double value = json_double(v);
    if (!v) {
        return false;
    }
    if (json_kind(v) != JSON_NUMBER || value < 0 || value != floor(value)) {
        schema_wrong(s, d, CARAT_E_FORMAT, part, key, "expected an integer of 0 or more");
        return false;
    }
    *out = value < (double)INT32_MAX ? (uint32_t)value : INT32_MAX;
    return true;
}

// ------------------------------------------------------------------------------ strings

#define HEX  "[0-9a-f]"
#define HEX4 HEX "{4}"
#define DATE                                                                                       \
    "([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" \
    "02-(0[1-9]|1[0-9]|2[0-8]))|"                                                                  \
    "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29)"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"                                     \
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST  LABEL "(\\." LABEL "){0,8}"
#define WORD  "[A-Za-z0-9]+(-[A-Za-z0-9]+)*"
#define H     "[0-9a-fA-F]{1,4}"
#define IPV6                                                                                       \
    "(" H ":){7}" H "|(" H ":){1,7}:|(" H ":){1,6}:" H "|(" H ":){1,5}(:" H "){1,2}|"              \
    "(" H ":){1,4}(:" H "){1,3}|(" H ":){1,3}(:" H "){1,4}|(" H ":){1,2}(:" H "){1,5}|" H ":(:" H  \
    "){1,6}|:((:" H "){1,7}|:)"
#define URI_CHAR "([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"

static const struct format {
    const char *name;
    const char *expression;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"duration",
     "P([0-9]{1,9}W|([0-9]{1,9}D|[0-9]{1,9}M([0-9]{1,9}D)?|"
     "[0-9]{1,9}Y([0-9]{1,9}M([0-9]{1,9}D)?)?)(T([0-9]{1,9}S|[0-9]{1,9}M([0-9]{1,9}S)?|"
     "[0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?))?|T([0-9]{1,9}S|[0-9]{1,9}M([0-9]{1,9}S)?"
     "|[0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?))"},
    {"uuid", HEX4 HEX4 "-" HEX4 "-" HEX4 "-" HEX4 "-" HEX4 HEX4 HEX4},
    {"email", "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@" WORD "(\\." WORD ")+"},
    {"hostname", HOST},
    {"ipv4", OCTET "(\\." OCTET "){3}"},
    {"ipv6", IPV6},
    {"uri", "[A-Za-z][A-Za-z0-9+.-]*:(//(" URI_CHAR ")+)?" URI_CHAR "*(\\?(" URI_CHAR
            "|\\?)*)?(#(" URI_CHAR "|\\?)*)?"},
};

// *texts becomes what it was and `other` too, or `other` when it was nothing yet.
static int narrow(struct dfa *texts, struct dfa *other, struct carat_error *err)
{
    struct dfa both = {0};
    if (texts->n_states == 0) {
        *texts = *other;
        return 0;
    }
    const int rc = dfa_product(&both, texts, other, false, err);
    dfa_release(other);
    if (rc == 0) {
        dfa_release(texts);
        *texts = both;
    }
    return rc;
}

static int narrow_to_expression(struct schema *s, struct dfa *texts, struct slice expression,
                                bool is_search, const char *where)
{
    struct dfa one = {0};
    const int rc = regex_compile(&one, expression, is_search, where, s->err);
    return rc ? rc : narrow(texts, &one, s->err);
}

static const char *format_expression(struct slice name)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (slice_is(name, formats[i].name)) {
            return formats[i].expression;
        }
    }
    return NULL;
}

static int narrow_to_part(struct schema *s, struct dfa *texts, struct part part)
{
    const struct json_value *pattern = json_get(part.value, "pattern");
    const char *format = format_expression(json_string(json_get(part.value, "format")));
    int rc = 0;
    if (pattern) {
        const char *where = schema_path(s, part.path, "pattern", (struct slice){0});
        const struct slice text = json_string(pattern);
        if (!where) {
            return CARAT_E_MEMORY;
        }
        if (json_kind(pattern) != JSON_STRING) {
            return schema_refuse(s, CARAT_E_FORMAT, where, "expected a string");
        }
        if (text.size > REGEX_SIZE_MAX) {
            return schema_refuse(s, CARAT_E_FULL, where, "more than 4096 bytes");
        }
        struct carat_error why = {0};
        struct carat_error *err = s->err;
        s->err = &why;
        rc = narrow_to_expression(s, texts, text, true, where);
        s->err = err;
        if (rc && rc != CARAT_E_MEMORY && s->options.is_lenient) {
            rc = 0;
        } else if (rc) {
            fail(err, why.status, "%s: %s", s->options.name, why.text);
        }
    }
    if (format && rc == 0) {
        rc = narrow_to_expression(s, texts, slice_of(format), false, "format");
    }
    return rc;
}

// What a string must be: *texts stays empty when all that counts is its length.
int schema_string_texts(struct schema *s, struct drawing *d, const struct parts *parts,
                        struct dfa *texts, uint32_t *min, uint32_t *max)
{
    int rc = 0;
    *min = 0;
    *max = COUNT_UNLIMITED;
    for (size_t i = 0; i < parts->n && rc == 0; i++) {
        uint32_t length = 0;
        if (schema_count(s, d, parts->items[i], "minLength", &length) && length > *min) {
            *min = length;
        }
        if (schema_count(s, d, parts->items[i], "maxLength", &length) && length < *max) {
            *max = length;
        }
        rc = d->nfa.rc ? d->nfa.rc : narrow_to_part(s, texts, parts->items[i]);
    }
    if (rc == 0 && texts->n_states > 0 && (*min > 0 || *max != COUNT_UNLIMITED)) {
        struct dfa bounded = {0};
        // Every length has states of its own: where that would be too many, fewer lengths do.
        const uint32_t most = BOUNDED_STATES_MAX / (uint32_t)texts->n_states;
        *max = *max != COUNT_UNLIMITED && *max > most ? (*min > most ? *min : most) : *max;
        rc = text_bounded(&bounded, texts, *min, *max, s->err);
        if (rc == 0) {
            dfa_release(texts);
            *texts = bounded;
        }
    }
    return rc;
}

void schema_string(struct schema *s, struct drawing *d, const struct parts *parts, uint32_t from,
                   uint32_t to)
{
    const bool is_call = s->options.is_call;
    struct dfa texts = {0};
    uint32_t min = 0;
    uint32_t max = 0;
    int rc = schema_string_texts(s, d, parts, &texts, &min, &max);
    if (rc == CARAT_E_FULL && s->options.is_lenient) { // then only its length counts
        dfa_release(&texts);
        rc = 0;
    }
    if (rc == 0 && texts.n_states > 0 && is_call) {
        struct dfa unmarked = {0};
        rc = text_unmarked(&unmarked, &texts, s->err);
        if (rc == 0) {
            dfa_release(&texts);
            texts = unmarked;
        }
    }
    d->nfa.rc = d->nfa.rc ? d->nfa.rc : rc;
    if (d->nfa.rc == 0 && min <= max) {
        const uint32_t opened = nfa_state(&d->nfa);
        const uint32_t letter = is_call ? LETTER_QUOTE : '"';
        nfa_edge(&d->nfa, from, letter, letter, opened);
        if (texts.n_states > 0) {
            draw_texts(&d->nfa, &d->letters, &texts, is_call ? TEXT_MARKED : TEXT_JSON, opened, to);
        } else {
            const struct call_letter call = {
                .rule = is_call ? RULE_CALL_STRING : RULE_JSON_STRING, .min = min, .max = max};
            draw_call(&d->nfa, &d->letters, opened, call, to);
        }
    }
    dfa_release(&texts);
}

// ------------------------------------------------------------------------------ numbers

// The tighter of two bounds, and of equal ones the exclusive.
static void tighten(struct slice *bound, bool *is_exclusive, struct slice other,
                    bool other_exclusive, bool is_min)
{
    char texts[2][64] = {"", ""};
    if (other.size == 0) {
        return;
    }
    if (bound->size > 0) {
        snprintf(texts[0], sizeof(texts[0]), "%.*s", (int)bound->size, bound->data);
        snprintf(texts[1], sizeof(texts[1]), "%.*s", (int)other.size, other.data);
        const double a = strtod(texts[0], NULL);
        const double b = strtod(texts[1], NULL);
        if (a == b) {
            *is_exclusive = *is_exclusive || other_exclusive;
            return;
        }
        if ((a > b) == is_min) {
            return;
        }
    }
    *bound = other;
    *is_exclusive = other_exclusive;
}

static void read_bounds(struct schema *s, struct drawing *d, struct part part, bool is_min,
                        struct number_bounds *b)
{
    struct slice *bound = is_min ? &b->min : &b->max;
    bool *is_exclusive = is_min ? &b->is_min_exclusive : &b->is_max_exclusive;
    const char *key = is_min ? "minimum" : "maximum";
    const char *exclusive_key = is_min ? "exclusiveMinimum" : "exclusiveMaximum";
    const struct json_value *plain = json_get(part.value, key);
    const struct json_value *exclusive = json_get(part.value, exclusive_key);
    if (plain && json_kind(plain) != JSON_NUMBER) {
        schema_wrong(s, d, CARAT_E_FORMAT, part, key, "expected a number");
    }
    // In draft 4 the exclusive one says whether the plain one is.
    tighten(bound, is_exclusive, json_number_text(plain), json_bool(exclusive), is_min);
    tighten(bound, is_exclusive, json_number_text(exclusive), true, is_min);
}

struct number_bounds schema_number_bounds(struct schema *s, struct drawing *d,
                                          const struct parts *parts, bool is_integer)
{
    struct number_bounds b = {.is_integer = is_integer};
    for (size_t i = 0; i < parts->n; i++) {
        const struct json_value *multiple = json_get(parts->items[i].value, "multipleOf");
        read_bounds(s, d, parts->items[i], true, &b);
        read_bounds(s, d, parts->items[i], false, &b);
        if (multiple && b.multiple.size > 0 &&
            !slice_equal(b.multiple, json_number_text(multiple))) {
            schema_wrong(s, d, CARAT_E_UNSUPPORTED, parts->items[i], "multipleOf",
                         "two different ones for one number");
        } else if (multiple) {
            b.multiple = json_number_text(multiple);
        }
    }
    return b;
}

bool schema_is_bounded(const struct number_bounds *b)
{
    return b->min.size > 0 || b->max.size > 0 || b->multiple.size > 0;
}

int schema_bounded_texts(struct schema *s, struct drawing *d, const struct number_bounds *b,
                         const struct parts *parts, struct dfa *texts)
{
    struct carat_error why = {0};
    if (d->nfa.rc) {
        return d->nfa.rc;
    }
    const int rc = number_texts(texts, b, parts->items[0].path, &why);
    return rc ? fail(s->err, rc, "%s: %s", s->options.name, why.text) : 0;
}

static void draw_number(struct drawing *d, bool is_integer, uint32_t from, uint32_t to)
{
    const struct call_letter call = {.rule = is_integer ? RULE_INTEGER : RULE_NUMBER,
                                     .max = COUNT_UNLIMITED};
    draw_call(&d->nfa, &d->letters, from, call, to);
}

void schema_number(struct schema *s, struct drawing *d, const struct parts *parts, bool is_integer,
                   uint32_t from, uint32_t to)
{
    const struct number_bounds b = schema_number_bounds(s, d, parts, is_integer);
    if (!schema_is_bounded(&b)) {
        draw_number(d, is_integer, from, to);
        return;
    }
    struct dfa texts = {0};
    d->nfa.rc = schema_bounded_texts(s, d, &b, parts, &texts);
    if (d->nfa.rc == CARAT_E_UNSUPPORTED && s->options.is_lenient) {
        d->nfa.rc = 0;
        draw_number(d, is_integer, from, to);
    } else if (d->nfa.rc == 0) {
        draw_texts(&d->nfa, &d->letters, &texts, TEXT_BARE, from, to);
    }
    dfa_release(&texts);
}
