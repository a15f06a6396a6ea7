// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include "base/os.h"
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool colour_fits(bool is_terminal)
{
    const char *term = os_env("TERM");
    return is_terminal && !os_env("NO_COLOR") && !(term && strcmp(term, "dumb") == 0);
}

void output_init(struct output *out)
{
    *out = (struct output){.last = '\n'};
    out->is_terminal = os_is_terminal(1);
    out->has_colour = colour_fits(out->is_terminal);
    out->errors_are_terminal = os_is_terminal(2);
    out->errors_have_colour = colour_fits(out->errors_are_terminal);
}

bool output_write(struct output *out, const char *data, size_t size)
{
    if (out->failed_errno) {
        return false;
    }
    if (size == 0) {
        return true;
    }
    errno = 0;
    if (fwrite(data, 1, size, stdout) != size) {
        out->failed_errno = errno ? errno : EIO;
        return false;
    }
    out->last = data[size - 1];
    return true;
}

bool output_text(struct output *out, const char *text)
{
    return output_write(out, text, strlen(text));
}

bool output_format(struct output *out, const char *format, ...)
{
    if (out->failed_errno) {
        return false;
    }
    va_list list;
    va_start(list, format);
    errno = 0;
    int n = vprintf(format, list);
    va_end(list);
    if (n < 0) {
        out->failed_errno = errno ? errno : EIO;
        return false;
    }
    size_t length = strlen(format);
    if (length > 0) {
        out->last = format[length - 1];
    }
    return true;
}

bool output_foreign(struct output *out, const char *data, size_t size)
{
    if (!out->is_terminal) {
        return output_write(out, data, size);
    }
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        // U+0080..U+009F are control characters too, in UTF-8 C2 80..C2 9F.
        bool is_c1 = c == 0xC2 && i + 1 < size && (unsigned char)data[i + 1] < 0xA0;
        if ((c >= 32 && c != 127 && !is_c1) || c == '\n' || c == '\t') {
            continue;
        }
        output_write(out, data + from, i - from);
        i += is_c1 ? 1 : 0;
        from = i + 1;
        output_text(out, "\xEF\xBF\xBD"); // U+FFFD
    }
    return output_write(out, data + from, size - from);
}

bool output_flush(struct output *out)
{
    errno = 0;
    if (!out->failed_errno && fflush(stdout) != 0) {
        out->failed_errno = errno ? errno : EIO;
    }
    return out->failed_errno == 0;
}

int output_finish(struct output *out)
{
    if (output_flush(out)) {
        return EXIT_OK;
    }
    if (out->failed_errno != EPIPE) {
        say("cannot write to standard output: %s", strerror(out->failed_errno));
    }
    return EXIT_FAILED;
}

void say(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("carat: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

int say_error(const struct carat_error *err)
{
    if (err->status == CARAT_E_STOPPED && os_interrupted()) {
        say("interrupted");
        return EXIT_INTERRUPTED;
    }
    say("%s", err->text);
    return EXIT_FAILED;
}

void say_plain(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

struct size_text size_text(uint64_t bytes)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
    struct size_text out;
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1000;
        unit++;
    }
    int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(out.text, sizeof(out.text), "%.*f %s", digits, value, units[unit]);
    return out;
}

struct count_text count_text(uint64_t n)
{
    char digits[24];
    struct count_text out;
    int size = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
    size_t at = 0;
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0) {
            out.text[at++] = ',';
        }
        out.text[at++] = digits[i];
    }
    out.text[at] = '\0';
    return out;
}

void buf_add_number(struct buf *b, double value)
{
    if (isfinite(value)) {
        buf_addf(b, "%.9g", value);
    } else {
        buf_adds(b, "null");
    }
}
