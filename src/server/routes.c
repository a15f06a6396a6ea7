// SPDX-License-Identifier: Apache-2.0
// The table of endpoints, and finding a row in it. A new dialect is rows here and its own file.
#include <string.h>

#include "server/api_info.h"
#include "server/page.h"
#include "server/server.h"

// clang-format off
const struct route routes[] = {
    {"GET",  "/health",            NULL, info_health, true},
    {"GET",  "/healthz",           NULL, info_health, true},
    {"GET",  "/v1/models",         NULL, info_models, false},
    {"GET",  "/v1/models/*",       NULL, info_model, false},
    {"GET",  "/version",           NULL, info_version, false},
    {"GET",  "/",                  NULL, page_answer, true},
    {"GET",  "/assets/*",          NULL, page_answer, true},
    {.path = NULL},
};
// clang-format on

static bool path_matches(const char *pattern, const char *path)
{
    size_t size = strlen(pattern);
    if (size > 0 && pattern[size - 1] == '*') {
        return strncmp(pattern, path, size - 1) == 0;
    }
    return strcmp(pattern, path) == 0;
}

static void add_method(struct buf *allowed, const char *method)
{
    if (allowed && !(allowed->size && strstr(allowed->data, method))) {
        buf_addf(allowed, "%s%s", allowed->size ? ", " : "", method);
        if (strcmp(method, "GET") == 0) {
            buf_adds(allowed, ", HEAD");
        }
    }
}

const struct route *route_find(const char *method, const char *path, struct buf *allowed)
{
    for (const struct route *r = routes; r->path; r++) {
        if (path_matches(r->path, path)) {
            if (strcmp(r->method, method) == 0) {
                return r;
            }
            add_method(allowed, r->method);
        }
    }
    return NULL;
}

// Bytes that two paths share, up to the last slash among them.
static size_t common_folders(const char *a, const char *b)
{
    size_t n = 0;
    for (size_t i = 0; a[i] && a[i] == b[i]; i++) {
        if (a[i] == '/') {
            n = i;
        }
    }
    return n;
}

const struct route *route_near(const char *path)
{
    const struct route *best = NULL;
    size_t best_size = 0;
    for (const struct route *r = routes; r->path; r++) {
        size_t size = strcmp(r->path, path) == 0 ? strlen(path) : common_folders(r->path, path);
        if (r->dialect && size > best_size) {
            best = r;
            best_size = size;
        }
    }
    return best;
}
