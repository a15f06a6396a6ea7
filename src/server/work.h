// SPDX-License-Identifier: Apache-2.0
// A call with what its makers need and dialects do not see. It has one owner at a time: the HTTP
// thread that makes it, a worker, the engine thread; who has it ends it.
#ifndef CARAT_SERVER_WORK_H
#define CARAT_SERVER_WORK_H

#include "server/queue.h"
#include "server/server.h"

struct compiled; // compiled.h

struct work {
    struct call call;              // first: a call is the beginning of its work
    struct carat_prompt **prompts; // [n_prompts]
    size_t n_prompts;
    struct compiled *compiled; // the grammar, or NULL
    struct job *jobs;          // [n_jobs], prompt by prompt, choice by choice
    size_t n_jobs;
    size_t n_begun; // jobs that got a slot
    size_t n_ended;
    double submitted; // os_seconds() of these
    double first_slot;
    double first_token;
    double last_token;
    double deadline;   // 0: none
    double last_sent;  // of a stream
    bool has_begun;    // the stream's headers went out
    bool is_cut;       // ended by its time limit: what is there is the answer
    bool is_cancelled; // nobody reads the answer: its jobs end, nothing is sent
    int failed;        // HTTP status of the error below; 0: none
    struct carat_error error;
    struct work *next; // in the list of its owner
};
struct work *work_of(struct call *call);
// The prefix and 24 letters and digits that nobody guesses.
void call_make_id(char out[40], const char *prefix);

// Ends a call in one of these ways and frees it.
void work_answer(struct work *w); // the whole answer, or the end of the stream
// retry_after: seconds, 0: none.
void work_fail(struct work *w, int status, const struct carat_error *error, size_t retry_after);
void work_refuse(struct work *w, const struct carat_error *error); // too much to do; ending soon
void work_cancel(struct work *w);                                  // the client is gone
void work_free(struct work *w); // takes NULL; after the reply has ended

// A stream: its headers and what the dialect writes before the first event; later pieces. False:
// the client is gone or too slow.
bool work_begin(struct work *w);
bool work_send(struct work *w, const struct buf *piece);

// Parses the body, decodes media, makes prompts, grammar and jobs. On a worker.
int work_prepare(struct work *w, struct carat_error *err);

// The threads that do it, and the calls that wait for them.
struct workers;
int workers_new(struct workers **out, struct server *server, struct carat_error *err);
int workers_give(struct workers *workers, struct work *w, struct carat_error *err); // CARAT_E_FULL
size_t workers_busy(struct workers *workers);    // calls that wait for one or are with one
void workers_count_out(struct workers *workers); // one of these is with the queue now
// Ends the threads and refuses what waits. What is with the queue may still need the workers'
// tables: free them after it.
void workers_stop(struct workers *workers);
void workers_free(struct workers *workers); // takes NULL

#endif
