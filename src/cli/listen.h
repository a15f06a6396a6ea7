// SPDX-License-Identifier: Apache-2.0
// Sound from standard input while it is being recorded: what has arrived is read into the session
// at once, so that little is left to do when the speaker stops.
#ifndef CARAT_CLI_LISTEN_H
#define CARAT_CLI_LISTEN_H

#include "cli/attach.h"
#include "cli/loading.h"

struct listener {
    struct attachment *sound;    // borrowed
    struct progress *evaluation; // while the session works, input is taken through its hook
    struct buf arrived;          // read, but not yet fed
    bool is_live;                // a WAV; anything else was read to its end and decoded
    bool is_ending;              // Ctrl-C was pressed
    bool has_ended;
    int rc; // of reading, while the session worked
    struct carat_error err;
    double ended_at;       // os_seconds
    size_t n_samples_done; // that were worth an evaluation
};

// Waits for the first bytes. sound->media and its part's are set then. Like all that follows it
// needs l to stay where it is until listener_release.
int listener_open(struct listener *l, struct attachment *sound, const struct loaded *loaded,
                  struct progress *evaluation, struct carat_error *err);
// Waits until there is half a second more and feeds all that has arrived. has_more: the prompt is
// worth evaluating up to here. Otherwise the sound is over. Ctrl-C ends the sound, not the program.
int listener_wait(struct listener *l, bool *has_more, struct carat_error *err);
// An evaluation was stopped by Ctrl-C: the sound is over.
void listener_stopped(struct listener *l);
void listener_release(struct listener *l); // takes zeroed memory

#endif
