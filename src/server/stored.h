// SPDX-License-Identifier: Apache-2.0
// Answers that clients refer to later (`previous_response_id`, GET /v1/responses/{id}): a bounded
// table in memory; the ones that were not used for longest go first. Thread-safe.
#ifndef CARAT_SERVER_STORED_H
#define CARAT_SERVER_STORED_H

#include "base/str.h"

#define STORED_ID_SIZE 64

struct stored;
int stored_new(struct stored **out, size_t n_max, size_t bytes_max, struct carat_error *err);

// What is kept of one answer: JSON texts. Items are lists of objects without the brackets.
struct stored_answer {
    const char *id;
    const char *previous; // id of the answer it continues, or NULL
    struct slice response;
    struct slice input;  // items of the request
    struct slice output; // items of the answer
};
// Copies; forgets what does not fit. When the previous one is gone meanwhile, nothing is kept.
void stored_put(struct stored *s, const struct stored_answer *answer);

enum stored_part { STORED_RESPONSE, STORED_INPUT, STORED_OUTPUT };
// Appends the text (of items: a JSON list); false when the id is unknown.
bool stored_get(struct stored *s, struct slice id, enum stored_part part, struct buf *out);
// Appends the items of the whole conversation up to and with this answer, oldest first, as a list.
bool stored_conversation(struct stored *s, struct slice id, struct buf *out);
// What continues it keeps what it needs of it.
bool stored_delete(struct stored *s, struct slice id);
size_t stored_bytes(struct stored *s); // held now
void stored_free(struct stored *s);    // takes NULL

#endif
