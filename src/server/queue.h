// SPDX-License-Identifier: Apache-2.0
// From parsed calls to decode rounds: one engine thread owns all sessions (slots). Each round takes
// a piece of each prompt that is being read and one token of each answer that is being written,
// evaluated together. Fair: pieces of long prompts are kept so short that running streams go on.
#ifndef CARAT_SERVER_QUEUE_H
#define CARAT_SERVER_QUEUE_H

#include "server/call.h"

// One prompt of a call with its choice, ready for the engine. Made by a worker.
struct job {
    struct call *call;
    size_t i_answer; // into call->answers
    size_t choice;
    struct carat_prompt *prompt; // shared among the choices of a call; owned by the call
    const struct carat_grammar *grammar;
};

struct queue;
struct work;
// Makes the sessions, the workers and the engine thread.
int queue_new(struct queue **out, struct server *server, struct carat_error *err);
// A call as it came: the workers parse it. CARAT_E_FULL when too many wait, CARAT_E_STOPPED when
// the server is about to end; the call is then still the caller's.
int queue_give(struct queue *q, struct work *w, struct carat_error *err);
// Gives a call with all its jobs. Errors as above. After this the queue answers.
int queue_submit(struct queue *q, struct work *w, struct carat_error *err);
struct queue_state {
    size_t n_waiting, n_running, n_slots;
    double cache_use;    // share of the slots' positions in use, 0 to 1
    double seconds_left; // a guess when the next slot gets free, for Retry-After
};
// Most tokens of a prompt and its answer together.
size_t queue_context_max(const struct queue *q);
void queue_state(struct queue *q, struct queue_state *out);
// No new calls, and those that wait are refused; running ones go on.
void queue_end(struct queue *q);
// The same; returns when the running ones ended or the time is over, then cuts them.
void queue_drain(struct queue *q, double seconds);
// What sessions hold goes to the cache's folder. Takes NULL.
void queue_free(struct queue *q);

#endif
