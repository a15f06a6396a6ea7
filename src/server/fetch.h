// SPDX-License-Identifier: Apache-2.0
// Media that a request names by an address: the one door to libcurl. Whoever may ask this server
// could otherwise make it knock at doors of the network it stands in, so that every connection,
// those of redirects included, is checked after its name was resolved.
#ifndef CARAT_SERVER_FETCH_H
#define CARAT_SERVER_FETCH_H

#include "base/str.h"

struct fetch_options {
    size_t size_max;
    double seconds_max;
    bool reaches_private; // for tests of what happens after the connection
};

bool fetch_is_built(void);
// Blocks. http: and https: only, without names and passwords in them; no proxy, no cookies.
int fetch_url(struct buf *out, const char *url, const struct fetch_options *options,
              struct carat_error *err);

#endif
