// SPDX-License-Identifier: Apache-2.0
// Sound to text: what api_transcriptions.c, which reads requests and writes answers, has of
// transcription_sound.c, which cuts the sound and asks the model.
#ifndef CARAT_SERVER_TRANSCRIPTION_H
#define CARAT_SERVER_TRANSCRIPTION_H

#include "server/call.h"

#define TRANSCRIPTION_PIECE_SECONDS 30 // what the model takes at once
#define TRANSCRIPTION_QUIET_SECONDS 5  // at the end of a piece, where a quiet place is looked for

struct transcription_piece {
    double start, end; // seconds
};

// What is asked of the model.
struct transcription_wish {
    struct slice language; // as the client gave it: a code or a name; empty: any
    struct slice context;  // words that may occur, what was said before; may be empty
    bool translates;       // to English
};

// The pieces of a sound file and the conversations about them, in call->ask.
int transcription_ask(struct call *call, const struct transcription_wish *wish, struct slice file,
                      struct transcription_piece **pieces, size_t *n, double *seconds,
                      struct carat_error *err);
// The English name of an ISO 639-1 code; NULL: not known.
const char *transcription_language(struct slice code);

#endif
