// SPDX-License-Identifier: Apache-2.0
// A build without libmicrohttpd: requests come from this program alone and have no headers.
#include "server/http.h"

const char *http_header(const struct http_request *r, const char *name)
{
    (void)r;
    (void)name;
    return NULL;
}

const char *http_query(const struct http_request *r, const char *name)
{
    (void)r;
    (void)name;
    return NULL;
}

size_t http_connections(const struct http *h)
{
    (void)h;
    return 0;
}
