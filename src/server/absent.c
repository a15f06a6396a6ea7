// SPDX-License-Identifier: Apache-2.0
// Stands in for parts of the engine that are on their way: weak, so that the real ones take their
// place as they come.
#include "base/error.h"

#define STAND_IN __attribute__((weak))

STAND_IN int carat_grammar_new(struct carat_grammar **out, const struct carat_engine *engine,
                               const struct carat_grammar_options *options, struct carat_error *err)
{
    (void)engine;
    (void)options;
    *out = NULL;
    (void)err;
    return 0;
}

STAND_IN void carat_grammar_free(struct carat_grammar *grammar)
{
    (void)grammar;
}

STAND_IN int carat_loop_guard_new(struct carat_loop_guard **out, struct carat_error *err)
{
    *out = NULL;
    (void)err;
    return 0;
}

STAND_IN bool carat_loop_guard_feed(struct carat_loop_guard *guard, carat_token token)
{
    (void)guard;
    (void)token;
    return false;
}

STAND_IN void carat_loop_guard_free(struct carat_loop_guard *guard)
{
    (void)guard;
}
