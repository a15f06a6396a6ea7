// SPDX-License-Identifier: Apache-2.0
// Runs of soft tokens on their way through a session: whether the model can take them, where a
// prompt may be cut, and what a chunk hands to the decoder.
#ifndef CARAT_ENGINE_SPAN_H
#define CARAT_ENGINE_SPAN_H

#include "engine/engine.h"

// Most soft tokens of a picture, and of 30 s of sound: a session has room to read as many at once.
#define SPAN_PICTURE_TOKENS 1120
#define SPAN_SOUND_TOKENS   750

// What a session goes by.
struct span_rule {
    const struct projector *projector;
    size_t chunk;            // tokens evaluated together
    size_t rows_max;         // the same where a span would be cut
    bool pictures_see_ahead; // a picture is a block, and
    bool sound_sees_ahead;   // a span of sound
};

// projector may be NULL.
struct span_rule engine_span_rule(const struct carat_session_options *options,
                                  const struct model_config *config,
                                  const struct projector *projector);

// Whether the projections fit such a span: errors name what is in the way.
int span_check(const struct projector *projector, const struct soft_span *span,
               struct carat_error *err);
// Every placeholder of the prompt has something to evaluate, and every block fits a chunk.
int span_check_prompt(const struct span_rule *rule, const struct carat_prompt *p,
                      const struct special_tokens *specials, struct carat_error *err);

// How far a prompt can be evaluated: all of it, or up to a block that is not there as a whole yet.
size_t span_ready(const struct span_rule *rule, const struct carat_prompt *p);
// The key of a position. *i_span begins at 0, positions ascend.
uint64_t span_key_at(const struct span_rule *rule, const struct carat_prompt *p, size_t position,
                     size_t *i_span);
// The position, or the begin of the block that it is inside of.
size_t span_block_begin(const struct span_rule *rule, const struct carat_prompt *p,
                        size_t position);
// Where the chunk that begins at `from` ends, at most at `to`: no block is cut. It has at most
// n_max tokens (at least 1), or more when it is one block.
size_t span_chunk_end(const struct span_rule *rule, const struct carat_prompt *p, size_t from,
                      size_t to, size_t n_max);
// Rows that are evaluated together for such a session, those of others' steps included.
size_t engine_rows_max(const struct span_rule *rule);

// What a chunk's segment points to; room for rows_max of each.
struct span_scratch {
    struct soft_span *spans;
    size_t *ends;
};
size_t span_scratch_size(size_t rows_max);
int span_scratch_init(struct span_scratch *s, size_t rows_max, struct carat_error *err);
void span_scratch_release(struct span_scratch *s); // takes zeroed memory
// Fills spans and ends of a segment whose first and n are set.
void span_fill(struct decoder_segment *segment, const struct span_rule *rule,
               const struct carat_prompt *p, struct span_scratch *scratch);

#endif
