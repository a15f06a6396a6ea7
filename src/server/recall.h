// SPDX-License-Identifier: Apache-2.0
// What the model sampled for each tool call, so that the next turn replays it byte for byte: a
// bounded table from call ids to texts; the oldest ones go first. Thread-safe.
#ifndef CARAT_SERVER_RECALL_H
#define CARAT_SERVER_RECALL_H

#include "base/str.h"

struct recall;
int recall_new(struct recall **out, size_t n_max, size_t bytes_max, struct carat_error *err);
void recall_put(struct recall *r, const char *id, const char *name, const char *arguments,
                const char *sampled); // forgets what does not fit
// Appends what was sampled; false when the id is unknown, or the name or (as JSON values) the
// arguments are no longer those of the call.
bool recall_get(struct recall *r, struct slice id, const char *name, const char *arguments,
                struct buf *out);
void recall_free(struct recall *r); // takes NULL

#endif
