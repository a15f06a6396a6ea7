// SPDX-License-Identifier: Apache-2.0
// Gemma's value notation (docs/chat.md), written with an explicit stack: nesting comes from
// outside.
#include "chat/notation.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

// ------------------------------------------------------------------------------ order of keys

// Lower case of one character, as far as keys need it: Latin, Greek and Cyrillic letters whose
// lower case is one character. The rest of Unicode sorts by its own code point.
static uint32_t lower(uint32_t c)
{
    if (c < 0x80) {
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    }
    if ((c >= 0xC0 && c <= 0xDE && c != 0xD7) || (c >= 0x391 && c <= 0x3AB && c != 0x3A2) ||
        (c >= 0x410 && c <= 0x42F)) {
        return c + 32;
    }
    if (c >= 0x400 && c <= 0x40F) {
        return c + 80;
    }
    if (c == 0x178) {
        return 0xFF;
    }
    bool is_even_upper = (c >= 0x100 && c <= 0x137 && c != 0x130) || (c >= 0x14A && c <= 0x177) ||
                         (c >= 0x460 && c <= 0x481) || (c >= 0x48A && c <= 0x4BF) ||
                         (c >= 0x4D0 && c <= 0x52F) || (c >= 0x1E00 && c <= 0x1E95) ||
                         (c >= 0x1EA0 && c <= 0x1EFF);
    bool is_odd_upper =
        (c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E) || (c >= 0x4C1 && c <= 0x4CE);
    if (is_even_upper) {
        return c | 1;
    }
    return is_odd_upper && c % 2 == 1 ? c + 1 : c;
}

// Takes one character; a byte that is no UTF-8 counts as itself.
static uint32_t take_character(struct slice *s)
{
    uint32_t c = 0;
    int length = utf8_next(s->data, s->size, &c);
    if (length <= 0) {
        c = (unsigned char)s->data[0];
        length = 1;
    }
    s->data += length;
    s->size -= (size_t)length;
    return c;
}

static int compare_without_case(struct slice a, struct slice b)
{
    while (a.size && b.size) {
        uint32_t x = lower(take_character(&a));
        uint32_t y = lower(take_character(&b));
        if (x != y) {
            return x < y ? -1 : 1;
        }
    }
    return (a.size > 0) - (b.size > 0);
}

static int compare_bytes(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_order(const struct member *a, const struct member *b)
{
    return (a->order > b->order) - (a->order < b->order);
}

static int by_exact_key(const void *x, const void *y)
{
    const struct member *a = x;
    const struct member *b = y;
    int order = compare_bytes(a->key, b->key);
    return order ? order : compare_order(a, b);
}

static int by_key_without_case(const void *x, const void *y)
{
    const struct member *a = x;
    const struct member *b = y;
    int order = compare_without_case(a->key, b->key);
    return order ? order : compare_order(a, b);
}

// A repeated key keeps its first place and its last value.
static size_t drop_repeated(struct member *members, size_t n)
{
    size_t kept = 0;
    qsort(members, n, sizeof(*members), by_exact_key);
    for (size_t i = 0; i < n; i++) {
        if (kept && slice_equal(members[kept - 1].key, members[i].key)) {
            members[kept - 1].value = members[i].value;
        } else {
            members[kept++] = members[i];
        }
    }
    return kept;
}

int members_sorted(struct member **out, size_t *n, const struct json_value *object,
                   struct carat_error *err)
{
    size_t count = json_count(object);
    struct member *members = mem_new_array(count, sizeof(*members), err);
    if (!members) {
        return CARAT_E_MEMORY;
    }
    struct json_iter it = json_iter(object);
    size_t i = 0;
    for (; i < count && json_next(&it); i++) {
        members[i] = (struct member){.key = it.key, .value = it.value, .order = i};
    }
    count = drop_repeated(members, i);
    qsort(members, count, sizeof(*members), by_key_without_case);
    *out = members;
    *n = count;
    return 0;
}

const struct json_value *value_member(const struct json_value *v, const char *key)
{
    const struct json_value *found = NULL;
    if (json_kind(v) != JSON_OBJECT) {
        return NULL;
    }
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        if (slice_is(it.key, key)) {
            found = it.value;
        }
    }
    return found;
}

// ------------------------------------------------------------------------------ as Python prints

static bool is_float(struct slice number)
{
    return memchr(number.data, '.', number.size) || memchr(number.data, 'e', number.size) ||
           memchr(number.data, 'E', number.size);
}

// The shortest digits that read back as d > 0: d = 0.DIGITS * 10^result. The nearest decimal of a
// length may fail where the next one up succeeds: just below a power of two the gap is half as
// wide.
static int shortest_digits(char digits[24], double d)
{
    char text[40];
    for (int precision = 0; precision <= 16; precision++) {
        int length = snprintf(text, sizeof(text), "%.*e", precision, d);
        char *mark = strchr(text, 'e');
        require(length > 0 && mark);
        bool is_exact = strtod(text, NULL) >= d && strtod(text, NULL) <= d;
        if (!is_exact && mark[-1] >= '0' && mark[-1] < '9') {
            mark[-1]++;
            is_exact = strtod(text, NULL) >= d && strtod(text, NULL) <= d;
        }
        if (is_exact) {
            break;
        }
    }
    size_t n = 0;
    const char *c = text;
    for (; *c != 'e'; c++) { // the decimal point depends on the locale: skip whatever it is
        if (isdigit((unsigned char)*c)) {
            digits[n++] = *c;
        }
    }
    digits[n] = '\0';
    return (int)strtol(c + 1, NULL, 10) + 1;
}

// repr() of a float: fixed notation from 1e-4 up to below 1e16, always with a point or an exponent.
static void print_float(struct buf *out, double d)
{
    if (isinf(d) || isnan(d)) {
        buf_adds(out, isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    if (signbit(d)) {
        buf_addc(out, '-');
    }
    char digits[24] = "0";
    int point = fabs(d) > 0 ? shortest_digits(digits, fabs(d)) : 1;
    int n = (int)strlen(digits);
    if (point < -3 || point > 16) {
        buf_addc(out, digits[0]);
        buf_addf(out, n > 1 ? ".%s" : "%s", digits + 1);
        buf_addf(out, "e%c%02d", point > 0 ? '+' : '-', abs(point - 1));
        return;
    }
    if (point <= 0) {
        buf_addf(out, "0.%.*s%s", -point, "000", digits);
        return;
    }
    for (int i = 0; i < point; i++) {
        buf_addc(out, i < n ? digits[i] : '0');
    }
    buf_addf(out, ".%s", point < n ? digits + point : "0");
}

static void print_number(struct buf *out, const struct json_value *v)
{
    struct slice text = json_number_text(v);
    if (is_float(text)) {
        print_float(out, json_double(v));
    } else if (slice_is(text, "-0")) {
        buf_adds(out, "0");
    } else {
        buf_add_slice(out, text);
    }
}

// What repr() writes for one character. Of those beyond ASCII only space and control characters are
// taken for unprintable.
static void print_quoted_character(struct buf *out, struct slice character, uint32_t c, char quote)
{
    bool is_control = c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD;
    if (c == (unsigned char)quote || c == '\\') {
        buf_addf(out, "\\%c", (int)c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
        buf_adds(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
    } else if (is_control || (c != ' ' && unicode_is_space(c))) {
        buf_addf(out, c < 0x100 ? "\\x%02" PRIx32 : "\\u%04" PRIx32, c);
    } else {
        buf_add_slice(out, character);
    }
}

// repr() of a string.
static void print_quoted(struct buf *out, struct slice s)
{
    bool has_single = s.size && memchr(s.data, '\'', s.size);
    bool has_double = s.size && memchr(s.data, '"', s.size);
    char quote = has_single && !has_double ? '"' : '\'';
    buf_addc(out, quote);
    while (s.size) {
        const char *begin = s.data;
        uint32_t c = take_character(&s);
        print_quoted_character(out, slice_make(begin, (size_t)(s.data - begin)), c, quote);
    }
    buf_addc(out, quote);
}

static void print_scalar(struct buf *out, const struct json_value *v)
{
    switch (json_kind(v)) {
    case JSON_NULL:
        buf_adds(out, "None");
        break;
    case JSON_BOOL:
        buf_adds(out, json_bool(v) ? "True" : "False");
        break;
    case JSON_NUMBER:
        print_number(out, v);
        break;
    case JSON_STRING:
        print_quoted(out, json_string(v));
        break;
    default:
        break;
    }
}

// An open array or object on the way.
struct level {
    struct json_iter it;
    struct member *members; // sorted, of an object; owned
    size_t n;
    size_t i;
    bool is_object;
};

static void print_container(struct buf *out, const struct json_value *v)
{
    struct level *levels = mem_new_array(JSON_DEPTH_MAX + 1, sizeof(*levels), NULL);
    size_t depth = 0;
    if (!levels) {
        out->has_failed = true;
        return;
    }
    for (const struct json_value *now = v;;) {
        bool is_object = json_kind(now) == JSON_OBJECT;
        if (is_object || json_kind(now) == JSON_ARRAY) {
            require(depth <= JSON_DEPTH_MAX); // the JSON reader allows no more
            buf_addc(out, is_object ? '{' : '[');
            levels[depth++] = (struct level){.it = json_iter(now), .is_object = is_object};
        } else {
            print_scalar(out, now);
        }
        while (depth && !json_next(&levels[depth - 1].it)) {
            buf_addc(out, levels[--depth].is_object ? '}' : ']');
        }
        if (!depth) {
            break;
        }
        struct level *top = &levels[depth - 1];
        buf_adds(out, top->i++ ? ", " : "");
        if (top->is_object) {
            print_quoted(out, top->it.key);
            buf_adds(out, ": ");
        }
        now = top->it.value;
    }
    mem_free(levels);
}

void value_print(struct buf *out, const struct json_value *v)
{
    switch (json_kind(v)) {
    case JSON_STRING:
        buf_add_slice(out, json_string(v));
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        print_container(out, v);
        break;
    default:
        print_scalar(out, v);
        break;
    }
}

bool value_is_true(const struct json_value *v)
{
    switch (json_kind(v)) {
    case JSON_BOOL:
        return json_bool(v);
    case JSON_NUMBER:
        return fabs(json_double(v)) > 0;
    case JSON_STRING:
        return json_string(v).size > 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_count(v) > 0;
    default:
        return false;
    }
}

// ------------------------------------------------------------------------------ Gemma's notation

static void write_string(const struct notation *n, struct slice text)
{
    pieces_add(n->out, QUOTE_MARKER);
    pieces_add_user(n->out, text);
    pieces_add(n->out, QUOTE_MARKER);
}

static void write_key(const struct notation *n, struct slice key)
{
    if (n->quotes_keys) {
        write_string(n, key);
    } else {
        pieces_add_user(n->out, key);
    }
    pieces_add(n->out, ":");
}

static int write_scalar(const struct notation *n, const struct json_value *v,
                        struct carat_error *err)
{
    struct buf number = {0};
    int rc = 0;
    switch (json_kind(v)) {
    case JSON_STRING:
        write_string(n, json_string(v));
        break;
    case JSON_BOOL:
        pieces_add(n->out, json_bool(v) ? "true" : "false");
        break;
    case JSON_NUMBER:
        print_number(&number, v);
        rc = buf_status(&number, err);
        pieces_add(n->out, buf_text(&number));
        break;
    default:
        pieces_add(n->out, n->has_null ? "null" : "None");
        break;
    }
    buf_release(&number);
    return rc;
}

static int open_level(struct level *level, const struct json_value *v, struct carat_error *err)
{
    *level = (struct level){.is_object = json_kind(v) == JSON_OBJECT};
    if (level->is_object) {
        return members_sorted(&level->members, &level->n, v, err);
    }
    level->it = json_iter(v);
    level->n = json_count(v);
    return 0;
}

// Writes what stands before the next value of the innermost level and returns that value; NULL at
// the level's end.
static const struct json_value *next_value(const struct notation *n, struct level *level)
{
    if (level->i == level->n) {
        return NULL;
    }
    pieces_add(n->out, level->i ? "," : "");
    size_t i = level->i++;
    if (level->is_object) {
        write_key(n, level->members[i].key);
        return level->members[i].value;
    }
    return json_next(&level->it) ? level->it.value : NULL;
}

int notation_write(const struct notation *n, const struct json_value *v, struct carat_error *err)
{
    size_t depth = 0;
    struct level *levels = NULL;
    int rc = 0;
    if (json_kind(v) != JSON_ARRAY && json_kind(v) != JSON_OBJECT) {
        return write_scalar(n, v, err);
    }
    levels = mem_new_array(JSON_DEPTH_MAX + 1, sizeof(*levels), err);
    if (!levels) {
        return CARAT_E_MEMORY;
    }
    for (const struct json_value *now = v;;) {
        enum json_kind kind = json_kind(now);
        if (kind == JSON_ARRAY || kind == JSON_OBJECT) {
            require(depth <= JSON_DEPTH_MAX);
            pieces_add(n->out, kind == JSON_OBJECT ? "{" : "[");
            rc = open_level(&levels[depth], now, err);
            if (rc) {
                goto out;
            }
            depth++;
        } else {
            rc = write_scalar(n, now, err);
            if (rc) {
                goto out;
            }
        }
        while (depth && !(now = next_value(n, &levels[depth - 1]))) {
            depth--;
            pieces_add(n->out, levels[depth].is_object ? "}" : "]");
            mem_free(levels[depth].members);
        }
        if (!depth) {
            break;
        }
    }
out:
    while (depth) {
        mem_free(levels[--depth].members);
    }
    mem_free(levels);
    return rc;
}
