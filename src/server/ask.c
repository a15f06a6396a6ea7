// SPDX-License-Identifier: Apache-2.0
// Reading the fields of a request: typed, within bounds, with errors that name the field.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "server/call.h"

// Whether there is anything to read.
static bool is_given(const struct json_value *v)
{
    return json_kind(v) != JSON_ABSENT && json_kind(v) != JSON_NULL;
}

static int fail_kind(const char *key, const char *expected, const struct json_value *v,
                     struct carat_error *err)
{
    return fail(err, CARAT_E_ARGUMENT, "%s: expected %s, found %s", key, expected,
                json_kind_name(json_kind(v)));
}

int ask_number(const struct json_value *object, const char *key, double min, double max,
               double *out, struct carat_error *err)
{
    const struct json_value *v = json_get(object, key);
    if (!is_given(v)) {
        return 0;
    }
    double x = json_double(v);
    if (json_kind(v) != JSON_NUMBER) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a number from %g to %g, found %s", key,
                    min, max, json_kind_name(json_kind(v)));
    }
    if (!isfinite(x) || x < min || x > max) {
        struct slice text = json_number_text(v);
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a number from %g to %g, found %.*s", key,
                    min, max, (int)(text.size < 40 ? text.size : 40), text.data);
    }
    *out = x;
    return 0;
}

int ask_float(const struct json_value *object, const char *key, double min, double max, float *out,
              struct carat_error *err)
{
    double x = (double)*out;
    int rc = ask_number(object, key, min, max, &x, err);
    if (rc == 0 && is_given(json_get(object, key))) {
        *out = (float)x;
    }
    return rc;
}

int ask_size(const struct json_value *object, const char *key, size_t min, size_t max, size_t *out,
             struct carat_error *err)
{
    const struct json_value *v = json_get(object, key);
    if (!is_given(v)) {
        return 0;
    }
    // Some clients write whole numbers as 16.0 or 1e3.
    double x = json_double(v);
    bool is_whole = json_kind(v) == JSON_NUMBER && isfinite(x) && floor(x) == x;
    uint64_t exact = 0;
    if (is_whole && !json_u64(v, &exact)) {
        is_whole = x >= 0 && x < 0x1p53;
        exact = is_whole ? (uint64_t)x : 0;
    }
    if (!is_whole || exact < min || exact > max) {
        struct slice text = json_number_text(v);
        bool is_number = json_kind(v) == JSON_NUMBER;
        struct slice found = is_number ? text : slice_of(json_kind_name(json_kind(v)));
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: expected a whole number from %zu to %zu, found %.*s", key, min, max,
                    (int)(found.size < 40 ? found.size : 40), found.data);
    }
    *out = (size_t)exact;
    return 0;
}

int ask_bool(const struct json_value *object, const char *key, bool *out, struct carat_error *err)
{
    const struct json_value *v = json_get(object, key);
    if (!is_given(v)) {
        return 0;
    }
    if (json_kind(v) != JSON_BOOL) {
        return fail_kind(key, "true or false", v, err);
    }
    *out = json_bool(v);
    return 0;
}

int ask_string(const struct json_value *object, const char *key, struct slice *out,
               struct carat_error *err)
{
    const struct json_value *v = json_get(object, key);
    if (!is_given(v)) {
        return 0;
    }
    if (json_kind(v) != JSON_STRING) {
        return fail_kind(key, "a string", v, err);
    }
    *out = json_string(v);
    return 0;
}

int ask_strings(struct call *call, const struct json_value *v, const char *name, size_t n_max,
                const char ***out, size_t *n, struct carat_error *err)
{
    if (!is_given(v)) {
        return 0;
    }
    bool is_list = json_kind(v) == JSON_ARRAY;
    size_t count = is_list ? json_count(v) : 1;
    if (!is_list && json_kind(v) != JSON_STRING) {
        return fail_kind(name, "a string or a list of strings", v, err);
    }
    if (count > n_max) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected at most %zu strings, found %zu", name,
                    n_max, count);
    }
    const char **list = call_take(call, (count + 1) * sizeof(*list), err);
    if (!list) {
        return CARAT_E_MEMORY;
    }
    if (!is_list) {
        list[0] = call_text(call, json_string(v), err);
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(is_list ? v : NULL); json_next(&it); i++) {
        if (json_kind(it.value) != JSON_STRING) {
            return fail(err, CARAT_E_ARGUMENT, "%s[%zu]: expected a string, found %s", name, i,
                        json_kind_name(json_kind(it.value)));
        }
        list[i] = call_text(call, json_string(it.value), err);
        if (!list[i]) {
            return CARAT_E_MEMORY;
        }
    }
    if (count > 0 && !list[0]) {
        return CARAT_E_MEMORY;
    }
    *out = list;
    *n = count;
    return 0;
}
