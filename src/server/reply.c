// SPDX-License-Identifier: Apache-2.0
// Answers go through here to what carries them.
#include "server/reply.h"

void http_reply_all(struct http_reply *reply, int status, const char *content_type,
                    http_headers headers, const void *data, size_t size)
{
    reply->ops->all(reply, status, content_type, headers, data, size);
}

void http_reply_begin(struct http_reply *reply, int status, const char *content_type,
                      http_headers headers)
{
    reply->ops->begin(reply, status, content_type, headers);
}

bool http_reply_send(struct http_reply *reply, const void *data, size_t size)
{
    return reply->ops->send(reply, data, size);
}

void http_reply_end(struct http_reply *reply)
{
    reply->ops->end(reply);
}

bool http_reply_is_gone(struct http_reply *reply)
{
    return reply->ops->is_gone(reply);
}

struct http_request *http_reply_request(struct http_reply *reply)
{
    return &reply->request;
}

void http_reply_figures(struct http_reply *reply, const struct http_figures *figures)
{
    reply->request.figures = *figures;
    reply->request.figures.are_set = true;
}
