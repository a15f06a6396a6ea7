// SPDX-License-Identifier: Apache-2.0
// What dialects use while they parse, and how a call begins and ends.
#include "server/call.h"

#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/error.h"
#include "base/os.h"
#include "server/compiled.h"
#include "server/decoder.h"
#include "server/fetch.h"
#include "server/recall.h"
#include "server/work.h"

#define FETCH_SECONDS  30.0 // for an address in a request
#define CALL_MEDIA_MAX 1024
#define URL_SHOWN      80   // bytes of an address in an error
#define PATH_BYTES_MAX 4096 // of a file's name in a request

// ------------------------------------------------------------------------------------ for parse

struct work *work_of(struct call *call)
{
    return (struct work *)call;
}

void *call_take(struct call *call, size_t size, struct carat_error *err)
{
    return arena_take(&call->arena, size, err);
}

const char *call_text(struct call *call, struct slice text, struct carat_error *err)
{
    return arena_strndup(&call->arena, text.data ? text.data : "", text.size, err);
}

const char *call_json(struct call *call, const struct json_value *v, struct carat_error *err)
{
    struct buf text = {0};
    const char *copy = NULL;
    json_write(v, &text);
    if (buf_status(&text, err) == 0) {
        copy = arena_strndup(&call->arena, buf_text(&text), text.size, err);
    }
    buf_release(&text);
    return copy;
}

// Deeper than this, before anything is parsed. Brackets inside strings do not count.
static bool is_too_deep(struct slice text, size_t depth_max)
{
    size_t depth = 0;
    bool is_string = false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (is_string) {
            i += c == '\\';
            is_string = c != '"';
        } else if (c == '"') {
            is_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > depth_max) {
                return true;
            }
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        }
    }
    return false;
}

int call_parse_body(struct call *call, const struct json_value **root, struct carat_error *err)
{
    size_t depth_max = call->server->options->json_depth_max;
    if (call->body.size == 0) {
        return fail(err, CARAT_E_FORMAT, "the request has no body: expected a JSON object");
    }
    if (depth_max > 0 && is_too_deep(call->body, depth_max)) {
        return fail(err, CARAT_E_FORMAT, "the request's JSON is nested deeper than %zu levels",
                    depth_max);
    }
    int rc = json_parse(&call->doc, call->body.data, call->body.size, "the request's body", err);
    if (rc) {
        return rc;
    }
    const struct json_value *v = json_root(call->doc);
    if (json_kind(v) != JSON_OBJECT) {
        return fail(err, CARAT_E_FORMAT, "the request's body: expected a JSON object, found %s",
                    json_kind_name(json_kind(v)));
    }
    *root = v;
    return 0;
}

static bool is_wanted(void *user)
{
    const struct call *call = user;
    return !http_reply_is_gone(call->reply);
}

int call_decode(struct call *call, const struct carat_media_source *source,
                struct carat_media **out, struct carat_error *err)
{
    struct carat_media_source limited = *source;
    limited.limits = call->server->options->media;
    const struct decoder_wish wish = {.source = &limited, .go_on = is_wanted, .user = call};
    return call->server->decoder && source->data
               ? decoder_decode(call->server->decoder, out, &wish, err)
               : carat_media_new(out, &limited, err);
}

int call_add_media(struct call *call, const struct carat_media_source *source,
                   const struct carat_media **out, struct carat_error *err)
{
    if (call->n_media == CALL_MEDIA_MAX) {
        return fail(err, CARAT_E_FULL, "a request may have at most %d pictures, sounds and films",
                    CALL_MEDIA_MAX);
    }
    if (call->n_media % 16 == 0) {
        size_t size = (call->n_media + 16) * sizeof(struct carat_media *);
        void *grown = call->media ? mem_resize(call->media, size, err) : mem_new(size, err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        call->media = grown;
    }
    struct carat_media *medium = NULL;
    int rc = call_decode(call, source, &medium, err);
    if (rc) {
        return rc;
    }
    call->media[call->n_media++] = medium;
    *out = medium;
    return 0;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static void percent_decode(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        int high = text.data[i] == '%' && i + 2 < text.size ? hex(text.data[i + 1]) : -1;
        int low = high >= 0 ? hex(text.data[i + 2]) : -1;
        if (low >= 0) {
            buf_addc(out, (char)(high * 16 + low));
            i += 2;
        } else {
            buf_addc(out, text.data[i]);
        }
    }
}

// data:[type][;parameter]...[;base64],content (RFC 2397)
static int read_data_url(struct slice url, struct buf *out, struct carat_error *err)
{
    const char *comma = memchr(url.data, ',', url.size);
    if (!comma) {
        return fail(err, CARAT_E_FORMAT,
                    "a data: address has no comma before its content: expected "
                    "\"data:image/png;base64,...\"");
    }
    struct slice head = slice_make(url.data, (size_t)(comma - url.data));
    struct slice content = slice_make(comma + 1, url.size - head.size - 1);
    if (slice_ends(head, ";base64")) {
        return base64_decode(out, content, err);
    }
    percent_decode(out, content);
    return 0;
}

static int fetch(struct call *call, struct slice url, struct buf *out, struct carat_error *err)
{
    struct fetch_options options = {.size_max = call->server->options->body_size_max,
                                    .seconds_max = FETCH_SECONDS};
    if (!call->server->options->fetches_urls) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "addresses in requests are not fetched: send the content itself, as "
                    "data:TYPE;base64,..., or start the server with --fetch-urls");
    }
    const char *text = call_text(call, url, err);
    return text ? fetch_url(out, text, &options, err) : CARAT_E_MEMORY;
}

// file:PATH, file:///PATH, or the path itself.
static int read_local(struct call *call, struct slice url, struct buf *out, struct carat_error *err)
{
    const char *folder = call->server->options->media_folder;
    uint64_t file_max = call->server->options->media.file_size_max;
    struct buf path = {.max = PATH_BYTES_MAX};
    struct slice name = url;
    if (slice_starts(url, "file:")) {
        name = slice_make(url.data + 5, url.size - 5);
        bool has_host = slice_starts(name, "//");
        name = has_host ? slice_make(name.data + 2, name.size - 2) : name;
        if (has_host && slice_starts(name, "localhost/")) {
            name = slice_make(name.data + 9, name.size - 9);
        }
    }
    if (!slice_starts(name, "/")) {
        buf_adds(&path, folder);
        buf_addc(&path, '/');
    }
    if (name.data == url.data) {
        buf_add_slice(&path, name);
    } else {
        percent_decode(&path, name);
    }
    int rc = path.is_full ? fail(err, CARAT_E_ARGUMENT,
                                 "expected the path of a file, found %zu bytes", url.size)
                          : buf_status(&path, err);
    if (rc == 0 && (name.size == 0 || memchr(path.data, '\0', path.size))) {
        rc = fail(err, CARAT_E_ARGUMENT, "expected the path of a file");
    } else if (rc == 0 && os_exists(path.data) && !os_is_file(path.data)) {
        rc = fail(err, CARAT_E_ARGUMENT, "%s: expected a file", path.data);
    }
    size_t max = file_max > 0 && file_max < BUF_MAX_DEFAULT ? (size_t)file_max : BUF_MAX_DEFAULT;
    if (rc == 0) {
        out->max = max;
        rc = os_read_file(out, path.data, max, err);
    }
    if (rc == CARAT_E_IO && err) {
        err->status = rc = CARAT_E_ARGUMENT; // the request's mistake, not this program's
    }
    buf_release(&path);
    return rc;
}

// What stands for a scheme ("https:") before a path could begin.
static bool has_scheme(struct slice url)
{
    for (size_t i = 0; i + 2 < url.size && url.data[i] != '/'; i++) {
        if (url.data[i] == ':') {
            return url.data[i + 1] == '/' && url.data[i + 2] == '/';
        }
    }
    return false;
}

bool call_is_url(const struct call *call, struct slice text)
{
    if (slice_starts(text, "data:")) {
        return true;
    }
    // Base64 has no dots, names of files have.
    return call->server->options->media_folder &&
           (slice_starts(text, "file:") ||
            (text.size < PATH_BYTES_MAX && memchr(text.data, '.', text.size)));
}

int call_read_url(struct call *call, struct slice url, struct slice *out, struct carat_error *err)
{
    struct buf data = {.max = call->server->options->body_size_max};
    int rc = 0;
    if (slice_starts(url, "data:")) {
        rc = read_data_url(url, &data, err);
    } else if (slice_starts(url, "http://") || slice_starts(url, "https://")) {
        rc = fetch(call, url, &data, err);
    } else if (call->server->options->media_folder &&
               (slice_starts(url, "file:") || !has_scheme(url))) {
        rc = read_local(call, url, &data, err);
    } else {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "address \"%.*s\": expected data:, http: or https:; files are sent in the "
                  "request, as data:TYPE;base64,...",
                  (int)(url.size < URL_SHOWN ? url.size : URL_SHOWN), url.data);
    }
    rc = rc ? rc : buf_status(&data, err);
    if (rc == 0) {
        char *copy = arena_strndup(&call->arena, buf_text(&data), data.size, err);
        rc = copy ? 0 : CARAT_E_MEMORY;
        *out = slice_make(copy, data.size);
    }
    buf_release(&data);
    return rc;
}

const char *call_recall(struct call *call, struct slice id, const char *name, const char *arguments)
{
    struct buf sampled = {0};
    const char *copy = NULL;
    if (call->server->recall && recall_get(call->server->recall, id, name, arguments, &sampled) &&
        !sampled.has_failed) {
        copy = arena_strndup(&call->arena, buf_text(&sampled), sampled.size, NULL);
    }
    buf_release(&sampled);
    return copy;
}

int64_t call_now(void)
{
    return os_unix_time();
}

int call_status_of(const struct carat_error *error)
{
    switch (error->status) {
    case CARAT_E_ARGUMENT:
    case CARAT_E_FORMAT:
    case CARAT_E_UNSUPPORTED:
        return 400;
    case CARAT_E_FULL:
        return 413;
    case CARAT_E_MEMORY:
    case CARAT_E_STOPPED:
        return 503;
    default:
        return 500;
    }
}

void sse_begin(struct buf *out, const char *event)
{
    if (event) {
        buf_adds(out, "event: ");
        buf_adds(out, event);
        buf_addc(out, '\n');
    }
    buf_adds(out, "data: ");
}

void sse_end(struct buf *out)
{
    buf_adds(out, "\n\n");
}

// ------------------------------------------------------------------------------------ beginning

// Letters and digits, for ids.
static void make_name(char *out, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits = i % 8 == 0 ? os_random_u64() : bits;
        out[i] = letters[bits % 62];
        bits /= 62;
    }
    out[n] = '\0';
}

void call_make_id(char out[40], const char *prefix)
{
    size_t size = strlen(prefix);
    require(size < 16);
    memcpy(out, prefix, size);
    make_name(out + size, 24);
}

static void refuse_without_memory(struct http_reply *reply)
{
    static const char text[] = "{\"error\":{\"message\":\"no memory for another request\"}}";
    http_reply_all(reply, 503, "application/json", NULL, text, sizeof(text) - 1);
}

void call_start(struct server *server, const struct dialect *dialect, struct http_reply *reply)
{
    struct work *w = mem_new(sizeof(*w), NULL);
    if (!w) {
        refuse_without_memory(reply);
        return;
    }
    struct call *call = &w->call;
    *call = (struct call){
        .server = server,
        .dialect = dialect,
        .reply = reply,
        .body = http_reply_request(reply)->body,
        .created = call_now(),
        .model = server->model_id,
        .ask = {.sampling = server->options->sampling,
                .has_loop_guard = server->options->has_loop_guard},
    };
    double wanted = http_reply_request(reply)->seconds_max;
    double limit = server->options->call_seconds;
    call->ask.seconds_max = limit > 0 && wanted > limit ? limit : wanted;
    w->submitted = os_seconds();
    call_make_id(call->id, "");
    struct carat_error error;
    if (queue_give(server->queue, w, &error)) {
        work_refuse(w, &error);
    }
}

// ------------------------------------------------------------------------------------ ending

void work_free(struct work *w)
{
    if (!w) {
        return;
    }
    struct call *call = &w->call;
    for (size_t i = 0; i < call->n_answers; i++) {
        buf_release(&call->answers[i].text);
        buf_release(&call->answers[i].thought);
    }
    for (size_t i = 0; i < w->n_prompts; i++) {
        carat_prompt_free(w->prompts[i]);
    }
    for (size_t i = 0; i < call->n_media; i++) {
        carat_media_free(call->media[i]);
    }
    mem_free(call->media);
    compiled_release(w->compiled);
    json_free(call->doc);
    arena_release(&call->arena);
    mem_free(w);
}

// The figures for the request's line in the log, and what the metrics count.
static void note_figures(struct work *w, const char *why)
{
    struct call *call = &w->call;
    struct http_figures figures = {
        .are_set = true,
        .prompt_tokens = call->usage.prompt_tokens,
        .cached_tokens = call->usage.cached_tokens,
        .answer_tokens = call->usage.answer_tokens,
    };
    const char *note = call->ask.note ? call->ask.note : "";
    int size = snprintf(figures.note, sizeof(figures.note), "%s%s%s%s%s", call->dialect->name,
                        *why ? ", " : "", why, *note ? ", " : "", note);
    if (size < 0 || (size_t)size >= sizeof(figures.note)) {
        memcpy(figures.note + sizeof(figures.note) - 4, "...", 4); // the rest is not worth a line
    }
    http_reply_figures(call->reply, &figures);
}

static void count_tokens(struct work *w)
{
    struct metrics *m = &w->call.server->metrics;
    const struct usage *u = &w->call.usage;
    atomic_fetch_add(&m->prompt_tokens, u->prompt_tokens);
    atomic_fetch_add(&m->cached_tokens, u->cached_tokens);
    atomic_fetch_add(&m->answer_tokens, u->answer_tokens);
    histogram_add(&m->request, os_seconds() - w->submitted);
}

// What a header may hold of a text that somebody else wrote.
static void put_header_text(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; text[n] && n + 1 < size; n++) {
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    }
    out[n] = '\0';
}

struct headers {
    const char *list[10];
    char retry[24], note[400];
};

static http_headers make_headers(struct headers *h, const struct work *w, int status,
                                 size_t retry_after)
{
    size_t n = 0;
    if (retry_after > 0) {
        snprintf(h->retry, sizeof(h->retry), "%zu", retry_after);
        h->list[n++] = "Retry-After";
        h->list[n++] = h->retry;
    }
    if (w->call.ask.note && *w->call.ask.note) {
        put_header_text(h->note, sizeof(h->note), w->call.ask.note);
        h->list[n++] = "X-Carat-Note";
        h->list[n++] = h->note;
    }
    if (status == 504) { // asking again would take as long
        h->list[n++] = "X-Should-Retry";
        h->list[n++] = "false";
    }
    if (w->call.dialect->id_header) {
        h->list[n++] = w->call.dialect->id_header;
        h->list[n++] = http_reply_request(w->call.reply)->id;
    }
    h->list[n] = NULL;
    return h->list;
}

static void send_whole(struct work *w, int status, size_t retry_after, const char *type,
                       const struct buf *body)
{
    struct headers headers;
    http_reply_all(w->call.reply, status, type, make_headers(&headers, w, status, retry_after),
                   buf_text(body), body->size);
}

bool work_begin(struct work *w)
{
    struct call *call = &w->call;
    struct headers headers;
    struct buf out = {0};
    http_reply_begin(call->reply, 200, call->dialect->stream_content_type,
                     make_headers(&headers, w, 200, 0));
    w->has_begun = true;
    call->dialect->begin(call, &out);
    bool goes_on = work_send(w, &out);
    buf_release(&out);
    return goes_on;
}

bool work_send(struct work *w, const struct buf *piece)
{
    w->last_sent = os_seconds();
    if (piece->has_failed) {
        w->is_cancelled = true;
    }
    if (!w->is_cancelled && piece->size > 0) {
        w->is_cancelled = !http_reply_send(w->call.reply, piece->data, piece->size);
    }
    return !w->is_cancelled;
}

void work_answer(struct work *w)
{
    struct call *call = &w->call;
    struct buf out = {0};
    if (w->has_begun) {
        call->dialect->end(call, &out);
        work_send(w, &out);
    } else {
        call->dialect->answer(call, &out);
    }
    struct carat_error error;
    if (!w->has_begun && buf_status(&out, &error)) {
        buf_release(&out);
        work_fail(w, call_status_of(&error), &error, 0);
        return;
    }
    count_tokens(w);
    atomic_fetch_add(&call->server->metrics.requests_ok, 1);
    note_figures(w, w->is_cut ? "cut by its time limit" : "");
    if (w->has_begun) {
        http_reply_end(call->reply);
    } else {
        const char *type = call->ask.content_type;
        send_whole(w, 200, 0, type ? type : "application/json", &out);
    }
    buf_release(&out);
    work_free(w);
}

void work_fail(struct work *w, int status, const struct carat_error *error, size_t retry_after)
{
    struct call *call = &w->call;
    struct metrics *m = &call->server->metrics;
    struct buf out = {0};
    bool is_refused = status < 500 || status == 503;
    atomic_fetch_add(is_refused ? &m->requests_refused : &m->requests_failed, 1);
    count_tokens(w);
    note_figures(w, error->text);
    if (!w->has_begun) {
        call->dialect->error(status, error, false, &out);
        send_whole(w, status, retry_after, "application/json", &out);
    } else {
        if (call->dialect->stream_error) {
            call->dialect->stream_error(call, status, error, &out);
        } else {
            call->dialect->error(status, error, true, &out);
        }
        work_send(w, &out);
        http_reply_end(call->reply);
    }
    buf_release(&out);
    work_free(w);
}

void work_refuse(struct work *w, const struct carat_error *error)
{
    struct queue_state state;
    queue_state(w->call.server->queue, &state);
    double seconds = state.seconds_left < 1 ? 1 : state.seconds_left > 60 ? 60 : state.seconds_left;
    work_fail(w, error->status == CARAT_E_FULL ? 429 : 503, error, (size_t)(seconds + 0.5));
}

void work_cancel(struct work *w)
{
    struct buf out = {0};
    count_tokens(w);
    atomic_fetch_add(&w->call.server->metrics.requests_cancelled, 1);
    note_figures(w, "the client went away");
    if (w->has_begun) {
        http_reply_end(w->call.reply);
    } else {
        send_whole(w, 499, 0, "application/json", &out);
    }
    work_free(w);
}
