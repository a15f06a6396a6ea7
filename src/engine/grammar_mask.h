// SPDX-License-Identifier: Apache-2.0
// Which tokens may come next. What a state of a program allows by itself, whoever called its rule,
// is found once by walking the trie of all tokens and kept; what depends on the callers is a small
// trie of the rest of those tokens that leave the rule, walked each time.
#ifndef CARAT_ENGINE_GRAMMAR_MASK_H
#define CARAT_ENGINE_GRAMMAR_MASK_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/grammar_machine.h"
#include "engine/grammar_trie.h"
#include "engine/internal.h"

struct mask;

// Masks of a program's states, found when they are asked for. Threads share one without a lock:
// what is there stays, and of two that find the same, one is dropped.
struct mask_cache {
    _Atomic(struct mask *) *masks; // [n]
    size_t n;
    size_t first; // state that masks[0] belongs to
    atomic_size_t bytes;
    size_t bytes_max; // beyond it nothing more is kept
};
int mask_cache_init(struct mask_cache *c, size_t first, size_t n, size_t bytes_max,
                    struct carat_error *err);
void mask_cache_release(struct mask_cache *c);

// What grammars need of a vocabulary. Made when the first grammar is; from then on it does not
// change, but for the cache.
struct lexicon {
    pthread_mutex_t lock; // guards the making
    bool has_lock;
    bool is_ready;
    size_t n_vocab;     // logits
    size_t n_words;     // of 64 bits each, for one bit per token
    uint64_t *ordinary; // tokens that are text
    struct trie *trie;  // of those
    carat_token *stops;
    size_t n_stops;
    struct special_tokens specials;
    const struct tokenizer *tokenizer;
    struct program builtin;   // the rules of every grammar
    struct mask_cache shared; // of their states
};
int lexicon_new(struct lexicon **out, struct carat_error *err); // to be made ready
typedef bool (*lexicon_is_stop)(const void *context, carat_token token);
int lexicon_prepare(struct lexicon *lexicon, const struct tokenizer *tokenizer, size_t n_vocab,
                    lexicon_is_stop is_stop, const void *context, struct carat_error *err);
void lexicon_free(struct lexicon *lexicon);

// One thread's way to masks. The lexicon's and the program's cache are filled by it.
struct masker {
    struct lexicon *lexicon;
    struct mask_cache *own; // of the program's states that are not shared; NULL: no others
    struct machine machine;
    struct level *levels; // [depth_max + 1]
    uint64_t *scratch;    // [n_words]
};
int masker_init(struct masker *k, struct lexicon *lexicon, const struct program *program,
                struct mask_cache *own, struct carat_error *err);
void masker_release(struct masker *k);
// Sets the bits of the ordinary tokens that may come at these places.
void masker_fill(struct masker *k, struct places places, uint64_t *bits);
// The same by walking the whole trie, without masks.
void masker_walk(struct masker *k, struct places places, uint64_t *bits);
// Finds masks of these states beforehand, as many as can be found in a small part of a second.
void masker_warm(struct masker *k, size_t first, size_t n);

static inline void bit_set(uint64_t *bits, carat_token token)
{
    bits[(size_t)token / 64] |= (uint64_t)1 << ((size_t)token % 64);
}
static inline bool bit_get(const uint64_t *bits, carat_token token)
{
    return (bits[(size_t)token / 64] >> ((size_t)token % 64) & 1) != 0;
}

#endif
