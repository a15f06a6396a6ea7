// SPDX-License-Identifier: Apache-2.0
// Leads answers through grammars, for tests.
#ifndef CARAT_TESTS_GRAMMAR_WALK_H
#define CARAT_TESTS_GRAMMAR_WALK_H

#include "base/str.h"
#include "engine/grammar.h"

uint64_t walk_random(uint64_t *state); // splitmix64

// Whether the grammar takes the tokens one by one and then a stop token. *refused (may be NULL)
// gets the place of the first it does not take.
bool walk_tokens(const struct carat_engine *engine, const struct carat_grammar *grammar,
                 const carat_token *tokens, size_t n, size_t *refused);
// The same for text with its markers spelled out, tokenized as the model would.
bool walk_text(const struct carat_engine *engine, const struct carat_grammar *grammar,
               const char *text);
// The same for plain text cut into tokens at random.
bool walk_pieces(const struct carat_engine *engine, const struct carat_grammar *grammar,
                 const char *text, uint64_t *random);

// An answer made by sampling with random logits that like to come to an end, as the parser shows
// its text, or, with a call, the arguments. False when it did not end within n_max tokens.
struct walk_answer {
    struct buf text, thought, name, arguments;
    size_t n_calls;
    enum carat_stop stop;
};
bool walk_sample(const struct carat_engine *engine, const struct carat_grammar *grammar,
                 uint64_t seed, size_t n_max, struct walk_answer *out);
void walk_answer_release(struct walk_answer *answer);

#endif
