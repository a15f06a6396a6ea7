// SPDX-License-Identifier: Apache-2.0
// Answers: any thread fills them, the polling thread sends them. While there is nothing to send the
// connection is suspended, and the library does not look at it.
//
// The lock of a reply is taken inside the library's callbacks and around MHD_resume_connection,
// which only raises a flag there; nothing else is called with it held.

// POLLRDHUP.
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include "server/http_parts.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/os.h"

#define STATUS_GONE    499 // for the log: the client went before its answer was there
#define READER_BLOCK   4096
#define ANSWER_SECONDS 60.0    // in which a finished answer has to be taken,
#define ANSWER_RATE    16000.0 // and for each so many bytes a second more

// Closing the writing side means that nothing more is asked for: poll tells that apart from
// requests that wait. macOS tells of both sides at once.
#if defined(POLLRDHUP)
#define POLL_GONE (POLLRDHUP | POLLHUP | POLLERR)
#else
#define POLL_GONE (POLLHUP | POLLERR)
#endif

static struct http_exchange *exchange_of(struct http_reply *reply)
{
    return (struct http_exchange *)reply; // its first member
}

static void reply_unlink(struct http_exchange *r)
{
    struct http *h = r->http;
    pthread_mutex_lock(&h->lock);
    if (r->previous) {
        r->previous->next = r->next;
    } else {
        h->replies = r->next;
    }
    if (r->next) {
        r->next->previous = r->previous;
    }
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static void reply_tell(struct http_exchange *r)
{
    struct http *h = r->http;
    pthread_mutex_lock(&h->lock);
    void (*done)(void *, const struct http_request *, int, uint64_t, double) =
        h->is_over ? NULL : h->options.done;
    pthread_mutex_unlock(&h->lock);
    if (done) {
        done(h->options.user, &r->reply.request, r->is_gone ? STATUS_GONE : r->status, r->n_bytes,
             os_seconds() - r->started);
    }
}

void http_exchange_release(struct http_exchange *r, int n_owners)
{
    if (atomic_fetch_sub(&r->n_owners, n_owners) != n_owners) {
        return;
    }
    struct http *h = r->http;
    reply_tell(r);
    if (r->response) {
        MHD_destroy_response(r->response);
    }
    atomic_fetch_sub(&h->body_bytes, r->body.capacity);
    buf_release(&r->body);
    buf_release(&r->out);
    arena_release(&r->arena);
    pthread_mutex_destroy(&r->lock);
    reply_unlink(r);
    mem_free(r);
    http_release(h);
}

/* -------------------------------------------------------------------------------- headers */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (value && *value) {
        MHD_add_response_header(response, name, value); // fails only without memory
    }
}

static void add_headers(struct http_exchange *r, struct MHD_Response *response,
                        const char *content_type, http_headers headers)
{
    const struct http_request *q = &r->reply.request;
    add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    add_header(response, "X-Request-Id", q->id);
    add_header(response, "traceparent", q->traceparent);
    add_header(response, "X-Content-Type-Options", "nosniff");
    if (q->allow_origin) {
        add_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, q->allow_origin);
        add_header(response, MHD_HTTP_HEADER_VARY, "Origin");
        add_header(response, "Access-Control-Expose-Headers",
                   "X-Request-Id, X-Carat-Note, Retry-After");
    }
    bool has_caching = false;
    for (size_t i = 0; headers && headers[i]; i += 2) {
        add_header(response, headers[i], headers[i + 1]);
        has_caching = has_caching || strcmp(headers[i], MHD_HTTP_HEADER_CACHE_CONTROL) == 0;
    }
    if (!has_caching) {
        add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    }
    if (r->closes || atomic_load(&r->http->is_stopping)) {
        add_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
}

/* -------------------------------------------------------------------------------- the maker */

// With the lock held: the polling thread looks at the connection again.
static void wake(struct http_exchange *r)
{
    if (r->is_suspended) {
        r->is_suspended = false;
        MHD_resume_connection(r->connection);
    }
}

static void reply_all(struct http_reply *reply, int status, const char *content_type,
                      http_headers headers, const void *data, size_t size)
{
    struct http_exchange *r = exchange_of(reply);
    struct MHD_Response *response = MHD_create_response_from_buffer(
        size, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY); // which it does not change
    if (response) {
        add_headers(r, response, content_type, headers);
    }
    pthread_mutex_lock(&r->lock);
    require(r->phase == HTTP_OPEN);
    r->phase = HTTP_WHOLE;
    r->status = status;
    r->response = response;
    r->n_bytes = size;
    wake(r);
    pthread_mutex_unlock(&r->lock);
    http_exchange_release(r, 1);
}

// The library asks for the next piece of a stream, on the polling thread.
static ssize_t read_stream(void *user, uint64_t at, char *data, size_t size)
{
    struct http_exchange *r = user;
    ssize_t n = 0;
    (void)at;
    pthread_mutex_lock(&r->lock);
    size_t left = r->out.size - r->out_at;
    if (r->phase == HTTP_ENDED && !r->is_timed) {
        r->is_timed = true;
        http_set_deadline(r->http, r->client, ANSWER_SECONDS + (double)left / ANSWER_RATE);
    }
    if (r->is_gone) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (left > 0) {
        n = (ssize_t)(left < size ? left : size);
        memcpy(data, r->out.data + r->out_at, (size_t)n);
        r->out_at += (size_t)n;
        r->n_bytes += (uint64_t)n;
        if (r->out_at == r->out.size) {
            buf_clear(&r->out);
            r->out_at = 0;
        }
    } else if (r->phase == HTTP_ENDED) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (atomic_load(&r->http->is_stopping)) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        r->is_suspended = true;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}

static void reply_begin(struct http_reply *reply, int status, const char *content_type,
                        http_headers headers)
{
    struct http_exchange *r = exchange_of(reply);
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, READER_BLOCK, read_stream, r, NULL);
    if (response) {
        add_headers(r, response, content_type, headers);
    }
    pthread_mutex_lock(&r->lock);
    require(r->phase == HTTP_OPEN);
    r->phase = HTTP_STREAM;
    r->status = status;
    r->response = response;
    r->is_gone = r->is_gone || !response;
    wake(r);
    pthread_mutex_unlock(&r->lock);
}

// With the lock held: what was sent already makes room.
static void compact(struct http_exchange *r)
{
    size_t left = r->out.size - r->out_at;
    if (r->out_at > left) {
        memmove(r->out.data, r->out.data + r->out_at, left);
        r->out.size = left;
        r->out_at = 0;
    }
}

static bool reply_send(struct http_reply *reply, const void *data, size_t size)
{
    struct http_exchange *r = exchange_of(reply);
    pthread_mutex_lock(&r->lock);
    require(r->phase == HTTP_STREAM);
    bool is_there = r->connection && !r->is_gone;
    if (is_there) {
        compact(r);
        buf_add(&r->out, data, size);
        if (r->out.has_failed) {
            r->is_gone = true;
            is_there = false;
        }
        wake(r);
    }
    pthread_mutex_unlock(&r->lock);
    return is_there;
}

static void reply_end(struct http_reply *reply)
{
    struct http_exchange *r = exchange_of(reply);
    pthread_mutex_lock(&r->lock);
    require(r->phase == HTTP_STREAM);
    r->phase = HTTP_ENDED;
    wake(r);
    pthread_mutex_unlock(&r->lock);
    http_exchange_release(r, 1);
}

static bool reply_is_gone(struct http_reply *reply)
{
    struct http_exchange *r = exchange_of(reply);
    pthread_mutex_lock(&r->lock);
    // While the reply has its connection the library does not close the socket, so that the number
    // cannot have become another's: it says first that the request is over.
    if (r->connection && !r->is_gone) {
        struct pollfd p = {.fd = r->client->fd, .events = POLL_GONE};
        if (poll(&p, 1, 0) > 0 && (p.revents & (POLL_GONE | POLLNVAL))) {
            r->is_gone = true;
        }
    }
    bool is_gone = !r->connection || r->is_gone;
    pthread_mutex_unlock(&r->lock);
    return is_gone;
}

static const struct http_reply_ops ops = {.all = reply_all,
                                          .begin = reply_begin,
                                          .send = reply_send,
                                          .end = reply_end,
                                          .is_gone = reply_is_gone};

/* -------------------------------------------------------------------------------- the connection
 */

struct http_exchange *http_exchange_new(struct http *h, struct MHD_Connection *connection)
{
    struct http_exchange *r = mem_new(sizeof(*r), NULL);
    if (!r) {
        return NULL;
    }
    if (pthread_mutex_init(&r->lock, NULL) != 0) {
        mem_free(r);
        return NULL;
    }
    r->reply.ops = &ops;
    r->http = h;
    r->connection = connection;
    r->started = os_seconds();
    r->out.max = HTTP_PENDING_MAX;
    atomic_init(&r->n_owners, 2);
    atomic_fetch_add(&h->n_owners, 1);
    pthread_mutex_lock(&h->lock);
    r->next = h->replies;
    if (r->next) {
        r->next->previous = r;
    }
    h->replies = r;
    pthread_mutex_unlock(&h->lock);
    return r;
}

enum MHD_Result http_exchange_advance(struct http_exchange *r)
{
    struct http *h = r->http;
    struct MHD_Response *response = NULL;
    pthread_mutex_lock(&r->lock);
    bool was_queued = r->is_queued; // the library calls again after a resume
    bool is_open = r->phase == HTTP_OPEN;
    if (!was_queued && is_open && !atomic_load(&h->is_stopping)) {
        r->is_suspended = true;
        MHD_suspend_connection(r->connection);
    } else if (!was_queued && !is_open) {
        response = r->response;
        r->response = NULL;
        r->is_queued = true;
    }
    bool is_suspended = r->is_suspended;
    bool is_whole = r->phase == HTTP_WHOLE;
    pthread_mutex_unlock(&r->lock);
    if (was_queued || is_suspended) {
        return MHD_YES;
    }
    if (!response) {
        return MHD_NO; // stopping, or no memory for an answer: the connection is closed
    }
    // Without the lock: the library takes the response's own, and calls read_stream with that held.
    enum MHD_Result result = MHD_queue_response(r->connection, (unsigned)r->status, response);
    MHD_destroy_response(response); // the connection holds it from here
    if (is_whole) {
        http_set_deadline(h, r->client, ANSWER_SECONDS + (double)r->n_bytes / ANSWER_RATE);
    }
    return result;
}

void http_exchange_close(struct http_exchange *r, bool is_complete)
{
    pthread_mutex_lock(&r->lock);
    r->connection = NULL;
    r->is_suspended = false;
    r->is_gone = r->is_gone || !is_complete;
    bool has_maker = r->is_handled || r->is_refused;
    pthread_mutex_unlock(&r->lock);
    http_exchange_release(r, has_maker ? 1 : 2);
}

void http_exchange_cut(struct http_exchange *r)
{
    pthread_mutex_lock(&r->lock);
    r->is_gone = r->is_gone || r->phase == HTTP_OPEN || r->phase == HTTP_STREAM;
    if (r->connection) {
        wake(r);
    }
    pthread_mutex_unlock(&r->lock);
}
