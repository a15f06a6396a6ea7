// SPDX-License-Identifier: Apache-2.0
// The daemon: listening, requests coming in, deadlines, the end. Answers are in http_reply.c.
//
// The library's own idle timeout does not stop a client that drips bytes, so a thread looks at the
// connections a few times a second and shuts down the sockets of those that are too late; the
// library then finds them closed.
#include "server/http_parts.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/os.h"

#define DEFAULT_CONNECTIONS 1024
#define HEADER_SIZE_MIN     4096
#define PEM_SIZE_MAX        ((size_t)1 << 20)
#define PAIRS_MAX           200 // headers and query values of a request
#define BODIES_MAX          8   // times body_size_max: what all bodies may hold together
#define DRAIN_MAX           4   // times body_size_max: what is read of a refused body
#define ROOM_PART           16  // of all connections, this part is closed at once to make room
#define WATCH_NS            200000000
#define POLL_NS             10000000

/* -------------------------------------------------------------------------------- connections */

static size_t connections_max(const struct http *h)
{
    return h->options.connections_max ? h->options.connections_max : DEFAULT_CONNECTIONS;
}

void http_set_deadline(struct http *h, struct http_client *client, double seconds)
{
    pthread_mutex_lock(&h->lock);
    client->deadline = seconds > 0 ? os_seconds() + seconds : 0;
    pthread_mutex_unlock(&h->lock);
}

static void set_idle(struct http *h, struct http_client *client, double since)
{
    pthread_mutex_lock(&h->lock);
    client->idle_since = since;
    pthread_mutex_unlock(&h->lock);
}

static struct http_client *client_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void client_open(struct http *h, struct MHD_Connection *connection, void **context)
{
    struct http_client *c = mem_new(sizeof(*c), NULL);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!c || !info) {
        mem_free(c); // without it requests on this connection are refused
        return;
    }
    c->fd = info->connect_fd;
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!info || !info->client_addr ||
        getnameinfo(info->client_addr,
                    info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                             : sizeof(struct sockaddr_in),
                    c->address, sizeof(c->address), NULL, 0, NI_NUMERICHOST) != 0) {
        snprintf(c->address, sizeof(c->address), "unknown");
    }
    *context = c;
    atomic_fetch_add(&h->n_clients, 1);
    pthread_mutex_lock(&h->lock);
    c->idle_since = os_seconds();
    c->deadline = c->idle_since + h->options.idle_seconds + h->options.header_seconds;
    c->next = h->clients;
    if (c->next) {
        c->next->previous = c;
    }
    h->clients = c;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static void client_close(struct http *h, struct http_client *c)
{
    if (!c) {
        return;
    }
    atomic_fetch_sub(&h->n_clients, 1);
    pthread_mutex_lock(&h->lock);
    if (c->previous) {
        c->previous->next = c->next;
    } else {
        h->clients = c->next;
    }
    if (c->next) {
        c->next->previous = c->previous;
    }
    pthread_mutex_unlock(&h->lock);
    mem_free(c);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        client_open(user, connection, context);
    } else {
        client_close(user, *context);
        *context = NULL;
    }
}

// Who has been idle for longest gives way when nobody else could connect.
static void make_room(struct http *h)
{
    struct http_client *oldest = NULL;
    for (struct http_client *c = h->clients; c; c = c->next) {
        if (c->idle_since > 0 && (!oldest || c->idle_since < oldest->idle_since)) {
            oldest = c;
        }
    }
    if (oldest) {
        oldest->idle_since = oldest->deadline = 0;
        shutdown(oldest->fd, SHUT_RDWR);
    }
}

// Shuts down what is too late. The library tells of a closed connection before it closes the
// socket, so that the numbers in the list are right.
static void watch_clients(struct http *h)
{
    double now = os_seconds();
    for (struct http_client *c = h->clients; c; c = c->next) {
        if (c->deadline > 0 && now > c->deadline) {
            c->deadline = 0;
            shutdown(c->fd, SHUT_RDWR);
        }
    }
    size_t max = connections_max(h);
    for (size_t n = atomic_load(&h->n_clients), i = 0; n >= max && i <= max / ROOM_PART; i++) {
        make_room(h);
    }
}

static void wait_some(struct http *h, long nanoseconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += nanoseconds;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&h->changed, &h->lock, &until);
}

static void *watch(void *user)
{
    struct http *h = user;
    pthread_mutex_lock(&h->lock);
    while (!h->is_over) {
        if (h->clients) {
            wait_some(h, WATCH_NS);
            watch_clients(h);
        } else {
            pthread_cond_wait(&h->changed, &h->lock);
        }
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* -------------------------------------------------------------------------------- requests */

const char *http_header(const struct http_request *r, const char *name)
{
    const struct http_exchange *x = (const struct http_exchange *)r; // its first member
    for (size_t i = 0; i < x->n_headers; i++) {
        if (strcasecmp(x->headers[i].name, name) == 0) {
            return x->headers[i].value;
        }
    }
    return NULL;
}

const char *http_query(const struct http_request *r, const char *name)
{
    const struct http_exchange *x = (const struct http_exchange *)r;
    for (size_t i = 0; i < x->n_queries; i++) {
        if (strcmp(x->queries[i].name, name) == 0) {
            return x->queries[i].value;
        }
    }
    return NULL;
}

static size_t count_header(const struct http_exchange *x, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n_headers; i++) {
        n += strcasecmp(x->headers[i].name, name) == 0;
    }
    return n;
}

struct gathering {
    struct http_exchange *reply;
    struct http_pair *pairs;
    size_t n;
    bool has_failed;
};

static enum MHD_Result gather_pair(void *user, enum MHD_ValueKind kind, const char *name,
                                   size_t name_size, const char *value, size_t value_size)
{
    struct gathering *g = user;
    (void)kind;
    if (g->n == PAIRS_MAX) {
        g->has_failed = true;
        return MHD_NO;
    }
    struct http_pair *pair = &g->pairs[g->n];
    pair->name = arena_strndup(&g->reply->arena, name, name_size, NULL);
    pair->value = arena_strndup(&g->reply->arena, value ? value : "", value_size, NULL);
    if (!pair->name || !pair->value) {
        g->has_failed = true;
        return MHD_NO;
    }
    g->n++;
    return MHD_YES;
}

// Copies them: workers look at them while the library goes on. False: too many, or no memory.
static bool gather(struct http_exchange *x, enum MHD_ValueKind kind, struct http_pair **out,
                   size_t *n_out)
{
    int n = MHD_get_connection_values_n(x->connection, kind, NULL, NULL);
    if (n <= 0) {
        return n == 0;
    }
    struct gathering g = {.reply = x};
    g.pairs = arena_take(&x->arena,
                         sizeof(*g.pairs) * ((size_t)n < PAIRS_MAX ? (size_t)n : PAIRS_MAX), NULL);
    if (!g.pairs) {
        return false;
    }
    MHD_get_connection_values_n(x->connection, kind, gather_pair, &g);
    *out = g.pairs;
    *n_out = g.n;
    return !g.has_failed;
}

// Ids go into logs and answers: letters, digits and a few signs only.
static bool is_harmless(const char *text, size_t size_max)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t size = strlen(text);
    return size > 0 && size <= size_max && strspn(text, good) == size;
}

// W3C Trace Context: version-trace-parent-flags in small hexadecimal digits.
static bool is_traceparent(const char *text)
{
    if (strlen(text) != 55 || strspn(text, "0123456789abcdef-") != 55) {
        return false;
    }
    for (size_t i = 0; i < 55; i++) {
        bool is_dash = i == 2 || i == 35 || i == 52;
        if ((text[i] == '-') != is_dash) {
            return false;
        }
    }
    return strncmp(text, "ff", 2) != 0;
}

static void name_request(struct http_request *q)
{
    const char *id = http_header(q, "X-Request-Id");
    if (id && is_harmless(id, sizeof(q->id) - 1)) {
        snprintf(q->id, sizeof(q->id), "%s", id);
    } else {
        snprintf(q->id, sizeof(q->id), "%016llx", (unsigned long long)os_random_u64());
    }
    const char *trace = http_header(q, "traceparent");
    if (trace && is_traceparent(trace)) {
        snprintf(q->traceparent, sizeof(q->traceparent), "%s", trace);
    }
}

static void refuse(struct http_exchange *x, int status, const char *text)
{
    x->closes = true;
    x->is_refused = true;
    x->http->options.refuse(x->http->options.user, &x->reply.request, &x->reply, status, text);
}

// What the library lets pass although the two ends of a connection may read it differently.
static const char *framing_fault(const struct http_exchange *x)
{
    size_t n_lengths = count_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    size_t n_codings = count_header(x, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    if (n_lengths > 1) {
        return "the request has several Content-Length headers: expected one";
    }
    if (n_codings > 1 || (n_codings && n_lengths)) {
        return "the request says in several ways how long its body is: expected Content-Length or "
               "one Transfer-Encoding";
    }
    if (n_codings && strcasecmp(http_header(&x->reply.request, MHD_HTTP_HEADER_TRANSFER_ENCODING),
                                "chunked") != 0) {
        return "Transfer-Encoding: only 'chunked' is understood";
    }
    if (count_header(x, MHD_HTTP_HEADER_HOST) > 1) {
        return "the request has several Host headers: expected one";
    }
    return NULL;
}

// Bytes of the body by its header; false when there is none that says. The library has checked that
// it is a number, and refuses what does not fit 64 bits.
static bool body_length(const struct http_exchange *x, uint64_t *out)
{
    const char *text = http_header(&x->reply.request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n = 0;
    if (!text) {
        return false;
    }
    for (; *text >= '0' && *text <= '9'; text++) {
        if (n > UINT64_MAX / 10 - 10) {
            n = UINT64_MAX;
            break;
        }
        n = 10 * n + (uint64_t)(*text - '0');
    }
    *out = n;
    return true;
}

static void check_size(struct http_exchange *x, uint64_t length)
{
    char text[160];
    if (length > x->http->options.body_size_max) {
        snprintf(text, sizeof(text), "the body has %llu bytes: at most %zu are taken (--body-max)",
                 (unsigned long long)length, x->http->options.body_size_max);
        refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, text);
    }
}

// The headers are there. True: the body, if there is one, is to be read; else the answer is there.
static bool begin(struct http_exchange *x, const char *method, const char *path)
{
    struct http *h = x->http;
    struct http_request *q = &x->reply.request;
    bool is_whole = gather(x, MHD_HEADER_KIND, &x->headers, &x->n_headers) &&
                    gather(x, MHD_GET_ARGUMENT_KIND, &x->queries, &x->n_queries);
    q->is_head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    q->method =
        q->is_head ? MHD_HTTP_METHOD_GET : arena_strndup(&x->arena, method, strlen(method), NULL);
    q->path = arena_strndup(&x->arena, path, strlen(path), NULL);
    q->client = arena_strndup(&x->arena, x->client->address, strlen(x->client->address), NULL);
    q->content_type = http_header(q, MHD_HTTP_HEADER_CONTENT_TYPE);
    q->content_type = q->content_type ? q->content_type : "";
    q->body = slice_make("", 0);
    name_request(q);
    if (!q->method || !q->path || !q->client) {
        q->method = q->path = q->client = "-";
        is_whole = false;
    }
    const char *fault = framing_fault(x);
    uint64_t length = 0;
    body_length(x, &length);
    if (!is_whole) {
        refuse(x, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE,
               "the request has more headers and query values than the 200 that are taken");
    } else if (fault) {
        refuse(x, MHD_HTTP_BAD_REQUEST, fault);
        return false; // where the body ends is anybody's guess
    } else if (!h->options.check(h->options.user, q, &x->reply)) {
        x->is_refused = true;
    } else {
        check_size(x, length);
    }
    http_set_deadline(h, x->client, h->options.body_seconds);
    // A client that is refused while it sends often sees a broken connection in place of the
    // answer: so its body is read, unless it asked first or sends far too much.
    bool has_asked = http_header(q, MHD_HTTP_HEADER_EXPECT) != NULL;
    return !x->is_refused || (!has_asked && length / DRAIN_MAX <= h->options.body_size_max);
}

// A piece of the body. False: far too much, the connection is to be closed.
static bool take_body(struct http_exchange *x, const char *data, size_t size)
{
    struct http *h = x->http;
    size_t max = h->options.body_size_max;
    x->body_seen += size;
    if (x->is_refused) {
        return x->body_seen / DRAIN_MAX <= max;
    }
    if (x->body_seen > max) {
        check_size(x, x->body_seen); // in chunks, it had not said so
        return true;
    }
    size_t before = x->body.capacity;
    x->body.max = max;
    buf_add(&x->body, data, size);
    size_t held =
        atomic_fetch_add(&h->body_bytes, x->body.capacity - before) + x->body.capacity - before;
    if (x->body.has_failed || held / BODIES_MAX > max) {
        refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE,
               "too many large requests at once: there is no memory left for this one, try again "
               "later");
    }
    return true;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **context)
{
    struct http *h = user;
    struct http_exchange *x = *context;
    (void)version;
    if (!x) {
        struct http_client *client = client_of(connection);
        x = client ? http_exchange_new(h, connection) : NULL;
        if (!x) {
            return MHD_NO;
        }
        *context = x;
        x->client = client;
        return begin(x, method, path) ? MHD_YES : http_exchange_advance(x);
    }
    if (*size > 0) {
        bool goes_on = take_body(x, data, *size);
        *size = 0;
        return goes_on ? MHD_YES : MHD_NO;
    }
    if (!x->is_refused && !x->is_handled) {
        x->is_handled = true;
        x->reply.request.body = slice_make(buf_text(&x->body), x->body.size);
        http_set_deadline(h, x->client, 0);
        h->options.handle(h->options.user, &x->reply.request, &x->reply);
    }
    return http_exchange_advance(x);
}

// The first line of a request is there.
static void *on_first_line(void *user, const char *uri, struct MHD_Connection *connection)
{
    struct http *h = user;
    struct http_client *client = client_of(connection);
    (void)uri;
    if (client) {
        http_set_deadline(h, client, h->options.header_seconds);
        set_idle(h, client, 0);
    }
    return NULL;
}

static void on_completed(void *user, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why)
{
    struct http *h = user;
    struct http_exchange *x = *context;
    struct http_client *client = client_of(connection);
    if (x) {
        *context = NULL;
        http_exchange_close(x, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    }
    if (client) {
        http_set_deadline(h, client, h->options.idle_seconds + h->options.header_seconds);
        set_idle(h, client, os_seconds());
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Percent-decoding in place. A zero byte would end the text early, so %00 stays as it is.
static size_t unescape(void *user, struct MHD_Connection *connection, char *text)
{
    char *to = text;
    (void)user;
    (void)connection;
    for (const char *from = text; *from; from++) {
        int high = *from == '%' ? hex_digit(from[1]) : -1;
        int low = high >= 0 ? hex_digit(from[2]) : -1;
        if (low >= 0 && high + low > 0) {
            *to++ = (char)(16 * high + low);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}

/* -------------------------------------------------------------------------------- start and end */

static void on_library_log(void *user, const char *format, va_list arguments)
{
    struct http *h = user;
    char text[sizeof(h->library_error)];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\r\n")] = '\0';
    if (!h->daemon) {
        snprintf(h->library_error, sizeof(h->library_error), "%s", text);
    }
    log_line(CARAT_LOG_DEBUG, "http: %s", text);
}

bool http_has_tls(void)
{
    return MHD_is_feature_supported(MHD_FEATURE_TLS) == MHD_YES;
}

static int open_address(struct http *h, const struct addrinfo *a, struct carat_error *err)
{
    int on = 1, off = 0;
    const char *host = h->options.host;
    int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd < 0) {
        return fail(err, CARAT_E_IO, "%s: no socket: %s", host, strerror(errno));
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)); // "::" means both
    }
    int rc = 0;
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        rc = fail(err, CARAT_E_IO, "cannot listen on %s port %u: %s%s", host,
                  (unsigned)h->options.port, strerror(errno),
                  errno == EADDRINUSE
                      ? " (is another server running there? --port 0 takes a free one)"
                      : "");
        close(fd);
    } else {
        h->listener = fd;
    }
    return rc;
}

static int listen_on(struct http *h, struct carat_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    char port[8];
    int rc = 0;
    snprintf(port, sizeof(port), "%u", (unsigned)h->options.port);
    int found = getaddrinfo(h->options.host, port, &hints, &list);
    if (found != 0) {
        return fail(err, CARAT_E_ARGUMENT, "cannot listen on '%s': %s", h->options.host,
                    gai_strerror(found));
    }
    for (const struct addrinfo *a = list; a && h->listener < 0; a = a->ai_next) {
        rc = open_address(h, a, err);
    }
    freeaddrinfo(list);
    if (h->listener < 0) {
        return rc ? rc : fail(err, CARAT_E_ARGUMENT, "'%s' has no address", h->options.host);
    }
    struct sockaddr_storage own;
    socklen_t size = sizeof(own);
    if (getsockname(h->listener, (struct sockaddr *)&own, &size) != 0) {
        return fail(err, CARAT_E_IO, "the port is unknown: %s", strerror(errno));
    }
    h->port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                              : ((struct sockaddr_in *)&own)->sin_port);
    return 0;
}

static int read_tls(struct http *h, struct carat_error *err)
{
    if (!h->options.tls_cert && !h->options.tls_key) {
        return 0;
    }
    if (!h->options.tls_cert || !h->options.tls_key) {
        return fail(err, CARAT_E_ARGUMENT,
                    "TLS needs both a certificate (--tls-cert) and its key (--tls-key)");
    }
    if (!http_has_tls()) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "TLS: the libmicrohttpd of this system was built without GnuTLS: use one that "
                    "has it, or put a reverse proxy such as Caddy or nginx in front");
    }
    int rc = os_read_file(&h->tls_cert, h->options.tls_cert, PEM_SIZE_MAX, err);
    return rc ? rc : os_read_file(&h->tls_key, h->options.tls_key, PEM_SIZE_MAX, err);
}

static int start_daemon(struct http *h, struct carat_error *err)
{
    const struct http_options *o = &h->options;
    unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    size_t memory = o->header_size_max < HEADER_SIZE_MIN ? HEADER_SIZE_MIN : o->header_size_max;
    // clang-format off
    struct MHD_OptionItem items[16] = {
        {MHD_OPTION_LISTEN_SOCKET, h->listener, NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, h},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, h},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_first_line, h},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)unescape, h},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)connections_max(h), NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)o->connections_per_client_max, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)memory, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)(o->idle_seconds + 0.999), NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
    };
    // clang-format on
    size_t n = 10;
    if (h->tls_cert.size) {
        flags |= MHD_USE_TLS;
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, h->tls_cert.data};
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, h->tls_key.data};
    }
    items[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    // The log comes first: it takes what is said about the options after it.
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER,
                                 on_library_log, h, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (!h->daemon) {
        return fail(err, h->tls_cert.size ? CARAT_E_ARGUMENT : CARAT_E_IO,
                    "the HTTP server did not start%s: %s",
                    h->tls_cert.size ? " (are the certificate and its key PEM files, and does the "
                                       "one belong to the other?)"
                                     : "",
                    h->library_error[0] ? h->library_error : "the library gives no reason");
    }
    return 0;
}

int http_start(struct http **out, const struct http_options *options, struct carat_error *err)
{
    int rc = CARAT_E_MEMORY;
    struct http *h = mem_new(sizeof(*h), err);
    if (!h) {
        return rc;
    }
    h->options = *options;
    h->options.host = options->host && *options->host ? options->host : "127.0.0.1";
    h->listener = -1;
    atomic_init(&h->n_owners, 1);
    h->tls_cert.max = h->tls_key.max = PEM_SIZE_MAX;
    if (pthread_mutex_init(&h->lock, NULL) != 0 || pthread_cond_init(&h->changed, NULL) != 0) {
        mem_free(h);
        return fail(err, CARAT_E_MEMORY, "no memory for a lock");
    }
    rc = read_tls(h, err);
    rc = rc ? rc : listen_on(h, err);
    if (rc) {
        goto out;
    }
    if (pthread_create(&h->watcher, NULL, watch, h) != 0) {
        rc = fail(err, CARAT_E_MEMORY, "no thread to look after connections");
        goto out;
    }
    h->has_watcher = true;
    rc = start_daemon(h, err);
    if (rc) {
        goto out;
    }
    *out = h;
    h = NULL;
out:
    http_stop(h);
    return rc;
}

uint16_t http_port(const struct http *h)
{
    return h->port;
}

size_t http_connections(const struct http *h)
{
    return atomic_load(&h->n_clients);
}

void http_quiesce(struct http *h)
{
    if (h->daemon && h->listener >= 0) {
        MHD_quiesce_daemon(h->daemon); // gives back the socket it was given
        close(h->listener);
        h->listener = -1;
    }
}

void http_flush(struct http *h, double seconds)
{
    double end = os_seconds() + seconds;
    pthread_mutex_lock(&h->lock);
    while (h->replies && os_seconds() < end) {
        wait_some(h, POLL_NS);
    }
    pthread_mutex_unlock(&h->lock);
}

// One exchange that was not cut yet, owned by the caller too; NULL when there is none.
static struct http_exchange *next_to_cut(struct http *h)
{
    struct http_exchange *found = NULL;
    pthread_mutex_lock(&h->lock);
    for (struct http_exchange *x = h->replies; x && !found; x = x->next) {
        if (!x->is_cut) {
            x->is_cut = true;
            // One whose last owner has just gone waits for this lock to leave the list.
            int n = atomic_load(&x->n_owners);
            while (n > 0 && !atomic_compare_exchange_weak(&x->n_owners, &n, n + 1)) {
            }
            found = n > 0 ? x : NULL;
        }
    }
    pthread_mutex_unlock(&h->lock);
    return found;
}

void http_release(struct http *h)
{
    if (atomic_fetch_sub(&h->n_owners, 1) != 1) {
        return;
    }
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
    buf_release(&h->tls_cert);
    buf_release(&h->tls_key);
    mem_free(h);
}

void http_stop(struct http *h)
{
    if (!h) {
        return;
    }
    atomic_store(&h->is_stopping, true);
    http_quiesce(h);
    for (struct http_exchange *x = next_to_cut(h); x; x = next_to_cut(h)) {
        http_exchange_cut(x);
        http_exchange_release(x, 1);
    }
    if (h->daemon) {
        MHD_stop_daemon(h->daemon); // every connection was resumed, and none is suspended any more
    }
    pthread_mutex_lock(&h->lock);
    h->is_over = true; // what still has an owner ends without a word
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    if (h->has_watcher) {
        pthread_join(h->watcher, NULL);
    }
    if (h->listener >= 0) {
        close(h->listener);
    }
    http_release(h);
}
