// SPDX-License-Identifier: Apache-2.0
// Finite automata over letters: bytes or code points, and above them the marker <|"|> and calls of
// other rules. A nondeterministic one is drawn state by state; nfa_determine makes it
// deterministic, and those can be intersected. All sizes have limits that the caller states.
#ifndef CARAT_ENGINE_GRAMMAR_NFA_H
#define CARAT_ENGINE_GRAMMAR_NFA_H

#include "base/str.h"

#define LETTER_MAX   0x10FFFFu // the last code point
#define LETTER_QUOTE 0x110000u
#define LETTER_CALL  0x110001u // and what number the call has

// Grows a list of items to hold one more; at most `max` of them, which is CARAT_E_FULL, calling
// them `what`.
int list_room(void **items, size_t *capacity, size_t n, size_t size, size_t max, const char *what,
              struct carat_error *err);

struct nfa_edge {
    uint32_t lo, hi; // letters; lo > hi: none is needed
    uint32_t to;
    uint32_t next; // of the same state; UINT32_MAX: the last
};

// After a failure it stays failed, and what is added does nothing: draw freely and ask once.
struct nfa {
    uint32_t *heads; // [n_states] first edge
    size_t n_states, states_capacity;
    struct nfa_edge *edges;
    size_t n_edges, edges_capacity;
    int rc;
    struct carat_error *err;
};
#define NFA_STATES_MAX ((size_t)1 << 19)
uint32_t nfa_state(struct nfa *nfa);
void nfa_edge(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
void nfa_empty(struct nfa *nfa, uint32_t from, uint32_t to);
void nfa_text(struct nfa *nfa, uint32_t from, const char *text, size_t size, uint32_t to);
void nfa_release(struct nfa *nfa);

struct dfa_edge {
    uint32_t lo, hi, to;
};
struct dfa_state {
    uint32_t edge; // the first; they are in order and do not overlap
    uint32_t n_edges;
    bool is_final;
    bool is_free; // whatever follows is accepted (dfa_mark_free)
};
struct dfa {
    struct dfa_state *states; // 0 is the start
    size_t n_states, states_capacity;
    struct dfa_edge *edges;
    size_t n_edges, edges_capacity;
};
#define DFA_STATES_MAX ((size_t)1 << 14)

int nfa_determine(struct dfa *out, const struct nfa *nfa, uint32_t start, uint32_t end,
                  size_t states_max, struct carat_error *err);
// What both accept; or, is_minus, what a accepts and b does not.
int dfa_product(struct dfa *out, const struct dfa *a, const struct dfa *b, bool is_minus,
                struct carat_error *err);
// Finds the states from which every text of code points is accepted.
void dfa_mark_free(struct dfa *dfa);
bool dfa_matches(const struct dfa *dfa, struct slice text); // by code points
void dfa_release(struct dfa *dfa);

#endif
