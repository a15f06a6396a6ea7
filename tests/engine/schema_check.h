// SPDX-License-Identifier: Apache-2.0
// A validator of JSON values, written for the tests from the specification of JSON Schema (draft
// 2020-12) and independent of the grammars: it looks at values, not at text. Of formats and
// patterns it knows nothing.
#ifndef CARAT_TESTS_SCHEMA_CHECK_H
#define CARAT_TESTS_SCHEMA_CHECK_H

#include "formats/json.h"

bool schema_accepts(const struct json_value *root, const struct json_value *schema,
                    const struct json_value *value);

#endif
