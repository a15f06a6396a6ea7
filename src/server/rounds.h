// SPDX-License-Identifier: Apache-2.0
// What the engine thread does: slots with sessions, calls that wait for one, rounds of decoding.
// All of it belongs to that one thread.
#ifndef CARAT_SERVER_ROUNDS_H
#define CARAT_SERVER_ROUNDS_H

#include "server/work.h"

struct rounds;
// wake is called on any thread when there is something to do for rounds_run after a wait.
int rounds_new(struct rounds **out, struct server *server, void (*wake)(void *user), void *user,
               struct carat_error *err);
size_t rounds_context_max(const struct rounds *r);
void rounds_add(struct rounds *r, struct work *w); // the last in line; owns it from now on
// One round: who is gone or late is let go, free slots are given away, every answer gets a token,
// prompts are read a piece further, what is complete is sent.
void rounds_run(struct rounds *r);
size_t rounds_calls(const struct rounds *r); // that are not over
// Whether nothing can be evaluated until the disk has done something, or a call is added.
bool rounds_waits(const struct rounds *r);
// Fails those that have no slot yet, or all.
void rounds_refuse(struct rounds *r, bool also_running, const struct carat_error *error);
void rounds_state(const struct rounds *r, struct queue_state *out);
void rounds_free(struct rounds *r); // without calls; sessions go to the cache's folder; takes NULL

#endif
