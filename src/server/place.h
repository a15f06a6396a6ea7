// SPDX-License-Identifier: Apache-2.0
// Where in a request something stands that the grammar's compiler found fault with.
#ifndef CARAT_SERVER_PLACE_H
#define CARAT_SERVER_PLACE_H

#include "server/call.h"

// An error of carat_grammar_new names its options ("json_schema: #/properties/x/pattern: ..."):
// puts the request's own path in place of that, as far as it is found in the body
// ("response_format.json_schema.schema.properties.x.pattern: ...").
void place_in_request(const struct call *call, struct carat_error *err);

#endif
