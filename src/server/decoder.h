// SPDX-License-Identifier: Apache-2.0
// Media are decoded in processes of their own: a file that brings a library to crash, to loop or to
// worse costs its own request. A few of them are kept ready, each with limits and a filter of
// system calls (base/os_child.h); what they answer is checked like a file of a stranger
// (carat_media_read).
#ifndef CARAT_SERVER_DECODER_H
#define CARAT_SERVER_DECODER_H

#include "base/str.h"

// The word behind the program's name that makes it such a process.
#define DECODER_WORD "decode-media"

struct decoder;
struct decoder_options {
    size_t ready_max; // processes kept ready, at least 1
    bool logs_json;   // how the log is written
};
// Starts the first one. That this fails is no error: the log says so, and each medium tries again.
int decoder_new(struct decoder **out, const struct decoder_options *options,
                struct carat_error *err);

// carat_media_new in one of them, of source->data; any number of threads at a time. go_on (may be
// NULL) is asked some times a second whether anybody still waits. A process that crashed, took too
// long or answered nonsense is CARAT_E_FORMAT.
struct decoder_wish {
    const struct carat_media_source *source;
    bool (*go_on)(void *user);
    void *user;
};
int decoder_decode(struct decoder *d, struct carat_media **out, const struct decoder_wish *wish,
                   struct carat_error *err);
// What is being decoded fails soon: before the threads that wait for it are joined.
void decoder_stop(struct decoder *d);
void decoder_free(struct decoder *d); // takes NULL; nothing is being decoded

struct decoder_state {
    uint64_t n_ok, n_refused, n_failed; // media; refused: by what stands in the file
    uint64_t n_started;                 // processes, since the beginning
    uint64_t n_running;                 // media that are being decoded
};
void decoder_state(struct decoder *d, struct decoder_state *out);

// The process itself: what main does with DECODER_WORD. The exit code.
int decoder_serve(struct carat_error *err);

#endif
