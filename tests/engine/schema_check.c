// SPDX-License-Identifier: Apache-2.0
#include "schema_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number(const struct json_value *v, double otherwise)
{
    return json_kind(v) == JSON_NUMBER ? json_double(v) : otherwise;
}

static bool has_type(const struct json_value *v, struct slice type)
{
    static const char *const names[] = {"",       "null",  "boolean", "number",
                                        "string", "array", "object"};
    if (slice_is(type, "integer")) {
        return json_kind(v) == JSON_NUMBER && json_double(v) == floor(json_double(v));
    }
    return slice_is(type, names[json_kind(v)]);
}

static bool is_same(const struct json_value *a, const struct json_value *b)
{
    struct buf x = {0};
    struct buf y = {0};
    json_write(a, &x);
    json_write(b, &y);
    const bool same = x.size == y.size && !memcmp(buf_text(&x), buf_text(&y), x.size);
    buf_release(&x);
    buf_release(&y);
    return same;
}

static bool is_one_of(const struct json_value *list, const struct json_value *v)
{
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        if (is_same(it.value, v)) {
            return true;
        }
    }
    return false;
}

static bool fits_type(const struct json_value *schema, const struct json_value *v)
{
    const struct json_value *type = json_get(schema, "type");
    if (json_kind(type) == JSON_STRING) {
        return has_type(v, json_string(type));
    }
    bool fits = type == NULL;
    for (struct json_iter it = json_iter(type); json_next(&it);) {
        fits = fits || has_type(v, json_string(it.value));
    }
    return fits;
}

static bool fits_number(const struct json_value *schema, const struct json_value *v)
{
    const double x = json_double(v);
    const double multiple = number(json_get(schema, "multipleOf"), 0);
    return x >= number(json_get(schema, "minimum"), -HUGE_VAL) &&
           x <= number(json_get(schema, "maximum"), HUGE_VAL) &&
           x > number(json_get(schema, "exclusiveMinimum"), -HUGE_VAL) &&
           x < number(json_get(schema, "exclusiveMaximum"), HUGE_VAL) &&
           (multiple == 0 || fmod(x, multiple) == 0);
}

static bool fits_string(const struct json_value *schema, const struct json_value *v)
{
    const struct slice text = json_string(v);
    double n = 0;
    for (size_t i = 0; i < text.size; i++) {
        n += ((uint8_t)text.data[i] & 0xC0) != 0x80;
    }
    return n >= number(json_get(schema, "minLength"), 0) &&
           n <= number(json_get(schema, "maxLength"), HUGE_VAL);
}

static bool fits_array(const struct json_value *root, const struct json_value *schema,
                       const struct json_value *v)
{
    const struct json_value *items = json_get(schema, "items");
    struct json_iter first = json_iter(json_get(schema, "prefixItems"));
    const double n = (double)json_count(v);
    if (n < number(json_get(schema, "minItems"), 0) ||
        n > number(json_get(schema, "maxItems"), HUGE_VAL)) {
        return false;
    }
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        const struct json_value *own = json_next(&first) ? first.value : items;
        if (own && !schema_accepts(root, own, it.value)) {
            return false;
        }
    }
    return true;
}

static bool fits_object(const struct json_value *root, const struct json_value *schema,
                        const struct json_value *v)
{
    const struct json_value *properties = json_get(schema, "properties");
    const struct json_value *others = json_get(schema, "additionalProperties");
    for (struct json_iter it = json_iter(json_get(schema, "required")); json_next(&it);) {
        if (!json_getn(v, json_string(it.value))) {
            return false;
        }
    }
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        const struct json_value *own = json_getn(properties, it.key);
        own = own ? own : others;
        if (own && !schema_accepts(root, own, it.value)) {
            return false;
        }
    }
    return true;
}

static size_t count_fitting(const struct json_value *root, const struct json_value *list,
                            const struct json_value *v)
{
    size_t n = 0;
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        n += schema_accepts(root, it.value, v);
    }
    return n;
}

static const struct json_value *look_up(const struct json_value *root, struct slice ref)
{
    const struct slice prefix = slice_of("#/$defs/");
    if (ref.size < prefix.size) {
        return root;
    }
    return json_getn(json_get(root, "$defs"),
                     slice_make(ref.data + prefix.size, ref.size - prefix.size));
}

bool schema_accepts(const struct json_value *root, const struct json_value *schema,
                    const struct json_value *v)
{
    if (json_kind(schema) == JSON_BOOL) {
        return json_bool(schema);
    }
    const struct json_value *ref = json_get(schema, "$ref");
    const struct json_value *any = json_get(schema, "anyOf");
    const struct json_value *all = json_get(schema, "allOf");
    const struct json_value *one = json_get(schema, "const");
    const struct json_value *list = json_get(schema, "enum");
    if ((ref && !schema_accepts(root, look_up(root, json_string(ref)), v)) ||
        (any && count_fitting(root, any, v) == 0) ||
        (all && count_fitting(root, all, v) < json_count(all)) || (one && !is_same(one, v)) ||
        (list && !is_one_of(list, v)) || !fits_type(schema, v)) {
        return false;
    }
    switch (json_kind(v)) {
    case JSON_NUMBER:
        return fits_number(schema, v);
    case JSON_STRING:
        return fits_string(schema, v);
    case JSON_ARRAY:
        return fits_array(root, schema, v);
    case JSON_OBJECT:
        return fits_object(root, schema, v);
    default:
        return true;
    }
}
