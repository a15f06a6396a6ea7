// SPDX-License-Identifier: Apache-2.0
// Fields that several dialects read in the same way.
#include "server/fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "server/server.h"

// What a seed of 0 stands for: in the sampler 0 means a random one.
#define SEED_OF_ZERO 0x6361726174ull

bool field_is_given(const struct json_value *v)
{
    return json_kind(v) != JSON_ABSENT && json_kind(v) != JSON_NULL;
}

int field_refuse(const char *key, const char *expected, const struct json_value *found,
                 struct carat_error *err)
{
    return fail(err, CARAT_E_ARGUMENT, "%s: expected %s, found %s", key, expected,
                json_kind_name(json_kind(found)));
}

// Whether a text begins with the name of a field ("role: expected...").
static bool names_field(const char *text)
{
    size_t n = 0;
    while ((text[n] >= 'a' && text[n] <= 'z') || (text[n] >= 'A' && text[n] <= 'Z') ||
           (text[n] >= '0' && text[n] <= '9') || (text[n] && strchr("_.[]-$", text[n]))) {
        n++;
    }
    return n > 0 && text[n] == ':';
}

int field_in(int rc, struct carat_error *err, const char *format, ...)
{
    if (rc && err) {
        char place[200];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(place, sizeof(place), format, arguments);
        va_end(arguments);
        struct carat_error inner = *err;
        (void)fail(err, inner.status, "%s%s%s", place, names_field(inner.text) ? "." : ": ",
                   inner.text);
    }
    return rc;
}

int field_string(const struct json_value *object, const char *key, struct slice *out,
                 struct carat_error *err)
{
    const struct json_value *v = json_get(object, key);
    if (json_kind(v) != JSON_STRING) {
        return field_refuse(key, "a string", v, err);
    }
    *out = json_string(v);
    return 0;
}

int field_object(const struct json_value *object, const char *key, const struct json_value **out,
                 struct carat_error *err)
{
    *out = json_get(object, key);
    return json_kind(*out) == JSON_OBJECT ? 0 : field_refuse(key, "an object", *out, err);
}

int field_limit(const struct json_value *object, const char *key, size_t *out,
                struct carat_error *err)
{
    double x = (double)*out;
    if (!field_is_given(json_get(object, key))) {
        return 0;
    }
    int rc = ask_number(object, key, -2147483648.0, (double)FIELDS_TOKENS_MAX, &x, err);
    if (!rc && x >= 1) {
        *out = (size_t)x;
    }
    return rc;
}

int field_seed(struct call *call, const struct json_value *object, const char *key,
               struct carat_error *err)
{
    const struct json_value *v = json_get(object, key);
    if (!field_is_given(v)) {
        return 0;
    }
    int64_t n = 0;
    uint64_t seed = 0;
    if (json_i64(v, &n)) {
        seed = n < 0 ? 0 : n == 0 ? SEED_OF_ZERO : (uint64_t)n;
    } else if (!json_u64(v, &seed)) {
        return field_refuse(key, "a whole number of 64 bits", v, err);
    }
    call->ask.sampling.seed = seed;
    return 0;
}

int field_stops(struct call *call, const struct json_value *v, const char *name,
                struct carat_error *err)
{
    struct ask *ask = &call->ask;
    int rc = ask_strings(call, v, name, FIELDS_STOPS_MAX, &ask->stops, &ask->n_stops, err);
    size_t n = 0;
    for (size_t i = 0; !rc && i < ask->n_stops; i++) {
        if (ask->stops[i][0]) {
            ask->stops[n++] = ask->stops[i];
        }
    }
    ask->n_stops = rc ? ask->n_stops : n;
    return rc;
}

int field_schema(struct call *call, const struct json_value *schema, struct carat_error *err)
{
    size_t size_max = call->server->options->schema_size_max;
    const char *text = call_json(call, schema, err);
    if (!text) {
        return CARAT_E_MEMORY;
    }
    if (size_max && strlen(text) > size_max) {
        return fail(err, CARAT_E_FULL, "a schema of %zu bytes: expected at most %zu", strlen(text),
                    size_max);
    }
    call->ask.grammar.json_schema = text;
    call->ask.has_grammar = true;
    return 0;
}

int field_model(struct call *call, struct slice name, struct carat_error *err)
{
    if (!name.size) {
        return 0;
    }
    const char *copy = call_text(call, name, err);
    call->model = copy ? copy : call->model;
    return copy ? 0 : CARAT_E_MEMORY;
}

void field_write_token(const struct call *call, carat_token token, struct buf *out)
{
    size_t size = 0;
    const char *text = carat_token_text(call->server->engine, token, &size);
    buf_add_json(out, text ? text : "", size);
}

void field_write_time(int64_t seconds, struct buf *out)
{
    time_t t = (time_t)seconds;
    struct tm parts;
    char text[40] = "1970-01-01T00:00:00Z";
    if (gmtime_r(&t, &parts)) {
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    buf_addf(out, "\"%s\"", text);
}
