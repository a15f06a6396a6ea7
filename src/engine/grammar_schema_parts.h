// SPDX-License-Identifier: Apache-2.0
// What the files that compile schemas share. A value has to fit all of a list of schemas at once:
// that is how $ref beside other keywords, allOf, and a property that several schemas speak of are
// merged.
#ifndef CARAT_ENGINE_GRAMMAR_SCHEMA_PARTS_H
#define CARAT_ENGINE_GRAMMAR_SCHEMA_PARTS_H

#include "base/map.h"
#include "base/mem.h"
#include "engine/grammar_number.h"
#include "engine/grammar_schema.h"

#define PARTS_MAX 64

struct part {
    const struct json_value *value; // true, false or an object
    const char *path;               // for errors; lives with the compilation
};
struct parts {
    struct part items[PARTS_MAX];
    size_t n;
};

enum type_bits {
    TYPE_NULL = 1,
    TYPE_BOOL = 2,
    TYPE_INTEGER = 4,
    TYPE_FRACTION = 8, // numbers that are no integers
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ANY = 127,
};

struct pending_rule {
    struct parts *parts;
    uint32_t rule;
    unsigned types;
};

struct schema {
    struct program *program;
    const struct json_value *root;
    struct schema_options options;
    struct arena arena;
    struct map rules; // by the values of the parts
    struct pending_rule *queue;
    size_t n_queue, queue_capacity;
    size_t n_options; // of the place being drawn
    struct carat_error *err;
};

// One rule being drawn; its failure is nfa.rc.
struct drawing {
    struct nfa nfa;
    struct call_letters letters;
};

int schema_refuse(struct schema *s, enum carat_status status, const char *path, const char *what);
// The same of a keyword, for the rule that is being drawn; the first failure counts. Limits hold
// for everybody; what else is wrong is passed over where that was asked for.
void schema_wrong(struct schema *s, struct drawing *d, enum carat_status status, struct part part,
                  const char *key, const char *what);
// "path/key", "path/key/name" or NULL when there is no memory.
const char *schema_path(struct schema *s, const char *path, const char *key, struct slice name);
void parts_add(struct schema *s, struct drawing *d, struct parts *parts, struct part part);
// Whether the schema says anything about a value.
bool schema_is_anything(const struct schema *s, const struct json_value *value);

// A value that fits all parts. is_repeated: drawn often, so it is worth a rule of its own.
void schema_value(struct schema *s, struct drawing *d, const struct parts *parts, bool is_repeated,
                  uint32_t from, uint32_t to);

// The parts have neither $ref nor allOf, anyOf, oneOf left to choose. grammar_schema_scalar.c:
unsigned schema_types(struct schema *s, struct drawing *d, const struct parts *parts);
void schema_string(struct schema *s, struct drawing *d, const struct parts *parts, uint32_t from,
                   uint32_t to);
void schema_number(struct schema *s, struct drawing *d, const struct parts *parts, bool is_integer,
                   uint32_t from, uint32_t to);
// A non-negative integer keyword; false when the part does not have it.
bool schema_count(struct schema *s, struct drawing *d, struct part part, const char *key,
                  uint32_t *out);
// What a string must be: *texts stays empty when all that counts is its length.
int schema_string_texts(struct schema *s, struct drawing *d, const struct parts *parts,
                        struct dfa *texts, uint32_t *min, uint32_t *max);
struct number_bounds schema_number_bounds(struct schema *s, struct drawing *d,
                                          const struct parts *parts, bool is_integer);
bool schema_is_bounded(const struct number_bounds *bounds);
int schema_bounded_texts(struct schema *s, struct drawing *d, const struct number_bounds *bounds,
                         const struct parts *parts, struct dfa *texts);
// grammar_schema_literal.c:
bool schema_has_literals(const struct parts *parts);
void schema_literals(struct schema *s, struct drawing *d, const struct parts *parts, unsigned types,
                     uint32_t from, uint32_t to);
// grammar_schema_nested.c:
void schema_array(struct schema *s, struct drawing *d, const struct parts *parts, uint32_t from,
                  uint32_t to);
void schema_object(struct schema *s, struct drawing *d, const struct parts *parts, uint32_t from,
                   uint32_t to);
// A key as it stands in front of the colon.
void schema_key(struct schema *s, struct drawing *d, struct slice key, const char *path,
                uint32_t from, uint32_t to);

// A name and what it stands for. In calls names are in ascending order of their bytes, ASCII
// letters without regard to case, as the template writes them.
struct schema_name {
    struct slice key;
    const struct json_value *value;
    bool is_required;
};
void schema_sort_names(struct schema_name *names, size_t n);

static inline void draw_char(struct drawing *d, uint32_t from, char c, uint32_t to)
{
    nfa_edge(&d->nfa, from, (uint8_t)c, (uint8_t)c, to);
}
// A separator and, in JSON, the one space that may follow.
static inline void draw_separator(const struct schema *s, struct drawing *d, uint32_t from, char c,
                                  uint32_t to)
{
    const uint32_t behind = nfa_state(&d->nfa);
    draw_char(d, from, c, behind);
    nfa_empty(&d->nfa, behind, to);
    if (!s->options.is_call) {
        draw_char(d, behind, ' ', to);
    }
}

#endif
