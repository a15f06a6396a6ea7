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

STAND_IN int carat_session_keep(struct carat_session *session, struct carat_error *err)
{
    (void)session;
    (void)err;
    return 0;
}

STAND_IN int carat_session_embed(struct carat_session *session, const struct carat_prompt *prompt,
                                 float *out, struct carat_error *err)
{
    (void)session;
    (void)prompt;
    (void)out;
    return fail(err, CARAT_E_UNSUPPORTED, "embeddings are not there yet");
}

STAND_IN int carat_cache_new(struct carat_cache **out, struct carat_engine *engine,
                             const struct carat_cache_options *options, struct carat_error *err)
{
    (void)engine;
    (void)options;
    (void)err;
    *out = NULL;
    return 0;
}

STAND_IN void carat_cache_free(struct carat_cache *cache)
{
    (void)cache;
}

STAND_IN void carat_cache_stats(struct carat_cache *cache, struct carat_cache_stats *out)
{
    (void)cache;
    *out = (struct carat_cache_stats){0};
}
