// SPDX-License-Identifier: Apache-2.0
// Short timelines of made-up tokens on a tiny model of the 12B's architecture, and a folder for
// files.
#ifndef TESTS_TIMELINES_H
#define TESTS_TIMELINES_H

#include "carat.h"

#define TIMELINES_MODEL  TEST_DATA "/fixtures/unified-text/model" // window 16, vocabulary 384
#define TIMELINES_WINDOW 16
#define TIMELINES_VOCAB  384

struct carat_engine *open_engine(const char *model);
// context_max 0: 256.
struct carat_session *open_session(struct carat_engine *e, struct carat_session_options options);
// A fixed walk through the vocabulary that `seed` chooses, control tokens left out.
void fill_tokens(carat_token *tokens, size_t n, unsigned seed);
struct carat_prompt *make_prompt(const struct carat_engine *e, const carat_token *tokens, size_t n);
// Returns how many were reused.
size_t sync_tokens(struct carat_session *s, const carat_token *tokens, size_t n);
size_t prepare_tokens(struct carat_session *s, const carat_token *tokens, size_t n);
void decode_token(struct carat_session *s, carat_token token);
// The session's logits are, to the bit, those of another one that read these tokens alone.
void check_logits(struct carat_session *s, const carat_token *tokens, size_t n);
// The session's timeline, and that it goes on rightly: ten more tokens.
void check_goes_on(struct carat_session *s, const carat_token *tokens, size_t n);

// A fresh folder; the path of a name in it, in one of a few buffers.
struct place {
    char folder[64];
};
void place_make(struct place *p);
const char *place_path(const struct place *p, const char *name);
// How many files there are whose names end so, and the first one's path.
size_t place_count(const struct place *p, const char *end, char first[300]);
void place_remove(struct place *p);

#endif
