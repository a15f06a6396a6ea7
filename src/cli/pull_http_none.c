// SPDX-License-Identifier: Apache-2.0
// A build without libcurl: carat pull lists and removes, and says where to fetch from.
#include "base/error.h"
#include "cli/pull_http.h"

static int fail_absent(struct carat_error *err)
{
    return fail(err, CARAT_E_UNSUPPORTED, "this build cannot download: it needs libcurl");
}

bool http_is_built(void)
{
    return false;
}

int http_open(struct http **out, const struct http_options *options, struct carat_error *err)
{
    (void)out;
    (void)options;
    return fail_absent(err);
}

void http_close(struct http *h)
{
    (void)h;
}

int http_get(struct http *h, const char *url, const struct range *part, struct buf *out,
             struct http_answer *answer, struct carat_error *err)
{
    (void)h;
    (void)url;
    (void)part;
    (void)out;
    (void)answer;
    return fail_absent(err);
}

int http_download(struct http *h, const struct http_download *what, struct http_answer *answer,
                  struct carat_error *err)
{
    (void)h;
    (void)what;
    (void)answer;
    return fail_absent(err);
}
