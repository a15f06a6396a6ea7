// SPDX-License-Identifier: Apache-2.0
// A build without libcurl fetches nothing.
#include "base/error.h"
#include "server/fetch.h"

bool fetch_is_built(void)
{
    return false;
}

int fetch_url(struct buf *out, const char *url, const struct fetch_options *options,
              struct carat_error *err)
{
    (void)out;
    (void)options;
    return fail(err, CARAT_E_UNSUPPORTED,
                "%.300s: this build fetches nothing: it was made without libcurl", url);
}
