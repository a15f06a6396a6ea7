// SPDX-License-Identifier: Apache-2.0
// A server without HTTP, for requests that come from this program itself: the same dialects, queue
// and rounds, and so the same answers. One thread gives requests and takes answers.
#ifndef CARAT_SERVER_LOCAL_H
#define CARAT_SERVER_LOCAL_H

#include "server/http.h"
#include "server/serve.h"

struct local_answer {
    void *user; // as it was given with the request
    int status; // as over HTTP
    struct buf body;
    char request_id[40];
    struct http_figures figures;
};

struct local;
// The options that concern HTTP mean nothing here. They and the engine must outlive it.
int local_open(struct local **out, const struct serve_options *options, struct carat_error *err);
// Whether requests to this path of the HTTP API are answered here.
bool local_knows(const char *path);
// Takes the body over, whatever comes of it; every request that was taken gets its answer. At most
// options->queue_max may be on their way.
int local_ask(struct local *l, const char *path, struct buf *body, void *user,
              struct carat_error *err);
// The next answer, in the order in which they are complete; false when none is there for that long.
// The caller releases the body.
bool local_next(struct local *l, int milliseconds, struct local_answer *out);
// Requests whose answers were not taken yet.
size_t local_pending(struct local *l);
// What has not begun will not: it gets status 503. Answers on their way are finished: take them.
void local_end(struct local *l);
void local_close(struct local *l); // cuts what is left; takes NULL

#endif
