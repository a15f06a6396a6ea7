// SPDX-License-Identifier: Apache-2.0
// What a picture, sound or film becomes in the text of a prompt: times, markers and as many
// placeholders as it has soft tokens. Which placeholders are whose is known from here on, not found
// again by their ids.
#ifndef CARAT_CHAT_EXPAND_H
#define CARAT_CHAT_EXPAND_H

#include "chat/pieces.h"
#include "engine/media.h"

// Placeholders that the template wrote for a medium.
struct chat_run {
    const struct carat_media *media;
    size_t i_run; // as media_run_at counts
    size_t n;     // placeholders, at least 1
    size_t first; // token; only when there are tokens
};

// Zeroed memory is fresh.
struct expansion {
    struct chat_run *runs; // one for each mark in the pieces, in the same order
    size_t n_runs;
    size_t capacity;
    size_t cut; // where the text ends because a sound is not finished; 0: nowhere
};

// Writes a part that is a medium; one placeholder where it has none.
int expansion_add(struct expansion *e, struct pieces *out, const struct carat_part *part,
                  struct carat_error *err);
// Drops all text behind a sound that is not finished; whether there was one.
bool expansion_cut(struct expansion *e, struct pieces *out);
// After pieces_encode: the runs learn their tokens.
int expansion_place(struct expansion *e, const struct pieces *out, struct carat_error *err);
void expansion_release(struct expansion *e);

#endif
