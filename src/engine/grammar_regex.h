// SPDX-License-Identifier: Apache-2.0
// Regular expressions as automata over code points. The syntax is that of ECMAScript without what
// no automaton can do, docs/grammars.md lists it.
#ifndef CARAT_ENGINE_GRAMMAR_REGEX_H
#define CARAT_ENGINE_GRAMMAR_REGEX_H

#include "engine/grammar_nfa.h"

#define REGEX_SIZE_MAX   ((size_t)4096) // bytes of an expression from outside
#define REGEX_REPEAT_MAX 4096u          // in braces
#define REGEX_DEPTH_MAX  64u            // groups in groups

// is_search: it may match anywhere in the text, as a JSON Schema's pattern; otherwise it is all of
// the text. where is what errors call it.
int regex_compile(struct dfa *out, struct slice text, bool is_search, const char *where,
                  struct carat_error *err);

#endif
