// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar_mask.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define TOKENS_MAX 2048 // of a mask that is kept as a list
#define WIDE_BYTES 20   // that may come in a state
#define WIDE_MAX   24   // such states looked at beforehand: 5 to 10 ms each with 262,144 words
#define NARROW_MAX 512  // others: 0.1 ms at most

// Counts of characters in a byte, so that eight are compared at once.
#define COUNT_LONG  0x7E // as many or more
#define COUNT_NEVER 0x7F // not inside the rule
#define COUNT_START ((uint32_t)1 << 30)

struct mask {
    uint64_t *bits;      // [n_words], or NULL
    carat_token *tokens; // [n], or NULL
    size_t n;
    uint8_t *counts;   // [n_vocab] characters that a token adds to the string, or NULL
    struct trie *rest; // of tokens that leave the rule, what comes after; or NULL
};

struct level {
    struct places places;
    struct machine_mark mark;
};

// ------------------------------------------------------------------------------ the cache

int mask_cache_init(struct mask_cache *c, size_t first, size_t n, size_t bytes_max,
                    struct carat_error *err)
{
    c->masks = mem_new_array(n, sizeof(*c->masks), err);
    if (!c->masks) {
        return CARAT_E_MEMORY;
    }
    c->first = first;
    c->n = n;
    c->bytes_max = bytes_max;
    return 0;
}

static void mask_free(struct mask *m)
{
    if (m) {
        mem_free(m->bits);
        mem_free(m->tokens);
        mem_free(m->counts);
        trie_free(m->rest);
        mem_free(m);
    }
}

void mask_cache_release(struct mask_cache *c)
{
    for (size_t i = 0; c->masks && i < c->n; i++) {
        mask_free(atomic_load(&c->masks[i]));
    }
    mem_free(c->masks);
    c->masks = NULL;
}

// ------------------------------------------------------------------------------ walking

// What a walk does with what it meets.
struct walk {
    uint64_t *bits;           // set for tokens that are all read
    uint8_t *counts;          // or NULL
    struct trie_entry *rests; // of tokens that leave the rule; NULL: not collected
    size_t n_rests, rests_capacity;
    uint32_t min, max; // only tokens whose count lies between
    bool wants_ends;   // also of tokens that end where they leave it
    bool has_failed;
};

static uint32_t count_of(uint32_t max_left)
{
    return max_left == COUNT_UNLIMITED ? 0 : COUNT_START - max_left;
}

static void meet_tokens(struct walk *w, const struct trie *t, size_t node, struct places places)
{
    for (size_t i = t->firsts[node]; i < t->firsts[node + 1]; i++) {
        const struct trie_token token = t->tokens[i];
        if (token.count < w->min || token.count > w->max) {
            continue;
        }
        bit_set(w->bits, token.token);
        if (w->counts && places.n > 0) {
            const uint32_t count = count_of(places.items[0].max);
            w->counts[token.token] = count < COUNT_LONG ? (uint8_t)count : COUNT_LONG;
        }
    }
}

static void collect_rests(struct masker *k, struct walk *w, const struct trie *t, size_t node)
{
    const size_t from = w->wants_ends ? t->firsts[node] : t->firsts[node + 1];
    const size_t to = t->firsts[t->ends[node]];
    const uint32_t depth = t->depths[node];
    for (size_t i = from; i < to && !w->has_failed; i++) {
        void *rests = w->rests;
        w->has_failed = list_room(&rests, &w->rests_capacity, w->n_rests, sizeof(*w->rests),
                                  (size_t)1 << 22, "tokens", NULL) != 0;
        w->rests = rests;
        if (!w->has_failed) {
            const struct slice text = tokenizer_text(k->lexicon->tokenizer, t->tokens[i].token);
            w->rests[w->n_rests++] = (struct trie_entry){.data = text.data + depth,
                                                         .size = (uint32_t)text.size - depth,
                                                         .token = t->tokens[i].token,
                                                         .count = count_of(k->machine.left_max)};
        }
    }
}

static void walk_trie(struct masker *k, struct walk *w, const struct trie *t, struct places start,
                      bool collects)
{
    struct machine *m = &k->machine;
    k->levels[0] = (struct level){.places = start, .mark = machine_mark(m)};
    for (size_t node = 1; node < t->n_nodes;) {
        const uint32_t depth = t->depths[node];
        machine_reset(m, k->levels[depth - 1].mark);
        const struct places p = machine_step(m, k->levels[depth - 1].places, t->bytes[node]);
        k->levels[depth] = (struct level){.places = p, .mark = machine_mark(m)};
        if (p.n > 0 || m->has_left || m->is_at_end) {
            meet_tokens(w, t, node, p);
        }
        if (m->has_left && collects) {
            collect_rests(k, w, t, node);
        }
        node = p.n > 0 ? node + 1 : t->ends[node];
    }
    machine_reset(m, k->levels[0].mark);
}

// ------------------------------------------------------------------------------ one state

static size_t count_bits(const uint64_t *bits, size_t n_words)
{
    size_t n = 0;
    for (size_t i = 0; i < n_words; i++) {
        n += (size_t)__builtin_popcountll(bits[i]);
    }
    return n;
}

static void list_tokens(carat_token *out, const uint64_t *bits, size_t n_words)
{
    size_t n = 0;
    for (size_t i = 0; i < n_words; i++) {
        for (uint64_t word = bits[i]; word; word &= word - 1) {
            out[n++] = (carat_token)(i * 64 + (size_t)__builtin_ctzll(word));
        }
    }
}

static size_t mask_memory(const struct lexicon *x, const struct mask *m)
{
    return sizeof(*m) + (m->bits ? x->n_words * sizeof(*m->bits) : 0) + m->n * sizeof(*m->tokens) +
           (m->counts ? x->n_vocab : 0) + (m->rest ? trie_memory(m->rest) : 0);
}

static bool keep_bits(struct mask *m, const struct lexicon *x, const uint64_t *bits)
{
    m->n = count_bits(bits, x->n_words);
    if (m->n <= TOKENS_MAX) {
        m->tokens = mem_new_array(m->n, sizeof(*m->tokens), NULL);
        if (m->tokens) {
            list_tokens(m->tokens, bits, x->n_words);
        }
        return m->tokens != NULL;
    }
    m->n = 0;
    m->bits = mem_new_array(x->n_words, sizeof(*m->bits), NULL);
    if (m->bits) {
        memcpy(m->bits, bits, x->n_words * sizeof(*m->bits));
    }
    return m->bits != NULL;
}

// NULL when there is no memory for it.
static struct mask *find_mask(struct masker *k, uint32_t state)
{
    struct lexicon *x = k->lexicon;
    const bool is_counted = k->machine.program->states[state].is_counted;
    struct walk w = {.bits = k->scratch, .max = UINT32_MAX, .wants_ends = is_counted};
    struct mask *m = mem_new(sizeof(*m), NULL);
    bool is_right = m != NULL;
    if (is_right && is_counted) {
        m->counts = mem_new_array(x->n_vocab + 8, sizeof(*m->counts), NULL);
        is_right = m->counts != NULL;
    }
    if (is_right) {
        memset(k->scratch, 0, x->n_words * sizeof(*k->scratch));
        if (m->counts) {
            memset(m->counts, COUNT_NEVER, x->n_vocab + 8);
        }
        w.counts = m->counts;
        struct place start = {.state = state,
                              .stack = STACK_UNKNOWN,
                              .max = is_counted ? COUNT_START : COUNT_UNLIMITED};
        const struct program *p = k->machine.program;
        const bool is_alone = state >= p->alone && state < p->alone_end;
        walk_trie(k, &w, x->trie, (struct places){.items = &start, .n = 1}, !is_alone);
        is_right = !w.has_failed && keep_bits(m, x, k->scratch);
    }
    if (is_right && w.n_rests > 0) {
        is_right = trie_new(&m->rest, w.rests, w.n_rests, NULL) == 0;
    }
    mem_free(w.rests);
    if (!is_right) {
        mask_free(m);
        m = NULL;
    }
    return m;
}

// The state's mask; *is_kept tells whether the cache has it, otherwise the caller frees it.
static struct mask *get_mask(struct masker *k, uint32_t state, bool *is_kept)
{
    struct mask_cache *c = state < k->machine.program->n_shared ? &k->lexicon->shared : k->own;
    _Atomic(struct mask *) *place = &c->masks[state - c->first];
    struct mask *m = atomic_load_explicit(place, memory_order_acquire);
    *is_kept = true;
    if (m) {
        return m;
    }
    m = find_mask(k, state);
    if (!m) {
        return NULL;
    }
    const size_t size = mask_memory(k->lexicon, m);
    if (atomic_fetch_add(&c->bytes, size) + size > c->bytes_max) {
        atomic_fetch_sub(&c->bytes, size);
        *is_kept = false;
        return m;
    }
    struct mask *other = NULL;
    if (!atomic_compare_exchange_strong(place, &other, m)) {
        atomic_fetch_sub(&c->bytes, size);
        mask_free(m);
        m = other;
    }
    return m;
}

static void warm(struct masker *k, size_t state)
{
    bool is_kept = true;
    struct mask *m = get_mask(k, (uint32_t)state, &is_kept);
    if (!is_kept) {
        mask_free(m);
    }
}

// So many bytes may come that a good part of all tokens has to be looked at.
static bool is_wide(const struct program *p, size_t state)
{
    const struct program_state *s = &p->states[state];
    unsigned n_bytes = 0;
    for (size_t i = 0; i < s->n_edges; i++) {
        const struct program_edge e = p->edges[s->edge + i];
        n_bytes += 1u + e.hi - e.lo;
    }
    return n_bytes >= WIDE_BYTES;
}

void masker_warm(struct masker *k, size_t first, size_t n)
{
    size_t n_wide = 0;
    size_t n_narrow = 0;
    for (size_t i = first; i < first + n; i++) {
        const bool fits =
            is_wide(k->machine.program, i) ? n_wide++ < WIDE_MAX : n_narrow++ < NARROW_MAX;
        if (fits) {
            warm(k, i);
        }
    }
}

// ------------------------------------------------------------------------------ all places

static void add_bits(uint64_t *bits, const struct mask *m, size_t n_words)
{
    for (size_t i = 0; i < m->n; i++) {
        bit_set(bits, m->tokens[i]);
    }
    for (size_t i = 0; m->bits && i < n_words; i++) {
        bits[i] |= m->bits[i];
    }
}

// Tokens that add at most so many characters and stay inside the string. A byte above the limit
// gets its highest bit; the product brings the eight of them together.
static void add_counted(uint64_t *bits, const uint8_t *counts, size_t n_vocab, uint32_t max)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t limit = max == COUNT_UNLIMITED ? COUNT_LONG
                           : max < COUNT_LONG     ? max
                                                  : COUNT_LONG - 1;
    for (size_t i = 0; i < n_vocab; i += 8) {
        uint64_t eight;
        memcpy(&eight, counts + i, sizeof(eight)); // the first in the lowest byte: little-endian
        const uint64_t above = (eight + (0x7F - limit) * ones) & (0x80 * ones);
        const uint64_t within = (above ^ (0x80 * ones)) >> 7;
        const uint64_t byte = within * 0x0102040810204080u >> 56;
        bits[i / 64] |= byte << (i % 64);
    }
}

static void add_rest(struct masker *k, const struct mask *m, struct place place, bool is_limited,
                     uint64_t *bits)
{
    struct machine *machine = &k->machine;
    const struct trie *t = m->rest;
    struct walk w = {.bits = bits,
                     .min = is_limited ? place.min : 0,
                     .max = is_limited ? place.max : UINT32_MAX};
    // Tokens that end with the rule.
    for (size_t i = t->firsts[0]; i < t->firsts[1]; i++) {
        if (t->tokens[i].count >= w.min && t->tokens[i].count <= w.max) {
            bit_set(bits, t->tokens[i].token);
        }
    }
    if (place.stack == STACK_BOTTOM) {
        return; // nothing comes after the text's end
    }
    const struct frame f = machine->frames[place.stack];
    const struct place back = {.state = f.ret, .stack = f.below, .max = COUNT_UNLIMITED};
    const struct machine_mark mark = machine_mark(machine);
    walk_trie(k, &w, t, machine_settle(machine, &back, 1), false);
    machine_reset(machine, mark);
}

static void add_place(struct masker *k, struct place place, uint64_t *bits)
{
    const struct lexicon *x = k->lexicon;
    bool is_kept = true;
    struct mask *m = get_mask(k, place.state, &is_kept);
    if (!m) { // no memory
        masker_walk(k, (struct places){.items = &place, .n = 1}, bits);
        return;
    }
    const bool is_limited = m->counts && (place.min > 0 || place.max < x->trie->depth_max);
    if (is_limited) {
        add_counted(bits, m->counts, x->n_vocab, place.max);
    } else {
        add_bits(bits, m, x->n_words);
    }
    if (m->rest) {
        add_rest(k, m, place, is_limited, bits);
    }
    if (!is_kept) {
        mask_free(m);
    }
}

// Masks do not know how deep the nesting is.
static bool is_deep(const struct masker *k, struct places places)
{
    const uint32_t most = (uint32_t)k->lexicon->trie->depth_max;
    for (size_t i = 0; i < places.n; i++) {
        const struct place p = places.items[i];
        const uint32_t depth = k->machine.frames[p.stack].depth;
        if (depth + k->machine.program->need_max + most > GRAMMAR_DEPTH_MAX) {
            return true;
        }
    }
    return false;
}

void masker_walk(struct masker *k, struct places places, uint64_t *bits)
{
    struct walk w = {.bits = bits, .max = UINT32_MAX};
    walk_trie(k, &w, k->lexicon->trie, places, false);
}

void masker_fill(struct masker *k, struct places places, uint64_t *bits)
{
    if (is_deep(k, places)) {
        masker_walk(k, places, bits);
        return;
    }
    for (size_t i = 0; i < places.n; i++) {
        if (k->machine.program->states[places.items[i].state].n_edges > 0) {
            add_place(k, places.items[i], bits);
        }
    }
}

int masker_init(struct masker *k, struct lexicon *lexicon, const struct program *program,
                struct mask_cache *own, struct carat_error *err)
{
    *k = (struct masker){.lexicon = lexicon, .own = own};
    int rc = machine_init(&k->machine, program, lexicon->trie->depth_max, err);
    if (rc == 0) {
        k->levels = mem_new_array(lexicon->trie->depth_max + 1, sizeof(*k->levels), err);
        k->scratch = mem_new_array(lexicon->n_words, sizeof(*k->scratch), err);
        rc = k->levels && k->scratch ? 0 : CARAT_E_MEMORY;
    }
    if (rc) {
        masker_release(k);
    }
    return rc;
}

void masker_release(struct masker *k)
{
    machine_release(&k->machine);
    mem_free(k->levels);
    mem_free(k->scratch);
    *k = (struct masker){0};
}
