// SPDX-License-Identifier: Apache-2.0
// /v1/responses/*: what is answered about stored answers, beside the dialect itself.
#ifndef CARAT_SERVER_API_RESPONSES_H
#define CARAT_SERVER_API_RESPONSES_H

#include "server/server.h"

// GET of an answer or of its input_items; DELETE; POST .../cancel, which is refused.
void responses_get(struct server *server, struct http_request *request, struct http_reply *to);
void responses_delete(struct server *server, struct http_request *request, struct http_reply *to);
void responses_post(struct server *server, struct http_request *request, struct http_reply *to);

#endif
