// SPDX-License-Identifier: Apache-2.0
// What the server and a decoder say to each other. Requests: struct decoder_request, then the file.
// Answers: any number of struct decoder_answer of kind WORKING, then one of another kind, then what
// belongs to it. Both ends are one program, so structs go as they are.
#ifndef CARAT_SERVER_DECODER_WORDS_H
#define CARAT_SERVER_DECODER_WORDS_H

#include "carat.h"

// What the library takes where limits are zero (carat.h).
#define DECODER_FILE_DEFAULT    ((uint64_t)1 << 30)
#define DECODER_MEMORY_DEFAULT  ((uint64_t)2 << 30)
#define DECODER_SECONDS_DEFAULT 120.0
#define DECODER_LENGTH_DEFAULT  (3 * 3600.0)

struct decoder_request {
    uint64_t number;                  // given back with every answer
    uint64_t size;                    // of the file that follows
    double cpu_seconds;               // of one core
    struct carat_media_source source; // without its pointers
};

enum decoder_answer_kind {
    DECODER_WORKING = 1, // it is at it
    DECODER_REFUSED,     // a text of that size follows, and that is all
    DECODER_DONE,        // carat_media_write's bytes follow, then the request's number
};
struct decoder_answer {
    uint64_t number;
    uint32_t kind;
    int32_t status; // REFUSED: enum carat_status
    uint32_t size;  // REFUSED: of the text
    uint32_t zero;
};

// Reads one answer. 0: it made sense, and is *out, or *why the file was refused; for anything else
// the decoder is not to be asked again.
struct decoder_hearing {
    uint64_t number;                         // of the request
    const struct carat_media_source *source; // what was asked for
    carat_media_get get;
    void *user;
};
int decoder_hear(const struct decoder_hearing *h, struct carat_media **out, struct carat_error *why,
                 struct carat_error *err);

#endif
