// SPDX-License-Identifier: Apache-2.0
// One answer in the making: its sampler, its parser, and where its events go. Knows nothing of
// sessions and slots, so that an answer cannot depend on them.
#ifndef CARAT_SERVER_CHOICE_H
#define CARAT_SERVER_CHOICE_H

#include "server/work.h"

// The control tokens that matter here; CARAT_TOKEN_NONE where the vocabulary has none.
struct choice_markers {
    carat_token thought_open, thought_close, call_open, call_close;
};
void choice_find_markers(struct choice_markers *out, const struct carat_engine *engine);

struct choice;
int choice_new(struct choice **out, const struct job *job, const struct choice_markers *markers,
               struct carat_error *err);
// Picks the next token from the logits and hands on the events that it brings; *token is to be
// evaluated next, or CARAT_TOKEN_NONE when the answer has ended. has_room: another token fits the
// context.
int choice_pick(struct choice *c, const float *logits, bool has_room, carat_token *token,
                struct carat_error *err);
// Ends the answer here. Nothing happens when it has ended already.
int choice_finish(struct choice *c, enum carat_stop why, struct carat_error *err);
void choice_free(struct choice *c); // takes NULL

#endif
