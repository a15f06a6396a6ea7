// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar_program.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

// ------------------------------------------------------------------------------ drawing

void draw_call(struct nfa *nfa, struct call_letters *letters, uint32_t from,
               struct call_letter call, uint32_t to)
{
    size_t i = 0;
    while (i < letters->n &&
           (letters->items[i].rule != call.rule || letters->items[i].min != call.min ||
            letters->items[i].max != call.max)) {
        i++;
    }
    void *items = letters->items;
    if (i == letters->n && nfa->rc == 0) {
        nfa->rc = list_room(&items, &letters->capacity, letters->n, sizeof(*letters->items),
                            GRAMMAR_RULES_MAX, "calls", nfa->err);
        letters->items = items;
        if (nfa->rc == 0) {
            letters->items[letters->n++] = call;
        }
    }
    nfa_edge(nfa, from, LETTER_CALL + (uint32_t)i, LETTER_CALL + (uint32_t)i, to);
}

int program_rule(struct program *p, uint32_t *rule, struct carat_error *err)
{
    void *rules = p->rules;
    const int rc = list_room(&rules, &p->rules_capacity, p->n_rules, sizeof(*p->rules),
                             GRAMMAR_RULES_MAX, "rules", err);
    p->rules = rules;
    if (rc == 0) {
        p->rules[p->n_rules] = NO_STATE_YET;
        *rule = (uint32_t)p->n_rules++;
    }
    return rc;
}

int program_state(struct program *p, uint32_t *state, struct carat_error *err)
{
    void *states = p->states;
    const int rc = list_room(&states, &p->states_capacity, p->n_states, sizeof(*p->states),
                             GRAMMAR_STATES_MAX, "states", err);
    p->states = states;
    if (rc == 0) {
        p->states[p->n_states] = (struct program_state){
            .edge = (uint32_t)p->n_edges, .call = (uint32_t)p->n_calls, .quote = NO_STATE_YET};
        *state = (uint32_t)p->n_states++;
    }
    return rc;
}

int program_edge(struct program *p, struct program_edge edge, struct carat_error *err)
{
    void *edges = p->edges;
    const int rc = list_room(&edges, &p->edges_capacity, p->n_edges, sizeof(*p->edges),
                             8 * GRAMMAR_STATES_MAX, "transitions", err);
    p->edges = edges;
    if (rc == 0) {
        p->edges[p->n_edges++] = edge;
        p->states[p->n_states - 1].n_edges++;
    }
    return rc;
}

static int add_call(struct program *p, struct program_call call, struct carat_error *err)
{
    void *calls = p->calls;
    const int rc = list_room(&calls, &p->calls_capacity, p->n_calls, sizeof(*p->calls),
                             GRAMMAR_STATES_MAX, "calls", err);
    p->calls = calls;
    if (rc == 0) {
        p->calls[p->n_calls++] = call;
        p->states[p->n_states - 1].n_calls++;
    }
    return rc;
}

static int draw_edge(struct program *p, struct dfa_edge e, uint32_t first,
                     const struct call_letters *letters, struct carat_error *err)
{
    struct program_state *s = &p->states[p->n_states - 1];
    const uint32_t to = first + e.to;
    int rc = 0;
    if (e.lo <= UINT8_MAX) {
        rc = program_edge(
            p, (struct program_edge){.lo = (uint8_t)e.lo, .hi = (uint8_t)e.hi, .to = to}, err);
    } else if (e.lo == LETTER_QUOTE) {
        s->quote = to;
    } else {
        const struct call_letter *call = &letters->items[e.lo - LETTER_CALL];
        rc = add_call(p,
                      (struct program_call){
                          .start = call->rule, .ret = to, .min = call->min, .max = call->max},
                      err);
    }
    return rc;
}

int program_draw(struct program *p, uint32_t rule, const struct nfa *nfa, uint32_t start,
                 uint32_t end, const struct call_letters *letters, struct carat_error *err)
{
    struct dfa dfa = {0};
    const uint32_t first = (uint32_t)p->n_states;
    int rc = nfa_determine(&dfa, nfa, start, end, GRAMMAR_STATES_MAX, err);
    for (size_t i = 0; rc == 0 && i < dfa.n_states; i++) {
        uint32_t state = 0;
        rc = program_state(p, &state, err);
        if (rc == 0) {
            p->states[state].is_final = dfa.states[i].is_final;
        }
        for (size_t k = 0; rc == 0 && k < dfa.states[i].n_edges; k++) {
            rc = draw_edge(p, dfa.edges[dfa.states[i].edge + k], first, letters, err);
        }
    }
    if (rc == 0) {
        p->rules[rule] = first;
    }
    dfa_release(&dfa);
    return rc;
}

// ------------------------------------------------------------------------------ linking

static uint16_t lower(uint16_t a, uint16_t b)
{
    return a < b ? a : b;
}

// What is needed by way of what is known so far.
static uint16_t need_of(const struct program *p, const struct program_state *s)
{
    uint16_t need = s->is_final ? 0 : NEED_DEAD;
    for (size_t i = 0; i < s->n_edges && need > 0; i++) {
        need = lower(need, p->states[p->edges[s->edge + i].to].need);
    }
    if (s->quote != NO_STATE_YET) {
        need = lower(need, p->states[s->quote].need);
    }
    for (size_t i = 0; i < s->n_calls && need > 0; i++) {
        const struct program_call *c = &p->calls[s->call + i];
        const uint16_t inside = p->states[c->start].need;
        const uint16_t after = p->states[c->ret].need;
        if (inside < GRAMMAR_DEPTH_MAX && after != NEED_DEAD) {
            const uint16_t both = inside + 1 > after ? (uint16_t)(inside + 1) : after;
            need = lower(need, both);
        }
    }
    return need;
}

// Needs shrink to the least solution: rounds over all states, each backwards, because ends lie
// behind beginnings. A level of calls takes a round or two.
static void find_needs(struct program *p)
{
    for (size_t i = 0; i < p->n_states; i++) {
        p->states[i].need = NEED_DEAD;
    }
    for (bool has_changed = true; has_changed;) {
        has_changed = false;
        for (size_t i = p->n_states; i-- > 0;) {
            const uint16_t need = need_of(p, &p->states[i]);
            has_changed = has_changed || need != p->states[i].need;
            p->states[i].need = need;
        }
    }
}

void program_link(struct program *p)
{
    for (; p->n_linked < p->n_calls; p->n_linked++) {
        struct program_call *c = &p->calls[p->n_linked];
        require(c->start < p->n_rules);
        require(p->rules[c->start] != NO_STATE_YET);
        c->start = p->rules[c->start];
    }
    find_needs(p);
    p->need_max = 0;
    for (size_t i = 0; i < p->n_states; i++) {
        const uint16_t need = p->states[i].need;
        p->need_max = need != NEED_DEAD && need > p->need_max ? need : p->need_max;
    }
}

static void *copy_array(const void *from, size_t n, size_t size, struct carat_error *err)
{
    void *to = mem_new_array(n, size, err);
    if (to && n > 0) {
        memcpy(to, from, n * size);
    }
    return to;
}

int program_copy(struct program *out, const struct program *from, struct carat_error *err)
{
    struct program p = *from;
    p.states = copy_array(from->states, p.n_states, sizeof(*p.states), err);
    p.edges = copy_array(from->edges, p.n_edges, sizeof(*p.edges), err);
    p.calls = copy_array(from->calls, p.n_calls, sizeof(*p.calls), err);
    p.rules = copy_array(from->rules, p.n_rules, sizeof(*p.rules), err);
    p.states_capacity = p.n_states;
    p.edges_capacity = p.n_edges;
    p.calls_capacity = p.n_calls;
    p.rules_capacity = p.n_rules;
    if (!p.states || !p.edges || !p.calls || !p.rules) {
        program_release(&p);
        return CARAT_E_MEMORY;
    }
    *out = p;
    return 0;
}

void program_release(struct program *p)
{
    mem_free(p->states);
    mem_free(p->edges);
    mem_free(p->calls);
    mem_free(p->rules);
    *p = (struct program){0};
}
