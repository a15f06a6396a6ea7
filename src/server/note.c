// SPDX-License-Identifier: Apache-2.0
// Notes go into a header and a line of the log: one line, short.
#include "server/note.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NOTE_MAX 190

void ask_note(struct call *call, const char *format, ...)
{
    char words[NOTE_MAX + 1];
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    if (written <= 0 || written > NOTE_MAX) {
        return;
    }
    for (char *c = words; *c; c++) {
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    }
    const char *before = call->ask.note ? call->ask.note : "";
    size_t size = strlen(before);
    if (strstr(before, words) || size + 2 + (size_t)written > NOTE_MAX) {
        return;
    }
    char joined[2 * NOTE_MAX];
    int n = snprintf(joined, sizeof(joined), "%s%s%s", before, size ? "; " : "", words);
    // Without memory for a note the request is no worse off.
    const char *note = call_text(call, slice_make(joined, (size_t)n), NULL);
    call->ask.note = note ? note : call->ask.note;
}
