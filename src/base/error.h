// SPDX-License-Identifier: Apache-2.0
// Filling a struct carat_error, and the levelled log. Nothing here prints: the log goes to one
// callback that the program sets.
#ifndef CARAT_BASE_ERROR_H
#define CARAT_BASE_ERROR_H

#include "carat.h"

// Writes one sentence into err (which may be NULL) and returns status, so that a caller can say
// `return fail(err, CARAT_E_FORMAT, "...")`. The text is cut at the error's size, on a character.
int fail(struct carat_error *err, enum carat_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "prefix: " in front of a message that is already there; does nothing when err is NULL.
void fail_prefix(struct carat_error *err, const char *prefix);

// Sends one line to the log callback, if one is set. Thread-safe as far as the callback is.
void log_line(enum carat_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Ends the program with a message: for the program's own mistakes, in release builds too.
_Noreturn void require_failed(const char *what, const char *file, int line);
#define require(condition) ((condition) ? (void)0 : require_failed(#condition, __FILE__, __LINE__))

#endif
