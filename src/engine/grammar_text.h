// SPDX-License-Identifier: Apache-2.0
// Draws automata over code points as bytes, in the form that a text takes where it stands.
#ifndef CARAT_ENGINE_GRAMMAR_TEXT_H
#define CARAT_ENGINE_GRAMMAR_TEXT_H

#include "engine/grammar_program.h"

#define MARK "<|\"|>"

enum text_form {
    TEXT_BARE,   // as it is
    TEXT_JSON,   // escaped, and the quotation mark behind it
    TEXT_MARKED, // as it is, and the marker behind it
};

// For TEXT_MARKED the automaton has to have gone through text_unmarked.
void draw_texts(struct nfa *nfa, struct call_letters *letters, const struct dfa *texts,
                enum text_form form, uint32_t from, uint32_t to);
// One text. False when it cannot be written: it contains the marker.
bool draw_text(struct nfa *nfa, struct slice text, enum text_form form, uint32_t from, uint32_t to);

// The same without the texts that contain the marker spelled out.
int text_unmarked(struct dfa *out, const struct dfa *texts, struct carat_error *err);
// Without those that begin or end with white space.
int text_trimmed(struct dfa *out, const struct dfa *texts, struct carat_error *err);
// Those of at least min and at most max characters, max COUNT_UNLIMITED for no bound.
int text_bounded(struct dfa *out, const struct dfa *texts, uint32_t min, uint32_t max,
                 struct carat_error *err);
// All texts.
int text_any(struct dfa *out, struct carat_error *err);

#endif
