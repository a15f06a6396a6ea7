// SPDX-License-Identifier: Apache-2.0
// Answers with the page's files. They are kept packed and go out as they are: a client that says
// it cannot unpack gzip is told so. Every answer carries the policy that keeps the page from
// loading, running or sending anything outside this server, whatever the model writes.
#include "server/page.h"

#include <string.h>

#include "server/server.h"

// Maths and the page's own style are set through the object model, which needs no 'unsafe-inline'.
// Only what DOMPurify has cleaned may become HTML.
#define POLICY                                                                                     \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "        \
    "media-src data: blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; "            \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "                                \
    "require-trusted-types-for 'script'; trusted-types dompurify"

static const struct page_asset *find(const char *path)
{
    static const char folder[] = "/assets/";
    bool is_below = strncmp(path, folder, sizeof(folder) - 1) == 0;
    const char *name = is_below ? path + sizeof(folder) - 1 : "index.html";
    for (const struct page_asset *a = page_assets; a->path; a++) {
        if (strcmp(a->path, name) == 0) {
            return a;
        }
    }
    return NULL;
}

// If-None-Match: a list of tags, perhaps weak ones ("W/" before it), or "*". A tag's quotes keep it
// from being part of another.
static bool is_known(const struct http_request *request, const char *etag)
{
    const char *tags = http_header(request, "If-None-Match");
    return tags && (strcmp(tags, "*") == 0 || strstr(tags, etag));
}

// Without the header anything goes, says RFC 9110 (12.5.3). "gzip;q=0" is a thing of standards
// only.
static bool unpacks(const struct http_request *request)
{
    const char *codings = http_header(request, "Accept-Encoding");
    return !codings || strstr(codings, "gzip") || strstr(codings, "*");
}

void page_answer(struct server *server, struct http_request *request, struct http_reply *reply)
{
    static const char missing[] = "no such file\n";
    static const char packed[] = "this file is kept packed: accept gzip (curl --compressed)\n";
    const struct page_asset *a = server->options->has_page ? find(request->path) : NULL;
    if (!a) {
        http_reply_all(reply, 404, "text/plain; charset=utf-8", NULL, missing, sizeof(missing) - 1);
        return;
    }
    // The encoding comes last, so that it can be left out.
    const char *headers[] = {
        "ETag",
        a->etag,
        "Cache-Control",
        "no-cache", // ask each time, by the tag: a new carat shows its new page
        "Content-Security-Policy",
        POLICY,
        "X-Content-Type-Options",
        "nosniff",
        "Referrer-Policy",
        "no-referrer",
        "Permissions-Policy",
        "camera=(self), microphone=(self), geolocation=()",
        "Cross-Origin-Opener-Policy",
        "same-origin",
        "Vary",
        "Accept-Encoding",
        a->is_packed ? "Content-Encoding" : NULL,
        "gzip",
        NULL,
    };
    if (is_known(request, a->etag)) {
        headers[sizeof(headers) / sizeof(headers[0]) - 3] = NULL;
        http_reply_all(reply, 304, a->type, headers, NULL, 0);
    } else if (a->is_packed && !unpacks(request)) {
        http_reply_all(reply, 406, "text/plain; charset=utf-8", NULL, packed, sizeof(packed) - 1);
    } else {
        http_reply_all(reply, 200, a->type, headers, a->data, a->size);
    }
}
