// SPDX-License-Identifier: Apache-2.0
// What the server writes to standard error: a line for each request, and what else is worth
// telling. Each line in one piece, so that those of several threads do not mix.
#ifndef CARAT_SERVER_LOG_H
#define CARAT_SERVER_LOG_H

#include "server/http.h"

// "2026-01-31T12:00:00Z 127.0.0.1 POST /v1/messages 200 1.234 s, 5120 bytes, ..." or an object.
void log_request(bool is_json, const struct http_request *request, int status, uint64_t bytes,
                 double seconds);
// A sentence with its time; level "info", "warning", "error".
void log_text(bool is_json, const char *level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
