// SPDX-License-Identifier: Apache-2.0
// Numbers between bounds, as an automaton over their decimal digits: exact, no rounding.
#ifndef CARAT_ENGINE_GRAMMAR_NUMBER_H
#define CARAT_ENGINE_GRAMMAR_NUMBER_H

#include "engine/grammar_nfa.h"

struct number_bounds {
    bool is_integer;
    struct slice min, max, multiple; // as JSON writes numbers; empty: none
    bool is_min_exclusive, is_max_exclusive;
};

// where is what errors call it. Bounds of more than 20 digits on a side of the point and multiples
// that take too many states are CARAT_E_UNSUPPORTED.
int number_texts(struct dfa *out, const struct number_bounds *bounds, const char *where,
                 struct carat_error *err);

#endif
