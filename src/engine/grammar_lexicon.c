// SPDX-License-Identifier: Apache-2.0
// What all grammars of one vocabulary share.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/grammar_mask.h"

#define SHARED_MASKS_MAX ((size_t)64 << 20)

int lexicon_new(struct lexicon **out, struct carat_error *err)
{
    struct lexicon *x = mem_new(sizeof(*x), err);
    if (!x) {
        return CARAT_E_MEMORY;
    }
    if (pthread_mutex_init(&x->lock, NULL) != 0) {
        mem_free(x);
        return fail(err, CARAT_E_MEMORY, "the system gave no lock");
    }
    x->has_lock = true;
    *out = x;
    return 0;
}

static int make_trie(struct lexicon *x, struct carat_error *err)
{
    const size_t n_tokens = tokenizer_n_tokens(x->tokenizer);
    struct trie_entry *entries = mem_new_array(n_tokens, sizeof(*entries), err);
    if (!entries) {
        return CARAT_E_MEMORY;
    }
    size_t n = 0;
    for (size_t i = 0; i < n_tokens && i < x->n_vocab; i++) {
        const carat_token token = (carat_token)i;
        const struct slice text = tokenizer_text(x->tokenizer, token);
        if (text.size == 0 || tokenizer_is_special(x->tokenizer, token)) {
            continue;
        }
        bit_set(x->ordinary, token);
        entries[n++] =
            (struct trie_entry){.data = text.data, .size = (uint32_t)text.size, .token = token};
    }
    const int rc = trie_new(&x->trie, entries, n, err);
    mem_free(entries);
    return rc;
}

static int find_stops(struct lexicon *x, lexicon_is_stop is_stop, const void *context,
                      struct carat_error *err)
{
    x->n_stops = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t n = 0;
        for (size_t i = 0; i < x->n_vocab; i++) {
            if (is_stop(context, (carat_token)i)) {
                if (pass == 1) {
                    x->stops[n] = (carat_token)i;
                    x->ordinary[i / 64] &= ~((uint64_t)1 << (i % 64));
                }
                n++;
            }
        }
        if (pass == 0) {
            x->stops = mem_new_array(n, sizeof(*x->stops), err);
            if (!x->stops) {
                return CARAT_E_MEMORY;
            }
        }
        x->n_stops = n;
    }
    return 0;
}

static void clear(struct lexicon *x)
{
    mem_free(x->ordinary);
    trie_free(x->trie);
    mem_free(x->stops);
    program_release(&x->builtin);
    mask_cache_release(&x->shared);
    x->ordinary = NULL;
    x->trie = NULL;
    x->stops = NULL;
}

// Inside a string nearly every token fits, and the walk is long: the rules of all grammars are
// looked at here, once.
static int warm(struct lexicon *x, struct carat_error *err)
{
    struct masker k;
    int rc = masker_init(&k, x, &x->builtin, NULL, err);
    if (rc == 0) {
        masker_warm(&k, 0, x->builtin.n_states);
        masker_release(&k);
    }
    return rc;
}

static int make(struct lexicon *x, lexicon_is_stop is_stop, const void *context,
                struct carat_error *err)
{
    x->n_words = (x->n_vocab + 63) / 64;
    x->specials = *tokenizer_specials(x->tokenizer);
    x->ordinary = mem_new_array(x->n_words, sizeof(*x->ordinary), err);
    int rc = x->ordinary ? 0 : CARAT_E_MEMORY;
    rc = rc ? rc : make_trie(x, err);
    rc = rc ? rc : find_stops(x, is_stop, context, err);
    rc = rc ? rc : program_builtin(&x->builtin, err);
    if (rc == 0) {
        program_link(&x->builtin);
        rc = mask_cache_init(&x->shared, 0, x->builtin.n_states, SHARED_MASKS_MAX, err);
    }
    return rc ? rc : warm(x, err);
}

int lexicon_prepare(struct lexicon *x, const struct tokenizer *tokenizer, size_t n_vocab,
                    lexicon_is_stop is_stop, const void *context, struct carat_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&x->lock);
    if (!x->is_ready) {
        x->tokenizer = tokenizer;
        x->n_vocab = n_vocab;
        rc = make(x, is_stop, context, err);
        x->is_ready = rc == 0;
        if (rc) {
            clear(x);
        }
    }
    pthread_mutex_unlock(&x->lock);
    return rc;
}

void lexicon_free(struct lexicon *x)
{
    if (!x) {
        return;
    }
    clear(x);
    if (x->has_lock) {
        pthread_mutex_destroy(&x->lock);
    }
    mem_free(x);
}
