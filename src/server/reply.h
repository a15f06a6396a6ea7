// SPDX-License-Identifier: Apache-2.0
// What stands behind a struct http_reply: a connection (http_reply.c), or a request that this
// program gave itself (local.c).
#ifndef CARAT_SERVER_REPLY_H
#define CARAT_SERVER_REPLY_H

#include "server/http.h"

// As the functions in http.h without "http_reply_".
struct http_reply_ops {
    void (*all)(struct http_reply *reply, int status, const char *content_type,
                http_headers headers, const void *data, size_t size);
    void (*begin)(struct http_reply *reply, int status, const char *content_type,
                  http_headers headers);
    bool (*send)(struct http_reply *reply, const void *data, size_t size);
    void (*end)(struct http_reply *reply);
    bool (*is_gone)(struct http_reply *reply);
};

// The beginning of every reply.
struct http_reply {
    struct http_request request;
    const struct http_reply_ops *ops;
};

#endif
