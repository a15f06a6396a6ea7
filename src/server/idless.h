// SPDX-License-Identifier: Apache-2.0
// Tool calls of clients that keep no ids: Ollama's never do, Gemini's only sometimes. A call is
// known again by its name and arguments, and a result finds its call by name and order.
#ifndef CARAT_SERVER_IDLESS_H
#define CARAT_SERVER_IDLESS_H

#include "server/content.h"

// Remembers what was sampled for a call of an answer under the id that idless_call makes for it.
void idless_remember(struct call *call, const struct answer_call *c);

// The calls of the newest message that had any, while a conversation is read.
struct idless_row {
    struct slice id;
    struct slice name;
    bool has_result;
};
struct idless {
    struct idless_row rows[CONTENT_CALLS_MAX];
    size_t n;
};
// A new message with calls begins.
void idless_begin(struct idless *t);
// content_call; arguments is an object, a string that holds one, or absent. id may be empty.
int idless_call(struct idless *t, struct content *c, struct slice id, struct slice name,
                const struct json_value *arguments, struct carat_error *err);
// content_answers; id and name may be empty: then it answers the first call of that name, or of
// any, that has no result yet.
int idless_answers(struct idless *t, struct content *c, struct slice id, struct slice name,
                   struct carat_error *err);

#endif
