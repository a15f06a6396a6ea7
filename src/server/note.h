// SPDX-License-Identifier: Apache-2.0
// What a request asked for that was passed over, told to its sender in ask.note.
#ifndef CARAT_SERVER_NOTE_H
#define CARAT_SERVER_NOTE_H

#include "server/call.h"

// Adds a few words, as from printf; what is not printable ASCII becomes "?". Beyond some 190 bytes
// in all nothing more is noted, and the same words are noted once.
void ask_note(struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
