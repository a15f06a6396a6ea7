// SPDX-License-Identifier: Apache-2.0
// The server's lifetime: what is made in which order, the loop that waits for signals, the end.
#include "server/serve.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "server/fetch.h"
#include "server/guard.h"
#include "server/keys.h"
#include "server/log.h"
#include "server/queue.h"
#include "server/recall.h"
#include "server/stored.h"

#define RECALL_CALLS_MAX 2048
#define RECALL_BYTES_MAX ((size_t)16 << 20)
#define STORED_MAX       1000
#define STORED_BYTES_MAX ((size_t)64 << 20)
#define FILES_SPARE      64   // for all that is no connection
#define LOOK_MS          1000 // how often the file of keys is looked at
#define SECONDS_DIGITS   12   // of a time limit
#define FLUSH_SECONDS    3.0  // for the last bytes of answers that are complete

/* -------------------------------------------------------------------------------- callbacks */

static bool on_check(void *user, struct http_request *request, struct http_reply *reply)
{
    return guard_check(user, request, reply);
}

static void on_refuse(void *user, struct http_request *request, struct http_reply *reply,
                      int status, const char *text)
{
    static const char *const headers[] = {"Retry-After", "5", NULL};
    guard_refuse(user, request, reply, status, status == 503 ? headers : NULL, "%s", text);
}

// Digits, maybe with a point among them, that are more than 0.
static bool read_seconds(const char *text, double *out)
{
    double value = 0;
    double unit = 0; // of the next digit behind the point
    size_t n = 0;
    for (; *text && n < SECONDS_DIGITS; text++, n++) {
        if (*text == '.' && unit == 0 && n > 0) {
            unit = 0.1;
        } else if (*text >= '0' && *text <= '9' && unit > 0) {
            value += unit * (*text - '0');
            unit /= 10;
        } else if (*text >= '0' && *text <= '9') {
            value = 10 * value + (*text - '0');
        } else {
            return false;
        }
    }
    *out = value;
    return !*text && value > 0;
}

// What the request says of its own time, in either header; false: it was refused.
static bool take_time_limit(struct server *s, struct http_request *q, struct http_reply *reply)
{
    static const char *const names[] = {"X-Request-Timeout", "X-Server-Timeout"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && q->seconds_max == 0; i++) {
        const char *text = http_header(q, names[i]);
        if (text && !read_seconds(text, &q->seconds_max)) {
            guard_refuse(s, q, reply, 400, NULL,
                         "%s: expected seconds, as in 2.5, more than 0, found '%.40s'", names[i],
                         text);
            return false;
        }
    }
    return true;
}

static void on_request(void *user, struct http_request *request, struct http_reply *reply)
{
    struct server *s = user;
    const struct route *route = route_find(request->method, request->path, NULL);
    require(route); // the check has found it
    if (route->dialect) {
        if (take_time_limit(s, request, reply)) {
            call_start(s, route->dialect, reply);
        }
    } else {
        route->answer(s, request, reply);
    }
}

static void on_done(void *user, const struct http_request *request, int status, uint64_t bytes,
                    double seconds)
{
    struct server *s = user;
    if (!s->options->is_quiet) {
        log_request(s->options->logs_json, request, status, bytes, seconds);
    }
}

static void on_log(void *user, enum carat_log_level level, const char *text)
{
    const struct server *s = user;
    if (level >= CARAT_LOG_WARNING) {
        log_text(s->options->logs_json, level == CARAT_LOG_ERROR ? "error" : "warning", "%s", text);
    }
}

/* -------------------------------------------------------------------------------- start */

static int check_exposure(const struct server *s, struct carat_error *err)
{
    const struct serve_options *o = s->options;
    if (!guard_is_loopback(o->host) && keys_count(s->keys) == 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "--host %s lets other machines in, and there is no API key: add --api-key KEY "
                    "or --api-key-file FILE, or stay on 127.0.0.1",
                    o->host);
    }
    if (o->fetches_urls && !fetch_is_built()) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "--fetch-urls: this build was made without libcurl and cannot fetch");
    }
    return 0;
}

// Each connection is an open file.
static size_t connections_max(const struct serve_options *o)
{
    size_t files = os_raise_file_limit();
    size_t max = files > 2 * FILES_SPARE ? files - FILES_SPARE : files / 2;
    if (o->connections_max > max) {
        log_text(o->logs_json, "warning",
                 "the system lets this process have %zu files open: %zu connections at most", files,
                 max);
    }
    return o->connections_max < max ? o->connections_max : max;
}

static int start_http(struct server *s, struct carat_error *err)
{
    const struct serve_options *o = s->options;
    struct http_options http = {
        .host = o->host,
        .port = o->port,
        .tls_cert = o->tls_cert,
        .tls_key = o->tls_key,
        .connections_max = connections_max(o),
        .connections_per_client_max = o->connections_per_client_max,
        .header_size_max = o->header_size_max,
        .body_size_max = o->body_size_max,
        .header_seconds = o->header_seconds,
        .body_seconds = o->body_seconds,
        .idle_seconds = o->idle_seconds,
        .check = on_check,
        .refuse = on_refuse,
        .handle = on_request,
        .done = on_done,
        .user = s,
    };
    return http_start(&s->http, &http, err);
}

// Calls end before what they use. Replies outlive the daemon.
static void release_all(struct server *s)
{
    http_stop(s->http);
    server_release(s);
    stored_free(s->stored);
    recall_free(s->recall);
    keys_free(s->keys);
}

static int open_all(struct server *s, struct carat_error *err)
{
    int rc = keys_new(&s->keys, s->options->api_keys, s->options->key_file, err);
    rc = rc ? rc : check_exposure(s, err);
    rc = rc ? rc : recall_new(&s->recall, RECALL_CALLS_MAX, RECALL_BYTES_MAX, err);
    rc = rc ? rc : stored_new(&s->stored, STORED_MAX, STORED_BYTES_MAX, err);
    rc = rc ? rc : server_open(s, err);
    rc = rc ? rc : os_catch_signals(s->options->key_file != NULL, err);
    return rc ? rc : start_http(s, err);
}

/* -------------------------------------------------------------------------------- running */

static void look_after_keys(struct server *s, bool is_demanded)
{
    struct carat_error err;
    bool was_read = false;
    if (keys_refresh(s->keys, is_demanded, &was_read, &err)) {
        log_text(s->options->logs_json, "error", "the keys stay as they were: %s", err.text);
    } else if (was_read) {
        log_text(s->options->logs_json, "info", "%zu API keys now", keys_count(s->keys));
    }
}

static void run(struct server *s)
{
    enum os_signal signal = OS_SIGNAL_NONE;
    while (signal != OS_SIGNAL_STOP) {
        look_after_keys(s, signal == OS_SIGNAL_RELOAD);
        signal = os_wait_signal(LOOK_MS);
    }
}

static void drain(struct server *s)
{
    atomic_store(&s->is_draining, true);
    http_quiesce(s->http);
    log_text(s->options->logs_json, "info",
             "stopping: running answers have %.0f s to end, a second signal cuts them",
             s->options->drain_seconds);
    queue_drain(s->queue, s->options->drain_seconds);
    http_flush(s->http, FLUSH_SECONDS);
}

static void tell_ready(const struct server *s,
                       void (*on_ready)(void *user, const struct serve_ready *ready), void *user)
{
    struct carat_cache_stats stats;
    const struct serve_options *o = s->options;
    char address[320];
    bool is_bare_ipv6 = strchr(o->host, ':') && o->host[0] != '[';
    snprintf(address, sizeof(address), "http%s://%s%.250s%s:%u", o->tls_cert ? "s" : "",
             is_bare_ipv6 ? "[" : "", o->host, is_bare_ipv6 ? "]" : "",
             (unsigned)http_port(s->http));
    carat_cache_stats(s->cache, &stats);
    const struct serve_ready ready = {.address = address,
                                      .cache_folder = s->cache_folder,
                                      .cache_size_max = s->cache_size_max,
                                      .cache_bytes = stats.snapshot_bytes};
    if (on_ready) {
        on_ready(user, &ready);
    }
}

int serve(const struct serve_options *options,
          void (*on_ready)(void *user, const struct serve_ready *ready), void *user,
          struct carat_error *err)
{
    struct server s = {.options = options, .engine = options->engine};
    carat_set_log(on_log, &s);
    int rc = open_all(&s, err);
    if (rc == 0) {
        tell_ready(&s, on_ready, user);
        run(&s);
        drain(&s);
    }
    release_all(&s);
    carat_set_log(NULL, NULL);
    return rc;
}
