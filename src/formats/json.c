// SPDX-License-Identifier: Apache-2.0
// JSON (RFC 8259), read strictly: no comments, no trailing commas, UTF-8 only. yyjson parses
// without recursion into one array of values, each container knowing where it ends; everything here
// walks that array. Nothing else in carat includes yyjson.
#include "formats/json.h"

#include <stdio.h>
#include <string.h>
#include <yyjson.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

struct json_doc {
    yyjson_doc *inner;
    char *name;
};

// yyjson's functions take values without const, and do not change them.
static yyjson_val *inner(const void *v)
{
    return (yyjson_val *)(uintptr_t)v;
}

static const struct json_value *outer(const yyjson_val *v)
{
    return (const struct json_value *)v;
}

/* ------------------------------------------------------------------------------------ reading */

static void *alc_malloc(void *context, size_t size)
{
    (void)context;
    return mem_new(size, NULL);
}

static void *alc_realloc(void *context, void *block, size_t old_size, size_t size)
{
    (void)context;
    (void)old_size;
    return mem_resize(block, size, NULL);
}

static void alc_free(void *context, void *block)
{
    (void)context;
    mem_free(block);
}

static const yyjson_alc alc = {alc_malloc, alc_realloc, alc_free, NULL};

static int fail_parse(const char *name, const char *text, size_t size, const yyjson_read_err *e,
                      struct carat_error *err)
{
    if (e->code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        return fail(err, CARAT_E_MEMORY, "%s: no memory to read %zu bytes of JSON", name, size);
    }
    size_t pos = e->pos < size ? e->pos : size;
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < pos; i++) {
        if (text[i] == '\n') {
            line++;
            column = 1;
        } else if ((text[i] & 0xC0) != 0x80) { // a character's first byte
            column++;
        }
    }
    char found[32] = "the end";
    if (pos < size) {
        unsigned c = (unsigned char)text[pos];
        snprintf(found, sizeof(found), c > 0x20 && c < 0x7F ? "'%c'" : "the byte 0x%02x", c);
    }
    return fail(err, CARAT_E_FORMAT, "%s: line %zu, column %zu: not JSON: %s; found %s", name, line,
                column, e->msg ? e->msg : "unexpected text", found);
}

// The values stand in the order of the text, so a stack of container ends gives the depth.
static bool is_too_deep(yyjson_doc *doc)
{
    const yyjson_val *ends[JSON_DEPTH_MAX];
    size_t depth = 0;
    yyjson_val *root = yyjson_doc_get_root(doc);
    size_t n = yyjson_doc_get_val_count(doc);
    for (size_t i = 0; i < n; i++) {
        yyjson_val *v = root + i;
        while (depth > 0 && v >= ends[depth - 1]) {
            depth--;
        }
        if (yyjson_is_ctn(v)) {
            if (depth == JSON_DEPTH_MAX) {
                return true;
            }
            ends[depth++] = unsafe_yyjson_get_next(v);
        }
    }
    return false;
}

int json_parse(struct json_doc **out, const char *text, size_t size, const char *name,
               struct carat_error *err)
{
    int rc = CARAT_E_MEMORY;
    struct json_doc *doc = mem_new(sizeof(*doc), err);
    if (!doc) {
        goto out;
    }
    doc->name = mem_strdup(name, err);
    if (!doc->name) {
        goto out;
    }
    if (size == 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: expected JSON, found nothing: it is empty", name);
        goto out;
    }
    yyjson_read_err e = {0};
    // Without YYJSON_READ_INSITU the text is copied and not changed.
    doc->inner =
        yyjson_read_opts((char *)(uintptr_t)text, size, YYJSON_READ_NUMBER_AS_RAW, &alc, &e);
    if (!doc->inner) {
        rc = fail_parse(name, text, size, &e, err);
        goto out;
    }
    if (is_too_deep(doc->inner)) {
        rc = fail(err, CARAT_E_FORMAT, "%s: JSON nested deeper than %d levels, which is the limit",
                  name, JSON_DEPTH_MAX);
        goto out;
    }
    *out = doc;
    doc = NULL;
    rc = 0;
out:
    json_free(doc);
    return rc;
}

int json_parse_file(struct json_doc **out, const char *path, size_t size_max,
                    struct carat_error *err)
{
    struct buf text = {0};
    int rc = os_read_file(&text, path, size_max, err);
    if (rc == 0) {
        rc = json_parse(out, buf_text(&text), text.size, path, err);
    }
    buf_release(&text);
    return rc;
}

void json_free(struct json_doc *doc)
{
    if (doc) {
        yyjson_doc_free(doc->inner);
        mem_free(doc->name);
        mem_free(doc);
    }
}

const struct json_value *json_root(const struct json_doc *doc)
{
    return outer(yyjson_doc_get_root(doc->inner));
}

/* ------------------------------------------------------------------------------------ values */

enum json_kind json_kind(const struct json_value *v)
{
    switch (yyjson_get_type(inner(v))) {
    case YYJSON_TYPE_NULL:
        return JSON_NULL;
    case YYJSON_TYPE_BOOL:
        return JSON_BOOL;
    case YYJSON_TYPE_RAW:
        return JSON_NUMBER;
    case YYJSON_TYPE_STR:
        return JSON_STRING;
    case YYJSON_TYPE_ARR:
        return JSON_ARRAY;
    case YYJSON_TYPE_OBJ:
        return JSON_OBJECT;
    default:
        return JSON_ABSENT;
    }
}

const char *json_kind_name(enum json_kind kind)
{
    static const char *const names[] = {
        [JSON_ABSENT] = "nothing",   [JSON_NULL] = "null",       [JSON_BOOL] = "true or false",
        [JSON_NUMBER] = "a number",  [JSON_STRING] = "a string", [JSON_ARRAY] = "an array",
        [JSON_OBJECT] = "an object",
    };
    return names[kind];
}

bool json_bool(const struct json_value *v)
{
    return yyjson_is_true(inner(v));
}

struct slice json_string(const struct json_value *v)
{
    return slice_make(yyjson_get_str(inner(v)),
                      yyjson_is_str(inner(v)) ? yyjson_get_len(inner(v)) : 0);
}

struct slice json_number_text(const struct json_value *v)
{
    return slice_make(yyjson_get_raw(inner(v)),
                      yyjson_is_raw(inner(v)) ? yyjson_get_len(inner(v)) : 0);
}

// False unless v is a number that a double can hold. The number's text is terminated in the
// document, and yyjson reads it whatever the locale says about decimal points.
static bool number_double(const struct json_value *v, double *out)
{
    const char *text = yyjson_get_raw(inner(v));
    yyjson_val number;
    if (!text || !yyjson_read_number(text, &number, YYJSON_READ_NOFLAG, &alc, NULL)) {
        return false;
    }
    *out = yyjson_get_num(&number);
    return true;
}

double json_double(const struct json_value *v)
{
    double value = 0;
    number_double(v, &value);
    return value;
}

// Digits with an optional minus sign: the value without its sign. False when there is more to the
// number, or when it needs more than 64 bits.
static bool number_integer(const struct json_value *v, uint64_t *out, bool *is_negative)
{
    struct slice s = json_number_text(v);
    size_t at = s.size > 0 && s.data[0] == '-' ? 1 : 0;
    if (at == s.size) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = at; i < s.size; i++) {
        unsigned digit = (unsigned)(s.data[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    *is_negative = at == 1;
    return true;
}

bool json_u64(const struct json_value *v, uint64_t *out)
{
    uint64_t value;
    bool is_negative;
    if (!number_integer(v, &value, &is_negative) || (is_negative && value > 0)) {
        return false;
    }
    *out = value;
    return true;
}

bool json_i64(const struct json_value *v, int64_t *out)
{
    uint64_t value;
    bool is_negative;
    if (!number_integer(v, &value, &is_negative) || value > (uint64_t)INT64_MAX + is_negative) {
        return false;
    }
    *out = !is_negative ? (int64_t)value : value == 0 ? 0 : -(int64_t)(value - 1) - 1;
    return true;
}

/* ------------------------------------------------------------------------------------ containers
 */

size_t json_count(const struct json_value *v)
{
    return yyjson_is_ctn(inner(v)) ? unsafe_yyjson_get_len(inner(v)) : 0;
}

const struct json_value *json_getn(const struct json_value *object, struct slice key)
{
    const struct json_value *found = NULL;
    if (json_kind(object) == JSON_OBJECT) {
        for (struct json_iter it = json_iter(object); json_next(&it);) {
            if (slice_equal(it.key, key)) {
                found = it.value;
            }
        }
    }
    return found;
}

const struct json_value *json_get(const struct json_value *object, const char *key)
{
    return json_getn(object, slice_of(key));
}

struct json_iter json_iter(const struct json_value *v)
{
    struct json_iter it = {.left = json_count(v), .is_object = json_kind(v) == JSON_OBJECT};
    if (it.left > 0) {
        it.state = unsafe_yyjson_get_first(inner(v));
    }
    return it;
}

bool json_next(struct json_iter *it)
{
    if (it->left == 0) {
        it->value = NULL;
        return false;
    }
    yyjson_val *at = inner(it->state);
    if (it->is_object) { // name, value, name, value, ...
        it->key = json_string(outer(at));
        at = unsafe_yyjson_get_next(at);
    }
    it->value = outer(at);
    it->state = unsafe_yyjson_get_next(at);
    it->left--;
    return true;
}

/* ------------------------------------------------------------------------------------ by path */

// What was found, short, for a message: numbers and strings as they are, up to a length.
#define FOUND_MAX 60
static void describe(const struct json_value *v, struct buf *out)
{
    struct slice s = json_kind(v) == JSON_NUMBER ? json_number_text(v) : json_string(v);
    bool is_cut = s.size > FOUND_MAX;
    s.size = is_cut ? FOUND_MAX : s.size;
    while (is_cut && s.size > 0 && (s.data[s.size] & 0xC0) == 0x80) {
        s.size--; // not in the middle of a character
    }
    switch (json_kind(v)) {
    case JSON_NUMBER:
        buf_add_slice(out, s);
        buf_adds(out, is_cut ? "..." : "");
        break;
    case JSON_STRING:
        buf_add_json(out, s.data, s.size);
        buf_adds(out, is_cut ? "..." : "");
        break;
    case JSON_BOOL:
        buf_adds(out, json_bool(v) ? "true" : "false");
        break;
    default:
        buf_adds(out, json_kind_name(json_kind(v)));
    }
}

static int fail_kind(const struct json_doc *doc, struct slice path, const char *expected,
                     const struct json_value *v, struct carat_error *err)
{
    struct buf found = {0};
    describe(v, &found);
    int rc = fail(err, CARAT_E_FORMAT, "%s: %.*s: expected %s, found %s", doc->name, (int)path.size,
                  path.data, expected, found.size > 0 ? buf_text(&found) : "something else");
    buf_release(&found);
    return rc;
}

// Follows path from the root: 0, 1 when there is nothing, or an error when something on the way is
// not an object.
static int follow(const struct json_doc *doc, const char *path, const struct json_value **out,
                  struct carat_error *err)
{
    const struct json_value *v = json_root(doc);
    if (json_kind(v) != JSON_OBJECT) {
        return fail(err, CARAT_E_FORMAT, "%s: expected an object, found %s", doc->name,
                    json_kind_name(json_kind(v)));
    }
    const char *part = path;
    for (;;) {
        size_t size = strcspn(part, ".");
        v = json_getn(v, slice_make(part, size));
        part += size;
        if (!v || *part == '\0') {
            break;
        }
        if (json_kind(v) == JSON_NULL) {
            return 1;
        }
        if (json_kind(v) != JSON_OBJECT) {
            return fail_kind(doc, slice_make(path, (size_t)(part - path)), "an object", v, err);
        }
        part++;
    }
    *out = v;
    return v ? 0 : 1;
}

const struct json_value *json_at(const struct json_doc *doc, const char *path)
{
    const struct json_value *v = NULL;
    return follow(doc, path, &v, NULL) == 0 ? v : NULL;
}

// As follow, and null counts as absent.
static int follow_set(const struct json_doc *doc, const char *path, const struct json_value **out,
                      struct carat_error *err)
{
    int rc = follow(doc, path, out, err);
    return rc == 0 && json_kind(*out) == JSON_NULL ? 1 : rc;
}

int json_get_u64(const struct json_doc *doc, const char *path, uint64_t *out,
                 struct carat_error *err)
{
    const struct json_value *v = NULL;
    int rc = follow_set(doc, path, &v, err);
    if (rc == 0 && !json_u64(v, out)) {
        rc = fail_kind(doc, slice_of(path), "a whole number, 0 or more", v, err);
    }
    return rc;
}

int json_get_f64(const struct json_doc *doc, const char *path, double *out, struct carat_error *err)
{
    const struct json_value *v = NULL;
    int rc = follow_set(doc, path, &v, err);
    if (rc == 0 && !number_double(v, out)) {
        rc = fail_kind(doc, slice_of(path),
                       json_kind(v) == JSON_NUMBER ? "a number that a double can hold" : "a number",
                       v, err);
    }
    return rc;
}

int json_get_bool(const struct json_doc *doc, const char *path, bool *out, struct carat_error *err)
{
    const struct json_value *v = NULL;
    int rc = follow_set(doc, path, &v, err);
    if (rc == 0 && json_kind(v) != JSON_BOOL) {
        rc = fail_kind(doc, slice_of(path), "true or false", v, err);
    } else if (rc == 0) {
        *out = json_bool(v);
    }
    return rc;
}

int json_get_string(const struct json_doc *doc, const char *path, struct slice *out,
                    struct carat_error *err)
{
    const struct json_value *v = NULL;
    int rc = follow_set(doc, path, &v, err);
    if (rc == 0 && json_kind(v) != JSON_STRING) {
        rc = fail_kind(doc, slice_of(path), "a string", v, err);
    } else if (rc == 0) {
        *out = json_string(v);
    }
    return rc;
}

/* ------------------------------------------------------------------------------------ writing */

static void write_scalar(const struct json_value *v, struct buf *out)
{
    struct slice s = json_string(v);
    switch (json_kind(v)) {
    case JSON_STRING:
        buf_add_json(out, s.data, s.size);
        break;
    case JSON_NUMBER:
        buf_add_slice(out, json_number_text(v));
        break;
    case JSON_BOOL:
        buf_adds(out, json_bool(v) ? "true" : "false");
        break;
    default:
        buf_adds(out, "null");
    }
}

void json_write(const struct json_value *v, struct buf *out)
{
    // A value that was parsed is no deeper than this.
    struct json_iter open[JSON_DEPTH_MAX];
    size_t depth = 0;
    for (;;) {
        if (json_kind(v) == JSON_ARRAY || json_kind(v) == JSON_OBJECT) {
            require(depth < JSON_DEPTH_MAX);
            open[depth] = json_iter(v);
            buf_addc(out, open[depth].is_object ? '{' : '[');
            depth++;
        } else {
            write_scalar(v, out);
        }
        // Close what has ended; then the next element of what is still open.
        while (depth > 0 && open[depth - 1].left == 0) {
            depth--;
            buf_addc(out, open[depth].is_object ? '}' : ']');
        }
        if (depth == 0) {
            return;
        }
        struct json_iter *it = &open[depth - 1];
        if (it->value) {
            buf_addc(out, ',');
        }
        json_next(it);
        if (it->is_object) {
            buf_add_json(out, it->key.data, it->key.size);
            buf_addc(out, ':');
        }
        v = it->value;
    }
}
