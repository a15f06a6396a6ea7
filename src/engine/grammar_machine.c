// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar_machine.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define FRAMES_MAX 8192u
#define SLOTS      (4 * FRAMES_MAX) // a power of two
// Places at one point of the text, as a rule one to five. What goes beyond is dropped: the grammar
// then allows less than it could.
#define PLACES_MAX 512u

int machine_init(struct machine *m, const struct program *program, size_t steps_max,
                 struct carat_error *err)
{
    *m = (struct machine){.program = program, .n_frames = 2};
    m->frames = mem_new_array(FRAMES_MAX, sizeof(*m->frames), err);
    m->slots = mem_new_array(SLOTS, sizeof(*m->slots), err);
    m->pool_max = (steps_max + 2) * 16 + 3 * (size_t)PLACES_MAX;
    m->pool = mem_new_array(m->pool_max, sizeof(*m->pool), err);
    m->todo = mem_new_array(PLACES_MAX, sizeof(*m->todo), err);
    if (!m->frames || !m->slots || !m->pool || !m->todo) {
        machine_release(m);
        return CARAT_E_MEMORY;
    }
    return 0;
}

void machine_release(struct machine *m)
{
    mem_free(m->frames);
    mem_free(m->slots);
    mem_free(m->pool);
    mem_free(m->todo);
    *m = (struct machine){0};
}

// ------------------------------------------------------------------------------ frames

static uint32_t slot_of(uint32_t ret, uint32_t below)
{
    const uint64_t x = ((uint64_t)ret << 32 | below) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(x >> 40) & (SLOTS - 1);
}

// 0 when there is no room.
static uint32_t push(struct machine *m, uint32_t ret, uint32_t below)
{
    uint32_t slot = slot_of(ret, below);
    for (; m->slots[slot]; slot = (slot + 1) & (SLOTS - 1)) {
        const struct frame *f = &m->frames[m->slots[slot]];
        if (f->ret == ret && f->below == below) {
            return m->slots[slot];
        }
    }
    if (m->n_frames == FRAMES_MAX) {
        return 0;
    }
    m->frames[m->n_frames] =
        (struct frame){.ret = ret, .below = below, .depth = m->frames[below].depth + 1};
    m->slots[slot] = m->n_frames;
    return m->n_frames++;
}

struct machine_mark machine_mark(const struct machine *m)
{
    return (struct machine_mark){.n_frames = m->n_frames, .n_pool = m->n_pool};
}

// The newest frame took the last free slot of its run, so taking frames back in order leaves no
// gaps.
void machine_reset(struct machine *m, struct machine_mark mark)
{
    while (m->n_frames > mark.n_frames) {
        const uint32_t newest = --m->n_frames;
        uint32_t slot = slot_of(m->frames[newest].ret, m->frames[newest].below);
        while (m->slots[slot] != newest) {
            slot = (slot + 1) & (SLOTS - 1);
        }
        m->slots[slot] = 0;
    }
    m->n_pool = mark.n_pool;
}

// Frames lie above those that they rest on: one pass down marks, one pass up moves.
void machine_keep(struct machine *m, struct place *places, size_t n)
{
    const uint32_t n_frames = m->n_frames;
    m->n_pool = 0;
    if (n_frames < FRAMES_MAX / 2) {
        return;
    }
    uint32_t *moved = m->slots; // as scratch: [n_frames] fits
    memset(moved, 0, SLOTS * sizeof(*moved));
    for (size_t i = 0; i < n; i++) {
        moved[places[i].stack] = 1;
    }
    for (uint32_t i = n_frames; i-- > 2;) {
        if (moved[i]) {
            moved[m->frames[i].below] = 1;
        }
    }
    moved[STACK_UNKNOWN] = STACK_UNKNOWN;
    moved[STACK_BOTTOM] = STACK_BOTTOM;
    uint32_t to = 2;
    for (uint32_t i = 2; i < n_frames; i++) {
        if (moved[i]) {
            m->frames[to] = m->frames[i];
            m->frames[to].below = moved[m->frames[i].below];
            moved[i] = to++;
        }
    }
    for (size_t i = 0; i < n; i++) {
        places[i].stack = moved[places[i].stack];
    }
    memset(m->slots, 0, SLOTS * sizeof(*m->slots));
    for (m->n_frames = 2; m->n_frames < to; m->n_frames++) {
        const struct frame *f = &m->frames[m->n_frames];
        uint32_t slot = slot_of(f->ret, f->below);
        while (m->slots[slot]) {
            slot = (slot + 1) & (SLOTS - 1);
        }
        m->slots[slot] = m->n_frames;
    }
}

// ------------------------------------------------------------------------------ places

static bool is_same(struct place a, struct place b)
{
    return a.state == b.state && a.stack == b.stack && a.min == b.min && a.max == b.max;
}

struct settling {
    struct machine *m;
    struct places out;
    size_t out_max;
    size_t n_todo;
};

// Whether an end can be reached from there without nesting too deeply.
static bool is_alive(const struct machine *m, uint32_t state, uint32_t stack)
{
    const uint32_t need = m->program->states[state].need;
    return need != NEED_DEAD && m->frames[stack].depth + need <= GRAMMAR_DEPTH_MAX;
}

static void visit(struct settling *s, struct place place)
{
    if (!is_alive(s->m, place.state, place.stack)) {
        return;
    }
    for (size_t i = 0; i < s->n_todo; i++) {
        if (is_same(s->m->todo[i], place)) {
            return;
        }
    }
    if (s->n_todo < PLACES_MAX) {
        s->m->todo[s->n_todo++] = place;
    }
}

static void leave(struct settling *s, struct place place)
{
    struct machine *m = s->m;
    if (place.stack == STACK_UNKNOWN) {
        m->has_left = true;
        m->left_max = place.max;
    } else if (place.stack == STACK_BOTTOM) {
        m->is_at_end = true;
    } else {
        const struct frame f = m->frames[place.stack];
        visit(s, (struct place){.state = f.ret, .stack = f.below, .max = COUNT_UNLIMITED});
    }
}

static void enter(struct settling *s, struct place place, const struct program_call *call)
{
    struct machine *m = s->m;
    const struct program_state *ret = &m->program->states[call->ret];
    if (!is_alive(m, call->ret, place.stack)) {
        return;
    }
    // Nothing comes after the call: its end is this rule's end.
    const bool is_last =
        ret->is_final && ret->n_edges == 0 && ret->n_calls == 0 && ret->quote == NO_STATE_YET;
    const uint32_t stack =
        is_last && place.stack != STACK_UNKNOWN ? place.stack : push(m, call->ret, place.stack);
    if (stack != 0) {
        visit(s, (struct place){
                     .state = call->start, .stack = stack, .min = call->min, .max = call->max});
    }
}

static bool reads(const struct program_state *s)
{
    return s->n_edges > 0 || s->quote != NO_STATE_YET;
}

// todo holds the beginning; everything reached comes behind.
static struct places settle(struct settling *s)
{
    struct machine *m = s->m;
    s->out.items = m->pool + m->n_pool;
    for (size_t i = 0; i < s->n_todo; i++) {
        const struct place place = m->todo[i];
        const struct program_state *state = &m->program->states[place.state];
        if (reads(state) && s->out.n < s->out_max) {
            s->out.items[s->out.n++] = place;
        }
        if (state->is_final) {
            leave(s, place);
        }
        for (size_t k = 0; k < state->n_calls; k++) {
            enter(s, place, &m->program->calls[state->call + k]);
        }
    }
    m->n_pool += s->out.n;
    return s->out;
}

static struct settling begin(struct machine *m)
{
    m->is_at_end = false;
    m->has_left = false;
    const size_t left = m->pool_max - m->n_pool;
    return (struct settling){.m = m, .out_max = left < PLACES_MAX ? left : PLACES_MAX};
}

struct places machine_settle(struct machine *m, const struct place *from, size_t n)
{
    struct settling s = begin(m);
    for (size_t i = 0; i < n; i++) {
        visit(&s, from[i]);
    }
    return settle(&s);
}

// One more character, or the string's end. False when the count forbids it.
static bool count(struct place *place, uint8_t kind)
{
    if (kind == EDGE_CHARACTER) {
        if (place->max == 0) {
            return false;
        }
        place->max -= place->max != COUNT_UNLIMITED;
        place->min -= place->min > 0;
    }
    return kind != EDGE_CLOSE || place->min == 0;
}

static const struct program_edge *find_edge(const struct program *p, const struct program_state *s,
                                            uint8_t byte)
{
    const struct program_edge *e = p->edges + s->edge;
    for (size_t i = 0; i < s->n_edges; i++) {
        if (byte <= e[i].hi) {
            return byte >= e[i].lo ? &e[i] : NULL;
        }
    }
    return NULL;
}

// From one place to one place, which is what happens nearly always.
static struct places step_one(struct machine *m, struct place place, const struct program_edge *e)
{
    struct places to = {.items = m->pool + m->n_pool};
    if (e && count(&place, e->kind) && is_alive(m, e->to, place.stack) && m->n_pool < m->pool_max) {
        place.state = e->to;
        m->pool[m->n_pool++] = place;
        to.n = 1;
    }
    return to;
}

struct places machine_step(struct machine *m, struct places from, uint8_t byte)
{
    const struct program *p = m->program;
    struct settling s = begin(m);
    if (from.n == 1) {
        const struct place place = from.items[0];
        const struct program_edge *e = find_edge(p, &p->states[place.state], byte);
        const struct program_state *to = e ? &p->states[e->to] : NULL;
        if (!to || (!to->is_final && to->n_calls == 0 && reads(to))) {
            return step_one(m, place, e);
        }
    }
    for (size_t i = 0; i < from.n; i++) {
        struct place place = from.items[i];
        const struct program_edge *e = find_edge(p, &p->states[place.state], byte);
        if (e && count(&place, e->kind)) {
            place.state = e->to;
            visit(&s, place);
        }
    }
    return settle(&s);
}

struct places machine_quote(struct machine *m, struct places from)
{
    struct settling s = begin(m);
    for (size_t i = 0; i < from.n; i++) {
        struct place place = from.items[i];
        const struct program_state *state = &m->program->states[place.state];
        if (state->quote != NO_STATE_YET && count(&place, state->quote_kind)) {
            place.state = state->quote;
            visit(&s, place);
        }
    }
    return settle(&s);
}
