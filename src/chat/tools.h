// SPDX-License-Identifier: Apache-2.0
// Tool declarations: from JSON in the OpenAI form to what stands in the system turn.
#ifndef CARAT_CHAT_TOOLS_H
#define CARAT_CHAT_TOOLS_H

#include "chat/notation.h"

// What differs among the template versions.
struct tools_style {
    bool has_null;            // as in struct notation
    bool drops_keyword_names; // parameters named like schema keywords (type, required, ...) are
                              // left out
    bool has_early_nullable;  // older order of a property's fields, with its misplaced commas
};
// Appends <|tool>declaration:...<tool|> for each tool of a JSON array; null and [] give nothing.
int tools_write(struct pieces *out, const struct json_value *tools, struct tools_style style,
                struct carat_error *err);

#endif
