// SPDX-License-Identifier: Apache-2.0
// A compiled grammar: rules, each a deterministic automaton over bytes and the marker <|"|>, that
// call each other. What a machine runs. The first rules are the same in every grammar, so that what
// is known of their states can be shared (grammar_mask.h).
#ifndef CARAT_ENGINE_GRAMMAR_PROGRAM_H
#define CARAT_ENGINE_GRAMMAR_PROGRAM_H

#include "engine/grammar_nfa.h"

#define GRAMMAR_DEPTH_MAX  256u // calls inside calls: levels of nesting in an answer
#define GRAMMAR_STATES_MAX ((size_t)1 << 18)
#define GRAMMAR_RULES_MAX  ((size_t)1 << 14)
#define COUNT_UNLIMITED    UINT32_MAX

// The rules of every grammar.
enum builtin_rule {
    RULE_JSON_STRING, // the characters of a JSON string and the quotation mark after them
    RULE_CALL_STRING, // the characters of a marked string and the marker after them
    RULE_INTEGER,
    RULE_NUMBER,
    RULE_JSON_VALUE,
    RULE_CALL_VALUE,
    RULE_CALL_KEY, // a key that nobody declared, and the colon
    N_BUILTIN_RULES,
};

// What an edge means to the characters that a string may still have.
enum edge_kind { EDGE_PLAIN, EDGE_CHARACTER, EDGE_CLOSE };

struct program_edge {
    uint8_t lo, hi;
    uint8_t kind;
    uint32_t to;
};
struct program_call {
    uint32_t start;    // first state of what is called; until program_link: the rule
    uint32_t ret;      // where it goes on afterwards
    uint32_t min, max; // characters, where the rule counts
};
#define NO_STATE_YET UINT32_MAX
struct program_state {
    uint32_t edge, call; // the first ones
    uint32_t quote;      // after the marker <|"|>; NO_STATE_YET: it is forbidden
    uint16_t n_edges, n_calls;
    uint16_t need;      // levels of calls it takes to get to the rule's end; NEED_DEAD: it cannot
    uint8_t quote_kind; // enum edge_kind
    bool is_final;
    bool is_counted; // counts characters
};
#define NEED_DEAD UINT16_MAX

struct program {
    struct program_state *states;
    size_t n_states, states_capacity;
    struct program_edge *edges;
    size_t n_edges, edges_capacity;
    struct program_call *calls;
    size_t n_calls, calls_capacity;
    uint32_t *rules; // first state of each
    size_t n_rules, rules_capacity;
    size_t n_linked;   // calls that are resolved
    uint16_t need_max; // of the states that lead to an end
    size_t n_shared;   // states of the rules that all grammars have
    // States of the rule that nobody calls, if any: what leaves it is the end.
    uint32_t alone, alone_end;
};

// What a letter from LETTER_CALL on stands for.
struct call_letter {
    uint32_t rule;
    uint32_t min, max;
};
struct call_letters {
    struct call_letter *items;
    size_t n, capacity;
};
// Draws a call; max COUNT_UNLIMITED, min 0: no bounds.
void draw_call(struct nfa *nfa, struct call_letters *letters, uint32_t from,
               struct call_letter call, uint32_t to);

// A number for a rule whose states come later.
int program_rule(struct program *p, uint32_t *rule, struct carat_error *err);
// Draws the rule's states as this automaton.
int program_draw(struct program *p, uint32_t rule, const struct nfa *nfa, uint32_t start,
                 uint32_t end, const struct call_letters *letters, struct carat_error *err);
// By hand.
int program_state(struct program *p, uint32_t *state, struct carat_error *err);
// Of the newest state.
int program_edge(struct program *p, struct program_edge edge, struct carat_error *err);
// After the last rule: resolves calls and finds what leads to no end.
void program_link(struct program *p);
int program_copy(struct program *out, const struct program *from, struct carat_error *err);
void program_release(struct program *p);

// Draws the shared rules.
int program_builtin(struct program *p, struct carat_error *err);

#endif
