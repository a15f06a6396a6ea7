// SPDX-License-Identifier: Apache-2.0
// The HTTP client of carat pull: small answers, and large files by several ranges at a time. The
// only files that know libcurl are pull_http.c and its absence, pull_http_none.c.
//
// Redirects are followed here, one by one: the token goes to the hub that it was meant for and to
// nobody else, and never unencrypted over a network.
#ifndef CARAT_CLI_PULL_HTTP_H
#define CARAT_CLI_PULL_HTTP_H

#include "base/str.h"
#include "cli/pull_ranges.h"

#define HTTP_PARALLEL_MAX 16

struct http_options {
    const char *endpoint; // "https://huggingface.co"
    const char *token;    // NULL: none
    size_t patience_s;    // a connection that says nothing for that long is given up
    size_t n_tries;       // failures in a row, with growing pauses, before giving up
};

struct http;
bool http_is_built(void);
int http_open(struct http **out, const struct http_options *options, struct carat_error *err);
void http_close(struct http *h); // takes NULL

// What a server said that did not give what was asked for. Zero: nothing, or no HTTP.
struct http_answer {
    long status;
    char code[64]; // its X-Error-Code
};
// What an address holds, or a part of it; out->max is kept. Blocks; Ctrl-C gives CARAT_E_STOPPED.
int http_get(struct http *h, const char *url, const struct range *part, struct buf *out,
             struct http_answer *answer, struct carat_error *err);

struct http_download {
    const char *url;
    uint64_t size; // known beforehand; a server that says another one is not believed
    size_t n_parallel;
    const struct ranges *done; // what is there; grows by put
    // Bytes that arrived, from any place of the file.
    int (*put)(void *user, uint64_t at, const void *data, size_t size, struct carat_error *err);
    // The server knows no ranges: all begins again, in one piece.
    int (*restart)(void *user, struct carat_error *err);
    int (*tick)(void *user, struct carat_error *err); // every now and then; an error ends it
    void *user;
};
// Returns when all of the file is there. What had arrived before a failure stays.
int http_download(struct http *h, const struct http_download *what, struct http_answer *answer,
                  struct carat_error *err);

#endif
