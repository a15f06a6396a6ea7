// SPDX-License-Identifier: Apache-2.0
// Answers about the server itself: health, models, metrics, version, tokens. Functions of routes.
#ifndef CARAT_SERVER_API_INFO_H
#define CARAT_SERVER_API_INFO_H

#include "server/server.h"

void info_health(struct server *s, struct http_request *request, struct http_reply *reply);
void info_models(struct server *s, struct http_request *request, struct http_reply *reply);
void info_model(struct server *s, struct http_request *request, struct http_reply *reply);
void info_metrics(struct server *s, struct http_request *request, struct http_reply *reply);
void info_version(struct server *s, struct http_request *request, struct http_reply *reply);

#endif
