// SPDX-License-Identifier: Apache-2.0
// A grammar's inside, and one answer's way through it.
#ifndef CARAT_ENGINE_GRAMMAR_H
#define CARAT_ENGINE_GRAMMAR_H

#include "engine/grammar_mask.h"

struct carat_grammar {
    struct lexicon *lexicon;
    struct program program;
    struct mask_cache *masks; // of the states that are its own
    uint32_t text;            // first state of the answer's text; NO_STATE_YET: it is free
    uint32_t call;            // of a call's body; NO_STATE_YET: no calls
    enum carat_tool_choice tool_choice;
    bool is_single_call;
    bool starts_in_thought;
    bool has_no_thoughts;
};

struct grammar_run;
// grammar is borrowed.
int grammar_run_new(struct grammar_run **out, const struct carat_grammar *grammar,
                    struct carat_error *err);
// One bit per token that may come next; at least one is set where the vocabulary can write what
// the grammar wants, or has a stop token. NULL: all may. Borrowed until the next call.
const uint64_t *grammar_run_allowed(struct grammar_run *run);
void grammar_run_accept(struct grammar_run *run, carat_token token);
void grammar_run_free(struct grammar_run *run);

#endif
