// SPDX-License-Identifier: Apache-2.0
#include "server/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/os.h"

#define LINE_MAX_SIZE 8192
#define PATH_SHOWN    300 // bytes of a path in a line

struct when {
    char text[32];
};

static struct when when_now(void)
{
    struct when w = {.text = ""};
    time_t now = (time_t)os_unix_time();
    struct tm utc;
    if (gmtime_r(&now, &utc)) {
        strftime(w.text, sizeof(w.text), "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    return w;
}

static void write_line(struct buf *line)
{
    buf_addc(line, '\n');
    if (!line->has_failed) {
        os_write_error(line->data, line->size);
    }
    buf_release(line);
}

static void add_member(struct buf *out, const char *name, const char *value)
{
    buf_addf(out, ",\"%s\":", name);
    buf_add_json(out, value, strlen(value));
}

static size_t shown(const char *path)
{
    size_t size = strlen(path);
    return size < PATH_SHOWN ? size : PATH_SHOWN;
}

static void request_json(struct buf *out, const struct http_request *q, int status, uint64_t bytes,
                         double seconds)
{
    buf_addf(out, "{\"time\":\"%s\",\"level\":\"info\",\"event\":\"request\"", when_now().text);
    add_member(out, "id", q->id);
    add_member(out, "client", q->client);
    add_member(out, "method", q->is_head ? "HEAD" : q->method);
    buf_adds(out, ",\"path\":");
    buf_add_json(out, q->path, shown(q->path));
    buf_addf(out, ",\"status\":%d,\"bytes\":%llu,\"seconds\":%.6f", status,
             (unsigned long long)bytes, seconds);
    if (q->figures.are_set) {
        buf_addf(out, ",\"prompt_tokens\":%llu,\"cached_tokens\":%llu,\"answer_tokens\":%llu",
                 (unsigned long long)q->figures.prompt_tokens,
                 (unsigned long long)q->figures.cached_tokens,
                 (unsigned long long)q->figures.answer_tokens);
    }
    if (q->figures.note[0]) {
        add_member(out, "note", q->figures.note);
    }
    if (q->traceparent[0]) {
        add_member(out, "traceparent", q->traceparent);
    }
    buf_adds(out, "}");
}

// Paths come from strangers: nothing in a line may steer a terminal or look like another line.
static void add_printable(struct buf *out, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c >= 0x7f || c == '\\') {
            buf_addf(out, "\\x%02x", c);
        } else {
            buf_addc(out, (char)c);
        }
    }
}

static void request_text(struct buf *out, const struct http_request *q, int status, uint64_t bytes,
                         double seconds)
{
    buf_addf(out, "%s %s %s ", when_now().text, q->client, q->is_head ? "HEAD" : q->method);
    add_printable(out, q->path, shown(q->path));
    buf_addf(out, " %d %.3f s %llu bytes", status, seconds, (unsigned long long)bytes);
    if (q->figures.are_set) {
        buf_addf(out, " tokens in %llu (cached %llu) out %llu",
                 (unsigned long long)q->figures.prompt_tokens,
                 (unsigned long long)q->figures.cached_tokens,
                 (unsigned long long)q->figures.answer_tokens);
    }
    buf_addf(out, " id %s", q->id);
    if (q->traceparent[0]) {
        buf_addf(out, " trace %s", q->traceparent);
    }
    for (const char *p = q->figures.note; *p; p++) {
        if (p == q->figures.note) {
            buf_adds(out, ": ");
        }
        buf_addc(out, (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
    }
}

void log_request(bool is_json, const struct http_request *request, int status, uint64_t bytes,
                 double seconds)
{
    struct buf line = {.max = LINE_MAX_SIZE};
    if (is_json) {
        request_json(&line, request, status, bytes, seconds);
    } else {
        request_text(&line, request, status, bytes, seconds);
    }
    write_line(&line);
}

void log_text(bool is_json, const char *level, const char *format, ...)
{
    struct buf line = {.max = LINE_MAX_SIZE};
    char text[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (is_json) {
        buf_addf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"message\"", when_now().text,
                 level);
        add_member(&line, "text", text);
        buf_adds(&line, "}");
    } else {
        buf_addf(&line, "%s %s: %s", when_now().text, level, text);
    }
    write_line(&line);
}
