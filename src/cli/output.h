// SPDX-License-Identifier: Apache-2.0
// Where the program's words go: the answer to standard output, everything else to standard error.
#ifndef CARAT_CLI_OUTPUT_H
#define CARAT_CLI_OUTPUT_H

#include "base/str.h"

// Standard output, with its first failure remembered: a full disk must not look like success.
struct output {
    bool is_terminal;
    bool has_colour;
    bool errors_have_colour; // the same for standard error
    bool errors_are_terminal;
    int failed_errno; // 0: all went well
    char last;        // last byte written, to know whether a line is open
};

void output_init(struct output *out);
// False once something could not be written.
bool output_write(struct output *out, const char *data, size_t size);
bool output_text(struct output *out, const char *text);
bool output_format(struct output *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Text of a model or a file: on a terminal, control characters that could steer it are made
// visible.
bool output_foreign(struct output *out, const char *data, size_t size);
bool output_flush(struct output *out);
// Flushes; says what went wrong, if anything did. 0 or an exit code. A reader that went away
// (a closed pipe) is not worth a message.
int output_finish(struct output *out);

// One line to standard error, as "carat: ...".
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The same for an error of the library; returns the exit code that fits it.
int say_error(const struct carat_error *err);
// A line to standard error as it is, for figures and hints.
void say_plain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// "7.4 GB", "812 KB": powers of 1000, three digits.
struct size_text {
    char text[24];
};
struct size_text size_text(uint64_t bytes);
// "12,345,678".
struct count_text {
    char text[32];
};
struct count_text count_text(uint64_t n);

// Appends a double so that it reads back as itself; NaN and infinities as null.
void buf_add_number(struct buf *b, double value);

#endif
