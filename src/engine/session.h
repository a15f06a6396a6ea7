// SPDX-License-Identifier: Apache-2.0
// A session's inside, for the files of this room. Another thread may look at a session's timeline
// (tokens, keys, n_tokens, n_written, the rows of its kv cache) while it holds the engine's lock,
// so every change of it is made holding that lock.
#ifndef CARAT_ENGINE_SESSION_H
#define CARAT_ENGINE_SESSION_H

#include "engine/span.h"

struct carat_session {
    struct carat_engine *engine;
    struct carat_session_options options;
    struct span_rule rule;
    struct span_scratch scratch;
    struct kv_cache kv;
    carat_token *tokens; // [context_max]
    uint64_t *keys;      // [context_max] as in struct carat_prompt; NULL: the model only reads
    size_t n_tokens;
    // One past the newest position that was put into the cache's rings and may have pushed out an
    // older one: at least n_tokens, more after a rewind or a chunk that was not finished.
    size_t n_written;
    float *logits; // [n_vocab], of the last token when has_logits
    bool has_logits;
    bool is_filled; // the timeline was made up, for measuring: nothing may be read from it

    // What carat_session_prepare left to do: the timeline becomes the prompt's first rest_end
    // tokens. NULL: nothing.
    const struct carat_prompt *rest;
    size_t rest_end;
    size_t n_running; // tokens that the round in progress evaluates
};

// Whether n tokens at position `first` fit the context and the vocabulary.
int session_check_tokens(const struct carat_session *s, const carat_token *tokens, size_t n,
                         size_t first, struct carat_error *err);
// A sync that was stopped inside a chunk may have pushed keys out of the rings that the next token
// would need; only another sync can tell, and start over.
int session_check_can_append(const struct carat_session *s, struct carat_error *err);

// These tokens behind the timeline, with logits of the last one.
struct decoder_segment session_segment(struct carat_session *s, const carat_token *tokens,
                                       size_t n);
// The prompt's next n tokens, with logits where they end at `to`. No block is cut.
struct decoder_segment session_piece(struct carat_session *s, const struct carat_prompt *p,
                                     size_t n, size_t to);
// Holding the engine's lock: before rows of n tokens enter the rings, and when they did.
void session_note_written(struct carat_session *s, size_t n);
// p: whose tokens they are; NULL: they are all text.
void session_append(struct carat_session *s, const carat_token *tokens, size_t n,
                    const struct carat_prompt *p);
// Evaluates one chunk; the timeline grows only when all went well.
int session_run(struct carat_session *s, const struct decoder_segment *segment,
                const struct carat_prompt *p, struct carat_error *err);
void session_keep_logits(void *user, size_t position, const float *logits); // user: the session

// Forgets what carat_session_prepare left to do.
void session_forget_rest(struct carat_session *s);

#endif
