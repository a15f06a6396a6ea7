// SPDX-License-Identifier: Apache-2.0
// What a session asks of the cache it was made with. All of it does nothing for a session without
// one.
#ifndef CARAT_ENGINE_PREFIX_CACHE_H
#define CARAT_ENGINE_PREFIX_CACHE_H

#include "engine/session.h"

// A cache belongs to one engine. options may be NULL.
int prefix_cache_check(const struct carat_session_options *options,
                       const struct carat_engine *engine, struct carat_error *err);
// A session becomes one that others look at, or none any more. The engine's lock is held for join;
// leave takes it.
void prefix_cache_join(struct carat_session *s);
void prefix_cache_leave(struct carat_session *s); // takes one that never joined

// What the session has is about to be cut to own->common tokens: keeps it, if it is worth that.
void prefix_cache_save(struct carat_session *s, const struct session_beginning *own);
// Takes a longer beginning of the prompt's first `to` tokens from other sessions or from disk, when
// there is one: true, and the timeline is *n tokens of the prompt then. False: the timeline is as
// it was, or (*n is 0) empty. Sets s->branch.
bool prefix_cache_extend(struct carat_session *s, const struct carat_prompt *p, size_t to,
                         const struct session_beginning *own, size_t *n);
// Whether save, or extend, would write or read the rows of a file now. p NULL: save alone.
bool prefix_cache_needs_disk(const struct carat_session *s, const struct carat_prompt *p, size_t to,
                             const struct session_beginning *own);
// The part of extend that reads a file: the timeline becomes what is in it of the prompt, or stays,
// or (the file was damaged) is empty.
void prefix_cache_fetch(struct carat_session *s, const struct carat_prompt *p, size_t to,
                        const struct session_beginning *own);
// Counts what a prompt of `to` tokens reused.
void prefix_cache_count(struct carat_session *s, size_t reused, size_t to);

#endif
