// SPDX-License-Identifier: Apache-2.0
// Filling errors, the log, and the end of a program that found a mistake in itself.
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Set once by the program before anything else runs, so it needs no lock.
static struct {
    carat_on_log on_log;
    void *user;
} log_sink;

const char *carat_version(void)
{
    return CARAT_VERSION;
}

void carat_set_log(carat_on_log on_log, void *user)
{
    log_sink.on_log = on_log;
    log_sink.user = user;
}

// Where a text of this size may be cut so that no UTF-8 sequence is left half: only the last
// sequence can be incomplete, and it has at most four bytes.
static size_t cut_on_character(const char *text, size_t size)
{
    size_t lead = size;
    for (size_t back = 1; back <= 4 && back <= size; back++) {
        unsigned char c = (unsigned char)text[size - back];
        if ((c & 0xC0U) != 0x80U) {
            lead = size - back;
            break;
        }
    }
    if (lead == size) {
        return size;
    }
    unsigned char c = (unsigned char)text[lead];
    size_t need = c >= 0xF0U ? 4 : c >= 0xE0U ? 3 : c >= 0xC0U ? 2 : 1;
    return size - lead < need ? lead : size;
}

// Copies what fits and ends it on a whole character.
static void put_text(struct carat_error *err, const char *text)
{
    size_t size = strlen(text);
    if (size >= sizeof(err->text)) {
        size = cut_on_character(text, sizeof(err->text) - 1);
    }
    memcpy(err->text, text, size);
    err->text[size] = '\0';
}

int fail(struct carat_error *err, enum carat_status status, const char *format, ...)
{
    if (err) {
        // Formatted aside: an argument may be the old text of this very error.
        char text[sizeof(err->text) + 4];
        va_list args;
        va_start(args, format);
        int n = vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        err->status = (int)status;
        put_text(err, n < 0 ? format : text);
    }
    return (int)status;
}

void fail_prefix(struct carat_error *err, const char *prefix)
{
    if (err) {
        char text[2 * sizeof(err->text)];
        int n = snprintf(text, sizeof(text), "%s: %s", prefix, err->text);
        if (n >= 0) {
            put_text(err, text);
        }
    }
}

void log_line(enum carat_log_level level, const char *format, ...)
{
    if (!log_sink.on_log) {
        return;
    }
    char text[1000];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    if ((size_t)n >= sizeof(text)) {
        text[cut_on_character(text, sizeof(text) - 1)] = '\0';
    }
    log_sink.on_log(log_sink.user, level, text);
}

// The one place in the library that writes to stderr: there is nobody left to hand an error to.
void require_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "carat: mistake in the program at %s:%d: %s does not hold\n", file, line, what);
    abort();
}
