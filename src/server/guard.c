// SPDX-License-Identifier: Apache-2.0
// A browser on this machine reaches this server too, on behalf of any page it shows. Two checks
// keep such pages out: Host, because a name of theirs may have been pointed to this address (DNS
// rebinding), and Origin, which a browser always sends with what a page posts elsewhere.
#include "server/guard.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "server/keys.h"

#define HOST_MAX 256

/* -------------------------------------------------------------------------------- refusing */

// What OpenAI's clients expect, and most others show.
static void plain_error(int status, const char *text, struct buf *out)
{
    const char *type = status == 401   ? "authentication_error"
                       : status == 403 ? "permission_error"
                       : status == 404 ? "not_found_error"
                       : status == 429 ? "rate_limit_error"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    buf_adds(out, "{\"error\":{\"message\":");
    buf_add_json(out, text, strlen(text));
    buf_addf(out, ",\"type\":\"%s\",\"param\":null,\"code\":null}}", type);
}

static enum carat_status status_of(int status)
{
    return status == 413 ? CARAT_E_FULL : status == 503 ? CARAT_E_MEMORY : CARAT_E_ARGUMENT;
}

void guard_refuse(struct server *s, struct http_request *request, struct http_reply *reply,
                  int status, http_headers headers, const char *format, ...)
{
    struct carat_error err = {.status = status_of(status)};
    struct buf out = {.max = 1 << 16};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(err.text, sizeof(err.text), format, arguments);
    va_end(arguments);
    const struct route *near = route_near(request->path);
    (void)s;
    if (near && near->dialect->error) {
        near->dialect->error(status, &err, false, &out);
    } else {
        plain_error(status, err.text, &out);
    }
    http_reply_all(reply, status, "application/json", headers, buf_text(&out), out.size);
    buf_release(&out);
}

/* -------------------------------------------------------------------------------- names */

// The host of "name:port" or "[address]:port", in small letters, without a dot at its end.
static bool host_name(char out[HOST_MAX], const char *text)
{
    size_t size = text[0] == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":");
    if (size == 0 || size >= HOST_MAX || size > strlen(text)) {
        return false;
    }
    const char *port = text + size;
    if (*port && (*port != ':' || strspn(port + 1, "0123456789") != strlen(port + 1))) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        out[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    size -= size > 1 && out[size - 1] == '.';
    out[size] = '\0';
    return true;
}

static bool is_ipv4(const char *host)
{
    unsigned a, b, c, d;
    char rest;
    return strspn(host, "0123456789.") == strlen(host) &&
           sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &rest) == 4 && a < 256 && b < 256 &&
           c < 256 && d < 256;
}

bool guard_is_loopback(const char *host)
{
    size_t size = strlen(host);
    return (is_ipv4(host) && strncmp(host, "127.", 4) == 0) || strcmp(host, "::1") == 0 ||
           strcmp(host, "[::1]") == 0 || strcasecmp(host, "localhost") == 0 ||
           (size > 10 && strcasecmp(host + size - 10, ".localhost") == 0);
}

static bool is_in(const char *const *list, const char *text)
{
    for (size_t i = 0; list[i]; i++) {
        if (strcmp(list[i], "*") == 0 || strcasecmp(list[i], text) == 0) {
            return true;
        }
    }
    return false;
}

// Nobody can point an address elsewhere, so a server that is reached from outside takes any.
static bool is_own_host(const struct serve_options *o, const char *text)
{
    char host[HOST_MAX];
    if (!host_name(host, text)) {
        return false;
    }
    if (guard_is_loopback(host) || is_in(o->allowed_hosts, host) ||
        strcasecmp(host, o->host) == 0) {
        return true;
    }
    return !guard_is_loopback(o->host) && (is_ipv4(host) || host[0] == '[');
}

// Of the page that the server itself gave out: "http://" and what stands in Host.
static bool is_same_origin(const char *origin, const char *host)
{
    const char *rest = strstr(origin, "://");
    return rest && host && strcasecmp(rest + 3, host) == 0;
}

static const char *listed_origin(const struct serve_options *o, const char *origin)
{
    for (size_t i = 0; o->allowed_origins[i]; i++) {
        if (strcmp(o->allowed_origins[i], "*") == 0 ||
            strcasecmp(o->allowed_origins[i], origin) == 0) {
            return o->allowed_origins[i];
        }
    }
    return NULL;
}

/* -------------------------------------------------------------------------------- the checks */

static bool check_host(struct server *s, struct http_request *q, struct http_reply *reply)
{
    const char *host = http_header(q, "Host");
    if (host && !is_own_host(s->options, host)) { // HTTP/1.0 has none, and no browser speaks it
        guard_refuse(s, q, reply, 403, NULL,
                     "Host '%.200s' is not a name of this server: use localhost, or start it with "
                     "--allow-host %.200s",
                     host, host);
        return false;
    }
    return true;
}

static bool check_origin(struct server *s, struct http_request *q, struct http_reply *reply)
{
    const char *origin = http_header(q, "Origin");
    if (!origin) {
        return true;
    }
    q->allow_origin = listed_origin(s->options, origin);
    if (!q->allow_origin && !is_same_origin(origin, http_header(q, "Host"))) {
        guard_refuse(s, q, reply, 403, NULL,
                     "pages of '%.200s' may not use this server: start it with --allow-origin "
                     "%.200s if they should",
                     origin, origin);
        return false;
    }
    return true;
}

// What clients send as their key, wherever they put it.
static struct slice key_of(const struct http_request *q)
{
    const char *value = http_header(q, "Authorization");
    if (value && strncasecmp(value, "Bearer ", 7) == 0) {
        return utf8_trim(slice_of(value + 7));
    }
    value = http_header(q, "x-api-key");
    value = value ? value : http_header(q, "x-goog-api-key");
    value = value ? value : http_query(q, "key");
    return slice_of(value);
}

static bool check_key(struct server *s, struct http_request *q, struct http_reply *reply)
{
    static const char *const headers[] = {"WWW-Authenticate", "Bearer", NULL};
    if (keys_count(s->keys) == 0) {
        return true;
    }
    struct slice key = key_of(q);
    if (keys_have(s->keys, key)) {
        return true;
    }
    guard_refuse(s, q, reply, 401, headers,
                 "%s: send one of this server's keys as 'Authorization: "
                 "Bearer KEY' or 'x-api-key: KEY'",
                 key.size ? "the API key is not known here" : "an API key is needed");
    return false;
}

// Before a page of another origin asks, its browser asks whether it may.
static void answer_options(struct http_request *q, struct http_reply *reply, const char *allowed)
{
    const char *headers[16] = {"Allow", allowed};
    size_t n = 2;
    const char *asked = http_header(q, "Access-Control-Request-Headers");
    if (q->allow_origin && http_header(q, "Access-Control-Request-Method")) {
        headers[n++] = "Access-Control-Allow-Methods";
        headers[n++] = allowed;
        headers[n++] = "Access-Control-Allow-Headers";
        headers[n++] = asked ? asked : "Authorization, Content-Type";
        headers[n++] = "Access-Control-Max-Age";
        headers[n++] = "600";
        if (http_header(q, "Access-Control-Request-Private-Network")) {
            headers[n++] = "Access-Control-Allow-Private-Network";
            headers[n++] = "true";
        }
    }
    http_reply_all(reply, 204, NULL, headers, "", 0);
}

static bool check_route(struct server *s, struct http_request *q, struct http_reply *reply,
                        const struct route **out)
{
    struct buf allowed = {.max = 200};
    bool is_known = true;
    *out = route_find(q->method, q->path, &allowed);
    if (!*out && allowed.size == 0) {
        guard_refuse(s, q, reply, 404, NULL,
                     "%s %.300s: there is no such path (docs/serve.md lists them; a base URL of "
                     "OpenAI clients ends with /v1)",
                     q->method, q->path);
        is_known = false;
    } else if (!*out) {
        const char *headers[] = {"Allow", buf_text(&allowed), NULL};
        buf_adds(&allowed, ", OPTIONS");
        headers[1] = buf_text(&allowed);
        if (strcmp(q->method, "OPTIONS") == 0) {
            answer_options(q, reply, headers[1]);
        } else {
            guard_refuse(s, q, reply, 405, headers, "%.300s takes %s, not %.40s", q->path,
                         headers[1], q->method);
        }
        is_known = false;
    }
    buf_release(&allowed);
    return is_known;
}

bool guard_check(struct server *s, struct http_request *q, struct http_reply *reply)
{
    const struct route *route = NULL;
    if (!check_host(s, q, reply) || !check_origin(s, q, reply) ||
        !check_route(s, q, reply, &route)) {
        return false;
    }
    if (!route->is_open && !check_key(s, q, reply)) {
        return false;
    }
    if (atomic_load(&s->is_draining) && route->dialect) {
        static const char *const headers[] = {"Retry-After", "5", "Connection", "close", NULL};
        guard_refuse(s, q, reply, 503, headers,
                     "the server is shutting down: ask again when it is back");
        return false;
    }
    return true;
}
