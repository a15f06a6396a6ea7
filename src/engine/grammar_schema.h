// SPDX-License-Identifier: Apache-2.0
// JSON Schemas to rules of a program. docs/grammars.md lists the keywords.
#ifndef CARAT_ENGINE_GRAMMAR_SCHEMA_H
#define CARAT_ENGINE_GRAMMAR_SCHEMA_H

#include "engine/grammar_program.h"
#include "formats/json.h"

#define SCHEMA_SIZE_MAX     ((size_t)1 << 20) // bytes of its text
#define SCHEMA_DEPTH_MAX    48u               // of allOf, anyOf, oneOf, $ref inside each other
#define SCHEMA_ITEMS_MAX    4096u             // in minItems, maxItems and prefixItems
#define SCHEMA_OPTIONS_MAX  4096u             // ways to choose among anyOf and oneOf in one place
#define SCHEMA_PATTERNS_MAX 4u                // patternProperties of one object

struct schema_options {
    const char *name;  // what errors call it
    bool is_call;      // Gemma's notation of values; otherwise JSON
    bool is_lenient;   // keywords that cannot be honoured are passed over
    bool needs_object; // whatever it says, the value is an object
};
// Draws what the schema allows as *rule, and the rules that it calls.
int schema_draw(struct program *program, const struct json_value *schema,
                const struct schema_options *options, uint32_t *rule, struct carat_error *err);

#endif
