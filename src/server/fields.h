// SPDX-License-Identifier: Apache-2.0
// Fields that several dialects read in the same way, beside those of call.h.
#ifndef CARAT_SERVER_FIELDS_H
#define CARAT_SERVER_FIELDS_H

#include "server/call.h"

#define FIELDS_STOPS_MAX  64
#define FIELDS_TOKENS_MAX ((size_t)1 << 31)
#define FIELDS_SHOWN      40 // bytes of a client's word that an error repeats

bool field_is_given(const struct json_value *v); // neither absent nor null
// "key: expected a list, found a string"
int field_refuse(const char *key, const char *expected, const struct json_value *found,
                 struct carat_error *err);
// Puts the place of an object, printed like printf, before an error about one of its fields:
// "messages[0]" and "role: expected ..." become "messages[0].role: expected ...". Returns rc, and
// does nothing when that is 0.
int field_in(int rc, struct carat_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Of an object, and it must be there.
int field_string(const struct json_value *object, const char *key, struct slice *out,
                 struct carat_error *err);
int field_object(const struct json_value *object, const char *key, const struct json_value **out,
                 struct carat_error *err);
// A number of tokens; below 1 (as -1 for "no limit") and absent leave *out alone.
int field_limit(const struct json_value *object, const char *key, size_t *out,
                struct carat_error *err);
// Into sampling.seed: 0 is a seed like any other; negative numbers ask for a random one.
int field_seed(struct call *call, const struct json_value *object, const char *key,
               struct carat_error *err);
// Into ask.stops, without empty ones.
int field_stops(struct call *call, const struct json_value *v, const char *name,
                struct carat_error *err);
// The JSON Schema that the answer's text must fit.
int field_schema(struct call *call, const struct json_value *schema, struct carat_error *err);
// What the client calls the model; empty leaves the server's own name.
int field_model(struct call *call, struct slice name, struct carat_error *err);

// A token's text as a JSON string.
void field_write_token(const struct call *call, carat_token token, struct buf *out);
// A Unix time as RFC 3339 has it, in quotes.
void field_write_time(int64_t seconds, struct buf *out);

#endif
