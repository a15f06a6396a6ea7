// SPDX-License-Identifier: Apache-2.0
// HTTP: the one door to libmicrohttpd. One thread polls all connections, checks what it can from
// the headers (guard.h), gathers the body up to a limit, and then hands the request over. Nothing
// slow happens on that thread: a connection that waits is suspended until its reply gets data.
#ifndef CARAT_SERVER_HTTP_H
#define CARAT_SERVER_HTTP_H

#include "base/str.h"

// A request whose body is there. Lives until its reply has ended.
struct http_request {
    const char *method; // "GET", ...
    const char *path;   // without the query, percent-decoded
    struct slice body;
    const char *content_type; // "" when absent
    const char *client;       // address, for the log
    char id[40];              // X-Request-Id as sent (if harmless), else made up
    char traceparent[56];     // as sent and well-formed, or ""
    // For CORS: set by the check, sent with the answer; NULL: not sent. Must outlive the server.
    const char *allow_origin;
    double seconds_max; // how long the client lets its request take; 0: it does not say
    bool is_head;       // HEAD: method says GET, and the body of the answer is left off
    // For the log and whoever else looks at a request when it is over: http_reply_figures.
    struct http_figures {
        bool are_set;
        uint64_t prompt_tokens, cached_tokens, answer_tokens;
        char note[200]; // something ignored, a stop reason: one line
    } figures;
};
const char *http_header(const struct http_request *r, const char *name); // NULL: absent
const char *http_query(const struct http_request *r, const char *name); // ?name=value; NULL: absent

// Where an answer goes (reply.h). Thread-safe: any thread may answer, at any time. Exactly one of
// http_reply_all and (http_reply_begin, http_reply_send..., http_reply_end) is used; after all/end
// both request and reply are gone for the caller.
struct http_reply;

// name: value pairs beside Content-Type and what every answer has; ends with NULL.
typedef const char *const *http_headers;

void http_reply_all(struct http_reply *reply, int status, const char *content_type,
                    http_headers headers, const void *data, size_t size);
// The answer comes in pieces, chunked.
void http_reply_begin(struct http_reply *reply, int status, const char *content_type,
                      http_headers headers);
// Copies the bytes; false when the client is gone, or so slow that too much is waiting for it: then
// nothing more needs to be made, but http_reply_end must still be called.
bool http_reply_send(struct http_reply *reply, const void *data, size_t size);
void http_reply_end(struct http_reply *reply);
// Whether the client went away while it waited: looked up on its socket, cheap enough for each
// step.
bool http_reply_is_gone(struct http_reply *reply);
struct http_request *http_reply_request(struct http_reply *reply);
// Tokens of the call this answers, for its line in the log. Before all or end.
void http_reply_figures(struct http_reply *reply, const struct http_figures *figures);

struct http_options {
    const char *host;               // address to listen on; "" is 127.0.0.1
    uint16_t port;                  // 0: any free one
    const char *tls_cert, *tls_key; // PEM files; NULL: plain HTTP
    size_t connections_max;
    size_t connections_per_client_max; // 0: no limit
    size_t header_size_max;
    size_t body_size_max;
    double header_seconds; // from the request's first line to the end of the headers
    double body_seconds;   // from there to the end of the body
    double idle_seconds;   // between requests
    // Called on the polling thread when the headers are there, before the body is read: true to go
    // on; false when it has answered, at once and by http_reply_all.
    bool (*check)(void *user, struct http_request *request, struct http_reply *reply);
    // Answers what this room itself refuses: broken requests (400), too large ones (413), when
    // there is no memory (503). By http_reply_all; the connection is closed after it.
    void (*refuse)(void *user, struct http_request *request, struct http_reply *reply, int status,
                   const char *text);
    // Called on the polling thread when all is there. Must not block; owns the reply.
    void (*handle)(void *user, struct http_request *request, struct http_reply *reply);
    // After the answer is complete or the client gone (status 499), and its maker is done with it.
    // Called on any thread.
    void (*done)(void *user, const struct http_request *request, int status, uint64_t bytes,
                 double seconds);
    void *user;
};

struct http;
int http_start(struct http **out, const struct http_options *options, struct carat_error *err);
uint16_t http_port(const struct http *h);
size_t http_connections(const struct http *h);
bool http_has_tls(void); // whether this build of the library can
// No new connections; those that are there may end. Then http_stop.
void http_quiesce(struct http *h);
// Waits for answers on their way, at most that long.
void http_flush(struct http *h, double seconds);
void http_stop(struct http *h); // cuts what is left; takes NULL

#endif
