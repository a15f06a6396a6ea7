// SPDX-License-Identifier: Apache-2.0
// JSON text to values and back: the one door to yyjson. Getters name the path of what is wrong
// ("config.json: text_config.hidden_size: expected a positive integer, found \"big\"").
#ifndef CARAT_FORMATS_JSON_H
#define CARAT_FORMATS_JSON_H

#include "base/str.h"

// A parsed document; values are borrowed from it. Nesting deeper than JSON_DEPTH_MAX is refused.
#define JSON_DEPTH_MAX 512
struct json_doc;
struct json_value; // opaque; NULL stands for "absent" and is accepted by every function below

// name is what errors call the text. The text is copied as needed. Numbers keep their source text,
// so that integers of any size and 1.0 against 1 survive (json_number_text).
int json_parse(struct json_doc **out, const char *text, size_t size, const char *name,
               struct carat_error *err);
int json_parse_file(struct json_doc **out, const char *path, size_t size_max,
                    struct carat_error *err);
void json_free(struct json_doc *doc); // takes NULL
const struct json_value *json_root(const struct json_doc *doc);

enum json_kind {
    JSON_ABSENT = 0,
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};
enum json_kind json_kind(const struct json_value *v);
const char *json_kind_name(enum json_kind kind);           // "a string", ...
bool json_bool(const struct json_value *v);                // false unless true
struct slice json_string(const struct json_value *v);      // empty unless a string
struct slice json_number_text(const struct json_value *v); // as written
double json_double(const struct json_value *v);            // 0 unless a number
bool json_u64(const struct json_value *v, uint64_t *out);  // false unless an integer that fits
bool json_i64(const struct json_value *v, int64_t *out);

size_t json_count(const struct json_value *v); // elements of an array, members of an object; else 0
// Of a name that occurs twice the last one counts, as in Python; walking shows both. Linear in the
// object's size. NULL: absent.
const struct json_value *json_get(const struct json_value *object, const char *key);
const struct json_value *json_getn(const struct json_value *object, struct slice key);
// Walking an array or an object in order, without recursion and in linear time.
struct json_iter {
    const struct json_value *value; // current; NULL at the end
    struct slice key;               // in an object
    size_t left;                    // values after the current one
    bool is_object;
    const void *state;
};
struct json_iter json_iter(const struct json_value *v);
bool json_next(struct json_iter *it); // false at the end: for (it = json_iter(v); json_next(&it);)

// Typed getters for configuration: `path` is written as in "text_config.hidden_size" and is looked
// up from the root, dot by dot. Absent or null: returns 1 and leaves *out alone. Wrong: an error.
int json_get_u64(const struct json_doc *doc, const char *path, uint64_t *out,
                 struct carat_error *err);
int json_get_f64(const struct json_doc *doc, const char *path, double *out,
                 struct carat_error *err);
int json_get_bool(const struct json_doc *doc, const char *path, bool *out, struct carat_error *err);
int json_get_string(const struct json_doc *doc, const char *path, struct slice *out,
                    struct carat_error *err);
const struct json_value *json_at(const struct json_doc *doc, const char *path); // NULL: absent

// Writes a value as compact JSON, numbers as they were written.
void json_write(const struct json_value *v, struct buf *out);

#endif
