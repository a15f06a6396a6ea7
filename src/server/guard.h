// SPDX-License-Identifier: Apache-2.0
// Who may ask what: the checks that need no more than the headers, and the answers of those who
// fail them.
#ifndef CARAT_SERVER_GUARD_H
#define CARAT_SERVER_GUARD_H

#include "server/server.h"

// Host, Origin, path, method, key. True to go on; false: answered.
bool guard_check(struct server *s, struct http_request *request, struct http_reply *reply);
// An error in the form that clients of this path expect. headers as for http_reply_all.
void guard_refuse(struct server *s, struct http_request *request, struct http_reply *reply,
                  int status, http_headers headers, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
// Whether an address to listen on is this machine's alone.
bool guard_is_loopback(const char *host);

#endif
