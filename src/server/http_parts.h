// SPDX-License-Identifier: Apache-2.0
// What the files behind http.h share: the daemon, its connections, an exchange of request and
// reply.
#ifndef CARAT_SERVER_HTTP_PARTS_H
#define CARAT_SERVER_HTTP_PARTS_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "server/reply.h"

#define HTTP_PENDING_MAX ((size_t)8 << 20) // bytes of a stream that a slow client may leave waiting

// One connection, with the time by which something has to have happened on it.
struct http_client {
    struct http_client *previous, *next;
    int fd;
    double deadline;   // 0: none
    double idle_since; // 0: a request is on its way
    char address[64];
};

struct http_pair {
    const char *name;
    const char *value;
};

enum http_phase {
    HTTP_OPEN,   // no answer yet
    HTTP_WHOLE,  // one response with everything
    HTTP_STREAM, // a response whose pieces still come
    HTTP_ENDED,  // ... and these were the last
};

// A request and its reply. Two own it: the connection, until the daemon says that the request is
// over, and whoever answers, until it has.
struct http_exchange {
    struct http_reply reply; // first: a request is the beginning of its exchange
    struct http *http;
    struct http_exchange *previous, *next;
    struct http_client *client; // polling thread
    atomic_int n_owners;
    double started;
    // Filled by the polling thread while the request comes in.
    struct arena arena;
    struct http_pair *headers, *queries;
    size_t n_headers, n_queries;
    struct buf body;
    size_t body_seen; // bytes, those that were thrown away included
    bool is_refused;  // answered already: the body is read and thrown away
    bool is_handled;
    bool is_queued; // the daemon has the response
    bool is_cut;    // http_stop was here; under the lock of the list
    bool is_timed;  // the time for taking the answer runs
    bool closes;    // the connection ends with this answer

    pthread_mutex_t lock;              // guards all below
    struct MHD_Connection *connection; // NULL: over
    bool is_suspended;
    bool is_gone; // the client, or it is as good as gone
    enum http_phase phase;
    int status;
    struct MHD_Response *response;
    struct buf out; // of a stream, what waits to be sent
    size_t out_at;
    uint64_t n_bytes;
};

struct http {
    struct http_options options;
    struct MHD_Daemon *daemon;
    int listener; // -1: closed
    uint16_t port;
    struct buf tls_cert, tls_key;
    char library_error[300]; // the last the library said while it started
    atomic_size_t n_clients;
    atomic_size_t body_bytes; // of all bodies that are held
    atomic_bool is_stopping;
    atomic_int n_owners; // its maker, and every exchange

    pthread_t watcher;
    bool has_watcher;
    pthread_mutex_t lock; // guards the two lists, the deadlines in them, is_over, and options.done
    pthread_cond_t changed;
    struct http_client *clients;
    struct http_exchange *replies;
    bool is_over;
};

// Owned by two; NULL without memory.
struct http_exchange *http_exchange_new(struct http *h, struct MHD_Connection *connection);
void http_exchange_release(struct http_exchange *x, int n_owners);
// On the polling thread: hands the answer to the library, or suspends the connection until there is
// one.
enum MHD_Result http_exchange_advance(struct http_exchange *x);
// Its request is over for the library.
void http_exchange_close(struct http_exchange *x, bool is_complete);
// The server stops: nobody waits any longer.
void http_exchange_cut(struct http_exchange *x);
void http_release(struct http *h);
void http_set_deadline(struct http *h, struct http_client *client, double seconds);

#endif
