// SPDX-License-Identifier: Apache-2.0
// JSON values in Gemma's notation, and as Python prints and sorts them, which the published chat
// templates rely on (docs/chat.md).
#ifndef CARAT_CHAT_NOTATION_H
#define CARAT_CHAT_NOTATION_H

#include "chat/pieces.h"
#include "formats/json.h"

#define QUOTE_MARKER "<|\"|>"

// The members of an object, as Jinja's dictsort gives them: by key without regard to case, in
// stable order; of a repeated key the last value counts. An array of n, freed with mem_free.
struct member {
    struct slice key;
    const struct json_value *value;
    size_t order;
};
int members_sorted(struct member **out, size_t *n, const struct json_value *object,
                   struct carat_error *err);

// The member of this name, the last one where it is repeated; NULL when there is none or v is no
// object.
const struct json_value *value_member(const struct json_value *v, const char *key);
bool value_is_true(const struct json_value *v); // as Python sees it: empty, 0 and null are false
void value_print(struct buf *out, const struct json_value *v); // str(v); nothing when absent

// Writes a value in Gemma's notation: <|"|>text<|"|>, {key:value,...}, [value,...].
struct notation {
    struct pieces *out;
    bool quotes_keys; // keys stand in <|"|> as well
    bool has_null;    // null is "null"; in older templates "None"
};
int notation_write(const struct notation *n, const struct json_value *v, struct carat_error *err);

#endif
