// SPDX-License-Identifier: Apache-2.0
// Subset construction and products (Hopcroft, Motwani, Ullman: Introduction to Automata Theory,
// sections 2.3 and 4.2), over ranges of letters instead of single ones.
#include "engine/grammar_nfa.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"

#define NO_EDGE UINT32_MAX
// Members of all sets of one construction: what bounds its time.
#define WORK_MAX ((size_t)1 << 22)

int list_room(void **items, size_t *capacity, size_t n, size_t size, size_t max, const char *what,
              struct carat_error *err)
{
    if (n < *capacity) {
        return 0;
    }
    if (n >= max) {
        return fail(err, CARAT_E_FULL, "grammar: too large: more than %zu %s", max, what);
    }
    size_t grown = *capacity ? 2 * *capacity : 64;
    if (grown > max) {
        grown = max;
    }
    void *p = *items ? mem_resize(*items, grown * size, err) : mem_new_array(grown, size, err);
    if (!p) {
        return CARAT_E_MEMORY;
    }
    *items = p;
    *capacity = grown;
    return 0;
}

// ------------------------------------------------------------------------------ drawing

uint32_t nfa_state(struct nfa *nfa)
{
    void *heads = nfa->heads;
    if (nfa->rc == 0) {
        nfa->rc = list_room(&heads, &nfa->states_capacity, nfa->n_states, sizeof(*nfa->heads),
                            NFA_STATES_MAX, "states", nfa->err);
        nfa->heads = heads;
    }
    if (nfa->rc) {
        return 0;
    }
    nfa->heads[nfa->n_states] = NO_EDGE;
    return (uint32_t)nfa->n_states++;
}

void nfa_edge(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    void *edges = nfa->edges;
    if (nfa->rc == 0) {
        nfa->rc = list_room(&edges, &nfa->edges_capacity, nfa->n_edges, sizeof(*nfa->edges),
                            4 * NFA_STATES_MAX, "transitions", nfa->err);
        nfa->edges = edges;
    }
    if (nfa->rc) {
        return;
    }
    nfa->edges[nfa->n_edges] =
        (struct nfa_edge){.lo = lo, .hi = hi, .to = to, .next = nfa->heads[from]};
    nfa->heads[from] = (uint32_t)nfa->n_edges++;
}

void nfa_empty(struct nfa *nfa, uint32_t from, uint32_t to)
{
    nfa_edge(nfa, from, 1, 0, to);
}

void nfa_text(struct nfa *nfa, uint32_t from, const char *text, size_t size, uint32_t to)
{
    for (size_t i = 0; i < size && nfa->rc == 0; i++) {
        const uint32_t next = i + 1 == size ? to : nfa_state(nfa);
        const uint32_t byte = (uint8_t)text[i];
        nfa_edge(nfa, from, byte, byte, next);
        from = next;
    }
    if (size == 0) {
        nfa_empty(nfa, from, to);
    }
}

void nfa_release(struct nfa *nfa)
{
    mem_free(nfa->heads);
    mem_free(nfa->edges);
    *nfa = (struct nfa){0};
}

// ------------------------------------------------------------------------------ deterministic ones

static int add_dfa_state(struct dfa *d, bool is_final, size_t states_max, struct carat_error *err)
{
    void *states = d->states;
    const int rc = list_room(&states, &d->states_capacity, d->n_states, sizeof(*d->states),
                             states_max, "states", err);
    d->states = states;
    if (rc == 0) {
        d->states[d->n_states++] = (struct dfa_state){.is_final = is_final};
    }
    return rc;
}

// To the newest state's edges. Neighbouring ranges that lead to the same place become one, except
// for what is no code point: those are single letters.
static int add_dfa_edge(struct dfa *d, size_t first, struct dfa_edge e, struct carat_error *err)
{
    if (d->n_edges > first) {
        struct dfa_edge *last = &d->edges[d->n_edges - 1];
        if (last->to == e.to && last->hi + 1 == e.lo && e.hi <= LETTER_MAX) {
            last->hi = e.hi;
            return 0;
        }
    }
    void *edges = d->edges;
    const int rc = list_room(&edges, &d->edges_capacity, d->n_edges, sizeof(*d->edges),
                             (size_t)1 << 22, "transitions", err);
    d->edges = edges;
    if (rc == 0) {
        d->edges[d->n_edges++] = e;
    }
    return rc;
}

void dfa_release(struct dfa *d)
{
    mem_free(d->states);
    mem_free(d->edges);
    *d = (struct dfa){0};
}

// ------------------------------------------------------------------------------ subsets

struct set {
    const uint32_t *members; // in order
    size_t n;
};

struct subsets {
    const struct nfa *nfa;
    struct dfa dfa;
    struct map by_members;
    struct arena arena;
    struct set *sets; // [dfa.n_states]
    size_t sets_capacity;
    uint32_t *stamps; // [nfa->n_states] of the closure that holds it
    uint32_t stamp;
    uint32_t *members; // the closure being made
    size_t n;
    uint32_t *cuts; // where ranges begin or have ended
    size_t cuts_capacity;
    struct nfa_edge *moves; // edges with letters of the current set
    size_t moves_capacity;
    size_t work;
    uint32_t end;
    size_t states_max;
    struct carat_error *err;
};

static int by_value(const void *x, const void *y)
{
    const uint32_t a = *(const uint32_t *)x;
    const uint32_t b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

static void begin_closure(struct subsets *s)
{
    s->stamp++;
    s->n = 0;
}

static void add_member(struct subsets *s, uint32_t state)
{
    if (s->stamps[state] != s->stamp) {
        s->stamps[state] = s->stamp;
        s->members[s->n++] = state;
    }
}

// Adds what is reached without a letter, puts it in order and gives the state's number.
static int end_closure(struct subsets *s, uint32_t *out)
{
    for (size_t i = 0; i < s->n; i++) {
        for (uint32_t e = s->nfa->heads[s->members[i]]; e != NO_EDGE; e = s->nfa->edges[e].next) {
            if (s->nfa->edges[e].lo > s->nfa->edges[e].hi) {
                add_member(s, s->nfa->edges[e].to);
            }
        }
    }
    qsort(s->members, s->n, sizeof(*s->members), by_value);
    struct slice key = slice_make((const char *)s->members, s->n * sizeof(*s->members));
    const uint32_t known = map_get(&s->by_members, key);
    if (known != MAP_NONE) {
        *out = known;
        return 0;
    }
    s->work += s->n;
    if (s->work > WORK_MAX) {
        return fail(s->err, CARAT_E_FULL, "grammar: too large to be made deterministic");
    }
    uint32_t *copy = arena_take(&s->arena, key.size, s->err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    memcpy(copy, s->members, key.size);
    key.data = (const char *)copy;
    void *sets = s->sets;
    int rc = list_room(&sets, &s->sets_capacity, s->dfa.n_states, sizeof(*s->sets), s->states_max,
                       "states", s->err);
    s->sets = sets;
    if (rc == 0) {
        s->sets[s->dfa.n_states] = (struct set){.members = copy, .n = s->n};
        *out = (uint32_t)s->dfa.n_states;
        rc = add_dfa_state(&s->dfa, s->stamps[s->end] == s->stamp, s->states_max, s->err);
    }
    return rc ? rc : map_put(&s->by_members, key, *out, NULL, s->err);
}

static int collect_moves(struct subsets *s, struct set set, size_t *n_moves, size_t *n_cuts)
{
    *n_moves = 0;
    *n_cuts = 0;
    for (size_t i = 0; i < set.n; i++) {
        for (uint32_t e = s->nfa->heads[set.members[i]]; e != NO_EDGE; e = s->nfa->edges[e].next) {
            const struct nfa_edge edge = s->nfa->edges[e];
            if (edge.lo > edge.hi) {
                continue;
            }
            void *moves = s->moves;
            int rc = list_room(&moves, &s->moves_capacity, *n_moves, sizeof(*s->moves), SIZE_MAX,
                               "transitions", s->err);
            s->moves = moves;
            void *cuts = s->cuts;
            for (int k = 0; k < 2 && rc == 0; k++) {
                rc = list_room(&cuts, &s->cuts_capacity, *n_cuts, sizeof(*s->cuts), SIZE_MAX,
                               "transitions", s->err);
                s->cuts = cuts;
                if (rc == 0) {
                    s->cuts[(*n_cuts)++] = k == 0 ? edge.lo : edge.hi + 1;
                }
            }
            if (rc) {
                return rc;
            }
            s->moves[(*n_moves)++] = edge;
        }
    }
    if (*n_cuts > 0) {
        qsort(s->cuts, *n_cuts, sizeof(*s->cuts), by_value);
    }
    return 0;
}

static int expand_set(struct subsets *s, uint32_t state)
{
    size_t n_moves = 0;
    size_t n_cuts = 0;
    const size_t first = s->dfa.n_edges;
    int rc = collect_moves(s, s->sets[state], &n_moves, &n_cuts);
    for (size_t i = 0; i + 1 < n_cuts && rc == 0; i++) {
        const uint32_t lo = s->cuts[i];
        const uint32_t after = s->cuts[i + 1];
        if (lo == after) {
            continue;
        }
        begin_closure(s);
        for (size_t k = 0; k < n_moves; k++) {
            if (s->moves[k].lo <= lo && s->moves[k].hi >= lo) {
                add_member(s, s->moves[k].to);
            }
        }
        s->work += n_moves / 16 + 1;
        if (s->n == 0) {
            continue;
        }
        struct dfa_edge edge = {.lo = lo, .hi = after - 1};
        rc = end_closure(s, &edge.to);
        if (rc == 0) {
            rc = add_dfa_edge(&s->dfa, first, edge, s->err);
        }
    }
    s->dfa.states[state].edge = (uint32_t)first;
    s->dfa.states[state].n_edges = (uint32_t)(s->dfa.n_edges - first);
    return rc;
}

int nfa_determine(struct dfa *out, const struct nfa *nfa, uint32_t start, uint32_t end,
                  size_t states_max, struct carat_error *err)
{
    if (nfa->rc) {
        return nfa->rc;
    }
    struct subsets s = {.nfa = nfa, .end = end, .states_max = states_max, .err = err};
    s.stamps = mem_new_array(nfa->n_states, sizeof(*s.stamps), err);
    s.members = mem_new_array(nfa->n_states, sizeof(*s.members), err);
    int rc = s.stamps && s.members ? 0 : CARAT_E_MEMORY;
    if (rc == 0) {
        uint32_t first = 0;
        begin_closure(&s);
        add_member(&s, start);
        rc = end_closure(&s, &first);
    }
    for (uint32_t i = 0; rc == 0 && i < s.dfa.n_states; i++) {
        rc = expand_set(&s, i);
    }
    if (rc == 0) {
        *out = s.dfa;
        s.dfa = (struct dfa){0};
    }
    dfa_release(&s.dfa);
    map_release(&s.by_members);
    arena_release(&s.arena);
    mem_free(s.sets);
    mem_free(s.stamps);
    mem_free(s.members);
    mem_free(s.cuts);
    mem_free(s.moves);
    return rc;
}

// ------------------------------------------------------------------------------ products

#define NO_STATE UINT32_MAX

struct pair {
    uint32_t a, b; // b NO_STATE: the second automaton is lost
};

struct product {
    const struct dfa *a, *b;
    bool is_minus;
    struct dfa dfa;
    struct pair *pairs;
    size_t pairs_capacity;
    struct map by_pair;
    struct arena arena;
    struct carat_error *err;
};

static int pair_state(struct product *p, struct pair pair, uint32_t *out)
{
    struct slice key = slice_make((const char *)&pair, sizeof(pair));
    const uint32_t known = map_get(&p->by_pair, key);
    if (known != MAP_NONE) {
        *out = known;
        return 0;
    }
    struct pair *copy = arena_take(&p->arena, sizeof(*copy), p->err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    *copy = pair;
    key.data = (const char *)copy;
    void *pairs = p->pairs;
    int rc = list_room(&pairs, &p->pairs_capacity, p->dfa.n_states, sizeof(*p->pairs),
                       DFA_STATES_MAX, "states", p->err);
    p->pairs = pairs;
    if (rc) {
        return rc;
    }
    p->pairs[p->dfa.n_states] = pair;
    *out = (uint32_t)p->dfa.n_states;
    const bool is_b = pair.b != NO_STATE && p->b->states[pair.b].is_final;
    const bool is_final = p->a->states[pair.a].is_final && is_b != p->is_minus;
    const bool b_free =
        p->is_minus ? pair.b == NO_STATE : pair.b != NO_STATE && p->b->states[pair.b].is_free;
    const bool is_free = p->a->states[pair.a].is_free && b_free;
    rc = add_dfa_state(&p->dfa, is_final, DFA_STATES_MAX, p->err);
    if (rc == 0) {
        p->dfa.states[*out].is_free = is_free;
        rc = map_put(&p->by_pair, key, *out, NULL, p->err);
    }
    return rc;
}

// One edge of a against the edges of b, which are in order.
static int pair_edge(struct product *p, struct dfa_edge e, const struct dfa_edge *others, size_t n,
                     size_t first)
{
    uint32_t at = e.lo;
    int rc = 0;
    for (size_t i = 0; i <= n && rc == 0 && at <= e.hi; i++) {
        const bool is_last = i == n;
        if (!is_last && others[i].hi < at) {
            continue;
        }
        // What lies before this edge of b, where b is lost.
        const uint32_t stop = is_last || others[i].lo > e.hi ? e.hi + 1 : others[i].lo;
        if (p->is_minus && at < stop) {
            struct dfa_edge gap = {.lo = at, .hi = stop - 1};
            rc = pair_state(p, (struct pair){.a = e.to, .b = NO_STATE}, &gap.to);
            rc = rc ? rc : add_dfa_edge(&p->dfa, first, gap, p->err);
        }
        at = stop > at ? stop : at;
        if (is_last || at > e.hi || rc) {
            break;
        }
        struct dfa_edge both = {.lo = at, .hi = others[i].hi < e.hi ? others[i].hi : e.hi};
        rc = pair_state(p, (struct pair){.a = e.to, .b = others[i].to}, &both.to);
        rc = rc ? rc : add_dfa_edge(&p->dfa, first, both, p->err);
        at = both.hi + 1;
    }
    return rc;
}

int dfa_product(struct dfa *out, const struct dfa *a, const struct dfa *b, bool is_minus,
                struct carat_error *err)
{
    struct product p = {.a = a, .b = b, .is_minus = is_minus, .err = err};
    uint32_t start = 0;
    int rc = pair_state(&p, (struct pair){0}, &start);
    for (uint32_t i = 0; rc == 0 && i < p.dfa.n_states; i++) {
        const struct pair pair = p.pairs[i];
        const struct dfa_state *x = &a->states[pair.a];
        const struct dfa_state *y = pair.b == NO_STATE ? NULL : &b->states[pair.b];
        const size_t n_others = y ? y->n_edges : 0;
        const struct dfa_edge *others = n_others > 0 ? b->edges + y->edge : NULL;
        const size_t first = p.dfa.n_edges;
        for (size_t k = 0; k < x->n_edges && rc == 0; k++) {
            rc = pair_edge(&p, a->edges[x->edge + k], others, n_others, first);
        }
        p.dfa.states[i].edge = (uint32_t)first;
        p.dfa.states[i].n_edges = (uint32_t)(p.dfa.n_edges - first);
    }
    if (rc == 0) {
        *out = p.dfa;
        p.dfa = (struct dfa){0};
    }
    dfa_release(&p.dfa);
    mem_free(p.pairs);
    map_release(&p.by_pair);
    arena_release(&p.arena);
    return rc;
}

// ------------------------------------------------------------------------------ questions

// A state is free while all code points lead from it to free states that accept: those that do not
// are struck out until nothing changes.
void dfa_mark_free(struct dfa *d)
{
    for (size_t i = 0; i < d->n_states; i++) {
        struct dfa_state *s = &d->states[i];
        uint32_t next = 0;
        for (size_t k = 0; k < s->n_edges && d->edges[s->edge + k].lo == next; k++) {
            next = d->edges[s->edge + k].hi + 1;
        }
        s->is_free = s->is_final && next > LETTER_MAX;
    }
    for (bool has_changed = true; has_changed;) {
        has_changed = false;
        for (size_t i = 0; i < d->n_states; i++) {
            struct dfa_state *s = &d->states[i];
            for (size_t k = 0; k < s->n_edges && s->is_free; k++) {
                if (!d->states[d->edges[s->edge + k].to].is_free) {
                    s->is_free = false;
                    has_changed = true;
                }
            }
        }
    }
}

bool dfa_matches(const struct dfa *d, struct slice text)
{
    uint32_t state = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t c = 0;
        const int length = utf8_next(text.data + i, text.size - i, &c);
        if (length <= 0) {
            return false;
        }
        i += (size_t)length;
        const struct dfa_state *s = &d->states[state];
        size_t k = 0;
        while (k < s->n_edges && d->edges[s->edge + k].hi < c) {
            k++;
        }
        if (k == s->n_edges || d->edges[s->edge + k].lo > c) {
            return false;
        }
        state = d->edges[s->edge + k].to;
    }
    return d->states[state].is_final;
}
