// SPDX-License-Identifier: Apache-2.0
// The page at /: files of web/, put into the program when it is built (web/embed.py).
#ifndef CARAT_SERVER_PAGE_H
#define CARAT_SERVER_PAGE_H

#include <stdbool.h>
#include <stddef.h>

struct http_reply;
struct http_request;
struct server;

struct page_asset {
    const char *path; // below web/: "index.html", "view/sidebar.js"
    const char *type;
    const char *etag; // of the plain bytes, with its quotes
    const unsigned char *data;
    size_t size;
    bool is_packed; // gzip
};
extern const struct page_asset page_assets[]; // ends with a row without path

// The routes "/" and "/assets/*".
void page_answer(struct server *server, struct http_request *request, struct http_reply *reply);

#endif
