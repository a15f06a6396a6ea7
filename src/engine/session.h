// SPDX-License-Identifier: Apache-2.0
// A session's inside, for the files of this room. Another thread may look at a session's timeline
// (tokens, keys, n_tokens, n_written, the rows of its kv cache and its mark, its logits) while it
// holds the engine's lock, so every change of it is made holding that lock.
#ifndef CARAT_ENGINE_SESSION_H
#define CARAT_ENGINE_SESSION_H

#include "engine/span.h"
#include "model/kv_rows.h"

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

    // Where prompts ended: the last one, and the last one that began a turn. Answers behind the
    // latter may come back without their thoughts. 0: not in this timeline.
    size_t prompt_end;
    size_t anchor;
    struct kv_mark mark; // the window before the anchor, once the rings let go of it
    // Prompts are known to part here: a snapshot is kept when the timeline is as long. 0: nowhere.
    size_t branch;
    struct carat_session *next; // of the same cache, when it is joined
    bool is_joined;

    carat_on_tensor on_tensor; // of the options, or who looks in its place: session_embed.c
    void *tensor_user;
    double *pool;    // [hidden_size] the sum of the states for an embedding; NULL: none was made
    size_t n_pooled; // positions of this timeline, from the first on, that are in it
};

// What a timeline and a prompt have in common, and how much of it can stay.
struct session_beginning {
    size_t common;
    size_t n;       // the timeline can go on behind this many tokens
    bool from_mark; // the mark's rows have to be put back first
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

// A timeline of n tokens takes the place of this one; its rows are there, its tokens follow. 0:
// nothing stays. The engine's lock is held.
void session_set_length(struct carat_session *s, size_t n, size_t n_written);
// The first n tokens of a prompt, in place of what is there.
void session_set_tokens(struct carat_session *s, const struct carat_prompt *p, size_t n);

// How much of the tokens (with their keys; NULL: all 0) begins like the prompt.
size_t session_common_tokens(const struct carat_session *s, const struct carat_prompt *p,
                             const carat_token *tokens, const uint64_t *keys, size_t n);
// How much of a common beginning should stay when the timeline is to be the prompt's first `to`
// tokens: never a part of a block, and one token less where logits are needed and not there.
size_t session_wanted(const struct carat_session *s, const struct carat_prompt *p, size_t common,
                      size_t to, bool has_logits);
// The longest part of it that can go on from such rows.
size_t session_longest(const struct carat_session *s, const struct carat_prompt *p,
                       struct kv_held held, size_t wanted);
// carat_session_prepare, evaluating all of the prompt (anew) or what is missing; and reading at
// once what it left to do.
int session_prepare(struct carat_session *s, const struct carat_prompt *p, bool anew,
                    size_t *reused, struct carat_error *err);
int session_read_rest(struct carat_session *s, struct carat_error *err);
// Where the next chunk has to end at the latest.
size_t session_stop(const struct carat_session *s, size_t to);

// Forgets what carat_session_prepare left to do, and looks at its states no longer.
void session_forget_rest(struct carat_session *s);

#endif
